"""May this person take part? Every criterion judged from the answers of the pre-screen; unknown is never yes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from app.expressions import parse
from app.foundation.errors import FieldProblem
from app.participants.rules.answers import Answers
from app.studies.definition import Criterion, Item, ItemType, Study


@dataclass(frozen=True)
class Verdict:
    """What the answers say of one criterion. `met` is True when it lets the person take part, None when unknown."""

    code: str
    label: str
    kind: Literal["inclusion", "exclusion"]
    met: bool | None
    reason: str
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Eligibility:
    """The verdict of every criterion; eligible only when each one is met."""

    verdicts: tuple[Verdict, ...]
    eligible: bool

    @property
    def failed(self) -> tuple[str, ...]:
        """The codes of the criteria that rule the person out."""
        return tuple(verdict.code for verdict in self.verdicts if verdict.met is False)

    @property
    def lacking(self) -> tuple[str, ...]:
        """The codes of the questions without whose answer a criterion is unknown."""
        return tuple(dict.fromkeys(code for verdict in self.verdicts for code in verdict.lacking))


def judge_eligibility(
    study: Study, answers: Mapping[str, Any], *, today: date, refused: Collection[str] = ()
) -> Eligibility:
    """The verdict of each criterion from stored answers; `today` is the date at the site.

    `refused` are the questions that were answered with what cannot be kept: unknown, and said to be so.
    """
    instrument = study.instrument(study.eligibility.instrument)
    known = Answers(instrument.items if instrument else (), answers, today=today)
    labels = {missing.code: missing.label for missing in study.missing_codes}
    verdicts = tuple(_verdict(criterion, known, answers, labels, refused) for criterion in study.eligibility.criteria)
    return Eligibility(verdicts, all(verdict.met is True for verdict in verdicts))


def why_not_known(study: Study, eligibility: Eligibility) -> list[FieldProblem]:
    """The questions still to be answered when nothing rules the person out and something is unknown; else none."""
    if eligibility.eligible or eligibility.failed:
        return []
    instrument = study.instrument(study.eligibility.instrument)
    items = {item.code: item for item in instrument.items} if instrument else {}
    problems = [
        FieldProblem(
            code,
            "required",
            f"{items[code].label if code in items else code}: answer this, or choose why they do not take part.",
        )
        for code in eligibility.lacking
    ]
    return problems or [
        FieldProblem(
            "failure_reason",
            "required",
            "A criterion cannot be decided from these answers. Check them, or choose why they do not take part.",
        )
    ]


def _verdict(
    criterion: Criterion,
    known: Answers,
    answers: Mapping[str, Any],
    missing_labels: Mapping[str, str],
    refused: Collection[str],
) -> Verdict:
    rule = parse(criterion.rule)
    lacking = known.lacking(rule.references)
    if lacking:
        reason = " ".join(_unanswered(code, known, answers, missing_labels, refused) for code in lacking)
        return Verdict(criterion.code, criterion.label, criterion.kind, None, reason, lacking)
    holds = rule.holds(known)
    if holds is None:
        reason = "This cannot be decided from the answers. Check them."
        return Verdict(criterion.code, criterion.label, criterion.kind, None, reason)
    said = [
        f"{item.label}: {_shown(item, known, answers)}."
        for name in sorted({reference.field for reference in rule.references})
        if (item := known.item(name)) is not None and known.shown(name)
    ]
    met = holds if criterion.kind == "inclusion" else not holds
    return Verdict(criterion.code, criterion.label, criterion.kind, met, " ".join(said))


def _unanswered(
    code: str,
    known: Answers,
    answers: Mapping[str, Any],
    missing_labels: Mapping[str, str],
    refused: Collection[str],
) -> str:
    item = known.item(code)
    label = item.label if item else code
    value = answers.get(code)
    if isinstance(value, dict):
        said = str(value.get("missing", ""))
        return f"{label}: {missing_labels.get(said, said)}. Find out, then answer it."
    return f"{label}: the answer needs a change first." if code in refused else f"{label}: not answered yet."


def _shown(item: Item, known: Answers, answers: Mapping[str, Any]) -> str:
    value = answers.get(item.code)
    if item.type is ItemType.CALCULATED:
        value = known.value(None, item.code)
    if isinstance(value, bool):
        return "yes" if value else "no"
    labels = {choice.code: choice.label for choice in item.choices}
    if isinstance(value, list | tuple):
        return ", ".join(labels.get(code, str(code)) for code in value) or "none"
    said = labels.get(str(value), str(value))
    return f"{said} {item.unit}" if item.unit else said
