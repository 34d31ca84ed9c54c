"""What does a method do, exactly? Every outcome of its draws, enumerated, with its probability as a fraction.

This knows nothing of any method: it answers each `below(n)` with every number in turn and follows all of them.
"""

from collections.abc import Mapping
from fractions import Fraction

from app.randomisation.drbg import Stream
from app.randomisation.methods import METHODS
from app.randomisation.methods.plan import Plan


class Scripted(Stream):
    """Answers draws from a script; past its end it answers nought and remembers what was asked."""

    def __init__(self, script: list[int]) -> None:
        super().__init__(lambda _length: b"")
        self.script, self.asked = script, list[int]()

    def below(self, n: int) -> int:
        place = len(self.asked)
        self.asked.append(n)
        return self.script[place] if place < len(self.script) else 0


def outcomes(
    method: str, arms: tuple[tuple[str, int], ...], options: Mapping[str, object], length: int
) -> dict[tuple[str, ...], Fraction]:
    """Every list the method can draw, and how likely it is."""
    plan = Plan(arms, ("all",), length, options)
    assert METHODS[method].problems(plan) == ()
    found: dict[tuple[str, ...], Fraction] = {}
    script: list[int] | None = []
    while script is not None:
        stream = Scripted(script)
        slots = METHODS[method].slots(plan, lambda _stratum, stream=stream: stream)["all"]  # type: ignore[misc]
        likely = Fraction(1)
        for n in stream.asked:
            likely /= n
        found[slots] = found.get(slots, Fraction(0)) + likely
        script = _next(script, stream.asked)
    return found


def _next(script: list[int], asked: list[int]) -> list[int] | None:
    full = [*script, *[0] * (len(asked) - len(script))]
    while full and full[-1] + 1 >= asked[len(full) - 1]:
        full.pop()
    return [*full[:-1], full[-1] + 1] if full else None


def guessing(likely: Mapping[tuple[str, ...], Fraction], allocations: int) -> tuple[Fraction, Fraction]:
    """How often the likeliest next arm, given all earlier ones, comes; and how often only one is possible."""
    correct = certain = Fraction(0)
    for slot in range(allocations):
        after: dict[tuple[str, ...], dict[str, Fraction]] = {}
        for sequence, chance in likely.items():
            if chance:
                arms = after.setdefault(sequence[:slot], {})
                arms[sequence[slot]] = arms.get(sequence[slot], Fraction(0)) + chance
        correct += sum((max(arms.values()) for arms in after.values()), Fraction(0))
        certain += sum((sum(arms.values()) for arms in after.values() if len(arms) == 1), Fraction(0))
    return correct / allocations, certain / allocations
