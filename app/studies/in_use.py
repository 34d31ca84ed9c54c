"""Which version of which protocol is in use? What doors and rooms pass around when they work in a study."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlmodel import Session

from app.foundation.database import table_of
from app.foundation.errors import NotFound
from app.studies.definition import Study
from app.studies.models import StudyRecord, StudyVersion
from app.studies.reads import definition

STUDY = table_of(StudyRecord)
VERSION = table_of(StudyVersion)


@dataclass(frozen=True)
class StudyInUse:
    """A study and the version of its definition that holds now. `code` is also the name of its audit log."""

    id: int
    code: str
    version_id: int
    definition: Study


def study_in_use(session: Session, code: str) -> StudyInUse:
    """The study with this code; NotFound when there is none or nothing is loaded for it."""
    row = session.execute(
        select(STUDY.c.id, STUDY.c.code, STUDY.c.version_id, VERSION.c.sha256)
        .join(VERSION, VERSION.c.id == STUDY.c.version_id)
        .where(STUDY.c.code == code)
    ).first()
    if row is None:
        raise NotFound
    return StudyInUse(row.id, row.code, row.version_id, definition(session, row.version_id, row.sha256))
