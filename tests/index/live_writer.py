"""A process that writes to a catalogue until it is killed, and says each step when it is on disk: PATH SEED."""

import random
import sys
from itertools import count
from pathlib import Path

import numpy as np

from index.catalogue import Catalogue
from index.publications import Published
from index.writes import Delete, Put

IDS = [f"p{i}" for i in range(12)]
RELEASE = "r1"


def changes_of(seed: int, step: int) -> list[Put | Delete]:
    """What the process writes in a step, in one group: a put, which changes something, and up to three more changes."""
    draw = random.Random(f"{seed}-{step}")
    first, *others = draw.sample(IDS, k=draw.randint(1, 4))
    return [
        Put({"product_id": first, "title": f"{seed}-{step}"}),
        *(
            Delete(product_id) if draw.random() < 0.5 else Put({"product_id": product_id, "title": f"{seed}-{step}"})
            for product_id in others
        ),
    ]


def after(before: dict[str, str], seed: int, step: int) -> dict[str, str]:
    """The titles by product id, once that step is done."""
    titles = dict(before)
    for change in changes_of(seed, step):
        if isinstance(change, Put):
            titles[change.product["product_id"]] = change.product["title"]
        else:
            titles.pop(change.product_id, None)
    return titles


def publish_some(catalogue: Catalogue) -> None:
    waiting = catalogue.pending(5)
    catalogue.publish([Published(one.number, one.sequence, {RELEASE: np.ones(4, dtype=np.float32)}) for one in waiting])


def main(path: Path, seed: int) -> None:
    with Catalogue.open(path, readonly=False) as catalogue:
        for step in count():
            catalogue.write(changes_of(seed, step), after_others=step % 2 == 1)
            sys.stdout.write(f"{step}\n")
            sys.stdout.flush()
            if step % 3 == 0:
                publish_some(catalogue)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
