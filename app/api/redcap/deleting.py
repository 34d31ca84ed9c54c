"""What becomes of records? None is deleted or renamed; one repeat of a form, or one row of a group, is taken back."""

from collections.abc import Sequence
from typing import Any

from fastapi.responses import Response

from app.api.redcap.answers import plain
from app.api.redcap.asked import Asked
from app.api.redcap.dictionary import ARM, Sheet, sheet_of
from app.api.redcap.errors import NO_DELETE, Wrong, no_record, not_valid, shown
from app.api.redcap.records import is_there
from app.capture import actions as capture
from app.capture.double.reads import refuse_withheld
from app.capture.reads import entry_of
from app.capture.rules import EntryState, still_asked
from app.foundation.errors import NotAllowed
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.permissions import Permission
from app.studies.definition import cell_parts
from app.studies.in_use import StudyInUse

DELETED = (
    ". Nobody has them here: what was recorded of a participant is never deleted, and every value that there was stays "
    "in the log (21 CFR 11.10(e), ICH E6(R3) 4.2.2). One repeat of a form that was begun by mistake can be marked so, "
    "and one row of a group taken out (instrument and repeat_instance). To correct answers, import them with "
    "overwriteBehavior=overwrite, where a blank takes an answer out; whoever leaves the trial is withdrawn on their "
    "page."
)
RENAMED = (
    "Participants are numbered by the study, without gaps, and a code never changes: it stands in the log, on consents "
    "and on seals. Keep your own number of a participant in a field of a form."
)


def delete(asked: Asked) -> Response:
    """One repeat or one row; never a record. Of a record that is not there, that it is not."""
    call = asked.call
    records = asked.records
    if not records:
        raise not_valid("records")
    _refuse_other_arm(asked)
    gone = [name for name in call.names("records") if not is_there(asked.here, asked.code(name))]
    if gone:
        raise Wrong(
            "One or more of the records provided cannot be deleted because they do not exist in the project. The "
            f"following records do not exist: {', '.join(name for name in gone if name.isprintable())}"
        )
    if call.text("instrument") and call.text("repeat_instance"):
        return _take_back(asked, records)
    raise NotAllowed(NO_DELETE + DELETED, action="record.delete", subject=f"{records[0]}/record")


def rename(asked: Asked) -> Response:
    """Never."""
    _refuse_other_arm(asked)
    if not is_there(asked.here, asked.record):
        raise no_record(asked.call.text("record"))
    raise asked.refused(RENAMED, "record.rename")


def _refuse_other_arm(asked: Asked) -> None:
    if asked.call.text("arm") not in ("", str(ARM)):
        raise not_valid("arm")


def _take_back(asked: Asked, records: Sequence[str]) -> Response:
    """A repeat is marked as entered in error, and counts nowhere; the answers of a row are taken out."""
    here, sheet = asked.here, _sheet(asked)
    why = f"deleted through the REDCap-compatible API by {here.actor.username}"
    for record in records:
        found = participant_by_code(
            here.session, here.the_study, record, by=here.actor, permission=Permission.PARTICIPANT_READ
        )
        assert found.id is not None
        study = here.the_study.at(found.site_id)
        entry = entry_of(here.session, found.id, sheet.visit, sheet.instrument, sheet.repeat)
        where: dict[str, Any] = {"visit": sheet.visit, "instrument": sheet.instrument, "repeat": sheet.repeat}
        who: dict[str, Any] = {"why": why, "by": here.actor, "now": here.now}
        if sheet.row is not None:
            _take_row_out(asked, study, found, sheet, entry, {**where, **who})
            continue
        if entry is None:
            raise _no_instance(asked)
        capture.mark_in_error(here.session, study, found, version=entry.version, **where, **who)
    return plain(len(records))


def _sheet(asked: Asked) -> Sheet:
    call, project = asked.call, asked.project
    form, number = project.form.get(call.text("instrument")), call.number("repeat_instance") or 0
    if form is None:
        raise not_valid("instrument")
    event, sheet = asked.event_for(form, changing=True), None
    if number:
        sheet = sheet_of(project, event, form, number)
    if sheet is None:
        raise not_valid("repeat_instance")
    return sheet


def _no_instance(asked: Asked) -> Wrong:
    call = asked.call
    return Wrong(
        f"There is no instance {call.number('repeat_instance')} of {shown(call.text('instrument'))} to delete."
    )


def _take_row_out(
    asked: Asked, study: StudyInUse, found: Participant, sheet: Sheet, entry: EntryState | None, how: dict[str, Any]
) -> None:
    """Save the form without the row; the others keep their numbers, and the log what stood there."""
    here = asked.here
    refuse_withheld(
        here.session, study.definition, found, sheet.visit, sheet.instrument, by=here.actor, action="entry.save"
    )
    form = study.definition.instrument(sheet.instrument)
    values = still_asked(form, entry.values) if form is not None and entry is not None else {}
    left = {code: value for code, value in values.items() if not _is_of(sheet, code)}
    if entry is None or len(left) == len(values):
        raise _no_instance(asked)
    capture.save_entry(
        here.session,
        study,
        found,
        values=left,
        reasons={code: reason for code, reason in entry.reasons.items() if not _is_of(sheet, code)},
        base_version=entry.version,
        accept_partial=True,
        **how,
    )


def _is_of(sheet: Sheet, code: str) -> bool:
    """Whether this names a cell of the row."""
    parts = cell_parts(code)
    return parts is not None and parts[:2] == (sheet.group, sheet.row)
