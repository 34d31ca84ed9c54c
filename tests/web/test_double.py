"""Double entry on pages: the second person sees nothing of the first entry; differences are settled on one page."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine

from app.capture.agreement import Kappa
from app.foundation.database import Database
from tests.capture.twice import twice
from tests.web.browser import Browser, counted_statements, form_in
from tests.web.test_entries import FORM, VISIT
from tests.web.test_entries import World as EntryWorld

SECOND = f"{FORM}/second"
PAIN = {"pain_nrs": "5", "pain_days": "3", "pain_where": ["back"], "pain_note": "Zygotic night"}
HIDDEN = ("Zygotic", "check both")


@pytest.fixture(autouse=True)
def at_the_visit() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=True):
        yield


class World(EntryWorld):
    def __init__(self, database: Database, **settings: Any) -> None:
        super().__init__(database, **twice(**settings))
        self.first = self.browser("assessor", username="first")
        self.second = self.browser("coordinator", username="second")

    def begin(self, **answers: Any) -> None:
        reply = self.first.post(FORM, {**PAIN, **answers})
        assert reply.status_code == 303, reply.text[:3000]


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def pair_url(browser: Browser) -> str:
    link = browser.soup("/mini/double").select_one("tbody a")
    assert link is not None
    return str(link["href"])


@pytest.mark.requirement("E6-9", "AX11-6")
def test_no_page_shows_the_second_person_anything_of_the_first_entry(world: World):
    # No pain, but days with pain: a check that raises a query, whose words must not reach the second person either.
    world.begin(**{"pain_nrs": "0", "pain_where": None, "save-as": "partial"})
    assert "Zygotic night" in str(world.first.soup(FORM))
    assert world.second.get(FORM).headers["location"] == SECOND
    pages = (
        SECOND,
        VISIT,
        "/mini/participants/M-001",
        "/mini/participants/M-001/casebook",
        "/mini/queries",
        "/mini/queries?state=open",
        "/mini/queries.csv",
        "/mini/today",
        "/mini/double",
    )
    for page in pages:
        reply = world.second.get(page)
        assert reply.status_code == 200, page
        assert not any(word in reply.text for word in HIDDEN), page
        assert "tone-query" not in reply.text or page == "/mini/double", page
    for page in (f"{FORM}/record", f"{FORM}/history/pain_note", f"{FORM}/sign", f"{FORM}/queries/pain_days"):
        reply = world.second.get(page)
        assert reply.status_code == 409, page
        assert not any(word in reply.text for word in HIDDEN), page
        assert "entered twice" in reply.text, page
    assert "Second entry due" in world.second.get("/mini/participants/M-001").text
    assert "Enter the second time" in world.second.get(VISIT).text
    # Whoever cannot be the second reads it as ever.
    assert "Zygotic night" in world.browser("monitor").get(f"{FORM}/record").text
    own = world.first.get(SECOND)
    assert (own.status_code, "You made the first entry" in own.text) == (409, True)


def test_what_was_typed_before_somebody_else_was_first_goes_on_as_the_second(world: World):
    fields = form_in(world.second.soup(FORM), FORM)
    world.begin()
    reply = world.second.send(FORM, {**fields, **PAIN, "pain_note": "Mine"})
    assert reply.headers["location"] == f"{SECOND}?done=second_instead"
    page = world.second.soup(SECOND)
    assert form_in(page, SECOND)["pain_note"] == ["Mine"]
    assert "Zygotic" not in str(page)
    assert world.entry()["values"]["pain_note"] == "Zygotic night"


def test_the_second_entry_is_judged_like_any_and_kept_as_it_is_typed(world: World):
    world.begin()
    page = world.second.soup(SECOND)
    assert page.select_one(f'form[data-autosave="{SECOND}/draft"][data-look="{SECOND}/look"]')
    fields = form_in(page, SECOND)
    look = world.second.send(f"{SECOND}/look", {**fields, "pain_nrs": "0", "pain_days": "2"})
    assert "check both" in str(look.json()["findings"])
    csrf = {"X-CSRF-Token": fields["csrf_token"][0]}
    draft = world.second.client.put(f"{SECOND}/draft", data={**fields, "pain_note": "Typed"}, headers=csrf)
    assert draft.status_code == 204
    kept = world.second.soup(SECOND)
    assert form_in(kept, SECOND)["pain_note"] == ["Typed"]
    dropped = world.second.send(f"{SECOND}/draft", form_in(kept, f"{SECOND}/draft"))
    assert dropped.headers["location"].startswith(SECOND)
    assert world.second.get(f"{SECOND}/draft").headers["location"] == SECOND
    wrong = world.second.send(SECOND, {**fields, "pain_nrs": "6", "pain_days": "44"})
    assert (wrong.status_code, 'value="44"' in wrong.text) == (422, True)
    done = world.second.post(SECOND, PAIN)
    assert done.headers["location"] == f"{VISIT}?done=entered_twice"
    assert "Zygotic night" in world.second.get(f"{FORM}/record").text
    assert world.second.get(SECOND).status_code == 409


@pytest.mark.requirement("E6-9")
def test_differences_are_settled_on_one_page(monkeypatch: pytest.MonkeyPatch, world: World):
    world.begin()
    done = world.second.post(SECOND, {**PAIN, "pain_nrs": "7", "pain_note": "Zygote"})
    assert done.headers["location"] == f"{VISIT}?done=entered_twice_differs"
    manager = world.browser("data_manager", username="manager")
    with counted_statements(world.database) as said:
        queue = manager.soup("/mini/double")
    assert len(said) <= 12
    assert "2 differences" in queue.get_text()
    url = pair_url(manager)
    with counted_statements(world.database) as said:
        page = manager.soup(url)
    assert len(said) <= 12
    fields = form_in(page, f"{url}/reconcile")
    assert {"why-pain_nrs", "why-pain_note", "version"} <= set(fields)
    assert not any(name.startswith("why-pain_days") for name in fields)
    refused = manager.send(
        f"{url}/reconcile",
        {**fields, "choose-pain_nrs": "other", "pain_nrs": "6", "why-pain_nrs": "It is a six", "why-pain_note": ""},
    )
    assert refused.status_code == 422
    assert "choose one of the two" in refused.text
    assert "It is a six" in refused.text
    settled = {
        **fields,
        "choose-pain_nrs": "other",
        "pain_nrs": "6",
        "why-pain_nrs": "It is a six",
        "choose-pain_note": "second",
        "why-pain_note": "Read again",
    }
    stale = manager.send(f"{url}/reconcile", {**settled, "version": "1"})
    assert (stale.status_code, "Somebody worked on these" in stale.text) == (409, True)
    done = manager.send(f"{url}/reconcile", settled)
    assert done.headers["location"] == f"{url}?done=differences_settled"
    entry = world.entry()
    assert (entry["values"]["pain_nrs"], entry["values"]["pain_note"], entry["version"]) == (6, "Zygote", 2)
    after = manager.soup(url).get_text(" ")
    assert "It is a six" in after
    assert "Reconciled" in after
    assert manager.get(f"{url}/reconcile").headers["location"] == url
    assert world.second.get(url).status_code == 200
    monitor = world.browser("monitor")
    with counted_statements(world.database) as said:
        figures = monitor.soup("/mini/double/agreement")
    assert len(said) <= 12
    assert len(figures.select("tbody tr")) == 4
    assert len(monitor.soup("/mini/double/agreement?by=site&form=pain").select("tbody tr")) == 4
    monitor.client.headers["Accept-Language"] = "de"
    monkeypatch.setattr("app.capture.double.reads.kappa", lambda *_, **__: Kappa(0.5, 0.1, 0.31, 0.69))
    shown = "\n".join(cell.get_text(strip=True) for cell in monitor.soup("/mini/double/agreement").select("tbody td"))
    assert "0,50 (0,31 bis 0,69)" in shown
    assert not re.search(r"\d\.\d", shown), shown
    assert world.second.get("/mini/double/agreement").status_code == 403
    assert manager.get("/mini/exports/double_entry.csv").status_code == 200


def test_the_log_tells_of_two_entries_in_the_words_of_the_study(world: World):
    world.begin()
    world.second.post(SECOND, {**PAIN, "pain_where": None})
    manager = world.browser("data_manager", username="manager")
    url = pair_url(manager)
    settled = {"choose-pain_where": "first", "why-pain_where": "Overlooked"}
    assert manager.post(f"{url}/reconcile", settled, page=url).status_code == 303
    log = " ".join(world.browser("monitor").soup("/mini/audit").get_text(" ", strip=True).split())
    assert "week18/pain" not in log
    said = "Two entries reconciled · Week 18, Pain Where it hurts was First entry: Back, Second entry: – is now Back"
    assert said in log
    assert "Second entry saved · Week 18, Pain Pain, past week 5" in log


def test_a_study_without_it_has_no_such_door(shared_database: Database):
    plain = EntryWorld(shared_database)
    browser = plain.browser("assessor")
    assert browser.get(SECOND).status_code == 404
    assert "Double entry" not in browser.get("/mini/today").text
    assert "No form is entered twice yet" in browser.get("/mini/double").text
