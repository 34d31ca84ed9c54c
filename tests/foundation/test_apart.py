"""What takes long is done in a program of its own, which comes after others and takes nothing of them."""

import os
import signal

import pytest

from app.foundation.apart import LATER, EndedEarly, apart


def who() -> tuple[int, int, bool]:
    """Process, priority, and whether a key press would stop it."""
    return os.getpid(), os.nice(0), signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_it_is_another_process_that_lets_others_go_first():
    process, nice, is_stopped = apart(who)
    assert process != os.getpid()
    assert nice == min(os.nice(0) + LATER, 19)
    assert not is_stopped


class Unsendable(Exception):
    def __reduce__(self) -> str:
        raise TypeError("with what somebody typed")


def fails() -> None:
    raise Unsendable("with what somebody typed")


def test_what_cannot_be_sent_is_said_nowhere(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(EndedEarly):
        apart(fails)
    assert "typed" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("work", "arguments", "problem", "says"),
    [
        (int, ("twelve",), ValueError, "twelve"),
        (os._exit, (3,), EndedEarly, "3"),
        (memoryview, (b"no answer that can be sent",), TypeError, "pickle"),
    ],
)
def test_what_goes_wrong_there_is_said_here(work, arguments, problem, says):
    with pytest.raises(problem, match=says):
        apart(work, *arguments)
