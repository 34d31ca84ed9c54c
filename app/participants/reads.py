"""What may I see of participants? Lists, one participant, their screening; always only those at my sites."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any, Literal, Protocol

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    Row,
    RowMapping,
    Select,
    String,
    and_,
    bindparam,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlmodel import Session

from app.foundation import clock, paging
from app.foundation.database import KINDS, among, instance_of, table_of, transaction_of, written_out
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.participants.identity import IDENTITY, PARTICIPANT, open_personal, unwrap
from app.participants.models import Participant, RandomisedInError, Screening
from app.participants.rules import Verdict, initials
from app.participants.status import Status
from app.people.access import Actor, may, sites_for
from app.people.models import Site
from app.people.permissions import Permission
from app.studies.definition import Study
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord

SITE = table_of(Site)
STUDY = table_of(StudyRecord)
SCREENING = table_of(Screening)
IN_ERROR = table_of(RandomisedInError)

# Built once: putting a SELECT together takes longer than running it.
_ID = bindparam("participant_id", type_=Integer)
_BY_CODE = select(*PARTICIPANT.c).where(
    PARTICIPANT.c.study_id == bindparam("study_id", type_=Integer),
    PARTICIPANT.c.code == bindparam("code", type_=String),
)
Hold = Literal["shared", "alone"]
"""How a participant is held until the transaction ends. Whoever would withdraw them, or lock what is collected from
them, waits; and with "alone" whoever saves another entry of theirs."""
_THEM = select(PARTICIPANT.c.id).where(PARTICIPANT.c.id == _ID)
_HOLD: dict[Hold, Select[Any]]
_HOLD = {"shared": _THEM.with_for_update(read=True), "alone": _THEM.with_for_update(key_share=True)}
_BY_CODE_HELD: dict[Hold, Select[Any]]
_BY_CODE_HELD = {"shared": _BY_CODE.with_for_update(read=True), "alone": _BY_CODE.with_for_update(key_share=True)}
HELD = "participants held"
_SITE_OF = select(PARTICIPANT.c.site_id).where(
    PARTICIPANT.c.study_id == bindparam("study_id", type_=Integer),
    PARTICIPANT.c.code == bindparam("code", type_=String),
)
_IDENTITIES = {
    kind: select(PARTICIPANT.c.id, PARTICIPANT.c.study_id, IDENTITY.c.wrapped_key, IDENTITY.c.sealed)
    .join(IDENTITY, IDENTITY.c.participant_id == PARTICIPANT.c.id)
    .where(among(PARTICIPANT.c.id, kind), IDENTITY.c.wrapped_key.is_not(None))
    for kind in KINDS
}
NEWEST_IN_ERROR = (
    select(IN_ERROR.c.id)
    .where(IN_ERROR.c.participant_id == PARTICIPANT.c.id)
    .order_by(IN_ERROR.c.id.desc())
    .limit(1)
    .correlate(PARTICIPANT)
    .scalar_subquery()
)
"""The newest record that a participant was randomised in error: to join with in a query of participants."""
_SCREENED_AND_WHO = (
    select(*SCREENING.c, IDENTITY.c.wrapped_key, IDENTITY.c.sealed, NEWEST_IN_ERROR.label("in_error"))
    .select_from(PARTICIPANT)
    .join(SCREENING, SCREENING.c.participant_id == PARTICIPANT.c.id, isouter=True)
    .join(IDENTITY, IDENTITY.c.participant_id == PARTICIPANT.c.id, isouter=True)
    .where(PARTICIPANT.c.id == _ID)
    .order_by(SCREENING.c.id.desc())
    .limit(1)
)
_SCREENINGS = select(SCREENING).where(SCREENING.c.participant_id == _ID).order_by(SCREENING.c.id)
_TIMEZONE = select(SITE.c.timezone).where(SITE.c.id == bindparam("site_id", type_=Integer))
_LAST = select(STUDY.c.last_participant).where(STUDY.c.id == bindparam("study_id", type_=Integer))
_HELD = (
    select(
        PARTICIPANT.c.status,
        PARTICIPANT.c.withdrawal_level,
        PARTICIPANT.c.withdrawn_on,
        PARTICIPANT.c.left_on,
        PARTICIPANT.c.treatment_stopped_on,
        PARTICIPANT.c.fatal_event,
    )
    .where(PARTICIPANT.c.id == _ID)
    .with_for_update(key_share=True)
)


def at_each_site(study: StudyInUse, condition: Callable[[Study], ColumnElement[bool]]) -> ColumnElement[bool]:
    """A condition on participants, as the version of the study that is in force at the site of each says it."""
    if not study.others:
        return condition(study.definition)
    others = [
        and_(PARTICIPANT.c.site_id == site_id, condition(each.definition)) for site_id, each in study.others.items()
    ]
    return or_(and_(PARTICIPANT.c.site_id.not_in(study.others), condition(study.definition)), *others)


class Sort(StrEnum):
    """What the list of participants can be sorted by."""

    CODE = "code"
    STATUS = "status"
    SITE = "site"
    SCREENED_ON = "screened_on"
    QUERIES = "queries"


_COLUMNS: dict[Sort, ColumnElement[Any]] = {
    Sort.CODE: PARTICIPANT.c.code,
    Sort.STATUS: PARTICIPANT.c.status,
    Sort.SITE: SITE.c.code,
    Sort.SCREENED_ON: PARTICIPANT.c.screened_on,
}


@dataclass(frozen=True)
class ParticipantFilter:
    """Whom somebody looks for; None means anyone. `search` is the beginning of a code, or its number.

    `asked`: only of whom something is asked that stands; `among`: only of these, by id.
    """

    site: str | None = None
    status: Status | None = None
    search: str | None = None
    asked: bool = False
    among: frozenset[int] | None = None


@dataclass(frozen=True)
class ParticipantRow:
    """One line of the list."""

    id: int
    code: str
    site_id: int
    site_code: str
    site_name: str
    status: Status
    screened_on: date
    consented_on: date | None
    randomised_on: date | None
    withdrawn_on: date | None
    withdrawal_level: str | None
    treatment_stopped_on: date | None
    randomised_in_error: str | None
    """The reason of the newest record that they were; None when nobody recorded one."""


@dataclass(frozen=True)
class ScreeningResult:
    """One pre-screen as it stands, and by which version of the study it is judged.

    `moved_levels`: of which factors of the stratum the answers, as corrected, say another level than they were
    randomised by: (as randomised, now).
    """

    number: int
    version: int
    study_version_id: int
    answers: dict[str, Any]
    verdicts: tuple[Verdict, ...]
    eligible: bool
    failure_reason: str | None
    screened_at: datetime
    screened_by: str
    corrected_at: datetime | None
    corrected_by: str | None
    moved_levels: Mapping[str, tuple[str, str | None]]


@dataclass(frozen=True)
class Standing:
    """Where a participant stands, how far they withdrew, and since when they left the study or stopped treatment."""

    status: Status
    withdrawal_level: str | None
    withdrawn_on: date | None
    left_on: date | None
    treatment_stopped_on: date | None
    fatal_event: int | None = None


class Placed(Protocol):
    """A participant as far as one needs to know whether they may be named: `Participant` or `ParticipantRow`."""

    @property
    def id(self) -> int | None: ...
    @property
    def site_id(self) -> int: ...


def at_their_sites(by: Actor, permission: Permission = Permission.PARTICIPANT_READ) -> ColumnElement[bool]:
    """The condition on the participant table that leaves only those at sites where the person holds the permission."""
    return at_sites(sites_for(by, permission))


def at_sites(sites: frozenset[int] | None) -> ColumnElement[bool]:
    """The condition on the participant table that leaves only those at these sites; None means every site."""
    return true() if sites is None else PARTICIPANT.c.site_id.in_(sorted(sites))


@lru_cache(maxsize=256)
def narrowed_to(query: Select[Any], sites: frozenset[int] | None) -> Select[Any]:
    """A query that is built once, at these sites; the very same one for the same sites, so that it is known again."""
    return query if sites is None else query.where(at_sites(sites))


def study_of_participant(session: Session, study: StudyInUse, code: str) -> StudyInUse:
    """The study as it holds at the site of the participant with this code; for doors, whoever asks.

    Asks nothing while every site works under the same version.
    """
    if not study.others:
        return study
    site_id = session.execute(_SITE_OF, {"study_id": study.id, "code": code}).scalar()
    return study if site_id is None else study.at(site_id)


def participant_by_code(
    session: Session,
    study: StudyInUse,
    code: str,
    *,
    by: Actor,
    permission: Permission = Permission.PARTICIPANT_READ,
    hold: Hold | None = None,
) -> Participant:
    """The participant with this code; NotFound outside the person's sites, the same as for a code that never was.

    With `hold` they are held as `hold` does it, in the same statement.
    """
    if not code.isprintable():  # PostgreSQL keeps no NUL
        raise NotFound
    sites = sites_for(by, permission)
    query = _BY_CODE_HELD[hold] if hold else _BY_CODE
    row = session.execute(query, {"study_id": study.id, "code": code}).mappings().first()
    if row is None or (sites is not None and row["site_id"] not in sites):
        raise NotFound
    if hold:
        _held_here(session)[row["id"]] = hold
    return instance_of(Participant, row)


def hold(session: Session, participant_id: int, how: Hold) -> None:
    """Hold a participant until the transaction ends, unless this very transaction does so already.

    A statement of its own, before what must stand meanwhile is read: whoever waited for somebody else would read what
    stood before, where it is read in the same one.
    """
    if _held_here(session).get(participant_id) in (how, "alone"):
        return
    session.execute(_HOLD[how], {"participant_id": participant_id})
    _held_here(session)[participant_id] = how


def _held_here(session: Session) -> dict[int, Hold]:
    """Whom this transaction holds; nobody once it ended, or was rolled back to a savepoint."""
    now = transaction_of(session)
    kept: tuple[object, dict[int, Hold]] = session.info.get(HELD, (None, {}))
    if kept[0] != now or now[0] is None:
        session.info[HELD] = kept = (now, {})
    return kept[1]


def visible_codes(
    study: StudyInUse, by: Actor, *, permission: Permission = Permission.AUDIT_READ
) -> Select[tuple[str]] | None:
    """A SELECT of the codes whose log the person may read; None when they may read everybody's."""
    if sites_for(by, permission) is None:
        return None
    return select(PARTICIPANT.c.code).where(PARTICIPANT.c.study_id == study.id, at_their_sites(by, permission))


def codes_at(session: Session, study: StudyInUse, site_id: int, *, by: Actor, permission: Permission) -> set[str]:
    """The codes of the participants of one site whom the person may know."""
    query = select(PARTICIPANT.c.code).where(
        PARTICIPANT.c.study_id == study.id, PARTICIPANT.c.site_id == site_id, at_their_sites(by, permission)
    )
    return set(session.execute(query).scalars())


def participants_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    wanted: ParticipantFilter = ParticipantFilter(),
    sort: Sort = Sort.CODE,
    descending: bool = False,
    cursor: str | None = None,
    limit: int | None = None,
    questions: Select[tuple[int, int]] | None = None,
) -> paging.Page[ParticipantRow]:
    """One page of the participants at the person's sites, in one statement; by their queries in two at most.

    `questions`: how many queries stand about whom (participant_id, number), as far as the person may know it
    (`capture.queries.reads`, a room above this one). The list can be sorted and narrowed by them only with it.
    """
    size = paging.page_size(limit)
    if not f"{wanted.site or ''}{wanted.search or ''}".isprintable():  # PostgreSQL keeps no NUL
        return paging.Page([])
    key, backwards = paging.decode(cursor, 3, str, str, str) if cursor else ([], False)
    falling = backwards != descending
    sites = sites_for(by, Permission.PARTICIPANT_READ)
    kind, by_queries = session.get_bind().dialect.name, sort is Sort.QUERIES
    shape = Sort.CODE if by_queries else sort
    query = _listed(kind, sites is None, bool(wanted.site), wanted.status is not None, shape, falling)
    if wanted.among is not None:
        query = query.where(PARTICIPANT.c.id.in_(sorted(wanted.among)))
    if search := (wanted.search or "").strip().upper():
        query = query.where(_begins_with(study, search))
    position, everybody = _position(sort, key) if key else None, query
    if by_queries or wanted.asked:
        assert questions is not None  # whoever may know of none cannot sort by them either
        theirs = questions.subquery("questions")
        of_them = theirs.c.participant_id == PARTICIPANT.c.id
        query = query.join(theirs, of_them)
    if by_queries:
        others = None if wanted.asked else everybody.where(~exists().where(of_them))
        parts = _by_queries(query, theirs.c.number, others, position, falling)
    elif position is not None:
        parts = [query.where(_beyond((_COLUMNS[shape], PARTICIPANT.c.code), position, falling))]
    else:
        parts = [query]
    values: dict[str, object] = {"study_id": study.id, "size": size + 1, "site": wanted.site, "status": wanted.status}
    if sites is not None:
        values["ids"] = sorted(sites)
    found: list[RowMapping] = []
    for part in parts:
        if len(found) <= size:
            found += session.execute(part, values).mappings()
    page = paging.page_of(found[: size + 1], size, lambda row: _key(sort, row), cursor=cursor, backwards=backwards)
    return page.made(_row_of)


def newest_of(
    session: Session, study: StudyInUse, statuses: tuple[Status, ...], *, by: Actor, limit: int
) -> tuple[dict[Status, list[ParticipantRow]], bool]:
    """The newest participants of each status at the person's sites, by code, all in one statement, and whether there
    are more of any than `limit`.
    """
    sites = sites_for(by, Permission.PARTICIPANT_READ)
    values: dict[str, object] = {"study_id": study.id, "size": limit + 1}
    if sites is not None:
        values["ids"] = sorted(sites)
    found: dict[Status, list[ParticipantRow]] = {status: [] for status in statuses}
    query = _newest(session.get_bind().dialect.name, sites is None, statuses)
    for row in session.execute(query, values).mappings():
        found[Status(row["status"])].append(_row_of(row))
    ordered = {status: sorted(rows, key=lambda row: row.code, reverse=True) for status, rows in found.items()}
    more = any(len(rows) > limit for rows in ordered.values())
    return {status: rows[:limit] for status, rows in ordered.items()}, more


@lru_cache(maxsize=16)
def _newest(kind: str, everywhere: bool, statuses: tuple[Status, ...]) -> CompoundSelect[Any]:
    of_each = (
        _listed(kind, everywhere, at_site=False, with_status=False, sort=Sort.CODE, falling=True)
        .where(PARTICIPANT.c.status == written_out(status))
        .subquery()
        for status in statuses
    )
    return union_all(*(select(part) for part in of_each))


def _row_of(row: RowMapping) -> ParticipantRow:
    names = ParticipantRow.__dataclass_fields__
    return ParticipantRow(**{**{name: row[name] for name in names}, "status": Status(row["status"])})


def count_by_status(
    session: Session, study: StudyInUse, *, by: Actor, of: Collection[Status] = tuple(Status)
) -> dict[Status, int]:
    """How many participants stand where, at the person's sites; every status that is asked about has a number."""
    query = _counted(sites_for(by, Permission.PARTICIPANT_READ), tuple(of))
    counts = {str(status): int(number) for status, number in session.execute(query, {"study_id": study.id})}
    return {status: counts.get(status, 0) for status in of}


@lru_cache(maxsize=64)
def _counted(sites: frozenset[int] | None, of: tuple[Status, ...]) -> Select[Any]:
    return (
        select(PARTICIPANT.c.status, func.count())
        .where(
            PARTICIPANT.c.study_id == bindparam("study_id", type_=Integer),
            PARTICIPANT.c.status.in_(map(written_out, of)),
            at_sites(sites),
        )
        .group_by(PARTICIPANT.c.status)
    )


def screening_and_initials(
    session: Session, participant: Participant, *, by: Actor
) -> tuple[ScreeningResult | None, str, bool, bool]:
    """Of one participant, in one statement: the latest pre-screen, the initials (none for who may not know them),
    whether it was ever recorded that they were randomised in error, and whether their personal data were erased.
    """
    row = session.execute(_SCREENED_AND_WHO, {"participant_id": participant.id}).one()
    named = may(by, Permission.IDENTITY_READ, site_id=participant.site_id) and row.wrapped_key is not None
    shown = ""
    if named and participant.id is not None:
        key = unwrap(session, participant.study_id, participant.id, row.wrapped_key)
        shown = initials(open_personal(key, participant.study_id, participant.id, row.sealed))
    screened = None if row.id is None else screening_of_row(row)
    return screened, shown, row.in_error is not None, row.wrapped_key is None


def screenings_of(session: Session, participant_id: int) -> tuple[ScreeningResult, ...]:
    """Every pre-screen of a participant whom the caller may know, the oldest first."""
    return tuple(map(screening_of_row, session.execute(_SCREENINGS, {"participant_id": participant_id})))


def screening_of_row(row: Row[Any]) -> ScreeningResult:
    """The pre-screen in a row with every column of the table."""
    verdicts = tuple(Verdict(**{**said, "lacking": tuple(said["lacking"])}) for said in json.loads(row.verdicts))
    return ScreeningResult(
        number=row.id,
        version=row.version,
        study_version_id=row.study_version_id,
        answers=json.loads(row.answers),
        verdicts=verdicts,
        eligible=row.eligible,
        failure_reason=row.failure_reason,
        screened_at=row.screened_at,
        screened_by=row.screened_by,
        corrected_at=row.corrected_at,
        corrected_by=row.corrected_by,
        moved_levels={code: (was, now) for code, (was, now) in json.loads(row.moved_levels or "{}").items()},
    )


def initials_of(session: Session, participants: Iterable[Placed], *, by: Actor) -> dict[int, str]:
    """Participant id -> initials, for those whose identity the person may read; the erased are left out."""
    sites = sites_for(by, Permission.IDENTITY_READ)
    allowed = [one.id for one in participants if one.id is not None and (sites is None or one.site_id in sites)]
    if not allowed:
        return {}
    rows = session.execute(_IDENTITIES[session.get_bind().dialect.name], {"ids": allowed})
    found = {}
    for row in rows:
        key = unwrap(session, row.study_id, row.id, row.wrapped_key)
        found[row.id] = initials(open_personal(key, row.study_id, row.id, row.sealed))
    return found


def next_code(session: Session, study: StudyInUse, further: int = 1) -> str:
    """The code that the next participant of the study gets, or the one so many further; somebody may come between."""
    last = session.execute(_LAST, {"study_id": study.id}).scalar_one()
    return code_of(study.definition, last + further)


def today_at_site(session: Session, participant: Participant, now: datetime) -> date:
    """The date where the participant is seen."""
    timezone = session.execute(_TIMEZONE, {"site_id": participant.site_id}).scalar_one()
    return clock.today(str(timezone), now)


def held(session: Session, participant_id: int) -> Standing:
    """Where the participant stands now, held alone (`hold`) until the transaction ends: whoever changes them waits."""
    row = session.execute(_HELD, {"participant_id": participant_id}).one()
    _held_here(session)[participant_id] = "alone"
    return Standing(
        Status(row.status),
        row.withdrawal_level,
        row.withdrawn_on,
        row.left_on,
        row.treatment_stopped_on,
        row.fatal_event,
    )


def code_of(definition: Study, number: int) -> str:
    """The code of the participant with this number."""
    return f"{definition.participant_prefix}{number:0{definition.participant_digits}d}"


@cache
def _listed(kind: str, everywhere: bool, at_site: bool, with_status: bool, sort: Sort, falling: bool) -> Select[Any]:
    """The list of one shape, built once: putting it together takes longer than running it."""
    query = (
        select(
            PARTICIPANT.c.id,
            PARTICIPANT.c.code,
            PARTICIPANT.c.site_id,
            SITE.c.code.label("site_code"),
            SITE.c.name.label("site_name"),
            PARTICIPANT.c.status,
            PARTICIPANT.c.screened_on,
            PARTICIPANT.c.consented_on,
            PARTICIPANT.c.randomised_on,
            PARTICIPANT.c.withdrawn_on,
            PARTICIPANT.c.withdrawal_level,
            PARTICIPANT.c.treatment_stopped_on,
            IN_ERROR.c.reason.label("randomised_in_error"),
        )
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .join(IN_ERROR, IN_ERROR.c.id == NEWEST_IN_ERROR, isouter=True)
        .where(PARTICIPANT.c.study_id == bindparam("study_id", type_=Integer))
    )
    if not everywhere:
        query = query.where(among(PARTICIPANT.c.site_id, kind))
    if at_site:
        query = query.where(SITE.c.code == bindparam("site", type_=String))
    if with_status:
        query = query.where(PARTICIPANT.c.status == bindparam("status", type_=String))
    order = [one.desc() if falling else one.asc() for one in (_COLUMNS[sort], PARTICIPANT.c.code)]
    return query.order_by(*order).limit(bindparam("size", type_=Integer))


def _by_queries(
    asked: Select[Any],
    number: ColumnElement[int],
    others: Select[Any] | None,
    position: tuple[Any, str] | None,
    falling: bool,
) -> list[Select[Any]]:
    """What to ask for, one after the other, until the page is full: those of whom something is asked (`asked`, with
    its number) and those of whom nothing is, the largest number first or last. To sort them all by it reads them all.
    """
    order = [one.desc() if falling else one.asc() for one in (number, PARTICIPANT.c.code)]
    asked = asked.add_columns(number.label("queries")).order_by(None).order_by(*order)
    if position is not None:
        asked = asked.where(_beyond((number, PARTICIPANT.c.code), position, falling))
    if others is None:
        return [asked]
    others = others.add_columns(literal(0).label("queries"))
    if position is None:
        return [asked, others] if falling else [others, asked]
    if position[0]:
        return [asked, others] if falling else [asked]
    others = others.where(_beyond((PARTICIPANT.c.code,), position[1:], falling))
    return [others] if falling else [others, asked]


def _beyond(columns: Sequence[ColumnElement[Any]], position: Sequence[Any], falling: bool) -> ColumnElement[bool]:
    here, there = tuple_(*columns), tuple_(*position)
    return here < there if falling else here > there


def _begins_with(study: StudyInUse, search: str) -> ColumnElement[bool]:
    """Whether a code begins with what was typed, or is the number that was typed."""
    conditions = [PARTICIPANT.c.code.startswith(search, autoescape=True)]
    if search.isdigit():
        prefix, digits = study.definition.participant_prefix, study.definition.participant_digits
        conditions.append(PARTICIPANT.c.code == f"{prefix}{search.zfill(digits)}")
        conditions.append(PARTICIPANT.c.code.startswith(f"{prefix}{search}", autoescape=True))
    return or_(*conditions)


def _key(sort: Sort, row: Mapping[Any, Any]) -> tuple[str, str, str]:
    if sort is Sort.QUERIES:
        value = str(row["queries"])
    else:
        value = {
            Sort.CODE: row["code"],
            Sort.STATUS: row["status"],
            Sort.SITE: row["site_code"],
            Sort.SCREENED_ON: row["screened_on"].isoformat(),
        }[sort]
    return sort.value, value, row["code"]


def _position(sort: Sort, key: list[str]) -> tuple[Any, str]:
    name, value, code = key
    try:
        if name != sort or not (value + code).isprintable():
            raise ValueError
        if sort is Sort.QUERIES:
            return int(value[:9]), code
        return (date.fromisoformat(value) if sort is Sort.SCREENED_ON else value), code
    except ValueError:
        raise Invalid(
            [
                FieldProblem(
                    "cursor", "cursor", "This page link belongs to another list. Start again from the first page."
                )
            ]
        ) from None
