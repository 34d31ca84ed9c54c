"""What do we keep of a mail? To whom, what it says, and whether it left."""

from datetime import datetime

from sqlalchemy import Index, Text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class OutboxMail(SQLModel, table=True):
    """One mail waiting or sent. `key` makes queueing it twice the same as once. It never names an arm or a person."""

    __tablename__ = "outbox_mail"
    __table_args__ = (Index("ix_outbox_mail_due", "sent_at", "not_before"),)

    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    to_address: str
    subject: str
    body: str = Field(sa_type=Text)
    queued_at: datetime = Field(sa_type=Instant)
    not_before: datetime = Field(sa_type=Instant)
    attempts: int = 0
    last_error: str | None = None
    sent_at: datetime | None = Field(default=None, sa_type=Instant)
