"""What stands out beside the other sites: last digits, levels and spreads, shares; and what is never said."""

import random
import statistics
from datetime import UTC, datetime
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.reports.quality import (
    LEAST_DIGITS,
    LEAST_VALUES,
    Digits,
    Level,
    Measured,
    Typing,
    chance,
    compared_with,
    has_last_digit,
    homogeneity,
    last_digit,
    least_likely,
    moments,
)
from app.studies.definition import Item

AT = datetime(2026, 6, 20, 12, 0, tzinfo=UTC)
pytestmark = pytest.mark.requirement("SPI-29")


@pytest.mark.parametrize(
    ("chi_square", "freedom", "p"),
    [  # the quantiles of tables
        (3.841459, 1, 0.05),
        (5.991465, 2, 0.05),
        (7.814728, 3, 0.05),
        (16.918978, 9, 0.05),
        (27.877165, 9, 0.001),
        (26.124482, 8, 0.001),
        (0.0, 5, 1.0),
        (0.0, 4, 1.0),
    ],
)
def test_chance_is_that_of_the_tables(chi_square: float, freedom: int, p: float):
    assert chance(chi_square, freedom) == pytest.approx(p, rel=1e-5)


def test_homogeneity_is_pearsons_test():
    # 43 of 52 against 44 of 48: chi-square 1.777, by hand
    assert homogeneity((43, 9), (44, 4)) == pytest.approx(chance(1.7774, 1), rel=1e-3)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ((0, 0), (5, 5)),  # nothing here
        ((50, 0), (50, 0)),  # one kind
        ((45, 4), (455, 40)),  # between two, one is expected to be below five
        ((100, 50, 0), (1000, 500, 7)),  # between three, one is expected to be below one
        ((5, 6, 6), (6, 6, 6)),  # fewer than six on average
    ],
)
def test_nothing_is_said_where_the_test_does_not_hold(here: tuple[int, int], there: tuple[int, int]):
    assert homogeneity(here, there) is None


@pytest.mark.parametrize(
    ("here", "there"), [((50, 5), (450, 45)), ((100, 50, 2), (1000, 500, 9)), ((6, 6, 6), (6, 6, 6))]
)
def test_where_it_holds_it_is_said(here: tuple[int, int], there: tuple[int, int]):
    assert homogeneity(here, there) is not None


rows = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=2, max_size=10)


@given(rows, st.randoms(use_true_random=False))
def test_homogeneity_knows_no_order_and_no_side(pairs: list[tuple[int, int]], chances: random.Random):
    here, there = zip(*pairs, strict=True)
    found = homogeneity(here, there)
    mixed = chances.sample(pairs, len(pairs))
    again = homogeneity(*zip(*((two, one) for one, two in mixed), strict=True))
    assert (found is None) == (again is None)
    if found is not None and again is not None:
        assert 0 <= found <= 1
        assert isclose(found, again, rel_tol=1e-6, abs_tol=1e-12)
    same = homogeneity(here, here)
    assert same is None or same > 0.999


@pytest.mark.parametrize(
    ("chances", "least"),
    [
        ([], -1.0),
        ([None, 0.2], -1.0),
        ([0.01], 0.01),
        ([0.011], -1.0),
        ([0.005, 0.6], 0.005),
        ([0.006, 0.6], -1.0),
        ([0.0099, 0.008, None], 0.0099),  # the second lifts the first
    ],
)
def test_what_stands_out_among_many(chances: list[float | None], least: float):
    assert least_likely(chances) == least


def item(**said: object) -> Item:
    return Item.model_validate({"code": "one", "label": "One", **said})


@pytest.mark.parametrize(
    ("said", "has"),
    [
        ({"type": "scale", "min": 0, "max": 10}, False),
        ({"type": "integer", "min": 0, "max": 7}, False),
        ({"type": "integer", "min": 0, "max": 120}, True),
        ({"type": "integer"}, True),
        ({"type": "number", "min": 0, "max": 2, "decimals": 1}, True),
        ({"type": "number", "min": 0, "max": 1, "decimals": 1}, False),
        ({"type": "slider"}, True),
        ({"type": "text"}, False),
        ({"type": "calculated", "calculation": "1"}, False),
    ],
)
def test_an_answer_of_one_digit_has_no_last_digit(said: dict[str, object], has: bool):
    assert has_last_digit(item(**said)) is has


@pytest.mark.parametrize(
    ("value", "decimals", "digit"),
    [
        (120, None, 0),
        (-37, 0, 7),
        (72.5, 1, 5),
        (72, 1, 0),
        (72.0, 1, 0),
        (0.29, 2, 9),
        (36.65, None, 5),
        (72.0, None, 2),
        (1e300, None, None),
    ],
)
def test_the_last_digit_is_the_one_that_was_written(value: float, decimals: int | None, digit: int | None):
    assert last_digit(value, decimals) == digit


values = st.one_of(st.integers(-1000, 1000), st.floats(-1000, 1000, allow_subnormal=False))
numbers = st.one_of(st.lists(values, min_size=1, max_size=40), st.lists(st.integers(-1000, 1000), min_size=1))


@given(numbers, numbers)
def test_moments_of_two_parts_are_those_of_the_whole(one: list[float], two: list[float]):
    both, whole = moments(one).and_(moments(two)), moments([*one, *two])
    assert both.number == whole.number
    assert isclose(both.mean, statistics.fmean([*one, *two]), abs_tol=1e-6)
    assert isclose(both.squares, whole.squares, rel_tol=1e-9, abs_tol=1e-3)
    assert isclose(both.squares, both.number * statistics.pvariance([*one, *two]), rel_tol=1e-9, abs_tol=1e-3)


# Site by site

NAMES = {1: "north", 2: "south", 3: "east", 4: "west", 5: "far"}


def digits(site: int, *numbers: int) -> list[Digits]:
    return [Digits(site, "pain", "weight", digit, number) for digit, number in enumerate(numbers) if number]


EVEN, ROUND = (10,) * 10, (50, 5, 5, 5, 5, 15, 5, 5, 5, 0)


def test_a_site_that_rounds_stands_out_and_the_others_do_not():
    counted = (*digits(1, *ROUND), *digits(2, *EVEN), *digits(3, *EVEN), *digits(4, *EVEN))
    found = Measured(AT, digits=counted).quality({site: NAMES[site] for site in (1, 2, 3, 4)})
    line = found.digits[0]
    assert (line.site, line.number, line.digit, line.share, line.elsewhere) == ("north", 100, 0, 0.5, 0.1)
    assert line.difference == pytest.approx(0.45)
    assert [each.site for each in found.digits if each.stands_out] == ["north"]
    assert found.standing_out == ("north",)


def test_a_site_that_is_far_apart_does_not_make_the_others_look_odd():
    """Held against it, they would be: a third of what the others have ends in nought."""
    counted = (*digits(1, 300), *digits(2, *EVEN), *digits(3, *EVEN), *digits(4, 9, 11, *EVEN[2:]))
    found = Measured(AT, digits=counted).quality({site: NAMES[site] for site in (1, 2, 3, 4)})
    assert found.standing_out == ("north",)
    assert {each.site: round(each.elsewhere, 2) for each in found.digits if each.digit == 1} == {"west": 0.1}
    typing = (Typing(1, 300, 300), Typing(2, 100, 5), Typing(3, 100, 6), Typing(4, 100, 40))
    late = Measured(AT, typing=typing).quality({site: NAMES[site] for site in (1, 2, 3, 4)})
    assert late.standing_out == ("north", "west")


def test_a_site_with_few_values_is_nothing_to_leave_out():
    """Of twenty that all end in nought nothing is said; they stay among what the others are held against."""
    counted = (*digits(1, 20), *digits(2, *ROUND), *digits(3, *EVEN), *digits(4, *EVEN))
    found = Measured(AT, digits=counted).quality({site: NAMES[site] for site in (1, 2, 3, 4)})
    assert {each.site: each.elsewhere for each in found.digits if each.stands_out} == {"south": 0.18}
    assert "north" not in {each.site for each in found.digits}


def test_of_two_sites_that_differ_nobody_can_say_which_is_the_odd_one():
    found = Measured(AT, digits=(*digits(1, *ROUND), *digits(2, *EVEN))).quality({1: "north", 2: "south"})
    assert found.standing_out == ("north", "south")


@given(st.dictionaries(st.integers(1, 6), st.tuples(*[st.integers(0, 99)] * 3), min_size=1), st.integers(0, 300))
def test_each_site_is_held_against_some_of_the_others_never_itself(sites, far):
    found = compared_with(sites, lambda here, there: here[0] if here[0] * 3 > far else None)
    assert found.keys() == sites.keys()
    for site, there in found.items():
        others = [one for other, one in sites.items() if other != site]
        subsets: list[list[tuple[int, ...]]] = [[]]
        for one in others:
            subsets += [[*those, one] for those in subsets]
        assert list(there) in [[sum(each[place] for each in those) for place in range(3)] for those in subsets]


def test_all_sites_that_round_alike_round_as_the_scale_asks():
    counted = tuple(each for site in NAMES for each in digits(site, *ROUND))
    found = Measured(AT, digits=counted).quality(NAMES)
    assert len(found.digits) == 5
    assert not found.standing_out


@pytest.mark.parametrize("number", [LEAST_DIGITS - 1, LEAST_DIGITS])
def test_of_few_values_no_last_digit_is_told(number: int):
    few = digits(1, number - 25, 25)
    many = digits(2, 100, 400)
    for counted in ((*few, *many), (*many, *few)):
        found = Measured(AT, digits=counted).quality(NAMES)
        assert bool(found.digits) is (number == LEAST_DIGITS)


def level(site: int, values: list[float], visit: str = "baseline") -> Level:
    return Level(site, visit, "pain", "nrs", *moments(values))


def spread_around(middle: float, wide: float, number: int = 40) -> list[float]:
    """Values with this mean, evenly to both sides of it."""
    return [middle + wide * (-1) ** place for place in range(number)]


@pytest.mark.parametrize(
    ("odd", "distance", "spread", "is_far", "is_odd"),
    [
        (spread_around(5, 2), 0.0, 1.0, False, False),
        (spread_around(9, 2), 2.0, 1.0, True, False),
        (spread_around(1, 2), -2.0, 1.0, True, False),
        (spread_around(5.6, 2), 0.3, 1.0, False, False),
        (spread_around(5, 0.5), 0.0, 0.2, False, True),
        (spread_around(5, 5), 0.0, 2.5, False, True),
        (spread_around(5, 0), 0.0, 0.0, False, True),  # nobody varies
    ],
)
@pytest.mark.parametrize("others", [1, 2, 4])
def test_a_level_far_from_the_others_stands_out_and_so_does_a_spread(odd, distance, spread, is_far, is_odd, others):
    counted = [level(1, odd), *(level(site, spread_around(5, 2)) for site in range(2, 2 + others))]
    found = Measured(AT, levels=tuple(counted)).quality(NAMES)
    line = found.levels[0]
    assert (line.site, line.distance, line.spread, line.is_far, line.is_odd) == (
        "north",
        distance,
        spread,
        is_far,
        is_odd,
    )
    if others > 1:  # of two, each is far from the other
        assert [each.site for each in found.levels if each.stands_out] == ["north"][: is_far or is_odd]


def test_where_sites_differ_anyway_one_that_differs_as_much_is_nothing_to_ask_about():
    counted = tuple(level(site, spread_around(2 * site, 2)) for site in NAMES)
    assert not Measured(AT, levels=counted).quality(NAMES).standing_out


def test_a_site_that_has_come_to_other_visits_is_not_far_for_that():
    """South has more of the later visit, at which everybody is better."""
    counted = (
        level(1, spread_around(7, 1), "baseline"),
        level(1, spread_around(3, 1, 6), "week18"),
        level(2, spread_around(7, 1, 6), "baseline"),
        level(2, spread_around(3, 1), "week18"),
    )
    found = Measured(AT, levels=counted).quality(NAMES)
    assert [(each.distance, each.stands_out) for each in found.levels] == [(0.0, False)] * 2


@pytest.mark.parametrize("number", [LEAST_VALUES - 1, LEAST_VALUES])
def test_of_few_values_no_level_is_told(number: int):
    values = [float(each) for each in range(number)]
    found = Measured(AT, levels=(level(1, values), level(2, spread_around(5, 2)))).quality(NAMES)
    assert bool(found.levels) is (number == LEAST_VALUES)


def test_shares_are_held_against_the_other_sites_and_more_stands_out_but_not_less():
    counted = (
        Typing(1, entries=200, late=60, answers=2000, corrected=20, compared=100, alike=2),
        Typing(2, entries=200, late=10, answers=2000, corrected=20, compared=100, alike=20),
        Typing(3, entries=200, late=10, answers=0, corrected=4, compared=100, alike=2),
    )
    found = Measured(AT, typing=counted).quality({site: NAMES[site] for site in (1, 2, 3, 4)})
    north, south, east, west, every = found.sites
    assert (north.late.stands_out, south.late.stands_out, south.late.p is None) == (True, False, False)
    assert (north.alike.stands_out, south.alike.stands_out) == (False, True)
    assert (north.corrected.stands_out, east.corrected.p, west.late.p) == (False, None, None)
    assert (every.site, every.late.number, every.late.of, every.late.p) == ("", 80, 600, None)
    assert found.standing_out == ("north", "south")


lots = st.tuples(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400))


@given(st.lists(lots, min_size=1, max_size=5), st.lists(st.lists(st.integers(0, 90), min_size=10, max_size=10)))
def test_of_one_site_alone_nothing_is_compared_and_none_of_others_is_said(
    those: list[tuple[int, int, int]], counts: list[list[int]]
):
    typing = tuple(Typing(site, *those_, *those_) for site, those_ in enumerate(those, 1))
    ends = tuple(each for site, numbers in enumerate(counts[:5], 1) for each in digits(site, *numbers))
    measured = Measured(AT, typing=typing, digits=ends)
    (line,) = measured.quality({1: "north"}).sites
    assert (line.site, line.late.number, line.late.of) == ("north", those[0][1], those[0][0])
    assert not line.stands_out
    assert measured.quality({1: "north"}).digits == ()
    both = measured.quality({1: "north", 2: "south"})
    assert {each.site for each in both.digits} <= {"north", "south"}
    assert {each.site for each in both.sites} == {"north", "south", ""}
    for each in both.digits:
        assert 0 <= each.difference <= 1
        assert each.share >= each.elsewhere
