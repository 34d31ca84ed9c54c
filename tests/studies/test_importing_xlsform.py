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

from app.studies.definition import Instrument
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


def the_form(converted: Converted) -> Instrument:
    found = converted.study.instrument("form")
    assert found is not None
    return found


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
    assert converted.study.language == "de"
    (english,) = the_form(converted).texts
    assert (english.language, english.items[0].label) == ("en", "A word")
    assert "Row 2, a: media::image: a.png." in notes(converted, "lost")


def test_a_form_in_two_languages_is_one_study_in_two(tmp_path):
    headings = ["type", "name", "label::English (en)", "label::Deutsch (de)", "label::Kiswahili", "hint::Deutsch (de)"]
    headings += ["constraint", "constraint_message::English (en)", "constraint_message::Deutsch (de)"]
    survey = [
        headings,
        ["begin group", "g", "About you", "Über Sie"],
        ["select_one yn", "pain", "Pain?", "Schmerz?", "Maumivu?", "Heute"],
        ["integer", "age", "Age", "Alter", "", "", ". >= 18", "An adult.", "Erwachsen."],
        ["integer", "odd", "Odd", "Ungerade", "", "", "regex(., 'x')", "No.", "Nein."],
        ["end group"],
        ["note", "n", "Read this", "Lies das"],
        ["text", "last", "Last"],
    ]
    choices = [
        ["list_name", "name", "label::English (en)", "label::Deutsch (de)", "image"],
        ["yn", "1", "Yes", "Ja", "yes.png"],
        ["yn", "-1", "No", "Nein"],
    ]
    converted = convert(book(survey=survey, choices=choices), name="f.xlsx", on=ON)
    write_folder(converted, tmp_path / "f")
    study, findings = read_folder(tmp_path / "f")
    assert study is not None, findings
    assert study.language == "en"
    loaded = study.instrument("form")
    assert loaded is not None
    (german,) = loaded.texts
    assert german.language == "de"
    assert [(each.code, each.label, each.hint) for each in german.items] == [
        ("pain", "Schmerz?", "Heute"),
        ("age", "Alter", None),
        ("odd", "Ungerade", None),
    ]
    assert [(each.code, each.label) for each in german.items[0].choices] == [("1", "Ja"), ("m1", "Nein")]
    assert [each.message for each in german.items[1].checks] == ["Erwachsen."]
    lost = notes(converted, "lost")
    for words in (
        "survey: The words of “label::kiswahili”.",
        "Row 2, g: In de: “Über Sie”.",
        "Row 7, n: In de: “Lies das”.",
        "choices, Row 2, 1: image: yes.png.",
    ):
        assert words in lost, words


def test_what_a_form_says_beside_its_questions_is_told_where_it_stands():
    headings = [*HEADINGS, "default", "read_only", "disabled", "parameters"]

    def line(*said: str, **more: str) -> list[str]:
        return [*row(*said), *(more.get(each, "") for each in headings[len(HEADINGS) :])]

    survey = [
        headings,
        line("integer", "a", "A", default="3", read_only="yes"),
        line("text", "gone", "Gone", disabled="yes"),
        [*row("begin group", "g", "G", appearance="field-list"), "", "", "yes"],
        line("text", "inside", "Inside"),
        line("end group"),
        line("select_one yn", "b", "B", parameters="randomize=true"),
        line("range", "c", "C", parameters="start=0 end=1 step=0.1"),
        line("range", "d", "D", parameters="start=0 end=10 step=5"),
        line("geopoint", "e", "E"),
    ]
    sheets = {
        "survey": survey,
        "choices": CHOICES,
        "settings": [["style"], ["pages"]],
        "entities": [["dataset"], ["people"]],
    }
    converted = convert(book(**sheets), name="f.xlsx", on=ON)
    items = items_of(converted)
    assert list(items) == ["a", "b", "c", "d", "e"]
    assert (items["c"].type, items["c"].min, items["c"].max) == ("number", 0, 1)
    said = notes(converted, "lost") + "\n" + notes(converted, "changed")
    for words in (
        "Row 2, a: default: 3.",
        "Row 2, a: Nobody can type it (read_only).",
        "Row 3, gone: It is disabled.",
        "Row 5, inside: It is disabled.",
        "Row 7, b: The parameter randomize=true.",
        "Row 8, c: A range from 0 to 1 in steps of 0.1.",
        "Row 9, d: Steps of 5.",
        "Row 10, e: It notes where one is (geopoint).",
        "settings: style: pages.",
        "Sheet entities: A sheet of its own.",
    ):
        assert words in said, words


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("pow(${a}, 2) div ${b}", "(([a])^(2)) / [b]"),
        ("-pow(${a}, 2)", "-(([a])^(2))"),
        ("coalesce(${a}, 0) + number(${b})", "if([a] <> '', [a], 0) + ([b])"),
        ("${a} mod 2", "mod([a], 2)"),
        ("(${a} + 1) mod round(${b}, 0) + 1", "mod(([a] + 1), round([b], 0)) + 1"),
        ("floor(${a}) + ceiling(${b}) + log10(10)", "rounddown([a]) + roundup([b]) + log(10, 10)"),
        ("if(starts-with(${t}, 'x') and not(${a} > 1), 1, 0)", "if(starts_with([t], 'x') and not([a] > 1), 1, 0)"),
        ("length(substr(${t}, 1, 3))", "length(mid([t], (1) + 1, (3) - (1)))"),
        ("${a} * 2 mod 2", None),
        ("((${a}", None),
        ("${a})", None),
        ("(" * 500 + "${a}" + ")" * 500, None),
    ],
)
def test_what_a_form_calculates_is_said_in_our_language(there: str, here: str | None):
    converted = form(
        row("integer", "a", "A"),
        row("integer", "b", "B"),
        row("text", "t", "T"),
        row("calculate", "c", calculation=there),
    )
    assert items_of(converted)["c"].calculation == here
    assert ("Row 5, c: The calculation" in notes(converted, "lost")) is (here is None)


def test_a_table_of_choices_is_a_matrix():
    converted = form(
        row("begin group", "g", "Often", appearance="table-list"),
        row("select_one yn", "a", "A"),
        row("select_one yn", "b", "B"),
        row("end group"),
        row("text", "c", "C"),
    )
    sections = the_form(converted).sections
    assert [(each.label, each.layout, len(each.items)) for each in sections] == [
        ("Often", "matrix", 2),
        (None, "list", 1),
    ]


def test_a_dictionary_that_was_saved_as_a_spreadsheet_is_read():
    headings = [
        "Variable / Field Name",
        "Form Name",
        "Field Type",
        "Field Label",
        "Choices, Calculations, OR Slider Labels",
    ]
    rows = [headings, ["record_id", "base", "text", "ID"], ["sex", "base", "radio", "Sex", "1, F | 2, M"]]
    converted = convert(book(dictionary=rows), name="d.xlsx", on=ON)
    assert [choice.label for choice in items_of(converted, "base")["sex"].choices] == ["F", "M"]


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
