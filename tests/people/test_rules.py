"""The rules of people: tables where the rule is a table, properties where it holds for everything."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.foundation.crypto.secrets import totp_step
from app.people import rules
from app.people.permissions import UNBLINDED, Permission, Role
from app.people.rules import Failures
from tests.conformance import conformance_folder

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36", ("Chrome", "Linux")),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/131.0 Safari/537.36 Edg/131.0", ("Edge", "Windows")),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14.7; rv:132.0) Gecko/20100101 Firefox/132.0", ("Firefox", "macOS")),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Safari/604.1", ("Safari", "iPhone")),
        (
            "(Linux; Android 14) SamsungBrowser/26.0 Chrome/122.0 Safari/537.36",
            ("Samsung Internet", "Android"),
        ),
        ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) Chrome/131.0 Safari/537.36", ("Chrome", "ChromeOS")),
        ("curl/8.5.0", None),
        ("Chrome/131.0 on something new", None),
        ("", None),
    ],
)
def test_a_browser_is_known_by_what_it_says_of_itself(said: str, known: tuple[str, str] | None) -> None:
    assert rules.browser_in(said) == known


@pytest.mark.requirement("SEC-24", "SEC-25")
@pytest.mark.parametrize(
    ("password", "second_factor", "part"),
    [
        ("kettle violet nineteen", False, None),
        ("correct horse battery staple", False, None),
        ("übermäßig viele Wörter", False, None),
        ("493827165049382", False, None),  # no rule about kinds of characters
        ("kettle violet", False, "at least 15"),
        ("kettle violet", True, None),
        ("kettle7", True, "at least 8"),
        ("kettlev8", True, None),
        ("k" * 7 + "v" * 7, False, "at least 15"),
        ("kettle violet nineteen " * 5 + "kettle violet", False, None),
        ("x7" * 65, False, "at most 128"),
        ("passwordpassword", False, "easy to guess"),
        ("P@ssw0rd-P@ssw0rd", False, "easy to guess"),
        ("Summer2026!", True, "easy to guess"),
        ("aaaaaaaaaaaaaaaa", False, "easy to guess"),
        ("abcdefghijklmnop", False, "easy to guess"),
        ("123456789012345", False, "easy to guess"),
        ("qwertyuiopasdfghjkl", False, "easy to guess"),
        ("walnutwalnutwalnut", False, "easy to guess"),
        ("equipoise-trial-2026", False, "easy to guess"),
        ("a.berg clinic 2026", False, "easy to guess"),
        ("northnorthanna2026", False, "easy to guess"),
    ],
)
def test_a_password_is_judged_by_length_and_by_how_soon_it_is_guessed(password, second_factor, part):
    reason = rules.why_not_password(password, second_factor=second_factor, context=["a.berg", "Anna Berg", "north"])
    assert (reason is None) if part is None else (reason is not None and part in reason)


@pytest.mark.requirement("SEC-24")
@given(st.text(min_size=129, max_size=400))
def test_no_password_is_cut_off(password):
    if len(rules.normal_password(password)) > rules.LONGEST_PASSWORD:
        assert rules.why_not_password(password) is not None


@given(st.text(max_size=140), st.booleans())
def test_every_text_can_be_judged(password, second_factor):
    alone = rules.why_not_password(password)
    beside = rules.why_not_password(password, second_factor=True)
    assert alone is not None or beside is None  # what protects alone protects beside a second factor


@pytest.mark.requirement("SEC-24")
def test_a_few_hundred_common_words_are_shipped():
    words = rules.common_passwords()
    assert len(words) > 300
    assert all(word == word.casefold().strip() and len(word) > 2 for word in words)
    assert all(rules.why_not_password(word, second_factor=True) for word in words)
    assert all(rules.why_not_password(f"{word}123", second_factor=True) for word in words)


@pytest.mark.parametrize(
    ("typed", "normal"),
    [("Anna", "anna"), ("  anna ", "anna"), ("ＡＮＮＡ", "anna"), ("a.Berg@Example.org", "a.berg@example.org")],
)
def test_a_username_has_one_spelling(typed, normal):
    assert rules.normal_username(typed) == normal


@pytest.mark.requirement("P11-300a")
@given(st.text(max_size=70))
def test_a_username_that_can_be_given_is_its_own_normal_form(typed):
    normal = rules.normal_username(typed)
    if rules.why_not_username(normal) is None:
        assert rules.normal_username(normal) == normal
        assert normal.isascii()


@pytest.mark.parametrize("username", ["", "a", "-anna", "anna berg", "аnna", "anna\n", "anna/again", "x" * 65])
def test_a_username_that_could_be_mistaken_is_refused(username):
    assert "Choose another" in (rules.why_not_username(username) or "")


@pytest.mark.parametrize(
    ("email", "good"),
    [
        ("anna@example.org", True),
        ("a+b@sub.example.org", True),
        ("anna@localhost", True),
        ("anna", False),
        ("anna@", False),
        ("@example.org", False),
        ("anna@example.org, bob@example.org", False),
        ("anna@example.org\nBcc: bob@example.org", False),
        ("a" * 250 + "@example.org", False),
    ],
)
def test_a_mail_address_is_one_address(email, good):
    assert (rules.why_not_email(email) is None) is good


# Throttling


@pytest.mark.requirement("SEC-25", "FDA-10")
@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (4, 0), (5, 30), (6, 60), (7, 120), (8, 240), (9, 480), (10, 900), (99, 900)]
)
def test_the_wait_doubles_up_to_a_quarter_of_an_hour(failures, seconds):
    assert rules.wait_after(failures, free=rules.FREE_FAILURES_OF_ACCOUNT) == timedelta(seconds=seconds)


@given(st.integers(0, 10_000), st.integers(0, 100))
def test_more_failures_never_wait_less(failures, free):
    assert rules.wait_after(failures, free=free) <= rules.wait_after(failures + 1, free=free) <= rules.LONGEST_WAIT


@pytest.mark.requirement("SEC-25")
def test_nobody_gets_a_hundred_guesses_in_the_time_that_is_looked_back():
    guesses, at = 0, timedelta(0)
    while at < rules.ACCOUNT_LOOKS_BACK:
        guesses += 1
        at += rules.wait_after(guesses, free=rules.FREE_FAILURES_OF_ACCOUNT)
    assert guesses <= 105  # 5 at once, then four an hour


@pytest.mark.parametrize(
    ("account", "address", "text"),
    [
        (Failures(), Failures(), None),
        (Failures(4, NOW), Failures(19, NOW), None),
        (Failures(5, NOW), Failures(), "Wait 30 seconds"),
        (Failures(5, NOW - timedelta(seconds=29)), Failures(), "Wait 1 second,"),
        (Failures(5, NOW - timedelta(seconds=30)), Failures(), None),
        (Failures(6, NOW), Failures(), "Wait 1 minute,"),
        (Failures(), Failures(20, NOW), "Wait 30 seconds"),
        (Failures(5, NOW), Failures(90, NOW), "Wait 15 minutes"),
    ],
)
def test_the_longer_wait_of_account_and_address_counts(account, address, text):
    reason = rules.why_throttled(account, address, now=NOW)
    assert (reason is None) if text is None else (reason is not None and text in reason)


# Sessions


@dataclass(frozen=True)
class Sitting:
    created_at: datetime = NOW
    seen_at: datetime = NOW
    expires_at: datetime = NOW + timedelta(hours=12)
    ended_at: datetime | None = None


@pytest.mark.requirement("SEC-33", "FDA-9")
@pytest.mark.parametrize(
    ("sitting", "after", "part"),
    [
        (Sitting(), timedelta(0), None),
        (Sitting(), 15 * MINUTE - timedelta(microseconds=1), None),
        (Sitting(), 15 * MINUTE, "away"),
        (Sitting(seen_at=NOW + timedelta(hours=12) - MINUTE), timedelta(hours=12) - timedelta(seconds=1), None),
        (Sitting(seen_at=NOW + timedelta(hours=12) - MINUTE), timedelta(hours=12), "long time"),
        (Sitting(expires_at=NOW + 5 * MINUTE), 5 * MINUTE, "long time"),
        (Sitting(ended_at=NOW), timedelta(0), "signed out"),
    ],
)
def test_a_session_ends_when_idle_when_old_and_when_ended(sitting, after, part):
    reason = rules.why_ended(sitting, NOW + after, 15 * MINUTE, timedelta(hours=12))
    assert (reason is None) if part is None else (reason is not None and part in reason)
    assert reason is None or reason.endswith("Sign in again.")


def test_a_shorter_limit_holds_for_sessions_that_run():
    assert rules.why_ended(Sitting(), NOW + 10 * MINUTE, 5 * MINUTE, timedelta(hours=12)) is not None
    still_seen = Sitting(seen_at=NOW + 60 * MINUTE)
    assert rules.why_ended(still_seen, NOW + 60 * MINUTE, 15 * MINUTE, timedelta(hours=1)) is not None


# Second factor


@pytest.mark.requirement("SEC-28")
@pytest.mark.parametrize(
    ("typed", "digits"),
    [
        ("123456", "123456"),
        (" 123 456 ", "123456"),
        ("１２３４５６", "123456"),
        ("12345", None),
        ("1234567", None),
        ("12345a", None),
        ("١٢٣٤٥٦", None),
        ("", None),
        (None, None),
    ],
)
def test_a_code_is_six_digits_however_they_are_typed(typed, digits):
    assert rules.code_digits(typed) == digits


@pytest.mark.requirement("SEC-28")
def test_codes_are_those_of_rfc_6238():
    published = json.loads((conformance_folder() / "small_vectors.json").read_text())["rfc6238_totp_sha1_8digits"]
    assert published["secret_ascii"] == "12345678901234567890"
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # the same in base32
    assert len(published["vectors"]) == 6
    for at, eight_digits in published["vectors"]:
        # Six digits are the last six of eight: both are the same number, modulo a power of ten (RFC 4226 5.3).
        assert totp_step(secret, eight_digits[-6:], at, None) == at // 30
        assert totp_step(secret, eight_digits[-6:], at, at // 30) is None  # once only
        assert totp_step(secret, eight_digits[-6:], at + 90, None) is None  # and not later


# Tokens, roles, sites


@pytest.mark.parametrize(
    ("scopes", "part"),
    [
        ([Permission.ENTRY_READ], None),
        ([], "at least one"),
        (["entry.erase"], "no scope entry.erase"),
        ([Permission.TOKEN_CREATE], "never given"),
        ([Permission.ENTRY_SIGN], None),
        ([Permission.EXPORT_RUN], "do not hold"),
    ],
)
def test_a_token_never_allows_more_than_its_owner_may(scopes, part):
    reason = rules.why_not_scopes(scopes, [Permission.ENTRY_READ, Permission.ENTRY_SIGN, Permission.TOKEN_CREATE])
    assert (reason is None) if part is None else (reason is not None and part in reason)


@pytest.mark.parametrize(
    ("last", "good"),
    [
        (timedelta(0), False),
        (timedelta(seconds=1), True),
        (timedelta(days=366), True),
        (timedelta(days=366, seconds=1), False),
    ],
)
def test_a_token_lasts_a_year_at_most(last, good):
    assert (rules.why_not_until(NOW + last, now=NOW) is None) is good


R = Role


@pytest.mark.requirement("E6-2")
@pytest.mark.parametrize(
    ("role", "in_study", "at_site", "held", "ended", "part"),
    [
        (R.ASSESSOR, True, True, set(), set(), None),
        (R.ASSESSOR, True, False, set(), set(), "Choose the site"),
        (R.ASSESSOR, False, False, set(), set(), "Choose the study"),
        (R.DATA_MANAGER, True, False, set(), set(), None),
        (R.MONITOR, True, True, set(), set(), None),
        (R.STATISTICIAN, True, False, set(), set(), None),
        (R.STATISTICIAN, True, True, set(), set(), "Leave the site empty"),
        (R.ADMINISTRATOR, False, False, set(), set(), None),
        (R.ADMINISTRATOR, True, True, set(), set(), "Leave the site empty"),
        (R.CLINICIAN, True, True, {R.CLINICIAN}, set(), None),
        (R.CLINICIAN, True, True, {R.ASSESSOR}, set(), "blinded and unblinded"),
        (R.ASSESSOR, True, True, {R.CLINICIAN}, set(), "blinded and unblinded"),
        (R.STATISTICIAN, True, False, {R.ADMINISTRATOR}, set(), "blinded and unblinded"),
        (R.CLINICIAN, True, True, {R.STATISTICIAN}, set(), "draw the sequence and treat"),
        (R.ASSESSOR, True, True, set(), {R.CLINICIAN}, "may know an arm"),
        (R.CLINICIAN, True, True, set(), {R.STATISTICIAN}, "may know an arm"),
        (R.CLINICIAN, True, True, set(), {R.CLINICIAN}, None),
        (R.CLINICIAN, True, True, set(), {R.ASSESSOR}, None),
        (R.ADMINISTRATOR, True, False, set(), {R.CLINICIAN}, None),
    ],
)
def test_a_role_is_held_where_it_belongs_and_never_beside_its_opposite(role, in_study, at_site, held, ended, part):
    reason = rules.why_not_role(role, in_study=in_study, at_site=at_site, held=frozenset(held), ended=frozenset(ended))
    assert (reason is None) if part is None else (reason is not None and part in reason)


@given(st.frozensets(st.sampled_from(Role)), st.sampled_from(Role), st.booleans())
def test_no_sequence_of_grants_makes_anybody_blinded_and_unblinded(held, role, at_site):
    if rules.why_not_role(role, in_study=True, at_site=at_site, held=held) is None:
        together = held | {role}
        assert not together & UNBLINDED or together <= UNBLINDED
        assert len(together & UNBLINDED) <= 1


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("Australia/Sydney", True),
        ("UTC", True),
        ("Sydney", False),
        ("", False),
        ("../etc/passwd", False),
        ("a\0b", False),
    ],
)
def test_a_site_has_a_time_zone_that_exists(name, good):
    assert (rules.why_not_timezone(name) is None) is good


@pytest.mark.requirement("SEC-11")
def test_a_text_that_takes_long_to_normalise_is_not_normalised():
    # NFKC takes time that grows with the square of a run of combining marks: a megabyte would hold the process for
    # minutes. What is longer than any username, password or code is cut or left alone first.
    marks = "a" + "\u0301" * 500_000 + "\u0316" * 500_000
    assert len(rules.normal_username(marks)) <= rules.LONGEST_TYPED
    assert rules.normal_password(marks) is marks
    assert rules.code_digits(marks) is None
