"""How does a calendar program hear of an appointment? As iCalendar (RFC 5545): codes and times, no names and no arm.

Times are in UTC, so that no calendar has to know the rules of a zone. An event is known by the UID of the appointment;
its SEQUENCE is that of the appointment, which grows with each change, and one that is cancelled stays as CANCELLED.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from app.mail.channels import ORGANISER
from app.schedule.appointments.reads import AppointmentRow
from app.schedule.status import AppointmentStatus
from app.studies.definition import VisitKind

if TYPE_CHECKING:
    from icalendar import Event

PRODUCT = "-//Equipoise//Equipoise//EN"
Method = Literal["PUBLISH", "CANCEL"]
REFRESH = timedelta(hours=1)


def calendar_text(
    rows: Iterable[AppointmentRow],
    *,
    label: Callable[[AppointmentRow], str],
    name: str | None = None,
    method: Method | None = None,
    to_participant: bool = False,
) -> str:
    """Appointments as one calendar; `label` says what each is for, to a participant in a word of their language.

    To a participant it says only that, when and where.

    `method` is that of a mail (RFC 5546); a feed has none.
    """
    from icalendar import Calendar  # heavy, and only whoever writes a calendar needs it

    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    if method is not None:
        calendar.add("method", method)
    if name is not None:
        calendar.add("x-wr-calname", name)
        calendar.add("refresh-interval", REFRESH, parameters={"value": "DURATION"})
    for row in rows:
        calendar.add_component(_event(row, label(row), method, to_participant=to_participant))
    text: bytes = calendar.to_ical()
    return text.decode()


def _event(row: AppointmentRow, label: str, method: Method | None, *, to_participant: bool) -> "Event":
    from icalendar import Event, vCalAddress, vText

    event = Event()
    event.add("uid", row.uid)
    event.add("dtstamp", row.changed_at.replace(microsecond=0))
    event.add("last-modified", row.changed_at.replace(microsecond=0))
    event.add("sequence", row.sequence)
    event.add("dtstart", row.starts_at)
    # With whom a session is, where and for how long can tell of the arm, and a calendar is seen by more than its owner.
    discreet = row.kind == VisitKind.TREATMENT and not to_participant
    if row.ends_at is not None and not discreet:
        event.add("dtend", row.ends_at)
    event.add("summary", label if to_participant else f"{row.participant} {label}")
    if to_participant:
        event.add("location", row.site_name)
    elif row.room and not discreet:
        event.add("location", row.room)
    cancelled = row.status is AppointmentStatus.CANCELLED
    event.add("status", "CANCELLED" if cancelled else "CONFIRMED")
    event.add("transp", "TRANSPARENT" if cancelled else "OPAQUE")
    event.add("class", "PRIVATE")
    if method is not None:
        organiser = vCalAddress(f"mailto:{ORGANISER}")
        organiser.params["cn"] = vText(row.site_name)
        event["organizer"] = organiser
    return event
