"""What may I see of reviews of the log? What is worth a look since the last one, and the reviews there were."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from itertools import islice
from json import loads
from typing import Any

from sqlalchemy import ColumnElement, Integer, String, and_, bindparam, case, cast, func, literal, or_, select
from sqlmodel import Session

from app.audit.actions import ENTRY, HEAD
from app.audit.models import SYSTEM_LOG
from app.capture.actions import COMPUTED_AGAIN, NO_LONGER_ASKED
from app.foundation import paging
from app.foundation.database import KINDS, among, as_text, batches, table_of
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound
from app.participants.identity import PARTICIPANT
from app.people.access import Actor, require, sites_for
from app.people.permissions import Permission
from app.people.reads import MEMBERSHIP, PERSON, sites_of
from app.reports.kept import KeptCounts
from app.reports.models import LogReview
from app.reports.review.rules import LARGE, MOST, SIGN_INS, Finding, Found, Line, Looking, from_kept, scope_of
from app.schedule.reads import VISIT
from app.studies.in_use import StudyInUse

REVIEW = table_of(LogReview)
ACTION = "log.review"
MEANWHILE = "Somebody recorded a review of these entries meanwhile. Look at what has come since."
BATCH = 5_000
PEOPLE = 10_000
"""Participants whose visits are asked for in one statement."""
SKEW = timedelta(seconds=5)
"""So much the clocks of two servers differ without anybody minding (`EQUIPOISE_CLOCK_SECONDS` says otherwise)."""

# Built once: putting a statement together takes longer than running it.
_LAST = (
    select(REVIEW.c.log_to, REVIEW.c.system_to, REVIEW.c.reviewed_at, REVIEW.c.reviewed_by, REVIEW.c.id)
    .where(
        REVIEW.c.study_id == bindparam("of_study", type_=Integer),
        REVIEW.c.sites.in_(("", bindparam("scope", type_=String))),
    )
    .order_by(REVIEW.c.log_to.desc(), REVIEW.c.id.desc())
    .limit(1)
)
_HEADS = select(HEAD.c.log, HEAD.c.size, HEAD.c.root).where(
    HEAD.c.log.in_((bindparam("of_log", type_=String), SYSTEM_LOG))
)
_HELD = {
    kind: select(VISIT.c.participant_id, VISIT.c.code, VISIT.c.held_on).where(
        among(VISIT.c.participant_id, kind), VISIT.c.held_on.is_not(None)
    )
    for kind in KINDS
}


@dataclass(frozen=True)
class Stretch:
    """What is to be reviewed next: from where to where, in the study's log and the system's; and the review before."""

    sites: frozenset[int] | None
    since: int
    upto: int
    system_since: int
    system_upto: int
    head_size: int
    head_root: bytes
    last_number: int | None = None
    last_at: datetime | None = None
    last_by: str = ""

    @property
    def entries(self) -> int:
        """How many entries of the study's log are in it."""
        return self.upto - self.since

    @property
    def more(self) -> int:
        """How many entries stand behind it, for the next review."""
        return self.head_size - self.upto


@dataclass(frozen=True)
class ReviewRow:
    """One review: who, when, of which entries, what was found with a word on each, and what follows."""

    number: int
    sites: frozenset[int] | None
    log_from: int
    log_to: int
    head_size: int
    head_root: str
    findings: tuple[tuple[Finding, str], ...]
    follows: str
    reviewed_at: datetime
    reviewed_by: str


def next_stretch(session: Session, study: StudyInUse, *, by: Actor) -> Stretch:
    """What nobody has reviewed of the sites where this person reviews the log."""
    require(by, Permission.LOG_REVIEW)
    sites = sites_for(by, Permission.LOG_REVIEW)
    last = session.execute(_LAST, {"of_study": study.id, "scope": scope_of(sites)}).first()
    heads = {row.log: row for row in session.execute(_HEADS, {"of_log": study.code})}
    head, system = heads.get(study.code), heads.get(SYSTEM_LOG)
    size = head.size if head else 0
    since, system_since = (last.log_to, last.system_to) if last else (0, 0)
    return Stretch(
        sites=sites,
        since=since,
        upto=min(size, since + MOST),
        system_since=system_since,
        system_upto=max(system.size if system else 0, system_since),
        head_size=size,
        head_root=head.root if head else b"",
        last_number=last.id if last else None,
        last_at=last.reviewed_at if last else None,
        last_by=last.reviewed_by if last else "",
    )


def worth_a_look(
    session: Session,
    study: StudyInUse,
    kept: KeptCounts,
    *,
    by: Actor,
    now: datetime,
    since: int | None = None,
    upto: int | None = None,
    again: bool = False,
    waits: bool = False,
    skew: timedelta = SKEW,
) -> tuple[Stretch, Found | None]:
    """The next stretch and what is worth a look in it; None while a long one is gone through for the first time.

    `since` and `upto` are where a stretch began and ended that somebody has seen: theirs is found, even if the log went
    on; Conflict when it was reviewed meanwhile. `waits` is for whoever rather waits.
    """
    stretch = next_stretch(session, study, by=by)
    looks = kept.looks(study, scope_of(stretch.sites), stretch.since)
    look = partial(looked_through, study=study, stretch=stretch, now=now, skew=skew)
    waits = waits or stretch.entries < LARGE
    found = looks.at_once(study, look, now=now, again=again, waits=waits, elsewhere=True)
    if found is None and waits:
        found = looks.waited_for(study, partial(look, session), now=now, again=again)
    if upto is not None and (found is None or found.upto != upto):
        if upto <= stretch.since:
            raise Conflict(MEANWHILE, action=ACTION, subject="/review")
        if upto > stretch.upto:
            words = "The log does not go so far. Look at what is worth a look, and review that."
            raise Invalid([FieldProblem("upto", "range", words)])
        found = looked_through(session, study=study, stretch=stretch, now=now, skew=skew, upto=upto)
    if since not in (None, stretch.since):
        raise Conflict(MEANWHILE, action=ACTION, subject="/review")
    return stretch, found


def looked_through(
    session: Session,
    *,
    study: StudyInUse,
    stretch: Stretch,
    now: datetime,
    skew: timedelta = SKEW,
    upto: int | None = None,
) -> Found:
    """What is worth a look in a stretch, in four statements: one reading of its entries, and what belongs to them."""
    upto = stretch.upto if upto is None else upto
    sites = sites_of(session, study.id)
    looking = Looking({site.id: site.timezone for site in sites}, everywhere=stretch.sites is None, skew=skew)
    kind = session.get_bind().dialect.name
    for rows in batches(session, _entries(study, stretch, upto, kind), size=BATCH):
        looking.add(rows)
    held = {(row[0], row[1]): row[2] for row in _held_visits(session, {person for person, _ in looking.entered}, kind)}
    sign_ins = _failed_sign_ins(session, study, stretch) if stretch.sites is None else ()
    return Found(
        at=now,
        sites=stretch.sites,
        since=stretch.since,
        upto=upto,
        system_since=stretch.system_since,
        system_upto=stretch.system_upto,
        entries=upto - stretch.since,
        findings=looking.findings({site.id: site.code for site in sites}, held=held, sign_ins=sign_ins),
    )


def _entries(study: StudyInUse, stretch: Stretch, upto: int, kind: str) -> Any:
    """The columns that `Looking.add` takes. Of values only that one is missing, and why; and when it was typed."""
    said = case(
        (or_(ENTRY.c.new.like('{"missing":%'), ENTRY.c.action == "entry.typed_offline"), ENTRY.c.new), else_=None
    )
    computed = case((ENTRY.c.why.in_((COMPUTED_AGAIN, NO_LONGER_ASKED)), 1), else_=0)
    waited_from = cast(func.coalesce(PARTICIPANT.c.consented_on, PARTICIPANT.c.screened_on), String)
    there: list[ColumnElement[bool]] = [
        ENTRY.c.log == study.code,
        ENTRY.c.position >= stretch.since,
        ENTRY.c.position < upto,
    ]
    if stretch.sites is not None:
        there.append(PARTICIPANT.c.site_id.in_(sorted(stretch.sites)))
    return (
        select(
            ENTRY.c.position,
            as_text(ENTRY.c.at, kind),
            *(ENTRY.c[name] for name in ("username", "role", "via", "action", "participant", "subject", "item")),
            ENTRY.c.request_id,
            said,
            computed,
            PARTICIPANT.c.id,
            PARTICIPANT.c.site_id,
            waited_from,
            cast(PARTICIPANT.c.randomised_on, String),
        )
        .select_from(
            ENTRY.outerjoin(
                PARTICIPANT, and_(PARTICIPANT.c.study_id == study.id, PARTICIPANT.c.code == ENTRY.c.participant)
            )
        )
        .where(*there)
        .order_by(ENTRY.c.position)
    )


def _held_visits(session: Session, people: Iterable[int], kind: str) -> Iterator[tuple[int, str, date]]:
    rest = iter(sorted(people))
    while some := list(islice(rest, PEOPLE)):
        for row in session.execute(_HELD[kind], {"ids": some}):
            yield row.participant_id, row.code, row.held_on


def _failed_sign_ins(session: Session, study: StudyInUse, stretch: Stretch) -> Sequence[Line]:
    """Of people with a role in this study, in the system's log: other accounts are not for these eyes."""
    theirs = (
        select(literal("person/").concat(PERSON.c.username))
        .join(MEMBERSHIP, MEMBERSHIP.c.person_id == PERSON.c.id)
        .where(MEMBERSHIP.c.study_id == study.id, MEMBERSHIP.c.revoked_at.is_(None))
    )
    throttled = func.sum(case((ENTRY.c.action == "sign_in.throttled", 1), else_=0))
    failed = func.sum(case((ENTRY.c.action == "sign_in.failed", 1), else_=0))
    rows = session.execute(
        select(ENTRY.c.subject, failed, throttled)
        .where(
            ENTRY.c.log == SYSTEM_LOG,
            ENTRY.c.action.in_(("sign_in.failed", "sign_in.throttled")),
            ENTRY.c.position >= stretch.system_since,
            ENTRY.c.position < stretch.system_upto,
            ENTRY.c.subject.in_(theirs),
        )
        .group_by(ENTRY.c.subject)
    )
    return [
        Line(who=subject.removeprefix("person/"), number=int(wrong))
        for subject, wrong, waited in rows
        if wrong >= SIGN_INS or waited
    ]


# Reviews there were


def reviews_page(
    session: Session, study: StudyInUse, *, by: Actor, cursor: str | None = None, limit: int | None = None
) -> paging.Page[ReviewRow]:
    """One page of the reviews, the newest first; for who reviews some sites, those of no other."""
    require(by, Permission.LOG_REVIEW)
    query = select(REVIEW).where(REVIEW.c.study_id == study.id, *_theirs(by))
    return paging.page_by_number(session, query, REVIEW.c.id, cursor=cursor, limit=limit).made(_review)


def all_reviews(session: Session, study: StudyInUse, *, by: Actor) -> list[ReviewRow]:
    """Every review, the newest first: there are few, as people write them."""
    require(by, Permission.LOG_REVIEW)
    query = select(REVIEW).where(REVIEW.c.study_id == study.id, *_theirs(by)).order_by(REVIEW.c.id.desc())
    return [_review(row) for row in session.execute(query)]


def review_of(session: Session, study: StudyInUse, number: int, *, by: Actor) -> ReviewRow:
    """One review; NotFound when there is none of this number that is theirs to know."""
    require(by, Permission.LOG_REVIEW)
    found = None
    if 0 <= number < 2**31:  # no column holds more
        query = select(REVIEW).where(REVIEW.c.study_id == study.id, REVIEW.c.id == number, *_theirs(by))
        found = session.execute(query).first()
    if found is None:
        raise NotFound
    return _review(found)


def _theirs(by: Actor) -> tuple[ColumnElement[bool], ...]:
    """What whoever sees the whole study found stands beside other sites: for who sees some, theirs alone."""
    sites = sites_for(by, Permission.LOG_REVIEW)
    return () if sites is None else (REVIEW.c.sites == scope_of(sites),)


def _review(row: Any) -> ReviewRow:
    return ReviewRow(
        number=row.id,
        sites=frozenset(map(int, row.sites.split())) if row.sites else None,
        log_from=row.log_from,
        log_to=row.log_to,
        head_size=row.head_size,
        head_root=row.head_root,
        findings=tuple(from_kept(loads(row.findings))),
        follows=row.follows,
        reviewed_at=row.reviewed_at,
        reviewed_by=row.reviewed_by,
    )
