"""When is what asked? The one arm, events (pre-screen and visits), their forms, and what repeats."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import Response

from app.api.redcap.answers import Listing, Row, plain
from app.api.redcap.asked import Asked
from app.api.redcap.data import Sent, rows_of, same_rows
from app.api.redcap.dictionary import ARM, ARM_NAME, event_id
from app.api.redcap.errors import NO_REPEATING, Wrong, not_valid_values
from app.api.redcap.metadata import FIXED

ARM_COLUMNS = ("arm_num", "name")
EVENT_COLUMNS = ("event_name", "arm_num", "unique_event_name", "custom_event_label", "event_id")
MAPPING_COLUMNS = ("arm_num", "unique_event_name", "form")
REPEATING_COLUMNS = ("event_name", "form_name", "custom_form_label")
ONE_ARM = (
    "There is one arm here, Arm 1, whatever the arms of the trial are: who is in which is sealed, and "
    "stands in nothing "
    "that this API answers. "
)


def arms(asked: Asked) -> Response:
    """The one arm."""
    asked.require_study()
    return asked.answer(Listing(ARM_COLUMNS, _arms(asked), "arm"))


def _arms(asked: Asked) -> list[Row]:
    wanted = asked.call.names("arms")
    return [(ARM, ARM_NAME)] if not wanted or str(ARM) in wanted else []


def events(asked: Asked) -> Response:
    """The pre-screen and the visits, in the order of the plan."""
    asked.require_study()
    return asked.answer(Listing(EVENT_COLUMNS, _events(asked) if _arms(asked) else [], "event"))


def _events(asked: Asked) -> list[Row]:
    study = asked.here.the_study.id
    return [(each.label, ARM, each.name, "", event_id(study, each)) for each in asked.project.events]


def mapping(asked: Asked) -> Response:
    """Which form is filled in at which event."""
    asked.require_study()
    return asked.answer(Listing(MAPPING_COLUMNS, _mapping(asked) if _arms(asked) else []))


def _mapping(asked: Asked) -> list[Row]:
    return [(ARM, event.name, form) for event in asked.project.events for form in event.forms]


def repeating(asked: Asked) -> Response:
    """Which forms repeat, and at which events."""
    asked.require_study()
    rows = repeating_rows(asked)
    if not rows:
        raise Wrong(NO_REPEATING)
    return asked.answer(Listing(REPEATING_COLUMNS, rows))


def repeating_rows(asked: Asked) -> list[Row]:
    """What repeats: event, form (blank for a whole event) and a label, which is blank."""
    project = asked.project
    rows: list[Row] = []
    for event in project.events:
        if event.repeats:
            rows.append((event.name, "", ""))  # the whole event repeats
        rows += [(event.name, form, "") for form in event.forms if project.form[form].repeats]
    return rows


def import_arms(asked: Asked) -> Response:
    """What is there already is counted; nothing else is taken."""
    return _unchanged(asked, ARM_COLUMNS, _arms(asked), "arm_num", ONE_ARM, replaces=asked.call.flag("override"))


def import_events(asked: Asked) -> Response:
    """As `import_arms`."""
    sent = rows_of(asked.call)
    key = "unique_event_name" if all(row.get("unique_event_name") for row in sent) else "event_name"
    return _unchanged(asked, EVENT_COLUMNS, _events(asked), key, "", replaces=asked.call.flag("override"))


def import_mapping(asked: Asked) -> Response:
    """As `import_arms`; it replaces the whole, so that fewer rows would be another plan."""
    rows = _mapping(asked)
    sent = rows_of(asked.call)
    if {_key(row) for row in sent} == {f"{event}/{form}" for _, event, form in rows}:
        asked.require_study()
        return plain(len(sent))
    raise asked.refused(FIXED, "study.change")


def _key(row: Sent) -> str:
    return f"{row.get('unique_event_name', '')}/{row.get('form', '')}"


def import_repeating(asked: Asked) -> Response:
    """As `import_mapping`."""
    sent = rows_of(asked.call)
    if {(row.get("event_name", ""), row.get("form_name", "")) for row in sent} == {
        (event, form) for event, form, _ in repeating_rows(asked)
    }:
        asked.require_study()
        return plain(len(sent))
    raise asked.refused(FIXED, "study.change")


def delete_arms(asked: Asked) -> Response:
    """Never."""
    _refuse_unknown(asked, "arms", {str(ARM): None})
    raise asked.refused(ONE_ARM + _fixed(asked), "study.change")


def delete_events(asked: Asked) -> Response:
    """Never."""
    _refuse_unknown(asked, "events", asked.project.event)
    raise asked.refused(FIXED, "study.change")


def _refuse_unknown(asked: Asked, parameter: str, known: Mapping[str, object]) -> None:
    names = asked.call.names(parameter)
    if unknown := [name for name in names if name not in known]:
        raise not_valid_values(parameter, unknown)


def _unchanged(
    asked: Asked, columns: tuple[str, ...], present: list[Row], key: str, before: str, *, replaces: bool
) -> Response:
    sent = rows_of(asked.call)
    known: list[Mapping[str, Any]] = [dict(zip(columns, row, strict=True)) for row in present]
    whole = not replaces or len(sent) == len(known)
    if sent and whole and same_rows(sent, known, key):
        asked.require_study()
        return plain(len(sent))
    raise asked.refused((before + _fixed(asked)).strip(), "study.change")


def _fixed(asked: Asked) -> str:
    """Why nothing else is taken; of a draft, of which events can be exchanged, what is said before is all."""
    return FIXED if asked.draft is None else ""
