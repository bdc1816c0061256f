"""What processes tell each other of a change of release, in files of the catalogue's folder.

catalogue/ACTIVATE          the name of a release that was asked for: there until it is served, or refused
catalogue/activation.json   how far that is, or how it ended
catalogue/PREVIOUS          the id of the release that was served before the present one
"""

import os
from pathlib import Path
from typing import Final, Literal

import msgspec

from index.files import sync_file, write_atomically

ACTIVATE_FILE: Final = "ACTIVATE"
ACTIVATION_FILE: Final = "activation.json"
PREVIOUS_FILE: Final = "PREVIOUS"
RELEASE: Final = "/admin/release"  # the route that asks and tells

State = Literal["asked", "validating", "embedding", "building", "switching", "active", "refused"]
ENDED: Final = frozenset({"active", "refused"})


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """A release on its way to be served."""

    release: str  # its folder's name
    state: State
    done: int = 0  # products, in this state
    total: int = 0
    error: str | None = None  # why it was refused


def ask(catalogue_path: Path, name: str) -> bool:
    """Ask for a release; on disk when this returns. False: another one is under way."""
    path = catalogue_path / ACTIVATE_FILE
    beside = path.with_name(f"{ACTIVATE_FILE}.{os.getpid()}.tmp")
    beside.write_text(name)
    sync_file(beside)
    try:
        os.link(beside, path)  # all of it or nothing, and for one of several who ask at once
    except FileExistsError:
        return asked(catalogue_path) == name
    finally:
        beside.unlink()
    sync_file(catalogue_path)
    return True


def asked(catalogue_path: Path) -> str | None:
    """The release that is under way; None: there is none."""
    return _text(catalogue_path / ACTIVATE_FILE)


def settle(catalogue_path: Path, activation: Activation) -> None:
    """Tell how an activation ended, and be ready for the next."""
    tell(catalogue_path, activation)
    (catalogue_path / ACTIVATE_FILE).unlink(missing_ok=True)


def tell(catalogue_path: Path, activation: Activation) -> None:
    """Say how far an activation is."""
    write_atomically(catalogue_path / ACTIVATION_FILE, msgspec.json.encode(activation))


def told(catalogue_path: Path) -> Activation | None:
    """How far the present activation is, or how the last one ended; None: there was none."""
    name = asked(catalogue_path)
    last = _last(catalogue_path)
    if name is not None and (last is None or last.release != name or last.state in ENDED):
        return Activation(release=name, state="asked")
    return last


def previous_release(catalogue_path: Path) -> str | None:
    """The id of the release that was served before; None: there was none."""
    return _text(catalogue_path / PREVIOUS_FILE)


def note_previous(catalogue_path: Path, release_id: str | None) -> None:
    """Keep the id of the release that is to be gone back to; None: none is."""
    if release_id is None:
        (catalogue_path / PREVIOUS_FILE).unlink(missing_ok=True)
    else:
        write_atomically(catalogue_path / PREVIOUS_FILE, release_id.encode())


def _last(catalogue_path: Path) -> Activation | None:
    try:
        return msgspec.json.decode((catalogue_path / ACTIVATION_FILE).read_bytes(), type=Activation)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
