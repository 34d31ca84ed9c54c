"""Correcting a pre-screen: judged again as it was judged, every value in the log, and no allocation ever moves."""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.audit.verify import verify
from app.capture import actions as capture
from app.capture.locks.actions import close_data
from app.capture.locks.rules import Kind
from app.capture.models import DataQuery
from app.exports.changes import head_of
from app.exports.reads import open_export
from app.foundation.database import Database, table_of
from app.foundation.errors import Conflict, Invalid, NotAllowed, Refused
from app.participants.actions import erase_identity, fail_screening, mark, screen, withdraw
from app.participants.corrections.actions import Asked
from app.participants.corrections.reads import history, screening_of
from app.participants.corrections.rules import Allotted, Correction, answer_changes
from app.participants.models import Participant
from app.participants.reads import SCREENING, ScreeningResult, participant_by_code
from app.participants.status import Status
from app.people.access import Actor
from app.people.permissions import Permission
from app.randomisation.actions import draw, randomise, seal
from app.randomisation.models import Allocation, Slot
from app.randomisation.reads import allotted_of
from app.safety.deviations.actions import look
from app.safety.deviations.reads import DEVIATION
from app.safety.deviations.rules import Rule
from app.safety.screening import correct_screening
from app.schedule.actions import open_visits
from app.schedule.models import ParticipantVisit
from app.studies.in_use import StudyInUse
from app.studies.models import StudyVersion
from tests.capture.records import consented
from tests.factories import MINI, NOW, TODAY, mini_study, person, site
from tests.participants.acts import ANNA, ELIGIBLE, log_of, screened

LATER = NOW + timedelta(days=40)
WHY = "Read from the passport: the card of the clinic was wrong"
BY_SURGERY: dict[str, Any] = {
    "code": "operated",
    "label": "Operated",
    "by": "expression",
    "expression": "if([screening][pain_screen] >= 7, 'high', 'low')",
    "levels": [{"code": "low", "label": "Low pain"}, {"code": "high", "label": "High pain"}],
}
STRATIFIED: dict[str, Any] = {"method": "permuted_blocks", "strata": [BY_SURGERY]}
VISITS: Any = [{**MINI["visits"][0], "instruments": []}, *MINI["visits"][1:]]  # type: ignore[index]
VISIT, QUERY = table_of(ParticipantVisit), table_of(DataQuery)
SLOT, ALLOCATION = table_of(Slot), table_of(Allocation)


@dataclass
class Trial:
    """The small trial with one person, who was screened, and their coordinator."""

    session: Session
    changes: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=lambda: dict(ELIGIBLE))
    reason: str | None = None

    def __post_init__(self) -> None:
        self.study: StudyInUse = mini_study(self.session, **self.changes)
        self.by: Actor = person(self.session, self.study, "coordinator")
        self.one: Participant = screen(
            self.session,
            self.study,
            site=site(self.session, self.study),
            answers=self.answers,
            failure_reason=self.reason,
            personal=ANNA,
            by=self.by,
            now=NOW,
        )[0]
        if self.one.status == Status.SCREENED:
            told: dict[str, Any] = {"by": self.by, "now": NOW}
            open_visits(self.session, self.study, self.one, anchor="screening", on=TODAY, **told)

    def correct(self, **changed: Any) -> Correction | None:
        """Correct these answers (None takes one out); what begins with an underscore is asked otherwise."""
        asked = {name[1:]: changed.pop(name) for name in list(changed) if name.startswith("_")}
        answers = {**self.stands.answers, **changed}
        by = asked.pop("by", self.by)
        version = asked.pop("base_version", self.stands.version)
        said = Asked(answers, asked.pop("failure_reason", None), version, asked.pop("why", WHY))
        self.one = participant_by_code(self.session, self.study, self.one.code, by=self.by)
        lot = asked.pop("lot", lambda kept: allotted_of(self.session, self.study, self.one, kept))
        assert not asked
        return correct_screening(self.session, self.study, self.one, said, lot=lot, by=by, now=LATER)

    @property
    def stands(self) -> ScreeningResult:
        assert self.one.id is not None
        found, _ = screening_of(self.session, self.one.id)
        assert found is not None
        return found

    @property
    def status(self) -> str:
        return participant_by_code(self.session, self.study, self.one.code, by=self.by).status

    def becomes(self, *statuses: Status) -> None:
        for status in statuses:
            asked: dict[str, Any] = {"on": TODAY, "permission": Permission.PARTICIPANT_WITHDRAW, "by": self.by}
            mark(self.session, self.study, self.one, status, now=NOW, **asked)

    def deviations(self) -> list[tuple[str, str, str]]:
        rows = self.session.execute(select(DEVIATION).order_by(DEVIATION.c.id))
        return [(row.rule, row.state, row.what) for row in rows]

    def log(self, action: str) -> list[Any]:
        return log_of(self.session, action=action)


@pytest.fixture
def trial(session: Session) -> Trial:
    return Trial(session)


@pytest.mark.requirement("AX11-8", "EMA-5", "P11-e2")
def test_a_mistyped_answer_is_corrected_and_both_values_are_in_the_log(trial: Trial) -> None:
    made = trial.correct(age=54)
    assert made is not None
    assert (made.follows, trial.status) == ("", Status.SCREENED)
    stands = trial.stands
    assert (stands.version, stands.answers["age"], stands.eligible) == (2, 54, True)
    assert (stands.corrected_at, stands.corrected_by, stands.screened_at) == (LATER, trial.by.username, NOW)
    (line,) = trial.log("screening.corrected")
    assert (line.item, line.old, line.new, line.why) == ("age", "44", "54", WHY)
    assert (line.at, line.username) == (LATER, trial.by.username)
    (judged,) = trial.log("screening.judged_again")
    assert json.loads(judged.old)["version"] == 1
    assert json.loads(judged.new)["verdicts"] == {"adult": True, "pain": True, "surgery": True}
    lines = history(trial.session, trial.study, trial.one.code)
    assert [(each.item, each.old, each.new) for each in lines if each.item == "age"] == [
        ("age", None, 44),
        ("age", 44, 54),
    ]
    assert verify(trial.session, "mini").intact


def test_whoever_follows_the_exports_gets_the_corrected_row(trial: Trial) -> None:
    study, session = trial.study, trial.session
    manager = person(session, study, "data_manager")

    def rows(since: int | None = None) -> list[dict[str, Any]]:
        table = open_export(session, study, "screening", by=manager, since=since)
        return [dict(zip([column.name for column in table.columns], row, strict=True)) for row in table.rows]

    (before,) = rows()
    assert (before["corrected_at"], before["age"]) == (None, 44)
    head = head_of(session, study).size
    assert rows(head) == []
    trial.correct(age=54)
    (after,) = rows(head)
    assert (after["change"], after["corrected_at"], after["screened_at"], after["age"]) == ("changed", LATER, NOW, 54)


@pytest.mark.requirement("REL-4")
def test_the_same_once_more_is_the_same_correction_and_nothing_new_is_refused(trial: Trial) -> None:
    assert trial.correct(age=54) is not None
    before = len(log_of(trial.session))
    assert trial.correct(age=54, _base_version=1) is None
    assert (trial.stands.version, len(log_of(trial.session))) == (2, before)
    with pytest.raises(Refused, match="Nothing of this differs"):
        trial.correct()


@pytest.mark.requirement("CONC-8")
def test_whoever_was_slower_is_told_and_overwrites_nothing(trial: Trial) -> None:
    trial.correct(age=54)
    with pytest.raises(Conflict, match="while you were typing") as caught:
        trial.correct(age=45, _base_version=1)
    assert caught.value.current_version == 2
    # That they do not take part is news as well: a form that was opened before would not show it.
    fail_screening(trial.session, trial.study, trial.one, reason="declined", by=trial.by, now=NOW)
    with pytest.raises(Conflict):
        trial.correct(age=45, _base_version=2)


@pytest.mark.parametrize(
    ("changed", "field_"),
    [
        ({"age": 999}, "age"),
        ({"age": None}, "age"),
        ({"surgery": {"missing": "UNK"}}, "surgery"),
        ({"arm": 1}, "arm"),
        ({"age": 50, "_why": " "}, "why"),
        ({"age": 50, "_why": "x" * 1001}, "why"),
        ({"age": 50, "_why": "She has the Placebex device"}, "why"),
        ({"age": 50, "_failure_reason": "declined"}, "failure_reason"),
    ],
)
def test_what_cannot_be_kept_is_said_by_its_field(trial: Trial, changed: dict[str, Any], field_: str) -> None:
    with pytest.raises(Invalid) as caught:
        trial.correct(**changed)
    assert [each.field for each in caught.value.problems] == [field_]
    assert trial.stands.version == 1


def test_only_who_screens_at_the_site_corrects(trial: Trial) -> None:
    for role, where in (("assessor", "north"), ("coordinator", "south"), ("data_manager", None), ("monitor", "north")):
        with pytest.raises(NotAllowed):
            trial.correct(age=54, _by=person(trial.session, trial.study, role, site_code=where))
    assert trial.correct(age=54, _by=person(trial.session, trial.study, "investigator")) is not None
    other = mini_study(trial.session, code="other")
    by = person(trial.session, other, "coordinator", username="else")
    asked, lot = Asked({}, None, 1, WHY), lambda _: Allotted(moved={})
    with pytest.raises(NotAllowed):
        correct_screening(trial.session, other, trial.one, asked, lot=lot, by=by, now=NOW)


@pytest.mark.requirement("CON-F2", "P11-f")
@pytest.mark.parametrize("steps", [(), (Status.CONSENTED,)])
def test_who_is_not_randomised_and_not_eligible_becomes_a_screen_failure(
    trial: Trial, steps: tuple[Status, ...]
) -> None:
    trial.becomes(*steps)
    if steps:
        told: dict[str, Any] = {"anchor": "consent", "on": TODAY, "by": trial.by, "now": NOW}
        open_visits(trial.session, trial.study, trial.one, **told)
    made = trial.correct(age=12, surgery=True)
    assert made is not None
    assert made.follows == "screen_failed"
    assert (trial.status, trial.stands.failure_reason, trial.stands.eligible) == (
        "screen_failed",
        "adult,surgery",
        False,
    )
    assert set(trial.session.execute(select(VISIT.c.status)).scalars()) <= {"stopped"}
    (line,) = trial.log("participant.screen_failed")
    assert json.loads(line.new) == {"status": "screen_failed", "failure_reason": "adult,surgery"}
    assert trial.deviations() == []
    assert trial.correct(age=12, surgery=True, _base_version=1) is None


@pytest.mark.requirement("E6-9")
def test_who_takes_part_and_was_not_eligible_stays_and_is_a_deviation_at_once(trial: Trial) -> None:
    trial.becomes(Status.CONSENTED, Status.RANDOMISED)
    made = trial.correct(age=12, _lot=lambda _: Allotted(has_place=True))
    assert made is not None
    assert made.follows == "deviation"
    assert (trial.status, trial.stands.eligible, trial.stands.failure_reason) == ("randomised", False, None)
    ((rule, state, what),) = trial.deviations()
    assert (rule, state) == (Rule.INELIGIBLE, "open")
    assert "Aged 18 to 70" in what
    assert [each.category for each in trial.session.execute(select(DEVIATION))] == ["eligibility"]
    # It stands when the system looks for itself, and goes when the answer is put right.
    assert look(trial.session, trial.study, by=trial.by, now=LATER) == 0
    trial.correct(age=13, surgery=True, _lot=lambda _: Allotted(has_place=True))
    assert [state for _, state, _ in trial.deviations()] == ["gone", "open"]
    trial.correct(age=21, surgery=False, _lot=lambda _: Allotted(has_place=True))
    assert [state for _, state, _ in trial.deviations()] == ["gone", "gone"]
    assert look(trial.session, trial.study, by=trial.by, now=LATER) == 0


@pytest.mark.parametrize("steps", [(), (Status.CONSENTED,)])
def test_whoever_withdrew_before_randomisation_took_no_part(trial: Trial, steps: tuple[Status, ...]) -> None:
    trial.becomes(*steps)
    told: dict[str, Any] = {"level": "visits", "reason": "Moved", "on": TODAY, "by": trial.by, "now": NOW}
    withdraw(trial.session, trial.study, trial.one, **told)
    made = trial.correct(age=12)
    assert made is not None
    assert (made.follows, trial.status, trial.deviations()) == ("", "withdrawn", [])


def test_in_a_study_without_arms_who_consented_takes_part(session: Session) -> None:
    trial = Trial(session, {"allocation": {"method": "observed"}})
    trial.becomes(Status.CONSENTED)
    made = trial.correct(age=12)
    assert made is not None
    assert (made.follows, trial.status) == ("deviation", "consented")


@pytest.mark.requirement("CON-F2")
def test_a_screen_failure_who_was_eligible_after_all_is_screened_again(session: Session) -> None:
    trial = Trial(session, answers={**ELIGIBLE, "age": 12})
    assert trial.status == "screen_failed"
    made = trial.correct(age=21)
    assert made is not None
    assert made.follows == "screened"
    assert (trial.status, trial.stands.failure_reason, trial.stands.eligible) == ("screened", None, True)
    (line,) = trial.log("participant.put_back")
    assert json.loads(line.old) == {"status": "screen_failed"}
    # Back again by the same way, and their visits with them.
    trial.correct(age=12)
    assert trial.status == "screen_failed"


def test_a_reason_of_the_study_stays_until_it_is_said_otherwise(session: Session) -> None:
    trial = Trial(session, answers={**ELIGIBLE, "age": 12}, reason="not_eligible")
    trial.correct(age=13)
    assert (trial.status, trial.stands.failure_reason) == ("screen_failed", "not_eligible")
    trial.correct(age=21)
    assert (trial.status, trial.stands.failure_reason, trial.stands.eligible) == ("screen_failed", "not_eligible", True)
    trial.correct(age=12)
    with pytest.raises(Invalid, match="Choose one of the reasons"):
        trial.correct(age=21, _failure_reason="bored")
    trial.correct(age=21, _failure_reason="")
    assert (trial.status, trial.stands.failure_reason) == ("screened", None)


def test_whoever_declined_is_not_brought_back_by_a_correction(session: Session) -> None:
    trial = Trial(session, reason="declined")
    with pytest.raises(Invalid, match="eligible before"):
        trial.correct(age=50, _failure_reason="")
    trial.correct(age=50)
    assert (trial.status, trial.stands.failure_reason, trial.stands.answers["age"]) == ("screen_failed", "declined", 50)


def test_a_screen_failure_on_whom_more_depends_is_screened_anew(session: Session) -> None:
    trial = Trial(session)
    trial.becomes(Status.CONSENTED)
    trial.correct(age=12)
    with pytest.raises(Refused, match="after their consent"):
        trial.correct(age=21)
    other = Trial(session, {"code": "other"}, answers={**ELIGIBLE, "age": 12})
    erase_identity(session, other.study, other.one, why="Asked for it", by=other.by, now=NOW)
    with pytest.raises(Refused, match="erased since"):
        other.correct(age=21)
    assert (trial.status, other.status) == ("screen_failed", "screen_failed")


def test_it_is_judged_by_the_version_they_were_screened_under_on_that_day(session: Session) -> None:
    trial = Trial(session)
    stricter = {**MINI["eligibility"], "criteria": [{**MINI["eligibility"]["criteria"][0], "rule": "[age] >= 90"}]}  # type: ignore[dict-item, index]
    newer = mini_study(session, code="stricter", eligibility=stricter)
    version = session.execute(
        select(table_of(StudyVersion)).where(table_of(StudyVersion).c.id == newer.version_id)
    ).one()
    assert version.id != trial.study.version_id
    trial.study = StudyInUse(trial.study.id, "mini", newer.version_id, newer.definition)
    trial.correct(age=54)
    assert (trial.stands.eligible, trial.stands.study_version_id) == (True, trial.stands.study_version_id)
    assert {verdict.code for verdict in trial.stands.verdicts} == {"adult", "pain", "surgery"}


def test_what_is_locked_is_not_corrected(trial: Trial) -> None:
    manager = person(trial.session, trial.study, "data_manager", site_code=None)
    told: dict[str, Any] = {"why": "The data are clean", "by": manager, "now": NOW}
    asked: dict[str, Any] = {"kind": Kind.LOCKED, "participants": [trial.one.code], "visit": None}
    close_data(trial.session, trial.study, **asked, **told)
    with pytest.raises(Refused, match="is locked since"):
        trial.correct(age=54)


def randomised(session: Session, **changes: Any) -> Trial:
    """Somebody who was randomised by an answer of their pre-screen."""
    trial = Trial(session, {"allocation": STRATIFIED, "visits": VISITS, **changes})
    statistician = person(session, trial.study, "statistician", site_code=None)
    method = trial.study.definition.allocation.method
    options: dict[str, Any] = (
        {"options": {"measure": "range", "probability": "4/5", "weights": [], "size_weight": 1}}
        if method == "minimisation"
        else {"block_sizes": (2,), "slots_per_stratum": 4}
    )
    made = draw(session, trial.study, method=method, by=statistician, now=NOW, **options)
    assert made.id is not None
    seal(session, trial.study, made.id, by=statistician, now=NOW)
    other = consented(session, trial.study, "M-900", status=Status.CONSENTED)
    assert other.id is not None
    randomise(session, trial.study, other, by=trial.by, now=NOW)
    trial.one = other
    return trial


@pytest.mark.requirement("RND-5", "E9-3")
@pytest.mark.parametrize("method", ["permuted_blocks", "minimisation"])
def test_a_stratum_stays_as_it_was_and_what_it_should_have_been_is_a_deviation(session: Session, method: str) -> None:
    trial = randomised(session, allocation={**STRATIFIED, "method": method})
    before = [tuple(row) for table in (SLOT, ALLOCATION) for row in session.execute(select(table).order_by(table.c.id))]
    made = trial.correct(pain_screen=9)
    assert made is not None
    assert made.moved == {"operated": ("low", "high")}
    assert made.follows == "operated:high"
    after = [tuple(row) for table in (SLOT, ALLOCATION) for row in session.execute(select(table).order_by(table.c.id))]
    assert before == after
    assert trial.stands.moved_levels == {"operated": ("low", "high")}
    ((rule, state, what),) = trial.deviations()
    assert (rule, state) == (Rule.STRATUM, "open")
    assert "randomised as “Low pain”" in what
    assert "it is “High pain”" in what
    assert look(session, trial.study, by=trial.by, now=LATER) == 0
    # Another answer of the same level changes nothing of it; the right one takes it away.
    trial.correct(pain_screen=8)
    assert [state for _, state, _ in trial.deviations()] == ["open"]
    trial.correct(pain_screen=6)
    assert (trial.stands.moved_levels, [state for _, state, _ in trial.deviations()]) == ({}, ["gone"])


def test_answers_that_no_factor_uses_leave_the_stratum_alone(session: Session) -> None:
    trial = randomised(session)
    made = trial.correct(age=50)
    assert made is not None
    assert (made.follows, trial.deviations()) == ("", [])


def test_checks_of_other_forms_that_refer_to_an_answer_are_made_again(session: Session) -> None:
    instruments: Any = MINI["instruments"]
    item = {
        "code": "years",
        "label": "Years with pain",
        "type": "integer",
        "checks": [{"rule": "[years] <= [screening][age]", "message": "Longer than their life.", "kind": "soft"}],
    }
    form = {"code": "years_form", "label": "Years", "source": "test", "sections": [{"items": [item]}]}
    visits: Any = [{**MINI["visits"][0], "instruments": ["years_form"]}, *MINI["visits"][1:]]  # type: ignore[index]
    trial = Trial(session, {"instruments": [*instruments, form], "visits": visits})
    trial.one = consented(session, trial.study, "M-900")
    assessor = person(session, trial.study, "assessor")
    capture.save_entry(
        session,
        trial.study,
        trial.one,
        visit="baseline",
        instrument="years_form",
        values={"years": 40},
        reasons={},
        base_version=0,
        why=None,
        by=assessor,
        now=NOW,
    )
    assert session.execute(select(QUERY)).all() == []
    trial.correct(age=30, _lot=lambda _: Allotted(has_place=True))
    (query,) = session.execute(select(QUERY)).all()
    assert (query.item, query.text, query.closed_at) == ("years", "Longer than their life.", None)
    trial.correct(age=41, _lot=lambda _: Allotted(has_place=True))
    (query,) = session.execute(select(QUERY)).all()
    assert query.closed_at == LATER


@pytest.mark.requirement("P11-e2")
def test_the_database_takes_the_next_version_and_nothing_else(database: Database) -> None:
    with database.writing() as session:
        screened(session, mini_study(session))
    for values in (
        {"answers": "{}"},
        {"answers": "{}", "version": 3},
        {"answers": "{}", "version": 1},
        {"screened_by": "mallory", "version": 2},
        {"screened_at": LATER, "version": 2},
        {"study_version_id": 99, "version": 2},
    ):
        with pytest.raises(DBAPIError, match="never changed"), database.writing() as session:
            session.execute(update(SCREENING).values(**values))
    with pytest.raises(DBAPIError, match="never removed"), database.writing() as session:
        session.execute(delete(SCREENING))
    with database.writing() as session:
        session.execute(update(SCREENING).values(answers="{}", version=2))


def test_an_answer_differs_by_what_it_says() -> None:
    same: Any = {"a": 1, "b": ["x", "y"], "c": {"missing": "UNK"}}
    assert answer_changes(same, {**same, "a": 1.0, "b": ["y", "x"]}) == ()
    found = answer_changes({**same, "d": 0}, {"a": True, "b": ["x"], "c": 3, "d": False})
    assert [each.code for each in found] == ["a", "b", "c", "d"]
    assert [(each.old, each.new) for each in answer_changes({"a": 1}, {"b": 2})] == [(None, 2), (1, None)]


STEPS = some.lists(
    some.tuples(
        some.sampled_from(["age", "pain_screen", "surgery", "back"]),
        some.integers(0, 10),
        some.sampled_from([None, "", "declined"]),
        some.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.requirement("EMA-5", "P11-e2")
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, failed=some.booleans(), stage=some.sampled_from([0, 1, 2]))
def test_whatever_is_corrected_no_earlier_value_is_lost(
    database: Database, steps: list[tuple[str, int, str | None, bool]], failed: bool, stage: int
) -> None:
    with database.writing() as session:
        session.begin_nested()  # each history alone: nothing of it stays
        trial = Trial(session, answers={**ELIGIBLE, "age": 12 if failed else 44})
        if not failed:
            trial.becomes(*(Status.CONSENTED, Status.RANDOMISED)[:stage])
        has_place = trial.status == "randomised"
        kept = 0
        for item, number, reason, is_stale in steps:
            value: Any = {"age": number * 10, "pain_screen": number, "surgery": number % 2 == 0}.get(item)
            changed = {item: value} if item != "back" else dict(ELIGIBLE)
            before, version = dict(trial.stands.answers), trial.stands.version
            status = trial.status
            asked: Any = {"_failure_reason": reason, "_base_version": version - 1 if is_stale else version}
            savepoint = session.begin_nested()
            try:
                made = trial.correct(**changed, **asked, _lot=lambda _: Allotted(has_place=has_place))
                savepoint.commit()
            except (Invalid, Refused, Conflict):
                savepoint.rollback()
                session.expire_all()
                made = None
            stands = trial.stands
            if made is None:
                assert (stands.answers, stands.version, trial.status) == (before, version, status)
                continue
            kept += 1
            assert not is_stale
            assert stands.version == version + 1
            # What becomes of somebody follows from the answers alone.
            if status in ("randomised", "withdrawn"):
                assert trial.status == status
            elif trial.status != "screen_failed":
                assert stands.eligible
                assert stands.failure_reason is None
            else:
                assert stands.failure_reason
            standing = [rule for rule, state, _ in trial.deviations() if state == "open"]
            assert standing == ([Rule.INELIGIBLE] if has_place and not stands.eligible else [])
        # The log, read alone, has every value from the first one to the one that stands, without a gap.
        values: dict[str, Any] = {}
        for line in history(session, trial.study, trial.one.code):
            if line.item:
                assert values.get(line.item) == line.old
                values[line.item] = line.new
        assert {code: value for code, value in values.items() if value is not None} == trial.stands.answers
        assert len(trial.log("screening.judged_again")) == kept
        assert verify(session, "mini").intact
        session.rollback()
