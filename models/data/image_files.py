"""A dataset's image vectors, computed from image files."""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, UnidentifiedImageError

from models.data.image_encoders import ImageEncoder, LayoutEncoder, OnnxImageEncoder, describe
from models.data.schema import PRODUCTS, Dataset, DatasetWriter
from models.errors import DataError
from models.features import MAX_IMAGES

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
ENCODER_FILE = "image_encoder.safetensors"  # in the dataset: later products need the same space
CHUNK = 64  # pictures decoded and encoded at a time
THREADS = 2  # decoding leaves Python's lock
SHEET_QUERIES, SHEET_NEIGHBOURS, SHEET_SIDE = 8, 8, 112


class ImageReport(NamedTuple):
    """What became of the files."""

    products: int
    with_images: int
    images: int
    encoder: str
    dim: int
    unreadable: list[str]  # file names, with what was wrong
    unmatched: int  # files that belong to no product


class Picture(NamedTuple):
    product: int  # row of the dataset
    path: Path


def add_images(
    dataset: Dataset,
    folder: Path,
    out: Path,
    *,
    encoder: str = "builtin",
    sheet: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageReport:
    """Write the dataset again at `out`, with the vectors of its products' image files.

    A product's files are ID.jpg, ID_1.jpg and so on, or all in a folder ID, in the order of their names; the first five
    count. Events and ratings are carried over. The built-in encoder is fitted on these pictures and kept with them.

    Args:
        encoder: `builtin`, a fitted one (an .safetensors of an earlier call), or an ONNX file.
        sheet: PNG to draw some pictures with their nearest neighbours on.

    Raises:
        DataError: no file belongs to a product, or the encoder cannot be used.
    """
    ids = dataset.products(["product_id"])["product_id"].to_list()
    pictures, unmatched = find_pictures(folder, ids)
    if not pictures:
        raise DataError(
            f"no file in {folder} is named after a product of {dataset.path}, such as {ids[0]}.jpg or {ids[0]}_1.png"
        )
    read: list[Picture] = []
    unreadable: list[str] = []
    chosen = _chosen(encoder)
    rows: list[np.ndarray] = []
    for start in range(0, len(pictures), CHUNK):
        chunk = pictures[start : start + CHUNK]
        opened = list(_open(chunk, unreadable))
        read += [picture for picture, _ in opened]
        if opened:
            images = [image for _, image in opened]
            rows.append(describe(images) if chosen is None else chosen.encode(images))
        if progress:
            progress(len(read) + len(unreadable), len(pictures))
    if not read:
        raise DataError(f"none of the {len(pictures)} pictures in {folder} can be read, such as {unreadable[0]}")
    found = np.concatenate(rows)
    if chosen is None:
        chosen = LayoutEncoder.fit(found)
        found = chosen.project(found)
    owners = np.array([picture.product for picture in read])
    _write(dataset, out, owners, found, chosen)
    if sheet is not None:
        draw_sheet(sheet, [picture.path for picture in read], found)
    return ImageReport(
        products=len(ids),
        with_images=len(set(owners.tolist())),
        images=len(read),
        encoder=chosen.name,
        dim=found.shape[1],
        unreadable=unreadable,
        unmatched=unmatched,
    )


def find_pictures(folder: Path, ids: Sequence[str]) -> tuple[list[Picture], int]:
    """The products' picture files, at most MAX_IMAGES each, by product and name; and how many belong to none.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; name the one that holds the image files")
    row_of = {product: row for row, product in enumerate(ids)}
    of_product: dict[int, list[Path]] = {}
    unmatched = 0
    for path in sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS):
        names = (path.parent.name if path.parent != folder else "", path.stem, re.sub(r"_\d+$", "", path.stem))
        row = next((row_of[name] for name in names if name in row_of), None)
        if row is None:
            unmatched += 1
        else:
            of_product.setdefault(row, []).append(path)
    return [Picture(row, path) for row, paths in sorted(of_product.items()) for path in paths[:MAX_IMAGES]], unmatched


def draw_sheet(path: Path, files: Sequence[Path], vectors: np.ndarray) -> None:
    """A PNG: in each row a picture, spread over the catalogue, and those nearest to it by cosine."""
    asked = np.linspace(0, len(files) - 1, min(SHEET_QUERIES, len(files))).astype(int)
    side, gap = SHEET_SIDE, SHEET_SIDE // 4
    sheet = Image.new("RGB", (gap + (SHEET_NEIGHBOURS + 1) * side, len(asked) * side), "white")
    for row, at in enumerate(asked):
        order = np.argsort(-(vectors @ vectors[at]), kind="stable")
        nearest = [at, *order[order != at][:SHEET_NEIGHBOURS]]
        for column, picture in enumerate(nearest):
            with Image.open(files[picture]) as image:
                shown = image.convert("RGB").resize((side - 4, side - 4))
            sheet.paste(shown, (column * side + (gap if column else 0), row * side))
    ImageDraw.Draw(sheet).line((side + gap // 2, 0, side + gap // 2, sheet.height), fill="gray")
    beside = path.with_name(f"{path.name}.tmp")
    sheet.save(beside, format="PNG")
    beside.replace(path)


def _chosen(encoder: str) -> ImageEncoder | None:
    """The encoder named; None is the built-in one, which is to be fitted."""
    if encoder == "builtin":
        return None
    path = Path(encoder)
    if path.suffix == ".onnx":
        return OnnxImageEncoder(path)
    if path.suffix == ".safetensors":
        return LayoutEncoder.load(path)
    raise DataError(f"--encoder {encoder}: name `builtin`, an .onnx file, or the {ENCODER_FILE} of a dataset")


def _open(pictures: Sequence[Picture], unreadable: list[str]) -> Iterator[tuple[Picture, Image.Image]]:
    """The pictures that can be read, decoded; what cannot be is noted."""

    def decode(path: Path) -> Image.Image | str:
        try:
            with Image.open(path) as image:
                return image.convert("RGB")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as exc:
            return f"{path.name}: {exc}"

    with ThreadPoolExecutor(THREADS) as pool:
        for picture, image in zip(pictures, pool.map(decode, [p.path for p in pictures]), strict=True):
            if isinstance(image, str):
                unreadable.append(image)
            else:
                yield picture, image


def _write(dataset: Dataset, out: Path, owners: np.ndarray, vectors: np.ndarray, encoder: ImageEncoder) -> None:
    about = dataset.manifest
    notes = f"{about.notes} image vectors: {encoder.name}, {vectors.shape[1]} numbers".strip()
    with DatasetWriter(out, source=about.source, licence=about.licence, seed=about.seed, notes=notes) as writer:
        start = 0
        for batch in dataset.product_batches():
            writer.add_products(_with_vectors(batch, start, owners, vectors))
            start += batch.num_rows
        for table, add in (("events", writer.add_events), ("judgements", writer.add_judgements)):
            rows = getattr(dataset, table)()
            if len(rows):
                add(rows.to_arrow())
        if isinstance(encoder, LayoutEncoder):
            encoder.save(writer.staging / ENCODER_FILE)


def _with_vectors(batch: pa.RecordBatch, start: int, owners: np.ndarray, vectors: np.ndarray) -> pa.Table:
    first, last = np.searchsorted(owners, [start, start + batch.num_rows])
    of_row: list[list[Any]] = [[] for _ in range(batch.num_rows)]
    for owner, vector in zip(owners[first:last], vectors[first:last], strict=True):
        of_row[owner - start].append(vector)
    kind = PRODUCTS.field("image_vectors").type
    place = batch.schema.get_field_index("image_vectors")
    return pa.Table.from_batches([batch]).set_column(place, "image_vectors", pa.array(of_row, type=kind))
