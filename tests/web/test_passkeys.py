"""The pages of passkeys: the account page, the second step of the sign-in, and a signature; on both databases."""

import json
import sqlite3
import subprocess
import sys
from typing import Any

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import select, update

from app.audit.actions import ENTRY
from app.people.reads import PASSKEY, SESSION
from tests.api.client import api_client
from tests.people.authenticator import ORIGIN, Authenticator
from tests.web.browser import PASSWORD, Browser, anonymous_client, form_on, signed_in_client
from tests.web.test_participants import NEW, WHO
from tests.web.test_unblinding import FORM, Blind
from tests.web.world import ELIGIBLE, World

ACCOUNT, ADD, STEP = "/account", "/account/passkeys/add", "/sign-in/passkey"


@pytest.fixture
def world(database):
    return World(database)


def options_on(page: str) -> dict[str, Any]:
    """What the page would have the browser ask the device."""
    found = BeautifulSoup(page, "html.parser").select_one("[data-options]")
    assert found is not None
    asked: dict[str, Any] = json.loads(str(found["data-options"]))
    return asked


def adds(browser: Browser, name: str = "Laptop") -> Authenticator:
    device = Authenticator()
    asked = browser.post("/account/passkeys", {"passkey_name": name, "password": PASSWORD}, page=ACCOUNT)
    assert asked.status_code == 200, asked.text
    added = browser.send(ADD, {**form_on(asked.text, ADD), "passkey": device.make(options_on(asked.text))})
    assert (added.status_code, added.headers["location"]) == (303, "/account?done=passkey_added")
    return device


def signs_in(client: Any, username: str, **more: Any) -> Any:
    return client.post("/sign-in", data={"username": username, "password": PASSWORD, **more}, follow_redirects=False)


def counted(world: World, action: str) -> int:
    with world.database.reading() as session:
        return len(session.execute(select(ENTRY.c.position).where(ENTRY.c.action == action)).all())


@pytest.mark.requirement("SEC-29", "SEC-35")
def test_one_is_added_with_the_password_listed_and_removed_with_the_password(world):
    browser = world.coordinator(address=ORIGIN)
    wrong = browser.post("/account/passkeys", {"passkey_name": "Laptop", "password": "wrong"}, page=ACCOUNT)
    assert (wrong.status_code, 'value="Laptop"' in wrong.text) == (422, True)
    nameless = browser.post("/account/passkeys", {"passkey_name": " ", "password": PASSWORD}, page=ACCOUNT)
    assert "Give it a name" in nameless.text
    adds(browser, "Ada's <laptop>")
    page = browser.get(ACCOUNT).text
    assert "Ada&#39;s &lt;laptop&gt;" in page
    refused = browser.post("/account/passkeys/remove", {"password": "wrong"}, page=ACCOUNT)
    assert (refused.status_code, "not right" in refused.text) == (422, True)
    removed = browser.post("/account/passkeys/remove", {"password": PASSWORD}, page=ACCOUNT)
    assert removed.headers["location"] == "/account?done=passkey_removed"
    assert "passkey_id" not in browser.get(ACCOUNT).text
    assert (counted(world, "passkey.added"), counted(world, "passkey.removed")) == (1, 1)


def test_what_was_not_made_as_asked_is_said_and_the_form_is_there_again(world):
    browser = world.coordinator(address=ORIGIN)
    asked = browser.post("/account/passkeys", {"passkey_name": "Laptop", "password": PASSWORD}, page=ACCOUNT)
    elsewhere = Authenticator(origin="https://evil.test").make(options_on(asked.text))
    answer = browser.send(ADD, {**form_on(asked.text, ADD), "passkey": elsewhere})
    assert (answer.status_code, "could not be added" in answer.text) == (422, True)
    assert form_on(answer.text, "/account/passkeys")


def test_where_browsers_make_none_the_page_says_why(world):
    page = world.coordinator(address="http://192.0.2.7:8000").get(ACCOUNT).text
    assert "EQUIPOISE_ADDRESS" in page
    assert 'action="/account/passkeys' not in page


@pytest.mark.requirement("SEC-29", "SEC-32")
def test_the_second_step_leads_on_with_a_new_session(world):
    actor = world.coordinators["north"]
    device = adds(world.coordinator(address=ORIGIN))
    client = anonymous_client(world.database, address=ORIGIN)
    step = signs_in(client, actor.username, next="/mini")
    assert (step.status_code, step.headers.get("set-cookie")) == (401, None)
    fields = {**form_on(step.text, STEP), "passkey": device.use(options_on(step.text))}
    done = client.post(STEP, data=fields, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, "/mini")
    assert client.get("/mini/participants").status_code == 200
    again = anonymous_client(world.database, address=ORIGIN).post(STEP, data=fields, follow_redirects=False)
    assert (again.status_code, again.headers.get("set-cookie")) == (401, None)
    assert "The passkey was not right" in again.text
    assert counted(world, "sign_in.failed") == 1


def test_what_was_typed_travels_through_both_steps(world):
    browser = world.coordinator(address=ORIGIN)
    device = adds(browser)
    fields = {**browser.form(NEW), **ELIGIBLE, **WHO}
    with world.database.writing() as session:
        session.execute(update(SESSION).values(ended_at=SESSION.c.created_at))
    carried = form_on(browser.send(NEW, fields).text, "/sign-in")
    step = browser.send("/sign-in", {**carried, "username": browser.actor.username, "password": PASSWORD})
    assert "Lovelace" not in step.text
    again = {**form_on(step.text, STEP), "passkey": device.use(options_on(step.text))}
    resumed = browser.send(STEP, again)
    assert browser.send(NEW, form_on(resumed.text, NEW)).status_code == 303
    assert world.codes() == ["M-001"]


@pytest.mark.requirement("SEC-25", "SEC-29")
@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("answer", ["", "nonsense", Authenticator().use({"rpId": "x", "challenge": "A" * 43})])
def test_a_stranger_with_an_answer_to_nothing_waits_for_nobody_and_writes_nothing(world, answer):
    client = anonymous_client(world.database, address=ORIGIN)
    other = sqlite3.connect(str(world.database.url.database), timeout=0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # somebody writes
    reply = client.post(STEP, data={"attempt": "x", "passkey": answer})
    other.execute("ROLLBACK")
    other.close()
    assert (reply.status_code, "The passkey was not right" in reply.text) == (401, True)
    assert counted(world, "sign_in.failed") == 0


@pytest.mark.requirement("SEC-29", "P11-200b", "P11-200i")
def test_a_signature_takes_the_passkey_of_its_owner_in_its_session_once(database):
    blind = Blind(database)
    browser = signed_in_client(database, blind.doctor, address=ORIGIN)
    other = signed_in_client(database, blind.manager, address=ORIGIN)
    device, theirs = adds(browser), adds(other)

    def asked(by: Browser) -> dict[str, Any]:
        reply = by.send("/account/passkeys/ask", {"csrf_token": by.form(ACCOUNT, "/account/language")["csrf_token"]})
        assert reply.status_code == 200
        options: dict[str, Any] = reply.json()
        return options

    def signs(**more: Any) -> Any:
        typed = {"reason": "overdose", "why": "Took twenty tablets", "asked_by": "Ward 3", "password": PASSWORD}
        return browser.post(FORM, {**typed, **more}, page=FORM)

    assert "Use your passkey" in signs().text
    wrong = [theirs.use(asked(browser)), device.use(asked(other)), device.use(asked(browser), verified=False)]
    for answer in wrong:
        reply = signs(passkey=answer)
        assert (reply.status_code, "The passkey was not right" in reply.text) == (422, True)
    assert blind.log("envelope.opened") == []
    done = signs(passkey=device.use(asked(browser)))
    assert (done.status_code, blind.label() in done.text) == (200, True)
    assert len(blind.log("envelope.opened")) == 1


def test_whoever_has_no_passkey_is_told_by_the_button(world):
    browser = world.coordinator(address=ORIGIN)
    token = browser.form(ACCOUNT, "/account/language")["csrf_token"]
    assert browser.send("/account/passkeys/ask", {"csrf_token": token}).status_code == 409
    assert browser.send("/account/passkeys/ask", {}).status_code == 403


@pytest.mark.requirement("SEC-29")
def test_over_rest_a_passkey_stands_in_nobodys_way_but_says_that_it_works_on_pages(database):
    blind = Blind(database)
    adds(signed_in_client(database, blind.doctor, address=ORIGIN))
    body = {"reason": "overdose", "why": "Took twenty tablets", "asked_by": "Ward 3", "password": PASSWORD}
    reply = api_client(database, blind.doctor).post("/participants/M-001/unblinding", body)
    assert reply.status_code == 422
    assert [(each["field"], each["message"][:38]) for each in reply.json()["errors"]] == [
        ("code", "Your second factor is a passkey, and w")
    ]


def test_a_reset_by_an_administrator_takes_every_passkey(world):
    actor = world.coordinators["north"]
    adds(world.coordinator(address=ORIGIN))
    administrator = world.browser("administrator", site_code=None)
    page = f"/people/{actor.person_id}"
    reset = {"why": "Bag stolen; seen in person.", "password": PASSWORD}
    assert administrator.post(f"{page}/second-factor/reset", reset, page=page).status_code == 303
    with world.database.reading() as session:
        assert session.execute(select(PASSKEY.c.id)).all() == []


def test_the_library_is_not_imported_before_somebody_uses_a_passkey():
    asked = "import sys; import app.main; sys.exit('fido2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
