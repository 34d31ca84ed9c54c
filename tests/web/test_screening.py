"""The pages of a pre-screen that is kept: read with its history, corrected with a reason, and what follows said."""

from collections.abc import Iterator
from typing import Any

import pytest
from bs4 import BeautifulSoup

from app.capture.locks.actions import close_data
from app.capture.locks.rules import Kind
from app.foundation import clock
from app.participants.corrections.reads import screening_of
from app.participants.reads import ScreeningResult
from app.people.permissions import Role
from tests.web.test_unblinding import Blind, said
from tests.web.world import ELIGIBLE

PAGE = "/mini/participants/M-001"
FORM = f"{PAGE}/screening/correction"
WHY = "Read from the passport"


@pytest.fixture
def blind(begun: Any, kind: str) -> Iterator[Blind]:
    """M-001 is randomised, M-002 is not."""
    with begun(kind, Blind) as blind:
        yield blind


def typed(**changed: str) -> dict[str, str]:
    names = {name: value for name, value in changed.items() if name in ELIGIBLE}
    ours = {f"screening.{name}": value for name, value in changed.items() if name not in ELIGIBLE}
    return {**ELIGIBLE, **names, "screening.version": "1", "screening.why": WHY, **ours}


def stands(blind: Blind, code: str = "M-001") -> ScreeningResult:
    participant = blind.world.found(code)
    assert participant.id is not None
    with blind.database.reading() as session:
        found, _ = screening_of(session, participant.id)
    assert found is not None
    return found


@pytest.mark.requirement("EMA-5", "AX11-8")
def test_the_form_has_what_stands_and_a_correction_is_marked(blind: Blind) -> None:
    browser = blind.world.coordinator()
    assert browser.soup(PAGE).select_one(f"a[href='{FORM}']") is not None
    form = browser.soup(FORM)
    age = form.select_one("input[name=age]")
    assert age is not None
    assert age["value"] == "44"
    assert form.select_one("input[name='screening.version']")["value"] == "1"  # type: ignore[index]
    assert form.select_one("[name='screening.failure_reason']") is None
    reply = browser.post(FORM, typed(age="54"))
    assert reply.status_code == 303
    assert reply.headers["location"] == f"{PAGE}?done=screening_corrected"
    assert (stands(blind).version, stands(blind).answers["age"]) == (2, 54)
    page = browser.soup(f"{PAGE}/screening")
    rows = {row.th.get_text(): said(row.td) for row in page.select("section:not(#history) tbody tr") if row.th}
    assert rows["Age"] == "54 years changed"
    assert rows["Pain, past week"] == "6"
    history = [" ".join(row.get_text(" ").split()) for row in page.select("#history tbody tr")]
    assert "was 44 is now 54" in history[0]
    assert WHY in history[0]
    assert len(history) == 4
    assert "Corrected" in said(browser.get(PAGE))


@pytest.mark.requirement("REL-4")
def test_the_same_form_twice_is_one_correction(blind: Blind) -> None:
    browser = blind.world.coordinator()
    for key in ("twice", "twice", "thrice"):
        assert browser.post(FORM, {**typed(age="54"), "idempotency_key": key}).status_code == 303
    assert stands(blind).version == 2
    reply = browser.post(FORM, typed(age="54", version="2"))
    assert reply.status_code == 409
    assert "Nothing of this differs" in said(reply)


@pytest.mark.requirement("CONC-8")
def test_two_at_once_are_shown_both(blind: Blind) -> None:
    browser = blind.world.coordinator()
    browser.post(FORM, typed(age="54"))
    reply = browser.post(FORM, typed(age="45"))
    assert reply.status_code == 409
    page = BeautifulSoup(reply.text, "html.parser")
    assert page.select_one("input[name=age]")["value"] == "45"  # type: ignore[index]
    assert [" ".join(each.get_text(" ").split()) for each in page.select(".item-saved")] == ["Saved now: 54"]
    assert page.select_one("input[name='screening.version']")["value"] == "2"  # type: ignore[index]
    assert page.select_one("[name='screening.why']").get_text().strip() == WHY  # type: ignore[union-attr]
    assert stands(blind).answers["age"] == 54


def test_what_is_wrong_is_said_beside_it_and_nothing_typed_is_lost(blind: Blind) -> None:
    browser = blind.world.coordinator()
    reply = browser.post(FORM, typed(age="many", why=""))
    assert reply.status_code == 422
    page = BeautifulSoup(reply.text, "html.parser")
    assert page.select_one("input[name=age]")["value"] == "many"  # type: ignore[index]
    assert page.select_one("a[href='#item-age']") is not None
    reply = browser.post(FORM, typed(age="999", why=""))
    page = BeautifulSoup(reply.text, "html.parser")
    assert [each["href"] for each in page.select("[data-error-summary] a")] == ["#item-age", "#screening.why"]
    assert stands(blind).version == 1


@pytest.mark.requirement("CON-F2", "P11-f")
def test_what_follows_is_said_before_it_is_kept(blind: Blind) -> None:
    browser, code = blind.world.coordinator(), blind.world.screened().code
    form = f"/mini/participants/{code}/screening/correction"
    reply = browser.post(form, typed(age="12"))
    assert reply.status_code == 200
    assert "They become a screen failure" in said(reply)
    assert stands(blind, code).version == 1
    page = BeautifulSoup(reply.text, "html.parser")
    kept = {str(each["name"]): str(each["value"]) for each in page.select(f"form[action='{form}'] input[type=hidden]")}
    back = browser.post(form, {**kept, "screening.step": "back"})
    assert BeautifulSoup(back.text, "html.parser").select_one("input[name=age]")["value"] == "12"  # type: ignore[index]
    assert browser.post(form, {**kept, "screening.step": "keep"}).status_code == 303
    assert blind.world.found(code).status == "screen_failed"
    assert "Screen failure: Aged 18 to 70" in said(browser.get(f"/mini/participants/{code}"))
    # What somebody agreed to and what follows by now are not always the same.
    reply = browser.post(form, {**typed(age="21", version="2"), "screening.follows": "screen_failed"})
    assert reply.status_code == 200
    assert "no screen failure any more" in said(reply)
    assert browser.post(form, {**typed(age="21", version="2"), "screening.follows": "screened"}).status_code == 303
    assert blind.world.found(code).status == "screened"


@pytest.mark.requirement("E6-9")
def test_a_deviation_stands_on_the_page_at_once(blind: Blind) -> None:
    browser = blind.world.coordinator()
    assert "recorded as a deviation" in said(browser.post(FORM, typed(age="12")))
    assert browser.post(FORM, typed(age="12", follows="deviation")).status_code == 303
    page = said(browser.get(PAGE))
    assert "this participant was not eligible" in page
    assert "Takes part, and was not eligible" in said(browser.get("/mini/safety/deviations?site=all"))


def test_of_a_screen_failure_the_reason_is_asked_too(blind: Blind) -> None:
    browser, code = blind.world.coordinator(), blind.world.screened().code
    page = f"/mini/participants/{code}"
    browser.post(f"{page}/not-taking-part", {"reason": "declined"})
    form = browser.soup(f"{page}/screening/correction")
    chosen = form.select_one("[name='screening.failure_reason'] option[selected]")
    assert chosen is not None
    assert chosen["value"] == "declined"
    sent = typed(age="54", version="2", failure_reason="declined")
    assert browser.post(f"{page}/screening/correction", sent).status_code == 303
    assert (stands(blind, code).failure_reason, stands(blind, code).answers["age"]) == ("declined", 54)


def test_who_may_not_correct_reads_and_what_is_locked_says_so(blind: Blind) -> None:
    assessor = blind.world.browser(Role.ASSESSOR)
    assert "44 years" in said(assessor.get(f"{PAGE}/screening"))
    assert f'href="{FORM}"' not in assessor.get(PAGE).text + assessor.get(f"{PAGE}/screening").text
    assert assessor.get(FORM).status_code == 403
    manager = blind.world.person(Role.DATA_MANAGER, site_code=None)
    told: dict[str, Any] = {"kind": Kind.FROZEN, "participants": ["M-001"], "visit": None, "why": "Clean"}
    with blind.database.writing() as session:
        close_data(session, blind.world.study, **told, by=manager, now=clock.now())
    browser = blind.world.coordinator()
    assert "is frozen since" in said(browser.get(FORM))
    assert browser.post(FORM, typed(age="54")).status_code == 409
    assert stands(blind).version == 1
