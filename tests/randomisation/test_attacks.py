"""What somebody tried on the sealed room, and what once worked. Each test failed before it was mended."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.audit.newest import Newest
from app.capture.locks.reads import LOCK
from app.foundation.errors import Refused
from app.people.permissions import Role
from app.randomisation import commitment, reads
from app.randomisation.actions import draw, randomise, seal
from app.randomisation.downtime.actions import make_pack
from app.randomisation.escrow.actions import store_key
from app.randomisation.escrow.reads import ESCROW
from app.randomisation.opening import STRATUM
from app.randomisation.unblinding import actions as unblinding
from app.randomisation.unblinding.reads import VISIT, case_of, closing, every_released_arm
from app.randomisation.unblinding.rules import Closing, why_not_yet
from app.schedule.status import VisitStatus
from app.studies.definition import Study
from app.studies.in_use import StudyInUse
from app.studies.rules import names_an_arm, words_of_an_arm
from app.studies.rules.blinding import leaks
from tests.randomisation.small import ARMS, BY_PAIN, definition
from tests.randomisation.test_escrow import PRIVATE, pem_of
from tests.randomisation.test_first_stage import staged
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

BY_SITE = {"code": "site", "label": "Site"}
MINIMISED = {"measure": "range", "probability": "4/5"}


def used(session: Session) -> int:
    return int(sum(session.execute(select(STRATUM.c.used)).scalars()))


@pytest.mark.requirement("REL-17", "REL-18")
def test_a_database_that_was_put_back_hands_out_no_pack(session: Session):
    """It would seal for paper what somebody has got since, and paper asks no server."""
    study = study_of(session)
    sealed(session, study)
    statistician = actor(session, study, Role.STATISTICIAN)
    told: dict[str, Any] = {"site": "SYD", "slots": 2, "why": "Power cuts", "by": statistician, "now": NOW}
    with pytest.raises(Refused, match="put back from a backup"):
        make_pack(session, study, newest=Newest(study.code, 9_000, "00" * 32), **told)
    assert used(session) == 0
    make_pack(session, study, newest=None, **told)


@pytest.mark.requirement("CONC-3", "CONC-4")
def test_the_length_of_a_list_is_not_found_by_trying_certificates(session: Session):
    """Everybody who reads the log knows the hash of the certificate, and nearly all that stands in it."""
    study = study_of(session, definition(allocation={"method": "permuted_blocks"}))
    made = sealed(session, study, slots=9, sizes=(4,))
    entry = session.execute(select(ENTRY.c.new).where(ENTRY.c.action == "sequence.sealed")).scalar_one()
    certificate = reads.certificate(session, study, made.id or 0, by=actor(session, study, Role.STATISTICIAN))
    assert commitment.fingerprint(certificate) in entry
    known = {name: value for name, value in certificate.items() if name not in ("slots", "strata", "salt")}
    for length in range(1, 50):
        tried = {**known, "slots": length, "strata": {"all": length}}
        assert commitment.fingerprint(tried) not in entry, f"it has {length} slots, so its last block was filled up"


@pytest.mark.requirement("CONC-2", "RND-9")
def test_what_is_escrowed_is_as_long_whatever_the_block_sizes(session: Session):
    study = study_of(session)
    statistician = actor(session, study, Role.STATISTICIAN)
    store_key(session, study, pem=pem_of(PRIVATE), by=statistician, now=NOW)
    for sizes in ((4,), (4, 6, 8, 10)):
        told: dict[str, Any] = {"method": "permuted_blocks", "block_sizes": sizes, "slots_per_stratum": 8}
        drawn = draw(session, study, by=statistician, now=NOW, **told)
        seal(session, study, drawn.id or 0, by=statistician, now=NOW)
    lengths = {len(each) for each in session.execute(select(ESCROW.c.encrypted)).scalars()}
    assert len(lengths) == 1


@pytest.mark.requirement("CONC-1", "RND-13")
@pytest.mark.parametrize(
    ("method", "slots", "told"), [("simple", 1, False), ("simple", 40, True), ("wei_urn", 2, False)]
)
def test_the_counts_of_a_short_list_do_not_tell_its_order(session: Session, method: str, slots: int, told: bool):
    """Who draws it, reviews it, and draws again until it pleases."""
    study = study_of(session, definition(allocation={"method": method}))
    statistician = actor(session, study, Role.STATISTICIAN)
    options = {"alpha": 0, "beta": 1} if method == "wei_urn" else {}
    asked: dict[str, Any] = {"method": method, "slots_per_stratum": slots, "options": options}
    drawn = draw(session, study, by=statistician, now=NOW, **asked)
    counts = reads.balance(session, study, drawn.id or 0, by=statistician)
    assert bool(counts.slots_per_arm) is told
    assert counts.slots == slots


# A plan that was changed while a list was sealed


def _plans() -> list[Any]:
    blocks: dict[str, Any] = {"method": "permuted_blocks", "block_sizes": (4,), "slots_per_stratum": 8}
    minimised: dict[str, Any] = {"method": "minimisation", "options": MINIMISED}
    by_both = {"method": "minimisation", "strata": [BY_SITE, BY_PAIN]}
    other_arm = [ARMS[0], {"code": "waiting", "label": "Waiting list"}]
    return [
        pytest.param({}, blocks, {"arms": other_arm, "treatment": []}, id="another arm"),
        pytest.param({}, blocks, {"arms": [{**ARMS[0], "ratio": 2}, ARMS[1]]}, id="another ratio"),
        pytest.param(
            {"allocation": by_both},
            minimised,
            {"allocation": {**by_both, "strata": [BY_PAIN, BY_SITE]}},
            id="factors in another order",
        ),
        pytest.param({"allocation": by_both}, minimised, {"allocation": {**by_both, "strata": [BY_PAIN]}}, id="fewer"),
    ]


@pytest.mark.requirement("RND-12", "E9-4")
@pytest.mark.parametrize(("first", "asked", "then"), _plans())
def test_nobody_is_randomised_from_a_list_of_another_plan(
    session: Session, first: dict[str, Any], asked: dict[str, Any], then: dict[str, Any]
):
    """Before the first participant a version may change the plan, and a list stays sealed: it gives what it was for."""
    study = study_of(session, definition(**first))
    statistician = actor(session, study, Role.STATISTICIAN)
    drawn = draw(session, study, by=statistician, now=NOW, **asked)
    seal(session, study, drawn.id or 0, by=statistician, now=NOW)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    amended = replace(study, definition=definition(**{**first, **then}))
    person = participant(session, study, 1)
    with pytest.raises(Refused, match="Randomisation is not open for this participant"):
        randomise(session, amended, person, by=coordinator, now=NOW)
    assert used(session) == 0
    assert randomise(session, study, person, by=coordinator, now=NOW).number == 1


# The blind


class Ended:
    """A study with three who are randomised, and two who may open it."""

    def __init__(self, session: Session, study: Study | None = None) -> None:
        self.session, self.study = session, study_of(session, study)
        sealed(session, self.study)
        self.coordinator = actor(session, self.study, Role.COORDINATOR, "SYD")
        self.manager = actor(session, self.study, Role.DATA_MANAGER)
        self.statistician = actor(session, self.study, Role.STATISTICIAN)
        self.people = 0
        for _ in range(3):
            self.comes()

    def comes(self, *, after: timedelta = timedelta(0)) -> int:
        self.people += 1
        person = participant(self.session, self.study, self.people)
        randomise(self.session, self.study, person, by=self.coordinator, now=NOW + after)
        assert person.id is not None
        return person.id


@pytest.mark.requirement("WHO-1", "CONC-14")
def test_a_decision_opens_nobody_who_is_randomised_after_it(session: Session):
    """Recruitment goes on, or begins again: the arms of those who come then would tell the block that is open."""
    ended = Ended(session, definition(unblinding={"planned_from": "2026-03-14"}))
    study, manager = ended.study, ended.manager
    number = unblinding.request(session, study, None, why="The analysis", by=manager, now=NOW)
    unblinding.approve(session, study, number, prove=lambda: None, by=ended.statistician, now=NOW)
    later = timedelta(hours=1)
    ended.comes(after=later)
    case = case_of(session, study, number, by=manager, now=NOW + later)
    rows = list(every_released_arm(session, study, case, by=manager, now=NOW + later))
    assert [row.number for row in rows] == [1, 2, 3]


def _locked(session: Session, study: StudyInUse, *, participant_id: int | None, visit: str | None, kind: str) -> None:
    values = {"participant_id": participant_id, "participant_key": participant_id or 0}
    values |= {"visit": visit, "visit_key": visit or "", "kind": kind}  # type: ignore[dict-item]
    session.execute(insert(LOCK).values(study_id=study.id, why="Clean", despite=False, at=NOW, by="xenia", **values))


@pytest.mark.requirement("E6-4", "WHO-1")
def test_a_planned_unblinding_waits_until_data_are_locked(session: Session):
    ended = Ended(session)
    study = ended.study
    assert closing(session, study).not_locked == 0, "no visit was held, so nobody has data"
    session.execute(update(VISIT).values(status=VisitStatus.HELD, held_on=date(2026, 3, 20)))
    ids = sorted({*session.execute(select(VISIT.c.participant_id)).scalars()})
    assert closing(session, study).not_locked == 3
    _locked(session, study, participant_id=None, visit=None, kind="frozen")
    _locked(session, study, participant_id=ids[0], visit=None, kind="locked")
    _locked(session, study, participant_id=ids[1], visit="session1", kind="locked")
    assert closing(session, study).not_locked == 2, "freezing is no lock, and one visit is not all"
    number = unblinding.request(session, study, None, why="The analysis", by=ended.manager, now=NOW)
    session.execute(update(reads.SITE).values(is_open=False))
    with pytest.raises(Refused, match="The data of 2 participants are not locked"):
        unblinding.approve(session, study, number, prove=lambda: None, by=ended.statistician, now=NOW)
    for visit in ("session1", "session2"):
        _locked(session, study, participant_id=None, visit=visit, kind="locked")
    assert closing(session, study).not_locked == 0
    unblinding.approve(session, study, number, prove=lambda: None, by=ended.statistician, now=NOW)


def test_one_whose_data_are_not_locked_is_enough():
    reason = why_not_yet(definition(), Closing(40, 0, 0, 1), NOW.date())
    assert reason is not None
    assert reason.startswith("The data of one participant are not locked")


@pytest.mark.requirement("CONC-16", "E6-6")
@pytest.mark.parametrize("text", ["She is in the open_placebo_trial.", "He asked about “Placebo or not”, his trial."])
def test_the_group_of_a_first_stage_is_not_written_where_blinded_people_read(text: str):
    """It says that somebody has one of two arms; with what else is known of them that may be the arm."""
    assert names_an_arm(staged(), text)
    assert words_of_an_arm(staged(), text)
    assert not names_an_arm(definition(), text)


@pytest.mark.requirement("CONC-16")
def test_the_leak_lint_knows_the_groups_of_a_first_stage():
    said = staged()
    visit = said.visits[0].model_copy(update={"label": "Placebo or not: baseline"})
    found = [problem[1] for problem in leaks(said.model_copy(update={"visits": (visit, *said.visits[1:])}))]
    assert any("“Placebo or not”" in words for words in found)
