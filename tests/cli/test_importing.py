"""A file of another system from the command line: converted, reported, checked and loaded."""

from pathlib import Path

import pytest

from tests.cli.test_cli import LIBRARY, Installation, _statistician, equipoise, installed
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


def test_a_file_of_data_is_read_by_its_mark_or_refused_and_never_guessed_at(
    equipoise: Installation, tmp_path: Path
) -> None:
    """A letter that could not be read would stand in the answers, and nobody would know which it was."""
    equipoise("study", "load", LIBRARY / "resolve")
    _statistician(equipoise, "dana", role="data_manager@resolve")
    file, rows = tmp_path / "rows.csv", "participant,visit,pain_intensity\nMüller,week18,3\n"
    file.write_bytes(rows.encode("latin-1"))
    assert "not in UTF-8" in equipoise("data", "import", "resolve", file, "--by", "dana", code=1)
    file.write_bytes(rows.encode("utf-16"))
    assert "There is no participant “Müller”" in equipoise("data", "import", "resolve", file, "--by", "dana", code=1)
