"""How does a record become a PDF? Typst, with the words handed over as data: nothing in them is read as markup."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

import typst

from app.rendering import TEMPLATES

TEMPLATE = TEMPLATES / "_pdf" / "record.typ"
Row = tuple[str, str, Literal["text", "code"]]


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
    said = json.dumps({**asdict(record), "lang": language.partition("-")[0], "date": date}, ensure_ascii=False)
    made = typst.compile(
        str(TEMPLATE),
        root=str(TEMPLATE.parent),
        font_paths=[],
        ignore_system_fonts=True,
        format="pdf",
        sys_inputs={"record": said},
        pdf_standards=["a-2b"],
        timestamp=int(day.timestamp()),
    )
    assert isinstance(made, bytes)
    return made
