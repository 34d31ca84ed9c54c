"""Do the scripts that the page of exports gives bring the whole file, also where the download breaks off?"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.exports.choice import Choice
from app.exports.running import make_waiting
from app.foundation import clock
from app.foundation.database import Database
from tests.api.client import api_client, application_on
from tests.api.test_docs import served
from tests.exports.world import entry, participant
from tests.factories import mini_study, person
from tests.web.browser import signed_in_client

FIRST = 3_000
"""So many bytes of a file arrive before the line goes dead, each time."""


class Bad:
    """A line that breaks off, with somebody behind it who makes what waits; it remembers which parts were asked for."""

    def __init__(self, application: Any, database: Database, *, breaks: int) -> None:
        self.application, self.database, self.breaks = application, database, breaks
        self.asked: list[str] = []
        self.polled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if re.search(r"/export-runs/\d+$", scope["path"]):
            self.polled += 1
            if self.polled == 2:  # once they wait
                make_waiting(self.database, self.application.state.settings.exports, clock.now)
        if not scope["path"].endswith("/file"):
            await self.application(scope, receive, send)
            return
        self.asked.append(dict(scope["headers"]).get(b"range", b"").decode())
        left = FIRST if len(self.asked) <= self.breaks else None

        async def cut(message: Any) -> None:
            nonlocal left
            if message["type"] == "http.response.body" and left is not None:
                body = message.get("body", b"")
                await send({**message, "body": body[:left], "more_body": True})
                left -= len(body[:left])
                if not left:
                    raise ConnectionResetError
                return
            await send(message)

        await self.application(scope, receive, cut)


def _programme(language: str) -> list[str]:
    """What runs a script of this language; skips where it is not."""
    if language == "Python":
        return [sys.executable]
    name = {"curl": "bash", "R": "Rscript"}[language]
    if not (found := shutil.which(name)) or not (name == "Rscript" or shutil.which("curl")):
        pytest.skip(f"There is no {name} here with what the script needs.")
    wanted = 'quit(status = !all(c(requireNamespace("curl"), requireNamespace("jsonlite"))))'
    if name == "Rscript" and subprocess.run([found, "-e", wanted], check=False, capture_output=True).returncode:
        pytest.skip(
            "The packages curl and jsonlite of R are not here; on Debian they are r-cran-curl, r-cran-jsonlite."
        )
    return [found]


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("language", ["curl", "Python", "R"])
def test_a_script_made_in_the_background_goes_on_where_the_line_broke(
    database: Database, tmp_path: Path, language: str
):
    programme = _programme(language)
    with database.writing() as session:
        study = mini_study(session)
        for number in range(1, 101):
            row = participant(session, study, number, site_code="north")
            entry(session, study, row, "week18", "pain", {"pain_nrs": number % 10, "pain_note": "é" * 50})
        manager = person(session, study, "data_manager")
    page = signed_in_client(database, manager).soup("/mini/exports?table=entries&visit=week18")
    (script,) = [
        code.get_text()
        for code in page.select("details pre code")
        if {"curl": "continue-at", "Python": "import", "R": "<-"}[language] in code.get_text()
    ]
    token = api_client(database, manager).token
    application = application_on(database)
    line = Bad(application, database, breaks=2)
    name = re.search(r"mini_entries_\w+-\d+-\d+\.csv", script)
    assert name is not None
    (tmp_path / name[0]).write_text("of an earlier day")
    changed = [text.removeprefix("# ") for text in script.splitlines() if re.match(r"# (change|asked)", text)]
    said = {
        "curl": 'echo "$asked"',
        "Python": "print(json.dumps(asked))",
        "R": "cat(jsonlite::toJSON(asked, auto_unbox = TRUE))",
    }
    with served(line) as address:
        text = re.sub(r"http://[^/'\"]+", address, script)
        text = re.sub(r"sleep\(?2|Sys.sleep\(2", lambda found: found[0].replace("2", "0.1"), text)
        text = text.replace("import pandas\ntable = pandas.read_csv(name)", "")
        file = tmp_path / "script"
        file.write_text("\n".join([text, *changed, said[language]]))
        surroundings = {**os.environ, "EQUIPOISE_TOKEN": token, "no_proxy": "127.0.0.1"}
        done = subprocess.run(
            [*programme, str(file)],
            cwd=tmp_path,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    run = api_client(database, manager).done("GET", "/export-runs")["items"][0]
    content = (tmp_path / name[0]).read_bytes()
    assert len(content) == run["bytes"] > 3 * FIRST
    assert hashlib.sha256(content).hexdigest() == run["sha256"]
    assert line.asked[1:] == [f"bytes={FIRST}-", f"bytes={2 * FIRST}-"], "what had arrived is not asked for again"
    again = json.loads(done.stdout.splitlines()[-1])
    assert again == {"asked": {"tables": ["entries"], "visits": ["week18"]}, "since": run["change"]}
    assert Choice.model_validate(again["asked"]) == Choice.model_validate(run["asked"])
