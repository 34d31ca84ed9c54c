"""Frozen, locked, signed as a whole: what refuses which change, and that nobody opens alone what was locked."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.audit.verify import verify
from app.capture import actions
from app.capture.actions import keep_draft, save_entry, sign_entry
from app.capture.casebook.actions import sign_casebook
from app.capture.casebook.reads import corrected_screening, signatures_of, standing_signature
from app.capture.casebook.rules import casebook_digest, holds, manifest_of
from app.capture.locks.actions import (
    approve_unlock,
    ask_to_unlock,
    close_data,
    decline_unlock,
    lift_freezing,
)
from app.capture.locks.obstacles import standings_page
from app.capture.locks.reads import locks_of, locks_page
from app.capture.locks.rules import Kind, Standing, why_not_lock
from app.capture.queries.actions import answer_query, close_query, raise_query
from app.capture.reads import ENTRY, draft_of, entries_with_values, entry_of
from app.capture.verification.actions import verify_items
from app.capture.verification.rules import State, is_verified, was_verified
from app.consent.actions import withdraw_consent
from app.foundation.database import Database
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Problem, Refused
from app.participants.models import Participant
from app.participants.reads import Hold, participant_by_code
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.capture.records import consented
from tests.factories import NOW, mini_study, person, site

PAIN: dict[str, object] = {"pain_nrs": 5, "pain_days": 3}
LATER: dict[str, object] = {"pain_nrs": 6, "pain_days": 3}
WHERE: dict[str, Any] = {"visit": "week18", "instrument": "pain"}
ROLES = ("assessor", "coordinator", "monitor", "data_manager", "investigator")


class Trial:
    """The small trial with two participants, and everybody who takes part."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.study: StudyInUse = mini_study(session)
        self.participant: Participant = consented(session, self.study)
        self.other = consented(session, self.study, "M-002")
        self.people: dict[str, Actor] = {role: person(session, self.study, role) for role in ROLES}
        self.people["second"] = person(session, self.study, "data_manager", username="second")

    @property
    def id(self) -> int:
        assert self.participant.id is not None
        return self.participant.id

    def save(self, values: dict[str, object] = PAIN, base: int = 0, **options: Any) -> Any:
        given: Any = {**WHERE, "reasons": {}, "by": self.people["assessor"], "now": NOW, **options}
        participant = given.pop("participant", self.participant)
        return save_entry(self.session, self.study, participant, values=values, base_version=base, **given)

    def sign(self) -> Any:
        given: Any = {**WHERE, "version": 1, "meaning": "authorship", "by": self.people["assessor"], "now": NOW}
        return sign_entry(self.session, self.study, self.participant, **given)

    def close(self, kind: Kind = Kind.LOCKED, **options: Any) -> int:
        given: Any = {"participants": ["M-001"], "visit": None, "why": "Clean", "by": self.people["data_manager"]}
        return close_data(self.session, self.study, kind=kind, now=NOW, **{**given, **options})

    def number(self) -> int:
        return locks_of(self.session, self.study, self.id)[-1].number

    def ask(self, **options: Any) -> Any:
        given: Any = {**WHERE, "item": "pain_nrs", "text": "Is it?", "by": self.people["monitor"], "now": NOW}
        return raise_query(self.session, self.study, self.participant, **{**given, **options})

    def casebook(self, **options: Any) -> Any:
        manifest = manifest_of(entries_with_values(self.session, self.id), corrected_screening(self.session, self.id))
        digest = casebook_digest(self.participant.code, manifest, "approval")
        given: Any = {"meaning": "approval", "digest": digest, "by": self.people["investigator"], "now": NOW}
        return sign_casebook(self.session, self.study, self.participant, **{**given, **options})

    def verify(self, items: list[str], version: int = 1, **options: Any) -> Any:
        given: Any = {**WHERE, "items": items, "version": version, "by": self.people["monitor"], "now": NOW}
        return verify_items(self.session, self.study, self.participant, **{**given, **options})

    def log(self, *beginnings: str) -> list[str]:
        found = self.session.execute(select(AUDIT_ENTRY.c.action).order_by(AUDIT_ENTRY.c.position)).scalars()
        return [action for action in found if action.startswith(beginnings)]


@pytest.fixture
def trial(session: Session) -> Trial:
    return Trial(session)


# What is closed refuses


def every_write(trial: Trial) -> dict[str, Any]:
    """Every change that somebody could make to the data of a visit."""
    session, study, people, one = trial.session, trial.study, trial.people, trial.participant
    coordinator = people["coordinator"]

    def visit(act: Any, **options: Any) -> Any:
        return lambda: act(session, study, one, "week18", version=1, by=coordinator, now=NOW, **options)

    return {
        "save": lambda: trial.save(LATER, 1, why="Misheard"),
        "first save": lambda: trial.save({"dis_weight": 70}, instrument="disability"),
        "held": visit(actions.record_visit, held_on=NOW.date(), reason="So"),
        "missed": visit(actions.miss_visit, why="So"),
        "corrected": visit(actions.correct_visit, held_on=NOW.date(), why="So"),
        "reopened": visit(actions.reopen_visit, why="So"),
        "sign": trial.sign,
        "verify": lambda: trial.verify(["pain_nrs"]),
        "ask": trial.ask,
    }


ENTERING = {"save", "first save", "held", "missed", "corrected", "reopened"}


@pytest.mark.requirement("E6-12", "P11-f")
@pytest.mark.parametrize("how", list(Kind))
@pytest.mark.parametrize(
    "scope",
    [{}, {"visit": "week18"}, {"participants": None}, {"participants": None, "visit": "week18"}],
    ids=["participant", "visit", "study", "visit of all"],
)
def test_every_write_to_what_is_closed_is_refused_and_says_who_opens_it(trial: Trial, scope: Any, how: Kind):
    trial.save()
    trial.close(how, despite=True, **scope)
    refused = {}
    for name, act in every_write(trial).items():
        with trial.session.begin_nested() as inside:
            try:
                act()
            except Problem as problem:
                if isinstance(problem, Refused):
                    refused[name] = problem.reason
            inside.rollback()
    assert set(refused) == (set(every_write(trial)) if how is Kind.LOCKED else ENTERING)
    for name, reason in refused.items():
        assert "data manager" in reason, name
        assert "page Locks" in reason, name


@pytest.mark.parametrize("how", list(Kind))
def test_what_is_typed_under_a_lock_is_kept_as_a_draft(trial: Trial, how: Kind):
    trial.save()
    trial.close(how, despite=True)
    assessor = trial.people["assessor"]
    typed = {"pain_nrs": ["4"]}
    keep_draft(
        trial.session, trial.study, trial.participant, **WHERE, typed=typed, base_version=1, by=assessor, now=NOW
    )
    assert trial.participant.id is not None
    kept = draft_of(trial.session, trial.participant.id, "week18", "pain", by=assessor)
    assert kept is not None
    assert kept.typed == typed


def test_what_is_not_covered_goes_on(trial: Trial):
    trial.save()
    trial.save(visit="baseline", by=trial.people["coordinator"])
    trial.close(visit="week18", despite=True)
    trial.save(LATER, 1, visit="baseline", why="Misheard")
    trial.save(participant=trial.other)
    with pytest.raises(Refused):
        trial.save(LATER, 1, why="Misheard")


def test_a_query_can_be_answered_where_data_are_frozen_but_not_where_they_are_locked(trial: Trial):
    trial.save()
    number = trial.ask().number
    trial.close(Kind.FROZEN)
    answer: Any = {"text": "It is.", "version": 1, "by": trial.people["assessor"], "now": NOW}
    answer_query(trial.session, trial.study, number, **answer)
    with pytest.raises(Refused, match="One query stands"):
        trial.close(despite=True)
    close_query(trial.session, trial.study, number, version=2, by=trial.people["monitor"], now=NOW)
    assert trial.close(despite=True) == 1
    with pytest.raises(Refused, match="locked"):
        trial.ask()


def test_locking_and_freezing_say_what_stands_in_the_way(trial: Trial):
    trial.save()
    trial.save({"dis_weight": {"missing": "ND"}}, instrument="disability", accept_partial=True)
    with pytest.raises(Refused, match="M-001: 2 entries wait for a signature"):
        trial.close()
    trial.sign()
    rows = standings_page(trial.session, trial.study, by=trial.people["data_manager"]).rows
    assert [(row.participant, row.entries, row.unsigned, row.unverified) for row in rows] == [("M-001", 2, 1, 2)]
    assert trial.close(despite=True) == 1
    assert trial.close(despite=True) == 0, "the same once more is no second lock"
    again = standings_page(trial.session, trial.study, by=trial.people["data_manager"], visit="week18").rows
    assert [row.locked for row in again] == [True]
    assert trial.log("data") == ["data.locked"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"why": " "}, Invalid),
        ({"why": "All of the Placebex device are in"}, Invalid),
        ({"visit": "week99"}, Invalid),
        ({"participants": []}, Invalid),
        ({"participants": ["M-001", "M-999"]}, Invalid),
    ],
)
def test_what_cannot_be_locked(trial: Trial, options: Any, error: type[Exception]):
    with pytest.raises(error):
        trial.close(**options)
    assert locks_page(trial.session, trial.study, by=trial.people["data_manager"]).rows == []


@pytest.mark.parametrize("role", ["assessor", "coordinator", "monitor", "investigator"])
def test_only_a_data_manager_locks(trial: Trial, role: str):
    with pytest.raises(NotAllowed):
        trial.close(by=trial.people[role])


def test_who_works_at_one_site_closes_and_opens_nothing_of_every_site(session: Session, trial: Trial):
    from app.people.access import Grant
    from app.people.permissions import Role

    manager = trial.people["second"]
    here = Actor(**{**vars(manager), "grants": (Grant(Role.DATA_MANAGER, site(session, trial.study, "north").id),)})
    with pytest.raises(NotAllowed, match="every site"):
        trial.close(participants=None, by=here)
    trial.close(participants=None)
    number = trial.number()
    with pytest.raises(NotAllowed, match="every site"):
        ask_to_unlock(session, trial.study, number, why="So", by=trial.people["investigator"], now=NOW)


@pytest.mark.requirement("SEC-10", "E6-12")
def test_unlocking_takes_two_people(trial: Trial):
    session, study, people = trial.session, trial.study, trial.people
    trial.save()
    trial.close(despite=True)
    number = trial.number()
    with pytest.raises(Refused, match="Nobody has asked"):
        approve_unlock(session, study, number, by=people["investigator"], now=NOW)
    ask_to_unlock(session, study, number, why="A page was found", by=people["investigator"], now=NOW)
    ask_to_unlock(session, study, number, why="A page was found", by=people["investigator"], now=NOW)
    for act in (approve_unlock, lambda *a, **o: decline_unlock(*a, why="No", **o)):
        with pytest.raises(Refused, match="second person"):
            act(session, study, number, by=people["investigator"], now=NOW)
    with pytest.raises(Refused, match="asked already"):
        ask_to_unlock(session, study, number, why="I too", by=people["second"], now=NOW)
    decline_unlock(session, study, number, why="Which page?", by=people["second"], now=NOW)
    ask_to_unlock(session, study, number, why="Page 4", by=people["investigator"], now=NOW)
    with pytest.raises(NotAllowed):
        approve_unlock(session, study, number, by=people["monitor"], now=NOW)
    approve_unlock(session, study, number, by=people["data_manager"], now=NOW)
    assert trial.save(LATER, 1, why="Page 4").version == 2
    assert trial.log("data") == [
        "data.locked",
        "data.unlock_requested",
        "data.unlock_declined",
        "data.unlock_requested",
        "data.unlocked",
    ]
    with pytest.raises(NotFound):
        approve_unlock(session, study, number, by=people["data_manager"], now=NOW)
    assert verify(session, study.code).intact


@pytest.mark.requirement("SEC-10")
def test_not_even_the_database_lets_one_person_open_a_lock(trial: Trial):
    trial.save()
    trial.close(despite=True)
    alone = "UPDATE data_lock SET lifted_at = at, lifted_by = 'mallory', asked_at = at, asked_by = 'mallory'"
    with pytest.raises(IntegrityError), trial.session.begin_nested():
        trial.session.execute(text(alone))


def test_a_freezing_is_lifted_by_one_person_with_a_reason(trial: Trial):
    session, study, manager = trial.session, trial.study, trial.people["data_manager"]
    trial.save()
    trial.close(Kind.FROZEN)
    number = trial.number()
    with pytest.raises(Refused, match="lifts it alone"):
        ask_to_unlock(session, study, number, why="So", by=trial.people["investigator"], now=NOW)
    with pytest.raises(Invalid):
        lift_freezing(session, study, number, why="", by=manager, now=NOW)
    lift_freezing(session, study, number, why="A page was found", by=manager, now=NOW)
    assert trial.save(LATER, 1, why="Page 4").version == 2
    trial.close(despite=True)
    with pytest.raises(Refused, match="another approves"):
        lift_freezing(session, study, trial.number(), why="So", by=manager, now=NOW)


@pytest.mark.parametrize(
    ("standing", "despite", "said"),
    [
        (Standing("M-001", "north", 3, 0, 0, 0, 3), False, None),
        (Standing("M-001", "north", 3, 1, 0, 0, 3), False, "One entry is partial"),
        (Standing("M-001", "north", 3, 2, 0, 1, 3), False, "2 entries are partial and one entry waits"),
        (Standing("M-001", "north", 3, 2, 0, 1, 3), True, None),
        (Standing("M-001", "north", 3, 0, 2, 0, 3), True, "2 queries stand"),
    ],
)
def test_why_not_lock(standing: Standing, despite: bool, said: str | None):
    reason = why_not_lock(standing, despite=despite)
    assert (reason is None) if said is None else (reason is not None and reason.startswith(said))


@pytest.mark.requirement("SEC-45")
@pytest.mark.both_databases
def test_nobody_saves_while_somebody_locks(database: Database):
    """However the two meet: what is saved was saved before the lock, or is refused."""
    with database.writing() as session:
        trial = Trial(session)
    outcomes: list[str] = []
    start = threading.Barrier(2)

    def lock() -> None:
        with database.writing() as session:
            start.wait()
            mine = Trial.__new__(Trial)
            mine.__dict__.update({**trial.__dict__, "session": session})
            mine.close(despite=True)

    def save() -> None:
        start.wait()
        try:
            with database.writing() as session:
                mine = Trial.__new__(Trial)
                mine.__dict__.update({**trial.__dict__, "session": session})
                mine.save()
            outcomes.append("saved")
        except Refused:
            outcomes.append("refused")

    threads = [threading.Thread(target=act) for act in (lock, save)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.reading() as session:
        actions_logged = list(session.execute(select(AUDIT_ENTRY.c.action).order_by(AUDIT_ENTRY.c.position)).scalars())
        stored = entry_of(session, trial.id, "week18", "pain")
    assert outcomes == (["saved"] if stored else ["refused"])
    if stored:
        assert actions_logged.index("entry.completed") < actions_logged.index("data.locked")


def withdraw(trial: Trial) -> None:
    by = trial.people["investigator"]
    given: Any = {"on": NOW.date(), "why": "Their wish", "by": by, "now": NOW}
    withdraw_consent(trial.session, trial.study, trial.participant, **given)


def miss(trial: Trial) -> None:
    given: Any = {"version": 1, "why": "Ill", "by": trial.people["coordinator"], "now": NOW}
    actions.miss_visit(trial.session, trial.study, trial.participant, "week18", **given)


@pytest.mark.parametrize("hold", [None, "shared"], ids=["held when it saves", "held when it is looked up"])
@pytest.mark.parametrize(
    "comes", [lambda trial: trial.close(despite=True), withdraw, miss], ids=["lock", "end", "miss"]
)
@pytest.mark.both_databases
def test_what_comes_while_a_save_waits_for_it_is_seen(database: Database, comes: Any, hold: Hold | None):
    """The save has begun, and waits for whoever locks, ends or misses; it must not go by what it saw before."""
    if database.is_sqlite:
        pytest.skip("writers are one after the other on SQLite")
    with database.writing() as session:
        trial = Trial(session)
    waiting, outcomes = threading.Event(), []

    def save() -> None:
        try:
            with database.writing() as session:
                event.listen(session.connection(), "before_cursor_execute", lambda *args: waiting.set())
                mine = Trial.__new__(Trial)
                mine.__dict__.update({**trial.__dict__, "session": session})
                by = trial.people["assessor"]
                mine.participant = participant_by_code(session, trial.study, "M-001", by=by, hold=hold)
                mine.save()
            outcomes.append("saved")
        except Refused:
            outcomes.append("refused")

    with database.writing() as session:
        mine = Trial.__new__(Trial)
        mine.__dict__.update({**trial.__dict__, "session": session})
        comes(mine)
        thread = threading.Thread(target=save)
        thread.start()
        assert waiting.wait(30)
        with database.reading() as other:
            blocked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            for _ in range(2000):
                if other.execute(blocked).scalar_one():
                    break
                other.rollback()
                thread.join(0.005)
    thread.join(60)
    assert outcomes == ["refused"]


# Source verification


@pytest.mark.requirement("E6-9")
def test_a_change_ends_the_verification_of_what_changed_and_says_so(trial: Trial):
    trial.save({**PAIN, "pain_note": "At night"})
    entry = trial.verify(["pain_nrs", "pain_days", "pain_note"])
    assert entry.verification == State.VERIFIED
    assert entry.verified_at == NOW
    trial.save({**PAIN, "pain_nrs": 6, "pain_note": "At night"}, 1, why="Misheard")
    entry = entry_of(trial.session, trial.id, "week18", "pain")
    assert entry is not None
    assert [is_verified(entry, item) for item in ("pain_nrs", "pain_days", "pain_note")] == [False, True, True]
    assert was_verified(entry, "pain_nrs")
    assert entry.verified_at is None
    trial.save({**PAIN, "pain_note": "At night"}, 2, why="Heard right at first")
    entry = entry_of(trial.session, trial.id, "week18", "pain")
    assert entry is not None
    assert not is_verified(entry, "pain_nrs"), "changed back is changed"
    entry = trial.verify(["pain_nrs", "pain_days", "pain_note"], 3)
    assert entry.verification == State.VERIFIED
    assert trial.log("entry.verif") == [
        "entry.verified",
        "entry.verified",
        "entry.verified",
        "entry.verification_ended",
        "entry.verified",
    ]


def test_what_is_not_ticked_any_more_is_not_verified_any_more(trial: Trial):
    trial.save()
    trial.verify(["pain_nrs", "pain_days"])
    entry = trial.verify(["pain_days"])
    assert [is_verified(entry, item) for item in PAIN] == [False, True]
    assert entry.verified_at is None
    assert trial.verify(["pain_days"]) == entry
    assert trial.log("entry.verif")[2:] == ["entry.verification_withdrawn"]


def test_only_a_monitor_verifies_and_only_what_was_looked_at(trial: Trial):
    trial.save()
    with pytest.raises(NotAllowed):
        trial.verify(["pain_nrs"], by=trial.people["data_manager"])
    with pytest.raises(Conflict):
        trial.verify(["pain_nrs"], 2)
    with pytest.raises(Invalid):
        trial.verify(["dis_weight"])
    with pytest.raises(NotFound):
        trial.verify(["dis_weight"], instrument="disability")


# The signature of a casebook


@pytest.mark.requirement("P11-70", "FDA-19", "P11-50a")
def test_a_change_supersedes_the_signature_of_the_casebook_and_asks_again(trial: Trial):
    trial.save()
    trial.save(visit="baseline", by=trial.people["coordinator"])
    signed = trial.casebook()
    assert [line[:3] for line in signed.manifest] == [("baseline", "pain", 1), ("week18", "pain", 1)]
    assert signed.signed_name == trial.people["investigator"].name
    assert trial.casebook() == signed, "once more is the same signature"
    trial.save(LATER, 1, why="Misheard")
    assert standing_signature(trial.session, trial.id) is None
    (ended,) = signatures_of(trial.session, trial.id)
    assert (ended.superseded_by, ended.superseded_why) == (trial.people["assessor"].username, "Misheard")
    again = trial.casebook(now=NOW + timedelta(days=1))
    assert again.digest != signed.digest
    assert trial.log("casebook") == ["casebook.signed", "casebook.signature_superseded", "casebook.signed"]


@pytest.mark.requirement("P11-70")
def test_one_changed_byte_breaks_the_signature_of_the_casebook(trial: Trial):
    trial.save()
    signed = trial.casebook()
    trial.session.execute(update(ENTRY).values({"values": '{"pain_days":3,"pain_nrs":4}'}))
    assert not holds(signed, "M-001", manifest_of(entries_with_values(trial.session, trial.id), None))
    trial.session.execute(update(ENTRY).values({"values": '{"pain_days":3,"pain_nrs":5}'}))
    manifest = manifest_of(entries_with_values(trial.session, trial.id), None)
    assert holds(signed, "M-001", manifest)
    assert not holds(signed, "M-002", manifest), "it fits no other casebook"


def test_a_casebook_is_signed_as_it_was_shown_and_once_it_is_settled(trial: Trial):
    with pytest.raises(Refused, match="Nothing is entered"):
        trial.casebook()
    trial.save({"pain_nrs": 5}, accept_partial=True)
    with pytest.raises(Refused, match="One entry is partial"):
        trial.casebook()
    trial.save(PAIN, 1)
    with pytest.raises(Conflict):
        trial.casebook(digest="0" * 64)
    with pytest.raises(Invalid):
        trial.casebook(meaning="authorship")
    with pytest.raises(NotAllowed):
        trial.casebook(by=trial.people["data_manager"])
    number = trial.ask().number
    with pytest.raises(Refused, match="One query stands"):
        trial.casebook()
    close_query(trial.session, trial.study, number, version=1, by=trial.people["monitor"], now=NOW)
    trial.casebook()
    trial.close(despite=True)
    assert standing_signature(trial.session, trial.id) is not None
