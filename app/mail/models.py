"""What do we keep of a mail? To whom, what it says, and whether it left."""

from datetime import datetime

from sqlalchemy import Column, Index, LargeBinary, Text, false, text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant

COPY_FAILED = "consent_id IS NOT NULL AND ended_as = 'failed'"
"""Copies of consents that could not go: few, however many messages there are."""


class OutboxMail(SQLModel, table=True):
    """One message waiting or sent. `key` makes queueing it twice the same as once. It never names an arm or a person.

    `sealed` is what stands in the place of `SECRET` in the body, until it is sent: a link that signs somebody in.

    A message of a study says which, whom it is about, and why (`rule`, and the `kind` of visit). One to a participant
    holds no address and no file of theirs: both are looked up when it is sent, so that erasing a person erases it
    everywhere. The numbers are those of tables that stand above this room, which knows only their names.
    """

    __tablename__ = "outbox_mail"
    __table_args__ = (
        Index("ix_outbox_mail_due", "sent_at", "not_before"),
        Index("ix_outbox_mail_study", "study_id", "id"),
        Index(
            "ix_outbox_mail_consent",
            "consent_id",
            "id",
            sqlite_where=text("consent_id IS NOT NULL"),
            postgresql_where=text("consent_id IS NOT NULL"),
        ),
        Index(
            "ix_outbox_mail_copy_failed",
            "study_id",
            "consent_id",
            sqlite_where=text(COPY_FAILED),
            postgresql_where=text(COPY_FAILED),
        ),
        Index(
            "ix_outbox_mail_link",
            "link_id",
            sqlite_where=text("link_id IS NOT NULL"),
            postgresql_where=text("link_id IS NOT NULL"),
        ),
    )

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
    channel: str = Field(default="mail", sa_column_kwargs={"server_default": "mail"})
    calendar: str | None = Field(default=None, sa_type=Text)
    """An iCalendar object that goes with the mail."""
    study_id: int | None = None
    site_id: int | None = None
    participant_id: int | None = None
    to_participant: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    rule: str | None = None
    kind: str | None = None
    visit_id: int | None = None
    appointment_id: int | None = None
    sequence: int | None = None
    """The sequence of the appointment it tells of: once that has changed, an old message is not sent."""
    consent_id: int | None = None
    """The consent whose copy goes with it: made when it is sent, so that nothing of it waits here."""
    link_id: int | None = None
    """The participant's link that it carries: once that opens nothing any more, the message is not sent."""
    expires_at: datetime | None = Field(default=None, sa_type=Instant)
    ended_at: datetime | None = Field(default=None, sa_type=Instant)
    ended_as: str | None = None
    """`failed`: given up, can be sent again; `dropped`: not to be sent any more."""
