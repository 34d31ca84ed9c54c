"""Does a file read back as it was, whatever somebody typed, byte for byte the same, in little memory?"""

import csv
import hashlib
import io
import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session

from app.capture.typed import parse_typed
from app.exports import reads
from app.exports.choice import Choice
from app.exports.delivery import deliver, file_name, format_named, name_of
from app.exports.formats import FORMULA, Format, encoded, neutral
from app.exports.formats.standards import Standard
from app.exports.tables import Cell, Column, Table
from app.foundation.database import Database
from app.foundation.errors import NotFound
from tests.exports.world import as_bytes, as_csv, as_json, entry, many, participant
from tests.factories import NOW, mini_study, person

HOSTILE = [
    "=1+1",
    '=HYPERLINK("http://example.org","x")',
    "+49 30 1234",
    "-5 to -3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    "＝1+1",
    'says "no", twice',
    "a,b;c\td",
    "line one\nline two\r\nline three\rend",
    "\u202egnol oot\u202c",
    "👩🏽‍⚕️ naïve ﬁancée",
    "</script><b>&amp;",
    "'quoted'",
    "0042",
    "1e9",
    "null",
    "",
    " ",
]


def table(values: Sequence[Sequence[Cell]], *names: str) -> Table:
    return Table("t", "T", "One row.", tuple(Column(name, name) for name in names), iter(tuple(row) for row in values))


def read_csv(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))


@pytest.mark.parametrize("text", HOSTILE)
def test_what_somebody_typed_comes_back_as_it_was(text: str):
    rows = [[text, text], ["x", text]]
    assert read_csv(b"".join(encoded(table(rows, "a", "b"), Format.CSV)))[1:] == rows
    expected = [{"a": one, "b": other} for one, other in rows]
    assert json.loads(b"".join(encoded(table(rows, "a", "b"), Format.JSON))) == expected
    lines = b"".join(encoded(table(rows, "a", "b"), Format.NDJSON)).split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == expected
    assert lines[-1] == b""


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2)))
def test_any_text_comes_back_as_it_was(rows: list[list[str]]):
    assert read_csv(b"".join(encoded(table(rows, "a", "b"), Format.CSV)))[1:] == rows


@pytest.mark.requirement("SEC-3")
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_cell_begins_a_formula_in_the_form_for_spreadsheets(text: str):
    data = b"".join(encoded(table([[text, -5]], "a", "b"), Format.SPREADSHEET))
    cell, number = read_csv(data)[1]
    assert cell.lstrip(" ")[:1] not in FORMULA or not cell.strip(" ")
    assert cell in (text, f"'{text}")
    assert number == "-5"  # a number stays a number


def test_the_form_for_spreadsheets_begins_with_a_mark_and_says_so_of_every_formula():
    data = b"".join(encoded(table([["=1+1", -5]], "a", "b"), Format.SPREADSHEET))
    assert data == "\ufeffa,b\r\n'=1+1,-5\r\n".encode()
    assert b"".join(encoded(table([["=1+1", -5]], "a", "b"), Format.CSV)) == b"a,b\r\n=1+1,-5\r\n"
    assert b"".join(encoded(table([], "a"), Format.CSV, bom=True)) == b"\xef\xbb\xbfa\r\n"
    assert neutral("plain") == "plain"


def test_an_empty_table_is_a_valid_file_in_every_format():
    assert json.loads(b"".join(encoded(table([], "a"), Format.JSON))) == []
    assert b"".join(encoded(table([], "a"), Format.NDJSON)) == b""
    assert b"".join(encoded(table([], "a"), Format.CSV)) == b"a\r\n"


def test_hostile_answers_survive_the_database(session: Session):
    study = mini_study(session)
    manager = person(session, study, "data_manager")
    for number, text in enumerate(HOSTILE, start=1):
        entry(session, study, participant(session, study, number), "week18", "pain", {"pain_note": text})
    assert [row["value"] for row in as_csv(session, study, "entries", manager)] == HOSTILE
    assert [row["pain_note"] for row in as_json(session, study, "instrument_pain", manager)] == HOSTILE


def test_nul_never_came_in(session: Session):
    instrument = mini_study(session).definition.instrument("pain")
    assert instrument is not None
    typed = parse_typed(instrument, {"pain_note": ["a\0b"]})
    assert [problem.field for problem in typed.problems] == ["pain_note"]


def test_the_same_state_gives_the_same_bytes(session: Session):
    study = mini_study(session)
    manager = person(session, study, "data_manager")
    for number in (3, 1, 2):
        row = participant(session, study, number)
        entry(session, study, row, "week18", "pain", {"pain_note": f"note {number}", "pain_nrs": number})
    for one in reads.catalogue(session, study, by=manager):
        for kind in Format:
            first = as_bytes(session, study, one.name, manager, kind)
            assert as_bytes(session, study, one.name, manager, kind) == first


@pytest.mark.parametrize(("table_name", "written"), [("entries", Format.CSV), ("entries_by_participant", Format.JSON)])
def test_memory_does_not_grow_with_the_study(database: Database, table_name: str, written: Format):
    with database.writing() as session:
        study = mini_study(session)
        manager = person(session, study, "data_manager")
        many(session, study, 2_000, 20_000)
    total = 0
    with database.reading() as session:  # what a process loads and compiles once is no matter of the study's size
        next(iter(encoded(reads.open_export(session, study, table_name, by=manager), written)))
    with database.reading() as session:
        opened = reads.open_export(session, study, table_name, by=manager)
        tracemalloc.start()
        try:
            for piece in encoded(opened, written):
                total += len(piece)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert total > (5_000_000 if table_name == "entries" else 1_000_000)
    assert peak < 4_000_000, peak


@pytest.mark.requirement("FDA-1", "P11-k")
def test_a_delivery_is_written_down_before_and_after(database: Database):
    with database.writing() as session:
        study = mini_study(session)
        manager = person(session, study, "data_manager")
        entry(session, study, participant(session, study, 1), "week18", "pain", {"pain_nrs": 1, "pain_days": 1})
    with database.writing() as session:
        sent = deliver(session, database, study, "entries", Format.CSV, by=manager, clock=lambda: NOW)
        session.commit()
        begun = reads.runs(session, study, by=manager)
    assert [(run.table, run.rows, run.sha256) for run in begun] == [("entries", None, None)]
    assert sent.headers["Content-Disposition"] == 'attachment; filename="mini_entries_2026-03-02.csv"'
    assert sent.headers["X-Equipoise-Study-Version"] == "1"
    body = b"".join(sent.body)
    assert len(read_csv(body)) == 3
    with database.reading() as session:
        assert body == as_bytes(session, study, "entries", manager)
        (run,) = reads.runs(session, study, by=manager)
    assert (run.rows, run.sha256) == (2, hashlib.sha256(body).hexdigest())


def test_a_download_that_breaks_off_is_not_written_down_as_delivered(database: Database):
    with database.writing() as session:
        study = mini_study(session)
        manager = person(session, study, "data_manager")
        many(session, study, 500, 2_000)
    with database.writing() as session:
        sent = deliver(session, database, study, "entries", Format.CSV, by=manager, clock=lambda: NOW)
    next(sent.body)
    sent.body.close()  # type: ignore[attr-defined]
    with database.writing() as session:  # nothing is held open
        (run,) = reads.runs(session, study, by=manager)
    assert run.rows is None


def test_a_file_has_the_date_that_people_at_the_sites_have(session: Session):
    evening = datetime(2026, 3, 2, 20, 30, tzinfo=UTC)
    study = mini_study(session)
    assert file_name(study, "entries", Format.CSV, evening) == "mini_entries_2026-03-02.csv", "two clocks: that of UTC"
    first, second = study.definition.sites
    same = (first, second.model_copy(update={"timezone": first.timezone}))
    there = replace(study, definition=study.definition.model_copy(update={"sites": same}))
    assert file_name(there, "entries", Format.CSV, evening) == "mini_entries_2026-03-03.csv", "tomorrow in Sydney"
    for choice, ending in ((Choice(), "_csv.zip"), (Choice(format=Standard.ODM), f".{Standard.ODM.ending}")):
        assert name_of(there, choice, evening) == f"mini_all_2026-03-03{ending}"


def test_names_of_files_and_formats(session: Session):
    study = mini_study(session)
    assert file_name(study, "entries", Format.SPREADSHEET, NOW) == "mini_entries_2026-03-02_spreadsheet.csv"
    assert format_named("csv", spreadsheet=True) is Format.SPREADSHEET
    assert format_named("ndjson") is Format.NDJSON
    for extension, spreadsheet in (("spreadsheet", False), ("ods", False), ("json", True)):
        with pytest.raises(NotFound):
            format_named(extension, spreadsheet=spreadsheet)
