"""Can these words be kept where blinded people read them? Whether they are text, and whether they may tell an arm."""

from collections.abc import Collection, Mapping

from app.foundation.errors import FieldProblem
from app.people.access import Actor
from app.studies.definition import Study
from app.studies.rules import names_an_arm, words_of_an_arm

ARM = "arm"  # the rule that is broken by such words, until somebody confirms them


def telling(study: Study, by: Actor, texts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Field -> the words in its text that may tell an arm; fields without such words are left out.

    Of somebody who knows arms every word of a treatment is looked at. Of a blinded person only what names an arm: they
    cannot give away what they do not know, and an everyday word must not cost their time.
    """
    if not study.is_allocated or not study.blinded:
        return {}
    found = {}
    for field, text in texts.items():
        if by.blinded and not names_an_arm(study, text):
            continue
        if words := words_of_an_arm(study, text):
            found[field] = words
    return found


def arm_problems(
    study: Study, by: Actor, texts: Mapping[str, str], confirmed: Collection[str] = ()
) -> list[FieldProblem]:
    """A problem for each text with words that may tell an arm and that nobody has confirmed to mean something else."""
    fine = {word.casefold() for word in confirmed}
    return [
        FieldProblem(
            field,
            ARM,
            f"Blinded people read this, and {_listed(words)} may tell an arm. Say it otherwise; or, if it means "
            "something else here, confirm that below.",
        )
        for field, words in telling(study, by, texts).items()
        if {word.casefold() for word in words} - fine
    ]


def to_confirm(study: Study, by: Actor, texts: Mapping[str, str]) -> list[str]:
    """Every word in these texts that somebody has to confirm, each once."""
    return list(dict.fromkeys(word for words in telling(study, by, texts).values() for word in words))


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"“{word}”" for word in words)
