"""One Equipoise server as a process of its own, on loopback: it can be killed like one, and started again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL

from tests.durability.client import Client

ROOT = Path(__file__).resolve().parent.parent.parent
STARTS_WITHIN = 30  # seconds


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


@dataclass
class Server:
    """A server on a database and key file that are there already. `start` returns once it answers."""

    url: URL
    data: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and wait for its first answer; the seconds that took."""
        environment = environment_of(self.url, self.data)
        arguments = ["--factory", "app.installation:application", "--host", "127.0.0.1", "--port", str(self.port)]
        began = time.perf_counter()
        with (self.data / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", *arguments, "--no-access-log", "--log-level", "warning"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        while time.perf_counter() - began < STARTS_WITHIN:
            if self.process.poll() is not None:
                break
            try:
                if Client(self.port, timeout=5).get("/healthz").status == 200:
                    return time.perf_counter() - began
            except OSError:
                time.sleep(0.01)
        raise RuntimeError(f"The server did not start: {(self.data / 'server.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once, as a power cut would (SIGKILL): no handler runs and nothing is flushed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and wait; when it does not, end it."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None


class Workers:
    """Server processes that accept from one socket, as `equipoise serve --workers` has them; each can be killed.

    The socket is ours: whoever asks while nobody serves waits in its queue for the next process, and nobody has to try
    again and again. `mutants` are names in `served`.
    """

    def __init__(self, url: URL, data: Path, *, count: int, mutants: Sequence[str] = ()) -> None:
        self._environment = environment_of(url, data)
        self._mutants = list(mutants)
        self.log = data / "server.log"
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(256)
        self.port = int(self._socket.getsockname()[1])
        self._running = [self._new() for _ in range(count)]

    def _new(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.durability.served", str(self._socket.fileno()), *self._mutants],
                cwd=ROOT,
                env=self._environment,
                pass_fds=[self._socket.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, count: int) -> None:
        """SIGKILL the processes that have served longest, all at one moment; others are started in their place."""
        killed, self._running = self._running[:count], self._running[count:]
        for process in killed:
            process.kill()
        for process in killed:
            process.wait(10)
        self._running += [self._new() for _ in killed]

    def require_running(self) -> None:
        """RuntimeError with the end of their log when one of them ended by itself."""
        if any(process.poll() is not None for process in self._running):
            raise RuntimeError(f"A server ended: {self.log.read_text()[-2000:]}")

    def end(self) -> None:
        """End all of them, whatever they are doing."""
        self._socket.close()
        for process in self._running:
            process.kill()
            process.wait(10)
        self._running = []
