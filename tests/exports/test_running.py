"""Is what was asked for made once, kept sealed, handed over in parts, and proven years later?"""

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.audit.actions import ENTRY as AUDIT
from app.audit.actions import Change, record, record_refusal
from app.exports import actions, history, running
from app.exports.choice import Choice
from app.exports.delivery import deliver_choice, name_of
from app.exports.formats import Format
from app.exports.formats.standards import Standard
from app.exports.history import RUN, Made
from app.exports.keeping import PIECE, SEALED, Kept
from app.exports.manifest import faults, manifest
from app.foundation.crypto.envelopes import CannotOpen
from app.foundation.crypto.keys import Keyring
from app.foundation.database import Database
from app.foundation.errors import NotAllowed, NotFound
from app.handover import part_of
from app.people.access import Actor, granted_at
from app.people.models import Membership
from app.people.reads import sites_of
from app.studies.in_use import StudyInUse
from tests.exports.world import entry, many, participant
from tests.factories import NOW, mini_study, person

ENTRIES = Choice(tables=("entries",))


@pytest.fixture
def study(database: Database) -> StudyInUse:
    with database.writing() as session:
        made = mini_study(session)
        for number in range(1, 9):
            row = participant(session, made, number, site_code="north" if number % 2 else "south")
            entry(session, made, row, "week18", "pain", {"pain_nrs": number, "pain_note": f"note {number}"})
    return made


@pytest.fixture
def manager(database: Database, study: StudyInUse) -> Actor:
    with database.writing() as session:
        return person(session, study, "data_manager")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "exports"
    made.mkdir()
    return made


def ask(database: Database, study: StudyInUse, by: Actor, choice: Choice = ENTRIES) -> Made:
    with database.writing() as session:
        return actions.ask(session, study, choice, file_name=name_of(study, choice, NOW), by=by, now=NOW)


def found(database: Database, study: StudyInUse, by: Actor, number: int) -> Made:
    with database.reading() as session:
        return history.made_numbered(session, study, number, by=by)


def content(database: Database, folder: Path, made: Made) -> bytes:
    assert made.bytes is not None
    return b"".join(Kept(folder, database.keys, made.number, made.attempts).read(0, made.bytes - 1))


@pytest.mark.requirement("FDA-1", "MHRA-1", "P11-30")
def test_an_export_is_made_in_the_background_kept_sealed_and_proven(
    database: Database, study: StudyInUse, manager: Actor, folder: Path
):
    asked = ask(database, study, manager)
    assert (asked.state, asked.sha256, asked.rows) == ("waiting", None, 0)
    assert running.make_waiting(database, folder, lambda: NOW) == 1
    assert running.make_waiting(database, folder, lambda: NOW) == 0
    made = found(database, study, manager, asked.number)
    body = content(database, folder, made)
    assert (made.state, made.rows, made.bytes) == ("done", 16, len(body))
    assert made.sha256 == hashlib.sha256(body).hexdigest()
    assert b"note 3" in body
    (kept,) = folder.iterdir()
    assert b"note" not in kept.read_bytes()
    assert kept.stat().st_mode & 0o077 == 0
    # The same asked for at once, streamed: the same bytes.
    with database.writing() as session:
        sent = deliver_choice(session, database, study, ENTRIES, by=manager, clock=lambda: NOW)
    assert b"".join(sent.body) == body
    said = manifest(made, "mini", database.keys, 0)
    with database.reading() as session:
        page = history.made(session, study, by=manager)
        logged = [row.action for row in session.execute(AUDIT.select().where(AUDIT.c.action.like("export.%")))]
    assert [row.sha256 for row in page.rows] == [made.sha256, made.sha256]
    assert logged == ["export.run", "export.delivered"] * 2
    assert (said["rows"], said["change"], len(said["tree_head"])) == (16, 1, 64)
    assert said["tables"] == [{"name": "entries.csv", "rows": 16, "bytes": len(body), "sha256": made.sha256}]
    file, text = folder / "copy.csv", json.dumps(said)
    file.write_bytes(body)
    assert faults(file, text, database.keys) == []
    assert faults(file, json.dumps({**said, "rows": 17}), database.keys) != []
    assert faults(file, text, Keyring(bytes(32))) != []
    file.write_bytes(body.replace(b"note 3", b"note 4"))
    assert len(faults(file, text)) == 1
    assert faults(file, "{}") == ["This is not a manifest of an export."]


def test_a_worker_that_dies_loses_its_claim_and_two_never_make_the_same(
    database: Database, study: StudyInUse, manager: Actor, folder: Path
):
    asked = ask(database, study, manager)
    dead = running.claim(database, NOW)
    assert dead is not None
    assert running.claim(database, NOW) is None  # it is somebody's
    later = NOW + running.CLAIM + timedelta(seconds=1)
    assert running.make_waiting(database, folder, lambda: later) == 1
    # The first worker wakes up and makes its file: it is too late, and leaves nothing.
    assert running.make(database, folder, dead, lambda: later) == 0
    made = found(database, study, manager, asked.number)
    assert (made.state, made.attempts) == ("done", 2)
    assert [path.name for path in folder.iterdir()] == [f"export-{asked.number}-2.sealed"]


def test_one_that_cannot_be_made_is_given_up_with_the_reason(
    database: Database, study: StudyInUse, manager: Actor, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = ask(database, study, manager)

    def broken(*_args: object, **_kept: object) -> Any:
        raise OSError("no room")

    monkeypatch.setattr(running, "pieces", broken)
    for _ in range(running.MOST_ATTEMPTS):
        assert running.make_waiting(database, folder, lambda: NOW, limit=1) == 0
    assert running.claim(database, NOW) is None
    made = found(database, study, manager, asked.number)
    assert (made.state, made.problem) == ("failed", running.GIVEN_UP)
    assert history.why_no_file(made, by=manager) == running.GIVEN_UP


def test_whoever_lost_the_right_gets_no_file(database: Database, study: StudyInUse, manager: Actor, folder: Path):
    asked = ask(database, study, manager)
    with database.writing() as session:
        session.execute(update(Membership).values(revoked_at=NOW, revoked_by="x"))
    assert running.make_waiting(database, folder, lambda: NOW) == 0
    made = found(database, study, manager, asked.number)
    assert made.state == "failed"
    assert made.problem is not None
    assert "data manager" in made.problem
    assert list(folder.iterdir()) == []


@pytest.mark.requirement("SEC-43")
def test_a_file_is_for_whoever_asked_and_goes_after_a_week(
    database: Database, study: StudyInUse, manager: Actor, folder: Path
):
    asked = ask(database, study, manager)
    assert history.why_no_file(asked, by=manager) == "It waits its turn. Come back in a moment."
    running.make_waiting(database, folder, lambda: NOW)
    made = found(database, study, manager, asked.number)
    assert history.why_no_file(made, by=manager) is None
    with database.writing() as session:
        other = person(session, study, "statistician")
        with pytest.raises(NotAllowed):
            history.made_numbered(session, study, asked.number, by=person(session, study, "coordinator"))
        with pytest.raises(NotFound):
            history.made_numbered(session, study, asked.number + 1, by=manager)
    assert "It broke off" in (history.why_no_file(replace(made, state="begun"), by=manager) or "")
    assert "Only whoever asked" in (history.why_no_file(made, by=other) or "")
    assert running.expire(database, folder, NOW + timedelta(days=6)) == 0
    assert running.expire(database, folder, NOW + timedelta(days=8)) == 1
    assert list(folder.iterdir()) == []
    made = found(database, study, manager, asked.number)
    assert made.state == "expired"
    assert made.sha256
    assert "not kept any more" in (history.why_no_file(made, by=manager) or "")


def test_a_zip_holds_every_table_its_codebook_and_what_is_in_it(
    database: Database, study: StudyInUse, manager: Actor, folder: Path
):
    bodies = []
    for choice in (Choice(), Choice(), Choice(tables=("entries", "participants"), format=Format.PARQUET)):
        with database.writing() as session:
            sent = deliver_choice(session, database, study, choice, by=manager, clock=lambda: NOW)
        bodies.append(b"".join(sent.body))
    assert bodies[0] == bodies[1]
    with zipfile.ZipFile(io.BytesIO(bodies[0])) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert {"entries.csv", "entries.R", "participants.csv", "codebook.csv", "contents.json"} <= set(names)
        said = json.loads(archive.read("contents.json"))
        for file in said["files"]:
            assert hashlib.sha256(archive.read(file["name"])).hexdigest() == file["sha256"]
    with zipfile.ZipFile(io.BytesIO(bodies[2])) as archive:
        assert archive.namelist() == ["participants.parquet", "entries.parquet", "codebook.csv", "contents.json"]


def test_a_kept_file_is_read_in_parts_and_a_changed_one_is_not_read(database: Database, folder: Path):
    body = bytes(range(256)) * (PIECE // 128) + b"the end"
    kept = Kept(folder, database.keys, 1, 1)
    assert kept.write(iter([body[:1000], body[1000:]])) == len(body)
    assert kept.path.stat().st_size == SEALED * 3
    last = len(body) - 1
    for first, end in ((0, last), (5, 5), (PIECE - 3, PIECE + 3), (2 * PIECE, last), (last, last)):
        assert b"".join(kept.read(first, end)) == body[first : end + 1]
    with pytest.raises(CannotOpen):
        b"".join(Kept(folder, Keyring(bytes(32)), 1, 1).read(0, 10))
    sealed = bytearray(kept.path.read_bytes())
    sealed[SEALED + 100] ^= 1
    kept.path.write_bytes(sealed)
    assert b"".join(kept.read(0, 9)) == body[:10]
    with pytest.raises(CannotOpen):
        b"".join(kept.read(0, last))


@pytest.mark.parametrize(
    ("asked_for", "part"),
    [
        ("", None),
        ("bytes=0-9", (0, 9)),
        ("bytes=90-", (90, 99)),
        ("bytes=90-1000", (90, 99)),
        ("bytes=-10", (90, 99)),
        ("bytes=-1000", (0, 99)),
        ("bytes=100-", ()),
        ("bytes=-0", ()),
        ("bytes=9-3", None),
        ("bytes=0-1,5-6", None),
        ("rows=0-1", None),
        ("bytes=-", None),
    ],
)
def test_which_part_a_range_asks_for(asked_for: str, part: object):
    assert part_of(asked_for, 100) == part


@pytest.mark.requirement("MHRA-1")
def test_a_definition_has_versions_and_stands_in_the_log(database: Database, study: StudyInUse, manager: Actor):
    with database.writing() as session:
        for choice in (ENTRIES, ENTRIES, Choice(tables=("visits",), format=Format.STATA)):
            actions.define(session, study, " For  us ", choice, by=manager, now=NOW)
        (defined,) = history.definitions(session, study, by=manager)
        assert (defined.name, defined.version, defined.choice.format) == ("For us", 2, Format.STATA)
        assert history.definition_named(session, study, "For us", by=manager) == defined
        with pytest.raises(NotFound):
            history.definition_named(session, study, "For them", by=manager)
        logged = session.execute(AUDIT.select().where(AUDIT.c.action == "export.defined")).all()
    assert [json.loads(row.new)["version"] for row in logged] == [1, 2]
    assert json.loads(logged[1].old) == {"tables": ["entries"]}


def test_progress_is_told_while_a_large_one_is_made(
    database: Database, manager: Actor, study: StudyInUse, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with database.writing() as session:
        many(session, study, 100, 2_000)
    monkeypatch.setattr(running, "SAID_EVERY", 0.0)
    asked = ask(database, study, manager)
    claimed = running.claim(database, NOW)
    assert claimed is not None
    seen = []
    real = running._told

    def watched(*arguments: Any) -> Any:
        for piece in real(*arguments):
            with database.reading() as session:
                row = session.execute(RUN.select().where(RUN.c.id == asked.number)).one()
            seen.append((row.state, row.rows))
            yield piece

    monkeypatch.setattr(running, "_told", watched)
    assert running.make(database, folder, claimed, lambda: NOW) == 1
    rows = [count for _, count in seen]
    assert rows == sorted(rows)
    assert 0 < rows[-1] < 8_016
    assert {state for state, _ in seen} == {"running"}
    assert found(database, study, manager, asked.number).rows == 8_016


@pytest.mark.requirement("SEC-22")
def test_what_a_token_of_one_site_asked_for_is_made_of_that_site(
    database: Database, study: StudyInUse, manager: Actor, folder: Path
):
    with database.reading() as session:
        north = next(each.id for each in sites_of(session, study.id) if each.code == "north")
    token = replace(manager, grants=granted_at(manager.grants, [north]), token_sites=frozenset({north}))
    asked, whole = ask(database, study, token), ask(database, study, manager)
    assert running.make_waiting(database, folder, lambda: NOW) == 2
    taken = [content(database, folder, found(database, study, manager, each.number)) for each in (asked, whole)]
    assert [b"M-001" in each and b"M-003" in each for each in taken] == [True, True]
    assert [b"M-002" in each for each in taken] == [False, True]
    assert history.why_no_file(found(database, study, manager, whole.number), by=token)
    assert history.why_no_file(found(database, study, manager, asked.number), by=token) is None


def taken(database: Database, study: StudyInUse, by: Actor, choice: Choice, minute: int, **asked: Any) -> bytes:
    """A file that is streamed, so many minutes from now."""
    now = NOW + timedelta(minutes=minute)
    with database.writing() as session:
        sent = deliver_choice(session, database, study, choice, by=by, clock=lambda: now, **asked)
    return b"".join(sent.body)


@pytest.mark.parametrize("since", [None, 0])
@pytest.mark.parametrize("format_", [*Standard, Format.CSV, Format.XLSX])
def test_the_same_choice_of_the_same_state_is_the_same_file_whoever_takes_it(
    database: Database, study: StudyInUse, manager: Actor, folder: Path, format_: Format | Standard, since: int | None
):
    tables = () if isinstance(format_, Standard) else ("entries",)
    choice = Choice(tables=tables, format=format_, instruments=("pain",))
    first = taken(database, study, manager, choice, 1, since=since)
    refusal = NotAllowed("Not theirs to see.", action="participant.screen", subject="/screen")
    shown = Change("identity.shown", "M-001", "identity/name")
    with database.writing() as session:
        record_refusal(session, study.code, refusal, by=manager, now=NOW + timedelta(minutes=2))
        record(session, study.code, [shown], by=manager, now=NOW + timedelta(minutes=3))
    assert taken(database, study, manager, choice, 4, since=since) == first
    if since is None:
        made = ask(database, study, manager, choice)
        assert running.make_waiting(database, folder, lambda: NOW + timedelta(minutes=5)) == 1
        assert content(database, folder, found(database, study, manager, made.number)) == first
    if isinstance(format_, Standard):  # one that says when anything was changed
        done = Change("visit.held", "M-001", "visit/week18")
        with database.writing() as session:
            record(session, study.code, [done], by=manager, now=NOW + timedelta(minutes=6))
        said = taken(database, study, manager, choice, 7, since=since)
        assert (said == first) is (format_ in (Standard.ODM_DEFINITION, Standard.ODM_2_DEFINITION)), (
            "a definition is that of its version, whatever is done"
        )
