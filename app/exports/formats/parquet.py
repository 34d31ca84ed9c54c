"""How does a table become a Parquet file? Typed columns in row groups, written as the rows are read."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from app.exports.batches import Batched, Written
from app.exports.formats.typed import EXACT, Kind, Nothing, chunks, fitted_all
from app.exports.tables import Table

ROW_GROUP = 5_000
PIECE = 4_000
"""So many rows are read at a time: fewer take longer, more need memory."""


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

        with ThreadPoolExecutor(1) as reader:  # which needs no interpreter: the next ones are written meanwhile
            before = None
            for written, columns in rows.pieces(size=PIECE):
                reading = reader.submit(_read, written, schema)
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


def _read(written: Written | None, schema: Mapping[str, Any]) -> Any:
    """The columns that stand in a text; None without one, or when a column of this type cannot keep what is in it.

    Of strings the quotes are read as well, so that no number is taken for one, nor one for a number.
    """
    import polars as pl

    if written is None:
        return None
    names = list(schema)
    empty = [names[place] for place in written.empty]
    plain = {
        name: kind if kind.is_numeric() or kind == pl.Boolean() else pl.String()
        for name, kind in schema.items()
        if name not in empty
    }
    try:
        frame = pl.read_csv(written.text.encode(), has_header=False, schema=plain, quote_char=None)
        texts = [names[place] for place in written.quoted if schema[names[place]] == pl.String()]
        days = [name for name, kind in schema.items() if kind == pl.Date()]
        instants = [name for name, kind in schema.items() if kind == pl.Datetime("us", "UTC")]
        fits = [
            pl.col(texts).str.contains('^"[^"]*"$').all(),
            pl.col(days).str.contains(r'^"\d{4}-\d\d-\d\d"$').all(),
            pl.col(pl.Int64()).is_between(-EXACT, EXACT).all(),
            (pl.col(pl.Float64()).abs() < EXACT).all(),
        ]
        if not all(frame.select(fits).row(0)):
            return None
        return frame.with_columns(
            pl.col(texts).str.strip_chars('"'),
            pl.col(days).str.to_date('"%Y-%m-%d"'),
            pl.col(instants).str.to_datetime("%Y-%m-%dT%H:%M:%S%.6fZ", time_unit="us", time_zone="UTC"),
            *(pl.Series(names[place], typed, dtype=pl.String()) for place, typed in written.typed.items()),
            *(pl.lit(None, pl.String()).alias(name) for name in empty),
        ).select(names)
    except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError):
        return None


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
