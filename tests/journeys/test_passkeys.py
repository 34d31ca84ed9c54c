"""A passkey of a real browser: added, asked for at the sign-in and for a signature, and removed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import CDPSession, Page, expect
from sqlalchemy import select

from app.foundation.database import Database
from app.people.reads import PASSKEY
from tests.journeys.conftest import PASSWORD, give_passwords, serious_violations, serving
from tests.web.test_unblinding import FORM, Blind

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("kind", ["sqlite"])]
STUDY = "/mini/participants/M-001"


@pytest.fixture
def address(database: Database, tmp_path: Path) -> Iterator[str]:
    """Browsers use passkeys at a host with a name."""
    with serving(database, tmp_path, "localhost") as found:
        yield found


@pytest.fixture
def page(browser: Chromium, address: str) -> Iterator[Page]:
    window = browser.new_context(base_url=address)
    page = window.new_page()
    page.set_default_timeout(10_000)
    problems: list[str] = []
    page.problems = problems  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
    yield page
    window.close()


def device(page: Page, **more: Any) -> tuple[CDPSession, str]:
    """A device with a finger on it, as the browser sees it."""
    tools = page.context.new_cdp_session(page)
    tools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
        **more,
    }
    return tools, tools.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]


def begins(page: Page, username: str, path: str = "/account") -> None:
    page.goto(f"/sign-in?next={path}")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def adds(page: Page, name: str) -> None:
    page.get_by_label("Name of the passkey").fill(name)
    page.locator("#add-password").fill(PASSWORD)
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_role("button", name="Make the passkey").click()


@pytest.mark.requirement("SEC-29", "SEC-27", "P11-200b", "P11-200i")
def test_a_passkey_is_added_signs_in_signs_and_is_removed(database: Database, page: Page) -> None:
    blind = Blind(database, second_factor="required")
    give_passwords(database)
    doctor = blind.doctor.username
    device(page)
    begins(page, doctor, STUDY)
    expect(page.get_by_text("This study asks for a second factor")).to_be_visible()
    assert serious_violations(page) == []
    adds(page, "Work laptop")
    expect(page.get_by_text("The passkey is added")).to_be_visible()
    expect(page.get_by_role("row", name="Work laptop")).to_contain_text("never")
    assert page.goto(STUDY).status == 200  # type: ignore[union-attr] # the device has just seen its owner

    page.context.clear_cookies()
    begins(page, doctor, STUDY)
    assert page.goto(STUDY).url.endswith("/sign-in?next=%2Fmini%2Fparticipants%2FM-001")  # type: ignore[union-attr]
    begins(page, doctor, STUDY)
    expect(page.get_by_text("Use your passkey. It is your second factor.")).to_be_visible()
    assert page.get_by_label("Code").count() == 0
    page.get_by_role("button", name="Use your passkey").click()
    page.wait_for_url(f"**{STUDY}")

    page.goto(FORM)
    page.get_by_label("Overdose").check()
    page.get_by_label("Who asked for it").fill("The emergency department")
    page.get_by_label("What happened").fill("Took twenty tablets")
    page.get_by_label("Your password again").fill(PASSWORD)
    page.get_by_role("button", name="Show the arm of M-001").click()
    expect(page.get_by_role("alert")).to_contain_text("Use your passkey. It is your second factor.")
    page.get_by_label("Your password again").fill(PASSWORD)
    page.get_by_role("button", name="Use your passkey").click()
    expect(page.locator(".the-arm strong")).to_have_text(blind.label())

    page.goto("/account")
    assert "never" not in page.get_by_role("row", name="Work laptop").inner_text()
    page.locator("#passkey-password").fill(PASSWORD)
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_text("The passkey is removed")).to_be_visible()
    with database.reading() as session:
        assert session.execute(select(PASSKEY.c.id)).all() == []
    assert page.problems == []  # type: ignore[attr-defined]


@pytest.mark.requirement("SEC-29", "P11-200b")
def test_a_device_that_does_not_see_its_owner_adds_nothing_and_signs_nobody_in(database: Database, page: Page) -> None:
    blind = Blind(database)
    give_passwords(database)
    tools, name = device(page)
    begins(page, blind.doctor.username)
    tools.send("WebAuthn.setUserVerified", {"authenticatorId": name, "isUserVerified": False})
    adds(page, "Work laptop")
    expect(page.get_by_text("No passkey came. Press the button to try again.")).to_be_visible()
    tools.send("WebAuthn.setUserVerified", {"authenticatorId": name, "isUserVerified": True})
    page.get_by_role("button", name="Make the passkey").click()
    expect(page.get_by_text("The passkey is added")).to_be_visible()
    page.context.clear_cookies()
    begins(page, blind.doctor.username)
    tools.send("WebAuthn.setUserVerified", {"authenticatorId": name, "isUserVerified": False})
    page.get_by_role("button", name="Use your passkey").click()
    expect(page.get_by_text("No passkey came. Press the button to try again.")).to_be_visible()
    assert "/sign-in" in page.url
