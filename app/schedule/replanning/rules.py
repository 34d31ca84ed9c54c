"""What becomes of a participant's planned visits under another version of the plan? Moved, added, or no longer due.

What was held or missed, or is no longer due, stays as it is. Worked out from the days of the anchors, so that it is the
same however often it is asked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import NamedTuple, Protocol

from app.participants.status import Status
from app.schedule.rules import Planned, planned
from app.schedule.status import VisitStatus
from app.studies.definition import Study, Visit, VisitKind


class Step(StrEnum):
    """What becomes of one visit."""

    MOVED = "moved"
    ADDED = "added"
    STOPPED = "stopped"


class Anchors(NamedTuple):
    """The days from which a participant's visits are counted; None while there is none."""

    screening: date
    consent: date | None = None
    randomisation: date | None = None

    def day(self, visit: Visit) -> date | None:
        """The day from which this visit is counted."""
        day: date | None = getattr(self, visit.anchor)
        return day


class Row(Protocol):
    """A visit as it stands; `app.schedule.models.ParticipantVisit` is one."""

    @property
    def code(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def target_on(self) -> date: ...
    @property
    def opens_on(self) -> date: ...
    @property
    def closes_on(self) -> date: ...


@dataclass(frozen=True)
class Replanned:
    """One visit of a participant that does not stay as it is: its dates before and afterwards."""

    step: Step
    code: str
    old: Planned | None = None
    new: Planned | None = None


TAKES_PART = frozenset({Status.SCREENED, Status.CONSENTED, Status.RANDOMISED})
"""Who gets visits that an amendment adds; to the others no visit becomes due that was not before."""


def replanned(
    rows: Iterable[Row],
    old: Study,
    new: Study,
    anchors: Anchors,
    *,
    status: Status,
    treated: bool = True,
    on: date,
) -> list[Replanned]:
    """What becomes of these visits of one participant, from the old version to the new one, on a day.

    A visit moves when its plan differs in the two versions, and stops when it is not in the new one. One that the new
    version adds is added to whoever takes part, unless its window is over on that day: nobody can come to it any more;
    a session only to whoever is `treated`, and has not stopped treatment.
    """
    there = {row.code: row for row in rows}
    found = []
    for visit in new.visits:
        before, row, anchor_on = old.visit(visit.code), there.get(visit.code), anchors.day(visit)
        if anchor_on is None or (before is not None and _same_plan(before, visit)):
            continue
        dates = planned(visit, anchor_on)
        if row is None:
            comes = treated or visit.kind is not VisitKind.TREATMENT
            if status in TAKES_PART and comes and dates.closes_on >= on:
                found.append(Replanned(Step.ADDED, visit.code, new=dates))
        elif row.status == VisitStatus.PLANNED and dates != _dates(row):
            found.append(Replanned(Step.MOVED, visit.code, _dates(row), dates))
    for code, row in there.items():
        if row.status == VisitStatus.PLANNED and new.visit(code) is None:
            found.append(Replanned(Step.STOPPED, code, _dates(row)))
    return found


def visits_concerned(old: Study, new: Study) -> Sequence[str]:
    """The codes of the visits that may move, be added or no longer be due; none when both plans are the same."""
    moved = [visit.code for visit in new.visits if (it := old.visit(visit.code)) is None or not _same_plan(it, visit)]
    return [*moved, *(visit.code for visit in old.visits if new.visit(visit.code) is None)]


def _same_plan(one: Visit, two: Visit) -> bool:
    return (one.anchor, one.day, one.window) == (two.anchor, two.day, two.window)


def _dates(row: Row) -> Planned:
    return Planned(row.target_on, row.opens_on, row.closes_on)
