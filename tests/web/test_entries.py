"""Entry pages: what was typed is never lost, checks stand where they belong, a signature stands for exact answers."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import time_machine
import uvicorn
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser as Chrome
from playwright.sync_api import Page, sync_playwright
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.capture.reads import DRAFT, ENTRY
from app.consent.reads import CONSENT
from app.dependencies import masked
from app.foundation.database import Database
from app.people.access import Actor
from app.people.reads import SESSION
from app.rendering import STATIC
from app.schedule.reads import visit_of
from app.studies.in_use import StudyInUse
from tests.capture.records import consented
from tests.factories import MINI, mini_study, person
from tests.journeys.conftest import QUIET, chromium
from tests.web.browser import PASSWORD, Browser, counted_statements, form_in, signed_in_client

FORM = "/mini/participants/M-001/visits/week18/entries/pain"
VISIT = "/mini/participants/M-001/visits/week18"
SCORED = "/mini/participants/M-001/visits/week18/entries/disability"
PAIN = {"pain_nrs": "5", "pain_days": "3", "pain_where": ["back"], "pain_note": "At night"}
AXE = "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'], resultTypes: ['violations']})"


@pytest.fixture(autouse=True)
def at_the_visit() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=True):
        yield


class World:
    """The small trial with one consented participant, and the browsers of those who work in it."""

    def __init__(self, database: Database, **changes: Any) -> None:
        self.database = database
        with database.writing() as session:
            self.study: StudyInUse = mini_study(session, **changes)
            self.participant_id = consented(session, self.study).id
            consented(session, self.study, "M-002", site_code="south")

    def person(self, *roles: str, **options: Any) -> Actor:
        with self.database.writing() as session:
            return person(session, self.study, *roles, **options)

    def browser(self, *roles: str, **options: Any) -> Browser:
        return signed_in_client(self.database, self.person(*roles, **options))

    def entry(self) -> Any:
        with self.database.reading() as session:
            row = session.execute(select(ENTRY).order_by(ENTRY.c.id.desc())).mappings().first()
            return None if row is None else {**row, "values": json.loads(row["values"])}

    def count(self, table: Any) -> int:
        with self.database.reading() as session:
            return int(session.execute(select(func.count()).select_from(table)).scalar_one())

    def drafts(self) -> int:
        return self.count(DRAFT)


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


@pytest.fixture
def assessor(world: World) -> Browser:
    return world.browser("assessor")


def soup(reply: Any) -> BeautifulSoup:
    return BeautifulSoup(reply.text, "html.parser")


def part(page: Tag, selector: str) -> Tag:
    """The first element that the selector finds; there must be one."""
    found = page.select_one(selector)
    assert found is not None, selector
    return found


def said(reply: Any) -> list[str]:
    """What the summary at the top of the form says."""
    return [line.get_text() for line in soup(reply).select("[data-error-summary] li")]


def put(browser: Browser, fields: Any, path: str = FORM) -> Any:
    token = soup(browser.get(path)).select_one("meta[name=csrf-token]")
    assert token is not None
    return browser.client.put(
        f"{path}/draft", data={**fields}, headers={"X-CSRF-Token": str(token["content"])}, follow_redirects=False
    )


# Saving


def test_a_form_is_filled_in_and_saved(world, assessor):
    reply = assessor.post(FORM, PAIN)
    assert (reply.status_code, reply.headers["location"]) == (303, f"{VISIT}?done=saved")
    assert world.entry()["values"] == {
        "pain_nrs": 5,
        "pain_days": 3,
        "pain_where": ["back"],
        "pain_note": "At night",
    }
    shown = assessor.form(FORM)
    assert {name: shown[name] for name in PAIN} == {
        "pain_nrs": ["5"],
        "pain_days": ["3"],
        "pain_where": ["back"],
        "pain_note": ["At night"],
    }
    assert shown["base-version"] == ["1"]


def test_decimals_are_shown_as_the_language_of_the_reader_writes_them(world: World):
    assessor = world.browser("assessor")
    typed = {"dis_items": ["1", "24"], "dis_weight": "70.5", "dis_on": "2026-07-05"}
    assert assessor.post(SCORED, typed).status_code == 303
    pages = (f"{SCORED}/record", f"{SCORED}/history/dis_weight", f"{SCORED}/queries/dis_weight")
    for language, shown, other in (("en", "70.5", "70,5"), ("de", "70,5", "70.5"), ("es", "70,5", "70.5")):
        for reader in (assessor, world.browser("monitor", username=f"monitor_{language}")):
            reader.client.headers["Accept-Language"] = language
            for page in pages if reader is not assessor else pages[:2]:
                said = reader.soup(page).select_one("main").get_text(" ", strip=True)  # type: ignore[union-attr]
                assert shown in said, (language, page)
                assert other not in said, (language, page)


def test_every_kind_of_question_is_asked_as_it_is_kept(world, assessor):
    typed = {"dis_items": ["1", "24"], "dis_weight": "70.5", "dis_on": "2026-07-05"}
    assert assessor.post(SCORED, typed).status_code == 303
    assert world.entry()["values"] == {
        "dis_items": ["1", "24"],
        "dis_weight": 70.5,
        "dis_on": "2026-07-05",
        "dis_score": 2,
    }
    page = assessor.soup(SCORED)
    assert part(page, "[data-score]").get_text() == "2"
    assert "kg" in part(page, "#field-item-dis_weight").get_text()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"pain_days": "three"}, "Days with pain: write a whole number in digits, such as 12."),
        ({"pain_days": "9"}, "Days with pain: 9 is above the highest possible value, 7. Check it."),
        ({"pain_days": ""}, "Days with pain: answer this, or say why there is no answer."),
        ({"pain_nrs": "eleven"}, "Pain, past week: write a whole number in digits, such as 12."),
        ({"pain_where": ["elbow"]}, "Where it hurts: choose among the answers in the list."),
        ({"pain_days__missing": "UNK"}, "Days with pain: there is an answer and a reason why there is none."),
        ({"pain_days": "", "pain_days__missing": "XX"}, "Days with pain: XX is not a reason of this study."),
        ({"pain_note": "x" * 2001}, "Note: this is 2001 characters long."),
    ],
)
def test_what_cannot_be_saved_is_said_and_stays_on_the_page(world, assessor, typed, words):
    fields = {**assessor.form(FORM), **PAIN, **typed}
    reply = assessor.send(FORM, fields)
    assert reply.status_code == 422
    assert [line for line in said(reply) if line.startswith(words)], said(reply)
    kept = form_in(soup(reply), FORM)
    for name, value in {**PAIN, **typed}.items():
        assert kept.get(name, [""]) == ([value] if isinstance(value, str) else value)
    assert world.entry() is None


def test_a_question_can_be_left_with_a_reason(world, assessor):
    assert assessor.post(FORM, {**PAIN, "pain_days": "", "pain_days__missing": "UNK"}).status_code == 303
    assert world.entry()["values"]["pain_days"] == {"missing": "UNK"}
    assert assessor.form(FORM)["pain_days__missing"] == ["UNK"]


def test_answers_can_be_missing_when_that_is_said(world, assessor):
    reply = assessor.post(FORM, {"pain_nrs": "4", "save-as": "partial"})
    assert reply.headers["location"].endswith("?done=saved_partial")
    assert world.entry()["status"] == "partial"
    assert "Partial" in assessor.soup(VISIT).get_text()


@pytest.mark.requirement("SEC-2")
def test_a_hostile_text_is_only_text_everywhere(world, assessor):
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
    assert assessor.post(FORM, {**PAIN, "pain_note": evil}).status_code == 303
    assessor.post(FORM, {**PAIN, "pain_note": evil + "2", "form-why": "<b>why</b>"})
    for page in (FORM, f"{FORM}/record", f"{FORM}/sign", f"{FORM}/history/pain_note"):
        reply = assessor.get(page)
        assert reply.status_code == 200
        assert "<script>alert" not in reply.text
        assert "<img src=x" not in reply.text
        assert "<b>why" not in reply.text
    assert evil in assessor.soup(f"{FORM}/history/pain_note").get_text()


def test_a_character_that_cannot_be_kept_is_refused_in_words(world, assessor):
    reply = assessor.post(FORM, {**PAIN, "pain_note": "a\x00b"})
    assert reply.status_code == 422
    assert said(reply) == ["Note: there is a character in it that cannot be kept. Type it again instead of pasting it."]
    assert world.entry() is None
    fields = {**assessor.form(FORM), "pain_note": "a\x00b", "form-why": "\x00"}
    assert put(assessor, fields).status_code == 204
    assert assessor.get(FORM).status_code == 200


@pytest.mark.parametrize("part", ["participants/M%00", "participants/M-999", "x"])
def test_an_address_that_never_was_is_not_found(world, assessor, part):
    assert assessor.get(f"/mini/{part}/visits/week18/entries/pain").status_code == 404
    for place in ("week%00/entries/pain", "week18/entries/pa%00in", "week18/entries/prescreen", "tx01/entries/pain"):
        assert assessor.get(f"/mini/participants/M-001/visits/{place}").status_code == 404
    assert assessor.get(f"{FORM}/history/no%00such").status_code == 404


def test_an_answer_that_is_not_asked_any_more_does_not_stand_in_the_way(database):
    # A database of its own: definitions are kept per database, by their number.
    instruments: Any = json.loads(json.dumps(MINI["instruments"]))
    instruments[1]["sections"][0]["items"].append(
        {"code": "pain_years", "label": "Years", "type": "integer", "shown_if": "[pain_nrs] > 0"}
    )
    world = World(database, instruments=instruments)
    assessor = world.browser("assessor")
    typed = {"pain_nrs": "0", "pain_days": "0", "pain_days__why": "None at all", "pain_years": "many"}
    assert assessor.post(FORM, typed).status_code == 303
    assert world.entry()["values"] == {"pain_nrs": 0, "pain_days": 0}


# Checks


def test_an_unexpected_answer_asks_why(world, assessor):
    reply = assessor.post(FORM, {"pain_nrs": "0", "pain_days": "3"})
    assert reply.status_code == 422
    assert said(reply) == ["No pain, but days with pain: check both. Correct it, or say why it is right."]
    fields = {**form_in(soup(reply), FORM), "pain_days__why": "Pain stopped yesterday"}
    assert assessor.send(FORM, fields).status_code == 303
    assert json.loads(world.entry()["reasons"]) == {"pain_days": "Pain stopped yesterday"}
    assert assessor.form(FORM)["pain_days__why"] == ["Pain stopped yesterday"]


def test_a_look_says_what_follows_and_keeps_nothing(world, assessor):
    before = world.count(AUDIT_ENTRY)
    fields = {**assessor.form(FORM), "pain_nrs": "0", "pain_days": "3"}
    seen = assessor.send(f"{FORM}/look", fields).json()
    assert seen["hidden"] == ["pain_where"]
    assert seen["findings"] == {"pain_days": "No pain, but days with pain: check both."}
    assert seen["errors"] == {}
    assert seen["blank"] == ["pain_where", "pain_note"]
    assert seen["progress"] == [[2, 3, "2 of 3"], [2, 3, "2 of 3"]]
    wrong = assessor.send(f"{FORM}/look", {**fields, "pain_days": "<b>"}).json()
    assert wrong["errors"] == {"pain_days": "Days with pain: write a whole number in digits, such as 12."}
    scored = assessor.send(f"{SCORED}/look", {"dis_items": ["1", "2", "3"], "dis_weight": "10"}).json()
    assert scored["computed"] == {"dis_score": "3"}
    assert list(scored["errors"]) == ["dis_weight"]
    assert (world.count(AUDIT_ENTRY), world.drafts(), world.entry()) == (before, 0, None)


# Corrections and history


@pytest.mark.requirement("EMA-11", "ALC-++")
def test_a_correction_needs_its_reason_and_stands_in_the_history(world, assessor):
    assessor.post(FORM, PAIN)
    reply = assessor.post(FORM, {**PAIN, "pain_nrs": "6"})
    assert reply.status_code == 422
    assert said(reply) == ["You are changing what was saved (Pain, past week). Say why."]
    fields = {**form_in(soup(reply), FORM), "form-why": "Misread the form"}
    assert fields["pain_nrs"] == ["6"]
    assert assessor.send(FORM, fields).status_code == 303
    row, first = assessor.soup(f"{FORM}/history/pain_nrs").select("tbody tr")
    assert row.select_one("del").get_text() == "5"
    assert row.select_one("ins").get_text() == "6"
    assert "Misread the form" in row.get_text()
    assert "assessor_north" in row.get_text()
    assert "Entered" in first.get_text()


def test_the_record_says_answers_in_the_words_of_the_study(world, assessor):
    assessor.post(FORM, {**PAIN, "pain_days": "", "pain_days__missing": "ND"})
    text = assessor.soup(f"{FORM}/record").get_text()
    assert "Back" in text
    assert "No answer: Not done" in text
    assert "Saved 6 Jul 2026 11:00 by assessor_north, version 1" in " ".join(text.split())


# Nothing typed is lost


def test_who_saves_second_sees_both_versions_and_can_save_on_top(world, assessor):
    fields = {**assessor.form(FORM), **PAIN, "pain_nrs": "7", "pain_note": "Mine"}
    world.browser("coordinator").post(FORM, {**PAIN, "pain_note": "Hers"})
    reply = assessor.send(FORM, fields)
    assert reply.status_code == 409
    rows = [[cell.get_text() for cell in row.select("th, td")] for row in soup(reply).select("#versions tbody tr")]
    assert rows == [["Pain, past week", "5", "7"], ["Note", "Hers", "Mine"]]
    kept = form_in(soup(reply), FORM)
    assert (kept["pain_nrs"], kept["pain_note"], kept["base-version"]) == (["7"], ["Mine"], ["1"])
    assert world.entry()["values"]["pain_note"] == "Hers"
    assert assessor.send(FORM, kept).status_code == 422
    again = assessor.send(FORM, {**kept, "form-why": "Read it from the paper"})
    assert again.status_code == 303
    assert (world.entry()["values"]["pain_note"], world.entry()["version"]) == ("Mine", 2)


def test_who_saved_it_in_another_window_is_told_so_and_the_focus_goes_there(world, assessor):
    fields = {**assessor.form(FORM), **PAIN, "pain_nrs": "7"}
    assert assessor.post(FORM, PAIN).status_code == 303
    versions = soup(assessor.send(FORM, fields)).select_one("#versions")
    assert versions is not None
    assert "You saved this form yourself, in another window or on another device" in versions.get_text()
    assert versions.has_attr("data-error-summary")  # what the script of every page gives the focus
    assert versions["tabindex"] == "-1"


def test_a_session_that_ends_under_a_form_loses_nothing(world, assessor):
    fields = {**assessor.form(FORM), **PAIN, "pain_note": 'Two\r\nlines & "quotes"'}
    with world.database.writing() as session:
        session.execute(update(SESSION).values(ended_at=SESSION.c.created_at))
    reply = assessor.send(FORM, fields)
    assert reply.status_code == 401
    assert world.entry() is None
    sign_in = {**form_in(soup(reply), "/sign-in"), "username": "assessor_north", "password": PASSWORD}
    resumed = assessor.send("/sign-in", sign_in)
    kept = form_in(soup(resumed), FORM)
    assert kept["pain_note"] == ['Two\r\nlines & "quotes"']
    # A note of one line keeps no line end; the person is told, and still has the text.
    assert assessor.send(FORM, {**kept, "pain_note": "Two lines"}).status_code == 303
    assert world.entry()["values"]["pain_where"] == ["back"]


def held(world: World) -> tuple[str, Any, str | None]:
    with world.database.reading() as session:
        assert world.participant_id is not None
        row = visit_of(session, world.participant_id, "week18")
        return row.status, row.held_on, row.reason


def test_the_first_form_asks_on_which_day_the_visit_was_held(world, assessor):
    page = assessor.soup(FORM)
    assert assessor.form(FORM)["visit-held-on"] == ["2026-07-06"]
    assert "Check that it is the right one." not in page.get_text()
    assert assessor.post(FORM, PAIN).status_code == 303
    assert held(world) == ("held", date(2026, 7, 6), None)
    assert "visit-held-on" not in assessor.form(FORM)


@pytest.mark.parametrize(
    ("day", "words"),
    [("", "Say on which day it was held."), ("soon", "year-month-day"), ("2026-07-07", "or earlier")],
)
def test_a_day_that_cannot_be_keeps_everything_else_that_was_typed(world, assessor, day, words):
    reply = assessor.post(FORM, {**PAIN, "pain_nrs": "11", "visit-held-on": day})
    assert reply.status_code == 422
    assert words in soup(reply).get_text()
    assert "pain_nrs" in str(part(soup(reply), ".error-summary"))  # both at once
    assert form_in(soup(reply), FORM)["pain_note"] == ["At night"]
    assert held(world)[0] == "planned"
    assert world.entry() is None


def test_a_visit_that_is_months_away_is_questioned_before_anything_is_entered(world, assessor):
    with time_machine.travel(datetime(2026, 3, 10, 1, 0, tzinfo=UTC), tick=True):
        far = signed_in_client(world.database, assessor.actor)
        assert "This visit opens in" in far.soup(FORM).get_text()
        assert far.form(FORM)["visit-held-on"] == [""]
        assert far.post(FORM, PAIN).status_code == 422
        typed = {**PAIN, "visit-held-on": "2026-03-10"}
        assert "Why outside the window" in soup(far.post(FORM, typed)).get_text()
        assert far.post(FORM, {**typed, "visit-reason": "Travels from April on"}).status_code == 303
    assert held(world) == ("held", date(2026, 3, 10), "Travels from April on")


def test_nothing_is_entered_at_a_missed_visit_and_a_visit_with_entries_is_not_missed(world, assessor):
    missed = {"why": "Abroad"}
    assert assessor.post(f"{VISIT}/missed", missed, page=VISIT).status_code == 303
    late = assessor.send(FORM, {"csrf_token": assessor.form(VISIT, f"{VISIT}/reopened")["csrf_token"], **PAIN})
    assert late.status_code == 409
    assert "recorded as missed" in soup(late).get_text()
    assert world.entry() is None
    assessor.post(f"{VISIT}/reopened", {"why": "The wrong person"}, page=VISIT)
    assert assessor.post(FORM, {**PAIN, "visit-held-on": None}).status_code == 303
    refused = assessor.post(f"{VISIT}/missed", missed, page=VISIT)
    assert refused.status_code == 409
    assert "so it took place" in soup(refused).get_text()
    assert held(world)[0] == "planned"


def test_a_failure_of_ours_hands_back_what_was_typed(world, assessor, monkeypatch):
    fields = {**assessor.form(FORM), **PAIN}
    forgiving = TestClient(assessor.client.app, base_url="http://trial.test", raise_server_exceptions=False)
    forgiving.cookies = assessor.client.cookies
    with monkeypatch.context() as broken:
        broken.setattr("app.capture.actions.saving.record", lambda *_, **__: 1 / 0)
        reply = forgiving.post(FORM, data=fields, follow_redirects=False)
    assert reply.status_code == 500
    assert world.entry() is None
    again = form_in(soup(reply), FORM)
    assert again["pain_note"] == ["At night"]
    assert assessor.send(FORM, again).status_code == 303
    assert world.entry()["values"]["pain_nrs"] == 5


def test_a_double_click_saves_once(world, assessor):
    fields = {**assessor.form(FORM), **PAIN}
    first, second = assessor.send(FORM, fields), assessor.send(FORM, fields)
    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    assert world.entry()["version"] == 1
    with world.database.reading() as session:
        saved = select(func.count()).where(AUDIT_ENTRY.c.action == "entry.saved")
        assert session.execute(saved).scalar_one() == 4


def test_a_save_whose_answer_was_lost_can_be_sent_again_from_another_page(world, assessor):
    first, second = assessor.form(FORM), assessor.form(FORM)
    assert assessor.send(FORM, {**first, **PAIN}).status_code == 303
    assert assessor.send(FORM, {**second, **PAIN}).status_code == 303
    assert world.entry()["version"] == 1


def test_a_draft_waits_on_every_device_of_its_person_alone(world, assessor):
    fields = {**assessor.form(FORM), "pain_nrs": "8", "pain_days": "seven", "form-why": "Later"}
    for _ in range(2):
        reply = put(assessor, fields)
        assert (reply.status_code, reply.headers["x-draft-version"]) == (204, "0")
    tablet = signed_in_client(world.database, assessor.actor)
    page = tablet.soup(FORM)
    assert "This is your draft of" in page.get_text()
    resumed = form_in(page, FORM)
    assert (resumed["pain_nrs"], resumed["pain_days"]) == (["8"], ["seven"])
    assert "write a whole number" in part(page, "#item-pain_days-error").get_text()
    colleague = world.browser("coordinator").soup(FORM)
    assert "draft of" not in colleague.get_text()
    assert tablet.send(FORM, {**resumed, "pain_days": "7"}).status_code == 303
    assert world.drafts() == 0


def keep_in(browser: Browser, page: BeautifulSoup, **typed: str) -> Any:
    """Keep a draft from a page that is open, as its script does."""
    fields = {**form_in(page, FORM), "draft-version": part(page, "#entry").get("data-draft", ""), **typed}
    headers = {"X-CSRF-Token": str(part(page, "meta[name=csrf-token]")["content"])}
    return browser.client.put(f"{FORM}/draft", data=fields, headers=headers)


def test_a_form_that_is_open_twice_shows_both_drafts_and_overwrites_neither(world, assessor):
    one, two = assessor.soup(FORM), assessor.soup(FORM)
    assert "data-draft" not in part(one, "#entry").attrs
    assert keep_in(assessor, one, pain_nrs="8").status_code == 204
    assert keep_in(assessor, one, pain_nrs="9").status_code == 204, "its own draft is no other"
    reply = keep_in(assessor, two, pain_nrs="2", pain_days="seven")
    assert (reply.status_code, "x-draft-at" in reply.headers) == (409, True)
    box = soup(reply)
    assert "This form is also open elsewhere" in box.get_text()
    rows = [[cell.get_text() for cell in row.select("th, td")] for row in box.select("tbody tr")]
    assert [row[1:] for row in rows] == [["9", "2"], ["–", "seven"]]
    assert part(box, "[data-mine]")
    assert part(box, "[data-theirs]")
    assert form_in(assessor.soup(FORM), FORM)["pain_nrs"] == ["9"], "nothing is overwritten"
    # Neither does a save; what was typed here is still there, and the other one is a click away.
    saving = {**form_in(two, FORM), "draft-version": "", "pain_nrs": "2", "pain_days": "3"}
    refused = assessor.send(FORM, saving)
    assert (refused.status_code, world.entry(), world.drafts()) == (409, None, 1)
    page = soup(refused)
    assert part(page, f"#elsewhere a[href='{FORM}']")
    assert form_in(page, FORM)["pain_nrs"] == ["2"]
    assert keep_in(assessor, page).status_code == 409, "nothing is taken before somebody chooses"
    # Choosing what is typed here: as a draft, knowing of the other one, and as a save.
    known = str(reply.headers["x-draft-at"])
    assert keep_in(assessor, two, pain_nrs="2", **{"draft-version": known}).status_code == 204
    assert form_in(assessor.soup(FORM), FORM)["pain_nrs"] == ["2"]
    assert keep_in(assessor, one, pain_nrs="7").status_code == 409
    again = soup(assessor.send(FORM, {**form_in(one, FORM), "draft-version": "", **PAIN}))
    over = form_in(again, FORM)
    assert over["over"]
    assert assessor.send(FORM, over).status_code == 303
    assert (world.entry()["values"]["pain_nrs"], world.drafts()) == (5, 0)


def test_a_page_that_shows_the_draft_goes_on_with_it(world, assessor):
    assert keep_in(assessor, assessor.soup(FORM), pain_nrs="8").status_code == 204
    tablet = signed_in_client(world.database, assessor.actor)
    page = tablet.soup(FORM)
    assert keep_in(tablet, page, pain_nrs="7").status_code == 204
    fresh = assessor.soup(FORM)
    assert keep_in(assessor, fresh, pain_nrs="7").status_code == 204
    saving = {**form_in(fresh, FORM), "draft-version": str(part(fresh, "#entry")["data-draft"]), **PAIN}
    assert assessor.send(FORM, saving).status_code == 303
    assert world.drafts() == 0


def test_a_draft_keeps_the_day_of_the_visit_and_why_it_is_outside(world, assessor):
    day = {"visit-held-on": "2026-05-04", "visit-reason": "The clinic was closed"}
    fields = {**PAIN, **day}

    def resumed() -> tuple[list[str], list[str]]:
        kept = assessor.form(FORM)
        return kept["visit-held-on"], kept["visit-reason"]

    put(assessor, {**assessor.form(FORM)})
    assert "draft of" not in assessor.soup(FORM).get_text(), "a day that nobody typed is no draft"
    put(assessor, {**assessor.form(FORM), **day})
    assert "This is your draft of" in assessor.soup(FORM).get_text(), "the day alone was typed"
    put(assessor, {**assessor.form(FORM), **fields})
    assert resumed() == (["2026-05-04"], ["The clinic was closed"])
    put(assessor, {**assessor.form(FORM), **fields, "visit-held-on": ""})
    assert resumed()[0] == [""], "a day that was taken out is not today"
    refused = assessor.post(FORM, {**fields, "pain_nrs": "11"})
    assert refused.status_code == 422
    put(assessor, form_in(soup(refused), FORM))
    assert resumed() == (["2026-05-04"], ["The clinic was closed"])
    assert assessor.send(FORM, {**assessor.form(FORM), "pain_nrs": "5"}).status_code == 303
    assert held(world) == ("held", date(2026, 5, 4), "The clinic was closed")
    put(assessor, {**assessor.form(FORM), **day})
    assert "draft of" not in assessor.soup(FORM).get_text(), "the visit is held: its day is no question any more"


def test_a_draft_says_when_it_was_kept_by_the_clock_of_the_site(world, assessor):
    reply = put(assessor, {**assessor.form(FORM), "pain_nrs": "8"})
    state = part(assessor.soup(FORM), "[data-save-state]").get_text()
    assert reply.headers["x-draft-time"] in state, "in the answer to whoever types as on the page"
    assert not reply.headers["x-draft-time"].startswith("01:"), "01:00 UTC is another hour at the site"


def test_my_draft_has_its_mark_wherever_the_form_is_listed(world, assessor):
    whole = "/mini/participants/M-001"
    put(assessor, {**assessor.form(FORM), "pain_nrs": "8"})

    def marks(browser: Browser) -> list[str]:
        row = next(row for row in browser.soup(VISIT).select("#forms tbody tr") if row.find("a", href=FORM))
        cell = part(browser.soup(whole), f".matrix a[href='{FORM}']")
        head = part(browser.soup(FORM), ".entry-facts .status")
        return [part(row, ".status").get_text(), part(cell, ".status").get_text(), head.get_text()]

    assert marks(assessor) == ["Draft", "Draft", "Draft"]
    assert "Draft" in part(assessor.soup(whole), ".matrix + .legend, .table-frame + .legend").get_text()
    assert "Go on" in part(assessor.soup(VISIT), "#forms").get_text()
    assert "Draft" not in marks(world.browser("coordinator")), "a draft is its person's alone"
    assessor.post(FORM, PAIN)
    put(assessor, {**assessor.form(FORM), "pain_nrs": "9"})
    assert marks(assessor)[:2] == ["Complete", "Complete"]
    assert "You typed more and have not saved it yet" in assessor.soup(VISIT).get_text()


def test_the_bar_of_a_form_says_where_its_answers_stand(world, assessor):
    def state(page: BeautifulSoup) -> str:
        return part(page, "[data-save-state] [data-words]").get_text()

    assert state(assessor.soup(FORM)) == "Nothing typed yet"
    refused = soup(assessor.post(FORM, {**PAIN, "pain_days": "9"}))
    assert state(refused) == "Not yet saved"
    assert part(refused, "#entry").has_attr("data-unsaved")
    older = {**assessor.form(FORM), **PAIN, "pain_nrs": "2"}
    world.browser("coordinator").post(FORM, PAIN)
    assert state(soup(assessor.send(FORM, older))) == "Not yet saved"
    assert state(assessor.soup(FORM)) == "Nothing changed yet"


def test_a_refused_answer_is_not_counted_as_answered(world, assessor):
    asked = {"pain_nrs": "5", "pain_where": ["back"], "pain_note": "At night"}
    for days in ("9", "seven"):
        reply = soup(assessor.post(FORM, {**asked, "pain_days": days}))
        assert part(reply, ".form-bar .progress").get_text() == "3 of 4"
        looked = assessor.send(f"{FORM}/look", {**asked, "pain_days": days}).json()
        assert looked["progress"][-1][:2] == [3, 4]
    assert assessor.send(f"{FORM}/look", {**asked, "pain_days": "7"}).json()["progress"][-1][:2] == [4, 4]


def test_a_reason_is_not_called_optional_once_a_saved_answer_changes(world, assessor):
    assessor.post(FORM, {**PAIN, "pain_note": ""})

    def optional(page: BeautifulSoup) -> bool:
        return part(page, ".form-why").select_one(".optional") is not None

    assert optional(assessor.soup(FORM))
    assert not optional(soup(assessor.post(FORM, {"pain_nrs": "6"})))
    changed, added = {**PAIN, "pain_nrs": "6"}, PAIN
    assert assessor.send(f"{FORM}/look", changed).json()["corrects"] is True
    assert assessor.send(f"{FORM}/look", added).json()["corrects"] is False, "an answer added corrects nothing"
    put(assessor, {**assessor.form(FORM), "pain_nrs": "6"})
    assert not optional(assessor.soup(FORM)), "a draft that changes a saved answer"


def test_the_summary_stands_in_the_order_of_the_page(world, assessor):
    # One cannot be read, and one before it is out of its range: two kinds of problem.
    lines = said(assessor.post(FORM, {**PAIN, "pain_days": "9", "pain_nrs": "four"}))
    assert [line.partition(":")[0] for line in lines] == ["Pain, past week", "Days with pain"]
    lines = said(assessor.post(FORM, {**PAIN, "pain_days": "many", "pain_nrs": "12"}))
    assert [line.partition(":")[0] for line in lines] == ["Pain, past week", "Days with pain"]


def test_keys_are_offered_only_where_they_help(world, assessor):
    assert "Keys 0 to 9" in part(assessor.soup(FORM), ".for-keys").get_text()
    assert part(assessor.soup(SCORED), ".for-keys").get_text() == "Enter goes to the next question."


def test_a_day_count_shows_its_range_and_clearing_is_no_answer(world, assessor):
    page = assessor.soup(FORM)
    assert part(page, "#item-pain_days-range").get_text() == "0 to 7"
    assert "item-pain_days-range" in str(part(page, "#item-pain_days")["aria-describedby"])
    cleared = [box.parent.get_text() for box in page.select("#entry .segment.without-js input") if box.parent]
    assert cleared
    assert set(cleared) == {"No answer"}


def test_a_draft_can_be_dropped(world, assessor):
    assessor.post(FORM, PAIN)
    put(assessor, {**assessor.form(FORM), "pain_nrs": "9"})
    assert assessor.form(FORM)["pain_nrs"] == ["9"]
    reply = assessor.post(f"{FORM}/draft", {}, page=FORM)
    assert reply.headers["location"] == f"{FORM}?done=draft_dropped"
    assert assessor.form(FORM)["pain_nrs"] == ["5"]
    assert assessor.get(f"{FORM}/draft").headers["location"] == FORM


def test_a_draft_begun_before_a_colleague_saved_is_kept_and_compared(world, assessor):
    fields = {**assessor.form(FORM), **PAIN, "pain_nrs": "2"}
    world.browser("coordinator").post(FORM, PAIN)
    assert put(assessor, fields).status_code == 409
    page = assessor.soup(FORM)
    assert [cell.get_text() for cell in page.select("#versions tbody tr td")] == ["5", "2"]
    assert form_in(page, FORM)["pain_nrs"] == ["2"]


def test_a_draft_that_arrives_after_ones_own_save_is_not_kept(world, assessor):
    fields = {**assessor.form(FORM), **PAIN}
    assessor.send(FORM, fields)
    assert put(assessor, {**fields, "pain_note": "At nig"}).status_code == 409
    assert world.drafts() == 0


def test_what_a_device_held_back_is_kept_though_its_person_saved_since(world, assessor):
    fields = {**assessor.form(FORM), **PAIN}
    assessor.send(FORM, fields)
    late = {**fields, "pain_note": "At night, and at noon", "typed-at": "2025-06-01T09:00:00+00:00"}
    reply = put(assessor, late)
    assert (reply.status_code, reply.headers.get("x-draft-kept"), world.drafts()) == (409, "yes", 1)
    assert "At night, and at noon" in part(assessor.soup(FORM), "#versions").get_text()


def test_a_draft_is_kept_while_the_visit_is_closed_and_read_until_it_is_open(world, assessor):
    assessor.post(FORM, PAIN)
    token = assessor.soup(FORM)
    fields = {**form_in(token, FORM), "pain_nrs": "9"}
    headers = {"X-CSRF-Token": str(part(token, "meta[name=csrf-token]")["content"])}
    manager = world.browser("data_manager")
    freezing = {**manager.form("/mini/study/locks"), "participant": "M-001", "kind": "frozen", "why": "Clean"}
    assert manager.send("/mini/study/locks", freezing).status_code == 303
    assert assessor.client.put(f"{FORM}/draft", data=fields, headers=headers).status_code == 204
    page = assessor.soup(FORM)
    assert page.select("#entry") == []
    shown = part(page, "#unsaved")
    assert [cell.get_text() for cell in shown.select("tbody tr td")] == ["5", "9"]
    assert "not saved" in shown.get_text()
    assert world.browser("coordinator").soup(FORM).select("#unsaved") == [], "it is its person's alone"
    lifting = str(part(manager.soup("/mini/study/locks"), "form[action$='/lift']")["action"])
    assert manager.post(lifting, {"why": "A page was found"}, page="/mini/study/locks").status_code == 303
    assert assessor.form(FORM)["pain_nrs"] == ["9"]
    assert assessor.soup(f"{FORM}/record").select("#unsaved") == [], "the form shows it again"


def test_without_a_consent_a_draft_is_refused_and_no_conflict(world, assessor):
    page = assessor.soup(FORM)
    fields = form_in(page, FORM)
    headers = {"X-CSRF-Token": str(part(page, "meta[name=csrf-token]")["content"])}
    with world.database.writing() as session:
        session.execute(update(CONSENT).values(withdrawn_on=date(2025, 6, 1)))
    reply = assessor.client.put(f"{FORM}/draft", data={**fields, "pain_nrs": "9"}, headers=headers)
    assert (reply.status_code, world.drafts()) == (422, 0)


def test_a_refusal_keeps_what_was_typed(world, assessor):
    fields = {**assessor.form(FORM), **PAIN}
    with world.database.writing() as session:
        from app.schedule.reads import VISIT as VISIT_TABLE

        session.execute(update(VISIT_TABLE).where(VISIT_TABLE.c.code == "week18").values(status="stopped"))
    reply = assessor.send(FORM, fields)
    assert reply.status_code == 409
    assert "no longer due" in part(soup(reply), ".flash-problem").get_text()
    assert form_in(soup(reply), FORM)["pain_note"] == ["At night"]


# Signatures


@pytest.mark.requirement("P11-50b", "AX11-14")
def test_a_signature_says_who_when_where_and_what_it_means(world, assessor):
    assessor.post(FORM, PAIN)
    page = f"{FORM}/sign"
    assert said_fields(assessor.post(page, {"password": PASSWORD})) == ["meaning"]
    wrong = assessor.post(page, {"meaning": "authorship", "password": "not this one"})
    assert said_fields(wrong) == ["password"]
    assert part(soup(wrong), "input[name=meaning][checked]")["value"] == "authorship"
    assert world.entry()["signed_at"] is None
    signed = assessor.post(page, {"meaning": "authorship", "password": PASSWORD})
    assert signed.headers["location"] == f"{FORM}/record?done=signed"
    text = " ".join(part(assessor.soup(f"{FORM}/record"), ".signature").get_text().split())
    assert text.startswith(
        "Signed Assessor_North, 6 Jul 2026 11:00 (Australia/Sydney) Authorship: I entered these data"
    )
    assert "Signed" in part(assessor.soup(VISIT), "#forms tbody").get_text()


def said_fields(reply: Any) -> list[str]:
    assert reply.status_code == 422
    return [str(field["id"]).removeprefix("field-") for field in soup(reply).select(".confirm .has-error")]


def test_a_change_supersedes_the_signature_and_says_so(world, assessor):
    assessor.post(FORM, PAIN)
    assessor.post(f"{FORM}/sign", {"meaning": "review", "password": PASSWORD})
    assert "A change ends this signature" in assessor.soup(FORM).get_text()
    assessor.post(FORM, {**PAIN, "pain_days": "4", "form-why": "Counted again"})
    for page in (FORM, f"{FORM}/record", f"{FORM}/sign"):
        text = " ".join(part(assessor.soup(page), ".signature").get_text().split())
        assert "The signature of Assessor_North was superseded by a change on 6 Jul 2026" in text
        assert "Counted again" in text
    assert assessor.post(f"{FORM}/sign", {"meaning": "review", "password": PASSWORD}).status_code == 303
    assert world.entry()["signed_name"] == "Assessor_North"


def test_what_changed_meanwhile_is_not_signed_unseen(world, assessor):
    assessor.post(FORM, PAIN)
    fields = {**assessor.form(f"{FORM}/sign"), "meaning": "authorship", "password": PASSWORD}
    world.browser("coordinator").post(FORM, {**PAIN, "pain_nrs": "1", "form-why": "Typing error"})
    reply = assessor.send(f"{FORM}/sign", fields)
    assert reply.status_code == 409
    assert "changed after you opened it" in part(soup(reply), ".flash-problem").get_text()
    assert world.entry()["signed_at"] is None


def test_a_form_that_is_not_complete_says_why_it_cannot_be_signed(world, assessor):
    assessor.post(FORM, {"pain_nrs": "4", "save-as": "partial"})
    assert "This form is not complete: Days with pain." in assessor.soup(f"{FORM}/sign").get_text()
    assert "There is nothing to sign here yet" in assessor.soup(f"{SCORED}/sign").get_text()


# Who may do what


@pytest.mark.parametrize(
    ("roles", "options"),
    [(("assessor",), {"site_code": "south"}), (("clinician",), {}), (("statistician",), {"site_code": None})],
)
def test_who_has_no_business_here_is_told_that_there_is_no_such_page(world, assessor, roles, options):
    assessor.post(FORM, PAIN)
    other = world.browser(*roles, **options)
    with world.database.reading() as session:
        own = select(SESSION.c.csrf_token).where(SESSION.c.person_id == other.actor.person_id)
        fields = {**PAIN, "base-version": "1", "csrf_token": masked(session.execute(own).scalar_one())}
    for page in (FORM, f"{FORM}/record", f"{FORM}/sign", f"{FORM}/history/pain_nrs", f"{FORM}/draft"):
        assert other.get(page).status_code == 404
    for page in (FORM, f"{FORM}/look", f"{FORM}/draft", f"{FORM}/sign"):
        assert other.send(page, fields).status_code == 404


def test_who_may_only_read_sees_the_record_and_saves_nothing(world, assessor):
    assessor.post(FORM, PAIN)
    for role in ("investigator", "data_manager", "monitor"):
        reader = world.browser(role, site_code=None if role != "investigator" else "north")
        page = reader.soup(FORM)
        assert page.select_one("form#entry") is None
        assert "At night" in page.get_text()
        token = str(part(page, "meta[name=csrf-token]")["content"])
        fields = {**PAIN, "base-version": "1", "csrf_token": token}
        assert reader.send(FORM, fields).status_code == 403
        assert reader.send(f"{FORM}/look", fields).status_code == 403
    coordinator = world.browser("coordinator")
    assert "This needs the role assessor or investigator" in coordinator.soup(f"{FORM}/sign").get_text()


def test_before_consent_there_is_a_reason_instead_of_a_form(world):
    with world.database.writing() as session:
        consented(session, world.study, "M-003", consent=False)
    page = world.browser("coordinator").soup(FORM.replace("M-001", "M-003"))
    assert page.select_one("form#entry") is None
    assert "consent" in part(page, ".flash-note").get_text()


# How quick


@pytest.mark.parametrize("page", ["", "/record", "/sign", "/history/pain_nrs"])
def test_a_page_asks_the_database_at_most_twelve_times(world, assessor, page):
    assessor.post(FORM, PAIN)
    assessor.post(f"{FORM}/sign", {"meaning": "review", "password": PASSWORD})
    assessor.post(FORM, {**PAIN, "pain_days": "4", "form-why": "Counted again"})
    put(assessor, {**assessor.form(FORM), "pain_nrs": "9"})
    with counted_statements(world.database) as statements:
        assert assessor.get(FORM + page).status_code == 200
    assert len(statements) <= 12, statements


def test_a_look_asks_the_database_at_most_eight_times(world, assessor):
    with counted_statements(world.database) as statements:
        assert assessor.send(f"{FORM}/look", PAIN).status_code == 200
    assert len(statements) <= 8, statements


def test_a_first_visit_to_a_form_stays_under_forty_kilobytes(world, assessor):
    names = ("equipoise.css", "equipoise.js", "vendor/htmx.min.js", "favicon.svg")
    static = sum(len(gzip.compress((STATIC / name).read_bytes())) for name in names)
    assert static + len(gzip.compress(assessor.get(SCORED).content)) <= 40_000


# In a real browser


@pytest.fixture
def live(database: Database) -> Iterator[tuple[World, str, str]]:
    """The application on a port of its own: the world, its address and the cookie of the assessor."""
    world = World(database)
    browser = world.browser("assessor")
    client: TestClient = browser.client
    server = uvicorn.Server(uvicorn.Config(client.app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield world, f"http://127.0.0.1:{port}", str(client.cookies["equipoise"])
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    """One for all of these, which begins with a window for each."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        yield opened
        opened.close()


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_questions_follow_the_answers_while_somebody_types(live, chrome):
    world, address, cookie = live
    context = chrome.new_context(viewport={"width": 390, "height": 900})
    context.add_cookies([{"name": "equipoise", "value": cookie, "url": address}])
    page: Page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    page.goto(address + FORM)
    assert page.is_hidden("#field-item-pain_where")
    page.focus("#item-pain_nrs")
    page.keyboard.press("4")
    page.wait_for_selector("#field-item-pain_where", state="visible")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.name") == "pain_days"
    page.keyboard.type("9")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.name") == "pain_note"
    page.keyboard.type("Half a sen")
    page.wait_for_selector("#item-pain_days-error:not([hidden])")
    assert page.evaluate("document.activeElement.name") == "pain_note"
    assert page.input_value("#item-pain_note") == "Half a sen"
    page.fill("#item-pain_days", "3")
    page.check("input[name=pain_nrs][value='0']", force=True)
    page.wait_for_selector("#field-item-pain_days .finding", state="visible")
    assert page.is_hidden("#item-pain_days-error")
    assert page.is_hidden("#field-item-pain_where")
    page.select_option("select[name=pain_nrs__missing]", "UNK")
    assert page.locator("input[name=pain_nrs]:checked").count() == 0
    page.wait_for_selector("[data-save-state][data-is=saved]")
    assert page.inner_text(".form-bar .progress").strip() == "3 of 3"
    page.click("text=Save with answers missing")
    page.wait_for_url("**/visits/week18?done=*")
    assert said == []
    context.close()
    assert world.entry()["values"] == {"pain_nrs": {"missing": "UNK"}, "pain_days": 3, "pain_note": "Half a sen"}


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_page_goes_on_keeping_drafts_once_its_person_signs_in_again(live, chrome):
    world, address, cookie = live
    context = chrome.new_context(viewport={"width": 390, "height": 900})
    context.add_cookies([{"name": "equipoise", "value": cookie, "url": address}])
    page = context.new_page()
    page.goto(address + FORM)
    with world.database.writing() as session:
        session.execute(update(SESSION).values(ended_at=SESSION.c.created_at))
    page.fill("#item-pain_note", "Still here")
    page.wait_for_selector("[data-save-state][data-is=out]")
    again = world.browser("assessor").client.cookies["equipoise"]
    context.add_cookies([{"name": "equipoise", "value": str(again), "url": address}])
    page.evaluate("dispatchEvent(new Event('online'))")
    page.wait_for_selector("[data-save-state][data-is=saved]")
    assert world.drafts() == 1
    page.click("text=Save with answers missing")
    page.wait_for_url("**/visits/week18?done=*")
    context.close()
    assert world.entry()["values"] == {"pain_note": "Still here"}


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_have_no_serious_accessibility_problem_and_never_scroll_sideways(live, chrome, theme):
    _, address, cookie = live
    context = chrome.new_context(viewport={"width": 390, "height": 900}, color_scheme=theme, bypass_csp=True)
    context.add_cookies([{"name": "equipoise", "value": cookie, "url": address}])
    page = context.new_page()
    for path in (FORM, SCORED, VISIT, f"{FORM}/record", f"{FORM}/sign", f"{FORM}/history/pain_nrs"):
        page.goto(address + path)
        page.add_script_tag(path=str(Path(__file__).parents[1] / "vendor" / "axe.min.js"))
        found = page.evaluate(AXE)
        problems = [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]]
        assert problems == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page.goto(address + FORM)
    if theme == "light":  # on a desk, with a keyboard
        page.set_viewport_size({"width": 1280, "height": 900})
        hint, heading = page.locator(".for-keys").bounding_box(), page.locator("#entry h2").first.bounding_box()
        assert hint is not None
        assert heading is not None
        assert heading["y"] - hint["y"] - hint["height"] >= 16, "the hint leaves the first heading some room"
    page.click("text=Save >> nth=0")
    page.wait_for_load_state()
    page.add_script_tag(path=str(Path(__file__).parents[1] / "vendor" / "axe.min.js"))
    found = page.evaluate(AXE)
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []
    context.close()
