"""One question a screen: skip logic decides which comes next, and the way back leads where one came from."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.capture.screens import asked, following, preceding, waiting
from tests.capture.records import instrument
from tests.capture.test_checks import judged

FORM = instrument(
    {"code": "a", "type": "yes_no"},
    {"code": "b", "type": "integer", "shown_if": "[a] = true"},
    {"code": "score", "type": "calculated", "calculation": "[b] + 1"},
    {"code": "c", "type": "integer", "shown_if": "[b] > 3", "expected_max": 9},
    {"code": "d", "type": "text", "required": False},
)
ANSWERS = st.fixed_dictionaries(
    {}, optional={"a": st.booleans(), "b": st.integers(0, 9), "c": st.integers(0, 20), "d": st.just("x")}
)


@given(ANSWERS)
def test_there_and_back_over_every_question_that_is_asked(values: dict[str, Any]):
    judgement = judged(FORM, values)
    codes = asked(FORM, judgement)
    assert "score" not in codes
    assert not set(codes) & judgement.hidden
    walked = [codes[0]]
    while (code := following(FORM, judgement, walked[-1])) is not None:
        assert preceding(FORM, judgement, code) == walked[-1]
        walked.append(code)
    assert tuple(walked) == codes
    assert set(waiting(FORM, judgement)) <= set(codes)
    assert bool(waiting(FORM, judgement)) != judgement.complete


def test_from_a_question_that_is_not_asked_any_more_one_goes_on_all_the_same():
    judgement = judged(FORM, {"a": False})
    assert (following(FORM, judgement, "b"), preceding(FORM, judgement, "c")) == ("d", "a")
    assert following(FORM, judgement, "nothing") is None
    assert waiting(FORM, judged(FORM, {"a": True, "b": 5, "c": 10})) == ("c",)
