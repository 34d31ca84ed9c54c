"""Whose turn is it? Long work shares the interpreter in short turns; short changes go one after the other."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

import anyio

SHORT = 0.0002  # seconds
_USUAL = sys.getswitchinterval()
_guard = threading.Lock()
_at_work = 0


@contextmanager
def short_turns() -> Iterator[None]:
    """Whatever keeps a processor busy for long, in a thread of a process that serves others, is done within.

    A thread that reckons gives the interpreter away after 5 ms (`sys.setswitchinterval`), and a page asks for it again
    after each of its statements: beside an export it took ten times as long. Such work itself takes no longer. Not
    always short: of many small requests at once each would be interrupted for nothing.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _at_work
    with _guard:
        _at_work += change
        sys.setswitchinterval(SHORT if _at_work else _USUAL)


class OneByOne:
    """Those who would wait for each other anyway, first come, first served: of each name one at a time.

    Changes of one study that run at once in a process wait for the same rows, and whoever holds them waits for the
    interpreter, which the others have meanwhile, 5 ms at each of its statements. For coroutines of one event loop.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    def turn(self, name: str) -> anyio.Lock:
        """Within it nobody else has a turn of this name."""
        lock = self._locks.get(name)
        if lock is None:
            self._locks[name] = lock = anyio.Lock(fast_acquire=True)
        return lock
