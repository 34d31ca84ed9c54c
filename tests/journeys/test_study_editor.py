"""A pain form of fifteen questions, written in the browser by keyboard alone, looked at and loaded without any YAML."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from app.foundation.database import Database
from tests.journeys.conftest import serving, sideways_here, too_wide, violations_here
from tests.journeys.hand import Hand
from tests.web.browser import PASSWORD, signed_in_client
from tests.web.world import World

pytestmark = pytest.mark.browser

ENDS = {"min": "0", "max": "10", "low_label": "No pain", "high_label": "Worst pain"}
OFTEN = {"choices": "0 = Never\n1 = Sometimes\n2 = Often\n3 = Always"}
# Label, kind of answer, and what else is said of it. The first one is there already.
QUESTIONS: list[tuple[str, str, dict[str, str]]] = [
    ("Pain now", "scale", ENDS),
    (
        "Worst pain",
        "scale",
        {**ENDS, "checks": "soft | [worst_pain] >= [pain_now] | Less than the pain now. Look again."},
    ),
    ("Mark the pain on the line", "slider", {"low_label": "No pain", "high_label": "Worst pain"}),
    ("Any pain this week", "yes_no", {}),
    ("Days with pain", "integer", {"min": "0", "max": "7", "unit": "days", "shown_if": "[any_pain_this_week] = 'yes'"}),
    ("Disturbed sleep", "choice", OFTEN),
    ("Disturbed work", "choice", OFTEN),
    ("Disturbed leisure", "choice", OFTEN),
    ("Where", "choices", {"choices": "neck = Neck\nback = Back\nleg = Leg"}),
    ("Began on", "date", {"precision": "month"}),
    ("Wakes at", "time", {}),
    ("Weight", "number", {"decimals": "1", "expected_min": "40", "expected_max": "150", "unit": "kg"}),
    ("What helps", "text", {"multiline": "true", "max_length": "500"}),
    ("Picture of the scan", "file", {"max_mb": "5"}),
]


def written(hand: Hand, page: Page, place: int, label: str, kind: str, more: dict[str, str]) -> None:
    """Fill in one question; its label has the focus already when it is new."""

    def field(name: str) -> str:
        return f'[name="v.sections.0.items.{place}.{name}"]'

    hand.write(page.locator(field("label")), label)
    hand.select(page.locator(field("type")), kind)
    for name, text in more.items():
        if name in ("precision", "multiline"):
            hand.select(page.locator(field(name)), text)
        else:
            hand.write(page.locator(field(name)), text)


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.requirement("CON-10")
def test_a_form_is_written_looked_at_and_loaded_by_keyboard(browser: Browser, database: Database, tmp_path: Path):
    world = World(database)
    token = signed_in_client(database, world.person("administrator", site_code=None)).client.cookies["equipoise"]
    with serving(database, tmp_path) as address:
        context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 844}, bypass_csp=True)
        context.add_cookies([{"name": "equipoise", "value": token, "url": address}])
        page = context.new_page()
        hand = Hand(page, keyboard=True)
        page.goto("/mini/study/drafts")
        hand.write(page.get_by_label("Name"), "With a pain form")
        hand.choose(page.locator('[name=start][value="version:1"]'))
        hand.press(page.get_by_role("button", name="Make a draft"))
        page.wait_for_url("**/drafts/1?*")
        hand.press(page.get_by_role("link", name="Add an instrument"))
        hand.write(page.get_by_label("Label"), "Pain diary")
        hand.choose(page.locator("[name=visits]").first)
        hand.press(page.get_by_role("button", name="Add it"))
        page.wait_for_url("**/edit/form.pain_diary?*")
        for place, (label, kind, more) in enumerate(QUESTIONS):
            if place:
                hand.press(page.locator(f'[value="after:sections.0.items.{place - 1}"]'))
                page.wait_for_url(f"**at=sections.0.items.{place}*")
                focused = f"document.activeElement.name === 'v.sections.0.items.{place}.label'"
                page.wait_for_function(focused)
                box = page.locator(":focus").bounding_box()
                assert box is not None
                assert 0 < box["y"] < 800, "the new question is in view"
            written(hand, page, place, label, kind, more)
        hand.press(page.locator('[value="score:sections.0.items"]'))
        page.wait_for_url("**at=sections.0.items.14*")
        hand.write(page.locator('[name="v.sections.0.items.14.label"]'), "Disturbance")
        calculation = page.locator('[name="v.sections.0.items.14.calculation"]')
        assert "[disturbed_sleep], [disturbed_work], [disturbed_leisure]" in calculation.input_value()
        hand.write(calculation, "prorated_sum(2, [disturbed_sleep], [disturbed_work], [disturbed_leisure])")
        with page.expect_navigation():
            hand.press(page.get_by_role("button", name="Save", exact=True).last)
        assert not page.get_by_text("What is to be mended").count(), page.locator("#main").inner_text()[:2000]

        for width, scheme in ((1280, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert not violations_here(page)
            assert not too_wide(page)
            assert not [each for each in sideways_here(page) if each]
        page.set_viewport_size({"width": 1280, "height": 844})
        page.reload()  # to look at it, everything was unfolded
        hand.press(page.get_by_role("button", name="Save and look at it"))
        page.wait_for_url("**/preview/pain_diary*")
        assert page.locator("[data-item]").count() == len(QUESTIONS) + 1
        hand.rate("pain_now", "4")
        hand.rate("worst_pain", "2")
        page.get_by_text("Less than the pain now. Look again.").wait_for()

        page.goto("/mini/study/drafts/1/edit/general")
        hand.write(page.locator('[name="v.version"]'), "2")
        with page.expect_navigation():
            hand.press(page.get_by_role("button", name="Save", exact=True).last)
        page.goto("/mini/study/drafts/1/load")
        hand.write(page.get_by_label("Your password again"), PASSWORD)
        hand.press(page.get_by_role("button", name="Load this draft"))
        page.wait_for_url("**done=study_draft_loaded*")
        page.goto("/mini/study")
        assert "Pain diary" in page.locator("#main").inner_text()
        context.close()
