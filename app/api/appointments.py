"""When does somebody come, over REST? Appointments: booked, moved, cancelled, and who came."""

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import address_of, participant_of
from app.api.filters import AtSite, Moment, OfPerson, Whose, at
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Reply, Text, Version
from app.dependencies import ApiChange, ApiPage, Here
from app.foundation import paging
from app.foundation.errors import NotFound
from app.people.access import require
from app.people.permissions import Permission
from app.people.reads import person_by_username
from app.schedule.appointments import actions, feeds, reads
from app.schedule.appointments.actions import Wish
from app.schedule.appointments.reads import AppointmentRow
from app.schedule.status import AppointmentStatus
from app.studies.definition import TimeOfDay

router = operations("appointments")

OF_PARTICIPANT = "/participants/{code}/appointments"
LONGEST_SPAN = 92
EXAMPLE: dict[str, Any] = {
    "participant": "R-0042",
    "number": 3,
    "site": "neura",
    "visit": "week18",
    "kind": "assessment",
    "purpose": "Questions about the next session",
    "starts_at": "2026-07-16T00:00:00+00:00",
    "ends_at": "2026-07-16T01:00:00+00:00",
    "timezone": "Australia/Sydney",
    "person": "assessor",
    "room": "Room 1",
    "status": "booked",
    "reason": "Ill",
    "uid": "0b6f6c2e8f0b4f0c9d2a7a1e5c3b2a10@equipoise",
    "sequence": 0,
    "version": 1,
}


class AppointmentReply(Reply):
    """One appointment. Of a treatment session a blinded person learns only that it is, and when it begins."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    participant: str
    number: int
    site: str
    visit: str | None
    kind: str
    purpose: str | None
    starts_at: datetime
    ends_at: datetime | None
    timezone: str
    person: str | None
    room: str | None
    status: str
    reason: str | None
    uid: str
    sequence: int
    version: int


class BookedReply(AppointmentReply):
    """An appointment as it stands now, and what should be known of it: clashes, a day outside the window."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {**EXAMPLE, "warnings": ["Room 1 is taken at that time, 10:00–11:00, by R-0007."]}
        }
    )

    warnings: list[str]


class WishBody(Body):
    """When, with whom and where. `day` and `time` are by the clock of the site.

    On the day on which clocks go back an hour comes twice: `clock` says which is meant.
    """

    day: date
    time: TimeOfDay = Field(examples=["09:30"])
    clock: Literal["", "earlier", "later"] = ""
    minutes: int = Field(default=60, ge=0, le=10_000)
    person: Code | None = Field(default=None, description="The username of somebody of the site; null leaves it open.")
    room: Code | None = None

    def wish(self) -> Wish:
        """The same as the room of appointments takes it."""
        at = time.fromisoformat(self.time)
        return Wish(self.day, at, self.minutes, self.person or None, self.room or None, self.clock)


class BookingBody(WishBody):
    """What to book: a visit of the plan, or (without `visit`) one that is not in it, with its `purpose`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "visit": "week18",
                "day": "2026-07-16",
                "time": "10:00",
                "minutes": 60,
                "person": "assessor",
                "room": "Room 1",
            }
        },
    )

    visit: Code | None = None
    purpose: Text | None = None


class MoveBody(WishBody):
    """Where an appointment moves to. `version` is the one you read."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"day": "2026-07-17", "time": "14:00", "minutes": 60, "version": 1}},
    )

    version: Version
    why: Text | None = None


class CancellationBody(Body):
    """Why an appointment is cancelled. `version` is the one you read."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"version": 1, "why": "Ill"}})

    version: Version
    why: Text


class OutcomeBody(Body):
    """Who came. That a visit of the plan was held is recorded with the visit; here only unscheduled ones."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"status": "no_show", "version": 1}})

    status: Literal["held", "no_show"]
    version: Version
    why: Text | None = None


def _reply(row: AppointmentRow, warnings: tuple[str, ...] | None = None) -> dict[str, object]:
    said = {**{name: getattr(row, name) for name in AppointmentReply.model_fields if name != "person"}}
    said["person"] = row.username
    shape = AppointmentReply(**said) if warnings is None else BookedReply(**said, warnings=list(warnings))
    return shape.model_dump(mode="json")


OfStatus = Annotated[
    list[Literal["booked", "held", "no_show", "cancelled"]],
    Query(max_length=4, description="Only these; repeat it."),
]


@router.get(OF_PARTICIPANT, name="api.appointments", response_model=PageOf[AppointmentReply])
def appointments(
    here: ApiPage,
    code: str,
    status: OfStatus = [],  # noqa: B006
    cursor: Cursor = None,
    limit: Limit = 50,
) -> dict[str, object]:
    """The appointments of a participant, earliest first."""
    found = participant_of(here, code)
    assert found.id is not None
    rows = reads.appointments_of(here.session, found.id, by=here.actor)
    wanted = [row for row in rows if not status or row.status in status]
    page = paging.page_of_all(wanted, limit, reads.place_of, str, int, cursor=cursor)
    return {"items": [_reply(row) for row in page.rows], "next": page.next}


@router.get(OF_PARTICIPANT + "/{number}", name="api.appointment", response_model=AppointmentReply)
def appointment(here: ApiPage, code: str, number: Number) -> dict[str, object]:
    """One appointment of a participant."""
    found = participant_of(here, code)
    assert found.id is not None
    return _reply(reads.appointment_of(here.session, found.id, number, by=here.actor))


@router.post(OF_PARTICIPANT, name="api.book", status_code=201, response_model=BookedReply)
def book(here: ApiChange, code: str, asked: BookingBody) -> Response:
    """Book an appointment. A clash or a day outside the window is said in `warnings`, and never refused."""
    found = participant_of(here, code)
    row, warnings = actions.book(
        here.session,
        here.the_study,
        found,
        asked.wish(),
        visit=asked.visit,
        purpose=asked.purpose,
        by=here.actor,
        now=here.now,
    )
    where = address_of(here, "participants", row.participant, "appointments", row.number)
    return here.answer(_reply(row, warnings), status=201, location=where)


@router.put(OF_PARTICIPANT + "/{number}", name="api.move_appointment", response_model=BookedReply)
def move(here: ApiChange, code: str, number: Number, asked: MoveBody) -> Response:
    """Move an appointment to another time, person or room. Its UID stays, its sequence grows."""
    row, warnings = actions.move(
        here.session,
        here.the_study,
        participant_of(here, code),
        number,
        asked.wish(),
        version=asked.version,
        why=asked.why,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_reply(row, warnings))


@router.post(OF_PARTICIPANT + "/{number}/cancellation", name="api.cancel_appointment", response_model=AppointmentReply)
def cancel(here: ApiChange, code: str, number: Number, asked: CancellationBody) -> Response:
    """Cancel an appointment, and say why. The visit stays due."""
    row = actions.cancel(
        here.session,
        here.the_study,
        participant_of(here, code),
        number,
        version=asked.version,
        why=asked.why,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_reply(row))


@router.post(OF_PARTICIPANT + "/{number}/outcome", name="api.record_appointment", response_model=AppointmentReply)
def record(here: ApiChange, code: str, number: Number, asked: OutcomeBody) -> Response:
    """Record that nobody came, or that an unscheduled visit took place."""
    found = participant_of(here, code)
    if asked.status == "held":
        row = actions.record_held(
            here.session, here.the_study, found, number, version=asked.version, by=here.actor, now=here.now
        )
    else:
        row = actions.record_no_show(
            here.session,
            here.the_study,
            found,
            number,
            version=asked.version,
            why=asked.why,
            by=here.actor,
            now=here.now,
        )
    return here.answer(_reply(row))


@router.get("/appointments", name="api.calendar", response_model=PageOf[AppointmentReply])
def calendar(
    here: ApiPage,
    begins_at: Annotated[
        Moment | None,
        Query(description="From this instant on; without it from now.", examples=["2026-07-13T00:00:00Z"]),
    ] = None,
    days: Annotated[int, Query(ge=1, le=LONGEST_SPAN, description="For so many days.")] = 7,
    site: AtSite = None,
    participant: Whose = None,
    person: OfPerson = None,
    status: OfStatus = [],  # noqa: B006
    cursor: Cursor = None,
    limit: Limit = 50,
) -> dict[str, object]:
    """The appointments of a span of time at the sites of whoever asks, earliest first.

    Blinded people are not told with whom treatment sessions are, so with `person` they get none. Without `begins_at`
    each page begins now: say it where pages are followed.
    """
    require(here.actor, Permission.PARTICIPANT_READ)
    begins_at = begins_at or here.now
    ends = begins_at + timedelta(days=days)
    whose = person_by_username(here.session, person) if person is not None else None
    if person is not None and whose is None:
        return {"items": [], "next": None}
    page = reads.appointments_page(
        here.session,
        here.the_study,
        by=at(here, site),
        begins=begins_at,
        ends=ends,
        participant=participant,
        person_id=whose.id if whose else None,
        statuses=[AppointmentStatus(each) for each in status] or AppointmentStatus,
        cursor=cursor,
        limit=limit,
    )
    return {"items": [_reply(row) for row in page.rows], "next": page.next}


class FeedBody(Body):
    """Whose appointments an address shows: those with oneself (`mine`), or all at one's sites (`sites`)."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"whose": "mine"}})

    whose: Literal["mine", "sites"]


A_FEED: dict[str, Any] = {
    "number": 1,
    "whose": "mine",
    "created_at": "2026-03-01T09:00:00.000000Z",
    "last_read_at": "2026-03-14T02:00:00.000000Z",
}


class FeedReply(Reply):
    """A secret address of yours, under which a calendar program reads appointments; never the address itself."""

    model_config = ConfigDict(json_schema_extra={"example": A_FEED})

    number: int
    whose: str
    created_at: datetime
    last_read_at: datetime | None


class MadeFeedReply(FeedReply):
    """A new one, with its `address`, which is shown this once: whoever has it reads it without a token."""

    model_config = ConfigDict(
        json_schema_extra={"example": {**A_FEED, "address": "https://trial.example.org/feeds/0b6f6c2e8f0b.ics"}}
    )

    address: str | None


@router.get("/calendar-feeds", name="api.feeds")
def calendar_feeds(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[FeedReply]:
    """Your secret addresses for calendar programs, the oldest first; those that were revoked are gone."""
    page = paging.page_of_all(_feeds(here), limit, lambda each: (each.number,), int, cursor=cursor)
    return PageOf(items=page.rows, next=page.next)


@router.get("/calendar-feeds/{number}", name="api.feed")
def calendar_feed(here: ApiPage, number: Number) -> FeedReply:
    """One of your addresses for a calendar program; never the address itself."""
    for each in _feeds(here):
        if each.number == number:
            return each
    raise NotFound


@router.post("/calendar-feeds", name="api.make_feed", status_code=201, response_model=MadeFeedReply)
def make_calendar_feed(here: ApiChange, asked: FeedBody) -> Response:
    """Make a secret address for a calendar program, which signs in nowhere; no name and no arm is in it."""
    token = feeds.make_feed(here.session, here.the_study, whose=asked.whose, by=here.actor, now=here.now)
    body = _feeds(here)[-1].model_dump(mode="json")
    told = {**body, "address": f"{here.settings.address}/feeds/{token}.ics"}
    where = address_of(here, "calendar-feeds", body["number"])
    return here.answer_once(told, repeated={**body, "address": None}, status=201, location=where)


@router.delete("/calendar-feeds/{number}", name="api.revoke_feed", response_model=FeedReply)
def revoke_calendar_feed(here: ApiChange, number: Number) -> Response:
    """Revoke one of your addresses: from now on it leads nowhere."""
    gone = calendar_feed(here, number)
    feeds.revoke_feed(here.session, here.the_study, number, by=here.actor, now=here.now)
    return here.answer(gone.model_dump(mode="json"))


def _feeds(here: Here) -> list[FeedReply]:
    require(here.actor, Permission.PARTICIPANT_READ)
    return [
        FeedReply(number=each.id, whose=each.whose, created_at=each.created_at, last_read_at=each.last_read_at)
        for each in feeds.feeds_of(here.session, here.the_study, by=here.actor)
    ]
