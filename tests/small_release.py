"""A sealed release and a catalogue that need no training: what the service is tested with."""

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from index.build import build_generation
from index.catalogue import Catalogue
from models.features import Featurizer
from models.runtime import GoldenQuery, ReleaseManifest, open_release
from tests.helpers import COLOURS, TEXTS, THINGS


def small_release(folder: Path, *, featurizer: Featurizer, name: str = "small", dim: int = 16) -> Path:
    """A sealed release without training: a text's vector is the sum of its 3-grams' random rows, plus the country's.

    The query tower gives the 3-grams 3/4 of its attention, and all of it where the country is unknown.
    """
    release = folder / name
    release.mkdir(parents=True)
    featurizer.save(release)
    rows, countries = featurizer.spec.trigram_rows, len(featurizer.spec.countries) + 1
    for file, text in (("query_tower.onnx", "trigram_ids"), ("document_tower.onnx", "title_trigram_ids")):
        _save_bag_tower(release / file, text=text, rows=rows, countries=countries, dim=dim)
    golden = [GoldenQuery(query=f"{colour} {thing}", country="GB") for colour in COLOURS for thing in THINGS]
    (release / "golden_queries.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, golden)) + b"\n")
    (release / "judgements.jsonl").write_bytes(b"")
    seal_small_release(release, name=name, dim=dim, feature_hash=featurizer.hash)
    return release


def seal_small_release(release: Path, *, name: str, dim: int, feature_hash: str) -> None:
    manifest = ReleaseManifest(
        format="que2search-release/1",
        id=name,
        created="2025-01-01T00:00:00+00:00",
        dim=dim,
        preset="small",
        feature_hash=feature_hash,
        dataset="invented",
        parity={},
        files={file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(release.iterdir())},
        query_channels=["trigram", "country"],
    )
    (release / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def _save_bag_tower(path: Path, *, text: str, rows: int, countries: int, dim: int) -> None:
    """An ONNX graph: rows of one table summed over the 3-grams, a country's row added to a query's, norm 1."""
    table = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)
    table[0] = 0.0  # padding
    country_table = 0.3 * np.random.default_rng(1).normal(size=(countries, dim)).astype(np.float32)
    ids = onnx.helper.make_tensor_value_info(text, onnx.TensorProto.INT64, ["n", "g"])
    country_ids = onnx.helper.make_tensor_value_info("country_ids", onnx.TensorProto.INT64, ["n"])
    vector = onnx.helper.make_tensor_value_info("vector", onnx.TensorProto.FLOAT, ["n", dim])
    outputs = [vector]
    is_query = text == "trigram_ids"
    nodes = [
        onnx.helper.make_node("Gather", ["table", text], ["rows"]),
        onnx.helper.make_node("ReduceSum", ["rows", "axis"], ["text"], keepdims=0),
        *([onnx.helper.make_node("Gather", ["countries", "country_ids"], ["country"])] if is_query else []),
        onnx.helper.make_node(*(("Add", ["text", "country"]) if is_query else ("Identity", ["text"])), ["sum"]),
        onnx.helper.make_node("LpNormalization", ["sum"], ["vector"], axis=-1, p=2),
    ]
    tables = [onnx.numpy_helper.from_array(table, "table"), onnx.numpy_helper.from_array(np.array([1]), "axis")]
    inputs = [ids]
    if is_query:
        attention = np.array([[1.0, 0.0], *[[0.75, 0.25]] * (countries - 1)], dtype=np.float32)  # by country id
        tables.append(onnx.numpy_helper.from_array(country_table, "countries"))
        tables.append(onnx.numpy_helper.from_array(attention, "attention"))
        nodes.append(onnx.helper.make_node("Gather", ["attention", "country_ids"], ["channel_weights"]))
        inputs.append(country_ids)
        outputs.append(onnx.helper.make_tensor_value_info("channel_weights", onnx.TensorProto.FLOAT, ["n", 2]))
    graph = onnx.helper.make_graph(nodes, "bag", inputs, outputs, tables)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)


def small_catalogue(folder: Path, release_path: Path, *, products: int = 300, factory: str | None = None) -> Path:
    """A catalogue of invented products with one generation for the release; with IVF, low and high lists differ."""
    release = open_release(release_path)
    titles = [f"{TEXTS[at % len(TEXTS)]} no {at}" for at in range(products)]
    path = folder / "catalogue"
    with Catalogue.create(path) as catalogue:
        rows = [{"product_id": f"p{at}", "title": title, "price": at + 0.5} for at, title in enumerate(titles)]
        numbers = catalogue.put_products(rows)
        catalogue.put_vectors(release.id, numbers, release.embed_products(rows))
        build_generation(catalogue, release=release.id, factory=factory)
    return path
