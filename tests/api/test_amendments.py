"""Versions and amendments over REST: the same sentences, effects and refusals as on the pages."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from starlette.testclient import TestClient

from app.amendments.rules import SETTLES
from app.foundation.database import Database
from tests.amendments.world import enrolled, first, loaded
from tests.api.client import api_client, application_on
from tests.factories import NOW, TODAY, mini_study, person


@pytest.fixture
def clients(shared_database: Database) -> Any:
    with time_machine.travel(NOW, tick=False) as time:
        with shared_database.writing() as session:
            study = mini_study(session, **first())
            enrolled(session, study)
            loaded(session, study)
            people = {role: person(session, study, role, site_code="north") for role in ("coordinator", "clinician")}
            people["administrator"] = person(session, study, "administrator", site_code=None)
        http = TestClient(application_on(shared_database), base_url="http://trial.test")
        yield {name: api_client(shared_database, actor, http=http) for name, actor in people.items()}, time


@pytest.mark.requirement("CON-10")
def test_an_amendment_over_rest(clients: Any) -> None:
    people, time = clients
    administrator, coordinator = people["administrator"], people["coordinator"]
    versions = administrator.rows("/versions")
    assert [(each["version"], each["sites"]) for each in versions] == [("2", []), ("1", ["north", "south"])]
    differences = administrator.rows("/versions/2/differences")
    assert {each["concern"] for each in differences} == {"conduct", "schedule", "capture"}
    assert administrator.rows("/versions/1/differences", params={"since": "1"}) == []
    assert administrator.get("/versions/2/effect").status_code == 403, "who reads no participants reads no codes"
    (effect,) = coordinator.get("/versions/2/effect").json()["items"]
    assert effect["participant"] == "M-001"
    moved = next(each for each in effect["visits"] if each["code"] == "week18")
    assert moved["new"]["target_on"] == (TODAY + timedelta(days=119)).isoformat()
    assert effect["entries"] == [
        {
            "visit": "baseline",
            "instrument": "pain",
            "becomes": ["incomplete"],
            "items": ["pain_worst"],
            "breaks_signature": True,
        }
    ]
    (seen,) = people["clinician"].get("/versions/2/effect").json()["items"]
    assert (seen["visits"], seen["entries"]) == (effect["visits"], [])
    assert coordinator.get("/versions/2/effect", params={"site": "south"}).status_code == 404
    assert coordinator.get("/versions/9/effect").status_code == 404

    asked = {"version": "2", "sites": ["north"], "why": "Ethics, 1 March 2026"}
    assert coordinator.post("/amendments", asked).status_code == 403
    unknown = administrator.post("/amendments", {**asked, "sites": ["west"]})
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "sites")
    planned = administrator.post("/amendments", {**asked, "from_on": (TODAY + timedelta(days=9)).isoformat()})
    assert planned.status_code == 201
    (number,) = planned.json()["numbers"]
    assert administrator.post(f"/amendments/{number}/continuation").status_code == 409
    assert administrator.post(f"/amendments/{number}/cancellation", {"why": "Not yet"}).json() == {"number": number}
    (number,) = administrator.post("/amendments", asked).json()["numbers"]
    time.shift(SETTLES)
    done = administrator.post(f"/amendments/{number}/continuation").json()
    assert (done["state"], done["looked_at"], done["visits"]) == ("done", 1, 3)
    assert [each["state"] for each in administrator.get("/amendments").json()["items"]] == ["done", "cancelled"]
    visits = {each["code"]: each for each in coordinator.rows("/participants/M-001/visits")}
    assert visits["week18"]["target_on"] == moved["new"]["target_on"]
