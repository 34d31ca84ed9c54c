"""How do a million entries get into a file quickly? Whole batches become text or columns.

`app.exports.tables` says what stands in a table; here the same rows are made many at a time, and the file is the same,
byte for byte. A row per entry: the answers of many are written as JSON in one go, which differs little from CSV, and
where it differs is found by searching and by counting commas and brackets. A row per answer: what the lines of an entry
with certain items look like is worked out once, a pattern with a gap for each value. What does not fit goes the long
way, cell by cell. Pure.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from app.capture.groups import cells_of
from app.exports.tables import BETWEEN, MISSING, PLAIN, Field, Form, Plan, Row, item_order, long_rows
from app.foundation.database import document
from app.studies.definition import Item, ItemType

EXACT = 2.0**63
MOST_PATTERNS = 4096
"""So many patterns are remembered; a form whose items come in more combinations learns them anew."""
AHEAD = 2
"""So many times as many entries are asked for at once as become text at once: each time the database is woken."""
READ = 250
"""So many documents are read before their values are put into columns."""
MARK = "\0"
"""Stands between the lines of one entry until it is known what goes there: no value that was kept holds it."""
TOGETHER = 500
"""Of so many entries at a time the answers are written as JSON."""
COMMA, QUOTE, BRACKET, BACKSLASH, REASON, LINE = MARKS = "\0\1\2\3\4\5"
"""Stand for what would be taken for something else while an entry's cells are counted; the last one for the end of a
reason, which takes the empty cell behind it."""
TYPED = str.maketrans({",": COMMA, '"': QUOTE, "[": BRACKET, "\\": BACKSLASH})
AGAIN = ((COMMA, ","), (QUOTE, '"'), (BRACKET, "["), (BACKSLASH, "\\"))
LOOKED_AT = re.compile(r'[,"\[\\\x00-\x1f]')
EXPONENT = re.compile(r"e(?<=[0-9]e)[-+0-9]")
BY_ITSELF = orjson.Fragment("[")
"""In place of a value that only the long way can write: no entry with it is plain."""
FILLS = frozenset({str, int, float})
WHY = " missing"
"""Behind the code of an item: why there is no answer. No code holds a blank."""

Raw = Sequence[Any]
"""An entry as the driver gives it: texts, also of numbers and instants; the number of the version of the study; and at
its end what is stored as JSON."""
Exact = Callable[[Row], str]
"""Writes any row as CSV, without the end of its line."""
Lines = Callable[[Sequence[Raw], Exact], tuple[int, str]]
Held = tuple[Sequence[Any], set[type]]
"""The cells of a column, and of which types they are."""
Columns = Callable[[Sequence[Raw]], list[Held | None]]


class Written(NamedTuple):
    """Rows as text for a reader of typed columns, who refuses what is not of a column's type: two lines for each.

    `heads` has what stands before the answers, with commas between; `documents` the answers as a JSON object, by the
    codes of their items, a reason under the code with `WHY` behind it, which is nowhere unless `explained`.
    """

    heads: str
    documents: str
    explained: bool


Writing = Callable[[Sequence[Raw]], Written]
Pick = Callable[[Any], Sequence[Any]]
Told = Callable[[list[Any]], str]


@dataclass
class Batched(Iterator[Row]):
    """Rows that come one by one, or many at a time: as lines of CSV, or column by column.

    Whoever alters rows puts a generator around them, which comes one by one alone: what is shaped, narrowed or compared
    never takes the quick way. `batches` reads the entries to their end, so many at a time. What is `written_of` them
    are answers to `fields`, whose columns are the last ones.
    """

    rows: Iterator[Row]
    batches: Callable[[int], Iterator[Sequence[Raw]]]
    lines_of: Lines
    columns_of: Columns | None = None
    written_of: Writing | None = None
    fields: Sequence[Field] = ()
    told: Callable[[int], None] | None = None

    def __next__(self) -> Row:
        row = next(self.rows)
        if self.told is not None:
            self.told(1)
        return row

    def counted(self, told: Callable[[int], None]) -> "Batched":
        """The same; `told` hears of every few rows how many they were."""
        return replace(self, told=told)

    def lines(self, exact: Exact, *, size: int) -> Iterator[str]:
        """The rows as lines that end in CR LF, those of so many entries at a time."""
        for batch in self.batches(AHEAD * size):
            for start in range(0, len(batch), size):
                count, text = self.lines_of(batch[start : start + size], exact)
                if self.told is not None:
                    self.told(count)
                yield text

    def columns(self, *, size: int) -> Iterator[list[Held | None]]:
        """The rows column by column, so many at a time; None stands for a column without any value."""
        assert self.columns_of is not None
        for batch in self.batches(size):
            if self.told is not None:
                self.told(len(batch))
            yield self.columns_of(batch)

    def pieces(self, *, size: int) -> Iterator[tuple[Written, Callable[[], list[Held | None]]]]:
        """The rows as text to be read into columns, so many at a time; and how to get columns where it cannot be."""
        assert self.columns_of is not None
        assert self.written_of is not None
        for batch in self.batches(size):
            if self.told is not None:
                self.told(len(batch))
            yield self.written_of(batch), partial(self.columns_of, batch)


def _is_huge(numbers: Sequence[float]) -> bool:
    """Whether one of them may have been a whole number beyond 64 bits."""
    return bool(numbers) and (max(numbers) >= EXACT or min(numbers) <= -EXACT)


def _read(text: str) -> dict[str, Any] | None:
    """A stored document, read quickly; None when the quick reader refuses to."""
    try:
        found: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found


def stored(text: str) -> dict[str, Any]:
    """A stored JSON document, read quickly; by the slow reader where the quick one is not exact, or refuses to read."""
    found = document(text)
    if _is_huge([value for value in found.values() if type(value) is float]):
        found = json.loads(text)
    return found


# Patterns


class Pattern(NamedTuple):
    """What is written of an entry that holds certain items: text with a gap for each value.

    `pick` puts the values in the order of the gaps, None where they stand in it. Of the gaps: `texts` are of what
    somebody typed, `truths` of yes and no, `lists` of several choices, with what makes them text. `commas` and `rows`
    are what stands in the text when every gap is filled with something plain.
    """

    text: str
    pick: Pick | None
    texts: tuple[int, ...]
    truths: tuple[int, ...]
    lists: tuple[tuple[int, Told], ...]
    commas: int
    rows: int


Filled = tuple[Pattern, list[Any]]


class Patterns(dict[Any, Pattern | None]):
    """The patterns that were learnt, each by what `learn` makes it of; None where there can be none."""

    def __init__(self, learn: Callable[..., Pattern | None]) -> None:
        super().__init__()
        self._learn = learn

    def __missing__(self, words: Any) -> Pattern | None:
        if len(self) >= MOST_PATTERNS:
            self.clear()
        pattern = self[words] = self._learn(*words)
        return pattern


def _filling(pattern: Pattern, values: list[Any], odd: list[str]) -> list[Any] | None:
    """What fills the gaps; None when a value is not what its item keeps. Texts that are quoted also go to `odd`."""
    _, pick, texts, truths, lists, _, _ = pattern
    if pick is not None:
        values = list(pick(values))
    for gap in truths:
        value = values[gap]
        if value is True:
            values[gap] = "true"
        elif value is False:
            values[gap] = "false"
    for gap, told in lists:
        value = values[gap]
        if type(value) is not list:
            return None
        values[gap] = told(value)
    if not FILLS.issuperset(map(type, values)):
        return None
    for gap in texts:
        if type(values[gap]) is str:
            (values[gap],) = _quoted((values[gap],), odd)
    return values


def _matched(patterns: Patterns, words: tuple[Any, ...], found: dict[str, Any], odd: list[str]) -> Filled | None:
    """The pattern for an entry and what fills its gaps, where reasons may stand in place of answers; or None.

    `words` say what the pattern is for, but for the reasons.
    """
    pattern = patterns[words]
    if pattern is None:
        return None
    values = _filling(pattern, list(found.values()), odd)
    if values is not None:
        return pattern, values
    values = list(found.values())
    reasons = _reasons_in(values)
    pattern = patterns[(*words, reasons)] if reasons else None
    if pattern is None:
        return None
    filled = _filling(pattern, values, odd)
    return None if filled is None else (pattern, filled)


class _Gaps:
    """The gaps of a pattern as it is put together, in order: which value fills each, and how it is made ready."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.texts: list[int] = []
        self.truths: list[int] = []
        self.lists: list[tuple[int, Told]] = []

    def add(self, place: int, item: Item | None, told: Told | None) -> None:
        """A gap for the value at this place; without an item it is for the code of a reason."""
        gap = len(self.order)
        self.order.append(place)
        match item.type if item else None:
            case ItemType.CHOICES if told is not None:
                self.lists.append((gap, told))
            case ItemType.YES_NO:
                self.truths.append(gap)
            case ItemType.TEXT:
                self.texts.append(gap)

    def pattern(self, text: str, values: int, *, rows: int = 1) -> Pattern:
        in_order = self.order == list(range(values))
        return Pattern(
            text,
            None if in_order else _picker(tuple(self.order)),
            tuple(self.texts),
            tuple(self.truths),
            tuple(self.lists),
            text.count(",") + sum(told([]).count(",") for _, told in self.lists),
            rows,
        )


def _picker(order: tuple[int, ...] | tuple[str, ...]) -> Pick:
    """How to take the values at these places; `itemgetter` alone gives no sequence for one place or none."""
    return itemgetter(*order) if len(order) > 1 else lambda values: [values[place] for place in order]


def _reasons_in(values: list[Any]) -> tuple[int, ...]:
    """Where a reason stands in place of an answer; it is put there as its code. Nothing when there is anything else."""
    places = tuple(place for place, value in enumerate(values) if type(value) is dict)
    for place in places:
        said = values[place]
        if len(said) != 1 or type(said.get(MISSING)) is not str:
            return ()
        values[place] = said[MISSING]
    return places


def _fits(text: str, ends: int, commas: int, odd: Sequence[str]) -> bool:
    """Whether there are so many commas and line ends and no quotes but for those of the quoted texts `odd`.

    And no number that is written with an exponent: a whole number beyond 64 bits could have become one.
    """
    quotes, breaks, returns = 0, ends, ends
    for each in odd:
        commas += each.count(",")
        quotes += each.count('"')
        breaks += each.count("\n")
        returns += each.count("\r")
    return (
        text.count(",") == commas
        and text.count("\n") == breaks
        and text.count("\r") == returns
        and (text.count('"') == quotes if odd else '"' not in text)
        and "e+" not in text
    )


def _flags(choices: tuple[str, ...], known: dict[tuple[Any, ...], Any], ticked: Any) -> Any:
    """The cells of several choices: 1 for each that was ticked, 0 for the others."""
    if type(ticked) is not list:
        return ticked if type(ticked) is orjson.Fragment else BY_ITSELF
    key = tuple(ticked)
    try:
        return known[key]
    except KeyError:
        cells = known[key] = orjson.Fragment(COMMA.join(str(int(choice in ticked)) for choice in choices))
        return cells
    except TypeError:  # lists within
        return BY_ITSELF


def _typed(text: str) -> Any:
    """A text that somebody typed, as CSV has it."""
    if any(mark in text for mark in MARKS):
        return BY_ITSELF
    (text,) = _quoted((text,), [])
    return orjson.Fragment(text.translate(TYPED))


def _is_plain(text: str, commas: int, rows: int) -> bool:
    """Whether so many rows of values, written as JSON, are but for their quotes as they would be in CSV.

    It differs where a value has a comma, an escape or a list, where there is nothing, and in numbers with an exponent,
    or so small or large that one of the two writes them with one.
    """
    return (
        text.count(",") == commas
        and text.count("[") == rows
        and "\\" not in text
        and "null" not in text
        and "0.0000" not in text
        and EXPONENT.search(text) is None
    )


def _joined(ticked: list[Any]) -> str:
    return BETWEEN.join(map(str, ticked))


def _quoted(column: Sequence[str], odd: list[str]) -> Sequence[str]:
    """Texts that somebody typed; those that are quoted also go to `odd`."""
    whole = "".join(column)
    if not ("," in whole or '"' in whole or "\n" in whole or "\r" in whole):
        return column
    texts = list(column)
    for place, text in enumerate(texts):
        if "," in text or '"' in text or "\n" in text or "\r" in text:
            texts[place] = quoted = '"' + text.replace('"', '""') + '"'
            odd.append(quoted)
    return texts


def _held(cells: Sequence[Any]) -> Held:
    return cells, set(map(type, cells))


def _read_all(texts: Sequence[str]) -> list[dict[str, Any] | None]:
    """Stored documents, read quickly; None for one that the quick reader refuses."""
    try:
        return list(map(orjson.loads, texts))
    except orjson.JSONDecodeError:
        return list(map(_read, texts))


# A row per entry


class Wide:
    """One row per entry of one form.

    A raw row has as one text, with commas between, the cells of the columns before the items (none of them holds a
    comma), the last two the instants at which it was saved and signed; then the number of the version of the study,
    which stands behind them; then the values. `head` is how many they are with the version, `wholes` are the places of
    whole numbers among them.
    """

    def __init__(self, form: Form, head: int, versions: Mapping[int, str], *, wholes: Sequence[int]) -> None:
        assert form.fields  # where all that is asked stands in groups, a row has no answers
        assert not form.is_special  # files, signatures and coded texts have cells of their own
        self.form, self.versions, self.wholes = form, versions, wholes
        fields = form.fields
        self.codes = tuple(field.item.code for field in fields)
        self.pick = _picker(self.codes)
        self.explains = fields[0].missing  # and so do all others
        self.beside = "," if self.explains else ""  # the empty cell for a reason, behind each
        self.widths = [len(field.flags) or 1 for field in fields]
        self.blank = {
            code: orjson.Fragment(COMMA * (width - 1)) for code, width in zip(self.codes, self.widths, strict=True)
        }
        self.several = [(at, partial(_flags, field.flags, {})) for at, field in enumerate(fields) if field.flags]
        self.texts = [at for at, field in enumerate(fields) if field.item.type is ItemType.TEXT]

    def lines(self, batch: Sequence[Raw], exact: Exact) -> tuple[int, str]:
        """The lines of these entries, and how many they are."""
        made = self._together(batch) if batch else []
        lines = [exact(self._row(raw)) if line is None else line for raw, line in zip(batch, made, strict=True)]
        lines.append("")
        return len(batch), "\r\n".join(lines)

    def _together(self, batch: Sequence[Raw]) -> list[str | None]:
        """The lines of these entries, of which there is one at least; None where one goes the long way.

        Written as JSON in one go, which is much quicker than cell by cell, and then made CSV.
        """
        rows, explained = self._rows(batch)
        for at in self.texts:
            if LOOKED_AT.search("".join([row[at] for row in rows if type(row[at]) is str])):
                for row in rows:
                    if type(row[at]) is str and LOOKED_AT.search(row[at]):
                        row[at] = _typed(row[at])
        written = orjson.dumps(rows).decode()[2:-2]
        cells = written.split("],[")
        if len(cells) != len(rows):
            return [None] * len(rows)
        width, aside = len(self.codes), set()
        if not _is_plain(written, len(rows) * width - 1, len(rows) - 1):
            aside = {place for place, row in enumerate(cells) if not _is_plain(row, width - 1, 0)}
            cells = [row for place, row in enumerate(cells) if place not in aside]
        said = iter(self._said(LINE.join(cells).replace('"', "")))
        version, beside = self.versions.get, self.beside
        made = [
            None if place in aside else f"{head},{version(number, '')},{next(said)}{beside}"
            for place, (head, number, _) in enumerate(batch)
        ]
        return [line and line.replace(f"{REASON},", "") for line in made] if explained else made

    def _rows(self, batch: Sequence[Raw]) -> tuple[list[list[Any]], bool]:
        """What stands in the cells of each item, texts as they were typed; and whether there may be reasons."""
        texts = [raw[-1] for raw in batch]
        documents = [{self.codes[0]: BY_ITSELF} if found is None else found for found in _read_all(texts)]
        rows = list(map(list, self._picked(documents, self.blank)))
        explained = [row for row, text in zip(rows, texts, strict=True) if text.rfind("{")]
        for row in explained:
            self._explain(row)
        for at, told in self.several:
            for row in rows:
                row[at] = told(row[at])
        return rows, bool(explained)

    def _said(self, text: str) -> list[str]:
        """Rows of values as the cells of lines, with the empty cell for a reason behind each where there may be any."""
        text = text.replace(",", f",{self.beside}") if self.beside else text
        for mark, meant in AGAIN:
            text = text.replace(mark, meant)
        return text.split(LINE)

    def written(self, batch: Sequence[Raw]) -> Written:
        """The same entries as text to be read into columns: as they are stored, but for what is more than an answer."""
        version, explained = self.versions.get, False
        documents = []
        for _, _, text in batch:
            if text.rfind("{"):  # another one than the first: a reason, or the rows of a group
                explained = True
                text = self._flat(text)
            documents.append(text)
        heads = [f"{head},{version(number, '')}\n" for head, number, _ in batch]
        return Written("".join(heads), "\n".join(documents), explained and self.explains)

    def _flat(self, text: str) -> str:
        """A stored document with the answers to our items alone, and each reason under a name of its own."""
        flat: dict[str, Any] = {}
        found = _read(text) or {}
        for code in self.codes:
            value = found.get(code)
            if type(value) is dict:
                why = value.get(MISSING)
                if not self.explains or len(value) != 1 or type(why) is not str:
                    return text  # which no reader of columns takes
                flat[code + WHY] = why
            elif value is not None:
                flat[code] = value
        return orjson.dumps(flat).decode() if found else text

    def _picked(self, documents: Sequence[dict[str, Any]], blank: Mapping[str, Any]) -> list[Sequence[Any]]:
        """What these documents, of which there is one at least, hold of each item in order; else what is `blank`."""
        for code in blank.keys() - documents[0].keys():
            for each in documents:
                each.setdefault(code, blank[code])
        try:
            return list(map(self.pick, documents))
        except KeyError:
            return [self.pick({**blank, **each}) for each in documents]

    def _explain(self, row: list[Any]) -> None:
        """Put the reasons that stand in place of answers into the cells beside them."""
        for at, value in enumerate(row):
            if type(value) is dict:
                why = value.get(MISSING)
                known = self.explains and len(value) == 1 and type(why) is str and LOOKED_AT.search(why) is None
                row[at] = orjson.Fragment(COMMA * self.widths[at] + f"{why}{REASON}") if known else BY_ITSELF

    def _row(self, raw: Raw) -> Row:
        head, number, values = raw
        return (*head.split(","), self.versions.get(number), *self.form.cells(stored(values)))

    def columns(self, batch: Sequence[Raw]) -> list[Held | None]:
        """The same entries, column by column."""
        heads, numbers, texts = zip(*batch, strict=True)
        made: list[Held | None] = []
        *ahead, saved, signed = zip(*(head.split(",") for head in heads), strict=True)
        for place, cells in enumerate(ahead):
            made.append((list(map(int, cells)), {int}) if place in self.wholes else (cells, {str}))
        for cells in (saved, signed):
            made.append(_held([datetime.fromisoformat(cell) if cell else None for cell in cells]))
        made.append(_held([self.versions.get(number) for number in numbers]))
        nothing: dict[str, Any] = dict.fromkeys(self.codes)
        values: list[list[Any]] = [[] for _ in self.codes]
        for start in range(0, len(texts), READ):  # a few documents at a time: memory that is new is slow
            some = texts[start : start + READ]
            documents = [
                stored(text) if found is None else found for text, found in zip(some, _read_all(some), strict=True)
            ]
            for column, found in zip(values, zip(*self._picked(documents, nothing), strict=True), strict=True):
                column += found
        for field, column in zip(self.form.fields, values, strict=True):
            made += self._cells(field, column, texts)
        return made

    def _cells(self, field: Field, values: list[Any], texts: Sequence[str]) -> list[Held | None]:
        """The columns of one item."""
        kinds = set(map(type, values))
        width = (len(field.flags) or 1) + field.missing
        if kinds == {type(None)}:
            return [None] * width
        if float in kinds and _is_huge([value for value in values if type(value) is float]):
            values = [stored(text).get(field.item.code) for text in texts]
            kinds = set(map(type, values))
        if PLAIN.issuperset(kinds) and not field.flags:
            return [(values, kinds), None] if field.missing else [(values, kinds)]
        alone = Form("", "", "", (field,), ())
        known: dict[Any, Sequence[Any]] = {}
        rows = []
        for value in values:
            key = tuple(map(str, value)) if type(value) is list else (type(value), str(value))
            cells = known.get(key)
            if cells is None:
                cells = known[key] = alone.cells({field.item.code: value})
            rows.append(cells)
        return list(map(_held, zip(*rows, strict=True)))


# A row per answer


class Long:
    """One row per answer, of every form.

    A raw row has as many texts as stand before the item, of which the fourth is the form; then those that stand behind
    the reason, of which the last is the number of the version of the study; then the values, and the reasons.
    """

    def __init__(self, plan: Plan, head: int, versions: Mapping[int, str]) -> None:
        self.head, self.versions = head, versions
        self.items = {code: {item.code: item for item in items} for code, items in plan.items.items()}
        self.order = {code: item_order(plan, code) for code in plan.instruments}
        self.patterns = Patterns(self._learn)

    def _learn(self, instrument: str, codes: tuple[str, ...], reasons: tuple[int, ...] = ()) -> Pattern | None:
        """The lines of such an entry, from the item to why a check was accepted; a mark stands between them."""
        known, order = self.items.get(instrument, {}), self.order.get(instrument, {})
        if not known.keys() >= set(codes) or not order.keys() >= set(codes):
            return None  # cells of groups, and what no version of the study knows
        lines, gaps = [], _Gaps()
        for place in sorted(range(len(codes)), key=lambda place: order[codes[place]]):
            code = codes[place]
            if place in reasons:
                lines.append(f"{code},,%s,,")
                gaps.add(place, None, None)
            else:
                lines.append(f"{code},%s,,,")
                gaps.add(place, known[code], _joined)
        return gaps.pattern(MARK.join(lines), len(codes), rows=len(lines))

    def lines(self, batch: Sequence[Raw], exact: Exact) -> tuple[int, str]:
        """The lines of these entries, and how many they are."""
        made: list[str] = []
        count = 0
        for raw in batch:
            found = self._lines(raw)
            if found is None:
                rows = [exact(row) for row in self._rows(raw)]
                count += len(rows)
                made += rows
            elif found[0]:
                count += found[0]
                made.append(found[1])
        made.append("")
        return count, "\r\n".join(made)

    def _lines(self, raw: Raw) -> tuple[int, str] | None:
        if raw[-1] != "{}":
            return None
        found = _read(raw[-2])
        if found is None:
            return None
        odd: list[str] = []
        filled = _matched(self.patterns, (raw[3], tuple(found)), found, odd)
        if filled is None:
            return None
        pattern, values = filled
        text = pattern.text % tuple(values)
        head, about = raw[: self.head], raw[self.head : -3]
        before, behind = f"{','.join(head)},", f"{','.join(about)},{self.versions.get(raw[-3], '')}"
        between = f"{behind}\r\n{before}"
        if (
            text.count(MARK) != max(pattern.rows - 1, 0)
            or not _fits(text, 0, pattern.commas, odd)
            or not _fits(between, 1, len(head) + len(about), ())
        ):
            return None
        return pattern.rows, before + text.replace(MARK, between) + behind

    def _rows(self, raw: Raw) -> Iterator[Row]:
        about = (*raw[self.head : -3], self.versions.get(raw[-3]))
        values, reasons = cells_of(stored(raw[-2])), stored(raw[-1])
        return long_rows(tuple(raw[: self.head]), values, reasons, about, self.order.get(raw[3], {}))
