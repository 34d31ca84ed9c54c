"""What do we write down? `record` adds entries in the caller's transaction; nothing changes or removes one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import orjson
from sqlalchemy import String, bindparam, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.audit.models import SYSTEM_LOG, AuditEntry, AuditHead
from app.audit.rules import dated, leaf_bytes, value_text
from app.audit.tree import Frontier, leaf_hash
from app.foundation.database import keys_of, table_of, transaction_of
from app.foundation.errors import Problem

ENTRY = table_of(AuditEntry)
HEAD = table_of(AuditHead)
TAG_PURPOSE = "audit entry"
HELD = "audit frontier"
TOGETHER = "audit entries to come"

# Built once: every change of every kind goes through these, and putting one together takes longer than running it.
_LOG = bindparam("of_log", type_=String)
_FRONTIER = select(HEAD.c.frontier, HEAD.c.at).where(HEAD.c.log == _LOG).with_for_update()
_COLUMNS = tuple(ENTRY.c.keys())
_BYTES = ("leaf_hash", "tag")
_NO_TEXT = {"position": "int", "at": "timestamptz", **dict.fromkeys(_BYTES, "bytea")}
# All rows are one value of a statement whose text is always the same. For a list of rows the driver would set up a
# pipeline, which costs as much as several statements, and take each row apart by itself.
MOST_AT_ONCE = 1000
_NAMED = ", ".join(f'"{name}"' for name in _COLUMNS)
_KINDS = ", ".join(f'"{name}" {_NO_TEXT.get(name, "text")}' for name in _COLUMNS)
# What the entries of one change mostly have in common is said once; to read it again for each of them took the database
# longer than to store them.
_SHARED = ("log", "at", "username", "role", "organisation", "via", "participant", "subject", "request_id")
_OR_THAT_OF_ALL = 'coalesce("{0}", CAST(:all_{0} AS {1}))'
_EACH = ", ".join(
    _OR_THAT_OF_ALL.format(name, _NO_TEXT.get(name, "text")) if name in _SHARED else f'"{name}"' for name in _COLUMNS
)
_ROWS = f"json_to_recordset(CAST(:rows AS json)) AS r({_KINDS})"
_ALL = f"INSERT INTO {ENTRY.name} ({_NAMED}) SELECT {_EACH} FROM {_ROWS}"  # noqa: S608 - our own columns
_FOR_ALL = tuple(bindparam(f"all_{name}", type_=ENTRY.c[name].type) for name in _SHARED)
_APPEND_ALL = text(_ALL).bindparams(*_FOR_ALL)
_APPEND = insert(ENTRY)
_MOVED = ("size", "frontier", "root", "at")
_MOVE_HEAD = update(HEAD).where(HEAD.c.log == _LOG).values({name: bindparam(name) for name in _MOVED})
# Both are written each time, and one statement less is a tenth of what an entry costs.
_APPEND_AND_MOVE = text(
    f"WITH moved AS (UPDATE {HEAD.name} SET {', '.join(f'{name} = :{name}' for name in _MOVED)} "  # noqa: S608 - as above
    f"WHERE log = :of_log) {_ALL}"
).bindparams(_LOG, *(bindparam(name, type_=HEAD.c[name].type) for name in _MOVED), *_FOR_ALL)


class Author(Protocol):
    """Who the log says did it; `app.people.access.Actor` is one."""

    @property
    def username(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def organisation(self) -> str: ...
    @property
    def via(self) -> str: ...
    @property
    def request_id(self) -> str: ...


@dataclass(frozen=True)
class Change:
    """One thing that changed: `action` is noun.past_participle; `old` and `new` any JSON value, never personal data."""

    action: str
    participant: str = ""
    subject: str = ""
    item: str = ""
    old: Any = None
    new: Any = None
    why: str | None = None


def record(
    session: Session, log: str, changes: Sequence[Change], *, by: Author, now: datetime, why: str | None = None
) -> None:
    """Append one entry per change to a log (a study's code, or the system log), in this transaction.

    The head row is locked until the transaction ends, so entries of one log stand in commit order without gaps; call
    it after the rows that describe the change, so that every transaction takes its locks in the same order.
    """
    if not changes:
        return
    rows = _rows(changes, by=by, now=now, why=why)
    waiting = session.info.get(TOGETHER)
    if waiting is not None:
        waiting.setdefault(log, []).extend(rows)
        return
    _append(session, log, rows)


@contextmanager
def recorded_together(session: Session) -> Iterator[None]:
    """What is recorded within the block is written at its end, in one go: several rooms take part in one change.

    Nothing is written when the block ends in an error. Within such a block another one is part of it.
    """
    if TOGETHER in session.info:
        yield
        return
    waiting: dict[str, list[dict[str, Any]]] = {}
    session.info[TOGETHER] = waiting
    try:
        yield
    finally:
        del session.info[TOGETHER]
    for log, rows in waiting.items():
        _append(session, log, rows)


def _rows(changes: Sequence[Change], *, by: Author, now: datetime, why: str | None) -> list[dict[str, Any]]:
    common = {
        "at": now,
        "username": by.username,
        "role": by.role,
        "organisation": by.organisation,
        "via": by.via,
        "request_id": by.request_id,
    }
    return [
        {
            **common,
            "action": change.action,
            "participant": change.participant,
            "subject": change.subject,
            "item": change.item,
            "old": value_text(change.old),
            "new": value_text(change.new),
            "why": change.why or why,
        }
        for change in changes
    ]


def _append(session: Session, log: str, rows: Sequence[dict[str, Any]]) -> None:
    frontier, newest = _held_end(session, log) or _lock_end(session, log)
    keys = keys_of(session)
    for row in rows:
        row["at"] = dated(row["at"], newest)
        newest = row["at"] if newest is None else max(newest, row["at"])
        row["log"], row["position"] = log, frontier.size
        row["leaf_hash"] = leaf_hash(leaf_bytes(row))
        row["tag"] = keys.tag(TAG_PURPOSE, row["leaf_hash"])
        frontier.append(row["leaf_hash"])
    end = {
        "of_log": log,
        "size": frontier.size,
        "frontier": frontier.to_bytes(),
        "root": frontier.root(),
        "at": newest,
    }
    _store(session, rows, end)
    session.info[HELD] = (transaction_of(session), log, frontier, rows[-1]["leaf_hash"], newest)


def _store(session: Session, rows: Sequence[dict[str, Any]], end: dict[str, Any]) -> None:
    """Put whole rows behind what is there, and say where the log ends now."""
    if session.get_bind().dialect.name != "postgresql":
        session.execute(_APPEND, rows)
        session.execute(_MOVE_HEAD, end)
        return
    shared = {name: rows[0][name] for name in _SHARED}
    to_all = {f"all_{name}": value for name, value in shared.items()}
    for first in range(0, len(rows), MOST_AT_ONCE):
        said = [_said(row, shared) for row in rows[first : first + MOST_AT_ONCE]]
        given = {"rows": orjson.dumps(said).decode(), **to_all}
        if first + MOST_AT_ONCE < len(rows):
            session.execute(_APPEND_ALL, given)
        else:
            session.execute(_APPEND_AND_MOVE, given | end)


def _said(row: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """A row as PostgreSQL is told it: what it does not share with the others, and has."""
    own = {name: value for name, value in row.items() if value is not None and shared.get(name) != value}
    for name in _BYTES:
        own[name] = "\\x" + own[name].hex()
    return own


def record_refusal(session: Session, log: str | None, problem: Problem, *, by: Author, now: datetime) -> None:
    """Write down that somebody was refused, once: the change itself was rolled back, the attempt stays on record."""
    if problem.recorded:
        return
    problem.recorded = True
    participant, _, subject = problem.subject.partition("/")
    change = Change(
        action=f"{problem.action or 'request'}_refused", participant=participant, subject=subject, why=problem.reason
    )
    record(session, log or SYSTEM_LOG, [change], by=by, now=now)


NOTHING_HELD = (None, None, None, None, None)


def _held_end(session: Session, log: str) -> tuple[Frontier, datetime | None] | None:
    """The end of the log as this very transaction left it: its head is locked, so it stands there still."""
    within, of_log, frontier, _, newest = session.info.pop(HELD, NOTHING_HELD)
    held = within is not None and of_log == log and within == transaction_of(session)
    return (frontier, newest) if held else None


def last_recorded(session: Session, log: str) -> tuple[int, bytes] | None:
    """How long the log is with what this very transaction wrote down, and the hash of its last entry.

    None when it wrote nothing, or nothing that certainly stands: something was rolled back to a savepoint, or may be.
    """
    within, of_log, frontier, leaf, _ = session.info.get(HELD, NOTHING_HELD)
    return (frontier.size, leaf) if of_log == log and within == transaction_of(session) else None


def _lock_end(session: Session, log: str) -> tuple[Frontier, datetime | None]:
    """The edge of the log's tree, and the latest date in it; nobody else appends until this ends."""
    stored = session.execute(_FRONTIER, {"of_log": log}).first()
    if stored is None:
        empty = Frontier()
        dialect_insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        session.execute(
            dialect_insert(HEAD)
            .values(log=log, size=0, frontier=empty.to_bytes(), root=empty.root())
            .on_conflict_do_nothing()
        )
        stored = session.execute(_FRONTIER, {"of_log": log}).one()
    return Frontier.from_bytes(stored.frontier), stored.at
