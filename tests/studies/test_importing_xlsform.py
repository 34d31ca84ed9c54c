"""An XLSForm becomes a study folder: questions, groups, repeats and conditions; the rest is said, and no ZIP harms."""

import io
import time
import zipfile
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.studies.importing import Converted, Failed, convert, write_folder
from app.studies.importing.spreadsheet import sheets_of
from app.studies.loading import read_folder

ON = date(2026, 3, 2)
CHOICES = [
    ["list_name", "name", "label"],
    ["yn", "1", "Yes"],
    ["yn", "0", "No"],
    ["place", "back", "Back"],
    ["place", "knee", "Knee"],
]
HEADINGS = [
    "type",
    "name",
    "label",
    "hint",
    "required",
    "relevant",
    "constraint",
    "constraint_message",
    "calculation",
    "appearance",
]


def book(**sheets: list[list[Any]]) -> bytes:
    """A spreadsheet with these sheets, as a program writes it."""
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream, {"in_memory": True}) as workbook:
        workbook.set_properties({"created": datetime(2026, 3, 2, tzinfo=UTC)})  # the same sheets, the same bytes
        for name, rows in sheets.items():
            sheet = workbook.add_worksheet(name)
            for at, row in enumerate(rows):
                for place, cell in enumerate(row):
                    if cell is not None:
                        sheet.write(at, place, cell)
    return stream.getvalue()


def row(type_: str, name: str = "", label: str = "", **more: str) -> list[str]:
    return [{"type": type_, "name": name, "label": label, **more}.get(each, "") for each in HEADINGS]


def form(*rows: list[str], **settings_: str) -> Converted:
    sheets = {"survey": [HEADINGS, *rows], "choices": CHOICES}
    if settings_:
        sheets["settings"] = [list(settings_), list(settings_.values())]
    return convert(book(**sheets), name="form.xlsx", on=ON)


def items_of(converted: Converted, code: str = "form") -> dict[str, Any]:
    found = converted.study.instrument(code)
    assert found is not None
    return {item.code: item for item in found.items}


def notes(converted: Converted, kind: str) -> str:
    return "\n".join(f"{note.where}: {note.what}" for note in converted.notes if note.kind == kind)


def test_a_form_becomes_a_folder_that_loads(tmp_path):
    converted = form(
        row("start", "start"),
        row("begin group", "about", "About you"),
        row("text", "nick", "A word", hint="Any"),
        row("integer", "age", "Age", required="yes", constraint=". >= 18 and . < 100", constraint_message="An adult."),
        row("select_one yn", "pain", "Pain?", required="yes"),
        row("end group"),
        row("begin_group", "pains", "Your pain", relevant="${pain} = '1'"),
        row("select_multiple place", "where_it_is", "Where?"),
        row("decimal", "knee_cm", "Knee", relevant="selected(${where_it_is}, 'knee') and not(${age} < 20)"),
        row("range", "bad", "How bad?", parameters="start=0 end=10 step=1"),
        row("end_group"),
        row("calculate", "many", calculation="count-selected(${where_it_is}) div 2"),
        row("begin repeat", "fall", "A fall"),
        row("date", "fell_on", "Day", constraint=". <= today()"),
        row("end repeat"),
        row("note", "thanks", "Thank you"),
        row("text", "last", "Anything else?", appearance="multiline"),
        form_title="Back pain",
        form_id="back",
        version="2026030201",
    )
    study = converted.study
    assert (study.title, study.version) == ("Back pain", "2026030201")
    assert {each.code for each in study.instruments} == {"back", "fall", study.eligibility.instrument}
    items = items_of(converted, "back")
    assert {code: item.type.value for code, item in items.items()} == {
        "nick": "text",
        "age": "integer",
        "pain": "choice",
        "where_it_is": "choices",
        "knee_cm": "number",
        "bad": "scale",
        "many": "calculated",
        "last": "text",
    }
    assert items["age"].required
    assert (items["age"].checks[0].rule, items["age"].checks[0].kind) == ("[age] >= 18 and [age] < 100", "hard")
    assert items["age"].checks[0].message == "An adult."
    assert [choice.code for choice in items["pain"].choices] == ["1", "0"]
    assert items["where_it_is"].shown_if == "[pain] = '1'"
    assert items["knee_cm"].shown_if == "([pain] = '1') and ([where_it_is(knee)] = '1' and not([age] < 20))"
    assert items["many"].calculation == "selected_count([where_it_is]) / 2"
    fall = study.instrument("fall")
    assert fall is not None
    assert (fall.repeats, fall.label, fall.every_item[0].checks[0].rule) == (True, "A fall", "[fell_on] <= 'today'")
    back = study.instrument("back")
    assert back is not None
    assert [section.label for section in back.sections][:2] == ["About you", "Your pain"]
    assert "Thank you" in str(items["last"].hint) + notes(converted, "changed")
    assert "the device notes by itself (start)" in notes(converted, "lost")
    assert "multiline" in notes(converted, "looks")
    write_folder(converted, tmp_path / "back")
    loaded, findings = read_folder(tmp_path / "back")
    assert loaded is not None, findings


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"relevant": "pulldata('a', 'b', 'c', ${a}) = 1"}, "pulldata"),
        ({"relevant": "${nowhere} = 1"}, "nowhere"),
        ({"constraint": "regex(., '[a-z]+')"}, "The constraint"),
        ({"required": "${a} = 1"}, "Required if"),
        ({"calculation": "once(uuid())"}, "once(uuid())"),
    ],
)
def test_what_cannot_be_said_here_is_in_the_report(more, words):
    converted = form(row("integer", "a", "A"), row("text", "b", "B", **more))
    assert words in notes(converted, "lost")
    assert items_of(converted)["b"].shown_if is None


def test_words_of_other_languages_and_unknown_columns_are_said():
    headings = ["type", "name", "label::English (en)", "label::Deutsch (de)", "media::image"]
    rows = [headings, ["text", "a", "A word", "Ein Wort", "a.png"]]
    asked = [["default_language"], ["Deutsch (de)"]]
    converted = convert(book(survey=rows, choices=CHOICES, settings=asked), name="f.xlsx", on=ON)
    assert items_of(converted)["a"].label == "Ein Wort"
    assert "label::english (en)" in notes(converted, "lost")
    assert "media::image" in notes(converted, "lost")


@pytest.mark.parametrize(
    ("sheets", "words"),
    [
        ({"other": [["a"]]}, "no sheet “survey”"),
        ({"survey": [HEADINGS]}, "has no question"),
        ({"survey": [HEADINGS, row("text", "")]}, "has no name"),
        ({"survey": [HEADINGS, row("begin group", "g", "G"), row("text", "a", "A")]}, "is never ended"),
        ({"survey": [HEADINGS, row("text", "a", "A"), row("end group")]}, "was never begun"),
    ],
)
def test_what_is_no_form_is_said(sheets, words):
    with pytest.raises(Failed, match=words):
        convert(book(**sheets), name="f.xlsx", on=ON)


def test_cells_are_read_as_a_person_sees_them():
    found = sheets_of(book(Survey=[["a", None, 1.0], [], ["<b> & 'c'", True, 2.5]]))
    assert found == {"survey": [["a", "", "1"], [], ["<b> & 'c'", "TRUE", "2.5"]]}


@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_broken_spreadsheet_does_harm(data):
    whole = book(survey=[HEADINGS, row("text", "a", "A")], choices=CHOICES)
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:at] + data.draw(st.binary(max_size=20)) + whole[at + data.draw(st.integers(0, 40)) :]
    with suppress(Failed):  # nothing else is ever raised
        convert(b"PK\x03\x04" + broken[4:], name="f.xlsx", on=ON)


def with_part(path: str, text: bytes, packed: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A spreadsheet with another text in one of its parts."""
    stream = io.BytesIO(book(survey=[HEADINGS]))
    made = io.BytesIO()
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(made, "w", packed) as new:
        for name in old.namelist():
            new.writestr(name, text if name == path else old.read(name))
    return made.getvalue()


@pytest.mark.requirement("SEC-4", "SEC-48")
def test_a_bomb_and_entities_are_refused():
    with pytest.raises(Failed, match="unpacks to more"):
        convert(with_part("xl/workbook.xml", b" " * 30_000_000), name="f.xlsx", on=ON)
    entity = b"<!DOCTYPE x [<!ENTITY a 'b'>]><workbook>&a;</workbook>"
    with pytest.raises(Failed, match="document type or entities"):
        convert(with_part("xl/workbook.xml", entity), name="f.xlsx", on=ON)


MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
SHEET = '<sheet name="s{}" r:id="rId1"/>'
BOOK = f'<workbook {MAIN} xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>'


@pytest.mark.requirement("ODM-8", "SEC-23")
def test_a_small_file_does_not_become_endless_work():
    """What is small as a file may be said a hundred thousand times: a sheet, a text, the beginning of a name."""
    sheets = "".join(SHEET.format(number) for number in range(101))
    with pytest.raises(Failed, match="more than 100 sheets"):
        convert(with_part("xl/workbook.xml", f"{BOOK}{sheets}</sheets></workbook>".encode()), name="f", on=ON)
    large = [[f"{'x' * 32_000}"] * 15] * 90
    with pytest.raises(Failed, match="unpacks to more than 40 MB"):
        convert(book(survey=large), name="f.xlsx", on=ON)
    with pytest.raises(Failed, match="cannot be read"):
        convert(with_part("none", b"", zipfile.ZIP_LZMA), name="f.xlsx", on=ON)
    began = time.process_time()
    found = form(
        row("range", "pain", "Pain", relevant="a:" * 15_000),
        row("text", "why", "Why", relevant=f"${{pain{' ' * 3_000}!}} > 1"),
    )
    assert found.study.instruments
    assert time.process_time() - began < 8, "minutes, where each letter is looked at again from every other"
