"""A visit in one go: from form to form without a way back, then one page, one meaning, one password; or none of it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from bs4 import BeautifulSoup
from sqlalchemy import select

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.capture.reads import entries_with_values
from app.capture.rules import digest_of, signature_holds
from tests.api.client import api_client
from tests.web.browser import PASSWORD, counted_statements, form_in
from tests.web.test_entries import FORM, PAIN, SCORED, VISIT, World

SIGN = f"{VISIT}/sign"
SCORES = {"dis_items": ["3"], "dis_weight": "70"}
SIGNED = {"meaning": "authorship", "password": PASSWORD}


@pytest.fixture(autouse=True)
def at_the_visit() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=True):
        yield


@pytest.fixture
def world(shared_database: Any) -> World:
    return World(shared_database)


def standing(world: World) -> dict[str, Any]:
    assert world.participant_id is not None
    with world.database.reading() as session:
        return {each.instrument: each for each in entries_with_values(session, world.participant_id)}


@pytest.mark.requirement("P11-50a", "P11-70", "P11-200i")
def test_a_visit_is_entered_and_signed_without_going_back(world):
    assessor = world.browser("assessor")
    page = assessor.soup(FORM)
    onward = page.select_one("[data-onward]")
    assert onward.get_text(strip=True) == "Save and open “Disability”"
    saved = assessor.post(FORM, {**PAIN, "save-as": "next"})
    assert (saved.status_code, saved.headers["location"]) == (303, f"{SCORED}?done=saved_next")
    page = assessor.soup(saved.headers["location"])
    assert "This is the next form of the visit." in page.get_text()
    assert page.select_one("[data-onward]").get_text(strip=True) == "Save and sign the visit"
    saved = assessor.post(SCORED, {**SCORES, "save-as": "sign"})
    assert (saved.status_code, saved.headers["location"]) == (303, f"{SIGN}?done=saved_last")
    with counted_statements(world.database) as statements:
        page = assessor.soup(saved.headers["location"])
    assert len(statements) <= 12, statements
    entries = standing(world)
    for each in entries.values():
        assert digest_of(each) in str(page), "the digest that is signed stands on the page"
        assert page.find("a", href=f"{VISIT}/entries/{each.instrument}/record") is not None
    assert page.select_one("form.confirm h2").get_text() == "Sign 2 forms"

    # One meaning and one password; neither may be left out, and nothing is signed then.
    wrong = assessor.post(SIGN, {"password": PASSWORD})
    assert (wrong.status_code, "Say what your signature means." in wrong.text) == (422, True)
    wrong = assessor.post(SIGN, {**SIGNED, "password": "not this one at all"})
    assert wrong.status_code == 422
    assert not any(each.is_signed for each in standing(world).values())
    done = assessor.post(SIGN, SIGNED)
    assert (done.status_code, done.headers["location"]) == (303, f"{VISIT}?done=visit_signed")
    signed = standing(world)
    assert all(signature_holds(each) and each.signed_by == "assessor_north" for each in signed.values())
    assert len({each.signed_digest for each in signed.values()}) == 2, "each over its own bytes"
    assert len({each.signed_at for each in signed.values()}) == 1
    with world.database.reading() as session:
        wanted = select(AUDIT_ENTRY.c.subject).where(AUDIT_ENTRY.c.action == "entry.signed")
        subjects = list(session.execute(wanted.order_by(AUDIT_ENTRY.c.position)).scalars())
    assert subjects == ["entry/week18/pain", "entry/week18/disability"]
    assert "Nothing of this visit can be signed now" in assessor.get(SIGN).text
    assert assessor.post(FORM, {**PAIN, "save-as": "next"}).headers["location"].endswith("?done=saved_last")


def test_one_form_that_changed_meanwhile_refuses_all_of_them(world):
    assessor, colleague = world.browser("assessor"), world.browser("coordinator")
    assessor.post(FORM, PAIN)
    assessor.post(SCORED, SCORES)
    shown = assessor.form(SIGN)
    colleague.post(SCORED, {**SCORES, "dis_weight": "71", "form-why": "Weighed again"})
    refused = assessor.send(SIGN, {**shown, **SIGNED})
    assert refused.status_code == 409
    assert "Disability: This form is not what was shown to you. Read it again, then sign." in refused.text
    assert "Nothing was signed." in refused.text
    assert not any(each.is_signed for each in standing(world).values())
    with world.database.reading() as session:
        logged = session.execute(select(AUDIT_ENTRY.c.subject).where(AUDIT_ENTRY.c.action == "visit.sign_refused"))
        assert list(logged.scalars()) == ["visit/week18"]

    # A digest that is not that of the entry signs nothing either, nor does a line that is none.
    for line in ("pain:1:" + "0" * 64, "pain", "nothing:1:0", ""):
        refused = assessor.send(SIGN, {**shown, **SIGNED, "entry": [line]})
        assert refused.status_code == 409, line
    assert assessor.send(SIGN, {**shown, **SIGNED, "entry": []}).status_code == 422
    assert not any(each.is_signed for each in standing(world).values())

    # What became complete after the page was opened was not read: it stays unsigned.
    shown = assessor.form(SIGN)
    only = [line for line in shown["entry"] if line.startswith("pain:")]
    assert assessor.send(SIGN, {**shown, **SIGNED, "entry": only}).status_code == 303
    assert [name for name, each in standing(world).items() if each.is_signed] == ["pain"]


def test_what_is_not_complete_is_named_with_its_reason_and_nobody_else_signs(world):
    assessor = world.browser("assessor")
    assessor.post(FORM, {"pain_nrs": "5", "save-as": "partial"})
    page = assessor.soup(SIGN)
    said = page.select_one("#waiting").get_text(" ", strip=True)
    assert "This form is not complete: Days with pain" in said
    assert "There is nothing to sign here yet." in said
    assert page.select_one("form.confirm") is None
    assert world.browser("coordinator").get(SIGN).status_code == 403
    assert world.browser("assessor", site_code="south").get(SIGN).status_code == 404
    assert assessor.get("/mini/participants/M-001/visits/nowhere/sign").status_code == 404


def test_today_and_the_visit_lead_to_it(world):
    assessor = world.browser("assessor")
    assessor.post(FORM, PAIN)
    assessor.post(SCORED, SCORES)
    for page in ("/mini/today", VISIT):
        assert assessor.soup(page).find("a", href=SIGN).get_text(" ", strip=True).startswith("Sign 2 forms"), page


def test_a_program_signs_a_visit_with_the_password_of_its_owner(world):
    browser = world.browser("assessor")
    browser.post(FORM, PAIN)
    browser.post(SCORED, SCORES)
    client = api_client(world.database, browser.actor)
    address = "/participants/M-001/visits/week18/signatures"
    found = client.rows(address)
    assert {each["instrument"] for each in found} == {"pain", "disability"}
    entries = [{name: each[name] for name in ("instrument", "version", "digest")} for each in found]
    stale = [entries[0], {**entries[1], "digest": "0" * 64}]
    assert client.post(address, {"entries": entries}).status_code == 422
    refused = client.post(address, {"entries": stale, "password": PASSWORD})
    assert (refused.status_code, "Nothing was signed." in refused.json()["detail"]) == (409, True)
    assert not any(each.is_signed for each in standing(world).values())
    done = client.post(address, {"entries": entries, "meaning": "review", "password": PASSWORD})
    assert done.status_code == 200
    assert {each["signed_meaning"] for each in done.json()} == {"review"}
    assert client.rows(address) == []


BOOK = "/mini/participants/M-001/sign"
BASELINE = "/mini/participants/M-001/visits/baseline/entries/pain"
BOTH = {"meaning": "review", "password": PASSWORD}


def fill_in(world: World) -> tuple[Any, Any]:
    """Three complete entries at two visits, one of them corrected; the browsers of who enters and who signs."""
    assessor, investigator = world.browser("assessor"), world.browser("investigator")
    assessor.post(BASELINE, {**PAIN, "visit-held-on": "2026-03-02"})
    assessor.post(FORM, PAIN)
    assessor.post(FORM, {**PAIN, "pain_nrs": "8", "form-why": "Misheard"})
    assessor.post(SCORED, SCORES)
    return assessor, investigator


@pytest.mark.requirement("P11-50a", "P11-50b", "P11-70", "P11-200i", "E6-21")
def test_a_whole_casebook_is_read_and_signed_with_one_password(world):
    _, investigator = fill_in(world)
    for page in ("/mini/today", "/mini/participants/M-001"):
        assert investigator.soup(page).find("a", href=BOOK) is not None, page
    with counted_statements(world.database) as statements:
        page = investigator.soup(BOOK)
    assert len(statements) <= 12, statements
    visits = page.select(".signed-visit")
    assert [each.h2.a.get_text() for each in visits] == ["Baseline", "Week 18"]
    answers = {row.dt.get_text(): row.dd.get_text(" ", strip=True) for row in visits[1].select("dl > div")}
    assert answers["Pain, past week"] == "8 changed"
    assert answers["Weight"] == "70 kg"
    assert [row.dt.get_text() for row in page.select(".signed-changed")] == ["Pain, past week"]
    assert "one answer changed" in visits[1].get_text()
    shown = form_in(page, BOOK)
    assert shown["visit"] == ["baseline", "week18"]

    # All of what was chosen, or none of it: no meaning, another's password, nothing chosen.
    for missing in ({**BOTH, "meaning": ""}, {**BOTH, "password": "not this one"}, {**BOTH, "visit": []}):
        wrong = investigator.send(BOOK, {**shown, **missing})
        assert wrong.status_code == 422
    assert not any(each.is_signed for each in every(world))
    again = BeautifulSoup(
        investigator.send(BOOK, {**shown, "visit": "week18", "meaning": "review"}).text, "html.parser"
    )
    assert form_in(again, BOOK)["visit"] == ["week18"], "what was chosen is still chosen"

    done = investigator.send(BOOK, {**shown, **BOTH, "visit": ["week18"]})
    assert (done.status_code, done.headers["location"]) == (303, f"{BOOK}?done=casebook_entries_signed")
    signed = {(each.visit, each.instrument): each.signed_meaning for each in every(world) if each.is_signed}
    assert signed == {("week18", "pain"): "review", ("week18", "disability"): "review"}
    assert all(signature_holds(each) for each in every(world) if each.is_signed)

    # What is left stands there, and the form that was sent before changes nothing more than is right.
    assert form_in(investigator.soup(done.headers["location"]), BOOK)["visit"] == ["baseline"]
    fresh = investigator.form(BOOK)["csrf_token"]
    assert investigator.send(BOOK, {**shown, **BOTH, "csrf_token": fresh}).status_code == 303
    assert all(each.is_signed for each in every(world))
    with world.database.reading() as session:
        wanted = select(AUDIT_ENTRY.c.subject).where(AUDIT_ENTRY.c.action == "entry.signed")
        subjects = list(session.execute(wanted.order_by(AUDIT_ENTRY.c.position)).scalars())
    assert subjects == ["entry/week18/pain", "entry/week18/disability", "entry/baseline/pain"], "each once"
    assert "Nothing of this casebook can be signed now" in investigator.get(BOOK).text

    # A later change ends the signature of that form alone, and it waits again.
    world.browser("coordinator").post(BASELINE, {**PAIN, "pain_nrs": "6", "form-why": "The paper"})
    assert [each.instrument for each in every(world) if not each.is_signed] == ["pain"]
    assert form_in(investigator.soup(BOOK), BOOK)["entry"][0].startswith("baseline/pain:2:")


def every(world: World) -> list[Any]:
    assert world.participant_id is not None
    with world.database.reading() as session:
        return entries_with_values(session, world.participant_id)


@pytest.mark.requirement("P11-70", "E6-21")
def test_what_cannot_be_signed_is_left_out_with_its_reason_and_a_change_refuses_all(world):
    assessor, investigator = fill_in(world)
    assessor.post(BASELINE, {"pain_nrs": "5", "pain_days": "", "save-as": "partial", "form-why": "Not asked"})
    shown = investigator.form(BOOK)
    assert [line.split(":")[0] for line in shown["entry"]] == ["week18/pain", "week18/disability"]
    asked = api_client(world.database, world.person("monitor")).post(
        "/participants/M-001/visits/week18/entries/pain/queries", {"item": "pain_nrs", "text": "Is it eight?"}
    )
    assert asked.status_code == 201, asked.text
    refused = investigator.send(BOOK, {**shown, **BOTH})
    assert (refused.status_code, "Nothing was signed." in refused.text) == (409, True)
    assert "Week 18, Pain: One query stands at this form." in refused.text
    assert not any(each.is_signed for each in every(world))
    page = investigator.soup(BOOK)
    left = page.select_one("#left-out").get_text(" ", strip=True)
    assert "Baseline Pain This form is not complete: Days with pain" in left
    assert "One query stands at this form. Sign it once every question is settled." in left
    shown = form_in(page, BOOK)
    assert [line.split(":")[0] for line in shown["entry"]] == ["week18/disability"]

    # Somebody saved meanwhile; a line that is none; a form that nobody entered.
    assessor.post(SCORED, {**SCORES, "dis_weight": "71", "form-why": "Weighed again"})
    for line in (
        *shown["entry"],
        "week18/disability:1:" + "0" * 64,
        "week18/nothing:1:0",
        "week18/",
        "week18/pain/2:1:0",
    ):
        assert investigator.send(BOOK, {**shown, **BOTH, "entry": [line]}).status_code == 409, line
    assert not any(each.is_signed for each in every(world))
    with world.database.reading() as session:
        logged = session.execute(select(AUDIT_ENTRY.c.subject).where(AUDIT_ENTRY.c.action == "entries.sign_refused"))
        assert {*logged.scalars()} == {"casebook"}

    # The same over REST.
    client = api_client(world.database, investigator.actor)
    waiting = client.get("/participants/M-001/signatures").json()
    assert [(each["visit"], each["instrument"]) for each in waiting["ready"]] == [("week18", "disability")]
    assert "dis_weight" in waiting["ready"][0]["changed"]
    assert {(each["visit"], each["instrument"]) for each in waiting["left_out"]} == {
        ("baseline", "pain"),
        ("week18", "pain"),
    }
    lines = [{name: each[name] for name in ("visit", "instrument", "version", "digest")} for each in waiting["ready"]]
    assert client.post("/participants/M-001/signatures", {"entries": lines}).status_code == 422
    done = client.post("/participants/M-001/signatures", {"entries": lines, "password": PASSWORD})
    assert [each["signed_meaning"] for each in done.json()] == ["review"]
    same = client.post("/participants/M-001/signatures", {"entries": lines, "password": PASSWORD})
    assert same.json() == done.json(), "the same again changes nothing"
    assert world.browser("coordinator").get(BOOK).status_code == 403
    assert world.browser("investigator", site_code="south").get(BOOK).status_code == 404
