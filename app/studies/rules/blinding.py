"""Could this definition tell a blinded person the arm? By the words of what they see, or by what it depends on.

Words are searched for the arms here; what expressions come to depend on is asked of app.studies.rules.reaching. Names
of exports are made of the codes of instruments, visits, items, choices and criteria, mails of names of sites.
"""

import re
from collections.abc import Iterator
from typing import Any

from app.studies.definition import Study
from app.studies.rules.findings import Path, Severity
from app.studies.rules.items import Problem
from app.studies.rules.reaching import reaches_treatment
from app.studies.rules.references import ARM_WORDS

# The parts of a study that blinded roles meet. Arms, sources of the allocation, treatment, and what the choices of a
# guess mean are not among them.
BLINDED_PARTS = (
    "sites",
    "eligibility",
    "consent",
    "texts",
    "visits",
    "instruments",
    "outcomes",
    "missing_codes",
    "withdrawal_levels",
    "screen_failure_reasons",
    "unblinding",
    "safety",
)
HIDDEN_TEXTS = ("arms", "treatment", "blinding_assessment")
"""The words in other languages that only unblinded people read; of the allocation, those of a first stage's groups."""
# Expressions are judged by app.studies.rules.references; the other keys hold words of ours, such as a type.
_WORDS = frozenset(
    {
        "expected_source",
        "high_label",
        "hint",
        "label",
        "licence",
        "low_label",
        "message",
        "name",
        "procedure",
        "recall",
        "repeat_label",
        "scoring",
        "sections",  # in other languages: a list of their headings
        "short",
        "source",
        "unit",
    }
)
_SHORTEST = 3  # a shorter arm code is also an ordinary word ("A"), so only "arm A" and "group A" give it away

_WORD = re.compile(r"[^\W\d_]{4,}")
# Words of arms' labels that say nothing in a form: it would be asked about every other question.
_ORDINARY = frozenset(
    {
        "active",
        "after",
        "before",
        "care",
        "control",
        "daily",
        "device",
        "dose",
        "early",
        "exercise",
        "exercises",
        "group",
        "high",
        "information",
        "intervention",
        "label",
        "late",
        "medical",
        "only",
        "open",
        "pain",
        "plus",
        "procedure",
        "programme",
        "session",
        "sessions",
        "standard",
        "study",
        "therapy",
        "training",
        "treatment",
        "usual",
        "week",
        "weekly",
        "weeks",
        "with",
        "without",
        # In German and Spanish
        "aktiv",
        "anwendung",
        "behandlung",
        "gerät",
        "gruppe",
        "informationen",
        "kontrolle",
        "medizinische",
        "ohne",
        "programm",
        "schmerz",
        "schmerzen",
        "sitzung",
        "sitzungen",
        "studie",
        "therapie",
        "übliche",
        "übung",
        "übungen",
        "verfahren",
        "versorgung",
        "woche",
        "wochen",
        "activo",
        "atención",
        "dispositivo",
        "dolor",
        "ejercicio",
        "ejercicios",
        "entrenamiento",
        "estudio",
        "grupo",
        "habitual",
        "información",
        "intervención",
        "médica",
        "procedimiento",
        "programa",
        "semana",
        "semanas",
        "sesión",
        "sesiones",
        "terapia",
        "tratamiento",
    }
)

_ALLOCATION = re.compile(r"\ballocat(?:ion|ions|ed)\b|\[\s*arm\b", re.IGNORECASE)


def leaks(study: Study) -> Iterator[Problem]:
    """Each place where a blinded part speaks of an arm. An unblinded study has nothing to hide in its words."""
    if not study.is_allocated or not study.blinded:
        return
    yield from reaches_treatment(study)
    hidden = _hidden(study)
    code_words = [(code, _mention(code)) for code, _ in hidden]
    code_parts = [(code, _part(code)) for code, _ in hidden]
    label_parts = [(label, _part(label)) for _, label in hidden if len(label) >= _SHORTEST]
    telling = _telling_words(study)
    delivered = _delivered_in_some(study)
    labels = [(label, re.compile(rf"(?<!\w){re.escape(label)}(?!\w)", re.IGNORECASE)) for _, label in hidden]
    guesses = _choices_of_guesses(study)
    for path, key, text in _texts(study):
        if key == "code":
            yield from _code(path, text, code_parts, label_parts)
            if path[:7] not in guesses:
                yield from _telling(path, text, telling, delivered if _is_planned(path) else {})
        elif key in _WORDS:
            # Whoever guesses may be offered the arms by their labels: everybody is offered all of them.
            said = list(_text(path, text, code_words, [] if path[:7] in guesses else labels))
            yield from said
            if not said and path[:7] not in guesses:
                yield from _telling(path, text, telling, delivered if _is_planned(path) else {})


def _choices_of_guesses(study: Study) -> set[Path]:
    """Where the choices of the items stand that ask for a guess of the arm."""
    asked = {guess.item for guess in study.blinding_assessment}
    in_other_words = {
        ("instruments", number, "texts", place, "items", position, "choices")
        for number, instrument in enumerate(study.instruments)
        for place, text in enumerate(instrument.texts)
        for position, item in enumerate(text.items)
        if item.code in asked
    }
    return in_other_words | {
        ("instruments", number, "sections", place, "items", position, "choices")
        for number, instrument in enumerate(study.instruments)
        for place, section in enumerate(instrument.sections)
        for position, item in enumerate(section.items)
        if item.code in asked
    }


def names_an_arm(study: Study, text: str) -> bool:
    """Whether a text says the code or the label of an arm, or of a group of a first stage (ICH E6(R3) 4.1.3)."""
    spoken, hidden = _spoken(text), _hidden(study)
    names = [_spoken(name) for both in hidden for name in both if len(name) >= _SHORTEST]
    said = (re.search(rf"(?<!\w){re.escape(name)}(?!\w)", spoken) for name in names)
    return any(said) or any(_mention(code).search(text) for code, _ in hidden)


def _hidden(study: Study) -> list[tuple[str, str]]:
    """Codes and labels of what no blinded person learns: the arms, and the groups of a first stage within which one has
    one of few arms.
    """
    stage = study.allocation.first_stage
    hidden = [(arm.code, arm.label) for arm in study.arms]
    hidden += [(group.code, group.label) for group in (stage.groups if stage else ())]
    for text in study.texts:  # the same arms and groups, as they are called in other languages
        hidden += [(one.code, one.label) for one in (*text.arms, *text.allocation.first_stage.groups)]
    return list(dict.fromkeys(hidden))


def _titles(study: Study) -> set[str]:
    """The words of the study's title, in every language: everybody reads them."""
    said = " ".join((study.title, study.short_title, *(text.title or "" for text in study.texts)))
    return set(_WORD.findall(said.casefold()))


def _labels_of_arms(study: Study) -> Iterator[tuple[str, str]]:
    """Arm and label, in every language."""
    yield from ((arm.code, arm.label) for arm in study.arms)
    yield from ((arm.code, arm.label) for text in study.texts for arm in text.arms)


def _delivered(study: Study) -> Iterator[tuple[str, str, str]]:
    """Arm, module, and what that is called, in every language."""
    for treatment in study.treatment:
        yield from ((treatment.arm, module.code, module.label) for module in treatment.modules)
    for said in (each for text in study.texts for each in text.treatment):
        yield from ((said.arm, module.code, module.label or module.code) for module in said.modules)


def words_of_an_arm(study: Study, text: str) -> tuple[str, ...]:
    """What in a text may tell an arm to who knows the protocol, as it stands there; nothing when nothing does.

    Codes and labels of arms, and of the groups of a first stage; words that only one arm's label has; and the names,
    and the words of the names, of what is delivered in some arms only. Everyday words and those of the study's title
    are left out, so that what is left is worth a look: it may still mean something else (ICH E6(R3) 4.1.3).
    """
    spoken = _spoken(text)
    hidden = _hidden(study)
    names = [name for both in hidden for name in both if len(name) >= _SHORTEST]
    found = [name for name in names if re.search(rf"(?<!\w){re.escape(_spoken(name))}(?!\w)", spoken)]
    found += [f"arm {code}" for code, _ in hidden if len(code) < _SHORTEST and _mention(code).search(text)]
    found += [name for name, pattern in _delivered_in_some(study).items() if pattern.search(text)]
    said = set(_WORD.findall(text.casefold()))
    found += sorted(said & (set(_telling_words(study)) | _words_delivered_in_some(study)))
    return tuple({each.casefold(): each for each in reversed(found)}.values())[::-1]


def _words_delivered_in_some(study: Study) -> set[str]:
    """The words of what is delivered in some arms and not in all, without those of everyday use and of the title."""
    arms: dict[str, set[str]] = {}
    for arm, code, label in _delivered(study):
        for word in _WORD.findall(f"{code.replace('_', ' ')} {label}".casefold()):
            arms.setdefault(word, set()).add(arm)
    known = _ORDINARY | _titles(study)
    return {word for word, told in arms.items() if len(told) < len(study.arms) and word not in known}


def _spoken(text: str) -> str:
    """As it would be said: no capitals, and one space for whatever parts words."""
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()


def _code(
    path: Path, text: str, parts: list[tuple[str, re.Pattern[str]]], labels: list[tuple[str, re.Pattern[str]]]
) -> Iterator[Problem]:
    if text.casefold() in ARM_WORDS:
        yield path, f"The code “{text}” means the arm. Give it another code.", Severity.ERROR
    for code, pattern in parts:
        if pattern.search(text):
            yield path, f"The code “{text}” contains the arm code “{code}”. Give it a neutral code.", Severity.ERROR
            return
    for label, pattern in labels:
        if pattern.search(text):
            yield (
                path,
                f"The code “{text}” contains an arm's label, “{label}”. Check that it tells nobody an arm.",
                Severity.WARNING,
            )
            return


def _telling(path: Path, text: str, words: dict[str, str], delivered: dict[str, re.Pattern[str]]) -> Iterator[Problem]:
    """A word that only one arm's label has; and, of visits and forms, what is delivered in some arms only."""
    for word in sorted(set(_WORD.findall(text.casefold()))):
        if word in words:
            yield (
                path,
                f"Blinded people read “{word}” here, which only the label of one arm has, “{words[word]}”. Check that "
                "it tells nobody an arm.",
                Severity.WARNING,
            )
    for name, pattern in delivered.items():
        if pattern.search(text):
            yield (
                path,
                f"This names “{name}”, which is delivered in some arms only. Visits and forms are the same in every "
                "arm: check that this one is.",
                Severity.WARNING,
            )


def _telling_words(study: Study) -> dict[str, str]:
    """Words that stand in one arm's label alone, and neither in the title nor in everyday use -> that label."""
    found: dict[str, dict[str, str]] = {}
    for arm, label in _labels_of_arms(study):
        for word in _WORD.findall(label.casefold()):
            found.setdefault(word, {}).setdefault(arm, label)
    known = _ORDINARY | _titles(study) | {arm.code.casefold() for arm in study.arms}  # an error of its own
    return {word: next(iter(of.values())) for word, of in found.items() if len(of) == 1 and word not in known}


def _delivered_in_some(study: Study) -> dict[str, re.Pattern[str]]:
    """The codes and labels of what is delivered in some arms and not in all."""
    arms: dict[str, set[str]] = {}
    for arm, code, label in _delivered(study):
        for name in {code, label}:
            arms.setdefault(name, set()).add(arm)
    return {
        name: re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE)
        for name, told in sorted(arms.items())
        if len(told) < len(study.arms) and len(name) >= _SHORTEST
    }


def _is_planned(path: Path) -> bool:
    """Whether this is the code, label or short name of a visit, or the code of a form: questions are asked of much."""
    path = path[2:] if path[0] == "texts" else path  # in another language
    return len(path) == 3 and (path[0] == "visits" or (path[0] == "instruments" and path[2] == "code"))


def _text(
    path: Path, text: str, codes: list[tuple[str, re.Pattern[str]]], labels: list[tuple[str, re.Pattern[str]]]
) -> Iterator[Problem]:
    # How the blind is broken cannot be said without the allocation.
    if path[-1] != "procedure" and _ALLOCATION.search(text):
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


def _part(name: str) -> re.Pattern[str]:
    """An arm's code or label inside another code: however its words are joined, and with a number after it (sham2)."""
    joined = r"[_.-]?".join(map(re.escape, re.split(r"[\s_.-]+", name)))
    if len(name) < _SHORTEST:
        return re.compile(rf"(?<![A-Za-z0-9])(?:arm|group)[_.-]?{joined}(?![A-Za-z0-9])", re.IGNORECASE)
    before = "A-Za-z0-9" if name[0].isdigit() else "A-Za-z"
    after = "A-Za-z0-9" if name[-1].isdigit() else "A-Za-z"
    return re.compile(rf"(?<![{before}]){joined}(?![{after}])", re.IGNORECASE)


def _texts(study: Study) -> Iterator[tuple[Path, str, str]]:
    everything = study.model_dump(mode="json", include=set(BLINDED_PARTS))
    for text in everything["texts"]:  # what is hidden of study.yaml is hidden in other languages
        for name in HIDDEN_TEXTS:
            del text[name]
        del text["allocation"]["first_stage"]["groups"]
    for part in BLINDED_PARTS:
        yield from _texts_in((part,), "", everything[part])
    for position, factor in enumerate(study.allocation.strata):
        yield from _texts_in(("allocation", "strata", position), "", factor.model_dump(mode="json"))
    if stage := study.allocation.first_stage:
        said = stage.model_dump(mode="json", include={"code", "label", "strata"})
        yield from _texts_in(("allocation", "first_stage"), "", said)


def _texts_in(path: Path, key: str, value: Any) -> Iterator[tuple[Path, str, str]]:
    if isinstance(value, dict):
        for inner, part in value.items():
            yield from _texts_in((*path, inner), inner, part)
    elif isinstance(value, list):
        for position, part in enumerate(value):
            yield from _texts_in((*path, position), key, part)
    elif isinstance(value, str):
        yield path, key, value
