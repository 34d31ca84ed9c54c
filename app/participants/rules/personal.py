"""Can these personal details be kept as typed?"""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields
from datetime import date

from app.foundation.errors import FieldProblem
from app.foundation.partial_dates import ways_to_read

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+").fullmatch
_PHONE = re.compile(r"\+?[0-9 ()/.-]{3,40}").fullmatch
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
OLDEST = 130
LEAST_LETTERS = 2
LEAST_DIGITS = 4
COMPARED_DIGITS = 8  # of the end of a telephone number: with or without the code of the country

LABELS = {
    "given_name": "Given name",
    "family_name": "Family name",
    "date_of_birth": "Date of birth",
    "phone": "Telephone",
    "email": "E-mail",
}


@dataclass(frozen=True)
class PersonalData:
    """Who a participant is and how to reach them; all of it may be left out. Never shown by repr, so in no log."""

    given_name: str | None = field(default=None, repr=False)
    family_name: str | None = field(default=None, repr=False)
    date_of_birth: str | None = field(default=None, repr=False)  # YYYY-MM-DD
    phone: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)

    def tidy(self) -> "PersonalData":
        """The same without surrounding spaces; blank is None."""
        return PersonalData(**{name: (value or "").strip() or None for name, value in self.items().items()})

    def items(self) -> dict[str, str | None]:
        """Field name -> value."""
        return asdict(self)


FIELDS = tuple(one.name for one in fields(PersonalData))


_APOSTROPHES = re.compile("['\u2018\u2019\u02bc\u02b9\u2032`\u00b4]")
_HYPHENS = re.compile("[-\u2010\u2011\u2012\u2013]")


def masked(address: str) -> str:
    """A mail address as somebody who has it knows it again, and nobody else learns it: `k…@e….org`."""
    name, _, domain = address.rpartition("@")
    host, _, last = domain.rpartition(".")
    return f"{name[:1]}…@{host[:1]}….{last}"


def initials(personal: PersonalData) -> str:
    """The first letters of given and family name, e.g. AB; empty without names."""
    return "".join(
        name.strip()[0].upper() for name in (personal.given_name, personal.family_name) if (name or "").strip() and name
    )


def days_meant(text: str, language: str) -> frozenset[str]:
    """The dates (YYYY-MM-DD) that this text can be, as people of the language write one; none where it is no date."""
    return frozenset(way for way in ways_to_read(text, language) if len(way) == len("YYYY-MM-DD"))


def why_not_look_for(text: str) -> str | None:
    """Why nobody can be looked for by this text, or None: a name, a date of birth, a telephone number, an address."""
    if not text.strip():
        return "Type a name, a date of birth, a telephone number or an e-mail address."
    if len(text) > 200:
        return "Shorten this to 200 characters."
    if _PHONE(text.strip()):
        return None if len(_digits(text)) >= LEAST_DIGITS else f"Type {LEAST_DIGITS} digits of the number or more."
    letters = sum(each.isalpha() for word in _words(text) for each in word)
    return None if "@" in text or letters >= LEAST_LETTERS else "Type two letters of a name or more."


def fits(personal: PersonalData, text: str, *, born: Collection[str] = ()) -> bool:
    """Whether this may be the person somebody looks for: every word begins a word of their name, in whatever order,
    without regard to case, accents, apostrophes and hyphens; or their date of birth, part of their telephone number or
    of their address. `born` are the dates that the text can be (`days_meant`).
    """
    text = text.strip()
    if personal.date_of_birth is not None and personal.date_of_birth in born:
        return True
    if "@" in text:
        return text.casefold() in (personal.email or "").casefold()
    if _PHONE(text):
        return text == personal.date_of_birth or _digits(text).lstrip("0") in _digits(personal.phone)
    names = {word for way in _ways_to_join(f"{personal.given_name or ''} {personal.family_name or ''}") for word in way}
    return any(all(any(name.startswith(word) for name in names) for word in way) for way in _ways_to_join(text))


def _ways_to_join(text: str) -> list[list[str]]:
    """The words of a name, as they are parted by its apostrophes and hyphens; without the first; without either."""
    without = _APOSTROPHES.sub("", text)
    return [_words(text), _words(without), _words(_HYPHENS.sub("", without))]


def in_common(one: PersonalData, other: PersonalData) -> tuple[str, ...]:
    """By which fields these two look like one person, in the order of the form; empty when they do not.

    The same address or number, or the same names unless both say when they were born and differ.
    """
    same = {key[0] for key in likenesses(one) & likenesses(other)}
    found = []
    born = {each.date_of_birth for each in (one, other)} - {None}
    if "names" in same and len(born) < 2:
        found += ["given_name", "family_name"]
        found += ["date_of_birth"] if one.date_of_birth and other.date_of_birth else []
    return (*found, *(name for name in ("phone", "email") if name in same))


def likenesses(personal: PersonalData) -> frozenset[tuple[str, ...]]:
    """What two people share who look like one: their names (`names`), the end of the number, the address.

    Without case, accents and whatever joins words; only of what is long enough to say something.
    """
    names = [_words(each or "") for each in (personal.given_name, personal.family_name)]
    number = _digits(personal.phone)[-COMPARED_DIGITS:]
    address = (personal.email or "").casefold()
    found: list[tuple[str, ...]] = [("names", " ".join(names[0]), " ".join(names[1]))] if all(names) else []
    found += [("phone", number)] if len(number) == COMPARED_DIGITS else []
    return frozenset([*found, *([("email", address)] if address else [])])


def _words(text: str) -> list[str]:
    """The words of a name: without case, accents and whatever joins them."""
    letters = unicodedata.normalize("NFKD", _unjoined(text).casefold())
    plain = "".join(each for each in letters if not unicodedata.combining(each))
    return re.findall(r"\w+", plain)


def _unjoined(text: str) -> str:
    """A name without the signs that only say how its letters are joined, as names in Persian or Sinhala have them."""
    return text.replace("\u200c", "").replace("\u200d", "")


def _digits(text: str | None) -> str:
    return "".join(each for each in text or "" if each in "0123456789")


def personal_problems(personal: PersonalData, *, today: date) -> list[FieldProblem]:
    """What keeps these details from being kept, at most one problem per field."""
    problems = []
    for name, value in personal.tidy().items().items():
        if value is not None and (wrong := _wrong(name, value, today)):
            problems.append(FieldProblem(name, wrong[0], wrong[1]))
    return problems


def _wrong(name: str, value: str, today: date) -> tuple[str, str] | None:
    label = LABELS[name]
    if not (_unjoined(value) if name in ("given_name", "family_name") else value).isprintable():
        return "text", f"{label}: type it on one line."
    if name in ("given_name", "family_name"):
        if len(value) > 80:
            return "max_length", f"{label}: shorten it to 80 characters."
        return None
    if name == "email":
        if len(value.encode()) > 200 or not _EMAIL(value):
            return "email", "E-mail: type an address such as name@example.org, of at most 200 characters."
        return None
    if name == "phone":
        return None if _PHONE(value) else ("phone", "Telephone: type digits, with + for the country, at most 40.")
    if not _DAY(value):
        return "date", "Date of birth: write it as year-month-day, such as 1980-03-14."
    try:
        born = date.fromisoformat(value)
    except ValueError:
        return "date", "Date of birth: there is no such day. Correct it."
    if born > today or today.year - born.year > OLDEST:
        return "range", f"Date of birth: a day between {today.year - OLDEST} and today. Correct the year."
    return None
