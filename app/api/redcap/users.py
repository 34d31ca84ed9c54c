"""Who may do what? People of the study and their roles, in the rights that these clients know."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.responses import Response

from app.api.redcap.answers import Cell, Listing, plain
from app.api.redcap.asked import Asked
from app.api.redcap.data import rows_of, same_rows
from app.api.redcap.dictionary import Group, Project
from app.api.redcap.errors import Wrong, shown
from app.people.access import may
from app.people.permissions import Permission, Role, holders
from app.people.reads import emails_of, members_of

P = Permission
RIGHTS: tuple[tuple[str, tuple[Permission, ...]], ...] = (
    ("design", (P.STUDY_LOAD,)),
    ("alerts", ()),
    ("user_rights", (P.PEOPLE_MANAGE,)),
    ("data_access_groups", (P.PEOPLE_MANAGE,)),
    ("reports", (P.EXPORT_RUN, P.ENTRY_READ)),
    ("stats_and_charts", (P.EXPORT_RUN, P.ENTRY_READ)),
    ("manage_survey_participants", (P.PARTICIPANT_LINK,)),
    ("calendar", (P.PARTICIPANT_READ,)),
    ("data_import_tool", (P.ENTRY_SAVE,)),
    ("data_comparison_tool", ()),
    ("logging", (P.AUDIT_READ,)),
    ("email_logging", (P.MESSAGE_READ,)),
    ("file_repository", (P.DOCUMENT_READ,)),
    ("data_quality_create", (P.QUERY_RAISE,)),
    ("data_quality_execute", (P.QUERY_RAISE,)),
    ("api_export", (P.EXPORT_RUN, P.ENTRY_READ)),
    ("api_import", (P.ENTRY_SAVE, P.PARTICIPANT_SCREEN)),
    ("api_modules", ()),
    ("mobile_app", ()),
    ("mobile_app_download_data", ()),
    ("record_create", (P.PARTICIPANT_SCREEN,)),
    ("record_rename", ()),
    ("record_delete", ()),
    ("lock_records_all_forms", (P.DATA_LOCK,)),
    ("lock_records", (P.DATA_LOCK,)),
    ("lock_records_customization", ()),
)
RANDOMISING: tuple[tuple[str, tuple[Permission, ...]], ...] = (
    ("random_setup", (P.SEQUENCE_DRAW,)),
    ("random_dashboard", (P.ALLOCATIONS_EXPORT,)),
    ("random_perform", (P.PARTICIPANT_RANDOMISE,)),
)
SEEING_EVERYBODY = (P.EXPORT_RUN, P.AUDIT_READ)
"""Who reads the log or takes the whole study meets everybody's name there; others see themselves."""
BY_TABLE = (
    "Rights follow from roles, and the table of permissions is the same in every study: no token gives, "
    "changes or ends "
    "one. Have an administrator invite people and give or end roles on the page People; it is in the log then."
)


@dataclass(frozen=True)
class Member:
    """One person of the study; `group` is the one site they work at, or None."""

    username: str
    name: str
    roles: frozenset[Role]
    group: Group | None


def members(asked: Asked) -> list[Member]:
    """Everybody who holds a role in the study, by username."""
    held: dict[str, tuple[str, set[Role], set[int | None]]] = {}
    for right in members_of(asked.here.session, asked.here.the_study.id):
        _, roles, sites = held.setdefault(right.username, (right.name, set(), set()))
        roles.add(right.role)
        sites.add(right.site_id)
    groups = asked.group_of_site
    return [
        Member(
            username,
            name,
            frozenset(roles),
            None if None in sites else groups[min(site for site in sites if site is not None)],
        )
        for username, (name, roles, sites) in sorted(held.items())
    ]


def seen(asked: Asked) -> list[Member]:
    """Those whom this person may see in a list."""
    everybody = any(may(asked.here.actor, permission) for permission in SEEING_EVERYBODY)
    return [each for each in members(asked) if everybody or each.username == asked.here.actor.username]


def users(asked: Asked) -> Response:
    """The full table of users."""
    rows = _users(asked, seen(asked))
    columns = tuple(rows[0]) if rows else ()
    return asked.answer(Listing(columns, [tuple(row.values()) for row in rows], "user"))


def _users(asked: Asked, found: list[Member]) -> list[dict[str, Cell]]:
    emails = emails_of(asked.here.session, {member.username for member in found})
    return [
        {
            "username": member.username,
            **_person(member, emails),
            "expiration": "",
            "data_access_group": member.group.name if member.group else "",
            "data_access_group_id": member.group.id if member.group else "",
            "data_access_group_label": member.group.label if member.group else "",
            **_rights(asked, member.roles),
            **_by_form(asked.project, member.roles),
        }
        for member in found
    ]


def _person(member: Member, emails: Mapping[str, str]) -> dict[str, str]:
    first, _, last = member.name.partition(" ")
    return {"email": emails.get(member.username, ""), "firstname": first, "lastname": last}


def _rights(asked: Asked, roles: frozenset[Role]) -> dict[str, int]:
    rights = RIGHTS + (RANDOMISING if asked.here.the_study.definition.is_allocated else ())
    return {name: int(_holds(roles, permissions)) for name, permissions in rights}


def _holds(roles: frozenset[Role], permissions: tuple[Permission, ...]) -> bool:
    return any(roles & holders(permission) for permission in permissions)


def _by_form(project: Project, roles: frozenset[Role]) -> dict[str, dict[str, int]]:
    """Of each form: 1 view and edit, 2 read only, 0 nothing; and 1 full export, 0 none."""
    screening = set(project.plan.screening)

    def entering(form: str) -> int:
        change = P.PARTICIPANT_SCREEN if form in screening else P.ENTRY_SAVE
        read = P.PARTICIPANT_READ if form in screening else P.ENTRY_READ
        return 1 if _holds(roles, (change,)) else 2 if _holds(roles, (read,)) else 0

    exporting = int(_holds(roles, (P.EXPORT_RUN, P.ENTRY_READ)))
    return {
        "forms": {form.name: entering(form.name) for form in project.forms},
        "forms_export": {form.name: exporting for form in project.forms},
    }


def import_users(asked: Asked) -> Response:
    """What is so already is counted; nothing else is taken."""
    sent = rows_of(asked.call)
    present: list[Mapping[str, Any]] = [*_users(asked, seen(asked))]
    return _unchanged(asked, sent, present, "username")


def delete_users(asked: Asked) -> Response:
    """Never: people's names stand in the log."""
    raise asked.refused(BY_TABLE, "person.deactivate")


# Roles


def unique_name(role: Role) -> str:
    """U- and ten letters and digits, the same in every installation."""
    return "U-" + base64.b32encode(hashlib.sha256(role.value.encode()).digest()).decode()[:10]


def roles(asked: Asked) -> Response:
    """The roles of the house. Rights are texts here, but those by form."""
    asked.require_study()
    rows = _roles(asked)
    return asked.answer(Listing(tuple(rows[0]), [tuple(row.values()) for row in rows]))


def _roles(asked: Asked) -> list[dict[str, Cell]]:
    return [
        {
            "unique_role_name": unique_name(role),
            "role_label": role.value.replace("_", " ").capitalize(),
            **{name: str(value) for name, value in _rights(asked, frozenset({role})).items()},
            **_by_form(asked.project, frozenset({role})),
        }
        for role in Role
    ]


def import_roles(asked: Asked) -> Response:
    """What is so already is counted; nothing else is taken."""
    sent = rows_of(asked.call)
    present: list[Mapping[str, Any]] = [*_roles(asked)]
    return _unchanged(asked, sent, present, "unique_role_name")


def delete_roles(asked: Asked) -> Response:
    """Never."""
    raise asked.refused(BY_TABLE, "role.revoke")


def role_assignments(asked: Asked) -> Response:
    """Everybody, with their role; who holds several is named with the first."""
    rows = [tuple(row.values()) for row in _assigned(seen(asked))]
    return asked.answer(Listing(("username", "unique_role_name", "data_access_group"), rows))


def _assigned(found: list[Member]) -> list[dict[str, str]]:
    return [
        {
            "username": member.username,
            "unique_role_name": unique_name(next(role for role in Role if role in member.roles)),
            "data_access_group": member.group.name if member.group else "",
        }
        for member in found
    ]


def import_role_assignments(asked: Asked) -> Response:
    """What is so already is counted; nothing else is taken."""
    sent = rows_of(asked.call)
    known = {"", *(unique_name(role) for role in Role)}
    named = dict.fromkeys(str(row.get("unique_role_name", "")).strip() for row in sent)
    if unknown := [name for name in named if name not in known]:
        raise Wrong(f"Invalid Unique Role Names: {', '.join(map(shown, unknown))}")
    present: list[Mapping[str, Any]] = [*_assigned(seen(asked))]
    return _unchanged(asked, sent, present, "username")


def _unchanged(asked: Asked, sent: list[dict[str, Any]], present: list[Mapping[str, Any]], key: str) -> Response:
    if sent and same_rows(sent, present, key):
        return plain(len(sent))
    raise asked.refused(BY_TABLE, "role.grant")
