"""What becomes of the queries of checks when an entry changes: its own, and those of others that refer to it."""

from collections.abc import Collection, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlmodel import Session

from app.audit.actions import Change
from app.capture.actions.place import About, Held
from app.capture.checks import SCREENING, Finding, Judgement, affected, stale
from app.capture.queries import actions as queries
from app.capture.reads import Filled, Place, answers_from, entries_with_values, place_of
from app.capture.rules import judge_stored, still_asked
from app.participants.models import Participant
from app.people.access import Actor
from app.studies.in_use import StudyInUse


def follow(
    session: Session,
    about: About,
    held: Held,
    judgement: Judgement,
    values: Mapping[str, object],
    moved: Collection[str],
    *,
    by: Actor,
    now: datetime,
) -> list[Change]:
    """What becomes of the queries of checks: of this entry, and of others whose checks refer to what has changed."""
    log = []
    waiting = unexplained_findings(judgement)
    if held.has_queries or waiting:
        log += queries.follow(
            session,
            about.study,
            about.participant,
            visit=about.visit,
            instrument=about.instrument,
            repeat=about.repeat,
            findings=judgement.problems,
            reasons=judgement.reasons,
            values=judgement.values,
            may_stand=held.has_queries,
            by=by,
            now=now,
        )
    return log + follow_elsewhere(session, about, held.place, moved, values, by=by, now=now)


def follow_elsewhere(
    session: Session,
    about: About,
    place: Place,
    moved: Collection[str],
    values: Mapping[str, object] | None,
    *,
    by: Actor,
    now: datetime,
) -> list[Change]:
    """What becomes of the queries of other entries when these items of this one change; `values` are what it says now,
    None when it counts no more.
    """
    definition, log = about.study.definition, []
    here = (about.visit, about.instrument, about.repeat)
    spots = set(affected(definition, about.visit, moved))
    if not spots - {here[:2]} and (here[:2] not in spots or (about.repeat == 1 and place.begun <= 1)):
        return []
    entries = [each for each in entries_with_values(session, about.participant_id) if not each.is_in_error]
    places = {each.id: (each.visit, each.instrument, each.repeat) for each in entries}
    stored = [
        Filled(*places[each.id], values or {} if places[each.id] == here else each.values)
        for each in entries
        if values is not None or places[each.id] != here
    ]
    answers = answers_from(place.screening, stored)
    local = now.astimezone(ZoneInfo(place.timezone))
    for other in entries:
        visit, code, repeat = places[other.id]
        form = definition.instrument(code)
        if form is None or (visit, code) not in spots or places[other.id] == here:
            continue
        judged = judge_stored(definition, form, other, answers=answers, now=local)
        log += queries.follow(
            session,
            about.study,
            about.participant,
            visit=visit,
            instrument=code,
            repeat=repeat,
            findings=[*judged.problems, *stale(form, visit, still_asked(form, other.values), judged)],
            reasons=judged.reasons,
            values=other.values,
            by=by,
            now=now,
        )
    return log


def screening_changed(
    session: Session, study: StudyInUse, participant: Participant, items: Collection[str], *, by: Actor, now: datetime
) -> list[Change]:
    """What becomes of the queries of entries whose checks refer to these answers of the pre-screen, which changed.

    The participant is held, so that nobody saves an entry of theirs meanwhile.
    """
    if not affected(study.definition, SCREENING, items):
        return []
    about = About(study, participant, SCREENING, study.definition.eligibility.instrument)
    place = place_of(session, about.participant_id, SCREENING, about.instrument, by=by)
    return follow_elsewhere(session, about, place, items, {}, by=by, now=now)


def unexplained_findings(judgement: Judgement | None) -> list[Finding]:
    return [each for each in judgement.soft if each.item in judgement.unexplained] if judgement else []
