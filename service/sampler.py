"""The sampler: a process beside the workers that searches a few live queries again, exactly.

It reads what `service.watch` sends, compares it with exact search, and saves a report. It yields to everything else on
the machine, and ends when the server that started it is gone. When another generation becomes current it begins anew.

    python -m service.sampler FOLDER CATALOGUE SHARE
"""

import os
import select
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, BinaryIO, Final

from index.catalogue import Catalogue
from index.drift import DriftGauge
from index.generations import Generation, current_number, open_current
from index.operating_points import EFFORTS, OperatingPoints
from index.sweep import ann_recall, nearest
from service.logs import make_logger
from service.recall_sample import EXACT, MAX_BYTES, SOCKET_FILE, Sample
from service.recall_window import RecallWindow
from service.watch_report import WatchReport

COMPARED, UNREADABLE, OTHER_GENERATION = "compared", "unreadable", "other_generation"
DRIFT_EVERY_S: Final = 60.0
_LOWEST_PRIORITY: Final = 19


class Sampler:
    """Compares samples with exact search over one generation.

    Args:
        generation: what the workers search.
        catalogue: where vectors arrive that the generation lacks.
    """

    def __init__(self, generation: Generation, catalogue: Catalogue) -> None:
        self._generation = generation
        self._windows = {effort: RecallWindow() for effort in EFFORTS if effort != EXACT}
        self._read: Counter[str] = Counter({COMPARED: 0, UNREADABLE: 0, OTHER_GENERATION: 0})
        self._gauge = DriftGauge(generation, catalogue)
        self._drift = self._gauge.measure()

    def take(self, datagram: bytes) -> None:
        """Compare one sample; what is none, or is of another generation, is only counted."""
        self._read[self._outcome(datagram)] += 1

    def refresh(self) -> None:
        """Measure the drift again."""
        self._drift = self._gauge.measure()

    def report(self) -> WatchReport:
        """Everything as of now."""
        points = self._generation.operating_points
        recalls = {effort: window.recall() for effort, window in self._windows.items()}
        errors = {"training": self._drift.training_error, "new": self._drift.new_error}
        offline = offline_recall(points)
        return WatchReport(
            recall={effort: recall for effort, recall in recalls.items() if recall is not None},
            offline=offline,
            target=promised_recall(points, offline),
            read=dict(self._read),
            quantisation_error={of: error for of, error in errors.items() if error is not None},
            list_imbalance=self._drift.list_imbalance,
            empty_lists=self._drift.empty_lists,
        )

    def _outcome(self, datagram: bytes) -> str:
        sample = Sample.decode(datagram, dim=self._generation.manifest.dim)
        if sample is None or sample.effort == EXACT:
            return UNREADABLE
        if sample.generation != self._generation.number:
            return OTHER_GENERATION
        (relevant,) = nearest(self._generation.exact, sample.query)
        self._windows[sample.effort].add(ann_recall(sample.found, relevant))
        return COMPARED


def offline_recall(points: OperatingPoints) -> dict[str, float]:
    """ann_recall@10 by effort as tuning measured it; nothing where it did not."""
    found = {effort: points[effort].ann_recall_at_10 for effort in EFFORTS if effort != EXACT}
    return {effort: recall for effort, recall in found.items() if recall is not None}


def promised_recall(points: OperatingPoints, offline: Mapping[str, float]) -> dict[str, float]:
    """The targets that tuning aimed at; where the index could not reach one, what it reached."""
    targets = {} if points.tuning is None else points.tuning["targets"]
    return {effort: min(target, offline[effort]) for effort, target in targets.items() if effort in offline}


def run(
    sampler: Sampler,
    samples: socket.socket,
    *,
    folder: Path,
    share: float,
    alive: BinaryIO,
    is_current: Callable[[], bool],
) -> bool:
    """Take samples, working at most `share` of the time, until `alive` ends: then True. False: no longer current."""
    refresh_at = monotonic() + DRIFT_EVERY_S
    sources: list[Any] = [samples, alive]
    sampler.report().save(folder)
    while is_current():
        readable, _, _ = select.select(sources, [], [], max(0.0, refresh_at - monotonic()))
        if alive in readable:
            return True
        started = perf_counter()
        if samples in readable:
            sampler.take(samples.recv(MAX_BYTES))
        if monotonic() >= refresh_at:
            sampler.refresh()
            refresh_at = monotonic() + DRIFT_EVERY_S
        sampler.report().save(folder)
        # By the clock, not by CPU time: reading vectors from disk, or waiting behind others, also calls for rest.
        worked = perf_counter() - started
        select.select([alive], [], [], worked / share - worked)
    return False


def listen_for_samples(folder: Path) -> socket.socket:
    """A datagram socket in the folder, in place of one that an earlier sampler left."""
    path = folder / SOCKET_FILE
    path.unlink(missing_ok=True)
    samples = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    samples.bind(str(path))
    return samples


def _watched(catalogue: Catalogue, samples: socket.socket, *, folder: Path, share: float) -> bool:
    """Watch the current generation; see `run`."""
    generation = open_current(catalogue.path, verify=False)  # the workers verified it
    return run(
        Sampler(generation, catalogue),
        samples,
        folder=folder,
        share=share,
        alive=sys.stdin.buffer,
        is_current=lambda: current_number(catalogue.path) == generation.number,
    )


def main(arguments: list[str]) -> int:
    """The process; its exit code."""
    folder, catalogue_path, share = Path(arguments[0]), Path(arguments[1]), float(arguments[2])
    log = make_logger("error")
    os.nice(_LOWEST_PRIORITY)
    try:
        with Catalogue.open(catalogue_path) as catalogue, listen_for_samples(folder) as samples:
            while not _watched(catalogue, samples, folder=folder, share=share):
                pass
    except Exception:
        log.exception("the watch failed")
        return 1
    shutil.rmtree(folder, ignore_errors=True)  # a server that was killed could not do it
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
