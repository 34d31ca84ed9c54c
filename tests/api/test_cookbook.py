"""Every block of docs/cookbook.md is run, in order, against a served installation."""

import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.exports.running import make_waiting
from app.foundation import clock
from app.foundation.database import Database
from app.people.permissions import Role
from app.studies.actions import load_study
from app.studies.in_use import study_in_use
from app.studies.loading import LIBRARY, read_folder
from app.webhooks.rules import signature
from tests.api.client import api_client, application_on
from tests.api.test_docs import _somebody_at_baseline, run_blocks, served
from tests.conftest import ROOT
from tests.factories import person

PAGE = ROOT / "docs" / "cookbook.md"


@contextmanager
def jobs(database: Database, folder: Path) -> Iterator[None]:
    """Somebody who makes the exports that wait, as `equipoise jobs` does."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.1):
            make_waiting(database, folder, clock.now)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_every_block_runs(database, tmp_path, monkeypatch, capsys):
    definition, _ = read_folder(LIBRARY / "resolve")
    assert definition is not None
    with database.writing() as session:
        load_study(session, definition, by=person(session, None, Role.ADMINISTRATOR), now=clock.now())
        study = study_in_use(session, "resolve")
        coordinator = person(session, study, Role.COORDINATOR, site_code="neura")
        manager = person(session, study, Role.DATA_MANAGER, site_code=None)
    client = api_client(database, coordinator)
    code = _somebody_at_baseline(client)
    application = application_on(database)
    with served(application) as address, jobs(database, application.state.settings.exports):
        monkeypatch.setenv("EQUIPOISE", f"{address}/api/v1/studies/resolve")
        monkeypatch.setenv("TOKEN", client.token)
        monkeypatch.setenv("MANAGER_TOKEN", api_client(database, manager).token)
        monkeypatch.chdir(tmp_path)
        names = run_blocks(PAGE, tmp_path)
        names["api"].close()
    said = capsys.readouterr().out
    assert f"codes ['{code}']" in said
    assert "again 304" in said
    assert "changed 200 late 412" in said
    assert "would be changed [{'item': 'pain_intensity', 'old': 6, 'new': 7}] []" in said
    assert "patient 200" in said
    assert "rows" in said.partition(" came 0")[0]
    assert "fetched done 1" in said
    assert hashlib.sha256((tmp_path / names["run"]["file_name"]).read_bytes()).hexdigest() == names["run"]["sha256"]
    assert {"DM", "DS", "QS"} <= {dataset for dataset, _ in names["kept"]}
    assert {one["resourceType"] for one in names["held"].values()} >= {"QuestionnaireResponse", "AuditEvent"}
    now = int(time.time())
    assert names["is_ours"](b"{}", signature((names["secret"],), now, "{}"), names["secret"])
    assert names["is_ours"](b"{}", signature(("another", names["secret"]), now, "{}"), names["secret"])
    assert not names["is_ours"](b"{} ", signature((names["secret"],), now, "{}"), names["secret"])
    assert not names["is_ours"](b"{}", signature((names["secret"],), now - 900, "{}"), names["secret"])
    if shutil.which("curl"):
        entry = client.done("GET", f"/participants/{code}/visits/baseline/entries/pain")
        assert entry["values"]["pain_intensity"] == 7
