"""What do we keep of safety? Events with every report and judgement, clocks, deviations, contacts, care, and ends."""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class AdverseEvent(SQLModel, table=True):
    """One adverse event as it stands: what its newest report says, for lists; every report is kept beside it.

    `onset_on` is the first day that the (partial) onset can mean. `serious_since` is when the site knew that it is
    serious; without it the event is not. Relatedness and expectedness are those of the newest judgement that holds.
    """

    __tablename__ = "adverse_event"
    __table_args__ = (
        Index("ix_adverse_event_study_id", "study_id", "id"),
        Index("ix_adverse_event_onset", "study_id", "onset_on", "id"),
        Index("ix_adverse_event_state", "study_id", "state", "id"),
        Index("ix_adverse_event_participant_id", "participant_id", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    version: int = 1
    state: str
    term: str
    code: str | None = None
    onset: str
    onset_on: date
    severity: str
    outcome: str
    serious_since: datetime | None = Field(default=None, sa_type=Instant)
    relatedness: str | None = None
    expected: bool | None = None
    reported_at: datetime = Field(sa_type=Instant)
    reported_by: str


class AdverseEventReport(SQLModel, table=True):
    """What somebody reported of an event: first, as a follow-up, as a correction. Never changed, never removed.

    `details` is the whole event as it stands after this report, as JSON. `confirmed`: some word of it could mean an
    arm, and whoever reported it said that it does not. `aware_at` is when the site learnt of what is new; in a
    correction, of what version `corrects` told (none: a correction from before this could be said; it moves nothing).
    """

    __tablename__ = "adverse_event_report"
    __table_args__ = (UniqueConstraint("event_id", "version"),)

    id: int | None = Field(default=None, primary_key=True)
    event_id: int = Field(foreign_key="adverse_event.id")
    version: int
    kind: str
    details: str = Field(sa_type=Text)
    why: str | None = Field(default=None, sa_type=Text)
    aware_at: datetime = Field(sa_type=Instant)
    corrects: int | None = None
    confirmed: bool = False
    reported_at: datetime = Field(sa_type=Instant)
    reported_by: str


class EventJudgement(SQLModel, table=True):
    """What an investigator judged of one version of an event, or what a second person said of that judgement.

    `knew_arm`: who judged had broken the blind of this participant before. Never changed, never removed.
    """

    __tablename__ = "event_judgement"
    __table_args__ = (Index("ix_event_judgement_event_id", "event_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    event_id: int = Field(foreign_key="adverse_event.id")
    version: int
    kind: str
    relatedness: str | None = None
    expected: bool | None = None
    words: str = Field(sa_type=Text)
    knew_arm: bool = False
    judged_at: datetime = Field(sa_type=Instant)
    judged_by: str
    judged_name: str


class EventClock(SQLModel, table=True):
    """A deadline that runs, ran, or was called off for a serious event. `steps_taken`: how many mails' turns came.

    `follows` is the version that brought news after a report was sent, for which another is due; 0 of the first report.
    """

    __tablename__ = "event_clock"
    __table_args__ = (
        UniqueConstraint("event_id", "code", "follows"),
        Index("ix_event_clock_running", "study_id", "state", "due_at"),
        CheckConstraint("(reported_at IS NULL) = (reported_by IS NULL)", name="reported_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    event_id: int = Field(foreign_key="adverse_event.id")
    code: str
    follows: int = 0
    state: str
    started_at: datetime = Field(sa_type=Instant)
    due_at: datetime = Field(sa_type=Instant)
    steps_taken: int = 0
    sent_at: datetime | None = Field(default=None, sa_type=Instant)
    reference: str | None = None
    reported_at: datetime | None = Field(default=None, sa_type=Instant)
    reported_by: str | None = None


class Deviation(SQLModel, table=True):
    """Something that went otherwise than the protocol says; `rule` and `about` are those of what the system found."""

    __tablename__ = "deviation"
    __table_args__ = (
        UniqueConstraint("participant_id", "rule", "about"),
        Index("ix_deviation_study_id", "study_id", "id"),
        Index("ix_deviation_state", "study_id", "state", "id"),
        CheckConstraint("(signed_at IS NULL) = (signed_by IS NULL)", name="signed_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    version: int = 1
    state: str
    rule: str | None = None
    about: str | None = None
    category: str
    grade: str
    occurred_on: date
    what: str = Field(sa_type=Text)
    action: str | None = Field(default=None, sa_type=Text)
    confirmed: bool = False
    reported_at: datetime = Field(sa_type=Instant)
    reported_by: str
    signed_at: datetime | None = Field(default=None, sa_type=Instant)
    signed_by: str | None = None
    signed_name: str | None = None


class DeviationLook(SQLModel, table=True):
    """When the system last looked for deviations of a study: whoever moves it on is the one who looks."""

    __tablename__ = "deviation_look"

    study_id: int = Field(sa_column=Column(Integer, ForeignKey("study.id"), primary_key=True))
    looked_at: datetime = Field(sa_type=Instant)


class Contact(SQLModel, table=True):
    """One attempt to reach a participant, or one time that they called: how, when, and what came of it."""

    __tablename__ = "contact"
    __table_args__ = (Index("ix_contact_participant_id", "participant_id", "at"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    version: int = 1
    at: datetime = Field(sa_type=Instant)
    how: str
    result: str
    note: str = Field(sa_type=Text)
    recorded_at: datetime = Field(sa_type=Instant)
    recorded_by: str


class ConcomitantCare(SQLModel, table=True):
    """Care beside the trial: which, from when to when (partial dates), and why. `ended` is empty while it goes on."""

    __tablename__ = "concomitant_care"
    __table_args__ = (Index("ix_concomitant_care_participant_id", "participant_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    version: int = 1
    treatment: str
    began: str
    ended: str
    indication: str
    recorded_at: datetime = Field(sa_type=Instant)
    recorded_by: str


class ParticipantEnd(SQLModel, table=True):
    """That a participant was lost, found again, or died; or that this was a mistake. Never changed, never removed.

    `stopped` are the visits that were due until then and are not any more, by code.
    """

    __tablename__ = "participant_end"
    __table_args__ = (
        UniqueConstraint("corrects"),
        Index("ix_participant_end_participant_id", "participant_id", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    corrects: int | None = Field(default=None, foreign_key="participant_end.id")
    kind: str
    on: date
    words: str = Field(sa_type=Text)
    status_before: str
    stopped: str = Field(sa_type=Text)
    recorded_at: datetime = Field(sa_type=Instant)
    recorded_by: str
