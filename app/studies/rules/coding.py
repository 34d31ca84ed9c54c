"""Is what two people do twice well described? Forms that are entered twice, texts that are coded, and dictionaries."""

from collections.abc import Collection, Iterator

from app.studies.definition import Coding, Item, ItemType, Study
from app.studies.rules.findings import Path, Severity
from app.studies.rules.items import SEALED, Problem

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def wrong_double_entry(study: Study, unreadable: Collection[str] = ()) -> Iterator[Problem]:
    """What is wrong with the forms that are entered twice."""
    for position, visit in enumerate(study.visits):
        for place, code in enumerate(visit.double_entry):
            if code not in visit.instruments and code not in unreadable:
                yield (
                    ("visits", position, "double_entry", place),
                    f"{visit.label} has no instrument “{code}”. Name one of those that are filled in at this visit.",
                    ERROR,
                )
    screening = study.eligibility.instrument
    for position, form in enumerate(study.instruments):
        if form.double_entry and form.code == screening:
            path: Path = ("instruments", position, "double_entry")
            yield path, "The pre-screen decides at once who may take part, so it is entered once. Take this out.", ERROR

    for position, form in enumerate(study.instruments):
        twice = any(study.is_entered_twice(visit.code, form.code) for visit in study.visits)
        if twice and (form.repeats or form.groups):
            words = "What repeats is entered once: nobody could say which of two people's rows belong together. "
            yield ("instruments", position), f"{words}Take one of the two out.", ERROR
    for form in study.instruments:
        sealed = [item.label for item in form.items if item.type in SEALED]
        if sealed and any(study.is_entered_twice(visit.code, form.code) for visit in study.visits):
            position = study.instruments.index(form)
            words = f"“{sealed[0]}” is no answer that two people type. Put it in a form of its own, entered once."
            yield ("instruments", position), words, ERROR


def wrong_coding(study: Study) -> Iterator[Problem]:
    """What is wrong with dictionaries, and with the texts that are coded with them."""
    for position, dictionary in enumerate(study.dictionaries):
        path: Path = ("dictionaries", position)
        if sum(each.code == dictionary.code for each in study.dictionaries[: position + 1]) > 1:
            yield (*path, "code"), f"There are two dictionaries “{dictionary.code}”. Rename one of them.", ERROR
        known: dict[str, int] = {}
        for place, term in enumerate(dictionary.terms):
            if known.setdefault(term.code, place) != place:
                yield (*path, "terms", place), f"The code “{term.code}” stands here twice. Take one of them out.", ERROR
        for place, term in enumerate(dictionary.terms):
            if term.parent is not None and term.parent not in known:
                words = f"There is no term “{term.parent}”, which “{term.label}” would belong to. Add it to the list."
                yield (*path, "terms", place), words, ERROR
    codes = {dictionary.code for dictionary in study.dictionaries}
    for position, form in enumerate(study.instruments):
        for place, section in enumerate(form.sections):
            for number, item in enumerate(section.items):
                at: Path = ("instruments", position, "sections", place, "items", number, "coding")
                if section.repeats and item.coding is not None:
                    words = "A text in rows is not coded. Put it into a form that repeats, or take the coding out."
                    yield at, words, ERROR
                yield from _coding(item, at, codes)
    yield from _known(study.safety.coding, ("safety", "coding"), codes)
    for position, arm in enumerate(study.treatment):
        for place, module in enumerate(arm.modules):
            for number, item in enumerate(module.items):
                if item.coding is not None:
                    path = ("treatment", position, "modules", place, "items", number, "coding")
                    yield path, "What is delivered is seen by few, so it is not coded. Take `coding:` out.", ERROR


def _coding(item: Item, path: Path, dictionaries: Collection[str]) -> Iterator[Problem]:
    if item.coding is None:
        return
    if item.type is not ItemType.TEXT:
        yield path, f"{item.code} is of type {item.type}: only texts are coded. Take `coding:` out.", ERROR
    yield from _known(item.coding, path, dictionaries)


def _known(coding: Coding | None, path: Path, dictionaries: Collection[str]) -> Iterator[Problem]:
    if coding is not None and coding.dictionary not in dictionaries:
        names = ", ".join(sorted(dictionaries)) or "none yet"
        words = f"There is no dictionary “{coding.dictionary}”. Name one under `dictionaries:` ({names})."
        yield (*path, "dictionary"), words, ERROR
