"""What a load asks for: the release's golden queries as skewed as people are, and a tail that nobody asked before."""

from itertools import accumulate
from pathlib import Path
from random import Random

import msgspec

from models.errors import ReleaseError
from models.runtime import GOLDEN_QUERIES_FILE, GoldenQuery
from service.schemas import MAX_QUERY

UNSEEN = 0.1  # share of queries made up on the spot
STRATA = ("head", "torso", "tail")  # a third of all searches each, by their definition


class QueryMix:
    """Draws queries: a stratum, then by Zipf's law within it (the r-th query 1/r as often as the first)."""

    def __init__(self, golden: list[GoldenQuery], *, seed: int) -> None:
        if not golden:
            raise ReleaseError("the release has no golden queries; export it from a dataset that has queries")
        self._golden = golden
        self._draw = Random(seed)
        by_stratum = {stratum: [query for query in golden if query.stratum == stratum] for stratum in STRATA}
        self._strata = [(queries, zipf(len(queries))) for queries in by_stratum.values() if queries]

    def draw(self) -> GoldenQuery:
        """The next query."""
        if self._draw.random() < UNSEEN:
            return self._unseen()
        queries, cumulative = self._draw.choice(self._strata)
        return self._draw.choices(queries, cum_weights=cumulative)[0]

    def _unseen(self) -> GoldenQuery:
        """Words of one query behind those of another: plausible, in one language or two, and rarely drawn twice."""
        first, second = self._draw.choice(self._golden), self._draw.choice(self._golden)
        words = [*first.query.split(), *second.query.split()]
        text = " ".join(self._draw.sample(words, min(len(words), self._draw.randint(2, 5))))
        return GoldenQuery(query=text[:MAX_QUERY], country=first.country, language=first.language)


def zipf(count: int) -> list[float]:
    """Cumulative weights 1, 1 + 1/2, 1 + 1/2 + 1/3, ..."""
    return list(accumulate(1 / rank for rank in range(1, count + 1)))


def read_golden_queries(release: Path) -> list[GoldenQuery]:
    """Those of a release directory, without opening its towers.

    Raises:
        ReleaseError: there is no such file, or it holds something else.
    """
    path = release / GOLDEN_QUERIES_FILE
    try:
        return msgspec.json.Decoder(GoldenQuery).decode_lines(path.read_bytes())
    except OSError as exc:
        raise ReleaseError(f"cannot read {path}: {exc.strerror}; is {release} a release?") from exc
    except msgspec.DecodeError as exc:
        raise ReleaseError(f"cannot read {path}: {exc}; export the release again") from exc
