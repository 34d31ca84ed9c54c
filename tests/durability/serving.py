"""One Equipoise server as a process of its own, on loopback: it can be killed like one, and started again.

Servers are forked from one process that has read the program already: each would else read it anew, for longer than
most of them live.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from sqlalchemy.engine import URL

from tests.durability.client import Client
from tests.durability.served import serve

ROOT = Path(__file__).resolve().parent.parent.parent
STARTS_WITHIN = 30  # seconds
_FORKED = get_context("forkserver")
_FORKED.set_forkserver_preload(["app.main", "tests.durability.served"])


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment_of(url: URL, data: Path) -> dict[str, str]:
    """What a server on this database and key file finds in its environment."""
    environment = {
        **os.environ,
        "EQUIPOISE_DATA": str(data),
        "EQUIPOISE_DATABASE": url.render_as_string(hide_password=False),
        "EQUIPOISE_SECURE_COOKIES": "false",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed server finds its modules compiled
    return environment


def answers(port: int, has_ended: Callable[[], bool]) -> bool:
    """Whether a server that was just started answers: waits for its first answer, as long as it runs."""
    began = time.perf_counter()
    while time.perf_counter() - began < STARTS_WITHIN and not has_ended():
        try:
            if Client(port, timeout=5).get("/healthz").status == 200:
                return True
        except OSError:
            time.sleep(0.01)
    return False


def _started(url: URL, data: Path, listening: socket.socket | int, mutants: Sequence[str] = ()) -> ForkServerProcess:
    """A process that serves on this database and key file, at a socket or a port of its own."""
    given = (environment_of(url, data), str(data / "server.log"), listening, list(mutants))
    process = _FORKED.Process(target=serve, args=given, daemon=True)
    process.start()
    return process


@dataclass
class Server:
    """A server on a database and key file that are there already. `start` returns once it answers."""

    url: URL
    data: Path
    port: int = field(default_factory=free_port)
    process: ForkServerProcess | None = None

    def start(self) -> None:
        """Start it and wait for its first answer."""
        process = self.process = _started(self.url, self.data, self.port)
        if not answers(self.port, lambda: process.exitcode is not None):
            raise RuntimeError(f"The server did not start: {(self.data / 'server.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once, as a power cut would (SIGKILL): no handler runs and nothing is flushed."""
        if self.process is not None:
            self.process.kill()
            self.process.join(10)
        self.process = None

    def stop(self) -> None:
        """Ask it to end, and wait; when it does not, end it."""
        if self.process is not None:
            self.process.terminate()
            self.process.join(10)
        self.kill()


class Workers:
    """Server processes that accept from one socket, as `equipoise serve --workers` has them; each can be killed.

    The socket is ours: whoever asks while nobody serves waits in its queue for the next process, and nobody has to try
    again and again. `mutants` are names in `served`: the processes are started with each of these lists in turn.
    """

    def __init__(self, url: URL, data: Path, *, count: int, mutants: Sequence[Sequence[str]] = ((),)) -> None:
        self._url, self._data, self._mutants = url, data, cycle(mutants)
        self.log = data / "server.log"
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(256)
        self.port = int(self._socket.getsockname()[1])
        self._running = [self._new() for _ in range(count)]

    def _new(self) -> ForkServerProcess:
        return _started(self._url, self._data, self._socket, next(self._mutants))

    def kill(self, count: int) -> None:
        """SIGKILL the processes that have served longest, all at one moment; others are started in their place."""
        killed, self._running = self._running[:count], self._running[count:]
        for process in killed:
            process.kill()
        for process in killed:
            process.join(10)
        self._running += [self._new() for _ in killed]

    def require_running(self) -> None:
        """RuntimeError with the end of their log when one of them ended by itself."""
        if any(process.exitcode is not None for process in self._running):
            raise RuntimeError(f"A server ended: {self.log.read_text()[-2000:]}")

    def end(self) -> None:
        """End all of them, whatever they are doing."""
        self._socket.close()
        for process in self._running:
            process.kill()
            process.join(10)
        self._running = []
