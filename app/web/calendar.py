"""Who comes when? The calendar of a site or a person, by day, week and month and as a list; codes only, no names."""

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from fastapi.responses import PlainTextResponse, Response

from app.casebook.log import BOOKED
from app.dependencies import ChangeInStudy, Here, PageInStudy, Writing
from app.foundation import clock
from app.foundation.errors import Invalid, NotFound, Refused
from app.people.access import may, require
from app.people.permissions import Permission
from app.schedule.appointments import feeds, reads, rules
from app.schedule.appointments.calendars import calendar_text
from app.schedule.appointments.reads import AppointmentRow, Unbooked, label_in
from app.schedule.status import AppointmentStatus
from app.studies.definition import VisitKind
from app.studies.in_use import StudyInUse
from app.web.appointments import MARKS, Number, label_of, url_of
from app.web.pages import pages
from app.web.places import Places, narrowed, places_of, show_at
from app.web.shell import errors_of, show, status_of
from app.web.tables import address

router = pages()

VIEWS = ("day", "week", "month", "agenda")
AGENDA_DAYS = 14
UNBOOKED = 40
IN_A_CELL = 6
EARLIEST, LATEST = date(2000, 1, 10), date(2199, 12, 1)
MINE = "me"


@dataclass
class Line:
    """One appointment, or one visit on its target day, as a calendar shows it."""

    when: str
    participant: str
    label: str
    url: str
    mark: str
    words: str
    site: str = ""
    person: str = ""
    room: str = ""
    clashes: bool = False
    is_due: bool = False

    @property
    def begins(self) -> str:
        """When it begins, without its end."""
        return self.when.partition("–")[0]


@dataclass
class Day:
    """One day with what is on it."""

    on: date
    is_today: bool
    inside: bool = True
    lines: list[Line] = field(default_factory=list)
    url: str = ""

    @property
    def more(self) -> int:
        """How many lines find no room in the cell of a month."""
        return max(0, len(self.lines) - IN_A_CELL)


@dataclass(frozen=True)
class Span:
    """What one view shows: its days, and those before and after it."""

    first: date
    last: date
    previous: date
    next: date


@router.get("/{study}/calendar", name="calendar.calendar")
def calendar(here: PageInStudy) -> Response:
    """The appointments of my sites (or the chosen one), and the visits that are still to be booked."""
    require(here.actor, Permission.PARTICIPANT_READ)
    asked, places = here.request.query_params, places_of(here)
    by, today = narrowed(here.actor, places.chosen), places.today(here)
    view = next((each for each in VIEWS if each == asked.get("view")), "week")
    on = _day(asked.get("on", ""), today)
    span = _span(view, on)
    people = _people(here, places)
    who = next((each for each in (MINE, *(name for name, _ in people)) if each == asked.get("who")), "")
    path = f"/{here.the_study.code}/calendar"
    query: dict[str, str | None] = {"view": view, "on": on.isoformat(), "who": who or None}
    rows = _appointments(here, places, span, by=by, who=who)
    kinds = _kinds(here)
    found = reads.unbooked_between(
        here.session,
        here.the_study,
        by=by,
        first=span.first,
        last=span.last,
        kinds=kinds,
        limit=UNBOOKED,
    )
    unbooked = found[:UNBOOKED]
    days = _days(here, span, on, today, rows, unbooked if not who else (), path, query)
    return show_at(
        here,
        places,
        "calendar/calendar.html",
        view=view,
        views=[(each, address(path, query, view=each)) for each in VIEWS],
        on=on,
        span=span,
        days=days,
        weeks=[days[start : start + 7] for start in range(0, len(days), 7)] if view in ("month", "week") else [],
        columns=_columns(here, rows) if view == "day" else [],
        total=len(rows),
        previous=address(path, query, on=span.previous.isoformat()),
        next=address(path, query, on=span.next.isoformat()),
        to_today=address(path, query, on=None),
        people=people,
        who=who,
        path=path,
        today=today,
        unbooked=[_to_book(here, each) for each in unbooked] if not who else [],
        more_unbooked=len(found) > UNBOOKED,
        several=len(places.sites) > 1 and places.chosen is None,
        timezone=places.timezone(),
    )


def _day(text: str, today: date) -> date:
    try:
        found = date.fromisoformat(text) if len(text) == 10 else today
    except ValueError:
        return today
    return found if EARLIEST <= found <= LATEST else today


def _span(view: str, on: date) -> Span:
    if view == "day":
        return Span(on, on, on - timedelta(days=1), on + timedelta(days=1))
    if view == "agenda":
        step = timedelta(days=AGENDA_DAYS)
        return Span(on, on + step - timedelta(days=1), on - step, on + step)
    if view == "week":
        first = on - timedelta(days=on.weekday())
        return Span(first, first + timedelta(days=6), on - timedelta(days=7), on + timedelta(days=7))
    begins = on.replace(day=1)
    ends = on.replace(day=monthrange(on.year, on.month)[1])
    first, last = begins - timedelta(days=begins.weekday()), ends + timedelta(days=6 - ends.weekday())
    return Span(first, last, (begins - timedelta(days=1)).replace(day=1), ends + timedelta(days=1))


def _people(here: Here, places: Places) -> list[tuple[str, str]]:
    """Whose calendar can be chosen: those with whom appointments at the chosen (or only) site can be."""
    site = places.chosen or (places.sites[0] if len(places.sites) == 1 else None)
    if site is None:
        return []
    kind = VisitKind.TREATMENT if not here.actor.blinded else VisitKind.ASSESSMENT
    team = reads.colleagues(here.session, here.the_study, site.id, kind=kind)
    return [(each.username, each.name) for each in team if each.id != here.actor.person_id]


def _kinds(here: Here) -> list[str]:
    """The kinds of visits that are this person's to book: sessions by those who treat, visits by the others."""
    if may(here.actor, Permission.TREATMENT_RECORD):
        return [VisitKind.TREATMENT]
    return [VisitKind.BASELINE, VisitKind.ASSESSMENT]


def _appointments(here: Here, places: Places, span: Span, *, by: Any, who: str) -> list[AppointmentRow]:
    """What is booked, or was, on these days by the clock of each site."""
    zones = {place.timezone for place in places.sites} or {"UTC"}
    begins = min(rules.day_span(span.first, zone)[0] for zone in zones)
    ends = max(rules.day_span(span.last, zone)[1] for zone in zones)
    person_id = here.actor.person_id if who == MINE else None
    kept = [each for each in AppointmentStatus if each is not AppointmentStatus.CANCELLED]
    found = reads.appointments_between(
        here.session, here.the_study, by=by, begins=begins, ends=ends, statuses=kept, person_id=person_id
    )
    return [
        row
        for row in found
        if span.first <= row.starts.date() <= span.last and (who in ("", MINE) or row.username == who)
    ]


def clashing(rows: Sequence[AppointmentRow]) -> set[int]:
    """The ids of booked appointments that share their person, room or participant with another at the same time."""
    booked = sorted(
        (row for row in rows if row.status is AppointmentStatus.BOOKED and row.ends_at is not None),
        key=lambda row: row.starts_at,
    )
    found: set[int] = set()
    for index, row in enumerate(booked):
        for other in booked[index + 1 :]:
            assert row.ends_at is not None
            if other.starts_at >= row.ends_at:
                break
            same_person = row.person_id is not None and row.person_id == other.person_id
            same_room = row.site_id == other.site_id and rules.same_room(row.room, other.room)
            if same_person or same_room or row.participant_id == other.participant_id:
                found |= {row.id, other.id}
    return found


def _line(here: Here, row: AppointmentRow, clashes: set[int]) -> Line:
    return Line(
        when=row.when,
        participant=row.participant,
        label=label_of(here, row),
        url=url_of(here, row),
        mark=MARKS[row.status],
        words=BOOKED[row.status],
        site=row.site,
        person=row.person or "",
        room=row.room or "",
        clashes=row.id in clashes,
    )


def _days(
    here: Here,
    span: Span,
    on: date,
    today: date,
    rows: Sequence[AppointmentRow],
    unbooked: Sequence[Unbooked],
    path: str,
    query: dict[str, str | None],
) -> list[Day]:
    """Every day of the span with what is on it: appointments by time, then visits whose target day it is."""
    count = (span.last - span.first).days + 1
    days = [
        Day(each, each == today, query["view"] != "month" or each.month == on.month)
        for each in (span.first + timedelta(days=number) for number in range(count))
    ]
    by_day = {day.on: day for day in days}
    clashes = clashing(rows)
    for row in rows:
        by_day[row.starts.date()].lines.append(_line(here, row, clashes))
    for each in unbooked:
        if each.target_on in by_day:
            by_day[each.target_on].lines.append(_target(here, each))
    for day in days:
        day.url = address(path, query, view="day", on=day.on.isoformat())
    return days


def _target(here: Here, each: Unbooked) -> Line:
    book = _to_book(here, each)
    return Line("", each.participant, book["label"], book["url"], "due", "To be booked", each.site, is_due=True)


def _to_book(here: Here, each: Unbooked) -> dict[str, Any]:
    """A visit to be booked, and where that is done (or where it is looked at)."""
    planned = here.the_study.at(each.site_id).definition.visit(each.code)
    participant = f"/{here.the_study.code}/participants/{each.participant}"
    books = may(here.actor, Permission.APPOINTMENT_BOOK, site_id=each.site_id)
    return {
        "visit": each,
        "label": planned.label if planned else each.code,
        "participant_url": participant,
        "url": f"{participant}/appointments/new?visit={each.code}" if books else f"{participant}/visits/{each.code}",
        "books": books,
    }


def _columns(here: Here, rows: Sequence[AppointmentRow]) -> list[tuple[str, list[Line]]]:
    """A day by person: first who is open, then by name; sessions that a blinded person may not place by themselves."""
    clashes = clashing(rows)
    columns: dict[str, list[Line]] = {}
    for row in sorted(rows, key=lambda each: (each.hidden, each.person is not None, each.person or "", each.starts_at)):
        name = "Treatment" if row.hidden else row.person or "Left open"
        columns.setdefault(name, []).append(_line(here, row, clashes))
    return list(columns.items())


# In calendars of one's own


@router.get("/{study}/calendar/feeds", name="calendar.feeds")
def feeds_page(here: PageInStudy) -> Response:
    """My secret addresses, under which a calendar program reads appointments."""
    require(here.actor, Permission.PARTICIPANT_READ)
    return _feeds_page(here)


@router.post("/{study}/calendar/feeds", name="calendar.make_feed")
def make_feed(here: ChangeInStudy) -> Response:
    """Make one, and show it this once."""
    try:
        token = feeds.make_feed(here.session, here.the_study, whose=here.value("whose"), by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _feeds_page(here, problem=problem)
    here.repeated_leads_to(f"/{here.the_study.code}/calendar/feeds")
    here.shows()
    return _feeds_page(here, made=f"{here.settings.address}/feeds/{token}.ics")


@router.post("/{study}/calendar/feeds/{feed_id}/revoked", name="calendar.revoke_feed")
def revoke_feed(here: ChangeInStudy, feed_id: Number) -> Response:
    """End one of mine."""
    feeds.revoke_feed(here.session, here.the_study, feed_id, by=here.actor, now=here.now)
    return here.redirect(f"/{here.the_study.code}/calendar/feeds", done="feed_revoked")


def _feeds_page(here: Here, *, problem: Invalid | Refused | None = None, made: str = "") -> Response:
    errors = errors_of(problem)
    return show(
        here,
        "calendar/feeds.html",
        status_code=status_of(problem),
        path=f"/{here.the_study.code}/calendar",
        made=made,
        rows=feeds.feeds_of(here.session, here.the_study, by=here.actor),
        whose=here.value("whose") or "mine",
        errors=errors,
        refused=problem.reason if problem and not errors else None,
    )


@router.get("/feeds/{token}.ics", name="calendar.feed")
def feed(session: Writing, token: str) -> Response:
    """The appointments behind a secret address, for a calendar program, which signs in nowhere."""
    if not token.isascii() or not token.isprintable():
        raise NotFound
    try:
        found = feeds.read_feed(session, token, now=clock.now())
    except feeds.TooOften:
        words = "This address was read too often. Ask again in an hour."
        return PlainTextResponse(words, 429, headers={"Retry-After": "3600"})
    study = found.study
    text = calendar_text(found.rows, label=lambda row: label_in(study, row), name=_feed_name(study, found.whose))
    return Response(text, media_type="text/calendar; charset=utf-8", headers={"Referrer-Policy": "no-referrer"})


def _feed_name(study: StudyInUse, whose: str) -> str:
    return f"{study.definition.short_title}: {'my appointments' if whose == 'mine' else 'appointments'}"
