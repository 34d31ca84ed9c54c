"""Who works in the study, over REST? People with their roles and sites, as far as one meets them anyway."""

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import ConfigDict

from app.api.filters import AtSite, at
from app.api.operations import operations
from app.api.shapes import Cursor, Limit, PageOf, Reply
from app.dependencies import ApiPage, Here
from app.foundation import paging
from app.foundation.errors import NotFound
from app.people import reads
from app.people.access import Actor, require
from app.people.permissions import Permission, Role
from app.people.reads import Member

router = operations("people", "/people")


class RightReply(Reply):
    """A role that somebody holds now; without `site` at every site of the study."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"role": "coordinator", "site": "neura", "granted_at": "2026-01-05T09:00:00.000000Z"}
        }
    )

    role: str
    site: str | None
    granted_at: datetime


class PersonReply(Reply):
    """Somebody who holds a role in the study."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "username": "nhaddad",
                "name": "Noor Haddad",
                "organisation": "NeuRA",
                "roles": [RightReply.model_config["json_schema_extra"]["example"]],  # type: ignore[index]
            }
        }
    )

    username: str
    name: str
    organisation: str
    roles: list[RightReply]


@router.get("", name="api.people")
def people(
    here: ApiPage,
    site: AtSite = None,
    role: Annotated[
        str | None,
        Query(pattern=f"^({'|'.join(Role)})$", description="Only who holds this role.", examples=["coordinator"]),
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[PersonReply]:
    """Who holds which role in the study, by username. Everybody sees themselves.

    Others are seen by who reads the log or takes data, since they meet them there: of the sites where they do. With
    `site` and `role` those who hold such a role there, or for the whole study.
    """
    found = [
        each
        for each in _seen(here, at(here, site))
        if any((site is None or one.site in (None, site)) and role in (None, one.role) for one in each.roles)
    ]
    page = paging.page_of_all(found, limit, lambda each: (each.username,), str, cursor=cursor)
    return PageOf(items=page.rows, next=page.next)


@router.get("/{username}", name="api.person")
def person(here: ApiPage, username: str) -> PersonReply:
    """Somebody who holds a role in the study; whom one would not see in the list is not found."""
    for each in _seen(here, here.actor):
        if each.username == username:
            return each
    raise NotFound


def _seen(here: Here, by: Actor) -> list[PersonReply]:
    require(here.actor, Permission.STUDY_READ)
    return [_reply(each) for each in reads.members_seen(here.session, here.the_study.id, by=by)]


def _reply(member: Member) -> PersonReply:
    return PersonReply(
        username=member.username,
        name=member.name,
        organisation=member.organisation,
        roles=[
            RightReply(role=right.role, site=right.site_code, granted_at=right.granted_at) for right in member.rights
        ],
    )
