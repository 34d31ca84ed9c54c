"""What may I see of escrow? The statistician which key is in use and which lists are escrowed, nobody else anything."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlmodel import Session

from app.foundation.database import table_of
from app.people.access import Actor
from app.people.permissions import Permission
from app.randomisation.models import AllocationSequence, EscrowKey, SeedEscrow
from app.randomisation.reads import require_statistician
from app.studies.in_use import StudyInUse

KEY, ESCROW = table_of(EscrowKey), table_of(SeedEscrow)
SEQUENCE = table_of(AllocationSequence)


@dataclass(frozen=True)
class StoredKey:
    """A public key of the statistician's: bits of its modulus, SHA-256 fingerprint as hex, and who stored it when."""

    id: int
    pem: str
    bits: int
    fingerprint: str
    stored_at: datetime
    stored_by: str


@dataclass(frozen=True)
class Escrowed:
    """One list's escrow: to which key, and when it was made."""

    version: int
    fingerprint: str
    made_at: datetime


def key_in_use(session: Session, study: StudyInUse, *, by: Actor) -> StoredKey | None:
    """The newest key, for which lists are escrowed from now on; None when there is none yet."""
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    row = session.execute(select(KEY).where(KEY.c.study_id == study.id).order_by(KEY.c.id.desc()).limit(1)).first()
    if row is None:
        return None
    return StoredKey(row.id, row.pem, row.bits, row.fingerprint, row.stored_at, row.stored_by)


def escrows(session: Session, study: StudyInUse, *, by: Actor) -> tuple[Escrowed, ...]:
    """Every list that is escrowed, newest first."""
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    rows = session.execute(
        select(SEQUENCE.c.version, KEY.c.fingerprint, ESCROW.c.made_at)
        .join(SEQUENCE, SEQUENCE.c.id == ESCROW.c.sequence_id)
        .join(KEY, KEY.c.id == ESCROW.c.key_id)
        .where(SEQUENCE.c.study_id == study.id)
        .order_by(SEQUENCE.c.version.desc())
    )
    return tuple(Escrowed(row.version, row.fingerprint, row.made_at) for row in rows)
