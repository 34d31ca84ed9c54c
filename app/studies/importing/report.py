"""What of a source was not taken over as it was? Each construct, where it stands, what was done instead, what to do."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Failed(ValueError):
    """Why a file cannot be converted at all, in a sentence that says what to do; `about` the file, or its code."""

    def __init__(self, words: str, *, about: str = "file") -> None:
        super().__init__(words)
        self.about = about


class Kind(StrEnum):
    """How much somebody has to care."""

    DEFAULT = "default"  # the folder needs it and the source does not say it
    LOST = "lost"  # nothing in the folder stands for it
    CHANGED = "changed"  # the folder says it in another way
    PERSONAL = "personal"  # may say who somebody is
    LOOKS = "looks"  # how it looked, nothing more


HEADINGS = {
    Kind.DEFAULT: "To be decided: written so that the study is whole, and not in the source",
    Kind.PERSONAL: "Personal data: who somebody is belongs to their identity, not into forms",
    Kind.LOST: "Not converted",
    Kind.CHANGED: "Converted in another way",
    Kind.LOOKS: "Only how it looked",
}


@dataclass(frozen=True)
class Note:
    """One construct: `where` it stands in the source, `what` it is, what was done `instead`, and what is `to_do`."""

    kind: Kind
    where: str
    what: str
    instead: str
    to_do: str


@dataclass
class Report:
    """The notes of one conversion, in the order in which they came up; the same is said once."""

    notes: list[Note] = field(default_factory=list)
    _said: set[Note] = field(default_factory=set)

    def add(self, kind: Kind, where: str, what: str, instead: str, to_do: str) -> None:
        note = Note(kind, where, _one_line(what), instead, to_do)
        if note not in self._said:
            self._said.add(note)
            self.notes.append(note)

    def lost(self, where: str, what: str, to_do: str, instead: str = "Left out.") -> None:
        self.add(Kind.LOST, where, what, instead, to_do)

    def changed(self, where: str, what: str, instead: str, to_do: str = "Check that this is what you mean.") -> None:
        self.add(Kind.CHANGED, where, what, instead, to_do)

    def looks(self, where: str, what: str, instead: str = "Left out.") -> None:
        self.add(Kind.LOOKS, where, what, instead, "Nothing, unless the look matters.")

    def default(self, where: str, what: str, instead: str, to_do: str) -> None:
        self.add(Kind.DEFAULT, where, what, instead, to_do)


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= 600 else f"{joined[:599]}…"


def in_order(notes: Iterable[Note]) -> list[tuple[Kind, list[Note]]]:
    """The notes by kind, what has to be decided first."""
    found = list(notes)
    grouped = [(kind, [note for note in found if note.kind is kind]) for kind in HEADINGS]
    return [(kind, each) for kind, each in grouped if each]


def as_markdown(title: str, source: str, notes: Iterable[Note]) -> str:
    """The report as a text to keep beside the folder."""
    grouped = in_order(notes)
    count = sum(len(each) for _, each in grouped)
    lines = [f"# How {title} was converted", "", f"Source: {source}. {count} notes.", ""]
    if not grouped:
        lines += ["Everything was taken over as it was.", ""]
    for kind, each in grouped:
        lines += [f"## {HEADINGS[kind]} ({len(each)})", ""]
        for note in each:
            lines.append(f"- **{_plain(note.where)}**: {_plain(note.what)} *{note.instead}* {note.to_do}")
        lines.append("")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A text of the source in Markdown: nothing in it is markup."""
    for sign in ("\\", "`", "*", "<", "["):
        text = text.replace(sign, f"\\{sign}")
    return text
