"""A study names what is compared with its source: a version from before is what it was, and what is wrong is said."""

from typing import Any

import pytest

from app.studies.rules import canonical, problems
from tests.factories import definition


def named(*parts: dict[str, Any], verification: str = "named") -> dict[str, Any]:
    return {"oversight": {"verification": verification, "to_verify": list(parts)}}


def found(**changes: object) -> list[str]:
    return [each.message for each in problems(definition(**changes)) if each.is_error]


def test_a_version_from_before_is_what_it_was():
    assert "verification" not in canonical(definition(oversight={"log_review_days": 30}))
    assert '"verification":"none"' in canonical(definition(oversight={"verification": "none"}))


def test_what_is_named_at_one_visit_at_all_and_whole():
    study = definition(
        **named(
            {"instrument": "pain", "items": ["pain_nrs"]},
            {"instrument": "pain", "items": ["pain_days"], "visits": ["week18"]},
            {"instrument": "disability"},
        )
    )
    assert not problems(study)
    assert study.items_to_verify("baseline", "pain") == {"pain_nrs"}
    assert study.items_to_verify("week18", "pain") == {"pain_nrs", "pain_days"}
    assert study.items_to_verify("week18", "disability") is None
    assert definition().items_to_verify("week18", "pain") is None
    assert definition(oversight={"verification": "none"}).items_to_verify("week18", "pain") == set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (named(), "Nothing is named that is to be verified"),
        (named({"instrument": "pain"}, verification="all"), "so nobody looks here"),
        (named({"instrument": "prescreen"}), "is filled in at no visit"),
        (named({"instrument": "weather"}), "is filled in at no visit"),
        (named({"instrument": "pain", "items": ["rain"]}), "Pain has no item “rain”"),
        (named({"instrument": "disability", "visits": ["baseline"]}), "Disability is not filled in at “baseline”"),
    ],
)
def test_what_does_not_fit_together_is_said(changes: dict[str, Any], words: str):
    (message,) = found(**changes)
    assert words in message
