"""The log: entries stand or fall with their change, and whatever is done to them is found and named."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from app.audit import actions, checkpoints
from app.audit.actions import ENTRY, Change, record, recorded_together
from app.audit.reads import AuditFilter, entries
from app.audit.rules import FIELDS, FORMAT, leaf_bytes, value_text
from app.audit.verify import verify
from app.foundation.database import Database
from tests.conftest import KEYS
from tests.factories import NOW, person

LATER = NOW + timedelta(hours=1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def _write(session: Session, n: int, log: str = "mini") -> None:
    by = person(session, None, "administrator", username="admin")
    for index in range(n):
        record(session, log, [Change("thing.changed", item=f"i{index}", old=index, new=index + 1)], by=by, now=NOW)


def without_triggers(session: Session) -> None:
    """What an attacker with the whole database would do first."""
    if session.get_bind().dialect.name == "sqlite":
        session.execute(text("DROP TRIGGER audit_entry_no_update"))
        session.execute(text("DROP TRIGGER audit_entry_no_delete"))
    else:
        session.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER USER"))


@pytest.mark.requirement("LOG-4", "P11-e1", "ALC-+")
def test_an_untouched_log_verifies(session: Session) -> None:
    _write(session, 9)
    result = verify(session, "mini")
    assert result.intact
    assert result.size == 9


@pytest.mark.requirement("LOG-4")
def test_however_many_are_written_at_once_each_says_what_it_should_in_its_place(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MOST_AT_ONCE", 3)
    by = person(session, None, "administrator", username="admin")
    said = [None, ":log_0", "%s %(at)s", "'; --", 'é"\\', "", 0, {"a": [True, None]}]
    for many in range(1, len(said) + 1):
        changes = [Change("thing.changed", item=f"{many}.{place}", new=said[place]) for place in range(many)]
        record(session, "mini", changes, by=by, now=NOW, why="because :why_1")
    result = verify(session, "mini")
    assert (result.intact, result.size) == (True, 36)
    rows = session.execute(select(ENTRY).where(ENTRY.c.log == "mini").order_by(ENTRY.c.position)).all()
    expected = [(f"{many}.{place}", value_text(said[place])) for many in range(1, 9) for place in range(many)]
    assert [(row.item, row.new) for row in rows] == expected
    assert {(row.at, row.why, row.old) for row in rows} == {(NOW, "because :why_1", value_text(None))}


@pytest.mark.requirement("LOG-4", "ALC-A")
def test_what_is_written_together_for_several_people_says_of_each_what_is_theirs(session: Session) -> None:
    """What entries have in common is sent to the database once, and must not become that of all."""
    first, second = person(session, None, "administrator", username="admin"), person(session, None, "monitor")
    second = replace(second, via="cli", request_id="another", organisation="Elsewhere")
    with recorded_together(session):
        record(session, "mini", [Change("thing.changed", participant="A-1", subject="s/1", new=1)], by=first, now=NOW)
        record(session, "mini", [Change("thing.changed", subject="s/1"), Change("thing.seen")], by=second, now=LATER)
    rows = session.execute(select(ENTRY).where(ENTRY.c.log == "mini").order_by(ENTRY.c.position)).all()
    assert [(row.username, row.role, row.via, row.organisation, row.request_id, row.at) for row in rows] == [
        (by.username, by.role, by.via, by.organisation, by.request_id, at)
        for by, at in ((first, NOW), (second, LATER), (second, LATER))
    ]
    assert [(row.participant, row.subject) for row in rows] == [("A-1", "s/1"), ("", "s/1"), ("", "")]
    assert verify(session, "mini").intact


@pytest.mark.requirement("LOG-4")
@given(st.fixed_dictionaries({name: TEXT | st.none() for name in FIELDS} | {"position": st.integers(0, 2**31)}))
def test_the_bytes_that_are_hashed_are_those_of_any_writer_of_json(said: dict[str, object]) -> None:
    usual = json.dumps([FORMAT, *(said[name] for name in FIELDS)], separators=(",", ":"), ensure_ascii=False)
    assert leaf_bytes(said) == usual.encode()


@given(st.integers() | st.booleans() | TEXT | st.none() | st.floats(allow_nan=False) | st.lists(st.integers()))
def test_a_value_is_logged_as_json(value: object) -> None:
    assert value_text(value) == (
        None if value is None else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    )


def test_what_a_savepoint_takes_back_is_not_counted(session: Session) -> None:
    _write(session, 2)
    point = session.begin_nested()
    _write(session, 3)
    point.rollback()
    _write(session, 1)
    result = verify(session, "mini")
    assert result.intact
    assert result.size == 3


@pytest.mark.requirement("P11-e2", "FDA-13", "REL-14", "P11-e3", "EMA-3")
@pytest.mark.parametrize("statement", ["UPDATE audit_entry SET why = 'x'", "DELETE FROM audit_entry"])
def test_the_database_itself_refuses_to_change_an_entry(session: Session, statement: str) -> None:
    _write(session, 2)
    with pytest.raises(Exception, match="never changed or removed"):
        session.execute(text(statement))
    session.rollback()


ATTACKS: dict[str, tuple[str, str]] = {
    "an altered value": ("UPDATE audit_entry SET new = '99' WHERE position = 4", "Entry 4"),
    "an altered reason": ("UPDATE audit_entry SET why = 'because' WHERE position = 0", "Entry 0"),
    "an altered time": ("UPDATE audit_entry SET at = '2020-01-01 00:00:00' WHERE position = 3", "Entry 3"),
    "an entry removed from the middle": ("DELETE FROM audit_entry WHERE position = 5", "Entry 5 is missing"),
    "the first entry removed": ("DELETE FROM audit_entry WHERE position = 0", "Entry 0 is missing"),
    "the last entry removed": ("DELETE FROM audit_entry WHERE position = 8", "missing from the end"),
    "another person": ("UPDATE audit_entry SET username = 'other' WHERE position = 7", "Entry 7"),
    "an altered hash": ("UPDATE audit_entry SET leaf_hash = tag WHERE position = 2", "Entry 2"),
    "an altered tag": ("UPDATE audit_entry SET tag = leaf_hash WHERE position = 6", "Entry 6"),
    "an altered head": ("UPDATE audit_head SET size = 7", "behind the head"),
    "a removed head": ("DELETE FROM audit_head", "head of the log is missing"),
    "an altered root": ("UPDATE audit_head SET root = frontier", "root of the tree"),
}


@pytest.mark.requirement("LOG-5", "P11-a")
@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_on_the_log_is_found_and_named(session: Session, attack: str) -> None:
    _write(session, 9)
    without_triggers(session)
    statement, named = ATTACKS[attack]
    session.execute(text(statement))
    result = verify(session, "mini")
    assert not result.intact
    assert any(named in fault for fault in result.faults), result.faults


@pytest.mark.requirement("LOG-12", "LOG-5")
def test_every_link_is_looked_at_and_not_the_ends_alone(session: Session) -> None:
    """The head fits and both ends do; whichever entry in between says something else is named, and no other."""
    _write(session, 9)
    without_triggers(session)
    for position in range(9):
        for column in ("new", "username"):
            point = session.begin_nested()
            session.execute(update(ENTRY).where(ENTRY.c.position == position).values({column: "another"}))
            faults = verify(session, "mini").faults
            assert [fault.split(" (")[0] for fault in faults if fault.startswith("Entry")] == [f"Entry {position}"]
            point.rollback()
    assert verify(session, "mini").intact


@pytest.mark.requirement("LOG-5")
def test_two_swapped_entries_are_named(session: Session) -> None:
    _write(session, 9)
    without_triggers(session)
    for old, new in ((2, 100), (6, 2), (100, 6)):
        session.execute(text(f"UPDATE audit_entry SET position = {new} WHERE position = {old}"))
    faults = " ".join(verify(session, "mini").faults)
    assert "Entry 2" in faults
    assert "Entry 6" in faults


@pytest.mark.requirement("LOG-5")
def test_an_entry_rewritten_with_its_hash_and_the_whole_tree_is_still_named(session: Session) -> None:
    from app.audit.actions import ENTRY, HEAD
    from app.audit.tree import Frontier, leaf_hash

    _write(session, 9)
    without_triggers(session)
    session.execute(text("UPDATE audit_entry SET new = '99' WHERE position = 4"))
    frontier = Frontier()
    for row in session.execute(ENTRY.select().order_by(ENTRY.c.position)).mappings().all():
        hashed = leaf_hash(leaf_bytes(dict(row)))
        session.execute(ENTRY.update().where(ENTRY.c.position == row["position"]).values(leaf_hash=hashed))
        frontier.append(hashed)
    session.execute(HEAD.update().values(root=frontier.root(), frontier=frontier.to_bytes()))
    assert verify(session, "mini").faults == ["Entry 4 (thing.changed) was not written by this installation."]


@pytest.mark.requirement("LOG-6", "LOG-7")
def test_a_log_cut_short_or_rewritten_is_found_by_a_checkpoint_outside(database: Database, tmp_path: Path) -> None:
    with database.writing() as session:
        _write(session, 6)
        checkpoints.keep(tmp_path / "points", session, "mini")
        _write(session, 3)
        checkpoints.keep(tmp_path / "points", session, "mini")
    points, faults = checkpoints.kept(tmp_path / "points", KEYS)
    assert [point.size for point in points] == [6, 9]
    assert not faults
    with database.writing() as session:
        assert verify(session, "mini", points).intact
        without_triggers(session)
        session.execute(text("DELETE FROM audit_entry"))
        session.execute(text("DELETE FROM audit_head"))
        _write(session, 7)
        faults = verify(session, "mini", points).faults
    assert any("cut short" in fault for fault in faults)


@pytest.mark.requirement("LOG-7", "LOG-8")
def test_a_forged_checkpoint_is_refused(database: Database, tmp_path: Path) -> None:
    with database.writing() as session:
        _write(session, 6)
        checkpoints.keep(tmp_path / "points", session, "mini")
    path = next((tmp_path / "points").iterdir())
    path.write_text(path.read_text().replace("\n6\n", "\n5\n"))
    points, faults = checkpoints.kept(tmp_path / "points", KEYS)
    assert not points
    assert "signature" in faults[0]


def test_logs_of_two_studies_are_apart_and_pages_run_both_ways(session: Session) -> None:
    _write(session, 7)
    _write(session, 2, log="other")
    first = entries(session, "mini", AuditFilter(), limit=3)
    assert [row["position"] for row in first.rows] == [6, 5, 4]
    second = entries(session, "mini", AuditFilter(), cursor=first.next, limit=3)
    assert [row["position"] for row in second.rows] == [3, 2, 1]
    back = entries(session, "mini", AuditFilter(), cursor=second.previous, limit=3)
    assert [row["position"] for row in back.rows] == [6, 5, 4]
    assert verify(session, "other").size == 2


@pytest.mark.requirement("P11-e1")
def test_nothing_is_logged_when_the_change_is_rolled_back(database: Database) -> None:
    with pytest.raises(RuntimeError), database.writing() as session:  # noqa: PT012
        _write(session, 3)
        raise RuntimeError
    with database.reading() as session:
        assert verify(session, "mini").size == 0


@pytest.mark.requirement("FDA-18", "ALC-A", "EMA-2", "FDA-12")
def test_no_entry_is_without_who_in_which_role_of_whom_and_by_which_way(session: Session) -> None:
    _write(session, 1)
    row = session.execute(select(ENTRY)).mappings().one()
    for name in ("at", "username", "role", "organisation", "via", "action", "request_id"):
        point = session.begin_nested()
        with pytest.raises(IntegrityError):
            session.execute(insert(ENTRY).values({**row, "position": 1, name: None}))
        point.rollback()
