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
from contextlib import ExitStack
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
from benchmarks.clients import CLIENTS, WORKERS, Write, all_at_once, processor, serving
from benchmarks.filling import fill
from benchmarks.run import bare_commit, measured
from benchmarks.study import definition
from tests.durability.serving import ROOT
from tests.postgres import server as postgres

PEOPLE = 10_000
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
    proofs = [
        {
            "number": index + 1,
            "participant": f"B-{index + 1:06}",
            "allocated_at": (now + timedelta(seconds=index)).isoformat(),
            "stratum": "all",
            "position": index + 1,
            "arm": slots[index],
            "salt": salts[index].hex(),
            "path": [each.hex() for each in tree.inclusion_proof(index)],
        }
        for index in range(SLOTS)
    ]
    told = commitment.canonical(certificate)
    lines = commitment.closed([commitment.canonical(each) for each in proofs], told.decode())
    (folder / "proofs.ndjson").write_bytes(b"".join(lines))
    (folder / "certificate.json").write_bytes(told)
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
            path = "/api/v1/studies/bench/participants/B-{:05}/randomise"
            writes = [Write("POST", path.format(number), {}) for number in range(1, people + 1)]
            done = all_at_once(port, filled.token, writes)
            after = processor(process, "bench")
        took, errors, rate = done.took, done.errors, done.rate
        p95 = statistics.quantiles(took, n=20)[-1]
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
    main(*map(int, sys.argv[1:]))
