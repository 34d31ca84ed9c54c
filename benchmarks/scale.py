"""Measure: python -m benchmarks.scale [PARTICIPANTS ...].

The same operations in a trial of 1,000 participants and in one of 100,000 with a million entries, on a PostgreSQL that
keeps what it is told, through a server of two workers: what a page costs must not grow with the trial. One client on a
keep-alive connection, then eight who save at once.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import text

from app.foundation import clock
from app.foundation.crypto.keys import create_key_file
from app.reports.measuring import measure
from app.studies.in_use import study_in_use
from benchmarks.clients import CLIENTS, WORKERS, Write, all_at_once, serving
from benchmarks.filling import fill
from benchmarks.randomising import new_database
from benchmarks.run import WARM_UP, Measured, bare_commit, form_fields, measured, page_token, void
from benchmarks.study import ANSWERS, definition
from tests.durability.client import Client
from tests.postgres import server as postgres

SIZES = (1_000, 100_000)
ASSESSMENTS = tuple((f"week{week:02}", 7 * week) for week in range(4, 44, 4))
"""Ten of them; every participant has an entry at the baseline and at all but the last: ten entries each."""
LAST = ASSESSMENTS[-1][0]
SAVES = 600
GOALS = {
    "participant page": 12,
    "entry page": 12,
    "list": 20,
    "list, by queries": 20,
    "Today": 20,
    "autosave": 8,
    "reports": 20,
}
GOAL_SAVES, GOAL_GROWTH = 150, 1.3


def operations(client: Client, cookie: str, token: str, size: int) -> dict[str, Callable[[int], None]]:
    """What one client does, each told which time it is."""
    randomised = size - size // 100
    signed_in = {"Cookie": f"equipoise={cookie}"}

    def ask(path: str) -> None:
        reply = client.get(path, **signed_in)
        assert reply.status == 200, f"{path}: {reply.status} {reply.body[:500]!r}"
        void(reply.body)

    def code(number: int) -> str:
        return f"B-{number * 997 % randomised + 1:06}"

    def keep(number: int) -> None:
        path = f"/bench/participants/{code(number)}/visits/{LAST}/entries/wellbeing/draft"
        reply = client.send(
            "PUT", path, form_fields(token), Content_Type="application/x-www-form-urlencoded", **signed_in
        )
        assert reply.status == 204, f"{path}: {reply.status} {reply.body[:500]!r}"

    found = "/bench/participants?status=randomised&site=east&sort=-screened_on"
    return {
        "participant page": lambda n: ask(f"/bench/participants/{code(n)}"),
        "entry page": lambda n: ask(f"/bench/participants/{code(n)}/visits/week08/entries/wellbeing"),
        "list": lambda _: ask(found),
        "list, by queries": lambda _: ask("/bench/participants?sort=-queries"),
        "Today": lambda _: ask("/bench/today"),
        "reports": lambda _: ask("/bench/reports"),
        "autosave": keep,
    }


def at(size: int, address: str, folder: Path) -> dict[str, Measured]:
    """Fill a database with so many participants and measure everything in it."""
    keys = create_key_file(folder / f"{size}" / "equipoise.key")
    database = new_database(address, f"bench_{size}", keys)
    visits = [("baseline", 0, "baseline"), *((code, day, "assessment") for code, day in ASSESSMENTS)]
    began = time.perf_counter()
    filled = fill(
        database,
        study=definition(visits=visits, participant_digits=6, target=size),
        participants=size,
        waiting=size // 100,
        answered=[code for code, _, _ in visits[:-1]],
        begun_within=600,
    )
    with database.engine.connect() as connection:
        entries = connection.execute(text("SELECT count(*) FROM entry")).scalar_one()
    print(f"\n{size:,} participants, {entries:,} entries: filled in {time.perf_counter() - began:.0f} s", flush=True)
    with database.reading() as session:
        began = time.perf_counter()
        looked_at = measure(session, study_in_use(session, "bench"), now=clock.now()).entries
    print(f"what the data of {looked_at:,} entries look like: {time.perf_counter() - began:.1f} s", flush=True)
    with database.engine.connect() as connection:  # or writing out what was filled in is measured, too
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("CHECKPOINT"))
    with bare_commit(database) as once:
        rows = {"bare INSERT and commit (driver)": measured("", once)}
    database.dispose()
    with serving(database, folder / f"{size}") as (port, _):
        client = Client(port)
        token = page_token(client, filled.cookie, "bench")
        for name, act in operations(client, filled.cookie, token, size).items():
            if name != "reports":
                rows[name] = measured(name, act, goal=GOALS[name])
        rows["save, eight clients"] = saved_at_once(port, filled.token, size, 1)
        # Whoever asks for these first sets a program of lower priority to reading every entry, in each worker.
        rows["reports"] = measured("", reports_of(port, filled.cookie, token, size), goal=GOALS["reports"])
        rows["save, while entries are read"] = saved_at_once(port, filled.token, size, 2)
        rows["reports, later"] = measured("", reports_of(port, filled.cookie, token, size))
    return rows


def reports_of(port: int, cookie: str, token: str, size: int) -> Callable[[int], None]:
    """What a client of its own does: the server closes a connection on which nobody asks."""
    return operations(Client(port), cookie, token, size)["reports"]


def saved_at_once(port: int, token: str, size: int, first: int) -> Measured:
    """What eight clients wait for while they save forms of participants from all over the trial, from this one on."""
    randomised = size - size // 100
    path = "/api/v1/studies/bench/participants/B-{:06}/visits/{}/entries/wellbeing"
    numbers = range(first, randomised, max(2, randomised // (SAVES + WARM_UP)))
    writes = [Write("PUT", path.format(each, LAST), {"values": ANSWERS}) for each in numbers]
    all_at_once(port, token, writes[:WARM_UP])  # as with pages: each worker reads the study and the form once
    done = all_at_once(port, token, writes[WARM_UP:])
    rate = f"{done.rate:.0f}/s (goal {GOAL_SAVES}), {len(done.errors)} errors in {len(done.took)}"
    print(f"{CLIENTS} clients save 30 items each, {WORKERS} workers: {rate}", *done.errors[:3], sep="\n  ", flush=True)
    return Measured("", statistics.median(done.took), statistics.quantiles(done.took, n=20)[-1])


def main(sizes: tuple[int, ...] = SIZES) -> None:
    """Measure at every size, and print them side by side."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores when it began")
    folder = Path(tempfile.mkdtemp(prefix="equipoise-bench-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        address = stack.enter_context(postgres(durable=True))
        for size in sizes:
            (folder / f"{size}").mkdir()
        found = {size: at(size, address, folder) for size in sizes}
    print(f"\nload {os.getloadavg()[0]:.1f} when it was done")
    columns = " | ".join(f"{size:,}" for size in sizes)
    print(f"\n| median (p95) ms | {columns} | goal | last / first (goal {GOAL_GROWTH}) |")
    print("|---|" + "---|" * (len(sizes) + 2))
    for name in found[sizes[0]]:
        rows = [found[size][name] for size in sizes]
        said = " | ".join(f"{row.median:.2f} ({row.p95:.2f})" for row in rows)
        print(f"| {name} | {said} | {GOALS.get(name, '')} | {rows[-1].median / rows[0].median:.2f} |")


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)
