"""Is it the same trial on SQLite and on PostgreSQL? The same acts, the same chance, and every byte of every table."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from hypothesis import Phase, given, settings
from sqlalchemy import Engine, select, text
from sqlmodel import Session, SQLModel

from app.foundation.errors import Refused
from app.participants.actions import withdraw
from app.people.permissions import Role
from app.randomisation.actions import randomise
from app.randomisation.reads import allocations
from app.studies.definition import Study
from tests.conftest import KEYS
from tests.properties.histories import History
from tests.properties.studies import studies
from tests.properties.test_histories import BEGUN, DEEP, _loaded, histories, patient
from tests.randomisation.world import CONSENTED, NOW, actor, participant, sealed, study_of

Tables = dict[str, list[tuple[Any, ...]]]


@contextmanager
def alike(engine: Engine) -> Iterator[Session]:
    """A transaction that is rolled back, in which rows are numbered from one and chance is the same each time."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            for name in connection.execute(text("SELECT sequencename FROM pg_sequences")).scalars().all():
                connection.execute(text(f'ALTER SEQUENCE "{name}" RESTART'))
    chance = random.Random(20)
    with (
        engine.connect() as connection,
        mock.patch("secrets.token_bytes", lambda size=None: chance.randbytes(size or 32)),
        mock.patch("os.urandom", chance.randbytes),
    ):
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint", info={"keys": KEYS}) as session:
            yield session
        outer.rollback()


def rows_of(session: Session) -> Tables:
    """Every table as it stands."""
    return {
        table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key.columns))]
        for table in SQLModel.metadata.sorted_tables
    }


@pytest.fixture
def compared(shared: Any) -> Callable[[Callable[[Session], Any]], Tables]:
    """Plays something on both, finds no difference, and gives the tables."""

    def both(play: Callable[[Session], Any]) -> Tables:
        found = []
        for kind in ("sqlite", "postgres"):
            with alike(shared(kind).engine) as session:
                said = play(session)
                session.flush()
                found.append((said, rows_of(session)))
        (said, rows), (other, others) = found
        assert said == other
        for name, each in rows.items():
            assert each == others[name], name
        return rows

    return both


@pytest.mark.requirement("REL-20")
def test_any_history_is_the_same_on_both_databases(compared: Callable[..., Tables]) -> None:
    met: Counter[str] = Counter()

    @settings(patient, max_examples=60 if DEEP else 2, phases=[Phase.generate])
    @given(studies(), histories)
    def play(study: Study, acts: list[Any]) -> None:
        def history_of(session: Session) -> Any:
            history = History(session, _loaded(session, study))
            for act in (*BEGUN, *acts):
                history.act(*act)
            return history.done, history.refused

        met.update({name: len(rows) for name, rows in compared(history_of).items()})

    play()
    assert min(met["entry"], met["query"], met["audit_entry"]) >= 1, "it was worth its time"


@pytest.mark.requirement("REL-20", "RND-10", "E9-3")
def test_from_one_seed_everybody_has_the_same_arm_on_both_databases(compared: Callable[..., Tables]) -> None:
    def trial(session: Session) -> Any:
        study = study_of(session)
        sealed(session, study, slots=4, sizes=(2, 4))
        people = [participant(session, study, number, ("SYD", "PER")[number % 2]) for number in range(1, 12)]
        by = {place: actor(session, study, Role.COORDINATOR, place) for place in ("SYD", "PER")}
        said: list[str] = []
        for number, one in enumerate(people, start=1):
            who = by[("SYD", "PER")[number % 2]]
            try:
                if number == 3:
                    withdraw(session, study, one, level="visits", reason="x", on=CONSENTED, by=who, now=NOW)
                made = randomise(session, study, one, by=who, now=NOW + timedelta(minutes=number))
                said.append(f"{one.code} {made.number} {made.allocated_at.isoformat()}")
            except Refused as refused:
                said.append(refused.reason)
        by_arm = allocations(session, study, by=actor(session, study, Role.STATISTICIAN), why="x", now=NOW)
        return said, [(row.number, row.participant, row.stratum, row.arm) for row in by_arm]

    rows = compared(trial)
    assert len(rows["allocation"]) == 8
    assert len(rows["slot"]) == 8
