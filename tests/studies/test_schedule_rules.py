"""A study's reminders name visits that are there, no arm, and only what is filled in; without them nothing changes."""

from typing import Any

import pytest

from app.studies.definition import Study
from app.studies.rules import canonical, problems
from tests.factories import definition

TEXT = {"language": "en", "subject": "Come", "body": "On {day}"}


def said(**schedule: Any) -> list[str]:
    return [finding.message for finding in problems(definition(schedule=schedule))]


def reminder(**changes: Any) -> list[str]:
    return said(reminders=[{"code": "r", "when": "before_appointment", **changes}])


def test_a_sound_schedule_has_no_findings() -> None:
    assert said() == said(minutes=30, lengths=[{"visit": "week18", "minutes": 90}]) == []
    assert reminder(visits=["week18"], texts=[TEXT]) == []
    assert reminder(to="staff", texts=[{**TEXT, "body": "{participant}, {visit}, {day}"}]) == []


@pytest.mark.requirement("CONC-11", "E6-3")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"visits": ["week99"]}, "There is no visit “week99”."),
        ({"texts": [{**TEXT, "body": "Your Placebex device is ready"}]}, "names an arm (Placebex device)"),
        ({"texts": [{**TEXT, "subject": "SHAM session"}]}, "names an arm (sham)"),
        ({"texts": [{**TEXT, "body": "Dear {name}"}]}, "Nobody fills in {name}."),
        ({"texts": [{**TEXT, "body": "{participant}"}]}, "Nobody fills in {participant}."),
        ({"when": "booked", "to": "staff"}, "told of it without a rule"),
    ],
)
def test_what_cannot_be_said_is_found(changes: dict[str, Any], words: str) -> None:
    (message,) = reminder(**changes)
    assert words in message


def test_a_length_of_a_visit_that_is_not_there_and_two_reminders_of_one_code_are_found() -> None:
    assert "week99" in said(lengths=[{"visit": "week99", "minutes": 30}])[0]
    twice = [{"code": "r", "when": "overdue"}, {"code": "r", "when": "window_opens"}]
    assert "two reminders" in said(reminders=twice)[0]


def test_a_study_that_says_nothing_of_it_is_what_it_was() -> None:
    assert '"schedule"' not in canonical(definition())
    assert '"schedule"' in canonical(definition(schedule={"minutes": 30}))
    study: Study = definition(schedule={"lengths": [{"visit": "week18", "minutes": 90}]})
    assert (study.schedule.minutes_for("week18"), study.schedule.minutes_for(None)) == (90, 60)
