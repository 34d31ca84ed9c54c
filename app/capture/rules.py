"""What is true of an entry? Whether it may be saved or signed, what changed in it, and whether its signature holds."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from app.capture.checks import Answers, Judgement, judge
from app.capture.status import EntryStatus
from app.capture.typed import shortened
from app.foundation.errors import FieldProblem, Invalid
from app.participants.status import Status
from app.studies.definition import MOST_REPEATS, Instrument, Item, Study

# What a signature can mean (21 CFR 11.50(a)(3)), and how a page says it.
MEANINGS = {
    "authorship": "I entered these data, and they are what I observed or was told.",
    "review": "I reviewed these data.",
    "approval": "I approve these data.",
}


CLOCK_SET = datetime(2000, 1, 1, tzinfo=UTC)
"""A device that says an earlier time has a clock that was never set."""
# Where a form that is entered twice asks for something; the states are in capture.double.rules.
UNSETTLED = ("awaits_second", "to_reconcile")


@dataclass(frozen=True)
class EntryState:
    """An entry as it stands: what was answered, how far it is, and who signed it."""

    id: int
    study_id: int
    participant_id: int
    participant: str
    visit: str
    instrument: str
    study_version_id: int
    status: str
    version: int
    values: dict[str, object]
    reasons: dict[str, str]
    created_at: datetime
    created_by: str
    saved_at: datetime
    saved_by: str
    signed_at: datetime | None = None
    signed_by: str | None = None
    signed_name: str | None = None
    signed_meaning: str | None = None
    signed_digest: str | None = None
    verified: dict[str, dict[str, Any]] = field(default_factory=dict)
    verified_at: datetime | None = None
    repeat: int = 1
    in_error_at: datetime | None = None
    in_error_by: str | None = None
    in_error_why: str | None = None
    typed_at: datetime | None = None
    site_id: int | None = None
    verification: str | None = None

    @property
    def name(self) -> str:
        """How the entry is named at its visit."""
        return form_name(self.instrument, self.repeat)

    @property
    def is_in_error(self) -> bool:
        """Whether it was begun by mistake: it stays, and counts nowhere."""
        return self.in_error_at is not None

    @property
    def is_complete(self) -> bool:
        return self.status == EntryStatus.COMPLETE

    @property
    def is_signed(self) -> bool:
        return self.signed_at is not None


@dataclass(frozen=True)
class ItemChange:
    """One item whose stored value is not what it was; None is blank."""

    item: str
    old: object
    new: object

    @property
    def is_correction(self) -> bool:
        """Whether something was there before: an answer added to a blank corrects nothing."""
        return self.old is not None


def form_name(instrument: str, repeat: int = 1) -> str:
    """How a form is named at its visit, in addresses, in the log and under a signature: its code, from the second
    time on with the number behind (falls/2).
    """
    return instrument if repeat == 1 else f"{instrument}/{repeat}"


def named_form(name: str) -> tuple[str, int]:
    """The instrument and the number of a form's name; a number that is none gives 0, which nothing has."""
    code, _, number = name.partition("/")
    if not number:
        return code, 1
    return code, int(number) if number.isdecimal() and len(number) <= len(str(MOST_REPEATS)) else 0


def why_not_repeat(instrument: Instrument, repeat: int, begun: int) -> str | None:
    """Why the instrument cannot be filled in for the `repeat`-th time where it was begun `begun` times, or None."""
    if repeat == 1:
        return None
    if not instrument.repeats:
        return f"{instrument.label} is filled in once at a visit. Open the form as it stands."
    if repeat > instrument.most_repeats:
        return (
            f"{instrument.label} is filled in {instrument.most_repeats} times at most at a visit. Correct one of them."
        )
    if not 1 <= repeat <= begun + 1:
        return (
            f"{instrument.label} was filled in {begun} times at this visit. Add the next one on the page of the visit."
        )
    return None


def why_not_mark_in_error(
    entry: EntryState | None, instrument: Instrument | None, *, is_unsettled: bool = False
) -> str | None:
    """Why an entry cannot be marked as entered in error, or None. `is_unsettled`: its second entry is still to come, or
    differs.
    """
    if entry is None or instrument is None:
        return "Nothing is entered here yet, so nothing is in error."
    if is_unsettled:
        return (
            f"{instrument.label} is entered twice, and that is not settled yet. Let the second entry be made and its "
            "differences be settled, then mark it."
        )
    if entry.is_in_error:
        return f"This one is marked as entered in error already, by {entry.in_error_by}."
    return None


IN_ERROR = "This one is marked as entered in error. Take that back first, and say why."


class Stopped(StrEnum):
    """Why a visit is not due any more."""

    TREATMENT = "treatment"
    DIED = "died"
    LEFT = "left"
    PLAN = "plan"
    IN_ERROR = "in_error"  # it never was


def why_stopped(status: Status, *, left: bool, treatment: bool) -> Stopped:
    """Why a visit of somebody who stands here is not due any more.

    `left`: they withdrew from visits. `treatment`: it is a session, and treatment was stopped; that came first.
    """
    if treatment:
        return Stopped.TREATMENT
    if status is Status.DIED:
        return Stopped.DIED
    return Stopped.LEFT if left else Stopped.PLAN


def _no_longer_due(visit: str, stopped: Stopped) -> str:
    match stopped:
        case Stopped.TREATMENT:
            return (
                f"{visit} is no longer due, because treatment was stopped. "
                "Ask the investigator if it took place after all."
            )
        case Stopped.DIED:
            return (
                f"{visit} is no longer due, because the participant died. "
                "Ask the investigator if it took place after all."
            )
        case Stopped.LEFT:
            return (
                f"{visit} is no longer due, because the participant withdrew from visits. "
                "Ask the investigator if it took place after all."
            )
        case Stopped.PLAN:
            return (
                f"{visit} is no longer due, because the plan of visits changed. "
                "Ask the data manager if it took place after all."
            )
        case Stopped.IN_ERROR:
            return (
                f"{visit} is marked as entered in error. If it took place after all, take the mark back on the page of "
                "the visit first, and say why."
            )


def why_not_enter(
    study: Study,
    visit: str,
    instrument: str,
    *,
    screen_failed: bool = False,
    is_scheduled: bool = True,
    stopped: Stopped | None = None,
    is_missed: bool = False,
) -> str | None:
    """Why nothing can be entered in this instrument at this visit of this participant, or None."""
    planned = study.visit(visit)
    form = study.instrument(instrument)
    if screen_failed:
        return "This participant did not pass screening, so nothing is entered. Check the participant's code."
    if planned is None or not is_scheduled:
        return (
            f"This participant has no visit “{planned.label if planned else shortened(visit)}” in the schedule. "
            "Choose a visit on the participant's page."
        )
    if form is None or instrument not in planned.instruments:
        return (
            f"“{form.label if form else shortened(instrument)}” is not planned at {planned.label}. "
            "Choose one of the forms listed at the visit."
        )
    if stopped is not None:
        return _no_longer_due(planned.label, stopped)
    if is_missed:
        return (
            f"{planned.label} is recorded as missed. If it took place after all, reopen the visit first, and say why."
        )
    return None


def entry_mark(
    status: str,
    *,
    has_query: bool = False,
    is_signed: bool = False,
    is_verified: bool = False,
    is_locked: bool = False,
    pair: str | None = None,
) -> str:
    """The one mark of an entry where there is room for one: what asks for something first, then how far it is.

    `pair`: where a form stands that is entered twice. Until that is settled nothing else is said of it: what the first
    entry gave rise to is not for who makes the second.
    """
    if pair in UNSETTLED:
        return pair
    if has_query:
        return "query"
    if is_locked:
        return "locked"
    if is_verified and status == EntryStatus.COMPLETE:
        return "verified"
    return "signed" if is_signed else str(status)


def still_asked(form: Instrument, values: Mapping[str, object]) -> dict[str, object]:
    """The values of what the form asks; what a later version took out of it is not among them."""
    return {item: value for item, value in values.items() if form.item(item) is not None}


def judge_stored(study: Study, form: Instrument, entry: EntryState, *, answers: Answers, now: datetime) -> Judgement:
    """The judgement on an entry as it stands; what the form does not ask any more is passed over.

    `answers` and `now` as in `checks.judge`: the participant's other answers, and the wall clock at the site.
    """
    return judge(
        study,
        form,
        entry.visit,
        still_asked(form, entry.values),
        entry.reasons,
        answers=answers,
        today=now.date(),
        now=now,
        repeat=entry.repeat,
    )


def why_not_sign(entry: EntryState | None, instrument: Instrument | None, judgement: Judgement | None) -> str | None:
    """Why this entry cannot be signed, or None. `judgement` is the one made now, on what is stored."""
    if entry is None or instrument is None or judgement is None:
        return "There is nothing to sign here yet. Fill in the form and save it first."
    if entry.is_in_error:
        return IN_ERROR
    if not instrument.signable:
        return f"{instrument.label} is not signed in this study. There is nothing left to do."
    if not entry.is_complete or not judgement.complete:
        waiting = _labels(instrument, still_open(judgement))
        return f"This form is not complete{f': {waiting}' if waiting else ''}. Complete it and save it, then sign."
    if entry.is_signed and signature_holds(entry):
        return f"{entry.signed_name} has signed this version already. A new signature is needed only after a change."
    return None


def check_meaning(meaning: str, meanings: Mapping[str, str]) -> None:
    """Invalid, naming the field, unless a signature can mean this (21 CFR 11.50(a)(3))."""
    if meaning not in meanings:
        raise Invalid([FieldProblem("meaning", "choices", f"Say what you sign for: {', '.join(meanings)}.")])


def why_asked(queries: int) -> str | None:
    """Why an entry about which this many queries stand is not signed with many others, or None."""
    if not queries:
        return None
    few = "One query stands" if queries == 1 else f"{queries} queries stand"
    return f"{few} at this form. Sign it once every question is settled."


def still_open(judgement: Judgement) -> tuple[str, ...]:
    """The items that keep an entry from being complete, each once."""
    hard = [finding.item for finding in judgement.hard]
    return tuple(dict.fromkeys([*hard, *judgement.missing_required, *judgement.unexplained]))


def canonical(values: Mapping[str, object]) -> str:
    """Values as the one text they are stored and signed as: JSON, sorted keys, no white space, UTF-8 as it is."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def signature_digest(
    participant: str,
    visit: str,
    instrument: str,
    version: int,
    values: Mapping[str, object],
    reasons: Mapping[str, str],
) -> str:
    """SHA-256 (64 hexadecimal digits) over what a signature stands for, so that it fits no other record (11.70).

    Over the UTF-8 text of the JSON array ["equipoise-entry-1", participant's code, visit, instrument, version, values,
    reasons], keys sorted, no white space. From the second time on the instrument has its number behind: "falls/2".
    """
    record = ["equipoise-entry-1", participant, visit, instrument, version, dict(values), dict(reasons)]
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(entry: EntryState) -> str:
    """The digest of an entry as it stands."""
    return signature_digest(entry.participant, entry.visit, entry.name, entry.version, entry.values, entry.reasons)


def signature_holds(entry: EntryState) -> bool:
    """Whether the entry is signed, and is still byte for byte what was signed."""
    return entry.is_signed and entry.signed_digest == digest_of(entry)


def changes(old: Mapping[str, object], new: Mapping[str, object]) -> list[ItemChange]:
    """What is different, per item: in the order of the new values, then what is gone."""
    different = []
    for code in [*new, *(code for code in old if code not in new)]:
        before, after = old.get(code), new.get(code)
        if not same_value(before, after):
            different.append(ItemChange(code, before, after))
    return different


def same_value(one: object, other: object) -> bool:
    """Whether two stored values are the same JSON value: true is not 1, but 7.0 is 7."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _labels(instrument: Instrument, codes: tuple[str, ...]) -> str:
    items = [instrument.item(code) for code in codes[:5]]
    return ", ".join(label_of(item) for item in items if item) + (", …" if len(codes) > 5 else "")


def label_of(item: Item) -> str:
    """The label of an item as it stands in a sentence."""
    return item.label.rstrip(" :?.")
