"""Which call is this, who asks, and who answers it? One address for everything; the token is in the form.

A call that changes or writes down something has a session that commits before the answer leaves. Whatever goes wrong
is said in the shape that the client asked for, and what was refused is written down.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from app.api.redcap import (
    deleting,
    drafting,
    events,
    files,
    importing,
    log,
    metadata,
    odm,
    pdfs,
    projects,
    randomising,
    records,
    reports,
    repository,
    sites,
    surveys,
    users,
)
from app.api.redcap.answers import CONTENT_TYPES, json_text
from app.api.redcap.asked import Asked
from app.api.redcap.decoding import Call, call_of
from app.api.redcap.errors import NO_PERMISSION, Wrong, error_response, not_valid, unreadable, wrong_of
from app.audit.actions import record_refusal
from app.dependencies import LARGEST_UPLOAD, AlreadyAnswered, TokenNeeded, database_of, here_by_token, settings_of
from app.foundation import clock
from app.foundation.errors import NotAllowed, Problem, Refused
from app.foundation.failures import told
from app.signposts import Address

router = APIRouter(route_class=Address)
lines = logging.getLogger("equipoise")
SECRET = re.compile(r"[A-Za-z0-9_-]{20,80}").fullmatch


@dataclass(frozen=True)
class Door:
    """What answers one call; `writes` when it changes something, or writes down that something was taken."""

    answer: Callable[[Asked], Response]
    writes: bool = False
    of_draft: Callable[[Asked], Response] | None = None
    """What answers it for a draft; what says anything of anybody is not asked of one."""


def R(answer: Callable[[Asked], Response]) -> Door:  # noqa: N802
    """Only reads."""
    return Door(answer)


def S(answer: Callable[[Asked], Response]) -> Door:  # noqa: N802
    """Only reads what the study says, or its draft."""
    return Door(answer, of_draft=answer)


def D(answer: Callable[[Asked], Response], of_draft: Callable[[Asked], Response]) -> Door:  # noqa: N802
    """One answer for a study that is loaded, which never changes, and another for a draft."""
    return Door(answer, writes=True, of_draft=of_draft)


def W(answer: Callable[[Asked], Response]) -> Door:  # noqa: N802
    """Writes, too."""
    return Door(answer, writes=True)


DOORS: dict[tuple[str, str], Door] = {
    ("record", "export"): W(records.export),
    ("record", "import"): W(importing.import_records),
    ("record", "delete"): W(deleting.delete),
    ("record", "rename"): R(deleting.rename),
    ("record", "randomize"): W(randomising.randomise),
    ("generateNextRecordName", "export"): R(records.next_name),
    ("metadata", "export"): S(metadata.dictionary),
    ("metadata", "import"): D(metadata.import_unchanged, drafting.import_dictionary),
    ("exportFieldNames", "export"): S(metadata.field_names),
    ("instrument", "export"): S(metadata.instruments),
    ("pdf", "export"): D(pdfs.pdf, pdfs.pdf),
    ("formEventMapping", "export"): S(events.mapping),
    ("formEventMapping", "import"): D(events.import_mapping, drafting.import_mapping),
    ("repeatingFormsEvents", "export"): S(events.repeating),
    ("repeatingFormsEvents", "import"): D(events.import_repeating, drafting.import_repeating),
    ("arm", "export"): S(events.arms),
    ("arm", "import"): S(events.import_arms),
    ("arm", "delete"): S(events.delete_arms),
    ("event", "export"): S(events.events),
    ("event", "import"): D(events.import_events, drafting.import_events),
    ("event", "delete"): D(events.delete_events, drafting.delete_events),
    ("dag", "export"): R(sites.groups),
    ("dag", "import"): R(sites.import_groups),
    ("dag", "delete"): R(sites.delete_groups),
    ("dag", "switch"): R(sites.switch),
    ("userDagMapping", "export"): R(sites.assignments),
    ("userDagMapping", "import"): R(sites.import_assignments),
    ("user", "export"): R(users.users),
    ("user", "import"): R(users.import_users),
    ("user", "delete"): R(users.delete_users),
    ("userRole", "export"): R(users.roles),
    ("userRole", "import"): R(users.import_roles),
    ("userRole", "delete"): R(users.delete_roles),
    ("userRoleMapping", "export"): R(users.role_assignments),
    ("userRoleMapping", "import"): R(users.import_role_assignments),
    ("project", "export"): S(projects.info),
    ("project", "import"): W(projects.create),
    ("project_settings", "import"): D(projects.import_settings, drafting.import_settings),
    ("project_xml", "export"): D(odm.project_xml, odm.project_xml),
    ("file", "export"): W(files.export),
    ("file", "import"): W(files.keep),
    ("file", "delete"): W(files.remove),
    ("fileRepository", "list"): R(repository.folders),
    ("fileRepository", "export"): W(repository.export),
    ("fileRepository", "delete"): W(repository.remove),
    ("fileRepository", "createFolder"): W(repository.make_folder),
    ("fileRepository", "import"): W(repository.keep),
    ("report", "export"): W(reports.report),
    ("log", "export"): W(log.log),
    ("surveyLink", "export"): W(surveys.link),
    ("surveyAccessCode", "export"): R(surveys.access_code),
    ("surveyReturnCode", "export"): R(surveys.return_code),
    ("surveyQueueLink", "export"): R(surveys.queue_link),
    ("participantList", "export"): R(surveys.participant_list),
    ("version", "export"): S(projects.version),
}
REMEMBERED = frozenset({("record", ""), ("record", "import"), ("record", "randomize")})
"""What an Idempotency-Key makes safe to repeat; everything else changes nothing the second time."""
CONTENTS = frozenset(content for content, _ in DOORS)


@router.post("/api/", name="redcap.door", include_in_schema=False, max_body_size=LARGEST_UPLOAD)
async def door(request: Request) -> Response:
    """Answer one call of a client of REDCap's API."""
    try:
        call = await call_of(request, largest=settings_of(request).largest_body)
    except Wrong as wrong:
        return unreadable(wrong.message, wrong.status)
    return await run_in_threadpool(answered, request, call)


@router.post("/api", name="redcap.slash", include_in_schema=False)
def slash() -> Response:
    """The address without its end; the same call, there. Clients send a 308 again as it was."""
    return RedirectResponse("/api/", 308)


@router.get("/api", name="redcap.unended", include_in_schema=False)
@router.get("/api/", name="redcap.elsewise", include_in_schema=False)
def elsewise() -> Response:
    """Every call is a POST; somebody looked at the address in a browser, or a proxy made a GET of it on the way."""
    refused = error_response(Wrong("The requested method is not implemented. Send every call as a POST.", 405), "xml")
    refused.headers["Allow"] = "POST"
    return refused


@router.get(surveys.SURVEYS, name="redcap.survey", include_in_schema=False)
def survey(s: str = "") -> Response:
    """The address of a participant's link as clients write it; on to the link itself."""
    secret = surveys.secret_of(s[:200])
    return RedirectResponse(f"/link/{secret}" if SECRET(secret) else "/link/none", 303)


def answered(request: Request, call: Call) -> Response:
    """The answer, or what went wrong, in the shape that was asked for."""
    shape = call.return_shape
    try:
        return _answered(request, call)
    except TokenNeeded:
        return error_response(Wrong(NO_PERMISSION, 403), shape)
    except Wrong as wrong:
        for problem in getattr(wrong, "refusals", ()):
            _write_down(request, problem)
        return error_response(wrong, shape)
    except Problem as problem:
        _write_down(request, problem)
        return error_response(wrong_of(problem), shape)
    except Exception as error:  # a client that retries must be told so in its own shape
        lines.error("request %s failed: %s", request.state.request_id, told(error))
        words = f"Something went wrong, and nothing was saved. Tell your administrator: {request.state.request_id}."
        return error_response(Wrong(words, 500), shape)


def _answered(request: Request, call: Call) -> Response:
    call.refuse_nul()
    database = database_of(request)
    found = _door_of(call)
    opened = database.writing() if isinstance(found, Door) and found.writes else database.reading()
    with opened as session:
        writes = isinstance(found, Door) and found.writes
        here = here_by_token(request, session, call.token, unsafe=writes, drafts=True)
        if call.is_super and (call.content, call.has_data) != ("project", True):
            raise Wrong(NO_PERMISSION, 403)  # a super token makes studies, and is for nothing else
        if isinstance(found, Wrong):  # what is wrong with a call is only said to somebody who may call
            raise found
        asked = Asked(here, call)
        if here.draft is not None:
            asked.draft = projects.enter(here, here.draft, may_be_asked=found.of_draft is not None)
            assert found.of_draft is not None
            return found.of_draft(asked)
        key = request.headers.get("Idempotency-Key")
        imports = call.has_data or call.text("action") == "randomize"
        if key and imports and (call.content, call.text("action")) in REMEMBERED:
            return _once(asked, found, key)
        return found.answer(asked)


def _once(asked: Asked, found: Door, key: str) -> Response:
    """The answer; the same call once more under the same key gets it again, and changes nothing."""
    here, call = asked.here, asked.call
    said = {**call.plain, **{f"{name}[]": values for name, values in call.listed.items()}, "token": []}
    try:
        here.take_key(key, json_text(dict(sorted(said.items()))).encode())
    except AlreadyAnswered as again:
        shape = call.result_shape if call.text("action") == "randomize" else call.return_shape
        kept, headers = again.answer, {"Content-Type": CONTENT_TYPES[shape], "Idempotent-Replay": "true"}
        return Response((kept.body or "").encode(), kept.status, headers=headers)
    response = found.answer(asked)
    here.remember(response.status_code, bytes(response.body).decode())
    return response


def _write_down(request: Request, problem: Problem) -> None:
    """A refused or not allowed attempt stays on record, in a transaction of its own."""
    actor = getattr(request.state, "actor", None)
    if actor is None or problem.recorded or not isinstance(problem, Refused | NotAllowed):
        return
    with database_of(request).writing() as session:
        record_refusal(session, request.state.study.code, problem, by=actor, now=clock.now())


def _door_of(call: Call) -> Door | Wrong:
    content, action = call.content, call.text("action")
    if content not in CONTENTS:
        return not_valid("content")
    if not action:
        # A file is not sent as data: without an action there is nothing to tell what is wanted.
        action = "import" if call.has_data else "export"
        if (content, action) not in DOORS:
            action = next(each for of, each in DOORS if of == content) if action == "export" else action
        if content == "fileRepository" and not call.text("doc_id"):
            action = "list"  # of no file in particular
    return DOORS.get((content, action)) or not_valid("action")
