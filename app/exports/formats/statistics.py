"""How does a table become a file of SPSS, Stata or SAS? Labels, value labels and reasons for missing values go along.

What each programme has no room for is kept honestly: names are shortened by its rules (`named`), texts that are too
long stand in several variables, and why there is no answer stands in a column of its own as well. Days and instants are
what the programme itself calls a date and a date with its time: none of them knows a time zone, so that instants stand
in UTC and their labels say so. SPSS counts seconds since 1582 in a double, which holds them to two millionths of one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.exports import named
from app.exports.formats.typed import Kind, Misfit, chunks
from app.exports.tables import Column, ColumnType, Table
from app.foundation.errors import Refused

MOST_CELLS = 30_000_000
"""The library behind these formats takes a table whole: more cells than this would not be bounded memory any more."""
USER_MISSING = -999_999_000
"""SPSS has no special missing values: the first reason of the study is one less than this number, and so on down."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
UTC_SAID = " (UTC)"
NUMBERS = frozenset({Kind.WHOLE, Kind.REAL, Kind.TRUTH, Kind.CODE})


@dataclass(frozen=True)
class Programme:
    """What a format keeps: its rules for names, and the bytes of its longest text and label."""

    rules: named.Rules
    longest_text: int | None
    longest_label: int


SPSS = Programme(named.SPSS, 32_000, 250)
STATA = Programme(named.STATA, None, 80)
SAS = Programme(named.SAS, 200, 40)


def build_spss(table: Table, kinds: Sequence[Kind], path: Path) -> None:
    """A .sav file. A number that is missing for a reason is a user-missing value with the reason as its label."""
    import pyreadstat

    frame, made = _frame(table, kinds, SPSS, missing=lambda place: float(USER_MISSING - place))
    reasons = {made.name(place): made.reasons(place) for place in made.with_reason}
    pyreadstat.write_sav(
        frame,
        path,
        file_label=_cut(table.label, 60),
        column_labels=made.labels,
        variable_value_labels=made.value_labels(lambda number, _code: USER_MISSING - number),
        missing_ranges={
            name: [{"lo": float(USER_MISSING - len(codes)), "hi": float(USER_MISSING - 1)}]
            for name, codes in reasons.items()
        },
    )
    _put(path, {92: b"01 Jan 80", 101: b"00:00:00"})


def build_stata(table: Table, kinds: Sequence[Kind], path: Path) -> None:
    """A .dta file. A number that is missing for a reason is .a, .b and so on, with the reason as its label."""
    import pyreadstat

    frame, made = _frame(table, kinds, STATA, missing=lambda place: LETTERS[place - 1] if place <= 26 else None)
    letters = {made.name(place): list(LETTERS[: len(made.reasons(place))]) for place in made.with_reason}
    pyreadstat.write_dta(
        frame,
        path,
        file_label=_cut(table.label, 80),
        column_labels=made.labels,
        variable_value_labels=made.value_labels(
            lambda number, _code: LETTERS[number - 1] if number <= len(LETTERS) else None
        ),
        missing_user_values=letters or None,
    )
    with path.open("rb") as file:
        begins = file.read(1000).index(b"<timestamp>") + len(b"<timestamp>") + 1
    _put(path, {begins: b"01 Jan 1980 00:00"})


def build_sas(table: Table, kinds: Sequence[Kind], path: Path) -> None:
    """A version 5 transport file. It has no room for labels of values: they stand in the codebook."""
    import pyreadstat

    frame, made = _frame(table, kinds, SAS, missing=None)
    pyreadstat.write_xport(
        frame,
        path,
        file_label=_cut(table.label, 40),
        column_labels=made.labels,
        table_name=named.names([table.name], named.SAS)[0],
        file_format_version=5,
    )
    clock = b"01JAN80:00:00:00"
    _put(path, {144: clock, 160: clock, 464: clock, 480: clock})


def _put(path: Path, at: Mapping[int, bytes]) -> None:
    """Overwrite the moments at which the library says it wrote the file: the same table gives the same bytes."""
    with path.open("r+b") as file:
        for place, said in at.items():
            file.seek(place)
            file.write(said)


@dataclass
class _Made:
    """What became of the columns: the variables' labels, and of which column there are reasons for missing values."""

    columns: Sequence[Column]
    kinds: Sequence[Kind]
    names: Sequence[str]
    with_reason: Sequence[int]
    labels: dict[str, str | None]

    def name(self, place: int) -> str:
        return self.names[place]

    def reasons(self, place: int) -> Sequence[tuple[str, str]]:
        return self.columns[place].missing_codes

    def value_labels(self, missing: Any) -> dict[str, dict[int | float, str]]:
        """Variable -> value -> label; `missing` gives the value for the reason of this number, from 1, or None."""
        found: dict[str, dict[Any, str]] = {}
        for place, (column, kind) in enumerate(zip(self.columns, self.kinds, strict=True)):
            labels: dict[Any, str] = {}
            if kind is Kind.CODE or (kind is Kind.WHOLE and column.type is ColumnType.FLAG):
                labels = {int(code): _cut(label, 120) for code, label in column.choices}
            elif kind is Kind.TRUTH:
                labels = {int(code == "true"): _cut(label, 120) for code, label in column.choices}
            if place in self.with_reason:
                for number, (code, label) in enumerate(self.reasons(place), start=1):
                    value = missing(number, code)
                    if value is not None:
                        labels[value] = _cut(f"{code}: {label}", 120)
            if labels:
                found[self.names[place]] = labels
        return found


def _frame(table: Table, kinds: Sequence[Kind], programme: Programme, *, missing: Any) -> tuple[Any, _Made]:
    """The whole table as the library takes it: numbers as doubles, dates, and texts that are never None."""
    import polars as pl

    names = named.names([column.name for column in table.columns], programme.rules)
    beside = _reasons_of(table.columns)
    with_reason = [place for place in beside if missing is not None and kinds[place] in NUMBERS]
    codes = {
        place: {code: missing(number) for number, (code, _) in enumerate(table.columns[place].missing_codes, start=1)}
        for place in with_reason
    }
    parts: list[Any] = []
    cells = 0
    for columns in chunks(table, kinds):
        cells += len(columns) * len(columns[0])
        if cells > MOST_CELLS:
            raise Refused(
                f"Files of statistics programmes hold at most {MOST_CELLS:,} cells here. Take the table as Parquet or "
                "CSV, which the R script loads with its labels, or choose fewer visits or instruments."
            )
        series = []
        for place, (column, kind, found) in enumerate(zip(table.columns, kinds, columns, strict=True)):
            values = _values(column, kind, found)
            dtype: Any = _kept_as(kind)
            if place in codes:
                why = columns[beside[place]]
                values = [codes[place].get(w) if v is None else v for v, w in zip(values, why, strict=True)]
                if programme is STATA:
                    dtype = pl.Object
            series.append(pl.Series(names[place], values, dtype=dtype))
        parts.append(pl.DataFrame(series))
    labels: dict[str, str | None] = {
        name: _label(column, kind, programme.longest_label)
        for name, column, kind in zip(names, table.columns, kinds, strict=True)
    }
    made = _Made(table.columns, kinds, names, with_reason, labels)
    if not parts:
        parts.append(
            pl.DataFrame([pl.Series(name, [], dtype=_kept_as(kind)) for name, kind in zip(names, kinds, strict=True)])
        )
    frame = pl.concat(parts)
    if programme is STATA:
        # The library takes letters only in columns that have one; the others are numbers.
        made.with_reason = [
            place for place in with_reason if parts and any(isinstance(v, str) for v in frame[names[place]])
        ]
        numbers = [
            pl.Series(names[place], list(frame[names[place]]), dtype=pl.Float64)
            for place in with_reason
            if place not in made.with_reason
        ]
        frame = frame.with_columns(numbers)
    if programme.longest_text is not None:
        frame = _in_pieces(frame, made, programme)
    return frame, made


def _kept_as(kind: Kind) -> Any:
    """What the library turns into the programme's own kind of number, date, date with its time, or text."""
    import polars as pl

    if kind in NUMBERS:
        return pl.Float64
    return {Kind.DAY: pl.Date, Kind.INSTANT: pl.Datetime("us")}.get(kind, pl.String)


def _label(column: Column, kind: Kind, longest: int) -> str:
    """The label of a variable; of an instant it says that it is in UTC, also where the rest is cut."""
    if kind is not Kind.INSTANT or "UTC" in column.label[:longest]:
        return _cut(column.label, longest)
    return _cut(column.label, longest - len(UTC_SAID)) + UTC_SAID


def _values(column: Column, kind: Kind, found: Sequence[Any]) -> Sequence[Any]:
    match kind:
        case Kind.TEXT:
            return ["" if value is None else value for value in found]
        case Kind.INSTANT:
            return [None if value is None else value.replace(tzinfo=None) for value in found]
        case Kind.CODE:
            numbers = {code: float(code) for code, _ in column.choices}
            try:
                return [None if value is None else numbers[value] for value in found]
            except KeyError:
                raise Misfit(column.name) from None
        case Kind.WHOLE | Kind.REAL | Kind.TRUTH:
            return [None if value is None else float(value) for value in found]
        case _:
            return found


def _reasons_of(columns: Sequence[Column]) -> dict[int, int]:
    """Place of a column -> place of the column that says why there is no answer in it: the next one of that kind."""
    found: dict[int, int] = {}
    waiting: list[int] = []
    for place, column in enumerate(columns):
        if column.type is ColumnType.MISSING:
            found |= dict.fromkeys(waiting, place)
            waiting = []
        elif column.missing_codes and column.name:
            waiting.append(place)
        else:
            waiting = []
    return found


def _in_pieces(frame: Any, made: _Made, programme: Programme) -> Any:
    """Texts longer than the format keeps stand in as many variables as they need, cut between characters."""
    import polars as pl

    assert programme.longest_text is not None
    series: list[Any] = []
    taken = list(made.names)
    for one in frame.iter_columns():
        if one.dtype != pl.String or (one.str.len_bytes().max() or 0) <= programme.longest_text:
            series.append(one)
            continue
        cut = [list(_pieces(text, programme.longest_text)) for text in one]
        count = max(map(len, cut))
        label = made.labels[one.name] or ""
        fresh = named.names([*taken, *(f"{one.name}_{number}" for number in range(2, count + 1))], programme.rules)
        names = [one.name, *fresh[len(taken) :]]
        taken = fresh
        for number, name in enumerate(names):
            series.append(
                pl.Series(name, [each[number] if number < len(each) else "" for each in cut], dtype=pl.String)
            )
            said = f" ({number + 1} of {count})"
            made.labels[name] = _cut(label, programme.longest_label - len(said)) + said
    return pl.DataFrame(series)


def _pieces(text: str, longest: int) -> Iterator[str]:
    while text:
        piece = _cut(text, longest)
        yield piece
        text = text[len(piece) :]


def _cut(text: str, most: int) -> str:
    """The text, or as many of its first characters as there is room for in bytes."""
    return text.encode()[:most].decode(errors="ignore")
