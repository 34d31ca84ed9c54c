"""What happened around the data in a period? Versions, roles, reviews, restores, what failed (Annex 11, 11).

Counted by actions of the log that are few, and from what is kept anyway: no entry of the data is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.foundation.database import within, written_out
from app.people.access import Actor, require_whole_log
from app.people.reads import AccessReviewRow, access_reviews
from app.reports.review.reads import ReviewRow, all_reviews
from app.reports.review.rules import Kind
from app.studies.in_use import StudyInUse
from app.studies.models import StudyVersion
from app.studies.reads import versions

COUNTED: Mapping[str, str] = {
    "amendment.planned": "Versions planned at sites",
    "amendment.carried_out": "Versions put in force",
    "site.added": "Sites opened",
    "role.granted": "Roles given",
    "role.revoked": "Roles taken back",
    "token.created": "Tokens made",
    "token.revoked": "Tokens revoked",
    "sequence.sealed": "Lists sealed",
    "allocation.unblinded": "Emergencies that broke the blind",
    "data.unlocked": "Data unlocked",
    "identity.erased": "People whose data were erased",
    "log_key.replaced": "Keys of the log replaced",
    "log.reconciled": "Restores from a backup that were reconciled",
}
"""What is counted, by its action, and what it is called."""


@dataclass(frozen=True)
class Period:
    """What happened in a study from `since` up to, and without, `until`. `refused` are those that reviews of the log
    told of in that time: what nobody has reviewed yet is not among them."""

    since: datetime
    until: datetime
    versions: tuple[StudyVersion, ...]
    counts: Mapping[str, int]
    log_reviews: tuple[ReviewRow, ...]
    access_reviews: tuple[AccessReviewRow, ...]

    @property
    def refused(self) -> int:
        """Attempts that were refused, as far as the log was reviewed."""
        told = (finding for row in self.log_reviews for finding, _ in row.findings)
        return sum(finding.number for finding in told if finding.kind is Kind.REFUSED)


def period(session: Session, study: StudyInUse, *, since: datetime, until: datetime, by: Actor) -> Period:
    """The report of a period, in four statements: for who reviews the log of the whole study."""
    require_whole_log(by, action="period.read")
    counted = (
        select(ENTRY.c.action, func.count())
        .where(
            ENTRY.c.log == study.code, ENTRY.c.action.in_(map(written_out, COUNTED)), *within(ENTRY.c.at, since, until)
        )
        .group_by(ENTRY.c.action)
    )
    counts = {action: int(number) for action, number in session.execute(counted)}
    return Period(
        since=since,
        until=until,
        versions=tuple(each for each in versions(session, study.id) if since <= each.loaded_at < until),
        counts={action: counts.get(action, 0) for action in COUNTED},
        log_reviews=tuple(each for each in all_reviews(session, study, by=by) if since <= each.reviewed_at < until),
        access_reviews=tuple(each for each in access_reviews(session, study.id) if since <= each.reviewed_at < until),
    )
