"""A trial to kill a server in: its people's tokens, its participants; and the checker of what must hold afterwards."""

import base64
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT
from app.audit.verify import logs, verify
from app.capture.models import Entry
from app.capture.reads import entry_of
from app.foundation import clock
from app.foundation.crypto.keys import HEADER
from app.foundation.database import Database, table_of
from app.participants.models import Participant
from app.people.actions import create_token
from app.people.permissions import Permission
from app.randomisation.models import Allocation, AllocationSequence, Slot, Stratum
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord
from tests.capture.records import consented
from tests.factories import mini_study, person
from tests.randomisation.world import sealed

ROOT_KEY = bytes(range(32))  # that of tests.conftest.KEYS
SITES = ("north", "south")
ALLOCATION, SLOT, STRATUM = table_of(Allocation), table_of(Slot), table_of(Stratum)
SEQUENCE = table_of(AllocationSequence)
PARTICIPANT, STUDY = table_of(Participant), table_of(StudyRecord)
ANSWERS = {"age": 44, "pain_screen": 6, "surgery": False}


@dataclass
class History:
    """What the clients were told. Only one thread adds to each key."""

    saved: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """By participant: the values of every acknowledged save, in order."""
    allocated: dict[str, int] = field(default_factory=dict)
    """By participant: the number that was acknowledged."""
    screened: list[str] = field(default_factory=list)
    """The codes that were acknowledged."""
    replayed: list[str] = field(default_factory=list)
    """Requests that were answered from their key: they had been carried out, and the reply was lost."""

    @property
    def acknowledged(self) -> int:
        return sum(map(len, self.saved.values())) + len(self.allocated) + len(self.screened)


@dataclass(frozen=True)
class World:
    """The study as the clients know it: codes by what is done with them, and tokens."""

    study: StudyInUse
    filled: tuple[str, ...]
    ready: tuple[str, ...]
    tokens: dict[str, str]


def write_key(data: Path) -> None:
    """The key file that belongs to the databases of these tests."""
    (data / "equipoise.key").write_text(HEADER + base64.b64encode(ROOT_KEY).decode() + "\n")


def build(database: Database, *, filled: int, ready: int) -> World:
    """The small trial with a sealed list, randomised participants to fill in forms for, and others ready for an arm."""
    with database.writing() as session:
        study = mini_study(session)
        sealed(session, study, slots=ready)
        codes = []
        for number in range(1, filled + ready + 1):
            code = f"M-{number:03}"
            status = "randomised" if number <= filled else "consented"
            made = consented(session, study, code, site_code=SITES[number % 2], status=status)
            codes.append(code)
            if number > filled:
                with_baseline(session, study, made)
        session.execute(STUDY.update().where(STUDY.c.id == study.id).values(last_participant=len(codes)))
        tokens = {
            "assessor": token_of(session, study, "assessor", Permission.ENTRY_SAVE, Permission.ENTRY_READ),
            "first": token_of(session, study, "coordinator", Permission.PARTICIPANT_RANDOMISE, name="first"),
            "second": token_of(session, study, "coordinator", Permission.PARTICIPANT_RANDOMISE, name="second"),
            "screener": token_of(session, study, "coordinator", Permission.PARTICIPANT_SCREEN, name="screener"),
        }
    return World(study, tuple(codes[:filled]), tuple(codes[filled:]), tokens)


def with_baseline(session: Session, study: StudyInUse, participant: Participant, *, pain: int = 5) -> None:
    """The baseline entry of a participant, which is all they lacked."""
    now = clock.now()
    session.execute(
        insert(table_of(Entry)).values(
            study_id=study.id,
            participant_id=participant.id,
            visit="baseline",
            instrument="pain",
            study_version_id=study.version_id,
            status="complete",
            version=1,
            values=json.dumps({"pain_nrs": pain, "pain_days": 3}),
            reasons="{}",
            created_at=now,
            created_by="test",
            saved_at=now,
            saved_by="test",
        )
    )


def token_of(
    session: Session,
    study: StudyInUse,
    role: str,
    *scopes: Permission,
    name: str = "",
    sites: Sequence[str] = SITES,
) -> str:
    """A token of somebody with this role at these sites."""
    for site in sites:
        actor = person(session, study, role, site_code=site, username=name or role)
    now = clock.now()
    _, text = create_token(
        session,
        person_id=actor.person_id,
        study_id=study.id,
        log=study.code,
        name=role,
        scopes=[*scopes, Permission.PARTICIPANT_READ],
        expires_at=now + timedelta(days=1),
        by=actor,
        now=now,
    )
    return text


def check_slots(session: Session, study_id: int) -> dict[str, int]:
    """One slot one participant, prefixes without a gap, consecutive numbers (REL-1, REL-2). Participant -> number."""
    rows = session.execute(
        select(ALLOCATION.c.number, ALLOCATION.c.slot_id, SLOT.c.position, SLOT.c.stratum_id, PARTICIPANT.c.code)
        .join(SLOT, SLOT.c.id == ALLOCATION.c.slot_id)
        .join(PARTICIPANT, PARTICIPANT.c.id == ALLOCATION.c.participant_id)
        .where(ALLOCATION.c.study_id == study_id)
        .order_by(ALLOCATION.c.number)
    ).all()
    assert [row.number for row in rows] == list(range(1, len(rows) + 1)), "numbers are not consecutive"
    assert len({row.code for row in rows}) == len(rows), "a participant has two slots"
    assert len({row.slot_id for row in rows}) == len(rows), "a slot is used twice"
    positions = defaultdict(list)
    for row in rows:
        positions[row.stratum_id].append(row.position)
    counters = select(STRATUM.c.id, STRATUM.c.used).join(SEQUENCE).where(SEQUENCE.c.study_id == study_id)
    used = {row.id: row.used for row in session.execute(counters)}
    for taken in positions.values():
        assert taken == list(range(1, len(taken) + 1)), "slots were not used in order, or one was skipped"
    assert used == {stratum: len(positions[stratum]) for stratum in used}, "a counter is not what was used"
    return {row.code: row.number for row in rows}


def check(database: Database, world: World, history: History) -> None:
    """Everything that was acknowledged is there once, and nothing else is (REL-1 to REL-6, LOG-4)."""
    study = world.study
    with database.reading() as session:
        log = session.execute(select(AUDIT).where(AUDIT.c.log == study.code).order_by(AUDIT.c.position)).all()
        for name in logs(session):
            assert verify(session, name).faults == [], "the log is not whole"
        assert check_slots(session, study.id) == history.allocated, "allocations are not those acknowledged"
        _check_partial(session, world, log)
        _check_screenings(session, world, history, log)
        for code in world.filled:
            _check_entry(session, code, history.saved[code], log)


def _check_partial(session: Session, world: World, log: Any) -> None:
    """Allocation, status and log stand or fall together (REL-5)."""
    statuses = session.execute(
        select(PARTICIPANT.c.code, PARTICIPANT.c.status, ALLOCATION.c.number)
        .outerjoin(ALLOCATION, ALLOCATION.c.participant_id == PARTICIPANT.c.id)
        .where(PARTICIPANT.c.code.in_(world.ready))
    ).all()
    logged = [entry.participant for entry in log if entry.action == "participant.randomised"]
    for row in statuses:
        assert (row.status == "randomised") == (row.number is not None), f"{row.code}: status without allocation"
        assert logged.count(row.code) == (row.number is not None), f"{row.code}: the log does not agree"
    by_number = sorted((row.number, row.code) for row in statuses if row.number)
    assert logged == [code for _, code in by_number], "the log tells another order"


def _check_screenings(session: Session, world: World, history: History, log: Any) -> None:
    before = {*world.filled, *world.ready}
    codes = set(session.execute(select(PARTICIPANT.c.code)).scalars()) - before
    assert codes == set(history.screened), "somebody was screened twice, or is lost"
    assert len(set(history.screened)) == len(history.screened), "two were given one code"
    last = session.execute(select(STUDY.c.last_participant)).scalar_one()
    assert last == len(before) + len(codes), "a participant's number was lost"
    logged = {entry.participant for entry in log if entry.action == "participant.screened"}
    assert codes <= logged, "a screening is not in the log"


def _check_entry(session: Session, code: str, saved: list[dict[str, Any]], log: Any) -> None:
    """The last acknowledged values stand, and the log holds each of them once, in order."""
    row = session.execute(select(PARTICIPANT.c.id).where(PARTICIPANT.c.code == code)).scalar_one()
    entry = entry_of(session, row, "week18", "pain")
    if not saved:
        assert entry is None, f"{code}: nobody saved this"
        return
    assert entry is not None, f"{code}: an acknowledged entry is lost"
    assert entry.values == saved[-1], f"{code}: other values than acknowledged"
    assert entry.version == len(saved), f"{code}: saved {entry.version} times, acknowledged {len(saved)} times"
    notes = [
        json.loads(line.new)
        for line in log
        if line.participant == code and line.item == "pain_note" and line.new is not None
    ]
    assert notes == [values["pain_note"] for values in saved], f"{code}: the log does not hold each save once"
