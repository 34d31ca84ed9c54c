"""What does an expression of these clients see of a record? Values by their names of events and fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from app.api.redcap.dictionary import Event, Group, Project, ticked_in
from app.api.redcap.errors import Wrong, shown
from app.expressions import Expression, ExpressionError, Value, from_stored, parse

Spot = tuple[str, str, int]
"""Visit, instrument and the number of the repeat (1 where nothing repeats)."""


@dataclass(frozen=True)
class Row:
    """One row of an export: a record at an event; or one repeat of one form there."""

    code: str
    event: Event
    group: Group | None
    answers: Mapping[Spot, Mapping[str, object]]
    statuses: Mapping[Spot, str]
    form: str | None = None
    number: int = 1


class Seen:
    """The context of one row."""

    def __init__(self, project: Project, row: Row, now: datetime) -> None:
        self._project, self._row, self.now = project, row, now

    @property
    def today(self) -> date:
        return self.now.date()

    def value(self, event: str | None, field: str, instance: str | None = None) -> Value:
        project, row = self._project, self._row
        if field in (project.record_id, "record-name"):
            return row.code
        if field in ("event-name", "redcap_event_name"):
            return row.event.name
        if field in ("record-dag-name", "redcap_data_access_group"):
            return row.group.name if row.group else None
        at = row.event if event is None or event == "event-name" else project.event.get(event)
        if at is None:
            return None
        number = int(instance) if instance and instance.isdigit() else row.number
        if field in project.complete:
            return row.statuses.get(self._spot(at, project.complete[field].name, number))
        if field in project.option:
            found, option = project.option[field]
            stored = self._stored(at, found.form, number, found.item.code)
            return "1" if option.code in ticked_in(stored) else "0"
        known = project.field.get(field)
        return None if known is None else from_stored(self._stored(at, known.form, number, known.item.code))

    def _spot(self, event: Event, form: str, number: int) -> Spot:
        repeats = self._project.form[form].repeats or event.repeats
        return event.visit, form, number if repeats else 1

    def _stored(self, event: Event, form: str, number: int, item: str) -> object:
        return self._row.answers.get(self._spot(event, form, number), {}).get(item)


def logic_of(text: str, project: Project) -> Expression | None:
    """The condition of filterLogic; an error that says where it is wrong."""
    if not text:
        return None
    try:
        expression = parse(text)
    except ExpressionError as error:
        raise Wrong(f"The filterLogic is not valid: {error}") from None
    known = {project.record_id, "record-name", "event-name", "record-dag-name", "redcap_event_name"}
    known |= {"redcap_data_access_group", *project.field, *project.complete, *project.option}
    if unknown := sorted({each.field for each in expression.references if each.field not in known}):
        listed = ", ".join(f"[{shown(name)}]" for name in unknown)
        raise Wrong(f"The filterLogic is not valid: there is no field {listed}")
    events = {*project.event, "event-name", None}
    if wrong := sorted({each.event or "" for each in expression.references if each.event not in events}):
        listed = ", ".join(f"[{shown(name)}]" for name in wrong)
        raise Wrong(f"The filterLogic is not valid: there is no event {listed}")
    return expression
