"""How does a table become a Parquet file? Typed columns in row groups, written as the rows are read."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

from app.exports.batches import WHY, Batched, Written
from app.exports.formats.typed import EXACT, Kind, Nothing, chunks, fitted_all
from app.exports.tables import Field, Table

ROW_GROUP = 5_000
PIECE = 4_000
"""So many rows are read at a time: fewer take longer, more need memory."""
DAY = r"^(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)-[0-9]{2}-[0-9]{2}$"
"""Of no year 0000, which is one to polars alone."""
TEXT = re.compile('"[^"]*"')
HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half a character of two, which is read as something else."""


def build(table: Table, kinds: Sequence[Kind], path: Path) -> None:
    """Write the file. Its metadata `equipoise` holds what the codebook says of the columns, as JSON."""
    import polars as pl
    from polars.io.plugins import register_io_source

    types: dict[Kind, Any] = {
        Kind.TEXT: pl.String(),
        Kind.CODE: pl.String(),
        Kind.WHOLE: pl.Int64(),
        Kind.REAL: pl.Float64(),
        Kind.TRUTH: pl.Boolean(),
        Kind.DAY: pl.Date(),
        Kind.INSTANT: pl.Datetime("us", "UTC"),
    }
    schema = {column.name: types[kind] for column, kind in zip(table.columns, kinds, strict=True)}
    problems: list[Exception] = []

    def series(name: str, cells: Sequence[Any]) -> Any:
        kind = schema[name]
        if isinstance(cells, Nothing):
            return pl.Series(name, [None], dtype=kind).new_from_index(0, len(cells))
        if kind == types[Kind.INSTANT]:  # all are in UTC; without saying so of each it is five times as quick
            plain = [cell if cell is None else cell.replace(tzinfo=None) for cell in cells]
            return pl.Series(name, plain, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC")
        return pl.Series(name, cells, dtype=kind)

    def frame(columns: Sequence[Sequence[Any]]) -> Any:
        return pl.DataFrame([series(*each) for each in zip(schema, columns, strict=True)])

    def made() -> Iterator[Any]:
        rows = table.rows
        if not isinstance(rows, Batched) or rows.written_of is None:
            yield from map(frame, chunks(table, kinds, rows=PIECE))
            return

        def settled(reading: "Future[Any]", columns: Callable[[], Any]) -> Any:
            found = reading.result()
            return frame(fitted_all(table, kinds, columns())) if found is None else found

        reader = _Reader(schema, rows.fields)
        with ThreadPoolExecutor(1) as aside:  # which needs no interpreter: the next ones are fetched meanwhile
            before = None
            for written, columns in rows.pieces(size=PIECE):
                reading = aside.submit(reader.read, written)
                if before is not None:
                    yield settled(*before)
                before = reading, columns
            if before is not None:
                yield settled(*before)

    def frames(*_asked: object) -> Iterator[Any]:
        # What goes wrong while rows are read would come out of polars as an error of its own, while it still writes: it
        # sees an end instead, closes its file, and what it wrote is thrown away.
        try:
            yield from made()
        except Exception as problem:
            problems.append(problem)

    lazy = register_io_source(frames, schema=schema)
    try:
        lazy.sink_parquet(path, row_group_size=ROW_GROUP, metadata={"equipoise": _said(table)}, engine="streaming")
    except Exception:
        if not problems:
            raise
    if problems:
        raise problems.pop()  # kept in a local name, it would keep its own frame, and what is open there


class _Reader:
    """Reads rows that are written as text into columns of the types of a file.

    Polars refuses whatever is no number, truth or list in a column of such; what it would make a text, skip or take
    twice is found by counting: every key of a document and every quote in it has to be one of what was read.
    """

    def __init__(self, schema: Mapping[str, Any], fields: Sequence[Field]) -> None:
        import polars as pl

        names = iter(schema)
        width = len(schema) - sum((len(field.flags) or 1) + field.missing for field in fields)
        self.heads = {name: _read_as(schema[name]) for name in islice(names, width)}
        self.before = [_typed(pl.col(name), schema[name]) for name in self.heads]
        self.answers: dict[str, Any] = {}
        self.reasons: dict[str, Any] = {}
        self.behind: list[Any] = []
        self.explained: list[Any] = []
        self.days: list[str] = []
        for field in fields:
            code = field.item.code
            if field.flags:
                self.answers[code] = pl.List(pl.String())
                cells = [
                    pl.col(code).list.contains(choice).cast(pl.Int64()).alias(next(names)) for choice in field.flags
                ]
            else:
                kind = schema[name := next(names)]
                self.answers[code] = _read_as(kind)
                self.days += [code] if kind == pl.Date() else []
                cells = [_typed(pl.col(code), kind).alias(name)]
            self.behind += cells
            self.explained += cells
            if field.missing:
                self.reasons[code + WHY] = pl.String()
                self.explained.append(pl.col(code + WHY).alias(name := next(names)))
                self.behind.append(pl.lit(None, pl.String()).alias(name))
        self.lists = [code for code, kind in self.answers.items() if kind == pl.List(pl.String())]
        self.fits = [
            pl.col(pl.Int64()).is_between(-EXACT, EXACT).all(),
            (pl.col(pl.Float64()).abs() < EXACT).all(),
            pl.col(self.days).str.contains(DAY).all(),
        ]

    def read(self, written: Written) -> Any:
        """The columns of these rows; None where one of them cannot keep what is in it."""
        import polars as pl

        documents = written.documents
        if "\\" in documents:
            documents = documents.replace("\\\\", "").replace('\\"', "")
            if HALF.search(documents):
                return None
        schema = {**self.answers, **self.reasons} if written.explained else self.answers
        cells = self.explained if written.explained else self.behind
        try:
            heads = pl.read_csv(written.heads.encode(), has_header=False, schema=self.heads, quote_char=None)
            answers = pl.read_ndjson(written.documents.encode(), schema=schema)
            if heads.height != answers.height or not self._is_all(answers, documents):
                return None
            if not all(chain(*heads.select(self.fits[:1]).rows(), *answers.select(self.fits).rows())):
                return None
            return heads.select(self.before).hstack(answers.select(cells))
        except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError, pl.exceptions.SchemaError):
            return None

    def _is_all(self, answers: Any, documents: str) -> bool:
        """Whether what was read is all that stands there: each answer, and no text that was none."""
        import polars as pl

        missing = answers.null_count().row(0)
        held: dict[str, int] = {
            name: answers.height - nothing for name, nothing in zip(answers.columns, missing, strict=True)
        }
        strings = sum(held[name] for name, kind in answers.schema.items() if kind == pl.String())
        keys, lists = sum(held.values()), sum(held[name] for name in self.lists)
        if self.lists:
            strings += int(sum(answers.select(pl.col(self.lists).list.len().sum()).row(0)))
        # A colon alone is found more quickly than the end of a key; within texts there are few of these.
        if documents.count("[") != lists or (documents.count(":") != keys and documents.count('":') != keys):
            bare = TEXT.sub("", documents)
            if bare.count("[") != lists or bare.count(":") != keys:
                return False
        return documents.count('"') == 2 * (keys + strings)


def _read_as(kind: Any) -> Any:
    """As what a column of this type is read: days and instants as texts."""
    import polars as pl

    return kind if kind.is_numeric() or kind == pl.Boolean() else pl.String()


def _typed(text: Any, kind: Any) -> Any:
    """What was read, as a value of this type."""
    import polars as pl

    if kind == pl.Date():
        return text.str.to_date("%Y-%m-%d")
    if kind == pl.Datetime("us", "UTC"):
        return text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.6fZ", time_unit="us", time_zone="UTC")
    return text


def _said(table: Table) -> str:
    columns = [
        {
            "name": column.name,
            "label": column.label,
            "type": column.type.value,
            "unit": column.unit,
            "choices": [list(pair) for pair in column.choices],
        }
        for column in table.columns
    ]
    return json.dumps({"table": table.name, "label": table.label, "columns": columns}, ensure_ascii=False)
