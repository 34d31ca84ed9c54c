"""Downtime over REST: a pack once, in the first answer; a slip entered by a program; and no arm in between."""

import base64
from typing import Any

import pytest
from sqlalchemy import select

from app.foundation import clock
from app.foundation.database import Database
from app.people.permissions import Role
from app.randomisation.downtime.reads import open_packs
from app.randomisation.models import Allocation
from tests.api.client import PASSWORD, ApiClient, api_client
from tests.web.test_randomisation import sealed
from tests.web.world import World

PACK = {"site": "north", "slots": 2, "why": "Power cuts are announced", "password": PASSWORD}
KEY = {"Idempotency-Key": "pack-1"}


@pytest.fixture
def world(shared_database: Database) -> World:
    world = World(shared_database)
    sealed(world, slots=12)
    return world


@pytest.fixture
def statistician(world: World) -> ApiClient:
    return api_client(world.database, world.person("statistician", site_code=None))


def slip(**changes: Any) -> dict[str, Any]:
    at = clock.now().isoformat()
    return {"slip": "1-01", "at": at, "used_by": "Nora", "password": PASSWORD, **changes}


@pytest.mark.requirement("CONC-3")
def test_the_first_answer_has_the_pack_and_no_later_one(world: World, statistician: ApiClient):
    first, again = (statistician.post("/downtime-packs", PACK, headers=KEY) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert [each["name"] for each in first.json()["slips"]] == ["1-01", "1-02"]
    kinds = [base64.b64decode(each["base64"])[:9] for each in first.json()["files"]]
    assert kinds[0] == b"<!doctype"
    assert all(kind.startswith(b"%PDF") for kind in kinds[1:])
    assert again.json() == {"number": 1, "passphrase": None, "slips": [], "files": [], "note": again.json()["note"]}
    with world.database.reading() as session:
        assert open_packs(session) == [1]


@pytest.mark.requirement("E9-3")
def test_slips_are_entered_voided_and_the_pack_is_closed(world: World, statistician: ApiClient):
    statistician.post("/downtime-packs", PACK)
    coordinator = api_client(world.database, world.coordinators["north"])
    person = f"/participants/{world.filled().code}/randomise-on-paper"
    for body, status in (
        (slip(password="wrong"), 422),
        (slip(slip="9-01"), 422),
        (slip(at="2026-03-02T09:00:00"), 422),
        (slip(slip="1-02"), 409),
        (slip(), 201),
        (slip(), 409),
    ):
        reply = coordinator.post(person, body)
        assert reply.status_code == status, reply.text
    shown = statistician.rows("/downtime-packs/1/slips")
    assert [each["state"] for each in shown] == ["used", "reserved"]
    assert statistician.post("/downtime-packs/1/slips/2/void", {"why": "Lost"}).json()[1]["state"] == "void"
    assert statistician.done("GET", "/downtime-packs/1/slips/2")["reason"] == "Lost"
    statistician.refused(404, "GET", "/downtime-packs/1/slips/3")
    assert statistician.done("GET", "/downtime-packs/1") == statistician.rows("/downtime-packs")[0]
    closed = statistician.post("/downtime-packs/1/close", {"why": "Back", "password": PASSWORD})
    assert closed.json()["closed_by"] == statistician.rows("/downtime-packs")[0]["made_by"]
    assert closed.json()["reserved"] == 0
    with world.database.reading() as session:
        assert len(session.execute(select(Allocation)).all()) == 1


@pytest.mark.requirement("E9-2", "CONC-4")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STATISTICIAN])
@pytest.mark.parametrize("kind", ["sqlite"])
def test_for_every_other_token_there_are_no_packs(world: World, statistician: ApiClient, role: Role):
    statistician.post("/downtime-packs", PACK)
    if role is Role.ADMINISTRATOR:
        return  # has no token
    other = api_client(world.database, world.person(role.value))
    nonsense = other.get("/nonsense").status_code
    assert nonsense == 404
    for reply in (
        other.get("/downtime-packs"),
        other.get("/downtime-packs/1"),
        other.get("/downtime-packs/1/slips"),
        other.get("/downtime-packs/1/slips/1"),
        other.post("/downtime-packs", PACK),
        other.post("/downtime-packs/1/slips/1/void", {"why": "Lost"}),
        other.post("/downtime-packs/1/close", {"why": "Back", "password": PASSWORD}),
        other.post("/downtime-packs", {"nonsense": True}),
    ):
        assert reply.status_code == nonsense


def test_a_token_without_the_scope_to_open_envelopes_makes_no_pack(world: World):
    owner = world.person("statistician", site_code=None)
    program = api_client(world.database, owner, ["sequence.draw", "sequence.seal"])
    assert program.get("/downtime-packs").status_code == 200
    assert program.post("/downtime-packs", PACK).status_code == 404
