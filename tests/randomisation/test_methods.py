"""Does each method do what its name says, and refuse what it cannot do?"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from math import exp, factorial, prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.randomisation.drbg import SEED_BYTES, Stream
from app.randomisation.methods import METHODS, listed, permuted_blocks
from app.randomisation.methods.plan import Plan
from app.randomisation.sequence import draw, personalisation, problems

SEED = bytes(range(SEED_BYTES))
EQUAL = (("active", 1), ("sham", 1))

# Exceeded once in a million fair draws; the seeds are fixed, so a pass today is a pass for ever.
CHI_SQUARE_BOUND = {2: 27.63, 4: 33.38, 5: 35.89, 8: 42.70, 19: 63.68, 69: 139.83, 89: 167.35}


def chi_square(counts: Iterable[int], cells: int) -> float:
    seen = list(counts)
    seen += [0] * (cells - len(seen))
    expected = sum(seen) / cells
    return sum((count - expected) ** 2 / expected for count in seen)


def stream_for(stratum: str) -> Stream:
    return Stream.from_seed(SEED, personalisation=personalisation("RESOLVE", stratum, 1))


def test_the_table_of_methods_is_keyed_by_their_names() -> None:
    assert set(METHODS) == {
        "permuted_blocks",
        "list",
        "simple",
        "big_stick",
        "maximal_procedure",
        "wei_urn",
        "truncated_binomial",
        "biased_coin",
        "cluster",
        "minimisation",
    }
    assert all(name == method.name for name, method in METHODS.items())


@pytest.mark.parametrize("degrees", [2, 4, 8])
def test_the_bounds_are_those_of_one_in_a_million(degrees: int) -> None:
    # For even degrees of freedom the chi-square tail is a Poisson sum.
    half = CHI_SQUARE_BOUND[degrees] / 2
    tail = exp(-half) * sum(half**i / factorial(i) for i in range(degrees // 2))
    assert tail == pytest.approx(1e-6, rel=0.02)


# --- permuted blocks


@st.composite
def block_plans(draw_from: st.DrawFn) -> Plan:
    shares = draw_from(st.lists(st.integers(1, 4), min_size=2, max_size=5))
    times = draw_from(st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True))
    return Plan(
        arms=tuple((f"arm{number}", share) for number, share in enumerate(shares)),
        strata=("all",),
        length_per_stratum=draw_from(st.integers(1, 60)),
        options={"block_sizes": [sum(shares) * each for each in times]},
    )


@pytest.mark.requirement("RND-1")
@given(block_plans(), st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES))
def test_every_block_has_the_exact_ratio(plan: Plan, seed: bytes) -> None:
    assert permuted_blocks.problems(plan) == ()
    sizes: Any = plan.options["block_sizes"]
    total = sum(share for _, share in plan.arms)
    stream = Stream.from_seed(seed, personalisation=b"")
    for block in islice(permuted_blocks.blocks(plan.arms, sizes, stream), 6):
        assert len(block) in sizes
        assert Counter(block) == {arm: share * len(block) // total for arm, share in plan.arms}


@pytest.mark.requirement("RND-1", "RND-7")
@given(block_plans(), st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES))
def test_a_sequence_is_whole_blocks(plan: Plan, seed: bytes) -> None:
    slots = draw(
        "permuted_blocks",
        plan.arms,
        plan.strata,
        plan.length_per_stratum,
        plan.options,
        seed,
        study="RESOLVE",
        list_version=1,
    ).slots["all"]
    total = sum(share for _, share in plan.arms)
    assert Counter(slots) == {arm: share * len(slots) // total for arm, share in plan.arms}


@pytest.mark.requirement("RND-2")
@pytest.mark.parametrize(
    ("shares", "size", "orders"),
    [((1, 1), 4, 6), ((1, 1), 6, 20), ((1, 1), 8, 70), ((1, 1, 1), 6, 90)],
)
@pytest.mark.parametrize("stratum", ["one", "two"])
def test_all_orders_of_a_block_are_equally_likely(
    shares: tuple[int, ...], size: int, orders: int, stratum: str
) -> None:
    arms = [("ABC"[number], share) for number, share in enumerate(shares)]
    assert factorial(size) // prod(factorial(share * size // sum(shares)) for share in shares) == orders
    blocks = permuted_blocks.blocks(arms, [size], stream_for(stratum))
    seen = Counter(islice(blocks, 100 * orders))
    assert len(seen) == orders
    assert chi_square(seen.values(), orders) < CHI_SQUARE_BOUND[orders - 1]


@pytest.mark.requirement("RND-4")
def test_block_sizes_are_uniform_and_independent_of_the_block_before_and_of_the_stratum() -> None:
    sizes = (4, 6, 8)
    by_stratum = [
        [len(block) for block in islice(permuted_blocks.blocks(EQUAL, sizes, stream_for(stratum)), 3001)]
        for stratum in ("one", "two", "three")
    ]
    for drawn in by_stratum:
        assert chi_square(Counter(drawn).values(), 3) < CHI_SQUARE_BOUND[2]
        # Pairs that do not overlap, so that the nine cells are independent draws.
        pairs = list(pairwise(drawn))[::2]
        assert chi_square(Counter(pairs).values(), 9) < CHI_SQUARE_BOUND[8]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        across = Counter(zip(by_stratum[one], by_stratum[other], strict=True))
        assert chi_square(across.values(), 9) < CHI_SQUARE_BOUND[8]


@pytest.mark.requirement("RND-4")
def test_the_size_of_a_block_says_nothing_about_its_order() -> None:
    firsts = Counter(
        (len(block), block[0]) for block in islice(permuted_blocks.blocks(EQUAL, (4, 6, 8), stream_for("one")), 6000)
    )
    for size in (4, 6, 8):
        active = firsts[size, "active"]
        both = active + firsts[size, "sham"]
        assert abs(active - both / 2) < 5 * (both / 4) ** 0.5


@pytest.mark.requirement("RND-1")
@pytest.mark.parametrize(
    ("arms", "options", "expected"),
    [
        (EQUAL, {}, ["Permuted blocks need `block_sizes`, a list of one or more block sizes."]),
        (EQUAL, {"block_sizes": []}, ["Permuted blocks need `block_sizes`, a list of one or more block sizes."]),
        (EQUAL, {"block_sizes": 4}, ["Permuted blocks need `block_sizes`, a list of one or more block sizes."]),
        (EQUAL, {"block_sizes": "46"}, ["Permuted blocks need `block_sizes`, a list of one or more block sizes."]),
        (
            EQUAL,
            {"block_sizes": [5]},
            ["A block of 5 cannot hold the ratio 1:1: a block size must be a multiple of 2."],
        ),
        (
            (("a", 2), ("b", 1)),
            {"block_sizes": [3, 4, 6, 8]},
            [
                "A block of 4 cannot hold the ratio 2:1: a block size must be a multiple of 3.",
                "A block of 8 cannot hold the ratio 2:1: a block size must be a multiple of 3.",
            ],
        ),
        (EQUAL, {"block_sizes": [0]}, ["A block size is a whole number of 1 or more, not 0."]),
        (EQUAL, {"block_sizes": [-4]}, ["A block size is a whole number of 1 or more, not -4."]),
        (EQUAL, {"block_sizes": [4.0]}, ["A block size is a whole number of 1 or more, not 4.0."]),
        (EQUAL, {"block_sizes": ["4"]}, ["A block size is a whole number of 1 or more, not '4'."]),
        (EQUAL, {"block_sizes": [True]}, ["A block size is a whole number of 1 or more, not True."]),
        (EQUAL, {"block_sizes": [4, 4]}, ["A block size is named twice; all sizes are equally likely."]),
        (EQUAL, {"block_sizes": [4], "blocksize": 6}, ["This method has no option “blocksize”."]),
    ],
)
def test_a_block_that_cannot_hold_the_ratio_is_refused(
    arms: Sequence[tuple[str, int]], options: dict[str, object], expected: list[str]
) -> None:
    assert list(problems("permuted_blocks", arms, ("all",), 20, options)) == expected


# --- an uploaded list


def problems_in(text: str, *, strata: Sequence[str] = ("all",), length: int = 1) -> list[str]:
    return list(problems("list", EQUAL, strata, length, {"csv": text}))


def slots_of(text: str, *, strata: Sequence[str] = ("all",), length: int = 1) -> dict[str, tuple[str, ...]]:
    return dict(draw("list", EQUAL, strata, length, {"csv": text}, b"", study="RESOLVE", list_version=1).slots)


def test_a_list_is_taken_as_it_is() -> None:
    text = "stratum,position,arm\nmild,1,sham\nmild,2,active\nsevere,1,active\n"
    assert slots_of(text, strata=("severe", "mild")) == {"severe": ("active",), "mild": ("sham", "active")}


@pytest.mark.parametrize(
    "text",
    [
        "position,arm\n1,sham\n2,active",
        "position,arm\r\n1,sham\r\n2,active\r\n",
        "\ufeffposition,arm\n1,sham\n2,active\n",
        " Arm , POSITION \n sham , 1 \n active , 2 \n",
        "stratum,position,arm\n,1,sham\n,2,active\n",
        "arm,stratum,position\nactive,all,2\nsham,all,1\n",
        '"position","arm"\n"1","sham"\n\n"2","active"\n\n\n',
        "position,arm\n01,sham\n002,active\n",
    ],
)
def test_spreadsheets_write_the_same_list_in_many_ways(text: str) -> None:
    assert slots_of(text) == {"all": ("sham", "active")}


@pytest.mark.requirement("RND-7")
def test_a_longer_list_is_used_whole_and_a_shorter_one_refused() -> None:
    text = "position,arm\n1,sham\n2,active\n3,sham\n"
    assert len(slots_of(text, length=2)["all"]) == 3
    assert problems_in(text, length=4) == [
        "Line 4: stratum “all” has 3 slots; the study asks for 4 or more.",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["Line 1: the first line must name the columns stratum,position,arm."]),
        ("1,sham\n", ["Line 1: the first line must name the columns stratum,position,arm."]),
        ("position,arm\n1,sham\n", ["Line 1: the first line must name the columns stratum,position,arm."]),
        ("stratum;position;arm\n", ["Line 1: the first line must name the columns stratum,position,arm."]),
        ("stratum,position,arm,arm\n", ["Line 1: the first line must name the columns stratum,position,arm."]),
        ("stratum,position,arm,age\n", ["Line 1: the first line must name the columns stratum,position,arm."]),
        (
            "stratum,position,arm\nmild,1,sham\n",
            ["Line 2: stratum “severe” has 0 slots; the study asks for 1 or more."],
        ),
        (
            "stratum,position,arm\nmild,1,sham\nsevere,1,active\nwild,1,sham\n",
            ["Line 4: the stratum is not one of the study's."],
        ),
        (
            "stratum,position,arm\nmild,1,sham\nsevere,1,active\n,2,sham\n",
            ["Line 4: the stratum is not one of the study's."],
        ),
        (
            "stratum,position,arm\nmild,1,Sham\nsevere,1,active\n",
            ["Line 2: the arm is not one of the study's (active, sham)."],
        ),
        (
            "stratum,position,arm\nmild,0,sham\nmild,x,sham\nmild,-1,sham\nmild,1.5,sham\nmild,,sham\nmild,٣,sham\n"
            "mild,1,sham\nsevere,1,sham\n",
            [f"Line {line}: the position is not a whole number of 1 or more." for line in range(2, 8)],
        ),
        (
            f"stratum,position,arm\nmild,{'9' * 5000},sham\nmild,1,sham\nsevere,1,sham\n",
            ["Line 2: the position is not a whole number of 1 or more."],
        ),
        (
            "stratum,position,arm\nmild,1,sham\nsevere,1,active\nmild,1,active\n",
            ["Line 4: position 1 of stratum “mild” is already on line 2."],
        ),
        (
            "stratum,position,arm\nmild,1,sham\nmild,3,sham\nsevere,4,active\nmild,7,sham\n",
            [
                "Line 3: position 2 is missing before position 3 of stratum “mild”.",
                "Line 4: 1 to 3 are missing before position 4 of stratum “severe”.",
                "Line 5: 4 to 6 are missing before position 7 of stratum “mild”.",
            ],
        ),
        (
            "stratum,position,arm\nmild,1\nmild,1,sham\nsevere,1,active,x\nsevere,1,active\n",
            [
                "Line 2: there are 2 cells where the first line names 3.",
                "Line 4: there are 4 cells where the first line names 3.",
            ],
        ),
        (
            'stratum,position,arm\nmild,1,sham\nsevere,1,active\nmild,2,"sham\n',
            ["Line 4: this is not CSV from here on: a quotation mark is not closed or misplaced."],
        ),
        (
            "stratum,position,arm\n\n\nwild,x,tame\nmild,1,sham\nsevere,1,sham\n",
            [
                "Line 4: the arm is not one of the study's (active, sham).",
                "Line 4: the position is not a whole number of 1 or more.",
                "Line 4: the stratum is not one of the study's.",
            ],
        ),
        (
            'stratum,position,arm\n"mi\nld",1,sham\nmild,1,sham\nsevere,1,sham\nmild,2,x\n',
            [
                "Line 2: the stratum is not one of the study's.",
                "Line 6: the arm is not one of the study's (active, sham).",
            ],
        ),
    ],
)
def test_every_error_in_a_list_is_named_with_its_line(text: str, expected: list[str]) -> None:
    assert problems_in(text, strata=("mild", "severe")) == expected
    with pytest.raises(ValueError, match="Line"):
        slots_of(text, strata=("mild", "severe"))


def test_a_wrong_arm_is_not_also_reported_as_a_gap() -> None:
    assert problems_in("position,arm\n1,sham\n2,shame\n3,sham\n", length=3) == [
        "Line 3: the arm is not one of the study's (active, sham)."
    ]


def test_a_study_without_strata_may_leave_the_column_out() -> None:
    assert problems_in("position\n1\n") == [
        "Line 1: the first line must name the columns position,arm or stratum,position,arm."
    ]
    assert problems_in("position,arm\n2,sham\n", strata=("",)) == [
        "Line 2: position 1 is missing before position 2 of the stratum."
    ]


@pytest.mark.parametrize("options", [{}, {"csv": None}, {"csv": b"position,arm"}])
def test_a_list_needs_its_text(options: dict[str, object]) -> None:
    assert problems("list", EQUAL, ("all",), 1, options) == ("A list needs `csv`, the text of the uploaded file.",)


def test_a_misspelt_option_of_a_list_is_named() -> None:
    found = problems("list", EQUAL, ("all",), 1, {"csv": "position,arm\n1,sham", "block_sizes": [4]})
    assert found == ("This method has no option “block_sizes”.",)


def test_no_message_repeats_what_a_cell_holds() -> None:
    # The columns are swapped: what looks like a stratum is an arm.
    found = problems_in("arm,position,stratum\nmild,1,secret-arm\nmild,2,secret-arm\n", strata=("mild", "severe"))
    assert found
    assert "secret-arm" not in " ".join(found)


def test_a_printed_reading_shows_no_arms() -> None:
    plan = Plan(EQUAL, ("all",), 1, {})
    shown = repr(listed.read("position,arm\n1,sham\n", plan))
    assert "sham" not in shown
    assert shown == "Reading(problems=0, slots withheld)"


def test_a_list_cannot_draw() -> None:
    def draws(plan: Plan, streams: Any) -> dict[str, tuple[str, ...]]:
        return {stratum: (streams(stratum).choose([arm for arm, _ in plan.arms]),) for stratum in plan.strata}

    honest = METHODS["list"]
    METHODS["list"] = type(honest)(honest.name, False, honest.problems, draws)
    try:
        with pytest.raises(RuntimeError, match="uses no seed"):
            slots_of("position,arm\n1,sham\n")
    finally:
        METHODS["list"] = honest


@given(st.data(), st.integers(1, 40), st.integers(1, 5))
def test_any_whole_list_comes_back_as_it_was_however_its_lines_are_ordered(
    data: st.DataObject, length: int, strata_count: int
) -> None:
    strata = [f"s{number}" for number in range(strata_count)]
    arms = st.lists(st.sampled_from(["active", "sham"]), min_size=length, max_size=length)
    meant = {stratum: tuple(data.draw(arms)) for stratum in strata}
    lines = [f"{stratum},{at},{arm}" for stratum, held in meant.items() for at, arm in enumerate(held, start=1)]
    text = "\n".join(["stratum,position,arm", *data.draw(st.permutations(lines))])
    assert slots_of(text, strata=strata, length=length) == meant


@given(st.text(alphabet='stratumposiionarm,"12\n\r active\ufeff\x00', max_size=80))
def test_no_text_at_all_breaks_the_reading(text: str) -> None:
    plan = Plan(EQUAL, ("all", "some"), 1, {})
    for found in listed.read(text, plan).problems:
        assert found.line >= 1
