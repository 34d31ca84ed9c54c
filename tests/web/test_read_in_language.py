"""Does whoever reads the application in a language read the study in it, on every page, and is nothing else changed?"""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import time_machine
from babel.messages.pofile import read_po
from bs4 import BeautifulSoup, Comment
from sqlalchemy import update

from app.foundation.database import Database
from app.foundation.languages import TRANSLATIONS
from app.people.permissions import Role
from app.people.reads import PERSON
from app.studies.texts import labels_in
from tests.blinding import trial as blinding
from tests.blinding.trial import ARMS, KNOWN, WORLD
from tests.factories import definition
from tests.house.routes import ANYONE, SIGNED_IN, WHO, Door, expected_roles
from tests.house.test_routes import NO_PAGE, WEB
from tests.studies.marked import with_marked_words

MARKED = re.compile(r"«[^»]*»")
SOME = {"number": (1, 2, 3), "visit": ("baseline", "week18", "tx01"), "path": ("consent/1.en.md", "study.yaml")}


def _with_words() -> dict[str, Any]:
    """What is changed of the small trial: words in German, every one of them marked."""
    worded = with_marked_words(definition(**ARMS))
    said = worded.model_dump(mode="json")
    return {"texts": said["texts"], "instruments": said["instruments"]}


def _texts(soup: BeautifulSoup) -> Iterator[str]:
    for written in soup.select("body [lang=en]"):
        written.decompose()
    for text in soup.find_all(string=True):
        if not isinstance(text, Comment):
            yield " ".join(text.split())
    for name in ("aria-label", "title", "placeholder", "alt", "value", "data-label"):
        yield from (" ".join(str(each[name]).split()) for each in soup.select(f"[{name}]"))


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
                for text in _texts(BeautifulSoup(reply.text, "html.parser")):
                    if found := english.findall(MARKED.sub("", text)):
                        left.setdefault(f"{door.name} for {who}", set()).update((*found, text[:80]))
    assert left == {}
    assert marks > 1000, "pages are in the other words"
