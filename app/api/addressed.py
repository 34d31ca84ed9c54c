"""Whom is an address about, over REST? The participant whose code stands in it. And where does a thing stand?"""

from urllib.parse import quote

from app.api.pleasant import STUDIES
from app.dependencies import Here
from app.participants.models import Participant
from app.participants.reads import Hold, participant_by_code


def participant_of(here: Here, code: str, *, hold: Hold | None = None) -> Participant:
    """The participant of the address, held if asked for; NotFound where this person may not know them."""
    return participant_by_code(here.session, here.the_study, code, by=here.actor, hold=hold)


def address_of(here: Here, *parts: str | int) -> str:
    """Where something of this study is read: for the Location of what was made."""
    return "/".join((STUDIES, *(quote(str(part), safe="") for part in (here.the_study.code, *parts))))
