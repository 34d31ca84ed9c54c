"""What does an arm that somebody learnt say of the next ones? Exact, against every list that could have been drawn."""

from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session

from app.foundation.errors import NotFound
from app.people.permissions import Role
from app.randomisation.actions import draw, randomise, seal
from app.randomisation.predictability import MOST_KNOWN, knowing
from app.randomisation.unblinding.actions import record_accidental, request
from app.randomisation.unblinding.reads import guessing
from tests.randomisation.small import definition
from tests.randomisation.world import NOW, actor, participant, study_of


def lists(ratio: Sequence[int], sizes: Sequence[int], length: int) -> dict[tuple[int, ...], Fraction]:
    """Every list of at least this length, cut to it, with its probability: blocks drawn one after another."""
    share = sum(ratio)
    begun: dict[tuple[int, ...], Fraction] = {(): Fraction(1)}
    while min(map(len, begun)) < length:
        further: dict[tuple[int, ...], Fraction] = {}
        for before, chance in begun.items():
            if len(before) >= length:
                further[before] = further.get(before, Fraction(0)) + chance
                continue
            for size in sizes:
                block = [arm for arm, count in enumerate(ratio) for _ in range(count * size // share)]
                orders = list(permutations(block))
                for order in orders:
                    after = (*before, *order)
                    further[after] = further.get(after, Fraction(0)) + chance / len(sizes) / len(orders)
        begun = further
    cut: dict[tuple[int, ...], Fraction] = {}
    for each, chance in begun.items():
        cut[each[:length]] = cut.get(each[:length], Fraction(0)) + chance
    return cut


def by_hand(
    ratio: Sequence[int], sizes: Sequence[int], used: int, known: frozenset[int]
) -> tuple[Fraction, Fraction, Fraction]:
    ahead = max(sizes)
    chances: dict[tuple[int, ...], list[dict[int, Fraction]]] = {}
    for each, chance in lists(ratio, sizes, used + ahead).items():
        seen = tuple(each[position - 1] for position in sorted(known))
        following = chances.setdefault(seen, [{} for _ in range(ahead)])
        for step, arm in enumerate(each[used:]):
            following[step][arm] = following[step].get(arm, Fraction(0)) + chance
    correct = sum((max(each[0].values()) for each in chances.values()), Fraction(0))
    sure = [[sum(step.values(), Fraction(0)) * (len(step) == 1) for step in each] for each in chances.values()]
    return (
        correct,
        sum((each[0] for each in sure), Fraction(0)),
        sum((sum(each, Fraction(0)) for each in sure), Fraction(0)),
    )


@pytest.mark.requirement("CONC-14", "RND-15")
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_it_agrees_with_every_list_there_could_be(data: st.DataObject):
    ratio, sizes = data.draw(st.sampled_from([((1, 1), (2,)), ((1, 1), (4,)), ((1, 1), (2, 4)), ((2, 1), (3,))]))
    used = data.draw(st.integers(0, 4))
    known = frozenset(data.draw(st.sets(st.integers(1, used)))) if used else frozenset()
    found = knowing(ratio, sizes, used, known)
    assert found is not None
    assert (found.correct, found.certain, found.slots) == by_hand(ratio, sizes, used, known)


@pytest.mark.requirement("CONC-14")
def test_blocks_of_four_as_one_counts_them_by_hand():
    """Two known of four 1:1: alike with probability 1/3, and then both that remain are certain; three known: always."""
    none, one, two, three = (knowing((1, 1), (4,), 7, frozenset(range(5, 5 + known))) for known in range(4))
    assert none is not None
    assert one is not None
    assert two is not None
    assert three is not None
    assert [each.certain for each in (none, one, two, three)] == [0, 0, Fraction(1, 3), 1]
    assert [each.correct for each in (none, one, two, three)] == [
        Fraction(1, 2),
        Fraction(2, 3),
        Fraction(2, 3),
        1,
    ]
    early = knowing((1, 1), (4,), 6, frozenset({5, 6}))
    assert early is not None
    assert (early.certain, early.slots) == (Fraction(1, 3), Fraction(2, 3))


@pytest.mark.requirement("CONC-14")
def test_what_is_known_of_blocks_that_are_over_says_nothing_and_more_never_less():
    assert knowing((1, 1), (4,), 8, frozenset(range(1, 9))) == knowing((1, 1), (4,), 8, frozenset())
    certain = []
    for known in range(6):
        found = knowing((1, 1), (4, 6), 5, frozenset(range(1, known + 1)))
        assert found is not None
        certain.append(found.certain)
    assert all(before <= after for before, after in pairwise(certain))
    assert certain[0] == 0 < certain[-1]


def test_what_it_does_not_compute():
    assert knowing((1, 1), (4, 6), 20, frozenset(range(1, MOST_KNOWN + 2))) is None
    assert knowing((1, 1, 1, 1, 1), (60,), 1, frozenset({1})) is None
    with pytest.raises(ValueError, match="slot that is used"):
        knowing((1, 1), (4,), 3, frozenset({4}))


@pytest.mark.requirement("CONC-14", "CONC-4")
@pytest.mark.parametrize(
    ("method", "asked", "computed"),
    [("permuted_blocks", {"block_sizes": (2,)}, True), ("simple", {}, False)],
)
def test_of_a_list_in_use_the_arms_that_sites_learnt_count(
    session: Session, method: str, asked: dict[str, Any], computed: bool
):
    strata = [{"code": "site", "label": "Site", "by": "site"}]
    study = study_of(session, definition(allocation={"method": method, "strata": strata}))
    statistician = actor(session, study, Role.STATISTICIAN)
    drawn = draw(session, study, method=method, slots_per_stratum=8, **asked, by=statistician, now=NOW)
    assert drawn.id is not None
    seal(session, study, drawn.id, by=statistician, now=NOW)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    people = [participant(session, study, number) for number in (1, 2, 3)]
    for one in people:
        randomise(session, study, one, by=coordinator, now=NOW)
    assert guessing(session, study, by=statistician) == ()
    request(session, study, people[0], why="The analysis", by=statistician, now=NOW)  # no site learns from it
    assert guessing(session, study, by=statistician) == ()
    for one in (people[2], people[2], people[1]):
        on = date(2026, 3, 14)
        record_accidental(session, study, one, learnt_by="A nurse", how="A letter", on=on, by=coordinator, now=NOW)
    (found,) = guessing(session, study, by=statistician)
    assert (found.stratum, found.used, found.known) == ("SYD", 3, 2)
    if computed:
        assert found.before is not None
        assert found.after is not None
        assert [found.before.certain, found.after.certain, found.after.slots] == [Fraction(0), Fraction(1), Fraction(1)]
    else:
        assert found.before is found.after is None
    for role in set(Role) - {Role.STATISTICIAN}:
        with pytest.raises(NotFound):
            guessing(session, study, by=actor(session, study, role, "SYD", name=f"other_{role}"))
