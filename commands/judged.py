"""What `tune` makes of a release's golden queries and judgements: strata, the radius, the weights of hybrid search."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from index.generations import Generation
    from index.hybrid import FusionTuning
    from index.operating_points import OperatingPoint
    from index.radius import Radius, RadiusRule
    from models.runtime import GoldenQuery, Release

JUDGED_QUERIES = 1_000  # at most, that decide on the radius and on hybrid weights
RELEVANT = 2  # the lowest rating that answers; as models.data.schema, which a serving installation cannot import


class JudgedQuery(NamedTuple):
    """A query that was rated, as the catalogue knows its products."""

    query: str
    country: str | None
    vector: "np.ndarray"  # (d,) float32
    ratings: dict[int, int]  # product number -> 0 to 3


def judged_queries(release: "Release", catalogue: Path) -> list[JudgedQuery]:
    """The release's judgements by query; of many queries a sample."""
    from random import Random

    from index.catalogue import Catalogue

    ratings: dict[tuple[str, str | None], dict[str, int]] = {}
    for each in release.judgements():
        ratings.setdefault((each.query, each.country), {})[each.product_id] = each.rating
    asked = Random(0).sample(list(ratings), min(JUDGED_QUERIES, len(ratings)))
    with Catalogue.open(catalogue) as store:
        numbers = {product: store.number_of(product) for key in asked for product in ratings[key]}
    return [
        JudgedQuery(
            query,
            country,
            release.embed_query(query, country),
            {
                number: rating
                for product, rating in ratings[query, country].items()
                if (number := numbers[product]) is not None
            },
        )
        for query, country in asked
    ]


def judged_radius(judged: "Sequence[JudgedQuery]", generation: "Generation", rule: "RadiusRule") -> "Radius":
    """Choose the radius by judgements."""
    import numpy as np

    from index.radius import Judged, choose_radius

    split = [
        Judged(
            country=each.country,
            relevant=[number for number, rating in each.ratings.items() if rating >= RELEVANT],
            others=[number for number, rating in each.ratings.items() if rating < RELEVANT],
        )
        for each in judged
    ]
    return choose_radius(generation.exact, np.array([each.vector for each in judged]), split, rule=rule)


def judged_fusion(judged: "Sequence[JudgedQuery]", generation: "Generation", point: "OperatingPoint") -> "FusionTuning":
    """Choose the weights of hybrid search by judgements, over the lists that its first pages are made of."""
    from index.ann import ranked
    from index.hybrid import RatedLists, tune_fusion

    lists = []
    for each in judged:
        query = each.vector[None]
        lexical = generation.lexical.search(each.query, k=point.candidates).numbers
        vector = ranked(generation.search(query, point), min_score=point.min_score)
        vector = generation.joined_by_words(query, vector, lexical, min_score=point.min_score)
        lists.append(RatedLists(vector.numbers, lexical, each.ratings))
    return tune_fusion(lists, relevant=RELEVANT)


def strata_of(golden: "Sequence[GoldenQuery]") -> dict[str, list[str]]:
    """What kinds of queries tuning tells apart: a label for each golden query, by stratum."""
    return {
        "frequency": [query.stratum for query in golden],
        "length": [length_label(query.query) for query in golden],
        "language": [query.language or "unknown" for query in golden],
        "country": [query.country or "unknown" for query in golden],
    }


def length_label(query: str) -> str:
    """Characters, in the bands of the evaluation: the paper's trigram channel dominates below five."""
    bands = {"1-4": 5, "5-9": 10, "10-19": 20}
    return next((label for label, below in bands.items() if len(query) < below), "20+")
