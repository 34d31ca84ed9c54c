"""Who was at a visit before they had signed the consent document that held for them by then?"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Date, Select, and_, exists, func, select
from sqlmodel import Session

from app.amendments.models import SiteVersion
from app.consent.models import Consent
from app.consent.rules import valid_document
from app.foundation import clock
from app.foundation.database import table_of
from app.participants.identity import PARTICIPANT
from app.people.reads import SITE
from app.schedule.models import ParticipantVisit
from app.schedule.status import VisitStatus
from app.studies.definition import ConsentDocument, Study
from app.studies.in_use import StudyInUse
from app.studies.reads import definition

VISIT = table_of(ParticipantVisit)
CONSENT = table_of(Consent)
MOVE = table_of(SiteVersion)

Periods = tuple[tuple[date, str], ...]
"""From which day on which version of the document holds, in the order of the days; each version once."""


@dataclass(frozen=True)
class Unsigned:
    """A participant, the version they had not signed, since when it holds for them, and the first visit without it."""

    participant_id: int
    version: str
    since: date
    held_on: date


def unsigned_at_visits(session: Session, study: StudyInUse, now: datetime) -> Iterator[Unsigned]:
    """The first visit of each participant in the time of a version that they had not signed by then.

    A version holds for somebody in the language they signed last, at their site, and once the site works under a
    version of the study that has it. Who signed a later one by then is fine. Of the first one there is no visit
    without it: nothing is collected before consent.
    """
    alike: dict[tuple[str, Periods], list[int]] = defaultdict(list)
    for site, code, worked in _sites(session, study):
        for language in {each.language for _, one in worked for each in one.consent_documents}:
            alike[language, periods_of(worked, language, code)].append(site)
    for (language, periods), sites in alike.items():
        ends = dict(pairwise(since for since, _ in periods))
        for place, (since, version) in enumerate(periods):
            if place == 0 or since > now.date():
                continue
            later = [each for _, each in periods[place:]]
            whose = and_(PARTICIPANT.c.site_id.in_(sites), _language(study) == language)
            query = _visits(study, since, ends.get(since), later).where(whose)
            for row in session.execute(query):
                yield Unsigned(row.participant_id, version, since, row.on)


def periods_of(worked: Sequence[tuple[date, Study]], language: str, site: str) -> Periods:
    """When which version of the document in this language holds at a site, which `worked` under these from these days.

    A document holds from the day it says on, and not before the site works under a version of the study that has it.
    """
    documents: dict[str, ConsentDocument] = {}
    for day, one in worked:
        for each in one.consent_documents:
            if each.language == language and each.version not in documents:
                documents[each.version] = each.model_copy(update={"valid_from": max(each.valid_from, day)})
    held: list[tuple[date, str]] = []
    for day in sorted({each.valid_from for each in documents.values()}):
        valid = valid_document(documents.values(), language, day, site)
        if valid is not None and all(valid.version != version for _, version in held):
            held.append((day, valid.version))
    return tuple(held)


def _sites(session: Session, study: StudyInUse) -> Iterator[tuple[int, str, list[tuple[date, Study]]]]:
    """Each site with the versions of the study it worked under, and from which day on.

    From the day after it went over: of a visit on that day nobody knows whether it was before.
    """
    moves: dict[int, list[Any]] = defaultdict(list)
    begun = select(MOVE).where(MOVE.c.study_id == study.id, MOVE.c.begun_at.is_not(None)).order_by(MOVE.c.id)
    for row in session.execute(begun):
        moves[row.site_id].append(row)
    for site in session.execute(select(SITE.c.id, SITE.c.code, SITE.c.timezone).where(SITE.c.study_id == study.id)):
        went = moves[site.id]
        first = definition(session, went[0].from_version_id) if went else study.at(site.id).definition
        worked = [(date.min, first)]
        for row in went:
            day = clock.today(site.timezone, row.begun_at) + timedelta(days=1)
            worked.append((day, definition(session, row.version_id)))
        yield site.id, site.code, worked


def _language(study: StudyInUse) -> ColumnElement[str]:
    """The language a participant signed last, or the one of the study."""
    newest = (
        select(CONSENT.c.language)
        .where(CONSENT.c.participant_id == PARTICIPANT.c.id, CONSENT.c.refused_at.is_(None))
        .order_by(CONSENT.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(newest, study.definition.language)


def _visits(study: StudyInUse, since: date, until: date | None, versions: Sequence[str]) -> Select[Any]:
    """Participants, and their first visit from a day on (and before another) with none of these versions signed."""
    signed = exists(
        select(CONSENT.c.id).where(
            CONSENT.c.participant_id == VISIT.c.participant_id,
            CONSENT.c.refused_at.is_(None),
            CONSENT.c.document_version.in_(versions),
            CONSENT.c.signed_on <= VISIT.c.held_on,
        )
    )
    query = (
        select(VISIT.c.participant_id, func.min(VISIT.c.held_on, type_=Date()).label("on"))
        .join(PARTICIPANT, PARTICIPANT.c.id == VISIT.c.participant_id)
        .where(
            VISIT.c.study_id == study.id,
            VISIT.c.status == VisitStatus.HELD.value,
            VISIT.c.held_on >= since,
            ~signed,
        )
        .group_by(VISIT.c.participant_id)
    )
    return query if until is None else query.where(VISIT.c.held_on < until)
