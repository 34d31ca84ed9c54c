"""Days in messages are written as pages write them."""

from hypothesis import given
from hypothesis.strategies import dates

from app.foundation.words import day_in_words
from app.rendering import day


@given(dates())
def test_a_day_in_a_message_is_written_as_on_a_page(on):
    assert day_in_words(on) == day(on)
