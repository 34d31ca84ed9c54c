"""Somebody has the whole database and not the key: can they learn an arm? And does any row depend on one?"""

import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, inspect, select, text
from sqlmodel import Session, SQLModel

from app.foundation.crypto.envelopes import CannotOpen
from app.foundation.database import Database, keys_of, table_of
from app.people.permissions import Role
from app.randomisation.actions import draw, randomise, seal
from app.randomisation.models import Slot, Stratum
from app.randomisation.opening import open_envelope
from app.randomisation.reads import gates_of
from app.randomisation.sealing import Place, unseal_arm
from app.randomisation.unblinding.actions import unblind
from app.schedule.models import ParticipantVisit
from app.studies.in_use import StudyInUse
from app.treatment.actions import record_session
from tests.conftest import KEYS
from tests.randomisation.small import definition
from tests.randomisation.world import NOW, actor, participant, study_of

ARMS = ("graded_sensorimotor", "sham")
#: Without "sham": sealed text in base64 spells so short a word by chance. A leak would name the other arm as well.
WORDS = (ARMS[0], "Graded sensorimotor retraining", "Sham devices", "laser", "loading", "ultrasonic_note")
PEOPLE = 8
LATER = NOW + timedelta(days=8)


def play(session: Session, arms: list[str]) -> StudyInUse:
    """A trial from the uploaded list to treated participants; the arms are all that differs between two plays."""
    study = study_of(session, definition(allocation={"method": "list"}))
    listing = "position,arm\n" + "\n".join(f"{position},{arm}" for position, arm in enumerate(arms, start=1))
    statistician = actor(session, study, Role.STATISTICIAN)
    drawn = draw(session, study, method="list", listing=listing, by=statistician, now=NOW)
    assert drawn.id is not None
    seal(session, study, drawn.id, by=statistician, now=NOW)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    clinician = actor(session, study, Role.CLINICIAN, "SYD")
    doctor = actor(session, study, Role.INVESTIGATOR, "SYD")
    for number in range(1, PEOPLE + 1):
        person = participant(session, study, number)
        gates_of(session, study, person, by=coordinator, now=NOW)
        randomise(session, study, person, by=coordinator, now=NOW)
        arm = open_envelope(session, study, person, by=clinician, why="Treatment", now=NOW)
        session.refresh(person)
        said = {"reason": "overdose", "why": "Took too much", "asked_by": "The ward"}
        assert unblind(session, study, person, **said, prove=lambda: None, by=doctor, now=NOW).arm == arm
        delivered = {"minutes": 30, "device": "a", "note": f"ultrasonic_note {arm}"}
        record_session(
            session,
            study,
            person,
            visit="session1",
            held_on=date(2026, 3, 22),
            delivered={"laser" if arm == "sham" else "loading": delivered},
            base_version=0,
            by=clinician,
            now=LATER,
        )
    return study


def rows_of(session: Session) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that the database has."""
    there = set(inspect(session.connection()).get_table_names())
    return {
        table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key.columns))]
        for table in SQLModel.metadata.sorted_tables
        if table.name in there
    }


def shape(value: Any) -> Any:
    """A value as far as it may be the same in two worlds: sealed and hashed bytes by their length."""
    if isinstance(value, bytes | memoryview):
        return len(bytes(value))
    if isinstance(value, str) and len(value) > 60:
        return len(value)
    return value


@pytest.mark.requirement("CONC-1", "CONC-11")
def test_a_copy_of_the_database_names_no_arm(database: Database, tmp_path: Path):
    with database.writing() as session:
        play(session, [*ARMS] * (PEOPLE // 2))
    with database.reading() as session:
        found = [
            (table, word)
            for table, rows in rows_of(session).items()
            for row in rows
            for value in row
            for word in WORDS
            if word.encode() in (bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode())
        ]
    assert found == []
    for file in tmp_path.glob("equipoise.db*"):
        content = file.read_bytes()
        assert [word for word in WORDS if word.encode() in content] == [], file.name


@pytest.mark.requirement("CONC-1", "CONC-7", "E6-1", "EMA-8")
def test_two_worlds_that_differ_in_the_arms_only_have_the_same_rows(templates: Any, tmp_path: Path):
    worlds = []
    for name, arms in (("one", [*ARMS] * 4), ("other", [*reversed(ARMS)] * 4), ("third", [ARMS[1]] * 8)):
        path = tmp_path / f"{name}.db"
        shutil.copy(templates("sqlite").url.database, path)
        database = Database(f"sqlite:///{path}", KEYS)
        with database.writing() as session:
            play(session, arms)
        with database.reading() as session:
            worlds.append(
                {
                    table: [tuple(shape(value) for value in row) for row in rows]
                    for table, rows in rows_of(session).items()
                }
            )
        database.dispose()
    assert worlds[0] == worlds[1] == worlds[2]


@pytest.mark.requirement("CONC-3")
def test_rows_that_were_swapped_do_not_open(session: Session):
    study = play(session, [*ARMS] * (PEOPLE // 2))
    slot, stratum = table_of(Slot), table_of(Stratum)
    rows = session.execute(select(slot, stratum.c.sequence_id).join(stratum).order_by(slot.c.position)).all()
    first, second = rows[0], rows[1]
    place = Place(study.id, first.sequence_id, 1, "all", first.position)
    assert unseal_arm(keys_of(session), place, bytes(first.envelope)) == ARMS[0]
    with pytest.raises(CannotOpen) as caught:
        unseal_arm(keys_of(session), place, bytes(second.envelope))
    assert not any(arm in str(caught.value) for arm in ARMS)


@pytest.mark.requirement("CONC-4", "CONC-5")
def test_rows_stand_in_the_order_of_positions_and_nothing_tells_a_block(session: Session):
    play(session, [*ARMS] * (PEOPLE // 2))
    slot = table_of(Slot)
    rows = session.execute(select(slot.c.id, slot.c.position).order_by(slot.c.id)).all()
    assert [row.position for row in rows] == list(range(1, PEOPLE + 1))
    assert {column.name for column in slot.columns} == {"id", "stratum_id", "position", "envelope", "leaf", "levels"}
    assert set(session.execute(select(slot.c.levels)).scalars()) == {None}  # of minimisation: what a person answered
    leaves = session.execute(select(slot.c.leaf)).scalars().all()
    assert {len(leaf) for leaf in leaves} == {32}  # salted: no two alike, whatever arm they commit to
    assert len(set(leaves)) == PEOPLE


@pytest.mark.requirement("CONC-6", "E6-23")
def test_allocation_numbers_count_participants_and_not_arms(session: Session):
    play(session, [ARMS[0]] * 4 + [ARMS[1]] * 4)
    numbers = session.execute(text("SELECT number FROM allocation ORDER BY id")).scalars().all()
    assert list(numbers) == list(range(1, PEOPLE + 1))


@pytest.mark.requirement("CONC-16")
def test_both_arms_have_the_same_visits(session: Session):
    play(session, [*ARMS] * (PEOPLE // 2))
    visit = table_of(ParticipantVisit)
    plans = session.execute(
        select(visit.c.code, visit.c.target_on, visit.c.opens_on, visit.c.closes_on, func.count())
        .group_by(visit.c.code, visit.c.target_on, visit.c.opens_on, visit.c.closes_on)
        .order_by(visit.c.code)
    ).all()
    assert [row[-1] for row in plans] == [PEOPLE, PEOPLE]
