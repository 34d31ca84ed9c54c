"""By a link a participant signs the document, or answers the questions of a visit: signed in nowhere."""

import json
import re
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, cast

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import select, update

from app.audit.actions import ENTRY
from app.audit.actions import ENTRY as LOG
from app.capture.actions import MOST_BY_LINK
from app.capture.reads import entry_of
from app.consent.reads import CONSENT, consents_of, is_intact, options_now
from app.foundation import clock
from app.foundation.database import Database
from app.foundation.languages import day_in
from app.foundation.words import day_in_words
from app.mail.actions import MAIL, text_of
from app.mail.models import OutboxMail
from app.participants.files import FILE
from app.participants.links.reads import LINK, links_of
from app.participants.links.rules import MOST_TRIES
from app.participants.rules import PersonalData
from app.schedule.appointments.rules import day_span
from app.schedule.reads import VISIT
from app.schedule.reminders.reads import reachable
from app.schedule.reminders.rules import day_words
from tests.api.client import api_client
from tests.conftest import KEYS
from tests.consent.acts import DOCUMENTS, QUESTION
from tests.factories import MINI
from tests.web.browser import PASSWORD, Browser, form_in, words_of
from tests.web.test_items import KINDS, VISITS
from tests.web.world import World

WHO = "/mini/participants/M-001"
LINKS = f"{WHO}/links"
ANNA = PersonalData("Annabella", "Muster", "1980-02-29", None, "anna@example.org")
ANSWERED = [
    {**form, "respondent": "participant"} if form["code"] in ("pain", "disability") else form
    for form in cast("list[dict[str, Any]]", MINI["instruments"])
]


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database, instruments=ANSWERED)


@pytest.fixture
def asking(shared_database: Database) -> World:
    """A study that asks whether the document was understood."""
    return World(shared_database, consent={"questions": [QUESTION]})


def words(reply: Any) -> str:
    return words_of(reply.text)


def given(world: World, what: str) -> str:
    """The path of a new link, as the coordinator is shown it once."""
    browser = world.coordinator()
    reply = browser.post(LINKS, {"what": what, "days": "14"})
    assert reply.status_code == 200, words(reply)
    (path,) = re.findall(r"<code class=\"break\">[^<]*(/link/[^<]+)</code>", reply.text)
    assert "data:image/svg+xml" in reply.text
    assert path not in browser.get(LINKS).text  # shown once
    return str(path)


def stranger(world: World) -> Browser:
    """Somebody who is signed in nowhere."""
    browser = world.coordinator()
    browser.client.cookies.clear()
    return browser


def typed(page: BeautifulSoup) -> dict[str, str]:
    return {str(each["name"]): str(each.get("value", "")) for each in page.select("form input[type=hidden]")}


@pytest.mark.requirement("SPI-32a", "EMA-15")
def test_a_participant_signs_by_link_and_the_site_countersigns(asking: World):
    world = asking
    participant = world.screened(personal=ANNA)
    path = given(world, "consent:1:en")
    phone = stranger(world)
    assert "You may stop at any time." not in phone.get(path).text  # not before they said who they are
    refused = phone.send(path, {"born": "28 Feb 1980"})
    empty = [phone.send(path, {"born": typed}) for typed in ("", "soon", "02/03/1980") * 3]
    assert {reply.status_code for reply in empty} == {422}, "none of them is a try"
    assert (refused.status_code, "not the date of birth" in words(refused)) == (422, True)
    page = phone.send(path, {"born": "29 Feb 1980"})
    assert page.status_code == 200
    assert "You may stop at any time." in words(page)
    assert not [word for word in ("Annabella", "Muster", "M-001") if word in page.text]
    fields = {**typed(BeautifulSoup(page.text, "html.parser")), "signature": "Annabella Muster"}
    wrong = phone.send(path, {**fields, "questions.may_stop": "never"})
    assert (wrong.status_code, "once more" in words(wrong)) == (422, True)
    assert 'value="Annabella Muster"' in wrong.text
    done = phone.send(path, {**fields, "questions.may_stop": "any_time"})
    assert (done.status_code, "You have signed" in words(done)) == (200, True)
    assert phone.send(path, {**fields, "questions.may_stop": "any_time"}).status_code == 200  # a lost reply
    again = words(phone.get(path))
    assert f"You have signed the information about MINI on {said_on(world)}." in again, "opened once more"
    assert "Your study site signs too, and gives you a copy." in again
    with world.database.reading() as session:
        (consent,) = consents_of(session, participant.id or 0)
        assert (consent.method, consent.recorded_by, consent.countersigned_at) == ("by_link", "participant", None)
    countersign = f"{WHO}/consents/{consent.id}/countersign"
    assert "By link" in words(world.coordinator().get(countersign))


def said_on(world: World) -> str:
    """Today as a page in English writes it."""
    return day_in(world.today(), "en")


@pytest.mark.requirement("EMA-15")
def test_who_signed_has_their_copy_again_once_they_say_who_they_are(asking: World):
    world = asking
    participant = world.screened(personal=ANNA)
    path = given(world, "consent:1:en")
    phone = stranger(world)
    page = phone.send(path, {"born": "29 Feb 1980"})
    fields = {**typed(BeautifulSoup(page.text, "html.parser")), "signature": "Annabella Muster"}
    assert phone.send(path, {**fields, "questions.may_stop": "any_time"}).status_code == 200
    ask = {"again": "copy", "born": "29 Feb 1980"}
    early = phone.send(path, ask)
    assert (early.headers["content-type"].split(";")[0], "signs too" in words(early)) == ("text/html", True)
    with world.database.reading() as session:
        (consent,) = consents_of(session, participant.id or 0)
    assert (
        world.coordinator().post(f"{WHO}/consents/{consent.id}/countersign", {"password": PASSWORD}).status_code == 303
    )
    shown = phone.get(path)
    assert "Every signature is there." in words(shown)
    assert not [word for word in ("Annabella", "Muster", "M-001", "Taking part") if word in shown.text]
    copy = phone.send(path, ask)
    assert (copy.status_code, copy.headers["content-type"], copy.content[:5]) == (200, "application/pdf", b"%PDF-")
    assert world.log().count("consent.copy_taken") == 1
    assert phone.send(path, {**ask, "born": "soon"}).status_code == 422, "no date, and no try"
    for _ in range(MOST_TRIES):
        wrong = phone.send(path, {**ask, "born": "28 Feb 1980"})
        assert (wrong.status_code, wrong.content[:5] == b"%PDF-") == (422, False)
    locked = phone.send(path, ask)
    assert locked.content[:5] != b"%PDF-", "nobody guesses on and on"
    assert "Show my signed copy" not in words(locked)
    assert world.log().count("consent.copy_taken") == 1


def test_a_copy_is_shown_as_long_as_the_link_lasts_and_of_nothing_that_was_refused(asking: World):
    world = asking
    participant = world.screened(personal=ANNA)
    path, phone = given(world, "consent:1:en"), stranger(world)
    page = phone.send(path, {"born": "29 Feb 1980"})
    fields = {**typed(BeautifulSoup(page.text, "html.parser")), "signature": "Annabella Muster"}
    assert phone.send(path, {**fields, "questions.may_stop": "any_time"}).status_code == 200
    with world.database.reading() as session:
        (consent,) = consents_of(session, participant.id or 0)
    world.coordinator().post(f"{WHO}/consents/{consent.id}/countersign", {"password": PASSWORD})
    ask = {"again": "copy", "born": "29 Feb 1980"}
    with world.database.writing() as session:
        session.execute(update(LINK).values(expires_at=clock.now() - timedelta(minutes=1)))
    assert "Show my signed copy" not in words(phone.get(path))
    assert phone.send(path, ask).content[:5] != b"%PDF-"
    with world.database.writing() as session:
        session.execute(update(LINK).values(expires_at=clock.now() + timedelta(days=1)))
        session.execute(update(CONSENT).values(refused_at=clock.now(), refused_by="x", refused_why="Wrong day"))
    assert "It does not count any more" in words(phone.get(path))
    assert phone.send(path, ask).content[:5] != b"%PDF-"


def test_without_saying_who_one_is_nothing_is_signed(asking: World):
    world = asking
    participant = world.screened(personal=ANNA)
    path = given(world, "consent:1:en")
    phone = stranger(world)
    for proof in ("", "0" * 64, "é"):
        fields = {"proof": proof, "signature": "Somebody", "questions.may_stop": "any_time"}
        assert phone.send(path, fields).status_code in (404, 422)
    with world.database.reading() as session:
        assert consents_of(session, participant.id or 0) == []


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_locked_link_says_why_and_what_to_do_in_its_language(shared_database: Database, language: str):
    documents = [{**DOCUMENTS[0], "language": each} for each in ("en", "de")]
    world = World(shared_database, consent_documents=documents)
    world.screened(personal=ANNA)
    path, phone = given(world, f"consent:1:{language}"), stranger(world)
    said = {"en": ("This link is locked", "typed 5 times"), "de": ("Dieser Link ist gesperrt", "5-mal")}
    for _ in range(4):
        assert phone.send(path, {"born": "1980-02-28"}).status_code == 422
    last = phone.send(path, {"born": "1980-02-28"})
    for reply in (last, phone.get(path), phone.send(path, {"born": "1980-02-29"})):
        assert reply.status_code == 404
        for part in (*said[language], "North"):
            assert part in words(reply), part
        assert not BeautifulSoup(reply.text, "html.parser").select("main a"), "no way to where staff sign in"
    assert ("What you have just typed was not kept" in words(last)) is False
    with world.database.reading() as session:
        assert session.execute(select(LINK.c.tries)).scalar_one() == 5


def test_what_is_sent_by_a_link_that_is_too_old_is_answered_in_its_language(shared_database: Database):
    documents = [{**DOCUMENTS[0], "language": each} for each in ("en", "de")]
    world = World(shared_database, consent_documents=documents)
    world.screened(personal=ANNA)
    path, phone = given(world, "consent:1:de"), stranger(world)
    with world.database.writing() as session:
        session.execute(update(LINK).values(expires_at=clock.now()))
    assert "Dieser Link funktioniert nicht mehr" in words(phone.send(path, {"born": "1980-02-29"}))


def test_no_link_to_consent_without_a_date_of_birth(world: World):
    world.screened(personal=PersonalData("Annabella", "Muster"))
    browser = world.coordinator()
    page = browser.soup(LINKS)
    note = page.select_one("main .flash-note")
    assert note is not None
    assert "none is on file" in note.get_text()
    assert [link["href"] for link in note.select("a")] == [f"{WHO}/identity"]
    assert not page.select("form [name=what]"), "nothing is offered that would be refused"
    assert "Nothing waits" not in page.get_text()
    token = page.select("meta[name=csrf-token]")[0]["content"]
    reply = browser.send(LINKS, {"csrf_token": token, "what": "consent:1:en", "days": "14"})
    assert (reply.status_code, "Add it to the personal data first" in words(reply)) == (409, True)


@pytest.mark.requirement("EMA-7", "EMA-16")
def test_a_participant_answers_by_link_comes_back_and_finishes(world: World):
    participant = world.consented()
    path = given(world, "questions:baseline")
    phone = stranger(world)
    page = phone.get(path)
    assert page.status_code == 200
    assert not [word for word in ("M-001", "Muster", "coordinator") if word in page.text]
    fields = typed(BeautifulSoup(page.text, "html.parser"))
    assert fields["form"] == "pain"
    bad = phone.send(path, {**fields, "pain_nrs": "77"})
    assert bad.status_code == 422
    assert 'id="field-item-pain_nrs"' in bad.text
    later = phone.send(path, {**fields, "pain_nrs": "6", "save-as": "partial"})
    assert "Open the same link again" in words(later)
    again = phone.get(path)
    page = BeautifulSoup(again.text, "html.parser")
    assert page.select_one("input[name=pain_nrs][value='6'][checked]") is not None
    finished = phone.send(path, {**typed(page), "pain_nrs": "5", "pain_days": "4"})
    assert finished.status_code == 200, words(finished)
    assert "Thank you" in words(finished)
    again = phone.get(path)
    said = f"You have answered the questions “Baseline” of MINI on {said_on(world)}. Everything was received."
    assert (again.status_code, said in words(again)) == (200, True), "opened once more"
    with world.database.reading() as session:
        entry = entry_of(session, participant.id or 0, "baseline", "pain")
        assert entry is not None
        assert (entry.is_complete, entry.saved_by, entry.values["pain_nrs"]) == (True, "participant", 5)
        log = session.execute(ENTRY.select().where(ENTRY.c.via == "link")).all()
    assert {each.role for each in log} == {"participant"}
    assert {"link.opened", "link.done"} <= {each.action for each in log}


def test_a_participant_is_not_told_what_staff_should_do(world: World):
    world.consented()
    path, phone = given(world, "questions:baseline"), stranger(world)
    open_page = BeautifulSoup(phone.get(path).text, "html.parser")
    visit = "/mini/participants/M-001/visits/baseline"
    assert world.coordinator().post(f"{visit}/missed", {"why": "Ill"}, page=visit).status_code == 303
    for reply in (phone.get(path), phone.send(path, {**typed(open_page), "pain_nrs": "6", "save-as": "partial"})):
        assert "These questions cannot be answered at present. Close this page and call your study site." in words(
            reply
        )
        assert "reopen" not in words(reply)


def test_a_link_asks_only_for_its_own_forms_and_looks_for_nobody_else(world: World):
    world.consented()
    path = given(world, "questions:baseline")
    phone = stranger(world)
    fields = typed(BeautifulSoup(phone.get(path).text, "html.parser"))
    look = phone.send(f"{path}/look", {**fields, "pain_nrs": "5"})
    assert look.json()["progress"][-1][0] == 1
    for form in ("prescreen", "nothing", ""):
        assert phone.send(path, {**fields, "form": form, "pain_nrs": "5"}).status_code == 404
        assert phone.send(f"{path}/look", {**fields, "form": form}).status_code == 404


@pytest.mark.parametrize("token", ["not-a-token", "x" * 500, "%00", "é"])
def test_a_link_that_never_was_says_what_to_do(world: World, token: str):
    reply = stranger(world).get(f"/link/{token}")
    assert reply.status_code == 404
    assert "ask your study site for a new one" in words(reply) or token == "%00"


def _opens_in(world: World, days: int) -> date:
    """Let the window of the baseline open so many days from today at the site."""
    opens_on = clock.today("Australia/Sydney", clock.now()) + timedelta(days=days)
    with world.database.writing() as session:
        session.execute(
            update(VISIT).where(VISIT.c.code == "baseline").values(opens_on=opens_on, closes_on=opens_on + timedelta(9))
        )
    return opens_on


def _visit(world: World) -> Any:
    with world.database.reading() as session:
        return session.execute(select(VISIT.c.status, VISIT.c.held_on).where(VISIT.c.code == "baseline")).one()


@pytest.mark.requirement("EMA-7")
def test_a_link_made_too_early_opens_its_questions_with_the_window(world: World):
    world.consented()
    path = given(world, "questions:baseline")
    fields = {**typed(BeautifulSoup(stranger(world).get(path).text, "html.parser")), "pain_nrs": "5"}
    opens_on = _opens_in(world, 70)
    page = world.coordinator().get(LINKS)
    assert f"window {day_in_words(opens_on)} to" in words(page)
    assert "not open yet" in words(page)
    path, phone = given(world, "questions:baseline"), stranger(world)
    with world.database.reading() as session:
        expires_at = session.execute(select(LINK.c.expires_at).order_by(LINK.c.id.desc())).scalars().first()
    assert expires_at == day_span(opens_on, "Australia/Sydney")[0] + timedelta(days=14)
    early = phone.get(path)
    assert (early.status_code, "too early" in words(early)) == (200, True)
    assert day_words(opens_on, "en") in words(early)
    refused = phone.send(path, {**fields, "save-as": "partial"})
    assert (refused.status_code, day_words(opens_on, "en") in words(refused)) == (409, True)
    assert phone.send(path, {"go-to": "finish"}).status_code == 409
    assert phone.send(f"{path}/look", fields).status_code == 404
    assert tuple(_visit(world)) == ("planned", None)
    today = _opens_in(world, 0)  # the window has come: the same link goes on
    assert phone.send(path, {**fields, "save-as": "partial"}).status_code == 200
    assert tuple(_visit(world)) == ("held", today)


def test_only_an_explicit_yes_opens_the_questions_before_the_window(world: World):
    world.consented()
    _opens_in(world, 70)
    reply = world.coordinator().post(LINKS, {"what": "questions:baseline", "days": "14", "before_window": "yes"})
    (path,) = re.findall(r"<code class=\"break\">[^<]*(/link/[^<]+)</code>", reply.text)
    phone = stranger(world)
    fields = typed(BeautifulSoup(phone.get(path).text, "html.parser"))
    assert phone.send(path, {**fields, "pain_nrs": "5", "save-as": "partial"}).status_code == 200
    assert _visit(world).status == "held"
    with world.database.reading() as session:
        told = session.execute(select(ENTRY.c.new).where(ENTRY.c.action == "link.given")).scalar_one()
    assert "before_window" in told


def test_over_rest_a_link_says_until_when_it_waits(world: World):
    world.consented()
    opens_on = _opens_in(world, 70)
    program = api_client(world.database, world.person("coordinator"))
    path = "/participants/M-001/links"
    for asked, waits in ((False, opens_on.isoformat()), (True, None)):
        program.done("POST", path, {"purpose": "questions", "about": "baseline", "before_window": asked})
        told = program.rows(path)[0]
        assert (told["before_window"], told["waits_until"]) == (asked, waits)
    refused = program.refused(422, "POST", path, {"purpose": "consent", "about": "1", "before_window": True})
    assert [(each["field"], each["rule"]) for each in refused["errors"]] == [("before_window", "choice")]


def test_a_link_is_taken_back_on_the_page(world: World):
    world.consented()
    path = given(world, "questions:baseline")
    browser = world.coordinator()
    form = browser.soup(LINKS).select_one("form[action$='/end']")
    assert form is not None
    fields = {str(each["name"]): str(each["value"]) for each in form.select("input")}
    assert browser.send(str(form["action"]), fields).status_code == 303
    assert "Taken back" in words(browser.get(LINKS))
    assert stranger(world).get(path).status_code == 404


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"what": "", "days": "14"}, "Choose what the participant is to do"),
        ({"what": "questions:baseline", "days": "900"}, "A link works for 1 to 90 days"),
        ({"what": "questions:baseline", "days": "soon"}, "A link works for 1 to 90 days"),
        ({"what": "questions:tx01", "days": "14"}, "Participants answer nothing themselves at this visit"),
    ],
)
def test_a_link_that_cannot_be_made_says_why(world: World, fields: dict[str, str], said: str):
    world.consented()
    reply = world.coordinator().post(LINKS, fields)
    assert (reply.status_code, said in words(reply)) == (422, True)


def test_over_rest_the_address_is_answered_once(world: World):
    world.consented()
    program = api_client(world.database, world.person("coordinator"))
    path = "/participants/M-001/links"
    body = {"purpose": "questions", "about": "baseline"}
    made = program.done("POST", path, body, headers={"Idempotency-Key": "one"})
    token = made["address"].rpartition("/")[2]
    assert program.done("POST", path, body, headers={"Idempotency-Key": "one"}) == {"id": made["id"], "address": None}
    assert stranger(world).get(f"/link/{token}").status_code == 200
    (listed,) = program.rows(path)
    assert (listed["state"], listed["about"], listed["opened_at"] is not None) == ("open", "baseline", True)
    assert program.done("POST", f"{path}/{made['id']}/end")["state"] == "ended"
    assert stranger(world).get(f"/link/{token}").status_code == 404
    assert program.rows(path)[0]["state"] == "ended"
    program.refused(422, "POST", path, {**body, "about": "tx01"})
    program.refused(409, "POST", f"{path}/{made['id']}/end")


def test_a_link_is_mailed_and_stands_nowhere_in_the_clear(world: World):
    world.consented()
    browser = world.coordinator()
    reply = browser.post(LINKS, {"what": "questions:baseline", "days": "1", "how": "mail"})
    assert (reply.status_code, reply.headers["location"]) == (303, f"{LINKS}?done=link_mailed")
    with world.database.reading() as session:
        mail = session.execute(select(MAIL).where(MAIL.c.rule == "link")).one()
        assert "ada@" not in str(tuple(mail))
        assert "/link/{secret}" in mail.body
        text = text_of(KEYS, OutboxMail(**mail._mapping))
        goes = reachable(session, mail, world.study, now=clock.now())
    assert goes.address == "ada@example.org"
    path = next(word for word in text.split() if "/link/" in word).partition("//")[2].partition("/")[2]
    assert stranger(world).get(f"/{path}").status_code == 200
    assert "A link to sign or to answer" in words(browser.get("/mini/messages"))


def test_a_link_is_not_mailed_to_nowhere(world: World):
    participant = world.screened(personal=PersonalData("Ada", "Lovelace", "1980-12-10"))
    reply = world.coordinator().post(LINKS, {"what": "consent:1:en", "days": "14", "how": "mail"})
    assert (reply.status_code, "No mail address of this participant is known" in words(reply)) == (422, True)
    with world.database.reading() as session:
        assert links_of(session, participant.id or 0) == []


def test_a_link_is_offered_once_more_for_an_optional_consent_that_is_not_given(shared_database: Database):
    optional = {"optional": [{"code": "contact", "label": "Later contact"}]}
    world = World(shared_database, consent=optional)
    participant = world.consented()

    def offered() -> list[str]:
        found = world.coordinator().soup(LINKS).select("form [name=what][value^=consent]")
        return [str(each["value"]) for each in found]

    assert offered() == [], "they gave it"
    back = f"{WHO}/optional-consents"
    taken = {"options": "contact", "on": str(world.today()), "told_by": "participant", "how": "by_phone"}
    assert world.coordinator().post(back, taken, page=back).status_code == 303
    assert offered() == ["consent:1:en"]
    assert "once more, for an optional consent" in words(world.coordinator().get(LINKS))
    assert world.coordinator().soup(back).select(f"a[href='{LINKS}']")
    path, phone = given(world, "consent:1:en"), stranger(world)
    page = BeautifulSoup(phone.send(path, {"born": "10 Dec 1980"}).text, "html.parser")
    fields = {**typed(page), "signature": "Ada Lovelace"}
    assert phone.send(path, {**fields, "options.contact": "no"}).status_code == 409, "that gives nothing"
    assert phone.send(path, {**fields, "options.contact": "yes"}).status_code == 200
    assert offered() == [], "it waits for the study"
    with world.database.reading() as session:
        consent = consents_of(session, participant.id or 0)[-1]
    countersign = f"{WHO}/consents/{consent.id}/countersign"
    assert world.coordinator().post(countersign, {"password": PASSWORD}).status_code == 303
    with world.database.reading() as session:
        assert options_now(session, consents_of(session, participant.id or 0))["contact"].agreed
    assert offered() == []


def test_what_is_sent_by_a_link_that_does_not_work_any_more_is_not_said_to_be_kept(world: World):
    world.consented()
    path = given(world, "questions:baseline")
    phone = stranger(world)
    fields = {**typed(BeautifulSoup(phone.get(path).text, "html.parser")), "pain_nrs": "5", "pain_days": "4"}
    with world.database.writing() as session:
        session.execute(update(LINK).values(expires_at=clock.now()))
    for address in (path, "/link/never-was"):
        reply = phone.send(address, fields)
        assert (reply.status_code, "was not kept" in words(reply)) == (404, True)
        assert "received" not in words(reply)
        opened = phone.get(address)
        assert (opened.status_code, "ask your study site for a new one" in words(opened)) == (404, True)
        assert not BeautifulSoup(opened.text, "html.parser").select("main a"), "no way to where staff sign in"


def _screens(world: World, phone: Browser, path: str) -> Any:
    """A press on the screen that is shown: `press(value, go)` fills in its one question."""

    def press(values: dict[str, str], go: str = "next", at: str | None = None) -> Any:
        page = BeautifulSoup(phone.get(at or press.at).text, "html.parser")  # type: ignore[attr-defined]
        reply = phone.send(path, {**form_in(page, path), **values, "go-to": go})
        if reply.status_code == 303:
            press.at = reply.headers["location"]  # type: ignore[attr-defined]
            reply = phone.get(press.at)  # type: ignore[attr-defined]
        return reply

    press.at = path  # type: ignore[attr-defined]
    return press


@pytest.mark.requirement("EMA-7")
def test_one_question_a_screen_there_and_back_and_nothing_is_lost(shared_database: Database):
    screens = [{**form, "presentation": "screen"} if form["code"] == "pain" else form for form in ANSWERED]
    world = World(shared_database, instruments=screens)
    participant = world.consented()
    path = given(world, "questions:baseline")
    phone = stranger(world)
    press = _screens(world, phone, path)

    def stored() -> dict[str, Any]:
        with world.database.reading() as session:
            entry = entry_of(session, participant.id or 0, "baseline", "pain")
        return dict(entry.values) if entry else {}

    first = phone.get(path)
    assert "Question 1 of" in words(first)
    assert BeautifulSoup(first.text, "html.parser").select("[name=pain_days]") == []
    blank = press({})
    assert (blank.status_code, "leave it for later" in words(blank)) == (422, True)
    assert stored() == {}
    # With no pain nobody is asked where it hurts: the server decides.
    assert "Days with pain" in words(press({"pain_nrs": "0"}))
    assert stored() == {"pain_nrs": 0}
    wrong = press({"pain_days": "x1"})
    assert (wrong.status_code, 'value="x1"' in wrong.text) == (422, True)
    doubted = press({"pain_days": "3"})
    assert (doubted.status_code, "No pain, but days with pain" in words(doubted)) == (422, True)
    # Going back keeps what is there, and asks for no reason yet.
    back = press({"pain_days": "3"}, "back")
    assert BeautifulSoup(back.text, "html.parser").select_one("[name=pain_nrs][value='0'][checked]") is not None
    assert stored() == {"pain_nrs": 0, "pain_days": 3}
    press({"pain_nrs": "6"})
    where = press({})
    assert "Where it hurts" in words(where)
    assert "Open the same link again" in words(press({"pain_where": "back"}, "later"))
    assert stored()["pain_where"] == ["back"]
    # Whoever comes back is led to what is left; here nothing is that must be answered.
    press.at = path
    assert "Send my answers" in words(phone.get(path))
    again = phone.get(f"{path}?at=pain.pain_days")
    assert 'value="3"' in again.text
    press.at = f"{path}?at=pain.pain_where"
    assert "Note" in words(press({"pain_where": "leg"}))
    end = press({"pain_note": "At night"})
    assert "Send my answers" in words(end)
    assert "Thank you" in words(phone.send(path, {"go-to": "finish"}))
    assert stored() == {"pain_nrs": 6, "pain_days": 3, "pain_where": ["leg"], "pain_note": "At night"}
    assert "Thank you" in words(phone.get(path))


def test_a_question_whose_code_begins_with_anothers_keeps_its_answer(shared_database: Database):
    more = {"code": "pain_nrs__worst", "label": "Worst pain", "type": "integer", "required": False}
    form = next(dict(each) for each in ANSWERED if each["code"] == "pain")
    first, *others = form["sections"]
    form |= {"presentation": "screen", "sections": [{**first, "items": [*first["items"], more]}, *others]}
    world = World(shared_database, instruments=[form if each["code"] == "pain" else each for each in ANSWERED])
    participant = world.consented()
    path = given(world, "questions:baseline")
    press = _screens(world, stranger(world), path)
    press({"pain_nrs": "6"})
    asked = stranger(world).get(f"{path}?at=pain.pain_nrs__worst").text
    assert "Worst pain" in asked
    assert "Range not set" not in asked, "which concerns whoever wrote the study"
    press({"pain_nrs__worst": "9"}, at=f"{path}?at=pain.pain_nrs__worst")
    press({"pain_nrs": "7"}, at=f"{path}?at=pain.pain_nrs")
    with world.database.reading() as session:
        entry = entry_of(session, participant.id or 0, "baseline", "pain")
    assert entry is not None
    assert entry.values == {"pain_nrs": 7, "pain_nrs__worst": 9}


def test_what_is_left_for_later_stands_at_the_end(shared_database: Database):
    screens = [{**form, "presentation": "screen"} if form["code"] == "pain" else form for form in ANSWERED]
    world = World(shared_database, instruments=screens)
    world.consented()
    path = given(world, "questions:baseline")
    phone = stranger(world)
    press = _screens(world, phone, path)
    assert "Days with pain" in words(press({}, "skip"))
    press({"pain_days": "2"})
    end = press({})
    assert "These questions are not answered yet" in words(end)
    assert phone.send(path, {"go-to": "finish"}).status_code == 409
    link = BeautifulSoup(end.text, "html.parser").select_one(".questions-left a")
    assert link is not None
    press.at = str(link["href"])
    press({"pain_nrs": "1"})
    assert phone.get(f"{path}?at=pain.nothing").status_code == 200
    assert phone.send(path, {"form": "pain", "asked-item": "nothing", "go-to": "next"}).status_code == 404
    assert "Thank you" in words(phone.send(path, {"go-to": "finish"}))


def test_who_is_done_is_thanked_in_the_language_of_the_link(shared_database: Database):
    """When they send the last form, open the link once more, or send the form again."""
    german = {"language": "de", "items": [{"code": "pain_nrs", "label": "Schmerz der letzten Woche"}]}
    forms = [{**form, "texts": [german]} if form["code"] == "pain" else form for form in ANSWERED]
    forms = [{**form, "respondent": "assessor"} if form["code"] != "pain" else form for form in forms]
    world = World(shared_database, instruments=forms)
    world.consented()
    path = given(world, "questions:baseline:de")
    phone = stranger(world)
    form = {**typed(BeautifulSoup(phone.get(path).text, "html.parser")), "pain_nrs": "5", "pain_days": "4"}
    for reply in (phone.send(path, form), phone.get(path), phone.send(path, form)):
        assert (reply.status_code, "Vielen Dank" in words(reply)) == (200, True), words(reply)


def test_who_is_given_a_link_in_a_language_reads_the_questions_in_it(shared_database: Database):
    german = {"language": "de", "items": [{"code": "pain_nrs", "label": "Schmerz der letzten Woche"}]}
    forms = [{**form, "texts": [german]} if form["code"] == "pain" else form for form in ANSWERED]
    world = World(shared_database, instruments=forms)
    world.consented()
    path = given(world, "questions:baseline:de")
    page = stranger(world).get(path).text
    soup = BeautifulSoup(page, "html.parser")
    assert soup.html is not None
    assert soup.html["lang"] == "de"
    assert "Schmerz der letzten Woche" in page
    assert "Days with pain" in page  # what has no words in it stays as the study words it
    assert "Pain, past week" in stranger(world).get(given(world, "questions:baseline")).text


def test_what_is_wrong_by_a_german_link_names_the_question_in_german(shared_database: Database):
    german = {"language": "de", "items": [{"code": "pain_nrs", "label": "Schmerz der letzten Woche"}]}
    forms = [{**f, "texts": [german], "presentation": "screen"} if f["code"] == "pain" else f for f in ANSWERED]
    world = World(shared_database, instruments=forms)
    world.consented()
    for about in ("questions:baseline", "questions:baseline:de"):  # somebody reads it in the words of the study first
        path, phone = given(world, about), stranger(world)
        refused = phone.send(path, form_in(BeautifulSoup(phone.get(path).text, "html.parser"), path))
    assert refused.status_code == 422
    said = BeautifulSoup(refused.text, "html.parser").select_one(".error-summary")
    assert said is not None
    assert "Schmerz der letzten Woche: Antworten Sie" in said.get_text()


def test_by_a_german_link_a_comma_is_a_decimal_sign_and_a_date_is_asked_for_in_three_fields(shared_database: Database):
    more = [
        {"code": "weight", "type": "number", "label": "Your weight"},
        {"code": "since", "type": "date", "precision": "year", "label": "Since when"},
    ]
    form = next(dict(each) for each in ANSWERED if each["code"] == "pain")
    first, *others = form["sections"]
    form |= {"sections": [{**first, "items": [*first["items"], *more]}, *others]}
    world = World(shared_database, instruments=[form if each["code"] == "pain" else each for each in ANSWERED])
    participant = world.consented()
    path = given(world, "questions:baseline")
    with world.database.writing() as session:
        session.execute(update(LINK).values(language="de"))
    phone = stranger(world)
    page = BeautifulSoup(phone.get(path).text, "html.parser")
    year, month, day = page.select("#field-item-since [name=since]")
    assert (year["inputmode"], month.name, day.name) == ("numeric", "select", "select")
    assert [each.text for each in month.select("option")][1:4] == ["Januar", "Februar", "März"]
    fields = {**typed(page), "pain_nrs": "6", "weight": "70,5", "save-as": "partial"}
    refused = phone.send(path, {**fields, "since": ["2021", "", "d05"]})
    assert "Wählen Sie auch den Monat" in words(refused)
    again = BeautifulSoup(refused.text, "html.parser")
    assert again.select_one("[name=since] option[value=d05][selected]") is not None
    assert again.select_one("[name=weight][value='70,5']") is not None
    assert phone.send(path, {**fields, "since": ["2021", "m03", ""]}).status_code == 200
    with world.database.reading() as session:
        entry = entry_of(session, participant.id or 0, "baseline", "pain")
    assert entry is not None
    assert (entry.values["weight"], entry.values["since"]) == (70.5, "2021-03")
    shown = BeautifulSoup(phone.get(path).text, "html.parser")
    assert shown.select_one("[name=weight][value='70,5']") is not None
    assert shown.select_one("[name=since] option[value=m03][selected]") is not None


GERMAN = {
    "language": "de",
    "consent": {
        "questions": [
            {
                "code": "may_stop",
                "label": "Wann dürfen Sie aufhören?",
                "choices": [{"code": "never", "label": "Nie"}, {"code": "any_time", "label": "Jederzeit"}],
                "hint": "Lesen Sie „Teilnahme“ noch einmal.",
            }
        ],
        "optional": [{"code": "contact", "label": "Späterer Kontakt"}],
    },
    "missing_codes": [{"code": "ND", "label": "Nicht erhoben"}],
}


@pytest.mark.requirement("SPI-32a", "EMA-15")
def test_what_is_signed_in_a_language_is_asked_and_bound_in_it(shared_database: Database):
    asked = {"questions": [QUESTION], "optional": [{"code": "contact", "label": "Later contact"}]}
    documents = [{**DOCUMENTS[0], "language": language} for language in ("en", "de")]
    world = World(shared_database, consent=asked, consent_documents=documents, texts=[GERMAN])
    participant = world.screened(personal=ANNA)
    path, phone = given(world, "consent:1:de"), stranger(world)
    page = phone.send(path, {"born": "1980-02-29"})
    for said in ("Wann dürfen Sie aufhören?", "Jederzeit", "Späterer Kontakt"):
        assert said in words(page)
    assert "Later contact" not in page.text
    fields = {**typed(BeautifulSoup(page.text, "html.parser")), "signature": "Anna Muster"}
    wrong = words(phone.send(path, {**fields, "questions.may_stop": "never"}))
    assert "Lesen Sie „Teilnahme“ noch einmal." in wrong
    assert "Späterer Kontakt: " in wrong
    answers = {"questions.may_stop": "any_time", "options.contact": "no"}
    assert phone.send(path, {**fields, **answers}).status_code == 200
    with world.database.reading() as session:
        (consent,) = consents_of(session, participant.id or 0)
        assert is_intact(session, world.study, consent, participant)
        other = world.study.definition.model_copy(update={"texts": ()})
        assert not is_intact(session, replace(world.study, definition=other), consent, participant)
    shown = words(world.coordinator().get(f"{WHO}/consents/{consent.id}"))
    assert "Wann dürfen Sie aufhören? Jederzeit" in shown
    # The same words at the site, where the document is read together.
    world.screened()
    on_screen = words(world.coordinator().get("/mini/participants/M-002/consent?language=de"))
    assert "Späterer Kontakt" in on_screen


def test_a_problem_names_the_question_in_the_words_of_the_reader(shared_database: Database):
    words_in_german = [
        {"code": "pain_nrs", "label": "Schmerz der letzten Woche"},
        {"code": "pain_days", "label": "Tage mit Schmerz"},
    ]
    texts = [{"language": "de", "items": words_in_german}]
    forms = [{**form, "texts": texts} if form["code"] == "pain" else form for form in ANSWERED]
    world = World(shared_database, instruments=forms)
    world.consented()
    path, phone = given(world, "questions:baseline:de"), stranger(world)
    fields = typed(BeautifulSoup(phone.get(path).text, "html.parser"))
    for answers, said in [
        ({"pain_nrs": "5", "pain_days": "many"}, "Tage mit Schmerz: "),  # cannot be read
        ({"pain_nrs": "99", "pain_days": "3"}, "Schmerz der letzten Woche: "),  # a check
        ({"pain_days": "3"}, "Schmerz der letzten Woche: "),  # blank
    ]:
        reply = phone.send(path, {**fields, **answers})
        assert reply.status_code == 422
        assert said in words(reply)
        assert "Pain, past week" not in reply.text
        assert "Days with pain" not in reply.text


def test_reasons_for_no_answer_are_read_in_the_language_of_the_link(shared_database: Database):
    german = {"language": "de", "items": [{"code": "pain_nrs", "label": "Schmerz der letzten Woche"}]}
    forms = [{**form, "texts": [german]} if form["code"] == "pain" else form for form in ANSWERED]
    codes = [{"code": "ND", "label": "Not done"}]
    world = World(shared_database, instruments=forms, missing_codes=codes, texts=[GERMAN])
    world.consented()
    page = words(stranger(world).get(given(world, "questions:baseline:de")))
    assert "Nicht erhoben" in page
    assert "Not done" not in page


def test_a_file_by_a_german_link_is_named_by_its_question(shared_database: Database):
    german = {"language": "de", "items": [{"code": "report", "label": "Ein Bild Ihres Rückens"}]}
    forms = [
        {**form, "respondent": "participant", "texts": [german]} if form["code"] == "disability" else form
        for form in KINDS
    ]
    world = World(shared_database, instruments=forms, visits=VISITS)
    world.consented()
    path, phone = given(world, "questions:baseline:de"), stranger(world)

    def send(name: str, data: bytes) -> Any:
        fields = typed(BeautifulSoup(phone.get(path).text, "html.parser"))
        return phone.send(path, {**fields, "save-as": "partial"}, files={"report__file": (name, data)})

    refused = send("Anna Muster.pdf", b"no such thing")
    assert refused.status_code == 422
    assert "Ein Bild Ihres Rückens: " in words(refused)
    assert "Report" not in words(refused)
    assert send("Anna Muster.PDF", b"%PDF-1.7 A").status_code == 200
    with world.database.reading() as session:
        said = session.execute(select(LOG.c.new).where(LOG.c.action == "entry.file_kept")).scalars().all()
    assert [json.loads(each)["name"] for each in said] == ["report.pdf"], "people name files after themselves"


@pytest.mark.requirement("SEC-22")
def test_by_a_link_no_more_than_a_few_files_are_kept_for_a_question(shared_database: Database):
    forms = [{**form, "respondent": "participant"} if form["code"] == "disability" else form for form in KINDS]
    world = World(shared_database, instruments=forms, visits=VISITS)
    world.consented()
    path = given(world, "questions:baseline")
    phone = stranger(world)

    def send(data: bytes) -> Any:
        fields = typed(BeautifulSoup(phone.get(path).text, "html.parser"))
        return phone.send(path, {**fields, "save-as": "partial"}, files={"report__file": ("a.pdf", data)})

    def kept() -> int:
        with world.database.reading() as session:
            return len(session.execute(select(FILE.c.id)).all())

    for number in range(MOST_BY_LINK):
        assert send(b"%PDF-1.7 " + bytes([65 + number])).status_code == 200
    refused = send(b"%PDF-1.7 Z")
    assert (refused.status_code, kept()) == (422, MOST_BY_LINK)
    assert "5 were sent for this question already" in words(refused)
    assert send(b"%PDF-1.7 A").status_code == 200, "the very same file is no other"
    assert kept() == MOST_BY_LINK
    at, browser = "/mini/participants/M-001/visits/baseline/entries/disability", world.coordinator()
    fields = {**browser.form(at), "save-as": "partial", "form-why": "The right one"}
    reply = browser.send(at, fields, files={"report__file": ("b.pdf", b"%PDF-1.7 Z")})
    assert (reply.status_code, kept()) == (303, MOST_BY_LINK + 1), "the site may send another"
