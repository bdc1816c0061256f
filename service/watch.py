"""The worker's side of the watch: picks searches and sends them to the sampler, which searches them again, exactly."""

import os
import socket
from pathlib import Path
from typing import Final

import numpy as np

from index.ann import Hits
from service.metrics import Metrics
from service.recall_sample import EXACT, FOUND, SOCKET_FILE, Sample

WATCH_DIR: Final = "Q2S_WATCH_DIR"  # set by the server for its workers: the folder that they share with the sampler


class Watch:
    """Picks searches at random and sends them to the sampler; one that cannot be sent at once is dropped.

    A search that is not picked costs one subtraction.

    Args:
        folder: where the sampler listens, or will.
        share: of the searches that are picked, above 0.
        generation: the one that is searched.
        metrics: counts what was sent and what was dropped.
        seed: of the choice.
    """

    def __init__(
        self, folder: Path, *, share: float, generation: int, metrics: Metrics, seed: int | None = None
    ) -> None:
        self._address = str(folder / SOCKET_FILE)
        self._share = share
        self._generation = generation
        self._metrics = metrics
        self._draw = np.random.default_rng(seed)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._until_next = self._gap()

    def offer(self, queries: np.ndarray, hits: Hits, *, effort: str) -> None:
        """Look at one answered search; queries is (1, dim) float32."""
        self._until_next -= 1
        if self._until_next == 0:
            self._until_next = self._gap()
            if effort != EXACT:
                self._send(Sample(effort, self._generation, queries, hits.numbers[0, :FOUND]))

    def close(self) -> None:
        self._socket.close()

    def _gap(self) -> int:
        """Searches up to and with the next picked one, so that each is picked with the same probability."""
        return int(self._draw.geometric(self._share))

    def _send(self, sample: Sample) -> None:
        try:
            # By address each time: a sampler that was started again listens on a new socket under the same name.
            self._socket.sendto(sample.encode(), self._address)
        except OSError:  # nobody listens, or the sampler has more than it can do
            self._metrics.sampled(effort=sample.effort, sent=False)
        else:
            self._metrics.sampled(effort=sample.effort, sent=True)


def watch_folder() -> Path | None:
    """The folder shared with the sampler; None where there is none."""
    folder = os.environ.get(WATCH_DIR)
    return None if folder is None else Path(folder)
