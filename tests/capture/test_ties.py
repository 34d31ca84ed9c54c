"""Forms that are judged together: a change here asks there, where a check, a score or a skip no longer fits."""

from typing import Any

import pytest
from sqlmodel import Session

from app.capture.actions import save_entry
from app.capture.checks import affected, is_tied
from app.capture.queries.reads import Query, queries_of
from app.capture.queries.rules import Closing, State
from app.capture.reads import entry_of
from tests.capture.records import consented
from tests.factories import MINI, NOW, definition, mini_study, person

WEIGHT = {
    "code": "weight",
    "label": "Weight",
    "source": "test",
    "sections": [
        {
            "items": [
                {
                    "code": "kg",
                    "label": "Weight",
                    "type": "number",
                    "decimals": 1,
                    "checks": [
                        {
                            "rule": "[baseline][pain_nrs] = '' or [kg] > 10 * [baseline][pain_nrs]",
                            "message": "More pain at baseline than this weight allows: check both.",
                            "kind": "hard",
                        }
                    ],
                },
                {
                    "code": "change",
                    "label": "Change of pain",
                    "type": "calculated",
                    "calculation": "[pain_nrs] - [baseline][pain_nrs]",
                },
                {
                    "code": "why_less",
                    "label": "Why there is less pain",
                    "type": "text",
                    "required": False,
                    "shown_if": "[pain_nrs] < [baseline][pain_nrs]",
                },
            ]
        }
    ],
}


def changes() -> dict[str, Any]:
    visits: Any = MINI["visits"]
    instruments: Any = MINI["instruments"]
    last = {**visits[-1], "instruments": ["pain", "disability", "weight"]}
    return {"visits": [*visits[:-1], last], "instruments": [*instruments, WEIGHT]}


class Trial:
    """The small trial with a form at week 18 that refers to pain there and at baseline."""

    def __init__(self, session: Session) -> None:
        self.session, self.study = session, mini_study(session, **changes())
        self.participant = consented(session, self.study)
        self.assessor = person(session, self.study, "assessor")
        self.versions: dict[tuple[str, str], int] = {}

    def save(self, visit: str, instrument: str, values: dict[str, Any], **options: Any) -> Any:
        spot = (visit, instrument)
        given: Any = {"reasons": {}, "base_version": self.versions.get(spot, 0), "by": self.assessor, "now": NOW}
        if self.versions.get(spot):
            given["why"] = "Read again"
        given |= options
        saved = save_entry(
            self.session, self.study, self.participant, visit=visit, instrument=instrument, values=values, **given
        )
        self.versions[spot] = saved.version
        return saved

    def queries(self, visit: str = "week18", instrument: str = "weight") -> tuple[Query, ...]:
        assert self.participant.id is not None
        return queries_of(self.session, self.study, self.participant.id, visit, instrument)

    def standing(self) -> list[tuple[str, str | None]]:
        return sorted((each.item, each.rule) for each in self.queries() if not each.is_closed)


@pytest.fixture
def trial(session: Session) -> Trial:
    trial = Trial(session)
    trial.save("baseline", "pain", {"pain_nrs": 5, "pain_days": 3})
    trial.save("week18", "pain", {"pain_nrs": 4, "pain_days": 3})
    trial.save("week18", "weight", {"kg": 70, "why_less": "Slept better"})
    return trial


def test_which_forms_are_judged_together():
    study = definition(**changes())
    forms = {code: study.instrument(code) for code in ("pain", "disability", "weight")}
    assert affected(study, "baseline", ["pain_nrs"]) == (("week18", "weight"),)
    assert affected(study, "baseline", ["pain_days", "pain_note"]) == ()
    assert affected(study, "week18", ["pain_nrs"]) == (("week18", "weight"),)
    tied = [
        (code, visit)
        for code, form in forms.items()
        for visit in ("baseline", "week18")
        if form is not None and is_tied(study, form, visit)
    ]
    assert tied == [("pain", "baseline"), ("pain", "week18"), ("weight", "baseline"), ("weight", "week18")]


def test_nothing_is_asked_while_everything_fits(trial: Trial):
    assert trial.queries() == ()
    assert trial.participant.id is not None
    entry = entry_of(trial.session, trial.participant.id, "week18", "weight")
    assert entry is not None
    assert entry.values["change"] == -1


@pytest.mark.requirement("AX11-6")
def test_a_change_in_one_form_asks_at_the_other_instead_of_being_refused(trial: Trial):
    saved = trial.save("baseline", "pain", {"pain_nrs": 8, "pain_days": 3})
    assert saved.status == "complete", "the form that was saved is right"
    assert trial.standing() == [("change", "computed"), ("kg", "check_1")]
    messages = {each.rule: each.text for each in trial.queries()}
    assert messages["check_1"] == "More pain at baseline than this weight allows: check both."
    trial.save("baseline", "pain", {"pain_nrs": 5, "pain_days": 3})
    assert trial.standing() == []
    assert {each.closing for each in trial.queries()} == {Closing.CORRECTED}


def test_what_is_not_asked_any_more_is_in_question_until_the_form_is_saved(trial: Trial):
    trial.save("baseline", "pain", {"pain_nrs": 3, "pain_days": 3})
    assert trial.standing() == [("change", "computed"), ("why_less", "no_longer_asked")]
    trial.save("week18", "weight", {"kg": 70})
    assert trial.standing() == []
    entry = entry_of(trial.session, trial.participant.id or 0, "week18", "weight")
    assert entry is not None
    assert entry.values == {"kg": 70, "change": 1}


def test_a_form_at_the_same_visit_asks_as_well(trial: Trial):
    trial.save("week18", "pain", {"pain_nrs": 2, "pain_days": 3})
    assert trial.standing() == [("change", "computed")]


def test_what_nobody_refers_to_reads_nothing_more(trial: Trial):
    trial.save("week18", "pain", {"pain_nrs": 4, "pain_days": 5})
    assert trial.queries() == ()


def test_a_query_of_another_form_waits_for_that_form_alone(trial: Trial):
    trial.save("baseline", "pain", {"pain_nrs": 8, "pain_days": 3})
    trial.save("baseline", "pain", {"pain_nrs": 8, "pain_days": 4})
    assert trial.standing() == [("change", "computed"), ("kg", "check_1")]
    trial.save("week18", "weight", {"kg": 90, "why_less": "Slept better"})
    assert trial.standing() == []
    assert [each.state for each in trial.queries()] == [State.CLOSED, State.CLOSED]
