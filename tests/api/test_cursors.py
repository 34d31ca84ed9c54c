"""A cursor that was made up or tampered with is refused as one, on every paged list, over REST and on pages."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st

from app.foundation import paging
from app.foundation.database import Database
from app.foundation.errors import Invalid
from app.people.permissions import Role
from tests.api.client import ApiClient, api_client, application_on
from tests.web.browser import Browser, OneHop, signed_in_client
from tests.web.test_treatment import Treated

pytestmark = pytest.mark.both_databases

# Every list in pages: who reads it, and what the parts of its cursors are.
LISTS = {
    "/participants": ("coordinator", ("code", "M-001", "M-001")),
    "/audit": ("data_manager", (3,)),
    "/log-reviews": ("data_manager", (1,)),
    "/allocations": ("statistician", (1,)),
    "/treatment/participants": ("clinician", ("M-001",)),
    "/unblindings": ("data_manager", (1,)),
    "/locks": ("data_manager", (0, 1)),
    "/queries": ("monitor", ("raised", "2026-03-02T09:30:00+00:00", 1)),
    "/verification": ("monitor", ("changed", 1, 1)),
    "/double-entries": ("monitor", (1,)),
    "/agreement/double-entry": ("monitor", ("pain", "pain_nrs", "north")),
    "/coded-texts": ("data_manager", (1,)),
    "/agreement/coding": ("monitor", ("pain", "pain_note", "north")),
    "/casebooks-due": ("investigator", ("M-001",)),
    "/reconsents": ("coordinator", ("M-001",)),
    "/messages": ("coordinator", (1,)),
    "/questionnaires": ("coordinator", (1,)),
    "/visits-due": ("coordinator", ("2026-03-02", 1)),
    "/adverse-events": ("data_manager", ("number", 1, 1)),
    "/deviations": ("data_manager", (1,)),
    "/screening-log": ("data_manager", ("2026-03-02", 1)),
    "/amendments": ("coordinator", (1,)),
    "/versions/1/effect": ("coordinator", ("M-001",)),
    "/export-runs": ("data_manager", (1,)),
    "/participants/M-001/visits/baseline/entries/pain/repeats": ("coordinator", (1,)),
    "/sites": ("coordinator", ("north",)),
    "/people": ("data_manager", ("ada",)),
    "/instruments": ("coordinator", (0,)),
    "/drafts": ("administrator", (1,)),
    "/versions": ("coordinator", (1,)),
    "/versions/1/differences": ("coordinator", (0,)),
    "/consent-documents": ("coordinator", (0,)),
    "/sequences": ("statistician", (1,)),
    "/downtime-packs": ("statistician", (1,)),
    "/unblindings/openings": ("data_manager", ("clinician_north", "clinician")),
    "/export-definitions": ("data_manager", ("Everything",)),
    "/datasets": ("data_manager", (0,)),
    "/entries": ("coordinator", (1,)),
    "/roles": ("coordinator", (0,)),
    "/calendar-feeds": ("coordinator", (1,)),
    "/import-mappings": ("coordinator", ("diaries",)),
    "/webhooks": ("coordinator", (1,)),
    "/appointments": ("coordinator", ("2026-03-02T09:30:00.000000+00:00", 1)),
    "/participants/M-001/appointments": ("coordinator", ("2026-03-02T09:30:00.000000+00:00", 1)),
    "/participants/M-001/consents": ("coordinator", (1,)),
    "/participants/M-001/visits": ("coordinator", (0, 1)),
    "/participants/M-001/entries": ("coordinator", (0, "baseline", "pain", 1)),
    "/participants/M-001/visits/baseline/entries/pain/history": ("coordinator", (0,)),
    "/participants/M-001/screening/history": ("coordinator", (0,)),
    "/participants/M-001/optional-consents": ("coordinator", (0,)),
    "/participants/M-001/visits/baseline/signatures": ("assessor", ("pain", 1)),
    "/participants/M-001/links": ("coordinator", (1,)),
    "/participants/M-001/randomised-in-error": ("coordinator", (1,)),
    "/participants/M-001/contacts": ("coordinator", ("2026-03-02T09:30:00.000000+00:00", 1)),
    "/participants/M-001/care": ("coordinator", ("2026-02", 1)),
    "/participants/M-001/ends": ("coordinator", (1,)),
}
# Of these nothing is here; each is gone through in the way of lists that are.
NOT_HERE = {
    "/api/v1/studies",  # of a token, outside any study: beside the contract (`test_contract.py`)
    "/unblindings/{number}/arms",  # what an approved request opened: there is none without two who agree on it
    "/webhooks/{number}/deliveries",  # its cursors are followed and broken beside webhooks
    "/downtime-packs/{number}/slips",
    "/dictionaries/{dictionary}/terms",
    "/treatment/participants/M-001/sessions/baseline/history",
}
HERE = {
    "dictionary": "{dictionary}",
    "later": "1",
    "number": "{number}",
    "code": "M-001",
    "visit": "baseline",
    "instrument": "pain",
}
PAGES = {
    "/mini/today": "coordinator",
    "/mini/participants": "coordinator",
    "/mini/audit": "data_manager",
    "/mini/audit/reviews": "data_manager",
    "/mini/safety": "coordinator",
    "/mini/queries": "data_manager",
    "/mini/verification": "monitor",
    "/mini/double": "data_manager",
    "/mini/double/agreement": "monitor",
    "/mini/coding": "data_manager",
    "/mini/coding/agreement": "monitor",
    "/mini/treatment": "clinician",
    "/mini/reconsent": "coordinator",
    "/mini/sequence/allocations": "statistician",
    "/mini/study/versions": "coordinator",
    "/people": "administrator",
}


def encoded(value: Any) -> str:
    """Anything as a cursor would be encoded."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


parts = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=12),  # halves of surrogate pairs and NUL too
    st.sampled_from(["code", "status", "screened_on", "M-001", "2026-03-02", "\ud800", "R\udfff", "\x00", ""]),
    st.integers(),
    st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**63, -1]),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.integers(), max_size=2),
)
directions: st.SearchStrategy[Any] = st.sampled_from([0, 1, 2, -1, True, False, None, 0.0, 1.0, "0", "", []])
cursors = st.one_of(
    st.builds(lambda way, key: encoded([way, *key]), directions, st.lists(parts, max_size=4)),
    st.builds(encoded, st.one_of(parts, st.dictionaries(st.text(max_size=3), parts, max_size=4))),
    st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()),
    st.text(st.characters(codec="utf-8"), max_size=60),
)


@dataclass
class Readers:
    """Somebody of every role, with a program and a browser."""

    clients: dict[str, ApiClient]
    browsers: dict[str, Browser]


@pytest.fixture(scope="module")
def all_readers(
    copied: Callable[..., Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Readers]]:
    """Readers on a database of each kind, made once: nothing here changes what they read."""
    made: dict[str, tuple[Database, Readers]] = {}

    def of(kind: str) -> Readers:
        if kind not in made:
            database = copied(kind, tmp_path_factory.mktemp("cursors"), "cursors")
            made[kind] = database, _readers(database)
        return made[kind][1]

    yield of
    for database, _ in made.values():
        database.dispose()


@pytest.fixture
def readers(all_readers: Callable[[str], Readers], kind: str) -> Readers:
    return all_readers(kind)


def _readers(database: Database) -> Readers:
    treated = Treated(database)
    people = {str(role): treated.world.person(role) for role in Role if role is not Role.STATISTICIAN}
    people["statistician"] = treated.world.person("statistician", site_code=None)
    people |= {"clinician": treated.clinician}
    # One that answers as often as it is asked: thousands of times in a minute.
    http: Any = OneHop(application_on(database, api_requests_a_minute=0))
    clients = {role: api_client(database, people[role], http=http) for role in {role for role, _ in LISTS.values()}}
    browsers = {role: signed_in_client(database, people[role]) for role in set(PAGES.values())}
    return Readers(clients, browsers)


@cache
def made_up(count: int) -> tuple[str, ...]:
    """So many cursors, the same every time: made up once for all lists, and not by each of them anew."""
    found: list[str] = []

    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(cursor=cursors)
    def keep(cursor: str) -> None:
        found.append(cursor)

    keep()
    assert len(set(found)) > count / 2
    return tuple(found)


def test_every_list_in_pages_is_here(readers: Readers):
    client = readers.clients["coordinator"]
    paths = client.http.request("GET", "/api/v1/openapi.json").json()["paths"]
    asked = {
        path.removeprefix("/api/v1/studies/{study}").format_map(HERE)
        for path, methods in paths.items()
        for operation in methods.values()
        if "cursor" in [parameter["name"] for parameter in operation.get("parameters", [])]
    }
    assert asked == {*LISTS, *NOT_HERE}


@pytest.mark.parametrize("path", LISTS)
def test_a_cursor_of_the_list_itself_is_followed(readers: Readers, path: str):
    role, key = LISTS[path]
    for backwards in (False, True):
        cursor = paging.encode(*key, backwards=backwards)
        reply = readers.clients[role].get(path, params={"cursor": cursor, "limit": 1})
        assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_cursor_with_other_parts_or_another_direction_is_refused(readers: Readers, path: str):
    role, key = LISTS[path]
    others: list[Any] = ["R\ud800", "\udfff", "\x00", None, True, 1.5, [], -1, 2**31]
    wrong: list[Any] = [[way, *key] for way in (True, False, 0.0, 1.0, 2, -1, None, "0", [0])]
    for place in range(len(key)):
        for other in others:
            wrong.append([0, *key[:place], other, *key[place + 1 :]])
        of_another_kind = 1 if isinstance(key[place], str) else "M-001"
        wrong.append([0, *key[:place], of_another_kind, *key[place + 1 :]])
    wrong += [[0], [0, *key, key[0]], {"0": 1}, "0", 0, None]
    for each in wrong:
        problem = readers.clients[role].refused(422, "GET", path, params={"cursor": encoded(each)})
        assert [error["field"] for error in problem["errors"]] == ["cursor"], each


@pytest.mark.parametrize(
    ("sort", "value"),
    [("code", "M-001"), ("status", "screened"), ("site", "north"), ("screened_on", "2026-03-02"), ("queries", "0")],
)
def test_a_cursor_of_participants_is_of_one_order(readers: Readers, sort: str, value: str):
    client = readers.clients["coordinator"]
    for direction in ("", "-"):
        of_this = {"sort": direction + sort, "cursor": paging.encode(sort, value, "M-001"), "limit": 1}
        assert client.get("/participants", params=of_this).status_code == 200
    made_up_keys = [("code", "M-001", "M-001"), ("queries", "many", "M-001"), ("screened_on", "0", "M-001")]
    for key in [each for each in made_up_keys if each[0] != sort or sort != "code"]:
        problem = client.refused(422, "GET", "/participants", params={"sort": sort, "cursor": paging.encode(*key)})
        assert [error["field"] for error in problem["errors"]] == ["cursor"], key


@pytest.mark.parametrize("path", LISTS)
def test_no_made_up_cursor_is_answered_with_a_server_error(readers: Readers, path: str, kind: str):
    client = readers.clients[LISTS[path][0]]
    seen = set()
    # A cursor is read before the database is asked: on one of them more are made up.
    for cursor in (encoded([0, "R\ud800"]), "W1tb" * 120, *made_up(60 if kind == "sqlite" else 20)):
        reply = client.get(path, params={"cursor": cursor})
        assert reply.status_code in (200, 422), (cursor, reply.text)
        if reply.status_code == 422:
            assert [error["field"] for error in reply.json()["errors"]] == ["cursor"], cursor
        seen.add(reply.status_code)
    assert 422 in seen


@pytest.mark.parametrize(("path", "sort"), [*((path, "code") for path in PAGES), ("/mini/participants", "screened_on")])
def test_no_made_up_page_link_breaks_a_page(readers: Readers, path: str, sort: str):
    browser = readers.browsers[PAGES[path]]
    assert browser.get(path).status_code == 200
    of_parts = (encoded([0, "R\ud800"]), encoded([0, "2026-03-02", True]))
    for cursor in (*of_parts, "W1tb" * 3000, *made_up(25)):
        reply = browser.get(path, params={"sort": sort, "cursor" if path == "/people" else "after": cursor})
        assert reply.status_code in (200, 404, 422), (cursor, reply.status_code)


@hypothesis.given(
    key=st.lists(st.one_of(st.integers(0, 2**31 - 1), st.none(), st.text().filter(lambda text: "\x00" not in text))),
    backwards=st.booleans(),
)
def test_what_was_encoded_is_decoded(key: list[Any], backwards: bool):
    assert paging.decode(paging.encode(*key, backwards=backwards), len(key)) == (key, backwards)


@pytest.mark.parametrize("kinds", [(str,), (int,), (str, int)])
def test_the_kinds_of_the_parts_are_asked_for(kinds: tuple[type, ...]):
    good: list[Any] = [{str: "M-001", int: 7}[kind] for kind in kinds]
    assert paging.decode(paging.encode(*good), len(kinds), *kinds) == (good, False)
    for place, kind in enumerate(kinds):
        for other in (None, 7 if kind is str else "7"):
            wrong: list[Any] = [*good[:place], other, *good[place + 1 :]]
            with pytest.raises(Invalid):
                paging.decode(paging.encode(*wrong), len(kinds), *kinds)
