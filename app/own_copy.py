"""What is a participant's own copy of their data? Their casebook as PDF, and all of it as JSON that a program reads.

For whoever asks for access to their data, or to take them elsewhere (GDPR Art. 15, 20). It is made by somebody who may
know who the participant is, and says nothing that its maker must not know: no arm, no session, no judgement.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.double.reads import without_withheld
from app.capture.reads import entries_with_values, place_of
from app.capture.rules import EntryState
from app.casebook import casebook_of
from app.consent.reads import consents_of, options_now
from app.exports.formats.bundle import bundled
from app.foundation.database import Database
from app.foundation.errors import Refused
from app.participants.actions import reveal_identity
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import Actor, may, require
from app.people.permissions import Permission
from app.safety.events.reads import Wanted, events_page
from app.schedule.reads import visits_of
from app.studies.definition import Instrument, Item, Study
from app.studies.in_use import StudyInUse
from app.wording import said, title_of

FORMAT = "equipoise-own-copy-1"
EVENTS = 500  # that are read at once


@dataclass(frozen=True)
class Place:
    """Where the participant takes part: what the site is called, and its time zone."""

    site: str
    timezone: str


def book_of_copy(database: Database, study: StudyInUse, code: str, *, place: Place, by: Actor, now: datetime) -> bytes:
    """The casebook of a copy, from a snapshot of its own: it takes long, and nobody who writes waits for it."""
    with database.reading() as session:
        participant = participant_by_code(session, study, code, by=by, permission=Permission.ENTRY_READ)
        _require(participant, by)
        study = study.at(participant.site_id)
        where = {"site": place.site, "timezone": place.timezone}
        return casebook_of(session, study, participant, **where, by=by, now=now, judged=False)


def own_copy_of(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    book: bytes,
    place: Place,
    by: Actor,
    now: datetime,
) -> bytes:
    """A ZIP of `casebook.pdf`, which is `book_of_copy`, and `data.json`; that it was made, and that it shows who they
    are, is in the log.

    Personal data that were erased are null. What the maker must not see of a form that is entered twice is left out.
    """
    _require(participant, by)
    study = study.at(participant.site_id)
    data = _data(session, study, participant, place=place, by=by, now=now)
    text = json.dumps(data, ensure_ascii=False, indent=1, default=_plain).encode()
    files: Iterator[tuple[str, list[bytes]]] = iter([("casebook.pdf", [book]), ("data.json", [text])])
    made = b"".join(bundled(files))
    record(session, study.code, [Change("participant.copied", participant.code, "own-copy")], by=by, now=now)
    return made


def _require(participant: Participant, by: Actor) -> None:
    about: dict[str, Any] = {"action": "participant.copy", "subject": f"{participant.code}/own-copy"}
    require(by, Permission.IDENTITY_READ, site_id=participant.site_id, **about)
    require(by, Permission.ENTRY_READ, site_id=participant.site_id, **about)


def _plain(value: Any) -> str:
    return str(value.isoformat())


def _data(
    session: Session, study: StudyInUse, participant: Participant, *, place: Place, by: Actor, now: datetime
) -> dict[str, Any]:
    assert participant.id is not None
    number, definition = participant.id, study.definition
    try:
        personal: dict[str, str | None] | None = reveal_identity(
            session, study, participant, by=by, now=now
        ).personal.items()
    except Refused:
        personal = None
    consents = consents_of(session, number)
    entries = entries_with_values(session, number)
    readable = without_withheld(session, definition, participant, entries, by=by)
    screening = place_of(session, number, "", "", by=by).screening
    form = definition.instrument(definition.eligibility.instrument)
    dates = ("screened_on", "consented_on", "randomised_on", "treatment_stopped_on", "withdrawn_on")
    return {
        "format": FORMAT,
        "study": {"code": study.code, "title": definition.title, "version": definition.version},
        "participant": participant.code,
        "site": place.site,
        "timezone": place.timezone,
        "made_at": now,
        "personal_data": personal,
        "status": participant.status,
        **{name: getattr(participant, name) for name in dates},
        "withdrawal_reason": participant.withdrawal_reason,
        "screening": _answers(definition, form, screening) if form is not None else [],
        "consents": [
            {
                "version": one.document_version,
                "language": one.language,
                "how": one.method,
                "signed_on": one.signed_on,
                "withdrawn_on": one.withdrawn_on,
                "refused_at": one.refused_at,
                "options": json.loads(one.options),
            }
            for one in consents
        ],
        "optional_consents": [
            {"code": one.code, "agreed": one.agreed, "since": one.since}
            for one in options_now(session, consents).values()
        ],
        "visits": [
            {
                "code": one.code,
                "label": planned.label if (planned := definition.visit(one.code)) else one.code,
                "target_on": one.target_on,
                "held_on": one.held_on,
                "status": one.status,
            }
            for one in visits_of(session, number)
        ],
        "entries": [_entry(definition, each) for each in readable],
        "adverse_events": _events(session, study, participant, by=by),
    }


def _entry(definition: Study, entry: EntryState) -> dict[str, Any]:
    form = definition.instrument(entry.instrument)
    visit = definition.visit(entry.visit)
    return {
        "visit": entry.visit,
        "visit_label": visit.label if visit else entry.visit,
        "form": entry.instrument,
        "form_label": title_of(form, entry.repeat) if form else entry.name,
        "repeat": entry.repeat,
        "version": entry.version,
        "saved_at": entry.saved_at,
        "entered_in_error": entry.is_in_error,
        "answers": _answers(definition, form, entry.values),
    }


def _answers(definition: Study, form: Instrument | None, values: Any) -> list[dict[str, Any]]:
    """Every stored answer as it is kept and in words; what no version asks any more by its code."""

    def words(item: Item | None, value: object) -> str:
        return said(item, value, definition.missing_codes, definition.language) if item is not None else str(value)

    found = []
    for code, value in values.items():
        item = form.item(code) if form is not None else None
        found.append(
            {
                "item": code,
                "question": item.label if item is not None else code,
                "value": value,
                "answer": words(item, value),
                "unit": item.unit if item is not None else None,
            }
        )
    return found


def _events(session: Session, study: StudyInUse, participant: Participant, *, by: Actor) -> list[dict[str, Any]]:
    """What happened to them, as it was reported; how somebody judges it is the study's."""
    if not may(by, Permission.SAFETY_READ, site_id=participant.site_id):
        return []
    names = ("number", "term", "onset", "severity", "outcome", "serious")
    asked: dict[str, Any] = {"wanted": Wanted(participant=participant.code), "descending": False, "limit": EVENTS}
    found, cursor = [], None
    while True:
        page = events_page(session, study, by=by, cursor=cursor, **asked)
        found += [{name: getattr(row, name) for name in names} for row in page.rows]
        if (cursor := page.next) is None:
            return found
