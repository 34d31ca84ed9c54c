"""What may I do with shared files? Make a folder, keep a file, show it, remove it; each is in the log."""

from datetime import datetime

from sqlalchemy import insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.participants.rules.files import MEDIA_TYPES, file_name
from app.people.access import Actor, require
from app.people.permissions import Permission, Role
from app.people.reads import sites_of
from app.repository import reads, rules
from app.repository.reads import FILE, FOLDER, SharedFile
from app.repository.sealing import open_file, seal_about, seal_file
from app.studies.in_use import StudyInUse


def make_folder(
    session: Session,
    study: StudyInUse,
    *,
    name: str,
    inside: int | None = None,
    site_id: int | None = None,
    role: Role | None = None,
    by: Actor,
    now: datetime,
) -> int:
    """Make a folder, for everybody or for one site or one role; its number.

    A blinded person sees nothing that somebody made who may know an arm, whatever it is said to be for.
    """
    where = {"action": "folder.make", "subject": "/folder"}
    require(by, Permission.DOCUMENT_KEEP, action=where["action"], subject=where["subject"])
    reads.folder(session, study, inside, by=by)
    name = name.strip()
    reason = rules.why_not_name(study.definition, name, is_unblinded=not by.blinded)
    if reason is not None:
        raise Invalid([FieldProblem("name", "name", reason)])
    if site_id is not None and site_id not in {site.id for site in sites_of(session, study.id)}:
        raise Invalid([FieldProblem("site", "choices", "There is no such site. Choose one of the study's.")])
    if reads.how_many(session, study, inside)[0] >= rules.MOST_FOLDERS:
        raise Refused(f"A study has at most {rules.MOST_FOLDERS} folders. Use one of them.", **where)
    values = {
        "study_id": study.id,
        "parent_id": inside,
        "site_id": site_id,
        "role": role,
        "is_unblinded": not by.blinded,
        "made_at": now,
        "made_by": by.username,
    }
    number: int = session.execute(insert(FOLDER).values(**values, sealed_name=b"").returning(FOLDER.c.id)).scalar_one()
    sealed = seal_about(session, "folder", study.id, number, {"name": name})
    session.execute(update(FOLDER).where(FOLDER.c.id == number).values(sealed_name=sealed))
    told = {"name": name} if by.blinded else {}
    record(session, study.code, [Change("folder.made", subject=f"folder/{number}", new=told)], by=by, now=now)
    return number


def keep_file(
    session: Session, study: StudyInUse, *, folder: int | None, data: bytes, name: str, by: Actor, now: datetime
) -> int:
    """Keep a file, sealed; its number. The log of who may know an arm names no file: blinded people read it."""
    where = {"action": "document.keep", "subject": "/document"}
    require(by, Permission.DOCUMENT_KEEP, action=where["action"], subject=where["subject"])
    reads.folder(session, study, folder, by=by)
    name = file_name(name)
    reason = rules.why_not_name(study.definition, name, is_unblinded=not by.blinded) or rules.why_not_file(data, name)
    kind = rules.kind(data, name)
    if reason is not None or kind is None:
        raise Invalid([FieldProblem("file", "file", reason or "This file cannot be kept. Choose another one.")])
    if reads.how_many(session, study, folder)[1] >= rules.MOST_FILES:
        raise Refused(f"A folder holds at most {rules.MOST_FILES} files. Use another one.", **where)
    common = {"study_id": study.id, "folder_id": folder, "is_unblinded": not by.blinded, "kept_at": now}
    number: int = session.execute(
        insert(FILE).values(**common, kept_by=by.username, sealed_about=b"", sealed=b"").returning(FILE.c.id)
    ).scalar_one()
    about = {"name": name, "media_type": MEDIA_TYPES[kind]}
    session.execute(
        update(FILE)
        .where(FILE.c.id == number)
        .values(
            sealed_about=seal_about(session, "file", study.id, number, about),
            sealed=seal_file(session, study.id, number, data),
        )
    )
    told = {"name": name, "size": len(data), "folder": folder} if by.blinded else {}
    record(session, study.code, [Change("document.kept", subject=f"document/{number}", new=told)], by=by, now=now)
    return number


def show_file(
    session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime
) -> tuple[SharedFile, bytes]:
    """A file and its content; that it was shown is in the log. NotFound when there is none for this person."""
    found = reads.file(session, study, number, by=by)
    sealed = session.execute(select(FILE.c.sealed).where(FILE.c.id == number)).scalar_one()
    data = open_file(session, study.id, number, sealed)
    record(session, study.code, [Change("document.shown", subject=f"document/{number}")], by=by, now=now)
    return found, data


def remove_file(session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime) -> None:
    """Take a file out of its folder: nobody is shown it any more, and it stays, sealed, with a mark."""
    require(by, Permission.DOCUMENT_KEEP, action="document.remove", subject=f"/document/{number}")
    reads.file(session, study, number, by=by)
    gone = session.execute(
        update(FILE)
        .where(FILE.c.id == number, FILE.c.removed_at.is_(None))
        .values(removed_at=now, removed_by=by.username)
    )
    if not gone.rowcount:  # type: ignore[attr-defined]
        raise NotFound
    record(session, study.code, [Change("document.removed", subject=f"document/{number}")], by=by, now=now)
