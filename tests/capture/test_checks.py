"""The judgement on an entry: skip logic, scores, ranges and edit checks, for any form and any answers."""

from datetime import date, datetime
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.capture.checks import Judgement, events_needed, judge
from app.capture.rules import canonical
from app.capture.typed import check_stored, parse_typed, typed_form
from app.expressions import parse
from app.studies.definition import Instrument
from tests.capture.records import instrument
from tests.capture.test_typed import json_values
from tests.factories import definition

STUDY = definition()
TODAY = date(2026, 3, 2)
LOCAL = datetime(2026, 3, 2, 20, 30, tzinfo=ZoneInfo("Australia/Sydney"))
CHOICES = [{"code": "a", "label": "A"}, {"code": "b", "label": "B"}]


def judged(
    form: Instrument,
    values: dict[str, object],
    reasons: dict[str, str] | None = None,
    answers: dict[tuple[str, str], object] | None = None,
) -> Judgement:
    return judge(STUDY, form, "week18", values, reasons or {}, answers=answers or {}, today=TODAY, now=LOCAL)


def found(judgement: Judgement) -> list[tuple[str, str]]:
    return [(finding.item, finding.rule) for finding in judgement.problems]


def number(**settings: object) -> Instrument:
    return instrument({"code": "x", "type": "number", "unit": "kg", **settings})


RANGES: list[tuple[dict[str, object], object, list[str], bool]] = [
    ({"min": 1, "max": 5}, 1, [], True),
    ({"min": 1, "max": 5}, 5, [], True),
    ({"min": 1, "max": 5}, 0.999, ["min"], False),
    ({"min": 1, "max": 5}, 5.001, ["max"], False),
    ({"min": 0}, -1, ["min"], False),
    ({"min": 0}, 10**12, [], True),
    ({"max": -1}, 0, ["max"], False),
    ({"min": "0.1"}, 0.1, [], True),
    ({"max": "0.3"}, 0.30000000000000004, ["max"], False),
    ({"decimals": 1}, 7.5, [], True),
    ({"decimals": 1}, 7.0, [], True),
    ({"decimals": 1}, 7.55, ["decimals"], False),
    ({"decimals": 0}, 7.5, ["decimals"], False),
    ({"decimals": 6}, 0.000001, [], True),
    ({"expected_min": 10}, 9, ["expected"], False),
    ({"expected_min": 10}, 10, [], True),
    ({"expected_max": 10}, 10.5, ["expected"], False),
    ({"min": 0, "max": 100, "expected_min": 10, "expected_max": 50}, 101, ["max"], False),
    ({"min": 0, "max": 100, "expected_min": 10, "expected_max": 50}, 60, ["expected"], False),
    ({"min": 5}, {"missing": "UNK"}, [], True),
    ({"min": 5}, {"missing": "unk"}, ["missing_code"], False),
]


@pytest.mark.requirement("AX11-4", "SPI-26", "ALC-Ac")
@pytest.mark.parametrize(("settings", "value", "rules", "complete"), RANGES)
def test_ranges(settings, value, rules, complete):
    judgement = judged(number(**settings), {"x": value})
    assert [rule for _, rule in found(judgement)] == rules
    assert judgement.complete is complete


@pytest.mark.parametrize(
    ("settings", "value", "message"),
    [
        ({"min": 1}, 0.5, "X: 0.5 is below the lowest possible value, 1 kg. Check it."),
        ({"max": 100}, 1000, "X: 1000 is above the highest possible value, 100 kg. Check it."),
        ({"decimals": 0}, 1.5, "X: write it with no decimals."),
        ({"decimals": 1}, 1.55, "X: write it with one decimal at most."),
        (
            {"expected_max": 10},
            11,
            "X: 11 is higher than expected (up to 10 kg). Correct it, or say why it is right.",
        ),
        ({}, {"missing": "XX"}, "X: XX is not a reason of this study. Choose one of ND, UNK."),
    ],
)
def test_messages_say_what_to_do(settings, value, message):
    (finding,) = judged(number(**settings), {"x": value}).problems
    assert finding.advice == message


def test_choices_and_lengths():
    form = instrument(
        {"code": "one", "type": "choice", "choices": CHOICES},
        {"code": "many", "type": "choices", "choices": CHOICES},
        {"code": "note", "type": "text", "max_length": 3},
    )
    assert found(judged(form, {"one": "a", "many": ["a", "b"], "note": "abc"})) == []
    assert found(judged(form, {"one": "c", "many": ["a", "c"], "note": "abcd"})) == [
        ("one", "choices"),
        ("many", "choices"),
        ("note", "max_length"),
    ]


def test_required_means_answered_missing_or_hidden():
    form = instrument(
        {"code": "a", "type": "yes_no"},
        {"code": "b", "type": "integer", "shown_if": "[a] = true"},
        {"code": "c", "type": "text", "required": False},
        {"code": "d", "type": "integer"},
    )
    assert judged(form, {}).missing_required == ("a", "d")
    assert judged(form, {"a": True, "d": {"missing": "UNK"}}).missing_required == ("b",)
    hidden = judged(form, {"a": False, "b": 4, "d": 1})
    assert (list(hidden.missing_required), set(hidden.hidden), hidden.complete) == ([], {"b"}, True)
    assert hidden.values == {"a": False, "d": 1}


def test_what_is_hidden_hides_what_depends_on_it_in_any_order():
    form = instrument(
        {"code": "last", "type": "integer", "shown_if": "[middle] = 1"},
        {"code": "middle", "type": "integer", "shown_if": "[first] = true"},
        {"code": "first", "type": "yes_no"},
        {"code": "otherwise", "type": "integer", "shown_if": "[middle] <> 1"},
    )
    everything: dict[str, object] = {"last": 1, "middle": 1, "first": True, "otherwise": 9}
    assert judged(form, everything).hidden == {"otherwise"}
    assert judged(form, {**everything, "first": False}).hidden == {"middle", "last"}
    assert judged(form, {**everything, "first": False}).values == {"first": False, "otherwise": 9}


def test_unknown_hides_and_no_check_is_made_on_what_is_hidden():
    form = instrument(
        {"code": "a", "type": "integer", "required": False},
        {
            "code": "b",
            "type": "integer",
            "shown_if": "[a] > 1",
            "max": 3,
            "checks": [{"rule": "[b] = 1", "message": "Must be 1.", "kind": "hard"}],
        },
    )
    assert judged(form, {"b": 99}).hidden == {"b"}
    assert found(judged(form, {"b": 99})) == []
    assert judged(form, {"a": {"missing": "UNK"}, "b": 99}).hidden == {"b"}
    assert found(judged(form, {"a": 2, "b": 99})) == [("b", "max"), ("b", "check_1")]


def test_scores_follow_in_the_order_they_need_each_other():
    form = instrument(
        {"code": "double", "type": "calculated", "calculation": "[total] * 2"},
        {"code": "total", "type": "calculated", "calculation": "sum([a], [b])", "expected_max": 10},
        {"code": "a", "type": "integer"},
        {"code": "b", "type": "integer", "shown_if": "[a] < 9"},
        {"code": "third", "type": "calculated", "calculation": "[a] / 3"},
        {"code": "rounded", "type": "calculated", "calculation": "[a] / 8", "decimals": 2},
        {"code": "late", "type": "calculated", "calculation": "1", "shown_if": "[total] > 5"},
    )
    judgement = judged(form, {"a": 1, "b": 2, "total": 999, "double": 1})
    assert judgement.values == {
        "double": 6,
        "total": 3,
        "a": 1,
        "b": 2,
        "third": 0.333333333333333,
        "rounded": 0.13,
    }
    assert judgement.hidden == {"late"}
    judgement = judged(form, {"a": 9, "b": 2})
    assert (judgement.values["total"], judgement.values["late"]) == (9, 1)
    assert judged(form, {"a": 8, "b": 5}).unexplained == ("total",)
    assert judged(form, {}).values == {}


@pytest.mark.parametrize(
    ("calculation", "stored"),
    [
        ("1/0", None),
        ("'a text'", "a text"),
        ("''", None),
        ("true", True),
        ("[a]", ["x", "y"]),
        ("[gone]", None),
        ("2 ^ 80", 2.0**80),
        ("0 - 0.5", -0.5),
    ],
)
def test_a_score_is_stored_as_json(calculation, stored):
    form = instrument(
        {"code": "a", "type": "choices", "choices": [{"code": "x", "label": "X"}, {"code": "y", "label": "Y"}]},
        {"code": "score", "type": "calculated", "calculation": calculation},
    )
    value = judged(form, {"a": ["y", "x"]}).values.get("score")
    assert value == stored or (stored == 2.0**80 and value == pytest.approx(stored))
    assert type(value) is type(stored)


def test_a_soft_check_waits_for_a_reason_and_a_hard_one_does_not_listen():
    form = instrument(
        {
            "code": "a",
            "type": "integer",
            "checks": [
                {"rule": "[a] <> 5", "message": "Five is odd."},
                {"rule": "[a] <> 6", "message": "Six is wrong.", "kind": "hard"},
            ],
        }
    )
    waiting = judged(form, {"a": 5})
    assert (found(waiting), waiting.unexplained, waiting.complete) == ([("a", "check_1")], ("a",), False)
    assert judged(form, {"a": 5}, {"a": " \n"}).complete is False
    explained = judged(form, {"a": 5}, {"a": " counted twice "})
    assert (explained.complete, explained.reasons) == (True, {"a": "counted twice"})
    assert judged(form, {"a": 6}, {"a": "because"}).complete is False
    assert judged(form, {"a": 4}, {"a": "because"}).reasons == {}
    assert found(judged(form, {"a": {"missing": "UNK"}})) == []


def test_other_visits_screening_and_the_date_at_the_site():
    form = instrument(
        {
            "code": "pain",
            "type": "integer",
            "checks": [
                {"rule": "[pain] <= [baseline][pain]", "message": "Above baseline."},
                {"rule": "[week18][pain] < 10", "message": "This visit by name."},
                {"rule": "[pain] <> [screening][age]", "message": "The age."},
            ],
        },
        {
            "code": "on",
            "type": "date",
            "required": False,
            "checks": [{"rule": "[on] <= 'today'", "message": "In the future.", "kind": "hard"}],
        },
        {"code": "extra", "type": "integer", "required": False, "shown_if": "[other_form_item] = 1"},
    )
    answers: dict[tuple[str, str], object] = {
        ("baseline", "pain"): 5,
        ("screening", "age"): 3,
        ("week18", "pain"): 99,  # what is stored of this very form does not count
        ("week18", "other_form_item"): 1,
    }
    assert events_needed(form, "week18") == {"baseline", "screening", "week18"}
    assert found(judged(form, {"pain": 6}, answers=answers)) == [("pain", "check_1")]
    assert found(judged(form, {"pain": 3}, answers=answers)) == [("pain", "check_3")]
    assert found(judged(form, {"pain": 4, "extra": 1}, answers=answers)) == []
    assert judged(form, {"pain": 4}).hidden == {"extra"}
    assert found(judged(form, {"pain": 6})) == []
    assert found(judged(form, {"pain": 1, "on": "2026-03-02"})) == []
    assert found(judged(form, {"pain": 1, "on": "2026-03-03"})) == [("on", "check_1")]


def test_a_circle_or_a_broken_expression_is_survived():
    form = instrument(
        {"code": "a", "type": "integer", "shown_if": "[b] = 1"},
        {"code": "b", "type": "integer", "shown_if": "[a] = 1"},
        {"code": "c", "type": "integer", "shown_if": "((", "checks": [{"rule": "= =", "message": "x"}]},
        {"code": "d", "type": "calculated", "calculation": "[e] + 1"},
        {"code": "e", "type": "calculated", "calculation": "[d] + 1"},
        {"code": "f", "type": "calculated", "calculation": "(("},
    )
    assert judged(form, {"a": 1, "b": 1, "c": 1}).values == {"a": 1, "b": 1, "c": 1}
    assert judged(form, {"a": 1, "b": 2, "c": 1}).values["c"] == 1


def test_findings_and_values_stand_in_the_order_of_the_form():
    form = instrument(*({"code": f"i{n}", "type": "integer", "max": 1} for n in range(9)))
    judgement = judged(form, {f"i{n}": 5 for n in reversed(range(9))})
    codes = [f"i{n}" for n in range(9)]
    assert [finding.item for finding in judgement.problems] == codes
    assert list(judgement.values) == codes


# Any form, any answers

CODES = [f"i{n}" for n in range(6)]
expressions = st.sampled_from(
    [
        *(f"[{one}] {sign} [{two}]" for one, two in pairwise(CODES) for sign in ("=", "<>", "<", ">=")),
        *(f"[{code}] > 1" for code in CODES),
        *(f"not ([{code}] = '' or [{code}] = 1)" for code in CODES),
        *(f"[baseline][{code}] < [{code}]" for code in CODES),
        *(f"sum([{one}], [{two}], 3) > 1" for one, two in pairwise(CODES)),
        "[i0(a)] = 1",
        "[nowhere][nothing] = 1",
        "1/0 = 1",
        "[i0] <= 'today'",
        "((",
        "true",
        "false",
    ]
)
calculations = st.sampled_from(
    [
        *(f"sum({', '.join(f'[{code}]' for code in CODES)})" for _ in range(2)),
        *(f"[{code}] / 3" for code in CODES),
        *(f"[{code}]" for code in CODES),
        "prorated_sum(2, [i0], [i1], [i2])",
        "datediff([i0], 'today', 'd')",
        "1/0",
        "2 ^ 90",
        "'text'",
        "((",
    ]
)
bounds = st.none() | st.decimals(-5, 5, places=1)


@st.composite
def forms(draw: st.DrawFn) -> Instrument:
    items: list[dict[str, Any]] = []
    for code in CODES:
        kind = draw(
            st.sampled_from(
                ["choice", "choices", "yes_no", "integer", "number", "scale", "date", "time", "text", "calculated"]
            )
        )
        item: dict[str, Any] = {"code": code, "type": kind, "required": draw(st.booleans())}
        if kind in ("choice", "choices"):
            item["choices"] = CHOICES
        if kind in ("integer", "number", "scale", "calculated"):
            item |= {key: draw(bounds) for key in ("min", "max", "expected_min", "expected_max")}
            item["decimals"] = draw(st.none() | st.integers(0, 6))
        if kind == "calculated":
            item["calculation"] = draw(calculations)
        item["shown_if"] = draw(st.none() | expressions)
        item["checks"] = [
            {"rule": draw(expressions), "message": "Check it.", "kind": draw(st.sampled_from(["hard", "soft"]))}
            for _ in range(draw(st.integers(0, 2)))
        ]
        items.append(item)
    return instrument(*items)


def is_acyclic(form: Instrument) -> bool:
    """Whether skip rules and calculations can be followed in some order, as loading a study makes sure."""
    needs: dict[str, set[str]] = {}
    for item in form.items:
        texts = [text for text in (item.shown_if, item.calculation) if text and text != "(("]
        references = [reference for text in texts for reference in parse(text).references]
        needs[item.code] = {one.field for one in references if one.event in (None, "week18")}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError:
        return False
    return True


likely = st.sampled_from(
    [0, 1, 2, 3.5, -1, True, False, "a", "b", "x", ["a"], ["b", "a"], "2026-03-01", "09:30", {"missing": "UNK"}, None]
)
values_of = st.dictionaries(st.sampled_from(CODES), likely | json_values)
reasons_of = st.dictionaries(st.sampled_from(CODES), st.text(max_size=5))
answers_of = st.dictionaries(
    st.tuples(st.sampled_from(["baseline", "week18", "screening"]), st.sampled_from(CODES)), likely
)


@settings(max_examples=120, deadline=None)
@given(forms(), values_of, reasons_of, answers_of)
def test_judging_never_raises_and_keeps_its_promises(form, values, reasons, answers):
    judgement = judged(form, values, reasons, answers)
    canonical(judgement.values)
    assert not judgement.hidden & set(judgement.values)
    assert None not in judgement.values.values()
    assert set(judgement.values) <= set(CODES)
    assert not judgement.hidden & {finding.item for finding in judgement.problems if finding.rule.startswith("check")}
    assert not set(judgement.missing_required) & (set(judgement.values) | judgement.hidden)
    assert all(reason.strip() for reason in judgement.reasons.values())
    assert judgement.complete == (not judgement.hard and not judgement.missing_required and not judgement.unexplained)
    # Judged once more, on what it would store, it says the same: what is stored can be signed.
    again = judged(form, dict(judgement.values), judgement.reasons, answers)
    if not is_acyclic(form):
        return  # no study with a circle is loaded
    assert again.values == judgement.values
    assert again.hidden == judgement.hidden
    if not judgement.hard:
        assert again == judgement


@settings(max_examples=60, deadline=None)
@given(forms(), values_of, answers_of)
def test_a_form_shown_and_sent_back_is_judged_the_same(form, values, answers):
    asked = {item.code: item for item in form.items if item.type != "calculated"}
    stored, _ = check_stored(form, {code: value for code, value in values.items() if code in asked})
    if any(isinstance(value, str) and asked[code].type == "choice" for code, value in stored.items()):
        stored = {code: value for code, value in stored.items() if asked[code].type != "choice" or value in ("a", "b")}
    judgement = judged(form, stored, {}, answers)
    back = parse_typed(form, typed_form(form, judgement.values))
    assert back.problems == []
    assert judged(form, back.values, {}, answers) == judgement or judgement.hidden & set(stored) or not is_acyclic(form)
