"""Whom is an address about, over REST? The participant whose code stands in it."""

from app.dependencies import Here
from app.participants.models import Participant
from app.participants.reads import participant_by_code


def participant_of(here: Here, code: str) -> Participant:
    """The participant of the address; NotFound where this person may not know them."""
    return participant_by_code(here.session, here.the_study, code, by=here.actor)
