"""What is true of an appointment? When it is by the site's clock, what clashes with it, and what may become of it.

An appointment is at an instant. People say it by the clock on the wall of the site, and twice a year that clock skips
an hour or shows one twice: a time that is skipped is none, and one that comes twice is said with which of the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

from app.foundation.errors import FieldProblem
from app.foundation.words import day_in_words
from app.participants.status import Status
from app.people.access import Actor, may
from app.people.permissions import Permission
from app.schedule.status import UNSCHEDULED, AppointmentStatus, VisitStatus
from app.studies.definition import VisitKind

SHORTEST, LONGEST = 5, 12 * 60
"""Minutes of an appointment."""
LONGEST_ROOM, LONGEST_PURPOSE = 60, 200
FURTHEST = timedelta(days=366 * 12)
ONE_MINUTE = timedelta(minutes=1)

Clock = Literal["", "earlier", "later"]
"""Which of two: on the day on which a clock is put back, an hour comes twice."""


class Window(Protocol):
    """A visit with its window."""

    @property
    def opens_on(self) -> date: ...
    @property
    def closes_on(self) -> date: ...


@dataclass(frozen=True)
class Taken:
    """An appointment that is at the same time as another: whose, who sees them, where."""

    number: int
    participant: str
    person: str | None
    room: str | None
    starts_at: datetime
    ends_at: datetime | None


TRANSITIONS: dict[AppointmentStatus, frozenset[AppointmentStatus]] = {
    AppointmentStatus.BOOKED: frozenset(
        {AppointmentStatus.BOOKED, AppointmentStatus.HELD, AppointmentStatus.NO_SHOW, AppointmentStatus.CANCELLED}
    ),
    AppointmentStatus.HELD: frozenset(),
    AppointmentStatus.NO_SHOW: frozenset({AppointmentStatus.HELD}),  # they came after all, or it was the wrong line
    AppointmentStatus.CANCELLED: frozenset(),
}

_AS_IT_IS = {
    AppointmentStatus.BOOKED: "This appointment is booked. Move it, cancel it, or record what became of it.",
    AppointmentStatus.HELD: "This appointment took place. Book another one.",
    AppointmentStatus.NO_SHOW: "Nobody came to this appointment. Book another one.",
    AppointmentStatus.CANCELLED: "This appointment was cancelled. Book another one.",
}


def instants(day: date, at: time, timezone: str) -> list[datetime]:
    """The instants (UTC) at which the clock of a zone shows this on that day: none, one, or two in their order."""
    zone = ZoneInfo(timezone)
    wall = datetime.combine(day, at)
    found = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(each for each in found if each.astimezone(zone).replace(tzinfo=None, fold=0) == wall)


def instant(day: date, at: time, timezone: str, clock: Clock = "") -> datetime | FieldProblem:
    """The instant that is meant, or why none is: the time is skipped that day, or comes twice and must be chosen."""
    found = instants(day, at, timezone)
    when = f"{at:%H:%M} on {day_in_words(day)}"
    if not found:
        message = f"There is no {when} in {timezone}: clocks go forward over it. Choose another time."
        return FieldProblem("time", "skipped", message)
    if len(found) > 1 and not clock:
        message = f"{when} comes twice in {timezone}, because clocks go back. Choose the earlier or the later one."
        return FieldProblem("clock", "twice", message)
    return found[-1 if clock == "later" else 0]


def day_span(day: date, timezone: str) -> tuple[datetime, datetime]:
    """The instants at which a day begins and ends by the clock of a zone; it may last 23 or 25 hours."""
    zone = ZoneInfo(timezone)
    midnights = (datetime.combine(each, time(0), zone).astimezone(UTC) for each in (day, day + timedelta(days=1)))
    begins, ends = midnights
    return begins, ends


def local(at: datetime, timezone: str) -> datetime:
    """An instant by the clock of a zone."""
    return at.astimezone(ZoneInfo(timezone))


def time_words(starts_at: datetime, ends_at: datetime | None, timezone: str) -> str:
    """`10:00–11:30`; a time that comes twice that day says which, by its offset from UTC: `02:30 (UTC+01:00)`."""
    return "–".join(_clock_words(at, timezone) for at in (starts_at, ends_at) if at is not None)


def _clock_words(at: datetime, timezone: str) -> str:
    here = local(at, timezone)
    if len(instants(here.date(), here.time().replace(fold=0), timezone)) < 2:
        return f"{here:%H:%M}"
    offset = here.strftime("%z")
    return f"{here:%H:%M} (UTC{offset[:3]}:{offset[3:5]})"


def overlap(starts_at: datetime, ends_at: datetime, other_starts: datetime, other_ends: datetime) -> bool:
    """Whether two times share a moment; one that ends when the other begins does not."""
    return starts_at < other_ends and other_starts < ends_at


def same_room(one: str | None, other: str | None) -> bool:
    """Whether two people wrote down the same room."""
    return bool(one) and _plain(one) == _plain(other)


def _plain(room: str | None) -> str:
    return "".join((room or "").casefold().split())


def warnings(
    taken: Sequence[Taken],
    *,
    participant: str,
    person: str | None,
    room: str | None,
    on: date,
    window: Window | None,
    today: date,
    timezone: str,
) -> list[str]:
    """What somebody should know who books this, in words; none of it forbids anything.

    `taken` are the appointments at the same time that this person may know of.
    """
    said = []
    if window is not None and not window.opens_on <= on <= window.closes_on:
        opens, closes = day_in_words(window.opens_on), day_in_words(window.closes_on)
        said.append(f"{day_in_words(on)} is outside the window of this visit, {opens} to {closes}.")
    if on < today:
        said.append(f"{day_in_words(on)} is over.")
    for other in sorted(taken, key=lambda each: (each.starts_at, each.participant, each.number)):
        when = time_words(other.starts_at, other.ends_at, timezone)
        if other.participant == participant:
            said.append(f"{participant} has another appointment at that time, {when}.")
        if person is not None and other.person == person:
            said.append(f"{person} sees {other.participant} at that time, {when}.")
        if same_room(room, other.room):
            said.append(f"{other.room} is taken at that time, {when}, by {other.participant}.")
    return said


def why_not_become(status: AppointmentStatus, new: AppointmentStatus) -> str | None:
    """Why an appointment cannot be moved, or become held, cancelled or one to which nobody came; or None."""
    return None if new in TRANSITIONS[status] else _AS_IT_IS[status]


ELSEWHEN = "The visit took place on another day."
"""Why nobody needs to come any more, when a visit was held and its appointment is on a later day."""


DIED = "The participant died."
LOST = "The participant is lost to follow-up."
COMPLETED = "The participant completed the study."
OURS = frozenset({ELSEWHEN, DIED, LOST, COMPLETED})
"""Reasons that nobody typed: they are told in the language of whoever reads."""


def is_on_a_later_day(starts_at: datetime, now: datetime, timezone: str) -> bool:
    """Whether an appointment is on a later day than now, by the clock of its site."""
    zone = ZoneInfo(timezone)
    return starts_at.astimezone(zone).date() > now.astimezone(zone).date()


def follows(
    status: AppointmentStatus, reason: str | None, visit: VisitStatus, visit_reason: str | None, *, is_to_come: bool
) -> bool:
    """Whether an appointment is as it is because its visit was recorded as held, maybe on another day, or as missed for
    this reason.

    One that was cancelled with its visit and whose time is over (`is_to_come` false) stays so: nobody could have come.
    """
    if status is AppointmentStatus.HELD:
        return visit is VisitStatus.HELD
    if status is AppointmentStatus.CANCELLED and not is_to_come:
        return False
    if visit is VisitStatus.HELD:
        return status is AppointmentStatus.CANCELLED and reason == ELSEWHEN
    gone = (AppointmentStatus.NO_SHOW, AppointmentStatus.CANCELLED)
    return status in gone and visit is VisitStatus.MISSED and reason == visit_reason


def why_not_take_place(starts_at: datetime, now: datetime) -> str | None:
    """Why nobody can know yet what became of an appointment, or None."""
    return None if starts_at <= now else "This appointment is still to come. Move it or cancel it instead."


def why_not_hold(kind: str) -> str | None:
    """Why it is not here that an appointment is recorded as held, or None."""
    if kind == UNSCHEDULED:
        return None
    return "Record on the page of the visit that it was held: the appointment follows."


def why_not_book(status: Status, visit: VisitStatus | None) -> str | None:
    """Why nothing is booked for a participant (and this visit of theirs), or None."""
    if status is Status.SCREEN_FAILED:
        return "This participant did not pass screening, so nothing is booked."
    if status is Status.WITHDRAWN:
        return (
            "This participant has withdrawn, so nothing is booked. Write down a contact instead; if the withdrawal is "
            "a mistake, take it back."
        )
    if status is Status.DIED:
        return "This participant has died, so nothing is booked. If that is a mistake, correct the record of the death."
    if visit is VisitStatus.HELD:
        return "This visit was held already. Book an unscheduled visit, or correct the visit first."
    if visit is VisitStatus.MISSED:
        return "This visit is recorded as missed. Reopen it first, and say why."
    if visit is VisitStatus.STOPPED:
        return "This visit is not due any more: the participant left, treatment was stopped, or the plan changed."
    if visit is VisitStatus.IN_ERROR:
        return "This visit is marked as entered in error. Book an unscheduled visit."
    return None


def why_not_with(kind: str, by: Actor, site_id: int) -> str | None:
    """Why this person does not book this kind of visit, or None.

    Sessions are booked by those who treat: who gives them, and where, can tell of the arm (ICH E6(R3) 4.1.2).
    """
    if kind == VisitKind.TREATMENT:
        if may(by, Permission.TREATMENT_RECORD, site_id=site_id):
            return None
        return "Treatment sessions are booked by the clinician who treats. Leave this one to them."
    if may(by, Permission.VISIT_RECORD, site_id=site_id):
        return None
    return "This is not a treatment session. A coordinator or assessor books it."


def hides_details(kind: str, *, blinded: bool) -> bool:
    """Whether a person learns of an appointment only that it is, and when it begins."""
    return blinded and kind == VisitKind.TREATMENT


def problems(
    *, starts_at: datetime, minutes: int, room: str | None, purpose: str | None, kind: str, now: datetime
) -> list[FieldProblem]:
    """What keeps an appointment from being kept as typed, one problem per field."""
    found = []
    if not SHORTEST <= minutes <= LONGEST:
        message = f"An appointment lasts {SHORTEST} to {LONGEST} minutes. Correct its length."
        found.append(FieldProblem("minutes", "range", message))
    if abs(starts_at - now) > FURTHEST:
        found.append(FieldProblem("day", "range", "This day is years away. Correct the year."))
    if room is not None and (len(room) > LONGEST_ROOM or not room.isprintable()):
        found.append(FieldProblem("room", "max_length", f"Name the room on one line of {LONGEST_ROOM} characters."))
    if kind == UNSCHEDULED:
        if not purpose:
            found.append(FieldProblem("purpose", "required", "Say what the unscheduled visit is for."))
        elif len(purpose) > LONGEST_PURPOSE or not purpose.isprintable():
            message = f"Say what it is for on one line of {LONGEST_PURPOSE} characters."
            found.append(FieldProblem("purpose", "max_length", message))
    return found
