"""What may I see of unblinding? Who learnt what, when and why; no arm, but for what a decision opened to me."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Integer, and_, bindparam, exists, func, or_, select, true
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.capture.locks.reads import LOCK
from app.capture.locks.rules import Kind as Locked
from app.foundation import paging
from app.foundation.database import Instant, keys_of, table_of, within, written_out
from app.foundation.errors import NotFound
from app.participants.models import Participant
from app.participants.reads import visible_codes
from app.people.access import Actor, require, sites_for
from app.people.models import Site
from app.people.permissions import UNBLINDED, Permission
from app.randomisation.methods import TOGETHER
from app.randomisation.models import Allocation, AllocationSequence, SequenceStatus, Slot, Stratum, Unblinding
from app.randomisation.opening import BATCH, open_unblinded
from app.randomisation.predictability import Guess, knowing
from app.randomisation.reads import require_statistician
from app.randomisation.sealing import unseal_secrets
from app.randomisation.unblinding.rules import (
    Closing,
    Earlier,
    Kind,
    State,
    counted_since,
    state_of,
    unusual_sites,
)
from app.schedule.models import ParticipantVisit
from app.schedule.status import VisitStatus
from app.studies.in_use import StudyInUse

UNBLINDING = table_of(Unblinding)
PARTICIPANT = table_of(Participant)
SITE = table_of(Site)
ALLOCATION = table_of(Allocation)
SEQUENCE = table_of(AllocationSequence)
STRATUM = table_of(Stratum)
SLOT = table_of(Slot)
VISIT = table_of(ParticipantVisit)

# Built once: putting a SELECT together takes longer than running it.
_COLUMNS = [column for column in UNBLINDING.c if column.name not in ("study_id", "participant_id")]
_CASES = (
    select(*_COLUMNS, PARTICIPANT.c.code.label("participant"), SITE.c.code.label("site"))
    .outerjoin(PARTICIPANT, PARTICIPANT.c.id == UNBLINDING.c.participant_id)
    .outerjoin(SITE, SITE.c.id == UNBLINDING.c.site_id)
    .where(UNBLINDING.c.study_id == bindparam("study_id", type_=Integer))
)
_EMERGENCIES = (
    select(
        UNBLINDING.c.id,
        UNBLINDING.c.participant_id,
        UNBLINDING.c.recorded_at,
        UNBLINDING.c.recorded_by,
        UNBLINDING.c.why,
    )
    .where(
        UNBLINDING.c.kind == Kind.EMERGENCY,
        UNBLINDING.c.site_id == bindparam("site_id", type_=Integer),
        or_(
            UNBLINDING.c.participant_id == bindparam("participant_id", type_=Integer),
            UNBLINDING.c.recorded_at >= bindparam("since", type_=Instant),
        ),
    )
    .order_by(UNBLINDING.c.id)
)


@dataclass(frozen=True)
class Case:
    """One unblinding. `participant` and `site` are codes, None when it is about the whole study."""

    number: int
    kind: Kind
    state: State
    participant: str | None
    site: str | None
    site_id: int | None
    at: datetime
    by: str
    reason: str | None
    why: str
    asked_by: str | None
    learnt_by: str | None
    learnt_on: date | None
    told: tuple[str, ...]
    expires_at: datetime | None
    opens_until: datetime | None
    decided_at: datetime | None
    decided_by: str | None
    decision: str | None
    impact: str | None
    assessed_at: datetime | None
    assessed_by: str | None


@dataclass(frozen=True)
class Openings:
    """How many envelopes one person in an unblinded role has had opened."""

    username: str
    role: str
    count: int
    last_at: datetime


@dataclass(frozen=True)
class Guessed:
    """A stratum of which sites learnt arms: how many of its allocations, and what that says of the slots that remain.

    `before` is what could be guessed without, `after` with it; None where it is not computed.
    """

    stratum: str
    used: int
    known: int
    before: Guess | None
    after: Guess | None


@dataclass(frozen=True)
class Wanted:
    """Which unblindings somebody looks for; None means all. `waiting`: only those that wait for somebody."""

    kind: Kind | None = None
    waiting: bool = False
    participant: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class ReleasedArm:
    """One line of what an approved request opened."""

    number: int
    participant: str
    arm: str


def cases(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    now: datetime,
    wanted: Wanted = Wanted(),
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Case]:
    """One page of the unblindings this person may know of, newest first, in one statement."""
    require(by, Permission.UNBLINDING_READ)
    query = _CASES.where(_theirs(by))
    if wanted.kind is not None:
        query = query.where(UNBLINDING.c.kind == wanted.kind)
    if wanted.waiting:
        query = query.where(_waits(now))
    if wanted.participant is not None:
        query = query.where(PARTICIPANT.c.code == wanted.participant)
    query = query.where(*within(UNBLINDING.c.recorded_at, wanted.since, wanted.until))
    values = {"study_id": study.id}
    page = paging.page_by_number(session, query, UNBLINDING.c.id, cursor=cursor, limit=limit, values=values)
    return page.made(lambda row: _case(row, now))


def case_of(session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime) -> Case:
    """One unblinding; NotFound when there is none, or it is not this person's to know."""
    require(by, Permission.UNBLINDING_READ)
    query = _CASES.where(UNBLINDING.c.id == bindparam("number", type_=Integer), _theirs(by))
    row = session.execute(query, {"study_id": study.id, "number": number}).first()
    if row is None:
        raise NotFound
    return _case(row, now)


def openings(session: Session, study: StudyInUse, *, by: Actor) -> tuple[Openings, ...]:
    """How many envelopes were opened for whom in an unblinded role, as counts, of the participants one may know of."""
    require(by, Permission.UNBLINDING_READ)
    query = (
        select(ENTRY.c.username, ENTRY.c.role, func.count().label("openings"), func.max(ENTRY.c.at).label("last_at"))
        .where(
            ENTRY.c.log == study.code,
            ENTRY.c.action == written_out("envelope.opened"),
            ENTRY.c.role.in_(sorted(UNBLINDED)),
        )
        .group_by(ENTRY.c.username, ENTRY.c.role)
        .order_by(ENTRY.c.username, ENTRY.c.role)
    )
    codes = visible_codes(study, by, permission=Permission.UNBLINDING_READ)
    if codes is not None:
        query = query.where(ENTRY.c.participant.in_(codes))
    return tuple(Openings(row.username, row.role, row.openings, row.last_at) for row in session.execute(query))


def frequent_sites(session: Session, study: StudyInUse, *, by: Actor, now: datetime) -> list[tuple[str, int]]:
    """The sites with unusually many emergencies of late: (code, number), of those this person may know of."""
    require(by, Permission.UNBLINDING_READ)
    counts = session.execute(
        select(SITE.c.code, func.count())
        .join(UNBLINDING, UNBLINDING.c.site_id == SITE.c.id)
        .where(
            UNBLINDING.c.study_id == study.id,
            UNBLINDING.c.kind == Kind.EMERGENCY,
            UNBLINDING.c.recorded_at >= counted_since(study.definition, now),
            _theirs(by),
        )
        .group_by(SITE.c.code)
        .order_by(SITE.c.code)
    ).all()
    return unusual_sites(study.definition, [(code, count) for code, count in counts])


def guessing(session: Session, study: StudyInUse, *, by: Actor) -> tuple[Guessed, ...]:
    """How far the arms that sites learnt help to guess what comes next, by stratum (CONC-14); no envelope is opened.

    What counts is an emergency or an accident at a site. `NotFound` for all but the statistician: block sizes and how
    far a list is show through.
    """
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    learnt = select(UNBLINDING.c.participant_id).where(
        UNBLINDING.c.study_id == study.id, UNBLINDING.c.kind.in_((Kind.EMERGENCY, Kind.ACCIDENTAL))
    )
    rows = session.execute(
        select(STRATUM.c.sequence_id, STRATUM.c.code, STRATUM.c.used, STRATUM.c.slots, SLOT.c.position)
        .join(SLOT, SLOT.c.stratum_id == STRATUM.c.id)
        .join(ALLOCATION, ALLOCATION.c.slot_id == SLOT.c.id)
        .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
        .where(
            SEQUENCE.c.study_id == study.id,
            SEQUENCE.c.status == SequenceStatus.SEALED,
            ALLOCATION.c.participant_id.in_(learnt),
        )
        .order_by(STRATUM.c.sequence_id, STRATUM.c.code, SLOT.c.position)
    ).all()
    found = []
    for (sequence, code, used, slots), group in groupby(rows, key=lambda row: row[:4]):
        known = frozenset(row.position for row in group)
        before, after = _guesses(session, study, sequence, used, slots, known)
        found.append(Guessed(code, used, len(known), before, after))
    return tuple(found)


def _guesses(
    session: Session, study: StudyInUse, sequence: int, used: int, slots: int, known: frozenset[int]
) -> tuple[Guess | None, Guess | None]:
    """Before and after what was learnt in this stratum; None for a method that is not computed."""
    row = session.execute(select(SEQUENCE.c.version, SEQUENCE.c.secrets).where(SEQUENCE.c.id == sequence)).one()
    drawn = unseal_secrets(keys_of(session), study.id, row.version, bytes(row.secrets))
    shares = [share for _, share in drawn["arms"]]
    if drawn["method"] in TOGETHER:  # one person of a site tells everybody's arm who follows there
        chance = Fraction(max(shares), sum(shares))
        return Guess(chance, Fraction(0), Fraction(0)), Guess(Fraction(1), Fraction(1), Fraction(slots - used))
    if not drawn["block_sizes"]:
        return None, None
    return tuple(knowing(shares, drawn["block_sizes"], used, each) for each in (frozenset(), known))  # type: ignore[return-value]


def emergencies(
    session: Session, study: StudyInUse, participant: Participant, *, now: datetime
) -> tuple[list[Earlier], int]:
    """The emergencies of this participant, oldest first; and how many there were at the site of late."""
    since = counted_since(study.definition, now)
    asked = {"site_id": participant.site_id, "participant_id": participant.id, "since": since}
    rows = session.execute(_EMERGENCIES, asked).all()
    found = [Earlier(row.id, row.participant_id, row.recorded_at, row.recorded_by, row.why) for row in rows]
    mine = [each for each in found if each.participant_id == participant.id]
    return mine, sum(each.at >= since for each in found)


def closing(session: Session, study: StudyInUse) -> Closing:
    """How far the study is towards its end, in one statement."""
    randomised = select(func.count()).select_from(ALLOCATION).where(ALLOCATION.c.study_id == study.id)
    sites = select(func.count()).select_from(SITE).where(SITE.c.study_id == study.id, SITE.c.is_open)
    planned = (
        select(func.count())
        .select_from(VISIT)
        .where(
            VISIT.c.study_id == study.id,
            VISIT.c.status == VisitStatus.PLANNED,
            VISIT.c.participant_id.in_(select(ALLOCATION.c.participant_id).where(ALLOCATION.c.study_id == study.id)),
        )
    )
    # Whatever was held holds data; one lock may be of everybody, and of every visit.
    locked = (
        exists()
        .where(
            LOCK.c.study_id == study.id,
            LOCK.c.lifted_at.is_(None),
            LOCK.c.kind == Locked.LOCKED,
            LOCK.c.participant_key.in_((0, VISIT.c.participant_id)),
            LOCK.c.visit_key.in_(("", VISIT.c.code)),
        )
        .correlate(VISIT)
    )
    not_locked = select(func.count(VISIT.c.participant_id.distinct())).where(
        VISIT.c.study_id == study.id,
        VISIT.c.status == VisitStatus.HELD,
        VISIT.c.participant_id.in_(select(ALLOCATION.c.participant_id).where(ALLOCATION.c.study_id == study.id)),
        ~locked,
    )
    counts = (randomised, sites, planned, not_locked)
    row = session.execute(select(*(each.scalar_subquery() for each in counts))).one()
    return Closing(*map(int, row))


def released_arms(
    session: Session,
    study: StudyInUse,
    case: Case,
    *,
    by: Actor,
    now: datetime,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[ReleasedArm]:
    """One page of the arms that an approved request opens to whoever made it; each envelope is an audit entry.

    NotFound for everybody else, and once it is over. The session must be a writing one, committed before it is shown.
    """
    _require_open(case, by)
    after = 0
    if cursor:
        (after,), _ = paging.decode(cursor, 1, int)
    rows, more = _released(session, study, case, after, paging.page_size(limit), by=by, now=now)
    return paging.Page(rows, next=paging.encode(rows[-1].number) if more else None)


def every_released_arm(
    session: Session, study: StudyInUse, case: Case, *, by: Actor, now: datetime
) -> Iterator[ReleasedArm]:
    """All of them, in batches; otherwise as `released_arms`."""
    _require_open(case, by)
    return _every(session, study, case, by=by, now=now)


def _every(session: Session, study: StudyInUse, case: Case, *, by: Actor, now: datetime) -> Iterator[ReleasedArm]:
    after, more = 0, True
    while more:
        rows, more = _released(session, study, case, after, BATCH, by=by, now=now)
        yield from rows
        after = rows[-1].number if rows else after


def _require_open(case: Case, by: Actor) -> None:
    if case.kind is not Kind.PLANNED or case.state is not State.APPROVED or case.by != by.username:
        raise NotFound


def _released(
    session: Session, study: StudyInUse, case: Case, after: int, size: int, *, by: Actor, now: datetime
) -> tuple[list[ReleasedArm], bool]:
    query = (
        select(ALLOCATION.c.number, ALLOCATION.c.participant_id, PARTICIPANT.c.code)
        .join(PARTICIPANT, PARTICIPANT.c.id == ALLOCATION.c.participant_id)
        .where(ALLOCATION.c.study_id == study.id, ALLOCATION.c.number > after)
        .order_by(ALLOCATION.c.number)
        .limit(size + 1)
    )
    if case.participant is not None:
        query = query.where(PARTICIPANT.c.code == case.participant)
    found = session.execute(query).all()
    rows: Sequence[Any] = found[:size]
    why = f"Planned unblinding {case.number}"
    ids = [row.participant_id for row in rows]
    arms = open_unblinded(session, study, case.number, ids, by=by, why=why, now=now) if ids else {}
    shown = [ReleasedArm(row.number, row.code, arms[row.participant_id]) for row in rows if row.participant_id in arms]
    return shown, len(found) > size and bool(shown)


def _theirs(by: Actor) -> ColumnElement[bool]:
    """Those at the person's sites, and those of the whole study, which concern every site."""
    sites = sites_for(by, Permission.UNBLINDING_READ)
    return true() if sites is None else or_(UNBLINDING.c.site_id.is_(None), UNBLINDING.c.site_id.in_(sorted(sites)))


def _waits(now: datetime) -> ColumnElement[bool]:
    return or_(
        and_(UNBLINDING.c.kind == Kind.ACCIDENTAL, UNBLINDING.c.assessed_at.is_(None)),
        and_(UNBLINDING.c.kind == Kind.PLANNED, UNBLINDING.c.approved.is_(None), UNBLINDING.c.expires_at > now),
    )


def _case(row: Any, now: datetime) -> Case:
    return Case(
        number=row.id,
        kind=Kind(row.kind),
        state=state_of(
            row.kind,
            approved=row.approved,
            expires_at=row.expires_at,
            opens_until=row.opens_until,
            assessed_at=row.assessed_at,
            now=now,
        ),
        participant=row.participant,
        site=row.site,
        site_id=row.site_id,
        at=row.recorded_at,
        by=row.recorded_by,
        reason=row.reason,
        why=row.why,
        asked_by=row.asked_by,
        learnt_by=row.learnt_by,
        learnt_on=row.learnt_on,
        told=tuple(row.told.split()),
        expires_at=row.expires_at,
        opens_until=row.opens_until,
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        decision=row.decision,
        impact=row.impact,
        assessed_at=row.assessed_at,
        assessed_by=row.assessed_by,
    )
