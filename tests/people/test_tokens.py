"""Tokens: they act as their owner in one study, never for more than the owner may, and end at once."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from app.audit.actions import ENTRY
from app.foundation.errors import Invalid, NotAllowed, NotFound, Refused
from app.people import actions, reads
from app.people.access import Actor, Grant, granted_at, may, sites_for, token_grants
from app.people.permissions import NOT_AT_A_SITE, Permission, Role
from app.people.reads import TOKEN
from tests import factories
from tests.factories import NOW
from tests.people.conftest import CLI, everything_logged, logged

MONTH = timedelta(days=30)


@pytest.fixture
def study(session):
    return factories.mini_study(session)


@pytest.fixture
def owner(session, study):
    return factories.person(session, study, "data_manager", username="dora")


def create(session, study, by, **changes):
    values = {
        "person_id": by.person_id,
        "study_id": study.id,
        "log": study.code,
        "name": "nightly export",
        "scopes": ["export.run", "entry.read"],
        "expires_at": NOW + MONTH,
        **changes,
    }
    return actions.create_token(session, **values, by=by, now=NOW)


def actor(session, text, study_id, now=NOW):
    owner = reads.token_owner(session, text, now=now, request_id="r1")
    return owner.actor if owner is not None and study_id in (None, owner.actor.study_id) else None


@pytest.mark.requirement("P11-h", "SEC-32", "FDA-18")
def test_a_token_acts_as_its_owner_within_its_scopes(session, study, owner):
    token, text = create(session, study, owner)
    assert text.startswith("eqp_")
    assert len(text) == 47
    acting = actor(session, text, study.id)
    assert (acting.username, acting.via, acting.study_id, acting.request_id) == ("dora", "api", study.id, "r1")
    assert acting.scopes == {"export.run", "entry.read"}
    assert may(acting, Permission.EXPORT_RUN)
    assert not may(acting, Permission.AUDIT_READ)
    assert actor(session, text, None) == acting
    assert token.id is not None
    assert logged(session, study.code) == ["token.created"]
    assert text not in everything_logged(session)
    assert text not in str(session.execute(select(*TOKEN.c)).all())


@pytest.mark.requirement("SEC-32")
def test_a_token_for_clients_that_accept_digits_alone_is_kept_as_a_hash_too(session, study, owner):
    _, text = create(session, study, owner, hexadecimal=True)
    assert len(text) == 32
    assert set(text) <= set("0123456789ABCDEF")
    acting = actor(session, text, study.id)
    assert (acting.username, acting.scopes) == ("dora", {"export.run", "entry.read"})
    assert actor(session, text.lower(), study.id) is None
    assert text not in str(session.execute(select(*TOKEN.c)).all())


def test_a_token_is_of_one_study(session, study, owner):
    _, text = create(session, study, owner)
    other = factories.mini_study(session, code="mini2")
    assert actor(session, text, other.id) is None


@pytest.mark.parametrize("text", ["", "eqp_", "eqp_nonsense", "nonsense"])
def test_nonsense_is_no_token(session, study, text):
    assert actor(session, text, study.id) is None


def test_a_session_is_no_token_and_a_token_no_session(session, study, owner):
    _, text = create(session, study, owner)
    week = timedelta(days=7)
    assert reads.signed_in(session, text, now=NOW, idle=week, absolute=week) is None


def test_a_token_ends_on_its_day(session, study, owner):
    _, text = create(session, study, owner)
    assert actor(session, text, study.id, NOW + MONTH - timedelta(seconds=1)) is not None
    assert actor(session, text, study.id, NOW + MONTH) is None


@pytest.mark.requirement("P11-h", "P11-300c")
def test_a_revoked_token_ends_at_once(session, study, owner):
    token, text = create(session, study, owner)
    stranger = factories.person(session, study, "data_manager", username="dirk")
    with pytest.raises(NotAllowed):
        actions.revoke_token(session, token.id, log=study.code, by=stranger, now=NOW)
    actions.revoke_token(session, token.id, log=study.code, by=owner, now=NOW)
    assert actor(session, text, study.id) is None
    assert not actions.touch_token(session, text, now=NOW)
    with pytest.raises(Refused, match="already"):
        actions.revoke_token(session, token.id, log=study.code, by=owner, now=NOW)
    with pytest.raises(NotFound):
        actions.revoke_token(session, 999_999, by=owner, now=NOW)
    assert logged(session, study.code) == ["token.created", "token.revoked"]
    second, _ = create(session, study, owner)
    actions.revoke_token(session, second.id, log=study.code, by=CLI, now=NOW)
    assert [bool(row.revoked_at) for row in reads.tokens_of(session, owner.person_id)] == [True, True]


@pytest.mark.requirement("SEC-22")
def test_a_token_loses_what_its_owner_loses(session, study, owner):
    _, text = create(session, study, owner)
    (right,) = reads.memberships_of(session, owner.person_id)
    actions.revoke(session, right.id, by=CLI, now=NOW)
    assert not may(actor(session, text, study.id), Permission.EXPORT_RUN)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["identity.read"]}, "scopes"),
        ({"scopes": ["token.create"]}, "scopes"),
        ({"scopes": ["nonsense"]}, "scopes"),
        ({"sites": ["west"]}, "sites"),
        ({"sites": ["south", "west"]}, "sites"),
        ({"name": " "}, "name"),
        ({"expires_at": NOW}, "expires_at"),
        ({"expires_at": NOW + timedelta(days=367)}, "expires_at"),
    ],
)
def test_what_a_token_cannot_be_is_said(session, study, owner, changes, field):
    with pytest.raises(Invalid) as caught:
        create(session, study, owner, **changes)
    assert [problem.field for problem in caught.value.problems] == [field]


@pytest.mark.requirement("P11-200a3", "P11-g")
def test_nobody_makes_a_token_for_somebody_else_or_without_the_right(session, study, owner):
    stranger = factories.person(session, study, "administrator", site_code=None)
    with pytest.raises(NotAllowed):
        create(session, study, replace(stranger, grants=()))
    with pytest.raises(NotAllowed, match="for yourself"):
        create(session, study, owner, person_id=stranger.person_id)
    with pytest.raises(NotAllowed):
        create(session, study, owner, study_id=factories.mini_study(session, code="mini2").id)
    with pytest.raises(NotAllowed, match="cannot make tokens"):
        create(session, study, replace(owner, via="api"))


def test_the_last_use_of_a_token_is_written_now_and_then(session, study, owner):
    _, text = create(session, study, owner)
    assert actions.touch_token(session, text, now=NOW)
    assert not actions.touch_token(session, text, now=NOW + timedelta(seconds=29))
    assert actions.touch_token(session, text, now=NOW + timedelta(seconds=30))
    (row,) = reads.tokens_of(session, owner.person_id, study_id=study.id)
    assert (row.last_used_at, row.scopes) == (NOW + timedelta(seconds=30), ("entry.read", "export.run"))


@pytest.mark.requirement("P11-e1")
def test_no_token_is_made_when_the_audit_entry_cannot_be_written(database, monkeypatch):
    from app.people.actions import tokens

    with database.writing() as session:
        study = factories.mini_study(session)
        owner = factories.person(session, study, "data_manager")

    def broken(*_arguments, **_named):
        raise OSError("The disk is full.")

    monkeypatch.setattr(tokens, "record", broken)
    with pytest.raises(OSError, match="disk"), database.writing() as session:
        create(session, study, owner)
    with database.reading() as session:
        assert reads.tokens_of(session, owner.person_id) == []


# Sites

grants_of_somebody = st.lists(st.builds(Grant, st.sampled_from(Role), st.sampled_from([None, 1, 2, 3])), max_size=4)


@pytest.mark.requirement("SEC-22")
@given(grants_of_somebody, st.sets(st.sampled_from([1, 2, 3, 4]), min_size=1))
def test_a_token_of_some_sites_reaches_what_its_owner_reaches_there_and_nothing_else(grants, sites):
    owner = Actor(1, "dora", "Dora", "", tuple(grants), 1)
    token = replace(owner, grants=token_grants(grants, sites))
    for permission in Permission:
        of_sites = replace(owner, grants=tuple(one for one in grants if one.role not in NOT_AT_A_SITE))
        theirs, reached = sites_for(of_sites, permission), sites_for(token, permission)
        assert reached == (frozenset(sites) if theirs is None else theirs & sites)
    assert token_grants(grants, None) == tuple(dict.fromkeys(grants))
    assert {grant.site_id for grant in granted_at(grants, sites)} <= sites


@pytest.mark.requirement("SEC-22", "SEC-32")
def test_a_token_of_one_site_is_written_down_and_acts_there_alone(session, study, owner):
    north, south = (factories.site(session, study, code).id for code in ("north", "south"))
    _, text = create(session, study, owner, sites=["north", "north"])
    acting = actor(session, text, study.id)
    assert (acting.grants, acting.token_sites) == ((Grant(Role.DATA_MANAGER, north),), {north})
    assert may(acting, Permission.EXPORT_RUN, site_id=north)
    assert not may(acting, Permission.EXPORT_RUN, site_id=south)
    (row,) = reads.tokens_of(session, owner.person_id)
    assert row.sites == (north,)
    created = session.execute(select(ENTRY.c.new).where(ENTRY.c.action == "token.created")).scalar_one()
    assert json.loads(created)["sites"] == ["north"]


def test_a_token_is_limited_to_no_site_of_others_and_carries_nothing_of_the_whole_study(session, study):
    coordinator = factories.person(session, study, "coordinator", site_code="north")
    _, text = create(session, study, coordinator, scopes=["participant.read"], sites=["north"])
    with pytest.raises(Invalid) as caught:
        create(session, study, coordinator, scopes=["participant.read"], sites=["north", "south"])
    assert [problem.field for problem in caught.value.problems] == ["sites"]
    statistician = factories.person(session, study, "statistician", site_code=None)
    with pytest.raises(Invalid) as caught:
        create(session, study, statistician, scopes=["sequence.draw"], sites=["north"])
    assert [problem.field for problem in caught.value.problems] == ["sites"]
    both = factories.person(session, study, "data_manager", "administrator", site_code=None)
    with pytest.raises(Invalid, match=r"study\.load at these sites"):
        create(session, study, both, scopes=["study.load", "export.run"], sites=["north"])
    (right,) = reads.memberships_of(session, coordinator.person_id)
    actions.revoke(session, right.id, by=CLI, now=NOW)
    assert actor(session, text, study.id).grants == ()


@pytest.mark.requirement("SEC-19", "P11-d")
def test_an_administrators_token_sets_studies_up_and_reads_no_data(session, study):
    administrator = factories.person(session, study, "administrator", site_code=None)
    scopes = ["study.load", "study.amend", "study.read", "audit.verify"]
    _, text = create(session, study, administrator, scopes=scopes)
    acting = actor(session, text, study.id)
    assert {permission for permission in Permission if may(acting, permission)} == set(scopes)
    for scope in ("participant.read", "entry.read", "export.run", "audit.read", "arm.read", "people.manage"):
        with pytest.raises(Invalid, match=scope):
            create(session, study, administrator, scopes=[scope])
