"""Signing in: right, wrong, throttled, without saying which of them it was to somebody who guesses."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.foundation.crypto import secrets
from app.people import actions, reads
from app.people.actions import proving
from app.people.reads import ATTEMPT, PERSON, SESSION
from app.people.rules import WRONG
from tests.factories import NOW
from tests.people.conftest import (
    ABSOLUTE,
    CLI,
    IDLE,
    PASSWORD,
    add,
    as_actor,
    everything_logged,
    logged,
    row_of,
    sign_in,
    signed_in,
)

SECOND = timedelta(seconds=1)


@pytest.mark.requirement("SEC-32", "P11-d", "E6-7")
def test_the_right_password_opens_a_session(session, anna):
    result = sign_in(session, " ANNA ", name="Firefox")
    assert result.problem is None
    assert result.person == anna
    assert result.token is not None
    assert len(result.token) >= 43  # 256 bits
    found = signed_in(session, result.token)
    assert found is not None
    assert (found.username, found.second_factor, found.has_second_factor) == ("anna", False, False)
    assert found.expires_at == NOW + ABSOLUTE
    assert found.csrf_token != result.token
    assert logged(session) == ["person.added", "session.started"]


@pytest.mark.requirement("SEC-32")
def test_the_database_does_not_hold_the_token(session, anna):
    token = sign_in(session).token
    row = session.execute(select(*SESSION.c)).one()
    assert token.encode() not in row.token_hash
    assert token not in str(row)
    assert signed_in(session, row.token_hash.hex()) is None


@pytest.mark.requirement("SEC-32")
def test_each_sign_in_gives_a_new_token_and_ends_the_one_it_came_with(session, anna):
    first = sign_in(session).token
    second = sign_in(session, earlier_token=first).token
    assert first != second
    assert signed_in(session, first) is None
    assert signed_in(session, second) is not None
    assert logged(session)[-2:] == ["session.ended", "session.started"]


@pytest.mark.requirement("SEC-31")
def test_a_guesser_is_told_the_same_whatever_was_wrong(session, anna):
    add(session, "bert", password=None)
    add(session, "cleo")
    actions.deactivate(session, row_of(session, "cleo").id, by=CLI, now=NOW)
    attempts = [("anna", "wrong"), ("nobody", PASSWORD), ("bert", PASSWORD), ("cleo", PASSWORD), ("anna", "x" * 5000)]
    results = [sign_in(session, username, password, address="") for username, password in attempts]
    assert {(result.token, result.problem, result.needs_code, result.person) for result in results} == {
        (None, WRONG, False, None)
    }
    assert session.execute(select(func.count()).select_from(ATTEMPT)).scalar() == len(attempts)


@pytest.mark.requirement("SEC-31")
def test_an_unknown_username_costs_as_much_as_a_known_one(session, anna, monkeypatch):
    hashed = []
    verify = secrets._hasher.verify

    class Counting:
        def verify(self, stored, password):
            hashed.append(stored.split("$")[1:4])
            return verify(stored, password)

    monkeypatch.setattr(secrets, "_hasher", Counting())
    for username, password in [("anna", "wrong"), ("nobody", "wrong"), ("anna", "x" * 5000)]:
        sign_in(session, username, password)
    assert len(hashed) == 3  # one hash each ...
    assert hashed[0] == hashed[1] == hashed[2]  # ... with the same parameters


@pytest.mark.requirement("SEC-31", "FDA-10", "SEC-46")
def test_what_was_typed_stays_out_of_the_log_and_the_attempts(session, anna):
    sign_in(session, "my secret phrase", "hunter2 hunter2")
    sign_in(session, "anna", "hunter2 hunter2")
    kept = everything_logged(session) + str(session.execute(select(*ATTEMPT.c)).all())
    assert logged(session)[1:] == ["sign_in.failed", "sign_in.failed"]
    assert "secret phrase" not in kept
    assert "hunter2" not in kept
    assert "(unknown)" in kept


@pytest.mark.requirement("SEC-25", "FDA-10", "P11-300d")
def test_after_five_wrong_passwords_even_the_right_one_waits(session, anna):
    for attempt in range(5):
        assert sign_in(session, password="wrong", now=NOW + attempt * SECOND).problem == WRONG
    last = NOW + 4 * SECOND
    throttled = sign_in(session, now=last + 10 * SECOND)
    assert throttled.token is None
    assert throttled.problem == "Too many attempts went wrong. Wait 20 seconds, then try again."
    assert logged(session)[-1] == "sign_in.throttled"
    assert sign_in(session, now=last + 30 * SECOND).token is not None


@pytest.mark.requirement("SEC-25")
def test_a_throttled_attempt_checks_no_password_and_does_not_lengthen_the_wait(session, anna, monkeypatch):
    for _ in range(5):
        sign_in(session, password="wrong")
    monkeypatch.setattr(proving, "password_matches", lambda *_: pytest.fail("The password was checked."))
    for _ in range(10):
        assert "Wait 30 seconds" in sign_in(session).problem


@pytest.mark.requirement("SEC-31")
def test_an_unknown_account_is_throttled_in_the_same_words(session, anna):
    for _ in range(5):
        sign_in(session, "nobody", "wrong", address="192.0.2.7")
        sign_in(session, "anna", "wrong", address="192.0.2.8")
    unknown = sign_in(session, "nobody", "wrong", address="192.0.2.7")
    assert unknown == sign_in(session, "anna", "wrong", address="192.0.2.8")


@pytest.mark.requirement("SEC-25")
def test_a_success_starts_the_count_afresh(session, anna):
    for _ in range(3):
        for _ in range(4):
            sign_in(session, password="wrong")
        assert sign_in(session).token is not None


@pytest.mark.requirement("SEC-25")
def test_an_address_that_tries_many_accounts_waits(session, anna):
    for number in range(20):
        sign_in(session, f"guess{number}", "wrong")
    assert "Wait 30 seconds" in sign_in(session).problem
    assert sign_in(session, address="192.0.2.99").token is not None


@pytest.mark.requirement("SEC-25")
def test_an_account_of_ones_own_does_not_reset_the_address(session, anna):
    add(session, "mallory")
    for number in range(20):
        sign_in(session, f"guess{number}", "wrong")
        if number < 19:
            assert sign_in(session, "mallory").token is not None
    assert "Too many" in sign_in(session, "mallory").problem


def test_a_colleagues_typing_errors_stop_counting_once_they_are_in(session, anna):
    for number in range(6):
        add(session, f"colleague{number}")
        for _ in range(4):
            sign_in(session, f"colleague{number}", "wrong")
        assert sign_in(session, f"colleague{number}").token is not None


@pytest.mark.requirement("SEC-31", "FDA-11")
def test_the_person_is_told_once_a_day_that_somebody_guesses(session, anna):
    for _ in range(8):
        sign_in(session, password="wrong")
    told = [mail for mail in mails(session) if "stopped" in mail.subject]
    assert [mail.to_address for mail in told] == ["anna@example.org"]


def mails(session):
    from app.mail.actions import MAIL

    return session.execute(select(*MAIL.c).order_by(MAIL.c.id)).all()


@pytest.mark.requirement("SEC-26")
def test_passwords_are_kept_with_argon2id_and_rehashed_when_the_parameters_rise(session, anna, real_hashes):
    from argon2 import PasswordHasher

    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    session.execute(update(PERSON).values(password_hash=weak))
    sign_in(session, password="wrong")
    assert session.execute(select(PERSON.c.password_hash)).scalar() == weak
    assert sign_in(session).token is not None
    _, kind, _, parameters, salt, _ = session.execute(select(PERSON.c.password_hash)).scalar().split("$")
    assert (kind, parameters) == ("argon2id", "m=19456,t=2,p=1")
    assert len(salt) >= 22  # 16 bytes in base64
    assert sign_in(session).token is not None


@pytest.mark.requirement("SEC-24")
def test_a_letter_typed_on_another_keyboard_is_the_same_letter(session):
    add(session, password="caf\u00e9 violet nineteen")
    assert sign_in(session, password="cafe\u0301 violet nineteen").token is not None
    assert sign_in(session, password="Caf\u00e9 violet nineteen").token is None


# The end of a session


@pytest.mark.requirement("SEC-33", "FDA-9", "P11-200ii")
def test_a_session_ends_when_nobody_uses_it(session, anna):
    token = sign_in(session).token
    assert signed_in(session, token, NOW + IDLE - SECOND) is not None
    assert signed_in(session, token, NOW + IDLE) is None


@pytest.mark.requirement("SEC-33")
def test_a_session_in_use_ends_in_the_end(session, anna):
    token = sign_in(session).token
    now = NOW
    while now < NOW + ABSOLUTE:
        found = signed_in(session, token, now)
        assert found is not None
        assert found.due_for_touch(now) is (now > NOW)
        actions.touch(session, found.token_hash, now=now)
        now += IDLE - SECOND
    assert signed_in(session, token, NOW + ABSOLUTE) is None


def test_a_session_is_touched_no_more_often_than_every_thirty_seconds(session, anna):
    found = signed_in(session, sign_in(session).token)
    assert not actions.touch(session, found.token_hash, now=NOW + 29 * SECOND)
    assert actions.touch(session, found.token_hash, now=NOW + 30 * SECOND)
    assert not actions.touch(session, found.token_hash, now=NOW + 31 * SECOND)


@pytest.mark.requirement("SEC-34")
def test_signing_out_ends_the_session_on_the_server(session, anna):
    token = sign_in(session).token
    hashed = signed_in(session, token).token_hash
    actions.sign_out(session, token, now=NOW)
    actions.sign_out(session, token, now=NOW)
    actions.sign_out(session, "no such token", now=NOW)
    assert signed_in(session, token) is None
    assert not actions.touch(session, hashed, now=NOW + 60 * SECOND)
    assert actions.renew_session(session, token) is None
    assert logged(session)[-2:] == ["session.started", "session.ended"]


@pytest.mark.requirement("SEC-34")
def test_one_sees_and_ends_ones_own_sessions(session, anna):
    here, there, elsewhere = (sign_in(session, name=name).token for name in ("here", "there", "elsewhere"))
    rows = reads.sessions_of(session, anna.id, now=NOW, idle=IDLE, absolute=ABSOLUTE)
    assert {row.browser for row in rows} == {"here", "there", "elsewhere"}
    actions.end_session(session, next(row.id for row in rows if row.browser == "there"), by=as_actor(anna), now=NOW)
    assert signed_in(session, there) is None
    assert actions.end_other_sessions(session, token=here, by=as_actor(anna), now=NOW) == 1
    assert signed_in(session, elsewhere) is None
    assert signed_in(session, here) is not None
    assert reads.sessions_of(session, anna.id, now=NOW + IDLE, idle=IDLE, absolute=ABSOLUTE) == []


@pytest.mark.requirement("SEC-34")
def test_only_an_administrator_ends_somebody_elses_session(session, anna):
    from app.foundation.errors import NotAllowed, NotFound

    token = sign_in(session).token
    (row,) = reads.sessions_of(session, anna.id, now=NOW, idle=IDLE, absolute=ABSOLUTE)
    stranger = as_actor(add(session, "stranger"))
    with pytest.raises(NotAllowed):
        actions.end_session(session, row.id, by=stranger, now=NOW)
    for nonsense in ("zz", "", "00" * 32):
        with pytest.raises(NotFound):
            actions.end_session(session, nonsense, by=stranger, now=NOW)
    assert signed_in(session, token) is not None
    assert actions.end_sessions_of(session, anna.id, by=CLI, now=NOW) == 1
    assert signed_in(session, token) is None


@pytest.mark.requirement("SEC-32")
def test_a_renewed_session_has_a_new_token_and_open_forms_keep_working(session, anna):
    token = sign_in(session).token
    before = signed_in(session, token)
    renewed = actions.renew_session(session, token)
    assert signed_in(session, token) is None
    assert signed_in(session, renewed).csrf_token == before.csrf_token


# Proving it again


@pytest.mark.requirement("P11-200a1", "P11-200i", "SEC-35")
def test_proving_it_again_needs_the_password(session, anna):
    assert actions.reauthenticate(session, anna.id, PASSWORD, now=NOW) is None
    assert "not right" in str(actions.reauthenticate(session, anna.id, "", now=NOW))
    assert "not right" in str(actions.reauthenticate(session, anna.id, "anna", now=NOW))
    assert "not right" in str(actions.reauthenticate(session, 999_999, PASSWORD, now=NOW))
    assert logged(session)[-3:] == ["sign_in.failed"] * 3


@pytest.mark.requirement("P11-300d")
def test_guessing_a_signature_is_throttled(session, anna):
    for _ in range(5):
        actions.reauthenticate(session, anna.id, "wrong", now=NOW)
    assert "Wait 30 seconds" in str(actions.reauthenticate(session, anna.id, PASSWORD, now=NOW))
    assert actions.reauthenticate(session, anna.id, PASSWORD, now=NOW + 30 * SECOND) is None


def test_a_stranger_at_the_sign_in_page_cannot_keep_a_signed_in_person_from_signing(session, anna):
    for _ in range(30):
        sign_in(session, password="wrong", address="198.51.100.1")
    assert "Too many" in sign_in(session).problem
    assert actions.reauthenticate(session, anna.id, PASSWORD, now=NOW) is None


# Real transactions


@pytest.mark.requirement("SEC-25", "FDA-10", "SEC-46")
def test_a_wrong_attempt_stays_when_the_door_commits(database):
    with database.writing() as session:
        add(session)
    with database.writing() as session:
        assert sign_in(session, password="wrong").problem == WRONG
    with database.reading() as session:
        assert logged(session) == ["person.added", "sign_in.failed"]
        assert session.execute(select(ATTEMPT.c.succeeded)).scalars().all() == [False]


@pytest.mark.requirement("P11-e1")
def test_nobody_is_signed_in_when_the_audit_entry_cannot_be_written(database, monkeypatch):
    from app.people.actions import sessions

    with database.writing() as session:
        add(session)

    def broken(*_arguments, **_named):
        raise OSError("The disk is full.")

    monkeypatch.setattr(sessions, "record", broken)
    with pytest.raises(OSError, match="disk"), database.writing() as session:
        sign_in(session)
    with database.reading() as session:
        assert session.execute(select(func.count()).select_from(SESSION)).scalar() == 0
        assert session.execute(select(func.count()).select_from(ATTEMPT)).scalar() == 0


@pytest.mark.requirement("SEC-25")
def test_guessing_many_times_at_once_gives_no_more_guesses(database):
    from concurrent.futures import ThreadPoolExecutor

    with database.writing() as session:
        add(session)

    def guess(_number):
        with database.writing() as session:
            return sign_in(session, password="wrong").problem

    with ThreadPoolExecutor(8) as pool:
        problems = list(pool.map(guess, range(16)))
    assert problems.count(WRONG) == 5
