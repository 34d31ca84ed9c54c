"""What may I do with a protocol? Load a version of it; a loaded version is never changed."""

from datetime import datetime

from sqlalchemy import update
from sqlmodel import Session, col, select

from app.audit.actions import Change, record
from app.foundation.database import table_of
from app.foundation.errors import Refused
from app.people.access import Actor, require
from app.people.models import Site
from app.people.permissions import Permission
from app.studies.definition import Study
from app.studies.models import StudyRecord, StudyVersion
from app.studies.rules import canonical, diff, fingerprint, problems

LOADED = "study.loaded"
SITE = table_of(Site)


def load_study(session: Session, study: Study, *, by: Actor, now: datetime) -> StudyVersion:
    """Load a version of a study; the same version with the same content changes nothing.

    It is in force at once while there is no participant. Afterwards it waits: an administrator says from which day each
    site works under it (`app.amendments`). A version that was loaded with other content is refused: an amendment is a
    new version.
    """
    require(by, Permission.STUDY_LOAD, subject=study.code, action=LOADED)
    why_not = _why_not_whole(study)
    if why_not is not None:
        raise Refused(why_not, action=LOADED, subject=study.code)
    row = session.exec(select(StudyRecord).where(col(StudyRecord.code) == study.code).with_for_update()).one_or_none()
    if row is None:
        row = StudyRecord(code=study.code, title=study.title)
        session.add(row)
        session.flush()
    assert row.id is not None
    earlier = session.exec(
        select(StudyVersion).where(col(StudyVersion.study_id) == row.id, col(StudyVersion.version) == study.version)
    ).one_or_none()
    if earlier is not None:
        _refuse_other_content(earlier, study)
        return earlier
    changed = _changes_since(session, row, study)
    version = StudyVersion(
        study_id=row.id,
        version=study.version,
        sha256=fingerprint(study),
        definition=canonical(study),
        loaded_at=now,
        loaded_by=by.username,
    )
    session.add(version)
    session.flush()
    assert version.id is not None
    in_force = row.version_id is None or row.last_participant == 0
    if in_force:
        row.version_id, row.title = version.id, study.title
        session.add(row)
        session.execute(update(SITE).where(SITE.c.study_id == row.id).values(version_id=None))
    new_sites = _add_sites(session, row.id, study)
    session.flush()
    loaded = Change(
        LOADED,
        subject=f"version/{study.version}",
        old=changed[0],
        new={"version": study.version, "sha256": version.sha256, "in_force": in_force, "changes": changed[1]},
    )
    record(session, study.code, [loaded, *new_sites], by=by, now=now)
    return version


def _why_not_whole(study: Study) -> str | None:
    """Why this definition cannot be loaded, or None: its own contradictions, the first few of them."""
    errors = [finding.message for finding in problems(study) if finding.is_error]
    if not errors:
        return None
    more = f" There are {len(errors) - 3} more errors." if len(errors) > 3 else ""
    return f"The study folder has errors: {' '.join(errors[:3])}{more}"


def _refuse_other_content(earlier: StudyVersion, study: Study) -> None:
    """The stored text is read again first, so that a later Equipoise with more defaults still knows it as the same."""
    before = Study.model_validate_json(earlier.definition)
    if canonical(before) == canonical(study):
        return
    changes = diff(before, study)
    more = f" and {len(changes) - 2} more changes" if len(changes) > 2 else ""
    raise Refused(
        f"Version {study.version} of {study.code} was loaded with other content ({' '.join(changes[:2])}{more}). "
        "A loaded version never changes: give the new content a new version.",
        action=LOADED,
        subject=study.code,
    )


def _changes_since(session: Session, row: StudyRecord, study: Study) -> tuple[dict[str, str] | None, list[str]]:
    """The version in force until now, and what the new one changes in it."""
    if row.version_id is None:
        return None, []
    before = session.get_one(StudyVersion, row.version_id)
    changes = diff(Study.model_validate_json(before.definition), study)
    return {"version": before.version, "sha256": before.sha256}, changes


def _add_sites(session: Session, study_id: int, study: Study) -> list[Change]:
    known = set(session.exec(select(Site.code).where(col(Site.study_id) == study_id)).all())
    changes = []
    for site in study.sites:
        if site.code not in known:
            session.add(Site(study_id=study_id, code=site.code, name=site.name, timezone=site.timezone))
            new = {"name": site.name, "timezone": site.timezone}
            changes.append(Change("site.added", subject=f"site/{site.code}", new=new))
    return changes
