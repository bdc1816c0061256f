"""Fill an empty volume with the sample that the image carries: seed.py SAMPLE HOME.

A home that has a catalogue is left as it is. Everything is copied beside and renamed, the catalogue last, so that a
killed copy is begun again. The copy gets a cursor key of its own: the image's is no secret.
"""

import shutil
import sys
from pathlib import Path

from index.catalogue import Catalogue
from index.cursor_key import KEY_FILE


def seed(sample: Path, home: Path) -> bool:
    """Whether there was anything to do."""
    catalogue = home / "catalogue"
    if catalogue.exists():
        return False
    for release in sorted((sample / "releases").iterdir()):
        if not (home / "releases" / release.name).exists():
            _copy(release, home / "releases" / release.name)
    beside = _copy_beside(sample / "catalogue", catalogue, leave_out=KEY_FILE)
    Catalogue.create(beside).close()  # makes what is missing: the key
    (beside / "products.lmdb-lock").unlink(missing_ok=True)
    beside.rename(catalogue)
    return True


def _copy(source: Path, target: Path) -> None:
    _copy_beside(source, target).rename(target)


def _copy_beside(source: Path, target: Path, *, leave_out: str = "") -> Path:
    beside = target.with_name(target.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    return Path(shutil.copytree(source, beside, ignore=shutil.ignore_patterns(leave_out)))


if __name__ == "__main__":
    done = seed(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(f"{sys.argv[2]}: {'filled with the sample' if done else 'has a catalogue, left as it is'}\n")
