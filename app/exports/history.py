"""Who took what, and what was it? Every export with its manifest, and the definitions to run again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, select
from sqlmodel import Session

from app.exports.choice import Choice
from app.exports.models import ExportDefinition, ExportRun
from app.foundation.database import table_of, within
from app.foundation.errors import NotFound
from app.foundation.paging import Page, page_by_number
from app.people.access import Actor, require, sites_for
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

RUN = table_of(ExportRun)
DEFINITION = table_of(ExportDefinition)


@dataclass(frozen=True)
class Made:
    """One export: who asked for what, how far it is, and what its file was."""

    number: int
    person_id: int
    requested_by: str
    requested_at: datetime
    via: str
    definition: str | None
    choice: Choice
    since: int | None
    scope: str
    file_name: str
    state: str
    study_version: str
    software: str
    change: int | None
    tree_head: str | None
    rows: int
    bytes: int | None
    sha256: str | None
    files: Sequence[dict[str, Any]]
    finished_at: datetime | None
    expires_at: datetime | None
    attempts: int
    problem: str | None

    @property
    def is_done(self) -> bool:
        """Whether its file was made to its end."""
        return self.sha256 is not None

    @property
    def is_coming(self) -> bool:
        """Whether it waits its turn or is being made."""
        return self.state in ("waiting", "running")


def made_of(row: Any) -> Made:
    """A row of the table, read."""
    values = dict(row._mapping)
    return Made(
        number=values.pop("id"),
        choice=Choice.model_validate_json(values.pop("asked")),
        files=json.loads(values.pop("files")),
        **{name: values[name] for name in values if name not in ("study_id", "request_id", "claimed_until")},
    )


def made(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    state: str | None = None,
    person: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[Made]:
    """The exports of the study, newest first, a page at a time; of a person, and of when they were asked for."""
    require(by, Permission.EXPORT_RUN, action="export.run", subject="/export")
    query = select(RUN).where(RUN.c.study_id == study.id, *within(RUN.c.requested_at, since, until))
    wanted = (RUN.c.state, state), (RUN.c.requested_by, person)
    query = query.where(*(column == value for column, value in wanted if value is not None))
    return page_by_number(session, query, RUN.c.id, cursor=cursor, limit=limit).made(made_of)


def made_numbered(session: Session, study: StudyInUse, number: int, *, by: Actor) -> Made:
    """One export of the study; NotFound when there is none of this number."""
    require(by, Permission.EXPORT_RUN, action="export.run", subject="/export")
    row = session.execute(select(RUN).where(RUN.c.study_id == study.id, RUN.c.id == number)).first()
    if row is None:
        raise NotFound
    return made_of(row)


def why_no_file(made: Made, *, by: Actor) -> str | None:
    """Why this person cannot have the file of an export that was made for later, or None."""
    if made.state == "waiting":
        return "It waits its turn. Come back in a moment."
    if made.state == "running":
        return "It is being made. Come back in a moment."
    if made.state == "failed":
        return made.problem or "It could not be made. Ask for it again."
    if made.state == "begun":
        return (
            "It broke off, or is on its way still: no file of it is kept. Ask for it again, or make it in the "
            "background."
        )
    if made.state != "done" or made.expires_at is None:
        return "Its file is not kept any more. Ask for the same export again: the manifest says whether it is the same."
    if made.person_id != by.person_id:
        return "Only whoever asked for it can take its file. Ask for the same export yourself."
    if scope_of(by) not in ("", made.scope):
        return "It was made for other sites than you have now. Ask for it again."
    return None


def scope_of(by: Actor) -> str:
    """The sites that somebody may export, as they are kept with an export: ids with commas, nothing for all."""
    sites = sites_for(by, Permission.EXPORT_RUN)
    return "" if sites is None else ",".join(map(str, sorted(sites)))


# Definitions


@dataclass(frozen=True)
class Defined:
    """A choice with a name, as it was defined last."""

    name: str
    version: int
    choice: Choice
    defined_at: datetime
    defined_by: str


def definitions(session: Session, study: StudyInUse, *, by: Actor, name: str | None = None) -> list[Defined]:
    """The newest version of every definition of the study (or of that name), by name."""
    require(by, Permission.EXPORT_RUN, action="export.run", subject="/export")
    newest = (
        select(DEFINITION.c.name, func.max(DEFINITION.c.version).label("version"))
        .where(DEFINITION.c.study_id == study.id)
        .group_by(DEFINITION.c.name)
        .subquery()
    )
    query = (
        select(DEFINITION)
        .join(newest, and_(newest.c.name == DEFINITION.c.name, newest.c.version == DEFINITION.c.version))
        .where(DEFINITION.c.study_id == study.id)
        .order_by(DEFINITION.c.name)
    )
    if name is not None:
        query = query.where(DEFINITION.c.name == name)
    return [
        Defined(row.name, row.version, Choice.model_validate_json(row.asked), row.defined_at, row.defined_by)
        for row in session.execute(query)
    ]


def definition_named(session: Session, study: StudyInUse, name: str, *, by: Actor) -> Defined:
    """The definition of this name as it was defined last; NotFound when there is none."""
    found = definitions(session, study, by=by, name=name)
    if not found:
        raise NotFound
    return found[0]


def failed_between(session: Session, study_id: int, since: datetime, until: datetime) -> int:
    """How many exports that were asked for in this time could not be made."""
    query = select(func.count()).where(
        RUN.c.study_id == study_id, RUN.c.state == "failed", *within(RUN.c.requested_at, since, until)
    )
    return int(session.execute(query).scalar_one())
