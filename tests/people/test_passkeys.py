"""Passkeys: added by whoever they will be asked of, used once for what was asked, and what no device may lie about."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from app.audit.actions import ENTRY
from app.foundation.crypto import passkeys
from app.foundation.crypto.passkeys import NotRight, Place, place_of
from app.foundation.crypto.secrets import token_hash
from app.foundation.errors import Invalid, Refused
from app.people import actions, reads
from app.people.actions import Shown
from app.people.reads import CHALLENGE, PASSKEY, SESSION
from app.people.rules import (
    EITHER_MISSING,
    LONGEST_PASSKEY_NAME,
    MOST_PASSKEYS,
    PASSKEY_LASTS,
    PASSKEY_MISSING,
    PASSKEY_NOT_HERE,
    PASSKEY_OVER,
    PASSKEY_TAKEN,
    PASSKEY_WRONG,
    TOO_WEAK_ALONE,
    WRONG,
)
from tests.factories import NOW
from tests.people.authenticator import ORIGIN, Authenticator
from tests.people.conftest import (
    CLI,
    PASSWORD,
    add,
    as_actor,
    browser,
    everything_logged,
    logged,
    row_of,
    sign_in,
    signed_in,
)
from tests.people.test_second_factor import LATER, code_at

PLACE = Place("trial.example.org", ORIGIN)
MINUTE = timedelta(minutes=1)
HERE = token_hash("this browser")


def adds(session, person, device=None, *, name="Laptop", bound_to=HERE, now=NOW, **false):
    """Somebody adds a passkey; the device, and the problem or None."""
    device = device or Authenticator()
    asked = actions.begin_passkey(session, name, place=PLACE, bound_to=bound_to, by=as_actor(person), now=now)
    shown = Shown(device.make(asked.options, **false), PLACE, bound_to)
    return device, actions.add_passkey(session, shown, by=as_actor(person), now=now)


def asked_at_sign_in(session, username="anna", now=NOW, **more):
    """The second step that somebody is led to after their password."""
    result = sign_in(session, username, now=now, place=PLACE, **more)
    assert result.token is None
    return result.passkey


def answers(session, asked, answer, now=NOW, *, attempt=None, place=PLACE):
    shown = {"attempt": attempt or asked.attempt, "answer": answer}
    return actions.sign_in_with_passkey(session, **shown, browser=browser(now=now, place=place))


@pytest.fixture
def device(session, anna):
    made, problem = adds(session, anna)
    assert problem is None
    return made


def why_in_vain(session):
    query = select(ENTRY.c.why).where(ENTRY.c.action == "sign_in.failed").order_by(ENTRY.c.position.desc())
    return session.execute(query).scalars().first()


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("https://trial.example.org", Place("trial.example.org", "https://trial.example.org")),
        ("https://Trial.Example.org:443/", Place("trial.example.org", "https://trial.example.org")),
        ("https://trial.example.org:8443/x", Place("trial.example.org", "https://trial.example.org:8443")),
        ("https://b\u00fccher.example", Place("xn--bcher-kva.example", "https://xn--bcher-kva.example")),
        ("http://localhost:8000", Place("localhost", "http://localhost:8000")),
        ("http://trial.example.org", None),
        ("http://127.0.0.1:8000", None),
        ("https://192.0.2.7", None),
        ("https://[2001:db8::1]:443", None),
        ("https://trial.example.org:port", None),
        ("ftp://localhost", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_passkeys_are_good_at_the_address_that_was_set_and_where_browsers_allow_them(address, place):
    assert place_of(address) == place


@pytest.mark.requirement("SEC-29", "P11-300e")
def test_it_is_kept_once_it_was_made_as_asked(session, anna):
    here, there = sign_in(session).token, sign_in(session).token
    device, problem = adds(session, anna, name="  Work laptop ", bound_to=token_hash(here))
    assert problem is None
    (kept,) = reads.passkeys_of(session, anna.id)
    assert (kept.name, kept.created_at, kept.last_used_at) == ("Work laptop", NOW, None)
    assert (row_of(session).has_second_factor, row_of(session).has_codes) == (True, False)
    found = signed_in(session, here)
    assert (found.second_factor, found.second_factors) == (True, ("passkey",))
    assert signed_in(session, there) is None
    assert logged(session)[-2:] == ["passkey.added", "session.ended"]
    asked = actions.begin_passkey(session, "Telephone", place=PLACE, bound_to=HERE, by=as_actor(anna), now=NOW)
    assert len(asked.options["excludeCredentials"]) == 1
    assert asked.options["authenticatorSelection"]["userVerification"] == "required"
    assert asked.options["attestation"] == "none"
    assert device.id.hex() not in everything_logged(session)


@pytest.mark.parametrize("name", ["", "  ", "x" * (LONGEST_PASSKEY_NAME + 1), "a\nb", "a\x00b"])
def test_it_has_a_name_that_can_be_read(session, anna, name):
    with pytest.raises(Invalid, match="Give it a name"):
        actions.begin_passkey(session, name, place=PLACE, bound_to=HERE, by=as_actor(anna), now=NOW)


def test_there_are_so_many_and_none_where_browsers_use_none(session, anna):
    with pytest.raises(Refused, match="cannot be used at the address"):
        actions.begin_passkey(session, "Laptop", place=None, bound_to=HERE, by=as_actor(anna), now=NOW)
    spare = actions.begin_passkey(session, "Laptop", place=PLACE, bound_to=HERE, by=as_actor(anna), now=NOW)
    for number in range(MOST_PASSKEYS):
        assert adds(session, anna, name=f"Key {number}")[1] is None
    with pytest.raises(Invalid, match="as many as anybody can have"):
        adds(session, anna)
    shown = Shown(Authenticator().make(spare.options), PLACE, HERE)
    assert "as many" in str(actions.add_passkey(session, shown, by=as_actor(anna), now=NOW))


LIES_WHEN_MADE = {
    "another origin": {"origin": "https://trial.example.org.evil.test"},
    "another port": {"origin": "https://trial.example.org:8443"},
    "without TLS": {"origin": "http://trial.example.org"},
    "another host": {"host": "evil.test"},
    "its owner was not seen": {"verified": False},
    "another challenge": {"challenge": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
    "a signature, not a new one": {"type": "webauthn.get"},
    "within a page of somebody else's": {"framed": True},
    "a weak kind of key": {"algorithm": -65535},
    "an unknown kind of key": {"algorithm": -4711},
}


@pytest.mark.requirement("SEC-29", "P11-200b")
@pytest.mark.parametrize("false", LIES_WHEN_MADE.values(), ids=LIES_WHEN_MADE)
def test_nothing_is_kept_of_what_was_not_made_as_asked(session, anna, false):
    assert adds(session, anna, **false)[1] == PASSKEY_OVER
    assert not row_of(session).has_second_factor
    assert logged(session)[-1] == "passkey.add_refused"


@pytest.mark.requirement("SEC-29")
def test_what_was_asked_is_answered_once_in_time_by_whom_it_was_asked(session, anna):
    bert = add(session, "bert")

    def asked():
        return actions.begin_passkey(session, "Laptop", place=PLACE, bound_to=HERE, by=as_actor(anna), now=NOW).options

    def keeps(answer, *, by=anna, bound_to=HERE, now=NOW, place=PLACE):
        return actions.add_passkey(session, Shown(answer, place, bound_to), by=as_actor(by), now=now)

    assert keeps(Authenticator().make(asked()), by=bert) == PASSKEY_OVER
    assert keeps(Authenticator().make(asked()), bound_to=token_hash("another browser")) == PASSKEY_OVER
    assert keeps(Authenticator().make(asked()), now=NOW + PASSKEY_LASTS) == PASSKEY_OVER
    assert keeps(Authenticator().make(asked()), place=None) == PASSKEY_OVER
    assert keeps("nonsense") == PASSKEY_OVER
    options = asked()
    assert keeps(Authenticator().make(options), now=NOW + PASSKEY_LASTS - MINUTE) is None
    assert keeps(Authenticator().make(options)) == PASSKEY_OVER
    assert len(reads.passkeys_of(session, anna.id)) == 1
    assert not row_of(session, "bert").has_second_factor


@pytest.mark.requirement("SEC-29", "P11-200b")
def test_one_passkey_is_nobody_elses(session, anna, device):
    bert = add(session, "bert")
    assert adds(session, bert, Authenticator(credential_id=device.id))[1] == PASSKEY_TAKEN
    assert adds(session, anna, Authenticator(credential_id=device.id))[1] == PASSKEY_TAKEN
    assert not row_of(session, "bert").has_second_factor
    assert session.execute(select(func.count()).select_from(PASSKEY)).scalar() == 1


@pytest.mark.requirement("SEC-27", "SEC-29", "P11-200ii", "P11-200a1")
def test_sign_in_asks_for_the_passkey_after_the_right_password(session, anna, device):
    assert sign_in(session, password="wrong", place=PLACE).passkey is None
    result = sign_in(session, place=PLACE)
    assert (result.token, result.needs_code, result.problem) == (None, False, PASSKEY_MISSING)
    assert result.passkey.options["userVerification"] == "required"
    assert result.passkey.options["rpId"] == "trial.example.org"
    done = answers(session, result.passkey, device.use(result.passkey.options), NOW + MINUTE)
    assert signed_in(session, done.token, NOW + MINUTE).second_factor
    assert reads.passkeys_of(session, anna.id)[0].last_used_at == NOW + MINUTE
    assert logged(session)[-1] == "session.started"


@pytest.mark.requirement("SEC-29")
def test_either_of_two_second_factors_is_enough(session, anna, device):
    enrolment = actions.enrol_second_factor_start(session, by=as_actor(anna), now=NOW)
    code = code_at(enrolment.secret, NOW)
    assert actions.enrol_second_factor_confirm(session, enrolment.pending, code, by=as_actor(anna), now=NOW) is None
    result = sign_in(session, now=LATER, place=PLACE)
    assert (result.needs_code, result.problem) == (True, EITHER_MISSING)
    assert answers(session, result.passkey, device.use(result.passkey.options), LATER).token is not None
    token = sign_in(session, code=code_at(enrolment.secret, LATER), now=LATER, place=PLACE).token
    assert signed_in(session, token, LATER).second_factors == ("code", "passkey")
    assert signed_in(session, token, LATER).second_factor


def test_without_a_place_for_passkeys_a_code_still_works_and_nothing_else(session, anna, device):
    assert sign_in(session).problem == PASSKEY_NOT_HERE
    assert sign_in(session, code="123456").problem == PASSKEY_NOT_HERE


def _flipped(signature):
    return signature[:-1] + bytes([signature[-1] ^ 1])


LIES_WHEN_USED = {
    "another origin": {"origin": "https://trial.example.org.evil.test"},
    "another port": {"origin": "https://trial.example.org:8443"},
    "another host": {"host": "evil.test"},
    "its owner was not seen": {"verified": False},
    "another challenge": {"challenge": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
    "a new one, not a signature": {"type": "webauthn.create"},
    "within a page of somebody else's": {"framed": True},
    "a signature that was changed": {"signature": _flipped},
    "no signature": {"signature": lambda _: b""},
}


@pytest.mark.requirement("SEC-29", "P11-200b")
@pytest.mark.parametrize("false", LIES_WHEN_USED.values(), ids=LIES_WHEN_USED)
def test_nobody_signs_in_with_what_is_not_an_answer_to_what_was_asked(session, device, false):
    asked = asked_at_sign_in(session)
    result = answers(session, asked, device.use(asked.options, **false))
    assert (result.token, result.problem) == (None, PASSKEY_WRONG)
    if "challenge" not in false:  # to what nobody asked: nothing is written, and nobody waits
        assert logged(session)[-1] == "sign_in.failed"
        assert answers(session, asked, device.use(asked.options)).token is None, "what was asked is used"
    again = asked_at_sign_in(session)
    assert answers(session, again, device.use(again.options)).token is not None


@pytest.mark.requirement("SEC-29")
def test_an_answer_is_good_once(session, device):
    asked = asked_at_sign_in(session)
    answer = device.use(asked.options)
    assert answers(session, asked, answer).token is not None
    assert answers(session, asked, answer).problem == PASSKEY_WRONG
    assert "used before" in why_in_vain(session)


@pytest.mark.requirement("SEC-29")
def test_one_answer_at_the_same_moment_signs_in_once(database):
    with database.writing() as session:
        device, problem = adds(session, add(session))
        assert problem is None
        asked = asked_at_sign_in(session)
    answer = device.use(asked.options)

    def attempt(_number):
        with database.writing() as session:
            return answers(session, asked, answer).token

    with ThreadPoolExecutor(4) as pool:
        assert len([token for token in pool.map(attempt, range(4)) if token]) == 1


@pytest.mark.requirement("SEC-29")
def test_what_was_asked_is_over_after_some_minutes(session, device):
    asked = asked_at_sign_in(session)
    late = NOW + PASSKEY_LASTS - MINUTE
    assert answers(session, asked, device.use(asked.options), late).token is not None
    asked = asked_at_sign_in(session)
    assert answers(session, asked, device.use(asked.options), NOW + PASSKEY_LASTS).problem == PASSKEY_WRONG


@pytest.mark.requirement("SEC-29")
def test_an_answer_belongs_to_the_sign_in_it_was_asked_in(session, device):
    mine, other = asked_at_sign_in(session), asked_at_sign_in(session)
    assert answers(session, mine, device.use(mine.options), attempt=other.attempt).token is None
    assert answers(session, other, device.use(other.options), attempt="").token is not None  # `or`: its own
    begun = actions.ask_for_passkey(session, place=PLACE, bound_to=HERE, by=as_actor(row_of(session)), now=NOW)
    last = asked_at_sign_in(session)
    assert answers(session, last, device.use(begun)).token is None, (
        "what was asked within a session is for nothing else"
    )


@pytest.mark.requirement("SEC-29", "P11-200a3", "P11-200b")
def test_nobody_signs_in_with_the_passkey_of_somebody_else(session, anna, device):
    theirs, problem = adds(session, add(session, "bert"))
    assert problem is None
    asked = asked_at_sign_in(session, "anna")
    assert answers(session, asked, theirs.use(asked.options)).token is None
    asked = asked_at_sign_in(session, "anna")
    forged = Authenticator(credential_id=device.id)  # knows its name, and not its secret
    assert answers(session, asked, forged.use(asked.options)).token is None


@pytest.mark.requirement("SEC-29")
@pytest.mark.parametrize(("kept", "shown", "right"), [(5, 6, True), (5, 5, False), (5, 4, False), (5, 0, False)])
def test_a_counter_goes_forward(session, device, kept, shown, right):
    session.execute(update(PASSKEY).values(count=kept))
    asked = asked_at_sign_in(session)
    device.count = shown
    assert (answers(session, asked, device.use(asked.options)).token is not None) is right
    assert session.execute(select(PASSKEY.c.count)).scalar() == (shown if right else kept)
    if not right:
        assert "may be a copy" in why_in_vain(session)


@pytest.mark.requirement("SEC-29")
def test_a_device_that_does_not_count_may_always_say_nought(session, anna):
    device, problem = adds(session, anna, Authenticator(count=None))
    assert problem is None
    for _ in range(2):
        asked = asked_at_sign_in(session)
        assert answers(session, asked, device.use(asked.options)).token is not None


@pytest.mark.requirement("SEC-29")
def test_a_sign_in_that_was_begun_ends_with_the_password_and_with_the_person(session, anna, device):
    asked = asked_at_sign_in(session)
    assert actions.set_password(session, current=PASSWORD, new="walnut ladder 17 x", by=as_actor(anna), now=NOW) is None
    assert answers(session, asked, device.use(asked.options)).token is None
    asked = asked_at_sign_in(session, password="walnut ladder 17 x")
    actions.deactivate(session, anna.id, by=CLI, now=NOW)
    assert answers(session, asked, device.use(asked.options)).token is None
    assert why_in_vain(session) == "The person is deactivated."


@pytest.mark.requirement("SEC-29", "P11-300d")
def test_wrong_passkeys_are_throttled_like_wrong_passwords(session, device):
    asked = [asked_at_sign_in(session) for _ in range(6)]
    for each in asked[:5]:
        assert answers(session, each, device.use(each.options, verified=False)).problem == PASSKEY_WRONG
    assert "Wait 30 seconds" in answers(session, asked[5], device.use(asked[5].options)).problem
    assert sign_in(session, place=PLACE).problem.count("Wait 30 seconds") == 1


@pytest.mark.requirement("SEC-29", "P11-200b", "P11-200i", "SEC-35")
def test_a_signature_takes_the_passkey_in_place_of_the_code(session, anna, device):
    def signs(answer, *, password=PASSWORD, bound_to=HERE, now=NOW):
        shown = Shown(answer, PLACE, bound_to) if answer else None
        return actions.reauthenticate(session, anna.id, password, code_needed=True, passkey=shown, now=now)

    def asked():
        return actions.ask_for_passkey(session, place=PLACE, bound_to=HERE, by=as_actor(anna), now=NOW)

    assert signs(None) == PASSKEY_MISSING
    options = asked()
    answer = device.use(options)
    assert signs(answer, password="wrong") != PASSKEY_WRONG
    assert signs(answer) is None
    assert signs(answer) == PASSKEY_WRONG
    assert signs(device.use(asked()), bound_to=token_hash("another browser")) == PASSKEY_WRONG
    assert signs(device.use(asked_at_sign_in(session).options)) == PASSKEY_WRONG
    assert signs(device.use(asked())) is None
    new = actions.begin_passkey(session, "Spare", place=PLACE, bound_to=HERE, by=as_actor(anna), now=NOW).options
    assert signs(device.use({**asked(), "challenge": new["challenge"]})) == PASSKEY_WRONG
    theirs, _ = adds(session, add(session, "bert"))
    assert signs(theirs.use(asked())) == PASSKEY_WRONG
    assert signs(device.use(asked()), now=NOW + PASSKEY_LASTS) == PASSKEY_WRONG


def test_whoever_has_none_is_told_when_one_is_asked_for(session, anna):
    with pytest.raises(Refused, match="You have no passkey"):
        actions.ask_for_passkey(session, place=PLACE, bound_to=HERE, by=as_actor(anna), now=NOW)


@pytest.mark.requirement("SEC-29", "SEC-35")
def test_removing_one_takes_the_password_and_leaves_the_others(session, anna, device):
    spare, _ = adds(session, anna, name="Telephone")
    first, second = reads.passkeys_of(session, anna.id)

    def removes(which, *, by=anna, password=PASSWORD):
        token = sign_in_fully(session, spare)
        more = {"password": password, "bound_to": token_hash(token), "by": as_actor(by), "now": NOW}
        return token, actions.remove_passkey(session, which, **more)

    bert = add(session, "bert")
    assert "not right" in removes(first.id, password="wrong")[1]
    assert "removed already" in removes(first.id, by=bert)[1]
    token, problem = removes(first.id)
    assert problem is None
    assert [each.name for each in reads.passkeys_of(session, anna.id)] == ["Telephone"]
    assert signed_in(session, token).second_factor
    assert "removed already" in removes(first.id)[1]
    asked = asked_at_sign_in(session)
    assert answers(session, asked, device.use(asked.options)).token is None
    token, problem = removes(second.id)
    assert problem is None
    assert not signed_in(session, token).second_factor
    assert sign_in(session).token is not None
    assert logged(session).count("passkey.removed") == 2


def sign_in_fully(session, device):
    asked = asked_at_sign_in(session)
    return answers(session, asked, device.use(asked.options)).token


@pytest.mark.requirement("SEC-25")
def test_a_short_password_is_allowed_beside_it_and_keeps_the_last_one(session, anna, device):
    by = as_actor(anna)
    assert actions.set_password(session, current=PASSWORD, new="kettlev8", by=by, now=NOW) is None
    (kept,) = reads.passkeys_of(session, anna.id)
    removes: Any = {"password": "kettlev8", "bound_to": HERE, "by": by, "now": NOW}
    assert actions.remove_passkey(session, kept.id, **removes) == TOO_WEAK_ALONE
    adds(session, anna, name="Telephone")
    assert actions.remove_passkey(session, kept.id, **removes) is None


@pytest.mark.requirement("SEC-27", "SEC-29")
def test_the_app_goes_with_a_passkey_and_the_session_stays_one_with_a_second_factor(session, anna, device):
    by = as_actor(anna)
    enrolment = actions.enrol_second_factor_start(session, by=by, now=NOW)
    actions.enrol_second_factor_confirm(session, enrolment.pending, code_at(enrolment.secret, NOW), by=by, now=NOW)
    token = sign_in_fully(session, device)
    mine = token_hash(token)
    options = actions.ask_for_passkey(session, place=PLACE, bound_to=mine, by=by, now=NOW)
    shown = Shown(device.use(options), PLACE, mine)
    more = {"password": PASSWORD, "code": "", "token": token, "by": by, "now": NOW}
    assert actions.remove_second_factor(session, passkey=replace(shown, bound_to=HERE), **more) == PASSKEY_WRONG
    options = actions.ask_for_passkey(session, place=PLACE, bound_to=mine, by=by, now=NOW)
    assert actions.remove_second_factor(session, passkey=Shown(device.use(options), PLACE, mine), **more) is None
    found = signed_in(session, token)
    assert (found.second_factor, found.second_factors) == (True, ("passkey",))


@pytest.mark.requirement("P11-300c", "SEC-29", "SEC-30")
def test_a_lost_device_is_reset_with_every_passkey_on_it(session, anna, device):
    adds(session, anna, name="Telephone")
    asked = asked_at_sign_in(session)
    actions.reset_second_factor(session, anna.id, why="Bag stolen; identity seen in person.", by=CLI, now=NOW)
    assert reads.passkeys_of(session, anna.id) == []
    assert not row_of(session).has_second_factor
    assert answers(session, asked, device.use(asked.options)).token is None
    assert sign_in(session).problem == WRONG
    assert logged(session).count("passkey.removed") == 2
    assert session.execute(select(func.count()).select_from(SESSION).where(SESSION.c.ended_at.is_(None))).scalar() == 0


def test_what_was_asked_long_ago_is_not_kept(session, device):
    for days in range(3):
        asked_at_sign_in(session, now=NOW + timedelta(days=days))
    assert session.execute(select(func.count()).select_from(CHALLENGE)).scalar() == 2


OPTIONS = {"rpId": "trial.example.org", "challenge": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=20), part, max_size=3),
)


@given(st.text() | PARTS.map(json.dumps), st.data())
def test_whatever_is_sent_is_no_answer_and_breaks_nothing(anything, data):
    challenge, device = bytes(32), Authenticator()
    for answer in (anything, _spoilt(device.use(OPTIONS), data)):
        passkeys.challenge_in(answer)
        with pytest.raises(NotRight):
            passkeys.made(PLACE, challenge, answer)
        with pytest.raises(NotRight):
            passkeys.used(PLACE, challenge, answer, {device.id: b"nonsense"})


def _spoilt(answer, data):
    """An answer in which one part is something else."""
    whole = json.loads(answer)
    part = data.draw(st.sampled_from([whole, whole["response"]]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(PARTS)
    return json.dumps(whole)


@pytest.mark.parametrize("answer", ["[" * 30_000, '{"a":' * 30_000, "9" * 30_000])
def test_what_is_very_long_or_deep_is_no_answer(answer):
    assert passkeys.challenge_in(answer) is None
    assert passkeys.challenge_in(answer[:19_000]) is None


def test_neither_key_nor_answer_is_in_the_log(session, anna, device):
    asked = asked_at_sign_in(session)
    answer = device.use(asked.options)
    answers(session, asked, answer)
    text = everything_logged(session)
    for secret in (asked.attempt, asked.options["challenge"], json.loads(answer)["response"]["signature"]):
        assert secret not in text
