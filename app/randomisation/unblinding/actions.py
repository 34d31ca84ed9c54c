"""What may I do about the blind? Break it in an emergency, ask for it as planned and decide, record an accident."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.clock import today as date_in
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.mail.actions import queue
from app.participants.models import Participant
from app.participants.reads import today_at_site
from app.people.access import Actor, require, sites_for
from app.people.permissions import Permission, Role
from app.people.reads import PERSON, people_to_tell
from app.randomisation.opening import open_unblinded
from app.randomisation.unblinding.reads import UNBLINDING, Case, case_of, closing, emergencies
from app.randomisation.unblinding.rules import (
    Kind,
    accidental_problems,
    emergency_problems,
    text_problems,
    unusual_sites,
    why_not_decide,
    why_not_yet,
)
from app.studies.in_use import StudyInUse

UNBLIND = "allocation.unblind"

# Who is told, and of what. Assessors and coordinators are not: who knows that somebody's blind was broken begins to
# wonder why. The rest read it in the report.
TOLD: Mapping[Kind, tuple[Role, ...]] = {
    Kind.EMERGENCY: (Role.DATA_MANAGER, Role.STATISTICIAN),
    Kind.PLANNED: (Role.DATA_MANAGER, Role.STATISTICIAN),
    Kind.ACCIDENTAL: (Role.DATA_MANAGER, Role.INVESTIGATOR),
}


@dataclass(frozen=True)
class Shown:
    """An arm that is shown once: the number of the unblinding, the arm's code and label."""

    number: int
    arm: str
    label: str


def unblind(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    reason: str,
    why: str,
    asked_by: str,
    prove: Callable[[], None],
    by: Actor,
    now: datetime,
) -> Shown:
    """Break the blind of exactly one participant in an emergency; nobody else is needed for it (ICH E6(R3), WHO-1).

    `prove` asks who it is once more, after everything else is in order and before anything is written or opened. The
    arm is in the answer of this call alone: it is kept nowhere, and no repetition gives it again.
    """
    where = {"action": UNBLIND, "subject": participant.code}
    if participant.study_id != study.id or participant.id is None or not study.definition.is_allocated:
        raise NotFound
    require(by, Permission.ALLOCATION_UNBLIND, site_id=participant.site_id, **where)
    if participant.randomised_on is None:
        raise Refused(no_arm(participant.code), **where)
    earlier, of_late = emergencies(session, study, participant, now=now)
    problems = emergency_problems(
        study.definition, reason=reason, why=why, asked_by=asked_by, earlier=earlier, by=by.username
    )
    if problems:
        raise Invalid(problems)
    prove()
    people = people_to_tell(session, study.id, TOLD[Kind.EMERGENCY], site_id=participant.site_id, but=by)
    said = {"reason": reason, "why": why.strip(), "asked_by": asked_by.strip()}
    number = _keep(session, study, participant, Kind.EMERGENCY, people, by=by, now=now, opens_until=now, **said)
    written = Change(
        "allocation.unblinded",
        participant=participant.code,
        subject=f"unblinding/{number}",
        new={"kind": Kind.EMERGENCY, "reason": reason, "asked_by": asked_by.strip(), "told": _names(people)},
        why=why.strip(),
    )
    arms = open_unblinded(
        session,
        study,
        number,
        [participant.id],
        by=by,
        why=f"Emergency unblinding {number}",
        also=[written],
        now=now,
    )
    if participant.id not in arms:
        raise Refused(no_arm(participant.code), **where)
    often = unusual_sites(study.definition, [("", of_late + 1)])
    site = people[0].site if people else ""
    _tell(
        session,
        study,
        people,
        number,
        "happened",
        "an unblinding happened",
        f"The blind of {participant.code} at {site} was broken in an emergency by {by.name}.\n"
        "This mail does not say which arm it was, and nobody else was told.\n"
        + (
            f"\nIt is number {of_late + 1} at this site within {study.definition.unblinding.alert_days} days, which is "
            "unusual. Ask the site why.\n"
            if often
            else ""
        ),
        now=now,
    )
    arm = study.definition.arm(arms[participant.id])
    return Shown(number, arms[participant.id], arm.label if arm else arms[participant.id])


def record_accidental(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    learnt_by: str,
    how: str,
    on: date,
    by: Actor,
    now: datetime,
) -> int:
    """Write down that somebody learnt an arm who should not have, and never which arm; its number."""
    where = {"action": "unblinding.record", "subject": participant.code}
    if participant.study_id != study.id or participant.id is None or not study.definition.is_allocated:
        raise NotFound
    require(by, Permission.UNBLINDING_RECORD, site_id=participant.site_id, **where)
    if participant.randomised_on is None:
        raise Refused(no_arm(participant.code), **where)
    problems = accidental_problems(
        study.definition,
        learnt_by=learnt_by,
        how=how,
        learnt_on=on,
        randomised_on=participant.randomised_on,
        today=today_at_site(session, participant, now),
    )
    if problems:
        raise Invalid(problems)
    people = people_to_tell(session, study.id, TOLD[Kind.ACCIDENTAL], site_id=participant.site_id, but=by)
    said = {"why": how.strip(), "learnt_by": learnt_by.strip(), "learnt_on": on}
    number = _keep(session, study, participant, Kind.ACCIDENTAL, people, by=by, now=now, **said)
    change = Change(
        "unblinding.recorded",
        participant=participant.code,
        subject=f"unblinding/{number}",
        new={"kind": Kind.ACCIDENTAL, "learnt_by": learnt_by.strip(), "learnt_on": on, "told": _names(people)},
        why=how.strip(),
    )
    record(session, study.code, [change], by=by, now=now)
    _tell(
        session,
        study,
        people,
        number,
        "recorded",
        "somebody learnt an arm",
        f"{by.name} recorded that somebody learnt the arm of {participant.code}. It is not written down which arm.\n"
        "\nSign in to Equipoise and assess what it means for the data: Study, Unblinding.\n",
        now=now,
    )
    return number


def assess(session: Session, study: StudyInUse, number: int, *, impact: str, by: Actor, now: datetime) -> None:
    """Say what an arm that somebody learnt means for the data, once (ICH E6(R3) 4.1.4)."""
    case = _held(session, study, number, by=by, now=now)
    _require_at(by, Permission.UNBLINDING_ASSESS, case, "unblinding.assess")
    if case.kind is not Kind.ACCIDENTAL:
        raise Refused(
            "Only what happened by accident is assessed here.", action="unblinding.assess", subject=_subject(case)
        )
    if case.impact is not None:
        raise Refused(
            "It was assessed already. Read the assessment on its page.",
            action="unblinding.assess",
            subject=_subject(case),
        )
    words = "Say what it means for the data of this participant, and what is done about it."
    if problems := text_problems(study.definition, "impact", impact, words):
        raise Invalid(problems)
    _change(session, number, impact=impact.strip(), assessed_at=now, assessed_by=by.username)
    change = Change(
        "unblinding.assessed",
        participant=case.participant or "",
        subject=f"unblinding/{number}",
        new={"impact": impact.strip()},
    )
    record(session, study.code, [change], by=by, now=now)


def request(
    session: Session, study: StudyInUse, participant: Participant | None, *, why: str, by: Actor, now: datetime
) -> int:
    """Ask for a planned unblinding of one participant, or (None) of the whole study; its number."""
    if not study.definition.is_allocated or (participant is not None and participant.study_id != study.id):
        raise NotFound
    subject = participant.code if participant else ""
    site_id = participant.site_id if participant else None
    require(by, Permission.UNBLINDING_REQUEST, site_id=site_id, action="unblinding.request", subject=subject)
    if participant is None and sites_for(by, Permission.UNBLINDING_REQUEST) is not None:
        words = "You hold your role at some sites only. Name one participant."
        raise Invalid([FieldProblem("participant", "required", words)])
    if participant is not None and participant.randomised_on is None:
        raise Refused(no_arm(participant.code), action="unblinding.request", subject=subject)
    if problems := text_problems(study.definition, "why", why, "Say what the arms are needed for."):
        raise Invalid(problems)
    expires_at = now + timedelta(days=study.definition.unblinding.request_days)
    people = people_to_tell(session, study.id, TOLD[Kind.PLANNED], site_id=site_id, but=by)
    number = _keep(
        session, study, participant, Kind.PLANNED, people, by=by, now=now, why=why.strip(), expires_at=expires_at
    )
    change = Change(
        "unblinding.requested",
        participant=subject,
        subject=f"unblinding/{number}",
        new={"kind": Kind.PLANNED, "expires_at": expires_at, "told": _names(people)},
        why=why.strip(),
    )
    record(session, study.code, [change], by=by, now=now)
    about = participant.code if participant else "the whole study"
    _tell(
        session,
        study,
        people,
        number,
        "requested",
        "a planned unblinding waits for a second person",
        f"{by.name} asks for the arm of {about}.\n\nSign in to Equipoise to approve or refuse it: Study, Unblinding.\n",
        now=now,
    )
    return number


def approve(
    session: Session, study: StudyInUse, number: int, *, prove: Callable[[], None], by: Actor, now: datetime
) -> None:
    """Approve somebody else's request: from now on, and for as long as it is open, they may read what it covers.

    `prove` asks who it is once more, after everything else is in order and before anything is written.
    """
    case = _to_decide(session, study, number, "unblinding.approve", by=by, now=now)
    reason = why_not_yet(study.definition, closing(session, study), date_in("UTC", now))
    if reason is not None:
        raise Refused(reason, action="unblinding.approve", subject=_subject(case))
    prove()
    until = now + timedelta(days=study.definition.unblinding.request_days)
    _change(session, number, approved=True, decided_at=now, decided_by=by.username, opens_until=until)
    _decided(session, study, case, "unblinding.approved", {"opens_until": until}, None, by=by, now=now)


def refuse(session: Session, study: StudyInUse, number: int, *, why: str, by: Actor, now: datetime) -> None:
    """Refuse somebody else's request, and say why."""
    case = _to_decide(session, study, number, "unblinding.refuse", by=by, now=now)
    if problems := text_problems(study.definition, "why", why, "Say why the blind stays."):
        raise Invalid(problems)
    _change(session, number, approved=False, decided_at=now, decided_by=by.username, decision=why.strip())
    _decided(session, study, case, "unblinding.refused", None, why.strip(), by=by, now=now)


def _to_decide(session: Session, study: StudyInUse, number: int, action: str, *, by: Actor, now: datetime) -> Case:
    case = _held(session, study, number, by=by, now=now)
    _require_at(by, Permission.UNBLINDING_APPROVE, case, action)
    if case.kind is not Kind.PLANNED:
        raise Refused("Only a request for a planned unblinding is decided on.", action=action, subject=_subject(case))
    reason = why_not_decide(case.state, requested_by=case.by, by=by.username)
    if reason is not None:
        raise Refused(reason, action=action, subject=_subject(case))
    return case


def _decided(
    session: Session,
    study: StudyInUse,
    case: Case,
    action: str,
    new: dict[str, object] | None,
    why: str | None,
    *,
    by: Actor,
    now: datetime,
) -> None:
    change = Change(action, participant=case.participant or "", subject=f"unblinding/{case.number}", new=new, why=why)
    record(session, study.code, [change], by=by, now=now)
    asker = session.execute(
        select(PERSON.c.id, PERSON.c.email, PERSON.c.language).where(
            PERSON.c.username == case.by, PERSON.c.is_active, PERSON.c.email != ""
        )
    ).all()
    approved = action.endswith("approved")
    _tell(
        session,
        study,
        asker,
        case.number,
        "approved" if approved else "refused",
        "your request for a planned unblinding was approved"
        if approved
        else "your request for a planned unblinding was refused",
        f"{by.name} decided on request {case.number}. Sign in to Equipoise to read it: Study, Unblinding.\n",
        now=now,
    )


def _held(session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime) -> Case:
    """The case as it stands, its row held until the transaction ends: two people never decide at once."""
    held = select(UNBLINDING.c.id).where(UNBLINDING.c.id == number, UNBLINDING.c.study_id == study.id)
    session.execute(held.with_for_update(key_share=True)).first()
    return case_of(session, study, number, by=by, now=now)


def _require_at(by: Actor, permission: Permission, case: Case, action: str) -> None:
    require(by, permission, site_id=case.site_id, action=action, subject=_subject(case))
    if case.site_id is None and sites_for(by, permission) is not None:
        raise NotFound


def _subject(case: Case) -> str:
    return f"{case.participant or ''}/unblinding/{case.number}"


def no_arm(code: str) -> str:
    """Why there is nothing to break: the participant has no arm."""
    return f"{code} is not randomised yet, so there is no arm. Randomise the participant first."


def _keep(
    session: Session,
    study: StudyInUse,
    participant: Participant | None,
    kind: Kind,
    people: list[Any],
    *,
    by: Actor,
    now: datetime,
    **said: object,
) -> int:
    values = {
        "study_id": study.id,
        "participant_id": participant.id if participant else None,
        "site_id": participant.site_id if participant else None,
        "kind": kind,
        "recorded_at": now,
        "recorded_by": by.username,
        "told": " ".join(_names(people)),
        **said,
    }
    return int(session.execute(insert(UNBLINDING).values(**values).returning(UNBLINDING.c.id)).scalar_one())


def _change(session: Session, number: int, **values: object) -> None:
    session.execute(update(UNBLINDING).where(UNBLINDING.c.id == number).values(**values))


def _names(people: list[Any]) -> list[str]:
    return [each.username for each in people]


def _tell(
    session: Session,
    study: StudyInUse,
    people: Any,
    number: int,
    event: str,
    subject: str,
    body: str,
    *,
    now: datetime,
) -> None:
    """A mail to each of them. No arm stands in it, and no reason: a mail is read by whoever reads over a shoulder."""
    for each in people:
        queue(
            session,
            key=f"unblinding|{number}|{event}|{each.id}",
            to_address=each.email,
            subject=f"{study.definition.short_title}: {subject}",
            body=body,
            now=now,
            language=each.language,
        )
