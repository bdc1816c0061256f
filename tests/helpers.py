"""Small things that many tests need. One section per part of the system."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.config import RunConfig, load_config
from models.data.schema import EVENTS, JUDGEMENTS, PRODUCTS, Dataset, DatasetWriter
from models.features import FeatureSpec, Featurizer, train_tokenizer

# models

COLOURS = ("red", "blue", "green", "black", "white")
THINGS = ("dress", "bicycle", "phone case", "lamp", "wooden chair", "running shoes", "sofa", "guitar")
TEXTS = [f"{colour} {thing} like new, {n} years old" for colour in COLOURS for thing in THINGS for n in range(5)]

SMALL_CONFIG = """
[features]
vocabulary = 400
trigram_rows = 2000
title_tokens = 12
description_tokens = 16

[model]
dim = 32
query_encoder = {layers = 1, dim = 32, heads = 2, ffn = 48}
document_encoder = {layers = 1, dim = 32, heads = 2, ffn = 48}

[train]
batch = 64
epochs = 2
warmup_steps = 5
checkpoint_steps = 7
threads = 1
"""


def small_featurizer(**changes: object) -> Featurizer:
    """A featuriser over a few invented titles: 2,000 3-gram rows, 8 query tokens, images of 4 numbers."""
    spec = {
        "trigram_rows": 2000,
        "query_tokens": 8,
        "title_tokens": 12,
        "description_tokens": 16,
        "countries": ("GB", "US"),
        "image_dim": 4,
    }
    return Featurizer(FeatureSpec(**(spec | changes)), train_tokenizer(TEXTS, vocabulary=120))


def small_config(folder: Path, *, seed: int = 0, extra: str = "") -> RunConfig:
    """A run that trains in seconds."""
    path = folder / "small.toml"
    path.write_text(SMALL_CONFIG + extra)
    return load_config(path=path, seed=seed)


def small_dataset(path: Path, *, products: int = 160, sessions: int = 400, judged: bool = True) -> Dataset:
    """Coloured things and people who find them: a query names colour and thing, its conversation a product of both."""
    draw = np.random.default_rng(5)
    kinds = [(colour, thing) for colour in COLOURS for thing in THINGS]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {
            "product_id": f"p{at}",
            "title": " ".join(kinds[at % len(kinds)]) + f" number {at}",
            "description": "worn twice, like new" if at % 3 else None,
            "country": "US" if at % 2 else "GB",
            "language": "en",
            "price": float(at),
            "currency": "USD",
            "image_vectors": [draw.normal(size=4).tolist() for _ in range(at % 6)],
        }
        for at in range(products)
    ]
    events = []
    for session in range(sessions):
        at = int(draw.integers(products))
        when = start + timedelta(days=56 * session / sessions)
        same = {"user": f"u{session}", "session": f"s{session}", "country": rows[at]["country"], "language": "en"}
        same["query"] = " ".join(kinds[at % len(kinds)])
        for minutes, kind in enumerate(("search", "click", "message", "reply")):
            product = None if kind == "search" else rows[at]["product_id"]
            events.append(same | {"product_id": product, "kind": kind, "time": when + timedelta(minutes=minutes)})
    ratings = [
        {"query": " ".join(kinds[kind]), "country": "US", "product_id": f"p{at}", "language": "en"}
        | {"rating": 3 if at % len(kinds) == kind else 0}
        for kind in range(len(kinds))
        for at in (kind, kind + len(kinds), kind + 1, kind + 7)
    ]
    with DatasetWriter(path, source="coloured things", licence="none") as writer:
        writer.add_products(pa.Table.from_pylist(rows, schema=PRODUCTS))
        writer.add_events(pa.Table.from_pylist(events, schema=EVENTS))
        if judged:
            writer.add_judgements(pa.Table.from_pylist(ratings, schema=JUDGEMENTS))
    return Dataset.open(path)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Each row divided by its norm, float32."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
