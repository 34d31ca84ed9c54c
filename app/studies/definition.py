"""What may a study folder say? The pydantic models of `study.yaml` and `instruments/*.yaml`, and what belongs together.

`Study` is the whole folder read in: study.yaml, every instrument, every consent document. It is data only. Whether its
parts fit together is asked of `app.studies.rules.problems`, which lists every error with its file and line.
"""

import re
from collections.abc import Collection, Iterable
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

CODE = re.compile(r"[a-z][a-z0-9_]{0,39}")
Code = Annotated[str, StringConstraints(pattern=f"^{CODE.pattern}$")]
AnyCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=400, strip_whitespace=True)]
Heading = Annotated[str, StringConstraints(max_length=400, strip_whitespace=True)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")]
ExpressionText = Annotated[str, StringConstraints(min_length=1, max_length=4000)]


class Part(BaseModel):
    """A part of a definition: unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class ItemType(StrEnum):
    """How an item is asked and kept."""

    CHOICE = "choice"  # one of the choices; kept as its code
    CHOICES = "choices"  # any of the choices; kept as a list of codes
    YES_NO = "yes_no"  # kept as true or false
    INTEGER = "integer"
    NUMBER = "number"  # kept as a decimal text, so that nothing is lost to binary fractions
    SCALE = "scale"  # whole numbers min..max as a row of buttons
    SLIDER = "slider"  # a line to mark between two ends (VAS); kept as a whole number, none until it is touched
    DATE = "date"  # kept as YYYY-MM-DD; with a coarser precision also as YYYY-MM or YYYY
    TIME = "time"  # kept as HH:MM
    DATE_TIME = "date_time"  # by the clock of the site; kept as YYYY-MM-DDTHH:MM
    TEXT = "text"
    FILE = "file"  # kept sealed; its name, size and SHA-256 stand among the answers
    SIGNATURE = "signature"  # drawn or typed; kept sealed, its SHA-256 stands among the answers
    CALCULATED = "calculated"  # never typed; its value follows from its expression


class FileKind(StrEnum):
    """What a file is, told by its content and never by its name."""

    PDF = "pdf"
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    TIFF = "tiff"
    DICOM = "dicom"
    TEXT = "text"
    CSV = "csv"


DOCUMENTS = (FileKind.PDF, FileKind.PNG, FileKind.JPEG, FileKind.WEBP, FileKind.TIFF)
"""What a file item takes unless the study says otherwise."""
LARGEST_FILE_MB = 25


class Choice(Part):
    """One answer of a choice item. The code is stored, the label shown."""

    code: AnyCode
    label: Label


class CheckKind(StrEnum):
    """A hard check blocks saving as complete; a soft one asks for a reason."""

    HARD = "hard"
    SOFT = "soft"


class Check(Part):
    """An edit check: `rule` must hold; when it does not, `message` says what to do."""

    rule: ExpressionText
    message: Label
    kind: CheckKind = CheckKind.SOFT


class Coding(Part):
    """How a text is coded: with which dictionary, and by how many people, each without seeing what the other chose.

    `suggestions`: how the very same text was coded before is shown `after` one's own choice, `before` it (which costs
    the independence that agreement is measured by), or `never`.
    """

    dictionary: Code
    coders: Annotated[int, Field(ge=1, le=2)] = 2
    suggestions: Literal["after", "before", "never"] = "after"


class Item(Part):
    """One question of an instrument, with our own short label (the wording may belong to its authors)."""

    code: Code
    label: Label
    type: ItemType
    hint: str | None = None
    unit: str | None = None
    required: bool = True
    min: Decimal | None = None
    max: Decimal | None = None
    decimals: int | None = Field(default=None, ge=0, le=6)
    expected_min: Decimal | None = Field(default=None, description="Below this a reason is asked for (soft).")
    expected_max: Decimal | None = Field(default=None, description="Above this a reason is asked for (soft).")
    low_label: str | None = Field(default=None, description="What the low end of a scale means.")
    high_label: str | None = Field(default=None, description="What the high end of a scale means.")
    choices: tuple[Choice, ...] = ()
    max_length: int = Field(default=2000, ge=1, le=20000)
    multiline: bool = False
    precision: Literal["day", "month", "year"] = Field(
        default="day", description="Of a date: how little of it may be known and still be kept."
    )
    show_value: bool = Field(default=False, description="Of a slider: whether its number is shown beside the line.")
    kinds: tuple[FileKind, ...] = Field(
        default=(), description="Of a file: what may be sent, told by its content; none named: a document or a picture."
    )
    max_mb: int = Field(default=10, ge=1, le=LARGEST_FILE_MB, description="Of a file: the most megabytes.")
    shown_if: ExpressionText | None = None
    calculation: ExpressionText | None = None
    checks: tuple[Check, ...] = ()
    coding: Coding | None = Field(default=None, description="Only for texts: see docs/double-entry.md.")

    @model_validator(mode="before")
    @classmethod
    def _a_slider_goes_to_100(cls, said: Any) -> Any:
        if isinstance(said, dict) and said.get("type") == ItemType.SLIDER:
            return {"min": 0, "max": 100, **said}
        return said

    @property
    def file_kinds(self) -> tuple["FileKind", ...]:
        """What may be sent of a file item."""
        return self.kinds or DOCUMENTS


MOST_REPEATS = 999
"""How often an instrument can be filled in at one visit."""


MOST_ROWS = 200
"""How many rows a group can have in one entry."""

_cell = re.compile(rf"({CODE.pattern})\[([1-9][0-9]{{0,2}})\]\.({CODE.pattern})")


def cell_name(group: str, row: int, item: str) -> str:
    """How the answer to an item in one row of a group is named: medicines[2].dose."""
    return f"{group}[{row}].{item}"


def cell_parts(name: str) -> tuple[str, int, str] | None:
    """Group, row and item of a cell's name, or None where it names no cell. What stands behind the item is left out."""
    found = _cell.match(name)
    return (found[1], int(found[2]), found[3]) if found else None


class Section(Part):
    """Items that stand together under a heading; or, when it repeats, a group of rows with these items in each.

    In a matrix those that share their choices stand as a table.
    """

    label: Label | None = None
    layout: Literal["list", "matrix"] = "list"
    code: Code | None = Field(default=None, description="How a group of rows is named; only where it repeats.")
    repeats: bool = Field(default=False, description="Whether its items are asked row by row, as often as needed.")
    max_rows: int | None = Field(default=None, ge=1, le=MOST_ROWS, description="How many rows at most.")
    items: tuple[Item, ...] = Field(min_length=1)

    @property
    def most_rows(self) -> int:
        """How many rows it can have."""
        return self.max_rows or MOST_ROWS


class CheckText(Part):
    """What a check says in another language; checks are told by their order."""

    message: Label


class ItemText(Part):
    """The words of one item in another language; what is left out stays as the study words it."""

    code: Code
    label: Label | None = None
    hint: str | None = None
    unit: str | None = None
    low_label: str | None = None
    high_label: str | None = None
    choices: tuple[Choice, ...] = ()
    checks: tuple[CheckText, ...] = ()


class InstrumentText(Part):
    """instruments/CODE.LANGUAGE.yaml: the words of an instrument in another language, by the codes of its items."""

    language: Language
    label: Label | None = None
    short: str | None = Field(default=None, max_length=16)
    recall: str | None = None
    scoring: str | None = None
    repeat_label: Label | None = Field(default=None, description="What one of several is called, where it is a word.")
    licence: str | None = Field(default=None, description="Whose words these are.")
    sections: tuple[Heading, ...] = Field(
        default=(), description="The headings of the sections, in order; empty where it stays as the study words it."
    )
    items: tuple[ItemText, ...] = ()


class Instrument(Part):
    """The definition of a case report form. Scores are calculated items; their source is said."""

    code: Code
    label: Label
    short: str | None = Field(default=None, max_length=16, description="The column heading in a matrix.")
    respondent: Literal["participant", "assessor", "coordinator"] = "assessor"
    source: str = Field(description="Where items, ranges and scoring come from.")
    licence: str | None = Field(default=None, description="Whose wording it is and what a site must do to use it.")
    recall: str | None = None
    scoring: str | None = Field(default=None, description="Range and direction of the scores, in words.")
    signable: bool = True
    double_entry: bool = Field(default=False, description="Entered twice, by two people, at every visit.")
    repeats: bool = Field(default=False, description="Whether it is filled in as often as needed at a visit.")
    max_repeats: int | None = Field(default=None, ge=2, le=MOST_REPEATS, description="How often at most at a visit.")
    repeat_label: Label | None = Field(
        default=None, description="What one of them is called in lists: a word, or the code of an item whose answer is."
    )
    presentation: Literal["page", "screen"] = Field(
        default="page", description="How a participant is asked by link: all questions on a page, or one a screen."
    )
    sections: tuple[Section, ...] = Field(min_length=1)
    texts: tuple[InstrumentText, ...] = Field(
        default=(), description="In other languages: each from a file of its own, instruments/CODE.LANGUAGE.yaml."
    )

    @property
    def most_repeats(self) -> int:
        """How often it can be filled in at one visit."""
        return (self.max_repeats or MOST_REPEATS) if self.repeats else 1

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Every item that is asked once, in order."""
        return tuple(item for section in self.sections if not section.repeats for item in section.items)

    @cached_property
    def every_item(self) -> tuple[Item, ...]:
        """Every item in order, those of groups of rows as well."""
        return tuple(item for section in self.sections for item in section.items)

    @cached_property
    def groups(self) -> dict[str, Section]:
        """The groups of rows, by their code."""
        return {section.code: section for section in self.sections if section.repeats and section.code is not None}

    @cached_property
    def _items(self) -> dict[str, Item]:
        """By code; of groups also those that were asked for, under the names of their cells."""
        return {item.code: item for item in self.items}

    def item(self, code: str) -> Item | None:
        """The item with this code, or of this cell of a group, which then has the cell's name as its code."""
        found = self._items.get(code)
        if found is None and (parts := cell_parts(code)) is not None and cell_name(*parts) == code:
            group = self.groups.get(parts[0])
            asked = next((each for each in group.items if each.code == parts[2]), None) if group else None
            if asked is not None and len(self._items) < MOST_ROWS * 50:
                label = f"{asked.label} ({parts[1]})"
                found = self._items[code] = asked.model_copy(update={"code": code, "label": label})
        return found

    def asked(self, names: Iterable[str]) -> tuple[Item, ...]:
        """Every item in order, with the cells of each row of a group that one of these names belongs to."""
        if not self.groups:
            return self.items
        rows = self.rows(names)
        found: list[Item] = []
        for section in self.sections:
            if not section.repeats:
                found.extend(section.items)
                continue
            for row in rows.get(section.code or "", ()):
                cells = (self.item(cell_name(section.code or "", row, item.code)) for item in section.items)
                found.extend(cell for cell in cells if cell is not None)
        return tuple(found)

    def rows(self, names: Iterable[str]) -> dict[str, list[int]]:
        """Group -> the rows that one of these names belongs to, in order."""
        found: dict[str, set[int]] = {}
        for name in names:
            parts = cell_parts(name)
            if parts is not None and parts[0] in self.groups:
                found.setdefault(parts[0], set()).add(parts[1])
        return {group: sorted(rows) for group, rows in found.items()}


class Arm(Part):
    """A treatment group. `label` is for unblinded eyes only; blinded roles never meet it after allocation."""

    code: AnyCode
    label: Label
    ratio: int = Field(default=1, ge=1, le=20)
    planned: int | None = Field(default=None, ge=0)


class StratumFactor(Part):
    """Something allocation is stratified by: the site, or an expression over what was entered before."""

    code: Code
    label: Label
    by: Literal["site", "expression"] = "site"
    expression: ExpressionText | None = None
    levels: tuple[Choice, ...] = ()


class GroupArm(Part):
    """An arm that can follow a group, and its share there."""

    arm: AnyCode
    ratio: int = Field(default=1, ge=1, le=20)


class StageGroup(Part):
    """What the first stage gives: a group, hidden like an arm, and the arms that the last stage gives within it."""

    code: AnyCode
    label: Label
    ratio: int = Field(default=1, ge=1, le=20)
    arms: tuple[GroupArm, ...] = Field(min_length=2)


class FirstStage(Part):
    """An allocation that comes before the one to an arm (PRT: to one of two trials, before the baseline).

    Everybody reads its code and label; nobody who is blinded ever learns the group.
    """

    code: Code
    label: Label
    after: Literal["screening", "consent"] = Field(default="screening", description="What it waits for.")
    method: Literal[
        "permuted_blocks",
        "simple",
        "big_stick",
        "maximal_procedure",
        "wei_urn",
        "truncated_binomial",
        "biased_coin",
        "list",
    ]
    strata: tuple[StratumFactor, ...] = Field(default=(), description="By site, or from answers at screening.")
    groups: tuple[StageGroup, ...] = Field(min_length=2)


class GroupAnswer(Part):
    """One answer to the item that records the group, and the arm it means."""

    choice: AnyCode = Field(description="A choice of the item; of a yes_no item: yes or no.")
    arm: Code


class ObservedGroup(Part):
    """Where it is recorded which group somebody is in, in a study that allocates nobody; no other answer means one."""

    visit: Code
    item: Code = Field(description="An item of type choice or yes_no, in an instrument of that visit.")
    answers: tuple[GroupAnswer, ...] = Field(min_length=1)


class Allocation(Part):
    """How participants get an arm. Block sizes, tolerances and other options are not here on purpose: enrolling roles
    may read this file, and could guess with them.

    `observed` means that groups are recorded, not allocated (ETMI): such a study has no randomisation. With `cluster`
    everybody of a site is in one arm, and the sites of a batch are drawn together.
    """

    method: Literal[
        "permuted_blocks",
        "list",
        "simple",
        "big_stick",
        "maximal_procedure",
        "wei_urn",
        "truncated_binomial",
        "biased_coin",
        "cluster",
        "minimisation",
        "observed",
    ]
    strata: tuple[StratumFactor, ...] = ()
    first_stage: FirstStage | None = Field(default=None, description="What is allocated before the arm, if anything.")
    group: ObservedGroup | None = Field(default=None, description="With `observed`: where the group is recorded.")
    source: str | None = Field(default=None, description="Where this is documented, and what is not known.")


class Criterion(Part):
    """One eligibility criterion: an inclusion must hold, an exclusion must not."""

    code: Code
    label: Label
    kind: Literal["inclusion", "exclusion"]
    rule: ExpressionText


class Eligibility(Part):
    """The questions of the pre-screen (an instrument) and the criteria judged from their answers."""

    instrument: Code
    criteria: tuple[Criterion, ...] = Field(min_length=1)


class Window(Part):
    """Days before and after the target date in which a visit counts as on time."""

    before: int = Field(ge=0, le=400)
    after: int = Field(ge=0, le=400)


class VisitKind(StrEnum):
    BASELINE = "baseline"  # before randomisation; its required instruments are gates
    TREATMENT = "treatment"  # a session; what was delivered is the treatment room's alone
    ASSESSMENT = "assessment"


class Visit(Part):
    """One planned visit: when it is due, counted in days from its anchor, and what is entered at it."""

    code: Code
    label: Label
    short: str | None = Field(default=None, max_length=12)
    kind: VisitKind
    anchor: Literal["screening", "consent", "randomisation"] = "randomisation"
    day: int = Field(ge=-400, le=4000)
    window: Window
    instruments: tuple[Code, ...] = ()
    double_entry: tuple[Code, ...] = Field(
        default=(), description="Of its instruments, those that are entered twice at this visit, by two people."
    )
    casebook_signature: bool = Field(
        default=False,
        description="A milestone: once this visit is held, an investigator is asked to sign the whole casebook.",
    )
    source: str | None = None


class Unscheduled(Part):
    """Visits outside the plan: what can be entered at one. They are counted: unscheduled_1, unscheduled_2."""

    label: Label = "Unscheduled visit"
    instruments: tuple[Code, ...] = Field(min_length=1)

    def visit(self, code: str) -> Visit | None:
        """The visit with this code, as if it stood in the plan; None when it is no code of such a visit."""
        number = unscheduled_number(code)
        if number is None:
            return None
        return Visit(
            code=code,
            label=f"{self.label} {number}",
            short=f"+{number}",
            kind=VisitKind.ASSESSMENT,
            day=0,
            window=Window(before=0, after=0),
            instruments=self.instruments,
        )


def unscheduled_code(number: int) -> str:
    """The code of a participant's unscheduled visit."""
    return f"unscheduled_{number}"


def unscheduled_number(code: str) -> int | None:
    """The number of an unscheduled visit, or None when the code is not that of one."""
    found = _unscheduled.fullmatch(code)
    return int(found[1]) if found else None


_unscheduled = re.compile(r"unscheduled_([1-9][0-9]{0,2})")


class ConsentQuestion(Part):
    """A question that shows whether the consent document was understood; `right` is the code of the answer."""

    code: Code
    label: Label
    choices: tuple[Choice, ...] = Field(min_length=2)
    right: AnyCode
    hint: Label | None = Field(default=None, description="What is said after a wrong answer: where to read again.")

    @model_validator(mode="after")
    def _right_is_a_choice(self) -> "ConsentQuestion":
        if self.right not in {choice.code for choice in self.choices}:
            raise ValueError(f"The right answer “{self.right}” is not among the choices. Name one of them.")
        return self


class ConsentRules(Part):
    """Who may sign for the study beside the participant, and what consent is asked for."""

    countersigned_by: tuple[Literal["coordinator", "investigator"], ...] = ("coordinator", "investigator")
    optional: tuple[Choice, ...] = Field(
        default=(), description="Consents a participant may refuse and still take part."
    )
    questions: tuple[ConsentQuestion, ...] = Field(
        default=(), description="What a participant must have understood before they sign."
    )
    blocked_until_reconsent: tuple[Literal["randomisation", "visits", "entries"], ...] = Field(
        default=(), description="What waits until a newer consent document is signed; without it nothing does."
    )


class ConsentDocument(Part):
    """One version of the consent document in one language, from consent/*.md; `sha256` is over the file's bytes.

    `sites` are those at which it is used; none means all of them. One for the site goes before one for all.
    """

    version: AnyCode
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")]
    title: Label
    valid_from: date
    sites: tuple[AnyCode, ...] = ()
    text: str
    sha256: str


class MissingCode(Part):
    """A reason why there is no answer."""

    code: AnyCode
    label: Label


class WithdrawalLevel(Part):
    """How far a participant withdraws. Data already there are always kept (CTR Art. 28(3)).

    `stops_treatment`: no further session is due, and visits go on; `stops_visits`: no further visit is due, and so no
    session either. `stops_contact`: no reminder goes to them. `stops_use`: what is collected from that day on is in no
    export, but adverse events and deviations. `erases_identity`: who they are is destroyed at once (GDPR Art. 17).
    """

    code: Code
    label: Label
    stops_treatment: bool = False
    stops_visits: bool = False
    stops_contact: bool = False
    stops_use: bool = False
    erases_identity: bool = False

    @model_validator(mode="after")
    def _what_needs_no_visits(self) -> "WithdrawalLevel":
        if (self.stops_contact or self.erases_identity) and not self.stops_visits:
            raise ValueError("Nobody can be visited without contact. Add stops_visits: true.")
        return self

    @property
    def effects(self) -> frozenset[str]:
        """What the level stops, by the names of its fields: who comes to no visit has no session either."""
        names = ("stops_treatment", "stops_visits", "stops_contact", "stops_use", "erases_identity")
        found = {name for name in names if getattr(self, name)}
        if self.stops_visits:
            found.add("stops_treatment")
        if self.erases_identity:
            found.add("stops_contact")
        return frozenset(found)


class DoubleEntry(Part):
    """What becomes of forms that two people enter: who settles where they differ, and what waits until that is done."""

    reconciled_by: Literal["data_manager", "second"] = Field(
        default="data_manager", description="A data manager, or the person who entered the form the second time."
    )
    before: tuple[Literal["completion", "signature"], ...] = Field(
        default=("signature",), description="What waits for the second entry and for the settling of differences."
    )


class Term(Part):
    """One term of a coding dictionary; `parent` is the code of the broader term it belongs to."""

    code: AnyCode
    label: Label
    parent: AnyCode | None = None


class Dictionary(Part):
    """A coding dictionary: its terms stand here, in dictionaries/CODE.csv, or are loaded at the installation.

    Licensed dictionaries are not part of a study folder: an installation loads the copy it holds a licence for.
    """

    code: Code
    label: Label
    version: AnyCode
    source: str | None = None
    licence: str | None = None
    terms: tuple[Term, ...] = ()


TimeOfDay = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class VisitLength(Part):
    """How long an appointment for one visit lasts, unless it is booked otherwise."""

    visit: Code
    minutes: int = Field(ge=5, le=720)


class ReminderText(Part):
    """What a reminder says in one language. Names in braces are filled in: see docs/schedule.md."""

    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")]
    subject: Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f]+$")]
    body: Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class Reminder(Part):
    """Whom to remind of what, and when. Counted in days by the site's clock, at `at` o'clock.

    `booked`: when an appointment is booked, moved or cancelled. `before_appointment`: so many days before it.
    `window_opens`: so many days after a window opens, when nothing is booked. `overdue`: so many days after it closed.
    `link_due`: so many days after a window opens, the participant is sent a link to the questions that they answer
    themselves. `link_unanswered`: so many days after a link could be answered, while it is not.
    """

    code: Code
    when: Literal["booked", "before_appointment", "window_opens", "overdue", "link_due", "link_unanswered"]
    days: int = Field(default=0, ge=0, le=60)
    at: TimeOfDay = "09:00"
    to: Literal["participant", "staff"] = "participant"
    by: Literal["mail", "sms"] = "mail"
    visits: tuple[Code, ...] = Field(default=(), description="For these visits; none named: for all of them.")
    texts: tuple[ReminderText, ...] = Field(
        default=(), description="None: our own words, which name no study, no visit and no arm."
    )


class Schedule(Part):
    """How appointments are made, and who is reminded of what."""

    minutes: int = Field(default=60, ge=5, le=720, description="How long an appointment lasts.")
    lengths: tuple[VisitLength, ...] = ()
    quiet_from: TimeOfDay = Field(default="20:00", description="No reminder leaves between these, by the local clock.")
    quiet_until: TimeOfDay = "08:00"
    reminders: tuple[Reminder, ...] = ()

    def minutes_for(self, visit: str | None) -> int:
        """Minutes of an appointment for this visit."""
        return next((each.minutes for each in self.lengths if each.visit == visit), self.minutes)


class Outcome(Part):
    """A trial outcome: which item, at which visit."""

    label: Label
    instrument: Code
    item: Code
    visit: Code
    kind: Literal["primary", "secondary", "mediator"]


UNBLINDING_REASONS = (
    Choice(code="serious_adverse_event", label="Serious adverse event"),
    Choice(code="overdose", label="Overdose"),
    Choice(code="pregnancy", label="Pregnancy"),
    Choice(code="exposure_of_another", label="Accidental exposure of another person"),
    Choice(code="other", label="Other, as described below"),
)


class Unblinding(Part):
    """When and how the blind may be broken (ICH E6(R3) 3.16.1(g)); everybody in the study may read it."""

    procedure: Annotated[str, StringConstraints(max_length=4000)] | None = Field(
        default=None,
        description="Who may break the blind, when, for what purpose, whom to call: shown where it is done.",
    )
    reasons: tuple[Choice, ...] = Field(
        default=UNBLINDING_REASONS, min_length=1, description="Reasons for an emergency, to choose from."
    )
    planned_from: date | None = Field(
        default=None,
        description="The day from which a planned unblinding can be approved. Without it: once recruitment is over and "
        "every visit is closed.",
    )
    request_days: int = Field(
        default=14, ge=1, le=90, description="Days for which a request waits, and then for which what it opens is open."
    )
    alert_count: int = Field(
        default=3, ge=2, le=100, description="As many emergencies at one site within `alert_days` are unusual."
    )
    alert_days: int = Field(default=30, ge=1, le=365)


class Related(Part):
    """One answer to the question whether an event is related to the treatment; `related` says what it counts as."""

    code: AnyCode
    label: Label
    related: bool = Field(default=False, description="Whether there is a reasonable possibility (ICH E2A II.A.2).")


TellRole = Literal[
    "coordinator",
    "assessor",
    "clinician",
    "investigator",
    "data_manager",
    "monitor",
    "statistician",
    "administrator",
]


class ClockStep(Part):
    """Somebody is told while a clock runs: so long after it began, these roles at the site or of the whole study."""

    after_hours: int = Field(ge=0, le=9000)
    tell: tuple[TellRole, ...] = Field(min_length=1)


class SafetyClock(Part):
    """A deadline of serious events, from the moment the site knew of it (ICH E2A III.B)."""

    code: Code
    label: Label
    when: Literal["serious", "related", "unexpected", "unexpected_fatal"] = Field(
        default="serious",
        description="Which serious events it runs for: all; those judged related; those judged related and unexpected; "
        "of these, those that were fatal or life-threatening.",
    )
    hours: int = Field(ge=1, le=9000, description="From awareness to the deadline.")
    steps: tuple[ClockStep, ...] = Field(default=(), description="Who gets a mail, and when, until it is reported.")


class DeviationCategory(Part):
    """A kind of deviation from the protocol, and how grave it is when nobody says otherwise."""

    code: Code
    label: Label
    grade: Literal["minor", "major"] = "minor"


SEVERITIES = (
    Choice(code="mild", label="Mild"),
    Choice(code="moderate", label="Moderate"),
    Choice(code="severe", label="Severe"),
)
RELATEDNESS = (
    Related(code="unrelated", label="Not related"),
    Related(code="unlikely", label="Unlikely to be related"),
    Related(code="possible", label="Possibly related", related=True),
    Related(code="probable", label="Probably related", related=True),
    Related(code="definite", label="Definitely related", related=True),
)
DEVIATIONS = (
    DeviationCategory(code="eligibility", label="Eligibility", grade="major"),
    DeviationCategory(code="consent", label="Consent", grade="major"),
    DeviationCategory(code="randomisation", label="Randomisation", grade="major"),
    DeviationCategory(code="visit_window", label="Visit outside its window"),
    DeviationCategory(code="missed_visit", label="Missed visit"),
    DeviationCategory(code="late_entry", label="Late entry"),
    DeviationCategory(code="procedure", label="Procedure not done, or done otherwise"),
    DeviationCategory(code="blinding", label="Blinding", grade="major"),
    DeviationCategory(code="other", label="Other, as described"),
)


class Safety(Part):
    """How safety is kept: events and their words, judgement, clocks, deviations. Everybody in the study may read it."""

    terms: tuple[Choice, ...] = Field(default=(), description="A list to code events with; the words are typed anyway.")
    expected: tuple[AnyCode, ...] = Field(
        default=(), description="Terms that are expected, as the reference safety information says."
    )
    expected_source: str | None = Field(default=None, description="Which reference safety information, and its date.")
    severity: tuple[Choice, ...] = Field(default=SEVERITIES, min_length=1)
    relatedness: tuple[Related, ...] = Field(default=RELATEDNESS, min_length=2)
    review: Literal["serious", "all"] = Field(
        default="serious", description="Which judged events a second person reviews."
    )
    clocks: tuple[SafetyClock, ...] = Field(default=(), description="Deadlines for serious events; none unless said.")
    deviations: tuple[DeviationCategory, ...] = Field(default=DEVIATIONS, min_length=1)
    late_entry_days: int | None = Field(
        default=None, ge=0, le=400, description="Days after the visit from which on an entry is late; none unless said."
    )
    coding: Coding | None = Field(
        default=None, description="How the terms of events are coded, as texts are: see docs/double-entry.md."
    )


class ToVerify(Part):
    """One form whose answers are compared with their source: all of it or some items, at every visit or at some."""

    instrument: Code
    items: tuple[Code, ...] = Field(default=(), description="None: every item of the form.")
    visits: tuple[AnyCode, ...] = Field(default=(), description="None: every visit at which the form is filled in.")


class Oversight(Part):
    """How often somebody looks, and at what: nobody is asked to look again where nothing is said."""

    log_review_days: int | None = Field(
        default=None, ge=1, le=400, description="Days after a review of the log until the next one is due."
    )
    access_review_days: int | None = Field(
        default=None, ge=1, le=400, description="Days after a review of who may do what until the next one is due."
    )
    verification: Literal["all", "named", "none"] = Field(
        default="all", description="Which answers are compared with their source: named are those of to_verify alone."
    )
    to_verify: tuple[ToVerify, ...] = ()


class GuessAnswer(Part):
    """One answer to the question which arm it was, and the arms for which it is right."""

    choice: AnyCode = Field(description="A choice of the item.")
    arms: tuple[AnyCode, ...] = Field(min_length=1, description="Arm codes for which this answer is right.")


class Confidence(Part):
    """How sure of the guess: an item of the same visit, and from where on it means certain."""

    item: Code
    certain: tuple[AnyCode, ...] = Field(default=(), description="Its choices that mean certain.")
    certain_from: Decimal | None = Field(default=None, description="The number from which on it means certain.")


class Guess(Part):
    """One guess of the arm, asked to find out whether the blind held.

    It is an item of an ordinary instrument, so everybody is asked the same. This part says what its choices mean; only
    the closed report reads it.
    """

    code: Code
    label: Label
    by: Literal["participant", "assessor", "clinician", "investigator"] = Field(
        default="participant", description="Whose guess it is; whoever enters it."
    )
    visit: Code
    item: Code = Field(description="An item of type choice, in an instrument of that visit.")
    answers: tuple[GuessAnswer, ...] = Field(min_length=2, description="Every arm stands in exactly one of them.")
    do_not_know: tuple[AnyCode, ...] = Field(default=(), description="Choices that mean: do not know.")
    confidence: Confidence | None = None
    source: str | None = None


class Amendment(Part):
    """A change of the protocol after its start (CONSORT 2025 item 10)."""

    on: str = Field(description="A date, or as much of it as is known: 2016-06.")
    title: Label
    text: str


class Registration(Part):
    registry: Label
    number: Label


class SiteDefinition(Part):
    """A site the study starts with."""

    code: AnyCode
    name: Label
    timezone: str = "UTC"
    target: int | None = Field(default=None, ge=1, description="How many this site is to enrol, where that is agreed.")


class TreatmentModule(Part):
    """Something that can be delivered in a session of an arm, with what is recorded of it."""

    code: Code
    label: Label
    items: tuple[Item, ...] = ()


class ArmTreatment(Part):
    """What a session of one arm consists of: for unblinded eyes only."""

    arm: AnyCode
    modules: tuple[TreatmentModule, ...] = ()


# First parts of addresses that are not a study's, and the log of what concerns no study.
RESERVED_CODES = frozenset(
    (
        "account",
        "api",
        "feeds",
        "healthz",
        "link",
        "people",
        "sign_in",
        "sign_out",
        "static",
        "surveys",
        "system",
        "theme",
        "welcome",
    )
)


class Placeholder(Part):
    """A part that was written so that the study is whole, and that nobody has decided yet."""

    part: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="Which part: a key of study.yaml, or instruments.CODE or instruments.CODE.ITEM."
    )
    say: Label = Field(description="What is missing.")


class QuestionText(Part):
    """A question about the consent document in another language; what is left out stays as the study words it."""

    code: Code
    label: Label | None = None
    hint: Label | None = None
    choices: tuple[Choice, ...] = ()


class ConsentText(Part):
    """What is asked beside the consent document, in another language."""

    questions: tuple[QuestionText, ...] = ()
    optional: tuple[Choice, ...] = ()


class VisitText(Part):
    """What a visit is called in another language."""

    code: Code
    label: Label | None = None
    short: str | None = Field(default=None, max_length=12)


class UnscheduledText(Part):
    """What a visit outside the plan is called in another language; its number follows."""

    label: Label | None = None


class EligibilityText(Part):
    """The criteria in another language."""

    criteria: tuple[Choice, ...] = ()


class FactorText(Part):
    """What allocation is stratified by, in another language."""

    code: Code
    label: Label | None = None
    levels: tuple[Choice, ...] = ()


class FirstStageText(Part):
    """A first stage in another language. Its groups are hidden like arms."""

    label: Label | None = None
    strata: tuple[FactorText, ...] = ()
    groups: tuple[Choice, ...] = ()


class AllocationText(Part):
    """What is read of the allocation, in another language."""

    strata: tuple[FactorText, ...] = ()
    first_stage: FirstStageText = FirstStageText()


class OutcomeText(Part):
    """What an outcome is called in another language, by its item and visit."""

    item: Code
    visit: Code
    label: Label


class UnblindingText(Part):
    """How the blind is broken, in another language."""

    procedure: Annotated[str, StringConstraints(max_length=4000)] | None = None
    reasons: tuple[Choice, ...] = ()


class SafetyText(Part):
    """The words of safety in another language."""

    terms: tuple[Choice, ...] = ()
    severity: tuple[Choice, ...] = ()
    relatedness: tuple[Choice, ...] = ()
    clocks: tuple[Choice, ...] = ()
    deviations: tuple[Choice, ...] = ()


class ModuleText(Part):
    """Something that is delivered in a session, in another language."""

    code: Code
    label: Label | None = None
    items: tuple[ItemText, ...] = ()


class ArmTreatmentText(Part):
    """What a session of one arm consists of, in another language: for unblinded eyes only."""

    arm: AnyCode
    modules: tuple[ModuleText, ...] = ()


class StudyText(Part):
    """study.LANGUAGE.yaml: what a person reads of study.yaml in another language, by its codes.

    What is left out stays as the study words it. `arms`, the groups of a first stage, `treatment` and
    `blinding_assessment` are for unblinded eyes only, as in study.yaml.
    """

    language: Language
    title: Label | None = None
    arms: tuple[Choice, ...] = ()
    allocation: AllocationText = AllocationText()
    eligibility: EligibilityText = EligibilityText()
    consent: ConsentText = ConsentText()
    visits: tuple[VisitText, ...] = ()
    unscheduled: UnscheduledText = UnscheduledText()
    outcomes: tuple[OutcomeText, ...] = ()
    missing_codes: tuple[MissingCode, ...] = ()
    withdrawal_levels: tuple[Choice, ...] = ()
    screen_failure_reasons: tuple[Choice, ...] = ()
    unblinding: UnblindingText = UnblindingText()
    safety: SafetyText = SafetyText()
    dictionaries: tuple[Choice, ...] = ()
    blinding_assessment: tuple[Choice, ...] = ()
    treatment: tuple[ArmTreatmentText, ...] = ()


class StudyFile(Part):
    """What study.yaml holds."""

    code: Code
    version: AnyCode
    title: Label
    short_title: Label
    sponsor: str | None = None
    registrations: tuple[Registration, ...] = ()
    blinded: bool = Field(default=True, description="Whether participants and assessors must not learn the arm.")
    target: int = Field(ge=1, description="The planned number of participants.")
    language: str = "en"
    participant_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Z]{0,4}-?$")] = "P-"
    participant_digits: int = Field(default=4, ge=3, le=8)
    second_factor: Literal["optional", "required"] = "optional"
    record_id: Code = Field(
        default="participant_id", description="What the REDCap-compatible API calls the field of a participant's code."
    )
    sites: tuple[SiteDefinition, ...] = Field(min_length=1)
    arms: tuple[Arm, ...] = Field(min_length=1)
    allocation: Allocation
    eligibility: Eligibility
    consent: ConsentRules = ConsentRules()
    visits: tuple[Visit, ...] = Field(min_length=1)
    unscheduled: Unscheduled | None = Field(
        default=None, description="What can be entered at a visit outside the plan; without it there are none."
    )
    outcomes: tuple[Outcome, ...] = ()
    missing_codes: tuple[MissingCode, ...] = ()
    withdrawal_levels: tuple[WithdrawalLevel, ...] = ()
    screen_failure_reasons: tuple[Choice, ...] = ()
    unblinding: Unblinding = Unblinding()
    schedule: Schedule = Schedule()
    safety: Safety = Safety()
    oversight: Oversight = Oversight()
    double_entry: DoubleEntry = DoubleEntry()
    dictionaries: tuple[Dictionary, ...] = Field(
        default=(), description="What texts are coded with; terms may stand in dictionaries/CODE.csv."
    )
    blinding_assessment: tuple[Guess, ...] = Field(
        default=(), description="Which items ask for a guess of the arm, and what their choices mean."
    )
    amendments: tuple[Amendment, ...] = ()
    treatment: tuple[ArmTreatment, ...] = ()
    sources: tuple[str, ...] = ()
    placeholders: tuple[Placeholder, ...] = Field(
        default=(), description="Parts that still have to be decided: each is a warning until it is taken out here."
    )
    not_known: tuple[str, ...] = Field(default=(), description="What no public source says; set it for a real trial.")

    @field_validator("code")
    @classmethod
    def _not_reserved(cls, code: str) -> str:
        if code in RESERVED_CODES:
            raise ValueError(f"A study cannot be called {code}: the application uses that name itself. Choose another.")
        return code


class Study(StudyFile):
    """A whole study folder, read in."""

    instruments: tuple[Instrument, ...] = ()
    consent_documents: tuple[ConsentDocument, ...] = ()
    texts: tuple[StudyText, ...] = Field(
        default=(), description="In other languages: each from a file of its own, study.LANGUAGE.yaml."
    )

    def asked_of_participants(self, visit: str) -> tuple[Instrument, ...]:
        """The forms of a visit that participants answer themselves, in the order of the plan."""
        planned = self.visit(visit)
        forms = [self.instrument(code) for code in planned.instruments] if planned else []
        return tuple(form for form in forms if form is not None and form.respondent == "participant")

    def instrument(self, code: str) -> Instrument | None:
        """The instrument with this code."""
        return self._instruments.get(code)

    @cached_property
    def _instruments(self) -> dict[str, Instrument]:
        return {instrument.code: instrument for instrument in self.instruments}

    def visit(self, code: str) -> Visit | None:
        """The planned visit with this code, or the unscheduled one, where the study has any."""
        planned = next((visit for visit in self.visits if visit.code == code), None)
        if planned is not None or self.unscheduled is None or unscheduled_number(code) is None:
            return planned
        made = self._outside.get(code)
        if made is None and (made := self.unscheduled.visit(code)) is not None:
            self._outside[code] = made
        return made

    @cached_property
    def _outside(self) -> dict[str, Visit]:
        return {}

    def arm(self, code: str) -> Arm | None:
        """The arm with this code."""
        return next((arm for arm in self.arms if arm.code == code), None)

    def asked_at(self, visit: str, item: str) -> tuple[Instrument, Item] | None:
        """The item with this code where it is asked at this visit, and its instrument."""
        planned = self.visit(visit)
        for code in planned.instruments if planned else ():
            instrument = self.instrument(code)
            found = instrument.item(item) if instrument else None
            if instrument is not None and found is not None:
                return instrument, found
        return None

    def is_entered_twice(self, visit: str, instrument: str) -> bool:
        """Whether two people enter this form at this visit, each without seeing what the other entered."""
        planned, form = self.visit(visit), self.instrument(instrument)
        if planned is None or form is None or instrument not in planned.instruments:
            return False
        return form.double_entry or instrument in planned.double_entry

    def items_to_verify(self, visit: str, instrument: str) -> Collection[str] | None:
        """The items of a form whose answers are compared with their source at this visit; None: all of them."""
        if self.oversight.verification == "all":
            return None
        if self.oversight.verification == "none":
            return frozenset()
        found: set[str] = set()
        for each in self.oversight.to_verify:
            if each.instrument == instrument and (not each.visits or visit in each.visits):
                if not each.items:
                    return None
                found.update(each.items)
        return frozenset(found)

    @cached_property
    def has_double_entry(self) -> bool:
        """Whether any form is entered twice."""
        return any(self.is_entered_twice(visit.code, code) for visit in self.visits for code in visit.instruments)

    @cached_property
    def has_coding(self) -> bool:
        """Whether any text of an instrument is coded, or the terms of adverse events."""
        if self.safety.coding is not None:
            return True
        return any(item.coding is not None for form in self.instruments for item in form.items)

    def dictionary(self, code: str) -> Dictionary | None:
        """The coding dictionary with this code."""
        return next((each for each in self.dictionaries if each.code == code), None)

    @property
    def is_allocated(self) -> bool:
        """Whether this study allocates arms at all (ETMI only observes groups)."""
        return self.allocation.method != "observed"

    def as_first_stage(self) -> "Study":
        """The study as its first stage sees it: groups stand for arms. `ValueError` when it has none."""
        stage = self.allocation.first_stage
        if stage is None:
            raise ValueError("This study has one stage.")
        groups = tuple(Arm(code=group.code, label=group.label, ratio=group.ratio) for group in stage.groups)
        allocation = Allocation(method=stage.method, strata=stage.strata)
        return self.model_copy(update={"arms": groups, "allocation": allocation})

    @property
    def is_clustered(self) -> bool:
        """Whether everybody of a site is in one arm, so that sites are randomised and not people."""
        return self.allocation.method == "cluster"
