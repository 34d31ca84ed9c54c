"""Which studies are here, and what does each version of their definition say? A definition holds no participant."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from sqlmodel import Session, col, select

from app.foundation.errors import NotFound, Refused
from app.studies.definition import Study
from app.studies.models import StudyRecord, StudyVersion

KEPT_DEFINITIONS = 64

# Definitions already parsed, by the SHA-256 of their text: the same text always says the same.
_kept: OrderedDict[str, Study] = OrderedDict()
_lock = Lock()


def all_studies(session: Session) -> Sequence[StudyRecord]:
    """Every study of this installation, by code."""
    return session.exec(select(StudyRecord).order_by(col(StudyRecord.code))).all()


def study_by_code(session: Session, code: str) -> StudyRecord | None:
    """The study with this code."""
    return session.exec(select(StudyRecord).where(col(StudyRecord.code) == code)).one_or_none()


def versions(session: Session, study_id: int) -> Sequence[StudyVersion]:
    """Every loaded version of a study, the first one first."""
    return session.exec(
        select(StudyVersion).where(col(StudyVersion.study_id) == study_id).order_by(col(StudyVersion.id))
    ).all()


def definition(session: Session, version_id: int, sha256: str | None = None) -> Study:
    """What a version says. A text is parsed once per process; `sha256` saves the question when it is known."""
    found = sha256 or session.exec(select(StudyVersion.sha256).where(col(StudyVersion.id) == version_id)).one_or_none()
    if found is None:
        raise NotFound("There is no such version of the study.")
    with _lock:
        if found in _kept:
            _kept.move_to_end(found)
            return _kept[found]
    text = session.exec(select(StudyVersion.definition).where(col(StudyVersion.id) == version_id)).one()
    if hashlib.sha256(text.encode()).hexdigest() != found:
        raise Refused(
            "The stored definition of this study was changed behind our back: it no longer has the fingerprint it was "
            "loaded with. Restore the database from a backup before anybody goes on.",
            action="study.read",
        )
    study = Study.model_validate_json(text)
    with _lock:
        _kept[found] = study
        while len(_kept) > KEPT_DEFINITIONS:
            _kept.popitem(last=False)
    return study


def every_definition(session: Session, study_id: int, version_id: int) -> list[Study]:
    """What each loaded version says: the one with this number first, then the others, the newest first."""
    rows = session.exec(
        select(StudyVersion.id, StudyVersion.sha256)
        .where(col(StudyVersion.study_id) == study_id)
        .order_by(col(StudyVersion.id).desc())
    ).all()
    numbered = sorted(((number or 0, sha256) for number, sha256 in rows), key=lambda each: each[0] != version_id)
    return [definition(session, number, sha256) for number, sha256 in numbered]


def current(session: Session, study: StudyRecord) -> tuple[int, Study]:
    """The version in force of a study, and what it says."""
    if study.version_id is None:
        raise NotFound("This study has no version yet. Load its folder first.")
    return study.version_id, definition(session, study.version_id)
