"""A power cut, in a real browser: a pack is made and saved, its file opens slips by itself, and they come back."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

import app.paper
from app.foundation.database import Database
from tests.blinding.trial import arm_of
from tests.journeys.conftest import PASSWORD, give_passwords, serious_violations, too_wide
from tests.web.test_downtime import PACKS
from tests.web.test_randomisation import sealed
from tests.web.world import World

LABELS = {"active": "Zephyrine training", "sham": "Placebex device"}
TELEPHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}}


def opens(page: Page, number: str, code: str, passphrase: str) -> None:
    page.get_by_label("Number of the slip").fill(number)
    page.get_by_label("Code on the slip").fill(code)
    page.get_by_label("Passphrase").fill(passphrase)
    page.get_by_role("button", name="Open the arm").click()


@pytest.mark.browser
@pytest.mark.requirement("CONC-3", "E9-3", "AX11-16", "E6-18", "REL-18")
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_site_goes_on_randomising_without_the_server(
    database: Database,
    browser: Browser,
    visit_as: Callable[..., Page],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    world = World(database)
    sealed(world, slots=12)
    people = [world.filled() for _ in range(2)]
    statistician = world.person("statistician", site_code=None)
    give_passwords(database)
    printed: list[tuple[str, str, str]] = []
    papers = app.paper.papers

    def kept(content: Any, slips: Any, *args: Any, **told: Any) -> Any:
        printed.extend(slips)
        return papers(content, slips, *args, **told)

    monkeypatch.setattr("app.web.downtime.papers", kept)
    page = visit_as(statistician.username)
    page.goto("/mini/sequence")
    page.get_by_role("link", name="Downtime").click()
    page.locator("#site").select_option("north")
    page.get_by_label("Slots in each stratum").fill("3")
    page.get_by_label("Why does the site need it?").fill("Power cuts are announced")
    page.get_by_label("Your password again").fill(PASSWORD)
    page.get_by_role("button", name="Make the pack").click()
    expect(page.get_by_text("3 slips, shown once.")).to_be_visible()
    passphrase = page.locator("dd .code").inner_text()
    saved = {}
    for words in ("File that opens slips", "Letter with the passphrase", "Slips to print"):
        with page.expect_download() as download:
            page.get_by_role("link", name=words).click()
        saved[download.value.suggested_filename] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[download.value.suggested_filename])
    assert page.problems == []  # type: ignore[attr-defined]
    assert saved["mini-downtime-1-slips.pdf"].read_bytes().startswith(b"%PDF")

    # The server is away.
    context = browser.new_context(offline=True, **TELEPHONE)
    away = context.new_page()
    problems: list[str] = []
    away.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    away.on("pageerror", lambda error: problems.append(str(error)))
    away.goto(saved["mini-downtime-1.html"].as_uri())
    assert not too_wide(away)
    expect(away.get_by_text("The next slip here is 1-01.")).to_be_visible()
    arm, problem = away.locator("#arm"), away.get_by_role("alert")
    opens(away, "01", printed[1][2], passphrase)  # the code of another slip
    expect(problem).to_have_text(re.compile("This does not open"))
    opens(away, "01", printed[0][2], "0000-0000-0000-0000-0000")
    expect(problem).to_have_text(re.compile("This does not open"))
    opens(away, "03", printed[2][2], passphrase)
    expect(problem).to_have_text(re.compile("This is not the next slip"))
    opens(away, "9", printed[2][2], passphrase)
    expect(problem).to_have_text(re.compile("no slip with this number"))
    expect(arm).to_be_hidden()
    found = []
    for number in ("01", "02"):
        expect(away.get_by_label("Number of the slip")).not_to_be_empty()
        opens(away, number, printed[int(number) - 1][2].lower().replace("0", "o"), passphrase.lower())
        expect(arm).to_be_visible()
        found.append(arm.inner_text())
        away.get_by_role("button", name="Hide the arm").click()
        expect(arm).to_be_hidden()
    expect(away.get_by_text("The next slip here is 1-03.")).to_be_visible()
    away.reload()
    expect(away.get_by_text("The next slip here is 1-03.")).to_be_visible()
    assert problems == []
    context.close()

    # And back.
    coordinator = visit_as(world.coordinators["north"].username, **TELEPHONE)
    for at, person in enumerate(people, start=1):
        coordinator.goto(f"/mini/participants/{person.code}/randomise")
        coordinator.get_by_role("link", name="Randomised on paper").click()
        expect(coordinator.get_by_label("Number of the slip")).to_be_visible()
        if at == 1:
            assert not too_wide(coordinator)
            assert serious_violations(coordinator) == []
        coordinator.get_by_label("Number of the slip").fill(f"1-0{at}")
        day, time = coordinator.evaluate(
            "zone => new Date().toLocaleString('sv', {timeZone: zone}).slice(0, 16).split(' ')",
            next(each.timezone for each in world.study.definition.sites if each.code == "north"),
        )
        coordinator.get_by_label("Day").fill(day)
        coordinator.get_by_label("Time", exact=True).fill(time)
        coordinator.get_by_label("Who took the slip").fill("Nora Nurse")
        coordinator.get_by_label("Your password again").fill(PASSWORD)
        coordinator.get_by_role("button", name="Enter the slip").click()
        expect(coordinator.get_by_text(f"{at:04d}").first).to_be_visible()
    with database.reading() as session:
        assert [LABELS[arm_of(session, person.id or 0)] for person in people] == found

    page.goto(f"{PACKS}/1")
    assert serious_violations(page) == []
    page.get_by_text("Close the pack", exact=True).click()
    page.get_by_label("Why is it closed").fill("The power is back; slip 1-03 destroyed")
    page.get_by_label("Your password again").fill(PASSWORD)
    page.get_by_role("button", name="Close pack 1").click()
    expect(page.get_by_text("Closed. Every slip that was left is void")).to_be_visible()
