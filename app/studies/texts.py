"""How does an instrument read in another language, or in the wording its authors license? Labels alone change; codes,
ranges and rules are the study's.
"""

from app.studies.definition import Instrument, InstrumentText, Item, ItemText

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
        texts = {text.language: text for text in instrument.texts}
        text = texts.get(language) or texts.get(language.partition("-")[0])
        said = instrument if text is None else _said(instrument, text)
        kept = _made[key] = (instrument, wording, said if wording is None else _said(said, wording))
    return kept[2]


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
    copied.__dict__.pop("items", None)  # worked out from the sections once, and copied with them
    return copied


def _item(item: Item, text: ItemText | None) -> Item:
    if text is None:
        return item
    names = ("label", "hint", "unit", "low_label", "high_label")
    changes: dict[str, object] = {name: said for name in names if (said := getattr(text, name)) is not None}
    labels = {choice.code: choice.label for choice in text.choices}
    changes["choices"] = tuple(
        choice.model_copy(update={"label": labels.get(choice.code, choice.label)}) for choice in item.choices
    )
    messages = dict(enumerate(text.checks))
    changes["checks"] = tuple(
        check.model_copy(update={"message": messages[place].message}) if place in messages else check
        for place, check in enumerate(item.checks)
    )
    return item.model_copy(update=changes)
