"""A real server on loopback and a real Chromium."""

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import update

from app.foundation.crypto.secrets import hash_password
from app.foundation.database import Database, table_of
from app.main import create_app
from app.people.models import Person
from app.settings import Settings

PASSWORD = "seven quiet herons wading"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Two pages of suggestions below the address, and a process ahead of its page, are made for each window: half of
    # what it takes, and nobody looks. Chromium heeds the last such list only, so Playwright's is in it as well.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,SpareRendererForSitePerProcess,"
    "AvoidUnnecessaryBeforeUnloadCheckSync,DestroyProfileOnBrowserClose,HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,"
    "LensOverlay,MediaRouter,PaintHolding,ThirdPartyStoragePartitioning,AvoidCorsURLLoaderRestartOnRedirect,"
    "OptimizationHints,NetworkTimeServiceQuerying,AimEnabled,PreconnectToSearch",
]


# Where there is one that has no windows, it is taken: the same pages, at less than half of what a whole browser takes.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The browser's path; a missing browser is a failure on CI and a skip elsewhere."""
    named = os.environ.get("EQUIPOISE_BROWSER")
    found = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("There is no Chromium for the journeys.")
        pytest.skip("There is no Chromium here: sh scripts/test installs one where it can.")
    return found


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One for all journeys, which ends with them: there can be but one in a thread, and other tests have their own."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        yield opened
        opened.close()


@contextmanager
def serving(database: Database, data: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """The application on a free port of loopback; yields its address, under that name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://{host}:{port}"
    settings = Settings(secure_cookies=False, data=data, address=address)
    # The tests' PostgreSQL is quick, not durable; tests/durability has one that is.
    database.refuse_unsafe_settings = lambda: None  # type: ignore[method-assign]
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings, database), host="127.0.0.1", port=port, log_level="warning")
    )
    ready = threading.Event()
    started = server.startup

    async def startup(sockets: Any = None) -> None:
        await started(sockets)
        ready.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(30), "The server did not start."
    yield address
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def address(database: Database, tmp_path: Path) -> Iterator[str]:
    with serving(database, tmp_path) as found:
        yield found


def give_passwords(database: Database) -> None:
    """Everybody in the database gets the same password."""
    with database.writing() as session:
        session.execute(update(table_of(Person)).values(password_hash=hash_password(PASSWORD)))


@pytest.fixture
def visit_as(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens a browser window of their own for somebody, signed in through the sign-in page."""
    contexts = []

    def open_window(username: str, **options: Any) -> Page:
        context = browser.new_context(base_url=address, bypass_csp=False, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.problems = problems  # type: ignore[attr-defined]
        page.goto("/sign-in")
        page.get_by_label("Username").fill(username)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/sign-in" not in url)
        return page

    yield open_window
    for context in contexts:
        context.close()


def serious_violations(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical (WCAG 2.2 A and AA), in a window that does without our CSP."""
    window = page.context.browser.new_context(  # type: ignore[union-attr]
        bypass_csp=True, storage_state=page.context.storage_state()
    )
    try:
        other = window.new_page()
        other.goto(page.url)
        return violations_here(other)
    finally:
        window.close()


def violations_here(page: Page) -> list[str]:
    """The same in this very window, which was opened without our CSP."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_axe())
    return [f"{page.url}: {rule}: {html}" for rule, html in page.evaluate(AXE)]


@cache
def _axe() -> str:
    return next(iter((Path(__file__).parent.parent / "vendor").rglob("axe.min.js"))).read_text()


# What was fine is not handed over: to do so takes as long as to look.
AXE = """async () => {
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
  const found = await axe.run({runOnly: tags, resultTypes: ['violations']});
  const grave = found.violations.filter((each) => ['serious', 'critical'].includes(each.impact));
  return grave.map((each) => [each.id, each.nodes[0].html.slice(0, 200)]);
}"""


def too_wide(page: Page) -> int:
    """By how many pixels the page that stands here is wider than its window, as soon as it stands."""
    page.wait_for_load_state("domcontentloaded")
    wide: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return max(wide, 0)


def sideways_here(page: Page) -> list[str]:
    """A line for each frame that is wider than the page shows: empty where it says so, else what it lacks."""
    found: list[str] = page.evaluate(SIDEWAYS)
    return found


# Whatever is wider than its frame says so: a shaded edge where there is more, a stop of the Tab key with a name, and
# the names of its rows stay when it is scrolled. One line for each that scrolls, empty where all is well.
SIDEWAYS = """async () => {
  document.querySelectorAll('main details').forEach((each) => { each.open = true; });
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const hides = (each) => /auto|scroll|hidden/.test(getComputedStyle(each).overflowX);
  const wide = [...document.querySelectorAll('main *')].filter((each) => hides(each)
    && each.clientWidth > 12 && each.scrollWidth > each.clientWidth + 1 && !each.closest('svg, .visually-hidden'));
  return wide.map((each) => {
    if (!each.matches('.table-frame[role=region][aria-label]')) return `${each.outerHTML.slice(0, 90)} is cut off`;
    const name = each.getAttribute('aria-label');
    const {backgroundImage, backgroundAttachment} = getComputedStyle(each);
    if (!/gradient/.test(backgroundImage) || !/local/.test(backgroundAttachment)) return `${name}: no edge`;
    const row = each.querySelector('tbody th:first-child');
    each.scrollLeft = 999;
    const moved = row && row.getBoundingClientRect().left - each.getBoundingClientRect().left;
    each.scrollLeft = 0;
    if (row && Math.abs(moved) > 1) return `${name}: the names of rows move by ${moved}`;
    return each.tabIndex === 0 ? '' : `${name}: no stop of the Tab key`;
  });
}"""
