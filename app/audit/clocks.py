"""Do the clocks agree? This server's, the database's, and the newest date in any log; what to do where they do not.

Nothing is refused because of a clock: the order of a log is by position, slots are taken in order by a counter, and
what somebody typed is kept. It is told instead (21 CFR Part 11; FDA Computerized Systems guidance 2007: clocks are kept
correct, and who looks after them learns of a difference).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlmodel import Session

from app.audit.actions import HEAD
from app.foundation.database import Instant

_NEWEST = select(func.max(HEAD.c.at).label("newest"))
_AND_THEIRS = _NEWEST.add_columns(func.clock_timestamp(type_=Instant).label("theirs"))

NEXT = (
    "Nothing is lost and nothing is refused. Set the clocks of every server by the network (NTP), and write down since "
    "when they were wrong."
)


@dataclass(frozen=True)
class Clocks:
    """What each clock said at one moment. `ahead` is how much later than now the latest entry of any log is dated;
    `apart` how far the database's clock is from this server's, None for one that is embedded and has none of its own.
    """

    at: datetime
    newest: datetime | None
    ahead: timedelta
    apart: timedelta | None

    def problems(self, allowed: timedelta) -> list[str]:
        """What is wrong with them, in a sentence each; nothing while they agree to so much."""
        found = []
        if self.ahead > allowed:
            seconds = round(self.ahead.total_seconds())
            found.append(
                f"An entry of the log is dated {seconds} seconds later than this server's clock says now: it was set "
                f"back, or was wrong before. {NEXT}"
            )
        if self.apart is not None and abs(self.apart) > allowed:
            seconds = round(abs(self.apart.total_seconds()))
            found.append(f"The clock of the database differs by {seconds} seconds from this server's. {NEXT}")
        return found


def read_clocks(session: Session, clock: Callable[[], datetime]) -> Clocks:
    """Read them all at once, in one statement; what it took is no difference."""
    served = session.get_bind().dialect.name == "postgresql"
    before = clock()
    row = session.execute(_AND_THEIRS if served else _NEWEST).one()
    after = clock()
    apart = None
    if served:
        theirs: datetime = row.theirs
        apart = theirs - min(max(theirs, before), after)
    ahead = row.newest - after if row.newest is not None else timedelta(0)
    return Clocks(at=after, newest=row.newest, ahead=max(ahead, timedelta(0)), apart=apart)
