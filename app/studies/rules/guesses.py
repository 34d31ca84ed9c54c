"""Can a guess of the arm be judged? Its item is asked after randomisation, and each of its choices means something."""

from collections.abc import Collection, Iterator
from difflib import get_close_matches

from app.studies.definition import Confidence, Guess, Item, ItemType, Study, VisitKind
from app.studies.rules.findings import Path, Severity
from app.studies.rules.items import Problem

ERROR, WARNING = Severity.ERROR, Severity.WARNING
WITH_NUMBERS = frozenset({ItemType.SCALE, ItemType.INTEGER, ItemType.NUMBER})


def wrong_guesses(study: Study, unreadable: Collection[str] = ()) -> Iterator[Problem]:
    """What is wrong with the guesses a study declares; `unreadable` are instruments whose files have errors."""
    if study.blinding_assessment and not study.is_allocated:
        yield ("blinding_assessment",), "Nobody is allocated here, so there is no arm to guess. Take it out.", ERROR
        return
    if study.blinding_assessment and not study.blinded:
        yield ("blinding_assessment",), "This study is not blinded: a guess of the arm says nothing here.", WARNING
    for position, guess in enumerate(study.blinding_assessment):
        path: Path = ("blinding_assessment", position)
        yield from _arms(path, guess, study)
        visit = study.visit(guess.visit)
        if visit is None:
            codes = [each.code for each in study.visits]
            yield (*path, "visit"), f"There is no visit “{guess.visit}”.{_close(guess.visit, codes)}", ERROR
            continue
        if visit.kind is VisitKind.BASELINE:
            yield (
                (*path, "visit"),
                f"{visit.code} is before randomisation: there is no arm to guess. Name a later visit.",
                ERROR,
            )
        if any(code in unreadable or study.instrument(code) is None for code in visit.instruments):
            continue  # said where it stands
        item = _asked((*path, "item"), guess.visit, guess.item, study)
        if isinstance(item, Item):
            yield from _choices(path, guess, item)
        else:
            yield item
        if guess.confidence is not None:
            sure = _asked((*path, "confidence", "item"), guess.visit, guess.confidence.item, study)
            if isinstance(sure, Item):
                yield from _confidence((*path, "confidence"), guess, guess.confidence, sure)
            else:
                yield sure


def _asked(path: Path, visit: str, code: str, study: Study) -> Item | Problem:
    found = study.asked_at(visit, code)
    if found is not None:
        return found[1]
    planned = study.visit(visit)
    forms = [study.instrument(each) for each in planned.instruments] if planned else []
    codes = [item.code for form in forms if form for item in form.items]
    return path, f"{code} is not asked at {visit}.{_close(code, codes) or ' Add its instrument to that visit.'}", ERROR


def _arms(path: Path, guess: Guess, study: Study) -> Iterator[Problem]:
    """Every arm has exactly one right answer: else a guess could be right twice, or never."""
    codes = [arm.code for arm in study.arms]
    right: dict[str, str] = {}
    for number, answer in enumerate(guess.answers):
        for place, arm in enumerate(answer.arms):
            where = (*path, "answers", number, "arms", place)
            if arm not in codes:
                yield where, f"There is no arm “{arm}”.{_close(arm, codes)}", ERROR
            elif arm in right:
                yield where, f"{arm} is the arm of “{right[arm]}” already. Each arm has one right answer.", ERROR
            right.setdefault(arm, answer.choice)
    lacking = [code for code in codes if code not in right]
    if lacking:
        yield (*path, "answers"), f"No answer is right for {', '.join(lacking)}. Give each arm one.", ERROR


def _choices(path: Path, guess: Guess, item: Item) -> Iterator[Problem]:
    if item.type is not ItemType.CHOICE:
        yield (*path, "item"), f"{item.code} is of type {item.type}. A guess is of type `choice`.", ERROR
        return
    codes = [choice.code for choice in item.choices]
    named: set[str] = set()
    said: list[tuple[Path, str]] = [
        *(((*path, "answers", number, "choice"), answer.choice) for number, answer in enumerate(guess.answers)),
        *(((*path, "do_not_know", number), code) for number, code in enumerate(guess.do_not_know)),
    ]
    for where, code in said:
        if code not in codes:
            yield where, f"{item.code} has no choice “{code}”.{_close(code, codes)}", ERROR
        elif code in named:
            yield where, f"The choice “{code}” is named twice. It means one thing only.", ERROR
        named.add(code)
    lacking = [code for code in codes if code not in named]
    if lacking:
        yield (
            (*path, "answers"),
            f"Nothing says what {', '.join(lacking)} means. Add it to `answers:` or to `do_not_know:`.",
            ERROR,
        )
    if not guess.do_not_know:
        yield path, "Nobody can say “do not know”, so that everybody has to guess. Add such a choice.", WARNING


def _confidence(path: Path, guess: Guess, confidence: Confidence, item: Item) -> Iterator[Problem]:
    if item.code == guess.item:
        yield (*path, "item"), f"{item.code} is the guess itself. Ask for how sure it is in another item.", ERROR
    elif item.type is ItemType.CHOICE:
        codes = [choice.code for choice in item.choices]
        for number, code in enumerate(confidence.certain):
            if code not in codes:
                yield (*path, "certain", number), f"{item.code} has no choice “{code}”.{_close(code, codes)}", ERROR
        if confidence.certain_from is not None:
            yield (*path, "certain_from"), f"{item.code} has choices: list those that mean certain.", ERROR
        elif not confidence.certain or not set(codes) - set(confidence.certain):
            yield path, "Say with `certain:` which of its choices mean certain; the others mean less sure.", ERROR
    elif item.type in WITH_NUMBERS:
        if confidence.certain:
            yield (*path, "certain"), f"{item.code} is a number: write `certain_from:` instead.", ERROR
        elif confidence.certain_from is None:
            yield path, "Say with `certain_from:` the number from which on it means certain.", ERROR
    else:
        yield (*path, "item"), f"{item.code} is of type {item.type}. Use a choice, a scale or a number.", ERROR


def _close(word: str, known: Collection[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""
