"""Measure: python -m benchmarks.randomising [PEOPLE].

Randomises 10,000 participants (or PEOPLE) over HTTP with eight clients, each a process of its own, all on one stratum
of a PostgreSQL that keeps what it is told, through a server of two workers. Then draws and seals a list of 100,000
slots, and checks 100,000 allocations with the program that imports nothing of ours. Beside the times stands that of a
bare INSERT and commit on the same database, and the processor's: on a machine that others use, too, the rate says how
much of it was left to us, and the processor's milliseconds say what an allocation costs.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from app.audit.tree import FullTree
from app.foundation.crypto.keys import Keyring, create_key_file
from app.foundation.database import Database
from app.installation import migrate
from app.people.access import Actor, Grant
from app.people.permissions import Role
from app.randomisation import commitment, sequence
from app.randomisation.actions import draw, seal
from app.randomisation.sealing import new_salt_key, new_seed
from app.randomisation.sequence import RECIPE
from app.studies.in_use import study_in_use
from benchmarks.filling import fill
from benchmarks.run import bare_commit, measured
from benchmarks.study import definition
from tests.durability.client import Client
from tests.durability.serving import ROOT, environment_of, free_port
from tests.postgres import server as postgres

CLIENTS, WORKERS, PEOPLE = 8, 2, 10_000
SLOTS = 100_000
GOAL_PER_SECOND, GOAL_P95, GOAL_SEALED, GOAL_VERIFIED = 150, 80, 5, 10
ONE_STRATUM = {"method": "permuted_blocks", "strata": []}


def new_database(address: str, name: str, keys: Keyring) -> Database:
    """A migrated database on this server."""
    with create_engine(address.format(name="postgres"), isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    database = Database(address.format(name=name), keys)
    migrate(database)
    return database


def ask() -> None:
    """One client: randomise everybody of the job on standard input; says how long each took, and what went wrong."""
    job = json.loads(sys.stdin.readline())
    client = Client(job["port"], token=job["token"])
    client.get("/healthz")
    print("ready", flush=True)
    sys.stdin.readline()  # all begin together
    took, errors = [], []
    for code in job["codes"]:
        path = f"/api/v1/studies/bench/participants/{code}/randomise"
        began = time.perf_counter()
        try:
            reply = client.post_json(path, {}, Idempotency_Key=f"randomise-{code}")
            if reply.status != 201:
                errors.append(f"{code}: {reply.status} {reply.body[:200]!r}")
        except OSError as lost:
            errors.append(f"{code}: {lost}")
        took.append((time.perf_counter() - began) * 1000)
    print(json.dumps({"took": took, "errors": errors}), flush=True)


@contextmanager
def serving(database: Database, folder: Path) -> Iterator[tuple[int, int]]:
    """`equipoise serve --workers 2` on this database; its port and process, once it answers."""
    port = free_port()
    arguments = ["serve", "--workers", str(WORKERS), "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *arguments],
            cwd=ROOT,
            env=environment_of(database.url, folder),
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(600):
            try:
                Client(port, timeout=5).get("/healthz")
                break
            except OSError:
                time.sleep(0.05)
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


def randomise(port: int, token: str, people: int) -> tuple[float, list[float], list[str]]:
    """Seconds that eight clients take together, milliseconds of each request, and every error."""
    codes = [f"B-{number:05}" for number in range(1, people + 1)]
    clients = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.randomising", "ask"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(CLIENTS)
    ]
    for number, client in enumerate(clients):
        _say(client, json.dumps({"port": port, "token": token, "codes": codes[number::CLIENTS]}))
    for client in clients:
        assert _heard(client) == "ready"
    began = time.perf_counter()
    for client in clients:
        _say(client, "go")
    said = [json.loads(_heard(client)) for client in clients]
    seconds = time.perf_counter() - began
    for client in clients:
        client.wait(10)
    return seconds, [each for one in said for each in one["took"]], [each for one in said for each in one["errors"]]


def _say(client: subprocess.Popen[str], line: str) -> None:
    assert client.stdin is not None
    client.stdin.write(line + "\n")
    client.stdin.flush()


def _heard(client: subprocess.Popen[str]) -> str:
    assert client.stdout is not None
    return client.stdout.readline().strip()


def sealed(database: Database) -> tuple[float, float]:
    """Seconds to draw, seal and store a list of 100,000 slots, and to put it in use, commits included."""
    now = datetime.now(UTC)
    with database.writing() as session:
        study = study_in_use(session, "bench")
        by = Actor(0, "statistician", "S", "Ours", (Grant(Role.STATISTICIAN, None),), study.id)
    began = time.perf_counter()
    with database.writing() as session:
        plan: dict[str, Any] = {"block_sizes": [4, 6, 8], "slots_per_stratum": SLOTS}
        drawn = draw(session, study, method="permuted_blocks", **plan, by=by, now=now)
    middle = time.perf_counter()
    with database.writing() as session:
        seal(session, study, drawn.id or 0, by=by, now=now)
    return middle - began, time.perf_counter() - middle


def verified(folder: Path) -> tuple[float, str]:
    """Seconds that scripts/verify_allocation.py takes for 100,000 allocations and the opened plan; what it says."""
    arms, seed, salt_key = (("active", 1), ("sham", 1)), new_seed(), new_salt_key()
    options: dict[str, object] = {"block_sizes": [4, 6, 8]}
    listed = sequence.draw("permuted_blocks", arms, ("all",), SLOTS, options, seed, study="bench", list_version=1)
    slots = listed.slots["all"]
    salts = [commitment.salt_of(salt_key, "all", place) for place in range(1, len(slots) + 1)]
    leaves = [
        commitment.slot_leaf("bench", 1, "all", place, arm, salt)
        for place, (arm, salt) in enumerate(zip(slots, salts, strict=True), start=1)
    ]
    tree = FullTree(leaves)
    plan = commitment.opened_plan(
        study="bench",
        version=1,
        method="permuted_blocks",
        arms=arms,
        strata={"all": len(slots)},
        slots_per_stratum=SLOTS,
        options=options,
        seed=seed,
        salt_key=salt_key,
    )
    certificate = {
        "format": "equipoise-sealing-certificate-1",
        "study": "bench",
        "list_version": 1,
        "method": "permuted_blocks",
        "recipe": RECIPE,
        "slots": len(slots),
        "strata": {"all": len(slots)},
        "root": tree.root().hex(),
        "plan_commitment": commitment.plan_commitment(plan),
    }
    now = datetime(2026, 3, 2, tzinfo=UTC)
    with (folder / "proofs.ndjson").open("w") as file:
        for index in range(SLOTS):
            proof = {
                "number": index + 1,
                "participant": f"B-{index + 1:06}",
                "allocated_at": (now + timedelta(seconds=index)).isoformat(),
                "stratum": "all",
                "position": index + 1,
                "arm": slots[index],
                "salt": salts[index].hex(),
                "path": [each.hex() for each in tree.inclusion_proof(index)],
            }
            file.write(json.dumps(proof) + "\n")
    (folder / "certificate.json").write_text(json.dumps(certificate))
    (folder / "plan.json").write_text(json.dumps(plan))
    names = [str(folder / name) for name in ("certificate.json", "proofs.ndjson", "plan.json")]
    began = time.perf_counter()
    said = subprocess.run(
        [sys.executable, "-I", str(ROOT / "scripts" / "verify_allocation.py"), *names],
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - began, said.stdout.strip()


def main(people: int = PEOPLE) -> None:
    """Measure everything, and print it beside the goals."""
    folder = Path(tempfile.mkdtemp(prefix="equipoise-bench-"))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores when it began")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        address = stack.enter_context(postgres(durable=True))
        keys = create_key_file(folder / "equipoise.key")
        database = new_database(address, "bench", keys)
        study = definition(allocation=ONE_STRATUM)
        filled = fill(database, study=study, participants=people, waiting=people, slots=people)
        with bare_commit(database) as once:
            bare = measured("bare INSERT and commit (driver)", once)
        database.dispose()
        with serving(database, folder) as (port, process):
            before = processor(process, "bench")
            seconds, took, errors = randomise(port, filled.token, people)
            after = processor(process, "bench")
        p95 = statistics.quantiles(took, n=20)[-1]
        rate = (len(took) - len(errors)) / seconds
        print(f"load {os.getloadavg()[0]:.1f} when it was done\n")
        print(f"bare INSERT and commit (driver): median {bare.median:.2f} ms, p95 {bare.p95:.2f} ms")
        print(
            f"randomise over HTTP, {CLIENTS} clients, one stratum, PostgreSQL with fsync, {WORKERS} workers: "
            f"{rate:.0f}/s (goal {GOAL_PER_SECOND}), one in the time of {1000 / rate / bare.median:.1f} bare commits; "
            f"median {statistics.median(took):.1f} ms, p95 {p95:.1f} ms (goal {GOAL_P95}); "
            f"{len(errors)} errors in {len(took):,} (goal 0)"
        )
        cost = {whose: (after[whose] - before[whose]) / people * 1000 for whose in after}
        print("processor, each: " + ", ".join(f"{whose} {spent:.1f} ms" for whose, spent in cost.items()))
        for error in errors[:5]:
            print(f"  {error}")
        empty = new_database(address, "empty", keys)
        fill(empty, study=study, participants=1, waiting=1, slots=4)
        drawn, put_in_use = sealed(empty)
        empty.dispose()
        print(
            f"draw and seal {SLOTS:,} slots: {drawn:.1f} s, put in use: {put_in_use:.1f} s (goal {GOAL_SEALED}), "
            f"{(drawn + put_in_use) / SLOTS * 1000 / bare.median:.3f} bare commits a slot"
        )
        checked, said = verified(folder)
        print(f"verify {SLOTS:,} allocations: {checked:.1f} s (goal {GOAL_VERIFIED}). {said}")


if __name__ == "__main__":
    ask() if sys.argv[1:] == ["ask"] else main(*map(int, sys.argv[1:]))
