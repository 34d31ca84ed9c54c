"""What does an amendment mean for the trial? Two versions of a study compared, in words, by topic; and what may not be.

Every difference of two definitions is said exactly once. Each says what it concerns, and carries a reason where it may
not happen in a study with participants, or a risk: something that data which stand already decide.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from app.foundation.words import day_in_words
from app.studies.definition import Instrument, Item, ItemType, Part, Study, StudyFile, Visit
from app.studies.rules.blinding import HIDDEN_TEXTS
from app.studies.rules.changes import Ours, became, compared, shown, told


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
    """One difference of two versions. `said` is one sentence in parts: those that are `Ours` are told in the reader's
    language, all others stand so in a definition. `why_not` says why it may not be in a running study.

    `closed`: it names what only unblinded people read of a definition; `open_text` is what the others read instead.
    `instrument` is the form it is about, when it is about one.
    """

    topic: Topic
    said: tuple[str, ...]
    concern: Concern
    why_not: str | None = None
    at_risk: AtRisk | None = None
    open_text: Ours | None = None
    instrument: str = ""

    @property
    def text(self) -> str:
        """The sentence as it is in English."""
        return "".join(self.said)

    def told(self, tell: Callable[[str], str]) -> str:
        """The sentence in another language, which `tell` knows for what is ours in it."""
        return told(self.said, tell)

    @property
    def closed(self) -> bool:
        return self.open_text is not None

    def for_blinded(self) -> "Difference":
        """The difference as everybody may read it."""
        return self if self.open_text is None else replace(self, said=(self.open_text,))


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

_FIELDS: dict[str, tuple[Topic, Ours, Concern]] = {
    "code": (Topic.STUDY, Ours("Code"), Concern.FIXED),
    "title": (Topic.STUDY, Ours("Title"), Concern.TEXT),
    "short_title": (Topic.STUDY, Ours("Short title"), Concern.TEXT),
    "sponsor": (Topic.STUDY, Ours("Sponsor"), Concern.TEXT),
    "registrations": (Topic.STUDY, Ours("Registration"), Concern.TEXT),
    "blinded": (Topic.ARMS, Ours("Blinding"), Concern.FIXED),
    "target": (Topic.STUDY, Ours("Planned number of participants"), Concern.CONDUCT),
    "language": (Topic.STUDY, Ours("Language"), Concern.TEXT),
    "participant_prefix": (Topic.STUDY, Ours("How participants' codes begin"), Concern.FIXED),
    "participant_digits": (Topic.STUDY, Ours("Digits of participants' codes"), Concern.FIXED),
    "second_factor": (Topic.STUDY, Ours("Second factor at sign-in"), Concern.CONDUCT),
    "record_id": (Topic.STUDY, Ours("Field of the code in the REDCap-compatible API"), Concern.TEXT),
    "sites": (Topic.SITES, Ours("Site"), Concern.CONDUCT),
    "arms": (Topic.ARMS, Ours("Arm"), Concern.FIXED),
    "allocation": (Topic.ARMS, Ours("Allocation"), Concern.FIXED),
    "eligibility": (Topic.ELIGIBILITY, Ours("Eligibility"), Concern.CONDUCT),
    "consent": (Topic.CONSENT, Ours("Consent"), Concern.CONDUCT),
    "consent_documents": (Topic.CONSENT, Ours("Consent document"), Concern.CONDUCT),
    "texts": (Topic.CONSENT, Ours("Words in another language"), Concern.TEXT),
    "visits": (Topic.VISITS, Ours("Visit"), Concern.SCHEDULE),
    "outcomes": (Topic.OUTCOMES, Ours("Outcome"), Concern.TEXT),
    "missing_codes": (Topic.FORMS, Ours("Reason for no answer"), Concern.CAPTURE),
    "double_entry": (Topic.FORMS, Ours("Double entry"), Concern.CONDUCT),
    "unscheduled": (Topic.VISITS, Ours("Visits outside the plan"), Concern.CONDUCT),
    "dictionaries": (Topic.FORMS, Ours("Coding dictionary"), Concern.CONDUCT),
    "withdrawal_levels": (Topic.WITHDRAWAL, Ours("Withdrawal level"), Concern.CONDUCT),
    "screen_failure_reasons": (Topic.ELIGIBILITY, Ours("Reason for not taking part"), Concern.CONDUCT),
    "unblinding": (Topic.BLINDING, Ours("Unblinding"), Concern.CONDUCT),
    "schedule": (Topic.SCHEDULE, Ours("Schedule"), Concern.SCHEDULE),
    "safety": (Topic.SAFETY, Ours("Safety"), Concern.CONDUCT),
    "oversight": (Topic.STUDY, Ours("How often the log and access are reviewed"), Concern.TEXT),
    "blinding_assessment": (Topic.BLINDING, Ours("Guess of the arm"), Concern.CONDUCT),
    "amendments": (Topic.STUDY, Ours("Amendment"), Concern.TEXT),
    "treatment": (Topic.TREATMENT, Ours("Treatment"), Concern.CAPTURE),
    "sources": (Topic.STUDY, Ours("Sources"), Concern.TEXT),
    "placeholders": (Topic.STUDY, Ours("To be decided"), Concern.TEXT),
    "not_known": (Topic.STUDY, Ours("Not known"), Concern.TEXT),
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
        "oversight": _oversight,
        "texts": _texts,
    }
    for name, (topic, words, concern) in _FIELDS.items():
        if getattr(old, name) == getattr(new, name):
            continue
        if name in special:
            yield from special[name](old, new)
            continue
        why_not = _RUNNING if concern is Concern.FIXED else None
        for said in _said((words,), _plain(getattr(old, name)), _plain(getattr(new, name))):
            yield Difference(topic, said, concern, why_not)


def _arms(old: Study, new: Study) -> Iterator[Difference]:
    """The wording of an arm may change; which arms there are, and in which ratio, may not."""
    hidden = Ours("What an arm is called, or how many are planned in it, changed. Unblinded people read how.")
    before, after = _by_code(old.arms), _by_code(new.arms)
    if [(arm.code, arm.ratio) for arm in old.arms] != [(arm.code, arm.ratio) for arm in new.arms]:
        said = [", ".join(f"{arm.code} {arm.ratio}" for arm in study.arms) for study in (old, new)]
        numbers = [":".join(str(arm.ratio) for arm in study.arms) for study in (old, new)]
        yield Difference(
            Topic.ARMS,
            (Ours(f"The arms and their ratio were {said[0]}, and are {said[1]}."),),
            Concern.FIXED,
            _RUNNING,
            open_text=Ours(f"The arms changed: their ratio was {numbers[0]}, and is {numbers[1]}.")
            if numbers[0] != numbers[1]
            else Ours("Which arms there are changed."),
        )
    for code in (each for each in before if each in after):
        said_each = [_plain(arms[code], "code", "ratio") for arms in (before, after)]
        for each in _said((Ours("Arm"), f" {code}"), *said_each):
            yield Difference(Topic.ARMS, each, Concern.TEXT, open_text=hidden)


def _allocation(old: Study, new: Study) -> Iterator[Difference]:
    """How arms are allocated may not change; where an observed group is recorded is a matter of the reports."""
    said = [_plain(each.allocation, "group") for each in (old, new)]
    for each in _said((Ours("Allocation"),), *said):
        yield Difference(Topic.ARMS, each, Concern.FIXED, _RUNNING)
    groups = [_plain(each.allocation.group) for each in (old, new)]
    for each in _said((Ours("Where the group is recorded"),), *groups):
        yield Difference(Topic.ARMS, each, Concern.CONDUCT)


def _treatment(old: Study, new: Study) -> Iterator[Difference]:
    """What is delivered in an arm is the unblinded people's alone to read."""
    hidden = Ours("What is recorded of a treatment session changed. Unblinded people read how.")
    for said in _said((Ours("Treatment"),), _plain(old.treatment), _plain(new.treatment)):
        yield Difference(Topic.TREATMENT, said, Concern.CAPTURE, open_text=hidden)


def _guesses(old: Study, new: Study) -> Iterator[Difference]:
    hidden = Ours("How guesses of the arm are asked or counted changed. Unblinded people read how.")
    for said in _said((Ours("Guess of the arm"),), _plain(old.blinding_assessment), _plain(new.blinding_assessment)):
        yield Difference(Topic.BLINDING, said, Concern.CONDUCT, open_text=hidden)


def _oversight(old: Study, new: Study) -> Iterator[Difference]:
    """Reviews are words alone; what is verified decides where every entry stands."""
    topic, words, concern = _FIELDS["oversight"]
    parts = ("verification", "to_verify")
    for said in _said((words,), _plain(old.oversight, *parts), _plain(new.oversight, *parts)):
        yield Difference(topic, said, concern)
    before, after = _verified(old), _verified(new)
    if before != after:
        text = Ours(f"Verified against the source were {before}, and are {after}. What was verified stays so.")
        yield Difference(topic, (text,), Concern.CONDUCT)
    elif old.oversight.to_verify != new.oversight.to_verify:
        yield Difference(topic, (Ours("What is verified against its source stands in another order."),), Concern.TEXT)


def _verified(study: Study) -> str:
    """What is verified, as it stands in a sentence."""
    if study.oversight.verification != "named":
        return {"all": Ours("all answers"), "none": Ours("no answers")}[study.oversight.verification]
    named = []
    for each in study.oversight.to_verify:
        visits = [found.label if (found := study.visit(code)) else code for code in each.visits]
        narrowed = [f"({', '.join(part)})" for part in (each.items, visits) if part]
        named.append(" ".join([_form(study, each.instrument), *narrowed]))
    return "; ".join(sorted(named))


_OF_ARMS: Any = {**dict.fromkeys(HIDDEN_TEXTS, True), "allocation": {"first_stage": {"groups"}}}


def _texts(old: Study, new: Study) -> Iterator[Difference]:
    """Words in other languages; what they call arms, groups, guesses and sessions is for unblinded people alone."""
    hidden = Ours("What an arm, or what is delivered in one, is called in another language changed.")
    before, after = ({text.language: text for text in study.texts} for study in (old, new))
    for language in {**before, **after}:
        named = (Ours("Words in another language"), f" {language}")
        if language not in before or language not in after:
            text = Ours("added.") if language in after else Ours("removed.")
            yield Difference(Topic.CONSENT, (*named, ": ", text), Concern.TEXT)
            continue
        was, becomes = before[language], after[language]
        for said in _said(named, *(each.model_dump(mode="json", exclude=_OF_ARMS) for each in (was, becomes))):
            yield Difference(Topic.CONSENT, said, Concern.TEXT)
        for said in _said(named, *(each.model_dump(mode="json", include=_OF_ARMS) for each in (was, becomes))):
            yield Difference(Topic.CONSENT, said, Concern.TEXT, open_text=hidden)


def _sites(old: Study, new: Study) -> Iterator[Difference]:
    before, after = _by_code(old.sites), _by_code(new.sites)
    for code, site in after.items():
        if code not in before:
            yield Difference(Topic.SITES, (Ours("Site"), f" {code} ({site.name}): ", Ours("added.")), Concern.CONDUCT)
    for code, site in before.items():
        if code not in after:
            gone = Ours("removed. Whoever is seen there stays; close it to stop screening.")
            yield Difference(Topic.SITES, (Ours("Site"), f" {code} ({site.name}): ", gone), Concern.CONDUCT)
        else:
            named, keeps = (Ours("Site"), f" {code}"), Ours("A site that is there keeps what it has.")
            for said in _said(named, _plain(site, "code", "target"), _plain(after[code], "code", "target")):
                yield Difference(Topic.SITES, (*said, " ", keeps), Concern.TEXT)
            for said in _said((*named, ": ", Ours("the target")), site.target, after[code].target):
                yield Difference(Topic.SITES, said, Concern.CONDUCT)
    yield from _order(Topic.SITES, Ours("The sites stand in another order."), before, after)


_KINDS = {"inclusion": Ours("Inclusion"), "exclusion": Ours("Exclusion")}
_OF_CRITERION = {
    "label": (Concern.TEXT, Ours("its wording")),
    "kind": (Concern.CONDUCT, Ours("its kind")),
    "rule": (Concern.CONDUCT, Ours("its rule")),
}


def _eligibility(old: Study, new: Study) -> Iterator[Difference]:
    one, two = old.eligibility, new.eligibility
    if one.instrument != two.instrument:
        text = Ours(f"The questions of the pre-screen were {shown(one.instrument)}, and are {shown(two.instrument)}.")
        yield Difference(Topic.ELIGIBILITY, (text,), Concern.CONDUCT)
    before, after = _by_code(one.criteria), _by_code(two.criteria)
    for code, criterion in after.items():
        if code not in before:
            text = Ours(f"added; judged by {shown(criterion.rule)}.")
            said = (_KINDS[criterion.kind], f" “{criterion.label}”: ", text)
            yield Difference(Topic.ELIGIBILITY, said, Concern.CONDUCT)
    for code, criterion in before.items():
        named = (_KINDS[criterion.kind], f" “{criterion.label}”: ")
        if code not in after:
            yield Difference(Topic.ELIGIBILITY, (*named, Ours("removed.")), Concern.CONDUCT)
            continue
        for name, (concern, words) in _OF_CRITERION.items():
            was, becomes = getattr(criterion, name), getattr(after[code], name)
            if was != becomes:
                yield Difference(Topic.ELIGIBILITY, (*named, words, ": ", became(was, becomes)), concern)
    yield from _order(Topic.ELIGIBILITY, Ours("The criteria stand in another order."), before, after)


def _documents(old: Study, new: Study) -> Iterator[Difference]:
    def by_name(study: Study) -> dict[str, Any]:
        return {f"{one.version} ({one.language})": one for one in study.consent_documents}

    before, after = by_name(old), by_name(new)
    for name, document in after.items():
        if name not in before:
            day, sites = day_in_words(document.valid_from), ", ".join(document.sites)
            text = Ours(f"added, valid from {day} at {sites}.") if sites else Ours(f"added, valid from {day}.")
            yield Difference(Topic.CONSENT, (Ours("Consent document"), f" {name}: ", text), Concern.CONDUCT)
    for name, document in before.items():
        named = (Ours("Consent document"), f" {name}")
        if name not in after:
            text = Ours("removed. Who signed it has signed it.")
            yield Difference(Topic.CONSENT, (*named, ": ", text), Concern.CONDUCT)
        elif document != after[name]:
            if document.sha256 != after[name].sha256 or document.text != after[name].text:
                why_not = "A document that may have been signed never changes. Give the new text a new version."
                yield Difference(Topic.CONSENT, (*named, ": ", Ours("its text changed.")), Concern.FIXED, why_not)
            hidden = ("version", "language", "text", "sha256")
            for said in _said(named, _plain(document, *hidden), _plain(after[name], *hidden)):
                yield Difference(Topic.CONSENT, said, Concern.CONDUCT)
    yield from _order(Topic.CONSENT, Ours("The consent documents stand in another order."), before, after)


def _missing_codes(old: Study, new: Study) -> Iterator[Difference]:
    before, after = _by_code(old.missing_codes), _by_code(new.missing_codes)
    words = Ours("Reason for no answer")
    for code, one in after.items():
        if code not in before:
            yield Difference(Topic.FORMS, (words, f" {code} ({one.label}): ", Ours("added.")), Concern.CAPTURE)
    for code, one in before.items():
        if code not in after:
            said = (words, f" {code} ({one.label}): ", Ours("removed."))
            yield Difference(Topic.FORMS, said, Concern.CAPTURE, at_risk=AtRisk(Risk.MISSING, codes=(code,)))
        elif one.label != after[code].label:
            said = (words, f" {code}: ", became(one.label, after[code].label))
            yield Difference(Topic.FORMS, said, Concern.TEXT)
    yield from _order(Topic.FORMS, Ours("The reasons for no answer stand in another order."), before, after)


def _dictionaries(old: Study, new: Study) -> Iterator[Difference]:
    """A dictionary may have thousands of terms: that they differ is said, and not how each does."""
    before, after = _by_code(old.dictionaries), _by_code(new.dictionaries)
    words = Ours("Coding dictionary")
    for code, one in after.items():
        if code not in before:
            yield Difference(Topic.FORMS, (words, f" {code} {one.version}: ", Ours("added.")), Concern.CONDUCT)
    for code, one in before.items():
        named = (words, f" {code}")
        if code not in after:
            text = Ours("taken out. What was coded with it stays.")
            yield Difference(Topic.FORMS, (*named, ": ", text), Concern.CONDUCT)
            continue
        for said in _said(named, _plain(one, "code", "terms"), _plain(after[code], "code", "terms")):
            yield Difference(Topic.FORMS, said, Concern.CONDUCT)
        if one.terms != after[code].terms:
            yield Difference(Topic.FORMS, (*named, ": ", Ours("its terms differ.")), Concern.CONDUCT)
    yield from _order(Topic.FORMS, Ours("The coding dictionaries stand in another order."), before, after)


# Visits

_KIND_FIXED = (
    "Who records a visit follows from its kind, so the kind cannot change while there are participants. "
    "Take this visit out and plan one with another code."
)


def _visits(old: Study, new: Study) -> Iterator[Difference]:
    before, after = _by_code(old.visits), _by_code(new.visits)
    for code, visit in after.items():
        if code not in before:
            said = (f"{visit.label}: ", _planned(new, visit))
            yield Difference(Topic.VISITS, said, Concern.SCHEDULE)
    for code, visit in before.items():
        if code not in after:
            gone = Ours("removed. Where it was not held it is no longer due; what was entered stays.")
            said = (f"{visit.label}: ", gone)
            yield Difference(Topic.VISITS, said, Concern.SCHEDULE, at_risk=AtRisk(Risk.VISIT, visit=code))
        else:
            yield from _visit(old, new, visit, after[code])
    yield from _order(Topic.VISITS, Ours("The visits stand in another order."), before, after)


def _planned(study: Study, visit: Visit) -> Ours:
    due, window, forms = _due(visit), visit.window, ", ".join(_form(study, code) for code in visit.instruments)
    if not forms:
        return Ours(f"added; due {due}, window {window.before} days before to {window.after} days after.")
    return Ours(f"added; due {due}, window {window.before} days before to {window.after} days after, with {forms}.")


def _visit(old: Study, new: Study, one: Visit, two: Visit) -> Iterator[Difference]:
    def differs(text: Ours, concern: Concern, why_not: str | None = None, risk: AtRisk | None = None) -> Difference:
        return Difference(Topic.VISITS, (f"{one.label}: ", text), concern, why_not, risk)

    if one.kind != two.kind:
        text = Ours(f"was of kind {one.kind}, is now of kind {two.kind}.")
        yield differs(text, Concern.FIXED, _KIND_FIXED)
    if (one.anchor, one.day) != (two.anchor, two.day):
        yield differs(Ours(f"was due {_due(one)}, is now due {_due(two)}."), Concern.SCHEDULE)
    if one.window != two.window:
        was, becomes = one.window, two.window
        text = Ours(
            f"window {was.before} days before to {was.after} days after, "
            f"is now window {becomes.before} days before to {becomes.after} days after."
        )
        yield differs(text, Concern.SCHEDULE)
    for code in two.instruments:
        if code not in one.instruments:
            yield differs(Ours(f"{_form(new, code)} is asked there now."), Concern.CAPTURE)
    for code in one.instruments:
        if code not in two.instruments:
            risk = AtRisk(Risk.VISIT, instrument=code, visit=one.code)
            yield differs(Ours(f"{_form(old, code)} is no longer asked there."), Concern.CAPTURE, risk=risk)
    if {*one.double_entry} != {*two.double_entry}:
        twice = ", ".join(_form(new, code) for code in two.double_entry)
        text = Ours(f"entered twice there now: {twice}.") if twice else Ours("nothing is entered twice there now.")
        yield differs(text, Concern.CONDUCT)
    if one.casebook_signature != two.casebook_signature:
        text = Ours("the signature of the casebook is no longer asked for there.")
        if two.casebook_signature:
            text = Ours("the signature of the casebook is asked for once it is held.")
        yield differs(text, Concern.CONDUCT)
    kept = [code for code in one.instruments if code in two.instruments]
    if kept != [code for code in two.instruments if code in one.instruments]:
        yield differs(Ours("its forms stand in another order."), Concern.TEXT)
    for name, words in _OF_VISIT.items():
        was, becomes = getattr(one, name), getattr(two, name)
        if was != becomes:
            said = (f"{one.label}: ", words, " ", became(was, becomes))
            yield Difference(Topic.VISITS, said, Concern.TEXT)


_OF_VISIT = {"label": Ours("its name"), "short": Ours("its short name"), "source": Ours("its source")}
_FROM = {
    "screening": Ours("from screening"),
    "consent": Ours("from consent"),
    "randomisation": Ours("from randomisation"),
}


def _due(visit: Visit) -> str:
    return f"on day {visit.day} {_FROM[visit.anchor]}"


def _form(study: Study, code: str) -> str:
    form = study.instrument(code)
    return form.label if form else code


# Forms and their items


def _instruments(old: Study, new: Study) -> Iterator[Difference]:
    before, after = _by_code(old.instruments), _by_code(new.instruments)
    for code, form in after.items():
        if code not in before:
            count = len(form.items)
            text = Ours("a new form, with one item.") if count == 1 else Ours(f"a new form, with {count} items.")
            yield Difference(Topic.FORMS, (f"{form.label}: ", text), Concern.CAPTURE, instrument=code)
    for code, form in before.items():
        if code not in after:
            said = (f"{form.label}: ", Ours("the form is taken out. What was entered stays, and is exported."))
            risk = AtRisk(Risk.ITEM, instrument=code)
            yield Difference(Topic.FORMS, said, Concern.CAPTURE, at_risk=risk, instrument=code)
        elif form != after[code]:
            yield from _instrument(form, after[code])
    yield from _order(Topic.FORMS, Ours("The forms stand in another order."), before, after)


_OF_INSTRUMENT = {
    "label": (Concern.TEXT, Ours("its name")),
    "short": (Concern.TEXT, Ours("its short name")),
    "respondent": (Concern.TEXT, Ours("who answers it")),
    "source": (Concern.TEXT, Ours("its source")),
    "licence": (Concern.TEXT, Ours("its licence")),
    "recall": (Concern.TEXT, Ours("the time it asks about")),
    "scoring": (Concern.TEXT, Ours("how it is scored")),
    "signable": (Concern.CONDUCT, Ours("whether it is signed")),
    "presentation": (Concern.CONDUCT, Ours("how it is shown")),
    "double_entry": (Concern.CONDUCT, Ours("whether it is entered twice")),
    "repeats": (Concern.CAPTURE, Ours("whether it repeats")),
    "max_repeats": (Concern.CAPTURE, Ours("the most repeats")),
    "repeat_label": (Concern.TEXT, Ours("what a repeat is called")),
    "texts": (Concern.TEXT, Ours("its words in other languages")),
}
_OF_ITEM = {
    "label": (Concern.TEXT, Ours("the question")),
    "hint": (Concern.TEXT, Ours("the hint")),
    "low_label": (Concern.TEXT, Ours("the low end")),
    "high_label": (Concern.TEXT, Ours("the high end")),
    "multiline": (Concern.TEXT, Ours("several lines")),
    "unit": (Concern.CAPTURE, Ours("the unit")),
    "required": (Concern.CAPTURE, Ours("whether it is required")),
    "min": (Concern.CAPTURE, Ours("the lowest value")),
    "max": (Concern.CAPTURE, Ours("the highest value")),
    "decimals": (Concern.CAPTURE, Ours("the decimals")),
    "expected_min": (Concern.CAPTURE, Ours("the lowest value that is expected")),
    "expected_max": (Concern.CAPTURE, Ours("the highest value that is expected")),
    "max_length": (Concern.CAPTURE, Ours("the longest text")),
    "shown_if": (Concern.CAPTURE, Ours("when it is asked")),
    "calculation": (Concern.CAPTURE, Ours("how it is computed")),
    "precision": (Concern.CAPTURE, Ours("how exact the day must be")),
    "show_value": (Concern.TEXT, Ours("whether its number is shown")),
    "kinds": (Concern.CAPTURE, Ours("the kinds of files")),
    "max_mb": (Concern.CAPTURE, Ours("the largest file in megabytes")),
    "coding": (Concern.CONDUCT, Ours("how it is coded")),
}
assert set(_OF_INSTRUMENT) == set(Instrument.model_fields) - {"code", "sections"}, "every part has its words"
assert set(_OF_ITEM) == set(Item.model_fields) - {"code", "type", "choices", "checks"}, "every part has its words"


def _instrument(one: Instrument, two: Instrument) -> Iterator[Difference]:
    def differs(said: tuple[str, ...], concern: Concern, risk: AtRisk | None = None) -> Difference:
        return Difference(Topic.FORMS, (f"{one.label}, ", *said), concern, at_risk=risk, instrument=one.code)

    for name, (concern, words) in _OF_INSTRUMENT.items():
        was, becomes = getattr(one, name), getattr(two, name)
        if name == "texts":
            changed = sorted({text.language for text in {*was} ^ {*becomes}})
            if changed:
                yield differs((words, ": ", Ours(f"those in {', '.join(changed)} change.")), concern)
        elif was != becomes:
            yield differs((words, ": ", became(_text(was), _text(becomes))), concern)
    before, after = _by_code(one.items), _by_code(two.items)
    for code, item in after.items():
        if code not in before:
            is_needed = item.required and item.type is not ItemType.CALCULATED
            text = Ours(f"added; {item.type}, required.") if is_needed else Ours(f"added; {item.type}, not required.")
            yield differs((f"{code} ({item.label}): ", text), Concern.CAPTURE)
    for code, item in before.items():
        if code not in after:
            text = Ours("no longer asked. Answers that were given stay, and are exported.")
            yield differs((f"{code} ({item.label}): ", text), Concern.CAPTURE, AtRisk(Risk.ITEM, one.code, code))
        elif item != after[code]:
            for said, concern, risk in _item(one.code, item, after[code]):
                yield differs((f"{code}: ", *said), concern, risk)
    if _is_reordered(before, after):
        yield differs((Ours("the items stand in another order."),), Concern.TEXT)
    groups = [
        {code: (each.max_rows, tuple(item.code for item in each.items)) for code, each in form.groups.items()}
        for form in (one, two)
    ]
    if groups[0] != groups[1]:
        text = Ours("rows: which items are asked row by row, or how many rows there are, changes.")
        yield differs((text,), Concern.CAPTURE)
    if _headings(one, after) != _headings(two, before):
        yield differs((Ours("headings: they are not what they were."),), Concern.TEXT)


def _headings(form: Instrument, others: Mapping[str, object]) -> tuple[list[object], dict[str, int]]:
    """The headings, and the section of each item that both versions have."""
    at = {item.code: place for place, section in enumerate(form.sections) for item in section.items}
    return [(section.label, section.layout) for section in form.sections], {
        code: place for code, place in at.items() if code in others
    }


_Found = tuple[tuple[str, ...], Concern, AtRisk | None]


def _item(instrument: str, one: Item, two: Item) -> Iterator[_Found]:
    if one.type != two.type:
        text = Ours(f"was of type {one.type}, is now of type {two.type}.")
        yield (text,), Concern.CAPTURE, AtRisk(Risk.ITEM_TYPE, instrument, one.code)
    for name, (concern, words) in _OF_ITEM.items():
        was, becomes = getattr(one, name), getattr(two, name)
        if was != becomes:
            yield (words, ": ", became(_text(was), _text(becomes))), concern, None
    yield from _choices(instrument, one, two)
    if one.checks != two.checks:
        for check in two.checks:
            if check not in one.checks:
                text = Ours(f"added, {check.kind}, {shown(check.rule)}.")
                yield (Ours("check"), f" “{check.message}”: ", text), Concern.CAPTURE, None
        for check in one.checks:
            if check not in two.checks:
                text = Ours(f"removed, {check.kind}, {shown(check.rule)}.")
                yield (Ours("check"), f" “{check.message}”: ", text), Concern.CAPTURE, None
        if sorted(map(repr, one.checks)) == sorted(map(repr, two.checks)):
            yield (Ours("its checks stand in another order."),), Concern.CAPTURE, None


def _choices(instrument: str, one: Item, two: Item) -> Iterator[_Found]:
    before, after = _by_code(one.choices), _by_code(two.choices)
    words = Ours("choice")
    for code, choice in after.items():
        if code not in before:
            yield (words, f" {code} ({choice.label}): ", Ours("added.")), Concern.CAPTURE, None
    for code, choice in before.items():
        if code not in after:
            # With another type all the choices go: that is said by the type.
            risk = AtRisk(Risk.CHOICES, instrument, one.code, (code,)) if one.type == two.type else None
            yield (words, f" {code} ({choice.label}): ", Ours("removed.")), Concern.CAPTURE, risk
        elif choice.label != after[code].label:
            yield (words, f" {code}: ", became(choice.label, after[code].label)), Concern.TEXT, None
    if _is_reordered(before, after):
        yield (Ours("its choices stand in another order."),), Concern.TEXT, None


# Words


def _by_code(parts: Sequence[Any]) -> dict[str, Any]:
    return {str(part.code): part for part in parts}


def _order(
    topic: Topic, words: Ours, before: Mapping[str, object], after: Mapping[str, object]
) -> Iterator[Difference]:
    if _is_reordered(before, after):
        yield Difference(topic, (words,), Concern.TEXT)


def _is_reordered(before: Mapping[str, object], after: Mapping[str, object]) -> bool:
    """Whether what both have stands in another order."""
    return [code for code in before if code in after] != [code for code in after if code in before]


def _plain(value: Any, *without: str) -> Any:
    """A part of a definition as plain data."""
    if isinstance(value, Part):
        return value.model_dump(mode="json", exclude=set(without))
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _said(words: tuple[str, ...], old: Any, new: Any) -> Iterator[tuple[str, ...]]:
    """Every difference of plain data as one sentence that begins with these words."""
    for where, what in compared("", old, new):
        yield (*words, where, ": ", what)


def _text(value: object) -> object:
    if isinstance(value, Part):
        return ", ".join(f"{name} {said}" for name, said in _plain(value).items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value
