"""What may I see of a casebook? Who signed it, and which entries it is made of now."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Integer, bindparam, or_, select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.capture.casebook.rules import Signature
from app.capture.models import CasebookSignature
from app.foundation.database import table_of
from app.studies.in_use import StudyInUse

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


def log_of(
    session: Session, study: StudyInUse, participant: str, *, limit: int
) -> tuple[list[Mapping[str, Any]], bool]:
    """What the log says of a participant's entries, queries, locks and casebook, the oldest first; and whether more.

    Of nothing else: what was delivered, and who somebody is, stands in the log as well (ICH E6(R3) 4.1.3). The newest
    `limit` lines.
    """
    kinds = [AUDIT_ENTRY.c.action.startswith(f"{kind}.") for kind in ("entry", "query", "casebook", "data")]
    columns = ("at", "username", "role", "action", "subject", "item", "old", "new", "why")
    query = (
        select(*(AUDIT_ENTRY.c[name] for name in columns))
        .where(
            AUDIT_ENTRY.c.log == study.code,
            AUDIT_ENTRY.c.participant == participant,
            or_(*kinds),
            AUDIT_ENTRY.c.action.not_like("%\\_refused", escape="\\"),
        )
        .order_by(AUDIT_ENTRY.c.position.desc())
        .limit(limit + 1)
    )
    rows: list[Mapping[str, Any]] = [dict(row) for row in session.execute(query).mappings()]
    return rows[:limit][::-1], len(rows) > limit
