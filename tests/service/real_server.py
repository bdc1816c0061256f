"""The server in a process of its own, on a free port of this machine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import httpx
import psutil

from service.settings import Settings, as_environment

ROOT = Path(__file__).parents[2]
SERVE = "from service.server import serve; from service.settings import load_settings; serve(load_settings())"
PATIENCE_S = 60


class Server:
    """A server process on a free port of this machine."""

    def __init__(self, settings: Settings) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("Q2S_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            cwd=ROOT,
            env=environment | as_environment(settings) | {"Q2S_PORT": "0"},
            stdout=subprocess.PIPE,
        )
        self.workers = settings.workers
        assert self.process.stdout is not None
        listening = json.loads(self.process.stdout.readline())
        self.address = (listening["host"], listening["port"])
        self.url = "http://{}:{}".format(*self.address)

    def wait_until_ready(self) -> None:
        """Until every worker has said that it is."""
        ready: set[str] = set()
        give_up = monotonic() + PATIENCE_S
        while monotonic() < give_up:
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.get(f"{self.url}/readyz")  # a new connection each time, which any worker may take
                if answer.status_code == 200:
                    ready.add(answer.headers["x-request-id"].split("-")[0])
            if len(ready) == self.workers:
                return
            sleep(0.05)
        raise AssertionError("not ready")

    def wait_until_refusing(self) -> None:
        give_up = monotonic() + PATIENCE_S
        while monotonic() < give_up:
            try:
                socket.create_connection(self.address).close()
            except ConnectionRefusedError:
                return
            sleep(0.05)
        raise AssertionError("still listening")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_S)


@contextlib.contextmanager
def server(settings: Settings) -> Iterator[Server]:
    running = Server(settings)
    try:
        running.wait_until_ready()
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()
        assert running.process.stdout is not None
        running.process.stdout.close()


def processes(running: Server, module: str) -> list[psutil.Process]:
    """Those beside the server, by the module that they run; its workers by `multiprocessing.spawn`."""
    children = psutil.Process(running.process.pid).children()
    return [child for child in children if any(module in part for part in child.cmdline())]


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = monotonic() + PATIENCE_S
    while not holds():
        assert monotonic() < give_up
        sleep(0.02)
