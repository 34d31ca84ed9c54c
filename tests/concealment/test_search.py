"""A dump of the database, the backups, the logs and every answer is searched for arms, in every form: nothing.

A whole trial is played with the real cipher, and everybody who is blinded asks for everything. The one place that
names the arms is the study's own definition: a protocol says what it compares, and nothing of who got what. Everything
else is searched for the codes and labels of arms, and of what is delivered in them; sealed things are part of it.
"""

import base64
import hashlib
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from typer.testing import CliRunner

from app.cli import app
from app.foundation.database import Database, table_of
from app.studies.models import StudyVersion
from tests.blinding.conftest import NewWorld, new_world  # noqa: F401
from tests.blinding.test_two_worlds import (
    SOME,
    answer_shown_once_kept_for_retries,
    arm_in_a_log_line,
    arm_in_the_subject_of_a_mail,
)
from tests.blinding.trial import MINIMISED, WORDS, WORLD, Left, left_by
from tests.concealment.search import Searching, every_table, is_quoted, unpacked
from tests.durability.world import write_key

SEARCHING = Searching(WORDS)
VERSION = table_of(StudyVersion)


def backed_up(database: Database, folder: Path) -> dict[str, bytes]:
    """A backup by the command line: the archive, its files, and what the command said."""
    write_key(folder)
    environment = {
        **os.environ,
        "EQUIPOISE_DATA": str(folder),
        "EQUIPOISE_DATABASE": database.url.render_as_string(hide_password=False),
    }
    done = CliRunner().invoke(app, ["backup", str(folder / "b.zip")], env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return {**unpacked((folder / "b.zip").read_bytes()), "what was said": done.output.encode()}


def outside(contents: dict[str, bytes], definition: bytes) -> list[str]:
    """Where a word is found that is not part of the study's definition; how a format escapes quotes is put aside."""
    said = definition.replace(b"\\", b"").lower()
    found = []
    for where, content in contents.items():
        plain = content.replace(b"\\", b"")
        for word, form, at in SEARCHING.found(plain):
            if not is_quoted(plain.lower(), at, len(word), said, page=len(plain)):
                found.append(f"{where}: {word}, {form}")
    return found


def in_file(content: bytes, definition: bytes) -> list[str]:
    """The same of the bytes of SQLite's files: free pages, old versions of rows and what waits to be written, too."""
    lower, said = content.lower(), definition.lower()
    return [
        f"byte {at}: {word}, {form}"
        for word, form, at in SEARCHING.found(content)
        if not is_quoted(lower, at, len(word), said)
    ]


@pytest.mark.requirement("CONC-1", "CONC-3", "CONC-11", "E6-1", "EMA-8", "REL-16")
@pytest.mark.parametrize(
    ("arms", "changes", "names"),
    # What is answered in the trial with a list is searched in tests/blinding, where everything is asked for anyway.
    [(WORLD, {}, SOME), (None, MINIMISED, None)],
    ids=["list", "minimisation"],
)
def test_no_arm_is_found_in_anything_that_is_kept_written_or_answered(
    new_world: NewWorld,  # noqa: F811
    arms: Any,
    changes: dict[str, Any],
    names: Any,
    tmp_path: Path,
):
    database, folder = new_world(), tmp_path / "data"
    # A page is the same on both databases: on one of them everything is asked for, by those who see most.
    left = left_by(
        database,
        arms,
        folder,
        changes=changes,
        roles=("assessor", "investigator", "data_manager"),
        names=names if database.is_sqlite else SOME,
        real=True,
    )
    definition = definition_of(database)
    found = everywhere(database, left, folder, definition)
    assert found == {place: [] for place in found}
    assert SEARCHING.found(definition), "the search finds nothing where the words do stand"
    assert set(found) == PLACES - (set() if database.is_sqlite else {"the file", "the file while it is in use"})
    assert len(left.heard) > 100
    assert left.rows["idempotent_request"]
    assert left.rows["outbox_mail"]


PLACES = {"answers", "log", "tables", "backup", "folder", "the file while it is in use", "the file"}


def everywhere(database: Database, left: Left, folder: Path, definition: bytes) -> dict[str, list[str]]:
    """All that is left of a play, searched: what was found, by the kind of place."""
    found = {
        "answers": SEARCHING.places(answers_of(left)),
        "log": SEARCHING.places({"line": "\n".join(left.lines).encode()}),
        "tables": outside(every_table(database), definition),
        "backup": outside(backed_up(database, folder), definition),
    }
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del files["b.zip"]  # it was searched with its files
    found["folder"] = SEARCHING.places(files)
    if database.is_sqlite:
        found["the file while it is in use"] = in_file(left.written, definition)
        found["the file"] = in_file(left.file, definition)
    return found


def definition_of(database: Database) -> bytes:
    """The stored definition of every version, which names its arms."""
    with database.reading() as session:
        return "\n".join(session.execute(select(VERSION.c.definition).order_by(VERSION.c.id)).scalars()).encode()


def answers_of(left: Left) -> dict[str, bytes]:
    """Everything that blinded people were answered: headers and what stood below them."""
    return {
        key: b"\n".join([*(name + b": " + value for name, value in headers), body])
        for key, (_, headers, body) in left.heard.items()
    }


# The search itself


@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_leaks_is_found_wherever_it_went(new_world: NewWorld, tmp_path: Path):  # noqa: F811
    """Three leaks at once: into a mail and with it the answers, into a log line, into an answer kept for retries."""
    database, folder = new_world(), tmp_path / "data"
    with ExitStack() as leaks:
        for leak in (arm_in_the_subject_of_a_mail, arm_in_a_log_line, answer_shown_once_kept_for_retries):
            leak(leaks)
        left = left_by(database, WORLD, folder, roles=("coordinator",), names=SOME, real=True)
    found = everywhere(database, left, folder, definition_of(database))
    assert {place for place in found if found[place]} == PLACES - {"folder"}
    for table in ("outbox_mail", "idempotent_request"):
        assert any(each.startswith(f"{table}: ") for each in found["tables"])
        assert any(each.startswith(f"{table}.jsonl: ") for each in found["backup"])


@given(st.binary(max_size=9), st.sampled_from(WORDS), st.binary(max_size=9))
def test_a_word_is_found_in_every_form(before: bytes, word: str, after: bytes):
    whole = before + word.encode() + after
    written = [whole, whole.hex().encode(), whole.hex().upper().encode(), before + word.upper().encode() + after]
    if len(word) > 6:
        written += [base64.b64encode(whole), base64.urlsafe_b64encode(whole)]
    for content in written:
        assert SEARCHING.found(content), content
    assert SEARCHING.found(before + hashlib.sha256(word.encode()).digest() + after)


@given(st.binary(max_size=64))
def test_what_names_no_arm_is_not_found(content: bytes):
    assert SEARCHING.found(content.replace(b"o", b"").replace(b"O", b"")) == []


def test_a_word_is_part_of_the_definition_only_where_the_definition_stands():
    arms = b'"arms":[{"code":"quillwort","label":"Zephyrine training"},{"code":"brume_placebo"}]'
    definition = b'{"a":"b",' + arms + b',"sites":["north","south"]}'
    for shift in range(0, 5000, 7):
        page = b"\0" * shift + definition + b"\0" * (8192 - shift - len(definition))
        assert in_file(page, definition) == []
    for leak in (b'"arm":"quillwort"', b"quillwort", b'{"code":"quillwort"}'):
        assert in_file(b"\0" * 99 + leak + b"\0" * 99 + definition, definition)
