"""In which language does a page come? As the person chose, or the browser wishes; in German nothing stays English."""

import re
from typing import Any

import pytest
from babel.messages.pofile import read_po
from bs4 import BeautifulSoup, Comment
from sqlalchemy import select, update

from app.audit.actions import ENTRY
from app.audit.models import SYSTEM_LOG
from app.foundation import clock
from app.foundation.database import Database
from app.foundation.languages import TRANSLATIONS
from app.mail.actions import MAIL, queue
from app.participants.identity import PARTICIPANT
from app.people.reads import PERSON
from tests.web.browser import PASSWORD, Browser, anonymous_client
from tests.web.world import World

GERMAN = {"Accept-Language": "de-DE, de;q=0.9, en;q=0.5"}


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def _english() -> set[str]:
    """Source texts of the templates and the program that read otherwise in German, of more than one word."""
    found = set()
    for domain in ("messages", "sentences"):
        with (TRANSLATIONS / "de" / "LC_MESSAGES" / f"{domain}.po").open("rb") as text:
            for each in read_po(text, locale="de"):
                for source in [each.id] if isinstance(each.id, str) else each.id:
                    if source and source != each.string and " " in source and not re.search(r"[%{]", source):
                        found.add(" ".join(source.split()))
    return found


def _said(soup: BeautifulSoup) -> set[str]:
    """Every text that a page shows or reads out."""
    for written in soup.select("body [lang=en]"):  # the log, and the documents of a study, are as they were written
        written.decompose()
    texts = {" ".join(text.split()) for text in soup.find_all(string=True) if not isinstance(text, Comment)}
    for name in ("aria-label", "title", "placeholder", "alt"):
        texts |= {" ".join(str(each[name]).split()) for each in soup.select(f"[{name}]")}
    return texts - {""}


def _german(browser: Browser, path: str) -> set[str]:
    reply = browser.get(path, headers=GERMAN)
    assert reply.status_code == 200, path
    soup = BeautifulSoup(reply.text, "html.parser")
    assert soup.html is not None
    assert soup.html["lang"] == "de", path
    return _said(soup)


@pytest.mark.requirement("EMA-7")
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)  # words do not depend on the database
def test_no_page_in_german_says_a_sentence_in_english(world: World) -> None:
    participant = world.filled()
    root = f"/{world.study.code}"
    here = f"{root}/participants/{participant.code}"
    families = {
        "coordinator": ["today", "participants", "participants/new", "calendar", "messages", "queries", "study"],
        "investigator": ["safety", "safety/deviations", "participants"],
        "data_manager": ["exports", "queries", "study/locks", "audit"],
        "statistician": ["sequence", "sequence/draw", "sequence/design"],
        "clinician": ["treatment"],
    }
    of_one = ["", "/visits/baseline", "/randomise", "/withdraw", "/consent", "/identity", "/reminders", "/links"]
    english, left = _english(), {}
    for role, paths in families.items():
        browser = world.browser(role, site_code=None if role in ("data_manager", "statistician") else "north")
        pages = [f"{root}/{path}" for path in paths] + ["/account"]
        if role == "coordinator":
            pages += [here + path for path in of_one]
            pages.append(f"{here}/visits/baseline/entries/pain")
        for page in pages:
            if found := _german(browser, page) & english:
                left[role, page] = found
    assert not left


def test_days_are_german_on_a_german_page(world: World) -> None:
    participant = world.consented()
    texts = _german(world.coordinator(), f"/{world.study.code}/participants/{participant.code}")
    days = [text for text in texts if re.fullmatch(r"\d{1,2}\. \w+\.? \d{4}", text)]
    assert days
    assert not [text for text in texts if re.fullmatch(r"\d{1,2} [A-Z][a-z]{2} \d{4}", text)]


def test_a_refusal_and_a_wrong_field_are_said_in_german(world: World) -> None:
    browser = world.coordinator()
    browser.client.headers.update(GERMAN)
    missing = browser.get(f"/{world.study.code}/participants/N-9999")
    assert missing.status_code == 404
    assert "Nicht gefunden" in missing.text
    form = f"/{world.study.code}/participants/new"
    reply = browser.post(form, {"age": "abc", "pain_screen": "6"})
    assert reply.status_code == 422
    soup = BeautifulSoup(reply.text, "html.parser")
    assert not _said(soup) & _english()


def test_the_verdicts_of_a_pre_screen_are_said_in_german(world: World) -> None:
    """What was answered stands in a reason that is kept in English, and in a page in the language of its reader."""
    browser = world.coordinator()
    browser.client.headers.update(GERMAN)
    form = f"/{world.study.code}/participants/new"
    for surgery, said in (("yes", "Trifft zu. Surgery in the last year: ja."), ("", "noch nicht beantwortet.")):
        reply = browser.post(form, {"age": "17", "pain_screen": "5", "surgery": surgery})
        shown = " ".join(BeautifulSoup(reply.text, "html.parser").get_text(" ").split())
        assert said in shown
        assert "Nicht erfüllt. Age: 17 years." in shown


def test_what_the_program_itself_says_within_a_choice_or_a_signature_is_german(world: World) -> None:
    participant = world.filled()
    here = f"/{world.study.code}/participants/{participant.code}"
    investigator, coordinator = world.browser("investigator"), world.coordinator()
    assert "Ich genehmige diese Daten." in _german(investigator, f"{here}/visits/baseline/sign")
    with world.database.writing() as session:
        session.execute(update(PARTICIPANT).values(randomised_on=world.today()))
    assert "Schwerwiegendes unerwünschtes Ereignis" in _german(investigator, f"{here}/unblind")
    assert "Eine Visite, die nicht im Plan steht" in _german(coordinator, f"{here}/appointments/new")


def test_a_reason_with_markup_in_it_stays_text(world: World) -> None:
    """What was put into a sentence is escaped on the page that says it, in every language."""
    for language in ("en", "de"):
        reply = world.coordinator().get(
            f"/{world.study.code}/calendar?date=%3Cb%3E100%25", headers={"Accept-Language": language}
        )
        assert "<b>100" not in reply.text


def _chosen(world: World, browser: Browser) -> str | None:
    with world.database.reading() as session:
        query = select(PERSON.c.language).where(PERSON.c.id == browser.actor.person_id)
        chosen: str | None = session.execute(query).scalar_one()
        return chosen


def test_a_person_chooses_a_language_for_every_browser(world: World) -> None:
    browser = world.coordinator()
    browser.client.headers.update({"Accept-Language": "en"})
    reply = browser.post("/account/language", {"language": "de"}, page="/account")
    assert reply.status_code == 303
    assert _chosen(world, browser) == "de"
    soup = browser.soup("/account?done=language")
    assert soup.html is not None
    assert soup.html["lang"] == "de"
    assert "Ihre Sprache ist geändert" in soup.get_text()
    with world.database.reading() as session:
        said = session.execute(select(ENTRY.c.action, ENTRY.c.new).where(ENTRY.c.log == SYSTEM_LOG)).all()
    assert "person.language_chosen" in {row.action for row in said}

    browser.client.cookies.delete("language")
    again = browser.get(f"/{world.study.code}/participants", headers={"Accept-Language": "en"})
    assert '<html lang="de"' in again.text

    browser.post("/account/language", {"language": ""}, page="/account")
    assert _chosen(world, browser) is None
    assert '<html lang="en"' in browser.get("/account").text


@pytest.mark.parametrize("wrong", ["xx", "../en", "DE", "de-CH"])
def test_only_a_language_that_is_there_can_be_chosen(world: World, wrong: str) -> None:
    browser = world.coordinator()
    reply = browser.send("/account/language", {**browser.form("/account", "/account/language"), "language": wrong})
    assert reply.status_code == 422
    assert _chosen(world, browser) is None


def test_the_sign_in_page_follows_the_browser_and_can_be_switched(world: World) -> None:
    client = anonymous_client(world.database)
    assert '<html lang="de"' in client.get("/sign-in", headers=GERMAN).text
    assert '<html lang="en"' in client.get("/sign-in", headers={"Accept-Language": "fr"}).text
    reply = client.post("/language", data={"language": "de", "back": "/sign-in?next=/x"}, follow_redirects=False)
    assert reply.status_code == 303
    assert reply.headers["location"] == "/sign-in?next=/x"
    page = client.get("/sign-in", headers={"Accept-Language": "en"})
    assert '<html lang="de"' in page.text
    assert "Benutzername" in page.text
    wrong = client.post("/sign-in", data={"username": "nobody", "password": PASSWORD})
    assert "Benutzername, Passwort oder Code ist nicht richtig" in wrong.text
    elsewhere = client.post("/language", data={"language": "", "back": "//evil.test"}, follow_redirects=False)
    assert elsewhere.headers["location"] == "/"
    assert '<html lang="en"' in client.get("/sign-in").text


def test_without_a_wish_the_page_is_in_the_language_of_the_study(database: Database) -> None:
    world = World(database, language="de")
    browser = world.coordinator()
    assert "accept-language" not in browser.client.headers
    assert '<html lang="de"' in browser.get(f"/{world.study.code}/participants").text


def test_rest_stays_english(world: World) -> None:
    client: Any = anonymous_client(world.database)
    reply = client.get(f"/api/v1/studies/{world.study.code}/participants", headers=GERMAN)
    assert reply.json()["title"] == "Not signed in"


def test_a_mail_is_in_the_language_of_its_reader(world: World) -> None:
    with world.database.writing() as session:
        for language in ("de", None):
            queue(
                session,
                key=f"test/{language}",
                to_address="ada@example.org",
                subject="MINI: R-1, Tuesday, 3 March 2026: booked",
                body="The appointment of R-1 with you is booked: Week 12, Tuesday, 3 March 2026, 09:30, North.",
                now=clock.now(),
                language=language,
            )
    with world.database.reading() as session:
        rows = session.execute(select(MAIL.c.key, MAIL.c.subject, MAIL.c.body)).all()
    said = {row.key: (row.subject, row.body) for row in rows}
    assert said["test/de"] == (
        "MINI: R-1, Dienstag, 3. März 2026: gebucht",
        "Der Termin von R-1 mit Ihnen ist gebucht: Week 12, Dienstag, 3. März 2026, 09:30, North.",
    )
    assert said["test/None"][0] == "MINI: R-1, Tuesday, 3 March 2026: booked"
