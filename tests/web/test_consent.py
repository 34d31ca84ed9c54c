"""Consent: what is signed by whom, what is said when it cannot be, and that each step opens the next."""

import hashlib
import io
from datetime import timedelta

import pikepdf
import pytest
from bs4 import BeautifulSoup
from sqlmodel import select, update

from app.consent.reads import CONSENT, consents_of, document_blocks
from app.foundation.database import Database
from app.participants.files import FILE
from app.participants.identity import IDENTITY
from app.schedule.reads import visits_of
from app.studies.definition import ConsentDocument
from tests.api.client import api_client
from tests.consent.acts import QUESTION
from tests.web.browser import PASSWORD, counted_statements, form_in, words_of
from tests.web.pdf import packed, text_of
from tests.web.world import World

WHO = "/mini/participants/M-001"
PAGE = f"{WHO}/consent"
SCAN = b"%PDF-1.7 the signed paper"
HOSTILE = "<script>alert(1)</script>"
OPTIONAL = {"optional": [{"code": "later", "label": "May be asked about later studies"}]}


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def said(reply) -> str:
    return words_of(reply.text)


def signed(world: World, **changes: str) -> dict[str, str]:
    return {
        "signature": "Ada Lovelace",
        "signed_on": str(world.today()),
        "password": PASSWORD,
        "countersign": "now",
        **changes,
    }


def stored(world: World, participant_id: int | None):
    assert participant_id is not None
    with world.database.reading() as session:
        return consents_of(session, participant_id)


def test_the_document_is_read_and_signed_by_both(world):
    participant = world.screened()
    browser = world.coordinator()
    page = browser.soup(PAGE)
    assert page.select_one("article[lang=en]") is not None
    assert "You may stop at any time." in page.get_text()
    reply = browser.post(PAGE, signed(world))
    assert (reply.status_code, reply.headers["location"]) == (303, f"{WHO}?done=countersigned")
    assert world.found("M-001").status == "consented"
    with world.database.reading() as session:
        assert [visit.code for visit in visits_of(session, participant.id)] == ["baseline"]
    assert "Ada Lovelace" not in browser.get(WHO).text


def test_consent_on_paper_keeps_the_fingerprint_of_the_scan(world):
    participant = world.screened()
    browser = world.coordinator()
    fields = {**browser.form(f"{PAGE}?method=paper", PAGE), **signed(world, signature="Site file, folder 3")}
    assert browser.send(PAGE, fields, files={"scan": ("signed.pdf", SCAN)}).status_code == 303
    consent = stored(world, participant.id)[0]
    assert (consent.method, consent.paper_sha256) == ("paper", hashlib.sha256(SCAN).hexdigest())
    # The scan itself is kept sealed, shown to those who may know who it is, and verified by somebody else.
    page = f"{WHO}/consents/{consent.id}"
    shown = browser.get(f"{page}/scan")
    assert (shown.content, shown.headers["content-type"]) == (SCAN, "application/pdf")
    assert world.log().count("identity.shown") == 1
    with world.database.reading() as session:
        sealed = session.execute(select(FILE.c.sealed)).scalar_one()
    assert SCAN not in bytes(sealed)
    assert world.browser("data_manager").get(f"{page}/scan").status_code == 403
    refused = browser.post(f"{page}/scan", {}, page=page)
    assert (refused.status_code, "Ask somebody else to look at the scan" in said(refused)) == (409, True)
    waits = "The scan waits for a second person"
    investigator = world.browser("investigator")
    for looking, may in ((browser, False), (investigator, True)):
        assert waits in said(looking.get("/mini/today"))
        assert waits in said(looking.get(WHO))
        assert (looking.soup("/mini/today").select_one(f"#unsettled a[href='{page}#scan']") is not None) is may
    assert investigator.post(f"{page}/scan", {}, page=page).status_code == 303
    assert waits not in said(investigator.get("/mini/today"))
    assert waits not in said(investigator.get(WHO))
    assert "Scan verified" in said(browser.get(page))
    assert stored(world, participant.id)[0].scan_verified_by == "investigator_north"


@pytest.mark.requirement("GDPR-5")
def test_a_scan_is_gone_with_the_participants_key(world):
    participant = world.screened()
    browser = world.coordinator()
    fields = {**browser.form(f"{PAGE}?method=paper", PAGE), **signed(world, signature="Site file, folder 3")}
    assert browser.send(PAGE, fields, files={"scan": ("signed.pdf", SCAN)}).status_code == 303
    with world.database.writing() as session:
        session.execute(update(IDENTITY).values(wrapped_key=None))
    assert browser.get(f"{WHO}/consents/{stored(world, participant.id)[0].id}/scan").status_code == 404


@pytest.mark.requirement("SEC-48")
@pytest.mark.parametrize("scan", [b"MZ\x90 a program", b"<html>", b"%PD", b"\xff\xd8"])
def test_what_is_no_scan_is_not_kept_whatever_its_name_says(world, scan):
    participant = world.screened()
    browser = world.coordinator()
    fields = {**browser.form(f"{PAGE}?method=paper", PAGE), **signed(world, signature="Folder 3")}
    reply = browser.send(PAGE, fields, files={"scan": ("signed.pdf", scan)})
    assert (reply.status_code, "This file is no scan" in said(reply)) == (422, True)
    assert stored(world, participant.id) == []


def test_signing_another_way_keeps_what_was_answered(shared_database):
    world = World(shared_database, consent=OPTIONAL)
    participant = world.screened()
    browser = world.coordinator()
    day = str(world.today() - timedelta(days=1))
    typed = {**browser.form(PAGE), "signature": "Ada Lovelace", "signed_on": day, "options.later": "no"}
    assert browser.soup(PAGE).find("button", {"name": "switch", "value": "method:paper"}) is not None

    def switched(fields, way, **options):
        reply = browser.send(PAGE, {**fields, "switch": f"method:{way}"}, **options)
        assert reply.status_code == 200
        return form_in(BeautifulSoup(reply.text, "html.parser"), PAGE)

    paper = switched(typed, "paper")
    assert (paper["method"], paper["options.later"], paper["signed_on"]) == (["paper"], ["no"], [day])
    assert paper["signature"] == [""], "the place of a paper is no name"
    again = switched({**paper, "signature": "Folder 3"}, "on_screen", files={"scan": ("signed.pdf", SCAN)})
    assert (again["method"], again["options.later"], again["signed_on"]) == (["on_screen"], ["no"], [day])
    assert again["signature"] == ["Ada Lovelace"]
    paper = switched(again, "paper")
    assert paper["signature"] == ["Folder 3"]
    assert paper["paper_sha256"] == [hashlib.sha256(SCAN).hexdigest()]
    assert stored(world, participant.id) == []


def test_enter_in_the_form_signs_and_does_not_switch(world):
    world.screened()
    page = world.coordinator().soup(PAGE)
    mine = [
        button for button in page.find_all("button") if button.get("form") == "sign" or button.find_parent(id="sign")
    ]
    assert (mine[0]["name"], mine[0]["value"]) == ("countersign", "now")


def test_a_scan_that_was_sent_need_not_be_sent_again(world):
    world.screened()
    browser = world.coordinator()
    fields = {**browser.form(f"{PAGE}?method=paper", PAGE), **signed(world, signature="")}
    reply = browser.send(PAGE, fields, files={"scan": ("signed.pdf", SCAN)})
    assert reply.status_code == 422
    again = form_in(BeautifulSoup(reply.text, "html.parser"), PAGE)
    assert again["paper_sha256"] == [hashlib.sha256(SCAN).hexdigest()]
    assert browser.send(PAGE, {**again, **signed(world, signature="Folder 3")}).status_code == 303


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"signature": " "}, "Type the full name, on one line."),
        ({"signature": "x" * 161}, "Shorten it to 160 characters."),
        ({"signed_on": ""}, "Write the date as year-month-day, such as 2026-03-14."),
        ({"signed_on": "2026-02-30"}, "Write the date as year-month-day, such as 2026-03-14."),
        ({"signed_on": "2099-01-01"}, "This day has not come yet"),
        ({"signed_on": "2024-12-31"}, "Version 1 is valid from 1 Jan 2025"),
        ({"version": "9"}, "There is no such consent document."),
        ({"language": HOSTILE}, "There is no such consent document."),
        ({"method": "telepathy"}, "Choose how consent was given"),
        ({"method": "paper"}, "Add the scan of the signed paper."),
        ({"method": "paper", "paper_sha256": "abc"}, "Add the scan of the signed paper."),
        ({"password": "wrong"}, "password"),
        ({"password": ""}, "password"),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_cannot_be_signed_is_said_and_nothing_typed_is_lost(world, typed, words):
    participant = world.screened()
    reply = world.coordinator().post(PAGE, signed(world, **typed))
    assert reply.status_code == 422
    assert words in said(reply)
    assert HOSTILE not in reply.text
    assert PASSWORD not in reply.text
    fields = form_in(BeautifulSoup(reply.text, "html.parser"), PAGE)
    if "signature" not in typed:
        assert fields["signature"] == ["Ada Lovelace"]
    assert stored(world, participant.id) == []
    assert world.found("M-001").status == "screened"


def test_optional_consents_are_asked_for_one_by_one(database):
    world = World(database, consent=OPTIONAL, code="asks")
    participant = world.screened()
    browser = world.coordinator()
    page = "/asks/participants/M-001/consent"
    lacking = browser.post(page, signed(world))
    assert lacking.status_code == 422
    assert "May be asked about later studies: choose yes or no." in said(lacking)
    assert browser.post(page, signed(world, **{"options.later": "no"})).status_code == 303
    assert stored(world, participant.id)[0].options == '{"later":false}'


def test_a_double_click_records_one_consent(world):
    participant = world.screened()
    browser = world.coordinator()
    fields = {**browser.form(PAGE), **signed(world)}
    assert browser.send(PAGE, fields).headers["location"] == browser.send(PAGE, fields).headers["location"]
    assert len(stored(world, participant.id)) == 1


def test_a_second_consent_to_the_same_version_is_refused_with_the_reason(world):
    world.screened()
    one, other = world.coordinator(), world.coordinator()
    fields = other.form(PAGE)
    assert one.post(PAGE, signed(world)).status_code == 303
    reply = other.send(PAGE, {**fields, **signed(world)})
    assert reply.status_code == 409
    assert "is complete already" in said(reply)
    assert "is complete already" in said(one.get(PAGE))


def test_somebody_else_can_countersign(world):
    participant = world.screened()
    coordinator, investigator = world.coordinator(), world.browser("investigator")
    later = coordinator.post(PAGE, signed(world, countersign="later", password=""))
    assert later.headers["location"] == f"{WHO}?done=consented"
    assert world.found("M-001").status == "screened"
    page = coordinator.get(PAGE).headers["location"]
    assert page == f"{WHO}/consents/{stored(world, participant.id)[0].id}/countersign"
    assert investigator.post(page, {"password": "wrong"}).status_code == 422
    assert investigator.post(page, {"password": PASSWORD}).headers["location"] == f"{WHO}?done=countersigned"
    assert world.found("M-001").status == "consented"
    with world.database.reading() as session:
        assert len(visits_of(session, participant.id)) == 1
    assert "countersigned already" in said(investigator.get(page))


def test_who_may_not_sign_for_the_study_is_told_who_does(database):
    world = World(database, consent={"countersigned_by": ["investigator"]}, code="strict")
    world.screened()
    page = "/strict/participants/M-001/consent"
    coordinator = world.coordinator()
    shown = coordinator.soup(page)
    assert "countersigned by: investigator" in shown.get_text(" ", strip=True)
    assert shown.select_one("button[value=now]") is None
    fields = {**coordinator.form(page), **signed(world)}
    assert coordinator.send(page, fields).status_code == 403
    assert world.found("M-001").status == "screened"
    assert coordinator.post(page, signed(world, countersign="later")).status_code == 303
    target = coordinator.get(page).headers["location"]
    assert "countersigned by: investigator" in said(coordinator.get(target))
    assert world.browser("investigator").post(target, {"password": PASSWORD}).status_code == 303


def test_a_signed_consent_is_shown_as_it_was_signed(world):
    participant = world.consented()
    browser = world.coordinator()
    page = f"{WHO}/consents/{stored(world, participant.id)[0].id}"
    shown = browser.soup(page)
    words = shown.get_text(" ", strip=True)
    assert "byte for byte what was signed" in words
    assert "You may stop at any time." in words
    assert "Ada Lovelace" not in words
    assert shown.select_one("[data-prints]") is not None
    fields = browser.form(page, f"{page}/signature")
    for _ in range(2):
        assert "Ada Lovelace" in browser.send(f"{page}/signature", fields).text
    assert world.log().count("identity.shown") == 2


def test_a_consent_that_was_changed_behind_our_back_is_not_trusted(world):
    participant = world.consented()
    consent = stored(world, participant.id)[0]
    with world.database.writing() as session:
        earlier = consent.signed_on - timedelta(days=1)
        session.execute(update(CONSENT).where(CONSENT.c.id == consent.id).values(signed_on=earlier))
    assert "This is not what was signed" in world.coordinator().get(f"{WHO}/consents/{consent.id}").text


@pytest.mark.parametrize(
    ("role", "site_code", "status"),
    [("assessor", "north", 403), ("monitor", "north", 403), ("coordinator", "south", 404), ("statistician", None, 404)],
)
def test_others_take_no_consent(world, role, site_code, status):
    participant = world.screened("north")
    browser = world.browser(role, site_code=site_code)
    assert browser.get(PAGE).status_code == status
    token = browser.soup("/mini/study").select_one("meta[name=csrf-token]")["content"]
    fields = {**signed(world), "csrf_token": token, "version": "1", "language": "en", "method": "on_screen"}
    assert browser.send(PAGE, fields).status_code == status
    assert stored(world, participant.id) == []


@pytest.mark.parametrize("consent_id", ["999", "0", "x", "99999999999999999999"])
def test_a_consent_that_is_not_theirs_is_not_found(world, consent_id):
    world.consented()
    assert world.coordinator().get(f"{WHO}/consents/{consent_id}").status_code == 404
    assert world.coordinator().get(f"{WHO}/consents/{consent_id}/countersign").status_code == 404


def test_after_a_screen_failure_there_is_nothing_to_consent_to(world):
    from tests.web.world import ELIGIBLE

    browser = world.coordinator()
    new = "/mini/participants/new"
    reply = browser.post(new, {**ELIGIBLE, "age": "12"})
    kept = form_in(BeautifulSoup(reply.text, "html.parser"), new)
    browser.send(new, {**kept, "screening.step": "keep", "screening.failure_reason": "not_eligible"})
    assert "did not pass screening" in said(browser.get(PAGE))


def test_no_page_asks_the_database_more_than_twelve_times(database: Database):
    world = World(database)
    first, second = world.screened(), world.consented(countersigned=False)
    browser = world.coordinator()
    consent = stored(world, second.id)[0].id
    other = f"/mini/participants/{second.code}/consents/{consent}"
    for path in (f"/mini/participants/{first.code}/consent", other, f"{other}/countersign"):
        with counted_statements(database) as statements:
            assert browser.get(path).status_code == 200
        assert 2 <= len(statements) <= 12, (path, statements)


NEWER = [
    {
        "version": version,
        "language": "en",
        "title": f"Taking part ({version})",
        "valid_from": valid_from,
        "text": "You may stop at any time.",
        "sha256": sha256 * 64,
    }
    for version, valid_from, sha256 in (("1", "2025-01-01", "1"), ("2", "2025-06-01", "2"))
]


def test_a_wrong_answer_to_a_question_keeps_the_form_and_says_where_to_read(shared_database):
    world = World(shared_database, consent={"questions": [QUESTION]})
    participant = world.screened()
    browser = world.coordinator()
    assert "When may you stop taking part?" in browser.soup(PAGE).get_text()
    for answer, words in (("never", "Read “Taking part” once more."), ("", "Choose an answer.")):
        reply = browser.post(PAGE, signed(world, **{"questions.may_stop": answer}))
        assert reply.status_code == 422
        assert words in said(reply)
        assert form_in(BeautifulSoup(reply.text, "html.parser"), PAGE)["signature"] == ["Ada Lovelace"]
    assert stored(world, participant.id) == []
    assert browser.post(PAGE, signed(world, **{"questions.may_stop": "any_time"})).status_code == 303
    (consent,) = stored(world, participant.id)
    assert consent.answers == '{"may_stop":"any_time"}'
    page = said(browser.get(f"{WHO}/consents/{consent.id}"))
    assert "When may you stop taking part? At any time" in page


@pytest.mark.requirement("SPI-32a")
def test_a_newer_document_is_owed_until_it_is_signed(shared_database):
    world = World(shared_database, consent_documents=NEWER[:1])
    world.consented()
    browser = world.coordinator()
    assert "Nobody owes a newer consent" in said(browser.get("/mini/reconsent"))
    assert "Newer consents owed" not in said(browser.get("/mini/today"))


def test_whoever_owes_a_newer_consent_stands_on_today_in_a_list_and_in_a_file(shared_database):
    world = World(
        shared_database, consent_documents=NEWER, consent={"blocked_until_reconsent": ["entries", "randomisation"]}
    )
    world.screened()
    browser = world.coordinator()
    assert browser.post(PAGE, signed(world, version="1", signed_on="2025-05-30")).status_code == 303
    for path in ("/mini/today", "/mini/reconsent"):
        assert browser.soup(path).select_one(f"a[href='{WHO}/consent?language=en']") is not None, path
    assert "Until they sign it, this waits: entries, randomisation." in said(browser.get("/mini/reconsent"))
    lines = browser.get("/mini/reconsent?format=csv").text.lstrip("\ufeff").splitlines()
    assert lines[1].split(",")[:4] == ["M-001", "north", "en", "1"]
    # What waits says why, on the page and on the server.
    entry = f"{WHO}/visits/baseline/entries/pain"
    assert "Version 2 of the consent document is valid since" in said(browser.get(f"{WHO}/visits/baseline"))
    assert "Version 2 of the consent document" in said(world.browser("assessor").get(entry))
    # Once it is signed it is told as waiting, not as owed, and whoever countersigns finds it on Today.
    fields = {**signed(world, version="2"), "countersign": "later"}
    assert browser.post(PAGE, fields).status_code == 303
    investigator = world.browser("investigator")
    for path in ("/mini/today", "/mini/reconsent?waiting=yes"):
        links = [str(link["href"]) for link in investigator.soup(path).select("main a")]
        assert [each for each in links if each.endswith("/countersign")], path
    assert "Newer consents owed" not in said(investigator.get("/mini/today"))
    assert "Nobody owes a newer consent" in said(browser.get("/mini/reconsent"))
    assert "it waits for its countersignature" in said(browser.get(WHO))
    assert "Ask for their consent" not in said(browser.get(WHO))
    assert "signed and not countersigned. Countersign it first." in said(browser.get(f"{WHO}/visits/baseline"))
    lines = browser.get("/mini/reconsent?waiting=yes&format=csv").text.splitlines()
    assert len(lines) == 2


MARKDOWN = """# Taking part

You *may* **stop at any time**, \\#raw("x").

- one thing
  1. first
  2. second
- another

> said by somebody

    <script>no</script>
"""


@pytest.mark.requirement("EMA-15", "SPI-32a")
def test_the_participant_gets_a_copy_with_document_and_signatures(shared_database):
    documents = [{**NEWER[0], "text": MARKDOWN}]
    world = World(shared_database, consent_documents=documents, consent=OPTIONAL)
    participant = world.screened()
    browser = world.coordinator()
    assert browser.post(PAGE, signed(world, **{"options.later": "no"})).status_code == 303
    (consent,) = stored(world, participant.id)
    first, second = (browser.get(f"{WHO}/consents/{consent.id}.pdf") for _ in range(2))
    assert (first.status_code, first.headers["content-type"]) == (200, "application/pdf")
    assert first.content == second.content
    with pikepdf.open(io.BytesIO(first.content)) as document:
        assert document.open_metadata()["pdfaid:part"] == "2"
        assert str(document.Root.Lang) == "en"
    page = said(browser.get(f"{WHO}/consents/{consent.id}"))
    assert "Copy for the participant" in page
    assert world.log().count("identity.shown") == 2
    assert world.browser("data_manager").get(f"{WHO}/consents/{consent.id}.pdf").status_code == 403


def test_a_document_is_cut_into_paragraphs_as_it_is_shown():
    document = ConsentDocument.model_validate({**NEWER[0], "text": MARKDOWN})
    found = document_blocks(document)
    blocks = [(each["kind"], each["level"], "".join(run[0] for run in each["runs"])) for each in found]
    assert blocks == [
        ("heading", 1, "Taking part"),
        ("paragraph", 0, 'You may stop at any time, #raw("x").'),
        ("item", 0, "one thing"),
        ("numbered", 1, "first"),
        ("numbered", 1, "second"),
        ("item", 0, "another"),
        ("quote", 0, "said by somebody"),
        ("paragraph", 0, "<script>no</script>\n"),
    ]
    marked = found[1]["runs"]
    assert [run for run in marked if run[1] or run[2]] == [("may", False, True), ("stop at any time", True, False)]


@pytest.mark.requirement("P11-50a", "P11-70")
def test_a_drawn_signature_stands_on_the_page_and_in_the_copy(world):
    participant = world.screened()
    browser = world.coordinator()
    assert browser.soup(PAGE).select_one("[data-pad] input[name=strokes]") is not None
    refused = browser.post(PAGE, signed(world, strokes="[[1,1]]"))
    assert (refused.status_code, "too short for a signature" in said(refused)) == (422, True)
    assert browser.post(PAGE, signed(world, strokes="[[10,10,110,60,200,20]]")).status_code == 303
    consent = stored(world, participant.id)[0]
    page = f"{WHO}/consents/{consent.id}"
    assert "M10 10L110 60" not in browser.get(page).text
    assert "M10 10L110 60L200 20" in browser.post(f"{page}/signature", {}, page=page).text
    pages = text_of(browser.get(f"{page}.pdf").content)
    assert any(packed("Participant’s signature") in text.replace("'", "’") for text in pages)
    program = api_client(world.database, world.coordinators["north"])
    assert program.done("GET", f"/participants/M-001/consents/{consent.id}/signature")["strokes"] == [
        [10, 10, 110, 60, 200, 20]
    ]


def test_a_wrong_consent_is_refused_at_its_countersignature_and_recorded_again(world):
    participant = world.screened()
    browser, investigator = world.coordinator(), world.browser("investigator")
    browser.post(PAGE, signed(world, countersign="later"))
    (consent,) = stored(world, participant.id)
    page = f"{WHO}/consents/{consent.id}"
    assert investigator.soup(f"{page}/countersign").select_one(f"a[href='{page}/refuse']") is not None
    assert "Signed on" in said(investigator.get(f"{page}/refuse"))
    late = {**investigator.form(f"{page}/refuse"), "why": "x", "password": PASSWORD}
    # Neither without the reason, nor without the password; what was typed stays.
    reply = investigator.post(f"{page}/refuse", {"why": "", "password": PASSWORD})
    assert (reply.status_code, "Say what is wrong with it." in said(reply)) == (422, True)
    reply = investigator.post(f"{page}/refuse", {"why": "Another day", "password": "wrong"})
    assert (reply.status_code, "Another day" in reply.text) == (422, True)
    reply = investigator.post(f"{page}/refuse", {"why": f"Another day {HOSTILE}", "password": PASSWORD})
    assert (reply.status_code, reply.headers["location"]) == (303, f"{WHO}?done=consent_refused")
    # Who recorded it is told what to do, on Today and on the participant's page.
    for path in ("/mini/today", WHO):
        soup = browser.soup(path)
        assert "Recorded wrongly" in soup.get_text()
    assert "record it again. investigator_north wrote: Another day" in said(browser.get(WHO))
    assert HOSTILE not in browser.get(WHO).text
    assert browser.soup("/mini/today").select_one(f"#unsettled a[href^='{PAGE}']") is not None
    shown = said(browser.get(page))
    assert "Refused: it counts as no consent" in shown
    assert "byte for byte what was signed" in shown
    for path in (f"{page}/countersign", f"{page}/refuse"):
        assert "refused" in said(investigator.get(path))
        assert investigator.soup(path).select_one("main form") is None
    assert investigator.send(f"{page}/refuse", late).status_code == 409
    # The form is there again, and leads where it always leads.
    reply = browser.post(PAGE, signed(world))
    assert (reply.status_code, reply.headers["location"]) == (303, f"{WHO}?done=countersigned")
    assert [one.refused_at is None for one in stored(world, participant.id)] == [False, True]
    assert browser.soup("/mini/today").select_one("#unsettled") is None
    assert packed("so it counts as no consent") in "".join(text_of(browser.get(f"{page}.pdf").content))


def test_the_only_consent_is_taken_back_with_its_visits_or_the_page_says_why_not(world):
    participant = world.screened()
    browser = world.coordinator()
    browser.post(PAGE, signed(world))
    (consent,) = stored(world, participant.id)
    page = f"{WHO}/consents/{consent.id}"
    assert "Take this consent back" in said(browser.get(page))
    assert "screened again" in said(browser.get(f"{page}/refuse"))
    browser.post(f"{page}/refuse", {"why": "Another person signed", "password": PASSWORD})
    assert world.found("M-001").status == "screened"
    with world.database.reading() as session:
        assert visits_of(session, participant.id) == []
    browser.post(PAGE, signed(world))
    with world.database.reading() as session:
        assert [visit.code for visit in visits_of(session, participant.id)] == ["baseline"]
    second = f"{WHO}/consents/{stored(world, participant.id)[1].id}"
    missed = {"why": "Ill", "version": "1"}
    assert browser.post(f"{WHO}/visits/baseline/missed", missed, page=f"{WHO}/visits/baseline").status_code == 303
    assert "so it stays" in said(browser.get(second))
    assert browser.soup(f"{second}/refuse").select_one("main form") is None


def test_an_optional_consent_is_taken_back_alone_struck_and_given_again(shared_database):
    world = World(shared_database, consent=OPTIONAL)
    participant = world.screened()
    browser = world.coordinator()
    browser.post(PAGE, signed(world, **{"options.later": "yes"}))
    page = f"{WHO}/optional-consents"
    assert "May be asked about later studies: yes" in said(browser.get(WHO))
    assert browser.soup(WHO).select_one(f"a[href='{page}']") is not None
    typed = {"options": "later", "on": str(world.today()), "told_by": "participant", "how": "", "note": "At the call"}
    reply = browser.post(page, typed)
    assert (reply.status_code, "Choose how they told you." in said(reply)) == (422, True)
    kept = form_in(BeautifulSoup(reply.text, "html.parser"), page)
    assert (kept["options"], kept["told_by"], kept["note"]) == (["later"], ["participant"], ["At the call"])
    reply = browser.send(page, {**kept, "how": "by_phone"})
    assert (reply.status_code, reply.headers["location"]) == (303, f"{page}?done=option_taken_back")
    assert "May be asked about later studies: no" in said(browser.get(WHO))
    (consent,) = stored(world, participant.id)
    assert "was taken back: no since" in said(browser.get(f"{WHO}/consents/{consent.id}"))
    assert consent.options == '{"later":true}'
    soup = browser.soup(page)
    assert "At the call" in soup.get_text()
    assert soup.select_one("input[name=options]") is None  # nothing is left to take back
    # It was a mistake.
    (link,) = [str(each["href"]) for each in soup.select("table a") if "mistake" in str(each["href"])]
    strike = link.partition("?")[0] + "/" + link.partition("=")[2].partition("#")[0] + "/mistake"
    reply = browser.post(strike, {"why": ""}, page=link)
    assert (reply.status_code, "How did the mistake come about?" in said(reply)) == (422, True)
    assert browser.post(strike, {"why": "Somebody else's"}, page=link).status_code == 303
    assert "May be asked about later studies: yes" in said(browser.get(WHO))
    assert "Recorded by mistake" in said(browser.get(page))
    # Taken back indeed, and given later: with a signature.
    browser.post(page, {**typed, "how": "in_person"})
    (again,) = [str(each["href"]) for each in browser.soup(page).select(f"a[href^='{PAGE}?']")]
    assert "sign once more" in said(browser.get(again))
    reply = browser.post(PAGE, signed(world, **{"options.later": "no"}), page=again)
    assert "complete already" in said(reply)
    reply = browser.post(PAGE, signed(world, **{"options.later": "yes"}), page=again)
    assert (reply.status_code, reply.headers["location"]) == (303, f"{WHO}?done=countersigned")
    assert "May be asked about later studies: yes" in said(browser.get(WHO))


def test_who_may_not_record_consents_reads_what_was_taken_back_and_changes_nothing(shared_database):
    world = World(shared_database, consent=OPTIONAL)
    world.screened()
    world.coordinator().post(PAGE, signed(world, **{"options.later": "yes"}))
    monitor = world.browser("monitor")
    soup = monitor.soup(f"{WHO}/optional-consents")
    assert "May be asked about later studies" in soup.get_text()
    assert soup.select_one("main form") is None
