"""A request that is refused is answered at once: asking who sent it must not wait for its own transaction."""

from datetime import timedelta
from pathlib import Path

import pytest
import time_machine

from app.foundation.database import Database
from app.people.rules import SEEN_EVERY
from tests.blinding.trial import API, BEGUN, Trial, set_up

SOON = SEEN_EVERY + timedelta(seconds=1)  # the last use of a session or token is due to be written down


def _refused(trial: Trial) -> None:
    body = {"held_on": BEGUN.date().isoformat(), "delivered": {}, "version": 0}
    for who, status in (("clinician", 404), ("coordinator", 404)):
        reply = trial.api(who, "PUT", f"{API}/treatment/participants/M-001/sessions/tx01", body)
        assert reply.status_code == status
        reply = trial.web(who, "POST", "/mini/treatment/M-001/sessions/tx01", {"held_on": "soon"})
        assert reply.status_code == status
    assert trial.api("statistician", "POST", f"{API}/sequences", {"method": "none"}).status_code == 422
    assert trial.web("statistician", "POST", "/mini/sequence/7/seal", {"password": "wrong"}).status_code == 404


@pytest.mark.timeout(60)
def test_a_refusal_does_not_wait_for_itself(database: Database, tmp_path: Path):
    """On PostgreSQL it would wait for ever, on SQLite until the writer's time is up."""
    with time_machine.travel(BEGUN, tick=False) as time:
        trial = set_up(database, tmp_path)
        trial.sign_in()
        _refused(trial)  # tokens that were never used before
        time.move_to(BEGUN + SOON)
        _refused(trial)
