"""Randomising over REST, the statistician's sequences and arms; and that other tokens find none of it."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from app.audit.actions import ENTRY
from app.foundation.database import Database
from app.people.permissions import Permission, Role
from tests.api.client import PASSWORD, ApiClient, api_client, headers_of, problem_of
from tests.web.test_randomisation import sealed, used
from tests.web.world import World

RANDOMISE = "/participants/M-001/randomise"
KEY = {"Idempotency-Key": "randomise-1"}


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


@pytest.fixture
def coordinator(world: World) -> ApiClient:
    return api_client(world.database, world.coordinators["north"])


@pytest.fixture
def statistician(world: World) -> ApiClient:
    return api_client(world.database, world.person("statistician", site_code=None))


def test_gates_open_one_after_the_other(world: World, coordinator: ApiClient):
    sealed(world)
    world.consented()
    found = coordinator.done("GET", "/participants/M-001/gates")
    assert (found["ready"], found["reason"]) == (False, "Complete Pain (Baseline) first.")
    assert [gate["code"] for gate in found["gates"] if not gate["open"]] == ["baseline"]
    world.filled(code="M-001")
    found = coordinator.done("GET", "/participants/M-001/gates")
    assert (found["ready"], found["reason"]) == (True, None)
    assert "slot" not in json.dumps(found)


@pytest.mark.requirement("E9-3")
def test_randomise_tells_the_number_and_nothing_else(world: World, coordinator: ApiClient):
    sealed(world)
    world.filled()
    reply = coordinator.post(RANDOMISE)
    assert reply.status_code == 201
    assert set(reply.json()) == {"allocation", "randomised_at"}
    assert reply.json()["allocation"] == 1
    assert reply.headers["location"] == "/api/v1/studies/mini/participants/M-001"
    assert used(world) == (1, 1)


@pytest.mark.requirement("REL-4", "CONC-9")
def test_a_lost_reply_is_given_again_under_its_key(world: World, coordinator: ApiClient):
    sealed(world)
    world.filled()
    first, again = (coordinator.post(RANDOMISE, headers=KEY) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert again.headers["idempotent-replay"] == "true"
    assert used(world) == (1, 1)
    for headers in (None, {"Idempotency-Key": "another"}):
        reply = coordinator.post(RANDOMISE, headers=headers)
        assert reply.status_code == 409
        assert "already randomised" in problem_of(reply)["detail"]
    assert used(world) == (1, 1)


@pytest.mark.requirement("REL-4", "CONC-9")
def test_the_same_request_several_times_at_once_takes_one_slot(database: Database):
    world = World(database)
    sealed(world)
    world.filled()
    client = api_client(database, world.coordinators["north"])
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda _: client.post(RANDOMISE, headers=KEY), range(4)))
    assert {(reply.status_code, reply.content) for reply in replies} == {(201, replies[0].content)}
    assert used(world) == (1, 1)


def test_a_closed_gate_is_a_refusal_with_its_reason_and_no_slot(world: World, coordinator: ApiClient):
    sealed(world)
    world.consented()
    found = coordinator.refused(409, "POST", RANDOMISE)
    assert found["detail"] == "Complete Pain (Baseline) first."
    assert used(world) == (0, 0)
    assert world.log()[-1] == "participant.randomise_refused"


@pytest.mark.parametrize("role", ["assessor", "clinician", "data_manager", "monitor"])
def test_who_may_not_randomise_is_told_so(world: World, role: str):
    sealed(world)
    world.filled()
    client = api_client(world.database, world.person(role))
    assert client.done("GET", "/participants/M-001/gates")["ready"]
    assert "coordinator or investigator" in client.refused(403, "POST", RANDOMISE)["detail"]
    assert used(world) == (0, 0)


def test_a_token_without_the_scope_does_not_randomise(world: World):
    sealed(world)
    world.filled()
    client = api_client(world.database, world.coordinators["north"], [Permission.PARTICIPANT_READ])
    assert "participant.randomise" in client.refused(403, "POST", RANDOMISE)["detail"]


def test_there_are_no_gates_where_nobody_is_allocated(database: Database):
    world = World(database, allocation={"method": "observed"})
    world.filled()
    client = api_client(database, world.coordinators["north"])
    assert client.get("/participants/M-001/gates").status_code == 404
    assert client.post(RANDOMISE).status_code == 409


# Sequences


def test_draw_seal_and_see_the_counts(statistician: ApiClient):
    body = {"method": "permuted_blocks", "block_sizes": [2, 4], "slots_per_stratum": 8}
    reply = statistician.post("/sequences", body, headers=KEY)
    assert reply.status_code == 201
    assert reply.headers["location"] == "/api/v1/studies/mini/sequences/1"
    assert statistician.post("/sequences", body, headers=KEY).content == reply.content
    drawn = statistician.done("GET", "/sequences/1")
    assert (drawn["status"], drawn["used"]) == ("drawn", 0)
    assert [stratum["code"] for stratum in drawn["strata"]] == ["north", "south"]
    assert "block" not in json.dumps({**drawn, "method": ""})
    wrong = statistician.refused(422, "POST", "/sequences/1/seal", {"password": "nope"})
    assert wrong["errors"][0]["field"] == "password"
    assert statistician.done("POST", "/sequences/1/seal", {"password": PASSWORD})["status"] == "sealed"
    assert statistician.refused(409, "POST", "/sequences/1/seal", {"password": PASSWORD})
    assert [each["version"] for each in statistician.rows("/sequences")] == [1]


@pytest.mark.requirement("RND-14")
def test_the_scripts_that_draw_it_again_are_taken(statistician: ApiClient):
    statistician.done(
        "POST", "/sequences", {"method": "permuted_blocks", "block_sizes": [2, 4], "slots_per_stratum": 8}
    )
    for name, plan in (("script.py", "BLOCK_SIZES = [2, 4]"), ("script.R", "block_sizes <- c(2, 4)")):
        reply = statistician.get(f"/sequences/1/{name}")
        assert reply.status_code == 200
        assert plan in reply.text
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_finished_list_is_taken(statistician: ApiClient):
    text = "stratum,position,arm\nnorth,1,sham\nnorth,2,active\nsouth,1,active\n"
    found = statistician.done("POST", "/sequences", {"method": "list", "csv": text})
    assert (found["method"], found["slots"]) == ("list", 3)


@pytest.mark.requirement("CONC-4")
@pytest.mark.parametrize(
    "body",
    [
        {"method": "simple"},
        {"method": "big_stick", "tolerance": 3},
        {"method": "wei_urn", "alpha": 0, "beta": 1},
        {"method": "biased_coin", "probability": "2/3"},
    ],
)
def test_the_studys_own_method_is_drawn_with_its_options(database: Database, body: dict[str, Any]):
    world = World(database, allocation={"method": body["method"]})
    client = api_client(database, world.person("statistician", site_code=None))
    found = client.done("POST", "/sequences", {**body, "slots_per_stratum": 9})
    assert (found["method"], found["slots"]) == (body["method"], 9)
    assert not set(found) & {"tolerance", "alpha", "beta", "probability"}
    wrong = client.refused(422, "POST", "/sequences", {**body, "slots_per_stratum": 9, "block_sizes": [4]})
    assert {each["field"] for each in wrong["errors"]} == {"block_sizes"}


@pytest.mark.requirement("RND-1", "CONC-4")
def test_whole_sites_are_drawn_together(database: Database):
    world = World(database, allocation={"method": "cluster", "strata": [{"code": "site", "label": "Site"}]})
    client = api_client(database, world.person("statistician", site_code=None))
    body = {"method": "cluster", "slots_per_stratum": 9}
    found = client.done("POST", "/sequences", {**body, "sites": ["south"]})
    assert [stratum["code"] for stratum in found["strata"]] == ["south"]
    assert client.done("GET", "/sequences/1/review")["slots_per_arm"] == {}
    both = client.done("POST", "/sequences", body)
    assert [stratum["code"] for stratum in both["strata"]] == ["north", "south"]
    review = client.done("GET", "/sequences/2/review")
    assert (review["known"], review["guessed"]) == (pytest.approx(17 / 18), pytest.approx(35 / 36))
    wrong = client.refused(422, "POST", "/sequences", {**body, "sites": ["east"]})
    assert {each["field"] for each in wrong["errors"]} == {"sites"}
    assert review["further"] is False
    wrong = client.refused(422, "POST", "/sequences", {**body, "further": True})
    assert [each["field"] for each in wrong["errors"]] == ["further"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"method": "permuted_blocks", "block_sizes": [2], "slots_per_stratum": 8, "sites": ["north"]}, "sites"),
        ({"method": "permuted_blocks", "block_sizes": [3], "slots_per_stratum": 8}, "block_sizes"),
        ({"method": "permuted_blocks", "slots_per_stratum": 8}, "block_sizes"),
        ({"method": "permuted_blocks", "block_sizes": [2]}, "slots_per_stratum"),
        ({"method": "permuted_blocks", "block_sizes": [2], "slots_per_stratum": 8, "csv": "x"}, "csv"),
        ({"method": "list", "csv": "a,b"}, "listing"),
        ({"method": "list", "csv": "a,b", "block_sizes": [2]}, "method"),
        ({"method": "list", "csv": "a,b", "tolerance": 2}, "method"),
        ({"method": "permuted_blocks", "block_sizes": [2], "tolerance": 2, "slots_per_stratum": 8}, "tolerance"),
        ({"method": "big_stick", "tolerance": 2, "slots_per_stratum": 8}, "method"),
        ({"method": "coin"}, "method"),
        ({"method": "list", "seed": "1"}, "seed"),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_cannot_be_drawn_says_which_field(statistician: ApiClient, body: dict[str, Any], field: str):
    assert field in {each["field"] for each in statistician.refused(422, "POST", "/sequences", body)["errors"]}
    assert statistician.rows("/sequences") == []


# Arms


@pytest.fixture
def randomised(world: World, coordinator: ApiClient) -> World:
    sealed(world, slots=4)
    for number in (1, 2, 3):
        world.filled()
        coordinator.done("POST", f"/participants/M-{number:03}/randomise")
    world.screened()
    return world


def opened(world: World) -> int:
    with world.database.reading() as session:
        return len(session.execute(select(ENTRY.c.position).where(ENTRY.c.action == "envelope.opened")).all())


def test_allocations_are_paged_with_their_arms_and_written_down(randomised: World, statistician: ApiClient):
    first = statistician.done("GET", "/allocations?limit=2")
    assert [row["allocation"] for row in first["items"]] == [1, 2]
    assert {row["arm"] for row in first["items"]} == {"active", "sham"}
    assert opened(randomised) == 2
    second = statistician.done("GET", f"/allocations?limit=2&cursor={first['next']}")
    assert ([row["participant"] for row in second["items"]], second["next"]) == (["M-003"], None)
    assert opened(randomised) == 3
    assert statistician.get("/allocations?cursor=nonsense").status_code == 422


@pytest.mark.parametrize("table", ["participants", "entries_wide", "entries_by_visit"])
def test_exports_with_arms(randomised: World, statistician: ApiClient, table: str):
    arms = {row["participant"]: row["arm"] for row in statistician.done("GET", "/allocations")["items"]}
    reply = statistician.get(f"/exports-unblinded/{table}.csv")
    assert reply.status_code == 200
    assert f"mini_{table}_unblinded_" in reply.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    assert {row["participant"]: row["arm"] for row in rows if row["arm"]} == arms
    if table != "entries_by_visit":
        assert next(row for row in rows if row["participant"] == "M-004")["arm"] == ""
    assert statistician.get(f"/exports-unblinded/{table}.json").json()[0]["arm"] == rows[0]["arm"]


def test_an_export_with_arms_is_in_the_log_without_a_hash(randomised: World, statistician: ApiClient):
    before = opened(randomised)
    assert statistician.get("/exports-unblinded/participants.csv").status_code == 200
    assert opened(randomised) == before + 3
    with randomised.database.reading() as session:
        said = session.execute(select(ENTRY.c.action, ENTRY.c.new).where(ENTRY.c.action.startswith("export."))).all()
    assert [row.action for row in said] == ["export.run"]
    assert "sha256" not in said[0].new


@pytest.mark.parametrize("file", ["entries.csv", "participants.docx", "codebook.csv", "participants"])
@pytest.mark.parametrize("kind", ["sqlite"])
def test_other_unblinded_files_are_not_there(randomised: World, statistician: ApiClient, file: str):
    assert statistician.get(f"/exports-unblinded/{file}").status_code == 404


# Nobody else

HIDDEN: list[tuple[str, str, Any]] = [
    ("GET", "/sequences", None),
    ("GET", "/sequences/1", None),
    ("GET", "/sequences/x", None),
    ("POST", "/sequences", {"method": "permuted_blocks", "block_sizes": [2], "slots_per_stratum": 2}),
    ("GET", "/sequences/1/script.py", None),
    ("GET", "/sequences/1/script.R", None),
    ("POST", "/sequences", {"method": "coin"}),
    ("POST", "/sequences", "not an object"),
    ("POST", "/sequences/1/seal", {"password": PASSWORD}),
    ("POST", "/sequences/1/seal", {}),
    ("GET", "/allocations", None),
    ("GET", "/allocations?limit=0", None),
    ("GET", "/allocations?cursor=nonsense", None),
    ("GET", "/allocations?misspelt=1", None),
    ("GET", "/allocations?cursor=%00", None),
    ("POST", "/sequences?misspelt=1", {}),
    ("GET", "/exports-unblinded/participants.csv", None),
    ("GET", "/exports-unblinded/nonsense.csv", None),
]


@pytest.mark.requirement("CONC-1", "CONC-4", "SEC-19")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STATISTICIAN])
@pytest.mark.parametrize("kind", ["sqlite"])
def test_other_tokens_get_what_an_unknown_path_gives(world: World, role: Role):
    sealed(world)
    client = api_client(world.database, world.person(role))
    before = len(world.log())
    key = {"Idempotency-Key": "one"}
    for method, path, body in HIDDEN:
        more = {"json": body} if body is not None else {}
        nonsense = client.request(method, "/nonsense", **more)
        assert nonsense.status_code == 404
        for headers in (None, key, key):
            reply = client.request(method, path, headers=headers, **more)
            assert (reply.status_code, reply.content) == (404, nonsense.content), (method, path)
            assert headers_of(reply) == headers_of(nonsense), (method, path)
    nonsense = client.request("POST", "/nonsense", content=b"{")
    for content in (b"{", b"\xff"):
        for headers in ({"Content-Type": "application/json"}, {"Idempotency-Key": "x" * 300}):
            reply = client.request("POST", "/sequences", content=content, headers=headers)
            assert (reply.status_code, reply.content) == (404, nonsense.content), (content, headers)
    assert len(world.log()) == before


def test_a_body_that_cannot_be_read_is_said_to_the_statistician(statistician: ApiClient):
    reply = statistician.request("POST", "/sequences", content=b"{", headers={"Content-Type": "application/json"})
    assert reply.status_code == 422


def test_a_token_of_the_statistician_without_the_scope_finds_nothing(world: World):
    by = world.person("statistician", site_code=None)
    client = api_client(world.database, by, [Permission.EXPORT_RUN])
    for method, path, body in HIDDEN:
        assert client.request(method, path, **({"json": body} if body else {})).status_code == 404
