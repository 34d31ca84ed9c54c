"""Participants: the list, one participant, screening, who they are, withdrawal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, NamedTuple

from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Select
from sqlmodel import Session

from app.audit.reads import AuditFilter
from app.audit.reads import entries as audit_entries
from app.capture.double.reads import states_of, withheld_subjects
from app.capture.double.rules import State
from app.capture.locks.reads import locks_of
from app.capture.locks.rules import Lock, is_locked
from app.capture.queries.reads import standing_by_participant, standing_of
from app.capture.reads import EntryMark, entries_and_drafts
from app.capture.rules import entry_mark, form_name
from app.capture.status import EntryStatus
from app.capture.typed import parse_typed
from app.consent import rules as consent_rules
from app.consent.actions import withdraw_consent
from app.consent.models import Consent
from app.consent.reads import consents_of, options_now, reconsent_owed, reconsent_waiting, scans_unverified
from app.dependencies import ChangeInStudy, Here, LoggedPageInStudy, PageInStudy, database_of, require_password
from app.foundation.ahead import known
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.foundation.paging import LARGEST_PAGE, every_page
from app.participants import actions, reads
from app.participants.finding import Found, find_like, find_people
from app.participants.identity import participant_key
from app.participants.in_error.reads import records_of
from app.participants.in_error.rules import is_error
from app.participants.models import Participant
from app.participants.reads import ParticipantFilter, ParticipantRow, ScreeningResult, Sort
from app.participants.rules import (
    Eligibility,
    PersonalData,
    answer_problems,
    as_stored,
    judge_eligibility,
    personal_problems,
    why_not_erase,
    why_not_known,
    why_not_withdraw,
)
from app.participants.rules.personal import FIELDS, LABELS
from app.participants.rules.status import why_not_take_back, why_not_transition, withdrawal_level
from app.participants.status import Status
from app.people.access import may, require, sites_for, why_not
from app.people.models import Site
from app.people.permissions import Permission, Role
from app.people.reads import SiteRow
from app.rendering import day
from app.safety.logs.reads import EndRow, counts_of, ends_of
from app.safety.logs.rules import End, why_not_contact
from app.schedule.actions import follow_withdrawal, open_visits, plan_stopped_again, stop_visits
from app.schedule.appointments.reads import appointments_of
from app.schedule.appointments.rules import why_not_book
from app.schedule.models import ParticipantVisit
from app.schedule.reads import NextVisit, next_visits, visits_of
from app.schedule.rules import VisitState, visit_state, why_not_add
from app.schedule.status import VisitStatus
from app.studies.definition import (
    FirstStage,
    Instrument,
    Study,
    Visit,
    VisitKind,
    WithdrawalLevel,
    unscheduled_number,
)
from app.web.appointments import booked_ahead, label_of
from app.web.audit import told
from app.web.in_error import rows_of
from app.web.pages import pages
from app.web.places import Places, places_of, show_at, typed_day
from app.web.randomisation import allocation_number, refuse_staged, stage_that_waits, why_not_left_out
from app.web.shell import status_of
from app.web.tables import address, column, csv_file, typed_text

router = pages()

RECENT = 8
STANDING = "standing"  # of a query: open or answered, as the list of queries says it in its address
LARGEST_VERSION = 2**31 - 2  # the next one still has to fit its column
# How the state of a visit is marked.
MARKS = {
    VisitState.UPCOMING: "planned",
    VisitState.DUE: "due",
    VisitState.OVERDUE: "late",
    VisitState.HELD: "done",
    VisitState.HELD_EARLY: "late",
    VisitState.HELD_LATE: "late",
    VisitState.MISSED: "missed",
    VisitState.STOPPED: "none",
    VisitState.IN_ERROR: "none",
}


# The list


@router.get("/{study}/participants", name="participants.participants")
def participants(here: PageInStudy) -> Response:
    """Who takes part at my sites, and which visit comes next."""
    require(here.actor, Permission.PARTICIPANT_READ)
    study, asked = here.the_study, here.request.query_params
    path = f"/{study.code}/participants"
    find = typed_text(asked.get("find"))
    if find and (code := _exact(here, find)):
        return RedirectResponse(f"{path}/{code}", status_code=303)
    places = places_of(here)
    everywhere = "all" if find or places.chosen is None else places.chosen.code
    site = next((each.code for each in places.sites if each.code == asked.get("site")), "")
    status = next((each for each in Status if each == asked.get("status")), None)
    may_ask = may(here.actor, Permission.ENTRY_READ)
    sort, descending = _sort(asked.get("sort"), may_ask=may_ask)
    query: dict[str, str | None] = {
        "find": find,
        "site": site or ("all" if "site" in asked else everywhere),
        "status": status,
        "queries": STANDING if may_ask and asked.get("queries") == STANDING else None,
        "sort": f"-{sort}" if descending else sort if sort is not Sort.CODE else None,
    }
    wanted = ParticipantFilter(
        site=None if query["site"] == "all" else query["site"],
        status=status,
        search=find or None,
        asked=query["queries"] is not None,
    )
    questions = standing_by_participant(study, by=here.actor) if may_ask else None
    if asked.get("format") == "csv":
        rows = _file_rows(here, places, wanted, sort, descending, questions)
        dates = ("next_visit", "target_on", "opens_on", "closes_on")
        standing = ["queries"] if may_ask else []
        heading = ("participant", "site", "status", "screened_on", *dates, *standing, "randomised_in_error")
        return csv_file(f"{study.code}-participants-{here.now:%Y-%m-%d}", heading, rows)
    found = reads.participants_page(
        here.session,
        study,
        by=here.actor,
        wanted=wanted,
        sort=sort,
        descending=descending,
        cursor=asked.get("after") or None,
        questions=questions,
    )
    named = may(here.actor, Permission.IDENTITY_READ)
    if (
        find
        and named
        and not (found.rows or status or site or wanted.asked or _may_be_code(here.the_study.definition, find))
    ):
        return _find_page(here, places, find)
    numbers = [row.id for row in found.rows]
    begun = here.soon
    coming = begun(next_visits, here.session, numbers, places.today(here))
    initials = begun(reads.initials_of, here.session, found.rows, by=here.actor) if named else known(None)
    counted = begun(standing_of, here.session, study, numbers, by=here.actor) if may_ask else known(None)
    upcoming = coming()
    return show_at(
        here,
        places,
        "participants/participants.html",
        path=path,
        query=query,
        columns=_columns(path, query, named=named, may_ask=may_ask, several=len(places.sites) > 1),
        rows=[_row(here, places, row, upcoming.get(row.id)) for row in found.rows],
        initials=initials(),
        queries=counted(),
        filtered=bool(find or status or wanted.site or wanted.asked),
        active=sum(map(bool, (find, status, wanted.site, wanted.asked))),
        newer=address(path, query, after=found.previous) if found.previous else None,
        older=address(path, query, after=found.next) if found.next else None,
        csv_url=address(path, query, format="csv") if found.rows else None,
        may_screen=may(here.actor, Permission.PARTICIPANT_SCREEN),
        may_find=named,
    )


def _exact(here: Here, typed: str) -> str | None:
    """The code that was typed, whole or as its number, when this person may see that participant."""
    definition = here.the_study.definition
    code = typed.upper()
    if code.isdecimal() and len(code) <= definition.participant_digits:
        code = f"{definition.participant_prefix}{code.zfill(definition.participant_digits)}"
    try:
        return reads.participant_by_code(here.session, here.the_study, code, by=here.actor).code
    except NotFound:
        return None


def _may_be_code(definition: Study, typed: str) -> bool:
    """Whether this may be a code or its number, and so no name or telephone number."""
    number = typed.upper().removeprefix(definition.participant_prefix.upper())
    return number.isdecimal() and len(number) <= definition.participant_digits


def _sort(text: str | None, *, may_ask: bool) -> tuple[Sort, bool]:
    name = (text or "").removeprefix("-")
    if name == Sort.QUERIES and not may_ask:
        return Sort.CODE, False
    return next((each for each in Sort if each == name), Sort.CODE), (text or "").startswith("-")


def _columns(
    path: str, query: Mapping[str, str | None], *, named: bool, may_ask: bool, several: bool
) -> list[dict[str, str]]:
    """The headings; who works at one site alone is told it by no column."""
    sites = {Sort.SITE: "Site"} if several else {}
    sorted_by = {Sort.CODE: "Participant", **sites, Sort.STATUS: "Status", Sort.SCREENED_ON: "Screened"}
    headings = [column(label, key, path, query, default=Sort.CODE) for key, label in sorted_by.items()]
    initials = [{"label": "Initials"}] if named else []
    asked = (
        [column("Queries", Sort.QUERIES, path, query, align="end", default=Sort.CODE, most_first=True)]
        if may_ask
        else []
    )
    return [headings[0], *initials, *headings[1:], {"label": "Next visit"}, {"label": "Window"}, *asked]


class Listed(NamedTuple):
    """One row of the list. Not a mapping: a template looks for an attribute first, and asks for fifteen in each row."""

    row: ParticipantRow
    in_error: bool
    today: date
    visit: NextVisit | None
    label: str
    theirs: bool
    url: str


def _row(here: Here, places: Places, row: ParticipantRow, visit: NextVisit | None) -> Listed:
    today = places.today(here, row.site_id)
    return Listed(
        row,
        is_error(row.randomised_in_error),
        today,
        visit,
        _label(here.the_study.at(row.site_id).definition, visit.code) if visit else "",
        visit is not None and visit.kind == VisitKind.TREATMENT and visit.closes_on < today,
        _visit_url(here, row.code, visit.code, visit.kind, row.site_id) if visit else "",
    )


def _file_rows(
    here: Here,
    places: Places,
    wanted: ParticipantFilter,
    sort: Sort,
    descending: bool,
    questions: Select[tuple[int, int]] | None,
) -> Iterator[Sequence[object]]:
    """Every row of the filtered list. Initials are left out: a file travels further than a page."""
    asked_for: dict[str, Any] = {"by": here.actor, "wanted": wanted, "sort": sort, "descending": descending}
    with database_of(here.request).reading() as session:
        for found in every_page(
            lambda cursor: reads.participants_page(
                session, here.the_study, **asked_for, cursor=cursor, limit=LARGEST_PAGE, questions=questions
            )
        ):
            numbers = [row.id for row in found.rows]
            upcoming = next_visits(session, numbers, places.today(here))
            asked = {} if questions is None else standing_of(session, here.the_study, numbers, by=here.actor)
            for row in found.rows:
                visit = upcoming.get(row.id)
                dates = (visit.code, visit.target_on, visit.opens_on, visit.closes_on) if visit else ("", "", "", "")
                in_error = row.randomised_in_error or ""
                stand = [] if questions is None else [asked.get(row.id, 0)]
                yield (row.code, row.site_code, row.status.value, row.screened_on, *dates, *stand, in_error)


# Who is it? Before the pages of one participant, because neither “find” nor “new” is a code


@router.get("/{study}/participants/find", name="participants.find_form")
def find_form(here: PageInStudy) -> Response:
    """Find somebody by name, date of birth, telephone number or address."""
    require(here.actor, Permission.IDENTITY_READ)
    return _find_page(here, places_of(here), "")


@router.post("/{study}/participants/find", name="participants.find")
def find(here: ChangeInStudy) -> Response:
    """Show who may be meant. That they were shown, and to whom, is in the log; what was looked for is in no address."""
    text = here.value("text")
    here.release_key()  # looking again is no change, and is written down again
    try:
        said = {"text": text, "language": here.language}
        found, has_more = find_people(here.session, here.the_study, **said, by=here.actor, now=here.now)
    except Invalid as problem:
        here.refuse(problem)
        return _find_page(here, places_of(here), text, problem=problem)
    here.shows()
    return _find_page(here, places_of(here), text, found=found, has_more=has_more)


def _find_page(
    here: Here,
    places: Places,
    text: str,
    *,
    found: Sequence[Found] | None = None,
    has_more: bool = False,
    problem: Invalid | None = None,
) -> Response:
    list_url = f"/{here.the_study.code}/participants"
    return show_at(
        here,
        places,
        "participants/find.html",
        status_code=status_of(problem),
        action=f"{list_url}/find",
        list_url=list_url,
        text=text,
        found=found,
        has_more=has_more,
        error=problem.problems[0].message if problem else None,
        may_screen=may(here.actor, Permission.PARTICIPANT_SCREEN),
    )


# Screening


@dataclass
class Typed:
    """What a screening form said, and what is wrong with it."""

    site: SiteRow | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    personal: PersonalData = field(default_factory=PersonalData)
    failure_reason: str = ""
    eligibility: Eligibility | None = None
    problems: list[FieldProblem] = field(default_factory=list)


@router.get("/{study}/participants/new", name="participants.screen_form")
def screen_form(here: PageInStudy) -> Response:
    """Screen somebody: who they are, and the questions that decide whether they may take part."""
    require(here.actor, Permission.PARTICIPANT_SCREEN)
    return _screen_page(here, places_of(here))


@router.post("/{study}/participants/new", name="participants.screen")
def screen(here: ChangeInStudy) -> Response:
    """Judge what was typed; keep whoever is eligible, and after a second look whoever is not."""
    require(here.actor, Permission.PARTICIPANT_SCREEN, action="participant.screen")
    places = places_of(here)
    typed = _read_screening(here, places)
    step = here.value("screening.step")
    if step == "correct":
        here.release_key()
        here.shows()
        return _screen_page(here, places, typed, asked=False)
    if typed.problems or typed.site is None:
        here.refuse(Invalid(typed.problems))
        return _screen_page(here, places, typed, status_code=422)
    failed = typed.failure_reason or (typed.eligibility is not None and not typed.eligibility.eligible)
    if step not in ("keep", "another") and (like := _like(here, typed)):
        here.release_key()
        here.shows()
        return _like_page(here, places, like)
    if failed and (step != "keep" or not typed.failure_reason):
        here.release_key()
        here.shows()
        return _not_eligible_page(here, places, typed, lacks_reason=step == "keep")
    try:
        participant, _ = actions.screen(
            here.session,
            here.the_study,
            site=Site(**asdict(typed.site)),
            answers=typed.answers,
            failure_reason=typed.failure_reason or None,
            personal=typed.personal,
            by=here.actor,
            now=here.now,
        )
        if failed:
            return here.redirect(_url(here, participant.code), done="screen_failed")
        open_visits(
            here.session,
            here.the_study,
            participant,
            anchor="screening",
            on=participant.screened_on,
            by=here.actor,
            now=here.now,
        )
    except Invalid as problem:
        here.refuse(problem)
        typed.problems = problem.problems
        return _screen_page(here, places, typed, status_code=422)
    except Refused as problem:
        here.refuse(problem)
        typed.problems = [FieldProblem("", problem.action, problem.reason)]
        return _screen_page(here, places, typed, status_code=409)
    return here.redirect(_url(here, participant.code), done="screened")


def _screening_sites(here: Here, places: Places) -> list[SiteRow]:
    """The open sites where this person may screen."""
    held = sites_for(here.actor, Permission.PARTICIPANT_SCREEN)
    return [site for site in places.sites if site.is_open and (held is None or site.id in held)]


def _study_at(here: Here, places: Places, site: SiteRow | None) -> Study:
    """The study as it holds at the site where somebody is screened; before one is chosen, as in the study."""
    sites = _screening_sites(here, places)
    site = site or (sites[0] if len(sites) == 1 else None)
    return (here.the_study.at(site.id) if site else here.the_study).definition


def _read_screening(here: Here, places: Places) -> Typed:
    typed = Typed(failure_reason=here.value("screening.failure_reason"))
    sites = _screening_sites(here, places)
    asked = here.value("screening.site")
    typed.site = sites[0] if len(sites) == 1 and not asked else next((s for s in sites if s.code == asked), None)
    if typed.site is None:
        words = "Choose the site where this person is seen." if sites else "No site is open. Ask your administrator."
        typed.problems.append(FieldProblem("screening.site", "choice", words))
    definition = _study_at(here, places, typed.site)
    form = definition.instrument(definition.eligibility.instrument)
    typed.personal = PersonalData(**{name: here.value(f"personal.{name}") for name in FIELDS}).tidy()
    today = places.today(here, typed.site.id if typed.site else None)
    typed.problems += [
        FieldProblem(f"personal.{each.field}", each.rule, each.message)
        for each in personal_problems(typed.personal, today=today)
    ]
    if form is None:
        return typed
    said = parse_typed(form, {name: list(values) for name, values in here.form.items()}, language=here.language)
    typed.answers = as_stored(said.values)
    unreadable = {problem.field for problem in said.problems}
    typed.problems += said.problems
    typed.problems += [
        problem
        for problem in answer_problems(form.items, typed.answers, definition.missing_codes, today=today)
        if problem.field not in unreadable
    ]
    wrong = {problem.field for problem in typed.problems}
    sound = {code: value for code, value in typed.answers.items() if code not in wrong}
    typed.eligibility = judge_eligibility(definition, sound, today=today, refused=wrong)
    if not typed.failure_reason:
        lacking = why_not_known(definition, typed.eligibility)
        typed.problems += [
            FieldProblem("screening.failure_reason", each.rule, each.message)
            if each.field == "failure_reason"
            else each
            for each in lacking
            if each.field not in wrong
        ]
    elif definition.screen_failure_reasons and typed.failure_reason not in {
        choice.code for choice in definition.screen_failure_reasons
    }:
        words = "Choose one of the reasons for not taking part."
        typed.problems.append(FieldProblem("screening.failure_reason", "choice", words))
    order = ["screening.site", *(item.code for item in form.items), *(f"personal.{name}" for name in FIELDS)]
    typed.problems.sort(key=lambda each: order.index(each.field) if each.field in order else len(order))
    return typed


def _screen_page(
    here: Here, places: Places, typed: Typed | None = None, *, status_code: int = 200, asked: bool = True
) -> Response:
    said = typed or Typed(site=places.chosen)
    definition = _study_at(here, places, said.site)
    problems = said.problems if asked else []
    form = definition.instrument(definition.eligibility.instrument)
    return show_at(
        here,
        places,
        "participants/screen.html",
        status_code=status_code,
        action=f"/{here.the_study.code}/participants/new{here.own_words}",
        list_url=f"/{here.the_study.code}/participants",
        sites=_screening_sites(here, places),
        site=said.site.code if said.site else here.value("screening.site"),
        form=form,
        typed=here.form,
        personal={name: here.value(f"personal.{name}") for name in FIELDS},
        failure_reason=here.value("screening.failure_reason"),
        reasons=[(choice.code, choice.label) for choice in definition.screen_failure_reasons],
        problems=[(problem.field, problem.message) for problem in problems],
        errors={problem.field: problem.message for problem in problems},
        eligibility=said.eligibility if asked else None,
        today=places.today(here, said.site.id if said.site else None),
    )


def _like(here: Here, typed: Typed) -> list[Found]:
    """Who at the site looks like the person who is screened: nobody takes part twice unawares."""
    assert typed.site is not None
    site_id = typed.site.id
    return find_like(here.session, here.the_study, typed.personal, site_id=site_id, by=here.actor, now=here.now)


def _like_page(here: Here, places: Places, like: Sequence[Found]) -> Response:
    ours = ("csrf_token", "screening.step")
    return show_at(
        here,
        places,
        "participants/like.html",
        action=f"/{here.the_study.code}/participants/new{here.own_words}",
        list_url=f"/{here.the_study.code}/participants",
        like=like,
        labels=LABELS,
        kept=[(name, value) for name, values in here.form.items() if name not in ours for value in values],
    )


def _not_eligible_page(here: Here, places: Places, typed: Typed, *, lacks_reason: bool) -> Response:
    definition = _study_at(here, places, typed.site)
    ours = ("csrf_token", "screening.step", "screening.failure_reason")
    words = "Choose why this person does not take part." if lacks_reason else None
    return show_at(
        here,
        places,
        "participants/not_eligible.html",
        status_code=422 if lacks_reason else 200,
        action=f"/{here.the_study.code}/participants/new{here.own_words}",
        list_url=f"/{here.the_study.code}/participants",
        eligibility=typed.eligibility,
        failure_reason=typed.failure_reason,
        reasons=[(choice.code, choice.label) for choice in definition.screen_failure_reasons],
        kept=[(name, value) for name, values in here.form.items() if name not in ours for value in values],
        error=words,
    )


# One participant


@router.get("/{study}/participants/{code}", name="participants.show")
def show(here: PageInStudy, code: str) -> Response:
    """One participant: where they stand, what comes next, and everything that was done."""
    participant = reads.participant_by_code(here.session, here.the_study, code, by=here.actor)
    assert participant.id is not None
    site_id, definition = participant.site_id, here.the_study.definition
    may_read = may(here.actor, Permission.ENTRY_READ, site_id=site_id)
    # All at once, in the order in which they are wanted: each waits for none of the others.
    begun = here.soon
    planned = begun(visits_of, here.session, participant.id)
    entered = (
        begun(entries_and_drafts, here.session, participant.id, by=here.actor) if may_read else known(({}, frozenset()))
    )
    consented = begun(consents_of, here.session, participant.id)
    who = begun(reads.screening_and_initials, here.session, participant, by=here.actor)
    locked = begun(locks_of, here.session, here.the_study, participant.id) if may_read else known(())
    booked = begun(appointments_of, here.session, participant.id, by=here.actor)
    number = begun(allocation_number, here, participant)
    unsafe = begun(_safety, here, participant)
    logged = begun(_recent, here, participant)
    places, visits = places_of(here), planned()
    today = places.today(here, site_id)
    marks, drafts = entered()
    pairs = states_of(here.session, definition, participant.id) if marks else {}
    consents = consented()
    screening, initials, wrong, erased = who()
    baseline = _baseline(definition, marks)
    locks = locked() if marks else ()
    columns, rows = _matrix(here, participant, visits, marks, pairs, drafts, locks, today)
    stage = stage_that_waits(here, participant)
    eligible = screening is None or screening.eligible
    is_open = Status(participant.status) in OPEN
    steps = _steps(here, participant, consents, baseline, stage, eligible=eligible) if is_open else []
    in_error = records_of(here.session, participant.id) if wrong else ()
    appointments = booked()
    end = _end(here.session, participant)
    return show_at(
        here,
        places,
        "participants/show.html",
        participant=participant,
        status=Status(participant.status),
        is_allocated=here.the_study.definition.is_allocated,
        site=places.site(site_id),
        today=today,
        timezone=places.timezone(site_id),
        since=_since(participant, end),
        end=end,
        may_read_end=may(here.actor, Permission.SAFETY_READ, site_id=site_id),
        allocation=number(),
        url=_url(here, participant.code),
        initials=initials,
        next_step=_next_step(
            here,
            participant,
            consents,
            baseline,
            visits,
            today,
            may_read=may_read,
            stage=stage,
        ),
        randomise=_randomise(here, participant, consents, baseline) if Status(participant.status) in OPEN else None,
        steps=steps,
        timeline=_timeline(here, participant, visits, today),
        late=_waiting(definition, visits, today, VisitState.OVERDUE),
        due=_waiting(definition, visits, today, VisitState.DUE),
        matrix_visits=columns,
        matrix_rows=rows if may_read and visits else [],
        consents=[_consent_row(here, participant, consent) for consent in consents],
        scans_wait=scans_unverified(here.session, consents),
        owed=(owed := reconsent_owed(here.the_study, consents, today, places.code(participant.site_id))),
        owed_waits=reconsent_waiting(owed, consents),
        refused_last=consents[-1] if consents and consents[-1].refused_at is not None else None,
        options=_options(here, consents),
        appointments=[{"row": row, "label": label_of(here, row)} for row in appointments],
        may_book=may(here.actor, Permission.APPOINTMENT_BOOK, site_id=site_id)
        and why_not_book(Status(participant.status), None) is None
        and participant.fatal_event is None,
        fatal_url=_fatal_url(here, participant),
        screening=screening,
        failure=_failure(definition, screening),
        erased=erased,
        may_identity=may(here.actor, Permission.IDENTITY_READ, site_id=site_id),
        may_correct=may(here.actor, Permission.PARTICIPANT_SCREEN, site_id=site_id),
        may_sign=may(here.actor, Permission.ENTRY_SIGN, site_id=site_id)
        and any(
            mark.status == EntryStatus.COMPLETE and not mark.is_signed and not mark.is_in_error
            for each in marks.values()
            for mark in each.repeats
        ),
        may_withdraw=may(here.actor, Permission.PARTICIPANT_WITHDRAW, site_id=site_id),
        may_fail=_why_not_fail(here, participant) is None,
        may_add=definition.unscheduled is not None
        and may(here.actor, Permission.VISIT_RECORD, site_id=site_id)
        and why_not_add(Status(participant.status), participant.consented_on, fatal_event=participant.fatal_event)
        is None
        and participant.left_on is None,
        visits_in_error=[
            (_label(definition, visit.code), f"{_url(here, participant.code)}/visits/{visit.code}", visit.target_on)
            for visit in visits
            if visit.status == VisitStatus.IN_ERROR
        ],
        may_link=may(here.actor, Permission.PARTICIPANT_LINK, site_id=site_id),
        may_consent=may(here.actor, Permission.CONSENT_RECORD, site_id=site_id),
        may_unblind=may(here.actor, Permission.ALLOCATION_UNBLIND, site_id=site_id),
        may_record_learnt=may(here.actor, Permission.UNBLINDING_RECORD, site_id=site_id),
        learnt_url=f"/{here.the_study.code}/study/unblinding/learnt?participant={participant.code}",
        may_record_error=may(here.actor, Permission.PARTICIPANT_RECORD_ERROR, site_id=site_id),
        in_error=rows_of(here, in_error),
        safety=unsafe(),
        stands_in_error=bool(in_error) and is_error(in_error[-1].reason),
        why_not_withdraw=_why_not_withdraw(definition, participant),
        level=withdrawal_level(definition, participant.withdrawal_level or ""),
        recent=logged(),
        log_url=f"/{here.the_study.code}/audit?participant={participant.code}"
        if may(here.actor, Permission.AUDIT_READ)
        else "",
        may_read=may_read,
    )


def _fatal_url(here: Here, participant: Participant) -> str:
    """The page of an event that was fatal, while the death is not recorded; empty for who does not read of safety."""
    if participant.fatal_event is None or participant.status == Status.DIED:
        return ""
    reads_it = may(here.actor, Permission.SAFETY_READ, site_id=participant.site_id)
    return f"/{here.the_study.code}/safety/events/{participant.fatal_event}" if reads_it else ""


def _safety(here: Here, participant: Participant) -> list[dict[str, Any]]:
    """What safety holds of a participant: a line for each kind, how much, where it stands, and where to add to it."""
    assert participant.id is not None
    site_id, code = participant.site_id, participant.code
    reads_all = may(here.actor, Permission.SAFETY_READ, site_id=site_id)
    reports = may(here.actor, Permission.EVENT_REPORT, site_id=site_id)
    deviates = may(here.actor, Permission.DEVIATION_REPORT, site_id=site_id)
    if not (reads_all or reports or deviates):
        return []
    url, root = _url(here, code), f"/{here.the_study.code}/safety"
    if participant.consented_on is None:  # before consent there is nothing but attempts to reach them
        if not reads_all:
            return []
        counts = counts_of(here.session, participant.id, by=here.actor)
        if not counts.contacts and why_not_contact(Status(participant.status), None):
            return []
        return [{"kind": "contacts", "count": counts.contacts, "list": f"{url}/contacts", "add": "", "note": 0}]
    counts = counts_of(here.session, participant.id, by=here.actor)
    lines: list[dict[str, Any]] = []
    if reads_all or reports:
        add = f"{url}/adverse-events/new" if reports else ""
        shown = {"list": f"{root}?participant={code}&site=all", "add": add, "note": counts.serious}
        lines.append({"kind": "events", "count": counts.events, **shown})
    if reads_all or deviates:
        listed = f"{root}/deviations?participant={code}&site=all" if reads_all else ""
        add = f"{url}/deviations/new" if deviates else ""
        # How many there are is for those who read them; who only reports is shown where to.
        count = counts.deviations if reads_all else None
        lines.append({"kind": "deviations", "count": count, "list": listed, "add": add, "note": 0})
    if reads_all:
        lines.append({"kind": "contacts", "count": counts.contacts, "list": f"{url}/contacts", "add": "", "note": 0})
        lines.append({"kind": "care", "count": counts.care, "list": f"{url}/care", "add": "", "note": 0})
    return lines


OPEN = frozenset({Status.SCREENED, Status.CONSENTED})
MOST_SHOWN = 4  # repeats of a form in one cell: a diary of a month would push everything else out of sight


KIND_OF_END = {Status.LOST: End.LOST, Status.DIED: End.DIED, Status.COMPLETED: End.COMPLETED}


@dataclass(frozen=True)
class Baseline:
    """How far the entries before randomisation are: (visit, instrument, its label) of those not complete."""

    expected: int
    lacking: tuple[tuple[str, str, str], ...]

    @property
    def complete(self) -> int:
        return self.expected - len(self.lacking)


def _url(here: Here, code: str) -> str:
    return f"/{here.the_study.code}/participants/{code}"


def _end(session: Session, participant: Participant) -> EndRow | None:
    """The record by which they are lost, dead or done, where they are."""
    assert participant.id is not None
    if participant.status not in KIND_OF_END:
        return None
    kind = KIND_OF_END[Status(participant.status)]
    return next((each for each in reversed(ends_of(session, participant.id)) if each.kind == kind), None)


def _since(participant: Participant, end: EndRow | None) -> date:
    """Since when a participant stands where they stand."""
    if end is not None:
        return end.on
    if participant.status == Status.WITHDRAWN and participant.withdrawn_on is not None:
        return participant.withdrawn_on
    return participant.randomised_on or participant.consented_on or participant.screened_on


def _visit_url(here: Here, participant: str, visit: str, kind: str, site_id: int) -> str:
    """Where a visit is worked on: by those who enter outcomes; treatment sessions stand elsewhere."""
    readable = may(here.actor, Permission.ENTRY_READ, site_id=site_id) and kind != VisitKind.TREATMENT
    return f"{_url(here, participant)}/visits/{visit}" if readable else ""


def _label(definition: Study, visit: str) -> str:
    planned = definition.visit(visit)
    return planned.label if planned else visit


def _baseline(definition: Study, marks: Mapping[tuple[str, str], EntryMark]) -> Baseline:
    wanted = [
        (visit.code, code, form.label if (form := definition.instrument(code)) else code)
        for visit in definition.visits
        if visit.kind is VisitKind.BASELINE
        for code in visit.instruments
    ]
    lacking = [each for each in wanted if (mark := marks.get((each[0], each[1]))) is None or mark.status != "complete"]
    return Baseline(len(wanted), tuple(lacking))


def _pending(consents: Sequence[Consent]) -> Consent | None:
    """The consent that waits for its countersignature."""
    return next((one for one in consents if consent_rules.is_waiting(one)), None)


def _steps(
    here: Here,
    participant: Participant,
    consents: Sequence[Consent],
    baseline: Baseline,
    waits: FirstStage | None,
    *,
    eligible: bool,
) -> list[dict[str, str]]:
    """Screening, consent, baseline, randomise: the walk, and where this participant stands on it.

    `waits` is the first stage of a study of two, while it is before them.
    """
    consented = consent_rules.why_no_consent(consents) is None
    filled = consented and not baseline.lacking
    url, pending = _url(here, participant.code), _pending(consents)
    steps = [
        {"label": "Screening", "state": "done", "note": "Eligible" if eligible else "Not eligible"},
        {
            "label": "Consent",
            "state": "done" if consented else "current",
            "note": "Waits for a countersignature" if pending and not consented else "",
        },
        {
            "label": "Baseline",
            "state": "done" if filled else "current" if consented else "todo",
            "note": f"{baseline.complete} of {baseline.expected} entries" if consented else "",
            "url": f"{url}/visits/{baseline.lacking[0][0]}" if consented and baseline.lacking else "",
        },
    ]
    if here.the_study.definition.is_allocated:
        steps.append({"label": "Randomise", "state": "current" if filled and not waits else "todo"})
    if stage := here.the_study.definition.allocation.first_stage:
        early = stage.after == "screening"
        state = "done" if not waits else "current" if early or consented else "todo"
        steps.insert(1 if early else 2, {"label": stage.label, "state": state})
        if state == "current":
            steps = [
                {**each, "state": "todo"} if each["state"] == "current" and each["label"] != stage.label else each
                for each in steps
            ]
    return steps


def _randomise(
    here: Here, participant: Participant, consents: Sequence[Consent], baseline: Baseline
) -> dict[str, str | None] | None:
    """Where to randomise, or why not yet; None in a study that allocates nobody."""
    if not here.the_study.definition.is_allocated:
        return None
    names = [label for _, _, label in baseline.lacking]
    lacking = ", ".join(names) if len(names) < 4 else f"{len(names)} of {baseline.expected} entries"
    reason = (
        why_not(here.actor, Permission.PARTICIPANT_RANDOMISE, site_id=participant.site_id)
        or consent_rules.why_no_consent(consents)
        or (f"Still to complete at baseline: {lacking}." if names else None)
    )
    return {"url": f"{_url(here, participant.code)}/randomise", "reason": reason}


def _next_step(
    here: Here,
    participant: Participant,
    consents: Sequence[Consent],
    baseline: Baseline,
    visits: Sequence[ParticipantVisit],
    today: date,
    *,
    may_read: bool,
    stage: FirstStage | None = None,
) -> dict[str, str | None] | None:
    """The one thing to do next for this participant, as a button; None when nothing is left or it is not theirs."""
    url, status, definition = _url(here, participant.code), Status(participant.status), here.the_study.definition

    def step(label: str, icon: str, target: str, permission: Permission) -> dict[str, str | None]:
        reason = why_not(here.actor, permission, site_id=participant.site_id)
        return {"label": label, "icon": icon, "url": target, "reason": reason}

    consented = consent_rules.why_no_consent(consents) is None
    if status in OPEN and stage and (consented or stage.after == "screening"):
        label = f"{stage.label}: randomise, first step"
        return step(label, "shuffle", f"{url}/randomise", Permission.PARTICIPANT_RANDOMISE)
    if status in OPEN and not consented:
        if pending := _pending(consents):
            target = f"{url}/consents/{pending.id}/countersign"
            return step("Countersign consent", "signature", target, Permission.CONSENT_COUNTERSIGN)
        return step("Record consent", "file-check", f"{url}/consent", Permission.CONSENT_RECORD)
    if status in OPEN and baseline.lacking:
        visit, form, label = baseline.lacking[0]
        target = f"{url}/visits/{visit}/entries/{form}"
        return step(f"Fill in {label}", "clipboard-list", target, Permission.ENTRY_SAVE) if may_read else None
    if status in OPEN and definition.is_allocated:
        target = f"{url}/randomise"
        return step(f"Randomise {participant.code}", "shuffle", target, Permission.PARTICIPANT_RANDOMISE)
    waiting = [
        visit
        for visit in visits
        if visit.kind != VisitKind.TREATMENT and visit_state(visit, today) in (VisitState.DUE, VisitState.OVERDUE)
    ]
    if waiting and may_read:
        label = f"Open {_label(definition, waiting[0].code)}"
        return {"label": label, "icon": "calendar-check", "url": f"{url}/visits/{waiting[0].code}", "reason": None}
    taking_part = status is Status.RANDOMISED or (status in OPEN and not definition.is_allocated)
    if taking_part and visits and not any(visit.status == VisitStatus.PLANNED for visit in visits):
        return step("Record completion", "circle-check", f"{url}/completion", Permission.PARTICIPANT_WITHDRAW)
    return None


def _timeline(
    here: Here, participant: Participant, visits: Sequence[ParticipantVisit], today: date
) -> list[dict[str, Any]]:
    """What `ui.timeline` draws: the steps into the trial as points, then every visit that has dates."""
    definition = here.the_study.definition
    points = [
        (here.tell("Screened"), participant.screened_on, ""),
        (here.tell("Consent"), participant.consented_on, ""),
        (here.tell("Randomised"), participant.randomised_on, f"{_url(here, participant.code)}/randomised"),
    ]
    drawn: list[dict[str, Any]] = [
        {"label": label, "target": on, "opens": None, "closes": None, "held_on": on, "status": "done", "url": url}
        for label, on, url in points
        if on is not None
    ]
    for visit in visits:
        planned, in_error = definition.visit(visit.code), visit.status == VisitStatus.IN_ERROR
        label = _short(planned) if planned else visit.code
        if in_error:
            label = f"{planned.label if planned else visit.code} ({here.tell('Entered in error')})"
        drawn.append(
            {
                "label": label,
                "target": visit.target_on,
                "opens": visit.opens_on,
                "closes": visit.closes_on,
                "held_on": visit.held_on,
                "status": MARKS[visit_state(visit, today)],
                "url": _visit_url(here, participant.code, visit.code, visit.kind, participant.site_id),
                # Twelve sessions would crowd the line: they are marks, named on hover and in the list.
                "unnamed": visit.kind == VisitKind.TREATMENT or in_error,
            }
        )
    if participant.withdrawn_on is not None:
        on = participant.withdrawn_on
        drawn.append(
            {
                "label": here.tell("Withdrew"),
                "target": on,
                "opens": None,
                "closes": None,
                "held_on": on,
                "status": "none",
            }
        )
    return drawn


def _waiting(definition: Study, visits: Sequence[ParticipantVisit], today: date, state: VisitState) -> list[str]:
    """The visits in this state, by name; treatment sessions are the clinician's to worry about."""
    mine = [visit for visit in visits if visit.kind != VisitKind.TREATMENT]
    return [_label(definition, visit.code) for visit in mine if visit_state(visit, today) is state]


def _short(visit: Visit) -> str:
    """A label that finds room on a line: treatment sessions are many, so they go by their short name."""
    return (visit.short if visit.kind is VisitKind.TREATMENT or len(visit.label) > 12 else None) or visit.label


def _matrix(
    here: Here,
    participant: Participant,
    visits: Sequence[ParticipantVisit],
    marks: Mapping[tuple[str, str], EntryMark],
    pairs: Mapping[tuple[str, str], tuple[State, str]],
    drafts: frozenset[tuple[str, str]],
    locks: Sequence[Lock],
    today: date,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Visits by forms: the columns, and one row per form with a mark for each entry that is expected."""
    definition, url = here.the_study.definition, _url(here, participant.code)
    dated = {visit.code: visit for visit in visits}
    planned = [visit for visit in definition.visits if visit.instruments]
    outside = (
        definition.visit(visit.code)
        for visit in visits
        if unscheduled_number(visit.code) is not None and visit.status != VisitStatus.IN_ERROR
    )
    planned += [visit for visit in outside if visit is not None and visit not in planned]
    columns: list[dict[str, Any]] = []
    for visit in planned:
        row = dated.get(visit.code)
        note = (row.held_on or row.target_on) if row else None
        columns.append(
            {
                "label": visit.short or visit.label,
                "note": day(note, here.language),
                "url": f"{url}/visits/{visit.code}" if row else "",
            }
        )
    rows = []
    adds = may(here.actor, Permission.ENTRY_SAVE, site_id=participant.site_id)
    for form in filter(None, map(definition.instrument, dict.fromkeys(c for v in planned for c in v.instruments))):
        cells: list[dict[str, Any] | None] = []
        for visit in planned:
            if form.code not in visit.instruments:
                cells.append(None)
                continue
            place = (visit.code, form.code)
            status = _mark(
                dated.get(visit.code),
                marks.get(place),
                today,
                has_draft=place in drafts,
                pair=pairs.get(place, (None, ""))[0],
                locked=is_locked(locks, visit.code),
            )
            cell: dict[str, Any] = {"status": status}
            if (mark := marks.get(place)) is not None and mark.is_in_error and not form.repeats:
                cell |= {"status": "none", "note": here.tell("Entered in error")}
            if visit.code in dated and (status != "none"):
                cell["url"] = f"{url}/visits/{visit.code}/entries/{form.code}"
            if form.repeats and mark is not None:
                cell |= _repeats(form, mark, f"{url}/visits/{visit.code}", is_locked(locks, visit.code))
                if not adds or is_locked(locks, visit.code):
                    cell["add"] = ""
            cells.append(cell)
        rows.append({"label": form.label, "entries": cells})
    return columns, rows


def _repeats(form: Instrument, mark: EntryMark, visit_url: str, locked: bool) -> dict[str, Any]:
    """Each time a form was filled in at a visit, and where it is filled in once more; of many the latest."""
    shown = mark.repeats[-MOST_SHOWN:]
    following = len(mark.repeats) + 1
    return {
        "repeats": [
            {
                "number": each.repeat,
                "status": "none" if each.is_in_error else _entry_mark(each, locked=locked),
                "word": "Entered in error" if each.is_in_error else "",
                "url": f"{visit_url}/entries/{form_name(form.code, each.repeat)}",
            }
            for each in shown
        ],
        "earlier": len(mark.repeats) - len(shown),
        "all": f"{visit_url}#forms",
        "add": f"{visit_url}/entries/{form_name(form.code, following)}" if following <= form.most_repeats else "",
    }


def _entry_mark(entry: EntryMark, *, locked: bool, pair: State | None = None) -> str:
    return entry_mark(
        entry.status,
        has_query=entry.has_query,
        is_signed=entry.is_signed,
        is_verified=entry.is_verified,
        is_locked=locked,
        pair=pair,
    )


def _mark(
    visit: ParticipantVisit | None,
    entry: EntryMark | None,
    today: date,
    *,
    has_draft: bool,
    locked: bool,
    pair: State | None,
) -> str:
    if entry is not None:
        return _entry_mark(entry, locked=locked, pair=pair)
    if has_draft:
        return "draft"
    if visit is None or visit_state(visit, today) is VisitState.UPCOMING:
        return "planned"
    if visit.status == VisitStatus.MISSED:
        return "missed"
    return "none" if visit.status in (VisitStatus.STOPPED, VisitStatus.IN_ERROR) else "empty"


def _options(here: Here, consents: Sequence[Consent]) -> list[tuple[str, consent_rules.Option]]:
    """How each optional consent stands: its label, and since when it is given or not."""
    labels = {choice.code: choice.label for choice in here.the_study.definition.consent.optional}
    return [(labels.get(code, code), each) for code, each in options_now(here.session, consents).items()]


def _consent_row(here: Here, participant: Participant, consent: Consent) -> dict[str, Any]:
    document = next(
        (
            one
            for one in here.the_study.definition.consent_documents
            if (one.version, one.language) == (consent.document_version, consent.language)
        ),
        None,
    )
    return {
        "consent": consent,
        "title": document.title if document else "",
        "url": f"{_url(here, participant.code)}/consents/{consent.id}",
        "options": len(here.the_study.definition.consent.optional),
    }


def _failure(definition: Study, screening: ScreeningResult | None) -> str:
    """Why they do not take part, in words: a reason of the protocol, or the criteria that were not met."""
    if screening is None or not screening.failure_reason:
        return ""
    labels = _reasons(definition)
    if screening.failure_reason in labels:
        return labels[screening.failure_reason]
    criteria = {criterion.code: criterion.label for criterion in definition.eligibility.criteria}
    parts = screening.failure_reason.split(",")
    return ", ".join(criteria[part] for part in parts) if set(parts) <= set(criteria) else screening.failure_reason


def _recent(here: Here, participant: Participant) -> Sequence[Mapping[str, Any]] | None:
    """The last of the log about this participant, for readers of the log and for the coordinators of their site."""
    at_site = [grant.role for grant in here.actor.grants if grant.site_id in (None, participant.site_id)]
    if not may(here.actor, Permission.AUDIT_READ, site_id=participant.site_id) and Role.COORDINATOR not in at_site:
        return None
    wanted = AuditFilter(participant=participant.code)
    found = audit_entries(here.session, here.the_study.code, wanted, limit=RECENT * 10).rows
    hidden = withheld_subjects(here.session, here.the_study.definition, participant, by=here.actor)
    theirs = [each for each in found if each["subject"] not in hidden]
    definition = here.the_study.definition
    timezone = places_of(here).timezone(participant.site_id)
    return told(theirs, definition, timezone, here.language, named=False, names=here.names)[:RECENT]


def _why_not_withdraw(definition: Study, participant: Participant) -> str | None:
    """Why no withdrawal can be recorded at all, or None when some level can be."""
    status, current = Status(participant.status), withdrawal_level(definition, participant.withdrawal_level or "")
    reasons = [why_not_withdraw(status, current, each) for each in definition.withdrawal_levels]
    if not reasons:
        return "This study has no levels of withdrawal. Ask your administrator to add them to the protocol."
    return None if None in reasons else reasons[-1]


# Who they are


@router.post("/{study}/participants/{code}/personal-data", name="participants.show_identity")
def show_identity(here: ChangeInStudy, code: str) -> Response:
    """Show who a participant is. That it was shown, and to whom, is in the log."""
    participant = reads.participant_by_code(here.session, here.the_study, code, by=here.actor)
    revealed = actions.reveal_identity(here.session, here.the_study, participant, by=here.actor, now=here.now)
    here.release_key()  # looking again is no change, and is written down again
    here.shows()
    places = places_of(here)
    return show_at(
        here,
        places,
        "participants/show_identity.html",
        participant=participant,
        url=_url(here, participant.code),
        personal=revealed.personal,
        why_not_change=why_not(here.actor, Permission.IDENTITY_CHANGE, site_id=participant.site_id),
    )


@router.get("/{study}/participants/{code}/identity", name="participants.identity_form")
def identity_form(here: LoggedPageInStudy, code: str) -> Response:
    """The form to correct who a participant is; showing it is in the log."""
    participant = _changeable(here, code)
    revealed = actions.reveal_identity(here.session, here.the_study, participant, by=here.actor, now=here.now)
    return _identity_page(here, participant, revealed.personal.items(), revealed.version)


@router.post("/{study}/participants/{code}/identity", name="participants.identity")
def identity(here: ChangeInStudy, code: str) -> Response:
    """Correct who a participant is, and say why."""
    participant = _changeable(here, code)
    typed = {name: here.value(name) for name in FIELDS}
    said = here.value("version")
    version = int(said) if said.isdecimal() and len(said) < 20 else 0
    try:
        actions.change_identity(
            here.session,
            here.the_study,
            participant,
            personal=PersonalData(**typed),
            version=min(version, LARGEST_VERSION),
            why=here.value("why"),
            by=here.actor,
            now=here.now,
        )
    except Invalid as problem:
        here.refuse(problem)
        return _identity_page(here, participant, typed, version, problem=problem)
    except Conflict as problem:
        here.refuse(problem)
        now = actions.reveal_identity(here.session, here.the_study, participant, by=here.actor, now=here.now)
        return _identity_page(here, participant, typed, now.version, conflict=problem, stored=now.personal.items())
    return here.redirect(_url(here, participant.code), done="identity_changed")


def _changeable(here: Here, code: str) -> Participant:
    participant = reads.participant_by_code(here.session, here.the_study, code, by=here.actor)
    subject = f"{participant.code}/identity"
    require(here.actor, Permission.IDENTITY_CHANGE, site_id=participant.site_id, subject=subject)
    return participant


def _identity_page(
    here: Here,
    participant: Participant,
    typed: Mapping[str, str | None],
    version: int,
    *,
    problem: Invalid | None = None,
    conflict: Conflict | None = None,
    stored: Mapping[str, str | None] | None = None,
) -> Response:
    places = places_of(here)
    problems = [(each.field, each.message) for each in problem.problems] if problem else []
    return show_at(
        here,
        places,
        "participants/identity.html",
        status_code=422 if problem else 409 if conflict else 200,
        participant=participant,
        url=_url(here, participant.code),
        personal=typed,
        version=version,
        why=here.value("why"),
        problems=problems,
        errors=dict(problems),
        conflict=conflict.reason if conflict else None,
        stored=stored,
        today=places.today(here, participant.site_id),
    )


# Not taking part after all


@router.get("/{study}/participants/{code}/not-taking-part", name="participants.not_taking_part_form")
def not_taking_part_form(here: PageInStudy, code: str) -> Response:
    """What it means that somebody who passed the pre-screen does not take part, before it is recorded."""
    return _not_taking_part_page(here, _withdrawing(here, code))


@router.post("/{study}/participants/{code}/not-taking-part", name="participants.not_taking_part")
def not_taking_part(here: ChangeInStudy, code: str) -> Response:
    """Record that somebody who passed the pre-screen does not take part, and why: CONSORT counts them by it."""
    participant = _withdrawing(here, code)
    reason, why = here.value("reason"), here.value("why")
    said = why or _reasons(here.the_study.definition).get(reason, reason)
    by, now = here.actor, here.now
    try:
        actions.fail_screening(here.session, here.the_study, participant, reason=reason, why=why, by=by, now=now)
        refuse_staged(here, participant, action=actions.FAIL_SCREENING)
        stop_visits(here.session, here.the_study, participant, why=said, by=by, now=now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _not_taking_part_page(here, _withdrawing(here, code), problem=problem)
    return here.redirect(_url(here, participant.code), done="screen_failed")


def _reasons(definition: Study) -> dict[str, str]:
    return {choice.code: choice.label for choice in definition.screen_failure_reasons}


def _why_not_fail(here: Here, participant: Participant) -> str | None:
    definition, status = here.the_study.definition, Status(participant.status)
    why_not = why_not_transition(status, Status.SCREEN_FAILED, is_allocated=definition.is_allocated)
    return why_not or why_not_left_out(here, participant)


def _not_taking_part_page(
    here: Here, participant: Participant, *, problem: Invalid | Refused | None = None
) -> Response:
    problems = problem.problems if isinstance(problem, Invalid) else []
    return show_at(
        here,
        places_of(here),
        "participants/not_taking_part.html",
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant.code),
        reasons=list(_reasons(here.the_study.definition).items()),
        values={name: here.value(name) for name in ("reason", "why")},
        errors={"reason" if each.field == "failure_reason" else each.field: each.message for each in problems},
        refused=problem.reason if isinstance(problem, Refused) else _why_not_fail(here, participant),
    )


# Withdrawal


@router.get("/{study}/participants/{code}/withdraw", name="participants.withdraw_form")
def withdraw_form(here: PageInStudy, code: str) -> Response:
    """What a withdrawal does, before it is done."""
    return _withdraw_page(here, _withdrawing(here, code))


@router.post("/{study}/participants/{code}/withdraw", name="participants.withdraw")
def withdraw(here: ChangeInStudy, code: str) -> Response:
    """Record how far a participant withdraws, and why; what is still due stops with it."""
    participant = _withdrawing(here, code)
    level = withdrawal_level(here.the_study.definition, here.value("level"))
    reason = here.value("why")
    try:
        on = typed_day(here.value("on"), "on")
        if level is None:
            raise Invalid([FieldProblem("level", "choice", "Choose how far the participant withdraws.")])
        require_password(here, here.form.get("password", [""])[-1])
        actions.withdraw(
            here.session,
            here.the_study,
            participant,
            level=level.code,
            reason=reason,
            on=on,
            by=here.actor,
            now=here.now,
        )
        follow_withdrawal(here.session, here.the_study, participant, level, why=reason, by=here.actor, now=here.now)
        if here.value("consent"):
            withdraw_consent(here.session, here.the_study, participant, on=on, why=reason, by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _withdraw_page(here, _withdrawing(here, code), problem=problem)
    return here.redirect(_url(here, participant.code), done="withdrawn")


@router.get("/{study}/participants/{code}/withdrawal-taken-back", name="participants.take_back_form")
def take_back_form(here: PageInStudy, code: str) -> Response:
    """What it means to take back a withdrawal that was recorded by mistake."""
    return _take_back_page(here, _withdrawing(here, code))


@router.post("/{study}/participants/{code}/withdrawal-taken-back", name="participants.take_back")
def take_back(here: ChangeInStudy, code: str) -> Response:
    """Take back a withdrawal that was recorded by mistake; what it had stopped is due again."""
    participant = _withdrawing(here, code)
    why, by, now = here.value("why"), here.actor, here.now
    try:
        require_password(here, here.form.get("password", [""])[-1])
        actions.take_back_withdrawal(here.session, here.the_study, participant, why=why, by=by, now=now)
        plan_stopped_again(here.session, here.the_study, participant, why=why, by=by, now=now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _take_back_page(here, _withdrawing(here, code), problem=problem)
    return here.redirect(_url(here, participant.code), done="withdrawal_taken_back")


def _take_back_page(here: Here, participant: Participant, *, problem: Invalid | Refused | None = None) -> Response:
    level = withdrawal_level(here.the_study.definition, participant.withdrawal_level or "")
    refused = why_not_take_back(
        Status(participant.status), participant.withdrawal_level, erased=_is_erased(here, participant)
    )
    return _sure_page(
        here,
        participant,
        "participants/take_back.html",
        refused,
        problem,
        level=level.label if level else participant.withdrawal_level,
    )


# Erasing who they are


@router.get("/{study}/participants/{code}/erase", name="participants.erase_form")
def erase_form(here: PageInStudy, code: str) -> Response:
    """What it means to erase who somebody is, before it is done."""
    return _erase_page(here, _withdrawing(here, code))


@router.post("/{study}/participants/{code}/erase", name="participants.erase")
def erase(here: ChangeInStudy, code: str) -> Response:
    """Destroy who a participant is, for good; what was collected for the study stays under the code."""
    participant = _withdrawing(here, code)
    try:
        require_password(here, here.form.get("password", [""])[-1], here.value("code") or None, code_needed=True)
        why, by, now = here.value("why"), here.actor, here.now
        actions.erase_identity(here.session, here.the_study, participant, why=why, by=by, now=now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _erase_page(here, _withdrawing(here, code), problem=problem)
    return here.redirect(_url(here, participant.code), done="erased")


def _erase_page(here: Here, participant: Participant, *, problem: Invalid | Refused | None = None) -> Response:
    refused = why_not_erase(Status(participant.status), erased=_is_erased(here, participant))
    ask_code = here.signed_in.second_factors if here.signed_in else ()
    return _sure_page(here, participant, "participants/erase.html", refused, problem, ask_code=ask_code)


def _is_erased(here: Here, participant: Participant) -> bool:
    assert participant.id is not None
    return participant_key(here.session, participant.id) is None


def _sure_page(
    here: Here,
    participant: Participant,
    template: str,
    refused: str | None,
    problem: Invalid | Refused | None,
    **more: object,
) -> Response:
    """A page that says what an act does and asks why; with the reason alone where it cannot be done."""
    problems = problem.problems if isinstance(problem, Invalid) else []
    return show_at(
        here,
        places_of(here),
        template,
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant.code),
        refused=problem.reason if isinstance(problem, Refused) else refused,
        may_act=refused is None,
        errors={each.field: each.message for each in problems},
        values={"why": here.value("why")},
        **more,
    )


def _withdrawing(here: Here, code: str) -> Participant:
    participant = reads.participant_by_code(here.session, here.the_study, code, by=here.actor)
    subject = f"{participant.code}/withdrawal"
    require(here.actor, Permission.PARTICIPANT_WITHDRAW, site_id=participant.site_id, subject=subject)
    return participant


def _effects(level: WithdrawalLevel, *, stays: bool, ended: bool) -> str:
    """What a level of withdrawal does, said before it is chosen; `ended`: no visit is left to stop."""
    said = []
    if not ended:
        if stays and level.stops_treatment and not level.stops_visits:
            said.append("Treatment sessions that are still due stop.")
        said.append("Visits that are still due stop." if level.stops_visits or not stays else "Visits go on.")
    if level.stops_contact or level.erases_identity:
        said.append("No reminder goes to them any more.")
    if level.stops_use:
        said.append(
            "What is collected from that day on is in no export. Adverse events stay in them, for the safety of all, "
            "and so do deviations from the protocol."
        )
    if level.erases_identity:
        said.append("Who they are is erased at once, for good.")
    return " ".join(said)


def _withdraw_page(here: Here, participant: Participant, *, problem: Invalid | Refused | None = None) -> Response:
    assert participant.id is not None
    places, definition = places_of(here), here.the_study.definition
    today = places.today(here, participant.site_id)
    stays = Status(participant.status) is Status.RANDOMISED
    status, current = Status(participant.status), withdrawal_level(definition, participant.withdrawal_level or "")
    ended = status in (Status.WITHDRAWN, Status.COMPLETED)
    levels = [
        (
            level.code,
            level.label,
            _effects(level, stays=stays, ended=ended),
        )
        for level in definition.withdrawal_levels
        # Who is not randomised has no treatment to stop and visits to go on with: they leave, whatever is said.
        if (stays or level.stops_visits or not any(each.stops_visits for each in definition.withdrawal_levels))
        # Who has withdrawn, or completed the study, can only go further.
        and (not (ended or current) or why_not_withdraw(status, current, level) is None)
    ]
    problems = problem.problems if isinstance(problem, Invalid) else []
    errors = {"why" if each.field == "reason" else each.field: each.message for each in problems}
    values = {name: here.value(name) for name in ("level", "on", "why", "consent")}
    consents = consents_of(here.session, participant.id)
    return show_at(
        here,
        places,
        "participants/withdraw.html",
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant.code),
        today=today,
        levels=levels,
        values={**values, "on": values["on"] or (today.isoformat() if not here.form else "")},
        errors=errors,
        refused=problem.reason if isinstance(problem, Refused) else _why_not_withdraw(definition, participant),
        current=current.label if current else participant.withdrawal_level,
        holds_consent=any(consent_rules.stands(consent) for consent in consents),
        booked=booked_ahead(here, participant),
        timezone=places.timezone(participant.site_id),
    )
