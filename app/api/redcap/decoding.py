"""What was asked? One form body, urlencoded or multipart, with lists and flags as any of the known clients writes them.

A list is `name[0]`, `name[1]` (from any number on), `name[R-0042]`, `name[]`, a repeated `name`, or one text with
commas; a flag is true, TRUE, True, 1 or yes. A parameter that is sent empty was not sent. What nobody knows is passed
over.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import unquote_to_bytes

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from app.api.redcap.answers import Shape
from app.api.redcap.errors import Wrong, not_valid, shown
from app.people.reads import SUPER

MOST_PARAMETERS = 100_000
TOKEN = 32
"""Digits of the token of a study."""
TOO_LARGE = "This is larger than can be sent at once. Send it in parts."
NOT_UTF_8 = "The letters of this call are not in UTF-8. Send it in UTF-8."
URLENCODED = "application/x-www-form-urlencoded"
LETTERS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "iso-8859-1": "cp1252", "windows-1252": "cp1252"}
"""The encodings that an urlencoded body may be said to be in; ISO 8859-1 is read as browsers read it."""
# What stands between the brackets says nothing: some clients number their values, others name each by itself.
_indexed = re.compile(r"([^\[]+)\[[^\[\]]*\]").fullmatch

YES, NO = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})
DELIMITERS = {",": ",", "tab": "\t", "\t": "\t", ";": ";", "|": "|", "^": "^"}
DELIMITERS |= {"comma": ",", "semicolon": ";", "pipe": "|", "caret": "^"}
"""As they are, and as one of the clients calls them."""


@dataclass(frozen=True)
class File:
    """A file that was sent along."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Call:
    """The parameters of one call."""

    plain: Mapping[str, list[str]] = field(default_factory=dict)
    listed: Mapping[str, list[str]] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """The (last) value of a parameter without surrounding spaces; blank is none."""
        values = self.plain.get(name) or self.listed.get(name)
        return (values[-1].strip() if values else "") or default

    def raw(self, name: str) -> str:
        """The value as it was sent."""
        return (self.plain.get(name) or [""])[-1]

    def names(self, name: str) -> tuple[str, ...]:
        """The values of a list, each once, in the order in which they were sent; none when it was not sent."""
        values = [each.strip() for each in self.listed.get(name, ())]
        values += [each.strip() for text in self.plain.get(name, ()) for each in text.split(",")]
        return tuple(dict.fromkeys(each for each in values if each))

    def flag(self, name: str) -> bool:
        """Whether something was asked for."""
        said = self.text(name).lower()
        if said in YES:
            return True
        if said and said not in NO:
            raise not_valid(name)
        return False

    def choice(self, name: str, *choices: str) -> str:
        """One of these words; the first one when nothing was said."""
        said = self.text(name)
        found = next((each for each in choices if each.lower() == said.lower()), None)
        if said and found is None:
            raise not_valid(name)
        return found or choices[0]

    def number(self, name: str) -> int | None:
        """A whole number, or None."""
        said = self.text(name)
        if not said:
            return None
        if not (said.isascii() and said.isdigit() and len(said) < 10):
            raise not_valid(name)
        return int(said)

    @property
    def instance(self) -> int:
        """The number of the repeat that is meant: the first where none was named."""
        number = self.number("repeat_instance")
        if number == 0:
            raise not_valid("repeat_instance")
        return 1 if number is None else number

    def refuse_nul(self) -> None:
        """PostgreSQL cannot even be asked about a NUL; in `data`, the cell that holds one is named instead."""
        for name, values in (*self.plain.items(), *self.listed.items()):
            if name != "data" and any("\x00" in value for value in values):
                raise Wrong(f'The parameter "{shown(name)}" holds a character that cannot be kept. Take it out.')

    @property
    def content(self) -> str:
        return self.text("content")

    @property
    def token(self) -> str:
        """The token as it was given: of digits in capitals, which these clients send in either case."""
        said = self.text("token")
        return said.upper() if len(said) in (TOKEN, SUPER) else said

    @property
    def is_super(self) -> bool:
        """Whether it is a super token."""
        return len(self.token) == SUPER

    @property
    def has_data(self) -> bool:
        """Whether something is to be imported."""
        return any(text.strip() for text in self.plain.get("data", ()))

    @property
    def format(self) -> str:
        """csv, json, xml or odm: of what is exported, or of `data`. Nothing said is XML."""
        said = "format" if self.text("format") else "outputFormat"  # as one of the clients calls it now and then
        return self.choice(said, "xml", "json", "csv", "odm")

    @property
    def shape(self) -> Shape:
        """The format of what is exported, where there is no ODM."""
        return _shape(self.format)

    @property
    def return_shape(self) -> Shape:
        """The format of errors and of what is answered to an import; never refuses."""
        for name in ("returnFormat", "format", "outputFormat"):
            said = self.text(name).lower()
            if said in ("csv", "json", "xml"):
                return _shape(said)
        return "xml"

    @property
    def result_shape(self) -> Shape:
        """The format of what was done, where `format` is not that of anything sent; as errors have it without one."""
        return self.shape if self.text("format") else self.return_shape

    @property
    def delimiter(self) -> str:
        """What stands between the cells of CSV."""
        said = self.plain.get("csvDelimiter", [""])[-1]
        said = said if said == "\t" else said.strip().lower()
        if not said:
            return ","
        if said not in DELIMITERS:
            raise not_valid("csvDelimiter")
        return DELIMITERS[said]


def _shape(said: str) -> Shape:
    return "csv" if said == "csv" else "json" if said == "json" else "xml"


async def call_of(request: Request, *, largest: int) -> Call:
    """The call that a request is; a form that breaks off is one without parameters."""
    plain: dict[str, list[str]] = {}
    listed: dict[str, list[str]] = {}
    files: dict[str, File] = {}
    kind = Message()
    kind["content-type"] = request.headers.get("content-type", "")
    sent: Iterable[tuple[str, str | UploadFile]]
    try:
        if kind.get_content_type() == URLENCODED:
            sent = _pairs(await request.body(), str(kind.get_param("charset", "utf-8")), largest)
        else:
            sent = (await request.form(max_fields=MOST_PARAMETERS, max_part_size=largest)).multi_items()
    except HTTPException as error:
        raise Wrong(str(error.detail), error.status_code) from None
    for name, value in sent:
        if isinstance(value, UploadFile) and name == "data":
            # As curl -F data=@rows.csv sends it: taken for no data, it would be answered with everything there is.
            plain.setdefault(name, []).append(_text_of(await value.read(), largest))
        elif isinstance(value, UploadFile):
            media_type = value.content_type or "application/octet-stream"
            files[name] = File(value.filename or "", media_type, await value.read())
        elif found := _indexed(name):
            listed.setdefault(found[1], []).append(value)
        else:
            plain.setdefault(name, []).append(value)
    return Call(plain, listed, files)


def _text_of(content: bytes, largest: int) -> str:
    """Rows that were sent as a file."""
    if len(content) > largest:
        raise Wrong(TOO_LARGE, 413)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Wrong(NOT_UTF_8) from None


def _pairs(body: bytes, charset: str, largest: int) -> list[tuple[str, str]]:
    """The parameters of an urlencoded body, whose letters may stand as %XX or, as curl -d sends them, as they are."""
    pairs = [pair.partition(b"=") for pair in body.split(b"&") if pair]
    if len(pairs) > MOST_PARAMETERS or any(len(value) > largest for _, _, value in pairs):
        raise Wrong(TOO_LARGE, 413)
    encoding = LETTERS.get(charset.lower(), "utf-8")
    try:
        return [(_decoded(name, encoding), _decoded(value, encoding)) for name, _, value in pairs]
    except UnicodeDecodeError:
        # What was meant would be a guess, and what was guessed would be kept.
        raise Wrong(NOT_UTF_8) from None


def _decoded(sent: bytes, encoding: str) -> str:
    return unquote_to_bytes(sent.replace(b"+", b" ")).decode(encoding)
