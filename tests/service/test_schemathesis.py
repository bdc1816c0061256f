"""Whatever is sent, a running server gives one of the answers that its OpenAPI document lists, and stays up.

schemathesis makes requests from the document: such as it allows, and such as it forbids.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode, SerializationContext
from schemathesis.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.app import create_app
from service.keys import new_key
from service.settings import Settings
from tests.helpers import small_featurizer
from tests.market import market_catalogue, products
from tests.service.real_server import Server, server
from tests.small_release import small_release

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))  # of each route; `make fuzz` asks for more
LINES = "application/x-ndjson"
OPEN_TO_ALL = {"/livez", "/readyz", "/metrics"}
SECRET, KEY = new_key("fuzz", "admin")


def document() -> dict[str, Any]:
    """The service's own, but that the body of a bulk load is a list of its lines: `as_lines` joins them."""
    whole = json.loads(json.dumps(create_app(Settings()).openapi()))
    delete = {"type": "object", "required": ["delete"], "properties": {"delete": {"type": "string"}}}
    line = {"anyOf": [{"$ref": "#/components/schemas/Product"}, delete]}
    body = whole["paths"]["/products"]["post"]["requestBody"]
    body["content"][LINES]["schema"] = {"type": "array", "items": line, "maxItems": 8}
    return whole


@schemathesis.serializer(LINES)
def as_lines(_context: SerializationContext, value: object) -> bytes:
    """Each element on a line of its own; what is no list is a line."""
    lines = value if isinstance(value, list) else [value]
    return b"\n".join(json.dumps(line).encode() for line in lines)


SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = {operation.label: operation for operation in (result.ok() for result in SCHEMA.get_all_operations())}


@pytest.fixture(scope="module", params=["without keys", "with keys"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes writes, with its indexer and its builder."""
    home: Path = tmp_path_factory.mktemp("home")
    release = small_release(home / "releases", featurizer=small_featurizer())
    catalogue = market_catalogue(home, release, products(60), factory="IVF4,Flat")
    keys = None
    if request.param == "with keys":
        keys = home / "keys"
        keys.write_text(KEY.line())
    with server(
        Settings(
            release=release,
            catalogue=catalogue,
            keys_file=keys,
            warmup_queries=3,
            timeout_ms=60_000,
            max_waiting_ms=10_000,
            max_standing_ms=10_000,
        )
    ) as running:
        yield running


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_one_that_the_document_lists(running: Server, label: str) -> None:
    """Its status, its content type, its members: never a 500, and afterwards the server still searches."""
    operation = OPERATIONS[label]

    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(GenerationMode.NEGATIVE))
    def answers(case: Case) -> None:
        answer = case.call(base_url=running.url, headers={"X-API-Key": SECRET}, timeout=60)
        assert answer.status_code != 500, answer.text
        case.validate_response(
            answer,
            checks=[
                status_code_conformance,
                content_type_conformance,
                response_headers_conformance,
                response_schema_conformance,
            ],
        )

    answers()
    assert 200 == httpx.get(f"{running.url}/search?q=lamp", headers={"X-API-Key": SECRET}).status_code


def test_with_keys_no_route_but_health_answers_without_one(running: Server) -> None:
    """401 on every path and method of the document; without configured keys none of them asks for one."""
    statuses = {
        label: httpx.request(operation.method, f"{running.url}{operation.path}").status_code
        for label, operation in OPERATIONS.items()
    }
    guarded = {label for label, operation in OPERATIONS.items() if operation.path not in OPEN_TO_ALL}
    keyed = httpx.get(f"{running.url}/search?q=lamp").status_code == 401

    assert {label for label, status in statuses.items() if status == 401} == (guarded if keyed else set())
