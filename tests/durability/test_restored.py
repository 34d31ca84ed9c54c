"""REL-17: a database that was put back from a backup is found out, and gives nobody a slot that somebody has."""

import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import time_machine
from bs4 import BeautifulSoup
from sqlalchemy import select

from app.audit import newest
from app.audit.actions import ENTRY, Change, record
from app.foundation import clock
from app.foundation.backup import backup, restore
from app.foundation.database import Database, table_of
from app.main import create_app
from app.people.access import Actor
from app.randomisation.models import Stratum
from app.randomisation.rules import BEHIND
from tests.blinding.conftest import NewWorld, new_world  # noqa: F401
from tests.blinding.trial import API, BEGUN, PASSWORD, WORLD, Trial, _seal, _walk_in, set_up
from tests.conftest import KEYS
from tests.web.browser import OneHop

BY = Actor(0, "admin", "Admin", "Ours")
pytestmark = pytest.mark.requirement("REL-17", "REL-3")


def _randomise(trial: Trial, code: str, door: str) -> Any:
    if door == "api":
        return trial.api("coordinator", "POST", f"{API}/participants/{code}/randomise")
    return trial.web("coordinator", "POST", f"/mini/participants/{code}/randomise", {"password": PASSWORD})


def _again(trial: Trial, database: Database, archive: Path) -> Trial:
    """The same installation, folder and people, on the database of a backup."""
    restore(database, archive)
    client = OneHop(create_app(trial.settings, database))
    return Trial(database, client, trial.doors, trial.settings, trial.study, trial.people)


def _used(database: Database) -> list[int]:
    stratum = table_of(Stratum)
    with database.reading() as session:
        return list(session.execute(select(stratum.c.used).order_by(stratum.c.id)).scalars())


def test_a_database_put_back_from_a_backup_gives_nobody_a_slot(new_world: NewWorld, tmp_path: Path):  # noqa: F811
    with time_machine.travel(BEGUN, tick=False):
        trial = set_up(new_world(), tmp_path / "data")
        trial.sign_in()
        _seal(trial, WORLD)
        _walk_in(trial)
        trial.did(_randomise(trial, "M-001", "web"))
        backup(trial.database, tmp_path / "b.zip", now=BEGUN)
        trial.did(_randomise(trial, "M-002", "api"))  # M-002 has the second slot, and the backup does not know
        old = _again(trial, new_world(), tmp_path / "b.zip")
        used = _used(old.database)
        gates = BeautifulSoup(old.web("coordinator", "GET", "/mini/participants/M-002/randomise").text, "html.parser")
        assert BEHIND in gates.get_text()
        for door in ("web", "api"):
            refused = old.did(_randomise(old, "M-002", door), 409)
            assert BEHIND.split(".")[0] in refused.text
        assert _used(old.database) == used
        with old.database.reading() as session:
            refusals = select(ENTRY.c.why).where(ENTRY.c.action == "participant.randomise_refused")
            assert list(session.execute(refusals).scalars())[-2:] == [BEHIND, BEHIND]
        # It goes on from there, until it has more entries than are remembered: it is still not the one that was.
        with old.database.writing() as session:
            changes = [Change("thing.changed", item=str(number)) for number in range(60)]
            record(session, "mini", changes, by=BY, now=clock.now())
        old.did(_randomise(old, "M-002", "api"), 409)
        # Reconciled, and whoever had the slot gets it again.
        newest.forget(old.settings.checkpoints, "mini")
        old.did(_randomise(old, "M-002", "api"))
        assert _used(old.database) == _used(trial.database)


@pytest.mark.parametrize("door", ["web", "api"])
def test_an_allocation_stands_that_cannot_be_remembered(
    new_world: NewWorld,  # noqa: F811
    tmp_path: Path,
    door: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    with time_machine.travel(BEGUN, tick=False):
        trial = set_up(new_world(), tmp_path / "data")
        trial.sign_in()
        _seal(trial, WORLD)
        _walk_in(trial)
        with monkeypatch.context() as full:
            full.setattr(newest.Remembering, "__call__", mock.Mock(side_effect=OSError("No space left, M-001")))
            trial.did(_randomise(trial, "M-001", door))
        assert sum(_used(trial.database)) == 1
        assert newest.newest_in(trial.settings.checkpoints, KEYS, "mini") is None
        assert "the newest entry of mini could not be remembered: OSError" in caplog.text
        assert "M-001" not in caplog.text
        trial.did(_randomise(trial, "M-002", door))
        assert newest.newest_in(trial.settings.checkpoints, KEYS, "mini") is not None


@pytest.fixture
def logged(database: Database, tmp_path: Path) -> Database:
    with database.writing() as session:
        record(session, "mini", [Change("thing.changed")] * 3, by=BY, now=BEGUN)
    with database.reading() as session:
        newest.remember(tmp_path, session, "mini")
    return database


def _behind(database: Database, folder: Path) -> bool:
    found = newest.newest_in(folder, KEYS, "mini")
    assert found is not None
    with database.reading() as session:
        return newest.is_behind(session, found)


def test_what_is_remembered_moves_on_and_never_back(logged: Database, tmp_path: Path):
    assert not _behind(logged, tmp_path)
    with logged.writing() as session:
        record(session, "mini", [Change("thing.changed")], by=BY, now=BEGUN)
    assert not _behind(logged, tmp_path)  # more was done than is remembered: that is as it should be
    with logged.reading() as session:
        newest.remember(tmp_path, session, "mini")
    found = newest.newest_in(tmp_path, KEYS, "mini")
    assert found is not None
    assert found.size == 4
    newest.require_reconciliation(tmp_path, KEYS, "mini")
    assert _behind(logged, tmp_path)
    with logged.reading() as session:
        newest.remember(tmp_path, session, "mini")
    assert _behind(logged, tmp_path)  # only somebody who answers for it opens it again


@pytest.mark.parametrize(
    "bend",
    [
        lambda text: text.replace('"size": 3', '"size": 1'),
        lambda text: text[:-9],
        lambda text: "",
        lambda text: "[]",
        lambda text: '{"size": 2, "leaf": "00", "tag": ""}',
        lambda text: text.replace('"size": 3', '"size": 1e999'),
        lambda text: "[" * 99_000,
    ],
)
def test_what_is_remembered_cannot_be_bent(logged: Database, tmp_path: Path, bend: Any):
    path = tmp_path / "mini.newest"
    path.write_text(bend(path.read_text()))
    assert _behind(logged, tmp_path)


def test_whoever_waits_remembers_for_all_who_come_after(
    logged: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Many allocations at once need not write one after the other: the one that has not begun will see them all."""
    remembering, begun, go_on = newest.Remembering(), threading.Semaphore(0), threading.Semaphore(0)
    remember = newest.remember

    def slowly(*positional: Any) -> None:
        begun.release()
        assert go_on.acquire(timeout=20)
        remember(*positional)

    monkeypatch.setattr(newest, "remember", slowly)
    threads = [threading.Thread(target=remembering, args=(logged, tmp_path, "mini")) for _ in range(2)]
    threads[0].start()
    assert begun.acquire(timeout=20)
    threads[1].start()
    while not remembering._waiting:
        threads[1].join(0.001)
    with logged.writing() as session:
        record(session, "mini", [Change("thing.changed")], by=BY, now=BEGUN)
    for _ in range(5):
        remembering(logged, tmp_path, "mini")  # does not wait: the second has not begun
    go_on.release()
    go_on.release()
    for thread in threads:
        thread.join(20)
    assert begun.acquire(timeout=20)
    assert not begun.acquire(blocking=False), "it was written more often than there was need"
    found = newest.newest_in(tmp_path, KEYS, "mini")
    assert found is not None
    assert found.size == 4


def _changes(database: Database, folder: Path) -> newest.Newest | None:
    """A change that looked for what is remembered, as an allocation does."""
    found = newest.newest_in(folder, KEYS, "mini")
    assert found is not None
    with database.writing() as session:
        newest.is_behind(session, found)
        record(session, "mini", [Change("thing.changed")], by=BY, now=BEGUN)
        return newest.written(session, "mini")


def _asked_the_database(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    asked = mock.Mock(side_effect=newest.remember)
    monkeypatch.setattr(newest, "remember", asked)
    return asked


def test_what_a_change_knows_of_itself_is_remembered_without_asking(
    logged: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked, remembering = _asked_the_database(monkeypatch), newest.Remembering()
    fourth, fifth = _changes(logged, tmp_path), _changes(logged, tmp_path)
    assert fourth is not None
    assert fifth is not None
    remembering(logged, tmp_path, "mini", fifth)
    remembering(logged, tmp_path, "mini", fourth)  # whoever was first may be last to write it down: it does not go back
    assert newest.newest_in(tmp_path, KEYS, "mini") == fifth
    assert (fifth.size, _behind(logged, tmp_path), asked.call_count) == (5, False, 0)
    # What must be answered for is not passed over, nor what somebody else wrote into the file.
    for spoil in (
        lambda: newest.require_reconciliation(tmp_path, KEYS, "mini"),
        lambda: (tmp_path / "mini.newest").write_text("{}"),
    ):
        spoil()
        remembering(logged, tmp_path, "mini", _changes(logged, tmp_path))
        assert _behind(logged, tmp_path)
    assert asked.call_count == 2


def test_those_who_wait_together_remember_the_last_of_them(
    logged: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked, remembering = _asked_the_database(monkeypatch), newest.Remembering()
    each = [_changes(logged, tmp_path) for _ in range(3)]
    for known in (True, False):
        with remembering._turn:
            waits = threading.Thread(target=remembering, args=(logged, tmp_path, "mini", each[1]))
            waits.start()
            while not remembering._waiting:
                waits.join(0.001)
            for other in (each[2] if known else None, each[0]):
                remembering(logged, tmp_path, "mini", other)
        waits.join(20)
        assert newest.newest_in(tmp_path, KEYS, "mini") == each[2]
        assert asked.call_count == (0 if known else 1)


def test_a_change_that_never_looked_says_nothing_of_itself(logged: Database, tmp_path: Path):
    """A backup that was put back may have gone on until it is longer than what is remembered of the other."""
    found = newest.newest_in(tmp_path, KEYS, "mini")
    assert found is not None
    elsewhere = newest.Newest("mini", found.size, "ab" * 32)
    newest._write(tmp_path, KEYS, elsewhere)
    for looks in (False, True):  # whoever takes a slot looks; an import of people who all have one does not
        with logged.writing() as session:
            if looks:
                assert newest.is_behind(session, elsewhere)
            record(session, "mini", [Change("data.imported")] * 9, by=BY, now=BEGUN)
            said = newest.written(session, "mini")
        newest.Remembering()(logged, tmp_path, "mini", said)
        assert newest.newest_in(tmp_path, KEYS, "mini") == elsewhere
    with logged.writing() as session:
        assert not newest.is_behind(session, found)
        record(session, "other", [Change("thing.changed")], by=BY, now=BEGUN)
        assert newest.written(session, "other") is None, "it was another log that was looked at"


def test_of_two_processes_the_slower_one_takes_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fourth, fifth = newest.Newest("mini", 4, "aa" * 32), newest.Newest("mini", 5, "bb" * 32)
    write = newest._write
    other = threading.Thread(target=newest._goes_on, args=(tmp_path, KEYS, fifth))

    def slowly(folder: Path, keys: Any, what: newest.Newest) -> None:
        if what == fourth:  # it has read, and not written
            other.start()
            other.join(0.2)
        write(folder, keys, what)

    monkeypatch.setattr(newest, "_write", slowly)
    assert newest._goes_on(tmp_path, KEYS, fourth)
    other.join(20)
    assert newest.newest_in(tmp_path, KEYS, "mini") == fifth


def test_a_change_that_may_have_been_undone_says_nothing_of_itself(logged: Database, tmp_path: Path):
    def append() -> None:
        record(session, "mini", [Change("thing.changed")], by=BY, now=BEGUN)

    found = newest.newest_in(tmp_path, KEYS, "mini")
    assert found is not None
    with logged.writing() as session:
        assert not newest.is_behind(session, found)
        append()
        undone = session.begin_nested()
        append()
        assert newest.written(session, "mini") is not None
        undone.rollback()
        assert newest.written(session, "mini") is None
        assert newest.written(session, "other") is None
        append()
        last = newest.written(session, "mini")
    assert last is not None
    assert last.size == 5
    with logged.reading() as session:
        assert not newest.is_behind(session, last)


def test_one_that_could_not_remember_keeps_nobody_else_from_it(
    logged: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    remembering = newest.Remembering()
    with monkeypatch.context() as broken:
        broken.setattr(newest, "_write", mock.Mock(side_effect=OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            remembering(logged, tmp_path, "mini")
    remembering(logged, tmp_path, "mini")
    found = newest.newest_in(tmp_path, KEYS, "mini")
    assert found is not None
    assert found.size == 3


def test_nothing_is_remembered_of_a_log_that_is_not_there(database: Database, tmp_path: Path):
    with database.reading() as session:
        newest.remember(tmp_path, session, "mini")
    assert newest.newest_in(tmp_path, KEYS, "mini") is None
