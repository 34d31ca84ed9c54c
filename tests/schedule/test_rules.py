"""Windows are counted in calendar days, both ends included; what becomes of a visit follows the table."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.participants.status import Status
from app.people.permissions import Permission
from app.schedule.appointments.rules import why_not_book
from app.schedule.rules import (
    TRANSITIONS,
    VisitState,
    days_left,
    in_window,
    planned,
    visit_state,
    why_not_add,
    why_not_change,
    why_not_correct,
    why_not_open,
    why_not_record,
    why_not_with,
)
from app.schedule.status import VisitStatus
from app.studies.definition import Visit, VisitKind, Window

OPENS, CLOSES = date(2026, 3, 8), date(2026, 3, 20)


@dataclass(frozen=True)
class Row:
    status: str = "planned"
    held_on: date | None = None
    opens_on: date = OPENS
    closes_on: date = CLOSES


def visit(day: int, before: int = 0, after: int = 0) -> Visit:
    window = Window(before=before, after=after)
    return Visit(code="v", label="V", kind=VisitKind.ASSESSMENT, day=day, window=window)


@pytest.mark.requirement("SPI-18")
@pytest.mark.parametrize(
    ("anchor", "day", "before", "after", "expected"),
    [
        ("2024-02-28", 1, 0, 1, ("2024-02-29", "2024-02-29", "2024-03-01")),  # leap day
        ("2023-02-28", 1, 0, 1, ("2023-03-01", "2023-03-01", "2023-03-02")),
        ("2024-02-29", 365, 14, 28, ("2025-02-28", "2025-02-14", "2025-03-28")),
        ("2024-02-29", 366, 0, 0, ("2025-03-01", "2025-03-01", "2025-03-01")),
        ("2026-04-04", 1, 1, 1, ("2026-04-05", "2026-04-04", "2026-04-06")),  # Sydney puts its clocks back
        ("2026-03-28", 1, 1, 1, ("2026-03-29", "2026-03-28", "2026-03-30")),  # Zurich puts its clocks forward
        ("2026-12-31", 126, 7, 14, ("2027-05-06", "2027-04-29", "2027-05-20")),
        ("2026-03-02", -7, 7, 3, ("2026-02-23", "2026-02-16", "2026-02-26")),
    ],
)
def test_a_visit_is_due_in_calendar_days(
    anchor: str, day: int, before: int, after: int, expected: tuple[str, str, str]
) -> None:
    found = planned(visit(day, before, after), date.fromisoformat(anchor))
    assert tuple(one.isoformat() for one in found) == expected


@given(
    st.dates(date(1990, 1, 1), date(2100, 1, 1)),
    st.integers(-400, 4000),
    st.integers(0, 400),
    st.integers(0, 400),
    st.integers(-900, 900),
)
def test_a_day_is_in_the_window_exactly_when_it_is_near_enough(
    anchor: date, day: int, before: int, after: int, away: int
) -> None:
    dates = planned(visit(day, before, after), anchor)
    assert (dates.target_on - anchor).days == day
    assert (dates.closes_on - dates.opens_on).days == before + after
    on = dates.target_on + timedelta(days=away)
    assert in_window(dates, on) is (-before <= away <= after)
    assert (days_left(dates, on) < 0) is (away > after)
    held = Row("held", on, dates.opens_on, dates.closes_on)
    assert (visit_state(held, on) is VisitState.HELD) is in_window(dates, on)


@pytest.mark.requirement("SPI-18")
@pytest.mark.parametrize(
    ("row", "today", "state"),
    [
        (Row(), "2026-03-07", "upcoming"),
        (Row(), "2026-03-08", "due"),
        (Row(), "2026-03-20", "due"),
        (Row(), "2026-03-21", "overdue"),
        (Row("held", OPENS), "2026-03-08", "held"),
        (Row("held", CLOSES), "2026-03-25", "held"),
        (Row("held", OPENS - timedelta(days=1)), "2026-03-25", "held_early"),
        (Row("held", CLOSES + timedelta(days=1)), "2026-03-25", "held_late"),
        (Row("missed"), "2026-03-01", "missed"),
        (Row("stopped"), "2026-04-01", "stopped"),
    ],
)
def test_how_a_visit_stands(row: Row, today: str, state: str) -> None:
    assert visit_state(row, date.fromisoformat(today)) == state


def test_days_left_count_down_to_the_last_day() -> None:
    assert [days_left(Row(), CLOSES - timedelta(days=n)) for n in (2, 0, -1)] == [2, 0, -1]


@pytest.mark.requirement("P11-f")
@pytest.mark.parametrize("old", VisitStatus)
@pytest.mark.parametrize("new", VisitStatus)
def test_what_becomes_of_a_visit_follows_the_table(old: VisitStatus, new: VisitStatus) -> None:
    again = old is new is VisitStatus.HELD  # another day for a visit that was held is a correction, not a record
    assert (why_not_change(old, new) is None) is (new in TRANSITIONS[old] and not again)
    assert (why_not_correct(old) is None) is (old is VisitStatus.HELD)


@pytest.mark.requirement("GDPR-7")
def test_a_visit_before_the_withdrawal_may_be_recorded_after_it() -> None:
    gone = date(2026, 3, 10)
    assert why_not_record(VisitStatus.STOPPED, held_on=gone, stopped_on=gone) is None
    assert why_not_record(VisitStatus.STOPPED, held_on=gone + timedelta(days=1), stopped_on=gone) is not None
    assert why_not_record(VisitStatus.STOPPED, held_on=gone, stopped_on=None) is not None
    assert why_not_record(VisitStatus.PLANNED, held_on=gone, stopped_on=None) is None


@pytest.mark.parametrize("kind", VisitKind)
@pytest.mark.parametrize("permission", [Permission.VISIT_RECORD, Permission.TREATMENT_RECORD])
def test_treatment_sessions_are_for_those_who_treat(kind: VisitKind, permission: Permission) -> None:
    fits = (kind is VisitKind.TREATMENT) is (permission is Permission.TREATMENT_RECORD)
    assert (why_not_with(kind, permission) is None) is fits


@pytest.mark.parametrize("status", Status)
def test_no_visit_becomes_due_for_those_who_left(status: Status) -> None:
    assert (why_not_open(status) is None) is (status not in (Status.SCREEN_FAILED, Status.WITHDRAWN))


def test_nothing_outside_the_plan_is_recorded_for_a_day_after_they_left() -> None:
    left = date(2026, 3, 10)
    for status in (Status.WITHDRAWN, Status.DIED):
        assert why_not_add(status, left, held_on=left, left_on=left) is None  # recorded afterwards
        assert why_not_add(status, left, held_on=left + timedelta(days=1), left_on=left) is not None
        assert why_not_add(status, left) is None  # the day is not said yet
    assert "contact" in str(why_not_add(Status.WITHDRAWN, left, held_on=left + timedelta(days=1), left_on=left))


def test_nothing_outside_the_plan_is_recorded_while_a_death_is_not() -> None:
    day = date(2026, 3, 10)
    fatal: dict[str, Any] = {"participant": "M-001", "fatal_event": 4}
    for held_on in (None, day):
        assert "Record the death" in str(why_not_add(Status.RANDOMISED, day, held_on=held_on, **fatal))
    assert why_not_add(Status.DIED, day, held_on=day, left_on=day, **fatal) is None  # held before they died
    assert "died before" in str(why_not_add(Status.DIED, day, held_on=day + timedelta(days=1), left_on=day, **fatal))


@pytest.mark.parametrize("status", Status)
def test_nothing_is_booked_for_who_left(status: Status) -> None:
    gone = status in (Status.SCREEN_FAILED, Status.WITHDRAWN, Status.DIED)
    assert (why_not_book(status, VisitStatus.PLANNED) is not None) is gone
