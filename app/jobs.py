"""What is done by the clock? Reminders that are due are queued, what waits in the outbox is sent, exports are made.

Any number of workers do both at the same time: each message is claimed in the database first, and each reminder has a
key that the outbox takes once. A worker that dies holds its claim for `CLAIM`; then another one takes the message. Only
between handing a message over and writing that it left is it unknown whether it did: it is handed over again under the
same key, which a mail carries as its Message-ID, and a text message as its file name. Safety is looked after first.
"""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlmodel import Session

from app.amendments.actions import carry_out_due
from app.capture.questionnaires import actions as questionnaires
from app.capture.questionnaires.reads import answered_since
from app.consent.rules import COPY_LACKS
from app.exports.running import make_waiting
from app.foundation import clock
from app.foundation.database import Database, table_of
from app.foundation.failures import told
from app.mail.actions import text_of
from app.mail.channels import Channel, MailServer, Message, TextFiles, Undelivered
from app.mail.models import OutboxMail
from app.people.reads import STUDY
from app.safety.watching import watch
from app.schedule.reminders import actions as reminders
from app.schedule.reminders.reads import reachable
from app.settings import Settings
from app.signed_copy import copy_of_consent
from app.studies.in_use import StudyInUse, study_in_use
from app.studies.reads import all_studies

log = logging.getLogger("equipoise.jobs")
OUTBOX = table_of(OutboxMail)
WAITS = (1, 5, 15, 60, 240)  # minutes between attempts; after the last one, every four hours
CLAIM = timedelta(minutes=5)
MOST_ATTEMPTS = 10
"""A message of a study is given up after so many, a day and a half; it stands on the page of messages then."""


def channels_of(settings: Settings) -> dict[str, Channel]:
    """The ways out that these settings give."""
    return {
        "mail": MailServer(settings.smtp_host, settings.smtp_port, settings.smtp_from),
        "sms": TextFiles(settings.sms_folder),
    }


def carry_out_amendments(database: Database) -> int:
    """Put versions in force at the sites whose day has come, and let visits follow; gives how many people were met."""
    try:
        return carry_out_due(database, now=clock.now())
    except Exception as problem:
        log.error("Amendments were not carried on in this round, the next one takes them up: %s", told(problem))
        return 0


def queue_due_reminders(database: Database, settings: Settings | None = None) -> int:
    """Queue the reminders of every study that are due by now, and send the links that are; gives how many are new.

    Looked for in a reading session first: most rounds find none, and nobody waits for them then.
    """
    queued, address = 0, (settings or Settings()).address
    with database.reading() as session:
        studies = [study.code for study in all_studies(session) if study.version_id is not None]
    for code in studies:
        now = clock.now()
        with database.reading() as session:
            study = study_in_use(session, code)
            waits = bool(reminders.due(session, study, now=now))
            asks = bool(questionnaires.due(session, study, now=now))
        if waits:
            with database.writing() as session:
                queued += reminders.queue_due(session, study, now=now)
        if asks:
            with database.writing() as session:
                queued += questionnaires.ask_due(session, study, address=address, now=now)
    return queued


def send_due_mail(
    database: Database, settings: Settings, *, limit: int = 100, channels: Mapping[str, Channel] | None = None
) -> int:
    """Send what is due and return how many left. A mail is claimed in one transaction and marked sent in the next."""
    ways = channels if channels is not None else channels_of(settings)
    watch(database, now=clock.now())
    sent = 0
    for _ in range(limit):
        mail = claim(database, clock.now())
        if mail is None:
            break
        sent += mark(database, mail, deliver(database, mail, ways), clock.now())
    return sent


def make_exports(database: Database, settings: Settings, *, limit: int = 10) -> int:
    """Make the exports that people asked for to be made in the background; gives how many were made."""
    return make_waiting(database, settings.exports, clock.now, limit=limit)


def tell_webhooks(database: Database, settings: Settings, *, limit: int = 200) -> int:
    """Queue what webhooks are to be told and tell what is due; gives how many events were taken."""
    from app.webhooks import actions as webhooks
    from app.webhooks.sending import send

    taken = 0
    try:
        webhooks.queue_events(database, now=clock.now())
        for _ in range(limit):
            event = webhooks.claim(database, now=clock.now())
            if event is None:
                break
            status, error = send(event, allowed=settings.webhooks_allowed)
            taken += webhooks.mark(database, event, status=status, error=error, now=clock.now())
    except Exception as problem:
        log.error("Webhooks were not told in this round, the next one takes them up: %s", told(problem))
    return taken


class Dropped(Exception):
    """It does not hold any more, and is not to be sent."""


class Held(Exception):
    """It is not sent now, because its reader is not to be disturbed before an instant."""

    def __init__(self, until: datetime) -> None:
        super().__init__()
        self.until = until


def claim(database: Database, now: datetime) -> OutboxMail | None:
    """The next mail nobody else is sending: its `not_before` moves on, so that a crash only delays it."""
    with database.writing() as session:
        row = session.execute(
            select(OUTBOX)
            .where(OUTBOX.c.sent_at.is_(None), OUTBOX.c.ended_at.is_(None), OUTBOX.c.not_before <= now)
            .order_by(OUTBOX.c.not_before, OUTBOX.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if row is None:
            return None
        session.execute(
            update(OUTBOX).where(OUTBOX.c.id == row.id).values(not_before=now + CLAIM, attempts=OUTBOX.c.attempts + 1)
        )
        return OutboxMail(**{**row._mapping, "attempts": row.attempts + 1})


def deliver(database: Database, mail: OutboxMail, channels: Mapping[str, Channel]) -> Exception | None:
    """Hand one message over, when it still holds; what came in the way."""
    try:
        address, files = mail.to_address, []
        if mail.study_id is not None:
            with database.reading() as session:
                study = _study(session, mail.study_id)
                goes = reachable(session, mail, study, now=clock.now())
                if mail.link_id is not None and answered_since(session, study, mail.link_id):
                    return Dropped("The questions are answered, or not asked any more.")
                if goes.address is None:
                    # A copy that lacks an address waits for somebody who finds one, or hands it out.
                    if mail.consent_id is not None and goes.reason in COPY_LACKS:
                        return Undelivered(goes.reason, for_good=True)
                    return Dropped(goes.reason)
                if goes.waits_until is not None:
                    return Held(goes.waits_until)
                if mail.consent_id is not None:
                    files = copy_of_consent(session, study, mail.consent_id)
            address = goes.address
        text = text_of(database.keys, mail)
        message = Message(mail.key, address, mail.subject, text, mail.queued_at, mail.calendar, files)
        channels[mail.channel].deliver(message)
    except Undelivered as problem:
        return problem
    except Exception as problem:  # one message that cannot be made must not keep all others waiting
        log.error("message %s could not be made: %s", mail.id, type(problem).__name__)
        return Undelivered(f"It could not be made: {type(problem).__name__}.")
    return None


def mark(database: Database, mail: OutboxMail, problem: Exception | None, now: datetime) -> int:
    """Write down what became of it: 1 when it left, else 0.

    Whoever held the claim too long, so that another has it now, changes nothing but that it left.
    """
    values: dict[str, object]
    if problem is None:
        values = {"sent_at": now, "last_error": None, "sealed": None, "ended_at": None, "ended_as": None}
    elif isinstance(problem, Dropped):
        values = {"ended_at": now, "ended_as": "dropped", "last_error": str(problem)}
    elif isinstance(problem, Held):
        values = {"not_before": problem.until, "attempts": mail.attempts - 1}  # it was not tried
    else:
        assert isinstance(problem, Undelivered)
        wait = WAITS[min(mail.attempts - 1, len(WAITS) - 1)]
        values = {"not_before": now + timedelta(minutes=wait), "last_error": problem.reason}
        if mail.study_id is not None and (problem.for_good or mail.attempts >= MOST_ATTEMPTS):
            values |= {"ended_at": now, "ended_as": "failed"}
    query = update(OUTBOX).where(OUTBOX.c.id == mail.id, OUTBOX.c.sent_at.is_(None))
    if problem is not None:
        query = query.where(OUTBOX.c.attempts == mail.attempts)
    with database.writing() as session:
        session.execute(query.values(**values))
        if isinstance(problem, Dropped) and mail.link_id is not None and mail.study_id is not None:
            questionnaires.end_unsent(session, _study(session, mail.study_id), mail.link_id, now=now)
    return 0 if problem is not None else 1


def _study(session: Session, study_id: int) -> StudyInUse:
    return study_in_use(session, session.execute(select(STUDY.c.code).where(STUDY.c.id == study_id)).scalar_one())
