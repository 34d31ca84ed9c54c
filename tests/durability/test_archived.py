"""Is an archive more than rows? Put back, it is the trial again: checks ask, queries wait, the log goes on."""

from pathlib import Path

import pytest

from app.audit.verify import verify
from app.foundation import clock
from app.foundation.backup import backup, restore
from app.foundation.database import Database
from tests.conftest import KEYS, migrate
from tests.web.browser import signed_in_client
from tests.web.test_entries import said
from tests.web.world import World

FORM = "/mini/participants/M-001/visits/baseline/entries/pain"
pytestmark = pytest.mark.both_databases


@pytest.mark.requirement("EMA-14", "AX11-17", "ALC-+")
def test_an_archive_is_a_trial_that_goes_on(database: Database, tmp_path: Path) -> None:
    world = World(database)
    world.filled()
    monitor, manager = world.browser("monitor"), world.browser("data_manager")
    assert monitor.post(f"{FORM}/queries/pain_nrs", {"text": "The diary says 3."}).status_code == 303
    coordinator = world.coordinator()
    assert coordinator.post(FORM, {"pain_nrs": "6", "form-why": "Misread"}).status_code == 303
    people = [each.actor for each in (coordinator, monitor, manager)]
    history, log = coordinator.soup(f"{FORM}/history/pain_nrs").select("tbody tr"), manager.get("/mini/audit.csv").text
    backup(database, tmp_path / "archive.zip", now=clock.now())

    again = Database(f"sqlite:///{tmp_path / 'again.db'}", KEYS)
    migrate(again)
    restore(again, tmp_path / "archive.zip")
    coordinator, monitor, manager = (signed_in_client(again, each) for each in people)
    # Audit trail, edit checks, queries and the log of users are there, and work.
    assert coordinator.soup(f"{FORM}/history/pain_nrs").select("tbody tr") == history
    assert manager.get("/mini/audit.csv").text == log
    assert "The diary says 3." in monitor.soup(f"{FORM}/record").get_text()
    refused = coordinator.post(FORM, {"pain_nrs": "11", "form-why": "Read once more"})
    assert refused.status_code == 422
    assert [line[:16] for line in said(refused)] == ["Pain, past week:"], said(refused)
    assert coordinator.post(FORM, {"pain_nrs": "4", "form-why": "Read once more"}).status_code == 303
    newest, *before = coordinator.soup(f"{FORM}/history/pain_nrs").select("tbody tr")
    assert before == history
    assert [str(newest.find(each).get_text()) for each in ("del", "ins")] == ["6", "4"]  # type: ignore[union-attr]
    with again.reading() as session:
        assert verify(session, "mini").intact
    again.dispose()
