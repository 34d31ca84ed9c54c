"""What will be asked in a moment? The reads of a page are begun together, and PostgreSQL is at work meanwhile.

    visits = here.soon(visits_of, here.session, participant_id)
    consents = here.soon(consents_of, here.session, participant_id)
    show(visits(), consents())

Who asks one thing after the other waits for each answer, and the database for each question. In a session that only
reads all of them see one snapshot, so it does not matter when they are answered (decision 0037).
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from app.foundation import repeated
from app.foundation.repeated import Found

P = ParamSpec("P")
T = TypeVar("T")


class Soon(Protocol):
    """Call a read ahead of time: what is given says what it found."""

    def __call__(self, read: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Callable[[], T]: ...


def once(read: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Callable[[], T]:
    """A read that is not begun before it is wanted, and whose answer stands."""
    return cache(partial(read, *args, **kwargs))


def known(answer: T) -> Callable[[], T]:
    """What stands where a read would, when nothing is asked."""
    return lambda: answer


class Asked(BaseException):
    """A read has said what it asks first; when what it finds is wanted it is called again, and goes on."""


class Ahead:
    """The reads of one session whose answers are on their way."""

    def __init__(self, connection: Connection, *, settle: Callable[[], None], leave: Callable[[], None]) -> None:
        self._connection = connection
        self.settle = settle
        """Wait for what nobody wanted in the end: before the transaction ends."""
        self.leave = leave
        """Have the transaction end meanwhile: all is read."""
        self._asking = False
        self._first: tuple[Any, Any, Callable[[], Found] | None] | None = None

    def soon(self, read: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Callable[[], T]:
        """Send what `read` asks first; what is given finishes it, and hands over what it found.

        A read changes nothing, so it can begin twice. What it raises before it asks anything is raised here.
        """
        whole = partial(read, *args, **kwargs)
        self._asking = True
        try:
            found = whole()
        except Asked as asked:
            first = asked.args
        else:
            return known(found)
        finally:
            self._asking = False

        @cache
        def finish() -> T:
            self._first = first
            try:
                return whole()
            finally:
                self._first = None

        return finish

    def execute(self, statement: Any, params: Any) -> Found | None:
        """The answer of a statement that was sent; None where it was not, and is to be executed."""
        if self._asking:
            raise Asked(statement, params, repeated.ask_ahead(self._connection, statement, params))
        first, self._first = self._first, None
        if first is None or first[2] is None or first[0] is not statement or first[1] != params:
            return None
        return first[2]()
