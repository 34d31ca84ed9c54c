"""Days in messages are written as pages write them."""

import pytest
from hypothesis import given
from hypothesis.strategies import dates

from app.foundation.words import day_in_words, marked_unicode, one_of
from app.imports import rules as rows
from app.rendering import day
from app.studies.importing import source


@given(dates())
def test_a_day_in_a_message_is_written_as_on_a_page(on):
    assert day_in_words(on) == day(on)


@pytest.mark.parametrize(
    ("words", "said"),
    [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c"), (list("abcd"), "a, b, c or d")],
)
def test_several_words_are_one_of_them(words, said):
    assert one_of(words) == said


@pytest.mark.parametrize(
    ("encoding", "marked"),
    [
        ("utf-8", None),
        ("utf-8-sig", "utf-8-sig"),
        *((f"utf-{bits}-{end}", f"utf-{bits}") for bits in (16, 32) for end in ("le", "be")),
    ],
)
def test_a_file_of_rows_and_one_of_a_study_are_in_the_unicode_that_their_mark_tells(encoding, marked):
    said = "Schmerz, größer"
    data = said.encode(encoding) if encoding.startswith("utf-8") else f"\ufeff{said}".encode(encoding)
    assert marked_unicode(data) == marked
    assert rows.text_of(data) == source.text_of(data).removeprefix("\ufeff") == said
