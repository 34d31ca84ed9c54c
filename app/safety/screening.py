"""What follows when the answers of a pre-screen are corrected? For the visits, other forms, and what deviates now."""

from datetime import datetime

from sqlmodel import Session

from app.audit.actions import record, recorded_together
from app.capture.actions.following import screening_changed
from app.capture.casebook.actions import supersede
from app.capture.locks.reads import refuse_locked
from app.participants.corrections.actions import CORRECT, Asked, Lot, correct
from app.participants.corrections.rules import Correction
from app.participants.models import Participant
from app.participants.status import Status
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.safety.deviations.actions import look_at_screening
from app.schedule.actions import open_visits, plan_stopped_again, stop_visits
from app.studies.in_use import StudyInUse


def correct_screening(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    asked: Asked,
    *,
    lot: Lot,
    by: Actor,
    now: datetime,
) -> Correction | None:
    """Correct the answers of a pre-screen, and everything that follows; None where they stand so already.

    Who becomes a screen failure has no visit due any more; who is none any more has theirs planned. Checks of other
    forms that refer to an answer are made again, and the signature of the casebook is superseded. Whoever takes part
    and was not eligible, or was randomised in another stratum than these answers say, is a deviation at once; the
    allocation stays as it is. Refused where a lock or a freezing covers the participant. `lot` is asked by the doors of
    the sealed room.
    """
    where = {"action": CORRECT, "subject": f"{participant.code}/screening"}
    require(by, Permission.PARTICIPANT_SCREEN, site_id=participant.site_id, **where)
    refuse_locked(session, study, participant, visit="", **where, frozen_too=True, alone=True)
    with recorded_together(session):
        made = correct(session, study, participant, asked, lot=lot, by=by, now=now)
        if made is None:
            return None
        why = asked.why.strip()
        if made.status is not made.status_before:
            if made.status is Status.SCREEN_FAILED:
                stop_visits(session, study, participant, why=why, by=by, now=now)
            else:
                on = participant.screened_on
                open_visits(session, study, participant, anchor="screening", on=on, by=by, now=now)
                plan_stopped_again(session, study, participant, why=why, by=by, now=now)
        log = screening_changed(session, study, participant, [each.code for each in made.changes], by=by, now=now)
        log += supersede(session, participant, why=why, by=by, now=now)
        record(session, study.code, log, by=by, now=now, why=why)
        look_at_screening(session, study, participant, by=by, now=now)
    return made
