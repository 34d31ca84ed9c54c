"""Is every value there again when somebody else's program reads the file? And are two files the same bytes?"""

import hashlib
import re
import shutil
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pandas
import pyarrow.parquet
import pyreadstat
import pytest
import xlsxwriter
from openpyxl.utils.escape import unescape
from sqlmodel import Session

from app.exports import named, reads
from app.exports.formats import KNOWN, Format, encoded, statistics, text_of, workbook
from app.exports.formats.statistics import USER_MISSING
from app.exports.tables import Column, ColumnType, Row, Table
from app.foundation.errors import Refused
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.exports.test_formats import HOSTILE
from tests.exports.world import as_json, consent, entry, of_safety, participant, query, screening, visit
from tests.factories import NOW, TODAY, mini_study, person

MISSING = (("UNK", "Unknown"), ("ND", "Not done"))
COLUMNS = (
    Column("participant", "Participant code"),
    Column("score", "A score", ColumnType.INTEGER, minimum=0, maximum=10, missing_codes=MISSING),
    Column("score__missing", "Why there is no score", ColumnType.MISSING, choices=MISSING),
    Column("weight", "Weight", ColumnType.NUMBER, unit="kg"),
    Column("able", "Able", ColumnType.YES_NO, choices=(("true", "Yes"), ("false", "No"))),
    Column("grade", "Grade", ColumnType.CHOICE, choices=(("1", "Mild"), ("2", "Severe"))),
    Column("where", "Where", ColumnType.CHOICE, choices=(("back", "Back"), ("leg", "Leg"))),
    Column("ticked", "Ticked", ColumnType.FLAG, choices=(("1", "Ticked"), ("0", "Not ticked"))),
    Column("seen_on", "Seen on", ColumnType.DATE),
    Column("at", "At", ColumnType.TIME),
    Column("saved_at", "Saved at", ColumnType.INSTANT),
    Column("note_that_has_a_name_which_is_far_too_long_for_any_programme", "Note"),
    Column("note_that_has_a_name_which_is_far_too_long_for_any_package", "Another note", ColumnType.STORED),
)
AT = datetime(2026, 3, 2, 9, 30, 1, 123456, tzinfo=UTC)
ROWS: list[Row] = [
    ("M-001", 7, None, 71.5, True, "2", "back", 1, date(2026, 3, 2), "09:30", AT, HOSTILE[0], 1.5),
    ("M-002", None, "ND", 0.1 + 0.2, False, "1", "leg", 0, "1899-12-31", "23:59", AT, HOSTILE[1], True),
    ("M-003", None, None, None, None, None, None, None, None, None, None, None, None),
    ("M-004", None, "UNK", 60, None, "1", None, None, "2026-03-03", None, None, "x" * 500 + "é" * 60, "a|b"),
    *(
        (f"M-{n:03d}", n % 11, None, -1.25, True, "2", "leg", 1, TODAY, "00:00", AT, text, text)
        for n, text in enumerate(HOSTILE, start=5)
    ),
]


def table(rows: list[Row] = ROWS, columns: tuple[Column, ...] = COLUMNS) -> Table:
    return Table("some", "Some table", "One row per something.", columns, iter(rows), lambda: table(rows, columns))


def written(format_: Format, folder: Path, made: Table | None = None) -> Path:
    path = folder / f"table.{format_.extension}"
    path.write_bytes(b"".join(encoded(made or table(), format_)))
    return path


def typed(rows: list[Row] = ROWS) -> list[list[Any]]:
    """What a typed file must hold: days as days, instants as instants, the mixed column as text."""
    found = []
    for row in rows:
        cells: list[Any] = list(row)
        if isinstance(cells[8], str):
            cells[8] = date.fromisoformat(cells[8])
        cells[12] = None if cells[12] is None else cells[12] if isinstance(cells[12], str) else text_of(cells[12])
        found.append(cells)
    return found


@pytest.mark.requirement("SEC-3")
def test_parquet_read_by_arrow_and_pandas(tmp_path: Path):
    path = written(Format.PARQUET, tmp_path)
    read = pyarrow.parquet.read_table(path)
    assert [list(row.values()) for row in read.to_pylist()] == typed()
    assert read.column_names == [column.name for column in COLUMNS]
    frame = pandas.read_parquet(path)
    assert frame["score"].tolist()[:1] == [7]
    said = pyarrow.parquet.ParquetFile(path).metadata.metadata[b"equipoise"].decode()
    assert '"label": "A score"' in said
    assert '["1", "Mild"]' in said


@pytest.mark.requirement("SEC-3")
def test_a_workbook_read_by_openpyxl_runs_nothing(tmp_path: Path):
    book = openpyxl.load_workbook(written(Format.XLSX, tmp_path))
    sheet = book["Rows"]
    head, *lines = sheet.iter_rows()
    assert [cell.value for cell in head] == [column.name for column in COLUMNS]
    for line, row in zip(lines, typed(), strict=True):
        for cell, value in zip(line, row, strict=True):
            assert cell.data_type != "f"
            assert cell.hyperlink is None
            found = unescape(cell.value) if isinstance(cell.value, str) else cell.value
            if isinstance(value, datetime):
                value = text_of(value)
            elif isinstance(value, date):
                early = value < workbook.FIRST_DAY
                value = value.isoformat() if early else datetime.combine(value, time())
            elif isinstance(value, float):
                value = float(f"{value:.16G}")  # as many digits as the library writes; a spreadsheet shows 15
            assert found == value, (cell.coordinate, found, value)
    labels = {row[0]: row[1:] for row in book["Columns"].iter_rows(values_only=True)}
    assert labels["grade"] == ("Grade", "choice", "", "1 = Mild; 2 = Severe")


ODD_TEXTS = ["", " a ", "a\nb", "\r", "<b>&'\"", "_x000D_", "\0\x1f", "\ufffe", "é\U0001f600", "=1+1", "http://x", "12"]


def test_rows_of_a_workbook_are_what_the_library_writes_cell_by_cell(tmp_path: Path):
    columns = tuple(Column(name, name, kind) for name, kind in (("a<b", ColumnType.TEXT), ("n", ColumnType.NUMBER)))
    more = (("y", ColumnType.YES_NO), ("d", ColumnType.DATE), ("w", ColumnType.INTEGER))
    columns += tuple(Column(name, name, kind) for name, kind in more)
    numbers = [0.1, 1 / 3, 1e300, -5, None, 2**53, 1e-9, 7, 12.5, -0.0, 0.0, 100.0]
    days = [date(1900, 3, 1), date(2026, 11, 27), None, date(1899, 1, 1)] * 3
    rows: list[Any] = list(zip(ODD_TEXTS, numbers, [True, False, None] * 4, days, range(12), strict=True))
    path, other = tmp_path / "ours.xlsx", tmp_path / "theirs.xlsx"
    path.write_bytes(b"".join(encoded(table(rows, columns), Format.XLSX)))
    with xlsxwriter.Workbook(str(other), {"constant_memory": True, "strings_to_formulas": False}) as book:
        day, head = book.add_format({"num_format": "yyyy-mm-dd"}), book.add_format({"bold": True})
        sheet = book.add_worksheet("Rows")
        sheet.freeze_panes(1, 0)
        for place, column in enumerate(columns):
            sheet.write_string(0, place, column.name, head)
        for line, row in enumerate(rows, start=1):
            sheet.write_string(line, 0, row[0])
            for place, value in ((1, row[1]), (4, row[4])):
                if value is not None:
                    sheet.write_number(line, place, value)
            if row[2] is not None:
                sheet.write_boolean(line, 2, row[2])
            if row[3] is not None and row[3] < workbook.FIRST_DAY:
                sheet.write_string(line, 3, row[3].isoformat())
            elif row[3] is not None:
                sheet.write_datetime(line, 3, row[3], day)

    def sheet_in(file: Path) -> bytes:
        with zipfile.ZipFile(file) as archive:
            return re.sub(rb' s="\d"', b" s", archive.read("xl/worksheets/sheet1.xml"))

    assert sheet_in(path) == sheet_in(other)


def test_a_text_that_looks_like_a_part_of_a_workbook_is_a_text(tmp_path: Path):
    path = tmp_path / "it.xlsx"
    path.write_bytes(b"".join(encoded(table([("<r><t>no</r>",)], (Column("note", "Note"),)), Format.XLSX)))
    assert openpyxl.load_workbook(path)["Rows"]["A2"].value == "<r><t>no</r>"


def read_numbers(values: list[Any]) -> list[Any]:
    return [None if value is None or value != value else value for value in values]


def expected_in_statistics(name: str) -> list[Any]:
    """The column as it must come back: numbers, days, and texts of which an empty one is a missing one."""
    place = [column.name for column in COLUMNS].index(name)
    values = [row[place] for row in typed()]
    if name == "able":
        return [None if value is None else float(value) for value in values]
    if name == "grade":
        return [None if value is None else float(value) for value in values]
    if name in ("score", "weight", "ticked"):
        return [None if value is None else float(value) for value in values]
    if name == "seen_on":
        return values
    if name == "saved_at":  # no programme knows a time zone: it is UTC, and the label says so
        return [None if value is None else value.replace(tzinfo=None) for value in values]
    return [text_of(value) for value in values]


SAS_BEGAN = datetime(1960, 1, 1, tzinfo=UTC).replace(tzinfo=None)
LABELS = [f"{column.label} (UTC)" if column.type is ColumnType.INSTANT else column.label for column in COLUMNS]


def test_spss_read_back_with_labels_and_reasons(tmp_path: Path):
    frame, meta = pyreadstat.read_sav(written(Format.SPSS, tmp_path), user_missing=True, output_format="dict")
    names = named.names([column.name for column in COLUMNS], named.SPSS)
    assert meta.column_names == names
    assert meta.column_labels == LABELS
    assert str(meta.original_variable_types["saved_at"]).startswith("DATETIME")
    assert meta.missing_ranges["score"] == [{"lo": USER_MISSING - 2.0, "hi": USER_MISSING - 1.0}]
    assert meta.variable_value_labels["score"] == {USER_MISSING - 1: "UNK: Unknown", USER_MISSING - 2: "ND: Not done"}
    assert meta.variable_value_labels["grade"] == {1: "Mild", 2: "Severe"}
    assert meta.variable_value_labels["able"] == {1: "Yes", 0: "No"}
    for column, name in zip(COLUMNS, names, strict=True):
        found, values = read_numbers(list(frame[name])), expected_in_statistics(column.name)
        if column.name == "score":
            why = {"UNK": USER_MISSING - 1, "ND": USER_MISSING - 2, None: None}
            values = [why[row[2]] if row[1] is None else row[1] for row in ROWS]  # type: ignore[index]
        if column.type is ColumnType.DATE:
            assert [None if value is None else value for value in found] == values
        elif column.type is ColumnType.INSTANT:  # seconds since 1582 in a double: two millionths of one
            near = timedelta(microseconds=2)
            assert all(one is other or abs(one - other) <= near for one, other in zip(found, values, strict=True))
        elif isinstance(next(v for v in values if v is not None), str):
            assert [value or "" for value in found] == [value.rstrip(" ") for value in values], name
        else:
            assert found == values, name
    plain, _ = pyreadstat.read_sav(tmp_path / "table.sav", output_format="dict")
    assert [value for value in read_numbers(list(plain["score"])) if value is not None and value < 0] == []


def test_stata_read_by_pandas_with_labels_and_reasons(tmp_path: Path):
    path = written(Format.STATA, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = pandas.io.stata.StataReader(path, convert_categoricals=False)
        with reader:
            frame, labels = reader.read(), reader.variable_labels()
            values = reader.value_labels()
    names = named.names([column.name for column in COLUMNS], named.STATA)
    assert list(frame.columns) == names
    assert list(labels.values()) == LABELS
    assert {"Mild", "Severe"} in [set(each.values()) for each in values.values()]
    for column, name in zip(COLUMNS, names, strict=True):
        expected = expected_in_statistics(column.name)
        if column.type is ColumnType.DATE:
            found: list[Any] = [None if pandas.isna(value) else value.date() for value in frame[name]]
        elif column.type is ColumnType.INSTANT:  # pandas reads whole thousandths; the file holds all of it
            exact = pyreadstat.read_dta(path, output_format="dict")[0][name]
            assert list(exact) == expected
            found = [None if pandas.isna(value) else value.to_pydatetime() for value in frame[name]]
            expected = [value and value.replace(microsecond=value.microsecond // 1000 * 1000) for value in expected]
        elif isinstance(next(v for v in expected if v is not None), str):
            found = list(frame[name])
        else:
            found = [None if pandas.isna(value) else float(value) for value in frame[name]]
        assert found == expected, name
    _, meta = pyreadstat.read_dta(path, user_missing=True, output_format="dict")
    assert meta.missing_user_values["score"] == ["a", "b"]
    labels_of_score: dict[Any, str] = {**meta.variable_value_labels["score"]}
    assert labels_of_score == {"a": "UNK: Unknown", "b": "ND: Not done"}
    reasons = pyreadstat.read_dta(path, user_missing=True, output_format="dict")[0]["score"]
    assert [value for value in reasons if isinstance(value, str)] == ["b", "a"]


def test_sas_transport_read_by_pandas_with_short_names_and_texts_in_pieces(tmp_path: Path):
    path = written(Format.SAS, tmp_path)
    frame = pandas.read_sas(path, format="xport", encoding="utf-8")
    _, meta = pyreadstat.read_xport(path)
    names = named.names([column.name for column in COLUMNS], named.SAS)
    assert all(len(name) <= 8 and name == name.upper() for name in frame.columns)
    assert [name for name in frame.columns if name in names] == names
    label = dict(zip(meta.column_names, meta.column_labels, strict=True))
    for column, name in zip(COLUMNS, names, strict=True):
        expected = expected_in_statistics(column.name)
        if column.name.startswith("note_that"):
            pieces = [each for each in frame.columns if str(label[each]).startswith(column.label)]
            found: list[Any] = [
                "".join(parts) for parts in zip(*(frame[each].fillna("") for each in pieces), strict=True)
            ]
            assert all(len(part.encode()) <= 200 for each in pieces for part in frame[each].fillna(""))
            assert found == [value.rstrip(" ") for value in expected], name
        elif column.type is ColumnType.DATE:
            days = [None if pandas.isna(value) else date(1960, 1, 1) + timedelta(value) for value in frame[name]]
            assert days == expected
        elif column.type is ColumnType.INSTANT:
            # pandas reads the seconds since 1960 as they are, pyreadstat what their format says they are.
            exact = list(pyreadstat.read_xport(path, output_format="dict")[0][name])
            assert exact == expected
            seconds = [None if pandas.isna(value) else SAS_BEGAN + timedelta(0, value) for value in frame[name]]
            assert seconds == expected
            assert label[name] == f"{column.label} (UTC)"
        elif isinstance(next(v for v in expected if v is not None), str):
            assert list(frame[name].fillna("")) == expected, name
        else:
            # pandas reads the eight zero bytes of a zero as the least number they could be.
            numbers = [
                None if pandas.isna(value) else 0.0 if 0 < value < 1e-70 else float(value) for value in frame[name]
            ]
            assert numbers == expected, name
            assert label[name] == column.label


@pytest.mark.parametrize("format_", [Format.SPSS, Format.STATA, Format.SAS])
def test_a_long_label_of_an_instant_still_says_that_it_is_in_utc(format_: Format, tmp_path: Path):
    columns = (Column("at", "x" * 300, ColumnType.INSTANT), Column("kept_at", "Kept (UTC)", ColumnType.INSTANT))
    read: dict[Format, Any] = {
        Format.SPSS: pyreadstat.read_sav,
        Format.STATA: pyreadstat.read_dta,
        Format.SAS: pyreadstat.read_xport,
    }
    both: tuple[list[Row], ...] = ([(AT, AT)], [])
    for rows in both:
        _, meta = read[format_](written(format_, tmp_path, table(rows, columns)), output_format="dict")
        assert [each[-8:] for each in meta.column_labels] == ["xx (UTC)", "pt (UTC)"]


@pytest.mark.parametrize("format_", list(Format))
def test_the_same_table_is_the_same_bytes_at_any_time(format_: Format, monkeypatch: pytest.MonkeyPatch):
    import time_machine

    hashes = set()
    for moment in (NOW, datetime(2031, 7, 8, 21, 22, 23, tzinfo=UTC)):
        with time_machine.travel(moment):
            hashes.add(hashlib.sha256(b"".join(encoded(table(), format_))).hexdigest())
    assert len(hashes) == 1


@pytest.mark.parametrize("format_", list(Format))
def test_a_table_without_rows_is_a_file_in_every_format(format_: Format, tmp_path: Path):
    path = written(format_, tmp_path, table([]))
    assert format_ is Format.NDJSON or path.stat().st_size
    readers: dict[Format, Callable[[Path], Any]] = {
        Format.PARQUET: pandas.read_parquet,
        Format.SPSS: lambda path: pyreadstat.read_sav(path)[0],
        Format.STATA: lambda path: pyreadstat.read_dta(path)[0],
        Format.SAS: lambda path: pyreadstat.read_xport(path)[0],
        Format.XLSX: lambda path: pandas.read_excel(path, sheet_name="Rows"),
    }
    if format_ in readers:
        assert len(readers[format_](path)) == 0


def test_a_column_of_several_kinds_is_text_and_nothing_else_is(tmp_path: Path):
    columns = (Column("n", "N", ColumnType.INTEGER), Column("m", "M", ColumnType.INTEGER))
    rows: list[Row] = [(1, 1), ("two", 2), (3, 2**60)]
    read = pyarrow.parquet.read_table(written(Format.PARQUET, tmp_path, table(rows, columns)))
    assert read.to_pylist() == [{"n": "1", "m": "1"}, {"n": "two", "m": "2"}, {"n": "3", "m": str(2**60)}]
    rows = [(1, 1), ("two", 2)]
    read = pyarrow.parquet.read_table(written(Format.PARQUET, tmp_path, table(rows, columns)))
    assert read.to_pylist() == [{"n": "1", "m": 1}, {"n": "two", "m": 2}]


def test_names_are_what_each_programme_takes_and_all_different():
    asked = [
        "participant",
        "Participant",
        "and",
        "_n_",
        "week18__pain__pain_nrs",
        "week18__pain__pain_days",
        "1st",
        "é",
    ]
    for rules in (named.SPSS, named.STATA, named.SAS):
        found = named.names(asked, rules)
        assert len({name.casefold() for name in found}) == len(asked)
        assert all(0 < len(name) <= rules.longest and name.isascii() and name[0].isalpha() for name in found)
        assert not {name.casefold() for name in found} & rules.reserved
        assert found == named.names(asked, rules)
    assert named.names(["week18__pain__pain_nrs", "week18__pain__pain_days"], named.SAS) == ["WEEK18", "WEEK18_2"]


def test_what_a_format_cannot_hold_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch):
    columns = (Column("note", "Note"),)
    with pytest.raises(Refused, match="Parquet"):
        b"".join(encoded(table([("x" * 40_000,)], columns), Format.XLSX))
    with pytest.raises(Refused, match="32,767"):  # characters, as a worksheet counts them: two for each of these
        b"".join(encoded(table([("\U0001f600" * 17_000,)], columns), Format.XLSX))
    monkeypatch.setattr(workbook, "MOST_ROWS", 3)
    with pytest.raises(Refused, match="2 rows"):
        b"".join(encoded(table([("a",)] * 3, columns), Format.XLSX))
    monkeypatch.setattr(statistics, "MOST_CELLS", 2)
    with pytest.raises(Refused, match="Parquet"):
        b"".join(encoded(table([("a",)] * 3, columns), Format.SPSS))


def test_the_script_for_r_names_every_column_with_its_label_and_levels():
    script = b"".join(encoded(table(), Format.R)).decode()
    assert 'colClasses = "character"' in script
    assert 'exists("file")' not in script  # `file` is a function of R, so that this is always true
    for column in COLUMNS:
        assert f'attr(some[["{column.name}"]], "label") <- "{column.label}"' in script
    assert 'factor(some[["where"]], levels = c("back", "leg"), labels = make.unique(c("Back", "Leg")))' in script
    assert 'some[["seen_on"]] <- as.Date(some[["seen_on"]])' in script


def test_r_finds_the_download_beside_the_script_and_a_path_in_file(tmp_path: Path):
    found = shutil.which("Rscript")
    if found is None:
        pytest.skip("There is no Rscript here; on Debian it is in r-base-core.")
    (tmp_path / "some.R").write_bytes(b"".join(encoded(table(), Format.R)))
    (tmp_path / "trial_some_2026-11-26.csv").write_bytes(b"".join(encoded(table(), Format.CSV)))
    (tmp_path / "other.csv").write_bytes(b"".join(encoded(table([]), Format.CSV)))
    told = 'source("some.R"); cat(nrow(some), ""); file <- "other.csv"; source("some.R"); cat(nrow(some))'
    done = subprocess.run([found, "-e", told], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == ([str(len(ROWS)), "0"], 0), done.stderr


def test_r_runs_a_script_whatever_a_label_holds(tmp_path: Path):
    """R refuses a script with marks that turn the direction of a text: they are written as escapes."""
    odd = "\u202eturned\u202c and \u2067back\u2069, \u200fmarked\ufeff, “said” \"so\" \\ 'it' 😀 é %s `x` #"
    column = replace(COLUMNS[0], label=odd, unit=odd, type=ColumnType.CHOICE, choices=(("a", odd), ("b", odd)))
    asked = Table("some", odd, odd, (column,), iter([("a",), ("b",)]))
    script = b"".join(encoded(asked, Format.R)).decode()
    assert not re.search("[\u200f\u202c\u202e\u2067\u2069\ufeff]", script)
    found = shutil.which("Rscript")
    if found is None:
        pytest.skip("There is no Rscript here; on Debian it is in r-base-core.")
    (tmp_path / "some.R").write_text(script, encoding="utf-8")
    (tmp_path / "some.csv").write_text(f"{column.name}\r\na\r\nb\r\n")
    told = (
        'source("some.R"); for (said in c(attr(some[[1]], "label"), levels(some[[1]])[1])) cat(utf8ToInt(said), "\\n")'
    )
    done = subprocess.run([found, "-e", told], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert "".join(map(chr, map(int, line.split()))) == odd


def test_every_format_is_registered_once_and_says_its_media_type():
    assert set(KNOWN) == set(Format)
    assert all((known.write is None) != (known.build is None) for known in KNOWN.values())


# Every table, from the database


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return mini_study(session)


@pytest.fixture
def manager(session: Session, study: StudyInUse) -> Actor:
    made = person(session, study, "data_manager")
    for number, text in enumerate([*HOSTILE, "plain"], start=1):
        row = participant(session, study, number, site_code="north" if number % 2 else "south")
        values = {"pain_nrs": number % 11, "pain_days": {"missing": "ND"}, "pain_where": ["back"], "pain_note": text}
        entry(session, study, row, "week18", "pain", values)
        visit(session, study, row, "week18", 3, held_on=TODAY)
    first = participant(session, study, 999)
    query(session, study, entry(session, study, first, "week18", "pain", {"pain_nrs": 1}), "pain_nrs")
    consent(session, study, first)
    screening(session, study, first)
    of_safety(session, study, first)
    return made


def test_parquet_holds_what_json_holds_in_every_table(
    session: Session, study: StudyInUse, manager: Actor, tmp_path: Path
):
    for name in [one.name for one in reads.catalogue(session, study, by=manager)]:
        opened = reads.open_export(session, study, name, by=manager)
        read = pyarrow.parquet.read_table(written(Format.PARQUET, tmp_path, opened)).to_pylist()
        expected = as_json(session, study, name, manager)
        assert len(read) == len(expected)
        text = {column.name for column in opened.columns if column.type in (ColumnType.STORED, ColumnType.CALCULATED)}
        for row, other in zip(read, expected, strict=True):
            for column, value in row.items():
                found = text_of(value) if isinstance(value, date) else value
                said = other[column]
                same = found == said or (column in text and found == text_of(said)) or (found is None and said is None)
                assert same, (name, column, found, said)


@pytest.mark.parametrize("format_", [Format.SPSS, Format.STATA, Format.SAS, Format.XLSX])
def test_every_table_can_be_written_and_read_in_every_format(
    session: Session, study: StudyInUse, manager: Actor, tmp_path: Path, format_: Format
):
    readers: dict[Format, Callable[[Path], Any]] = {
        Format.SPSS: lambda path: pyreadstat.read_sav(path)[0],
        Format.STATA: lambda path: pyreadstat.read_dta(path)[0],
        Format.SAS: lambda path: pyreadstat.read_xport(path)[0],
        Format.XLSX: lambda path: pandas.read_excel(path, sheet_name="Rows"),
    }
    for name in [one.name for one in reads.catalogue(session, study, by=manager)]:
        opened = reads.open_export(session, study, name, by=manager)
        read = readers[format_](written(format_, tmp_path, opened))
        stored = as_json(session, study, name, manager)
        assert len(read) == len(stored), name
        assert len(read.columns) >= len(opened.columns), name
        if format_ is Format.XLSX:
            continue
        rules = {Format.SPSS: named.SPSS, Format.STATA: named.STATA, Format.SAS: named.SAS}[format_]
        for column, called in zip(
            opened.columns, named.names([one.name for one in opened.columns], rules), strict=True
        ):
            if column.type is ColumnType.INSTANT:
                found: list[Any] = [None if pandas.isna(value) else value.to_pydatetime() for value in read[called]]
                wanted = [row[column.name] and datetime.fromisoformat(row[column.name]) for row in stored]
                near = timedelta(microseconds=2 if format_ is Format.SPSS else 0)
                for one, other in zip(found, wanted, strict=True):
                    assert one is other or abs(one.replace(tzinfo=UTC) - other) <= near, (name, column.name)
