"""How do a million entries get into a file quickly? Whole batches become text or columns, by patterns that are learnt.

`app.exports.tables` says what stands in a table; here the same rows are made many at a time, and the file is the same,
byte for byte. Entries of one form mostly hold the same items, so what their line looks like is worked out once for each
set of items: a pattern with a gap for each value. What does not fill its gap just as the writer of CSV would have it is
found by its type or by counting commas, quotes and line ends, and that entry goes the long way, cell by cell. Pure.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import groupby, repeat
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
TOGETHER = 20
"""Of so many entries with the same items at least the lines are made column by column."""
NUMBERS = (ItemType.INTEGER, ItemType.NUMBER, ItemType.SCALE, ItemType.SLIDER, ItemType.CALCULATED, ItemType.YES_NO)
CODES = (ItemType.CHOICE, ItemType.DATE, ItemType.TIME, ItemType.DATE_TIME)
WRITTEN = {**dict.fromkeys(NUMBERS, "number"), **dict.fromkeys(CODES, "code")}
"""How an item's one answer is mostly written: without quotes in JSON, or with them."""
SMALL = {number: str(number) for number in range(-1, 1_000)}
FILLS = frozenset({str, int, float})

Raw = Sequence[Any]
"""An entry as the driver gives it: texts, also of numbers and instants; the number of the version of the study; and at
its end what is stored as JSON."""
Exact = Callable[[Row], str]
"""Writes any row as CSV, without the end of its line."""
Lines = Callable[[Sequence[Raw], Exact], tuple[int, str]]
Columns = Callable[[Sequence[Raw]], list[Sequence[Any] | None]]
Pick = Callable[[Sequence[Any]], Sequence[Any]]
Told = Callable[[list[Any]], str]
Run = tuple[bool, list[Field]]
"""Fields beside each other, and whether they may be written together."""


@dataclass
class Batched(Iterator[Row]):
    """Rows that come one by one, or many at a time: as lines of CSV, or column by column.

    Whoever alters rows puts a generator around them, which comes one by one alone: what is shaped, narrowed or compared
    never takes the quick way. `batches` and `columned` read the entries to their end, so many at a time, the one for
    lines and the other for columns.
    """

    rows: Iterator[Row]
    batches: Callable[[int], Iterator[Sequence[Raw]]]
    lines_of: Lines
    columns_of: Columns | None = None
    columned: Callable[[int], Iterator[Sequence[Raw]]] | None = None
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

    def columns(self, *, size: int) -> Iterator[list[Sequence[Any] | None]]:
        """The rows column by column, so many at a time; None stands for a column without any value."""
        assert self.columns_of is not None
        assert self.columned is not None
        for batch in self.columned(size):
            if self.told is not None:
                self.told(len(batch))
            yield self.columns_of(batch)


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


def _picker(order: tuple[int, ...]) -> Pick:
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


def _flags(choices: tuple[str, ...], known: dict[tuple[Any, ...], str], ticked: list[Any]) -> str:
    """The cells of several choices: 1 for each that was ticked, 0 for the others."""
    key = tuple(ticked)
    try:
        return known[key]
    except KeyError:
        text = known[key] = ",".join(str(int(choice in ticked)) for choice in choices)
        return text


def _joined(ticked: list[Any]) -> str:
    return BETWEEN.join(map(str, ticked))


def _told(field: Field, column: Sequence[Any], several: Told | None, odd: list[str]) -> Sequence[str] | None:
    """The texts of an item's answers; None when one of them is not what the item keeps."""
    kinds = set(map(type, column))
    if field.flags:
        return list(map(several, column)) if several is not None and kinds == {list} else None
    if kinds == {str}:
        return _quoted(column, odd) if field.item.type is ItemType.TEXT else column
    if kinds == {int}:
        try:
            return [SMALL[value] for value in column]
        except KeyError:
            return list(map(str, column))
    if kinds == {bool}:
        return ["true" if value else "false" for value in column]
    if kinds == {float} and 2 * len(different := set(column)) < len(column) and 0.0 not in different:
        texts = {value: str(value) for value in different}  # the zeros are two, and equal
        return [texts[value] for value in column]
    return list(map(str, column)) if kinds <= {int, float} else None


def _run(codes: Sequence[str], documents: Sequence[dict[str, Any]], between: str) -> Sequence[str] | None:
    """What stands under these codes, two at least, as cells of lines; None when one is not written as JSON is.

    JSON is written in one go, and much quicker than each cell by itself. It differs where a comma, a quote, a line end
    or a bracket is, where something is missing or several, and in numbers with an exponent, or so small or large that
    one of the two writes them with one.
    """
    try:
        text = orjson.dumps(list(map(itemgetter(*codes), documents))).decode()[2:-2]
    except orjson.JSONEncodeError:
        return None
    cells = len(documents) * len(codes)
    if text.count(",") != cells - 1 or text.count("[") != len(documents) - 1 or "null" in text:
        return None
    quotes = text.count('"')
    if quotes:
        if quotes != 2 * cells or "\\" in text:
            return None
        text = text.replace('"', "")
    elif text.count("e") != text.count("true") + text.count("false") or "0.0000" in text:
        return None
    rows = text.replace(",", between).split(f"]{between}[")
    return rows if len(rows) == len(documents) else None


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


def _by_code(documents: Sequence[dict[str, Any]], codes: Sequence[str]) -> Iterator[Sequence[Any]]:
    """What these documents, of which there is one at least, hold under each code; None where one holds nothing."""
    held = tuple(documents[0])
    if all(tuple(each) == held for each in documents):  # as most do: at once, which takes a quarter of the time
        columns = dict(zip(held, zip(*(each.values() for each in documents), strict=True), strict=True))
        nothing = (None,) * len(documents)
        yield from (columns.get(code, nothing) for code in codes)
        return
    get = [each.get for each in documents]
    yield from ([value(code) for value in get] for code in codes)


# A row per entry


class Wide:
    """One row per entry of one form.

    A raw row has the cells of the columns before the items, the last three the instants at which it was saved and
    signed, and the number of the version of the study; `wholes` are the places of whole numbers. Then the values. For
    lines the cells before that number are one text, with commas between: none of them holds one.
    """

    def __init__(self, form: Form, head: int, versions: Mapping[int, str], *, wholes: Sequence[int]) -> None:
        assert not form.is_special  # files, signatures and coded texts have cells of their own
        self.form, self.head, self.versions, self.wholes = form, head - 1, versions, wholes
        self.told = {field.item.code: partial(_flags, field.flags, {}) for field in form.fields if field.flags}
        self.patterns = Patterns(self._learn)
        self.runs: dict[tuple[str, ...], list[Run]] = {}
        self.commas = head + sum((len(field.flags) or 1) + field.missing for field in form.fields) - 1

    def _learn(self, codes: tuple[str, ...], reasons: tuple[int, ...] = ()) -> Pattern | None:
        """The line of entries with these items, some of which are missing for a reason."""
        at = {code: place for place, code in enumerate(codes)}
        cells, gaps = ["%s", "%s"], _Gaps()
        for field in self.form.fields:
            place, width = at.get(field.item.code), len(field.flags) or 1
            why = [""] if field.missing else []
            if place is None:
                cells += [""] * width + why
            elif place in reasons:
                if not field.missing:
                    return None
                cells += [""] * width + ["%s"]
                gaps.add(place, None, None)
            else:
                cells += ["%s", *why]
                gaps.add(place, field.item, self.told.get(field.item.code))
        return gaps.pattern(",".join(cells), len(codes))

    def lines(self, batch: Sequence[Raw], exact: Exact) -> tuple[int, str]:
        """The lines of these entries, and how many they are."""
        odd: list[str] = []
        made = self._quickly(batch, odd)
        aside = {place for place, line in enumerate(made) if line is None}
        quick = [line for line in made if line is not None] if aside else made
        text = "\r\n".join(quick)  # type: ignore[arg-type]
        if not _fits(text, len(quick) - 1, len(quick) * self.commas, odd):
            for place, raw in enumerate(batch):
                typed: list[str] = []
                line = self._line(raw, _read(raw[-1]), typed)
                if line is None or not _fits(line, 0, self.commas, typed):
                    aside.add(place)
        if aside:
            for place in aside:
                made[place] = exact(self._row(batch[place]))
            text = "\r\n".join(made)  # type: ignore[arg-type]
        return len(made), f"{text}\r\n" if made else ""

    def _quickly(self, batch: Sequence[Raw], odd: list[str]) -> list[str | None]:
        """The lines of these entries, None where one has to be written cell by cell."""
        made: list[str | None] = [None] * len(batch)
        texts = [raw[-1] for raw in batch]
        documents: list[dict[str, Any] | None]
        try:
            documents = list(map(orjson.loads, texts))
        except orjson.JSONDecodeError:
            documents = list(map(_read, texts))
        alike: dict[tuple[str, ...], list[int]] = {}
        for place, (found, text) in enumerate(zip(documents, texts, strict=True)):
            if found is not None:
                # Where a reason stands in place of an answer, values of other kinds would stand in one column.
                words = () if text.rfind("{") else tuple(found)
                alike.setdefault(words, []).append(place)
        for codes, places in alike.items():
            raws, some = [batch[place] for place in places], [documents[place] for place in places]
            together = self._together(codes, raws, some, odd) if codes and len(places) >= TOGETHER else None  # type: ignore[arg-type]
            lines = together or (self._line(*each, odd) for each in zip(raws, some, strict=True))
            for place, line in zip(places, lines, strict=True):
                made[place] = line
        return made

    def _together(
        self, codes: tuple[str, ...], raws: Sequence[Raw], documents: Sequence[dict[str, Any]], odd: list[str]
    ) -> list[str] | None:
        """The lines of entries with the same items, column by column; None when one has to be looked at by itself."""
        beside = "," if self.form.fields[0].missing else ""  # the empty cell for a reason, behind each
        typed: list[str] = []
        cells: list[Iterable[str]] = []
        for alike, fields in self._runs(codes):
            told = _run([field.item.code for field in fields], documents, f",{beside}") if alike else None
            if told is not None:
                cells.append(told)
                continue
            for field in fields:
                code = field.item.code
                if code not in codes:
                    cells.append(repeat("," * (len(field.flags) - 1), len(raws)))
                    continue
                told = _told(field, [found[code] for found in documents], self.told.get(code), typed)
                if told is None:
                    return None
                cells.append(told)
        odd += typed
        answers = map(f"{beside},".join, zip(*cells, strict=True))
        versions = self.versions.get
        return [
            f"{head},{versions(number, '')},{said}{beside}"
            for (head, number, _), said in zip(raws, answers, strict=True)
        ]

    def _runs(self, codes: tuple[str, ...]) -> list[Run]:
        """The fields in order, those beside each other together that are answered in the same plain way."""
        runs = self.runs.get(codes)
        if runs is None:
            if len(self.runs) >= MOST_PATTERNS:
                self.runs.clear()
            beside = groupby(self.form.fields, lambda field: field.item.code in codes and WRITTEN.get(field.item.type))
            each = [(way, list(fields)) for way, fields in beside]
            runs = self.runs[codes] = [(bool(way) and len(fields) > 1, fields) for way, fields in each]
        return runs

    def _line(self, raw: Raw, found: dict[str, Any] | None, odd: list[str]) -> str | None:
        filled = None if found is None else _matched(self.patterns, (tuple(found),), found, odd)
        if filled is None:
            return None
        head, number, _ = raw
        return filled[0].text % (head, self.versions.get(number, ""), *filled[1])

    def _row(self, raw: Raw) -> Row:
        head, number, values = raw
        return (*head.split(","), self.versions.get(number), *self.form.cells(stored(values)))

    def columns(self, batch: Sequence[Raw]) -> list[Sequence[Any] | None]:
        """The same entries, column by column."""
        *head, versions, texts = zip(*batch, strict=True)
        made: list[Sequence[Any] | None] = [
            [datetime.fromisoformat(cell) if cell else None for cell in cells] if place >= self.head - 2 else cells
            for place, cells in enumerate(head)
        ]
        for place in self.wholes:
            made[place] = list(map(int, head[place]))
        made.append([self.versions.get(number) for number in versions])
        codes = [field.item.code for field in self.form.fields]
        values: list[list[Any]] = [[] for _ in codes]
        for start in range(0, len(texts), READ):  # a few documents at a time: memory that is new is slow
            some = texts[start : start + READ]
            try:
                documents = list(map(orjson.loads, some))
            except orjson.JSONDecodeError:
                documents = [stored(text) for text in some]
            for column, found in zip(values, _by_code(documents, codes), strict=True):
                column += found
        for field, column in zip(self.form.fields, values, strict=True):
            made += self._cells(field, column, texts)
        return made

    def _cells(self, field: Field, values: list[Any], texts: Sequence[str]) -> list[Sequence[Any] | None]:
        """The columns of one item."""
        kinds = set(map(type, values))
        width = (len(field.flags) or 1) + field.missing
        if kinds == {type(None)}:
            return [None] * width
        if float in kinds and _is_huge([value for value in values if type(value) is float]):
            values = [stored(text).get(field.item.code) for text in texts]
        if PLAIN.issuperset(kinds) and not field.flags:
            return [values, None] if field.missing else [values]
        alone = Form("", "", "", (field,), ())
        known: dict[Any, Sequence[Any]] = {}
        rows = []
        for value in values:
            key = tuple(map(str, value)) if type(value) is list else (type(value), str(value))
            cells = known.get(key)
            if cells is None:
                cells = known[key] = alone.cells({field.item.code: value})
            rows.append(cells)
        return list(zip(*rows, strict=True))


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
