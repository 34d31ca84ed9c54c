"""Door of the statistician: the public key seeds are escrowed to, and the escrow of a list. Unknown to all others."""

from fastapi.responses import Response

from app.dependencies import ChangeInStudy, Here, LoggedPageInStudy, PageInStudy, require_password
from app.foundation.errors import Invalid, NotFound
from app.people.access import may
from app.people.permissions import Permission
from app.randomisation.escrow import actions, reads
from app.randomisation.reads import sequence_of_version
from app.web.pages import pages
from app.web.shell import errors_of, show
from app.web.tables import kept_as

router = pages(hidden_without=Permission.SEQUENCE_DRAW)


@router.get("/{study}/sequence/escrow", name="escrow.key_form")
def key_form(here: PageInStudy) -> Response:
    """What escrow is, which key is in use, and which lists are escrowed."""
    _require(here)
    return _key_page(here, "")


@router.post("/{study}/sequence/escrow", name="escrow.key")
def key(here: ChangeInStudy) -> Response:
    """Keep a public key, for every list that is sealed from now on."""
    _require(here, Permission.SEQUENCE_SEAL)
    pem = here.value("pem")
    try:
        require_password(here, here.form.get("password", [""])[-1])
        actions.store_key(here.session, here.the_study, pem=pem, by=here.actor, now=here.now)
    except Invalid as problem:
        here.refuse(problem)
        return _key_page(here, pem, problem=problem)
    return here.redirect(_url(here), done="escrow_key_stored")


@router.get("/{study}/sequence/{version}/escrow.pem", name="escrow.file")
def file(here: LoggedPageInStudy, version: int) -> Response:
    """A list's plan and seed, encrypted; that it was taken is in the log before it leaves."""
    _require(here)
    found = sequence_of_version(here.session, here.the_study, version, by=here.actor)
    text = actions.take_escrow(here.session, here.the_study, found.id, by=here.actor, now=here.now)
    name = f"{here.the_study.code}-list-{version}-escrow.pem"
    return Response(text, media_type="application/x-pem-file", headers=kept_as(name))


def _require(here: Here, permission: Permission = Permission.SEQUENCE_DRAW) -> None:
    """NotFound for all but the statistician, and in a study that allocates nobody."""
    if not here.the_study.definition.is_allocated or not may(here.actor, permission):
        raise NotFound


def _url(here: Here) -> str:
    return f"/{here.the_study.code}/sequence/escrow"


def _key_page(here: Here, pem: str, *, problem: Invalid | None = None) -> Response:
    # A private key that was pasted by mistake does not come back: it would stand in one more place.
    shown = "" if "PRIVATE KEY" in pem else pem
    return show(
        here,
        "escrow/key.html",
        status_code=422 if problem else 200,
        sequence_url=f"/{here.the_study.code}/sequence",
        url=_url(here),
        key=reads.key_in_use(here.session, here.the_study, by=here.actor),
        escrows=reads.escrows(here.session, here.the_study, by=here.actor),
        pem=shown,
        errors=errors_of(problem),
    )
