"""Which groups are there, and who is in which? Sites are the data access groups of a study."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import Response

from app.api.redcap.answers import Listing, Row, plain
from app.api.redcap.asked import Asked
from app.api.redcap.data import rows_of, same_rows
from app.api.redcap.errors import Wrong, not_valid, not_valid_values
from app.api.redcap.users import seen

COLUMNS = ("data_access_group_name", "unique_group_name", "data_access_group_id")
MAPPING = ("username", "redcap_data_access_group")
FIXED = (
    "Sites are not opened, renamed or closed by a token: a site has a time zone and is approved before it starts "
    "(ICH E6(R3) 4.3.5). Have an administrator do it on the page People and sites."
)
BY_ROLES = (
    "Who works at which site follows from their roles, and no token gives or ends a role. Have an "
    "administrator do it on "
    "the page People."
)


def groups(asked: Asked) -> Response:
    """Every site."""
    asked.require_study()
    return asked.answer(Listing(COLUMNS, _groups(asked), "dag"))


def _groups(asked: Asked) -> list[Row]:
    return [(group.label, group.name, group.id) for group in asked.groups]


def import_groups(asked: Asked) -> Response:
    """What is there already is counted; nothing else is taken."""
    sent = rows_of(asked.call)
    known: list[Mapping[str, Any]] = [dict(zip(COLUMNS, row, strict=True)) for row in _groups(asked)]
    if sent and same_rows(sent, known, "unique_group_name"):
        asked.require_study()
        return plain(len(sent))
    raise asked.refused(FIXED, "site.change")


def delete_groups(asked: Asked) -> Response:
    """Never: participants were seen there."""
    names = {group.name for group in asked.groups}
    if unknown := [name for name in asked.call.names("dags") if name not in names]:
        raise not_valid_values("dags", unknown)
    raise asked.refused(FIXED, "site.change")


def switch(asked: Asked) -> Response:
    """To the group that one works in anyway."""
    name = asked.call.text("dag")
    group = next((each for each in asked.groups if each.name == name), None)
    if group is None:
        raise not_valid("dag")
    mine = {grant.site_id for grant in asked.here.actor.grants}
    if mine == {group.id}:
        return plain(1)
    if group.id not in mine and None not in mine:
        raise Wrong(f"You do not work at {group.label}, so you cannot switch to it. Ask your administrator.", 403)
    raise asked.refused(
        f"A token keeps its sites, and cannot be switched to {group.label} alone. Export the records with "
        "exportDataAccessGroups and keep those of one site, or make a token on the account page that is limited to it.",
        "site.change",
    )


def assignments(asked: Asked) -> Response:
    """Everybody, with the site they work at; blank for those of the whole study."""
    rows = [(member.username, member.group.name if member.group else "") for member in seen(asked)]
    return asked.answer(Listing(MAPPING, rows))


def import_assignments(asked: Asked) -> Response:
    """What is so already is counted; nothing else is taken."""
    sent = rows_of(asked.call)
    known: list[Mapping[str, Any]] = [
        {"username": member.username, "redcap_data_access_group": member.group.name if member.group else ""}
        for member in seen(asked)
    ]
    if sent and same_rows(sent, known, "username"):
        return plain(len(sent))
    raise asked.refused(BY_ROLES, "role.grant")
