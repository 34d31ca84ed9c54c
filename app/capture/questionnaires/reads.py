"""Which questions are asked by link, of whom, from which day, and what became of them?"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
)
from sqlmodel import Session

from app.capture.reads import ENTRY
from app.capture.status import EntryStatus
from app.foundation import paging
from app.foundation.database import written_out
from app.participants.identity import PARTICIPANT
from app.participants.links.reads import LINK
from app.participants.links.rules import Purpose
from app.participants.reads import SITE, at_their_sites
from app.participants.status import Status
from app.people.access import Actor
from app.people.permissions import Permission
from app.schedule.reads import VISIT
from app.schedule.status import VisitStatus
from app.studies.definition import Reminder, Study
from app.studies.in_use import StudyInUse

DAY = timedelta(days=1)
ASKED = (VisitStatus.PLANNED, VisitStatus.HELD)
TAKING_PART = (Status.CONSENTED, Status.RANDOMISED, Status.COMPLETED)
"""Who is sent a link, and reminded of it, by rule."""


@dataclass(frozen=True)
class Window:
    """The window of one visit, how the visit stands, and the zone of the site."""

    status: str
    opens_on: date
    closes_on: date
    timezone: str


_WINDOW = (
    select(VISIT.c.status, VISIT.c.opens_on, VISIT.c.closes_on, SITE.c.timezone)
    .join(PARTICIPANT, PARTICIPANT.c.id == VISIT.c.participant_id)
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .where(VISIT.c.participant_id == bindparam("participant_id"), VISIT.c.code == bindparam("visit"))
)


def window_of(session: Session, participant_id: int, visit: str) -> Window | None:
    """The window of a visit; None while it has no date. A caller was allowed to see the participant already."""
    row = session.execute(_WINDOW, {"participant_id": participant_id, "visit": visit}).first()
    return Window(*row) if row is not None else None


# What a rule of the study asks


@dataclass(frozen=True)
class Asked:
    """A visit whose questions a participant answers by link, and the link once there is one."""

    participant_id: int
    participant: str
    status: Status
    withdrawal_level: str | None
    site_id: int
    site_name: str
    timezone: str
    visit_id: int
    visit: str
    kind: str
    opens_on: date
    closes_on: date
    link_id: int | None = None
    language: str | None = None
    seed: bytes | None = None
    made_at: datetime | None = None
    expires_at: datetime | None = None


_ASKED = (
    PARTICIPANT.c.id.label("participant_id"),
    PARTICIPANT.c.code.label("participant"),
    PARTICIPANT.c.status,
    PARTICIPANT.c.withdrawal_level,
    PARTICIPANT.c.site_id,
    SITE.c.name.label("site_name"),
    SITE.c.timezone,
    VISIT.c.id.label("visit_id"),
    VISIT.c.code.label("visit"),
    VISIT.c.kind,
    VISIT.c.opens_on,
    VISIT.c.closes_on,
)


def visits_to_ask(session: Session, study: StudyInUse, rule: Reminder, *, now: datetime) -> list[Asked]:
    """The planned visits with questions for the participant, whose window is open by now and who have no link yet."""
    codes = _visits_of(study, rule)
    longest = max((_length(each, code) for each in study.definitions for code in codes), default=0)
    latest = (now + DAY).date()  # at a site it may be tomorrow already
    linked = exists().where(
        LINK.c.participant_id == VISIT.c.participant_id,
        LINK.c.purpose == Purpose.QUESTIONS,
        LINK.c.about == VISIT.c.code,
    )
    rows = session.execute(
        select(*_ASKED)
        .select_from(VISIT)
        .join(PARTICIPANT, PARTICIPANT.c.id == VISIT.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(
            VISIT.c.study_id == study.id,
            VISIT.c.status == written_out(VisitStatus.PLANNED.value),
            VISIT.c.closes_on.between((now - DAY).date(), latest + longest * DAY),
            VISIT.c.opens_on <= latest - rule.days * DAY,
            VISIT.c.code.in_(codes),
            PARTICIPANT.c.status.in_(TAKING_PART),
            not_(linked),
            not_(_is_answered(study, VISIT.c.participant_id, VISIT.c.code)),
        )
        .order_by(VISIT.c.closes_on, VISIT.c.id)
    )
    return [Asked(**{**row._mapping, "status": Status(row.status)}) for row in rows]


def links_unanswered(session: Session, study: StudyInUse, rule: Reminder, *, now: datetime) -> list[Asked]:
    """The links that work, whose questions are not all answered, and that were given so many days ago."""
    made = (LINK.c.id.label("link_id"), LINK.c.language, LINK.c.seed, LINK.c.made_at, LINK.c.expires_at)
    rows = session.execute(
        _waiting(study, *_ASKED, *made).where(
            LINK.c.expires_at > now,
            LINK.c.made_at <= now - (max(rule.days, 1) - 1) * DAY,
            LINK.c.seed.is_not(None),
            LINK.c.about.in_(_visits_of(study, rule)),
            PARTICIPANT.c.status.in_(TAKING_PART),
        )
    )
    return [Asked(**{**row._mapping, "status": Status(row.status)}) for row in rows]


def answered_since(session: Session, study: StudyInUse, link_id: int) -> bool:
    """Whether the questions of a link are all answered, by whomever, or not asked any more."""
    found = session.execute(select(LINK.c.purpose).where(LINK.c.id == link_id)).scalar_one()
    if found != Purpose.QUESTIONS:
        return False
    return session.execute(_waiting(study, LINK.c.id).where(LINK.c.id == link_id)).first() is None


def _visits_of(study: StudyInUse, rule: Reminder) -> list[str]:
    """The visits of a rule at which participants answer something, in any version that is in force."""
    found = {
        visit.code for each in study.definitions for visit in each.visits if each.asked_of_participants(visit.code)
    }
    return sorted(code for code in found if not rule.visits or code in rule.visits)


def _length(definition: Study, code: str) -> int:
    visit = definition.visit(code)
    return visit.window.before + visit.window.after if visit else 0


def _is_answered(
    study: StudyInUse, participant_id: ColumnElement[int], visit: ColumnElement[str]
) -> ColumnElement[bool]:
    """Whether every form of a visit that the participant answers is complete, or was entered in error."""
    definition = study.definition
    asked = {each.code: definition.asked_of_participants(each.code) for each in definition.visits}
    forms = sorted({form.code for each in asked.values() for form in each})
    numbers = [(visit == code, len(each)) for code, each in asked.items() if each]
    done = (
        select(func.count())
        .select_from(ENTRY)
        .where(
            ENTRY.c.participant_id == participant_id,
            ENTRY.c.visit == visit,
            ENTRY.c.instrument.in_(forms),
            ENTRY.c.repeat == 1,
            or_(ENTRY.c.status == EntryStatus.COMPLETE, ENTRY.c.in_error_at.is_not(None)),
        )
        .scalar_subquery()
    )
    return done >= (case(*numbers, else_=0) if numbers else literal(0))


def _waiting(study: StudyInUse, *columns: Any) -> Select[Any]:
    """The links of a study whose questions are asked and not all answered, whether they still work or not."""
    return (
        select(*columns)
        .select_from(LINK)
        .join(PARTICIPANT, PARTICIPANT.c.id == LINK.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .join(VISIT, and_(VISIT.c.participant_id == LINK.c.participant_id, VISIT.c.code == LINK.c.about))
        .where(
            PARTICIPANT.c.study_id + 0 == study.id,  # from what waits to its participants, not through all of them
            # Written out, so that SQLite knows it as the condition of the index of what waits.
            LINK.c.purpose == written_out(Purpose.QUESTIONS.value),
            LINK.c.done_at.is_(None),
            LINK.c.ended_at.is_(None),
            VISIT.c.status.in_(ASKED),
            not_(_is_answered(study, LINK.c.participant_id, LINK.c.about)),
        )
    )


# What became of the links


@dataclass(frozen=True)
class Counts:
    """How many links wait: sent and not opened, opened and not answered to the end, ran out without all answers."""

    sent: int
    opened: int
    expired: int


@dataclass(frozen=True)
class QuestionnaireRow:
    """One link to questions as a list shows it: whose, at which visit, and what became of it."""

    id: int
    participant: str
    site: str
    site_id: int
    timezone: str
    visit: str
    language: str
    made_at: datetime
    made_by: str
    opened_at: datetime | None
    expires_at: datetime
    done_at: datetime | None
    state: str


STATES = ("unanswered", "sent", "opened", "expired", "answered")


def counts(session: Session, study: StudyInUse, *, by: Actor, since: datetime, now: datetime) -> Counts:
    """How many links wait for answers at the person's sites, in one statement; of those that ran out, since then.

    Read by an index that holds only what waits, from what ran out last on: it does not grow with the trial.
    """
    works = LINK.c.expires_at > now
    numbers = (and_(works, LINK.c.opened_at.is_(None)), and_(works, LINK.c.opened_at.is_not(None)), not_(works))
    found = session.execute(
        _waiting(study, *(func.sum(case((each, 1), else_=0)) for each in numbers)).where(
            LINK.c.expires_at > since, at_their_sites(by, Permission.PARTICIPANT_LINK)
        )
    ).one()
    return Counts(*(int(each or 0) for each in found))


def questionnaires_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    now: datetime,
    state: str | None = None,
    participant: str | None = None,
    visit: str | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[QuestionnaireRow]:
    """The links to questions at the person's sites, newest first; what was taken back or replaced is left out.

    `sent`: it works and was not opened. `opened`: it was, and a form is not complete. `expired`: it ran out like that.
    `unanswered`: any of these. `answered`: every form is complete, by whomever. What is no longer asked is `over`.
    """
    kept = and_(LINK.c.done_at.is_(None), VISIT.c.status.in_(ASKED))
    asked = [each.code for each in study.definition.visits if study.definition.asked_of_participants(each.code)]
    complete = and_(LINK.c.about.in_(asked), _is_answered(study, LINK.c.participant_id, LINK.c.about))
    answered = or_(LINK.c.done_at.is_not(None), complete)
    left, works = and_(kept, not_(answered)), LINK.c.expires_at > now
    conditions = {
        "answered": answered,
        "unanswered": left,
        "sent": and_(left, works, LINK.c.opened_at.is_(None)),
        "opened": and_(left, works, LINK.c.opened_at.is_not(None)),
        "expired": and_(left, not_(works)),
    }
    named = case(*((conditions[name], name) for name in ("answered", "sent", "opened", "expired")), else_="over")
    query = (
        select(
            LINK.c.id,
            PARTICIPANT.c.code.label("participant"),
            SITE.c.code.label("site"),
            SITE.c.id.label("site_id"),
            SITE.c.timezone,
            LINK.c.about.label("visit"),
            *(LINK.c[name] for name in ("language", "made_at", "made_by", "opened_at", "expires_at", "done_at")),
            named.label("state"),
        )
        .select_from(LINK)
        .join(PARTICIPANT, PARTICIPANT.c.id == LINK.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .outerjoin(VISIT, and_(VISIT.c.participant_id == LINK.c.participant_id, VISIT.c.code == LINK.c.about))
        .where(
            PARTICIPANT.c.study_id == study.id,
            LINK.c.purpose == Purpose.QUESTIONS,
            LINK.c.ended_at.is_(None),
            at_their_sites(by, Permission.PARTICIPANT_LINK),
        )
    )
    if state in conditions:
        query = query.where(conditions[state])
    if participant is not None:
        query = query.where(PARTICIPANT.c.code == participant)
    if visit is not None:
        query = query.where(LINK.c.about == visit)
    page = paging.page_by_number(session, query, LINK.c.id, cursor=cursor, limit=limit)
    return page.made(lambda row: QuestionnaireRow(**row._mapping))
