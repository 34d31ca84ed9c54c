"""What do we do about reminders? Queue those that are due, keep what a participant wants, send a failed one again."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.mail.actions import MAIL, About, queue
from app.participants.actions import reason_problems
from app.participants.identity import PARTICIPANT
from app.participants.models import Participant
from app.participants.rules.status import withdrawal_level
from app.people.access import Actor, require
from app.people.permissions import Permission, holders
from app.people.reads import people_to_tell, person_by_id
from app.schedule.appointments.calendars import calendar_text
from app.schedule.appointments.reads import AppointmentRow, label_in
from app.schedule.reminders import reads, rules
from app.schedule.reminders.reads import CHOICE, EVERYTHING, REMINDER, Choice, Opened
from app.schedule.reminders.rules import Moment
from app.studies.definition import Reminder, VisitKind
from app.studies.in_use import StudyInUse

CLOCKWORK = Actor(0, "system:jobs", "Timed jobs", "Equipoise", via="jobs")
"""Who the log says queued a reminder: the clock did."""


def rules_in_use(study: StudyInUse) -> list[Reminder]:
    """Every rule that holds at any site; of each row it is asked whether it holds at its own (`holds_at`)."""
    found: list[Reminder] = []
    for definition in study.definitions:
        found += [rule for rule in definition.schedule.reminders if rule not in found]
    return found


def holds_at(study: StudyInUse, site_id: int, rule: Reminder) -> bool:
    """Whether this rule stands in the version that is in force at a site."""
    return not study.others or rule in study.at(site_id).definition.schedule.reminders


Found = tuple[str, AppointmentRow | Opened, Moment, Choice]
"""The key of what is reminded of, what it is, when that is due, and what the participant said about reminders."""


Recipient = tuple[str, str, str | None]


@dataclass(frozen=True)
class Due:
    """One message that is due: its key, by which rule, of what, how long it makes sense, and to which of the staff."""

    key: str
    rule: Reminder
    row: AppointmentRow | Opened
    moment: Moment
    choice: Choice
    address: str = field(repr=False)
    language: str | None = None
    """That of a reader of the staff; of a participant `choice` says it."""


def due(session: Session, study: StudyInUse, *, now: datetime) -> list[Due]:
    """Every reminder that is due by now and is not in the outbox.

    It follows from the rules of the study and from what is planned and booked: nothing is lost when a worker stops.
    """
    wanted: list[Due] = []
    team: dict[tuple[int, bool], list[Recipient]] = {}
    for rule in rules_in_use(study):
        found: list[Found] = []
        if rule.when == "before_appointment":
            found = list(_appointments(session, study, rule, now))
        elif rule.when in ("window_opens", "overdue"):
            found = list(_visits(session, study, rule, now))
        each = [
            Due(key + suffix, rule, row, moment, choice, address, language)
            for key, row, moment, choice in found
            if holds_at(study, row.site_id, rule)
            for suffix, address, language in _recipients(session, study, rule, row, choice, team)
        ]
        known = reads.queued_keys(session, [one.key for one in each])
        wanted += [one for one in each if one.key not in known]
    return wanted


def queue_due(session: Session, study: StudyInUse, *, now: datetime) -> int:
    """Put every reminder that is due by now into the outbox, once, whoever else does so too; gives how many are new.

    The key of each says of what it reminds whom, and the outbox takes a key once.
    """
    changes = []
    for one in due(session, study, now=now):
        if _write(session, study, one, now=now):
            new = {"rule": one.rule.code, "by": one.rule.by, "to": one.rule.to}
            changes.append(Change("reminder.queued", one.row.participant, _subject(one.row), new=new))
    record(session, study.code, changes, by=CLOCKWORK, now=now)
    return len(changes)


def _subject(row: AppointmentRow | Opened) -> str:
    return f"appointment/{row.number}" if isinstance(row, AppointmentRow) else f"visit/{row.visit}"


def _appointments(session: Session, study: StudyInUse, rule: Reminder, now: datetime) -> Iterator[Found]:
    rows = reads.appointments_to_come(session, study, rule, now=now)
    choices = reads.choices_of(session, (row.participant_id for row in rows))
    for row in rows:
        choice = choices.get(row.participant_id, EVERYTHING)
        moment = rules.before_appointment(
            rule,
            study.definition.schedule,
            row.starts_at,
            changed_at=row.changed_at,
            timezone=row.timezone,
            theirs=_zone(rule, choice, row.timezone),
        )
        if moment is not None and moment.due_at <= now:
            yield f"{REMINDER}{rule.code}/{row.uid}/{row.starts_at.isoformat()}", row, moment, choice


def _visits(session: Session, study: StudyInUse, rule: Reminder, now: datetime) -> Iterator[Found]:
    rows = reads.opened(session, study, rule, now=now)
    choices = reads.choices_of(session, (row.participant_id for row in rows))
    schedule = study.definition.schedule
    for row in rows:
        choice = choices.get(row.participant_id, EVERYTHING)
        zone = _zone(rule, choice, row.timezone)
        if rule.when == "window_opens":
            moment = rules.window_opens(
                rule, schedule, row.opens_on, row.closes_on, since=row.created_at, timezone=row.timezone, theirs=zone
            )
        else:
            moment = rules.overdue(rule, schedule, row.closes_on, since=row.created_at, theirs=zone)
        level = withdrawal_level(study.definition, row.withdrawal_level or "")
        if moment is None or not moment.due_at <= now < moment.expires_at:
            continue
        if rule.to == "participant" and rules.why_not_contact(row.status, level):
            continue
        yield f"{REMINDER}{rule.code}/{study.code}/{row.visit_id}/{row.target_on}", row, moment, choice


def _zone(rule: Reminder, choice: Choice, site: str) -> str:
    """Whose clock counts: the participant's where they said so, else the site's."""
    return choice.timezone or site if rule.to == "participant" else site


def _recipients(
    session: Session,
    study: StudyInUse,
    rule: Reminder,
    row: AppointmentRow | Opened,
    choice: Choice,
    team: dict[tuple[int, bool], list[Recipient]],
) -> list[Recipient]:
    """To whom a reminder goes: what is added to its key for them, their address (none for a participant), language.

    Staff: whom it is with, else those of the site who record visits, or who treat; `team` keeps who they are.
    """
    if rule.to == "participant":
        return [("", "", None)] if (choice.sms if rule.by == "sms" else choice.mail) else []
    if isinstance(row, AppointmentRow) and row.person_id is not None:
        person = person_by_id(session, row.person_id)
        return [(f"/person/{row.person_id}", person.email, person.language)] if person and person.email else []
    place = (row.site_id, row.kind == VisitKind.TREATMENT)
    if place not in team:
        permission = Permission.TREATMENT_RECORD if place[1] else Permission.VISIT_RECORD
        told = people_to_tell(session, study.id, sorted(holders(permission)), site_id=row.site_id, but=CLOCKWORK)
        team[place] = [(f"/person/{each.id}", each.email, each.language) for each in told]
    return team[place]


def _write(session: Session, study: StudyInUse, one: Due, *, now: datetime) -> bool:
    """Queue one reminder; whether it is new."""
    rule, row = one.rule, one.row
    to_participant = rule.to == "participant"
    default = study.definition.language
    subject, body, language = rules.words_of(rule, one.choice.language or default if to_participant else "en", default)
    if to_participant and rule.by == "mail":
        body = rules.with_way_out(body, language, row.site_name)
    appointment = row if isinstance(row, AppointmentRow) else None
    visit = row if isinstance(row, Opened) else None
    planned = study.definition.visit(visit.visit) if visit else None
    label = label_in(study, appointment) if appointment else planned.label if planned else ""
    values = rules.values_for(
        language=language,
        site=row.site_name,
        timezone=row.timezone,
        starts_at=appointment.starts_at if appointment else None,
        opens_on=visit.opens_on if visit else None,
        closes_on=visit.closes_on if visit else None,
        participant=None if to_participant else row.participant,
        visit=None if to_participant else label,
    )
    calendar = None
    if appointment and rule.by == "mail":
        named = rules.appointment_word(language) if to_participant else label
        calendar = calendar_text([appointment], label=lambda _: named, method="PUBLISH", to_participant=to_participant)
    about = About(
        study.id,
        row.site_id,
        row.participant_id,
        rule.code,
        row.kind,
        to_participant=to_participant,
        visit_id=visit.visit_id if visit else None,
        appointment_id=appointment.id if appointment else None,
        sequence=appointment.sequence if appointment else None,
        expires_at=one.moment.expires_at,
    )
    return queue(
        session,
        key=one.key,
        to_address=one.address,
        subject=rules.filled(subject, values),
        body=rules.filled(body, values),
        now=now,
        not_before=rules.after_quiet(now, study.definition.schedule, _zone(rule, one.choice, row.timezone)),
        channel=rule.by,
        calendar=calendar,
        about=about,
        language=None if to_participant else one.language,
    )


def choose(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    mail: bool,
    sms: bool,
    language: str | None,
    timezone: str | None = None,
    version: int,
    by: Actor,
    now: datetime,
) -> Choice:
    """Record what a participant said about reminders. What waits already is asked again before it is sent."""
    where = {"action": "reminder.choose", "subject": f"{participant.code}/reminders"}
    require(by, Permission.APPOINTMENT_BOOK, site_id=participant.site_id, **where)
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    language, timezone = (language or "").strip() or None, (timezone or "").strip() or None
    wrong = []
    if language is not None and language not in languages(study):
        wrong.append(FieldProblem("language", "choice", "Choose one of the languages of this study."))
    if timezone is not None and not rules.is_zone(timezone):
        wrong.append(FieldProblem("timezone", "zone", "Write a time zone such as Europe/Zurich, or leave it empty."))
    if wrong:
        raise Invalid(wrong)
    old = reads.choice_of(session, participant.id)
    if old.version != version:
        raise Conflict(
            "Somebody changed this while you were typing. Look at it again, then make your change.",
            current_version=old.version,
            **where,
        )
    new = {"mail": mail, "sms": sms, "language": language, "timezone": timezone}
    told = {name: getattr(old, name) for name in new}
    if told == new and version:
        return old
    stamp = {"version": version + 1, "changed_at": now, "changed_by": by.username}
    if version == 0:
        session.execute(insert(CHOICE).values(participant_id=participant.id, **new, **stamp))
    else:
        of_them = (CHOICE.c.participant_id == participant.id, CHOICE.c.version == version)
        session.execute(update(CHOICE).where(*of_them).values(**new, **stamp))
    change = Change("reminders.chosen", participant.code, "reminders", old=told, new=new)
    record(session, study.code, [change], by=by, now=now)
    return reads.choice_of(session, participant.id)


def languages(study: StudyInUse) -> list[str]:
    """The languages in which somebody can be reminded: those of the study's texts and consents, and our own words."""
    definition = study.definition
    said = {text.language for rule in definition.schedule.reminders for text in rule.texts}
    said |= {document.language for document in definition.consent_documents} | {definition.language}
    return sorted(said | {language for language, _ in rules.WORDS})


def resend(session: Session, study: StudyInUse, message_id: int, *, why: str, by: Actor, now: datetime) -> None:
    """Send a message again that was given up: at once, or after the quiet hours; not if it holds no more."""
    where = {"action": "message.resend", "subject": f"/message/{message_id}"}
    row = session.execute(
        select(MAIL.c.site_id, MAIL.c.kind, MAIL.c.to_participant, MAIL.c.participant_id, MAIL.c.ended_as)
        .where(MAIL.c.id == message_id, MAIL.c.study_id == study.id)
        .with_for_update()
    ).first()
    if row is None or (by.blinded and row.kind == VisitKind.TREATMENT and not row.to_participant):
        raise NotFound
    require(by, Permission.MESSAGE_RESEND, site_id=row.site_id, **where)
    if problems := reason_problems("why", why, "Say why it can be sent now."):
        raise Invalid(problems)
    if row.ended_as != "failed":
        raise Refused("Only a message that was given up is sent again. This one was not.", **where)
    session.execute(
        update(MAIL)
        .where(MAIL.c.id == message_id)
        .values(ended_at=None, ended_as=None, last_error=None, attempts=0, not_before=now)
    )
    code = session.execute(select(PARTICIPANT.c.code).where(PARTICIPANT.c.id == row.participant_id)).scalar_one()
    record(
        session, study.code, [Change("message.resent", code, f"message/{message_id}")], by=by, now=now, why=why.strip()
    )
