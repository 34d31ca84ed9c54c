"""How is the key that signs replaced? In all logs at once, between a last checkpoint of the old key and one of the new.

Whoever dies on the way leaves nothing wrong behind: the announcements are one transaction, a checkpoint states what is
committed, and the first ones of the new key can be kept at any later time.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import select, text
from sqlmodel import Session

from app.audit import checkpoints
from app.audit.actions import HEAD, Author, record
from app.audit.models import SYSTEM_LOG
from app.audit.signing import announcement, log_keys, present
from app.foundation.crypto.keys import GENERATIONS
from app.foundation.database import keys_of
from app.foundation.errors import Refused

ACTION = "log_key.replace"


def replace_key(session: Session, folder: Path, *, by: Author, why: str, now: datetime) -> Sequence[str]:
    """Announce the next key in every log, and keep what each was before, signed with the present one.

    Returns the logs; keep their first checkpoints once this transaction is committed. Refused without a reason, and on
    a database that is behind a checkpoint in the folder, whose announcement would go into a log that was cut short.
    """
    if not why.strip():
        raise Refused("Say why the key is replaced: the logs keep it.", action=ACTION)
    keys = keys_of(session)
    if session.get_bind().dialect.name == "postgresql":
        # Until this ends nobody appends, begins a log, or has done either and not committed it yet.
        session.execute(text(f"LOCK TABLE {HEAD.name} IN EXCLUSIVE MODE"))
    logs = sorted({*_logs(session), SYSTEM_LOG})  # also where nothing of the system is written down yet
    kept, faults = checkpoints.kept(folder, keys)
    sizes = {log: point.size for log in logs if (point := checkpoints.current(session, log)) is not None}
    if faults:
        raise Refused(f"{faults[0]} Find out why, before the key is replaced.", action=ACTION)
    for point in kept:
        if point.size > sizes.get(point.log, 0):
            reason = (
                f"A checkpoint of {point.log} has {point.size} entries, and the log has fewer: it was cut short. Find "
                "out why with `equipoise audit verify`, before the key is replaced."
            )
            raise Refused(reason, action=ACTION)
    old = present(session)
    # One that no checkpoint has ever been signed with, also where a database from before was put back.
    new = max([old, *(point.generation for point in kept)]) + 1
    if new >= GENERATIONS:
        raise Refused(f"The key was replaced {GENERATIONS - 1} times, and cannot be any more.", action=ACTION)
    for log in logs:
        checkpoints.keep(folder, session, log)
    for log in logs:
        record(session, log, [announcement(keys, log, old, new)], by=by, now=now, why=why)
    return logs


def unfinished(session: Session, folder: Path) -> Sequence[str]:
    """The logs that announced the present key and have no checkpoint by it: whoever replaced it was interrupted."""
    generation = present(session)
    kept, _ = checkpoints.kept(folder, keys_of(session))
    signed = {point.log for point in kept if point.generation == generation}
    return (
        [log for log in _logs(session) if log not in signed and len(log_keys(session, log)) > 1] if generation else []
    )


def _logs(session: Session) -> Sequence[str]:
    return session.execute(select(HEAD.c.log).order_by(HEAD.c.log)).scalars().all()
