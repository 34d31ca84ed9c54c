"""Who is it that calls, and is somebody here already? People found by who they are; whoever is shown is in the log."""

from collections.abc import Collection, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import islice

from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.database import streamed
from app.foundation.errors import FieldProblem, Invalid, Refused
from app.participants.identity import IDENTITY, PARTICIPANT, open_personal, unwrap
from app.participants.reads import SITE
from app.participants.rules.personal import PersonalData, days_meant, fits, in_common, likenesses, why_not_look_for
from app.participants.status import Status
from app.people.access import Actor, may, require, sites_for
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse


@dataclass(frozen=True)
class Found:
    """Somebody who was found by who they are. `shared` names the fields in which they are like whom was asked about."""

    code: str
    site: str
    status: Status
    screened_on: date
    personal: PersonalData = field(repr=False)
    shared: tuple[str, ...] = ()


MOST_FOUND = 20


class LooksLike(Refused):
    """Somebody at the site looks like the person about to be screened. `found` is who: they are in the log as shown."""

    def __init__(self, found: list[Found], **about: str) -> None:
        super().__init__(
            "Somebody at this site looks like this person. Open them first; screen this person only when it is "
            "somebody else.",
            **about,
        )
        self.found = found


def find_people(
    session: Session, study: StudyInUse, *, text: str, language: str = "en", by: Actor, now: datetime
) -> tuple[list[Found], bool]:
    """Who may be meant by a name, a date of birth, a telephone number or an address: the newest first, at most
    MOST_FOUND, and whether there are more. A date is read as people of the language write one.

    Of the sites where the person may know who somebody is. Who is found is shown: each of them is written down. What
    was looked for is not, being a name itself.
    """
    require(by, Permission.IDENTITY_READ, action="identity.find", subject="/identity")
    if why_not := why_not_look_for(text):
        raise Invalid([FieldProblem("text", "text", why_not)])
    sites = sites_for(by, Permission.IDENTITY_READ)
    born = days_meant(text, language)
    with closing(_looked_through(session, study, sites)) as everybody:
        shown = list(islice((each for each in everybody if fits(each.personal, text, born=born)), MOST_FOUND + 1))
    write_shown(session, study, [each.code for each in shown[:MOST_FOUND]], by=by, now=now)
    return shown[:MOST_FOUND], len(shown) > MOST_FOUND


def find_like(
    session: Session, study: StudyInUse, personal: PersonalData, *, site_id: int, by: Actor, now: datetime
) -> list[Found]:
    """Who at this site looks like the person about to be screened there: nobody, for whoever may not know who they are.

    At most MOST_FOUND; each of them is written down as shown.
    """
    if not may(by, Permission.IDENTITY_READ, site_id=site_id) or not any(personal.items().values()):
        return []
    with closing(_looked_through(session, study, {site_id})) as everybody:
        like = (replace(each, shared=in_common(personal, each.personal)) for each in everybody)
        shown = list(islice((each for each in like if each.shared), MOST_FOUND))
    write_shown(session, study, [each.code for each in shown], by=by, now=now)
    return shown


class EverybodyThere:
    """Everybody at a site, to be held against many: each is opened once, and kept by what two people have in common.

    Whoever may not know who they are is told of nobody. Nothing is written down here: who is named to somebody is
    written down by whoever names them (`write_shown`), because what they were held against may be taken back.
    """

    def __init__(self, session: Session, study: StudyInUse, *, site_id: int, by: Actor) -> None:
        self._known: dict[tuple[str, ...], list[Found]] = {}
        if may(by, Permission.IDENTITY_READ, site_id=site_id):
            with closing(_looked_through(session, study, {site_id})) as everybody:
                for each in everybody:
                    self.add(each)

    def add(self, person: Found) -> None:
        """Somebody who is there, or has come."""
        for key in likenesses(person.personal):
            self._known.setdefault(key, []).append(person)

    def like(self, personal: PersonalData) -> list[Found]:
        """Who there is like this person, at most MOST_FOUND, and in which fields."""
        known = {each.code: each for key in likenesses(personal) for each in self._known.get(key, ())}
        like = (replace(each, shared=in_common(personal, each.personal)) for each in known.values())
        return list(islice((each for each in like if each.shared), MOST_FOUND))


def _looked_through(session: Session, study: StudyInUse, sites: Collection[int] | None) -> Generator[Found]:
    """Everybody at these sites, the newest first: the database cannot search what is sealed, so each is opened."""
    query = (
        select(
            PARTICIPANT.c.id,
            PARTICIPANT.c.code,
            PARTICIPANT.c.status,
            PARTICIPANT.c.screened_on,
            SITE.c.code.label("site"),
            IDENTITY.c.wrapped_key,
            IDENTITY.c.sealed,
        )
        .join(IDENTITY, IDENTITY.c.participant_id == PARTICIPANT.c.id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(PARTICIPANT.c.study_id == study.id, IDENTITY.c.wrapped_key.is_not(None))
        .order_by(PARTICIPANT.c.id.desc())
    )
    if sites is not None:
        query = query.where(PARTICIPANT.c.site_id.in_(sorted(sites)))
    for row in streamed(session, query, batch=200):
        key = unwrap(session, study.id, row.id, row.wrapped_key)
        personal = open_personal(key, study.id, row.id, row.sealed)
        yield Found(row.code, row.site, Status(row.status), row.screened_on, personal)


def write_shown(session: Session, study: StudyInUse, codes: Iterable[str], *, by: Actor, now: datetime) -> None:
    """Say in the log that this person was shown who these participants are."""
    changes = [Change("identity.shown", code, "identity") for code in codes]
    if changes:
        record(session, study.code, changes, by=by, now=now)
