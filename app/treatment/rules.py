"""Is what was delivered in a session what this arm's sessions consist of, and how much of the plan was delivered?"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

from app.capture.checks import judge
from app.foundation.errors import FieldProblem
from app.foundation.words import day_in_words
from app.studies.definition import Instrument, Section, Study, TreatmentModule, Visit, VisitKind
from app.studies.rules import words_of_an_arm

CONTENT_SIZE = 4096
"""Bytes that the record of one session may have: every session is sealed in an envelope of this one size."""

Delivered = Mapping[str, Mapping[str, object] | bool]
"""By module: its items' values, or True (delivered, nothing more to say), or False (not delivered)."""


@dataclass(frozen=True)
class Judged:
    """What is to be kept of a session (a module not delivered is false), and what cannot be kept as it is."""

    content: dict[str, dict[str, object] | bool]
    problems: tuple[FieldProblem, ...]


@dataclass(frozen=True)
class Adherence:
    """How many of the planned sessions were held."""

    held: int
    planned: int

    @property
    def words(self) -> str:
        return f"{self.held} of {self.planned}"


def modules_of(study: Study, arm: str) -> tuple[TreatmentModule, ...]:
    """What a session of this arm consists of; nothing when the study does not say."""
    return next((treatment.modules for treatment in study.treatment if treatment.arm == arm), ())


def treatment_visits(study: Study) -> tuple[Visit, ...]:
    """The planned sessions, the same for every arm."""
    return tuple(visit for visit in study.visits if visit.kind is VisitKind.TREATMENT)


def judge_delivered(study: Study, arm: str, visit: str, delivered: Delivered, *, today: date, now: datetime) -> Judged:
    """What was delivered, checked against the modules of the arm; field names are MODULE or MODULE.ITEM."""
    modules = {module.code: module for module in modules_of(study, arm)}
    problems = [
        FieldProblem(code[:80], "unknown", "This is not part of the sessions of this participant. Take it out.")
        for code in delivered
        if code not in modules
    ]
    content: dict[str, dict[str, object] | bool] = {}
    for code, module in modules.items():
        given = delivered.get(code, False)
        if given is False:
            content[code] = False
            continue
        form = as_instrument(module)
        values: Mapping[str, object] = {} if given is True or not isinstance(given, Mapping) else given
        if form is None:
            content[code] = {}
            problems += [_unknown(code, item) for item in values]
            continue
        judgement = judge(study, form, visit, values, {}, answers={}, today=today, now=now)
        labels = {item.code: item.label for item in form.items}
        problems += [_unknown(code, item) for item in values if item not in labels]
        problems += [
            FieldProblem(f"{code}.{finding.item}", finding.rule, finding.message)
            for finding in judgement.hard
            if finding.item in labels
        ]
        problems += [
            FieldProblem(f"{code}.{item}", "required", f"{module.label}: fill in “{labels[item]}”.")
            for item in judgement.missing_required
        ]
        content[code] = judgement.values
    if modules and not problems and not any(value is not False for value in content.values()):
        problems.append(
            FieldProblem(
                "delivered",
                "required",
                "Tick what was delivered. If the session did not take place, mark it as missed.",
            )
        )
    return Judged(content, tuple(problems))


def canonical(delivered: Mapping[str, object], why: str | None) -> bytes:
    """The bytes of what was delivered, and of why it was corrected, as they are sealed."""
    return json.dumps(
        {"delivered": delivered, "why": why}, separators=(",", ":"), ensure_ascii=False, sort_keys=True
    ).encode()


def why_not_fit(delivered: Mapping[str, object], why: str | None) -> FieldProblem | None:
    """Why a session cannot be sealed as it is, or None."""
    if len(canonical(delivered, why)) <= CONTENT_SIZE:
        return None
    return FieldProblem("delivered", "max_length", "This is more than a session can hold. Shorten the notes.")


def why_not_correct(why: str | None, *, recorded: bool) -> FieldProblem | None:
    """Why a session that is recorded cannot be changed, or None: a correction needs its reason (21 CFR 11.10(e))."""
    if not recorded or (why or "").strip():
        return None
    return FieldProblem("why", "required", "Say why this session is corrected.")


def why_not_deliver(held_on: date, *, stopped_on: date | None, withdrawn_on: date | None) -> str | None:
    """Why nothing can have been delivered on this day, or None: what was delivered before may still be recorded."""
    if stopped_on is not None and held_on > stopped_on:
        return f"Treatment was stopped on {day_in_words(stopped_on)}. Record only what was delivered until then."
    if stopped_on is None and withdrawn_on is not None and held_on >= withdrawn_on:
        return "This participant withdrew on or before that day. Record only what was delivered before."
    return None


def why_not_a_session(visit: Visit | None) -> FieldProblem | None:
    """Why nothing can be delivered at this visit, or None."""
    if visit is not None and visit.kind is VisitKind.TREATMENT:
        return None
    return FieldProblem("visit", "unknown", "This is not a treatment session. Choose one of the sessions.")


def why_not_told(study: Study, field: str, text: str | None) -> FieldProblem | None:
    """Why this text is not kept where blinded people read it, or None: whoever treats knows what it would tell."""
    if not text or not study.is_allocated or not study.blinded:
        return None
    words = words_of_an_arm(study, text)
    if not words:
        return None
    named = ", ".join(f"“{word}”" for word in words)
    return FieldProblem(field, "arm", f"Blinded people read this reason; {named} may tell an arm. Say it otherwise.")


@lru_cache(maxsize=256)
def as_instrument(module: TreatmentModule) -> Instrument | None:
    """A module as a form, so that its items are asked and checked like those of any other; None without items."""
    if not module.items:
        return None
    return Instrument(
        code=module.code, label=module.label, source="", signable=False, sections=(Section(items=module.items),)
    )


def _unknown(module: str, item: str) -> FieldProblem:
    return FieldProblem(f"{module}.{item}"[:80], "unknown", "This is not an item of the session. Take it out.")
