"""Under which version of the software were entries written? The system's log says when each was installed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from json import loads

from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY, Author, Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.database import written_out

INSTALLED = "software.installed"
SHOWN = 20


@dataclass(frozen=True)
class Installed:
    """A version, and from when on it was in use."""

    version: str
    at: datetime


def installed(session: Session) -> Sequence[Installed]:
    """The versions that were installed here, the newest first, as many as a page shows."""
    found = select(ENTRY.c.new, ENTRY.c.at).where(ENTRY.c.log == SYSTEM_LOG, ENTRY.c.action == written_out(INSTALLED))
    rows = session.execute(found.order_by(ENTRY.c.position.desc()).limit(SHOWN))
    return [Installed(loads(row.new), row.at) for row in rows]


def record_installed(session: Session, *, by: Author, now: datetime) -> None:
    """Write the version of the software down, unless the last such entry says it."""
    last, mine = next(iter(installed(session)), None), version("equipoise")
    if last is None or last.version != mine:
        change = Change(INSTALLED, subject="software", old=last.version if last else None, new=mine)
        record(session, SYSTEM_LOG, [change], by=by, now=now)


def begun(session: Session) -> bool:
    """Whether the system's log holds anything yet; what is empty can still be filled from a backup."""
    return session.execute(select(ENTRY.c.position).where(ENTRY.c.log == SYSTEM_LOG).limit(1)).first() is not None
