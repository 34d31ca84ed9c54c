"""What is done by the clock? Safety is looked after; mail that waits is sent, each claimed in the database first."""

import logging
import smtplib
from datetime import datetime, timedelta
from email.message import EmailMessage

from sqlalchemy import select, update

from app.foundation import clock
from app.foundation.database import Database, table_of
from app.mail.actions import text_of
from app.mail.models import OutboxMail
from app.safety.watching import watch
from app.settings import Settings

log = logging.getLogger("equipoise.jobs")
OUTBOX = table_of(OutboxMail)
WAITS = (1, 5, 15, 60, 240)  # minutes between attempts; after the last one, every four hours
CLAIM = timedelta(minutes=5)


def send_due_mail(database: Database, settings: Settings, *, limit: int = 100) -> int:
    """Send what is due and return how many left. A mail is claimed in one transaction and marked sent in the next."""
    watch(database, now=clock.now())
    sent = 0
    for _ in range(limit):
        mail = _claim(database, clock.now())
        if mail is None:
            break
        error = _send(settings, mail, text_of(database.keys, mail))
        now = clock.now()
        with database.writing() as session:
            if error is None:
                sent += 1
                values: dict[str, object] = {"sent_at": now, "last_error": None, "sealed": None}
            else:
                wait = WAITS[min(mail.attempts, len(WAITS) - 1)]
                values = {"not_before": now + timedelta(minutes=wait), "last_error": error}
            session.execute(update(OUTBOX).where(OUTBOX.c.id == mail.id).values(**values))
    return sent


def _claim(database: Database, now: datetime) -> OutboxMail | None:
    """The next mail nobody else is sending: its `not_before` moves on, so that a crash only delays it."""
    with database.writing() as session:
        row = session.execute(
            select(OUTBOX)
            .where(OUTBOX.c.sent_at.is_(None), OUTBOX.c.not_before <= now)
            .order_by(OUTBOX.c.not_before, OUTBOX.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if row is None:
            return None
        session.execute(
            update(OUTBOX).where(OUTBOX.c.id == row.id).values(not_before=now + CLAIM, attempts=OUTBOX.c.attempts + 1)
        )
        return OutboxMail(**row._mapping)


def _send(settings: Settings, mail: OutboxMail, text: str) -> str | None:
    """Hand one mail to the mail server; the reason when it would not take it."""
    if settings.smtp_host is None:
        return "No mail server is set (EQUIPOISE_SMTP_HOST)."
    message = EmailMessage()
    message["From"] = settings.smtp_from
    message["To"] = mail.to_address
    message["Subject"] = mail.subject
    message["Message-ID"] = f"<{mail.key}@equipoise>"
    message["Date"] = mail.queued_at
    message.set_content(text)
    try:
        with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=20) as server:
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        return f"{type(error).__name__}: {error}"[:300]
    return None
