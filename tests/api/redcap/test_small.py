"""A study without repeats, whose record field has another name; and how many statements a call makes."""

import pytest
from sqlalchemy import event

from app.foundation.database import Database
from tests.api.redcap.world import build


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_study_without_repeats_says_so_and_has_no_columns_for_them(shared_database: Database):
    both = build(shared_database, repeats=False, record_id="subject")["both"]
    assert both.refused("repeatingFormsEvents") == (
        "You cannot export repeating instruments and events because the project does not contain any repeating "
        "instruments and events"
    )
    rows = both.json("record")
    assert list(rows[0])[:3] == ["subject", "redcap_event_name", "age"]
    assert both.json("metadata")[0]["field_name"] == "subject"
    assert both.json("project")["has_repeating_instruments_or_events"] == 0
    assert (
        both.imports([{"subject": "M-002", "redcap_event_name": "baseline_arm_1", "pain_nrs": 1}]).text == '{"count":1}'
    )


MOST_STATEMENTS = 16


@pytest.mark.parametrize("kind", ["sqlite"])
def test_no_call_makes_many_statements(shared_database: Database):
    """However many participants and people there are: the statements of a call do not grow with them."""
    world = build(shared_database)
    made: list[str] = []
    event.listen(shared_database.engine, "before_cursor_execute", lambda *told: made.append(told[2]))
    counted = {}
    for content in ("record", "metadata", "user", "userRoleMapping", "log", "project", "report", "participantList"):
        made.clear()
        assert world["both"].send(content, format="csv", report_id="1", instrument="diary").status_code == 200
        counted[content] = len([each for each in made if not each.startswith(("SAVEPOINT", "RELEASE"))])
    assert all(counted.values())
    assert {content: count for content, count in counted.items() if count > MOST_STATEMENTS} == {}
