"""Was an answer compared with its source? A monitor marks it as verified; a later change ends that, and says so."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, bindparam, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.locks.reads import refuse_locked
from app.capture.reads import ENTRY, entry_of
from app.capture.rules import IN_ERROR, EntryState, canonical, form_name
from app.capture.verification.reads import moved_by
from app.capture.verification.rules import CHANGED, State, is_verified, state_of
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.definition import Study
from app.studies.in_use import StudyInUse

_UPDATE = update(ENTRY).where(ENTRY.c.id == bindparam("entry_id", type_=Integer))
_HELD = select(ENTRY.c.id).where(ENTRY.c.id == bindparam("entry_id", type_=Integer)).with_for_update()


def verify_items(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    items: Collection[str],
    version: int,
    by: Actor,
    now: datetime,
    repeat: int = 1,
) -> EntryState:
    """Say of exactly these items that they agree with their source; of any other that had been verified, not any more.

    `version` is the version of the entry that was looked at. The same again changes nothing. Any answer can be
    verified; where the entry stands is decided by those that the study has verified.
    """
    study = study.at(participant.site_id)
    subject = f"{participant.code}/entry/{visit}/{form_name(instrument, repeat)}"
    about: dict[str, Any] = {"action": "entry.verify", "subject": subject}
    require(by, Permission.ENTRY_VERIFY, site_id=participant.site_id, **about)
    form = study.definition.instrument(instrument)
    assert participant.id is not None
    entry = entry_of(session, participant.id, visit, instrument, repeat)
    if entry is None or form is None:
        raise NotFound
    if entry.is_in_error:
        raise Refused(IN_ERROR, **about)
    refuse_locked(session, study, participant, visit=visit, **about)
    session.execute(_HELD, {"entry_id": entry.id})
    entry = entry_of(session, participant.id, visit, instrument, repeat)
    assert entry is not None
    known = {*entry.values, *entry.verified}
    unknown = [item for item in items if item not in known and form.item(item) is None]
    if unknown:
        raise Invalid([FieldProblem("items", "unknown", f"{form.label} does not ask for “{unknown[0]}”. Take it out.")])
    if entry.version != version:
        raise Conflict(
            "This form was changed after you opened it. Compare it with its source again.",
            current_version=entry.version,
            **about,
        )
    verified = {code: said for code, said in entry.verified.items() if code in items or CHANGED in said}
    log = []
    for item in items:
        if is_verified(entry, item):
            continue
        verified[item] = {"by": by.username, "at": now.isoformat(), "version": version}
        log.append(_change("entry.verified", entry, item, new=entry.values.get(item)))
    for item in entry.verified:
        if item not in items and is_verified(entry, item):
            log.append(_change("entry.verification_withdrawn", entry, item, old=entry.values.get(item)))
    if not log:
        return entry
    state = state_of(entry.values, verified, study.definition.items_to_verify(visit, instrument))
    whole = (entry.verified_at or now) if state is State.VERIFIED else None
    row = {"verified": canonical(verified), "verified_at": whole, "verification": state}
    session.execute(_UPDATE, {"entry_id": entry.id, **row})
    record(session, study.code, log, by=by, now=now)
    return replace(entry, verified=verified, verified_at=whole, verification=state)


def follow_study(session: Session, study: StudyInUse, old: Study, participants: Collection[int]) -> None:
    """Put the entries of these participants where they stand by what `study` has verified, which comes after `old`.

    Nothing is verified or taken back by that, so the log says no more than that the version came into force.
    """
    moved = moved_by(session, study, old, participants, hold=True)
    if moved:
        rows = [{"entry_id": each.id, "verification": each.state, "verified_at": each.since} for each in moved]
        session.connection().execute(_UPDATE, rows)


def after_change(entry: EntryState, moved: Collection[str]) -> tuple[Mapping[str, dict[str, Any]], list[Change]]:
    """What stays verified of an entry when these of its items change, and what the log says of the others."""
    verified: dict[str, dict[str, Any]] = dict(entry.verified)
    log = []
    for item in entry.verified:
        if item in moved and is_verified(entry, item):
            verified[item] = {**verified[item], CHANGED: entry.version + 1}
            log.append(Change("entry.verification_ended", item=item, old=entry.values.get(item)))
    return verified, log


def _change(action: str, entry: EntryState, item: str, *, old: object = None, new: object = None) -> Change:
    subject = f"entry/{entry.visit}/{entry.name}"
    return Change(action, entry.participant, subject, item, old, new)
