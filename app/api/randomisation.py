"""May somebody be randomised, and randomise them, over REST; and what the statistician alone may do and know.

The statistician's addresses answer every other token as an address that was never there.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from pydantic import ConfigDict, Field
from sqlalchemy import Select, func, select

from app.api.addressed import participant_of
from app.api.filters import Since, Until, Whose
from app.api.operations import operations
from app.api.shapes import KEPT, Body, Cursor, Limit, Number, PageOf, Reply, Text, file_contents
from app.dependencies import (
    ApiChange,
    ApiChangeInTurn,
    ApiLoggedPage,
    ApiPage,
    Here,
    api_reauthenticate,
    database_of,
    later,
    newest_entry,
    remembering,
)
from app.exports import delivery
from app.exports.actions import record_export
from app.exports.formats import Format, encoded
from app.exports.reads import open_export
from app.foundation import paging
from app.foundation.database import Database, within
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.participants.corrections.rules import Allotted
from app.participants.models import Participant
from app.people.access import Actor, may
from app.people.permissions import Permission
from app.randomisation import actions, reads
from app.randomisation.opening import ALLOCATION, PARTICIPANT, SLOT, STRATUM, open_envelopes
from app.randomisation.reads import SequenceCounts
from app.randomisation.rules import why_not_ready
from app.studies.in_use import StudyInUse

PARTICIPANTS = "/participants/{code}"


def _statistician(here: Here, permission: Permission) -> Here:
    if not may(here.actor, permission):
        raise NotFound
    return here


def sequence_page(here: ApiPage) -> Here:
    """A GET of the statistician."""
    return _statistician(here, Permission.SEQUENCE_DRAW)


def sequence_change(here: ApiChange) -> Here:
    """A write of the statistician."""
    return _statistician(here, Permission.SEQUENCE_DRAW)


def arms_page(here: ApiLoggedPage) -> Here:
    """A GET of the statistician that shows arms, and is written down."""
    return _statistician(here, Permission.ALLOCATIONS_EXPORT)


SequencePage = Annotated[Here, Depends(later(sequence_page), scope="function")]
SequenceChange = Annotated[Here, Depends(later(sequence_change), scope="function")]
ArmsPage = Annotated[Here, Depends(later(arms_page), scope="function")]

router = operations("randomisation")
sequences = operations("sequence", hidden_without=Permission.SEQUENCE_DRAW)
arms = operations("sequence", hidden_without=Permission.ALLOCATIONS_EXPORT)


# Randomising


class GateReply(Reply):
    """One condition for randomisation; `reason` says what to do while it is closed."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "code": "baseline",
                "label": "Baseline entries complete",
                "open": False,
                "reason": "Complete Pain (Baseline) first.",
            }
        },
    )

    code: str
    label: str
    open: bool
    reason: str | None


class GatesReply(Reply):
    """Every condition in its order; `reason` is that of the first closed one."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "ready": False,
                "reason": "Complete Pain (Baseline) first.",
                "gates": [
                    {
                        "code": "baseline",
                        "label": "Baseline entries complete",
                        "open": False,
                        "reason": "Complete Pain (Baseline) first.",
                    },
                ],
            }
        }
    )

    ready: bool
    reason: str | None
    gates: list[GateReply]


class RandomisedReply(Reply):
    """The number of the allocation in the study. Never the arm."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"allocation": 42, "randomised_at": "2026-03-14T09:26:53.589793+00:00"}}
    )

    allocation: int
    randomised_at: datetime


@router.get(PARTICIPANTS + "/gates", name="api.gates")
def gates(here: ApiPage, code: str) -> GatesReply:
    """What stands between a participant and randomisation."""
    found = participant_of(here, code)
    newest = newest_entry(here)
    passed = reads.gates_of(here.session, here.the_study, found, by=here.actor, now=here.now, newest=newest)
    if not passed:
        raise NotFound("This study does not randomise. Go on with the visits.")
    reason = why_not_ready(passed)
    return GatesReply(ready=reason is None, reason=reason, gates=[GateReply.model_validate(gate) for gate in passed])


@router.post(PARTICIPANTS + "/randomise", name="api.randomise", status_code=201, response_model=RandomisedReply)
def randomise(here: ApiChangeInTurn, code: str) -> Response:
    """Randomise a participant, once and for all. Send an Idempotency-Key: a repeated request gets the first answer.

    Without the same key a participant who is already randomised is refused with 409.
    """
    found = participant_of(here, code)
    newest = newest_entry(here)
    made = actions.randomise(here.session, here.the_study, found, newest=newest, by=here.actor, now=here.now)
    body = RandomisedReply(allocation=made.number, randomised_at=made.allocated_at).model_dump(mode="json")
    place = here.request.url.path.removesuffix("/randomise")
    return remembering(here, here.answer(body, status=201, location=place))


def refuse_staged(here: Here, participant: Participant, *, action: str) -> None:
    """Refused for whoever was given a group of the first stage, while the participant is held."""
    reads.refuse_staged(here.session, participant, action=action)


def allotted(here: Here, participant: Participant, answers: Mapping[str, Any]) -> Allotted:
    """Whether a participant has a place, and of which stratum they would be by these answers of their pre-screen."""
    return reads.allotted_of(here.session, here.the_study.at(participant.site_id), participant, answers)


# Sequences, for the statistician


class StratumReply(Reply):
    """How long the list of one stratum is, and how much of it is used."""

    model_config = ConfigDict(
        from_attributes=True, json_schema_extra={"example": {"code": "all", "slots": 280, "used": 42}}
    )

    code: str
    slots: int
    used: int


class StagedReply(Reply):
    """That the first stage is done, and when. Never the group."""

    model_config = ConfigDict(json_schema_extra={"example": {"randomised_at": "2026-03-14T09:26:53.589793+00:00"}})

    randomised_at: datetime


@router.post(PARTICIPANTS + "/randomise-first", name="api.randomise_first", status_code=201, response_model=StagedReply)
def randomise_first(here: ApiChange, code: str) -> Response:
    """The first stage of a participant, in a study of two: it is done, and nobody learns the group. See randomise."""
    found = participant_of(here, code)
    newest = newest_entry(here)
    made = actions.randomise_first(here.session, here.the_study, found, newest=newest, by=here.actor, now=here.now)
    body = StagedReply(randomised_at=made.allocated_at).model_dump(mode="json")
    place = here.request.url.path.removesuffix("/randomise-first")
    return remembering(here, here.answer(body, status=201, location=place))


class SequenceReply(Reply):
    """One sequence, in counts only. `stage` names the first stage when it gives groups and not arms."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "version": 1,
                "method": "permuted_blocks",
                "status": "sealed",
                "stage": "entry",
                "slots": 280,
                "used": 42,
                "digest": "9f2c6b1a",
                "drawn_at": "2026-03-01T08:00:00+00:00",
                "drawn_by": "statistician",
                "sealed_at": "2026-03-02T08:00:00+00:00",
                "sealed_by": "statistician",
                "strata": [{"code": "all", "slots": 280, "used": 42}],
            }
        },
    )

    version: int
    method: str
    status: str
    stage: str | None
    slots: int
    used: int
    digest: str
    drawn_at: datetime
    drawn_by: str
    sealed_at: datetime | None
    sealed_by: str | None
    strata: list[StratumReply]


class DrawBody(Body):
    """Draw the study's own method from a new seed, with its options, or take a finished list as CSV text."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"method": "permuted_blocks", "block_sizes": [4, 6], "slots_per_stratum": 40},
                {"method": "big_stick", "tolerance": 3, "slots_per_stratum": 40},
                {"method": "minimisation", "measure": "range", "probability": "4/5"},
                {"method": "cluster", "slots_per_stratum": 60, "sites": ["north", "south"]},
                {"method": "list", "csv": "stratum,position,arm\nneura,1,sham\nneura,2,active\n"},
            ]
        },
    )

    method: Literal[
        "permuted_blocks",
        "simple",
        "big_stick",
        "maximal_procedure",
        "wei_urn",
        "truncated_binomial",
        "biased_coin",
        "cluster",
        "minimisation",
        "list",
    ]
    block_sizes: list[Annotated[int, Field(ge=1, le=9999)]] | None = Field(default=None, max_length=20)
    tolerance: int | None = Field(default=None, description="Of big_stick and maximal_procedure: largest imbalance.")
    alpha: int | None = Field(default=None, description="Of wei_urn: balls of each arm at first.")
    beta: int | None = Field(default=None, description="Of wei_urn: balls of the other arms added after each draw.")
    probability: str | None = Field(
        default=None,
        max_length=16,
        pattern=KEPT,
        description="Of biased_coin: that of the arm that is behind, such as 2/3; of minimisation: the preferred arm.",
    )
    measure: Literal["range", "variance", "marginal_total"] | None = Field(
        default=None, description="Of minimisation: how unlike groups are."
    )
    weights: list[Annotated[int, Field(ge=0, le=100)]] | None = Field(
        default=None, max_length=50, description="Of minimisation: one for each factor, in the study's order."
    )
    size_weight: int | None = Field(default=None, description="Of minimisation: that of the groups' sizes.")
    most_apart: int | None = Field(default=None, description="Of minimisation: a limit on the groups' sizes; 0: none.")
    catch_up: str | None = Field(
        default=None,
        max_length=16,
        pattern=KEPT,
        description="Of minimisation: the smallest group's probability at the limit.",
    )
    slots_per_stratum: int | None = Field(default=None, ge=1, le=1_000_000)
    first_stage: bool = Field(default=False, description="Draw the groups of the first stage, in a study of two.")
    sites: list[Annotated[str, Field(max_length=40, pattern=KEPT)]] | None = Field(
        default=None,
        max_length=5000,
        description="Of the method cluster: the sites that are drawn together; all that have no arm if left out. Of "
        "further slots: the sites that get some.",
    )
    further: bool = Field(
        default=False,
        description="Slots that stand behind those in use: for sites that joined, and for strata that run out.",
    )
    csv: str | None = Field(
        default=None, pattern=KEPT, description="Columns stratum (where there are several), position, arm."
    )


class SealBody(Body):
    """Sealing is a signature: it needs the statistician's own password beside the token."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"password": "correct horse battery"}})

    password: str = Field(max_length=1024, pattern=KEPT)


class ReviewReply(Reply):
    """What is judged before sealing, in counts: balance, and how well somebody who knows all earlier arms guesses.

    The last three are probabilities per allocation, 0 to 1: that a guess is right, that the arm is known for certain,
    that a guess is right by chance alone. The first two are null for a list made elsewhere, whose rule is not known.
    Where sites are drawn together, there are no slots per arm: with few sites they would say who has which. Nor are
    there for a short list of a method that does not balance exactly. `further` slots stand behind those in use.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "version": 1,
                "status": "drawn",
                "slots": 280,
                "slots_per_arm": {"active": 140, "sham": 140},
                "slots_per_stratum": {"all": 280},
                "guessed": 0.683,
                "known": 0.25,
                "by_chance": 0.5,
                "further": False,
            }
        }
    )

    version: int
    status: str
    slots: int
    slots_per_arm: dict[str, int]
    slots_per_stratum: dict[str, int]
    guessed: float | None
    known: float | None
    by_chance: float
    further: bool


class SetAsideBody(Body):
    """Why a drawn sequence is not used."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"why": "Drawn with the wrong blocks."}})

    why: Text


@sequences.get("/sequences", name="api.sequences")
def all_sequences(here: SequencePage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[SequenceReply]:
    """Every sequence of the study, newest first."""
    found = reads.sequences(here.session, here.the_study, by=here.actor)
    page = paging.page_of_all(found, limit, lambda each: (each.version,), int, cursor=cursor, falling=True)
    return PageOf(items=[_sequence_reply(each) for each in page.rows], next=page.next)


NO_OPTIONS = {"method", "slots_per_stratum", "csv", "sites", "first_stage", "further"}


@sequences.post("/sequences", name="api.draw", status_code=201, response_model=SequenceReply)
def draw(here: SequenceChange, asked: DrawBody) -> Response:
    """Draw a sequence. Nobody is randomised from it before it is sealed."""
    options = asked.model_dump(exclude_none=True, exclude=NO_OPTIONS)
    if asked.method == "list" and (options or asked.slots_per_stratum is not None):
        words = "A finished list has neither options nor a length of its own. Leave them out."
        raise Invalid([FieldProblem("method", "unknown", words)])
    if asked.method != "list" and asked.csv is not None:
        raise Invalid([FieldProblem("csv", "unknown", "A sequence is drawn here. Leave the list out.")])
    made = actions.draw(
        here.session,
        here.the_study,
        method=asked.method,
        options=options,
        slots_per_stratum=asked.slots_per_stratum,
        listing=asked.csv,
        sites=asked.sites,
        first_stage=asked.first_stage,
        further=asked.further,
        by=here.actor,
        now=here.now,
    )
    body = _sequence_reply(_sequence(here, made.version)).model_dump(mode="json")
    return here.answer(body, status=201, location=f"{here.request.url.path}/{made.version}")


@sequences.get("/sequences/{version}", name="api.sequence")
def sequence(here: SequencePage, version: int) -> SequenceReply:
    """One sequence."""
    return _sequence_reply(_sequence(here, version))


@sequences.get("/sequences/{version}/review", name="api.review_sequence")
def review_sequence(here: SequencePage, version: int) -> ReviewReply:
    """Balance and predictability of one sequence, to be judged before it is sealed. Nobody sees its order."""
    sequence = _sequence(here, version)
    found = reads.balance(here.session, here.the_study, sequence.id, by=here.actor)
    study = reads.first_stage_of(here.the_study) if sequence.stage else here.the_study
    shares = [arm.ratio for arm in study.definition.arms]
    return ReviewReply(
        version=found.version,
        status=found.status,
        slots=found.slots,
        slots_per_arm=dict(found.slots_per_arm),
        slots_per_stratum=dict(found.slots_per_stratum),
        guessed=None if found.correct is None else float(found.correct),
        known=None if found.certain is None else float(found.certain),
        by_chance=max(shares) / sum(shares),
        further=found.further,
    )


@sequences.post("/sequences/{version}/set-aside", name="api.set_aside", response_model=SequenceReply)
def set_aside(here: SequenceChange, version: int, asked: SetAsideBody) -> Response:
    """Set a drawn sequence aside: it is kept, and never used. One that was sealed stays in use."""
    found = _sequence(here, version)
    actions.discard_draw(here.session, here.the_study, found.id, why=asked.why, by=here.actor, now=here.now)
    return here.answer(_sequence_reply(_sequence(here, version)).model_dump(mode="json"))


def script_page(here: ApiLoggedPage) -> Here:
    """A GET of the statistician that is written down."""
    return _statistician(here, Permission.SEQUENCE_DRAW)


ScriptPage = Annotated[Here, Depends(later(script_page), scope="function")]


A_SCRIPT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"example": "# Draws list 1 of the study resolve again from its seed."}}}
}


@sequences.get(
    "/sequences/{version}/script.py",
    name="api.script_python",
    response_class=PlainTextResponse,
    responses=A_SCRIPT,
)
def script_python(here: ScriptPage, version: int) -> PlainTextResponse:
    """A program in Python that draws a permuted-block sequence again from its seed, which it does not hold.

    It needs the standard library only; the block sizes stand in it. Taking it is in the log.
    """
    found = _sequence(here, version)
    return PlainTextResponse(
        actions.take_script(here.session, here.the_study, found.id, language="python", by=here.actor, now=here.now)
    )


@sequences.get(
    "/sequences/{version}/script.R", name="api.script_r", response_class=PlainTextResponse, responses=A_SCRIPT
)
def script_r(here: ScriptPage, version: int) -> PlainTextResponse:
    """The same program in base R."""
    found = _sequence(here, version)
    return PlainTextResponse(
        actions.take_script(here.session, here.the_study, found.id, language="r", by=here.actor, now=here.now)
    )


@sequences.post("/sequences/{version}/seal", name="api.seal", response_model=SequenceReply)
def seal(here: SequenceChange, version: int, asked: SealBody) -> Response:
    """Put a drawn sequence in use. It replaces another only when nobody was ever randomised from that one."""
    found = _sequence(here, version)
    _statistician(here, Permission.SEQUENCE_SEAL)
    api_reauthenticate(here, asked.password, None)
    actions.seal(here.session, here.the_study, found.id, by=here.actor, now=here.now)
    return here.answer(_sequence_reply(_sequence(here, version)).model_dump(mode="json"))


def _sequence(here: Here, version: int) -> SequenceCounts:
    return reads.sequence_of_version(here.session, here.the_study, version, by=here.actor)


def _sequence_reply(found: SequenceCounts) -> SequenceReply:
    return SequenceReply.model_validate(found)


# Arms, for the statistician


class AllocationReply(Reply):
    """Who is in which arm. Unblinded: every envelope opened for it is in the log."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "allocation": 42,
                "participant": "R-0042",
                "stratum": "all",
                "allocated_at": "2026-03-14T09:26:53.589793+00:00",
                "allocated_by": "coordinator",
                "arm": "sham",
            }
        }
    )

    allocation: int
    participant: str
    stratum: str
    allocated_at: datetime
    allocated_by: str
    arm: str


@arms.get("/allocations", name="api.allocations")
def allocations(
    here: ArmsPage,
    participant: Whose = None,
    since: Since = None,
    until: Until = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[AllocationReply]:
    """Allocations by number, with their arms; only the envelopes of this page are opened."""
    query = (
        _allocations(here)
        .where(ALLOCATION.c.number > _after(cursor))
        .where(*within(ALLOCATION.c.allocated_at, since, until))
        .where(*([PARTICIPANT.c.code == participant] if participant is not None else []))
        .order_by(ALLOCATION.c.number)
        .limit(limit + 1)
    )
    found = here.session.execute(query).all()
    items = _opened(here, found[:limit], why="List of allocations")
    return PageOf(items=items, next=paging.encode(found[limit - 1].number) if len(found) > limit else None)


@arms.get("/allocations/{number}", name="api.allocation")
def allocation(here: ArmsPage, number: Number) -> AllocationReply:
    """One allocation, with its arm; that its envelope was opened is in the log."""
    found = here.session.execute(_allocations(here).where(ALLOCATION.c.number == number)).all()
    for each in _opened(here, found, why="Allocation"):
        return each
    raise NotFound


def _allocations(here: Here) -> Select[Any]:
    return (
        select(
            ALLOCATION.c.number,
            ALLOCATION.c.participant_id,
            ALLOCATION.c.allocated_at,
            ALLOCATION.c.allocated_by,
            PARTICIPANT.c.code,
            func.coalesce(SLOT.c.levels, STRATUM.c.code).label("stratum"),
        )
        .join(PARTICIPANT, PARTICIPANT.c.id == ALLOCATION.c.participant_id)
        .join(STRATUM, STRATUM.c.id == ALLOCATION.c.stratum_id)
        .join(SLOT, SLOT.c.id == ALLOCATION.c.slot_id)
        .where(ALLOCATION.c.study_id == here.the_study.id)
    )


def _opened(here: Here, rows: Sequence[Any], *, why: str) -> list[AllocationReply]:
    ids = [row.participant_id for row in rows]
    opened = open_envelopes(here.session, here.the_study, ids, by=here.actor, why=why, now=here.now)
    return [
        AllocationReply(
            allocation=row.number,
            participant=row.code,
            stratum=row.stratum,
            allocated_at=row.allocated_at,
            allocated_by=row.allocated_by,
            arm=opened[row.participant_id],
        )
        for row in rows
    ]


def _after(cursor: str | None) -> int:
    if not cursor:
        return 0
    (number,), _ = paging.decode(cursor, 1, int)
    return int(number)


# What these files are called here, and the tables of the exports they are.
WITH_ARMS = {
    "participants": "participants",
    "entries_wide": "entries_by_participant",
    "entries_by_visit": "entries_by_visit",
}


@arms.get(
    "/exports-unblinded/{table}.{extension}",
    name="api.unblinded_export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The file, with a column `arm`; its study version in the header X-Equipoise-Study-Version.",
            "content": file_contents({"participant": "R-0042", "site": "neura", "arm": "sham", "status": "randomised"}),
        }
    },
)
def unblinded_export(
    here: ArmsPage,
    table: str,
    extension: str,
    bom: Annotated[bool, Query(description="A byte order mark before CSV, for spreadsheets.")] = False,
) -> StreamingResponse:
    """A table with the arm of each participant: `participants`, `entries_wide`, or `entries_by_visit`."""
    name = WITH_ARMS.get(table)
    if name is None:
        raise NotFound
    study, format_ = here.the_study, delivery.format_named(extension)
    open_export(here.session, study, name, by=here.actor, arms={})  # refuses here, while a refusal can be answered
    randomised = here.session.execute(select(ALLOCATION.c.participant_id).where(ALLOCATION.c.study_id == study.id))
    ids = list(randomised.scalars())
    opened = open_envelopes(here.session, study, ids, by=here.actor, why=f"Export of {table} with arms", now=here.now)
    record_export(here.session, study, table=f"{name}_with_arms", format=extension, by=here.actor, now=here.now)
    file_name = delivery.file_name(study, f"{table}_unblinded", format_, here.now)
    # No hash of the file goes into the log: with it somebody could try arms until one fits (CONC-11).
    return StreamingResponse(
        _file(database_of(here.request), study, name, format_, opened, bom=bom, by=here.actor),
        media_type=format_.media_type,
        headers={
            "Content-Disposition": f'attachment; filename="{file_name}"',
            "X-Equipoise-Study-Version": study.definition.version,
        },
    )


def _file(
    database: Database,
    study: StudyInUse,
    table: str,
    format_: Format,
    opened: Mapping[int, str],
    *,
    bom: bool,
    by: Actor,
) -> Iterator[bytes]:
    """The file from a snapshot of its own, after the openings were committed."""
    with database.reading() as session:
        yield from encoded(open_export(session, study, table, by=by, arms=opened), format_, bom=bom)


router.routes.extend([*sequences.routes, *arms.routes])
