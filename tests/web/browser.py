"""A browser for tests: somebody who is signed in opens pages, and posts the forms that stand on them."""

import asyncio
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import closing, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any
from unittest import mock

import httpx2
from anyio import to_thread
from bs4 import BeautifulSoup
from fastapi import FastAPI
from lxml.html import document_fromstring
from sqlalchemy import event, insert, update
from starlette.testclient import TestClient, _TestClientTransport

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
def asked_here() -> Iterator[None]:
    """Whoever asks from the main thread is answered in it, by an event loop of its own: a test client would else change
    threads for every part of a request and of its answer, and the application for whatever asks the database.

    Requests of other threads, for which it matters who has to wait for whom, go as they always do.
    """
    in_a_thread, from_another = to_thread.run_sync, _TestClientTransport.handle_request
    loop = asyncio.new_event_loop()

    async def run(function: Any, *arguments: Any, **options: Any) -> Any:
        if AT_ONCE.get():
            return copy_context().run(function, *arguments)  # what it sets stays its own, as in a thread
        return await in_a_thread(function, *arguments, **options)

    def answer(transport: Any, request: httpx2.Request) -> httpx2.Response:
        if current_thread() is not main_thread() or request.url.scheme not in ("http", "https"):
            return from_another(transport, request)
        beside, at_once = _get_running_loop(), AT_ONCE.set(True)  # a browser that is open has a loop in this thread
        _set_running_loop(None)
        try:
            return loop.run_until_complete(_whole(transport, request))
        finally:
            _set_running_loop(beside)
            AT_ONCE.reset(at_once)

    with (
        closing(loop),
        mock.patch.object(to_thread, "run_sync", run),
        mock.patch.object(_TestClientTransport, "handle_request", answer),
    ):
        yield


async def _whole(transport: Any, request: httpx2.Request) -> httpx2.Response:
    """What the application of a test client answers, once all of it is there."""
    begun, parts, over = dict[str, Any](), list[bytes](), asyncio.Event()
    asked = iter([{"type": "http.request", "body": request.read()}])

    async def receive() -> dict[str, Any]:
        for message in asked:
            return message
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not begun
            begun.update(message)
        else:
            assert begun
            assert not over.is_set()
            parts.append(message.get("body", b"") if request.method != "HEAD" else b"")
            if not message.get("more_body", False):
                over.set()

    url = request.url
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "server": (url.host, url.port),
        "client": transport.client,
        "root_path": transport.root_path,
        "state": {},
    }
    try:
        await transport.app(scope, receive, send)
    except Exception:
        if transport.raise_server_exceptions:
            raise
        begun.setdefault("status", 500)
    else:
        assert over.is_set()
    return httpx2.Response(
        begun["status"], headers=begun.get("headers"), stream=httpx2.ByteStream(b"".join(parts)), request=request
    )


class OneHop:
    """Asks an application without what a client does beside: for those who send thousands of requests.

    No redirect is followed, and no cookie is kept or sent that is not among the headers.
    """

    def __init__(self, application: FastAPI) -> None:
        self._client = TestClient(application, base_url="http://trial.test")

    def request(self, method: str, path: str, *, follow_redirects: bool = False, **more: Any) -> httpx2.Response:
        """The answer, as it left."""
        assert not follow_redirects
        request = self._client.build_request(method, path, **more)
        reply = self._client._transport.handle_request(request)
        reply.read()
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
