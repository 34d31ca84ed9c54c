"""What does saving an entry mean for its second entry? The pair as it stands, and how it begins."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, bindparam, insert, select
from sqlmodel import Session

from app.capture.double.models import EntryPair
from app.capture.double.rules import State, Step, after
from app.foundation.database import table_of
from app.people.access import Actor

PAIR = table_of(EntryPair)

_HELD = select(PAIR).where(PAIR.c.entry_id == bindparam("of_entry", type_=Integer)).with_for_update()
_BEGIN = insert(PAIR)


@dataclass(frozen=True)
class Pair:
    """A form that is entered twice: where it stands, and who made which entry."""

    number: int
    state: State
    version: int
    first_by: str
    second_by: str | None
    second_values: str | None
    second_reasons: str
    differing: int


def held_pair(session: Session, entry_id: int) -> Pair | None:
    """The pair of an entry, held until the transaction ends; None for one from before the form was entered twice."""
    row = session.execute(_HELD, {"of_entry": entry_id}).mappings().first()
    return None if row is None else pair_of_row(row)


def pair_of_row(row: Any) -> Pair:
    """The pair that a row of `entry_pair` is."""
    return Pair(
        number=row["id"],
        state=State(row["state"]),
        version=row["version"],
        first_by=row["first_by"],
        second_by=row["second_by"],
        second_values=row["second_values"],
        second_reasons=row["second_reasons"],
        differing=row["differing"],
    )


def begin(session: Session, study_id: int, entry_id: int, *, by: Actor, now: datetime) -> None:
    """Somebody made the first entry: from now on the form waits for its second one."""
    state = after(None, Step.BEGIN)
    assert state is not None
    row = {"study_id": study_id, "entry_id": entry_id, "state": state, "version": 1, "first_by": by.username}
    session.execute(_BEGIN, {**row, "first_at": now, "second_reasons": "{}", "differing": 0})
