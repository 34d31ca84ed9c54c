"""Which deviations does the system see by itself? What visits, entries, consents and records say, read in one go."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Date, and_, cast, func, or_, select
from sqlmodel import Session

from app.capture.models import Entry
from app.foundation.database import table_of
from app.participants.corrections.rules import has_taken_part
from app.participants.identity import PARTICIPANT
from app.participants.in_error.rules import Reason
from app.participants.reads import IN_ERROR, NEWEST_IN_ERROR, SCREENING
from app.safety.deviations.consents import unsigned_at_visits
from app.safety.deviations.rules import (
    IN_ERROR_WORDS,
    Rule,
    consent_words,
    ineligible_words,
    late_words,
    missed_words,
    outside_words,
    stratum_words,
)
from app.schedule.models import ParticipantVisit
from app.schedule.status import VisitStatus
from app.studies.definition import Study, unscheduled_number
from app.studies.in_use import StudyInUse

VISIT = table_of(ParticipantVisit)
ENTRY = table_of(Entry)


@dataclass(frozen=True)
class Found:
    """A deviation that holds now: of whom, by which rule, about what, when, in words."""

    participant_id: int
    rule: Rule
    about: str
    occurred_on: date
    what: str

    @property
    def key(self) -> tuple[int, str, str]:
        """What makes it the same one when it is looked for again."""
        return self.participant_id, self.rule.value, self.about


OF_SCREENINGS = frozenset({Rule.INELIGIBLE, Rule.STRATUM})
"""The rules that rest on the pre-screen of a participant."""


def found_in(session: Session, study: StudyInUse, *, now: datetime) -> dict[tuple[int, str, str], Found]:
    """Every deviation of the study that the system can see, by its key."""
    parts = (
        _visits(session, study, now),
        _late_entries(session, study),
        _in_error(session, study),
        _consents(session, study, now),
        of_screenings(session, study),
    )
    return {each.key: each for part in parts for each in part}


def _label(study: StudyInUse, visit: str) -> str:
    planned = study.definition.visit(visit)
    return planned.label if planned else visit


def _visits(session: Session, study: StudyInUse, now: datetime) -> Iterator[Found]:
    outside = and_(
        VISIT.c.status == VisitStatus.HELD.value,
        or_(VISIT.c.held_on < VISIT.c.opens_on, VISIT.c.held_on > VISIT.c.closes_on),
    )
    names = ("participant_id", "code", "status", "held_on", "opens_on", "closes_on")
    query = select(*(VISIT.c[name] for name in names)).where(
        VISIT.c.study_id == study.id, or_(outside, VISIT.c.status == VisitStatus.MISSED.value)
    )
    for row in session.execute(query):
        visit = _label(study, row.code)
        if row.status == VisitStatus.MISSED:
            if unscheduled_number(row.code) is not None:
                continue  # nobody waited for it
            words = missed_words(visit, row.opens_on, row.closes_on)
            yield Found(row.participant_id, Rule.MISSED, row.code, min(row.closes_on, now.date()), words)
        else:
            words = outside_words(visit, row.held_on, row.opens_on, row.closes_on)
            yield Found(row.participant_id, Rule.WINDOW, row.code, row.held_on, words)


def _late_entries(session: Session, study: StudyInUse) -> Iterator[Found]:
    days = study.definition.safety.late_entry_days
    if days is None:
        return
    kind = session.get_bind().dialect.name
    query = (
        select(VISIT.c.participant_id, VISIT.c.code, VISIT.c.held_on)
        .join(ENTRY, and_(ENTRY.c.participant_id == VISIT.c.participant_id, ENTRY.c.visit == VISIT.c.code))
        .where(
            VISIT.c.study_id == study.id,
            VISIT.c.status == VisitStatus.HELD.value,
            ENTRY.c.in_error_at.is_(None),
            _days_between(VISIT.c.held_on, ENTRY.c.created_at, kind) > days,
        )
        .distinct()
    )
    for row in session.execute(query):
        words = late_words(_label(study, row.code), row.held_on, days)
        yield Found(row.participant_id, Rule.LATE_ENTRY, row.code, row.held_on + timedelta(days=days + 1), words)


def _days_between(day: ColumnElement[Any], at: ColumnElement[Any], kind: str) -> ColumnElement[Any]:
    """Whole days from a day to the date (in UTC) of an instant."""
    if kind == "postgresql":
        return cast(func.timezone("UTC", at), Date) - day
    return func.julianday(func.date(at)) - func.julianday(day)


def _in_error(session: Session, study: StudyInUse) -> Iterator[Found]:
    query = (
        select(PARTICIPANT.c.id, PARTICIPANT.c.randomised_on, IN_ERROR.c.reason, IN_ERROR.c.found_on)
        .join(IN_ERROR, IN_ERROR.c.id == NEWEST_IN_ERROR)
        .where(PARTICIPANT.c.study_id == study.id, IN_ERROR.c.reason != Reason.NO_ERROR.value)
    )
    for row in session.execute(query):
        words = IN_ERROR_WORDS[Reason(row.reason)]
        yield Found(row.id, Rule.IN_ERROR, "randomisation", row.randomised_on or row.found_on, words)


def _consents(session: Session, study: StudyInUse, now: datetime) -> Iterator[Found]:
    for row in unsigned_at_visits(session, study, now):
        words = consent_words(row.version, row.since)
        yield Found(row.participant_id, Rule.CONSENT, row.version, row.held_on, words)


def of_screenings(session: Session, study: StudyInUse, participant_id: int | None = None) -> Iterator[Found]:
    """What corrected answers of a pre-screen say: who was not eligible and takes part, who was of another stratum.

    Of everybody in the study, or of one participant.
    """
    query = (
        select(
            PARTICIPANT.c.id,
            PARTICIPANT.c.site_id,
            PARTICIPANT.c.status,
            PARTICIPANT.c.screened_on,
            PARTICIPANT.c.consented_on,
            PARTICIPANT.c.randomised_on,
            SCREENING.c.eligible,
            SCREENING.c.verdicts,
            SCREENING.c.moved_levels,
        )
        .join(SCREENING, SCREENING.c.participant_id == PARTICIPANT.c.id)
        .where(PARTICIPANT.c.study_id == study.id, SCREENING.c.corrected_at.is_not(None))
    )
    if participant_id is not None:
        query = query.where(PARTICIPANT.c.id == participant_id)
    for row in session.execute(query):
        on = row.randomised_on or row.consented_on or row.screened_on
        definition = study.at(row.site_id).definition
        dates = {"consented_on": row.consented_on, "randomised_on": row.randomised_on}
        if not row.eligible and has_taken_part(definition, row.status, **dates):
            against = [verdict for verdict in json.loads(row.verdicts) if verdict["met"] is False]
            about = ",".join(verdict["code"] for verdict in against)
            words = ineligible_words([verdict["label"] for verdict in against])
            yield Found(row.id, Rule.INELIGIBLE, about, on, words)
        labels = _factor_labels(definition)
        for factor, levels in json.loads(row.moved_levels or "{}").items():
            label, names = labels.get(factor, (factor, {}))
            was, now = (names.get(level, level or "?") for level in levels)
            yield Found(row.id, Rule.STRATUM, f"{factor}={levels[1] or ''}", on, stratum_words(label, was, now))


def _factor_labels(definition: Study) -> dict[str, tuple[str, dict[str | None, str]]]:
    """What the factors of the strata, of either stage, and their levels are called."""
    stage = definition.allocation.first_stage
    factors = (*definition.allocation.strata, *(stage.strata if stage else ()))
    return {each.code: (each.label, {level.code: level.label for level in each.levels}) for each in factors}
