"""Are James' and Bang's indices those of their papers, and is the report there for the statistician, and only then?"""

import json
from collections.abc import Sequence
from fractions import Fraction
from math import sqrt
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlalchemy import insert, select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT
from app.capture.models import Entry
from app.foundation.database import table_of
from app.foundation.errors import NotFound, Refused
from app.people.permissions import Role
from app.randomisation.actions import randomise
from app.randomisation.blinding.actions import open_report
from app.randomisation.blinding.reads import why_no_report
from app.randomisation.blinding.rules import (
    Assessed,
    Estimate,
    Said,
    assessed,
    bang,
    bang_by_certainty,
    james,
    said_of,
)
from app.studies.definition import Guess
from app.studies.in_use import StudyInUse
from tests.randomisation.small import definition
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

# Bang and others 2004, table 7 (CRISP): lovastatin and placebo, as guesses of lovastatin, of placebo, and do not know.
CRISP = ([[82, 25], [27, 29]], [170, 83])
# Houweling and others, Clinical Trials 2014;11:547-552, table 2, investigators.
DEVICE = ([[48, 4], [22, 30]], [330, 319])


def rounded(found: Estimate | None, places: int) -> tuple[float, ...]:
    assert found is not None
    return tuple(round(each, places) for each in (found.value, found.low, found.high))


def one_sided(found: Estimate | None) -> tuple[float, ...]:
    """Both limits of the one-sided intervals, which that paper prints."""
    assert found is not None
    half = 1.6448536269514722 * found.standard_error
    return tuple(round(each, 2) for each in (found.value, found.value - half, found.value + half))


def test_the_published_indices_of_crisp():
    index = james(*CRISP, [0, 1])
    assert one_sided(index) == (0.75, 0.71, 0.78)
    assert one_sided(bang(82, 25, 170)) == (0.21, 0.15, 0.26)
    assert one_sided(bang(29, 27, 83)) == (0.01, -0.07, 0.10)
    assert index is not None
    assert index.n == 416


def test_the_published_indices_of_a_device_trial():
    index = james(*DEVICE, [0, 1])
    assert rounded(index, 3) == (0.896, 0.875, 0.918)
    assert index is not None
    assert round(index.standard_error, 3) == 0.011
    assert rounded(bang(48, 4, 330), 3) == (0.115, 0.080, 0.150)
    assert rounded(bang(30, 22, 319), 3) == (0.022, -0.016, 0.060)


# Derived again, another way

COUNT = st.integers(0, 40)
TABLES = st.integers(2, 4).flatmap(
    lambda size: st.tuples(
        st.lists(st.lists(COUNT, min_size=size, max_size=size), min_size=size, max_size=size),
        st.lists(COUNT, min_size=size, max_size=size),
    )
)


def by_the_book(guessed: Sequence[Sequence[Any]], unknown: Sequence[Any]) -> Any:
    """James' formula as it is printed, with kappa, in whatever numbers it is given; arm i is right to say i."""
    size = range(len(guessed))
    n = sum(map(sum, guessed)) + sum(unknown)
    p = [[count / n for count in row] for row in guessed]
    p_dk = sum(unknown) / n
    seen = sum(p[i][j] for i in size for j in size if i != j) / 2 / (1 - p_dk)
    expected = sum(sum(p[i]) * sum(p[k][j] for k in size) / 2 / (1 - p_dk) ** 2 for i in size for j in size if i != j)
    kappa = (seen - expected) / expected
    return (1 + p_dk + (1 - p_dk) * kappa) / 2


def chance_there(guessed: Sequence[Sequence[int]]) -> bool:
    size = range(len(guessed))
    return any(sum(guessed[i]) and any(guessed[k][j] for k in size) for i in size for j in size if i != j)


@given(TABLES)
def test_james_index_is_the_printed_formula(table: tuple[list[list[int]], list[int]]):
    guessed, unknown = table
    assume(chance_there(guessed))
    found = james(guessed, unknown, range(len(unknown)))
    assert found is not None
    exact = [[Fraction(count) for count in row] for row in guessed]
    assert found.value == pytest.approx(float(by_the_book(exact, [Fraction(count) for count in unknown])), abs=1e-12)
    assert 0 - 1e-12 <= found.value <= 1 + 1e-12
    assert found.low <= found.value + 1e-12
    assert found.high >= found.value - 1e-12


@given(TABLES)
def test_the_error_of_james_index_is_that_of_the_delta_method(table: tuple[list[list[int]], list[int]]):
    """The slope of the printed formula in every cell, by differences, instead of by hand."""
    guessed, unknown = table
    # Away from the edge, where the formula bends too sharply for differences.
    guessed = [[count + 3 for count in row] for row in guessed]
    found = james(guessed, unknown, range(len(unknown)))
    assert found is not None
    n = sum(map(sum, guessed)) + sum(unknown)
    step = 1e-4
    slopes = []
    for i, row in enumerate([*guessed, unknown]):
        for j, count in enumerate(row):
            ends = []
            for side in (step, -step):
                cells = [[float(each) for each in line] for line in [*guessed, unknown]]
                cells[i][j] += side
                ends.append(by_the_book(cells[:-1], cells[-1]))
            slopes.append((count / n, n * (ends[0] - ends[1]) / (2 * step)))
    mean = sum(share * slope for share, slope in slopes)
    variance = (sum(share * slope**2 for share, slope in slopes) - mean**2) / n
    assert found.standard_error == pytest.approx(sqrt(max(variance, 0)), rel=1e-4, abs=1e-6)


@given(COUNT, COUNT, COUNT)
def test_bangs_index_is_twice_the_share_of_right_guesses_less_one_among_all(right: int, wrong: int, unknown: int):
    found = bang(right, wrong, unknown)
    n = right + wrong + unknown
    if n == 0:
        assert found is None
        return
    assert found is not None
    share = Fraction(right, right + wrong) if right + wrong else Fraction(1, 2)
    assert found.value == pytest.approx(float((2 * share - 1) * Fraction(right + wrong, n)))
    p, q = right / n, wrong / n
    # As Bang and others print it.
    assert found.standard_error == pytest.approx(sqrt(max((p * (1 - p) + q * (1 - q) + 2 * p * q) / n, 0)), abs=1e-9)
    assert found.n == n


@given(COUNT, COUNT, COUNT, COUNT, COUNT)
def test_certainty_counts_twice(a: int, b: int, c: int, d: int, unknown: int):
    found = bang_by_certainty(a, b, c, d, unknown)
    if a + b + c + d + unknown == 0:
        assert found is None
        return
    people = [1.0] * a + [0.5] * b + [-0.5] * c + [-1.0] * d + [0.0] * unknown
    mean = sum(people) / len(people)
    assert found is not None
    assert found.value == pytest.approx(mean)
    spread = sum((each - mean) ** 2 for each in people) / len(people)
    assert found.standard_error == pytest.approx(sqrt(spread / len(people)), abs=1e-9)
    turned = bang_by_certainty(d, c, b, a, unknown)
    assert turned is not None
    assert turned.value == pytest.approx(-found.value)
    certain = bang_by_certainty(a + b, 0, 0, c + d, unknown)
    assert certain == bang(a + b, c + d, unknown)


@pytest.mark.parametrize(
    ("guessed", "unknown", "value"),
    [
        ([[9, 0], [0, 7]], [0, 0], 0.0),  # all right
        ([[0, 8], [8, 0]], [0, 0], 1.0),  # all wrong, in arms of one size
        ([[0, 0], [0, 0]], [9, 7], 1.0),  # nobody knows
        ([[6, 6], [4, 4]], [0, 0], 0.5),  # as by chance
        ([[9, 3], [6, 2]], [0, 0], 0.5),  # everybody leans to one answer, which tells no arm from the other
        ([[5, 5], [5, 5]], [10, 10], 0.75),  # half know nothing, half guess by chance
        ([[4, 0, 0], [0, 4, 0], [0, 0, 4]], [0, 0, 0], 0.0),
        ([[2, 2, 2]] * 3, [0, 0, 0], 0.5),
        ([[0, 0, 0]] * 3, [1, 2, 3], 1.0),
    ],
)
def test_the_ends_and_the_middle_of_james_index(guessed: list[list[int]], unknown: list[int], value: float):
    found = james(guessed, unknown, range(len(unknown)))
    assert found is not None
    assert found.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("counts", "value"), [((9, 0, 0), 1.0), ((0, 9, 0), -1.0), ((0, 0, 9), 0.0), ((5, 5, 0), 0.0), ((5, 5, 9), 0.0)]
)
def test_the_ends_and_the_middle_of_bangs_index(counts: tuple[int, int, int], value: float):
    found = bang(*counts)
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize(
    ("guessed", "unknown"), [([[0, 0], [0, 0]], [0, 0]), ([[9, 0], [0, 0]], [0, 5]), ([], [])], ids=str
)
def test_james_index_is_not_made_up_where_it_is_not_defined(guessed: list[list[int]], unknown: list[int]):
    assert james(guessed, unknown, range(len(unknown))) is None


def test_an_interval_ends_where_its_index_does_and_few_are_said_to_be():
    index = bang(29, 0, 1)
    assert index is not None
    assert index.high == 1.0
    assert not index.is_of_few
    assert index.has_interval
    alike = bang(30, 0, 0)
    assert alike is not None
    assert not alike.has_interval
    few = bang(28, 0, 1)
    assert few is not None
    assert few.is_of_few


# From entries to counts

GUESS = Guess.model_validate(
    {
        "code": "own",
        "label": "Own guess",
        "visit": "week6",
        "item": "guess",
        "answers": [{"choice": "yes", "arms": ["active"]}, {"choice": "no", "arms": ["sham"]}],
        "do_not_know": ["unsure"],
        "confidence": {"item": "sure", "certain": ["very"]},
    }
)
BY_NUMBER = GUESS.model_copy(
    update={
        "confidence": Guess.model_validate(
            {**GUESS.model_dump(), "confidence": {"item": "sure", "certain_from": 8}}
        ).confidence
    }
)


@pytest.mark.parametrize(
    ("guess", "values", "said"),
    [
        (GUESS, {"guess": "yes", "sure": "very"}, Said(0, True)),
        (GUESS, {"guess": "no", "sure": "rather"}, Said(1, False)),
        (GUESS, {"guess": "no"}, Said(1)),
        (GUESS, {"guess": "no", "sure": {"missing": "REF"}}, Said(1)),
        (GUESS, {"guess": "unsure", "sure": "very"}, Said(None)),
        (GUESS, {"guess": {"missing": "REF"}}, None),
        (GUESS, {"guess": "of a later version"}, None),
        (GUESS, {}, None),
        (BY_NUMBER, {"guess": "yes", "sure": 8}, Said(0, True)),
        (BY_NUMBER, {"guess": "yes", "sure": 7.9}, Said(0, False)),
        (BY_NUMBER, {"guess": "yes", "sure": True}, Said(0)),
        (GUESS.model_copy(update={"confidence": None}), {"guess": "yes", "sure": "very"}, Said(0)),
    ],
)
def test_what_an_entry_says(guess: Guess, values: dict[str, object], said: Said | None):
    assert said_of(guess, values) == said


def test_guesses_are_counted_by_arm():
    arms = {1: "active", 2: "active", 3: "active", 4: "sham", 5: "sham", 6: "sham", 7: "sham"}
    said = {1: Said(0, True), 2: Said(1, False), 4: Said(1, True), 5: Said(None), 6: Said(0), 99: Said(0, True)}
    found = assessed(GUESS, arms, said, ["active", "sham"])
    active, sham = found.arms
    assert (active.randomised, active.answered, active.answers, active.right, active.wrong) == (3, 2, (1, 1), 1, 1)
    assert (sham.randomised, sham.answered, sham.unknown, sham.right, sham.wrong) == (4, 3, 1, 1, 1)
    assert (found.randomised, found.answered) == (7, 5)
    assert active.bang_by_certainty == bang_by_certainty(1, 0, 1, 0, 0)
    assert sham.bang_by_certainty == bang_by_certainty(1, 0, 0, 0, 1)  # who did not say how sure they are is left out
    assert sham.bang == bang(1, 1, 1)
    assert found.james == james([(1, 1), (1, 1)], [0, 1], [0, 1])


def test_several_arms_may_share_a_right_answer_and_more_than_two_answers_have_no_bang():
    doses = Guess.model_validate(
        {
            **GUESS.model_dump(),
            "answers": [{"choice": "yes", "arms": ["low", "high"]}, {"choice": "no", "arms": ["sham"]}],
        }
    )
    arms = {1: "low", 2: "high", 3: "sham", 4: "sham"}
    found = assessed(doses, arms, {1: Said(0), 2: Said(1), 3: Said(1), 4: Said(0)}, ["low", "high", "sham"])
    assert [arm.right for arm in found.arms] == [1, 0, 1]
    assert found.james == james([(1, 0), (0, 1), (1, 1)], [0, 0, 0], [0, 0, 1])
    three = Guess.model_validate(
        {
            **GUESS.model_dump(),
            "answers": [{"choice": arm, "arms": [arm]} for arm in ("low", "high", "sham")],
        }
    )
    found = assessed(three, arms, {1: Said(0), 2: Said(0), 3: Said(2), 4: Said(1)}, ["low", "high", "sham"])
    assert [arm.bang for arm in found.arms] == [None, None, None]
    assert found.james is not None


# The report

DAY = {"unblinding": {"planned_from": "2026-03-14"}}


def guessing(session: Session, **changes: Any) -> StudyInUse:
    """A study that asks for a guess at its last visit, sealed, with six randomised participants who answered."""
    small = definition()
    form = {
        "code": "blind",
        "label": "Guess",
        "source": "test",
        "sections": [
            {
                "items": [
                    {
                        "code": "guess",
                        "label": "Which one",
                        "type": "choice",
                        "choices": [
                            {"code": "yes", "label": "Tested"},
                            {"code": "no", "label": "For comparison"},
                            {"code": "unsure", "label": "Does not know"},
                        ],
                    },
                    {"code": "sure", "label": "Sure", "type": "scale", "min": 0, "max": 10},
                ]
            }
        ],
    }
    last = {
        "code": "last",
        "label": "Last",
        "kind": "assessment",
        "day": 42,
        "window": {"before": 7, "after": 7},
        "instruments": ["blind"],
    }
    said = small.model_dump(mode="json")
    guess = {
        "code": "own",
        "label": "Own guess",
        "visit": "last",
        "item": "guess",
        "answers": [
            {"choice": "yes", "arms": [small.arms[0].code]},
            {"choice": "no", "arms": [arm.code for arm in small.arms[1:]]},
        ],
        "do_not_know": ["unsure"],
        "confidence": {"item": "sure", "certain_from": "8"},
    }
    whole = {
        **said,
        "visits": [*said["visits"], last],
        "instruments": [*said["instruments"], form],
        "blinding_assessment": [guess],
        **DAY,
        **changes,
    }
    study = study_of(session, type(small).model_validate(whole))
    sealed(session, study)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    for number in range(1, 7):
        row = participant(session, study, number)
        randomise(session, study, row, by=coordinator, now=NOW)
        if number < 6:
            values = {"guess": "unsure" if number == 5 else "yes", "sure": number + 4}
            session.execute(
                insert(table_of(Entry)).values(
                    study_id=study.id,
                    participant_id=row.id,
                    visit="last",
                    instrument="blind",
                    study_version_id=study.version_id,
                    status="complete",
                    version=1,
                    values=json.dumps(values),
                    reasons="{}",
                    created_at=NOW,
                    created_by="asim",
                    saved_at=NOW,
                    saved_by="asim",
                )
            )
    return study


def logged(session: Session) -> list[tuple[str, str]]:
    query = select(AUDIT.c.action, AUDIT.c.username).order_by(AUDIT.c.position)
    return [(row.action, row.username) for row in session.execute(query)]


@pytest.mark.requirement("E6-1", "E6-12")
def test_the_report_counts_every_guess_and_each_envelope_is_in_the_log(session: Session):
    study = guessing(session)
    statistician = actor(session, study, Role.STATISTICIAN)
    before = len(logged(session))
    (found,) = open_report(session, study, by=statistician, now=NOW)
    assert isinstance(found, Assessed)
    assert (found.randomised, found.answered) == (6, 5)
    assert sum(arm.answers[0] for arm in found.arms) == 4
    assert sum(arm.unknown for arm in found.arms) == 1
    first = found.arms[0]
    assert (first.right, first.wrong) == (first.answers[0], 0)
    assert [arm.bang.n for arm in found.arms if arm.bang] == [arm.answered for arm in found.arms if arm.answered]
    since = logged(session)[before:]
    assert since == [("envelope.opened", statistician.username)] * 6 + [("blinding.reported", statistician.username)]
    row = session.execute(select(AUDIT.c.new).where(AUDIT.c.action == "blinding.reported")).scalar_one()
    assert json.loads(row) == {"guesses": ["own"]}  # and no figure, which blinded readers of the log would learn from


@pytest.mark.requirement("E6-1")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STATISTICIAN])
def test_the_report_does_not_exist_for_anybody_else(session: Session, role: Role):
    study = guessing(session)
    site = None if role in (Role.ADMINISTRATOR, Role.DATA_MANAGER, Role.MONITOR) else "SYD"
    somebody = actor(session, study, role, site, name="somebody")
    before = logged(session)
    with pytest.raises(NotFound):
        open_report(session, study, by=somebody, now=NOW)
    assert logged(session) == before


@pytest.mark.requirement("E6-1", "E6-12")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unblinding": {}}, "Recruitment is still open"),
        ({"unblinding": {"planned_from": "2026-03-15"}}, "allows it from 2026-03-15"),
        ({"blinding_assessment": []}, "asks nobody for a guess"),
    ],
)
def test_the_report_waits_for_the_end_and_opens_nothing_before(session: Session, changes: dict[str, Any], words: str):
    study = guessing(session, **changes)
    statistician = actor(session, study, Role.STATISTICIAN)
    before = logged(session)
    reason = why_no_report(session, study, by=statistician, now=NOW)
    assert reason is not None
    assert words in reason
    with pytest.raises(Refused, match=words):
        open_report(session, study, by=statistician, now=NOW)
    assert logged(session) == before
