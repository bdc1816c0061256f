"""The OpenAPI document says what the service does: parameters, limits, examples that work."""

from typing import Any

import msgspec
import pytest

from service.openapi import ANSWER_EXAMPLE, EMBED_EXAMPLES, SEARCH_EXAMPLES
from service.schemas import SearchAnswer, SearchRequest
from tests.service.harness import Client


@pytest.fixture(scope="module")
def document(client: Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/openapi.json").json()
    return answer


def test_the_parameters_are_the_fields_of_the_request(document: dict[str, Any]) -> None:
    """GET lists every field, POST refers to the same type; only `q` is required."""
    parameters = document["paths"]["/search"]["get"]["parameters"]
    body = document["paths"]["/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert list(SearchRequest.__struct_fields__) == [parameter["name"] for parameter in parameters]
    assert ["q"] == [parameter["name"] for parameter in parameters if parameter["required"]]
    assert "#/components/schemas/SearchRequest" == body["$ref"]


def test_the_document_holds_the_limits_that_are_checked(document: dict[str, Any]) -> None:
    """DESIGN's limits, in the schema and in words."""
    by_name = {entry["name"]: entry for entry in document["paths"]["/search"]["get"]["parameters"]}
    size = by_name["size"]["schema"]

    assert (1, 100, 10) == (size["minimum"], size["maximum"], size["default"])
    assert (1, 512) == (by_name["q"]["schema"]["minLength"], by_name["q"]["schema"]["maxLength"])
    assert {"auto", "minimal", "low", "balanced", "high", "exact"} == set(by_name["effort"]["schema"]["enum"])
    assert all(entry["description"] for entry in by_name.values())


def test_a_schemas_limit_is_the_checks_limit(client: Client, document: dict[str, Any]) -> None:
    """For each bounded number: the bound passes, one beyond does not."""
    for parameter in document["paths"]["/search"]["get"]["parameters"]:
        schema = parameter["schema"]
        bounded = next((entry for entry in schema.get("anyOf", [schema]) if "maximum" in entry), None)
        if bounded is not None:
            fields = {"q": "lamp", parameter["name"]: bounded["maximum"]}
            assert 200 == client.post("/search", json=fields).status_code, parameter["name"]
            fields[parameter["name"]] += 1
            assert 422 == client.post("/search", json=fields).status_code, parameter["name"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """No schema is referred to that the document lacks."""

    def references(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"], reference


def test_the_examples_are_accepted(client: Client) -> None:
    """What /docs offers can be sent as it is."""
    for example in SEARCH_EXAMPLES.values():
        assert 200 == client.post("/search", json=example["value"]).status_code
    for example in EMBED_EXAMPLES.values():
        assert 200 == client.post("/embed", json=example["value"]).status_code


def test_the_example_answer_has_the_form_of_a_real_one(client: Client) -> None:
    """Same members, and both read as the documented type."""
    real = client.get("/search", params={"q": "a lamp that nobody asked for yet"}).json()
    real.pop("query_truncated", None)

    for answer in (real, ANSWER_EXAMPLE):
        msgspec.convert(answer, SearchAnswer)
    assert real.keys() == ANSWER_EXAMPLE.keys()
    assert real["search"].keys() == ANSWER_EXAMPLE["search"].keys()
    assert real["timings_us"].keys() == ANSWER_EXAMPLE["timings_us"].keys()


def test_the_page_of_documents_is_there(client: Client, document: dict[str, Any]) -> None:
    """/docs, and every route of the service in it."""
    assert 200 == client.get("/docs").status_code
    searching = {"/search", "/search/batch", "/embed"}
    writing = {"/products", "/products/{product_id}", "/admin/release"}

    assert searching | writing | {"/livez", "/readyz", "/metrics"} == document["paths"].keys()
