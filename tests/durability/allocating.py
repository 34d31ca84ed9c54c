"""Two trials to randomise in at once, eight processes that do, and the judge of what must hold afterwards.

One trial has a list of permuted blocks that ends before everybody has a slot, the other decides by minimisation.
"""

import json
import random
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT
from app.audit.verify import logs, verify
from app.foundation import clock
from app.foundation.database import Database
from app.people.access import Actor
from app.people.permissions import Permission
from app.randomisation import reads
from app.randomisation.actions import close, draw, open_plan, seal
from app.randomisation.rules import NOT_OPEN
from app.studies.in_use import StudyInUse
from tests.capture.records import consented
from tests.conftest import ROOT
from tests.durability.serving import Workers
from tests.durability.world import check_slots, token_of, with_baseline
from tests.factories import mini_study, person

CLIENTS = 8
PEOPLE = ("first", "second")  # each is four of the clients
SMALL = {"sites": 16, "slots": 2, "waiting": 5}  # of permuted blocks: lists that end while all eight ask
SITE = {"code": "site", "label": "Site", "by": "site"}
SEVERITY = {
    "code": "severity",
    "label": "Severity",
    "by": "expression",
    "expression": "if([baseline][pain_nrs] >= 6, 'high', 'low')",
    "levels": [{"code": "low", "label": "Low"}, {"code": "high", "label": "High"}],
}


@dataclass(frozen=True)
class Allocating:
    """One of the trials: who waits for an arm, how many will get one, the list, and the program that checks it."""

    study: StudyInUse
    waiting: tuple[str, ...]
    slots: int
    sequence_id: int
    statistician: Actor
    tokens: Mapping[str, str]
    verifier: str


def blocks(session: Session, code: str = "blocks") -> Allocating:
    """Permuted blocks, one short list for each of sixteen sites; three people at every site come too late."""
    return _trial(
        session,
        code,
        {"method": "permuted_blocks", "strata": [SITE]},
        {"block_sizes": [SMALL["slots"]], "slots_per_stratum": SMALL["slots"]},
        sites=SMALL["sites"],
        waiting=SMALL["sites"] * SMALL["waiting"],
        slots=SMALL["sites"] * SMALL["slots"],
        verifier="verify_allocation.py",
    )


def minimised(session: Session, code: str = "minimised") -> Allocating:
    """Minimisation by site and severity: one stratum, whose sealed counts every allocation needs and changes."""
    return _trial(
        session,
        code,
        {"method": "minimisation", "strata": [SITE, SEVERITY]},
        {"options": {"measure": "range", "probability": "4/5"}},
        sites=2,
        waiting=64,
        slots=64,
        verifier="verify_draws.py",
    )


def _trial(
    session: Session,
    code: str,
    allocation: dict[str, object],
    plan: dict[str, Any],
    *,
    sites: int,
    waiting: int,
    slots: int,
    verifier: str,
) -> Allocating:
    places = [f"site{number}" for number in range(sites)]
    study = mini_study(
        session,
        code=code,
        participant_prefix=f"{code[0].upper()}-",
        allocation=allocation,
        sites=[{"code": place, "name": place.title(), "timezone": "Europe/Zurich"} for place in places],
    )
    statistician = person(session, study, "statistician")
    now = clock.now()
    drawn = draw(session, study, method=str(allocation["method"]), **plan, by=statistician, now=now)
    assert drawn.id is not None
    seal(session, study, drawn.id, by=statistician, now=now)
    codes = tuple(f"{code[0].upper()}-{number:03}" for number in range(1, waiting + 1))
    for number, each in enumerate(codes):
        # Site after site, as they are asked for.
        made = consented(session, study, each, site_code=places[number * sites // waiting], status="consented")
        with_baseline(session, study, made, pain=3 + number % 5)
    tokens = {
        who: token_of(session, study, "coordinator", Permission.PARTICIPANT_RANDOMISE, name=who, sites=places)
        for who in PEOPLE
    }
    return Allocating(study, codes, slots, drawn.id, statistician, tokens, verifier)


# What the eight ask


def jobs_for(trials: Sequence[Allocating], chance: random.Random, port: int) -> list[dict[str, Any]]:
    """What each process asks: everybody twice under one key, by two processes of one person; some by the other, too."""
    asked: list[list[tuple[str, str, str]]] = [[] for _ in range(CLIENTS)]
    for trial in trials:
        # The order of codes, so that all eight want the slots of one stratum at one time.
        for number, code in enumerate(trial.waiting):
            whose = chance.randrange(2)
            request = (trial.study.code, code, f"{trial.study.code} {code}")
            mine, theirs = ([each for each in range(CLIENTS) if each % 2 == who] for who in (whose, 1 - whose))
            for client in chance.sample(mine, 2):
                asked[client].append(request)
            if number % 3 == 0:
                asked[chance.choice(theirs)].append(request)
    return [
        {
            "port": port,
            "seed": chance.random(),
            "who": PEOPLE[client % 2],
            "tokens": {trial.study.code: trial.tokens[PEOPLE[client % 2]] for trial in trials},
            "requests": requests,
        }
        for client, requests in enumerate(asked)
    ]


Answers = list[dict[str, Any]]


def storm(database: Database, data: Path, trials: Sequence[Allocating], *, seed: int, kills: Sequence[int]) -> Answers:
    """Let eight processes randomise everybody through two servers; every answer, lost ones (status 0) too.

    `kills` are how many servers are killed at each of as many moments, which are drawn from the seed. In one server of
    two nobody stands in line for a stratum: the lock of its row is what keeps slots one after the other.
    """
    workers = Workers(database.url, data, count=2, mutants=[[], ["without_the_line"]])
    return play(workers, trials, seed=seed, kills=kills)


def play(workers: Workers, trials: Sequence[Allocating], *, seed: int, kills: Sequence[int] = ()) -> Answers:
    """As `storm`, with servers that run already; they are ended."""
    chance = random.Random(seed)
    jobs = jobs_for(trials, chance, workers.port)
    expected = sum(len(job["requests"]) for job in jobs)
    moments = sorted(chance.sample(range(expected // 10, expected * 3 // 4), len(kills)))
    said: Queue[dict[str, Any] | None] = Queue()
    clients = [_client(job, said) for job in jobs]
    answers: Answers = []
    heard = ended = killed = 0
    try:
        while ended < CLIENTS:
            try:
                answer = said.get(timeout=5)
            except Empty:
                workers.require_running()
                continue
            if answer is None:
                ended += 1
                continue
            answers.append(answer)
            heard += answer.get("heard", False)
            if killed < len(kills) and heard >= moments[killed]:
                workers.kill(kills[killed])
                killed += 1
    finally:
        workers.end()
        for client in clients:
            client.kill()
            client.wait(10)
    assert killed == len(kills)
    assert heard == expected, f"{heard} of {expected} answers were heard. {workers.log.read_text()[-2000:]}"
    return answers


def _client(job: dict[str, Any], said: Queue[dict[str, Any] | None]) -> subprocess.Popen[str]:
    client = subprocess.Popen(
        [sys.executable, "-m", "tests.durability.client"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None
    client.stdin.write(json.dumps(job) + "\n")
    client.stdin.close()

    def listen() -> None:
        assert client.stdout is not None
        with client.stdout:
            for line in client.stdout:
                said.put(json.loads(line))
        said.put(None)

    threading.Thread(target=listen, daemon=True).start()
    return client


# What must hold


def faults(database: Database, trial: Allocating, answers: Answers) -> list[str]:
    """Everything that is wrong with one trial: what was answered, and what the database holds (REL-1 to REL-6)."""
    mine = [answer for answer in answers if answer["study"] == trial.study.code and answer["status"]]
    numbers: dict[str, set[int]] = defaultdict(set)
    people: dict[str, set[str]] = defaultdict(set)
    found = []
    for answer in mine:
        if answer["status"] == 201:
            numbers[answer["code"]].add(answer["number"])
            people[answer["code"]].add(answer["who"])
        elif answer["status"] != 409 or not _is_told(answer["detail"]):
            found.append(f"{answer['code']}: answered {answer['status']} {answer['detail']}")
    found += [f"{code}: the numbers {said} were acknowledged" for code, said in numbers.items() if len(said) > 1]
    found += [f"{code}: {' and '.join(who)} were both told it" for code, who in people.items() if len(who) > 1]
    with database.reading() as session:
        found += _stored_faults(session, trial, {code: min(said) for code, said in numbers.items()})
    return found


def _is_told(detail: str) -> bool:
    """Whether a refusal is one that belongs here: they have a slot already, or there is none left."""
    return "already randomised" in detail or detail == NOT_OPEN


def _stored_faults(session: Session, trial: Allocating, acknowledged: Mapping[str, int]) -> Iterator[str]:
    study = trial.study
    try:
        stored = check_slots(session, study.id)
    except AssertionError as fault:
        yield str(fault)
        return
    lost = {code: number for code, number in acknowledged.items() if stored.get(code) != number}
    if lost:
        yield f"acknowledged, and not there with that number: {lost}"
    if unasked := stored.keys() - acknowledged.keys():
        yield f"there, and nobody was ever told: {unasked}"
    if len(stored) != trial.slots:
        yield f"{len(stored)} have a slot, and there are {trial.slots}"
    logged = session.execute(
        select(AUDIT.c.participant)
        .where(AUDIT.c.log == study.code, AUDIT.c.action == "participant.randomised")
        .order_by(AUDIT.c.position)
    ).scalars()
    if list(logged) != sorted(stored, key=lambda code: stored[code]):
        yield "the log tells of others, or in another order"
    for log in logs(session):
        yield from (f"{log}: {fault}" for fault in verify(session, log).faults)


def verified_outside(database: Database, trial: Allocating, folder: Path) -> str:
    """Close the list and let the program that knows nothing of us check every allocation; what it says.

    Of minimisation it draws every decision again, one after the other: a state that was lost or read twice shows.
    """
    study, by, now = trial.study, trial.statistician, clock.now()
    with database.writing() as session:
        certificate = reads.certificate(session, study, trial.sequence_id, by=by)
        close(session, study, trial.sequence_id, why="The target is reached", by=by, now=now)
        plan = open_plan(session, study, trial.sequence_id, by=by, now=now)
        proofs = b"".join(reads.proofs_file(session, study, trial.sequence_id, by=by, why="Audit", now=now)).decode()
        closed = select(AUDIT.c.new).where(AUDIT.c.log == study.code, AUDIT.c.action == "sequence.closed")
        root = json.loads(session.execute(closed).scalar_one() or "null")
    names = ("certificate.json", "proofs.ndjson", "plan.json")
    paths = [folder / f"{study.code}-{name}" for name in names]
    for path, content in zip(paths, (json.dumps(certificate), proofs, json.dumps(plan)), strict=True):
        path.write_text(content, encoding="utf-8")
    command = [sys.executable, "-I", str(ROOT / "scripts" / trial.verifier), *map(str, paths)]
    if root:
        command.append(root["root"])
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return f"{said.returncode}: {said.stdout.strip()} {said.stderr.strip()}".strip()
