"""Telling a person by mail that something happened to their account, so that they notice when it was not them."""

from datetime import datetime
from typing import Any

from sqlmodel import Session

from app.mail.actions import queue

# OWASP ASVS 6.3.7. No name and no link: a mail that asks for nothing cannot be imitated to any purpose.
NOTICES = {
    "password.changed": (
        "Your password was changed",
        "The password of your Equipoise account was changed. If it was not you, tell your administrator now.",
    ),
    "second_factor.enrolled": (
        "A second factor was set up",
        "A second factor was set up for your Equipoise account. If it was not you, tell your administrator now.",
    ),
    "second_factor.removed": (
        "Your second factor was removed",
        "The second factor of your Equipoise account was removed. If you did not ask for it, tell your administrator "
        "now.",
    ),
    "passkey.added": (
        "A passkey was added",
        "A passkey was added to your Equipoise account. If it was not you, tell your administrator now.",
    ),
    "passkey.removed": (
        "A passkey was removed",
        "A passkey of your Equipoise account was removed. If it was not you, tell your administrator now.",
    ),
    "recovery_codes.made": (
        "Recovery codes were made",
        "Recovery codes were made for your Equipoise account; older ones work no more. If it was not you, tell your "
        "administrator now.",
    ),
    "recovery_code.used": (
        "A recovery code was used",
        "A recovery code of your Equipoise account was used in place of your second factor. If it was not you, tell "
        "your administrator now.",
    ),
    "sign_in.throttled": (
        "Attempts to sign in were stopped",
        "Somebody tried to sign in to your Equipoise account too often and must wait. If it was not you, tell your "
        "administrator. You need not do anything else: your password is unchanged.",
    ),
}


def notify(session: Session, person: Any, event: str, *, now: datetime, once: str | None = None) -> None:
    """Queue the notice of an event; with `once`, at most one for each value of it."""
    subject, body = NOTICES[event]
    key = f"{event}/{person.id}/{once or now.isoformat()}"
    queue(
        session,
        key=key,
        to_address=person.email,
        subject=f"Equipoise: {subject}",
        body=body,
        now=now,
        language=person.language,
    )
