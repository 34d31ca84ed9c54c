"""What the counts say: pace and target, a flow in which nobody is lost, and lines that add up."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.participants.status import Status
from app.reports.rules import (
    IN_PART,
    Counted,
    Entries,
    People,
    Phase,
    Place,
    Visits,
    month_after,
    plan_of,
    recruitment,
    report,
)
from app.studies.definition import Study
from tests.factories import definition

AT = datetime(2026, 6, 20, 12, 0, tzinfo=UTC)
TODAY = date(2026, 6, 20)
SITES = (Place(1, "north", TODAY), Place(2, "south", TODAY))
STUDY = definition()
STUDIES = {1: STUDY, 2: STUDY}


def month(number: int) -> date:
    return date(2026, number, 1)


def people(**months: int) -> list[People]:
    """So many randomised in each month, such as m3=2."""
    return [People(1, "randomised", True, month(int(name[1:])), number) for name, number in months.items()]


@pytest.mark.parametrize(
    ("those", "target", "totals", "pace", "reached"),
    [
        ([], 40, [], None, None),
        (people(m6=2), 40, [0, 2], None, None),  # no whole month yet
        (people(m4=2, m5=4), 40, [0, 2, 6, 6], None, None),  # two whole months are no pace
        (people(m3=1, m5=5), 40, [0, 1, 1, 6, 6], 2.0, date(2027, 11, 1)),  # 34 lack, 2 a month: 17 months
        (people(m3=10, m4=10, m5=10, m6=10), 40, [0, 10, 20, 30, 40], 10.0, None),  # reached
        (people(m2=38, m3=2), 40, [0, 38, 40], 2 / 3, None),  # reached in March: the picture ends there
        (people(m1=1), 40, [0, 1, 1, 1, 1, 1, 1], 0.0, None),  # at this pace never
        (people(m3=1), 4000, [0, 1, 1, 1, 1], 1 / 3, None),  # not within twenty years
        (people(m3=3), None, [0, 3, 3, 3, 3], 1.0, None),  # one of several sites has no target
    ],
)
def test_recruitment_goes_at_the_pace_of_three_whole_months(those, target, totals, pace, reached):
    going = recruitment(those, target=target, today=TODAY)
    assert [each.total for each in going.months] == totals
    assert (going.pace, going.reached_on) == (pace, reached)
    assert going.total == (totals[-1] if totals else 0)
    assert [each.first for each in going.months] == [month_after(going.months[0].first, n) for n in range(len(totals))]


lots = st.builds(
    People,
    st.sampled_from([1, 2]),
    st.sampled_from([*(each.value for each in Status), IN_PART]),
    st.booleans(),
    st.one_of(st.none(), st.dates(date(2025, 1, 1), TODAY).map(lambda day: day.replace(day=1))),
    st.integers(1, 50),
)


@pytest.mark.requirement("CON-F1", "CON-F6")
@given(st.lists(lots, max_size=30))
def test_nobody_is_lost_in_the_flow_and_sites_add_up(those: list[People]):
    found = report(STUDIES, Counted(AT, SITES, people=tuple(those)), target=40)
    flow = found.flow
    everybody = sum(each.number for each in those)
    assert flow.excluded + flow.left + flow.to_consent + flow.to_enter + flow.entered == flow.assessed == everybody
    assert flow.completed + flow.withdrawn + flow.lost + flow.died <= flow.entered == found.recruitment.total
    assert flow.active == flow.entered - flow.completed - flow.withdrawn - flow.lost - flow.died >= flow.in_part
    north, south, every = found.standing
    for name in ("screened", "failed", "consented", "entered", "completed", "withdrawn", "lost", "died"):
        assert getattr(north, name) + getattr(south, name) == getattr(every, name)
    for name in ("left", "active", "in_part"):
        assert getattr(north, name) + getattr(south, name) == getattr(every, name)
    assert every.entered == every.active + every.completed + every.withdrawn + every.lost + every.died
    assert (every.withdrawn, every.lost, every.died, every.left) == (flow.withdrawn, flow.lost, flow.died, flow.left)
    assert (
        north.entered + south.entered == sum(each.entered for each in found.by_site[:-1]) == found.by_site[-1].entered
    )
    alone = report({1: STUDY}, Counted(AT, SITES, people=tuple(those)).only([1]), target=None)
    assert alone.standing == (north,)


phases = st.builds(
    Visits,
    st.sampled_from([1, 2]),
    st.sampled_from(["baseline", "tx01", "week18", "gone"]),
    st.sampled_from([each.value for each in Phase]),
    st.integers(1, 50),
)


@given(st.lists(phases, max_size=30))
def test_every_visit_of_the_plan_is_somewhere_and_a_missed_one_has_no_forms(those: list[Visits]):
    found = report(STUDIES, Counted(AT, SITES, visits=tuple(those)), target=40)
    assert [each.code for each in found.visits] == ["baseline", "week18"]  # sessions are the treatment room's
    for line in found.visits:
        mine = sum(each.number for each in those if each.code == line.code)
        assert line.expected + line.later + line.stopped == mine
        gone = sum(each.number for each in those if (each.code, each.phase) == (line.code, Phase.LEFT))
        assert line.reached == line.expected + gone >= line.held, "retention is a share of whoever it was due for"
        due = line.expected - line.missed
        expected = {form.instrument: form.expected for form in found.forms_by("visit", "instrument")
                    if form.visit == line.code}  # fmt: skip
        visit = STUDY.visit(line.code)
        assert visit is not None
        assert expected == dict.fromkeys(visit.instruments, due)


def targeted(**targets: int) -> dict[int, Study]:
    """The study where the protocol says how many a site enrols."""
    sites = [{**site, "target": targets.get(site["code"])} for site in STUDY.model_dump()["sites"]]
    return dict.fromkeys((1, 2), definition(sites=sites))


@pytest.mark.parametrize(
    ("targets", "shown", "by_site", "overall"),
    [
        ({}, (1, 2), [None, None, 40], 40),
        ({}, (1,), [None], None),
        ({"north": 12}, (1, 2), [12, None, 40], 40),
        ({"north": 12}, (1,), [12], 12),
        ({"north": 12}, (2,), [None], None),
        ({"north": 12, "south": 30}, (1, 2), [12, 30, 40], 40),  # more than the study needs: who is quick goes on
    ],
)
def test_each_site_is_held_against_its_own_target(targets, shown, by_site, overall):
    those = people(m3=3, m4=3, m5=3)
    counted = Counted(AT, SITES, people=(*those, People(2, "withdrawn", True, month(5), 3))).only(shown)
    studies = {site: targeted(**targets)[site] for site in shown}
    found = report(studies, counted, target=40 if len(shown) == 2 else None)
    assert [line.target for line in found.by_site] == by_site
    assert found.recruitment.target == overall
    entered = {1: ("north", 9, 3.0), 2: ("south", 3, None)}
    for line, site in zip(found.by_site, shown, strict=False):
        assert (line.site, line.entered, line.pace) == entered[site], "whoever withdrew since was enrolled"
    if shown == (1,) and targets:
        assert found.by_site[0].reached_on == date(2026, 7, 1)  # three lack, three a month


@pytest.mark.requirement("CON-26")
def test_forms_add_up_by_site_and_by_visit():
    counted = Counted(
        AT,
        SITES,
        visits=(
            Visits(1, "baseline", "in_window", 5),
            Visits(2, "baseline", "due", 2),
            Visits(2, "week18", "missed", 1),
        ),
        entries=(
            Entries(1, "baseline", "pain", "complete", 3),
            Entries(1, "baseline", "pain", "partial", 1),
            Entries(2, "baseline", "pain", "complete", 2),
            Entries(2, "baseline", "outside_the_plan", "complete", 9),
        ),
    )
    found = report(STUDIES, counted, target=40)
    said = [(each.site, each.expected, each.complete, each.partial, each.lacking) for each in found.forms_by("site")]
    assert said == [("north", 5, 3, 1, 1), ("south", 2, 2, 0, 0)]
    (total,) = found.forms_by()
    assert (total.expected, total.complete, total.partial, total.lacking) == (7, 5, 1, 1)


def test_a_visit_that_only_one_site_has_stands_behind_the_plan():
    more = definition(visits=[*STUDY.model_dump()["visits"], {**STUDY.model_dump()["visits"][-1], "code": "week52"}])
    assert [each.code for each in plan_of([STUDY, more])] == ["baseline", "tx01", "week18", "week52"]


def test_nobody_at_all_is_a_report_too():
    found = report({}, Counted(AT, ()), target=None)
    assert (found.sites, found.recruitment.months, found.visits, found.forms) == ((), (), (), ())
    assert [line.standing for line in found.queries] == [0]
