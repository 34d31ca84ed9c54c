"""Randomised in error over REST: recorded once, corrected by adding, read by whoever may know the participant."""

import pytest

from app.foundation.database import Database
from app.people.permissions import Role
from tests.api.client import api_client
from tests.web.test_unblinding import Blind

PATH = "/participants/M-001/randomised-in-error"


@pytest.fixture
def blind(shared_database: Database) -> Blind:
    return Blind(shared_database)


@pytest.mark.requirement("CONC-9", "REL-4")
def test_it_is_recorded_once_and_corrected_by_adding(blind: Blind):
    body = {"reason": "ineligible", "why": "Too old by a day", "found_on": blind.world.today().isoformat()}
    program = api_client(blind.database, blind.world.coordinators["north"])
    assert program.rows(PATH) == []
    assert program.done("GET", "/participants/M-001")["randomised_in_error"] is None
    made = program.done("POST", PATH, body, headers={"Idempotency-Key": "one"})
    assert (made["reason"], made["why"], made["corrects"]) == ("ineligible", "Too old by a day", None)
    assert sorted(made["told"]) == [blind.doctor.username, blind.statistician.username]
    assert program.done("POST", PATH, body, headers={"Idempotency-Key": "one"}) == made
    assert program.done("POST", PATH, body) == made
    assert program.rows(PATH) == [made]
    problem = program.refused(409, "POST", PATH, {**body, "reason": "twice"})
    assert problem["current_version"] == made["number"]
    taken_back = program.done(
        "POST", PATH, {**body, "reason": "no_error", "why": "Misread", "corrects": made["number"]}
    )
    assert program.rows(PATH) == [made, taken_back]
    assert program.done("GET", "/participants/M-001")["randomised_in_error"] == "no_error"
    assert [row["randomised_in_error"] for row in program.done("GET", "/participants")["items"]] == ["no_error", None]


@pytest.mark.requirement("CONC-9", "P11-g")
def test_what_is_refused(blind: Blind):
    body = {"reason": "ineligible", "why": "Too old by a day", "found_on": blind.world.today().isoformat()}
    program = api_client(blind.database, blind.world.coordinators["north"])
    for changes in ({"why": ""}, {"reason": "regret"}, {"why": "It was Placebex device"}, {"arm": "sham"}):
        program.refused(422, "POST", PATH, {**body, **changes})
    waiting = blind.world.filled("north")
    program.refused(409, "POST", f"/participants/{waiting.code}/randomised-in-error", body)
    api_client(blind.database, blind.world.coordinators["south"]).refused(404, "GET", PATH)
    for role in (Role.ASSESSOR, Role.CLINICIAN, Role.DATA_MANAGER, Role.MONITOR):
        other = api_client(blind.database, blind.world.person(role))
        other.refused(403, "POST", PATH, body)
        assert other.rows(PATH) == []
    narrow = api_client(blind.database, blind.world.coordinators["north"], ["participant.read"])
    narrow.refused(403, "POST", PATH, body)
    assert program.rows(PATH) == []
