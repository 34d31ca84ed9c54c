"""What does an expression of these clients see of a record? Values by their names of events and fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from html import escape

from app.api.redcap.dictionary import (
    ARM,
    ARM_NAME,
    SCREENING,
    Event,
    Field,
    Group,
    Project,
    Style,
    encoder,
    event_id,
    sheet_of,
    ticked_in,
)
from app.api.redcap.errors import Wrong, shown
from app.capture.rules import form_name
from app.expressions import Expression, ExpressionError, Value, from_stored, parse

Spot = tuple[str, str, int]
"""Visit, instrument and the number of the repeat (1 where nothing repeats)."""


SMART = frozenset(
    {
        *("record-name", "record-dag-name", "record-dag-label", "record-dag-id", "redcap_data_access_group"),
        *("event-name", "event-label", "event-number", "redcap_event_name", "arm-number", "arm-label"),
        *("instrument-name", "instrument-label", "current-instance", "event-id"),
        *("first-event-label", "last-event-label", "previous-event-label", "next-event-label"),
        *("user-name", "user-fullname", "user-email", "user-dag-name", "user-dag-label", "user-dag-id"),
        *("project-id", "project-status", "project-irb-number", "redcap-version"),
        *("redcap-base-url", "survey-base-url", "new-instance"),
    }
)
"""What these clients ask of a row beside its fields."""
OF_FORMS = frozenset({"form-url", "form-link"})
"""What is asked of a form by its name behind a colon; without one it is that of the row."""
OF_SURVEYS = frozenset({"survey-date-completed", "survey-time-completed"})
"""The same, of a form that participants fill in."""
LEFT_OUT = (
    ("rand-", "nothing of an allocation is in any answer, since blinded people ask too."),
    ("aggregate-", "a condition is about one row."),
    ("user-role-", "people may hold several roles."),
    ("survey-date-started", "when somebody began a form is in no export."),
    ("survey-time-started", "when somebody began a form is in no export."),
    ("survey-duration", "how long somebody took is not kept."),
    (
        "survey-",
        "a link is made for one person, is shown once and ends with their answers; content=surveyLink gives one.",
    ),
    ("calendar-", "the address of a calendar is known to whoever it was made for."),
    ("is-", "an export is neither form nor survey."),
    ("mycap-", "there is no such application."),
)
"""What these clients could ask as well, by how its name begins, and why it is not answered."""
WORDS = ("label", "checked", "unchecked")
"""What may stand behind a field: the words of its answer, of what is ticked, of what is not."""
CURRENT = "event-name"
COMPLETE = "2"
ELSEWHEN = frozenset({"first-event-name", "last-event-name", "previous-event-name", "next-event-name"})
"""Events by where they stand: among those at which the form of the field is filled in."""


@dataclass(frozen=True)
class Row:
    """One row of an export: a record at an event; or one repeat of one form there."""

    code: str
    event: Event
    group: Group | None
    answers: Mapping[Spot, Mapping[str, object]]
    statuses: Mapping[Spot, str]
    times: Mapping[Spot, datetime]
    form: str | None = None
    number: int = 1


class Seen:
    """The context of one row; `about` says who asks, and of which study."""

    def __init__(self, project: Project, row: Row, now: datetime, about: Mapping[str, str]) -> None:
        self._project, self._row, self.now, self._about = project, row, now, about

    @property
    def today(self) -> date:
        return self.now.date()

    def value(self, event: str | None, field: str, instance: str | None = None) -> Value:
        project = self._project
        if field == project.record_id:
            return self._row.code
        if field in SMART:
            return self._smart(field)
        field, _, words = field.partition(":")
        if field in OF_FORMS | OF_SURVEYS:
            return self._of_form(field, words or self._row.form, event, instance)
        form = project.form_of(field)
        at = self._event(event, form) if form is not None else None
        if form is None or at is None:
            return None
        spot = self._spot(at, form, instance)
        if field in project.complete:
            return self._row.statuses.get(spot)
        stored = self._row.answers.get(spot, {})
        if field in project.option:
            found, option = project.option[field]
            return "1" if option.code in ticked_in(stored.get(found.item.code)) else "0"
        found = project.field[field]
        value = stored.get(found.item.code)
        return from_stored(self._words(found, value, words) if words else value)

    def _words(self, field: Field, value: object, which: str) -> str:
        """The words of an answer; of several choices those that are ticked, or that are not."""
        if not field.is_checkbox:
            return encoder(field, Style(labels=True), self._project.missing)(value)[0]
        ticked = ticked_in(value)
        return ", ".join(
            option.label
            for option in field.options
            if (option.code in ticked) is (which != "unchecked") and (which != "unchecked" or not option.is_missing)
        )

    def _of_form(self, name: str, form: str | None, event: str | None, instance: str | None) -> Value:
        """Where a form is, or when a participant completed it: as `form_timestamp`, in UTC."""
        at = self._event(event, form) if form is not None else None
        if form is None or at is None or form not in at.forms:
            return None
        spot = self._spot(at, form, instance)
        if name in OF_SURVEYS:
            if not self._project.form[form].is_survey:
                return None
            time = self._row.times.get(spot) if self._row.statuses.get(spot) == COMPLETE else None
            shape = "%Y-%m-%d" if name == "survey-date-completed" else "%Y-%m-%d %H:%M"
            return None if time is None else time.strftime(shape)
        known = self._project.form[form]
        sheet = sheet_of(self._project, at, known, spot[2])
        if sheet is None:
            return None
        address = f"{self._about['study-address']}/participants/{self._row.code}"
        if sheet.visit != SCREENING:
            address += f"/visits/{sheet.visit}/entries/{form_name(sheet.instrument, sheet.repeat)}"
        return address if name == "form-url" else f'<a href="{escape(address)}">{escape(known.label)}</a>'

    def _smart(self, name: str) -> Value:
        row, group = self._row, self._row.group
        number = str(row.number) if row.form is not None or row.event.repeats else None
        named, labelled, numbered = (group.name, group.label, str(group.id)) if group is not None else (None,) * 3
        said = {
            "record-name": row.code,
            "record-dag-name": named,
            "redcap_data_access_group": named,
            "record-dag-label": labelled,
            "record-dag-id": numbered,
            "event-name": row.event.name,
            "redcap_event_name": row.event.name,
            "event-label": row.event.label,
            "event-number": str(row.event.place),
            "event-id": str(event_id(self._about.get("project-id", ""), row.event)),
            "arm-number": str(ARM),
            "arm-label": ARM_NAME,
            "instrument-name": row.form,
            "instrument-label": self._project.form[row.form].label if row.form is not None else None,
            "current-instance": number,
            "new-instance": None if number is None else str(self._last(row.event, row.form) + 1),
        }
        if name.endswith("-event-label"):
            other = self._beside(name.removesuffix("-event-label"))
            return other.label if other is not None else None
        return said.get(name, self._about.get(name))

    def _beside(self, which: str) -> Event | None:
        """The event before or after that of the row, or the first or the last of all."""
        events, place = self._project.events, self._project.events.index(self._row.event)
        at = {"first": 0, "last": len(events) - 1, "previous": place - 1, "next": place + 1}[which]
        return events[at] if 0 <= at < len(events) else None

    def _event(self, name: str | None, form: str) -> Event | None:
        here = self._row.event
        if name not in ELSEWHEN:
            return here if name in (None, CURRENT) else self._project.event.get(name or "")
        asked = [each for each in self._project.events if form in each.forms]
        if name == "previous-event-name":
            asked = [each for each in asked if each.place < here.place]
        elif name == "next-event-name":
            asked = [each for each in asked if each.place > here.place]
        if not asked:
            return None
        return asked[0] if name in ("first-event-name", "next-event-name") else asked[-1]

    def _spot(self, event: Event, form: str, instance: str | None) -> Spot:
        if not (self._project.form[form].repeats or event.repeats):
            return event.visit, form, 1
        number = self._row.number
        if instance is not None and instance.isdigit():
            number = int(instance)
        elif instance == "first-instance":
            number = 1
        elif instance == "last-instance":
            number = self._last(event, form) or 1
        elif instance == "new-instance":
            number = self._last(event, form) + 1
        elif instance in ("previous-instance", "next-instance"):
            number += 1 if instance == "next-instance" else -1
        return event.visit, form, number

    def _last(self, event: Event, form: str | None) -> int:
        """The last instance of a form at an event, or of the event itself; 0 where there is none."""
        there = (spot[2] for spot in self._row.answers if spot[0] == event.visit and form in (None, spot[1]))
        return max(there, default=0)


def logic_of(text: str, project: Project) -> Expression | None:
    """The condition of filterLogic; an error that says where it is wrong."""
    if not text:
        return None
    try:
        expression = parse(text)
    except ExpressionError as error:
        raise Wrong(f"The filterLogic is not valid: {error}") from None
    known = {project.record_id, *SMART, *project.field, *project.complete, *project.option}
    known |= {f"{name}:label" for name in project.field}
    known |= OF_FORMS | OF_SURVEYS | {f"{name}:{form}" for name in OF_FORMS for form in project.form}
    known |= {f"{name}:{form.name}" for name in OF_SURVEYS for form in project.forms if form.is_survey}
    known |= {f"{name}:{words}" for name, field in project.field.items() if field.is_checkbox for words in WORDS}
    unknown = sorted({each.field for each in expression.references if each.field not in known})
    for name in unknown:
        begun, _, form = name.partition(":")
        if begun in OF_SURVEYS and form in project.form:
            raise Wrong(f"The filterLogic cannot be answered with [{name}]: participants do not fill in that form.")
        if begun in OF_FORMS | OF_SURVEYS:
            continue
        if reason := next((why for begun, why in LEFT_OUT if name.startswith(begun)), None):
            raise Wrong(f"The filterLogic cannot be answered with [{shown(name)}]: {reason}")
    if unknown:
        listed = ", ".join(f"[{shown(name)}]" for name in unknown)
        raise Wrong(f"The filterLogic is not valid: there is no field {listed}")
    events = {*project.event, CURRENT, *ELSEWHEN, None}
    if wrong := sorted({each.event or "" for each in expression.references if each.event not in events}):
        listed = ", ".join(f"[{shown(name)}]" for name in wrong)
        raise Wrong(f"The filterLogic is not valid: there is no event {listed}")
    return expression
