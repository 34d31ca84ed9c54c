"""Exports: choose what is wanted, see what is in it, take it as a file, now or later; and who took what."""

import json
from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Path, Query
from fastapi.responses import Response
from markupsafe import escape
from pydantic import ValidationError

from app.dependencies import WHOLE_PAGE, ChangeInStudy, Here, LoggedPageInStudy, PageInStudy, is_unattended
from app.exports import actions, delivery, history, reads
from app.exports.choice import Choice, Code
from app.exports.formats import Format, text_of
from app.exports.formats.standards import Standard
from app.exports.tables import BETWEEN, Column, ColumnType, Table
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.handover import Asked, ChangedSince, bundle_file, kept_file, manifest_of, table_file
from app.people.access import require
from app.people.permissions import Permission
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import show, status_of
from app.web.tables import address, kept_as

router = pages()

ROWS_SHOWN = 10
LARGE = 3_000  # entries of a study that is written as a whole: some seconds, of which a browser shows nothing
COLUMNS_SHOWN = 12
COLUMNS_LISTED = 40
LONGEST_CELL = 80
ALL = "all"
ALIGNED = {
    **dict.fromkeys((ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.FLAG), "end"),
    ColumnType.INSTANT: "nowrap",
}
Number = Annotated[int, Path(ge=0, lt=2**31)]


@router.get("/{study}/exports", name="exports.exports")
def exports(
    here: PageInStudy,
    asked: Asked,
    table: str = "participants",
    format: str = "csv",  # noqa: A002
    arms: Literal["", "dummy"] = "",
    since: Annotated[str, Query(max_length=LONGEST_CELL)] = "",
) -> Response:
    """Every table, the columns and first rows of the chosen one, and the latest exports."""
    try:
        return _page(here, asked, table, format, dummy=arms == "dummy", since=_change(since))
    except Invalid as problem:
        if [each.field for each in problem.problems] != ["since"]:
            raise
        return _page(here, asked, table, format, problem=problem)


def _change(typed: str) -> int | None:
    """The change number that was typed, None for everything; what is no number is none that there ever was."""
    typed = typed.strip()
    is_number = typed.isascii() and typed.isdecimal() and len(typed) < len(str(2**31))
    return int(typed) if is_number else -1 if typed else None


def _page(
    here: Here,
    asked: Choice,
    table: str,
    format: str,  # noqa: A002
    *,
    dummy: bool = False,
    since: int | None = None,
    problem: Invalid | None = None,
) -> Response:
    study, since = here.the_study, None if dummy else since
    if format not in [*Format, *Standard]:
        raise NotFound
    kind = Standard(format) if format in list(Standard) else Format(format)
    if isinstance(kind, Standard):
        # It holds the whole study, with its codes: what else may have been chosen before does not go with it.
        table, dummy = ALL, False
        asked = asked.model_copy(update={"values": "codes", "dates": "kept", "ids": "kept"})
    source = reads.source_of(here.session, study, by=here.actor, dummy=dummy, choice=asked, since=since)
    tables = source.catalogue(dummy=dummy)
    # Somebody who chose a table without room for an arm and then dummy arms sees the first that has it.
    known = table if not dummy or table == ALL or reads.has_arm(table) else tables[0].name
    chosen = tables[0] if known == ALL else next((one for one in tables if one.name == known), None)
    if chosen is None:
        raise NotFound
    places = places_of(here)
    path = f"/{study.code}/exports"
    names = () if known == ALL else (chosen.name,)
    choice = asked.model_copy(update={"tables": names, "format": kind, "arms": "dummy" if dummy else "none"})
    name = delivery.name_of(study, choice, here.now, since)
    file = _file_of(choice, since)
    is_definition = isinstance(kind, Standard) and kind.is_definition
    opened = source.shaped(chosen.name)
    return show_at(
        here,
        places,
        "exports/exports.html",
        status_code=status_of(problem),
        path=path,
        tables=[(one.name, here.tell(one.label)) for one in tables],
        table=opened,
        labels={one.name: here.tell(one.label) for one in tables},
        all_of_them=known == ALL,
        is_whole=choice.is_whole,
        is_definition=is_definition,
        format=kind.value,
        dummy=dummy,
        choice=choice,
        since=since,
        typed_since=here.request.query_params.get("since", "") if since is None else since,
        asked=choice.model_dump_json(exclude_defaults=True),
        lists=_lists(here, choice),
        may_be_dummy=study.definition.is_allocated,
        file_url=None if dummy and choice.is_bundle else f"{path}/{'dummy/' if dummy else ''}{file}",
        file_name=name,
        is_large=choice.is_whole
        and not is_definition
        and since is None
        and reads.has_more_entries_than(here.session, study, LARGE),
        script=_script(here, choice, file, since),
        columns=[_column_line(column) for column in opened.columns[:COLUMNS_LISTED]],
        columns_more=max(0, len(opened.columns) - COLUMNS_LISTED),
        codebook_url=f"{path}?table=codebook{'&arms=dummy' if dummy else ''}",
        preview=_preview(opened),
        preview_columns=[
            {"key": number, "label": escape(column.name), "align": ALIGNED.get(column.type, "")}
            for number, column in enumerate(opened.columns[:COLUMNS_SHOWN])
        ],
        preview_more=max(0, len(opened.columns) - COLUMNS_SHOWN),
        runs=reads.runs(here.session, study, by=here.actor),
        definitions=[
            (one, f"{path}?{urlencode(_query_of(one.choice), doseq=True)}")
            for one in history.definitions(here.session, study, by=here.actor)
        ],
        errors={each.field: each.message for each in problem.problems} if problem else {},
        timezone=places.timezone(),
    )


def _lists(here: Here, choice: Choice) -> list[tuple[str, list[tuple[str, str]], tuple[str, ...]]]:
    """What can be left out: the name of the field, what there is, and what is chosen."""
    plan = here.the_study.definition
    planned = {code for visit in plan.visits for code in visit.instruments}
    instruments = [(one.code, one.label) for one in plan.instruments if one.code in planned]
    sites = [(site.code, site.name) for site in places_of(here).sites]
    return [
        ("instrument", instruments, choice.instruments),
        ("visit", [(visit.code, visit.label) for visit in plan.visits], choice.visits),
        ("site", sites if len(sites) > 1 else [], choice.sites),
    ]


@router.get("/{study}/exports/all.zip", name="exports.bundle_file")
def bundle(
    here: LoggedPageInStudy,
    asked: Asked,
    format: Annotated[Format, Query()] = Format.CSV,  # noqa: A002
    table: Annotated[list[Code], Query(max_length=500)] = [],  # noqa: B006
    since: ChangedSince = None,
) -> Response:
    """All tables, or some, as one ZIP, written down before its first byte leaves."""
    return bundle_file(here, asked, format, table, since=since)


@router.get("/{study}/exports/{table}.{extension}", name="exports.file")
def file(
    here: LoggedPageInStudy,
    table: str,
    extension: str,
    asked: Asked,
    spreadsheet: bool = False,
    since: ChangedSince = None,
) -> Response:
    """One table as a file, written down before its first byte leaves."""
    return table_file(here, table, extension, asked, spreadsheet=spreadsheet, since=since)


@router.get("/{study}/exports/dummy/{table}.{extension}", name="exports.dummy_file")
def dummy_file(
    here: LoggedPageInStudy, table: str, extension: str, asked: Asked, spreadsheet: bool = False
) -> Response:
    """One table as a file with dummy arms, to write programmes with before the blind is broken; written down, too."""
    return table_file(here, table, extension, asked, spreadsheet=spreadsheet, dummy=True)


# Made in the background, and saved to be run again


@router.post("/{study}/exports/history", name="exports.make")
def make(here: ChangeInStudy) -> Response:
    """Make what is chosen in the background, or give it a name to be run again."""
    require(here.actor, Permission.EXPORT_RUN, action="export.run", subject="/export")
    study, choice = here.the_study, _typed(here)
    since = _change(here.value("since"))
    if here.value("act") == "define":
        try:
            actions.define(here.session, study, here.value("name"), choice, by=here.actor, now=here.now)
        except Invalid as problem:
            here.refuse(problem)
            table = choice.tables[0] if len(choice.tables) == 1 else ALL
            return _page(here, choice, table, choice.format, dummy=choice.dummy, since=since, problem=problem)
        query = urlencode({**_query_of(choice), "done": "defined"}, doseq=True)
        return here.redirect(f"/{study.code}/exports?{query}")
    name = delivery.name_of(study, choice, here.now, since)
    made = actions.ask(here.session, study, choice, since=since, file_name=name, by=here.actor, now=here.now)
    return here.redirect(f"/{study.code}/exports/history/{made.number}")


def _typed(here: Here) -> Choice:
    try:
        return Choice.model_validate_json(here.value("asked") or "{}")
    except ValidationError:
        message = "This choice cannot be read. Choose again."
        raise Invalid([FieldProblem("asked", "choice", message)]) from None


@router.get("/{study}/exports/history", name="exports.history")
def every_export(here: PageInStudy, cursor: Annotated[str | None, Query(max_length=500)] = None) -> Response:
    """Every export of the study with its fingerprint, newest first."""
    places = places_of(here)
    path = f"/{here.the_study.code}/exports/history"
    page = history.made(here.session, here.the_study, by=here.actor, cursor=cursor)
    return show_at(
        here,
        places,
        "exports/history.html",
        home=f"/{here.the_study.code}/exports",
        path=path,
        rows=page.rows,
        labels=_labels(here),
        older=address(path, {}, cursor=page.next) if page.next else None,
        newer=address(path, {}, cursor=page.previous) if page.previous else None,
        timezone=places.timezone(),
    )


def _labels(here: Here) -> dict[str, str]:
    """What each table is called; one that the study has no more keeps its code."""
    return {one.name: here.tell(one.label) for one in reads.catalogue(here.session, here.the_study, by=here.actor)}


@router.get("/{study}/exports/history/{number}", name="exports.made")
def one_export(here: PageInStudy, number: Number) -> Response:
    """One export: how far it is, its file while it is kept, and its manifest."""
    made = history.made_numbered(here.session, here.the_study, number, by=here.actor)
    if is_unattended(here.request) and not made.is_coming:
        return Response(headers=WHOLE_PAGE)
    return show(
        here,
        "exports/made.html",
        path=f"/{here.the_study.code}/exports",
        made=made,
        labels=_labels(here),
        query=urlencode(_query_of(made.choice), doseq=True),
        since=urlencode({**_query_of(made.choice), "since": made.change}, doseq=True)
        if made.is_done and not made.choice.dummy
        else None,
        why_no_file=history.why_no_file(made, by=here.actor),
        timezone=places_of(here).timezone(),
    )


@router.get("/{study}/exports/history/{number}/file", name="exports.made_file")
def made_file(here: LoggedPageInStudy, number: Number) -> Response:
    """The file of an export that was made in the background; a part of it when a download goes on."""
    return kept_file(here, history.made_numbered(here.session, here.the_study, number, by=here.actor))


@router.get("/{study}/exports/history/{number}/manifest.json", name="exports.manifest_file")
def manifest_file(here: PageInStudy, number: Number) -> Response:
    """The signed manifest of an export, as a file."""
    text = json.dumps(manifest_of(here, number), indent=1, ensure_ascii=False)
    name = f"{here.the_study.code}_export_{number}_manifest.json"
    return Response(text, media_type="application/json", headers=kept_as(name))


def _query_of(choice: Choice) -> dict[str, Any]:
    """The query of the page that shows a choice."""
    found: dict[str, Any] = {
        "table": choice.tables[0] if len(choice.tables) == 1 else ALL,
        "format": choice.format.value,
    }
    if choice.dummy:
        found["arms"] = "dummy"
    return {**found, **_shape_of(choice)}


def _shape_of(choice: Choice) -> dict[str, Any]:
    """What is asked of a file beside its table and format, as its address says it."""
    found: dict[str, Any] = {"instrument": choice.instruments, "visit": choice.visits, "site": choice.sites}
    for name, plain in (("values", "codes"), ("dates", "kept"), ("ids", "kept")):
        if (value := getattr(choice, name)) != plain:
            found[name] = value
    return {name: value for name, value in found.items() if value}


def _file_of(choice: Choice, since: int | None = None) -> str:
    """Where the file of a choice is, or of what changed in it since, below the exports."""
    query = _shape_of(choice) if since is None else {**_shape_of(choice), "since": since}
    if choice.is_whole:
        name = f"{ALL}.{choice.format.extension}"
    elif choice.is_bundle:
        name = "all.zip"
        query = {**({"format": choice.format.value} if choice.format is not Format.CSV else {}), **query}
    else:
        name = f"{choice.tables[0]}.{choice.format.extension}"
        query = {**({"spreadsheet": "true"} if choice.format is Format.SPREADSHEET else {}), **query}
    return f"{name}?{urlencode(query, doseq=True)}" if query else name


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


READERS = {
    Format.CSV: "pandas.read_csv(name)",
    Format.SPREADSHEET: "pandas.read_csv(name)",
    Format.JSON: "pandas.read_json(name)",
    Format.NDJSON: "pandas.read_json(name, lines=True)",
    Format.XLSX: 'pandas.read_excel(name, sheet_name="Rows")',
    Format.PARQUET: "pandas.read_parquet(name)",
    Format.SPSS: "pandas.read_spss(name)",
    Format.STATA: "pandas.read_stata(name)",
    Format.SAS: 'pandas.read_sas(name, format="xport", encoding="utf-8")',
}
IN_R = {
    Format.CSV: "read.csv(name)",
    Format.SPREADSHEET: "read.csv(name)",
    Format.JSON: "jsonlite::fromJSON(name)",
    Format.NDJSON: "jsonlite::stream_in(file(name))",
    Format.XLSX: 'readxl::read_excel(name, sheet = "Rows")',
    Format.PARQUET: "arrow::read_parquet(name)",
    Format.SPSS: "haven::read_sav(name, user_na = TRUE)",
    Format.STATA: "haven::read_dta(name)",
    Format.SAS: "haven::read_xpt(name)",
    Format.R: "source(name)",
}


def _script(here: Here, choice: Choice, file: str, since: int | None) -> dict[str, str | None]:
    """What the same export takes in a script: its addresses over REST, and what reads the file in Python and in R.

    `url` is the file as it is made while it leaves, None where there is none; `asked` is what `runs` makes of it in the
    background. `asked` stands between single quotes in each of the languages.
    """
    study = f"{here.settings.address.rstrip('/')}/api/v1/studies/{here.the_study.code}"
    exports = f"{study}/exports{'-dummy' if choice.dummy else ''}"
    readable, everything = not choice.is_bundle, _file_of(choice)
    asked = {"asked": choice.said(), **({} if since is None else {"since": since})}
    return {
        "url": None if choice.dummy and choice.is_bundle else f"{exports}/{file}",
        "next": None if choice.dummy else f"{exports}/{everything}{'&' if '?' in everything else '?'}since=",
        "runs": f"{study}/export-runs",
        "asked": json.dumps(asked).replace("'", "\\u0027"),
        "python": READERS.get(choice.format) if readable and isinstance(choice.format, Format) else None,
        "r": IN_R.get(choice.format) if readable and isinstance(choice.format, Format) else None,
    }
