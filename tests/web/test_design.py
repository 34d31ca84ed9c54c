"""The design page: methods beside each other before anything is drawn; and that nothing of it is kept or leaks."""

from typing import Any

import pytest
from bs4 import BeautifulSoup

from app.foundation.database import Database
from app.randomisation.methods import DECIDING, DRAWN, TOGETHER
from tests.web.browser import Browser
from tests.web.test_sequence import kept, said
from tests.web.world import World

PAGE = "/mini/sequence/design"
EVERYTHING = {
    "block_sizes": "4, 6",
    "tolerance": "3",
    "alpha": "0",
    "beta": "1",
    "probability": "2/3",
    "people": "40",
    "strata": "1",
    "slots_per_stratum": "",
    "beside": ["simple", "big_stick"],
}


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


@pytest.fixture
def browser(world: World) -> Browser:
    return world.browser("statistician", site_code=None)


def rows(reply: Any) -> dict[str, list[str]]:
    """The table of methods, by the words of the method."""
    table = BeautifulSoup(reply.text, "html.parser").find("caption", string="Methods compared")
    assert table is not None
    assert table.parent is not None
    found = {}
    for row in table.parent.select("tbody tr"):
        head = row.select_one("th")
        assert head is not None
        found[head.get_text(" ", strip=True)] = [cell.get_text(strip=True) for cell in row.select("td")]
    return found


def test_the_page_opens_with_the_studys_method_beside_others(browser: Browser):
    page = browser.soup(PAGE)
    assert len(page.select("#behaviour svg.plot")) == 2
    assert len(page.select("#behaviour figure details table")) == 2
    assert list(rows(browser.get(PAGE))) == [
        "Permuted blocks (4, 6 and 8) chosen",
        "Permuted blocks (4)",
        "Big stick (3)",
        "Maximal procedure (3)",
        "Biased coin (2/3)",
    ]
    assert page.select_one("select#method option[selected][value=permuted_blocks]") is not None


@pytest.mark.requirement("RND-3")
@pytest.mark.parametrize(
    ("method", "name", "certain", "correct"),
    [
        ("permuted_blocks", "Permuted blocks (4)", "33.3", "70.8"),
        ("simple", "Simple randomisation", "0.0", "50.0"),
        ("big_stick", "Big stick (3)", None, None),
        ("maximal_procedure", "Maximal procedure (3)", None, None),
        ("wei_urn", "Wei's urn (0 and 1)", "2.5", None),
        ("truncated_binomial", "Truncated binomial", None, None),
        ("biased_coin", "Biased coin (2/3)", "0.0", None),
        ("cluster", "Whole sites", "97.5", "98.8"),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_every_method_is_compared(
    world: World, browser: Browser, method: str, name: str, certain: str | None, correct: str | None
):
    reply = browser.post(PAGE, {**EVERYTHING, "block_sizes": "4", "method": method})
    assert reply.status_code == 200
    table = rows(reply)
    cells = table[f"{name} chosen"]
    assert certain in (None, cells[0])
    assert correct in (None, cells[1])
    assert cells[2] == "exact"
    assert {"Simple randomisation", "Big stick (3)"} <= {each.removesuffix(" chosen") for each in table}
    assert f"{name}: the arms end" in said(reply)
    assert kept(world) == ()


def test_every_method_is_offered(browser: Browser):
    offered = [option["value"] for option in browser.soup(PAGE).select("#method option")]
    assert offered == [*DRAWN, *TOGETHER, *DECIDING]


def test_several_block_sizes_over_many_people_are_said_to_be_simulated(browser: Browser):
    table = rows(browser.post(PAGE, {**EVERYTHING, "method": "permuted_blocks", "people": "60"}))
    assert table["Permuted blocks (4 and 6) chosen"][2] == "simulated"


def test_the_same_without_scripts_and_with_htmx(browser: Browser):
    fields = {**browser.form(PAGE), **EVERYTHING, "method": "big_stick"}
    part = browser.send(PAGE, fields, headers={"HX-Request": "true", "HX-Target": "section#behaviour"})
    assert part.text.lstrip().startswith("<h2>Big stick (3)</h2>")
    again = browser.send(PAGE, fields)  # looking again is no change
    assert again.status_code == 200
    assert "<!doctype html>" in again.text.lower()


@pytest.mark.requirement("RND-15")
def test_what_is_easily_guessed_is_warned_of(browser: Browser, database: Database):
    asked = {**EVERYTHING, "method": "permuted_blocks", "block_sizes": "4"}
    assert "is certain in 33.3% of allocations" in said(browser.post(PAGE, asked))
    assert "is certain in" not in said(browser.post(PAGE, {**asked, "block_sizes": "4, 6, 8"}))


@pytest.mark.requirement("RND-15")
def test_a_study_that_is_not_blinded_is_warned_sooner(database: Database):
    world = World(database, blinded=False)
    browser = world.browser("statistician", site_code=None)
    asked = {**EVERYTHING, "method": "big_stick", "tolerance": "5"}
    assert "This study is not blinded" in said(browser.post(PAGE, asked))
    drawing = browser.post("/mini/sequence/draw", {"block_sizes": "4", "slots_per_stratum": "", "step": "compare"})
    assert "This study is not blinded" in said(drawing)


@pytest.mark.parametrize(
    ("changes", "words", "field"),
    [
        ({"method": "list"}, "Choose one of the methods", "method"),
        ({"method": "minimisation", "measure": "chance"}, "is one of range", "measure"),
        ({"method": "minimisation", "measure": "range", "weights": "1 1 1"}, "has 3 numbers for", "weights"),
        ({"method": "permuted_blocks", "block_sizes": "5"}, "multiple of 2", "block_sizes"),
        ({"method": "permuted_blocks", "block_sizes": "62"}, "fewer or smaller ones", "block_sizes"),
        ({"method": "big_stick", "tolerance": ""}, "Write the imbalance that is tolerated", "tolerance"),
        ({"method": "big_stick", "tolerance": "999"}, "from 1 to 100", "tolerance"),
        ({"method": "wei_urn", "beta": "0"}, "from 1 to 1,000", "beta"),
        ({"method": "biased_coin", "probability": "1/3"}, "more than 1/2", "probability"),
        ({"people": "many"}, "Write the number of people", "people"),
        ({"people": "0"}, "one or more", "people"),
        ({"strata": "0"}, "one or more", "strata"),
        ({"people": "6000"}, "1 to 5,000 people", "people"),
        (
            {"beside": ["simple", "big_stick", "wei_urn", "biased_coin", "fixed_blocks", "random_blocks"]},
            "at most 5",
            "beside",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_cannot_be_compared_says_why_and_keeps_what_was_typed(
    browser: Browser, changes: dict[str, Any], words: str, field: str
):
    reply = browser.post(PAGE, {**EVERYTHING, "method": "simple", **changes})
    assert reply.status_code == 422
    page = BeautifulSoup(reply.text, "html.parser")
    summary = page.select_one("[data-error-summary]")
    assert summary is not None
    assert words in summary.get_text()
    link = summary.select_one("a")
    assert link is not None
    assert link["href"] == f"#{field}"
    assert page.find(id=field) is not None
    if isinstance(changes.get(field), str) and field not in ("method", "measure"):
        assert page.select_one(f"#{field}")["value"] == changes[field]  # type: ignore[index]


def test_arms_that_most_methods_cannot_serve_are_offered_the_others(database: Database):
    arms = [{"code": code, "label": code, "ratio": ratio} for code, ratio in (("active", 2), ("sham", 1))]
    browser = World(database, arms=arms).browser("statistician", site_code=None)
    page = browser.soup(PAGE)
    assert [option["value"] for option in page.select("#method option")] == [
        "permuted_blocks",
        "simple",
        "cluster",
        "minimisation",
    ]
    assert page.find(id="tolerance") is None
    assert list(rows(browser.get(PAGE))) == [
        "Permuted blocks (6, 9 and 12) chosen",
        "Permuted blocks (6)",
        "Simple randomisation",
        "Minimisation (range, 4/5)",
    ]
    assert "people per share of the ratio" in page.get_text()


def test_another_method_than_the_protocols_is_said_to_need_an_amendment(browser: Browser):
    assert "load an amended version" in said(browser.post(PAGE, {**EVERYTHING, "method": "simple"}))
    assert "load an amended version" not in said(browser.post(PAGE, {**EVERYTHING, "method": "permuted_blocks"}))


@pytest.mark.requirement("CONC-4", "RND-9")
def test_comparing_leaves_nothing_in_the_log_or_in_an_address(world: World, browser: Browser):
    before = len(world.log())
    browser.post(PAGE, {**EVERYTHING, "method": "big_stick"})
    assert len(world.log()) == before
    form = browser.soup(PAGE).select_one("form.design-form")
    assert form is not None
    assert form["method"] == "post"


def test_the_options_are_taken_to_the_draw(browser: Browser):
    fields = {**browser.form(PAGE), "method": "permuted_blocks", "block_sizes": "6, 8", "step": "compare"}
    reply = browser.send("/mini/sequence/draw", fields)
    assert reply.status_code == 200
    typed = BeautifulSoup(reply.text, "html.parser").select_one("#block_sizes")
    assert typed is not None
    assert typed["value"] == "6, 8"


def test_where_nobody_is_allocated_there_is_no_page(database: Database):
    browser = World(database, allocation={"method": "observed"}).browser("statistician", site_code=None)
    assert browser.get(PAGE).status_code == 404


@pytest.mark.parametrize(
    ("method", "typed", "words"),
    [
        ("simple", {}, "Simple randomisation: the next arm is certain 0.0% of the time"),
        ("big_stick", {"tolerance": "4"}, "Big stick (4): the next arm is certain"),
        ("wei_urn", {"alpha": "1", "beta": "2"}, "Wei's urn (1 and 2)"),
        ("truncated_binomial", {}, "Truncated binomial: the next arm is certain"),
        ("biased_coin", {"probability": "4/5"}, "no limit"),
        ("maximal_procedure", {"tolerance": "2"}, "Maximal procedure (2)"),
    ],
)
def test_each_method_is_drawn_with_its_own_options(database: Database, method: str, typed: dict[str, str], words: str):
    world = World(database, allocation={"method": method})
    browser = world.browser("statistician", site_code=None)
    shown = browser.soup("/mini/sequence/draw")
    assert {each["name"] for each in shown.select("form.form input:not([type=hidden])")} == {
        *typed,
        "slots_per_stratum",
    }
    compared = browser.post("/mini/sequence/draw", {**typed, "slots_per_stratum": "12", "step": "compare"})
    assert compared.status_code == 200
    assert words in said(compared)
    wrong = browser.post("/mini/sequence/draw", {**dict.fromkeys(typed, "x"), "slots_per_stratum": "0", "step": "draw"})
    assert wrong.status_code == 422
    done = browser.post("/mini/sequence/draw", {**typed, "slots_per_stratum": "12", "step": "draw"})
    assert done.status_code == 303, said(done)
    assert (kept(world)[0].method, kept(world)[0].slots) == (method, 12)
    assert "Best guess right" in said(browser.get("/mini/sequence/1"))
