"""A study with words in another language that show where they are read: «Pain» for Pain."""

from typing import Any, get_args

from app.studies.definition import Instrument, InstrumentText, ItemText, Part, Study, StudyText
from app.studies.texts import names_of

MARK = "«{}»"


def part_in(annotation: Any) -> tuple[type[Part] | None, bool]:
    """The part that a field holds, and whether it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation, False
    for inner in get_args(annotation):
        found, many = part_in(inner)
        if found is not None:
            return found, many or getattr(annotation, "__origin__", None) is tuple
    return None, False


def _longest(field: Any) -> int:
    return next((each.max_length for each in field.metadata if getattr(each, "max_length", None)), 400)


def marked(text: str, longest: int = 400) -> str:
    """The text as it is in the other language."""
    return MARK.format(text[: longest - 2])


def words_for(own: Any, kind: type[Part]) -> dict[str, Any]:
    """Every word of a part in the other language, as a file would say it."""
    said: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        there = getattr(own, name, None)
        if name in ("language", "licence") or there is None or there == ():
            continue
        part, many = part_in(field.annotation)
        if name in names_of(kind):
            said[name] = there
        elif isinstance(there, str):
            said[name] = marked(there, _longest(field))
        elif part is not None:
            said[name] = [words_for(each, part) for each in there] if many else words_for(there, part)
    return said


def words_of_form(form: Instrument) -> dict[str, Any]:
    """Every word of an instrument in the other language."""
    said = words_for(form, InstrumentText)
    said["sections"] = [marked(section.label) if section.label else "" for section in form.sections]
    said["items"] = [words_for(item, ItemText) for item in form.every_item]
    if form.repeat_label and form.item(form.repeat_label):
        del said["repeat_label"]
    return said


def with_marked_words(study: Study, language: str = "de") -> Study:
    """The study with a marked word for every word of it in another language."""
    text = StudyText.model_validate({**words_for(study, StudyText), "language": language})
    forms = tuple(
        form.model_copy(
            update={"texts": (InstrumentText.model_validate({**words_of_form(form), "language": language}),)}
        )
        for form in study.instruments
    )
    return study.model_copy(update={"texts": (text,), "instruments": forms})
