"""Appointments as rows, so that tests of pages need no booking."""

from datetime import timedelta
from typing import Any

from sqlalchemy import insert, select
from sqlmodel import Session

from app.participants.models import Participant
from app.schedule.appointments.reads import APPOINTMENT
from app.schedule.reads import VISIT
from app.studies.in_use import StudyInUse
from tests.factories import NOW


def booked(
    session: Session, study: StudyInUse, participant: Participant, visit: str = "baseline", **values: Any
) -> int:
    """One booked appointment, the first of its participant, a day from NOW; gives its id."""
    query = select(VISIT.c.id, VISIT.c.kind).where(VISIT.c.participant_id == participant.id, VISIT.c.code == visit)
    planned = session.execute(query).one()
    kept = {
        "study_id": study.id,
        "site_id": participant.site_id,
        "participant_id": participant.id,
        "number": 1,
        "visit_id": planned.id,
        "kind": planned.kind,
        "starts_at": NOW + timedelta(days=1),
        "ends_at": NOW + timedelta(days=1, hours=1),
        "status": "booked",
        "uid": f"{participant.code}-{visit}@equipoise",
        "sequence": 0,
        "version": 1,
        "changed_at": NOW,
        "created_at": NOW,
        "created_by": "test",
    }
    made: int = session.execute(insert(APPOINTMENT).values({**kept, **values}).returning(APPOINTMENT.c.id)).scalar_one()
    return made
