"""Long work shares the interpreter in short turns, and only while there is some; short changes take turns."""

import asyncio
import gc
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from sqlalchemy import literal, select, union_all
from sqlmodel import Session

from app.foundation.database import batches, streamed
from app.foundation.turns import SHORT, OneByOne, short_turns

USUAL = sys.getswitchinterval()


def is_short() -> bool:
    # It is kept in whole microseconds.
    return abs(sys.getswitchinterval() - SHORT) < SHORT / 10


def test_turns_are_short_until_the_last_long_work_ends() -> None:
    assert not is_short()
    first, second = short_turns(), short_turns()
    first.__enter__()
    with suppress(ZeroDivisionError), second:
        first.__exit__(None, None, None)
        assert is_short()
        _ = 1 / 0
    assert sys.getswitchinterval() == USUAL


def test_whatever_is_read_bit_by_bit_is_long_work(session: Session) -> None:
    numbers = union_all(*[select(literal(number).label("number")) for number in range(3)]).subquery()
    found: Any
    for found in (streamed(session, select(numbers), batch=2), batches(session, select(numbers), size=2)):
        assert sys.getswitchinterval() == USUAL
        assert next(found)
        assert is_short()
        found.close()  # whoever reads it stops half way
        assert sys.getswitchinterval() == USUAL


def in_a_loop(wanted: Coroutine[Any, Any, None]) -> None:
    with ThreadPoolExecutor(1) as thread:  # a browser of another test may have a loop of its own in this one
        thread.submit(asyncio.run, asyncio.wait_for(wanted, 20)).result()


def test_of_one_name_there_is_one_at_a_time_as_they_came_and_whoever_gives_up_holds_nobody_up() -> None:
    done: list[str] = []

    async def one(line: OneByOne, name: str, what: str, *, until: asyncio.Event | None = None) -> None:
        async with line.turn(name):
            done.append(f"{what} begins")
            if until is not None:
                await until.wait()
            if what == "fails":
                raise ZeroDivisionError
            done.append(f"{what} ends")

    line = OneByOne()

    async def history() -> None:
        until = asyncio.Event()
        names = ["first", "fails", "leaves", "last"]
        tasks = [
            asyncio.create_task(one(line, "ours", what, until=until if what == "first" else None)) for what in names
        ]
        await asyncio.sleep(0)
        await one(line, "theirs", "another study")
        assert done == ["first begins", "another study begins", "another study ends"]
        tasks[2].cancel()
        until.set()
        came = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in came] == [type(None), ZeroDivisionError, asyncio.CancelledError, type(None)]
        assert done[3:] == ["first ends", "fails begins", "last begins", "last ends"]

    in_a_loop(history())
    gc.collect()
    assert not line._locks, "a name that somebody made up is kept for nobody"
