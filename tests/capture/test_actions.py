"""Entries: saved whole or not at all, each changed item in the log, signatures that break, drafts of one's own."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, func, select, update
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.audit.verify import verify
from app.capture import actions, reads
from app.capture.actions import SavedEntry, drop_draft, keep_draft, save_entry, sign_entry
from app.capture.rules import signature_holds
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotAllowed, NotFound, Refused
from app.participants.models import Participant, Status
from app.people.access import Actor
from app.schedule.models import VisitStatus
from app.schedule.reads import visits_of
from app.studies.in_use import StudyInUse
from tests.capture.records import consented
from tests.factories import MINI, NOW, definition, mini_study, person

PAIN = {"pain_nrs": 5, "pain_days": 3, "pain_where": ["back"], "pain_note": "At night"}


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return mini_study(session)


@pytest.fixture
def participant(session: Session, study: StudyInUse) -> Participant:
    return consented(session, study)


@pytest.fixture
def assessor(session: Session, study: StudyInUse) -> Actor:
    return person(session, study, "assessor")


@pytest.fixture
def save(session: Session, study: StudyInUse, participant: Participant, assessor: Actor) -> Any:
    def saved(values: dict[str, object], base: int = 0, **options: Any) -> SavedEntry:
        form = {"visit": "week18", "instrument": "pain", "reasons": {}, "by": assessor, "now": NOW, **options}
        return save_entry(session, study, participant, values=values, base_version=base, **form)

    return saved


@pytest.fixture
def log(session: Session, study: StudyInUse) -> Any:
    def entries() -> list[tuple[str, str, str | None, str | None, str | None]]:
        columns = [AUDIT_ENTRY.c[name] for name in ("action", "item", "old", "new", "why")]
        query = select(*columns).where(AUDIT_ENTRY.c.log == study.code).order_by(AUDIT_ENTRY.c.position)
        return [tuple(row) for row in session.execute(query)]

    return entries


def entry_of(session: Session, participant: Participant, visit: str = "week18", instrument: str = "pain") -> Any:
    assert participant.id is not None
    return reads.entry_of(session, participant.id, visit, instrument)


def problems_of(invalid: pytest.ExceptionInfo[Invalid]) -> list[tuple[str, str]]:
    return [(problem.field, problem.rule) for problem in invalid.value.problems]


# Saving


@pytest.mark.requirement("P11-e1", "EMA-1", "EMA-2", "FDA-14", "FDA-12", "EMA-11", "ALC-A")
def test_a_first_save_logs_every_item_with_who_when_and_what(session, participant, save, log, assessor):
    saved = save(PAIN)
    assert (saved.version, saved.status) == (1, "complete")
    assert saved.changed == ("pain_nrs", "pain_days", "pain_where", "pain_note")
    assert log() == [
        ("entry.saved", "pain_nrs", None, "5", None),
        ("entry.saved", "pain_days", None, "3", None),
        ("entry.saved", "pain_where", None, '["back"]', None),
        ("entry.saved", "pain_note", None, '"At night"', None),
        ("entry.completed", "", None, None, None),
    ]
    row = session.execute(select(AUDIT_ENTRY).limit(1)).one()
    assert (row.participant, row.subject) == ("M-001", "entry/week18/pain")
    assert (row.username, row.role, row.organisation) == (assessor.username, "assessor", "Test unit")
    assert row.at == NOW
    entry = entry_of(session, participant)
    assert entry.values == PAIN
    assert (entry.saved_by, entry.created_by, entry.saved_at) == (assessor.username, assessor.username, NOW)
    assert verify(session, "mini").intact


def test_what_is_stored_at_a_place_is_read_at_once_as_by_itself(session, study, participant, save, assessor):
    save(PAIN)
    form: dict[str, Any] = {"visit": "week18", "instrument": "pain", "base_version": 1, "now": NOW}
    keep_draft(session, study, participant, typed={"pain_nrs": ["9"]}, by=assessor, **form)
    places = [("week18", "pain", 1), ("week18", "pain", 2), ("week12", "pain", 1), ("none", "x", 1)]
    for visit, instrument, repeat in places:
        where: dict[str, Any] = {"visit": visit, "instrument": instrument, "repeat": repeat}
        found = reads.stored_at(session, participant.id, by=assessor, **where)
        assert found.place == reads.place_of(session, participant.id, by=assessor, **where)
        assert found.entry == reads.entry_of(session, participant.id, **where)
        visits = [each for each in visits_of(session, participant.id) if each.code == visit]
        assert ([found.visit] if found.visit else []) == visits
    with pytest.raises(NotFound):
        reads.stored_at(session, 0, "week18", "pain", by=assessor)


@pytest.mark.requirement("EMA-6")
def test_editing_one_of_ten_items_is_one_audit_entry(session, assessor, participant):
    ten = {
        "code": "ten",
        "label": "Ten",
        "source": "test",
        "sections": [
            {
                "items": [
                    {"code": f"ten_{n}", "label": f"Ten {n}", "type": "scale", "min": 0, "max": 10} for n in range(10)
                ]
            }
        ],
    }
    study = _with(session, participant, instruments=[*_list("instruments"), ten], forms=["pain", "ten"])
    values: dict[str, object] = {f"ten_{n}": n for n in range(10)}
    form: Any = {"visit": "week18", "instrument": "ten", "reasons": {}, "by": assessor, "now": NOW}
    save_entry(session, study, participant, values=values, base_version=0, **form)
    before = session.execute(select(func.count()).select_from(AUDIT_ENTRY)).scalar_one()
    save_entry(session, study, participant, values={**values, "ten_4": 9}, base_version=1, why="Misheard", **form)
    rows = session.execute(select(AUDIT_ENTRY).order_by(AUDIT_ENTRY.c.position)).all()[before:]
    assert [(row.action, row.item, row.old, row.new, row.why) for row in rows] == [
        ("entry.corrected", "ten_4", "4", "9", "Misheard")
    ]


@pytest.mark.requirement("P11-e2", "FDA-12", "EMA-11", "ALC-O", "E6-8")
def test_after_k_edits_all_values_can_be_read(session, study, participant, save):
    save({**PAIN, "pain_note": "0"})
    for version in range(1, 6):
        save({**PAIN, "pain_note": str(version)}, version, why=f"Edit {version}")
    lines = reads.history(session, study, "M-001", "week18", "pain", "pain_note")
    assert [line.new for line in lines] == [str(version) for version in range(6)]
    assert [line.old for line in lines] == [None, *(str(version) for version in range(5))]
    assert [line.why for line in lines] == [None, *(f"Edit {version}" for version in range(1, 6))]
    assert lines[0].organisation == "Test unit"


@pytest.mark.requirement("E6-10", "E6-13", "E6-8")
def test_changing_or_removing_a_saved_answer_needs_a_reason(session, participant, save, log):
    save(PAIN)
    for changed in ({**PAIN, "pain_nrs": 4}, {k: v for k, v in PAIN.items() if k != "pain_note"}):
        with pytest.raises(Invalid) as invalid:
            save(changed, 1)
        assert problems_of(invalid) == [("why", "required")]
    with pytest.raises(Invalid, match="Pain, past week"):
        save({**PAIN, "pain_nrs": 4}, 1, why="   ")
    assert len(log()) == 5
    assert entry_of(session, participant).version == 1


def test_a_missing_code_is_an_answer_that_needs_a_reason_to_change(save, log):
    save({**PAIN, "pain_days": {"missing": "UNK"}})
    with pytest.raises(Invalid):
        save(PAIN, 1)
    save(PAIN, 1, why="Found in the diary")
    assert log()[-1] == ("entry.corrected", "pain_days", '{"missing":"UNK"}', "3", "Found in the diary")


def test_adding_answers_to_blanks_needs_no_reason(save, log):
    first = save({"pain_nrs": 5}, accept_partial=True)
    assert (first.version, first.status, first.judgement.missing_required) == (1, "partial", ("pain_days",))
    second = save({"pain_nrs": 5, "pain_days": 3}, 1)
    assert (second.version, second.status, second.changed) == (2, "complete", ("pain_days",))
    assert [line[:2] for line in log()] == [
        ("entry.saved", "pain_nrs"),
        ("entry.saved", "pain_days"),
        ("entry.completed", ""),
    ]


def test_an_incomplete_form_is_refused_unless_a_part_is_accepted(session, participant, save):
    with pytest.raises(Invalid) as invalid:
        save({"pain_nrs": 5})
    assert problems_of(invalid) == [("pain_days", "required")]
    assert "say why there is no answer" in invalid.value.reason
    assert entry_of(session, participant) is None


def test_an_empty_form_is_not_saved(save):
    with pytest.raises(Invalid) as invalid:
        save({}, accept_partial=True)
    assert problems_of(invalid) == [("pain_nrs", "required")]


@pytest.mark.parametrize(
    ("values", "field", "rule"),
    [
        ({**PAIN, "pain_nrs": 11}, "pain_nrs", "max"),
        ({**PAIN, "pain_nrs": -1}, "pain_nrs", "min"),
        ({**PAIN, "pain_nrs": 4.5}, "pain_nrs", "integer"),
        ({**PAIN, "pain_nrs": True}, "pain_nrs", "type"),
        ({**PAIN, "pain_nrs": "5"}, "pain_nrs", "type"),
        ({**PAIN, "pain_where": ["head"]}, "pain_where", "choices"),
        ({**PAIN, "pain_note": "a\x00b"}, "pain_note", "control"),
        ({**PAIN, "pain_days": {"missing": "XX"}}, "pain_days", "missing_code"),
        ({**PAIN, "role": "administrator"}, "role", "unknown"),
    ],
)
@pytest.mark.requirement("SEC-23", "E6-22")
def test_a_hard_problem_stores_nothing_even_as_a_part(session, participant, save, log, values, field, rule):
    with pytest.raises(Invalid) as invalid:
        save(values, accept_partial=True)
    assert problems_of(invalid) == [(field, rule)]
    assert entry_of(session, participant) is None
    assert log() == []


def test_what_could_not_be_read_is_reported_with_what_was_checked(save):
    problem = FieldProblem("pain_nrs", "integer", "Pain: write a whole number.")
    with pytest.raises(Invalid) as invalid:
        save({"pain_days": 8}, problems=[problem])
    assert problems_of(invalid) == [("pain_nrs", "integer"), ("pain_days", "max")]


@pytest.mark.parametrize(
    ("reason", "rule"), [("a\x00b", "control"), ("\ud800", "control"), (5, "type"), ("x" * 2001, "max_length")]
)
def test_a_reason_that_cannot_be_kept_is_refused(session, participant, save, reason, rule):
    with pytest.raises(Invalid) as invalid:
        save({"pain_nrs": 0, "pain_days": 0}, reasons={"pain_days": reason})
    assert problems_of(invalid) == [("pain_days__why", rule)]
    with pytest.raises(Invalid) as invalid:
        save(PAIN, reasons={"pain_note": reason})
    assert problems_of(invalid) == [("pain_note__why", rule)]


def test_a_reason_for_a_change_that_cannot_be_kept_is_refused(save):
    save(PAIN)
    with pytest.raises(Invalid) as invalid:
        save({**PAIN, "pain_nrs": 1}, 1, why="a\x00b")
    assert problems_of(invalid) == [("why", "control")]


@pytest.mark.requirement("FDA-14", "E6-22")
def test_a_soft_check_asks_for_a_reason_and_keeps_it(session, participant, save, log):
    odd = {"pain_nrs": 0, "pain_days": 0}
    with pytest.raises(Invalid) as invalid:
        save(odd)
    assert problems_of(invalid) == [("pain_days__why", "expected")]
    saved = save(odd, reasons={"pain_days": " No pain at all ", "pain_nrs": "not asked for"})
    assert saved.status == "complete"
    assert entry_of(session, participant).reasons == {"pain_days": "No pain at all"}
    assert log()[2:] == [
        ("entry.check_accepted", "pain_days", None, "0", "No pain at all"),
        ("entry.completed", "", None, None, None),
    ]


@pytest.mark.requirement("FDA-14")
def test_value_check_and_correction_are_three_facts(save, log):
    save({"pain_nrs": 0, "pain_days": 5}, accept_partial=True)
    save({"pain_nrs": 4, "pain_days": 5}, 1, why="Read the diary again")
    actions_logged = [(action, item) for action, item, *_ in log()]
    assert actions_logged == [
        ("entry.saved", "pain_nrs"),
        ("entry.saved", "pain_days"),
        ("entry.check_fired", "pain_days"),
        ("query.raised", "pain_days"),
        ("entry.corrected", "pain_nrs"),
        ("entry.completed", ""),
        ("query.corrected", "pain_days"),
    ]


def test_a_check_that_still_waits_is_not_logged_again(save, log):
    save({"pain_nrs": 0, "pain_days": 5}, accept_partial=True)
    save({"pain_nrs": 0, "pain_days": 5, "pain_note": "x"}, 1, accept_partial=True)
    assert [action for action, *_ in log()].count("entry.check_fired") == 1


def test_a_reason_that_is_no_longer_needed_is_logged(session, participant, save, log):
    save({"pain_nrs": 0, "pain_days": 5}, reasons={"pain_days": "Diary"})
    save({"pain_nrs": 1, "pain_days": 5}, 1, why="Typo")
    assert ("entry.check_ceased", "pain_days", '"Diary"', None, None) in log()
    assert entry_of(session, participant).reasons == {}


def test_a_hidden_item_is_never_stored_and_its_removal_is_logged(session, participant, save, log):
    save(PAIN)
    save({**PAIN, "pain_nrs": 0, "pain_days": 1}, 1, why="Wrong person", reasons={"pain_days": "Diary"})
    assert entry_of(session, participant).values == {"pain_nrs": 0, "pain_days": 1, "pain_note": "At night"}
    assert ("entry.corrected", "pain_where", '["back"]', None, "Wrong person") in log()


def test_a_score_is_computed_stored_and_logged_as_an_item(session, participant, save, log):
    form: dict[str, Any] = {"instrument": "disability"}
    save({"dis_items": ["1", "2"], "dis_weight": 70.5}, **form)
    assert entry_of(session, participant, instrument="disability").values["dis_score"] == 2
    assert ("entry.saved", "dis_score", None, "2", None) in log()
    save({"dis_items": ["1", "2", "3"], "dis_weight": 70.5}, 1, why="Page two was turned", **form)
    assert ("entry.corrected", "dis_score", "2", "3", "Page two was turned") in log()


def test_a_score_that_follows_from_an_added_answer_needs_no_reason(session, assessor, participant):
    scored = {
        "code": "scored",
        "label": "Scored",
        "source": "test",
        "sections": [
            {
                "items": [
                    {"code": "sc_a", "label": "A", "type": "integer"},
                    {"code": "sc_b", "label": "B", "type": "integer"},
                    {"code": "sc_sum", "label": "Sum", "type": "calculated", "calculation": "sum([sc_a], [sc_b])"},
                ]
            }
        ],
    }
    study = _with(session, participant, instruments=[*_list("instruments"), scored], forms=["scored"])
    form: Any = {"visit": "week18", "instrument": "scored", "reasons": {}, "by": assessor, "now": NOW}
    save_entry(session, study, participant, values={"sc_a": 1}, base_version=0, accept_partial=True, **form)
    save_entry(session, study, participant, values={"sc_a": 1, "sc_b": 2}, base_version=1, **form)
    line = reads.history(session, study, "M-001", "week18", "scored", "sc_sum")[-1]
    assert (line.action, line.old, line.new, line.why) == ("entry.corrected", 1, 3, actions.COMPUTED_AGAIN)


def test_a_check_may_look_at_another_visit_and_at_screening(session, assessor, participant):
    instruments = _list("instruments")
    pain = dict(instruments[1])
    items = [dict(item) for item in pain["sections"][0]["items"]]
    items[0]["checks"] = [
        {"rule": "[pain_nrs] <= [baseline][pain_nrs]", "message": "Worse than at baseline. Check it.", "kind": "hard"},
        {"rule": "[pain_nrs] <> [screening][pain_screen]", "message": "As at screening. Check it.", "kind": "hard"},
    ]
    pain["sections"] = [{"items": items}]
    study = _with(session, participant, instruments=[instruments[0], pain, instruments[2]], forms=["pain"])
    form: Any = {"instrument": "pain", "reasons": {}, "by": assessor, "now": NOW, "base_version": 0}
    save_entry(session, study, participant, visit="baseline", values={**PAIN, "pain_nrs": 7}, **form)
    for value, message in ((8, "Worse than at baseline"), (6, "As at screening")):
        with pytest.raises(Invalid, match=message):
            save_entry(session, study, participant, visit="week18", values={**PAIN, "pain_nrs": value}, **form)
    save_entry(session, study, participant, visit="week18", values={**PAIN, "pain_nrs": 5}, **form)


def test_what_an_earlier_version_of_the_study_asked_is_kept(session, assessor, participant, study, save):
    save(PAIN)
    instruments = _list("instruments")
    pain = {**instruments[1], "sections": [{"items": instruments[1]["sections"][0]["items"][:2]}]}
    amended = _with(
        session, participant, instruments=[instruments[0], pain, instruments[2]], forms=["pain"], study=study
    )
    form: Any = {"visit": "week18", "instrument": "pain", "reasons": {}, "by": assessor, "now": NOW}
    saved = save_entry(
        session, amended, participant, values={"pain_nrs": 6, "pain_days": 3}, base_version=1, why="Typo", **form
    )
    assert saved.changed == ("pain_nrs",)
    assert entry_of(session, participant).values == {**PAIN, "pain_nrs": 6}
    signed = sign_entry(
        session, amended, participant, visit="week18", instrument="pain", version=2, meaning="authorship",
        by=assessor, now=NOW,
    )  # fmt: skip
    assert signature_holds(signed)


# Versions


def test_who_saves_upon_an_older_version_is_told_and_nothing_is_overwritten(session, participant, save, log):
    save(PAIN)
    save({**PAIN, "pain_note": "Two"}, 1, why="More")
    with pytest.raises(Conflict) as conflict:
        save({**PAIN, "pain_note": "Three"}, 1, why="Other")
    assert conflict.value.current_version == 2
    assert "Compare" in conflict.value.reason
    assert entry_of(session, participant).values["pain_note"] == "Two"
    for base in (0, 3):
        with pytest.raises(Conflict):
            save({**PAIN, "pain_note": "Three"}, base, why="Other")


def test_a_version_of_an_entry_that_is_not_there_is_a_conflict(save):
    with pytest.raises(Conflict) as conflict:
        save(PAIN, 1)
    assert conflict.value.current_version == 0


def test_a_retried_save_is_answered_as_the_first_and_changes_nothing(save, log):
    first = save(PAIN)
    lines = log()
    again = save(PAIN)
    assert (again.version, again.status, again.changed) == (first.version, first.status, ())
    corrected = save({**PAIN, "pain_nrs": 3}, 1, why="Typo")
    retried = save({**PAIN, "pain_nrs": 3}, 1, why="Typo")
    assert (retried.version, corrected.version) == (2, 2)
    assert len(log()) == len(lines) + 1


def test_saving_what_is_stored_is_no_new_version(save, log):
    save(PAIN)
    lines = log()
    assert save(PAIN, 1).version == 1
    assert log() == lines


def test_true_is_not_one(session, assessor, participant):
    flags = {
        "code": "flags",
        "label": "Flags",
        "source": "test",
        "sections": [{"items": [{"code": "fl_a", "label": "A", "type": "yes_no"}]}],
    }
    study = _with(session, participant, instruments=[*_list("instruments"), flags], forms=["flags"])
    form: Any = {"visit": "week18", "instrument": "flags", "reasons": {}, "by": assessor, "now": NOW}
    save_entry(session, study, participant, values={"fl_a": False}, base_version=0, **form)
    saved = save_entry(session, study, participant, values={"fl_a": True}, base_version=1, why="Typo", **form)
    assert saved.changed == ("fl_a",)


# Who, and when


@pytest.mark.parametrize(
    "role", ["investigator", "data_manager", "monitor", "clinician", "statistician", "administrator"]
)
def test_other_roles_save_nothing(session, study, save, log, role):
    with pytest.raises(NotAllowed) as refused:
        save(PAIN, by=person(session, study, role))
    assert (refused.value.action, refused.value.subject) == ("entry.save", "M-001/entry/week18/pain")
    assert log() == []


def test_an_assessor_of_another_site_saves_nothing(session, study, save):
    with pytest.raises(NotAllowed):
        save(PAIN, by=person(session, study, "assessor", site_code="south"))


def test_without_consent_nothing_is_saved_or_drafted(session, study, assessor, save, log):
    other = consented(session, study, "M-002", consent=False)
    with pytest.raises(Refused) as refused:
        save_entry(
            session, study, other, visit="week18", instrument="pain", values=PAIN, reasons={}, base_version=0,
            by=assessor, now=NOW,
        )  # fmt: skip
    assert refused.value.subject == "M-002/entry/week18/pain"
    with pytest.raises(Refused):
        keep_draft(
            session, study, other, visit="week18", instrument="pain", typed={"pain_nrs": ["5"]}, base_version=0,
            by=assessor, now=NOW,
        )  # fmt: skip
    assert log() == []


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"visit": "week99"}, "no visit “week99” in the schedule"),
        ({"visit": "baseline", "instrument": "disability"}, "not planned at Baseline"),
        ({"instrument": "nothing"}, "not planned at Week 18"),
        ({"instrument": "prescreen"}, "not planned at Week 18"),
        ({"visit": "x" * 5000}, "in the schedule"),
        ({"visit": "a\x00b"}, "in the schedule"),
        ({"instrument": "a\x00b"}, "not planned at Week 18"),
    ],
)
def test_only_planned_forms_at_scheduled_visits_are_saved(save, where, reason):
    with pytest.raises(Refused, match=reason) as refused:
        save(PAIN, **where)
    assert len(refused.value.subject) < 300


@pytest.mark.parametrize(
    ("of_visit", "standing", "reason"),
    [
        ("assessment", {"status": Status.WITHDRAWN, "withdrawn_on": NOW.date()}, "withdrew from visits"),
        ("assessment", {"treatment_stopped_on": NOW.date(), "left_on": NOW.date()}, "withdrew from visits"),
        ("treatment", {"treatment_stopped_on": NOW.date(), "left_on": NOW.date()}, "treatment was stopped"),
        ("treatment", {"status": Status.DIED, "left_on": NOW.date()}, "the participant died"),
        ("assessment", {}, "the plan of visits changed"),
    ],
)
def test_a_visit_that_is_not_due_any_more_takes_no_entry_and_says_why(session, save, of_visit, standing, reason):
    stopped = {"status": VisitStatus.STOPPED, "kind": of_visit}
    session.execute(update(reads.VISIT).where(reads.VISIT.c.code == "week18").values(**stopped))
    if standing:
        session.execute(update(reads.PARTICIPANT).values(**standing))
    with pytest.raises(Refused, match=reason):
        save(PAIN)


def test_a_visit_that_is_not_opened_takes_no_entry(session, save):
    session.execute(reads.VISIT.delete().where(reads.VISIT.c.code == "week18"))
    with pytest.raises(Refused, match="in the schedule"):
        save(PAIN)


@pytest.mark.requirement("E9R1-1", "SPI-25b")
def test_who_stopped_treatment_is_still_followed(session, participant, save):
    session.execute(
        update(reads.PARTICIPANT).values(status=Status.WITHDRAWN, withdrawal_level="treatment", withdrawn_on=NOW.date())
    )
    assert save(PAIN).version == 1


def test_who_did_not_pass_screening_gets_no_entry(session, participant, save):
    session.execute(update(reads.PARTICIPANT).values(status=Status.SCREEN_FAILED))
    with pytest.raises(Refused, match="did not pass screening"):
        save(PAIN)


def test_nothing_is_stored_when_the_audit_entry_cannot_be(session, participant, save, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no log")

    monkeypatch.setattr("app.capture.actions.saving.record", broken)
    with pytest.raises(RuntimeError), session.begin_nested():
        save(PAIN)
    assert entry_of(session, participant) is None


# Signatures


def sign(
    session: Session, study: StudyInUse, participant: Participant, by: Actor, version: int = 1, **options: Any
) -> Any:
    form = {"visit": "week18", "instrument": "pain", "meaning": "authorship", "now": NOW, **options}
    return sign_entry(session, study, participant, version=version, by=by, **form)


@pytest.mark.requirement("P11-50a", "P11-70", "AX11-14")
def test_a_signature_says_name_time_and_meaning_and_is_logged(session, study, participant, assessor, save, log):
    save(PAIN)
    signed = sign(session, study, participant, assessor)
    assert (signed.signed_name, signed.signed_at, signed.signed_meaning) == (assessor.name, NOW, "authorship")
    stored = entry_of(session, participant)
    assert stored == signed
    assert signature_holds(stored)
    action, _, old, new, _ = log()[-1]
    assert (action, old) == ("entry.signed", None)
    assert assessor.name in new
    assert signed.signed_digest in new


@pytest.mark.requirement("P11-70", "FDA-19")
def test_a_change_after_the_signature_supersedes_it(session, study, participant, assessor, save, log):
    save(PAIN)
    sign(session, study, participant, assessor)
    save({**PAIN, "pain_nrs": 6}, 1, why="Misread")
    entry = entry_of(session, participant)
    assert (entry.signed_at, entry.signed_by, entry.signed_digest, entry.is_signed) == (None, None, None, False)
    action, _, old, new, why = log()[-1]
    assert (action, new, why) == ("entry.signature_superseded", None, "Misread")
    assert assessor.name in old
    assert sign(session, study, participant, assessor, version=2).is_signed


@pytest.mark.requirement("P11-70", "AX11-14")
@pytest.mark.parametrize(
    "change",
    [
        {"values": {**PAIN, "pain_nrs": 6}},
        {"reasons": {"pain_nrs": "x"}},
        {"version": 2},
        {"participant": "M-002"},
        {"visit": "baseline"},
        {"instrument": "disability"},
    ],
)
def test_a_signature_holds_for_these_bytes_of_this_record_only(session, study, participant, assessor, save, change):
    save(PAIN)
    signed = sign(session, study, participant, assessor)
    assert signature_holds(signed)
    assert not signature_holds(replace(signed, **change))


def test_signing_again_changes_nothing(session, study, participant, assessor, save, log):
    save(PAIN)
    first = sign(session, study, participant, assessor)
    assert sign(session, study, participant, assessor, now=NOW + timedelta(hours=1)) == first
    assert [action for action, *_ in log()].count("entry.signed") == 1
    with pytest.raises(Refused, match="has signed this version already"):
        sign(session, study, participant, person(session, study, "investigator"))


def test_only_a_complete_entry_as_it_was_read_is_signed(session, study, participant, assessor, save):
    with pytest.raises(Refused, match="nothing to sign"):
        sign(session, study, participant, assessor)
    save({"pain_nrs": 5}, accept_partial=True)
    with pytest.raises(Refused, match="not complete: Days with pain"):
        sign(session, study, participant, assessor)
    save(PAIN, 1)
    with pytest.raises(Conflict):
        sign(session, study, participant, assessor, version=1)
    with pytest.raises(Invalid):
        sign(session, study, participant, assessor, version=2, meaning="whatever")
    with pytest.raises(NotAllowed):
        sign(session, study, participant, person(session, study, "coordinator"), version=2)


def test_complete_entries_wait_for_a_signature_where_one_may_sign(session, study, participant, assessor, save):
    save(PAIN)
    south = person(session, study, "assessor", site_code="south")

    def waiting(by):
        page = reads.unsigned_visits(session, study, by=by)
        assert page.total == len(page.rows)
        return [(one.participant, one.visit, one.instruments) for one in page.rows]

    assert waiting(assessor) == [("M-001", "week18", ("pain",))]
    assert waiting(south) == []
    assert waiting(person(session, study, "data_manager")) == []
    elsewhere = consented(session, study, "M-008", site_code="south")
    assert elsewhere.id is not None
    forms = definition().model_dump(mode="json")["instruments"]
    visits = [
        {**each, "instruments": each["instruments"][:1]} for each in definition().model_dump(mode="json")["visits"]
    ]
    older = definition(instruments=[{**each, "signable": each["code"] != "pain"} for each in forms], visits=visits)
    for site_id, lists, due in ((participant.site_id, [], 3), (elsewhere.site_id, [("M-001",)], 2)):
        two = replace(study, others={site_id: replace(study, definition=older)})
        found = reads.unsigned_visits(session, two, by=assessor).rows
        assert [(one.participant,) for one in found] == lists, "a form is signed where the version of the site says so"
        assert reads.progress(session, two, [elsewhere.id])[elsewhere.id].expected == due
    sign(session, study, participant, assessor)
    assert waiting(assessor) == []


# Drafts


def test_a_draft_is_its_persons_alone_and_goes_when_the_entry_is_saved(
    session, study, participant, assessor, save, log
):
    form: Any = {"visit": "week18", "instrument": "pain", "base_version": 0, "now": NOW}
    keep_draft(session, study, participant, typed={"pain_nrs": ["1"]}, by=assessor, **form)
    keep_draft(session, study, participant, typed={"pain_nrs": ["12,5\x00"], "why": [""]}, by=assessor, **form)
    draft = reads.draft_of(session, participant.id, "week18", "pain", by=assessor)
    assert draft is not None
    assert (draft.typed, draft.base_version, draft.saved_at) == ({"pain_nrs": ["12,5\x00"], "why": [""]}, 0, NOW)
    colleague = person(session, study, "coordinator")
    assert reads.draft_of(session, participant.id, "week18", "pain", by=colleague) is None
    assert log() == []
    keep_draft(session, study, participant, typed={"pain_nrs": ["9"]}, by=colleague, **form)
    save(PAIN)
    assert reads.draft_of(session, participant.id, "week18", "pain", by=assessor) is None
    assert reads.draft_of(session, participant.id, "week18", "pain", by=colleague) is not None
    drop_draft(session, participant.id, visit="week18", instrument="pain", by=colleague)
    assert reads.draft_of(session, participant.id, "week18", "pain", by=colleague) is None


def test_a_draft_survives_what_is_not_saved(session, study, participant, assessor, save):
    form: Any = {"visit": "week18", "instrument": "pain", "base_version": 0, "now": NOW}
    keep_draft(session, study, participant, typed={"pain_nrs": ["99"]}, by=assessor, **form)
    with pytest.raises(Invalid):
        save({**PAIN, "pain_nrs": 99})
    assert reads.draft_of(session, participant.id, "week18", "pain", by=assessor) is not None


def test_a_draft_has_a_size_and_a_place(session, study, participant, assessor):
    form: Any = {"instrument": "pain", "base_version": 0, "now": NOW, "by": assessor}
    with pytest.raises(Invalid):
        keep_draft(session, study, participant, visit="week18", typed={"pain_note": ["x" * 200_001]}, **form)
    with pytest.raises(Refused):
        keep_draft(session, study, participant, visit="nowhere", typed={}, **form)
    with pytest.raises(NotAllowed):
        keep_draft(
            session, study, participant, visit="week18", typed={},
            **{**form, "by": person(session, study, "monitor")},
        )  # fmt: skip


# Reads


def test_the_matrix_the_answers_and_the_progress(session, study, participant, assessor, save):
    save(PAIN, visit="baseline")
    save({"dis_weight": 80}, instrument="disability")
    save({"pain_nrs": 2}, accept_partial=True)
    sign(session, study, participant, assessor, instrument="disability")
    marks = reads.entries_of(session, participant.id)
    assert {key: (mark.status, mark.version, mark.is_signed) for key, mark in marks.items()} == {
        ("baseline", "pain"): ("complete", 1, False),
        ("week18", "disability"): ("complete", 1, True),
        ("week18", "pain"): ("partial", 1, False),
    }
    answers = reads.answers_of(session, study, participant.id)
    assert answers[("screening", "age")] == 44
    assert answers[("baseline", "pain_nrs")] == 5
    assert answers[("week18", "pain_nrs")] == 2
    assert answers[("week18", "dis_weight")] == 80
    other = consented(session, study, "M-009")
    assert other.id is not None
    assert reads.progress(session, study, [participant.id, other.id]) == {
        participant.id: reads.Progress(expected=3, partial=1, complete=2, signed=1),
        other.id: reads.Progress(expected=3),
    }
    assert reads.progress(session, study, []) == {}


def test_the_history_of_a_whole_entry_has_its_signatures(session, study, participant, assessor, save):
    save(PAIN)
    sign(session, study, participant, assessor)
    lines = reads.history(session, study, "M-001", "week18", "pain")
    assert [line.action for line in lines] == ["entry.saved"] * 4 + ["entry.completed", "entry.signed"]
    assert reads.history(session, study, "M-001", "baseline", "pain") == []


# Cost


class Statements:
    """Counts what is sent to the database."""

    def __init__(self, session: Session) -> None:
        self._connection = session.connection()
        self.sent: list[str] = []

    def __enter__(self) -> "Statements":
        event.listen(self._connection, "before_cursor_execute", self._count)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._connection, "before_cursor_execute", self._count)

    def _count(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.sent.append(statement)


def test_a_save_takes_few_statements(session, study, participant, assessor, save):
    save({"dis_weight": 80}, instrument="disability")
    form: Any = {"visit": "week18", "instrument": "pain", "base_version": 0, "now": NOW}
    keep_draft(session, study, participant, typed={"pain_nrs": ["1"]}, by=assessor, **form)
    with Statements(session) as statements:
        save(PAIN)
    assert len(statements.sent) <= 8, "\n".join(statements.sent)
    with Statements(session) as statements:
        save({**PAIN, "pain_nrs": 7}, 1, why="Typo")
    assert len(statements.sent) <= 7, "\n".join(statements.sent)
    with Statements(session) as statements:
        reads.entries_of(session, participant.id)
    assert len(statements.sent) == 1
    with Statements(session) as statements:
        reads.answers_of(session, study, participant.id)
    assert len(statements.sent) <= 2


def test_a_save_that_looks_at_other_visits_takes_as_few(session, assessor, participant):
    instruments = _list("instruments")
    pain = dict(instruments[1])
    items = [dict(item) for item in pain["sections"][0]["items"]]
    items[0]["checks"] = [{"rule": "[pain_nrs] <= [baseline][pain_nrs] + [screening][pain_screen]", "message": "High."}]
    pain["sections"] = [{"items": items}]
    study = _with(session, participant, instruments=[instruments[0], pain, instruments[2]], forms=["pain"])
    form: Any = {"instrument": "pain", "base_version": 0, "by": assessor, "now": NOW}
    save_entry(session, study, participant, visit="baseline", values=PAIN, reasons={}, **form)
    keep_draft(session, study, participant, visit="week18", typed={"pain_nrs": ["1"]}, **form)
    with Statements(session) as statements:
        save_entry(session, study, participant, visit="week18", values=PAIN, reasons={}, **form)
    assert len(statements.sent) <= 8, "\n".join(statements.sent)


def _list(part: str) -> list[dict[str, Any]]:
    parts = MINI[part]
    assert isinstance(parts, list)
    return list(parts)


def _with(
    session: Session,
    participant: Participant,
    *,
    instruments: list[dict[str, Any]],
    forms: list[str],
    study: StudyInUse | None = None,
) -> StudyInUse:
    """The participant's study with other instruments, all of them at baseline and week 18."""
    visits = [{**visit, "instruments": forms if visit["code"] != "tx01" else []} for visit in _list("visits")]
    changed = definition(instruments=instruments, visits=visits)
    version = session.execute(select(reads.SCREENING_ROW.c.study_version_id)).scalar_one()
    return StudyInUse(participant.study_id, "mini", version, changed)
