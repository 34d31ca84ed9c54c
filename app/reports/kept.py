"""Is there a count that is still good? The last one of each study, kept in this process for a minute."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from app.reports.rules import Counted
from app.studies.in_use import StudyInUse

KEPT_FOR = timedelta(minutes=1)
AGAIN_AFTER = timedelta(seconds=5)
"""Whoever asks for a new count gets one, unless the last is no older than this: the key that reloads is easily held."""

Versions = tuple[int, ...]


class KeptCounts:
    """The last count of every study, of all its sites, by the versions of the study it was made for.

    Of several who ask at once, one counts and the others wait for it.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Versions, Counted]] = {}
        self._counting: dict[int, threading.Lock] = {}

    def counted(
        self, study: StudyInUse, count: Callable[[], Counted], *, now: datetime, again: bool = False
    ) -> Counted:
        """The kept count while it is good, else a new one; `again` asks for a new one at once."""
        good_for = AGAIN_AFTER if again else KEPT_FOR
        found = self._good(study, now, good_for)
        if found is not None:
            return found
        with self._counting.setdefault(study.id, threading.Lock()):
            found = self._good(study, now, good_for)
            if found is None:
                found = count()
                self._kept[study.id] = (_versions(study), found)
            return found

    def _good(self, study: StudyInUse, now: datetime, good_for: timedelta) -> Counted | None:
        versions, found = self._kept.get(study.id, ((), None))
        if found is None or versions != _versions(study) or abs(now - found.at) >= good_for:
            return None
        return found


def _versions(study: StudyInUse) -> Versions:
    others = (number for site_id, other in sorted(study.others.items()) for number in (site_id, other.version_id))
    return (study.version_id, *others)
