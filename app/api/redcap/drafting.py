"""What is a draft to become? Dictionary, events, mapping and repeats of a study in the making, as clients send them.

A study that is loaded has no such calls. A draft has them for whoever made it with a super token; whatever would make
it no study any more is refused, with the reason, and nothing is changed.
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence

from fastapi.responses import Response

from app.api.redcap.answers import plain
from app.api.redcap.asked import Asked
from app.api.redcap.data import Sent, rows_of
from app.api.redcap.dictionary import ARM, OUTSIDE, SCREENING, Event, Project
from app.api.redcap.errors import Wrong, not_valid_values, shown
from app.api.redcap.events import ONE_ARM, repeating_rows
from app.api.redcap.metadata import COLUMNS, sent_fields, unchanged
from app.api.redcap.metadata import rows_of as dictionary_rows
from app.api.redcap.projects import facts
from app.foundation.clock import today
from app.studies.drafts import designing
from app.studies.drafts.actions import save_files
from app.studies.drafts.designing import Planned
from app.studies.importing import Failed, Kind, convert
from app.studies.importing.redcap import Event as Planning
from app.studies.importing.report import as_markdown


def import_dictionary(asked: Asked) -> Response:
    """Exchange the whole dictionary: its forms are those of the draft from now on, and the pre-screen."""
    sent, present = sent_fields(asked.call), list(dictionary_rows(asked.project))
    if unchanged(sent, present):
        return plain(len(sent))
    if not sent:
        raise Wrong("The dictionary has no fields. Send the whole of it: the forms of the draft are those it has.")
    for place, row in enumerate(sent, 1):
        # Rows that name nothing would be passed over, and with them every form that the draft has.
        if missing := [name for name in COLUMNS[:2] if not str(row.get(name, "")).strip()]:
            raise Wrong(f"Row {place} of the dictionary has no {missing[0]}: every field has a name and a form.")
    names = dict.fromkeys(str(row.get("field_name", "")).strip() for row in sent)
    forms = dict.fromkeys(str(row.get("form_name", "")).strip() for row in sent)
    # The pre-screen stays, and conditions may refer to it, whether or not it was sent.
    kept = [row for row in present[1:] if row["form_name"] not in forms and row["field_name"] not in names]
    screening = [row for row in kept if row["form_name"] in asked.project.events[0].forms]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows([*sent, *screening])
    study, said, events = asked.here.the_study.definition, text.getvalue().encode(), _events(asked.project, forms)
    try:
        with asked.here.nobody_waits():
            found = convert(said, name="metadata", on=today("UTC", asked.here.now), code=study.code, events=events)
    except Failed as reason:
        raise Wrong(str(reason)) from None
    # What the conversion adds for want of a pre-screen, or of its criteria, is not in the dictionary.
    own = found.study.eligibility.instrument
    added = {each.code for each in found.study.eligibility.criteria} - set(names)
    made = {path: data.decode() for path, data in found.files.items() if designing.code_of(path) is not None}
    for path in [path for path in made if designing.code_of(path) == own]:
        if own in forms:
            made[path] = designing.without_items(made[path], added)
        else:
            del made[path]
    order = {code: place for place, code in enumerate(forms)}  # the forms stand there as they were designed
    made = dict(sorted(made.items(), key=lambda each: order.get(designing.code_of(each[0]) or "", len(order))))
    record_id = next(iter(names), "") or None
    notes = [note for note in found.notes if note.kind is not Kind.DEFAULT]
    report = {"README-dictionary.md": as_markdown(study.title, found.source, notes)}
    _change(asked, lambda files: designing.with_instruments(files, made, record_id=record_id) | report)
    return plain(len(sent))


def _events(project: Project, forms: Iterable[str]) -> list[Planning]:
    """Where the forms of a dictionary are asked in the draft: one that is new at the first visit."""
    asked = {name for event in project.events for name in event.forms}
    new = [name for name in forms if name not in asked]
    made = []
    for event in project.events:
        at = list(event.forms)
        if event.visit not in (SCREENING, OUTSIDE):
            at, new = [*at, *new], []
        made.append(Planning(event.name, event.label, forms=at, where=event.name, code=event.visit))
    return made


def import_events(asked: Asked) -> Response:
    """New visits, and other names of those that are there; with override those that are not sent go."""
    sent = rows_of(asked.call)
    planned = [each for row in sent if (each := _planned(asked, row)) is not None]
    replace = asked.call.flag("override")
    _change(asked, lambda files: designing.with_visits(files, planned, replace=replace))
    return plain(len(sent))


def _planned(asked: Asked, row: Sent) -> Planned | None:
    label = " ".join(str(row.get("event_name", "")).split())
    if not label:
        raise Wrong("Every event needs a name in event_name.")
    if str(row.get("arm_num", ARM)).strip() not in ("", str(ARM)):
        raise Wrong(ONE_ARM)
    events = asked.project.events
    known = asked.project.event.get(str(row.get("unique_event_name", "")).strip())
    known = known or next((each for each in events if each.label == label), None)
    if known is not None and known.visit in (SCREENING, OUTSIDE):
        if known.label != label:
            raise Wrong(f"The event {known.name} is called {known.label} in every study. Leave it as it is.")
        return None
    return Planned(
        known.visit if known is not None else None,
        label,
        _days(row, "day_offset"),
        _days(row, "offset_min"),
        _days(row, "offset_max"),
    )


def _days(row: Sent, name: str) -> int | None:
    said = str(row.get(name, "")).strip()
    if not said:
        return None
    if not said.isascii() or not said.isdigit() or len(said) > 4:
        raise Wrong(f"{name} is a number of days, and not {shown(said)}.")
    return int(said)


def delete_events(asked: Asked) -> Response:
    """Take visits out of the plan; the pre-screen stays, and what is outside the plan."""
    names, known = asked.call.names("events"), asked.project.event
    if unknown := [name for name in names if name not in known or known[name].visit in (SCREENING, OUTSIDE)]:
        raise not_valid_values("events", unknown)
    codes = [known[name].visit for name in names]
    _change(asked, lambda files: designing.without_visits(files, codes))
    return plain(len(names))


def import_mapping(asked: Asked) -> Response:
    """Which forms are filled in at which events, the whole of it."""
    sent = rows_of(asked.call)
    if not sent:
        raise Wrong("The mapping has no rows. Send the whole of it: forms are filled in where it says so.")
    _refuse_unknown(asked, sent, "unique_event_name", "form")
    forms: dict[str, list[str]] = {}
    project = asked.project
    for row in sent:
        form = project.form[str(row["form"]).strip()]
        if form.part_of is None:
            forms.setdefault(_event(asked, row, "unique_event_name").visit, []).append(form.name)
    own = sorted(form.name for form in project.screening if form.part_of is None)
    if sorted(forms.pop(SCREENING, own)) != own:  # whoever does not know of it does not send it
        raise Wrong(f"At {project.events[0].name} stands the pre-screen, and nothing else. Leave it as it is.")
    outside = forms.pop(OUTSIDE, [])
    _change(asked, lambda files: designing.with_forms(files, forms, outside))
    return plain(len(sent))


def import_repeating(asked: Asked) -> Response:
    """Which forms repeat, the whole of it. A visit repeats only where it is outside the plan."""
    sent, present = rows_of(asked.call), repeating_rows(asked)
    _refuse_unknown(asked, sent, "event_name", "form_name")
    whole = {(event, form) for event, form, _ in present if not form}
    repeating: list[str] = []
    for row in sent:
        event, name = str(row.get("event_name", "")).strip(), str(row.get("form_name", "")).strip()
        if not name and (event, name) not in whole:
            raise Wrong(
                f"The event {shown(event)} cannot repeat: visits outside the plan do (unscheduled in study.yaml)."
            )
        if name and asked.project.form[name].part_of is None:
            repeating.append(name)
    _change(asked, lambda files: designing.with_repeats(files, repeating))
    return plain(len(sent))


def import_settings(asked: Asked) -> Response:
    """Another title; what is so already is counted, and the rest refused."""
    present = facts(asked)
    sent = {name: str(value).strip() for row in rows_of(asked.call) for name, value in row.items()}
    other = [name for name, value in sent.items() if name != "project_title" and value != str(present.get(name, ""))]
    if other or not sent:
        listed = ", ".join(shown(name) for name in other) or "nothing"
        raise Wrong(f"A draft has these settings as they are; the title is its own. This cannot be set: {listed}.")
    if title := sent.get("project_title"):
        _change(asked, lambda files: designing.with_said(files, title=" ".join(title.split())))
    return plain(len(sent))


def _event(asked: Asked, row: Sent, column: str) -> Event:
    return asked.project.event[str(row.get(column, "")).strip()]


def _refuse_unknown(asked: Asked, sent: Sequence[Sent], event: str, form: str) -> None:
    """Names of events and forms that are none here."""
    for column, known in ((event, asked.project.event), (form, asked.project.form)):
        names = dict.fromkeys(str(row.get(column, "")).strip() for row in sent)
        blank = column in ("event_name", "form_name")
        if unknown := [name for name in names if name not in known and not (blank and not name)]:
            raise not_valid_values(column, unknown)


def _change(asked: Asked, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    here, kept = asked.here, asked.draft
    assert kept is not None
    with here.nobody_waits():
        files = change(dict(kept.texts))
    save_files(here.session, here.the_study, kept, files=files, by=here.actor, now=here.now)
