"""Who has the interpreter meanwhile? Long work shares it in short turns, so that pages do not wait for it."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
