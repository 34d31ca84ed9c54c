"""Which values of a study file are edited as fields, and how is each shown and read? For those who write no YAML.

Instruments have their fields in `draft_forms`. Everything else of a file stays as it is: a changed field is changed in
the text itself (`studies.drafts.editing`).
"""

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
CHOICES, CHECKS, CODES, AREA, SELECT, TEXT = "choices", "checks", "codes", "area", "select", "text"


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
_WINDOW = {"before": "0", "after": "0"}
_METHODS = (
    ("permuted_blocks", "Permuted blocks"),
    ("simple", "Simple randomisation"),
    ("big_stick", "Big stick"),
    ("maximal_procedure", "Maximal procedure"),
    ("wei_urn", "Wei's urn"),
    ("truncated_binomial", "Truncated binomial"),
    ("biased_coin", "Biased coin"),
    ("cluster", "Whole sites, drawn together"),
    ("list", "A list drawn elsewhere"),
    ("minimisation", "Minimisation"),
    ("observed", "Not allocated: groups are observed"),
)
GENERAL = Sheet(
    "General",
    (
        Asked("title", "Title"),
        Asked("short_title", "Short title"),
        Asked("version", "Version"),
        Asked("target", "Planned participants"),
        Asked("sponsor", "Sponsor"),
        Asked("allocation.method", "Allocation", SELECT, _METHODS),
    ),
    (
        Rows(
            "sites",
            "Sites",
            "Add a site",
            (_CODE, Asked("name", "Name"), Asked("timezone", "Time zone"), Asked("target", "Planned")),
            {"code": "site", "name": "New site", "timezone": "UTC"},
            is_table=True,
        ),
        Rows(
            "arms",
            "Arms",
            "Add an arm",
            (_CODE, _LABEL, Asked("ratio", "Ratio"), Asked("planned", "Planned")),
            {"code": "arm", "label": "New arm"},
            is_table=True,
        ),
        Rows(
            "allocation.strata",
            "Strata",
            "Add a stratum",
            (
                _CODE,
                _LABEL,
                Asked("by", "By", SELECT, (("site", "Site"), ("expression", "Expression"))),
                Asked("expression", "Expression", AREA),
                Asked("levels", "Levels", CHOICES),
            ),
            {"code": "stratum", "label": "New stratum"},
        ),
    ),
)
# The code of a study that is here already is not changed: a draft with another one would be of another study.
OF_A_NEW_STUDY = replace(GENERAL, fields=(_CODE, *GENERAL.fields))


def eligibility(instruments: Sequence[str]) -> Sheet:
    """Who may take part."""
    forms = tuple((code, code) for code in instruments)
    kinds = (("inclusion", "Inclusion"), ("exclusion", "Exclusion"))
    fields = (_CODE, _LABEL, Asked("kind", "Kind", SELECT, kinds), Asked("rule", "Rule", AREA))
    new = {"code": "criterion", "label": "New criterion", "kind": "inclusion", "rule": "[age] >= 18"}
    rows = Rows("eligibility.criteria", "Criteria", "Add a criterion", fields, new)
    return Sheet("Who may take part", (Asked("eligibility.instrument", "Asked at screening", SELECT, forms),), (rows,))


def visits(instruments: Sequence[str]) -> Sheet:
    """The visit plan, with the instruments of each visit."""
    kinds = (("baseline", "Baseline"), ("treatment", "Treatment session"), ("assessment", "Assessment"))
    anchors = (("", "Randomisation"), ("consent", "Consent"), ("screening", "Screening"))
    fields = (
        _CODE,
        Asked("label", "Label", below=True),
        Asked("kind", "Kind", SELECT, kinds),
        Asked("anchor", "Counted from", SELECT, anchors, below=True),
        Asked("day", "Day"),
        Asked("window.before", "Days before"),
        Asked("window.after", "Days after", below=True),
        Asked("instruments", "Instruments", CODES, tuple((code, code) for code in instruments)),
    )
    new = {"code": "visit", "label": "New visit", "kind": "assessment", "day": "0", "window": _WINDOW}
    return Sheet("Visit plan", (), (Rows("visits", "Visits", "Add a visit", fields, new, is_table=True),))


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


def shown(value: Any, kind: str) -> str | None:
    """A value as its field shows it; None where a field cannot show it, and it stays to be edited as text."""
    if value is None:
        return ""
    if kind in (CODES, CHOICES, CHECKS):
        if not isinstance(value, list):
            return None
        lines = [_line(each, kind) for each in value]
        return None if None in lines else "\n".join(str(line) for line in lines)
    return None if isinstance(value, list | dict) else str(value)


def _line(value: Any, kind: str) -> str | None:
    if kind == CODES:
        return value if isinstance(value, str) else None
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
    if kind == CODES:
        return text.split("\n")
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
        lines.append({"asked": one, "name": name, "text": typed, "chosen": typed.split("\n") if typed else []})
    for line in lines:
        one = line["asked"]
        other = bool(one.only) and said.get(one.by, "") not in one.only
        stands = line["text"] not in ("", one.otherwise)
        line.update(hidden=other and not stands, left=other and stands, by=f"{NAME}{prefix}{one.by}")
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
        text = _set(text, _way(dotted), read(typed, one.kind, name), rewrite=rewrite)
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
    if verb in ("add", *(also.verb for rows in _every_list(sheet) for also in rows.also)):
        rows = next((each for each in _every_list(sheet) if dotted.endswith(each.way)), None)
        also = next((each for each in rows.also if each.verb == verb), None) if rows else None
        if rows is None or not (found is None or isinstance(found, list)):
            return Changed(text)
        new = _numbered(also.make(_found(data, way[:-1])) if also else rows.one, codes)
        place = len(found or ())
        text = _set(text, (*way, place) if found is not None else way, new if found else [new], rewrite=rewrite)
        return Changed(text, f"{dotted}.{place}", is_new=True)
    if found is None or not way or not isinstance(way[-1], int):
        return Changed(text)
    around = _found(data, way[:-1])
    if verb in ("after", "copy"):
        rows = next((each for each in _every_list(sheet) if each.way == way[-2]), None)
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


def _every_list(sheet: Sheet) -> Iterator[Rows]:
    for rows in sheet.lists:
        yield rows
        yield from rows.inner


def _numbered(one: Any, codes: Codes) -> Any:
    """What an added row says, with codes that are free."""
    if isinstance(one, list):
        return [_numbered(each, codes) for each in one]
    if not isinstance(one, Mapping):
        return one
    new = {key: _numbered(value, codes) for key, value in one.items()}
    if "code" in new:
        numbers = (f"{new['code']}{number}" for number in range(1, 100_000))
        new["code"] = next(code for code in numbers if codes.take(code) == code)
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
