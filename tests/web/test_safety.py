"""The pages of adverse events: reported, followed up, judged and reviewed; nothing typed is lost, no arm is told."""

import re
from datetime import timedelta
from typing import Any

import pytest
from bs4 import BeautifulSoup

from app.foundation.database import Database
from app.rendering import day
from tests.safety.world import SAFETY
from tests.web.browser import PASSWORD, Browser, counted_statements, signed_in_client, words_of
from tests.web.world import World

LIST = "/mini/safety"
NEW = "/mini/participants/M-001/adverse-events/new"
TYPED: dict[str, Any] = {
    "term": "Fall on the stairs",
    "code": "fall",
    "severity": "moderate",
    "serious": "no",
    "criteria": None,
    "action": "none",
    "outcome": "recovering",
    "narrative": "Slipped on wet leaves.",
}
SERIOUS = {"serious": "yes", "criteria": ["hospitalisation"]}


def said(reply: Any) -> str:
    return " ".join(words_of(reply.text).split())


@pytest.fixture
def world(shared_database: Database) -> World:
    made = World(shared_database, safety=SAFETY)
    made.consented()
    return made


def typed(world: World, **changes: Any) -> dict[str, Any]:
    return {**TYPED, "onset": f"{world.today():%Y-%m}", **changes}


def reported(world: World, browser: Browser, **changes: Any) -> str:
    """The page of a new event."""
    reply = browser.post(NEW, typed(world, **changes))
    assert reply.status_code == 303, said(reply)
    return str(reply.headers["location"]).partition("?")[0]


@pytest.mark.requirement("E6-6", "P11-e1", "P11-50a")
def test_a_serious_event_from_report_to_review(world: World):
    coordinator = world.coordinator()
    page = coordinator.soup("/mini/participants/M-001")
    assert page.select_one(f'#safety a[href="{NEW}"]') is not None
    url = reported(world, coordinator, **SERIOUS)
    shown = said(coordinator.get(url))
    for words in ("Fall on the stairs", "Hospital admission", "To be judged", "Report to the sponsor", "hours"):
        assert words in shown
    assert "Judge it" not in shown
    investigator = world.browser("investigator")
    today = said(investigator.get("/mini/today"))
    assert "Safety clocks" in today
    assert "One adverse event to be judged" in today
    assert "Waits for you" not in said(coordinator.get("/mini/today")), "only who may act is asked"
    assert "Report to the sponsor" in today
    judgement = {"relatedness": "possible", "expected": "no", "words": "Weak legs are known.", "password": "wrong"}
    refused = investigator.post(f"{url}/judgement", judgement, page=url)
    assert refused.status_code == 422
    assert "Weak legs are known." in refused.text
    signed = investigator.post(f"{url}/judgement", {**judgement, "password": PASSWORD}, page=url)
    assert signed.status_code == 303, said(signed)
    assert "Ask somebody else who may review it" in said(investigator.get(url))
    assert "Waits for you" not in said(investigator.get("/mini/today")), "nobody reviews their own judgement"
    manager = world.browser("data_manager")
    assert "One judgement that waits for a second person" in said(manager.get("/mini/today"))
    review = {"agree": "no", "words": "", "password": PASSWORD}
    assert manager.post(f"{url}/review", review, page=url).status_code == 422
    assert manager.post(f"{url}/review", {**review, "agree": "yes"}, page=url).status_code == 303
    assert "Reviewed" in said(manager.get(url))
    assert "Waits for you" not in said(manager.get("/mini/today"))
    sent = coordinator.post(f"{url}/clock", {"clock": "sponsor", "reference": "Mail, SAE-7"}, page=url)
    assert sent.status_code == 303, said(sent)
    assert "Reported in time" in said(coordinator.get(url))
    assert "Safety clocks" not in said(investigator.get("/mini/today"))
    log = world.log()
    for action in ("reported", "clock_started", "escalated", "judged", "reviewed", "clock_stopped"):
        assert f"adverse_event.{action}" in log
    assert "Adverse event reported" in said(investigator.get("/mini/audit?kind=adverse_event."))


@pytest.mark.requirement("P11-e2", "REL-4")
def test_follow_ups_add_and_what_somebody_else_wrote_is_shown_beside_mine(world: World):
    coordinator = world.coordinator()
    url = reported(world, coordinator)
    assert reported(world, coordinator) == url  # the same once more
    for where in (url, "/mini/safety"):
        assert f"{world.today():%b %Y}" in said(coordinator.get(where)), "as everywhere, and as far as it is known"
    form = coordinator.form(f"{url}/follow-up")
    assert form["term"] == [TYPED["term"]]
    assert form["severity"] == ["moderate"]
    late = {**form, "outcome": "recovered", "narrative": "Well again."}
    assert coordinator.send(f"{url}/follow-up", {**form, "severity": "mild"}).status_code == 303
    conflict = coordinator.send(f"{url}/follow-up", late)
    assert conflict.status_code == 409
    shown = said(conflict)
    assert "Somebody reported on this event while you were typing" in shown
    assert "Field You typed Stands now" in shown
    assert "Well again." in conflict.text
    page = BeautifulSoup(conflict.text, "html.parser")
    assert page.select_one("input[name=version]")["value"] == "2"  # type: ignore[index]
    history = said(coordinator.get(url))
    assert "Severity: was Moderate is now Mild" in history
    wrong = coordinator.post(f"{url}/follow-up", {"kind": "correction", "severity": "severe"})
    assert wrong.status_code == 422
    assert "what was wrong in the report before" in said(wrong)
    assert coordinator.post(f"{url}/void", {"why": "Another participant"}, page=url).status_code == 303
    assert "Void" in said(coordinator.get(url))
    assert "is void" in said(coordinator.get(f"{url}/follow-up"))


@pytest.mark.requirement("P11-e2")
def test_when_the_site_learnt_of_it_is_corrected_from_what_stands(world: World):
    coordinator = world.coordinator()
    url = reported(world, coordinator, **SERIOUS)
    page = coordinator.soup(url)
    assert page.select_one(f'a[href="{url}/follow-up?kind=correction"]') is not None
    address = f"{url}/follow-up?kind=correction"
    form = coordinator.form(address, f"{url}/follow-up")
    assert form["corrects"] == ["1"]
    assert form["kind"] == ["correction"]
    before = f"{world.today() - timedelta(days=2)}"
    same = coordinator.send(f"{url}/follow-up", {**form, "why": "Misread"})
    assert same.status_code == 422
    assert "Nothing differs" in said(same)
    again = BeautifulSoup(same.text, "html.parser")
    assert again.select_one("input[name=corrects]")["value"] == "1"  # type: ignore[index]
    typed_in = {"aware_on": before, "why": "The ward rang on that day.", "onset": before[:7]}
    assert coordinator.send(f"{url}/follow-up", {**form, **typed_in}).status_code == 303
    shown = said(coordinator.get(url))
    assert "over" in shown, "the deadline moved with it"
    assert "of version 1" in shown
    assert "adverse_event.clock_moved" in world.log()
    sent = {"clock": "sponsor/0", "reference": "SAE-7"}
    assert coordinator.post(f"{url}/clock", sent, page=url).status_code == 303
    assert "Reported late" in said(coordinator.get(url))
    back = {
        **coordinator.form(address, f"{url}/follow-up"),
        "aware_on": f"{world.today()}",
        "aware_time": "00:00",
        "why": "It was not.",
    }
    assert coordinator.send(f"{url}/follow-up", back).status_code == 303
    assert "Reported as counted then. As corrected since" in said(coordinator.get(url))
    news = {"narrative": "Kept another night."}
    assert coordinator.post(f"{url}/follow-up", news, page=f"{url}/follow-up").status_code == 303
    shown = said(coordinator.get(url))
    assert "News of version 4" in shown
    assert coordinator.soup(url).select_one(f'a[href="{url}/follow-up?kind=correction&of=1"]') is not None
    assert "sponsor/4" in coordinator.get(url).text
    news_sent = {"clock": "sponsor/4", "reference": "SAE-7, follow-up 1"}
    assert coordinator.post(f"{url}/clock", news_sent, page=url).status_code == 303


DEAD = {"serious": "yes", "criteria": ["death"], "outcome": "fatal"}


@pytest.mark.requirement("P11-f")
def test_a_fatal_event_asks_for_the_death_and_nothing_is_planned_meanwhile(world: World):
    coordinator, investigator = world.coordinator(), world.browser("investigator")
    someone = "/mini/participants/M-001"
    assert "Record the death" not in said(coordinator.get(someone))
    url = reported(world, coordinator, **DEAD)
    for page in (someone, "/mini/today"):
        for each in (coordinator, investigator):
            shown = each.soup(page)
            assert shown.select_one(f'a[href="{someone}/death"]') is not None, page
            assert shown.select_one(f'a[href="{url}"]') is not None, page
    number = url.rpartition("/")[2]
    words = f"Adverse event {number} of M-001 was fatal. Record the death"
    assert words in said(coordinator.get(f"{someone}/randomise"))
    assert coordinator.soup(someone).select_one('a[href*="/appointments/new"]') is None
    clinician = world.browser("clinician")
    assert f"/safety/events/{number}" not in clinician.get(someone).text, "who treats sees what they reported"
    alive = {**TYPED, "outcome": "recovering", "why": "Somebody else's event", "kind": "correction"}
    alive |= {"onset": f"{world.today():%Y-%m}"}
    assert coordinator.post(f"{url}/follow-up", alive, page=f"{url}/follow-up").status_code == 303
    assert "Record the death" not in said(coordinator.get(someone))
    assert words not in said(coordinator.get(f"{someone}/randomise"))
    assert "Deaths to record" not in said(coordinator.get("/mini/today"))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"term": ""}, "term"),
    ({"onset": "last week"}, "onset"),
    ({"onset": "2099"}, "onset"),
    ({"ended": "2000"}, "ended"),
    ({"severity": ""}, "severity"),
    ({"serious": ""}, "serious"),
    ({"serious": "yes"}, "criteria"),
    ({"criteria": ["death"]}, "criteria"),
    ({"outcome": "fatal"}, "criteria"),
    ({"outcome": ""}, "outcome"),
    ({"aware_on": "2099-01-01"}, "aware_at"),
    ({"aware_time": "noon"}, "aware_at"),
]


def test_what_is_wrong_is_said_and_what_was_typed_stays(world: World):
    coordinator = world.coordinator()
    form = {**coordinator.form(NEW), **{name: value for name, value in typed(world).items() if value is not None}}
    for changes, field in WRONG:
        reply = coordinator.send(NEW, {**form, **changes})
        assert reply.status_code == 422, changes
        page = BeautifulSoup(reply.text, "html.parser")
        assert page.select_one(f"#field-{field}.has-error") is not None, changes
        assert page.select_one("textarea[name=narrative]").get_text(strip=True) == TYPED["narrative"]  # type: ignore[union-attr]


@pytest.mark.parametrize("language", ["en", "de", "es"])
def test_a_date_that_cannot_be_read_is_answered_with_one_as_the_hint_writes_it(world: World, language: str):
    coordinator = world.coordinator()
    coordinator.client.headers["Accept-Language"] = language
    page = BeautifulSoup(coordinator.post(NEW, typed(world, onset="last week")).text, "html.parser")
    hint, error = (page.select_one(f"#onset-{part}") for part in ("hint", "error"))
    assert hint is not None
    assert error is not None
    shown = day(world.today(), language)
    assert shown in hint.get_text()
    assert shown in error.get_text()
    assert world.today().isoformat() in error.get_text()
    assert not re.search("YYYY|JJJJ|AAAA", error.get_text())


def test_everything_that_is_wrong_with_an_event_is_said_at_once(world: World):
    coordinator, later = world.coordinator(), (world.today() + timedelta(days=3)).isoformat()
    wrong = typed(world, serious="yes", criteria=[], term="x" * 1000, onset=later, aware_on="soon")
    reply = coordinator.post(NEW, wrong)
    fields = {each["href"] for each in BeautifulSoup(reply.text, "html.parser").select(".error-summary a")}
    assert (reply.status_code, fields) == (422, {"#criteria", "#aware_at", "#term", "#onset"})


@pytest.mark.requirement("E6-6", "CONC-7", "CONC-11")
def test_a_clinician_confirms_telling_words_and_sees_nothing_of_the_judgement(world: World):
    clinician, investigator = world.browser("clinician"), world.browser("investigator")
    others = reported(world, world.coordinator(), term="A cold")
    telling = typed(world, narrative="Burnt by the laser", **SERIOUS)
    reply = clinician.post(NEW, telling)
    assert reply.status_code == 422
    assert "“laser” may tell an arm" in said(reply)
    assert "Burnt by the laser" in reply.text
    page = BeautifulSoup(reply.text, "html.parser")
    assert page.select_one("input[name=confirmed][value=laser]") is not None
    url = reported(world, clinician, narrative="Burnt by the laser", confirmed=["laser"], **SERIOUS)
    judgement = {"relatedness": "definite", "expected": "no", "words": "Plainly so.", "password": PASSWORD}
    assert investigator.post(f"{url}/judgement", judgement, page=url).status_code == 303
    assert "words confirmed to tell no arm" in said(investigator.get(url))
    theirs = said(clinician.get(url))
    for hidden in ("Plainly so", "Definitely", "Judged", "Clocks", "sponsor", "Unexpected"):
        assert hidden not in theirs
    listed = said(clinician.get(LIST))
    assert "Fall on the stairs" in listed
    assert "A cold" not in listed
    assert clinician.get(others).status_code == 404
    assert "How many" in said(clinician.get("/mini/participants/M-001"))
    assert clinician.get(f"{LIST}/deviations").status_code == 403


def test_the_list_is_filtered_sorted_and_taken_as_a_file(world: World):
    coordinator = world.coordinator()
    for term, changes in (("Cold", {}), ("Fall", SERIOUS), ("=HYPERLINK(1)", {})):
        reported(world, coordinator, term=term, **changes)

    def terms(query: str) -> list[str]:
        rows = coordinator.soup(f"{LIST}?{query}").select("tbody tr")
        return [cell.get_text(" ", strip=True) for row in rows for cell in row.select("td.wide")]

    assert [each.split()[0] for each in terms("")] == ["=HYPERLINK(1)", "Fall", "Cold"]
    assert [each.split()[0] for each in terms("sort=number")] == ["Cold", "Fall", "=HYPERLINK(1)"]
    assert terms("serious=yes") == ["Fall serious"]
    assert terms("find=COLD") == terms("find=cold&waiting=judgement") == ["Cold"]
    assert "No adverse event fits these filters" in said(coordinator.get(f"{LIST}?waiting=review"))
    assert "No adverse event is reported" in said(world.coordinator("south").get(LIST))
    lines = coordinator.get(f"{LIST}?format=csv&serious=no").text.splitlines()
    assert lines[0].lstrip("\ufeff").startswith("number,participant,site,term")
    assert "'=HYPERLINK(1)" in lines[1]
    assert len(lines) == 3


@pytest.mark.requirement("CONC-1", "CONC-11")
@pytest.mark.parametrize("role", ["coordinator", "assessor", "investigator", "data_manager", "monitor"])
def test_no_page_of_safety_names_an_arm_or_asks_too_much(world: World, role: str):
    url = reported(world, world.coordinator(), **SERIOUS)
    browser = signed_in_client(world.database, world.person(role)) if role != "coordinator" else world.coordinator()
    for page in (LIST, url, f"{LIST}/deviations", f"{LIST}/screening", "/mini/participants/M-001", "/mini/today"):
        with counted_statements(world.database) as statements:
            reply = browser.get(page)
        assert reply.status_code == 200
        assert not re.search(r"Zephyrine|Placebex|\bsham\b", reply.text), page
        assert len(statements) <= 12, page
