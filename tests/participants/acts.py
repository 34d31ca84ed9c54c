"""What tests of several rooms do first: screen somebody, and look at the log."""

from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.participants.actions import screen
from app.participants.models import Participant
from app.participants.rules import PersonalData
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.factories import NOW, person, site

ELIGIBLE: dict[str, Any] = {"age": 44, "pain_screen": 6, "surgery": False}
#: Long words, so that no cipher text in base64 spells one of them by chance.
ANNA = PersonalData("Annabella", "Muster", "1980-02-29", "+61 2 5550 0000", "anna@example.org")


def screened(session: Session, study: StudyInUse, *, by: Actor | None = None, code: str = "north") -> Participant:
    """Anna, screened and eligible."""
    by = by or person(session, study, "coordinator", site_code=code)
    place = site(session, study, code)
    made, _ = screen(session, study, site=place, answers=ELIGIBLE, failure_reason=None, personal=ANNA, by=by, now=NOW)
    return made


def log_of(session: Session, *, action: str = "") -> list[Any]:
    """The entries of the test study's log, oldest first."""
    query = select(ENTRY).where(ENTRY.c.log == "mini").order_by(ENTRY.c.position)
    return list(session.execute(query.where(ENTRY.c.action == action) if action else query))
