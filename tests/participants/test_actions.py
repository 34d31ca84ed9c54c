"""Screening, status and withdrawal: what is allowed is kept and written down, what is not leaves no trace."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.audit.verify import verify
from app.foundation.database import Database
from app.foundation.errors import Invalid, NotAllowed, NotFound, Refused
from app.participants import actions
from app.participants.actions import fail_screening, mark, screen, withdraw
from app.participants.identity import IDENTITY, PARTICIPANT, participant_key
from app.participants.models import Participant
from app.participants.reads import SCREENING, participant_by_code, screening_and_initials
from app.participants.rules import PersonalData
from app.participants.rules.status import why_not_contact, why_not_transition
from app.participants.status import Status
from app.people.permissions import Permission
from app.studies.definition import WithdrawalLevel
from app.studies.in_use import StudyInUse
from tests.factories import NOW, TODAY, mini_study, person, site
from tests.participants.acts import ANNA, ELIGIBLE, log_of, screened


def _screen(session: Session, study: StudyInUse, **changes: Any) -> Participant:
    asked: dict[str, Any] = {
        "site": site(session, study),
        "answers": ELIGIBLE,
        "failure_reason": None,
        "personal": ANNA,
        "by": person(session, study, "coordinator"),
        "now": NOW,
    }
    return screen(session, study, **{**asked, **changes})[0]


def test_an_eligible_person_is_screened_and_everything_is_written_down(session: Session) -> None:
    study = mini_study(session)
    by = person(session, study, "coordinator")
    one = _screen(session, study, by=by)
    assert one.id is not None
    assert (one.code, one.status, one.screened_on) == ("M-001", "screened", TODAY)
    kept, *_ = screening_and_initials(session, one, by=by)
    assert kept is not None
    assert kept.answers == ELIGIBLE
    assert [verdict.met for verdict in kept.verdicts] == [True, True, True]
    assert kept.eligible
    assert kept.failure_reason is None
    log = log_of(session)
    assert [(entry.action, entry.item) for entry in log[:4]] == [
        ("participant.screened", ""),
        ("screening.answered", "age"),
        ("screening.answered", "pain_screen"),
        ("screening.answered", "surgery"),
    ]
    assert {entry.action for entry in log[4:]} == {"identity.recorded"}
    assert {entry.participant for entry in log} == {"M-001"}
    assert json.loads(log[0].new)["verdicts"] == {"adult": True, "pain": True, "surgery": True}


@pytest.mark.requirement("CON-F2", "P11-f")
@pytest.mark.parametrize(
    ("answers", "given", "reason"),
    [
        ({**ELIGIBLE, "age": 12, "surgery": True}, None, "adult,surgery"),
        ({"age": 12}, None, "adult"),
        ({**ELIGIBLE, "age": 12}, "not_eligible", "not_eligible"),
        (ELIGIBLE, "declined", "declined"),
        ({"age": 44}, "declined", "declined"),
    ],
)
def test_a_screen_failure_is_kept_with_its_reason(
    session: Session, answers: dict[str, Any], given: str | None, reason: str
) -> None:
    study = mini_study(session)
    one = _screen(session, study, answers=answers, failure_reason=given)
    assert one.id is not None
    assert one.status == Status.SCREEN_FAILED
    kept, *_ = screening_and_initials(session, one, by=person(session, study, "coordinator"))
    assert kept is not None
    assert kept.failure_reason == reason


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"answers": {"age": 44}}, ["pain_screen", "surgery"]),
        ({"answers": {**ELIGIBLE, "surgery": {"missing": "UNK"}}}, ["surgery"]),
        ({"answers": {**ELIGIBLE, "age": 999, "pain_screen": "6"}}, ["age", "pain_screen"]),
        ({"answers": {**ELIGIBLE, "arm": 1}}, ["arm"]),
        ({"failure_reason": "because"}, ["failure_reason"]),
        ({"personal": PersonalData(email="nobody")}, ["email"]),
    ],
)
def test_what_cannot_be_kept_is_said_field_by_field(
    session: Session, changes: dict[str, Any], fields: list[str]
) -> None:
    study = mini_study(session)
    with pytest.raises(Invalid) as caught:
        _screen(session, study, **changes)
    assert [problem.field for problem in caught.value.problems] == fields
    assert not log_of(session)


@pytest.mark.requirement("E6-17")
def test_nobody_is_screened_at_a_closed_site(session: Session) -> None:
    study = mini_study(session)
    place = site(session, study)
    place.is_open = False
    with pytest.raises(Refused, match="not open") as caught:
        _screen(session, study, site=place)
    assert caught.value.action == "participant.screen"


def test_only_coordinators_and_investigators_of_the_site_screen(session: Session) -> None:
    study = mini_study(session)
    for role, where in (("assessor", "north"), ("clinician", "north"), ("coordinator", "south")):
        with pytest.raises(NotAllowed):
            _screen(session, study, by=person(session, study, role, site_code=where))
    other = mini_study(session, code="other")
    with pytest.raises(NotFound):
        _screen(session, study, site=site(session, other), by=person(session, other, "coordinator"))


def test_the_day_is_the_one_at_the_site(session: Session) -> None:
    study = mini_study(session)
    evening = NOW.replace(hour=20)  # the next morning in Sydney
    by = person(session, study, "coordinator", "investigator", site_code="south")
    assert _screen(session, study, now=evening).screened_on == TODAY + timedelta(days=1)
    assert _screen(session, study, now=evening, site=site(session, study, "south"), by=by).screened_on == TODAY


def test_nothing_is_stored_when_the_audit_entry_cannot_be(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared_database.writing() as session:
        study = mini_study(session)
        by = person(session, study, "coordinator")
        place = site(session, study)

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(actions, "record", broken)
    with pytest.raises(OSError, match="disk full"), shared_database.writing() as session:
        _screen(session, study, by=by, site=place)
    with shared_database.reading() as session:
        for table in (PARTICIPANT, IDENTITY, SCREENING):
            assert session.execute(select(func.count()).select_from(table)).scalar() == 0
    monkeypatch.undo()
    with shared_database.writing() as session:
        assert _screen(session, study, by=by, site=place).code == "M-001"


@pytest.mark.both_databases
def test_no_number_is_given_twice_or_lost_when_many_are_screened_at_once(database: Database) -> None:
    with database.writing() as session:
        study = mini_study(session)
        by = person(session, study, "coordinator")
        place = site(session, study)

    def one(number: int) -> str:
        try:
            with database.writing() as session:
                made = _screen(session, study, by=by, site=place)
                if number % 4 == 0:
                    raise KeyboardInterrupt  # the machine stops before the commit
                return made.code
        except KeyboardInterrupt:
            return ""

    with ThreadPoolExecutor(8) as pool:
        codes = [code for code in pool.map(one, range(24)) if code]
    assert sorted(codes) == [f"M-{number:03}" for number in range(1, 19)]


@pytest.mark.requirement("P11-f")
def test_the_order_of_the_trial_is_enforced(session: Session) -> None:
    study = mini_study(session)
    by = person(session, study, "coordinator")
    one = screened(session, study, by=by)
    acting: dict[str, Any] = {"on": TODAY, "by": by, "now": NOW}
    with pytest.raises(Refused, match="consent first"):
        mark(session, study, one, Status.RANDOMISED, permission=Permission.PARTICIPANT_RANDOMISE, **acting)
    mark(session, study, one, Status.CONSENTED, permission=Permission.CONSENT_RECORD, **acting)
    with pytest.raises(NotAllowed):
        mark(session, study, one, Status.RANDOMISED, permission=Permission.SEQUENCE_DRAW, **acting)
    mark(session, study, one, Status.RANDOMISED, permission=Permission.PARTICIPANT_RANDOMISE, **acting)
    stored = participant_by_code(session, study, one.code, by=by)
    assert (stored.status, stored.consented_on, stored.randomised_on) == ("randomised", TODAY, TODAY)
    assert (stored.randomised_at, stored.randomised_by) == (NOW, by.username)
    assert (one.status, one.randomised_at) == ("randomised", NOW)
    assert [entry.action for entry in log_of(session)][-2:] == ["participant.consented", "participant.randomised"]


def test_a_stale_page_cannot_move_a_participant_twice(session: Session) -> None:
    study = mini_study(session)
    by = person(session, study, "coordinator")
    one = screened(session, study, by=by)
    stale = participant_by_code(session, study, one.code, by=by)
    acting: dict[str, Any] = {"on": TODAY, "by": by, "now": NOW, "permission": Permission.CONSENT_RECORD}
    mark(session, study, one, Status.CONSENTED, **acting)
    with pytest.raises(Refused, match="already"):
        mark(session, study, stale, Status.CONSENTED, **acting)


def _randomised(session: Session, study: StudyInUse) -> Participant:
    by = person(session, study, "coordinator")
    one = screened(session, study, by=by)
    for status in (Status.CONSENTED, Status.RANDOMISED):
        mark(session, study, one, status, on=TODAY, permission=Permission.PARTICIPANT_RANDOMISE, by=by, now=NOW)
    return one


@pytest.mark.requirement("GDPR-7")
def test_going_further_gives_back_the_use_of_nothing(session: Session) -> None:
    levels = [
        {"code": "use", "label": "Use", "stops_use": True},
        {"code": "visits", "label": "Use and visits", "stops_use": True, "stops_visits": True},
    ]
    study = mini_study(session, withdrawal_levels=levels)
    by = person(session, study, "coordinator")
    one = _randomised(session, study)
    later: dict[str, Any] = {"on": TODAY + timedelta(days=9), "by": by, "now": NOW + timedelta(days=9)}
    withdraw(session, study, one, level="use", reason="My data", on=TODAY, by=by, now=NOW)
    withdraw(session, study, one, level="visits", reason="Moved", **later)
    assert (one.status, one.withdrawal_level, one.withdrawn_on) == ("withdrawn", "visits", TODAY)
    assert one.left_on == later["on"]


@pytest.mark.requirement("E9R1-1", "GDPR-7")
def test_stopping_treatment_is_not_leaving_the_study(session: Session) -> None:
    study = mini_study(session)
    by = person(session, study, "coordinator")
    one = _randomised(session, study)
    withdraw(session, study, one, level="treatment", reason="Too far", on=TODAY, by=by, now=NOW)
    assert (one.status, one.withdrawal_level, one.withdrawn_on) == ("randomised", "treatment", TODAY)
    with pytest.raises(Refused, match="already"):
        withdraw(session, study, one, level="treatment", reason="Too far", on=TODAY, by=by, now=NOW)
    withdraw(session, study, one, level="visits", reason="Moved", on=TODAY, by=by, now=NOW)
    stored = participant_by_code(session, study, one.code, by=by)
    assert (stored.status, stored.withdrawal_level, stored.withdrawal_reason) == ("withdrawn", "visits", "Moved")
    first, second = log_of(session, action="participant.withdrawn")
    assert json.loads(first.new)["status"] == "randomised"
    assert json.loads(second.old)["level"] == "treatment"
    assert second.why == "Moved"
    with pytest.raises(Refused):
        withdraw(session, study, one, level="treatment", reason="x", on=TODAY, by=by, now=NOW)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"level": "nope"}, ["level"]),
        ({"reason": " "}, ["reason"]),
        ({"reason": "x" * 1001}, ["reason"]),
        ({"on": TODAY + timedelta(days=1)}, ["on"]),
        ({"on": TODAY - timedelta(days=1)}, ["on"]),
    ],
)
def test_a_withdrawal_needs_a_level_a_reason_and_a_day(
    session: Session, changes: dict[str, Any], fields: list[str]
) -> None:
    study = mini_study(session)
    asked: dict[str, Any] = {"level": "visits", "reason": "Moved", "on": TODAY, "now": NOW}
    by = person(session, study, "coordinator")
    with pytest.raises(Invalid) as caught:
        withdraw(session, study, screened(session, study), by=by, **{**asked, **changes})
    assert [problem.field for problem in caught.value.problems] == fields


def test_who_may_not_withdraw_a_participant_is_told_so(session: Session) -> None:
    study = mini_study(session)
    one = screened(session, study)
    by = person(session, study, "assessor")
    with pytest.raises(NotAllowed) as caught:
        withdraw(session, study, one, level="visits", reason="x", on=TODAY, by=by, now=NOW)
    assert caught.value.subject == "M-001/withdrawal"


ERASING = [
    {"code": "stop", "label": "No more contact", "stops_visits": True, "stops_contact": True},
    {"code": "erase", "label": "Erase who I am", "stops_visits": True, "erases_identity": True},
]


@pytest.mark.requirement("GDPR-3", "GDPR-5")
def test_a_level_that_erases_destroys_the_key_at_once(session: Session) -> None:
    study = mini_study(session, withdrawal_levels=ERASING)
    one, other = screened(session, study), screened(session, study)
    by = person(session, study, "coordinator")
    withdraw(session, study, one, level="erase", reason="On request", on=TODAY, by=by, now=NOW)
    withdraw(session, study, other, level="stop", reason="On request", on=TODAY, by=by, now=NOW)
    assert one.id is not None
    assert other.id is not None
    assert participant_key(session, one.id) is None
    assert participant_key(session, other.id) is not None
    assert [entry.participant for entry in log_of(session, action="identity.erased")] == [one.code]
    assert not verify(session, study.code).faults


def test_a_level_without_contact_or_identity_stops_visits_too() -> None:
    for level in ({"stops_contact": True}, {"erases_identity": True}):
        with pytest.raises(ValueError, match="Add stops_visits"):
            WithdrawalLevel.model_validate({"code": "x", "label": "X", **level})


@pytest.mark.parametrize(("level", "may"), [(None, True), (ERASING[0], False), (ERASING[1], False)])
def test_whoever_wants_no_contact_gets_none(level: dict[str, Any] | None, may: bool) -> None:
    reason = why_not_contact(WithdrawalLevel.model_validate(level) if level else None)
    assert (reason is None) is may


@pytest.mark.requirement("CON-F2")
@pytest.mark.parametrize("stands", [Status.SCREENED, Status.CONSENTED])
def test_who_passed_the_pre_screen_may_still_not_take_part(session: Session, stands: Status) -> None:
    study = mini_study(session)
    by = person(session, study, "coordinator")
    one = screened(session, study)
    if stands is Status.CONSENTED:
        mark(session, study, one, stands, on=TODAY, permission=Permission.CONSENT_RECORD, by=by, now=NOW)
    fail_screening(session, study, one, reason="declined", why=" A new job. ", by=by, now=NOW)
    stored = participant_by_code(session, study, one.code, by=by)
    kept, *_ = screening_and_initials(session, stored, by=by)
    assert kept is not None
    assert (stored.status, kept.failure_reason, kept.eligible) == ("screen_failed", "declined", True)
    (entry,) = log_of(session, action="participant.screen_failed")
    assert json.loads(entry.old) == {"status": stands.value, "failure_reason": None}
    assert json.loads(entry.new) == {"status": "screen_failed", "failure_reason": "declined"}
    assert (entry.participant, entry.why) == ("M-001", "A new job.")
    with pytest.raises(Refused, match="did not pass screening"):
        fail_screening(session, study, one, reason="declined", by=by, now=NOW)


def test_who_takes_part_does_not_fail_screening_any_more(session: Session) -> None:
    study = mini_study(session)
    by = person(session, study, "coordinator")
    one = screened(session, study)
    for given, fields in ((" ", ["failure_reason"]), ("bored", ["failure_reason"])):
        with pytest.raises(Invalid) as caught:
            fail_screening(session, study, one, reason=given, by=by, now=NOW)
        assert [problem.field for problem in caught.value.problems] == fields
    with pytest.raises(Invalid, match="Shorten"):
        fail_screening(session, study, one, reason="declined", why="x" * 1001, by=by, now=NOW)
    with pytest.raises(NotAllowed):
        fail_screening(session, study, one, reason="declined", by=person(session, study, "assessor"), now=NOW)
    mark(session, study, one, Status.CONSENTED, on=TODAY, permission=Permission.CONSENT_RECORD, by=by, now=NOW)
    mark(session, study, one, Status.RANDOMISED, on=TODAY, permission=Permission.CONSENT_RECORD, by=by, now=NOW)
    with pytest.raises(Refused, match="record a withdrawal instead"):
        fail_screening(session, study, one, reason="declined", by=by, now=NOW)
    words = why_not_transition(Status.CONSENTED, Status.SCREEN_FAILED, is_allocated=False)
    assert words == "They take part from consent on in this study. Record a withdrawal instead."


@pytest.mark.parametrize("column", ["answers", "verdicts", "screened_by", "failure_reason"])
def test_nothing_else_of_a_screening_changes(database: Database, column: str) -> None:
    with database.writing() as session:
        study = mini_study(session)
        one = screened(session, study)
        by = person(session, study, "coordinator")
        fail_screening(session, study, one, reason="declined", by=by, now=NOW)
    for values in ({column: "other"}, {column: "other", "failure_reason": "not_eligible"}):
        with pytest.raises(DBAPIError, match="never changed"), database.writing() as session:
            session.execute(update(SCREENING).values(**values))


LESS_AND_FURTHER = [
    {"code": "treatment", "label": "Stop treatment", "stops_treatment": True},
    {"code": "use", "label": "No further use", "stops_use": True},
    {"code": "all", "label": "Stop everything", "stops_treatment": True, "stops_visits": True, "stops_use": True},
]


@pytest.mark.parametrize("clinician", ["", "before", "before, and taken back"])
@pytest.mark.parametrize("levels", [("treatment",), ("treatment", "all"), ("use", "all"), ("all",)])
def test_taking_a_withdrawal_back_lets_treatment_go_on_unless_it_was_stopped_by_itself(
    session: Session, levels: tuple[str, ...], clinician: str
) -> None:
    study = mini_study(session, withdrawal_levels=LESS_AND_FURTHER)
    by, later = person(session, study, "coordinator"), NOW + timedelta(days=9)
    one = _screen(session, study, by=by)
    told: dict[str, Any] = {"permission": Permission.PARTICIPANT_WITHDRAW, "by": by}
    for status in (Status.CONSENTED, Status.RANDOMISED):
        mark(session, study, one, status, on=TODAY, now=NOW, **told)
    if clinician:
        actions.stop_treatment(session, study, one, on=TODAY, reason="Pain", now=later, **told)
    if clinician.endswith("back"):
        actions.resume_treatment(session, study, one, why="Another one's", now=later, **told)
    for days, level in enumerate(levels, start=1):  # each on a day of its own
        on = TODAY + timedelta(days=days)
        withdraw(session, study, one, level=level, reason="Moved away", on=on, by=by, now=later)
    assert one.treatment_stopped_on is not None
    actions.take_back_withdrawal(session, study, one, why="Another one's", by=by, now=later)
    assert (one.status, one.withdrawal_level) == ("randomised", None)
    assert (one.treatment_stopped_on is not None) == (clinician == "before")
    stopped = json.loads(log_of(session, action="participant.withdrawal_taken_back")[-1].old).get(
        "treatment_stopped_on"
    )
    assert (stopped is None) == (clinician == "before"), "the log says what goes on"
