"""What is done to planned visits when the plan changes? Moved, added, or no longer due: for many people at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Integer, bindparam, insert, update
from sqlmodel import Session

from app.audit.actions import Change, record, recorded_together
from app.people.access import Actor
from app.schedule.appointments.actions import settle
from app.schedule.models import ParticipantVisit
from app.schedule.reads import VISIT
from app.schedule.replanning.reads import Whose, visits_of_many
from app.schedule.replanning.rules import Replanned, Step, replanned
from app.schedule.status import VisitStatus
from app.studies.definition import Study
from app.studies.in_use import StudyInUse

_CHANGE = update(VISIT).where(VISIT.c.id == bindparam("of_visit", type_=Integer))


@dataclass(frozen=True)
class Outcome:
    """How many participants have a visit that is not what it was, how many visits; how many a lock kept as they are."""

    participants: int = 0
    visits: int = 0
    kept: int = 0


def replan(
    session: Session,
    study: StudyInUse,
    old: Study,
    people: Sequence[Whose],
    *,
    on: date,
    is_locked: Callable[[int, str], bool],
    why: str,
    by: Actor,
    now: datetime,
) -> Outcome:
    """Give the planned visits of these people the dates of `study`, which comes after `old`. The caller asks who may.

    Done again it changes nothing. A visit under a lock or freezing stays as it is.
    """
    rows = visits_of_many(session, [each.id for each in people], hold=True)
    moves: list[dict[str, Any]] = []
    stops: list[dict[str, Any]] = []
    added: list[dict[str, Any]] = []
    changes: list[Change] = []
    concerned, kept = 0, 0
    places = {visit.code: place for place, visit in enumerate(study.definition.visits)}
    for each in people:
        there = {row.code: row for row in rows[each.id]}
        found = replanned(
            there.values(), old, study.definition, each.anchors, status=each.status, treated=each.treated, on=on
        )
        free = [one for one in found if not is_locked(each.id, one.code)]
        kept += len(found) - len(free)
        concerned += bool(free)
        for one in free:
            row = there.get(one.code)
            changes.append(_told(each.code, one))
            if row is None:
                added.append(_new_row(study, each.id, places[one.code], one, now))
            elif one.new is None:
                status = VisitStatus.STOPPED.value
                stops.append({"of_visit": row.id, "status": status, "reason": why, "version": row.version + 1})
            else:
                moves.append({"of_visit": row.id, **one.new._asdict(), "version": row.version + 1})
    placed = [
        {"of_visit": row.id, "order": places[row.code]}
        for theirs in rows.values()
        for row in theirs
        if places.get(row.code, row.order) != row.order
    ]
    for statement, values in ((_CHANGE, moves), (_CHANGE, stops), (_CHANGE, placed), (insert(VISIT), added)):
        if values:
            session.connection().execute(statement, values)
    with recorded_together(session):
        record(session, study.code, changes, by=by, now=now, why=why)
        _settle(session, study, rows, stops, why=why, by=by, now=now)
    return Outcome(concerned, len(changes), kept)


def _settle(
    session: Session,
    study: StudyInUse,
    rows: dict[int, list[ParticipantVisit]],
    stops: Sequence[dict[str, Any]],
    *,
    why: str,
    by: Actor,
    now: datetime,
) -> None:
    """What is booked for a visit that is no longer due is cancelled."""
    stopped = {each["of_visit"] for each in stops}
    for participant_id, theirs in rows.items():
        for row in theirs:
            if row.id in stopped:
                settle(session, study, participant_id, VisitStatus.STOPPED, visit_id=row.id, why=why, by=by, now=now)


def _new_row(study: StudyInUse, participant_id: int, place: int, one: Replanned, now: datetime) -> dict[str, Any]:
    visit = study.definition.visit(one.code)
    assert visit is not None
    assert one.new is not None
    return {
        "study_id": study.id,
        "participant_id": participant_id,
        "code": one.code,
        "kind": visit.kind.value,
        "order": place,
        **one.new._asdict(),
        "status": VisitStatus.PLANNED.value,
        "version": 1,
        "created_at": now,
    }


_ACTIONS = {Step.MOVED: "visit.moved", Step.ADDED: "visit.opened", Step.STOPPED: "visit.stopped"}


def _told(participant: str, one: Replanned) -> Change:
    """One change as the log tells of it."""
    if one.step is Step.STOPPED:
        old, new = {"status": VisitStatus.PLANNED}, {"status": VisitStatus.STOPPED}
        return Change(_ACTIONS[one.step], participant, f"visit/{one.code}", old=old, new=new)
    dates = [one.old._asdict() if one.old else None, one.new._asdict() if one.new else None]
    return Change(_ACTIONS[one.step], participant, f"visit/{one.code}", old=dates[0], new=dates[1])
