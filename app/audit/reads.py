"""What may I see of the log? Pages of entries, newest first, filtered and scoped to the participants one may know."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, Select, String, bindparam, select
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.audit.rules import FIELDS
from app.foundation import paging
from app.foundation.database import streamed

_FIRST_OF_ALL = (
    select(*[ENTRY.c[name] for name in FIELDS])
    .where(ENTRY.c.log == bindparam("of_log", type_=String))
    .order_by(ENTRY.c.position.desc())
    .limit(bindparam("most", type_=Integer))
)
# What a page about a participant asks each time is built once: putting it together takes longer than running it.
_FIRST = {False: _FIRST_OF_ALL, True: _FIRST_OF_ALL.where(ENTRY.c.participant == bindparam("of", type_=String))}


@dataclass(frozen=True)
class HistoryLine:
    """One change of an item of something, as the log has it; `old` and `new` are stored values or None."""

    at: datetime
    username: str
    role: str
    organisation: str
    action: str
    item: str
    old: Any
    new: Any
    why: str | None


_LINE = tuple(each.name for each in fields(HistoryLine))


def history_of(
    session: Session,
    log: str,
    participant: str,
    subject: str,
    *,
    item: str | None = None,
    actions: Collection[str] | None = None,
) -> list[HistoryLine]:
    """What was changed in one subject of a participant whom the caller may know, the oldest first (EMA-5).

    Of one item, and by these actions, where they are given.
    """
    query = select(*[ENTRY.c[name] for name in _LINE]).where(
        ENTRY.c.log == log, ENTRY.c.participant == participant, ENTRY.c.subject == subject
    )
    if item is not None:
        query = query.where(ENTRY.c.item == item)
    if actions is not None:
        query = query.where(ENTRY.c.action.in_(actions))
    rows = session.execute(query.order_by(ENTRY.c.position)).mappings()
    return [HistoryLine(**{**row, "old": _parsed(row["old"]), "new": _parsed(row["new"])}) for row in rows]


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


@dataclass(frozen=True)
class AuditFilter:
    """What somebody looks for in the log; None means anything."""

    participant: str | None = None
    username: str | None = None
    action: str | None = None
    subject: str | None = None
    item: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def entries(
    session: Session,
    log: str,
    wanted: AuditFilter,
    *,
    participants: Select[Any] | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Any]:
    """One page of a log, newest first. `participants` is a SELECT of the codes one may know; None means all of them."""
    size = paging.page_size(limit)
    backwards = False
    if participants is None and not cursor and wanted == AuditFilter(participant=wanted.participant):
        asked = {"of_log": log, "of": wanted.participant, "most": size + 1}
        rows = session.execute(_FIRST[bool(wanted.participant)], asked)
    else:
        query = _wanted(log, wanted)
        if participants is not None:
            query = query.where(ENTRY.c.participant.in_(participants))
        if cursor:
            (position,), backwards = paging.decode(cursor, 1, int)
            query = query.where(ENTRY.c.position > position if backwards else ENTRY.c.position < position)
        order = ENTRY.c.position.asc() if backwards else ENTRY.c.position.desc()
        rows = session.execute(query.order_by(order).limit(size + 1))
    found: Sequence[Any] = rows.mappings().all()
    return paging.page_of(found, size, lambda row: (row["position"],), cursor=cursor, backwards=backwards)


def entry_at(session: Session, log: str, position: int, *, participants: Select[Any] | None = None) -> Any | None:
    """One entry of a log by its place, as `entries` shows it; None when there is none that one may know."""
    query = _wanted(log, AuditFilter()).where(ENTRY.c.position == position)
    if participants is not None:
        query = query.where(ENTRY.c.participant.in_(participants))
    return session.execute(query).mappings().first()


def _wanted(log: str, wanted: AuditFilter) -> Select[Any]:
    """The entries that somebody looks for, in no order yet."""
    query = select(*[ENTRY.c[name] for name in FIELDS]).where(ENTRY.c.log == log)
    for name in ("participant", "username", "subject", "item"):
        value = getattr(wanted, name)
        if value:
            query = query.where(ENTRY.c[name] == value)
    if wanted.action:
        query = query.where(ENTRY.c.action.startswith(wanted.action, autoescape=True))
    if wanted.since:
        query = query.where(ENTRY.c.at >= wanted.since)
    if wanted.until:
        query = query.where(ENTRY.c.at < wanted.until)
    return query


def changed_between(
    session: Session, log: str, actions: Sequence[str], *, after: datetime | None = None, before: datetime | None = None
) -> set[str]:
    """The codes of the participants of whom one of these things is in the log, strictly between two instants."""
    query = select(ENTRY.c.participant).distinct().where(ENTRY.c.log == log, ENTRY.c.action.in_(actions))
    if after is not None:
        query = query.where(ENTRY.c.at > after)
    if before is not None:
        query = query.where(ENTRY.c.at < before)
    return set(session.execute(query).scalars())


def newest_first(
    session: Session,
    log: str,
    wanted: AuditFilter,
    *,
    participants: Select[Any] | None = None,
) -> Iterator[Any]:
    """A whole log, newest first, read as it is asked for; otherwise as `entries`."""
    query = _wanted(log, wanted)
    if participants is not None:
        query = query.where(ENTRY.c.participant.in_(participants))
    return streamed(session, query.order_by(ENTRY.c.position.desc()), batch=500)
