"""Correcting a pre-screen over REST: what stands is read with an ETag, corrected once, and its history is told."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.people.permissions import Role
from tests.api.client import api_client
from tests.web.test_unblinding import Blind
from tests.web.world import STORED

PATH = "/participants/M-001/screening"
WHY = "Read from the passport"


@pytest.fixture
def blind(begun: Any, kind: str) -> Iterator[Blind]:
    """M-001 is randomised, M-002 is not."""
    with begun(kind, Blind) as blind:
        yield blind


def corrected(**changed: Any) -> dict[str, Any]:
    asked = {name[1:]: changed.pop(name) for name in list(changed) if name.startswith("_")}
    return {"answers": {**STORED, **changed}, "version": 1, "why": WHY, **asked}


@pytest.mark.requirement("EMA-5", "REL-4")
def test_it_is_corrected_once_and_every_value_is_told(blind: Blind) -> None:
    program = api_client(blind.database, blind.world.coordinators["north"])
    stands = program.done("GET", PATH)
    assert (stands["version"], stands["answers"], stands["eligible"], stands["moved"]) == (1, STORED, True, [])
    body, key = corrected(age=54), {"Idempotency-Key": "one"}
    made = program.done("PUT", PATH, body, headers=key)
    assert (made["version"], made["answers"]["age"], made["status"]) == (2, 54, "randomised")
    assert program.done("PUT", PATH, body, headers=key) == made
    assert program.done("PUT", PATH, body) == made
    assert program.done("GET", PATH) == made
    lines = program.rows(f"{PATH}/history")
    told = [(line["action"], line["old"], line["new"], line["why"]) for line in lines if line["item"] == "age"]
    assert told == [("screening.answered", None, 44, None), ("screening.corrected", 44, 54, WHY)]
    assert lines[-1]["action"] == "screening.judged_again"
    assert "Nothing of this differs" in program.refused(409, "PUT", PATH, {**body, "version": 2})["detail"]


@pytest.mark.requirement("CONC-8")
def test_two_at_once_overwrite_nothing(blind: Blind) -> None:
    program = api_client(blind.database, blind.world.coordinators["north"])
    tag = program.get(PATH).headers["ETag"]
    assert program.put(PATH, corrected(age=54), headers={"If-Match": tag}).status_code == 200
    assert program.put(PATH, corrected(age=45), headers={"If-Match": tag}).status_code == 412
    assert program.refused(409, "PUT", PATH, corrected(age=45))["current_version"] == 2
    assert program.done("GET", PATH)["answers"]["age"] == 54


@pytest.mark.requirement("CON-F2", "P11-g")
def test_what_follows_and_who_may(blind: Blind) -> None:
    coordinator = blind.world.coordinators["north"]
    program = api_client(blind.database, coordinator)
    made = program.done("PUT", PATH, corrected(age=12))
    assert (made["status"], made["eligible"], made["failure_reason"]) == ("randomised", False, None)
    found = program.done("GET", "/deviations")["items"]
    assert [(each["participant"], each["rule"], each["state"]) for each in found] == [("M-001", "ineligible", "open")]
    waiting = blind.world.screened().code
    path = f"/participants/{waiting}/screening"
    made = program.done("PUT", path, corrected(age=12))
    assert (made["status"], made["failure_reason"]) == ("screen_failed", "adult")
    back = program.done("PUT", path, corrected(age=21, _version=2))
    assert (back["status"], back["failure_reason"]) == ("screened", None)
    for changes in ({"why": ""}, {"why": "It was Placebex device"}, {"arm": "sham"}, {"answers": {"age": 44}}):
        program.refused(422, "PUT", path, {**corrected(age=50, _version=3), **changes})
    api_client(blind.database, blind.world.coordinators["south"]).refused(404, "GET", PATH)
    for role in (Role.ASSESSOR, Role.DATA_MANAGER, Role.MONITOR):
        other = api_client(blind.database, blind.world.person(role))
        other.refused(403, "PUT", PATH, corrected(age=50, _version=2))
        assert other.done("GET", PATH)["answers"]["age"] == 12
    clinician = api_client(blind.database, blind.world.person(Role.CLINICIAN))
    clinician.refused(403, "GET", PATH)
    clinician.refused(403, "GET", f"{PATH}/history")
    narrow = api_client(blind.database, coordinator, ["participant.read", "entry.read"])
    narrow.refused(403, "PUT", PATH, corrected(age=50, _version=2))
