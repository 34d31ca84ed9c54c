"""Could this definition tell a blinded person the arm? The words of everything they see, searched for the arms."""

import re
from collections.abc import Iterator
from typing import Any

from app.studies.definition import Study
from app.studies.rules.findings import Path, Severity
from app.studies.rules.items import Problem
from app.studies.rules.references import ARM_WORDS

# The parts of a study that blinded roles meet. Arms, sources of the allocation, treatment, and what the choices of a
# guess mean are not among them.
BLINDED_PARTS = (
    "eligibility",
    "visits",
    "instruments",
    "outcomes",
    "missing_codes",
    "withdrawal_levels",
    "screen_failure_reasons",
    "unblinding",
)
# Expressions are judged by app.studies.rules.references; the other keys hold words of ours, such as a type.
_WORDS = frozenset(
    {
        "high_label",
        "hint",
        "label",
        "licence",
        "low_label",
        "message",
        "recall",
        "scoring",
        "short",
        "source",
        "unit",
    }
)
_SHORTEST = 3  # a shorter arm code is also an ordinary word ("A"), so only "arm A" and "group A" give it away

_ALLOCATION = re.compile(r"\ballocat(?:ion|ions|ed)\b|\[\s*arm\b", re.IGNORECASE)


def leaks(study: Study) -> Iterator[Problem]:
    """Each place where a blinded part speaks of an arm. An unblinded study has nothing to hide in its words."""
    if not study.is_allocated or not study.blinded:
        return
    code_words = [(arm.code, _mention(arm.code)) for arm in study.arms]
    code_parts = [(arm.code, _part(arm.code)) for arm in study.arms if len(arm.code) >= _SHORTEST]
    labels = [(arm.label, re.compile(rf"(?<!\w){re.escape(arm.label)}(?!\w)", re.IGNORECASE)) for arm in study.arms]
    guesses = _choices_of_guesses(study)
    for path, key, text in _texts(study):
        if key == "code":
            yield from _code(path, text, code_parts)
        elif key in _WORDS:
            # Whoever guesses may be offered the arms by their labels: everybody is offered all of them.
            yield from _text(path, text, code_words, [] if path[:7] in guesses else labels)


def _choices_of_guesses(study: Study) -> set[Path]:
    """Where the choices of the items stand that ask for a guess of the arm."""
    asked = {guess.item for guess in study.blinding_assessment}
    return {
        ("instruments", number, "sections", place, "items", position, "choices")
        for number, instrument in enumerate(study.instruments)
        for place, section in enumerate(instrument.sections)
        for position, item in enumerate(section.items)
        if item.code in asked
    }


def names_an_arm(study: Study, text: str) -> bool:
    """Whether a text says the code or the label of one of the study's arms (ICH E6(R3) 4.1.3)."""
    spoken = _spoken(text)
    names = [_spoken(name) for arm in study.arms for name in (arm.code, arm.label) if len(name) >= _SHORTEST]
    said = (re.search(rf"(?<!\w){re.escape(name)}(?!\w)", spoken) for name in names)
    return any(said) or any(_mention(arm.code).search(text) for arm in study.arms)


def _spoken(text: str) -> str:
    """As it would be said: no capitals, and one space for whatever parts words."""
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()


def _code(path: Path, text: str, parts: list[tuple[str, re.Pattern[str]]]) -> Iterator[Problem]:
    if text.casefold() in ARM_WORDS:
        yield path, f"The code “{text}” means the arm. Give it another code.", Severity.ERROR
    for code, pattern in parts:
        if pattern.search(text):
            yield path, f"The code “{text}” contains the arm code “{code}”. Give it a neutral code.", Severity.ERROR


def _text(
    path: Path, text: str, codes: list[tuple[str, re.Pattern[str]]], labels: list[tuple[str, re.Pattern[str]]]
) -> Iterator[Problem]:
    if _ALLOCATION.search(text):
        yield (
            path,
            "Blinded people read this, and it speaks of the allocation. Say it without; to ask what somebody believes, "
            "use neutral choices (active, not active, do not know) and `blinding_assessment:`.",
            Severity.ERROR,
        )
    for code, pattern in codes:
        if pattern.search(text):
            yield path, f"Blinded people read this, and it names the arm “{code}”. Say it without.", Severity.ERROR
            return
    for label, pattern in labels:
        if pattern.search(text):
            yield (
                path,
                f"Blinded people read this, and it contains an arm's label, “{label}”. Check that it tells nobody an "
                "arm.",
                Severity.WARNING,
            )


def _mention(code: str) -> re.Pattern[str]:
    if len(code) < _SHORTEST:
        return re.compile(rf"\b(?:arm|group)\s+{re.escape(code)}\b")
    return re.compile(rf"(?<!\w){re.escape(code)}(?!\w)", re.IGNORECASE)


def _part(code: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(code)}(?![A-Za-z0-9])", re.IGNORECASE)


def _texts(study: Study) -> Iterator[tuple[Path, str, str]]:
    everything = study.model_dump(mode="json", include=set(BLINDED_PARTS))
    for part in BLINDED_PARTS:
        yield from _texts_in((part,), "", everything[part])
    for position, factor in enumerate(study.allocation.strata):
        yield from _texts_in(("allocation", "strata", position), "", factor.model_dump(mode="json"))


def _texts_in(path: Path, key: str, value: Any) -> Iterator[tuple[Path, str, str]]:
    if isinstance(value, dict):
        for inner, part in value.items():
            yield from _texts_in((*path, inner), inner, part)
    elif isinstance(value, list):
        for position, part in enumerate(value):
            yield from _texts_in((*path, position), key, part)
    elif isinstance(value, str):
        yield path, key, value
