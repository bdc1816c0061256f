"""`que2search search` against a running service: its options are the fields of a request."""

import json
from pathlib import Path

from service.settings import Settings
from tests.service.real_server import server
from tests.test_que2search import que2search


def test_the_options_are_the_fields_of_a_request(settings: Settings, market_path: Path, tmp_path: Path) -> None:
    """Filters, mode, cap and explanation arrive, and what was found is shown."""
    fields = {
        "country": "GB",
        "category": "Home",
        "price-min": "10",
        "price-max": "99.5",
        "seller": "ann",
        "created-after": "2025-01-13",
        "filter": 'condition = "used" AND (tokens OR nn)',
        "per-seller": "2",
        "mode": "hybrid",
    }
    options = [part for name, value in fields.items() for part in (f"--{name}", value)]
    with server(settings.model_copy(update={"catalogue": market_path})) as running:
        result = que2search(
            "search", "white lamp", "--url", running.url, *options, "--explain", "--json", tmp_path / "answer.json"
        )

    assert 0 == result.returncode, result.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    condition = (
        'category = "Home" AND seller = "ann" AND price >= 10 AND price <= 99.5 AND created_at >= "2025-01-13" '
        'AND condition = "used"'
    )
    assert condition == answer["search"]["filter"]["condition"]
    assert ("hybrid", 2) == (answer["search"]["mode"], answer["search"]["per_seller"])
    assert {"trigram": 0.75, "country": 0.25} == answer["explain"]["channel_weights"]
    assert 2 == len(answer["hits"])
    assert all(hit["title"] in result.stdout for hit in answer["hits"])
