"""Kinds of questions in a real browser: a line marked by keys, a signature drawn, a table, one question a screen."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from app.foundation.database import Database
from tests.journeys.conftest import serving, too_wide, violations_here
from tests.web.browser import signed_in_client
from tests.web.test_items import KINDS, VISITS
from tests.web.test_links import ANNA, given
from tests.web.world import World

pytestmark = pytest.mark.browser
FORM = "/mini/participants/M-001/visits/baseline/entries/disability"
FOCUSED = """() => {
  const one = document.activeElement;
  const box = (one.labels?.[0] && one.getBoundingClientRect().width < 2 ? one.labels[0] : one).getBoundingClientRect();
  const bar = document.querySelector('.form-bar').getBoundingClientRect();
  const under = box.top >= bar.top && box.bottom <= bar.bottom && !one.closest('.form-bar');
  const out = box.bottom <= 0 || box.top >= innerHeight;
  return `${under || out ? 'hidden' : 'seen'} ${one.name || one.id || one.textContent}`;
}"""


def drawn(page: Page) -> list[list[int]]:
    """A signature, drawn with the mouse."""
    sheet = page.locator("canvas")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 40)
    page.mouse.down()
    for step in range(12):
        page.mouse.move(box["x"] + 20 + step * 10, box["y"] + (30 if step % 2 else 70))
    page.mouse.up()
    strokes: list[list[int]] = json.loads(page.locator("[name$=strokes]").input_value())
    return strokes


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.requirement("EMA-7")
def test_by_keys_by_pen_and_on_a_telephone(browser: Browser, database: Database, tmp_path: Path):
    forms = [
        {**one, "respondent": "participant", "presentation": "screen"} if one["code"] == "disability" else one
        for one in KINDS
    ]
    world = World(database, instruments=forms, visits=VISITS)
    world.consented()
    world.screened(personal=ANNA)
    token = signed_in_client(database, world.coordinators["north"]).client.cookies["equipoise"]
    link = given(world, "questions:baseline")
    with serving(database, tmp_path) as address:
        for width, scheme in ((1280, "light"), (390, "dark")):
            context = browser.new_context(
                base_url=address,
                viewport={"width": width, "height": 844},
                color_scheme=scheme,  # type: ignore[arg-type]
                bypass_csp=True,
            )
            context.add_cookies([{"name": "equipoise", "value": token, "url": address}])
            page = context.new_page()
            page.goto(FORM)
            line, kept = page.locator("[type=range]"), page.locator("[name=vas]")
            line.focus()
            for key, value in (("Delete", ""), ("ArrowRight", "51"), ("Delete", ""), (" ", "50"), ("ArrowLeft", "49")):
                page.keyboard.press(key)
                assert kept.input_value() == value, key
            assert len(drawn(page)[0]) > 10
            # A table where there is room for one; else each row is a question, with its answers in words.
            assert page.locator(".matrix-head").is_visible() == (width == 1280)
            assert not violations_here(page)
            chosen, said = page.locator("#item-report"), page.locator("#item-report-error")
            chosen.set_input_files({"name": "a.pdf", "mimeType": "application/pdf", "buffer": bytes(1_000_001)})
            assert "larger than 1 MB" in said.inner_text()
            assert chosen.input_value() == "", "it is not even sent"
            chosen.set_input_files({"name": "a.pdf", "mimeType": "application/pdf", "buffer": bytes(1_000_000)})
            assert (said.is_hidden(), chosen.input_value() != "") == (True, True)
            page.goto("/mini/participants/M-002/consent")
            assert drawn(page)
            assert not violations_here(page)
            phone = browser.new_context(base_url=address, viewport={"width": width, "height": 844}, bypass_csp=True)
            page = phone.new_page()
            page.goto(link)
            for item in ("vas", "report", "signed", "bend"):
                page.goto(f"{link}?at=disability.{item}")
                assert not violations_here(page)
                assert not too_wide(page)
            page.goto(f"{link}?at=disability.vas")
            page.locator("[type=range]").focus()
            page.keyboard.press("End")
            page.keyboard.press("Enter")
            page.keyboard.press("Enter")
            page.wait_for_url("**at=disability.began")
            page.get_by_role("button", name="Back").click()
            page.wait_for_url("**at=disability.vas")
            assert page.locator("[name=vas]").input_value() == "100"
            phone.close()
            context.close()
        hidden_at_400_percent(browser, address, token)


def hidden_at_400_percent(browser: Browser, address: str, token: str) -> None:
    """A window of 1280 by 1024 at 400 %: nothing that has the focus is wholly under something else, or outside."""
    context = browser.new_context(base_url=address, viewport={"width": 320, "height": 256})
    context.add_cookies([{"name": "equipoise", "value": token, "url": address}])
    page = context.new_page()
    page.goto(FORM)
    assert not too_wide(page)
    page.locator("#entry input:not([type=hidden])").first.focus()
    seen: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))
    assert len(set(seen)) > 10
    assert [each for each in seen if each.startswith("hidden")] == []
    context.close()
