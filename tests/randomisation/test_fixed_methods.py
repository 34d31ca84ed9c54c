"""Does each method that draws its list beforehand do what its paper says, slot by slot and in law?"""

import ast
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, product
from math import erfc, exp, factorial, gamma, sqrt
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.randomisation.drbg import SEED_BYTES
from app.randomisation.methods import DRAWN, METHODS
from app.randomisation.methods.biased_coin import probability_of
from app.randomisation.methods.maximal_procedure import counts
from app.randomisation.sequence import draw, problems
from app.studies.definition import Allocation
from app.studies.rules.problems import EQUAL_ARMS, TWO_EQUAL_ARMS
from tests.conftest import ROOT
from tests.randomisation.enumeration import outcomes

EQUAL = (("A", 1), ("B", 1))
THREE = (("A", 1), ("B", 1), ("C", 1))
UNEQUAL = (("A", 2), ("B", 1))

OPTIONS: dict[str, Mapping[str, object]] = {
    "permuted_blocks": {"block_sizes": [4]},
    "simple": {},
    "big_stick": {"tolerance": 2},
    "maximal_procedure": {"tolerance": 2},
    "wei_urn": {"alpha": 0, "beta": 1},
    "truncated_binomial": {},
    "biased_coin": {"probability": "2/3"},
}
seeds = st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)


def drawn(method: str, options: Mapping[str, object], **changes: Any) -> dict[str, tuple[str, ...]]:
    asked: dict[str, Any] = {
        "arms_with_ratio": EQUAL,
        "strata": ("all",),
        "length_per_stratum": 24,
        "seed": bytes(range(SEED_BYTES)),
        "study": "RESOLVE",
        "list_version": 1,
    }
    return dict(draw(method, options=options, **(asked | changes)).slots)


def walk(slots: Sequence[str]) -> list[int]:
    """How far the first arm is ahead after each slot."""
    return list(accumulate(1 if arm == "A" else -1 for arm in slots))


# --- reproducible


@pytest.mark.requirement("RND-10")
@pytest.mark.parametrize(
    "case",
    json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8")),
    ids=lambda case: f"{case['method']}-{case['list_version']}",
)
def test_golden_lists_are_frozen(case: dict[str, Any]) -> None:
    slots = drawn(
        case["method"],
        case["options"],
        arms_with_ratio=[tuple(arm) for arm in case["arms"]],
        strata=tuple(case["slots"]),
        length_per_stratum=case["length"],
        seed=bytes.fromhex(case["seed"]),
        study=case["study"],
        list_version=case["list_version"],
    )
    assert {stratum: " ".join(arms) for stratum, arms in slots.items()} == case["slots"]


def test_every_method_has_a_golden_list() -> None:
    frozen = {case["method"] for case in json.loads((Path(__file__).parent / "golden.json").read_text())}
    assert frozen | {"permuted_blocks"} == set(DRAWN)


@pytest.mark.requirement("RND-5", "RND-10")
@pytest.mark.parametrize("method", DRAWN)
def test_neither_the_order_of_arms_nor_other_strata_change_a_list(method: str) -> None:
    both = drawn(method, OPTIONS[method], strata=("one", "two"), length_per_stratum=80)
    assert drawn(method, OPTIONS[method], strata=("two",), length_per_stratum=80)["two"] == both["two"]
    again = drawn(method, OPTIONS[method], strata=("two", "one"), arms_with_ratio=EQUAL[::-1], length_per_stratum=80)
    assert again == both
    assert both["one"] != both["two"]


@pytest.mark.requirement("RND-5", "RND-9")
@pytest.mark.parametrize("method", DRAWN)
def test_another_seed_study_or_version_is_another_list(method: str) -> None:
    lists = [
        drawn(method, OPTIONS[method], length_per_stratum=100, **changes)["all"]
        for changes in ({}, {"study": "PRT"}, {"list_version": 2}, {"seed": bytes(SEED_BYTES)})
    ]
    assert len(set(lists)) == 4


@pytest.mark.requirement("RND-7", "RND-10")
@pytest.mark.parametrize("method", ["simple", "big_stick", "wei_urn", "biased_coin"])
@given(seeds, st.integers(1, 40), st.integers(0, 40))
def test_a_longer_list_begins_with_the_shorter_one(method: str, seed: bytes, length: int, more: int) -> None:
    shorter = drawn(method, OPTIONS[method], seed=seed, length_per_stratum=length)["all"]
    longer = drawn(method, OPTIONS[method], seed=seed, length_per_stratum=length + more)["all"]
    assert (len(shorter), longer[:length]) == (length, shorter)


@pytest.mark.requirement("RND-8", "RND-10", "RND-11")
def test_no_method_computes_with_floating_point_or_another_generator() -> None:
    room = ROOT / "app" / "randomisation"
    for path in [*sorted((room / "methods").glob("*.py")), room / "sequence.py", room / "drbg.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float | complex)), where
            assert not (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)), where
            assert not (isinstance(node, ast.Name) and node.id in ("float", "round")), where
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {"random", "numpy", "math", "secrets"}, where


# --- what each promises, slot by slot


@pytest.mark.requirement("RND-6")
@pytest.mark.parametrize("method", ["big_stick", "maximal_procedure"])
@given(seeds, st.integers(1, 6), st.integers(1, 60))
def test_the_tolerated_imbalance_is_never_exceeded(method: str, seed: bytes, tolerance: int, length: int) -> None:
    slots = drawn(method, {"tolerance": tolerance}, seed=seed, length_per_stratum=length)["all"]
    assert len(slots) == length
    assert max(map(abs, walk(slots))) <= tolerance


@pytest.mark.requirement("RND-6", "RND-7")
@given(seeds, st.integers(1, 60))
def test_a_truncated_binomial_ends_in_balance(seed: bytes, length: int) -> None:
    slots = drawn("truncated_binomial", {}, seed=seed, length_per_stratum=length)["all"]
    assert len(slots) == length + length % 2
    assert walk(slots)[-1] == 0


@given(seeds, st.integers(1, 60))
def test_a_tolerance_of_one_makes_pairs(seed: bytes, length: int) -> None:
    slots = drawn("big_stick", {"tolerance": 1}, seed=seed, length_per_stratum=length)["all"]
    assert all(set(slots[at : at + 2]) == {"A", "B"} for at in range(0, length - 1, 2))


@given(seeds)
def test_an_urn_that_begins_empty_gives_the_other_arm_second(seed: bytes) -> None:
    assert len(set(drawn("wei_urn", {"alpha": 0, "beta": 1}, seed=seed)["all"][:2])) == 2


# --- the exact law, from the papers and not from the recipes


def fair_until(tolerance: int) -> Callable[[Sequence[str]], Fraction]:
    def likely(slots: Sequence[str]) -> Fraction:
        # One half for each slot at which both arms are open, nought where the arms differ too much.
        before = [0, *walk(slots)[:-1]]
        if max(map(abs, walk(slots))) > tolerance:
            return Fraction(0)
        return Fraction(1, 2 ** sum(abs(ahead) < tolerance for ahead in before))

    return likely


def equal_among_allowed(tolerance: int) -> Callable[[Sequence[str]], Fraction]:
    def likely(slots: Sequence[str]) -> Fraction:
        allowed = [each for each in product("AB", repeat=len(slots)) if max(map(abs, walk(each))) <= tolerance]
        return Fraction(1, len(allowed)) if tuple(slots) in allowed else Fraction(0)

    return likely


def efron(probability: Fraction) -> Callable[[Sequence[str]], Fraction]:
    def likely(slots: Sequence[str]) -> Fraction:
        chance = Fraction(1)
        for before, after in zip([0, *walk(slots)], walk(slots), strict=False):
            towards = abs(after) < abs(before)
            chance *= Fraction(1, 2) if before == 0 else probability if towards else 1 - probability
        return chance

    return likely


def wei(arms: str, alpha: int, beta: int) -> Callable[[Sequence[str]], Fraction]:
    def likely(slots: Sequence[str]) -> Fraction:
        chance = Fraction(1)
        for place, arm in enumerate(slots):
            # Wei 1978: (alpha + beta × slots of the others) / (K × alpha + beta × (K - 1) × slots)
            others = sum(each != arm for each in slots[:place])
            of = len(arms) * alpha + beta * (len(arms) - 1) * place
            chance *= Fraction(alpha + beta * others, of) if of else Fraction(1, len(arms))
        return chance

    return likely


def truncated(slots: Sequence[str]) -> Fraction:
    # Blackwell and Hodges: one half for each slot before the first arm is full.
    half = len(slots) // 2
    if slots.count("A") != half:
        return Fraction(0)
    full = min(place for arm in "AB" for place in range(len(slots)) if slots[: place + 1].count(arm) == half)
    return Fraction(1, 2 ** (full + 1))


def independent(shares: Mapping[str, int]) -> Callable[[Sequence[str]], Fraction]:
    def likely(slots: Sequence[str]) -> Fraction:
        chance = Fraction(1)
        for arm in slots:
            chance *= Fraction(shares[arm], sum(shares.values()))
        return chance

    return likely


LAWS: list[tuple[str, tuple[tuple[str, int], ...], dict[str, object], int, Callable[[Sequence[str]], Fraction]]] = [
    ("simple", EQUAL, {}, 6, independent({"A": 1, "B": 1})),
    ("simple", (("A", 3), ("B", 1), ("C", 2)), {}, 4, independent({"A": 3, "B": 1, "C": 2})),
    ("big_stick", EQUAL, {"tolerance": 1}, 7, fair_until(1)),
    ("big_stick", EQUAL, {"tolerance": 2}, 8, fair_until(2)),
    ("big_stick", EQUAL, {"tolerance": 3}, 9, fair_until(3)),
    ("maximal_procedure", EQUAL, {"tolerance": 1}, 7, equal_among_allowed(1)),
    ("maximal_procedure", EQUAL, {"tolerance": 2}, 8, equal_among_allowed(2)),
    ("maximal_procedure", EQUAL, {"tolerance": 3}, 8, equal_among_allowed(3)),
    ("biased_coin", EQUAL, {"probability": "2/3"}, 6, efron(Fraction(2, 3))),
    ("biased_coin", EQUAL, {"probability": "6/8"}, 5, efron(Fraction(3, 4))),
    ("wei_urn", EQUAL, {"alpha": 0, "beta": 1}, 6, wei("AB", 0, 1)),
    ("wei_urn", EQUAL, {"alpha": 1, "beta": 2}, 5, wei("AB", 1, 2)),
    ("wei_urn", THREE, {"alpha": 0, "beta": 1}, 4, wei("ABC", 0, 1)),
    ("wei_urn", THREE, {"alpha": 1, "beta": 1}, 4, wei("ABC", 1, 1)),
    ("truncated_binomial", EQUAL, {}, 8, truncated),
    ("truncated_binomial", EQUAL, {}, 2, truncated),
]


@pytest.mark.requirement("RND-2", "RND-11")
@pytest.mark.parametrize(("method", "arms", "options", "length", "law"), LAWS)
def test_every_list_is_as_likely_as_the_paper_says(
    method: str,
    arms: tuple[tuple[str, int], ...],
    options: dict[str, object],
    length: int,
    law: Callable[[Sequence[str]], Fraction],
) -> None:
    found = outcomes(method, arms, options, length)
    assert sum(found.values()) == 1
    everything = product([code for code, _ in arms], repeat=length)
    expected = {slots: law(slots) for slots in everything}
    assert sum(expected.values()) == 1
    assert {slots: found.get(slots, Fraction(0)) for slots in expected} == expected


@pytest.mark.requirement("RND-2")
@pytest.mark.parametrize(
    ("shares", "size", "orders"), [((1, 1), 4, 6), ((1, 1), 6, 20), ((2, 1), 3, 3), ((1, 1, 1), 3, 6)]
)
def test_every_order_of_a_block_is_exactly_as_likely(shares: tuple[int, ...], size: int, orders: int) -> None:
    arms = tuple(zip("ABC", shares, strict=False))
    found = outcomes("permuted_blocks", arms, {"block_sizes": [size]}, 1)
    assert len(found) == orders
    assert set(found.values()) == {Fraction(1, orders)}


@pytest.mark.parametrize(("tolerance", "length"), [(1, 9), (2, 10), (3, 12), (5, 11)])
def test_the_maximal_procedure_counts_every_allowed_sequence(tolerance: int, length: int) -> None:
    allowed = sum(max(map(abs, walk(each))) <= tolerance for each in product("AB", repeat=length))
    assert counts(tolerance, length)[length][tolerance + 1] == allowed


# --- the same with drawn lists


def bound(degrees: int) -> float:
    """The chi-square value that fair draws exceed once in a million: exact tails, for odd and even degrees."""

    def tail(value: float) -> float:
        half = value / 2
        if degrees % 2 == 0:
            return exp(-half) * sum(half**i / factorial(i) for i in range(degrees // 2))
        odd = sum(float(half ** (j - 0.5)) / gamma(j + 0.5) for j in range(1, (degrees + 1) // 2))
        return erfc(sqrt(half)) + exp(-half) * odd

    low, high = 0.0, 2000.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > 1e-6 else (low, middle)
    return high


@pytest.mark.requirement("RND-2")
@pytest.mark.parametrize(("degrees", "published"), [(5, 35.89), (19, 63.68), (69, 139.83), (89, 167.35), (8, 42.70)])
def test_the_bound_is_the_published_one(degrees: int, published: float) -> None:
    assert bound(degrees) == pytest.approx(published, abs=0.01)


@pytest.mark.requirement("RND-2", "RND-3")
@pytest.mark.parametrize(
    ("method", "options", "length"),
    [
        ("simple", {}, 5),
        ("big_stick", {"tolerance": 2}, 7),
        ("maximal_procedure", {"tolerance": 2}, 7),
        ("wei_urn", {"alpha": 1, "beta": 1}, 5),
        ("truncated_binomial", {}, 8),
        ("biased_coin", {"probability": "2/3"}, 5),
    ],
)
def test_drawn_lists_follow_the_exact_law(method: str, options: dict[str, object], length: int) -> None:
    likely = outcomes(method, EQUAL, options, length)
    strata = tuple(f"stratum {number}" for number in range(6000))
    seen = Counter(drawn(method, options, strata=strata, length_per_stratum=length).values())
    assert set(seen) <= {slots for slots, chance in likely.items() if chance}
    statistic = 0.0
    for slots, chance in likely.items():
        expected = float(len(strata) * chance)
        assert expected >= 5
        statistic += (seen[slots] - expected) ** 2 / expected
    assert statistic < bound(len(likely) - 1)


@pytest.mark.requirement("RND-5")
@pytest.mark.parametrize("method", DRAWN)
def test_lists_of_two_strata_have_nothing_in_common(method: str) -> None:
    lists = drawn(method, OPTIONS[method], strata=("one", "two"), length_per_stratum=2000)
    one, two = ([1 if arm == "A" else -1 for arm in slots] for slots in lists.values())
    for shift in range(-20, 21):
        products = [left * right for left, right in zip(one[max(shift, 0) :], two[max(-shift, 0) :], strict=False)]
        # Neighbouring slots of restricted lists correlate, which widens the mean product by less than twice.
        assert abs(sum(products)) < 8 * len(products) ** 0.5


# --- what is refused


@pytest.mark.requirement("RND-1")
@pytest.mark.parametrize("method", DRAWN)
@pytest.mark.parametrize("arms", [EQUAL, (("A", 3), ("B", 3)), THREE, UNEQUAL, (("A", 1), ("B", 1), ("C", 2))])
def test_arms_a_method_is_not_defined_for_are_refused_with_a_sentence(
    method: str, arms: tuple[tuple[str, int], ...]
) -> None:
    shares = {share for _, share in arms}
    equal = len(shares) == 1
    fine = method in ("permuted_blocks", "simple") or (equal and (method == "wei_urn" or len(arms) == 2))
    options = {"block_sizes": [12]} if method == "permuted_blocks" else OPTIONS[method]
    found = problems(method, arms, ("all",), 20, options)
    assert (found == ()) == fine
    if not fine:
        assert found == (METHODS[method].why_not_arms(arms),)
        assert "Choose permuted blocks or simple randomisation." in found[0]
        with pytest.raises(ValueError, match="This method is defined for"):
            drawn(method, options, arms_with_ratio=arms)


WRONG_TOLERANCE = "The option `tolerance` is a whole number from 1 to "
WRONG_PROBABILITY = (
    "The option `probability` is a fraction of whole numbers such as 2/3, more than 1/2 and less than 1."
)


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("simple", {"tolerance": 3}, ["This method has no option “tolerance”."]),
        ("truncated_binomial", {"block_sizes": [4]}, ["This method has no option “block_sizes”."]),
        ("big_stick", {}, [WRONG_TOLERANCE + "100."]),
        ("big_stick", {"tolerance": 0}, [WRONG_TOLERANCE + "100."]),
        ("big_stick", {"tolerance": 101}, [WRONG_TOLERANCE + "100."]),
        ("big_stick", {"tolerance": True}, [WRONG_TOLERANCE + "100."]),
        ("big_stick", {"tolerance": 2.0}, [WRONG_TOLERANCE + "100."]),
        ("big_stick", {"tolerance": "2"}, [WRONG_TOLERANCE + "100."]),
        ("maximal_procedure", {"tolerance": 51}, [WRONG_TOLERANCE + "50."]),
        ("wei_urn", {"alpha": 0}, ["The option `beta` is a whole number from 1 to 1,000."]),
        ("wei_urn", {"alpha": -1, "beta": 1}, ["The option `alpha` is a whole number from 0 to 1,000."]),
        (
            "wei_urn",
            {"alpha": 1001, "beta": 0},
            [
                "The option `alpha` is a whole number from 0 to 1,000.",
                "The option `beta` is a whole number from 1 to 1,000.",
            ],
        ),
        *(
            ("biased_coin", {"probability": wrong}, [WRONG_PROBABILITY])
            for wrong in ("", "1/2", "2/4", "1/1", "4/3", "1/3", "0.66", "2 / 3", "2/0", "-2/-3", "٢/٣", 0.75, None)
        ),
        ("biased_coin", {}, [WRONG_PROBABILITY]),
    ],
)
def test_options_that_are_not_those_of_the_method_are_refused(
    method: str, options: dict[str, object], expected: list[str]
) -> None:
    assert list(problems(method, EQUAL, ("all",), 20, options)) == expected


def test_the_maximal_procedure_refuses_lists_too_long_to_count() -> None:
    assert problems("maximal_procedure", EQUAL, ("all",), 2000, {"tolerance": 2}) == ()
    (found,) = problems("maximal_procedure", EQUAL, ("all",), 2001, {"tolerance": 2})
    assert "Ask for fewer." in found


@given(st.integers(1, 9999), st.integers(1, 9999))
def test_a_probability_is_read_exactly(above: int, below: int) -> None:
    expected = Fraction(above, below)
    found = probability_of(f"{above}/{below}")
    assert found == (expected if Fraction(1, 2) < expected < 1 else None)


def test_a_study_may_name_every_method_and_its_check_knows_their_arms() -> None:
    named = set(get_args(Allocation.model_fields["method"].annotation))
    assert set(METHODS) <= named
    assert {method for method in DRAWN if METHODS[method].why_not_arms(THREE)} == TWO_EQUAL_ARMS
    assert {method for method in DRAWN if METHODS[method].why_not_arms(UNEQUAL)} == EQUAL_ARMS
