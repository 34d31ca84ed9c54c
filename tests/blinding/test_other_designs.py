"""Promise 2 for designs whose arms hang together: whole practices, and a group first with an arm within it later.

As in `test_two_worlds`, the same trial is played twice and nothing may differ. Here the arms follow from seeds, so the
worlds differ in those; what commits to a seed under a salt is idealised as the leaves of slots are. What one answer
tells is the arm of many in such a design, or half of one; so each has a leak of its own that must be found.

Last, two worlds that differ in how their list was made: in blocks, and in how many slots are left.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import select
from sqlmodel import Session

from app.foundation.database import table_of
from app.participants.models import Participant
from app.randomisation import actions, commitment, reads
from app.randomisation.drbg import SEED_BYTES
from app.randomisation.opening import STRATUM, group_to_decide_in
from app.randomisation.rules import Gate
from app.randomisation.sequence import draw as drawn_list
from app.studies.in_use import StudyInUse
from tests.blinding.conftest import NewWorld
from tests.blinding.trial import (
    ACTIVE,
    API,
    ARMS,
    BLINDED,
    MINIMISED,
    PASSWORD,
    REASON,
    SHAM,
    WORDS,
    Heard,
    Left,
    Trial,
    _walk_in,
    arm_of,
    differences,
    left_by,
)
from tests.concealment.search import Searching
from tests.factories import MINI

PARTICIPANT = table_of(Participant)
PEOPLE = ("M-001", "M-002", "M-005")
# What shows a participant, who is next, and what was done: all that could differ in these designs beyond the others.
PAGES = (
    "today",
    "participants",
    "participants/M-001",
    "participants/M-003",
    "participants/M-003/randomise",
    "participants/M-005/randomised",
    "audit",
    "exports/participants.csv",
    "exports/dummy/participants.csv",
    "study/unblinding",
    "sequence",
)
OPERATIONS = (
    "participants/M-001",
    "participants/M-003/gates",
    "audit?limit=500",
    "exports/visits.json",
    "sequences",
)
USUAL = "fernseed_care"
QUIRINAL, VIMINAL = "quirinal_trial", "viminal_trial"

PRACTICES: dict[str, Any] = {
    "allocation": {"method": "cluster", "strata": [{"code": "site", "label": "Site", "by": "site"}]},
    "sites": [*MINI["sites"], {"code": "east", "name": "East practice", "timezone": "UTC"}],  # type: ignore[misc]
}
STAGES: dict[str, Any] = {
    "arms": [*ARMS["arms"], {"code": USUAL, "label": "Fernseed care", "ratio": 1}],
    "allocation": {
        **MINIMISED["allocation"],
        "first_stage": {
            "code": "entry",
            "label": "Entry",
            "after": "screening",
            "method": "permuted_blocks",
            "groups": [
                {"code": QUIRINAL, "label": "Quirinal or not", "arms": [{"arm": ACTIVE, "ratio": 2}, {"arm": USUAL}]},
                {"code": VIMINAL, "label": "Viminal or not", "arms": [{"arm": SHAM, "ratio": 2}, {"arm": USUAL}]},
            ],
        },
    },
}
SEARCHING = Searching((*WORDS, USUAL, "Fernseed", QUIRINAL, VIMINAL, "Quirinal", "Viminal"))


def _seed(wanted: Sequence[str], method: str, arms: Sequence[str], strata: Sequence[str], version: int) -> bytes:
    """A seed with which the list of this version gives these arms first, over its strata in their order."""
    options: dict[str, object] = {"block_sizes": [4]} if method == "permuted_blocks" else {}
    told: dict[str, Any] = {"study": "mini", "list_version": version}
    each = -(-len(wanted) // len(strata))
    for number in range(256):
        seed = bytes([number]) * SEED_BYTES
        slots = drawn_list(method, [(arm, 1) for arm in arms], strata, each, options, seed, **told).slots
        if [arm for stratum in sorted(strata) for arm in slots[stratum][:each]] == list(wanted):
            return seed
    raise AssertionError("No seed gives these arms.")


def _opposite(arms: Sequence[str], of: Sequence[str]) -> list[str]:
    return [arms[1 - arms.index(each)] for each in of]


@dataclass
class Played:
    """What one world leaves, what was heard once a leak was put in; and who really had which group, or arm, and arm."""

    left: Left
    leaky: dict[str, Heard] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    arms: list[str] = field(default_factory=list)


def _ideal_commitment(_: object) -> str:
    return secrets.token_hex(32)


def _ideal_leaf(*_: object) -> bytes:
    return secrets.token_bytes(32)


def _hear(trial: Trial) -> None:
    for role in BLINDED:
        for page in PAGES:
            trial.web(role, "GET", f"/mini/{page}")
        for operation in OPERATIONS:
            trial.api(role, "GET", f"{API}/{operation}")
        trial.redcap(role, content="record", format="json")


def _played(
    new_world: NewWorld,
    folder: Path,
    changes: dict[str, Any],
    seeds: Sequence[bytes],
    play: Callable[[Trial], None],
    leak: Callable[[ExitStack], None],
) -> Played:
    """Play one world and hear it twice: as it is, and with a leak put in."""
    found = Played(Left({}, {}, b"", []))

    def whole(trial: Trial) -> None:
        trial.sign_in()
        play(trial)
        _hear(trial)
        with trial.database.reading() as session:
            ids = dict(session.execute(select(PARTICIPANT.c.code, PARTICIPANT.c.id)).all())
            found.hidden = [
                group_to_decide_in(session, trial.study, ids[code]) or arm_of(session, ids[code]) for code in PEOPLE
            ]
            found.arms = [arm_of(session, ids[code]) for code in PEOPLE]
        heard, trial.heard = trial.heard, {}
        with ExitStack() as stack:
            leak(stack)
            trial.api("monitor", "GET", f"{API}/participants/M-003/gates")
        found.leaky, trial.heard = trial.heard, heard

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(actions, "new_seed", mock.Mock(side_effect=seeds)))
        stack.enter_context(mock.patch.object(commitment, "plan_commitment", _ideal_commitment))
        stack.enter_context(mock.patch.object(commitment, "draw_leaf", _ideal_leaf))
        found.left = left_by(new_world(), None, folder, changes=changes, played=whole)
    return found


def _told_apart(one: Played, other: Played) -> None:
    """The worlds differ for everybody, no answer and no row does, and each answer was there to be compared."""
    assert not [pair for pair in zip(one.hidden, other.hidden, strict=True) if pair[0] == pair[1]], one.hidden
    assert one.arms != other.arms
    assert differences(one.left, other.left) == []
    assert SEARCHING.places({key: body for key, (_, _, body) in one.left.heard.items()}) == []
    fine = {key.split()[3] for key, (status, *_) in one.left.heard.items() if status == 200}
    assert {f"/mini/{page}" for page in PAGES if page != "sequence"} <= fine
    assert {f"{API}/{operation}" for operation in OPERATIONS if operation != "sequences"} <= fine
    assert not [key for key, (status, *_) in one.left.heard.items() if status >= 500]
    assert list(one.leaky) == list(other.leaky)
    assert {status for status, *_ in one.leaky.values()} == {200}
    assert [key for key in one.leaky if one.leaky[key] != other.leaky[key]], "the leak that was put in is not found"


def _longer_label(stack: ExitStack, secret: Callable[[Session, StudyInUse, Participant], str | None]) -> None:
    """The condition that a sequence is ready is one space longer, or not, with what nobody may know."""
    real = reads.gates_of

    def leaking(session: Session, study: StudyInUse, participant: Participant, **named: Any) -> tuple[Gate, ...]:
        *others, last = real(session, study, participant, **named)
        longer = secret(session, study, participant) in (ACTIVE, QUIRINAL)
        return (*others, replace(last, label=last.label + " " * longer))

    stack.enter_context(mock.patch.object(reads, "gates_of", leaking))


# Whole practices


def _practices(trial: Trial) -> None:
    """Two are drawn together; a third joins later and is drawn alone; the arm of the first is broken to one doctor."""
    did, web, api = trial.did, trial.web, trial.api
    batch = {"method": "cluster", "slots_per_stratum": 6, "sites": ["north", "south"]}
    did(api("statistician", "POST", f"{API}/sequences", batch))
    did(web("statistician", "POST", "/mini/sequence/1/seal", {"password": PASSWORD}))
    _walk_in(trial)
    did(web("coordinator", "POST", "/mini/participants/M-001/randomise", {"password": PASSWORD}))
    did(api("coordinator_south", "POST", f"{API}/participants/M-005/randomise"))
    joined = {"slots_per_stratum": "6", "sites": "east", "step": "draw"}
    did(web("statistician", "POST", "/mini/sequence/draw", joined))
    did(web("statistician", "POST", "/mini/sequence/2/seal", {"password": PASSWORD}))
    drawn = {"content": "record", "action": "randomize", "record": "M-002", "randomization_id": "1"}
    did(trial.redcap("coordinator", **drawn, returnFormat="json"))
    did(api("coordinator", "POST", f"{API}/participants/M-003/randomise"), 409)
    with trial.shown_once():
        said = {**REASON, "password": PASSWORD}
        did(api("investigator", "POST", f"{API}/participants/M-001/unblinding", said))
    _proven(trial, 1)


def _proven(trial: Trial, version: int) -> None:
    """The statistician reads and closes, and the clinicians see whom they treat: all of it is in the log."""
    did, web = trial.did, trial.web
    did(web("clinician", "GET", "/mini/treatment"))
    for path in ("allocations", "flow", "flow.csv"):
        did(web("statistician", "GET", f"/mini/sequence/{path}"))
    for file in ("certificate.json", "proofs.ndjson"):
        did(web("statistician", "GET", f"/mini/sequence/{version}/{file}"))
    closing = {"why": "The target is reached", "password": PASSWORD}
    did(web("statistician", "POST", f"/mini/sequence/{version}/close", closing))
    did(web("statistician", "GET", f"/mini/sequence/{version}/plan.json"))


def arm_of_the_practice(stack: ExitStack) -> None:
    """Who is not randomised yet is told by the arm of those who were, at their practice."""

    def secret(session: Session, _: StudyInUse, participant: Participant) -> str:
        here = select(PARTICIPANT.c.id).where(PARTICIPANT.c.site_id == participant.site_id)
        return max(arm_of(session, each) for each in session.execute(here).scalars())

    _longer_label(stack, secret)


@pytest.mark.requirement("CONC-1", "CONC-7", "CONC-8")
def test_which_practices_have_which_arm_cannot_be_told(new_world: NewWorld, tmp_path: Path):
    arms, together, alone = (ACTIVE, SHAM), ("north", "south"), ("east",)
    worlds = []
    for first in ([ACTIVE, SHAM], [SHAM, ACTIVE]):
        seeds = [_seed(first, "cluster", arms, together, 1), _seed(first[:1], "cluster", arms, alone, 2)]
        played = _played(new_world, tmp_path / "data", PRACTICES, seeds, _practices, arm_of_the_practice)
        worlds.append(played)
    _told_apart(*worlds)
    assert len(worlds[0].left.rows["slot"]) == 18


# A group first, an arm later


def _stages(trial: Trial) -> None:
    """Both stages through every door; one has a group and no arm yet."""
    did, web, api = trial.did, trial.web, trial.api
    first = {"stage": "entry", "block_sizes": "4", "slots_per_stratum": "8", "step": "draw"}
    did(web("statistician", "POST", "/mini/sequence/draw", first))
    did(web("statistician", "POST", "/mini/sequence/1/seal", {"password": PASSWORD}))
    last = {"method": "minimisation", "measure": "range", "probability": "4/5"}
    did(api("statistician", "POST", f"{API}/sequences", last))
    did(web("statistician", "POST", "/mini/sequence/2/seal", {"password": PASSWORD}))
    _walk_in(trial)
    page, rest = "/mini/participants/M-001/randomise", f"{API}/participants/M-002"
    did(web("coordinator", "POST", page, {"stage": "entry", "password": PASSWORD}))
    did(api("coordinator", "POST", f"{rest}/randomise-first"))
    called = {"content": "record", "action": "randomize", "record": "M-005", "returnFormat": "json"}
    did(trial.redcap("coordinator_south", **called, randomization_id="1"))
    did(api("coordinator", "POST", f"{API}/participants/M-003/randomise-first"))
    did(web("coordinator", "POST", page, {"password": PASSWORD}))
    did(api("coordinator", "POST", f"{rest}/randomise"))
    did(trial.redcap("coordinator_south", **called, randomization_id="2"))
    did(api("coordinator", "POST", f"{rest}/randomise-first"), 409)
    with trial.shown_once():
        did(api("investigator", "POST", f"{rest}/unblinding", {**REASON, "password": PASSWORD}))
    _proven(trial, 1)
    _proven(trial, 2)


def group_of_the_first_stage(stack: ExitStack) -> None:
    """Who has a group and no arm yet is told by the group."""

    def secret(session: Session, study: StudyInUse, participant: Participant) -> str | None:
        assert participant.id is not None
        return group_to_decide_in(session, study, participant.id)

    _longer_label(stack, secret)


@pytest.mark.requirement("CONC-1", "CONC-7", "CONC-8")
def test_neither_the_group_nor_the_arm_within_it_can_be_told(new_world: NewWorld, tmp_path: Path):
    groups = (QUIRINAL, VIMINAL)
    order = [QUIRINAL, VIMINAL, VIMINAL, QUIRINAL]
    worlds = []
    for number, first in enumerate((order, _opposite(groups, order))):
        seeds = [_seed(first, "permuted_blocks", groups, ("all",), 1), bytes([7 + number]) * SEED_BYTES]
        worlds.append(_played(new_world, tmp_path / "data", STAGES, seeds, _stages, group_of_the_first_stage))
    _told_apart(*worlds)
    assert len(worlds[0].left.rows["stage_allocation"]) == 4
    assert len(worlds[0].left.rows["allocation"]) == 3


# How a list is made: blocks, and how many slots are left


def _lists(sizes: str, slots: int) -> Callable[[Trial], None]:
    """A list in these blocks, of this length; then the same happens in both worlds, on the line and on paper."""

    def play(trial: Trial) -> None:
        did, web, api = trial.did, trial.web, trial.api
        asked = {"block_sizes": sizes, "slots_per_stratum": str(slots), "step": "draw"}
        with ExitStack() as stack:
            _hashes_that_tell_nothing(stack)
            did(web("statistician", "POST", "/mini/sequence/draw", asked))
            did(web("statistician", "POST", "/mini/sequence/1/seal", {"password": PASSWORD}))
        _walk_in(trial)
        did(web("coordinator", "POST", "/mini/participants/M-001/randomise", {"password": PASSWORD}))
        did(api("coordinator_south", "POST", f"{API}/participants/M-005/randomise"))
        pack = {"site": "north", "slots": "1", "why": "Power cuts", "password": PASSWORD}
        did(web("statistician", "POST", "/mini/sequence/downtime", pack))
        did(api("coordinator", "POST", f"{API}/participants/M-002/randomise"))
        did(api("coordinator", "POST", f"{API}/participants/M-003/randomise"), 409)
        for path in ("", "/1", "/1/certificate"):
            did(web("statistician", "GET", f"/mini/sequence{path}"))

    return play


def _hashes_that_tell_nothing(stack: ExitStack) -> None:
    """Everything that is hashed of a list is salted or sealed, and looks like chance to whoever reads the log."""
    chance: list[Any] = [secrets.token_bytes.__self__]  # type: ignore[attr-defined]

    def digest(envelopes: Iterable[bytes]) -> str:
        assert [*envelopes]
        if chance:  # sealing more slots took more of it; from here on both worlds have the same again
            chance.pop().asked = 1_000_000
        return "0" * 64

    stack.enter_context(mock.patch.object(actions, "digest", digest))
    stack.enter_context(mock.patch.object(actions, "root_of", lambda leaves: bytes(32) if [*leaves] else b""))
    for name in ("fingerprint", "plan_commitment"):
        stack.enter_context(mock.patch.object(commitment, name, return_value="0" * 64))


def slots_that_are_left(stack: ExitStack) -> None:
    """Who is not randomised yet is told by how many slots there are."""

    def secret(session: Session, _: StudyInUse, __: Participant) -> str:
        return ACTIVE if (session.execute(select(STRATUM.c.slots).limit(1)).scalar() or 0) > 4 else SHAM

    _longer_label(stack, secret)


@pytest.mark.requirement("CONC-4", "CONC-8")
def test_neither_blocks_nor_the_length_of_a_list_can_be_told(new_world: NewWorld, tmp_path: Path):
    """Who stands where differs in rows that nobody reads but with the key; whoever is blinded is answered the same."""
    changes = {"allocation": {**PRACTICES["allocation"], "method": "permuted_blocks"}}
    seed, worlds = bytes(SEED_BYTES), []
    for sizes, slots in (("2", 4), ("4 6 8", 40)):
        play = _lists(sizes, slots)
        worlds.append(_played(new_world, tmp_path / "data", changes, [seed], play, slots_that_are_left))
    one, other = worlds
    found = {each.split()[1].rstrip(":") for each in differences(one.left, other.left) if each.startswith("row")}
    assert [each for each in differences(one.left, other.left) if each.startswith(("answer", "log"))] == []
    assert {"slot", "stratum", "sequence"} <= found <= {"slot", "stratum", "sequence", "allocation", "downtime_slot"}
    lengths = [[len(cell) for cell in each.left.rows["sequence"][0] if isinstance(cell, bytes)] for each in worlds]
    assert lengths[0] == lengths[1], "what is sealed with a list is as long whatever its blocks"
    assert [key for key in one.leaky if one.leaky[key] != other.leaky[key]], "the leak that was put in is not found"
