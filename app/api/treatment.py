"""What was delivered, over REST? For those who treat; every other token finds no such address."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import Depends, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import ConfigDict
from sqlalchemy import select

from app.api.filters import AtSite, at
from app.api.operations import operations
from app.api.randomisation import ArmsPage
from app.api.shapes import Body, Code, Cursor, Limit, PageOf, Reply, Text, Version
from app.dependencies import ApiChange, ApiLoggedPage, Here, database_of, later
from app.exports.actions import record_export
from app.exports.casebooks import open_whole
from app.exports.choice import Choice
from app.exports.formats.dataset_json import alone
from app.exports.formats.sdtm import Exposure
from app.exports.formats.sdtm import exposure as sdtm_exposure
from app.exports.formats.standards import Standard
from app.exports.formats.text import text_of
from app.exports.tables import stored_cell
from app.foundation import paging
from app.foundation.database import Database
from app.foundation.errors import NotFound, Refused
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import Actor, may, require
from app.people.permissions import Permission
from app.randomisation.opening import open_envelopes
from app.schedule.models import ParticipantVisit
from app.schedule.reads import visits_of
from app.schedule.status import VisitStatus
from app.studies.in_use import StudyInUse
from app.treatment import actions, reads
from app.treatment.reads import ALLOCATION, SessionRow, Treated, Treatment
from app.treatment.rules import treatment_visits


def _clinician(here: Here) -> Here:
    if not may(here.actor, Permission.ARM_READ):
        raise NotFound
    return here


def treatment_page(here: ApiLoggedPage) -> Here:
    """A GET of somebody who treats; it shows arms, and is written down."""
    return _clinician(here)


def treatment_change(here: ApiChange) -> Here:
    """A write of somebody who treats."""
    return _clinician(here)


TreatmentPage = Annotated[Here, Depends(later(treatment_page), scope="function")]
TreatmentChange = Annotated[Here, Depends(later(treatment_change), scope="function")]

unblinded = operations("treatment", "/treatment", hidden_without=Permission.ALLOCATIONS_EXPORT)
router = operations("treatment", "/treatment/participants", hidden_without=Permission.ARM_READ)


class TreatedReply(Reply):
    """Somebody to treat, with their arm."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "site": "neura",
                "status": "randomised",
                "allocation": 42,
                "allocated_at": "2026-03-14T09:26:53.589793+00:00",
                "arm": "sham",
                "held": 3,
                "planned": 12,
                "next_session": "tx04",
                "next_on": "2026-04-11",
            }
        }
    )

    participant: str
    site: str
    status: str
    allocation: int
    allocated_at: datetime
    arm: str
    held: int
    planned: int
    next_session: str | None
    next_on: date | None


A_MODULE: dict[str, Any] = {"code": "laser", "label": "Sham laser", "items": ["device", "minutes"]}
A_SESSION: dict[str, Any] = {
    "session": "tx01",
    "status": "held",
    "target_on": "2026-03-21",
    "opens_on": "2026-03-15",
    "closes_on": "2026-03-27",
    "held_on": "2026-03-21",
    "version": 1,
    "visit_version": 2,
    "delivered": {"laser": {"device": "Device A", "minutes": 20}},
    "saved_at": "2026-03-21T09:26:53.589793Z",
    "saved_by": "clinician",
}


class ModuleReply(Reply):
    """Something that is delivered in a session of this arm, and what is recorded of it."""

    model_config = ConfigDict(json_schema_extra={"example": A_MODULE})

    code: str
    label: str
    items: list[str]


class SessionReply(Reply):
    """One session. `delivered` says of each module what was recorded, or false; null while nothing is.

    `version` is that of the record, for recording and correcting; `visit_version` is for missing and reopening, null
    while the session has no dates.
    """

    model_config = ConfigDict(json_schema_extra={"example": A_SESSION})

    session: str
    status: str
    target_on: date | None
    opens_on: date | None
    closes_on: date | None
    held_on: date | None
    version: int
    visit_version: int | None
    delivered: dict[str, Any] | None
    saved_at: datetime | None
    saved_by: str | None


class TreatmentReply(Reply):
    """All sessions of one participant, and what a session of their arm consists of."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "arm": "sham",
                "modules": [A_MODULE],
                "held": 1,
                "planned": 12,
                "sessions": [A_SESSION],
            }
        }
    )

    participant: str
    arm: str
    modules: list[ModuleReply]
    held: int
    planned: int
    sessions: list[SessionReply]


class SessionBody(Body):
    """What was delivered: by module its items, true (nothing more to say), or false.

    `version` is the one you read, 0 for none. A correction needs `why`; a day outside the window needs `reason`, which
    blinded people read.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "held_on": "2026-03-21",
                "delivered": {"laser": {"device": "Device A", "minutes": 20}, "home": False},
                "version": 0,
            }
        },
    )

    held_on: date
    delivered: dict[Code, bool | dict[Code, Any]]
    version: Version
    why: Text | None = None
    reason: Text | None = None


class SavedReply(Reply):
    """The version that is saved now."""

    model_config = ConfigDict(json_schema_extra={"example": {"session": "tx01", "version": 1}})

    session: str
    version: int


class SessionVersionReply(Reply):
    """One version of a session's record; `why` is the reason of a correction."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "version": 2,
                "delivered": {"laser": {"device": "Device A", "minutes": 15}},
                "why": "The clock was read again.",
                "at": "2026-03-21T10:02:11.000000Z",
                "username": "clinician",
            }
        },
    )

    version: int
    delivered: dict[str, Any]
    why: str | None
    at: datetime
    username: str


class NotHeldBody(Body):
    """Why a session did not take place, or is planned again; blinded people read it. `version` is its visit_version."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"version": 1, "why": "The participant was ill."}}
    )

    version: Version
    why: Text


class TreatmentStopBody(Body):
    """That a participant gets no more sessions: from which day, and why. Blinded people read the reason."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"on": "2026-05-01", "reason": "No time for further sessions."}}
    )

    on: date
    reason: Text


class TreatmentResumeBody(Body):
    """Why treatment goes on after all. Blinded people read it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"why": "Recorded for the wrong participant."}}
    )

    why: Text


class TreatmentStopReply(Reply):
    """Whether treatment is stopped, and since when (null: it goes on)."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"participant": "R-0042", "treatment_stopped_on": "2026-05-01"}}
    )

    participant: str
    treatment_stopped_on: date | None


class SessionVisitReply(Reply):
    """What became of the visit at which a session was planned."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"session": "tx01", "status": "missed", "visit_version": 2}}
    )

    session: str
    status: str
    visit_version: int


@router.get("", name="api.treated")
def treated(
    here: TreatmentPage,
    site: AtSite = None,
    to_come: Annotated[bool, Query(description="Only those with a session that is planned.")] = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[TreatedReply]:
    """The randomised participants of one's own sites, by code, with their arms."""
    page = reads.my_participants(
        here.session,
        here.the_study,
        by=at(here, site),
        now=here.now,
        to_come=to_come,
        cursor=cursor,
        limit=limit,
    )
    return PageOf(items=[_treated_reply(row) for row in page.rows], next=page.next)


def _treated_reply(row: Treated) -> TreatedReply:
    return TreatedReply(
        participant=row.code,
        site=row.site,
        status=row.status,
        allocation=row.number,
        allocated_at=row.allocated_at,
        arm=row.arm,
        held=row.adherence.held,
        planned=row.adherence.planned,
        next_session=row.next_visit,
        next_on=row.next_on,
    )


@router.get("/{code}", name="api.treatment")
def treatment(here: TreatmentPage, code: str) -> TreatmentReply:
    """The sessions of one participant."""
    found = _participant(here, code)
    treated = reads.sessions_of(here.session, here.the_study, found, by=here.actor, now=here.now)
    assert found.id is not None
    return _treatment_reply(found, treated, {row.code: row.version for row in visits_of(here.session, found.id)})


def _participant(here: Here, code: str) -> Participant:
    return participant_by_code(here.session, here.the_study, code, by=here.actor, permission=Permission.ARM_READ)


def _treatment_reply(participant: Participant, found: Treatment, versions: Mapping[str, int]) -> TreatmentReply:
    return TreatmentReply(
        participant=participant.code,
        arm=found.arm,
        modules=[
            ModuleReply(code=module.code, label=module.label, items=[item.code for item in module.items])
            for module in found.modules
        ],
        held=found.adherence.held,
        planned=found.adherence.planned,
        sessions=[_session_reply(row, versions.get(row.visit)) for row in found.sessions],
    )


def _session_reply(row: SessionRow, visit_version: int | None) -> SessionReply:
    delivered: Mapping[str, Any] | None = row.delivered
    return SessionReply(
        session=row.visit,
        status=row.status,
        target_on=row.target_on,
        opens_on=row.opens_on,
        closes_on=row.closes_on,
        held_on=row.held_on,
        version=row.version,
        visit_version=visit_version,
        delivered=dict(delivered) if delivered is not None else None,
        saved_at=row.saved_at,
        saved_by=row.saved_by,
    )


@router.post("/{code}/stopped", name="api.stop_treatment", response_model=TreatmentStopReply)
def stop_treatment(here: TreatmentChange, code: str, asked: TreatmentStopBody) -> Response:
    """Record that a participant gets no more sessions and stays in follow-up; no session is due any more."""
    found = _participant(here, code)
    by, now = here.actor, here.now
    actions.stop_treatment(here.session, here.the_study, found, on=asked.on, reason=asked.reason, by=by, now=now)
    return _stop_answer(here, found)


@router.post("/{code}/resumed", name="api.resume_treatment", response_model=TreatmentStopReply)
def resume_treatment(here: TreatmentChange, code: str, asked: TreatmentResumeBody) -> Response:
    """Record that treatment goes on, because it was recorded as stopped by mistake; its sessions are due again."""
    found = _participant(here, code)
    actions.resume_treatment(here.session, here.the_study, found, why=asked.why, by=here.actor, now=here.now)
    return _stop_answer(here, found)


def _stop_answer(here: Here, found: Participant) -> Response:
    reply = TreatmentStopReply(participant=found.code, treatment_stopped_on=found.treatment_stopped_on)
    return here.answer(reply.model_dump(mode="json"))


@router.get("/{code}/sessions/{visit}", name="api.session")
def one_session(here: TreatmentPage, code: str, visit: str) -> SessionReply:
    """One session of a participant: when it is due, and what was delivered."""
    whole = treatment(here, code)
    for each in whole.sessions:
        if each.session == visit:
            return each
    raise NotFound


@router.put("/{code}/sessions/{visit}", name="api.record_session", response_model=SavedReply)
def record_session(here: TreatmentChange, code: str, visit: str, asked: SessionBody) -> Response:
    """Record what was delivered in a session, or correct it."""
    version = actions.record_session(
        here.session,
        here.the_study,
        _participant(here, code),
        visit=visit,
        held_on=asked.held_on,
        delivered=asked.delivered,
        base_version=asked.version,
        why=asked.why,
        reason=asked.reason,
        by=here.actor,
        now=here.now,
    )
    return here.answer(SavedReply(session=visit, version=version).model_dump(mode="json"))


@router.get("/{code}/sessions/{visit}/history", name="api.session_history")
def session_history(
    here: TreatmentPage, code: str, visit: str, cursor: Cursor = None, limit: Limit = 50
) -> PageOf[SessionVersionReply]:
    """Every version of a session's record, oldest first, with the reason of each correction."""
    found = _participant(here, code)
    planned = _session(here, found, visit).code
    versions = reads.history_of(here.session, here.the_study, found, planned, by=here.actor, now=here.now)
    page = paging.page_in_place(versions, limit, cursor=cursor)
    return PageOf(items=[SessionVersionReply.model_validate(each) for each in page.rows], next=page.next)


@router.post("/{code}/sessions/{visit}/missed", name="api.miss_session", response_model=SessionVisitReply)
def miss_session(here: TreatmentChange, code: str, visit: str, asked: NotHeldBody) -> Response:
    """Record that a session did not take place, and why."""
    found = _participant(here, code)
    row = actions.miss_session(
        here.session,
        here.the_study,
        found,
        _session(here, found, visit).code,
        version=asked.version,
        why=asked.why,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_visit_reply(row).model_dump(mode="json"))


@router.post("/{code}/sessions/{visit}/reopening", name="api.reopen_session", response_model=SessionVisitReply)
def reopen_session(here: TreatmentChange, code: str, visit: str, asked: NotHeldBody) -> Response:
    """Make a session planned again that was recorded as missed by mistake."""
    found = _participant(here, code)
    row = _session(here, found, visit)
    subject = f"{found.code}/visit/{row.code}"
    require(here.actor, Permission.TREATMENT_RECORD, site_id=found.site_id, action="visit.reopen", subject=subject)
    if row.status == VisitStatus.HELD:  # its record would stand beside a visit that never was
        words = "This session was held, and what was delivered is recorded. Correct the record instead."
        raise Refused(words, action="visit.reopen", subject=subject)
    row = actions.reopen_session(
        here.session,
        here.the_study,
        found,
        row.code,
        version=asked.version,
        why=asked.why,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_visit_reply(row).model_dump(mode="json"))


def _session(here: Here, participant: Participant, code: str) -> ParticipantVisit:
    """The planned session with its dates; NotFound for any other visit."""
    assert participant.id is not None
    planned = {visit.code for visit in treatment_visits(here.the_study.definition)}
    rows = visits_of(here.session, participant.id)
    found = next((row for row in rows if row.code == code and code in planned), None)
    if found is None:
        raise NotFound
    return found


def _visit_reply(row: ParticipantVisit) -> SessionVisitReply:
    return SessionVisitReply(session=row.code, status=row.status, visit_version=row.version)


# For whoever analyses

LINES = {"json": False, "ndjson": True}
A_DATASET: dict[str, Any] = {
    "datasetJSONVersion": "1.1.0",
    "records": 1,
    "name": "EX",
    "label": "Exposure",
    "columns": [{"itemOID": "IT.EX.EXTRT", "name": "EXTRT", "label": "Name of Treatment", "dataType": "string"}],
    "rows": [["Sham laser"]],
}


@unblinded.get(
    "/exposure.{notation}",
    name="api.exposure",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "CDISC Dataset-JSON 1.1, as JSON or NDJSON.",
            "content": {
                "application/json": {"schema": {"type": "object"}, "example": A_DATASET},
                "application/x-ndjson": {"schema": {"type": "string"}, "example": f"{json.dumps(A_DATASET)}\n"},
            },
        }
    },
)
def exposure(here: ArmsPage, notation: str) -> StreamingResponse:
    """What was delivered in every session, as the SDTM domain EX: `exposure.json` or `exposure.ndjson`. Unblinded.

    Each envelope that is opened for it is in the log. The other domains are blinded: `exports/all.dataset_json`.
    """
    study = here.the_study
    if notation not in LINES:
        raise NotFound
    open_whole(here.session, study, WHOLE, by=here.actor)  # refuses here, while a refusal can be answered
    treated = here.session.execute(select(ALLOCATION.c.participant_id).where(ALLOCATION.c.study_id == study.id))
    ids = list(treated.scalars())
    arms = open_envelopes(here.session, study, ids, by=here.actor, why="Export of what was delivered", now=here.now)
    record_export(here.session, study, table="exposure_with_arms", format=notation, by=here.actor, now=here.now)
    # No hash of the file goes into the log: with it somebody could try arms until one fits (CONC-11).
    file_name = f"{study.code}_exposure_unblinded_{here.now.astimezone(UTC):%Y-%m-%d}.{notation}"
    return StreamingResponse(
        _exposure(database_of(here.request), study, arms, lines=LINES[notation], by=here.actor),
        media_type="application/x-ndjson" if LINES[notation] else "application/json",
        headers={
            "Content-Disposition": f'attachment; filename="{file_name}"',
            "X-Equipoise-Study-Version": study.definition.version,
        },
    )


WHOLE = Choice(format=Standard.DATASET_JSON)


def _exposure(
    database: Database, study: StudyInUse, arms: Mapping[int, str], *, lines: bool, by: Actor
) -> Iterator[bytes]:
    """The dataset from a snapshot of its own, after the openings were committed."""
    with database.reading() as session:

        def received(participant: str) -> Iterator[Exposure]:
            for each in reads.received(session, study, participant, arms, by=by):
                said = [
                    f"{label}: {text_of(stored_cell(value))}{f' {unit}' if unit else ''}"
                    for label, value, unit in each.said
                    if stored_cell(value) is not None
                ]
                yield Exposure(each.visit, each.on, each.module, "; ".join(said) or None)

        whole = open_whole(session, study, WHOLE, by=by)
        yield from alone(whole, sdtm_exposure(whole, received), lines=lines)


router.routes.extend(unblinded.routes)
