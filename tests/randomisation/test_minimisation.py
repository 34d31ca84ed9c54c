"""Minimisation: the groups stay alike, every arm gets its share, and every draw can be drawn again (RND, CONC)."""

import ast
import copy
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text, update
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.foundation.crypto.envelopes import CannotOpen
from app.foundation.database import keys_of
from app.foundation.errors import Invalid, NotFound, Refused
from app.people.permissions import Role
from app.randomisation import dynamic, reads
from app.randomisation.actions import close, draw, open_plan, randomise, seal
from app.randomisation.drbg import Stream
from app.randomisation.methods import METHODS, minimisation
from app.randomisation.methods.plan import Plan
from app.randomisation.opening import open_envelopes
from app.randomisation.reads import SLOT, STRATUM
from app.randomisation.sealing import Place
from tests.conftest import ROOT
from tests.randomisation.small import ARMS, BY_PAIN, definition
from tests.randomisation.test_commitment import _write, every_flip_is_found
from tests.randomisation.world import NOW, actor, participant, study_of

SCRIPT = ROOT / "scripts" / "verify_draws.py"
SEED = bytes(range(48))
OPTIONS: dict[str, object] = {
    "measure": "range",
    "probability": "4/5",
    "weights": [],
    "size_weight": 0,
    "most_apart": 0,
    "catch_up": "",
}


def plan(shares: Sequence[int] = (1, 1), factors: int = 2, **options: Any) -> Plan:
    arms = tuple((chr(97 + number), share) for number, share in enumerate(shares))
    names = tuple(f"f{number}" for number in range(factors))
    return Plan(arms, ("all",), 1, {**OPTIONS, **options}, names)


def followed(
    a_plan: Plan, counts: dict[str, list[int]], levels: Sequence[str]
) -> list[tuple[str, dict[str, list[int]], Fraction]]:
    """Every way it may go, with its exact probability: each draw that the method asks for is followed to all ends."""
    found = []
    unfinished: list[tuple[list[int], Fraction]] = [([], Fraction(1))]
    while unfinished:
        path, weight = unfinished.pop()
        asked: list[int] = []

        class Followed(Stream):
            def below(self, n: int, path: list[int] = path, asked: list[int] = asked) -> int:
                asked.append(n)
                if len(asked) <= len(path):
                    return path[len(asked) - 1]
                raise EOFError

        try:
            arm, more = minimisation.decide(a_plan, counts, levels, Followed(lambda _: b""))
        except EOFError:
            unfinished += [([*path, number], weight / asked[-1]) for number in range(asked[-1])]
            continue
        found.append((arm, more, weight))
    return found


def chances(a_plan: Plan, counts: dict[str, list[int]], levels: Sequence[str]) -> dict[str, Fraction]:
    """The exact probability of each arm."""
    found: dict[str, Fraction] = {}
    for arm, _, weight in followed(a_plan, counts, levels):
        found[arm] = found.get(arm, Fraction(0)) + weight
    return found


def test_nobody_before_gives_every_arm_its_share():
    for shares in ((1, 1), (2, 1), (1, 1, 1), (3, 2, 1)):
        total = sum(shares)
        expected = {chr(97 + arm): Fraction(share, total) for arm, share in enumerate(shares)}
        assert chances(plan(shares), {}, ("x", "y")) == expected, shares


# Two arms; so far a:3 b:1 at the person's level of the first factor and a:1 b:2 at that of the second, 4 and 3 in all.
# Tried in a: ranges |4-1| and |2-2|, in b: |3-2| and |1-3|, worked out by hand for each measure.
COUNTS = {"": [4, 3], "0:x": [3, 1], "1:y": [1, 2]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"measure": "range"}, [3, 3]),
        ({"measure": "range", "weights": [2, 1]}, [6, 4]),
        ({"measure": "range", "size_weight": 1}, [3 + 2, 3 + 0]),
        ({"measure": "variance"}, [Fraction(9, 2) + 0, Fraction(1, 2) + 2]),
        ({"measure": "marginal_total"}, [4 + 2, 2 + 3]),
        ({"measure": "marginal_total", "weights": [0, 3]}, [6, 9]),
    ],
)
def test_how_unlike_the_groups_would_be(options: dict[str, Any], expected: list[Fraction]):
    assert minimisation.unlikeness(plan(**options), COUNTS, ("x", "y")) == expected


def test_the_preferred_arm_has_its_probability_and_the_others_share_the_rest():
    counts = {"0:x": [2, 2, 0], "": [2, 2, 0]}
    assert chances(plan((1, 1, 1), factors=1, probability="4/5"), counts, ("x",)) == {
        "a": Fraction(1, 10),
        "b": Fraction(1, 10),
        "c": Fraction(4, 5),
    }
    assert chances(plan((1, 1, 1), factors=1, probability="1/1"), counts, ("x",)) == {"c": Fraction(1)}


def test_a_limit_on_the_groups_sizes_comes_before_the_factors():
    counts = {"": [5, 2], "0:x": [0, 2], "1:y": [0, 2]}  # the factors ask for a, the sizes for b
    limited = plan(most_apart=3, catch_up="9/10")
    assert chances(limited, counts, ("x", "y")) == {"a": Fraction(1, 10), "b": Fraction(9, 10)}
    assert chances(plan(most_apart=4, catch_up="9/10"), counts, ("x", "y"))["a"] == Fraction(4, 5)


def law(a_plan: Plan, came: Sequence[Sequence[str]]) -> list[dict[str, Fraction]]:
    """The exact probability of each arm at every allocation, over all that may have been decided before."""
    found: list[dict[str, Fraction]] = []
    states: dict[str, tuple[dict[str, list[int]], Fraction]] = {"": ({}, Fraction(1))}
    for levels in came:
        arms: dict[str, Fraction] = {}
        after: dict[str, tuple[dict[str, list[int]], Fraction]] = {}
        for counts, weight in states.values():
            for arm, more, chance in followed(a_plan, counts, levels):
                arms[arm] = arms.get(arm, Fraction(0)) + weight * chance
                key = repr(sorted(more.items()))
                after[key] = (more, after.get(key, (more, Fraction(0)))[1] + weight * chance)
        found.append(arms)
        states = after
    return found


@pytest.mark.parametrize("measure", minimisation.MEASURES)
@pytest.mark.parametrize("shares", [(2, 1), (3, 2), (1, 2, 1)])
def test_every_allocation_has_the_chances_of_the_ratio_whoever_comes(shares: tuple[int, ...], measure: str):
    """Han, Enas and McEntegart 2009: with unequal shares the chances at each allocation must not be bent."""
    came = [("x", "u"), ("x", "v"), ("y", "u"), ("x", "u"), ("y", "v")]
    expected = {chr(97 + arm): Fraction(share, sum(shares)) for arm, share in enumerate(shares)}
    a_plan = plan(shares, measure=measure, size_weight=1, most_apart=2, catch_up="9/10")
    assert law(a_plan, came) == [expected] * len(came)


@pytest.mark.parametrize(
    ("shares", "preferred", "p"), [((2, 1), "a", "9/10"), ((2, 1), "b", "4/5"), ((3, 1), "a", "14/15")]
)
def test_a_preferred_arm_has_the_probability_of_the_biased_coin_for_its_share(
    shares: tuple[int, ...], preferred: str, p: str
):
    groups = minimisation.groups_of(plan(shares).arms)
    counts = {"0:x": [0 if group == preferred else 5 for group in groups]}
    assert chances(plan(shares, factors=1), counts, ("x",))[preferred] == Fraction(p)


def people(number: int, seed: int) -> list[tuple[str, str]]:
    draw_ = Stream.from_seed(seed.to_bytes(48, "big"), personalisation=b"people")
    return [(f"{draw_.below(3)}", f"{draw_.below(2)}") for _ in range(number)]


def run(a_plan: Plan, came: Sequence[Sequence[str]], seed: bytes = SEED) -> list[str]:
    counts: minimisation.Counts = {}
    arms = []
    for number, levels in enumerate(came, start=1):
        place = Place(1, 1, 1, "all", number)
        arm, counts = dynamic.decided("minimisation", a_plan, counts, levels, seed, study="small", place=place)
        arms.append(arm)
    return arms


def furthest(arms: Sequence[str], came: Sequence[Sequence[str]], shares: dict[str, int]) -> Fraction:
    """The largest difference between arms, per share, over the levels of every factor."""
    had: Counter[tuple[int, str, str]] = Counter(
        (factor, level, arm) for arm, levels in zip(arms, came, strict=True) for factor, level in enumerate(levels)
    )
    places = {(factor, level) for factor, level, _ in had}
    apart = [[Fraction(had[*place, arm], share) for arm, share in shares.items()] for place in places]
    return max(max(each) - min(each) for each in apart)


@pytest.mark.requirement("RND-3")
@pytest.mark.parametrize("measure", minimisation.MEASURES)
@pytest.mark.parametrize("shares", [(1, 1), (1, 1, 1)])
def test_groups_are_more_alike_than_by_chance(measure: str, shares: tuple[int, ...]):
    """Pocock and Simon 1975: imbalance at every level stays small, and by chance it grows."""
    of_arms = {chr(97 + arm): share for arm, share in enumerate(shares)}
    ours, by_chance = [], []
    for seed in range(8):
        came = people(150, seed)
        ours.append(furthest(run(plan(shares, measure=measure), came, seed.to_bytes(48, "big")), came, of_arms))
        coin = Stream.from_seed((99 + seed).to_bytes(48, "big"), personalisation=b"coin")
        by_chance.append(furthest([chr(97 + coin.below(len(shares))) for _ in came], came, of_arms))
    assert sum(ours) / 8 <= 5
    assert sum(by_chance) > 2 * sum(ours)


def test_unequal_shares_are_given_in_the_long_run():
    came = [levels for seed in range(10) for levels in people(120, seed)]
    arms = [
        arm for seed in range(10) for arm in run(plan((2, 1)), came[120 * seed : 120 * seed + 120], bytes([seed]) * 48)
    ]
    # A binomial of 1,200 would have a standard error of 16; minimisation keeps nearer than that.
    assert abs(arms.count("a") - 800) <= 32


def test_a_seed_gives_the_same_arms_on_every_platform():
    """RND-10: the golden draw; a change to the recipe changes it."""
    arms = run(plan((2, 1, 1), measure="variance", weights=[2, 1], size_weight=1), people(24, 5))
    assert "".join(arms) == "abcaaaacbbcaacabaabccaba"


@given(st.integers(0, 40), st.integers(0, 2**32))
def test_what_was_counted_comes_back_from_its_envelope(number: int, seed: int):
    from app.foundation.crypto.keys import Keyring

    keys = Keyring(bytes(32))
    counts: minimisation.Counts = {}
    a_plan = plan((1, 1, 1))
    stream = Stream.from_seed(SEED, personalisation=b"counts")
    for levels in people(number, seed):
        _, counts = minimisation.decide(a_plan, counts, levels, stream)
    place = Place(1, 1, 1, "all", number)
    envelope = dynamic.seal_state(keys, place, counts)
    assert dynamic.open_state(keys, place, envelope) == counts
    assert len(envelope) == 12 + 4 + 1024 + 16
    with pytest.raises(CannotOpen):
        dynamic.open_state(keys, Place(1, 1, 1, "all", number + 1), envelope)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"measure": "chance"}, "`measure` is one of range, variance, marginal_total"),
        ({"probability": "1/2"}, "`probability` is a fraction"),
        ({"probability": "3/2"}, "at most 1/1"),
        ({"probability": "0.8"}, "such as 4/5"),
        ({"weights": [1]}, "has 1 numbers for 2 factors"),
        ({"weights": [1, -1]}, "whole numbers from 0 to 100"),
        ({"weights": [0, 0]}, "nothing is balanced"),
        ({"weights": "1, 2"}, "list of whole numbers"),
        ({"size_weight": 101}, "`size_weight` is a whole number from 0 to 100"),
        ({"most_apart": -1}, "`most_apart` is a whole number"),
        ({"most_apart": 3, "catch_up": "1/3"}, "`catch_up` is a fraction"),
        ({"catch_up": "9/10"}, "belongs to a limit"),
        ({"sizes": 4}, "no option “sizes”"),
    ],
)
def test_a_plan_that_cannot_be_drawn_is_refused_with_the_rule(options: dict[str, Any], says: str):
    assert any(says in problem for problem in minimisation.problems(plan(**options)))


def test_a_sound_plan_has_no_problem_and_one_without_factors_has():
    assert minimisation.problems(plan()) == ()
    assert minimisation.problems(plan(most_apart=3, catch_up="9/10", weights=[1, 0], size_weight=2)) == ()
    assert any("names no factors" in problem for problem in minimisation.problems(plan(factors=0)))
    assert METHODS["minimisation"].slots(plan(), lambda _: Stream(lambda _: b"")) == {}


# The whole of it: drawn, sealed, people randomised, closed, and checked from outside


class Walk:
    """A sealed plan of minimisation by site and pain, with some people randomised."""

    def __init__(self, session: Session, **options: object) -> None:
        self.session = session
        allocation = {"method": "minimisation", "strata": [{"code": "site", "label": "Site"}, BY_PAIN]}
        self.study = study_of(session, definition(allocation=allocation))
        self.statistician = actor(session, self.study, Role.STATISTICIAN)
        drawn = draw(
            session,
            self.study,
            method="minimisation",
            options={**OPTIONS, **options},
            by=self.statistician,
            now=NOW,
        )
        assert drawn.id is not None
        self.id = drawn.id
        self.sequence = seal(session, self.study, drawn.id, by=self.statistician, now=NOW)
        self.coordinators = {site: actor(session, self.study, Role.COORDINATOR, site) for site in ("SYD", "PER")}
        self.people: list[Any] = []

    def randomise(self, *came: tuple[str, int]) -> None:
        for site, nrs in came:
            person = participant(self.session, self.study, len(self.people) + 1, site, nrs)
            self.people.append(person)
            randomise(self.session, self.study, person, by=self.coordinators[site], now=NOW)

    def proofs(self) -> list[dict[str, Any]]:
        return list(reads.proofs(self.session, self.study, self.id, by=self.statistician, why="Audit", now=NOW))

    def certificate(self) -> dict[str, Any]:
        return reads.certificate(self.session, self.study, self.id, by=self.statistician)

    def opened(self) -> dict[str, Any]:
        close(self.session, self.study, self.id, why="The target is reached", by=self.statistician, now=NOW)
        return open_plan(self.session, self.study, self.id, by=self.statistician, now=NOW)


CAME = (("SYD", 5), ("PER", 8), ("SYD", 8), ("SYD", 6), ("PER", 5), ("PER", 9), ("SYD", 4), ("SYD", 7), ("PER", 4))


@pytest.fixture(autouse=True)
def one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether both arms come up among a few people is chance: the same one each time."""
    monkeypatch.setattr("app.randomisation.actions.new_seed", lambda: SEED)


@pytest.fixture
def walk(session: Session) -> Walk:
    made = Walk(session)
    made.randomise(*CAME)
    return made


def logged(session: Session, action: str) -> list[Any]:
    return list(session.execute(select(ENTRY).where(ENTRY.c.action == action).order_by(ENTRY.c.position)).all())


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_draws", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def root_in_log(session: Session) -> str:
    (entry,) = logged(session, "sequence.closed")
    return str(json.loads(entry.new)["root"])


@pytest.mark.requirement("RND-12", "RND-14")
def test_every_draw_is_drawn_again_from_the_seed_by_a_program_that_imports_nothing(walk: Walk, tmp_path: Path):
    certificate, plan_ = walk.certificate(), walk.opened()
    proofs = walk.proofs()
    assert [proof["levels"] for proof in proofs][:2] == [["SYD", "low"], ["PER", "high"]]
    _write(tmp_path, certificate, proofs, plan_)
    names = [str(tmp_path / name) for name in ("certificate", "proofs", "plan")]
    said = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), *names, root_in_log(walk.session)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "9 allocations, each decided by the committed rule" in said.stdout
    every_flip_is_found(script().main, names, root_in_log(walk.session))


@pytest.mark.requirement("RND-14")
def test_any_change_of_what_was_decided_is_found(walk: Walk):
    check = script().check
    certificate, plan_, proofs = walk.certificate(), walk.opened(), walk.proofs()
    root = root_in_log(walk.session)
    assert check(certificate, proofs, plan_, root) == []
    other = {str(ARMS[0]["code"]): ARMS[1]["code"], str(ARMS[1]["code"]): ARMS[0]["code"]}

    def bent(at: int, **changes: object) -> list[dict[str, Any]]:
        mutant = copy.deepcopy(proofs)
        mutant[at].update(changes)
        return mutant

    for at, proof in enumerate(proofs):
        assert check(certificate, bent(at, arm=other[proof["arm"]]), plan_, root), at
        assert check(
            certificate, bent(at, levels=["SYD", "high" if proof["levels"] != ["SYD", "high"] else "low"]), plan_, root
        )
        assert check(certificate, bent(at, salt="00" * 32), plan_, root)
        assert check(certificate, bent(at, path=proof["path"][::-1][:-1]), plan_, root)
        assert check(certificate, bent(at, position=at + 2), plan_, root)
        assert check(certificate, [each for each in proofs if each is not proof], plan_, root)
    swapped = [proofs[1], proofs[0], *proofs[2:]]
    assert check(certificate, swapped, plan_, root)
    for name, value in (("seed", "00" * 48), ("options", {**OPTIONS, "probability": "1/1"}), ("factors", ["site"])):
        assert check(certificate, proofs, {**plan_, name: value}, root)
    assert check({**certificate, "plan_commitment": "00" * 32}, proofs, plan_, root)
    assert check(certificate, proofs, plan_, "00" * 32)


@pytest.mark.requirement("LOG-13")
def test_the_log_has_the_inputs_and_the_leaf_of_every_draw_and_no_arm(walk: Walk):
    stored = {slot.position: slot.leaf.hex() for slot in reads.stored_slots(walk.session, walk.id)}
    entries = [json.loads(entry.new) for entry in logged(walk.session, "participant.randomised")]
    assert [entry["leaf"] for entry in entries] == [stored[number] for number in range(1, len(CAME) + 1)]
    assert [entry["stratum"] for entry in entries][:3] == ["SYD/low", "PER/high", "SYD/high"]
    everything = " ".join(str(row) for row in walk.session.execute(select(ENTRY)).all())
    assert not [arm for arm in ARMS if str(arm["code"]) in everything]


@pytest.mark.requirement("CONC-1", "CONC-2", "CONC-11")
def test_the_tables_tell_no_arm(walk: Walk):
    tables = ("sequence", "stratum", "slot", "allocation")
    rows = [row for table in tables for row in walk.session.execute(text(f"SELECT * FROM {table}")).all()]
    held = b" ".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)
    assert not [arm for arm in ARMS if str(arm["code"]).encode() in held]
    envelopes = walk.session.execute(select(SLOT.c.envelope)).scalars().all()
    assert len({len(envelope) for envelope in envelopes}) == 1
    assert len(set(envelopes)) == len(CAME)


@pytest.mark.requirement("CONC-12")
def test_randomising_opens_no_envelope(walk: Walk):
    assert logged(walk.session, "envelope.opened") == []
    ids = [person.id for person in walk.people]
    arms = open_envelopes(walk.session, walk.study, ids, by=walk.statistician, why="Analysis", now=NOW)
    assert set(arms.values()) == {str(arm["code"]) for arm in ARMS}
    assert len(logged(walk.session, "envelope.opened")) == len(CAME)


@pytest.mark.requirement("E9-3", "CONC-9")
def test_a_retry_gets_the_allocation_that_stands_and_decides_nothing(walk: Walk):
    first = walk.people[0]
    coordinator = walk.coordinators["SYD"]
    again = randomise(walk.session, walk.study, first, again=True, by=coordinator, now=NOW)
    assert again.number == 1
    with pytest.raises(Refused, match="already randomised"):
        randomise(walk.session, walk.study, first, by=coordinator, now=NOW)
    assert walk.session.execute(select(STRATUM.c.used)).scalar_one() == len(CAME)
    assert len(walk.session.execute(select(SLOT.c.id)).all()) == len(CAME)


def test_nobody_is_randomised_when_what_was_counted_is_not_as_it_was_left(walk: Walk):
    (state,) = walk.session.execute(select(STRATUM.c.state)).scalars()
    walk.randomise(("SYD", 5))
    walk.session.execute(update(STRATUM).values(state=state))  # what it was one person ago
    with pytest.raises(CannotOpen):
        walk.randomise(("PER", 5))


def test_somebody_whose_level_is_not_known_takes_no_place(walk: Walk):
    with pytest.raises(Refused, match="not one of the values"):
        walk.randomise(("SYD", 0))
    assert walk.session.execute(select(STRATUM.c.used)).scalar_one() == len(CAME)


@pytest.mark.requirement("E9-2")
def test_before_it_is_sealed_nobody_is_randomised_and_only_the_statistician_knows_of_it(session: Session):
    allocation = {"method": "minimisation", "strata": [BY_PAIN]}
    study = study_of(session, definition(allocation=allocation))
    statistician, coordinator = actor(session, study, Role.STATISTICIAN), actor(session, study, Role.COORDINATOR, "SYD")
    drawn = draw(session, study, method="minimisation", options=OPTIONS, by=statistician, now=NOW)
    with pytest.raises(Refused, match="not open"):
        randomise(session, study, participant(session, study, 1), by=coordinator, now=NOW)
    with pytest.raises(NotFound):
        draw(session, study, method="minimisation", options=OPTIONS, by=coordinator, now=NOW)
    assert drawn.root is None
    assert drawn.plan_commitment
    assert reads.balance(session, study, drawn.id or 0, by=statistician).correct is None


def test_a_number_of_slots_is_refused_with_its_field(session: Session):
    study = study_of(session, definition(allocation={"method": "minimisation", "strata": [BY_PAIN]}))
    statistician = actor(session, study, Role.STATISTICIAN)
    for told, field in (
        ({"slots_per_stratum": 40}, "slots_per_stratum"),
        ({"options": {**OPTIONS, "measure": "x"}}, "measure"),
        ({"options": {**OPTIONS, "weights": [1, 2]}}, "weights"),
    ):
        with pytest.raises(Invalid) as wrong:
            draw(session, study, method="minimisation", by=statistician, now=NOW, **{"options": OPTIONS, **told})  # type: ignore[arg-type]
        assert [each.field for each in wrong.value.problems] == [field]


def test_the_verifying_program_stays_short_and_imports_the_standard_library_only():
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 300
    tree = ast.parse("\n".join(lines))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_secrets_stay_in_their_envelope(walk: Walk):
    stratum = walk.session.execute(select(STRATUM.c.state)).scalar_one()
    assert b"SYD" not in bytes(stratum)
    place = Place(walk.study.id, walk.id, 1, "all", len(CAME))
    counts = dynamic.open_state(keys_of(walk.session), place, bytes(stratum))
    assert sum(counts[""]) == len(CAME)
