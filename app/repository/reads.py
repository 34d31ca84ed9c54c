"""Which folders and files may I see? Those of the study, of my sites and roles; blinded people none of the others'."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlmodel import Session

from app.foundation.database import table_of
from app.foundation.errors import NotFound
from app.people.access import Actor, require, sites_for
from app.people.permissions import Permission
from app.repository.models import RepositoryFile, RepositoryFolder
from app.repository.rules import Folder, Seeing, seen
from app.repository.sealing import open_about
from app.studies.in_use import StudyInUse

FOLDER = table_of(RepositoryFolder)
FILE = table_of(RepositoryFile)


@dataclass(frozen=True)
class SharedFile:
    """A file as a list shows it."""

    id: int
    folder_id: int | None
    name: str
    media_type: str


def seeing(by: Actor) -> Seeing:
    """Who looks."""
    return Seeing(sites_for(by, Permission.DOCUMENT_READ), frozenset(by.roles), by.blinded)


def folders(session: Session, study: StudyInUse, *, by: Actor) -> dict[int, Folder]:
    """Every folder of the study that this person sees, by number."""
    require(by, Permission.DOCUMENT_READ, action="document.read", subject="/document")
    rows = session.execute(select(*FOLDER.c).where(FOLDER.c.study_id == study.id))
    every = {
        row.id: Folder(
            row.id,
            row.parent_id,
            open_about(session, "folder", study.id, row.id, row.sealed_name)["name"],
            row.site_id,
            row.role,
            row.is_unblinded,
        )
        for row in rows
    }
    return seen(every, seeing(by))


def folder(session: Session, study: StudyInUse, number: int | None, *, by: Actor) -> Folder | None:
    """One folder, None for the top; NotFound when there is none that this person sees."""
    found = folders(session, study, by=by)
    if number is None:
        return None
    if number not in found:
        raise NotFound
    return found[number]


def inside(
    session: Session, study: StudyInUse, number: int | None, *, by: Actor
) -> tuple[Sequence[Folder], Sequence[SharedFile]]:
    """What stands in a folder (None: at the top), in the order in which it was put there; NotFound as `folder`."""
    every = folders(session, study, by=by)
    if number is not None and number not in every:
        raise NotFound
    query = (
        select(FILE.c.id, FILE.c.folder_id, FILE.c.sealed_about)
        .where(FILE.c.study_id == study.id, FILE.c.removed_at.is_(None))
        .where(FILE.c.folder_id.is_(None) if number is None else FILE.c.folder_id == number)
        .order_by(FILE.c.id)
    )
    if by.blinded:
        query = query.where(~FILE.c.is_unblinded)
    files = [
        SharedFile(row.id, row.folder_id, **open_about(session, "file", study.id, row.id, row.sealed_about))
        for row in session.execute(query)
    ]
    return [each for each in every.values() if each.parent_id == number], files


def file(session: Session, study: StudyInUse, number: int, *, by: Actor) -> SharedFile:
    """One file; NotFound when there is none that this person sees, or it was removed."""
    row = session.execute(
        select(FILE.c.id, FILE.c.folder_id, FILE.c.sealed_about, FILE.c.is_unblinded).where(
            FILE.c.id == number, FILE.c.study_id == study.id, FILE.c.removed_at.is_(None)
        )
    ).first()
    every = folders(session, study, by=by)
    if row is None or (row.is_unblinded and by.blinded) or (row.folder_id is not None and row.folder_id not in every):
        raise NotFound
    return SharedFile(row.id, row.folder_id, **open_about(session, "file", study.id, row.id, row.sealed_about))


def how_many(session: Session, study: StudyInUse, number: int | None) -> tuple[int, int]:
    """How many folders the study has, and how many files stand in this one, seen or not."""
    in_folder = FILE.c.folder_id.is_(None) if number is None else FILE.c.folder_id == number
    of_study = select(func.count()).select_from(FOLDER).where(FOLDER.c.study_id == study.id)
    files = (
        select(func.count())
        .select_from(FILE)
        .where(FILE.c.study_id == study.id, FILE.c.removed_at.is_(None), in_folder)
    )
    return session.execute(of_study).scalar_one(), session.execute(files).scalar_one()
