"""Which studies are here, and what does each version of their definition say? A definition holds no participant."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from sqlalchemy import Integer, String, bindparam
from sqlmodel import Session, col, select

from app.foundation.database import table_of
from app.foundation.errors import NotFound, Refused
from app.studies.definition import Instrument, InstrumentText, Study
from app.studies.models import StudyRecord, StudyVersion, StudyWording
from app.studies.texts import in_language, is_worded

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


WORDING = table_of(StudyWording)
_WORDING = select(WORDING.c.id, WORDING.c.language, WORDING.c.words).where(
    WORDING.c.study_id == bindparam("study_id", type_=Integer),
    WORDING.c.instrument == bindparam("instrument", type_=String),
    WORDING.c.language.in_((bindparam("language", type_=String), bindparam("own", type_=String))),
    WORDING.c.replaced_at.is_(None),
)
# Words already parsed, by the text itself: an instrument in them is known by their identity.
_words: OrderedDict[str, InstrumentText] = OrderedDict()


def as_read(session: Session, study_id: int, instrument: Instrument, language: str, *, own: str) -> Instrument:
    """An instrument for who reads this language, in the wording that this installation has a licence for, if any.

    `own` is the language of the study: its wording is read where neither the installation nor the study has another.
    """
    asked = {"study_id": study_id, "instrument": instrument.code, "language": language, "own": own}
    rows = {row.language: row for row in session.execute(_WORDING, asked)}
    row = rows.get(language)
    if row is None and not is_worded(instrument, language):
        row = rows.get(own)
    if row is None:
        return in_language(instrument, language)
    with _lock:
        words = _words.get(row.words)
        if words is None:
            words = _words[row.words] = InstrumentText.model_validate_json(row.words)
            while len(_words) > KEPT_DEFINITIONS:
                _words.popitem(last=False)
    return in_language(instrument, language, words)
