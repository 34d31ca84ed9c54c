"""Visits open once, are recorded as they happened, and stop when a participant leaves."""

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import Session

from app.consent.actions import withdraw_consent
from app.foundation.database import Database
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Refused
from app.foundation.words import day_in_words
from app.participants.actions import mark, withdraw
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.status import Status
from app.people.access import Actor
from app.people.permissions import Permission
from app.schedule import actions
from app.schedule.actions import correct_visit, miss_visit, open_visits, record_visit, reopen_visit, stop_visits
from app.schedule.reads import next_visits, visit_of, visits_due, visits_of
from app.schedule.rules import VisitState
from app.studies.definition import VisitKind
from app.studies.in_use import StudyInUse
from tests.consent.acts import agreed, study_with_consent
from tests.factories import NOW, TODAY, mini_study, person
from tests.participants.acts import log_of, screened

DAY = timedelta(days=1)


def enrolled(session: Session, study: StudyInUse, code: str = "north") -> tuple[Participant, Actor]:
    """A randomised participant with all their visits, and their coordinator."""
    by = person(session, study, "coordinator", site_code=code)
    one = screened(session, study, by=by, code=code)
    agreed(session, study, one, by=person(session, study, "investigator", site_code=code))
    acting: dict[str, Any] = {"on": TODAY, "by": by, "now": NOW}
    open_visits(session, study, one, anchor="consent", **acting)
    mark(session, study, one, Status.RANDOMISED, permission=Permission.PARTICIPANT_RANDOMISE, **acting)
    open_visits(session, study, one, anchor="randomisation", **acting)
    return one, by


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return study_with_consent(session)


def test_visits_open_once_with_their_windows(session: Session, study: StudyInUse) -> None:
    one, by = enrolled(session, study)
    assert one.id is not None
    visits = visits_of(session, one.id)
    assert [(visit.code, visit.kind, visit.order) for visit in visits] == [
        ("baseline", "baseline", 0),
        ("tx01", "treatment", 1),
        ("week18", "assessment", 2),
    ]
    last = visits[2]
    assert (last.target_on, last.opens_on, last.closes_on) == (
        TODAY + 126 * DAY,
        TODAY + 119 * DAY,
        TODAY + 140 * DAY,
    )
    assert open_visits(session, study, one, anchor="randomisation", on=TODAY + DAY, by=by, now=NOW) == []
    assert [visit.model_dump() for visit in visits_of(session, one.id)] == [visit.model_dump() for visit in visits]
    log = log_of(session, action="visit.opened")
    assert [entry.subject for entry in log] == ["visit/baseline", "visit/tx01", "visit/week18"]
    assert json.loads(log[2].new)["opens_on"] == (TODAY + 119 * DAY).isoformat()
    assert open_visits(session, study, one, anchor="screening", on=TODAY, by=by, now=NOW) == []


def test_visits_open_only_for_those_who_take_part_and_by_those_who_may(session: Session, study: StudyInUse) -> None:
    one, by = enrolled(session, study)
    with pytest.raises(NotAllowed):
        open_visits(session, study, one, anchor="consent", on=TODAY, by=person(session, study, "assessor"), now=NOW)
    withdraw(session, study, one, level="visits", reason="Moved", on=TODAY, by=by, now=NOW)
    with pytest.raises(Refused, match="withdrawn"):
        open_visits(session, study, one, anchor="consent", on=TODAY, by=by, now=NOW)


def test_a_visit_in_its_window_is_recorded(session: Session, study: StudyInUse) -> None:
    one, by = enrolled(session, study)
    visit = record_visit(session, study, one, "baseline", held_on=TODAY, version=1, by=by, now=NOW)
    assert one.id is not None
    assert visit_of(session, one.id, "baseline").model_dump() == visit.model_dump()
    assert (visit.status, visit.held_on, visit.version) == ("held", TODAY, 2)
    (entry,) = log_of(session, action="visit.held")
    assert (entry.participant, entry.subject) == (one.code, "visit/baseline")
    assert json.loads(entry.new) == {"status": "held", "held_on": TODAY.isoformat(), "in_window": True}


@pytest.mark.requirement("SPI-18")
def test_a_visit_outside_its_window_is_kept_with_its_reason(session: Session, study: StudyInUse) -> None:
    one, by = enrolled(session, study)
    with pytest.raises(Invalid) as caught:
        record_visit(session, study, one, "week18", held_on=TODAY, version=1, by=by, now=NOW)
    assert [(problem.field, problem.rule) for problem in caught.value.problems] == [("reason", "required")]
    assert day_in_words(TODAY + 119 * DAY) in caught.value.reason
    visit = record_visit(
        session, study, one, "week18", held_on=TODAY, version=1, reason="Leaves the country", by=by, now=NOW
    )
    assert (visit.status, visit.reason) == ("held", "Leaves the country")
    (entry,) = log_of(session, action="visit.held")
    assert json.loads(entry.new)["in_window"] is False
    assert entry.why == "Leaves the country"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"held_on": TODAY + DAY}, Invalid),
        ({"held_on": TODAY - DAY}, Invalid),
        ({"version": 7}, Conflict),
        ({"visit_code": "week99"}, NotFound),
        ({"visit_code": "tx01", "reason": "x"}, NotAllowed),
        ({"permission": Permission.TREATMENT_RECORD}, NotAllowed),
        ({"reason": "x" * 1001}, Invalid),
    ],
)
def test_what_cannot_be_recorded_leaves_no_trace(
    session: Session, study: StudyInUse, changes: dict[str, Any], error: type[Exception]
) -> None:
    one, by = enrolled(session, study)
    asked: dict[str, Any] = {"visit_code": "baseline", "held_on": TODAY, "version": 1, "by": by, "now": NOW}
    before = len(log_of(session))
    with pytest.raises(error):
        record_visit(session, study, one, **{**asked, **changes})
    assert len(log_of(session)) == before


def test_only_those_at_the_site_record_its_visits(session: Session, study: StudyInUse) -> None:
    one, _ = enrolled(session, study)
    for role, where in (("coordinator", "south"), ("investigator", "north"), ("monitor", "north")):
        by = person(session, study, role, site_code=where)
        with pytest.raises(NotAllowed):
            record_visit(session, study, one, "baseline", held_on=TODAY, version=1, by=by, now=NOW)


def test_a_treatment_session_is_recorded_by_the_clinician(session: Session, study: StudyInUse) -> None:
    one, _ = enrolled(session, study)
    visit = record_visit(
        session,
        study,
        one,
        "tx01",
        held_on=TODAY + DAY,
        version=1,
        by=person(session, study, "clinician"),
        now=NOW + DAY,
        permission=Permission.TREATMENT_RECORD,
    )
    assert visit.status == "held"


def test_whoever_saves_second_overwrites_nothing(session: Session, study: StudyInUse) -> None:
    one, by = enrolled(session, study)
    record_visit(session, study, one, "baseline", held_on=TODAY, version=1, by=by, now=NOW)
    with pytest.raises(Conflict) as caught:
        miss_visit(session, study, one, "baseline", version=1, why="Ill", by=by, now=NOW)
    assert caught.value.current_version == 2
    with pytest.raises(Refused, match="Correct its date"):
        record_visit(session, study, one, "baseline", held_on=TODAY, version=2, by=by, now=NOW)


@pytest.mark.requirement("GDPR-7")
def test_no_visit_is_recorded_without_consent(session: Session, study: StudyInUse) -> None:
    one, by = enrolled(session, study)
    later = NOW + 3 * DAY
    withdraw_consent(session, study, one, on=TODAY + 2 * DAY, why="x", by=by, now=later)
    acting: dict[str, Any] = {"version": 1, "by": by, "now": later}
    with pytest.raises(Refused, match="withdrawn"):
        record_visit(session, study, one, "baseline", held_on=TODAY + 3 * DAY, **acting)
    assert record_visit(session, study, one, "baseline", held_on=TODAY + DAY, **acting).status == "held"


def test_a_missed_visit_says_why_and_can_be_opened_again(session: Session, study: StudyInUse) -> None:
    one, by = enrolled(session, study)
    acting: dict[str, Any] = {"by": by, "now": NOW}
    with pytest.raises(Invalid):
        miss_visit(session, study, one, "baseline", version=1, why="", **acting)
    assert miss_visit(session, study, one, "baseline", version=1, why="Ill", **acting).status == "missed"
    with pytest.raises(Refused, match="Reopen"):
        record_visit(session, study, one, "baseline", held_on=TODAY, version=2, **acting)
    with pytest.raises(Refused, match="Reopen"):
        correct_visit(session, study, one, "baseline", held_on=TODAY, version=2, why="x", **acting)
    with pytest.raises(Invalid):
        reopen_visit(session, study, one, "baseline", version=2, why=" ", **acting)
    visit = reopen_visit(session, study, one, "baseline", version=2, why="Wrong participant", **acting)
    assert (visit.status, visit.reason, visit.version) == ("planned", None, 3)
    with pytest.raises(Refused):
        reopen_visit(session, study, one, "baseline", version=3, why="x", **acting)
    record_visit(session, study, one, "baseline", held_on=TODAY, version=3, **acting)
    told = [entry.action for entry in log_of(session)][-3:]
    assert told == ["visit.missed", "visit.reopened", "visit.held"]


def test_a_corrected_day_keeps_the_old_one_in_the_log(session: Session, study: StudyInUse) -> None:
    one, by = enrolled(session, study)
    acting: dict[str, Any] = {"by": by, "now": NOW + 20 * DAY}
    record_visit(session, study, one, "baseline", held_on=TODAY, version=1, **acting)
    with pytest.raises(Invalid):
        correct_visit(session, study, one, "baseline", held_on=TODAY + DAY, version=2, why="", **acting)
    late = TODAY + 15 * DAY
    acting |= {"held_on": late, "version": 2, "why": "Typing error"}
    with pytest.raises(Invalid) as asked:
        correct_visit(session, study, one, "baseline", **acting)
    assert [problem.field for problem in asked.value.problems] == ["reason"], "a typing error is no reason to be late"
    visit = correct_visit(session, study, one, "baseline", reason="Snow", **acting)
    assert (visit.held_on, visit.reason) == (late, "Snow")
    (entry,) = log_of(session, action="visit.corrected")
    old = {"status": "held", "held_on": TODAY.isoformat(), "in_window": True, "reason": None}
    assert json.loads(entry.old) == old
    new = {"status": "held", "held_on": late.isoformat(), "in_window": False, "reason": "Snow"}
    assert (json.loads(entry.new), entry.why) == (new, "Typing error")


@pytest.mark.requirement("E9R1-1", "GDPR-7")
def test_withdrawal_from_visits_stops_what_is_planned_and_keeps_what_was_held(
    session: Session, study: StudyInUse
) -> None:
    one, by = enrolled(session, study)
    assert one.id is not None
    record_visit(session, study, one, "baseline", held_on=TODAY, version=1, by=by, now=NOW)
    withdraw(session, study, one, level="visits", reason="Moved", on=TODAY, by=by, now=NOW)
    assert stop_visits(session, study, one, why="Moved", by=by, now=NOW) == ["tx01", "week18"]
    assert stop_visits(session, study, one, why="Moved", by=by, now=NOW) == []
    assert [visit.status for visit in visits_of(session, one.id)] == ["held", "stopped", "stopped"]
    assert [entry.subject for entry in log_of(session, action="visit.stopped")] == ["visit/tx01", "visit/week18"]
    assert next_visits(session, [one.id], TODAY) == {}
    again = participant_by_code(session, study, one.code, by=by)
    acting: dict[str, Any] = {"version": 2, "by": by}
    with pytest.raises(Refused, match="the participant left"):
        record_visit(session, study, again, "week18", held_on=TODAY + DAY, reason="x", now=NOW + DAY, **acting)
    assert record_visit(session, study, again, "week18", held_on=TODAY, reason="x", now=NOW, **acting).status == "held"
    with pytest.raises(NotAllowed):
        stop_visits(session, study, one, why="x", by=person(session, study, "assessor"), now=NOW)
    with pytest.raises(Invalid):
        stop_visits(session, study, one, why="", by=by, now=NOW)


def test_nothing_is_stored_when_the_audit_entry_cannot_be(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared_database.writing() as session:
        study = study_with_consent(session)
        one, by = enrolled(session, study)
        assert one.id is not None

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(actions, "record", broken)
    with pytest.raises(OSError, match="disk full"), shared_database.writing() as session:
        record_visit(session, study, one, "baseline", held_on=TODAY, version=1, by=by, now=NOW)
    with shared_database.reading() as session:
        assert visit_of(session, one.id, "baseline").status == "planned"


def test_the_next_visit_of_many_is_one_statement(session: Session, study: StudyInUse) -> None:
    first, by = enrolled(session, study)
    second, _ = enrolled(session, study)
    third = screened(session, study)
    record_visit(session, study, first, "baseline", held_on=TODAY, version=1, by=by, now=NOW)
    statements = []
    engine = session.get_bind()

    def count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    ids = [one.id for one in (first, second, third) if one.id is not None]
    found = next_visits(session, ids, TODAY + 15 * DAY)
    event.remove(engine, "before_cursor_execute", count)
    assert len(statements) == 1
    assert {key: (row.code, row.state, row.days_left) for key, row in found.items()} == {
        first.id: ("tx01", VisitState.OVERDUE, -2),
        second.id: ("baseline", VisitState.OVERDUE, -1),
    }
    assert next_visits(session, [], TODAY) == {}


def test_today_shows_what_is_due_at_ones_sites_page_by_page(session: Session, study: StudyInUse) -> None:
    here = [enrolled(session, study)[0] for _ in range(3)]
    there, _ = enrolled(session, study, "south")
    by = person(session, study, "assessor")
    today = TODAY + 2 * DAY
    page = visits_due(session, study, by=by, today=today, limit=4)
    assert [(row.participant_code, row.code, row.state) for row in page.rows] == [
        (one.code, "baseline", VisitState.DUE) for one in here
    ] + [(here[0].code, "tx01", VisitState.DUE)]
    assert page.previous is None
    second = visits_due(session, study, by=by, today=today, limit=4, cursor=page.next)
    assert [(row.participant_code, row.code) for row in second.rows] == [(one.code, "tx01") for one in here[1:]]
    assert second.next is None
    back = visits_due(session, study, by=by, today=today, limit=4, cursor=second.previous)
    assert back.rows == page.rows
    assert (back.previous, back.next is not None) == (None, True)
    everyone = person(session, study, "data_manager")
    baseline = visits_due(session, study, by=everyone, today=today, kinds=[VisitKind.BASELINE])
    assert {row.site_code for row in baseline.rows} == {"north", "south"}
    assert there.code in {row.participant_code for row in baseline.rows}
    assert not visits_due(session, study, by=by, today=TODAY - DAY).rows
    later = visits_due(session, study, by=by, today=today, until=TODAY + 119 * DAY)
    assert [row.state for row in later.rows if row.code == "week18"] == [VisitState.UPCOMING] * 3
    assert not visits_due(session, study, by=person(session, study, "statistician"), today=today).rows
    with pytest.raises(Invalid):
        visits_due(session, study, by=by, today=today, cursor="x")


def test_no_visit_of_another_study_is_touched(session: Session, study: StudyInUse) -> None:
    one, _ = enrolled(session, study)
    other = mini_study(session, code="other")
    by = person(session, other, "data_manager")
    assert not visits_due(session, other, by=by, today=TODAY).rows
    mine = person(session, study, "coordinator")
    with pytest.raises(NotFound):
        record_visit(session, other, one, "baseline", held_on=TODAY, version=1, by=mine, now=NOW)
