"""The pages of recovery codes: made on the account page and shown once, used at the sign-in by who lost the device."""

import re
from datetime import timedelta

import pyotp
import pytest
import time_machine
from bs4 import BeautifulSoup

from app.foundation import clock
from app.people.actions import make_recovery_codes
from tests.people.authenticator import ORIGIN
from tests.web.browser import PASSWORD, Browser, anonymous_client, form_on
from tests.web.test_languages import GERMAN
from tests.web.test_passkeys import ACCOUNT, adds, counted, signs_in
from tests.web.world import World

MAKE = "/account/recovery-codes"
CODE = re.compile(r"(?:[0-9A-Z]{4}-){5}[0-9A-Z]{4}")


@pytest.fixture(autouse=True)
def _one_moment():
    """A code of an app is good for half a minute: it must not pass between asking and typing."""
    with time_machine.travel(clock.now(), tick=False):
        yield


@pytest.fixture
def world(database):
    return World(database)


def with_app(browser: Browser) -> pyotp.TOTP:
    """Set up an authenticator app as a person does."""
    asked = browser.post("/account/second-factor", {"password": PASSWORD}, page=ACCOUNT)
    secret = BeautifulSoup(asked.text, "html.parser").select_one("p.code code")
    assert secret is not None
    app = pyotp.TOTP(secret.get_text())
    fields = {**form_on(asked.text, f"{ACCOUNT}/second-factor/confirm"), "code": app.at(clock.now())}
    assert browser.send("/account/second-factor/confirm", fields).status_code == 303
    return app


@pytest.mark.requirement("SEC-30", "SEC-35", "P11-300c")
def test_they_are_made_with_password_and_code_shown_once_and_one_signs_in(world):
    browser = world.coordinator()
    assert 'id="recovery-codes"' not in browser.get(ACCOUNT).text  # nothing to stand in for
    app = with_app(browser)
    for wrong in ({"password": PASSWORD}, {"password": PASSWORD, "code": "AAAA"}, {"password": "wrong"}):
        refused = browser.post(MAKE, wrong, page=ACCOUNT)
        assert (refused.status_code, CODE.findall(refused.text)) == (422, [])
    made = browser.post(MAKE, {"password": PASSWORD, "code": app.at(clock.now() + timedelta(seconds=30))}, page=ACCOUNT)
    codes = CODE.findall(made.text)
    assert len(set(codes)) == 10
    again = browser.get(ACCOUNT)
    assert not CODE.findall(again.text)
    assert "10 of 10 are left" in " ".join(BeautifulSoup(again.text, "html.parser").get_text(" ").split())
    client = anonymous_client(world.database)
    assert signs_in(client, browser.actor.username).status_code == 401
    entered = signs_in(client, browser.actor.username, recovery_code=codes[0].lower())
    assert entered.status_code == 303
    assert signs_in(anonymous_client(world.database), browser.actor.username, recovery_code=codes[0]).status_code == 401
    assert counted(world, "recovery_code.used") == 1
    for code in codes[1:8]:
        assert signs_in(anonymous_client(world.database), browser.actor.username, recovery_code=code).status_code == 303
    shown = " ".join(BeautifulSoup(browser.get(ACCOUNT).text, "html.parser").get_text(" ").split())
    assert "2 of 10 are left" in shown
    assert "Make new ones before they run out." in shown
    german = browser.get(ACCOUNT, headers=GERMAN).text
    assert "2 von 10 sind noch da" in german
    off = {"password": PASSWORD, "recovery_code": codes[8]}
    assert browser.post("/account/second-factor/remove", off, page=ACCOUNT).headers["location"].endswith("_off")
    assert counted(world, "recovery_codes.removed") == 1


def test_who_has_passkeys_alone_is_offered_a_code_once_there_are_some(world):
    browser = world.coordinator(address=ORIGIN)
    adds(browser)
    client = anonymous_client(world.database, address=ORIGIN)
    name = browser.actor.username
    assert 'name="recovery_code"' not in signs_in(client, name).text
    with world.database.writing() as session:
        code = make_recovery_codes(session, by=browser.actor, now=clock.now())[0]
    assert 'name="recovery_code"' in signs_in(client, name).text
    assert signs_in(client, name, recovery_code=code).status_code == 303
