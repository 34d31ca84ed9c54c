"""What may I see of deviations? The list, and one of them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, bindparam, false, select, true
from sqlmodel import Session

from app.foundation import paging
from app.foundation.database import among, table_of, within
from app.foundation.errors import NotFound
from app.participants.identity import PARTICIPANT
from app.participants.reads import SITE
from app.people.access import Actor, sites_for
from app.people.permissions import Permission
from app.safety.deviations.rules import AT_A_VISIT, State
from app.safety.models import Deviation
from app.studies.in_use import StudyInUse

DEVIATION = table_of(Deviation)

# Built once: putting a SELECT together takes longer than running it.
_DEVIATIONS = (
    select(
        *DEVIATION.c,
        PARTICIPANT.c.code.label("participant"),
        PARTICIPANT.c.site_id,
        SITE.c.code.label("site"),
    )
    .join(PARTICIPANT, PARTICIPANT.c.id == DEVIATION.c.participant_id)
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .where(DEVIATION.c.study_id == bindparam("study_id", type_=Integer))
)


@dataclass(frozen=True)
class Wanted:
    """Which deviations somebody looks for; None means any. `open`: those that nobody signed and that hold.

    `to_sign`: of these, those of which it is written down what was done. `visit`: what the system found about it.

    `since` and `until` are of when they were reported.
    """

    site: str | None = None
    participant: str | None = None
    category: str | None = None
    visit: str | None = None
    grade: str | None = None
    open: bool = False
    to_sign: bool = False
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class DeviationRow:
    """One deviation; `rule` and `about` of those the system found."""

    number: int
    participant_id: int
    participant: str
    site_id: int
    site: str
    version: int
    state: State
    rule: str | None
    about: str | None
    category: str
    grade: str
    occurred_on: date
    what: str
    action: str | None
    confirmed: bool
    reported_at: datetime
    reported_by: str
    signed_at: datetime | None
    signed_by: str | None
    signed_name: str | None


def deviations_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    wanted: Wanted = Wanted(),
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[DeviationRow]:
    """One page of the deviations at the person's sites, the newest first."""
    typed = (wanted.site, wanted.participant, wanted.category, wanted.visit)
    if not "".join(each or "" for each in typed).isprintable():
        return paging.Page([])  # PostgreSQL keeps no NUL
    query = _DEVIATIONS.where(_theirs(by))
    if wanted.site:
        query = query.where(SITE.c.code == wanted.site)
    if wanted.participant:
        query = query.where(PARTICIPANT.c.code == wanted.participant)
    if wanted.category:
        query = query.where(DEVIATION.c.category == wanted.category)
    if wanted.visit:
        query = query.where(DEVIATION.c.about == wanted.visit, DEVIATION.c.rule.in_(AT_A_VISIT))
    if wanted.grade:
        query = query.where(DEVIATION.c.grade == wanted.grade)
    if wanted.open:
        query = query.where(DEVIATION.c.state.in_((State.OPEN.value, State.ACTED.value)))
    if wanted.to_sign:
        query = query.where(DEVIATION.c.state == State.ACTED.value)
    query = query.where(*within(DEVIATION.c.reported_at, wanted.since, wanted.until))
    values = {"study_id": study.id}
    page = paging.page_by_number(session, query, DEVIATION.c.id, cursor=cursor, limit=limit, values=values)
    return page.made(_deviation)


def deviations_of(
    session: Session, study: StudyInUse, numbers: Collection[int], *, by: Actor, held: bool = False
) -> list[DeviationRow]:
    """Those of these numbers that are at the person's sites, by number, in one statement; the others are left out.

    `held`: their rows stay as they are until the transaction ends.
    """
    ids = sorted({number for number in numbers if 0 <= number < 2**31})
    kind = session.get_bind().dialect.name
    query: Select[Any] = _DEVIATIONS.where(among(DEVIATION.c.id, kind), _theirs(by)).order_by(DEVIATION.c.id)
    if held:  # in the order of their numbers: two people then never wait for each other
        query = query.with_for_update(of=DEVIATION, key_share=True)
    return [_deviation(row) for row in session.execute(query, {"study_id": study.id, "ids": ids})]


def deviation_of(
    session: Session, study: StudyInUse, number: int, *, by: Actor, reported: bool = False
) -> DeviationRow:
    """One deviation; NotFound when there is none of this number at the person's sites.

    With `reported` also one of their own, for who reports deviations and does not read them.
    """
    if not 0 <= number < 2**31:  # no column holds more
        raise NotFound
    theirs = _theirs(by) | (DEVIATION.c.reported_by == by.username) if reported else _theirs(by)
    row = session.execute(_DEVIATIONS.where(DEVIATION.c.id == number, theirs), {"study_id": study.id}).first()
    if row is None:
        raise NotFound
    return _deviation(row)


def _theirs(by: Actor) -> ColumnElement[bool]:
    sites = sites_for(by, Permission.SAFETY_READ)
    if sites is None:
        return true()
    return PARTICIPANT.c.site_id.in_(sorted(sites)) if sites else false()


def _deviation(row: Any) -> DeviationRow:
    values = dict(row._mapping)
    number, state = values.pop("id"), State(values.pop("state"))
    del values["study_id"]
    return DeviationRow(number=number, state=state, **values)
