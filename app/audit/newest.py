"""Is this database older than what was done on it? The newest entry of a log, remembered outside the database (REL-17).

A backup that is put back lacks the allocations made since, and would give their slots to others. So after every
allocation the place and hash of the log's last entry are written to a file beside the checkpoints. Whoever finds
another entry, or none, at that place looks at a database from before, or at one that went on from there.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Integer, String, bindparam, or_, select
from sqlmodel import Session

from app.audit.actions import ENTRY, HEAD, last_recorded
from app.foundation.crypto.keys import Keyring
from app.foundation.crypto.secrets import same
from app.foundation.database import Database, keys_of

PURPOSE = "newest entry of a log"
# Built once: putting a statement together takes longer than running it.
_LOG = bindparam("of_log", type_=String)
_LEAF = select(ENTRY.c.leaf_hash).where(
    ENTRY.c.log == _LOG, ENTRY.c.position == bindparam("at_position", type_=Integer)
)
LEAF_THERE = _LEAF.scalar_subquery()
"""The hash of the entry that `asked` names, for whoever asks for something else at the same time."""
_KNOWN_AND_LAST = (
    select(ENTRY.c.position, ENTRY.c.leaf_hash)
    .where(
        ENTRY.c.log == _LOG,
        or_(
            ENTRY.c.position == select(HEAD.c.size - 1).where(HEAD.c.log == _LOG).scalar_subquery(),
            ENTRY.c.position == bindparam("known", type_=Integer),
        ),
    )
    .order_by(ENTRY.c.position)
)
SEEN = "newest entry seen"
NO_ENTRY = "0" * 64  # no entry has this hash: nothing but a reconciliation satisfies it


@dataclass(frozen=True)
class Newest:
    """How many entries a log had, and the hash of its last one as hex."""

    log: str
    size: int
    leaf: str


def newest_in(folder: Path, keys: Keyring, log: str) -> Newest | None:
    """What was remembered of a log, or None. A file that is not as we wrote it counts as one that nothing satisfies."""
    try:
        found = json.loads(_path(folder, log).read_text(encoding="utf-8"))
        newest = Newest(log, int(found["size"]), str(found["leaf"]))
        if same(_tag(keys, newest), str(found["tag"])):
            return newest
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        pass
    return Newest(log, 1, NO_ENTRY)


def is_behind(session: Session, newest: Newest) -> bool:
    """Whether the database has not the entry that was remembered."""
    return differs(session, newest, session.execute(_LEAF, asked(newest)).scalar())


def asked(newest: Newest) -> dict[str, object]:
    """The parameters of `LEAF_THERE`."""
    return {"of_log": newest.log, "at_position": newest.size - 1}


def differs(session: Session, newest: Newest, leaf: bytes | None) -> bool:
    """Whether the entry that was remembered is another than the one of this hash at its place, or None.

    When it is the same, this transaction has seen so (`written`).
    """
    if leaf is None or bytes(leaf).hex() != newest.leaf:
        return True
    session.info[SEEN] = (session.get_transaction(), newest.log)
    return False


def written(session: Session, log: str) -> Newest | None:
    """The newest entry once this transaction is committed, as far as it knows; ask before that.

    None also when it never looked for what was remembered: a database put back from a backup may have gone on since
    and be longer, and only whoever saw that it is not that one may say which entry is the newest.
    """
    last = last_recorded(session, log)
    if last is None or session.info.get(SEEN) != (session.get_transaction(), log):
        return None
    return Newest(log, last[0], last[1].hex())


def remember(folder: Path, session: Session, log: str) -> None:
    """Write down the log's last entry, unless more was remembered already; what is behind is left as it is."""
    keys = keys_of(session)
    with _alone(folder, log):
        before = newest_in(folder, keys, log)
        known = -1 if before is None else before.size - 1
        rows = session.execute(_KNOWN_AND_LAST, {"of_log": log, "known": known}).all()
        if not rows or (before is not None and not _is_it(before, rows[0])):
            return
        _write(folder, keys, Newest(log, rows[-1].position + 1, bytes(rows[-1].leaf_hash).hex()))


class Remembering:
    """Remembers the newest entry for everybody whose change is committed by then, and not once for each of them.

    Whoever waits for their turn has not begun to read: they will see what was committed before another came, so that
    one need not wait, too. One for each process; nothing is lost with it.
    """

    def __init__(self) -> None:
        self._guard, self._turn = threading.Lock(), threading.Lock()
        self._waiting: dict[tuple[Path, str], Newest | None] = {}

    def __call__(self, database: Database, folder: Path, log: str, newest: Newest | None = None) -> None:
        """Returns once the entry is written down, or somebody else is about to.

        `newest` is what the change wrote, which is committed and saw what was remembered before (`is_behind`). The
        database is asked when it is not known.
        """
        what = (folder, log)
        with self._guard:
            if what in self._waiting:
                self._waiting[what] = _later(self._waiting[what], newest)
                return
            self._waiting[what] = newest
        with self._turn:
            with self._guard:
                newest = self._waiting.pop(what)
            if newest is None or not _goes_on(folder, database.keys, newest):
                with database.reading() as session:
                    remember(folder, session, log)


def _later(one: Newest | None, other: Newest | None) -> Newest | None:
    return None if one is None or other is None else max(one, other, key=lambda newest: newest.size)


def _goes_on(folder: Path, keys: Keyring, newest: Newest) -> bool:
    """Write down an entry behind the one that was remembered; False when only the database can say whether it is."""
    with _alone(folder, newest.log):
        before = newest_in(folder, keys, newest.log)
        if before is not None and before.leaf == NO_ENTRY:
            return False
        if before is None or before.size < newest.size:
            _write(folder, keys, newest)
        return True


def _is_it(newest: Newest, row: Any) -> bool:
    return row.position == newest.size - 1 and bytes(row.leaf_hash).hex() == newest.leaf


def require_reconciliation(folder: Path, keys: Keyring, log: str) -> None:
    """Remember that a log comes from a backup: nothing but `reconcile` satisfies this."""
    with _alone(folder, log):
        _write(folder, keys, Newest(log, 1, NO_ENTRY))


def forget(folder: Path, log: str) -> None:
    """Take away what was remembered, once somebody has answered for it."""
    _path(folder, log).unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path, log: str) -> Iterator[None]:
    """Between reading what is remembered and writing what is newer, no other process of this machine may do the same:
    the later of two to write would take it back to the earlier entry, or over a reconciliation that is asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{log}.lock").open("w") as file:
        with suppress(OSError):  # a file system without locks: what is remembered may then fall behind by a moment
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _path(folder: Path, log: str) -> Path:
    return folder / f"{log}.newest"


def _tag(keys: Keyring, newest: Newest) -> str:
    return keys.tag(PURPOSE, json.dumps([newest.log, newest.size, newest.leaf]).encode()).hex()


def _write(folder: Path, keys: Keyring, newest: Newest) -> None:
    path = _path(folder, newest.log)
    # A name of its own for every writer: one that died on the way leaves nothing in the way of the next.
    waiting = path.with_name(f"{path.name}.{os.getpid()}.{id(newest)}")
    said = {"size": newest.size, "leaf": newest.leaf, "tag": _tag(keys, newest)}
    with waiting.open("w", encoding="utf-8") as file:
        json.dump(said, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(waiting, path)
