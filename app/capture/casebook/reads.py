"""What may I see of a casebook? Who signed it, and which entries it is made of now."""

import json
from typing import Any

from sqlalchemy import Integer, bindparam, select
from sqlmodel import Session

from app.capture.casebook.rules import Signature
from app.capture.models import CasebookSignature
from app.foundation.database import table_of

CASEBOOK = table_of(CasebookSignature)

_SIGNATURES = (
    select(CASEBOOK).where(CASEBOOK.c.participant_id == bindparam("of", type_=Integer)).order_by(CASEBOOK.c.id)
)


def signatures_of(session: Session, participant_id: int) -> tuple[Signature, ...]:
    """Every signature of a participant's casebook, the oldest first; only the last one may still stand."""
    return tuple(_signature(row) for row in session.execute(_SIGNATURES, {"of": participant_id}))


def standing_signature(session: Session, participant_id: int) -> Signature | None:
    """The signature that no change has superseded, or None."""
    return next((each for each in signatures_of(session, participant_id) if each.superseded_at is None), None)


def _signature(row: Any) -> Signature:
    return Signature(
        number=row.id,
        manifest=tuple((visit, instrument, version, digest) for visit, instrument, version, digest in _lines(row)),
        digest=row.digest,
        meaning=row.meaning,
        signed_at=row.signed_at,
        signed_by=row.signed_by,
        signed_name=row.signed_name,
        superseded_at=row.superseded_at,
        superseded_by=row.superseded_by,
        superseded_why=row.superseded_why,
    )


def _lines(row: Any) -> list[list[Any]]:
    lines: list[list[Any]] = json.loads(row.manifest)
    return lines
