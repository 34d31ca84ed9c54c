"""The OpenAPI document says of every operation what it does, and nothing made up after it breaks the server."""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis.checks import not_a_server_error
from starlette.testclient import TestClient

from app.people.permissions import Role
from tests.api.client import ApiClient, api_client, application_on
from tests.factories import mini_study, person

EXAMPLES = 6  # of each operation and token


@pytest.fixture
def clients(shared_database: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, ApiClient]:
    """A program of every role, on one application."""
    # Made-up requests are sent with the application's start and stop around each; the test's server is fast, not safe.
    monkeypatch.setattr(shared_database, "refuse_unsafe_settings", lambda: None)
    with shared_database.writing() as session:
        study = mini_study(session)
        people = {
            str(role): person(session, study, role, site_code=None if role is Role.STATISTICIAN else "north")
            for role in Role
        }
    http = TestClient(application_on(shared_database), base_url="http://trial.test")
    return {role: api_client(shared_database, actor, http=http) for role, actor in people.items()}


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


def shown(document: dict[str, Any], content: dict[str, Any]) -> bool:
    """Whether a body has an example: its own, that of its schema, or that of what it is a list or page of."""
    if "example" in content or "examples" in content:
        return True
    schema = resolved(document, content.get("schema", {}))
    if schema.get("type") == "string":
        return True  # a file
    if "items" in schema.get("properties", {}):
        schema = schema["properties"]["items"]
    while schema.get("type") == "array":
        schema = resolved(document, schema["items"])
    return "example" in schema or "examples" in schema


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_every_operation_says_what_it_does_and_shows_an_example(document):
    assert document["openapi"].startswith("3.1")
    found = dict(operations(document))
    assert len(found) >= 30
    names = [operation["operationId"] for operation in found.values()]
    assert len(set(names)) == len(names)
    without_example = set()
    for where, operation in found.items():
        assert operation["summary"], where
        assert not operation["summary"].startswith("Api."), where
        assert operation["description"], where
        assert operation["tags"], where
        assert operation["security"] == [{"token": []}], where
        good = [status for status in operation["responses"] if status.startswith("2")]
        assert good, where
        for status in good:
            contents = operation["responses"][status]["content"]
            if not any(shown(document, content) for content in contents.values()):
                without_example.add(where.split("{study}")[1])
        for status in ("401", "403", "404", "409", "422"):
            assert "application/problem+json" in operation["responses"][status]["content"], (where, status)
        if "requestBody" in operation:
            assert all(shown(document, content) for content in operation["requestBody"]["content"].values()), where
        if not where.startswith("GET"):
            assert "Idempotency-Key" in [parameter["name"] for parameter in operation["parameters"]], where
    assert without_example <= {"/treatment/participants/{code}", "/treatment/participants/{code}/sessions/{visit}"}


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_the_examples_of_bodies_are_bodies_that_can_be_read(document):
    import jsonschema  # type: ignore[import-untyped]

    for where, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = resolved(document, content["schema"])
            examples = [schema["example"]] if "example" in schema else schema["examples"]
            for example in examples:
                jsonschema.validate(example, {**schema, "components": document["components"]}), where


KNOWN = {"study": "mini", "code": "M-001", "visit": "baseline", "instrument": "pain", "table": "entries"}


def send_made_up(client: ApiClient, operation: Any, count: int, known: dict[str, str]) -> int:
    """Send requests made up after one operation, the same ones every time; how many."""
    sent = 0

    @hypothesis.seed(20260302)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy())
    def send(case: Any) -> None:
        nonlocal sent
        case.path_parameters |= {name: known[name] for name in case.path_parameters if name in known}
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {client.token}"}
        reply = case.call()
        assert reply.status_code != 401
        case.validate_response(reply, checks=[not_a_server_error])
        sent += 1

    send()
    return sent


@pytest.mark.both_databases
@pytest.mark.parametrize(
    ("kind", "role"),
    [
        ("sqlite", "coordinator"),
        ("postgres", "coordinator"),
        ("postgres", "statistician"),
        ("postgres", "clinician"),
        ("postgres", "data_manager"),
    ],
    indirect=["kind"],
)
def test_nothing_made_up_after_the_document_is_answered_with_a_server_error(clients, document, role):
    """Bounded: a few requests to each operation, about somebody who is there and about nobody."""
    answers = {"age": 44, "pain_screen": 6, "surgery": False}
    clients["coordinator"].done("POST", "/participants", {"site": "north", "answers": answers})
    schema = schemathesis.openapi.from_dict(document)
    schema.app = clients[role].http.app
    sent = 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        sent += send_made_up(clients[role], operation, EXAMPLES, KNOWN)
        sent += send_made_up(clients[role], operation, 2, {"study": "mini"})
    assert sent > 100
