"""Exports: choose a table, see what is in it, take it as a file; and who took what."""

from collections.abc import Sequence
from itertools import islice
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from markupsafe import escape

from app.dependencies import Here, LoggedPageInStudy, PageInStudy, database_of
from app.exports import delivery, reads
from app.exports.formats import Format, text_of
from app.exports.tables import BETWEEN, Column, ColumnType, Table
from app.foundation import clock
from app.foundation.errors import NotFound
from app.web.places import places_of, show_at

router = APIRouter()

ROWS_SHOWN = 10
COLUMNS_SHOWN = 12
COLUMNS_LISTED = 40
LONGEST_CELL = 80
FIGURES = (ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.FLAG)


@router.get("/{study}/exports", name="exports.exports")
def exports(
    here: PageInStudy,
    table: str = "participants",
    format: str = "csv",  # noqa: A002
    arms: Literal["", "dummy"] = "",
) -> Response:
    """Every table, the columns and first rows of the chosen one, and the latest exports."""
    study = here.the_study
    dummy = arms == "dummy"
    tables = reads.catalogue(here.session, study, by=here.actor, dummy=dummy)
    # Somebody who chose a table without room for an arm and then dummy arms sees the first that has it.
    known = table if not dummy or reads.has_arm(table) else tables[0].name
    chosen = next((one for one in tables if one.name == known), None)
    if chosen is None or format not in list(Format):
        raise NotFound
    kind = Format(format)
    places = places_of(here)
    path = f"/{study.code}/exports"
    file = f"{chosen.name}.{kind.extension}{'?spreadsheet=true' if kind is Format.SPREADSHEET else ''}"
    name = delivery.file_name(study, delivery.named(chosen.name, dummy=dummy), kind, here.now)
    return show_at(
        here,
        places,
        "exports/exports.html",
        path=path,
        tables=[(one.name, here.tell(one.label)) for one in tables],
        table=chosen,
        format=kind.value,
        dummy=dummy,
        may_be_dummy=study.definition.is_allocated,
        file_url=f"{path}/{'dummy/' if dummy else ''}{file}",
        file_name=name,
        curl=_curl(here, f"exports{'-dummy' if dummy else ''}/{file}", name),
        columns=[_column_line(column) for column in chosen.columns[:COLUMNS_LISTED]],
        columns_more=max(0, len(chosen.columns) - COLUMNS_LISTED),
        codebook_url=f"{path}?table=codebook{'&arms=dummy' if dummy else ''}",
        preview=_preview(chosen),
        preview_columns=[
            {"key": number, "label": escape(column.name), "align": "end" if column.type in FIGURES else ""}
            for number, column in enumerate(chosen.columns[:COLUMNS_SHOWN])
        ],
        preview_more=max(0, len(chosen.columns) - COLUMNS_SHOWN),
        runs=reads.runs(here.session, study, by=here.actor),
        timezone=places.timezone(),
    )


@router.get("/{study}/exports/{table}.{extension}", name="exports.file")
def file(here: LoggedPageInStudy, table: str, extension: str, spreadsheet: bool = False) -> Response:
    """One table as a file, written down before its first byte leaves."""
    return _sent(here, table, extension, spreadsheet, dummy=False)


@router.get("/{study}/exports/dummy/{table}.{extension}", name="exports.dummy_file")
def dummy_file(here: LoggedPageInStudy, table: str, extension: str, spreadsheet: bool = False) -> Response:
    """One table as a file with dummy arms, to write programmes with before the blind is broken; written down, too."""
    return _sent(here, table, extension, spreadsheet, dummy=True)


def _sent(here: Here, table: str, extension: str, spreadsheet: bool, *, dummy: bool) -> Response:
    sent = delivery.deliver(
        here.session,
        database_of(here.request),
        here.the_study,
        table,
        delivery.format_named(extension, spreadsheet=spreadsheet),
        dummy=dummy,
        by=here.actor,
        clock=clock.now,
    )
    return StreamingResponse(sent.body, media_type=sent.media_type, headers=sent.headers)


def _preview(table: Table) -> list[list[str]]:
    return [[_shortened(text_of(cell)) for cell in row[:COLUMNS_SHOWN]] for row in islice(table.rows, ROWS_SHOWN)]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def _column_line(column: Column) -> dict[str, str]:
    return {
        "name": column.name,
        "label": column.label,
        "type": column.type.value.replace("_", " "),
        "unit": column.unit or "",
        "values": _values(column),
    }


def _values(column: Column) -> str:
    if column.calculation:
        return _shortened(column.calculation)
    if column.choices:
        return _codes([code for code, _ in column.choices])
    if column.minimum is None and column.maximum is None:
        return ""
    return f"{text_of(column.minimum)} … {text_of(column.maximum)}"


def _codes(codes: Sequence[str]) -> str:
    return _shortened(f" {BETWEEN} ".join(codes))


def _curl(here: Here, file: str, name: str) -> str:
    """The same export for a script: with a token that has the scope export.run."""
    address = here.settings.address.rstrip("/")
    return (
        f'curl --fail --output {name} --header "Authorization: Bearer $EQUIPOISE_TOKEN" '
        f"'{address}/api/v1/studies/{here.the_study.code}/{file}'"
    )
