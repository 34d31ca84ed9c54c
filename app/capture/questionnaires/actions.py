"""What may be done about questions that participants answer by link? Give one by hand; send, and remind, by rule."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import exists, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.questionnaires import reads, rules
from app.capture.questionnaires.reads import Asked
from app.consent.reads import why_no_consent
from app.foundation import clock
from app.mail.actions import MAIL, SECRET, About, queue
from app.participants.identity import open_identity
from app.participants.links import actions as links
from app.participants.links.reads import LINK
from app.participants.links.rules import DAYS, MOST_DAYS, Purpose
from app.participants.models import Participant
from app.participants.reads import hold
from app.participants.rules.status import withdrawal_level
from app.people.access import Actor
from app.people.permissions import Permission, holders
from app.people.reads import people_to_tell
from app.schedule.appointments.rules import day_span
from app.schedule.reminders import rules as reminders
from app.schedule.reminders.actions import CLOCKWORK, holds_at, rules_in_use
from app.schedule.reminders.reads import EVERYTHING, REMINDER, Choice, choices_of, queued_keys
from app.schedule.reminders.rules import Moment
from app.studies.definition import Reminder
from app.studies.in_use import StudyInUse


def give(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    purpose: Purpose,
    about: str,
    language: str,
    days: int = DAYS,
    before_window: bool = False,
    by: Actor,
    now: datetime,
) -> str:
    """`participants.links.actions.give_link`, in view of the visit's window; gives the secret, which is kept nowhere.

    The questions open on the first day of the window, by the clock of the site, and the days count from then on;
    `before_window` is somebody's explicit yes to answers before that.
    """
    waits = None
    if purpose is Purpose.QUESTIONS and participant.id is not None:
        window = reads.window_of(session, participant.id, about)
        if window is not None:
            today = clock.today(window.timezone, now)
            waits = rules.waits_until(window, today, before_window=before_window)
    return links.give_link(
        session,
        study,
        participant,
        purpose=purpose,
        about=about,
        language=language,
        days=days,
        before_window=before_window,
        opens_at=day_span(waits, window.timezone)[0] if waits is not None and window is not None else None,
        by=by,
        now=now,
    )


@dataclass(frozen=True)
class Due:
    """A link to be sent, or one to be reminded of: by which rule, of which visit, and until when that makes sense.

    `key` is that of the message; a link that is still to be made gives it its number. Of the staff `address` is whose.
    """

    rule: Reminder
    row: Asked
    moment: Moment
    choice: Choice
    key: str = ""
    address: str = field(default="", repr=False)
    language: str | None = None


def due(session: Session, study: StudyInUse, *, now: datetime) -> list[Due]:
    """Every link that a rule of the study sends by now, and every reminder of one that is not in the outbox."""
    found: list[Due] = []
    asked: set[int] = set()
    for rule in rules_in_use(study):
        if rule.when == "link_due":
            # Two rules for one visit (by mail, by text message): the first that reaches them makes the link.
            new = [one for one in _to_send(session, study, rule, now) if one.row.visit_id not in asked]
            asked |= {one.row.visit_id for one in new}
            found += new
        elif rule.when == "link_unanswered":
            each = list(_to_remind(session, study, rule, now))
            known = queued_keys(session, [one.key for one in each])
            found += [one for one in each if one.key not in known]
    return found


def ask_due(session: Session, study: StudyInUse, *, address: str, now: datetime) -> int:
    """Make and send every link that is due by now, and remind of those that are not answered; gives how many messages.

    A link and its message are one transaction, and whoever does so at the same time waits for the participant and then
    finds the link. `address` is that of this installation, in front of `/link/`.
    """
    changes = []
    for one in due(session, study, now=now):
        act = _send if one.rule.when == "link_due" else _remind
        if act(session, study, one, address, now):
            new = {"rule": one.rule.code, "by": one.rule.by, "to": one.rule.to}
            changes.append(Change("reminder.queued", one.row.participant, f"visit/{one.row.visit}", new=new))
    record(session, study.code, changes, by=CLOCKWORK, now=now)
    return len(changes)


def _to_send(session: Session, study: StudyInUse, rule: Reminder, now: datetime) -> Iterator[Due]:
    rows = reads.visits_to_ask(session, study, rule, now=now)
    choices = choices_of(session, (row.participant_id for row in rows))
    for row in rows:
        here, choice = study.at(row.site_id), choices.get(row.participant_id, EVERYTHING)
        if not _may_be_asked(study, rule, row, choice):
            continue
        zone = choice.timezone or row.timezone
        schedule = here.definition.schedule
        moment = reminders.link_due(rule, schedule, row.opens_on, row.closes_on, timezone=row.timezone, theirs=zone)
        if moment.due_at <= now < moment.expires_at and _can_answer(session, here, row, rule, now):
            yield Due(rule, row, moment, choice)


def _to_remind(session: Session, study: StudyInUse, rule: Reminder, now: datetime) -> Iterator[Due]:
    rows = reads.links_unanswered(session, study, rule, now=now)
    choices = choices_of(session, (row.participant_id for row in rows))
    for row in rows:
        choice = choices.get(row.participant_id, EVERYTHING)
        if not _may_be_asked(study, rule, row, choice):
            continue
        assert row.made_at is not None
        assert row.expires_at is not None
        zone = (choice.timezone if rule.to == "participant" else None) or row.timezone
        # A link that was given ahead is answered from its window on, unless somebody allowed it earlier.
        asked_on = max(clock.today(row.timezone, row.made_at), row.opens_on)
        schedule = study.at(row.site_id).definition.schedule
        moment = reminders.link_unanswered(rule, schedule, asked_on, expires_at=row.expires_at, theirs=zone)
        if moment is None or not moment.due_at <= now < moment.expires_at:
            continue
        key = f"{REMINDER}{rule.code}/{study.code}/link/{row.link_id}"
        if rule.to == "participant":
            yield Due(rule, row, moment, choice, key)
            continue
        for each in people_to_tell(
            session, study.id, sorted(holders(Permission.PARTICIPANT_LINK)), site_id=row.site_id, but=CLOCKWORK
        ):
            yield Due(rule, row, moment, choice, f"{key}/person/{each.id}", each.email, each.language)


def _may_be_asked(study: StudyInUse, rule: Reminder, row: Asked, choice: Choice) -> bool:
    """Whether this rule holds for them, at their site and after what they said."""
    definition = study.at(row.site_id).definition
    if not holds_at(study, row.site_id, rule) or not definition.asked_of_participants(row.visit):
        return False
    level = withdrawal_level(definition, row.withdrawal_level or "")
    if reminders.why_not_contact(row.status, level):
        return False
    return rule.to == "staff" or (choice.sms if rule.by == "sms" else choice.mail)


def _can_answer(session: Session, study: StudyInUse, row: Asked, rule: Reminder, now: datetime) -> bool:
    """Whether a link would reach them, and open its questions: nobody is sent one that is in vain."""
    opened = open_identity(session, row.participant_id)
    if opened is None or not (opened[1].personal.phone if rule.by == "sms" else opened[1].personal.email):
        return False
    participant = session.get_one(Participant, row.participant_id)
    return why_no_consent(session, study, participant, before="entries", now=now) is None


def _send(session: Session, study: StudyInUse, one: Due, address: str, now: datetime) -> bool:
    """Make a link and queue it; whether it is new."""
    row = one.row
    hold(session, row.participant_id, "alone")
    made = exists().where(
        LINK.c.participant_id == row.participant_id, LINK.c.purpose == Purpose.QUESTIONS, LINK.c.about == row.visit
    )
    if session.execute(select(made)).scalar():
        return False
    language = one.choice.language or study.at(row.site_id).definition.language
    expires_at = min(one.moment.expires_at, now + timedelta(days=MOST_DAYS))
    number, token = links.make_link(
        session,
        study,
        session.get_one(Participant, row.participant_id),
        purpose=Purpose.QUESTIONS,
        about=row.visit,
        language=language,
        expires_at=expires_at,
        by=CLOCKWORK,
        now=now,
    )
    key = f"{REMINDER}{one.rule.code}/{study.code}/link/{number}"
    return _queue(session, study, one, key, number, token, language, expires_at, address, now)


def _remind(session: Session, study: StudyInUse, one: Due, address: str, now: datetime) -> bool:
    """Queue a reminder that carries the same link; whether it is new."""
    row = one.row
    assert row.link_id is not None
    assert row.seed is not None
    assert row.expires_at is not None
    token = links.secret_of(session, row.seed)
    language = one.choice.language or row.language or study.definition.language
    return _queue(session, study, one, one.key, row.link_id, token, language, row.expires_at, address, now)


def _queue(
    session: Session,
    study: StudyInUse,
    one: Due,
    key: str,
    link_id: int,
    token: str,
    language: str,
    works_until: datetime,
    address: str,
    now: datetime,
) -> bool:
    rule, row, definition = one.rule, one.row, study.at(one.row.site_id).definition
    to_participant = rule.to == "participant"
    default = definition.language
    subject, body, said_in = reminders.words_of(rule, language if to_participant else "en", default)
    if to_participant and rule.by == "mail":
        body = reminders.with_way_out(body, said_in, row.site_name)
    planned = definition.visit(row.visit)
    values = reminders.values_for(
        language=said_in,
        site=row.site_name,
        timezone=row.timezone,
        opens_on=row.opens_on,
        # The last day on which it works: it ends with a day, or within one.
        closes_on=clock.today(row.timezone, works_until - timedelta(microseconds=1)),
        participant=None if to_participant else row.participant,
        visit=None if to_participant else planned.label if planned else row.visit,
        link=f"{address}/link/{SECRET}" if to_participant else None,
    )
    zone = (one.choice.timezone if to_participant else None) or row.timezone
    return queue(
        session,
        key=key,
        to_address=one.address,
        subject=reminders.filled(subject, values),
        body=reminders.filled(body, values),
        secret=token if to_participant else None,
        now=now,
        not_before=reminders.after_quiet(now, definition.schedule, zone),
        channel=rule.by,
        about=About(
            study.id,
            row.site_id,
            row.participant_id,
            rule.code,
            row.kind,
            to_participant=to_participant,
            visit_id=row.visit_id,
            link_id=link_id,
            expires_at=min(one.moment.expires_at, works_until),
        ),
        language=None if to_participant else one.language,
    )


def end_unsent(session: Session, study: StudyInUse, link_id: int, *, now: datetime) -> None:
    """End a link that a rule made and that reached nobody: it counts as sent nowhere."""
    sent = exists().where(MAIL.c.link_id == link_id, MAIL.c.sent_at.is_not(None))
    about = session.execute(
        update(LINK)
        .where(LINK.c.id == link_id, LINK.c.made_by == CLOCKWORK.username, LINK.c.opened_at.is_(None))
        .where(LINK.c.done_at.is_(None), LINK.c.ended_at.is_(None), ~sent)
        .values(ended_at=now, ended_by=CLOCKWORK.username)
        .returning(LINK.c.about, LINK.c.participant_id)
    ).first()
    if about is not None:
        code = session.get_one(Participant, about.participant_id).code
        record(session, study.code, [Change("link.ended", code, f"link/{about.about}")], by=CLOCKWORK, now=now)
