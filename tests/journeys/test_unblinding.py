"""An investigator with a telephone at night: the arm in one page and one form, and never again."""

import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from playwright.sync_api import Error, Page, expect

from app.foundation.database import Database
from tests.journeys.conftest import PASSWORD, give_passwords, serious_violations, too_wide
from tests.web.test_unblinding import FORM, REPORT, Blind

TELEPHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
ARM = ".the-arm"


@pytest.mark.browser
@pytest.mark.requirement("E6-6", "SPI-24c")
@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("scripts", [True, False])
def test_the_arm_is_seen_once_on_a_telephone(database: Database, visit_as: Callable[..., Page], scripts: bool):
    blind = Blind(database)
    give_passwords(database)
    page = visit_as(blind.doctor.username, java_script_enabled=scripts, **TELEPHONE)
    page.goto("/mini/participants/M-001")
    page.get_by_role("link", name="Break the blind in an emergency").click()
    expect(page).to_have_url(re.compile(FORM))
    if scripts:
        assert not too_wide(page)
        assert serious_violations(page) == []
    page.get_by_label("Overdose").check()
    page.get_by_label("Who asked for it").fill("The emergency department")
    page.get_by_label("What happened").fill("Took twenty tablets")
    page.get_by_label("Your password again").fill(PASSWORD)
    page.get_by_role("button", name="Show the arm of M-001").click()
    expect(page.locator(f"{ARM} strong")).to_have_text(blind.label())
    if scripts:
        assert not too_wide(page)
    page.get_by_role("link", name="Leave, and hide the arm for good").click()
    expect(page).to_have_url(re.compile(f"{REPORT}/[0-9]+"))
    expect(page.locator(ARM)).to_have_count(0)
    with suppress(Error):  # a browser that keeps no such page asks whether the form is to be sent again
        page.go_back()
    expect(page.locator(ARM)).to_have_count(0)
    expect(page.get_by_text(blind.label())).to_have_count(0)
    assert len(blind.log("envelope.opened")) == len(blind.rows()) == 1


@pytest.mark.browser
@pytest.mark.requirement("E6-6", "SPI-24c")
@pytest.mark.parametrize("kind", ["sqlite"])
def test_reloading_the_page_with_the_arm_shows_what_was_written_down(database: Database, visit_as: Callable[..., Page]):
    blind = Blind(database)
    give_passwords(database)
    page = visit_as(blind.doctor.username)
    page.goto(FORM)
    page.get_by_label("Overdose").check()
    page.get_by_label("Who asked for it").fill("The emergency department")
    page.get_by_label("What happened").fill("Took twenty tablets")
    page.get_by_label("Your password again").fill(PASSWORD)
    page.get_by_role("button", name="Show the arm of M-001").click()
    expect(page.locator(f"{ARM} strong")).to_have_text(blind.label())
    page.reload()
    expect(page).to_have_url(re.compile(f"{REPORT}/[0-9]+"))
    expect(page.get_by_text("It is kept nowhere and is not shown again")).to_be_visible()
    expect(page.get_by_text(blind.label())).to_have_count(0)
    assert len(blind.log("envelope.opened")) == len(blind.rows()) == 1
