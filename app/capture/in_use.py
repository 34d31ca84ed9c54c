"""Which entries may still be used? Neither those in error, nor what somebody has withdrawn from use."""

from datetime import date, datetime, timedelta

from sqlalchemy import ColumnElement, exists, or_, select
from sqlmodel import Session

from app.capture.models import Entry
from app.foundation.database import table_of
from app.participants.models import Participant
from app.schedule.models import ParticipantVisit
from app.studies.in_use import StudyInUse

ENTRY = table_of(Entry)
PARTICIPANT = table_of(Participant)
VISIT = table_of(ParticipantVisit)


def in_use(study: StudyInUse) -> tuple[ColumnElement[bool], ...]:
    """Not what was entered in error, nor what was collected from the day on which somebody withdrew its use (CTR Art.
    28(3), GDPR Art. 7(3)).
    """
    return (ENTRY.c.in_error_at.is_(None), *use_not_taken_back(study, ENTRY.c.visit))


def use_not_taken_back(study: StudyInUse, visit: ColumnElement[str]) -> tuple[ColumnElement[bool], ...]:
    """Not what belongs to a visit (its code is in this column) held from the day on which somebody withdrew the use of
    what is collected; for what is joined with `participant`. None where no level of the study does that.
    """
    levels = levels_that_stop_use(study)
    if not levels:
        return ()
    since = exists().where(
        VISIT.c.participant_id == PARTICIPANT.c.id,
        VISIT.c.code == visit,
        VISIT.c.held_on >= PARTICIPANT.c.withdrawn_on,
    )
    return (or_(PARTICIPANT.c.withdrawal_level.is_(None), PARTICIPANT.c.withdrawal_level.not_in(levels), ~since),)


def levels_that_stop_use(study: StudyInUse) -> list[str]:
    """The levels of withdrawal, by code, from whose day on nothing that is collected may be used."""
    return [level.code for level in study.definition.withdrawal_levels if level.stops_use]


def is_told_no_more(at: datetime, taken_back_on: date | None) -> bool:
    """Whether what was typed at this instant was typed once its use was taken back: then the log is given away without
    values. `taken_back_on` is the day of a withdrawal at a level that stops the use; None without one.
    """
    # A day earlier: it may begin sooner at the site than in UTC.
    return taken_back_on is not None and at.date() >= taken_back_on - timedelta(days=1)


def use_taken_back_on(session: Session, study: StudyInUse) -> dict[str, date]:
    """The code of everybody who took back the use of what is collected, and the day from which on they did."""
    levels = levels_that_stop_use(study)
    query = select(PARTICIPANT.c.code, PARTICIPANT.c.withdrawn_on).where(
        PARTICIPANT.c.study_id == study.id,
        PARTICIPANT.c.withdrawal_level.in_(levels),
        PARTICIPANT.c.withdrawn_on.is_not(None),
    )
    return {row.code: row.withdrawn_on for row in session.execute(query)} if levels else {}
