"""The flow by arm over REST: for the statistician, and for no other token."""

import pytest

from app.foundation.database import Database
from app.people.permissions import Role
from tests.api.client import api_client
from tests.web.test_by_arm import randomised
from tests.web.world import World

ADDRESS = "/flow-by-arm"


@pytest.mark.requirement("CON-F4", "CON-F5", "CON-26")
def test_every_arm_adds_up(shared_database: Database):
    world = World(shared_database)
    arms = randomised(world, 3)
    client = api_client(world.database, world.person("statistician", site_code=None))
    found = client.done("GET", ADDRESS)
    assert world.log()[-4:] == ["envelope.opened"] * 3 + ["flow.reported"]
    assert (found["study"], found["is_locked"], found["groups"]) == ("mini", False, [])
    assert {arm["arm"]: arm["allocated"] for arm in found["arms"]} == {code: arms[code] for code in ("active", "sham")}
    for arm in found["arms"]:
        assert arm["allocated"] == arm["received"] + arm["not_received"] + arm["pending"] + arm["not_known"]
        (visit,), (analysis,) = arm["visits"], arm["analyses"]
        assert sum(number for number in visit.values() if isinstance(number, int)) == arm["allocated"]
        assert analysis["analysed"] + analysis["excluded"] == arm["allocated"]
        assert (analysis["instrument"], analysis["item"], analysis["visit"]) == ("pain", "pain_nrs", "week18")
        assert sum(reason["number"] for reason in analysis["reasons"]) == analysis["excluded"]


@pytest.mark.requirement("E6-1", "SEC-22", "CON-F8")
@pytest.mark.parametrize("role", [role for role in Role if role not in (Role.STATISTICIAN, Role.ADMINISTRATOR)])
def test_other_tokens_are_answered_like_nonsense(shared_database: Database, role: Role):
    world = World(shared_database)
    client = api_client(world.database, world.person(role))
    problem, nonsense = client.refused(404, "GET", ADDRESS), client.refused(404, "GET", "/nonsense")
    assert {**problem, "instance": ""} == {**nonsense, "instance": ""}
