"""Which codes and labels can names of a source have here? Each once, and as close to what they were as can be."""

import html
import re
import unicodedata

from app.studies.definition import CODE

LONGEST_CODE = 40
LONGEST_LABEL = 400

_code = CODE.fullmatch
_any_code = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}").fullmatch
_negative = re.compile(r"[-−]\s*([0-9]+(?:\.[0-9]+)?)").fullmatch
_tag = re.compile(r"<(?:[A-Za-z/!][^<>]{0,2000})>")
_block = re.compile(r"<(?:br|/p|/div|/li|/tr|/h[1-6])\b[^<>]{0,200}>", re.IGNORECASE)
_unprintable = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class Codes:
    """Codes that are taken; whatever the case, each is given once."""

    def __init__(self, *reserved: str) -> None:
        self._taken = {code.casefold() for code in reserved}
        self._last: dict[str, int] = {}

    def take(self, name: str, otherwise: str = "item") -> str:
        """A code such as studies, visits, instruments and items have: small letters, digits and `_`."""
        return self._free(name if _code(name) else _slug(name) or otherwise)

    def take_any(self, name: str, otherwise: str = "c") -> str:
        """A code such as choices, sites and arms have; a negative number is `m` and the number."""
        name = name.strip()
        if not _any_code(name):
            below_zero = _negative(name)
            name = f"m{below_zero[1]}" if below_zero else re.sub(r"[^A-Za-z0-9_.-]+", "_", _ascii(name)).strip("_.-")
        return self._free(name[:LONGEST_CODE] or otherwise)

    def _free(self, code: str) -> str:
        begun = code[:LONGEST_CODE].casefold()
        free, number = code[:LONGEST_CODE], self._last.get(begun, 1)
        while free.casefold() in self._taken:
            number += 1
            free = f"{code[: LONGEST_CODE - len(str(number)) - 1]}_{number}"
        self._taken.add(free.casefold())
        self._last[begun] = number  # those before it are taken, and are not tried again: there may be 20,000
        return free


class Labels:
    """Labels that are taken; a second one gets a number behind it."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def take(self, label: str) -> str:
        begun = label[: LONGEST_LABEL - 8].casefold()
        free, number = label, self._last.get(begun, 1)
        while free.casefold() in self._taken:
            number += 1
            free = f"{label[: LONGEST_LABEL - 8]} ({number})"
        self._taken.add(free.casefold())
        self._last[begun] = number
        return free


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "_", _ascii(text).lower()).strip("_")
    return f"n{slug}"[:LONGEST_CODE] if slug[:1].isdigit() else slug[:LONGEST_CODE].rstrip("_")


def has_markup(text: str) -> bool:
    """Whether a text holds HTML."""
    return _tag.search(text) is not None


def plain(text: str) -> str:
    """A text without HTML, without what cannot be printed, and with one space between words."""
    if "<" in text:
        text = _tag.sub("", _block.sub(" ", text))
    if "&" in text:
        text = html.unescape(text)
    return " ".join(_unprintable.sub(" ", text).split())


def paragraphs(text: str) -> str:
    """As `plain`, with the lines that the text has."""
    text = _tag.sub("", _block.sub("\n", text)) if "<" in text else text
    return "\n".join(line for line in (plain(line) for line in text.splitlines()) if line)


def short(text: str, most: int = LONGEST_LABEL) -> str:
    """A text cut to what a label can have."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
