"""Runs the application: one process, or several that share the address and the mapped index."""

import os
import signal
import socket
import sys

import uvicorn
from uvicorn.supervisors import Multiprocess

from service.connection import Connection
from service.errors import ListenError
from service.logs import make_logger, uvicorn_logging
from service.sampler_process import watched
from service.settings import Settings, as_environment
from service.temporary import temporary_folder
from service.upkeep import kept_up

APP = "service.app:create_app"
MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when a worker imports it
BACKLOG = 2048


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain: requests in flight are answered before the process ends.

    Raises:
        ListenError: the address is taken, or not this machine's.
    """
    listening = listen(settings.host, settings.port)
    host, port = listening.getsockname()[:2]
    log = make_logger(settings.log_level)
    log.info("listening", host=host, port=port, workers=settings.workers)
    os.environ.update(as_environment(settings))
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # requests supply the parallelism
    config = uvicorn.Config(
        APP,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=uvicorn_logging(settings.log_level),
        access_log=False,  # the middleware writes ours
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.drain_timeout_s,
    )
    # uvicorn ends by raising the signal that stopped it once more: without this the exit code would be -15.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(0))
    with listening, kept_up(settings, log=log), watched(settings, log=log):
        if settings.workers == 1:
            uvicorn.Server(config).run([listening])
        else:
            _supervise(config, listening)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises ListenError."""
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        why = str(exc.strerror or exc).partition(" (")[0]  # Python repeats the address in parentheses
        raise ListenError(f"cannot listen on {host}:{port}: {why}; choose another with --host and --port") from exc


def _supervise(config: uvicorn.Config, listening: socket.socket) -> None:
    """Workers count into one fresh directory, so that /metrics of any of them sums over all."""
    with temporary_folder("metrics") as folder:
        os.environ[MULTIPROCESS_DIR] = str(folder)
        _Supervisor(config, sockets=[listening]).run()


class _Supervisor(Multiprocess):
    """uvicorn's supervisor, which stops listening before it drains its workers.

    As long as it held the socket, new connections would be accepted into a queue that nobody serves any more.
    """

    def terminate_all(self) -> None:
        for listening in self.sockets:
            listening.close()
        super().terminate_all()
