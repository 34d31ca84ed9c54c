"""What may I do as somebody who treats? Record what was delivered in a session, sealed from blinded eyes."""

import base64
from datetime import date, datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.actions import miss_visit, reopen_visit
from app.capture.locks.reads import refuse_locked
from app.foundation.database import keys_of, table_of
from app.foundation.errors import Conflict, Invalid, NotFound, Refused
from app.participants import actions as participants
from app.participants.models import Participant
from app.participants.reads import held, today_at_site
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.randomisation.opening import open_envelope
from app.schedule.actions import correct_visit, plan_stopped_again, record_visit, stop_visits
from app.schedule.models import ParticipantVisit
from app.schedule.reads import visit_of
from app.schedule.status import VisitStatus
from app.studies.definition import VisitKind
from app.studies.in_use import StudyInUse
from app.treatment.models import TreatmentSession
from app.treatment.reads import CORRECTED, RECORDED
from app.treatment.rules import (
    Delivered,
    judge_delivered,
    why_not_a_session,
    why_not_correct,
    why_not_deliver,
    why_not_fit,
    why_not_told,
)
from app.treatment.sealing import seal_session

SESSION = table_of(TreatmentSession)
VISIT = table_of(ParticipantVisit)

RECORD = "session.record"
CORRECTION = "Correction of the treatment record; the reason is sealed with it."


def record_session(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    held_on: date,
    delivered: Delivered,
    base_version: int,
    why: str | None = None,
    reason: str | None = None,
    by: Actor,
    now: datetime,
) -> int:
    """Record what was delivered in one session, or correct it; gives the new version.

    `base_version` is the version the person saw (0: none yet). `why` is the reason of a correction; it is sealed with
    what was delivered. `reason` is why the session was held outside its window; the blinded read it with the visit.
    They see that a session took place and nothing else: row and log hold an envelope of one size, whatever is in it.
    """
    subject = f"{participant.code}/visit/{visit[:40]}"
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    require(by, Permission.TREATMENT_RECORD, site_id=participant.site_id, subject=subject, action=RECORD)
    if problem := why_not_a_session(study.definition.visit(visit)):
        raise Invalid([problem])
    # Rows first and the log's head after them, so that every transaction takes its locks in the same order.
    standing = held(session, participant.id)
    if reason_not := why_not_deliver(
        held_on, stopped_on=standing.treatment_stopped_on, withdrawn_on=standing.left_on or standing.withdrawn_on
    ):
        raise Refused(reason_not, action=RECORD, subject=subject)
    refuse_locked(session, study, participant, visit=visit, action=RECORD, subject=subject, frozen_too=True)
    session.execute(
        select(VISIT.c.id)
        .where(VISIT.c.participant_id == participant.id, VISIT.c.code == visit)
        .with_for_update(key_share=True)
    ).first()
    earlier = session.execute(
        select(SESSION.c.version, SESSION.c.delivered).where(
            SESSION.c.participant_id == participant.id, SESSION.c.visit == visit
        )
    ).first()
    arm = open_envelope(session, study, participant, by=by, why=f"Recording the session {visit}", now=now)
    current = earlier.version if earlier else 0
    if base_version != current:
        raise Conflict(
            "Somebody saved this session while you were typing. Compare both, then save again.",
            current_version=current,
            action=RECORD,
            subject=subject,
        )
    why = (why or "").strip() or None
    judged = judge_delivered(
        study.definition, arm, visit, delivered, today=today_at_site(session, participant, now), now=now
    )
    problems = [
        *judged.problems,
        *filter(
            None,
            (
                why_not_correct(why, recorded=earlier is not None),
                why_not_fit(judged.content, why),
                why_not_told(study.definition, "reason", reason),
            ),
        ),
    ]
    if problems:
        raise Invalid(problems)
    _hold_visit(session, study, participant, visit, held_on=held_on, reason=reason, by=by, now=now)
    version = current + 1
    envelope = seal_session(
        keys_of(session),
        study.id,
        participant.id,
        visit,
        version,
        delivered=judged.content,
        why=why if earlier else None,
    )
    kept = {"version": version, "delivered": envelope, "saved_at": now, "saved_by": by.username}
    if earlier:
        session.execute(
            update(SESSION).where(SESSION.c.participant_id == participant.id, SESSION.c.visit == visit).values(**kept)
        )
    else:
        session.execute(insert(SESSION).values(study_id=study.id, participant_id=participant.id, visit=visit, **kept))
    change = Change(
        CORRECTED if earlier else RECORDED,
        participant=participant.code,
        subject=f"visit/{visit}",
        old=_text(bytes(earlier.delivered)) if earlier else None,
        new=_text(envelope),
        why=CORRECTION if earlier else None,
    )
    record(session, study.code, [change], by=by, now=now)
    return version


def stop_treatment(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    on: date,
    reason: str,
    by: Actor,
    now: datetime,
) -> None:
    """Record that a participant gets no more sessions and stays in follow-up, and why; the blinded read both.

    No session is due any more, and what is booked for one is cancelled: nothing is missed, and nobody is reminded.
    """
    _require_untold(study, participant, "treatment.stop", "reason", reason, by)
    treats = Permission.TREATMENT_RECORD
    participants.stop_treatment(session, study, participant, on=on, reason=reason, permission=treats, by=by, now=now)
    kind = VisitKind.TREATMENT
    stop_visits(session, study, participant, kind=kind, permission=treats, why=reason, by=by, now=now)


def resume_treatment(
    session: Session, study: StudyInUse, participant: Participant, *, why: str, by: Actor, now: datetime
) -> None:
    """Record that treatment goes on, because it was recorded as stopped by mistake: its sessions are due again."""
    _require_untold(study, participant, "treatment.resume", "why", why, by)
    treats = Permission.TREATMENT_RECORD
    participants.resume_treatment(session, study, participant, why=why, permission=treats, by=by, now=now)
    plan_stopped_again(session, study, participant, kind=VisitKind.TREATMENT, why=why.strip(), by=by, now=now)


def _require_untold(
    study: StudyInUse, participant: Participant, action: str, field: str, words: str, by: Actor
) -> None:
    """Whoever treats here says nothing of the arm to the blinded, who read these words."""
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    subject = f"{participant.code}/treatment"
    require(by, Permission.TREATMENT_RECORD, site_id=participant.site_id, subject=subject, action=action)
    if problem := why_not_told(study.definition, field, words):
        raise Invalid([problem])


def miss_session(
    session: Session, study: StudyInUse, participant: Participant, visit: str, *, by: Actor, **told: Any
) -> ParticipantVisit:
    """Record that a session did not take place, as `capture.actions.miss_visit` has it; the blinded read why."""
    _refuse_telling(study, participant, visit, "visit.miss", why=told["why"], by=by)
    return miss_visit(session, study, participant, visit, by=by, permission=Permission.TREATMENT_RECORD, **told)


def reopen_session(
    session: Session, study: StudyInUse, participant: Participant, visit: str, *, by: Actor, **told: Any
) -> ParticipantVisit:
    """Make a session planned again that was recorded as missed by mistake (`reopen_visit`); the blinded read why."""
    _refuse_telling(study, participant, visit, "visit.reopen", why=told["why"], by=by)
    return reopen_visit(session, study, participant, visit, by=by, permission=Permission.TREATMENT_RECORD, **told)


def _refuse_telling(
    study: StudyInUse, participant: Participant, visit: str, action: str, *, why: str, by: Actor
) -> None:
    subject = f"{participant.code}/visit/{visit[:40]}"
    require(by, Permission.TREATMENT_RECORD, site_id=participant.site_id, subject=subject, action=action)
    if problem := why_not_told(study.definition, "why", why):
        raise Invalid([problem])


def _hold_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit: str,
    *,
    held_on: date,
    reason: str | None,
    by: Actor,
    now: datetime,
) -> None:
    """The visit's row says the same day, so that the blinded see that a session took place."""
    assert participant.id is not None
    row = visit_of(session, participant.id, visit)
    treats = Permission.TREATMENT_RECORD
    if row.status != VisitStatus.HELD:
        record_visit(
            session,
            study,
            participant,
            visit,
            held_on=held_on,
            version=row.version,
            reason=reason,
            by=by,
            now=now,
            permission=treats,
        )
    elif row.held_on != held_on:
        correct_visit(
            session,
            study,
            participant,
            visit,
            held_on=held_on,
            version=row.version,
            why=(reason or "").strip() or CORRECTION,
            reason=reason,
            by=by,
            now=now,
            permission=treats,
        )


def _text(envelope: bytes) -> str:
    return base64.b64encode(envelope).decode()
