"""Oversight: what in the log is worth a look since somebody reviewed it; who may do what; the reviews of both."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from fastapi.responses import Response
from sqlmodel import Session

from app.audit.clocks import read_clocks
from app.dependencies import ChangeInStudy, Here, PageInStudy, database_of
from app.exports.history import failed_between as exports_failed
from app.foundation import clock
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Problem, Refused
from app.foundation.languages import Gettext, translations
from app.people import reads as people
from app.people.access import may, require
from app.people.actions import record_access_review
from app.people.permissions import Permission
from app.people.reads import Access
from app.printing import Record, Row, record_pdf
from app.reports.review import actions, reads
from app.reports.review.period import COUNTED
from app.reports.review.period import period as read_period
from app.reports.review.reads import ReviewRow, Stretch
from app.reports.review.rules import SAID, Finding, Found, Kind, Line
from app.safety.words import to_confirm
from app.schedule.reminders.reads import not_sent_between as messages_failed
from app.studies.definition import Study
from app.web.acts import act_in_words
from app.web.audit import subject_in_words
from app.web.pages import pages
from app.web.people import software
from app.web.places import DAY_WANTED, Places, places_of, show_at, typed_day
from app.web.shell import errors_of, show, status_of
from app.web.tables import address, csv_file, kept_as
from app.webhooks.reads import failed_between as webhooks_failed

router = pages()

IN_TEN_SECONDS = "10; url="
"""When a browser looks again, of a page that is not ready."""
FILE = ("review", "reviewed_at", "reviewed_by", "sites", "from", "to", "head_size", "head_root", "finding", "number")
WORDS = ("word", "follows")
IN_LOG: dict[Kind, str] = {
    Kind.AFTER_SIGNATURE: "entry.",
    Kind.CORRECTED_ITEM: "entry.corrected",
    Kind.CORRECTED_BY: "entry.corrected",
    Kind.AT_ONCE: "entry.saved",
    Kind.MISSING: "entry.",
    Kind.LATE: "entry.saved",
    Kind.DELAYS: "participant.",
    Kind.EXPORTS: "export.",
}
"""Under which actions the log shows more of a finding; of the others under any."""
NOT_IN_LOG = frozenset({Kind.SIGN_INS, Kind.GAPS, Kind.CLOCK})
"""What stands in the system's log, or nowhere, or is no matter of filters."""


@router.get("/{study}/audit/review", name="oversight.review")
def review(here: PageInStudy) -> Response:
    """What is worth a look since the last review; a small stretch at once, a long one when it has been gone through."""
    stretch, found = _look(here)
    return _review_page(here, stretch, found)


@router.post("/{study}/audit/review", name="oversight.record")
def record(here: ChangeInStudy) -> Response:
    """Keep the review: of what stood on the page that was sent, even if the log went on since."""
    stretch, found = None, None
    try:
        with here.nobody_waits(), database_of(here.request).reading() as session:
            seen = {name: here.number(name) for name in ("since", "upto")}
            stretch, found = _look(here, session, **seen, waits=True)
        assert found is not None  # whoever waits has it
        actions.record_review(
            here.session,
            here.the_study,
            stretch,
            found,
            words={kind.value: here.value(f"word_{kind}") for kind in Kind},
            follows=here.value("follows"),
            confirmed=here.form.get("confirmed", ()),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        if stretch is None or isinstance(problem, Conflict):
            stretch, found = _look(here)
        return _review_page(here, stretch, found, problem=problem)
    return here.redirect(f"/{here.the_study.code}/audit/reviews", done="log_reviewed")


@router.get("/{study}/audit/reviews", name="oversight.reviews")
def reviews(here: PageInStudy) -> Response:
    """Every review there was, the newest first; `?format=csv` is all of them, a line for each finding."""
    asked, path, places = here.request.query_params, f"/{here.the_study.code}/audit/reviews", places_of(here)
    if asked.get("format") == "csv":
        every = reads.all_reviews(here.session, here.the_study, by=here.actor)
        lines = (line for each in every for line in _file_lines(each, places))
        return csv_file(f"{here.the_study.code}-log-reviews-{here.now:%Y-%m-%d}", (*FILE, *WORDS), lines)
    found = reads.reviews_page(here.session, here.the_study, by=here.actor, cursor=asked.get("after") or None)
    return show_at(
        here,
        places,
        "oversight/reviews.html",
        path=path,
        review_url=f"/{here.the_study.code}/audit/review",
        period_url=f"/{here.the_study.code}/audit/period",
        concealment_url=f"/{here.the_study.code}/concealment" if here.the_study.definition.is_allocated else None,
        rows=found.rows,
        newer=address(path, {}, after=found.previous) if found.previous else None,
        older=address(path, {}, after=found.next) if found.next else None,
        csv_url=address(path, {"format": "csv"}) if found.rows else None,
        timezone=places.timezone(),
    )


@router.get("/{study}/audit/reviews/{number}", name="oversight.past")
def past(here: PageInStudy, number: int) -> Response:
    """One review, as it was recorded."""
    found = reads.review_of(here.session, here.the_study, number, by=here.actor)
    places = places_of(here)
    return show_at(
        here,
        places,
        "oversight/past.html",
        row=found,
        sites=_sites(found.sites, places),
        findings=[(_shown(here, each, since=None), word) for each, word in found.findings],
        timezone=places.timezone(),
    )


def _look(
    here: Here,
    session: Session | None = None,
    *,
    since: int | None = None,
    upto: int | None = None,
    waits: bool = False,
) -> tuple[Stretch, Found | None]:
    return reads.worth_a_look(
        session or here.session,
        here.the_study,
        here.request.app.state.counts,
        by=here.actor,
        now=here.now,
        since=since,
        upto=upto,
        again=here.request.query_params.get("again") == "yes",
        waits=waits,
        skew=timedelta(seconds=here.settings.clock_seconds),
    )


def _review_page(here: Here, stretch: Stretch, found: Found | None, *, problem: Problem | None = None) -> Response:
    places, path = places_of(here), f"/{here.the_study.code}/audit/review"
    since = f"{stretch.last_at:%Y-%m-%d}" if stretch.last_at else None
    findings = found.findings if found else ()
    typed = {each.kind.value: here.value(f"word_{each.kind}") for each in findings} if problem else {}
    telling = _telling(here, problem, {**typed, "follows": here.value("follows")} if problem else {})
    shown = show_at(
        here,
        places,
        "oversight/review.html",
        status_code=status_of(problem),
        path=path,
        again_url=address(path, {"again": "yes"}),
        reviews_url=f"/{here.the_study.code}/audit/reviews",
        quality_url=f"/{here.the_study.code}/reports#quality" if may(here.actor, Permission.REPORT_READ) else None,
        stretch=stretch,
        found=found,
        everywhere=stretch.sites is None,
        findings=[_shown(here, each, since=since) for each in findings],
        typed=typed,
        follows=here.value("follows") if problem else "",
        errors=errors_of(problem),
        refused=problem.reason if isinstance(problem, Refused | Conflict) else None,
        telling=telling,
        clock_is_wrong=bool(
            read_clocks(here.session, clock.now).problems(timedelta(seconds=here.settings.clock_seconds))
        ),
        due_on=due_on(stretch.last_at, here.the_study.definition.oversight.log_review_days),
        now=here.now,
        timezone=places.timezone(),
    )
    if found is None:
        shown.headers["Refresh"] = IN_TEN_SECONDS + path
    return shown


def _telling(here: Here, problem: Problem | None, texts: Mapping[str, str]) -> list[str]:
    """The words somebody has to confirm, when it is they that keep the review from being kept."""
    problems: Sequence[FieldProblem] = problem.problems if isinstance(problem, Invalid) else ()
    if not any(each.rule == "arm" for each in problems):
        return []
    return to_confirm(here.the_study.definition, here.actor, texts)


def _sites(sites: Iterable[int] | None, places: Places) -> str:
    """Codes of sites; empty for the whole study."""
    return "" if sites is None else ", ".join(places.code(each) for each in sorted(sites))


def _file_lines(row: ReviewRow, places: Places) -> Iterable[Sequence[object]]:
    first = (
        *(row.number, row.reviewed_at.isoformat(), row.reviewed_by, _sites(row.sites, places)),
        *(row.log_from, row.log_to, row.head_size, row.head_root),
    )
    for finding, word in row.findings:
        yield (*first, finding.kind.value, finding.number, word, row.follows)
    if not row.findings:
        yield (*first, "", 0, "", row.follows)


# A finding in words


def _shown(here: Here, finding: Finding, *, since: str | None) -> dict[str, Any]:
    """A finding as the page tells it: what it is, what to do next, and its lines in the columns that say anything."""
    said, study = SAID[finding.kind], here.the_study.definition
    root, gettext = f"/{here.the_study.code}", translations(here.language).gettext
    lines = [
        {
            "who": line.who,
            "site": line.site,
            "participant": line.participant,
            "what": _what(line, study, gettext),
            "number": line.number,
            "of": line.of,
            "participant_url": f"{root}/participants/{line.participant}" if line.participant else "",
            "log_url": _in_log(root, finding.kind, line, since),
        }
        for line in finding.lines
    ]
    return {
        "kind": finding.kind.value,
        "label": said.label,
        "what": said.what,
        "next": said.next,
        "number": finding.number,
        "lines": lines,
        "left_out": finding.all_lines - len(lines),
        "columns": [name for name in ("who", "site", "participant", "what") if any(line[name] for line in lines)],
        "days": finding.kind in (Kind.LATE, Kind.DELAYS),
        "in_log": any(line["log_url"] for line in lines),
    }


def _what(line: Line, study: Study, gettext: Gettext) -> str:
    if line.action:
        return act_in_words(line.action, gettext)
    if not line.subject:
        return ""
    said = subject_in_words(line.subject, study, gettext) or line.subject
    parts = line.subject.split("/")
    form = study.instrument(parts[2]) if line.item and len(parts) > 2 else None
    item = form.item(line.item) if form else None
    return f"{said}: {item.label if item else line.item}" if line.item else said


def _in_log(root: str, kind: Kind, line: Line, since: str | None) -> str:
    """Where the log shows the entries of this line."""
    if kind in NOT_IN_LOG:
        return ""
    about = {"who": line.who, "participant": line.participant, "kind": line.action or IN_LOG.get(kind)}
    return address(f"{root}/audit", {**about, "since": since})


# The report of a period


@router.get("/{study}/audit/period", name="oversight.period")
def period(here: PageInStudy) -> Response:
    """What happened around the data in a period; without days, in the last quarter."""
    since, until, errors = _days(here)
    rows = _period_rows(here, since, until)
    path = f"/{here.the_study.code}/audit/period"
    asked = {"since": f"{since:%Y-%m-%d}", "until": f"{until - timedelta(days=1):%Y-%m-%d}"}
    return show(
        here,
        "oversight/period.html",
        status_code=422 if errors else 200,
        path=path,
        rows=rows,
        errors=errors,
        pdf_url=address(f"{path}.pdf", asked),
        **asked,
    )


@router.get("/{study}/audit/period.pdf", name="oversight.period_pdf")
def period_pdf(here: PageInStudy) -> Response:
    """The same to print, sign and file."""
    since, until, _ = _days(here)
    gettext = translations(here.language).gettext
    study = here.the_study
    last = until - timedelta(days=1)
    record = Record(
        title=gettext("Periodic report"),
        subtitle=study.definition.title,
        intro=[
            gettext("From {since} to {until}, by days in UTC.").format(
                since=f"{since:%Y-%m-%d}", until=f"{last:%Y-%m-%d}"
            )
        ],
        rows=_period_rows(here, since, until),
        notes=[
            gettext(
                "Refused attempts are those that reviews of the log in this period told of. What is counted stands in "
                "the log, entry by entry."
            )
        ],
        footer=f"{study.code} · {here.now:%Y-%m-%d} · {here.actor.username}",
        lines=[gettext("Reviewed by, date")],
    )
    name = f"{study.code}-period-{since:%Y-%m-%d}-{last:%Y-%m-%d}.pdf"
    body = record_pdf(record, at=here.now, language=here.language)
    return Response(body, media_type="application/pdf", headers=kept_as(name))


QUARTER = timedelta(days=91)


def _days(here: Here) -> tuple[datetime, datetime, dict[str, str]]:
    """From the first day to behind the last, in UTC; what was typed wrongly is the last quarter."""
    asked, errors = here.request.query_params, {}
    tomorrow = datetime.combine(here.now.astimezone(UTC).date() + timedelta(days=1), time.min, UTC)
    found = {"since": tomorrow - QUARTER, "until": tomorrow}
    for name in found:
        if not (text := asked.get(name, "")):
            continue
        try:
            found[name] = datetime.combine(typed_day(text, name), time.min, UTC) + timedelta(days=name == "until")
        except (Invalid, OverflowError):
            errors[name] = DAY_WANTED
    if not errors and found["since"] >= found["until"]:
        errors["until"] = "The last day is before the first. Choose a later one."
    return (found["since"], found["until"], errors) if not errors else (tomorrow - QUARTER, tomorrow, errors)


def _period_rows(here: Here, since: datetime, until: datetime) -> list[Row]:
    study, session = here.the_study, here.session
    found = read_period(session, study, since=since, until=until, by=here.actor)
    gettext = translations(here.language).gettext

    def at(instant: datetime) -> str:
        return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

    loaded = [f"{each.version}: {at(each.loaded_at)}, {each.loaded_by}" for each in found.versions]
    reviews = [f"{each.number}: {at(each.reviewed_at)}, {each.reviewed_by}" for each in found.log_reviews]
    access = [f"{each.id}: {at(each.reviewed_at)}, {each.reviewed_by}" for each in found.access_reviews]
    failed = {
        gettext("Exports that failed"): exports_failed(session, study.id, since, until),
        gettext("Messages that did not leave"): messages_failed(session, study.id, since, until),
        gettext("Events that no webhook took"): webhooks_failed(session, study.id, since, until),
    }
    none = gettext("none")
    rows: list[Row] = [
        (gettext("Software, now"), ", ".join(f"{name} {number}" for name, number in software()), "text"),
        (gettext("Versions of the study loaded"), "; ".join(loaded) or none, "text"),
        (gettext("Reviews of the log"), "; ".join(reviews) or none, "text"),
        (gettext("Reviews of access"), "; ".join(access) or none, "text"),
        (gettext("Refused attempts, as reviewed"), str(found.refused), "text"),
    ]
    rows += [(here.tell(COUNTED[action]), str(number), "text") for action, number in found.counts.items()]
    return [*rows, *((label, str(number), "text") for label, number in failed.items())]


# Who may do what

ACCESS_FILE = (
    *("username", "name", "organisation", "role", "site", "since", "given_by", "last_sign_in", "second_factor"),
    *("tokens", "conflicts"),
)


@router.get("/{study}/study/access", name="oversight.access")
def access(here: PageInStudy) -> Response:
    """Every role in the study, with how its holder gets in: to be confirmed or ended; `?format=csv` is the list."""
    require(here.actor, Permission.PEOPLE_MANAGE)
    if here.request.query_params.get("format") == "csv":
        name = f"{here.the_study.code}-access-{here.now:%Y-%m-%d}"
        found = people.access_in(here.session, here.the_study.id, now=here.now)
        return csv_file(name, ACCESS_FILE, [line for each in found for line in _access_lines(each)])
    return _access_page(here)


@router.post("/{study}/study/access", name="oversight.record_access")
def record_access(here: ChangeInStudy) -> Response:
    """Keep the review: each role is confirmed or ended."""
    require(here.actor, Permission.PEOPLE_MANAGE, action="access.review")
    shown = [each for each in here.value("memberships").split() if each.isdecimal() and len(each) < 10]
    try:
        record_access_review(
            here.session,
            here.the_study.id,
            log=here.the_study.code,
            decisions={int(each): here.value(f"role_{each}") for each in shown},
            word=here.value("word"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _access_page(here, problem=problem)
    return here.redirect(f"/{here.the_study.code}/study/access", done="access_reviewed")


@router.get("/{study}/study/access/{number}", name="oversight.past_access")
def past_access(here: PageInStudy, number: int) -> Response:
    """One review of access, as it was recorded."""
    require(here.actor, Permission.PEOPLE_MANAGE)
    found = people.access_reviews(here.session, here.the_study.id, number=number) if 0 <= number < 2**31 else []
    if not found:
        raise NotFound
    access_url = f"/{here.the_study.code}/study/access"
    return show(here, "oversight/past_access.html", row=found[0], access_url=access_url, timezone=_timezone(here))


def _timezone(here: Here) -> str:
    return places_of(here).timezone()


def _access_page(here: Here, *, problem: Problem | None = None) -> Response:
    study = here.the_study
    found = people.access_in(here.session, study.id, now=here.now)
    reviews = people.access_reviews(here.session, study.id)
    path = f"/{study.code}/study/access"
    rights = [(each, right) for each in found for right in each.rights]
    places = places_of(here)
    return show_at(
        here,
        places,
        "oversight/access.html",
        status_code=status_of(problem),
        path=path,
        rows=rights,
        memberships=" ".join(str(right.id) for _, right in rights if right.study_id is not None),
        apart=[each for each in found if each.conflicts],
        decisions={name: here.value(name) for name in here.form if name.startswith("role_")} if problem else {},
        word=here.value("word") if problem else "",
        errors=errors_of(problem),
        refused=problem.reason if isinstance(problem, Refused | Conflict) else None,
        reviews=reviews,
        due_on=due_on(reviews[0].reviewed_at if reviews else None, study.definition.oversight.access_review_days),
        csv_url=address(path, {"format": "csv"}),
        people_url="/people",
        now=here.now,
        timezone=places.timezone(),
    )


def due_on(last: datetime | None, days: int | None) -> datetime | None:
    """When the next review is due; None where the study asks for none, or there was none from which to count."""
    return last + timedelta(days=days) if last is not None and days is not None else None


def _access_lines(found: Access) -> Iterable[Sequence[object]]:
    for right in found.rights:
        yield (
            *(found.username, found.name, found.organisation, right.role.value, right.site_code or ""),
            *(right.granted_at.isoformat(), right.granted_by),
            found.last_sign_in.isoformat() if found.last_sign_in else "",
            "yes" if found.has_second_factor else "no",
            "; ".join(each.name for each in found.tokens),
            " ".join(each.why for each in found.conflicts),
        )
