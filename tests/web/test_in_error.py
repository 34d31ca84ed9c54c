"""The pages about somebody randomised in error: recorded, shown and marked; nothing typed is lost; no arm anywhere."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from bs4 import BeautifulSoup

from app.participants.in_error.reads import records_of
from app.people.permissions import Permission, Role, holders
from tests.web.test_unblinding import Blind, said

PAGE = "/mini/participants/M-001"
FORM = f"{PAGE}/in-error"
WHY = "Turned 71 the day before; found when the date of birth was checked"


@pytest.fixture
def blind(begun: Any, kind: str) -> Iterator[Blind]:
    with begun(kind, Blind) as blind:
        yield blind


def told(blind: Blind, **changes: str) -> dict[str, str]:
    return {"reason": "ineligible", "why": WHY, "found_on": blind.world.today().isoformat(), "corrects": "", **changes}


def records(blind: Blind) -> Any:
    participant = blind.world.found("M-001")
    assert participant.id is not None
    with blind.database.reading() as session:
        return records_of(session, participant.id)


@pytest.mark.requirement("CONC-9", "E9-6")
def test_it_is_recorded_and_stands_on_the_page_and_in_the_list(blind: Blind):
    browser = blind.world.coordinator()
    assert "Randomised in error" not in said(browser.get(f"{PAGE}#"))[:400]
    assert "allocation stays exactly as it is" in said(browser.get(FORM))
    reply = browser.post(FORM, told(blind))
    assert reply.status_code == 303
    assert reply.headers["location"].startswith(PAGE)
    (made,) = records(blind)
    page = BeautifulSoup(browser.get(PAGE).text, "html.parser")
    section = page.select_one("#in-error")
    assert section is not None
    assert WHY in section.get_text()
    assert made.by in section.get_text()
    listed = BeautifulSoup(browser.get("/mini/participants").text, "html.parser")
    rows = [" ".join(row.get_text(" ").split()) for row in listed.select("tbody tr")]
    assert [(row.split()[0], "in error" in row) for row in rows] == [("M-001", True), ("M-002", False)]
    lines = browser.get("/mini/participants?format=csv").text.splitlines()
    assert lines[0].endswith("randomised_in_error")
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["ineligible", ""]


@pytest.mark.requirement("CONC-9", "REL-4")
def test_the_same_form_twice_is_one_record(blind: Blind):
    browser = blind.world.coordinator()
    first, again = (browser.post(FORM, {**told(blind), "idempotency_key": "twice"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (303, 303)
    assert len(records(blind)) == 1
    assert browser.post(FORM, told(blind)).status_code == 303
    assert len(records(blind)) == 1


@pytest.mark.requirement("CONC-9")
def test_a_correction_begins_with_what_stands_and_adds(blind: Blind):
    browser = blind.world.coordinator()
    browser.post(FORM, told(blind))
    form = BeautifulSoup(browser.get(FORM).text, "html.parser")
    number = str(form.select_one("input[name=corrects]")["value"])  # type: ignore[index]
    assert form.select_one("textarea[name=why]").get_text(strip=True) == WHY  # type: ignore[union-attr]
    assert form.select_one("input[value=ineligible][checked]") is not None
    assert form.select_one("input[value=no_error]") is not None
    late = browser.post(FORM, told(blind, reason="twice", why="Also M-002"))
    assert late.status_code == 409
    assert "Also M-002" in late.text
    fine = browser.post(FORM, told(blind, reason="no_error", why="The date was misread", corrects=number))
    assert fine.status_code == 303
    assert [each.reason for each in records(blind)] == ["ineligible", "no_error"]
    shown = said(browser.get(PAGE))
    assert WHY in shown
    assert "The date was misread" in shown
    assert "in error" not in said(browser.get("/mini/participants"))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "no_error"}, "reason"),
        ({"why": " "}, "why"),
        ({"why": "It was the Placebex device"}, "why"),
        ({"found_on": "yesterday"}, "found_on"),
        ({"found_on": "2000-01-01"}, "found_on"),
        ({"should_have_been.site": "south"}, "should_have_been"),
        ({"reason": "wrong_stratum", "should_have_been.site": "mars"}, "should_have_been.site"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(blind: Blind, changes: dict[str, str], field: str):
    sent = told(blind, **changes)
    reply = blind.world.coordinator().post(FORM, sent)
    assert reply.status_code == 422
    page = BeautifulSoup(reply.text, "html.parser")
    if field != "should_have_been":
        assert page.select_one(f'[name="{field}"][aria-invalid], [role=radiogroup][aria-invalid]') is not None
    else:
        assert "choose that the stratum was wrong" in page.get_text()
    assert page.select_one("textarea[name=why]").get_text().strip() == sent["why"].strip()  # type: ignore[union-attr]
    assert page.select_one("input[name=found_on]")["value"] == sent["found_on"]  # type: ignore[index]
    assert records(blind) == ()


@pytest.mark.requirement("CONC-9", "P11-f")
def test_there_is_no_form_before_randomisation(blind: Blind):
    waiting = blind.world.filled("north")
    browser = blind.world.coordinator()
    url = f"/mini/participants/{waiting.code}"
    assert "in-error" not in browser.get(url).text
    page = browser.get(f"{url}/in-error")
    assert "is not randomised" in said(page)
    assert "<textarea" not in page.text
    token = browser.soup(FORM).select_one("input[name=csrf_token]")["value"]  # type: ignore[index]
    reply = browser.send(f"{url}/in-error", {**told(blind), "csrf_token": token})
    assert reply.status_code == 409
    assert "is not randomised" in said(reply)


@pytest.mark.requirement("P11-g", "CONC-1")
@pytest.mark.parametrize("role", [role for role in Role if role in holders(Permission.PARTICIPANT_READ)])
def test_every_reader_sees_the_mark_and_the_words_and_no_arm(blind: Blind, role: Role):
    blind.world.coordinator().post(FORM, told(blind))
    browser = blind.as_(blind.world.person(role))
    page = browser.get(PAGE)
    assert page.status_code == 200
    assert WHY in said(page)
    assert ("Correct what was recorded" in page.text) == (role in holders(Permission.PARTICIPANT_RECORD_ERROR))
    assert not re.search(r"Zephyrine|Placebex|\bsham\b", page.text)


@pytest.mark.requirement("P11-g")
@pytest.mark.parametrize("role", Role)
def test_only_those_who_may_have_the_form(blind: Blind, role: Role):
    browser = blind.as_(blind.world.person(role, site_code=None if role is Role.STATISTICIAN else "north"))
    allowed = role in (Role.COORDINATOR, Role.INVESTIGATOR)
    assert (browser.get(FORM).status_code == 200) == allowed
    token = browser.soup("/mini/study").select_one("input[name=csrf_token]")["value"]  # type: ignore[index]
    reply = browser.send(FORM, {**told(blind), "csrf_token": token})
    assert reply.status_code in ((303,) if allowed else (403, 404))
    assert len(records(blind)) == int(allowed)
    assert blind.world.coordinator("south").get(FORM).status_code == 404
