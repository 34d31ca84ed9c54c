"""What does a file say? Its rows, what its columns mean, and which forms each row fills in. Pure."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby, islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError

from app.capture.typed import MISSING, WHY, Typed, check_stored, parse_typed, shortened
from app.foundation.errors import FieldProblem, Invalid
from app.foundation.words import marked_unicode
from app.studies.definition import Instrument, Item, ItemType, Study

BETWEEN = "|"  # as in an export: between the codes of one answer
MOST_COLUMNS = 5000
MOST_TOGETHER = 10_000  # rows of a long file that speak of one participant at one visit

Name = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]
Words = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")]
Plain = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")] | int | FiniteFloat | bool | None
NUMBERS = (ItemType.INTEGER, ItemType.SCALE, ItemType.SLIDER, ItemType.NUMBER)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n)|[^\r\n]++")
_WHOLE = re.compile(r"(-?[0-9]+)\.0+")
_COMMA = re.compile(r"(-?[0-9]+),([0-9]+)")
_DAY = re.compile(r"([0-9]{1,2})([./-])([0-9]{1,2})\2([0-9]{4})(.*)", re.DOTALL)
_MIDNIGHT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]00:00(?::00(?:\.0+)?)?")
_SECONDS = re.compile(r"([0-9]{1,2}:[0-9]{2}):00(?:\.0+)?")
_QUOTED = re.compile(r"\"[^\"]*\"")
ROWS_GUESSED_FROM = 2000


Cells = Mapping[str, object]


def _shape(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": example})


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """Where something comes from: a `column` (its texts are changed as `values` says), or the same `value` always."""

    model_config = _shape({"column": "time", "values": {"1": "baseline", "2": "week18"}})

    column: Name | None = None
    value: Plain = None
    values: dict[Name, Plain] = {}


class To(_Part):
    """What a column answers. Its texts are changed as `values` says; a text that is not among them stays as it is.

    `item` may end in `__missing` (why there is no answer) or `__why` (why a soft check was accepted), as in an export.
    """

    model_config = _shape({"column": "pain_avg", "item": "pain_intensity", "instrument": "pain"})

    column: Name
    item: Name
    instrument: Name | None = Field(default=None, description="None: the form of that visit that asks this item.")
    values: dict[Name, Plain] = {}


class ConsentFrom(_Part):
    """How consent is recorded of somebody new: on paper, and countersigned by who imports, with their password."""

    model_config = _shape({"version": "1", "signed_on": {"column": "consented"}, "signature": {"column": "folder"}})

    version: Name
    language: Name = "en"
    method: Literal["paper", "on_screen"] = "paper"
    signed_on: Source
    signature: Source = Field(description="The typed name, or where the signed paper is kept.")
    paper_sha256: Source | None = None
    options: dict[Name, bool] = {}


class NewParticipants(_Part):
    """How somebody is screened who is not here yet: the answers to the pre-screen, by item."""

    model_config = _shape({"site": {"value": "neura"}, "answers": {"age": {"column": "age"}}})

    site: Source
    answers: dict[Name, Source]
    personal: dict[Literal["given_name", "family_name", "date_of_birth", "phone", "email"], Source] = {}
    consent: ConsentFrom | None = None
    another: Source | None = Field(
        default=None, description="True where somebody who looks like a person at the site is another one."
    )


class FileMapping(_Part):
    """What the columns of a file mean.

    `wide`: a row is a participant at a visit, a column an item. `long`: a row is one answer, with the columns
    `instrument` (may be left out), `item` and `value`. A blank cell leaves what is stored as it is.
    """

    model_config = _shape(
        {
            "participant": "id",
            "visit": {"column": "time", "values": {"1": "baseline", "2": "week18"}},
            "columns": [{"column": "pain_avg", "item": "pain_intensity", "instrument": "pain"}],
            "blank": ["NaN"],
        }
    )

    layout: Literal["wide", "long"] = "wide"
    participant: Name = Field(default="participant", description="The column that says who.")
    source: Name | None = Field(
        default=None, description="Whose numbers these are; None: the codes that participants have here."
    )
    visit: Source = Source(column="visit")
    repeat: Name = Field(default="repeat", description="The column of the how-manieth time; blank or none is 1.")
    held_on: Source | None = Field(default=None, description="The day of the visit, which is recorded as held.")
    late: Words | None = Field(default=None, description="Why a visit was held outside its window.")
    columns: tuple[To, ...] = Field(default=(), max_length=MOST_COLUMNS)
    instrument: Name = "instrument"
    item: Name = "item"
    value: Name = "value"
    decimal: Literal[".", ","] = Field(default=".", description="What stands before the decimals of a number.")
    days: Literal["ymd", "dmy", "mdy"] = Field(
        default="ymd",
        description="In which order days are written: 14.03.2026 (dmy), 3/14/2026 (mdy). 2026-03-14 is always read.",
    )
    blank: tuple[Name, ...] = Field(default=(), description="Texts that stand for nothing, such as NaN.")
    missing: Name | None = Field(default=None, description="The code a required item gets whose cell is blank.")
    only: dict[Name, tuple[Name, ...]] = Field(default={}, description="Rows are passed over unless these agree.")
    new: NewParticipants | None = None
    randomise_after: Name | None = Field(default=None, description="The visit after whose row somebody is randomised.")
    accept_partial: bool = Field(default=False, description="Save although required answers are missing.")
    why: Words | None = Field(default=None, description="Why saved answers change.")


def read_mapping(said: object) -> FileMapping:
    """The mapping that a JSON value is; Invalid, naming each part that is not."""
    try:
        return FileMapping.model_validate(said)
    except ValidationError as error:
        raise Invalid(
            [
                FieldProblem(".".join(["mapping", *map(str, each["loc"])]), each["type"], each["msg"])
                for each in error.errors()[:50]
            ]
        ) from None


def can_be_kept(text: str) -> bool:
    """JSON may say half of a character (a lone surrogate), which is in no encoding, and NUL, which not all keep."""
    return "\x00" not in text and (text.isascii() or _SURROGATE.search(text) is None)


@dataclass(frozen=True)
class Rows:
    """The rows of a file. Each time they are gone through they are read anew, one by one, and none is kept."""

    read: Callable[[], Iterator[Cells]]

    def __iter__(self) -> Iterator[Cells]:
        return self.read()


# A row of blanks: it is passed over, and counted, as a spreadsheet counts it.
BLANK: Cells = {}


def text_of(data: bytes) -> str:
    """The text of a file in UTF-8, or in another Unicode that a mark at its beginning tells; Invalid otherwise."""
    try:
        return data.decode(marked_unicode(data) or "utf-8")
    except UnicodeDecodeError:
        raise Invalid([FieldProblem("file", "encoding", "This file is not in UTF-8. Save it as CSV UTF-8.")]) from None


def read_csv(text: str) -> tuple[list[str], Rows]:
    """The columns and the rows of a CSV file, row by row; Invalid where it is none.

    Blank lines before the names, a line `sep=;`, and columns at the end that have neither a name nor a cell are what
    spreadsheets write, and are passed over.
    """
    text = text.removeprefix("\ufeff")
    if not can_be_kept(text):
        message = "There is a NUL or half a character in this file. Save it as CSV in UTF-8 again."
        raise Invalid([FieldProblem("file", "control", message)])
    delimiter, before, blank = "", 0, 0
    first = ""
    for first in _lines(text):
        said = first.strip().lower()
        if before == blank and said[:4] == "sep=" and len(said) == 5:
            delimiter = said[4]
        elif said.strip(',;\t"'):
            break
        else:
            blank += 1
        before += 1
    outside = _QUOTED.sub("", first)
    delimiter = delimiter or max(",;\t", key=outside.count)

    def lines() -> Any:
        return csv.reader(islice(_lines(text), before, None), delimiter=delimiter, strict=True)

    try:
        header = [name.strip() for name in next(lines(), [])]
    except csv.Error as error:
        raise _no_csv(before + 1, error) from None
    while header and not header[-1]:
        header.pop()
    if len(header) > MOST_COLUMNS:
        said = f"The first line names {len(header):,} columns; {MOST_COLUMNS:,} can be read. Send the file in parts."
        raise Invalid([FieldProblem("file", "header", said)])
    counted = Counter(header)
    unnamed, twice = counted.pop("", 0), sorted(name for name, times in counted.items() if times > 1)
    if not header or twice or unnamed > 1:
        said = (
            f"The columns {', '.join(twice)[:200]} stand there twice."
            if twice
            else f"{unnamed} columns have no name."
            if header
            else "The first line names no columns."
        )
        raise Invalid([FieldProblem("file", "header", f"{said} Give each column a name of its own.")])

    def cells() -> Iterator[Cells]:
        yield from (BLANK for _ in range(blank))
        rows = lines()
        next(rows)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                raise _no_csv(before + rows.line_num, error) from None
            if row is None:
                return
            if not any(map(str.strip, row)):
                yield BLANK
                continue
            if len(row) < len(header) or any(map(str.strip, row[len(header) :])):
                raise _no_csv(before + rows.line_num, f"{len(row)} cells under {len(header)} columns")
            yield dict(zip(header, row, strict=False))

    return header, Rows(cells)


def _lines(text: str) -> Iterator[str]:
    """A text line by line with its ends, however they are written; never a second time as a whole."""
    yield from (found[0] for found in _LINE.finditer(text))


def _no_csv(line: int, error: object) -> Invalid:
    message = f"Line {line} is not CSV ({shortened(str(error))}). Mend it, and send the file again."
    return Invalid([FieldProblem("file", "csv", message)])


def guessed(study: Study, header: Sequence[str], rows: Iterable[Cells] = ()) -> FileMapping:
    """What the columns of a file mean that has the names of an export, or of items, and how its first rows write."""
    mapping = _columns_guessed(study, header)
    return mapping.model_copy(update=_ways_to_write(study, mapping, islice(rows, ROWS_GUESSED_FROM)))


def _ways_to_write(study: Study, mapping: FileMapping, rows: Iterable[Cells]) -> dict[str, str]:
    """How decimals and days are written, where the cells of numbers and of days leave no doubt."""
    kinds = {item.code: item.type for form in study.instruments for item in form.items}
    numbers = {to.column for to in mapping.columns if kinds.get(to.item) in NUMBERS}
    days = {to.column for to in mapping.columns if kinds.get(to.item) in (ItemType.DATE, ItemType.DATE_TIME)}
    commas = points = False
    orders = {"dmy", "mdy"}
    seen = False
    for cells in rows:
        for name in numbers:
            text = _text(cells.get(name))
            commas, points = commas or _COMMA.fullmatch(text) is not None, points or "." in text
        for name in days:
            if found := _DAY.fullmatch(_text(cells.get(name))):
                seen = True
                first, between, second = int(found[1]), found[2], int(found[3])
                orders -= {"mdy"} if between == "." or first > 12 else set()
                orders -= {"dmy"} if second > 12 else set()
    said = {"decimal": ","} if commas and not points else {}
    return {**said, "days": next(iter(orders))} if seen and len(orders) == 1 else said


def _columns_guessed(study: Study, header: Sequence[str]) -> FileMapping:
    if {"item", "value"} <= set(header):
        return FileMapping(layout="long")
    of_item: dict[str, set[str]] = {}
    for form in study.instruments:
        for item in form.items:
            of_item.setdefault(item.code, set()).add(form.code)
    columns = []
    for name in header:
        stem, _, rest = name.partition("__")
        named = study.instrument(stem)
        asked = named.item(rest.removesuffix(MISSING).removesuffix(WHY)) if named is not None else None
        if asked is not None:
            if asked.type is not ItemType.CALCULATED:
                columns.append(To(column=name, item=rest, instrument=stem))
        elif name.removesuffix(MISSING).removesuffix(WHY) in of_item:
            columns.append(To(column=name, item=name))
    who = next((name for name in ("participant", "code", "record_id", "id", "subject") if name in header), None)
    return FileMapping(columns=tuple(columns), participant=who or "participant")


def require_who(mapping: FileMapping, header: Sequence[str]) -> None:
    """Invalid when no column of a file says who its rows are of: each row would be refused for it, one by one."""
    if mapping.participant not in header:
        columns = ", ".join(f"“{shortened(name)}”" for name in header[:10])
        message = (
            f"There is no column “{shortened(mapping.participant)}” in this file, and so nothing says who a row is of. "
            f"Its columns are: {columns}. Name one of them."
        )
        raise Invalid([FieldProblem("participant", "column", message)])


@dataclass(frozen=True)
class FormFilled:
    """What a row says of one form: stored values, reasons for soft checks, what could not be read, what is blank."""

    instrument: str
    values: dict[str, object] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    problems: list[FieldProblem] = field(default_factory=list)
    blank: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Filled:
    """A row of a file (in a long one: the rows of one participant and visit that stand together)."""

    number: int
    participant: str
    visit: str
    cells: Cells
    repeat: str = ""


def rows_of(mapping: FileMapping, rows: Iterable[Cells]) -> Iterator[tuple[Filled, list[Cells]]]:
    """Each participant at a visit, in the order of the file, with the rows that speak of them. The first row is 1."""

    def asked() -> Iterator[tuple[tuple[str, str, str], int, Cells]]:
        for number, cells in enumerate(rows, start=1):
            if cells is not BLANK and all(
                _text(cells.get(column)) in wanted for column, wanted in mapping.only.items()
            ):
                who = _text(cells.get(mapping.participant))
                visit, repeat = _text(found(mapping.visit, cells, mapping.blank)), _text(cells.get(mapping.repeat))
                yield (who, visit, repeat), number, cells

    if mapping.layout == "wide":
        for (who, visit, repeat), number, cells in asked():
            yield Filled(number, who, visit, cells, repeat), [cells]
        return
    for (who, visit, repeat), together in groupby(asked(), key=lambda each: each[0]):
        lines = list(islice(together, MOST_TOGETHER + 1))  # more are none of a form: refused, and not all read
        yield Filled(lines[0][1], who, visit, lines[0][2], repeat), [cells for _, _, cells in lines]


def found(source: Source, cells: Cells, blank: Sequence[str] = ()) -> object:
    """What a source says in a row; None for nothing."""
    if source.column is None:
        return source.value
    return _read(cells.get(source.column), source.values, blank)


def _read(cell: object, values: Mapping[str, Plain], blank: Sequence[str]) -> object:
    text = _text(cell)
    if text in values:
        return values[text]
    if not text or text in blank:
        return None
    return cell.strip() if isinstance(cell, str) else cell


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell).strip()


def repeat_of(form: Instrument, row: Filled) -> int:
    """The how-manieth time a row fills in a form that repeats; 1 for others. Invalid when it is no number."""
    if not form.repeats or not row.repeat:
        return 1
    whole = _WHOLE.fullmatch(row.repeat)
    text = whole[1] if whole else row.repeat
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 6 and int(text) > 0):
        message = f"“{shortened(row.repeat)}” is no number of a time. Write 1, 2, 3 without gaps."
        raise Invalid([FieldProblem("repeat", "integer", message)])
    return int(text)


def day_in_order(text: str, order: str) -> str:
    """A day in another order as year-month-day, with what stands behind it; a text that is none as it is."""
    found = _DAY.fullmatch(text) if order != "ymd" else None
    if found is None:
        return text
    day, month = (found[1], found[3]) if order == "dmy" else (found[3], found[1])
    return f"{found[4]}-{month:0>2}-{day:0>2}{found[5]}"


def as_typed(mapping: FileMapping, item: Item | None, text: str) -> str:
    """A cell in the way in which its answer is typed on the page; Invalid where it would be read as another number.

    What programs add (the 3.0 of a column with gaps, midnight behind a day, seconds that are none) is left out.
    """
    if item is None:
        return text
    if item.type in NUMBERS and mapping.decimal == ",":
        if "." in text:  # where decimals have commas, 1.000 is a thousand
            message = (
                f"{shortened(item.label)}: “{shortened(text)}” has a point, and this file decimal commas. Write 1234,5."
            )
            raise Invalid([FieldProblem(item.code, "number", message)])
        if comma := _COMMA.fullmatch(text):
            text = f"{comma[1]}.{comma[2]}"
    if item.type in (*NUMBERS, ItemType.CHOICE) and (whole := _WHOLE.fullmatch(text)):
        return whole[1]
    if item.type in (ItemType.DATE, ItemType.DATE_TIME):
        text = day_in_order(text, mapping.days)
        midnight = _MIDNIGHT.fullmatch(text) if item.type is ItemType.DATE else None
        return midnight[1] if midnight else text
    if item.type is ItemType.TIME and (time := _SECONDS.fullmatch(text)):
        return f"{time[1]:0>5}"
    return text


def day_of(field_name: str, said: object, order: str = "ymd") -> date | None:
    """A day as YYYY-MM-DD, or in the order of the file; Invalid when it is none."""
    if said is None:
        return None
    said = day_in_order(said, order) if isinstance(said, str) else said
    try:
        return date.fromisoformat(str(said)[:10]) if isinstance(said, str) else date.fromisoformat("")
    except ValueError:
        message = f"“{shortened(str(said))}” is no day. Write it as year-month-day, such as 2026-03-14."
        raise Invalid([FieldProblem(field_name, "date", message)]) from None


def forms_filled(study: Study, mapping: FileMapping, row: Filled, lines: Sequence[Cells]) -> list[FormFilled]:
    """The forms that a row fills in at its visit, in the order of the plan."""
    planned = study.visit(row.visit)
    forms = [study.instrument(code) for code in planned.instruments] if planned else []
    at_visit = {form.code: form for form in forms if form is not None}
    said: dict[str, dict[str, object]] = {code: {} for code in at_visit}
    problems: list[FieldProblem] = []
    for instrument, item, value in _answers(mapping, lines):
        stem = item.removesuffix(MISSING).removesuffix(WHY)
        if instrument is None:
            asking = [form.code for form in at_visit.values() if form.item(stem) or form.item(item)]
        else:
            asking = [instrument] if instrument in at_visit else []
        if asking:
            said[asking[0]][item] = value
        elif value is not None:
            where = f"{instrument}." if instrument else ""
            message = f"“{shortened(where + item)}” is not asked at “{shortened(row.visit)}”. Leave its cell blank."
            problems.append(FieldProblem(shortened(item), "not_asked", message))
    filled = [_form(form, said[code], mapping) for code, form in at_visit.items() if said[code]]
    if problems:
        filled.append(FormFilled("", problems=problems))
    return [each for each in filled if each.values or each.problems or each.reasons]


def _answers(mapping: FileMapping, lines: Sequence[Cells]) -> Iterator[tuple[str | None, str, object]]:
    if mapping.layout == "wide":
        for to in mapping.columns:
            yield to.instrument, to.item, _read(lines[0].get(to.column), to.values, mapping.blank)
        return
    for cells in lines:
        instrument, item = _text(cells.get(mapping.instrument)) or None, _text(cells.get(mapping.item))
        yield instrument, item, _read(cells.get(mapping.value), {}, mapping.blank)
        if code := _text(cells.get("missing_code")):
            yield instrument, item + MISSING, code
        if reason := _text(cells.get("why")):
            yield instrument, item + WHY, reason


def _form(form: Instrument, said: Mapping[str, object], mapping: FileMapping) -> FormFilled:
    typed: dict[str, list[str]] = {}
    stored: dict[str, object] = {}
    unlike: list[FieldProblem] = []
    missing = mapping.missing
    blank = set()
    codes = {item.code for item in form.items}
    for name, value in said.items():
        if value is None:
            if name in codes:
                blank.add(name)
            continue
        item = form.item(name)
        if isinstance(value, str) and not (item and item.type is ItemType.CALCULATED):
            try:
                text = as_typed(mapping, item, value)
            except Invalid as problem:
                unlike += problem.problems
                continue
            several = item is not None and item.type is ItemType.CHOICES
            typed[name] = [each.strip() for each in text.split(BETWEEN)] if several else [text]
        else:
            stored[name] = value
    read = parse_typed(form, typed)
    checked, problems = check_stored(form, stored)
    values = {**read.values, **checked}
    blank = {code for code in blank if code not in values}
    if missing is not None:
        required = {item.code for item in form.items if item.required and item.type is not ItemType.CALCULATED}
        values |= {code: {"missing": missing} for code in blank & required}
    return FormFilled(form.code, values, read.reasons, [*unlike, *read.problems, *problems], frozenset(blank))


def read_text(form: Instrument, item: str, text: str, mapping: FileMapping) -> Typed:
    """One typed answer, read as a page's form reads it; of a list, with | between its codes."""
    text = as_typed(mapping, form.item(item), text)
    return parse_typed(form, {item: text.split(BETWEEN) if BETWEEN in text else [text]})
