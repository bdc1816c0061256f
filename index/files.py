"""Files that are either whole or absent, written beside and renamed; JSON that notices a changed byte."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from index.errors import IndexFileError


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Make a file (or a directory's entries) durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: a reader, or a crash, sees the old bytes or the new ones."""
    beside = path.with_name(f"{path.name}.tmp")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_file(path.parent)


def write_sealed_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that carries the checksum of its own content."""
    sealed = {**content, "checksum": _checksum(content)}
    write_atomically(path, json.dumps(sealed, indent=1).encode() + b"\n")


def read_sealed_json(path: Path, *, remedy: str) -> dict[str, Any]:
    """Read what `write_sealed_json` wrote.

    Raises:
        IndexFileError: the file is missing, is not JSON, or was altered; the text ends with `remedy`.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as exc:
        raise IndexFileError(f"{path} is missing; {remedy}") from exc
    except (ValueError, RecursionError) as exc:
        raise IndexFileError(f"{path} is not valid JSON, so it was altered or cut short; {remedy}") from exc
    if not isinstance(content, dict) or content.pop("checksum", None) != _checksum(content):
        raise IndexFileError(f"{path} was altered: its checksum does not match its content; {remedy}")
    return content


def mapped_array(path: Path, *, remedy: str) -> np.ndarray:
    """The array of a `.npy` file, mapped: processes share its pages. Never one of pickled objects.

    Raises:
        IndexFileError: the file is missing or holds no array; the text ends with `remedy`.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))  # sheds np.memmap, whose indexing is slow
    except Exception as exc:  # numpy reads a damaged header as Python, whose tokenizer and parser raise what they like
        raise IndexFileError(f"cannot read {path}: {exc}; {remedy}") from exc


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
