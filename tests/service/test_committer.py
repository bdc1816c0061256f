"""The committer, a real process over a real socket, as a worker meets it: also when it is killed, or not there yet."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from index.catalogue import Catalogue
from index.errors import CatalogueError, RequestConflictError
from index.writes import NOT_FOUND, Delete, Put, RequestProgress, Write, WriteProblem, prepare
from service.commits import ByCommitter
from service.errors import UnconfirmedError
from service.group_commit import Group
from tests.service.real_server import ROOT


class Process:
    """A committer, and the end of the pipe that its server would hold."""

    def __init__(self, folder: Path, catalogue: Path) -> None:
        command = [sys.executable, "-m", "service.committer", str(folder), str(catalogue)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)

    def leave(self) -> None:
        """As a server that is gone."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.leave()


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue.create(tmp_path / "catalogue") as catalogue:
        yield catalogue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Deep, as a temporary folder may be: its path alone is longer than what the kernel takes for a socket."""
    folder = tmp_path / "x" / ("y" * 100)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def committer(catalogue: Catalogue, folder: Path) -> Iterator[Process]:
    process = Process(folder, catalogue.path)
    yield process
    process.leave()
    process.process.wait(60)


def put(product_id: str, **fields: Any) -> Group:
    return Group([prepare(Put({"product_id": product_id, "title": "lamp", **fields}))])


def outcome_of(work: Callable[..., Coroutine[Any, Any, Any]], *commits: ByCommitter) -> Any:
    """Of work as a worker has it, with one connection or several, which are closed at the end as a worker's are."""

    async def all_of_it() -> Any:
        try:
            return await asyncio.wait_for(work(*commits), 60)
        finally:
            for one in commits:
                one.close()

    return asyncio.run(all_of_it())


@pytest.mark.usefixtures("committer")
def test_what_is_answered_is_in_the_store(catalogue: Catalogue, folder: Path) -> None:
    """Puts with vectors, deletions, and the problems of those that cannot be: as the catalogue itself tells them."""

    async def work(commits: ByCommitter) -> None:
        vectors = [[1.5, -2.0]]
        assert [Write(0, 1, changed=True)] == await commits.write(put("lamp", image_vectors=vectors))
        changes = [Delete("lamp"), Delete("sofa"), Put({"product_id": "desk", "title": "desk"}), Put({"title": "?"})]
        deleted, missing, desk, nameless = await commits.write(Group([*map(prepare, changes)]))
        assert (Write(0, 2, changed=True), Write(1, 3, changed=True)) == (deleted, desk)
        assert isinstance(missing, WriteProblem)
        assert (NOT_FOUND, "there is no product 'sofa'") == missing
        assert isinstance(nameless, WriteProblem)

    outcome_of(work, ByCommitter(folder))

    assert None is catalogue.newest("lamp")
    assert {"product_id": "desk", "title": "desk"} == catalogue.newest_records([1])[0]


@pytest.mark.usefixtures("committer")
def test_what_comes_within_a_moment_is_one_transaction(catalogue: Catalogue, folder: Path) -> None:
    """Of two workers, each with fifty writes."""

    async def work(one: ByCommitter, other: ByCommitter) -> None:
        commits = [one, other]
        await asyncio.gather(*(one.write(put(f"first{at}")) for at, one in enumerate(commits)))
        before = catalogue.last_transaction
        writes = [one.write(put(f"lamp{at} {number}")) for at, one in enumerate(commits) for number in range(50)]
        written = [outcome for (outcome,) in await asyncio.gather(*writes)]
        assert 100 == len({outcome.sequence for outcome in written if isinstance(outcome, Write)})
        assert 1 <= catalogue.last_transaction - before <= 3  # one; more where this machine pauses within the burst

    outcome_of(work, ByCommitter(folder), ByCommitter(folder))


@pytest.mark.usefixtures("committer")
def test_a_load_goes_on_where_it_is(folder: Path) -> None:
    """Each of its groups tells how far it is; one that is elsewhere is refused as a whole."""

    async def work(commits: ByCommitter) -> None:
        first = Group([prepare(Put({"product_id": "lamp"}))], RequestProgress("key", 0, 1), after_others=True)
        assert [Write(0, 1, changed=True)] == await commits.write(first)
        with pytest.raises(RequestConflictError, match="request 'key' has 1 lines done, not 0"):
            await commits.write(first)

    outcome_of(work, ByCommitter(folder))


def test_one_that_is_killed_is_met_again(catalogue: Catalogue, folder: Path) -> None:
    """A write waits for the next one; that which the killed one had is answered as not known, and may be there."""
    process = Process(folder, catalogue.path)

    async def work(commits: ByCommitter) -> Process:
        await commits.write(put("lamp"))
        process.process.send_signal(signal.SIGSTOP)
        asked = asyncio.create_task(commits.write(put("sofa")))
        await asyncio.sleep(0.1)
        process.kill()
        with pytest.raises(UnconfirmedError, match="whether it stored this one is not known"):
            await asked
        asked = asyncio.create_task(commits.write(put("desk")))
        await asyncio.sleep(0.1)
        again = Process(folder, catalogue.path)
        (written,) = await asked
        assert isinstance(written, Write)
        return again

    again = outcome_of(work, ByCommitter(folder))
    again.leave()
    again.process.wait(60)

    assert catalogue.newest("lamp") is not None
    assert catalogue.newest("desk") is not None


def test_where_none_comes_nothing_is_written(folder: Path) -> None:
    """Within the time that a write has."""
    with pytest.raises(CatalogueError, match="the process that commits writes is not there"):
        outcome_of(lambda commits: commits.write(put("lamp")), ByCommitter(folder, patience_s=0.2))


def test_it_ends_after_the_workers(catalogue: Catalogue, folder: Path) -> None:
    """The server may be gone while one of its workers still has writes under way."""
    process = Process(folder, catalogue.path)

    async def work(commits: ByCommitter) -> None:
        await commits.write(put("lamp"))
        process.leave()
        await asyncio.sleep(0.5)
        await commits.write(put("sofa"))
        assert process.process.poll() is None

    outcome_of(work, ByCommitter(folder))

    assert 0 == process.process.wait(60)
    assert catalogue.newest("sofa") is not None
