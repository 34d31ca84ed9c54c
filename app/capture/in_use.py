"""Which entries may still be used? Neither those in error, nor what somebody has withdrawn from use."""

from sqlalchemy import ColumnElement, exists, or_

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
    stands = ENTRY.c.in_error_at.is_(None)
    levels = [level.code for level in study.definition.withdrawal_levels if level.stops_use]
    if not levels:
        return (stands,)
    since = exists().where(
        VISIT.c.participant_id == PARTICIPANT.c.id,
        VISIT.c.code == ENTRY.c.visit,
        VISIT.c.held_on >= PARTICIPANT.c.withdrawn_on,
    )
    used = or_(PARTICIPANT.c.withdrawal_level.is_(None), PARTICIPANT.c.withdrawal_level.not_in(levels), ~since)
    return (stands, used)
