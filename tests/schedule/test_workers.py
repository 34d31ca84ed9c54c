"""Several workers at the same time, on a database with real commits: each message leaves once, and none is left."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import time, timedelta

import pytest
import time_machine

from app import jobs
from app.foundation.database import Database
from app.mail.channels import Message
from app.schedule.appointments.actions import Wish, book
from app.settings import Settings
from tests.consent.acts import study_with_consent
from tests.factories import NOW, TODAY
from tests.schedule.test_actions import enrolled
from tests.schedule.test_reminders import RULES, reach

PARTICIPANTS = 12


class Way:
    """Counts what it is given, from any thread."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.lock = threading.Lock()

    def deliver(self, message: Message) -> None:
        with self.lock:
            self.got.append(message.key)


@pytest.mark.requirement("REL-5")
def test_four_workers_queue_and_send_every_reminder_once(database: Database) -> None:
    with database.writing() as session:
        study = study_with_consent(session, **RULES)
        for _ in range(PARTICIPANTS):
            one, by = enrolled(session, study)
            reach(session, study, one)
            wish = Wish(TODAY + timedelta(days=5), time(10), 60)
            book(session, study, one, wish, visit="week18", by=by, now=NOW)
    way = Way()

    def work(_: int) -> int:
        queued = jobs.queue_due_reminders(database)
        while jobs.send_due_mail(database, Settings(), channels={"mail": way, "sms": way}):
            pass
        return queued

    with time_machine.travel(NOW + timedelta(days=4, hours=12), tick=True), ThreadPoolExecutor(4) as pool:
        queued = sum(pool.map(work, range(4)))
    # By mail two days before, and by text the day before; what was told of the booking itself waits for the morning.
    assert queued == 2 * PARTICIPANTS
    assert len(way.got) == len(set(way.got)) == 3 * PARTICIPANTS
