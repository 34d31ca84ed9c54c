"""May this link be given, and does it still work?"""

from datetime import datetime
from enum import StrEnum
from typing import Protocol

from app.foundation.errors import FieldProblem, Invalid
from app.foundation.partial_dates import days_of, ways_to_read
from app.participants.rules.status import why_not_contact
from app.participants.status import Status
from app.studies.definition import Instrument, Study, WithdrawalLevel

MOST_TRIES = 5
MOST_DAYS = 90
CHANGED_BY_LINK = "Changed by the participant before the form was complete."
DAYS = 14
"""How long a link works unless somebody says otherwise."""


class Purpose(StrEnum):
    """What a link is for."""

    CONSENT = "consent"
    QUESTIONS = "questions"


class Given(Protocol):
    """A link as far as its rules go; `app.participants.models.ParticipantLink` is one."""

    @property
    def expires_at(self) -> datetime: ...
    @property
    def tries(self) -> int: ...
    @property
    def done_at(self) -> datetime | None: ...
    @property
    def ended_at(self) -> datetime | None: ...


def is_open(link: Given, now: datetime) -> bool:
    """Whether a link can be used at this moment."""
    return link.done_at is None and link.ended_at is None and now < link.expires_at and link.tries < MOST_TRIES


def state_of(link: Given, now: datetime) -> str:
    """done, ended, locked (too many wrong answers), expired or open: in this order."""
    if link.done_at is not None:
        return "done"
    if link.ended_at is not None:
        return "ended"
    if link.tries >= MOST_TRIES:
        return "locked"
    return "open" if now < link.expires_at else "expired"


def shows_copy(link: Given, now: datetime) -> bool:
    """Whether a link that is done still shows what was signed by it to who says who they are: as long as it lasts."""
    return link.done_at is not None and link.ended_at is None and now < link.expires_at and link.tries < MOST_TRIES


def birthday_typed(text: str, language: str) -> str:
    """A date of birth, typed as people of this language write one, as YYYY-MM-DD.

    Invalid, naming `born`, where it is no date: what nobody can read says nothing of who somebody is.
    """
    ways = ways_to_read(text, language)
    if len(ways) == 1 and (meant := days_of(ways[0])) is not None and meant[0] == meant[1]:
        return ways[0]
    words = "This cannot be read as a date. Type day, month and year, as in the example."
    if not text.strip():
        words = "Type your date of birth: day, month and year."
    elif len(ways) > 1:
        words = "This date can be read in two ways. Write the month as a word."
    raise Invalid([FieldProblem("born", "date", words)])


def asked_of_participants(study: Study, visit: str) -> tuple[Instrument, ...]:
    """The forms of a visit that participants answer themselves, in the order of the plan."""
    return study.asked_of_participants(visit)


def why_not_give(purpose: Purpose, status: Status, level: WithdrawalLevel | None, *, born_known: bool) -> str | None:
    """Why no link of this kind is given to somebody with this status, or None.

    Consent by link asks for the date of birth, so that nobody else signs: it must be known.
    """
    if reason := why_not_contact(level):
        return reason
    if status is Status.SCREEN_FAILED:
        return "This participant did not pass screening. Nothing is asked of them."
    if status is Status.DIED:
        return "This participant has died. Nothing is asked of them."
    if purpose is Purpose.CONSENT:
        if status in (Status.WITHDRAWN, Status.COMPLETED, Status.LOST):
            return "This participant is no longer in the study, so there is nothing to consent to."
        if not born_known:
            return "The link asks for the date of birth, and none is known. Add it to the personal data first."
    elif status in (Status.SCREENED, Status.WITHDRAWN):
        return "Nothing is collected from this participant now. Record their consent first, or look at the withdrawal."
    return None
