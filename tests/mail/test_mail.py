"""Mail leaves after the transaction, once, through a real SMTP server."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from aiosmtpd.controller import Controller
from sqlalchemy import select

from app.foundation.database import Database
from app.jobs import OUTBOX, send_due_mail
from app.mail.actions import SECRET, queue
from app.settings import Settings
from tests.factories import NOW


class Inbox:
    """Keeps what arrives; refuses the first `refusals` mails."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refusals = 0

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 its protocol
        if self.refusals:
            self.refusals -= 1
            return "451 Try again later"
        self.mails.append(envelope)
        return "250 OK"


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, Settings]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    box = Inbox()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, Settings(smtp_host="127.0.0.1", smtp_port=port)
    controller.stop()


def _queue(database: Database, key: str = "a") -> None:
    with database.writing() as session:
        queue(session, key=key, to_address="t@example.org", subject="Ünder way", body="A line.\nÄ", now=NOW)


@pytest.mark.requirement("CONC-12", "CONC-11")
def test_a_secret_is_sealed_while_it_waits_and_gone_once_it_left(
    database: Database, inbox: tuple[Inbox, Settings]
) -> None:
    box, settings = inbox
    with database.writing() as session:
        body = f"Here: https://trial.example.org/welcome/{SECRET}"
        queue(session, key="s", to_address="t@example.org", subject="Link", body=body, secret="aubergine-17", now=NOW)

    def kept() -> Any:
        with database.reading() as session:
            return session.execute(select(OUTBOX)).one()

    waiting = kept()
    assert b"aubergine" not in bytes(waiting.sealed)
    assert "aubergine" not in waiting.body
    with time_machine.travel(NOW, tick=False):
        box.refusals = 1
        assert send_due_mail(database, settings) == 0
        assert kept().sealed == waiting.sealed  # it is tried again
    with time_machine.travel(NOW + timedelta(hours=1), tick=False):
        assert send_due_mail(database, settings) == 1
    assert "welcome/aubergine-17" in box.mails[0].content.decode()
    assert kept().sealed is None


def test_a_mail_is_sent_once_however_often_it_is_queued(database: Database, inbox: tuple[Inbox, Settings]) -> None:
    box, settings = inbox
    _queue(database)
    _queue(database)
    with time_machine.travel(NOW, tick=False):
        assert send_due_mail(database, settings) == 1
        assert send_due_mail(database, settings) == 0
    assert len(box.mails) == 1
    arrived = box.mails[0].content.decode()
    assert "Subject: =?utf-8?" in arrived
    assert "\r\nAuto-Submitted: auto-generated\r\n" in arrived  # no out-of-office reply comes back


def test_nothing_is_sent_of_a_change_that_did_not_stand(database: Database, inbox: tuple[Inbox, Settings]) -> None:
    box, settings = inbox
    with pytest.raises(RuntimeError), database.writing() as session:  # noqa: PT012
        queue(session, key="a", to_address="t@example.org", subject="s", body="b", now=NOW)
        raise RuntimeError
    with time_machine.travel(NOW, tick=False):
        assert send_due_mail(database, settings) == 0
    assert not box.mails


def test_a_refused_mail_waits_and_is_tried_again(database: Database, inbox: tuple[Inbox, Settings]) -> None:
    box, settings = inbox
    box.refusals = 1
    _queue(database)
    with time_machine.travel(NOW, tick=False):
        assert send_due_mail(database, settings) == 0
        assert send_due_mail(database, settings) == 0
    with database.reading() as session:
        row = session.execute(select(OUTBOX)).one()
        assert "451" in row.last_error
        assert row.attempts == 1
    with time_machine.travel(NOW + timedelta(minutes=6), tick=False):
        assert send_due_mail(database, settings) == 1
    assert len(box.mails) == 1


def test_without_a_mail_server_mails_wait(database: Database) -> None:
    _queue(database)
    with time_machine.travel(NOW, tick=False):
        assert send_due_mail(database, Settings(smtp_host=None)) == 0
    with database.reading() as session:
        assert session.execute(select(OUTBOX.c.sent_at)).scalar() is None
