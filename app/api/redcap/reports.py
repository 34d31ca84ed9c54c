"""Which reports are there? Number 1 is everything; then one for each form, with the record's name before it."""

from dataclasses import replace

from fastapi.responses import Response

from app.api.redcap.asked import Asked
from app.api.redcap.errors import Wrong, shown
from app.api.redcap.records import Part, sent, wanted_of


def report(asked: Asked) -> Response:
    """A report as flat rows; line breaks in values are spaces."""
    project, said = asked.project, asked.call.text("report_id")
    number = int(said) if said.isascii() and said.isdigit() and len(said) < 6 else 0
    if not 1 <= number <= len(project.forms) + 1:
        raise Wrong(f"The report with report_id={shown(said)} does not exist in this project.")
    wanted = replace(wanted_of(asked, whole=True), plain_text=True)
    if number > 1:
        form = project.forms[number - 2]
        events = tuple(event for event in project.events if form.name in event.forms)
        part = Part(form, form.fields, timestamp=False, complete=True)
        wanted = replace(wanted, parts=(part,), events=events)
    return sent(asked, wanted)
