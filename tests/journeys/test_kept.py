"""What is typed is not lost: without a connection, after the session ended, beside a colleague, on a shared device."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
import time_machine
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Dialog, Page, expect
from sqlalchemy import delete, select, update

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.consent.reads import CONSENT
from app.foundation.database import Database
from app.people.reads import SESSION
from tests.web.browser import PASSWORD
from tests.web.test_entries import FORM, PAIN, World

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("kind", ["sqlite"], indirect=True)]

TYPED = datetime(2026, 7, 6, 0, 40, tzinfo=UTC)  # by the clock of the device
STATE = "[data-save-state]"
NOT_SENT = "kept on this device, not sent yet"
# Everything that the browser keeps, as far as it can be read: names, keys (which cannot be taken out) and bytes.
# Looking into it made one without anything in it, in which nothing could be kept.
EMPTY = "() => new Promise((done) => { indexedDB.deleteDatabase('equipoise-kept').onsuccess = done; }).then(() => 1)"
HELD = """async () => {
  const asked = indexedDB.open('equipoise-kept');
  const base = await new Promise((done) => { asked.onsuccess = () => done(asked.result); });
  const all = (name) => !base.objectStoreNames.length ? [] : new Promise((done) => {
    const got = base.transaction(name).objectStore(name).getAll();
    got.onsuccess = () => done(got.result);
  });
  const [forms, keys] = [await all('forms'), await all('keys')];
  base.close();  // what is held open cannot be deleted, until it is collected as waste
  const taken = (key) => crypto.subtle.exportKey('raw', key).then(() => 'taken', (error) => error.name);
  const out = await Promise.all(keys.map(taken));
  const bytes = (each) => new TextDecoder('latin1').decode(each);
  return {keys: keys.map((key) => key.extractable), out,
    forms: forms.map((each) => JSON.stringify({...each, data: bytes(each.data), iv: 0, iv2: 0}))};
}"""


@pytest.fixture(autouse=True)
def at_the_visit() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=True):
        yield


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
def visit_as(browser: Chromium, address: str, world: World) -> Iterator[Callable[[str], Page]]:
    """A window of somebody's, with the form in it, and with what keeps it on the device at hand."""
    windows = []

    def open_window(role: str) -> Page:
        window = browser.new_context(base_url=address)
        windows.append(window)
        page = window.new_page()
        page.set_default_timeout(10_000)
        signs_in(world, page, role)
        page.goto(FORM)
        keeps(page)
        return page

    yield open_window
    for window in windows:
        window.close()


def signs_in(world: World, page: Page, role: str) -> None:
    """As if by the sign-in page: this browser is now theirs."""
    token = str(world.browser(role).client.cookies["equipoise"])
    page.context.add_cookies([{"name": "equipoise", "value": token, "domain": "127.0.0.1", "path": "/"}])


def keeps(page: Page) -> None:
    expect(page.locator("body[data-keeps=yes]")).to_be_attached()


def fill(page: Page) -> None:
    page.locator('[name="pain_nrs"][value="5"]').dispatch_event("click")
    page.locator('[name="pain_days"]').fill("3")


def save(page: Page) -> None:
    page.locator(".form-bar").get_by_role("button", name="Save", exact=True).click()


def log(world: World, action: str) -> list[Any]:
    with world.database.reading() as session:
        wanted = select(AUDIT_ENTRY.c.new, AUDIT_ENTRY.c.at).where(AUDIT_ENTRY.c.action == action)
        return list(session.execute(wanted))


def test_a_form_saved_without_a_connection_is_kept_and_saved_once_when_it_is_back(world, visit_as):
    page = visit_as("assessor")
    page.clock.set_fixed_time(TYPED)
    page.context.set_offline(True)
    fill(page)
    expect(page.locator(STATE)).to_contain_text(NOT_SENT)
    save(page)
    expect(page.locator(STATE)).to_contain_text("saved when it is back")
    held = page.evaluate(HELD)
    assert (held["keys"], held["out"], len(held["forms"])) == ([False], ["InvalidAccessError"], 1)
    assert not any(word in held["forms"][0] for word in ("M-001", "pain", "week18", "participants"))
    assert world.entry() is None
    page.context.set_offline(False)
    page.wait_for_url("**/week18?done=saved")
    entry = world.entry()
    assert (entry["version"], entry["values"]["pain_nrs"], entry["values"]["pain_days"]) == (1, 5, 3)
    assert entry["typed_at"] == TYPED < entry["saved_at"]
    assert len(log(world, "entry.typed_offline")) == 1
    assert page.evaluate(HELD)["forms"] == []
    page.goto(f"{FORM}/record")
    expect(page.locator(".entry-facts")).to_contain_text("Typed without a connection")


def test_what_waits_after_its_page_is_closed_is_sent_and_a_conflict_shows_both(world, visit_as):
    page = visit_as("assessor")
    page.context.set_offline(True)
    fill(page)
    save(page)
    expect(page.locator(STATE)).to_contain_text("saved when it is back")
    assert page.evaluate("globalThis.equipoise.drafts.values().next().value.loose") is False
    page.close()
    world.browser("coordinator").post(FORM, {**PAIN, "pain_nrs": "2"})
    other = page.context.new_page()
    page.context.set_offline(False)
    other.goto("/kept")
    line = other.locator(".kept-list li")
    expect(line).to_contain_text("Received, and not saved")
    expect(line).to_contain_text("Pain")
    assert world.entry()["values"]["pain_nrs"] == 2, "nothing was overwritten"
    line.get_by_role("link", name="Open the form").click()
    expect(other.locator("#versions")).to_contain_text("Two versions of this form")
    expect(other.locator("#versions")).to_contain_text("2")
    keeps(other)
    expect(other.locator("[data-kept-note]")).to_be_hidden()
    other.goto("/kept")
    expect(other.locator("[data-kept-none]")).to_be_visible()


def test_what_was_typed_without_a_connection_is_read_where_the_form_was_frozen_meanwhile(world, visit_as):
    page = visit_as("assessor")
    page.context.set_offline(True)
    fill(page)
    save(page)
    expect(page.locator(STATE)).to_contain_text("saved when it is back")
    page.close()
    manager = world.browser("data_manager")
    freezing = {"participant": "M-001", "kind": "frozen", "why": "Clean"}
    manager.post("/mini/study/locks", freezing, page="/mini/study/locks")
    other = page.context.new_page()
    page.context.set_offline(False)
    other.goto("/kept")
    expect(other.locator(".kept-list li")).to_contain_text("Received, and not saved")
    other.goto(FORM)
    expect(other.locator("#unsaved")).to_contain_text("5")
    assert world.entry() is None


def test_what_the_server_does_not_take_stays_on_the_device_until_it_does(world, visit_as):
    page = visit_as("assessor")
    page.context.set_offline(True)
    fill(page)
    save(page)
    expect(page.locator(STATE)).to_contain_text("saved when it is back")
    page.close()
    with world.database.writing() as session:
        session.execute(update(CONSENT).values(withdrawn_on=date(2025, 6, 1)))
    other = page.context.new_page()
    page.context.set_offline(False)
    other.goto("/kept")
    expect(other.locator(".kept-list li")).to_contain_text("Cannot be sent")
    other.goto(FORM)
    with world.database.writing() as session:
        session.execute(update(CONSENT).values(withdrawn_on=None))
    other.goto("/kept")
    expect(other.locator(".kept-list li")).to_contain_text("Cannot be sent")
    other.goto(FORM)
    expect(other.locator("main")).to_contain_text("This is your draft of")
    assert other.evaluate(HELD)["forms"] == []


def test_two_windows_of_one_person_show_both_drafts_and_either_is_a_click_away(world, visit_as):
    one = visit_as("assessor")
    two = one.context.new_page()
    two.goto(FORM)
    keeps(two)
    days = '[name="pain_days"]'
    one.locator(days).fill("3")
    expect(one.locator(STATE)).to_contain_text("Saved as draft")
    two.locator(days).fill("5")
    expect(two.locator("#elsewhere")).to_contain_text("This form is also open elsewhere")
    expect(two.locator("#elsewhere tbody tr")).to_contain_text(["35"])
    expect(two.locator(STATE)).to_contain_text("also open elsewhere")
    expect(two.locator(days)).to_have_value("5")
    two.get_by_role("button", name="Go on with what is typed here").click()
    expect(two.locator(STATE)).to_contain_text("Saved as draft")
    expect(two.locator("#elsewhere")).to_have_count(0)
    two.locator(days).fill("6")
    expect(two.locator(STATE)).to_contain_text("Saved as draft")
    expect(two.locator("#elsewhere")).to_have_count(0)
    one.locator(days).fill("4")
    one.get_by_role("button", name="Take what was typed elsewhere").click()
    expect(one.locator(days)).to_have_value("6")
    expect(one.locator("#elsewhere")).to_have_count(0)
    # Saving in the window that does not know of it shows both, and saves nothing.
    keeps(one)
    two.locator(days).fill("7")
    expect(two.locator(STATE)).to_contain_text("Saved as draft")
    one.locator(days).fill("2")
    one.get_by_role("button", name="Save with answers missing").click()
    expect(one.locator("#elsewhere")).to_contain_text("This form is also open elsewhere")
    assert world.entry() is None
    one.get_by_role("button", name="Go on with what is typed here").click()
    expect(one.locator("#elsewhere")).to_have_count(0)
    one.get_by_role("button", name="Save with answers missing").click()
    one.wait_for_url("**/week18?done=*")
    assert world.entry()["values"]["pain_days"] == 2


def test_what_was_kept_on_a_device_meets_a_draft_from_elsewhere(world, visit_as):
    page = visit_as("assessor")
    page.context.set_offline(True)
    fill(page)
    expect(page.locator(STATE)).to_contain_text(NOT_SENT)
    page.close()
    desk = visit_as("assessor")
    desk.locator('[name="pain_days"]').fill("6")
    expect(desk.locator(STATE)).to_contain_text("Saved as draft")
    other = page.context.new_page()
    page.context.set_offline(False)
    other.goto("/kept")
    line = other.locator(".kept-list li")
    expect(line).to_contain_text("elsewhere")
    other.goto(FORM)
    expect(other.locator("#elsewhere")).to_contain_text("Typed here")
    expect(other.locator('[name="pain_days"]')).to_have_value("6")
    other.get_by_role("button", name="Go on with what is typed here").click()
    expect(other.locator('[name="pain_days"]')).to_have_value("3")
    other.goto("/kept")
    expect(other.locator("[data-kept-none]")).to_be_visible()


def test_nobody_else_on_the_device_reads_what_waits_and_signing_out_deletes_it(world, visit_as):
    page = visit_as("assessor")
    page.context.set_offline(True)
    fill(page)
    expect(page.locator(STATE)).to_contain_text(NOT_SENT)
    # Their session ends before their page: one that closes tries once more, and could be heard, in its own name.
    with world.database.writing() as session:
        session.execute(delete(SESSION))
    page.close()
    page.context.set_offline(False)
    other = page.context.new_page()
    signs_in(world, other, "coordinator")
    other.goto("/kept")
    keeps(other)
    expect(other.locator("[data-kept-none]")).to_be_visible()
    expect(other.locator(".kept-list li")).to_have_count(0)
    assert len(other.evaluate(HELD)["forms"]) == 1
    assert world.drafts() == 0, "nothing is sent in another's name"
    # The first one comes back: it is sent, as theirs.
    signs_in(world, other, "assessor")
    other.goto("/kept")
    keeps(other)
    expect(other.locator("[data-kept-none]")).to_be_visible()
    assert world.drafts() == 1
    other.goto(FORM)
    expect(other.locator('[name="pain_days"]')).to_have_value("3")
    beside = other.context.new_page()
    beside.goto(FORM)
    keeps(beside)
    # Something that cannot be sent goes with the keys at sign-out, after a warning.
    keeps(other)
    other.route("**/draft", lambda route: route.abort())
    other.locator('[name="pain_days"]').fill("4")
    expect(other.locator(STATE)).to_contain_text(NOT_SENT)
    said: list[str] = []

    def accept(dialog: Dialog) -> None:
        said.append(dialog.message)
        dialog.accept()

    other.on("dialog", accept)
    other.locator("details[data-menu] summary").last.click()
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url("**/sign-in")
    assert said == ["Something that was typed on this device could not be sent. Signing out deletes it. Sign out?"]
    held = other.evaluate(HELD)
    assert (held["forms"], held["keys"]) == ([], [])
    # Another page of theirs that is still open keeps nothing either, until they are back.
    other.evaluate(EMPTY)
    beside.locator('[name="pain_days"]').fill("2")
    expect(beside.locator(f"{STATE}[data-is=out]")).to_be_attached()
    held = beside.evaluate(HELD)
    assert (held["forms"], held["keys"]) == ([], [])
    signs_in(world, other, "assessor")
    other.evaluate(EMPTY)
    assert beside.evaluate("async () => await globalThis.equipoise.same()")
    assert beside.evaluate(
        "async () => { const [one] = globalThis.equipoise.drafts.values(); return await one.hold(); }"
    )


@pytest.mark.parametrize("before", [True, False])
def test_a_form_that_saves_while_its_person_signs_out_keeps_nothing_more(world, visit_as, before):
    page = visit_as("assessor")
    if before:
        page.route("**/draft", lambda route: route.abort())
    fill(page)
    if before:
        expect(page.locator(STATE)).to_contain_text(NOT_SENT)
        assert len(page.evaluate(HELD)["forms"]) == 1
    else:
        expect(page.locator(f"{STATE}[data-is=saved]")).to_be_attached()
    tried: list[bool] = []
    page.expose_function("tried", lambda kept: tried.append(kept))
    # What leaving the field set off comes after the keys are gone and before the page is.
    page.evaluate("""() => document.querySelector('[action$="/sign-out"]').addEventListener('submit', async (event) => {
      event.preventDefault();
      const [draft] = globalThis.equipoise.drafts.values();
      await globalThis.tried(await draft.hold());
      event.target.submit();
    })""")
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("details[data-menu] summary").last.click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    assert tried == [False]
    held = page.evaluate(HELD)
    assert (held["forms"], held["keys"]) == ([], [])


@pytest.mark.parametrize("who", ["assessor_north", "coordinator_north"])
def test_a_session_that_ended_is_resumed_in_place_by_the_same_person_alone(world, visit_as, who):
    page = visit_as("assessor")
    world.browser("coordinator")
    with world.database.writing() as session:
        session.execute(delete(SESSION))
    fill(page)
    save(page)
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("Sign in again, and go on where you are")
    dialog.get_by_label("Username").fill(who)
    dialog.get_by_label("Password").fill("not this one at all")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.locator("[role=alert]")).to_be_visible()
    dialog.get_by_label("Username").fill(who)
    dialog.get_by_label("Password").fill(PASSWORD)
    dialog.get_by_role("button", name="Sign in").click()
    if who == "assessor_north":
        page.wait_for_url("**/week18?done=saved")
        assert world.entry()["values"]["pain_days"] == 3
    else:
        page.wait_for_url("**/today")
        assert world.entry() is None
        assert world.drafts() == 0, "nothing is handed over"
        page.goto(FORM)
        expect(page.locator('[name="pain_days"]')).to_have_value("")
