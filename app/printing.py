"""What is to be printed or taken away? Records and slips as PDF, by Typst, and a file that opens without a server.

The words are handed over as data: nothing in them is read as markup.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from markupsafe import Markup

from app.foundation.turns import short_turns
from app.rendering import TEMPLATES, templates

Row = tuple[str, str, Literal["text", "code", "drawing"]]


@dataclass(frozen=True)
class Record:
    """A record to print and file; its words are in the reader's language already. `lines` are lines to sign on."""

    title: str
    subtitle: str
    intro: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]
    footer: str
    lines: Sequence[str] = ()


def record_pdf(record: Record, *, at: datetime, language: str) -> bytes:
    """The record as PDF/A-2b, tagged; the same record and instant give the same bytes."""
    day = at.astimezone(UTC)
    date = {"year": day.year, "month": day.month, "day": day.day}
    return _compiled("record", {**asdict(record), "lang": language.partition("-")[0], "date": date}, at=day)


@dataclass(frozen=True)
class SignedDocument:
    """A document as it was signed, with the facts of its signatures; its words are in the document's language.

    `blocks` are its paragraphs in order, as mappings: `kind` (heading, paragraph, item, numbered, quote), `level`,
    `number`, and `runs` of (words, strong, emphasised).
    """

    title: str
    subtitle: str
    blocks: Sequence[Mapping[str, Any]]
    signatures: str
    rows: Sequence[Row]
    footer: str


def signed_pdf(signed: SignedDocument, *, at: datetime, language: str) -> bytes:
    """The document and its signatures as PDF/A-2b, tagged; the same and the same instant give the same bytes."""
    day = at.astimezone(UTC)
    date = {"year": day.year, "month": day.month, "day": day.day}
    return _compiled("consent", {**asdict(signed), "lang": language.partition("-")[0], "date": date}, at=day)


@short_turns()
def _compiled(name: str, said: Mapping[str, Any], *, at: datetime) -> bytes:
    import typst  # heavy, and only printing needs it

    template = TEMPLATES / "_pdf" / f"{name}.typ"
    made = typst.compile(
        str(template),
        root=str(template.parent),
        font_paths=[],
        ignore_system_fonts=True,
        format="pdf",
        sys_inputs={name: json.dumps(said, ensure_ascii=False)},
        pdf_standards=["a-2b"],
        timestamp=int(at.timestamp()),
    )
    assert isinstance(made, bytes)
    return made


@dataclass(frozen=True)
class Told:
    """A line of a casebook: what it is of, how it stands, whether that is not what stood first, and notes on it."""

    label: str
    value: str
    changed: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Block:
    """A thing of a casebook with a heading of its own (none for the only one): an entry, a consent, an event."""

    title: str
    facts: str
    rows: Sequence[Told]


@dataclass(frozen=True)
class Listed:
    """A line of a table of a casebook: a cell per column, and whether some of it is not what stood first."""

    cells: Sequence[str]
    changed: bool = False


@dataclass(frozen=True)
class Part:
    """A part of a casebook: things with their headings, or a table whose columns have these relative `widths`.

    `nothing` is what stands there when there is neither.
    """

    title: str
    nothing: str
    blocks: Sequence[Block] = ()
    columns: Sequence[str] = ()
    widths: Sequence[float] = ()
    lines: Sequence[Listed] = ()


@dataclass(frozen=True)
class Casebook:
    """A participant's casebook to print and file; its words are in the reader's language already.

    `changed` is the word beside what is not what stood first; `log` has a cell per column.
    """

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    signature: Sequence[str]
    legend: str
    parts: Sequence[Part]
    changed: str
    appendix: str
    appendix_note: str
    columns: Sequence[str]
    log: Sequence[Sequence[str]]
    footer: str


def casebook_pdf(casebook: Casebook, *, at: datetime, language: str) -> bytes:
    """The casebook as PDF/A-2b, tagged, with page numbers; the same casebook and instant give the same bytes."""
    day = at.astimezone(UTC)
    date = {"year": day.year, "month": day.month, "day": day.day}
    return _compiled("casebook", {**asdict(casebook), "lang": language.partition("-")[0], "date": date}, at=day)


@dataclass(frozen=True)
class Slips:
    """The slips of a downtime pack to cut apart; its words are in the site's language already.

    `sheets` are (stratum in words, slips as (name, code)); `head` and `blanks` stand on every slip.
    """

    title: str
    subtitle: str
    intro: Sequence[str]
    head: str
    blanks: Sequence[str]
    sheets: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    footer: str


def slips_pdf(slips: Slips, *, at: datetime, language: str) -> bytes:
    """The slips as PDF/A-2b, one sheet for each stratum after a page that says what they are for."""
    day = at.astimezone(UTC)
    sheets = [
        {"stratum": stratum, "slips": [{"name": name, "code": code} for name, code in some]}
        for stratum, some in slips.sheets
    ]
    date = {"year": day.year, "month": day.month, "day": day.day}
    said = {**asdict(slips), "sheets": sheets, "lang": language.partition("-")[0], "date": date}
    return _compiled("slips", said, at=day)


def offline_file(content: Mapping[str, Any], words: Mapping[str, Any], *, language: str) -> bytes:
    """A downtime pack as one HTML file that opens in a browser without any server, and reaches nothing but itself."""
    folder = TEMPLATES / "_offline"
    style, program = ((folder / name).read_text("utf-8").strip() for name in ("opener.css", "opener.js"))
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash_of(style)}'; script-src '{_hash_of(program)}'"
    )
    pack = json.dumps({**content, "words": words}, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    made = (
        templates()
        .get_template("_offline/opener.jinja")
        .render(
            language=language,
            words=words,
            policy=policy,
            style=Markup(style),  # noqa: S704 our own file
            program=Markup(program),  # noqa: S704 our own file
            pack=Markup(pack),  # noqa: S704 no < is in it
        )
    )
    return made.encode()


def _hash_of(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
