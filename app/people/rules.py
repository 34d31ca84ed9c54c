"""What is true of passwords, attempts, sessions, usernames and tokens? Pure; `why_not_...` is the reason or None.

Sources: NIST SP 800-63B-4 (passwords and throttling), OWASP ASVS 5.0 chapters 6 and 7, 21 CFR 11.100 to 11.300.
"""

import re
import string
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.people.permissions import NOT_AT_A_SITE, UNBLINDED, WHOLE_STUDY, Permission, Role, why_not_together

# Passwords: NIST SP 800-63B-4 section 3.1.1.2 (15 alone, 8 beside a second factor, no composition rules, a blocklist).
SHORTEST_ALONE = 15
SHORTEST_WITH_SECOND_FACTOR = 8
LONGEST_PASSWORD = 128
LONGEST_TYPED = 4 * LONGEST_PASSWORD  # before it is normalised
FEWEST_PIECES = 5  # a password of fewer different pieces (words of the list, runs, other characters) is guessed early

# Throttling: NIST SP 800-63B-4 section 3.2.2 (a wait that grows, starting at 30 seconds; fewer than 100 guesses in a
# row, which the longest wait gives within the day that is looked back) and OWASP Authentication Cheat Sheet.
FREE_FAILURES_OF_ACCOUNT = 5
FREE_FAILURES_OF_ADDRESS = 20  # a clinic is often one address
FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(minutes=15)
ACCOUNT_LOOKS_BACK = timedelta(hours=24)
ADDRESS_LOOKS_BACK = timedelta(hours=1)

SEEN_EVERY = timedelta(seconds=30)  # a session's last use is written no more often than this
INVITATION_LASTS = timedelta(hours=72)
ENROLMENT_LASTS = timedelta(minutes=15)
PASSKEY_LASTS = timedelta(minutes=5)  # from the moment a passkey is asked for; a person finds it and shows a finger
MOST_PASSKEYS = 10
LONGEST_PASSKEY_NAME = 60
TOKEN_LASTS_AT_MOST = timedelta(days=366)

# A token must not make tokens or persons. It may carry entry.sign, because signing over REST asks for the owner's own
# password as well: the token alone signs nothing (21 CFR 11.200(a)).
NOT_FOR_TOKENS = frozenset({Permission.TOKEN_CREATE, Permission.PEOPLE_MANAGE})

WRONG = "The username, the password or the code is not right. Check them and try again."
WRONG_AGAIN = "The password or the code is not right. Check them and try again."
CODE_MISSING = "Enter the six digits that your authenticator app shows."
PASSKEY_MISSING = "Use your passkey. It is your second factor."
EITHER_MISSING = "Use your passkey, or enter the six digits that your authenticator app shows."
SECOND_MISSING = frozenset({CODE_MISSING, PASSKEY_MISSING, EITHER_MISSING})
PASSKEY_ON_PAGES = "Your second factor is a passkey, and works on pages alone. Do it there, or set up an app for codes."
PASSKEY_NOT_HERE = (
    "Passkeys cannot be used at the address of this installation. Type the code of your authenticator app; without "
    "one, ask your administrator to reset your second factor."
)
PASSKEY_WRONG = "The passkey was not right, or it took too long. Type your password and try again."
PASSKEY_OVER = "This passkey could not be added: it was not right, or it took too long. Start again."
PASSKEY_TAKEN = "This passkey is in use here already. Choose another device, or another place to keep it."
TOO_WEAK_ALONE = "Your password is too weak to be used alone. Change it first, then remove the second factor."
INVITATION_OVER = "This link was used or is too old. Ask your administrator for a new one."
SECOND_FACTOR_NEEDED = (
    "This study asks for a second factor, and tokens act only for people who have one. Set it up on your account page."
)
ENROLMENT_OVER = "This set-up was started too long ago, or was used. Start it again."


# Usernames and passwords


def normal_username(typed: str) -> str:
    """One spelling for all ways of typing a username: NFKC, no capitals, no space around it."""
    typed = typed[:LONGEST_TYPED].replace("\x00", "\ufffd")  # PostgreSQL cannot even be asked about a NUL
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", typed).casefold()).strip()


def why_not_username(username: str) -> str | None:
    """Why this (normal) username cannot be given. Only ASCII, so that two usernames never look alike in the log."""
    if re.fullmatch(r"[a-z0-9][a-z0-9._@+-]{1,63}", username) is None:
        return (
            "A username has 2 to 64 letters a-z, digits, dots, hyphens, underscores, @ or +, and starts with a "
            "letter or digit. Choose another one."
        )
    return None


def why_not_email(email: str) -> str | None:
    """Why mail cannot go there; whether it arrives, only sending shows."""
    if len(email) > 254 or re.fullmatch(r"[^@\s,;<>]+@[^@\s,;<>.]+(\.[^@\s,;<>.]+)*", email) is None:
        return "This is not a mail address. Type it like name@example.org."
    return None


def why_not_passkey_name(name: str, *, kept: int) -> str | None:
    """Why a passkey cannot be added under this name, beside so many that are kept."""
    if kept >= MOST_PASSKEYS:
        return f"You have {MOST_PASSKEYS} passkeys, as many as anybody can have. Remove one first."
    if not name or len(name) > LONGEST_PASSKEY_NAME or not name.isprintable():
        return f"Give it a name by which you will know it, with at most {LONGEST_PASSKEY_NAME} characters."
    return None


def normal_password(typed: str) -> str:
    """What is hashed: NFKC, so that a letter typed on another keyboard is the same letter. Nothing is cut off."""
    if len(typed) > LONGEST_TYPED:
        return typed  # far too long to be one, and normalising takes time that grows with the square
    return unicodedata.normalize("NFKC", typed)


def why_not_password(password: str, *, second_factor: bool = False, context: Iterable[str] = ()) -> str | None:
    """Why this cannot be a password: its length, or that it is easily guessed; never which characters it has.

    `context` are words somebody would try first here: the username, the name, the site, the study.
    """
    text = normal_password(password)
    shortest = SHORTEST_WITH_SECOND_FACTOR if second_factor else SHORTEST_ALONE
    if len(text) < shortest:
        hint = "" if second_factor else " A few words that do not belong together are easy to remember."
        return f"The password is too short. Use at least {shortest} characters.{hint}"
    if len(text) > LONGEST_PASSWORD:
        return f"The password is too long. Use at most {LONGEST_PASSWORD} characters."
    repeated = text in (text + text)[1:-1]
    if repeated or len(_pieces(text, frozenset(_words_of(context)))) < FEWEST_PIECES:
        return (
            "The password is easy to guess: it is made of common words, your own name, repetitions or sequences. "
            "Use a few words that do not belong together."
        )
    return None


_SIGNS = frozenset(string.punctuation + string.whitespace)
_LOOK_ALIKE = str.maketrans({"@": "a", "4": "a", "3": "e", "1": "i", "!": "i", "0": "o", "$": "s", "5": "s", "7": "t"})


@lru_cache(maxsize=1)
def common_passwords() -> frozenset[str]:
    """The words shipped in common_passwords.txt."""
    lines = Path(__file__).with_name("common_passwords.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _words_of(context: Iterable[str]) -> Iterable[str]:
    for phrase in context:
        folded = normal_username(phrase)
        yield from (word for word in (folded, *re.split(r"\W+", folded)) if len(word) > 2)


def _pieces(password: str, context: frozenset[str]) -> set[str]:
    # What somebody who guesses has to get right: each listed word, each run and each other character counts once.
    plain = password.casefold()
    decoded = plain.translate(_LOOK_ALIKE)
    decoded = decoded if len(decoded) == len(plain) else plain
    words = common_passwords() | context
    longest = max(map(len, words))
    pieces: set[str] = set()
    at = 0
    while at < len(plain):
        found = next(
            (
                spelt[at : at + length]
                for length in range(min(longest, len(plain) - at), 2, -1)
                for spelt in (plain, decoded)
                if spelt[at : at + length] in words
            ),
            None,
        )
        if found:
            pieces.add(found)
            at += len(found)
        elif (run := _run_at(plain, at)) > 2:
            pieces.add(f"run {plain[at]}")
            at += run
        elif (digits := _digits_at(plain, at)) in (2, 3, 4):
            pieces.add("a year or so")
            at += digits
        else:
            pieces.add("a sign between" if _is_sign_alone(plain, at) else plain[at])
            at += 1
    return pieces


def _is_sign_alone(text: str, at: int) -> bool:
    return text[at] in _SIGNS and not any(sign in _SIGNS for sign in (text[at - 1 : at], text[at + 1 : at + 2]) if sign)


def _run_at(text: str, at: int) -> int:
    # How long a repetition (aaa) or a sequence (abc, 321) goes on from here.
    longest = 1
    for step in (0, 1, -1):
        length = 1
        for left, right in pairwise(text[at:]):
            if ord(right) - ord(left) != step:
                break
            length += 1
        longest = max(longest, length)
    return longest


def _digits_at(text: str, at: int) -> int:
    # The length of the run of digits that starts here; 0 in the middle of one.
    if at and text[at - 1].isdigit():
        return 0
    return len(text[at:]) - len(text[at:].lstrip("0123456789"))


def code_digits(typed: str | None) -> str | None:
    """The six digits of a code as an authenticator app shows it, or None when it is no code at all."""
    digits = re.sub(r"\s", "", unicodedata.normalize("NFKC", (typed or "")[:64]))
    return digits if re.fullmatch(r"[0-9]{6}", digits) else None


RECOVERY_CODES = 10
FEW_RECOVERY_CODES = 3
"""With so few left, somebody is told to make new ones."""


# Attempts


@dataclass(frozen=True)
class Failures:
    """How often it went wrong since it last went right, and when last."""

    count: int = 0
    last_at: datetime | None = None


def wait_after(failures: int, *, free: int) -> timedelta:
    """How long to wait after this many failures: nothing at first, then twice as long each time, up to a limit."""
    if failures < free:
        return timedelta(0)
    # Beyond a few doublings it is the limit in any case; larger powers of two would not fit.
    return min(LONGEST_WAIT, FIRST_WAIT * (1 << min(failures - free, 10)))


def why_throttled(account: Failures, address: Failures, *, now: datetime) -> str | None:
    """Why the next attempt must wait, or None. The same words whether the account exists or not."""
    left = max(
        _left(account, FREE_FAILURES_OF_ACCOUNT, now),
        _left(address, FREE_FAILURES_OF_ADDRESS, now),
    )
    if left <= timedelta(0):
        return None
    seconds = -(-left // timedelta(seconds=1))
    if seconds < 60:
        span = f"{seconds} second{'s' if seconds > 1 else ''}"
    else:
        minutes = -(-seconds // 60)
        span = f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"Too many attempts went wrong. Wait {span}, then try again."


def _left(failures: Failures, free: int, now: datetime) -> timedelta:
    if failures.last_at is None:
        return timedelta(0)
    return failures.last_at + wait_after(failures.count, free=free) - now


# Sessions


class Sitting(Protocol):
    """A session as far as its end is concerned."""

    @property
    def created_at(self) -> datetime: ...
    @property
    def seen_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def ended_at(self) -> datetime | None: ...


def why_ended(session: Sitting, now: datetime, idle: timedelta, absolute: timedelta) -> str | None:
    """Why this session is over, or None. A shorter limit set later holds for sessions that already run."""
    if session.ended_at is not None:
        return "You signed out, or this session was ended. Sign in again."
    if now >= min(session.expires_at, session.created_at + absolute):
        return "You have been signed in for a long time. Sign in again."
    if now >= session.seen_at + idle:
        return "You were away for a while. Sign in again."
    return None


# Tokens


def why_not_scopes(scopes: Iterable[str], held: Iterable[str], *, at_sites: bool = False) -> str | None:
    """Why a token cannot have these scopes: it never allows more than its owner may do, and never signs.

    `held` is what its owner may do; with `at_sites`, at the sites that the token is limited to.
    """
    wanted = set(scopes)
    if not wanted:
        return "Choose at least one scope."
    unknown = wanted - set(Permission)
    if unknown:
        return f"There is no scope {', '.join(sorted(unknown))}. Choose from the list."
    forbidden = wanted & NOT_FOR_TOKENS
    if forbidden:
        return f"A token is never given {', '.join(sorted(forbidden))}: a person does that. Leave it out."
    beyond = wanted - set(held)
    if beyond and at_sites:
        names = ", ".join(sorted(beyond))
        return f"You do not hold {names} at these sites. Leave it out, or do not limit the token to sites."
    if beyond:
        return f"You do not hold {', '.join(sorted(beyond))} in this study. Leave it out, or ask your administrator."
    return None


def why_not_until(expires_at: datetime, *, now: datetime) -> str | None:
    """Why a token cannot last until then."""
    if expires_at <= now:
        return "The last day is over. Choose a later one."
    if expires_at > now + TOKEN_LASTS_AT_MOST:
        return f"A token lasts at most {TOKEN_LASTS_AT_MOST.days} days. Choose an earlier last day."
    return None


# Roles and sites


def why_not_role(
    role: Role,
    *,
    in_study: bool,
    at_site: bool,
    held: frozenset[Role] = frozenset(),
    ended: frozenset[Role] = frozenset(),
) -> str | None:
    """Why a person cannot be given this role in a study, or None.

    `held` are their other roles there (an administrator of the installation is one in every study), `ended` those they
    once had: who could learn an arm does not become blinded by losing the role (ICH E6(R3) 4.1.2).
    """
    name = role.replace("_", " ")
    if not in_study and role is not Role.ADMINISTRATOR:
        return f"The role {name} is held in a study. Choose the study."
    if at_site and (not in_study or role in NOT_AT_A_SITE):
        return f"The role {name} is not held at a site. Leave the site empty."
    if not at_site and role not in WHOLE_STUDY:
        return f"The role {name} is held at a site. Choose the site."
    together = why_not_together(held | {role})
    if together is not None:
        return together
    unblinded_once = ended & UNBLINDED
    if unblinded_once and role is not Role.ADMINISTRATOR and why_not_together(unblinded_once | {role}) is not None:
        once = " and ".join(sorted(item.replace("_", " ") for item in unblinded_once))
        return (
            f"This person was {once} in this study and may know an arm or the sequence. "
            f"Give the role {name} to somebody else."
        )
    return None


def why_not_site_code(code: str) -> str | None:
    """Why a site cannot have this code."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", code) is None:
        return "A site code has 1 to 32 letters, digits, hyphens or underscores. Choose another one."
    return None


def why_not_timezone(name: str) -> str | None:
    """Why this is not the name of a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "There is no such time zone. Use a name like Australia/Sydney."
    return None


# By what a browser says of itself, the most special first: Edge says that it is Chrome, and Chrome that it is Safari.
_BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "Chrome/": "Chrome",
    "CriOS/": "Chrome",
    "Safari/": "Safari",
}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "CrOS": "ChromeOS",
    "Macintosh": "macOS",
    "Linux": "Linux",
}


def browser_in(said: str) -> tuple[str, str] | None:
    """The browser and the system that a User-Agent header names; None where either is not known here."""
    browser, system = (next((names[sign] for sign in names if sign in said), None) for names in (_BROWSERS, _SYSTEMS))
    return None if browser is None or system is None else (browser, system)
