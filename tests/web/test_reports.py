"""The page of reports: pictures, tables and files, for one's own sites, as counted within the last minute."""

import csv
import json
import re
from datetime import timedelta

import pytest
import time_machine
from sqlalchemy import insert, select, update
from sqlmodel import Session

from app.capture.reads import ENTRY
from app.foundation.database import Database
from app.participants.identity import PARTICIPANT
from app.reports.kept import AGAIN_AFTER, KEPT_FOR, Kept
from app.schedule.reads import VISIT
from app.web.flow import NARROW, WIDE, Columns, Part, Step, drawn
from app.web.reports import FILES
from tests.api.client import api_client
from tests.capture.records import consented
from tests.factories import NOW, TODAY, definition
from tests.web.browser import counted_statements
from tests.web.test_participants import withdrawal
from tests.web.test_safety import said
from tests.web.world import World

PAGE = "/mini/reports"


@pytest.fixture
def world(shared_database: Database) -> World:
    """Five people: two of the north were randomised, one of them failed screening, and one of the south waits."""
    made = World(shared_database)
    with shared_database.writing() as session:
        for code in ("M-001", "M-002"):
            consented(session, made.study, code)
        consented(session, made.study, "M-003", status="screen_failed", consent=False, failure_reason="declined")
        consented(session, made.study, "M-004", site_code="south", status="consented")
        _randomised(session, "M-001", "M-002")
    return made


def _randomised(session: Session, *codes: str) -> None:
    ids = PARTICIPANT.c.code.in_(codes)
    session.execute(update(PARTICIPANT).where(ids).values(randomised_on=TODAY, randomised_at=NOW, randomised_by="test"))


@pytest.mark.requirement("SPI-29", "E6-4")
def test_every_part_is_a_picture_a_table_and_a_file(world: World):
    manager = world.browser("data_manager", site_code=None)
    with counted_statements(world.database) as statements:
        page = manager.soup(PAGE)
    assert len(statements) <= 12, statements
    titles = [each.get_text(" ", strip=True) for each in page.select("main h2")]
    assert len(titles) == len(set(titles)) == len(FILES)
    assert "2 of 40 people are enrolled" in said(manager.get(PAGE))
    flow = page.select_one("#flow svg")
    assert flow is not None
    words = [each.get_text().replace("\u00a0", " ") for each in flow.select("text")]
    assert words[:3] == ["Assessed for eligibility (n = 4)", "Excluded (n = 1)", "Declined (n = 1)"]
    assert "Randomised (n = 2)" in words
    assert not re.search(r"zephyrine|placebex|sham", page.get_text(" "), re.I)
    for part, (heading, _) in FILES.items():
        reply = manager.get(f"{PAGE}?format=csv&part={part}")
        assert reply.status_code == 200
        first, *lines = csv.reader(reply.text.removeprefix("\ufeff").splitlines())
        assert first == list(heading)
        assert lines, part
        assert {len(line) for line in lines} == {len(heading)}
    assert "text/html" in manager.get(f"{PAGE}?format=csv&part=arms").headers["content-type"]


@pytest.mark.requirement("SEC-3")
def test_a_site_and_the_choice_of_one_narrow_everything(world: World):
    manager, south = world.browser("data_manager", site_code=None), world.coordinator("south")
    manager.get(PAGE)  # counted for all, and kept
    for browser in (south, manager):
        if browser is manager:
            manager.client.cookies.set("site", "south", path="/mini")
        text = said(browser.get(PAGE))
        assert "0 people are enrolled at the sites shown" in text or "Nobody takes part yet" in text
        assert "Declined" not in text
        rows = browser.get(f"{PAGE}?format=csv&part=people").text.splitlines()
        assert rows[1:] == ["south,1,0,1,0,0,0,0,0,0,0,0"]
    main = south.soup(f"{PAGE}?site=north").select_one("#main")
    assert main is not None
    assert "north" not in main.get_text(" ")


def test_a_count_stands_for_a_minute_and_can_be_asked_for_again(world: World):
    with time_machine.travel(NOW, tick=False) as time:
        browser = world.coordinator()

        def held() -> str:
            lines = browser.get(f"{PAGE}?format=csv&part=visits").text.splitlines()
            return str(next(line.split(",")[2] for line in lines if line.startswith("baseline")))

        assert held() == "0"
        baseline = update(VISIT).where(VISIT.c.code == "baseline")
        with world.database.writing() as session:
            session.execute(baseline.values(status="held", held_on=TODAY))
        with counted_statements(world.database) as statements:
            assert held() == "0"
        assert len(statements) <= 4, statements
        again = browser.soup(PAGE).select_one("main a[href*='again']")
        assert again is not None
        time.shift(AGAIN_AFTER)
        assert held() == "0"
        browser.get(str(again["href"]))
        assert held() == "3"
        with world.database.writing() as session:
            session.execute(baseline.values(status="missed", held_on=None))
        time.shift(KEPT_FOR - timedelta(seconds=1))
        assert held() == "3"
        time.shift(timedelta(seconds=1))
        assert held() == "0"


def test_the_same_numbers_over_rest_and_none_of_other_sites_from_what_is_kept(world: World):
    manager = api_client(world.database, world.person("data_manager", site_code=None))
    body = manager.done("GET", "/reports")
    assert (body["recruitment"]["total"], body["recruitment"]["target"]) == (2, 40)
    assert body["flow"]["reasons"] == [{"code": "declined", "number": 1}]
    assert [each["screened"] for each in body["standing"]] == [3, 1, 4]
    assert [each["screened"] for each in manager.done("GET", "/reports?site=south")["standing"]] == [1]
    south = api_client(world.database, world.coordinators["south"], http=manager.http)
    with counted_statements(world.database) as statements:
        theirs = south.done("GET", "/reports")
    assert not [each for each in statements if "FROM visit" in each]  # nothing was counted again
    assert (theirs["sites"], theirs["recruitment"]["target"], theirs["flow"]["reasons"]) == (["south"], None, [])
    assert {each["site"] for name in ("standing", "forms", "queries", "events") for each in theirs[name]} == {"south"}
    assert south.done("GET", "/reports?site=north")["flow"]["assessed"] == 0


def test_who_withdrew_was_enrolled_and_takes_part_no_more(world: World):
    """One of two withdraws, after a visit that nobody held; the other stops treatment. Page, file and REST agree."""
    with time_machine.travel(NOW, tick=False):
        week18 = {"opens_on": TODAY - timedelta(30), "target_on": TODAY - timedelta(20)}
        with world.database.writing() as session:
            of_week18 = VISIT.c.code == "week18"
            session.execute(update(VISIT).where(of_week18).values(**week18, closes_on=TODAY - timedelta(10)))
            first = select(PARTICIPANT.c.id).where(PARTICIPANT.c.code == "M-001").scalar_subquery()
            held = update(VISIT).where(of_week18, VISIT.c.participant_id == first)
            session.execute(held.values(status="held", held_on=TODAY - timedelta(20)))
        coordinator = world.coordinator()
        for code, level in (("M-001", "treatment"), ("M-002", "visits")):
            page = f"/mini/participants/{code}/withdraw"
            assert coordinator.post(page, withdrawal(world, level=level)).status_code == 303
        manager = world.browser("data_manager", site_code=None)
        text = said(manager.get(PAGE))
        assert "2 of 40 people are enrolled" in text
        assert "From 4 people assessed to 2 enrolled, of whom 1 still take part" in text
        drawn_words = " ".join(each.get_text(" ", strip=True) for each in manager.soup(PAGE).select(".flow-wide text"))
        assert "withdrew in part, still followed (n = 1)" in " ".join(drawn_words.split())

        def lines(part: str) -> list[dict[str, str]]:
            text = manager.get(f"{PAGE}?format=csv&part={part}").text.lstrip("\ufeff")
            return list(csv.DictReader(text.splitlines()))

        everybody = lines("people")[-1]
        counts = {name: everybody[name] for name in ("entered", "active", "in_part", "withdrawn", "left")}
        assert counts == {"entered": "2", "active": "1", "in_part": "1", "withdrawn": "1", "left": "0"}
        baseline, last = lines("visits")
        # Nobody of those who did not withdraw held their baseline; M-004 of the south is expected at it as well.
        assert (baseline["expected"], baseline["stopped"], baseline["reached"]) == ("2", "2", "3")
        assert (last["expected"], last["held"], last["overdue"]) == ("3", "1", "2"), "that window had closed before"
        body = api_client(world.database, world.person("data_manager", site_code=None)).done("GET", "/reports")
        assert {name: str(body["standing"][-1][name]) for name in counts} == counts
        assert (body["flow"]["active"], body["flow"]["in_part"], body["flow"]["withdrawn"]) == (1, 1, 1)
        (there,) = [each for each in body["visits"] if each["code"] == "week18"]
        assert [str(there[name]) for name in ("expected", "held", "overdue", "reached")] == ["3", "1", "2", "3"]


@time_machine.travel(NOW, tick=False)
def test_each_site_stands_beside_its_target(shared_database: Database):
    sites = [{**each, "target": 1} if each["code"] == "north" else each for each in definition().model_dump()["sites"]]
    world = World(shared_database, sites=sites)
    with shared_database.writing() as session:
        consented(session, world.study, "M-001")
        consented(session, world.study, "M-002", site_code="south", status="consented")
        _randomised(session, "M-001")
    manager = world.browser("data_manager", site_code=None)
    part = manager.soup(PAGE).select_one("#sites")
    assert part is not None
    assert "The site with a target has reached it" in part.get_text()
    rows = [[cell.get_text(" ", strip=True) for cell in row.select("th, td")] for row in part.select("tbody tr")]
    assert [row[:4] for row in rows] == [
        ["north", "1", "1", "100%"],
        ["south", "0", "–", "–"],
        ["All", "1", "40", "2%"],
    ]
    file = manager.get(f"{PAGE}?format=csv&part=sites").text.splitlines()
    assert file[1:] == ["north,1,1,,", "south,0,,,", ",1,40,,"]
    body = api_client(shared_database, world.coordinators["north"]).done("GET", "/reports")
    assert [(each["site"], each["entered"], each["target"]) for each in body["by_site"]] == [("north", 1, 1)]
    assert body["recruitment"]["target"] == 1
    assert "north North clinic (1 planned)" in said(world.coordinator().get("/mini/study"))


def test_a_study_without_anybody_has_a_page_too(shared_database: Database):
    text = said(World(shared_database).coordinator().get(PAGE))
    for words in ("Nobody takes part yet", "No visit is expected yet", "No form is expected yet", "No query stands"):
        assert words in text


@pytest.mark.parametrize("columns", [WIDE, NARROW])
def test_boxes_of_a_flow_neither_touch_nor_cut_their_words(columns: Columns):
    reasons = tuple(f"A reason that takes more than a single line of a box, number {number}" for number in range(7))
    steps = [
        Step(Part("Assessed"), (Part("Excluded", reasons), Part("On the way", reasons[:1]))),
        Step(Part("Randomised"), (Part("Left"),)),
        Step(Part("A visit with quite a long name, which needs two lines"), ()),
        Step(Part("Completed")),
    ]
    found = drawn(steps, columns)
    assert len(found.boxes) == 7
    for one in found.boxes:
        assert one.y + one.height <= found.height
        assert one.x + one.width <= found.width
        for other in found.boxes:
            apart = one.x + one.width <= other.x or other.x + other.width <= one.x
            assert one is other or apart or one.y + one.height < other.y or other.y + other.height < one.y
        assert [down for down, _, _ in one.words] == sorted({down for down, _, _ in one.words})
        assert max(down for down, _, _ in one.words) < one.height
        assert all(len(words) * 6 < one.width for _, words, _ in one.words)
    # Every arrow to the right leaves a line that leads down, between two boxes of the left column.
    assert all(any(begins < at < ends for begins, ends in found.down) for at in found.out)
    excluded = " ".join(words.strip("\u00a0") for _, words, _ in found.boxes[1].words)
    assert excluded == " ".join(("Excluded", *reasons))


# What the data look like

MOOD = [*({"code": f"rating{n}", "label": f"Rating {n}", "type": "scale", "min": 0, "max": 9} for n in range(4))]
MOOD.append({"code": "weight", "label": "Body weight", "type": "integer", "min": 30, "max": 250})
PEOPLE = 34


@pytest.fixture
def odd(shared_database: Database) -> World:
    """At one of three sites all weights end in nought, and everybody's ratings are near the middle."""
    forms = [*definition().model_dump(mode="json")["instruments"]]
    forms.append({"code": "mood", "label": "Mood", "source": "test", "sections": [{"items": MOOD}]})
    places = [{"code": code, "name": code.title(), "timezone": "Europe/Zurich"} for code in ("east", "north", "south")]
    made = World(shared_database, instruments=forms, sites=places)
    rows = []
    with shared_database.writing() as session:
        for number in range(3 * PEOPLE):
            place = places[number % 3]["code"]
            of = consented(session, made.study, f"M-{number:03}", site_code=place, consent=False)
            for order, visit in enumerate(("baseline", "week18")):
                at = number * 7 + order * 3
                ratings = [4 + at % 2 for _ in range(4)] if place == "north" else [(at * k) % 10 for k in (1, 3, 7, 9)]
                weight = 60 + at % 40 // 10 * 10 if place == "north" else 60 + at % 40
                said = {**{f"rating{n}": each for n, each in enumerate(ratings)}, "weight": weight}
                rows.append(
                    {"study_id": made.study.id, "participant_id": of.id, "visit": visit, "instrument": "mood"}
                    | {"site_id": of.site_id}
                    | {"study_version_id": made.study.version_id, "status": "complete", "values": json.dumps(said)}
                    | {"created_at": NOW, "created_by": "test", "saved_at": NOW, "saved_by": "test"}
                )
        session.execute(insert(ENTRY), rows)
    return made


@pytest.mark.requirement("SPI-29")
def test_a_site_whose_data_look_odd_stands_out_on_the_page_in_the_file_and_over_rest(odd: World):
    manager = odd.browser("data_manager", site_code=None)
    with counted_statements(odd.database) as statements:
        page = manager.soup(PAGE)
    assert len(statements) <= 12, statements
    part = page.select_one("#quality")
    assert part is not None
    assert "north stands out" in part.get_text(" ")
    _, ends, levels = part.select("table")
    assert [cell.get_text(" ", strip=True) for cell in ends.select("tbody tr")[0].select("th, td")] == [
        *("Mood: Body weight", "north", "68", "0", "100%"),
        *(each.get_text(strip=True) for each in ends.select("tbody tr")[0].select("td")[4:]),
    ]
    assert {row.select("td")[0].get_text(strip=True) for row in levels.select("tbody tr")} == {"north"}
    assert "stands out" in levels.get_text(" ")

    lines = list(csv.DictReader(manager.get(f"{PAGE}?format=csv&part=quality").text.lstrip("\ufeff").splitlines()))
    standing = {(line["site"], line["measure"], line["item"]) for line in lines if line["stands_out"] == "yes"}
    assert ("north", "last_digits", "weight") in standing
    assert ("north", "spread", "rating1") in standing
    assert {site for site, _, _ in standing} == {"north"}

    over_rest = api_client(odd.database, odd.person("data_manager", site_code=None))
    said = over_rest.done("GET", "/reports")["quality"]
    assert {each["site"] for name in ("digits", "levels") for each in said[name] if each["stands_out"]} == {"north"}
    assert len(said["digits"]) + 2 * len(said["levels"]) + 3 * len(said["sites"]) == len(lines)


@pytest.mark.requirement("SEC-3", "SPI-29")
def test_whoever_has_one_site_is_told_nothing_of_what_others_look_like(odd: World):
    odd.browser("data_manager", site_code=None).get(PAGE)  # measured for all, and kept
    part = odd.coordinator("north").soup(PAGE).select_one("#quality")
    assert part is not None
    assert "One site alone is compared with nothing" in part.get_text(" ")
    assert "stands out." not in part.get_text(" ")
    assert len(part.select("table")) == 1
    rows = odd.coordinator("south").get(f"{PAGE}?format=csv&part=quality").text.splitlines()
    assert [line.split(",")[:2] for line in rows[1:]] == [["south", each] for each in ("late", "corrected", "alike")]


def test_an_older_count_says_how_old_it_is_and_that_a_new_one_is_made(odd: World, monkeypatch: pytest.MonkeyPatch):
    begun: list[str] = []
    monkeypatch.setattr("app.reports.rules.LARGE", 1)
    monkeypatch.setattr("app.reports.quality.LARGE", 1)
    monkeypatch.setattr(Kept, "_count_behind", lambda kept, study, *_, **__: begun.append(study.code))
    with time_machine.travel(NOW, tick=False) as time:
        manager = odd.browser("data_manager", site_code=None)
        first = manager.soup(PAGE)
        assert "worked out for the first time" in said(manager.get(PAGE))
        assert "new numbers" not in first.get_text(" ")
        assert manager.get(f"{PAGE}?format=csv&part=quality").text.splitlines()[1].startswith("east,late")
        assert "Standard deviations above" in said(manager.get(PAGE))
        begun.clear()
        time.shift(timedelta(minutes=3))
        assert "That was 3 minutes ago; new numbers are being counted." in said(manager.get(PAGE))
        assert begun == ["mini"]  # what the data look like is good for longer
        manager.get(f"{PAGE}?again=yes")
        assert "new numbers" not in said(manager.get(PAGE))
