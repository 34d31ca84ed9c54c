"""Which reminders are due, which messages were sent, and does one still hold when it is about to be sent?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, func, not_, select
from sqlmodel import Session

from app.consent.reads import consent_with, why_not_mail_copy
from app.foundation import paging
from app.foundation.database import table_of, within
from app.foundation.errors import NotFound
from app.mail.actions import MAIL
from app.participants.identity import PARTICIPANT, open_identity
from app.participants.links.reads import LINK
from app.participants.links.rules import is_open
from app.participants.reads import SITE, at_their_sites
from app.participants.rules.status import withdrawal_level
from app.participants.status import Status
from app.people.access import Actor
from app.people.permissions import Permission
from app.schedule.appointments.reads import APPOINTMENT, BOOKED, AppointmentRow, kept
from app.schedule.models import ReminderChoice
from app.schedule.reads import VISIT
from app.schedule.reminders import rules
from app.schedule.reminders.rules import STAYS
from app.schedule.status import AppointmentStatus, VisitStatus
from app.studies.definition import Reminder, VisitKind
from app.studies.in_use import StudyInUse

CHOICE = table_of(ReminderChoice)
DAY = timedelta(days=1)
REMINDER = "reminder/"
"""How the keys of what is sent by a rule of the study begin."""


@dataclass(frozen=True)
class Choice:
    """What a participant said about reminders: by which ways, in which language, where they are."""

    mail: bool
    sms: bool
    language: str | None
    timezone: str | None
    version: int


EVERYTHING = Choice(True, True, None, None, 0)


@dataclass(frozen=True)
class Opened:
    """A planned visit for which nothing is booked, as far as a reminder needs to know it."""

    visit_id: int
    visit: str
    kind: str
    participant_id: int
    participant: str
    status: Status
    withdrawal_level: str | None
    site_id: int
    site_name: str
    timezone: str
    target_on: date
    opens_on: date
    closes_on: date
    created_at: datetime


def choice_of(session: Session, participant_id: int) -> Choice:
    """What a participant said about reminders; everything, when they said nothing."""
    row = session.execute(select(CHOICE).where(CHOICE.c.participant_id == participant_id)).first()
    return Choice(row.mail, row.sms, row.language, row.timezone, row.version) if row else EVERYTHING


def choices_of(session: Session, participant_ids: Iterable[int]) -> dict[int, Choice]:
    """Participant id -> what they said about reminders, for those who said something."""
    wanted = sorted(set(participant_ids))
    found = {}
    for start in range(0, len(wanted), 500):
        for row in session.execute(select(CHOICE).where(CHOICE.c.participant_id.in_(wanted[start : start + 500]))):
            found[row.participant_id] = Choice(row.mail, row.sms, row.language, row.timezone, row.version)
    return found


def appointments_to_come(session: Session, study: StudyInUse, rule: Reminder, *, now: datetime) -> list[AppointmentRow]:
    """The booked appointments of which this rule may remind by now, soonest first."""
    query = BOOKED.where(
        APPOINTMENT.c.study_id == study.id,
        APPOINTMENT.c.starts_at > now,
        # A day more: at a site it may be tomorrow already.
        APPOINTMENT.c.starts_at < now + (rule.days + 2) * DAY,
    )
    ordered = query.order_by(None).order_by(APPOINTMENT.c.starts_at, APPOINTMENT.c.id)
    return [row for row in map(kept, session.execute(ordered).mappings()) if _for_visit(rule, row.visit)]


def opened(session: Session, study: StudyInUse, rule: Reminder, *, now: datetime) -> list[Opened]:
    """The planned visits with nothing booked of whose window (its opening, or its end) this rule may speak by now."""
    column = VISIT.c.opens_on if rule.when == "window_opens" else VISIT.c.closes_on
    last = (now + DAY).date() - (rule.days if rule.when == "window_opens" else max(rule.days, 1)) * DAY
    booked = (
        select(APPOINTMENT.c.id)
        .where(APPOINTMENT.c.visit_id == VISIT.c.id, APPOINTMENT.c.status == AppointmentStatus.BOOKED)
        .correlate(VISIT)
        .exists()
    )
    rows = session.execute(
        select(
            VISIT.c.id.label("visit_id"),
            VISIT.c.code.label("visit"),
            VISIT.c.kind,
            PARTICIPANT.c.id.label("participant_id"),
            PARTICIPANT.c.code.label("participant"),
            PARTICIPANT.c.status,
            PARTICIPANT.c.withdrawal_level,
            PARTICIPANT.c.site_id,
            SITE.c.name.label("site_name"),
            SITE.c.timezone,
            VISIT.c.target_on,
            VISIT.c.opens_on,
            VISIT.c.closes_on,
            VISIT.c.created_at,
        )
        .join(PARTICIPANT, PARTICIPANT.c.id == VISIT.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(
            VISIT.c.study_id == study.id,
            VISIT.c.status == VisitStatus.PLANNED,
            column.between(last - STAYS - 2 * DAY, last),
            not_(booked),
        )
        .order_by(column, VISIT.c.id)
    )
    found = [Opened(**{**row._mapping, "status": Status(row.status)}) for row in rows]
    return [each for each in found if _for_visit(rule, each.visit)]


def _for_visit(rule: Reminder, visit: str | None) -> bool:
    return not rule.visits or visit in rule.visits


def queued_keys(session: Session, keys: Sequence[str]) -> set[str]:
    """Those of these keys that are in the outbox already."""
    found: set[str] = set()
    for start in range(0, len(keys), 500):
        found.update(session.execute(select(MAIL.c.key).where(MAIL.c.key.in_(keys[start : start + 500]))).scalars())
    return found


# When a message is about to be sent


@dataclass(frozen=True)
class Reachable:
    """Where a message goes now; or why it goes nowhere any more. `waits_until`: its reader has quiet hours now."""

    address: str | None
    reason: str | None = None
    waits_until: datetime | None = None


def reachable(session: Session, message: Any, study: StudyInUse, *, now: datetime) -> Reachable:
    """Whether a message of a study still holds, and where it goes: asked again at the moment it is sent.

    Since it was written somebody may have withdrawn, said no to reminders, or moved the appointment. Whatever goes to a
    participant, and each reminder, leaves outside the quiet hours, however long it waited; what staff are told because
    something happened does not wait.
    """
    if message.expires_at is not None and message.expires_at <= now:
        return Reachable(None, "It could not be sent in time.")
    if message.link_id is not None:
        link = session.execute(select(LINK).where(LINK.c.id == message.link_id)).one()
        if not is_open(link, now):
            return Reachable(None, "The link opens nothing any more.")
    elif message.appointment_id is not None:
        sequence = session.execute(
            select(APPOINTMENT.c.sequence).where(APPOINTMENT.c.id == message.appointment_id)
        ).scalar()
        if sequence != message.sequence:
            return Reachable(None, "The appointment was changed since.")
    elif message.visit_id is not None and (reason := _why_not_open(session, message.visit_id)):
        return Reachable(None, reason)
    own = study.at(message.site_id) if message.site_id is not None else study
    goes = _participant(session, message, own) if message.to_participant else Reachable(message.to_address)
    if goes.address is None or not (message.to_participant or message.key.startswith(REMINDER)):
        return goes
    leaves_at = rules.after_quiet(now, own.definition.schedule, _zone_of_reader(session, message))
    return replace(goes, waits_until=leaves_at) if leaves_at > now else goes


def _participant(session: Session, message: Any, study: StudyInUse) -> Reachable:
    """Where a message to a participant goes, or why it does not."""
    row = session.execute(
        select(PARTICIPANT.c.status, PARTICIPANT.c.withdrawal_level).where(PARTICIPANT.c.id == message.participant_id)
    ).one()
    status = Status(row.status)
    if message.consent_id is not None:
        consent = consent_with(session, message.consent_id)
        reason = why_not_mail_copy(session, study, consent, status=status, level=row.withdrawal_level)
    else:
        level = withdrawal_level(study.definition, row.withdrawal_level or "")
        reason = rules.why_not_contact(status, level) or _why_unwanted(session, message)
    return Reachable(None, reason) if reason else _participant_address(session, message)


def _zone_of_reader(session: Session, message: Any) -> str:
    site: str = session.execute(select(SITE.c.timezone).where(SITE.c.id == message.site_id)).scalar_one()
    return (choice_of(session, message.participant_id).timezone if message.to_participant else None) or site


def _why_not_open(session: Session, visit_id: int) -> str | None:
    status = session.execute(select(VISIT.c.status).where(VISIT.c.id == visit_id)).scalar()
    if status != VisitStatus.PLANNED:
        return "The visit is not due any more."
    booked = and_(APPOINTMENT.c.visit_id == visit_id, APPOINTMENT.c.status == AppointmentStatus.BOOKED)
    if session.execute(select(func.count()).select_from(APPOINTMENT).where(booked)).scalar_one():
        return "The visit is booked since."
    return None


def _why_unwanted(session: Session, message: Any) -> str | None:
    """Why a participant wants no message in this way, or None; a copy of what they signed is no reminder."""
    choice = choice_of(session, message.participant_id)
    wanted = choice.sms if message.channel == "sms" else choice.mail
    return None if wanted else "The participant wants no reminders in this way."


def _participant_address(session: Session, message: Any) -> Reachable:
    opened_ = open_identity(session, message.participant_id)
    if opened_ is None:
        return Reachable(None, "The personal data of the participant were erased.")
    personal = opened_[1].personal
    address = personal.phone if message.channel == "sms" else personal.email
    if not address:
        missing = "telephone number" if message.channel == "sms" else "mail address"
        return Reachable(None, f"No {missing} of the participant is known.")
    return Reachable(address)


# The page of messages


@dataclass(frozen=True)
class MessageRow:
    """One message as the page shows it: whom it is about, why, how it goes and how it went; never an address."""

    id: int
    participant: str
    site: str
    site_id: int
    timezone: str
    rule: str
    channel: str
    to_participant: bool
    visit: str | None
    queued_at: datetime
    not_before: datetime
    sent_at: datetime | None
    ended_at: datetime | None
    ended_as: str | None
    attempts: int
    last_error: str | None

    @property
    def state(self) -> str:
        """`sent`, `failed`, `dropped` or `waiting`."""
        return "sent" if self.sent_at else self.ended_as or "waiting"


STATES = {
    "waiting": and_(MAIL.c.sent_at.is_(None), MAIL.c.ended_at.is_(None)),
    "sent": MAIL.c.sent_at.is_not(None),
    "failed": and_(MAIL.c.sent_at.is_(None), MAIL.c.ended_as == "failed"),
    "dropped": and_(MAIL.c.sent_at.is_(None), MAIL.c.ended_as == "dropped"),
}


def messages_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    state: str | None = None,
    participant: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[MessageRow]:
    """The messages of this study about participants at the person's sites, newest first; of when they were queued.

    Of what goes to those who treat, about a session, a blinded person is not told.
    """
    query = _messages(study, by)
    if participant is not None:
        query = query.where(PARTICIPANT.c.code == participant)
    query = query.where(*within(MAIL.c.queued_at, since, until))
    if state in STATES:
        query = query.where(STATES[state])
    page = paging.page_by_number(session, query, MAIL.c.id, cursor=cursor, limit=limit)
    return page.made(lambda row: MessageRow(**row._mapping))


def message_of(session: Session, study: StudyInUse, number: int, *, by: Actor) -> MessageRow:
    """One of these messages; NotFound for what its list would not show."""
    row = session.execute(_messages(study, by).where(MAIL.c.id == number)).first()
    if row is None:
        raise NotFound
    return MessageRow(**row._mapping)


def _messages(study: StudyInUse, by: Actor) -> Select[Any]:
    # The visit is that of the appointment, where there is one.
    of_appointment = select(APPOINTMENT.c.visit_id).where(APPOINTMENT.c.id == MAIL.c.appointment_id).scalar_subquery()
    query = (
        select(
            MAIL.c.id,
            PARTICIPANT.c.code.label("participant"),
            SITE.c.code.label("site"),
            SITE.c.id.label("site_id"),
            SITE.c.timezone,
            MAIL.c.rule,
            MAIL.c.channel,
            MAIL.c.to_participant,
            VISIT.c.code.label("visit"),
            MAIL.c.queued_at,
            MAIL.c.not_before,
            MAIL.c.sent_at,
            MAIL.c.ended_at,
            MAIL.c.ended_as,
            MAIL.c.attempts,
            MAIL.c.last_error,
        )
        .join(PARTICIPANT, PARTICIPANT.c.id == MAIL.c.participant_id)
        .join(SITE, SITE.c.id == MAIL.c.site_id)
        .outerjoin(VISIT, VISIT.c.id == func.coalesce(MAIL.c.visit_id, of_appointment))
        .where(MAIL.c.study_id == study.id, at_their_sites(by, Permission.MESSAGE_READ))
    )
    if by.blinded:
        query = query.where(not_(and_(MAIL.c.kind == VisitKind.TREATMENT, MAIL.c.to_participant.is_(False))))
    return query


def not_sent_between(session: Session, study_id: int, since: datetime, until: datetime) -> int:
    """How many messages of the study that were queued in this time have not left, though it was tried."""
    query = select(func.count()).where(
        MAIL.c.study_id == study_id,
        MAIL.c.sent_at.is_(None),
        MAIL.c.last_error.is_not(None),
        *within(MAIL.c.queued_at, since, until),
    )
    return int(session.execute(query).scalar_one())
