"""Which languages are there, and what is a sentence of ours in one of them?

The source is British English. `translations/<language>/LC_MESSAGES` has two catalogues: `messages.po` are the words of
the templates, `sentences.po` those of the program. Rooms know no language: they say a sentence in English, with what it
is about put in, and whoever shows it asks `sentence` for the same in the reader's. It is found by its pattern there;
what was put in is kept as it is, unless it is words of ours or a day. What somebody typed must never go through it
by itself.
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property, lru_cache
from pathlib import Path

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_skeleton
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import get_decimal_symbol
from babel.support import NullTranslations, Translations

from app.foundation.words import MONTHS

TRANSLATIONS = Path(__file__).resolve().parent.parent.parent / "translations"
Gettext = Callable[[str], str]
"""A word or a sentence of ours in the language of whoever reads."""
SOURCE = "en"
DOMAINS = ("messages", "sentences")
PLACE = re.compile(r"\{(\w+)\}")
_RUN = re.compile(r"(?<!\{)(?:\{\w+\})+(?!\})")
_DAY = re.compile(rf"(\d\d?) ({'|'.join(MONTHS)}) (\d{{4}})")
_FULL = re.compile(r"\w+day, (\d\d? \w+ \d{4})")
_END = re.compile(r"(?<=[.?!]) (?=\S)")
_NUMBERED = re.compile(r"((?:[\d.,]+ )?)(.+?)( \d+| \(\d+\)|)")
_BETWEEN = re.compile(r"( and | or |, )")
_FEWEST_LETTERS = 4  # a pattern with fewer of its own would be found in anything
# What somebody typed may stand in a sentence: none of it may make looking for one long.
_MOST_TOGETHER = 6  # sentences that are one in the catalogue
_MOST_SENTENCES = 40  # of one text; what follows is left as it is
_MOST_INSIDE = 4  # sentences within one another, or beginnings of one line with a colon after each


@lru_cache(maxsize=1)
def languages() -> tuple[str, ...]:
    """The languages a person can choose from, English first."""
    found = sorted(path.parts[-3] for path in TRANSLATIONS.glob("*/LC_MESSAGES/messages.po"))
    return (SOURCE, *(each for each in found if each != SOURCE))


def name_of(language: str) -> str:
    """What a language calls itself: `Deutsch`."""
    name = Locale.parse(language.replace("-", "_")).get_language_name(language.replace("-", "_")) or language
    return name[:1].upper() + name[1:]


@lru_cache(maxsize=32)
def decimal_sign(language: str) -> str:
    """What stands before the decimals of a number in a language: `,` for `de`; `.` where nobody knows."""
    try:
        return str(get_decimal_symbol(language.replace("-", "_")))
    except (UnknownLocaleError, ValueError):
        return "."


def nearest(wanted: str) -> str | None:
    """The catalogue for a language tag: `de` for `de-CH`; None when there is none."""
    tag = wanted.strip().lower().replace("_", "-")
    known = {each.lower(): each for each in languages()}
    return known.get(tag) or known.get(tag.partition("-")[0])


def asked_for(accept_language: str) -> str | None:
    """The language of ours that a browser likes best, from its Accept-Language; None when it likes none of them."""
    wishes = []
    for place, part in enumerate(accept_language[:500].split(",")):
        tag, _, more = part.partition(";")
        weight = more.strip().removeprefix("q=").strip() or "1"
        liked = float(weight) if re.fullmatch(r"[01](\.\d{1,3})?", weight) else 0.0
        found = nearest(tag)
        if found is not None and liked > 0:
            wishes.append((-liked, place, found))
    return min(wishes)[2] if wishes else None


@lru_cache(maxsize=32)
def translations(language: str) -> NullTranslations:
    """Both catalogues of a language, read from their text files; what is missing stays English."""
    first: NullTranslations | None = None
    for domain in DOMAINS:
        found = _read(language, domain)
        if found is not None and first is None:
            first = found
        elif found is not None and first is not None:
            first.add_fallback(found)
    return first or NullTranslations()


def _read(language: str, domain: str) -> Translations | None:
    folder = nearest(language) or language
    catalogue = TRANSLATIONS / folder / "LC_MESSAGES" / f"{domain}.po"
    if not folder.replace("-", "").replace("_", "").isalnum() or not catalogue.is_file():
        return None
    compiled = io.BytesIO()
    with catalogue.open("rb") as text:
        write_mo(compiled, read_po(text, locale=folder))
    compiled.seek(0)
    return Translations(compiled)


class Names(dict[str, str]):
    """What is put into sentences, such as the label of a question -> what it is in the language of whoever reads.

    Made once for each language and kept: two of them are never the same, whatever they hold.
    """

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    @cached_property
    def backwards(self) -> "Names":
        """What each is called in its own language; without those that would be two things."""
        found = Names({other: one for one, other in self.items()})
        if len(found) < len(self):
            many = Counter(self.values())
            found = Names({other: one for other, one in found.items() if many[other] == 1})
        return found

    def said(self, text: str) -> str | None:
        """What this is called, also with a number beside it (`Visit 2`, `Dose (2)`, `5 mg`); None when nobody knows."""
        found = self.get(text)
        if found is None and (numbered := _NUMBERED.fullmatch(text)) is not None and numbered[2] in self:
            found = numbered[1] + self[numbered[2]] + numbered[3]
        return found


@dataclass(frozen=True)
class Pattern:
    """A sentence with places: how one that is filled in looks, and what it is in another language.

    `names` are those of its places, `between` what stands between each and the next.
    """

    before: str
    after: str
    between: tuple[str, ...]
    names: tuple[str, ...]
    translated: str

    def said(self, text: str, language: str, inside: int = _MOST_INSIDE, names: "Names | None" = None) -> str | None:
        """The text in the other language, when it is this sentence; None when it is not."""
        if (
            len(text) < len(self.before) + len(self.after)
            or not text.startswith(self.before)
            or not text.endswith(self.after)
        ):
            return None
        values = self._values(text)
        if values is None:
            return None
        filled = PLACE.sub(lambda place: _value(values[place[1]], language, inside - 1, names), self.translated)
        return filled.replace("{{", "{").replace("}}", "}")

    def _values(self, text: str) -> dict[str, str] | None:
        """What stands in the places; each ends where what follows it stands first, so that nothing is tried twice."""
        at, end = len(self.before), len(text) - len(self.after)
        values: dict[str, str] = {}
        for name, piece in zip(self.names, (*self.between, None), strict=True):
            until = end if piece is None else text.find(piece, at, end)
            if until < at or values.setdefault(name, text[at:until]) != text[at:until]:
                return None
            at = until + len(piece or "")
        return values


def patterns_of(pairs: Iterable[tuple[str, str]]) -> list[Pattern]:
    """The patterns among sentences and their translations, those with most letters of their own first.

    Places that touch, as in `{number}{unit}`, are one: nobody can say where the first ends. They must touch in the
    translation as well.
    """
    found = []
    for said, translated in pairs:
        runs = [run[0] for run in _RUN.finditer(said)]
        pieces = _RUN.split(said)
        letters = sum(map(str.isalpha, "".join(pieces)))
        if not runs or letters < _FEWEST_LETTERS or not set(runs) >= set(_RUN.findall(translated)):
            continue
        literal = [piece.replace("{{", "{").replace("}}", "}") for piece in pieces]
        seen: dict[str, str] = {}
        names = tuple(seen.setdefault(run, f"at{len(seen)}") for run in runs)
        filled = _RUN.sub(lambda run, names=seen: "{" + names[run[0]] + "}", translated)  # type: ignore[misc]
        found.append((letters, Pattern(literal[0], literal[-1], tuple(literal[1:-1]), names, filled)))
    return [pattern for _, pattern in sorted(found, key=lambda each: -each[0])]


@lru_cache(maxsize=32)
def _patterns(language: str) -> tuple[list[Pattern], dict[str, str]]:
    """The patterns of a language, and its sentences without places."""
    own = language == SOURCE  # whose sentences any other catalogue knows
    of = next((each for each in languages() if each != SOURCE), SOURCE) if own else language
    catalogue = TRANSLATIONS / of / "LC_MESSAGES" / "sentences.po"
    if not catalogue.is_file():
        return [], {}
    with catalogue.open("rb") as text:
        known = [
            (str(each.id), str(each.id if own else each.string))
            for each in read_po(text, locale=of)
            if each.id and isinstance(each.id, str) and each.string
        ]
    whole = {one: other for one, other in known if not PLACE.search(one)}
    return patterns_of(known), whole


@lru_cache(maxsize=4096)
def sentence(text: str, language: str, names: Names | None = None) -> str:
    """A sentence of the program in another language; as it is when it is none, or in English.

    `names`: what of the study stands in it, in that language; then also a label by itself is one of them.

    >>> sentence("This needs an answer.", "en")
    'This needs an answer.'
    """
    folder = nearest(language)
    if folder is None or not text or (folder == SOURCE and not names):
        return text
    found = _found(text, folder, names=names)
    if found is not None:
        return found
    parts = _END.split(text)
    if len(parts) == 1:
        return text
    # Several sentences put together: as many of them in a row as there are for, else each by itself.
    said: list[str] = []
    at = 0
    while at < len(parts):
        if len(said) == _MOST_SENTENCES:
            said += parts[at:]
            break
        for end in range(min(len(parts), at + _MOST_TOGETHER), at, -1):
            found = _found(" ".join(parts[at:end]), folder, names=names)
            if found is not None:
                break
        else:
            found, end = parts[at], at + 1
        said.append(found)
        at = end
    return " ".join(said)


def in_language(text: str, language: str, names: Names | None = None) -> str:
    """A sentence or a label of ours in another language, as the program or a template has it.

    `names`: what of a study stands in it, in that language.
    """
    said = sentence(text, language, names)
    return str(translations(language).gettext(text)) if said == text and text else said


def _found(text: str, language: str, inside: int = _MOST_INSIDE, names: Names | None = None) -> str | None:
    if inside < 0:
        return None
    patterns, whole = _patterns(language)
    if text in whole:
        return whole[text]
    if names and (named := names.said(text)) is not None:
        return named
    said_each = (each.said(text, language, inside, names) for each in patterns)
    found = next((found for found in said_each if found is not None), None)
    if (
        found is None and text[:1].isupper() and ": " not in text
    ):  # what follows a colon elsewhere may begin a line here
        within = text[:1].lower() + text[1:]
        begun = (each.said(within, language, names=names) for each in patterns if each.before[:1].islower())
        found = whole.get(within) or next((said for said in begun if said is not None), None)
        return found[:1].upper() + found[1:] if found else None
    if found is None and ": " in text:
        about, _, rest = text.partition(": ")
        said = _found(rest, language, inside - 1, names)
        if said is None and rest.endswith("."):  # `Surgery: yes.` has no sentence behind the colon, but a word of ours
            _, whole = _patterns(language)
            word = rest.removesuffix(".")
            word_said = whole.get(word) or (names.said(word) if names else None)
            said = f"{word_said}." if word_said else None
        named = names.said(about) if names else None
        if said is None and named is None:
            return None
        return f"{named or about}: {said or rest}"
    return found


def _value(value: str, language: str, inside: int, names: Names | None = None) -> str:
    """What was put into a sentence: words of ours, several of them, or a day, are translated as well."""
    found = _found(value, language, inside, names)
    if found is None:
        _, whole = _patterns(language)
        end = next((each for each in whole if each.startswith(" ") and value.endswith(each)), "")
        parts = _BETWEEN.split(value.removesuffix(end))
        parts = (
            [_found(part, language, names=names) or part for part in parts]
            if len(parts) > 1
            else [whole.get(parts[0], parts[0])]
        )
        found = "".join((*parts, whole.get(end, "")))
        found = _FULL.sub(lambda at: _full_day(at, language), found)
        found = _DAY.sub(lambda at: _day(at, language), found)
    return found.replace("{", "{{").replace("}", "}}")


def _day(at: re.Match[str], language: str) -> str:
    try:
        on = date(int(at[3]), 1 + MONTHS.index(at[2]), int(at[1]))
    except ValueError:
        return at[0]
    return day_in(on, language)


def _full_day(at: re.Match[str], language: str) -> str:
    try:
        on = datetime.strptime(at[1], "%d %B %Y").date()  # noqa: DTZ007 a day has no zone
    except ValueError:
        return at[0]
    return format_date(on, "full", locale=language.replace("-", "_"))


@lru_cache(maxsize=8192)
def day_in(value: date, language: str, *, weekday: bool = False) -> str:
    """A day as a page of this language writes it: `14 Mar 2026`, `14. März 2026`, with its weekday if wanted."""
    if language.partition("-")[0] == SOURCE:
        return format_date(value, "EEE d MMM y" if weekday else "d MMM y", locale=SOURCE)
    return format_skeleton("yMMMEd" if weekday else "yMMMd", value, locale=language.replace("-", "_"))
