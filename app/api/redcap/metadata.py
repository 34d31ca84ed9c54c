"""Which fields are there? The dictionary of 18 columns, the columns of an export, the forms."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from fastapi.responses import Response

from app.api.redcap.answers import Listing, plain
from app.api.redcap.asked import Asked
from app.api.redcap.data import Sent, each_once, same_rows
from app.api.redcap.data import rows_of as sent_rows
from app.api.redcap.decoding import Call
from app.api.redcap.dictionary import Field, Form, Project, translated
from app.api.redcap.errors import not_valid_values
from app.studies.definition import Item
from app.studies.importing.redcap_dictionary import api_heading

COLUMNS = (
    "field_name",
    "form_name",
    "section_header",
    "field_type",
    "field_label",
    "select_choices_or_calculations",
    "field_note",
    "text_validation_type_or_show_slider_number",
    "text_validation_min",
    "text_validation_max",
    "identifier",
    "branching_logic",
    "required_field",
    "custom_alignment",
    "question_number",
    "matrix_group_name",
    "matrix_ranking",
    "field_annotation",
)
RECORD_ID_LABEL = "Participant ID"
FIXED = (
    "The data dictionary of this study is its protocol, and a loaded version of a protocol is never changed while "
    "participants are in it. Have an administrator load an amended version instead (equipoise study "
    "load): the log then "
    "shows what changed, and which entries were made under which version."
)

KINDS: dict[str, tuple[str, str]] = {
    "choice": ("radio", ""),
    "choices": ("checkbox", ""),
    "yes_no": ("yesno", ""),
    "integer": ("text", "integer"),
    "number": ("text", "number"),
    "scale": ("slider", "number"),
    "slider": ("slider", "number"),
    "date": ("text", "date_ymd"),
    "date_time": ("text", "datetime_ymd"),
    "time": ("text", "time"),
    "text": ("text", ""),
    "calculated": ("calc", ""),
    "file": ("file", ""),
    "signature": ("file", "signature"),
}
"""Type of item -> field type and validation."""


def dictionary(asked: Asked) -> Response:
    """The data dictionary, or the fields and forms that were named."""
    asked.require_study()
    project = asked.project
    rows = list(rows_of(project))
    fields, forms = asked.call.names("fields"), asked.call.names("forms")
    _refuse_unknown("fields", fields, {row["field_name"] for row in rows})
    _refuse_unknown("forms", forms, project.form)
    if fields or forms:
        rows = [row for row in rows if row["field_name"] in fields or row["form_name"] in forms]
    return asked.answer(Listing(COLUMNS, [tuple(row.values()) for row in rows]))


def import_unchanged(asked: Asked) -> Response:
    """What is there already is counted; a protocol is amended, never overwritten."""
    sent = sent_fields(asked.call)
    if unchanged(sent, list(rows_of(asked.project))):
        asked.require_study()
        return plain(len(sent))
    raise asked.refused(FIXED, "study.change")


def sent_fields(call: Call) -> list[Sent]:
    """The rows of a dictionary, under the headings of the API or of the file that people download and send back."""
    return [each_once((api_heading(name), value) for name, value in row.items()) for row in sent_rows(call)]


def unchanged(sent: list[Sent], present: Sequence[Mapping[str, str]]) -> bool:
    """Whether these fields are the whole dictionary as it is."""
    whole = sorted(str(row.get("field_name", "")) for row in sent) == sorted(row["field_name"] for row in present)
    return whole and same_rows(sent, present, "field_name")


def field_names(asked: Asked) -> Response:
    """Each column of a flat export, and the field and choice that it stands for. Files have none."""
    asked.require_study()
    project = asked.project
    rows = [(project.record_id, "", project.record_id)]
    for form in project.forms:
        for field in form.fields:
            if field.is_checkbox:
                rows += [(field.name, option.code, option.column) for option in field.options]
            elif not field.is_file:
                rows.append((field.name, "", field.name))
        rows.append((form.complete, "", form.complete))
    wanted = asked.call.text("field")
    if wanted:
        rows = [row for row in rows if row[0] == wanted]
        if not rows:
            raise not_valid_values("field", [wanted])
    return asked.answer(Listing(("original_field_name", "choice_value", "export_field_name"), rows))


def instruments(asked: Asked) -> Response:
    """The forms, in their order."""
    asked.require_study()
    rows = [(form.name, form.label) for form in asked.project.forms]
    return asked.answer(Listing(("instrument_name", "instrument_label"), rows))


def _refuse_unknown(parameter: str, names: Sequence[str], known: Mapping[str, object] | set[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise not_valid_values(parameter, unknown)


def rows_of(project: Project) -> Iterator[dict[str, str]]:
    """The rows of the dictionary; the first one is the record's name."""
    first = project.first_form
    yield {
        **dict.fromkeys(COLUMNS, ""),
        "field_name": project.record_id,
        "form_name": first.name,
        "field_type": "text",
        "field_label": RECORD_ID_LABEL,
    }
    for form in project.forms:
        for field in form.fields:
            yield _row(project, form, field)


def _row(project: Project, form: Form, field: Field) -> dict[str, str]:
    item = field.item
    kind, validation = kind_of(field)
    least, most = bounds_of(item)
    return {
        **dict.fromkeys(COLUMNS, ""),
        "field_name": field.name,
        "form_name": form.name,
        "section_header": field.section,
        "field_type": kind,
        "field_label": item.label,
        "select_choices_or_calculations": choices_of(project, field),
        "field_note": note_of(item),
        "text_validation_type_or_show_slider_number": validation,
        "text_validation_min": bound(least),
        "text_validation_max": bound(most),
        "branching_logic": translated(item.shown_if, project),
        "required_field": "y" if item.required and not field.is_calculated else "",
        "field_annotation": "@FORCE-MINMAX" if is_hard(item) else "",
    }


def is_hard(item: Item) -> bool:
    """Whether nothing outside an item's range is stored; REDCap's own ranges only ask."""
    return item.min is not None or item.max is not None


def bounds_of(item: Item) -> tuple[Decimal | None, Decimal | None]:
    """The lowest and the highest value: what is stored, or, where anything is, what is expected."""
    return (item.min, item.max) if is_hard(item) else (item.expected_min, item.expected_max)


def note_of(item: Item) -> str:
    """What stands below a field: the hint, and the unit in brackets."""
    return " ".join(each for each in (item.hint, f"({item.unit})" if item.unit else None) if each)


def kind_of(field: Field) -> tuple[str, str]:
    """Field type and validation."""
    item = field.item
    kind, validation = KINDS[item.type.value]
    if field.is_partial_date:
        validation = ""  # a date of which the day may be missing is a text for these clients
    return ("notes" if kind == "text" and item.multiline else kind), validation


def choices_of(project: Project, field: Field) -> str:
    """Choices as `code, label | code, label`; a calculation; the ends of a scale."""
    item = field.item
    if item.choices:
        return " | ".join(f"{choice.code}, {choice.label.replace('|', '/')}" for choice in item.choices)
    if item.calculation:
        return translated(item.calculation, project)
    if item.low_label or item.high_label:
        return " | ".join((item.low_label or "", "", item.high_label or ""))
    return ""


def bound(number: Decimal | None) -> str:
    """A lowest or highest value in plain digits."""
    if number is None:
        return ""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
