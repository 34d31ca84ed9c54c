"""Which values of a study file are edited as fields, and how is each shown and read? For those who write no YAML.

Instruments have their fields in `draft_forms`. Everything else of a file stays as it is: a changed field is changed in
the text itself (`studies.drafts.editing`).
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.foundation.errors import FieldProblem, Invalid
from app.studies.drafts.copying import in_short
from app.studies.drafts.editing import (
    REMOVED,
    CannotEdit,
    Way,
    data_of,
    edited,
    exchanged,
    inserted,
    moved,
    with_inserted,
    with_value,
)
from app.studies.drafts.folder import said_in_yaml
from app.studies.importing.codes import Codes

NAME = "v."
"""What stands before the way to a value in the name of its field."""
CHOICES, CHECKS, CODES, LINES = "choices", "checks", "codes", "lines"
AREA, SELECT, TEXT = "area", "select", "text"


@dataclass(frozen=True)
class Asked:
    """One field: the way to its value from its row, its words, how it is drawn, and what can be chosen."""

    way: str
    label: str
    kind: str = TEXT
    options: tuple[tuple[str, str], ...] = ()
    below: bool = False
    """In a table: in the cell of the field before it."""
    hint: str = ""
    """What belongs here, with an example."""
    otherwise: str = ""
    """Of a selection: the option that holds where the file says nothing."""
    only: tuple[str, ...] = ()
    """There is this field only while `by`, in the same row, says one of these; empty: always."""
    by: str = "type"
    needed: bool | None = None
    """Whether something has to stand in it; None: as its way says."""
    suggested: tuple[tuple[str, str], ...] = ()
    """Of a text: what may well stand in it, and what each means."""

    @property
    def is_needed(self) -> bool:
        """Whether a study cannot be loaded while nothing stands in it."""
        return self.way in _NEEDED if self.needed is None else self.needed


_NEEDED = frozenset({"code", "label", "name", "title", "short_title", "version", "target", "source", "rule", "type"})


@dataclass(frozen=True)
class Also:
    """Another row that can be added to a list, made from what stands around the list."""

    verb: str
    label: str
    make: Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True)
class Rows:
    """A list of the file whose entries are edited row by row. `one` is what an added row says."""

    way: str
    label: str
    add: str
    fields: tuple[Asked, ...]
    one: Mapping[str, Any]
    inner: tuple["Rows", ...] = ()
    is_table: bool = False
    hint: str = ""
    usual: tuple[Mapping[str, str], ...] = ()
    """What holds while the file says nothing: written down before the first row is added, so that nothing is lost."""
    beside: str = ""
    """The field that is told beside the title of a row."""
    names: bool = False
    """Whether the code of a row is made from its label until somebody writes one."""
    copies: bool = False
    """Whether a row can be copied, and another one added straight below it."""
    also: tuple[Also, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """What is edited on one page: fields of the file itself, and lists."""

    title: str
    fields: tuple[Asked, ...] = ()
    lists: tuple[Rows, ...] = ()
    hint: str = ""


@dataclass
class Drawn:
    """One row as a page shows it: its fields with what stands in them, and rows within."""

    way: str
    title: str
    fields: list[dict[str, Any]]
    inner: tuple["DrawnRows", ...] = ()
    first: bool = False
    last: bool = False
    beside: str = ""

    def is_about(self, names: Collection[str]) -> bool:
        """Whether one of these ways, or names of fields, leads to this row or into it."""
        return any(f"{name.removeprefix(NAME)}.".startswith(f"{self.way}.") for name in names)


@dataclass
class DrawnRows:
    """A list as a page shows it."""

    way: str
    rows: Rows
    drawn: list[Drawn] = field(default_factory=list)


YES_NO = (("true", "Yes"), ("false", "No"))


def flag(way: str, label: str, hint: str = "", *, otherwise: str = "false", only: tuple[str, ...] = ()) -> Asked:
    """Yes or no, and which of them holds where the file says nothing."""
    return Asked(way, label, SELECT, YES_NO, hint=hint, otherwise=otherwise, only=only)


_CODE = Asked("code", "Code")
_LABEL = Asked("label", "Label")


# What stands in a field


def _way(dotted: str) -> Way:
    return tuple(int(part) if part.isdecimal() else part for part in dotted.split(".") if part)


def _found(data: Any, way: Way) -> Any:
    for part in way:
        if isinstance(data, dict) and isinstance(part, str):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


_LISTS = frozenset({CODES, CHOICES, CHECKS, LINES})


def shown(value: Any, kind: str) -> str | None:
    """A value as its field shows it; None where a field cannot show it, and it stays to be edited as text."""
    if value is None:
        return ""
    if kind in _LISTS:
        if not isinstance(value, list):
            return None
        lines = [_line(each, kind) for each in value]
        return None if None in lines else "\n".join(str(line) for line in lines)
    return None if isinstance(value, list | dict) else str(value)


def _line(value: Any, kind: str) -> str | None:
    if kind in (CODES, LINES):
        return value if isinstance(value, str) and value == value.strip() and value and "\n" not in value else None
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        return None
    if kind == CHOICES:
        return f"{value['code']} = {value['label']}" if set(value) == {"code", "label"} else None
    if not {"rule", "message"} <= set(value) <= {"rule", "message", "kind"}:
        return None
    return f"{value.get('kind', 'soft')} | {value['rule']} | {value['message']}"


def read(text: str, kind: str, name: str) -> Any:
    """What was typed into a field as a value; REMOVED when nothing was. Invalid when it cannot be read."""
    text = text.replace("\r\n", "\n").strip()
    if not text:
        return REMOVED
    if kind in (CODES, LINES):
        return [line.strip() for line in text.split("\n") if line.strip()]
    if kind == CHOICES:
        pairs = [line.partition("=") for line in text.split("\n") if line.strip()]
        if any(not equals or not code.strip() or not label.strip() for code, equals, label in pairs):
            raise Invalid([FieldProblem(name, "line", "Write one choice a line: its code, =, and its label.")])
        return [{"code": code.strip(), "label": label.strip()} for code, _, label in pairs]
    if kind == CHECKS:
        found = []
        for line in text.split("\n"):
            parts = [part.strip() for part in line.split("|")]
            if len(parts) < 3 or parts[0] not in ("hard", "soft"):
                words = "Write one check a line: soft or hard, the rule, what to do if it fails, with | between."
                raise Invalid([FieldProblem(name, "line", words)])
            found.append({"rule": " | ".join(parts[1:-1]), "message": parts[-1], "kind": parts[0]})
        return found
    return text


# A page


def drawn_fields(
    fields: Sequence[Asked], data: Any, prefix: str, form: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Fields with what stands in them: as typed, where something was; else as the file says.

    `hidden`: the row is of another type, and nothing stands in it. `left`: of another type, and something does.
    """
    lines: list[dict[str, Any]] = []
    said: dict[str, str] = {}
    for one in fields:
        name = f"{NAME}{prefix}{one.way}"
        text = shown(_found(data, _way(f"{prefix}{one.way}")), one.kind)
        if text is None:
            continue
        typed = "\n".join(form[name]) if name in form else text
        said[one.way] = typed = typed or one.otherwise
        if one.kind == TEXT and "\n" in typed:  # which one line would lose
            one = replace(one, kind=AREA)
        lines.append({"asked": one, "name": name, "text": typed, "chosen": typed.split("\n") if typed else []})
    for line in lines:
        one = line["asked"]
        other = bool(one.only) and said.get(one.by, "") not in one.only
        stands = line["text"] not in ("", one.otherwise)
        line.update(hidden=other and not stands, left=other and stands, by=f"{NAME}{prefix}{one.by}")
        line["list"] = _NUMBER.sub("", f"{prefix}{one.way}")
    return lines


def drawn_rows(rows: Rows, data: Any, prefix: str, form: Mapping[str, Sequence[str]]) -> DrawnRows:
    """A list with its rows."""
    way = f"{prefix}{rows.way}"
    found = _found(data, _way(way))
    entries = found if isinstance(found, list) else []
    made = DrawnRows(way, rows)
    for place, entry in enumerate(entries):
        said = entry if isinstance(entry, dict) else {}
        title = str(said.get("label") or said.get("name") or said.get("code") or place + 1)
        fields = drawn_fields(rows.fields, data, f"{way}.{place}.", form)
        told = next((each for each in fields if each["asked"].way == rows.beside), None)
        made.drawn.append(
            Drawn(
                f"{way}.{place}",
                title,
                fields,
                tuple(drawn_rows(each, data, f"{way}.{place}.", form) for each in rows.inner),
                first=place == 0,
                last=place == len(entries) - 1,
                beside=dict(told["asked"].options).get(told["text"], told["text"]) if told else "",
            )
        )
    return made


def names_of(sheet: Sheet, data: Any) -> Iterator[str]:
    """The names of the fields of a sheet, over what its file says."""
    yield from (f"{NAME}{way}" for way, _ in _every_field(sheet, data))


def lists_of(sheet: Sheet, data: Any) -> Iterator[str]:
    """The ways to the lists of a sheet, over what its file says."""
    for rows in sheet.lists:
        yield from _lists_of(rows, data, "")


def _lists_of(rows: Rows, data: Any, prefix: str) -> Iterator[str]:
    way = f"{prefix}{rows.way}"
    yield way
    found = _found(data, _way(way))
    for place in range(len(found) if isinstance(found, list) else 0):
        for each in rows.inner:
            yield from _lists_of(each, data, f"{way}.{place}.")


def _every_field(sheet: Sheet, data: Any) -> Iterator[tuple[str, Asked]]:
    for one in sheet.fields:
        yield one.way, one
    for rows in sheet.lists:
        yield from _fields_of(rows, data, "")


def _fields_of(rows: Rows, data: Any, prefix: str) -> Iterator[tuple[str, Asked]]:
    found = _found(data, _way(f"{prefix}{rows.way}"))
    for place in range(len(found) if isinstance(found, list) else 0):
        below = f"{prefix}{rows.way}.{place}."
        for one in rows.fields:
            yield f"{below}{one.way}", one
        for each in rows.inner:
            yield from _fields_of(each, data, below)


# Two people at once


def marks(sheet: Sheet, data: Any) -> str:
    """What a page was opened upon, in short: its rows, and each field; to tell later who changed which."""
    rows = [_row_code(_found(data, _way(way))) for way in lists_of(sheet, data)]
    fields = list(_every_field(sheet, data))
    shape = _mark("\n".join([*(dotted for dotted, _ in fields), *rows]))
    return shape + "".join(_mark(_stands(data, dotted, one)) for dotted, one in fields)


_MARK = 8  # letters of a mark


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_MARK]


def _row_code(rows: Any) -> str:
    said = [each if isinstance(each, dict) else {} for each in rows] if isinstance(rows, list) else []
    return "|".join(str(each.get("code") or each.get("name") or each.get("label") or "") for each in said)


def _stands(data: Any, dotted: str, one: Asked) -> str:
    """What a field shows, as what is typed is held against it."""
    text = (shown(_found(data, _way(dotted)), one.kind) or "").strip() or one.otherwise
    return "\n".join(sorted(text.split("\n"))) if one.kind == CODES else text


@dataclass(frozen=True)
class Together:
    """What somebody typed upon what somebody else saved meanwhile.

    `form` is what they changed, and nothing else; `both` the fields that both changed, with what now stands in them.
    `fits` is False where rows were added, moved or taken out meanwhile: what was typed then belongs to no row for sure.
    """

    form: dict[str, Sequence[str]]
    both: dict[str, str]
    fits: bool


def together(sheet: Sheet, text: str, form: Mapping[str, Sequence[str]], opened: str) -> Together:
    """What was typed on a page that was opened upon another text than this; `opened` are its `marks`."""
    data = data_of(text)
    now = marks(sheet, data)
    fits = bool(opened) and now[:_MARK] == opened[:_MARK] and len(now) == len(opened)
    kept, both = dict(form), dict[str, str]()
    if not fits:
        return Together(kept, both, fits)
    for place, (dotted, one) in enumerate(_every_field(sheet, data), start=1):
        name, there = f"{NAME}{dotted}", f"{NAME}there.{dotted}"
        if (there if one.kind == CODES else name) not in form:
            continue
        typed = "\n".join(form.get(name, ())).replace("\r\n", "\n").strip()
        mine = _mark("\n".join(sorted(typed.split("\n"))) if one.kind == CODES else typed)
        was, theirs = (each[place * _MARK : (place + 1) * _MARK] for each in (opened, now))
        if mine in (was, theirs):
            kept.pop(name, None)
            kept.pop(there, None)
        elif theirs != was:
            both[name] = _stands(data, dotted, one)
    return Together(kept, both, fits)


class NeedsRewriting(CannotEdit):
    """Some change cannot be made in the text as it is written. The file can be written anew, without its comments."""


@dataclass(frozen=True)
class Changed:
    """A text with what was typed, and the row that somebody is at then."""

    text: str
    at: str = ""
    is_new: bool = False


def changed_text(
    sheet: Sheet, text: str, form: Mapping[str, Sequence[str]], act: str = "", *, rewrite: bool = False
) -> str:
    """The text of `changed`, for a file whose rows have codes of their own."""
    return changed(sheet, text, form, act, rewrite=rewrite).text


def changed(
    sheet: Sheet,
    text: str,
    form: Mapping[str, Sequence[str]],
    act: str = "",
    *,
    taken: Collection[str] = (),
    elsewhere: str = "",
    rewrite: bool = False,
) -> Changed:
    """The text with every field as typed, and then with a row added, copied, moved or taken out.

    `act` is a verb and the way it is about: add:visits, after:visits.2 (one more below it), copy:, up:, down:, remove:,
    or keep: to stay there. `taken` are codes that no new row may have, `elsewhere` the texts of other files: a code
    that one of them names stays. Comments, order and whatever no field shows stay. Invalid names the fields that cannot
    be read.
    """
    data = data_of(text)
    if data is None:
        raise CannotEdit
    for dotted, one in list(_every_field(sheet, data)):
        name = f"{NAME}{dotted}"
        before = shown(_found(data, _way(dotted)), one.kind)
        if before is None or (name not in form and one.kind != CODES):
            continue
        if f"{NAME}there.{dotted}" not in form and one.kind == CODES:
            continue
        typed = "\n".join(form.get(name, ())).replace("\r\n", "\n").strip()
        if typed == (before.strip() or one.otherwise):
            continue
        value = read(typed, one.kind, name)
        if one.kind == CODES and value is not REMOVED:
            value = _in_order(before.split("\n"), value)
            if value == before.split("\n"):
                continue
        text = _set_list(text, _way(dotted), value, rewrite=rewrite)
    for rows in sheet.lists:
        text = _named(rows, text, data, "", {*taken}, elsewhere, rewrite=rewrite)
    verb, _, dotted = act.partition(":")
    return _acted(sheet, text, verb, dotted, {*taken}, rewrite=rewrite) if dotted else Changed(text)


def _named(rows: Rows, text: str, before: Any, prefix: str, taken: set[str], elsewhere: str, *, rewrite: bool) -> str:
    """The text in which rows that have no code, or the one they were added with, are called after their label."""
    way = f"{prefix}{rows.way}"
    entries = _found(data_of(text), _way(way))
    for place, entry in enumerate(entries if isinstance(entries, list) else ()):
        at = (*_way(way), place)
        for inner in rows.inner:
            text = _named(inner, text, before, f"{way}.{place}.", taken, elsewhere, rewrite=rewrite)
        code = next((each for each in rows.fields if each.way == "code"), None)
        if not rows.names or code is None or not isinstance(entry, dict):
            continue
        label, old = entry.get("label"), entry.get("code")
        if not isinstance(label, str) or (code.only and str(entry.get(code.by, "")) not in code.only):
            continue
        if old is not None:
            added = re.fullmatch(rf"{re.escape(str(rows.one.get('code', '')))}[0-9]+", str(old))
            if added is None or label == rows.one.get("label") or _found(before, (*at, "code")) != old:
                continue
            if f"[{old}" in text or f"[{old}" in elsewhere:
                continue
        codes = Codes(*(taken | _codes_in(data_of(text))) - {str(old)})
        text = _set(text, (*at, "code"), codes.take(in_short(label)), rewrite=rewrite)
    return text


def _codes_in(value: Any) -> set[str]:
    """Every code that stands in the data."""
    if isinstance(value, list):
        return set().union(*map(_codes_in, value))
    if not isinstance(value, dict):
        return set()
    own = {value["code"]} if isinstance(value.get("code"), str) else set()
    return own.union(*map(_codes_in, value.values()))


def _in_order(before: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """What is ticked, in the order in which it stood; a page has an order of its own."""
    return [*(code for code in before if code in chosen), *(code for code in chosen if code not in before)]


def _set_list(text: str, way: Way, value: Any, *, rewrite: bool) -> str:
    """The text with a value; of a list entry by entry, so that the others stay as they are written."""
    before = _found(data_of(text), way)
    if before == value:
        return text
    if not isinstance(value, list) or not isinstance(before, list):
        return _set(text, way, value, rewrite=rewrite)
    begins = 0
    while begins < min(len(before), len(value)) and before[begins] == value[begins]:
        begins += 1
    ends = 0
    while ends < min(len(before), len(value)) - begins and before[-1 - ends] == value[-1 - ends]:
        ends += 1
    old, new = len(before) - begins - ends, value[begins : len(value) - ends]
    if (new and len(new) != old and ends) or not (begins or ends or len(new) == old):
        return _set(text, way, value, rewrite=rewrite)
    changed = text
    try:
        for place in reversed(range(begins + len(new), begins + old)):
            changed = edited(changed, (*way, place), REMOVED)
        for place, each in enumerate(new, begins):
            changed = edited(changed, (*way, place), each)
    except CannotEdit:
        return _set(text, way, value, rewrite=rewrite)
    return changed


def _set(text: str, way: Way, value: Any, *, rewrite: bool) -> str:
    data = data_of(text)
    if len(way) > 1 and _found(data, way[:-1]) is None:
        if value is REMOVED:
            return text
        return _set(text, way[:-1], {str(way[-1]): value}, rewrite=rewrite)
    if value is REMOVED and _found(data, way) is None:
        return text
    around = _found(data, way[:-1])
    if value is REMOVED and isinstance(around, dict) and len(around) == 1 and len(way) > 1 and isinstance(way[-2], str):
        way = way[:-1]  # nothing would be left of the group
    return _or_anew(lambda: edited(text, way, value), lambda: with_value(data, way, value), rewrite=rewrite)


def _or_anew(change: Callable[[], str], data: Callable[[], Any], *, rewrite: bool) -> str:
    """The changed text; where that cannot be made, and somebody said so, the whole file anew."""
    try:
        return change()
    except CannotEdit as problem:
        if not rewrite:
            raise NeedsRewriting from problem
        return said_in_yaml(data())


def _acted(sheet: Sheet, text: str, verb: str, dotted: str, taken: set[str], *, rewrite: bool) -> Changed:
    way, data = _way(dotted), data_of(text)
    found = _found(data, way)
    codes = Codes(*taken, *_codes_in(data))
    lists = dict(_every_list(sheet.lists))
    rows = lists.get(_NUMBER.sub("", dotted))
    if verb in ("add", *(also.verb for each in lists.values() for also in each.also)):
        also = next((each for each in rows.also if each.verb == verb), None) if rows else None
        if rows is None or not (found is None or isinstance(found, list)):
            return Changed(text)
        new = _numbered(also.make(_found(data, way[:-1])) if also else rows.one, codes)
        place = len(found or rows.usual)
        if found:
            text = _set(text, (*way, place), new, rewrite=rewrite)
        else:
            text = _set(text, way, [*map(dict, rows.usual), new], rewrite=rewrite)
        return Changed(text, f"{dotted}.{place}", is_new=True)
    if found is None or not way or not isinstance(way[-1], int):
        return Changed(text)
    around = _found(data, way[:-1])
    if verb in ("after", "copy"):
        if rows is None or not rows.copies:
            return Changed(text)
        new = _copied(found, codes) if verb == "copy" else _numbered(rows.one, codes)
        next_to: Way = (*way[:-1], way[-1] + 1)
        text = _or_anew(
            lambda: inserted(text, next_to, new), lambda: with_inserted(data, next_to, new), rewrite=rewrite
        )
        return Changed(text, ".".join(map(str, next_to)), is_new=True)
    if verb == "remove":
        if len(around) == 1:
            return Changed(_set(text, way[:-1], REMOVED, rewrite=rewrite))
        before = (*way[:-1], max(way[-1] - 1, 0))
        return Changed(_set(text, way, REMOVED, rewrite=rewrite), ".".join(map(str, before)))
    by = {"up": -1, "down": 1}.get(verb, 0)
    if not by or not 0 <= way[-1] + by < len(around):
        return Changed(text, dotted)
    text = _or_anew(lambda: exchanged(text, way, by), lambda: moved(data, way, by), rewrite=rewrite)
    return Changed(text, ".".join(map(str, (*way[:-1], way[-1] + by))))


_NUMBER = re.compile(r"\.\d+(?=\.|$)")


def _every_list(lists: Sequence[Rows], prefix: str = "") -> Iterator[tuple[str, Rows]]:
    """Each list with the way to it, without the places of rows."""
    for rows in lists:
        yield f"{prefix}{rows.way}", rows
        yield from _every_list(rows.inner, f"{prefix}{rows.way}.")


def _numbered(one: Any, codes: Codes) -> Any:
    """What an added row says, with codes that are free."""
    if isinstance(one, list):
        return [_numbered(each, codes) for each in one]
    if not isinstance(one, Mapping):
        return one
    new = {key: value if key == "choices" else _numbered(value, codes) for key, value in one.items()}
    if "code" in new:
        numbers = (f"{new['code']}{number}" for number in range(1, 100_000))
        new["code"] = next(code for code in numbers if codes.take_any(code) == code)
    return new


def _copied(row: Any, codes: Codes) -> Any:
    """A row once more, with codes that are free: those of a choice are its own, and stay."""
    new = (
        {
            key: [_copied(each, codes) for each in value] if isinstance(value, list) and key != "choices" else value
            for key, value in row.items()
        }
        if isinstance(row, dict)
        else row
    )
    if isinstance(new, dict) and isinstance(new.get("code"), str):
        new["code"] = codes.take(new["code"])
    return new
