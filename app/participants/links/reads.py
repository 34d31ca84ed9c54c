"""Whose link is this, and which links were given?"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import LargeBinary, bindparam, func, select
from sqlmodel import Session

from app.foundation.crypto.secrets import token_hash
from app.foundation.database import instance_of, table_of
from app.participants.identity import PARTICIPANT, open_identity
from app.participants.links.rules import is_open
from app.participants.models import Participant, ParticipantLink
from app.people.access import Actor
from app.people.models import Site
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord
from app.studies.reads import definition

LINK = table_of(ParticipantLink)
SITE = table_of(Site)
STUDY = table_of(StudyRecord)

_BY_TOKEN = select(*LINK.c).where(LINK.c.token_hash == bindparam("token_hash", type_=LargeBinary))
_WHERE = (
    select(*PARTICIPANT.c, SITE.c.code.label("site_code"), SITE.c.name.label("site_name"), SITE.c.timezone)
    .add_columns(
        STUDY.c.code.label("study_code"), func.coalesce(SITE.c.version_id, STUDY.c.version_id).label("version_id")
    )
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .join(STUDY, STUDY.c.id == PARTICIPANT.c.study_id)
)


@dataclass(frozen=True)
class Opened:
    """A link that works now: whose it is, in which study, at which site."""

    link: ParticipantLink
    study: StudyInUse
    participant: Participant
    site_code: str
    site_name: str
    timezone: str

    def actor(self, request_id: str) -> Actor:
        """The participant as who acts, for the purpose of the link and at their site alone; the log names no person."""
        return Actor(
            0,
            "participant",
            "Participant",
            "",
            study_id=self.study.id,
            request_id=request_id,
            via="link",
            by_link=self.link.purpose,
            at_site=self.participant.site_id,
        )


def link_of(session: Session, token: str, *, now: datetime) -> Opened | None:
    """What the secret of a link opens at this moment; None for one that never was, was used, ended or is too old."""
    found = known_link(session, token)
    return found if found is not None and is_open(found.link, now) else None


def known_link(session: Session, token: str) -> Opened | None:
    """The link of this secret, whether it works or not; None for one that never was."""
    row = session.execute(_BY_TOKEN, {"token_hash": token_hash(token)}).mappings().first()
    if row is None:
        return None
    link = instance_of(ParticipantLink, row)
    found = session.execute(_WHERE.where(PARTICIPANT.c.id == link.participant_id)).mappings().one()
    participant = instance_of(Participant, {name: found[name] for name in PARTICIPANT.c.keys()})  # noqa: SIM118
    version = found["version_id"]
    study = StudyInUse(participant.study_id, found["study_code"], version, definition(session, version))
    return Opened(link, study, participant, found["site_code"], found["site_name"], found["timezone"])


def links_of(session: Session, participant_id: int) -> list[ParticipantLink]:
    """The links of one participant, newest first.

    A caller holds the participant already, and so was allowed to see them (`participants.reads.participant_by_code`).
    """
    query = select(*LINK.c).where(LINK.c.participant_id == participant_id).order_by(LINK.c.id.desc())
    return [instance_of(ParticipantLink, row) for row in session.execute(query).mappings()]


def born(session: Session, participant_id: int) -> str | None:
    """The date of birth that is on file (YYYY-MM-DD), or None; for whoever compares it, and shows it to nobody."""
    opened = open_identity(session, participant_id)
    return opened[1].personal.date_of_birth if opened is not None else None
