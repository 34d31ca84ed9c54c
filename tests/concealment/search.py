"""Where do these words stand, in any form in which bytes are written down? And everything there is to search."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import text

from app.foundation.database import Database


def forms(word: str) -> Iterator[tuple[str, bytes]]:
    """A word in the forms a search has to know, each with its name; letters are compared in lower case.

    Base64 has three of them, by where in a group of three bytes the word begins; the characters at either end, which
    depend on the neighbours, are left out. A hash stands for whatever is kept of a word so that it can be recognised.
    """
    raw = word.encode()
    yield "as it is", raw.lower()
    yield "UTF-16", word.lower().encode("utf-16-le")
    yield "hex", raw.hex().encode()
    for before in range(3):
        bits = (before * 8, (before + len(raw)) * 8)
        form = base64.b64encode(b"\0" * before + raw)[-(-bits[0] // 6) : bits[1] // 6]
        if len(form) >= SHORTEST:
            yield f"base64 at {before}", form
    for name in ("md5", "sha1", "sha256", "sha512"):
        digest = hashlib.new(name, raw)
        yield f"{name} in hex", digest.hexdigest().encode()
        yield name, digest.digest()


SHORTEST = 7
"""Characters of Base64 that do not come about by chance in some million bytes of what is sealed."""
SENSITIVE = ("base64", "md5", "sha1", "sha256", "sha512")
"""Forms in which a letter's case says something."""


class Searching:
    """A search for the same words in many places."""

    def __init__(self, words: Iterable[str]) -> None:
        self._forms = [(word, name, form) for word in words for name, form in forms(word)]

    def found(self, content: bytes) -> list[tuple[str, str, int]]:
        """Every (word, form, offset) in these bytes; a word that stands there several times has several."""
        lower = content.lower()
        hits = []
        for word, name, form in self._forms:
            sensitive = name.startswith(SENSITIVE) and not name.endswith("in hex")
            place = content if sensitive else lower
            at = place.find(form)
            while at >= 0:
                hits.append((word, name, at))
                at = place.find(form, at + 1)
        return hits

    def places(self, contents: Mapping[str, bytes]) -> list[str]:
        """Where a word was found, in words."""
        return [
            f"{where}: {word}, {name}" for where, content in contents.items() for word, name, _ in self.found(content)
        ]


def every_table(database: Database) -> dict[str, bytes]:
    """Every row of every table that the database itself knows of, as it gives them: PostgreSQL's COPY, in both formats.

    SQLite gives its values; how they lie in the file is searched apart from this.
    """
    if not database.is_sqlite:
        return dict(_copied(database))
    with database.reading() as session:
        names = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        return {name: _written(session.execute(text(f'SELECT * FROM "{name}"')).all()) for name in names}


def _written(rows: Iterable[Iterable[Any]]) -> bytes:
    values = (value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)
    return b"\n".join(values)


def _copied(database: Database) -> Iterator[tuple[str, bytes]]:
    connection = database.engine.raw_connection()
    try:
        cursor: Any = connection.cursor()
        cursor.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT LIKE 'pg\\_%'")
        names = [row for row in cursor.fetchall() if row[0] != "information_schema"]
        for schema, table in names:
            for form in ("text", "binary"):
                with cursor.copy(f'COPY "{schema}"."{table}" TO STDOUT (FORMAT {form})') as copied:
                    yield (table if form == "binary" else f"{table} as text"), b"".join(map(bytes, copied))
    finally:
        connection.close()


def unpacked(archive: bytes) -> dict[str, bytes]:
    """A backup as it lies on the disk, and each of its files."""
    with zipfile.ZipFile(io.BytesIO(archive)) as whole:
        return {"the archive": archive, **{name: whole.read(name) for name in whole.namelist()}}


def is_quoted(content: bytes, at: int, length: int, source: bytes, *, page: int = 4096, around: int = 20) -> bool:
    """Whether what stands at this place in a file of pages is part of this text, by what stands beside it.

    A text that is longer than a page is cut into pages, so one side is enough. Both in lower case.
    """
    start, end = at // page * page, (at // page + 1) * page
    before = content[max(start, at - around) : at + length]
    after = content[at : min(end, at + length + around)]
    return any(len(side) == length + around and side in source for side in (before, after))
