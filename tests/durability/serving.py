"""One Equipoise server as a process of its own, on loopback: it can be killed like one, and started again."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

ROOT = Path(__file__).resolve().parent.parent.parent
STARTS_WITHIN = 30  # seconds


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A server on a database and key file that are there already. `start` returns once it answers."""

    url: URL
    data: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and wait for its first answer; the seconds that took."""
        environment = {
            **os.environ,
            "EQUIPOISE_DATA": str(self.data),
            "EQUIPOISE_DATABASE": self.url.render_as_string(hide_password=False),
            "EQUIPOISE_SECURE_COOKIES": "false",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed server finds its modules compiled
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


@dataclass(frozen=True)
class Reply:
    """What came back, whole; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One keep-alive connection. A lost connection is an OSError, and the next request opens a new one."""

    def __init__(self, port: int, *, token: str = "", timeout: float = 30) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, None, **headers)

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Header names are given with underscores: `Idempotency_Key`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, path, body, {**self._headers, **given})
            answer = self._connection.getresponse()
            return Reply(answer.status, {name.lower(): each for name, each in answer.headers.items()}, answer.read())
        except (OSError, http.client.HTTPException) as lost:
            self._connection.close()
            raise ConnectionError(f"{method} {path}: {type(lost).__name__}") from lost

    def put_json(self, path: str, body: Any, **headers: str) -> Reply:
        return self.send("PUT", path, json.dumps(body).encode(), Content_Type="application/json", **headers)

    def post_json(self, path: str, body: Any, **headers: str) -> Reply:
        return self.send("POST", path, json.dumps(body).encode(), Content_Type="application/json", **headers)

    def close(self) -> None:
        self._connection.close()
