"""How does a page come about? Its address, and what it is when somebody may not know of it, said once."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from fastapi.routing import APIRoute

from app.dependencies import AlreadyAnswered, database_of, ending, who_asks
from app.foundation.errors import NotFound, Problem
from app.people.access import may
from app.people.permissions import Permission


class Page(APIRoute):
    """A page, or a form that is sent; the document of the operations over REST does not know it."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, ending(endpoint), **{**options, "include_in_schema": False})


def pages(*, hidden_without: Permission | None = None) -> APIRouter:
    """A router for pages.

    With `hidden_without` they answer everybody who lacks this permission as an address that was never there, whatever
    was sent: a form that is out of date, or sent twice, would else be told so before it is asked who sent it.
    """
    if hidden_without is None:
        return APIRouter(route_class=Page)
    permission: Permission = hidden_without

    class Hidden(Page):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            answer = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    return await answer(request)
                except (Problem, AlreadyAnswered):
                    await run_in_threadpool(_require_known, request, permission)
                    raise

            return handled

    return APIRouter(route_class=Hidden)


def _require_known(request: Request, permission: Permission) -> None:
    """NotFound unless the person who is signed in holds the permission in the study of the address."""
    with database_of(request).reading() as session:
        if not may(who_asks(request, request.path_params["study"], session), permission):
            raise NotFound
