"""What is a file that somebody sent? Told by its content: what its name says counts for nothing, but for text."""

import unicodedata
from collections.abc import Collection

from app.studies.definition import FileKind

MEDIA_TYPES = {
    FileKind.PDF: "application/pdf",
    FileKind.PNG: "image/png",
    FileKind.JPEG: "image/jpeg",
    FileKind.WEBP: "image/webp",
    FileKind.TIFF: "image/tiff",
    FileKind.DICOM: "application/dicom",
    FileKind.TEXT: "text/plain",
    FileKind.CSV: "text/csv",
}
NAMES = {
    FileKind.PDF: "PDF",
    FileKind.PNG: "PNG",
    FileKind.JPEG: "JPEG",
    FileKind.WEBP: "WebP",
    FileKind.TIFF: "TIFF",
    FileKind.DICOM: "DICOM",
    FileKind.TEXT: "plain text",
    FileKind.CSV: "CSV",
}
SCANS = (FileKind.PDF, FileKind.JPEG, FileKind.PNG)
"""What the scan of a signed paper may be."""

LONGEST_FILE_NAME = 160

# (kind, what stands at an offset): every one of the marks must be there.
_MAGIC: tuple[tuple[FileKind, tuple[tuple[int, bytes], ...]], ...] = (
    (FileKind.PDF, ((0, b"%PDF-"),)),
    (FileKind.PNG, ((0, b"\x89PNG\r\n\x1a\n"),)),
    (FileKind.JPEG, ((0, b"\xff\xd8\xff"),)),
    (FileKind.WEBP, ((0, b"RIFF"), (8, b"WEBP"))),
    (FileKind.TIFF, ((0, b"II*\x00"),)),
    (FileKind.TIFF, ((0, b"MM\x00*"),)),
    (FileKind.DICOM, ((128, b"DICM"),)),
)


def kind_of(data: bytes, name: str = "") -> FileKind | None:
    """What a file is by its bytes, or None when it is none of those that can be kept.

    Text has no mark: it is UTF-8 without control characters; CSV is text whose name says so.
    """
    for kind, marks in _MAGIC:
        if all(data[at : at + len(mark)] == mark for at, mark in marks):
            return kind
    if not data or not _is_text(data):
        return None
    return FileKind.CSV if name.lower().endswith((".csv", ".tsv")) else FileKind.TEXT


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return not any(unicodedata.category(each) == "Cc" and each not in "\t\n\r" for each in set(text))


def why_not_kept(data: bytes, name: str, kinds: Collection[FileKind], most_mb: int) -> str | None:
    """Why this file cannot be kept where these kinds are asked for, or None."""
    if not data:
        return "this file is empty. Choose another one."
    if len(data) > most_mb * 1_000_000:
        return f"this file is larger than {most_mb} MB. Send a smaller one."
    kind = kind_of(data, name)
    if kind in kinds or (kind is FileKind.CSV and FileKind.TEXT in kinds):
        return None
    *others, last = [NAMES[each] for each in dict.fromkeys(kinds)]
    listed = f"{', '.join(others)} or {last}" if others else last
    return f"by its content this file is no {listed}. Send it as one of these."


def file_name(name: str) -> str:
    """A name as it is kept: without the folders it stood in, printable, not too long."""
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(each if each.isprintable() else " " for each in name).strip()
    stem, dot, ending = name.rpartition(".")
    if len(name) > LONGEST_FILE_NAME and dot and len(ending) <= 10:
        return f"{stem[: LONGEST_FILE_NAME - len(ending) - 1]}.{ending}"
    return name[:LONGEST_FILE_NAME] or "file"
