"""Planned visits follow another version of the plan, what was done stays, and a second time nothing happens."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.participants.status import Status
from app.schedule.replanning.rules import Anchors, Replanned, Step, replanned, visits_concerned
from app.schedule.rules import Planned, planned
from app.schedule.status import VisitStatus
from app.studies.definition import Study
from tests.factories import MINI, definition

DAY = timedelta(days=1)
TODAY = date(2026, 3, 2)
ANCHORS = Anchors(TODAY - 2 * DAY, TODAY - DAY, TODAY)


@dataclass(frozen=True)
class Row:
    code: str
    target_on: date
    opens_on: date
    closes_on: date
    status: str = VisitStatus.PLANNED


def rows_of(study: Study, anchors: Anchors = ANCHORS) -> list[Row]:
    """Every visit as it is opened."""
    return [Row(visit.code, *planned(visit, day)) for visit in study.visits if (day := anchors.day(visit)) is not None]


def visits(*changes: dict[str, Any]) -> Study:
    """The small trial with its visits changed one by one; an empty change leaves a visit out."""
    plan: Any = MINI["visits"]
    return definition(visits=[{**visit, **change} for visit, change in zip(plan, changes, strict=True) if change != {}])


SAME = {"label": "Same"}


@pytest.mark.parametrize(
    ("new", "status", "row", "step"),
    [
        (visits(SAME, SAME, SAME), Status.RANDOMISED, {}, None),
        (visits(SAME, SAME, {"day": 119}), Status.RANDOMISED, {}, Step.MOVED),
        (visits(SAME, SAME, {"window": {"before": 0, "after": 0}}), Status.LOST, {}, Step.MOVED),
        (visits(SAME, SAME, {"anchor": "consent"}), Status.RANDOMISED, {}, Step.MOVED),
        (visits(SAME, SAME, {"day": 119}), Status.RANDOMISED, {"status": VisitStatus.HELD}, None),
        (visits(SAME, SAME, {"day": 119}), Status.RANDOMISED, {"status": VisitStatus.MISSED}, None),
        (visits(SAME, SAME, {"day": 119}), Status.WITHDRAWN, {"status": VisitStatus.STOPPED}, None),
        (visits(SAME, SAME, {}), Status.RANDOMISED, {}, Step.STOPPED),
        (visits(SAME, SAME, {}), Status.RANDOMISED, {"status": VisitStatus.HELD}, None),
    ],
)
def test_what_becomes_of_a_visit(new: Study, status: Status, row: dict[str, Any], step: Step | None) -> None:
    old = definition()
    rows = [replace(each, **(row if each.code == "week18" else {})) for each in rows_of(old)]
    found = replanned(rows, old, new, ANCHORS, status=status, on=TODAY)
    assert [(each.step, each.code) for each in found] == ([] if step is None else [(step, "week18")])


@pytest.mark.parametrize(
    ("status", "on", "added"),
    [
        (Status.RANDOMISED, TODAY, True),
        (Status.RANDOMISED, TODAY + 140 * DAY, True),
        (Status.RANDOMISED, TODAY + 141 * DAY, False),  # its window is over
        (Status.WITHDRAWN, TODAY, False),
        (Status.DIED, TODAY, False),
        (Status.SCREEN_FAILED, TODAY, False),
    ],
)
def test_a_new_visit_comes_to_whoever_takes_part_and_can_come_to_it(status: Status, on: date, added: bool) -> None:
    old, new = visits(SAME, SAME, {}), definition()
    found = replanned(rows_of(old), old, new, ANCHORS, status=status, on=on)
    week18 = Planned(TODAY + 126 * DAY, TODAY + 119 * DAY, TODAY + 140 * DAY)
    assert found == ([Replanned(Step.ADDED, "week18", None, week18)] if added else [])
    nobody = replanned([], old, new, Anchors(TODAY), status=Status.SCREENED, on=TODAY)
    assert nobody == [], "the day it is counted from has not come"


plans = st.lists(
    st.fixed_dictionaries(
        {
            "code": st.sampled_from(["baseline", "tx01", "week18", "week26", "week52"]),
            "label": st.just("Visit"),
            "kind": st.just("assessment"),
            "anchor": st.sampled_from(["screening", "consent", "randomisation"]),
            "day": st.integers(0, 400),
            "window": st.fixed_dictionaries({"before": st.integers(0, 30), "after": st.integers(0, 30)}),
        }
    ),
    min_size=1,
    unique_by=lambda visit: visit["code"],
)
anchors = st.builds(
    Anchors,
    st.just(TODAY - 9 * DAY),
    st.none() | st.just(TODAY - 5 * DAY),
    st.none() | st.just(TODAY),
)


@given(plans, plans, anchors, st.sampled_from(Status), st.data())
def test_done_again_nothing_happens(
    before: list[Any], after: list[Any], days: Anchors, status: Status, data: st.DataObject
) -> None:
    old, new = definition(visits=before), definition(visits=after)
    rows = [replace(row, status=data.draw(st.sampled_from(VisitStatus))) for row in rows_of(old, days)]
    found = replanned(rows, old, new, days, status=status, on=TODAY)
    there = {row.code: row for row in rows}
    assert len({each.code for each in found}) == len(found)
    assert {each.code for each in found} <= set(visits_concerned(old, new))
    for each in found:
        if each.new is not None:
            there[each.code] = Row(each.code, *each.new)
        else:
            there[each.code] = replace(there[each.code], status=VisitStatus.STOPPED)
    for row in rows:
        if row.status != VisitStatus.PLANNED:
            assert there[row.code] == row, "what was done stays"
    for visit in new.visits:
        day, now = days.day(visit), there.get(visit.code)
        if day is not None and now is not None and now.status == VisitStatus.PLANNED:
            assert (now.target_on, now.opens_on, now.closes_on) == planned(visit, day)
    assert replanned(there.values(), old, new, days, status=status, on=TODAY) == []
    assert replanned(rows, old, old, days, status=status, on=TODAY) == []
