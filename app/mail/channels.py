"""How does a message leave? By mail server, or as a file that a gateway for text messages takes; one small interface.

A channel delivers one message under its key. To deliver the same key again must come to the same: a mail carries it as
its Message-ID, and a text message is a file of that name, which is written once.
"""

import hashlib
import json
import os
import smtplib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

ORGANISER = "organiser@equipoise.invalid"
"""Stands for the sender's address in a calendar that goes with a mail."""


@dataclass(frozen=True)
class Attachment:
    """A file that goes with a mail, under a name that says nothing of whom it is about."""

    name: str
    media_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Message:
    """One message on its way: to whom, what it says, and the calendar and the files that go with it."""

    key: str
    to: str = field(repr=False)
    subject: str
    text: str = field(repr=False)
    queued_at: datetime
    calendar: str | None = field(default=None, repr=False)
    attachments: Sequence[Attachment] = ()


class Undelivered(Exception):
    """It did not leave. `for_good`: the other side will never take it, so trying again by itself is in vain."""

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.for_good = for_good


class Channel(Protocol):
    """A way out."""

    def deliver(self, message: Message) -> None:
        """Hand one message over; Undelivered when it was not taken."""


@dataclass(frozen=True)
class MailServer:
    """Mail, by SMTP. Without a host every message waits."""

    host: str | None
    port: int
    sender: str
    timeout: float = 20

    def deliver(self, message: Message) -> None:
        """Hand it to the mail server. No address and nothing of the text stands in what is said of a failure."""
        if self.host is None:
            raise Undelivered("No mail server is set (EQUIPOISE_SMTP_HOST).")
        mail = EmailMessage()
        mail["From"] = self.sender
        mail["To"] = message.to
        mail["Subject"] = message.subject
        mail["Message-ID"] = f"<{message.key}@equipoise>"
        mail["Date"] = message.queued_at
        mail["Auto-Submitted"] = "auto-generated"  # so that no out-of-office reply comes back (RFC 3834 5)
        mail.set_content(message.text)
        if message.calendar is not None:
            calendar = message.calendar.replace(ORGANISER, self.sender)
            method = "CANCEL" if "\r\nMETHOD:CANCEL\r\n" in calendar else "PUBLISH"
            mail.add_attachment(
                calendar.encode(),
                maintype="text",
                subtype="calendar",
                filename="appointment.ics",
                params={"method": method, "charset": "utf-8"},
            )
        for each in message.attachments:
            kind, _, part = each.media_type.partition("/")
            mail.add_attachment(each.data, maintype=kind, subtype=part, filename=each.name)
        try:
            with smtplib.SMTP(self.host, self.port, timeout=self.timeout) as server:
                server.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            reason = f"{type(error).__name__}: {error}".replace(message.to, "(the address)")[:300]
            raise Undelivered(reason, for_good=_is_for_good(error)) from None


def _is_for_good(error: Exception) -> bool:
    """Whether a server said that it will never take this: a reply of 500 and above (RFC 5321 4.2.1)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPResponseException) and error.smtp_code >= 500


@dataclass(frozen=True)
class TextFiles:
    """Text messages as files, one each, for a gateway that takes them from a folder. Without one they wait."""

    folder: Path | None

    def deliver(self, message: Message) -> None:
        """Write it, whole or not at all, and once however often it is asked: the name of the file is its key."""
        if self.folder is None:
            raise Undelivered("No way to send text messages is set (EQUIPOISE_SMS_FOLDER).")
        name = hashlib.sha256(message.key.encode()).hexdigest()[:32]
        path = self.folder / f"{name}.json"
        part = self.folder / f".{name}.{os.getpid()}.part"
        said = {"key": message.key, "to": message.to, "text": message.text}
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(said, file, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, path)  # fails when it is there: written before, and the answer was lost
            except FileExistsError:
                pass
            finally:
                part.unlink()
        except OSError as error:
            raise Undelivered(f"{type(error).__name__}: the folder for text messages cannot be written.") from None
