"""What may I see of the log? Pages of entries, newest first, filtered and scoped to the participants one may know."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.audit.rules import FIELDS
from app.foundation import paging


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
    if participants is not None:
        query = query.where(ENTRY.c.participant.in_(participants))
    backwards = False
    if cursor:
        (position,), backwards = paging.decode(cursor, 1, int)
        query = query.where(ENTRY.c.position > position if backwards else ENTRY.c.position < position)
    order = ENTRY.c.position.asc() if backwards else ENTRY.c.position.desc()
    found: Sequence[Any] = session.execute(query.order_by(order).limit(size + 1)).mappings().all()
    return paging.page_of(found, size, lambda row: (row["position"],), cursor=cursor, backwards=backwards)
