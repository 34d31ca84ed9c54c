"""Contacts, care, losses and deaths: lines are corrected with a reason, and an end changes what is due."""

from datetime import date, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Refused
from app.foundation.languages import sentence
from app.participants.identity import PARTICIPANT
from app.participants.reads import participant_by_code
from app.participants.status import Status
from app.people.permissions import Permission, Role, holders
from app.safety.deviations.finding import VISIT
from app.safety.logs import actions, reads
from app.safety.logs.reads import ScreenedWanted, month_of
from app.safety.logs.rules import End, attempts_since, care_problems, contact_problems, still_due, why_not_end
from tests.capture.records import consented
from tests.exports.world import as_json
from tests.factories import NOW, TODAY, person
from tests.plans import plans
from tests.safety.world import AWARE, FATAL, HOSPITAL, Safe, fine, safe

CALL: dict[str, Any] = {"at": AWARE, "how": "call", "result": "no_answer", "note": "Rang twice"}
CARE: dict[str, Any] = {"treatment": "Ibuprofen 400 mg", "began": "2026-02", "ended": "", "indication": "Headache"}


@pytest.fixture
def trial(session: Session) -> Safe:
    return safe(session)


def contact(trial: Safe, *, role: str = "coordinator", **changes: Any) -> int:
    asked = {**CALL, "by": trial.by(role), "now": NOW, **changes}
    return actions.record_contact(trial.session, trial.study, trial.someone, **asked)


def care(trial: Safe, *, role: str = "coordinator", **changes: Any) -> int:
    asked = {**CARE, "by": trial.by(role), "now": NOW, **changes}
    return actions.record_care(trial.session, trial.study, trial.someone, **asked)


def end(trial: Safe, kind: End, *, role: str = "coordinator", **changes: Any) -> int:
    by = trial.by(role)
    asked: dict[str, Any] = {"on": TODAY, "words": f"Known to be {kind}", "prove": fine, "by": by, "now": NOW}
    trial.someone = participant_by_code(trial.session, trial.study, "M-001", by=by)
    return actions.record_end(trial.session, trial.study, trial.someone, kind, **{**asked, **changes})


def status(trial: Safe) -> str:
    return str(trial.session.execute(select(PARTICIPANT.c.status).where(PARTICIPANT.c.code == "M-001")).scalar_one())


def visits(trial: Safe) -> dict[str, str]:
    rows = trial.session.execute(select(VISIT.c.code, VISIT.c.status).order_by(VISIT.c.order))
    return {row.code: row.status for row in rows}


# Lines


@pytest.mark.requirement("P11-e2", "REL-4")
def test_a_line_is_kept_once_and_corrected_with_a_reason(trial: Safe):
    lines: Any = (
        (contact, reads.contacts_of, {"result": "reached"}, {"note": ""}),
        (care, reads.care_of, {"ended": "2026-03-01"}, {"indication": "Back"}),
    )
    for keep, of, changed, later_on in lines:
        number = keep(trial)
        assert keep(trial) == number
        with pytest.raises(Invalid, match="why this line"):
            keep(trial, line=number, base_version=1, **changed)
        asked: dict[str, Any] = {"line": number, "base_version": 1, "why": "Misheard", **changed}
        assert keep(trial, **asked) == keep(trial, **asked) == number
        with pytest.raises(Conflict):
            keep(trial, **{**asked, **later_on})
        with pytest.raises(NotFound):
            keep(trial, line=number + 1, base_version=1, why="Misheard")
        (line,) = of(trial.session, trial.someone.id or 0)
        assert line.version == 2
    log = [each for each in trial.log() if ".changed" in each.action]
    changes = [(each.action, each.item, each.old, each.new, each.why) for each in log]
    assert changes == [
        ("contact.changed", "result", '"no_answer"', '"reached"', "Misheard"),
        ("care.changed", "ended", '""', '"2026-03-01"', "Misheard"),
    ]


def test_attempts_in_vain_are_counted_since_somebody_was_reached(trial: Safe):
    for hours, result in ((5, "no_answer"), (4, "reached"), (3, "message_left"), (2, "not_valid")):
        contact(trial, at=NOW - timedelta(hours=hours), result=result)
    lines = reads.contacts_of(trial.session, trial.someone.id or 0)
    assert [line.result for line in lines] == ["not_valid", "message_left", "reached", "no_answer"]
    assert attempts_since(line.result for line in lines) == 2
    assert attempts_since([]) == attempts_since(["they_called", "no_answer"]) == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"note": ""}, []),
        ({"how": "pigeon"}, ["how"]),
        ({"result": "maybe"}, ["result"]),
        ({"at": NOW + timedelta(minutes=1)}, ["at"]),
        ({"note": "x" * 2001}, ["note"]),
    ],
)
def test_what_is_asked_of_a_contact(changes: dict[str, Any], expected: list[str]):
    assert [each.field for each in contact_problems(**{**CALL, **changes}, now=NOW)] == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"ended": "2026-02-14"}, []),
        ({"treatment": ""}, ["treatment"]),
        ({"began": "then"}, ["began"]),
        ({"began": "2026-04"}, ["began"]),
        ({"ended": "then"}, ["ended"]),
        ({"ended": "2026-04"}, ["ended"]),
        ({"ended": "2026-01"}, ["ended"]),
        ({"indication": " "}, ["indication"]),
    ],
)
def test_what_is_asked_of_care(changes: dict[str, Any], expected: list[str]):
    assert [each.field for each in care_problems(**{**CARE, **changes}, today=TODAY)] == expected


@pytest.mark.requirement("P11-g", "CONC-11")
@pytest.mark.parametrize("role", Role)
def test_who_may_write_a_line(trial: Safe, role: Role):
    for keep, permission in ((contact, Permission.CONTACT_RECORD), (care, Permission.CARE_RECORD)):
        if role in holders(permission):
            assert keep(trial, role=role)
            continue
        with pytest.raises(NotAllowed):
            keep(trial, role=role)
    with pytest.raises(Invalid, match="may tell an arm"):
        contact(trial, note="Asked whether it was the Placebex device")


@pytest.mark.requirement("P11-f")
def test_before_consent_there_are_attempts_to_reach_somebody_and_nothing_else(trial: Safe):
    trial.someone.consented_on, trial.someone.status = None, Status.SCREENED
    with pytest.raises(Refused, match="has not consented"):
        care(trial)
    number = contact(trial)
    assert contact(trial) == number
    with pytest.raises(Invalid) as wrong:
        contact(trial, note="x" * 201)
    assert [each.field for each in wrong.value.problems] == ["note"]
    contact(trial, note="x" * 200)
    manager = trial.by("data_manager")
    assert [each["result"] for each in as_json(trial.session, trial.study, "contacts", manager)] == ["no_answer"] * 2
    trial.someone.status = Status.SCREEN_FAILED
    with pytest.raises(Refused, match="did not pass screening"):
        contact(trial, note="Again")
    trial.someone.consented_on = TODAY
    contact(trial, note="x" * 201)


# Ends


@pytest.mark.requirement("P11-f", "E9R1-1", "CON-F6")
def test_who_is_lost_is_due_still_and_may_be_found(trial: Safe):
    before = visits(trial)
    number = end(trial, End.LOST)
    assert end(trial, End.LOST) == number
    assert status(trial) == Status.LOST
    assert visits(trial) == before
    with pytest.raises(Refused, match="lost already"):
        end(trial, End.LOST, words="Once more")
    with pytest.raises(Invalid):
        end(trial, End.FOUND, on=TODAY - timedelta(days=1))
    end(trial, End.FOUND)
    assert status(trial) == Status.RANDOMISED
    assert [(each.kind, each.corrects) for each in reads.ends_of(trial.session, trial.someone.id or 0)] == [
        ("lost", None),
        ("found", number),
    ]
    actions_of = [each.action for each in trial.log() if each.action.startswith("participant.")]
    assert actions_of == [
        "participant.lost",
        "participant.end_recorded",
        "participant.put_back",
        "participant.end_recorded",
    ]


@pytest.mark.requirement("P11-f", "P11-e1")
def test_a_death_stops_everything_and_a_mistake_starts_exactly_that_again(trial: Safe):
    stopped_before = update(VISIT).where(VISIT.c.participant_id == trial.someone.id, VISIT.c.code == "tx01")
    trial.session.execute(stopped_before.values(status="stopped"))
    before = visits(trial)
    assert before == {"baseline": "planned", "tx01": "stopped", "week18": "planned"}
    end(trial, End.LOST)
    end(trial, End.DIED)
    assert status(trial) == Status.DIED
    assert set(visits(trial).values()) == {"stopped"}
    with pytest.raises(Refused, match="dead already"):
        end(trial, End.DIED, words="Again")
    with pytest.raises(Refused):
        end(trial, End.FOUND)
    end(trial, End.MISTAKE)
    assert (status(trial), visits(trial)) == (Status.LOST, before)
    end(trial, End.FOUND)
    assert status(trial) == Status.RANDOMISED
    end(trial, End.DIED, words="Now indeed")
    assert status(trial) == Status.DIED
    assert trial.report(FATAL)  # and the death itself is reported


@pytest.mark.requirement("P11-f", "E9R1-1")
def test_somebody_completes_the_study_once_no_visit_is_due_and_it_can_be_taken_back(trial: Safe):
    with pytest.raises(Refused, match=r"3 visits are still due\..* Still due: baseline, tx01, week18\.$"):
        end(trial, End.COMPLETED)
    assert status(trial) == Status.RANDOMISED
    of_them = update(VISIT).where(VISIT.c.participant_id == trial.someone.id)
    trial.session.execute(of_them.values(status="missed"))
    number = end(trial, End.COMPLETED, words="")
    assert end(trial, End.COMPLETED, words="") == number
    assert status(trial) == Status.COMPLETED
    with pytest.raises(Refused, match="completed the study"):
        end(trial, End.COMPLETED, words="Once more")
    with pytest.raises(Invalid):
        end(trial, End.REOPENED, words="")
    end(trial, End.REOPENED, words="Week 52 was held after all")
    assert status(trial) == Status.RANDOMISED
    assert reads.ends_of(trial.session, trial.someone.id or 0)[-1].corrects == number
    end(trial, End.COMPLETED)
    end(trial, End.DIED)
    end(trial, End.MISTAKE)
    assert status(trial) == Status.COMPLETED
    # What is wrong in an entry can still be put right.
    assert "participant.completed" in [each.action for each in trial.log()]


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        (Status.SCREENED, {End.DIED}),
        (Status.SCREEN_FAILED, set()),
        (Status.CONSENTED, {End.LOST, End.DIED}),
        (Status.RANDOMISED, {End.LOST, End.DIED, End.COMPLETED}),
        (Status.COMPLETED, {End.DIED, End.REOPENED}),
        (Status.WITHDRAWN, {End.DIED}),
        (Status.LOST, {End.FOUND, End.DIED}),
        (Status.DIED, {End.MISTAKE}),
    ],
)
def test_what_can_be_recorded_of_whom(status: Status, allowed: set[End]):
    assert {kind for kind in End if why_not_end(kind, status) is None} == allowed


@pytest.mark.requirement("P11-g", "P11-50a")
def test_an_end_is_signed_and_says_how_it_is_known(trial: Safe):
    odd: list[dict[str, Any]] = [
        {"words": ""},
        {"words": "On the Placebex device"},
        {"on": TODAY + timedelta(days=3)},
        {"on": date(2020, 1, 1)},
    ]
    for changes in odd:
        with pytest.raises(Invalid):
            end(trial, End.DIED, **changes)

    def wrong() -> None:
        raise Invalid([])

    with pytest.raises(Invalid):
        end(trial, End.DIED, prove=wrong)
    for role in ("assessor", "clinician", "monitor"):
        with pytest.raises(NotAllowed):
            end(trial, End.DIED, role=role)
    assert status(trial) == Status.RANDOMISED


@pytest.mark.requirement("P11-e2")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE participant_end SET words = 'x'",
        "DELETE FROM participant_end",
        "DELETE FROM contact",
        "DELETE FROM concomitant_care",
    ],
)
def test_the_database_itself_keeps_every_line(trial: Safe, statement: str):
    contact(trial)
    care(trial)
    end(trial, End.LOST)
    with pytest.raises(DBAPIError), trial.session.begin_nested():
        trial.session.execute(text(statement))


# Counts, the screening log, exports


def test_counts_of_one_participant(trial: Safe):
    trial.report(HOSPITAL, role="clinician")
    trial.report(FATAL)
    contact(trial)
    asked = trial.someone.id or 0
    assert reads.counts_of(trial.session, asked, by=trial.by("coordinator")) == reads.Counts(2, 2, 0, 1, 0)
    assert reads.counts_of(trial.session, asked, by=trial.by("clinician")).events == 1
    far = person(trial.session, trial.study, "coordinator", site_code="south")
    assert reads.counts_of(trial.session, asked, by=far).events == 0


@pytest.mark.requirement("EMA-12")
def test_the_screening_log_is_of_ones_sites_by_month(session: Session, trial: Safe):
    failed = consented(session, trial.study, "M-002", status=Status.SCREEN_FAILED)
    failed.screened_on = date(2026, 2, 27)
    session.add(failed)
    consented(session, trial.study, "M-003", site_code="south")
    session.flush()
    by = trial.by("data_manager")

    def found(**wanted: Any) -> list[str]:
        page = reads.screened_page(session, trial.study, by=by, wanted=ScreenedWanted(**wanted))
        return [row.participant for row in page.rows]

    assert found() == ["M-003", "M-001", "M-002"]
    assert found(month="2026-02") == found(outcome="failed") == ["M-002"]
    assert found(outcome="passed", site="south") == ["M-003"]
    assert found(reason="declined") == []
    assert month_of("2026-13") is month_of("2026") is None
    assert month_of("2026-12") == (date(2026, 12, 1), date(2027, 1, 1))
    first = reads.screened_page(session, trial.study, by=by, limit=2)
    then = reads.screened_page(session, trial.study, by=by, limit=2, cursor=first.next)
    assert [row.participant for row in then.rows] == ["M-002"]
    assert reads.screened_page(session, trial.study, by=by, limit=2, cursor=then.previous) == first
    north = [
        reads.ScreenedMonth("north", TODAY.replace(day=1), 1, 0),
        reads.ScreenedMonth("north", date(2026, 2, 1), 1, 1),
    ]
    assert reads.screened_by_month(session, trial.study, by=trial.by("coordinator")).rows == north
    everywhere = reads.screened_by_month(session, trial.study, by=by)
    assert everywhere.rows == [reads.ScreenedMonth("south", TODAY.replace(day=1), 1, 0), *north]
    one = ScreenedWanted(site="north", month="2026-02")
    assert reads.screened_by_month(session, trial.study, by=by, wanted=one).rows == north[1:]


def test_months_are_counted_by_the_database_a_year_at_a_time(session: Session, trial: Safe):
    """However many are screened, and for however long: a page asks twice, and gets a line for each month and site."""
    by = trial.by("data_manager")
    for number in range(2, 40):
        one = consented(session, trial.study, f"M-{number:03d}", status=Status.SCREEN_FAILED)
        one.screened_on = date(2024 + number // 12, number % 12 + 1, 1 + number % 28)
        session.add(one)
    session.flush()
    asked: list[str] = []
    hear = partial(_hear, asked)
    event.listen(session.get_bind(), "before_cursor_execute", hear)
    pages = [reads.screened_by_month(session, trial.study, by=by)]
    event.remove(session.get_bind(), "before_cursor_execute", hear)
    assert len(asked) == 2
    while (older := pages[-1].older) is not None:
        pages.append(reads.screened_by_month(session, trial.study, by=by, upto=older))
    rows = [row for page in pages for row in page.rows]
    assert all(len(page.rows) <= reads.MONTHS for page in pages)
    assert [row.month for row in rows] == sorted({row.month for row in rows}, reverse=True)
    assert (sum(row.screened for row in rows), sum(row.failed for row in rows)) == (39, 38)
    back = reads.screened_by_month(session, trial.study, by=by, upto=pages[1].newer)
    assert back.rows == pages[0].rows
    assert pages[0].newer is None
    far = reads.screened_by_month(session, trial.study, by=by, upto=date(9999, 12, 31))
    assert far.rows == []
    assert far.older is not None
    assert reads.screened_by_month(session, trial.study, by=by, upto=date(1, 1, 1)).rows == []


def _hear(asked: list[str], _: Any, __: Any, statement: str, *___: Any) -> None:
    asked.append(statement)


def test_a_page_of_the_screening_log_reads_no_more_of_the_trial_than_it_shows(session: Session, trial: Safe):
    with plans(session, "FROM screening") as found:
        reads.screened_page(session, trial.study, by=trial.by("data_manager"))
    (plan,) = found
    assert "ix_participant_study_screened" in plan  # as the page is sorted: what is left to sort are those of one day
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan


@pytest.mark.requirement("E9-6", "CONC-7")
def test_the_exports_hold_what_is_kept_and_no_usernames(trial: Safe):
    number = trial.report(FATAL, role="clinician")
    trial.judge(number)
    contact(trial)
    care(trial)
    manager = trial.by("data_manager")
    (event,) = as_json(trial.session, trial.study, "adverse_events", manager)
    assert {name: event[name] for name in ("participant", "number", "state", "outcome", "relatedness", "version")} == {
        "participant": "M-001",
        "number": number,
        "state": "judged",
        "outcome": "fatal",
        "relatedness": "possible",
        "version": 1,
    }
    assert (event["serious"], event["serious__death"], event["serious__disability"]) == (True, 1, 0)
    (line,) = as_json(trial.session, trial.study, "contacts", manager)
    assert (line["how"], line["result"]) == ("call", "no_answer")
    (line,) = as_json(trial.session, trial.study, "concomitant_care", manager)
    assert (line["began"], line["ended"]) == ("2026-02", None)
    assert as_json(trial.session, trial.study, "deviations", manager) == []
    assert "the_clinician" not in str(event)


def test_what_is_left_before_a_completion_is_counted_in_words():
    one = why_not_end(End.COMPLETED, Status.RANDOMISED, due=1)
    two = why_not_end(End.COMPLETED, Status.RANDOMISED, due=2)
    assert one is not None
    assert two is not None
    assert one.startswith("One visit is still due.")
    assert two.startswith("2 visits are still due.")
    assert why_not_end(End.COMPLETED, Status.RANDOMISED, due=0) is None
    assert still_due([]) is None
    assert still_due(["week18"]) == "Still due: week18."
    assert (
        still_due([f"tx0{number}" for number in range(1, 8)]) == "Still due: tx01, tx02, tx03, tx04, tx05 and 2 more."
    )
    said = sentence(f"{two} {still_due(list('abcdef'))}", "de")
    assert "visits" not in said
    assert "Noch fällig: a, b, c, d, e und 1 weitere." in said
