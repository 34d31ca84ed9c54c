"""What may stand in a draft? Names and sizes of files, what a ZIP may hold, and what becomes of text from a browser."""

import io
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping

from app.studies.definition import CODE, RESERVED_CODES
from app.studies.loading import LARGEST_CONSENT, LARGEST_FILE

LARGEST_ZIP = 10_000_000
"""Bytes of the largest ZIP that is taken."""
LARGEST_FOLDER = 20_000_000
"""Bytes of all files of a folder together, unpacked."""
MOST_FILES = 900
LONGEST_NAME = 120
LONGEST_TITLE = 400

_ORIGINS = {
    "smallest": "The smallest study",
    "upload": "A folder that was uploaded",
    "import": "A file from elsewhere",
    "files": "Files sent by a program",
    "REST": "Files sent by a program",
}

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}")
_SKIPPED = re.compile(r"(^|/)(\.|__MACOSX(/|$))")


class NotAFolder(ValueError):
    """What was sent is no study folder, with the reason and what to do next."""


def why_not_path(path: str) -> str | None:
    """Why a file cannot be called this, or None: it has to stay inside the folder, on every machine."""
    parts = path.split("/")
    if len(path) > 200 or len(parts) > 4 or not all(_PART.fullmatch(part) for part in parts):
        return (
            f"A file cannot be called “{path[:80]}”. Use letters, digits, _ - . and /, such as instruments/pain.yaml."
        )
    return None


def why_not_text(path: str, text: str) -> str | None:
    """Why a file cannot hold this text, or None."""
    if "\x00" in text:
        return f"{path} holds a character that is no text (NUL). Take it out."
    most = LARGEST_CONSENT if path.startswith("consent/") else LARGEST_FILE
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return f"{path} holds half a character (a lone surrogate). Take it out."
    if size > most:
        return f"{path} is larger than {most // 1000} kB. Split it."
    return None


def why_not_files(files: Mapping[str, str]) -> str | None:
    """Why these files are no folder that can be kept, or None."""
    if len(files) > MOST_FILES:
        return f"There are {len(files)} files; a study folder has at most {MOST_FILES}."
    if sum(map(len, files.values())) > LARGEST_FOLDER:
        return f"The folder is larger than {LARGEST_FOLDER // 1_000_000} MB. Leave out what a study does not need."
    if len({path.casefold() for path in files}) < len(files):
        return "Two files differ in capital letters only. Call one of them something else."
    folders = {part for path in files for part in _folders_of(path)}
    if (both := next((path for path in files if path.casefold() in folders), None)) is not None:
        return f"{both[:80]} is a file and a folder at once. Call the file something else."
    for path, text in files.items():
        if (reason := why_not_path(path) or why_not_text(path, text)) is not None:
            return reason
    return None


def _folders_of(path: str) -> list[str]:
    parts = path.casefold().split("/")
    return ["/".join(parts[:place]) for place in range(1, len(parts))]


def unzipped(data: bytes) -> dict[str, str]:
    """The files of a ZIP of a study folder, by path; NotAFolder with the reason when it is none.

    Hidden files (.git) are left out. One folder around everything is taken off. Nothing is ever unpacked to a disk, and
    never more than the limits, whatever the ZIP says of itself.
    """
    if len(data) > LARGEST_ZIP:
        raise NotAFolder(f"The ZIP is larger than {LARGEST_ZIP // 1_000_000} MB. Leave out what a study does not need.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = _read(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as problem:
        if isinstance(problem, NotAFolder):
            raise
        raise NotAFolder("This is not a ZIP that can be read. Send the study folder as a ZIP.") from problem
    if not files:
        raise NotAFolder("The ZIP is empty. Put study.yaml, instruments and consent into it.")
    if "study.yaml" not in files:
        roots = {path.partition("/")[0] for path in files}
        if len(roots) == 1 and all("/" in path for path in files):
            files = {path.partition("/")[2]: text for path, text in files.items()}
    if (reason := why_not_files(files)) is not None:
        raise NotAFolder(reason)
    return files


def _read(archive: zipfile.ZipFile) -> dict[str, str]:
    files: dict[str, str] = {}
    left = LARGEST_FOLDER
    entries = archive.infolist()
    if len(entries) > 4 * MOST_FILES:
        raise NotAFolder(f"There are {len(entries)} files in the ZIP; a study folder has at most {MOST_FILES}.")
    for entry in entries:
        path = entry.filename
        if path.startswith("/") or "\\" in path or ".." in path.split("/") or ":" in path:
            raise NotAFolder(f"“{path[:80]}” would lead out of the folder. Make the ZIP of the folder itself.")
        if entry.is_dir() or _SKIPPED.search(path):
            continue
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise NotAFolder(f"{path[:80]} is a link. Put the file itself there.")
        if entry.flag_bits & 1:
            raise NotAFolder("The ZIP has a password. Send one without.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotAFolder("The ZIP is packed in a way that is not read. Make it with your system's own program.")
        if path in files:
            raise NotAFolder(f"{path[:80]} stands in the ZIP twice. Make it again.")
        most = min(max(LARGEST_FILE, LARGEST_CONSENT), left)
        with archive.open(entry) as stream:
            content = stream.read(most + 1)
        if len(content) > most:
            raise NotAFolder(
                f"{path[:80]} unpacks to more than is taken: {LARGEST_FILE // 1000} kB for a file, "
                f"{LARGEST_FOLDER // 1_000_000} MB for the folder."
            )
        left -= len(content)
        try:
            files[path] = content.decode("utf-8")
        except UnicodeDecodeError:
            raise NotAFolder(f"{path[:80]} is not in UTF-8. Save it as UTF-8, or leave it out.") from None
    return files


def zipped(files: Mapping[str, str]) -> bytes:
    """The folder as a ZIP: every file byte for byte, and the same files always as the same ZIP."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), files[path].encode(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def as_typed(text: str, before: str = "") -> str:
    """What a browser sent of a text, with the line ends of the file it was shown from (browsers send CR LF)."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain.replace("\n", "\r\n") if "\r\n" in before else plain


_WORDS = """\
# What a participant reads of study.yaml in the language of this file's name, by the codes that study.yaml has.
missing_codes: []
"""
_CONSENT = """\
---
version: "1"
language: en
title: Information and consent
valid_from: 2026-01-01
---
The text of the document.
"""
_INSTRUMENT = """\
code: {code}
label: A new instrument
source: This study
sections:
  - items:
      - code: {code}_1
        label: A new question
        type: integer
"""


def begun(path: str) -> str:
    """What a new file of this name begins with."""
    folder, _, name = path.rpartition("/")
    if folder == "instruments" and name.endswith(".yaml") and name.count(".") == 1:
        return _INSTRUMENT.format(code=name.removesuffix(".yaml"))
    if not folder and name.startswith("study.") and name.endswith(".yaml") and name.count(".") == 2:
        return _WORDS
    return _CONSENT if folder == "consent" and name.endswith(".md") else ""


def why_not_change(*, loaded: bool, removed: bool) -> str | None:
    """Why nothing in a draft can be changed, or None."""
    if removed:
        return "This draft was deleted. Make another one."
    if loaded:
        return "This draft was loaded, and stays as it was then. Make a new draft from that version."
    return None


def why_not_code(code: str, *, taken: frozenset[str]) -> str | None:
    """Why a new study cannot have this code, or None. `taken` are the codes of all studies here."""
    if CODE.fullmatch(code) is None:
        return "Write a code of small letters, digits and _, a letter first, at most 40: it stands in every address."
    if code in RESERVED_CODES:
        return f"A study cannot be called {code}: the application uses that name itself. Choose another code."
    if code in taken:
        return f"There is a study {code} here already. Choose another code."
    return None


def why_not_title(title: str) -> str | None:
    """Why a new study cannot have this title, or None."""
    if not title or len(title) > LONGEST_TITLE or not title.isprintable():
        return f"Write the title of the study, on one line, in at most {LONGEST_TITLE} characters."
    return None


def why_not_load(*, errors: int, code: str | None, study: str | None, others: frozenset[str]) -> str | None:
    """Why a draft cannot be loaded, or None. `others` are the codes of all studies here, `study` the one it is of."""
    if errors:
        count = f"{errors} error{'s' if errors != 1 else ''}"
        return f"The draft has {count}. Mend them first; the page of the draft lists them."
    if code != study and code in others:
        if study is None:
            return (
                f"There is a study {code} here already. Give this draft another code (General), or download it and "
                "load it as a draft of that study."
            )
        return f"This draft is of the study {code}. Download it, and load it as a draft of that study."
    return None


def origin_in_words(origin: str) -> str:
    """What a draft was made from, as a page says it; `origin` as it is kept: smallest, version 1.1, library resolve."""
    kind, _, what = origin.partition(" ")
    if kind == "version" and what:
        return f"Copied from version {what}"
    if kind == "library" and what:
        return f"The study {what} of the library"
    return _ORIGINS.get(origin, origin)
