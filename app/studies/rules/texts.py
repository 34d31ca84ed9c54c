"""Do words in another language fit? Codes that are there, and of an instrument as many headings and messages."""

from collections.abc import Iterator, Sequence

from app.studies.definition import Choice, Instrument, InstrumentText, MissingCode, Study, StudyText
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


def study_text_problems(study: Study, text: StudyText) -> Iterator[Problem]:
    """What in these texts says nothing of this study.yaml, and what it has no words for."""
    questions = {question.code: question for question in study.consent.questions}
    said: set[str] = set()
    for place, each in enumerate(text.consent.questions):
        where: Path = ("consent", "questions", place)
        question = questions.get(each.code)
        if question is None:
            words = f"The study asks no question “{each.code}” about the consent document. Correct the code."
            yield (*where, "code"), words, Severity.ERROR
            continue
        if each.code in said:
            yield (*where, "code"), f"{each.code} is worded twice. Take one of them out.", Severity.ERROR
        said.add(each.code)
        if each.choices:
            yield from _code_problems((*where, "choices"), question.choices, each.choices, f"{each.code}: choice")
    if text.consent.optional:
        optional = study.consent.optional
        yield from _code_problems(("consent", "optional"), optional, text.consent.optional, "optional consent")
    if text.missing_codes:
        yield from _code_problems(("missing_codes",), study.missing_codes, text.missing_codes, "missing code")


def _code_problems(
    where: Path, there: Sequence[Choice | MissingCode], said: Sequence[Choice | MissingCode], what: str
) -> Iterator[Problem]:
    codes, seen = [each.code for each in there], set[str]()
    for place, each in enumerate(said):
        if each.code not in codes:
            listed = f"There are: {', '.join(codes)}." if codes else "There are none."
            yield (*where, place, "code"), f"There is no {what} “{each.code}”. {listed}", Severity.ERROR
        elif each.code in seen:
            yield (*where, place, "code"), f"{each.code} is worded twice. Take one of them out.", Severity.ERROR
        seen.add(each.code)
    if lacking := set(codes) - seen:
        words = f"No words in this language for the {what} {', '.join(sorted(lacking))}. Add them."
        yield where, words, Severity.WARNING
