"""Whose planned visits would move, and how? Many participants at once, in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlmodel import Session

from app.foundation.database import KINDS, among, instance_of
from app.participants.status import Status
from app.schedule.models import ParticipantVisit
from app.schedule.reads import VISIT
from app.schedule.replanning.rules import Anchors

_VISITS: dict[str, Select[tuple[object, ...]]] = {
    kind: select(*VISIT.c).where(among(VISIT.c.participant_id, kind)).order_by(VISIT.c.id) for kind in KINDS
}


@dataclass(frozen=True)
class Whose:
    """A participant as far as the days of their visits go."""

    id: int
    code: str
    site_id: int
    status: Status
    treated: bool
    """Whether treatment goes on: to whoever stopped it no session is added."""
    anchors: Anchors


def visits_of_many(session: Session, ids: Sequence[int], *, hold: bool = False) -> dict[int, list[ParticipantVisit]]:
    """The visits of these participants; `hold`: nobody else changes one of them until this transaction ends.

    A caller has asked who may see them.
    """
    found: dict[int, list[ParticipantVisit]] = {each: [] for each in ids}
    if not found:
        return found
    query = _VISITS[session.get_bind().dialect.name]
    for row in session.execute(query.with_for_update() if hold else query, {"ids": list(ids)}).mappings():
        found[row["participant_id"]].append(instance_of(ParticipantVisit, row))
    return found
