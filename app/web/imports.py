"""Import: upload a file, say what its columns mean, try it, read what would happen, then import it."""

from collections import Counter, deque
from datetime import date
from itertools import islice
from typing import Any

from fastapi.responses import Response

from app.capture.rules import named_form
from app.dependencies import (
    LARGEST_UPLOAD,
    ChangeInStudy,
    Here,
    PageInStudy,
    SentFiles,
    newest_entry,
    remembering,
    require_password,
)
from app.foundation.errors import Conflict, FieldProblem, Invalid, Refused
from app.importing import Report, carry_out
from app.imports import actions, reads
from app.imports.rules import FileMapping, Source, To, guessed, read_csv, require_who, text_of
from app.participants.rules.personal import LABELS
from app.people.access import require
from app.people.permissions import Permission
from app.studies.definition import ItemType, Study
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import errors_of, status_of

router = pages()

ROWS_SHOWN = 300
ROWS_LOOKED_AT = 2000
VISITS_SHOWN = 30


@router.get("/{study}/import", name="imports.imports")
def imports(here: PageInStudy) -> Response:
    """Upload a file, and one's latest ones."""
    return _start(here)


def _start(here: Here, problem: Invalid | None = None) -> Response:
    study, places = here.the_study, places_of(here)
    return show_at(
        here,
        places,
        "imports/imports.html",
        status_code=status_of(problem),
        path=f"/{study.code}/import",
        files=reads.files_of(here.session, study, by=here.actor),
        mappings=[(each.name, each.name) for each in reads.mappings(here.session, study, by=here.actor)],
        errors=errors_of(problem),
        chosen=here.value("mapping"),
        timezone=places.timezone(),
    )


@router.post("/{study}/import", name="imports.upload", max_body_size=LARGEST_UPLOAD)
def upload(here: ChangeInStudy, files: SentFiles) -> Response:
    """Keep a file, sealed, until it is imported; its columns are matched to items by their names at first."""
    require(here.actor, Permission.DATA_IMPORT, action=actions.ACTION, subject=actions.SUBJECT)
    sent = files.get("file")
    try:
        if sent is None:
            raise Invalid([FieldProblem("file", "required", "Choose a CSV file.")])
        with here.nobody_waits():
            header, rows = read_csv(text_of(sent.data))
            deque(rows, maxlen=0)  # what is no CSV further down is said here, where another file can be chosen
            named = here.value("mapping")
            at_first = None if named else guessed(here.the_study.definition, header, rows)
        mapping = at_first or reads.mapping_named(here.session, here.the_study, named, by=here.actor)
        number = actions.keep_file(
            here.session, here.the_study, sent.name, sent.data, mapping, by=here.actor, now=here.now
        )
    except Invalid as problem:
        here.refuse(problem)
        return _start(here, problem)
    return here.redirect(f"/{here.the_study.code}/import/{number}")


@router.get("/{study}/import/{number}", name="imports.file")
def file(here: PageInStudy, number: int) -> Response:
    """What the columns of a file mean, to be set right and tried."""
    return _page(here, number)


@router.post("/{study}/import/{number}", name="imports.carry_out")
def carry_file_out(here: ChangeInStudy, number: int) -> Response:
    """Try the file and take it back, or import it: all or nothing, or each row by itself."""
    require(here.actor, Permission.DATA_IMPORT, action=actions.ACTION, subject=actions.SUBJECT)
    study, dry_run = here.the_study, here.value("do") != "import"
    uploaded, text = reads.file_of(here.session, study, number, by=here.actor)
    try:
        if not uploaded.waits:
            raise Refused("This file is imported already. Upload it again to see what it would change now.")
        header, rows = read_csv(text)
        mapping = _typed(here, header, uploaded.mapping)
        require_who(mapping, header)
        if not dry_run and here.value("name"):
            actions.save_mapping(here.session, study, here.value("name"), mapping, by=here.actor, now=here.now)
        password = here.form.get("password", [""])[-1]
        if password:
            require_password(here, password)
        actions.map_file(here.session, study, number, mapping, by=here.actor)
        here.session.commit()  # what its columns mean stays, whatever comes of its rows
        here.release_key()
        whole = here.value("whole") == "yes"
        report = carry_out(
            here.session,
            study,
            rows,
            mapping,
            origin=actions.Origin(uploaded.name, uploaded.sha256),
            dry_run=dry_run,
            all_or_nothing=whole,
            signs=bool(password),
            newest=newest_entry(here) if mapping.randomise_after else None,
            by=here.actor,
            now=here.now,
        )
        if report.imported:
            actions.close_file(here.session, study, number, report.counts, by=here.actor, now=here.now)
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _page(here, number, problem=problem)
    page = _page(here, number, report=report, tried=dry_run)
    return remembering(here, page) if report.imported and mapping.randomise_after else page


COLUMN, VISIT = "column.", "visit."


def _typed(here: Here, header: list[str], before: FileMapping) -> FileMapping:
    """The mapping as the form says it; what the page does not ask (how new people are screened) stays as it was."""
    kept = {to.column: to for to in before.columns}
    columns = []
    for position, name in enumerate(header):
        instrument, _, item = here.value(f"{COLUMN}{position}").partition(".")
        if item:
            old = kept.get(name)
            columns.append(To(column=name, item=item, instrument=instrument, values=old.values if old else {}))
    visits = {
        here.value(f"{VISIT}text.{position}"): here.value(f"{VISIT}{position}")
        for position in range(VISITS_SHOWN)
        if here.value(f"{VISIT}{position}")
    }
    column, fixed = here.value("visit_column"), here.value("visit")
    visit = Source(column=column, values={**before.visit.values, **visits}) if column else Source(value=fixed or None)
    held = here.value("held_on")
    return before.model_copy(
        update={
            "participant": here.value("participant"),
            "visit": visit,
            "columns": tuple(columns) if before.layout == "wide" else before.columns,
            "held_on": Source(column=held) if held else None,
            "late": here.value("late") or None,
            "decimal": "," if here.value("decimal") == "," else ".",
            "days": here.value("days") if here.value("days") in ("dmy", "mdy") else "ymd",
            "blank": tuple(here.value("blank").split()),
            "missing": here.value("missing") or None,
            "why": here.value("why") or None,
            "accept_partial": here.value("partial") == "yes",
        }
    )


def _page(
    here: Here,
    number: int,
    *,
    problem: Invalid | Refused | Conflict | None = None,
    report: Report | None = None,
    tried: bool = False,
) -> Response:
    study, places = here.the_study, places_of(here)
    uploaded, text = reads.file_of(here.session, study, number, by=here.actor)
    definition = study.definition
    header: list[str] = []
    seen: Counter[str] = Counter()
    if text:
        header, rows = read_csv(text)
        column = uploaded.mapping.visit.column
        seen = Counter(str(cells.get(column, "")).strip() for cells in islice(rows, ROWS_LOOKED_AT)) if column else seen
    mapping = uploaded.mapping
    return show_at(
        here,
        places,
        "imports/file.html",
        status_code=status_of(problem),
        path=f"/{study.code}/import",
        file=uploaded,
        header=header,
        header_options=[(name, name) for name in header],
        mapping=mapping,
        targets=_targets(definition),
        chosen={to.column: _chosen(definition, to) for to in mapping.columns},
        visits=[(visit.code, visit.label) for visit in definition.visits],
        recoded=_recoded(definition, mapping, seen),
        missing_codes=[(each.code, each.label) for each in definition.missing_codes],
        errors=errors_of(problem),
        refused=problem.reason if isinstance(problem, Refused | Conflict) else None,
        typed={name: here.value(name) for name in here.form},
        report=_shown(here, report) if report else None,
        counts=dict(report.counts) if report else uploaded.counts,
        tried=tried,
        imported=report.imported if report else not uploaded.waits,
        labels=LABELS,
        signs=mapping.new is not None and mapping.new.consent is not None,
        timezone=places.timezone(),
    )


def _targets(study: Study) -> list[tuple[str, str]]:
    return [
        (f"{form.code}.{item.code}", f"{form.short or form.label}: {item.label}")
        for form in study.instruments
        for item in form.items
        if item.type is not ItemType.CALCULATED
    ]


def _chosen(study: Study, to: To) -> str:
    """The value of the choice that stands for what a column answers."""
    if to.instrument:
        return f"{to.instrument}.{to.item}"
    form = next((form for form in study.instruments if form.item(to.item) is not None), None)
    return f"{form.code}.{to.item}" if form else ""


def _recoded(study: Study, mapping: FileMapping, seen: Counter[str]) -> list[tuple[str, str]]:
    """The texts that stand for visits in the file and are no visit's code, with the visit each is taken for."""
    unknown = [text for text in seen if text and study.visit(text) is None]
    return [(text, str(mapping.visit.values.get(text) or "")) for text in unknown[:VISITS_SHOWN]]


def _shown(here: Here, report: Report) -> list[dict[str, Any]]:
    """The rows that a person must look at first, in the words of the study: refused, then changed, then the rest."""
    weight = {outcome: place for place, outcome in enumerate(("refused", "changed", "created", "left", "unchanged"))}
    found = list(islice(report.outcomes(), 20 * ROWS_SHOWN))
    rows = sorted(found, key=lambda each: weight[each["outcome"]])[:ROWS_SHOWN]
    return [_in_words(here, row, imported=report.imported) for row in rows]


def _in_words(here: Here, row: dict[str, Any], *, imported: bool) -> dict[str, Any]:
    study = here.the_study.definition
    visit, form = study.visit(row["visit"] or ""), study.instrument(named_form(row["instrument"] or "")[0])
    items = {item.code: item.label for item in form.items} if form else {}
    is_there = imported and row["outcome"] not in ("refused", "left")
    return row | {
        "line": row["row"] + 1,  # as a spreadsheet counts, for which the names of the columns are the first row
        "visit": visit.label if visit else row["visit"],
        "form": form.label if form else row["instrument"],
        "url": f"/{here.the_study.code}/participants/{row['participant']}" if is_there else None,
        "errors": [(items.get(each.get("field", "")), each["message"]) for each in row["errors"]],
        "candidates": [
            each
            | {
                "url": f"/{here.the_study.code}/participants/{each['code']}",
                "line": each["like_row"] + 1 if each["like_row"] else None,
                "screened_on": date.fromisoformat(each["screened_on"]) if each["screened_on"] else None,
            }
            for each in row["candidates"]
        ],
        "changes": [each | {"label": items.get(each["item"], each["item"])} for each in row["changes"]],
    }
