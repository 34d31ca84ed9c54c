"""Are the guessing probabilities the published ones, and do generated lists have them?"""

import json
from ast import literal_eval
from collections import Counter
from fractions import Fraction
from itertools import islice, permutations
from statistics import fmean, stdev
from typing import Any

import pytest

from app.randomisation.drbg import SEED_BYTES, Stream
from app.randomisation.methods.permuted_blocks import blocks
from app.randomisation.predictability import Predictability, one_block, permuted_blocks, two_equal_arms
from tests.conformance import conformance_folder

SEED = bytes(range(SEED_BYTES))


def published() -> Any:
    return json.loads((conformance_folder() / "predictability.json").read_text(encoding="utf-8"))


def certain_and_correct(block: tuple[int, ...], counts: tuple[int, ...]) -> tuple[Fraction, Fraction]:
    """How many guesses of one block are right, with ties shared, and how many were sure; by the definition alone."""
    left, right, sure = list(counts), Fraction(0), Fraction(0)
    for arm in block:
        most = [candidate for candidate, count in enumerate(left) if count == max(left)]
        right += Fraction(arm in most, len(most))
        sure += sum(count > 0 for count in left) == 1
        left[arm] -= 1
    return right, sure


@pytest.mark.requirement("RND-3")
def test_every_published_block_has_its_exact_probabilities() -> None:
    rows = published()["known_composition_blocks"]
    assert len(rows) == 18
    for row in rows:
        expected = Predictability(Fraction(row["correct_guess"]), Fraction(row["deterministic"]))
        assert one_block(row["block"]) == expected
        if len(row["block"]) == 2 and row["block"][0] == row["block"][1]:
            assert two_equal_arms(row["block_size"]) == expected


@pytest.mark.requirement("RND-3")
def test_a_hundred_allocations_have_the_published_probabilities() -> None:
    data = published()
    for name, expected in data["exact_N100"].items():
        size = 100 if name == "RAR" else int(name.removeprefix("b"))
        found = permuted_blocks([1, 1], [size], 100)
        assert float(found.correct) == pytest.approx(expected["CG"], abs=0.00006)
        assert float(found.certain) == pytest.approx(expected["DA"], abs=0.00006)
        simulated = data["published_zhao_2012_N100"][name]
        assert float(found.correct) == pytest.approx(simulated["CG"], abs=0.0015)
        assert float(found.certain) == pytest.approx(simulated["DA"], abs=0.0015)


@pytest.mark.requirement("RND-3")
def test_random_block_sizes_have_the_published_probabilities() -> None:
    rows = published()["random_block_size_uniform_set_guesser_knows_set_and_history"]
    assert len(rows) == 5
    for sizes, expected in rows.items():
        found = permuted_blocks([1, 1], literal_eval(sizes), 24)
        assert float(found.correct) == pytest.approx(expected["N=24"]["guess"], abs=0.000006)
        assert float(found.certain) == pytest.approx(expected["N=24"]["det"], abs=0.000006)


@pytest.mark.requirement("RND-3")
def test_the_closed_form_is_the_enumeration() -> None:
    for m in range(1, 26):
        assert two_equal_arms(2 * m) == one_block([m, m])
    assert two_equal_arms(4) == Predictability(Fraction(17, 24), Fraction(1, 3))


@pytest.mark.requirement("RND-3")
@pytest.mark.parametrize("counts", [(1, 1), (2, 2), (3, 3), (2, 1), (4, 2), (1, 1, 1), (2, 2, 2), (3, 1), (2, 2, 1, 1)])
def test_the_enumeration_is_the_average_over_all_orders(counts: tuple[int, ...]) -> None:
    orders = set(permutations([arm for arm, count in enumerate(counts) for _ in range(count)]))
    scores = [certain_and_correct(order, counts) for order in orders]
    guesses = len(scores) * sum(counts)
    found = one_block(counts)
    assert found.correct == sum(right for right, _ in scores) / guesses
    assert found.certain == sum(sure for _, sure in scores) / guesses


@pytest.mark.requirement("RND-3")
@pytest.mark.parametrize("counts", [(1, 1), (2, 2), (3, 3), (4, 4), (2, 1), (4, 2), (1, 1, 1), (2, 2, 2)])
def test_generated_blocks_are_as_predictable_as_computed(counts: tuple[int, ...]) -> None:
    size = sum(counts)
    arms = [(str(arm), count) for arm, count in enumerate(counts)]
    stream = Stream.from_seed(SEED, personalisation=repr(counts).encode())
    drawn = islice(blocks(arms, [size], stream), 4000)
    scores = [certain_and_correct(tuple(map(int, block)), counts) for block in drawn]
    expected = one_block(counts)
    for measured, exact in zip(zip(*scores, strict=True), (expected.correct, expected.certain), strict=True):
        values = [float(value) / size for value in measured]
        assert abs(fmean(values) - float(exact)) <= 4 * stdev(values) / len(values) ** 0.5 + 1e-12


@pytest.mark.requirement("RND-3")
def test_generated_lists_with_two_block_sizes_are_as_predictable_as_computed() -> None:
    # For two equal arms the best guess is the arm used less so far, whatever the block sizes (Blackwell and Hodges).
    length, lists = 24, 1500
    means: list[float] = []
    for number in range(lists):
        endless = blocks((("0", 1), ("1", 1)), (4, 6), Stream.from_seed(SEED, personalisation=b"%d" % number))
        arms: list[str] = []
        while len(arms) < length:
            arms += next(endless)
        used: Counter[str] = Counter()
        right = 0.0
        for arm in arms[:length]:
            other = "1" if arm == "0" else "0"
            right += 0.5 if used[arm] == used[other] else float(used[arm] < used[other])
            used[arm] += 1
        means.append(right / length)
    exact = float(permuted_blocks([1, 1], [4, 6], length).correct)
    assert abs(fmean(means) - exact) <= 4 * stdev(means) / lists**0.5


def test_blocks_of_two_sizes_hide_their_ends_better() -> None:
    mixed, fixed = permuted_blocks([1, 1], [4, 6], 24), permuted_blocks([1, 1], [4], 24)
    assert mixed.certain < fixed.certain / 3
    assert mixed.correct < fixed.correct


@pytest.mark.parametrize("size", [0, -2, 3])
def test_two_equal_arms_need_an_even_block(size: int) -> None:
    with pytest.raises(ValueError, match="even size"):
        two_equal_arms(size)


def test_nonsense_is_refused() -> None:
    for counts in ([], [0, 2], [-1, 1]):
        with pytest.raises(ValueError, match="at least once"):
            one_block(counts)
    for ratio in ([], [0, 1]):
        with pytest.raises(ValueError, match="share"):
            permuted_blocks(ratio, [4], 10)
    for sizes in ([], [3], [0]):
        with pytest.raises(ValueError, match="multiple of 2"):
            permuted_blocks([1, 1], sizes, 10)
    with pytest.raises(ValueError, match="less than one"):
        permuted_blocks([1, 1], [4], 0)
    with pytest.raises(ValueError, match="up to 24"):
        permuted_blocks([1, 1], [4, 6], 25)
