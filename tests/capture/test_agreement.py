"""How far two people agree: against published figures, and what must hold for any table."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.capture.agreement import kappa, percent


def table(*rows: tuple[int, ...]) -> dict[tuple[str, str], int]:
    return {(str(one), str(other)): number for one, row in enumerate(rows) for other, number in enumerate(row)}


# Agresti (1990), Categorical data analysis, table 10.6: how married couples rate their sexual fun. The figures are
# those that R's vcd::Kappa(SexualFun) prints: 0.1293 (0.0686) and, with linear weights, 0.2374 (0.0783).
FUN = table((7, 7, 2, 3), (2, 8, 3, 7), (1, 5, 4, 9), (2, 8, 9, 14))
# Fleiss, Levin and Paik (2003), table 18.1: two diagnosticians and a hundred people; kappa 0.68, its error 0.087.
DIAGNOSES = table((75, 1, 4), (5, 4, 1), (0, 0, 10))


@pytest.mark.parametrize(
    ("pairs", "order", "value", "error", "places"),
    [
        (FUN, None, 0.1293, 0.0686, 4),
        (FUN, ["0", "1", "2", "3"], 0.2374, 0.0783, 4),
        (DIAGNOSES, None, 0.6765, 0.088, 3),
    ],
)
def test_kappa_is_what_was_published(pairs, order, value, error, places):
    found = kappa(pairs, order)
    assert found is not None
    assert found.value == pytest.approx(value, abs=0.5 * 10**-4)
    assert found.error == pytest.approx(error, abs=0.5 * 10**-places)
    assert (found.low, found.high) == pytest.approx(
        (found.value - 1.96 * found.error, found.value + 1.96 * found.error), abs=1e-4
    )


def value(*arguments: Any) -> float:
    found = kappa(*arguments)
    assert found is not None
    return found.value


def test_it_is_not_defined_where_chance_explains_all():
    assert kappa({}) is None
    assert kappa({("a", "a"): 9}) is None
    assert value({("a", "b"): 3, ("b", "a"): 3}) == -1
    assert percent(0, 0) is None
    assert percent(3, 4) == 75


def test_a_scale_that_is_not_evenly_spaced_and_reasons_for_no_answer():
    pairs = {("0", "1"): 5, ("1", "1"): 5, ("10", "10"): 5, ('{"missing":"ND"}', "1"): 7}
    order, places = ["0", "1", "10"], {"0": 0.0, "1": 1.0, "10": 10.0}
    near = value(pairs, order, places)
    assert near > 0.9 > value({pair: n for pair, n in pairs.items() if pair[0] in order})
    assert value(pairs, order) < near


COUNTS = st.dictionaries(st.tuples(*[st.sampled_from("0123")] * 2), st.integers(1, 60), min_size=1)


@given(COUNTS)
def test_any_table_gives_a_number_in_its_interval_whoever_comes_first(pairs):
    for order in (None, list("0123")):
        one, other = kappa(pairs, order), kappa({(b, a): n for (a, b), n in pairs.items()}, order)
        assert (one is None) == (other is None)
        if one is None or other is None:
            continue
        assert -1 - 1e-9 <= one.low <= one.value + 1e-9
        assert one.value <= one.high + 1e-9 <= 1 + 2e-9
        assert one.value == pytest.approx(other.value)
        # A root: what is lost of a variance near nothing shows in half as many digits.
        assert one.error == pytest.approx(other.error, abs=1e-7)
        agrees = all(a == b for a, b in pairs)
        assert (one.value == pytest.approx(1)) == agrees


@given(COUNTS)
def test_weights_are_plain_where_there_are_but_two_points(pairs):
    two = {("01"[int(a) % 2], "01"[int(b) % 2]): n for (a, b), n in pairs.items()}
    plain, weighted = kappa(two), kappa(two, ["0", "1"])
    assert (plain is None) == (weighted is None)
    if plain is not None and weighted is not None:
        assert weighted.value == pytest.approx(plain.value)
