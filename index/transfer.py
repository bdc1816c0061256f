"""Products out of a catalogue and into another as JSON lines: one product a line, image vectors included."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from index.catalogue import Catalogue
from index.errors import CatalogueError

_AT_ONCE = 1_000  # products in one read or write
_MOMENTS = ("created_at",)  # fields that JSON keeps as text

Progress = Callable[[int, int], None]


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def export_products(catalogue: Catalogue, path: Path, *, progress: Progress | None = None) -> int:
    """Write all products as last written, searchable or not, in number order; returns how many lines `path` has.

    Lines go to `path`.part first: an export that was cut off goes on behind its last whole line. It reads in short
    pieces, so what is written meanwhile may be in it or not.

    Args:
        catalogue: any that is open.
        path: replaced when the export is whole.
        progress: called with (numbers done, numbers given).

    Raises:
        CatalogueError: the file cannot be written, or `path`.part is of another catalogue.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines, first = _resumed(catalogue, part)
        with part.open("ab") as file:
            given = catalogue.numbers_given
            for start in range(first, given, _AT_ONCE):
                products = catalogue.newest_records(range(start, min(start + _AT_ONCE, given)))
                there = [_encoder.encode(product) + b"\n" for product in products if product is not None]
                file.writelines(there)
                lines += len(there)
                if progress is not None:
                    progress(min(start + _AT_ONCE, given), given)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as exc:
        raise CatalogueError(f"cannot write {path}: {exc}") from exc
    return lines


def import_products(catalogue: Catalogue, path: Path, *, progress: Progress | None = None) -> int:
    """Store the products of an exported file in bulk, without vectors; returns how many lines were read.

    Run again after a break, it writes only what is not there yet.

    Args:
        catalogue: open for writing, while no server follows it.
        path: as `export_products` wrote it.
        progress: called with (bytes read, all bytes).

    Raises:
        CatalogueError: the file cannot be read, or a line is no product; names the line. Earlier ones are stored.
    """
    try:
        with path.open("rb") as file:
            total, read, lines = os.fstat(file.fileno()).st_size, 0, 0
            for batch in _batches(file):
                catalogue.put_products([_product(path, lines + n, line) for n, line in enumerate(batch, start=1)])
                lines += len(batch)
                read += sum(len(line) for line in batch)
                if progress is not None:
                    progress(read, total)
    except OSError as exc:
        raise CatalogueError(f"cannot read {path}: {exc}") from exc
    return lines


def _resumed(catalogue: Catalogue, part: Path) -> tuple[int, int]:
    """Lines that an earlier export left whole, and the product number to go on from."""
    if not part.exists():
        return 0, 0
    lines, end, last = 0, 0, b""
    with part.open("r+b") as file:
        for line in file:
            if line.endswith(b"\n"):
                lines, end, last = lines + 1, end + len(line), line
        file.truncate(end)
    if not lines:
        return 0, 0
    number = catalogue.number_of(msgspec.json.decode(last)["product_id"])
    if number is None:
        raise CatalogueError(f"{part} is of another catalogue; remove it")
    return lines, number + 1


def _batches(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _product(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        product = msgspec.json.decode(line)
        if not isinstance(product, dict):
            raise CatalogueError(f"{path} line {number} is no JSON object")
        for name in _MOMENTS:
            if isinstance(product.get(name), str):
                product[name] = datetime.fromisoformat(product[name])
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise CatalogueError(f"{path} line {number} is no product: {exc}") from exc
    return product
