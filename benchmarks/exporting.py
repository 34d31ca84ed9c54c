"""Measure exports: python -m benchmarks.exporting [sqlite] [postgres] [entries].

So many entries (100,000 when none are given) of 30 items each, over HTTP from a server process, as a wide CSV and, a
third of them, as a long one. Beside each, in the same run: on PostgreSQL what `COPY ... TO STDOUT` of a plain table of
the very same cells takes through the driver, on SQLite what a bare cursor and csv.writer take. Quote the ratio: the
seconds belong to the machine. Then the wide one as NDJSON and as Parquet, the latter in turn with CSV; and what changed
of everything after 100 entries were saved. The server's memory is read meanwhile.
"""

import csv
import http.client
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, select, text, update

from app.audit.actions import Change, record
from app.capture.models import Entry
from app.exports import reads
from app.exports.choice import EVERYTHING, Choice
from app.foundation import clock
from app.foundation.crypto.keys import create_key_file
from app.foundation.database import Database, store_many, table_of
from app.installation import migrate
from app.participants.models import Participant
from app.people import actions as people
from app.people.access import Actor, Grant
from app.people.permissions import Role
from app.people.reads import sites_of
from app.studies.actions import load_study
from app.studies.in_use import StudyInUse, study_in_use
from benchmarks.filling import person_with
from benchmarks.study import ANSWERS, VISITS, definition
from tests.durability.serving import Server
from tests.postgres import server as postgres

WIDE, LONG = "instrument_wellbeing", "entries"
THIRD = "&".join(f"visit={code}" for code, *_ in VISITS[:2])
OPERATOR = Actor(0, "operator", "Operator", "Benchmark", (Grant(Role.ADMINISTRATOR),), via="cli")
CHANGED = 100
TIMES = 5
ENTRY = table_of(Entry)
PARTICIPANT = table_of(Participant)


@dataclass(frozen=True)
class Taken:
    """One download: seconds in all and to the first byte, bytes, and how many MB the server grew meanwhile."""

    seconds: float
    first: float
    size: int
    grew: float
    late: float
    """MB it grew from the middle of the download to its end: none when memory is flat."""
    cpu: float
    """Seconds of a processor that the server took: what is left when others use the machine as well."""


def filled(database: Database, entries: int) -> str:
    """Participants with an entry at each visit, and the log of their saving; gives a token that may export."""
    now = clock.now()
    with database.writing() as session:
        load_study(session, definition(), by=OPERATOR, now=now)
        study = study_in_use(session, "bench")
        manager = person_with(session, study, Role.DATA_MANAGER, [None], OPERATOR, now)
        _, token = people.create_token(
            session,
            person_id=manager.person_id,
            study_id=study.id,
            log=study.code,
            name="benchmark",
            scopes=["export.run"],
            expires_at=now + timedelta(days=1),
            by=manager,
            now=now,
        )
        site = sites_of(session, study.id)[0].id
        numbers = range(1, -(-entries // len(VISITS)) + 1)
        values = [(n, study.id, site, _code(n), "randomised", now.date(), now, "x") for n in numbers]
        names = ("id", "study_id", "site_id", "code", "status", "screened_on", "created_at", "created_by")
        store_many(session, PARTICIPANT, names, values)
        asked = islice(((n, visit) for n in numbers for visit, *_ in VISITS), entries)
        while batch := list(islice(asked, 5_000)):
            rows = [_entry(study, n, visit, now) for n, visit in batch]
            store_many(session, ENTRY, tuple(rows[0]), [tuple(row.values()) for row in rows])
            changes = [Change("entry.saved", _code(n), f"entry/{visit}/wellbeing", new=1) for n, visit in batch]
            record(session, study.code, changes, by=OPERATOR, now=now)
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    return token


def _code(number: int) -> str:
    return f"B-{number:07d}"


def _entry(study: StudyInUse, participant: int, visit: str, now: datetime) -> dict[str, Any]:
    answers = {**ANSWERS, "pain": participant * 7 % 10, "score": 30}
    return {
        "study_id": study.id,
        "participant_id": participant,
        "visit": visit,
        "instrument": "wellbeing",
        "study_version_id": study.version_id,
        "status": "complete",
        "version": 1,
        "values": json.dumps(answers, separators=(",", ":")),
        "reasons": "{}",
        "created_at": now,
        "created_by": "x",
        "saved_at": now + timedelta(microseconds=participant),
        "saved_by": "x",
        "verified": "{}",
    }


class Watch:
    """The memory of a process, read again and again."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/statm")
        self._clock = Path(f"/proc/{pid}/stat")
        self.before = self.now()
        self.seen: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def now(self) -> float:
        """MB that are resident."""
        return int(self._path.read_text().split()[1]) * 4096 / 1e6

    def cpu(self) -> float:
        """Seconds of a processor so far."""
        fields = self._clock.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.seen.append(self.now())

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def download(server: Server, token: str, path: str) -> tuple[Taken, bytes, dict[str, str]]:
    """One file, and how it came. Only its end is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    assert server.process is not None
    with Watch(server.process.pid) as watch:
        began, worked = time.perf_counter(), watch.cpu()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        reply = connection.getresponse()
        assert reply.status == 200, (reply.status, reply.read()[:500])
        piece = reply.read1(1 << 20)
        first = time.perf_counter() - began
        size, end = len(piece), piece
        while piece := reply.read1(1 << 20):
            size += len(piece)
            end = (end + piece)[-(1 << 20) :]
        seconds, worked = time.perf_counter() - began, watch.cpu() - worked
    connection.close()
    seen = watch.seen or [watch.before]
    late = max(seen) - max(seen[: len(seen) // 2 + 1])
    headers = dict(reply.getheaders())
    return Taken(seconds, first, size, max(seen) - watch.before, late, worked), end, headers


def plain_table(database: Database, study: StudyInUse, name: str, choice: Choice) -> int:
    """A plain table of this name, of the very cells that the export holds; gives its rows."""
    with database.reading() as session:
        manager = Actor(0, "m", "M", "", (Grant(Role.DATA_MANAGER),), study_id=study.id)
        table = reads.open_export(session, study, name, by=manager, choice=choice)
        kinds = {"integer": "integer", "number": "double precision", "instant": "timestamptz", "flag": "integer"}
        names = [f"c{place}" for place in range(len(table.columns))]
        types = [kinds.get(column.type.value, "text") for column in table.columns]
        count = 0
        with database.engine.begin() as connection:
            if database.is_sqlite:
                types = ["" for _ in types]
            said = ", ".join(f"{name} {kind}" for name, kind in zip(names, types, strict=True))
            connection.exec_driver_sql(f"CREATE TABLE plain_{name} ({said})")
            driver: Any = connection.connection.driver_connection
            if database.is_sqlite:
                marks = ", ".join("?" for _ in names)
                rows = (tuple(str(cell) if hasattr(cell, "tzinfo") else cell for cell in row) for row in table.rows)
                count = driver.executemany(f"INSERT INTO plain_{name} VALUES ({marks})", rows).rowcount
            else:
                with driver.cursor() as cursor, cursor.copy(f"COPY plain_{name} FROM STDIN") as copied:
                    for row in table.rows:
                        copied.write_row(row)
                        count += 1
    return count


def bare(database: Database, name: str) -> float:
    """Seconds that the database itself takes for the plain table: COPY, or a cursor and csv.writer."""
    connection = database.engine.raw_connection()
    driver: Any = connection.driver_connection
    began = time.perf_counter()
    size = 0
    if database.is_sqlite:
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        cursor = driver.execute(f"SELECT * FROM plain_{name}")
        while rows := cursor.fetchmany(1_000):
            writer.writerows(rows)
            size += len(buffer.getvalue().encode())
            buffer.seek(0)
            buffer.truncate()
    else:
        with driver.cursor() as cursor, cursor.copy(f"COPY plain_{name} TO STDOUT (FORMAT csv, HEADER)") as copied:
            for data in copied:
                size += len(data)
    taken = time.perf_counter() - began
    connection.close()
    return taken


def changed(database: Database, study: StudyInUse) -> int:
    """Save 100 entries of different participants; gives the change number from before."""
    now = clock.now()
    with database.writing() as session:
        since = int(session.execute(text("SELECT size FROM audit_head WHERE log = 'bench'")).scalar_one())
        found = session.execute(
            select(ENTRY.c.id, ENTRY.c.participant_id, ENTRY.c.visit)
            .where(ENTRY.c.visit == VISITS[0][0])
            .limit(CHANGED)
        ).all()
        session.execute(update(ENTRY).where(ENTRY.c.id.in_([row.id for row in found])).values(saved_at=now))
        changes = [
            Change("entry.saved", _code(row.participant_id), f"entry/{row.visit}/wellbeing", new=2) for row in found
        ]
        record(session, study.code, changes, by=OPERATOR, now=now)
    return since


def measure(database: Database, folder: Path, entries: int, stack: ExitStack) -> None:
    """Fill, serve, take and print."""
    token = filled(database, entries)
    with database.reading() as session:
        study = study_in_use(session, "bench")
    third = Choice(visits=tuple(code for code, *_ in VISITS[:2]))
    tables = {name: plain_table(database, study, name, choice) for name, choice in ((WIDE, EVERYTHING), (LONG, third))}
    server = Server(database.url, folder)
    stack.callback(server.stop)
    server.start()
    where = "/api/v1/studies/bench/exports"
    download(server, token, f"{where}/codebook.csv")
    download(server, token, f"{where}/codebook.parquet")  # polars is loaded by now
    asked = ((WIDE, "csv", ""), (WIDE, "parquet", ""), (WIDE, "ndjson", ""), (LONG, "csv", THIRD))
    beside: dict[str, list[Taken]] = {"csv": [], "parquet": []}
    for _ in range(TIMES):  # in turn, because others may use the machine as well
        for extension, several in beside.items():
            several.append(download(server, token, f"{where}/{WIDE}.{extension}")[0])
    wall, cpu = (
        [getattr(one, of) / getattr(other, of) for one, other in zip(beside["parquet"], beside["csv"], strict=True)]
        for of in ("seconds", "cpu")
    )
    print(
        f"  Parquet beside CSV, median of {TIMES}: {statistics.median(wall):.2f} times as long, "
        f"{statistics.median(cpu):.2f} times as much of a processor",
        flush=True,
    )
    for name, extension, query in asked:
        # Beside each other, because others may use the machine as well.
        rows, plain, taken = tables[name], bare(database, name), []
        for _ in range(3):
            taken.append(download(server, token, f"{where}/{name}.{extension}?{query}")[0])
            plain = min(plain, bare(database, name))
        best = min(taken, key=lambda one: one.seconds)
        print(f"  bare {name}: {rows:,} rows in {plain:.2f} s, {rows / plain:,.0f} rows/s", flush=True)
        print(
            f"  {extension}: {best.seconds:.2f} s, {rows / best.seconds:,.0f} rows/s, {plain / best.seconds:.0%} of "
            f"bare, {best.cpu:.2f} s of a processor; first byte {best.first * 1000:.0f} ms; {best.size / 1e6:.0f} MB; "
            f"memory {taken[0].grew:+.0f} MB, {taken[0].late:+.0f} in its second half",
            flush=True,
        )
    since = changed(database, study)
    times = []
    for _ in range(TIMES):
        one, end, headers = download(server, token, f"{where}/{WIDE}.csv?since={since}")
        assert end.count(b"changed,") == CHANGED, (end.count(b"changed,"), end[:300])
        times.append(one.seconds * 1000)
    assert int(headers["x-equipoise-change"]) >= since + CHANGED
    print(f"  {CHANGED} changed of {entries:,}: median {statistics.median(times):.0f} ms", flush=True)
    for standard in ("dataset_json", "fhir"):
        one, *_ = download(server, token, f"{where}/all.{standard}?since={since}")
        print(f"  the same as {standard}: {one.seconds * 1000:.0f} ms, {one.size:,} bytes", flush=True)


def main() -> None:
    """Measure on the databases that are named, or both."""
    asked = sys.argv[1:]
    entries = next((int(one) for one in asked if one.isdecimal()), 100_000)
    kinds = [one for one in asked if not one.isdecimal()] or ["sqlite", "postgres"]
    for kind in kinds:
        folder = Path(tempfile.mkdtemp(prefix="equipoise-bench-"))
        try:
            with ExitStack() as stack:
                keys = create_key_file(folder / "equipoise.key")
                url = f"sqlite:///{folder / 'equipoise.db'}"
                if kind == "postgres":
                    address = stack.enter_context(postgres(durable=True))
                    url = address.format(name="bench")
                    maker = create_engine(address.format(name="postgres"), isolation_level="AUTOCOMMIT")
                    with maker.connect() as connection:
                        connection.execute(text("CREATE DATABASE bench"))
                database = Database(url, keys)
                migrate(database)
                print(f"{kind}, {entries:,} entries of 30 items", flush=True)
                measure(database, folder, entries, stack)
                database.dispose()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
