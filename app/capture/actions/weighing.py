"""What stands against saving what was typed? Each field with what must be put right first, and why answers change."""

from collections.abc import Mapping, Sequence

from app.capture.actions.place import label_in
from app.capture.checks import Judgement
from app.capture.rules import ItemChange
from app.capture.typed import WHY, Unreadable, read_reason
from app.foundation.errors import FieldProblem, Invalid
from app.studies.definition import Instrument, ItemType


def read_reasons(form: Instrument, reasons: Mapping[str, object]) -> tuple[dict[str, str], list[FieldProblem]]:
    """The reasons for items of this form as they are kept, and those that cannot be."""
    read: dict[str, str] = {}
    problems = []
    for item in form.asked(reasons):
        reason = reasons.get(item.code, "")
        try:
            if not isinstance(reason, str):
                raise Unreadable("type", "send the reason as a text.")
            read[item.code] = read_reason([reason])
        except Unreadable as unreadable:
            message = f"{label_in(form, item.code)}: {unreadable.message}"
            problems.append(FieldProblem(item.code + WHY, unreadable.rule, message))
    return read, problems


def checked(
    form: Instrument,
    judgement: Judgement,
    different: list[ItemChange],
    unread: Sequence[FieldProblem],
    *,
    accept_partial: bool,
    why: str | None,
) -> str | None:
    """The reason for changing saved answers, trimmed; Invalid with everything that must be put right first."""
    problems = list(unread)
    fields = {problem.field for problem in unread}
    # A field that could not be read is not also called blank, or changed.
    problems += [
        FieldProblem(finding.item, finding.rule, finding.advice)
        for finding in judgement.hard
        if finding.item not in fields
    ]
    if not accept_partial:
        problems += [unanswered(form, code) for code in judgement.missing_required if code not in fields]
        problems += [
            FieldProblem(finding.item + WHY, finding.rule, finding.advice)
            for finding in judgement.soft
            if finding.item in judgement.unexplained and finding.item + WHY not in fields
        ]
    try:
        why = read_reason([why or ""]) or None
    except Unreadable as unreadable:
        problems.append(FieldProblem("why", unreadable.rule, f"Reason for the change: {unreadable.message}"))
    else:
        corrected = [
            change for change in different if change.item not in fields and _is_deliberate(form, change, judgement)
        ]
        if corrected and why is None:
            problems.append(_unexplained(form, corrected))
    if problems:
        raise Invalid(problems)
    return why


def _is_deliberate(form: Instrument, change: ItemChange, judgement: Judgement) -> bool:
    """Whether a person changed what was saved, rather than a score or a question following from it."""
    item = form.item(change.item)
    return (
        change.is_correction
        and change.item not in judgement.hidden
        and item is not None
        and item.type is not ItemType.CALCULATED
    )


def unanswered(form: Instrument, code: str) -> FieldProblem:
    return FieldProblem(code, "required", f"{label_in(form, code)}: answer this, or say why there is no answer.")


def _unexplained(form: Instrument, corrected: list[ItemChange]) -> FieldProblem:
    labels = ", ".join(label_in(form, change.item) for change in corrected[:5])
    more = ", …" if len(corrected) > 5 else ""
    return FieldProblem("why", "required", f"You are changing what was saved ({labels}{more}). Say why.")


def needed_reason(why: str, needed: str) -> str:
    try:
        read = read_reason([why])
    except Unreadable as unreadable:
        raise Invalid([FieldProblem("why", unreadable.rule, f"Reason: {unreadable.message}")]) from None
    if not read:
        raise Invalid([FieldProblem("why", "required", needed)])
    return read
