"""What may I do with amendments? Plan from which day a site works under a version, cancel that, carry it out.

Carrying out is three things, each in a transaction of its own kind: the version comes into force at the site (`begin`),
then planned visits follow, some participants at a time (`carry_on`), and the last of these ends it. Whatever dies in
between is taken up where it stood, by anybody: how far it is stands in the row that is held meanwhile.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from app.amendments import rules
from app.amendments.reads import (
    LOOKED_AT,
    SITE_VERSION,
    Going,
    going,
    loaded_versions,
    people_after,
    standing_risks,
)
from app.amendments.status import OPEN, State
from app.audit.actions import Change, record, recorded_together
from app.capture.locks.reads import covered
from app.capture.verification.actions import follow_study
from app.foundation import clock
from app.foundation.database import Database, table_of
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused, RefusedInParts
from app.foundation.words import text_problems
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.people.reads import SITE, SiteRow, sites_of
from app.schedule.replanning.actions import replan
from app.studies.in_use import StudyInUse, study_in_use
from app.studies.models import StudyRecord
from app.studies.reads import definition
from app.studies.rules import differences
from app.studies.rules.amending import FORBIDS, forbidden

STUDY = table_of(StudyRecord)
PLAN = "amendment.plan"
THE_CALENDAR = Actor(person_id=0, username="system", name="The system", organisation="", via="jobs")


def plan(
    session: Session,
    study: StudyInUse,
    *,
    version: str,
    sites: Sequence[str],
    from_on: date | None,
    why: str,
    by: Actor,
    now: datetime,
) -> list[int]:
    """Set the day from which these sites work under a version; gives one number for each.

    `from_on`: None is today at each site. Where the day has come, the version is in force when this returns; visits
    follow. All of the sites or none: the first reason against one of them is a reason against all.
    """
    require(by, Permission.STUDY_AMEND, action=PLAN, subject=f"/version/{version}")
    wanted = next((one for one in loaded_versions(session, study, by=by) if one.version == version), None)
    if wanted is None:
        raise Invalid([FieldProblem("version", "choices", "There is no such version. Load its folder first.")])
    places = {site.code: site for site in sites_of(session, study.id)}
    unknown = [code for code in sites if code not in places]
    if unknown or not sites:
        words = f"There is no site {unknown[0]}." if unknown else "Choose the sites that work under it."
        raise Invalid([FieldProblem("sites", "choices", words)])
    chosen = [places[code] for code in dict.fromkeys(sites)]
    days = {site.id: from_on or clock.today(site.timezone, now) for site in chosen}
    problems = {
        problem: None
        for site in chosen
        for problem in rules.plan_problems(from_on=days[site.id], today=clock.today(site.timezone, now), why=why)
    }
    if problems:
        raise Invalid(list(problems))
    where = {"action": PLAN, "subject": f"/version/{version}"}
    new = StudyInUse(study.id, study.code, wanted.id, definition(session, wanted.id, wanted.sha256))
    _hold_study(session, study)
    under_way = {
        row.site_id: State(row.state)
        for row in session.execute(
            select(SITE_VERSION.c.site_id, SITE_VERSION.c.state).where(
                SITE_VERSION.c.site_id.in_(days), SITE_VERSION.c.state.in_(OPEN)
            )
        )
    }
    for site in chosen:
        old = study.at(site.id)
        reason = rules.why_not_under_way(under_way.get(site.id), site=site.name) or rules.why_not_forward(
            old.version_id, wanted.id, version=version, site=site.name
        )
        if reason is not None:
            raise Refused(reason, **where)
        _refuse_differences(session, study, old, new, by, where)
    numbers = []
    with recorded_together(session):
        for site in chosen:
            numbers.append(_plan_one(session, study, site, new, days[site.id], why.strip(), by=by, now=now))
    return numbers


def _refuse_differences(
    session: Session, study: StudyInUse, old: StudyInUse, new: StudyInUse, by: Actor, where: dict[str, str]
) -> None:
    """While there is no participant at all, everything may change."""
    found = differences(old.definition, new.definition)
    never = forbidden(found)
    against = [each for each in found if each.at_risk is not None and each.at_risk.risk in FORBIDS]
    standing = standing_risks(session, study, against) if against and not never else []
    if never and not session.execute(select(STUDY.c.last_participant).where(STUDY.c.id == study.id)).scalar():
        never = []
    said = rules.why_not_differences(never, standing, blinded=by.blinded)
    if said is not None:
        raise RefusedInParts(said, **where)


def _plan_one(
    session: Session,
    study: StudyInUse,
    site: SiteRow,
    new: StudyInUse,
    from_on: date,
    why: str,
    *,
    by: Actor,
    now: datetime,
) -> int:
    old = study.at(site.id)
    values = {
        "study_id": study.id,
        "site_id": site.id,
        "from_version_id": old.version_id,
        "version_id": new.version_id,
        "from_on": from_on,
        "why": why,
        "state": State.PLANNED.value,
        "planned_at": now,
        "planned_by": by.username,
        **dict.fromkeys(("moved_to", "looked_at", "changed", "visits", "kept"), 0),
    }
    try:
        number: int = session.execute(insert(SITE_VERSION).values(values).returning(SITE_VERSION.c.id)).scalar_one()
    except IntegrityError as problem:  # somebody else planned for this site a moment ago
        reason = rules.why_not_under_way(State.PLANNED, site=site.name) or ""
        raise Refused(reason, action=PLAN, subject=f"/version/{new.definition.version}") from problem
    told = {"version": new.definition.version, "from_on": from_on}
    old_told = {"version": old.definition.version}
    change = Change("amendment.planned", "", f"site/{site.code}", old=old_told, new=told)
    record(session, study.code, [change], by=by, now=now, why=why)
    if from_on <= clock.today(site.timezone, now):
        begin(session, study, number, by=by, now=now)
    return number


def cancel(session: Session, study: StudyInUse, number: int, *, why: str, by: Actor, now: datetime) -> None:
    """Take back that a site goes over to a version, as long as its day has not come."""
    where = {"action": "amendment.cancel", "subject": "/amendment"}
    require(by, Permission.STUDY_AMEND, action=where["action"], subject=where["subject"])
    if problems := text_problems("why", why, "Say why it is cancelled.", rules.LONGEST_REASON):
        raise Invalid(problems)
    _hold(session, study, number)
    one = going(session, study, number)
    if reason := rules.why_not_cancel(one.state):
        raise Refused(reason, **where)
    session.execute(
        update(SITE_VERSION).where(SITE_VERSION.c.id == number).values(state=State.CANCELLED.value, ended_at=now)
    )
    told = {"version": one.version, "from_on": one.from_on}
    change = Change("amendment.cancelled", "", f"site/{one.site}", old=told)
    record(session, study.code, [change], by=by, now=now, why=why.strip())


def begin(session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime) -> bool:
    """Put a planned version in force at its site; False when somebody has. For `plan` and the calendar.

    The study itself works under the newest version of any site: where another is in force, the site says so.
    """
    taken = session.execute(
        update(SITE_VERSION)
        .where(SITE_VERSION.c.id == number, SITE_VERSION.c.study_id == study.id, SITE_VERSION.c.state == State.PLANNED)
        .values(state=State.MOVING.value, begun_at=now)
        .returning(SITE_VERSION.c.site_id)
    ).scalar()
    if taken is None:
        return False
    one = going(session, study, number)
    current = _hold_study(session, study)
    if one.version_id > current:
        left = update(SITE).where(SITE.c.study_id == study.id, SITE.c.version_id.is_(None))
        session.execute(left.values(version_id=current))
        new = definition(session, one.version_id)
        session.execute(update(STUDY).where(STUDY.c.id == study.id).values(version_id=one.version_id, title=new.title))
        current = one.version_id
    session.execute(update(SITE).where(SITE.c.id == one.site_id).values(version_id=one.version_id))
    session.execute(
        update(SITE).where(SITE.c.study_id == study.id, SITE.c.version_id == current).values(version_id=None)
    )
    change = Change(
        "amendment.begun",
        "",
        f"site/{one.site}",
        old={"version": one.from_version},
        new={"version": one.version, "from_on": one.from_on},
    )
    record(session, study.code, [change], by=by, now=now, why=one.why)
    return True


def carry_on(
    session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime, limit: int = LOOKED_AT
) -> bool | None:
    """Let the visits of the next participants follow; True when nobody is left, None when somebody else is at it.

    Whoever asks has been asked who they are: `carry_on_now` for a person, the calendar for itself.
    """
    held = _hold(session, study, number, wait=False)
    if held is None or held.state != State.MOVING:
        return None if held is None else True
    if rules.why_not_yet(held.begun_at, now) is not None:
        return None
    one = going(session, study, number)
    old = definition(session, held.from_version_id)
    new = StudyInUse(study.id, study.code, held.version_id, definition(session, held.version_id))
    people = people_after(session, study, held.site_id, held.moved_to, limit=limit)
    follow_study(session, new, old, [each.id for each in people])
    with recorded_together(session):
        outcome = replan(
            session,
            new,
            old,
            people,
            on=held.from_on,
            is_locked=covered(session, study),
            why=f"Version {one.version} of the study is in force at {one.site}: {held.why}",
            by=by,
            now=now,
        )
        values: dict[str, Any] = {
            "moved_to": people[-1].id if people else held.moved_to,
            "looked_at": held.looked_at + len(people),
            "changed": held.changed + outcome.participants,
            "visits": held.visits + outcome.visits,
            "kept": held.kept + outcome.kept,
        }
        is_done = len(people) < limit
        if is_done:
            values |= {"state": State.DONE.value, "ended_at": now}
            counts = {name: values[name] for name in ("looked_at", "changed", "visits", "kept")}
            told = {"version": one.version, **counts}
            done = Change("amendment.carried_out", "", f"site/{one.site}", new=told)
            record(session, study.code, [done], by=by, now=now)
        session.execute(update(SITE_VERSION).where(SITE_VERSION.c.id == number).values(values))
    return is_done


def carry_on_now(session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime) -> Going:
    """Let the next participants' visits follow at once, without waiting for the calendar; how far it is then."""
    where = {"action": "amendment.carry_on", "subject": "/amendment"}
    require(by, Permission.STUDY_AMEND, action=where["action"], subject=where["subject"])
    one = going(session, study, number)
    today = clock.today(next(site.timezone for site in sites_of(session, study.id) if site.id == one.site_id), now)
    if one.state is State.PLANNED and one.from_on <= today:
        begin(session, study, number, by=by, now=now)
    elif one.state is not State.MOVING:
        words = {
            State.PLANNED: "Its day has not come yet. Nothing is done before.",
            State.DONE: "It is carried out. There is nothing left to do.",
            State.CANCELLED: "It was cancelled. Plan it again if it is wanted after all.",
        }
        raise Refused(words[one.state], **where)
    elif reason := rules.why_not_yet(one.begun_at or now, now):
        raise Refused(reason, **where)
    else:
        carry_on(session, study, number, by=by, now=now)
    return going(session, study, number)


def carry_out_due(database: Database, *, now: datetime, limit: int = LOOKED_AT) -> int:
    """One round of the calendar: begin what is due, and let visits follow; gives how many participants were looked at.

    Any number of workers do it at the same time: a site is begun by one, and its next participants are taken by one.
    """
    looked_at = 0
    with database.reading() as session:
        rows = session.execute(
            select(SITE_VERSION.c.id, SITE_VERSION.c.state, SITE_VERSION.c.from_on, SITE.c.timezone, STUDY.c.code)
            .join(SITE, SITE.c.id == SITE_VERSION.c.site_id)
            .join(STUDY, STUDY.c.id == SITE_VERSION.c.study_id)
            .where(SITE_VERSION.c.state.in_(OPEN))
            .order_by(SITE_VERSION.c.id)
        ).all()
    for row in rows:
        if row.state == State.PLANNED and row.from_on > clock.today(row.timezone, now):
            continue
        if row.state == State.PLANNED:
            with database.writing() as session:
                begin(session, study_in_use(session, row.code), row.id, by=THE_CALENDAR, now=now)
        finished: bool | None = False
        while finished is False:
            with database.writing() as session:
                study = study_in_use(session, row.code)
                held = _hold(session, study, row.id, wait=False)
                if held is None:  # another worker is at it, and goes on
                    break
                finished = carry_on(session, study, row.id, by=THE_CALENDAR, now=now, limit=limit)
                looked_at += going(session, study, row.id).looked_at - held.looked_at
    return looked_at


def _hold_study(session: Session, study: StudyInUse) -> int:
    """The newest version in force. Of two who plan or begin at once the second sees what the first has made of it."""
    held = select(STUDY.c.version_id).where(STUDY.c.id == study.id).with_for_update(key_share=True)
    version_id: int = session.execute(held).scalar_one()
    return version_id


def _hold(session: Session, study: StudyInUse, number: int, *, wait: bool = True) -> Any:
    """The row, held until the transaction ends; None when it is held by somebody else and is not waited for."""
    query = select(*SITE_VERSION.c).where(SITE_VERSION.c.id == number, SITE_VERSION.c.study_id == study.id)
    row = session.execute(query.with_for_update(skip_locked=not wait)).first()
    if row is None and wait:
        raise NotFound
    return row
