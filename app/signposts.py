"""Which of hundreds of addresses is this? Found by its parts instead of being held against one after the other.

A framework tries each address in turn, which takes a twentieth of what a short request needs. Only those whose parts
fit are tried here, in the same order, and each still judges for itself: the answer is the same.

And it analyses each address before the first request to any, which took a third of starting the server: here an
address is analysed when somebody first goes there (decision 0025).
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastapi.routing import APIRoute
from starlette.datastructures import URLPath
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.routing import BaseRoute, Match, Mount, NoMatchFound, Route, compile_path, get_name
from starlette.types import Receive, Scope, Send

ANY = None  # a part that may be anything
REST, HERE = object(), object()  # addresses that go on with whatever comes, and addresses that end


class Address(APIRoute):
    """An address that is told from others at once, and analysed when something else of it is asked for.

    Whoever makes one in another way than the framework does it in `complete`.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.path = path
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self.methods = set(options["methods"])
        self.takes_files = options.pop("max_body_size", None) is not None
        self.name = options.get("name") or get_name(endpoint)
        self._completing = threading.RLock()
        self._given: tuple[Callable[..., Any], dict[str, Any]] | None = (endpoint, options)

    def complete(self, endpoint: Callable[..., Any], options: dict[str, Any]) -> None:
        """What the framework makes of it."""
        super().__init__(self.path, endpoint, **options)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Its answer; where files are sent, to as much as the settings of the application allow."""
        if not self.takes_files or "app" not in scope:
            await super().handle(scope, receive, send)
            return
        most: int = scope["app"].state.settings.largest_sent
        await RequestBodyLimitMiddleware(super().handle, most)(scope, receive, send)

    def __getattr__(self, name: str) -> Any:
        """Only asked for what is not there (yet)."""
        if name.startswith("__") or "_given" not in self.__dict__:
            raise AttributeError(name)
        with self._completing:
            if (given := self._given) is not None:
                self._given = None  # it asks for its own parts while it becomes whole
                try:
                    self.complete(given[0], dict(given[1]))
                except BaseException:
                    self._given = given
                    raise
        return object.__getattribute__(self, name)


class Signposts(BaseRoute):
    """Leads to one of these; to put in front of them, in the list that the application goes through."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._first: dict[Any, Any] = {}
        for place, route in enumerate(routes):
            if isinstance(route, Route | Mount):
                self._put(place, route)

    def _put(self, place: int, route: Route | Mount) -> None:
        node, ends = self._first, HERE if isinstance(route, Route) else REST
        for part in route.path.split("/"):
            if ":path}" in part:
                ends = REST
                break
            node = node.setdefault(ANY if "{" in part else part, {})
        node.setdefault(ends, []).append((place, route))

    def _fitting(self, path: str) -> Iterator[tuple[int, Route | Mount]]:
        nodes = [self._first]
        # The `$` at the end of a framework's pattern stands before a line's end, too.
        for part in path.removesuffix("\n").split("/"):
            nodes = [node[key] for node in nodes for key in (part, ANY) if key in node]
            for node in nodes:
                yield from node.get(REST, ())
        for node in nodes:
            yield from node.get(HERE, ())

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As the first of them that takes the request, or else the first that has its address."""
        other: tuple[Match, Scope] = (Match.NONE, {})
        if scope["type"] != "http" or scope.get("root_path"):
            return other
        for _, route in sorted(self._fitting(scope["path"]), key=lambda each: each[0]):
            match, found = route.matches(scope)
            if match is Match.FULL:
                return match, {**found, "led to": route}
            if match is Match.PARTIAL and other[0] is Match.NONE:
                other = match, {**found, "led to": route}
        return other

    def routes_at(self, scope: Scope) -> list[Route]:
        """Whatever does something at the address of a request, by whichever method."""
        found = (route for _, route in self._fitting(scope["path"]) if isinstance(route, Route))
        return [
            route
            for route in found
            if route.matches({**scope, "method": next(iter(route.methods or ()), "")})[0] is Match.FULL
        ]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What it leads to answers."""
        await scope["led to"].handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """It has no address of its own."""
        raise NoMatchFound(name, path_params)
