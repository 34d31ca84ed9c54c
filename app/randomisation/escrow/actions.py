"""What may I do about escrow? Store a public key, have a list's plan encrypted to it when it is sealed, and take it."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import insert, select
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.crypto.cms import BadKey, read_public_key, sealed_for
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.people.access import Actor
from app.people.permissions import Permission
from app.randomisation.commitment import canonical
from app.randomisation.escrow.reads import ESCROW, KEY, SEQUENCE, StoredKey, key_in_use
from app.randomisation.reads import require_statistician
from app.studies.in_use import StudyInUse

STEP = 4096


def store_key(session: Session, study: StudyInUse, *, pem: str, by: Actor, now: datetime) -> StoredKey:
    """Keep the statistician's public key: every list that is sealed from now on is escrowed to it.

    Earlier keys are kept, and what was escrowed to them stays so. Invalid says why this is no key to use.
    """
    require_statistician(study, by, Permission.SEQUENCE_SEAL)
    try:
        found = read_public_key(pem)
    except BadKey as problem:
        raise Invalid([FieldProblem("pem", "key", str(problem))]) from None
    before = key_in_use(session, study, by=by)
    if before is not None and before.fingerprint == found.fingerprint:
        raise Invalid([FieldProblem("pem", "same", "This is the key that is in use already. Nothing is left to do.")])
    session.execute(
        insert(KEY).values(
            study_id=study.id,
            pem=found.pem,
            bits=found.bits,
            fingerprint=found.fingerprint,
            stored_at=now,
            stored_by=by.username,
        )
    )
    change = Change(
        "escrow_key.stored",
        subject="sequence/escrow",
        old=None if before is None else {"sha256": before.fingerprint},
        new={"sha256": found.fingerprint, "bits": found.bits},
    )
    record(session, study.code, [change], by=by, now=now)
    stored = key_in_use(session, study, by=by)
    assert stored is not None
    return stored


def escrow(
    session: Session, sequence_id: int, version: int, plan: Mapping[str, object], key: StoredKey, *, now: datetime
) -> Change:
    """Encrypt a list's opened plan to the key, for `seal`, which writes the returned entry down with its own."""
    text = canonical(plan)
    # White space at the end of JSON says nothing, and without it the length of what is encrypted would tell how many
    # block sizes there are, and of how many digits (CONC-2).
    padded = text.ljust(STEP * -(-len(text) // STEP))
    session.execute(
        insert(ESCROW).values(
            sequence_id=sequence_id, key_id=key.id, encrypted=sealed_for(key.pem, padded), made_at=now
        )
    )
    return Change("seed.escrowed", subject=f"sequence/{version}", new={"sha256": key.fingerprint})


def take_escrow(session: Session, study: StudyInUse, sequence_id: int, *, by: Actor, now: datetime) -> str:
    """The encrypted plan of a list, as CMS in PEM; each taking is an entry. `NotFound` for all but the statistician."""
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    row = session.execute(
        select(ESCROW.c.encrypted, SEQUENCE.c.version, KEY.c.fingerprint)
        .join(SEQUENCE, SEQUENCE.c.id == ESCROW.c.sequence_id)
        .join(KEY, KEY.c.id == ESCROW.c.key_id)
        .where(SEQUENCE.c.id == sequence_id, SEQUENCE.c.study_id == study.id)
    ).first()
    if row is None:
        raise NotFound("This list is not escrowed: it is not sealed, or there was no key when it was.")
    change = Change("escrow.taken", subject=f"sequence/{row.version}", new={"sha256": row.fingerprint})
    record(session, study.code, [change], by=by, now=now)
    return str(row.encrypted)
