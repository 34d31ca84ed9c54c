"""Rights: given, taken back and effective at once; never blinded and unblinded; the past can be told."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from app.foundation.errors import Invalid, NotAllowed, NotFound, Refused
from app.people import actions, reads
from app.people.access import Actor, Grant, may, require, sites_for, why_not
from app.people.permissions import NO_SITE, TABLE, UNBLINDED, WHOLE_STUDY, Permission, Role, why_not_together
from app.people.reads import MEMBERSHIP
from tests import factories
from tests.factories import NOW
from tests.people.conftest import (
    CLI,
    add,
    everything_logged,
    logged,
    sign_in,
    signed_in,
)

DAY = timedelta(days=1)


@pytest.fixture
def study(session):
    return factories.mini_study(session)


@pytest.fixture
def north(session, study):
    return factories.site(session, study).id


def give(session, person, role, study, site_id=None, by=CLI, now=NOW, why=None):
    more = {"study_id": study.id if study else None, "site_id": site_id, "why": why}
    return actions.grant(session, person_id=person.id, role=role, **more, by=by, now=now)


def actor(session, token, study_id, now=NOW):
    found = signed_in(session, token, now)
    return reads.actor_for(found, study_id, "test")


# The table


@pytest.mark.requirement("P11-g")
def test_every_permission_has_a_row_and_somebody_who_holds_it():
    assert set(TABLE) == set(Permission)
    assert all(TABLE.values())
    assert all(Permission.STUDY_READ in {p for p in Permission if role in TABLE[p]} for role in Role)


@pytest.mark.requirement("P11-g")
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
def test_a_role_may_do_what_its_row_says_at_its_own_site_only(role, permission):
    at_seven = Actor(1, "x", "X", "", grants=(Grant(role, 7),), study_id=1)
    everywhere = Actor(1, "x", "X", "", grants=(Grant(role),), study_id=1)
    allowed = role in TABLE[permission]
    assert may(at_seven, permission) is may(at_seven, permission, site_id=7) is allowed
    assert may(at_seven, permission, site_id=8) is False
    assert may(everywhere, permission, site_id=8) is allowed
    assert (why_not(everywhere, permission) is None) is allowed
    if not allowed:
        with pytest.raises(NotAllowed):
            require(everywhere, permission)


@pytest.mark.requirement("P11-g")
@pytest.mark.parametrize("permission", Permission)
def test_somebody_without_roles_may_nothing(permission):
    nobody = Actor(1, "x", "X", "")
    assert not may(nobody, permission)
    assert sites_for(nobody, permission) == frozenset()


@pytest.mark.requirement("E6-2")
def test_nobody_blinded_holds_what_shows_an_arm():
    for permission in (
        Permission.ARM_READ,
        Permission.TREATMENT_RECORD,
        Permission.SEQUENCE_DRAW,
        Permission.SEQUENCE_SEAL,
        Permission.ALLOCATIONS_EXPORT,
    ):
        assert TABLE[permission] <= UNBLINDED
    assert NO_SITE <= WHOLE_STUDY


@pytest.mark.parametrize("first", Role)
@pytest.mark.parametrize("second", Role)
def test_two_roles_go_together_unless_one_is_unblinded(first, second):
    together = why_not_together(frozenset({first, second})) is None
    assert together is (first == second or not {first, second} & UNBLINDED)


def test_a_token_may_only_what_its_scopes_say():
    narrow = Actor(1, "x", "X", "", grants=(Grant(Role.DATA_MANAGER),), scopes=frozenset({"entry.read"}))
    assert may(narrow, Permission.ENTRY_READ)
    assert not may(narrow, Permission.EXPORT_RUN)
    assert "scope export.run" in str(why_not(narrow, Permission.EXPORT_RUN))
    beyond = Actor(1, "x", "X", "", grants=(Grant(Role.MONITOR),), scopes=frozenset({"export.run"}))
    assert not may(beyond, Permission.EXPORT_RUN)


# Giving and taking back


@pytest.mark.requirement("SEC-22", "E6-19", "P11-e1", "E6-7", "AX11-12")
def test_a_role_holds_from_the_next_request_and_ends_with_the_next_request(session, anna, study, north):
    token = sign_in(session).token
    assert actor(session, token, study.id).grants == ()
    membership = give(session, anna, Role.ASSESSOR, study, north)
    before = actor(session, token, study.id)
    assert before.grants == (Grant(Role.ASSESSOR, north),)
    assert may(before, Permission.ENTRY_SAVE, site_id=north)
    assert actor(session, token, None).grants == ()
    actions.revoke(session, membership, log=study.code, by=CLI, now=NOW, why="Moved to another unit.")
    assert actor(session, token, study.id).grants == ()
    assert logged(session)[-1] == "role.granted"
    assert logged(session, study.code) == ["role.revoked"]
    assert "Moved to another unit." in everything_logged(session)
    with pytest.raises(NotFound):
        actions.revoke(session, membership, by=CLI, now=NOW)


@pytest.mark.requirement("E6-2", "EMA-17")
def test_nobody_becomes_blinded_and_unblinded_in_a_study(session, anna, study, north):
    give(session, anna, Role.ASSESSOR, study, north)
    with pytest.raises(Refused, match="blinded and unblinded") as refused:
        give(session, anna, Role.CLINICIAN, study, north)
    assert refused.value.subject == "/person/anna"
    other = factories.mini_study(session, code="mini2")
    give(session, anna, Role.CLINICIAN, other, factories.site(session, other).id)  # another study is another matter


@pytest.mark.requirement("E6-2")
def test_who_was_unblinded_does_not_become_blinded_by_losing_the_role(session, anna, study, north):
    actions.revoke(session, give(session, anna, Role.CLINICIAN, study, north), by=CLI, now=NOW)
    with pytest.raises(Refused, match="may know an arm"):
        give(session, anna, Role.ASSESSOR, study, north)
    give(session, anna, Role.CLINICIAN, study, north)


@pytest.mark.requirement("E6-2")
def test_an_administrator_of_the_installation_counts_in_every_study(session, anna, study, north):
    give(session, anna, Role.ADMINISTRATOR, None)
    with pytest.raises(Refused, match="blinded and unblinded"):
        give(session, anna, Role.STATISTICIAN, study)
    bert = add(session, "bert", password=None)
    give(session, bert, Role.CLINICIAN, study, north)
    with pytest.raises(Refused, match="blinded and unblinded"):
        give(session, bert, Role.ADMINISTRATOR, None)


def test_a_role_is_given_where_it_belongs(session, anna, study, north):
    south_of_other = factories.site(session, factories.mini_study(session, code="mini2"), "south").id
    for role, of_study, site_id, part in [
        (Role.ASSESSOR, study, None, "Choose the site"),
        (Role.STATISTICIAN, study, north, "Leave the site empty"),
        (Role.MONITOR, None, None, "Choose the study"),
        (Role.ASSESSOR, study, south_of_other, "not in this study"),
        (Role.ASSESSOR, study, 999_999, "not in this study"),
    ]:
        with pytest.raises(Refused, match=part):
            give(session, anna, role, of_study, site_id)
    give(session, anna, Role.MONITOR, study)
    with pytest.raises(Refused, match="already"):
        give(session, anna, Role.MONITOR, study)
    give(session, anna, Role.MONITOR, study, north)
    with pytest.raises(NotFound):
        actions.grant(session, person_id=999_999, role=Role.MONITOR, study_id=study.id, by=CLI, now=NOW)
    actions.deactivate(session, anna.id, by=CLI, now=NOW)
    with pytest.raises(Refused, match="deactivated"):
        give(session, anna, Role.MONITOR, study)


@pytest.mark.requirement("P11-g")
def test_only_administrators_give_roles_and_those_of_one_study_only_there(session, anna, study, north):
    bert = add(session, "bert")
    other = factories.mini_study(session, code="mini2")
    coordinator = factories.person(session, study, "coordinator")
    with pytest.raises(NotAllowed):
        give(session, anna, Role.MONITOR, study, by=coordinator)
    give(session, bert, Role.ADMINISTRATOR, study)
    of_one = actor(session, sign_in(session, "bert").token, study.id)
    membership = give(session, anna, Role.MONITOR, study, by=of_one)
    elsewhere = give(session, anna, Role.MONITOR, other)
    for target in (other, None):
        with pytest.raises(NotAllowed):
            give(session, anna, Role.ADMINISTRATOR, target, by=of_one)
    with pytest.raises(NotAllowed):
        actions.revoke(session, elsewhere, by=of_one, now=NOW)
    with pytest.raises(NotAllowed):
        actions.add_site(session, other.id, code="east", name="East", timezone="UTC", by=of_one, now=NOW)
    assert actor(session, sign_in(session, "bert").token, None).grants == ()
    actions.revoke(session, membership, by=of_one, now=NOW)
    give(session, bert, Role.ADMINISTRATOR, None)
    give(session, anna, Role.DATA_MANAGER, other, by=of_one)  # now they administer the installation


def test_the_last_administrator_stays(session, anna):
    first = give(session, anna, Role.ADMINISTRATOR, None)
    with pytest.raises(Refused, match="last administrator"):
        actions.revoke(session, first, by=CLI, now=NOW)
    give(session, add(session, "bert", password=None), Role.ADMINISTRATOR, None)
    actions.revoke(session, first, by=CLI, now=NOW)


@pytest.mark.requirement("E6-2")
def test_two_administrators_at_once_do_not_give_opposite_roles(database):
    from concurrent.futures import ThreadPoolExecutor

    with database.writing() as session:
        study = factories.mini_study(session)
        site_id = factories.site(session, study).id
        anna = add(session)

    def attempt(role):
        try:
            with database.writing() as session:
                return give(session, anna, role, study, site_id)
        except Refused:
            return None

    with ThreadPoolExecutor(2) as pool:
        given = [one for one in pool.map(attempt, (Role.ASSESSOR, Role.CLINICIAN)) if one]
    assert len(given) == 1


@pytest.mark.requirement("P11-e1")
def test_no_role_is_given_or_taken_when_the_audit_entry_cannot_be_written(database, monkeypatch):
    from app.people.actions import rights

    with database.writing() as session:
        study = factories.mini_study(session)
        anna = add(session)
        membership = give(session, anna, Role.MONITOR, study)

    def broken(*_arguments, **_named):
        raise OSError("The disk is full.")

    monkeypatch.setattr(rights, "record", broken)
    with pytest.raises(OSError, match="disk"), database.writing() as session:
        give(session, anna, Role.DATA_MANAGER, study)
    with pytest.raises(OSError, match="disk"), database.writing() as session:
        actions.revoke(session, membership, by=CLI, now=NOW)
    with pytest.raises(OSError, match="disk"), database.writing() as session:
        actions.add_site(session, study.id, code="east", name="East", timezone="UTC", by=CLI, now=NOW)
    with database.reading() as session:
        assert [right.role for right in reads.memberships_of(session, anna.id)] == [Role.MONITOR]
        assert len(reads.sites_of(session, study.id)) == 2


# Reading them


@pytest.mark.requirement("FDA-8", "AX11-12", "E6-7")
def test_the_rights_of_any_past_moment_can_be_told(session, anna, study, north):
    bert = add(session, "bert", password=None)
    first = give(session, anna, Role.ASSESSOR, study, north, now=NOW)
    give(session, anna, Role.MONITOR, study, now=NOW + 2 * DAY, why="Until somebody else is found.")
    give(session, bert, Role.ADMINISTRATOR, None, now=NOW + 3 * DAY)
    actions.revoke(session, first, by=CLI, now=NOW + 4 * DAY)

    def held(day, **more):
        rights = reads.rights_at(session, NOW + day * DAY, **more)
        return [(right.username, right.role, right.study_code, right.site_code) for right in rights]

    assessor = ("anna", Role.ASSESSOR, "mini", "north")
    monitor = ("anna", Role.MONITOR, "mini", None)
    administrator = ("bert", Role.ADMINISTRATOR, None, None)
    assert held(-1) == []
    assert held(0) == [assessor]
    assert held(2) == [assessor, monitor]
    assert held(3, study_id=study.id) == [assessor, monitor, administrator]
    assert held(3, study_id=999_999) == [administrator]
    assert held(4) == [monitor, administrator]
    (ended, running) = reads.memberships_of(session, anna.id, ended=True)
    assert (ended.granted_by, ended.revoked_by, ended.revoked_at) == ("cli", "cli", NOW + 4 * DAY)
    assert running.revoked_at is None
    assert [right.role for right in reads.members_of(session, study.id)] == [Role.MONITOR]
    assert session.execute(select(func.count()).select_from(MEMBERSHIP)).scalar() == 3


def test_who_is_signed_in_is_read_in_one_statement(session, anna, study, north):
    from sqlalchemy import event

    give(session, anna, Role.COORDINATOR, study, north)
    give(session, anna, Role.ASSESSOR, study, factories.site(session, study, "south").id)
    give(session, anna, Role.ADMINISTRATOR, None)
    token = sign_in(session).token
    statements = []

    def count(_connection, _cursor, statement, *_rest):
        statements.append(statement)

    engine = session.connection().engine
    event.listen(engine, "before_cursor_execute", count)
    try:
        found = signed_in(session, token, study_code=study.code)
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert len(statements) == 1
    assert found.study_id == study.id
    assert found.is_administrator
    assert set(found.grants) == {study.id, None}
    in_study = reads.actor_for(found, study.id, "r1")
    assert in_study.roles == {Role.COORDINATOR, Role.ASSESSOR, Role.ADMINISTRATOR}
    assert in_study.blinded
    assert (in_study.study_id, in_study.request_id, in_study.via) == (study.id, "r1", "web")
    assert reads.actor_for(found, None, "r1").roles == {Role.ADMINISTRATOR}
    assert reads.actor_for(found, 999_999, "r1").roles == {Role.ADMINISTRATOR}
    nowhere = signed_in(session, token, study_code="none")
    assert nowhere.study_id is None


# Sites


def test_a_site_is_opened_once(session, study):
    east = actions.add_site(
        session, study.id, code="east", name=" East ", timezone="Asia/Tokyo", log=study.code, by=CLI, now=NOW
    )
    assert [site.code for site in reads.sites_of(session, study.id)] == ["east", "north", "south"]
    assert reads.sites_of(session, study.id)[0] == east
    assert east.name == "East"
    assert logged(session, study.code) == ["site.added"]
    with pytest.raises(Invalid, match="has a site with this code"):
        actions.add_site(session, study.id, code="east", name="East", timezone="UTC", by=CLI, now=NOW)
    with pytest.raises(Invalid) as caught:
        actions.add_site(session, study.id, code="e ast", name="", timezone="Tokyo", by=CLI, now=NOW)
    assert {problem.field for problem in caught.value.problems} == {"code", "name", "timezone"}
