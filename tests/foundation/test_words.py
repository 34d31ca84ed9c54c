"""Days in messages are written as pages write them."""

import pytest
from hypothesis import given
from hypothesis.strategies import dates

from app.foundation.words import day_in_words, one_of
from app.rendering import day


@given(dates())
def test_a_day_in_a_message_is_written_as_on_a_page(on):
    assert day_in_words(on) == day(on)


@pytest.mark.parametrize(
    ("words", "said"),
    [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c"), (list("abcd"), "a, b, c or d")],
)
def test_several_words_are_one_of_them(words, said):
    assert one_of(words) == said
