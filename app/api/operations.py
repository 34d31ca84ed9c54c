"""How does an operation over REST come about? Its whole address, its token, its problems and examples, said once.

A router that is included in another is analysed once more for every application, which takes a fifth of a second for
all operations together: each is complete from the beginning instead, and the application takes them as they are.
"""

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, get_type_hints

from fastapi import APIRouter, Depends, Request
from fastapi.datastructures import DefaultPlaceholder
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.routing import Match
from starlette.types import Scope

from app.api.filters import names_of
from app.api.pleasant import ROOT, selection
from app.api.shapes import PROBLEMS, example_of
from app.dependencies import TokenNeeded, api_who_asks, database_of, ending
from app.foundation.errors import NotFound
from app.people.access import may
from app.people.permissions import Permission

OF_STUDY = ROOT + "{study}"
# Only says in the OpenAPI document how to sign in; app.dependencies reads and judges the token.
TOKEN = HTTPBearer(auto_error=False, scheme_name="token", description="A token of your account, for one study.")


class Operation(APIRoute):
    """An operation on a study; every one may answer with a problem, and takes a token.

    The first sentence of its function is its summary in the OpenAPI document; else that would be the route's name.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        needs = [Depends(TOKEN), *(options.pop("dependencies", None) or ())]
        if set(options["methods"]) == {"GET"} and _answers_with_json(endpoint, options["response_model"]):
            needs.append(Depends(selection))
        responses = {**PROBLEMS, **(options.pop("responses", None) or {})}
        super().__init__(path, ending(endpoint), dependencies=needs, responses=responses, **options)
        if self.summary is None:
            self.summary = self.description.split("\n")[0].split(". ")[0].rstrip(".")
        # A good answer shows what it looks like where it stands, not only where its parts are described.
        if (example := example_of(self.response_model)) is not None:
            good = {"content": {"application/json": {"example": example}}}
            self.responses = {**self.responses, self.status_code or 200: good}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this is asked for; of a page it is known at once that it is not."""
        return super().matches(scope) if scope["path"].startswith(ROOT) else (Match.NONE, {})

    @cached_property
    def known(self) -> tuple[str, ...]:
        """The parameters its query may have, for whoever judges that once it is clear who asks (`app.dependencies`)."""
        return tuple(dict.fromkeys(names_of(self.dependant)))


def operations(tag: str, prefix: str = "", *, hidden_without: Permission | None = None) -> APIRouter:
    """A router for operations below the address of a study.

    With `hidden_without` they answer every token that lacks this permission as an address that was never there,
    whatever was sent: a body that cannot be read would else be told so before it is asked who sent it.
    """
    if hidden_without is None:
        return APIRouter(prefix=OF_STUDY + prefix, tags=[tag], route_class=Operation)

    permission: Permission = hidden_without

    class Hidden(Operation):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            answer = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    return await answer(request)
                except TokenNeeded:
                    raise
                except Exception:
                    await run_in_threadpool(_require_known, request, permission)
                    raise

            return handled

    return APIRouter(prefix=OF_STUDY + prefix, tags=[tag], route_class=Hidden)


def _answers_with_json(endpoint: Callable[..., Any], response_model: Any) -> bool:
    """Whether an operation answers with a shape that it names, or with a response of its own, such as a file."""
    if not isinstance(response_model, DefaultPlaceholder):
        return response_model is not None
    says = get_type_hints(endpoint)["return"]
    return not (isinstance(says, type) and issubclass(says, Response))


def _require_known(request: Request, permission: Permission) -> None:
    """NotFound unless the token may use the permission in the study of the address."""
    with database_of(request).reading() as session:
        if not may(api_who_asks(request, request.path_params["study"], session), permission):
            raise NotFound
