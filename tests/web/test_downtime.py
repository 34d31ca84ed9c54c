"""Packs on the statistician's pages, handed over once; and the coordinator's form, which says nothing of any list."""

import base64
import io
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pikepdf
import pytest
from bs4 import BeautifulSoup
from sqlalchemy import select

from app.audit.actions import ENTRY
from app.foundation import clock
from app.foundation.database import Database
from app.foundation.idempotency import IdempotentRequest
from app.people.permissions import Role
from app.randomisation.downtime.reads import open_packs
from app.randomisation.opening import PACK, RESERVED
from tests.factories import definition
from tests.web.browser import PASSWORD, Browser, words_of
from tests.web.test_randomisation import sealed
from tests.web.world import World

PACKS = "/mini/sequence/downtime"
OTHERS = [role for role in Role if role is not Role.STATISTICIAN]
MAKE = {"site": "north", "slots": "2", "why": "Power cuts are announced", "password": PASSWORD}


@pytest.fixture
def world(shared_database: Database) -> World:
    world = World(shared_database)
    sealed(world, slots=12)
    return world


@pytest.fixture
def browser(world: World) -> Browser:
    return world.browser("statistician", site_code=None)


def files(page: BeautifulSoup) -> dict[str, bytes]:
    """What the page of a new pack hands over, by name."""
    found = {}
    for link in page.select("a[download]"):
        head, _, body = unquote(str(link["href"])).partition(";base64,")
        assert head.startswith("data:")
        found[str(link["download"])] = base64.b64decode(body)
    return found


def made(browser: Browser, **changes: str) -> BeautifulSoup:
    reply = browser.post(PACKS, {**MAKE, **changes})
    assert reply.status_code == 200, reply.text[:2000]
    assert reply.headers["cache-control"] == "no-store"
    return BeautifulSoup(reply.text, "html.parser")


def text_of(reply: Any) -> str:
    return words_of(reply.text)


def on_slip(world: World, **changes: str) -> dict[str, str]:
    """What somebody types from a slip that was used a minute ago."""
    place = next(each for each in world.study.definition.sites if each.code == "north")
    now = clock.now().astimezone(ZoneInfo(place.timezone))
    said = {"slip": "1-01", "on": f"{now:%Y-%m-%d}", "time": f"{now:%H:%M}", "used_by": "Nora", "password": PASSWORD}
    return {**said, **changes}


@pytest.mark.parametrize("places", [1, 2])
def test_the_only_site_need_not_be_chosen(shared_database: Database, places: int):
    sites = definition().model_dump(mode="json")["sites"][:places]
    browser = World(shared_database, sites=sites).browser("statistician", site_code=None)
    chosen = [str(each["value"]) for each in browser.soup(PACKS).select("select[name=site] option[selected]")]
    assert [each for each in chosen if each] == (["north"] if places == 1 else [])


def test_a_pack_says_of_which_site_it_is(world: World, browser: Browser):
    made(browser)
    cells = [cell.get_text(" ", strip=True) for cell in browser.soup(PACKS).select("tbody tr td")]
    assert cells[0] == "north North clinic"


@pytest.mark.requirement("CONC-3")
def test_a_pack_is_handed_over_once_in_two_halves(world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch):
    for printed in ("slips_pdf", "record_pdf"):
        monkeypatch.setattr(f"app.paper.{printed}", lambda said, **_: repr(said).encode())
    fields = {**browser.form(PACKS), **MAKE}
    first = browser.send(PACKS, fields)
    page = BeautifulSoup(first.text, "html.parser")
    handed = files(page)
    assert sorted(handed) == ["mini-downtime-1-letter.pdf", "mini-downtime-1-slips.pdf", "mini-downtime-1.html"]
    passphrase = page.select_one("dd .code")
    assert passphrase is not None
    slips, letter = handed["mini-downtime-1-slips.pdf"].decode(), handed["mini-downtime-1-letter.pdf"].decode()
    assert "('1-01', '" in slips
    assert "('1-02', '" in slips
    assert passphrase.get_text() not in slips
    assert passphrase.get_text() in letter
    assert not [arm for arm in ("Zephyrine", "Placebex", "active", "sham") if arm in slips + letter]
    opener = handed["mini-downtime-1.html"].decode()
    assert passphrase.get_text() not in opener
    policy = BeautifulSoup(opener, "html.parser").select_one("meta[http-equiv=Content-Security-Policy]")
    assert policy is not None
    assert "default-src 'none'" in policy["content"]
    again = browser.send(PACKS, fields)
    assert (again.status_code, again.headers["location"]) == (303, f"{PACKS}/1")
    with world.database.reading() as session:
        assert open_packs(session) == [1]
        kept = [
            str(row)
            for table in (IdempotentRequest.__table__, PACK, RESERVED, ENTRY)  # type: ignore[attr-defined]
            for row in session.execute(select(table))
        ]
    assert kept
    assert not [row for row in kept if passphrase.get_text() in row or passphrase.get_text().replace("-", "") in row]


def test_what_is_printed_is_pdf_with_a_sheet_for_each_stratum(browser: Browser):
    handed = files(made(browser, slots="9"))
    for name, pages in (("mini-downtime-1-slips.pdf", 3), ("mini-downtime-1-letter.pdf", 1)):
        with pikepdf.open(io.BytesIO(handed[name])) as document:
            assert len(document.pages) == pages, name
            assert document.open_metadata()["pdfaid:part"] == "2"


@pytest.mark.requirement("E9-2", "CONC-4", "SEC-19")
@pytest.mark.parametrize("role", OTHERS)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_for_everybody_else_packs_are_as_nonsense(world: World, browser: Browser, role: Role):
    made(browser)
    other = world.browser(role.value, site_code=None if role is Role.ADMINISTRATOR else "north")
    nonsense = other.get("/mini/sequence-of-nonsense")
    for path in (PACKS, f"{PACKS}/1", f"{PACKS}/7", f"{PACKS}/1/close"):
        assert (other.get(path).status_code, text_of(other.get(path))) == (404, text_of(nonsense)), path
    for path in (PACKS, f"{PACKS}/1/void", f"{PACKS}/1/close"):
        assert other.send(path, MAKE).status_code == 404


@pytest.mark.requirement("E9-3", "P11-f")
def test_a_slip_is_entered_by_the_coordinator_and_leads_to_the_allocation(world: World, browser: Browser):
    made(browser)
    participant = world.filled()
    form = f"/mini/participants/{participant.code}/randomise/downtime"
    coordinator = world.coordinator()
    assert coordinator.soup(f"/mini/participants/{participant.code}/randomise").select_one(f"a[href='{form}']")
    reply = coordinator.post(form, on_slip(world))
    assert reply.status_code == 303, text_of(reply)
    page = coordinator.soup(reply.headers["location"]).get_text(" ", strip=True)
    assert "0001" in page
    assert "Entered. The clinicians of the site are told" in page
    shown = browser.soup(f"{PACKS}/1").get_text(" ", strip=True)
    assert f"1-01 North clinic Used {participant.code}" in shown
    assert coordinator.get(form).headers["location"].endswith("/randomised")


def test_what_is_wrong_stands_at_its_field_and_nothing_typed_is_lost(world: World, browser: Browser):
    made(browser)
    participant = world.filled()
    form = f"/mini/participants/{participant.code}/randomise/downtime"
    coordinator = world.coordinator()
    for changes, field, words in (
        ({"slip": "1-77"}, "slip", "There is no open slip with this number"),
        ({"on": "yesterday"}, "on", "Write the date as year-month-day"),
        ({"on": "2020-01-01"}, "on", "before the slips were printed"),
        ({"time": "noon"}, "time", "Type the time as HH:MM"),
        ({"used_by": ""}, "used_by", "Say who took the slip"),
        ({"password": ""}, "password", "Type your password"),
    ):
        typed = on_slip(world, **changes)
        reply = coordinator.post(form, typed)
        assert reply.status_code == 422, changes
        page = BeautifulSoup(reply.text, "html.parser")
        error = page.select_one(f"#{field}-error")
        assert error is not None, changes
        assert words in error.get_text()
        for name in ("slip", "on", "time", "used_by"):
            kept = page.select_one(f"input[name={name}]")
            assert kept is not None
            assert kept["value"] == typed[name]
    order = coordinator.post(form, on_slip(world, slip="1-02"))
    assert order.status_code == 409
    assert "an earlier one is not yet entered" in text_of(order)


def test_what_is_lacking_is_listed_and_only_then_is_a_reason_asked_for(world: World, browser: Browser):
    made(browser)
    participant = world.consented()
    form = f"/mini/participants/{participant.code}/randomise/downtime"
    coordinator = world.coordinator()
    page = coordinator.soup(form)
    assert "Not entered yet" in page.get_text()
    assert page.select_one("textarea[name=deviation]") is not None
    assert coordinator.post(form, on_slip(world)).status_code == 422
    reply = coordinator.post(form, on_slip(world, deviation="No forms were left"))
    assert reply.status_code == 303
    complete = world.filled()
    page = coordinator.soup(f"/mini/participants/{complete.code}/randomise/downtime")
    assert page.select_one("textarea[name=deviation]") is None


@pytest.mark.requirement("CONC-4", "E9-2")
def test_the_form_says_nothing_of_packs_and_is_the_same_without_any(world: World, browser: Browser):
    participant = world.filled()
    coordinator = world.coordinator()
    form = f"/mini/participants/{participant.code}/randomise/downtime"
    before = text_of(coordinator.get(form))
    made(browser)
    assert text_of(coordinator.get(form)) == before
    assert not {"select", "option"} & {tag.name for tag in coordinator.soup(form).select("main *")}


def test_slips_are_voided_in_order_and_the_pack_is_closed_with_the_password(world: World, browser: Browser):
    made(browser)
    page = browser.soup(f"{PACKS}/1")
    assert [option["value"] for option in page.select("select[name=slip] option") if option.get("value")] == ["1"]
    void, close = f"{PACKS}/1/void", f"{PACKS}/1/close"
    assert browser.post(void, {"slip": "1", "why": ""}, page=f"{PACKS}/1").status_code == 422
    assert browser.post(void, {"slip": "2", "why": "Lost"}, page=f"{PACKS}/1").status_code == 409
    reply = browser.post(void, {"slip": "1", "why": "Lost"}, page=f"{PACKS}/1")
    assert "Void. Its slot is never used" in browser.soup(reply.headers["location"]).get_text()
    assert browser.post(close, {"why": "Back", "password": "wrong"}, page=f"{PACKS}/1").status_code == 422
    reply = browser.post(close, {"why": "Back", "password": PASSWORD}, page=f"{PACKS}/1")
    shown = browser.soup(reply.headers["location"])
    assert "Closed. Every slip that was left is void" in shown.get_text()
    assert not shown.select("main form")
    assert browser.get(f"{PACKS}/1/close").headers["location"] == f"{PACKS}/1"


def test_a_pack_is_not_made_without_password_reason_or_room(world: World, browser: Browser):
    for changes, field in (
        ({"password": ""}, "password"),
        ({"why": ""}, "why"),
        ({"slots": "many"}, "slots"),
        ({"slots": "40"}, "slots"),
        ({"site": ""}, "site"),
    ):
        reply = browser.post(PACKS, {**MAKE, **changes})
        assert reply.status_code == 422, changes
        assert BeautifulSoup(reply.text, "html.parser").select_one(f"#{field}-error"), changes
    with world.database.reading() as session:
        assert not open_packs(session)


def test_without_a_sealed_list_the_page_says_what_to_do(shared_database: Database):
    world = World(shared_database)
    page = world.browser("statistician", site_code=None).soup(PACKS)
    assert "No sequence is in use. Seal one first." in page.get_text()
