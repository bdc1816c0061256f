"""Vectors, words or both, over the whole application: what is found, and what is said of each hit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.service.harness import Client, answer_to, application

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def market(settings: Settings, market_path: Path) -> Iterator[Client]:
    with application(settings.model_copy(update={"catalogue": market_path})) as client:
        yield client


def search(client: Client, **fields: object) -> Answer:
    return answer_to(client, **{"q": "red lamp", "size": 100, **fields})


def numbers(answer: Answer) -> list[int]:
    """Of the products shown, ascending."""
    return sorted(int(hit["id"].removeprefix("p")) for hit in answer["hits"])


def test_words_find_what_shares_one(market: Client) -> None:
    """No product but the lamps, and the red ones: 30 + 48 of 240, six of them both."""
    answer = search(market, q="red lamp", mode="lexical")

    assert [n for n in range(240) if n % 5 == 0 or n % 8 == 3] == numbers(answer)
    assert {35, 75, 115, 155, 195, 235} == {int(hit["id"][1:]) for hit in answer["hits"][:6]}
    assert {"mode": "lexical", "nprobe": None, "min_score": None}.items() <= answer["search"].items()


def test_words_need_no_vector(market: Client) -> None:
    """The stages of the query tower are absent, unless an explanation needs them."""
    assert ["lexical", "products", "total"] == list(search(market, mode="lexical")["timings_us"])
    explained = search(market, q="a lamp nobody looked for", mode="lexical", explain="true")["timings_us"]
    assert ["featurise", "query_tower", "lexical", "products", "total"] == list(explained)


def test_vectors_find_more_than_words(market: Client) -> None:
    """The default mode; a word that nobody wrote has neighbours all the same, since the towers read 3-grams."""
    assert "vector" == search(market)["search"]["mode"]
    assert [] == search(market, q="qqqqqq", mode="lexical")["hits"]
    assert search(market, q="qqqqqq", mode="vector")["hits"]


def test_hybrid_fuses_both_lists(market: Client) -> None:
    """A product's score is 1/2 of 1/(60 + its rank) by either list, and the first of both comes first."""
    answer = search(market, q="green guitar", mode="hybrid", effort="exact", explain="true")

    assert ["featurise", "query_tower", "ann", "lexical", "rank", "products", "total"] == list(answer["timings_us"])
    for hit in answer["hits"]:
        ranks = [hit["explain"][leg]["rank"] for leg in ("vector", "lexical")]
        expected = sum(0.5 / (60 + rank) for rank in ranks if rank is not None)
        assert expected == pytest.approx(hit["score"], abs=1e-6)
    assert {"vector": 0.5, "lexical": 0.5, "constant": 60} == answer["explain"]["fusion"]


def test_an_expression_may_choose_the_mode(market: Client) -> None:
    """`(tokens OR nn)` is hybrid, `tokens` lexical, `nn` vector; `radius` is `min_score` and `nprobe` is echoed."""
    fields = {"q": "red lamp", "effort": "low"}

    assert search(market, **fields, mode="hybrid")["hits"] == search(market, **fields, filter="tokens OR nn")["hits"]
    assert search(market, **fields, mode="lexical")["hits"] == search(market, **fields, filter="tokens")["hits"]
    near = search(market, **fields, filter="nn(radius=0.4, nprobe=3)")
    assert {"mode": "vector", "nprobe": 3, "min_score": 0.4, "filter": None}.items() <= near["search"].items()
    assert min(hit["score"] for hit in near["hits"]) >= 0.4


def test_hits_of_both_are_in_either(market: Client) -> None:
    """`tokens AND nn(radius=0.5)`: those near enough among those that share a word."""
    fields = {"q": "red lamp", "effort": "exact"}
    words = numbers(search(market, **fields, mode="lexical"))
    near = numbers(search(market, **fields, min_score=0.5))

    both = numbers(search(market, **fields, filter="tokens AND nn(radius=0.5)"))

    assert both == sorted(set(words) & set(near))
    assert 0 < len(both) < len(words)


def test_required_words_are_a_filter(market: Client) -> None:
    """tokens("...") names words that a product must have, whatever looks for it."""
    for mode in ("vector", "hybrid"):
        answer = search(market, q="guitar", filter='tokens("red lamp")', mode=mode)
        assert [35, 75, 115, 155, 195, 235] == numbers(answer)
        assert 'tokens("red lamp")' == answer["search"]["filter"]["condition"]


def test_words_in_quotes_stand_side_by_side(market: Client) -> None:
    """ "wooden chair" is in every wooden chair's title, "chair wooden" in none."""
    assert 30 == len(search(market, q='"wooden chair"', mode="lexical")["hits"])
    assert [] == search(market, q='"chair wooden"', mode="lexical")["hits"]


# Explanations


def explained(market: Client, **fields: Any) -> Answer:
    return search(market, explain="true", country="GB", **fields)


@pytest.mark.parametrize("mode", ["vector", "lexical", "hybrid"])
def test_an_explained_hit_has_both_legs_scores(market: Client, mode: str) -> None:
    """Whichever leg found it: the cosine that vector search gives, the BM25 score that lexical search gives."""
    cosines = {hit["id"]: hit["score"] for hit in pages_of(market, effort="exact", mode="vector", country="GB")}
    words = {hit["id"]: hit["score"] for hit in pages_of(market, effort="exact", mode="lexical")}

    for hit in explained(market, mode=mode, effort="exact")["hits"]:
        parts = hit["explain"]
        assert cosines[hit["id"]] == pytest.approx(parts["vector"]["score"], abs=1e-6)
        assert words.get(hit["id"], 0.0) == pytest.approx(parts["lexical"]["score"], abs=1e-6)
        assert (mode == "lexical") == (parts["vector"]["rank"] is None)


def pages_of(market: Client, **fields: Any) -> list[dict[str, Any]]:
    pages = [search(market, **fields)]
    while pages[-1]["cursor"]:
        pages.append(search(market, **fields, cursor=pages[-1]["cursor"]))
    return [hit for page in pages for hit in page["hits"]]


def test_ranks_of_a_leg_count_from_1(market: Client) -> None:
    """In vector mode they are the places on the page; on page 2 they go on."""
    first = explained(market, effort="exact", size=5)
    second = explained(market, effort="exact", size=5, page=2)

    ranks = [hit["explain"]["vector"]["rank"] for page in (first, second) for hit in page["hits"]]
    assert list(range(1, 11)) == ranks
    assert {} == first["explain"]["fusion"]


def test_the_query_towers_attention_is_told(market: Client) -> None:
    """The small tower gives 3-grams three quarters of it where the country is known, and all where it is not."""
    known, unknown = explained(market), search(market, explain="true")

    assert {"trigram": 0.75, "country": 0.25} == known["explain"]["channel_weights"]
    assert {"trigram": 1.0, "country": 0.0} == unknown["explain"]["channel_weights"]


def test_corrected_words_are_told(market: Client) -> None:
    """A word that no product has, with those that were looked for instead."""
    answer = explained(market, q="red gitar", mode="lexical")

    assert {"gitar": ["guitar"]} == answer["explain"]["corrections"]
    assert any("guitar" in hit["title"] for hit in answer["hits"])
    assert {} == explained(market, q="red guitar")["explain"]["corrections"]
