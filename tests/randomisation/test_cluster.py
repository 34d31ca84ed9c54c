"""Whole sites drawn together: each permutation equally likely, one arm a site, batch by batch, and provably so."""

import copy
import json
import runpy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from itertools import permutations
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.foundation.errors import Invalid, Refused
from app.participants.models import Participant
from app.people.access import Actor
from app.people.models import Site
from app.people.permissions import Role
from app.randomisation import commitment, reads
from app.randomisation.actions import close, draw, open_plan, randomise, seal
from app.randomisation.downtime.actions import make_pack
from app.randomisation.drbg import SEED_BYTES, Stream
from app.randomisation.methods import cluster
from app.randomisation.methods.plan import Plan
from app.randomisation.opening import open_envelope
from app.randomisation.predictability import Guess, Predictability, clusters, exactly, why_not_clusters
from app.randomisation.rules import SiteDrawn, batch_by_default
from app.randomisation.sequence import draw as drawn_list
from app.randomisation.sequence import personalisation
from app.randomisation.simulation import Design, simulated, why_not_simulated
from app.randomisation.unblinding.actions import record_accidental
from app.randomisation.unblinding.reads import guessing
from tests.exports.world import as_csv, entry
from tests.exports.world import participant as exported
from tests.factories import mini_study, person
from tests.randomisation.enumeration import Scripted, _next
from tests.randomisation.small import ARMS, definition
from tests.randomisation.test_commitment import SCRIPT, _run, _write, every_flip_is_found
from tests.randomisation.test_methods import CHI_SQUARE_BOUND, chi_square
from tests.randomisation.world import CONSENTED, NOW, actor, participant, study_of

SEED = bytes(range(SEED_BYTES))
CLUSTERED = {"method": "cluster", "strata": [{"code": "site", "label": "Site"}]}
RATIOS = st.lists(st.integers(1, 4), min_size=2, max_size=4)


def arms_of(shares: Sequence[int]) -> tuple[tuple[str, int], ...]:
    return tuple(zip("ABCD", shares, strict=False))


def given_arms(shares: Sequence[int], sites: int, stream: Stream) -> tuple[str, ...]:
    """The arm of each site, in the order of the sites' codes."""
    plan = Plan(arms_of(shares), tuple(f"site{number:03}" for number in range(sites)), 2, {})
    slots = cluster.slots(plan, lambda _stratum: stream)
    assert all(len(each) == 2 and len({*each}) == 1 for each in slots.values())
    return tuple(slots[site][0] for site in sorted(slots))


def law(shares: Sequence[int], sites: int) -> dict[tuple[str, ...], Fraction]:
    """Every way the arms can be given, with its probability, by following every draw."""
    found: dict[tuple[str, ...], Fraction] = {}
    script: list[int] | None = []
    while script is not None:
        stream = Scripted(script)
        arms = given_arms(shares, sites, stream)
        likely = Fraction(1)
        for n in stream.asked:
            likely /= n
        found[arms] = found.get(arms, Fraction(0)) + likely
        script = _next(script, stream.asked)
    return found


# The method


@pytest.mark.requirement("RND-1", "RND-2")
@pytest.mark.parametrize(
    ("shares", "sites", "ways"), [((1, 1), 4, 6), ((2, 1), 6, 15), ((1, 1, 1), 3, 6), ((2, 2), 4, 6)]
)
def test_every_permutation_in_the_ratio_is_exactly_as_likely_as_any_other(
    shares: tuple[int, ...], sites: int, ways: int
) -> None:
    found = law(shares, sites)
    block = [arm for arm, share in arms_of(shares) for _ in range(share * sites // sum(shares))]
    assert set(found) == set(permutations(block))
    assert set(found.values()) == {Fraction(1, ways)}


@pytest.mark.requirement("RND-1", "RND-2")
@pytest.mark.parametrize(("shares", "sites"), [((1, 1), 1), ((1, 1), 3), ((1, 1), 5), ((2, 1), 4), ((1, 1, 1), 4)])
def test_what_is_left_over_is_a_random_incomplete_block(shares: tuple[int, ...], sites: int) -> None:
    found, total = law(shares, sites), sum(shares)
    whole, rest = divmod(sites, total)
    assert sum(found.values()) == 1
    for site in range(sites):
        for arm, share in arms_of(shares):
            chance = sum(likely for arms, likely in found.items() if arms[site] == arm)
            assert chance == Fraction(share, total), "each site has an arm with the probability of its share"
    # Of each composition all orders are equally likely, and a composition is as likely as drawing it from the block.
    by_counts: dict[tuple[int, ...], set[Fraction]] = {}
    for arms, likely in found.items():
        counts = tuple(arms.count(arm) for arm, _ in arms_of(shares))
        by_counts.setdefault(counts, set()).add(likely)
        assert all(0 <= n - whole * share <= share for n, share in zip(counts, shares, strict=True))
        assert sum(counts) == whole * total + rest
    assert all(len(likely) == 1 for likely in by_counts.values())


@pytest.mark.requirement("RND-2")
@pytest.mark.parametrize(
    ("shares", "sites", "ways"), [((1, 1), 4, 6), ((1, 1), 6, 20), ((1, 1), 8, 70), ((1, 1, 1), 6, 90)]
)
def test_all_permutations_are_drawn_equally_often(shares: tuple[int, ...], sites: int, ways: int) -> None:
    seen = Counter(
        given_arms(shares, sites, Stream.from_seed(SEED, personalisation=personalisation("S", cluster.BATCH, version)))
        for version in range(1, 60 * ways + 1)
    )
    assert len(seen) == ways
    assert chi_square(seen.values(), ways) < CHI_SQUARE_BOUND[ways - 1]


@pytest.mark.requirement("RND-1", "RND-10")
@settings(deadline=None)
@given(RATIOS, st.integers(1, 30), st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES))
def test_sites_have_one_arm_each_in_the_ratio_however_arms_and_sites_are_named(
    shares: list[int], sites: int, seed: bytes
) -> None:
    codes = tuple(f"site{number}" for number in range(sites))
    told: dict[str, Any] = {"study": "S", "list_version": 3}
    slots = drawn_list("cluster", arms_of(shares), codes, 5, {}, seed, **told).slots
    assert slots == drawn_list("cluster", arms_of(shares)[::-1], codes[::-1], 5, {}, seed, **told).slots
    doubled = [(arm, 2 * share) for arm, share in arms_of(shares)]
    assert slots == drawn_list("cluster", doubled, codes, 5, {}, seed, **told).slots, "2:2 is 1:1"
    assert all(len(each) == 5 and len({*each}) == 1 for each in slots.values())
    counts = Counter(each[0] for each in slots.values())
    whole = sites // (sum(shares) // gcd(*shares))
    for arm, share in arms_of(shares):
        assert whole * share // gcd(*shares) <= counts[arm] <= (whole + 1) * share // gcd(*shares)


@pytest.mark.requirement("RND-10")
def test_a_golden_batch_is_frozen() -> None:
    sites = [f"practice{number:02}" for number in range(1, 8)]
    slots = drawn_list("cluster", [("new", 2), ("usual", 1)], sites, 3, {}, SEED, study="RESOLVE", list_version=1).slots
    assert [slots[site][0] for site in sites] == ["usual", "new", "new", "new", "usual", "new", "usual"]


def test_it_has_no_options() -> None:
    plan = Plan(arms_of((1, 1)), ("a", "b"), 2, {"block_sizes": [4]})
    assert cluster.problems(plan) == ("This method has no option “block_sizes”.",)


# Guessing


def guessed(shares: tuple[int, ...], sites: int, people: int) -> Predictability:
    """By brute force: the best guess at the first person of each site, and certainty at all who follow."""
    correct = certain = Fraction(0)
    for begun in range(sites):
        after: dict[tuple[str, ...], dict[str, Fraction]] = {}
        for arms, likely in law(shares, sites).items():
            held = after.setdefault(arms[:begun], {})
            held[arms[begun]] = held.get(arms[begun], Fraction(0)) + likely
        correct += sum((max(held.values()) for held in after.values()), Fraction(0))
        certain += sum((sum(held.values()) for held in after.values() if len(held) == 1), Fraction(0))
    known = sites * (people - 1)
    return Predictability((correct + known) / (sites * people), (certain + known) / (sites * people))


@pytest.mark.requirement("RND-3", "RND-15")
@pytest.mark.parametrize(
    ("shares", "sites", "people"), [((1, 1), 1, 4), ((1, 1), 4, 3), ((1, 1), 5, 1), ((2, 1), 4, 2), ((1, 1, 1), 4, 2)]
)
def test_how_well_a_site_is_guessed_is_exact(shares: tuple[int, ...], sites: int, people: int) -> None:
    assert exactly("cluster", shares, {}, 50, people, strata=sites) == guessed(shares, sites, people)


def test_too_many_sites_for_an_exact_answer_are_said_to_be() -> None:
    assert clusters((1, 1, 1), 70, 2) is None
    assert why_not_clusters((1, 1, 1), 70) == "A batch of up to 69 sites is computed for 3 arms. Ask for fewer sites."
    assert "up to 69 sites" in str(why_not_simulated(Design("cluster", (1, 1, 1), {}, 100, 70, 10)))


@pytest.mark.requirement("RND-3")
def test_simulated_sites_follow_the_exact_law() -> None:
    found = simulated(Design("cluster", (1, 1), {}, 30, 4, 20), trials=4000)
    assert found.exact
    assert found.certain == float(clusters((1, 1), 4, 8).certain)  # type: ignore[union-attr]
    # Two of four sites each: thirty people fall to the arms like a fair coin's, once the sites are drawn.
    coin = np.abs(2 * np.random.default_rng(1).binomial(30, 0.5, 200_000) - 30).mean()
    assert found.final_mean == pytest.approx(coin, rel=0.05)
    assert found.mean[0] == 1
    # A site is as far apart as it has people: 30 of them over 4 sites.
    assert found.stratum_mean == pytest.approx(7.5)
    with_ratio = simulated(Design("cluster", (2, 1), {}, 60, 7, 20), trials=500)
    assert with_ratio.stratum_mean < 60 / 7


# Batches


class Practices:
    """A trial of whole sites; they join, are drawn and recruit."""

    allocation: dict[str, Any] = CLUSTERED

    def __init__(self, session: Session, *more: str) -> None:
        self.session = session
        self.study = study_of(session, definition(allocation=self.allocation))
        self.statistician = actor(session, self.study, Role.STATISTICIAN)
        self.people = 0
        self.coordinators: dict[str, Actor] = {}
        for code in more:
            self.joins(code)

    def joins(self, code: str) -> None:
        self.session.add(Site(study_id=self.study.id, code=code, name=f"Practice {code}", timezone="UTC"))
        self.session.flush()
        known = [site.model_dump() for site in self.study.definition.sites]
        changed = definition(allocation=self.allocation, sites=[*known, {"code": code, "name": f"Practice {code}"}])
        self.study = replace(self.study, definition=changed)

    def draw(self, *sites: str, slots: int = 6, **told: Any) -> int:
        asked: dict[str, Any] = {"method": self.allocation["method"], "slots_per_stratum": slots, **told}
        made = draw(self.session, self.study, sites=sites or None, by=self.statistician, now=NOW, **asked)
        assert made.id is not None
        return made.id

    def sealed(self, *sites: str, **told: Any) -> int:
        made = self.draw(*sites, **told)
        seal(self.session, self.study, made, by=self.statistician, now=NOW)
        return made

    def comes(self, site: str) -> str:
        """Somebody is randomised at a site; their arm."""
        self.people += 1
        if site not in self.coordinators:
            self.coordinators[site] = actor(self.session, self.study, Role.COORDINATOR, site)
        person = participant(self.session, self.study, self.people, site)
        randomise(self.session, self.study, person, by=self.coordinators[site], now=NOW)
        return open_envelope(self.session, self.study, person, by=self.statistician, why="Test", now=NOW)

    def states(self) -> dict[int, str]:
        return {each.version: each.status for each in reads.sequences(self.session, self.study, by=self.statistician)}

    def sites(self) -> dict[str, tuple[int | None, bool]]:
        found = reads.sites_drawn(self.session, self.study, by=self.statistician)
        return {site.code: (site.version, site.is_final) for site in found}

    def files(self, sequence: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        told: dict[str, Any] = {"by": self.statistician}
        proofs = reads.proofs(self.session, self.study, sequence, why="Audit", now=NOW, **told)
        return reads.certificate(self.session, self.study, sequence, **told), list(proofs)

    def plan(self, sequence: int) -> dict[str, Any]:
        close(self.session, self.study, sequence, why="Done", by=self.statistician, now=NOW)
        return open_plan(self.session, self.study, sequence, by=self.statistician, now=NOW)


@pytest.fixture
def practices(session: Session) -> Practices:
    return Practices(session)


@pytest.mark.requirement("RND-1", "CONC-1")
def test_everybody_of_a_site_is_in_one_arm_and_two_sites_are_one_each(practices: Practices):
    practices.sealed()
    arms = {site: {practices.comes(site) for _ in range(3)} for site in ("SYD", "PER")}
    assert sorted(len(each) for each in arms.values()) == [1, 1]
    assert arms["SYD"] | arms["PER"] == {arm["code"] for arm in ARMS}


@pytest.mark.requirement("RND-12", "RND-13")
def test_sites_that_join_are_a_batch_beside_the_list_in_use(practices: Practices):
    first = practices.sealed()
    sydney = practices.comes("SYD")
    practices.joins("ADL")
    practices.joins("BNE")
    assert practices.sites() == {"SYD": (1, True), "PER": (1, True), "ADL": (None, False), "BNE": (None, False)}
    with pytest.raises(Refused, match="Randomisation is not open"):
        practices.comes("ADL")
    second = practices.sealed()
    assert practices.states() == {1: "sealed", 2: "sealed"}
    assert set(practices.files(first)[0]["strata"]) == {"SYD", "PER"}
    assert set(practices.files(second)[0]["strata"]) == {"ADL", "BNE"}
    assert {practices.comes("ADL"), practices.comes("BNE")} == {str(arm["code"]) for arm in ARMS}
    assert practices.comes("SYD") == sydney, "a batch changes nothing for those who have their arm"
    assert practices.sites() == {"SYD": (1, True), "PER": (1, True), "ADL": (2, True), "BNE": (2, True)}


@pytest.mark.requirement("RND-12")
def test_a_site_is_never_drawn_twice_once_its_arm_may_be_known(practices: Practices):
    first = practices.sealed()
    replacing = practices.sealed("SYD", slots=9)
    assert practices.states() == {1: "retired", 2: "sealed"}, "nobody was randomised from the first"
    assert practices.sites() == {"SYD": (2, False), "PER": (None, False)}
    of_perth = practices.draw()
    assert practices.draw("SYD", "PER"), "drawn before somebody is randomised, and sealed too late"
    practices.comes("SYD")
    with pytest.raises(Refused, match="already randomised from the sealed list"):
        seal(practices.session, practices.study, of_perth + 1, by=practices.statistician, now=NOW)
    seal(practices.session, practices.study, of_perth, by=practices.statistician, now=NOW)
    late = practices.draw("PER")
    close(practices.session, practices.study, of_perth, why="Perth left", by=practices.statistician, now=NOW)
    with pytest.raises(Refused, match="PER has its arm already, by sequence 3, which is closed"):
        seal(practices.session, practices.study, late, by=practices.statistician, now=NOW)
    for sites, words in (
        (("SYD",), "SYD has its arm already, by sequence 2. Leave it out."),
        (("PER",), "PER has its arm already, by sequence 3"),
        (("XYZ",), "There is no site “XYZ” in this study."),
        ((), "Every site has its arm already."),
    ):
        with pytest.raises(Invalid, match=words) as caught:
            practices.draw(*sites)
        assert [problem.field for problem in caught.value.problems] == ["sites"]
    assert first < replacing


def test_sites_are_named_once_and_at_all(practices: Practices):
    told: dict[str, Any] = {"method": "cluster", "slots_per_stratum": 4, "by": practices.statistician, "now": NOW}
    for sites, words in ((["SYD", "SYD"], "named twice"), ([], "Choose the sites that are drawn together")):
        with pytest.raises(Invalid, match=words):
            draw(practices.session, practices.study, sites=sites, **told)


def test_people_are_not_drawn_by_site_elsewhere(session: Session):
    study = study_of(session)
    told: dict[str, Any] = {"by": actor(session, study, Role.STATISTICIAN), "now": NOW, "slots_per_stratum": 4}
    with pytest.raises(Invalid, match="Leave the sites out") as caught:
        draw(session, study, method="permuted_blocks", block_sizes=(4,), sites=["SYD"], **told)
    assert [problem.field for problem in caught.value.problems] == ["sites"]


def test_a_list_of_another_kind_does_not_stay_beside_a_batch(session: Session):
    """An amendment that goes over to whole sites does not leave two lists for one person."""
    study = study_of(session, definition(allocation={"method": "permuted_blocks"}))
    statistician = actor(session, study, Role.STATISTICIAN)
    told: dict[str, Any] = {"by": statistician, "now": NOW}
    earlier = draw(session, study, method="permuted_blocks", block_sizes=(4,), slots_per_stratum=8, **told)
    seal(session, study, earlier.id or 0, **told)
    amended = replace(study, definition=definition(allocation=CLUSTERED))
    batch = draw(session, amended, method="cluster", slots_per_stratum=8, **told)
    seal(session, amended, batch.id or 0, **told)
    assert [each.status for each in reads.sequences(session, amended, by=statistician)] == ["sealed", "retired"]


@pytest.mark.parametrize(
    ("sites", "batch"),
    [
        ([SiteDrawn("b", "B"), SiteDrawn("a", "A"), SiteDrawn("c", "C", 1)], ("a", "b")),
        ([SiteDrawn("a", "A", 1), SiteDrawn("b", "B", 1, True)], ("a",)),
        ([SiteDrawn("a", "A", 1, True)], ()),
        ([], ()),
    ],
)
def test_a_batch_is_all_who_have_no_list_or_else_an_unused_one(sites: list[SiteDrawn], batch: tuple[str, ...]):
    assert batch_by_default(sites) == batch


@pytest.mark.requirement("CONC-4", "CONC-5")
def test_nothing_says_which_site_has_which_arm(practices: Practices):
    """Neither the log, the certificate, the review of one left-over site, nor the size of any row."""
    practices.joins("ADL")
    made = practices.draw("ADL")
    counts = reads.balance(practices.session, practices.study, made, by=practices.statistician)
    assert counts.slots_per_arm == {}, "of one site this would be its arm"
    assert counts.slots_per_stratum == {"ADL": 6}
    assert counts.certain == Fraction(5, 6), "all but the first of a site, of six people that fit"
    seal(practices.session, practices.study, made, by=practices.statistician, now=NOW)
    said = practices.session.execute(select(ENTRY.c.action, ENTRY.c.new).order_by(ENTRY.c.position)).all()
    assert [entry.action for entry in said] == ["sequence.drawn", "sequence.sealed"]
    assert json.loads(said[0].new)["sites"] == ["ADL"]
    everything = " ".join(entry.new for entry in said) + json.dumps(practices.files(made)[0])
    assert not [arm for arm in ARMS if str(arm["code"]) in everything]
    sizes = practices.session.execute(text("SELECT DISTINCT length(envelope) FROM slot")).all()
    assert len(sizes) == 1


LISTING = "stratum,position,arm\nSYD,1,sham\nSYD,2,sham\nPER,1,graded_sensorimotor\n"


def test_a_list_that_was_drawn_elsewhere_gives_each_site_one_arm(practices: Practices):
    """RESOLVE Swiss drew coloured balls from a bag: such a list is handed in, and a later batch is another."""
    told: dict[str, Any] = {"method": "list", "slots_per_stratum": None}
    with pytest.raises(Invalid, match="Everybody of a site is in one arm, but SYD has several") as caught:
        practices.draw(listing=LISTING.replace("SYD,2,sham", "SYD,2,graded_sensorimotor"), **told)
    assert [problem.field for problem in caught.value.problems] == ["listing"]
    practices.sealed(listing=LISTING, **told)
    assert (practices.comes("SYD"), practices.comes("PER")) == ("sham", "graded_sensorimotor")
    practices.joins("ADL")
    practices.sealed(listing="position,arm\n1,sham\n", **told)
    assert practices.comes("ADL") == "sham"
    assert practices.states() == {1: "sealed", 2: "sealed"}


@pytest.mark.requirement("CONC-14")
def test_one_person_unblinded_says_the_arm_of_all_who_follow_at_the_site(practices: Practices):
    practices.sealed()
    practices.comes("SYD")
    investigator = actor(practices.session, practices.study, Role.INVESTIGATOR, "SYD")
    known = reads.allocations(practices.session, practices.study, by=practices.statistician, why="Test", now=NOW)
    code = next(iter(known)).participant
    person = practices.session.execute(select(reads.PARTICIPANT).where(reads.PARTICIPANT.c.code == code)).one()
    record_accidental(
        practices.session,
        practices.study,
        practices.session.get_one(Participant, person.id),
        learnt_by="Asim",
        how="The participant said so",
        on=CONSENTED + timedelta(days=2),
        by=investigator,
        now=NOW,
    )
    (found,) = guessing(practices.session, practices.study, by=practices.statistician)
    assert found.before == Guess(Fraction(1, 2), Fraction(0), Fraction(0))
    assert found.after == Guess(Fraction(1), Fraction(1), Fraction(5))


def test_a_pack_for_downtime_is_of_the_list_that_has_the_site(practices: Practices):
    practices.sealed()
    practices.comes("SYD")
    practices.joins("ADL")
    practices.sealed()
    told: dict[str, Any] = {"slots": 2, "why": "Power cuts", "by": practices.statistician, "now": NOW}
    assert len(make_pack(practices.session, practices.study, site="ADL", **told).slips) == 2
    assert len(make_pack(practices.session, practices.study, site="PER", **told).slips) == 2
    used = {
        stratum.code: stratum.used
        for each in reads.sequences(practices.session, practices.study, by=practices.statistician)
        for stratum in each.strata
    }
    assert used == {"ADL": 2, "PER": 2, "SYD": 1}


@pytest.mark.requirement("CONC-16")
def test_dummy_arms_are_by_site_as_the_real_ones_are(session: Session):
    study = mini_study(session, allocation=CLUSTERED)
    for number in range(1, 7):
        row = exported(session, study, number, site_code="north" if number % 2 else "south")
        entry(session, study, row, "week18", "pain", {"pain_nrs": number})
    rows = as_csv(session, study, "participants", person(session, study, "data_manager"), dummy=True)
    by_site = {row["site"]: {each["arm"] for each in rows if each["site"] == row["site"]} for row in rows}
    assert sorted(map(sorted, by_site.values())) == [["dummy_1"], ["dummy_2"]]


# The program that does not import us


def drawn_again(plan: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The batch of an opened plan."""
    told: dict[str, Any] = {"study": plan["study"], "list_version": plan["version"]}
    asked = (plan["method"], plan["arms"], tuple(plan["strata"]), plan["slots_per_stratum"], plan["options"])
    return dict(drawn_list(*asked, bytes.fromhex(plan["seed"]), **told).slots)


class Proven(Practices):
    """Two batches of two sites, with people at all of them, in the order in which they came."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        one = self.sealed()
        for site in ("SYD", "PER", "SYD"):
            self.comes(site)
        self.joins("ADL")
        self.joins("BNE")
        two = self.sealed()
        for site in ("ADL", "SYD", "BNE", "PER", "ADL"):
            self.comes(site)
        self.lists = [(*self.files(each), self.plan(each)) for each in (one, two)]

    def written(self, folder: Path, lists: list[Any], *, with_plans: bool = True) -> list[str]:
        names: list[str] = []
        for number, (certificate, proofs, plan) in enumerate(lists):
            (folder / str(number)).mkdir(exist_ok=True)
            _write(folder / str(number), certificate, proofs, plan)
            names += [f"{number}/{name}" for name in ("certificate", "proofs", "plan")[: 2 + with_plans]]
        return names

    def verified(self, folder: Path, lists: list[Any], *, with_plans: bool = True) -> Any:
        return _run(folder, *self.written(folder, lists, with_plans=with_plans))


@pytest.fixture
def proven(session: Session) -> Proven:
    return Proven(session)


@pytest.mark.requirement("RND-14", "RND-10")
def test_the_verifier_draws_both_batches_again_and_counts_through_them(proven: Proven, tmp_path: Path):
    early = proven.verified(tmp_path, proven.lists, with_plans=False)
    assert early.returncode == 0, early.stdout + early.stderr
    assert "8 allocations, each the committed next one" in early.stdout
    assert "shown with the opened plan" in early.stdout
    late = proven.verified(tmp_path, proven.lists[::-1])
    assert late.returncode == 0, late.stdout + late.stderr
    assert "again" not in late.stdout
    alone = proven.verified(tmp_path, proven.lists[:1])
    assert alone.returncode == 1
    assert "Allocation 5 (P-0005) comes after allocation 3. Were the files of all lists given?" in alone.stdout
    files = [tmp_path / name for name in proven.written(tmp_path, proven.lists)]
    every_flip_is_found(runpy.run_path(str(SCRIPT))["main"], files)


@pytest.mark.requirement("CONC-9", "E9-3")
def test_the_verifier_finds_whatever_was_bent_in_a_batch(
    proven: Proven, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    verify = runpy.run_path(str(SCRIPT))["main"]  # a process for each of a hundred would take long
    other = {"graded_sensorimotor": "sham", "sham": "graded_sensorimotor"}

    def attacks() -> Iterator[tuple[str, int, list[Any]]]:
        for number in (0, 1):
            _, proofs, plan = proven.lists[number]
            for at in range(len(proofs)):
                for what, value in (
                    ("arm", other[proofs[at]["arm"]]),
                    ("position", proofs[at]["position"] + 1),
                    ("number", 8 if proofs[at]["number"] == 1 else 1),
                    ("participant", proven.lists[1 - number][1][0]["participant"]),
                    ("stratum", "SYD" if proofs[at]["stratum"] != "SYD" else "PER"),
                    ("allocated_at", "2020-01-01T00:00:00+00:00" if (number, at) > (0, 0) else "2031-01-01"),
                ):
                    bent = copy.deepcopy(proven.lists)
                    bent[number][1][at][what] = value
                    yield f"{what} of {at} in list {number}", 1, bent
            bent = copy.deepcopy(proven.lists)
            del bent[number][1][1]
            yield "one left out", 1, bent
            forged = next(
                each
                for each in ({**plan, "seed": f"{guess:096x}"} for guess in range(99))
                if drawn_again(each) != drawn_again(plan)  # two sites have two ways, and another seed may give the same
            )
            bent = copy.deepcopy(proven.lists)
            bent[number] = (
                {**bent[number][0], "plan_commitment": commitment.plan_commitment(forged)},
                bent[number][1],
                forged,
            )
            yield "another seed", 1, bent
        yield "one list twice", 2, [proven.lists[0], proven.lists[0]]
        (one, proofs, plan), two = proven.lists
        yield "of another study", 2, [(one, proofs, plan), ({**two[0], "study": "other"}, *two[1:])]
        twice = {**one, "list_version": 9}
        yield "a site drawn twice", 1, [(one, proofs, plan), (twice, [], None)]

    checked = 0
    for what, code, lists in attacks():
        names = proven.written(tmp_path, lists, with_plans=lists[-1][2] is not None)
        assert verify([str(tmp_path / name) for name in names]) == code, what
        said = capsys.readouterr().out
        assert "was drawn twice" in said or lists[-1][2] is not None
        checked += 1
    assert checked > 50


def test_the_order_in_which_a_batch_is_drawn_is_what_the_verifier_says_without_us(proven: Proven):
    """A certificate and an opened plan are enough to say every site's arm: held against what people were given."""
    for certificate, proofs, plan in proven.lists:
        again = drawn_again({**plan, "strata": certificate["strata"]})
        assert {proof["arm"] == again[proof["stratum"]][0] for proof in proofs} == {True}
