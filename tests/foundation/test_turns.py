"""Long work shares the interpreter in short turns, and only while there is some."""

import sys
from contextlib import suppress
from typing import Any

from sqlalchemy import literal, select, union_all
from sqlmodel import Session

from app.foundation.database import batches, streamed
from app.foundation.turns import SHORT, short_turns

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
