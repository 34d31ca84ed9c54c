"""Do the words of an instrument in another language fit it? Codes that it has, and as many headings and messages."""

from collections.abc import Iterator

from app.studies.definition import Instrument, InstrumentText
from app.studies.rules.findings import Path, Severity
from app.studies.rules.items import Problem


def text_problems(instrument: Instrument, text: InstrumentText) -> Iterator[Problem]:
    """What in these texts says nothing of this instrument, and what it has no words for."""
    error, warning = Severity.ERROR, Severity.WARNING
    if text.sections and len(text.sections) != len(instrument.sections):
        words = f"{instrument.code} has {len(instrument.sections)} sections. Give a label for each of them, in order."
        yield ("sections",), words, error
    said: set[str] = set()
    for place, each in enumerate(text.items):
        item = instrument.item(each.code)
        where: Path = ("items", place)
        if item is None:
            yield (
                (*where, "code"),
                f"{instrument.code} has no item “{each.code}”. Correct the code, or take it out.",
                error,
            )
            continue
        if each.code in said:
            yield (*where, "code"), f"{each.code} is worded twice. Take one of them out.", error
        said.add(each.code)
        codes = [choice.code for choice in item.choices]
        for number, choice in enumerate(each.choices):
            if choice.code not in codes:
                listed = f"Its choices: {', '.join(codes)}." if codes else "It has no choices."
                yield (*where, "choices", number, "code"), f"{each.code} has no choice “{choice.code}”. {listed}", error
        lacking = set(codes) - {choice.code for choice in each.choices}
        if each.choices and lacking:
            yield (*where, "choices"), f"{each.code}: no words for {', '.join(sorted(lacking))}. Add them.", warning
        if len(each.checks) > len(item.checks):
            yield (
                (*where, "checks"),
                f"{each.code} has {len(item.checks)} checks. Give a message for each, in order.",
                error,
            )
