"""What does safety do when nobody asks? Clocks go on to their next step, and the system looks for deviations."""

import logging
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.foundation.database import Database, table_of
from app.foundation.failures import told
from app.safety.deviations.actions import look
from app.safety.events.clocks import THE_CLOCK, escalate
from app.safety.models import DeviationLook
from app.studies.in_use import StudyInUse, study_in_use
from app.studies.models import StudyRecord

log = logging.getLogger("equipoise.safety")
LOOK = table_of(DeviationLook)
STUDY = table_of(StudyRecord)
EVERY = timedelta(hours=1)  # how often the system looks for deviations


def watch(database: Database, *, now: datetime) -> int:
    """One round over every study; gives the number of mails that were queued.

    Whatever is wrong with one study is logged and does not keep the others, or the mail, from their turn.
    """
    mails = 0
    with database.reading() as session:
        codes = session.execute(select(STUDY.c.code).where(STUDY.c.version_id.is_not(None))).scalars().all()
    for code in codes:
        try:
            with database.reading() as session:
                study = study_in_use(session, code)
            mails += escalate(database, study, now=now)
            look_in_turn(database, study, now=now)
        except Exception as problem:
            log.error("The safety of %s was not looked after in this round: %s", code, told(problem))
    return mails


def look_in_turn(database: Database, study: StudyInUse, *, now: datetime) -> int | None:
    """Look for deviations when an hour has passed since anybody did; None when it is not time yet."""
    with database.reading() as session:
        last = session.execute(select(LOOK.c.looked_at).where(LOOK.c.study_id == study.id)).scalar()
    if last is not None and last > now - EVERY:
        return None
    with database.writing() as session:
        dialect_insert = sqlite.insert if database.is_sqlite else postgresql.insert
        session.execute(
            dialect_insert(LOOK).values(study_id=study.id, looked_at=now - 2 * EVERY).on_conflict_do_nothing()
        )
        mine = session.execute(
            update(LOOK)
            .where(LOOK.c.study_id == study.id, LOOK.c.looked_at <= now - EVERY)
            .values(looked_at=now)
            .returning(LOOK.c.study_id)
        ).first()
        return look(session, study, by=THE_CLOCK, now=now) if mine is not None else None
