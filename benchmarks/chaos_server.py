"""A server that is killed in part or as a whole, and has to come back by itself or at its next start."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

import httpx
import msgspec
import psutil  # type: ignore[import-untyped]  # it ships no types

from benchmarks.chaos_ledger import LossError
from benchmarks.server import HOST, PATIENT, free_port, launched, serve_command
from index.backup import back_up
from models.runtime import ReleaseManifest, open_release

Victim = Literal["worker", "committer", "indexer", "builder", "sampler", "supervisor", "everything"]
# What its command line says of a process that the supervisor keeps.
MODULES: Final[dict[Victim, str]] = {
    "worker": "multiprocessing.spawn",
    "committer": "service.committer",
    "indexer": "service.indexer",
    "builder": "service.builder",
    "sampler": "service.sampler",
}
COMPACT_FROM: Final = 800  # changes: those of a round or two
PATIENCE_S: Final = 300.0  # of a busy machine, for what should take seconds
LOOK_EVERY_S: Final = 0.05
TWIN: Final = "-twin"
_TLS: Final = httpx.create_ssl_context()  # not used, and made once: it takes longer than a request


class Place(NamedTuple):
    """Copies that may be spoilt."""

    releases: tuple[Path, Path]  # the one that was given, and the same under another name; folders named by their ids
    catalogue: Path
    temporary: Path  # folder for the server's temporary files
    log: Path  # of the server


def prepare(release: Path, catalogue: Path, folder: Path) -> Place:
    """Copy what is to be served into a new folder.

    Raises:
        ReleaseError: the release cannot be opened.
        CatalogueError: the catalogue cannot be copied, or the folder is there already.
    """
    opened = open_release(release)
    back_up(catalogue, folder / "catalogue")
    # By the names that workers tell, whatever folder the release was in.
    first, twin = (folder / "releases" / f"{opened.id}{suffix}" for suffix in ("", TWIN))
    shutil.copytree(release, first)
    shutil.copytree(release, twin)
    path = twin / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=ReleaseManifest)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, id=twin.name)))
    temporary = folder / "tmp"
    temporary.mkdir()
    return Place((first, twin), folder / "catalogue", temporary, folder / "server.log")


class Running:
    """The server, started again where it is gone; all its processes share one port.

    Args:
        place: what it serves.
        workers: how many it has.
    """

    def __init__(self, place: Place, *, workers: int) -> None:
        self.place = place
        self.workers = workers
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._stack = ExitStack()
        self._supervisor = self._started()

    def close(self) -> None:
        """Stop it as an operator does."""
        self._stack.close()

    def wait_until_ready(self) -> None:
        """Until all workers are."""
        with self.asked():
            pass

    def processes(self, victim: Victim) -> list[psutil.Process]:
        """Those of a kind that run now, in the order in which they began."""
        supervisor = self._supervisor
        if victim == "supervisor":
            return [supervisor]
        children = self._children()
        if victim == "everything":
            return [supervisor, *children]
        return [child for child in children if MODULES[victim] in _command(child)]

    def kill(self, victim: Victim, draw: random.Random) -> list[psutil.Process]:
        """SIGKILL one process of a kind, or everything in any order; returns those that have to be gone soon."""
        doomed = self.processes("everything") if victim in {"supervisor", "everything"} else []
        killed = self.processes(victim)
        if victim == "everything":
            draw.shuffle(killed)
        elif killed:
            killed = [draw.choice(killed)]
        for process in killed:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return doomed or killed

    def come_back(self, gone: list[psutil.Process]) -> None:
        """Start anew what was killed as a whole, as the system's own supervisor would; wait until nothing lacks.

        Raises:
            LossError: a process outlives its server, or one that was killed is not started again.
            ClientError: the server does not start.
        """
        if self._supervisor in gone:
            self._stack.close()
            self._supervisor = self._started()
        wait_until(lambda: all(map(_is_over, gone)), lacks=f"not all of {gone}, whose server was killed, ended")
        wait_until(self._is_whole, lacks="what was killed was not started again")

    @contextmanager
    def asked(self) -> Iterator[dict[str, httpx.Client]]:
        """A connection to each worker, once all are ready, by the worker's name."""
        clients: dict[str, httpx.Client] = {}
        try:
            wait_until(lambda: self._met(clients), lacks=f"not all of {self.workers} workers are ready")
            yield clients
        finally:
            for client in clients.values():
                client.close()

    def _is_whole(self) -> bool:
        """Whether every kind of process runs, and as many workers as there should be."""
        commands = list(map(_command, self._children()))
        running = {victim: sum(module in command for command in commands) for victim, module in MODULES.items()}
        return running["worker"] == self.workers and all(running.values())

    def _children(self) -> list[psutil.Process]:
        try:
            children: list[psutil.Process] = self._supervisor.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return children

    def _met(self, clients: dict[str, httpx.Client]) -> bool:
        """Make one more connection, which any worker may take; whether each has one by now."""
        client = httpx.Client(base_url=self.url, timeout=PATIENCE_S, verify=_TLS)
        try:
            ready = client.get("/readyz")
        except httpx.TransportError:
            client.close()
            return False
        name = ready.headers["x-request-id"].partition("-")[0]
        if ready.is_error or name in clients:
            client.close()
        else:
            clients[name] = client
        return len(clients) == self.workers

    def _started(self) -> psutil.Process:
        settings = {
            **PATIENT,
            "Q2S_WATCH_SHARE": "0.01",
            "Q2S_TIMEOUT_MS": str(1_000 * PATIENCE_S),
            "Q2S_COMPACT_AT": "0.0001",
            "Q2S_COMPACT_FROM": str(COMPACT_FROM),
            "TMPDIR": str(self.place.temporary),
        }
        command = serve_command(self.place.releases[0], self.place.catalogue, port=self.port, workers=self.workers)
        server = launched(command, port=self.port, ready="/readyz", settings=settings, log_file=self.place.log)
        return self._stack.enter_context(server).process


def _is_over(process: psutil.Process) -> bool:
    """Whether it ended, though nobody may have asked how."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _command(process: psutil.Process) -> str:
    """Empty where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def wait_until(holds: Callable[[], bool], *, lacks: str) -> None:
    """Raises LossError with what lacks when it takes too long."""
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() >= give_up:
            raise LossError(f"{lacks} within {PATIENCE_S:.0f} s")
        time.sleep(LOOK_EVERY_S)
