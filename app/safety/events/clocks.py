"""Which deadlines run for an event, and whom do we tell? Set when something is reported or judged, and by the clock."""

from collections import defaultdict
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.database import Database
from app.foundation.words import day_in_words
from app.mail.actions import queue
from app.participants.identity import PARTICIPANT
from app.people.access import Actor
from app.people.permissions import Role
from app.people.reads import people_to_tell
from app.safety.events.reads import CLOCK, EVENT, reports_of, timezone_of
from app.safety.events.rules import (
    Act,
    ClockState,
    Judged,
    clock_begins,
    due_at,
    runs,
    steps_due,
    time_left,
    untold,
)
from app.studies.definition import SafetyClock
from app.studies.in_use import StudyInUse
from app.studies.texts import labels_in

# Who the log says did it when nobody asked for it.
THE_CLOCK = Actor(person_id=0, username="system", name="The system", organisation="", via="jobs")


def settle(
    session: Session,
    study: StudyInUse,
    number: int,
    participant: str,
    site_id: int,
    *,
    judged: Judged | None,
    by: Actor,
    now: datetime,
) -> None:
    """Begin the clocks that run from now on, move those that count from another moment, and call off the rest.

    What was reported stays reported, as it was told; news since then has a clock of its own. The steps whose turn it is
    already are taken at once. `judged`: what holds of the newest report.
    """
    reports = reports_of(session, number)
    rows: dict[str, list[Any]] = defaultdict(list)
    for kept in session.execute(select(CLOCK).where(CLOCK.c.event_id == number).order_by(CLOCK.c.id)):
        rows[kept.code].append(kept)
    changes = []
    begun: list[tuple[SafetyClock, int, datetime, datetime, int]] = []
    wanted = set()
    for clock in study.definition.safety.clocks:
        if not reports or reports[-1].kind == Act.VOID or not runs(clock, reports[-1].details, judged):
            continue
        wanted.add(clock.code)
        row: Any = rows[clock.code][-1] if rows[clock.code] else None
        follows = row.follows if row is not None else 0
        if row is not None and row.state == ClockState.REPORTED:
            news = untold(reports, recorded_at=row.reported_at, sent_at=row.sent_at)
            if news is None:
                continue
            follows, row = news.version, None
        since = clock_begins(clock, follows, reports)
        if since is None or (row is not None and (row.state, row.started_at) == (ClockState.RUNNING, since)):
            continue
        due = due_at(clock, since)
        values = {"state": ClockState.RUNNING.value, "started_at": since, "due_at": due}
        if row is None:
            made = insert(CLOCK).values(
                study_id=study.id, event_id=number, code=clock.code, follows=follows, steps_taken=0, **values
            )
            clock_id = int(session.execute(made.returning(CLOCK.c.id)).scalar_one())
        else:
            clock_id = row.id
            session.execute(update(CLOCK).where(CLOCK.c.id == row.id).values(**values))
        told: dict[str, object] = {"clock": clock.code, "due_at": due} | ({"follows": follows} if follows else {})
        if row is not None and row.state == ClockState.RUNNING:
            old: dict[str, object] = {"clock": clock.code, "due_at": row.due_at}
            changes.append(_change("clock_moved", participant, number, told, old))
        else:
            changes.append(_change("clock_started", participant, number, told))
        begun.append((clock, clock_id, since, due, row.steps_taken if row else 0))
    for each in (one for code, of in rows.items() if code not in wanted for one in of):
        if each.state == ClockState.RUNNING:
            session.execute(update(CLOCK).where(CLOCK.c.id == each.id).values(state=ClockState.CALLED_OFF.value))
            changes.append(_change("clock_called_off", participant, number, {"clock": each.code}))
    record(session, study.code, changes, by=by, now=now)
    for clock, clock_id, started, due, taken in begun:
        take_steps(session, study, clock, clock_id, number, participant, site_id, started, due, taken, now=now)


def take_steps(
    session: Session,
    study: StudyInUse,
    clock: SafetyClock,
    clock_id: int,
    number: int,
    participant: str,
    site_id: int,
    started_at: datetime,
    due: datetime,
    taken: int,
    *,
    now: datetime,
) -> int:
    """Tell those whose turn it is, each step once and only once; gives the number of mails.

    Whoever moves `steps_taken` on tells: another process that came at the same moment finds it moved.
    """
    reached = steps_due(clock, started_at, taken, now)
    if reached <= taken:
        return 0
    moved = session.execute(
        update(CLOCK)
        .where(CLOCK.c.id == clock_id, CLOCK.c.steps_taken == taken, CLOCK.c.state == ClockState.RUNNING.value)
        .values(steps_taken=reached)
        .returning(CLOCK.c.id)
    ).first()
    if moved is None:
        return 0
    mails, changes = 0, []
    for step in range(taken, reached):
        roles = [Role(name) for name in clock.steps[step].tell]
        people = people_to_tell(session, study.id, roles, site_id=site_id, but=THE_CLOCK)
        zone = timezone_of(session, site_id)
        local = due.astimezone(ZoneInfo(zone))
        for each in people:
            label = labels_in(study.definition, each.language or study.definition.language).get(
                clock.label, clock.label
            )
            queue(
                session,
                key=f"event_clock|{clock_id}|{step}|{each.id}",
                to_address=each.email,
                subject=f"{study.definition.short_title}: {label}, {time_left(due, now)}",
                body=f"A serious adverse event of {participant} at {each.site} waits: {label}.\n"
                f"Due on {day_in_words(local.date())} at {local:%H:%M}, {zone} ({time_left(due, now)}).\n"
                f"\nOpen event {number} in Equipoise, under Safety. Once it is reported, write that down there: the "
                "clock stops, and nobody is reminded again.\n",
                now=now,
                language=each.language,
            )
            mails += 1
        told = {"clock": clock.code, "step": step + 1, "told": [each.username for each in people]}
        changes.append(_change("escalated", participant, number, told))
    record(session, study.code, changes, by=THE_CLOCK, now=now)
    return mails


def escalate(database: Database, study: StudyInUse, *, now: datetime) -> int:
    """Take every step of this study's running clocks whose turn it is; gives the number of mails that were queued."""
    clocks = {clock.code: clock for clock in study.definition.safety.clocks}
    if not clocks:
        return 0
    running = (
        select(*CLOCK.c, PARTICIPANT.c.code.label("participant"), PARTICIPANT.c.site_id)
        .join(EVENT, EVENT.c.id == CLOCK.c.event_id)
        .join(PARTICIPANT, PARTICIPANT.c.id == EVENT.c.participant_id)
        .where(CLOCK.c.study_id == study.id, CLOCK.c.state == ClockState.RUNNING.value)
        .order_by(CLOCK.c.id)
    )
    with database.reading() as session:
        rows = session.execute(running).all()
    mails = 0
    for row in rows:
        clock = clocks.get(row.code)
        if clock is None or steps_due(clock, row.started_at, row.steps_taken, now) <= row.steps_taken:
            continue
        with database.writing() as session:
            mails += take_steps(
                session,
                study,
                clock,
                row.id,
                row.event_id,
                row.participant,
                row.site_id,
                row.started_at,
                row.due_at,
                row.steps_taken,
                now=now,
            )
    return mails


def _change(
    act: str, participant: str, number: int, new: dict[str, object], old: dict[str, object] | None = None
) -> Change:
    return Change(f"adverse_event.{act}", participant, f"adverse_event/{number}", old=old, new=new)
