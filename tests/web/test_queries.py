"""Queries on pages: a thread beside the field, answered from the form, listed, filtered, taken as a file."""

import csv
import io
from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag
from sqlalchemy import func, select

from app.capture.models import DataQuery
from app.foundation.database import Database, table_of
from tests.web.browser import Browser, counted_statements, form_in
from tests.web.pdf import text_of
from tests.web.test_entries import FORM, PAIN, VISIT, World, at_the_visit, put

__all__ = ["at_the_visit"]

ITEM = f"{FORM}/queries/pain_nrs"
QUERY = table_of(DataQuery)
COUNTED = 'td[data-label="Queries"]'
ASKED = "The diary says 3. Which is right?"


@pytest.fixture
def world(shared_database: Database) -> World:
    world = World(shared_database)
    assert world.browser("assessor").post(FORM, PAIN).status_code == 303
    return world


def words(soup: Tag) -> str:
    return " ".join(soup.get_text(" ").split())


def path_of(world: World) -> str:
    """The address of the newest query."""
    with world.database.reading() as session:
        return f"/mini/queries/{session.execute(select(func.max(QUERY.c.id))).scalar_one()}"


def asked(world: World) -> Browser:
    monitor = world.browser("monitor")
    reply = monitor.post(ITEM, {"text": ASKED})
    assert reply.status_code == 303
    return monitor


@pytest.mark.requirement("E6-20")
def test_a_query_goes_from_the_monitor_to_the_site_and_back(world: World):
    monitor = world.browser("monitor")
    record = monitor.soup(f"{FORM}/record")
    assert record.select_one(f'a[href="{ITEM}"]'), "a way to ask stands beside every answer"
    blank = monitor.post(ITEM, {"text": " "})
    assert (blank.status_code, "Say what is in question" in blank.text) == (422, True)
    named = monitor.post(ITEM, {"text": "Was it the sham?"})
    assert (named.status_code, "names an arm" in named.text, "Was it the sham?" in named.text) == (422, True, True)
    nothing = monitor.soup(ITEM.replace("pain/", "disability/").replace("pain_nrs", "dis_weight"))
    assert "Answer as it stands: no answer" in words(nothing)
    assert "Nothing is entered here yet" in words(nothing), "it is said before anything is typed"
    assert nothing.select_one("textarea[name=text]") is None
    assert monitor.post(ITEM, {"text": ASKED}).headers["location"] == f"{ITEM}?done=query_raised"
    path = path_of(world)

    coordinator = world.browser("coordinator")
    today = words(coordinator.soup("/mini/today"))
    assert "One query waits for an answer" in today
    form = coordinator.soup(FORM)
    thread = form.select_one("#query-pain_nrs")
    assert thread is not None
    assert ASKED in thread.get_text()
    number = path.rpartition("/")[2]
    fields = form_in(form, FORM)
    said = coordinator.send(
        FORM, {**fields, f"query-{number}-text": "The diary is wrong.", "save-as": f"answer-{number}"}
    )
    assert said.headers["location"] == f"{FORM}?done=query_answered#query-pain_nrs"
    assert coordinator.get(path).headers["location"] == ITEM

    manager = world.browser("data_manager")
    with counted_statements(world.database) as statements:
        page = manager.soup(ITEM)
    assert len(statements) <= 12
    assert [head.get_text().split()[0] for head in page.select("#main h2")] == ["Query", "Ask"], "what waits is first"
    assert "The diary is wrong." in words(page)
    assert "Answer as it stands: 5" in words(page)
    crumbs = [link["href"] for link in page.select(".crumbs a")]
    assert crumbs == ["/mini/participants", "/mini/participants/M-001", VISIT, FORM]
    fields = form_in(page, f"{path}/close")
    stale = manager.send(f"{path}/close", {**fields, "version": "1"})
    assert (stale.status_code, "Somebody wrote to this query" in stale.text) == (409, True)
    again = manager.send(f"{path}/requery", {**fields, "text": ""})
    assert again.status_code == 422
    assert manager.send(f"{path}/requery", {**fields, "text": "Who says so?"}).status_code == 303
    answered = form_in(coordinator.soup(ITEM), f"{path}/answer")
    coordinator.send(f"{path}/answer", {**answered, "text": "The participant, by telephone."})
    closing = form_in(manager.soup(ITEM), f"{path}/close")
    assert manager.send(f"{path}/close", {**closing, "text": ""}).status_code == 303
    after = words(manager.soup(ITEM))
    assert "Closed" in after
    assert coordinator.send(f"{path}/answer", {**answered, "text": "More"}).status_code == 409


def test_an_answer_that_is_typed_in_the_form_goes_with_its_save(world: World):
    asked(world)
    path = path_of(world)
    number = path.rpartition("/")[2]
    box, coordinator = f"query-{number}-text", world.browser("coordinator")
    fields = {**coordinator.form(FORM), "pain_nrs": "3", box: "It was 3, as the diary says."}
    assert fields[f"query-{number}-version"] == ["1"]
    # A draft holds it, and so does a form that is refused: a change without its reason.
    put(coordinator, fields)
    assert coordinator.form(FORM)[box][0].strip() == fields[box]
    refused = coordinator.send(FORM, fields)
    assert (refused.status_code, form_in(refused_page(refused), FORM)[box][0].strip()) == (422, fields[box])
    assert state_of(world, number) == "open"
    named = coordinator.send(FORM, {**fields, "form-why": "Misread", box: "That was the sham."})
    assert (named.status_code, f"#{box}" in str(refused_page(named).select_one(".error-summary"))) == (422, True)
    assert (state_of(world, number), world.entry()["version"]) == ("open", 1), "neither without the other"
    for _ in range(2):
        assert coordinator.send(FORM, {**fields, "form-why": "Misread"}).status_code == 303
    assert (state_of(world, number), world.entry()["values"]["pain_nrs"], world.drafts()) == ("answered", 3, 0)
    page = words(world.browser("data_manager").soup(ITEM))
    assert page.count("It was 3, as the diary says.") == 1
    late = coordinator.send(FORM, {**coordinator.form(FORM), f"query-{number}-version": "1", box: "And more"})
    assert (late.status_code, "Somebody wrote to this query" in late.text) == (422, True)
    assert form_in(refused_page(late), FORM)[box][0].strip() == "And more", (
        "what cannot be sent any more is still there"
    )


def test_an_answer_by_its_own_button_saves_nothing_else_and_keeps_the_form(world: World):
    asked(world)
    number = path_of(world).rpartition("/")[2]
    box, coordinator = f"query-{number}-text", world.browser("coordinator")
    button = {"save-as": f"answer-{number}"}
    empty = coordinator.send(FORM, {**coordinator.form(FORM), "pain_nrs": "3", **button})
    assert (empty.status_code, "Say what you found" in empty.text) == (422, True)
    assert form_in(refused_page(empty), FORM)["pain_nrs"] == ["3"]
    sent = coordinator.send(FORM, {**coordinator.form(FORM), "pain_nrs": "3", box: "Asked again: 3.", **button})
    assert sent.headers["location"] == f"{FORM}?done=query_answered#query-pain_nrs"
    assert (state_of(world, number), world.entry()["values"]["pain_nrs"]) == ("answered", 5)
    assert coordinator.form(FORM)["pain_nrs"] == ["3"], "the draft"
    monitor = world.browser("data_manager", username="manager")
    asking = form_in(monitor.soup(ITEM), f"{path_of(world)}/close")
    assert monitor.send(f"{path_of(world)}/requery", {**asking, "text": "Sure?"}).status_code == 303
    coordinator.post(f"{FORM}/draft", {}, page=FORM)
    coordinator.send(FORM, {**coordinator.form(FORM), box: "Yes.", **button})
    assert world.drafts() == 0, "nothing else was typed"


def test_all_of_it_agrees_leaves_out_what_is_under_a_query(world: World):
    monitor = asked(world)
    record, all_of_it = f"{FORM}/record", {"which": "everything"}

    def verified() -> set[str]:
        ticks = monitor.soup(record).select("input[name=item]")
        return {str(tick["value"]) for tick in ticks if tick.has_attr("checked")}

    reply = monitor.post(f"{FORM}/verified", all_of_it, page=record)
    assert reply.headers["location"] == f"{record}?done=verified_but_asked"
    assert "without the answers that are under a query" in words(monitor.soup(reply.headers["location"]))
    assert verified() == {"pain_days", "pain_where", "pain_note"}
    closing = form_in(monitor.soup(ITEM), f"{path_of(world)}/close")
    assert monitor.send(f"{path_of(world)}/close", closing).status_code == 303
    reply = monitor.post(f"{FORM}/verified", all_of_it, page=record)
    assert reply.headers["location"] == f"{record}?done=verified"
    assert verified() == {"pain_nrs", "pain_days", "pain_where", "pain_note"}
    assert monitor.post(ITEM, {"text": "Once more: which?"}).status_code == 303
    monitor.post(f"{FORM}/verified", all_of_it, page=record)
    assert "pain_nrs" in verified(), "what was verified before stays so"


def refused_page(reply: Any) -> BeautifulSoup:
    return BeautifulSoup(reply.text, "html.parser")


def state_of(world: World, number: str) -> str:
    with world.database.reading() as session:
        return str(session.execute(select(QUERY.c.state).where(QUERY.c.id == int(number))).scalar_one())


def test_the_mark_says_that_something_is_asked_until_it_is_closed(world: World):
    monitor = asked(world)
    path = path_of(world)
    assessor = world.browser("assessor", username="another")
    for page in ("/mini/participants/M-001", VISIT, f"{FORM}/record"):
        assert assessor.soup(page).select(".tone-query"), page
    fields = form_in(monitor.soup(ITEM), f"{path}/close")
    monitor.send(f"{path}/close", fields)
    for page in ("/mini/participants/M-001", VISIT, f"{FORM}/record"):
        assert not assessor.soup(page).select(".tone-query"), page


def test_the_list_is_filtered_sorted_and_taken_as_a_file(world: World):
    monitor = asked(world)
    monitor.post(f"{FORM}/queries/pain_days", {"text": "How many days?"})
    manager = world.browser("data_manager")
    with counted_statements(world.database) as said:
        page = manager.soup("/mini/queries")
    assert len(said) <= 12
    rows = page.select("tbody tr")
    assert len(rows) == 2
    assert ASKED in rows[0].get_text()
    assert len(manager.soup("/mini/queries?sort=-raised").select("tbody tr")) == 2
    assert not manager.soup("/mini/queries?state=closed").select("tbody tr")
    assert not manager.soup("/mini/queries?age=7").select("tbody tr")
    assert not manager.soup("/mini/queries?instrument=disability").select("tbody tr")
    assert not manager.soup("/mini/queries?site=south").select("tbody tr")
    file = manager.get("/mini/queries.csv?state=open")
    lines = list(csv.DictReader(io.StringIO(file.text.lstrip("\ufeff"))))
    assert [(line["item"], line["state"], line["days"]) for line in lines] == [
        ("pain_nrs", "open", "0"),
        ("pain_days", "open", "0"),
    ]
    elsewhere = world.browser("coordinator", site_code="south")
    assert not elsewhere.soup("/mini/queries").select("tbody tr")
    assert elsewhere.get(path_of(world)).status_code == 404
    assert manager.get("/mini/queries/99999999999999").status_code == 404


def test_a_soft_check_saved_without_its_reason_asks(world: World):
    assessor = world.browser("assessor", username="another")
    odd = {"pain_nrs": "0", "pain_where": None, "pain_days": "5", "form-why": "Read again"}
    form = assessor.form(FORM, FORM)
    fields = {**form, **odd, "save-as": "partial"}
    fields = {name: value for name, value in fields.items() if value is not None}
    assert assessor.send(FORM, fields).status_code == 303
    thread = assessor.soup(FORM).select_one("#query-pain_days")
    assert thread is not None
    assert "No pain, but days with pain" in thread.get_text()
    assert "by an edit check" in thread.get_text()


def test_the_list_of_participants_counts_what_stands_and_leads_to_it(world: World):
    people = "/mini/participants"
    monitor = asked(world)

    def rows(browser: Browser, query: str = "") -> dict[str, str]:
        with counted_statements(world.database) as statements:
            page = browser.soup(f"{people}{query}")
        assert len(statements) <= 12, statements
        cells = [(row.select("th")[0], cell) for row in page.select("tbody tr") for cell in row.select(COUNTED)]
        return {code.get_text(): "".join(link.get_text() for link in cell.select("a")) for code, cell in cells}

    assert rows(monitor) == {"M-001": "1", "M-002": ""}
    link = str(monitor.soup(people).select(f"{COUNTED} a")[0]["href"])
    assert link == "/mini/queries?participant=M-001"
    assert ASKED in words(monitor.soup(link))
    heads = [head for head in monitor.soup(people).select("th a") if head.get_text(strip=True) == "Queries"]
    assert [head["href"] for head in heads] == [f"{people}?site=all&sort=-queries"], "the most first"
    assert list(rows(monitor, "?sort=queries")) == ["M-002", "M-001"]
    assert list(rows(monitor, "?sort=-queries")) == ["M-001", "M-002"]
    assert rows(monitor, "?queries=standing") == {"M-001": "1"}
    file = monitor.get(f"{people}?format=csv&sort=-queries").text.lstrip("\ufeff")
    assert {line["participant"]: line["queries"] for line in csv.DictReader(io.StringIO(file))} == {
        "M-001": "1",
        "M-002": "0",
    }
    assert rows(world.browser("assessor", site_code="south")) == {"M-002": ""}

    # Who may not read entries learns nothing of what is asked of them, whatever the address says.
    clinician = world.browser("clinician")
    for query in ("", "?sort=-queries", "?queries=standing"):
        assert rows(clinician, query) == {}
        assert [cell.get_text() for cell in clinician.soup(f"{people}{query}").select("tbody th")] == ["M-001"]
    assert "queries" not in clinician.get(f"{people}?format=csv").text

    # Answered, it still stands; closed, it does not.
    world.browser("coordinator").post(f"{path_of(world)}/answer", {"text": "5 it is", "version": "1"}, page=ITEM)
    assert rows(monitor)["M-001"] == "1"
    monitor.post(f"{path_of(world)}/close", {"version": "2"}, page=ITEM)
    assert rows(monitor) == {"M-001": "", "M-002": ""}


def test_the_printed_casebook_has_every_query_however_many_there_are(world: World, monkeypatch: pytest.MonkeyPatch):
    monitor = asked(world)
    assert monitor.post(ITEM.replace("pain_nrs", "pain_days"), {"text": "Four days, or five?"}).status_code == 303
    monkeypatch.setattr("app.casebook.forms.LARGEST_PAGE", 1)
    printed = "".join(text_of(world.browser("coordinator").get("/mini/participants/M-001/casebook.pdf").content))
    both = [printed.count(text.replace(" ", "")) for text in (ASKED, "Four days, or five?")]
    assert both == [3, 3], "beside the answer, in full, and in what the log says"
