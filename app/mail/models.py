"""What do we keep of a mail? To whom, what it says, and whether it left."""

from datetime import datetime

from sqlalchemy import Column, Index, LargeBinary, Text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class OutboxMail(SQLModel, table=True):
    """One mail waiting or sent. `key` makes queueing it twice the same as once. It never names an arm or a person.

    `sealed` is what stands in the place of `SECRET` in the body, until it is sent: a link that signs somebody in.
    """

    __tablename__ = "outbox_mail"
    __table_args__ = (Index("ix_outbox_mail_due", "sent_at", "not_before"),)

    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    to_address: str
    subject: str
    body: str = Field(sa_type=Text)
    sealed: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    queued_at: datetime = Field(sa_type=Instant)
    not_before: datetime = Field(sa_type=Instant)
    attempts: int = 0
    last_error: str | None = None
    sent_at: datetime | None = Field(default=None, sa_type=Instant)
