"""Does a drawn sequence keep what the protocol promises, and can anybody draw it again?"""

import hmac
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.randomisation.drbg import SEED_BYTES, Stream
from app.randomisation.sequence import BalanceSummary, Sequence_, balance_summary, draw, personalisation, problems

SEED = bytes(range(SEED_BYTES))
EQUAL = (("active", 1), ("sham", 1))
STRATA = ("basel.severe", "basel.mild", "bern.severe", "bern.mild")

seeds = st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)


def blocks_of(sizes: Sequence[int]) -> dict[str, object]:
    return {"block_sizes": list(sizes)}


def drawn(**changes: Any) -> Sequence_:
    asked: dict[str, Any] = {
        "method": "permuted_blocks",
        "arms_with_ratio": EQUAL,
        "strata": STRATA,
        "length_per_stratum": 20,
        "options": blocks_of([4, 6]),
        "seed": SEED,
        "study": "RESOLVE",
        "list_version": 1,
    }
    return draw(**(asked | changes))


def signs(arms: Sequence[str]) -> list[int]:
    return [1 if arm == "active" else -1 for arm in arms]


GOLDEN = {
    "basel.severe": "assaasasssaasasasaas",
    "basel.mild": "assaassaaaassssaassa",
    "bern.severe": "asasassaassaassasaas",
    "bern.mild": "asassassaasassaassaaas",
}


@pytest.mark.requirement("RND-10")
def test_the_golden_sequence_is_frozen() -> None:
    assert {stratum: "".join(arm[0] for arm in slots) for stratum, slots in drawn().slots.items()} == GOLDEN


@pytest.mark.requirement("RND-10")
def test_the_golden_sequence_of_three_unequal_arms_is_frozen() -> None:
    sequence = drawn(
        arms_with_ratio=(("prt", 2), ("placebo", 1), ("usual", 1)),
        strata=("all",),
        length_per_stratum=17,
        options=blocks_of([8, 4]),
        list_version=12,
        study="Étude Ω",
    )
    expected = "prt usual prt placebo usual prt prt placebo prt prt "
    expected += "placebo prt usual placebo usual prt usual prt placebo prt"
    assert " ".join(sequence.slots["all"]) == expected


def published_recipe(seed: bytes, study: str, stratum: str, version: int, length: int) -> Iterator[str]:
    """1:1 in blocks of 4 and 6, written again from the description alone and sharing no code with the application."""
    parts = [part.encode("utf-8") for part in ("equipoise.sequence.1", study, stratum, str(version))]
    material = seed + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    key, value = b"\x00" * 32, b"\x01" * 32
    for separator in (b"\x00", b"\x01"):
        key = hmac.new(key, value + separator + material, "sha256").digest()
        value = hmac.new(key, value, "sha256").digest()

    def below(n: int) -> int:
        # Every bound here fits one byte, so each attempt uses the first byte of one output block.
        nonlocal key, value
        mask = 1
        while mask < n - 1:
            mask = mask * 2 + 1
        while True:
            value = hmac.new(key, value, "sha256").digest()
            number = value[0] & mask
            key = hmac.new(key, value + b"\x00", "sha256").digest()
            value = hmac.new(key, value, "sha256").digest()
            if number < n:
                return number

    given_out = 0
    while given_out < length:
        size = (4, 6)[below(2)]
        block = ["active"] * (size // 2) + ["sham"] * (size // 2)
        for i in reversed(range(1, size)):
            j = below(i + 1)
            block[i], block[j] = block[j], block[i]
        yield from block
        given_out += size


@pytest.mark.requirement("RND-9", "RND-10")
@given(seeds, st.text(max_size=12), st.text(max_size=12), st.integers(1, 10**6), st.integers(1, 40))
def test_anybody_can_draw_the_sequence_again_from_the_published_recipe(
    seed: bytes, study: str, stratum: str, version: int, length: int
) -> None:
    sequence = drawn(seed=seed, study=study, strata=(stratum,), list_version=version, length_per_stratum=length)
    assert sequence.slots[stratum] == tuple(published_recipe(seed, study, stratum, version, length))


@pytest.mark.requirement("RND-10")
def test_the_order_in_which_things_are_written_down_changes_nothing() -> None:
    sequence = drawn()
    assert drawn(arms_with_ratio=EQUAL[::-1]).slots == sequence.slots
    assert drawn(options=blocks_of([6, 4])).slots == sequence.slots
    assert drawn(strata=STRATA[::-1]).slots == sequence.slots
    assert drawn(strata=STRATA[2:3]).slots["bern.severe"] == sequence.slots["bern.severe"]


@pytest.mark.requirement("RND-7", "RND-10")
@given(seeds, st.integers(1, 60), st.integers(0, 60))
def test_a_longer_list_begins_with_the_shorter_one(seed: bytes, length: int, more: int) -> None:
    shorter = drawn(seed=seed, length_per_stratum=length, strata=("all",)).slots["all"]
    longer = drawn(seed=seed, length_per_stratum=length + more, strata=("all",)).slots["all"]
    assert longer[: len(shorter)] == shorter


@pytest.mark.requirement("RND-7")
@pytest.mark.parametrize(("length", "slots"), [(1, 4), (3, 4), (4, 4), (5, 8), (8, 8), (9, 12)])
def test_the_last_block_is_filled_and_never_cut(length: int, slots: int) -> None:
    sequence = drawn(length_per_stratum=length, options=blocks_of([4]))
    assert {len(held) for held in sequence.slots.values()} == {slots}
    assert set(balance_summary(sequence).slots_per_arm.values()) == {slots * len(STRATA) // 2}


@pytest.mark.requirement("RND-7")
@given(seeds, st.lists(st.sampled_from([2, 4, 6, 8]), min_size=1, unique=True), st.integers(1, 50))
def test_a_stratum_gets_less_than_one_block_more_than_asked(seed: bytes, sizes: list[int], length: int) -> None:
    slots = drawn(seed=seed, strata=("all",), options=blocks_of(sizes), length_per_stratum=length).slots["all"]
    assert length <= len(slots) < length + max(sizes)


@pytest.mark.requirement("RND-6")
@given(seeds, st.lists(st.sampled_from([2, 4, 6, 8, 10]), min_size=1, unique=True))
def test_the_arms_never_drift_further_apart_than_half_a_block(seed: bytes, sizes: list[int]) -> None:
    for slots in drawn(seed=seed, options=blocks_of(sizes), length_per_stratum=50).slots.values():
        ahead = 0
        for sign in signs(slots):
            ahead += sign
            assert abs(ahead) <= max(sizes) // 2
        assert ahead == 0


@pytest.mark.requirement("RND-5")
def test_strata_studies_versions_and_seeds_have_lists_of_their_own() -> None:
    variants = [
        drawn(length_per_stratum=200),
        drawn(length_per_stratum=200, study="PRT"),
        drawn(length_per_stratum=200, list_version=2),
        drawn(length_per_stratum=200, seed=SEED[::-1]),
    ]
    lists = [slots[:200] for variant in variants for slots in variant.slots.values()]
    assert len(set(lists)) == len(variants) * len(STRATA)


@pytest.mark.requirement("RND-5")
def test_no_list_is_a_shifted_copy_of_another() -> None:
    length, furthest = 4000, 60
    lists = [signs(slots[:length]) for slots in drawn(length_per_stratum=length).slots.values()]
    for number, one in enumerate(lists):
        for other in lists[number + 1 :]:
            for shift in range(-furthest, furthest + 1):
                pairs = zip(one[max(shift, 0) :], other[max(-shift, 0) :], strict=False)
                products = [left * right for left, right in pairs]
                # Two slots of a block of 4 correlate by -1/3, of larger blocks less: the standard error of the mean
                # product is below sqrt(4 / 3n).
                assert abs(sum(products) / len(products)) < 5 / len(products) ** 0.5


@pytest.mark.requirement("RND-9")
@given(st.tuples(st.text(), st.text(), st.integers(1)), st.tuples(st.text(), st.text(), st.integers(1)))
def test_two_lists_never_share_a_personalisation_string(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    assert (personalisation(*one) == personalisation(*other)) == (one == other)


@pytest.mark.requirement("RND-9")
def test_a_separator_in_a_name_cannot_make_two_strings_meet() -> None:
    assert personalisation("a", "bc", 1) != personalisation("ab", "c", 1)
    assert personalisation("a|b", "c", 1) != personalisation("a", "b|c", 1)
    assert personalisation("a", "b1", 1) != personalisation("a", "b", 11)
    assert personalisation("R", "s", 7) == (
        b"\x00\x00\x00\x14equipoise.sequence.1\x00\x00\x00\x01R\x00\x00\x00\x01s\x00\x00\x00\x017"
    )


@pytest.mark.requirement("RND-9")
@pytest.mark.parametrize("length", [0, 16, 32, 47, 49])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="48 bytes") as refusal:
        drawn(seed=b"\xab" * length)
    assert "ab" * 8 not in str(refusal.value)


@pytest.mark.requirement("RND-9", "RND-13")
def test_a_printed_sequence_shows_neither_order_nor_seed() -> None:
    sequence = drawn(strata=("all",), arms_with_ratio=(("zebra", 1), ("yak", 1)))
    for shown in (repr(sequence), str(sequence), f"{sequence}"):
        assert shown.count("zebra") == 1
        assert shown.count("yak") == 1
        assert SEED.hex() not in shown
    assert sequence.arms == ("yak", "zebra")


@pytest.mark.requirement("RND-13")
def test_the_summary_counts_and_says_nothing_about_order() -> None:
    sequence = drawn(length_per_stratum=21)
    summary = balance_summary(sequence)
    assert summary.slots == sum(map(len, sequence.slots.values()))
    assert summary.slots_per_arm == {"active": summary.slots // 2, "sham": summary.slots // 2}
    assert summary.slots_per_stratum == {stratum: len(slots) for stratum, slots in sequence.slots.items()}
    turned = Sequence_(
        study=sequence.study,
        list_version=sequence.list_version,
        method=sequence.method,
        arms=sequence.arms,
        slots={stratum: slots[::-1] for stratum, slots in sequence.slots.items()},
    )
    assert turned != sequence
    assert balance_summary(turned) == summary
    assert {each.name for each in fields(BalanceSummary)} == {"slots", "slots_per_arm", "slots_per_stratum"}


def test_an_arm_that_a_list_never_uses_counts_nought() -> None:
    sequence = drawn(
        method="list", strata=("all",), length_per_stratum=1, options={"csv": "position,arm\n1,sham"}, seed=b""
    )
    assert balance_summary(sequence).slots_per_arm == {"active": 0, "sham": 1}


def test_a_sequence_cannot_be_changed() -> None:
    sequence = drawn()
    with pytest.raises(TypeError):
        sequence.slots["basel.mild"] = ()  # type: ignore[index]
    with pytest.raises(AttributeError):
        sequence.study = "PRT"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"method": "coin"},
            "There is no randomisation method “coin”; there are biased_coin, big_stick, cluster, list, "
            "maximal_procedure, minimisation, permuted_blocks, simple, truncated_binomial, wei_urn.",
        ),
        ({"arms_with_ratio": ()}, "A randomised study has at least two arms."),
        ({"arms_with_ratio": (("sham", 1),)}, "A randomised study has at least two arms."),
        ({"arms_with_ratio": (("sham", 1), ("sham", 1))}, "The arm “sham” is named twice."),
        ({"arms_with_ratio": (("sham", 1), ("", 1))}, "An arm has no code."),
        ({"arms_with_ratio": (("a", 0), ("b", 1))}, "The share of the arm “a” in the ratio must be a whole number"),
        ({"arms_with_ratio": (("a", 1.5), ("b", 1))}, "The share of the arm “a” in the ratio must be a whole number"),
        ({"arms_with_ratio": (("a", True), ("b", 1))}, "The share of the arm “a” in the ratio must be a whole number"),
        ({"strata": ()}, "There is no stratum"),
        ({"strata": ("x", "y", "x")}, "The stratum “x” is named twice."),
        ({"length_per_stratum": 0}, "The length per stratum must be a whole number of 1 or more."),
        ({"length_per_stratum": 2.5}, "The length per stratum must be a whole number of 1 or more."),
        ({"list_version": 0}, "List versions count from 1."),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as refusal:
        drawn(**changes)
    assert str(refusal.value).startswith(reason)


def test_all_problems_are_named_at_once() -> None:
    found = problems("permuted_blocks", (("a", 0), ("a", 1)), (), 0, {})
    assert len(found) == 4
    assert problems("permuted_blocks", EQUAL, STRATA, 20, blocks_of([4, 6])) == ()


@pytest.mark.requirement("RND-5")
def test_every_stratum_is_drawn_from_its_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    started: Counter[bytes] = Counter()
    original = Stream.from_seed

    def counted(seed: bytes, *, personalisation: bytes) -> Stream:
        started[personalisation] += 1
        return original(seed, personalisation=personalisation)

    monkeypatch.setattr(Stream, "from_seed", counted)
    drawn()
    assert started == Counter(personalisation("RESOLVE", stratum, 1) for stratum in STRATA)
