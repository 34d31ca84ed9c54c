"""Does a line of the log say where an error happened, and nothing of what somebody typed?"""

from typing import Any

import pytest

from app import jobs
from app.foundation.failures import ROOT, told
from app.webhooks import actions as webhooks

TYPED = "aubergine"


def innermost(said: str) -> int:
    return int(said)


def outer(said: str) -> int:
    try:
        return innermost(said)
    except ValueError as problem:
        raise RuntimeError(f"{said} is no number") from problem


def failure(said: str) -> BaseException:
    try:
        outer(said)
    except RuntimeError as problem:
        problem.add_note(said)
        return problem
    raise AssertionError


def test_where_it_happened_is_told_from_inside_out_with_what_led_to_it():
    line = told(failure(TYPED))
    assert "\n" not in line
    first, cause = line.split("; from ")
    here = f"tests/foundation/{__file__.rpartition('/')[2]}"
    assert [place.rpartition(" in ")[2] for place in first.split(" < ")] == ["outer", "failure"]
    assert [place.rpartition(" in ")[2] for place in cause.split(" < ")] == ["innermost", "outer"]
    assert first.startswith("RuntimeError at " + here + ":")
    assert cause.startswith("ValueError at " + here + ":")
    number = int(cause.split(":")[1].split(" ")[0])
    assert (ROOT / here).read_text().splitlines()[number - 1].strip() == "return int(said)"
    assert TYPED not in line


def test_several_errors_at_once_and_one_that_leads_to_itself_are_told_once():
    one = failure(TYPED)
    one.__cause__ = group = BaseExceptionGroup(TYPED, [one, KeyboardInterrupt(TYPED)])
    group.__context__ = one
    line = told(one)
    assert line.count("RuntimeError") == 1
    assert line.endswith("; from BaseExceptionGroup; from KeyboardInterrupt")
    assert TYPED not in line


@pytest.mark.requirement("SEC-47")
def test_a_round_of_the_jobs_that_fails_says_where_and_nothing_that_was_typed(caplog, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise failure(TYPED)

    nowhere: Any = None

    monkeypatch.setattr(jobs, "carry_out_due", fails)
    monkeypatch.setattr(webhooks, "queue_events", fails)
    assert jobs.carry_out_amendments(nowhere) == 0
    assert jobs.tell_webhooks(nowhere, nowhere) == 0
    assert len(caplog.records) == 2
    assert all("RuntimeError at " in each.getMessage() and each.exc_info is None for each in caplog.records)
    assert TYPED not in caplog.text
