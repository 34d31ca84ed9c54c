"""Every language says everything: no message without a translation, none guessed, the same places in each."""

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from time import process_time

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from app.foundation.languages import (
    TRANSLATIONS,
    asked_for,
    day_in,
    languages,
    name_of,
    nearest,
    patterns_of,
    sentence,
    translations,
)
from app.rendering import language_word, moment, told
from app.safety.deviations.rules import outside_words
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import sentences as extraction

OTHERS = [each for each in languages() if each != "en"]
CATALOGUES = [path for language in OTHERS for path in sorted((TRANSLATIONS / language).glob("LC_MESSAGES/*.po"))]
PLACES = re.compile(r"%%|%\(\w+\)[sd]|%s|\{\w+\}")
ENDING = re.compile(r"(?<=[a-z])\{\w+\}")  # `minute{s}`: a plural that another language forms otherwise
DAY = date(2026, 3, 4)


def _read(path: Path) -> Catalog:
    with path.open("rb") as text:
        return read_po(text, locale=path.parts[-3] if path.suffix == ".po" else None)


def _texts(said: object) -> list[str]:
    return list(said) if isinstance(said, list | tuple) else [str(said)]


@pytest.mark.requirement("EMA-7")
@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_catalogue_is_complete(path: Path) -> None:
    found, template = _read(path), _read(TRANSLATIONS / f"{path.stem}.pot")
    known = {each.id: each for each in found if each.id}
    lacking = [each.id for each in template if each.id and each.id not in known]
    assert not lacking, f"run the commands of translations/README.md: {lacking[:5]}"
    assert not [each.id for each in known.values() if not all(_texts(each.string))], "without a translation"
    assert not [each.id for each in known.values() if each.fuzzy], "guessed, and nobody has looked"
    for each in known.values():
        if isinstance(each.id, tuple):
            assert len(_texts(each.string)) == found.num_plurals, each.id
        for source, said in zip(_texts(each.id), _texts(each.string), strict=False):
            wanted, there = set(PLACES.findall(source)), set(PLACES.findall(said))
            assert there <= wanted, f"{source!r}: {said!r}"
            assert wanted - set(ENDING.findall(source)) <= there, f"{source!r}: {said!r}"
            assert source.count("%%") == said.count("%%"), f"{source!r}: {said!r}"
            assert ("<" in said) == ("<" in source), f"{source!r}: {said!r}"


def test_the_sentences_are_those_of_the_program() -> None:
    now = {each.id for each in extraction.catalogue() if each.id}
    kept = {each.id for each in _read(TRANSLATIONS / "sentences.pot") if each.id}
    assert now == kept, "run python scripts/sentences.py"


def test_german_spanish_and_english_are_there() -> None:
    assert {"en", "de", "es"} <= set(languages())
    assert languages()[0] == "en"
    assert name_of("de") == "Deutsch"


@pytest.mark.parametrize(
    ("wishes", "language"),
    [
        ("de", "de"),
        ("de-CH, en;q=0.8", "de"),
        ("fr, en;q=0.5, de;q=0.7", "de"),
        ("en-GB,en;q=0.9,de;q=0.8", "en"),
        ("de;q=0, en;q=0.1", "en"),
        ("fr", None),
        ("", None),
        ("*", None),
        ("de;q=much", None),
        ("../../etc", None),
    ],
)
def test_a_browser_gets_what_it_likes_best(wishes: str, language: str | None) -> None:
    assert asked_for(wishes) == language


@given(st.text(max_size=60))
def test_no_wish_of_a_browser_breaks_a_page(wishes: str) -> None:
    assert asked_for(wishes) in (None, *languages())
    assert nearest(wishes) in (None, *languages())


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("Say why the date changes.", "Sagen Sie, warum sich das Datum ändert."),
        (
            "The window is 3 Mar 2026 to 5 Apr 2026. Say why the visit was held outside it.",
            "Das Zeitfenster ist 3. März 2026 bis 5. Apr. 2026. Sagen Sie, warum die Visite außerhalb stattfand.",
        ),
        (
            "3 entries are partial. Sign once every entry is complete.",
            "3 Einträge sind unvollständig. Unterschreiben Sie, sobald jeder Eintrag vollständig ist.",
        ),
        (
            "This needs the role coordinator or investigator at this site. Ask your administrator if you should "
            "have it.",
            "Dazu braucht es die Rolle Studienkoordination oder Prüfer an diesem Prüfzentrum. "
            "Fragen Sie Ihre Administration, ob Sie sie haben sollten.",
        ),
        (
            "This needs the role assessor, coordinator or investigator. Ask your administrator if you should have it.",
            "Dazu braucht es die Rolle Outcome-Erhebung, Studienkoordination oder Prüfer. Fragen Sie Ihre "
            "Administration, ob Sie sie haben sollten.",
        ),
        ("Pain {100 %}: at least 3 kg. Correct it.", "Pain {100 %}: mindestens 3 kg. Berichtigen Sie es."),
        (
            "One entry is partial and 3 entries wait for a signature: settle that first, or lock it all the same and "
            "say why.",
            "Ein Eintrag ist unvollständig und 3 Einträge warten auf eine Unterschrift: Klären Sie das zuerst, oder "
            "sperren Sie trotzdem und nennen Sie den Grund.",
        ),
        (
            "Line 3: position 4 is missing before position 5 of stratum “north”.",
            "Zeile 3: Position 4 fehlt vor Position 5 (Stratum „north“).",
        ),
        ("Surgery in the last year: yes. Age: 17 years.", "Surgery in the last year: ja. Age: 17 years."),
        ("Pain now: not answered yet.", "Pain now: noch nicht beantwortet."),
        ("What the study itself says stays.", "What the study itself says stays."),
        ("", ""),
    ],
)
def test_a_sentence_is_said_in_german_with_what_was_put_in(english: str, german: str) -> None:
    assert sentence(english, "de") == german
    assert sentence(english, "de-CH") == german
    assert sentence(english, "en") == english
    assert sentence(english, "xx") == english


@pytest.mark.parametrize(
    ("english", "spanish"),
    [
        ("Say why the date changes.", "Indique por qué cambia la fecha."),
        (
            "This needs the role coordinator or investigator at this site. Ask your administrator if you should "
            "have it.",
            "Esto requiere el rol coordinador o investigador en este centro. Pregunte a su administrador si debería "
            "tenerlo.",
        ),
        (
            "This needs the role assessor, coordinator or investigator. Ask your administrator if you should have it.",
            "Esto requiere el rol evaluador, coordinador o investigador. Pregunte a su administrador si debería "
            "tenerlo.",
        ),
        (
            "M-001: 2 queries stand: close them first, because a lock stops the answer.",
            "M-001: 2 consultas siguen sin resolver: ciérrelas primero, porque un bloqueo impide la respuesta.",
        ),
        (
            "Only if “Pain” is at least 3 or “Sleep well” is yes",
            "Solo si «Pain» es al menos 3 o «Sleep well» es sí",
        ),
    ],
)
def test_a_sentence_is_said_in_spanish_with_what_was_put_in(english: str, spanish: str) -> None:
    assert sentence(english, "es") == spanish
    assert sentence(english, "es-CO") == spanish


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_what_was_put_in_comes_out_unchanged(one: str, other: str) -> None:
    (pattern,) = patterns_of([("There is {one} where {other} was.", "Statt {other} ist dort {one}.")])
    said = pattern.said(f"There is {one} where {other} was.", "xx")
    assert said is not None
    if " where " not in one + other:
        assert said == f"Statt {other} ist dort {one}."


def test_markup_is_a_templates_own_and_text_is_escaped_later() -> None:

    assert told(Markup("Say why."), "de") == Markup("Say why.")
    assert type(told("Say why.", "de")) is str
    assert told(None, "de") is None


def test_days_are_written_as_the_language_writes_them() -> None:

    assert day_in(DAY, "en") == "4 Mar 2026"
    assert day_in(DAY, "de") == "4. März 2026"
    assert day_in(DAY, "de", weekday=True) == "Mi., 4. März 2026"
    assert "4. März 2026 13:05" in moment(datetime(2026, 3, 4, 12, 5, tzinfo=UTC), "Europe/Zurich", "de")


def test_a_language_of_a_study_is_called_by_its_name() -> None:
    assert [language_word(code) for code in ("de", "en-GB", "tlh", "")] == ["Deutsch", "English", "tlh", ""]


def test_what_the_system_says_of_a_visit_outside_its_window_is_said_whole() -> None:
    said = outside_words("Week 18", date(2026, 10, 20), date(2026, 10, 23), date(2026, 11, 20))
    assert sentence(said, "es").endswith("fuera de su ventana (del 23 oct 2026 al 20 nov 2026).")
    assert sentence(said, "de").endswith("außerhalb des Zeitfensters (23. Okt. 2026 bis 20. Nov. 2026).")


def test_a_language_that_is_not_there_says_it_in_english() -> None:
    assert translations("xx").gettext("Sign in") == "Sign in"
    assert translations("../de").gettext("Sign in") == "Sign in"
    assert translations("de-AT").gettext("Sign in") == "Anmelden"


def test_nothing_that_somebody_types_makes_a_sentence_long_to_look_for() -> None:
    # As it may stand in a reason that is shown to others, whose language is another one.
    texts = [
        "A. " * 700,
        "Bad? Choose a: b. " * 120,
        "a: " * 2000,
        "There is no site x, " * 100,
        "There is no such version: " * 100,
    ]
    for text in texts:
        began = process_time()
        assert sentence(text, "de")
        assert process_time() - began < 2.0, text[:40]
