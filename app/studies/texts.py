"""How does an instrument read in another language, or in the wording its authors license? And what else does a
participant read and sign? Labels alone change; codes, ranges and rules are the study's.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import TypeVar

from app.studies.definition import (
    Choice,
    ConsentQuestion,
    ConsentRules,
    Instrument,
    InstrumentText,
    Item,
    ItemText,
    MissingCode,
    QuestionText,
    Study,
    StudyText,
)

_Text = TypeVar("_Text", StudyText, InstrumentText)
_MOST_KEPT = 1024
# By identity, and kept with what they were made of: whoever judges a form knows an instrument by its identity as well.
_made: dict[tuple[int, str, int], tuple[Instrument, InstrumentText | None, Instrument]] = {}


def in_language(instrument: Instrument, language: str, wording: InstrumentText | None = None) -> Instrument:
    """The instrument for who reads this language: in its texts, else in those of the language without its country, else
    as the study words it; over all of them in the wording of this installation.
    """
    key = (id(instrument), language, id(wording))
    kept = _made.get(key)
    if kept is None:
        if len(_made) >= _MOST_KEPT:
            _made.clear()
        text = _text_in(instrument.texts, language)
        said = instrument if text is None else _said(instrument, text)
        kept = _made[key] = (instrument, wording, said if wording is None else _said(said, wording))
    return kept[2]


def consent_in(study: Study, language: str) -> ConsentRules:
    """What is asked beside the consent document, for who reads this language."""
    asked, text = study.consent, _text_in(study.texts, language)
    if text is None:
        return asked
    questions = {each.code: each for each in text.consent.questions}
    return asked.model_copy(
        update={
            "optional": _choices(asked.optional, text.consent.optional),
            "questions": tuple(_question(each, questions.get(each.code)) for each in asked.questions),
        }
    )


def missing_codes_in(study: Study, language: str) -> tuple[MissingCode, ...]:
    """The reasons why there is no answer, for who reads this language."""
    text = _text_in(study.texts, language)
    labels = {each.code: each.label for each in text.missing_codes} if text is not None else {}
    return tuple(each.model_copy(update={"label": labels.get(each.code, each.label)}) for each in study.missing_codes)


def _text_in(texts: Iterable[_Text], language: str) -> _Text | None:
    """The words in this language, else in the language without its country."""
    found = {text.language: text for text in texts}
    return found.get(language) or found.get(language.partition("-")[0])


def _question(question: ConsentQuestion, text: QuestionText | None) -> ConsentQuestion:
    if text is None:
        return question
    said = {name: words for name in ("label", "hint") if (words := getattr(text, name)) is not None}
    return question.model_copy(update={**said, "choices": _choices(question.choices, text.choices)})


def _choices(choices: Iterable[Choice], said: Iterable[Choice]) -> tuple[Choice, ...]:
    labels = {choice.code: choice.label for choice in said}
    return tuple(choice.model_copy(update={"label": labels.get(choice.code, choice.label)}) for choice in choices)


_WORKED_OUT = [name for name, value in vars(Instrument).items() if isinstance(value, cached_property)]


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
    own = {name: said for name in ("label", "short", "recall") if (said := getattr(text, name)) is not None}
    copied = instrument.model_copy(update={**own, "sections": sections})
    for name in _WORKED_OUT:  # from the sections, once, and copied with them
        copied.__dict__.pop(name, None)
    return copied


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
