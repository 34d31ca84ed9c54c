"""What may I do with a protocol? Load a version of it; a loaded version is never changed."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Integer, bindparam, insert, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from app.audit.actions import Change, record
from app.foundation.database import table_of
from app.foundation.errors import Refused
from app.people.access import Actor, require
from app.people.models import Site
from app.people.permissions import Permission
from app.studies.definition import InstrumentText, Study
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord, StudyVersion, StudyWording
from app.studies.rules import canonical, diff, fingerprint, problems
from app.studies.rules.problems import wording_problems

LOADED = "study.loaded"
WORDED = "study.worded"
SITE = table_of(Site)


def load_study(session: Session, study: Study, *, is_new: bool = False, by: Actor, now: datetime) -> StudyVersion:
    """Load a version of a study; the same version with the same content changes nothing.

    It is in force at once while there is no participant. Afterwards it waits: an administrator says from which day each
    site works under it (`app.amendments`). A version that was loaded with other content is refused: an amendment is a
    new version. `is_new`: nobody knew of a study of this code; refused when somebody has made one meanwhile.
    """
    require(by, Permission.STUDY_LOAD, subject=study.code, action=LOADED)
    why_not = _why_not_whole(study)
    if why_not is not None:
        raise Refused(why_not, action=LOADED, subject=study.code)
    row = session.exec(select(StudyRecord).where(col(StudyRecord.code) == study.code).with_for_update()).one_or_none()
    if row is not None and is_new:
        raise _made_meanwhile(study)
    if row is None:
        row = StudyRecord(code=study.code, title=study.title)
        session.add(row)
        try:
            session.flush()
        except IntegrityError as problem:
            raise _made_meanwhile(study) from problem
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


def load_wording(
    session: Session,
    study: StudyInUse,
    found: Sequence[tuple[str, InstrumentText, str]],
    *,
    by: Actor,
    now: datetime,
) -> int:
    """Lay licensed wordings over a study, as (instrument, words, SHA-256 of the file); how many are new.

    What stood before and is not among them ends. The same again changes nothing.
    """
    require(by, Permission.STUDY_LOAD, subject=study.code, action=WORDED)
    for code, words, _ in found:
        wrong = [
            message for _, message, severity in wording_problems(study.definition, code, words) if severity == "error"
        ]
        if wrong:
            raise Refused(f"{code}: {wrong[0]}", action=WORDED, subject=study.code)
    standing = {(row.instrument, row.language): row for row in session.execute(_STANDING, {"study_id": study.id})}
    changes = []
    given = {(code, words.language): (words, sha256) for code, words, sha256 in found}
    for key in sorted(given.keys() | standing.keys()):
        before, new = standing.get(key), given.get(key)
        if before is not None and new is not None and before.sha256 == new[1]:
            continue
        if before is not None:
            session.execute(update(WORDING).where(WORDING.c.id == before.id).values(replaced_at=now))
        if new is not None:
            values = {"instrument": key[0], "language": key[1], "sha256": new[1], "words": new[0].model_dump_json()}
            session.execute(insert(WORDING).values(study_id=study.id, loaded_at=now, loaded_by=by.username, **values))
        subject = f"wording/{key[0]}/{key[1]}"
        old = {"sha256": before.sha256} if before is not None else None
        changes.append(Change(WORDED, subject=subject, old=old, new={"sha256": new[1]} if new is not None else None))
    record(session, study.code, changes, by=by, now=now)
    return len(changes)


WORDING = table_of(StudyWording)
_STANDING = select(WORDING.c.id, WORDING.c.instrument, WORDING.c.language, WORDING.c.sha256).where(
    WORDING.c.study_id == bindparam("study_id", type_=Integer), WORDING.c.replaced_at.is_(None)
)


def _made_meanwhile(study: Study) -> Refused:
    words = f"Somebody loaded a study {study.code} a moment ago. Look at it, and give yours another code."
    return Refused(words, action=LOADED, subject=study.code)


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
