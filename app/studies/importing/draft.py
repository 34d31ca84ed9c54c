"""What is known of a study while a source is read: forms, visits and names, before it is a folder."""

from dataclasses import dataclass, field
from typing import Any

from app.studies.importing.codes import Codes, Labels, has_markup, paragraphs, plain, short
from app.studies.importing.report import Kind, Report

# A definition in the shape of a study file: keys of app.studies.definition.
Data = dict[str, Any]


def planned_visit(code: str, label: str, instruments: list[str], day: int = 0, before: int = 0, after: int = 0) -> Data:
    """A visit. What it is counted from, and of which kind it is, no source says: from consent, an assessment."""
    return {
        "code": code,
        "label": label,
        "kind": "assessment",
        "anchor": "consent",
        "day": day,
        "window": {"before": before, "after": after},
        "instruments": instruments,
    }


@dataclass
class Section:
    """Items under one heading; `code` where they are asked row by row."""

    label: str | None = None
    items: list[Data] = field(default_factory=list)
    layout: str = "list"
    code: str | None = None
    said: Data = field(default_factory=dict)  # what else a section of a study file says, as it is


@dataclass
class Form:
    """An instrument in the making. `said` is what else the file of an instrument says, as it is."""

    code: str
    label: str
    sections: list[Section] = field(default_factory=list)
    repeats: bool = False
    respondent: str = ""
    texts: dict[str, list[Data]] = field(default_factory=dict)  # by language: words of its items
    said: Data = field(default_factory=dict)

    @property
    def items(self) -> list[Data]:
        return [item for section in self.sections for item in section.items]


@dataclass
class Draft:
    """A study in the making. What is empty is not in the source, and a marked default is written for it.

    `said` is what the source says in the words of study.yaml, as it is; `texts` what it says in other languages.
    """

    source: str
    title: str = ""
    short_title: str = ""
    code: str = ""
    version: str = "1"
    language: str = "en"
    forms: list[Form] = field(default_factory=list)
    visits: list[Data] = field(default_factory=list)
    times_known: bool = False  # whether the source says when visits are due
    anchors_known: bool = False  # and from what they are counted
    is_randomised: bool = False  # whether it says that people are given an arm, though not how
    unscheduled: list[str] = field(default_factory=list)
    screening: str = ""  # the form that is the pre-screen, where the source says so
    sites: list[Data] = field(default_factory=list)
    zones_known: bool = False  # whether the source says by which clocks they go
    said: Data = field(default_factory=dict)
    is_ours: bool = False  # whether the source says of study.yaml all that it can
    texts: list[Data] = field(default_factory=list)
    arms: list[Data] = field(default_factory=list)
    criteria: list[tuple[str, str, str]] = field(default_factory=list)  # code, label, inclusion or exclusion
    missing_codes: list[tuple[str, str]] = field(default_factory=list)
    record_id: str | None = None
    report: Report = field(default_factory=Report)
    items: Codes = field(default_factory=Codes)
    instruments: Codes = field(default_factory=Codes)
    visit_codes: Codes = field(default_factory=lambda: Codes("screening"))
    visit_labels: Labels = field(default_factory=Labels)
    where: dict[str, str] = field(default_factory=dict)  # code of an item -> where it stands in the source
    personal: list[tuple[str, str]] = field(default_factory=list)  # instrument, item

    def label(self, text: str, where: str, otherwise: str) -> tuple[str, str | None]:
        """A label for a text of the source, and the whole text where it is longer than a label."""
        if has_markup(text):
            self.report.looks(where, f"HTML in “{short(plain(text), 80)}”.", "The words alone were kept.")
        words = plain(text)
        if not words:
            return otherwise, None
        if len(words) <= 400:
            return words, None
        self.report.changed(where, f"A text of {len(words)} characters.", "The label was cut, the whole is the hint.")
        return short(words), paragraphs(text)

    def item_code(self, name: str, where: str) -> str:
        """The code of an item, said where it differs from what it was."""
        code = self.items.take(name)
        if code != name:
            self.report.changed(
                where,
                f"The name {short(name, 60)}.",
                f"It is the item {code}: codes are small letters, digits and _, up to 40, each once in the study.",
                "Change scripts that know the old name.",
            )
        self.where[code] = where
        return code

    def visit(self, where: str, code: str, label: str, forms: list[str], times: tuple[int, int, int]) -> Data:
        """A visit with its day and window; what is beyond a study's days is reported."""
        day, before, after = times
        kept = (min(max(day, -400), 4000), min(max(before, 0), 400), min(max(after, 0), 400))
        if kept != times:
            self.report.changed(
                where,
                f"{label} is due on day {day}, {before} before to {after} after.",
                f"Day {kept[0]}, {kept[1]} before to {kept[2]} after: nothing more can be said here.",
            )
        return planned_visit(code, label, forms, *kept)

    def is_personal(self, instrument: str, item: str, where: str, why: str) -> None:
        """Point out an item that may say who somebody is."""
        self.personal.append((instrument, item))
        self.report.add(
            Kind.PERSONAL,
            where,
            f"[{item}]: {why}",
            "It is an item of a form like others for now.",
            "Take it out where it says who somebody is: names, birth date and contact are kept sealed as the "
            "participant's identity, outside forms and exports.",
        )
