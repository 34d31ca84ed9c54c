"""Today: what is due, who is on the way to randomisation, what waits for a signature; and where a study begins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from fastapi.responses import RedirectResponse, Response

from app.capture.casebook.reads import casebooks_due
from app.capture.queries.reads import waiting
from app.capture.questionnaires.reads import Counts, counts
from app.capture.reads import Progress, UnsignedVisit, progress, unsigned_visits
from app.capture.rules import named_form
from app.capture.verification.rules import Figures
from app.consent.reads import Owed, Unsettled, first_owed, unsettled
from app.dependencies import ChangeInStudy, Here, PageInStudy
from app.foundation.ahead import known
from app.foundation.errors import NotAllowed
from app.foundation.paging import Page
from app.participants.reads import (
    ParticipantFilter,
    ParticipantRow,
    count_by_status,
    newest_of,
    participants_page,
)
from app.participants.status import Status
from app.people.access import Actor, may, require
from app.people.permissions import Permission
from app.reports.reads import verification_counted
from app.safety.waiting import waiting_for
from app.schedule.appointments.reads import appointments_between
from app.schedule.appointments.rules import day_span
from app.schedule.reads import DueVisit, visits_due
from app.schedule.rules import visit_state
from app.schedule.status import AppointmentStatus
from app.studies.definition import VisitKind
from app.web.appointments import label_of, url_of
from app.web.pages import pages
from app.web.participants import MARKS
from app.web.places import Places, narrowed, places_of, show_at
from app.web.safety import clocks_running
from app.web.shell import NAVIGATION, has_page
from app.web.sign_in import safe_path
from app.web.tables import address
from app.wording import title_of

router = pages()

SOON = timedelta(days=7)
SHOWN = 25
WAITED = (Permission.SAFETY_READ, Permission.DATA_UNLOCK)
LATELY = timedelta(weeks=4)
"""So long somebody who was screened stands among what there is to do; then the list of participants has them."""
ON_THE_WAY = (Status.CONSENTED, Status.SCREENED)
WORKS = (Permission.PARTICIPANT_SCREEN, Permission.ENTRY_SAVE, Permission.VISIT_RECORD)
TO_SIGN = 10  # what was signed makes room for the next
SIGN_AFTER = "sign_after"  # where the list of what waits for a signature goes on


@router.get("/{study}", name="today.start")
def start(here: PageInStudy) -> Response:
    """The first page of the study that this person's roles open."""
    for _, below, _, any_of in NAVIGATION:
        if any(may(here.actor, permission) for permission in any_of) and has_page(here.the_study.definition, below):
            return RedirectResponse(f"/{here.the_study.code}{below}", status_code=303)
    raise NotAllowed("Your roles open no page of this study. Ask your administrator for a role in it.")


@router.post("/{study}/site", name="today.site")
def site(here: ChangeInStudy) -> Response:
    """Work at one site, or at all of mine: kept in a cookie of this study."""
    here.release_key()  # choosing a site changes nothing that is kept
    code = here.value("site")
    path = f"/{here.the_study.code}"
    response = RedirectResponse(safe_path(here.value("back", path)), status_code=303)
    if any(each.code == code for each in places_of(here).sites):
        response.set_cookie(
            "site",
            code,
            path=path,
            max_age=31_536_000,
            samesite="lax",
            httponly=True,
            secure=here.settings.secure_cookies,
        )
    else:
        response.delete_cookie("site", path=path, samesite="lax", httponly=True, secure=here.settings.secure_cookies)
    return response


@dataclass(frozen=True)
class OnTheWay:
    """A participant before randomisation: what is lacking, and the page where it is done (none: not by this person)."""

    row: ParticipantRow
    filled: Progress | None
    lacking: str
    url: str
    action: str


@router.get("/{study}/today", name="today.today")
def today(here: PageInStudy) -> Response:
    """What there is to do today at my sites (or the chosen one), each one click away from the work."""
    require(here.actor, Permission.PARTICIPANT_READ)
    places = places_of(here)
    by = narrowed(here.actor, places.chosen)
    study, definition = here.the_study, here.the_study.definition
    latest = max((places.today(here, each.id) for each in places.sites), default=places.today(here))
    first_page = not here.request.query_params.get("after")
    # Whoever only verifies holds no visits and screens nobody: what those who do have to do is not for them.
    works = not may(by, Permission.ENTRY_VERIFY) or any(may(by, each) for each in WORKS)
    begins = first_page and works
    waits_here = any(may(by, each) for each in WAITED)
    # All at once, in the order in which they are wanted: none of them waits for another.
    begun, session = here.soon, here.session
    consented = begun(unsettled, session, study, by=by, since=here.now - LATELY, most=SHOWN) if begins else known([])
    comes = begun(_due, here, by, latest) if works else known(Page([]))
    newest = begun(newest_of, session, study, ON_THE_WAY, by=by, limit=SHOWN) if begins else None
    counted = begun(count_by_status, session, study, by=by, of=ON_THE_WAY) if begins else known({})
    waited = begun(waiting_for, session, study, by=by) if first_page and waits_here else known(None)
    booked = begun(_booked, here, by, places) if begins else known([])
    asked = begun(waiting, session, study, by=by) if first_page and may(by, Permission.ENTRY_READ) else known(None)
    consents, due = consented(), comes()
    rows = [{**_visit(here, places, each), "lost": each.participant_status == Status.LOST} for each in due.rows]
    since = latest - LATELY
    lines, earlier = _on_the_way(here, by, since, consents, newest(), counted) if newest is not None else ([], {})
    owed, countersign = _owed(here, places, by) if begins else ([], [])
    path = f"/{study.code}/today"
    waits = waited()
    unsigned = None
    if may(by, Permission.ENTRY_SIGN) and first_page:
        cursor = here.request.query_params.get(SIGN_AFTER) or None
        unsigned = unsigned_visits(here.session, study, by=by, cursor=cursor, limit=TO_SIGN)
    return show_at(
        here,
        places,
        "today/today.html",
        root=f"/{study.code}",
        works=works,
        to_verify=_to_verify(here, by) if first_page else None,
        booked=booked(),
        due=rows,
        late=sum(1 for row in rows if row["status"] == "late"),
        older=address(path, {}, after=due.next) if due.next else None,
        newer=address(path, {}, after=due.previous) if due.previous else None,
        on_the_way=lines,
        earlier=earlier,
        allocated=definition.is_allocated,
        owed=owed,
        countersign=countersign,
        unsettled=[each for each in consents if not each.first],
        me=by.username,
        may_record=may(by, Permission.CONSENT_RECORD),
        countersigns=may(by, Permission.CONSENT_COUNTERSIGN),
        unsigned=[_unsigned(here, each) for each in unsigned.rows] if unsigned else None,
        to_sign=unsigned.total if unsigned else 0,
        sign_next=_signatures(path, unsigned.next if unsigned else None),
        sign_previous=_signatures(path, unsigned.previous if unsigned else None),
        casebooks=_casebooks(here, by) if first_page else None,
        waits=waits,
        deaths=waits.deaths if waits is not None else (),
        clocks=clocks_running(here, places) if first_page else [],
        questionnaires=_questionnaires(here, by) if begins else None,
        queries=asked(),
        timezone=places.timezone(),
        day=places.today(here),
        first_page=first_page,
        may_screen=may(by, Permission.PARTICIPANT_SCREEN),
        several=len(places.sites) > 1 and places.chosen is None,
    )


def _due(here: Here, by: Actor, latest: date) -> Page[DueVisit]:
    return visits_due(
        here.session,
        here.the_study,
        by=by,
        today=latest,
        until=latest + SOON,
        kinds=[VisitKind.BASELINE, VisitKind.ASSESSMENT],
        cursor=here.request.query_params.get("after") or None,
    )


def _to_verify(here: Here, by: Actor) -> Figures | None:
    """How much this person has to compare with its source; None for whoever verifies nothing."""
    verifies = any(each.oversight.verification != "none" for each in here.the_study.definitions)
    if not verifies or not may(by, Permission.ENTRY_VERIFY):
        return None
    kept = here.request.app.state.counts
    return verification_counted(here.session, here.the_study, kept, by=by, now=here.now).in_all()


def _questionnaires(here: Here, by: Actor) -> Counts | None:
    """How many links to questions wait, and ran out lately; nothing where participants answer none."""
    study = here.the_study
    asks = any(each.asked_of_participants(visit.code) for each in study.definitions for visit in each.visits)
    if not asks or not may(by, Permission.PARTICIPANT_LINK):
        return None
    return counts(here.session, study, by=by, since=here.now - LATELY, now=here.now)


def _booked(here: Here, by: Actor, places: Places) -> list[dict[str, Any]]:
    """Who comes today, by the clock of each site: what is booked, and what became of it already."""
    spans = [day_span(places.today(here, each.id), each.timezone) for each in places.sites]
    if not spans:
        return []
    kept = [each for each in AppointmentStatus if each is not AppointmentStatus.CANCELLED]
    begins, ends = min(first for first, _ in spans), max(last for _, last in spans)
    found = appointments_between(here.session, here.the_study, by=by, begins=begins, ends=ends, statuses=kept)
    return [
        {"row": row, "label": label_of(here, row), "url": url_of(here, row)}
        for row in found
        if row.starts.date() == places.today(here, row.site_id)
    ]


def _owed(here: Here, places: Places, by: Actor) -> tuple[list[Owed], list[Owed]]:
    """The first of those who owe a newer consent, and of those who signed it and wait; the rest stand on a page of
    their own.
    """
    sites = {each.id: each.code for each in places.sites}
    return first_owed(
        here.session, here.the_study, lambda site_id: places.today(here, site_id), sites=sites, by=by, limit=SHOWN
    )


def _visit(here: Here, places: Places, each: DueVisit) -> dict[str, Any]:
    definition = here.the_study.at(each.site_id).definition
    visit = definition.visit(each.code)
    day = places.today(here, each.site_id)
    readable = may(here.actor, Permission.ENTRY_READ, site_id=each.site_id)
    participant = f"/{here.the_study.code}/participants/{each.participant_code}"
    state = visit_state(each, day)
    return {
        "visit": each,
        "label": visit.label if visit else each.code,
        "today": day,
        "status": MARKS[state],
        "url": f"{participant}/visits/{each.code}" if readable else participant,
        "participant_url": participant,
        "forms": len(visit.instruments) if visit else 0,
    }


def _on_the_way(
    here: Here,
    by: Actor,
    since: date,
    consents: Sequence[Unsettled],
    found: tuple[Mapping[Status, Sequence[ParticipantRow]], bool],
    counted: Callable[[], Mapping[Status, int]],
) -> tuple[list[OnTheWay], dict[Status, int]]:
    """Those who have consented or are screened, the ready first, and how many of either are left to the list.

    Whoever was screened before that day and went no further waits for nothing that anybody does today, unless a
    signature is all that lacks. The newest are shown.
    """
    study, session = here.the_study, here.session
    # By code, as they came; by the day they would all be read, for no index knows both.
    pages, more = found
    filled = progress(session, study, [row.id for row in pages[Status.CONSENTED]])
    lines = [_consented(here, row, filled[row.id]) for row in pages[Status.CONSENTED]]
    lines.sort(key=lambda line: (bool(line.lacking), line.row.code))
    waits = {each.participant_id: each.id for each in consents if each.first}
    newest = {row.id: row for row in pages[Status.SCREENED]}
    if beyond := waits.keys() - newest.keys():
        wanted = ParticipantFilter(status=Status.SCREENED, among=frozenset(beyond))
        newest |= {row.id: row for row in participants_page(session, study, by=by, wanted=wanted).rows}
    screened = [newest[number] for number in waits if number in newest]
    screened += [row for row in newest.values() if row.id not in waits and row.screened_on >= since]
    shown = {Status.CONSENTED: len(lines), Status.SCREENED: len(screened)}
    total = {Status.CONSENTED: len(lines), Status.SCREENED: len(newest)}
    if more:
        total = dict(counted())
    lines += [_screened(here, row, waits.get(row.id)) for row in screened]
    earlier = {status: total[status] - shown[status] for status in pages}
    if not study.definition.is_allocated:  # whoever has consented takes part, and waits for nothing
        lines, earlier[Status.CONSENTED] = [line for line in lines if line.lacking], 0
    return lines, earlier


def _screened(here: Here, row: ParticipantRow, waits: int | None) -> OnTheWay:
    """Somebody without a complete consent; `waits`: the consent that is signed, and lacks the study's signature."""
    url = f"/{here.the_study.code}/participants/{row.code}"
    if waits is not None:
        signs = may(here.actor, Permission.CONSENT_COUNTERSIGN, site_id=row.site_id)
        target = f"{url}/consents/{waits}/countersign" if signs else ""
        return OnTheWay(row, None, "A countersignature", target, "Countersign consent")
    records = may(here.actor, Permission.CONSENT_RECORD, site_id=row.site_id)
    return OnTheWay(row, None, "Consent", f"{url}/consent" if records else "", "Record consent")


def _consented(here: Here, row: ParticipantRow, filled: Progress) -> OnTheWay:
    """Before randomisation the only visits with dates are those of the baseline, so every form counts for it."""
    study = here.the_study.at(row.site_id)
    url = f"/{study.code}/participants/{row.code}"
    if filled.complete < filled.expected:
        baseline = next((visit for visit in study.definition.visits if visit.kind is VisitKind.BASELINE), None)
        enters = baseline is not None and may(here.actor, Permission.ENTRY_SAVE, site_id=row.site_id)
        target = f"{url}/visits/{baseline.code}" if baseline and enters else ""
        return OnTheWay(row, filled, "Baseline", target, "Fill in the baseline")
    randomises = may(here.actor, Permission.PARTICIPANT_RANDOMISE, site_id=row.site_id)
    return OnTheWay(row, filled, "", f"{url}/randomise" if randomises else "", f"Randomise {row.code}")


def _unsigned(here: Here, each: UnsignedVisit) -> dict[str, Any]:
    """A visit with what waits for a signature: every form one click away."""
    study, definition = here.the_study, here.the_study.at(each.site_id).definition
    participant = f"/{study.code}/participants/{each.participant}"
    visit_url = f"{participant}/visits/{each.visit}"
    visit = definition.visit(each.visit)
    forms = [(definition.instrument(named_form(name)[0]), name) for name in each.instruments]
    return {
        "participant": each.participant,
        "participant_url": participant,
        "visit": visit.label if visit else each.visit,
        "visit_url": visit_url,
        "sign_url": f"{visit_url}/sign",
        "casebook_url": f"{participant}/sign",
        "forms": [
            (title_of(form, named_form(name)[1], short=True) if form else name, f"{visit_url}/entries/{name}")
            for form, name in forms
        ],
        "saved_at": each.saved_at,
    }


def _casebooks(here: Here, by: Actor) -> dict[str, Any] | None:
    """The casebooks that this person is asked to sign, the first ones: who signs them sees the next."""
    if not may(by, Permission.CASEBOOK_SIGN):
        return None
    found = casebooks_due(here.session, here.the_study, by=by, limit=TO_SIGN)
    root = f"/{here.the_study.code}/participants"
    rows = []
    for each in found.rows:
        visit = here.the_study.at(each.site_id).definition.visit(each.visit)
        url = f"{root}/{each.participant}"
        rows.append({"row": each, "visit": visit.label if visit else each.visit, "url": url})
    return {"rows": rows, "total": found.total or 0}


def _signatures(path: str, cursor: str | None) -> str | None:
    return address(path, {}, **{SIGN_AFTER: cursor}) + "#signatures" if cursor else None
