"""Answers are kept only when they can be; unknown is never eligible; a status follows only where it may."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.participants.rules import (
    TRANSITIONS,
    Answers,
    Eligibility,
    PersonalData,
    answer_problems,
    as_stored,
    initials,
    judge_eligibility,
    personal_problems,
    why_not_erase,
    why_not_known,
    why_not_transition,
    why_not_withdraw,
)
from app.participants.rules.status import (
    status_before_withdrawal,
    why_not_resume_treatment,
    why_not_stop_treatment,
    why_not_take_back,
)
from app.participants.status import Status
from app.studies.definition import Instrument, Item, MissingCode, Study, WithdrawalLevel
from tests.factories import MINI, TODAY, definition

UNKNOWN = {"missing": "UNK"}
GOOD: dict[str, Any] = {"age": 44, "pain_screen": 6, "surgery": False}


def judge(study: Study | None = None, **answers: Any) -> Eligibility:
    return judge_eligibility(study or definition(), answers, today=TODAY)


def prescreen(items: list[dict[str, Any]], criteria: list[tuple[str, str, str]]) -> Study:
    """The test study with another pre-screen."""
    form = {"code": "prescreen", "label": "Pre-screen", "source": "test", "sections": [{"items": items}]}
    others = [one for one in MINI["instruments"] if one["code"] != "prescreen"]  # type: ignore[attr-defined]
    rules = [{"code": c, "label": c, "kind": kind, "rule": rule} for c, kind, rule in criteria]
    return definition(instruments=[form, *others], eligibility={"instrument": "prescreen", "criteria": rules})


@pytest.mark.requirement("P11-f")
@pytest.mark.parametrize(
    ("answers", "met", "eligible"),
    [
        (GOOD, [True, True, True], True),
        ({**GOOD, "age": 18}, [True, True, True], True),
        ({**GOOD, "age": 17}, [False, True, True], False),
        ({**GOOD, "age": 71, "pain_screen": 2}, [False, False, True], False),
        ({**GOOD, "surgery": True}, [True, True, False], False),
        ({"age": 44, "pain_screen": 6}, [True, True, None], False),
        ({**GOOD, "surgery": UNKNOWN}, [True, True, None], False),
        ({**GOOD, "age": ""}, [None, True, True], False),
        ({}, [None, None, None], False),
    ],
)
def test_every_criterion_is_judged_and_unknown_is_not_eligible(
    answers: dict[str, Any], met: list[bool | None], eligible: bool
) -> None:
    judged = judge(**answers)
    assert [verdict.met for verdict in judged.verdicts] == met
    assert judged.eligible is eligible


def test_a_verdict_says_which_answer_it_rests_on_or_lacks() -> None:
    judged = judge(age=15, surgery=UNKNOWN)
    age, pain, surgery = judged.verdicts
    assert age.reason == "Age: 15 years."
    assert pain.reason == "Pain, past week: not answered yet."
    assert surgery.reason == "Surgery in the last year: Unknown. Find out, then answer it."
    assert judged.failed == ("adult",)
    assert judged.lacking == ("pain_screen", "surgery")


def test_an_exclusion_that_is_true_of_a_blank_is_still_unknown() -> None:
    study = prescreen([{"code": "flag", "label": "Flag", "type": "text"}], [("not_x", "inclusion", "[flag] <> 'x'")])
    assert judge(study).verdicts[0].met is None
    assert judge(study, flag="y").eligible


def test_a_question_that_is_not_asked_need_not_be_answered() -> None:
    study = prescreen(
        [
            {
                "code": "sex",
                "label": "Sex",
                "type": "choice",
                "choices": [{"code": "f", "label": "F"}, {"code": "m", "label": "M"}],
            },
            {"code": "pregnant", "label": "Pregnant", "type": "yes_no", "shown_if": "[sex] = 'f'"},
        ],
        [("pregnancy", "exclusion", "[pregnant] = true"), ("sex", "inclusion", "[sex] <> ''")],
    )
    assert not judge(study, sex="f").eligible
    assert not judge(study, sex="f", pregnant=True).eligible
    assert judge(study, sex="f", pregnant=False).eligible
    men = judge(study, sex="m", pregnant=True)  # left from before the answer to sex was corrected
    assert men.verdicts[0].met is not False
    assert "pregnant" not in Answers(study.instruments[0].items, {"sex": "m", "pregnant": True}, today=TODAY).kept()


def test_nothing_ticked_is_an_answer_and_nothing_said_is_not() -> None:
    study = prescreen(
        [
            {
                "code": "flags",
                "label": "Red flags",
                "type": "choices",
                "choices": [{"code": "1", "label": "Fever"}, {"code": "2", "label": "Fracture"}],
            }
        ],
        [("flags", "exclusion", "[flags(1)] = 1 or [flags(2)] = 1")],
    )
    assert judge(study, flags=[]).eligible
    assert judge(study, flags=[]).verdicts[0].reason == "Red flags: none."
    assert judge(study, flags=["2"]).verdicts[0].reason == "Red flags: Fracture."
    assert judge(study).verdicts[0].met is None


def test_a_calculated_item_lacks_what_its_calculation_lacks() -> None:
    study = prescreen(
        [
            {"code": "kg", "label": "Weight", "type": "number"},
            {"code": "cm", "label": "Height", "type": "number"},
            {"code": "bmi", "label": "BMI", "type": "calculated", "calculation": "[kg] / ([cm] / 100) ^ 2"},
        ],
        [("bmi", "inclusion", "[bmi] < 40")],
    )
    assert judge(study, kg=70, cm=175).eligible
    assert judge(study, kg=150, cm=175).failed == ("bmi",)
    assert judge(study, kg=70).lacking == ("cm",)
    assert judge(study, kg=70, cm=0).lacking == ("bmi",)


def test_today_is_the_date_at_the_site() -> None:
    study = prescreen(
        [{"code": "born", "label": "Born", "type": "date"}],
        [("adult", "inclusion", "age_at_date([born], 'today') >= 18")],
    )
    answers = {"born": "2008-02-29"}
    assert not judge_eligibility(study, answers, today=date(2026, 2, 28)).eligible
    assert judge_eligibility(study, answers, today=date(2026, 3, 1)).eligible


def test_what_is_unknown_is_asked_for_unless_something_rules_the_person_out() -> None:
    study = definition()
    assert [one.field for one in why_not_known(study, judge(age=44))] == ["pain_screen", "surgery"]
    assert why_not_known(study, judge(age=3)) == []
    assert why_not_known(study, judge(**GOOD)) == []


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "age": st.integers(0, 120) | st.just(UNKNOWN),
            "pain_screen": st.integers(0, 10) | st.none(),
            "surgery": st.booleans() | st.just(UNKNOWN),
        },
    )
)
def test_eligible_means_every_answer_is_there_and_fits(answers: dict[str, Any]) -> None:
    age, pain, surgery = (answers.get(code) for code in ("age", "pain_screen", "surgery"))
    fits = isinstance(age, int) and 18 <= age <= 70 and isinstance(pain, int) and pain >= 3 and surgery is False
    assert judge(**answers).eligible is fits


ITEMS: dict[str, dict[str, Any]] = {
    "integer": {"min": 0, "max": 120},
    "scale": {"min": 0, "max": 10},
    "number": {"min": 30, "max": 250, "decimals": 1},
    "choice": {"choices": [{"code": "a", "label": "A"}]},
    "choices": {"choices": [{"code": "a", "label": "A"}, {"code": "b", "label": "B"}]},
    "yes_no": {},
    "date": {},
    "time": {},
    "text": {"max_length": 5},
    "calculated": {"calculation": "1"},
}


@pytest.mark.parametrize(
    ("kind", "value", "rule"),
    [
        ("integer", 0, None),
        ("integer", 120, None),
        ("integer", -1, "min"),
        ("integer", 121, "max"),
        ("integer", True, "integer"),
        ("integer", 4.0, "integer"),
        ("integer", "4", "integer"),
        ("scale", 11, "max"),
        ("number", 70, None),
        ("number", 70.5, None),
        ("number", 70.55, "decimals"),
        ("number", 29.9, "min"),
        ("number", float("nan"), "number"),
        ("number", float("inf"), "number"),
        ("number", True, "number"),
        ("choice", "a", None),
        ("choice", "z", "choice"),
        ("choice", ["a"], "choice"),
        ("choices", [], None),
        ("choices", ["b", "a"], None),
        ("choices", ["a", "a"], "choices"),
        ("choices", ["z"], "choices"),
        ("choices", [["a"]], "choices"),
        ("choices", "a", "choices"),
        ("yes_no", False, None),
        ("yes_no", 0, "yes_no"),
        ("date", "2024-02-29", None),
        ("date", "2023-02-29", "date"),
        ("date", "20240229", "date"),
        ("date", "29.2.2024", "date"),
        ("time", "23:59", None),
        ("time", "24:00", "time"),
        ("text", "abcde", None),
        ("text", "abcdef", "max_length"),
        ("text", "a\x00", "text"),
        ("calculated", 1, "calculated"),
        ("integer", UNKNOWN, None),
        ("integer", {"missing": "NOPE"}, "missing_code"),
        ("integer", {"missing": ["UNK"]}, "missing_code"),
        ("integer", {"other": 1}, "missing_code"),
    ],
)
def test_a_value_is_kept_only_when_it_fits_its_question(kind: str, value: Any, rule: str | None) -> None:
    item = Item.model_validate({"code": "x", "label": "X", "type": kind, **ITEMS[kind]})
    found = answer_problems([item], {"x": value}, [MissingCode(code="UNK", label="Unknown")], today=TODAY)
    assert [problem.rule for problem in found] == ([rule] if rule else [])
    assert all(problem.field == "x" and problem.message.endswith(".") for problem in found)


def test_an_answer_to_no_question_and_a_broken_hard_check_are_problems() -> None:
    items = [
        Item.model_validate(
            {
                "code": "x",
                "label": "X",
                "type": "integer",
                "checks": [{"rule": "[x] <> 7", "message": "Not seven.", "kind": "hard"}],
            }
        )
    ]
    found = answer_problems(items, {"x": 7, "y": 1}, today=TODAY)
    assert [(problem.field, problem.rule) for problem in found] == [("x", "check"), ("y", "unknown")]


@given(
    st.dictionaries(
        st.sampled_from(["age", "pain_screen", "surgery", "zz"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_no_answer_however_odd_breaks_the_rules(answers: dict[str, Any]) -> None:
    study = definition()
    form = study.instrument("prescreen")
    assert isinstance(form, Instrument)
    stored = as_stored(answers)
    if not answer_problems(form.items, stored, study.missing_codes, today=TODAY):
        judge_eligibility(study, stored, today=TODAY)


def test_answers_are_tidied_before_they_are_kept() -> None:
    typed = {"a": Decimal("3.50"), "b": Decimal("3"), "c": " x ", "d": "  ", "e": None, "f": ("1",), "g": False}
    assert as_stored(typed) == {"a": 3.5, "b": 3, "c": "x", "f": ["1"], "g": False}


@pytest.mark.requirement("P11-f")
@pytest.mark.parametrize("old", Status)
@pytest.mark.parametrize("new", Status)
def test_a_status_follows_only_where_the_table_says(old: Status, new: Status) -> None:
    assert (why_not_transition(old, new) is None) is (new in TRANSITIONS[old])


def test_a_study_without_arms_goes_from_consent_to_completed() -> None:
    assert why_not_transition(Status.CONSENTED, Status.COMPLETED, is_allocated=False) is None
    assert "no arms" in str(why_not_transition(Status.CONSENTED, Status.RANDOMISED, is_allocated=False))


@pytest.mark.requirement("E9R1-1")
@pytest.mark.parametrize(
    ("status", "level", "stops", "allowed"),
    [
        (Status.RANDOMISED, None, False, True),
        (Status.RANDOMISED, "treatment", True, True),
        (Status.RANDOMISED, "visits", True, False),
        (Status.CONSENTED, None, False, True),
        (Status.SCREEN_FAILED, None, True, False),
        (Status.WITHDRAWN, "visits", True, False),
        (Status.COMPLETED, None, False, False),
    ],
)
def test_who_may_withdraw_and_how_far(status: Status, level: str | None, stops: bool, allowed: bool) -> None:
    chosen = WithdrawalLevel(code="visits", label="Visits", stops_visits=stops)
    current = level and WithdrawalLevel(code=level, label=level, stops_visits=level == "visits")
    assert (why_not_withdraw(status, current or None, chosen) is None) is allowed


TREATMENT = WithdrawalLevel(code="treatment", label="Treatment", stops_treatment=True)
VISITS = WithdrawalLevel(code="visits", label="Visits", stops_visits=True)
CONTACT = WithdrawalLevel(code="contact", label="Contact", stops_visits=True, stops_contact=True)
USE = WithdrawalLevel(code="use", label="Use", stops_visits=True, stops_contact=True, stops_use=True)
USE_ONLY = WithdrawalLevel(code="use_only", label="Use, but may be called", stops_visits=True, stops_use=True)
ERASE = WithdrawalLevel(
    code="erase", label="Erase", stops_visits=True, stops_contact=True, stops_use=True, erases_identity=True
)
LADDER = (TREATMENT, VISITS, CONTACT, USE, ERASE)


@pytest.mark.requirement("E9R1-1")
def test_a_withdrawal_goes_further_and_never_less_far() -> None:
    for place, current in enumerate(LADDER):
        status = Status.RANDOMISED if current is TREATMENT else Status.WITHDRAWN
        for other, level in enumerate(LADDER):
            assert (why_not_withdraw(status, current, level) is None) is (other > place), (current.code, level.code)
    taken_back = why_not_withdraw(Status.WITHDRAWN, CONTACT, USE_ONLY)  # would let them be called again
    assert taken_back is not None
    assert "Contact" in taken_back


def test_who_completed_the_study_may_still_end_contact_and_use() -> None:
    said = [why_not_withdraw(Status.COMPLETED, None, level) for level in LADDER]
    assert [each is None for each in said] == [False, False, True, True, True]
    assert "no visit is left to stop" in str(said[1])
    assert why_not_withdraw(Status.COMPLETED, CONTACT, ERASE) is None
    assert why_not_withdraw(Status.DIED, None, ERASE) is not None


def test_a_withdrawal_that_is_taken_back_has_them_stand_where_they_had_come_to() -> None:
    back = [
        status_before_withdrawal(Status.WITHDRAWN, consented=consented, randomised=randomised)
        for consented, randomised in ((False, False), (True, False), (True, True))
    ]
    assert back == [Status.SCREENED, Status.CONSENTED, Status.RANDOMISED]
    assert status_before_withdrawal(Status.COMPLETED, consented=True, randomised=True) is Status.COMPLETED
    assert why_not_take_back(Status.WITHDRAWN, "visits", erased=False) is None
    assert why_not_take_back(Status.RANDOMISED, "treatment", erased=False) is None
    for refused in (
        why_not_take_back(Status.RANDOMISED, None, erased=False),
        why_not_take_back(Status.WITHDRAWN, "erase", erased=True),
        why_not_take_back(Status.DIED, "visits", erased=False),
    ):
        assert refused is not None


def test_treatment_is_stopped_and_goes_on_only_of_whoever_is_treated() -> None:
    day = date(2026, 3, 10)
    for status in Status:
        treated = status in (Status.RANDOMISED, Status.LOST)
        assert (why_not_stop_treatment(status, None) is None) is treated
        assert (why_not_resume_treatment(status, day, None) is None) is (
            treated or status in (Status.SCREENED, Status.CONSENTED)
        )
    assert why_not_stop_treatment(Status.RANDOMISED, day) is not None
    assert why_not_resume_treatment(Status.RANDOMISED, None, None) is not None
    assert "coordinator" in str(why_not_resume_treatment(Status.RANDOMISED, day, TREATMENT))


@pytest.mark.parametrize("status", Status)
def test_only_those_who_take_part_no_more_are_erased(status: Status) -> None:
    ended = status in (Status.SCREEN_FAILED, Status.WITHDRAWN, Status.COMPLETED, Status.DIED)
    assert (why_not_erase(status, erased=False) is None) is ended
    assert why_not_erase(status, erased=True) is not None


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("given_name", "Ágnes-Marie", None),
        ("given_name", "x" * 81, "max_length"),
        ("family_name", "a\nb", "text"),
        ("email", "a@b.org", None),
        ("email", "a@b", "email"),
        ("phone", "+41 44 555 00 00", None),
        ("phone", "call me", "phone"),
        ("date_of_birth", "1980-02-29", None),
        ("date_of_birth", "1981-02-29", "date"),
        ("date_of_birth", "29.2.1980", "date"),
        ("date_of_birth", "2026-03-03", "range"),
        ("date_of_birth", "1880-01-01", "range"),
        ("email", "  ", None),
    ],
)
def test_personal_details_are_checked_field_by_field(field: str, value: str, rule: str | None) -> None:
    found = personal_problems(PersonalData(**{field: value}), today=TODAY)
    assert [(problem.field, problem.rule) for problem in found] == ([(field, rule)] if rule else [])


def test_personal_data_are_never_in_a_repr() -> None:
    assert "Anna" not in repr(PersonalData("Anna", "Muster"))
    assert initials(PersonalData(" anna", "muster")) == "AM"
    assert initials(PersonalData(None, "muster")) == "M"
    assert initials(PersonalData()) == ""
