"""What was guessed, and may it be held against the arms yet? For the statistician; nothing here opens an envelope."""

import json
from datetime import datetime

from sqlalchemy import select
from sqlmodel import Session

from app.capture.models import Entry
from app.foundation.clock import today
from app.foundation.database import table_of
from app.people.access import Actor
from app.people.permissions import Permission
from app.randomisation.blinding.rules import Said, said_of
from app.randomisation.models import Allocation
from app.randomisation.reads import require_statistician
from app.randomisation.unblinding.reads import closing
from app.randomisation.unblinding.rules import why_not_yet
from app.studies.definition import Guess
from app.studies.in_use import StudyInUse

ENTRY = table_of(Entry)
ALLOCATION = table_of(Allocation)

NO_GUESS = (
    "This study asks nobody for a guess of the arm. Add an instrument with the question and `blinding_assessment:` to "
    "a new version of the study."
)


def why_no_report(session: Session, study: StudyInUse, *, by: Actor, now: datetime) -> str | None:
    """Why guesses cannot be held against the arms yet, or None; `NotFound` for all but the statistician.

    The condition is that of a planned unblinding: the study's day, or the end of recruitment and of every visit.
    """
    require_statistician(study, by, Permission.ALLOCATIONS_EXPORT)
    if not study.definition.blinding_assessment:
        return NO_GUESS
    return why_not_yet(study.definition, closing(session, study), today("UTC", now))


def randomised(session: Session, study: StudyInUse) -> list[int]:
    """The ids of those who have an arm, by the number of their allocation."""
    query = select(ALLOCATION.c.participant_id).where(ALLOCATION.c.study_id == study.id).order_by(ALLOCATION.c.number)
    return list(session.execute(query).scalars())


def guesses(session: Session, study: StudyInUse, guess: Guess) -> dict[int, Said]:
    """What was guessed, by participant id; who did not answer is left out."""
    asked = study.definition.asked_at(guess.visit, guess.item)
    if asked is None:
        return {}
    # How sure somebody is may be asked in another instrument of the same visit.
    forms = {asked[0].code}
    if guess.confidence is not None:
        sure = study.definition.asked_at(guess.visit, guess.confidence.item)
        forms |= {sure[0].code} if sure else set()
    query = select(ENTRY.c.participant_id, ENTRY.c["values"]).where(
        ENTRY.c.study_id == study.id,
        ENTRY.c.visit == guess.visit,
        ENTRY.c.instrument.in_(sorted(forms)),
        ENTRY.c.repeat == 1,
        ENTRY.c.in_error_at.is_(None),
    )
    values: dict[int, dict[str, object]] = {}
    for row in session.execute(query):
        values.setdefault(row.participant_id, {}).update(json.loads(row[1]))
    found = {participant: said_of(guess, stored) for participant, stored in values.items()}
    return {participant: said for participant, said in found.items() if said is not None}
