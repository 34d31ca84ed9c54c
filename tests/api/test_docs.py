"""The cookbook of docs/api.md does what it says: every block of code in it is run, in order, against a real server."""

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_origin

import pytest
import uvicorn

from app.api import router
from app.api.operations import OF_STUDY, Operation
from app.api.shapes import PageOf
from app.foundation import clock
from app.people.permissions import Permission, Role
from app.studies.actions import load_study
from app.studies.in_use import study_in_use
from app.studies.loading import LIBRARY, read_folder
from tests.api.client import PASSWORD, api_client, application_on, new_token_for
from tests.conftest import ROOT
from tests.factories import person

PAGE = ROOT / "docs" / "api.md"


def run_blocks(page: Path, folder: Path) -> dict[str, Any]:
    """Run every block of code on a page, in order, as somebody types it; what its Python left is given."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.M | re.S)
    assert {language for language, _ in found} == {"bash", "python"}
    names: dict[str, Any] = {}
    for language, text in found:
        if language == "python":
            exec(compile(text, str(page), "exec"), names)
        elif shutil.which("curl"):
            _run_in_shell(text, folder)
    return names


@contextmanager
def served(application: Any) -> Iterator[str]:
    """The application on a port of its own."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < until, "The server did not start."
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_every_block_of_the_cookbook_runs(database, tmp_path, monkeypatch, capsys):
    definition, _ = read_folder(LIBRARY / "resolve")
    assert definition is not None
    with database.writing() as session:
        load_study(session, definition, by=person(session, None, Role.ADMINISTRATOR), now=clock.now())
        study = study_in_use(session, "resolve")
        coordinator = person(session, study, Role.COORDINATOR, site_code="neura")
        manager = person(session, study, Role.DATA_MANAGER)
        statistician = person(session, study, Role.STATISTICIAN, site_code=None)
    application = application_on(database)
    code = _somebody_at_baseline(api_client(database, coordinator))
    drawing = api_client(database, statistician)
    drawing.done("POST", "/sequences", {"method": "permuted_blocks", "block_sizes": [4], "slots_per_stratum": 40})
    with served(application) as address:
        surroundings = {
            "EQUIPOISE": f"{address}/api/v1/studies/resolve",
            "TOKEN": new_token_for(database, coordinator, sorted(set(Permission) - {Permission.AUDIT_READ})),
            "MANAGER_TOKEN": new_token_for(database, manager),
            "STATISTICIAN_TOKEN": drawing.token,
        }
        for name, value in surroundings.items():
            monkeypatch.setenv(name, value)
        names = run_blocks(PAGE, tmp_path)
        said = capsys.readouterr().out
        assert definition.title in said
        assert "screen_failed" in said
        assert "422 There is no such parameter here. Known are: cursor, limit, site, status" in said
        assert "422 Not valid\nage " in said
        assert said.splitlines().count("2" if shutil.which("curl") else "1") == 1  # screened by curl and by Python
        assert f"{code} baseline pain_intensity 4" in said
        reply = names["correct"](code, "baseline", "pain", "Read from the paper again.", pain_intensity=5)
        assert (reply.status_code, reply.json()["version"], reply.json()["changed"]) == (200, 2, ["pain_intensity"])
        assert "\nversion 2\n" in said
        assert "\nintact " in said
        (baseline,) = (each for each in names["study"].get(f"/participants/{code}/visits").json()["items"])
        held = {"status": "held", "held_on": baseline["target_on"], "version": baseline["version"]}
        assert names["study"].put(f"/participants/{code}/visits/baseline", json=held).status_code == 200
        assert names["open_again"](code, "baseline", "Somebody else was here.")["status"] == "planned"
        names["study"].close()
    if shutil.which("curl"):
        assert drawing.done("GET", "/sequences/1")["status"] == "retired"


def _somebody_at_baseline(client: Any) -> str:
    """A participant with one entry, so that there is something to read."""
    answers = {
        "age": 46,
        "english": True,
        "main_complaint": True,
        "pain_weeks": 40,
        "pain_past_week": 6,
        "serious_condition": False,
        "previous_surgery": False,
    }
    screened = client.done("POST", "/participants", {"site": "neura", "answers": answers})
    assert screened["eligible"], screened
    today = client.done("GET", f"/participants/{screened['code']}")["screened_on"]
    where = f"/participants/{screened['code']}"
    options = {"future_contact": False, "data_sharing": True}
    consent = {"version": "1", "signed_on": today, "signature": "Kiri Walker", "options": options, "password": PASSWORD}
    client.done("POST", f"{where}/consents", consent)
    client.done("PUT", f"{where}/visits/baseline/entries/pain", {"values": {"pain_intensity": 4}})
    return str(screened["code"])


def _run_in_shell(text: str, folder: Path) -> None:
    """A block as somebody types it, with the address and tokens of this test in place of those it exports."""
    lines = [line for line in text.splitlines() if not line.startswith("export ")]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
        cwd=folder,
        env={**os.environ, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_the_page_names_every_filter_of_every_list():
    written = re.findall(r"^\| `(/[^`]*)` \| (`.*`) \|$", PAGE.read_text(), re.M)
    known = {}
    for route in router.routes:
        if not (isinstance(route, Operation) and route.methods == {"GET"} and is_list(route.response_model)):
            continue
        if names := [name for name in route.known if name not in ("cursor", "limit", "fields", "expand")]:
            known[route.path.removeprefix(OF_STUDY)] = names
    assert {path: re.findall("`([^`]*)`", names) for path, names in written} == known


def is_list(model: Any) -> bool:
    return get_origin(model) is list or (isinstance(model, type) and issubclass(model, PageOf))
