"""A REDCap dictionary or project becomes a study folder: what is what, and nothing is dropped without a word."""

import csv
import io
import time
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.studies.importing import Converted, Failed, Kind, convert, folder_zip, write_folder
from app.studies.loading import read_folder

ON = date(2026, 3, 2)
HEADER = (
    "Variable / Field Name,Form Name,Section Header,Field Type,Field Label,"
    '"Choices, Calculations, OR Slider Labels",Field Note,Text Validation Type OR Show Slider Number,'
    'Text Validation Min,Text Validation Max,Identifier?,"Branching Logic (Show field only if...)",Required Field?,'
    "Custom Alignment,Question Number (surveys only),Matrix Group Name,Matrix Ranking?,Field Annotation"
)
COLUMNS = [
    "field_name", "form_name", "section_header", "field_type", "field_label", "select_choices_or_calculations",
    "field_note", "text_validation_type_or_show_slider_number", "text_validation_min", "text_validation_max",
    "identifier", "branching_logic", "required_field", "custom_alignment", "question_number", "matrix_group_name",
    "matrix_ranking", "field_annotation",
]  # fmt: skip


def field(name: str, kind: str = "text", form: str = "base", label: str = "", **more: str) -> dict[str, str]:
    """One row of a dictionary."""
    short = {
        "choices": "select_choices_or_calculations",
        "validation": "text_validation_type_or_show_slider_number",
        "low": "text_validation_min",
        "high": "text_validation_max",
        "branching": "branching_logic",
        "tags": "field_annotation",
        "note": "field_note",
        "section": "section_header",
        "matrix": "matrix_group_name",
        "ranking": "matrix_ranking",
        "required": "required_field",
    }
    named = {short.get(key, key): value for key, value in more.items()}
    return {"field_name": name, "form_name": form, "field_type": kind, "field_label": label or name, **named}


def table(*rows: dict[str, str], header: str = HEADER) -> bytes:
    """The dictionary as CSV with a record ID in front."""
    text = io.StringIO()
    writer = csv.writer(text)
    for row in (field("record_id", label="Study ID"), *rows):
        writer.writerow([row.get(column, "") for column in COLUMNS])
    return f"{header}\r\n{text.getvalue()}".encode()


def converted(*rows: dict[str, str]) -> Converted:
    return convert(table(*rows), name="dictionary.csv", on=ON)


def item(of: Converted, code: str):
    return next(each for part in of.study.instruments for each in part.every_item if each.code == code)


def form(of: Converted, code: str):
    found = of.study.instrument(code)
    assert found is not None
    return found


def said(of: Converted, words: str) -> bool:
    return any(words in f"{note.where} {note.what} {note.instead} {note.to_do}" for note in of.notes)


def errors_in(folder: Path) -> list[str]:
    return [str(finding) for finding in read_folder(folder)[1] if finding.is_error]


SEX = field("sex", "radio", choices="0, Female | 1, Male | -1, Not known")


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (field("a"), {"type": "text", "required": False}),
        (field("a", required="y"), {"type": "text", "required": True}),
        (field("a", "notes"), {"type": "text", "multiline": True}),
        (
            field("a", validation="integer", low="1", high="9"),
            {"type": "integer", "expected_min": 1, "expected_max": 9},
        ),
        (field("a", validation="integer", low="1", high="9", tags="@FORCE-MINMAX"), {"min": 1, "max": 9}),
        (field("a", validation="number_2dp"), {"type": "number", "decimals": 2}),
        (field("a", validation="number_1dp_comma_decimal", low="1,5"), {"type": "number", "decimals": 1}),
        (field("a", validation="date_dmy"), {"type": "date"}),
        (field("a", validation="datetime_seconds_mdy"), {"type": "date_time"}),
        (field("a", validation="time"), {"type": "time"}),
        (field("a", validation="time_mm_ss"), {"type": "text"}),
        (field("a", tags="@CHARLIMIT=12"), {"type": "text", "max_length": 12}),
        (field("a", "yesno"), {"type": "yes_no"}),
        (field("a", "truefalse"), {"type": "choice"}),
        (field("a", "dropdown", choices="1, One|2, Two"), {"type": "choice"}),
        (field("a", "checkbox", choices="1, One | 2, Two"), {"type": "choices"}),
        (field("a", "slider"), {"type": "slider", "min": 0, "max": 100, "show_value": False}),
        (field("a", "slider", validation="number"), {"type": "slider", "show_value": True}),
        (field("a", "slider", low="0", high="10", choices="None | | Worst"), {"type": "scale", "max": 10}),
        (field("a", "file"), {"type": "file"}),
        (field("a", "file", validation="signature"), {"type": "signature"}),
        (field("a", "calc", choices="[b] * 2"), {"type": "calculated", "calculation": "[b] * 2"}),
        (field("a", tags="@CALCTEXT(if([b] > 2, 'high', 'low'))"), {"type": "calculated"}),
        (field("a", "sql", choices="select 1"), {"type": "text"}),
        (field("a", "radio"), {"type": "text"}),
        (field("a", note="<i>In kg</i>"), {"hint": "In kg"}),
    ],
)
def test_each_kind_of_field_is_an_item(row, kept):
    made = item(converted(row, field("b", validation="number")), "a")
    assert {key: getattr(made, key) for key in kept} == kept


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("[sex] = '1'", "[sex] = '1'"),
        ('[sex] = "-1"', "[sex] = 'm1'"),
        ("-1 <> [sex]", "'m1' <> [sex]"),
        ("[sex]='-1' or ([age]>3 and [meds(a-b)]='1')", "[sex]='m1' or ([age]>3 and [meds(a-b)]='1')"),
        ("[sex] < 0", "if([sex] = 'm1', -1, [sex]) < 0"),
        ("[meds(-9)] = '1'", "[meds(m9)] = '1'"),
        ("[meds____9] = '1'", "[meds(m9)] = '1'"),
        ('[age] <> "" // a comment', '[age] <> "" // a comment'),
        ("datediff([born],'today','y','ymd',true) > 18", "datediff([born],'today','y','ymd',true) > 18"),
        ("[far] > 3", "[visit1][far] > 3"),
        ("[user-name] = 'x'", None),
        ("[sex] = '7'", None),
        ("[sex] = ", None),
        ("[a] = '1'", None),
        ("[base_complete] = '2'", None),
    ],
)
def test_branching_is_said_with_our_names_or_reported(there, here):
    made = converted(
        SEX,
        field("age", validation="integer"),
        field("born", validation="date_ymd"),
        field("meds", "checkbox", choices="a-b, One | -9, None"),
        field("a", branching=there),
        field("far", validation="number", form="other"),
    )
    assert item(made, "a").shown_if == here
    assert said(made, "The item is always shown.") is (here is None)
    assert said(made, "It is the answer at one visit: [visit1][far].") is (there == "[far] > 3")


def test_the_report_says_at_which_visit_a_field_of_another_form_is_meant():
    born = field("dob", validation="date_ymd", form="about")
    age = field("age", "calc", choices="datediff([dob], 'today', 'y')")
    made = converted(born, age, field("seen", validation="date_ymd", low="[dob]"))
    assert item(made, "age").calculation == "datediff([visit1][dob], 'today', 'y')"
    told = [note for note in made.notes if "It is the answer at one visit: [visit1][dob]." in note.instead]
    assert [(note.kind, note.what.partition(",")[0]) for note in told] == [
        (Kind.CHANGED, "[dob] is a field of another form")
    ] * 2


@pytest.mark.parametrize(
    ("low", "high", "rule"),
    [
        ("2020-01-01", "", "[a] >= '2020-01-01'"),
        ("", "today", "[a] <= 'today'"),
        ("[born]", "", "[a] >= [born]"),
        ("", "tomorrow", None),
    ],
)
def test_bounds_of_dates_are_checks(low, high, rule):
    row = field("a", validation="date_ymd", low=low, high=high)
    made = converted(field("born", validation="date_ymd"), row)
    assert [(check.rule, check.kind) for check in item(made, "a").checks] == ([(rule, "soft")] if rule else [])
    assert said(made, "Write a check.") is (rule is None)


def test_tags_that_limit_ticks_are_hard_checks():
    made = converted(field("a", "checkbox", choices="1, A | 2, B | 9, None", tags="@NONEOFTHEABOVE=9 @MAXCHECKED=2"))
    rules = [check.rule for check in item(made, "a").checks]
    assert rules == ["not ([a(9)] = 1 and selected_count([a]) > 1)", "selected_count([a]) <= 2"]
    assert {check.kind for check in item(made, "a").checks} == {"hard"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (field("a", tags="@HIDDEN"), "The action tag @HIDDEN."),
        (field("a", tags='@DEFAULT="5" for the nurse'), "The annotation “for the nurse”."),
        (field("a", tags="@IF([x] = '1', '@HIDDEN', '')"), "The action tag @IF=[x] = '1', '@HIDDEN', ''."),
        (field("a", tags="@PLACEHOLDER='x'"), "@PLACEHOLDER=x."),
        (field("a", tags="@CHARLIMIT=5", validation="integer"), "The action tag @CHARLIMIT=5."),
        (field("a", tags="@CHARLIMIT=5", validation="date_ymd"), "The action tag @CHARLIMIT=5."),
        (field("a", tags="@CHARLIMIT='no'"), "The action tag @CHARLIMIT=no."),
        (field("a", custom_alignment="LH"), "Custom alignment LH."),
        (field("a", question_number="7"), "Question number 7."),
        (field("a", validation="zipcode"), "The format zipcode is not checked."),
        (field("a", validation="email"), "holds an e-mail address"),
        (field("a", identifier="y"), "is marked as an identifier"),
        (field("a", "radio", choices="1, A | 1, B"), "A second choice with the code 1"),
        (field("a", "radio", choices="1, A | 2, a"), "Its label is “a (2)”."),
        (field("a", "slider", choices="l | m | r"), "The label “m” in the middle"),
        (field("a", "sql", choices="select 1"), "is filled from a database query"),
        (field("a", "radio"), "is a radio without choices"),
        (field("a", "dropdown", choices="1, A", validation="autocomplete"), "searched as one types (autocomplete)"),
        (field("a", "calc"), "A calculation that is empty."),
        (field("a", "calc", choices="[nothing] + 1"), "A number is typed."),
        (field("a", label="Dear [first_name]"), "A piped value"),
        (field("a", label="<b>Bold</b>"), "HTML in “Bold”."),
        (field("a", label="long " * 100), "A text of 499 characters."),
        (field("a", "descriptive", label="Read this"), "A text with no question after it: “Read this”"),
        (field("a" * 50), "codes are small letters"),
        (field("Weight kg"), "It is the item weight_kg"),
        (field("a", "radio", choices="1, A | 2, B", matrix="m", ranking="y"), "Matrix m is a ranking."),
    ],
)
def test_what_is_not_taken_over_as_it_was_is_reported(row, words):
    assert said(converted(row, field("b")), words) or said(converted(field("b"), row), words)


def test_a_matrix_is_a_table_of_its_own():
    rows = [
        field(f"q{n}", "radio", choices="1, No | 2, Yes", matrix="m", section="Pain" if n == 1 else "") for n in (1, 2)
    ]
    made = converted(field("before"), *rows, field("after"))
    assert [(part.label, part.layout, [each.code for each in part.items]) for part in form(made, "base").sections] == [
        (None, "list", ["before"]),
        ("Pain", "matrix", ["q1", "q2"]),
        (None, "list", ["after"]),
    ]


def test_a_text_stands_before_the_question_it_belongs_to():
    made = converted(
        field("intro", "descriptive", label="<p>Think of<br>last week</p>"),
        field("a"),
        field("t", "descriptive", label="Now"),
        field("b"),
    )
    part = form(made, "base").sections[0]
    assert (part.label, part.items[0].hint, part.items[1].hint) == ("Think of last week", None, "Now")


def test_a_text_at_the_end_of_a_form_is_no_heading_of_the_next():
    made = converted(
        field("a"),
        field("thanks", "descriptive", label="Thank you for taking part"),
        field("b", form="other"),
        field("bye", "descriptive", form="other", label="Goodbye"),
    )
    part = form(made, "other").sections[0]
    assert (part.label, part.items[0].hint) == (None, None)
    told = {note.where: note.what for note in made.notes if "no question after it" in note.what}
    assert list(told) == ["Form base", "Form other"]
    assert "Thank you for taking part" in told["Form base"]


@pytest.mark.parametrize(
    ("branching", "why"),
    [
        ("[user-role-name] = 'nurse'", "[user-role-name] is no field but a smart variable"),
        ("[event-name] = 'x'", "[event-name] is no field but a smart variable"),
        ("[b:label] = 'Yes'", "[b:label] asks for label of the field"),
        ("[previous-event-name][b] > 1", "is another visit wherever it is asked"),
        ("[base_complete] = '2'", "[base_complete] is whether a form is complete"),
    ],
)
def test_what_of_logic_has_no_word_here_is_told_for_what_it_is(branching: str, why: str):
    made = converted(field("b"), field("a", branching=branching))
    assert item(made, "a").shown_if is None
    assert said(made, why)


def test_names_of_people_are_pointed_out_until_somebody_decides(tmp_path):
    made = converted(field("name", identifier="y"), field("mail", validation="email"))
    assert made.count(Kind.PERSONAL) == 2
    write_folder(made, tmp_path / "out")
    warnings = [str(finding) for finding in read_folder(tmp_path / "out")[1]]
    assert sum("this may say who somebody is" in each for each in warnings) == 2
    assert sum(each.startswith("instruments/base.yaml:") for each in warnings) == 2


@pytest.mark.parametrize(
    "data",
    [
        table(field("a")).replace(b"\r\n", b"\n"),
        b"\xef\xbb\xbf" + table(field("a")),
        table(field("a")).decode().encode("utf-16"),
        table(field("a"), header=",".join(COLUMNS)),
        table(field("a"), header=",".join(COLUMNS)).replace(b",", b";"),
        table(field("a"), header=",".join(COLUMNS)).replace(b",", b"\t"),
        table(field("a")).replace(b"\r\n", b"\r\n,,,,,,,,,,,,,,,,,\r\n"),
    ],
    ids=["LF", "BOM", "UTF-16", "names of the API", "semicolons", "tabs", "empty lines"],
)
def test_a_dictionary_is_read_as_spreadsheets_write_it(data):
    assert item(convert(data, name="d.csv", on=ON), "a").type == "text"


@pytest.mark.requirement("ODM-8")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"  \r\n ", "empty"),
        (b"a,b\n1,2", "lacks field_name, form_name, field_type, field_label"),
        (b"PK\x03\x04rest", "Save the sheet as CSV in UTF-8".lower()),
        (b"%PDF-1.7", "this is a pdf"),
        (HEADER.encode() + b"\r\n", "no fields"),
        (table(field("caf\u00e9")).decode().encode("latin-1"), "not in UTF-8 (line 3)"),
        (table(field("a")).replace(b"text", b"te\x00xt"), "NUL character at line 2"),
        (table(field("a")) + b'"never closed,base,,text', "never closed"),
        (table(field("", form="base")), "has no field name"),
        (table(field("a", form="")), "has no form name"),
        (table(field("a", label="x" * 300_000)), "longer than 200,000 characters"),
        (HEADER.encode() + b",Form Name\r\n", "names a column twice (form)"),
        (b"x" * 20_000_001, "larger than 20 MB"),
    ],
)
def test_a_file_that_is_none_is_refused_with_what_to_do(data, words):
    with pytest.raises(Failed) as failed:
        convert(data, name="d.csv", on=ON)
    assert words.lower() in str(failed.value).lower()


@pytest.mark.requirement("ODM-8", "SEC-23")
def test_a_first_line_of_very_many_columns_takes_no_endless_work():
    """Each was counted among all others: one of twenty megabytes took most of an hour."""
    began = time.process_time()
    with pytest.raises(Failed, match="names a column twice"):
        convert(HEADER.encode() + b",Form Name" * 200_000 + b"\r\n", name="d.csv", on=ON)
    assert time.process_time() - began < 8, "and it took half a minute"


@pytest.mark.requirement("ODM-8", "SEC-23")
def test_blanks_in_a_field_and_names_that_are_alike_take_no_endless_work():
    """Blanks that may belong to any of three places took the cube of their number; the others the square."""
    long = "x" * 60
    rows = [field(f"{long}{number}") for number in range(3_000)]
    began = time.process_time()
    found = convert(table(field("a", branching=f"[a{' ' * 3_000}!] = 1"), *rows), name="d.csv", on=ON)
    codes = [each.code for form in found.study.instruments for each in form.items]
    assert len(codes) == len(set(codes)) > 3_000
    with pytest.raises(Failed, match="not well-formed"):
        convert(b"<ODM xmlns:redcap='https://projectredcap.org'>" + b"<![CDATA[" * 30_000, name="p.xml", on=ON)
    assert time.process_time() - began < 10


def test_formulae_and_markup_stay_words(tmp_path):
    made = converted(
        field("a", label='=HYPERLINK("http://x")', note="@SUM(1)"), field("b", label="- [x](y) `z` # no\ttab: {a}")
    )
    write_folder(made, tmp_path / "out")
    study, findings = read_folder(tmp_path / "out")
    assert study is not None, findings
    assert [each.label for each in study.instruments[0].items] == [
        '=HYPERLINK("http://x")',
        "- [x](y) `z` # no tab: {a}",
    ]


def test_what_is_written_is_read_back_as_it_was_and_nothing_is_written_over(tmp_path):
    made = converted(SEX, field("a", "checkbox", choices="1, é “quoted” | 2, no: yes", branching="[sex] = '-1'"))
    write_folder(made, tmp_path / "out")
    study, findings = read_folder(tmp_path / "out")
    assert study is not None, findings
    assert study == made.study
    with pytest.raises(Failed, match="not empty"):
        write_folder(made, tmp_path / "out")
    assert folder_zip(made) == folder_zip(
        converted(SEX, field("a", "checkbox", choices="1, é “quoted” | 2, no: yes", branching="[sex] = '-1'"))
    )


@pytest.mark.parametrize("code", ["Trial", "api", "a b", ""])
def test_a_code_that_cannot_be_one_is_refused(code):
    with pytest.raises(Failed, match="cannot be a study's code"):
        convert(table(field("a")), name="d.csv", on=ON, code=code)


# Whatever a dictionary is made of

NAMES = ["age", "sex", "pain", "meds", "when", "x" * 45, "Weird Name", "arm", "screening", "allocation", "2nd", "ünder"]
FORMS = ["base", "follow_up", "Prescreen", "form" * 15]
LOGIC = [
    "", "[sex] = '1'", "[sex] < 0", "[meds(2)] = '1'", "[age] > 3 and [pain] <> ''", "[when] >= 'today'", "[nope] = 1",
    "[age", "[event_1_arm_1][age] = 2", "[age][current-instance] > 1", "[pain] = [pain]", "[arm] = '1'",
    "[first-event-name][age] = 1",
]  # fmt: skip
CALCULATIONS = [
    *LOGIC,
    "[age] * 2",
    "sum([sex], [pain])",
    "round([pain] / [age], 1)",
    "[age] + [pain] + [x]",
    "datediff([when], 'now', 'd')",
]
MANY = " | ".join(f"{n}, {n}" for n in range(30))
CHOICES = [
    "", "1, A | 2, B", "-1, A | -2, B | 0, C", "1, A|1, B", "a, Same | b, Same", "only", "1.5, A | UNK, B", "é, ü",
    MANY,
]  # fmt: skip
KINDS = [
    "text",
    "notes",
    "radio",
    "dropdown",
    "checkbox",
    "calc",
    "yesno",
    "truefalse",
    "slider",
    "file",
    "descriptive",
    "sql",
    "",
    "nonsense",
]
VALIDATIONS = [
    "",
    "integer",
    "number",
    "number_1dp",
    "date_dmy",
    "datetime_ymd",
    "time",
    "email",
    "signature",
    "autocomplete",
    "made_up",
]
BOUNDS = ["", "0", "10", "-5", "1.5", "1e99", "NaN", "2020-01-01", "today", "[age]", "x"]
TAGS = [
    "",
    "@FORCE-MINMAX",
    "@HIDDEN",
    "@NONEOFTHEABOVE=2",
    "@MAXCHECKED=3",
    "@CALCTEXT([age] + 1)",
    "@CHARLIMIT=0",
    "@IF(",
    "words @TODAY",
]
LABELS = ["A label", "<b></b>", "x" * 900, "[age] piped", "'\"\\: #", "\u202ebidi"]
PARTS = {
    "name": NAMES,
    "kind": KINDS,
    "form": FORMS,
    "label": LABELS,
    "choices": CHOICES + CALCULATIONS,
    "validation": VALIDATIONS,
    "low": BOUNDS,
    "high": BOUNDS,
    "branching": LOGIC,
    "tags": TAGS,
    "section": ["", "", "A heading", "h" * 500],
    "matrix": ["", "", "grid"],
    "required": ["", "y"],
    "identifier": ["", "y"],
}
CELLS = {key: st.sampled_from(values) for key, values in PARTS.items()}
ROWS = st.fixed_dictionaries(CELLS).map(lambda row: field(**row))


@pytest.mark.requirement("ODM-8")
@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(ROWS, min_size=1, max_size=12))
def test_any_dictionary_becomes_a_folder_without_an_error(tmp_path_factory, rows):
    if all(row["field_type"] == "descriptive" for row in rows):
        with pytest.raises(Failed, match="no form with a question"):
            converted(*rows)
        return
    made = converted(*rows)
    folder = tmp_path_factory.mktemp("imported") / "out"
    write_folder(made, folder)
    assert errors_in(folder) == []
    asked = {row["field_name"] for row in rows if row["field_type"] != "descriptive"}
    assert len(
        [
            each
            for part in made.study.instruments
            for each in part.every_item
            if part.code != made.study.eligibility.instrument
        ]
    ) >= len(asked)
