"""Persons: added, invited to choose a password, deactivated; a username is never given again."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from app.audit.verify import verify
from app.foundation.errors import Invalid, NotAllowed, NotFound, Refused
from app.mail.actions import MAIL
from app.people import actions, reads
from app.people.access import Actor, Grant
from app.people.permissions import Role
from app.people.reads import INVITATION, PERSON
from app.people.rules import INVITATION_LASTS, INVITATION_OVER, WRONG
from tests import factories
from tests.factories import NOW
from tests.people.conftest import (
    CLI,
    PASSWORD,
    add,
    as_actor,
    everything_logged,
    logged,
    row_of,
    sign_in,
    signed_in,
)

NEW = "walnut ladder seventeen"


def details(**changes):
    return {"username": "bert", "name": "Bert", "email": "b@example.org", "organisation": "Unit", **changes}


@pytest.mark.requirement("FDA-8", "P11-e1", "E6-7", "AX11-12")
def test_somebody_is_added_without_password_and_without_rights(session):
    bert = actions.add_person(session, **details(username=" Bert "), by=CLI, now=NOW)
    assert (bert.username, bert.has_password, bert.has_second_factor, bert.is_active) == ("bert", False, False, True)
    assert reads.memberships_of(session, bert.id) == []
    assert logged(session) == ["person.added"]
    assert "b@example.org" not in everything_logged(session)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"username": "b"}, "username"),
        ({"username": "\u0430nna"}, "username"),  # Cyrillic a
        ({"name": " "}, "name"),
        ({"name": "Bert\nadmin"}, "name"),
        ({"organisation": ""}, "organisation"),
        ({"email": "bert"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "bertbertbertbert1"}, "password"),
    ],
)
def test_what_cannot_be_stored_is_said_field_by_field(session, changes, field):
    with pytest.raises(Invalid) as caught:
        actions.add_person(session, **details(**changes), by=CLI, now=NOW)
    assert [problem.field for problem in caught.value.problems] == [field]
    assert logged(session) == []


@pytest.mark.requirement("P11-100a", "P11-300a")
def test_a_username_is_never_given_again(session, anna):
    actions.deactivate(session, anna.id, by=CLI, now=NOW)
    for username in ("anna", "ANNA", "\uff41\uff4e\uff4e\uff41"):
        with pytest.raises(Invalid, match="never given again"):
            actions.add_person(session, **details(username=username), by=CLI, now=NOW)


@pytest.mark.requirement("P11-200a3", "SEC-30")
@pytest.mark.parametrize("via", ["web", "api"])
def test_an_administrator_never_chooses_a_password(session, via):
    with pytest.raises(Refused, match="does not choose"):
        actions.add_person(session, **details(password=PASSWORD), by=replace(CLI, via=via), now=NOW)


@pytest.mark.requirement("P11-g")
def test_only_an_administrator_of_the_installation_manages_persons(session, anna):
    study = factories.mini_study(session)
    coordinator = factories.person(session, study, "coordinator")
    of_one_study = Actor(
        anna.id, "anna", "Anna", "Unit", grants=(Grant(Role.ADMINISTRATOR),), study_id=study.id, request_id="test"
    )
    for by in (coordinator, of_one_study):
        with pytest.raises(NotAllowed):
            actions.add_person(session, **details(), by=by, now=NOW)
        with pytest.raises(NotAllowed):
            actions.invite(session, anna.id, by=by, now=NOW)
        with pytest.raises(NotAllowed):
            actions.deactivate(session, anna.id, by=by, now=NOW)
        with pytest.raises(NotAllowed):
            actions.activate(session, anna.id, by=by, now=NOW)
    administrator = factories.person(session, study, "administrator")
    assert actions.add_person(session, **details(), by=administrator, now=NOW).username == "bert"


# The link


@pytest.mark.requirement("P11-200a3", "SEC-30")
def test_the_person_chooses_the_password_with_a_link_once(session):
    bert = add(session, "bert", password=None)
    token = actions.invite(session, bert.id, by=CLI, now=NOW)
    assert reads.invited_person(session, token, now=NOW) == bert
    assert "too short" in str(actions.accept_invitation(session, token, "short", now=NOW))
    assert actions.accept_invitation(session, token, NEW, now=NOW) is None
    assert reads.invited_person(session, token, now=NOW) is None
    assert actions.accept_invitation(session, token, "another password entirely", now=NOW) == INVITATION_OVER
    assert sign_in(session, "bert", NEW).token is not None
    assert logged(session)[:3] == ["person.added", "invitation.created", "password.changed"]
    text = everything_logged(session)
    assert token not in text
    assert NEW not in text
    assert token.encode() not in session.execute(select(INVITATION.c.token_hash)).scalar()


def test_a_link_ends_when_it_is_old_replaced_or_the_person_is_gone(session, anna):
    first = actions.invite(session, anna.id, by=CLI, now=NOW)
    second = actions.invite(session, anna.id, by=CLI, now=NOW)
    assert actions.accept_invitation(session, first, NEW, now=NOW) == INVITATION_OVER
    assert actions.accept_invitation(session, second, NEW, now=NOW + INVITATION_LASTS) == INVITATION_OVER
    assert actions.accept_invitation(session, "nonsense", NEW, now=NOW) == INVITATION_OVER
    actions.deactivate(session, anna.id, by=CLI, now=NOW)
    assert actions.accept_invitation(session, second, NEW, now=NOW) == INVITATION_OVER
    with pytest.raises(Refused, match="deactivated"):
        actions.invite(session, anna.id, by=CLI, now=NOW)
    with pytest.raises(NotFound):
        actions.invite(session, 999_999, by=CLI, now=NOW)


@pytest.mark.requirement("SEC-30", "SEC-34")
def test_a_link_does_not_go_around_the_second_factor_and_ends_every_session(session, anna):
    import pyotp

    token = sign_in(session).token
    enrolment = actions.enrol_second_factor_start(session, by=as_actor(anna), now=NOW)
    code = pyotp.TOTP(enrolment.secret).at(NOW)
    actions.enrol_second_factor_confirm(session, enrolment.pending, code, token=token, by=as_actor(anna), now=NOW)
    link = actions.invite(session, anna.id, by=CLI, now=NOW)
    assert signed_in(session, token) is not None
    assert actions.accept_invitation(session, link, NEW, now=NOW) is None
    assert signed_in(session, token) is None
    assert sign_in(session, password=NEW).needs_code


@pytest.mark.requirement("SEC-45")
def test_a_link_used_twice_at_once_works_once(database):
    from concurrent.futures import ThreadPoolExecutor

    with database.writing() as session:
        link = actions.invite(session, add(session).id, by=CLI, now=NOW)

    def accept(number):
        with database.writing() as session:
            return actions.accept_invitation(session, link, f"{NEW} {number}", now=NOW)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(map(str, pool.map(accept, range(4)))) == sorted(["None", *[INVITATION_OVER] * 3])


# Changing it


@pytest.mark.requirement("SEC-34", "SEC-31", "P11-e1")
def test_changing_the_password_needs_the_present_one_and_ends_the_other_sessions(session, anna):
    here, there = sign_in(session).token, sign_in(session).token
    by = as_actor(anna)
    assert "not right" in str(actions.set_password(session, current="wrong", new=NEW, token=here, by=by, now=NOW))
    assert "too short" in str(actions.set_password(session, current=PASSWORD, new="short", token=here, by=by, now=NOW))
    guessed = actions.set_password(session, current=PASSWORD, new="anna.berg@example", token=here, by=by, now=NOW)
    assert "easy to guess" in str(guessed)
    assert signed_in(session, there) is not None
    assert actions.set_password(session, current=PASSWORD, new=NEW, token=here, by=by, now=NOW) is None
    assert signed_in(session, there) is None
    assert signed_in(session, here) is not None
    assert sign_in(session).problem == WRONG
    assert sign_in(session, password=NEW).token is not None
    assert "password.changed" in logged(session)
    (mail,) = session.execute(select(MAIL.c.to_address, MAIL.c.subject, MAIL.c.body)).all()
    assert mail.to_address == "anna@example.org"
    assert "was changed. If it was not you" in mail.body
    assert "Anna" not in mail.body


# Leaving


@pytest.mark.requirement("P11-d", "SEC-34", "FDA-8")
def test_deactivating_ends_sessions_tokens_links_and_roles_at_once(session):
    study = factories.mini_study(session)
    actor = factories.person(session, study, "coordinator", username="cora")
    other = factories.person(session, study, "coordinator", username="other")
    link = actions.invite(session, actor.person_id, by=CLI, now=NOW)
    assert actions.accept_invitation(session, link, NEW, now=NOW) is None
    token = sign_in(session, "cora", NEW).token
    _, text = actions.create_token(
        session,
        person_id=actor.person_id,
        study_id=study.id,
        log=study.code,
        name="script",
        scopes=["entry.read"],
        expires_at=NOW + timedelta(days=1),
        by=actor,
        now=NOW,
    )
    later = NOW + timedelta(minutes=1)
    actions.deactivate(session, actor.person_id, by=CLI, now=later, why="Left the unit.")
    assert signed_in(session, token, later) is None
    assert reads.token_owner(session, text, now=later, request_id="") is None
    assert sign_in(session, "cora", NEW, now=later).problem == WRONG
    assert reads.memberships_of(session, actor.person_id) == []
    assert {right.username for right in reads.rights_at(session, NOW)} == {"cora", "other"}
    assert {right.username for right in reads.rights_at(session, later)} == {"other"}
    assert logged(session, study.code) == ["token.created", "role.revoked", "token.revoked"]
    assert "person.deactivated" in logged(session)
    with pytest.raises(Refused, match="already"):
        actions.deactivate(session, actor.person_id, by=CLI, now=later)
    assert reads.memberships_of(session, other.person_id) != []
    assert verify(session, "system").intact
    assert verify(session, study.code).intact


def test_somebody_who_comes_back_chooses_a_new_password_and_has_no_roles(session, anna):
    study = factories.mini_study(session)
    site_id = factories.site(session, study).id
    actions.grant(session, person_id=anna.id, role=Role.ASSESSOR, study_id=study.id, site_id=site_id, by=CLI, now=NOW)
    actions.deactivate(session, anna.id, by=CLI, now=NOW)
    actions.activate(session, anna.id, by=CLI, now=NOW)
    assert sign_in(session).problem == WRONG
    assert reads.memberships_of(session, anna.id) == []
    assert row_of(session).is_active
    with pytest.raises(Refused, match="is active"):
        actions.activate(session, anna.id, by=CLI, now=NOW)


def test_nobody_deactivates_themselves_or_the_last_administrator(session):
    administrator = factories.person(session, None, "administrator", username="ada")
    with pytest.raises(Refused, match="yourself"):
        actions.deactivate(session, administrator.person_id, by=administrator, now=NOW)
    with pytest.raises(Refused, match="last administrator"):
        actions.deactivate(session, administrator.person_id, by=CLI, now=NOW)
    factories.person(session, None, "administrator", username="bea")
    actions.deactivate(session, administrator.person_id, by=CLI, now=NOW)


@pytest.mark.requirement("P11-e1")
def test_nothing_is_stored_when_the_audit_entry_cannot_be(database, monkeypatch):
    from app.people.actions import persons

    def broken(*_arguments, **_named):
        raise OSError("The disk is full.")

    with database.writing() as session:
        anna = add(session)
    monkeypatch.setattr(persons, "record", broken)
    for attempt in (
        lambda session: actions.add_person(session, **details(), by=CLI, now=NOW),
        lambda session: actions.invite(session, anna.id, by=CLI, now=NOW),
        lambda session: actions.deactivate(session, anna.id, by=CLI, now=NOW),
        lambda session: actions.set_password(session, current=PASSWORD, new=NEW, by=as_actor(anna), now=NOW),
    ):
        with pytest.raises(OSError, match="disk"), database.writing() as session:
            attempt(session)
    with database.reading() as session:
        assert session.execute(select(func.count()).select_from(PERSON)).scalar() == 1
        assert session.execute(select(func.count()).select_from(INVITATION)).scalar() == 0
        assert session.execute(select(func.count()).select_from(MAIL)).scalar() == 0
        assert row_of(session) == anna
    with database.writing() as session:
        assert sign_in(session).token is not None


def test_persons_are_listed_a_page_at_a_time(session):
    study = factories.mini_study(session)
    for number in range(7):
        add(session, f"p{number}", password=None)
    factories.person(session, study, "coordinator", username="zoe")
    first = reads.people_page(session, limit=3)
    second = reads.people_page(session, limit=3, cursor=first.next)
    third = reads.people_page(session, limit=3, cursor=second.next)
    assert [person.username for page in (first, second, third) for person in page.rows] == [
        *[f"p{number}" for number in range(7)],
        "zoe",
    ]
    assert first.previous is None
    assert third.next is None
    assert reads.people_page(session, limit=3, cursor=third.previous).rows == second.rows
    assert [person.username for person in reads.people_page(session, study_id=study.id).rows] == ["zoe"]
    assert row_of(session, "ZOE").username == "zoe"
    assert row_of(session, "nobody") is None
