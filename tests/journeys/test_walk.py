"""The walk of one participant, in a real browser: screening, consent, baseline, randomisation, week 18, export."""

import csv
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.audit.verify import verify
from app.foundation.database import Database
from app.randomisation import actions as randomisation
from tests.factories import mini_study, person
from tests.journeys.conftest import (
    PASSWORD,
    give_passwords,
    serious_violations,
    sideways_here,
    too_wide,
    violations_here,
)

TEAM = ("coordinator", "assessor", "clinician", "investigator")
pytestmark = pytest.mark.browser


def _prepare(database: Database) -> None:
    now = datetime.now(UTC) - timedelta(days=1)
    with database.writing() as session:
        study = mini_study(session)
        for role in TEAM:
            person(session, study, role, username=role)
        person(session, study, "data_manager", site_code=None, username="manager")
        person(session, None, "administrator", username="administrator")
        by = person(session, study, "statistician", site_code=None, username="statistician")
        drawn = randomisation.draw(
            session, study, method="permuted_blocks", block_sizes=[4], slots_per_stratum=8, by=by, now=now
        )
        assert drawn.id is not None
        randomisation.seal(session, study, drawn.id, by=by, now=now)
    give_passwords(database)


def _choose(page: Page, group: str, answer: str) -> None:
    page.locator(f'input[name="{group}"][value="{answer}"]').check(force=True)


def _screen(page: Page, *, age: int = 46) -> str:
    page.goto("/mini/participants/new")
    page.locator('[name="age"]').fill(str(age))
    _choose(page, "pain_screen", "6")
    _choose(page, "surgery", "no")
    page.locator('[name="personal.given_name"]').fill("Kiri")
    page.locator('[name="personal.family_name"]').fill("Walker")
    page.get_by_role("button", name="Screen this person").click()
    page.wait_for_url(re.compile(r"/mini/participants/M-\d+"))
    found = re.search(r"M-\d+", page.url)
    assert found
    return found[0]


def test_a_participant_from_screening_to_export(
    database: Database, visit_as: Callable[..., Page], tmp_path: Path
) -> None:
    _prepare(database)
    coordinator = visit_as("coordinator")
    expect(coordinator.get_by_text("Blinded").first).to_be_visible()
    code = _screen(coordinator)
    at = f"/mini/participants/{code}"

    coordinator.goto(f"{at}/randomise")
    expect(coordinator.get_by_text("steps are missing")).to_be_visible()

    coordinator.goto(f"{at}/consent")
    coordinator.locator('[name="signature"]').fill("Kiri Walker")
    coordinator.locator('[name="password"]').fill(PASSWORD)
    coordinator.get_by_role("button", name="Sign and complete consent").click()
    coordinator.wait_for_url(re.compile(rf"{at}(\?|$)"))

    coordinator.goto(f"{at}/visits/baseline/entries/pain")
    coordinator.locator('[name="pain_days"]').fill("7")
    coordinator.locator("body").click()
    _choose(coordinator, "pain_nrs", "6")
    coordinator.get_by_role("button", name="Save", exact=True).click()
    coordinator.wait_for_url(re.compile(r"done=saved"))

    coordinator.goto(f"{at}/randomise")
    expect(coordinator.get_by_text("Everything is in place")).to_be_visible()
    assert not serious_violations(coordinator)
    coordinator.locator('[name="password"]').fill(PASSWORD)
    coordinator.get_by_role("button", name=f"Randomise {code}").dblclick()
    expect(coordinator.get_by_role("heading", level=1)).to_have_text("Randomised. Allocation 0001.")
    told = coordinator.content()
    assert "Zephyrine" not in told
    assert "Placebex" not in told

    assessor = visit_as("assessor")
    assessor.goto(f"{at}/visits/week18/entries/pain")
    expect(assessor.get_by_text("Check that it is the right one.")).to_be_visible()  # it opens in months
    assert not serious_violations(assessor)
    held_on = assessor.locator('[name="visit-held-on"]')
    held_on.fill(held_on.get_attribute("max") or "")
    assessor.locator('[name="visit-reason"]').fill("Moves abroad next week")
    _choose(assessor, "pain_nrs", "3")
    assessor.locator('[name="pain_days"]').fill("9")
    assessor.get_by_role("button", name="Save", exact=True).click()
    expect(assessor.locator("[data-error-summary]")).to_contain_text("7")
    expect(assessor.locator('[name="pain_days"]')).to_have_value("9")
    assessor.locator('[name="pain_days"]').fill("4")
    assessor.get_by_role("button", name="Save", exact=True).click()
    assessor.wait_for_url(re.compile(r"done=saved"))

    assessor.goto(f"{at}/visits/week18/entries/disability")
    for statement in ("1", "4", "7"):
        assessor.locator(f'[name="dis_items"][value="{statement}"]').check(force=True)
    assessor.locator('[name="dis_weight"]').fill("81.5")
    assessor.get_by_role("button", name="Save", exact=True).click()
    assessor.wait_for_url(re.compile(r"done=saved"))
    assessor.goto(f"{at}/visits/week18/entries/disability")
    expect(assessor.get_by_role("status", name="Score")).to_have_text("3")

    assessor.goto(f"{at}/visits/week18/entries/pain")
    assessor.locator('[name="pain_days"]').fill("5")
    assessor.locator('[name="form-why"]').fill("Misread the paper")
    assessor.get_by_role("button", name="Save", exact=True).click()
    assessor.wait_for_url(re.compile(r"done=saved"))
    assessor.goto(f"{at}/visits/week18/entries/pain/history/pain_days")
    expect(assessor.get_by_text("Misread the paper")).to_be_visible()

    assessor.goto(f"{at}/visits/week18/entries/pain/sign")
    _choose(assessor, "meaning", "authorship")
    assessor.locator('[name="password"]').fill(PASSWORD)
    assessor.get_by_role("button", name=re.compile("^Sign as")).click()
    assessor.wait_for_url(re.compile(r"done=signed"))

    clinician = visit_as("clinician")
    clinician.goto("/mini/treatment")
    expect(clinician.get_by_text("Unblinded").first).to_be_visible()
    shown = clinician.content()
    assert ("Zephyrine" in shown) != ("Placebex" in shown)

    manager = visit_as("manager")
    manager.goto("/mini/exports?table=entries")
    with manager.expect_download() as download:
        manager.get_by_role("link", name=re.compile("Download")).first.click()
    download.value.save_as(tmp_path / "entries.csv")
    rows = list(csv.DictReader((tmp_path / "entries.csv").open(encoding="utf-8")))
    found = {(row["visit"], row["item"]): row["value"] for row in rows if row["participant"] == code}
    assert found["week18", "pain_nrs"] == "3"
    assert found["week18", "pain_days"] == "5"
    assert found["week18", "dis_score"] == "3"
    assert "active" not in (tmp_path / "entries.csv").read_text()

    manager.goto("/mini/audit")
    manager.get_by_role("button", name=re.compile("Verify")).first.click()
    expect(manager.get_by_text(re.compile("intact|verified", re.I)).first).to_be_visible()
    for page in (coordinator, clinician, manager):
        assert not page.problems, page.problems  # type: ignore[attr-defined]
    with database.reading() as session:
        assert verify(session, "mini").intact


PAGES = {
    "coordinator": (
        "today",
        "participants",
        "participants/new",
        "participants/{code}",
        "participants/{code}/consent",
        "participants/{code}/withdraw",
        "participants/{code}/identity",
        "participants/{code}/randomise",
        "participants/{code}/visits/baseline",
        "participants/{code}/visits/baseline/entries/pain",
        "study",
        "study/roles",
        "calendar",
        "calendar?view=month",
        "calendar/feeds",
        "participants/{code}/appointments/new",
        "participants/{code}/reminders",
        "participants/{code}/links",
        "participants/{code}/adverse-events/new",
        "participants/{code}/deviations/new",
        "participants/{code}/contacts",
        "participants/{code}/care",
        "participants/{code}/lost",
        "participants/{code}/casebook",
        "messages",
        "reconsent",
        "queries",
        "safety",
        "safety/screening",
    ),
    "assessor": ("today", "participants/{code}/visits/baseline/entries/pain"),
    "clinician": ("treatment", "participants"),
    "investigator": ("participants/{code}", "participants/{code}/death", "safety/deviations"),
    "manager": ("exports", "audit", "participants", "queries", "study/locks"),
    "statistician": ("sequence", "sequence/draw", "sequence/design", "sequence/downtime", "sequence/escrow"),
}


def test_no_page_has_a_serious_violation_or_scrolls_sideways_wide_or_narrow(templates, tmp_path: Path, browser) -> None:
    from app.foundation.database import Database as Opened
    from tests.conftest import KEYS
    from tests.journeys.conftest import serving

    path = tmp_path / "pages.db"
    path.write_bytes(Path(templates("sqlite").url.database).read_bytes())
    database = Opened(f"sqlite:///{path}", KEYS)
    _prepare(database)
    with serving(database, tmp_path) as address:
        context = browser.new_context(base_url=address, bypass_csp=True)
        page, code, scrolled = context.new_page(), "", 0
        page.goto("/sign-in")
        _both_ways(page)
        for username, paths in PAGES.items():
            page.context.clear_cookies()
            page.goto("/sign-in")
            page.get_by_label("Username").fill(username)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(lambda url: "/sign-in" not in url)
            if not code:
                code = _screen(page)
                _consent(page, code)
            for each in ("/account", *(f"/mini/{part.format(code=code)}" for part in paths)):
                reply = page.goto(each)
                assert reply is not None
                assert reply.status == 200, each
                scrolled += _both_ways(page)
        context.close()
    database.dispose()
    assert scrolled, "wide tables are there to be looked at"


DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def _both_ways(page: Page) -> int:
    """Look at a page as it is on a desk by day, and on a telephone by night; gives how many tables scroll."""
    scrolled = 0
    for width, scheme in ((390, "dark"), (1280, "light")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.evaluate(DRAWN)  # what follows the size of the window has seen it by then
        assert not violations_here(page)
        assert not (wide := too_wide(page)), f"{page.url} is {wide} px too wide at {width} px"
        found = sideways_here(page)
        assert not any(found), (page.url, width, found)
        scrolled += len(found)
    return scrolled


def _consent(page: Page, code: str) -> None:
    page.goto(f"/mini/participants/{code}/consent")
    page.locator('[name="signature"]').fill("Kiri Walker")
    page.locator('[name="password"]').fill(PASSWORD)
    page.get_by_role("button", name="Sign and complete consent").click()
    page.wait_for_url(re.compile(rf"/mini/participants/{code}(\?|$)"))
