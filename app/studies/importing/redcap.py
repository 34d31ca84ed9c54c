"""What does a REDCap project mean as a study? Rows of its dictionary, events and settings, of whichever file.

Names and meanings of fields, validations, logic and action tags follow REDCap's public help and its clients.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from app.studies.definition import CODE
from app.studies.importing import items as said
from app.studies.importing.building import typed_instead
from app.studies.importing.codes import LONGEST_LABEL, Codes, paragraphs, plain, short
from app.studies.importing.draft import Data, Draft, Form, Section
from app.studies.importing.logic import Names, Target, Untranslatable, translated
from app.studies.rules.items import WIDEST_MATRIX
from app.studies.rules.references import SCREENING


@dataclass
class Words:
    """A question in another language, as far as it has words there; `choices` by the codes there."""

    label: str = ""
    hint: str = ""
    constraint_message: str = ""
    choices: dict[str, str] = field(default_factory=dict)


@dataclass
class Row:
    """One field of the dictionary; `options` are its choices where the file gives them one by one."""

    name: str = ""
    form: str = ""
    section: str = ""
    type: str = ""
    label: str = ""
    choices: str = ""
    note: str = ""
    validation: str = ""
    low: str = ""
    high: str = ""
    identifier: str = ""
    branching: str = ""
    required: str = ""
    alignment: str = ""
    number: str = ""
    matrix: str = ""
    ranking: str = ""
    annotation: str = ""
    appearance: str = ""
    rule: str = ""  # what has to hold of an answer, and what is said when it does not
    rule_message: str = ""
    where: str = ""
    options: list[tuple[str, str]] | None = None
    words: dict[str, Words] = field(default_factory=dict)  # by language


@dataclass
class Event:
    """One event of one arm, and the forms that are filled in at it."""

    unique: str
    name: str
    arm: str = "1"
    arm_name: str = ""
    forms: list[str] = field(default_factory=list)
    day: str = ""
    before: str = ""
    after: str = ""
    where: str = ""
    code: str = ""  # of the visit that it is, where the study is there already; that of the pre-screen is SCREENING


@dataclass
class Project:
    """What a file says of a project; a dictionary has rows alone."""

    source: str
    title: str = ""
    short_title: str = ""
    is_ours: bool = False  # whether an installation like this one wrote it, whose first event is the pre-screen
    surveys: list[str] = field(default_factory=list)  # forms that participants fill in
    rows: list[Row] = field(default_factory=list)
    has_record_id: bool = True  # whether the first field is the number of the record
    form_labels: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    repeating: list[tuple[str, str]] = field(default_factory=list)  # unique event or '', form or ''
    repeat_labels: dict[str, str] = field(default_factory=dict)  # by form: what each time is called there
    missing_codes: str = ""
    groups: list[str] = field(default_factory=list)
    allocated_by: tuple[str, ...] = ()  # fields that hold the arm of the randomisation module
    notes: list[tuple[str, str, str]] = field(default_factory=list)  # left out: where, what, to do
    changes: list[tuple[str, str, str, str]] = field(default_factory=list)  # where, what, what instead, to do


OUTSIDE = "unscheduled"  # stands for all visits outside the plan
YES = frozenset({"y", "yes", "1", "true"})

# Text validation -> type of item. Formats that are not here are texts whose format nobody checks.
TYPES = {
    "integer": "integer",
    "int": "integer",
    "float": "number",
    "number": "number",
    "number_comma_decimal": "number",
    **{f"number_{places}dp": "number" for places in range(1, 5)},
    **{f"number_{places}dp_comma_decimal": "number" for places in range(1, 5)},
    **{f"date_{order}": "date" for order in ("ymd", "mdy", "dmy")},
    **{f"datetime_{order}": "date_time" for order in ("ymd", "mdy", "dmy")},
    **{f"datetime_seconds_{order}": "date_time" for order in ("ymd", "mdy", "dmy")},
    "time": "time",
}
_PERSONAL_FORMATS = {
    "email": "an e-mail address",
    "phone": "a telephone number",
    "phone_australia": "a telephone number",
    "phone_uk": "a telephone number",
    "ssn": "a social security number",
    "mrn_10d": "a medical record number",
    "mrn_generic": "a medical record number",
    "vmrn": "a medical record number",
}
_LOOKS_TAGS = frozenset(
    {
        "@HIDDEN-PDF", "@HIDDEN-APP", "@HIDEBUTTON", "@INLINE", "@INLINE-PREVIEW", "@PASSWORDMASK", "@PLACEHOLDER",
        "@RANDOMORDER", "@RICHTEXT", "@READONLY-APP",
    }
)  # fmt: skip
_tag = re.compile(r"(?<![\w@])@[A-Z][A-Z0-9_-]*")
_tag_value = re.compile(r"\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"']+))")
_piped = re.compile(r"\[[a-z][a-z0-9_-]*(?:\([^()\[\]]*\))?(?::[a-z0-9_-]+)*\]")
_LINE = re.compile(r"[|\n]")
_field_alone = re.compile(r"\[[a-z][a-z0-9_]*\]").fullmatch


def read(project: Project) -> Draft:
    """The draft of a project."""
    draft = Draft(project.source, title=plain(project.title), short_title=plain(project.short_title))
    for where, what, to_do in project.notes:
        draft.report.lost(where, what, to_do)
    for where, what, instead, to_do in project.changes:
        draft.report.changed(where, what, instead, to_do)
    _Reading(project, draft).run()
    return draft


class _Reading:
    """One reading of one project."""

    def __init__(self, project: Project, draft: Draft) -> None:
        self.project = project
        self.draft = draft
        self.report = draft.report
        self.names = Names()
        self.forms: dict[str, Form] = {}  # by the name of the form there
        self.pending: list[tuple[Row, Data, str]] = []  # rows whose logic is read once all names are known
        self.text_before: list[str] = []
        self.matrix: str = ""

    def run(self) -> None:
        rows = self.without_record_id()
        before = ""
        for row in rows:
            if row.form != before:
                self.trailing_texts(before)
            before = row.form
            if row.form not in self.forms:
                label = self.project.form_labels.get(row.form) or row.form.replace("_", " ").strip().capitalize()
                code = self.draft.instruments.take(row.form, "form")
                if code != row.form:
                    self.report.changed(row.where, f"The form {short(row.form, 60)}.", f"It is the instrument {code}.")
                self.forms[row.form] = Form(code, short(plain(label)) or code)
                if row.form in self.project.surveys:
                    self.forms[row.form].respondent = "participant"
            self.row(row, self.forms[row.form])
        self.trailing_texts(before)
        kept = {name: form for name, form in self.forms.items() if form.items}
        for name in self.forms:
            if name not in kept:
                self.report.lost(f"Form {name}", "A form without a question.", "Nothing, unless a question is missing.")
        self.forms = kept
        self.draft.forms = list(kept.values())
        self.arms()
        self.events()
        self.repeats()
        for row, item, instrument in self.pending:
            self.logic(row, item, instrument)
        for form in self.draft.forms:
            self.matrices(form)
        self.missing_codes()
        self.sites()

    def without_record_id(self) -> list[Row]:
        rows = self.project.rows
        if not rows or not self.project.has_record_id:
            return rows
        first = rows[0]
        if first.type == "text" and not first.choices:
            if CODE.fullmatch(first.name):
                self.draft.record_id = first.name
                self.draft.items.take(first.name)
            self.report.changed(
                first.where, f"The record ID [{first.name}].", "The participant's code stands for it.", "Nothing."
            )
            return rows[1:]
        return rows

    # Fields

    def row(self, row: Row, form: Form) -> None:
        where = row.where
        if row.name in self.project.allocated_by:
            self.report.lost(
                where,
                f"[{row.name}] held the arm of the randomisation module.",
                "Nothing: an arm is never entered into a form; its choices are the arms.",
            )
            self.draft.arms = self.draft.arms or [
                {"code": code["code"], "label": code["label"]}
                for code in said.choices(self.draft, _options(row), where)[0]
            ]
            return
        if row.section or not form.sections:
            label = None
            if row.section:
                label, whole = self.draft.label(row.section, where, "")
                if whole:
                    self.text_before.append(whole)
            form.sections.append(Section(label or None))
        if row.type == "descriptive":
            self.descriptive(row)
            return
        code = self.draft.item_code(row.name, where)
        label, whole = self.draft.label(row.label, where, code)
        if _piped.search(label):
            self.report.changed(where, f"A piped value in “{short(label, 120)}”.", "It stands there as it is written.",
                                "Word the label without it.")  # fmt: skip
        self.as_heading(form)
        hints = [*self.text_before, *([whole] if whole else []), *([paragraphs(row.note)] if row.note.strip() else [])]
        self.text_before = []
        item: Data = {"code": code, "label": label, "type": "text"}
        if hints:
            item["hint"] = "\n".join(hints)
        renamed = self.type(row, item)
        item["required"] = row.required.lower() in YES
        if item["type"] == "calculated":
            del item["required"]
        self.names.fields[row.name] = Target(form.code, code, renamed)
        if row.matrix:
            self.into_matrix(row, form)
        elif self.matrix:
            self.matrix = ""
            if form.sections[-1].items and form.sections[-1].layout == "matrix":
                form.sections.append(Section())
        form.sections[-1].items.append(item)
        self.worded(row, item, form, renamed)
        self.personal(row, form.code, code)
        self.pending.append((row, item, form.code))
        looks = (row.alignment, "Custom alignment"), (row.number, "Question number"), (row.appearance, "Appearance")
        for value, what in looks:
            if value.strip() and value.strip().upper() != "RV":
                self.report.looks(where, f"{what} {value.strip()}.")

    def worded(self, row: Row, item: Data, form: Form, renamed: Mapping[str, str]) -> None:
        """The question in other languages, as far as it has words there."""
        for language, words in row.words.items():
            said: Data = {"code": item["code"]}
            label, whole = self.draft.label(words.label, f"{row.where} ({language})", "")
            hint = "\n".join(each for each in (whole, paragraphs(words.hint)) if each)
            choices = [
                {"code": renamed[there], "label": short(plain(text))}
                for there, text in words.choices.items()
                if there in renamed and plain(text)
            ]
            said |= {key: value for key, value in (("label", label), ("hint", hint), ("choices", choices)) if value}
            if len(said) > 1 or words.constraint_message:
                form.texts.setdefault(language, []).append(said)

    def as_heading(self, form: Form) -> None:
        """A short text before the first question of a part without a heading is its heading."""
        section, words = form.sections[-1], " ".join(self.text_before)
        if words and len(words) <= LONGEST_LABEL and not section.items and section.label is None:
            section.label, self.text_before = plain(words) or None, []

    def into_matrix(self, row: Row, form: Form) -> None:
        if row.matrix != self.matrix:
            self.matrix = row.matrix
            if form.sections[-1].items:
                form.sections.append(Section())
            form.sections[-1].layout = "matrix"
        if row.ranking.lower() in YES:
            self.report.lost(
                row.where, f"Matrix {row.matrix} is a ranking.", "Write checks that no two items have the same answer."
            )

    def matrices(self, form: Form) -> None:
        """Tables are kept where they can be: choices among the same, at most eleven."""
        for section in form.sections:
            if section.layout != "matrix" or not section.items:
                continue
            first = section.items[0]
            alike = all(
                item["type"] in ("choice", "yes_no")
                and item["type"] == first["type"]
                and item.get("choices") == first.get("choices")
                for item in section.items
            )
            if not alike or len(first.get("choices", ())) > WIDEST_MATRIX:
                section.layout = "list"
                self.report.looks(
                    self.draft.where[first["code"]],
                    "A matrix of items that are no single choices among the same.",
                    "Its questions stand one by one.",
                )

    def descriptive(self, row: Row) -> None:
        words = paragraphs(row.label)
        if words:
            self.text_before.append(words)
        instead = "Its text stands at the question after it in this form, as heading or hint." if words else "Left out."
        self.report.changed(
            row.where,
            f"The descriptive text [{row.name}]: “{short(plain(row.label), 120)}”.",
            instead,
            "Put it where it is read; pictures, videos and attachments are not taken over.",
        )
        if row.branching.strip():
            self.report.lost(
                row.where, f"The condition of the text [{row.name}]: {row.branching}", "Nothing, or reword it."
            )
        self.annotation(row, {"code": row.name, "type": "text"})

    def trailing_texts(self, form: str) -> None:
        """Texts at the end of a form belong to no question of the next."""
        for text in self.text_before:
            self.report.lost(
                f"Form {form}", f"A text with no question after it: “{short(text, 400)}”", "Put it at a question."
            )
        self.text_before = []

    def type(self, row: Row, item: Data) -> dict[str, str]:
        """Set the type of an item; the codes of its choices there and here."""
        where, kind, validation = row.where, row.type.strip().lower(), row.validation.strip().lower()
        if kind in ("radio", "dropdown", "select", "checkbox"):
            options = _options(row)
            if not options:
                self.report.changed(
                    where, f"[{row.name}] is a {kind} without choices.", "It is a text.", "Write choices."
                )
                return {}
            if validation == "autocomplete":
                self.report.looks(where, "Its choices are searched as one types (autocomplete).")
            item["type"] = "choices" if kind == "checkbox" else "choice"
            item["choices"], renamed = said.choices(self.draft, options, where)
            return renamed
        if kind == "yesno":
            item["type"] = "yes_no"
        elif kind == "truefalse":
            item["type"] = "choice"
            item["choices"] = [{"code": "1", "label": "True"}, {"code": "0", "label": "False"}]
        elif kind == "calc":
            item["type"] = "calculated"
        elif kind == "slider":
            self.slider(row, item)
        elif kind == "file":
            item["type"] = "signature" if validation == "signature" else "file"
        elif kind in ("notes", "textarea"):
            item |= {"multiline": True, "max_length": 20000}
            if validation:
                self.report.lost(where, f"The validation {validation} of a notes field.", "Nothing, or make it a text.")
        else:
            if kind != "text":
                what = (
                    "is filled from a database query (sql)" if kind == "sql" else f"is of the type {kind or '(none)'}"
                )
                self.report.changed(where, f"[{row.name}] {short(what, 80)}.", "It is a text.", "Write its choices.")
            self.validated(row, item, validation)
        return {}

    def slider(self, row: Row, item: Data) -> None:
        low, high = said.number(row.low or "0"), said.number(row.high or "100")
        if low is None or high is None:
            self.report.lost(row.where, f"A slider from {row.low} to {row.high}.", "Write `min` and `max`.",
                             "It goes from 0 to 100.")  # fmt: skip
            low, high = Decimal(0), Decimal(100)
        said.as_line(self.draft, item, low, high, row.where)
        if item["type"] == "slider" and row.validation.strip().lower() == "number":
            item["show_value"] = True
        ends = [plain(part) for part in row.choices.split("|")]
        if len(ends) > 1 and ends[0]:
            item["low_label"] = ends[0]
        if len(ends) > 1 and ends[-1]:
            item["high_label"] = ends[-1]
        middle = [end for end in (ends[1:-1] if len(ends) > 1 else ends) if end]
        if middle:
            self.report.lost(
                row.where, f"The label “{' '.join(middle)}” in the middle of a slider.", "Say it in the hint."
            )

    def validated(self, row: Row, item: Data, validation: str) -> None:
        where = row.where
        if row.choices.strip():
            self.report.lost(
                where, f"“{short(row.choices, 100)}” in the choices of a text.", "Nothing, or make it a choice."
            )
        item["type"] = TYPES.get(validation, "text")
        if validation and validation not in TYPES:
            self.report.lost(
                where,
                f"The format {short(validation, 40)} is not checked.",
                "Write a check, if need be.",
                "It is a text.",
            )
        places = re.fullmatch(r"number_([1-4])dp(_comma_decimal)?", validation)
        if places:
            item["decimals"] = int(places[1])
        if "comma_decimal" in validation:
            self.report.looks(where, "A decimal comma.", "Numbers are kept with a point; both can be typed.")
        if "_seconds_" in validation:
            self.report.changed(where, "A moment with its seconds.", "It is kept to the minute.")

    # Logic, ranges and tags

    def logic(self, row: Row, item: Data, instrument: str) -> None:
        if row.branching.strip():
            self.expression(row, item, "shown_if", row.branching, instrument)
        if item["type"] == "calculated" and "calculation" not in item:
            self.calculation(row, item, row.choices, instrument)
        if row.rule.strip():
            self.rule(row, item, instrument)
        hard = self.annotation(row, item, instrument)
        if row.type.strip().lower() != "slider":
            self.range(row, item, instrument, hard=hard)

    def calculation(self, row: Row, item: Data, text: str, instrument: str) -> None:
        if not text.strip() or not self.expression(row, item, "calculation", text, instrument):
            typed_instead(item)
            if not text.strip():
                self.report.lost(row.where, "A calculation that is empty.", "Write it.", "A number is typed.")

    def rule(self, row: Row, item: Data, instrument: str) -> None:
        try:
            rule = self.here(row, row.rule, instrument)
        except Untranslatable as reason:
            self.report.lost(row.where, f"The constraint {row.rule}: {reason}", "Write a check.")
            return
        said.check(item, rule, plain(row.rule_message) or "This cannot be. Check the answer.", hard=True)
        # It is the first of the item's checks: messages are told by their order.
        form = next(each for each in self.draft.forms if each.code == instrument)
        for language, words in row.words.items():
            if message := short(plain(words.constraint_message)):
                for each in form.texts.get(language, ()):
                    if each["code"] == item["code"]:
                        each["checks"] = [{"message": message}]

    def here(self, row: Row, text: str, instrument: str) -> str:
        """An expression with the names of this study; of a field of another form it is told which visit is meant."""
        placed: dict[str, str] = {}
        answer = translated(text, self.names, instrument, placed=placed)
        for there, meant in placed.items():
            what = f"{there} is a field of another form, and names no event, in {text}"
            self.report.changed(row.where, what, f"It is the answer at one visit: {meant}.")
        return answer

    def expression(self, row: Row, item: Data, key: str, text: str, instrument: str) -> bool:
        what = "condition" if key == "shown_if" else "calculation"
        try:
            item[key] = self.here(row, text, instrument)
        except Untranslatable as reason:
            self.report.lost(
                row.where,
                f"The {what} {text}: {reason}",
                "Write it anew where it is needed.",
                "The item is always shown." if key == "shown_if" else "A number is typed.",
            )
            return False
        return True

    def range(self, row: Row, item: Data, instrument: str, *, hard: bool) -> None:
        """Bounds are soft in REDCap, unless a tag makes them hard."""
        bounds = [(text.strip(), sign) for text, sign in ((row.low, ">="), (row.high, "<=")) if text.strip()]
        if not bounds:
            return
        numeric = item["type"] in ("integer", "number")
        numbers = {sign: said.number(text) for text, sign in bounds} if numeric else {}
        if numeric:
            said.set_range(self.draft, item, numbers.get(">="), numbers.get("<="), hard=hard, where=row.where)
        for text, sign in bounds:
            if numbers.get(sign) is not None:
                continue
            if item["type"] not in ("integer", "number", "date", "date_time", "time"):
                self.report.lost(
                    row.where, f"The bound {sign} {short(text, 60)} of a {item['type']}.", "Write a check."
                )
                continue
            self.bound(row, item, instrument, text, sign, hard=hard)

    def bound(self, row: Row, item: Data, instrument: str, text: str, sign: str, *, hard: bool) -> None:
        other = text if text.startswith("[") else said.literal(text)
        words = "not before" if sign == ">=" else "not after"
        try:
            if other is None or not (text.startswith("[") or re.fullmatch(r"[0-9T :.-]+|today|now", text)):
                raise Untranslatable("this is no date, time, number or field")
            rule = self.here(row, f"[{row.name}] {sign} {other}", instrument)
        except Untranslatable as reason:
            self.report.lost(row.where, f"The bound {sign} {short(text, 60)}: {reason}", "Write a check.")
            return
        said.check(item, rule, f"Check this: {words} {text} is expected.", hard=hard)

    def annotation(self, row: Row, item: Data, instrument: str = "") -> bool:
        """Take over what action tags say, and report the others; whether the range is hard."""
        text, hard, end = row.annotation.strip(), False, 0
        free: list[str] = []
        for found in _tag.finditer(text):
            if found.start() < end:
                continue  # within the value of the tag before
            free.append(text[end : found.start()])
            value, end = _value_of(text, found.end())
            hard = self.tag(row, item, instrument, found[0], value) or hard
        free.append(text[end:])
        words = " ".join("".join(free).split())
        if words:
            self.report.lost(row.where, f"The annotation “{short(words, 300)}”.", "Nothing, unless somebody reads it.")
        return hard

    def tag(self, row: Row, item: Data, instrument: str, tag: str, value: str) -> bool:
        """One action tag; whether it makes the range hard."""
        code, where = item["code"], row.where
        if tag == "@FORCE-MINMAX":
            return True
        if tag == "@CHARLIMIT" and item["type"] == "text" and value.isdecimal() and 1 <= int(value[:6]) <= 20000:
            item["max_length"] = int(value)
        elif tag == "@CALCTEXT" and item["type"] == "text":
            item["type"] = "calculated"
            for key in ("multiline", "max_length", "required"):
                item.pop(key, None)
            if not self.expression(row, item, "calculation", value, instrument):
                item["type"], item["required"] = "text", False
        elif tag == "@NONEOFTHEABOVE" and item["type"] == "choices":
            for each in re.split(r"[,\s]+", value.strip()):
                here = self.names.fields[row.name].choices.get(each)
                if here is None:
                    self.report.lost(where, f"{tag}={value}: there is no choice {each}.", "Write a check.")
                    continue
                rule = f"not ([{code}({here})] = 1 and selected_count([{code}]) > 1)"
                said.check(item, rule, "This answer stands alone. Untick it, or untick the others.", hard=True)
        elif tag == "@MAXCHECKED" and item["type"] == "choices" and value.isdecimal():
            rule = f"selected_count([{code}]) <= {int(value)}"
            said.check(item, rule, f"Tick {int(value)} at most.", hard=True)
        elif tag in _LOOKS_TAGS:
            self.report.looks(where, f"{tag}{f'={value}' if value else ''}.")
        else:
            self.report.lost(where, f"The action tag {tag}{f'={value}' if value else ''}.", _TO_DO.get(tag, _TO_DO[""]))
        return False

    def personal(self, row: Row, instrument: str, code: str) -> None:
        if row.identifier.strip().lower() in YES:
            self.draft.is_personal(instrument, code, row.where, "is marked as an identifier.")
        elif row.validation.strip().lower() in _PERSONAL_FORMATS:
            kind = _PERSONAL_FORMATS[row.validation.strip().lower()]
            self.draft.is_personal(instrument, code, row.where, f"holds {kind}.")

    # Events, arms, repeats, settings

    def arms(self) -> None:
        arms = {event.arm: event.arm_name or f"Arm {event.arm}" for event in self.project.events}
        if len(arms) < 2:
            return
        self.report.changed(
            "Arms",
            f"Events stand in {len(arms)} arms: {', '.join(arms.values())}.",
            "Events of the same name are one visit for everybody, with the forms of all arms"
            + ("; the arms are the groups of the study." if not self.draft.arms else "."),
            "Visits and forms never depend on the arm here. Where they did, make them the same, or leave them out.",
        )
        if not self.draft.arms:
            codes = Codes()
            self.draft.arms = [
                {"code": codes.take_any(f"arm{number}"), "label": short(plain(name)) or f"Arm {number}"}
                for number, name in arms.items()
            ]
            labels = [arm["label"].casefold() for arm in self.draft.arms]
            if len(set(labels)) < len(labels):
                self.draft.arms = [
                    {**arm, "label": f"{arm['label']} ({arm['code']})"[:LONGEST_LABEL]} for arm in self.draft.arms
                ]

    def events(self) -> None:
        events = self.project.events
        if not [event for event in events if event.code not in (SCREENING, OUTSIDE)]:
            for form in self.draft.forms:
                self.names.visits[form.code] = ["visit1"]
            for event in events:
                self.aside(event)
            return
        by_name: dict[str, Data] = {}
        days = [_whole(event.day) for event in events]
        # REDCap writes 0 for every event of a project that is not scheduled.
        self.draft.times_known = any(day for day in days) and all(day is not None for day in days)
        if any(day for day in days) and not self.draft.times_known:
            self.report.changed("Events", "Only some of them have a day.", "All are due on day 0.", "Write their days.")
            days = [0 for _ in days]
        for event, day in zip(events, days, strict=True):
            if event.code in (SCREENING, OUTSIDE):
                self.aside(event)
                continue
            forms = self.at(event)
            key = event.code or event.name.casefold()
            times = (day or 0, _whole(event.before) or 0, _whole(event.after) or 0)
            if key in by_name:
                visit = by_name[key]
                kept = (visit["day"], visit["window"]["before"], visit["window"]["after"])
                if times != kept:
                    self.report.changed(
                        event.where,
                        f"{event.name} is due on day {times[0]} in {event.arm_name or f'arm {event.arm}'}, "
                        f"{times[1]} before to {times[2]} after.",
                        f"Day {kept[0]}, {kept[1]} before to {kept[2]} after, for everybody.",
                        "Write one day that holds in all arms: visits never depend on the arm.",
                    )
                visit["instruments"] += [form for form in forms if form not in visit["instruments"]]
            else:
                code = event.code or self.draft.visit_codes.take(
                    re.sub(r"_arm_[0-9]+[a-z]?$", "", event.unique), "visit"
                )
                label = self.draft.visit_labels.take(short(plain(event.name)) or code)
                visit = by_name[key] = self.draft.visit(event.where, code, label, forms, times)
                self.draft.visits.append(visit)
            self.names.events[event.unique] = visit["code"]
            self.names.events[re.sub(r"_arm_[0-9]+$", "", event.unique)] = visit["code"]
        if self.draft.times_known:
            self.draft.visits.sort(key=lambda visit: visit["day"])
        self.names.events["first-event-name"] = self.draft.visits[0]["code"]
        self.names.events["last-event-name"] = self.draft.visits[-1]["code"]
        for visit in self.draft.visits:
            for form in visit["instruments"]:
                self.names.visits.setdefault(form, []).append(visit["code"])
        for each in self.draft.forms:
            if not (self.project.is_ours or each.code in self.names.visits or each.code in self.draft.unscheduled):
                self.report.changed(
                    f"Form {each.code}",
                    f"“{each.label}” is filled in at no event.",
                    "It is in the folder, and asked at no visit.",
                    "Plan it at a visit, at visits outside the plan, or take it out.",
                )

    def at(self, event: Event) -> list[str]:
        """The instruments of an event."""
        return [self.forms[name].code for name in event.forms if name in self.forms]

    def aside(self, event: Event) -> None:
        """What is no visit of the plan: the pre-screen, or visits outside it."""
        forms = self.at(event)
        if event.code == OUTSIDE:
            self.draft.unscheduled = forms
            return
        self.names.events[event.unique] = self.names.events[re.sub(r"_arm_[0-9]+$", "", event.unique)] = SCREENING
        self.draft.screening, others = next(iter(forms), ""), forms[1:]
        self.names.visits |= {form: [SCREENING] for form in forms}
        for form in others:
            self.report.lost(event.where, f"The form {form} at {event.name}.", "Plan it at a visit.")

    def repeats(self) -> None:
        for event, form in self.project.repeating:
            if form in self.forms:
                self.forms[form].repeats = True
                self.repeat_label(form)
                at = self.names.visits.get(self.forms[form].code, [])
                if event and {self.names.events.get(event)} != set(at):
                    self.report.changed(
                        f"Form {form}",
                        f"It repeats at {event}.",
                        f"It repeats wherever it is filled in: {', '.join(at)}.",
                    )
            elif event and not form:
                self.report.lost(
                    f"Event {event}",
                    "The whole event repeats.",
                    "Write one visit for each time, or let its forms repeat (`repeats: true`).",
                    "It is one visit.",
                )
            else:
                self.report.lost(f"Form {form}", "It repeats, but has no questions.", "Nothing.")

    def repeat_label(self, name: str) -> None:
        """What each time is called: the answer to one question of the form, or words; else it is said."""
        form, label = self.forms[name], self.project.repeat_labels.get(name, "").strip()
        target = self.names.fields.get(label[1:-1]) if _field_alone(label) else None
        if target is not None and target.instrument == form.code:
            form.said["repeat_label"] = target.item
        elif label and "[" not in label and len(plain(label)) <= LONGEST_LABEL:
            form.said["repeat_label"] = plain(label)
        elif label:
            self.report.lost(
                f"Form {form.code}",
                f"Each repeat is labelled {label}.",
                "Write `repeat_label:` with one question's code.",
            )

    def missing_codes(self) -> None:
        for line in _LINE.split(self.project.missing_codes):
            code, _, label = line.partition(",")
            if code.strip():
                self.draft.missing_codes.append((code.strip(), plain(label) or code.strip()))

    def sites(self) -> None:
        codes, names = Codes(), set()
        for group in self.project.groups:
            name = short(plain(group))
            if name and name.casefold() not in names:
                names.add(name.casefold())
                self.draft.sites.append({"code": codes.take(name, "site"), "name": name, "timezone": "UTC"})
        if self.draft.sites:
            self.report.changed("Data access groups", f"{len(self.draft.sites)} groups.", "They are the sites.")


_TO_DO = {
    "@HIDDEN": "Take the item out where nobody fills it in.",
    "@HIDDEN-SURVEY": "Move the item to a form that participants do not fill in.",
    "@DEFAULT": "Nothing: an answer nobody gave is none.",
    "@SETVALUE": "Calculate it, or take it out.",
    "@PREFILL": "Calculate it, or take it out.",
    "@READONLY": "Calculate it, or take it out.",
    "@NOW": "Nothing: when an entry was made is in the log.",
    "@TODAY": "Nothing: when an entry was made is in the log.",
    "@USERNAME": "Nothing: who made an entry is in the log.",
    "@CALCDATE": "Calculate in days with datediff, or have the date typed.",
    "@HIDECHOICE": "Take the choice out where it was never given.",
    "@IF": "Write what is meant with `shown_if`.",
    "": "Nothing, unless the form needs it.",
}


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?[0-9]{1,6}", text.strip()) else None


def _value_of(text: str, at: int) -> tuple[str, int]:
    """The value of an action tag that ends here, and where the value ends: =x, ="x" or (...)."""
    if text[at : at + 1] == "(":
        depth, quote = 0, ""
        for position in range(at, len(text)):
            sign = text[position]
            if quote:
                quote = "" if sign == quote else quote
            elif sign in "'\"":
                quote = sign
            else:
                depth += (sign == "(") - (sign == ")")
                if depth == 0:
                    return text[at + 1 : position], position + 1
        return text[at + 1 :], len(text)
    found = _tag_value.match(text, at)
    if found is None:
        return "", at
    return next(group for group in found.groups() if group is not None), found.end()


def _options(row: Row) -> list[tuple[str, str]]:
    """Choices as code and label: `0, No | 1, Yes`, with or without spaces, or one on each line."""
    if row.options is not None:
        return row.options
    text = row.choices.strip()
    parts = text.split("|") if "|" in text else text.splitlines()
    options = []
    for part in parts:
        code, comma, label = part.strip().partition(",")
        if code.strip() or label.strip():
            options.append((code.strip(), label.strip() if comma else code.strip()))
    return options
