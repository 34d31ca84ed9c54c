"""Eight clients at once, each a process of its own, and a server of two workers for them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.foundation.database import Database
from tests.durability.client import Client
from tests.durability.serving import ROOT, answers, environment_of, free_port

CLIENTS, WORKERS = 8, 2


@dataclass(frozen=True)
class Write:
    """One request over REST: its key is its path."""

    method: str
    path: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """What eight clients were answered together."""

    seconds: float
    took: list[float]
    """Milliseconds of each request."""
    errors: list[str]

    @property
    def rate(self) -> float:
        """Writes that succeeded, in a second."""
        return (len(self.took) - len(self.errors)) / self.seconds


@contextmanager
def serving(database: Database, folder: Path, workers: int = WORKERS) -> Iterator[tuple[int, int]]:
    """`equipoise serve --workers 2` on this database; its port and process, once it answers."""
    port = free_port()
    arguments = ["serve", "--workers", str(workers), "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *arguments],
            cwd=ROOT,
            env=environment_of(database.url, folder),
            stdout=log,
            stderr=log,
        )
    try:
        if not answers(port, lambda: process.poll() is not None):
            raise RuntimeError(f"The server did not start: {(folder / 'server.log').read_text()[-2000:]}")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


def processor(server: int, database: str) -> dict[str, float]:
    """Seconds of processor time so far, of the server's processes and of PostgreSQL's; none where there is no /proc."""
    spent = {"server": 0.0, "PostgreSQL": 0.0}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if server in (int(folder.name), int(fields[1])):
            spent["server"] += seconds
        elif command.startswith(b"postgres: ") and f" {database} ".encode() in command:
            spent["PostgreSQL"] += seconds
    return spent


def all_at_once(port: int, token: str, writes: Sequence[Write]) -> Answered:
    """Send all of them, dealt to eight clients who begin together."""
    clients = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.clients"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(CLIENTS)
    ]
    for number, client in enumerate(clients):
        job = [[each.method, each.path, each.body] for each in writes[number::CLIENTS]]
        _say(client, json.dumps({"port": port, "token": token, "writes": job}))
    for client in clients:
        assert _heard(client) == "ready"
    began = time.perf_counter()
    for client in clients:
        _say(client, "go")
    said = [json.loads(_heard(client)) for client in clients]
    seconds = time.perf_counter() - began
    for client in clients:
        client.wait(10)
    return Answered(
        seconds, [each for one in said for each in one["took"]], [each for one in said for each in one["errors"]]
    )


def _say(client: subprocess.Popen[str], line: str) -> None:
    assert client.stdin is not None
    client.stdin.write(line + "\n")
    client.stdin.flush()


def _heard(client: subprocess.Popen[str]) -> str:
    assert client.stdout is not None
    return client.stdout.readline().strip()


def _one_client() -> None:
    """Send what the job on standard input says; how long each took, and what went wrong, goes to standard output."""
    job = json.loads(sys.stdin.readline())
    client = Client(job["port"], token=job["token"])
    client.get("/healthz")
    print("ready", flush=True)
    sys.stdin.readline()  # all begin together
    took, errors = [], []
    for method, path, body in job["writes"]:
        sent = json.dumps(body).encode()
        began = time.perf_counter()
        try:
            reply = client.send(method, path, sent, Content_Type="application/json", Idempotency_Key=path)
            if reply.status not in (200, 201):
                errors.append(f"{path}: {reply.status} {reply.body[:200]!r}")
        except OSError as lost:
            errors.append(f"{path}: {lost}")
        took.append((time.perf_counter() - began) * 1000)
    print(json.dumps({"took": took, "errors": errors}), flush=True)


if __name__ == "__main__":
    _one_client()
