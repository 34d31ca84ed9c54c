"""The flow by arm: everybody is in one box at every level, whatever was recorded, and nobody else sees it."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update
from sqlmodel import Session

from app.audit.models import AuditEntry
from app.capture.models import Entry
from app.foundation.database import table_of
from app.foundation.errors import NotFound
from app.participants.models import Participant, RandomisedInError
from app.participants.status import Status
from app.people.permissions import Role
from app.randomisation.actions import randomise
from app.randomisation.opening import open_envelopes
from app.safety.models import ParticipantEnd
from app.schedule.models import ParticipantVisit
from app.schedule.status import VisitStatus
from app.studies.loading import LIBRARY, read_folder
from app.treatment.flow.actions import open_flow
from app.treatment.flow.rules import (
    ArmFlow,
    Delivery,
    Form,
    Person,
    Seen,
    VisitRow,
    Why,
    delivery_of,
    flow,
    follow_up,
    group_of,
    observed_at,
    seen_at,
    sessions_of,
    value_of,
    why_stopped,
)
from app.treatment.rules import treatment_visits
from tests.randomisation.small import ARMS, definition
from tests.randomisation.test_first_stage import GROUPS, Trial
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

ENTRY, VISIT, PARTICIPANT = table_of(Entry), table_of(ParticipantVisit), table_of(Participant)
AUDIT, END, IN_ERROR = table_of(AuditEntry), table_of(ParticipantEnd), table_of(RandomisedInError)
TODAY = date(2026, 6, 20)
PAST, COMING = date(2026, 6, 1), date(2026, 8, 1)
SMALL: dict[str, Any] = definition().model_dump(mode="json")
FOLLOW_UP = [
    {
        "code": f"week{week}",
        "label": f"Week {week}",
        "kind": "assessment",
        "day": 7 * week,
        "window": {"before": 7, "after": 7},
        "instruments": ["pain"],
    }
    for week in (6, 12)
]
STUDY = definition(
    visits=[*SMALL["visits"], *FOLLOW_UP],
    outcomes=[
        {"label": "Pain at week 12", "instrument": "pain", "item": "nrs", "visit": "week12", "kind": "primary"},
        {"label": "Pain at week 6", "instrument": "pain", "item": "nrs", "visit": "week6", "kind": "secondary"},
    ],
    withdrawal_levels=[
        {"code": "treatment", "label": "Stops treatment"},
        {"code": "visits", "label": "Stops visits", "stops_visits": True},
        {"code": "use", "label": "Nothing may be used", "stops_visits": True, "stops_use": True},
    ],
)
PRIMARY = STUDY.outcomes[0]
ARM = STUDY.arms[0].code


def person(**changes: Any) -> Person:
    """Somebody who takes part, of whom nothing is recorded yet."""
    codes = ("session1", "session2", "week6", "week12")
    planned = {code: VisitRow(VisitStatus.PLANNED, COMING, None) for code in codes}
    visits = planned | changes.pop("visits", {})
    known: dict[str, Any] = {"arm": ARM, "site": 1, "status": "randomised", "today": TODAY, "study": STUDY}
    return Person(**known | changes, visits=visits)


HELD = VisitRow(VisitStatus.HELD, PAST, PAST)
MISSED = VisitRow(VisitStatus.MISSED, PAST, None)
STOPPED = VisitRow(VisitStatus.STOPPED, COMING, None)
OVER = VisitRow(VisitStatus.PLANNED, PAST, None)
NO_SESSION = {"session1": MISSED, "session2": MISSED}


@pytest.mark.requirement("CON-F4")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (Delivery.PENDING, None)),
        ({"visits": {"session1": OVER}}, (Delivery.PENDING, None)),  # it can still be recorded
        ({"visits": {"session1": MISSED}}, (Delivery.PENDING, None)),
        ({"visits": {"session1": MISSED, "session2": HELD}}, (Delivery.RECEIVED, None)),
        ({"visits": {"session1": HELD}, "status": "withdrawn", "level": "visits"}, (Delivery.RECEIVED, None)),
        ({"visits": NO_SESSION}, (Delivery.NOT_RECEIVED, Why.SESSIONS_MISSED)),
        ({"visits": NO_SESSION, "in_error": True}, (Delivery.NOT_RECEIVED, Why.RANDOMISED_IN_ERROR)),
        ({"in_error": True}, (Delivery.PENDING, None)),
        ({"level": "treatment"}, (Delivery.NOT_RECEIVED, Why.WITHDRAWN)),  # and still comes to visits
        ({"status": "withdrawn", "level": "visits"}, (Delivery.NOT_RECEIVED, Why.WITHDRAWN)),
        ({"status": "lost"}, (Delivery.NOT_RECEIVED, Why.LOST)),
        ({"status": "died"}, (Delivery.NOT_RECEIVED, Why.DIED)),
        ({"visits": {"session1": STOPPED, "session2": STOPPED}}, (Delivery.NOT_RECEIVED, Why.NOT_PLANNED)),
    ],
)
def test_what_became_of_the_treatment(changes, expected):
    assert delivery_of(person(**changes)) == expected


def test_without_any_row_the_treatment_is_still_to_come():
    assert delivery_of(replace(person(), visits={})) == (Delivery.PENDING, None)


@pytest.mark.requirement("CON-F6")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"visits": {"session1": HELD}}, None),
        ({"visits": {"session1": HELD}, "level": "treatment"}, Why.WITHDRAWN),
        ({"visits": {"session1": HELD}, "status": "lost"}, Why.LOST),
        ({"visits": {"session1": HELD, "session2": HELD}, "level": "treatment"}, None),  # there was no more to stop
        ({"level": "treatment"}, None),  # never began
    ],
)
def test_who_was_treated_and_stopped(changes, expected):
    assert why_stopped(person(**changes)) == expected


@pytest.mark.requirement("CON-F6")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Seen.TO_COME),
        ({"visits": {"week12": OVER}}, Seen.LATE),
        ({"visits": {"week12": HELD}}, Seen.FOLLOWED),
        ({"visits": {"week12": MISSED}}, Seen.MISSED),
        ({"visits": {"week12": STOPPED}}, Seen.NOT_PLANNED),
        ({"level": "treatment"}, Seen.TO_COME),  # withdrew from treatment, and is followed up
        ({"status": "withdrawn", "level": "visits", "visits": {"week12": STOPPED}}, Seen.WITHDRAWN),
        ({"status": "withdrawn", "level": "visits", "left_on": TODAY, "visits": {"week12": OVER}}, Seen.LATE),
        ({"status": "lost"}, Seen.LOST),
        ({"status": "died"}, Seen.DIED),
        ({"status": "died", "visits": {"week12": HELD}}, Seen.FOLLOWED),  # before
        ({"status": "lost", "visits": {"week12": MISSED}}, Seen.MISSED),  # as it was recorded
        ({"level": "use", "withdrawn_on": PAST, "visits": {"week12": HELD}}, Seen.WITHDRAWN),
        ({"level": "use", "withdrawn_on": TODAY, "visits": {"week12": HELD}}, Seen.FOLLOWED),
    ],
)
def test_what_became_of_a_visit(changes, expected):
    assert seen_at(person(**changes), "week12") is expected


def of_week12(*forms: Form) -> dict[str, Any]:
    return {"forms": {("week12", "pain"): forms}, "visits": {"week12": HELD}}


@pytest.mark.requirement("CON-F5", "CON-26")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (of_week12(Form({"nrs": 0})), (True, None, "")),
        (of_week12(Form({"nrs": 3}, in_error=True), Form({"nrs": 4})), (True, None, "")),
        (of_week12(Form({"nrs": 3}, in_error=True)), (False, Why.ENTERED_IN_ERROR, "")),
        (of_week12(Form({"nrs": 3}, used=False)), (True, Why.USE_WITHDRAWN, "")),
        (of_week12(Form({"nrs": {"missing": "UNK"}})), (False, Why.MISSING_CODE, "UNK")),
        (of_week12(Form({"other": 1})), (False, Why.NO_VALUE, "")),
        ({"visits": {"week12": HELD}}, (False, Why.NO_FORM, "")),
        ({"visits": {"week12": MISSED}}, (False, Why.MISSED, "")),
        ({"status": "withdrawn", "level": "visits"}, (False, Why.WITHDRAWN, "visits")),
        ({"status": "lost"}, (False, Why.LOST, "")),
        ({}, (False, Why.TO_COME, "")),
        ({"in_error": True, **of_week12(Form({"nrs": 3}))}, (True, None, "")),  # is analysed as allocated
    ],
)
def test_who_is_analysed_and_why_not(changes, expected):
    assert value_of(person(**changes), PRIMARY) == expected


histories = st.builds(
    lambda arm, status, level, left, in_error, visits, forms: person(
        arm=arm,
        status=status,
        level=level,
        left_on=left,
        withdrawn_on=left,
        in_error=in_error,
        visits=visits,
        forms=forms,
    ),
    st.sampled_from([*(arm.code for arm in STUDY.arms), "gone"]),
    st.sampled_from([each.value for each in Status]),
    st.sampled_from([None, None, None, "treatment", "visits", "use", "not of this version"]),
    st.sampled_from([None, PAST, TODAY]),
    st.booleans(),
    st.dictionaries(
        st.sampled_from(["session1", "session2", "week6", "week12"]),
        st.builds(
            VisitRow,
            st.sampled_from([each.value for each in VisitStatus]),
            st.sampled_from([PAST, TODAY, COMING]),
            st.sampled_from([None, PAST, TODAY]),
            st.booleans(),
        ),
    ),
    st.dictionaries(
        st.sampled_from([("week6", "pain"), ("week12", "pain")]),
        st.lists(
            st.builds(
                Form,
                st.sampled_from([{}, {"nrs": 0}, {"nrs": None}, {"nrs": 7}, {"nrs": {"missing": "UNK"}}]),
                st.booleans(),
                st.booleans(),
            ),
            max_size=2,
        ),
    ),
)


def adds_up(found: tuple[ArmFlow, ...]) -> None:
    """The identities of CONSORT, of every arm."""
    for arm in found:
        assert arm.allocated == arm.received + arm.not_received + arm.pending + arm.not_known
        assert sum(reason.number for reason in arm.not_received_reasons) == arm.not_received
        assert sum(reason.number for reason in arm.stopped_reasons) == arm.stopped <= arm.received
        for visit in arm.visits:
            assert sum(visit.numbers.values()) == arm.allocated
            assert visit.numbers[Seen.LOST] <= arm.allocated
        for each in arm.analyses:
            assert each.analysed + each.excluded == arm.allocated
            assert each.analysed <= each.available <= arm.allocated
            assert sum(reason.number for reason in each.reasons) == each.excluded


@pytest.mark.requirement("CON-F4", "CON-F5")
@given(st.lists(histories, max_size=25))
def test_whatever_is_recorded_every_arm_adds_up(people: list[Person]):
    found = flow(STUDY, people)
    assert sum(arm.allocated for arm in found) == len(people)
    assert [arm.arm for arm in found][:2] == [arm.code for arm in STUDY.arms]  # also those with nobody
    adds_up(found)


# Of every design


@pytest.mark.requirement("CON-F4")
def test_a_survey_of_the_treatment_period_is_no_treatment():
    study, _ = read_folder(LIBRARY / "prt")
    assert study is not None
    assert len(study.arms) == 3
    survey = treatment_visits(study)[0].code
    held = {arm.code: VisitRow(VisitStatus.HELD, PAST, PAST) for arm in study.arms}
    people = [
        Person(arm=arm, site=1, status="randomised", today=TODAY, study=study, visits={survey: row})
        for arm, row in [*held.items(), ("prt", replace(HELD, recorded=True))]
    ]
    found = {arm.arm: arm for arm in flow(study, people)}
    adds_up(tuple(found.values()))
    assert sessions_of(study, "usual_care") == ()
    assert (found["usual_care"].not_known, found["placebo"].pending) == (1, 1)
    assert (found["prt"].allocated, found["prt"].received, found["prt"].pending) == (2, 1, 1)
    assert [visit.code for visit in follow_up(study)][-1:] == ["followup12"]
    assert {visit.visit for visit in found["prt"].visits} >= {"t2", "followup12"}


def test_where_sites_are_randomised_it_says_at_how_many_an_arm_is():
    found = flow(STUDY, [person(site=1), person(site=1), person(site=3), person(site=2, arm="sham")])
    assert [(arm.allocated, arm.sites) for arm in found] == [(3, 2), (1, 1)]


def test_where_groups_are_observed_they_are_those_that_were_recorded():
    group = {
        "code": "care",
        "label": "Care",
        "source": "test",
        "sections": [
            {
                "items": [
                    {
                        "code": "kind",
                        "label": "Which",
                        "type": "choice",
                        "choices": [{"code": arm["code"], "label": "One"} for arm in ARMS],
                    }
                ]
            }
        ],
    }
    visits = [{**SMALL["visits"][0], "instruments": ["pain", "care"]}, *FOLLOW_UP]
    observed = {"allocation": {"method": "observed"}, "treatment": [], "visits": visits}
    study = definition(**observed, instruments=[*SMALL["instruments"], group], outcomes=[PRIMARY.model_dump()])
    assert (at := observed_at(study)) is not None
    assert at[:3] == ("baseline", "care", "kind")

    def somebody(*forms: Form) -> Person:
        told = Person(arm="", site=1, status="consented", today=TODAY, study=study, forms={("baseline", "care"): forms})
        return replace(told, arm=group_of(told))

    people = [somebody(Form({"kind": "sham"})), somebody(), somebody(Form({"kind": "sham"}, in_error=True))]
    found = flow(study, people)
    adds_up(found)
    assert [(arm.arm, arm.allocated) for arm in found] == [(ARMS[0]["code"], 0), ("sham", 1), ("", 2)]
    assert found[1].not_known == 1
    bare = study.model_copy(update={"instruments": tuple(definition().instruments)})  # nothing that records a group
    assert observed_at(bare) is None
    assert [(arm.arm, arm.allocated) for arm in flow(bare, [replace(people[1], study=bare)])] == [("", 1)]


def test_a_study_says_which_answers_mean_which_group():
    etmi, problems = read_folder(LIBRARY / "etmi")
    assert etmi is not None
    assert not [each for each in problems if "group" in each.message]

    def somebody(*values: object, **changes: bool) -> Person:
        forms = {("discharge", "care"): tuple(Form({"received_etmi": value}, **changes) for value in values)}
        told = Person(arm="", site=1, status="consented", today=TODAY, study=etmi, forms=forms)
        return replace(told, arm=group_of(told))

    people = [somebody(True), somebody(False), somebody({"missing": "UNK"}), somebody(), somebody(True, in_error=True)]
    assert [each.arm for each in people] == ["etmi", "other_care", "", "", ""]
    found = flow(etmi, people)
    adds_up(found)
    assert [(arm.arm, arm.allocated) for arm in found] == [("etmi", 1), ("other_care", 1), ("", 3)]


# As it is kept


def kept(session: Session, table: Any, **values: Any) -> None:
    session.execute(insert(table).values(**values))


class Played:
    """Eight people in both arms, told by their numbers, of whom nothing is recorded yet."""

    def __init__(self, session: Session) -> None:
        self.session, self.study = session, study_of(session, STUDY)
        sealed(session, self.study, slots=20, sizes=(4,))
        self.statistician = actor(session, self.study, Role.STATISTICIAN)
        coordinator = actor(session, self.study, Role.COORDINATOR, "SYD")
        self.ids: list[int] = []
        for number in range(1, 9):
            row = participant(session, self.study, number)
            randomise(session, self.study, row, by=coordinator, now=NOW)
            assert row.id is not None
            self.ids.append(row.id)
        participant(session, self.study, 9)  # has no arm, and is counted nowhere
        told: dict[str, Any] = {"by": self.statistician, "why": "Test", "now": NOW}
        self.arms = open_envelopes(session, self.study, self.ids, **told)

    def differ(self) -> None:
        """Each of them has a history of their own."""
        session = self.session
        for number in range(8):
            for code in ("session1", "session2", "week6", "week12"):
                self.visit(number, code, VisitStatus.HELD)
            if number != 5:
                self.pain(number, "week12", {"nrs": number})
        self.visit(1, "session1", VisitStatus.MISSED)
        self.visit(1, "session2", VisitStatus.MISSED)
        self.change(2, status="withdrawn", withdrawal_level="use", withdrawn_on=date(2026, 3, 1))
        self.pain(3, "week6", {"nrs": {"missing": "UNK"}})
        self.change(4, status="died")
        self.visit(4, "week6", VisitStatus.STOPPED)
        common = {"study_id": self.study.id, "recorded_at": NOW, "recorded_by": "x"}
        self.change(3, status="lost")
        self.visit(3, "week6", VisitStatus.PLANNED)  # its window closed before
        for number, kind, on in ((4, "died", date(2026, 3, 20)), (3, "lost", TODAY)):
            words = {"words": "", "status_before": "randomised", "stopped": ""}
            kept(session, END, **common, **words, participant_id=self.ids[number], kind=kind, on=on)
        error = {"participant_id": self.ids[6], "reason": "ineligible", "why": "x", "found_on": TODAY, "told": "[]"}
        kept(session, IN_ERROR, **common, **error)
        self.pain(7, "week6", {"nrs": 1}, in_error_at=NOW, in_error_by="x")

    def visit(self, number: int, code: str, status: str) -> None:
        of = (VISIT.c.participant_id == self.ids[number], VISIT.c.code == code)
        held_on = date(2026, 3, 20) if status == VisitStatus.HELD else None
        values = {"status": status, "held_on": held_on}
        if self.session.execute(select(VISIT.c.id).where(*of)).first():
            self.session.execute(update(VISIT).where(*of).values(**values))
            return
        planned = {"target_on": PAST, "opens_on": PAST, "closes_on": PAST, "kind": "assessment", "created_at": NOW}
        at = {"study_id": self.study.id, "participant_id": self.ids[number], "code": code}
        kept(self.session, VISIT, **at, **planned, **values)

    def pain(self, number: int, visit: str, values: dict[str, Any], **more: Any) -> None:
        at = {"study_id": self.study.id, "participant_id": self.ids[number], "visit": visit, "instrument": "pain"}
        who = {"created_at": NOW, "created_by": "x", "saved_at": NOW, "saved_by": "x"}
        kept(
            self.session,
            ENTRY,
            **at,
            **who,
            **more,
            study_version_id=self.study.version_id,
            status="complete",
            version=1,
            reasons="{}",
            values=json.dumps(values),
        )

    def change(self, number: int, **values: Any) -> None:
        self.session.execute(update(PARTICIPANT).where(PARTICIPANT.c.id == self.ids[number]).values(**values))

    def of(self, *numbers: int) -> dict[str, int]:
        """How many of these are in each arm."""
        return {arm.code: sum(self.arms[self.ids[number]] == arm.code for number in numbers) for arm in STUDY.arms}


@pytest.mark.requirement("CON-F4", "CON-F5", "CON-F7", "CON-21b", "CON-26")
def test_the_database_is_counted_by_the_arm_that_was_allocated(session: Session):
    played = Played(session)
    played.differ()
    newest = select(AUDIT.c.position).order_by(AUDIT.c.position.desc()).limit(1)
    before = session.execute(newest).scalar_one()
    found = open_flow(session, played.study, by=played.statistician, now=NOW)
    adds_up(found.arms)
    assert {arm.arm: arm.allocated for arm in found.arms} == {arm.code: 4 for arm in STUDY.arms}

    def numbers(of: Any) -> dict[str, int]:
        return {arm.arm: of(arm) for arm in found.arms}

    def because(why: Why, of: str = "", which: int = 0) -> dict[str, int]:
        def number(arm: ArmFlow) -> int:
            return sum(each.number for each in arm.analyses[which].reasons if (each.why, each.of) == (why, of))

        return numbers(number)

    assert numbers(lambda arm: arm.received) == played.of(0, 2, 3, 4, 5, 6, 7)
    assert numbers(lambda arm: arm.not_received) == played.of(1)
    assert numbers(lambda arm: arm.in_error) == played.of(6)
    assert numbers(lambda arm: arm.visits[0].numbers[Seen.DIED]) == played.of(4)
    assert numbers(lambda arm: arm.visits[0].numbers[Seen.LATE]) == played.of(3)
    assert numbers(lambda arm: arm.visits[1].numbers[Seen.WITHDRAWN]) == played.of(2)
    assert numbers(lambda arm: arm.visits[1].numbers[Seen.FOLLOWED]) == played.of(0, 1, 3, 4, 5, 6, 7)
    assert numbers(lambda arm: arm.primary[0].analysed) == played.of(0, 1, 3, 4, 6, 7)
    assert numbers(lambda arm: arm.primary[0].available) == played.of(0, 1, 2, 3, 4, 6, 7)
    assert because(Why.USE_WITHDRAWN) == played.of(2)
    assert because(Why.NO_FORM) == played.of(5)
    assert because(Why.MISSING_CODE, "UNK", 1) == played.of(3)
    assert because(Why.ENTERED_IN_ERROR, "", 1) == played.of(7)
    assert because(Why.DIED, "", 1) == played.of(4)
    assert found.is_locked is False
    assert [arm.sites for arm in found.arms] == [1, 1]
    rows = session.execute(
        select(AUDIT.c.action, AUDIT.c.new).where(AUDIT.c.position > before).order_by(AUDIT.c.position)
    ).all()
    assert [row.action for row in rows] == ["envelope.opened"] * 8 + ["flow.reported"]
    assert {row.new for row in rows} == {None}  # no figure, which blinded readers of the log would learn from


AT = datetime(2026, 6, 20, 3, 0, tzinfo=UTC)


def written(played: Played, number: int, history: Person) -> Person:
    """A history as rows of one participant; and the same as it must be read again."""
    session, ident = played.session, played.ids[number]
    level, left, gone = history.level, history.left_on, history.status in ("lost", "died")
    withdrawn_on = left if level else None
    played.change(number, status=history.status, withdrawal_level=level, withdrawn_on=withdrawn_on)
    at = {"study_id": played.study.id, "participant_id": ident}
    common = {**at, "recorded_at": NOW, "recorded_by": "x"}
    if gone and left:
        words = {"words": "", "status_before": "randomised", "stopped": ""}
        kept(session, END, **common, **words, kind=history.status, on=left)
    if history.in_error:
        kept(session, IN_ERROR, **common, reason="twice", why="x", found_on=TODAY, told="[]")
    planned = {"target_on": PAST, "opens_on": PAST, "kind": "assessment", "version": 1, "created_at": NOW, "order": 0}
    rows = [
        {**at, **planned, "code": code, "status": row.status, "closes_on": row.closes_on, "held_on": row.held_on}
        for code, row in history.visits.items()
    ]
    session.execute(insert(VISIT), rows)
    forms: dict[tuple[str, str], list[Form]] = {}
    for (visit, instrument), some in history.forms.items():
        held_on = history.visits[visit].held_on
        used = not (level == "use" and held_on and withdrawn_on and held_on >= withdrawn_on)
        forms[visit, instrument] = [replace(form, used=used) for form in some]
        for repeat, form in enumerate(some, 1):
            error = {"in_error_at": NOW, "in_error_by": "x"} if form.in_error else {}
            played.pain(number, visit, dict(form.values), repeat=repeat, **error)
    return replace(
        history,
        arm=played.arms[ident],
        left_on=left if level or gone else None,
        withdrawn_on=withdrawn_on,
        visits={code: replace(row, recorded=False) for code, row in history.visits.items()},
        forms=forms,
    )


@pytest.mark.requirement("CON-F4", "CON-F5", "CON-26")
def test_whatever_is_kept_the_database_is_counted_as_one_by_one(session: Session):
    played = Played(session)
    session.execute(delete(VISIT))  # those of the plan

    @settings(max_examples=25, deadline=None)
    @given(st.lists(histories, min_size=8, max_size=8))
    def counted(drawn: list[Person]) -> None:
        point = session.begin_nested()
        people = [written(played, number, history) for number, history in enumerate(drawn)]
        found = open_flow(session, played.study, by=played.statistician, now=AT)
        point.rollback()
        adds_up(found.arms)
        assert sum(arm.allocated for arm in found.arms) == 8
        site = {person.arm: 1 for person in people}
        assert [replace(arm, sites=site[arm.arm]) for arm in found.arms] == list(flow(STUDY, people))

    counted()


@pytest.mark.requirement("E6-1", "CON-F8")
def test_for_everybody_else_it_does_not_exist(session: Session):
    study = study_of(session, STUDY)
    for role in Role:
        if role is not Role.STATISTICIAN:
            with pytest.raises(NotFound):
                open_flow(session, study, by=actor(session, study, role, "SYD"), now=NOW)
    elsewhere = study_of(session, definition(code="other"))
    with pytest.raises(NotFound):
        open_flow(session, study, by=actor(session, elsewhere, Role.STATISTICIAN, name="of_another"), now=NOW)


def test_of_two_stages_the_groups_are_counted_beside_the_arms(session: Session):
    trial = Trial(session)
    trial.whole(8)
    trial.begins(trial.comes())  # and has no arm yet
    found = open_flow(session, trial.study, by=trial.statistician, now=NOW)
    adds_up(found.arms)
    assert sum(arm.allocated for arm in found.arms) == 8
    assert sum(group.allocated for group in found.groups) == 9
    assert sum(group.went_on for group in found.groups) == 8
    assert [group.group for group in found.groups] == list(GROUPS)
