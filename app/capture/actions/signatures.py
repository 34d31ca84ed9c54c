"""Sign an entry: name, time and meaning, bound to its bytes."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.actions.place import About, held_entry, pair_of, refuse_closed, refuse_if
from app.capture.double import rules as twice
from app.capture.reads import ENTRY, SIGNATURE
from app.capture.rules import (
    MEANINGS,
    EntryState,
    check_meaning,
    digest_of,
    judge_stored,
    signature_holds,
    why_not_sign,
)
from app.foundation.errors import Conflict, Refused
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse


def sign_entry(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    version: int,
    meaning: str,
    by: Actor,
    now: datetime,
    repeat: int = 1,
) -> EntryState:
    """Sign a complete entry: printed name, time and meaning are bound to its bytes (21 CFR 11.50, 11.70).

    The door has made sure just before that it is this person (11.200). Signing again what one has signed changes
    nothing.
    """
    study = study.at(participant.site_id)
    about = About(study, participant, visit, instrument, repeat)
    subject = about.refusal_subject
    require(by, Permission.ENTRY_SIGN, site_id=participant.site_id, action="entry.sign", subject=subject)
    check_meaning(meaning, MEANINGS)
    form = study.definition.instrument(instrument) if study.definition.visit(visit) else None
    entry, judgement = None, None
    if form is not None:
        held = held_entry(session, about, form, by=by)
        refuse_closed(session, about, held.place.lock, action="entry.sign", only_locked=True)
        entry, answers = held.entry, held.answers
        local = now.astimezone(ZoneInfo(held.place.timezone))
        if (stands := pair_of(session, about, entry)) is not None:
            hidden = twice.why_withheld(stands.state, stands.first_by, participant.site_id, by=by)
            refuse_if(about, hidden or twice.why_not_sign(study.definition, stands.state), action="entry.sign")
        if entry is not None:
            judgement = judge_stored(study.definition, form, entry, answers=answers, now=local)
    if entry is not None and entry.version != version:
        raise Conflict(
            "This form was changed after you opened it. Read it again, then sign.",
            current_version=entry.version,
            action="entry.sign",
            subject=subject,
        )
    if entry is not None and signed_so(entry, meaning, by):
        return entry
    reason = why_not_sign(entry, form, judgement)
    if reason is not None or entry is None:
        raise Refused(reason or "", action="entry.sign", subject=subject)
    signed = as_signed(entry, meaning=meaning, by=by, now=now)
    session.execute(
        update(ENTRY).where(ENTRY.c.id == entry.id).values({name: getattr(signed, name) for name in SIGNATURE})
    )
    old = signature_said(entry) if entry.is_signed else None
    change = Change("entry.signed", old=old, new=signature_said(signed))
    record(session, study.code, about.changes([change]), by=by, now=now)
    return signed


def as_signed(entry: EntryState, *, meaning: str, by: Actor, now: datetime) -> EntryState:
    """An entry as it stands once this person has signed it: name, time and meaning, over its bytes as they are."""
    return replace(
        entry,
        signed_at=now,
        signed_by=by.username,
        signed_name=by.name,
        signed_meaning=meaning,
        signed_digest=digest_of(entry),
    )


def signed_so(entry: EntryState, meaning: str, by: Actor) -> bool:
    """Whether this person has signed exactly this with this meaning already."""
    return entry.signed_by == by.username and entry.signed_meaning == meaning and signature_holds(entry)


def signature_said(entry: EntryState) -> dict[str, Any]:
    """A signature as the log has it."""
    return {
        "name": entry.signed_name,
        "username": entry.signed_by,
        "at": entry.signed_at.isoformat() if entry.signed_at else None,
        "meaning": entry.signed_meaning,
        "version": entry.version,
        "digest": entry.signed_digest,
    }
