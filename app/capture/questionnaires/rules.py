"""From which day can the questions of a link be answered, and what became of it?"""

from datetime import date
from typing import Protocol

from app.schedule.status import VisitStatus


class Visited(Protocol):
    """A visit as far as its questions go; `app.schedule.models.ParticipantVisit` is one."""

    @property
    def status(self) -> str: ...
    @property
    def opens_on(self) -> date: ...


def waits_until(visit: Visited, today: date, *, before_window: bool) -> date | None:
    """The first day on which the questions of a visit can be answered by link, while it is still to come; or None.

    That is the first of its window, by the clock of the site, unless somebody allowed it before (`before_window`): what
    is answered by link makes the visit held, and what is answered too early cannot be asked again in its window.
    """
    if before_window or visit.status != VisitStatus.PLANNED or today >= visit.opens_on:
        return None
    return visit.opens_on
