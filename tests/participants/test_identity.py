"""Who somebody is can be read by nobody without their key, and by nobody at all once it is destroyed."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import inspect, select, table, text, update
from sqlmodel import Session

from app.audit.verify import verify
from app.foundation.crypto.envelopes import CannotOpen
from app.foundation.errors import Conflict, Invalid, NotAllowed, Refused
from app.participants.actions import change_identity, erase_identity, reveal_identity, withdraw
from app.participants.identity import (
    FIELD_SIZE,
    IDENTITY,
    SIZE,
    from_log,
    open_for,
    open_personal,
    participant_key,
    seal_for,
    seal_personal,
    sealed_for_log,
)
from app.participants.reads import initials_of
from app.participants.rules import PersonalData, personal_problems
from tests.factories import NOW, TODAY, mini_study, person
from tests.participants.acts import ANNA, log_of, screened

KEY = bytes(range(32))
names = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=80)


@given(names, names)
def test_every_identity_has_the_same_length(given_name: str, family_name: str) -> None:
    personal = PersonalData(given_name, family_name, "1980-02-29", "+" + "1" * 39, "a" * 190 + "@bcd.org").tidy()
    assert not personal_problems(personal, today=TODAY)
    sealed = seal_personal(KEY, 1, 2, personal)
    assert len(sealed) == 12 + 4 + SIZE + 16
    assert open_personal(KEY, 1, 2, sealed) == personal
    logged = sealed_for_log(KEY, 2, "given_name", personal.given_name)
    assert len(base64.b64decode(logged)) == 12 + 4 + FIELD_SIZE + 16
    assert from_log(KEY, 2, "given_name", logged) == personal.given_name


@pytest.mark.requirement("FDA-11")
def test_nothing_of_the_person_stands_in_any_table_in_the_clear(session: Session) -> None:
    study = mini_study(session)
    screened(session, study)
    session.flush()
    for name in inspect(session.connection()).get_table_names():
        for row in session.execute(select(text("*")).select_from(table(name))):
            for value in row:
                raw = value if isinstance(value, bytes) else str(value).encode()
                for word in (b"Annabella", b"Muster", b"1980-02-29", b"5550 0000", b"anna@"):
                    assert word not in raw, name


def test_identities_that_change_places_do_not_open(session: Session) -> None:
    study = mini_study(session)
    one, two = screened(session, study), screened(session, study)
    row = session.execute(select(IDENTITY).where(IDENTITY.c.participant_id == one.id)).one()
    moved = update(IDENTITY).where(IDENTITY.c.participant_id == two.id)
    session.execute(moved.values(wrapped_key=row.wrapped_key, sealed=row.sealed))
    by = person(session, study, "coordinator")
    with pytest.raises(CannotOpen):
        reveal_identity(session, study, two, by=by, now=NOW)


def test_showing_who_somebody_is_is_written_down(session: Session) -> None:
    study = mini_study(session)
    by = person(session, study, "coordinator")
    one = screened(session, study, by=by)
    shown = reveal_identity(session, study, one, by=by, now=NOW)
    assert shown.personal == ANNA
    assert shown.version == 1
    (entry,) = log_of(session, action="identity.shown")
    assert (entry.participant, entry.username) == (one.code, by.username)


def test_only_some_roles_at_the_site_learn_who_somebody_is(session: Session) -> None:
    study = mini_study(session)
    one = screened(session, study)
    assert one.id is not None
    for role, where in (("assessor", "north"), ("data_manager", "north"), ("coordinator", "south")):
        by = person(session, study, role, site_code=where)
        with pytest.raises(NotAllowed):
            reveal_identity(session, study, one, by=by, now=NOW)
        assert initials_of(session, [one], by=by) == {}
    assert initials_of(session, [one], by=person(session, study, "investigator")) == {one.id: "AM"}
    assert not log_of(session, action="identity.shown")


@pytest.mark.requirement("GDPR-5")
def test_a_correction_keeps_old_and_new_in_the_log_sealed(session: Session) -> None:
    study = mini_study(session)
    by = person(session, study, "coordinator")
    one = screened(session, study, by=by)
    assert one.id is not None
    new = PersonalData("Anne", "Muster", "1980-02-29", None, "anna@example.org")
    assert change_identity(session, study, one, personal=new, version=1, why="Misspelt", by=by, now=NOW) == 2
    assert reveal_identity(session, study, one, by=by, now=NOW).personal == new
    key = participant_key(session, one.id)
    assert key is not None
    told = {}
    for entry in log_of(session, action="identity.changed"):
        old, now_ = (from_log(key, one.id, entry.item, kept.strip('"')) for kept in (entry.old, entry.new))
        told[entry.item] = (old, now_)
        assert entry.why == "Misspelt"
    assert told == {"given_name": ("Annabella", "Anne"), "phone": ("+61 2 5550 0000", None)}


def test_a_correction_on_an_old_version_overwrites_nothing(session: Session) -> None:
    study = mini_study(session)
    by = person(session, study, "coordinator")
    one = screened(session, study, by=by)
    change_identity(session, study, one, personal=PersonalData("A"), version=1, why="x", by=by, now=NOW)
    with pytest.raises(Conflict) as caught:
        change_identity(session, study, one, personal=PersonalData("B"), version=1, why="x", by=by, now=NOW)
    assert caught.value.current_version == 2
    with pytest.raises(Invalid):
        change_identity(session, study, one, personal=PersonalData("B"), version=2, why=" ", by=by, now=NOW)
    other = person(session, study, "investigator")
    with pytest.raises(NotAllowed):
        change_identity(session, study, one, personal=PersonalData("B"), version=2, why="x", by=other, now=NOW)


@pytest.mark.requirement("GDPR-5", "LOG-10")
def test_who_was_erased_is_unreadable_and_the_log_still_verifies(session: Session) -> None:
    study = mini_study(session)
    by = person(session, study, "coordinator")
    one = screened(session, study, by=by)
    assert one.id is not None
    sealed = seal_for(session, one.id, b"Anna Muster", "test", 64)
    assert open_for(session, one.id, sealed, "test") == b"Anna Muster"
    with pytest.raises(CannotOpen):
        open_for(session, one.id, sealed, "another purpose")
    with pytest.raises(Refused, match="withdrawal first"):
        erase_identity(session, study, one, why="Asked for it", by=by, now=NOW)
    withdraw(session, study, one, level="visits", reason="Moved away", on=TODAY, by=by, now=NOW)
    erase_identity(session, study, one, why="Asked for it", by=by, now=NOW)
    assert participant_key(session, one.id) is None
    assert open_for(session, one.id, sealed, "test") is None
    assert initials_of(session, [one], by=by) == {}
    with pytest.raises(Refused, match="erased"):
        reveal_identity(session, study, one, by=by, now=NOW)
    with pytest.raises(Refused, match="erased"):
        seal_for(session, one.id, b"x", "test", 64)
    with pytest.raises(Refused, match="already"):
        erase_identity(session, study, one, why="Again", by=by, now=NOW)
    assert len(log_of(session, action="identity.erased")) == 1
    assert verify(session, "mini").intact
