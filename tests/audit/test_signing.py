"""LOG-11: the key that signs is replaced; what it signed stays verifiable, and proves nothing of what came later."""

import base64
import itertools
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import select, text, update
from sqlmodel import Session

from app.audit import checkpoints, replacing, signing
from app.audit.actions import ENTRY, HEAD, Change, record
from app.audit.checkpoints import Checkpoint
from app.audit.models import SYSTEM_LOG
from app.audit.rules import leaf_bytes
from app.audit.tree import Frontier, leaf_hash
from app.audit.verify import logs, verify
from app.foundation.database import Database
from app.foundation.errors import Refused
from tests.audit.test_log import _write, without_triggers
from tests.conftest import KEYS
from tests.factories import NOW, person

pytestmark = pytest.mark.requirement("LOG-11")
WHY = "A copy of the key may have been seen."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def replace(session: Session, folder: Path, why: str = WHY) -> Sequence[str]:
    by = person(session, None, "administrator", username="admin")
    return replacing.replace_key(session, folder, by=by, why=why, now=NOW)


def keep(session: Session, folder: Path) -> None:
    for log in logs(session):
        checkpoints.keep(folder, session, log)


def begun(database: Database, folder: Path) -> None:
    """Two logs with entries and a checkpoint of the first key, which is then replaced; both go on after it."""
    with database.writing() as session:
        _write(session, 4, SYSTEM_LOG)
        _write(session, 6)
        keep(session, folder)
        _write(session, 1)
    with database.writing() as session:
        assert replace(session, folder) == ["mini", SYSTEM_LOG]
    with database.writing() as session:
        keep(session, folder)
        _write(session, 5)


def faults(database: Database, folder: Path) -> dict[str, list[str]]:
    """What verifying says of each log; nothing for one that is intact."""
    points, unread = checkpoints.kept(folder, KEYS)
    assert not unread
    with database.reading() as session:
        found = {log: verify(session, log, points).faults for log in logs(session)}
    return {log: said for log, said in found.items() if said}


def root_of(database: Database, size: int, log: str = "mini") -> bytes:
    """What the tree of so many entries has as its root, by anybody's reckoning."""
    frontier = Frontier()
    with database.reading() as session:
        rows = session.execute(select(ENTRY.c.leaf_hash).where(ENTRY.c.log == log).order_by(ENTRY.c.position))
        for row in rows.all()[:size]:
            frontier.append(row.leaf_hash)
    return frontier.root()


def forge(folder: Path, size: int, root: bytes, generation: int, log: str = "mini") -> None:
    """A checkpoint as somebody with the key of this generation can make it."""
    note = checkpoints.signed_note(KEYS, Checkpoint(log, size, root, generation))
    (folder / f"{log}-forged-{size}-{generation}.checkpoint").write_text(note, encoding="utf-8")


def test_old_checkpoints_stay_verifiable_and_the_new_key_is_announced_in_every_log(
    database: Database, folder: Path
) -> None:
    begun(database, folder)
    points, unread = checkpoints.kept(folder, KEYS)
    assert not unread
    kept = {log: [(point.size, point.generation) for point in points if point.log == log] for log in ("mini", "system")}
    # The last of the old key is of the log before the announcement, the first of the new key of the log with it.
    assert kept == {"mini": [(6, 0), (7, 0), (8, 1)], "system": [(4, 0), (5, 1)]}
    assert faults(database, folder) == {}
    with database.reading() as session:
        for log, position in (("mini", 7), ("system", 4)):
            row = session.execute(select(ENTRY).where(ENTRY.c.log == log, ENTRY.c.action == signing.REPLACED)).one()
            assert (row.position, row.why, row.username) == (position, WHY, "admin")
            first, second = signing.log_keys(session, log)
            assert (first.generation, first.first, first.at) == (0, 0, None)
            assert (second.generation, second.first, second.at) == (1, position + 1, NOW)
            assert (first.vkey in row.old, second.vkey in row.new) == (True, True)
            assert first.vkey.startswith(f"equipoise/{KEYS.fingerprint}/{log}+")


@pytest.mark.parametrize("why", ["", " \n"])
def test_nobody_replaces_a_key_without_saying_why(database: Database, folder: Path, why: str) -> None:
    with database.writing() as session:
        _write(session, 2)
        with pytest.raises(Refused, match="Say why"):
            replace(session, folder, why)
    with database.reading() as session:
        assert signing.present(session) == 0
    assert not folder.exists()


@pytest.mark.parametrize("size", [8, 13, 40])
def test_a_key_that_was_replaced_proves_nothing_of_what_came_later(database: Database, folder: Path, size: int) -> None:
    """Somebody has the old key and signs what is true, or what never was: neither is worth anything."""
    begun(database, folder)
    forge(folder, size, root_of(database, size), 0)
    assert faults(database, folder) == {
        "mini": [
            f"A checkpoint with {size} entries is signed with a key that was replaced when the log had 7: it proves "
            "nothing, and somebody else may have that key."
        ]
    }


def test_a_checkpoint_that_is_made_to_fit_does_not_stand_in_for_the_one_that_was_kept(
    database: Database, folder: Path
) -> None:
    """A log that was written anew, with a checkpoint for it beside the one of the log as it was: both are looked at."""
    begun(database, folder)
    kept, fits = Checkpoint("mini", 7, bytes(32), 0), Checkpoint("mini", 7, root_of(database, 7), 0)
    with database.reading() as session:
        for points in ([kept, fits], [fits, kept]):
            assert verify(session, "mini", points).faults == [
                "The first 7 entries are not those of the checkpoint kept outside the database."
            ]


@pytest.mark.parametrize(("generation", "size"), [(1, 7), (1, 3), (2, 9), (999, 13), (2, 1)])
def test_a_key_counts_only_from_its_announcement_on(
    database: Database, folder: Path, generation: int, size: int
) -> None:
    begun(database, folder)
    forge(folder, size, root_of(database, size), generation)
    assert faults(database, folder) == {
        "mini": [f"A checkpoint with {size} entries is signed with a key that the log had not announced by then."]
    }


def test_a_key_that_follows_from_no_generation_is_not_ours(database: Database, folder: Path) -> None:
    begun(database, folder)
    forge(folder, 9, root_of(database, 9), 1000)
    points, (fault,) = checkpoints.kept(folder, KEYS)
    assert "signature of a checkpoint is not ours" in fault
    assert len(points) == 5


def test_a_signature_under_the_id_of_another_key_is_not_ours(database: Database, folder: Path) -> None:
    begun(database, folder)
    notes = [checkpoints.signed_note(KEYS, Checkpoint("mini", 9, root_of(database, 9), each)) for each in (0, 1)]
    (text, first), (_, second) = (note.rstrip().rsplit(" ", 1) for note in notes)
    named, signed = base64.b64decode(first)[:4], base64.b64decode(second)[4:]
    mixed = f"{text} {base64.b64encode(named + signed).decode()}\n"
    with pytest.raises(checkpoints.BadCheckpoint, match="not ours"):
        checkpoints.read_note(KEYS, mixed)


def put_back(database: Database, sizes: dict[str, int]) -> None:
    """A database from before, as far as its logs are concerned: nothing in it says that there was more."""
    with database.writing() as session:
        without_triggers(session)
        for log, size in sizes.items():
            session.execute(ENTRY.delete().where(ENTRY.c.log == log, ENTRY.c.position >= size))
            frontier = Frontier()
            rows = session.execute(select(ENTRY.c.leaf_hash).where(ENTRY.c.log == log).order_by(ENTRY.c.position))
            for row in rows.all():
                frontier.append(row.leaf_hash)
            held = {"size": size, "root": frontier.root(), "frontier": frontier.to_bytes()}
            session.execute(update(HEAD).where(HEAD.c.log == log).values(held))


def test_a_database_from_before_the_replacement_is_found_to_be_cut_short(database: Database, folder: Path) -> None:
    begun(database, folder)
    put_back(database, {"mini": 7, SYSTEM_LOG: 4})
    assert faults(database, folder) == {
        "mini": ["A checkpoint has 8 entries, but the log has only 7: it was cut short."],
        "system": ["A checkpoint has 5 entries, but the log has only 4: it was cut short."],
    }
    with database.writing() as session, pytest.raises(Refused, match="has fewer: it was cut short"):
        replace(session, folder)
    # It goes on with the key that was retired elsewhere, until it has more entries than there ever were.
    with database.writing() as session:
        _write(session, 9)
        _write(session, 9, SYSTEM_LOG)
        keep(session, folder)
    found = faults(database, folder)
    for log, size in (("mini", 8), ("system", 5)):
        assert found[log] == [
            f"A checkpoint with {size} entries is signed with a key that the log had not announced by then."
        ]
    # Whoever replaces it now is given a key that never signed anything: the one from before would vouch for both.
    with database.writing() as session:
        replace(session, folder)
        assert signing.present(session) == 2


def test_one_log_alone_put_back_is_found_without_any_checkpoint(database: Database, folder: Path) -> None:
    begun(database, folder)
    with database.writing() as session:
        replace(session, folder)
    for path in folder.iterdir():
        path.unlink()
    put_back(database, {"mini": 9})
    cut = "The system's log announces a signing key that this log does not announce: it was cut short."
    assert faults(database, folder) == {"mini": [cut]}


def test_who_dies_before_the_commit_has_replaced_nothing(database: Database, folder: Path) -> None:
    with database.writing() as session:
        _write(session, 6)
    with pytest.raises(KeyboardInterrupt), database.writing() as session:  # noqa: PT012
        replace(session, folder)
        raise KeyboardInterrupt
    assert faults(database, folder) == {}
    with database.writing() as session:
        assert (signing.present(session), replacing.unfinished(session, folder)) == (0, [])
        _write(session, 1)
        replace(session, folder)
    with database.writing() as session:
        keep(session, folder)
    assert faults(database, folder) == {}
    kept = [(point.log, point.size, point.generation) for point in checkpoints.kept(folder, KEYS)[0]]
    # Nothing of the system was written down before: its log begins with the announcement.
    assert kept == [("mini", 6, 0), ("mini", 7, 0), ("mini", 8, 1), (SYSTEM_LOG, 1, 1)]


def test_who_dies_after_the_commit_leaves_checkpoints_to_be_kept_at_any_later_time(
    database: Database, folder: Path
) -> None:
    with database.writing() as session:
        _write(session, 6)
        _write(session, 2, SYSTEM_LOG)
    with database.writing() as session:
        replace(session, folder)
    with database.writing() as session:
        assert replacing.unfinished(session, folder) == ["mini", SYSTEM_LOG]
        _write(session, 1)
        _write(session, 1, "later")
        checkpoints.keep(folder, session, "mini")
        assert replacing.unfinished(session, folder) == [SYSTEM_LOG]
    assert faults(database, folder) == {}
    # Replaced once more by somebody who does not know: each key has signed where it was its turn.
    with database.writing() as session:
        replace(session, folder)
    with database.writing() as session:
        keep(session, folder)
        assert replacing.unfinished(session, folder) == []
    assert faults(database, folder) == {}
    assert {(point.log, point.size, point.generation) for point in checkpoints.kept(folder, KEYS)[0]} == {
        ("mini", 6, 0),
        ("mini", 8, 1),
        ("mini", 9, 2),
        ("system", 2, 0),
        ("system", 3, 1),
        ("system", 4, 2),
        ("later", 1, 1),
        ("later", 2, 2),
    }


def test_a_log_that_begins_later_begins_with_the_key_of_the_systems_log(database: Database, folder: Path) -> None:
    begun(database, folder)
    with database.writing() as session:
        _write(session, 3, "later")
        keep(session, folder)
        (key,) = signing.log_keys(session, "later")
        assert (key.generation, key.first, key.at) == (1, 0, None)
    assert faults(database, folder) == {}
    forge(folder, 2, root_of(database, 2, "later"), 0, "later")
    said = "A checkpoint with 2 entries is signed with a key that the log had not announced by then."
    assert faults(database, folder) == {"later": [said]}


def test_a_log_that_is_just_being_begun_is_waited_for(database: Database, folder: Path) -> None:
    """Its head is not committed yet, so nobody else sees it: it must not go on without the announcement."""
    with database.writing() as session:
        _write(session, 2, SYSTEM_LOG)
    announced: list[Sequence[str]] = []

    def other() -> None:
        with database.writing() as session:
            announced.append(replace(session, folder))

    thread = threading.Thread(target=other)
    with database.writing() as session:
        _write(session, 3, "begun")
        thread.start()
        if not database.is_sqlite:
            _until_somebody_waits(database)
        assert not announced
    thread.join(30)
    assert announced == [["begun", SYSTEM_LOG]]
    assert faults(database, folder) == {}


def _until_somebody_waits(database: Database) -> None:
    waiting, asked = threading.Event(), "SELECT count(*) FROM pg_locks WHERE NOT granted"
    for _ in range(1000):
        with database.reading() as session:
            if session.execute(text(asked)).scalar_one():
                return
        waiting.wait(0.01)
    raise AssertionError("Nobody waited for the log that was being begun.")


ALTERED = {
    "another key": ("new = replace(new, 'generation\"\\:1', 'generation\"\\:2')", "was altered"),
    "no key": ("new = 'null'", "was altered"),
    "nothing that can be read": ("new = '{', old = '['", "was altered"),
    "another action": ("action = 'thing.changed'", "was altered"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_an_announcement_that_was_altered_is_named_and_announces_nothing(
    database: Database, folder: Path, what: str
) -> None:
    begun(database, folder)
    change, named = ALTERED[what]
    with database.writing() as session:
        without_triggers(session)
        session.execute(text(f"UPDATE audit_entry SET {change} WHERE log = 'mini' AND position = 7"))
    found = faults(database, folder)["mini"]
    assert any(fault.startswith("Entry 7 (") and named in fault for fault in found), found
    assert len(found) > 1  # the key that it announced is none
    with database.reading() as session:
        assert signing.log_keys(session, "mini")  # shown as far as it can be read


def test_an_announcement_put_in_with_hash_and_tree_was_not_written_here(database: Database, folder: Path) -> None:
    """With the database alone, even whoever has a key to be announced cannot have it announced."""
    with database.writing() as session:
        _write(session, 5)
    said = signing.announcement(KEYS, "mini", 0, 1)
    with database.writing() as session:
        record(session, "mini", [said], by=person(session, None, "administrator", username="admin"), now=NOW)
        without_triggers(session)
        session.execute(text("UPDATE audit_entry SET tag = leaf_hash WHERE position = 5"))
    with database.writing() as session:
        point = checkpoints.current(session, "mini")
        assert point is not None
        assert point.generation == 0  # what the system's log announced
        found = verify(session, "mini", [Checkpoint("mini", 6, point.root, 1)]).faults
    assert found == [
        "Entry 5 (log_key.replaced) was not written by this installation.",
        "A checkpoint with 6 entries is signed with a key that the log had not announced by then.",
    ]


def test_announcements_that_do_not_follow_each_other_are_named(database: Database) -> None:
    follows = signing.announcement(KEYS, "mini", 0, 3)
    wrong = {
        "the same again": follows,
        "an earlier one": signing.announcement(KEYS, "mini", 3, 2),
        "one that replaces another than the present": signing.announcement(KEYS, "mini", 2, 4),
        "that of another log": signing.announcement(KEYS, "other", 3, 4),
        "one that names none": Change(signing.REPLACED, old=follows.new, new={"generation": True}),
        "one of none": Change(signing.REPLACED, old=follows.new),
    }
    with database.writing() as session:
        by = person(session, None, "administrator", username="admin")
        record(session, "mini", [follows, *wrong.values()], by=by, now=NOW)
        record(session, SYSTEM_LOG, [signing.announcement(KEYS, SYSTEM_LOG, 0, 3)], by=by, now=NOW)
        assert verify(session, "mini").faults == [
            f"Entry {position} announces a signing key that does not follow the one before."
            for position in range(1, 1 + len(wrong))
        ]


def test_an_entry_rewritten_after_the_announcement_is_found_by_the_old_checkpoint(
    database: Database, folder: Path
) -> None:
    """Entry, hash, tree and head anew, and only what the first key signed is left."""
    begun(database, folder)
    for path in folder.glob("*8.checkpoint"):
        path.unlink()
    with database.writing() as session:
        without_triggers(session)
        session.execute(text("UPDATE audit_entry SET new = '99' WHERE log = 'mini' AND position = 2"))
        frontier = Frontier()
        rows = session.execute(select(ENTRY).where(ENTRY.c.log == "mini").order_by(ENTRY.c.position)).mappings().all()
        for row in rows:
            hashed = leaf_hash(leaf_bytes(dict(row)))
            tag = KEYS.tag("audit entry", hashed)  # by somebody who has everything
            here = (ENTRY.c.log == "mini") & (ENTRY.c.position == row["position"])
            session.execute(ENTRY.update().where(here).values(leaf_hash=hashed, tag=tag))
            frontier.append(hashed)
        held = {"root": frontier.root(), "frontier": frontier.to_bytes()}
        session.execute(update(HEAD).where(HEAD.c.log == "mini").values(held))
    assert faults(database, folder) == {
        "mini": [
            f"The first {size} entries are not those of the checkpoint kept outside the database." for size in (6, 7)
        ]
    }


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_history_each_size_of_a_log_has_one_key(database: Database, folder: Path, seed: int) -> None:
    """Entries, checkpoints, replacements and new logs in any order: what was kept verifies, with no other key."""
    chance, names = Random(seed), [SYSTEM_LOG, "mini"]
    with database.writing() as session:
        _write(session, 1, SYSTEM_LOG)
        _write(session, 1, "mini")
        for _ in range(25):
            step = chance.choice(["write", "write", "keep", "replace", "begin"])
            if step == "write":
                _write(session, chance.randint(1, 3), chance.choice(names))
            elif step == "keep":
                checkpoints.keep(folder, session, chance.choice(names))
            elif step == "replace":
                replace(session, folder)
            elif len(names) < 5:
                names.append(f"log{len(names)}")
                _write(session, 1, names[-1])
    points, _ = checkpoints.kept(folder, KEYS)
    assert points
    assert faults(database, folder) == {}
    with database.reading() as session:
        newest = signing.present(session)
        for log, generation in itertools.product(sorted({point.log for point in points}), range(newest + 2)):
            others = [
                Checkpoint(log, point.size, point.root, generation)
                for point in points
                if point.log == log and point.generation != generation
            ]
            told = [
                re.search(r"checkpoint (?:with|has) (\d+) entries", each)
                for each in verify(session, log, others).faults
            ]
            assert [found and int(found[1]) for found in told] == [other.size for other in others], (log, generation)


def test_to_keep_a_checkpoint_asks_no_more_of_the_database_than_before(database: Database, folder: Path) -> None:
    from tests.web.browser import counted_statements

    begun(database, folder)
    with database.writing() as session, counted_statements(database) as statements:
        assert checkpoints.current(session, "mini") is not None
    assert len([each for each in statements if each.startswith("SELECT")]) == 1, statements
