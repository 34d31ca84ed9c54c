"""Today: what is due, what is lacking, what waits; and where each role begins."""

from datetime import timedelta

import pytest
from bs4 import BeautifulSoup
from sqlmodel import Session, select, update

from app.capture.reads import ENTRY
from app.consent.reads import CONSENT
from app.foundation import clock, paging
from app.foundation.database import Database
from app.participants.identity import PARTICIPANT
from app.schedule.reads import VISIT
from tests.factories import definition
from tests.web.browser import anonymous_client, counted_statements
from tests.web.test_consent import NEWER
from tests.web.world import World

TODAY = "/mini/today"
OBSERVED = [{**visit, "anchor": "consent"} for visit in definition().model_dump(mode="json")["visits"]]


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def words(browser, path: str = TODAY) -> str:
    return str(browser.soup(path).get_text(" ", strip=True))


@pytest.mark.parametrize(
    ("role", "path"),
    [
        ("coordinator", "/mini/today"),
        ("assessor", "/mini/today"),
        ("investigator", "/mini/today"),
        ("data_manager", "/mini/participants"),
        ("monitor", "/mini/today"),
        ("clinician", "/mini/treatment"),
        ("statistician", "/mini/sequence"),
        ("administrator", "/mini/study"),
    ],
)
def test_a_study_begins_with_the_first_page_of_ones_role(world, role, path):
    browser = world.browser(role)
    assert browser.get("/mini").headers["location"] == path
    first = browser.soup(path).select_one(".rail .nav a")
    assert first is not None
    assert first["href"] == path, "home stands first in the rail"


def test_where_no_arm_is_allocated_a_clinician_begins_with_the_participants(shared_database: Database):
    world = World(shared_database, allocation={"method": "observed"}, visits=OBSERVED)
    clinician = world.browser("clinician")
    assert clinician.get("/mini").headers["location"] == "/mini/participants"
    assert not clinician.soup("/mini/participants").select(".rail a[href='/mini/treatment']")


def test_nobody_signed_in_is_asked_to_sign_in(world):
    reply = anonymous_client(world.database).get(TODAY, follow_redirects=False)
    assert reply.headers["location"] == "/sign-in?next=%2Fmini%2Ftoday"


def test_an_empty_day_says_what_to_do_next(world):
    said = words(world.coordinator())
    assert "No visit is due within a week" in said
    assert "Nobody is waiting" in said
    assert "Waiting for your signature" not in said
    assert "Nothing waits for a signature" in words(world.browser("assessor"))


def test_everybody_on_the_way_has_what_they_lack_and_one_click_to_it(world):
    world.screened()
    world.consented()
    world.filled()
    page = world.coordinator().soup(TODAY)
    links = [str(link["href"]) for link in page.select("td a")]
    assert "/mini/participants/M-001/consent" in links
    assert "/mini/participants/M-002/visits/baseline" in links
    assert "/mini/participants/M-003/randomise" in links
    said = page.get_text(" ", strip=True)
    assert "Nothing: ready" in said
    assert said.index("M-003") < said.index("M-001")
    assert "0 of 1" in said
    assert "14 days left" in said


def test_who_may_not_do_it_gets_no_link_to_it(world):
    world.screened()
    links = [str(link["href"]) for link in world.browser("assessor").soup(TODAY).select("td a")]
    assert links == []


def test_a_consent_that_waits_is_countersigned_from_here(world):
    world.screened()
    world.consented(countersigned=False)
    for browser in (world.coordinator(), world.browser("investigator")):
        links = browser.soup(TODAY).select("td a")
        assert [link.get_text(strip=True) for link in links] == ["Countersign consent", "Record consent"]
        assert str(links[0]["href"]).endswith("/countersign")
        assert browser.get(str(links[0]["href"])).status_code == 200
    assert "A countersignature" in words(world.browser("assessor"))


def test_who_was_screened_long_ago_stands_behind_one_line_and_not_above_what_is_due(world):
    codes = [world.screened().code for _ in range(3)]
    waiting = world.consented(countersigned=False).code
    browser = world.coordinator()

    def shown() -> tuple[list[str], list[tuple[str, str]]]:
        with counted_statements(world.database) as statements:
            page = browser.soup(TODAY)
        assert len(statements) <= 12, statements
        table = page.find("caption", string="Participants before randomisation and what they still lack")
        lines = [] if table is None else table.find_parent("table").select("tbody th")
        links = page.select('a[href*="?status="]')
        return [line.get_text() for line in lines], [(link.get_text(), str(link["href"])) for link in links]

    def screened(weeks: int, *which: str) -> None:
        on = world.today() - timedelta(weeks=weeks)
        with world.database.writing() as session:
            session.execute(update(PARTICIPANT).where(PARTICIPANT.c.code.in_(which)).values(screened_on=on))

    assert shown() == ([waiting, *reversed(codes)], []), "what needs only a signature, then the newest"
    screened(4, codes[0])
    screened(5, codes[1], waiting)
    wanted = "/mini/participants?status=screened&sort=-screened_on"
    one = ("One more was screened earlier and went no further", wanted)
    assert shown() == ([waiting, codes[2], codes[0]], [one])
    leads_to = browser.soup(one[1]).select("tbody th")
    assert [cell.get_text() for cell in leads_to] == [codes[2], codes[0], waiting, codes[1]]
    screened(5, *codes)
    assert shown()[1] == [("3 more were screened earlier and went no further", wanted)]


def test_of_many_on_the_way_the_newest_are_shown_and_the_rest_are_counted(world, monkeypatch):
    monkeypatch.setattr("app.web.today.SHOWN", 2)
    waiting = world.consented(countersigned=False).code
    others = [world.screened().code for _ in range(3)]
    ready = [world.consented().code for _ in range(3)]
    page = world.coordinator().soup(TODAY)
    links = {link.get_text(): str(link["href"]) for link in page.select('a[href*="?status="]')}
    assert links == {
        "One more has consented": "/mini/participants?status=consented",
        "One more was screened earlier and went no further": "/mini/participants?status=screened&sort=-screened_on",
    }
    shown = [cell.get_text() for cell in page.select("tbody th")]
    assert shown[-5:] == [*ready[1:], waiting, *reversed(others[1:])], "the signature that lacks, however old it is"


def test_where_everybody_was_screened_long_ago_nobody_waits(world):
    world.screened()
    with world.database.writing() as session:
        session.execute(update(PARTICIPANT).values(screened_on=world.today() - timedelta(weeks=30)))
    said = words(world.coordinator())
    assert "Nobody was screened in the last four weeks." in said
    assert "One more was screened earlier and went no further" in said


def test_late_visits_are_counted_and_marked(world):
    world.consented()
    with world.database.writing() as session:
        late(session)
    said = words(world.coordinator())
    assert "one late" in said
    assert "Late" in said


def late(session: Session) -> None:
    from datetime import timedelta

    for row in session.execute(VISIT.select()).mappings().all():
        moved = {name: row[name] - timedelta(days=60) for name in ("target_on", "opens_on", "closes_on")}
        session.execute(update(VISIT).where(VISIT.c.id == row["id"]).values(**moved))


def test_complete_entries_wait_for_those_who_sign(world):
    world.filled()
    page = world.browser("assessor").soup(TODAY)
    assert page.find("a", href="/mini/participants/M-001/visits/baseline/entries/pain") is not None
    assert "Waiting for your signature" not in words(world.coordinator())


def test_the_primary_endpoint_and_the_newest_wait_for_a_signature_first(world, monkeypatch):
    monkeypatch.setattr("app.web.today.TO_SIGN", 2)
    for _ in range(5):
        world.filled()
    with world.database.writing() as session:
        ids = session.execute(select(ENTRY.c.id).order_by(ENTRY.c.id)).scalars().all()
        changes = zip(ids, ("baseline", "week18", "baseline", "week18", "baseline"), (3, 9, 1, 8, 2), strict=True)
        for entry, visit, days in changes:
            at = clock.now() - timedelta(days=days)
            session.execute(update(ENTRY).where(ENTRY.c.id == entry).values(visit=visit, saved_at=at))
    browser = world.browser("assessor")

    def shown(path):
        page = browser.soup(path)
        onward = {rel: page.select_one(f"#signatures a[rel={rel}]") for rel in ("next", "prev")}
        said = page.select_one("#signatures").get_text(" ", strip=True)
        assert "5 visits" in said
        codes = [row.get_text(strip=True) for row in page.select("#signatures tbody th")]
        return codes, {rel: str(link["href"]) for rel, link in onward.items() if link}

    first, there = shown(TODAY)
    second, on = shown(there["next"])
    third, end = shown(on["next"])
    assert [*first, *second, *third] == ["M-004", "M-002", "M-003", "M-005", "M-001"]
    assert "next" not in end
    assert shown(end["prev"])[0] == second
    assert browser.get(f"{TODAY}?sign_after=nonsense").status_code == 422
    assert browser.get(f"{TODAY}?sign_after={paging.encode(1, 'soon', 1, 'week18')}").status_code == 422


def test_only_my_sites_and_the_chosen_one_are_shown(world):
    world.consented("north")
    world.consented("south")
    assert "M-002" not in words(world.coordinator("north"))
    investigator = world.browser("investigator", site_code=None)
    assert {"M-001", "M-002"} <= set(words(investigator).split())
    investigator.post("/mini/site", {"site": "north", "back": TODAY}, page=TODAY)
    assert "M-002" not in words(investigator)
    assert "North clinic" in words(investigator)


def test_a_site_that_is_not_mine_is_not_chosen(world):
    browser = world.coordinator("north")
    token = browser.soup(TODAY).select_one("meta[name=csrf-token]")["content"]
    reply = browser.send("/mini/site", {"site": "south", "back": "//elsewhere.example", "csrf_token": token})
    assert reply.headers["location"] == "/"
    assert browser.client.cookies.get("site") is None


def test_the_same_site_can_be_chosen_twice_from_one_page(world):
    browser = world.browser("investigator", site_code=None)
    fields = browser.form(TODAY, "/mini/site")
    for code in ("north", "south", "north"):
        assert browser.send("/mini/site", {**fields, "site": code}).status_code == 303
        assert browser.client.cookies.get("site") == code


@pytest.mark.parametrize("role", ["statistician", "administrator"])
def test_who_sees_no_participants_has_no_today(world, role):
    assert world.browser(role).get(TODAY).status_code == 403


def test_a_page_link_that_was_tampered_with_says_so(world):
    reply = world.coordinator().get(f"{TODAY}?after=nonsense")
    assert reply.status_code == 422
    assert "Start again from the first page" in BeautifulSoup(reply.text, "html.parser").get_text()


def test_no_page_asks_the_database_more_than_twelve_times(database: Database):
    world = World(database)
    for _ in range(3):
        world.filled()
        world.screened("south")
    for browser in (world.browser("coordinator", "investigator"), world.browser("investigator", site_code=None)):
        with counted_statements(database) as statements:
            assert browser.get(TODAY).status_code == 200
        assert 2 <= len(statements) <= 12, statements


def test_nor_where_the_consent_document_has_several_versions_and_people_owe_the_newer(database: Database):
    versions = ("0", "1")
    documents = [{**each, "version": version} for each, version in zip(NEWER, versions, strict=True)]
    world = World(database, consent_documents=documents)
    for site_code in ("north", "south"):
        world.filled(site_code)
        world.consented(site_code)
    world.screened()
    with database.writing() as session:  # all of them signed the first, before the second was valid
        session.exec(update(CONSENT).values(document_version="0"))
    for browser in (world.browser("coordinator", "investigator"), world.browser("investigator", site_code=None)):
        assert browser.get(TODAY).status_code == 200  # a process reads the definition of the study once
        with counted_statements(database) as statements:
            page = browser.soup(TODAY)
        assert "Newer consents owed" in page.get_text()
        assert 2 <= len(statements) <= 12, statements
