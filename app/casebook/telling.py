"""How does a casebook say things? In the language of the study, and by the clock of the site."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from app.capture.typed import missing_code
from app.foundation.clock import today
from app.foundation.languages import Gettext, sentence, translations
from app.printing import Told
from app.rendering import day, known_day
from app.studies.definition import Item, Study, Visit
from app.wording import said

NOTHING = "–"
CODE = 16  # digits of a fingerprint after which its line may break
BREAK = "\u200b"


class Labelled(Protocol):
    """Anything of a study that has a code and a label."""

    @property
    def code(self) -> str: ...
    @property
    def label(self) -> str: ...


class Telling:
    """The words of one casebook."""

    def __init__(self, definition: Study, timezone: str) -> None:
        self.definition, self.timezone, self.zone = definition, timezone, ZoneInfo(timezone)
        self.language = definition.language
        self.gettext: Gettext = translations(self.language).gettext

    def moment(self, at: datetime | None) -> str:
        """`14 Mar 2026 14:02` at the site; nothing for None."""
        return f"{self.day(self.on(at))} {at.astimezone(self.zone):%H:%M}" if at is not None else ""

    def on(self, at: datetime) -> date:
        """The date at the site."""
        return today(self.timezone, at)

    def day(self, on: date | None) -> str:
        """`14 Mar 2026`; nothing for None."""
        return day(on, self.language)

    def known_day(self, text: str) -> str:
        """A day as far as it is known."""
        return known_day(text, self.language)

    def sentence(self, text: str) -> str:
        """A sentence of the program, which says itself in English, in the language of the study."""
        return sentence(text, self.language)

    def yes_no(self, holds: bool) -> str:
        """`yes` or `no`."""
        return self.gettext("yes") if holds else self.gettext("no")

    def word(self, words: Mapping[str, str], code: str) -> str:
        """One of our own codes in words; a code that has none stays as it is."""
        return self.gettext(words[code]) if code in words else code

    def label(self, choices: Iterable[Labelled], code: str) -> str:
        """A code of the study by its label; the labels that a study has by default are ours."""
        return next((self.sentence(each.label) for each in choices if each.code == code), code)

    def answer(self, item: Item, value: object) -> str:
        """A stored answer: a reason for having none stands in brackets, and so does nothing else."""
        words = said(item, value, self.definition.missing_codes, self.language)
        if missing_code(value) is not None:
            return f"[{words}]"
        return words or NOTHING

    def with_unit(self, item: Item, value: object) -> str:
        """The same with its unit, where there is one and an answer."""
        unit = f" {item.unit}" if item.unit and value is not None and not isinstance(value, dict) else ""
        return f"{self.answer(item, value)}{unit}"

    def visit(self, code: str) -> str:
        """A visit by its label; one that the protocol does not know any more by its code."""
        planned: Visit | None = self.definition.visit(code)
        return planned.label if planned is not None else code

    def code(self, digits: str) -> str:
        """A fingerprint whose line may break; what is copied has nothing between its digits."""
        return BREAK.join(digits[start : start + CODE] for start in range(0, len(digits), CODE))

    def told(self, rows: Iterable[tuple[str, str | None]]) -> list[Told]:
        """Lines of label and value, without those that have none."""
        return [Told(label, value) for label, value in rows if value]
