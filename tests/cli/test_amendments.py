"""An amendment from the command line: compared, looked at, given a day, carried out."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from app.installation import open_database
from app.settings import Settings
from tests.cli.test_cli import LIBRARY, Installation, equipoise, installed

__all__ = ["equipoise", "installed"]


@pytest.mark.requirement("CON-10")
def test_an_amendment_goes_its_way(equipoise: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "resolve"
    shutil.copytree(LIBRARY / "resolve", folder)
    equipoise("study", "load", folder)
    with open_database(Settings(data=equipoise.folder)).writing() as session:
        session.execute(text("UPDATE study SET last_participant = 1"))
    definition = folder / "study.yaml"
    before = definition.read_text()
    after = before.replace('version: "1.1"', 'version: "1.2"').replace("day: 7\n", "day: 8\n", 1)
    assert after.count("day: 8\n") == 1
    definition.write_text(after)
    said = equipoise("study", "diff", "resolve:1.1", folder)
    assert "Treatment session 1: was due on day 7 from randomisation, is now due on day 8" in said
    assert said.strip().endswith("One difference.")
    assert "Both say the same" in equipoise("study", "diff", "resolve", LIBRARY / "resolve")
    assert "it waits" in equipoise("study", "load", folder)
    effect = equipoise("study", "effect", "resolve", "1.2")
    assert "neura: version 1.1 to 1.2" in effect
    assert "There is nobody at this site yet." in effect
    assert "no such site" in equipoise("study", "effect", "resolve", "1.2", "--site", "west", code=1)
    assert "is no day" in equipoise("study", "amend", "resolve", "1.2", "--why", "x", "--from", "soon", code=1)
    asked = ("study", "amend", "resolve", "1.2", "--why", "HREC 15-123")
    assert "more than ten years ahead" in equipoise(*asked, "--from", "2999-01-01", code=1)
    assert "Planned for neura: 1." in equipoise(*asked)
    listed = equipoise("study", "versions", "resolve")
    assert "moving" in listed
    assert "in force there" in equipoise("study", "cancel", "resolve", "1", "--why", "x", code=1)
