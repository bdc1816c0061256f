"""What the systems are asked: test pairs and ratings, as row numbers into one list of queries and one of products."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

_QUERY = ["query", "country"]
_KNOWN = ["language", "stratum"]  # of a query, where a table has them


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationTask:
    """Queries, products, and who belongs together. A row is the place in `queries` or in the products given.

    q: queries, n: products, p: test pairs, j: ratings
    """

    queries: pl.DataFrame  # q rows: query, country, language|null, stratum|null
    product_languages: np.ndarray  # (n,) object: str or None
    pairs: np.ndarray  # (p, 2) int64: query row, product row; logged twice is there twice
    judged: np.ndarray  # (j, 2) int64: query row, product row
    ratings: np.ndarray  # (j,) int64
    left_out: int  # pairs and ratings of products that the products given lack

    @classmethod
    def build(
        cls,
        *,
        products: pl.DataFrame,
        pairs: pl.DataFrame,
        judgements: pl.DataFrame,
        golden: pl.DataFrame | None = None,
    ) -> Self:
        """Number the queries of all tables.

        Args:
            products: product_id, and language where known; the order in which product vectors will come.
            pairs: query, country, product_id (the logged product).
            judgements: query, country, product_id, rating; a product rated twice for a query counts once.
            golden: query, country, language, stratum: what is known of some queries. `pairs` and `judgements` may
                have these columns too.
        """
        judgements = judgements.unique([*_QUERY, "product_id"], keep="first", maintain_order=True)
        queries = _distinct_queries([table for table in (golden, judgements, pairs) if table is not None])
        asked = _distinct_queries([judgements, pairs])
        queries = queries.join(asked, on=_QUERY, how="semi", nulls_equal=True, maintain_order="left")
        product_rows = {product: row for row, product in enumerate(products["product_id"])}
        judged, rated = _rows(judgements, queries, product_rows)
        logged, present = _rows(pairs, queries, product_rows)
        languages = products["language"] if "language" in products.columns else [None] * len(products)
        return cls(
            queries=queries,
            product_languages=np.array(list(languages), dtype=object),
            pairs=logged,
            judged=judged,
            ratings=judgements["rating"].to_numpy()[rated].astype(np.int64),
            left_out=int((~rated).sum() + (~present).sum()),
        )

    @property
    def query_languages(self) -> np.ndarray:
        """(q,) object: str or None."""
        return np.array(self.queries["language"].to_list(), dtype=object)


def _distinct_queries(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """One row per (query, country) in order of appearance, each fact from the first table that knows it."""
    rows = [
        table.select(
            *(pl.col(column).cast(pl.String) for column in _QUERY),
            *(
                pl.col(fact).cast(pl.String) if fact in table.columns else pl.lit(None, pl.String).alias(fact)
                for fact in _KNOWN
            ),
        )
        for table in tables
    ]
    facts = [pl.col(fact).drop_nulls().first() for fact in _KNOWN]
    return pl.concat(rows).group_by(_QUERY, maintain_order=True).agg(facts)


def _rows(table: pl.DataFrame, queries: pl.DataFrame, product_rows: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """(query row, product row) of the lines whose product is known, and (lines,) bool which those are."""
    numbered = queries.select(_QUERY).with_row_index("row")
    lines = table.select(*(pl.col(column).cast(pl.String) for column in _QUERY))
    query_rows = lines.join(numbered, on=_QUERY, how="left", nulls_equal=True, maintain_order="left")["row"]
    products = np.array([product_rows.get(product, -1) for product in table["product_id"]], dtype=np.int64)
    known = products >= 0
    rows = np.stack([query_rows.to_numpy().astype(np.int64), products], axis=1)
    return rows[known], known
