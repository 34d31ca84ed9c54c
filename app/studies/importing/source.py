"""What kind of file is this, and what study does it define? Told by its content, never by its name."""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from datetime import date
from io import BytesIO
from typing import Protocol

from app.foundation.words import marked_unicode
from app.studies.definition import RESERVED_CODES
from app.studies.importing import odm_ours, redcap_dictionary, redcap_project, usdm, xlsform
from app.studies.importing.building import Converted, built
from app.studies.importing.codes import Codes
from app.studies.importing.draft import Draft
from app.studies.importing.markup import root_of, root_without, with_lines
from app.studies.importing.redcap import Event
from app.studies.importing.report import Failed

LARGEST_SOURCE = 20_000_000  # bytes
LARGEST_FILE = 2_000_000_000  # bytes, of ODM and of REDCap's: what was entered is passed over as it is read
_PIECE = 65_536

# What XML may say of itself; everything else is Unicode.
_DECLARED = re.compile(rb"\s*<\?xml[^>]{0,100}\bencoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_ENCODINGS = {name: name for name in ("iso-8859-1", "iso-8859-15", "windows-1252", "us-ascii")}
_SPREADSHEET = b"PK\x03\x04"
_OTHER_FILES = (
    (b"\xd0\xcf\x11\xe0", "This is an old spreadsheet (XLS). Save the sheet as CSV in UTF-8."),
    (b"%PDF", "This is a PDF. Export the data dictionary as CSV, or the definition as XML."),
    (b"\x1f\x8b", "This file is compressed. Unpack it first."),
)


class Readable(Protocol):
    """A file that is open to be read, so many bytes at a time."""

    def read(self, size: int, /) -> bytes: ...


def convert(
    data: bytes | Readable,
    *,
    name: str,
    on: date,
    code: str | None = None,
    title: str = "",
    events: Sequence[Event] = (),
) -> Converted:
    """The study folder of a file, and the report; `Failed`, with what to do, when it cannot become one.

    `data` is its bytes, or a file that is open to be read: one with data may be of any size up to `LARGEST_FILE`.
    `name` is what the file is called in the report, `on` the day of the import, `code` that of the study, and `title`
    its title where the file is not to say it. `events` are those of the study that a dictionary is read for.
    """
    if code is not None and Codes(*RESERVED_CODES).take(code) != code:
        raise Failed(
            f"“{code[:60]}” cannot be a study's code. Write small letters, digits and _, and no word of our own.",
            about="code",
        )
    draft = read(data, name=name, events=events)
    if title:
        draft.title = title
        draft.said.pop("short_title", None)
    if code is not None:
        draft.code = code
    elif not draft.title:
        draft.code = Codes(*RESERVED_CODES).take(name.rpartition("/")[2].rpartition(".")[0] or name, "imported")
    return built(draft, on=on)


def read(data: bytes | Readable, *, name: str, events: Sequence[Event] = ()) -> Draft:
    """The draft of a file; `events` are those of the study that a dictionary is read for."""
    file = BytesIO(data) if isinstance(data, bytes) else data
    begins = file.read(_PIECE)
    # What was entered is passed over as it is read: the definition alone has to be small.
    if _is_odm(begins):
        return odm_ours.read(root_without(_texts(begins, file), "ClinicalData"), name)
    if _is_odm(begins, of_redcap=True):
        return redcap_project.read(root_without(with_lines(_texts(begins, file)), "ClinicalData"), name)
    data = begins + file.read(LARGEST_SOURCE + 1 - len(begins))
    if data.startswith(_SPREADSHEET) and len(data) <= LARGEST_SOURCE:
        return xlsform.read(data, name, events)
    text = text_of(data)
    if usdm.is_one(text):
        return usdm.read(text, name)
    if text.lstrip()[:1] != "<":
        return redcap_dictionary.read(text, name, events)
    return odm_ours.read(root_of(text), name)


def _is_of_redcap(text: str) -> bool:
    return "redcap" in text[:20_000].lower() and "projectredcap.org" in text[:20_000]


def _is_odm(begins: bytes, *, of_redcap: bool = False) -> bool:
    """Whether a file begins as ODM does, and is one of REDCap's or none."""
    text = begins.decode(_encoding(begins), "ignore")
    is_xml = text.lstrip("\ufeff \t\r\n")[:1] == "<" and "<ODM" in text[:20_000]
    return is_xml and _is_of_redcap(text) is of_redcap


def _texts(begins: bytes, file: Readable) -> Iterator[str]:
    """The text of a file, piece by piece; `Failed` where it is none, or too long."""
    encoding, size, lines, piece = _encoding(begins), 0, 1, begins
    decoder = getincrementaldecoder(encoding)()
    while True:
        size += len(piece)
        if size > LARGEST_FILE:
            raise Failed(
                f"The file is larger than {LARGEST_FILE // 10**9} GB. Export the definition alone, without data."
            )
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise _no_utf8(lines + error.object.count(b"\n", 0, error.start)) from None
        if "\x00" in text:
            raise _nul(lines + text.count("\n", 0, text.index("\x00")))
        yield text.removeprefix("\ufeff") if size <= _PIECE else text
        if not piece:
            return
        lines += text.count("\n")
        piece = file.read(_PIECE)


def _encoding(data: bytes) -> str:
    """UTF-8, another Unicode that a mark at the beginning tells, or what XML declares."""
    declared = _DECLARED.match(data)
    otherwise = _ENCODINGS.get(declared[1].decode().lower(), "utf-8") if declared else "utf-8"
    return marked_unicode(data) or otherwise


def _no_utf8(line: int) -> Failed:
    return Failed(f"The file is not in UTF-8 (line {line}). Save it as UTF-8 and try again.")


def _nul(line: int) -> Failed:
    return Failed(f"There is a NUL character at line {line}, which no text has. Export the file again.")


def text_of(data: bytes) -> str:
    """The text of a file in UTF-8, in another Unicode that a mark at its beginning tells, or as its XML declares."""
    if not data.strip():
        raise Failed("The file is empty. Export it again.")
    if len(data) > LARGEST_SOURCE:
        raise Failed(
            f"The file is larger than {LARGEST_SOURCE // 1_000_000} MB. Export the definition alone, without data and "
            "without attachments."
        )
    for mark, words in _OTHER_FILES:
        if data.startswith(mark):
            raise Failed(words)
    try:
        text = data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        raise _no_utf8(data.count(b"\n", 0, error.start) + 1) from None
    if "\x00" in text:
        raise _nul(text.count("\n", 0, text.index("\x00")) + 1)
    return text.removeprefix("\ufeff")
