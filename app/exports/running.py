"""Who makes what was asked for in the background? Any number of workers; each export is claimed in the database.

A worker says from time to time how far it is, and holds its claim by that. One that dies loses it after `CLAIM`, and
another makes the export anew, from a snapshot of its own. After `MOST_ATTEMPTS` it is given up.
"""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlmodel import Session

from app.exports import actions
from app.exports.delivery import Tally, pieces
from app.exports.history import RUN, Made, made_of
from app.exports.keeping import Kept
from app.foundation.database import Database
from app.foundation.errors import Problem
from app.foundation.failures import told
from app.people.reads import STUDY, acting
from app.studies.in_use import study_in_use

log = logging.getLogger("equipoise.exports")
CLAIM = timedelta(minutes=5)
MOST_ATTEMPTS = 3
GIVEN_UP = "It could not be made in several attempts. Ask for less at once, or tell whoever runs this installation."
SAID_EVERY = 1.0  # seconds between two words on how far it is
Clock = Callable[[], datetime]


class Lost(Exception):
    """The claim went to somebody else."""


def make_waiting(database: Database, folder: Path, clock: Clock, *, limit: int = 10) -> int:
    """Make the exports that wait, and take away files that are kept no longer; gives how many were made."""
    expire(database, folder, clock())
    made = 0
    for _ in range(limit):
        found = claim(database, clock())
        if found is None:
            break
        made += make(database, folder, found, clock)
    return made


def claim(database: Database, now: datetime) -> tuple[Made, int] | None:
    """The next export that nobody makes, with its study; it is this worker's as long as it says so."""
    with database.writing() as session:
        session.execute(
            update(RUN)
            .where(RUN.c.state.in_(("waiting", "running")), RUN.c.attempts >= MOST_ATTEMPTS)
            .where(or_(RUN.c.claimed_until.is_(None), RUN.c.claimed_until <= now))
            .values(state="failed", claimed_until=None, problem=GIVEN_UP)
        )
        row: Any = session.execute(
            select(RUN)
            .where(or_(RUN.c.state == "waiting", and_(RUN.c.state == "running", RUN.c.claimed_until <= now)))
            .order_by(RUN.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if row is None:
            return None
        session.execute(
            update(RUN)
            .where(RUN.c.id == row.id)
            .values(state="running", claimed_until=now + CLAIM, attempts=row.attempts + 1, rows=0)
        )
        found = session.execute(select(RUN).where(RUN.c.id == row.id)).one()
        return made_of(found), int(row.study_id)


def make(database: Database, folder: Path, found: tuple[Made, int], clock: Clock) -> int:
    """Make one claimed export, as the person who asked for it and may still do so: 1 when it was made, else 0."""
    made, study_id = found
    kept = Kept(folder, database.keys, made.number, made.attempts)
    try:
        with database.reading() as session:
            code = session.execute(select(STUDY.c.code).where(STUDY.c.id == study_id)).scalar_one()
            study = study_in_use(session, code)
            # Whoever asked may have had some of their sites only: by a token that is limited to them.
            sites = frozenset(map(int, made.scope.split(","))) if made.scope else None
            request = f"export-{made.number}"
            by = acting(session, made.person_id, study_id, request_id=request, via=made.via, at_sites=sites)
            tally = Tally()
            source = pieces(session, study, made.choice, tally, since=made.since, by=by)
            kept.write(_told(database, made, source, tally, clock))
        with database.writing() as session:
            finished = actions.finish(
                session, study, made.choice, made.number, tally, attempt=made.attempts, by=by, now=clock()
            )
        if finished:
            return 1
        kept.remove()
    except Lost:
        kept.remove()
    except Problem as problem:
        with database.writing() as session:
            _fail(session, made.number, made.attempts, problem.reason)
    except Exception as problem:  # one that cannot be made must not keep all others waiting
        log.error("export %s could not be made: %s", made.number, told(problem))
        with database.writing() as session:
            _again(session, made.number, made.attempts)
    return 0


def _told(database: Database, made: Made, source: Iterator[bytes], tally: Tally, clock: Clock) -> Iterator[bytes]:
    """The pieces as they come; now and then how many rows there are, which holds the claim. Lost when it is gone."""
    said = time.monotonic()
    for piece in source:
        yield piece
        if time.monotonic() - said >= SAID_EVERY:
            said = time.monotonic()
            with database.writing() as session:
                mine = session.execute(
                    update(RUN)
                    .where(RUN.c.id == made.number, RUN.c.attempts == made.attempts, RUN.c.state == "running")
                    .values(rows=tally.rows, claimed_until=clock() + CLAIM)
                    .returning(RUN.c.id)
                ).scalar()
            if mine is None:
                raise Lost


def _fail(session: Session, number: int, attempt: int, reason: str) -> None:
    session.execute(
        update(RUN)
        .where(RUN.c.id == number, RUN.c.attempts == attempt, RUN.c.sha256.is_(None))
        .values(state="failed", problem=reason, claimed_until=None)
    )


def _again(session: Session, number: int, attempt: int) -> None:
    session.execute(
        update(RUN)
        .where(RUN.c.id == number, RUN.c.attempts == attempt, RUN.c.state == "running")
        .values(state="waiting", claimed_until=None)
    )


def expire(database: Database, folder: Path, now: datetime) -> int:
    """Take away the files that are kept no longer, here and in the list; gives how many."""
    with database.reading() as session:
        over = session.execute(
            select(RUN.c.id, RUN.c.attempts).where(RUN.c.state == "done", RUN.c.expires_at <= now)
        ).all()
    if not over:
        return 0
    for row in over:
        Kept(folder, database.keys, row.id, row.attempts).remove()
    with database.writing() as session:
        session.execute(update(RUN).where(RUN.c.id.in_([row.id for row in over])).values(state="expired"))
    return len(over)
