"""How do a study and its instruments read in another language, or in the wording their authors license? And what does a
participant read and sign beside them? Labels alone change; codes, ranges and rules are the study's.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from app.foundation.languages import Names
from app.studies.definition import (
    Choice,
    ConsentRules,
    Instrument,
    InstrumentText,
    Item,
    ItemText,
    Part,
    Study,
    StudyText,
)

_Text = TypeVar("_Text", StudyText, InstrumentText)
_MOST_KEPT = 1024
# By identity, and kept with what they were made of: whoever judges a form knows an instrument by its identity as well.
_made: dict[tuple[int, str, int], tuple[Instrument, InstrumentText | None, Instrument]] = {}
_studies: dict[tuple[int, str], tuple[Study, Study, Names]] = {}
NAMES = ("code", "arm", "item", "visit")
"""What the words of a part may say of which part they are."""
_SAME = Names()


def study_in(study: Study, language: str) -> Study:
    """The study for who reads this language, with its instruments; the same object as long as it is asked for, and the
    study itself where it has no words in that language.
    """
    return _study_in(study, language)[0]


def labels_in(study: Study, language: str) -> Names:
    """Each label of the study -> what it is for who reads this language; without those that would be two things."""
    return _study_in(study, language)[1]


def _study_in(study: Study, language: str) -> tuple[Study, Names]:
    key = (id(study), language)
    kept = _studies.get(key)
    if kept is None:
        if len(_studies) >= _MOST_KEPT:
            _studies.clear()
        said = _study_said(study, language)
        kept = _studies[key] = (study, said, _SAME if said is study else _labels(study, said))
    return kept[1], kept[2]


def _study_said(study: Study, language: str) -> Study:
    text = _text_in(study.texts, language)
    instruments = tuple(in_language(form, language) for form in study.instruments)
    if text is None and all(one is other for one, other in zip(instruments, study.instruments, strict=True)):
        return study
    worded = study if text is None else _worded(study, text)
    return _without_worked_out(worded.model_copy(update={"instruments": instruments}), _OF_STUDY)


def _worded(own: Any, said: Any) -> Any:
    """A part of a study in the words that there are for it."""
    if own is None or said is None:
        return own
    if isinstance(said, str):
        return said
    if isinstance(said, ItemText):
        return _item(own, said)
    if isinstance(said, tuple):
        if not said:
            return own
        names = names_of(type(said[0]))
        words = {_named(each, names): each for each in said}
        return tuple(_worded(each, words.get(_named(each, names))) for each in own)
    said_of = [name for name in type(said).model_fields if name not in NAMES and name != "language"]
    changes = {
        name: words for name in said_of if (words := _worded(getattr(own, name), getattr(said, name))) is not None
    }
    return own.model_copy(update=changes)


def names_of(text: type[Part]) -> tuple[str, ...]:
    """By which of its fields the words of a part say of which part they are."""
    return tuple(name for name in NAMES if name in text.model_fields)


def _named(part: Part, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(getattr(part, name)) for name in names)


def _labels(own: Study, said: Study) -> Names:
    found: dict[str, str] = {}
    twice: set[str] = set()
    for one, other in _pairs(own, said):
        if found.setdefault(one, other) != other:
            twice.add(one)
    return Names({one: other for one, other in found.items() if one not in twice and one != other})


def _pairs(own: Any, said: Any) -> Iterator[tuple[str, str]]:
    """Every text of a study that has other words, beside them."""
    if own is said:
        return
    if isinstance(own, str):
        yield own, said
    elif isinstance(own, tuple):
        for one, other in zip(own, said, strict=True):
            yield from _pairs(one, other)
    elif isinstance(own, Part):
        for name in type(own).model_fields:
            yield from _pairs(getattr(own, name), getattr(said, name))


def in_language(instrument: Instrument, language: str, wording: InstrumentText | None = None) -> Instrument:
    """The instrument for who reads this language: in its texts, else in those of the language without its country, else
    as the study words it; over all of them in the wording of this installation.
    """
    if wording is None and not instrument.texts:
        return instrument
    key = (id(instrument), language, id(wording))
    kept = _made.get(key)
    if kept is None:
        if len(_made) >= _MOST_KEPT:
            _made.clear()
        text = _text_in(instrument.texts, language)
        said = instrument if text is None else _said(instrument, text)
        kept = _made[key] = (instrument, wording, said if wording is None else _said(said, wording))
    return kept[2]


def is_worded(instrument: Instrument, language: str) -> bool:
    """Whether the study has words of its own for who reads this language."""
    return _text_in(instrument.texts, language) is not None


def consent_in(study: Study, language: str) -> ConsentRules:
    """What is asked beside the consent document, for who reads this language."""
    return study_in(study, language).consent


def _text_in(texts: Iterable[_Text], language: str) -> _Text | None:
    """The words in this language, else in the language without its country."""
    found = {text.language: text for text in texts}
    return found.get(language) or found.get(language.partition("-")[0])


def _choices(choices: Iterable[Choice], said: Iterable[Choice]) -> tuple[Choice, ...]:
    labels = {choice.code: choice.label for choice in said}
    return tuple(choice.model_copy(update={"label": labels.get(choice.code, choice.label)}) for choice in choices)


_OF_INSTRUMENT = [name for name, value in vars(Instrument).items() if isinstance(value, cached_property)]
_OF_STUDY = [name for name, value in vars(Study).items() if isinstance(value, cached_property)]
_Copied = TypeVar("_Copied", Study, Instrument)


def _without_worked_out(copied: _Copied, names: Iterable[str]) -> _Copied:
    """Without what was worked out once from the parts it had, and copied with them."""
    for name in names:
        copied.__dict__.pop(name, None)
    return copied


def _said(instrument: Instrument, text: InstrumentText) -> Instrument:
    by_code = {each.code: each for each in text.items}
    labels = dict(enumerate(text.sections))
    sections = tuple(
        section.model_copy(
            update={
                "label": labels.get(place) or section.label,
                "items": tuple(_item(item, by_code.get(item.code)) for item in section.items),
            }
        )
        for place, section in enumerate(instrument.sections)
    )
    names = ("label", "short", "recall", "scoring", "repeat_label")
    own = {name: said for name in names if (said := getattr(text, name)) is not None}
    return _without_worked_out(instrument.model_copy(update={**own, "sections": sections}), _OF_INSTRUMENT)


def _item(item: Item, text: ItemText | None) -> Item:
    if text is None:
        return item
    names = ("label", "hint", "unit", "low_label", "high_label")
    changes: dict[str, object] = {name: said for name in names if (said := getattr(text, name)) is not None}
    changes["choices"] = _choices(item.choices, text.choices)
    messages = dict(enumerate(text.checks))
    changes["checks"] = tuple(
        check.model_copy(update={"message": messages[place].message}) if place in messages else check
        for place, check in enumerate(item.checks)
    )
    return item.model_copy(update=changes)
