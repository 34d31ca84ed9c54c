"""What may I do with appointments? Book, move, cancel them, and record who came; each change is told to who is due."""

import base64
import json
import secrets
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from sqlalchemy import Integer, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation import clock
from app.foundation.crypto.envelopes import seal
from app.foundation.database import keys_of
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.participants.actions import reason_problems
from app.participants.models import Participant
from app.participants.reads import SITE, held, hold
from app.participants.rules import why_not_after_death
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.schedule.appointments import reads, rules
from app.schedule.appointments.notices import tell
from app.schedule.appointments.reads import APPOINTMENT, AppointmentRow, Colleague
from app.schedule.appointments.rules import Clock
from app.schedule.models import ParticipantVisit
from app.schedule.reads import visit_of
from app.schedule.status import UNSCHEDULED, AppointmentStatus, VisitStatus
from app.studies.definition import VisitKind
from app.studies.in_use import StudyInUse

DETAILS = "appointment details"
SIZE = 512

_ADD = insert(APPOINTMENT).returning(APPOINTMENT.c.id)
_CHANGE = (
    update(APPOINTMENT)
    .where(
        APPOINTMENT.c.id == bindparam("of_appointment", type_=Integer),
        APPOINTMENT.c.version == bindparam("at_version", type_=Integer),
    )
    .returning(APPOINTMENT.c.version)
)
_NUMBER = select(func.coalesce(func.max(APPOINTMENT.c.number), 0) + 1).where(
    APPOINTMENT.c.participant_id == bindparam("of_participant", type_=Integer)
)


@dataclass(frozen=True)
class Wish:
    """When and where somebody is to come, as it is said: a day and a time by the site's clock, and with whom.

    `person` is a username; None leaves it open.
    """

    day: date
    at: time
    minutes: int
    person: str | None = None
    room: str | None = None
    clock: Clock = ""


@dataclass(frozen=True)
class Weighed:
    """A wish as it would be kept, and what somebody should know before it is."""

    starts_at: datetime
    ends_at: datetime
    person: Colleague | None
    room: str | None
    warnings: tuple[str, ...]


class Warned(Exception):
    """Something speaks against it that whoever asks has not been told; nothing was changed."""

    def __init__(self, warnings: tuple[str, ...]) -> None:
        super().__init__(" ".join(warnings))
        self.warnings = warnings


def weigh(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    wish: Wish,
    *,
    kind: str,
    window: ParticipantVisit | None,
    purpose: str | None = None,
    but: int | None = None,
    by: Actor,
    now: datetime,
) -> Weighed:
    """What a wish means by the site's clock, and what speaks against it; Invalid when it cannot be kept at all.

    `but` is the appointment that is to be moved.
    """
    assert participant.id is not None
    timezone = _timezone(session, participant)
    room = (wish.room or "").strip() or None
    found = rules.instant(wish.day, wish.at, timezone, wish.clock)
    team = reads.colleagues(session, study, participant.site_id, kind=kind) if wish.person else []
    person = next((each for each in team if each.username == wish.person), None)
    wrong: list[FieldProblem] = []
    if isinstance(found, FieldProblem):
        wrong.append(found)
        found = now  # only so that everything else that is wrong is said as well
    wrong += rules.problems(starts_at=found, minutes=wish.minutes, room=room, purpose=purpose, kind=kind, now=now)
    if wish.person and person is None:
        wrong.append(FieldProblem("person", "choice", "Choose somebody of this site, or leave it open."))
    if wrong:
        raise Invalid(wrong)
    ends_at = found + wish.minutes * rules.ONE_MINUTE
    taken = reads.taken_at(
        session,
        study,
        site_id=participant.site_id,
        participant_id=participant.id,
        starts_at=found,
        ends_at=ends_at,
        person_id=person.id if person else None,
        room=room,
        but=but,
        by=by,
    )
    warnings = rules.warnings(
        taken,
        participant=participant.code,
        person=person.name if person else None,
        room=room,
        on=wish.day,
        window=window,
        today=clock.today(timezone, now),
        timezone=timezone,
    )
    return Weighed(found, ends_at, person, room, tuple(warnings))


def book(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    wish: Wish,
    *,
    visit: str | None = None,
    purpose: str | None = None,
    told: str | None = None,
    by: Actor,
    now: datetime,
) -> tuple[AppointmentRow, tuple[str, ...]]:
    """Book an appointment for a visit of the plan, or (without `visit`) for one that is not in it.

    Gives what should be known of it: a clash, or a day outside the window, is said and never refused. `told` are the
    warnings that whoever asks has read, joined by spaces: Warned when there are others. None: they are only given.
    """
    where = {"action": "appointment.book", "subject": f"{participant.code}/appointment"}
    require(by, Permission.APPOINTMENT_BOOK, site_id=participant.site_id, **where)
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    planned = visit_of(session, participant.id, visit) if visit else None
    kind = planned.kind if planned else UNSCHEDULED
    if reason := rules.why_not_with(kind, by, participant.site_id):
        raise Refused(reason, **where)
    standing = held(session, participant.id)
    if planned is not None:  # as it stands now that the participant is held
        planned = visit_of(session, participant.id, planned.code)
    reason = rules.why_not_book(standing.status, VisitStatus(planned.status) if planned else None)
    if reason := reason or why_not_after_death(participant.code, standing.status, standing.fatal_event):
        raise Refused(reason, **where)
    purpose = ((purpose or "").strip() or None) if planned is None else None
    weighed = weigh(session, study, participant, wish, kind=kind, window=planned, purpose=purpose, by=by, now=now)
    _warn(weighed, told)
    number = session.execute(_NUMBER, {"of_participant": participant.id}).scalar_one()
    values = {
        "study_id": study.id,
        "site_id": participant.site_id,
        "participant_id": participant.id,
        "number": number,
        "visit_id": planned.id if planned else None,
        "kind": kind,
        "purpose": purpose,
        "starts_at": weighed.starts_at,
        "ends_at": weighed.ends_at,
        "person_id": weighed.person.id if weighed.person else None,
        "room": weighed.room,
        "status": AppointmentStatus.BOOKED.value,
        "uid": f"{secrets.token_hex(16)}@equipoise",
        "sequence": 0,
        "version": 1,
        "changed_at": now,
        "created_at": now,
        "created_by": by.username,
    }
    try:
        with session.begin_nested():
            session.execute(_ADD, values)
    except IntegrityError:
        raise Refused("This visit is booked already. Move that appointment instead.", **where) from None
    row = _as_kept(session, participant.id, number)
    tell(session, study, None, row, by=by, now=now)
    record(session, study.code, [_change(session, "appointment.booked", None, row)], by=by, now=now)
    return _as_seen(session, row, by=by), weighed.warnings


def move(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    number: int,
    wish: Wish,
    *,
    version: int,
    why: str | None = None,
    told: str | None = None,
    by: Actor,
    now: datetime,
) -> tuple[AppointmentRow, tuple[str, ...]]:
    """Move an appointment to another time, person or room; `told` as for `book`.

    Calendars hear of it by the sequence, which grows.
    """
    row, where = _changeable(session, study, participant, number, "appointment.move", by=by)
    _refuse_stale(row, version, where)
    if reason := rules.why_not_become(row.status, AppointmentStatus.BOOKED):
        raise Refused(reason, **where)
    assert participant.id is not None
    window = visit_of(session, participant.id, row.visit) if row.visit else None
    weighed = weigh(
        session, study, participant, wish, kind=row.kind, window=window, purpose=row.purpose, but=row.id, by=by, now=now
    )
    new = {
        "starts_at": weighed.starts_at,
        "ends_at": weighed.ends_at,
        "person_id": weighed.person.id if weighed.person else None,
        "room": weighed.room,
    }
    if all(getattr(row, name) == value for name, value in new.items()):
        return _as_seen(session, row, by=by), weighed.warnings
    _warn(weighed, told)
    moved = _save(session, study, row, where, action="appointment.moved", why=_tidy(why), by=by, now=now, **new)
    return _as_seen(session, moved, by=by), weighed.warnings


def cancel(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    number: int,
    *,
    version: int,
    why: str,
    by: Actor,
    now: datetime,
) -> AppointmentRow:
    """Cancel an appointment, and say why. The visit stays due, and may be booked again."""
    row, where = _changeable(session, study, participant, number, "appointment.cancel", by=by)
    if problems := reason_problems("why", why, "Say why the appointment is cancelled."):
        raise Invalid(problems)
    return _become(
        session, study, row, where, version, AppointmentStatus.CANCELLED, "appointment.cancelled", why, by=by, now=now
    )


def record_no_show(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    number: int,
    *,
    version: int,
    why: str | None = None,
    by: Actor,
    now: datetime,
) -> AppointmentRow:
    """Record that the participant did not come. The visit stays due, and may be booked again."""
    row, where = _changeable(session, study, participant, number, "appointment.record_no_show", by=by)
    if (why or "").strip() and (problems := reason_problems("why", why or "", "")):
        raise Invalid(problems)
    if reason := rules.why_not_take_place(row.starts_at, now):
        raise Refused(reason, **where)
    return _become(
        session, study, row, where, version, AppointmentStatus.NO_SHOW, "appointment.not_kept", why, by=by, now=now
    )


def record_held(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    number: int,
    *,
    version: int,
    by: Actor,
    now: datetime,
) -> AppointmentRow:
    """Record that an unscheduled visit took place; one of the plan is recorded on the page of the visit."""
    row, where = _changeable(session, study, participant, number, "appointment.record_held", by=by)
    if reason := rules.why_not_hold(row.kind) or rules.why_not_take_place(row.starts_at, now):
        raise Refused(reason, **where)
    return _become(
        session, study, row, where, version, AppointmentStatus.HELD, "appointment.held", None, by=by, now=now
    )


def settle(
    session: Session,
    study: StudyInUse,
    participant_id: int,
    new: VisitStatus,
    *,
    visit_id: int | None = None,
    kind: VisitKind | None = None,
    why: str | None,
    by: Actor,
    now: datetime,
) -> None:
    """What is booked follows its visit: held with it, or cancelled if it is on a later day; when the visit was missed,
    nobody came, or nobody needs to come.

    Without `visit_id`, everything that is booked for the participant, or everything of one kind: they left, or
    treatment was stopped.
    """
    query = reads.BOOKED.where(APPOINTMENT.c.participant_id == participant_id)
    if visit_id is not None:
        query = query.where(APPOINTMENT.c.visit_id == visit_id)
    if kind is not None:
        query = query.where(APPOINTMENT.c.kind == kind)
    for found in session.execute(query).mappings().all():
        row = reads.kept(found)
        where = {"action": "appointment.settle", "subject": f"{row.participant}/appointment/{row.number}"}
        action, status, said = "appointment.cancelled", AppointmentStatus.CANCELLED, _tidy(why)
        if new is VisitStatus.HELD and rules.is_on_a_later_day(row.starts_at, now, row.timezone):
            said = rules.ELSEWHEN
        elif new is VisitStatus.HELD:
            action, status = "appointment.held", AppointmentStatus.HELD
        elif new is VisitStatus.MISSED and row.starts_at <= now:
            action, status = "appointment.not_kept", AppointmentStatus.NO_SHOW
        _save(session, study, row, where, action=action, why=said, by=by, now=now, status=status.value, reason=said)


def cancel_ahead(
    session: Session, study: StudyInUse, participant_id: int, *, why: str, by: Actor, now: datetime
) -> None:
    """Cancel what is booked and still to come; what became of the rest is still to be said. The caller has asked who
    may, and holds the participant.
    """
    ahead = reads.BOOKED.where(APPOINTMENT.c.participant_id == participant_id, APPOINTMENT.c.starts_at > now)
    for found in session.execute(ahead).mappings().all():
        row = reads.kept(found)
        where = {"action": "appointment.settle", "subject": f"{row.participant}/appointment/{row.number}"}
        values = {"status": AppointmentStatus.CANCELLED.value, "reason": why}
        _save(session, study, row, where, action="appointment.cancelled", why=why, by=by, now=now, **values)


def put_back(
    session: Session, study: StudyInUse, visit: ParticipantVisit, *, why: str, by: Actor, now: datetime
) -> None:
    """What became of an appointment with a visit is open again, because the visit is; `visit` as it was before.

    What was said of the appointment itself stays: that it was cancelled, or that nobody came to it. One that was
    cancelled with its visit is booked again while it is still to come, and whoever heard that it was cancelled is told.
    """
    query = reads.ROWS.where(APPOINTMENT.c.visit_id == visit.id).order_by(APPOINTMENT.c.number.desc()).limit(1)
    found = session.execute(query).mappings().first()
    if found is None:
        return
    row = reads.kept(found)
    was, to_come = VisitStatus(visit.status), row.starts_at > now
    if not rules.follows(row.status, row.reason, was, visit.reason, is_to_come=to_come):
        return
    if row.status is AppointmentStatus.CANCELLED:
        standing = held(session, visit.participant_id)
        if rules.why_not_book(standing.status, VisitStatus.PLANNED) or why_not_after_death(
            row.participant, standing.status, standing.fatal_event
        ):
            return
    where = {"action": "appointment.put_back", "subject": f"{row.participant}/appointment/{row.number}"}
    values = {"status": AppointmentStatus.BOOKED.value, "reason": None}
    _save(session, study, row, where, action="appointment.reopened", why=_tidy(why), by=by, now=now, **values)


def _changeable(
    session: Session, study: StudyInUse, participant: Participant, number: int, action: str, *, by: Actor
) -> tuple[AppointmentRow, dict[str, str]]:
    """The appointment in full, when this person may change this kind of it."""
    where = {"action": action, "subject": f"{participant.code}/appointment/{number}"}
    require(by, Permission.APPOINTMENT_BOOK, site_id=participant.site_id, **where)
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    row = _as_kept(session, participant.id, number)
    if reason := rules.why_not_with(row.kind, by, participant.site_id):
        raise Refused(reason, **where)
    # Whoever withdraws the participant holds them too, and then cancels this: nobody waits for the other in a circle.
    hold(session, participant.id, "alone")
    return _as_kept(session, participant.id, number), where


def _warn(weighed: Weighed, told: str | None) -> None:
    if told is not None and weighed.warnings and " ".join(weighed.warnings) != told:
        raise Warned(weighed.warnings)


def _refuse_stale(row: AppointmentRow, version: int, where: dict[str, str]) -> None:
    if row.version != version:
        raise Conflict(
            "Somebody changed this appointment while you were typing. Look at it again, then make your change.",
            current_version=row.version,
            **where,
        )


def _become(
    session: Session,
    study: StudyInUse,
    row: AppointmentRow,
    where: dict[str, str],
    version: int,
    new: AppointmentStatus,
    action: str,
    why: str | None,
    *,
    by: Actor,
    now: datetime,
) -> AppointmentRow:
    _refuse_stale(row, version, where)
    if reason := rules.why_not_become(row.status, new):
        raise Refused(reason, **where)
    values = {"status": new.value, "reason": _tidy(why)}
    changed = _save(session, study, row, where, action=action, why=_tidy(why), by=by, now=now, **values)
    return _as_seen(session, changed, by=by)


def _save(
    session: Session,
    study: StudyInUse,
    row: AppointmentRow,
    where: dict[str, str],
    *,
    action: str,
    why: str | None,
    by: Actor,
    now: datetime,
    **values: Any,
) -> AppointmentRow:
    """Change the row, unless somebody else did in the meantime, and write it down."""
    more = {"version": row.version + 1, "sequence": row.sequence + 1, "changed_at": now}
    saved = session.execute(_CHANGE, {"of_appointment": row.id, "at_version": row.version, **more, **values}).scalar()
    if saved is None:
        raise Conflict(
            "Somebody changed this appointment a moment ago. Look at it again, then make your change.",
            current_version=_as_kept(session, row.participant_id, row.number).version,
            **where,
        )
    new = _as_kept(session, row.participant_id, row.number)
    tell(session, study, row, new, by=by, now=now)
    record(session, study.code, [_change(session, action, row, new)], by=by, now=now, why=why)
    return new


def _change(session: Session, action: str, old: AppointmentRow | None, new: AppointmentRow) -> Change:
    subject = f"appointment/{new.number}"
    return Change(action, new.participant, subject, old=_told(session, old) if old else None, new=_told(session, new))


def _told(session: Session, row: AppointmentRow) -> dict[str, Any]:
    """An appointment as the log tells of it.

    With whom a session is, where, and for how long, is sealed: those who read the log may be blinded. Always the same
    length, bound to the appointment and its version.
    """
    told: dict[str, Any] = {"status": row.status, "starts_at": row.starts_at.isoformat(), "visit": row.visit}
    details = {"minutes": row.minutes, "person": row.username, "room": row.room}
    if row.kind == VisitKind.TREATMENT:
        text = json.dumps(details, ensure_ascii=False, separators=(",", ":")).encode()
        sealed = seal(keys_of(session).derive(DETAILS), text, bound_to=(DETAILS, row.uid, row.version), size=SIZE)
        return {**told, "sealed": base64.b64encode(sealed).decode()}
    return {**told, **details, **({"purpose": row.purpose} if row.purpose else {})}


def _as_kept(session: Session, participant_id: int, number: int) -> AppointmentRow:
    """The appointment with everything that is kept of it."""
    query = reads.ROWS.where(APPOINTMENT.c.participant_id == participant_id, APPOINTMENT.c.number == number)
    found = session.execute(query).mappings().first()
    if found is None:
        raise NotFound
    return reads.kept(found)


def _as_seen(session: Session, row: AppointmentRow, *, by: Actor) -> AppointmentRow:
    return reads.appointment_of(session, row.participant_id, row.number, by=by)


def _timezone(session: Session, participant: Participant) -> str:
    return str(session.execute(select(SITE.c.timezone).where(SITE.c.id == participant.site_id)).scalar_one())


def _tidy(text: str | None) -> str | None:
    return (text or "").strip() or None
