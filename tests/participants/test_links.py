"""A link opens one thing for one participant, for a time; and nobody else can use it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import select, update
from sqlmodel import Session

from app.foundation.crypto.secrets import token_hash
from app.foundation.database import Database
from app.foundation.errors import Invalid, NotAllowed, Refused
from app.participants.actions import withdraw
from app.participants.links.actions import end_link, finish_link, give_link, is_born_on, open_link
from app.participants.links.reads import LINK, link_of, links_of
from app.participants.links.rules import MOST_TRIES, Purpose, asked_of_participants, birthday_typed, is_open, state_of
from app.participants.models import Participant
from app.people.access import may, require
from app.people.permissions import BY_LINK, Permission
from app.studies.in_use import StudyInUse
from tests.consent.acts import agreed, study_with_consent
from tests.factories import MINI, NOW, TODAY, mini_study, person
from tests.participants.acts import log_of, screened

FORMS = cast("list[dict[str, Any]]", MINI["instruments"])
ANSWERED = [{**form, "respondent": "participant"} if form["code"] == "pain" else form for form in FORMS]


def study_of(session: Session, **changes: Any) -> StudyInUse:
    return study_with_consent(session, **{"instruments": ANSWERED, **changes})


def given(session: Session, study: StudyInUse, participant: Participant, **changes: Any) -> str:
    asked: dict[str, Any] = {
        "purpose": Purpose.QUESTIONS,
        "about": "week18",
        "language": "en",
        "by": person(session, study, "coordinator"),
        "now": NOW,
    }
    return give_link(session, study, participant, **{**asked, **changes})


def consented(session: Session, study: StudyInUse) -> Participant:
    one = screened(session, study)
    agreed(session, study, one)
    return one


@pytest.mark.requirement("EMA-7")
def test_only_the_hash_of_a_link_is_kept_and_the_log_does_not_say_it(session: Session) -> None:
    study = study_of(session)
    one = consented(session, study)
    token = given(session, study, one)
    (kept,) = links_of(session, one.id or 0)
    assert kept.token_hash == token_hash(token)
    (told,) = log_of(session, action="link.given")
    assert token not in str(tuple(told))
    opened = link_of(session, token, now=NOW)
    assert opened is not None
    assert (opened.participant.code, opened.link.about, opened.timezone) == (one.code, "week18", "Australia/Sydney")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "open"),
        ({"expires_at": NOW}, "expired"),
        ({"tries": MOST_TRIES}, "locked"),
        ({"tries": MOST_TRIES - 1}, "open"),
        ({"ended_at": NOW, "ended_by": "somebody"}, "ended"),
        ({"done_at": NOW}, "done"),
        ({"done_at": NOW, "expires_at": NOW}, "done"),
    ],
)
def test_a_link_works_until_it_is_used_taken_back_locked_or_too_old(
    session: Session, changes: dict[str, Any], state: str
) -> None:
    study = study_of(session)
    one = consented(session, study)
    token = given(session, study, one)
    if changes:
        session.execute(update(LINK).values(**changes))
    (kept,) = links_of(session, one.id or 0)
    assert (state_of(kept, NOW), is_open(kept, NOW)) == (state, state == "open")
    assert (link_of(session, token, now=NOW) is not None) is (state == "open")


def test_a_newer_link_for_the_same_thing_ends_the_older_one(session: Session) -> None:
    study = study_of(session)
    one = consented(session, study)
    first, second = given(session, study, one), given(session, study, one)
    other = given(session, study, one, about="baseline")
    assert link_of(session, first, now=NOW) is None
    assert link_of(session, second, now=NOW) is not None
    assert link_of(session, other, now=NOW) is not None


def test_a_link_that_was_taken_back_opens_nothing(session: Session) -> None:
    study = study_of(session)
    one = consented(session, study)
    token, by = given(session, study, one), person(session, study, "coordinator")
    (kept,) = links_of(session, one.id or 0)
    end_link(session, study, one, kept.id or 0, by=by, now=NOW)
    assert link_of(session, token, now=NOW) is None
    with pytest.raises(Refused, match="taken back before"):
        end_link(session, study, one, kept.id or 0, by=by, now=NOW)
    assert [entry.username for entry in log_of(session, action="link.ended")] == [by.username]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"about": "tx01"}, ["about"]),  # nothing that participants answer
        ({"about": "nowhere"}, ["about"]),
        ({"purpose": Purpose.CONSENT, "about": "9"}, ["about"]),
        ({"days": 0}, ["days"]),
        ({"days": 91}, ["days"]),
    ],
)
def test_a_link_is_for_something_that_there_is(session: Session, changes: dict[str, Any], fields: list[str]) -> None:
    study = study_of(session)
    one = consented(session, study)
    with pytest.raises(Invalid) as caught:
        given(session, study, one, **changes)
    assert [problem.field for problem in caught.value.problems] == fields


def test_nobody_is_asked_before_consent_or_after_they_left(session: Session) -> None:
    study = study_of(session)
    one = screened(session, study)
    with pytest.raises(Refused, match="Record their consent first"):
        given(session, study, one)
    agreed(session, study, one)
    given(session, study, one)
    withdraw(
        session, study, one, level="visits", reason="Moved", on=TODAY, by=person(session, study, "coordinator"), now=NOW
    )
    for purpose, about in ((Purpose.QUESTIONS, "week18"), (Purpose.CONSENT, "2")):
        with pytest.raises(Refused):
            given(session, study, one, purpose=purpose, about=about)


def test_whoever_may_not_gives_no_link(session: Session) -> None:
    study = study_of(session)
    one = consented(session, study)
    for by in (person(session, study, "monitor"), person(session, study, "coordinator", site_code="south")):
        with pytest.raises(NotAllowed):
            given(session, study, one, by=by)


@pytest.mark.requirement("SPI-32a")
def test_only_who_knows_the_date_of_birth_goes_on_and_five_wrong_ones_lock_the_link(session: Session) -> None:
    study = study_of(session)
    one = screened(session, study)
    token = given(session, study, one, purpose=Purpose.CONSENT, about="2")
    opened = link_of(session, token, now=NOW)
    assert opened is not None
    by = opened.actor("test")
    assert is_born_on(session, opened, " 1980-02-29 ", by=by, now=NOW)
    for _ in range(MOST_TRIES):
        assert not is_born_on(session, opened, "1980-02-28", by=by, now=NOW)
    assert not is_born_on(session, opened, "1980-02-29", by=by, now=NOW)
    assert link_of(session, token, now=NOW) is None
    told = log_of(session, action="link.identity_not_proven")
    assert [(entry.username, entry.role, entry.via) for entry in told] == [("participant", "participant", "link")] * 5


@pytest.mark.parametrize(
    ("typed", "language", "read"),
    [
        ("1980-02-03", "de", "1980-02-03"),
        ("03.02.1980", "de", "1980-02-03"),
        (" 3. Februar 1980 ", "de", "1980-02-03"),
        ("3/2/1980", "es", "1980-02-03"),
        ("3 de febrero de 1980", "es", "1980-02-03"),
        ("3 Feb 1980", "en", "1980-02-03"),
        ("13/02/1980", "en", "1980-02-13"),
        ("03/02/1980", "en", "in two ways"),
        ("02/1980", "de", "cannot be read"),
        ("1980", "en", "cannot be read"),
        ("30.02.1980", "de", "cannot be read"),
        ("  ", "de", "Type your date of birth"),
        ("soon", "en", "cannot be read"),
    ],
)
def test_a_date_of_birth_is_read_as_the_language_of_the_link_writes_it(typed: str, language: str, read: str) -> None:
    if read[0].isdigit():
        assert birthday_typed(typed, language) == read
        return
    with pytest.raises(Invalid, match=read) as told:
        birthday_typed(typed, language)
    assert [problem.field for problem in told.value.problems] == ["born"]


def test_what_is_no_date_of_birth_is_no_try(session: Session) -> None:
    study = study_of(session)
    token = given(session, study, screened(session, study), purpose=Purpose.CONSENT, about="2")
    opened = link_of(session, token, now=NOW)
    assert opened is not None
    by = opened.actor("test")
    for typed in ("", "soon", "1980", "02/03/1980") * MOST_TRIES:
        with pytest.raises(Invalid):
            is_born_on(session, opened, typed, by=by, now=NOW)
    assert is_born_on(session, opened, "29 Feb 1980", by=by, now=NOW)
    assert not log_of(session, action="link.identity_not_proven")


def test_guessing_many_times_at_once_gives_no_more_tries(database: Database) -> None:
    with database.writing() as session:
        study = study_of(session)
        one = screened(session, study)
        token = given(session, study, one, purpose=Purpose.CONSENT, about="2")
        opened = link_of(session, token, now=NOW)
        assert opened is not None

    def guess(number: int) -> None:
        with database.writing() as session:
            is_born_on(session, opened, f"19{number:02}-01-01", by=opened.actor("test"), now=NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(guess, range(12)))
    with database.reading() as session:
        (kept,) = links_of(session, one.id or 0)
        assert kept.tries == MOST_TRIES
        assert len(log_of(session, action="link.identity_not_proven")) == MOST_TRIES


def test_opening_and_finishing_are_written_down_once(session: Session) -> None:
    study = study_of(session)
    opened = link_of(session, given(session, study, consented(session, study)), now=NOW)
    assert opened is not None
    by = opened.actor("test")
    for _ in range(2):
        open_link(session, opened, by=by, now=NOW)
        finish_link(session, opened, by=by, now=NOW + timedelta(hours=1))
    assert [len(log_of(session, action=f"link.{what}")) for what in ("opened", "done")] == [1, 1]
    kept = session.execute(select(LINK.c.opened_at, LINK.c.done_at)).one()
    assert (kept.opened_at, kept.done_at) == (NOW, NOW + timedelta(hours=1))


@pytest.mark.parametrize("purpose", list(BY_LINK))
def test_by_a_link_one_may_do_what_it_is_for_and_nothing_else(session: Session, purpose: str) -> None:
    study = study_of(session)
    opened = link_of(session, given(session, study, consented(session, study)), now=NOW)
    assert opened is not None
    opened.link.purpose = purpose
    actor, here = opened.actor("test"), opened.participant.site_id
    held = {permission for permission in Permission if may(actor, permission, site_id=here)}
    assert held == BY_LINK[purpose]
    assert not any(may(actor, permission, site_id=here + 1) for permission in Permission)
    assert actor.blinded
    with pytest.raises(NotAllowed):
        require(actor, Permission.IDENTITY_READ, site_id=here)


def test_what_participants_answer_is_what_the_study_says(session: Session) -> None:
    study = study_of(session)
    assert [form.code for form in asked_of_participants(study.definition, "week18")] == ["pain"]
    assert asked_of_participants(mini_study(session, code="other").definition, "week18") == ()
