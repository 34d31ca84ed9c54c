"""How does an operation over REST come about? Its whole address, its token, its problems and examples, said once.

A router that is included in another is analysed once more for every application, which takes a fifth of a second for
all operations together: each is complete from the beginning instead, and the application takes them as they are.
"""

from collections.abc import Callable, Iterable
from functools import cached_property, wraps
from typing import Any, get_type_hints

from fastapi import APIRouter, Depends, Request
from fastapi.datastructures import DefaultPlaceholder
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from app.api.filters import names_of
from app.api.pleasant import SELECTED, STUDIES, is_rest, selection
from app.api.said import Said
from app.api.shapes import PROBLEMS, example_of
from app.dependencies import (
    Handler,
    Here,
    TokenNeeded,
    api_who_asks,
    ending,
    hidden_from_others,
    known_first,
    takes_logged_page,
)
from app.people.permissions import Permission
from app.signposts import Address

OF_STUDY = STUDIES + "/{study}"
# Only says in the OpenAPI document how to sign in; app.dependencies reads and judges the token.
TOKEN = HTTPBearer(auto_error=False, scheme_name="token", description="A token of your account, for one study.")


class Operation(Address):
    """An operation on a study; every one may answer with a problem, and takes a token.

    The first sentence of its function is its summary in the OpenAPI document; else that would be the route's name.
    """

    def complete(self, endpoint: Callable[..., Any], options: dict[str, Any]) -> None:
        """With its token, its problems and an example."""
        needs = [Depends(TOKEN), *(options.pop("dependencies", None) or ())]
        responses = {**PROBLEMS, **(options.pop("responses", None) or {})}
        if self.methods != {"GET"}:
            endpoint = _tried_again(endpoint)
        elif _answers_with_json(endpoint, options["response_model"]):
            needs.append(Depends(selection))
        super().complete(ending(endpoint), {**options, "dependencies": needs, "responses": responses})
        if self.summary is None:
            self.summary = self.description.split("\n")[0].split(". ")[0].rstrip(".")
        status = self.status_code or 200
        good: dict[str, Any] = {**self.responses.get(status, {})}
        if status == 201:
            good["headers"] = {"Location": {"description": "Where it is read.", "schema": {"type": "string"}}}
        # A good answer shows what it looks like where it stands, not only where its parts are described.
        if (example := example_of(self.response_model)) is not None:
            good["content"] = {"application/json": {"example": example}}
        if good:
            self.responses = {**self.responses, status: good}

    def get_route_handler(self) -> Handler:  # type: ignore[override]
        """Whoever it does not know is told nothing else."""
        answer = super().get_route_handler()

        async def read_strictly(request: Request) -> Response:
            return await answer(Said(request.scope, request.receive))

        return known_first(read_strictly, api_who_asks)

    words: frozenset[str] = frozenset()
    """What is no number or code at the end of its address, but stands there in the address of another (`apart`)."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this is asked for; of a page it is known at once that it is not."""
        if not is_rest(scope["path"]) or scope["path"].rpartition("/")[2] in self.words:
            return Match.NONE, {}
        return super().matches(scope)

    @cached_property
    def is_logged(self) -> bool:
        """Whether it is written down that it was read."""
        return takes_logged_page(self.dependant)

    @cached_property
    def known(self) -> tuple[str, ...]:
        """The parameters its query may have, for whoever judges that once it is clear who asks (`app.dependencies`)."""
        return tuple(dict.fromkeys(names_of(self.dependant)))

    @cached_property
    def repeated(self) -> tuple[str, ...]:
        """Those that may stand there more than once, and are lists: names of fields do so in two ways."""
        return (*SELECTED, *names_of(self.dependant, lists_only=True))


def operations(
    tag: str, prefix: str = "", *, of: str = OF_STUDY, hidden_without: Permission | None = None
) -> APIRouter:
    """A router for operations below the address of a study, or of another.

    With `hidden_without` they answer every token that lacks this permission as an address that was never there,
    whatever was sent: a body that cannot be read would else be told so before it is asked who sent it.
    """
    kind = Operation if hidden_without is None else _hidden(hidden_without)
    return APIRouter(prefix=of + prefix, tags=[tag], route_class=kind)


def apart(routes: Iterable[BaseRoute]) -> None:
    """Tells addresses that end in a word from those that take any: where only a POST is done, a GET is told so."""
    words: dict[str, set[str]] = {}
    takers: list[tuple[str, Operation]] = []
    for route in routes:
        if isinstance(route, Operation):
            before, _, last = route.path.rpartition("/")
            if "{" in last:
                takers.append((before, route))
            else:
                words.setdefault(before, set()).add(last)
    for before, taker in takers:
        taker.words = frozenset(words.get(before, ()))


def _hidden(permission: Permission) -> type[Operation]:
    class Hidden(Operation):
        def get_route_handler(self) -> Handler:  # type: ignore[override]
            answer = super().get_route_handler()
            return hidden_from_others(permission, answer, api_who_asks, shown=(TokenNeeded,))

    return Hidden


def _tried_again(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a write; a request that kept no answer gives its key back.

    What was only tried is tried again when it is sent again: it would else be told forever that it is being answered.
    """

    @wraps(endpoint)
    def tried(*args: Any, **values: Any) -> Any:
        answer = endpoint(*args, **values)
        here: Here = values["here"]
        if not here.remembered:
            here.release_key()
        return answer

    return tried


def _answers_with_json(endpoint: Callable[..., Any], response_model: Any) -> bool:
    """Whether an operation answers with a shape that it names, or with a response of its own, such as a file."""
    if not isinstance(response_model, DefaultPlaceholder):
        return response_model is not None
    says = get_type_hints(endpoint)["return"]
    return not (isinstance(says, type) and issubclass(says, Response))
