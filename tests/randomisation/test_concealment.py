"""The statement of concealment: it holds while nobody did both, and anything that speaks against it makes it fall."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.errors import NotAllowed, NotFound, Refused
from app.people.access import Actor, Grant
from app.people.models import Membership
from app.people.permissions import Role
from app.randomisation.actions import close, draw, seal
from app.randomisation.concealment.reads import KeptActs, concealment
from app.randomisation.concealment.rules import Act, Right, overlaps
from app.randomisation.reads import SEQUENCE
from app.studies.in_use import StudyInUse
from tests.factories import NOW, mini_study, person
from tests.plans import plans

pytestmark = pytest.mark.both_databases


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return mini_study(session)


@pytest.fixture
def statistician(session: Session, study: StudyInUse) -> Actor:
    return person(session, study, Role.STATISTICIAN, site_code=None)


@pytest.fixture
def sequence_id(session: Session, study: StudyInUse, statistician: Actor) -> int:
    """A list that is sealed, and two people who were enrolled and randomised from it by a coordinator."""
    options = {"method": "permuted_blocks", "options": {"block_sizes": [4]}, "slots_per_stratum": 8}
    made = draw(session, study, **options, by=statistician, now=NOW)  # type: ignore[arg-type]
    assert made.id is not None
    seal(session, study, made.id, by=statistician, now=NOW)
    coordinator = person(session, study, Role.COORDINATOR)
    for code in ("M-001", "M-002"):
        write(session, coordinator, Change("participant.screened", code, "screening"))
        write(session, coordinator, Change("participant.randomised", code, "status"))
    clinician = person(session, study, Role.CLINICIAN)
    write(session, clinician, Change("envelope.opened", "M-001"), why="To treat")
    return made.id


def write(session: Session, by: Actor, change: Change, *, why: str | None = None) -> None:
    record(session, "mini", [change], by=by, now=NOW, why=why)


def said(session: Session, study: StudyInUse, by: Actor) -> dict[str, Any]:
    return concealment(session, study, by=by, now=NOW)


@pytest.mark.requirement("CON-17a", "CON-18", "CON-19")
def test_it_holds_and_says_who_did_what_and_where_that_stands_in_the_log(
    session: Session, study: StudyInUse, statistician: Actor, sequence_id: int
):
    found = said(session, study, statistician)
    assert found["holds"] is True
    assert found["overlaps"] == found["opened_before_allocation"] == found["certificates_not_in_log"] == []
    assert {(each["who"], each["action"]) for each in found["access"]} == {
        (statistician.username, "sequence.drawn"),
        (statistician.username, "sequence.sealed"),
    }
    enrolled = {each["action"]: each for each in found["enrolling"]}
    assert (enrolled["participant.randomised"]["number"], enrolled["participant.randomised"]["who"]) == (
        2,
        "coordinator_north",
    )
    assert enrolled["participant.screened"]["first"] < enrolled["participant.randomised"]["last"] < found["log"]["size"]
    (listed,) = found["lists"]
    assert listed["generator"].startswith("HMAC_DRBG")
    assert listed["certificate_in_log"] is not None
    assert listed["software"]["equipoise"]
    assert not {"slots", "strata", "salt", "seed"} & set(listed)


def drew_and_enrolled(session: Session, study: StudyInUse, statistician: Actor) -> None:
    write(session, statistician, Change("participant.screened", "M-003", "screening"))


def held_both_roles_one_after_the_other(session: Session, study: StudyInUse, statistician: Actor) -> None:
    other = person(session, study, Role.COORDINATOR, username="moved")
    drew = Membership(
        person_id=other.person_id,
        study_id=study.id,
        role=Role.STATISTICIAN,
        granted_at=NOW - timedelta(days=9),
        granted_by="test",
        revoked_at=NOW - timedelta(days=2),
        revoked_by="test",
    )
    session.add(drew)
    session.flush()


def opened_early(session: Session, study: StudyInUse, statistician: Actor) -> None:
    clinician = person(session, study, Role.CLINICIAN, username="curious")
    write(session, clinician, Change("envelope.opened", "M-003"), why="To prepare")
    coordinator = person(session, study, Role.COORDINATOR, username="later")
    write(session, coordinator, Change("participant.randomised", "M-003", "status"))


def opened_and_never_allocated(session: Session, study: StudyInUse, statistician: Actor) -> None:
    write(session, statistician, Change("envelope.opened", "M-009"), why="To look")


def group_opened_early(session: Session, study: StudyInUse, statistician: Actor) -> None:
    write(session, statistician, Change("envelope.opened", "M-001", "stage"), why="To look")
    coordinator = person(session, study, Role.COORDINATOR, username="later")
    write(session, coordinator, Change("participant.staged", "M-001", "stage"))


def another_certificate(session: Session, study: StudyInUse, statistician: Actor) -> None:
    session.execute(update(SEQUENCE).values(certificate='{"method":"permuted_blocks","generator":"A coin"}'))


PLANTED: dict[Callable[[Session, StudyInUse, Actor], None], str] = {
    drew_and_enrolled: "overlaps",
    held_both_roles_one_after_the_other: "overlaps",
    opened_early: "opened_before_allocation",
    opened_and_never_allocated: "opened_before_allocation",
    group_opened_early: "opened_before_allocation",
    another_certificate: "certificates_not_in_log",
}


@pytest.mark.requirement("CON-18", "CON-19")
def test_anything_that_is_planted_makes_it_fall(
    session: Session, study: StudyInUse, statistician: Actor, sequence_id: int
):
    for plant, where in PLANTED.items():
        with session.begin_nested() as undone:
            plant(session, study, statistician)
            found = said(session, study, statistician)
            undone.rollback()
        assert found["holds"] is False, plant.__name__
        told = {name for name in set(PLANTED.values()) if found[name]}
        assert told == {where}, plant.__name__
    assert said(session, study, statistician)["holds"] is True


@pytest.mark.requirement("CON-18", "CON-19")
def test_a_log_that_was_read_is_read_no_more_and_the_statement_is_the_same(
    session: Session, study: StudyInUse, statistician: Actor, sequence_id: int
):
    kept = KeptActs()
    more: list[Callable[[], object]] = [
        lambda: None,
        lambda: write(
            session, person(session, study, "coordinator", username="second"), Change("consent.recorded", "M-004")
        ),
        lambda: write(session, statistician, Change("plan.opened")),
        lambda: drew_and_enrolled(session, study, statistician),
        lambda: write(session, statistician, Change("envelope.opened", "M-005"), why="To look"),
        lambda: write(session, statistician, Change("envelope.opened", "M-006"), why="To look"),
        lambda: write(
            session, person(session, study, "coordinator", username="third"), Change("participant.randomised", "M-006")
        ),
        lambda: write(session, statistician, Change("envelope.opened", "M-006"), why="To treat"),
    ]
    size = 0
    for happens in more:
        happens()
        assert kept.of("mini").size == size
        with (
            plans(session, "count(*) AS number") as acts,
            plans(session, "envelope.opened' AND audit_entry.position") as early,
        ):
            again = concealment(session, study, by=statistician, now=NOW, kept=kept)
        assert again == said(session, study, statistician)
        size = again["log"]["size"]
        assert [len(acts), len(early)] == [1, 1]
        if session.get_bind().dialect.name == "sqlite":  # PostgreSQL looks through a log of this size in any way
            bounded = "INDEX ix_audit_entry_action (log=? AND action=? AND position>?)"
            assert bounded in acts[0]
            assert bounded in early[0]
    # From the first envelope that was opened too early on, because somebody may be allocated later.
    assert kept.of("mini").fair == again["opened_before_allocation"][0]["position"] < size


def test_a_log_that_is_another_one_is_read_anew(
    session: Session, study: StudyInUse, statistician: Actor, sequence_id: int
):
    kept = KeptActs()
    with session.begin_nested() as undone:
        drew_and_enrolled(session, study, statistician)
        assert concealment(session, study, by=statistician, now=NOW, kept=kept)["holds"] is False
        undone.rollback()
    before = said(session, study, statistician)
    assert concealment(session, study, by=statistician, now=NOW, kept=kept) == before
    with session.begin_nested() as undone:
        drew_and_enrolled(session, study, statistician)
        concealment(session, study, by=statistician, now=NOW, kept=kept)
        undone.rollback()
    write(session, person(session, study, "coordinator", username="other"), Change("participant.screened", "M-003"))
    assert concealment(session, study, by=statistician, now=NOW, kept=kept)["holds"] is True


@pytest.mark.requirement("CON-19")
def test_an_overlap_says_whether_it_could_have_mattered():
    drew = Act("ada", "sequence.script_taken", 1, 9, 9, NOW, NOW)
    enrolled = Act("ada", "participant.screened", 2, 3, 7, NOW, NOW)
    (after,) = overlaps([drew, enrolled], [], frozenset({"statistician"}))
    assert after["access_first"] is False
    (before,) = overlaps([replace(drew, first=5), enrolled], [], frozenset({"statistician"}))
    assert before["access_first"] is True
    day = timedelta(days=1)
    once = Right("ada", "statistician", NOW, NOW + day)
    for begins, at_once in ((NOW + day, False), (NOW, True)):
        (found,) = overlaps([], [once, Right("ada", "coordinator", begins, None)], frozenset({"statistician"}))
        assert found["at_once"] is at_once


@pytest.mark.requirement("CON-18", "CONC-1")
def test_the_blinded_read_it_once_every_list_is_closed(
    session: Session, study: StudyInUse, statistician: Actor, sequence_id: int
):
    manager = person(session, study, Role.DATA_MANAGER)
    with pytest.raises(Refused, match="once every list is closed"):
        said(session, study, manager)
    for role in (Role.COORDINATOR, Role.INVESTIGATOR, Role.CLINICIAN):
        with pytest.raises(NotAllowed):
            said(session, study, person(session, study, role, username=f"some_{role}"))
    close(session, study, sequence_id, why="The target is reached.", by=statistician, now=NOW)
    assert said(session, study, manager)["holds"] is True
    here = replace(manager, grants=(Grant(Role.DATA_MANAGER, person(session, study, "assessor").grants[0].site_id),))
    with pytest.raises(NotAllowed, match="the whole study"):
        said(session, study, here)


def test_where_nobody_is_allocated_there_is_none(session: Session):
    observed = mini_study(session, allocation={"method": "observed"})
    with pytest.raises(NotFound):
        said(session, observed, person(session, observed, Role.DATA_MANAGER))
