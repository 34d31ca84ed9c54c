"""Recording sessions: what fits the arm, who may, versions, history, and what the blinded see of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from datetime import date, timedelta
from typing import Any, Self

import pytest
from sqlalchemy import func, select, update
from sqlmodel import Session

from app.audit.models import AuditEntry
from app.foundation import paging
from app.foundation.database import Database, table_of
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Problem, Refused
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.permissions import Role
from app.randomisation.actions import randomise
from app.randomisation.opening import open_envelope
from app.schedule.models import ParticipantVisit
from app.schedule.status import VisitStatus
from app.treatment.actions import miss_session, record_session, reopen_session, resume_treatment, stop_treatment
from app.treatment.models import TreatmentSession
from app.treatment.reads import history_of, my_participants, session_of, sessions_of
from app.treatment.rules import CONTENT_SIZE
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

SESSION, AUDIT, VISIT = table_of(TreatmentSession), table_of(AuditEntry), table_of(ParticipantVisit)
LATER = NOW + timedelta(days=8)
HELD = date(2026, 3, 22)
DONE = {"minutes": 30, "device": "a"}


class Treated:
    """A study with one clinician and some randomised participants, told by their arms."""

    database: Database

    def __init__(self, session: Session, people: int = 8) -> None:
        self.session = session
        self.study = study_of(session)
        sealed(session, self.study, slots=8, sizes=(4,))
        self.clinician = actor(session, self.study, Role.CLINICIAN, "SYD")
        self.coordinator = actor(session, self.study, Role.COORDINATOR, "SYD")
        self.by_arm: dict[str, Any] = {}
        for number in range(1, people + 1):
            person = participant(session, self.study, number)
            randomise(session, self.study, person, by=self.coordinator, now=NOW)
            arm = open_envelope(session, self.study, person, by=self.clinician, why="Test", now=NOW)
            self.by_arm.setdefault(arm, person)

    def on(self, database: Database) -> Self:
        """The same in the database as it was put back, without a session yet."""
        again = copy(self)
        again.database = database
        return again

    @contextmanager
    def at_work(self) -> Iterator[Self]:
        """The same within a session of its own."""
        with self.database.writing() as session:
            self.session = session
            self.by_arm = {arm: session.get_one(Participant, person.id) for arm, person in self.by_arm.items()}
            yield self

    def record(self, person: Any, delivered: Any, **changes: Any) -> int:
        options: dict[str, Any] = {
            "visit": "session1",
            "held_on": HELD,
            "base_version": 0,
            "by": self.clinician,
        } | changes
        return record_session(self.session, self.study, person, delivered=delivered, now=LATER, **options)


def _treated(database: Database) -> Treated:
    with database.writing() as session:
        return Treated(session)


@pytest.fixture
def treated(begun: Any, kind: str) -> Iterator[Treated]:
    with begun(kind, _treated) as there, there.at_work() as treated:
        yield treated


@pytest.mark.requirement("CON-21b")
def test_what_was_delivered_is_kept_for_either_arm(treated: Treated):
    for arm, delivered in (("sham", {"laser": DONE, "talk": True}), ("graded_sensorimotor", {"loading": DONE})):
        person = treated.by_arm[arm]
        assert treated.record(person, delivered) == 1
        treatment, row = session_of(treated.session, treated.study, person, "session1", by=treated.clinician, now=LATER)
        assert treatment.arm == arm
        assert row.version == 1
        assert row.delivered == ({"laser": DONE, "talk": {}} if arm == "sham" else {"loading": DONE})
        assert (row.status, row.held_on) == ("held", HELD)
        assert (treatment.adherence.held, treatment.adherence.planned) == (1, 2)


@pytest.mark.requirement("E6-1", "CONC-2", "CONC-7")
def test_rows_and_log_have_one_size_whatever_was_delivered(treated: Treated):
    treated.record(treated.by_arm["sham"], {"laser": DONE, "talk": True})
    treated.record(treated.by_arm["graded_sensorimotor"], {"loading": {**DONE, "note": "é" * 1500}})
    lengths = treated.session.execute(select(func.length(SESSION.c.delivered)).distinct()).scalars().all()
    assert lengths == [12 + 4 + CONTENT_SIZE + 16]
    entries = treated.session.execute(
        select(AUDIT.c.old, AUDIT.c.new, AUDIT.c.why, AUDIT.c.subject).where(AUDIT.c.action == "session.recorded")
    ).all()
    assert len(entries) == 2
    assert {(entry.old, len(entry.new), entry.why, entry.subject) for entry in entries} == {
        (None, len(entries[0].new), None, "visit/session1")
    }
    assert entries[0].new != entries[1].new


def test_the_blinded_see_that_a_session_took_place(treated: Treated):
    person = treated.by_arm["sham"]
    treated.record(person, {"laser": DONE, "talk": False})
    row = treated.session.execute(
        select(VISIT).where(VISIT.c.participant_id == person.id, VISIT.c.code == "session1")
    ).one()
    assert (row.status, row.held_on, row.reason) == ("held", HELD, None)


@pytest.mark.requirement("P11-e2")
def test_a_correction_needs_a_reason_and_keeps_every_version(treated: Treated):
    person = treated.by_arm["sham"]
    treated.record(person, {"laser": DONE})
    with pytest.raises(Invalid, match="Say why this session is corrected"):
        treated.record(person, {"laser": {**DONE, "minutes": 25}}, base_version=1)
    why = "The laser ran for 25 minutes"
    assert treated.record(person, {"laser": {**DONE, "minutes": 25}}, base_version=1, why=why) == 2
    versions = history_of(treated.session, treated.study, person, "session1", by=treated.clinician, now=LATER)
    assert [(one.version, one.delivered["laser"], one.why) for one in versions] == [
        (1, DONE, None),
        (2, {**DONE, "minutes": 25}, why),
    ]
    entry = treated.session.execute(select(AUDIT).where(AUDIT.c.action == "session.corrected")).one()
    assert entry.old
    assert entry.why  # says that there is a reason; the reason itself may tell the arm
    assert "laser" not in entry.why


def test_a_correction_of_the_day_moves_the_visit(treated: Treated):
    person = treated.by_arm["sham"]
    treated.record(person, {"laser": DONE})
    treated.record(person, {"laser": DONE}, base_version=1, why="Wrong day", held_on=date(2026, 3, 21))
    row = treated.session.execute(
        select(VISIT).where(VISIT.c.participant_id == person.id, VISIT.c.code == "session1")
    ).one()
    assert row.held_on == date(2026, 3, 21)


def test_who_saved_first_is_not_overwritten(treated: Treated):
    person = treated.by_arm["sham"]
    treated.record(person, {"laser": DONE})
    with pytest.raises(Conflict) as caught:
        treated.record(person, {"laser": DONE}, base_version=0)
    assert caught.value.current_version == 1


@pytest.mark.parametrize(
    ("delivered", "field"),
    [
        ({}, "delivered"),
        ({"laser": False, "talk": False}, "delivered"),
        ({"loading": DONE}, "loading"),
        ({"laser": {"minutes": 30}}, "laser.device"),
        ({"laser": {**DONE, "minutes": 91}}, "laser.minutes"),
        ({"laser": {**DONE, "minutes": "thirty"}}, "laser.minutes"),
        ({"laser": {**DONE, "device": "c"}}, "laser.device"),
        ({"laser": {**DONE, "colour": "red"}}, "laser.colour"),
        ({"laser": DONE, "talk": {"note": "hello"}}, "talk.note"),
        ({"laser": True}, "laser.minutes"),
        ({"laser": {**DONE, "note": "é" * 3000}}, "delivered"),
    ],
)
def test_what_does_not_fit_the_arm_is_not_stored(treated: Treated, delivered: Any, field: str):
    with pytest.raises(Invalid) as caught:
        treated.record(treated.by_arm["sham"], delivered)
    assert field in {problem.field for problem in caught.value.problems}
    assert treated.session.execute(select(func.count()).select_from(SESSION)).scalar() == 0


def test_a_missing_code_is_a_reason_for_no_answer(treated: Treated):
    delivered = {"laser": {"minutes": {"missing": "UNK"}, "device": "b"}}
    assert treated.record(treated.by_arm["sham"], delivered) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"visit": "baseline"},
        {"visit": "nonsense"},
        {"held_on": date(2026, 5, 1)},
        {"held_on": date(2026, 3, 15)},  # outside the window, without a reason
    ],
)
def test_the_visit_and_the_day_must_fit(treated: Treated, changes: Any):
    with pytest.raises(Problem):
        treated.record(treated.by_arm["sham"], {"laser": DONE}, **changes)


def test_a_session_outside_its_window_is_kept_with_its_reason(treated: Treated):
    person = treated.by_arm["sham"]
    assert treated.record(person, {"laser": DONE}, held_on=date(2026, 3, 15), reason="Holiday") == 1


@pytest.mark.requirement("E6-1", "P11-d")
@pytest.mark.parametrize(
    ("role", "site"), [(role, "SYD") for role in Role if role is not Role.CLINICIAN] + [(Role.CLINICIAN, "PER")]
)
def test_nobody_else_sees_or_records_treatment(treated: Treated, role: Role, site: str):
    other = actor(treated.session, treated.study, role, site, name="somebody")
    person = treated.by_arm["sham"]
    with pytest.raises(NotAllowed):
        treated.record(person, {"laser": DONE}, by=other)
    with pytest.raises((NotAllowed, NotFound)):
        sessions_of(treated.session, treated.study, person, by=other, now=LATER)
    with pytest.raises((NotAllowed, NotFound)):
        history_of(treated.session, treated.study, person, "session1", by=other, now=LATER)
    if site == "PER":
        assert not my_participants(treated.session, treated.study, by=other, now=LATER).rows
    else:
        with pytest.raises(NotAllowed):
            my_participants(treated.session, treated.study, by=other, now=LATER)


def test_a_participant_who_is_not_randomised_has_no_session(treated: Treated):
    with pytest.raises(Refused, match="not randomised yet"):
        treated.record(participant(treated.session, treated.study, 99), {"laser": DONE})


def test_my_participants_are_paged_with_their_arms_and_each_opening_is_written_down(treated: Treated):
    treated.record(treated.by_arm["sham"], {"laser": DONE})
    before = treated.session.execute(select(func.count()).where(AUDIT.c.action == "envelope.opened")).scalar_one()
    seen: list[Any] = []
    cursor = None
    while True:
        page = my_participants(treated.session, treated.study, by=treated.clinician, now=LATER, cursor=cursor, limit=3)
        seen += page.rows
        cursor = page.next
        if cursor is None:
            break
    assert [row.code for row in seen] == [f"P-{number:04}" for number in range(1, 9)]
    assert [row.arm for row in seen].count("sham") == 4
    assert {row.arm_label for row in seen} == {"Sham devices", "Graded sensorimotor retraining"}
    treated_row = next(row for row in seen if row.code == treated.by_arm["sham"].code)
    assert (treated_row.adherence.words, treated_row.next_visit) == ("1 of 2", "session2")
    after = treated.session.execute(select(func.count()).where(AUDIT.c.action == "envelope.opened")).scalar_one()
    assert after - before == 8
    back = my_participants(
        treated.session, treated.study, by=treated.clinician, now=LATER, cursor=page.previous, limit=3
    )
    assert [row.code for row in back.rows] == ["P-0004", "P-0005", "P-0006"]


def test_whom_to_treat_next_comes_first_and_who_has_no_session_last(treated: Treated):
    done = treated.by_arm["sham"]
    stopped = update(VISIT).where(VISIT.c.participant_id == done.id).values(status=VisitStatus.STOPPED)
    treated.session.execute(stopped)
    late = participant_by_code(treated.session, treated.study, "P-0008", by=treated.clinician)
    dates = VISIT.c.participant_id == late.id, VISIT.c.code == "session2"
    treated.session.execute(update(VISIT).where(*dates).values(target_on=HELD - timedelta(days=90)))

    def page(**options: Any) -> Any:
        return my_participants(
            treated.session, treated.study, by=treated.clinician, now=LATER, next_first=True, limit=3, **options
        )

    def walk(**options: Any) -> list[Any]:
        pages = [page(**options)]
        while pages[-1].next:
            pages.append(page(cursor=pages[-1].next, **options))
        return pages

    everybody = [row.code for each in walk() for row in each.rows]
    between = [f"P-{number:04}" for number in range(1, 8) if f"P-{number:04}" != done.code]
    assert everybody == [late.code, *between, done.code]
    assert [row.code for each in walk(to_come=True) for row in each.rows] == everybody[:-1]
    last = walk()[-1]
    assert [row.code for row in page(cursor=last.previous).rows] == everybody[3:6]
    with pytest.raises(Invalid, match="belongs to another list"):
        page(cursor=paging.encode("no day", "P-0001"))


@pytest.mark.requirement("REL-5")
def test_nothing_is_stored_when_the_audit_entry_cannot_be(treated: Treated, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("The disk is full.")

    monkeypatch.setattr("app.treatment.actions.record", broken)
    person = treated.by_arm["sham"]
    with pytest.raises(RuntimeError), treated.session.begin_nested():
        treated.record(person, {"laser": DONE})
    monkeypatch.undo()
    assert treated.session.execute(select(func.count()).select_from(SESSION)).scalar() == 0
    assert treated.record(person, {"laser": DONE}) == 1


@pytest.mark.requirement("E6-1", "CONC-7")
@pytest.mark.parametrize("why", ["The laser broke", "sham was not to be had", "Loading hurt too much"])
def test_a_reason_that_the_blinded_read_tells_no_arm(treated: Treated, why: str):
    person = treated.by_arm["sham"]
    asked: dict[str, Any] = {"version": 1, "by": treated.clinician, "now": LATER}
    for change in (miss_session, reopen_session):
        with pytest.raises(Invalid, match="may tell an arm"):
            change(treated.session, treated.study, person, "session1", why=why, **asked)
    with pytest.raises(Invalid, match="may tell an arm"):
        treated.record(person, {"laser": DONE}, reason=why)
    kept = miss_session(treated.session, treated.study, person, "session1", why="The therapist was ill", **asked)
    assert kept.status == VisitStatus.MISSED
    with pytest.raises(NotAllowed):
        miss_session(
            treated.session, treated.study, person, "session2", why=why, **{**asked, "by": treated.coordinator}
        )


STOPPED_ON = date(2026, 3, 22)


def visits_of_person(treated: Treated, person: Any) -> dict[str, tuple[str, str]]:
    rows = treated.session.execute(select(VISIT).where(VISIT.c.participant_id == person.id))
    return {row.code: (row.kind, row.status) for row in rows}


def stop(treated: Treated, person: Any, **changes: Any) -> None:
    told: dict[str, Any] = {"on": STOPPED_ON, "reason": "No time for more", "by": treated.clinician} | changes
    stop_treatment(treated.session, treated.study, person, now=LATER, **told)


@pytest.mark.requirement("E9R1-1")
def test_treatment_that_is_stopped_stops_the_sessions_and_nothing_else(treated: Treated):
    person = treated.by_arm["sham"]
    before = visits_of_person(treated, person)
    stop(treated, person)
    after = visits_of_person(treated, person)
    assert {status for kind, status in after.values() if kind == "treatment"} == {"stopped"}
    others = {code: each for code, each in before.items() if each[0] != "treatment"}
    assert others == {code: after[code] for code in others}
    assert person.status == "randomised"
    to_come = my_participants(treated.session, treated.study, by=treated.clinician, now=LATER, to_come=True)
    assert person.code not in {row.code for row in to_come.rows}
    with pytest.raises(Refused, match="stopped already"):
        stop(treated, person)
    entry = treated.session.execute(select(AUDIT).where(AUDIT.c.action == "treatment.stopped")).one()
    assert (entry.participant, entry.why) == (person.code, "No time for more")


def test_a_session_before_the_stop_can_still_be_recorded_and_none_after_it(treated: Treated):
    person = treated.by_arm["sham"]
    stop(treated, person, on=date(2026, 3, 22))
    with pytest.raises(Refused, match="Treatment was stopped on"):
        treated.record(person, {"laser": DONE}, held_on=date(2026, 3, 23))
    assert treated.record(person, {"laser": DONE}, held_on=date(2026, 3, 22)) == 1
    assert visits_of_person(treated, person)["session1"] == ("treatment", "held")


def test_treatment_goes_on_when_it_was_stopped_by_mistake(treated: Treated):
    person = treated.by_arm["sham"]
    before = visits_of_person(treated, person)
    stop(treated, person)
    by, why = treated.clinician, "Wrong participant"
    resume_treatment(treated.session, treated.study, person, why=why, by=by, now=LATER)
    assert visits_of_person(treated, person) == before
    assert (person.treatment_stopped_on, person.treatment_stopped_reason) == (None, None)
    with pytest.raises(Refused, match="not recorded as stopped"):
        resume_treatment(treated.session, treated.study, person, why=why, by=by, now=LATER)


def test_who_does_not_treat_stops_nothing_and_no_reason_tells_an_arm(treated: Treated):
    person = treated.by_arm["sham"]
    with pytest.raises(NotAllowed):
        stop(treated, person, by=treated.coordinator)
    with pytest.raises(Invalid, match="may tell an arm"):
        stop(treated, person, reason="The sham laser hurt")
    with pytest.raises(Invalid, match="Say why treatment was stopped"):
        stop(treated, person, reason=" ")
    assert person.treatment_stopped_on is None
