"""The second factor: set up with a working code, asked for, good once, sealed, removed and reset."""

from datetime import timedelta

import pyotp
import pytest
from sqlalchemy import select, update

from app.foundation.crypto.envelopes import CannotOpen
from app.foundation.errors import NotAllowed, Refused
from app.people import actions
from app.people.reads import PERSON, SESSION
from app.people.rules import ENROLMENT_LASTS, ENROLMENT_OVER, WRONG
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

STEP = timedelta(seconds=30)
LATER = NOW + 2 * STEP


def code_at(secret, at):
    return pyotp.TOTP(secret).at(at)


@pytest.fixture
def secret(session, anna):
    enrolment = actions.enrol_second_factor_start(session, by=as_actor(anna), now=NOW)
    code = code_at(enrolment.secret, NOW)
    assert actions.enrol_second_factor_confirm(session, enrolment.pending, code, by=as_actor(anna), now=NOW) is None
    return enrolment.secret


@pytest.mark.requirement("P11-300e", "SEC-28")
def test_it_is_kept_only_once_a_code_was_right(session, anna):
    enrolment = actions.enrol_second_factor_start(session, by=as_actor(anna), now=NOW)
    assert "secret=" + enrolment.secret in enrolment.address
    assert enrolment.secret not in enrolment.pending
    for wrong in ("", "abc", "000000" if code_at(enrolment.secret, NOW) != "000000" else "000001"):
        reason = actions.enrol_second_factor_confirm(session, enrolment.pending, wrong, by=as_actor(anna), now=NOW)
        assert "Wait for the next one" in str(reason)
    assert not row_of(session).has_second_factor
    assert sign_in(session).token is not None
    right = code_at(enrolment.secret, NOW)
    assert actions.enrol_second_factor_confirm(session, enrolment.pending, right, by=as_actor(anna), now=NOW) is None
    assert row_of(session).has_second_factor
    assert "second_factor.enrolled" in logged(session)


def test_a_set_up_is_of_one_person_and_ends(session, anna):
    bert = as_actor(add(session, "bert"))
    enrolment = actions.enrol_second_factor_start(session, by=as_actor(anna), now=NOW)

    def confirm(pending, by, now):
        return actions.enrol_second_factor_confirm(session, pending, code_at(enrolment.secret, now), by=by, now=now)

    assert confirm(enrolment.pending, bert, NOW) == ENROLMENT_OVER
    assert confirm("nonsense", as_actor(anna), NOW) == ENROLMENT_OVER
    assert confirm("\u00e9", as_actor(anna), NOW) == ENROLMENT_OVER
    assert confirm(enrolment.pending, as_actor(anna), NOW + ENROLMENT_LASTS + STEP) == ENROLMENT_OVER
    assert confirm(enrolment.pending, as_actor(anna), NOW + ENROLMENT_LASTS) is None
    assert "already" in confirm(enrolment.pending, as_actor(anna), NOW + ENROLMENT_LASTS)
    with pytest.raises(Refused, match="Remove it first"):
        actions.enrol_second_factor_start(session, by=as_actor(anna), now=NOW)


def test_setting_it_up_ends_the_other_sessions_and_counts_for_this_one(session, anna):
    here, there = sign_in(session).token, sign_in(session).token
    enrolment = actions.enrol_second_factor_start(session, by=as_actor(anna), now=NOW)
    actions.enrol_second_factor_confirm(
        session, enrolment.pending, code_at(enrolment.secret, NOW), token=here, by=as_actor(anna), now=NOW
    )
    found = signed_in(session, here)
    assert (found.second_factor, found.has_second_factor) == (True, True)
    assert signed_in(session, there) is None


@pytest.mark.requirement("SEC-28")
def test_the_secret_is_sealed_in_its_own_row(session, anna, secret):
    sealed = session.execute(select(PERSON.c.totp_secret)).scalar()
    assert secret.encode() not in sealed
    bert = add(session, "bert")
    session.execute(update(PERSON).where(PERSON.c.id == bert.id).values(totp_secret=sealed))
    with pytest.raises(CannotOpen):
        sign_in(session, "bert", code=code_at(secret, LATER), now=LATER)


@pytest.mark.requirement("SEC-27", "SEC-28", "P11-200ii", "EMA-17")
def test_sign_in_asks_for_the_code(session, secret):
    asked = sign_in(session, now=LATER)
    assert (asked.token, asked.needs_code) == (None, True)
    assert "six digits" in asked.problem
    assert sign_in(session, code="  ", now=LATER).needs_code
    wrong = sign_in(session, code="123", now=LATER)
    assert (wrong.problem, wrong.needs_code) == (WRONG, False)
    token = sign_in(session, code=code_at(secret, LATER), now=LATER).token
    assert signed_in(session, token, LATER).second_factor


@pytest.mark.requirement("SEC-31")
def test_the_code_is_asked_for_only_after_the_right_password(session, secret):
    assert sign_in(session, password="wrong", now=LATER).problem == WRONG
    assert not sign_in(session, password="wrong", now=LATER).needs_code


@pytest.mark.requirement("SEC-28")
def test_a_code_is_good_once(session, secret):
    code = code_at(secret, LATER)
    assert sign_in(session, code=code, now=LATER).token is not None
    assert sign_in(session, code=code, now=LATER).problem == WRONG
    assert sign_in(session, code=code_at(secret, LATER - STEP), now=LATER).problem == WRONG  # nor an older one
    assert sign_in(session, code=code_at(secret, LATER + STEP), now=LATER + STEP).token is not None


@pytest.mark.requirement("SEC-28")
def test_the_code_of_the_set_up_is_used(session, secret):
    assert sign_in(session, code=code_at(secret, NOW), now=NOW).problem == WRONG


@pytest.mark.requirement("SEC-28")
def test_wrong_codes_are_throttled_like_wrong_passwords(session, secret):
    for _ in range(5):
        assert sign_in(session, code="12345", now=LATER).problem == WRONG
    assert "Wait 30 seconds" in sign_in(session, code=code_at(secret, LATER), now=LATER).problem


@pytest.mark.requirement("SEC-28")
def test_one_code_at_the_same_moment_signs_in_once(database):
    from concurrent.futures import ThreadPoolExecutor

    with database.writing() as session:
        by = as_actor(add(session))
        enrolment = actions.enrol_second_factor_start(session, by=by, now=NOW)
        code = code_at(enrolment.secret, NOW)
        actions.enrol_second_factor_confirm(session, enrolment.pending, code, by=by, now=NOW)

    def attempt(_number):
        with database.writing() as session:
            return sign_in(session, code=code_at(enrolment.secret, LATER), now=LATER).token

    with ThreadPoolExecutor(4) as pool:
        tokens = [token for token in pool.map(attempt, range(4)) if token]
    assert len(tokens) == 1


@pytest.mark.requirement("P11-200i", "SEC-35")
def test_within_a_session_the_password_is_enough_unless_the_code_is_needed(session, anna, secret):
    assert actions.reauthenticate(session, anna.id, PASSWORD, now=LATER) is None
    assert actions.reauthenticate(session, anna.id, PASSWORD, " ", now=LATER) is None
    assert "six digits" in str(actions.reauthenticate(session, anna.id, PASSWORD, code_needed=True, now=LATER))
    assert "not right" in str(actions.reauthenticate(session, anna.id, PASSWORD, "12345", now=LATER))
    assert (
        actions.reauthenticate(session, anna.id, PASSWORD, code_at(secret, LATER), code_needed=True, now=LATER) is None
    )


@pytest.mark.requirement("SEC-35")
def test_removing_it_needs_password_and_code(session, anna, secret):
    token = sign_in(session, code=code_at(secret, LATER), now=LATER).token
    by = as_actor(anna)
    later = LATER + 2 * STEP
    assert "six digits" in str(actions.remove_second_factor(session, password=PASSWORD, code="", by=by, now=later))
    assert "not right" in str(actions.remove_second_factor(session, password="wrong", code="", by=by, now=later))
    code = code_at(secret, later)
    assert actions.remove_second_factor(session, password=PASSWORD, code=code, token=token, by=by, now=later) is None
    assert not row_of(session).has_second_factor
    assert signed_in(session, token, later) is not None
    assert sign_in(session, now=later).token is not None
    assert "no authenticator app" in str(
        actions.remove_second_factor(session, password=PASSWORD, code="", by=by, now=later)
    )
    assert "second_factor.removed" in logged(session)


@pytest.mark.requirement("SEC-27", "SEC-35")
def test_a_session_that_stays_counts_as_signed_in_without_what_was_removed(session, anna, secret):
    token = sign_in(session, code=code_at(secret, LATER), now=LATER).token
    by, later = as_actor(anna), LATER + 2 * STEP
    assert signed_in(session, token, later).second_factor
    code = code_at(secret, later)
    assert actions.remove_second_factor(session, password=PASSWORD, code=code, token=token, by=by, now=later) is None
    found = signed_in(session, token, later)
    assert (found.second_factor, found.has_second_factor) == (False, False)
    assert session.execute(select(SESSION.c.second_factor).where(SESSION.c.ended_at.is_(None))).scalars().all() == [
        False
    ]


@pytest.mark.requirement("SEC-27")
def test_what_a_session_once_showed_counts_only_while_the_person_has_it(session, anna, secret):
    token = sign_in(session, code=code_at(secret, LATER), now=LATER).token
    session.execute(update(PERSON).where(PERSON.c.id == anna.id).values(totp_secret=None))
    assert not signed_in(session, token, LATER).second_factor


@pytest.mark.requirement("SEC-28")
def test_a_set_up_is_good_once_also_after_it_was_removed(session, anna):
    by = as_actor(anna)
    first = actions.enrol_second_factor_start(session, by=by, now=NOW)
    spare = actions.enrol_second_factor_start(session, by=by, now=NOW)
    code = code_at(first.secret, NOW)
    assert actions.enrol_second_factor_confirm(session, first.pending, code, by=by, now=NOW) is None
    code = code_at(first.secret, LATER)
    assert actions.remove_second_factor(session, password=PASSWORD, code=code, by=by, now=LATER) is None
    later = LATER + 2 * STEP
    for used in (first, spare):
        code = code_at(used.secret, later)
        assert actions.enrol_second_factor_confirm(session, used.pending, code, by=by, now=later) == ENROLMENT_OVER
    assert not row_of(session).has_second_factor
    again = actions.enrol_second_factor_start(session, by=by, now=later)
    code = code_at(again.secret, later)
    assert actions.enrol_second_factor_confirm(session, again.pending, code, by=by, now=later) is None


@pytest.mark.requirement("SEC-25")
def test_a_short_password_is_allowed_beside_it_and_keeps_it(session, anna, secret):
    by = as_actor(anna)
    assert actions.set_password(session, current=PASSWORD, new="kettlev8", by=by, now=LATER) is None
    code = code_at(secret, LATER)
    reason = actions.remove_second_factor(session, password="kettlev8", code=code, by=by, now=LATER)
    assert "Change it first" in str(reason)
    assert row_of(session).has_second_factor


@pytest.mark.requirement("P11-300c", "P11-200a3", "SEC-30")
def test_a_lost_device_is_reset_by_somebody_else_and_the_password_goes_with_it(session, anna, secret):
    token = sign_in(session, code=code_at(secret, LATER), now=LATER).token
    with pytest.raises(NotAllowed):
        actions.reset_second_factor(session, anna.id, why="lost", by=as_actor(anna), now=LATER)
    with pytest.raises(Refused, match="Say why"):
        actions.reset_second_factor(session, anna.id, why=" ", by=CLI, now=LATER)
    actions.reset_second_factor(session, anna.id, why="Phone lost; identity seen in person.", by=CLI, now=LATER)
    assert signed_in(session, token, LATER) is None
    assert sign_in(session, now=LATER).problem == WRONG
    with pytest.raises(Refused, match="no second factor"):
        actions.reset_second_factor(session, anna.id, why="again", by=CLI, now=LATER)
    invitation = actions.invite(session, anna.id, by=CLI, now=LATER)
    assert actions.accept_invitation(session, invitation, "walnut ladder seventeen", now=LATER) is None
    assert sign_in(session, password="walnut ladder seventeen", now=LATER).token is not None


def test_neither_secret_nor_code_is_in_the_log(session, secret):
    code = code_at(secret, LATER)
    sign_in(session, code=code, now=LATER)
    text = everything_logged(session)
    assert secret not in text
    assert code not in text
    assert PASSWORD not in text
