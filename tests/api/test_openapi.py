"""The OpenAPI document says of every operation what it does, and nothing made up after it breaks the server."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck
from starlette.testclient import TestClient

from app.foundation.database import Database
from app.people.permissions import Role
from tests.api.client import ApiClient, api_client, application_on
from tests.conftest import KEYS
from tests.factories import mini_study, person
from tests.house.routes import doors, expected_roles
from tests.web.browser import OneHop

EXAMPLES = 6  # of each operation and token
ABOUT_NOBODY = 2  # of these


def clients_of(database: Any) -> dict[str, ApiClient]:
    """A program of every role, on one application."""
    with database.writing() as session:
        study = mini_study(session)
        people = {
            str(role): person(session, study, role, site_code=None if role is Role.STATISTICIAN else "north")
            for role in Role
        }
    http = TestClient(application_on(database), base_url="http://trial.test")
    return {role: api_client(database, actor, http=http) for role, actor in people.items()}


@pytest.fixture
def clients(shared_database: Any) -> dict[str, ApiClient]:
    return clients_of(shared_database)


@pytest.fixture
def document(clients: dict[str, ApiClient]) -> dict[str, Any]:
    reply = clients["coordinator"].http.get("/api/v1/openapi.json")
    assert reply.status_code == 200
    found: dict[str, Any] = reply.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def examples_of(document: dict[str, Any], content: dict[str, Any]) -> list[Any]:
    """The examples of a body: its own, and those of its schema."""
    found = [content["example"]] if "example" in content else []
    found += [each["value"] for each in content.get("examples", {}).values()]
    schema = resolved(document, content.get("schema", {}))
    return [*found, *([schema["example"]] if "example" in schema else []), *schema.get("examples", [])]


def contents(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body that is sent, and every good answer, in each of its formats."""
    for where, operation in operations(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{where} takes {kind}", content
        for status, reply in operation["responses"].items():
            if status.startswith("2"):
                for kind, content in reply["content"].items():
                    yield f"{where} gives {status} {kind}", content


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_every_operation_says_what_it_does_and_shows_an_example(document):
    assert document["openapi"].startswith("3.1")
    found = dict(operations(document))
    assert len(found) >= 40
    names = [operation["operationId"] for operation in found.values()]
    assert len(set(names)) == len(names)
    for where, operation in found.items():
        assert operation["summary"], where
        assert not operation["summary"].startswith("Api."), where
        assert operation["description"], where
        assert operation["tags"], where
        assert operation["security"] == [{"token": []}], where
        good = [status for status in operation["responses"] if status.startswith("2")]
        assert good, where
        for status in good:
            assert operation["responses"][status]["content"], (where, status)
        assert ("201" in good) == ("Location" in operation["responses"].get("201", {}).get("headers", {})), where
        for status in ("401", "403", "404", "409", "422"):
            assert "application/problem+json" in operation["responses"][status]["content"], (where, status)
        if not where.startswith("GET"):
            assert "Idempotency-Key" in [parameter["name"] for parameter in operation["parameters"]], where
    assert [where for where, content in contents(document) if not examples_of(document, content)] == []


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_nobody_is_told_what_is_wrong_with_a_request_before_it_is_known_who_they_are(clients, document):
    """With a body and numbers that no operation takes, and a token of nobody's, or of another study."""
    http, told = clients["coordinator"].http, []
    for where, operation in operations(document):
        method, path = where.split()
        wrong = {one["name"]: "no number" for one in operation["parameters"] if one["in"] == "query"}
        path = path.replace("{study}", "mini")
        for one in operation["parameters"]:
            path = path.replace(f"{{{one['name']}}}", "x" if one["in"] == "path" else "")
        sent: dict[str, Any] = {"json": {"no such": "member"}} if method != "GET" else {}
        reply = http.request(method, path, params=wrong, headers={"Authorization": "Bearer eqp_nobody"}, **sent)
        if reply.status_code != 401:
            told.append((where, reply.status_code, reply.text[:80]))
    assert told == []


def wrong_example(document: dict[str, Any], schema: dict[str, Any], example: Any) -> str | None:
    """What an example has that its schema has not, or None."""
    import jsonschema  # type: ignore[import-untyped]

    whole = {**schema, "components": document["components"]}
    checked = jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker())
    return next((f"{error.json_path}: {error.message}" for error in checked.iter_errors(example)), None)


@pytest.mark.requirement("SEC-23")
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_no_text_that_is_sent_may_hold_what_cannot_be_kept(document):
    """A NUL, or half of a character: either broke the server where nobody had thought of it."""

    def open_texts(schema: dict[str, Any], where: str, seen: tuple[str, ...] = ()) -> Iterator[str]:
        if "$ref" in schema:
            if schema["$ref"] not in seen:
                yield from open_texts(resolved(document, schema), where, (*seen, schema["$ref"]))
            return
        if schema.get("type") == "string" and not {"pattern", "enum", "const", "format"} & set(schema):
            yield where
        for name, inner in schema.get("properties", {}).items():
            yield from open_texts(inner, f"{where}.{name}", seen)
        inside = [schema.get(name) for name in ("items", "additionalProperties", "propertyNames")]
        for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ()), *inside):
            if isinstance(inner, dict):
                yield from open_texts(inner, where, seen)

    sent = {
        where: operation["requestBody"]["content"]["application/json"]["schema"]
        for where, operation in operations(document)
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert len(sent) > 60
    assert [found for where, schema in sent.items() for found in open_texts(schema, where)] == []


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_every_example_is_what_its_schema_says(document):
    checked, wrong = 0, []
    for where, content in contents(document):
        for example in examples_of(document, content):
            checked += 1
            if said := wrong_example(document, content["schema"], example):
                wrong.append((where, said))
    for name, schema in document["components"]["schemas"].items():
        for example in examples_of(document, {"schema": schema}):
            checked += 1
            if said := wrong_example(document, schema, example):
                wrong.append((name, said))
    assert wrong == []
    assert checked > 100


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_no_parameter_is_shown_an_example_that_is_refused(clients, document):
    """What a generated client sends first: each example of a filter, with a token of a role that may ask."""
    asked = 0
    for where, operation in operations(document):
        method, path = where.split()
        shown = {one["name"]: one for one in operation["parameters"] if one["in"] == "query"}
        given = {
            name: (one["schema"].get("examples") or one.get("examples") or [None])[0] for name, one in shown.items()
        }
        if method != "GET" or "{" in path.replace("{study}", "") or not any(given.values()):
            continue
        for name, example in given.items():
            if example is not None:
                reply = clients["data_manager"].http.get(
                    path.replace("{study}", "mini"),
                    params={name: example},
                    headers={"Authorization": f"Bearer {clients['data_manager'].token}"},
                )
                fields = [each["field"] for each in reply.json().get("errors", [])] if reply.status_code == 422 else []
                assert not {"fields", "expand"} & set(fields), (where, name, example, reply.text)
                asked += 1
    assert asked > 30


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_every_answer_in_json_shows_all_its_fields(document):
    """An example that leaves a field out would be a schema's example all the same: nothing need be there twice."""
    for where, content in contents(document):
        schema = resolved(document, content["schema"])
        if " gives " not in where or "properties" not in schema:
            continue
        for example in examples_of(document, content):
            assert set(example) == set(schema["properties"]), where
            if set(example) == {"items", "next"}:
                row = resolved(document, schema["properties"]["items"]["items"])
                assert [set(each) for each in example["items"]] == [set(row["properties"])], where


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_everything_that_is_sent_or_answered_is_described_with_an_example(document):
    made_here = {"HTTPValidationError", "ValidationError"}
    lacking = [
        name
        for name, schema in document["components"]["schemas"].items()
        if name not in made_here and not examples_of(document, {"schema": schema})
    ]
    assert lacking == []


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_an_example_that_is_not_as_its_schema_says_is_seen(document):
    schema = {"$ref": "#/components/schemas/ParticipantReply"}
    example = resolved(document, schema)["example"]
    assert wrong_example(document, schema, example) is None
    assert wrong_example(document, schema, {**example, "screened_on": None})
    assert wrong_example(document, schema, {**example, "screened_on": "yesterday"})
    assert wrong_example(document, schema, {name: example[name] for name in example if name != "site"})


KNOWN = {"study": "mini", "code": "M-001", "visit": "baseline", "instrument": "pain", "table": "entries"}


def on_the_wire(case: Any) -> tuple[str, str, list[tuple[bytes, bytes]], Any]:
    """Method, address, headers and body of a request that was made up, as they are sent."""
    made = case.as_transport_kwargs(base_url="http://trial.test")
    parts = {name: made[name] for name in ("headers", "params", "data", "json", "files", "cookies") if name in made}
    ready = requests.Request(made["method"], made["url"], **parts).prepare()
    encoded = [
        tuple(part.encode("latin-1") if isinstance(part, str) else part for part in line)
        for line in ready.headers.items()
        if line[0].lower() not in ("authorization", "content-length")
    ]
    return str(ready.method), str(ready.url), encoded, ready.body  # type: ignore[return-value]


def send_made_up(askers: Sequence[tuple[ApiClient, OneHop]], operation: Any) -> int:
    """Send requests made up after one operation, the same ones every time, to and as each of these; how many.

    All are about somebody who is there, and the first few also about nobody.
    """
    made = sent = 0

    @hypothesis.seed(20260302)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy())
    def send(case: Any) -> None:
        nonlocal made, sent
        given = dict(case.path_parameters)
        for known in (KNOWN, {"study": "mini"})[: 2 if made < ABOUT_NOBODY else 1]:
            case.path_parameters |= {name: known.get(name, value) for name, value in given.items()}
            method, where, headers, body = on_the_wire(case)
            for asker, client in askers:
                by = (b"authorization", f"Bearer {asker.token}".encode())
                reply = client.request(method, where, headers=[*headers, by], content=body)
                assert reply.status_code != 401
                assert reply.status_code < 500, (method, where, body, reply.text)
                sent += 1
        made += 1

    send()
    return sent


# Of these the first who may: a role that may not gets the same answer at every door, and no further.
ASKERS = sorted(Role, key=lambda role: role is not Role.COORDINATOR)


@pytest.mark.both_databases
@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
def test_nothing_made_up_after_the_document_is_answered_with_a_server_error(database, templates, tmp_path):
    """Bounded: a few requests to each operation, about somebody who is there and about nobody; made up once for both.

    Each commits: thousands of them in one transaction leave as many dead versions of the same rows, which PostgreSQL
    reads through every time and cannot clear away before the end.
    """
    shutil.copy(templates("sqlite").url.database, tmp_path / "other.db")
    databases = {"postgres": database, "sqlite": Database(f"sqlite:///{tmp_path / 'other.db'}", KEYS)}
    everybody = []
    for each in databases.values():
        clients = clients_of(each)
        answers = {"age": 44, "pain_screen": 6, "surgery": False}
        clients["coordinator"].done("POST", "/participants", {"site": "north", "answers": answers})
        everybody.append((clients, OneHop(clients["coordinator"].http.app)))  # type: ignore[arg-type]
    application: Any = clients["coordinator"].http.app
    may = {(door.method, door.path.replace(":path", "")): expected_roles(door.name) for door in doors(application)}
    schema = schemathesis.openapi.from_dict(clients["coordinator"].http.get("/api/v1/openapi.json").json())
    asked, sent = Counter[Role](), 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        who = next(each for each in ASKERS if each in may[operation.method.upper(), operation.path])
        askers = [(clients[str(who)], client) for clients, client in everybody]
        sent += send_made_up(askers, operation)
        asked[who] += 1
    databases["sqlite"].dispose()
    assert len(asked) > 4
    assert sent > 2_500
