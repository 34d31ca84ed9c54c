"""What has every answer over REST in common? Chosen fields, what belongs to it, links, ETags, how often one may ask.

One middleware around all JSON doors, so that no address has it otherwise. It meets only answers that are JSON and
whole; files that are streamed pass by. HEAD is answered as the GET of an address, without its body. What is expanded is
asked for at its own address with the same token, by the same door: nobody gets by expanding what they would not get by
asking, and what is logged there is logged here.
"""

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import parse_qs, quote, urlencode

from fastapi import Query
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.dependencies import changed_meanwhile, problem_json
from app.foundation.errors import FieldProblem, Invalid
from app.signposts import Signposts

STUDIES = "/api/v1/studies"
ROOT = STUDIES + "/"
MOST_EXPANDED = 200  # addresses that one answer may take
LONGEST = 2000  # characters of fields or expand
TOKENS_KEPT = 10_000
KEYS = ("code", "number", "id")

# Without an example: which names there are is another matter at each address, and one that is not there is refused.
Fields = Annotated[
    str | None,
    Query(max_length=LONGEST, description="Only these fields of the answer, or of each row, such as `code,status`."),
]
Expand = Annotated[
    str | None,
    Query(
        max_length=LONGEST,
        description="What stands at addresses below this one, by their names, such as `visits,entries` of a "
        "participant; of a list, of each row.",
    ),
]


SELECTED = ("fields", "expand")


def selection(fields: Fields = None, expand: Expand = None) -> None:
    """Documents what `Pleasant` does with every answer to a GET."""


@dataclass(frozen=True)
class Counted:
    """A request that was counted: how many seconds to `wait` before it may go on, and how many are `left` at once."""

    wait: int
    left: int


@dataclass
class Limits:
    """A bucket of requests for each token: `a_minute` flow in, as many are held. Each process counts for itself."""

    a_minute: int
    buckets: dict[bytes, tuple[float, float]] = field(default_factory=dict)

    def count(self, token: bytes, now: float) -> Counted | None:
        """Counts a request of this token; None where nothing is counted."""
        if not self.a_minute or not token:
            return None
        name = hashlib.sha256(token).digest()
        held, before = self.buckets.pop(name, (float(self.a_minute), now))
        held = min(float(self.a_minute), held + max(0.0, now - before) * self.a_minute / 60)
        if held >= 1:
            self._keep(name, held - 1, now)
            return Counted(0, int(held - 1))
        self._keep(name, held, now)
        return Counted(int((1 - held) * 60 / self.a_minute) + 1, 0)

    def said(self, counted: Counted) -> list[tuple[bytes, bytes]]:
        """What the headers of an answer say of it: how many a minute, how many are left, how soon all are again."""
        full = -((counted.left - self.a_minute) * 60 // self.a_minute)
        told = (b"limit", self.a_minute), (b"remaining", counted.left), (b"reset", full)
        return [(b"ratelimit-" + name, str(value).encode()) for name, value in told]

    def _keep(self, name: bytes, held: float, now: float) -> None:
        while len(self.buckets) >= TOKENS_KEPT:
            del self.buckets[next(iter(self.buckets))]  # the one that asked the longest ago
        self.buckets[name] = (held, now)


@dataclass
class Answer:
    """An answer of the doors behind, as it comes; `body` is None while it is streamed on."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key == name), b"")

    @property
    def is_whole_json(self) -> bool:
        """Whether it says how long it is, so that it is no stream, and is JSON."""
        is_json = self.header(b"content-type").partition(b";")[0] == b"application/json"
        return is_json and bool(self.header(b"content-length"))


class Pleasant:
    """See the module."""

    def __init__(self, inner: ASGIApp, *, a_minute: int) -> None:
        self.inner = inner
        self.limits = Limits(a_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_rest(scope["path"]):
            await self.inner(scope, receive, send)
            return
        given = dict(scope["headers"])
        counted = self.limits.count(given.get(b"authorization", b""), time.monotonic())
        if counted is not None:
            send = _saying(self.limits.said(counted), send)
            if counted.wait:
                words = f"This token asks more often than it may. Go on in {counted.wait} seconds."
                refused = problem_json(429, None, "Too many requests", detail=words)
                refused.headers["Retry-After"] = str(counted.wait)
                await refused(scope, receive, send)
                return
        if scope["method"] == "OPTIONS":
            await self._methods(scope, receive, send)
            return
        changed = await self._changed(scope, given) if scope["method"] in ("PUT", "POST", "DELETE") else None
        if changed is not None:
            if not given.get(b"idempotency-key"):
                await changed_meanwhile(changed)(scope, receive, send)
                return
            # It may be this very request that changed it: whoever sends it again gets the first answer.
            scope = {**scope, "state": {**scope.get("state", {}), "changed_meanwhile": changed}}
        if scope["method"] not in ("GET", "HEAD"):
            await self.inner(scope, receive, send)
            return
        await self._read(scope, receive, send, given)

    async def _methods(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What may be done at an address; of none, that there is none."""
        allowed = methods_at(scope)
        if not allowed:
            await self.inner({**scope, "method": "GET"}, receive, send)
            return
        await Response(status_code=204, headers={"Allow": ", ".join(allowed)})(scope, receive, send)

    async def _changed(self, scope: Scope, given: Mapping[bytes, bytes]) -> str | None:
        """Why a change is not made: what stands there is not what was read, or something stands there already."""
        wanted, unwanted = given.get(b"if-match"), given.get(b"if-none-match")
        if not wanted and not unwanted:
            return None
        stands = await self._asked(scope, scope["path"], scope["query_string"])
        tag = _tag(stands) if stands.status == 200 else b""
        if wanted and stands.status in (200, 404) and not _matches(wanted, tag):
            return "It is not what you read any more. Read it again, compare, then send again."
        if unwanted and _matches(unwanted, tag, empty=False):
            return "It is there already. Read it, compare, then send your change with If-Match and its ETag."
        return None

    async def _read(self, scope: Scope, receive: Receive, send: Send, given: Mapping[bytes, bytes]) -> None:
        answer, passing, nothing = Answer(), False, scope["method"] == "HEAD"

        async def caught(message: Message) -> None:
            nonlocal passing
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message["headers"])
                passing = not answer.is_whole_json or answer.status != 200
            if passing:
                await send({**message, "body": b""} if nothing and "body" in message else message)
            elif message["type"] == "http.response.body":
                answer.body += message.get("body", b"")

        asked = scope
        if nothing:
            state = {**scope.get("state", {}), "without_body": True}
            asked = {**scope, "method": "GET", "state": state}
        await self.inner(asked, receive, caught)
        if passing or not answer.status:
            return
        reply = await self._made(asked, answer, given, without_body=nothing)
        await reply(scope, receive, send)

    async def _made(
        self, scope: Scope, answer: Answer, given: Mapping[bytes, bytes], *, without_body: bool
    ) -> Response:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        names = {part: _names(query.get(part, [])) for part in SELECTED}
        if any(names.values()):
            said = json.loads(answer.body)
            try:
                if not _rows(said):
                    _refuse_unknown(scope, names["fields"], names["expand"])
                said = await self._expanded(scope, said, names["expand"])
                said = _chosen(said, [*names["fields"], *names["expand"]] if names["fields"] else [])
            except Invalid as problem:
                return problem_json(422, problem, "Not valid")
            answer.body = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {
            key.decode("latin-1"): value.decode("latin-1")
            for key, value in answer.headers
            if key not in (b"content-length", b"content-type")
        }
        headers.setdefault("ETag", _tag(answer).decode())
        if link := _link(scope, answer.body):
            headers["Link"] = link
        if not _matches(given.get(b"if-match", b""), headers["ETag"].encode()):
            words = "It is not what you read any more. Read it again without If-Match."
            return changed_meanwhile(words)
        if _matches(given.get(b"if-none-match", b""), headers["ETag"].encode(), empty=False):
            return Response(status_code=304, headers={key: value for key, value in headers.items() if key != "Link"})
        if without_body:
            headers["Content-Length"] = str(len(answer.body))
            return Response(None, answer.status, headers, "application/json")
        return Response(answer.body, answer.status, headers, "application/json")

    async def _expanded(self, scope: Scope, said: Any, names: list[str]) -> Any:
        rows = _rows(said) if names else []
        if len(rows) * len(names) > MOST_EXPANDED:
            words = f"This takes more than {MOST_EXPANDED} answers. Ask for fewer rows with limit."
            raise Invalid([FieldProblem("expand", "too_many", words)])
        for row in rows:
            below = scope["path"]
            if row is not said:
                key = next((str(row[key]) for key in KEYS if key in row), None)
                if key is None:
                    raise _not_expanded(names[0])
                below = f"{below}/{quote(key, safe='')}"
            for name in names:
                found = await self._asked(scope, f"{below}/{name}")
                if found.status != 200 or not found.is_whole_json:
                    raise _not_expanded(name)
                row[name] = json.loads(found.body)
        return said

    async def _asked(self, scope: Scope, path: str, query: bytes = b"") -> Answer:
        """What a GET of another address (or of the same, before a change) is answered, asked by the same person."""
        dropped = (b"if-match", b"if-none-match", b"content-length", b"content-type", b"idempotency-key")
        state = {**scope.get("state", {})}
        for name in ("actor", "study", "typed", "sent"):
            state.pop(name, None)
        state["asked_within"] = True  # what a change is told beside its repeat is not known to the GET
        inner: dict[str, Any] = {
            **{key: value for key, value in scope.items() if key not in ("path_params", "route", "endpoint", "router")},
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": [(key, value) for key, value in scope["headers"] if key not in dropped],
            "state": state,
        }
        answer = Answer()

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def caught(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message["headers"])
            elif answer.is_whole_json:
                answer.body += message.get("body", b"")

        await self.inner(inner, nothing, caught)
        return answer


def methods_at(scope: Scope) -> list[str]:
    """What may be done at the address of a request, in the order of the alphabet; nothing where there is none."""
    signposts = next(route for route in scope["app"].router.routes if isinstance(route, Signposts))
    routes = signposts.routes_at(scope)
    allowed = {method for route in routes for method in route.methods or ()}
    # As HEAD whatever a GET answers without a trace; the framework's own addresses are not asked otherwise.
    reads = [route for route in routes if "GET" in (route.methods or ())]
    heads = {"HEAD"} if any(not getattr(route, "is_logged", False) for route in reads) else set()
    return sorted({*allowed, *heads, "OPTIONS"}) if allowed else []


def _saying(headers: list[tuple[bytes, bytes]], send: Send) -> Send:
    async def said(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *headers]}
        await send(message)

    return said


def is_rest(path: str) -> bool:
    """Whether an address is one of REST: the studies of a token, or anything of one study."""
    return path.startswith(ROOT) or path == STUDIES


def _names(given: list[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for text in given for name in text.split(",") if name.strip()))


def _rows(said: Any) -> list[dict[str, Any]]:
    """The objects of an answer: of a page its items, of a list its members, or the one it is."""
    rows = said["items"] if isinstance(said, dict) and isinstance(said.get("items"), list) else said
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else [rows] if rows else []


def _chosen(said: Any, names: list[str]) -> Any:
    rows = _rows(said)
    if not names or not rows:
        return said
    _refuse_others(names, list(dict.fromkeys(name for row in rows for name in row)))
    for row in rows:
        for name in [name for name in row if name not in names]:
            del row[name]
    return said


def _refuse_others(names: Iterable[str], known: Collection[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        words = f"There is no field {unknown[0][:80]} here. Choose among: {', '.join(known)}."
        raise Invalid([FieldProblem("fields", "choices", words)])


def _refuse_unknown(scope: Scope, fields: Collection[str], expand: Collection[str]) -> None:
    """The same of a list in which nothing is, by what the address says of its rows: a misspelt name is told at once."""
    shape = _row_of(getattr(scope.get("route"), "response_model", None))
    for name in expand:
        if "GET" not in methods_at({**scope, "path": f"{scope['path']}/any/{name}"}):
            raise _not_expanded(name)
    if shape is not None:
        _refuse_others(fields, [*shape.model_fields, *expand])


def _row_of(shape: Any) -> type[BaseModel] | None:
    """What a row looks like, of a list or of a page; None when an address does not say."""
    if isinstance(shape, type) and issubclass(shape, BaseModel) and "items" in shape.model_fields:
        shape = shape.model_fields["items"].annotation
    rows = get_args(shape) if get_origin(shape) is list else ()
    return rows[0] if rows and isinstance(rows[0], type) and issubclass(rows[0], BaseModel) else None


def _not_expanded(name: str) -> Invalid:
    words = f"There is nothing {name[:80]} below this address that can be expanded. Ask for it at its own address."
    return Invalid([FieldProblem("expand", "choices", words)])


def _tag(answer: Answer) -> bytes:
    """Weak, because an answer may be compressed on its way; of a file of its own it is the file's."""
    own = answer.header(b"etag")
    return own or b'W/"%s"' % hashlib.sha256(answer.body).hexdigest()[:32].encode()


def _matches(asked: bytes, tag: bytes, *, empty: bool = True) -> bool:
    """Whether an ETag is among those that were asked for; * is any that there is."""
    if not asked:
        return empty
    wanted = [each.strip().removeprefix(b"W/") for each in asked.split(b",")]
    return bool(tag) and (b"*" in wanted or tag.removeprefix(b"W/") in wanted)


def _link(scope: Scope, body: bytes) -> str:
    """Where the next page is, and the first (RFC 8288)."""
    if not body.startswith(b'{"items":'):
        return ""
    cursor = json.loads(body).get("next")
    query = {
        name: values for name, values in parse_qs(scope["query_string"].decode("latin-1")).items() if name != "cursor"
    }
    links = []
    if cursor:
        links.append(f'<{scope["path"]}?{urlencode({**query, "cursor": cursor}, doseq=True)}>; rel="next"')
    first = f"?{urlencode(query, doseq=True)}" if query else ""
    links.append(f'<{quote(scope["path"])}{first}>; rel="first"')
    return ", ".join(links)
