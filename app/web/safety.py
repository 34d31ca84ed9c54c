"""Safety: adverse events, listed, reported, followed up, judged, reviewed; and the clocks that run for them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from fastapi.responses import RedirectResponse, Response

from app.capture.coding.reads import codes_of_events
from app.dependencies import ChangeInStudy, Here, PageInStudy, database_of, require_password
from app.foundation.errors import Conflict, FieldProblem, Invalid, Problem, Refused
from app.foundation.paging import LARGEST_PAGE, every_page
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.safety.events import actions, reads
from app.safety.events.reads import ClockRow, EventRow, Judgement, Running, Sort, Wanted
from app.safety.events.rules import (
    Act,
    Action,
    ClockState,
    Criterion,
    Details,
    Outcome,
    Report,
    changed,
    clock_begins,
    details_problems,
    due_at,
    expected_by_list,
    news_of,
    time_left,
    waits_for,
    why_not_second,
)
from app.safety.events.rules import why_not as why_not_act
from app.safety.words import to_confirm
from app.web.pages import pages
from app.web.places import Places, date_said, narrowed, places_of, show_at, typed_day
from app.web.shell import errors_of, status_of
from app.web.tables import address, column, csv_file, typed_text

router = pages()

FILE = (
    "number",
    "participant",
    "site",
    "term",
    "code",
    "onset",
    "severity",
    "serious",
    "outcome",
    "state",
    "relatedness",
    "expected",
    "version",
    "reported_at",
    "reported_by",
)
FILTERS = ("find", "site", "serious", "waiting", "participant")
TEXTS = ("term", "code", "onset", "ended", "severity", "action", "outcome", "narrative")


# The list


@router.get("/{study}/safety", name="safety.events")
def events(here: PageInStudy) -> Response:
    """The adverse events at my sites; of who treats, those they reported."""
    if not may(here.actor, Permission.EVENT_REPORT):
        require(here.actor, Permission.SAFETY_READ)
    study, asked = here.the_study, here.request.query_params
    places = places_of(here)
    path = f"/{study.code}/safety"
    name = (asked.get("sort") or "").removeprefix("-")
    sort = next((each for each in Sort if each == name), Sort.NUMBER)
    descending = (asked.get("sort") or "-number").startswith("-")
    query: dict[str, str | None] = {each: typed_text(asked.get(each), 80) or None for each in FILTERS}
    if "site" not in asked and places.chosen is not None:
        query["site"] = places.chosen.code
    query["sort"] = None if (sort, descending) == (Sort.NUMBER, True) else f"{'-' if descending else ''}{sort}"
    wanted = _wanted(query)
    if asked.get("format") == "csv":
        rows = _file_rows(here, wanted, sort, descending=descending)
        return csv_file(f"{study.code}-adverse-events-{here.now:%Y-%m-%d}", FILE, rows)
    found = reads.events_page(
        here.session,
        study,
        by=here.actor,
        wanted=wanted,
        sort=sort,
        descending=descending,
        cursor=asked.get("after") or None,
    )
    all_seen = may(here.actor, Permission.SAFETY_READ)
    due = reads.due_of(here.session, [row.number for row in found.rows if row.serious]) if all_seen else {}
    headings = {
        Sort.NUMBER: "Number",
        Sort.PARTICIPANT: "Participant",
        Sort.ONSET: "Onset",
        Sort.STATE: "State",
    }
    return show_at(
        here,
        places,
        "safety/events.html",
        path=path,
        query=query,
        columns={key.value: column(label, key, path, query, default="-number") for key, label in headings.items()},
        rows=[_listed(here, row, due.get(row.number)) for row in found.rows],
        several=len(places.sites) > 1 and not query["site"],
        active=sum(1 for each in FILTERS if query[each] and (each != "site" or query[each] != "all")),
        newer=address(path, query, after=found.previous) if found.previous else None,
        older=address(path, query, after=found.next) if found.next else None,
        csv_url=address(path, query, format="csv") if found.rows else None,
        tabs=tabs_of(here),
        here_tab="events",
        all_seen=all_seen,
        may_report=may(here.actor, Permission.EVENT_REPORT),
        timezone=places.timezone(),
    )


def _wanted(query: Mapping[str, str | None]) -> Wanted:
    serious = {"yes": True, "no": False}.get(query["serious"] or "")
    waiting = query["waiting"] if query["waiting"] in ("judgement", "review") else None
    code = (query["participant"] or "").upper() or None
    site = None if query["site"] == "all" else query["site"]
    return Wanted(site=site, participant=code, serious=serious, waiting=waiting, search=query["find"])


def tabs_of(here: Here) -> list[tuple[str, str, str]]:
    """The lists of Safety that this person may read: key, label, address."""
    root = f"/{here.the_study.code}/safety"
    found = [("events", "Adverse events", root)]
    if may(here.actor, Permission.SAFETY_READ):
        found += [
            ("deviations", "Deviations", f"{root}/deviations"),
            ("screening", "Screening log", f"{root}/screening"),
        ]
    return found


def _listed(here: Here, row: EventRow, due: datetime | None) -> dict[str, Any]:
    safety = here.the_study.definition.safety
    return {
        "row": row,
        "severity": next(
            (here.tell(grade.label) for grade in safety.severity if grade.code == row.severity), row.severity
        ),
        "waits": waits_for(safety, row.state, serious=row.serious),
        "due": due,
        "left": time_left(due, here.now) if due else "",
        "over": due is not None and due < here.now,
    }


def _file_rows(here: Here, wanted: Wanted, sort: Sort, *, descending: bool) -> Iterator[Sequence[object]]:
    asked: dict[str, Any] = {"by": here.actor, "wanted": wanted, "sort": sort, "descending": descending}
    with database_of(here.request).reading() as session:
        for found in every_page(
            lambda cursor: reads.events_page(session, here.the_study, **asked, cursor=cursor, limit=LARGEST_PAGE)
        ):
            for row in found.rows:
                yield [_cell(getattr(row, name)) for name in FILE]


def _cell(value: Any) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.isoformat() if hasattr(value, "isoformat") else value


# Reporting


@router.get("/{study}/participants/{code}/adverse-events/new", name="safety.report_form")
def report_form(here: PageInStudy, code: str) -> Response:
    """Report an adverse event of a participant."""
    return _report_page(here, _to_report(here, code))


@router.post("/{study}/participants/{code}/adverse-events/new", name="safety.report")
def report(here: ChangeInStudy, code: str) -> Response:
    """Keep the report, set its clocks, and tell those the study names."""
    participant = _to_report(here, code)
    try:
        said, aware_at = _typed(here, participant.site_id)
        number = actions.report(
            here.session,
            here.the_study,
            participant,
            said,
            aware_at=aware_at,
            confirmed=here.form.get("confirmed", ()),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _report_page(here, participant, problem=problem)
    return here.redirect(f"/{here.the_study.code}/safety/events/{number}", done="event_reported")


def _to_report(here: Here, code: str) -> Participant:
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    where = {"subject": f"{participant.code}/adverse_event", "action": actions.REPORTING}
    require(here.actor, Permission.EVENT_REPORT, site_id=participant.site_id, **where)
    return participant


def _texts(here: Here) -> dict[str, str]:
    return {name: date_said(here, name) if name in ("onset", "ended") else here.value(name) for name in TEXTS}


def _typed(here: Here, site_id: int) -> tuple[Details, datetime]:
    """What is said of an event, and when the site learnt of it; everything that is wrong with it is said at once."""
    criteria, serious = here.form.get("criteria", ()), here.value("serious")
    said, aware_at = Details(**_texts(here), criteria=tuple(criteria)).tidy(), here.now
    wrong: list[FieldProblem] = []
    if serious not in ("yes", "no"):
        wrong.append(FieldProblem("serious", "required", "Say whether it is serious."))
    elif (serious == "yes") != bool(criteria):
        words = "Say why it is serious: tick what holds." if serious == "yes" else "What is ticked makes it serious."
        wrong.append(FieldProblem("criteria", "required", f"{words} Make both answers agree."))
    try:
        aware_at = typed_moment(here, "aware", site_id)
    except Invalid as problem:
        wrong += problem.problems
    if wrong:
        known, today = {each.field for each in wrong}, places_of(here).today(here, site_id)
        others = details_problems(here.the_study.definition, said, aware_at=aware_at, today=today, now=here.now)
        raise Invalid([*wrong, *(each for each in others if each.field not in known)])
    return said, aware_at


def typed_moment(here: Here, name: str, site_id: int) -> datetime:
    """A day and a time at the site, from two fields."""
    zone = ZoneInfo(places_of(here).timezone(site_id))
    day = typed_day(here.value(f"{name}_on"), f"{name}_at")
    try:
        clock = datetime.strptime(here.value(f"{name}_time")[:5], "%H:%M").time()  # noqa: DTZ007 a time of day has no zone
    except ValueError:
        words = "Type the time as HH:MM, as it was at the site."
        raise Invalid([FieldProblem(f"{name}_at", "time", words)]) from None
    return datetime.combine(day, clock, tzinfo=zone)


def _report_page(here: Here, participant: Participant, *, problem: Problem | None = None) -> Response:
    values: dict[str, Any] = {name: here.value(name) for name in TEXTS}
    places = places_of(here)
    local = here.now.astimezone(ZoneInfo(places.timezone(participant.site_id)))
    if not here.form:
        values |= {"outcome": typed_text(here.request.query_params.get("outcome"), 20)}
        values |= {"aware_on": local.date().isoformat(), "aware_time": f"{local:%H:%M}"}
        fatal = values["outcome"] == Outcome.FATAL
        values |= {"serious": "yes" if fatal else "", "criteria": [Criterion.DEATH.value] if fatal else []}
    return show_at(
        here,
        places,
        "safety/report.html",
        status_code=status_of(problem),
        participant=participant,
        url=f"/{here.the_study.code}/participants/{participant.code}",
        **_form(here, values, problem),
        today=places.today(here, participant.site_id),
        timezone=places.timezone(participant.site_id),
    )


def _form(here: Here, values: dict[str, Any], problem: Problem | None) -> dict[str, Any]:
    """What the form of a report shows: what was typed, what is wrong, and words to confirm."""
    safety = here.the_study.definition.safety
    if here.form:
        values = {name: here.value(name) for name in (*TEXTS, "serious", "aware_on", "aware_time", "why", "kind")}
        values["criteria"] = list(here.form.get("criteria", ()))
    telling: list[str] = []
    problems = problem.problems if isinstance(problem, Invalid) else []
    if any(each.rule == "arm" for each in problems):
        texts = {name: values.get(name, "") for name in ("term", "narrative", "why")}
        telling = to_confirm(here.the_study.definition, here.actor, texts)
    return {
        "values": values,
        "errors": errors_of(problem),
        "problems": [(each.field, each.message) for each in problems],
        "refused": problem.reason if isinstance(problem, Refused | Conflict) else None,
        "terms": [(term.code, term.label) for term in safety.terms],
        "severities": [(grade.code, here.tell(grade.label)) for grade in safety.severity],
        "criteria": [each.value for each in Criterion],
        "outcomes": [each.value for each in Outcome],
        "treatment_actions": [each.value for each in Action],
        "telling": telling,
    }


# One event


@router.get("/{study}/safety/events/{number}", name="safety.event")
def event(here: PageInStudy, number: int) -> Response:
    """One event: as it stands, its clocks, its judgement, and everything that was ever reported of it."""
    return _event_page(here, number)


@router.get("/{study}/safety/events/{number}/follow-up", name="safety.follow_up_form")
def follow_up_form(here: PageInStudy, number: int) -> Response:
    """Add what is new, or correct what was wrong."""
    return _follow_up_page(here, _event(here, number, Permission.EVENT_REPORT))


@router.post("/{study}/safety/events/{number}/follow-up", name="safety.follow_up")
def follow_up(here: ChangeInStudy, number: int) -> Response:
    """Keep another report beside the ones before."""
    found = _event(here, number, Permission.EVENT_REPORT)
    try:
        kind = next((each for each in (Act.FOLLOW_UP, Act.CORRECTION) if each == here.value("kind")), None)
        if kind is None:
            raise Invalid([FieldProblem("kind", "choice", "Choose whether it is news, or a correction.")])
        said, aware_at = _typed(here, found.site_id)
        actions.report_again(
            here.session,
            here.the_study,
            number,
            said,
            kind=kind,
            aware_at=aware_at,
            corrects=here.number("corrects") if here.value("corrects") else None,
            why=here.value("why"),
            base_version=here.number("version"),
            confirmed=here.form.get("confirmed", ()),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _follow_up_page(here, _event(here, number, Permission.EVENT_REPORT), problem=problem)
    return here.redirect(_url(here, number), done="event_followed")


@router.post("/{study}/safety/events/{number}/void", name="safety.void")
def void(here: ChangeInStudy, number: int) -> Response:
    """Say that it was reported by mistake."""
    return _act(
        here,
        number,
        Permission.EVENT_REPORT,
        "event_voided",
        lambda: actions.void(
            here.session,
            here.the_study,
            number,
            why=here.value("why"),
            base_version=here.number("version"),
            by=here.actor,
            now=here.now,
        ),
    )


@router.post("/{study}/safety/events/{number}/judgement", name="safety.judge")
def judge(here: ChangeInStudy, number: int) -> Response:
    """Judge relatedness and expectedness, with the password again."""
    return _act(
        here,
        number,
        Permission.EVENT_JUDGE,
        "event_judged",
        lambda: actions.judge(
            here.session,
            here.the_study,
            number,
            relatedness=here.value("relatedness"),
            expected={"yes": True, "no": False}.get(here.value("expected")),
            words=here.value("words"),
            base_version=here.number("version"),
            prove=lambda: prove(here),
            by=here.actor,
            now=here.now,
        ),
    )


@router.post("/{study}/safety/events/{number}/review", name="safety.review")
def review(here: ChangeInStudy, number: int) -> Response:
    """Agree with a judgement as a second person, or return it."""
    return _act(
        here,
        number,
        Permission.EVENT_REVIEW,
        "event_reviewed",
        lambda: actions.review(
            here.session,
            here.the_study,
            number,
            agree=_agrees(here),
            words=here.value("words"),
            judgement=here.number("judgement"),
            prove=lambda: prove(here),
            by=here.actor,
            now=here.now,
        ),
    )


@router.post("/{study}/safety/events/{number}/clock", name="safety.stop_clock")
def stop_clock(here: ChangeInStudy, number: int) -> Response:
    """Write down that it was reported where a clock asks for it."""
    found = _event(here, number, Permission.EVENT_REPORT)
    _, _, typed = here.value("clock").partition("/")  # a clock by its code and, where it is for news, the version
    follows = int(typed) if typed.isdecimal() and len(typed) < 10 else None
    return _act(
        here,
        number,
        Permission.EVENT_REPORT,
        "clock_stopped",
        lambda: actions.stop_clock(
            here.session,
            here.the_study,
            number,
            here.value("clock").partition("/")[0],
            follows=follows,
            sent_at=typed_moment(here, "sent", found.site_id),
            reference=here.value("reference"),
            by=here.actor,
            now=here.now,
        ),
    )


@router.get("/{study}/safety/events/{number}/void", name="safety.void_form")
@router.get("/{study}/safety/events/{number}/judgement", name="safety.judge_form")
@router.get("/{study}/safety/events/{number}/review", name="safety.review_form")
@router.get("/{study}/safety/events/{number}/clock", name="safety.clock_form")
def back_to_the_event(here: PageInStudy, number: int) -> Response:
    """Where somebody lands who goes on without sending a form again: the event's page."""
    return RedirectResponse(_url(here, number), status_code=303)


def _act(here: Here, number: int, permission: Permission, done: str, act: Callable[[], None]) -> Response:
    """Do something about an event from its own page; what was typed stands there again when it cannot be."""
    _event(here, number, permission)
    try:
        act()
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _event_page(here, number, problem=problem)
    return here.redirect(_url(here, number), done=done)


def _event(here: Here, number: int, permission: Permission) -> EventRow:
    require(here.actor, permission, action="adverse_event.change", subject=f"/adverse_event/{number}")
    return reads.event_of(here.session, here.the_study, number, by=here.actor)


def _agrees(here: Here) -> bool:
    if here.value("agree") not in ("yes", "no"):
        raise Invalid([FieldProblem("agree", "choice", "Choose whether you agree with the judgement.")])
    return here.value("agree") == "yes"


def prove(here: Here) -> None:
    """Ask whoever signs for their password, and their code when they have one."""
    require_password(here, here.form.get("password", [""])[-1], here.value("code"), code_needed=True)


def _url(here: Here, number: int) -> str:
    return f"/{here.the_study.code}/safety/events/{number}"


def _follow_up_page(here: Here, found: EventRow, *, problem: Problem | None = None) -> Response:
    places = places_of(here)
    reports = reads.reports_of(here.session, found.number)
    last, news = reports[-1], news_of(reports)
    details, asked = last.details, here.request.query_params
    kind = here.value("kind") if here.form else asked.get("kind")
    corrects = kind == Act.CORRECTION
    of = here.value("corrects") if here.form else asked.get("of")
    told = next((each for each in news if str(each.version) == of), news[-1])
    local = (told.aware_at if corrects else here.now).astimezone(ZoneInfo(places.timezone(found.site_id)))
    values: dict[str, Any] = {name: getattr(details, name) for name in TEXTS}
    values |= {"serious": "yes" if details.serious else "no", "criteria": list(details.criteria), "why": ""}
    values |= {"aware_on": local.date().isoformat(), "aware_time": f"{local:%H:%M}"}
    return show_at(
        here,
        places,
        "safety/follow_up.html",
        status_code=status_of(problem),
        event=found,
        last=last,
        kind=Act.CORRECTION.value if corrects else Act.FOLLOW_UP.value,
        of=told,
        kinds={each.version: each.kind for each in reports},
        version=found.version,
        overtaken=isinstance(problem, Conflict),
        standing=_differs(here, details) if isinstance(problem, Conflict) else [],
        url=_url(here, found.number),
        list_url=f"/{here.the_study.code}/safety",
        why_not=why_not_act(found.state, Act.FOLLOW_UP),
        **_form(here, values, problem),
        today=places.today(here, found.site_id),
        timezone=places.timezone(found.site_id),
    )


def _differs(here: Here, stands: Details) -> list[dict[str, Any]]:
    """What stands now beside what was typed, where they differ."""
    criteria = tuple(here.form.get("criteria", ())) if here.value("serious") == "yes" else ()
    typed = Details(**_texts(here), criteria=criteria).tidy()
    return [_difference(here, *each) for each in changed(typed, stands)]


def _difference(here: Here, name: str, old: object, new: object) -> dict[str, Any]:
    return {"name": name, "old": _in_words(here, name, old), "new": _in_words(here, name, new)}


def _in_words(here: Here, name: str, value: object) -> list[str]:
    """The parts of one answer: codes of the study by their labels; the template has words for our own codes."""
    safety = here.the_study.definition.safety
    listed = {"code": safety.terms, "severity": safety.severity}.get(name, ())
    names = {each.code: here.tell(each.label) for each in listed}
    parts = value if isinstance(value, list | tuple) else [value] if value else []
    return [names.get(str(part), str(part)) for part in parts]


def _event_page(here: Here, number: int, *, problem: Problem | None = None) -> Response:
    if not may(here.actor, Permission.EVENT_REPORT):
        require(here.actor, Permission.SAFETY_READ)
    found = reads.event_of(here.session, here.the_study, number, by=here.actor)
    places, safety = places_of(here), here.the_study.definition.safety
    all_seen = reads.sees_all(here.actor, found.site_id)
    reports = reads.reports_of(here.session, number)
    judgements = reads.judgements_of(here.session, number) if all_seen else ()
    clocks = reads.clocks_of(here.session, number) if all_seen else ()
    last = next((each for each in reversed(judgements) if each.kind == Act.JUDGE), None)
    waits = waits_for(safety, found.state, serious=found.serious) if all_seen else None
    site_id = found.site_id
    local = here.now.astimezone(ZoneInfo(places.timezone(site_id)))
    names = {clock.code: clock.label for clock in safety.clocks}
    coded = safety.coding is not None and all_seen
    codes = codes_of_events(here.session, here.the_study, number) if coded else {}
    details = reports[-1].details
    by_list = expected_by_list(safety, details.code)
    fields = ("why", "relatedness", "expected", "words", "agree", "clock", "reference", "sent_on", "sent_time")
    values = {name: here.value(name) for name in fields}
    if not here.form:
        values |= {"sent_on": local.date().isoformat(), "sent_time": f"{local:%H:%M}"}
        values |= {"expected": {True: "yes", False: "no", None: ""}[by_list]}
    return show_at(
        here,
        places,
        "safety/event.html",
        status_code=status_of(problem),
        event=found,
        details=details,
        said={name: _in_words(here, name, getattr(details, name)) for name in ("code", "severity")},
        coded_as=codes.get(number),
        is_coded=coded,
        url=_url(here, number),
        list_url=f"/{here.the_study.code}/safety",
        participant_url=f"/{here.the_study.code}/participants/{found.participant}",
        all_seen=all_seen,
        waits=waits,
        history=[_told(here, after, before) for before, after in zip((None, *reports[:-1]), reports, strict=True)][
            ::-1
        ],
        judgements=[_judged(here, each) for each in reversed(judgements)],
        last=last,
        stale=last is not None and last.version != found.version,
        clocks=[_clock(here, each, names, reports) for each in clocks],
        news={each.version for each in news_of(reports)},
        relatedness=[(each.code, here.tell(each.label)) for each in safety.relatedness],
        expected_source=safety.expected_source,
        by_list=by_list,
        may_report=may(here.actor, Permission.EVENT_REPORT, site_id=site_id),
        why_not_follow=why_not_act(found.state, Act.FOLLOW_UP),
        may_judge=may(here.actor, Permission.EVENT_JUDGE, site_id=site_id),
        why_not_judge=why_not(here.actor, Permission.EVENT_JUDGE, site_id=site_id)
        or why_not_act(found.state, Act.JUDGE),
        may_review=may(here.actor, Permission.EVENT_REVIEW, site_id=site_id),
        why_not_review=why_not(here.actor, Permission.EVENT_REVIEW, site_id=site_id)
        or why_not_act(found.state, Act.AGREE)
        or why_not_second(last.by if last else None, here.actor.username),
        may_stop=all_seen and may(here.actor, Permission.EVENT_REPORT, site_id=site_id),
        refused=problem.reason if isinstance(problem, Refused | Conflict) else None,
        errors=errors_of(problem),
        values=values,
        tried=here.request.url.path.rsplit("/", 1)[-1] if problem else "",
        today=places.today(here, site_id),
        timezone=places.timezone(site_id),
        ask_code=here.signed_in.second_factors if here.signed_in is not None else (),
    )


def _clock(here: Here, each: ClockRow, names: Mapping[str, str], reports: Sequence[Report]) -> dict[str, Any]:
    """A deadline; and of one that was reported, when it would have been due by what is known now of its beginning."""
    clock = next((one for one in here.the_study.definition.safety.clocks if one.code == each.code), None)
    since = clock_begins(clock, each.follows, reports) if clock is not None and each.sent_at is not None else None
    moved = since is not None and since != each.started_at
    return {
        "clock": each,
        "label": names.get(each.code, each.code),
        "left": time_left(each.due_at, here.now),
        "over": each.due_at < here.now,
        "runs": each.state is ClockState.RUNNING,
        "in_time": each.sent_at is not None and each.sent_at <= each.due_at,
        "learnt_at": since if moved else None,
        "was_due_at": due_at(clock, since) if moved and clock is not None and since is not None else None,
    }


def _told(here: Here, report: Report, before: Report | None) -> dict[str, Any]:
    """One report of the history: what it changed against the one before."""
    differences = changed(before.details, report.details) if before is not None else []
    return {"report": report, "changes": [_difference(here, *each) for each in differences]}


def _judged(here: Here, judgement: Judgement) -> dict[str, Any]:
    relatedness = {each.code: here.tell(each.label) for each in here.the_study.definition.safety.relatedness}
    return {"judgement": judgement, "relatedness": relatedness.get(judgement.relatedness or "", "")}


# For other pages


def clocks_running(here: Here, places: Places) -> list[dict[str, Any]]:
    """The deadlines that run at my sites (or the chosen one), as Today shows them."""
    by = narrowed(here.actor, places.chosen)
    if not may(by, Permission.SAFETY_READ) or not here.the_study.definition.safety.clocks:
        return []
    names = {clock.code: clock.label for clock in here.the_study.definition.safety.clocks}
    return [_running(here, each, names) for each in reads.running_clocks(here.session, here.the_study, by=by)]


def _running(here: Here, each: Running, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "clock": each,
        "label": names.get(each.code, each.code),
        "left": time_left(each.due_at, here.now),
        "over": each.due_at < here.now,
        "url": _url(here, each.number),
    }
