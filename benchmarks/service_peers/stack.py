"""The search service that most people write: a `def` endpoint of FastAPI, Faiss, products in memory, a pydantic answer.

It runs in an environment of its own and is told by PEER_... variables what to serve.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import faiss
import numpy as np
from fastapi import FastAPI, Query
from pydantic import BaseModel

Embed = Callable[[str, str | None], np.ndarray]
"""Query text and country to its vector, (1, d) float32."""


class Hit(BaseModel):
    """A product found; the fields are those of our own hits."""

    id: str
    score: float
    title: str | None = None
    brand: str | None = None
    category: str | None = None
    country: str | None = None
    language: str | None = None
    price: float | None = None
    currency: str | None = None
    seller_id: str | None = None
    created_at: str | None = None


class Page(BaseModel):
    """What /search answers."""

    query: str
    hits: list[Hit]


def search_service(embed: Embed) -> FastAPI:
    """The application. Faiss' knobs are set once, at start-up: every request searches alike."""
    faiss.omp_set_num_threads(1)
    index = faiss.read_index(os.environ["PEER_INDEX"])
    knobs = os.environ["PEER_SETTING"]
    faiss.ParameterSpace().set_index_parameters(index, knobs)  # type: ignore[arg-type]  # its stubs miss the text form
    with Path(os.environ["PEER_PRODUCTS"]).open() as lines:
        products = [json.loads(line) for line in lines]
    app = FastAPI()

    @app.get("/search")
    def search(
        q: Annotated[str, Query(min_length=1, max_length=512)],
        country: str | None = None,
        size: Annotated[int, Query(ge=1, le=100)] = 10,
    ) -> Page:
        scores, rows = index.search(embed(q, country or None), size)
        found = zip(scores[0].tolist(), rows[0].tolist(), strict=True)
        return Page(query=q, hits=[Hit(score=score, **products[row]) for score, row in found if row >= 0])

    return app
