"""How is a file of a participant kept? Sealed under their key, once for each purpose, known by its SHA-256.

Scans of signed papers, files and signatures among the answers: with the key, all of them are erased (GDPR Art. 17).
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlmodel import Session

from app.foundation.database import table_of
from app.participants.identity import open_for, seal_for
from app.participants.models import ParticipantFile
from app.people.access import Actor

FILE = table_of(ParticipantFile)


@dataclass(frozen=True)
class Kept:
    """A file that is kept. `is_new`: it was not there before."""

    sha256: str
    media_type: str
    size: int
    is_new: bool = False


def keep(
    session: Session,
    participant_id: int,
    data: bytes,
    *,
    purpose: str,
    media_type: str,
    by: Actor,
    now: datetime,
    steps: int = 1,
) -> Kept:
    """Keep a file; the same one, for the same purpose, is kept once. Actions have asked who may, and log it.

    Its length can be read off the database, but for `steps`: it is filled up to a multiple of so many bytes.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    known = kept(session, participant_id, purpose, [sha256]).get(sha256)
    if known is not None:
        return known
    size = -(-len(data) // steps) * steps
    session.execute(
        insert(FILE).values(
            participant_id=participant_id,
            purpose=purpose,
            sha256=sha256,
            media_type=media_type,
            size=len(data),
            sealed=seal_for(session, participant_id, data, purpose, size),
            kept_at=now,
            kept_by=by.username,
        )
    )
    return Kept(sha256, media_type, len(data), is_new=True)


def kept(session: Session, participant_id: int, purpose: str, hashes: Collection[str]) -> dict[str, Kept]:
    """Which of these are kept for this purpose, by their SHA-256."""
    query = select(FILE.c.sha256, FILE.c.media_type, FILE.c.size).where(
        FILE.c.participant_id == participant_id, FILE.c.purpose == purpose, FILE.c.sha256.in_(hashes)
    )
    return {row.sha256: Kept(row.sha256, row.media_type, row.size) for row in session.execute(query)}


def opened(session: Session, participant_id: int, purpose: str, sha256: str | None) -> tuple[bytes, str] | None:
    """A file and its media type; None when there is none, or once it was erased. Actions log who was shown it."""
    query = select(FILE.c.sealed, FILE.c.media_type).where(
        FILE.c.participant_id == participant_id, FILE.c.purpose == purpose, FILE.c.sha256 == sha256
    )
    row = session.execute(query).first() if sha256 is not None else None
    data = open_for(session, participant_id, row.sealed, purpose) if row is not None else None
    return None if row is None or data is None else (data, row.media_type)
