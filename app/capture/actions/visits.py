"""Record visits, where nothing freezes or locks them: as the schedule does it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from app.capture.locks.reads import refuse_locked
from app.capture.reads import ENTRY
from app.capture.typed import shortened
from app.foundation.errors import FieldProblem, Invalid, Refused
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.schedule import actions as schedule
from app.schedule.models import ParticipantVisit
from app.studies.in_use import StudyInUse


def record_visit(
    session: Session, study: StudyInUse, participant: Participant, visit: str, **options: Any
) -> ParticipantVisit:
    """`schedule.actions.record_visit`, refused where the visit is frozen or locked."""
    _refuse_closed_visit(session, study, participant, visit, "visit.record", **options)
    return schedule.record_visit(session, study, participant, visit, **options)


def record_with_entry(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit: ParticipantVisit,
    *,
    held_on: date,
    reason: str | None,
    named: Mapping[str, str],
    by: Actor,
    now: datetime,
) -> list[FieldProblem]:
    """Record the day of a planned visit that an entry says; what stands against it, by the fields of the entry's form.

    `named`: what `held_on` and `reason` are called there, where it is something else.
    """
    try:
        record_visit(
            session,
            study,
            participant,
            visit.code,
            held_on=held_on,
            version=visit.version,
            reason=reason,
            by=by,
            now=now,
        )
    except Invalid as problem:
        return [replace(each, field=named.get(each.field, each.field)) for each in problem.problems]
    return []


def add_visit(session: Session, study: StudyInUse, participant: Participant, **options: Any) -> ParticipantVisit:
    """`schedule.actions.add_visit`, refused where the participant's data are frozen or locked."""
    _refuse_closed_visit(session, study, participant, "", "visit.add", **options)
    return schedule.add_visit(session, study, participant, **options)


def correct_visit(
    session: Session, study: StudyInUse, participant: Participant, visit: str, **options: Any
) -> ParticipantVisit:
    """`schedule.actions.correct_visit`, refused where the visit is frozen or locked."""
    _refuse_closed_visit(session, study, participant, visit, "visit.correct", **options)
    return schedule.correct_visit(session, study, participant, visit, **options)


def reopen_visit(
    session: Session, study: StudyInUse, participant: Participant, visit: str, **options: Any
) -> ParticipantVisit:
    """`schedule.actions.reopen_visit`, refused where the visit is frozen or locked."""
    _refuse_closed_visit(session, study, participant, visit, "visit.reopen", **options)
    return schedule.reopen_visit(session, study, participant, visit, **options)


def _refuse_closed_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit: str,
    action: str,
    *,
    by: Actor,
    permission: Permission = Permission.VISIT_RECORD,
    alone: bool = False,
    **_: Any,
) -> None:
    """Refused where the visit is closed. `alone`: nobody saves an entry of theirs until the transaction ends."""
    subject = f"{participant.code}/visit/{shortened(visit)}"
    require(by, permission, site_id=participant.site_id, action=action, subject=subject)
    refuse_locked(
        session, study, participant, visit=visit, action=action, subject=subject, frozen_too=True, alone=alone
    )


def miss_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit: str,
    *,
    version: int,
    why: str,
    by: Actor,
    now: datetime,
    permission: Permission = Permission.VISIT_RECORD,
) -> ParticipantVisit:
    """Record that a visit did not take place; refused while something is entered at it, or where it is closed."""
    subject = f"{participant.code}/visit/{visit}"
    _refuse_closed_visit(session, study, participant, visit, "visit.miss", alone=True, by=by, permission=permission)
    missed = schedule.miss_visit(
        session, study, participant, visit, version=version, why=why, by=by, now=now, permission=permission
    )
    # Asked last, so that a page that is out of date hears first of what changed; a refusal takes all of it back.
    if _is_entered_at(session, participant, visit):
        raise Refused(
            "Forms are filled in at this visit, so it took place. Record the day on which it was held.",
            action="visit.miss",
            subject=subject,
        )
    return missed


def mark_visit_in_error(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit: str,
    *,
    version: int,
    why: str,
    by: Actor,
    now: datetime,
    undo: bool = False,
) -> ParticipantVisit:
    """`schedule.actions.mark_visit_in_error`; refused while something is entered at it, or where it is closed."""
    action = "visit.restore" if undo else "visit.mark_in_error"
    _refuse_closed_visit(session, study, participant, visit, action, alone=True, by=by)
    marked = schedule.mark_visit_in_error(
        session, study, participant, visit, version=version, why=why, by=by, now=now, undo=undo
    )
    if not undo and _is_entered_at(session, participant, visit):
        raise Refused(
            "Forms are filled in at this visit. Mark each of them as entered in error first, on its own page; if they "
            "are right, the visit took place: correct its day instead.",
            action=action,
            subject=f"{participant.code}/visit/{visit}",
        )
    return marked


def _is_entered_at(session: Session, participant: Participant, visit: str) -> bool:
    """Whether a form is filled in at a visit, other than in error."""
    entered = (
        select(ENTRY.c.id)
        .where(ENTRY.c.participant_id == participant.id, ENTRY.c.visit == visit, ENTRY.c.in_error_at.is_(None))
        .limit(1)
    )
    return session.execute(entered).first() is not None
