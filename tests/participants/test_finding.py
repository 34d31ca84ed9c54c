"""Somebody is found by who they are, at one's own sites; who is shown is in the log, what was asked is not."""

import json
from datetime import date

import pytest
from sqlmodel import Session

from app.foundation.errors import Invalid, NotAllowed
from app.participants import finding
from app.participants.actions import erase_identity, fail_screening, screen
from app.participants.finding import find_like, find_people
from app.participants.reads import participant_by_code
from app.participants.rules.personal import (
    PersonalData,
    days_meant,
    fits,
    in_common,
    personal_problems,
    why_not_look_for,
)
from app.studies.in_use import StudyInUse
from tests.factories import NOW, mini_study, person, site
from tests.participants.acts import ELIGIBLE, log_of

ZOE = PersonalData("Zoë Marie", "van der Berg-Núñez", "1980-05-17", "+61 2 9999 0001", "Zoe@Example.org")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("zoe", True),
        ("ZOË berg", True),
        ("nunez zoe", True),
        ("van der", True),
        ("Marie", True),
        ("oe", False),
        ("zoe smith", False),
        ("1980-05-17", True),
        ("1980-05-18", False),
        ("02 9999 0001", True),
        ("(98) 0001", False),
        ("9999-0001", True),
        ("zoe@", True),
        ("@example.org", True),
        ("zoe@example.com", False),
    ],
)
def test_a_beginning_of_each_name_is_enough(text: str, found: bool) -> None:
    assert why_not_look_for(text) is None
    assert fits(ZOE, text) is found
    assert not fits(PersonalData(), text)


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("17.05.1980", "de", True),
        ("17. Mai 1980", "de", True),
        ("17 May 1980", "en", True),
        ("05/17/1980", "en", True),
        ("17/5/1980", "es", True),
        ("18.05.1980", "de", False),
        ("May 1980", "en", False),
    ],
)
def test_a_date_of_birth_is_found_as_the_language_writes_it(text: str, language: str, found: bool) -> None:
    assert why_not_look_for(text) is None
    assert fits(ZOE, text, born=days_meant(text, language)) is found


@pytest.mark.parametrize(
    "name", ["O\u2019Brien-S\u00e1nchez", "O'Brien-Sanchez", "OBrien S\u00e1nchez", "O\u02bcBrien\u2010S\u00e1nchez"]
)
@pytest.mark.parametrize(
    "text", ["obrien", "o'brien", "O\u2019Brien", "O\u2019Brien-S\u00e1nchez", "obrien sanchez", "sanchez o'b"]
)
def test_apostrophes_and_hyphens_are_ignored_alike(name: str, text: str) -> None:
    assert fits(PersonalData("Ana", name), text)
    assert not fits(PersonalData("Ana", "Bri\u00e9n"), text)


def test_a_name_is_found_as_it_is_parted_and_as_one_word() -> None:
    for text in ("o brien", "annemarie", "anne-marie", "marie", "obriensanchez"):
        assert fits(PersonalData("Anne-Marie", "O\u2019Brien-S\u00e1nchez"), text), text


@pytest.mark.parametrize("text", ["", "  ", "z", "é", "123", "+61", "x" * 201, "-"])
def test_too_little_finds_nobody(text: str) -> None:
    assert why_not_look_for(text) is not None


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (PersonalData("ZOE MARIE", "Van Der Berg Nunez"), ("given_name", "family_name")),
        (PersonalData("Zoë Marie", "van der Berg-Núñez", "1980-05-17"), ("given_name", "family_name", "date_of_birth")),
        (PersonalData("Zoë Marie", "van der Berg-Núñez", "1981-05-17"), ()),
        (PersonalData("Zoë", "van der Berg-Núñez"), ()),
        (PersonalData(date_of_birth="1980-05-17"), ()),
        (PersonalData(phone="02 9999 0001"), ("phone",)),
        (PersonalData(phone="0001"), ()),
        (PersonalData(email="zoe@example.ORG"), ("email",)),
        (PersonalData(), ()),
    ],
)
def test_what_two_people_share_says_whether_they_may_be_one(other: PersonalData, shared: tuple[str, ...]) -> None:
    assert in_common(ZOE, other) == in_common(other, ZOE) == shared
    assert in_common(PersonalData(), PersonalData()) == ()


def _screened(session: Session, study: StudyInUse, personal: PersonalData, at: str = "north") -> str:
    by = person(session, study, "coordinator", site_code=at)
    asked = {"answers": ELIGIBLE, "failure_reason": None, "personal": personal, "by": by, "now": NOW}
    return screen(session, study, site=site(session, study, at), **asked)[0].code  # type: ignore[arg-type]


@pytest.mark.requirement("GDPR-5")
def test_who_is_found_is_of_ones_own_sites_and_in_the_log(session: Session) -> None:
    study = mini_study(session)
    here = _screened(session, study, ZOE)
    _screened(session, study, ZOE, at="south")
    _screened(session, study, PersonalData("Anna", "Berg"))
    by = person(session, study, "coordinator", site_code="north")
    before = len(log_of(session))
    found, more = find_people(session, study, text="Zoe B", by=by, now=NOW)
    assert [(each.code, each.site, each.personal) for each in found] == [(here, "north", ZOE)]
    assert not more
    assert str(ZOE.family_name) not in repr(found)
    (entry,) = log_of(session)[before:]
    assert (entry.action, entry.participant, entry.subject) == ("identity.shown", here, "identity")
    assert "Zoe" not in json.dumps([entry.new, entry.old, entry.why])
    assert find_people(session, study, text="Nobody", by=by, now=NOW) == ([], False)
    assert len(log_of(session)) == before + 1
    with pytest.raises(Invalid, match="two letters"):
        find_people(session, study, text="z", by=by, now=NOW)
    for role in ("assessor", "monitor", "data_manager", "statistician"):
        with pytest.raises(NotAllowed):
            find_people(session, study, text="Zoe", by=person(session, study, role, site_code=None), now=NOW)


def test_the_newest_come_first_and_who_was_erased_never(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    study = mini_study(session)
    codes = [_screened(session, study, ZOE) for _ in range(4)]
    by = person(session, study, "coordinator", "investigator", site_code="north")
    monkeypatch.setattr(finding, "MOST_FOUND", 2)
    found, more = find_people(session, study, text="zoe", by=by, now=NOW)
    assert ([each.code for each in found], more) == ([codes[3], codes[2]], True)
    gone = participant_by_code(session, study, codes[3], by=by)
    fail_screening(session, study, gone, reason="declined", by=by, now=NOW)
    erase_identity(session, study, gone, why="Asked for it.", by=by, now=NOW)
    assert [each.code for each in find_people(session, study, text="zoe", by=by, now=NOW)[0]] == [codes[2], codes[1]]


def test_who_is_like_somebody_is_told_to_those_who_may_know(session: Session) -> None:
    study = mini_study(session)
    code = _screened(session, study, ZOE)
    there = site(session, study, "north").id
    assert there is not None
    twin = PersonalData(phone="0299990001", given_name="Z")
    by = person(session, study, "coordinator", site_code="north")
    (like,) = find_like(session, study, twin, site_id=there, by=by, now=NOW)
    assert (like.code, like.shared) == (code, ("phone",))
    assert log_of(session)[-1].action == "identity.shown"
    assessor = person(session, study, "assessor", site_code="north")
    assert find_like(session, study, twin, site_id=there, by=assessor, now=NOW) == []
    assert find_like(session, study, PersonalData(), site_id=there, by=by, now=NOW) == []


def test_signs_that_join_the_letters_of_a_name_are_part_of_it():
    """Persian and Sinhala names are written with them; whoever types them without means the same person."""
    today = date(2026, 11, 27)
    joined = PersonalData(
        given_name="\u0db6\u0dca\u200d\u0dbb", family_name="\u0645\u0647\u062f\u06cc\u200c\u0632\u0627\u062f\u0647"
    )
    plain = PersonalData(
        given_name="\u0db6\u0dca\u0dbb", family_name="\u0645\u0647\u062f\u06cc\u0632\u0627\u062f\u0647"
    )
    assert personal_problems(joined, today=today) == []
    assert in_common(joined, plain) == ("given_name", "family_name")
    assert fits(joined, str(plain.family_name))
    for sign in ("\u202e", "\u200b", "\n", "\x00"):
        assert [each.rule for each in personal_problems(PersonalData(given_name=f"A{sign}b"), today=today)] == ["text"]
    mail = PersonalData(email="a\u200d@example.org")
    assert [each.field for each in personal_problems(mail, today=today)] == ["email"]
