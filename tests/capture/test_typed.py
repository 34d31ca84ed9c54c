"""What was typed: read as meant, or refused with what to write instead; never changed on the way."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.capture.typed import check_stored, parse_typed, stored_number, typed_form
from app.foundation.languages import sentence
from app.studies.definition import Instrument, ItemType
from tests.capture.records import instrument

CHOICES = [{"code": "back", "label": "Back"}, {"code": "leg", "label": "Leg"}, {"code": "arm_", "label": "Arm"}]
PAPER = {"file": "a" * 64, "name": "scan.pdf", "size": 12, "media_type": "application/pdf"}
SIGNED = {"signature": "b" * 64, "how": "drawn"}
FORM = instrument(
    {"code": "choice", "type": "choice", "choices": CHOICES},
    {"code": "ticks", "type": "choices", "choices": CHOICES},
    {"code": "yes", "type": "yes_no"},
    {"code": "whole", "type": "integer", "label": "How many days?"},
    {"code": "number", "type": "number"},
    {"code": "scale", "type": "scale", "min": 0, "max": 10},
    {"code": "day", "type": "date"},
    {"code": "month", "type": "date", "precision": "month"},
    {"code": "year", "type": "date", "precision": "year"},
    {"code": "clock", "type": "time"},
    {"code": "moment", "type": "date_time"},
    {"code": "vas", "type": "slider"},
    {"code": "paper", "type": "file"},
    {"code": "signed", "type": "signature"},
    {"code": "line", "type": "text"},
    {"code": "lines", "type": "text", "multiline": True},
    {"code": "score", "type": "calculated", "calculation": "[whole] + 1"},
)

READ: list[tuple[str, list[str], object]] = [
    ("choice", ["back"], "back"),
    ("choice", [" back "], "back"),
    ("choice", ["", "back"], "back"),
    ("choice", ["head"], "head"),  # whether it is a choice is asked by the checks
    ("ticks", ["leg", "back"], ["back", "leg"]),
    ("ticks", ["leg", "leg", ""], ["leg"]),
    ("yes", ["yes"], True),
    ("yes", ["no"], False),
    ("yes", ["TRUE"], True),
    ("yes", ["0"], False),
    ("whole", ["12"], 12),
    ("whole", [" 12 "], 12),
    ("whole", ["-3"], -3),
    ("whole", ["+3"], 3),
    ("whole", ["007"], 7),
    ("whole", ["-0"], 0),
    ("whole", ["9007199254740991"], 9007199254740991),
    ("number", ["70"], 70),
    ("number", ["70.0"], 70),
    ("number", ["70.50"], 70.5),
    ("number", [".5"], 0.5),
    ("number", ["5."], 5),
    ("number", ["-0.1"], -0.1),
    ("number", ["0.1"], 0.1),
    ("number", ["-0.0"], 0),
    ("number", ["123456789.123456"], 123456789.123456),
    ("scale", ["0"], 0),
    ("scale", ["10"], 10),
    ("day", ["2026-02-28"], "2026-02-28"),
    ("day", ["2024-02-29"], "2024-02-29"),
    ("month", ["2024-02-29"], "2024-02-29"),
    ("month", ["2024-02"], "2024-02"),
    ("year", ["2024-02"], "2024-02"),
    ("year", ["2024"], "2024"),
    ("moment", ["2024-02-29T23:59"], "2024-02-29T23:59"),
    ("moment", ["2024-02-29 23:59:00"], "2024-02-29T23:59"),
    ("vas", ["0"], 0),
    ("vas", ["73"], 73),
    ("paper", [json.dumps(PAPER)], PAPER),
    ("signed", [json.dumps(SIGNED)], SIGNED),
    ("clock", ["00:00"], "00:00"),
    ("clock", ["23:59"], "23:59"),
    ("line", ["  two  words "], "two  words"),
    ("line", ["Ärger, “quoted” 痛み 🙂"], "Ärger, “quoted” 痛み 🙂"),
    ("line", ["non\u00a0breaking"], "non\u00a0breaking"),
    ("lines", ["one\r\ntwo\rthree\tfour"], "one\ntwo\nthree\tfour"),
    ("line", ["<script>alert(1)</script>"], "<script>alert(1)</script>"),
    ("line", ["'; DROP TABLE entry; --"], "'; DROP TABLE entry; --"),
]

UNREAD = [
    ("yes", ["maybe"], "yes_no"),
    ("whole", ["3.5"], "integer"),
    ("whole", ["3,5"], "integer"),
    ("whole", ["5.0"], "integer"),
    ("whole", ["1e3"], "integer"),
    ("whole", ["twelve"], "integer"),
    ("whole", ["1 000"], "integer"),
    ("whole", ["٣"], "integer"),
    ("whole", ["0x1f"], "integer"),
    ("whole", ["1_000"], "integer"),
    ("whole", ["9007199254740992"], "digits"),
    ("whole", ["9" * 5000], "digits"),
    ("whole", ["1", "2"], "one"),
    ("number", ["3,5"], "number"),
    ("number", ["1,000.5"], "number"),
    ("number", ["1e5"], "number"),
    ("number", ["nan"], "number"),
    ("number", ["Infinity"], "number"),
    ("number", ["−5"], "number"),
    ("number", ["."], "number"),
    ("number", ["5 kg"], "number"),
    ("number", ["0.12345678901234567890123"], "digits"),
    ("number", ["0." + "1" * 5000], "digits"),
    ("number", ["9" * 20], "digits"),
    ("day", ["28-02-2026"], "date"),
    ("day", ["2026-02-30"], "date"),
    ("day", ["2025-02-29"], "date"),
    ("day", ["20260228"], "date"),
    ("day", ["2026-W09-1"], "date"),
    ("day", ["2026-2-8"], "date"),
    ("day", ["0000-01-01"], "date"),
    ("day", ["today"], "date"),
    ("month", ["2024"], "date"),
    ("month", ["2024-13"], "date"),
    ("year", ["24"], "date"),
    ("year", ["0000"], "date"),
    ("year", ["2024-2"], "date"),
    ("moment", ["2024-02-30T10:00"], "date"),
    ("moment", ["2024-02-28"], "date_time"),
    ("moment", ["2024-02-28T24:00"], "date_time"),
    ("moment", ["2024-02-28T10:00:30"], "date_time"),
    ("vas", ["7.5"], "integer"),
    ("paper", ["scan.pdf"], "file"),
    ("paper", ['{"file": "x"}'], "file"),
    ("paper", [json.dumps({**PAPER, "file": "../etc"})], "file"),
    ("paper", [json.dumps({**PAPER, "size": -1})], "file"),
    ("paper", [json.dumps({**PAPER, "media_type": "text/html"})], "file"),
    ("paper", [json.dumps({**PAPER, "more": 1})], "file"),
    ("paper", ["[" * 100_000], "file"),
    ("signed", ["Ada"], "signature"),
    ("signed", [json.dumps({**SIGNED, "how": "x"})], "signature"),
    ("clock", ["24:00"], "time"),
    ("clock", ["9:30"], "time"),
    ("clock", ["09:60"], "time"),
    ("clock", ["09:30:00"], "time"),
    ("clock", ["9.30"], "time"),
    ("line", ["a\x00b"], "control"),
    ("line", ["a\nb"], "control"),
    ("line", ["a\x1bb"], "control"),
    ("line", ["a\x85b"], "control"),
    ("line", ["a\ud800b"], "control"),
    ("lines", ["a\x00b"], "control"),
    ("choice", ["ba\x00ck"], "control"),
    ("choice", ["back", "leg"], "one"),
]


@pytest.mark.parametrize(("item", "texts", "stored"), READ)
def test_a_form_is_read_as_it_was_meant(item, texts, stored):
    typed = parse_typed(FORM, {item: texts})
    assert typed.problems == []
    assert typed.values == {item: stored}
    assert type(typed.values[item]) is type(stored)


@pytest.mark.parametrize(("item", "texts", "rule"), UNREAD)
@pytest.mark.requirement("SEC-23")
def test_what_cannot_be_read_is_refused_by_field(item, texts, rule):
    typed = parse_typed(FORM, {item: texts})
    assert [(problem.field, problem.rule) for problem in typed.problems] == [(item, rule)]
    assert typed.values == {}
    assert typed.problems[0].message.endswith(".")
    assert len(typed.problems[0].message) < 300
    assert "\x00" not in typed.problems[0].message


@pytest.mark.parametrize("texts", [[], [""], ["  "], ["", "\t"]])
@pytest.mark.parametrize("item", [item.code for item in FORM.items])
def test_blank_is_no_answer(item, texts):
    typed = parse_typed(FORM, {item: texts})
    assert (typed.values, typed.problems) == ({}, [])


def test_a_decimal_comma_is_answered_with_the_number_to_write():
    (problem,) = parse_typed(FORM, {"number": ["3,5"]}).problems
    assert problem.message == "Number: write it with a point, 3.5."


def test_a_label_that_asks_is_named_without_its_question_mark():
    (problem,) = parse_typed(FORM, {"whole": ["x"]}).problems
    assert problem.message.startswith("How many days: write")


def test_missing_codes_reasons_and_strangers():
    form = {
        "whole__missing": ["UNK"],
        "number": ["5"],
        "number__missing": ["UNK"],
        "scale__missing": ["no such\x00 code"],
        "day": [""],
        "day__missing": [" ND "],
        "line__why": ["  because\r\nof it "],
        "line": ["x"],
        "clock__why": ["x\x00"],
        "yes__why": [""],
        "lines__why": ["y" * 2001],
        "score": ["99"],
        "csrf": ["token"],
        "arm": ["active"],
        "base_version": ["1"],
    }
    typed = parse_typed(FORM, form)
    assert typed.values == {"whole": {"missing": "UNK"}, "day": {"missing": "ND"}, "line": "x"}
    assert typed.reasons == {"line": "because\nof it"}
    assert {(problem.field, problem.rule) for problem in typed.problems} == {
        ("number", "both"),
        ("scale", "missing_code"),
        ("clock__why", "control"),
        ("lines__why", "max_length"),
    }


def test_an_item_that_is_called_like_a_reason_is_an_item():
    form = instrument(
        {"code": "a", "type": "text"}, {"code": "a__why", "type": "text"}, {"code": "a__missing", "type": "text"}
    )
    typed = parse_typed(form, {"a": ["1"], "a__why": ["2"], "a__missing": ["UNK"]})
    assert typed.values == {"a": "1", "a__why": "2", "a__missing": "UNK"}
    assert (typed.reasons, typed.problems) == ({}, [])


STORED: list[tuple[str, object, object]] = [
    ("choice", "back", "back"),
    ("choice", "", None),
    ("ticks", ["leg", "back", "leg"], ["back", "leg"]),
    ("ticks", [], None),
    ("yes", True, True),
    ("whole", 12, 12),
    ("whole", 12.0, 12),
    ("number", 0.1, 0.1),
    ("number", 7.0, 7),
    ("number", Decimal("7.25"), 7.25),
    ("number", -0.0, 0),
    ("number", Decimal("0e-50"), 0),
    ("number", 1.2345678901234567e-20, 1.2345678901234567e-20),
    ("scale", 3, 3),
    ("day", "2026-02-28", "2026-02-28"),
    ("clock", "09:30", "09:30"),
    ("line", " x ", "x"),
    ("lines", "a\nb", "a\nb"),
    ("line", {"missing": "UNK"}, {"missing": "UNK"}),
    ("whole", None, None),
]

NOT_STORED = [
    ("choice", 1, "type"),
    ("choice", ["back"], "type"),
    ("ticks", "back", "type"),
    ("ticks", [1], "type"),
    ("ticks", [["back"]], "type"),
    ("yes", "yes", "type"),
    ("yes", 1, "type"),
    ("whole", "12", "type"),
    ("whole", True, "type"),
    ("whole", 1.5, "integer"),
    ("whole", 2**53, "digits"),
    ("whole", 10**400, "digits"),
    ("number", "1.5", "type"),
    ("number", float("nan"), "number"),
    ("number", float("inf"), "number"),
    ("number", Decimal("0.1234567890123456789"), "digits"),
    ("number", Decimal("NaN"), "digits"),
    ("number", Decimal("1e999999"), "digits"),
    ("number", 1e300, "digits"),
    ("number", 1e-300, "digits"),
    ("scale", [3], "type"),
    ("day", 20260228, "type"),
    ("day", "2026-02-30", "date"),
    ("clock", "25:00", "time"),
    ("line", 5, "type"),
    ("line", "a\ud800", "control"),
    ("line", {"missing": "UNK", "more": 1}, "type"),
    ("line", {"missing": 5}, "type"),
    ("line", {"missing": "a b"}, "type"),
    ("line", {}, "type"),
    ("score", 5, "calculated"),
    ("arm", "active", "unknown"),
    ("x" * 5000, 1, "unknown"),
]


@pytest.mark.parametrize(("item", "value", "stored"), STORED)
def test_json_is_kept_as_it_is(item, value, stored):
    values, problems = check_stored(FORM, {item: value})
    assert problems == []
    assert values == ({} if stored is None else {item: stored})
    assert type(values.get(item)) is type(stored)


@pytest.mark.parametrize(("item", "value", "rule"), NOT_STORED)
@pytest.mark.requirement("SEC-23")
def test_json_that_is_not_a_value_of_its_item_is_refused(item, value, rule):
    values, problems = check_stored(FORM, {item: value})
    assert values == {}
    assert [problem.rule for problem in problems] == [rule]
    assert len(problems[0].field) <= 80


decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6)
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=40)
ANSWERS: dict[ItemType, st.SearchStrategy[Any]] = {
    ItemType.CHOICE: st.sampled_from(["back", "leg", "arm_"]),
    ItemType.CHOICES: st.lists(st.sampled_from(["back", "leg", "arm_"])),
    ItemType.YES_NO: st.booleans(),
    ItemType.INTEGER: st.integers(-(2**53) + 1, 2**53 - 1),
    ItemType.NUMBER: decimals.map(stored_number).filter(lambda number: number is not None),
    ItemType.SCALE: st.integers(0, 10),
    ItemType.DATE: st.dates().map(str),
    ItemType.TIME: st.times().map(lambda time: time.isoformat("minutes")),
    ItemType.TEXT: texts,
}


def answers(form: Instrument) -> st.SearchStrategy[dict[str, object]]:
    missing = st.sampled_from(["UNK", "ND"]).map(lambda code: {"missing": code})
    kinds = {item.code: ANSWERS[item.type] | missing for item in form.items if item.type in ANSWERS}
    return st.fixed_dictionaries({}, optional=kinds)


@given(answers(FORM))
def test_stored_values_come_back_from_the_form_that_shows_them(values):
    stored, problems = check_stored(FORM, values)
    assert problems == []
    typed = parse_typed(FORM, typed_form(FORM, stored, {"line": "why"}))
    assert typed.values == stored
    assert typed.reasons == {"line": "why"}
    assert check_stored(FORM, typed.values) == (stored, [])


@given(decimals)
@example(Decimal("0.1"))
@example(Decimal("1E-6"))
def test_a_number_keeps_every_digit_that_was_typed(number):
    typed = parse_typed(FORM, {"number": [format(number, "f")]})
    assert typed.problems == []
    assert Decimal(repr(typed.values["number"])) == number


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([item.code for item in FORM.items]) | st.text(max_size=10), json_values))
def test_any_json_is_read_or_refused(document):
    values, problems = check_stored(FORM, document)
    assert len(values) + len(problems) <= len(document)
    assert check_stored(FORM, values) == (values, [])


fields = st.sampled_from([item.code + end for item in FORM.items for end in ("", "__missing", "__why")]) | st.text()


@given(st.dictionaries(fields, st.lists(st.text(max_size=30), max_size=3), max_size=12))
def test_any_form_is_read_or_refused(form):
    typed = parse_typed(FORM, form)
    assert check_stored(FORM, typed.values) == (typed.values, [])


@pytest.mark.parametrize(
    ("language", "item", "text", "stored"),
    [
        ("de", "number", "70,5", 70.5),
        ("es", "number", "-0,125", -0.125),
        ("de", "number", "1,234", 1.234),
        ("de", "number", "70.5", 70.5),
        ("de", "number", "0.125", 0.125),
        ("en", "number", "1.234", 1.234),
        ("de", "month", "03.2026", "2026-03"),
        ("es", "month", "3/2026", "2026-03"),
        ("de", "day", "3.4.2026", "2026-04-03"),
        ("de", "day", "3. 4. 2026", "2026-04-03"),
        ("es", "day", "03/04/2026", "2026-04-03"),
        ("de", "month", "März 2026", "2026-03"),
        ("de", "day", "14. März 2026", "2026-03-14"),
        ("es", "day", "14 de marzo de 2026", "2026-03-14"),
        ("en", "day", "14 Mar 2026", "2026-03-14"),
        ("en", "month", "03/2026", "2026-03"),
        ("en", "day", "25/12/2026", "2026-12-25"),
        ("en", "day", "12/25/2026", "2026-12-25"),
        ("de", "day", "2026-04-03", "2026-04-03"),
    ],
)
def test_numbers_and_dates_are_read_as_people_of_the_language_write_them(language, item, text, stored):
    typed = parse_typed(FORM, {item: [text]}, language=language)
    assert (typed.values, typed.problems) == ({item: stored}, [])


@pytest.mark.parametrize(
    ("language", "item", "text", "said"),
    [
        ("en", "number", "1,234", "write it with a point, 1.234."),
        (None, "number", "70,5", "write it with a point, 70.5."),
        ("de", "number", "1.234", "this can be read in two ways. Write 1234, or 1,234."),
        ("de", "number", "1.234,5", "write a number in digits, such as 12 or 3.5."),
        ("en", "day", "03/04/2026", "this can be read in two ways. Write 2026-04-03, or 2026-03-04: year-month-day."),
        ("de", "day", "31.2.2026", "write the date as year-month-day, such as 2026-03-14."),
        ("de", "day", "03.2026", "write the date as year-month-day, such as 2026-03-14."),
        (None, "month", "03/2026", "write the date as year-month-day, or as year-month while the day is not known"),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_answered_with_what_to_write(language, item, text, said):
    typed = parse_typed(FORM, {item: [text]}, language=language)
    assert not typed.values
    assert said in typed.problems[0].message


@pytest.mark.parametrize(
    ("texts", "stored"),
    [
        (["2026", "m03", "d14"], "2026-03-14"),
        (["2026", "m03", ""], "2026-03"),
        (["2026", "", ""], "2026"),
        (["2026", "", "d05"], "choose the month as well"),
        (["", "m03", ""], "write the year"),
        (["26", "m03", ""], "write the year"),
        (["2026", "m02", "d31"], "there is no such day"),
        (["20x6", "m02", "d03"], "write the year"),
        (["20x6", "", ""], "write the year"),
        (["15.3.2024", "", ""], "2024-03-15"),
    ],
)
def test_a_date_in_three_fields_is_one_date_and_a_day_alone_is_no_month(texts, stored):
    typed = parse_typed(FORM, {"year": texts}, language="en")
    if typed.problems:
        assert stored in typed.problems[0].message
    else:
        assert typed.values == {"year": stored}


def test_a_month_that_must_be_known_is_asked_for_in_its_own_field():
    (problem,) = parse_typed(FORM, {"month": ["2026", "", ""]}, language="de").problems
    assert "Wählen Sie auch den Monat" in sentence(problem.message, "de")
    assert parse_typed(FORM, {"month": ["15.3.2024", "", ""]}, language="de").values == {"month": "2024-03-15"}


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**6), max_value=10**6, places=3))
def test_a_number_shown_in_a_language_is_read_back_as_it_was(number):
    stored = stored_number(number)
    for language in ("de", "en", "es"):
        shown = typed_form(FORM, {"number": stored}, language=language)
        assert parse_typed(FORM, shown, language=language).values == {"number": stored}
