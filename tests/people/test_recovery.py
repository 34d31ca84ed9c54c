"""Recovery codes: shown once, kept as hashes, each good once in place of the second factor, and gone with it."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.foundation.errors import Refused
from app.people import actions
from app.people.reads import RECOVERY, RecoveryCodes, recovery_codes_of
from app.people.rules import RECOVERY_CODES, WRONG, WRONG_AGAIN
from tests.factories import NOW
from tests.people.conftest import CLI, PASSWORD, add, as_actor, everything_logged, logged, row_of, sign_in
from tests.people.test_second_factor import LATER, code_at, secret

__all__ = ["secret"]


@pytest.fixture
def codes(session, anna, secret):
    return actions.make_recovery_codes(session, by=as_actor(anna), now=NOW)


def left(session, person_id):
    found = recovery_codes_of(session, person_id)
    return None if found is None else found.left


@pytest.mark.requirement("P11-300c", "SEC-30")
def test_ten_are_made_and_only_their_hashes_are_kept(session, anna, codes):
    assert len(set(codes)) == RECOVERY_CODES
    assert all(len(code.replace("-", "")) == 24 for code in codes)
    kept = session.execute(select(RECOVERY.c.code_hash)).scalars().all()
    assert len(set(kept)) == RECOVERY_CODES
    said = everything_logged(session)
    for code in codes:
        assert code not in said
        assert code.replace("-", "").encode() not in b"".join(kept)
    found = recovery_codes_of(session, anna.id)
    assert found == RecoveryCodes(left=10, made=10, made_at=NOW)
    assert "recovery_codes.made" in logged(session)


@pytest.mark.requirement("P11-300c", "SEC-30")
def test_a_code_stands_in_for_the_device_once(session, anna, codes):
    typed = codes[3].replace("-", " ").lower().replace("0", "o").replace("1", "l")
    result = sign_in(session, code=typed, now=LATER)
    assert result.token is not None
    assert left(session, anna.id) == 9
    assert "recovery_code.used" in logged(session)
    again = sign_in(session, code=codes[3], now=LATER)
    assert (again.token, again.problem) == (None, WRONG)
    assert sign_in(session, code=codes[4], now=LATER).token is not None


@pytest.mark.requirement("SEC-30")
def test_no_code_does_without_the_password_or_for_somebody_else(session, anna, codes):
    assert sign_in(session, password="not the password", code=codes[0], now=LATER).token is None
    assert left(session, anna.id) == 10
    bert = as_actor(add(session, "bert"))
    enrolment = actions.enrol_second_factor_start(session, by=bert, now=NOW)
    code = code_at(enrolment.secret, NOW)
    assert actions.enrol_second_factor_confirm(session, enrolment.pending, code, by=bert, now=NOW) is None
    actions.make_recovery_codes(session, by=bert, now=NOW)
    assert sign_in(session, username="bert", code=codes[0], now=LATER).token is None
    assert left(session, anna.id) == 10


@pytest.mark.requirement("SEC-30", "P11-300d")
def test_wrong_ones_are_counted_with_every_other_attempt(session, anna, codes):
    wrong = "0000-0000-0000-0000-0000-0000"
    at = LATER
    problems = [sign_in(session, code=wrong, now=at).problem for _ in range(12)]
    assert problems[0] == WRONG
    assert problems[-1] != WRONG  # they must wait
    assert sign_in(session, code=codes[0], now=at).token is None  # and a right one with them
    assert left(session, anna.id) == 10
    assert "sign_in.throttled" in logged(session)
    assert sign_in(session, code=codes[0], now=at + timedelta(days=1)).token is not None


def test_new_ones_end_those_made_before(session, anna, codes):
    newer = actions.make_recovery_codes(session, by=as_actor(anna), now=NOW)
    assert left(session, anna.id) == 10
    assert sign_in(session, code=codes[0], now=LATER).token is None
    assert sign_in(session, code=newer[0], now=LATER).token is not None


def test_without_a_second_factor_there_are_none_and_they_go_with_it(session, anna):
    with pytest.raises(Refused, match="Set up a second factor first"):
        actions.make_recovery_codes(session, by=as_actor(anna), now=NOW)
    assert left(session, anna.id) is None


def test_who_lost_the_device_takes_it_away_with_a_code_and_the_codes_go_too(session, anna, codes):
    assert actions.reauthenticate(session, anna.id, PASSWORD, "wrong", code_needed=True, now=LATER) == WRONG_AGAIN
    problem = actions.remove_second_factor(session, password=PASSWORD, code=codes[0], by=as_actor(anna), now=LATER)
    assert problem is None
    assert not row_of(session).has_second_factor
    assert left(session, anna.id) is None
    assert "recovery_codes.removed" in logged(session)
    assert sign_in(session, now=LATER).token is not None


def test_a_reset_takes_them_too(session, anna, codes):
    actions.reset_second_factor(session, anna.id, why="The device was lost.", by=CLI, now=LATER)
    assert left(session, anna.id) is None
