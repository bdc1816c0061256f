"""The parts of each score: what vectors and words say of every hit, and what the query tower listened to."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from index.ann import Ranked
from index.live import LiveIndex
from index.paging import Page
from models.features import QueryFeatures
from models.runtime import Release
from service.lists import Asked, Listed
from service.schemas import HYBRID, Explanation, HitExplanation, Part

_encode = msgspec.json.Encoder().encode


class Explained(NamedTuple):
    """Of one page."""

    hits: list[bytes]  # by hit, JSON
    whole: Explanation


def explain(
    page: Page, listed: Listed, asked: Asked, features: QueryFeatures, *, release: Release, live: LiveIndex
) -> Explained:
    """Every hit gets both legs' scores, whichever leg found it.

    Args:
        page: of the list.
        listed: the list, with the legs that it was made of.
        asked: has a vector, whatever the mode.
        features: of the query.
        release, live: what searched.
    """
    vector = _vector_scores(page.numbers, asked, live)
    lexical = live.words.scores(asked.text, page.numbers).tolist()
    parts = zip(
        (Part(score=score, rank=rank) for score, rank in zip(vector, _ranks(page, listed.vector), strict=True)),
        (Part(score=score, rank=rank) for score, rank in zip(lexical, _ranks(page, listed.lexical), strict=True)),
        strict=True,
    )
    return Explained(
        [_encode(HitExplanation(vector=by_vector, lexical=by_words)) for by_vector, by_words in parts],
        Explanation(
            channel_weights=release.channel_weights(features),
            corrections=live.words.corrections(asked.text),
            fusion=live.generation.operating_points.fusion.record() if asked.constraints.mode == HYBRID else {},
        ),
    )


def _vector_scores(numbers: np.ndarray, asked: Asked, live: LiveIndex) -> list[float]:
    exact = live.vectors.rescore(asked.vectors, numbers)
    by_number = dict(zip(exact.numbers[0].tolist(), exact.scores[0].tolist(), strict=True))
    return [by_number[number] for number in numbers.tolist()]


def _ranks(page: Page, leg: Ranked | None) -> Iterator[int | None]:
    places = {} if leg is None else {number: rank for rank, number in enumerate(leg.numbers.tolist(), start=1)}
    return (places.get(number) for number in page.numbers.tolist())
