"""How does the trial go, at my sites? Counted by the database, each table once, for all sites of the study at once."""

from dataclasses import replace
from datetime import date, datetime
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Date,
    Select,
    Subquery,
    and_,
    case,
    extract,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    union_all,
)
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.capture.double.reads import has_withheld, is_awaited
from app.capture.queries.reads import QUERY
from app.capture.queries.rules import AGES, raised_before
from app.capture.queries.rules import State as QueryState
from app.capture.reads import ENTRY
from app.capture.status import EntryStatus
from app.capture.verification import rules as verification
from app.capture.verification.reads import count as count_verified
from app.foundation import clock
from app.foundation.database import Instant, written_out
from app.participants.identity import PARTICIPANT
from app.participants.in_error.rules import Reason
from app.participants.reads import IN_ERROR, SCREENING, SITE, at_each_site
from app.participants.status import Status
from app.people.access import Actor, require, sites_for
from app.people.permissions import Permission
from app.reports import rules
from app.reports.kept import KEPT_FOR, KeptCounts
from app.reports.measuring import measure
from app.reports.rules import (
    IN_PART,
    WITH_FORMS,
    Counted,
    Entries,
    Events,
    Failures,
    InError,
    People,
    Phase,
    Place,
    Queries,
    Report,
    Visits,
    plan_of,
)
from app.safety.events.reads import EVENT
from app.safety.events.rules import State as EventState
from app.safety.logs.reads import END
from app.safety.logs.rules import End
from app.schedule.reads import VISIT
from app.schedule.status import VisitStatus
from app.studies.definition import VisitKind
from app.studies.in_use import StudyInUse

WITHDRAWING = ("participant.withdrawn", "consent.withdrawn", "identity.erased")
"""After these an older count is shown to nobody."""
OPEN_EVENTS = (EventState.REPORTED, EventState.JUDGED, EventState.RETURNED)


def report(
    session: Session,
    study: StudyInUse,
    kept: KeptCounts,
    *,
    by: Actor,
    now: datetime,
    site: str | None = None,
    again: bool = False,
    waits_for_quality: bool = False,
) -> Report:
    """What the sites of this person (or one of them) say together; of a site that is not theirs to know, nothing.

    Of a large trial it can be what was counted a while ago, and nothing of its quality yet, while both are being made.
    """
    require(by, Permission.REPORT_READ)
    asked: Any = {"now": now, "again": again, "stands": partial(_stands, session, study)}
    counted = kept.counts.at_once(study, partial(count, study=study, now=now), **asked)
    if counted is None:
        counted = kept.counts.waited_for(study, partial(count, session, study, now=now), **asked)
    waits = waits_for_quality or not counted.is_large
    measured = kept.measures.at_once(
        study, partial(measure, study=study, now=now), waits=waits, elsewhere=True, **asked
    )
    if measured is None and waits:
        measured = kept.measures.waited_for(study, partial(measure, session, study, now=now), **asked)
    mine = sites_for(by, Permission.REPORT_READ)
    wanted = [
        each.id for each in counted.sites if (mine is None or each.id in mine) and (site is None or each.code == site)
    ]
    theirs = counted.only(wanted)
    found = rules.report(
        {each: study.at(each).definition for each in wanted},
        theirs,
        target=study.definition.target if len(wanted) == len(counted.sites) else None,
    )
    quality = None if measured is None else measured.quality({each.id: each.code for each in theirs.sites})
    return replace(found, quality=quality, is_counting=now - counted.at >= KEPT_FOR)


def verification_counted(
    session: Session,
    study: StudyInUse,
    kept: KeptCounts,
    *,
    by: Actor,
    now: datetime,
    visit: str | None = None,
    instrument: str | None = None,
    again: bool = False,
) -> verification.Counted:
    """How much is verified at the sites of this person; of a large trial it can be what was counted a while ago.

    Of a small one it is counted anew each time: whoever has just verified a form finds it in the number.
    """
    require(by, Permission.ENTRY_READ)
    asked: Any = {"now": now, "again": again, "stands": partial(_stands, session, study)}
    counted = kept.verification.at_once(study, partial(count_verified, study=study, now=now), **asked)
    if counted is None:
        counted = kept.verification.waited_for(study, partial(count_verified, session, study, now=now), **asked)
    mine = sites_for(by, Permission.ENTRY_READ)
    wanted = [each.id for each in counted.sites if mine is None or each.id in mine]
    return counted.only(wanted, visit=visit, instrument=instrument)


def _stands(session: Session, study: StudyInUse, at: datetime) -> bool:
    """Whether what was counted then may still be shown: not once somebody withdrew, or had their data erased.

    Those who did so in the minute before it may have been too late for it.
    """
    later = select(AUDIT_ENTRY.c.position).where(
        AUDIT_ENTRY.c.log == study.code,
        AUDIT_ENTRY.c.action.in_(map(written_out, WITHDRAWING)),
        AUDIT_ENTRY.c.at > at - KEPT_FOR,
    )
    return session.execute(later.limit(1)).first() is None


def count(session: Session, study: StudyInUse, *, now: datetime) -> Counted:
    """Everything that reports are made of, in eight statements: for nobody before it is narrowed to their sites."""
    rows = session.execute(select(SITE.c.id, SITE.c.code, SITE.c.timezone).where(SITE.c.study_id == study.id))
    sites = sorted(
        (Place(row.id, row.code, clock.today(row.timezone, now)) for row in rows), key=lambda each: each.code
    )
    visits = _visits(study, sites)

    def found(query: Select[Any]) -> Any:
        return session.execute(query)

    return Counted(
        at=now,
        sites=tuple(sites),
        people=tuple(
            People(row.site_id, row.status, bool(row.consented), _month(row.year, row.month), row.number)
            for row in found(_people(study))
        ),
        failures=tuple(Failures(*row) for row in found(_failures(study))),
        in_error=tuple(InError(*row) for row in found(_in_error(study))),
        visits=tuple(Visits(*row) for row in found(_grouped(visits, "site_id", "code", "phase"))),
        entries=tuple(Entries(*row) for row in found(_entries(study, visits)) if row.number),
        queries=tuple(Queries(*row) for row in found(_queries(study, now))),
        events=tuple(Events(*row) for row in found(_events(study))),
    )


def _grouped(rows: Subquery, *names: str) -> Select[Any]:
    """How many rows there are of each kind. Of a subquery: PostgreSQL takes an expression with a value in it for
    another each time it is written."""
    columns = [rows.c[name] for name in names]
    return select(*columns, func.count().label("number")).group_by(*columns)


def _month(year: int | None, month: int | None) -> date | None:
    return None if year is None or month is None else date(int(year), int(month), 1)


def _people(study: StudyInUse) -> Select[Any]:
    on = PARTICIPANT.c.randomised_on if study.definition.is_allocated else PARTICIPANT.c.consented_on
    takes_part = PARTICIPANT.c.status == Status.RANDOMISED
    status = case(
        (and_(takes_part, _use_withdrawn(study)), Status.WITHDRAWN),
        (and_(takes_part, PARTICIPANT.c.withdrawal_level.is_not(None)), IN_PART),
        else_=PARTICIPANT.c.status,
    )
    keys = (
        PARTICIPANT.c.site_id,
        status.label("status"),
        PARTICIPANT.c.consented_on.is_not(None).label("consented"),
        extract("year", on).label("year"),
        extract("month", on).label("month"),
    )
    rows = select(*keys).where(PARTICIPANT.c.study_id == study.id).subquery()
    return _grouped(rows, *(key.name for key in keys))


def _use_withdrawn(study: StudyInUse) -> ColumnElement[bool]:
    """Whether a participant withdrew the use of what is collected, whether they come to visits or not; never null."""
    levels = {level.code for each in study.definitions for level in each.withdrawal_levels if level.stops_use}
    return func.coalesce(PARTICIPANT.c.withdrawal_level, "").in_(sorted(levels)) if levels else false()


def _failures(study: StudyInUse) -> Select[Any]:
    rows = (
        select(PARTICIPANT.c.site_id, func.coalesce(SCREENING.c.failure_reason, "").label("reason"))
        .join(SCREENING, SCREENING.c.participant_id == PARTICIPANT.c.id)
        .where(PARTICIPANT.c.study_id == study.id, PARTICIPANT.c.status == Status.SCREEN_FAILED)
        .subquery()
    )
    return _grouped(rows, "site_id", "reason")


def _in_error(study: StudyInUse) -> Select[Any]:
    """By the newest record of each: the one that no other corrects."""
    later = IN_ERROR.alias("later")
    rows = (
        select(PARTICIPANT.c.site_id)
        .join(IN_ERROR, IN_ERROR.c.participant_id == PARTICIPANT.c.id)
        .where(
            PARTICIPANT.c.study_id == study.id,
            IN_ERROR.c.reason != Reason.NO_ERROR,
            not_(select(later.c.id).where(later.c.corrects == IN_ERROR.c.id).exists()),
        )
        .subquery()
    )
    return _grouped(rows, "site_id")


def _today(sites: list[Place]) -> ColumnElement[date]:
    """The day at the site of each participant: around the world there are three at most."""
    days = [
        (day, [each.id for each in those])
        for day, those in groupby(sorted(sites, key=lambda each: each.today), key=lambda each: each.today)
    ]
    if not days:
        return literal(date.min, Date)
    (last, _), others = days[-1], days[:-1]
    if not others:
        return literal(last, Date)
    return case(
        *((PARTICIPANT.c.site_id.in_(ids), literal(day, Date)) for day, ids in others), else_=literal(last, Date)
    )


def _visits(study: StudyInUse, sites: list[Place]) -> Subquery:
    """Every visit that reports speak of, with the phase it is in. Sessions of treatment only where forms belong to.

    Of those who withdrew or died no visit is expected whose window was still to close, whatever stands in its row; one
    whose window had closed before was expected and is late. What was held after somebody withdrew the use of their data
    is not expected either: no export has it (`capture.in_use`).
    """
    today = _today(sites)
    plan = plan_of(study.definitions)
    codes = [visit.code for visit in plan if visit.kind is not VisitKind.TREATMENT or visit.instruments]
    in_window = and_(VISIT.c.held_on >= VISIT.c.opens_on, VISIT.c.held_on <= VISIT.c.closes_on)
    used_no_more, failed = _use_withdrawn(study), PARTICIPANT.c.status == Status.SCREEN_FAILED
    withdrew = or_(PARTICIPANT.c.status == Status.WITHDRAWN, used_no_more)
    died = PARTICIPANT.c.status == Status.DIED
    died_on = select(END.c.on).where(END.c.participant_id == PARTICIPANT.c.id, END.c.kind == End.DIED)
    left_on = case(
        (withdrew, PARTICIPANT.c.withdrawn_on),
        else_=died_on.order_by(END.c.id.desc()).limit(1).correlate(PARTICIPANT).scalar_subquery(),
    )
    held, planned = VISIT.c.status == VisitStatus.HELD, VISIT.c.status == VisitStatus.PLANNED
    to_come = case(
        (VISIT.c.closes_on < today, Phase.OVERDUE), (VISIT.c.target_on <= today, Phase.DUE), else_=Phase.LATER
    )
    after = case(
        (VISIT.c.closes_on < left_on, Phase.OVERDUE), (VISIT.c.target_on <= today, Phase.LEFT), else_=Phase.STOPPED
    )
    phase = case(
        (and_(held, used_no_more, VISIT.c.held_on >= PARTICIPANT.c.withdrawn_on), Phase.LEFT),
        (and_(held, in_window), Phase.IN_WINDOW),
        (held, Phase.OUT_OF_WINDOW),
        (VISIT.c.status == VisitStatus.MISSED, Phase.MISSED),
        (and_(planned, not_(or_(withdrew, died, failed))), to_come),
        (or_(failed, not_(or_(withdrew, died)), and_(not_(planned), _not_in_plan(study))), Phase.STOPPED),
        else_=after,
    )
    return (
        select(PARTICIPANT.c.site_id, VISIT.c.participant_id, VISIT.c.code, phase.label("phase"))
        .join(PARTICIPANT, PARTICIPANT.c.id == VISIT.c.participant_id)
        .where(VISIT.c.study_id == study.id, VISIT.c.code.in_(codes))
        .subquery("visits")
    )


def _not_in_plan(study: StudyInUse) -> ColumnElement[bool]:
    """Whether a visit was taken out of the plan of its site, while other sites still have it."""
    every = {visit.code for each in study.definitions for visit in each.visits}
    return at_each_site(study, lambda own: VISIT.c.code.in_(sorted(every - {visit.code for visit in own.visits})))


def _entries(study: StudyInUse, visits: Subquery) -> Select[Any]:
    """Entries at visits whose forms are expected; of a form that repeats, the first that stands.

    Only what can repeat is asked for an earlier one: asked of every entry it costs ten times as much (PostgreSQL).
    """
    status: Any = ENTRY.c.status
    if has_withheld(study):  # what only one of two has entered is not finished, whatever they entered
        status = case((is_awaited(ENTRY.c.id), EntryStatus.PARTIAL), else_=status)
    standing = (
        select(visits.c.site_id, visits.c.phase, ENTRY.c.visit, ENTRY.c.instrument, status.label("status"))
        .join(visits, and_(visits.c.participant_id == ENTRY.c.participant_id, visits.c.code == ENTRY.c.visit))
        .where(ENTRY.c.study_id == study.id, ENTRY.c.in_error_at.is_(None))
    )
    first = standing.where(ENTRY.c.repeat == 1)
    repeating = {form.code for each in study.definitions for form in each.instruments if form.repeats}
    if not repeating:
        return _expected(first.subquery())
    earlier = ENTRY.alias("earlier")
    before = and_(
        earlier.c.participant_id == ENTRY.c.participant_id,
        earlier.c.visit == ENTRY.c.visit,
        earlier.c.instrument == ENTRY.c.instrument,
        earlier.c.repeat < ENTRY.c.repeat,
        earlier.c.in_error_at.is_(None),
    )
    later = standing.where(
        ENTRY.c.instrument.in_(sorted(repeating)), ENTRY.c.repeat > 1, not_(select(earlier.c.id).where(before).exists())
    )
    return _expected(union_all(first, later).subquery())


def _expected(rows: Subquery) -> Select[Any]:
    """How many entries there are of each kind at visits whose forms are expected.

    The others are counted as none instead of being left out: told to look for a phase, PostgreSQL expects to find few
    visits and goes to them one by one.
    """
    columns = [rows.c[name] for name in ("site_id", "visit", "instrument", "status")]
    number = func.count().filter(rows.c.phase.in_(sorted(WITH_FORMS)))
    return select(*columns, number.label("number")).group_by(*columns)


def _queries(study: StudyInUse, now: datetime) -> Select[Any]:
    """Queries that are not closed, without what is asked of an entry whose second entry is awaited."""
    reached = [case((QUERY.c.raised_at <= literal(raised_before(days, now), Instant), 1), else_=0) for days in AGES]
    age: Any = sum(reached[1:], start=reached[0])
    query = (
        select(PARTICIPANT.c.site_id, QUERY.c.state, age.label("age"))
        .join(PARTICIPANT, PARTICIPANT.c.id == QUERY.c.participant_id)
        .where(QUERY.c.study_id == study.id, QUERY.c.state.in_((QueryState.OPEN, QueryState.ANSWERED)))
    )
    if has_withheld(study):
        of = and_(
            ENTRY.c.participant_id == QUERY.c.participant_id,
            ENTRY.c.visit == QUERY.c.visit,
            ENTRY.c.instrument == QUERY.c.instrument,
        )
        query = query.where(not_(select(ENTRY.c.id).where(of, is_awaited(ENTRY.c.id)).exists()))
    return _grouped(query.subquery(), "site_id", "state", "age")


def _events(study: StudyInUse) -> Select[Any]:
    rows = (
        select(PARTICIPANT.c.site_id, EVENT.c.state)
        .join(PARTICIPANT, PARTICIPANT.c.id == EVENT.c.participant_id)
        .where(EVENT.c.study_id == study.id, EVENT.c.serious_since.is_not(None), EVENT.c.state.in_(OPEN_EVENTS))
        .subquery()
    )
    return _grouped(rows, "site_id", "state")
