"""Measure: python -m benchmarks.designs.

Simulates ten thousand trials of 276 people with every method, in one stratum and in eight, and prints how long each
takes. The goal is 3 s for every one of them; the milliseconds belong to the machine.
"""

import time

from app.randomisation.simulation import TRIALS, Design, simulated

GOAL = 3.0
PEOPLE = 276
DESIGNS: tuple[tuple[str, dict[str, object]], ...] = (
    ("permuted_blocks", {"block_sizes": [4]}),
    ("permuted_blocks", {"block_sizes": [4, 6, 8]}),
    ("simple", {}),
    ("big_stick", {"tolerance": 3}),
    ("maximal_procedure", {"tolerance": 3}),
    ("wei_urn", {"alpha": 0, "beta": 1}),
    ("truncated_binomial", {}),
    ("biased_coin", {"probability": "2/3"}),
)


def main() -> None:
    """Print one line per design."""
    print(f"{TRIALS:,} trials of {PEOPLE} people; goal {GOAL:.0f} s each")
    for method, options in DESIGNS:
        for strata in (1, 8):
            slots = PEOPLE if strata == 1 else 60
            began = time.perf_counter()
            found = simulated(Design(method, (1, 1), options, PEOPLE, strata, slots), trials=TRIALS)
            took = time.perf_counter() - began
            told = " ".join(map(str, options.values()))
            print(
                f"{method:19} {told:10} {strata} strata  {took:5.2f} s  {'ok' if took < GOAL else 'TOO SLOW':8}"
                f"  certain {100 * found.certain:5.1f} %  guessed {100 * found.correct:5.1f} %"
                f"  {'exact' if found.exact else 'simulated':9}  apart {found.final_mean:5.2f} ({found.final_95:.0f})"
            )


if __name__ == "__main__":
    main()
