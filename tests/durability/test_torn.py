"""What is left when the power goes in the middle of a write? SQLite's files, cut and zeroed wherever one could end.

Only SQLite: of PostgreSQL's own log the server takes care (`full_page_writes`, which it may not be without).
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.audit.verify import verify
from app.foundation.database import Database
from app.people.permissions import Role
from app.randomisation.actions import randomise
from app.studies.in_use import StudyInUse
from app.studies.reads import study_by_code
from tests.conftest import KEYS
from tests.durability.world import check_slots
from tests.randomisation.small import definition
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

HEADER, OF_FRAME = 32, 24  # bytes in front of a log and of each of its pages (sqlite.org/fileformat2, section 4)
State = tuple[tuple[int, ...], int, bytes]


def commits_in(wal: bytes) -> list[int]:
    """Where each commit ends in a log: behind the frame that says how large the database is now."""
    frame = OF_FRAME + int.from_bytes(wal[8:12])
    ends, at = [], HEADER
    while wal[at + 8 : at + 16] == wal[16:24] and at + frame <= len(wal):  # the salts: else it is of an earlier round
        is_commit = any(wal[at + 4 : at + 8])
        at += frame
        ends += [at] if is_commit else []
    return ends


def cuts(wal: bytes) -> Iterator[int]:
    """Every end of a frame, and places within: in its header, and in the middle of its page."""
    frame = OF_FRAME + int.from_bytes(wal[8:12])
    for number, start in enumerate(range(HEADER, commits_in(wal)[-1], frame)):
        yield start
        yield start + (1, 7, OF_FRAME, OF_FRAME + 1, frame // 2, frame - 1)[number % 6]


def state_of(path: Path) -> State:
    """What is in a database: numbers of allocations, entries in the log, and the root of its tree."""
    with sqlite3.connect(path) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert opened.execute("PRAGMA foreign_key_check").fetchall() == []
        numbers = tuple(row[0] for row in opened.execute("SELECT number FROM allocation ORDER BY number"))
        size, root = opened.execute("SELECT size, root FROM audit_head WHERE log = 'small'").fetchone()
        used, randomised, entries = (
            opened.execute(query).fetchone()[0]
            for query in (
                "SELECT sum(used) FROM stratum",
                "SELECT count(*) FROM participant WHERE status = 'randomised'",
                "SELECT count(*) FROM audit_entry WHERE log = 'small'",
            )
        )
    opened.close()
    assert (used, randomised, entries) == (len(numbers), len(numbers), size), "a part of a change"
    return numbers, size, root


@dataclass
class Kept:
    """An installation that was written to and is still running; `states` is what was acknowledged, in order."""

    path: Path
    write: Callable[[], None]
    states: list[State]

    @property
    def wal(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def copy(self, to: Path, wal: bytes, database: bytes | None = None) -> Path:
        """What would stand on the disk: the files as they are, but for what is given."""
        to.mkdir(exist_ok=True)
        made = to / self.path.name
        made.with_name(made.name + "-shm").unlink(missing_ok=True)
        made.write_bytes(self.path.read_bytes() if database is None else database)
        made.with_name(made.name + "-wal").write_bytes(wal)
        return made


@pytest.fixture
def kept(copied: Any, tmp_path: Path) -> Iterator[Kept]:
    """The small trial with its list sealed, and all of it in the database itself; people wait to be randomised."""
    database = copied("sqlite", tmp_path, "torn")
    with database.writing() as session:
        study = study_of(session)
        sealed(session, study)
        by = actor(session, study, Role.COORDINATOR, "SYD")
        waiting = [participant(session, study, number) for number in range(1, 9)]
        session.expunge_all()

    def write() -> None:
        with database.writing() as session:
            person = waiting.pop(0)
            session.add(person)
            randomise(session, study, person, by=by, now=NOW)

    path = tmp_path / "equipoise.db"
    with database.engine.connect() as connection:
        connection.commit()  # so that a connection stays in the pool, and the log where it is
    once = sqlite3.connect(path)
    once.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    yield Kept(path, write, [])
    once.close()
    database.dispose()


def _acknowledged(kept: Kept, times: int, elsewhere: Path) -> None:
    """Write, and look each time at a copy that was made at that moment."""
    for _ in range(times):
        kept.write()
        wal = kept.wal.read_bytes()
        kept.states.append(state_of(kept.copy(elsewhere, wal)))


@pytest.mark.requirement("REL-11", "REL-3", "REL-5")
def test_however_the_log_is_cut_what_was_acknowledged_before_stands_whole(kept: Kept, tmp_path: Path) -> None:
    for times in (2, 1):  # the second round goes over what the first one left in the file, as after every checkpoint
        with sqlite3.connect(kept.path) as opened:
            assert opened.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
        opened.close()
        kept.states[:] = [state_of(kept.copy(tmp_path / "cut", b""))]
        _acknowledged(kept, times, tmp_path / "cut")
        wal = kept.wal.read_bytes()
        ends = commits_in(wal)
        assert len(ends) == times
        assert (ends[-1] < len(wal)) == (times == 1)
        met = set()
        for number, cut in enumerate([*cuts(wal), ends[-1]]):
            done = sum(end <= cut for end in ends)
            met.add(done)
            is_zeroed = number % 3 == 1  # two places in each frame: either of them both ways, frame by frame
            left = wal[:cut].ljust(len(wal), b"\0") if is_zeroed else wal[:cut]
            assert state_of(kept.copy(tmp_path / "cut", left)) == kept.states[done], (cut, is_zeroed)
        assert met == set(range(times + 1))


@pytest.mark.requirement("REL-11")
def test_what_was_being_moved_from_the_log_is_moved_again(kept: Kept, tmp_path: Path) -> None:
    old = kept.path.read_bytes()
    _acknowledged(kept, 3, tmp_path / "cut")
    wal = kept.wal.read_bytes()
    with sqlite3.connect(kept.path) as opened:
        opened.execute("PRAGMA wal_checkpoint(PASSIVE)")
    opened.close()
    new = kept.path.read_bytes()
    assert new != old
    for half in range(1, 8):  # so many eighths were written when the power went
        cut = len(new) * half // 8
        for torn in (new[:cut] + old[cut:], old[:cut] + new[cut:]):
            assert state_of(kept.copy(tmp_path / "torn", wal, torn)) == kept.states[-1]


@pytest.mark.requirement("REL-11", "E9-3")
def test_after_the_power_is_back_the_next_slot_is_the_next(kept: Kept, tmp_path: Path) -> None:
    _acknowledged(kept, 3, tmp_path / "cut")
    wal = kept.wal.read_bytes()
    path = kept.copy(tmp_path / "cut", wal[: commits_in(wal)[1] + 5000])
    database = Database(f"sqlite:///{path}", KEYS)
    with database.writing() as session:
        record = study_by_code(session, "small")
        assert record is not None
        study = StudyInUse(record.id or 0, record.code, record.version_id or 0, definition())
        by = actor(session, study, Role.COORDINATOR, "SYD", name="later")
        made = randomise(session, study, participant(session, study, 20), by=by, now=NOW)
        assert made.number == 3
        assert sorted(check_slots(session, study.id).values()) == [1, 2, 3]
        assert verify(session, "small").intact
    database.dispose()
