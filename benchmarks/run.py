"""Measure: python -m benchmarks.run [sqlite] [postgres].

One server process on a database of ten thousand participants, one client on a keep-alive connection, one request at a
time. Every time stands beside the time of a bare INSERT and commit through the driver, on the same database, in the
same run: quote the ratio, because the milliseconds belong to the machine.
"""

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from starlette.testclient import TestClient

from app.foundation.crypto.keys import create_key_file
from app.foundation.database import Database
from app.installation import migrate
from app.main import create_app
from app.settings import Settings
from benchmarks.filling import PARTICIPANTS, PASSWORD, WAITING, Filled, fill
from benchmarks.study import ANSWERS
from tests.durability.client import Client
from tests.durability.serving import ROOT, Server, answers, environment_of
from tests.postgres import server as postgres
from tests.web.browser import counted_statements

WARM_UP = 30
TIMES = 300
FORM = "/bench/participants/{code}/visits/{visit}/entries/wellbeing"


@dataclass(frozen=True)
class Measured:
    """Milliseconds of one operation."""

    name: str
    median: float
    p95: float
    goal: float | None = None
    statements: int | None = None


def measured(name: str, act: Callable[[int], None], *, goal: float | None = None, times: int = TIMES) -> Measured:
    """Run an operation some hundred times after a warm-up; it is told which time it is."""
    for number in range(WARM_UP):
        act(number)
    taken = []
    for number in range(WARM_UP, WARM_UP + times):
        began = time.perf_counter()
        act(number)
        taken.append((time.perf_counter() - began) * 1000)
    return Measured(name, statistics.median(taken), statistics.quantiles(taken, n=20)[-1], goal)


@contextmanager
def bare_commit(database: Database) -> Iterator[Callable[[int], None]]:
    """One INSERT and commit on a connection of the driver itself: what no application can be faster than."""
    connection = database.engine.raw_connection()
    driver: Any = connection.driver_connection
    statement = "INSERT INTO bare_commit (number, words) VALUES (?, ?)"
    if database.is_sqlite:
        driver.execute("CREATE TABLE IF NOT EXISTS bare_commit (number INTEGER, words TEXT)")
    else:
        driver.execute("CREATE TABLE IF NOT EXISTS bare_commit (number INTEGER, words TEXT)")
        driver.commit()
        statement = statement.replace("?", "%s")

    def once(number: int) -> None:
        if database.is_sqlite:
            driver.execute("BEGIN IMMEDIATE")
        driver.execute(statement, (number, "x" * 200))
        driver.commit()

    try:
        yield once
    finally:
        driver.execute("DROP TABLE bare_commit")
        driver.commit()
        connection.close()


def operations(client: Client, filled: Filled) -> list[tuple[str, float | None, int, Callable[[int], None]]]:
    """What is measured: name, goal in milliseconds, how many times, and the operation itself."""
    cookie = {"Cookie": f"equipoise={filled.cookie}"}
    bearer = {"Authorization": f"Bearer {filled.token}"}
    api = "/api/v1/studies/bench/participants"
    first_waiting = PARTICIPANTS - WAITING + 1

    def ask(path: str, **headers: str) -> bytes:
        reply = client.get(path, **cookie, **headers)
        assert reply.status == 200, f"{path}: {reply.status} {reply.body[:500]!r}"
        return reply.body

    def save(number: int) -> None:
        body = {"values": {**ANSWERS, "pain": number % 9 + 1}}
        path = f"{api}/B-{number + 1:05}/visits/week12/entries/wellbeing"
        reply = client.put_json(path, body, Idempotency_Key=f"save-{number}", **bearer)
        assert reply.status == 200, reply.body
        assert reply.json()["status"] == "complete"

    def save_form(number: int) -> None:
        path = FORM.format(code=f"B-{number + 2001:05}", visit="week12")
        fields = form_fields(token)
        reply = client.send("POST", path, fields, Content_Type="application/x-www-form-urlencoded", **cookie)
        assert reply.status == 303, (reply.status, reply.body[-3000:])

    def randomise(number: int) -> None:
        path = f"{api}/B-{first_waiting + number:05}/randomise"
        reply = client.post_json(path, {}, Idempotency_Key=f"randomise-{number}", **bearer)
        assert reply.status in (200, 201), (reply.status, reply.body)

    def randomise_form(number: int) -> None:
        path = f"/bench/participants/B-{first_waiting + 500 + number:05}/randomise"
        fields = _encoded({"csrf_token": token, "password": PASSWORD})
        reply = client.send("POST", path, fields, Content_Type="application/x-www-form-urlencoded", **cookie)
        assert reply.status == 303, (reply.status, reply.body[-3000:])

    token = page_token(client, filled.cookie, "bench")
    found: list[tuple[str, float | None, int, Callable[[int], None]]] = [
        ("save an entry of 30 items (JSON)", 8, TIMES, save),
        ("save an entry of 30 items (form)", 8, TIMES, save_form),
        ("participant page", 10, TIMES, lambda n: void(ask(f"/bench/participants/B-{n * 7 + 1:05}"))),
        (
            "entry page, 30 items filled in",
            10,
            TIMES,
            lambda n: void(ask(FORM.format(code=f"B-{n * 7 + 1:05}", visit="week6"))),
        ),
        (
            "list, filtered and sorted",
            10,
            TIMES,
            lambda _: void(ask("/bench/participants?status=randomised&site=east&sort=-screened_on")),
        ),
        ("randomise (JSON)", 10, TIMES, randomise),
        ("randomise (form, with the password's hash)", None, 60, randomise_form),
    ]
    return found


def void(_: object) -> None:
    """Nothing of it is kept."""


def _encoded(fields: dict[str, str | list[str]]) -> bytes:
    from urllib.parse import urlencode

    return urlencode(fields, doseq=True).encode()


def page_token(client: Client, cookie: str, study: str) -> str:
    """The CSRF token that a page gives to whoever has this cookie."""
    page = client.get(f"/{study}/participants", Cookie=f"equipoise={cookie}").body.decode()
    return str(re.findall(r'name="csrf-token" content="([^"]+)"', page)[0])


def form_fields(token: str) -> bytes:
    """The form of thirty items as a browser sends it."""
    fields: dict[str, str | list[str]] = {"csrf_token": token, "base-version": "0", "save-as": "complete"}
    for code, value in ANSWERS.items():
        if isinstance(value, bool):
            fields[code] = "yes" if value else "no"
        elif isinstance(value, list):
            fields[code] = [str(each) for each in value]
        else:
            fields[code] = str(value)
    return _encoded(fields)


def statements(database: Database, data: Path, filled: Filled) -> dict[str, int]:
    """How many SQL statements each page and each save sends, counted in this process."""
    application = create_app(Settings(secure_cookies=False, data=data), database)
    client = TestClient(application, base_url="http://trial.test")
    client.cookies.set("equipoise", filled.cookie)
    bearer = {"Authorization": f"Bearer {filled.token}"}
    api = "/api/v1/studies/bench/participants"
    acts: dict[str, Callable[[], Any]] = {
        "save an entry of 30 items (JSON)": lambda: client.put(
            f"{api}/B-03001/visits/week12/entries/wellbeing",
            json={"values": ANSWERS},
            headers={**bearer, "Idempotency-Key": "counted"},
        ),
        "participant page": lambda: client.get("/bench/participants/B-00008"),
        "entry page, 30 items filled in": lambda: client.get(FORM.format(code="B-00008", visit="week6")),
        "list, filtered and sorted": lambda: client.get("/bench/participants?status=randomised&site=east&sort=code"),
        "randomise (JSON)": lambda: client.post(
            f"{api}/B-{PARTICIPANTS:05}/randomise", json={}, headers={**bearer, "Idempotency-Key": "counted-r"}
        ),
    }
    counts = {}
    client.get("/bench/participants")  # the study's definition is read once per process
    for name, act in acts.items():
        with counted_statements(database) as said:
            reply = act()
        if reply.status_code in (200, 201):
            counts[name] = len(said)
    return counts


def first_visit(client: Client, filled: Filled) -> tuple[int, int]:
    """Compressed bytes, and requests, of opening a form with nothing in the browser's cache."""
    headers = {"Cookie": f"equipoise={filled.cookie}", "Accept_Encoding": "gzip"}
    page = client.get(FORM.format(code="B-00008", visit="week6"), **headers)
    import gzip

    html = gzip.decompress(page.body).decode()
    assets = sorted(set(re.findall(r'(?:href|src)="(/static/[^"]+)"', html)))
    return len(page.body) + sum(len(client.get(asset, **headers).body) for asset in assets), 1 + len(assets)


def cold_start(server: Server) -> float:
    """Seconds from the start of a program of its own, which has read nothing yet, to its first answer."""
    arguments = ["--factory", "app.installation:application", "--host", "127.0.0.1", "--port", str(server.port)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *arguments, "--no-access-log", "--log-level", "warning"],
        cwd=ROOT,
        env=environment_of(server.url, server.data),
    )
    try:
        if answers(server.port, lambda: process.poll() is not None):
            return time.perf_counter() - began
        raise RuntimeError("The server did not start.")
    finally:
        process.kill()
        process.wait(10)


def run(kind: str, folder: Path, stack: ExitStack) -> None:
    """Everything, on one kind of database."""
    keys = create_key_file(folder / "equipoise.key")
    url = f"sqlite:///{folder / 'equipoise.db'}"
    if kind == "postgres":
        address = stack.enter_context(postgres(durable=True))
        url = address.format(name="bench")
        with create_engine(address.format(name="postgres"), isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("CREATE DATABASE bench"))
    database = Database(url, keys)
    migrate(database)
    began = time.perf_counter()
    filled = fill(database)
    print(f"\n{kind}: {PARTICIPANTS} participants in {time.perf_counter() - began:.1f} s")
    counts = statements(database, folder, filled)
    server = Server(database.url, folder)
    stack.callback(server.stop)
    starts = [cold_start(server) for _ in range(3)]
    server.start()
    client = Client(server.port)
    rows = []
    with bare_commit(database) as once:
        bare = measured("bare INSERT and commit (driver)", once)
    database.dispose()
    for name, goal, times, act in operations(client, filled):
        try:
            rows.append(measured(name, act, goal=goal, times=times))
        except AssertionError as refused:
            print(f"not measured: {name}: {str(refused)[:200]}")
    print(f"\n| {kind} | median ms | p95 ms | goal ms | x bare commit | statements |")
    print("|---|---|---|---|---|---|")
    for row in (bare, *rows):
        goal_text = f"{row.goal:g}" if row.goal else ""
        print(
            f"| {row.name} | {row.median:.2f} | {row.p95:.2f} | {goal_text} | {row.median / bare.median:.1f} "
            f"| {counts.get(row.name, '')} |"
        )
    weight, requests = first_visit(client, filled)
    print(f"\ncold start to first answer: {statistics.median(starts):.2f} s (goal 1.5)")
    print(f"first visit to a form: {weight / 1000:.1f} kB compressed in {requests} requests (goal 40)")


def main() -> None:
    """Measure on the databases that were named, or on both."""
    for kind in sys.argv[1:] or ["sqlite", "postgres"]:
        folder = Path(tempfile.mkdtemp(prefix="equipoise-bench-"))
        try:
            with ExitStack() as stack:
                run(kind, folder, stack)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
