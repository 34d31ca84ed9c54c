"""A browser for tests: somebody who is signed in opens pages, and posts the forms that stand on them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import httpx2
from anyio import to_thread
from bs4 import BeautifulSoup
from fastapi import FastAPI
from lxml.html import document_fromstring
from sqlalchemy import event, insert, update
from starlette.testclient import TestClient

from app.foundation import clock
from app.foundation.crypto.secrets import hash_password, new_token, token_hash
from app.foundation.database import Database, table_of
from app.people.access import Actor
from app.people.models import Person, SignInSession
from app.settings import Settings
from tests import memory

PASSWORD = "correct horse battery staple"
SAID_ONCE = ("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "PRAGMA")

Fields = dict[str, list[str]]


@cache
def _hashed() -> str:
    return hash_password(PASSWORD)


@dataclass
class Browser:
    """One person's browser. Redirects are not followed, so that a test sees them."""

    client: TestClient
    actor: Actor

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(path, follow_redirects=False, **options)

    def soup(self, path: str) -> BeautifulSoup:
        """The page at this address; it must be there."""
        return BeautifulSoup(self._text(path), "html.parser")

    def _text(self, path: str) -> str:
        reply = self.get(path)
        assert reply.status_code == 200, f"{path}: {reply.status_code} {reply.text[:2000]}"
        return str(reply.text)

    def form(self, page: str, action: str | None = None) -> Fields:
        """What the form with this action on this page would send as it stands, its CSRF token too."""
        return form_on(self._text(page), action or page)

    def send(self, action: str, fields: Mapping[str, Any], **options: Any) -> Any:
        """Post exactly these fields."""
        return self.client.post(action, data=dict(fields), follow_redirects=False, **options)

    def post(self, action: str, values: Mapping[str, Any], *, page: str | None = None, **options: Any) -> Any:
        """Open the page with the form, fill it in and send it; a value of None takes a field out."""
        fields: dict[str, Any] = {**self.form(page or action, action), **values}
        return self.send(action, {name: value for name, value in fields.items() if value is not None}, **options)


def form_in(soup: BeautifulSoup, action: str) -> Fields:
    """The fields of the form with this action (without its query), filled in as the page shows it."""
    return form_on(str(soup), action)


def form_on(page: str, action: str) -> Fields:
    """The same of a page as it was sent; read without a soup, which takes ten times as long."""
    forms = list(document_fromstring(page.replace("\r", "&#13;")).iter("form"))  # a line's end stays as it was sent
    found = [form for form in forms if form.get("action", "").split("?")[0] == action]
    assert found, f"no form for {action} among {[form.get('action') for form in forms]}"
    fields: Fields = {}
    for control in found[0].iter("input", "select", "textarea"):
        for name, value in _sent(control):
            fields.setdefault(name, []).append(value)
    return fields


def words_of(page: str) -> str:
    """What a page says, one space between any two of its texts; read without a soup, as its forms are."""
    texts: Any = document_fromstring(page).xpath("//text()[not(parent::script or parent::style)]")
    return " ".join(filter(None, map(str.strip, texts)))


def _sent(control: Any) -> list[tuple[str, str]]:
    name, kind = control.get("name", ""), control.get("type")
    if not name:
        return []
    if control.tag == "textarea":
        return [(name, control.text_content())]
    if control.tag == "select":
        options = list(control.iter("option"))
        chosen = [option for option in options if "selected" in option.attrib] or options[:1]
        return [(name, option.get("value", "")) for option in chosen]
    if kind == "file" or (kind in ("radio", "checkbox") and "checked" not in control.attrib):
        return []
    return [(name, control.get("value", ""))]


AT_ONCE = ContextVar("at once", default=False)


@contextmanager
def threads_where_needed() -> Iterator[None]:
    """What an application does in a thread is done at once, in the loop's own, for whoever asks as `OneHop` does."""
    in_a_thread = to_thread.run_sync

    async def run(function: Any, *arguments: Any, **options: Any) -> Any:
        if AT_ONCE.get():
            return copy_context().run(function, *arguments)  # what it sets stays its own, as in a thread
        return await in_a_thread(function, *arguments, **options)

    with mock.patch.object(to_thread, "run_sync", run):
        yield


class OneHop:
    """Asks an application for whole answers, each in one hop to the event loop that all test clients share.

    For those who send thousands of requests, one after the other: a TestClient hops for every part of a request and of
    its answer, and the application into a thread and back for everything that asks the database.
    """

    def __init__(self, application: FastAPI) -> None:
        self._transport = httpx2.ASGITransport(application)
        self._requests = httpx2.Client(base_url="http://trial.test")

    def request(self, method: str, path: str, *, follow_redirects: bool = False, **more: Any) -> httpx2.Response:
        """The answer, as it left: no redirect is followed, and no cookie is sent that is not among the headers."""
        assert TestClient.portal is not None
        assert not follow_redirects
        asked = AT_ONCE.set(True)
        try:
            return TestClient.portal.call(self._answer, self._requests.build_request(method, path, **more))
        finally:
            AT_ONCE.reset(asked)

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        reply = await self._transport.handle_async_request(request)
        reply.request = request
        await reply.aread()
        return reply


def anonymous_client(database: Database, **settings: Any) -> TestClient:
    """A browser that nobody has signed in with."""
    from app.main import create_app

    data = Path(settings.pop("data", None) or memory.data())
    application = create_app(Settings.model_construct(secure_cookies=False, data=data, **settings), database)
    return TestClient(application, base_url="http://trial.test", raise_server_exceptions=True)


def signed_in_client(database: Database, actor: Actor, **settings: Any) -> Browser:
    """The browser of this person, signed in; their password is PASSWORD."""
    token, now = new_token(), clock.now()
    with database.writing() as session:
        person = table_of(Person)
        session.execute(update(person).where(person.c.id == actor.person_id).values(password_hash=_hashed()))
        session.execute(
            insert(table_of(SignInSession)).values(
                token_hash=token_hash(token),
                person_id=actor.person_id,
                csrf_token=new_token(),
                second_factor=False,
                created_at=now,
                seen_at=now,
                expires_at=now + timedelta(hours=12),
                address="",
                browser="",
            )
        )
    client = anonymous_client(database, **settings)
    client.cookies.set("equipoise", token)
    return Browser(client, actor)


@contextmanager
def counted_statements(database: Database) -> Iterator[list[str]]:
    """The SQL statements sent while the block runs, without those that begin and end transactions."""
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(SAID_ONCE):
            said.append(statement)

    # A shared database is one connection that is open already, and hears only what is said to itself.
    source = getattr(database, "_connection", None) or database.engine
    event.listen(source, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(source, "before_cursor_execute", note)
