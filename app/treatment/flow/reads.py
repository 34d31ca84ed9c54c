"""Whom does the closed report count, and what is recorded of them? For the statistician; opens no envelope."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import Integer, Select, and_, bindparam, select, true, tuple_
from sqlmodel import Session

from app.capture.in_use import ENTRY, in_use
from app.foundation.clock import today
from app.participants.in_error.rules import is_error
from app.participants.reads import IN_ERROR, NEWEST_IN_ERROR, SITE
from app.participants.status import Status
from app.people.access import Actor
from app.people.permissions import Permission
from app.randomisation.reads import ALLOCATION, STAGED, require_statistician
from app.randomisation.unblinding.reads import closing
from app.safety.logs.reads import END
from app.safety.logs.rules import End
from app.studies.in_use import StudyInUse
from app.treatment.flow.rules import Form, Person, VisitRow, follow_up, group_of, observed_at
from app.treatment.reads import PARTICIPANT, SESSION, VISIT
from app.treatment.rules import treatment_visits

# Built once: putting a SELECT together takes longer than running it.
_STUDY = bindparam("study_id", type_=Integer)
_COLUMNS = (
    PARTICIPANT.c.id,
    PARTICIPANT.c.site_id,
    PARTICIPANT.c.status,
    PARTICIPANT.c.withdrawal_level,
    PARTICIPANT.c.withdrawn_on,
    PARTICIPANT.c.left_on,
    PARTICIPANT.c.treatment_stopped_on,
    SITE.c.timezone,
    IN_ERROR.c.reason,
)
_PEOPLE = (
    select(*_COLUMNS)
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .outerjoin(IN_ERROR, IN_ERROR.c.id == NEWEST_IN_ERROR)
)
_ALLOCATED = (
    _PEOPLE.join(ALLOCATION, ALLOCATION.c.participant_id == PARTICIPANT.c.id)
    .where(ALLOCATION.c.study_id == _STUDY)
    .order_by(ALLOCATION.c.number)
)
_ENROLLED = _PEOPLE.where(
    PARTICIPANT.c.study_id == _STUDY,
    PARTICIPANT.c.consented_on.is_not(None),
    PARTICIPANT.c.status != Status.SCREEN_FAILED,
).order_by(PARTICIPANT.c.code)
_ENDS = (
    select(END.c.participant_id, END.c.kind, END.c.on)
    .where(END.c.study_id == _STUDY, END.c.kind.in_((End.LOST, End.DIED)))
    .order_by(END.c.id)
)
_STAGE = select(STAGED.c.participant_id).where(STAGED.c.study_id == _STUDY).order_by(STAGED.c.number)


def require_flow(study: StudyInUse, by: Actor) -> None:
    """`NotFound` for all but the statistician: for everybody else the closed report does not exist."""
    require_statistician(study, by, Permission.ALLOCATIONS_EXPORT)


def people(session: Session, study: StudyInUse, *, by: Actor, now: datetime) -> dict[int, Person]:
    """Everybody with an arm by id, in the order of allocation, with all that the flow counts; their arm still empty.

    In a study that only observes: everybody who consented, with the group that was recorded.
    """
    require_flow(study, by)
    of_study = {"study_id": study.id}
    is_allocated = study.definition.is_allocated
    rows = session.execute(_ALLOCATED if is_allocated else _ENROLLED, of_study).all()
    ended: dict[tuple[int, str], date] = {}
    for row in session.execute(_ENDS, of_study):
        ended[row.participant_id, row.kind] = row.on
    visits = _visits(session, study)
    forms = _forms(session, study)
    found = {}
    for row in rows:
        # Statuses and ends have one word for the same thing.
        found[row.id] = Person(
            arm="",
            site=row.site_id,
            status=row.status,
            today=today(row.timezone, now),
            study=study.at(row.site_id).definition,
            level=row.withdrawal_level,
            left_on=row.left_on or ended.get((row.id, row.status), row.withdrawn_on),
            withdrawn_on=row.withdrawn_on,
            treatment_stopped=row.treatment_stopped_on is not None,
            in_error=is_error(row.reason),
            visits=visits.get(row.id, {}),
            forms=forms.get(row.id, {}),
        )
    if is_allocated:
        return found
    return {number: replace(person, arm=group_of(person)) for number, person in found.items()}


def _visits(session: Session, study: StudyInUse) -> Mapping[int, Mapping[str, VisitRow]]:
    wanted = {
        visit.code for each in study.definitions for visit in (*treatment_visits(each), *follow_up(study.definition))
    } | {outcome.visit for outcome in study.definition.outcomes}
    query = (
        select(
            VISIT.c.participant_id,
            VISIT.c.code,
            VISIT.c.status,
            VISIT.c.closes_on,
            VISIT.c.held_on,
            SESSION.c.participant_id.is_not(None).label("recorded"),
        )
        .outerjoin(SESSION, and_(SESSION.c.participant_id == VISIT.c.participant_id, SESSION.c.visit == VISIT.c.code))
        .where(VISIT.c.study_id == study.id, VISIT.c.code.in_(sorted(wanted)))
    )
    found: dict[int, dict[str, VisitRow]] = defaultdict(dict)
    for row in session.execute(query):
        found[row.participant_id][row.code] = VisitRow(row.status, row.closes_on, row.held_on, bool(row.recorded))
    return found


def _forms(session: Session, study: StudyInUse) -> Mapping[int, Mapping[tuple[str, str], Sequence[Form]]]:
    asked = {(outcome.visit, outcome.instrument) for outcome in study.definition.outcomes}
    if not study.definition.is_allocated:
        asked |= {(at.visit, at.instrument) for each in study.definitions if (at := observed_at(each))}
    if not asked:
        return {}
    found: dict[int, dict[tuple[str, str], list[Form]]] = defaultdict(lambda: defaultdict(list))
    for row in session.execute(_entries(study, sorted(asked))):
        form = Form(json.loads(row.document), row.in_error_at is not None, bool(row.used))
        found[row.participant_id][row.visit, row.instrument].append(form)
    return found


def _entries(study: StudyInUse, asked: Sequence[tuple[str, str]]) -> Select[Any]:
    _, *used = in_use(study)  # what is in error is told apart from what may not be used
    return (
        select(
            ENTRY.c.participant_id,
            ENTRY.c.visit,
            ENTRY.c.instrument,
            ENTRY.c["values"].label("document"),
            ENTRY.c.in_error_at,
            (and_(*used) if used else true()).label("used"),
        )
        .join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
        .where(ENTRY.c.study_id == study.id, tuple_(ENTRY.c.visit, ENTRY.c.instrument).in_(asked))
        .order_by(ENTRY.c.participant_id, ENTRY.c.repeat)
    )


def in_first_stage(session: Session, study: StudyInUse) -> list[int]:
    """The ids of those who have a group of the first stage; nobody where there is one stage."""
    if study.definition.allocation.first_stage is None:
        return []
    return list(session.execute(_STAGE, {"study_id": study.id}).scalars())


def is_locked(session: Session, study: StudyInUse) -> bool:
    """Whether every visit of everybody with an arm is recorded, and all that was held is locked."""
    closed = closing(session, study)
    return bool(closed.randomised) and not closed.open_visits and not closed.not_locked
