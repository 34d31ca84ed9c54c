"""Conduct: deviations, contacts, care beside the trial, who was lost, died or is through, and who was screened."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from fastapi.responses import RedirectResponse, Response

from app.dependencies import ChangeInStudy, Here, PageInStudy, database_of
from app.foundation.errors import Conflict, FieldProblem, Invalid, Problem, Refused
from app.foundation.paging import LARGEST_PAGE, Page, every_page
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.rules.status import why_not_contact as why_nobody_contacts
from app.participants.rules.status import withdrawal_level
from app.participants.status import Status
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.safety.deviations import actions as deviation_actions
from app.safety.deviations import reads as deviation_reads
from app.safety.deviations.actions import Chosen
from app.safety.deviations.reads import DeviationRow
from app.safety.deviations.rules import GRADES, Act, State, why_not_take_back, why_not_with_others
from app.safety.deviations.rules import why_not as why_not_act
from app.safety.logs import actions, reads
from app.safety.logs.reads import ScreenedRow, ScreenedWanted, month_of
from app.safety.logs.rules import (
    LONGEST_BEFORE_CONSENT,
    End,
    How,
    Result,
    attempts_since,
    why_not_contact,
    why_not_end,
)
from app.safety.words import to_confirm
from app.schedule.models import ParticipantVisit
from app.schedule.reads import planned_visits
from app.studies.definition import Study, VisitKind
from app.web.appointments import booked_ahead
from app.web.pages import pages
from app.web.places import Places, date_said, places_of, show_at, typed_day
from app.web.safety import prove, tabs_of, typed_moment
from app.web.shell import errors_of, status_of
from app.web.tables import address, csv_file, typed_text
from app.wording import why_not_taking_part

router = pages()

DEVIATION_FILE = (
    "number",
    "participant",
    "site",
    "category",
    "grade",
    "occurred_on",
    "what",
    "action",
    "state",
    "rule",
    "reported_at",
    "reported_by",
    "signed_at",
    "signed_by",
)
SCREENED_FILE = (
    "participant",
    "site",
    "screened_on",
    "eligible",
    "failure_reason",
    "status",
    "consented_on",
    "randomised_on",
)
DEVIATION_FILTERS = ("site", "participant", "category", "visit", "grade", "open")
SCREENED_FILTERS = ("site", "month", "reason", "outcome")
ALL = "all"
AS_GRADED = "as_graded"  # each deviation keeps the grade that it has
NONE_DONE = "Nothing was changed, because of the deviations that are marked below. Without them, send the rest again."
BY_MONTH = "month"  # the log adds up, on a page of its own: that takes longer the more there are


def _participant(here: Here, code: str, permission: Permission, action: str) -> Participant:
    """The participant of the address, for those who may do this at their site."""
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    where = {"subject": f"{participant.code}/{action.partition('.')[0]}", "action": action}
    require(here.actor, permission, site_id=participant.site_id, **where)
    return participant


def _url(here: Here, code: str) -> str:
    return f"/{here.the_study.code}/participants/{code}"


def _cell(value: Any) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.isoformat() if hasattr(value, "isoformat") else value


def _telling(here: Here, problem: Problem | None, *names: str) -> list[str]:
    """The words somebody has to confirm, when it is they that keep a form from being kept."""
    problems = problem.problems if isinstance(problem, Invalid) else []
    if not any(each.rule == "arm" for each in problems):
        return []
    return to_confirm(here.the_study.definition, here.actor, {name: here.value(name) for name in names})


FIELDS_OF = {"at": "contact_at", "confirmed": ""}
"""Where on the page a field of an act is typed, when it is called otherwise there."""


def _common(here: Here, places: Places, participant: Participant, problem: Problem | None) -> dict[str, Any]:
    """What every form about one participant shows."""
    return {
        "participant": participant,
        "url": _url(here, participant.code),
        "errors": errors_of(problem),
        "problems": [(FIELDS_OF.get(each, each), said) for each, said in errors_of(problem).items()],
        "refused": problem.reason if isinstance(problem, Refused | Conflict) else None,
        "overtaken": isinstance(problem, Conflict),
        "today": places.today(here, participant.site_id),
        "timezone": places.timezone(participant.site_id),
    }


# Deviations


@router.get("/{study}/safety/deviations", name="conduct.deviations")
def deviations(here: PageInStudy) -> Response:
    """What went otherwise than the protocol says, at my sites."""
    require(here.actor, Permission.SAFETY_READ)
    study, asked = here.the_study, here.request.query_params
    places, path = places_of(here), f"/{study.code}/safety/deviations"
    query: dict[str, str | None] = {each: typed_text(asked.get(each), 80) or None for each in DEVIATION_FILTERS}
    if "site" not in asked and places.chosen is not None:
        query["site"] = places.chosen.code
    wanted = deviation_reads.Wanted(
        site=None if query["site"] == "all" else query["site"],
        participant=(query["participant"] or "").upper() or None,
        category=query["category"],
        visit=query["visit"],
        grade=query["grade"] if query["grade"] in GRADES else None,
        open=query["open"] == "yes",
        to_sign=query["open"] == "sign",
    )
    if asked.get("format") == "csv":
        rows = _deviation_lines(here, wanted)
        return csv_file(f"{study.code}-deviations-{here.now:%Y-%m-%d}", DEVIATION_FILE, rows)
    may_act, may_sign = may(here.actor, Permission.DEVIATION_REPORT), may(here.actor, Permission.DEVIATION_SIGN)
    ticked = asked.get("chosen") == ALL and (may_act or may_sign)
    found = deviation_reads.deviations_page(
        here.session,
        study,
        by=here.actor,
        wanted=wanted,
        cursor=asked.get("after") or None,
        limit=deviation_actions.MOST if ticked else None,
    )
    waits = {row.number for row in found.rows if row.state in (State.OPEN, State.ACTED)}
    after = asked.get("after")
    return show_at(
        here,
        places,
        "conduct/deviations.html",
        path=path,
        query=query,
        rows=found.rows,
        categories=_categories(here),
        several=len(places.sites) > 1 and not query["site"],
        visits=[(each.code, each.label) for each in study.definition.visits],
        waits=waits if may_act or may_sign else (),
        ticked=ticked,
        may_act=may_act,
        may_sign=may_sign,
        all_url=address(path, query, after=after, chosen=ALL),
        none_url=address(path, query, after=after),
        more=found.next is not None or found.previous is not None,
        most=deviation_actions.MOST,
        active=sum(1 for each in DEVIATION_FILTERS if query[each] and query[each] != "all"),
        newer=address(path, query, after=found.previous) if found.previous else None,
        older=address(path, query, after=found.next) if found.next else None,
        csv_url=address(path, query, format="csv") if found.rows else None,
        tabs=tabs_of(here),
        here_tab="deviations",
        timezone=places.timezone(),
    )


def _categories(here: Here) -> dict[str, str]:
    """The study's own words, or ours in the reader's language where it names none."""
    return {each.code: here.tell(each.label) for each in here.the_study.definition.safety.deviations}


def _deviation_lines(here: Here, wanted: deviation_reads.Wanted) -> Iterator[Sequence[object]]:
    with database_of(here.request).reading() as session:
        for found in every_page(
            lambda cursor: deviation_reads.deviations_page(
                session, here.the_study, by=here.actor, wanted=wanted, cursor=cursor, limit=LARGEST_PAGE
            )
        ):
            for row in found.rows:
                yield [_cell(getattr(row, name)) for name in DEVIATION_FILE]


@router.post("/{study}/safety/deviations/look", name="conduct.look")
def look(here: ChangeInStudy) -> Response:
    """Have the system look for deviations now, instead of at its next turn."""
    require(here.actor, Permission.SAFETY_READ, action="deviation.look")
    deviation_actions.look(here.session, here.the_study, by=here.actor, now=here.now)
    return here.redirect(f"/{here.the_study.code}/safety/deviations", done="deviations_looked")


@router.get("/{study}/safety/deviations/look", name="conduct.look_form")
def back_to_the_deviations(here: PageInStudy) -> Response:
    """Where somebody lands who goes on without sending the form again: the list."""
    return RedirectResponse(f"/{here.the_study.code}/safety/deviations", status_code=303)


@router.get("/{study}/safety/deviations/chosen/action", name="conduct.act_on_chosen_form")
def act_on_chosen_form(here: PageInStudy) -> Response:
    """The deviations that were chosen in the list, and what was done about all of them."""
    require(here.actor, Permission.DEVIATION_REPORT)
    return _chosen_page(here, Act.ACT)


@router.post("/{study}/safety/deviations/chosen/action", name="conduct.act_on_chosen")
def act_on_chosen(here: ChangeInStudy) -> Response:
    """Write down what was done about them, in the same words."""
    require(here.actor, Permission.DEVIATION_REPORT, action="deviation.act")
    try:
        deviation_actions.act_on_several(
            here.session,
            here.the_study,
            _chosen(here),
            grade=here.value("grade") if here.value("grade") != AS_GRADED else None,
            action=here.value("action"),
            why=here.value("why"),
            by=here.actor,
            now=here.now,
        )
    except Invalid as problem:
        here.refuse(problem)
        return _chosen_page(here, Act.ACT, problem)
    return here.redirect(f"/{here.the_study.code}/safety/deviations", open="sign", done="deviations_acted")


@router.get("/{study}/safety/deviations/chosen/sign", name="conduct.sign_chosen_form")
def sign_chosen_form(here: PageInStudy) -> Response:
    """The deviations that were chosen in the list, as they would be signed off."""
    require(here.actor, Permission.DEVIATION_SIGN)
    return _chosen_page(here, Act.SIGN)


@router.post("/{study}/safety/deviations/chosen/sign", name="conduct.sign_chosen")
def sign_chosen(here: ChangeInStudy) -> Response:
    """Sign each of them off, with one password (21 CFR 11.200)."""
    require(here.actor, Permission.DEVIATION_SIGN, action="deviation.sign")
    try:
        deviation_actions.sign_several(
            here.session,
            here.the_study,
            _chosen(here),
            prove=lambda: prove(here),
            by=here.actor,
            now=here.now,
        )
    except Invalid as problem:
        here.refuse(problem)
        return _chosen_page(here, Act.SIGN, problem)
    return here.redirect(f"/{here.the_study.code}/safety/deviations", open="sign", done="deviations_signed")


def _chosen(here: Here) -> list[Chosen]:
    """What is ticked on the page, each as it was shown there: `number:version`; what is no such line is left out."""
    lines = (text.partition(":") for text in here.form.get("chosen", ()))
    return [
        Chosen(int(number), int(version))
        for number, _, version in lines
        if number.isdecimal() and version.isdecimal() and len(number) < 11 and len(version) < 10
    ]


def _chosen_page(here: Here, act: Act, problem: Invalid | None = None) -> Response:
    """What was chosen as it stands now, what cannot be dealt with and why, and the form for the rest."""
    listed = here.form.get("number", ()) if here.form else here.request.query_params.getlist("number")
    numbers = [int(each) for each in listed if each.isdecimal() and len(each) < 11][: deviation_actions.MOST]
    rows = deviation_reads.deviations_of(here.session, here.the_study, numbers, by=here.actor)
    errors = errors_of(problem)
    permission = Permission.DEVIATION_REPORT if act is Act.ACT else Permission.DEVIATION_SIGN
    kept = {
        row.number: why_not(here.actor, permission, site_id=row.site_id) or why_not_with_others(row.state, act)
        for row in rows
    }
    sent = {each.number for each in _chosen(here)} if here.form else set(numbers)
    told = {row.number: errors.pop(f"deviations.{row.number}", None) for row in rows}
    stopped = NONE_DONE if any(told.values()) else errors.pop("deviations", None)
    places = places_of(here)
    return show_at(
        here,
        places,
        "conduct/chosen.html",
        status_code=status_of(problem),
        act=act.value,
        rows=[
            {
                "row": row,
                "reason": kept[row.number],
                "told": None if kept[row.number] else told[row.number],
                "ticked": row.number in sent and not told[row.number],
            }
            for row in rows
        ],
        problem=stopped,
        fit=sum(reason is None for reason in kept.values()),
        categories=_categories(here),
        list_url=f"/{here.the_study.code}/safety/deviations",
        values={name: here.value(name) for name in ("action", "why")} | {"grade": here.value("grade") or AS_GRADED},
        errors=errors,
        ask_code=here.signed_in.second_factors if here.signed_in is not None else (),
    )


@router.get("/{study}/participants/{code}/deviations/new", name="conduct.report_deviation_form")
def report_deviation_form(here: PageInStudy, code: str) -> Response:
    """Report that something went otherwise than the protocol says."""
    return _report_page(here, _participant(here, code, Permission.DEVIATION_REPORT, deviation_actions.REPORTING))


@router.post("/{study}/participants/{code}/deviations/new", name="conduct.report_deviation")
def report_deviation(here: ChangeInStudy, code: str) -> Response:
    """Keep it."""
    participant = _participant(here, code, Permission.DEVIATION_REPORT, deviation_actions.REPORTING)
    try:
        number = deviation_actions.report(
            here.session,
            here.the_study,
            participant,
            category=here.value("category"),
            grade=here.value("grade") or _grade_of(here.the_study.definition, here.value("category")),
            occurred_on=typed_day(here.value("occurred_on"), "occurred_on"),
            what=here.value("what"),
            confirmed=here.form.get("confirmed", ()),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _report_page(here, participant, problem=problem)
    if may(here.actor, Permission.SAFETY_READ, site_id=participant.site_id):
        return here.redirect(f"/{here.the_study.code}/safety/deviations/{number}", done="deviation_reported")
    return here.redirect(_url(here, participant.code), done="deviation_reported")


def _grade_of(definition: Study, category: str) -> str:
    """How grave a category is when nobody says otherwise."""
    return next((each.grade for each in definition.safety.deviations if each.code == category), "")


def _report_page(here: Here, participant: Participant, *, problem: Problem | None = None) -> Response:
    places = places_of(here)
    return show_at(
        here,
        places,
        "conduct/report_deviation.html",
        status_code=status_of(problem),
        **_common(here, places, participant, problem),
        values={name: here.value(name) for name in ("category", "grade", "occurred_on", "what")},
        categories=[
            (each.code, here.tell(each.label), each.grade) for each in here.the_study.definition.safety.deviations
        ],
        telling=_telling(here, problem, "what"),
    )


@router.get("/{study}/safety/deviations/{number}", name="conduct.deviation")
def deviation(here: PageInStudy, number: int) -> Response:
    """One deviation: what happened, what was done about it, and who signed it."""
    require(here.actor, Permission.SAFETY_READ)
    return _deviation_page(here, number)


@router.post("/{study}/safety/deviations/{number}/action", name="conduct.act")
def act(here: ChangeInStudy, number: int) -> Response:
    """Write down what was done about it, and grade it."""
    return _about_deviation(
        here,
        number,
        Permission.DEVIATION_REPORT,
        "deviation_acted",
        lambda: deviation_actions.act(
            here.session,
            here.the_study,
            number,
            grade=here.value("grade"),
            action=here.value("action"),
            why=here.value("why"),
            base_version=here.number("version"),
            by=here.actor,
            now=here.now,
        ),
    )


@router.post("/{study}/safety/deviations/{number}/sign", name="conduct.sign")
def sign(here: ChangeInStudy, number: int) -> Response:
    """Sign it off, with the password."""
    return _about_deviation(
        here,
        number,
        Permission.DEVIATION_SIGN,
        "signed",
        lambda: deviation_actions.sign(
            here.session,
            here.the_study,
            number,
            base_version=here.number("version"),
            prove=lambda: prove(here),
            by=here.actor,
            now=here.now,
        ),
    )


@router.post("/{study}/safety/deviations/{number}/mistake", name="conduct.take_back")
def take_back(here: ChangeInStudy, number: int) -> Response:
    """Say that it was reported by mistake."""
    return _about_deviation(
        here,
        number,
        Permission.DEVIATION_REPORT,
        "deviation_taken_back",
        lambda: deviation_actions.take_back(
            here.session,
            here.the_study,
            number,
            why=here.value("why"),
            base_version=here.number("version"),
            by=here.actor,
            now=here.now,
        ),
    )


@router.get("/{study}/safety/deviations/{number}/action", name="conduct.act_form")
@router.get("/{study}/safety/deviations/{number}/sign", name="conduct.sign_form")
@router.get("/{study}/safety/deviations/{number}/mistake", name="conduct.take_back_form")
def back_to_the_deviation(here: PageInStudy, number: int) -> Response:
    """Where somebody lands who goes on without sending a form again: the deviation's page."""
    return RedirectResponse(f"/{here.the_study.code}/safety/deviations/{number}", status_code=303)


def _about_deviation(
    here: Here, number: int, permission: Permission, done: str, change: Callable[[], object]
) -> Response:
    require(here.actor, permission, action="deviation.change", subject=f"/deviation/{number}")
    try:
        change()
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _deviation_page(here, number, problem=problem)
    return here.redirect(f"/{here.the_study.code}/safety/deviations/{number}", done=done)


def _deviation_page(here: Here, number: int, *, problem: Problem | None = None) -> Response:
    found: DeviationRow = deviation_reads.deviation_of(here.session, here.the_study, number, by=here.actor)
    places, site_id = places_of(here), found.site_id
    list_url = f"/{here.the_study.code}/safety/deviations"
    values = {name: here.value(name) for name in ("grade", "action", "why")}
    if not here.form:
        values = {"grade": found.grade, "action": found.action or "", "why": ""}
    return show_at(
        here,
        places,
        "conduct/deviation.html",
        status_code=status_of(problem),
        row=found,
        category=_categories(here).get(found.category, found.category),
        url=f"{list_url}/{number}",
        list_url=list_url,
        participant_url=_url(here, found.participant),
        values=values,
        errors=errors_of(problem),
        refused=problem.reason if isinstance(problem, Refused | Conflict) else None,
        tried=here.request.url.path.rsplit("/", 1)[-1] if problem else "",
        may_act=may(here.actor, Permission.DEVIATION_REPORT, site_id=site_id),
        why_not_act=why_not_act(found.state, Act.ACT),
        may_sign=may(here.actor, Permission.DEVIATION_SIGN, site_id=site_id),
        why_not_sign=why_not(here.actor, Permission.DEVIATION_SIGN, site_id=site_id)
        or why_not_act(found.state, Act.SIGN),
        why_not_take_back=why_not_take_back(found.rule) or why_not_act(found.state, Act.TAKE_BACK),
        stands=found.state is not State.GONE,
        timezone=places.timezone(site_id),
        ask_code=here.signed_in.second_factors if here.signed_in is not None else (),
    )


# Contacts and care


@router.get("/{study}/participants/{code}/contacts", name="conduct.contacts")
def contacts(here: PageInStudy, code: str) -> Response:
    """Every attempt to be in touch with a participant, and a form for the next one (or to correct one: ?line=)."""
    return _contacts_page(here, _participant(here, code, Permission.SAFETY_READ, "contact.read"))


@router.post("/{study}/participants/{code}/contacts", name="conduct.contact")
def contact(here: ChangeInStudy, code: str) -> Response:
    """Write down an attempt, or correct one and say why."""
    participant = _participant(here, code, Permission.CONTACT_RECORD, "contact.record")
    try:
        actions.record_contact(
            here.session,
            here.the_study,
            participant,
            at=typed_moment(here, "contact", participant.site_id),
            how=here.value("how"),
            result=here.value("result"),
            note=here.value("note"),
            confirmed=here.form.get("confirmed", ()),
            line=here.number("line") or None,
            base_version=here.number("version"),
            why=here.value("why"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _contacts_page(here, participant, problem=problem)
    return here.redirect(f"{_url(here, participant.code)}/contacts", done="saved")


def _contacts_page(here: Here, participant: Participant, *, problem: Problem | None = None) -> Response:
    assert participant.id is not None
    places = places_of(here)
    lines = reads.contacts_of(here.session, participant.id)
    zone = ZoneInfo(places.timezone(participant.site_id))
    line = _line_asked(here, lines)
    values: dict[str, str] = {
        name: here.value(name) for name in ("contact_on", "contact_time", "how", "result", "note", "why")
    }
    if not here.form:
        moment: datetime = (line.at if line else here.now).astimezone(zone)
        values = {"contact_on": moment.date().isoformat(), "contact_time": f"{moment:%H:%M}", "why": ""}
        values |= {name: getattr(line, name) if line else "" for name in ("how", "result", "note")}
    return show_at(
        here,
        places,
        "conduct/contacts.html",
        status_code=status_of(problem),
        **_common(here, places, participant, problem),
        lines=lines,
        line=line,
        values=values,
        ways=[each.value for each in How],
        results=[each.value for each in Result],
        attempts=attempts_since(each.result for each in lines),
        may_record=may(here.actor, Permission.CONTACT_RECORD, site_id=participant.site_id),
        why_not=why_not_contact(Status(participant.status), participant.consented_on),
        withdrew=why_nobody_contacts(withdrawal_level(here.the_study.definition, participant.withdrawal_level or "")),
        longest_note=LONGEST_BEFORE_CONSENT if participant.consented_on is None else None,
        telling=_telling(here, problem, "note", "why"),
    )


def _line_asked(here: Here, lines: Sequence[Any]) -> Any:
    """The line that is to be changed: of the form that was sent, or of the address; None for a new one."""
    asked = here.value("line") if here.form else typed_text(here.request.query_params.get("line"), 10)
    return next((each for each in lines if str(each.number) == asked), None)


@router.get("/{study}/participants/{code}/care", name="conduct.care")
def care(here: PageInStudy, code: str) -> Response:
    """Care beside the trial, and a form for another line (or to change one: ?line=)."""
    return _care_page(here, _participant(here, code, Permission.SAFETY_READ, "care.read"))


@router.post("/{study}/participants/{code}/care", name="conduct.keep_care")
def keep_care(here: ChangeInStudy, code: str) -> Response:
    """Write down a line of care, or change one and say why."""
    participant = _participant(here, code, Permission.CARE_RECORD, "care.record")
    try:
        actions.record_care(
            here.session,
            here.the_study,
            participant,
            treatment=here.value("treatment"),
            began=date_said(here, "began"),
            ended=date_said(here, "ended"),
            indication=here.value("indication"),
            confirmed=here.form.get("confirmed", ()),
            line=here.number("line") or None,
            base_version=here.number("version"),
            why=here.value("why"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _care_page(here, participant, problem=problem)
    return here.redirect(f"{_url(here, participant.code)}/care", done="saved")


def _care_page(here: Here, participant: Participant, *, problem: Problem | None = None) -> Response:
    assert participant.id is not None
    places = places_of(here)
    lines = reads.care_of(here.session, participant.id)
    line = _line_asked(here, lines)
    names = ("treatment", "began", "ended", "indication")
    values = {name: here.value(name) for name in (*names, "why")}
    if not here.form:
        values = {name: getattr(line, name) if line else "" for name in names}
    return show_at(
        here,
        places,
        "conduct/care.html",
        status_code=status_of(problem),
        **_common(here, places, participant, problem),
        lines=lines,
        line=line,
        values=values,
        may_record=may(here.actor, Permission.CARE_RECORD, site_id=participant.site_id),
        telling=_telling(here, problem, *names, "why"),
    )


# Lost, found, dead


@router.get("/{study}/participants/{code}/lost", name="conduct.lost_form")
def lost_form(here: PageInStudy, code: str) -> Response:
    """What recording somebody as lost does; or that they were found."""
    return _end_page(here, _ending(here, code), End.LOST, End.FOUND)


@router.post("/{study}/participants/{code}/lost", name="conduct.lost")
def lost(here: ChangeInStudy, code: str) -> Response:
    """Record that a participant is lost to follow-up, or was found again."""
    return _end(here, code, End.LOST, End.FOUND)


@router.get("/{study}/participants/{code}/death", name="conduct.death_form")
def death_form(here: PageInStudy, code: str) -> Response:
    """What recording a death does; or that it was a mistake."""
    return _end_page(here, _ending(here, code), End.DIED, End.MISTAKE)


@router.post("/{study}/participants/{code}/death", name="conduct.death")
def death(here: ChangeInStudy, code: str) -> Response:
    """Record that a participant died, or that this was a mistake."""
    return _end(here, code, End.DIED, End.MISTAKE)


@router.get("/{study}/participants/{code}/completion", name="conduct.completion_form")
def completion_form(here: PageInStudy, code: str) -> Response:
    """What recording that somebody completed the study does; or that something is left to do."""
    return _end_page(here, _ending(here, code), End.COMPLETED, End.REOPENED)


@router.post("/{study}/participants/{code}/completion", name="conduct.completion")
def completion(here: ChangeInStudy, code: str) -> Response:
    """Record that a participant completed the study, or that something is left to do after all."""
    return _end(here, code, End.COMPLETED, End.REOPENED)


DONE = {
    End.LOST: "lost",
    End.FOUND: "found",
    End.DIED: "died",
    End.MISTAKE: "not_dead",
    End.COMPLETED: "completed",
    End.REOPENED: "reopened",
}
MOST_DUE = 8
"""Visits that are named one by one before a completion."""
PATHS = {End.LOST: "lost", End.DIED: "death", End.COMPLETED: "completion"}


def _ending(here: Here, code: str) -> Participant:
    return _participant(here, code, Permission.PARTICIPANT_WITHDRAW, actions.ENDING)


def _end(here: Here, code: str, first: End, back: End) -> Response:
    participant = _ending(here, code)
    try:
        kind = next((each for each in (first, back) if each == here.value("kind")), None)
        if kind is None:
            raise Invalid([FieldProblem("kind", "choice", "Open this page again, and choose there.")])
        actions.record_end(
            here.session,
            here.the_study,
            participant,
            kind,
            on=typed_day(here.value("on"), "on"),
            words=here.value("words"),
            cancel_booked=here.value("cancel_booked") == "yes",
            prove=lambda: prove(here),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _end_page(here, _ending(here, code), first, back, problem=problem)
    done = DONE[kind]
    if kind in (End.LOST, End.COMPLETED):
        cancelled = here.value("cancel_booked") == "yes"
        done += "_cancelled" if cancelled else "_booked" if booked_ahead(here, participant) else ""
    return here.redirect(_url(here, participant.code), done=done)


def _end_page(
    here: Here, participant: Participant, first: End, back: End, *, problem: Problem | None = None
) -> Response:
    assert participant.id is not None
    places, status = places_of(here), Status(participant.status)
    kind, definition = back if why_not_end(back, status) is None else first, here.the_study.definition
    due = planned_visits(here.session, participant.id) if kind is End.COMPLETED else []
    sessions = may(here.actor, Permission.TREATMENT_RECORD, site_id=participant.site_id)
    why_not = why_not_end(kind, status, is_allocated=definition.is_allocated, due=len(due))
    return show_at(
        here,
        places,
        "conduct/end.html",
        status_code=status_of(problem),
        **_common(here, places, participant, problem),
        kind=kind.value,
        path=PATHS[first],
        why_not=why_not,
        due=[
            {
                "label": planned.label if (planned := definition.visit(each.code)) else each.code,
                "url": _due_url(here, participant, each, sessions=sessions),
                "target_on": each.target_on,
            }
            for each in due[:MOST_DUE]
        ],
        more_due=max(0, len(due) - MOST_DUE),
        booked=booked_ahead(here, participant) if why_not is None and kind in actions.ENDS else [],
        cancel_booked=here.value("cancel_booked") == "yes" if here.form else True,
        ends=list(reversed(reads.ends_of(here.session, participant.id))),
        values={"on": here.value("on"), "words": here.value("words")},
        event_url=f"{_url(here, participant.code)}/adverse-events/new?outcome=fatal",
        ask_code=here.signed_in.second_factors if here.signed_in is not None else (),
    )


def _due_url(here: Here, participant: Participant, visit: ParticipantVisit, *, sessions: bool) -> str:
    """Where a visit is recorded; a session by who treats, and for everybody else there is its page."""
    if visit.kind == VisitKind.TREATMENT and sessions:
        return f"/{here.the_study.code}/treatment/{participant.code}/sessions/{visit.code}"
    return f"{_url(here, participant.code)}/visits/{visit.code}"


# Everybody who was screened


@router.get("/{study}/safety/screening", name="conduct.screening_log")
def screening_log(here: PageInStudy) -> Response:
    """Who was screened, and why not everybody takes part; or how many, by month and site. No names."""
    require(here.actor, Permission.SAFETY_READ)
    study, asked = here.the_study, here.request.query_params
    places, path = places_of(here), f"/{study.code}/safety/screening"
    query: dict[str, str | None] = {each: typed_text(asked.get(each), 80) or None for each in SCREENED_FILTERS}
    if "site" not in asked and places.chosen is not None:
        query["site"] = places.chosen.code
    wrong = query["month"] is not None and month_of(query["month"]) is None
    wanted = ScreenedWanted(
        site=None if query["site"] == "all" else query["site"],
        month=None if wrong else query["month"],
        reason=query["reason"],
        outcome=query["outcome"] if query["outcome"] in ("passed", "failed") else None,
    )
    if asked.get("format") == "csv":
        rows = _screened_lines(here, wanted)
        return csv_file(f"{study.code}-screening-log-{here.now:%Y-%m-%d}", SCREENED_FILE, rows)
    by_month = asked.get("by") == BY_MONTH
    found: Page[ScreenedRow] = Page([])
    months = reads.ScreenedMonths([])
    if by_month:
        upto = month_of(asked.get("upto", ""))
        said = upto[0] if upto else None
        months = reads.screened_by_month(here.session, study, by=here.actor, wanted=wanted, upto=said)
    if not by_month:
        cursor = asked.get("after") or None
        found = reads.screened_page(here.session, study, by=here.actor, wanted=wanted, cursor=cursor)
    reasons = {each.code: each.label for each in study.definition.screen_failure_reasons}
    return show_at(
        here,
        places,
        "conduct/screening_log.html",
        status_code=422 if wrong else 200,
        path=path,
        query=query,
        errors={"month": "Write the month as year-month, such as 2026-03."} if wrong else {},
        rows=[(row, why_not_taking_part(study.definition, row.failure_reason)) for row in found.rows],
        months=months.rows,
        by_month=by_month,
        newer_months=_months_url(path, query, months.newer),
        older_months=_months_url(path, query, months.older),
        other_url=address(path, query, by=None if by_month else BY_MONTH),
        reasons=list(reasons.items()),
        active=sum(1 for each in SCREENED_FILTERS if query[each] and query[each] != "all"),
        newer=address(path, query, after=found.previous) if found.previous else None,
        older=address(path, query, after=found.next) if found.next else None,
        csv_url=address(path, query, format="csv") if found.rows else None,
        tabs=tabs_of(here),
        here_tab="screening",
        several=len(places.sites) > 1,
    )


def _months_url(path: str, query: Mapping[str, str | None], upto: date | None) -> str | None:
    return address(path, query, by=BY_MONTH, upto=f"{upto:%Y-%m}") if upto else None


def _screened_lines(here: Here, wanted: ScreenedWanted) -> Iterator[Sequence[object]]:
    with database_of(here.request).reading() as session:
        for found in every_page(
            lambda cursor: reads.screened_page(
                session, here.the_study, by=here.actor, wanted=wanted, cursor=cursor, limit=LARGEST_PAGE
            )
        ):
            for row in found.rows:
                yield [_cell(getattr(row, name)) for name in SCREENED_FILE]
