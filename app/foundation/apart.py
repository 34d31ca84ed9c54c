"""Can another program do that? What takes many seconds of a processor is done in one of its own, beside the pages."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

_SPAWN = get_context("spawn")  # a process that serves others has threads: a copy of it could stand still for ever
LATER = 10
"""How much later than others it comes to its turn (`nice`)."""

Result = TypeVar("Result")


class EndedEarly(Exception):
    """The other program ended before it had an answer; with this exit code."""


def apart(work: Callable[..., Result], *arguments: object) -> Result:
    """What this gives, worked out in a process of lower priority; whatever it raises is raised here.

    Threads of one process share its interpreter: a page asks for it after each of its statements. To begin takes a
    second of a processor, so it is for what takes many. Function, arguments and result go there and back by pickle.
    The process ends with this one.
    """
    here, there = _SPAWN.Pipe(duplex=False)
    program = _SPAWN.Process(target=_work, args=(there, work, arguments), daemon=True)
    program.start()
    there.close()
    try:
        with here:
            went_well, answer = here.recv()
    except EOFError:
        program.join()
        raise EndedEarly(program.exitcode) from None
    program.join()
    if not went_well:
        raise answer
    found: Result = answer
    return found


def _work(there: Connection, work: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever stops the server stops this by ending it
    os.nice(LATER)
    try:
        there.send((True, work(*arguments)))
    except Exception as problem:
        with suppress(Exception):  # what cannot be sent is not said anywhere else, either: it may hold what was typed
            there.send((False, problem))
