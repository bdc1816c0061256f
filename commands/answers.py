"""An answer of /search, as `que2search search` shows it."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from commands.tables import figure

STRATEGIES = {  # what a filter does to the search by vectors
    "exact": "all of them compared",
    "post": "the others left out of an ordinary list",
    "lists": "looked for in the lists that hold them",
    None: "found by words alone",
}


def hits_table(answer: Mapping[str, Any]) -> Table:
    """One row per hit: score and what a person wants to see; where it was explained, what either leg says of it."""
    parts = ("cosine", "rank", "BM25", "rank") if "explain" in answer else ()
    table = Table("score", *parts, "id", "title", "price", "country")
    for hit in answer["hits"]:
        price = f"{hit['price']:,.2f} {hit.get('currency', '')}" if hit.get("price") is not None else ""
        seen = (hit["id"], hit.get("title", ""), price, hit.get("country", ""))
        table.add_row(figure(hit["score"]), *parts_of(hit), *map(escape, seen))
    return table


def parts_of(hit: Mapping[str, Any]) -> list[str]:
    """Score and rank in the list of vectors and in that of words; nothing where the hit was not explained."""
    legs = (hit["explain"]["vector"], hit["explain"]["lexical"]) if "explain" in hit else ()
    return [figure(leg[member]) for leg in legs for member in ("score", "rank")]


def notes_of(answer: Mapping[str, Any]) -> Iterator[str]:
    """How a page was searched and what that took, a line each."""
    searched = dict(answer["search"])
    applied = searched.pop("filter")
    yield " ".join(f"{name}={value}" for name, value in searched.items())
    yield " ".join(f"{stage}={micros}us" for stage, micros in answer["timings_us"].items())
    if applied is not None:
        yield f"filter: {applied['condition']}; {applied['allowed']:,} products pass, {STRATEGIES[applied['strategy']]}"
    explained = answer.get("explain", {})
    if explained.get("channel_weights"):
        yield f"query tower: {named(explained['channel_weights'])}"
    if explained.get("fusion"):
        yield f"fusion: {named(explained['fusion'])}"
    for word, taken in explained.get("corrections", {}).items():
        yield f"no product holds {word!r}: looked for {' and '.join(taken)}"


def named(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {figure(value)}" for name, value in figures.items())
