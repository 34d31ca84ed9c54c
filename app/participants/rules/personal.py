"""Can these personal details be kept as typed?"""

import re
from dataclasses import asdict, dataclass, field, fields
from datetime import date

from app.foundation.errors import FieldProblem

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+").fullmatch
_PHONE = re.compile(r"\+?[0-9 ()/.-]{3,40}").fullmatch
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
OLDEST = 130

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


def initials(personal: PersonalData) -> str:
    """The first letters of given and family name, e.g. AB; empty without names."""
    return "".join(
        name.strip()[0].upper() for name in (personal.given_name, personal.family_name) if (name or "").strip() and name
    )


def personal_problems(personal: PersonalData, *, today: date) -> list[FieldProblem]:
    """What keeps these details from being kept, at most one problem per field."""
    problems = []
    for name, value in personal.tidy().items().items():
        if value is not None and (wrong := _wrong(name, value, today)):
            problems.append(FieldProblem(name, wrong[0], wrong[1]))
    return problems


def _wrong(name: str, value: str, today: date) -> tuple[str, str] | None:
    label = LABELS[name]
    if not value.isprintable():
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
        return "date", "Date of birth: type it as YYYY-MM-DD."
    try:
        born = date.fromisoformat(value)
    except ValueError:
        return "date", "Date of birth: there is no such day. Correct it."
    if born > today or today.year - born.year > OLDEST:
        return "range", f"Date of birth: a day between {today.year - OLDEST} and today. Correct the year."
    return None
