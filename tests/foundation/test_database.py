"""Sessions: a statement about tables goes to the connection as it is, and yet sees what waits to be stored."""

from sqlalchemy import select
from sqlmodel import Session

from app.audit.models import AuditHead
from app.foundation.database import table_of

HEAD = table_of(AuditHead)


def test_a_statement_about_tables_sees_what_waits_to_be_stored(session: Session) -> None:
    session.add(AuditHead(log="waiting", size=7, frontier=b"", root=b""))
    assert session.execute(select(HEAD.c.size).where(HEAD.c.log == "waiting")).scalar_one() == 7


def test_a_statement_about_models_gives_the_very_ones_the_session_has(session: Session) -> None:
    waiting = AuditHead(log="waiting", size=7, frontier=b"", root=b"")
    session.add(waiting)
    assert session.execute(select(AuditHead).where(HEAD.c.log == "waiting")).scalar_one() is waiting
