"""What is a visit of a participant? When it is due, the day it was held or why it was missed, and its forms."""

from collections.abc import Callable
from datetime import date

from fastapi.responses import RedirectResponse, Response

from app.capture import actions as capture
from app.capture.double.reads import states_of
from app.capture.double.rules import State, why_not_sign, why_withheld
from app.capture.locks.reads import covering
from app.capture.locks.rules import Kind, why_closed
from app.capture.reads import EntryMark, entries_and_drafts, place_of, repeat_labels
from app.capture.rules import entry_mark, form_name
from app.capture.status import EntryStatus
from app.consent.reads import why_no_consent
from app.dependencies import ChangeInStudy, Here, PageInStudy
from app.foundation import clock
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.rules import why_not_after_death
from app.participants.status import Status
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.schedule import rules
from app.schedule.appointments.reads import appointments_of
from app.schedule.appointments.rules import why_not_book, why_not_with
from app.schedule.models import ParticipantVisit
from app.schedule.reads import visit_of
from app.schedule.status import AppointmentStatus, VisitStatus
from app.studies.definition import Instrument, Visit, VisitKind, unscheduled_number
from app.web.appointments import label_of
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import errors_of, show, status_of
from app.wording import said, title_of

router = pages()

VISIT = "/{study}/participants/{code}/visits/{visit}"


def visit_url(here: Here, code: str, visit: str) -> str:
    """The address of a visit's page."""
    return f"/{here.the_study.code}/participants/{code}/visits/{visit}"


def planned_visit(here: Here, visit: str) -> Visit:
    """The visit of the plan with this code; NotFound when the plan has none."""
    planned = here.read_study.definition.visit(visit)
    if planned is None:
        raise NotFound
    return planned


@router.get(VISIT, name="visits.show")
def show_visit(here: PageInStudy, code: str, visit: str) -> Response:
    """The visit and what is left to do for it."""
    return _visit_page(here, _participant(here, code), planned_visit(here, visit))


@router.post(VISIT + "/held", name="visits.hold")
def hold(here: ChangeInStudy, code: str, visit: str) -> Response:
    """Record the day on which the visit was held."""

    def act(participant: Participant) -> None:
        capture.record_visit(
            here.session,
            here.the_study,
            participant,
            visit,
            held_on=typed_day(here, "held_on"),
            version=here.number("version"),
            reason=here.value("reason"),
            by=here.actor,
            now=here.now,
        )

    return _change(here, code, visit, act, done="visit_held")


@router.post(VISIT + "/missed", name="visits.miss")
def miss(here: ChangeInStudy, code: str, visit: str) -> Response:
    """Record that the visit did not take place, and why."""

    def act(participant: Participant) -> None:
        capture.miss_visit(
            here.session,
            here.the_study,
            participant,
            visit,
            version=here.number("version"),
            why=here.value("why"),
            by=here.actor,
            now=here.now,
        )

    return _change(here, code, visit, act, done="visit_missed")


@router.post(VISIT + "/corrected", name="visits.correct")
def correct(here: ChangeInStudy, code: str, visit: str) -> Response:
    """Correct the day on which the visit was held."""

    def act(participant: Participant) -> None:
        capture.correct_visit(
            here.session,
            here.the_study,
            participant,
            visit,
            held_on=typed_day(here, "held_on"),
            version=here.number("version"),
            why=here.value("why"),
            reason=here.value("reason") or None,
            by=here.actor,
            now=here.now,
        )

    return _change(here, code, visit, act, done="visit_held")


@router.post(VISIT + "/reopened", name="visits.reopen")
def reopen(here: ChangeInStudy, code: str, visit: str) -> Response:
    """Make the visit planned again: it was recorded by mistake."""

    def act(participant: Participant) -> None:
        capture.reopen_visit(
            here.session,
            here.the_study,
            participant,
            visit,
            version=here.number("version"),
            why=here.value("why"),
            by=here.actor,
            now=here.now,
        )

    return _change(here, code, visit, act, done="visit_reopened")


@router.post(VISIT + "/in-error", name="visits.mark_in_error")
def mark_in_error(here: ChangeInStudy, code: str, visit: str) -> Response:
    """Say that a visit outside the plan was entered in error, or (`which` is `counts`) that it was not."""
    undo = here.value("which") == "counts"

    def act(participant: Participant) -> None:
        capture.mark_visit_in_error(
            here.session,
            here.the_study,
            participant,
            visit,
            version=here.number("version"),
            why=here.value("why"),
            by=here.actor,
            now=here.now,
            undo=undo,
        )

    return _change(here, code, visit, act, done="visit_restored" if undo else "visit_in_error")


@router.get(VISIT + "/held", name="visits.held_form")
@router.get(VISIT + "/missed", name="visits.missed_form")
@router.get(VISIT + "/corrected", name="visits.corrected_form")
@router.get(VISIT + "/reopened", name="visits.reopened_form")
@router.get(VISIT + "/in-error", name="visits.in_error_form")
def back_to_the_visit(here: PageInStudy, code: str, visit: str) -> Response:
    """Where somebody lands who goes on without sending a form again: its page."""
    return RedirectResponse(visit_url(here, code, visit), status_code=303)


@router.get("/{study}/participants/{code}/unscheduled-visit", name="visits.add_form")
def add_form(here: PageInStudy, code: str) -> Response:
    """A visit outside the plan: when, and why."""
    return _add_page(here, _participant(here, code))


@router.post("/{study}/participants/{code}/unscheduled-visit", name="visits.add")
def add(here: ChangeInStudy, code: str) -> Response:
    """Record a visit outside the plan, and go on with its forms."""
    participant = _participant(here, code)
    subject = f"{participant.code}/visit"
    require(here.actor, Permission.VISIT_RECORD, site_id=participant.site_id, action="visit.add", subject=subject)
    try:
        made = capture.add_visit(
            here.session,
            here.the_study,
            participant,
            held_on=typed_day(here, "held_on"),
            reason=here.value("reason"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _add_page(here, participant, problem)
    return here.redirect(visit_url(here, participant.code, made.code), done="visit_held")


def _add_page(here: Here, participant: Participant, problem: Invalid | Conflict | Refused | None = None) -> Response:
    unscheduled = here.the_study.definition.unscheduled
    if unscheduled is None:
        raise NotFound
    places = places_of(here)
    forms = filter(None, map(here.the_study.definition.instrument, unscheduled.instruments))
    reason = why_not(here.actor, Permission.VISIT_RECORD, site_id=participant.site_id) or rules.why_not_add(
        Status(participant.status),
        participant.consented_on,
        participant=participant.code,
        fatal_event=participant.fatal_event,
    )
    return show_at(
        here,
        places,
        "visits/add_form.html",
        status_code=status_of(problem),
        participant=participant,
        url=f"/{here.the_study.code}/participants/{participant.code}",
        label=here.tell(unscheduled.label),
        forms=[form.label for form in forms],
        today=places.today(here, participant.site_id),
        reason=reason,
        refusal=problem.reason if problem is not None and not isinstance(problem, Invalid) else None,
        errors=errors_of(problem),
        typed={name: here.value(name) for name in ("held_on", "reason")} if problem is not None else None,
    )


def _participant(here: Here, code: str) -> Participant:
    return participant_by_code(here.session, here.the_study, code, by=here.actor)


def _change(here: Here, code: str, visit: str, act: Callable[[Participant], None], *, done: str) -> Response:
    """Carry it out; what cannot be is shown on the same page, with everything that was typed."""
    planned = planned_visit(here, visit)
    participant = _participant(here, code)
    subject = f"{participant.code}/visit/{planned.code}"
    require(here.actor, Permission.VISIT_RECORD, site_id=participant.site_id, subject=subject)
    try:
        act(participant)
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _visit_page(here, participant, planned, problem)
    return here.redirect(visit_url(here, code, visit), done=done)


def _visit_page(
    here: Here, participant: Participant, planned: Visit, problem: Invalid | Conflict | Refused | None = None
) -> Response:
    assert participant.id is not None
    visit = visit_of(here.session, participant.id, planned.code)
    place = place_of(here.session, participant.id, planned.code, "", by=here.actor)
    today = clock.today(place.timezone, here.now)
    reads_entries = may(here.actor, Permission.ENTRY_READ, site_id=participant.site_id)
    asked = reads_entries and planned.instruments
    read = entries_and_drafts(here.session, participant.id, by=here.actor) if asked else None
    marks, drafts = read if read is not None else ({}, frozenset())
    pairs = states_of(here.session, here.the_study.definition, participant.id) if marks else {}
    problems = problem.problems if isinstance(problem, Invalid) else []
    url = visit_url(here, participant.code, planned.code)
    lock = None
    if place.lock is not None:
        lock = covering(here.session, here.the_study, participant.id, planned.code)
    closed, locked = why_closed(here.the_study.definition, lock), lock is not None and lock.kind is Kind.LOCKED
    labels = repeat_labels(here.session, here.the_study, participant.id) if marks else {}
    forms = []
    for code in planned.instruments:
        mark = marks.get((planned.code, code))
        form = here.the_study.definition.instrument(code)
        again = mark.repeats if mark is not None and form is not None and form.repeats else (mark,)
        pair = pairs.get((planned.code, code), (None, ""))
        for each in again:
            line = _form_line(here, form, code, each, pair, visit, today, url, participant.site_id, locked)
            name = form_name(code, each.repeat if each else 1)
            if form is not None and each is not None and (planned.code, name) in labels:
                line["about"] = _called(here, form, labels[planned.code, name])
            if (planned.code, name) in drafts:
                line["has_draft"] = True
                line["status"] = line["status"] if line["entry"] else "draft"
            forms.append(line)
        following = form_name(code, len(again) + 1)
        if form is not None and mark is not None and not closed and len(again) < form.most_repeats:
            line = _form_line(here, form, code, None, pair, visit, today, url, participant.site_id, locked)
            has_draft = (planned.code, following) in drafts
            line |= {"add": True, "url": f"{url}/entries/{following}", "has_draft": has_draft}
            if line["may_save"]:
                forms.append(line)
    if visit.status == VisitStatus.IN_ERROR:  # nothing is asked for at it
        forms = [line for line in forms if line["entry"] is not None]
    if here.request.query_params.get("done") == "saved":  # whoever works by keyboard goes on from there
        left = (line for line in forms if line["may_save"] and not line["add"])
        next_one = next((line for line in left if line["entry"] is None or line["status"] == EntryStatus.PARTIAL), {})
        next_one["is_next"] = True
    kind = VisitKind(visit.kind)
    appointments = [
        row for row in appointments_of(here.session, participant.id, by=here.actor) if row.visit_id == visit.id
    ]
    booked = any(row.status is AppointmentStatus.BOOKED for row in appointments)
    why_not_booked = (
        why_not(here.actor, Permission.APPOINTMENT_BOOK, site_id=participant.site_id)
        or why_not_with(visit.kind, here.actor, participant.site_id)
        or why_not_book(Status(participant.status), VisitStatus(visit.status))
        or why_not_after_death(participant.code, Status(participant.status), participant.fatal_event)
    )
    return show(
        here,
        "visits/show.html",
        status_code=200 if problem is None else 422 if isinstance(problem, Invalid) else 409,
        participant=participant,
        planned=planned,
        visit=visit,
        url=url,
        today=today,
        timezone=place.timezone,
        state=rules.visit_state(visit, today),
        mark=_mark(visit, today),
        # What was delivered, and why a session was not, is for those who treat (ICH E6(R3) 4.1.2).
        only_that_it_took_place=kind is VisitKind.TREATMENT and here.actor.blinded,
        is_outside=unscheduled_number(visit.code) is not None,
        is_treatment=kind is VisitKind.TREATMENT,
        why_not=why_not(here.actor, Permission.VISIT_RECORD, site_id=participant.site_id)
        or rules.why_not_with(kind, Permission.VISIT_RECORD)
        or closed,
        closed=closed,
        why_no_consent=why_no_consent(here.session, here.the_study, participant, before="entries", now=here.now)
        if planned.instruments
        else None,
        forms=forms if reads_entries else None,
        expected=len(planned.instruments),
        appointments=[{"row": row, "label": label_of(here, row)} for row in appointments],
        may_book=not booked and why_not_booked is None,
        participant_url=f"/{here.the_study.code}/participants/{participant.code}",
        done=sum(mark.status == EntryStatus.COMPLETE for (at, _), mark in marks.items() if at == planned.code),
        refusal=None if problem is None or problems else problem.reason,
        problems=[(_field(here, each.field), each.message) for each in problems],
        errors={each.field: each.message for each in problems},
        sent=here.request.url.path.rpartition("/")[2] if problem else "",
        typed={name: here.value(name) for name in ("held_on", "reason", "why")},
    )


def _called(here: Here, form: Instrument, value: object) -> str:
    """What one of the repeats is called in a list: the answer to the item the study names for it."""
    item, definition = form.item(form.repeat_label or ""), here.the_study.definition
    return said(item, value, definition.missing_codes, here.language) if item is not None else ""


def _form_line(
    here: Here,
    form: Instrument | None,
    code: str,
    entry: EntryMark | None,
    twice: tuple[State | None, str],
    visit: ParticipantVisit,
    today: date,
    url: str,
    site_id: int,
    is_locked: bool,
) -> dict[str, object]:
    """One form of the visit: how far it is, who saved it last, and what to do with it now."""
    name = form_name(code, entry.repeat if entry else 1)
    is_over = visit.status in (
        VisitStatus.MISSED,
        VisitStatus.STOPPED,
        VisitStatus.IN_ERROR,
    )  # saving would only be refused
    pair, first = twice
    withheld = why_withheld(pair, first, site_id, by=here.actor)
    if entry is None:
        is_late = today > visit.closes_on and unscheduled_number(visit.code) is None
        status = "missed" if visit.status == VisitStatus.MISSED else "late" if is_late else "empty"
    else:
        status = (
            "none"
            if entry.is_in_error
            else entry_mark(
                entry.status,
                has_query=entry.has_query,
                is_signed=entry.is_signed,
                is_verified=entry.is_verified,
                is_locked=is_locked,
                pair=pair,
            )
        )
    to_sign = (
        entry is not None
        and entry.status == EntryStatus.COMPLETE
        and not entry.is_signed
        and why_not_sign(here.the_study.definition, pair) is None
        and not entry.is_in_error
        and not is_locked
        and form is not None
        and form.signable
        and may(here.actor, Permission.ENTRY_SIGN, site_id=site_id)
    )
    return {
        "label": title_of(form, entry.repeat if entry else 1) if form else code,
        "about": "",
        "add": False,
        "status": status,
        "entry": entry,
        "has_draft": False,
        "is_next": False,
        "url": f"{url}/entries/{name}/second" if withheld else f"{url}/entries/{name}",
        "is_second": withheld is not None,
        "sign_url": f"{url}/entries/{name}/sign" if to_sign else None,
        "may_save": not is_over and may(here.actor, Permission.ENTRY_SAVE, site_id=site_id),
    }


def _mark(visit: ParticipantVisit, today: date) -> str:
    return {
        rules.VisitState.UPCOMING: "planned",
        rules.VisitState.DUE: "due",
        rules.VisitState.OVERDUE: "late",
        rules.VisitState.MISSED: "missed",
        rules.VisitState.STOPPED: "none",
        rules.VisitState.IN_ERROR: "none",
    }.get(rules.visit_state(visit, today), "done")


def _field(here: Here, field: str) -> str:
    """The id of a field: the forms of this page ask for the same things."""
    return f"{here.request.url.path.rpartition('/')[2]}-{field}"


def typed_day(here: Here, name: str) -> date:
    """The day that was typed into this field; Invalid when it is none."""
    text = here.value(name)
    try:
        if len(text) != 10:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        said = "Write the date as year-month-day, such as 2026-03-14." if text else "Say on which day it was held."
        raise Invalid([FieldProblem(name, "date", said)]) from None
