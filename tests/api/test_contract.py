"""What every program may rely on: problems, pages, repeated requests, tokens, headers, and no server error ever."""

import logging
import logging.config
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
import time_machine
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from app import dependencies
from app.audit.actions import ENTRY
from app.foundation import clock, idempotency, paging
from app.foundation.database import Database, table_of
from app.installation import OnlyTheKind, log_config
from app.participants.identity import PARTICIPANT
from app.people.access import Actor
from app.people.models import ApiToken, Person
from app.people.permissions import Permission, Role
from app.studies.in_use import StudyInUse
from tests.api.client import PASSWORD, ApiClient, api_client, application_on, new_token_for, problem_of
from tests.factories import mini_study, person

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ELIGIBLE = {"age": 44, "pain_screen": 6, "surgery": False}
SCREENING = {"site": "north", "answers": ELIGIBLE}
CONSENT = {"version": "1", "signed_on": "2026-03-02", "signature": "Anna Muster", "password": PASSWORD}
PAIN = {"pain_nrs": 5, "pain_days": 4}
ENTRY_PATH = "/visits/baseline/entries/pain"
TOKEN = table_of(ApiToken)

pytestmark = pytest.mark.both_databases


@dataclass
class World:
    """The small trial, its people, and their programs on one application."""

    database: Database
    study: StudyInUse
    people: dict[str, Actor]
    http: TestClient

    def client(self, role: str = "coordinator", scopes: list[str] | None = None) -> ApiClient:
        return api_client(self.database, self.people[role], scopes, http=self.http)

    def count(self, **where: Any) -> int:
        """How many entries of the log there are with these values."""
        with self.database.reading() as session:
            query = select(func.count()).select_from(ENTRY)
            for name, value in where.items():
                query = query.where(ENTRY.c[name] == value)
            return int(session.execute(query).scalar_one())

    def participants(self) -> int:
        with self.database.reading() as session:
            return int(session.execute(select(func.count()).select_from(PARTICIPANT)).scalar_one())


@contextmanager
def world_on(database: Database, **settings: Any) -> Iterator[World]:
    """The small trial on this database, on the second of March 2026."""
    with time_machine.travel(NOW):
        with database.writing() as session:
            study = mini_study(session)
            people = {
                str(role): person(session, study, role)
                for role in (Role.COORDINATOR, Role.ASSESSOR, Role.CLINICIAN, Role.DATA_MANAGER, Role.MONITOR)
            }
            people["administrator"] = person(session, study, Role.ADMINISTRATOR, site_code=None)
            people["south"] = person(session, study, Role.COORDINATOR, site_code="south")
        http = TestClient(application_on(database, **settings), base_url="http://trial.test")
        yield World(database, study, people, http)


@pytest.fixture
def world(shared_database: Database) -> Iterator[World]:
    with world_on(shared_database) as made:
        yield made


@pytest.fixture
def committed_world(database: Database) -> Iterator[World]:
    with world_on(database) as made:
        yield made


def screened(client: ApiClient, **changes: Any) -> str:
    return str(client.done("POST", "/participants", {**SCREENING, **changes})["code"])


def consented(client: ApiClient) -> str:
    code = screened(client)
    client.done("POST", f"/participants/{code}/consents", CONSENT)
    return code


# Problems


def test_a_problem_says_what_happened_in_the_shape_of_rfc_9457(world):
    coordinator, monitor = world.client(), world.client("monitor")
    code = screened(coordinator)
    where = f"/participants/{code}"

    unknown = world.http.get("/api/v1/studies/mini/participants")
    assert problem_of(unknown)["status"] == 401
    assert unknown.headers["www-authenticate"] == "Bearer"
    assert monitor.refused(403, "POST", "/participants", SCREENING)["title"] == "Not allowed"
    assert coordinator.refused(404, "GET", "/participants/M-999")["title"] == "Not found"
    assert coordinator.refused(404, "GET", "/nothing-of-the-kind")["title"] == "Not found"
    assert coordinator.refused(405, "DELETE", where)["title"] == "Method not allowed"
    refused = coordinator.refused(409, "PUT", f"{where}/visits/week18/entries/pain", {"values": PAIN})
    assert refused["title"] == "Refused"
    assert refused["detail"]
    invalid = coordinator.refused(422, "POST", "/participants", {"site": "north", "answers": {"age": "old"}})
    assert invalid["title"] == "Not valid"
    assert {each["field"] for each in invalid["errors"]} == {"age"}


@pytest.mark.parametrize(
    ("path", "field", "said"),
    [
        ("entries.csv?instrument=nope", "instrument", "There is no instrument nope in this study"),
        ("entries.csv?visit=nope", "visit", "There is no visit nope in this study"),
        ("all.zip?site=nope", "site", "There is no site nope in this study"),
        ("all.zip?table=nope", "table", "There is no table nope to be taken so"),
        ("all.odm?values=labels", "values", "This format holds the whole study"),
        ("entries.csv?since=abc", "since", "since is a whole number, such as 3. Send one."),
        ("entries.csv?since=-1", "since", "since is at least 0. Send no less."),
        ("entries.csv?since=99999", "since", "There is no such change yet"),
        ("entries.csv?values=x", "values", "values is one of these: codes or labels. Send one of them."),
    ],
)
def test_what_is_wrong_with_an_address_names_the_parameter_as_it_was_sent(world, path, field, said):
    problem = world.client("data_manager").refused(422, "GET", f"/exports/{path}")
    assert [each["field"] for each in problem["errors"]] == [field]
    assert said in problem["errors"][0]["message"]
    assert said in problem["detail"]


def test_what_is_wrong_with_a_body_is_said_in_our_words(world):
    sent = {"site": "north", "answers": [], "consented_on": "soon", "block_sizes": 4}
    problem = world.client().refused(422, "POST", "/participants", sent)
    found = {each["field"]: each["message"] for each in problem["errors"]}
    assert found["answers"] == "answers is an object. Send one."
    assert found["block_sizes"] == "There is no block_sizes here. Leave it out, or look up what this address takes."
    for field, message in found.items():
        assert field in message
        assert message in problem["detail"]
    missing = world.client().refused(422, "POST", "/participants", {"answers": {}})
    assert missing["detail"] == "site is missing. Send it."


def test_what_is_too_large_is_refused_before_it_is_read(shared_database):
    with world_on(shared_database, largest_body=2000) as world:
        body = {**SCREENING, "failure_reason": "x" * 3000}
        announced = problem_of(world.client().post("/participants", body))
        assert announced["status"] == 413
        pieces = iter([b"x" * 1500] * 3)  # nobody says beforehand how much it will be
        in_pieces = world.client().request("POST", "/participants", content=pieces)
        assert in_pieces.status_code == 413
        assert in_pieces.headers["x-content-type-options"] == "nosniff"
        assert world.participants() == 0


def test_files_are_taken_as_large_as_the_settings_say(shared_database):
    with world_on(shared_database, largest_body=2000, largest_upload=5000) as world:
        coordinator = world.client()
        scan = f"/participants/{screened(coordinator)}/consent-scans"
        assert coordinator.request("POST", scan, content=b"%PDF-1.7" + bytes(4000)).status_code == 200
        for content in (b"%PDF-1.7" + bytes(5000), iter([b"%PDF-1.7", bytes(3000), bytes(3000)])):
            problem = coordinator.refused(413, "POST", scan, content=content)
            assert "at most 5000 bytes are taken here" in problem["detail"]
        for content in (bytes(4000), iter([bytes(1500)] * 2)):
            problem = coordinator.refused(413, "POST", "/participants", content=content)
            assert "at most 2000 bytes are taken here" in problem["detail"]


def test_a_file_is_never_taken_less_large_than_anything_else(shared_database):
    with world_on(shared_database, largest_body=5000, largest_upload=2000) as world:
        coordinator = world.client()
        scan = f"/participants/{screened(coordinator)}/consent-scans"
        for content in (b"%PDF-1.7" + bytes(4000), iter([b"%PDF-1.7", bytes(3000)])):
            assert coordinator.request("POST", scan, content=content).status_code == 200
        problem = coordinator.refused(413, "POST", scan, content=iter([b"%PDF-1.7", bytes(3000), bytes(3000)]))
        assert "at most 5000 bytes are taken here" in problem["detail"]


@pytest.mark.requirement("SEC-47", "SEC-16")
def test_a_failure_of_ours_has_every_header_and_says_nothing_of_what_was_sent(world, monkeypatch, caplog):
    client = world.client()
    forgiving = TestClient(client.http.app, base_url="http://trial.test", raise_server_exceptions=False)
    monkeypatch.setattr("app.participants.actions.record", lambda *_, **__: int("aubergine"))
    headers = {"Authorization": f"Bearer {client.token}"}
    reply = forgiving.post(f"{client.root}/participants", json=SCREENING, headers=headers)
    assert problem_of(reply)["status"] == 500
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["cache-control"] == "no-store"
    assert "aubergine" not in reply.text + caplog.text
    # The administrator who is told the number finds the place by it.
    number = reply.json()["detail"].rpartition(" ")[2].rstrip(".")
    (line,) = [one.getMessage() for one in caplog.records if number in one.getMessage()]
    assert line.startswith(f"request {number} failed: ValueError at tests/api/test_contract.py:")
    assert " in <lambda> < app/participants/actions.py:" in line
    try:
        int("aubergine")
    except ValueError:
        raised = logging.LogRecord(
            "uvicorn.error", logging.ERROR, "", 0, "Exception in application", (), sys.exc_info()
        )
    assert OnlyTheKind().filter(raised)
    assert "aubergine" not in logging.Formatter().format(raised)
    assert log_config()["handlers"]["default"]["filters"] == ["only_the_kind"]
    logging.config.dictConfig(log_config())


def test_a_file_that_breaks_off_on_its_way_is_in_the_log_with_its_place(world, monkeypatch, caplog):
    manager = world.client("data_manager")

    def broken(*_: Any, **__: Any) -> Iterator[bytes]:
        yield b"a,b"
        raise KeyError("aubergine")

    monkeypatch.setattr("app.exports.delivery.pieces", broken)
    with pytest.raises(KeyError):
        manager.request("GET", "/exports/participants.csv")
    (line,) = [one.getMessage() for one in caplog.records if "failed: KeyError" in one.getMessage()]
    assert "failed: KeyError at tests/api/test_contract.py:" in line
    assert " in broken < app/exports/delivery.py:" in line
    assert "aubergine" not in caplog.text


@pytest.mark.requirement("SEC-46")
def test_a_refusal_is_written_down_and_a_mistake_in_typing_is_not(world):
    coordinator, monitor = world.client(), world.client("monitor")
    code = screened(coordinator)
    before = world.count()
    coordinator.refused(422, "POST", "/participants", {"site": "nowhere", "answers": {}})
    coordinator.refused(404, "GET", "/participants/M-999")
    assert world.count() == before
    monitor.refused(403, "POST", "/participants", SCREENING)
    coordinator.refused(409, "PUT", f"/participants/{code}{ENTRY_PATH}", {"values": PAIN})
    assert world.count(action="participant.screen_refused", username=world.people["monitor"].username) == 1
    assert world.count(action="entry.save_refused", participant=code, subject="entry/baseline/pain", via="api") == 1
    assert world.count() == before + 2


def test_a_participant_of_another_site_is_answered_like_one_that_never_was(world):
    code = screened(world.client())
    elsewhere, never = (
        world.client("south").refused(404, "GET", path) for path in (f"/participants/{code}", "/participants/M-777")
    )
    assert elsewhere == never
    assert world.client("south").done("GET", "/participants")["items"] == []


# Pages


def _walk(client: ApiClient, path: str, limit: int, between: Any = None) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        page = client.done("GET", path, params={"limit": limit, **({"cursor": cursor} if cursor else {})})
        assert len(page["items"]) <= limit
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found
        if between is not None:
            between()


def test_pages_walk_the_whole_list_without_loss_or_repeats_while_rows_are_added(world):
    coordinator, manager = world.client(), world.client("data_manager")
    codes = [screened(coordinator) for _ in range(7)]
    added: list[str] = []
    found = [row["code"] for row in _walk(coordinator, "/participants", 2, lambda: added.append(screened(coordinator)))]
    assert len(found) == len(set(found))
    assert found[:7] == codes
    assert found == sorted(found)
    assert set(found) <= {*codes, *added}

    logged = world.count(log="mini")
    positions = [row["position"] for row in _walk(manager, "/audit", 5, lambda: added.append(screened(coordinator)))]
    assert positions == list(range(logged - 1, -1, -1))  # newest first; what is added meanwhile stands before the start


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "!!!",
        "W10",
        "\x00",
        "€",
        paging.encode("code", "M-001"),
        paging.encode("status", "screened", "M-001"),
        paging.encode("code", 5, 5),
        paging.encode("code", None, None),
        paging.encode("code", "M\x00", "M\x00"),
        paging.encode(10**40),
        paging.encode("M-001"),
        paging.encode(None),
        paging.encode(-1),
        "WyAgIFsx" * 50,
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_cursor_that_was_tampered_with_is_refused(world, cursor):
    for path in ("/participants", "/audit"):
        problem = world.client("data_manager").refused(422, "GET", path, params={"cursor": cursor})
        assert [each["field"] for each in problem["errors"]] == ["cursor"]


@pytest.mark.parametrize("limit", ["0", "501", "-1", "many", "", "1e2", "9" * 5000])
def test_a_page_has_between_1_and_500_rows(world, limit):
    for path in ("/participants", "/audit"):
        assert world.client("data_manager").refused(422, "GET", path, params={"limit": limit})["errors"]


# The same request again


def test_the_same_request_under_the_same_key_is_answered_the_same_and_done_once(world):
    coordinator = world.client()
    key = {"Idempotency-Key": "screen-1"}
    first = coordinator.post("/participants", SCREENING, headers=key)
    again = coordinator.post("/participants", SCREENING, headers=key)
    assert (first.status_code, first.json(), first.headers["location"]) == (
        again.status_code,
        again.json(),
        again.headers["location"],
    )
    assert "idempotent-replay" not in first.headers
    assert again.headers["idempotent-replay"] == "true"
    assert world.participants() == 1
    assert coordinator.done("GET", first.headers["location"].removeprefix(coordinator.root))["code"] == "M-001"


def test_the_same_key_with_another_request_is_a_conflict(world):
    coordinator = world.client()
    key = {"Idempotency-Key": "screen-1"}
    coordinator.done("POST", "/participants", SCREENING, headers=key)
    other = {**SCREENING, "answers": {**ELIGIBLE, "age": 45}}
    assert "another request" in coordinator.refused(409, "POST", "/participants", other, headers=key)["detail"]
    path = "/participants/M-001/consents"
    assert "another request" in coordinator.refused(409, "POST", path, CONSENT, headers=key)["detail"]
    assert world.participants() == 1


def test_what_is_asked_beside_the_body_is_part_of_the_request(world):
    """Tried and kept are two requests: the second was once answered as the first, and nothing was imported."""
    manager, coordinator = world.client("data_manager"), world.client()
    code = consented(coordinator)
    rows = f"participant,visit,pain_nrs,pain_days\n{code},baseline,4,3\n"
    headers = {"Idempotency-Key": "rows-1", "Content-Type": "text/csv"}

    def sent(**params: Any) -> Any:
        return manager.request("POST", "/entries/import.csv", content=rows, headers=headers, params=params)

    tried = [sent(dry_run=True) for _ in range(2)]
    assert [(reply.status_code, reply.json()["imported"]) for reply in tried] == [(200, False)] * 2, "tried again"
    kept = sent(dry_run=False)
    assert (kept.status_code, kept.json().get("imported")) == (200, True), kept.text
    assert "another request" in problem_of(sent(dry_run=False, file="other.csv"))["detail"]
    assert sent(dry_run=False).headers["idempotent-replay"] == "true"
    for data, field in (
        (b'{"rows": [{}, 3]}', "rows.1"),
        (b'{"rows": [{}', "12"),
        (b'{"rows": [], "colour": 1}', "colour"),
        (b'{"rows": [{"participant": "M-001", "participant": "M-002"}]}', "35"),
        (b'{"dry_run": true, "rows": [], "dry_run": false}', "30"),
    ):
        problem = manager.refused(422, "POST", "/entries/import", None, content=data)
        assert [each["field"] for each in problem["errors"]] == [field]
    none = manager.refused(422, "POST", "/entries/import", None, content=b"{}")
    assert [each["field"] for each in none["errors"]] == ["rows"]


def test_a_token_is_told_which_study_it_is_for(world):
    """Programs that know no code begin here, as those of CDISC's Dataset-JSON API do."""
    client = world.client("data_manager")
    asked = {"headers": {"Authorization": f"Bearer {client.token}"}}
    reply = client.http.get("/api/v1/studies", **asked)
    (study,) = reply.json()["items"]
    assert reply.json()["next"] is None
    assert reply.links["first"]["url"] == "/api/v1/studies"
    assert (study["code"], study["href"], study["studyOID"]) == ("mini", client.root, "ST.mini")
    assert client.http.get(study["href"], **asked).json()["title"] == study["title"] == study["label"]
    assert client.http.get("/api/v1/studies?fields=code", **asked).json()["items"] == [{"code": "mini"}]
    (wide,) = client.http.get("/api/v1/studies?expand=datasets", **asked).json()["items"]
    assert "IG.DM" in [each["itemGroupOID"] for each in wide["datasets"]["items"]]
    behind = client.http.get("/api/v1/studies", params={"cursor": paging.encode("mini")}, **asked)
    assert behind.json() == {"items": [], "next": None}
    broken = client.http.get("/api/v1/studies", params={"cursor": paging.encode(1), "limit": 1}, **asked)
    assert [each["field"] for each in broken.json()["errors"]] == ["cursor"]
    again = {"headers": {**asked["headers"], "If-None-Match": reply.headers["ETag"]}}
    assert client.http.get("/api/v1/studies", **again).status_code == 304
    assert client.http.get("/api/v1/studies?code=mini", **asked).status_code == 422
    for token in ("", "eqp_nobody"):
        assert client.http.get("/api/v1/studies", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_a_file_that_says_of_nobody_is_refused_as_a_whole(world):
    """Each of its rows would be refused for it: a million of them took minutes, and the answer was as long."""
    manager = world.client("data_manager")
    sent = {"content": "subject_no,visit,pain_nrs\nM-001,baseline,4\n", "headers": {"Content-Type": "text/csv"}}
    problem = manager.refused(422, "POST", "/entries/import.csv?dry_run=true", None, **sent)
    (error,) = problem["errors"]
    assert (error["field"], error["rule"]) == ("participant", "column")
    assert "“participant”" in error["message"]
    assert "“subject_no”, “visit”" in error["message"]
    asked = {"csv": sent["content"], "mapping": {"participant": "subject_no"}, "dry_run": True}
    assert manager.done("POST", "/entries/import", asked)["counts"]["rows"] == 1


@pytest.mark.parametrize(
    ("media_type", "body", "field", "words"),
    [
        ("application/json", b'{"asked": ', "body", "no JSON (Expecting value). Mend it at character 10"),
        ("application/json", b"[]", "body", "Send the body as a JSON object"),
        ("text/plain", b'{"definition": "x"}', "body", "Content-Type: application/json"),
        ("application/json", b'{"asked": {"tables": ["nope"]}}', "tables", "There is no table nope"),
    ],
)
def test_a_body_that_is_none_is_told_how_to_send_one(world, media_type, body, field, words):
    manager = world.client("data_manager")
    problem = manager.refused(422, "POST", "/export-runs", None, content=body, headers={"Content-Type": media_type})
    (error,) = problem["errors"]
    assert (error["field"], words in error["message"]) == (field, True), error


def test_a_body_that_is_nested_too_deep_says_so(world):
    manager = world.client("data_manager")
    sent = {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}
    assert "not nested so deep" in manager.refused(400, "POST", "/export-runs", None, **sent)["detail"]


def test_what_strangers_send_is_not_even_read(world, monkeypatch):
    """To go through fifty megabytes takes a processor for a second, and anybody could ask for it."""
    read = mock.Mock(return_value={})
    monkeypatch.setattr(dependencies, "members", read)
    manager = world.client("data_manager")
    for token, times in (("", 0), ("eqp_nobody", 0), (manager.token, 1)):
        headers = {"Authorization": f"Bearer {token}"}
        manager.http.post(f"{manager.root}/entries/import", content=b'{"password": 1}', headers=headers)
        assert read.call_count == times


def test_a_key_belongs_to_one_person(world):
    key = {"Idempotency-Key": "screen-1"}
    world.client().done("POST", "/participants", SCREENING, headers=key)
    world.client("south").done("POST", "/participants", {**SCREENING, "site": "south"}, headers=key)
    assert world.participants() == 2


def test_a_refused_request_gives_its_key_back(world):
    coordinator = world.client()
    key = {"Idempotency-Key": "consent-1"}
    code = screened(coordinator)
    path = f"/participants/{code}/consents"
    coordinator.refused(422, "POST", path, {**CONSENT, "version": "9"}, headers=key)
    coordinator.refused(422, "POST", path, {**CONSENT, "password": "wrong"}, headers=key)
    coordinator.done("POST", path, CONSENT, headers=key)
    assert coordinator.post(path, CONSENT, headers=key).headers["idempotent-replay"] == "true"
    assert len(coordinator.rows(path)) == 1


@pytest.mark.parametrize("key", ["x" * 201, "tab\there", "naïve".encode().decode("latin-1") + "\x01"])
def test_a_key_that_cannot_be_kept_is_refused(world, key):
    reply = world.client().post(
        "/participants", SCREENING, headers={"Idempotency-Key": key.encode("latin-1", "replace")}
    )
    assert problem_of(reply)["errors"][0]["field"] == "Idempotency-Key"
    assert world.participants() == 0


def test_a_password_cannot_be_guessed_from_what_is_kept_of_a_request(world):
    """What the database keeps of a repeated request is made with the key that stands outside it."""
    import hashlib
    import json

    coordinator = world.client()
    code = screened(coordinator)
    body = json.dumps(CONSENT).encode()
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    path = f"/participants/{code}/consents"
    assert coordinator.request("POST", path, content=body, headers=headers).status_code == 201
    with world.database.reading() as session:
        kept = session.execute(select(table_of(idempotency.IdempotentRequest).c.digest)).scalar_one()
    assert bytes(kept) != hashlib.sha256(f"POST {coordinator.root}{path}\n".encode() + body).digest()


def test_a_reply_that_got_lost_and_is_asked_for_again_is_one_change(world):
    """Without a key as well, where sending the same again can only mean the same."""
    coordinator = world.client()
    code = consented(coordinator)
    where = f"/participants/{code}{ENTRY_PATH}"
    first = coordinator.done("PUT", where, {"values": PAIN, "base_version": 0})
    logged = world.count()
    again = coordinator.done("PUT", where, {"values": PAIN, "base_version": 0})
    assert (again["version"], again["changed"], again["values"]) == (1, [], first["values"])
    assert world.count() == logged


def test_eight_requests_at_once_under_one_key_are_one_change(committed_world):
    world = committed_world
    coordinator = world.client()
    ready = threading.Barrier(8)
    clients = [
        ApiClient(
            TestClient(world.http.app, base_url="http://trial.test"), coordinator.actor, "mini", coordinator.token
        )
        for _ in range(8)
    ]

    def sent(path: str, body: Any) -> list[Any]:
        def send(client: ApiClient) -> Any:
            ready.wait()
            return client.post(path, body, headers={"Idempotency-Key": path})

        with ThreadPoolExecutor(8) as threads:
            replies = list(threads.map(send, clients))
        assert [reply.status_code for reply in replies] == [201] * 8
        assert sorted("idempotent-replay" in reply.headers for reply in replies) == [False, *[True] * 7]
        return [reply.json() for reply in replies]

    replies = sent("/participants", SCREENING)
    assert all(reply == replies[0] for reply in replies)
    assert world.participants() == 1
    hooks = sent("/webhooks", {"url": "https://example.org/", "events": ["entry.changed"]})
    assert len({reply["number"] for reply in hooks}) == 1
    secrets = [reply["secret"] for reply in hooks if reply["secret"] is not None]
    assert len(secrets) == 1, "what is answered once is answered once, however many ask at once"


def test_a_stale_version_is_refused_and_the_present_one_named(world):
    coordinator, assessor = world.client(), world.client("assessor")
    code = consented(coordinator)
    where = f"/participants/{code}{ENTRY_PATH}"
    coordinator.done("PUT", where, {"values": PAIN, "base_version": 0})
    mine = {"values": {**PAIN, "pain_nrs": 7}, "base_version": 0}
    problem = assessor.refused(409, "PUT", where, mine)
    assert (problem["title"], problem["current_version"]) == ("Somebody saved first", 1)
    assert coordinator.done("GET", where)["values"] == PAIN
    corrected = {**mine, "base_version": problem["current_version"], "why": "Read from the paper again."}
    assert assessor.done("PUT", where, corrected)["version"] == 2
    visit = f"/participants/{code}/visits/baseline"
    coordinator.done("PUT", visit, {"status": "held", "held_on": "2026-03-02", "version": 1})
    stale = coordinator.refused(409, "PUT", visit, {"status": "held", "held_on": "2026-03-02", "version": 1})
    assert stale["current_version"] == 2


# What is sent


def _bodies(code: str) -> list[tuple[str, str, dict[str, Any]]]:
    here = f"/participants/{code}"
    return [
        ("POST", "/participants", SCREENING),
        ("POST", f"{here}/consents", CONSENT),
        ("PUT", f"{here}/visits/baseline", {"status": "held", "held_on": "2026-03-02", "version": 1}),
        ("PUT", f"{here}{ENTRY_PATH}", {"values": PAIN, "base_version": 0}),
        ("POST", f"{here}{ENTRY_PATH}/signature", {"version": 1, "password": PASSWORD}),
        ("POST", f"{here}/withdrawal", {"level": "visits", "on": "2026-03-02", "reason": "Moved away."}),
        ("POST", f"{here}/screen-failure", {"reason": "declined", "why": "A new job."}),
    ]


def test_keys_that_nobody_knows_are_refused(world):
    code = screened(world.client())
    for method, path, body in _bodies(code):
        role = "assessor" if path.endswith("signature") else "coordinator"
        problem = world.client(role).refused(422, method, path, {**body, "unknown_key": 1})
        assert [each["field"] for each in problem["errors"]] == ["unknown_key"], path


HOSTILE = [
    "\x00",
    "\ud800",
    "'; DROP TABLE participant; --",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "\u202egnp.exe",
    "𝕬" * 1000,
    "\x1b[2J",
    "%00%ff../../etc/passwd",
    "{{7*7}}",
    "x" * 5000,
]


def _replaced(body: dict[str, Any], value: Any) -> Iterator[dict[str, Any]]:
    """The body with one of its parts replaced, each in turn; and with one more part of that name."""
    for name, part in body.items():
        yield {**body, name: value}
        if isinstance(part, dict):
            yield {**body, name: {**part, **dict.fromkeys(part, value)}}
            if isinstance(value, str):
                yield {**body, name: {**part, value: 1}}
    if isinstance(value, str):
        yield {**body, value: value}


def _send(client: ApiClient, method: str, path: str, body: Any) -> int:
    import json

    reply = client.request(method, path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert reply.status_code < 500, (method, path, body, reply.text)
    if reply.status_code >= 400:
        problem_of(reply)
    return int(reply.status_code)


@pytest.mark.requirement("SEC-1", "SEC-5")
def test_hostile_text_is_kept_as_text_or_refused_and_breaks_nothing(world):
    coordinator, assessor = world.client(), world.client("assessor")
    code = screened(coordinator)
    for text in HOSTILE:
        for method, path, body in _bodies(code)[:5]:
            client = assessor if path.endswith("signature") else coordinator
            for changed in _replaced(body, text):
                if changed.get("password") == PASSWORD or "password" not in changed:
                    _send(client, method, path, changed)
    assert coordinator.done("GET", "/participants", params={"limit": 500})["items"]


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**40), 2**63, 2**31, 1e308, float("nan"), float("inf"), 1e-320, True, None, [], {}, [[1]], -0.0],
    ids=str,
)
def test_strange_numbers_and_kinds_are_refused_or_kept_exactly(world, value):
    coordinator, assessor = world.client(), world.client("assessor")
    code = screened(coordinator)
    for method, path, body in _bodies(code)[:5]:
        client = assessor if path.endswith("signature") else coordinator
        for changed in _replaced({name: part for name, part in body.items() if name != "password"}, value):
            _send(client, method, path, {**changed, **({"password": PASSWORD} if "password" in body else {})})


@pytest.mark.parametrize("depth", [50, 900, 100_000])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
@pytest.mark.parametrize("kind", ["sqlite"])
def test_json_as_deep_as_a_well_is_refused(world, depth, pair):
    left, right = pair
    deep = left * depth + "1" + right * depth
    coordinator = world.client()
    code = consented(coordinator)
    for method, path, body in [
        ("POST", "/participants", '{"site":"north","answers":{"age":' + deep + "}}"),
        ("PUT", f"/participants/{code}{ENTRY_PATH}", '{"values":{"pain_nrs":' + deep + "}}"),
        ("POST", "/participants", deep),
    ]:
        reply = coordinator.request(method, path, content=body, headers={"Content-Type": "application/json"})
        assert reply.status_code in (400, 422), reply.text
        problem_of(reply)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_a_body_that_is_not_said_to_be_json_is_refused(world, media_type):
    coordinator = world.client()
    reply = coordinator.request(
        "POST", "/participants", content='{"site":"north","answers":{}}', headers={"Content-Type": media_type}
    )
    problem_of(reply)
    assert reply.status_code in (415, 422)
    assert world.participants() == 0


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"null", b"[]", b'"text"', b'{"site": "\xff"}', b"\x00"])
def test_a_body_that_is_no_json_object_is_refused(world, body):
    reply = world.client().request("POST", "/participants", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422)
    problem_of(reply)


@pytest.mark.parametrize(
    "path",
    [
        "/participants/%00",
        "/participants/M-001%00",
        "/participants/%ED%A0%80",
        "/participants/%FF",
        "/participants/" + "M" * 5000,
        "/participants/..%2f..%2fetc",
        "/participants/M-001/visits/%00/entries/%00",
        "/participants/M-001/visits/baseline/entries/pain/history?item=%00",
        "/participants/M-001/visits/%00/entries/%00/history",
        "/participants?find=%00",
        "/participants?site=%00",
        "/participants?status=%00",
        "/participants?find=%ED%A0%80",
        "/audit?participant=%00",
        "/audit?username=%00&action=%00",
        "/audit?action=%25_",
        "/exports/%00.csv",
    ],
)
def test_a_hostile_address_is_answered_and_breaks_nothing(world, path):
    screened(world.client())
    for role in ("coordinator", "data_manager"):
        reply = world.client(role).get(path)
        assert reply.status_code in (200, 403, 404, 422), reply.text


@pytest.mark.parametrize("number", ["0", "-1", str(2**31), str(2**63), str(10**400), "one", "%00"])
def test_a_consent_that_cannot_be_is_not_found_or_refused(world, number):
    coordinator = world.client()
    code = screened(coordinator)
    path = f"/participants/{code}/consents/{number}/countersignature"
    reply = coordinator.post(path, {"password": PASSWORD})
    assert reply.status_code in (404, 422), reply.text
    problem_of(reply)


# Tokens


def _with(world: World, token: str, study: str = "mini") -> int:
    client = ApiClient(world.http, world.people["coordinator"], study, token)
    reply = client.get("/participants")
    if reply.status_code == 401:
        assert reply.headers["www-authenticate"] == "Bearer"
        problem_of(reply)
    return int(reply.status_code)


def test_a_token_works_until_it_ends_is_revoked_or_its_owner_leaves(world):
    coordinator = world.people["coordinator"]
    token = new_token_for(world.database, coordinator, lifetime=timedelta(minutes=59))
    assert _with(world, token) == 200
    with time_machine.travel(NOW + timedelta(hours=1)):
        assert _with(world, token) == 401

    revoked = new_token_for(world.database, coordinator)
    assert _with(world, revoked) == 200
    with world.database.writing() as session:
        session.execute(update(TOKEN).where(TOKEN.c.revoked_at.is_(None)).values(revoked_at=clock.now()))
    assert _with(world, revoked) == 401

    left = new_token_for(world.database, coordinator)
    with world.database.writing() as session:
        who = table_of(Person)
        session.execute(update(who).where(who.c.id == coordinator.person_id).values(is_active=False))
    assert _with(world, left) == 401


# A token that says itself who it is for, and that nobody signed: {"alg": "none"} and {"sub": "coordinator_north"}.
FORGED = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjb29yZGluYXRvcl9ub3J0aCJ9."


@pytest.mark.requirement("SEC-36")
@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer eqp_",
        "Bearer \x00",
        "Basic YTpi",
        "Bearer " + "x" * 5000,
        "eqp_abc",
        f"Bearer {FORGED}",
    ],
)
def test_what_is_not_a_token_opens_nothing(world, header):
    reply = world.http.get("/api/v1/studies/mini/participants", headers={"Authorization": header})
    assert reply.status_code == 401
    problem_of(reply)


def test_a_token_opens_one_study_only_and_says_nothing_of_others(world):
    with world.database.writing() as session:
        other = mini_study(session, code="other")
        there = person(session, other, Role.COORDINATOR, username=world.people["coordinator"].username)
    here = new_token_for(world.database, world.people["coordinator"])
    elsewhere = new_token_for(world.database, there)
    assert (_with(world, here), _with(world, elsewhere, "other")) == (200, 200)
    replies = [
        world.http.get(f"/api/v1/studies/{study}/participants", headers={"Authorization": f"Bearer {token}"})
        for study, token in (("other", here), ("mini", elsewhere), ("no_such_study", here), ("no_such_study", "eqp_x"))
    ]
    assert {reply.status_code for reply in replies} == {401}
    assert len({reply.text for reply in replies}) == 1


def test_scopes_narrow_what_a_token_may_do_and_never_widen_it(world):
    narrow = world.client("coordinator", ["participant.read"])
    assert narrow.get("/participants").status_code == 200
    problem = narrow.refused(403, "POST", "/participants", SCREENING)
    assert "scope participant.screen" in problem["detail"]
    without = world.client("monitor", ["participant.read"]).refused(403, "POST", "/participants", SCREENING)
    assert "This needs the role coordinator" in without["detail"], "no token of a monitor can have that scope"
    nothing = world.client("coordinator", [])
    for path in ("", "/participants", "/audit", "/exports"):
        nothing.refused(403, "GET", path)
    wide = world.client("monitor", sorted(Permission))
    wide.refused(403, "POST", "/participants", SCREENING)
    assert world.participants() == 0


def test_when_a_token_was_last_used_is_kept(committed_world):
    world = committed_world
    coordinator = world.client()
    with world.database.writing() as session:
        session.execute(update(TOKEN).values(last_used_at=None))
    coordinator.done("GET", "/participants")

    def used() -> Any:
        with world.database.reading() as session:
            return session.execute(select(TOKEN.c.last_used_at)).scalar_one()

    first = used()
    assert first is not None
    assert abs(first - NOW) < timedelta(minutes=1)
    with time_machine.travel(NOW + timedelta(hours=1)):
        screened(coordinator)
    assert used() - first > timedelta(minutes=50)


# HTTP


def test_other_methods_are_refused_as_a_problem(world):
    coordinator = world.client()
    for method in ("TRACE", "PATCH", "DELETE", "PROPFIND"):
        reply = coordinator.request(method, "/participants")
        assert reply.status_code == 405, method
        problem_of(reply)
        assert reply.headers["allow"]
    head = coordinator.request("HEAD", "/participants")
    assert head.status_code in (200, 405)
    assert head.content == b""


HEADERS = {
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
}


def test_every_reply_carries_the_security_headers_and_is_kept_by_nobody(world):
    coordinator = world.client()
    code = screened(coordinator)
    replies = [
        coordinator.get("/participants"),
        coordinator.get(f"/participants/{code}"),
        coordinator.get("/participants/M-999"),
        coordinator.post("/participants", SCREENING),
        coordinator.post("/participants", {}),
        coordinator.request("TRACE", "/participants"),
        coordinator.post("/participants", SCREENING, headers={"Origin": "https://elsewhere.test"}),
        world.client("data_manager").get("/exports/participants.csv"),
        world.http.get("/api/v1/studies/mini"),
        world.http.get("/api/v1/nothing"),
        world.http.get("/api/v1/openapi.json"),
        world.http.get("/api/"),
    ]
    for reply in replies:
        assert set(reply.headers) >= HEADERS, reply.request.url
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "no-store" in reply.headers["cache-control"], reply.request.url
        assert "server" not in reply.headers
    assert not any("set-cookie" in reply.headers for reply in replies)


def test_a_browser_of_another_site_cannot_send_changes(world):
    reply = world.client().post("/participants", SCREENING, headers={"Sec-Fetch-Site": "cross-site"})
    assert reply.status_code == 403
    assert world.participants() == 0


def test_a_cookie_opens_nothing_over_rest(world):
    from tests.web.browser import signed_in_client

    browser = signed_in_client(world.database, world.people["coordinator"])
    assert browser.get("/api/v1/studies/mini/participants").status_code == 401


# No arm


@pytest.mark.requirement("SEC-21")
def test_blinded_programs_are_never_told_an_arm(world):
    code = consented(world.client())
    for role in ("coordinator", "assessor", "data_manager", "monitor"):
        client = world.client(role)
        for path in ("", "/instruments", "/participants", f"/participants/{code}", f"/participants/{code}/visits"):
            reply = client.get(path)
            assert "Zephyrine" not in reply.text, (role, path)
            assert "Placebex" not in reply.text, (role, path)


def test_dates_in_the_address_of_a_day_do_not_matter_to_the_day_of_a_site(world):
    """A visit is held on the calendar of the site: in Sydney it is the second of March already."""
    coordinator = world.client()
    code = consented(coordinator)
    visit = f"/participants/{code}/visits/baseline"
    tomorrow = (date(2026, 3, 2) + timedelta(days=1)).isoformat()
    problem = coordinator.refused(422, "PUT", visit, {"status": "held", "held_on": tomorrow, "version": 1})
    assert [each["field"] for each in problem["errors"]] == ["held_on"]
