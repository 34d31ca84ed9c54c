"""Which version of which protocol is in use? What doors and rooms pass around when they work in a study."""

from dataclasses import dataclass
from typing import Any, Protocol

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


class Found(Protocol):
    """A study and its version as another statement found them, such as `people.reads.AskedStudy`."""

    @property
    def id(self) -> int: ...
    @property
    def code(self) -> str: ...
    @property
    def version_id(self) -> int: ...
    @property
    def sha256(self) -> str: ...


def in_use(session: Session, found: Found) -> StudyInUse:
    """The study with its definition, which is read once per process."""
    return StudyInUse(found.id, found.code, found.version_id, definition(session, found.version_id, found.sha256))


def study_in_use(session: Session, code: str) -> StudyInUse:
    """The study with this code; NotFound when there is none or nothing is loaded for it."""
    row = session.execute(
        select(STUDY.c.id, STUDY.c.code, STUDY.c.version_id, VERSION.c.sha256)
        .join(VERSION, VERSION.c.id == STUDY.c.version_id)
        .where(STUDY.c.code == code)
    ).first()
    if row is None:
        raise NotFound
    found: Any = row
    return in_use(session, found)
