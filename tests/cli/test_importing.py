"""A file of another system from the command line: converted, reported, checked and loaded."""

from pathlib import Path

import pytest

from tests.cli.test_cli import Installation, equipoise, installed
from tests.studies.test_importing_redcap import field, table

__all__ = ["equipoise", "installed"]


@pytest.mark.requirement("ODM-8")
def test_a_dictionary_is_converted_checked_and_loaded(equipoise: Installation, tmp_path: Path) -> None:
    file, folder = tmp_path / "pain.csv", tmp_path / "pain"
    file.write_bytes(table(field("name", identifier="y"), field("a", tags="@HIDDEN")))
    said = equipoise("study", "import", file, "--to", folder)
    for words in ("To be decided", "Personal data", "The action tag @HIDDEN.", f"equipoise study check {folder}"):
        assert words in said
    assert "@HIDDEN" in (folder / "README-import.md").read_text()
    checked = equipoise("study", "check", folder)
    assert "no errors" in checked
    assert checked.count("To be decided") == 9
    assert "Loaded pain version 1" in equipoise("study", "load", folder)
    assert "already and not empty" in equipoise("study", "import", file, "--to", folder, code=1)
    file.write_text("a,b\n1,2\n")
    assert "no REDCap data dictionary" in equipoise("study", "import", file, "--to", tmp_path / "other", code=1)
    assert "No such file" in equipoise("study", "import", tmp_path / "nothing.csv", "--to", folder, code=1)
    assert not (tmp_path / "other").exists()
