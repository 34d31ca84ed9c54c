"""Which arm does this person get, when the method decides at each allocation? One draw, from who came before.

There is no list: there is a seed, committed to before the first participant, and one rule for every allocation. Each
has a generator of its own, whose personalisation string is, encoded as in `sequence`:

    "equipoise.dynamic.1" | study | stratum | list version (decimal) | position (decimal)

so that a draw depends on the seed, the options, the levels of the people so far and their arms, and on nothing else;
with the seed, everybody can draw all of them again. Where a first stage gave a group, the arm is decided among the arms
of that group and from the people of that group; the generator is the same whatever the group. What is counted of the
people so far is kept sealed, bound to its position, so that nothing has to be opened to randomise the next one, and no
number in the database tells an arm.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.foundation.crypto.envelopes import CannotOpen, open_sealed, seal
from app.foundation.crypto.keys import Keyring
from app.randomisation.drbg import Stream
from app.randomisation.methods import METHODS
from app.randomisation.methods.minimisation import Counts, groups_of
from app.randomisation.methods.plan import Plan
from app.randomisation.sealing import Place
from app.randomisation.sequence import encoded

RECIPE = "equipoise.dynamic.1"
STATE_PURPOSE = "stratum state"
STATE_STEP = 1024
DIGITS = 7


def decided(
    method: str, plan: Plan, counts: Counts, levels: Sequence[str], seed: bytes, *, study: str, place: Place
) -> tuple[str, Counts]:
    """The arm code of the person at this place, and the counts with them.

    `counts` are those of everybody before them in the stratum.
    """
    decide = METHODS[method].decide
    assert decide is not None
    words = encoded(RECIPE, study, place.stratum, str(place.version), str(place.position))
    return decide(plan, counts, levels, Stream.from_seed(seed, personalisation=words))


def plan_of(secrets: Mapping[str, Any], stratum: str, group: str | None = None) -> Plan:
    """The plan of a stratum, from the secrets of its list; that of one group, where a first stage gave it."""
    return Plan(
        tuple((code, share) for code, share in (secrets["arms"] if group is None else secrets["groups"][group])),
        (stratum,),
        1,
        secrets["options"],
        tuple(secrets["factors"]),
    )


def within(counts: Counts, group: str) -> Counts:
    """What is counted of the people of one group."""
    return {key.removeprefix(f"{group}/"): had for key, had in counts.items() if key.startswith(f"{group}/")}


def joined(counts: Counts, group: str, more: Counts, plans: Mapping[str, Plan]) -> Counts:
    """The counts of all groups, with those of one brought up to date.

    Whatever somebody counts under in their group stands there for every group, with nought: so which keys there are,
    and how long the sealed counts are, tells the levels seen and not whose they were.
    """
    whole = dict(counts)
    for code, plan in plans.items():
        for key in more:
            whole.setdefault(f"{code}/{key}", [0] * len(groups_of(plan.arms)))
    return whole | {f"{group}/{key}": had for key, had in more.items()}


def seal_state(keys: Keyring, place: Place, counts: Counts) -> bytes:
    """The counts after the allocation at this place, in an envelope whose length tells the levels seen and no more."""
    said = {key: "".join(f"{number:0{DIGITS}}" for number in had) for key, had in counts.items()}
    plain = json.dumps(said, separators=(",", ":"), sort_keys=True, ensure_ascii=True).encode()
    size = STATE_STEP * (1 + (len(plain) + 64) // STATE_STEP)
    return seal(keys.derive(STATE_PURPOSE), plain, bound_to=_bound_to(place), size=size)


def open_state(keys: Keyring, place: Place, envelope: bytes | None) -> dict[str, list[int]]:
    """The counts after the allocation at this place; nobody at position 0. `CannotOpen` when they are not intact."""
    if place.position == 0 and envelope is None:
        return {}
    if envelope is None:
        raise CannotOpen("What was counted of the people so far is missing. Stop, and verify the database.")
    said = json.loads(open_sealed(keys.derive(STATE_PURPOSE), envelope, bound_to=_bound_to(place)))
    return {key: [int(text[at : at + DIGITS]) for at in range(0, len(text), DIGITS)] for key, text in said.items()}


def _bound_to(place: Place) -> tuple[str | int, ...]:
    return ("state", *place.bound_to[1:])
