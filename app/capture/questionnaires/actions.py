"""What may be done about questions that participants answer by link? Give one, by hand."""

from datetime import datetime

from sqlmodel import Session

from app.capture.questionnaires import reads, rules
from app.foundation import clock
from app.participants.links import actions as links
from app.participants.links.rules import DAYS, Purpose
from app.participants.models import Participant
from app.people.access import Actor
from app.schedule.appointments.rules import day_span
from app.studies.in_use import StudyInUse


def give(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    purpose: Purpose,
    about: str,
    language: str,
    days: int = DAYS,
    before_window: bool = False,
    by: Actor,
    now: datetime,
) -> str:
    """`participants.links.actions.give_link`, in view of the visit's window; gives the secret, which is kept nowhere.

    The questions open on the first day of the window, by the clock of the site, and the days count from then on;
    `before_window` is somebody's explicit yes to answers before that.
    """
    waits = None
    if purpose is Purpose.QUESTIONS and participant.id is not None:
        window = reads.window_of(session, participant.id, about)
        if window is not None:
            today = clock.today(window.timezone, now)
            waits = rules.waits_until(window, today, before_window=before_window)
    return links.give_link(
        session,
        study,
        participant,
        purpose=purpose,
        about=about,
        language=language,
        days=days,
        before_window=before_window,
        opens_at=day_span(waits, window.timezone)[0] if waits is not None and window is not None else None,
        by=by,
        now=now,
    )
