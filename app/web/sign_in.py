"""How does a person get in and out? Sign-in, the code of a second factor, choosing a first password, sign-out.

When a session ends under a form, what was typed travels through the sign-in and is sent again afterwards, by the
person's own click: nothing typed is lost (promise 6).
"""

import base64
import json
from datetime import timedelta
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlmodel import Session

from app.dependencies import (
    LANGUAGE_COOKIE,
    ChangeAnywhere,
    Form,
    PageAnywhere,
    Reading,
    TypedForm,
    Writing,
    cookie_name,
    database_of,
    language_of,
    masked,
    one,
    passkey_place,
    settings_of,
    unmasks,
)
from app.foundation import clock
from app.foundation.crypto.envelopes import CannotOpen, open_sealed, seal
from app.foundation.errors import NotFound
from app.foundation.languages import languages
from app.people import actions, reads
from app.people.access import may
from app.people.permissions import Permission, Role
from app.people.rules import PASSKEY_WRONG
from app.rendering import Viewer, page
from app.web.new_study import URL, next_steps
from app.web.pages import pages
from app.web.shell import SECRETS, show

router = pages()

CHOSEN = "password_kept"
CARRIED = "form carried through the sign-in"
NEVER_CARRIED = SECRETS | {"csrf_token"}


def safe_path(path: str) -> str:
    """A path of this installation, or the start page: nobody is sent elsewhere by a link (open redirect)."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if plain and "\\" not in path else "/"


def plain_viewer(request: Request) -> Viewer:
    """Somebody we do not know."""
    return Viewer(theme=request.cookies.get("theme", ""), language=language_of(request))


def ask_to_sign_in(request: Request, typed: Form | None) -> Response:
    """What a page answers when nobody is signed in: a GET leads to the sign-in, a form is kept and carried along."""
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if typed is None:
        if path == "/":
            return RedirectResponse("/sign-in", status_code=303)
        from urllib.parse import quote

        return RedirectResponse(f"/sign-in?next={quote(path, safe='')}", status_code=303)
    if request.method != "POST":  # a draft that saves itself: the page goes on and says so
        return Response(status_code=401)
    # Whose it was is said by the cookie, and by the form itself when the cookie is gone. When neither says it, nothing
    # leaves a room that blinded people do not know.
    settings, token = settings_of(request), one(typed, "csrf_token")
    with database_of(request).reading() as session:
        owner = reads.owner_of_session(session, request.cookies.get(cookie_name(settings), ""))
        if owner is None and token:
            # A session can be no older; tokens of earlier ones are not tried.
            since = clock.now() - 2 * timedelta(hours=settings.session_hours)
            owner = reads.owner_of_form(session, lambda secret: unmasks(token, secret), since=since)
    hidden = owner is None and bool({"treatment", "sequence"} & set(path.split("/")))
    carried = "" if hidden else _carry(request, path, owner, typed)
    return _form(request, next_path=path, carried=carried, status_code=401, ended=bool(carried))


def _carry(request: Request, path: str, owner: int | None, typed: Form) -> str:
    """What was typed, sealed for its owner: the sign-in page of a shared computer shows nothing of it."""
    kept = json.dumps([owner, {name: list(values) for name, values in typed.items() if name not in NEVER_CARRIED}])
    size = -(-len(kept.encode()) // 4096) * 4096
    key = database_of(request).keys.derive(CARRIED)
    return base64.urlsafe_b64encode(seal(key, kept.encode(), bound_to=(CARRIED, path), size=size)).decode()


def _form(
    request: Request,
    *,
    next_path: str,
    carried: str = "",
    status_code: int = 200,
    problem: str | None = None,
    username: str = "",
    needs_code: bool = False,
    passkey: actions.PasskeyAsked | None = None,
    ended: bool = False,
) -> Response:
    return page(
        request,
        "sign_in/sign_in.html",
        viewer=plain_viewer(request),
        status_code=status_code,
        next_path=safe_path(next_path),
        carried=carried,
        problem=problem,
        username=username,
        needs_code=needs_code,
        passkey=passkey,
        ended=ended,
        chosen=request.method == "GET" and request.query_params.get("done") == CHOSEN,
        demo=settings_of(request).demo,
    )


@router.get("/sign-in", name="sign_in.sign_in")
def sign_in(request: Request, next: str = "/") -> Response:  # noqa: A002 the word of the address
    """The sign-in page."""
    return _form(request, next_path=next)


_weighing: RunVar[CapacityLimiter] = RunVar("_weighing")


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _weigh(request: Request, form: Form) -> actions.Weighed | actions.SignInResult:
    now = clock.now()
    with database_of(request).reading() as session:
        before = actions.before_sign_in(session, username=one(form, "username"), address=_address(request), now=now)
    if before.throttled is not None:
        return actions.SignInResult(problem=before.throttled)
    return actions.weigh(before.stored, form.get("password", [""])[-1])


async def weighed_sign_in(request: Request, form: TypedForm) -> actions.Weighed | actions.SignInResult:
    """The password held against what is stored, or the wait that is still to come, before anything is locked.

    Strangers wait for one another here and hold none of the threads that pages are made in.
    """
    try:
        limiter = _weighing.get()
    except LookupError:
        limiter = CapacityLimiter(actions.HASHES_AT_ONCE)
        _weighing.set(limiter)
    return await to_thread.run_sync(_weigh, request, form, limiter=limiter)


WeighedSignIn = Annotated[actions.Weighed | actions.SignInResult, Depends(weighed_sign_in)]


@router.post("/sign-in", name="sign_in.check")
def check(request: Request, weighed: WeighedSignIn, session: Writing, form: TypedForm) -> Response:
    """Check who it is; then go where they were going, or show what they had typed so that they can send it."""
    if isinstance(weighed, actions.SignInResult):
        result = weighed
    else:
        result = actions.sign_in(
            session,
            username=one(form, "username"),
            password=form.get("password", [""])[-1],
            code=one(form, "code") or one(form, "recovery_code") or None,
            browser=_browser(request),
            weighed=weighed,
        )
    return _answer(request, session, form, result)


@router.post("/sign-in/passkey", name="sign_in.check_passkey")
def check_passkey(request: Request, session: Writing, form: TypedForm) -> Response:
    """The second step of somebody who has a passkey: then as after any sign-in."""
    answer = one(form, "passkey")
    with database_of(request).reading() as looking:  # strangers hold up nobody
        asked = actions.asked_at_sign_in(looking, answer)
    if not asked:
        return _answer(request, session, form, actions.SignInResult(problem=PASSKEY_WRONG))
    attempt = one(form, "attempt")
    result = actions.sign_in_with_passkey(session, attempt=attempt, answer=answer, browser=_browser(request))
    return _answer(request, session, form, result)


def _browser(request: Request) -> actions.Browser:
    settings = settings_of(request)
    return actions.Browser(
        now=clock.now(),
        absolute=timedelta(hours=settings.session_hours),
        address=_address(request),
        name=request.headers.get("User-Agent", "")[:200],
        earlier_token=request.cookies.get(cookie_name(settings)),
        request_id=request.state.request_id,
        place=passkey_place(request),
    )


def _answer(request: Request, session: Session, form: Form, result: actions.SignInResult) -> Response:
    """On to where they were going, with a cookie; or the sign-in page again, with what is still missing."""
    settings = settings_of(request)
    next_path, carried = safe_path(one(form, "next", "/")), one(form, "carried")
    if result.token is None:
        return _form(
            request,
            next_path=next_path,
            carried=carried,
            status_code=401,
            problem=result.problem,
            username=one(form, "username"),
            needs_code=result.needs_code,
            passkey=result.passkey,
        )
    response: Response
    assert result.person is not None
    typed = _typed(request, next_path, carried, result.person.id) if carried else []
    if typed:
        begun = reads.signed_in(
            session,
            result.token,
            now=clock.now(),
            idle=timedelta(minutes=settings.idle_minutes),
            absolute=timedelta(hours=settings.session_hours),
        )
        assert begun is not None
        response = page(
            request,
            "sign_in/resume.html",
            viewer=plain_viewer(request),
            path=next_path,
            typed=typed,
            csrf_token=masked(begun.csrf_token),
        )
    else:
        response = RedirectResponse(next_path, status_code=303)
    response.set_cookie(
        cookie_name(settings),
        result.token,
        max_age=settings.session_hours * 3600,
        path="/",
        secure=settings.secure_cookies,
        httponly=True,
        samesite="lax",
    )
    return response


def _typed(request: Request, path: str, carried: str, person_id: int) -> list[tuple[str, str]]:
    """The fields that were carried through the sign-in; nothing when they are not as we sealed them, or another's."""
    try:
        sealed = base64.urlsafe_b64decode(carried.encode())
        kept = open_sealed(database_of(request).keys.derive(CARRIED), sealed, bound_to=(CARRIED, path))
    except (CannotOpen, ValueError):
        return []
    owner, found = json.loads(kept)
    if owner not in (None, person_id):
        return []
    return [(name, value) for name, values in found.items() for value in values]


@router.post("/sign-out", name="sign_in.sign_out")
def sign_out(here: ChangeAnywhere) -> Response:
    """End this session, here and in the browser."""
    token = here.request.cookies.get(cookie_name(here.settings), "")
    actions.sign_out(here.session, token, now=here.now, request_id=here.actor.request_id)
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(
        cookie_name(here.settings), path="/", secure=here.settings.secure_cookies, httponly=True, samesite="lax"
    )
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


@router.get("/welcome/{token}", name="sign_in.welcome")
def welcome(request: Request, token: str, session: Reading) -> Response:
    """Choose the first password (or a new one), by a link that works once."""
    person = reads.invited_person(session, token, now=clock.now())
    if person is None:
        raise NotFound("This link was used or is too old. Ask your administrator for a new one.")
    return _welcome(request, token, person.username, None)


def _welcome(request: Request, token: str, username: str, problem: str | None) -> Response:
    return page(
        request,
        "sign_in/welcome.html",
        viewer=plain_viewer(request),
        status_code=422 if problem else 200,
        token=token,
        username=username,
        problem=problem,
    )


@router.post("/welcome/{token}", name="sign_in.choose_password")
def choose_password(request: Request, token: str, session: Writing, form: TypedForm) -> Response:
    """Keep the password they chose; nobody else ever knows it."""
    with database_of(request).reading() as looking:
        person = reads.invited_person(looking, token, now=clock.now())
    if person is None:
        raise NotFound("This link was used or is too old. Ask your administrator for a new one.")
    password = form.get("new_password", [""])[-1]
    if password != form.get("new_password_again", [""])[-1]:
        return _welcome(request, token, person.username, "The two passwords are not the same. Type both again.")
    chosen = actions.chosen(password)  # before the change takes its lock
    by_request = request.state.request_id
    problem = actions.accept_invitation(session, token, password, now=clock.now(), request_id=by_request, chosen=chosen)
    if problem is not None:
        return _welcome(request, token, person.username, problem)
    return RedirectResponse(f"/sign-in?done={CHOSEN}", status_code=303)


@router.get("/", name="sign_in.start")
def start(here: PageAnywhere) -> Response:
    """The studies a person works in; straight to the only one when there is just one."""
    from app.studies.reads import all_studies

    assert here.signed_in is not None
    is_administrator = Role.ADMINISTRATOR in here.actor.roles
    mine = [
        study
        for study in all_studies(here.session)
        if study.version_id is not None and (is_administrator or here.signed_in.grants.get(study.id))
    ]
    if len(mine) == 1 and not is_administrator:
        return RedirectResponse(f"/{mine[0].code}", status_code=303)
    may_begin = may(here.actor, Permission.STUDY_LOAD)
    steps = next_steps(here.session, by=here.actor) if may_begin and not mine else []
    return show(here, "sign_in/start.html", studies=mine, may_begin=may_begin, steps=steps, begin_url=URL)


@router.post("/language", name="sign_in.language")
def language(request: Request, form: TypedForm) -> Response:
    """The language of the pages in this browser, kept in a cookie of a year; what a person chose goes before it."""
    response = RedirectResponse(safe_path(one(form, "back", "/")), status_code=303)
    keep_language(request, response, one(form, "language"))
    return response


def keep_language(request: Request, response: Response, chosen: str) -> None:
    """Keep a language in the browser, or (empty, or none of ours) leave it to the browser's own wishes."""
    secure = settings_of(request).secure_cookies
    if chosen in languages():
        response.set_cookie(
            LANGUAGE_COOKIE, chosen, max_age=31_536_000, path="/", samesite="lax", httponly=True, secure=secure
        )
    else:
        response.delete_cookie(LANGUAGE_COOKIE, path="/", samesite="lax", httponly=True, secure=secure)


@router.post("/theme", name="sign_in.theme")
def theme(request: Request, form: TypedForm) -> Response:
    """Light, dark or as the device says: kept in a cookie of a year."""
    chosen, secure = one(form, "theme"), settings_of(request).secure_cookies
    response = RedirectResponse(safe_path(one(form, "back", "/")), status_code=303)
    if chosen in ("light", "dark"):
        response.set_cookie("theme", chosen, max_age=31_536_000, path="/", samesite="lax", httponly=True, secure=secure)
    else:
        response.delete_cookie("theme", path="/", samesite="lax", httponly=True, secure=secure)
    return response
