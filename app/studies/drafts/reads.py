"""Which drafts are there, and what do their files say? For those who may load a study.

`study` is None for the drafts of studies that are not here yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlmodel import Session

from app.audit.models import SYSTEM_LOG
from app.foundation import paging
from app.foundation.database import table_of
from app.foundation.errors import NotFound
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.drafts.folder import checked
from app.studies.drafts.models import StudyDraft, StudyDraftFile
from app.studies.drafts.rules import origin_in_words, why_not_change
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord, StudyVersion
from app.studies.rules import Finding

DRAFT = table_of(StudyDraft)
FILE = table_of(StudyDraftFile)
STUDY = table_of(StudyRecord)
VERSION = table_of(StudyVersion)


@dataclass(frozen=True)
class DraftLine:
    """A draft as a list shows it. `version` is what it was loaded as, in the study with the code `study`."""

    number: int
    name: str
    origin: str
    made_at: datetime
    made_by: str
    changed_at: datetime
    version: str | None
    study: str | None

    @property
    def origin_said(self) -> str:
        """What it was made from, in words."""
        return origin_in_words(self.origin)


@dataclass(frozen=True)
class DraftFile:
    """One file of a draft."""

    path: str
    text: str
    version: int
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True)
class Draft:
    """A draft with its files, by path."""

    number: int
    name: str
    origin: str
    made_at: datetime
    made_by: str
    version: str | None
    study: str | None
    """The code of the study that it was loaded into."""
    files: dict[str, DraftFile]

    @property
    def texts(self) -> dict[str, str]:
        return {path: file.text for path, file in self.files.items()}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding of `equipoise study check`."""
        return checked(self.texts)[1]

    @property
    def errors(self) -> int:
        return sum(finding.is_error for finding in self.findings)

    @property
    def why_not_change(self) -> str | None:
        return why_not_change(loaded=self.version is not None, removed=False)

    def file(self, path: str) -> DraftFile:
        """One of its files; NotFound when there is none."""
        found = self.files.get(path)
        if found is None:
            raise NotFound
        return found


def of_study(study: StudyInUse | None) -> ColumnElement[bool]:
    """Of the drafts, those of this study, or those of studies that are not here yet."""
    return DRAFT.c.study_id == study.id if study is not None else DRAFT.c.study_id.is_(None)


def log_of(study: StudyInUse | None) -> str:
    """The log that says what is done to these drafts."""
    return study.code if study is not None else SYSTEM_LOG


def drafts(session: Session, study: StudyInUse | None, *, by: Actor) -> Sequence[DraftLine]:
    """The newest drafts of a study, the last one first; deleted ones are left out."""
    return drafts_page(session, study, by=by, limit=200).rows


def drafts_page(
    session: Session, study: StudyInUse | None, *, by: Actor, cursor: str | None = None, limit: int | None = None
) -> paging.Page[DraftLine]:
    """One page of the drafts of a study, the newest first; deleted ones are left out."""
    require(by, Permission.STUDY_LOAD, action="draft.read")
    changed = (
        select(FILE.c.draft_id, func.max(FILE.c.changed_at).label("changed_at")).group_by(FILE.c.draft_id).subquery()
    )
    query = (
        select(
            DRAFT.c.id,
            DRAFT.c.name,
            DRAFT.c.origin,
            DRAFT.c.made_at,
            DRAFT.c.made_by,
            func.coalesce(changed.c.changed_at, DRAFT.c.made_at).label("changed_at"),
            VERSION.c.version,
            STUDY.c.code,
        )
        .join(changed, changed.c.draft_id == DRAFT.c.id, isouter=True)
        .join(VERSION, VERSION.c.id == DRAFT.c.loaded_version_id, isouter=True)
        .join(STUDY, STUDY.c.id == VERSION.c.study_id, isouter=True)
        .where(of_study(study), DRAFT.c.removed_at.is_(None))
    )
    page = paging.page_by_number(session, query, DRAFT.c.id, cursor=cursor, limit=limit)
    return page.made(lambda row: DraftLine(*row))


def draft(session: Session, study: StudyInUse | None, number: int, *, by: Actor) -> Draft:
    """One draft of a study with its files; NotFound when there is none, or it was deleted."""
    require(by, Permission.STUDY_LOAD, action="draft.read")
    if not 0 <= number < 2**31:
        raise NotFound
    row = session.execute(
        select(
            DRAFT.c.id, DRAFT.c.name, DRAFT.c.origin, DRAFT.c.made_at, DRAFT.c.made_by, VERSION.c.version, STUDY.c.code
        )
        .join(VERSION, VERSION.c.id == DRAFT.c.loaded_version_id, isouter=True)
        .join(STUDY, STUDY.c.id == VERSION.c.study_id, isouter=True)
        .where(DRAFT.c.id == number, of_study(study), DRAFT.c.removed_at.is_(None))
    ).first()
    if row is None:
        raise NotFound
    found = session.execute(
        select(FILE.c.path, FILE.c.text, FILE.c.version, FILE.c.changed_at, FILE.c.changed_by)
        .where(FILE.c.draft_id == number, FILE.c.removed_at.is_(None))
        .order_by(FILE.c.path)
    ).all()
    number, name, origin, made_at, made_by, version, code = row
    return Draft(number, name, origin, made_at, made_by, version, code, {each.path: DraftFile(*each) for each in found})


@dataclass(frozen=True)
class LastChange:
    """What was last done to a draft: to which files, by whom, and what each says once that is taken back.

    A file that was added is None then. `state` counts all changes: it is another number after each.
    """

    at: datetime
    by: str
    files: dict[str, str | None]
    state: int


def last_change(session: Session, draft: Draft) -> LastChange | None:
    """The last change of a draft; None where there is none that can be taken back."""
    if draft.version is not None:
        return None
    at = func.coalesce(FILE.c.removed_at, FILE.c.changed_at)
    of_draft = FILE.c.draft_id == draft.number
    is_newest = at == select(func.max(at)).where(of_draft).scalar_subquery()
    is_removed = FILE.c.removed_at.is_not(None)
    # A draft is large, and what was changed last is little of it: the text of nothing else is read.
    rows = session.execute(
        select(
            FILE.c.path,
            FILE.c.version,
            at.label("at"),
            func.coalesce(FILE.c.removed_by, FILE.c.changed_by).label("by"),
            is_newest.label("is_newest"),
            case((is_newest, or_(is_removed, FILE.c.before.is_(None), FILE.c.before != FILE.c.text))).label("is_known"),
            case((is_newest, case((is_removed, FILE.c.text), else_=FILE.c.before))).label("said"),
        )
        .where(of_draft)
        .order_by(FILE.c.path)
    ).all()
    changed = [row for row in rows if row.is_newest]
    if not changed or changed[0].at == draft.made_at or not all(row.is_known for row in changed):
        return None
    by = max(row.by for row in changed)
    return LastChange(changed[0].at, by, {row.path: row.said for row in changed}, sum(row.version for row in rows))


def files_loaded_as(session: Session, version_id: int) -> dict[str, str] | None:
    """The very files of the draft that was loaded as this version; None when it came from elsewhere."""
    number = session.execute(
        select(DRAFT.c.id).where(DRAFT.c.loaded_version_id == version_id).order_by(DRAFT.c.id.desc()).limit(1)
    ).scalar()
    if number is None:
        return None
    rows = session.execute(
        select(FILE.c.path, FILE.c.text).where(FILE.c.draft_id == number, FILE.c.removed_at.is_(None))
    )
    return {row.path: row.text for row in rows}
