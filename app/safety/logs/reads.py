"""What may I see of contacts, care and ends of one participant, of their counts, and of everybody who was screened?"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, String, and_, bindparam, case, false, func, select, true
from sqlmodel import Session

from app.foundation import paging
from app.foundation.database import at_most, table_of
from app.foundation.errors import FieldProblem, Invalid
from app.participants.identity import PARTICIPANT
from app.participants.reads import SCREENING, SITE
from app.participants.status import Status
from app.people.access import Actor, sites_for
from app.people.permissions import Permission
from app.safety.deviations.reads import DEVIATION
from app.safety.deviations.rules import State as DeviationState
from app.safety.events.reads import EVENT, Known, known_at, visible_to
from app.safety.events.rules import State as EventState
from app.safety.models import ConcomitantCare, Contact, ParticipantEnd
from app.studies.in_use import StudyInUse

CONTACT = table_of(Contact)
CARE = table_of(ConcomitantCare)
END = table_of(ParticipantEnd)

# Built once: putting a SELECT together takes longer than running it.
_OF = bindparam("of_participant", type_=Integer)
_CONTACTS = select(CONTACT).where(CONTACT.c.participant_id == _OF).order_by(CONTACT.c.at.desc(), CONTACT.c.id.desc())
_CARE = select(CARE).where(CARE.c.participant_id == _OF).order_by(CARE.c.began.desc(), CARE.c.id.desc())
_ENDS = select(END).where(END.c.participant_id == _OF).order_by(END.c.id)
MONTH = 7  # letters of YYYY-MM


@dataclass(frozen=True)
class ContactRow:
    """One attempt to be in touch."""

    number: int
    version: int
    at: datetime
    how: str
    result: str
    note: str
    recorded_at: datetime
    recorded_by: str


@dataclass(frozen=True)
class CareRow:
    """One line of care beside the trial."""

    number: int
    version: int
    treatment: str
    began: str
    ended: str
    indication: str
    recorded_at: datetime
    recorded_by: str


@dataclass(frozen=True)
class EndRow:
    """That somebody was lost, found, or died; `corrects` is the number of the record that was a mistake."""

    number: int
    corrects: int | None
    kind: str
    on: date
    words: str
    status_before: str
    stopped: tuple[str, ...]
    recorded_at: datetime
    recorded_by: str


@dataclass(frozen=True)
class Counts:
    """How much there is of one participant: events that are not void, the serious of them, deviations that stand."""

    events: int
    serious: int
    deviations: int
    contacts: int
    care: int


@dataclass(frozen=True)
class ScreenedRow:
    """Somebody who was screened: never a name."""

    number: int
    participant: str
    site: str
    site_id: int
    screened_on: date
    eligible: bool
    failure_reason: str | None
    status: str
    consented_on: date | None
    randomised_on: date | None


@dataclass(frozen=True)
class ScreenedWanted:
    """Whom somebody looks for in the screening log; None means all. `month` is YYYY-MM, `reason` a code of the study.

    `outcome`: `failed`, or `passed`.
    """

    site: str | None = None
    month: str | None = None
    reason: str | None = None
    outcome: str | None = None


def contacts_of(session: Session, participant_id: int) -> tuple[ContactRow, ...]:
    """Every contact with a participant whom the caller may know, the newest first."""
    return tuple(ContactRow(**_line(row)) for row in session.execute(_CONTACTS, {"of_participant": participant_id}))


def care_of(session: Session, participant_id: int) -> tuple[CareRow, ...]:
    """Every line of care of a participant whom the caller may know, what began last first."""
    return tuple(CareRow(**_line(row)) for row in session.execute(_CARE, {"of_participant": participant_id}))


def ends_of(session: Session, participant_id: int) -> tuple[EndRow, ...]:
    """Every such record of a participant whom the caller may know, the oldest first."""
    rows = session.execute(_ENDS, {"of_participant": participant_id})
    return tuple(EndRow(**{**_line(row), "stopped": tuple(row.stopped.split())}) for row in rows)


def _line(row: Any) -> dict[str, Any]:
    values = dict(row._mapping)
    values["number"] = values.pop("id")
    del values["study_id"], values["participant_id"]
    return values


def counts_of(session: Session, participant_id: int, *, by: Actor) -> Counts:
    """How much there is, in one statement; of events as far as this person may know them."""
    wanted = {"of_participant": participant_id, "reporter": by.username}
    return Counts(*map(int, session.execute(_counts(known_at(by)), wanted).one()))


@lru_cache(maxsize=256)
def _counts(known: Known) -> Select[Any]:
    visible = visible_to(*known, bindparam("reporter", type_=String))
    mine = select(func.count()).select_from(EVENT).join(PARTICIPANT, PARTICIPANT.c.id == EVENT.c.participant_id)
    events = mine.where(EVENT.c.participant_id == _OF, EVENT.c.state != EventState.VOID.value, visible)
    deviations = (DEVIATION.c.participant_id == _OF, DEVIATION.c.state != DeviationState.GONE.value)
    parts = (
        events,
        events.where(EVENT.c.serious_since.is_not(None)),
        select(func.count()).where(*deviations),
        select(func.count()).where(CONTACT.c.participant_id == _OF),
        select(func.count()).where(CARE.c.participant_id == _OF),
    )
    return select(*(part.scalar_subquery() for part in parts))


def screened_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    wanted: ScreenedWanted = ScreenedWanted(),
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[ScreenedRow]:
    """One page of everybody who was screened at the person's sites, the last first."""
    size = paging.page_size(limit)
    if not f"{wanted.site or ''}{wanted.reason or ''}".isprintable():
        return paging.Page([])  # PostgreSQL keeps no NUL
    here = (PARTICIPANT.c.screened_on, SCREENING.c.id)
    query = _screened(study, by, wanted)
    backwards = False
    if cursor:
        (day, number), backwards = paging.decode(cursor, 2, str, int)
        on = _day(day)
        later_on, earlier_on = PARTICIPANT.c.screened_on > on, PARTICIPANT.c.screened_on < on
        same = PARTICIPANT.c.screened_on == on
        query = query.where(
            (later_on | and_(same, SCREENING.c.id > number))
            if backwards
            else (earlier_on | and_(same, SCREENING.c.id < number))
        )
    order = [one.asc() if backwards else one.desc() for one in here]
    found = session.execute(query.order_by(*order).limit(at_most(size + 1))).all()
    page = paging.page_of(
        found, size, lambda row: (row.screened_on.isoformat(), row.number), cursor=cursor, backwards=backwards
    )
    return page.made(lambda row: ScreenedRow(**row._mapping))


def _screened(study: StudyInUse, by: Actor, wanted: ScreenedWanted) -> Select[Any]:
    query = (
        select(
            SCREENING.c.id.label("number"),
            PARTICIPANT.c.code.label("participant"),
            SITE.c.code.label("site"),
            PARTICIPANT.c.site_id,
            PARTICIPANT.c.screened_on,
            SCREENING.c.eligible,
            SCREENING.c.failure_reason,
            PARTICIPANT.c.status,
            PARTICIPANT.c.consented_on,
            PARTICIPANT.c.randomised_on,
        )
        .select_from(SCREENING)
        .join(PARTICIPANT, PARTICIPANT.c.id == SCREENING.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(PARTICIPANT.c.study_id == study.id, _theirs(by))
    )
    if wanted.site:
        query = query.where(SITE.c.code == wanted.site)
    if wanted.month and (days := month_of(wanted.month)):
        query = query.where(PARTICIPANT.c.screened_on >= days[0], PARTICIPANT.c.screened_on < days[1])
    if wanted.reason:
        query = query.where(SCREENING.c.failure_reason == wanted.reason)
    if wanted.outcome:
        failed = PARTICIPANT.c.status == Status.SCREEN_FAILED.value
        query = query.where(failed if wanted.outcome == "failed" else ~failed)
    return query


def month_of(text: str) -> tuple[date, date] | None:
    """The first day of a month written YYYY-MM, and the first of the next; None for anything else."""
    try:
        if len(text) != MONTH:
            raise ValueError
        first = date.fromisoformat(f"{text}-01")
        return first, (first + timedelta(days=31)).replace(day=1)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class ScreenedMonth:
    """How many were screened at a site in a month (its first day), and how many of them did not pass."""

    site: str
    month: date
    screened: int
    failed: int


MONTHS = 12
"""Months on a page of the screening log by month: what is added up at once stays bounded, however long a trial goes."""


@dataclass(frozen=True)
class ScreenedMonths:
    """One page of months, the last first; `older` and `newer` are the newest month of the pages beside it."""

    rows: list[ScreenedMonth]
    older: date | None = None
    newer: date | None = None


def screened_by_month(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    wanted: ScreenedWanted = ScreenedWanted(),
    upto: date | None = None,
) -> ScreenedMonths:
    """How many were screened at the person's sites (of `wanted` only site and month), as the database counts them.

    A page is `MONTHS` months, counted back from the month of the day `upto`, or from the last in which anybody was.
    """
    on = PARTICIPANT.c.screened_on
    mine = [PARTICIPANT.c.study_id == study.id, _theirs(by)]
    if wanted.site:
        mine.append(PARTICIPANT.c.site_id.in_(select(SITE.c.id).where(SITE.c.code == wanted.site)))
    days = select(on).where(*mine)
    ends = [days.order_by(each).limit(1).scalar_subquery() for each in (on.asc(), on.desc())]
    first, last = session.execute(select(*ends)).one()
    if first is None:
        return ScreenedMonths([])
    month = month_of(wanted.month) if wanted.month else None
    newest = (upto or last).replace(day=1)
    begins, ends_before = month or (_months_before(newest, MONTHS - 1), _months_before(newest, -1))
    kind = session.get_bind().dialect.name
    written = func.to_char(on, "YYYY-MM") if kind == "postgresql" else func.strftime("%Y-%m", on)
    failed = func.sum(case((PARTICIPANT.c.status == Status.SCREEN_FAILED.value, 1), else_=0))
    counted = (
        select(SITE.c.code, written.label("month"), func.count().label("screened"), failed.label("failed"))
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(*mine, on >= begins, on < ends_before)
        .group_by(SITE.c.code, written)
        .order_by(written.desc(), SITE.c.code.desc())
    )
    rows = [
        ScreenedMonth(row.code, date.fromisoformat(f"{row.month}-01"), int(row.screened), int(row.failed))
        for row in session.execute(counted)
    ]
    if month is not None:
        return ScreenedMonths(rows)
    return ScreenedMonths(
        rows,
        older=_months_before(begins, 1) if first < begins else None,
        newer=_months_before(newest, -MONTHS) if last >= ends_before else None,
    )


def _months_before(month: date, count: int) -> date:
    """The first day of the month so many before this one, within what a calendar has."""
    months = min(max(month.year * 12 + month.month - 1 - count, 12), 9999 * 12 + 11)
    return date(months // 12, months % 12 + 1, 1)


def _theirs(by: Actor) -> ColumnElement[bool]:
    sites = sites_for(by, Permission.SAFETY_READ)
    if sites is None:
        return true()
    return PARTICIPANT.c.site_id.in_(sorted(sites)) if sites else false()


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        message = "This page link belongs to another list. Start again from the first page."
        raise Invalid([FieldProblem("cursor", "cursor", message)]) from None
