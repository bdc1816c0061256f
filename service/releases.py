"""Releases that lie side by side in one folder: found by the name of their own, or by their id."""

from contextlib import suppress
from pathlib import Path

from models.errors import ReleaseError
from models.runtime import MANIFEST_FILE, read_manifest


def named(root: Path, name: str) -> Path:
    """The release in the folder `name` of `root`, as far as its manifest tells.

    Raises:
        ReleaseError: the name leads elsewhere, or there is no sealed release.
    """
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise ReleaseError(f"{name!r} is not the name of a folder beside the other releases")
    read_manifest(root / name)
    return root / name


def with_id(root: Path, release_id: str) -> Path | None:
    """The release of this id among those in `root`; None where there is none. Nothing is verified."""
    for manifest in sorted(root.glob(f"*/{MANIFEST_FILE}")):
        with suppress(ReleaseError):  # a broken neighbour is nobody's matter here
            if read_manifest(manifest.parent).id == release_id:
                return manifest.parent
    return None


def release_for(release_id: str, *, usual: Path) -> Path:
    """Where the release of this id lies: `usual`, or beside it; `usual`, too, where there is none.

    Raises:
        ReleaseError: `usual` is no sealed release.
    """
    if read_manifest(usual).id == release_id:
        return usual
    return with_id(usual.parent, release_id) or usual
