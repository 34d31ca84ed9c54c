"""When does a participant come? Booking an appointment, moving and cancelling it, and who came to it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Any

from fastapi import Path
from fastapi.responses import RedirectResponse, Response

from app.dependencies import ChangeInStudy, Here, PageInStudy
from app.foundation import clock
from app.foundation.errors import Conflict, FieldProblem, Invalid, Problem, Refused
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.status import Status
from app.people.access import require, why_not
from app.people.permissions import Permission
from app.schedule.appointments import actions, reads, rules
from app.schedule.appointments.actions import Warned, Wish
from app.schedule.appointments.reads import AppointmentRow, label_in
from app.schedule.models import ParticipantVisit
from app.schedule.reads import visits_of
from app.schedule.status import UNSCHEDULED, AppointmentStatus, VisitStatus
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import errors_of, status_of

router = pages()

NEW = "/{study}/participants/{code}/appointments/new"
ONE = "/{study}/participants/{code}/appointments/{number}"
Number = Annotated[int, Path(ge=0, lt=2**31)]
FIELDS = ("visit", "purpose", "day", "time", "clock", "minutes", "person", "room", "why")
MARKS = {
    AppointmentStatus.BOOKED: "planned",
    AppointmentStatus.HELD: "done",
    AppointmentStatus.NO_SHOW: "missed",
    AppointmentStatus.CANCELLED: "none",
}


@router.get(NEW, name="appointments.book_form")
def book_form(here: PageInStudy, code: str) -> Response:
    """Book an appointment: for which visit, when, with whom and where."""
    return _booking_page(here, _participant(here, code, "appointment.book"))


@router.post(NEW, name="appointments.book")
def book(here: ChangeInStudy, code: str) -> Response:
    """Book it; when something speaks against it, that is said first, and a second click books all the same."""
    participant = _participant(here, code, "appointment.book")
    try:
        wish = _wish(here)
        visit = here.value("visit")
        row, _ = actions.book(
            here.session,
            here.the_study,
            participant,
            wish,
            visit=None if visit == UNSCHEDULED else visit or None,
            purpose=here.value("purpose"),
            told=here.value("warned"),
            by=here.actor,
            now=here.now,
        )
    except Warned as warned:
        here.release_key()
        here.shows()
        return _booking_page(here, participant, warnings=warned.warnings)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _booking_page(here, participant, problem=problem)
    return here.redirect(url_of(here, row), done="booked")


def url_of(here: Here, row: AppointmentRow) -> str:
    """The address of an appointment's page."""
    return f"/{here.the_study.code}/participants/{row.participant}/appointments/{row.number}"


@router.get(ONE, name="appointments.show")
def show(here: PageInStudy, code: str, number: Number) -> Response:
    """One appointment: when, with whom and where; what speaks against it; and what can be done with it."""
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    return _show_page(here, participant, number)


@router.post(ONE + "/moved", name="appointments.move")
def move(here: ChangeInStudy, code: str, number: Number) -> Response:
    """Move it to another time, person or room; what speaks against that is said first, as when it is booked."""

    def act(participant: Participant, version: int) -> AppointmentRow:
        row, _ = actions.move(
            here.session,
            here.the_study,
            participant,
            number,
            _wish(here),
            version=version,
            why=here.value("why"),
            told=here.value("warned"),
            by=here.actor,
            now=here.now,
        )
        return row

    return _change(here, code, number, "appointment.move", act, done="moved")


@router.post(ONE + "/cancelled", name="appointments.cancel")
def cancel(here: ChangeInStudy, code: str, number: Number) -> Response:
    """Cancel it, and say why."""

    def act(participant: Participant, version: int) -> AppointmentRow:
        why = here.value("why")
        common: dict[str, Any] = {"version": version, "by": here.actor, "now": here.now}
        return actions.cancel(here.session, here.the_study, participant, number, why=why, **common)

    return _change(here, code, number, "appointment.cancel", act, done="cancelled")


@router.post(ONE + "/no-show", name="appointments.no_show")
def no_show(here: ChangeInStudy, code: str, number: Number) -> Response:
    """Record that nobody came."""

    def act(participant: Participant, version: int) -> AppointmentRow:
        why = here.value("why")
        common: dict[str, Any] = {"version": version, "by": here.actor, "now": here.now}
        return actions.record_no_show(here.session, here.the_study, participant, number, why=why, **common)

    return _change(here, code, number, "appointment.record_no_show", act, done="no_show")


@router.post(ONE + "/held", name="appointments.hold")
def hold(here: ChangeInStudy, code: str, number: Number) -> Response:
    """Record that an unscheduled visit took place."""

    def act(participant: Participant, version: int) -> AppointmentRow:
        common: dict[str, Any] = {"version": version, "by": here.actor, "now": here.now}
        return actions.record_held(here.session, here.the_study, participant, number, **common)

    return _change(here, code, number, "appointment.record_held", act, done="visit_held")


@router.get(ONE + "/moved", name="appointments.moved_form")
@router.get(ONE + "/cancelled", name="appointments.cancelled_form")
@router.get(ONE + "/no-show", name="appointments.no_show_form")
@router.get(ONE + "/held", name="appointments.held_form")
def back_to_the_appointment(here: PageInStudy, code: str, number: Number) -> Response:
    """Where somebody lands who goes on without sending a form again: its page."""
    return RedirectResponse(f"/{here.the_study.code}/participants/{code}/appointments/{number}", status_code=303)


# What was typed


def _participant(here: Here, code: str, action: str) -> Participant:
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    subject = f"{participant.code}/appointment"
    require(here.actor, Permission.APPOINTMENT_BOOK, site_id=participant.site_id, subject=subject, action=action)
    return participant


def _change(
    here: Here, code: str, number: int, action: str, act: Callable[[Participant, int], AppointmentRow], *, done: str
) -> Response:
    """Carry it out; what cannot be is shown on the same page, with everything that was typed."""
    participant = _participant(here, code, action)
    try:
        row = act(participant, here.number("version"))
    except Warned as warned:
        here.release_key()
        return _show_page(here, participant, number, warnings=warned.warnings)
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _show_page(here, participant, number, problem=problem)
    return here.redirect(url_of(here, row), done=done)


def _wish(here: Here) -> Wish:
    """When, with whom and where, as it was typed; Invalid with every field that cannot be read."""
    wrong = []
    day, at, minutes = _read_day(here.value("day")), _read_time(here.value("time")), here.value("minutes")
    if day is None:
        wrong.append(FieldProblem("day", "date", "Write the date as year-month-day, such as 2026-03-14."))
    if at is None:
        wrong.append(FieldProblem("time", "time", "Write the time as hours and minutes, such as 09:30."))
    if not minutes.isdecimal() or len(minutes) > 4:
        wrong.append(FieldProblem("minutes", "number", "Write how many minutes it lasts."))
    if wrong or day is None or at is None:
        raise Invalid(wrong)
    asked = here.value("clock")
    return Wish(
        day,
        at,
        int(minutes),
        here.value("person") or None,
        here.value("room") or None,
        "earlier" if asked == "earlier" else "later" if asked == "later" else "",
    )


def _read_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        return None


def _read_time(text: str) -> time | None:
    """`9:30` and `09:30` are a time; seconds and zones are none."""
    try:
        return datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 a time of day has no zone
    except ValueError:
        return None


# The pages


@dataclass(frozen=True)
class Form:
    """What the fields of an appointment offer."""

    people: list[tuple[str, str]]
    rooms: list[str]


def _form(here: Here, participant: Participant, kind: str) -> Form:
    team = reads.colleagues(here.session, here.the_study, participant.site_id, kind=kind)
    rooms = reads.rooms(here.session, here.the_study, participant.site_id, by=here.actor)
    return Form([(each.username, each.name) for each in team], list(rooms))


def _booking_page(
    here: Here,
    participant: Participant,
    *,
    problem: Problem | None = None,
    warnings: tuple[str, ...] = (),
) -> Response:
    assert participant.id is not None
    places = places_of(here)
    visits = visits_of(here.session, participant.id)
    # Sessions by those who treat, visits by the others.
    mine = [each for each in visits if rules.why_not_with(each.kind, here.actor, participant.site_id) is None]
    open_ = [each for each in mine if each.status == VisitStatus.PLANNED]
    options = [(each.code, _visit_words(here, each)) for each in open_]
    if rules.why_not_with(UNSCHEDULED, here.actor, participant.site_id) is None:
        options.append((UNSCHEDULED, here.tell("A visit that is not in the plan")))
    asked = here.request.query_params.get("visit", "")
    chosen = next((each for each in open_ if each.code == (here.value("visit") or asked)), None)
    if not here.form and not asked:
        chosen = next(iter(open_), None)
    kind = chosen.kind if chosen else UNSCHEDULED if options and options[-1][0] == UNSCHEDULED else "treatment"
    today = places.today(here, participant.site_id)
    form = _form(here, participant, kind)
    typed = {name: here.value(name) for name in FIELDS}
    if not here.form:
        on = _read_day(here.request.query_params.get("on", ""))
        day = on or (max(chosen.target_on, today) if chosen else today)
        minutes = here.the_study.definition.schedule.minutes_for(chosen.code if chosen else None)
        me = here.actor.username if here.actor.username in dict(form.people) else ""
        typed |= {"day": day.isoformat(), "minutes": str(minutes), "person": me}
        typed["visit"] = chosen.code if chosen else asked if asked == UNSCHEDULED else ""
    return show_at(
        here,
        places,
        "appointments/book.html",
        status_code=status_of(problem),
        participant=participant,
        url=f"/{here.the_study.code}/participants/{participant.code}",
        options=options,
        not_at_all=rules.why_not_book(Status(participant.status), None),
        window=chosen,
        today=today,
        timezone=places.timezone(participant.site_id),
        warnings=warnings,
        warned=" ".join(warnings),
        **_fields(form, typed, problem),
    )


def _fields(form: Form, typed: dict[str, str], problem: Problem | None) -> dict[str, Any]:
    errors = errors_of(problem)
    return {
        "people": form.people,
        "rooms": form.rooms,
        "typed": typed,
        "errors": errors,
        "problems": list(errors.items()),
        "refused": problem.reason if problem and not errors else None,
    }


def _visit_words(here: Here, visit: ParticipantVisit) -> str:
    planned = here.the_study.definition.visit(visit.code)
    return planned.label if planned else visit.code


def label_of(here: Here, row: AppointmentRow) -> str:
    """What an appointment is for, in words."""
    said = label_in(here.the_study, row)
    return said if row.visit or row.purpose else here.tell(said)


def booked_ahead(here: Here, participant: Participant) -> list[dict[str, Any]]:
    """What is booked for a participant and still to come, as `appointments/_words.html` lists it."""
    assert participant.id is not None
    rows = reads.appointments_of(here.session, participant.id, by=here.actor)
    booked = [row for row in rows if row.status is AppointmentStatus.BOOKED and row.starts_at > here.now]
    return [{"row": row, "label": label_of(here, row)} for row in booked]


def _show_page(
    here: Here,
    participant: Participant,
    number: int,
    *,
    problem: Problem | None = None,
    warnings: tuple[str, ...] = (),
) -> Response:
    assert participant.id is not None
    places = places_of(here)
    row = reads.appointment_of(here.session, participant.id, number, by=here.actor)
    may_change = why_not(here.actor, Permission.APPOINTMENT_BOOK, site_id=participant.site_id) or rules.why_not_with(
        row.kind, here.actor, participant.site_id
    )
    open_ = row.status is AppointmentStatus.BOOKED
    form = _form(here, participant, row.kind) if open_ and not may_change else Form([], [])
    sent = here.request.url.path.rpartition("/")[2] if here.form else ""
    typed = {name: here.value(name) for name in FIELDS}
    if sent != "moved":
        local = row.starts
        twice = len(rules.instants(local.date(), local.time().replace(fold=0), row.timezone)) > 1
        typed |= {
            "day": local.date().isoformat(),
            "time": f"{local:%H:%M}",
            "clock": ("later" if local.fold else "earlier") if twice else "",
            "minutes": str(row.minutes),
            "person": row.username or "",
            "room": row.room or "",
        }
    window = None
    if row.visit is not None:
        window = next((each for each in visits_of(here.session, participant.id) if each.code == row.visit), None)
    return show_at(
        here,
        places,
        "appointments/show.html",
        status_code=status_of(problem),
        participant=participant,
        row=row,
        label=label_of(here, row),
        mark=MARKS[row.status],
        ours=rules.OURS,
        window=window,
        url=url_of(here, row),
        participant_url=f"/{here.the_study.code}/participants/{participant.code}",
        may_change=may_change,
        is_open=open_,
        begun=row.starts_at <= here.now,
        may_hold=rules.why_not_hold(row.kind) is None,
        standing=_standing(here, row, window) if open_ and not row.hidden and not warnings else (),
        warnings=warnings,
        warned=" ".join(warnings),
        sent=sent,
        today=places.today(here, participant.site_id),
        timezone=row.timezone,
        **_fields(form, typed, problem),
    )


def _standing(here: Here, row: AppointmentRow, window: ParticipantVisit | None) -> list[str]:
    """What speaks against an appointment that stands, as far as this person may know."""
    if row.ends_at is None:
        return []
    taken = reads.taken_at(
        here.session,
        here.the_study,
        site_id=row.site_id,
        participant_id=row.participant_id,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        person_id=row.person_id,
        room=row.room,
        but=row.id,
        by=here.actor,
    )
    today = clock.today(row.timezone, here.now)
    on = row.starts.date()
    return rules.warnings(
        taken,
        participant=row.participant,
        person=row.person,
        room=row.room,
        on=on,
        window=window,
        today=min(today, on),
        timezone=row.timezone,
    )
