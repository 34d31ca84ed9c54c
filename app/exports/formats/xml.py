"""How is a large XML document written? Element by element, a piece at a time, the same bytes every time.

XML 1.0 cannot hold some characters that a text can (most control characters, halves of surrogate pairs). Such a
character is written as `_xHHHH_`, its code in hexadecimal, as spreadsheets do (ECMA-376 part 1, 22.9.2.19); where a
text says that itself, its `_` is written as `_x005F_`. Nothing is lost, and everything else stays as it is.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from app.exports.formats.text import PIECE

_UNHELD = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|_(?=x[0-9A-Fa-f]{4}_)")
_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")


def held(text: str) -> str:
    """A text as XML can hold it."""
    return _UNHELD.sub(lambda found: f"_x{ord(found[0]):04X}_", text)


def as_it_was(text: str) -> str:
    """The text that `held` was given."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


class Parts:
    """Makes elements of one namespace; texts and attributes are made such that XML can hold them."""

    def __init__(self, namespace: str) -> None:
        from lxml import etree

        self._make: Any = etree.Element
        self._within: Any = etree.SubElement
        self.namespace = namespace

    def name(self, tag: str) -> str:
        return tag if tag.startswith("{") else f"{{{self.namespace}}}{tag}"

    def root(self, tag: str, /, **attributes: str | None) -> Any:
        """An element of its own; attributes that are None are left out."""
        return self._make(self.name(tag), said(attributes), nsmap={None: self.namespace})

    def add(self, parent: Any, tag: str, text: str | None = None, /, **attributes: str | None) -> Any:
        """An element at the end of another."""
        made = self._within(parent, self.name(tag), said(attributes))
        if text is not None:
            made.text = held(text)
        return made


def said(attributes: dict[str, str | None]) -> dict[str, str]:
    """Attributes that have a value."""
    return {name: held(value) for name, value in attributes.items() if value is not None}


class Document:
    """A document on its way: what was written so far is taken away from time to time."""

    def __init__(self, file: Any, sink: BytesIO) -> None:
        self.file = file
        self._sink = sink

    def pieces(self, *, all_of_it: bool = False) -> Iterator[bytes]:
        """What waits, once it is worth sending."""
        if all_of_it or self._sink.tell() >= PIECE:
            self.file.flush()
            piece = self._sink.getvalue()
            self._sink.seek(0)
            self._sink.truncate()
            if piece:
                yield piece


@contextmanager
def document(sink: BytesIO) -> Iterator[Document]:
    """A document that is written into this buffer; what is left there at the end is its last piece."""
    from lxml import etree

    with etree.xmlfile(sink, encoding="UTF-8") as file:
        file.write_declaration()
        yield Document(file, sink)
