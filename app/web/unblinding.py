"""Unblinding: in an emergency, as planned, by accident; and who knew what when. No page but the answer shows an arm."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi.responses import RedirectResponse, Response

from app.dependencies import ChangeInStudy, Here, LoggedPageInStudy, PageInStudy, database_of, require_password
from app.foundation.clock import today as date_in
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.foundation.paging import LARGEST_PAGE, every_page
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import may, require, sites_for, why_not
from app.people.permissions import Permission
from app.randomisation.unblinding import actions, reads
from app.randomisation.unblinding.reads import Case, Wanted
from app.randomisation.unblinding.rules import Kind, State, why_not_decide, why_not_yet
from app.web.pages import pages
from app.web.places import Places, places_of, show_at, typed_day
from app.web.shell import errors_of, status_of
from app.web.tables import address, csv_file, typed_text

router = pages()

FILE = (
    "number",
    "at",
    "kind",
    "state",
    "participant",
    "site",
    "by",
    "reason",
    "why",
    "asked_by",
    "learnt_by",
    "learnt_on",
    "told",
    "expires_at",
    "opens_until",
    "decided_at",
    "decided_by",
    "decision",
    "impact",
    "assessed_at",
    "assessed_by",
)
QUERY = ("kind", "waiting", "after")


# In an emergency: one participant, one person, once


@router.get("/{study}/participants/{code}/unblind", name="unblinding.emergency_form")
def emergency_form(here: PageInStudy, code: str) -> Response:
    """What breaking the blind does, and what is asked for it."""
    return _emergency_page(here, _to_unblind(here, code))


@router.post("/{study}/participants/{code}/unblind", name="unblinding.emergency")
def emergency(here: ChangeInStudy, code: str) -> Response:
    """Break the blind and show the arm, in this one answer. The same form again leads to what was written down."""
    participant = _to_unblind(here, code)
    try:
        made = actions.unblind(
            here.session,
            here.the_study,
            participant,
            reason=here.value("reason"),
            why=here.value("why"),
            asked_by=here.value("asked_by"),
            prove=lambda: _prove(here),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _emergency_page(here, participant, problem=problem)
    here.repeated_leads_to(f"{_report_url(here)}/{made.number}")
    here.shows()
    places, arm = places_of(here), here.the_study.definition.arm(made.arm)
    return show_at(
        here,
        places,
        "unblinding/arm.html",
        participant=participant,
        url=_participant_url(here, participant),
        case_url=f"{_report_url(here)}/{made.number}",
        arm=arm.label if arm else made.label,
        number=made.number,
        timezone=places.timezone(participant.site_id),
    )


def _to_unblind(here: Here, code: str) -> Participant:
    """The participant of the address, for those who may break the blind at their site."""
    _require_arms(here)
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    where = {"subject": participant.code, "action": actions.UNBLIND}
    require(here.actor, Permission.ALLOCATION_UNBLIND, site_id=participant.site_id, **where)
    return participant


def _prove(here: Here) -> None:
    require_password(here, here.form.get("password", [""])[-1], here.value("code"), code_needed=True)


def _emergency_page(here: Here, participant: Participant, *, problem: Invalid | Refused | None = None) -> Response:
    places = places_of(here)
    earlier, _ = reads.emergencies(here.session, here.the_study, participant, now=here.now)
    return show_at(
        here,
        places,
        "unblinding/emergency.html",
        status_code=status_of(problem),
        participant=participant,
        url=_participant_url(here, participant),
        why_not=None if participant.randomised_on else actions.no_arm(participant.code),
        refused=problem.reason if isinstance(problem, Refused) else None,
        errors=errors_of(problem),
        values=_values(here, "reason", "why", "asked_by"),
        reasons=list(_reasons(here).items()),
        procedure=here.the_study.definition.unblinding.procedure,
        earlier=earlier,
        report_url=_report_url(here),
        timezone=places.timezone(participant.site_id),
        ask_code=here.signed_in.second_factors if here.signed_in is not None else (),
    )


# Who knew what when


@router.get("/{study}/study/unblinding", name="unblinding.report")
def report(here: PageInStudy) -> Response:
    """Every unblinding, newest first; how many envelopes were opened for unblinded roles; sites with unusually many."""
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_READ)
    query = _query(here)
    places = places_of(here)
    path = _report_url(here)
    found = reads.cases(
        here.session,
        here.the_study,
        by=here.actor,
        now=here.now,
        wanted=_wanted(query),
        cursor=query["after"],
    )
    rules = here.the_study.definition.unblinding
    first = query["after"] is None
    return show_at(
        here,
        places,
        "unblinding/report.html",
        url=path,
        root=f"/{here.the_study.code}",
        query=query,
        active=sum(1 for name in ("kind", "waiting") if query[name]),
        rows=found.rows,
        reasons=_reasons(here),
        newer=address(path, query, after=found.previous) if found.previous else None,
        older=address(path, query, after=found.next) if found.next else None,
        csv_url=address(f"{path}.csv", query, after=None) if found.rows else None,
        # Of the whole, so only with the first page.
        openings=reads.openings(here.session, here.the_study, by=here.actor) if first else None,
        frequent=reads.frequent_sites(here.session, here.the_study, by=here.actor, now=here.now) if first else [],
        # Of lists and blocks, so for the statistician alone.
        guessing=reads.guessing(here.session, here.the_study, by=here.actor)
        if first and may(here.actor, Permission.SEQUENCE_DRAW)
        else None,
        alert_count=rules.alert_count,
        alert_days=rules.alert_days,
        timezone=places.timezone(),
        may_record=may(here.actor, Permission.UNBLINDING_RECORD),
        may_request=may(here.actor, Permission.UNBLINDING_REQUEST),
    )


@router.get("/{study}/study/unblinding.csv", name="unblinding.report_file")
def report_file(here: PageInStudy) -> Response:
    """The filtered report as a file, read and sent a page at a time."""
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_READ)
    name = f"{here.the_study.code}-unblinding-{here.now:%Y-%m-%d}"
    return csv_file(name, FILE, _file_rows(here, _wanted(_query(here))))


def _file_rows(here: Here, wanted: Wanted) -> Iterator[Sequence[object]]:
    asked: dict[str, Any] = {"by": here.actor, "now": here.now, "wanted": wanted}
    with database_of(here.request).reading() as session:
        for found in every_page(
            lambda cursor: reads.cases(session, here.the_study, **asked, cursor=cursor, limit=LARGEST_PAGE)
        ):
            for case in found.rows:
                yield [_cell(getattr(case, name)) for name in FILE]


def _cell(value: Any) -> object:
    if isinstance(value, tuple):
        return " ".join(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _query(here: Here) -> dict[str, str | None]:
    return {name: typed_text(here.request.query_params.get(name), 400) or None for name in QUERY}


def _wanted(query: dict[str, str | None]) -> Wanted:
    kind = query["kind"]
    return Wanted(Kind(kind) if kind in set(Kind) else None, waiting=query["waiting"] == "yes")


# By accident


@router.get("/{study}/study/unblinding/learnt", name="unblinding.accidental_form")
def accidental_form(here: PageInStudy) -> Response:
    """Record that somebody learnt an arm who should not have."""
    _require_recording(here)
    code = typed_text(here.request.query_params.get("participant"), 80)
    return _accidental_page(here, {"participant": code, "learnt_by": "", "how": "", "on": ""})


@router.post("/{study}/study/unblinding/learnt", name="unblinding.accidental")
def accidental(here: ChangeInStudy) -> Response:
    """Write it down, and never which arm."""
    _require_recording(here)
    try:
        participant = _named(here, Permission.UNBLINDING_RECORD)
        number = actions.record_accidental(
            here.session,
            here.the_study,
            participant,
            learnt_by=here.value("learnt_by"),
            how=here.value("how"),
            on=typed_day(here.value("on"), "on"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _accidental_page(here, _values(here, "participant", "learnt_by", "how", "on"), problem=problem)
    if may(here.actor, Permission.UNBLINDING_READ, site_id=participant.site_id):
        return here.redirect(f"{_report_url(here)}/{number}", done="unblinding_recorded")
    if may(here.actor, Permission.PARTICIPANT_READ, site_id=participant.site_id):
        return here.redirect(_participant_url(here, participant), done="unblinding_recorded")
    return here.redirect(f"/{here.the_study.code}/study", done="unblinding_recorded")


def _require_recording(here: Here) -> None:
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_RECORD, action="unblinding.record")


def _named(here: Here, permission: Permission) -> Participant:
    """The participant whose code was typed; Invalid when there is none at the person's sites."""
    try:
        return participant_by_code(
            here.session, here.the_study, here.value("participant").upper(), by=here.actor, permission=permission
        )
    except NotFound:
        words = "There is no participant with this code at your sites. Check the code."
        raise Invalid([FieldProblem("participant", "unknown", words)]) from None


def _accidental_page(here: Here, values: dict[str, str], *, problem: Invalid | Refused | None = None) -> Response:
    places = places_of(here)
    return show_at(
        here,
        places,
        "unblinding/accidental.html",
        status_code=status_of(problem),
        url=_report_url(here),
        root=f"/{here.the_study.code}",
        values=values,
        errors=errors_of(problem),
        refused=problem.reason if isinstance(problem, Refused) else None,
        today=places.today(here),
        may_read=may(here.actor, Permission.UNBLINDING_READ),
    )


# Planned


@router.get("/{study}/study/unblinding/request", name="unblinding.request_form")
def request_form(here: PageInStudy) -> Response:
    """Ask for a planned unblinding, which another person decides on."""
    _require_requesting(here)
    code = typed_text(here.request.query_params.get("participant"), 80)
    return _request_page(here, {"scope": "participant" if code else "", "participant": code, "why": ""})


@router.post("/{study}/study/unblinding/request", name="unblinding.request")
def request(here: ChangeInStudy) -> Response:
    """Write the request down and tell those who may approve it."""
    _require_requesting(here)
    try:
        if here.value("scope") not in ("participant", "study"):
            raise Invalid([FieldProblem("scope", "choice", "Choose how much it is about.")])
        participant = _named(here, Permission.UNBLINDING_REQUEST) if here.value("scope") == "participant" else None
        number = actions.request(
            here.session, here.the_study, participant, why=here.value("why"), by=here.actor, now=here.now
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _request_page(here, _values(here, "scope", "participant", "why"), problem=problem)
    return here.redirect(f"{_report_url(here)}/{number}", done="unblinding_requested")


def _require_requesting(here: Here) -> None:
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_REQUEST, action="unblinding.request")


def _request_page(here: Here, values: dict[str, str], *, problem: Invalid | Refused | None = None) -> Response:
    return show_at(
        here,
        places_of(here),
        "unblinding/request.html",
        status_code=status_of(problem),
        url=_report_url(here),
        root=f"/{here.the_study.code}",
        values=values,
        errors=errors_of(problem),
        refused=problem.reason if isinstance(problem, Refused) else None,
        not_yet=_not_yet(here),
        days=here.the_study.definition.unblinding.request_days,
        whole_study=sites_for(here.actor, Permission.UNBLINDING_REQUEST) is None,
    )


def _not_yet(here: Here) -> str | None:
    definition = here.the_study.definition
    return why_not_yet(definition, reads.closing(here.session, here.the_study), date_in("UTC", here.now))


# One unblinding


@router.get("/{study}/study/unblinding/{number}", name="unblinding.show")
def show(here: PageInStudy, number: int) -> Response:
    """What is written down of one unblinding, and what waits to be said of it."""
    return _case_page(here, number)


@router.get("/{study}/study/unblinding/{number}/impact", name="unblinding.impact_form")
@router.get("/{study}/study/unblinding/{number}/approve", name="unblinding.approve_form")
@router.get("/{study}/study/unblinding/{number}/refuse", name="unblinding.refuse_form")
def back_to_the_case(here: PageInStudy, number: int) -> Response:
    """Where somebody lands who goes on without sending a form again: its page."""
    _require_arms(here)
    return RedirectResponse(f"{_report_url(here)}/{number}", status_code=303)


@router.post("/{study}/study/unblinding/{number}/impact", name="unblinding.impact")
def impact(here: ChangeInStudy, number: int) -> Response:
    """Say what an arm that somebody learnt means for the data."""
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_ASSESS, action="unblinding.assess")
    try:
        actions.assess(here.session, here.the_study, number, impact=here.value("impact"), by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _case_page(here, number, problem=problem)
    return here.redirect(f"{_report_url(here)}/{number}", done="unblinding_assessed")


@router.post("/{study}/study/unblinding/{number}/approve", name="unblinding.approve")
def approve(here: ChangeInStudy, number: int) -> Response:
    """Approve a request that somebody else made."""
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_APPROVE, action="unblinding.approve")
    try:
        actions.approve(here.session, here.the_study, number, prove=lambda: _prove(here), by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _case_page(here, number, problem=problem)
    return here.redirect(f"{_report_url(here)}/{number}", done="unblinding_approved")


@router.post("/{study}/study/unblinding/{number}/refuse", name="unblinding.refuse")
def refuse(here: ChangeInStudy, number: int) -> Response:
    """Refuse a request that somebody else made, with the reason."""
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_APPROVE, action="unblinding.refuse")
    try:
        actions.refuse(here.session, here.the_study, number, why=here.value("why"), by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _case_page(here, number, problem=problem)
    return here.redirect(f"{_report_url(here)}/{number}", done="unblinding_refused")


def _case_page(here: Here, number: int, *, problem: Invalid | Refused | None = None) -> Response:
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_READ)
    _refuse_beyond(number)
    case = reads.case_of(here.session, here.the_study, number, by=here.actor, now=here.now)
    places = places_of(here)
    requested = case.state is State.REQUESTED
    mine = case.by == here.actor.username
    participant_url = (
        f"/{here.the_study.code}/participants/{case.participant}"
        if case.participant and may(here.actor, Permission.PARTICIPANT_READ, site_id=case.site_id)
        else None
    )
    return show_at(
        here,
        places,
        "unblinding/show.html",
        status_code=status_of(problem),
        case=case,
        url=_report_url(here),
        root=f"/{here.the_study.code}",
        participant_url=participant_url,
        may_again=bool(participant_url)
        and may(here.actor, Permission.ALLOCATION_UNBLIND, site_id=case.site_id)
        and case.kind is Kind.EMERGENCY,
        reasons=_reasons(here),
        refused=problem.reason if isinstance(problem, Refused) else None,
        errors=errors_of(problem),
        values=_values(here, "impact", "why"),
        timezone=_zone(places, case),
        why_not_assess=why_not(here.actor, Permission.UNBLINDING_ASSESS, site_id=case.site_id),
        why_not_decide=_why_not_decide(here, case) if requested else None,
        not_yet=_not_yet(here) if requested else None,
        opens=mine and case.state is State.APPROVED,
        days=here.the_study.definition.unblinding.request_days,
        ask_code=here.signed_in.second_factors if here.signed_in is not None else (),
    )


def _why_not_decide(here: Here, case: Case) -> str | None:
    """Why this person does not decide on the request, or None."""
    return why_not(here.actor, Permission.UNBLINDING_APPROVE, site_id=case.site_id) or why_not_decide(
        case.state, requested_by=case.by, by=here.actor.username
    )


# What an approved request opened, for whoever made it


@router.get("/{study}/study/unblinding/{number}/arms", name="unblinding.arms")
def arms(here: LoggedPageInStudy, number: int) -> Response:
    """One page of the arms; each envelope that is opened for it is in the log."""
    case = _released_case(here, number)
    after = here.request.query_params.get("after")
    found = reads.released_arms(here.session, here.the_study, case, by=here.actor, now=here.now, cursor=after)
    places = places_of(here)
    path = f"{_report_url(here)}/{number}/arms"
    return show_at(
        here,
        places,
        "unblinding/arms.html",
        case=case,
        url=_report_url(here),
        root=f"/{here.the_study.code}",
        rows=found.rows,
        labels={arm.code: arm.label for arm in here.the_study.definition.arms},
        older=address(path, {}, after=found.next) if found.next else None,
        csv_url=f"{path}.csv",
        timezone=_zone(places, case),
    )


@router.get("/{study}/study/unblinding/{number}/arms.csv", name="unblinding.arms_file")
def arms_file(here: LoggedPageInStudy, number: int) -> Response:
    """All of them as a file; the openings are in the log before its first line leaves."""
    case = _released_case(here, number)
    rows = list(reads.every_released_arm(here.session, here.the_study, case, by=here.actor, now=here.now))
    name = f"{here.the_study.code}-unblinding-{number}-{here.now:%Y-%m-%d}"
    lines = ((row.number, row.participant, row.arm) for row in rows)
    return csv_file(name, ("allocation", "participant", "arm"), lines)


def _released_case(here: Here, number: int) -> Case:
    """The case of the address, for whoever asked for it; for everybody else there is no such page."""
    _require_arms(here)
    if not may(here.actor, Permission.UNBLINDING_REQUEST):
        raise NotFound
    _refuse_beyond(number)
    return reads.case_of(here.session, here.the_study, number, by=here.actor, now=here.now)


# What several of these need


def _require_arms(here: Here) -> None:
    """There is no blind to break in a study that only observes."""
    if not here.the_study.definition.is_allocated:
        raise NotFound


def _refuse_beyond(number: int) -> None:
    if not 0 <= number < 2**31:  # no column holds more
        raise NotFound


def _report_url(here: Here) -> str:
    return f"/{here.the_study.code}/study/unblinding"


def _participant_url(here: Here, participant: Participant) -> str:
    return f"/{here.the_study.code}/participants/{participant.code}"


def _zone(places: Places, case: Case) -> str:
    return places.timezone(case.site_id) if case.site_id is not None else places.timezone()


def _reasons(here: Here) -> dict[str, str]:
    return {each.code: here.tell(each.label) for each in here.the_study.definition.unblinding.reasons}


def _values(here: Here, *names: str) -> dict[str, str]:
    return {name: here.value(name) for name in names}
