"""What do we keep of the schedule? Visits and their windows, appointments, feeds of them, and who wants reminders."""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, LargeBinary, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant
from app.schedule.status import AppointmentStatus, VisitStatus

__all__ = ["Appointment", "AppointmentStatus", "CalendarFeed", "ParticipantVisit", "ReminderChoice", "VisitStatus"]


class ParticipantVisit(SQLModel, table=True):
    """One visit of one participant.

    One that was entered in error was never held: `held_on` is empty then, and `in_error_why` says what went wrong.
    """

    __tablename__ = "visit"
    __table_args__ = (
        UniqueConstraint("participant_id", "code"),
        Index("ix_visit_due", "study_id", "status", "target_on", "id"),
        # What is still to be booked, by when it has to be.
        Index(
            "ix_visit_to_book",
            "study_id",
            "closes_on",
            "id",
            sqlite_where=text("status = 'planned'"),
            postgresql_where=text("status = 'planned'"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    code: str
    kind: str
    order: int = 0
    target_on: date
    opens_on: date
    closes_on: date
    status: str = VisitStatus.PLANNED
    held_on: date | None = None
    reason: str | None = None
    in_error_why: str | None = None
    version: int = 1
    created_at: datetime = Field(sa_type=Instant)


class Appointment(SQLModel, table=True):
    """A time at which a participant is to come: for a visit of the plan, or (`visit_id` None) for one outside it.

    `number` counts the appointments of one participant. `uid` and `sequence` are what calendars know it by (RFC 5545):
    the one never changes, the other grows with each change. `kind` is that of the visit, or `unscheduled`.
    """

    __tablename__ = "appointment"
    __table_args__ = (
        UniqueConstraint("participant_id", "number"),
        UniqueConstraint("uid"),
        Index("ix_appointment_study_time", "study_id", "starts_at"),
        Index("ix_appointment_person_time", "person_id", "starts_at"),
        # A visit is booked once at a time: what was cancelled, or nobody came to, may be booked again.
        Index(
            "ux_appointment_booked",
            "visit_id",
            unique=True,
            sqlite_where=text("status = 'booked'"),
            postgresql_where=text("status = 'booked'"),
        ),
        CheckConstraint("starts_at < ends_at", name="lasts"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    site_id: int = Field(foreign_key="site.id")
    participant_id: int = Field(foreign_key="participant.id")
    number: int
    visit_id: int | None = Field(default=None, foreign_key="visit.id")
    kind: str
    purpose: str | None = None
    starts_at: datetime = Field(sa_type=Instant)
    ends_at: datetime = Field(sa_type=Instant)
    person_id: int | None = Field(default=None, foreign_key="person.id")
    room: str | None = None
    status: str = AppointmentStatus.BOOKED
    reason: str | None = None
    uid: str
    sequence: int = 0
    version: int = 1
    changed_at: datetime = Field(sa_type=Instant)
    created_at: datetime = Field(sa_type=Instant)
    created_by: str


class CalendarFeed(SQLModel, table=True):
    """A secret address under which one person's appointments in one study can be read; kept only as a hash."""

    __tablename__ = "calendar_feed"
    __table_args__ = (Index("ix_calendar_feed_person_id", "person_id"),)

    id: int | None = Field(default=None, primary_key=True)
    token_hash: bytes = Field(sa_column=Column(LargeBinary, unique=True, nullable=False))
    person_id: int = Field(foreign_key="person.id")
    study_id: int = Field(foreign_key="study.id")
    whose: str  # mine: where I am the person; sites: all at my sites
    created_at: datetime = Field(sa_type=Instant)
    revoked_at: datetime | None = Field(default=None, sa_type=Instant)
    last_read_at: datetime | None = Field(default=None, sa_type=Instant)
    counted_from: datetime | None = Field(default=None, sa_type=Instant)
    reads: int = 0


class ReminderChoice(SQLModel, table=True):
    """What a participant said about reminders. Without a row: they get them, in the study's language."""

    __tablename__ = "reminder_choice"

    participant_id: int = Field(sa_column=Column(Integer, ForeignKey("participant.id"), primary_key=True))
    mail: bool = True
    sms: bool = True
    language: str | None = None
    timezone: str | None = None
    version: int = 1
    changed_at: datetime = Field(sa_type=Instant)
    changed_by: str
