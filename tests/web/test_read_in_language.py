"""Does whoever reads the application in a language read the study in it, on every page, and is nothing else changed?"""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from babel.messages.pofile import read_po
from bs4 import BeautifulSoup
from lxml.html import document_fromstring
from sqlalchemy import select, update

from app.audit.actions import ENTRY as LOG
from app.foundation import clock
from app.foundation.database import Database
from app.foundation.languages import SOURCE, TRANSLATIONS, in_language
from app.people.permissions import Role
from app.people.reads import PERSON
from app.schedule.appointments import feeds
from app.studies.texts import labels_in
from tests.blinding import trial as blinding
from tests.blinding.trial import ARMS, KNOWN, WORLD
from tests.factories import definition
from tests.house.routes import ANYONE, SIGNED_IN, WHO, Door, expected_roles
from tests.house.test_routes import NO_PAGE, WEB
from tests.studies.marked import with_marked_words
from tests.web.browser import PASSWORD, Browser
from tests.web.world import World

MARKED = re.compile(r"«[^»]*»")
SOME = {"number": (1, 2, 3), "visit": ("baseline", "week18", "tx01"), "path": ("consent/1.en.md", "study.yaml")}


def _with_words() -> dict[str, Any]:
    """What is changed of the small trial: words in German, every one of them marked."""
    worded = with_marked_words(definition(**ARMS))
    said = worded.model_dump(mode="json")
    return {"texts": said["texts"], "instruments": said["instruments"]}


def _texts(page: str) -> Iterator[str]:
    """Every text of a page but what is said to be English; read without a soup, which takes many times as long."""
    whole: Any = document_fromstring(page)
    english = "*[@lang='en'][ancestor::body]"
    yield from (" ".join(text.split()) for text in whole.xpath(f"//text()[not(ancestor::{english})]"))
    for name in ("aria-label", "title", "placeholder", "alt", "value", "data-label"):
        said = whole.xpath(f"//*[@{name}][not(ancestor-or-self::{english})]/@{name}")
        yield from (" ".join(text.split()) for text in said)


def _addresses(door: Door) -> Iterator[tuple[str, str]]:
    for role in Role:
        if role.value in _LOOK and (WHO[door.name] == SIGNED_IN or role in (expected_roles(door.name) or Role)):
            yield from ((role.value, where) for where in door.addresses(**{**KNOWN, **SOME, "token": "x"}))


_LOOK = ("coordinator", "assessor", "clinician", "investigator", "data_manager", "monitor", "statistician")


# Pages that show the study's own words, and why.
OWN: dict[str, str] = {
    "consent.show": "what was signed is read in the language in which it was signed",
    "consent.countersign_form": "what was signed is read in the language in which it was signed",
    "consent.refuse_form": "what was signed is read in the language in which it was signed",
    "amendments.differences": "two definitions are compared, word by word",
    "amendments.effect": "two definitions are compared, word by word",
}


def _of_german_too() -> set[str]:
    """Words that a German page says by itself."""
    found = set()
    for domain in ("messages", "sentences"):
        with (TRANSLATIONS / "de" / "LC_MESSAGES" / f"{domain}.po").open("rb") as text:
            for each in read_po(text, locale="de"):
                said = [each.string] if isinstance(each.string, str) else each.string or ()
                found |= {word for one in said for word in re.findall(r"\w+", one)}
    return found


@pytest.mark.parametrize("kind", ["sqlite"])  # words do not depend on the database
def test_every_page_in_german_says_the_study_in_german(database: Database, tmp_path: Path) -> None:
    with time_machine.travel(blinding.BEGUN, tick=False) as time:
        trial = blinding.set_up(database, tmp_path, _with_words())
        blinding.play(trial, WORLD, time)
    names = set(labels_in(trial.study.definition, "de")) - _of_german_too()
    assert len(names) > 40
    listed = "|".join(re.escape(each) for each in sorted(names, key=len, reverse=True))
    english = re.compile(rf"(?<!\w)(?:{listed})(?!\w)")
    left: dict[str, set[str]] = {}
    marks = 0
    with time_machine.travel(blinding.BEGUN + timedelta(days=128, hours=1), tick=False):
        with database.writing() as session:
            session.execute(update(PERSON).values(language="de"))
        trial.sign_in()
        trial.listening = False
        for door in WEB:
            if door.name in OWN or door.name.startswith("drafts.") or WHO[door.name] == ANYONE:
                continue
            if door.method != "GET" or not NO_PAGE.get(door.name, ".html").endswith(".html"):
                continue
            for who, where in _addresses(door):
                reply = trial.web(who, "GET", where)
                if reply.status_code != 200 or "text/html" not in reply.headers["content-type"]:
                    continue
                marks += reply.text.count("«")
                for text in _texts(reply.text):
                    if found := english.findall(MARKED.sub("", text)):
                        left.setdefault(f"{door.name} for {who}", set()).update((*found, text[:80]))
    assert left == {}
    assert marks > 1000, "pages are in the other words"


@pytest.fixture
def world(database: Database) -> World:
    return World(database, **_with_words())


def _in(world: World, language: str, *roles: str) -> Browser:
    browser = world.browser(*(roles or ("coordinator",)))
    browser.client.headers.update({"Accept-Language": language})
    return browser


def _entry(world: World, code: str) -> str:
    return f"/mini/participants/{code}/visits/baseline/entries/pain"


def _log_of(world: World, code: str) -> list[tuple[Any, ...]]:
    """What the log says of entries of a participant, without who and when."""
    columns = (LOG.c.action, LOG.c.item, LOG.c.old, LOG.c.new, LOG.c.why)
    with world.database.reading() as session:
        said = LOG.c.participant == code, LOG.c.subject.like("%entry%")
        return [tuple(row) for row in session.execute(select(*columns).where(*said).order_by(LOG.c.position))]


def test_a_form_is_read_and_mended_in_the_words_of_the_reader_and_kept_as_ever(world: World) -> None:
    """Server and browser say the same, and what is kept and logged is the same in every language."""
    kept = []
    for language in ("en", "de"):
        code = world.consented().code
        browser, url = _in(world, language), _entry(world, code)
        page = browser.get(url)
        assert ("«Pain, past week»" in page.text) is (language == "de")
        wrong = browser.post(url, {"pain_nrs": "11", "pain_days": "3", "base-version": "0"})
        assert wrong.status_code == 422
        label = "«Pain, past week»" if language == "de" else "Pain, past week"
        errors = BeautifulSoup(wrong.text, "html.parser").select_one("[data-error-summary]")
        assert errors is not None
        assert f"{label}:" in errors.get_text()
        looked = browser.send(f"{url}/look", {**browser.form(url), "pain_nrs": "0", "pain_days": "3"}).json()
        said = "No pain, but days with pain: check both."
        assert looked["findings"]["pain_days"].endswith(f"«{said}»" if language == "de" else said)
        typed = {"pain_nrs": "0", "pain_days": "3", "pain_note": "None", "base-version": "0"}
        saved = browser.post(url, {**typed, "pain_days__why": "As told", "save-as": "complete"})
        assert saved.status_code == 303
        corrected = {**typed, "pain_days": "4", "pain_days__why": "As told", "base-version": "1", "form-why": "Misread"}
        assert browser.post(url, corrected).status_code == 303
        kept.append(_log_of(world, code))
    assert kept[0] == kept[1]
    assert "«" not in str(kept)


def test_a_form_can_be_read_as_the_study_words_it(world: World) -> None:
    """Where somebody is asked in the language of the study, its own words are one step away, and stay on the way."""
    browser, url = _in(world, "de"), _entry(world, world.consented().code)
    assert f'href="{url}?words=study"' in browser.get(url).text
    own = browser.get(f"{url}?words=study")
    assert "«" not in own.text
    assert "Pain, past week" in own.text
    assert f'href="{url}"' in own.text
    wrong = browser.send(f"{url}?words=study", {**browser.form(f"{url}?words=study", url), "pain_nrs": "11"})
    assert wrong.status_code == 422
    assert "«" not in wrong.text
    assert "In meiner Sprache" in own.text
    assert "In meiner Sprache" not in wrong.text, "what was typed would be lost on the way"
    assert "words=study" not in _in(world, "en").get(url).text


@pytest.mark.parametrize(
    "page", ["new", "{code}", "{code}/visits/baseline", "{code}/screening", "{code}/screening/correction"]
)
def test_what_else_is_read_beside_paper_leads_to_the_words_of_the_study_and_back(world: World, page: str) -> None:
    url = f"/mini/participants/{page.format(code=world.consented().code)}"
    browser = _in(world, "de")
    worded = browser.get(url)
    assert "«" in worded.text
    assert f'href="{url}?words=study"' in worded.text
    own = browser.get(f"{url}?words=study")
    assert "«" not in own.text
    assert f'href="{url}"' in own.text
    assert "words=study" not in _in(world, "en").get(url).text


def test_somebody_is_screened_in_the_words_of_the_study_until_it_is_sent(world: World) -> None:
    url = "/mini/participants/new?words=study"
    browser = _in(world, "de")
    (action,) = {str(each["action"]) for each in browser.soup(url).select("form[action*='/participants/new']")}
    assert action == url
    wrong = browser.send(url, {**browser.form(url, "/mini/participants/new"), "age": "200"})
    assert wrong.status_code == 422
    assert "«" not in wrong.text


def test_a_refusal_is_read_in_the_words_of_the_reader_and_logged_in_those_of_the_study(world: World) -> None:
    code = world.consented().code
    browser, url = _in(world, "de"), f"/mini/participants/{code}/randomise"
    assert "«Pain»" in browser.get(url).text
    refused = browser.send(url, {**browser.form(url, "/sign-out"), "password": PASSWORD})
    assert refused.status_code == 409
    assert "«Pain»" in refused.text
    with world.database.reading() as session:
        logged = LOG.c.participant == code, LOG.c.action.like("%_refused")
        (why,) = session.execute(select(LOG.c.why).where(*logged)).scalars().all()
    assert "Pain" in why
    assert "«" not in why


def test_a_page_that_is_refused_is_logged_in_the_words_of_the_study(world: World) -> None:
    """A page has the study in the words of its reader: what it refuses is written down in those of the study."""
    study = world.study.read_in("de")
    names = labels_in(world.study.definition, "de")
    said = f"“{study.definition.visits[0].label}” is not known yet. Complete the entries it is taken from."
    assert in_language(said, SOURCE, names.backwards).startswith(f"“{world.study.definition.visits[0].label}” is")


def test_files_and_rest_say_what_the_study_says(world: World) -> None:
    code = world.filled().code
    manager = world.browser("data_manager", site_code=None)
    manager.client.headers.update({"Accept-Language": "de"})
    with world.database.writing() as session:
        session.execute(update(PERSON).values(language="de"))
    for path in ("/mini/exports/entries.csv", "/mini/exports/instrument_pain.csv", "/mini/study/usdm.json"):
        reply = manager.get(path)
        assert reply.status_code == 200, path
        assert "«" not in reply.text, path
    assert "«" in manager.get(f"/mini/participants/{code}").text


def test_a_version_in_other_words_is_the_very_same_version(world: World) -> None:
    """No page takes the words of its reader for another version of the study."""
    study = world.study.read_in("de")
    assert study.read_in("de").definition is study.definition
    assert study.own is world.study
    assert study.read_in("en") is world.study
    assert world.study.read_in("fr") is world.study
    page = _in(world, "de").get(_entry(world, world.filled().code))
    assert "Dieses Formular war damals ein anderes" not in page.text


def test_a_calendar_and_a_mail_are_in_the_words_of_their_reader(world: World) -> None:
    staff = world.person("coordinator")
    with world.database.writing() as session:
        session.execute(update(PERSON).values(language="de"))
        token = feeds.make_feed(session, world.study, whose="sites", by=staff, now=clock.now())
    with world.database.writing() as session:
        found = feeds.read_feed(session, token, now=clock.now())
    assert found.study.definition.visits[0].label == f"«{world.study.definition.visits[0].label}»"
