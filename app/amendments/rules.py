"""What is true of an amendment? Whether a site may go over to a version, and what an entry becomes under it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from app.amendments.status import State
from app.capture.checks import Judgement
from app.capture.verification.rules import State as Verification
from app.foundation.errors import FieldProblem
from app.foundation.words import day_in_words, text_problems
from app.studies.definition import Instrument, ItemType
from app.studies.rules import Difference
from app.studies.rules.changes import Ours

SETTLES = timedelta(seconds=20)
"""After a version is in force at a site, changes that began before under the old one may still be under way. Visits
follow only then, so that none is planned by the old version behind our back. No request lasts as long."""

LONGEST_REASON = 1000
MOST_SAID = 3


def why_not_yet(begun_at: datetime, now: datetime) -> str | None:
    """Why the visits of a site cannot follow yet, or None."""
    left = begun_at + SETTLES - now
    if left <= timedelta(0):
        return None
    return f"The version is in force since a moment. Its visits follow in {int(left.total_seconds()) + 1} seconds."


def why_not_forward(current: int, wanted: int, *, version: str, site: str) -> str | None:
    """Why a site cannot go over to a version, or None: versions follow each other, and none is gone back to."""
    if wanted == current:
        return f"{site} works under version {version} already. Choose another version or another site."
    if wanted < current:
        return (
            f"{site} works under a later version than {version}. To undo an amendment, load a new version that says "
            "what the old one said."
        )
    return None


def why_not_under_way(state: State | None, *, site: str) -> str | None:
    """Why nothing can be planned for a site while something is under way there, or None."""
    if state is State.PLANNED:
        return f"A version is planned for {site} already. Cancel that first."
    if state is State.MOVING:
        return f"{site} is going over to a version just now. Wait until its visits have followed."
    return None


def why_not_cancel(state: State) -> str | None:
    """Why going over to a version cannot be cancelled, or None."""
    if state is State.PLANNED:
        return None
    if state is State.CANCELLED:
        return "This was cancelled already. There is nothing left to do."
    return "This version is in force there. To undo an amendment, load a new version that says what the old one said."


def why_not_differences(
    forbidden: Sequence[Difference], standing: Sequence[Difference], *, blinded: bool
) -> tuple[str, ...] | None:
    """Why these differences cannot be applied to a study with participants, in parts of which those that are `Ours` are
    told in the reader's language; or None.

    `forbidden` never can; `standing` are those that answers which were given stand against.
    """

    def said(found: Sequence[Difference]) -> Iterator[str]:
        for each in found[:MOST_SAID]:
            yield from (each.for_blinded() if blinded else each).said
            yield " "
        if len(found) > MOST_SAID:
            yield from (Ours(f"And {len(found) - MOST_SAID} more."), " ")

    if forbidden:
        return (*said(forbidden), Ours(forbidden[0].why_not or ""))
    if standing:
        reason = Ours(
            "Such answers were given already, and would no longer be what the form asks. Keep the item as it is, and "
            "add one with another code."
        )
        return (*said(standing), reason)
    return None


def plan_problems(*, from_on: date, today: date, why: str) -> list[FieldProblem]:
    """What is wrong with the day and the reason from which a site is to work under a version."""
    problems = []
    if from_on < today:
        words = f"Choose {day_in_words(today)} or a later day: what was done before was done under the version before."
        problems.append(FieldProblem("from_on", "min", words))
    if from_on > today + timedelta(days=3660):
        problems.append(FieldProblem("from_on", "max", "This is more than ten years ahead. Check the year."))
    words = "Say which approval this follows, such as the ethics committee's and its date."
    return problems + text_problems("why", why, words, LONGEST_REASON)


# What becomes of an entry


class Becomes(StrEnum):
    """What becomes of an entry when it is opened and saved again under the new version."""

    INCOMPLETE = "incomplete"
    COMPLETE = "complete"
    CHECK = "check"  # a check that held, or was not asked, does not hold
    SCORE = "score"  # a score that is computed is another one
    HIDDEN = "hidden"  # an answer that is no longer asked, because of another
    NOT_ASKED = "not_asked"  # the form, or the visit, is not in the new version: the entry stays as it is


class Verified(StrEnum):
    """What becomes of an entry in the list of what is compared with its source, as soon as the version is in force."""

    TO_VERIFY = "to_verify"  # and was not
    VERIFIED = "verified"  # without anybody looking again: what was left to verify is not asked any more
    NOT_ASKED = "not_asked"  # nothing of it is to be verified


def verified_anew(before: Verification | None, state: Verification | None) -> Verified | None:
    """What becomes of an entry that stood there and stands here then; None: it is to be verified as it was."""
    if state is None:
        return Verified.NOT_ASKED
    if state is Verification.VERIFIED:
        return Verified.VERIFIED
    return Verified.TO_VERIFY if before in (None, Verification.VERIFIED) else None


@dataclass(frozen=True)
class Changed:
    """An entry that would not be what it is: `items` are those the change is seen in."""

    visit: str
    instrument: str
    becomes: tuple[Becomes, ...]
    items: tuple[str, ...] = ()
    is_signed: bool = False
    scores: Mapping[str, tuple[object, object]] = field(default_factory=dict)

    @property
    def breaks_signature(self) -> bool:
        """Whether its signature would be superseded, once it is saved again."""
        return self.is_signed and self.becomes != (Becomes.NOT_ASKED,)


def judged_anew(
    visit: str,
    form: Instrument,
    values: Mapping[str, object],
    old: Judgement,
    new: Judgement,
    *,
    is_signed: bool,
) -> Changed | None:
    """What becomes of an entry that stands, from the judgement of the old version to that of the new; None: nothing.

    `form` is the form in the new version. Both judgements are of the same values at the same moment, so whatever
    differs is the amendment's.
    """
    becomes: list[Becomes] = []
    items: dict[str, None] = {}
    if old.complete != new.complete:
        becomes.append(Becomes.COMPLETE if new.complete else Becomes.INCOMPLETE)
        items |= dict.fromkeys([*new.missing_required, *new.unexplained] if not new.complete else old.missing_required)
    before = {(each.item, each.message) for each in old.problems}
    fails = [each.item for each in new.problems if (each.item, each.message) not in before]
    if fails:
        becomes.append(Becomes.CHECK)
        items |= dict.fromkeys(fails)
    scores = {
        code: (old.values.get(code), new.values.get(code))
        for code in (item.code for item in form.items if item.type is ItemType.CALCULATED)
        if old.values.get(code) != new.values.get(code) and code not in new.hidden
    }
    if scores:
        becomes.append(Becomes.SCORE)
        items |= dict.fromkeys(scores)
    hidden = [code for code in sorted(new.hidden - old.hidden) if code in values]
    if hidden:
        becomes.append(Becomes.HIDDEN)
        items |= dict.fromkeys(hidden)
    if not becomes:
        return None
    return Changed(visit, form.code, tuple(becomes), tuple(items), is_signed, scores)
