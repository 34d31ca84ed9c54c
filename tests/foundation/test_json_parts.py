"""A large JSON object, read item by item, says what `json.loads` says of it, and holds no list in memory."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.foundation.json_parts import Items, items, members, strictly, text_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)


def whole(text: str) -> Any:
    """All of it, its lists twice: they are read anew each time."""
    found = members(text)
    lists = {name: list(value) for name, value in found.items() if isinstance(value, Items)}
    assert lists == {name: list(value) for name, value in found.items() if isinstance(value, Items)}
    return {**found, **lists}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError
    return dict(pairs)


def spoilt(text: str, at: int, letter: str) -> tuple[str, Any]:
    """The text with another letter at a place, and what `json.loads` reads of it: None when it is no JSON.

    Nor where a name came to stand there twice.
    """
    at %= len(text)
    text = text[:at] + letter + text[at + 1 :]
    try:
        return text, json.loads(text, object_pairs_hook=_once)
    except ValueError:
        return text, None


@settings(max_examples=60, deadline=None)
@given(said=OBJECTS, indent=st.none() | st.just(1), mark=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-be"]))
def test_any_object_says_the_same(said: dict[str, Any], indent: int | None, mark: str):
    text = f" \t{json.dumps(said, indent=indent, ensure_ascii=False)}\r\n"
    assert whole(text_of(text.encode(mark, "surrogatepass"))) == said


@settings(max_examples=150, deadline=None)
@given(said=OBJECTS, at=st.integers(0, 60), letter=st.sampled_from(['"', "{", "}", "[", "]", ",", ":", "x", " ", ""]))
def test_what_is_no_json_is_found_wherever_json_finds_it(said: dict[str, Any], at: int, letter: str):
    text, known = spoilt(json.dumps(said), at, letter)
    if isinstance(known, dict):
        assert whole(text) == known
    else:
        with pytest.raises(ValueError):
            members(text)


@pytest.mark.parametrize("text", ["", "[]", "1", '{"a": [1,]}', '{"a": 1,}', '{"a": [1}', '{"a": 1} 2', "{1: 2}"])
def test_neither_less_nor_more_than_an_object_is_one(text: str):
    with pytest.raises(ValueError):
        members(text)


@settings(max_examples=80, deadline=None)
@given(said=st.lists(VALUES, max_size=4), at=st.integers(0, 60), letter=st.sampled_from(["", "]", ",", "[", "1", "{"]))
def test_a_list_is_read_item_by_item_as_json_reads_it(said: list[Any], at: int, letter: str):
    text = f" {json.dumps(said)}\n"
    assert list(items(text)) == said
    text, known = spoilt(text, at, letter)
    if isinstance(known, list | dict):
        assert list(items(text)) == (known if isinstance(known, list) else [known])
    else:
        with pytest.raises(ValueError):
            list(items(text))


def test_numbers_of_a_list_are_read_as_one_says():
    as_sent = json.JSONDecoder(parse_float=str).raw_decode
    assert list(items('[1.50, {"a": [2.0]}]', as_sent)) == ["1.50", {"a": ["2.0"]}]


@pytest.mark.parametrize(
    ("text", "words", "place"),
    [
        ('{"a": [1], "b": 2, "a": [3]}', "“a” stands twice in one object", 19),
        ('{"rows": [{"a": 1}, {"b": 1, "b": 2}]}', "“b” stands twice in one object", 29),
        ('{"a": {"é": 1, "é": 2}}', "“é” stands twice in one object", 15),
        ('{"a": NaN}', "NaN is no number of JSON", 6),
        ('{"rows": [{"a": 1}, {"a": -Infinity}]}', "-Infinity is no number of JSON", 26),
    ],
)
def test_what_others_may_read_otherwise_is_refused_with_its_place(text: str, words: str, place: int):
    for read in (members, strictly):
        with pytest.raises(json.JSONDecodeError) as refused:
            read(text)
        assert (refused.value.msg, refused.value.pos) == (words, place)


@settings(max_examples=60, deadline=None)
@given(said=VALUES)
def test_all_of_a_text_is_read_strictly_as_json_reads_it(said: Any):
    assert strictly(f" {json.dumps(said)}\n") == said
    with pytest.raises(ValueError):
        strictly(f"{json.dumps(said)} 1")


def test_a_list_is_not_there_as_a_whole():
    text = json.dumps({"rows": [{"participant": "M-001", "note": "x" * 50, "pain": 4}] * 20_000, "file": "a.csv"})
    tracemalloc.start()
    found = members(text)
    seen = sum(1 for row in found["rows"] if row["pain"] == 4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (seen, found["file"]) == (20_000, "a.csv")
    assert peak < 200_000, "its rows take some twenty million"
