"""What may I do with guesses of the arm? Hold them against the arms, once the trial is over: the closed report."""

from datetime import datetime

from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.errors import Refused
from app.people.access import Actor
from app.randomisation.blinding.reads import guesses, randomised, why_no_report
from app.randomisation.blinding.rules import Assessed, assessed
from app.randomisation.opening import open_envelopes
from app.studies.in_use import StudyInUse

REPORT = "blinding.report"
WHY = "Closed report on the blind"


def open_report(session: Session, study: StudyInUse, *, by: Actor, now: datetime) -> tuple[Assessed, ...]:
    """The guesses of the study held against the arms; each envelope that is opened for it is an audit entry.

    For the statistician alone: `NotFound` for everybody else, `Refused` while the trial goes on. The session must be a
    writing one that is committed before anything of it is shown. No figure of the report goes into the log, which
    blinded people read.
    """
    reason = why_no_report(session, study, by=by, now=now)
    if reason is not None:
        raise Refused(reason, action=REPORT, subject="/blinding")
    definition = study.definition
    arms = open_envelopes(session, study, randomised(session, study), by=by, why=WHY, now=now)
    asked = [guess.code for guess in definition.blinding_assessment]
    record(
        session, study.code, [Change("blinding.reported", subject="blinding", new={"guesses": asked})], by=by, now=now
    )
    codes = [arm.code for arm in definition.arms]
    return tuple(
        assessed(guess, arms, guesses(session, study, guess), codes) for guess in definition.blinding_assessment
    )
