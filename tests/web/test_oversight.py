"""The pages of oversight: what is worth a look in the log, a review with a word on each, and those there were."""

import csv
from datetime import timedelta

import pytest

from app.audit.actions import Change, record
from app.foundation import clock
from app.foundation.database import Database
from app.people import reads as people
from app.reports.review import reads as review_reads
from app.reports.review.rules import SAID, Kind
from tests.api.client import api_client
from tests.web.browser import counted_statements
from tests.web.test_safety import said
from tests.web.world import World

AUDIT, PAGE, REVIEWS = "/mini/audit", "/mini/audit/review", "/mini/audit/reviews"


@pytest.fixture
def world(shared_database: Database) -> World:
    """Two people; of one an answer was corrected time and again, and somebody was refused."""
    made = World(shared_database)
    made.filled()
    by = made.coordinators["north"]
    with shared_database.writing() as session:
        for value in range(3):
            changed = Change("entry.corrected", "M-001", "entry/baseline/pain", "pain_nrs", value, value + 1, "Misread")
            record(session, "mini", [changed], by=by, now=clock.now())
        refused = Change("participant.randomise_refused", "M-001", why="The list is not sealed yet.")
        record(session, "mini", [refused], by=by, now=clock.now())
    return made


@pytest.mark.requirement("EMA-10", "AX11-9", "E6-11")
def test_what_is_worth_a_look_gets_a_word_and_the_review_stays(world: World):
    monitor = world.browser("monitor", site_code=None)
    with counted_statements(world.database) as statements:
        page = monitor.soup(PAGE)
    assert len(statements) <= 12, statements
    titles = [each.get_text(" ", strip=True) for each in page.select("section.section h2")]
    assert f"{SAID[Kind.CORRECTED_ITEM].label} 1" in titles
    assert f"{SAID[Kind.REFUSED].label} 1" in titles
    text = page.get_text(" ", strip=True)
    assert "M-001 Baseline, Pain: Pain, past week 3 In the log" in text
    assert "Refused: randomise participant" in text
    link = page.select_one("#corrected_item a[href*='kind=entry.corrected']")
    assert link is not None
    assert "Misread" in said(monitor.get(str(link["href"])))

    empty = monitor.post(PAGE, {"follows": "", "word_refused": "Looked at it."}, page=PAGE)
    assert empty.status_code == 422
    assert "Looked at it." in empty.text
    assert "Say a word on this." in said(empty)
    assert "Say what follows" in said(empty)
    words = {f"word_{kind}": f"About {kind}." for kind in Kind}
    told = monitor.post(PAGE, {**words, "follows": "Zephyrine training"}, page=PAGE)
    assert told.status_code == 422
    assert "Does this tell an arm?" in said(told)
    fields = monitor.form(PAGE) | {**words, "follows": "The form is mended by Friday."}
    kept = monitor.send(PAGE, fields)
    assert kept.status_code == 303, said(kept)
    assert kept.headers["location"].startswith(REVIEWS)
    manager = world.browser("data_manager", site_code=None)
    late = manager.send(PAGE, fields | {"csrf_token": manager.form(PAGE)["csrf_token"]})
    assert late.status_code == 409
    assert "Somebody recorded a review of these entries meanwhile" in said(late)

    (row,) = monitor.soup(REVIEWS).select("tbody tr")
    assert "monitor_all" in row.get_text(" ")
    assert "The form is mended by Friday." in row.get_text(" ")
    (link,) = row.select("a")
    past = said(monitor.get(str(link["href"])))
    assert "About corrected_item." in past
    lines = list(csv.DictReader(monitor.get(f"{REVIEWS}?format=csv").text.removeprefix("\ufeff").splitlines()))
    assert {line["word"] for line in lines} >= {"About refused.", "About corrected_item."}
    assert "Log reviewed" in said(monitor.get(AUDIT))
    # The next review begins behind it: what was found is found no more.
    assert SAID[Kind.CORRECTED_ITEM].label not in said(monitor.get(PAGE))


@pytest.mark.requirement("EMA-10")
def test_a_program_reads_and_records_reviews_as_well(world: World):
    manager = api_client(world.database, world.person("data_manager", site_code=None))
    found = manager.done("GET", "/log-review")
    assert {each["kind"] for each in found["findings"]} >= {"corrected_item", "refused"}
    words = {each["kind"]: "Seen." for each in found["findings"]}
    body = {"since": found["since"], "upto": found["upto"], "words": words, "follows": "Nothing."}
    assert manager.request("POST", "/log-reviews", json={**body, "words": {"moon": "Full."}}).status_code == 422
    made = manager.done("POST", "/log-reviews", body)
    assert (made["log_from"], made["log_to"]) == (found["since"], found["upto"])
    assert manager.done("GET", f"/log-reviews/{made['number']}") == made
    assert manager.done("GET", "/log-reviews")["items"] == [made]
    assert manager.request("POST", "/log-reviews", json=body).status_code == 409
    assert manager.done("GET", "/log-review")["since"] == found["upto"]


def test_what_is_there_at_once_stays_as_it_is(world: World):
    reply = world.browser("monitor", site_code=None).get(PAGE)
    assert "The log is being gone through" not in said(reply)
    assert "refresh" not in reply.headers


def test_of_much_the_page_says_that_it_is_gone_through_and_does_not_wait(world: World, monkeypatch: pytest.MonkeyPatch):
    monitor = world.browser("monitor", site_code=None)
    monkeypatch.setattr(review_reads, "LARGE", 1)
    monkeypatch.setattr("app.reports.kept.threading.Thread.start", lambda self: None)
    with counted_statements(world.database) as statements:
        reply = monitor.get(f"{PAGE}?again=yes")
    assert "The log is being gone through" in said(reply)
    assert reply.headers["refresh"] == f"10; url={PAGE}", "it looks again, and does not begin anew each time"
    assert not [each for each in statements if "outer join" in each.lower() and "audit_entry" in each]


ACCESS = "/mini/study/access"


@pytest.mark.requirement("P11-300b", "SPI-23")
def test_whoever_manages_people_confirms_or_ends_each_role(shared_database: Database):
    world = World(shared_database, oversight={"access_review_days": 90})
    both = world.person("investigator", "assessor")
    administrator = world.browser("administrator")
    with counted_statements(world.database) as statements:
        page = administrator.soup(ACCESS)
    assert len(statements) <= 12, statements
    text = page.get_text(" ", strip=True)
    assert "Whoever may break the blind assesses outcomes." in text
    assert "None yet" in text
    empty = administrator.post(ACCESS, {"word": ""}, page=ACCESS)
    assert empty.status_code == 422
    assert "Confirm this role or end it." in said(empty)
    ids = str(administrator.form(ACCESS)["memberships"][0]).split()
    assert len(ids) == 4
    with world.database.reading() as session:
        theirs = {str(each.id): each.role for each in people.memberships_of(session, both.person_id)}
    decisions = {f"role_{each}": "ended" if theirs.get(each) == "assessor" else "confirmed" for each in ids}
    kept = administrator.post(ACCESS, {**decisions, "word": "The delegation log."}, page=ACCESS)
    assert kept.status_code == 303, said(kept)
    page = administrator.soup(ACCESS)
    assert "Whoever may break the blind" not in page.get_text(" ")
    assert "Next review due" in page.get_text(" ")
    (link, *_) = page.select(f"a[href^='{ACCESS}/']")
    past = said(administrator.get(str(link["href"])))
    assert "Ended" in past
    assert "The delegation log." in past
    rows = list(csv.DictReader(administrator.get(f"{ACCESS}?format=csv").text.removeprefix("\ufeff").splitlines()))
    assert {row["role"] for row in rows} == {"coordinator", "investigator", "administrator"}

    # Given back, the role needs a reason, which is asked for where it is given.
    url = f"/people/{both.person_id}"
    role = {"role": "assessor", "place": "mini/north"}
    asked = administrator.post(f"{url}/roles", role, page=url)
    assert asked.status_code == 409
    assert "Why this person holds both" in said(asked)
    assert administrator.post(f"{url}/roles", {**role, "why_both": "Nobody else."}, page=url).status_code == 303


@pytest.mark.requirement("AX11-11")
def test_the_report_of_a_period_counts_what_happened_around_the_data(world: World):
    monitor = world.browser("monitor", site_code=None)
    words = {f"word_{kind}": "Seen." for kind in Kind}
    monitor.post(PAGE, {**words, "follows": "Nothing."}, page=PAGE)
    with world.database.writing() as session:
        given = Change("role.granted", subject="person/ada", item="monitor")
        record(session, "mini", [given, given], by=monitor.actor, now=clock.now())
        put_back = Change("log.reconciled", subject="log")
        record(session, "mini", [put_back], by=monitor.actor, now=clock.now() - timedelta(days=200))
    path = "/mini/audit/period"
    with counted_statements(world.database) as statements:
        page = monitor.soup(path)
    assert len(statements) <= 12, statements
    facts = {row.select("dt")[0].get_text(): row.select("dd")[0].get_text() for row in page.select("dl.facts > div")}
    assert facts["Roles given"] == "2"
    assert facts["Refused attempts, as reviewed"] == "1"
    assert "monitor_all" in facts["Reviews of the log"]
    assert facts["Restores from a backup that were reconciled"] == "0"
    assert facts["Exports that failed"] == "0"
    earlier = monitor.soup(f"{path}?since=2020-01-01&until={clock.now():%Y-%m-%d}")
    assert "Restores from a backup that were reconciled1" in earlier.get_text("").replace("\n", "")
    assert monitor.get(f"{path}?since=yesterday").status_code == 422
    assert monitor.get(f"{path}?since=2026-03-02&until=2026-03-01").status_code == 422
    assert monitor.get(f"{path}.pdf").content.startswith(b"%PDF")
