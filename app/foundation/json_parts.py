"""How is JSON read? Strictly where a program means something by it; and what is large member by member, item by item.

Strictly: each member of an object once, of which readers may otherwise take either, and no number that JSON has not
(RFC 8259, 4 and 6).
"""

import json
import re
from collections.abc import Callable, Generator, Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any

Read = Callable[[str, int], tuple[Any, int]]
"""Reads the value that begins at a place: the value, and where it ends."""
_VALUE: Read = JSONDecoder().raw_decode


class _Loose(Exception):
    """Something that others would understand otherwise: what to say of it, and a pattern of how it is written."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    said = dict(pairs)
    if len(said) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        written = re.escape(json.dumps(twice, ensure_ascii=False)) + r"\s*:"
        raise _Loose(_twice(twice), written)
    return said


def _twice(name: str) -> str:
    return f"“{name[:80]}” stands twice in one object"


def _no_constant(name: str) -> Any:
    raise _Loose(f"{name} is no number of JSON", re.escape(name))


_STRICT = JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


def _strict_value(text: str, place: int) -> tuple[Any, int]:
    """As `_VALUE`, strictly; JSONDecodeError, with the place, where a lenient reader would pass over something."""
    try:
        return _STRICT.raw_decode(text, place)
    except _Loose as found:
        words, written = found.args
        places = [each.start() for each, _ in zip(re.compile(written).finditer(text, place), range(2), strict=False)]
        raise JSONDecodeError(words, text, places[-1] if places else place) from None


def strictly(text: str) -> Any:
    """What a text of JSON says; JSONDecodeError, with the place, where it says it in two ways or is no JSON."""
    start = _past(text, 0)
    value, place = _strict_value(text, start)
    if _past(text, place) != len(text):
        raise JSONDecodeError("Extra data", text, place)
    return value


_BLANK = re.compile(r"[ \t\n\r]*+").match


class Items:
    """A list within a text. Each time it is gone through its items are read anew, one by one, and none is kept."""

    def __init__(self, text: str, start: int) -> None:
        self._text, self._start = text, start

    def __iter__(self) -> Generator[Any, None, int]:
        return _items(self._text, self._start, _strict_value)


def text_of(data: bytes) -> str:
    """What bytes say, in any encoding that JSON may have; UnicodeDecodeError when it is none of them."""
    return data.decode(json.detect_encoding(data), "surrogatepass")


def items(text: str, read: Read = _VALUE) -> Iterator[Any]:
    """The items of the list that a text is, one by one; an object alone is its only one.

    JSONDecodeError where it is not JSON, once that place is reached; ValueError when it is neither.
    """
    place = _past(text, 0)
    if text.startswith("[", place):
        place = yield from _items(text, place, read)
    else:
        found, place = read(text, place)
        if not isinstance(found, dict):
            raise ValueError("This is no list.")
        yield found
    if _past(text, place) != len(text):
        raise JSONDecodeError("Extra data", text, place)


def members(text: str) -> dict[str, Any]:
    """The members of the object that a text is, read strictly; those that are lists are `Items`.

    All of it is gone through once: JSONDecodeError says where it is not JSON, ValueError that it is no object.
    RecursionError when something in it stands too deep.
    """
    found: dict[str, Any] = {}
    place = _past(text, 0)
    if not text.startswith("{", place):
        _strict_value(text, place)
        raise ValueError("This is no object.")
    place = _past(text, place + 1)
    goes_on = not text.startswith("}", place)
    place = place if goes_on else place + 1
    while goes_on:
        if not text.startswith('"', place):
            raise JSONDecodeError("Expecting property name enclosed in double quotes", text, place)
        begins = place
        name, place = _strict_value(text, place)
        if name in found:
            raise JSONDecodeError(_twice(name), text, begins)
        place = _past(text, place)
        if not text.startswith(":", place):
            raise JSONDecodeError("Expecting ':' delimiter", text, place)
        place = _past(text, place + 1)
        if text.startswith("[", place):
            found[name] = Items(text, place)
            place = _end_of(iter(found[name]))
        else:
            found[name], place = _strict_value(text, place)
        place, goes_on = _behind(text, place, "}")
    if _past(text, place) != len(text):
        raise JSONDecodeError("Extra data", text, place)
    return found


def _items(text: str, start: int, read: Read = _VALUE) -> Generator[Any, None, int]:
    """The items of the list that begins here; in the end, where it ends."""
    place = _past(text, start + 1)
    if text.startswith("]", place):
        return place + 1
    goes_on = True
    while goes_on:
        value, place = read(text, place)
        yield value
        place, goes_on = _behind(text, place, "]")
    return place


def _end_of(items: Generator[Any, None, int]) -> int:
    while True:
        try:
            next(items)
        except StopIteration as ended:
            return int(ended.value)


def _behind(text: str, place: int, closing: str) -> tuple[int, bool]:
    """Where it goes on behind a value, and whether anything comes."""
    place = _past(text, place)
    if text.startswith(closing, place):
        return place + 1, False
    if not text.startswith(",", place):
        raise JSONDecodeError("Expecting ',' delimiter", text, place)
    return _past(text, place + 1), True


def _past(text: str, place: int) -> int:
    """The first place from here on that is not blank."""
    found = _BLANK(text, place)
    return found.end() if found else place
