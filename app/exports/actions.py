"""Who took what? Every export is written down before its first byte leaves, and again when the last one has left."""

from datetime import datetime
from typing import Any

from sqlmodel import Session

from app.audit.actions import Change, record
from app.exports.reads import DELIVERED, RUN
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse


def record_export(
    session: Session,
    study: StudyInUse,
    *,
    table: str,
    format: str,  # noqa: A002
    rows: int | None = None,
    permission: Permission = Permission.EXPORT_RUN,
    by: Actor,
    now: datetime,
) -> None:
    """Write down that somebody takes a table of the study; the caller commits before the first byte leaves.

    `permission` is another one where the rows are those that this person may read anyway, one by one.
    """
    require(by, permission, action=RUN, subject=f"/export/{table}")
    new: dict[str, Any] = {"table": table, "format": format, "study_version": study.definition.version}
    if rows is not None:
        new["rows"] = rows
    record(session, study.code, [Change(RUN, subject=f"export/{table}", new=new)], by=by, now=now)


def record_delivery(
    session: Session,
    study: StudyInUse,
    *,
    table: str,
    format: str,  # noqa: A002
    rows: int,
    sha256: str,
    permission: Permission = Permission.EXPORT_RUN,
    by: Actor,
    now: datetime,
) -> None:
    """Write down that the file was sent to its end: how many rows, and the SHA-256 a copy can be checked against.

    Only for tables without arms: the hash of a file with arms would let a blinded reader of the log try arms until one
    fits (CONC-11).
    """
    require(by, permission, action=RUN, subject=f"/export/{table}")
    new = {"table": table, "format": format, "rows": rows, "sha256": sha256}
    record(session, study.code, [Change(DELIVERED, subject=f"export/{table}", new=new)], by=by, now=now)
