"""Slots that stand behind those in use: for strata that run out and for sites that join, with nothing drawn changed."""

import json
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.foundation.database import Database
from app.foundation.errors import Invalid, NotFound, Refused
from app.participants.models import Participant
from app.people.access import Actor
from app.people.permissions import Role
from app.randomisation import reads
from app.randomisation.actions import close, draw, randomise, seal
from app.randomisation.downtime.actions import close_pack, make_pack
from app.randomisation.opening import SEQUENCE, SLOT, STRATUM
from tests.randomisation.small import ARMS
from tests.randomisation.test_cluster import Practices
from tests.randomisation.test_commitment import SCRIPT, _run, _write, every_flip_is_found
from tests.randomisation.test_concurrency import at_once
from tests.randomisation.world import NOW, actor, participant

NOT_OPEN = "Randomisation is not open"
BLOCKS: dict[str, Any] = {"block_sizes": [2], "slots": 2}


class Sites(Practices):
    """A trial stratified by site, with two slots for each at first."""

    allocation = {"method": "permuted_blocks", "strata": [{"code": "site", "label": "Site"}]}

    def stored(self, version: int) -> list[bytes]:
        """The envelopes of a list as they lie in the database."""
        query = (
            select(SLOT.c.envelope)
            .join(STRATUM, STRATUM.c.id == SLOT.c.stratum_id)
            .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
            .where(SEQUENCE.c.version == version)
            .order_by(SLOT.c.id)
        )
        return [bytes(each) for each in self.session.execute(query).scalars()]

    def used(self) -> dict[tuple[int, str], int]:
        found = reads.sequences(self.session, self.study, by=self.statistician)
        return {(each.version, stratum.code): stratum.used for each in found for stratum in each.strata}


@pytest.fixture
def sites(session: Session) -> Sites:
    return Sites(session)


@pytest.fixture
def practices(session: Session) -> Practices:
    return Practices(session)


@pytest.mark.requirement("RND-7", "E9-3", "RND-12")
def test_a_stratum_goes_on_when_it_is_used_up_and_a_site_that_joined_begins(sites: Sites):
    sites.sealed(**BLOCKS)
    before = sites.stored(1)
    assert {sites.comes("SYD"), sites.comes("SYD")} == {arm["code"] for arm in ARMS}
    sites.comes("PER")
    with pytest.raises(Refused, match=NOT_OPEN):
        sites.comes("SYD")
    sites.joins("ADL")
    with pytest.raises(Refused, match=NOT_OPEN):
        sites.comes("ADL")
    made = sites.draw(**BLOCKS, further=True)
    with pytest.raises(Refused, match=NOT_OPEN):
        sites.comes("SYD")
    seal(sites.session, sites.study, made, by=sites.statistician, now=NOW)
    assert sites.states() == {1: "sealed", 2: "sealed"}
    for site in ("SYD", "ADL", "PER"):
        sites.comes(site)
    assert sites.used() == {
        (1, "PER"): 2,
        (1, "SYD"): 2,
        (2, "ADL"): 1,
        (2, "PER"): 0,
        (2, "SYD"): 1,
    }, "in Perth the first list was not used up"
    assert sites.stored(1) == before, "nothing that was drawn is changed"


@pytest.mark.requirement("RND-7")
def test_only_the_sites_that_need_them_get_further_slots(sites: Sites):
    sites.sealed(**BLOCKS)
    sites.comes("SYD")
    sites.joins("ADL")
    sites.sealed("ADL", **BLOCKS, further=True)
    assert {code for version, code in sites.used() if version == 2} == {"ADL"}
    sites.comes("ADL")
    third = sites.sealed("SYD", "ADL", **BLOCKS, further=True)
    assert set(sites.files(third)[0]["strata"]) == {"ADL", "SYD"}
    for site in ("SYD", "ADL", "ADL", "SYD"):
        sites.comes(site)
    assert sites.used() == {(1, "PER"): 0, (1, "SYD"): 2, (2, "ADL"): 2, (3, "ADL"): 1, (3, "SYD"): 1}


@pytest.mark.requirement("RND-1", "RND-7", "CONC-4")
def test_a_practice_that_runs_out_goes_on_in_its_arm_and_nobody_is_told_which(practices: Practices):
    practices.sealed(slots=1)
    arms = {site: practices.comes(site) for site in ("SYD", "PER")}
    with pytest.raises(Refused, match=NOT_OPEN):
        practices.comes("SYD")
    practices.joins("ADL")
    made = practices.draw(slots=2, further=True)
    counts = reads.balance(practices.session, practices.study, made, by=practices.statistician)
    assert dict(counts.slots_per_arm) == {}
    assert (counts.certain, counts.further) == (Fraction(1), True)
    seal(practices.session, practices.study, made, by=practices.statistician, now=NOW)
    assert {site: practices.comes(site) for site in ("SYD", "PER")} == arms
    assert practices.comes("SYD") == arms["SYD"]
    with pytest.raises(Refused, match=NOT_OPEN):
        practices.comes("ADL")
    assert practices.sites() == {"SYD": (1, True), "PER": (1, True), "ADL": (None, False)}
    practices.sealed(slots=2)
    assert practices.comes("ADL") in arms.values()
    said = practices.session.execute(select(ENTRY.c.action, ENTRY.c.new).order_by(ENTRY.c.position)).all()
    drawn = [json.loads(entry.new) for entry in said if entry.action == "sequence.drawn"]
    assert [each.get("further") for each in drawn] == [None, True, None]
    assert drawn[1]["sites"] == ["PER", "SYD"]
    certificate = practices.files(made)[0]
    assert certificate["further"] is True
    everything = " ".join(entry.new for entry in said if entry.new) + json.dumps(certificate)
    assert not [arm for arm in ARMS if str(arm["code"]) in everything]


@pytest.mark.requirement("RND-14", "E9-3")
@pytest.mark.parametrize("of", [Sites, Practices])
def test_the_verifier_follows_a_stratum_from_one_list_to_the_next(
    session: Session, of: type[Practices], tmp_path: Path
):
    found = of(session)
    asked: dict[str, Any] = {"slots": 2, **({"block_sizes": [2]} if of is Sites else {})}
    one = found.sealed(**asked)
    for site in ("SYD", "PER", "SYD"):
        found.comes(site)
    two = found.sealed(**asked, further=True)
    for site in ("SYD", "PER", "PER", "SYD"):
        found.comes(site)
    lists = [(*found.files(each), None) for each in (one, two)]
    early = _verified(tmp_path, lists)
    assert early.returncode == 0, early.stdout + early.stderr
    assert "7 allocations, each the committed next one" in early.stdout
    plans = [found.plan(each) for each in (one, two)]
    opened = [(certificate, proofs, plan) for (certificate, proofs, _), plan in zip(lists, plans, strict=True)]
    late = _verified(tmp_path, opened)
    assert late.returncode == 0, late.stdout + late.stderr
    assert ("again" in late.stdout) is (of is Practices), "arms that a site has are not drawn again from a seed"
    files = [tmp_path / f"{at}/{name}" for at in (0, 1) for name in ("certificate", "proofs", "plan")]
    every_flip_is_found(runpy.run_path(str(SCRIPT))["main"], files)


@pytest.mark.requirement("E9-3", "CONC-9")
def test_the_verifier_finds_who_was_given_a_slot_out_of_turn(sites: Sites, tmp_path: Path):
    """The server gives a slot of the further list while the one before has some left: it could choose between two."""
    one = sites.sealed(**BLOCKS)
    sites.comes("SYD")
    two = sites.sealed(**BLOCKS, further=True)
    with _the_other_list():
        sites.comes("SYD")
    lists = [(*sites.files(each), None) for each in (one, two)]
    found = _verified(tmp_path, lists)
    assert found.returncode == 1
    assert "SYD went on to a further list before one was used up." in found.stdout
    sites.comes("SYD")  # and the honest slot afterwards does not hide it
    found = _verified(tmp_path, [(*sites.files(each), None) for each in (one, two)])
    assert found.returncode == 1
    assert "took a slot of list 1 after one of a later list" in found.stdout


@contextmanager
def _the_other_list() -> Iterator[None]:
    real = reads._HELD[False]
    with mock.patch.dict(reads._HELD, {False: real.order_by(None).order_by(SEQUENCE.c.version.desc())}):
        yield


@pytest.mark.requirement("RND-14", "CONC-9")
def test_the_verifier_finds_a_practice_that_went_on_in_another_arm(practices: Practices, tmp_path: Path):
    one = practices.sealed(slots=1)
    practices.comes("SYD")
    with mock.patch(
        "app.randomisation.actions.arms_to_go_on_with",
        return_value={"SYD": next(str(arm["code"]) for arm in ARMS if arm["code"] != _arm(practices))},
    ):
        two = practices.sealed("SYD", slots=1, further=True)
    practices.comes("SYD")
    found = _verified(tmp_path, [(*practices.files(each), None) for each in (one, two)])
    assert found.returncode == 1
    assert "Everybody of SYD is in one arm, but there are two." in found.stdout


def _arm(practices: Practices) -> str:
    told = reads.allocations(practices.session, practices.study, by=practices.statistician, why="Test", now=NOW)
    return next(told).arm


def _verified(folder: Path, lists: list[Any]) -> Any:
    names: list[str] = []
    for number, (certificate, proofs, plan) in enumerate(lists):
        (folder / str(number)).mkdir(exist_ok=True)
        _write(folder / str(number), certificate, proofs, plan)
        names += [f"{number}/{name}" for name in ("certificate", "proofs", "plan")[: 2 + (plan is not None)]]
    return _run(folder, *names)


@pytest.mark.requirement("REL-18", "E9-3")
def test_a_pack_takes_the_slots_whose_turn_it_is(sites: Sites):
    one = sites.sealed(**BLOCKS)
    sites.comes("SYD")
    sites.comes("SYD")
    two = sites.sealed(**BLOCKS, further=True)
    asked: dict[str, Any] = {"why": "Power cuts", "by": sites.statistician, "now": NOW}
    with pytest.raises(Invalid, match="has only 2 slots left"):
        make_pack(sites.session, sites.study, site="SYD", slots=3, **asked)
    make_pack(sites.session, sites.study, site="SYD", slots=2, **asked)
    make_pack(sites.session, sites.study, site="PER", slots=1, **asked)
    assert sites.used() == {(1, "PER"): 1, (1, "SYD"): 2, (2, "PER"): 0, (2, "SYD"): 2}
    told: dict[str, Any] = {"why": "Over", "by": sites.statistician, "now": NOW}
    with pytest.raises(Refused, match="Pack 2 for downtime is not closed"):
        close(sites.session, sites.study, one, **told)
    with pytest.raises(Refused, match="Pack 1 for downtime is not closed"):
        close(sites.session, sites.study, two, **told)
    close_pack(sites.session, sites.study, 1, **told)
    close(sites.session, sites.study, two, **told)


@pytest.mark.parametrize(
    ("prepare", "asked", "field", "words"),
    [
        (lambda _: None, {}, "further", "No sequence is in use."),
        (lambda trial: trial.sealed(**BLOCKS), {}, "further", "Nobody has a slot of the sequence in use."),
        (
            lambda trial: (trial.sealed(**BLOCKS), trial.comes("SYD")),
            {"sites": ("XYZ",)},
            "sites",
            "There is no site “XYZ” in this study. Choose among PER, SYD.",
        ),
    ],
)
def test_what_further_slots_need(
    sites: Sites, prepare: Callable[[Practices], Any], asked: dict[str, Any], field: str, words: str
):
    prepare(sites)
    with pytest.raises(Invalid, match=words) as caught:
        sites.draw(*asked.get("sites", ()), **BLOCKS, further=True)
    assert [problem.field for problem in caught.value.problems] == [field]


def test_what_further_slots_of_a_practice_need(practices: Practices):
    practices.sealed("SYD")
    practices.comes("SYD")
    wrong: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
        (("PER",), {}, "PER has no arm to go on with. Draw it with the sites of a batch."),
        (("SYD",), {"method": "list", "listing": "position,arm\n1,sham\n"}, "of the same. Draw them here."),
    ]
    for sites, told, words in wrong:
        with pytest.raises(Invalid, match=words):
            practices.draw(*sites, further=True, **told)
    with pytest.raises(Invalid, match="Choose the sites that get further slots"):
        draw(
            practices.session,
            practices.study,
            method="cluster",
            slots_per_stratum=2,
            sites=[],
            further=True,
            by=practices.statistician,
            now=NOW,
        )
    late = practices.draw(further=True)
    practices.sealed("PER")
    practices.comes("PER")
    closing: dict[str, Any] = {"why": "Sydney left", "by": practices.statistician, "now": NOW}
    close(practices.session, practices.study, _first(practices), **closing)
    with pytest.raises(Refused, match="SYD has its arm already, by sequence 1, which is closed"):
        seal(practices.session, practices.study, late, by=practices.statistician, now=NOW)
    with pytest.raises(Invalid, match="Sequence 1 of SYD is closed: nobody is randomised there"):
        practices.draw("SYD", further=True)


def _first(practices: Practices) -> int:
    return min(each.id for each in reads.sequences(practices.session, practices.study, by=practices.statistician))


def test_where_arms_are_decided_one_by_one_there_is_nothing_to_run_out(session: Session):
    class Minimised(Practices):
        allocation = {"method": "minimisation", "strata": [{"code": "site", "label": "Site"}]}

    trial = Minimised(session)
    asked: dict[str, Any] = {"options": {"measure": "range", "probability": "4/5"}, "slots": None}
    trial.sealed(**asked)
    trial.comes("SYD")
    with pytest.raises(Invalid, match="slots never run out"):
        trial.draw(**asked, further=True)


@pytest.mark.requirement("RND-13")
def test_further_slots_are_the_statisticians_alone(sites: Sites):
    sites.sealed(**BLOCKS)
    sites.comes("SYD")
    others: list[Actor] = [actor(sites.session, sites.study, Role.DATA_MANAGER), sites.coordinators["SYD"]]
    for other in others:
        with pytest.raises(NotFound):
            draw(
                sites.session,
                sites.study,
                method="permuted_blocks",
                block_sizes=(2,),
                slots_per_stratum=2,
                further=True,
                by=other,
                now=NOW,
            )


@pytest.mark.requirement("RND-12")
def test_a_list_that_is_not_further_still_takes_no_used_ones_place(sites: Sites):
    sites.sealed(**BLOCKS)
    sites.comes("SYD")
    sites.sealed(**BLOCKS, further=True)
    with pytest.raises(Refused, match="draw further slots that stand behind it"):
        sites.sealed(**BLOCKS)
    person = participant(sites.session, sites.study, 9, "SYD")
    assert randomise(sites.session, sites.study, person, by=sites.coordinators["SYD"], now=NOW).number == 2


@pytest.mark.requirement("REL-1", "REL-13", "E9-3")
def test_those_who_come_at_once_share_the_last_slot_and_the_first_further_one(database: Database):
    with database.writing() as session:
        sites = Sites(session)
        sites.sealed(block_sizes=[2], slots=4)
        for _ in range(3):
            sites.comes("SYD")
        sites.sealed(block_sizes=[2], slots=4, further=True)
        people = [participant(session, sites.study, number, "SYD").id for number in range(11, 15)]
        study, coordinator = sites.study, sites.coordinators["SYD"]

    numbers: list[int] = []

    def ask(person_id: int | None) -> None:
        with database.writing() as session:
            person = session.get_one(Participant, person_id)
            numbers.append(randomise(session, study, person, by=coordinator, now=NOW).number)

    at_once(*(partial(ask, each) for each in people))
    assert sorted(numbers) == [4, 5, 6, 7]
    with database.reading() as session:
        sites.session = session
        assert {place: used for place, used in sites.used().items() if place[1] == "SYD"} == {
            (1, "SYD"): 4,
            (2, "SYD"): 3,
        }
