"""How well did people guess the arm? James' and Bang's blinding indices, from counts of guesses. Pure.

James KE, Bloch DA, Lee KK, Kraemer HC, Fuller RK. Stat Med 1996;15:1421-1434; Bang H, Ni L, Davis CE. Control Clin
Trials 2004;25:143-156. Standard errors are those of the multinomial distribution (delta method for James' index), and
intervals are two-sided 95 %, estimate ± 1.96 standard errors, cut at the ends of the index. With few people they are
too narrow, so every estimate says of how many people it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import sqrt

from app.studies.definition import Guess

Z = 1.959963984540054  # the 97.5 % point of the standard normal distribution
FEW = 30
"""Below as many people the normal distribution behind an interval is a poor likeness."""

# James' weights by cell: 0 for a right guess, 1/2 for a wrong one, 1 for «do not know». As all wrong guesses weigh the
# same, their weight cancels; it is here for the record.
RIGHT, WRONG, UNKNOWN = 0.0, 0.5, 1.0
# Bang's weights of the 2 x 5 table: certain and right, right, do not know (0), wrong, certain and wrong.
CERTAIN, LESS_SURE = 1.0, 0.5


@dataclass(frozen=True)
class Estimate:
    """An index with its standard error, its 95 % interval, and of how many people it is."""

    value: float
    standard_error: float
    low: float
    high: float
    n: int

    @property
    def has_interval(self) -> bool:
        """False where all answered alike: without spread the interval is a point, and says nothing."""
        return self.standard_error > 0

    @property
    def is_of_few(self) -> bool:
        return self.n < FEW


def james(guessed: Sequence[Sequence[int]], unknown: Sequence[int], right: Sequence[int]) -> Estimate | None:
    """James' index of everybody: 1 when nobody knows, 0.5 when all guess by chance, 0 when all are right.

    `guessed[i][j]` are those of arm i who gave answer j, `unknown[i]` those of arm i who do not know, `right[i]` the
    answer that is right for arm i. Any number of arms and answers. None when it is not defined: nobody was asked, or
    nothing can be expected of chance because all guesses are of one arm and right.

    With P_DK the share of those who do not know, and agreement by chance from the margins of those who guess,

        BI = {1 + P_DK + (1 - P_DK) K_D} / 2,    K_D = (P_D0 - P_De) / P_De,
        P_D0 = sum w_ij P_ij / (1 - P_DK),       P_De = sum w_ij P_i. P_.j / (1 - P_DK)^2.
    """
    n = sum(map(sum, guessed)) + sum(unknown)
    guesses = sum(map(sum, guessed))
    if n == 0:
        return None
    if guesses == 0:
        return Estimate(1.0, 0.0, 1.0, 1.0, n)  # James and others 1996, p. 1425
    p = [[count / n for count in row] for row in guessed]
    rows = [sum(row) for row in p]
    columns = [sum(row[answer] for row in p) for answer in range(len(p[0]))]
    weights = [[RIGHT if answer == right[arm] else WRONG for answer in range(len(columns))] for arm in range(len(rows))]
    cells = [(arm, answer) for arm in range(len(rows)) for answer in range(len(columns))]
    q = guesses / n
    seen = sum(weights[i][j] * p[i][j] for i, j in cells)
    expected = sum(weights[i][j] * rows[i] * columns[j] for i, j in cells)
    if expected == 0:
        return None
    # The formula above, with seen = (1 - P_DK) P_D0 and expected = (1 - P_DK)^2 P_De, is this one.
    value = 1 - q + seen * q**2 / (2 * expected)
    slopes = []
    for i, j in cells:
        by_chance = sum(weights[i][k] * columns[k] for k in range(len(columns)))
        by_chance += sum(weights[k][j] * rows[k] for k in range(len(rows)))
        slope = (weights[i][j] * q**2 + 2 * seen * q) / (2 * expected) - seen * q**2 * by_chance / (2 * expected**2) - 1
        slopes.append((p[i][j], slope))
    mean = sum(share * slope for share, slope in slopes)
    variance = (sum(share * slope**2 for share, slope in slopes) - mean**2) / n
    return _estimate(value, variance, n, lowest=0.0)


def bang(right: int, wrong: int, unknown: int) -> Estimate | None:
    """Bang's index of one arm (2 x 3): 1 when all are right, 0 as by chance, -1 when all are wrong. None of nobody.

    The share of right guesses less that of wrong ones; who does not know counts as nought.
    """
    return _weighted([(right, 1.0), (wrong, -1.0), (unknown, 0.0)])


def bang_by_certainty(
    right_certain: int, right_less_sure: int, wrong_less_sure: int, wrong_certain: int, unknown: int
) -> Estimate | None:
    """Bang's index of one arm (2 x 5): a guess that is less sure counts half."""
    return _weighted(
        [
            (right_certain, CERTAIN),
            (right_less_sure, LESS_SURE),
            (unknown, 0.0),
            (wrong_less_sure, -LESS_SURE),
            (wrong_certain, -CERTAIN),
        ]
    )


def _weighted(counts: Sequence[tuple[int, float]]) -> Estimate | None:
    n = sum(count for count, _ in counts)
    if n == 0:
        return None
    value = sum(count * weight for count, weight in counts) / n
    variance = (sum(count * weight**2 for count, weight in counts) / n - value**2) / n
    return _estimate(value, variance, n, lowest=-1.0)


def _estimate(value: float, variance: float, n: int, *, lowest: float) -> Estimate:
    error = sqrt(max(variance, 0.0))
    return Estimate(value, error, max(value - Z * error, lowest), min(value + Z * error, 1.0), n)


# Guesses, counted


@dataclass(frozen=True)
class Said:
    """What one person guessed: the place of their answer (None: does not know), and whether they are certain of it.

    `certain` is None when they were not asked, or did not say.
    """

    answer: int | None
    certain: bool | None = None


def said_of(guess: Guess, values: Mapping[str, object]) -> Said | None:
    """What the stored values of an entry say of this guess; None for no answer, or a reason why there is none."""
    chosen = values.get(guess.item)
    if chosen in guess.do_not_know:
        return Said(None)
    answers = [each.choice for each in guess.answers]
    if not isinstance(chosen, str) or chosen not in answers:
        return None
    return Said(answers.index(chosen), _certain(guess, values))


def _certain(guess: Guess, values: Mapping[str, object]) -> bool | None:
    if guess.confidence is None:
        return None
    sure = values.get(guess.confidence.item)
    if isinstance(sure, str) and guess.confidence.certain_from is None:
        return sure in guess.confidence.certain
    if isinstance(sure, int | float) and not isinstance(sure, bool) and guess.confidence.certain_from is not None:
        return Decimal(str(sure)) >= guess.confidence.certain_from
    return None


@dataclass(frozen=True)
class ArmGuessed:
    """How one arm was guessed. `answers` are counts by answer, in the order of the guess."""

    arm: str
    randomised: int
    answers: tuple[int, ...]
    unknown: int
    right: int
    wrong: int
    bang: Estimate | None
    bang_by_certainty: Estimate | None

    @property
    def answered(self) -> int:
        return sum(self.answers) + self.unknown


@dataclass(frozen=True)
class Assessed:
    """One guess, held against the arms."""

    guess: Guess
    arms: tuple[ArmGuessed, ...]
    james: Estimate | None

    @property
    def randomised(self) -> int:
        return sum(arm.randomised for arm in self.arms)

    @property
    def answered(self) -> int:
        return sum(arm.answered for arm in self.arms)


def assessed(guess: Guess, arms: Mapping[int, str], said: Mapping[int, Said], codes: Sequence[str]) -> Assessed:
    """The guesses of participants (by id) held against their arms; `codes` are the arms in the study's order.

    Bang's index is defined for two answers only, so with more of them it is left out.
    """
    found = [_arm_guessed(guess, code, [said.get(each) for each, arm in arms.items() if arm == code]) for code in codes]
    right = [_right(guess, code) for code in codes]
    known = [(arm, place) for arm, place in zip(found, right, strict=True) if place is not None]
    index = james([arm.answers for arm, _ in known], [arm.unknown for arm, _ in known], [place for _, place in known])
    return Assessed(guess, tuple(found), index)


def _right(guess: Guess, arm: str) -> int | None:
    return next((place for place, answer in enumerate(guess.answers) if arm in answer.arms), None)


def _arm_guessed(guess: Guess, arm: str, said: Sequence[Said | None]) -> ArmGuessed:
    right = _right(guess, arm)
    given = [each for each in said if each is not None]
    unknown = sum(each.answer is None for each in given)
    guesses = [each for each in given if each.answer is not None]
    hits = sum(each.answer == right for each in guesses)
    two = len(guess.answers) == 2

    def sure(hit: bool, certain: bool) -> int:
        return sum((each.answer == right) is hit and each.certain is certain for each in guesses)

    return ArmGuessed(
        arm=arm,
        randomised=len(said),
        answers=tuple(sum(each.answer == place for each in guesses) for place in range(len(guess.answers))),
        unknown=unknown,
        right=hits,
        wrong=len(guesses) - hits,
        bang=bang(hits, len(guesses) - hits, unknown) if two else None,
        bang_by_certainty=bang_by_certainty(
            sure(True, True), sure(True, False), sure(False, False), sure(False, True), unknown
        )
        if two and guess.confidence is not None
        else None,
    )
