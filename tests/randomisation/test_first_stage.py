"""Two stages: a group first, an arm within it later, and nothing but sealed bytes tells either."""

import copy
import json
import runpy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, inspect, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.foundation.database import Database
from app.foundation.errors import Invalid, NotFound, Refused
from app.participants.actions import FAIL_SCREENING
from app.participants.models import Participant
from app.people.access import Actor
from app.people.permissions import Role
from app.randomisation import actions, dynamic, reads
from app.randomisation.actions import close, draw, open_plan, randomise, randomise_both, randomise_first, seal
from app.randomisation.downtime.actions import make_pack
from app.randomisation.opening import STAGED, open_envelope, open_envelopes, open_groups
from app.randomisation.rules import why_not_ready
from app.studies.definition import Study
from app.studies.rules import canonical, problems
from tests.conftest import ROOT
from tests.randomisation.small import BY_PAIN, definition
from tests.randomisation.test_commitment import SCRIPT, _write, every_flip_is_found
from tests.randomisation.test_concurrency import at_once
from tests.randomisation.world import NOW, actor, participant, study_of

DRAWS = ROOT / "scripts" / "verify_draws.py"
ARMS = [
    {"code": "reprocessing", "label": "Reprocessing therapy"},
    {"code": "open_placebo", "label": "Open placebo"},
    {"code": "usual_care", "label": "Usual care"},
]
FIRST: dict[str, Any] = {
    "code": "entry",
    "label": "Entry",
    "after": "screening",
    "method": "permuted_blocks",
    "groups": [
        {
            "code": "reprocessing_trial",
            "label": "Reprocessing or not",
            "arms": [{"arm": "reprocessing", "ratio": 2}, {"arm": "usual_care"}],
        },
        {
            "code": "open_placebo_trial",
            "label": "Placebo or not",
            "arms": [{"arm": "open_placebo", "ratio": 2}, {"arm": "usual_care"}],
        },
    ],
}
SECRETS = [str(each["code"]) for each in (*ARMS, *FIRST["groups"])]
GROUPS = {group["code"]: {each["arm"] for each in group["arms"]} for group in FIRST["groups"]}
MINIMISED: dict[str, object] = {"measure": "range", "probability": "4/5", "weights": [], "size_weight": 1}


def staged(**changes: Any) -> Study:
    allocation = {"method": "minimisation", "strata": [BY_PAIN], "first_stage": {**FIRST, **changes}}
    return definition(arms=ARMS, treatment=[], allocation=allocation)


class Trial:
    """A trial of two stages, with both lists sealed."""

    def __init__(self, session: Session, study: Study | None = None) -> None:
        self.session = session
        self.study = study_of(session, study or staged())
        code = self.study.code
        self.statistician = actor(session, self.study, Role.STATISTICIAN, name=f"statistician_{code}")
        self.coordinator = actor(session, self.study, Role.COORDINATOR, "SYD", name=f"coordinator_{code}")
        self.first = self.sealed(first_stage=True, options={"block_sizes": [4]}, slots_per_stratum=40)
        self.last = self.sealed(options=MINIMISED)
        self.people: list[Participant] = []

    def sealed(self, *, first_stage: bool = False, **told: Any) -> int:
        method = "permuted_blocks" if first_stage else "minimisation"
        asked: dict[str, Any] = {"method": method, "first_stage": first_stage, "by": self.statistician, "now": NOW}
        made = draw(self.session, self.study, **asked, **told)
        assert made.id is not None
        seal(self.session, self.study, made.id, by=self.statistician, now=NOW)
        return made.id

    def comes(self, nrs: int = 5) -> Participant:
        person = participant(self.session, self.study, len(self.people) + 1, "SYD", nrs)
        self.people.append(person)
        return person

    def begins(self, person: Participant, **told: Any) -> Any:
        return randomise_first(self.session, self.study, person, by=self.coordinator, now=NOW, **told)

    def ends(self, person: Participant) -> Any:
        return randomise(self.session, self.study, person, by=self.coordinator, now=NOW)

    def whole(self, count: int) -> None:
        for number in range(count):
            person = self.comes(8 if number % 3 else 5)
            self.begins(person)
            self.ends(person)

    def found(self) -> list[tuple[str, str]]:
        """Group and arm of everybody, opened by the statistician."""
        told: dict[str, Any] = {"by": self.statistician, "why": "Test", "now": NOW}
        ids = [person.id for person in self.people if person.id is not None]
        groups = open_groups(self.session, self.study, ids, **told)
        arms = open_envelopes(self.session, self.study, ids, **told)
        return [(groups[each], arms[each]) for each in ids]

    def files(self, sequence: int) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
        told: dict[str, Any] = {"by": self.statistician}
        certificate = reads.certificate(self.session, self.study, sequence, **told)
        proofs = list(reads.proofs(self.session, self.study, sequence, why="Audit", now=NOW, **told))
        close(self.session, self.study, sequence, why="Done", now=NOW, **told)
        return certificate, proofs, open_plan(self.session, self.study, sequence, now=NOW, **told)

    def log(self) -> list[Any]:
        return list(self.session.execute(select(ENTRY).order_by(ENTRY.c.position)).all())


@pytest.fixture
def trial(session: Session) -> Trial:
    return Trial(session)


def test_whoever_was_given_a_group_is_no_screen_failure(trial: Trial):
    given, waits = trial.comes(), trial.comes()
    trial.begins(given)
    reads.refuse_staged(trial.session, waits, action=FAIL_SCREENING)
    with pytest.raises(Refused, match="Record a withdrawal instead"):
        reads.refuse_staged(trial.session, given, action=FAIL_SCREENING)


@pytest.mark.requirement("RND-1", "RND-5")
def test_a_group_comes_first_and_the_arm_is_one_of_the_group(trial: Trial):
    trial.whole(24)
    counts = Counter(trial.found())
    assert {(group, arm) for group, arm in counts} == {(group, arm) for group in GROUPS for arm in GROUPS[group]}
    for group, arms in GROUPS.items():
        treated = next(arm for arm in arms if arm != "usual_care")
        assert sum(counts[group, arm] for arm in arms) == 12, "whole blocks of four, 1:1"
        assert abs(counts[group, treated] - 8) <= 1, "2:1 within the group"


def test_the_steps_come_in_their_order_and_once(trial: Trial):
    person = trial.comes()

    def gates(first: bool) -> dict[str, str | None]:
        asked = reads.first_stage_gates_of if first else reads.gates_of
        return {
            gate.code: gate.reason for gate in asked(trial.session, trial.study, person, by=trial.coordinator, now=NOW)
        }

    assert not any(gates(first=True).values())
    assert gates(first=False)["stage"] == "“Entry” comes before it, and is not done yet. Do that step first."
    with pytest.raises(Refused, match="“Entry” comes before it"):
        trial.ends(person)
    made = trial.begins(person)
    assert (made.participant_id, made.allocated_by) == (person.id, trial.coordinator.username)
    assert not any(gates(first=False).values())
    assert "“Entry” is done once" in str(gates(first=True)["not_staged"])
    with pytest.raises(Refused, match="is done once"):
        trial.begins(person)
    assert trial.begins(person, again=True) == made == reads.stage_of(trial.session, person.id or 0)
    assert trial.ends(person).number == 1
    with pytest.raises(Refused, match="is done once"):
        trial.begins(person)


@pytest.mark.parametrize(
    ("after", "status", "words"),
    [
        ("screening", "screened", None),
        ("screening", "withdrawn", "has withdrawn"),
        ("screening", "screen_failed", "is not eligible"),
        ("consent", "consented", None),
        ("consent", "withdrawn", "has withdrawn"),
    ],
)
def test_the_first_stage_waits_for_what_its_protocol_says(session: Session, after: str, status: str, words: str | None):
    trial = Trial(session, staged(after=after))
    person = trial.comes()
    session.execute(update(reads.PARTICIPANT).where(reads.PARTICIPANT.c.id == person.id).values(status=status))
    session.refresh(person)
    if words is None:
        trial.begins(person)
    else:
        with pytest.raises(Refused, match=words):
            trial.begins(person)
        assert reads.stage_of(session, person.id or 0) is None


def test_without_its_list_the_first_stage_is_not_open_and_the_last_lends_it_none(session: Session):
    study = study_of(session, staged())
    statistician, coordinator = (
        actor(session, study, Role.STATISTICIAN),
        actor(session, study, Role.COORDINATOR, "SYD"),
    )
    made = draw(session, study, method="minimisation", options=MINIMISED, by=statistician, now=NOW)
    seal(session, study, made.id or 0, by=statistician, now=NOW)
    person = participant(session, study, 1)
    gates = reads.first_stage_gates_of(session, study, person, by=coordinator, now=NOW)
    assert why_not_ready(gates) == "Randomisation is not open for this participant. Call the trial statistician."
    with pytest.raises(Refused, match="not open"):
        randomise_first(session, study, person, by=coordinator, now=NOW)
    told: dict[str, Any] = {"site": "SYD", "slots": 1, "why": "Power cuts", "by": statistician, "now": NOW}
    with pytest.raises(Refused, match="decided one by one"):
        make_pack(session, study, **told)


def test_a_study_of_one_stage_has_no_first(session: Session):
    study = study_of(session)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    person = participant(session, study, 1)
    assert reads.first_stage_gates_of(session, study, person, by=coordinator, now=NOW) == ()
    with pytest.raises(Refused, match="has one stage"):
        randomise_first(session, study, person, by=coordinator, now=NOW)
    statistician = actor(session, study, Role.STATISTICIAN)
    with pytest.raises(NotFound):
        draw(session, study, method="permuted_blocks", first_stage=True, by=statistician, now=NOW)


def test_after_a_first_stage_no_list_gives_the_arms(trial: Trial):
    told: dict[str, Any] = {"by": trial.statistician, "now": NOW}
    with pytest.raises(Invalid, match="decided within a group") as caught:
        draw(trial.session, trial.study, method="list", listing="position,arm\n1,usual_care\n", **told)
    assert [problem.field for problem in caught.value.problems] == ["method"]
    with pytest.raises(Invalid, match="`probability`"):
        draw(trial.session, trial.study, method="minimisation", options={**MINIMISED, "probability": "1/3"}, **told)


@pytest.mark.requirement("RND-12")
def test_the_lists_of_the_two_stages_do_not_replace_each_other(trial: Trial):
    def states() -> list[tuple[str | None, str]]:
        found = reads.sequences(trial.session, trial.study, by=trial.statistician)
        return [(each.stage, each.status) for each in found]

    assert states() == [(None, "sealed"), ("entry", "sealed")]
    trial.sealed(first_stage=True, options={"block_sizes": [2]}, slots_per_stratum=8)
    assert states() == [("entry", "sealed"), (None, "sealed"), ("entry", "retired")]
    trial.begins(trial.comes())
    with pytest.raises(Refused, match="already randomised from the sealed list"):
        trial.sealed(first_stage=True, options={"block_sizes": [2]}, slots_per_stratum=8)
    trial.sealed(options=MINIMISED)  # nobody has an arm yet


@pytest.mark.requirement("REL-14", "E9-3")
@pytest.mark.parametrize("change", ["update", "delete"])
def test_the_database_refuses_to_change_a_first_stage(trial: Trial, change: str):
    trial.begins(trial.comes())
    statement = update(STAGED).values(number=7) if change == "update" else delete(STAGED)
    with pytest.raises(DBAPIError, match="never edited, undone or re-used"), trial.session.begin_nested():
        trial.session.execute(statement)


def test_lists_of_both_stages_are_told_apart_where_their_strata_have_one_code(session: Session):
    by_site = {"code": "site", "label": "Site"}
    study = staged(strata=[by_site])
    allocation = study.allocation.model_copy(update={"strata": study.allocation.first_stage.strata})  # type: ignore[union-attr]
    trial = Trial(session, study.model_copy(update={"allocation": allocation}))
    trial.whole(3)
    assert [(group in GROUPS, arm in GROUPS[group]) for group, arm in trial.found()] == [(True, True)] * 3


@pytest.mark.requirement("REL-1", "REL-13", "E9-3")
def test_many_take_both_steps_at_once_and_every_place_is_taken_once_and_in_order(database: Database):
    with database.writing() as session:
        by_site = {"code": "site", "label": "Site"}
        trial = Trial(session, staged(strata=[by_site]))
        people = [participant(session, trial.study, number, "SYD" if number % 3 else "PER") for number in range(1, 13)]
        everywhere = actor(session, trial.study, Role.COORDINATOR, "PER", name="percy")
        at = {person.id: trial.coordinator if number % 3 else everywhere for number, person in enumerate(people, 1)}
    waiting = list(people)

    def work() -> None:
        while waiting:
            try:
                person = waiting.pop()
            except IndexError:
                return
            at_once_too = (person.id or 0) % 3 == 0  # as an import does, in one transaction
            for step in (randomise_both,) if at_once_too else (randomise_first, randomise):
                with database.writing() as session:
                    step(session, trial.study, person, by=at[person.id], now=NOW)

    at_once(*[work] * 4)
    with database.reading() as session:
        rows = session.execute(
            select(STAGED.c.number, STAGED.c.stratum_id, reads.SLOT.c.position, STAGED.c.allocated_at)
            .join(reads.SLOT, reads.SLOT.c.id == STAGED.c.slot_id)
            .order_by(STAGED.c.number)
        ).all()
        assert [row.number for row in rows] == list(range(1, 13))
        for stratum in {row.stratum_id for row in rows}:
            positions = [row.position for row in rows if row.stratum_id == stratum]
            assert positions == list(range(1, len(positions) + 1))
        assert [row.allocated_at for row in rows] == sorted(row.allocated_at for row in rows)
        decided = session.execute(select(reads.STRATUM.c.used).where(reads.STRATUM.c.sequence_id == trial.last))
        assert decided.scalar_one() == 12


def test_a_list_from_before_there_was_a_first_stage_gives_nobody_an_arm(session: Session):
    one_stage = definition(arms=ARMS, treatment=[], allocation={"method": "minimisation", "strata": [BY_PAIN]})
    study = study_of(session, one_stage)
    statistician = actor(session, study, Role.STATISTICIAN)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    told: dict[str, Any] = {"by": statistician, "now": NOW}
    earlier = draw(session, study, method="minimisation", options=MINIMISED, **told)
    seal(session, study, earlier.id or 0, **told)
    amended = replace(study, definition=staged())
    groups = draw(
        session, amended, method="permuted_blocks", block_sizes=(2,), slots_per_stratum=4, first_stage=True, **told
    )
    seal(session, amended, groups.id or 0, **told)
    person = participant(session, amended, 1)
    randomise_first(session, amended, person, by=coordinator, now=NOW)
    with pytest.raises(Refused, match="not open"):
        randomise(session, amended, person, by=coordinator, now=NOW)
    again = draw(session, amended, method="minimisation", options=MINIMISED, **told)
    seal(session, amended, again.id or 0, **told)
    other = participant(session, amended, 2)
    with pytest.raises(Refused, match="not open"):
        randomise(session, study, other, by=coordinator, now=NOW)  # the other way round: a list with groups, and none
    assert randomise(session, amended, person, by=coordinator, now=NOW).number == 1


# Concealment


@pytest.mark.requirement("CONC-1", "CONC-5")
def test_nothing_that_is_written_down_names_a_group(trial: Trial):
    trial.whole(6)
    for entry in trial.log():
        said = " ".join(str(value) for value in entry)
        assert not [code for code in SECRETS if code in said], entry.action
    for table in inspect(trial.session.get_bind()).get_table_names():
        if table in ("study_version", "audit_entry"):
            continue
        for row in trial.session.execute(text(f'SELECT * FROM "{table}"')).all():
            assert not [code for code in SECRETS if code in " ".join(map(str, row))], table


@pytest.mark.requirement("CONC-10", "CONC-11")
def test_two_worlds_differ_in_sealed_bytes_alone(session: Session, monkeypatch: pytest.MonkeyPatch):
    """The same trial from two seeds: other groups and arms, and every row of the same content and size."""
    seeds = iter([bytes([1]) * 48, bytes([2]) * 48, bytes([3]) * 48, bytes([4]) * 48])
    monkeypatch.setattr(actions, "new_seed", lambda: next(seeds))

    def world(code: str) -> tuple[list[Any], list[tuple[str, str]]]:
        trial = Trial(session, staged().model_copy(update={"code": code}))
        trial.whole(9)
        stratum, slot = reads.STRATUM, reads.SLOT
        seen: list[Any] = []
        for query in (
            select(stratum.c.code, stratum.c.slots, stratum.c.used, stratum.c.state),
            select(stratum.c.code, slot.c.position, slot.c.envelope, slot.c.leaf, slot.c.levels).join(
                slot, slot.c.stratum_id == stratum.c.id
            ),
            select(stratum.c.code, STAGED.c.number, STAGED.c.stage, STAGED.c.allocated_at).join(
                STAGED, STAGED.c.stratum_id == stratum.c.id
            ),
        ):
            rows = session.execute(query.where(stratum.c.sequence_id.in_([trial.first, trial.last]))).all()
            seen += sorted([[len(each) if isinstance(each, bytes) else each for each in row] for row in rows], key=str)
        said = select(ENTRY.c.action, ENTRY.c.participant, ENTRY.c.subject, ENTRY.c.new)
        for entry in session.execute(said.where(ENTRY.c.log == code).order_by(ENTRY.c.position)):
            seen.append([*entry[:3], _without_hashes(entry.new)])
        return seen, trial.found()

    one, other = world("worlda"), world("worldb")
    assert one[1] != other[1]
    assert {group for group, _ in one[1]} == {group for group, _ in other[1]}
    assert one[0] == other[0]


def _without_hashes(new: str | None) -> Any:
    said = json.loads(new) if new else None
    if isinstance(said, dict):
        hashes = {"leaf", "root", "digest", "plan", "certificate"}
        return {name: len(str(value)) if name in hashes else value for name, value in said.items()}
    return said


def test_the_sealed_counts_have_every_group_whoever_came():
    plans = {
        code: dynamic.plan_of({"arms": [], "options": {}, "factors": ["a"], "groups": ARMS_OF}, "all", code)
        for code in ARMS_OF
    }
    one = dynamic.joined({}, "x", {"": [1, 0, 0], "0:low": [1, 0, 0]}, plans)
    other = dynamic.joined({}, "y", {"": [1, 0, 0], "0:low": [1, 0, 0]}, plans)
    assert set(one) == set(other) == {"x/", "x/0:low", "y/", "y/0:low"}
    assert dynamic.within(one, "x") == {"": [1, 0, 0], "0:low": [1, 0, 0]}
    assert dynamic.within(one, "y") == {"": [0, 0, 0], "0:low": [0, 0, 0]}


ARMS_OF = {"x": [["a", 2], ["c", 1]], "y": [["b", 2], ["c", 1]]}


@pytest.mark.requirement("CONC-4", "E9-2")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STATISTICIAN])
def test_nobody_but_the_statistician_opens_a_group(trial: Trial, role: Role):
    person = trial.comes()
    trial.begins(person)
    other = actor(trial.session, trial.study, role, "SYD", name="other")
    with pytest.raises(NotFound):
        open_groups(trial.session, trial.study, [person.id or 0], by=other, why="Curious", now=NOW)
    assert not [entry for entry in trial.log() if entry.action == "envelope.opened"], "deciding shows it to nobody"
    opened = open_groups(trial.session, trial.study, [person.id or 0], by=trial.statistician, why="Audit", now=NOW)
    assert set(opened.values()) <= set(GROUPS)
    (entry,) = [entry for entry in trial.log() if entry.action == "envelope.opened"]
    assert (entry.participant, entry.subject) == (person.code, "stage")


def test_there_is_no_arm_to_unblind_before_the_last_stage(trial: Trial):
    person = trial.comes()
    trial.begins(person)
    by: Actor = trial.statistician
    with pytest.raises(Refused, match="not randomised yet"):
        open_envelope(trial.session, trial.study, person, by=by, why="Curious", now=NOW)


# The programs that do not import us


@pytest.mark.requirement("RND-14", "CONC-9", "E9-3")
def test_both_stages_are_verified_and_whatever_was_bent_is_found(
    trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    trial.whole(5)
    root_before = [entry for entry in trial.log() if entry.action == "sequence.sealed"]
    assert len(root_before) == 2
    first, last = trial.files(trial.first), trial.files(trial.last)
    assert first[0]["stage"] == "entry"
    assert "stage" not in last[0]
    assert last[2]["groups"]["open_placebo_trial"] == [["open_placebo", 2], ["usual_care", 1]]
    closed = [entry for entry in trial.log() if entry.action == "sequence.closed"][-1]
    root = json.loads(closed.new)["root"]
    lists, draws = runpy.run_path(str(SCRIPT))["main"], runpy.run_path(str(DRAWS))["main"]

    def verified(stage: Any, decided: Any) -> tuple[int, int]:
        for name, files in (("first", stage), ("last", decided)):
            (tmp_path / name).mkdir(exist_ok=True)
            _write(tmp_path / name, *files)
        of_first = [str(tmp_path / "first" / name) for name in ("certificate", "proofs", "plan")]
        of_last = [str(tmp_path / "last" / name) for name in ("certificate", "proofs", "plan")]
        return lists(of_first), draws([*of_last, root, of_first[1]])

    assert verified(first, last) == (0, 0), capsys.readouterr().out
    assert "5 allocations, each the committed next one" in capsys.readouterr().out
    every_flip_is_found(draws, [tmp_path / "last" / name for name in ("certificate", "proofs", "plan")], root)
    every_flip_is_found(lists, [tmp_path / "first" / name for name in ("certificate", "proofs", "plan")])
    other = dict(zip(GROUPS, reversed(GROUPS), strict=True))

    def bent() -> Iterator[tuple[str, Any, Any, tuple[int, int]]]:
        for at in range(5):
            swapped = copy.deepcopy(first)
            swapped[1][at]["arm"] = other[swapped[1][at]["arm"]]
            yield f"the group of {at}", swapped, last, (1, 1)
            moved = copy.deepcopy(last)
            moved[1][at]["group"] = other[moved[1][at]["group"]]
            yield f"the group in which {at} was decided", first, moved, (0, 1)
            given = copy.deepcopy(last)
            given[1][at]["arm"] = next(iter(GROUPS[given[1][at]["group"]] - {given[1][at]["arm"]}))
            yield f"the arm of {at}", first, given, (0, 1)
            late = copy.deepcopy(first)
            late[1][at]["allocated_at"] = "2031-01-01T00:00:00+00:00"
            yield f"the first stage of {at} after the last", late, last, (int(at < 4), 1)
        fewer = copy.deepcopy(first)
        del fewer[1][4]
        yield "somebody without a first stage", fewer, last, (0, 1)

    for what, stage, decided, codes in bent():
        assert verified(stage, decided) == codes, what


# The definition


def test_a_study_without_stages_is_what_it_was():
    study = definition()
    assert "first_stage" not in json.loads(canonical(study))["allocation"]
    assert json.loads(canonical(staged()))["allocation"]["first_stage"]["code"] == "entry"
    with pytest.raises(ValueError, match="one stage"):
        study.as_first_stage()


def changed(at: int, **values: Any) -> list[dict[str, Any]]:
    groups = copy.deepcopy(FIRST["groups"])
    groups[at].update(values)
    return list(groups)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"groups": changed(0, ratio=2)}, "Both stages give reprocessing with the chance 4/9"),
        ({"groups": changed(0, arms=[{"arm": "nothing"}, {"arm": "usual_care"}])}, "There is no arm “nothing”."),
        ({"groups": changed(0, code="open_placebo_trial")}, "There are two groups “open_placebo_trial”."),
        (
            {"strata": [{**BY_PAIN, "expression": "if([baseline][nrs] > 6, 'high', 'low')"}]},
            "baseline",
        ),
        ({"strata": [{"code": "site", "label": "Site"}, {"code": "place", "label": "Place"}]}, "by site twice"),
        ({"label": "reprocessing or open_placebo"}, "reprocessing"),
    ],
)
def test_stages_that_contradict_each_other_are_found(changes: dict[str, Any], words: str):
    said = [finding.message for finding in problems(staged(**changes)) if finding.is_error]
    assert [message for message in said if words in message], said


def test_stages_that_agree_are_not_complained_of():
    said = [finding.message for finding in problems(staged()) if finding.is_error]
    assert not [message for message in said if "stage" in message or "group" in message], said


def test_only_a_method_that_decides_at_each_allocation_follows_a_first_stage():
    study = staged()
    allocation = study.allocation.model_copy(update={"method": "simple"})
    said = [finding.message for finding in problems(study.model_copy(update={"allocation": allocation}))]
    assert [message for message in said if "write `minimisation`" in message]
    unequal = staged(method="big_stick", groups=changed(0, ratio=2))
    assert [finding for finding in problems(unequal) if "does not fit these groups" in finding.message]


def test_three_groups_of_equal_chance_follow_from_two_steps():
    chances: dict[str, Fraction] = {}
    for group in staged().allocation.first_stage.groups:  # type: ignore[union-attr]
        for each in group.arms:
            share = Fraction(1, 2) * Fraction(each.ratio, sum(arm.ratio for arm in group.arms))
            chances[each.arm] = chances.get(each.arm, Fraction(0)) + share
    assert set(chances.values()) == {Fraction(1, 3)}


@pytest.mark.requirement("CONC-11")
@pytest.mark.parametrize("act", [actions.close, actions.discard_draw])
def test_no_reason_of_what_becomes_of_a_list_names_an_arm(trial: Trial, act: Any):
    told: dict[str, Any] = {"by": trial.statistician, "now": NOW}
    with pytest.raises(Invalid, match="it names an arm"):
        act(trial.session, trial.study, trial.last, why="Too many had the open placebo", **told)
