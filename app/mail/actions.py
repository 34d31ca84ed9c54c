"""What do we tell people by mail? `queue` puts a mail in the outbox, in the transaction of what it tells of."""

from datetime import datetime

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.foundation.database import table_of
from app.mail.models import OutboxMail

MAIL = table_of(OutboxMail)


def queue(session: Session, *, key: str, to_address: str, subject: str, body: str, now: datetime) -> None:
    """Put one mail in the outbox; the same key twice is one mail. No arm and no name may stand in it."""
    dialect_insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(
        dialect_insert(MAIL)
        .values(key=key, to_address=to_address, subject=subject, body=body, queued_at=now, not_before=now, attempts=0)
        .on_conflict_do_nothing()
    )
