"""When is a reminder due, until when does it make sense, and what does it say? By the local clock, outside quiet hours.

A reminder is due at an instant that follows from a day and a time of day where its reader is; a time that a clock skips
is the first one after it, and one that comes twice is the first of the two.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel.dates import format_date

from app.foundation.languages import sentence
from app.participants.rules.status import why_not_contact as level_says
from app.participants.status import Status
from app.schedule.appointments.rules import day_span, instants, local, time_words
from app.studies.definition import Reminder, Schedule, WithdrawalLevel

STAYS = timedelta(days=7)
"""A reminder that could not be sent by then is not sent any more."""


@dataclass(frozen=True)
class Moment:
    """When a reminder is due, and when it is too late for it."""

    due_at: datetime
    expires_at: datetime


def wall(day: date, at: time, timezone: str) -> datetime:
    """The instant at which a clock shows this, or the first one after it when the clock skips it."""
    found = instants(day, at, timezone)
    return found[0] if found else datetime.combine(day, at, ZoneInfo(timezone)).astimezone(UTC)


def after_quiet(at: datetime, schedule: Schedule, timezone: str) -> datetime:
    """The same instant, or the end of the quiet hours in which it lies, by the clock of a zone."""
    quiet_from, quiet_until = time.fromisoformat(schedule.quiet_from), time.fromisoformat(schedule.quiet_until)
    here = local(at, timezone)
    clock = here.time().replace(fold=0)
    if quiet_from == quiet_until:
        return at
    if quiet_from < quiet_until:
        return wall(here.date(), quiet_until, timezone) if quiet_from <= clock < quiet_until else at
    if clock >= quiet_from:
        return wall(here.date() + timedelta(days=1), quiet_until, timezone)
    return wall(here.date(), quiet_until, timezone) if clock < quiet_until else at


def before_appointment(
    rule: Reminder, schedule: Schedule, starts_at: datetime, *, changed_at: datetime, timezone: str, theirs: str
) -> Moment | None:
    """When to remind of an appointment; None when it was made later than that, or the time is in quiet hours before it.

    `timezone` is that of the site, which says what day it is; `theirs` that of whoever is reminded.
    """
    day = local(starts_at, timezone).date() - timedelta(days=rule.days)
    due_at = after_quiet(wall(day, time.fromisoformat(rule.at), theirs), schedule, theirs)
    return Moment(due_at, starts_at) if changed_at < due_at < starts_at else None


def window_opens(
    rule: Reminder,
    schedule: Schedule,
    opens_on: date,
    closes_on: date,
    *,
    since: datetime,
    timezone: str,
    theirs: str,
) -> Moment | None:
    """When to say that a window is open; None when the visit had no date yet by then."""
    due_at = after_quiet(
        wall(opens_on + timedelta(days=rule.days), time.fromisoformat(rule.at), theirs), schedule, theirs
    )
    expires_at = min(due_at + STAYS, day_span(closes_on, timezone)[1])
    return Moment(due_at, expires_at) if since < due_at < expires_at else None


def overdue(rule: Reminder, schedule: Schedule, closes_on: date, *, since: datetime, theirs: str) -> Moment | None:
    """When to say that a visit is overdue: so many days after its window closed, one at least."""
    day = closes_on + timedelta(days=max(rule.days, 1))
    due_at = after_quiet(wall(day, time.fromisoformat(rule.at), theirs), schedule, theirs)
    return Moment(due_at, due_at + STAYS) if since < due_at else None


def link_due(
    rule: Reminder, schedule: Schedule, opens_on: date, closes_on: date, *, timezone: str, theirs: str
) -> Moment:
    """When to send a link: never before its questions open at the site, and as long as the window is open."""
    at = wall(opens_on + timedelta(days=rule.days), time.fromisoformat(rule.at), theirs)
    due_at = after_quiet(max(at, day_span(opens_on, timezone)[0]), schedule, theirs)
    return Moment(due_at, day_span(closes_on, timezone)[1])


def link_unanswered(
    rule: Reminder, schedule: Schedule, asked_on: date, *, expires_at: datetime, theirs: str
) -> Moment | None:
    """When to remind of a link: so many days after it could be answered, one at least, while it works."""
    day = asked_on + timedelta(days=max(rule.days, 1))
    due_at = after_quiet(wall(day, time.fromisoformat(rule.at), theirs), schedule, theirs)
    expires_at = min(due_at + STAYS, expires_at)
    return Moment(due_at, expires_at) if due_at < expires_at else None


def why_not_contact(status: Status, level: WithdrawalLevel | None) -> str | None:
    """Why a participant is not written to at all, or None."""
    if status is Status.WITHDRAWN:
        return "The participant has withdrawn."
    if status is Status.SCREEN_FAILED:
        return "The participant did not pass screening."
    if status is Status.LOST:
        return "The participant is lost to follow-up."
    if status is Status.DIED:
        return "The participant has died."
    return level_says(level)


def is_zone(name: str) -> bool:
    """Whether there is such a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


# What it says

WORDS: dict[tuple[str, str], tuple[str, str]] = {
    ("en", "booked"): (
        "Your appointment",
        "You have an appointment on {day} at {time} at {site}.\n\nIf you cannot come, tell us.",
    ),
    ("en", "cancelled"): (
        "Your appointment is cancelled",
        "Your appointment on {day} at {time} at {site} is cancelled. We will contact you about another one.",
    ),
    ("en", "before_appointment"): (
        "A reminder of your appointment",
        "You have an appointment on {day} at {time} at {site}.\n\nIf you cannot come, tell us.",
    ),
    ("en", "window_opens"): (
        "Your next appointment",
        "It is time for your next appointment, until {closes}. Contact {site} to make one.",
    ),
    ("en", "link_due"): (
        "Questions for you",
        "Your study site, {site}, asks you some questions. Open this link:\n\n{link}\n\n"
        "It is for you alone, so do not send it on. It works until {closes}.",
    ),
    ("en", "link_unanswered"): (
        "Your questions wait",
        "Not all of your questions are answered yet. Open this link and go on:\n\n{link}\n\n"
        "It works until {closes}. If you need help, call {site}.",
    ),
    ("de", "link_due"): (
        "Fragen an Sie",
        "Ihr Prüfzentrum, {site}, stellt Ihnen einige Fragen. Öffnen Sie diesen Link:\n\n{link}\n\n"
        "Er ist nur für Sie, geben Sie ihn nicht weiter. Er gilt bis {closes}.",
    ),
    ("de", "link_unanswered"): (
        "Ihre Fragen warten",
        "Noch sind nicht alle Ihre Fragen beantwortet. Öffnen Sie diesen Link und machen Sie weiter:\n\n{link}\n\n"
        "Er gilt bis {closes}. Wenn Sie Hilfe brauchen, rufen Sie an: {site}.",
    ),
    ("es", "link_due"): (
        "Preguntas para usted",
        "Su centro de estudio, {site}, le hace algunas preguntas. Abra este enlace:\n\n{link}\n\n"
        "Es solo para usted; no lo reenvíe. Funciona hasta el {closes}.",
    ),
    ("es", "link_unanswered"): (
        "Sus preguntas esperan",
        "Todavía no ha respondido a todas sus preguntas. Abra este enlace y continúe:\n\n{link}\n\n"
        "Funciona hasta el {closes}. Si necesita ayuda, llame a {site}.",
    ),
    ("en", "overdue"): ("Your next appointment", "We have missed you. Contact {site} to make your next appointment."),
    ("de", "booked"): (
        "Ihr Termin",
        "Sie haben einen Termin am {day} um {time}: {site}.\n\nWenn Sie nicht kommen können, sagen Sie uns Bescheid.",
    ),
    ("de", "cancelled"): (
        "Ihr Termin ist abgesagt",
        "Ihr Termin am {day} um {time} ({site}) ist abgesagt. Wir melden uns wegen eines neuen.",
    ),
    ("de", "before_appointment"): (
        "Erinnerung an Ihren Termin",
        "Sie haben einen Termin am {day} um {time}: {site}.\n\nWenn Sie nicht kommen können, sagen Sie uns Bescheid.",
    ),
    ("de", "window_opens"): (
        "Ihr nächster Termin",
        "Es ist Zeit für Ihren nächsten Termin, bis {closes}. Vereinbaren Sie ihn mit uns: {site}.",
    ),
    ("de", "overdue"): (
        "Ihr nächster Termin",
        "Wir haben Sie vermisst. Vereinbaren Sie Ihren nächsten Termin mit uns: {site}.",
    ),
    ("es", "booked"): (
        "Su cita",
        "Tiene una cita el {day} a las {time} en {site}.\n\nSi no puede venir, avísenos.",
    ),
    ("es", "cancelled"): (
        "Su cita está cancelada",
        "Su cita del {day} a las {time} en {site} está cancelada. Le llamaremos para acordar otra.",
    ),
    ("es", "before_appointment"): (
        "Recordatorio de su cita",
        "Tiene una cita el {day} a las {time} en {site}.\n\nSi no puede venir, avísenos.",
    ),
    ("es", "window_opens"): (
        "Su próxima cita",
        "Es el momento de su próxima cita, hasta el {closes}. Póngase en contacto con {site}.",
    ),
    ("es", "overdue"): (
        "Su próxima cita",
        "Le hemos echado de menos. Póngase en contacto con {site} para acordar su próxima cita.",
    ),
}
"""Our own words for participants: no study, no visit, nothing of health."""

STAFF_WORDS: dict[str, tuple[str, str]] = {
    "link_unanswered": (
        "{participant}: {visit} is not answered",
        "The questions of {visit} that {participant} ({site}) answers by link are not answered. "
        "The link works until {closes}.",
    ),
    "before_appointment": (
        "{participant} comes on {day}",
        "{participant} comes on {day} at {time}: {visit}, {site}.",
    ),
    "window_opens": (
        "{participant}: {visit} can be booked",
        "The window of {visit} of {participant} ({site}) is open until {closes}, and nothing is booked.",
    ),
    "overdue": (
        "{participant}: {visit} is overdue",
        "The window of {visit} of {participant} ({site}) closed on {closes}, and it is not recorded.",
    ),
}


def words_of(rule: Reminder, language: str, default: str, *, cancelled: bool = False) -> tuple[str, str, str]:
    """Subject, body and language of a reminder: the study's words in that language, else its own, else ours."""
    texts = {} if cancelled else {text.language: text for text in rule.texts}
    for wanted in (language, language.partition("-")[0], default):
        if wanted in texts:
            return texts[wanted].subject, texts[wanted].body, wanted
    if texts:
        first = next(iter(texts.values()))
        return first.subject, first.body, first.language
    if rule.to == "staff":
        return (*STAFF_WORDS.get(rule.when, STAFF_WORDS["before_appointment"]), "en")
    kind = "cancelled" if cancelled else rule.when
    for wanted in (language.partition("-")[0], default.partition("-")[0], "en"):
        if (wanted, kind) in WORDS:
            return (*WORDS[wanted, kind], wanted)
    raise AssertionError


def with_way_out(body: str, language: str, site: str) -> str:
    """The words of a mail to a participant, and below them how to stop such mails; in English where we lack theirs."""
    return f"{body}\n\n{sentence(f'If you want no more messages of this kind, tell {site}.', language)}"


def appointment_word(language: str) -> str:
    """What an appointment is called in a participant's own calendar."""
    return sentence("Appointment", language)


def filled(text: str, values: dict[str, str]) -> str:
    """The words with what stands in braces filled in; whatever is not known stays as it is."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def day_words(day: date, language: str) -> str:
    """A day in full: `Tuesday, 3 March 2026`; English is British."""
    return format_date(day, "full", locale="en_GB" if language == "en" else language.replace("-", "_"))


def values_for(
    *,
    language: str,
    site: str,
    timezone: str,
    starts_at: datetime | None = None,
    opens_on: date | None = None,
    closes_on: date | None = None,
    participant: str | None = None,
    visit: str | None = None,
    link: str | None = None,
) -> dict[str, str]:
    """What may be filled in; nothing for what is not known. `participant` and `visit` only for staff."""
    values = {"site": site}
    if link is not None:
        values["link"] = link
    if starts_at is not None:
        values["day"] = day_words(local(starts_at, timezone).date(), language)
        values["time"] = time_words(starts_at, None, timezone)
    if opens_on is not None:
        values["opens"] = day_words(opens_on, language)
    if closes_on is not None:
        values["closes"] = day_words(closes_on, language)
    if participant is not None:
        values["participant"] = participant
    if visit is not None:
        values["visit"] = visit
    return values
