"""May this person do this, here? An actor is a person with their roles in one study; every action asks `require`."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

from app.foundation.errors import NotAllowed
from app.foundation.words import one_of
from app.people.permissions import BY_LINK, NOT_AT_A_SITE, Permission, Role, holders, is_blinded


@dataclass(frozen=True)
class Grant:
    """One role, at one site or (None) at every site of the study."""

    role: Role
    site_id: int | None = None


@dataclass(frozen=True)
class Actor:
    """Who acts: a person, their grants in one study (or none), and the request they act in.

    `scopes` narrows a token to some of its owner's permissions, `token_sites` says that `grants` are narrowed to these
    sites; None means all of them. `token_last_used_at` is when the token in hand was used before, None for a new one
    and for who comes without.
    """

    person_id: int
    username: str
    name: str
    organisation: str
    grants: tuple[Grant, ...] = ()
    study_id: int | None = None
    request_id: str = ""
    via: str = "web"
    scopes: frozenset[str] | None = field(default=None)
    token_sites: frozenset[int] | None = None
    token_id: int | None = None
    by_link: str | None = None
    """A participant by a link of their own, and what for (`permissions.BY_LINK`); `at_site` is then their site."""
    at_site: int | None = None
    token_last_used_at: datetime | None = None

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset(grant.role for grant in self.grants)

    @property
    def role(self) -> str:
        """The roles as the log names them, e.g. 'coordinator, investigator'."""
        if self.by_link is not None:
            return "participant"
        return ", ".join(sorted(self.roles))

    @property
    def blinded(self) -> bool:
        return is_blinded(self.roles)


def granted_at(grants: Iterable[Grant], sites: Collection[int]) -> tuple[Grant, ...]:
    """The same grants at these sites alone, never more than they give."""
    return tuple(
        dict.fromkeys(
            Grant(grant.role, site) for grant in grants for site in sorted(sites) if grant.site_id in (None, site)
        )
    )


def narrowed(actor: Actor, site_id: int) -> Actor:
    """The same person at one site only, for lists; never more than they may see anyway."""
    return replace(actor, grants=granted_at(actor.grants, [site_id]))


def token_grants(grants: Iterable[Grant], sites: Collection[int] | None) -> tuple[Grant, ...]:
    """What is left of its owner's grants for a token of these sites; None is every site.

    A role of the whole study (who draws, who administers) gives such a token nothing.
    """
    if sites is None:
        return tuple(dict.fromkeys(grants))
    return granted_at([grant for grant in grants if grant.role not in NOT_AT_A_SITE], sites)


def may(actor: Actor, permission: Permission, *, site_id: int | None = None) -> bool:
    """Whether the table lets this person do it (at this site, when one is given)."""
    sites = sites_for(actor, permission)
    return sites is None or (site_id in sites if site_id is not None else bool(sites))


def sites_for(actor: Actor, permission: Permission) -> frozenset[int] | None:
    """The sites at which the person holds the permission; None means every site, an empty set none."""
    if actor.scopes is not None and permission not in actor.scopes:
        return frozenset()
    if actor.by_link is not None:
        return frozenset({actor.at_site or 0}) if permission in BY_LINK[actor.by_link] else frozenset()
    return _sites(actor.grants, permission)


@lru_cache(maxsize=1024)
def _sites(grants: tuple[Grant, ...], permission: Permission) -> frozenset[int] | None:
    """Of these very grants; kept, since a page asks once for every row."""
    granting = [grant for grant in grants if grant.role in holders(permission)]
    if any(grant.site_id is None for grant in granting):
        return None
    return frozenset(grant.site_id for grant in granting if grant.site_id is not None)


def why_not(actor: Actor, permission: Permission, *, site_id: int | None = None) -> str | None:
    """Why this person may not do it, in words a disabled button can show; None when they may."""
    if may(actor, permission, site_id=site_id):
        return None
    is_held = _sites(actor.grants, permission) != frozenset()  # otherwise no token of theirs could have the scope
    if actor.scopes is not None and permission not in actor.scopes and is_held:
        return f"This token does not have the scope {permission}. Create a token with that scope."
    names = one_of(sorted(role.replace("_", " ") for role in holders(permission)))
    where = " at this site" if site_id is not None and may(actor, permission) else ""
    return f"This needs the role {names}{where}. Ask your administrator if you should have it."


def require(
    actor: Actor, permission: Permission, *, site_id: int | None = None, subject: str = "", action: str = ""
) -> None:
    """Raise NotAllowed unless the table lets this person do it."""
    reason = why_not(actor, permission, site_id=site_id)
    if reason is not None:
        raise NotAllowed(reason, action=action or permission, subject=subject)


def require_everywhere(actor: Actor, permission: Permission, words: str, *, action: str, subject: str = "") -> None:
    """NotAllowed, with these words, for whoever holds the permission at some sites only."""
    if sites_for(actor, permission) is not None:
        raise NotAllowed(words, action=action, subject=subject)


def require_whole_log(actor: Actor, *, action: str) -> None:
    """NotAllowed for whoever does not review the log of all sites: this is about the whole study."""
    require(actor, Permission.LOG_REVIEW, action=action)
    words = "This is about the whole study. Ask somebody who reviews the log of all sites."
    require_everywhere(actor, Permission.LOG_REVIEW, words, action=action)
