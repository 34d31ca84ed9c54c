"""Do words in another language fit? Codes that are there, and of an instrument as many headings and messages."""

from collections.abc import Iterator, Sequence
from typing import Any

from app.studies.definition import Instrument, InstrumentText, Item, ItemText, Part, Study, StudyText
from app.studies.rules.findings import Path, Severity
from app.studies.rules.items import Problem
from app.studies.texts import names_of


def text_problems(instrument: Instrument, text: InstrumentText) -> Iterator[Problem]:
    """What in these texts says nothing of this instrument, and what it has no words for."""
    error = Severity.ERROR
    if text.sections and len(text.sections) != len(instrument.sections):
        words = f"{instrument.code} has {len(instrument.sections)} sections. Give a label for each of them, in order."
        yield ("sections",), words, error
    if text.repeat_label and (instrument.repeat_label is None or instrument.item(instrument.repeat_label) is not None):
        words = f"What one of several {instrument.code} is called is no word in the study. Take it out."
        yield ("repeat_label",), words, error
    yield from _item_problems(("items",), instrument.every_item, text.items, instrument.code)


def _item_problems(where: Path, items: Sequence[Item], said: Sequence[ItemText], what: str) -> Iterator[Problem]:
    error, warning = Severity.ERROR, Severity.WARNING
    known, seen = {item.code: item for item in items}, set[str]()
    for place, each in enumerate(said):
        item, at = known.get(each.code), (*where, place)
        if item is None:
            yield (*at, "code"), f"{what} has no item “{each.code}”. Correct the code, or take it out.", error
            continue
        if each.code in seen:
            yield (*at, "code"), f"{each.code} is worded twice. Take one of them out.", error
        seen.add(each.code)
        codes = [choice.code for choice in item.choices]
        for number, choice in enumerate(each.choices):
            if choice.code not in codes:
                listed = f"Its choices: {', '.join(codes)}." if codes else "It has no choices."
                yield (*at, "choices", number, "code"), f"{each.code} has no choice “{choice.code}”. {listed}", error
        lacking = set(codes) - {choice.code for choice in each.choices}
        if each.choices and lacking:
            yield (*at, "choices"), f"{each.code}: no words for {', '.join(sorted(lacking))}. Add them.", warning
        if len(each.checks) > len(item.checks):
            yield (
                (*at, "checks"),
                f"{each.code} has {len(item.checks)} checks. Give a message for each, in order.",
                error,
            )


def study_text_problems(study: Study, text: StudyText) -> Iterator[Problem]:
    """What in these texts says nothing of this study.yaml, and what it has no words for."""
    yield from _part_problems((), study, text)


_CALLED = {
    "arms": "arm",
    "strata": "factor",
    "levels": "level",
    "groups": "group of the first stage",
    "criteria": "criterion",
    "questions": "question about the consent document",
    "choices": "choice",
    "optional": "optional consent",
    "visits": "visit",
    "outcomes": "outcome",
    "missing_codes": "missing code",
    "withdrawal_levels": "withdrawal level",
    "screen_failure_reasons": "reason for not taking part",
    "reasons": "reason for unblinding",
    "terms": "term",
    "severity": "severity",
    "relatedness": "answer about relatedness",
    "clocks": "clock",
    "deviations": "kind of deviation",
    "dictionaries": "dictionary",
    "blinding_assessment": "guess",
    "treatment": "arm with a treatment",
    "modules": "module",
}
"""What one of each list of `StudyText` is called."""


def _part_problems(where: Path, own: Any, said: Part) -> Iterator[Problem]:
    """What in the words of one part says nothing of that part."""
    for name in type(said).model_fields:
        words, at = getattr(said, name), (*where, name)
        there: Any = getattr(own, name)
        if name in ("language", *names_of(type(said))):
            continue
        if isinstance(words, Part):
            if there is None:
                if words != type(words)():
                    yield at, f"The study has no {name.replace('_', ' ')}. Take its words out.", Severity.ERROR
            else:
                yield from _part_problems(at, there, words)
        elif isinstance(words, tuple) and words and isinstance(words[0], ItemText):
            yield from _item_problems(at, there, words, str(own.code))
        elif isinstance(words, tuple) and words:
            of = f"{own.code}: " if "code" in type(own).model_fields and not isinstance(own, Study) else ""
            yield from _coded_problems(at, there, words, of + _CALLED[name])
        elif words and there is None:
            yield at, f"The study says nothing there. Take {name} out.", Severity.ERROR


def _coded_problems(where: Path, there: Sequence[Any], said: Sequence[Any], what: str) -> Iterator[Problem]:
    names = names_of(type(said[0]))
    known, seen = {_called(each, names): each for each in there}, set[str]()
    for place, each in enumerate(said):
        code = _called(each, names)
        if code not in known:
            listed = f"There are: {', '.join(known)}." if known else "There are none."
            yield (*where, place, names[0]), f"There is no {what} “{code}”. {listed}", Severity.ERROR
            continue
        if code in seen:
            yield (*where, place, names[0]), f"{code} is worded twice. Take one of them out.", Severity.ERROR
        seen.add(code)
        yield from _part_problems((*where, place), known[code], each)
    if lacking := set(known) - seen:
        words = f"No words in this language for the {what} {', '.join(sorted(lacking))}. Add them."
        yield where, words, Severity.WARNING


def _called(part: Any, names: Sequence[str]) -> str:
    return " ".join(str(getattr(part, name)) for name in names)
