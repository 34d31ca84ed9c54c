"""Who is told that an appointment was booked, moved or cancelled? Whom it is with; the participant, if the study says.

Each is queued in the transaction of the change, with the event for a calendar: the same UID, and the next sequence.
"""

from dataclasses import replace
from datetime import datetime
from functools import partial

from sqlalchemy import select
from sqlmodel import Session

from app.foundation.database import table_of
from app.mail.actions import About, queue
from app.participants.identity import PARTICIPANT
from app.participants.rules.status import withdrawal_level
from app.participants.status import Status
from app.people.access import Actor
from app.people.reads import PERSON
from app.schedule.appointments.calendars import Method, calendar_text
from app.schedule.appointments.reads import AppointmentRow, label_in
from app.schedule.models import ReminderChoice
from app.schedule.reminders import rules as reminders
from app.schedule.status import AppointmentStatus
from app.studies.in_use import StudyInUse

CHOICE = table_of(ReminderChoice)
STAFF_RULE = "appointment"


def tell(
    session: Session, study: StudyInUse, old: AppointmentRow | None, new: AppointmentRow, *, by: Actor, now: datetime
) -> None:
    """Tell those whom a change of an appointment concerns, but never who made it; what took place is told to nobody."""
    if new.status not in (AppointmentStatus.BOOKED, AppointmentStatus.CANCELLED):
        return
    if old is not None and old.status in (AppointmentStatus.HELD, AppointmentStatus.NO_SHOW):
        return  # it is open again what became of it; nobody was told that anything had
    cancelled = new.status is AppointmentStatus.CANCELLED
    if old is not None and old.person_id not in (None, new.person_id, by.person_id):
        _tell_staff(session, study, old, new, cancelled=True, now=now)
    if new.person_id not in (None, by.person_id):
        moved = old is not None and old.status is AppointmentStatus.BOOKED
        _tell_staff(session, study, new, new, cancelled=cancelled, moved=moved, now=now)
    _tell_participant(session, study, old, new, cancelled=cancelled, now=now)


def _about(study: StudyInUse, row: AppointmentRow, rule: str, *, to_participant: bool, cancelled: bool) -> About:
    return About(
        study.id,
        row.site_id,
        row.participant_id,
        rule,
        row.kind,
        to_participant=to_participant,
        appointment_id=row.id,
        sequence=row.sequence,
        expires_at=None if cancelled else row.starts_at,
    )


def _tell_staff(
    session: Session,
    study: StudyInUse,
    whose: AppointmentRow,
    row: AppointmentRow,
    *,
    cancelled: bool,
    moved: bool = False,
    now: datetime,
) -> None:
    person = session.execute(select(PERSON.c.email, PERSON.c.language).where(PERSON.c.id == whose.person_id)).first()
    if person is None or not person.email:
        return
    day = reminders.day_words(row.starts.date(), "en")
    label = label_in(study.read_in(person.language or study.definition.language), row)
    who, where = row.participant, f"{label}, {day}, {row.starts:%H:%M}, {row.site_name}."
    title = study.definition.short_title
    if cancelled:
        subject, body = f"{title}: {who}, {day}: cancelled", f"The appointment of {who} with you is cancelled: {where}"
    elif moved:
        subject, body = f"{title}: {who}, {day}: moved", f"The appointment of {who} with you is moved: {where}"
    else:
        subject, body = f"{title}: {who}, {day}: booked", f"The appointment of {who} with you is booked: {where}"
    # What is told of a cancelled one is where it stood in the calendar of whom it was with.
    event = _cancelled(row) if cancelled else row
    queue(
        session,
        key=f"appointment/{row.uid}/{row.sequence}/person/{whose.person_id}",
        to_address=person.email,
        subject=subject,
        body=body,
        now=now,
        language=person.language,
        calendar=calendar_text([event], label=lambda _: label, method="CANCEL" if cancelled else "PUBLISH"),
        about=_about(study, row, STAFF_RULE, to_participant=False, cancelled=cancelled),
    )


def _cancelled(row: AppointmentRow) -> AppointmentRow:
    return replace(row, status=AppointmentStatus.CANCELLED)


def _named(word: str, _: AppointmentRow) -> str:
    return word


def _tell_participant(
    session: Session,
    study: StudyInUse,
    old: AppointmentRow | None,
    row: AppointmentRow,
    *,
    cancelled: bool,
    now: datetime,
) -> None:
    """By the rules of the study; who withdrew, or said no, is left out (and asked for once more when it is sent)."""
    schedule = study.definition.schedule
    wanted = [
        rule
        for rule in schedule.reminders
        if rule.when == "booked" and rule.to == "participant" and (not rule.visits or row.visit in rule.visits)
    ]
    was_told = old is not None and old.status is not AppointmentStatus.CANCELLED  # who heard of that hears again
    same_time = was_told and old is not None and (old.starts_at, old.ends_at) == (row.starts_at, row.ends_at)
    if not wanted or (same_time and not cancelled) or row.starts_at <= now:
        return
    found = session.execute(
        select(PARTICIPANT.c.status, PARTICIPANT.c.withdrawal_level, CHOICE.c.mail, CHOICE.c.sms, CHOICE.c.language)
        .add_columns(CHOICE.c.timezone)
        .outerjoin(CHOICE, CHOICE.c.participant_id == PARTICIPANT.c.id)
        .where(PARTICIPANT.c.id == row.participant_id)
    ).one()
    level = withdrawal_level(study.definition, found.withdrawal_level or "")
    if reminders.why_not_contact(Status(found.status), level):
        return
    for rule in wanted:
        if (found.sms if rule.by == "sms" else found.mail) is False:
            continue
        default = study.definition.language
        subject, body, language = reminders.words_of(rule, found.language or default, default, cancelled=cancelled)
        values = reminders.values_for(
            language=language, site=row.site_name, timezone=row.timezone, starts_at=row.starts_at
        )
        calendar = None
        if rule.by == "mail":
            body = reminders.with_way_out(body, language, row.site_name)
            named = partial(_named, reminders.appointment_word(language))
            method: Method = "CANCEL" if cancelled else "PUBLISH"
            calendar = calendar_text([row], label=named, method=method, to_participant=True)
        queue(
            session,
            key=f"appointment/{row.uid}/{row.sequence}/{rule.code}",
            to_address="",
            subject=reminders.filled(subject, values),
            body=reminders.filled(body, values),
            now=now,
            not_before=reminders.after_quiet(now, schedule, found.timezone or row.timezone),
            channel=rule.by,
            calendar=calendar,
            about=_about(study, row, rule.code, to_participant=True, cancelled=cancelled),
        )
