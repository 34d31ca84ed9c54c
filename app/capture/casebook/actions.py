"""What may I do with a casebook? Sign it as a whole; a later change supersedes the signature, and asks again."""

from datetime import datetime
from typing import Any

from sqlalchemy import Integer, bindparam, func, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.casebook.reads import CASEBOOK, corrected_screening, standing_signature
from app.capture.casebook.rules import (
    MEANINGS,
    Signature,
    casebook_digest,
    holds,
    manifest_of,
    manifest_text,
    why_not_sign,
)
from app.capture.locks.reads import refuse_locked
from app.capture.reads import QUERY, entries_with_values
from app.capture.rules import check_meaning
from app.foundation.errors import Conflict, Refused
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

SUBJECT = "casebook"

_SUPERSEDE = (
    update(CASEBOOK)
    .where(CASEBOOK.c.participant_id == bindparam("of", type_=Integer), CASEBOOK.c.superseded_at.is_(None))
    .returning(CASEBOOK.c.id, CASEBOOK.c.digest, CASEBOOK.c.signed_name)
)
_QUERIES = select(func.count()).where(
    QUERY.c.participant_id == bindparam("of", type_=Integer), QUERY.c.closed_at.is_(None)
)


def sign_casebook(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    meaning: str,
    digest: str,
    by: Actor,
    now: datetime,
) -> Signature:
    """Sign the whole casebook: name, time and meaning are bound to the bytes of every entry (21 CFR 11.50, 11.70).

    `digest` is that of the casebook as it was shown (`casebook_digest`); another one by now is a Conflict. The door has
    made sure just before that it is this person (11.200). Signing again what one has signed changes nothing.
    """
    about: dict[str, Any] = {"action": "casebook.sign", "subject": f"{participant.code}/{SUBJECT}"}
    require(by, Permission.CASEBOOK_SIGN, site_id=participant.site_id, **about)
    check_meaning(meaning, MEANINGS)
    assert participant.id is not None
    # Whoever saves an entry holds the participant, and so waits for this or is waited for.
    refuse_locked(session, study, participant, visit="", **about, alone=True)
    entries = entries_with_values(session, participant.id)
    manifest = manifest_of(entries, corrected_screening(session, participant.id))
    standing = standing_signature(session, participant.id)
    if (
        standing is not None
        and (standing.signed_by, standing.meaning) == (by.username, meaning)
        and holds(standing, participant.code, manifest)
    ):
        return standing
    partial = sum(not entry.is_complete for entry in entries if not entry.is_in_error)
    queries = session.execute(_QUERIES, {"of": participant.id}).scalar_one()
    if reason := why_not_sign(manifest, standing, participant.code, partial=partial, queries=queries):
        raise Refused(reason, **about)
    made = casebook_digest(participant.code, manifest, meaning)
    if made != digest:
        raise Conflict("The casebook changed after you opened it. Read it again, then sign.", **about)
    log = supersede(session, participant, why="Signed again.", by=by, now=now) if standing is not None else []
    row = {
        "study_id": study.id,
        "participant_id": participant.id,
        "manifest": manifest_text(manifest),
        "digest": made,
        "meaning": meaning,
        "signed_at": now,
        "signed_by": by.username,
        "signed_name": by.name,
    }
    number = int(session.execute(insert(CASEBOOK).returning(CASEBOOK.c.id), row).scalar_one())
    new = {
        "name": by.name,
        "username": by.username,
        "at": now.isoformat(),
        "meaning": meaning,
        "digest": made,
        "entries": [list(line) for line in manifest],
    }
    record(session, study.code, [*log, Change("casebook.signed", participant.code, SUBJECT, new=new)], by=by, now=now)
    return Signature(number, manifest, made, meaning, now, by.username, by.name, None, None, None)


def supersede(session: Session, participant: Participant, *, why: str | None, by: Actor, now: datetime) -> list[Change]:
    """End the signature that stands, because an entry or the pre-screen changed; gives what the log says (FDA-19)."""
    values = {"superseded_at": now, "superseded_by": by.username, "superseded_why": why}
    ended = session.execute(_SUPERSEDE.values(values), {"of": participant.id}).all()
    return [
        Change(
            "casebook.signature_superseded",
            participant.code,
            SUBJECT,
            old={"name": row.signed_name, "digest": row.digest},
            why=why,
        )
        for row in ended
    ]
