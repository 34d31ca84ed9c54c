"""What does an instrument say in another language, text beside text, and what is missing?

Everything else of instruments/CODE.LANGUAGE.yaml stays as it is: changed words are changed in the text itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.studies.drafts.editing import REMOVED, Way, data_of, edited
from app.studies.drafts.folder import said_in_yaml

NAME = "w."
"""What stands before the way to a text in the name of its field."""

_OF_FORM = (
    ("label", "Label of the form"),
    ("short", "Short label"),
    ("recall", "Looks back over"),
    ("scoring", "Scoring"),
    ("repeat_label", "What a repeat is called"),
    ("licence", "Licence"),
)
_OF_ITEM = (
    ("label", "Question"),
    ("hint", "Hint"),
    ("unit", "Unit"),
    ("low_label", "Words of the low end"),
    ("high_label", "Words of the high end"),
)
_MAY_BE_MISSING = frozenset({"short", "licence", "unit", "repeat_label"})
"""What is often the same in every language, or no word at all."""


@dataclass(frozen=True)
class Line:
    """One text of the instrument, `base`, and what it is in the other language; empty: nothing yet."""

    way: tuple[str | int, ...]
    what: str
    base: str
    text: str

    @property
    def name(self) -> str:
        """The name of its field."""
        return NAME + ".".join(map(str, self.way))

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing where there should be."""
        return not self.text and self.way[-1] not in _MAY_BE_MISSING


@dataclass(frozen=True)
class Group:
    """The texts of one question, by its code; or of the form itself."""

    code: str
    lines: tuple[Line, ...]


def worded(form: Any, said: Any) -> list[Group]:
    """Every text of an instrument beside its words in another language; both as data of their files."""
    form, said = _dict(form), _dict(said)
    own = [Line((key,), what, _text(form, key), _text(said, key)) for key, what in _OF_FORM]
    headings = said.get("sections") or []
    for place, section in enumerate(_dicts(form.get("sections"))):
        here = str(headings[place]) if isinstance(headings, list) and place < len(headings) else ""
        own.append(Line(("section", place), "Heading", _text(section, "label"), here))
    groups = [Group("", tuple(line for line in own if line.base or line.way == ("licence",)))]
    words = {_text(each, "code"): each for each in _dicts(said.get("items"))}
    for item in _items(form):
        code = _text(item, "code")
        there = words.get(code, {})
        lines = [Line(("item", code, key), what, _text(item, key), _text(there, key)) for key, what in _OF_ITEM]
        labels = {_text(each, "code"): _text(each, "label") for each in _dicts(there.get("choices"))}
        for choice in _dicts(item.get("choices")):
            own_code = _text(choice, "code")
            way = ("item", code, "choice", own_code)
            lines.append(Line(way, "Choice", _text(choice, "label"), labels.get(own_code, "")))
        messages = [_text(each, "message") for each in _dicts(there.get("checks"))]
        for place, check in enumerate(_dicts(item.get("checks"))):
            here = messages[place] if place < len(messages) else ""
            lines.append(
                Line(("item", code, "check", place), "What to do if a check fails", _text(check, "message"), here)
            )
        groups.append(Group(code, tuple(line for line in lines if line.base)))
    return groups


def with_words(form: Any, text: str, typed: Mapping[str, Sequence[str]]) -> str:
    """The text of CODE.LANGUAGE.yaml with the words that were typed; empty where there is none.

    CannotEdit when the text is written in a way that keeps it from being changed in one place.
    """
    said = _dict(data_of(text)) if text.strip() else {}
    words = {
        line.way: " ".join("\n".join(typed[line.name]).split()) if line.name in typed else line.text
        for group in worded(form, said)
        for line in group.lines
    }
    new = _new(_dict(form), said, words)
    if not new or not text.strip():
        return said_in_yaml(new) if new else ""
    for key in dict.fromkeys((*said, *new)):
        if key != "items" and new.get(key) != said.get(key):
            text = edited(text, (key,), new.get(key, REMOVED))
    return _with_items(text, _dicts(said.get("items")), new.get("items", []))


def _new(form: dict[str, Any], said: dict[str, Any], words: Mapping[tuple[str | int, ...], str]) -> dict[str, Any]:
    new = {key: value for key, value in said.items() if key not in ("items", "sections")}
    for key, _ in _OF_FORM:
        if (key,) in words:
            _put(new, key, words[key,])
    headings = [words.get(("section", place), "") for place in range(len(_dicts(form.get("sections"))))]
    if any(headings):
        new["sections"] = headings
    items = {_text(each, "code"): dict(each) for each in _dicts(said.get("items"))}
    for item in _items(form):
        code = _text(item, "code")
        entry = _item(item, items.get(code, {"code": code}), words)
        if len(entry) > 1:
            items[code] = entry
        else:
            items.pop(code, None)
    if items:
        new["items"] = list(items.values())
    return new


def _item(item: dict[str, Any], entry: dict[str, Any], words: Mapping[tuple[str | int, ...], str]) -> dict[str, Any]:
    code = _text(item, "code")
    for key, _ in _OF_ITEM:
        if ("item", code, key) in words:
            _put(entry, key, words["item", code, key])
    known = [_text(each, "code") for each in _dicts(item.get("choices"))]
    labels = {each: words.get(("item", code, "choice", each), "") for each in known}
    others = [each for each in _dicts(entry.get("choices")) if _text(each, "code") not in labels]
    choices = [{"code": each, "label": label} for each, label in labels.items() if label]
    _put(entry, "choices", [*choices, *others])
    base = [_text(each, "message") for each in _dicts(item.get("checks"))]
    told = [words.get(("item", code, "check", place), "") for place in range(len(base))]
    last = max((place for place, each in enumerate(told) if each), default=-1)
    # Checks are told by their order: one without words before one that has some says what the study says.
    _put(entry, "checks", [{"message": told[place] or base[place]} for place in range(last + 1)])
    return entry


def _put(entry: dict[str, Any], key: str, value: Any) -> None:
    if value:
        entry[key] = value
    else:
        entry.pop(key, None)


def _with_items(text: str, before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> str:
    wanted = {_text(each, "code"): each for each in after}
    if not before:
        return edited(text, ("items",), list(after)) if after else text
    if not after:
        return edited(text, ("items",), REMOVED)
    there = {_text(each, "code") for each in before}
    for place, entry in reversed(list(enumerate(before))):
        new = wanted.get(_text(entry, "code"))
        if new is None:
            text = edited(text, ("items", place), REMOVED)
            continue
        for key in dict.fromkeys((*entry, *new)):
            if new.get(key) != entry.get(key):
                way: Way = ("items", place, key)
                text = edited(text, way, new.get(key, REMOVED))
    count = sum(_text(entry, "code") in wanted for entry in before)
    for number, entry in enumerate(each for code, each in wanted.items() if code not in there):
        text = edited(text, ("items", count + number), entry)
    return text


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _items(form: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for section in _dicts(form.get("sections")) for item in _dicts(section.get("items"))]
