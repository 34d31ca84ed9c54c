"""What may I do with visits? Open them when their anchor is known, record, miss, correct, reopen and stop them; say
of one outside the plan that it never was."""

import json
from collections.abc import Collection
from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy import Integer, String, TextualSelect, bindparam, delete, insert, select, text, update
from sqlmodel import Session

from app.audit.actions import Change, record, recorded_together
from app.consent.reads import why_no_consent
from app.foundation.database import Instant
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotAllowed, NotFound, Refused
from app.foundation.words import day_in_words
from app.participants.actions import day_problems, reason_problems
from app.participants.models import Participant
from app.participants.reads import held, today_at_site
from app.participants.status import Status
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.schedule import rules
from app.schedule.appointments.actions import put_back, settle
from app.schedule.models import ParticipantVisit
from app.schedule.reads import VISIT, visit_of
from app.schedule.status import VisitStatus
from app.studies.definition import VisitKind, WithdrawalLevel, unscheduled_code, unscheduled_number
from app.studies.in_use import StudyInUse

MOST_UNSCHEDULED = 999

Anchor = Literal["screening", "consent", "randomisation"]

OPENED_WITH: dict[Anchor, Permission] = {
    "screening": Permission.PARTICIPANT_SCREEN,
    "consent": Permission.CONSENT_COUNTERSIGN,
    "randomisation": Permission.PARTICIPANT_RANDOMISE,
}
"""Visits open as part of the step that anchors them, so by whoever may take that step."""


_CHANGE = (
    update(VISIT)
    .where(
        VISIT.c.id == bindparam("of_visit", type_=Integer), VISIT.c.version == bindparam("at_version", type_=Integer)
    )
    .returning(VISIT.c.version)
)


def _opening(source: str) -> TextualSelect:
    """All visits of an anchor in one statement whose text is always the same, so that it is parsed once."""
    # The only parts that are put in are those below; what is stored is bound.
    words = (
        'INSERT INTO visit (study_id, participant_id, code, kind, "order", target_on, opens_on, closes_on, status, '
        f"version, created_at) SELECT :study_id, :participant_id, {source} WHERE true "
        "ON CONFLICT DO NOTHING RETURNING code"
    )
    moment, number = bindparam("created_at", type_=Instant), bindparam("participant_id", type_=Integer)
    return text(words).bindparams(moment, number, bindparam("study_id", type_=Integer)).columns(code=String)


_OF_EACH = ("code", "kind", "order", "target_on", "opens_on", "closes_on")
_OPEN = {
    "postgresql": _opening(
        'r.code, r.kind, r."order", r.target_on, r.opens_on, r.closes_on, CAST(:status AS varchar), 1, :created_at '
        "FROM jsonb_to_recordset(CAST(:visits AS jsonb)) "
        'AS r(code varchar, kind varchar, "order" int, target_on date, opens_on date, closes_on date)'
    ),
    "sqlite": _opening(
        ", ".join(f"json_extract(value, '$.{name}')" for name in _OF_EACH)
        + ", :status, 1, :created_at FROM json_each(:visits)"
    ),
}


def open_visits(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    anchor: Anchor,
    on: date,
    by: Actor,
    now: datetime,
) -> list[str]:
    """Give dates to the visits counted from this anchor; gives their codes. What has dates keeps them."""
    where = {"action": "visit.open", "subject": f"{participant.code}/visit"}
    require(by, OPENED_WITH[anchor], site_id=participant.site_id, **where)
    if participant.study_id != study.id:
        raise NotFound
    study = study.at(participant.site_id)
    if reason := rules.why_not_open(Status(participant.status)):
        raise Refused(reason, **where)
    rows = []
    for order, visit in enumerate(study.definition.visits):
        if visit.anchor == anchor:
            dates = rules.planned(visit, on)._asdict()
            rows.append({"code": visit.code, "kind": visit.kind.value, "order": order, **dates})
    if not rows:
        return []
    values = {
        "study_id": study.id,
        "participant_id": participant.id,
        "status": VisitStatus.PLANNED.value,
        "created_at": now,
        "visits": json.dumps(rows, default=date.isoformat),
    }
    opened = set(session.execute(_OPEN[session.get_bind().dialect.name], values).scalars())
    changes = [
        Change(
            "visit.opened",
            participant.code,
            f"visit/{row['code']}",
            new={name: row[name] for name in ("target_on", "opens_on", "closes_on")},
        )
        for row in rows
        if row["code"] in opened
    ]
    record(session, study.code, changes, by=by, now=now)
    return [str(row["code"]) for row in rows if row["code"] in opened]


def follow_refusal(
    session: Session, study: StudyInUse, participant: Participant, *, why: str, by: Actor, now: datetime
) -> list[str]:
    """Take their dates from the visits counted from a consent that was just taken back, and was the only one.

    Gives their codes. Nothing came of these visits, or the consent would have stayed; they open anew with the next one.
    """
    where = {"action": "visit.close", "subject": f"{participant.code}/visit"}
    require(by, OPENED_WITH["consent"], site_id=participant.site_id, **where)
    if participant.status != Status.SCREENED:
        return []
    codes = [visit.code for visit in study.at(participant.site_id).definition.visits if visit.anchor == "consent"]
    closed = session.execute(
        delete(VISIT)
        .where(
            VISIT.c.participant_id == participant.id,
            VISIT.c.status == VisitStatus.PLANNED,
            VISIT.c.code.in_(codes),
        )
        .returning(VISIT.c.order, VISIT.c.code, VISIT.c.target_on, VISIT.c.opens_on, VISIT.c.closes_on)
    ).all()
    rows = sorted(closed, key=lambda row: row.order)
    changes = [
        Change(
            "visit.closed",
            participant.code,
            f"visit/{row.code}",
            old={name: getattr(row, name) for name in ("target_on", "opens_on", "closes_on")},
        )
        for row in rows
    ]
    record(session, study.code, changes, by=by, now=now, why=why.strip())
    return [row.code for row in rows]


def record_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit_code: str,
    *,
    held_on: date,
    version: int,
    reason: str | None = None,
    by: Actor,
    now: datetime,
    permission: Permission = Permission.VISIT_RECORD,
) -> ParticipantVisit:
    """Record that a visit was held. Outside its window it is kept all the same, with the reason (SPIRIT item 18)."""
    where = _here("visit.record", participant, visit_code)
    visit = _changeable(session, study, participant, visit_code, by=by, permission=permission, where=where)
    _refuse_stale(visit, version, where)
    status = VisitStatus(visit.status)
    until = participant.left_on
    if visit.kind == VisitKind.TREATMENT:
        until = participant.treatment_stopped_on or until
    if why_not := rules.why_not_record(status, held_on=held_on, stopped_on=until):
        raise Refused(why_not, **where)
    _refuse_bad_day(session, study, participant, visit, held_on, reason, now, where, field="reason")
    with recorded_together(session):  # the log's head is locked after every row, or two changes wait for each other
        saved = _save(
            session,
            study,
            participant,
            visit,
            where,
            action="visit.held",
            by=by,
            now=now,
            why=_tidy(reason),
            status=VisitStatus.HELD.value,
            held_on=held_on,
            reason=_tidy(reason),
        )
        settle(session, study, saved.participant_id, VisitStatus.HELD, visit_id=saved.id, why=None, by=by, now=now)
    return saved


def add_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    held_on: date,
    reason: str,
    by: Actor,
    now: datetime,
) -> ParticipantVisit:
    """Record a visit outside the plan: the day on which it was held, and why; it gets the next number."""
    where = {"action": "visit.add", "subject": f"{participant.code}/visit"}
    require(by, Permission.VISIT_RECORD, site_id=participant.site_id, **where)
    if study.definition.unscheduled is None or participant.study_id != study.id:
        raise Refused("This study has no visits outside its plan. Record a deviation or a contact instead.", **where)
    assert participant.id is not None
    standing = held(session, participant.id)  # so that two who add one at once get one number each
    if reason_not := rules.why_not_add(
        standing.status,
        participant.consented_on,
        participant=participant.code,
        fatal_event=standing.fatal_event,
        held_on=held_on,
        left_on=standing.left_on,
    ):
        raise Refused(reason_not, **where)
    if why_not := why_no_consent(session, study, participant, on=held_on, before="visits", now=now):
        raise Refused(why_not, **where)
    assert participant.consented_on is not None
    today = today_at_site(session, participant, now)
    problems = day_problems("held_on", held_on, earliest=participant.consented_on, today=today)
    problems += reason_problems("reason", reason, "Say why they came outside the plan.")
    if problems:
        raise Invalid(problems)
    codes = session.execute(select(VISIT.c.code).where(VISIT.c.participant_id == participant.id)).scalars()
    number = max((unscheduled_number(code) or 0 for code in codes), default=0) + 1
    if number > MOST_UNSCHEDULED:
        raise Refused(f"There are {MOST_UNSCHEDULED} visits outside the plan already.", **where)
    row = {
        "study_id": study.id,
        "participant_id": participant.id,
        "code": unscheduled_code(number),
        "kind": VisitKind.ASSESSMENT.value,
        "order": len(study.definition.visits) + number,
        "target_on": held_on,
        "opens_on": held_on,
        "closes_on": held_on,
        "status": VisitStatus.HELD.value,
        "held_on": held_on,
        "reason": reason.strip(),
        "version": 1,
        "created_at": now,
    }
    session.execute(insert(VISIT).values(row))
    subject = f"visit/{row['code']}"
    change = Change("visit.added", participant.code, subject, new={"held_on": held_on.isoformat()}, why=reason.strip())
    record(session, study.code, [change], by=by, now=now)
    return visit_of(session, participant.id, str(row["code"]))


def correct_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit_code: str,
    *,
    held_on: date,
    version: int,
    why: str,
    reason: str | None = None,
    by: Actor,
    now: datetime,
    permission: Permission = Permission.VISIT_RECORD,
) -> ParticipantVisit:
    """Correct the day on which a visit was held; the log keeps the day it was before, and why.

    `why` is why the day changes, `reason` why the visit was held outside its window, where the new day lies outside:
    a typing error is no reason to come late.
    """
    where, is_outside = _here("visit.correct", participant, visit_code), unscheduled_number(visit_code) is not None
    visit = _changeable(session, study, participant, visit_code, by=by, permission=permission, where=where)
    if problems := reason_problems("why", why, "Say why the date changes."):
        raise Invalid(problems)
    _refuse_stale(visit, version, where)
    if why_not := rules.why_not_correct(VisitStatus(visit.status)):
        raise Refused(why_not, **where)
    outside = why if is_outside else reason
    _refuse_bad_day(session, study, participant, visit, held_on, outside, now, where, field="reason")
    return _save(
        session,
        study,
        participant,
        visit,
        where,
        action="visit.corrected",
        by=by,
        now=now,
        why=why.strip(),
        held_on=held_on,
        reason=visit.reason if is_outside or rules.in_window(visit, held_on) else (reason or "").strip(),
        # A visit outside the plan is due on the day on which it was held.
        **(dict.fromkeys(("target_on", "opens_on", "closes_on"), held_on) if is_outside else {}),
    )


def miss_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit_code: str,
    *,
    version: int,
    why: str,
    by: Actor,
    now: datetime,
    permission: Permission = Permission.VISIT_RECORD,
) -> ParticipantVisit:
    """Record that a visit did not take place, and why."""
    where = _here("visit.miss", participant, visit_code)
    visit = _changeable(session, study, participant, visit_code, by=by, permission=permission, where=where)
    if problems := reason_problems("why", why, "Say why the visit did not take place."):
        raise Invalid(problems)
    _refuse_stale(visit, version, where)
    if why_not := rules.why_not_change(VisitStatus(visit.status), VisitStatus.MISSED, code=visit.code):
        raise Refused(why_not, **where)
    with recorded_together(session):
        saved = _save(
            session,
            study,
            participant,
            visit,
            where,
            action="visit.missed",
            by=by,
            now=now,
            why=why.strip(),
            status=VisitStatus.MISSED.value,
            reason=why.strip(),
        )
        settle(session, study, saved.participant_id, VisitStatus.MISSED, visit_id=saved.id, why=why, by=by, now=now)
    return saved


def reopen_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit_code: str,
    *,
    version: int,
    why: str,
    by: Actor,
    now: datetime,
    permission: Permission = Permission.VISIT_RECORD,
) -> ParticipantVisit:
    """Make a visit planned again that was recorded as held or missed by mistake, and its appointment booked again. Its
    entries are not touched.
    """
    where = _here("visit.reopen", participant, visit_code)
    visit = _changeable(session, study, participant, visit_code, by=by, permission=permission, where=where)
    if problems := reason_problems("why", why, "Say why the visit is opened again."):
        raise Invalid(problems)
    _refuse_stale(visit, version, where)
    if why_not := rules.why_not_change(VisitStatus(visit.status), VisitStatus.PLANNED, code=visit.code):
        raise Refused(why_not, **where)
    before = visit.model_copy()
    with recorded_together(session):
        saved = _save(
            session,
            study,
            participant,
            visit,
            where,
            action="visit.reopened",
            by=by,
            now=now,
            why=why.strip(),
            status=VisitStatus.PLANNED.value,
            held_on=None,
            reason=None,
        )
        put_back(session, study, before, why=why, by=by, now=now)
    return saved


def mark_visit_in_error(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit_code: str,
    *,
    version: int,
    why: str,
    by: Actor,
    now: datetime,
    undo: bool = False,
    permission: Permission = Permission.VISIT_RECORD,
) -> ParticipantVisit:
    """Say that a visit outside the plan was entered in error, and why; `undo`: that it was held after all.

    Its row and its number stay. The same again changes nothing.
    """
    where = _here("visit.restore" if undo else "visit.mark_in_error", participant, visit_code)
    visit = _changeable(session, study, participant, visit_code, by=by, permission=permission, where=where)
    said = "Say why it counts after all." if undo else "Say what went wrong."
    if problems := reason_problems("why", why, said):
        raise Invalid(problems)
    status, why = VisitStatus(visit.status), why.strip()
    if status is VisitStatus.IN_ERROR and not undo and visit.in_error_why == why:
        return visit
    _refuse_stale(visit, version, where)
    if why_not := rules.why_not_restore(status) if undo else rules.why_not_mark_in_error(status, visit.code):
        raise Refused(why_not, **where)
    if undo:
        _refuse_bad_day(session, study, participant, visit, visit.target_on, None, now, where, field="why")
    with recorded_together(session):
        saved = _save(
            session,
            study,
            participant,
            visit,
            where,
            action="visit.restored" if undo else "visit.marked_in_error",
            by=by,
            now=now,
            why=why,
            status=(VisitStatus.HELD if undo else VisitStatus.IN_ERROR).value,
            held_on=visit.target_on if undo else None,  # a visit outside the plan is due on the day it was held
            in_error_why=None if undo else why,
        )
        if not undo:
            settle(
                session, study, saved.participant_id, VisitStatus.IN_ERROR, visit_id=saved.id, why=why, by=by, now=now
            )
    return saved


def follow_withdrawal(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    level: WithdrawalLevel,
    *,
    why: str,
    by: Actor,
    now: datetime,
) -> list[str]:
    """Stop what a withdrawal that was just recorded stops: every visit, or the sessions alone; gives their codes."""
    if level.stops_visits or participant.status in (Status.WITHDRAWN, Status.COMPLETED):
        return stop_visits(session, study, participant, why=why, by=by, now=now)
    if level.stops_treatment:
        return stop_visits(session, study, participant, kind=VisitKind.TREATMENT, why=why, by=by, now=now)
    return []


def stop_visits(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    kind: VisitKind | None = None,
    permission: Permission = Permission.PARTICIPANT_WITHDRAW,
    why: str,
    by: Actor,
    now: datetime,
) -> list[str]:
    """No visit is due any more, or none of one kind, because the participant left or treatment was stopped.

    Gives the codes of those stopped. What is booked is cancelled with them.
    """
    where = {"action": "visit.stop", "subject": f"{participant.code}/visit"}
    require(by, permission, site_id=participant.site_id, **where)
    if problems := reason_problems("why", why, "Say why no visit is due any more."):
        raise Invalid(problems)
    of_kind = [] if kind is None else [VISIT.c.kind == kind]
    stopped = session.execute(
        update(VISIT)
        .where(VISIT.c.participant_id == participant.id, VISIT.c.status == VisitStatus.PLANNED, *of_kind)
        .values(status=VisitStatus.STOPPED.value, reason=why.strip(), version=VISIT.c.version + 1)
        .returning(VISIT.c.order, VISIT.c.code)
    ).all()
    codes = [row.code for row in sorted(stopped, key=lambda row: row.order)]
    changes = [
        Change(
            "visit.stopped",
            participant.code,
            f"visit/{code}",
            old={"status": VisitStatus.PLANNED},
            new={"status": VisitStatus.STOPPED},
        )
        for code in codes
    ]
    assert participant.id is not None
    with recorded_together(session):
        record(session, study.code, changes, by=by, now=now, why=why.strip())
        settle(session, study, participant.id, VisitStatus.STOPPED, kind=kind, why=why, by=by, now=now)
    return codes


def plan_stopped_again(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    kind: VisitKind | None = None,
    why: str,
    by: Actor,
    now: datetime,
) -> None:
    """Plan again what the plan still has and was stopped by mistake: everything, or the visits of one kind.

    Sessions stay stopped while treatment does. What was booked stays cancelled. The caller has asked who may.
    """
    asked = select(VISIT.c.code, VISIT.c.kind).where(
        VISIT.c.participant_id == participant.id, VISIT.c.status == VisitStatus.STOPPED
    )
    codes = [
        row.code
        for row in session.execute(asked)
        if study.definition.visit(row.code) is not None
        and kind in (None, row.kind)
        and (row.kind != VisitKind.TREATMENT or participant.treatment_stopped_on is None)
    ]
    plan_again(session, study, participant, codes, why=why, by=by, now=now)


def plan_again(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    codes: Collection[str],
    *,
    why: str,
    by: Actor,
    now: datetime,
) -> None:
    """Plan visits again that were stopped by mistake: exactly these, as they were. The caller has asked who may."""
    if not codes:
        return
    again = session.execute(
        update(VISIT)
        .where(
            VISIT.c.participant_id == participant.id,
            VISIT.c.status == VisitStatus.STOPPED,
            VISIT.c.code.in_(list(codes)),
        )
        .values(status=VisitStatus.PLANNED.value, reason=None, version=VISIT.c.version + 1)
        .returning(VISIT.c.order, VISIT.c.code)
    ).all()
    changes = [
        Change(
            "visit.planned_again",
            participant.code,
            f"visit/{row.code}",
            old={"status": VisitStatus.STOPPED},
            new={"status": VisitStatus.PLANNED},
        )
        for row in sorted(again, key=lambda row: row.order)
    ]
    record(session, study.code, changes, by=by, now=now, why=why)


def _here(action: str, participant: Participant, visit_code: str) -> dict[str, str]:
    return {"action": action, "subject": f"{participant.code}/visit/{visit_code}"}


def _changeable(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit_code: str,
    *,
    by: Actor,
    permission: Permission,
    where: dict[str, str],
) -> ParticipantVisit:
    """The visit, when this person may change this kind of visit."""
    require(by, permission, site_id=participant.site_id, **where)
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    visit = visit_of(session, participant.id, visit_code)
    if reason := rules.why_not_with(VisitKind(visit.kind), permission):
        raise NotAllowed(reason, **where)
    return visit


def _refuse_stale(visit: ParticipantVisit, version: int, where: dict[str, str]) -> None:
    if visit.version != version:
        raise Conflict(
            "Somebody changed this visit while you were typing. Look at it again, then record what is left.",
            current_version=visit.version,
            **where,
        )


def _refuse_bad_day(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit: ParticipantVisit,
    held_on: date,
    reason: str | None,
    now: datetime,
    where: dict[str, str],
    *,
    field: str,
) -> None:
    """A visit is held between screening and today, under consent; outside its window only with a reason."""
    today = today_at_site(session, participant, now)
    problems = day_problems("held_on", held_on, earliest=participant.screened_on, today=today)
    if reason is not None and reason.strip():
        problems += reason_problems(field, reason, "")
    elif not problems and not rules.in_window(visit, held_on):
        message = (
            f"The window is {day_in_words(visit.opens_on)} to {day_in_words(visit.closes_on)}. "
            "Say why the visit was held outside it."
        )
        problems.append(FieldProblem(field, "required", message))
    if problems:
        raise Invalid(problems)
    if why_not := why_no_consent(session, study, participant, on=held_on, before="visits", now=now):
        raise Refused(why_not, **where)


def _save(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit: ParticipantVisit,
    where: dict[str, str],
    *,
    action: str,
    by: Actor,
    now: datetime,
    why: str | None,
    **values: Any,
) -> ParticipantVisit:
    """Change the row, unless somebody else did in the meantime, and write it down."""
    old, reason = _told(visit), visit.reason
    saved = session.execute(
        _CHANGE, {"of_visit": visit.id, "at_version": visit.version, "version": visit.version + 1, **values}
    ).scalar()
    if saved is None:
        raise Conflict(
            "Somebody changed this visit a moment ago. Look at it again, then record what is left.",
            current_version=visit_of(session, visit.participant_id, visit.code).version,
            **where,
        )
    for name, value in {**values, "version": saved}.items():
        setattr(visit, name, value)
    new = _told(visit)
    if visit.reason not in (reason, why, None):  # what is said beside why this was done stands in the log as well
        old, new = {**old, "reason": reason}, {**new, "reason": visit.reason}
    change = Change(action, participant.code, f"visit/{visit.code}", old=old, new=new)
    record(session, study.code, [change], by=by, now=now, why=why)
    return visit


def _told(visit: ParticipantVisit) -> dict[str, Any]:
    """A visit as the log tells of it."""
    told: dict[str, Any] = {"status": visit.status}
    if visit.held_on is not None:
        told |= {"held_on": visit.held_on, "in_window": rules.in_window(visit, visit.held_on)}
    return told


def _tidy(reason: str | None) -> str | None:
    return (reason or "").strip() or None
