"""What does a REDCap data dictionary say? CSV of 18 columns, with the headings of the page or of the API."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from app.studies.importing.draft import Draft
from app.studies.importing.redcap import Event, Project, Row
from app.studies.importing.redcap import read as read_project
from app.studies.importing.report import Failed

MOST_ROWS = 20_000
LONGEST_CELL = 200_000

_HEADINGS = {
    "variablefieldname": "name",
    "fieldname": "name",
    "formname": "form",
    "sectionheader": "section",
    "fieldtype": "type",
    "fieldlabel": "label",
    "choicescalculationsorsliderlabels": "choices",
    "choicesorcalculations": "choices",
    "selectchoicesorcalculations": "choices",
    "fieldnote": "note",
    "textvalidationtypeorshowslidernumber": "validation",
    "textvalidationmin": "low",
    "textvalidationmax": "high",
    "identifier": "identifier",
    "branchinglogicshowfieldonlyif": "branching",
    "branchinglogic": "branching",
    "requiredfield": "required",
    "customalignment": "alignment",
    "questionnumbersurveysonly": "number",
    "questionnumber": "number",
    "matrixgroupname": "matrix",
    "matrixranking": "ranking",
    "fieldannotation": "annotation",
}
_API = {
    "name": "field_name",
    "form": "form_name",
    "section": "section_header",
    "type": "field_type",
    "label": "field_label",
    "choices": "select_choices_or_calculations",
    "note": "field_note",
    "validation": "text_validation_type_or_show_slider_number",
    "low": "text_validation_min",
    "high": "text_validation_max",
    "identifier": "identifier",
    "branching": "branching_logic",
    "required": "required_field",
    "alignment": "custom_alignment",
    "number": "question_number",
    "matrix": "matrix_group_name",
    "ranking": "matrix_ranking",
    "annotation": "field_annotation",
}
_NEEDED = ("name", "form", "type", "label")


def api_heading(heading: str) -> str:
    """A heading as the API writes it: `Variable / Field Name` is field_name; one of no dictionary stays as it is."""
    return _API.get(_column_of(heading) or "", heading)


def _column_of(heading: str) -> str | None:
    return _HEADINGS.get(re.sub(r"[^a-z]", "", heading.lower()))


def read(text: str, name: str, events: Sequence[Event] = ()) -> Draft:
    """The draft of a dictionary; `Failed` when it is none. `events` are those of the study that it is read for."""
    project = Project(f"the REDCap data dictionary {name}", events=list(events))
    project.rows, project.notes = rows(text)
    return read_project(project)


def is_first_line(cells: Sequence[str]) -> bool:
    """Whether these are the headings of a dictionary."""
    return set(_NEEDED) <= set(map(_column_of, cells))


def rows(text: str) -> tuple[list[Row], list[tuple[str, str, str]]]:
    """The rows in their order, and what of the table itself was left out."""
    lines = _lines(text)
    header_line, header = next(lines, (1, []))
    columns = [_column_of(cell) for cell in header]
    missing = [_API[key] for key in _NEEDED if key not in columns]
    if missing:
        raise Failed(
            f"This is no REDCap data dictionary: its first line lacks {', '.join(missing)}. Download the data "
            "dictionary as CSV from the project's Data Dictionary page, or give an ODM file in XML."
        )
    twice = sorted(column for column, times in Counter(filter(None, columns)).items() if times > 1)
    if twice:
        raise Failed(f"The first line names a column twice ({', '.join(twice)}). Take one of them out.")
    notes = [
        (f"Line {header_line}", f"The column “{cell.strip()[:60]}” is none of a dictionary.", "Nothing.")
        for cell, column in zip(header, columns, strict=True)
        if column is None and cell.strip()
    ]
    found: list[Row] = []
    seen: set[str] = set()
    for line, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if len(found) >= MOST_ROWS:
            raise Failed(f"The dictionary has more than {MOST_ROWS:,} fields. Split it by its forms.")
        row = Row()
        for column, cell in zip(columns, cells, strict=False):
            if column is not None:
                setattr(row, column, cell)
        row.name, row.form, row.type = row.name.strip(), row.form.strip(), row.type.strip().lower()
        row.matrix = row.matrix.strip()
        row.where = f"Line {line}, [{row.name[:60]}]"
        if not row.name or not row.form:
            raise Failed(
                f"Line {line} has no {'field name' if not row.name else 'form name'}. Check the quotes above it, "
                "or fill it in."
            )
        if row.name in seen:
            notes.append(
                (row.where, f"A second field [{row.name[:60]}].", "Conditions mean the last of them: rename one.")
            )
        seen.add(row.name)
        if extra := [cell for cell in cells[len(columns) :] if cell.strip()]:
            notes.append((row.where, f"Cells behind the last column: {' '.join(extra)[:200]}", "Nothing."))
        found.append(row)
    if not found:
        raise Failed("The dictionary has a first line and no fields. Download it again.")
    return found, notes


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of the table with their numbers; commas, semicolons or tabs part cells, as the first line tells."""
    first = text.lstrip("\r\n ").partition("\n")[0]
    outside = re.sub(r"\"[^\"]*\"", "", first)
    delimiter = max(",;\t", key=outside.count)
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    before = 0
    try:
        for cells in reader:
            if before or any(cell.strip() for cell in cells):
                yield before + 1, cells
            before = reader.line_num
    except csv.Error as error:
        words = str(error)
        if "field larger" in words:
            words = f"a cell is longer than {LONGEST_CELL:,} characters; a quote may be missing"
        elif "unexpected end of data" in words:
            words = "a quote is opened and never closed"
        raise Failed(
            f"The table cannot be read near line {reader.line_num}: {words}. Check the quotes there."
        ) from None
