"""How do several files become one? A ZIP in pieces, as they are made, with a day that never changes."""

import zipfile
from collections.abc import Iterable, Iterator

from app.exports.formats.text import PIECE

DAY = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP knows
MEDIA_TYPE = "application/zip"
# Workbooks and Parquet are compressed inside; the least effort takes most of what is to be had of text.
LEVEL = 1


class _Sink:
    """What a ZIP is written to: bytes that somebody takes away. It cannot go back, so sizes stand behind each file."""

    def __init__(self) -> None:
        self.waiting = bytearray()

    def write(self, data: bytes) -> int:
        self.waiting += data
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> bytes:
        """What was written since it was asked last."""
        piece = bytes(self.waiting)
        self.waiting.clear()
        return piece


def bundled(files: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """The ZIP of these files, each with its name and pieces, which are read one file after the other."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:  # type: ignore[call-overload]
        for name, pieces in files:
            info = zipfile.ZipInfo(name, DAY)
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as file:
                for piece in pieces:
                    file.write(piece)
                    if len(sink.waiting) >= PIECE:
                        yield sink.taken()
    yield sink.taken()
