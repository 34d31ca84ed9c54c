"""Is there a count that is still good? The last one of each study, kept in this process; of a large trial an older one
is shown at once, while the next is made behind it."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from sqlmodel import Session

from app.capture.verification.rules import Counted as Verified
from app.foundation.apart import apart
from app.foundation.crypto.keys import Keyring
from app.foundation.database import Database
from app.reports.quality import Measured
from app.reports.review.rules import Found as FoundInLog
from app.reports.rules import Counted
from app.studies.in_use import StudyInUse

KEPT_FOR = timedelta(minutes=1)
AGAIN_AFTER = timedelta(seconds=5)
"""Whoever asks for a new count gets one, unless the last is no older than this: the key that reloads is easily held."""
MEASURED_FOR = timedelta(minutes=15)
"""The same for what is read out of a million answers: so it takes a processor's fiftieth part at most."""
SHOWN_FOR = timedelta(days=1)
"""An older count of a large trial is not shown: whoever comes then waits, as the first did."""

Versions = tuple[int, ...]

log = logging.getLogger("equipoise")


class Dated(Protocol):
    """What is kept: it knows when it was made, and whether making it takes seconds."""

    @property
    def at(self) -> datetime: ...
    @property
    def is_large(self) -> bool: ...


Found = TypeVar("Found", bound=Dated)


def _always(_: datetime) -> bool:
    return True


class Kept(Generic[Found]):
    """The last one of every study, of all its sites, by the versions of the study it was made for.

    Of several who ask at once, one counts and the others wait for it; what is made behind their backs is made by one
    thread or program for each study, on a session of its own.
    """

    def __init__(
        self,
        database: Database | None,
        *,
        large_for: timedelta = KEPT_FOR,
        large_again: timedelta = AGAIN_AFTER,
        small_for: timedelta = KEPT_FOR,
    ) -> None:
        self._database = database
        self._large_for, self._large_again, self._small_for = large_for, large_again, small_for
        self._kept: dict[int, tuple[Versions, Found]] = {}
        self._counting: dict[int, threading.Lock] = {}

    def at_once(
        self,
        study: StudyInUse,
        count: Callable[[Session], Found],
        *,
        now: datetime,
        again: bool = False,
        waits: bool = True,
        stands: Callable[[datetime], bool] = _always,
        elsewhere: bool = False,
    ) -> Found | None:
        """What can be shown without waiting, None for nothing; when it is no longer good, another is being made.

        `stands` says whether what was counted then may still be shown. A small count is made before anybody could read
        an older one, so that of a small trial there is none; `again`, and `waits`, are for those who rather wait.
        `elsewhere` has another made in a program of its own, without the installation's key (`foundation.apart`).
        """
        found = self._good(study, now, again=again, stands=stands)
        if found is not None or self._database is None:
            return found
        old = self._last(study)
        if old is not None and not (old.is_large and now - old.at < SHOWN_FOR and stands(old.at)):
            old = None
        if waits and (again or old is None):
            return None
        self._count_behind(study, count, self._database, elsewhere=elsewhere)
        return old

    def waited_for(
        self,
        study: StudyInUse,
        count: Callable[[], Found],
        *,
        now: datetime,
        again: bool = False,
        stands: Callable[[datetime], bool] = _always,
    ) -> Found:
        """The kept one while it is good, else a new one, however long it takes."""
        found = self._good(study, now, again=again, stands=stands)
        if found is not None:
            return found
        with self._lock_of(study):
            found = self._good(study, now, again=again, stands=stands)
            if found is None:
                found = count()
                self._kept[study.id] = (_versions(study), found)
            return found

    def _lock_of(self, study: StudyInUse) -> threading.Lock:
        return self._counting.setdefault(study.id, threading.Lock())

    def _last(self, study: StudyInUse) -> Found | None:
        versions, found = self._kept.get(study.id, ((), None))
        return found if versions == _versions(study) else None

    def _good(
        self, study: StudyInUse, now: datetime, *, again: bool, stands: Callable[[datetime], bool]
    ) -> Found | None:
        found = self._last(study)
        if found is None:
            return None
        if again:
            good_for = self._large_again if found.is_large else min(AGAIN_AFTER, self._small_for)
        else:
            good_for = self._large_for if found.is_large else self._small_for
        age = abs(now - found.at)
        return found if age < good_for and (age < KEPT_FOR or stands(found.at)) else None

    def _count_behind(
        self, study: StudyInUse, count: Callable[[Session], Found], database: Database, *, elsewhere: bool
    ) -> None:
        """Have it made by a thread, unless somebody makes one already."""
        counting = self._lock_of(study)
        if not counting.acquire(blocking=False):
            return

        def work() -> None:
            try:
                found = apart(counted, database.address, count) if elsewhere else counted_on(database, count)
                self._kept[study.id] = (_versions(study), found)
            except Exception as problem:  # whoever looks next tries again, or waits and is told
                log.error("counting behind a page of reports failed: %s", type(problem).__name__)
            finally:
                counting.release()

        try:
            threading.Thread(target=work, name=f"reports-{study.code}", daemon=True).start()
        except RuntimeError:  # no thread can be had
            counting.release()
            raise


class KeptCounts:
    """What is kept of every study: its counts, how much of it is verified, what its data look like, and what its log
    has since the last review. Without a database nothing is made behind anybody's back."""

    def __init__(self, database: Database | None = None) -> None:
        self._database = database
        self.counts: Kept[Counted] = Kept(database)
        self.verification: Kept[Verified] = Kept(database, small_for=timedelta(0))
        self.measures: Kept[Measured] = Kept(database, large_for=MEASURED_FOR, large_again=KEPT_FOR)
        self._looks: dict[tuple[int, str], tuple[int, Kept[FoundInLog]]] = {}

    def looks(self, study: StudyInUse, scope: str, since: int) -> Kept[FoundInLog]:
        """What the log of a study has, for these sites, from one position on; what began elsewhere is forgotten."""
        began, held = self._looks.get((study.id, scope), (None, None))
        if held is None or began != since:
            held = Kept(self._database, large_for=MEASURED_FOR, large_again=KEPT_FOR)
            self._looks[study.id, scope] = since, held
        return held


def counted(address: str, count: Callable[[Session], Found]) -> Found:
    """What this counts in the database at this address, of nothing that is sealed: no key opens anything here."""
    database = Database(address, Keyring(bytes(32)))
    try:
        return counted_on(database, count)
    finally:
        database.dispose()


def counted_on(database: Database, count: Callable[[Session], Found]) -> Found:
    """What this counts on a session of its own."""
    with database.reading() as session:
        return count(session)


def _versions(study: StudyInUse) -> Versions:
    others = (number for site_id, other in sorted(study.others.items()) for number in (site_id, other.version_id))
    return (study.version_id, *others)
