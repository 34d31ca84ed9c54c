"""Who took what? Every export is written down before its first byte leaves, and again when the last one has left."""

import json
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import insert, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.exports import casebooks, history
from app.exports.choice import Choice
from app.exports.history import DEFINITION, Made, scope_of
from app.exports.history import RUN as RUNS
from app.exports.reads import DELIVERED, RUN
from app.foundation.errors import FieldProblem, Invalid
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

if TYPE_CHECKING:
    from app.exports.delivery import Tally

KEPT_FOR = timedelta(days=7)
"""So long is a file kept that was made for later."""
LONGEST_NAME = 80


def record_export(
    session: Session,
    study: StudyInUse,
    *,
    table: str,
    format: str,  # noqa: A002
    rows: int | None = None,
    said: dict[str, Any] | None = None,
    permission: Permission = Permission.EXPORT_RUN,
    by: Actor,
    now: datetime,
) -> None:
    """Write down that somebody takes a table of the study; the caller commits before the first byte leaves.

    `permission` is another one where the rows are those that this person may read anyway, one by one.
    """
    require(by, permission, action=RUN, subject=f"/export/{table}")
    new: dict[str, Any] = {"table": table, "format": format, "study_version": study.definition.version, **(said or {})}
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


def begin(
    session: Session,
    study: StudyInUse,
    choice: Choice,
    *,
    since: int | None = None,
    file_name: str,
    state: Literal["begun", "waiting"],
    definition: str | None = None,
    by: Actor,
    now: datetime,
) -> int:
    """Keep that somebody asked for an export, and with what it must be made; gives its number. Also in the log."""
    said = {name: value for name, value in choice.said().items() if name not in ("tables", "format", "arms", "bom")}
    if since is not None:
        said["since"] = since
    record_export(session, study, table=_called(choice), format=_logged(choice), said=said, by=by, now=now)
    return _kept(
        session,
        study_id=study.id,
        person_id=by.person_id,
        requested_by=by.username,
        requested_at=now,
        via=by.via,
        request_id=by.request_id,
        definition=definition,
        asked=choice.model_dump_json(exclude_defaults=True),
        since=since,
        scope=scope_of(by),
        file_name=file_name,
        state=state,
        study_version=study.definition.version,
        software=version("equipoise"),
        rows=0,
        files="[]",
        attempts=0,
    )


def _kept(session: Session, **values: Any) -> int:
    number = session.execute(insert(RUNS).values(**values).returning(RUNS.c.id)).scalar_one()
    assert isinstance(number, int)
    return number


def ask(
    session: Session,
    study: StudyInUse,
    choice: Choice,
    *,
    since: int | None = None,
    definition: str | None = None,
    file_name: str,
    by: Actor,
    now: datetime,
) -> Made:
    """Ask for an export that is made in the background; its file is kept for a while."""
    casebooks.require_possible(session, study, choice, since=since, by=by)
    number = begin(
        session,
        study,
        choice,
        since=since,
        file_name=file_name,
        state="waiting",
        definition=definition,
        by=by,
        now=now,
    )
    return history.made_numbered(session, study, number, by=by)


def finish(
    session: Session,
    study: StudyInUse,
    choice: Choice,
    run: int,
    tally: "Tally",
    *,
    attempt: int | None = None,
    by: Actor,
    now: datetime,
) -> bool:
    """Write down that the file was made to its end, and what it was; False when somebody else has made it meanwhile."""
    assert tally.head is not None
    query = update(RUNS).where(RUNS.c.id == run, RUNS.c.sha256.is_(None))
    if attempt is not None:
        query = query.where(RUNS.c.attempts == attempt, RUNS.c.state == "running")
    values = {
        "state": "done",
        "study_version": study.definition.version,
        "software": version("equipoise"),
        "change": tally.head.size,
        "tree_head": tally.head.root,
        "rows": tally.rows,
        "bytes": tally.bytes,
        "sha256": tally.sha256,
        "files": json.dumps(tally.files),
        "finished_at": now,
        "expires_at": None if attempt is None else now + KEPT_FOR,
        "claimed_until": None,
        "problem": None,
    }
    if session.execute(query.values(**values).returning(RUNS.c.id)).scalar() is None:
        return False
    record_delivery(
        session,
        study,
        table=_called(choice),
        format=_logged(choice),
        rows=tally.rows,
        sha256=tally.sha256,
        by=by,
        now=now,
    )
    return True


def record_taking(session: Session, study: StudyInUse, made: Made, *, first: int = 0, by: Actor, now: datetime) -> None:
    """Write down that somebody takes the kept file of an export, or of it what stands from byte `first` on."""
    require(by, Permission.EXPORT_RUN, action=RUN, subject=f"/export/{made.number}")
    new: dict[str, Any] = {"export": made.number, "file": made.file_name, "sha256": made.sha256}
    if first:
        new["from_byte"] = first
    change = Change("export.taken", subject=f"export/{_called(made.choice)}", new=new)
    record(session, study.code, [change], by=by, now=now)


def define(session: Session, study: StudyInUse, name: str, choice: Choice, *, by: Actor, now: datetime) -> int:
    """Give a choice a name, to be run again; under a name there is, as its next version. Gives the version.

    Invalid without a name, or with what the study does not have.
    """
    require(by, Permission.EXPORT_RUN, action="export.define", subject=f"/export/{name}")
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        message = f"Give the definition a name, of at most {LONGEST_NAME} characters."
        raise Invalid([FieldProblem("name", "name", message)])
    casebooks.require_possible(session, study, choice, by=by)
    earlier = history.definitions(session, study, by=by, name=name)
    number = earlier[0].version + 1 if earlier else 1
    if earlier and earlier[0].choice == choice:
        return earlier[0].version
    session.execute(
        insert(DEFINITION).values(
            study_id=study.id,
            name=name,
            version=number,
            asked=choice.model_dump_json(exclude_defaults=True),
            defined_at=now,
            defined_by=by.username,
        )
    )
    change = Change(
        "export.defined",
        subject=f"export/{name}",
        old=earlier[0].choice.said() if earlier else None,
        new={**choice.said(), "version": number},
    )
    record(session, study.code, [change], by=by, now=now)
    return number


def _called(choice: Choice) -> str:
    """What is exported, in the log: the table, with its dummy arms; or that it is several or all."""
    name = "all" if not choice.tables else choice.tables[0] if len(choice.tables) == 1 else "+".join(choice.tables)
    return f"{name}_with_dummy_arms" if choice.dummy else name


def _logged(choice: Choice) -> str:
    kind = str(choice.format)
    return f"{kind}+bom" if choice.bom and kind == "csv" else f"{kind}+zip" if choice.is_bundle else kind
