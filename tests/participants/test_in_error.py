"""Randomised in error: recorded and corrected by adding, marked everywhere; the allocation never changes."""

import json
import threading
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Table, select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.foundation.database import Database, table_of
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Refused
from app.mail.models import OutboxMail
from app.participants.in_error import actions
from app.participants.in_error.actions import record_in_error
from app.participants.in_error.reads import records_of
from app.participants.in_error.rules import LABELS, Reason, is_error, reasons_to_choose, record_problems
from app.participants.models import Participant
from app.participants.reads import IN_ERROR, participants_page
from app.people.access import Actor
from app.people.permissions import Permission, Role, holders
from app.randomisation.actions import randomise
from app.randomisation.models import Allocation, Slot, Stratum
from app.studies.in_use import StudyInUse
from tests.exports.world import as_json
from tests.randomisation.small import BY_PAIN, definition
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

FOUND = date(2026, 3, 14)
STRATA = {
    "method": "permuted_blocks",
    "strata": [{"code": "site", "label": "Site", "by": "site"}, BY_PAIN],
}
SAID: dict[str, Any] = {
    "reason": "wrong_stratum",
    "why": "The pain score was typed as 5 instead of 8; the monitor found it.",
    "found_on": FOUND,
    "should_have_been": {"severity": "high"},
}
ALLOCATED = tuple(table_of(model) for model in (Allocation, Slot, Stratum))
MAIL = table_of(OutboxMail)


@dataclass
class Trial:
    """A study with one randomised participant, and the people who hear of an error."""

    study: StudyInUse
    someone: Participant
    coordinator: Actor

    def record(self, session: Session, **changes: Any) -> int:
        asked: dict[str, Any] = {**SAID, "by": self.coordinator, "now": NOW, **changes}
        return record_in_error(session, self.study, self.someone, **asked)


def trial_in(session: Session) -> Trial:
    study = study_of(session, definition(allocation=STRATA))
    sealed(session, study)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    someone = participant(session, study, 1)
    randomise(session, study, someone, by=coordinator, now=NOW)
    for role, site in ((Role.INVESTIGATOR, "SYD"), (Role.INVESTIGATOR, "PER"), (Role.DATA_MANAGER, None)):
        actor(session, study, role, site)
    return Trial(study, someone, coordinator)


@pytest.fixture
def trial(session: Session) -> Trial:
    return trial_in(session)


def kept(session: Session, *tables: Table) -> list[list[Any]]:
    return [[tuple(row) for row in session.execute(select(each).order_by(each.c.id))] for each in tables]


def log(session: Session) -> list[Any]:
    return list(session.execute(select(ENTRY).where(ENTRY.c.log == "small").order_by(ENTRY.c.position)))


# What must be said


def problems(**changes: Any) -> list[tuple[str, str]]:
    asked: dict[str, Any] = {
        **SAID,
        "standing": None,
        "sites": ["SYD", "PER"],
        "randomised_on": FOUND,
        "today": FOUND + timedelta(days=3),
        **changes,
    }
    return [(each.field, each.rule) for each in record_problems(definition(allocation=STRATA), **asked)]


@pytest.mark.requirement("CONC-9")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"should_have_been": {}}, []),
        ({"should_have_been": {"site": "PER", "severity": "low"}}, []),
        ({"reason": "ineligible", "should_have_been": {}}, []),
        ({"reason": ""}, [("reason", "choice"), ("should_have_been", "reason")]),
        ({"reason": "regret", "should_have_been": {}}, [("reason", "choice")]),
        ({"reason": "ineligible"}, [("should_have_been", "reason")]),
        ({"should_have_been": {"age": "old"}}, [("should_have_been", "unknown")]),
        ({"should_have_been": {"severity": "none"}}, [("should_have_been.severity", "choice")]),
        ({"should_have_been": {"site": "ZRH"}}, [("should_have_been.site", "choice")]),
        ({"why": " \n"}, [("why", "required")]),
        ({"why": "x" * 2001}, [("why", "length")]),
        ({"why": "Not\x00printable"}, [("why", "control")]),
        ({"why": "They have Sham devices now"}, [("why", "arm")]),
        ({"found_on": FOUND + timedelta(days=4)}, [("found_on", "future")]),
        ({"found_on": FOUND - timedelta(days=1)}, [("found_on", "early")]),
        ({"reason": "no_error", "should_have_been": {}}, [("reason", "choice")]),
        ({"reason": "no_error", "should_have_been": {}, "standing": "twice"}, []),
        ({"reason": "no_error", "should_have_been": {}, "standing": "no_error"}, [("reason", "choice")]),
    ],
)
def test_what_is_asked_of_a_record(changes: dict[str, Any], expected: list[tuple[str, str]]):
    assert problems(**changes) == expected


def test_every_reason_has_words_and_the_last_one_stands_only_against_an_error():
    assert set(LABELS) == set(Reason)
    assert Reason.NO_ERROR not in reasons_to_choose(None)
    for reason in Reason:
        assert is_error(reason) == (Reason.NO_ERROR in reasons_to_choose(reason))
    assert not is_error(None)


# Recording it


@pytest.mark.requirement("CONC-9", "E9-6")
def test_it_is_written_down_and_the_allocation_stays_to_the_byte(session: Session, trial: Trial):
    before = kept(session, *ALLOCATED)
    stood = trial.someone.model_dump()
    number = trial.record(session)
    assert kept(session, *ALLOCATED) == before
    assert trial.someone.model_dump() == stood
    assert trial.someone.id is not None
    (made,) = records_of(session, trial.someone.id)
    assert (made.number, made.corrects, made.by, made.at) == (number, None, trial.coordinator.username, NOW)
    assert (made.reason, made.why, made.found_on) == (Reason.WRONG_STRATUM, SAID["why"], FOUND)
    assert made.should_have_been == {"severity": "high"}
    entry = log(session)[-1]
    assert (entry.action, entry.participant) == ("participant.randomised_in_error", "P-0001")
    assert entry.subject == f"randomised_in_error/{number}"
    assert entry.why == SAID["why"]
    assert entry.old is None
    assert json.loads(entry.new)["reason"] == "wrong_stratum"
    assert not [each for each in log(session) if each.action == "envelope.opened"]


@pytest.mark.requirement("CONC-9", "CONC-11")
def test_the_investigators_of_the_site_and_the_statistician_get_a_mail_without_words_or_arm(
    session: Session, trial: Trial
):
    number = trial.record(session)
    about = MAIL.c.key.startswith(f"randomised_in_error|{number}|")
    mails = list(session.execute(select(MAIL).where(about).order_by(MAIL.c.to_address)))
    assert [mail.to_address for mail in mails] == ["investigator_SYD@example.org", "sofia_small_20@example.org"]
    for mail in mails:
        assert "P-0001" in mail.body
        assert "wrong stratum" in mail.body
        assert not [word for word in (SAID["why"], "sham", "Sham", "sensorimotor", "high") if word in mail.body]
    assert trial.someone.id is not None
    assert records_of(session, trial.someone.id)[0].told == ("sofia_small_20", "investigator_SYD")


@pytest.mark.requirement("CONC-9", "P11-e2")
def test_a_later_record_corrects_by_adding(session: Session, trial: Trial):
    first = trial.record(session)
    second = trial.record(session, reason="no_error", why="The score was right.", should_have_been={}, corrects=first)
    assert trial.someone.id is not None
    one, two = records_of(session, trial.someone.id)
    assert (one.why, two.why) == (SAID["why"], "The score was right.")
    assert (two.number, two.corrects) == (second, first)
    assert json.loads(log(session)[-1].old)["reason"] == "wrong_stratum"


@pytest.mark.requirement("CONC-9", "REL-4")
def test_a_double_submit_is_one_record(session: Session, trial: Trial):
    first = trial.record(session)
    assert trial.record(session) == trial.record(session, why=f" {SAID['why']}\n") == first
    assert trial.someone.id is not None
    assert len(records_of(session, trial.someone.id)) == 1
    assert len([each for each in log(session) if each.action == "participant.randomised_in_error"]) == 1


@pytest.mark.requirement("CONC-9")
def test_whoever_did_not_read_the_newest_record_does_not_correct_it(session: Session, trial: Trial):
    first = trial.record(session)
    for corrects in (None, first + 1):
        with pytest.raises(Conflict):
            trial.record(session, reason="twice", should_have_been={}, corrects=corrects)
    trial.record(session, reason="twice", should_have_been={}, corrects=first)
    with pytest.raises(Conflict):
        trial.record(session, corrects=first)


@pytest.mark.requirement("CONC-9", "P11-f")
def test_only_who_is_randomised_and_only_in_their_study(session: Session, trial: Trial):
    waiting = participant(session, trial.study, 2)
    asked: dict[str, Any] = {**SAID, "by": trial.coordinator, "now": NOW}
    with pytest.raises(Refused, match="not randomised"):
        record_in_error(session, trial.study, waiting, **asked)
    other = study_of(session, definition(code="other"))
    with pytest.raises(NotFound):
        record_in_error(session, other, trial.someone, **asked)
    with pytest.raises(Invalid):
        trial.record(session, why="")
    assert not kept(session, IN_ERROR)[0]


@pytest.mark.requirement("P11-g", "CONC-9")
@pytest.mark.parametrize("role", Role)
def test_who_may(session: Session, trial: Trial, role: Role):
    by = actor(session, trial.study, role, "SYD", name=f"somebody_{role}")
    if role in (Role.COORDINATOR, Role.INVESTIGATOR):
        trial.record(session, by=by)
        return
    with pytest.raises(NotAllowed):
        trial.record(session, by=by)
    assert not kept(session, IN_ERROR)[0]


def test_not_at_another_site(session: Session, trial: Trial):
    for role in holders(Permission.PARTICIPANT_RECORD_ERROR):
        with pytest.raises(NotAllowed):
            trial.record(session, by=actor(session, trial.study, role, "PER", name=f"perth_{role}"))


def test_nothing_is_kept_when_the_log_cannot_be(session: Session, trial: Trial, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(actions, "record", broken)
    with pytest.raises(OSError), session.begin_nested():
        trial.record(session)
    assert not kept(session, IN_ERROR, MAIL)[0]


# The rows


@pytest.mark.requirement("P11-e2", "CONC-9")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE randomised_in_error SET why = 'nothing'",
        "UPDATE randomised_in_error SET reason = 'no_error'",
        "DELETE FROM randomised_in_error",
        # A second beginning of the chain, and a fork in it.
        "INSERT INTO randomised_in_error (study_id, participant_id, reason, why, found_on, told, recorded_at, "
        "recorded_by) SELECT study_id, participant_id, reason, why, found_on, told, recorded_at, recorded_by FROM "
        "randomised_in_error WHERE corrects IS NULL",
        "INSERT INTO randomised_in_error (study_id, participant_id, corrects, reason, why, found_on, told, "
        "recorded_at, recorded_by) SELECT study_id, participant_id, corrects, reason, why, found_on, told, "
        "recorded_at, recorded_by FROM randomised_in_error WHERE corrects IS NOT NULL",
    ],
)
def test_the_database_itself_keeps_every_record(session: Session, trial: Trial, statement: str):
    first = trial.record(session)
    trial.record(session, reason="twice", should_have_been={}, corrects=first)
    before = kept(session, IN_ERROR)
    with pytest.raises(DBAPIError), session.begin_nested():
        session.execute(text(statement))
    assert kept(session, IN_ERROR) == before


@pytest.mark.requirement("P11-e2")
def test_postgresql_does_not_empty_the_table(session: Session, trial: Trial, kind: str):
    if kind == "sqlite":
        pytest.skip("SQLite has no TRUNCATE; DELETE is tried above")
    trial.record(session)
    with pytest.raises(DBAPIError, match="never changed or removed"), session.begin_nested():
        session.execute(text("TRUNCATE randomised_in_error"))


@pytest.mark.requirement("CONC-9", "REL-4")
def test_several_at_once_are_one_record(database: Database):
    with database.writing() as session:
        trial = trial_in(session)
        session.expunge_all()
    numbers: list[int] = []
    together = threading.Barrier(4)

    def record() -> None:
        together.wait()
        with database.writing() as session:
            numbers.append(trial.record(session))

    threads = [threading.Thread(target=record) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(numbers) == 4
    assert len(set(numbers)) == 1
    with database.reading() as session:
        assert len(kept(session, IN_ERROR)[0]) == 1


# Where it is seen


@pytest.mark.requirement("CONC-9", "E9-6", "CON-F7")
def test_the_participant_stays_in_the_list_and_in_the_export_with_a_mark(session: Session, trial: Trial):
    untouched = participant(session, trial.study, 2)
    manager = actor(session, trial.study, Role.DATA_MANAGER, name="malik")

    def seen() -> tuple[Any, ...]:
        listed = participants_page(session, trial.study, by=trial.coordinator).rows
        exported = as_json(session, trial.study, "participants", manager)
        assert [row.code for row in listed] == [row["participant"] for row in exported] == ["P-0001", untouched.code]
        assert exported[1]["randomised_in_error"] is exported[1]["stratum_should_be"] is None
        assert listed[1].randomised_in_error is None
        first = exported[0]
        assert first["randomised_in_error"] == listed[0].randomised_in_error
        return first["status"], first["randomised_in_error"], first["stratum_should_be"]

    assert seen() == ("randomised", None, None)
    number = trial.record(session, should_have_been={"site": "PER", "severity": "high"})
    assert seen() == ("randomised", "wrong_stratum", "site=PER|severity=high")
    trial.record(session, reason="no_error", why="It was right.", should_have_been={}, corrects=number)
    assert seen() == ("randomised", "no_error", None)
    codebook = as_json(session, trial.study, "codebook", manager)
    (said,) = [row for row in codebook if row["column"] == "randomised_in_error"]
    assert "no_valid_consent" in said["choices"]
