"""What is known of imports? Mappings by name, a person's files, and whose number in a file is whose."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select
from sqlmodel import Session

from app.foundation.crypto.envelopes import open_sealed
from app.foundation.database import keys_of, table_of
from app.foundation.errors import NotFound
from app.imports.models import ImportedParticipant, ImportFile, ImportMapping
from app.imports.rules import FileMapping, read_mapping, text_of
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

MAPPING, FILE, WHOSE = table_of(ImportMapping), table_of(ImportFile), table_of(ImportedParticipant)
FILE_PURPOSE, NUMBER_PURPOSE = "import file", "import number"
FILES_SHOWN = 20


@dataclass(frozen=True)
class NamedMapping:
    """A mapping under its name."""

    name: str
    mapping: FileMapping
    version: int
    saved_at: datetime
    saved_by: str


@dataclass(frozen=True)
class Uploaded:
    """A file of one's own. `waits`: it is not imported yet, and can be opened."""

    id: int
    name: str
    sha256: str
    mapping: FileMapping
    uploaded_at: datetime
    imported_at: datetime | None
    counts: dict[str, int] | None

    @property
    def waits(self) -> bool:
        return self.imported_at is None


def mappings(session: Session, study: StudyInUse, *, by: Actor) -> list[NamedMapping]:
    """Every mapping of a study, by name."""
    require(by, Permission.DATA_IMPORT)
    rows = session.execute(select(MAPPING).where(MAPPING.c.study_id == study.id).order_by(MAPPING.c.name))
    return [
        NamedMapping(row.name, read_mapping(json.loads(row.mapping)), row.version, row.saved_at, row.saved_by)
        for row in rows
    ]


def mapping_named(session: Session, study: StudyInUse, name: str, *, by: Actor) -> FileMapping:
    """The mapping of this name; NotFound."""
    found = next((each for each in mappings(session, study, by=by) if each.name == name), None)
    if found is None:
        raise NotFound("There is no mapping of this name. See which there are, or send the mapping itself.")
    return found.mapping


def files_of(session: Session, study: StudyInUse, *, by: Actor) -> list[Uploaded]:
    """The person's latest files."""
    require(by, Permission.DATA_IMPORT)
    wanted = FILE.c.study_id == study.id, FILE.c.person_id == by.person_id
    columns = [column for column in FILE.c if column.name != "sealed"]
    rows = session.execute(select(*columns).where(*wanted).order_by(FILE.c.id.desc()).limit(FILES_SHOWN))
    return [_uploaded(row) for row in rows]


def file_of(session: Session, study: StudyInUse, number: int, *, by: Actor) -> tuple[Uploaded, str]:
    """One of the person's own files and its text, '' once it is imported; NotFound for anybody else's."""
    require(by, Permission.DATA_IMPORT)
    wanted = FILE.c.study_id == study.id, FILE.c.person_id == by.person_id, FILE.c.id == number
    row = session.execute(select(FILE).where(*wanted)).first()
    if row is None:
        raise NotFound
    text = ""
    if row.sealed is not None:
        key = keys_of(session).derive(FILE_PURPOSE)
        text = text_of(open_sealed(key, bytes(row.sealed), bound_to=("import", row.sha256)))
    return _uploaded(row), text


def _uploaded(row: Row[Any]) -> Uploaded:
    counts = row.counts
    return Uploaded(
        row.id,
        row.name,
        row.sha256,
        read_mapping(json.loads(row.mapping)),
        row.uploaded_at,
        row.imported_at,
        json.loads(counts) if counts else None,
    )


def tag_of(session: Session, study: StudyInUse, source: str, number: str) -> bytes:
    """The fingerprint of a number of this source."""
    return keys_of(session).tag(NUMBER_PURPOSE, json.dumps([study.code, source, number]).encode())


def whose(session: Session, study: StudyInUse, source: str, number: str) -> int | None:
    """The participant whose number this is in a source, or None."""
    tag = tag_of(session, study, source, number)
    wanted = WHOSE.c.study_id == study.id, WHOSE.c.tag == tag
    return session.execute(select(WHOSE.c.participant_id).where(*wanted)).scalar()
