"""What do we write down? `record` adds entries in the caller's transaction; nothing changes or removes one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

from sqlalchemy import String, TextClause, bindparam, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.audit.models import SYSTEM_LOG, AuditEntry, AuditHead
from app.audit.rules import dated, leaf_bytes, value_text
from app.audit.tree import Frontier, leaf_hash
from app.foundation.database import keys_of, table_of
from app.foundation.errors import Problem

ENTRY = table_of(AuditEntry)
HEAD = table_of(AuditHead)
TAG_PURPOSE = "audit entry"
HELD = "audit frontier"
TOGETHER = "audit entries to come"

# Built once: every change of every kind goes through these, and putting one together takes longer than running it.
_LOG = bindparam("of_log", type_=String)
_FRONTIER = select(HEAD.c.frontier, HEAD.c.at).where(HEAD.c.log == _LOG).with_for_update()
_APPEND = insert(ENTRY)
_COLUMNS = tuple(ENTRY.c.keys())
MOST_VALUES, MOST_TOGETHER = 50, 12
"""Values of a statement above which psycopg takes it apart anew each time, which takes longer than a pipeline; and the
rows above which there are always more, because each has a place, a hash and a tag of its own."""
_MOVE_HEAD = (
    update(HEAD)
    .where(HEAD.c.log == _LOG)
    .values(size=bindparam("size"), frontier=bindparam("frontier"), root=bindparam("root"), at=bindparam("at"))
)


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
    # For a list of rows a driver sets up a pipeline, which costs as much as several statements: a few are one of them.
    values, places = _said_once(rows) if 1 < len(rows) <= MOST_TOGETHER else ({}, ())
    if 0 < len(values) <= MOST_VALUES:
        session.execute(_few(places), values)
    else:
        session.execute(_APPEND, rows if len(rows) > 1 else rows[0])
    session.execute(
        _MOVE_HEAD,
        {
            "of_log": log,
            "size": frontier.size,
            "frontier": frontier.to_bytes(),
            "root": frontier.root(),
            "at": newest,
        },
    )
    session.info[HELD] = (_within(session), log, frontier, rows[-1]["leaf_hash"], newest)


def _said_once(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], tuple[tuple[int, ...], ...]]:
    """The values of these rows, those that are the same in one column once; and for each column, of each row, the
    place of the row where its value is said."""
    values: dict[str, Any] = {}
    places = []
    for name in _COLUMNS:
        said: dict[Any, int] = {}
        places.append(tuple(said.setdefault(row[name], place) for place, row in enumerate(rows)))
        values.update({f"{name}_{place}": value for value, place in said.items()})
    return values, tuple(places)


@lru_cache(200)
def _few(places: tuple[tuple[int, ...], ...]) -> TextClause:
    """The statement for rows of which these values are the same; its parameters are those of `_said_once`.

    As text: an insert of several rows would be put together anew each time.
    """
    columns = ", ".join(f'"{name}"' for name in _COLUMNS)
    rows = [[f"{name}_{place}" for name, place in zip(_COLUMNS, row, strict=True)] for row in zip(*places, strict=True)]
    values = ", ".join(f"({', '.join(f':{key}' for key in row)})" for row in rows)
    said = f"INSERT INTO {ENTRY.name} ({columns}) VALUES {values}"  # noqa: S608 - our own columns and placeholders
    types = {key: ENTRY.c[name].type for row in rows for name, key in zip(_COLUMNS, row, strict=True)}
    return text(said).bindparams(*[bindparam(key, type_=kind) for key, kind in types.items()])


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
    held = within is not None and of_log == log and within == _within(session)
    return (frontier, newest) if held else None


def last_recorded(session: Session, log: str) -> tuple[int, bytes] | None:
    """How long the log is with what this very transaction wrote down, and the hash of its last entry.

    None when it wrote nothing, or nothing that certainly stands: something was rolled back to a savepoint, or may be.
    """
    within, of_log, frontier, leaf, _ = session.info.get(HELD, NOTHING_HELD)
    return (frontier.size, leaf) if of_log == log and within == _within(session) else None


def _within(session: Session) -> tuple[object, object]:
    """The transaction and the savepoint in it: what is rolled back to a savepoint takes the end of the log along."""
    return session.get_transaction(), session.get_nested_transaction()


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
