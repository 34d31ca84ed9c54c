"""How is the application built? Middleware, doors, and which problem becomes which status."""

import json
import logging
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import app.api
import app.web
from app.api.pleasant import Pleasant, methods_at
from app.api.redcap.decoding import TOO_LARGE
from app.api.redcap.errors import unreadable
from app.api.wrong import field_problem
from app.audit.actions import record_refusal
from app.audit.clocks import read_clocks
from app.dependencies import (
    READ_IS_LOGGED,
    WHOLE_PAGE,
    AlreadyAnswered,
    ChangedMeanwhile,
    SecondFactorNeeded,
    SignInNeeded,
    TokenNeeded,
    changed_meanwhile,
    is_unattended,
    problem_json,
)
from app.foundation import clock
from app.foundation.crypto.keys import Keyring
from app.foundation.database import Database
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Problem, Refused
from app.foundation.failures import told
from app.foundation.languages import SOURCE, in_language
from app.foundation.turns import OneByOne, short_turns
from app.rendering import STATIC
from app.reports.kept import KeptCounts
from app.settings import Settings
from app.signposts import Signposts
from app.web import sign_in
from app.web.shell import problem_page, too_large_page

log = logging.getLogger("equipoise")
ROOT = Path(__file__).parent.parent

STATUS: dict[type[Problem], tuple[int, str]] = {
    NotFound: (404, "Not found"),
    NotAllowed: (403, "Not allowed"),
    Refused: (409, "Refused"),
    Conflict: (409, "Somebody saved first"),
    Invalid: (422, "Not valid"),
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
UNREADABLE = "The body of this request cannot be read. Send what its Content-Type says, and not nested so deep."
STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class Guard:
    """Outermost: a request id, the security headers, and no unsafe request from another origin (SEC-13 to SEC-16)."""

    def __init__(self, inner: ASGIApp, settings: Settings) -> None:
        self.inner = inner
        self.headers = [*HEADERS, STRICT_TRANSPORT] if settings.secure_cookies else HEADERS
        self.largest_body, self.largest_sent = settings.largest_body, settings.largest_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        request_id = scope.setdefault("state", {})["request_id"] = secrets.token_hex(8)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in self.headers if name not in given),
                ]
                if b"cache-control" not in given:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        most = self.largest_sent if _brings_files(scope) else self.largest_body
        if _announced(scope) > most:
            await _too_large(scope, most)(scope, receive, guarded)
            return
        if scope["method"] in ("POST", "PUT", "PATCH", "DELETE") and _from_elsewhere(scope):
            refused = PlainTextResponse("This request came from another site. Open Equipoise itself.", 403)
            await refused(scope, receive, guarded)
            return
        try:
            await self.inner(scope, receive, guarded)
        except ClientDisconnect:  # the browser left while a file was on its way
            raise
        except Exception as error:  # answered within, unless an answer had begun; here it is known by its number
            log.error("request %s failed: %s", request_id, told(error), exc_info=settings_debug())
            raise


def _announced(scope: Scope) -> int:
    """How many bytes a request says it will send."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _brings_files(scope: Scope) -> bool:
    """Whether a request may be as large as a file: a form with files, or a file over REST. Each address has the last
    word: most take no more than others do."""
    kind, path = dict(scope["headers"]).get(b"content-type", b""), scope["path"]
    if kind.startswith(b"multipart/form-data"):
        return True
    if not path.startswith("/api/"):
        return False
    if scope["method"] == "PUT":
        return "/files/" in path
    return "/entries/import" in path or path.endswith(("/study-imports", "/draft-folders", "/consent-scans"))


def _too_large(scope: Scope, most: int) -> Response:
    if scope["path"] == "/api/":
        return unreadable(TOO_LARGE, 413)
    if scope["path"].startswith("/api/"):
        return problem_json(413, None, "Too large", detail=_what_is_taken(most))
    return too_large_page(Request(scope))


def _from_elsewhere(scope: Scope) -> bool:
    """Whether a browser says that an unsafe request was made by another site. Programs send neither header."""
    headers = dict(scope["headers"])
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    return origin is not None and origin.split(b"://")[-1] != headers.get(b"host")


class CachedStatic(StaticFiles):
    """Static files; their address carries a hash of their content, so they may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        hashed = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response


DOCUMENT: dict[str, Any] = {}
_DESCRIBING = threading.Lock()


class Guarded(FastAPI):
    """The application with its guard around everything, its answers to failures and to bodies too large included."""

    _describing: subprocess.Popen[bytes] | None = None

    def build_middleware_stack(self) -> ASGIApp:
        return Guard(super().build_middleware_stack(), self.state.settings)

    def openapi(self) -> dict[str, Any]:
        """The document of the JSON doors, which are the same in every application of a process: a second one's work."""
        with _DESCRIBING:
            if not DOCUMENT:
                with short_turns():
                    DOCUMENT.update(super().openapi())
        return DOCUMENT

    def describe_elsewhere(self) -> None:
        """Have another process make the document, which gives way to all others.

        Made here it would take the interpreter from every page for seconds: they took two to four times as long.
        """
        with subprocess.Popen([sys.executable, "-m", "app.main"], cwd=ROOT, stdout=subprocess.PIPE) as self._describing:
            assert self._describing.stdout is not None
            said = self._describing.stdout.read()
        if self._describing.returncode == 0:  # else it is made when somebody asks for it
            with _DESCRIBING:
                DOCUMENT.update(json.loads(said))

    def stop_describing(self) -> None:
        """Nobody waits for the document any more."""
        if self._describing is not None:
            self._describing.kill()


def create_app(settings: Settings, database: Database, *, described_after: float | None = None) -> FastAPI:
    """The whole application on one database.

    `described_after`: seconds from its start until it has the document of its JSON doors made, before anybody asks for
    it; None makes it when it is asked for.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        database.refuse_unsafe_settings()
        _tell_of_clocks(database, settings)
        early = None
        if described_after is not None:
            early = threading.Timer(described_after, application.describe_elsewhere)
            early.daemon = True
            early.start()
        yield
        if early is not None:
            early.cancel()
            application.stop_describing()

    application = Guarded(
        title="Equipoise",
        version="1",
        summary="Runs randomised clinical trials: consent, concealed randomisation, blinded capture, exports.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url=None,  # below: the framework's own would keep everybody waiting while it is made
        lifespan=lifespan,
        max_body_size=settings.largest_body,
        # Traces would carry addresses with participant codes in them (libraries.md finding 2).
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    application.state.settings = settings
    application.state.database = database
    application.state.counts = KeptCounts(database)
    application.state.kept = {}
    application.state.changes = OneByOne()
    application.mount("/static", CachedStatic(directory=STATIC), name="static")

    @application.api_route("/healthz", methods=["GET", "HEAD"], include_in_schema=False)
    def healthz() -> PlainTextResponse:
        with database.reading() as session:
            session.execute(text("SELECT 1"))
        return PlainTextResponse("ok")

    @application.get("/api/v1/openapi.json", name="openapi", include_in_schema=False)
    def described() -> JSONResponse:
        return JSONResponse(application.openapi())

    app.api.add_to(application)
    application.router.routes.extend(app.web.router.routes)
    application.router.routes.insert(0, Signposts(application.router.routes))
    _handle_problems(application)

    application.add_middleware(Pleasant, a_minute=settings.api_requests_a_minute)
    application.add_middleware(GZipMiddleware, minimum_size=600, compresslevel=5)
    return application


def _tell_of_clocks(database: Database, settings: Settings) -> None:
    """A line for each clock that is wrong; never a reason not to start."""
    try:
        with database.reading() as session:
            found = read_clocks(session, clock.now).problems(timedelta(seconds=settings.clock_seconds))
    except SQLAlchemyError as problem:  # such as a schema that is not up to date, of which others tell
        log.warning("clocks not compared: %s", type(problem).__name__)
        return
    for wrong_clock in found:
        log.warning("%s", wrong_clock)


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _handle_problems(application: FastAPI) -> None:
    def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        status, title = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
        _write_down(request, error)
        if _is_api(request):
            extra: dict[str, Any] = {}
            if isinstance(error, Conflict) and error.current_version is not None:
                extra["current_version"] = error.current_version
            if isinstance(error, NotFound) and error.reason == NotFound().reason:
                extra["detail"] = _not_here(request)
            return problem_json(status, error, title, **extra)
        if names := getattr(request.state, "names", None):
            error.told(lambda text: in_language(text, request.state.language, names))
        return problem_page(request, status, title, error.reason)

    def sign_in_needed(request: Request, error: Exception) -> Response:
        assert isinstance(error, SignInNeeded)
        if is_unattended(request):
            return Response(headers=WHOLE_PAGE)  # which then leads to the sign-in, and back
        return sign_in.ask_to_sign_in(request, error.typed)

    def second_factor_needed(_: Request, __: Exception) -> Response:
        return RedirectResponse("/account?needed=second-factor", status_code=303)

    def already_answered(_: Request, error: Exception) -> Response:
        assert isinstance(error, AlreadyAnswered)
        answer = error.answer
        headers = {"Location": answer.location} if answer.location else {}
        headers["Idempotent-Replay"] = "true"
        media_type = "application/json" if answer.body is not None else None
        return Response(answer.body, answer.status, headers=headers, media_type=media_type)

    def token_needed(_: Request, __: Exception) -> Response:
        response = problem_json(401, None, "Not signed in", detail="Send a valid token as Authorization: Bearer.")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def changed(_: Request, error: Exception) -> Response:
        return changed_meanwhile(str(error))

    def not_valid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = [field_problem(each) for each in error.errors()]
        if _is_api(request):
            return problem_json(422, Invalid(problems), "Not valid")
        return problem_page(request, 404, "Not found", NotFound().reason)

    def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if _is_api(request):
            titles = {404: "Not found", 405: "Method not allowed", 413: "Too large"}
            most = request.scope.get(MAX_BODY_SIZE_SCOPE_KEY, request.app.state.settings.largest_body)
            known = {400: UNREADABLE, 404: _not_here(request), 413: _what_is_taken(most)}
            words = known.get(error.status_code) or _detail(error)
            headers = {**(error.headers or {})}
            if error.status_code == 405 and (allowed := methods_at(request.scope)):
                headers["Allow"] = ", ".join(allowed)
                if words != READ_IS_LOGGED:
                    words = f"Nothing is done here by this method. Send one of these: {headers['Allow']}."
            title = titles.get(error.status_code, "Error")
            answer = problem_json(error.status_code, None, title, detail=words)
            answer.headers.update(headers)
            return answer
        title = "Not found" if error.status_code == 404 else "This cannot be done so"
        response = (
            too_large_page(request)
            if error.status_code == 413
            else problem_page(request, error.status_code, title, _detail(error))
        )
        response.headers.update(error.headers or {})
        return response

    def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=400)  # the browser left while it was sending; nobody reads this

    def unexpected(request: Request, _: Exception) -> Response:
        words = f"Something went wrong, and nothing was saved. Tell your administrator: {request.state.request_id}."
        if _is_api(request):
            return JSONResponse(
                {"type": "about:blank", "title": "Error", "status": 500, "detail": words},
                status_code=500,
                media_type="application/problem+json",
            )
        typed = request.scope["state"].get("typed") if request.method == "POST" else None
        return problem_page(request, 500, "Something went wrong", words, typed=typed)

    handlers: list[tuple[Any, Any]] = [
        (Problem, problem),
        (SignInNeeded, sign_in_needed),
        (SecondFactorNeeded, second_factor_needed),
        (AlreadyAnswered, already_answered),
        (TokenNeeded, token_needed),
        (ChangedMeanwhile, changed),
        (RequestValidationError, not_valid),
        (HTTPException, http_error),
        (ClientDisconnect, gone),
        (Exception, unexpected),
    ]
    for kind, handler in handlers:
        application.add_exception_handler(kind, handler)


def settings_debug() -> bool:
    """Whether tracebacks go to the log: only when Python runs in development mode."""
    import sys

    return sys.flags.dev_mode


def _what_is_taken(most: int) -> str:
    return (
        f"This is larger than can be sent at once: at most {most} bytes are taken here. Send it in parts, or ask your "
        "administrator to raise the limit."
    )


def _not_here(request: Request) -> str:
    """What a program does next where nothing is, or nothing that is theirs to know: the same in both cases."""
    if request.url.path.endswith("/"):
        return "No address here ends with a slash. Leave it out."
    return (
        "There is nothing at this address, or it is not yours to know. Compare its parts with the addresses in "
        "/api/v1/openapi.json."
    )


def _detail(error: HTTPException) -> str:
    if error.status_code == 404:
        return NotFound().reason
    return str(error.detail)


def _write_down(request: Request, problem: Problem) -> None:
    """A refused or not allowed attempt stays on record, in a transaction of its own."""
    actor = getattr(request.state, "actor", None)
    if actor is None or problem.recorded or not isinstance(problem, Refused | NotAllowed):
        return
    study = getattr(request.state, "study", None)
    database: Database = request.app.state.database
    if names := getattr(request.state, "names", None):  # a page had it in the words of its reader
        problem.told(lambda text: in_language(text, SOURCE, names.backwards))
    with database.writing() as session:
        record_refusal(session, study.code if study else None, problem, by=actor, now=clock.now())


if __name__ == "__main__":  # what `describe_elsewhere` asks: no database is opened for it, and no key
    os.nice(19)
    json.dump(create_app(Settings(), Database(f"sqlite:///{os.devnull}", Keyring(bytes(32)))).openapi(), sys.stdout)
