"""Door of the treating clinicians: their participants, the arm, what was delivered. Nobody else finds it.

Every page here shows an arm, so it opens envelopes, and each opening is in the log: all of them are writing pages.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from fastapi.responses import RedirectResponse, Response

from app.capture.typed import MISSING, parse_typed, typed_form
from app.dependencies import ChangeInStudy, Here, LoggedPageInStudy, PageInStudy
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.foundation.paging import LARGEST_PAGE, every_page
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.rules.status import why_not_resume_treatment, why_not_stop_treatment, withdrawal_level
from app.participants.status import Status
from app.people.access import may, require
from app.people.permissions import Permission
from app.schedule.models import ParticipantVisit
from app.schedule.reads import visits_of
from app.schedule.rules import VisitState, visit_state
from app.schedule.status import VisitStatus
from app.studies.definition import Item, ItemType, Study, TreatmentModule
from app.treatment import actions, reads
from app.treatment.reads import SessionRow, Treated, Treatment
from app.treatment.rules import as_instrument, modules_of, treatment_visits
from app.web.items import ItemView, item_views
from app.web.pages import pages
from app.web.places import narrowed, places_of, show_at, typed_day
from app.web.tables import address, csv_file
from app.wording import said

router = pages(hidden_without=Permission.ARM_READ)

SESSION = "/{study}/treatment/{code}/sessions/{visit}"
TO_COME = "to_come"  # the filter of the list: those with a session to come
Delivered = Mapping[str, Mapping[str, object] | bool]

MARKS = {
    VisitState.UPCOMING: "planned",
    VisitState.DUE: "due",
    VisitState.OVERDUE: "late",
    VisitState.HELD: "done",
    VisitState.HELD_EARLY: "done",
    VisitState.HELD_LATE: "done",
    VisitState.MISSED: "missed",
    VisitState.STOPPED: "none",
}


# My participants


@router.get("/{study}/treatment", name="treatment.treatment")
def treatment(here: LoggedPageInStudy) -> Response:
    """Whom I treat, with their arm, and how far their sessions are."""
    _require(here)
    study, asked, places = here.the_study, here.request.query_params, places_of(here)
    by, path = narrowed(here.actor, places.chosen), f"/{study.code}/treatment"
    to_come = asked.get("show") == TO_COME
    query = {"show": TO_COME if to_come else None}
    if asked.get("format") == "csv":
        heading = ("participant", "site", "status", "allocation", "arm", "held", "planned", "next_session", "next_on")
        return csv_file(f"{study.code}-treatment-{here.now:%Y-%m-%d}", heading, list(_file_rows(here, to_come=to_come)))
    cursor = asked.get("after") or None
    found = reads.my_participants(
        here.session, study, by=by, now=here.now, next_first=True, to_come=to_come, cursor=cursor
    )
    return show_at(
        here,
        places,
        "treatment/treatment.html",
        path=path,
        to_come=to_come,
        to_come_url=address(path, {}, show=TO_COME),
        rows=[_row(study.at(row.site_id).definition, row, places.today(here)) for row in found.rows],
        newer=address(path, query, after=found.previous) if found.previous else None,
        older=address(path, query, after=found.next) if found.next else None,
        csv_url=address(path, query, format="csv") if found.rows else None,
    )


def _require(here: Here) -> None:
    if not may(here.actor, Permission.ARM_READ):
        raise NotFound


def _row(definition: Study, row: Treated, today: date) -> dict[str, Any]:
    late = row.next_on is not None and row.next_on < today
    planned = definition.visit(row.next_visit or "")
    return {"row": row, "next": planned.label if planned else row.next_visit, "late": late}


def _file_rows(here: Here, *, to_come: bool) -> Iterator[Sequence[object]]:
    by = narrowed(here.actor, places_of(here).chosen)
    asked: dict[str, Any] = {"by": by, "now": here.now, "next_first": True, "to_come": to_come}
    for found in every_page(
        lambda cursor: reads.my_participants(here.session, here.the_study, **asked, cursor=cursor, limit=LARGEST_PAGE)
    ):
        for row in found.rows:
            held = (row.adherence.held, row.adherence.planned)
            yield (row.code, row.site, row.status, row.number, row.arm, *held, row.next_visit, row.next_on)


# One participant


@router.get("/{study}/treatment/{code}", name="treatment.participant")
def participant(here: LoggedPageInStudy, code: str) -> Response:
    """The sessions of one participant, and what a session of their arm consists of."""
    found = _participant(here, code)
    assert found.id is not None
    treated = reads.sessions_of(here.session, here.the_study, found, by=here.actor, now=here.now)
    places = places_of(here)
    today = places.today(here, found.site_id)
    visits = {visit.code: visit for visit in visits_of(here.session, found.id)}
    return show_at(
        here,
        places,
        "treatment/participant.html",
        participant=found,
        url=_url(here, found),
        list_url=f"/{here.the_study.code}/treatment",
        record_url=f"/{here.the_study.code}/participants/{found.code}",
        treated=treated,
        rows=[_session_row(here, treated, row, visits.get(row.visit), today) for row in treated.sessions],
        next_session=_next(treated),
        may_book=may(here.actor, Permission.APPOINTMENT_BOOK, site_id=found.site_id),
        may_stop=may(here.actor, Permission.TREATMENT_RECORD, site_id=found.site_id)
        and (
            found.treatment_stopped_on is not None
            or why_not_stop_treatment(Status(found.status), found.treatment_stopped_on) is None
        ),
        today=today,
        timezone=places.timezone(found.site_id),
    )


def _participant(here: Here, code: str) -> Participant:
    """A participant whom this person treats; for all others there is no such page."""
    _require(here)
    return participant_by_code(here.session, here.the_study, code, by=here.actor, permission=Permission.ARM_READ)


def _url(here: Here, participant: Participant) -> str:
    return f"/{here.the_study.code}/treatment/{participant.code}"


def _next(treated: Treatment) -> SessionRow | None:
    return next((row for row in treated.sessions if row.status == VisitStatus.PLANNED and row.target_on), None)


def _session_row(
    here: Here, treated: Treatment, row: SessionRow, visit: ParticipantVisit | None, today: date
) -> dict[str, Any]:
    planned = here.the_study.definition.visit(row.visit)
    return {
        "row": row,
        "short": (planned.short if planned else None) or row.label,
        "mark": MARKS[visit_state(visit, today)] if visit else "planned",
        "outside": visit is not None and visit_state(visit, today) in (VisitState.HELD_EARLY, VisitState.HELD_LATE),
        "reason": visit.reason if visit else None,
        "cells": [_cell(here, module, row.delivered) for module in treated.modules],
    }


def _cell(here: Here, module: TreatmentModule, delivered: Delivered | None) -> str:
    """What the table of sessions says of one module: its answers without notes, which stand in the session itself."""
    if delivered is None:
        return ""
    value = delivered.get(module.code, False)
    if value is False:
        return "Not delivered"
    short = module.model_copy(update={"items": tuple(item for item in module.items if not item.multiline)})
    return ", ".join(_answers(here, short, value)) or "Delivered"


def _in_words(
    here: Here, modules: Iterable[TreatmentModule], delivered: Delivered | None
) -> list[tuple[str, str]] | None:
    """What was delivered: (module, its answers in one line); None when nothing is recorded."""
    if delivered is None:
        return None
    return [
        (module.label, ", ".join(_answers(here, module, value)))
        for module in modules
        if (value := delivered.get(module.code, False)) is not False
    ]


def _answers(here: Here, module: TreatmentModule, value: Mapping[str, object] | bool) -> Iterator[str]:
    for item in module.items:
        stored = value.get(item.code) if isinstance(value, Mapping) else None
        if words := _said(here, item, stored):
            yield f"{words} {item.unit}" if item.unit and not isinstance(stored, Mapping) else words


def _said(here: Here, item: Item, stored: object) -> str:
    definition = here.the_study.definition
    return said(item, stored, definition.missing_codes, here.language)


# Treatment stopped, and going on


@router.get("/{study}/treatment/{code}/stopped", name="treatment.stop_form")
def stop_form(here: LoggedPageInStudy, code: str) -> Response:
    """What it means that treatment is stopped, or goes on after all, before it is recorded."""
    found = _participant(here, code)
    _require_recording(here, found)
    return _stop_page(here, found)


@router.post("/{study}/treatment/{code}/stopped", name="treatment.stop")
def stop(here: ChangeInStudy, code: str) -> Response:
    """Record that a participant gets no more sessions and stays in follow-up."""
    found = _participant(here, code)
    try:
        reason = here.value("why")
        on = typed_day(here.value("on"), "on", "Say on which day treatment was stopped.")
        by, now = here.actor, here.now
        actions.stop_treatment(here.session, here.the_study, found, on=on, reason=reason, by=by, now=now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _stop_page(here, _participant(here, code), problem=problem)
    return here.redirect(_url(here, found), done="treatment_stopped")


@router.post("/{study}/treatment/{code}/resumed", name="treatment.resume")
def resume(here: ChangeInStudy, code: str) -> Response:
    """Record that treatment goes on, because it was recorded as stopped by mistake."""
    found = _participant(here, code)
    try:
        why = here.value("why")
        actions.resume_treatment(here.session, here.the_study, found, why=why, by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _stop_page(here, _participant(here, code), problem=problem)
    return here.redirect(_url(here, found), done="treatment_resumed")


@router.get("/{study}/treatment/{code}/resumed", name="treatment.resume_form")
def back_to_the_stop(here: PageInStudy, code: str) -> Response:
    """Where somebody lands who goes on without sending a form again: the page on which both are recorded."""
    return RedirectResponse(f"{_url(here, _participant(here, code))}/stopped", status_code=303)


def _stop_page(here: Here, participant: Participant, *, problem: Invalid | Refused | None = None) -> Response:
    places = places_of(here)
    today = places.today(here, participant.site_id)
    status, stopped_on = Status(participant.status), participant.treatment_stopped_on
    level = withdrawal_level(here.the_study.definition, participant.withdrawal_level or "")
    if stopped_on is None:
        refused = why_not_stop_treatment(status, None)
    else:
        refused = why_not_resume_treatment(status, stopped_on, level)
    problems = problem.problems if isinstance(problem, Invalid) else []
    return show_at(
        here,
        places,
        "treatment/stop.html",
        status_code=422 if problems else 409 if problem else 200,
        participant=participant,
        url=_url(here, participant),
        list_url=f"/{here.the_study.code}/treatment",
        today=today,
        refused=problem.reason if isinstance(problem, Refused) else refused,
        may_act=refused is None,
        errors={"why" if each.field == "reason" else each.field: each.message for each in problems},
        values={"on": here.value("on") if here.form else today.isoformat(), "why": here.value("why")},
    )


# One session


@dataclass(frozen=True)
class Typed:
    """What a session form said: the day, what was delivered, and what of it cannot be read."""

    held_on: str
    why: str
    reason: str
    version: int
    delivered: dict[str, dict[str, object] | bool]
    problems: tuple[FieldProblem, ...]


@router.get(SESSION, name="treatment.session_form")
def session_form(here: LoggedPageInStudy, code: str, visit: str) -> Response:
    """The form of one session: as it stands, or empty."""
    return _session_page(here, _participant(here, code), visit)


@router.post(SESSION, name="treatment.session")
def session(here: ChangeInStudy, code: str, visit: str) -> Response:
    """Record what was delivered in a session, or correct it."""
    found = _participant(here, code)
    _require_recording(here, found)
    # The form says which arm it was made for, so that no envelope is opened, and the log not held, before the rows are.
    typed = _typed(here, modules_of(here.the_study.definition, here.value("arm")))
    try:
        held_on = _held_on(typed)
        actions.record_session(
            here.session,
            here.the_study,
            found,
            visit=visit,
            held_on=held_on,
            delivered=typed.delivered,
            base_version=typed.version,
            why=typed.why,
            reason=typed.reason,
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _session_page(here, found, visit, typed=typed, problem=problem)
    return here.redirect(_url(here, found), done="session_recorded")


@router.get(SESSION + "/history", name="treatment.history")
def history(here: LoggedPageInStudy, code: str, visit: str) -> Response:
    """Every version of a session's record, with the reason of each correction."""
    found = _participant(here, code)
    treated, row = reads.session_of(here.session, here.the_study, found, visit, by=here.actor, now=here.now)
    versions = reads.history_of(here.session, here.the_study, found, visit, by=here.actor, now=here.now)
    places = places_of(here)
    return show_at(
        here,
        places,
        "treatment/history.html",
        participant=found,
        url=_url(here, found),
        list_url=f"/{here.the_study.code}/treatment",
        row=row,
        versions=[
            {"version": each, "delivered": _in_words(here, treated.modules, each.delivered)}
            for each in reversed(versions)
        ],
        timezone=places.timezone(found.site_id),
    )


@router.post(SESSION + "/missed", name="treatment.missed")
def missed(here: ChangeInStudy, code: str, visit: str) -> Response:
    """Record that a session did not take place, and why; the blinded read this reason."""
    found = _participant(here, code)
    row = _visit(here, found, visit)
    why = here.value("why")
    try:
        change = actions.reopen_session if row.status == VisitStatus.MISSED else actions.miss_session
        change(
            here.session,
            here.the_study,
            found,
            visit,
            version=_version(here),
            why=why,
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _session_page(here, found, visit, missing=problem)
    return here.redirect(
        _url(here, found), done="visit_reopened" if row.status == VisitStatus.MISSED else "visit_missed"
    )


@router.get(SESSION + "/missed", name="treatment.missed_form")
def back_to_the_session(here: PageInStudy, code: str, visit: str) -> Response:
    """Where somebody lands who goes on without sending a form again: the page of the session."""
    found = _participant(here, code)
    return RedirectResponse(f"{_url(here, found)}/sessions/{_visit(here, found, visit).code}", status_code=303)


def _held_on(typed: Typed) -> date:
    """The day of the session; Invalid with everything on the form that cannot be read, not with the day alone."""
    try:
        on = typed_day(typed.held_on, "held_on", "Say on which day the session was held.")
    except Invalid as wrong:
        raise Invalid([*wrong.problems, *typed.problems]) from None
    if typed.problems:
        raise Invalid(list(typed.problems))
    return on


def _require_recording(here: Here, participant: Participant) -> None:
    subject = f"{participant.code}/treatment"
    require(here.actor, Permission.TREATMENT_RECORD, site_id=participant.site_id, subject=subject)


def _visit(here: Here, participant: Participant, code: str) -> ParticipantVisit:
    """The planned session with its dates; NotFound for any other visit."""
    assert participant.id is not None
    planned = {visit.code for visit in treatment_visits(here.the_study.definition)}
    rows = visits_of(here.session, participant.id)
    found = next((row for row in rows if row.code == code and code in planned), None)
    if found is None:
        raise NotFound
    return found


def _version(here: Here) -> int:
    text = here.value("version")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0


def _typed(here: Here, modules: Sequence[TreatmentModule]) -> Typed:
    """Fields are MODULE (was it delivered: yes or no) and MODULE.ITEM, because modules may ask for the same things."""
    delivered: dict[str, dict[str, object] | bool] = {}
    problems: list[FieldProblem] = []
    for module in modules:
        answer, prefix = here.value(module.code), f"{module.code}."
        filled = {
            name.removeprefix(prefix): list(texts)
            for name, texts in here.form.items()
            if name.startswith(prefix) and any(text.strip() for text in texts)
        }
        if answer not in ("yes", "no"):
            words = f"Say whether “{module.label}” was delivered."
            problems.append(FieldProblem(module.code, "required", words))
        elif answer == "no" and filled:
            words = f"“{module.label}” was not delivered, but something is filled in. Empty it, or choose yes."
            problems.append(FieldProblem(module.code, "both", words))
        if answer != "yes":
            delivered[module.code] = False
            continue
        form = as_instrument(module)
        read = parse_typed(form, filled, language=here.language) if form else None
        delivered[module.code] = read.values if read else True
        for problem in read.problems if read else ():
            problems.append(replace(problem, field=prefix + problem.field))
    return Typed(
        here.value("held_on"),
        here.value("why"),
        here.value("reason"),
        _version(here),
        delivered,
        tuple(problems),
    )


def _session_page(
    here: Here,
    participant: Participant,
    visit: str,
    *,
    typed: Typed | None = None,
    problem: Invalid | Conflict | Refused | None = None,
    missing: Invalid | Conflict | Refused | None = None,
) -> Response:
    treated, row = reads.session_of(here.session, here.the_study, participant, visit, by=here.actor, now=here.now)
    planned = _visit(here, participant, visit)
    # What was delivered before treatment was stopped, or they left, can still be recorded.
    until = participant.treatment_stopped_on or participant.left_on
    places = places_of(here)
    today = places.today(here, participant.site_id)
    conflict = problem if isinstance(problem, Conflict) else None
    problems = problem.problems if isinstance(problem, Invalid) else []
    failed = problem or missing
    held_on = typed.held_on if typed else (row.held_on or (today if row.version == 0 else None))
    return show_at(
        here,
        places,
        "treatment/session.html",
        status_code=422 if isinstance(failed, Invalid) else 409 if failed else 200,
        participant=participant,
        url=_url(here, participant),
        list_url=f"/{here.the_study.code}/treatment",
        row=row,
        visit=planned,
        until=until if until is not None and planned.opens_on <= until else None,
        treated=treated,
        modules=[
            _module(here, module, row, typed, problems, beside=conflict is not None) for module in treated.modules
        ],
        held_on=str(held_on or ""),
        why=typed.why if typed else "",
        reason=typed.reason if typed else "",
        version=row.version,
        is_typed=typed is not None,
        problems=_summary(problems, treated.modules),
        errors={each.field: each.message for each in problems},
        conflict=conflict,
        refused=failed.reason if failed and not isinstance(failed, Invalid) and not conflict else None,
        missing_why=here.value("why") if missing else "",
        missing_errors={each.field: each.message for each in missing.problems} if isinstance(missing, Invalid) else {},
        today=today,
        timezone=places.timezone(participant.site_id),
    )


def _summary(problems: Sequence[FieldProblem], modules: Sequence[TreatmentModule]) -> list[tuple[str, str]]:
    """Problems in the order of the page; those of an item say of which module, because modules ask for the same."""
    labels = {f"{module.code}.{item.code}": module.label for module in modules for item in module.items}
    order = ["held_on", "reason"]
    for module in modules:
        order += [module.code, *(f"{module.code}.{item.code}" for item in module.items)]
    found = sorted(problems, key=lambda each: order.index(each.field) if each.field in order else len(order))
    return [
        (
            _anchor(each.field, modules),
            f"{labels[each.field]}, {each.message}" if each.field in labels else each.message,
        )
        for each in found
    ]


def _anchor(field: str, modules: Iterable[TreatmentModule]) -> str:
    """The id of the control a problem is about: modules and their items are drawn as questions of an instrument."""
    return f"item-{field}" if "." in field or any(field == module.code for module in modules) else field


def _module(
    here: Here,
    module: TreatmentModule,
    row: SessionRow,
    typed: Typed | None,
    problems: Sequence[FieldProblem],
    *,
    beside: bool,
) -> dict[str, Any]:
    """One module as the form shows it; `beside` puts what a colleague saved next to what was typed."""
    prefix = f"{module.code}."
    saved = row.delivered.get(module.code, False) if row.delivered is not None else None
    values = saved if isinstance(saved, Mapping) else {}
    form = as_instrument(module)
    shown = (
        {name: list(texts) for name, texts in here.form.items()}
        if typed
        else {prefix + name: texts for name, texts in typed_form(form, values, language=here.language).items()}
        if form
        else {}
    )
    mine = [replace(each, field=each.field.removeprefix(prefix)) for each in problems if each.field.startswith(prefix)]
    definition = here.the_study.definition
    views: dict[str, ItemView] = item_views(
        module.items,
        shown,
        problems=mine,
        missing_codes=definition.missing_codes,
        prefix=prefix,
        language=here.language,
        saved=_saved_otherwise(here, module, values, shown, prefix) if beside else None,
    )
    answer = here.value(module.code) if typed else "" if saved is None else "no" if saved is False else "yes"
    asked = Item(code=module.code, label="Delivered", type=ItemType.YES_NO)
    differs = beside and saved is not None and answer != ("no" if saved is False else "yes")
    said_now = _said(here, asked, saved is not False) if differs else None
    about = item_views(
        [asked],
        {module.code: [answer]},
        problems=problems,
        language=here.language,
        saved={module.code: said_now} if said_now else None,
    )
    return {
        "label": module.label,
        "items": [
            (asked, about[module.code]),
            *((_with_condition(item, views[item.code]), views[item.code]) for item in module.items),
        ],
    }


def _saved_otherwise(
    here: Here, module: TreatmentModule, values: Mapping[str, object], shown: Mapping[str, list[str]], prefix: str
) -> dict[str, str]:
    """What stands saved, in words, of the items of which something else was typed."""
    form = as_instrument(module)
    stands = typed_form(form, values, language=here.language) if form else {}

    def texts(of: Mapping[str, list[str]], name: str) -> list[str]:
        return [text.strip() for text in of.get(name, ()) if text.strip()]

    return {
        item.code: _said(here, item, values.get(item.code))
        for item in module.items
        if any(texts(shown, prefix + item.code + part) != texts(stands, item.code + part) for part in ("", MISSING))
    }


def _with_condition(item: Item, view: ItemView) -> Item:
    """The item with the condition under which it is asked in its hint: every item of a session stands on the page."""
    if not view.asked_if:
        return item
    words = f"Only if {view.asked_if}"
    return item.model_copy(update={"hint": f"{item.hint} {words}" if item.hint else words})
