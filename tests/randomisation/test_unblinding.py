"""What is true of unblinding: where a case stands, when it may be approved, which words say an arm; and the warrant."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session

from app.foundation.errors import NotAllowed, NotFound
from app.people.permissions import Role
from app.randomisation.actions import randomise
from app.randomisation.opening import open_unblinded
from app.randomisation.unblinding import actions, reads
from app.randomisation.unblinding.rules import (
    Closing,
    Earlier,
    Kind,
    State,
    accidental_problems,
    emergency_problems,
    state_of,
    unusual_sites,
    why_not_decide,
    why_not_yet,
)
from app.studies.definition import Unblinding
from app.studies.rules import names_an_arm, problems
from tests.factories import definition as mini
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

HOUR = timedelta(hours=1)
STUDY = mini()


@pytest.mark.requirement("E6-4")
@pytest.mark.parametrize(
    ("kind", "facts", "state"),
    [
        ("emergency", {"opens_until": NOW - HOUR}, State.DONE),
        ("accidental", {}, State.OPEN),
        ("accidental", {"assessed_at": NOW - HOUR}, State.ASSESSED),
        ("planned", {"expires_at": NOW + HOUR}, State.REQUESTED),
        ("planned", {"expires_at": NOW}, State.EXPIRED),
        ("planned", {"expires_at": NOW - HOUR, "approved": False}, State.REFUSED),
        ("planned", {"expires_at": NOW - HOUR, "approved": True, "opens_until": NOW}, State.APPROVED),
        ("planned", {"approved": True, "opens_until": NOW - HOUR}, State.CLOSED),
    ],
)
def test_where_a_case_stands(kind: str, facts: dict[str, Any], state: State):
    known: dict[str, Any] = {"approved": None, "expires_at": None, "opens_until": None, "assessed_at": None, **facts}
    assert state_of(kind, **known, now=NOW) is state


@pytest.mark.requirement("E6-4", "WHO-1")
@pytest.mark.parametrize(
    ("closing", "first", "words"),
    [
        (Closing(0, 0, 0), None, "Nobody is randomised"),
        (Closing(39, 1, 0), None, "Recruitment is still open"),
        (Closing(39, 0, 1), None, "One visit is still planned"),
        (Closing(40, 2, 7), None, "7 visits are still planned"),
        (Closing(39, 0, 0), None, None),
        (Closing(40, 2, 0), None, None),
        (Closing(1, 2, 99), date(2026, 3, 14), None),
        (Closing(40, 0, 0), date(2026, 3, 15), "from 2026-03-15"),
    ],
)
def test_when_a_planned_unblinding_may_be_approved(closing: Closing, first: date | None, words: str | None):
    study = mini(unblinding=Unblinding(planned_from=first).model_dump())
    reason = why_not_yet(study, closing, date(2026, 3, 14))
    assert (reason is None) if words is None else (reason is not None and words in reason)


@pytest.mark.requirement("E6-4")
@pytest.mark.parametrize("state", list(State))
def test_only_what_is_requested_is_decided_and_never_by_who_asked(state: State):
    assert (why_not_decide(state, requested_by="one", by="two") is None) is (state is State.REQUESTED)
    assert why_not_decide(state, requested_by="one", by="one") is not None


@pytest.mark.requirement("E6-3")
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("They had the sham", True),
        ("SHAM!", True),
        ("zephyrine-training", True),
        ("Zephyrine\n training", True),
        ("He was shamed, and inactive", False),
        ("Training as usual", False),
        ("", False),
    ],
)
def test_which_words_say_an_arm(text: str, names: bool):
    assert names_an_arm(STUDY, text) is names


@pytest.mark.requirement("E6-3")
@given(before=st.text(max_size=40), after=st.text(max_size=40), arm=st.sampled_from(["sham", "Placebex device"]))
def test_an_arm_is_found_wherever_it_stands_as_a_word(before: str, after: str, arm: str):
    assert names_an_arm(STUDY, f"{before} {arm.upper()} {after}")
    found = accidental_problems(
        STUDY,
        learnt_by="The assessor",
        how=f"{before} {arm} {after}",
        learnt_on=date(2026, 3, 2),
        randomised_on=date(2026, 3, 1),
        today=date(2026, 3, 3),
    )
    assert {each.field for each in found} == {"how"}


@pytest.mark.requirement("E6-3")
def test_a_short_code_is_an_arm_only_beside_its_noun():
    study = mini(arms=[{"code": "A", "label": "Zephyrine training"}, {"code": "B", "label": "Placebex device"}])
    assert not names_an_arm(study, "A letter lay open")
    assert names_an_arm(study, "It said arm A")


@pytest.mark.requirement("E6-4")
def test_the_same_words_do_not_break_the_blind_of_one_participant_twice():
    def problem(by: str, why: str) -> list[str]:
        earlier = [Earlier(1, 7, NOW, "ann", "Took  too much")]
        found = emergency_problems(STUDY, reason="overdose", why=why, asked_by="ED", earlier=earlier, by=by)
        return [each.rule for each in found]

    assert problem("ann", "took too MUCH") == ["repeated"]
    assert problem("ann", "Asked again by the ward") == []
    assert problem("bob", "took too much") == []
    assert problem("bob", "It was sham") == ["arm"]


@pytest.mark.requirement("CONC-14")
@given(st.lists(st.tuples(st.text(max_size=5), st.integers(0, 20)), max_size=8), st.integers(2, 10))
def test_unusual_are_the_sites_that_reach_the_number(counts: list[tuple[str, int]], limit: int):
    study = mini(unblinding={"alert_count": limit})
    found = unusual_sites(study, counts)
    assert all(count >= limit for _, count in found)
    assert len(found) == sum(count >= limit for _, count in counts)


@pytest.mark.requirement("E6-5")
def test_a_reason_is_not_there_twice_and_names_no_arm():
    twice = [{"code": "x", "label": "One"}, {"code": "x", "label": "Two"}]
    assert any("unblinding reasons" in each.message for each in problems(mini(unblinding={"reasons": twice})))
    leaking = [{"code": "x", "label": "Reaction to sham"}]
    assert any("names the arm" in each.message for each in problems(mini(unblinding={"reasons": leaking})))
    assert not any("unblinding" in each.message for each in problems(mini()))


# The warrant


@pytest.mark.requirement("WHO-1", "SPI-24c")
def test_an_unblinding_opens_its_own_envelope_to_its_own_person_and_at_its_moment(session: Session):
    study = study_of(session)
    sealed(session, study)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    people = [participant(session, study, number) for number in (1, 2)]
    for each in people:
        randomise(session, study, each, by=coordinator, now=NOW)
        session.refresh(each)
    doctor = actor(session, study, Role.INVESTIGATOR, "SYD")
    other = actor(session, study, Role.INVESTIGATOR, "SYD", name="colleague")
    said = {"reason": "overdose", "why": "Took too much", "asked_by": "ED"}
    shown = actions.unblind(session, study, people[0], **said, prove=lambda: None, by=doctor, now=NOW)
    ids = [each.id for each in people if each.id is not None]

    def opened(by: Any, now: datetime) -> dict[int, str]:
        return open_unblinded(session, study, shown.number, ids, by=by, why="Test", now=now)

    assert opened(doctor, NOW) == {ids[0]: shown.arm}
    assert opened(doctor, NOW + timedelta(microseconds=1)) == {}
    assert opened(other, NOW) == {}
    assert open_unblinded(session, study, shown.number + 1, ids, by=doctor, why="Test", now=NOW) == {}
    with pytest.raises(NotAllowed):
        opened(coordinator, NOW)


@pytest.mark.requirement("E6-6")
def test_nothing_is_written_or_opened_before_it_is_proved_who_it_is(session: Session):
    study = study_of(session)
    sealed(session, study)
    someone = participant(session, study, 1)
    randomise(session, study, someone, by=actor(session, study, Role.COORDINATOR, "SYD"), now=NOW)
    session.refresh(someone)
    doctor = actor(session, study, Role.INVESTIGATOR, "SYD")

    class NotMe(Exception):
        pass

    def fails() -> None:
        raise NotMe

    said = {"reason": "overdose", "why": "Took too much", "asked_by": "ED"}
    with pytest.raises(NotMe):
        actions.unblind(session, study, someone, **said, prove=fails, by=doctor, now=NOW)
    assert reads.cases(session, study, by=doctor, now=NOW).rows == []


@pytest.mark.requirement("WHO-1")
def test_a_whole_study_is_read_in_batches_by_whoever_asked(session: Session, monkeypatch: pytest.MonkeyPatch):
    study = study_of(session)
    sealed(session, study)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    for number in range(1, 6):
        randomise(session, study, participant(session, study, number), by=coordinator, now=NOW)
    manager = actor(session, study, Role.DATA_MANAGER)
    statistician = actor(session, study, Role.STATISTICIAN)
    monkeypatch.setattr(actions, "why_not_yet", lambda *_: None)
    monkeypatch.setattr(reads, "BATCH", 2)
    number = actions.request(session, study, None, why="The analysis", by=manager, now=NOW)
    actions.approve(session, study, number, prove=lambda: None, by=statistician, now=NOW)
    case = reads.case_of(session, study, number, by=manager, now=NOW)
    assert case.kind is Kind.PLANNED
    rows = list(reads.every_released_arm(session, study, case, by=manager, now=NOW))
    assert [row.number for row in rows] == [1, 2, 3, 4, 5]
    assert all(study.definition.arm(row.arm) for row in rows)
    with pytest.raises(NotFound):
        reads.every_released_arm(session, study, case, by=statistician, now=NOW)
    assert datetime(2026, 3, 28, 9, 26, 53, 589793, tzinfo=UTC) == case.opens_until
