"""Do simulated trials follow the exact laws, and are exact probabilities shown where there are any?"""

import json
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from app.randomisation.drbg import SEED_BYTES, Stream
from app.randomisation.methods import DECIDING, DRAWN, TOGETHER, minimisation
from app.randomisation.methods.plan import Plan
from app.randomisation.predictability import Predictability, exactly, is_high, permuted_blocks
from app.randomisation.sequence import draw as drawn_list
from app.randomisation.simulation import (
    MOST_ALLOCATIONS,
    SIMULATED,
    Design,
    Staged,
    draw_lists,
    guessed,
    simulated,
    simulated_stages,
    trials_for,
    why_not_simulated,
)
from tests.conformance import conformance_folder
from tests.randomisation.enumeration import guessing, outcomes

Options = dict[str, object]
# Method, shares, options and a length short enough to enumerate.
SMALL: list[tuple[str, tuple[int, ...], Options, int]] = [
    ("simple", (1, 1), {}, 6),
    ("simple", (2, 1), {}, 5),
    ("permuted_blocks", (1, 1), {"block_sizes": [4]}, 8),
    ("permuted_blocks", (2, 1), {"block_sizes": [3]}, 6),
    ("permuted_blocks", (1, 1), {"block_sizes": [2, 4]}, 4),
    ("big_stick", (1, 1), {"tolerance": 2}, 8),
    ("maximal_procedure", (1, 1), {"tolerance": 2}, 8),
    ("wei_urn", (1, 1), {"alpha": 0, "beta": 1}, 6),
    ("wei_urn", (1, 1, 1), {"alpha": 1, "beta": 1}, 4),
    ("truncated_binomial", (1, 1), {}, 8),
    ("biased_coin", (1, 1), {"probability": "2/3"}, 6),
]


def likely(method: str, shares: tuple[int, ...], options: Options, length: int) -> Mapping[tuple[str, ...], Fraction]:
    """The exact law of the first `length` slots."""
    arms = tuple(zip("ABC", shares, strict=False))
    found: dict[tuple[str, ...], Fraction] = {}
    for slots, chance in outcomes(method, arms, options, length).items():
        found[slots[:length]] = found.get(slots[:length], Fraction(0)) + chance
    return found


def imbalance(slots: tuple[str, ...], shares: tuple[int, ...]) -> Fraction:
    per_share = [Fraction(slots.count(arm), share) for arm, share in zip("ABC", shares, strict=False)]
    return max(per_share) - min(per_share)


@pytest.mark.requirement("RND-3")
@pytest.mark.parametrize(("method", "shares", "options", "length"), SMALL)
def test_exact_probabilities_are_those_of_every_list_enumerated(
    method: str, shares: tuple[int, ...], options: Options, length: int
) -> None:
    law = likely(method, shares, options, length)
    for allocations in (length, length // 2):
        found = exactly(method, shares, options, length, allocations)
        assert found == Predictability(*guessing(law, allocations))


@pytest.mark.requirement("RND-3")
@pytest.mark.parametrize(("method", "shares", "options", "length"), SMALL)
def test_simulated_imbalance_has_its_exact_mean(
    method: str, shares: tuple[int, ...], options: Options, length: int
) -> None:
    law = likely(method, shares, options, length)
    found = simulated(Design(method, shares, options, length, 1, length), trials=40_000)
    assert len(found.mean) == len(found.percentile_95) == length
    for slot in (1, 2, length - 1, length):
        exact = sum(chance * imbalance(slots[:slot], shares) for slots, chance in law.items())
        square = sum(chance * imbalance(slots[:slot], shares) ** 2 for slots, chance in law.items())
        error = float(square - exact**2) ** 0.5 / 40_000**0.5
        assert abs(found.mean[slot - 1] - float(exact)) <= 4 * error + 1e-9
        # The least value that 95 % of the exact law do not exceed, unless the law has a step right there.
        at_most = sum(
            chance for slots, chance in law.items() if imbalance(slots[:slot], shares) <= found.percentile_95[slot - 1]
        )
        assert at_most >= Fraction(94, 100)
    assert (found.final_mean, found.final_95) == (found.mean[-1], found.percentile_95[-1])
    assert (found.stratum_mean, found.stratum_95) == (found.final_mean, found.final_95)


@pytest.mark.requirement("RND-3")
@pytest.mark.parametrize(("method", "shares", "options", "length"), SMALL)
def test_a_simulated_guesser_does_as_well_as_computed(
    method: str, shares: tuple[int, ...], options: Options, length: int
) -> None:
    exact = exactly(method, shares, options, length, length)
    assert exact is not None
    correct, certain = guessed(Design(method, shares, options, length, 1, length), length, np.random.default_rng(7))
    # Means over 2,000 lists of values between 0 and 1, each itself a mean over the list.
    assert abs(correct - float(exact.correct)) < 0.01
    assert abs(certain - float(exact.certain)) < 0.02


@pytest.mark.requirement("RND-3")
def test_the_guesser_of_several_block_sizes_is_bayes() -> None:
    exact = permuted_blocks((1, 1), (4, 6, 8), 24)
    found = guessed(
        Design("permuted_blocks", (1, 1), {"block_sizes": [4, 6, 8]}, 24, 1, 24), 24, np.random.default_rng(3)
    )
    assert found == pytest.approx((float(exact.correct), float(exact.certain)), abs=0.006)


@pytest.mark.requirement("RND-3")
def test_the_published_numbers_are_shown_and_not_simulated() -> None:
    data: Any = json.loads((conformance_folder() / "predictability.json").read_text(encoding="utf-8"))
    for row in data["known_composition_blocks"]:
        found = exactly("permuted_blocks", row["block"], {"block_sizes": [row["block_size"]]}, 1, row["block_size"])
        assert found == Predictability(Fraction(row["correct_guess"]), Fraction(row["deterministic"]))
    for name, expected in data["exact_N100"].items():
        size = 100 if name == "RAR" else int(name.removeprefix("b"))
        shown = simulated(Design("permuted_blocks", (1, 1), {"block_sizes": [min(size, 60)]}, 100, 1, 100), trials=1)
        assert shown.exact
        if size <= 60:
            assert shown.correct == pytest.approx(expected["CG"], abs=0.00006)
            assert shown.certain == pytest.approx(expected["DA"], abs=0.00006)


@pytest.mark.requirement("RND-3")
def test_blocks_of_four_are_guessed_as_is_known() -> None:
    found = simulated(Design("permuted_blocks", (1, 1), {"block_sizes": [4]}, 276, 1, 276), trials=10)
    assert (found.exact, found.correct, found.certain) == (True, 17 / 24, 1 / 3)


@pytest.mark.requirement("RND-3")
@pytest.mark.parametrize("tolerance", [1, 2, 3, 5])
def test_a_big_stick_is_certain_as_often_as_its_walk_is_at_an_end(tolerance: int) -> None:
    # Soares and Wu 1983: the reflected walk stays at an end with probability 1 / (2 × tolerance) in the long run.
    found = exactly("big_stick", (1, 1), {"tolerance": tolerance}, 500, 500)
    assert found is not None
    assert float(found.certain) == pytest.approx(1 / (2 * tolerance), abs=0.02)
    assert found.correct == Fraction(1, 2) + found.certain / 2


@pytest.mark.requirement("RND-3")
@pytest.mark.parametrize("probability", ["3/5", "2/3", "3/4"])
def test_a_biased_coin_is_level_as_often_as_efron_says(probability: str) -> None:
    # Efron 1971: with r = p / q, the arms are level after an even number of slots with probability 1 - 1/r.
    p = Fraction(probability)
    found = exactly("biased_coin", (1, 1), {"probability": probability}, 500, 500)
    assert found is not None
    level = (1 - (1 - p) / p) / 2
    assert float(found.correct) == pytest.approx(float(level / 2 + (1 - level) * p), abs=0.01)


@pytest.mark.parametrize(
    ("method", "shares", "options", "length", "allocations"),
    [
        ("permuted_blocks", (1, 1), {"block_sizes": [4, 6, 8]}, 100, 100),
        ("permuted_blocks", (1, 1), {"block_sizes": [2, 4, 6, 8]}, 20, 20),
        ("permuted_blocks", (1, 1, 1), {"block_sizes": [3, 6]}, 20, 20),
        ("permuted_blocks", (1,) * 5, {"block_sizes": [60]}, 20, 20),
        ("wei_urn", (1,) * 4, {"alpha": 0, "beta": 1}, 400, 400),
        ("biased_coin", (1, 1), {"probability": "2/3"}, 501, 501),
        ("list", (1, 1), {}, 10, 10),
    ],
)
def test_what_would_take_too_long_has_no_exact_answer(
    method: str, shares: tuple[int, ...], options: Options, length: int, allocations: int
) -> None:
    assert exactly(method, shares, options, length, allocations) is None


def test_guesses_are_averaged_within_the_list() -> None:
    for allocations in (0, 11):
        with pytest.raises(ValueError, match="averaged"):
            exactly("simple", (1, 1), {}, 10, allocations)


def test_every_method_that_is_drawn_here_is_simulated() -> None:
    assert set(SIMULATED) == {*DRAWN, *TOGETHER, *DECIDING}


@pytest.mark.parametrize(("method", "shares", "options", "length"), SMALL)
def test_strata_fill_at_random_and_begin_further_lists(
    method: str, shares: tuple[int, ...], options: Options, length: int
) -> None:
    design = Design(method, shares, options, 60, 3, length)  # lists far too short for sixty people
    found = simulated(design, trials=300)
    assert len(found.mean) == 60
    assert simulated(design, trials=300) == found
    assert simulated(design, trials=300, seed=1) != found
    assert found.stratum_mean <= found.stratum_95 + 1e-9 or found.stratum_95 == 0


def test_lists_end_to_end_are_each_in_balance() -> None:
    design = Design("truncated_binomial", (1, 1), {}, 20, 1, 10)
    lists = draw_lists(design, 20, 500, np.random.default_rng(0))
    assert lists.shape == (20, 500)
    assert set((lists[:10] == 0).sum(axis=0)) == set((lists[10:] == 0).sum(axis=0)) == {5}


def test_a_ratio_that_can_be_reduced_counts_people() -> None:
    one = simulated(Design("simple", (1, 1), {}, 50, 1, 50), trials=2000)
    two = simulated(Design("simple", (2, 2), {}, 50, 1, 50), trials=2000)
    assert two.final_mean == pytest.approx(one.final_mean, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"people": 0}, "Ask for a trial of such a size"),
        ({"people": 5001}, "Ask for a trial of such a size"),
        ({"strata": 0}, "Ask for a trial of such a size"),
        ({"strata": 201}, "Ask for a trial of such a size"),
        ({"slots": 0}, "Ask for a trial of such a size"),
        ({"options": {"block_sizes": [62]}}, "Compare fewer or smaller ones"),
        ({"options": {"block_sizes": [2, 4, 6, 8, 10, 12, 14]}}, "Compare fewer or smaller ones"),
    ],
)
def test_what_is_too_large_is_said_to_be(changes: dict[str, Any], words: str) -> None:
    asked: dict[str, Any] = {
        "method": "permuted_blocks",
        "shares": (1, 1),
        "options": {"block_sizes": [4]},
        "people": 20,
    }
    design = Design(**({**asked, "strata": 1, "slots": 20} | changes))
    assert words in (why_not_simulated(design) or "")
    with pytest.raises(ValueError, match=words):
        simulated(design)


def test_large_trials_are_played_less_often() -> None:
    assert trials_for(276) == 10_000
    assert trials_for(2760) * 2760 <= MOST_ALLOCATIONS
    assert trials_for(5000) >= 500


def test_a_printed_design_shows_no_options() -> None:
    assert "77" not in repr(Design("permuted_blocks", (1, 1), {"block_sizes": [77]}, 10, 1, 10))


@pytest.mark.requirement("RND-15")
@pytest.mark.parametrize(
    ("size", "blinded", "high"),
    [(2, True, True), (4, True, True), (8, True, True), (10, True, False), (10, False, True)],
)
def test_short_fixed_blocks_are_warned_of_and_sooner_where_arms_are_known(size: int, blinded: bool, high: bool) -> None:
    assert is_high(permuted_blocks((1, 1), (size,), size), (1, 1), blinded=blinded) == high


@pytest.mark.requirement("RND-15")
def test_random_block_sizes_and_simple_randomisation_are_not_warned_of() -> None:
    assert not is_high(permuted_blocks((1, 1), (4, 6, 8), 24), (1, 1), blinded=False)
    assert not is_high(Predictability(Fraction(2, 3), Fraction(0)), (2, 1), blinded=False)


# Two stages, as PRT has them: 1:1 to a group, 2:1 within it, one arm in both

MINIMISED: Options = {
    "measure": "range",
    "probability": "4/5",
    "weights": [],
    "size_weight": 1,
    "most_apart": 0,
    "catch_up": "",
}


def two_stages(people: int, *, first: tuple[int, ...] = (1, 1), within: tuple[int, ...] = (2, 1)) -> Staged:
    groups = Design("permuted_blocks", first, {"block_sizes": [4]}, people, 1, people)
    arms = Design("minimisation", within, MINIMISED, people, 4, people, (2, 2))
    return Staged(groups, (arms, arms), ((0, 2), (1, 2)))


def played_for_real(people: int, trials: int) -> list[tuple[Counter[int], Counter[tuple[int, int]]]]:
    """The same trial by the methods that draw real lists: how many had each arm, and each arm within each group."""
    plan = Plan((("a", 2), ("b", 1)), ("all",), 1, MINIMISED, ("f0", "f1"))
    random = np.random.default_rng(7)
    found = []
    for trial in range(trials):
        seed = trial.to_bytes(SEED_BYTES, "big")
        told: dict[str, Any] = {"study": "S", "list_version": 1}
        blocks: Options = {"block_sizes": [4]}
        groups = drawn_list("permuted_blocks", [("g", 1), ("h", 1)], ["all"], people, blocks, seed, **told).slots["all"]
        counts: dict[str, dict[str, list[int]]] = {"g": {}, "h": {}}
        had: Counter[tuple[int, int]] = Counter()
        for number, group in enumerate(groups[:people]):
            levels = [str(level) for level in random.integers(0, 2, 2)]
            stream = Stream.from_seed(seed, personalisation=number.to_bytes(4, "big"))
            arm, counts[group] = minimisation.decide(plan, counts[group], levels, stream)
            had["gh".index(group), "ab".index(arm)] += 1
        found.append((Counter({0: had[0, 0], 1: had[1, 0], 2: had[0, 1] + had[1, 1]}), had))
    return found


def test_the_shares_of_all_arms_follow_from_both_stages():
    assert two_stages(30).shares == (1, 1, 1)
    assert two_stages(30, first=(2, 1)).shares == (4, 2, 3)
    assert two_stages(30, within=(1, 1)).shares == (1, 1, 2)


@pytest.mark.requirement("RND-3")
def test_two_stages_behave_as_the_methods_that_draw_real_lists():
    people = 30
    played = simulated_stages(two_stages(people), trials=4_000)
    real = played_for_real(people, 150)

    def close(simulated: float, found: list[float]) -> bool:
        return bool(abs(simulated - float(np.mean(found))) < 4 * float(np.std(found)) / len(found) ** 0.5)

    assert close(played.last.final_mean, [max(arms.values()) - min(arms[arm] for arm in range(3)) for arms, _ in real])
    for group in (0, 1):
        apart = [abs(had[group, 0] / 2 - had[group, 1]) for _, had in real]
        assert close(played.within[group][0], apart)
    assert played.last.stratum_mean == pytest.approx(np.mean([mean for mean, _ in played.within]))


@pytest.mark.requirement("RND-3")
def test_the_first_of_two_stages_is_that_stage_alone():
    played = simulated_stages(two_stages(32), trials=500)
    assert played.first.exact
    assert (played.first.correct, played.first.certain) == pytest.approx((17 / 24, 1 / 3))
    assert played.first.final_mean == 0, "thirty-two people are eight whole blocks of four"
    assert max(played.first.percentile_95) == 2
    assert len(played.last.mean) == 32
    assert played.last.mean[0] == 1
    # Who knows the group knows which two arms may come, and which of them is due.
    assert played.last.correct > 2 / 3
    assert simulated_stages(two_stages(32), trials=500) == played, "the same trials whenever they are played"


def test_stages_too_large_to_play_are_said_to_be():
    with pytest.raises(ValueError, match="1 to 5,000 people"):
        simulated_stages(two_stages(6_000))
