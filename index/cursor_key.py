"""The secret that signs cursors: a file in the catalogue's folder that only its owner reads."""

import os
import secrets
from pathlib import Path

from index.errors import CatalogueError
from index.files import sync_file

KEY_FILE = "cursor.key"
_KEY_BYTES = 32


def read_cursor_key(folder: Path) -> bytes:
    """Raises CatalogueError when the file is missing or cut short."""
    path = folder / KEY_FILE
    try:
        key = path.read_bytes()
    except OSError as exc:
        raise CatalogueError(f"cannot read {path}: {exc}; restore it or build anew") from exc
    if len(key) != _KEY_BYTES:
        raise CatalogueError(f"{path} has {len(key)} bytes, not {_KEY_BYTES}; delete it and build")
    return key


def create_cursor_key(folder: Path) -> None:
    """Write 32 random bytes, unless there are some."""
    path = folder / KEY_FILE
    if path.exists():
        return
    beside = path.with_name(f"{path.name}.tmp")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_file(folder)
