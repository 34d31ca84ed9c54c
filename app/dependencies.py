"""Who asks, in which study, with which session, at what time? What every door is handed.

Two sessions: reading for pages, writing for changes. `scope="function"` makes the writing session commit *before* the
reply leaves; with the default scope a failed commit would still be answered with "saved" (exemplars.md section 12).
"""

import hashlib
import inspect
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, wraps
from typing import Annotated, Any, TypeVar, get_args
from urllib.parse import quote, unquote_to_bytes

from anyio import CancelScope
from fastapi import Depends, Header, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from app.amendments.reads import study_as_made
from app.audit.actions import record_refusal
from app.audit.newest import Newest, Remembering, newest_in, written
from app.foundation import clock, idempotency
from app.foundation.ahead import Soon
from app.foundation.crypto.passkeys import Place, place_of
from app.foundation.crypto.secrets import same
from app.foundation.database import Database, afterwards, end, leave, only_reads, soon, undo
from app.foundation.errors import FieldProblem, Invalid, NotAllowed, NotFound, Problem
from app.foundation.json_parts import members, text_of
from app.foundation.languages import SOURCE, Names, asked_for, in_language, nearest
from app.foundation.turns import OneByOne, short_turns
from app.participants.reads import study_of_participant
from app.people import actions
from app.people import reads as people
from app.people.access import Actor, may
from app.people.permissions import Permission
from app.people.rules import PASSKEY_MISSING, PASSKEY_ON_PAGES, SECOND_FACTOR_NEEDED, SECOND_MISSING, SEEN_EVERY
from app.settings import Settings
from app.studies.definition import Study
from app.studies.in_use import StudyInUse, in_use
from app.studies.texts import labels_in, study_in

Form = Mapping[str, Sequence[str]]

READ_IS_LOGGED = "That this is read is written down, so it is not asked for without being read. Send GET."

LARGEST_UPLOAD: int = Settings.model_fields["largest_upload"].default
"""Of an address that takes files: bytes of the largest request, where the settings say nothing else (`Address`)."""


class SignInNeeded(Exception):
    """Nobody is signed in, or the session ended. `typed` is what was posted, so that it can be sent again."""

    def __init__(self, typed: Form | None = None) -> None:
        super().__init__("Sign in to go on.")
        self.typed = typed


class SecondFactorNeeded(Exception):
    """This study asks for a second factor that this session has not shown."""


class AlreadyAnswered(Exception):
    """The same request was answered before; here is that answer again."""

    def __init__(self, answer: idempotency.Answer) -> None:
        super().__init__()
        self.answer = answer


Kept = TypeVar("Kept")


def database_of(request: Request) -> Database:
    """The database of this installation."""
    database: Database = request.app.state.database
    return database


def settings_of(request: Request) -> Settings:
    """The settings of this installation."""
    settings: Settings = request.app.state.settings
    return settings


async def reading(request: Request) -> AsyncIterator[Session]:
    """A session for a page: one snapshot, nothing is written."""
    async with _lent(database_of(request).reading()) as session:
        yield session


async def writing(request: Request) -> AsyncIterator[Session]:
    """A session for a change: commits before the reply leaves, or leaves nothing behind."""
    async with _lent(database_of(request).writing()) as session:
        yield session


async def writing_in_turn(request: Request) -> AsyncIterator[Session]:
    """The same for the changes of a study that take their turn in this process: until this one is committed.

    Whoever waits has no thread. Not for what takes long: others would wait for it (decision 0027).
    """
    waiting: OneByOne = request.app.state.changes
    async with waiting.turn(request.path_params["study"]), _lent(database_of(request).writing()) as session:
        yield session


@asynccontextmanager
async def _lent(opened: AbstractContextManager[Session]) -> AsyncIterator[Session]:
    """A session for one request. To open it asks the database nothing, and mostly nor does its end (see `ending`).

    Where it does, that is in a thread, and also when whoever asked has gone away.
    """
    with opened as session:
        try:
            yield session
        except BaseException:
            await _in_a_thread(undo, session)
            raise
        await _in_a_thread(end, session)


async def _in_a_thread(ends: Callable[[Session], None], session: Session) -> None:
    if session.in_transaction():
        with CancelScope(shield=True):
            await run_in_threadpool(ends, session)


class Opening:
    """A `Here` that is opened by the thread which goes on with it; to wake another takes as long as a statement or two.

    The threads of a process take turns, and whoever asks for one in between waits behind all others.
    """

    __slots__ = ("_function", "_values")

    def __init__(self, function: Callable[..., "Here"], values: Mapping[str, Any]) -> None:
        self._function, self._values = function, values

    def __call__(self) -> "Here":
        """Open it; raises whatever keeps this person out."""
        return self._function(**opened(self._values))


def later(function: Callable[..., "Here"]) -> Callable[..., Awaitable[Opening]]:
    """A dependency that opens a `Here`, for `Depends`: it is opened where its address is answered (`ending`).

    Only once everything else of the request is understood, so `known_first` stands around such an address.
    """

    async def asked(**values: Any) -> Opening:
        if (request := values.get("request")) is not None:
            request.state.asks_who = True
        return Opening(function, values)

    asked.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return asked


def opened(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a function, with what is to be opened among them."""
    return {name: value() if isinstance(value, Opening) else value for name, value in values.items()}


def ending(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The function of an address; the session it was given is ended in its thread as soon as its answer stands.

    Otherwise that comes after the event loop's turn, in another thread: others would wait for it with the rows that a
    change holds, and each change of threads takes as long as a statement.
    """

    @wraps(endpoint)
    def ended(**values: Any) -> Any:
        values = opened(values)
        answer = endpoint(**values)
        if isinstance(answer, Response):
            for value in values.values():
                if isinstance(value, Here):
                    end(value.session)
                elif isinstance(value, Session):
                    end(value)
        return answer

    return ended


Reading = Annotated[Session, Depends(reading, scope="function")]
Writing = Annotated[Session, Depends(writing, scope="function")]
WritingInTurn = Annotated[Session, Depends(writing_in_turn, scope="function")]


async def read_form(request: Request) -> dict[str, list[str]]:
    """A posted form as name -> values. Files are read to their bytes elsewhere; here only their names."""
    if request.method in ("GET", "HEAD"):
        return {}
    form = await request.form(max_fields=5000)
    typed: dict[str, list[str]] = {}
    sent: dict[str, str] = {}
    for name, value in form.multi_items():
        typed.setdefault(name, []).append(value.filename or "" if isinstance(value, UploadFile) else value)
        if isinstance(value, UploadFile) and value.filename:
            # A second file of the same name, sent from the same page, is another request.
            sent[name] = hashlib.sha256(await value.read()).hexdigest()
            await value.seek(0)
    request.state.sent = sent
    request.state.typed = typed  # to be handed back should anything break
    return typed


TypedForm = Annotated[dict[str, list[str]], Depends(read_form)]


@dataclass(frozen=True)
class Sent:
    """A file that was sent with a form. Its name is whatever the browser says."""

    name: str
    data: bytes = field(repr=False)


async def read_files(request: Request) -> dict[str, Sent]:
    """The files that were sent with a form, by field; a request body has a largest size anyway."""
    form = await request.form(max_fields=5000)
    found = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and value.filename:
            found[name] = Sent(value.filename, await value.read())
            await value.seek(0)
    return found


SentFiles = Annotated[dict[str, Sent], Depends(read_files)]


def one(form: Form, name: str, default: str = "") -> str:
    """The (last) value of a form field, without surrounding white space."""
    values = form.get(name)
    return values[-1].strip() if values else default


def cookie_name(settings: Settings) -> str:
    """`__Host-` binds the cookie to this very host over TLS (SEC-12)."""
    return "__Host-equipoise" if settings.secure_cookies else "equipoise"


def masked(secret: str) -> str:
    """A CSRF token for one page: different each time, so that compressing the page tells nothing about it (BREACH)."""
    nonce = secrets.token_hex(8)
    return f"{nonce}.{hashlib.sha256(f'{nonce}.{secret}'.encode()).hexdigest()}"


def unmasks(token: str, secret: str) -> bool:
    """Whether a page's CSRF token was made from this session's secret."""
    nonce, _, digest = token.partition(".")
    return same(digest, hashlib.sha256(f"{nonce}.{secret}".encode()).hexdigest())


LANGUAGE_COOKIE = "language"


def language_of(request: Request, *, chosen: str | None = None, study: StudyInUse | None = None) -> str:
    """The language of a page: chosen by the person, else by the browser's cookie or its wishes, else the study's."""
    wishes = (
        chosen,
        request.cookies.get(LANGUAGE_COOKIE),
        asked_for(request.headers.get("Accept-Language", "")),
        study.definition.language if study is not None else None,
    )
    return next((found for wish in wishes if wish and (found := nearest(wish)) is not None), SOURCE)


@dataclass
class Here:
    """Where a request stands: its session, person, study, time. `study` is None outside any study."""

    request: Request
    session: Session
    actor: Actor
    now: datetime
    study: StudyInUse | None = None
    signed_in: people.SignedIn | None = None
    form: Form = field(default_factory=dict)
    idempotency_key: str | None = None
    weighed: actions.Weighed | None = None
    chosen: actions.Chosen | None = None
    """A new password that was typed, hashed before the change took its lock."""
    claimed: tuple[str, bytes] | None = None
    """The key that this request claimed, and the body it is of."""
    remembered: bool = False
    """Whether the same request again has an answer."""
    draft: int | None = None
    """The draft of a study that a token is for, and for nothing else; its door has asked for such."""
    reads: str | None = None
    """The language of a link, which was chosen when it was made."""
    worded: bool = True
    """Whether the study is shown in the words of whoever reads; not to somebody who writes them."""

    @property
    def soon(self) -> Soon:
        """How a read is begun whose answer is wanted later on this page."""
        return soon(self.session)

    def begin(self) -> None:
        """Begin what every page in a study asks: its shell names the sites."""
        _ = self.my_sites

    def has_read(self) -> None:
        """All that this page shows is read: the database is done with it while it is put together."""
        leave(self.session)

    @cached_property
    def my_sites(self) -> Callable[[], tuple[people.SiteRow, ...]]:
        """The sites of the study at which this person works, by code."""
        return self.soon(people.sites_worked_at, self.session, self.the_study.id, by=self.actor)

    @property
    def the_study(self) -> StudyInUse:
        """The study of the address; only pages inside a study ask."""
        if self.study is None:
            raise NotFound
        return self.study

    @cached_property
    def language(self) -> str:
        """The language this person reads. Nothing of it depends on an arm."""
        if self.reads is not None:
            return self.reads
        return language_of(self.request, chosen=self.signed_in.language if self.signed_in else None, study=self.study)

    @property
    def in_study_words(self) -> bool:
        """Whether this page was asked for in the study's own words, whatever language its reader has chosen."""
        return not self.worded or self.request.query_params.get("words") == "study"

    @property
    def own_words(self) -> str:
        """What an address says that goes on in the study's own words."""
        return "?words=study" if self.in_study_words else ""

    @property
    def other_words(self) -> str | None:
        """This page in the study's own words, or back in those of its reader; None where they are the same, and where
        what was typed would be lost on the way.
        """
        study = self.the_study
        if self.request.method != "GET" or study.read_in(self.language).definition is study.own.definition:
            return None
        return f"{self.request.url.path}{'' if self.in_study_words else '?words=study'}"

    @property
    def read_study(self) -> StudyInUse:
        """The study in the words of whoever reads: what is shown, and never what is written down."""
        return self.the_study.own if self.in_study_words else self.the_study.read_in(self.language)

    def in_words(self, definition: Study) -> Study:
        """Another version of the study in the words of whoever reads."""
        return definition if self.in_study_words else study_in(definition, self.language)

    def shows(self) -> None:
        """From here on the study is only shown, in the words of whoever reads: nothing is written down any more."""
        if self.study is not None:
            self.study = self.read_study

    @cached_property
    def names(self) -> Names | None:
        """What of the study stands in sentences of ours, in the words of whoever reads."""
        if self.study is None or self.in_study_words:
            return None
        return labels_in(self.study.own.definition, self.language) or None

    def tell(self, text: str) -> str:
        """A sentence or a label of ours, in the language this person reads."""
        return in_language(text, self.language, self.names)

    def value(self, name: str, default: str = "") -> str:
        """What was typed into one field of the posted form, trimmed."""
        return one(self.form, name, default)

    @property
    def settings(self) -> Settings:
        return settings_of(self.request)

    def number(self, name: str) -> int:
        """A whole number from a field that the page filled in; 0 for anything else."""
        typed = self.value(name)
        return int(typed) if typed.isdecimal() and len(typed) < 10 else 0

    def refuse(self, problem: Problem) -> None:
        """Undo what was begun and write down the refusal, so that the page can be shown again with the reason."""
        self.session.rollback()
        if not isinstance(problem, Invalid):
            log = self.study.code if self.study else None
            record_refusal(self.session, log, problem, by=self.actor, now=self.now)
        self.shows()
        if self.names:
            problem.told(self.tell)

    def redirect(self, url: str, **query: str) -> Response:
        """See other: what follows a change. Remembered, so that a repeated request leads to the same place."""
        if query:
            from urllib.parse import urlencode

            url = f"{url}?{urlencode(query)}"
        self._remember(303, url, None)
        return RedirectResponse(url, status_code=303)

    def answer(self, body: Any, *, status: int = 200, location: str | None = None) -> Response:
        """A JSON answer to a write over REST, remembered under its Idempotency-Key."""
        text = json.dumps(body, default=str, ensure_ascii=False)
        self._remember(status, location, text)
        headers = {"Location": location} if location else {}
        return Response(text, status_code=status, headers=headers, media_type="application/json")

    def repeated_leads_to(self, url: str) -> None:
        """Where the same form, sent again, leads: its own answer is shown once and kept nowhere."""
        self._remember(303, url, None)

    def answer_once(self, body: Any, *, repeated: Any, status: int = 200, location: str | None = None) -> Response:
        """A JSON answer to a write over REST that is given once; the same request again gets `repeated`."""
        self.answer(repeated, status=status, location=location)
        text = json.dumps(body, default=str, ensure_ascii=False)
        headers = {"Location": location} if location else {}
        return Response(text, status_code=status, headers=headers, media_type="application/json")

    def remember(self, status: int, body: str) -> None:
        """Keep an answer that a door makes in a shape of its own."""
        self._remember(status, None, body)

    def _remember(self, status: int, location: str | None, body: str | None) -> None:
        self.remembered = True
        if self.idempotency_key:
            idempotency.remember_answer(
                self.session,
                person_id=self.actor.person_id,
                key=self.idempotency_key,
                status=status,
                location=location,
                body=body,
            )

    def release_key(self) -> None:
        """Give the request's key back: it was not carried out, and may be sent again."""
        if self.idempotency_key:
            idempotency.forget(self.session, person_id=self.actor.person_id, key=self.idempotency_key)
            self.idempotency_key = None

    def take_key(self, key: str | None, body: bytes) -> None:
        """Claim the request's key; AlreadyAnswered when this request was answered before."""
        if key is None:
            return
        path = f"{self.request.method} {self.request.url.path}\n".encode()
        answer = idempotency.earlier_answer(
            self.session, person_id=self.actor.person_id, key=key, request=path + body, now=self.now
        )
        if answer is not None:
            raise AlreadyAnswered(answer)
        self.idempotency_key, self.claimed = key, (key, body)

    @contextmanager
    def nobody_waits(self) -> Iterator[None]:
        """Whatever takes long and needs no database is done within; behind it the request is claimed again.

        AlreadyAnswered when the same request was faster.
        """
        self.release_key()
        self.session.commit()
        with short_turns():
            yield
        if self.claimed is not None:
            self.take_key(*self.claimed)


def _signed_in(
    request: Request, session: Session, now: datetime, typed: Form | None, *, study: str | None, touch: bool = True
) -> people.SignedIn:
    settings = settings_of(request)
    token = request.cookies.get(cookie_name(settings), "")
    found = (
        people.signed_in(
            session,
            token,
            now=now,
            idle=timedelta(minutes=settings.idle_minutes),
            absolute=timedelta(hours=settings.session_hours),
            study_code=study,
        )
        if token
        else None
    )
    if found is None:
        raise SignInNeeded(typed)
    if touch and now - found.seen_at > SEEN_EVERY:
        if only_reads(session):
            with database_of(request).writing() as other:
                actions.touch(other, found.token_hash, now=now)
        else:  # a second writer would wait for this very session on SQLite
            actions.touch(session, found.token_hash, now=now)
    return found


async def weighed_form(request: Request, form: TypedForm) -> actions.Weighed | None:
    """The password of a form, held against that of whoever sent it before the change takes its turn and its locks."""
    password, token = form.get("password", [""])[-1], request.cookies.get(cookie_name(settings_of(request)), "")

    def weighed() -> actions.Weighed | None:
        with database_of(request).reading() as session:
            owner = people.owner_of_cookie(session, token)
            return actions.weighed_again(session, owner, password, now=clock.now()) if owner is not None else None

    return await run_in_threadpool(weighed) if password and token else None


WeighedForm = Annotated[actions.Weighed | None, Depends(weighed_form)]


def _require_csrf(request: Request, signed_in: people.SignedIn, form: Form) -> None:
    token = request.headers.get("X-CSRF-Token") or one(form, "csrf_token")
    if not unmasks(token, signed_in.csrf_token):
        raise NotAllowed("This form is out of date. Go back, reload the page and send it again.", action="request.send")


def _here(
    request: Request,
    session: Session,
    form: Form,
    *,
    study: str | None,
    unsafe: bool,
    touch: bool = True,
    worded: bool = True,
    remembered: bool = True,
) -> Here:
    """Where somebody stands who is signed in. A page has the study in the words of whoever reads, if `worded`.

    A change is `remembered`, so that the same form, sent again, gets its first answer.
    """
    _refuse_nul_in_path(request)
    if touch:  # who asks is also to be known of a search that cannot be asked
        _refuse_nul_in_query(request)
    now = clock.now()
    typed = form if unsafe else None
    signed_in = _signed_in(request, session, now, typed, study=study, touch=touch)
    if unsafe:
        _require_csrf(request, signed_in, form)
    if study is not None and signed_in.study is None:
        raise NotFound
    here_in = _in_use(request, session, signed_in.study) if signed_in.study else None
    actor = people.actor_for(signed_in, here_in.id if here_in else None, request.state.request_id)
    request.state.actor = actor
    request.state.study = here_in
    if here_in is not None:
        if not actor.grants:
            raise NotFound
        if here_in.definition.second_factor == "required" and not signed_in.second_factor:
            raise SecondFactorNeeded
    here = Here(request, session, actor, now, here_in, signed_in, form, worded=worded)
    request.state.language = here.language  # for the page of a problem, which knows nobody
    request.state.names = here.names
    if not unsafe:
        here.shows()
    if unsafe and remembered:
        # The same form, sent again from the same page (a double click, a lost reply), is the same request.
        kept = {name: values for name, values in form.items() if name not in ("password", "code", "passkey")}
        sent = getattr(request.state, "sent", {})
        body = json.dumps([request.url.path, kept, *([sent] if sent else [])], sort_keys=True).encode()
        here.take_key(f"form-{idempotency.fingerprint(session, body).hex()}", body)
    return here


def _in_use(request: Request, session: Session, found: people.AskedStudy) -> StudyInUse:
    """The study of the address; with a participant in the address, as it holds at their site.

    A visit or an entry that an amendment took out is met as what it was when it was made.
    """
    study, parts = in_use(session, found), request.path_params
    code, visit = parts.get("code"), parts.get("visit")
    if not code:
        return study
    study = study_of_participant(session, study, code)
    return study_as_made(session, study, code, visit, parts.get("instrument")) if visit else study


WHOLE_PAGE = {"HX-Refresh": "true"}
"""Has a page that asked for a part of itself be loaded anew, as a whole."""


def is_unattended(request: Request) -> bool:
    """Whether a page asks by itself, from time to time, how something goes on."""
    return request.headers.get("X-Unattended") == "true"


def page_in_study(request: Request, session: Reading) -> Here:
    """A page inside a study. One that asks by itself keeps no session alive: nobody may be there any more."""
    # Read here and not declared: hundreds of pages would each have it analysed when the server starts.
    _refuse_nul_in_query(request)
    study = request.path_params["study"]
    here = _here(request, session, {}, study=study, unsafe=False, touch=not is_unattended(request))
    here.begin()
    return here


def logged_page_in_study(request: Request, session: Writing) -> Here:
    """A page inside a study whose very showing is written down (an arm, a name)."""
    return _here(request, session, {}, study=request.path_params["study"], unsafe=False)


def change_in_study(request: Request, weighed: WeighedForm, session: Writing, form: TypedForm) -> Here:
    """A posted form inside a study."""
    here = _here(request, session, form, study=request.path_params["study"], unsafe=True)
    here.weighed = weighed
    return here


def change_in_turn(request: Request, weighed: WeighedForm, session: WritingInTurn, form: TypedForm) -> Here:
    """As `change_in_study`, of a change that is short and that many make at once."""
    return change_in_study(request, weighed, session, form)


def same_again_in_study(request: Request, session: Writing, form: TypedForm) -> Here:
    """As `change_in_study`, of what comes to the same however often it is sent: nothing of it is remembered."""
    return _here(request, session, form, study=request.path_params["study"], unsafe=True, remembered=False)


Who = Callable[[Request, str | None, Session], Actor]


def who_asks(request: Request, study: str | None, session: Session) -> Actor:
    """Who sent a request that was refused, asked once more while its own transaction may still be open.

    Writes nothing: a second writer, even to keep when the session was last seen, would wait for that transaction.
    """
    return _here(request, session, {}, study=study, unsafe=False, touch=False).actor


Handler = Callable[[Request], Awaitable[Response]]


def known_first(answer: Handler, who: Who) -> Handler:
    """How an address answers what it cannot understand: first it is asked who sent it, where it is for people known.

    `who` raises what nobody else than they would be told.
    """

    def ask(request: Request) -> None:
        if getattr(request.state, "asks_who", False):
            with database_of(request).reading() as session:
                who(request, _study_of_draft(request), session)

    return _judged_first(answer, ask, hidden=(RequestValidationError,))


def hidden_from_others(
    permission: Permission,
    answer: Handler,
    who: Who,
    *,
    shown: tuple[type[Exception], ...] = (),
    hidden: tuple[type[Exception], ...] = (Exception,),
) -> Handler:
    """How an address answers that does not exist for those who lack a permission in its study.

    What goes wrong (`hidden`, but not `shown`) says that something is there, before anybody asked who sent it: so that
    is asked then, by `who`, and NotFound is all that others are told.
    """

    def require_known(request: Request) -> None:
        with database_of(request).reading() as session:
            if not may(who(request, request.path_params["study"], session), permission):
                raise NotFound

    return _judged_first(answer, require_known, shown=shown, hidden=hidden)


def _judged_first(
    answer: Handler,
    judge: Callable[[Request], None],
    *,
    shown: tuple[type[Exception], ...] = (),
    hidden: tuple[type[Exception], ...],
) -> Handler:
    """What goes wrong (`hidden`, but not `shown`) is told only to whom `judge` lets pass."""

    async def handled(request: Request) -> Response:
        try:
            return await answer(request)
        except shown:
            raise
        except hidden:
            await run_in_threadpool(judge, request)
            raise

    return handled


def kept_here(request: Request, kind: Callable[[], Kept]) -> Kept:
    """The one object of this kind that the process keeps for its doors; made when it is asked for first."""
    found: Kept = request.app.state.kept.setdefault(kind, kind())
    return found


def newest_entry(here: Here) -> Newest | None:
    """What is remembered of the study's log outside the database, to see one that was put back from a backup."""
    return newest_in(here.settings.checkpoints, database_of(here.request).keys, here.the_study.code)


_REMEMBERING = Remembering()
log = logging.getLogger("equipoise")


def remembering(here: Here, response: Response) -> Response:
    """The answer to an allocation, which leaves once the log's newest entry is remembered.

    By the thread that committed it: another would have to be woken, which takes longer.
    """
    database, folder, code = database_of(here.request), here.settings.checkpoints, here.the_study.code
    newest = written(here.session, code)

    def remembered() -> None:
        try:
            _REMEMBERING(database, folder, code, newest)
        except Exception as problem:  # what is committed stands and is answered; the next one is remembered
            log.error("the newest entry of %s could not be remembered: %s", code, type(problem).__name__)

    afterwards(here.session, remembered)
    return response


def page_anywhere(request: Request, session: Reading) -> Here:
    """A page outside any study."""
    return _here(request, session, {}, study=None, unsafe=False)


def change_anywhere(request: Request, weighed: WeighedForm, session: Writing, form: TypedForm) -> Here:
    """A posted form outside any study."""
    new = form.get("new_password", [""])[-1]
    chosen = actions.chosen(new) if new and weighed is not None and weighed.right else None
    here = _here(request, session, form, study=None, unsafe=True)
    here.weighed, here.chosen = weighed, chosen
    return here


NEW_STUDY = "new-study"
"""What stands in the address of a draft in the place of a study that is not here yet; no study has such a code."""


def page_of_draft(request: Request, session: Reading) -> Here:
    """A page of a draft: inside its study, or outside any study. Whoever writes a study reads its own words."""
    return _here(request, session, {}, study=_study_of_draft(request), unsafe=False, worded=False)


def change_of_draft(request: Request, weighed: WeighedForm, session: Writing, form: TypedForm) -> Here:
    """A posted form about a draft: inside its study, or outside any study."""
    here = _here(request, session, form, study=_study_of_draft(request), unsafe=True, worded=False)
    here.weighed = weighed
    return here


def _study_of_draft(request: Request) -> str | None:
    asked: str | None = request.path_params.get("study")
    return None if asked == NEW_STUDY else asked


PageInStudy = Annotated[Here, Depends(later(page_in_study), scope="function")]
LoggedPageInStudy = Annotated[Here, Depends(later(logged_page_in_study), scope="function")]
ChangeInStudy = Annotated[Here, Depends(later(change_in_study), scope="function")]
ChangeInTurn = Annotated[Here, Depends(later(change_in_turn), scope="function")]
SameAgainInStudy = Annotated[Here, Depends(later(same_again_in_study), scope="function")]
PageOfDraft = Annotated[Here, Depends(later(page_of_draft), scope="function")]
ChangeOfDraft = Annotated[Here, Depends(later(change_of_draft), scope="function")]
PageAnywhere = Annotated[Here, Depends(later(page_anywhere), scope="function")]
ChangeAnywhere = Annotated[Here, Depends(later(change_anywhere), scope="function")]


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _api_here(request: Request, session: Session, study: str | None, *, unsafe: bool, touch: bool = True) -> Here:
    here = here_by_token(request, session, _bearer(request), study=study, unsafe=unsafe, touch=touch)
    _refuse_nul_in_query(request)
    _refuse_unknown(request)
    return here


def _refuse_unknown(request: Request) -> None:
    """A parameter that an address does not know is misspelt: passed over, it would give an answer to something else.

    So would one that stands there twice, of which one is passed over, and one whose letters are none.
    """
    route = request.scope.get("route")
    known: tuple[str, ...] | None = getattr(route, "known", None)  # `app.api.operations`
    if known is None or getattr(request.state, "asked_within", False):
        return
    given = [name for name, _ in request.query_params.multi_items()]
    if unknown := [name for name in dict.fromkeys(given) if name not in known]:
        words = f"There is no such parameter here. Known are: {', '.join(known) or 'none'}."
        raise Invalid([FieldProblem(name[:80], "unknown", words) for name in unknown[:20]])
    repeated: tuple[str, ...] = getattr(route, "repeated", ())
    if twice := [name for name in known if given.count(name) > 1 and name not in repeated]:
        words = "{} stands there more than once, and all but one would be passed over. Send it once."
        raise Invalid([FieldProblem(name, "once", words.format(name)) for name in twice])
    for part in request.scope["query_string"].split(b"&"):
        name, _, value = part.partition(b"=")
        try:
            unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            words = "This is not in UTF-8. Encode its letters so, and each byte as %XX."
            raise Invalid([FieldProblem(name.decode("latin-1"), "encoding", words)]) from None


def here_by_token(
    request: Request,
    session: Session,
    token: str,
    *,
    study: str | None = None,
    unsafe: bool,
    touch: bool = True,
    drafts: bool = False,
) -> Here:
    """Where a program stands that has this token; TokenNeeded when it is none, or not one for the study it asks for.

    `drafts`: also a super token, and one of a draft; their door keeps them from everything else in that study.
    """
    _refuse_nul_in_path(request)
    now = clock.now()
    # A token says nothing of other studies, not even whether they are there.
    owner = people.token_owner(session, token, now=now, request_id=request.state.request_id) if token else None
    if owner is None or owner.study is None or study not in (None, owner.study.code):
        raise TokenNeeded
    if not drafts and (owner.draft_id is not None or len(token) == people.SUPER):
        raise TokenNeeded
    here_in, actor = _in_use(request, session, owner.study), owner.actor
    if here_in.definition.second_factor == "required" and not owner.has_second_factor:
        # The study asks for it, so a token acts only while its owner has one, whenever it was made.
        raise NotAllowed(SECOND_FACTOR_NEEDED, action="token.use", subject="/token")
    request.state.actor = actor
    request.state.study = here_in
    if touch:
        _touch_token(request, session, token, actor, now, unsafe=unsafe)
    return Here(request, session, actor, now, here_in, draft=owner.draft_id)


def _touch_token(request: Request, session: Session, token: str, actor: Actor, now: datetime, *, unsafe: bool) -> None:
    """Keep when a token was last used, so that its owner sees one that somebody else uses."""
    last = actor.token_last_used_at
    if last is not None and now - last < SEEN_EVERY:
        return
    if unsafe:
        actions.touch_token(session, token, now=now)
    else:
        with database_of(request).writing() as other:
            actions.touch_token(other, token, now=now)


def _refuse_nul_in_path(request: Request) -> None:
    """No address holds a NUL, which PostgreSQL cannot even be asked about; nor does a search."""
    if "\x00" in request.url.path or any("\x00" in str(value) for value in request.path_params.values()):
        raise NotFound


def _refuse_nul_in_query(request: Request) -> None:
    for name, value in request.query_params.multi_items():
        if "\x00" in value:
            raise Invalid([FieldProblem(name, "control", "There is a character in it that cannot be kept.")])


class ChangedMeanwhile(Exception):
    """What a change was to be made of is not what was read, by If-Match or If-None-Match; the words say what to do."""


class TokenNeeded(Exception):
    """No valid bearer token for this study."""


def api_page(request: Request, study: str, session: Reading) -> Here:
    """A GET over REST."""
    return _api_here(request, session, study, unsafe=False)


def api_any_study(request: Request, session: Reading) -> Here:
    """A GET over REST outside the address of any study: in the one that the token is for."""
    return _api_here(request, session, None, unsafe=False)


def api_logged_page(request: Request, study: str, session: Writing) -> Here:
    """A GET over REST whose very answer is written down (an arm, a name); a HEAD would be, and show nothing."""
    here = _api_here(request, session, study, unsafe=True)
    if getattr(request.state, "without_body", False):
        raise HTTPException(405, READ_IS_LOGGED)
    return here


def api_who_asks(request: Request, study: str | None, session: Session) -> Actor:
    """As `who_asks`, over REST; whatever is wrong with what they ask, it is they who asked."""
    return here_by_token(request, session, _bearer(request), study=study, unsafe=False, touch=False).actor


async def read_body(request: Request) -> bytes:
    """The raw body, to compare a retried request with the first."""
    return await request.body()


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A name of your own for this request: sent again under it, it gets the first answer again.",
        examples=["0b6f6c2e-screen-17"],
    ),
]


Body = Annotated[bytes, Depends(read_body)]


async def weighed_body(request: Request, body: Body) -> actions.Weighed | None:
    """As `weighed_form`, of a JSON body."""

    def weighed() -> actions.Weighed | None:
        with database_of(request).reading() as session:
            now = clock.now()
            owner = people.owner_of_token(session, _bearer(request), now=now)
            if owner is None:  # nobody of ours: their body is not even read
                return None
            try:
                password = members(text_of(body)).get("password")  # beside it may stand the rows of a large file
            except (ValueError, RecursionError):  # the door says what is wrong with it
                return None
            if not isinstance(password, str) or not password:
                return None
            return actions.weighed_again(session, owner, password, now=now)

    return await run_in_threadpool(weighed) if b'"password"' in body else None


WeighedBody = Annotated[actions.Weighed | None, Depends(weighed_body)]


def api_change(
    request: Request,
    study: str,
    weighed: WeighedBody,
    session: Writing,
    body: Body,
    idempotency_key: IdempotencyKey = None,
) -> Here:
    """A write over REST; an Idempotency-Key header makes it safe to repeat."""
    here = _api_here(request, session, study, unsafe=True)
    here.weighed = weighed
    # What an address is asked with is part of the request: tried and saved are two, and so are two names of one file.
    query = request.url.query.encode()
    here.take_key(idempotency_key, b"?%b\n%b" % (query, body) if query else body)
    if words := getattr(request.state, "changed_meanwhile", None):  # and it was not this request, answered before
        raise ChangedMeanwhile(words)
    return here


def api_change_in_turn(
    request: Request,
    study: str,
    weighed: WeighedBody,
    session: WritingInTurn,
    body: Body,
    idempotency_key: IdempotencyKey = None,
) -> Here:
    """As `api_change`, of a change that is short and that many make at once."""
    return api_change(request, study, weighed, session, body, idempotency_key)


ApiPage = Annotated[Here, Depends(later(api_page), scope="function")]
ApiAnyStudy = Annotated[Here, Depends(later(api_any_study), scope="function")]
ApiLoggedPage = Annotated[Here, Depends(later(api_logged_page), scope="function")]
ApiChange = Annotated[Here, Depends(later(api_change), scope="function")]
ApiChangeInTurn = Annotated[Here, Depends(later(api_change_in_turn), scope="function")]


def takes_logged_page(dependant: Dependant) -> bool:
    """Whether what asks for this is answered by a GET that is written down, and so not by a HEAD."""
    logged = get_args(ApiLoggedPage)[1].dependency
    return any(each.call is logged or takes_logged_page(each) for each in dependant.dependencies)


def api_reauthenticate(here: Here, password: str, code: str | None, *, code_needed: bool = False) -> None:
    """Signatures over REST need the person's own password as well as the token (21 CFR 11.200)."""
    require_password(here, password, code, code_needed=code_needed)


def require_password(here: Here, password: str, code: str | None = None, *, code_needed: bool = False) -> None:
    """Invalid, naming the field, unless this is the acting person's password (and code, when they have one).

    `code_needed`: whoever has a second factor must show it, too; a form may bring the answer of a passkey instead.
    """
    if not password:
        raise Invalid([FieldProblem("password", "required", "Type your password.")])
    reason = actions.reauthenticate(
        here.session,
        here.actor.person_id,
        password,
        code or None,
        code_needed=code_needed,
        now=here.now,
        request_id=here.actor.request_id,
        weighed=here.weighed,
        passkey=passkey_if_shown(here) if code_needed else None,
    )
    if reason is not None:
        here.release_key()
        here.session.commit()  # the failed attempt stays on record; nothing else was written yet
        field = "code" if reason in SECOND_MISSING else "password"
        if here.signed_in is None and reason == PASSKEY_MISSING:
            reason = PASSKEY_ON_PAGES
        raise WrongPassword([FieldProblem(field, field, reason)])


def require_signature(here: Here, meanings: Mapping[str, str]) -> str:
    """What somebody signs for, of a page's form, once they have proved again who they are (21 CFR 11.50, 11.200).

    Invalid, naming the field, where they say nothing of it, or the password is not theirs.
    """
    meaning = here.value("meaning")
    if meaning not in meanings:
        raise Invalid([FieldProblem("meaning", "choices", "Say what your signature means.")])
    require_password(here, here.form.get("password", [""])[-1])
    return meaning


def passkey_place(request: Request) -> Place | None:
    """Where the passkeys of this installation are good: at the address that people reach it by, as it was set."""
    return place_of(settings_of(request).address)


def shown_passkey(here: Here) -> actions.Shown:
    """The answer of a passkey that a form brings, bound to the session it was sent in."""
    assert here.signed_in is not None
    return actions.Shown(here.value("passkey"), passkey_place(here.request), here.signed_in.token_hash)


def passkey_if_shown(here: Here) -> actions.Shown | None:
    """The same, of a form that may bring one in the place of a code."""
    return shown_passkey(here) if here.value("passkey") else None


class WrongPassword(Invalid):
    """Re-authentication failed. The attempt itself is already on record."""


def kept_file(data: bytes, media_type: str, name: str, sha256: str) -> Response:
    """A file that is kept, as an answer: a drawing of ours is shown; what was sent is saved, and run by nobody."""
    how = "inline" if media_type == "image/svg+xml" else "attachment"
    headers = {
        "Content-Disposition": f"{how}; filename*=UTF-8''{quote(name)}",
        "Cache-Control": "no-store",
        "ETag": f'"{sha256}"',
    }
    return Response(data, media_type=media_type, headers=headers)


def changed_meanwhile(words: str) -> JSONResponse:
    """That a change was not made, because what stands there is not what was read."""
    return problem_json(412, None, "Changed meanwhile", detail=words)


def problem_json(status: int, problem: Problem | None, title: str, **extra: Any) -> JSONResponse:
    """An RFC 9457 problem: what happened, why, and for invalid input one entry per field."""
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if problem is not None and problem.reason:
        body["detail"] = problem.reason
    if isinstance(problem, Invalid):
        body["errors"] = [
            {"field": each.field, "rule": each.rule, "message": each.message} for each in problem.problems
        ]
    return JSONResponse({**body, **extra}, status_code=status, media_type="application/problem+json")
