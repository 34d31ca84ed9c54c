"""Mark an entry as entered in error, and take the mark back."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.actions.following import follow_elsewhere
from app.capture.actions.place import About, held_form, pair_of, refuse_if
from app.capture.actions.saving import conflict
from app.capture.actions.signatures import signature_said
from app.capture.actions.weighing import needed_reason
from app.capture.casebook import actions as casebook
from app.capture.queries import actions as queries
from app.capture.reads import ENTRY, SIGNATURE
from app.capture.rules import UNSETTLED, EntryState, why_not_mark_in_error
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse


def mark_in_error(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    repeat: int,
    version: int,
    why: str,
    by: Actor,
    now: datetime,
    undo: bool = False,
) -> EntryState:
    """Mark an entry as entered in error, with the reason; `undo` takes the mark back.

    Nothing is deleted: the answers and their history stay, but count in no score, no export and no signature, and
    its visit can be recorded as missed. The same again changes nothing.
    """
    action = "entry.restore" if undo else "entry.mark_in_error"
    study = study.at(participant.site_id)
    about = About(study, participant, visit, instrument, repeat)
    require(by, Permission.ENTRY_SAVE, site_id=participant.site_id, action=action, subject=about.refusal_subject)
    form, held = held_form(session, about, by=by, action=action, now=now)
    entry = held.entry
    why = needed_reason(why, "Say why it counts after all." if undo else "Say what went wrong.")
    if entry is not None and entry.is_in_error is not undo:
        return entry
    pair = pair_of(session, about, entry)
    reason = why_not_mark_in_error(entry, form, is_unsettled=pair is not None and pair.state in UNSETTLED)
    refuse_if(about, None if undo and entry is not None else reason, action=action)
    assert entry is not None
    if entry.version != version:
        raise conflict(about, entry)
    marked = replace(
        entry,
        in_error_at=None if undo else now,
        in_error_by=None if undo else by.username,
        in_error_why=None if undo else why,
        version=version + 1,
        signed_at=None,
        signed_by=None,
        signed_name=None,
        signed_meaning=None,
        signed_digest=None,
    )
    names = ("in_error_at", "in_error_by", "in_error_why", "version", *SIGNATURE)
    session.execute(update(ENTRY).where(ENTRY.c.id == entry.id).values({name: getattr(marked, name) for name in names}))
    log = [Change("entry.restored" if undo else "entry.marked_in_error", why=why)]
    if entry.is_signed:
        log.append(Change("entry.signature_superseded", old=signature_said(entry), why=why))
    told = about.changes(log)
    values = entry.values if undo else None
    if not undo and held.has_queries:
        told += queries.follow(
            session,
            study,
            participant,
            visit=visit,
            instrument=instrument,
            repeat=repeat,
            findings=(),
            reasons={},
            values=entry.values,
            by=by,
            now=now,
        )
    told += follow_elsewhere(session, about, held.place, set(entry.values), values, by=by, now=now)
    if held.is_signed:
        told += casebook.supersede(session, participant, why=why, by=by, now=now)
    record(session, study.code, told, by=by, now=now)
    return marked
