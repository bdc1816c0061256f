"""Small things that many tests need. One section per part of the system."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from index.ann import FaissIndex
from index.build import Steps, fill, train
from index.catalogue import Catalogue
from index.spec import new_index, spec_from_factory
from index.vector_tables import VectorBatch
from models.config import RunConfig, load_config
from models.data.schema import EVENTS, JUDGEMENTS, PRODUCTS, Dataset, DatasetWriter
from models.encoder import TextEncoder
from models.features import FeatureSpec, Featurizer, train_tokenizer
from models.pretrained import save_pretrained
from models.sections import EncoderConfig

# models

COLOURS = ("red", "blue", "green", "black", "white")
THINGS = ("dress", "bicycle", "phone case", "lamp", "wooden chair", "running shoes", "sofa", "guitar")
TEXTS = [f"{colour} {thing} like new, {n} years old" for colour in COLOURS for thing in THINGS for n in range(5)]

SMALL_CONFIG = """
curriculum = false
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
evaluations_per_epoch = 1
least_gain = 0.0
decay_epochs = 2
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


def small_encoder(out: Path, *, dropout: float = 0.0) -> TextEncoder:
    """A text encoder of 16 dimensions, read by its mean; and the same in `out`, in Hugging Face layout."""
    tokenizer = train_tokenizer(TEXTS, vocabulary=120)
    config = EncoderConfig(layers=1, dim=16, heads=2, ffn=24, pooling="mean")
    torch.manual_seed(0)
    encoder = TextEncoder(config, vocabulary=tokenizer.size, max_tokens=96, dropout=dropout)
    save_pretrained(out, encoder, config, tokenizer)
    return encoder


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


# index


def product_vectors(count: int, *, dim: int = 32, seed: int = 0) -> np.ndarray:
    """(count, dim) vectors on a curved 8-dimensional surface, so that neighbours, and hence recall, mean something."""
    draw = np.random.default_rng(seed)
    return _on_surface(draw.normal(size=(count, 8)), draw, dim=dim)


def query_vectors(count: int, *, dim: int = 32, seed: int = 1) -> np.ndarray:
    """(count, dim) vectors near the surface of `product_vectors`, but crowded into one part of it, as queries are."""
    draw = np.random.default_rng(seed)
    return _on_surface(0.7 * draw.normal(size=(count, 8)) + 0.3, draw, dim=dim)


def _on_surface(latent: np.ndarray, draw: np.random.Generator, *, dim: int) -> np.ndarray:
    surface = np.random.default_rng(99).normal(size=(latent.shape[1], dim))
    return unit_rows(np.tanh(latent @ surface / 2) + 0.1 * draw.normal(size=(len(latent), dim)))


def faiss_index(factory: str, vectors: np.ndarray, *, numbers: np.ndarray | None = None) -> FaissIndex:
    """A Faiss index over `vectors`, trained on them; numbers are the rows unless given."""
    numbers = np.arange(len(vectors), dtype=np.uint32) if numbers is None else numbers
    spec = spec_from_factory(factory, count=len(vectors), dim=vectors.shape[1])
    whole = new_index(factory, dim=spec.dim)
    steps = Steps(None, total=2 * len(vectors))
    train(whole, spec, [VectorBatch(numbers, vectors)], steps)
    fill(whole, [VectorBatch(numbers, vectors)], steps)
    return FaissIndex(whole, numbers=numbers)


def small_catalogue(path: Path, vectors: np.ndarray, *, release: str = "r1") -> Catalogue:
    """Products p0, p1, ... with the given vectors, open for writing."""
    catalogue = Catalogue.create(path)
    numbers = catalogue.put_products(
        {"product_id": f"p{i}", "title": f"thing {i}", "price": i + 0.5} for i in range(len(vectors))
    )
    catalogue.put_vectors(release, numbers, vectors)
    return catalogue
