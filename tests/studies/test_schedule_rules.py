"""A study's reminders name visits that are there, no arm, and only what is filled in; without them nothing changes."""

from typing import Any, cast

import pytest

from app.studies.definition import Study
from app.studies.rules import canonical, problems
from tests.factories import MINI, definition

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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"when": "link_unanswered", "days": 3, "to": "staff"}, None),
        ({"texts": [{**TEXT, "body": "{link} until {closes}, {site}"}]}, None),
        ({"visits": ["tx01"]}, "Participants answer nothing themselves at tx01."),
        ({"to": "staff"}, "A link is for the participant alone."),
        ({"texts": [{**TEXT, "body": "Answer now"}]}, "Write {link} where it goes."),
        ({"texts": [{**TEXT, "subject": "{link}", "body": "{link}"}]}, "Write {link} in the body alone."),
        ({"texts": [{**TEXT, "body": "{link} on {day}"}]}, "Nobody fills in {day}."),
    ],
)
def test_a_rule_that_sends_links_leads_to_questions_of_participants(changes: dict[str, Any], words: str | None) -> None:
    asked = [
        {**form, "respondent": "participant"} if form["code"] == "pain" else form
        for form in cast("list[dict[str, Any]]", MINI["instruments"])
    ]
    rule = {"code": "r", "when": "link_due", **changes}
    found = [each.message for each in problems(definition(schedule={"reminders": [rule]}, instruments=asked))]
    assert [words in message for message in found] == ([True] if words else [])  # type: ignore[operator]


def test_without_questions_of_participants_no_link_is_sent() -> None:
    (message,) = reminder(when="link_due")
    assert "No visit has a form that participants answer" in message


def test_a_length_of_a_visit_that_is_not_there_and_two_reminders_of_one_code_are_found() -> None:
    assert "week99" in said(lengths=[{"visit": "week99", "minutes": 30}])[0]
    twice = [{"code": "r", "when": "overdue"}, {"code": "r", "when": "window_opens"}]
    assert "two reminders" in said(reminders=twice)[0]


def test_a_study_that_says_nothing_of_it_is_what_it_was() -> None:
    assert '"schedule"' not in canonical(definition())
    assert '"schedule"' in canonical(definition(schedule={"minutes": 30}))
    study: Study = definition(schedule={"lengths": [{"visit": "week18", "minutes": 90}]})
    assert (study.schedule.minutes_for("week18"), study.schedule.minutes_for(None)) == (90, 60)
