"""kill -9 over all processes of a server, each with writes in flight: nothing that was acknowledged may be lost."""

import shutil
from contextlib import closing
from pathlib import Path

from benchmarks.blocks import Progress
from benchmarks.chaos_ledger import LossError
from benchmarks.chaos_plan import Kill, planned
from benchmarks.chaos_report import ChaosResult, told
from benchmarks.chaos_round import Rounds
from benchmarks.chaos_server import COMPACT_FROM, Place, Running, prepare
from benchmarks.conditions import conditions
from index.catalogue import Catalogue
from service.client import ClientError


def run(
    release: Path,
    catalogue: Path,
    *,
    folder: Path,
    kills: int = 200,
    seed: int = 0,
    workers: int = 2,
    check_every: int = 10,
    progress: Progress | None = None,
) -> ChaosResult:
    """Kill and look, until there were `kills` with writes in flight or something is wrong.

    Args:
        release, catalogue: copied into `folder`; they stay as they are.
        folder: must not be there; removed when nothing is wrong, else kept with the journals and the server's log.
        seed: of what is killed, when, and what is written.
        workers: of the server.
        check_every: kills between two checks of the whole catalogue.
        progress: called with (done, total) kills.

    Raises:
        LossError: something acknowledged is lost, or cannot be right; says after which kill.
        ReleaseError, CatalogueError: what is to be served cannot be copied.
        ClientError: the server does not start.
    """
    place = prepare(release, catalogue, folder)
    with Catalogue.open(place.catalogue) as opened:
        products = opened.count
    with closing(Running(place, workers=workers)) as running:
        running.wait_until_ready()
        rounds = Rounds(running, folder=folder, seed=seed, products=products)
        for kill in planned(seed):
            _kill(rounds, kill, seed=seed, folder=folder)
            if progress is not None:
                progress(len(rounds.killed), kills)
            if len(rounds.killed) >= kills:
                break
            if kill.number % check_every == check_every - 1:
                rounds.check_all()
        rounds.check_all()
        rounds.wait_for_builder()
    left = left_behind(place)
    result = told(
        rounds.killed,
        checks=rounds.checks,
        left=left,
        conditions=conditions(
            threads=1,
            seed=seed,
            workers=workers,
            release=release.name,
            products=products,
            compaction_from=COMPACT_FROM,
            release_states_at_kills=dict(rounds.states),
            kills_with_nothing_in_flight=rounds.idle,
        ),
    )
    if not left:
        shutil.rmtree(folder)
    return result


def left_behind(place: Place) -> list[str]:
    """What a server that has stopped should have removed."""
    return sorted(path.name for path in (*place.temporary.iterdir(), *place.catalogue.rglob("*.tmp")))


def _kill(rounds: Rounds, kill: Kill, *, seed: int, folder: Path) -> None:
    try:
        rounds.kill(kill)
    except (LossError, ClientError) as exc:
        where = f"seed {seed}, kill {kill.number}: {kill.victim} while {kill.moment}"
        raise LossError(f"{where}: {exc}; journals and the server's log are in {folder}") from exc
