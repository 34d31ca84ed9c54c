"""Which files has a record? Those in its fields of type file."""

from dataclasses import dataclass
from typing import Any

from fastapi.responses import Response

from app.api.redcap.answers import download
from app.api.redcap.asked import Asked
from app.api.redcap.dictionary import Field, sheet_of
from app.api.redcap.errors import Wrong, no_record, not_valid, shown
from app.api.redcap.records import is_there
from app.capture import actions as capture
from app.capture.double.reads import refuse_withheld
from app.capture.reads import entry_of
from app.capture.rules import still_asked
from app.foundation.errors import NotFound
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse


@dataclass(frozen=True)
class Place:
    """Where a file belongs: whose it is, in the study as it holds at their site, at which visit, in which field.

    No form that repeats asks for files.
    """

    participant: Participant
    study: StudyInUse
    visit: str
    field: Field

    @property
    def where(self) -> dict[str, Any]:
        """The form, as the rooms name it."""
        return {"visit": self.visit, "instrument": self.field.form}


def export(asked: Asked) -> Response:
    """The file of a field; that it was shown is in the log."""
    _ = asked.exporting
    place, here = _place(asked, Permission.ENTRY_READ), asked.here
    try:
        found = capture.show_sealed(
            here.session,
            place.study,
            place.participant,
            **place.where,
            item=place.field.item.code,
            by=here.actor,
            now=here.now,
        )
    except NotFound:
        found = None
    if found is None:
        raise Wrong(f"There is no file to download for the field '{place.field.name}' of this record.")
    return download(found.data, found.media_type, found.name)


def keep(asked: Asked) -> Response:
    """Keep a file, sealed, as the answer of a field; it stands where another one stood."""
    asked.require_import(Permission.ENTRY_SAVE)
    place, here = _place(asked, Permission.ENTRY_SAVE, changing=True), asked.here
    sent = asked.call.files.get("file")
    if sent is None:
        raise Wrong('No file was sent. Send it in the part "file" of a multipart form.')
    value = capture.keep_file(
        here.session,
        place.study,
        place.participant,
        **place.where,
        item=place.field.item.code,
        data=sent.content,
        name=sent.name,
        by=here.actor,
        now=here.now,
    )
    return _saved(asked, place, value)


def remove(asked: Asked) -> Response:
    """Take a file out of its field; it stays sealed, and in the log."""
    asked.require_import(Permission.ENTRY_SAVE)
    return _saved(asked, _place(asked, Permission.ENTRY_SAVE, changing=True), None)


def _saved(asked: Asked, place: Place, value: object) -> Response:
    here, form = asked.here, place.study.definition.instrument(place.field.form)
    entry = entry_of(here.session, place.participant.id or 0, place.visit, place.field.form)
    values = still_asked(form, entry.values) if entry and form else {}
    values.pop(place.field.item.code, None)
    if value is not None:
        values[place.field.item.code] = value
    capture.save_entry(
        here.session,
        place.study,
        place.participant,
        **place.where,
        values=values,
        reasons=entry.reasons if entry else {},
        base_version=entry.version if entry else 0,
        why=f"imported through the REDCap-compatible API by {here.actor.username}",
        by=here.actor,
        now=here.now,
        accept_partial=True,
    )
    return asked.done()


def _place(asked: Asked, permission: Permission, *, changing: bool = False) -> Place:
    """Where the file is to be; what is wrong with it otherwise."""
    here, call, project = asked.here, asked.call, asked.project
    if not is_there(here, asked.record):
        raise no_record(call.text("record"))
    field = project.field.get(call.text("field"))
    if field is None or not field.is_file:
        raise Wrong(f"The field '{shown(call.text('field'))}' does not exist or is not a 'file' field")
    form = project.form[field.form]
    sheet = sheet_of(project, asked.event_for(form, changing=changing), form, call.instance)
    if sheet is None:
        raise not_valid("repeat_instance")
    participant = participant_by_code(here.session, here.the_study, asked.record, by=here.actor, permission=permission)
    study = here.the_study.at(participant.site_id)
    refuse_withheld(
        here.session,
        study.definition,
        participant,
        sheet.visit,
        field.form,
        by=here.actor,
        action="entry.show_file",
    )
    return Place(participant, study, sheet.visit, field)
