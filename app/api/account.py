"""What may the token in hand do, where, and until when?"""

from datetime import datetime

from pydantic import ConfigDict

from app.api.operations import operations
from app.api.shapes import Reply
from app.dependencies import ApiPage
from app.foundation.errors import NotAllowed
from app.people import reads

router = operations("account")


class TokenReply(Reply):
    """The token that asks. `sites` are those it is limited to; none: every one at which its owner works.

    `scopes` are what it was given: its owner may hold less by now. `last_used_at` is when it was used before, written
    down every half minute.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "Nightly export",
                "owner": "manager",
                "scopes": ["entry.read", "export.run"],
                "sites": ["neura"],
                "created_at": "2026-03-01T09:00:00.000000Z",
                "expires_at": "2026-05-30T09:00:00.000000Z",
                "last_used_at": "2026-03-14T02:00:00.000000Z",
            }
        }
    )

    name: str
    owner: str
    scopes: list[str]
    sites: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


@router.get("/token", name="api.token")
def token(here: ApiPage) -> TokenReply:
    """What this token may do, at which sites, and until when."""
    if not here.actor.grants:
        reason = "Its owner holds no role any more where this token acts. Ask your administrator."
        raise NotAllowed(reason, action="token.use", subject="/token")
    assert here.actor.token_id is not None
    found = reads.token_numbered(here.session, here.actor.token_id)
    codes = {site.id: site.code for site in reads.sites_of(here.session, here.the_study.id)} if found.sites else {}
    return TokenReply(
        name=found.name,
        owner=here.actor.username,
        scopes=list(found.scopes),
        sites=[codes[site] for site in found.sites],
        created_at=found.created_at,
        expires_at=found.expires_at,
        last_used_at=here.actor.token_last_used_at,
    )
