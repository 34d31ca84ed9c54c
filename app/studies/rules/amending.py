"""What does an amendment mean for the trial? Two versions of a study compared, in words, by topic; and what may not be.

Every difference of two definitions is said exactly once. Each says what it concerns, and carries a reason where it may
not happen in a study with participants, or a risk: something that data which stand already decide.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from app.studies.definition import Instrument, Item, ItemType, Part, Study, StudyFile, Visit
from app.studies.rules.changes import compared, shown


class Concern(StrEnum):
    """What a difference touches."""

    TEXT = "text"  # wording alone
    CAPTURE = "capture"  # what is asked, stored, checked or computed
    SCHEDULE = "schedule"  # when people come, and who reminds them
    CONDUCT = "conduct"  # who takes part, consent, withdrawal, safety, people
    FIXED = "fixed"  # may not change while there are participants


class Topic(StrEnum):
    """Under which heading a difference is read, in this order."""

    STUDY = "study"
    ARMS = "arms"
    SITES = "sites"
    ELIGIBILITY = "eligibility"
    CONSENT = "consent"
    VISITS = "visits"
    FORMS = "forms"
    OUTCOMES = "outcomes"
    WITHDRAWAL = "withdrawal"
    SCHEDULE = "schedule"
    SAFETY = "safety"
    BLINDING = "blinding"
    TREATMENT = "treatment"


class Risk(StrEnum):
    """Which data decide whether a difference may be applied."""

    ITEM_TYPE = "item_type"  # answers of an item that becomes another type
    CHOICES = "choices"  # answers that are choices which are taken out
    ITEM = "item"  # answers of an item that is no longer asked
    VISIT = "visit"  # entries at a visit, or of a form at a visit, that is taken out
    MISSING = "missing"  # reasons for a missing answer that are taken out


FORBIDS = frozenset({Risk.ITEM_TYPE, Risk.CHOICES})
"""Risks that forbid an amendment when such data stand; the others are warned of."""


@dataclass(frozen=True)
class AtRisk:
    """Where data would have to stand for a risk to be one: a form, an item in it, these codes, at this visit."""

    risk: Risk
    instrument: str = ""
    item: str = ""
    codes: tuple[str, ...] = ()
    visit: str = ""


@dataclass(frozen=True)
class Difference:
    """One difference of two versions. `text` is one sentence; `why_not` says why it may not be in a running study.

    `closed`: it names what only unblinded people read of a definition; `open_text` is what the others read instead.
    `instrument` is the form it is about, when it is about one.
    """

    topic: Topic
    text: str
    concern: Concern
    why_not: str | None = None
    at_risk: AtRisk | None = None
    open_text: str | None = None
    instrument: str = ""

    @property
    def closed(self) -> bool:
        return self.open_text is not None

    def for_blinded(self) -> "Difference":
        """The difference as everybody may read it."""
        return self if self.open_text is None else replace(self, text=self.open_text)


def differences(old: Study, new: Study) -> tuple[Difference, ...]:
    """Everything in which two versions differ but the name of the version, by topic; nothing when they say the same."""
    found = [*_study(old, new), *_instruments(old, new)]
    order = list(Topic)
    return tuple(sorted(found, key=lambda each: order.index(each.topic)))


def forbidden(found: Iterable[Difference]) -> list[Difference]:
    """The differences that may not be while there are participants, whatever data stand."""
    return [each for each in found if each.why_not is not None]


def risks(found: Iterable[Difference]) -> list[Difference]:
    """The differences whose effect depends on data that stand."""
    return [each for each in found if each.at_risk is not None]


def forms_judged_anew(old: Study, new: Study) -> frozenset[str]:
    """The forms of which entries may be judged otherwise: what they ask, or how it is judged, differs."""
    both = {form.code for form in old.instruments} & {form.code for form in new.instruments}
    if old.missing_codes != new.missing_codes:
        return frozenset(both)
    changed = {each.instrument for each in differences(old, new) if each.concern is Concern.CAPTURE}
    return frozenset(both & changed)


# The parts of study.yaml: topic, what it is called, what it concerns

_RUNNING = "There are participants, so this cannot change. Load it as a study of its own, or leave it as it was."

_FIELDS: dict[str, tuple[Topic, str, Concern]] = {
    "code": (Topic.STUDY, "Code", Concern.FIXED),
    "title": (Topic.STUDY, "Title", Concern.TEXT),
    "short_title": (Topic.STUDY, "Short title", Concern.TEXT),
    "sponsor": (Topic.STUDY, "Sponsor", Concern.TEXT),
    "registrations": (Topic.STUDY, "Registration", Concern.TEXT),
    "blinded": (Topic.ARMS, "Blinding", Concern.FIXED),
    "target": (Topic.STUDY, "Planned number of participants", Concern.CONDUCT),
    "language": (Topic.STUDY, "Language", Concern.TEXT),
    "participant_prefix": (Topic.STUDY, "How participants' codes begin", Concern.FIXED),
    "participant_digits": (Topic.STUDY, "Digits of participants' codes", Concern.FIXED),
    "second_factor": (Topic.STUDY, "Second factor at sign-in", Concern.CONDUCT),
    "record_id": (Topic.STUDY, "Field of the code in the REDCap-compatible API", Concern.TEXT),
    "sites": (Topic.SITES, "Site", Concern.CONDUCT),
    "arms": (Topic.ARMS, "Arm", Concern.FIXED),
    "allocation": (Topic.ARMS, "Allocation", Concern.FIXED),
    "eligibility": (Topic.ELIGIBILITY, "Eligibility", Concern.CONDUCT),
    "consent": (Topic.CONSENT, "Consent", Concern.CONDUCT),
    "consent_documents": (Topic.CONSENT, "Consent document", Concern.CONDUCT),
    "texts": (Topic.CONSENT, "Words in another language", Concern.TEXT),
    "visits": (Topic.VISITS, "Visit", Concern.SCHEDULE),
    "outcomes": (Topic.OUTCOMES, "Outcome", Concern.TEXT),
    "missing_codes": (Topic.FORMS, "Reason for no answer", Concern.CAPTURE),
    "double_entry": (Topic.FORMS, "Double entry", Concern.CONDUCT),
    "unscheduled": (Topic.VISITS, "Visits outside the plan", Concern.CONDUCT),
    "dictionaries": (Topic.FORMS, "Coding dictionary", Concern.CONDUCT),
    "withdrawal_levels": (Topic.WITHDRAWAL, "Withdrawal level", Concern.CONDUCT),
    "screen_failure_reasons": (Topic.ELIGIBILITY, "Reason for not taking part", Concern.CONDUCT),
    "unblinding": (Topic.BLINDING, "Unblinding", Concern.CONDUCT),
    "schedule": (Topic.SCHEDULE, "Schedule", Concern.SCHEDULE),
    "safety": (Topic.SAFETY, "Safety", Concern.CONDUCT),
    "oversight": (Topic.STUDY, "How often the log and access are reviewed", Concern.TEXT),
    "blinding_assessment": (Topic.BLINDING, "Guess of the arm", Concern.CONDUCT),
    "amendments": (Topic.STUDY, "Amendment", Concern.TEXT),
    "treatment": (Topic.TREATMENT, "Treatment", Concern.CAPTURE),
    "sources": (Topic.STUDY, "Sources", Concern.TEXT),
    "placeholders": (Topic.STUDY, "To be decided", Concern.TEXT),
    "not_known": (Topic.STUDY, "Not known", Concern.TEXT),
}
_PARTS = set(StudyFile.model_fields) | {"consent_documents", "texts"}
assert set(_FIELDS) == _PARTS - {"version"}, "every part has its words"


def _study(old: Study, new: Study) -> Iterator[Difference]:
    special: dict[str, Callable[[Study, Study], Iterator[Difference]]] = {
        "arms": _arms,
        "allocation": _allocation,
        "visits": _visits,
        "eligibility": _eligibility,
        "consent_documents": _documents,
        "missing_codes": _missing_codes,
        "dictionaries": _dictionaries,
        "sites": _sites,
        "treatment": _treatment,
        "blinding_assessment": _guesses,
    }
    for name, (topic, words, concern) in _FIELDS.items():
        if getattr(old, name) == getattr(new, name):
            continue
        if name in special:
            yield from special[name](old, new)
            continue
        why_not = _RUNNING if concern is Concern.FIXED else None
        for text in _said(words, _plain(getattr(old, name)), _plain(getattr(new, name))):
            yield Difference(topic, text, concern, why_not)


def _arms(old: Study, new: Study) -> Iterator[Difference]:
    """The wording of an arm may change; which arms there are, and in which ratio, may not."""
    hidden = "What an arm is called, or how many are planned in it, changed. Unblinded people read how."
    before, after = _by_code(old.arms), _by_code(new.arms)
    if [(arm.code, arm.ratio) for arm in old.arms] != [(arm.code, arm.ratio) for arm in new.arms]:
        said = [", ".join(f"{arm.code} {arm.ratio}" for arm in study.arms) for study in (old, new)]
        numbers = [":".join(str(arm.ratio) for arm in study.arms) for study in (old, new)]
        yield Difference(
            Topic.ARMS,
            f"The arms and their ratio were {said[0]}, and are {said[1]}.",
            Concern.FIXED,
            _RUNNING,
            open_text=f"The arms changed: their ratio was {numbers[0]}, and is {numbers[1]}."
            if numbers[0] != numbers[1]
            else "Which arms there are changed.",
        )
    for code in (each for each in before if each in after):
        for text in _said(f"Arm {code}", _plain(before[code], "code", "ratio"), _plain(after[code], "code", "ratio")):
            yield Difference(Topic.ARMS, text, Concern.TEXT, open_text=hidden)


def _allocation(old: Study, new: Study) -> Iterator[Difference]:
    """How arms are allocated may not change; where an observed group is recorded is a matter of the reports."""
    said = [_plain(each.allocation, "group") for each in (old, new)]
    for text in _said("Allocation", *said):
        yield Difference(Topic.ARMS, text, Concern.FIXED, _RUNNING)
    for text in _said("Where the group is recorded", _plain(old.allocation.group), _plain(new.allocation.group)):
        yield Difference(Topic.ARMS, text, Concern.CONDUCT)


def _treatment(old: Study, new: Study) -> Iterator[Difference]:
    """What is delivered in an arm is the unblinded people's alone to read."""
    hidden = "What is recorded of a treatment session changed. Unblinded people read how."
    for text in _said("Treatment", _plain(old.treatment), _plain(new.treatment)):
        yield Difference(Topic.TREATMENT, text, Concern.CAPTURE, open_text=hidden)


def _guesses(old: Study, new: Study) -> Iterator[Difference]:
    hidden = "How guesses of the arm are asked or counted changed. Unblinded people read how."
    for text in _said("Guess of the arm", _plain(old.blinding_assessment), _plain(new.blinding_assessment)):
        yield Difference(Topic.BLINDING, text, Concern.CONDUCT, open_text=hidden)


def _sites(old: Study, new: Study) -> Iterator[Difference]:
    before, after = _by_code(old.sites), _by_code(new.sites)
    for code, site in after.items():
        if code not in before:
            yield Difference(Topic.SITES, f"Site {code} ({site.name}): added.", Concern.CONDUCT)
    for code, site in before.items():
        if code not in after:
            text = f"Site {code} ({site.name}): removed. Whoever is seen there stays; close it to stop screening."
            yield Difference(Topic.SITES, text, Concern.CONDUCT)
        else:
            for text in _said(f"Site {code}", _plain(site, "code", "target"), _plain(after[code], "code", "target")):
                yield Difference(Topic.SITES, f"{text} A site that is there keeps what it has.", Concern.TEXT)
            for text in _said(f"Site {code}: target", site.target, after[code].target):
                yield Difference(Topic.SITES, text, Concern.CONDUCT)
    yield from _order(Topic.SITES, "The sites", before, after)


def _eligibility(old: Study, new: Study) -> Iterator[Difference]:
    one, two = old.eligibility, new.eligibility
    if one.instrument != two.instrument:
        text = f"The questions of the pre-screen were {shown(one.instrument)}, and are {shown(two.instrument)}."
        yield Difference(Topic.ELIGIBILITY, text, Concern.CONDUCT)
    before, after = _by_code(one.criteria), _by_code(two.criteria)
    for code, criterion in after.items():
        if code not in before:
            text = f"{criterion.kind.capitalize()} “{criterion.label}”: added; judged by {shown(criterion.rule)}."
            yield Difference(Topic.ELIGIBILITY, text, Concern.CONDUCT)
    for code, criterion in before.items():
        named = f"{criterion.kind.capitalize()} “{criterion.label}”"
        if code not in after:
            yield Difference(Topic.ELIGIBILITY, f"{named}: removed.", Concern.CONDUCT)
            continue
        for name, concern in (("label", Concern.TEXT), ("kind", Concern.CONDUCT), ("rule", Concern.CONDUCT)):
            was, becomes = getattr(criterion, name), getattr(after[code], name)
            if was != becomes:
                text = f"{named}: {name} was {shown(was)}, is now {shown(becomes)}."
                yield Difference(Topic.ELIGIBILITY, text, concern)
    yield from _order(Topic.ELIGIBILITY, "The criteria", before, after)


def _documents(old: Study, new: Study) -> Iterator[Difference]:
    def named(study: Study) -> dict[str, Any]:
        return {f"{one.version} ({one.language})": one for one in study.consent_documents}

    before, after = named(old), named(new)
    for name, document in after.items():
        if name not in before:
            where = f" at {', '.join(document.sites)}" if document.sites else ""
            text = f"Consent document {name}: added, valid from {document.valid_from.isoformat()}{where}."
            yield Difference(Topic.CONSENT, text, Concern.CONDUCT)
    for name, document in before.items():
        if name not in after:
            text = f"Consent document {name}: removed. Who signed it has signed it."
            yield Difference(Topic.CONSENT, text, Concern.CONDUCT)
        elif document != after[name]:
            if document.sha256 != after[name].sha256 or document.text != after[name].text:
                why_not = "A document that may have been signed never changes. Give the new text a new version."
                text = f"Consent document {name}: its text changed."
                yield Difference(Topic.CONSENT, text, Concern.FIXED, why_not)
            hidden = ("version", "language", "text", "sha256")
            for text in _said(f"Consent document {name}", _plain(document, *hidden), _plain(after[name], *hidden)):
                yield Difference(Topic.CONSENT, text, Concern.CONDUCT)
    yield from _order(Topic.CONSENT, "The consent documents", before, after)


def _missing_codes(old: Study, new: Study) -> Iterator[Difference]:
    before, after = _by_code(old.missing_codes), _by_code(new.missing_codes)
    for code, one in after.items():
        if code not in before:
            yield Difference(Topic.FORMS, f"Reason for no answer {code} ({one.label}): added.", Concern.CAPTURE)
    for code, one in before.items():
        if code not in after:
            text = f"Reason for no answer {code} ({one.label}): removed."
            yield Difference(Topic.FORMS, text, Concern.CAPTURE, at_risk=AtRisk(Risk.MISSING, codes=(code,)))
        elif one.label != after[code].label:
            text = f"Reason for no answer {code}: was {shown(one.label)}, is now {shown(after[code].label)}."
            yield Difference(Topic.FORMS, text, Concern.TEXT)
    yield from _order(Topic.FORMS, "The reasons for no answer", before, after)


def _dictionaries(old: Study, new: Study) -> Iterator[Difference]:
    """A dictionary may have thousands of terms: that they differ is said, and not how each does."""
    before, after = _by_code(old.dictionaries), _by_code(new.dictionaries)
    for code, one in after.items():
        if code not in before:
            yield Difference(Topic.FORMS, f"Coding dictionary {code} {one.version}: added.", Concern.CONDUCT)
    for code, one in before.items():
        if code not in after:
            text = f"Coding dictionary {code}: taken out. What was coded with it stays."
            yield Difference(Topic.FORMS, text, Concern.CONDUCT)
            continue
        for text in _said(
            f"Coding dictionary {code}", _plain(one, "code", "terms"), _plain(after[code], "code", "terms")
        ):
            yield Difference(Topic.FORMS, text, Concern.CONDUCT)
        if one.terms != after[code].terms:
            yield Difference(Topic.FORMS, f"Coding dictionary {code}: its terms differ.", Concern.CONDUCT)
    yield from _order(Topic.FORMS, "The coding dictionaries", before, after)


# Visits

_KIND_FIXED = (
    "Who records a visit follows from its kind, so the kind cannot change while there are participants. "
    "Take this visit out and plan one with another code."
)


def _visits(old: Study, new: Study) -> Iterator[Difference]:
    before, after = _by_code(old.visits), _by_code(new.visits)
    for code, visit in after.items():
        if code not in before:
            text = f"{visit.label}: added; due {_due(visit)}, {_window(visit)}{_with(new, visit)}."
            yield Difference(Topic.VISITS, text, Concern.SCHEDULE)
    for code, visit in before.items():
        if code not in after:
            text = f"{visit.label}: removed. Where it was not held it is no longer due; what was entered stays."
            yield Difference(Topic.VISITS, text, Concern.SCHEDULE, at_risk=AtRisk(Risk.VISIT, visit=code))
        else:
            yield from _visit(old, new, visit, after[code])
    yield from _order(Topic.VISITS, "The visits", before, after)


def _visit(old: Study, new: Study, one: Visit, two: Visit) -> Iterator[Difference]:
    topic, label = Topic.VISITS, one.label
    if one.kind != two.kind:
        text = f"{label}: was of kind {one.kind}, is now of kind {two.kind}."
        yield Difference(topic, text, Concern.FIXED, _KIND_FIXED)
    if (one.anchor, one.day) != (two.anchor, two.day):
        yield Difference(topic, f"{label}: was due {_due(one)}, is now due {_due(two)}.", Concern.SCHEDULE)
    if one.window != two.window:
        yield Difference(topic, f"{label}: {_window(one)}, is now {_window(two)}.", Concern.SCHEDULE)
    for code in two.instruments:
        if code not in one.instruments:
            text = f"{label}: {_form(new, code)} is asked there now."
            yield Difference(topic, text, Concern.CAPTURE)
    for code in one.instruments:
        if code not in two.instruments:
            risk = AtRisk(Risk.VISIT, instrument=code, visit=one.code)
            text = f"{label}: {_form(old, code)} is no longer asked there."
            yield Difference(topic, text, Concern.CAPTURE, at_risk=risk)
    if {*one.double_entry} != {*two.double_entry}:
        twice = [_form(new, code) for code in two.double_entry]
        text = f"{label}: entered twice there now: {', '.join(twice) or 'nothing'}."
        yield Difference(topic, text, Concern.CONDUCT)
    if one.casebook_signature != two.casebook_signature:
        asked = "is asked for once it is held" if two.casebook_signature else "is no longer asked for there"
        yield Difference(topic, f"{label}: the signature of the casebook {asked}.", Concern.CONDUCT)
    kept = [code for code in one.instruments if code in two.instruments]
    if kept != [code for code in two.instruments if code in one.instruments]:
        yield Difference(topic, f"{label}: its forms stand in another order.", Concern.TEXT)
    for name, words in (("label", "its name"), ("short", "its short name"), ("source", "its source")):
        if getattr(one, name) != getattr(two, name):
            text = f"{label}: {words} was {shown(getattr(one, name))}, is now {shown(getattr(two, name))}."
            yield Difference(topic, text, Concern.TEXT)


def _due(visit: Visit) -> str:
    return f"on day {visit.day} from {visit.anchor}"


def _window(visit: Visit) -> str:
    return f"window {visit.window.before} days before to {visit.window.after} days after"


def _with(study: Study, visit: Visit) -> str:
    forms = [_form(study, code) for code in visit.instruments]
    return f", with {', '.join(forms)}" if forms else ""


def _form(study: Study, code: str) -> str:
    form = study.instrument(code)
    return form.label if form else code


# Forms and their items


def _instruments(old: Study, new: Study) -> Iterator[Difference]:
    before, after = _by_code(old.instruments), _by_code(new.instruments)
    for code, form in after.items():
        if code not in before:
            text = f"{form.label}: a new form, with {_items_said(len(form.items))}."
            yield Difference(Topic.FORMS, text, Concern.CAPTURE, instrument=code)
    for code, form in before.items():
        if code not in after:
            text = f"{form.label}: the form is taken out. What was entered stays, and is exported."
            risk = AtRisk(Risk.ITEM, instrument=code)
            yield Difference(Topic.FORMS, text, Concern.CAPTURE, at_risk=risk, instrument=code)
        elif form != after[code]:
            yield from _instrument(form, after[code])
    yield from _order(Topic.FORMS, "The forms", before, after)


def _items_said(count: int) -> str:
    return "one item" if count == 1 else f"{count} items"


_OF_INSTRUMENT = {
    "label": Concern.TEXT,
    "short": Concern.TEXT,
    "respondent": Concern.TEXT,
    "source": Concern.TEXT,
    "licence": Concern.TEXT,
    "recall": Concern.TEXT,
    "scoring": Concern.TEXT,
    "signable": Concern.CONDUCT,
    "presentation": Concern.CONDUCT,
    "double_entry": Concern.CONDUCT,
    "repeats": Concern.CAPTURE,
    "max_repeats": Concern.CAPTURE,
    "repeat_label": Concern.TEXT,
    "texts": Concern.TEXT,
}
_OF_ITEM = {
    "label": (Concern.TEXT, "the question"),
    "hint": (Concern.TEXT, "the hint"),
    "low_label": (Concern.TEXT, "the low end"),
    "high_label": (Concern.TEXT, "the high end"),
    "multiline": (Concern.TEXT, "several lines"),
    "unit": (Concern.CAPTURE, "the unit"),
    "required": (Concern.CAPTURE, "whether it is required"),
    "min": (Concern.CAPTURE, "the lowest value"),
    "max": (Concern.CAPTURE, "the highest value"),
    "decimals": (Concern.CAPTURE, "the decimals"),
    "expected_min": (Concern.CAPTURE, "the lowest value that is expected"),
    "expected_max": (Concern.CAPTURE, "the highest value that is expected"),
    "max_length": (Concern.CAPTURE, "the longest text"),
    "shown_if": (Concern.CAPTURE, "when it is asked"),
    "calculation": (Concern.CAPTURE, "how it is computed"),
    "precision": (Concern.CAPTURE, "how exact the day must be"),
    "show_value": (Concern.TEXT, "whether its number is shown"),
    "kinds": (Concern.CAPTURE, "the kinds of files"),
    "max_mb": (Concern.CAPTURE, "the largest file in megabytes"),
    "coding": (Concern.CONDUCT, "how it is coded"),
}
assert set(_OF_INSTRUMENT) == set(Instrument.model_fields) - {"code", "sections"}, "every part has its words"
assert set(_OF_ITEM) == set(Item.model_fields) - {"code", "type", "choices", "checks"}, "every part has its words"


def _instrument(one: Instrument, two: Instrument) -> Iterator[Difference]:
    def differs(text: str, concern: Concern, risk: AtRisk | None = None) -> Difference:
        return Difference(Topic.FORMS, f"{one.label}, {text}", concern, at_risk=risk, instrument=one.code)

    for name, concern in _OF_INSTRUMENT.items():
        was, becomes = getattr(one, name), getattr(two, name)
        if name == "texts":
            changed = sorted({text.language for text in {*was} ^ {*becomes}})
            if changed:
                yield differs(f"its words in other languages: those in {', '.join(changed)} change.", concern)
        elif was != becomes:
            yield differs(f"{name}: was {shown(_text(was))}, is now {shown(_text(becomes))}.", concern)
    before, after = _by_code(one.items), _by_code(two.items)
    for code, item in after.items():
        if code not in before:
            needed = "required" if item.required and item.type is not ItemType.CALCULATED else "not required"
            yield differs(f"{code} ({item.label}): added; {item.type}, {needed}.", Concern.CAPTURE)
    for code, item in before.items():
        if code not in after:
            text = f"{code} ({item.label}): no longer asked. Answers that were given stay, and are exported."
            yield differs(text, Concern.CAPTURE, AtRisk(Risk.ITEM, one.code, code))
        elif item != after[code]:
            for text, concern, risk in _item(one.code, item, after[code]):
                yield differs(f"{code}: {text}", concern, risk)
    for each in _order(Topic.FORMS, f"{one.label}: the items", before, after):
        yield replace(each, instrument=one.code)
    groups = [
        {code: (each.max_rows, tuple(item.code for item in each.items)) for code, each in form.groups.items()}
        for form in (one, two)
    ]
    if groups[0] != groups[1]:
        yield differs("rows: which items are asked row by row, or how many rows there are, changes.", Concern.CAPTURE)
    if _headings(one, after) != _headings(two, before):
        yield differs("headings: they are not what they were.", Concern.TEXT)


def _headings(form: Instrument, others: Mapping[str, object]) -> tuple[list[object], dict[str, int]]:
    """The headings, and the section of each item that both versions have."""
    at = {item.code: place for place, section in enumerate(form.sections) for item in section.items}
    return [(section.label, section.layout) for section in form.sections], {
        code: place for code, place in at.items() if code in others
    }


def _item(instrument: str, one: Item, two: Item) -> Iterator[tuple[str, Concern, AtRisk | None]]:
    if one.type != two.type:
        text = f"was of type {one.type}, is now of type {two.type}."
        yield text, Concern.CAPTURE, AtRisk(Risk.ITEM_TYPE, instrument, one.code)
    for name, (concern, words) in _OF_ITEM.items():
        was, becomes = getattr(one, name), getattr(two, name)
        if was != becomes:
            yield f"{words}: was {shown(_text(was))}, is now {shown(_text(becomes))}.", concern, None
    yield from _choices(instrument, one, two)
    if one.checks != two.checks:
        for check in two.checks:
            if check not in one.checks:
                yield f"check “{check.message}”: added, {check.kind}, {shown(check.rule)}.", Concern.CAPTURE, None
        for check in one.checks:
            if check not in two.checks:
                yield f"check “{check.message}”: removed, {check.kind}, {shown(check.rule)}.", Concern.CAPTURE, None
        if sorted(map(repr, one.checks)) == sorted(map(repr, two.checks)):
            yield "its checks stand in another order.", Concern.CAPTURE, None


def _choices(instrument: str, one: Item, two: Item) -> Iterator[tuple[str, Concern, AtRisk | None]]:
    before, after = _by_code(one.choices), _by_code(two.choices)
    for code, choice in after.items():
        if code not in before:
            yield f"choice {code} ({choice.label}): added.", Concern.CAPTURE, None
    for code, choice in before.items():
        if code not in after:
            # With another type all the choices go: that is said by the type.
            risk = AtRisk(Risk.CHOICES, instrument, one.code, (code,)) if one.type == two.type else None
            yield f"choice {code} ({choice.label}): removed.", Concern.CAPTURE, risk
        elif choice.label != after[code].label:
            text = f"choice {code}: was {shown(choice.label)}, is now {shown(after[code].label)}."
            yield text, Concern.TEXT, None
    kept = [code for code in before if code in after]
    if kept != [code for code in after if code in before]:
        yield "its choices stand in another order.", Concern.TEXT, None


# Words


def _by_code(parts: Sequence[Any]) -> dict[str, Any]:
    return {str(part.code): part for part in parts}


def _order(topic: Topic, words: str, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[Difference]:
    kept = [code for code in before if code in after]
    if kept != [code for code in after if code in before]:
        yield Difference(topic, f"{words} stand in another order.", Concern.TEXT)


def _plain(value: Any, *without: str) -> Any:
    """A part of a definition as plain data."""
    if isinstance(value, Part):
        return value.model_dump(mode="json", exclude=set(without))
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _said(words: str, old: Any, new: Any) -> list[str]:
    """Every difference of plain data as one sentence that begins with these words."""
    return compared(words, old, new)


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Part):
        return ", ".join(f"{name} {said}" for name, said in _plain(value).items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value
