"""Treatment over REST: whom a clinician treats, sessions recorded and corrected; and that other tokens find none."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from sqlalchemy import select

from app.audit.actions import ENTRY
from app.people.permissions import Role
from tests.api.client import ApiClient, api_client, headers_of
from tests.conformance import conformance_folder
from tests.web.test_treatment import EARLY, MODULE, Treated

ROOT = "/treatment/participants"


@pytest.fixture
def treated(begun: Any, kind: str) -> Iterator[Treated]:
    with begun(kind, Treated) as treated:
        yield treated


@pytest.fixture
def clinician(treated: Treated) -> ApiClient:
    return api_client(treated.world.database, treated.clinician)


def session_of(treated: Treated, code: str = "M-001", minutes: int = 30, **more: Any) -> dict[str, Any]:
    module = MODULE[treated.arms[code]]
    return {
        "held_on": treated.world.today().isoformat(),
        "reason": EARLY,
        "delivered": {module: {f"{module}_minutes": minutes}},
        "version": 0,
        **more,
    }


@pytest.mark.requirement("P11-d")
def test_one_s_own_participants_with_their_arms(treated: Treated, clinician: ApiClient):
    first = clinician.done("GET", f"{ROOT}?limit=1")
    second = clinician.done("GET", f"{ROOT}?cursor={first['next']}")
    rows = [*first["items"], *second["items"]]
    assert [(row["participant"], row["arm"]) for row in rows] == list(treated.arms.items())[:2]
    assert (rows[0]["held"], rows[0]["planned"], rows[0]["next_session"]) == (0, 1, "tx01")
    assert clinician.get(f"{ROOT}/M-003").status_code == 404
    assert clinician.put(f"{ROOT}/M-003/sessions/tx01", session_of(treated, "M-003")).status_code == 404


def test_a_session_is_recorded_read_and_corrected(treated: Treated, clinician: ApiClient):
    path = f"{ROOT}/M-001/sessions/tx01"
    key = {"Idempotency-Key": "session-1"}
    body = session_of(treated)
    first, again = (clinician.put(path, body, headers=key) for _ in range(2))
    assert first.json() == {"session": "tx01", "version": 1}
    assert again.content == first.content
    found = clinician.done("GET", f"{ROOT}/M-001")
    assert (found["arm"], found["held"], found["planned"]) == (treated.arms["M-001"], 1, 1)
    assert found["sessions"][0]["delivered"] == body["delivered"]
    assert [module["code"] for module in found["modules"]] == list(body["delivered"])
    assert clinician.refused(409, "PUT", path, session_of(treated, minutes=20))["current_version"] == 1
    without = clinician.refused(422, "PUT", path, session_of(treated, minutes=20, version=1))
    assert without["errors"][0]["field"] == "why"
    corrected = session_of(treated, minutes=20, version=1, why="It was 20")
    assert clinician.done("PUT", path, corrected)["version"] == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"delivered": {}}, "delivered"),
        ({"delivered": {"nonsense": True}}, "nonsense"),
        ({"delivered": "nothing"}, "delivered"),
        ({"held_on": "yesterday"}, "held_on"),
        ({"version": -1}, "version"),
        ({"arm": "sham"}, "arm"),
        ({"reason": None}, "reason"),
    ],
)
def test_what_cannot_be_kept_says_which_field(
    treated: Treated, clinician: ApiClient, changes: dict[str, Any], field: str
):
    found = clinician.refused(422, "PUT", f"{ROOT}/M-001/sessions/tx01", {**session_of(treated), **changes})
    assert any(each["field"].split(".")[0] == field for each in found["errors"]), found
    assert treated.saved() == []


@pytest.mark.requirement("DSJ-1", "CONC-11")
def test_what_was_delivered_is_the_domain_ex_for_the_statistician_alone(treated: Treated, clinician: ApiClient):
    clinician.done("PUT", f"{ROOT}/M-001/sessions/tx01", session_of(treated))
    module = MODULE[treated.arms["M-001"]]
    statistician = api_client(treated.world.database, treated.world.person(Role.STATISTICIAN))
    before = treated.world.log()
    reply = statistician.get("/treatment/exposure.json")
    found = reply.json()
    folder = conformance_folder() / "dataset-json-1.1"
    jsonschema.Draft201909Validator(json.loads((folder / "dataset.schema.json").read_text())).validate(found)
    names = [column["name"] for column in found["columns"]]
    assert (found["records"], found["name"], "metaDataRef" in found) == (1, "EX", False)
    row = dict(zip(names, found["rows"][0], strict=True))
    day = treated.world.today().isoformat()
    said = {
        "STUDYID": "MINI", "DOMAIN": "EX", "USUBJID": "MINI-M-001", "EXSEQ": 1, "EXSTDTC": day, "EXENDTC": day,
        "EXSTDY": 1, "EXENDY": 1, "VISITNUM": 2,
    }  # fmt: skip
    assert {name: row[name] for name in said} == said
    assert module in row["EXTRT"].casefold()
    assert "30" in row["EXDOSTXT"]
    lines = statistician.get("/treatment/exposure.ndjson").text.splitlines()
    assert [json.loads(line) for line in lines[1:]] == found["rows"]
    assert statistician.get("/treatment/exposure.csv").status_code == 404
    logged = treated.world.log()[len(before) :]
    assert logged.count("envelope.opened") == 2 * len(treated.arms)
    with treated.world.database.reading() as session:
        query = select(ENTRY.c.action, ENTRY.c.new).where(ENTRY.c.action.startswith("export."))
        exports = session.execute(query).all()
    assert [each.action for each in exports] == ["export.run", "export.run"]
    assert not any("sha256" in each.new for each in exports)
    for role in Role:
        if role is not Role.STATISTICIAN:
            other = api_client(treated.world.database, treated.world.person(role))
            assert other.get("/treatment/exposure.json").status_code == 404, role


@pytest.mark.requirement("E6-1", "P11-d", "SEC-19")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.CLINICIAN])
@pytest.mark.parametrize("kind", ["sqlite"])
def test_other_tokens_get_what_an_unknown_path_gives(treated: Treated, role: Role):
    client = api_client(treated.world.database, treated.world.person(role))
    before = len(treated.world.log())
    asked: list[tuple[str, str, Any]] = [
        ("GET", ROOT, None),
        ("GET", f"{ROOT}?limit=0", None),
        ("GET", f"{ROOT}/M-001", None),
        ("GET", f"{ROOT}/nobody", None),
        ("PUT", f"{ROOT}/M-001/sessions/tx01", session_of(treated)),
        ("PUT", f"{ROOT}/M-001/sessions/tx01", {"nonsense": 1}),
    ]
    for method, path, body in asked:
        more = {"json": body} if body is not None else {}
        nonsense = client.request(method, "/nonsense", **more)
        reply = client.request(method, path, **more)
        assert (reply.status_code, reply.content) == (404, nonsense.content), (method, path)
        assert headers_of(reply) == headers_of(nonsense), (method, path)
    assert len(treated.world.log()) == before
    assert treated.saved() == []


def test_reading_is_written_down(treated: Treated, clinician: ApiClient):
    def opened() -> int:
        with treated.world.database.reading() as session:
            return len(session.execute(select(ENTRY.c.position).where(ENTRY.c.action == "envelope.opened")).all())

    before = opened()
    clinician.done("GET", ROOT)
    assert opened() == before + 2
    clinician.done("GET", f"{ROOT}/M-001")
    assert opened() == before + 3
