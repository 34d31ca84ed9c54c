"""What waits on this device? Forms typed without a connection: the key that the server adds, and the list of them.

The list is made in the browser: the server does not know what a device keeps until it is sent.
"""

from fastapi.responses import JSONResponse, Response

from app.dependencies import Here, PageAnywhere, database_of
from app.foundation.errors import NotFound
from app.web.pages import pages
from app.web.shell import show

router = pages()

KEPT = "forms kept on devices"


@router.get("/kept", name="kept.kept")
def kept(here: PageAnywhere) -> Response:
    """What this person typed on this device and has not sent."""
    return show(here, "kept/kept.html")


@router.get("/kept/key", name="kept.key")
def key(here: PageAnywhere) -> Response:
    """The server's half of the key of what this person keeps on devices, as 64 hexadecimal digits.

    It is the same at each of their sign-ins, so that what was typed before a session ended can still be sent. `person`
    and `session` say which is which, and nothing else.
    """
    return JSONResponse(_halves(here))


def _halves(here: Here) -> dict[str, str]:
    if here.signed_in is None:
        raise NotFound
    keys, person = database_of(here.request).keys, str(here.signed_in.person_id).encode()
    return {
        "person": keys.tag(KEPT, b"person " + person).hex()[:32],
        "session": keys.tag(KEPT, b"session " + here.signed_in.token_hash).hex()[:32],
        "share": keys.tag(KEPT, b"share " + person).hex(),
    }
