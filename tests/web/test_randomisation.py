"""From the gates to the allocation: every closed gate says why, and nothing but the number is ever told."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import func, select, update
from sqlmodel import Session

from app.foundation import clock
from app.foundation.database import Database
from app.participants.actions import withdraw
from app.people.models import Site
from app.people.reads import SITE
from app.randomisation.actions import draw, seal
from app.randomisation.reads import ALLOCATION, STRATUM, allocation_of
from tests.web.browser import PASSWORD, Browser, words_of
from tests.web.world import World

LIST = "/mini/participants"
FORM = f"{LIST}/M-001/randomise"
DONE = f"{LIST}/M-001/randomised"
# Words that would tell a blinded person something of the list, in any page they can open.
SECRETS = re.compile(r"\bblocks?\b|\bslots?\b|position|Zephyrine|Placebex|\bsham\b|\bactive\b", re.I)


def sealed(world: World, *, slots: int = 6, sizes: tuple[int, ...] = (2,)) -> None:
    """A sequence in use."""
    by = world.person("statistician", site_code=None)
    with world.database.writing() as session:
        made = draw(
            session,
            world.study,
            method="permuted_blocks",
            block_sizes=sizes,
            slots_per_stratum=slots,
            by=by,
            now=clock.now(),
        )
        assert made.id is not None
        seal(session, world.study, made.id, by=by, now=clock.now())


def used(world: World) -> tuple[int, int]:
    """Slots that are used, and allocations that were made."""
    with world.database.reading() as session:
        slots = session.execute(select(func.coalesce(func.sum(STRATUM.c.used), 0))).scalar_one()
        return int(slots), int(session.execute(select(func.count()).select_from(ALLOCATION)).scalar_one())


def said(reply: Any) -> str:
    return words_of(reply.text)


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def close_site(session: Session) -> None:
    session.execute(update(SITE).where(SITE.c.code == "north").values(is_open=False))


@pytest.mark.requirement("E9-3", "CONC-9")
def test_a_participant_is_randomised_and_only_the_number_is_told(world: World):
    sealed(world)
    world.filled()
    browser = world.coordinator()
    page = browser.soup(FORM)
    assert len(page.select(".gates li")) == 6
    assert page.get_text().count("Ready:") == 6
    reply = browser.post(FORM, {"password": PASSWORD})
    assert (reply.status_code, reply.headers["location"]) == (303, DONE)
    done = browser.soup(DONE)
    assert done.h1 is not None
    assert done.h1.get_text() == "Randomised. Allocation 0001."
    assert done.select_one(f"main a[href='{LIST}/M-001']") is not None
    assert done.main is not None
    assert not SECRETS.search(done.main.get_text())
    assert used(world) == (1, 1)
    assert "participant.randomised" in world.log()


def test_the_page_of_somebody_randomised_says_their_number_and_leads_to_it(world: World):
    sealed(world)
    world.filled()
    browser = world.coordinator()
    assert "Allocation" not in browser.soup(f"{LIST}/M-001").get_text()
    browser.post(FORM, {"password": PASSWORD})
    for role in ("assessor", "investigator", "coordinator"):
        page = world.browser(role).soup(f"{LIST}/M-001")
        link = page.select_one(f".page-head a[href='{DONE}']")
        assert link is not None
        assert link.get_text() == "Allocation 0001"
        assert len(page.select(f".timeline a[href='{DONE}']")) == 2, "in the drawing, and in the list of a telephone"


@pytest.mark.parametrize("came_to", ["screened", "consented"])
def test_a_closed_gate_leads_to_no_page_that_is_not_there(world: World, came_to: str):
    sealed(world)
    getattr(world, came_to)()
    browser = world.coordinator()
    links = [str(link["href"]) for link in browser.soup(FORM).select(".gates a")]
    assert links
    assert [link for link in links if browser.get(link).status_code not in (200, 303)] == []
    assert (f"{LIST}/M-001/visits/baseline" in links) == (came_to == "consented")


def test_an_empty_password_is_asked_for_and_no_failed_attempt(world: World):
    sealed(world)
    world.filled()
    reply = world.coordinator().post(FORM, {"password": ""})
    assert reply.status_code == 422
    assert "Type your password." in said(reply)
    assert "not right" not in said(reply)


def _not_consented(world: World) -> None:
    world.screened()


def _not_countersigned(world: World) -> None:
    world.consented(countersigned=False)


def _no_baseline(world: World) -> None:
    world.consented()


def _closed_site(world: World) -> None:
    world.filled()
    with world.database.writing() as session:
        close_site(session)


def _withdrawn(world: World) -> None:
    participant = world.filled()
    with world.database.writing() as session:
        withdraw(
            session,
            world.study,
            participant,
            level="visits",
            reason="Moved away",
            on=world.today(),
            by=world.coordinators["north"],
            now=clock.now(),
        )


@pytest.mark.requirement("P11-f", "E9-3")
@pytest.mark.parametrize(
    ("prepare", "words", "link"),
    [
        (_not_consented, "There is no consent yet", "/consent"),
        (_not_countersigned, "countersign", "/countersign"),
        (_no_baseline, "Complete Pain (Baseline) first.", "/visits/baseline"),
        (_closed_site, "North clinic is not open. Ask your administrator to open the site.", ""),
        (_withdrawn, "has withdrawn", ""),
    ],
)
def test_a_closed_gate_says_why_and_uses_no_slot(world: World, prepare: Any, words: str, link: str):
    sealed(world)
    prepare(world)
    browser = world.coordinator()
    page = browser.soup(FORM)
    reasons = " ".join(reason.get_text(" ", strip=True) for reason in page.select(".gates .reason"))
    assert words.lower() in reasons.lower()
    assert not page.select("input[name=password]")
    assert page.select_one("button[aria-disabled=true]") is not None
    links = [str(each["href"]) for each in page.select(".gates a")]
    assert any(each.startswith(f"{LIST}/M-001") and each.endswith(link) for each in links) if link else not links
    token = page.select_one("meta[name=csrf-token]")
    assert token is not None
    reply = browser.send(FORM, {"csrf_token": token["content"], "password": PASSWORD})
    assert reply.status_code == 409
    assert words.lower() in said(reply).lower()
    assert used(world) == (0, 0)
    assert world.log()[-1] == "participant.randomise_refused"


def test_the_reason_is_one_whatever_is_wrong_with_the_list(world: World):
    world.filled()
    browser = world.coordinator()
    without = said(browser.get(FORM))
    assert "Randomisation is not open for this participant. Call the trial statistician." in without
    sealed(world, slots=2)
    world.filled("north")
    world.filled("north")
    for code in ("M-001", "M-002"):
        page = f"{LIST}/{code}/randomise"
        assert browser.post(page, {"password": PASSWORD}).status_code == 303
    full = said(browser.get(f"{LIST}/M-003/randomise"))
    assert full.replace("M-003", "M-001") == without
    assert used(world) == (2, 2)


@pytest.mark.requirement("SEC-35")
def test_a_wrong_password_keeps_the_page_and_uses_no_slot(world: World):
    sealed(world)
    world.filled()
    browser = world.coordinator()
    reply = browser.post(FORM, {"password": "not this one"})
    assert reply.status_code == 422
    assert "The password or the code is not right." in said(reply)
    assert used(world) == (0, 0)
    again = BeautifulSoup(reply.text, "html.parser")
    fields = {str(each["name"]): str(each.get("value", "")) for each in again.select("form.confirm input")}
    assert browser.send(FORM, {**fields, "password": PASSWORD}).headers["location"] == DONE
    assert used(world) == (1, 1)


@pytest.mark.requirement("REL-4", "CONC-9")
def test_the_same_form_sent_again_leads_to_the_same_allocation(world: World):
    sealed(world)
    world.filled()
    browser = world.coordinator()
    fields = {**browser.form(FORM), "password": PASSWORD}
    replies = [browser.send(FORM, fields) for _ in range(3)]  # the first reply got lost, or they clicked again
    assert {(reply.status_code, reply.headers["location"]) for reply in replies} == {(303, DONE)}
    assert used(world) == (1, 1)


@pytest.mark.requirement("CONC-9")
def test_a_second_page_that_was_open_is_refused_and_shows_where_the_allocation_is(world: World):
    sealed(world)
    world.filled()
    browser = world.coordinator()
    first, second = browser.form(FORM), browser.form(FORM)
    assert browser.send(FORM, {**first, "password": PASSWORD}).status_code == 303
    reply = browser.send(FORM, {**second, "password": PASSWORD})
    assert reply.status_code == 409
    assert "M-001 is already randomised" in said(reply)
    assert BeautifulSoup(reply.text, "html.parser").select_one(f".gates a[href='{DONE}']") is not None
    assert used(world) == (1, 1)
    assert browser.get(FORM).headers["location"] == DONE


@pytest.mark.requirement("REL-4", "CONC-9")
def test_a_double_click_at_the_same_moment_takes_one_slot(database: Database):
    world = World(database)
    sealed(world)
    world.filled()
    browser = world.coordinator()
    fields = {**browser.form(FORM), "password": PASSWORD}
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda _: browser.send(FORM, fields), range(4)))
    assert {(reply.status_code, reply.headers.get("location")) for reply in replies} == {(303, DONE)}
    assert used(world) == (1, 1)


def test_not_yet_randomised_leads_back_to_the_gates(world: World):
    world.consented()
    assert world.coordinator().get(DONE).headers["location"] == FORM


@pytest.mark.parametrize("role", ["assessor", "clinician", "data_manager", "monitor"])
def test_who_may_not_randomise_reads_why_and_is_refused(world: World, role: str):
    sealed(world)
    world.filled()
    browser = world.browser(role)
    page = browser.soup(FORM)
    assert "This needs the role coordinator or investigator." in page.get_text(" ", strip=True)
    assert not page.select("input[name=password]")
    token = page.select_one("meta[name=csrf-token]")
    assert token is not None
    reply = browser.send(FORM, {"csrf_token": token["content"], "password": PASSWORD})
    assert reply.status_code == 403
    assert used(world) == (0, 0)


@pytest.mark.parametrize(("role", "site"), [("statistician", None), ("administrator", None), ("coordinator", "south")])
def test_who_may_not_know_the_participant_finds_nothing(world: World, role: str, site: str | None):
    sealed(world)
    world.filled()
    browser = world.browser(role, site_code=site)
    nonsense = browser.get("/mini/nonsense")
    for path in (FORM, DONE):
        reply = browser.get(path)
        assert (reply.status_code, reply.content) == (404, nonsense.content)


def test_a_study_that_only_observes_has_nothing_to_randomise(database: Database):
    world = World(database, allocation={"method": "observed"})
    world.filled()
    assert world.coordinator().get(FORM).status_code == 404


@pytest.mark.requirement("CONC-4", "E9-1", "CON-17b")
@pytest.mark.parametrize("role", ["coordinator", "assessor", "investigator", "data_manager", "monitor"])
def test_no_page_of_the_blinded_speaks_of_the_list(world: World, role: str):
    sealed(world, slots=8, sizes=(2, 4))
    world.filled()
    world.filled()
    done = world.coordinator().post(FORM, {"password": PASSWORD})
    assert done.status_code == 303
    browser: Browser = world.browser(role)
    for path in (FORM, DONE, f"{LIST}/M-002/randomise", f"{LIST}/M-002/randomised", f"{LIST}/M-001"):
        reply = browser.client.get(path)
        assert reply.status_code == 200, path
        main = BeautifulSoup(reply.text, "html.parser").main
        assert main is not None
        found = SECRETS.search(main.get_text(" ", strip=True))
        assert found is None, (path, found)


def test_the_number_is_of_the_study_and_counts_up(world: World):
    sealed(world)
    browser, south = world.coordinator(), world.coordinator("south")
    world.filled()
    world.filled("south")
    assert south.post(f"{LIST}/M-002/randomise", {"password": PASSWORD}).status_code == 303
    assert browser.post(FORM, {"password": PASSWORD}).status_code == 303
    participant = world.found("M-001")
    assert participant.id is not None
    with world.database.reading() as session:
        made = allocation_of(session, participant.id)
        assert session.execute(select(func.count()).select_from(Site)).scalar_one() == 2
    assert made is not None
    assert made.number == 2
