"""What kind of file is this, and what study does it define? Told by its content, never by its name."""

import re
from collections.abc import Sequence
from datetime import date

from app.studies.definition import RESERVED_CODES
from app.studies.importing import odm, redcap_dictionary, redcap_project, usdm, xlsform
from app.studies.importing.building import Converted, built
from app.studies.importing.codes import Codes
from app.studies.importing.draft import Draft
from app.studies.importing.markup import root_of
from app.studies.importing.redcap import Event
from app.studies.importing.report import Failed

LARGEST_SOURCE = 20_000_000  # bytes

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# What XML may say of itself; everything else is Unicode.
_DECLARED = re.compile(rb"\s*<\?xml[^>]{0,100}\bencoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_ENCODINGS = {name: name for name in ("iso-8859-1", "iso-8859-15", "windows-1252", "us-ascii")}
_SPREADSHEET = b"PK\x03\x04"
_OTHER_FILES = (
    (b"\xd0\xcf\x11\xe0", "This is an old spreadsheet (XLS). Save the sheet as CSV in UTF-8."),
    (b"%PDF", "This is a PDF. Export the data dictionary as CSV, or the definition as XML."),
    (b"\x1f\x8b", "This file is compressed. Unpack it first."),
)


def convert(
    data: bytes, *, name: str, on: date, code: str | None = None, title: str = "", events: Sequence[Event] = ()
) -> Converted:
    """The study folder of a file, and the report; `Failed`, with what to do, when it cannot become one.

    `name` is what the file is called in the report, `on` the day of the import, `code` that of the study, and `title`
    its title where the file is not to say it. `events` are those of the study that a dictionary is read for.
    """
    if code is not None and Codes(*RESERVED_CODES).take(code) != code:
        raise Failed(
            f"“{code[:60]}” cannot be a study's code. Write small letters, digits and _, and no word of our own.",
            about="code",
        )
    draft = read(data, name=name, events=events)
    draft.title = title or draft.title
    if code is not None:
        draft.code = code
    elif not draft.title:
        draft.code = Codes(*RESERVED_CODES).take(name.rpartition("/")[2].rpartition(".")[0] or name, "imported")
    return built(draft, on=on)


def read(data: bytes, *, name: str, events: Sequence[Event] = ()) -> Draft:
    """The draft of a file; `events` are those of the study that a dictionary is read for."""
    if data.startswith(_SPREADSHEET) and len(data) <= LARGEST_SOURCE:
        return xlsform.read(data, name)
    text = text_of(data)
    if usdm.is_one(text):
        return usdm.read(text, name)
    if text.lstrip()[:1] != "<":
        return redcap_dictionary.read(text, name, events)
    if "redcap" in text[:20_000].lower() and "projectredcap.org" in text[:20_000]:
        return redcap_project.read(root_of(text, keep_lines=True), name)
    return odm.read(root_of(text, keep_lines=False), name)


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
    declared = _DECLARED.match(data)
    otherwise = _ENCODINGS.get(declared[1].decode().lower(), "utf-8") if declared else "utf-8"
    encoding = next((named for mark, named in _MARKS if data.startswith(mark)), otherwise)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Failed(f"The file is not in UTF-8 (line {line}). Save it as UTF-8 and try again.") from None
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise Failed(f"There is a NUL character at line {line}, which no text has. Export the file again.")
    return text.removeprefix("\ufeff")
