"""A program for tests: somebody's token, and requests to one study over REST."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from sqlalchemy import insert, select, update
from starlette.routing import Match
from starlette.testclient import TestClient

from app.foundation import clock
from app.foundation.crypto.secrets import hash_password, new_token, token_hash
from app.foundation.database import Database, table_of
from app.main import create_app
from app.people.access import Actor
from app.people.models import ApiToken, Person
from app.people.permissions import Permission
from app.people.reads import TOKEN_PREFIX
from app.settings import Settings
from app.signposts import Signposts
from app.studies.models import StudyRecord
from tests import memory

PASSWORD = "correct horse battery staple"
STUDY = table_of(StudyRecord)
PERSON = table_of(Person)


def leads_to(application: Any, address: str) -> bool:
    """Whether something is read over REST at this address."""
    scope = {"type": "http", "method": "GET", "path": unquote(address), "root_path": ""}
    found = next(route for route in application.router.routes if isinstance(route, Signposts)).matches(scope)
    return address.startswith("/api/v1/") and found[0] is Match.FULL


@cache
def _hashed() -> str:
    return hash_password(PASSWORD)


@dataclass
class ApiClient:
    """One person's program in one study. Paths are relative to the study; no redirect is followed."""

    http: TestClient
    actor: Actor
    study: str
    token: str

    @property
    def root(self) -> str:
        return f"/api/v1/studies/{self.study}"

    def request(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> Any:
        """The reply, whatever it is; of something that was made it says where that is."""
        given = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        reply = self.http.request(method, self.root + path, headers=given, follow_redirects=False, **options)
        if reply.status_code == 201:
            application = getattr(self.http, "app", None) or self.http._client.app  # type: ignore[attr-defined]
            assert leads_to(application, reply.headers["location"]), (path, reply.headers)
        return reply

    def get(self, path: str, **options: Any) -> Any:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.request("POST", path, json=body, **options)

    def put(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.request("PUT", path, json=body, **options)

    def done(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """What a request that must go well was answered."""
        reply = self.request(method, path, **({"json": body} if body is not None else {}), **options)
        assert reply.status_code in (200, 201), f"{method} {path}: {reply.status_code} {reply.text[:2000]}"
        return reply.json()

    def rows(self, path: str, **options: Any) -> list[Any]:
        """Every row of a list, page by page."""
        found, query = [], dict(options.pop("params", {}))
        while True:
            page = self.done("GET", path, params=query or None, **options)
            assert set(page) == {"items", "next"}, path
            found += page["items"]
            if page["next"] is None:
                return found
            query["cursor"] = page["next"]

    def refused(self, status: int, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The problem with which a request must be refused."""
        reply = self.request(method, path, **({"json": body} if body is not None else {}), **options)
        assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text[:2000]}"
        return problem_of(reply)


def problem_of(reply: Any) -> Any:
    """The RFC 9457 problem that this reply is."""
    assert reply.headers["content-type"] == "application/problem+json", reply.text[:2000]
    body = reply.json()
    allowed = {"type", "title", "status", "detail", "errors", "current_version", "candidates"}
    assert {"type", "title", "status"} <= set(body) <= allowed
    assert body["type"] == "about:blank"
    assert body["status"] == reply.status_code
    if "errors" in body:
        assert body["errors"]
        assert all(set(each) == {"field", "rule", "message"} for each in body["errors"])
    return body


def application_on(database: Database, **settings: Any) -> FastAPI:
    """The application on this database, with a data folder of its own."""
    data = Path(settings.pop("data", None) or memory.data())
    return create_app(Settings.model_construct(secure_cookies=False, data=data, **settings), database)


def new_token_for(
    database: Database,
    actor: Actor,
    scopes: list[str] | None = None,
    *,
    study_id: int | None = None,
    lifetime: timedelta = timedelta(days=365),
) -> str:
    """A token of this person in their study, as its row: also of those who may not make one; None is every scope."""
    token, now = TOKEN_PREFIX + new_token(), clock.now()
    with database.writing() as session:
        session.execute(update(PERSON).where(PERSON.c.id == actor.person_id).values(password_hash=_hashed()))
        session.execute(
            insert(table_of(ApiToken)).values(
                token_hash=token_hash(token),
                person_id=actor.person_id,
                study_id=study_id or actor.study_id,
                name="test",
                scopes=" ".join(sorted(Permission) if scopes is None else scopes),
                created_at=now,
                expires_at=now + lifetime,
                # As one in use: where a test rolls back, what a request that only reads keeps of it is gone after each.
                last_used_at=now,
            )
        )
    return token


def api_client(
    database: Database,
    actor: Actor,
    scopes: list[str] | None = None,
    *,
    http: TestClient | None = None,
    **settings: Any,
) -> ApiClient:
    """The program of this person in their study; their password is PASSWORD. `http` shares one application."""
    token = new_token_for(database, actor, scopes)
    with database.reading() as session:
        study = session.execute(select(STUDY.c.code).where(STUDY.c.id == actor.study_id)).scalar_one()
    http = http or TestClient(application_on(database, **settings), base_url="http://trial.test")
    return ApiClient(http, actor, study, token)


def headers_of(reply: Any) -> dict[str, str]:
    """The headers, without how many requests are left: of two requests in turn that never is the same."""
    return {name: value for name, value in reply.headers.items() if not name.startswith("ratelimit")}
