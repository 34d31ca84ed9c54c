"""A drawing is kept as strokes: within its limits, in one written form, and shown as nothing but lines."""

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.foundation.drawing import HEIGHT, LEAST_INK, MOST_STROKES, WIDTH, NotDrawn, drawing_svg, name_svg, read_strokes

LINE = [0, 0, 100, 0]
POINTS = st.tuples(st.integers(0, WIDTH), st.integers(0, HEIGHT))
STROKES = st.lists(st.lists(POINTS, min_size=1, max_size=20), max_size=10).map(
    lambda strokes: [LINE, *([number for point in stroke for number in point] for stroke in strokes)]
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[[]]",
        "[[1]]",
        "[[1, 2, 3]]",
        "[[0, 0, 100.5, 0]]",
        "[[0, 0, true, 0]]",
        '[[0, 0, "100", 0]]',
        f"[[0, 0, {WIDTH + 1}, 0]]",
        f"[[0, 0, 100, {HEIGHT + 1}]]",
        "[[-1, 0, 100, 0]]",
        json.dumps([LINE] * (MOST_STROKES + 1)),
        json.dumps([[0, 0] * 5001]),
        "[[0, 0, 100, 0]]" + " " * 50_000,
        "[" * 20_000,
        json.dumps([[0, 0, LEAST_INK - 1, 0]]),
        json.dumps([[5, 5]]),
    ],
)
@pytest.mark.requirement("SEC-23")
def test_what_is_no_drawing_is_refused_and_says_what_to_do(text):
    with pytest.raises(NotDrawn, match="again"):
        read_strokes(text)


@given(STROKES)
def test_a_drawing_is_written_one_way_and_shown_as_lines_alone(strokes):
    text = read_strokes(json.dumps(strokes, indent=1))
    assert json.loads(text) == strokes
    assert read_strokes(text) == text
    picture = ElementTree.fromstring(drawing_svg(text, '<&"Signature'))
    assert [part.tag.rpartition("}")[2] for part in picture] == ["path"]
    assert picture[0].get("d", "").count("M") == len(strokes)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"]), min_size=1, max_size=160))
def test_a_typed_name_is_shown_as_text_alone(name):
    picture = ElementTree.fromstring(name_svg(name, "Signature"))
    assert ["".join(part.itertext()) for part in picture] == [name]
