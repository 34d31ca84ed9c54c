"""How does a page come about? Its address, and what it is when somebody may not know of it, said once."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from app.dependencies import AlreadyAnswered, Handler, ending, hidden_from_others, known_first, who_asks
from app.foundation.errors import Problem
from app.people.permissions import Permission
from app.signposts import Address


class Page(Address):
    """A page, or a form that is sent; the document of the operations over REST does not know it."""

    def complete(self, endpoint: Callable[..., Any], options: dict[str, Any]) -> None:
        """What the framework makes of it, and a session that ends where it was used."""
        super().complete(ending(endpoint), {**options, "include_in_schema": False})

    def get_route_handler(self) -> Handler:  # type: ignore[override]
        """Whoever it does not know is told nothing else."""
        return known_first(super().get_route_handler(), who_asks)


def pages(*, hidden_without: Permission | None = None) -> APIRouter:
    """A router for pages.

    With `hidden_without` they answer everybody who lacks this permission as an address that was never there, whatever
    was sent: a form that is out of date, or sent twice, would else be told so before it is asked who sent it.
    """
    return APIRouter(route_class=Page if hidden_without is None else _hidden(hidden_without))


def _hidden(permission: Permission) -> type[Page]:
    class Hidden(Page):
        def get_route_handler(self) -> Handler:  # type: ignore[override]
            answer = super().get_route_handler()
            return hidden_from_others(permission, answer, who_asks, hidden=(Problem, AlreadyAnswered))

    return Hidden
