"""What may I see of randomisation? Gates and an allocation's number for all; lists and arms for the statistician.

Nothing here tells anybody but the statistician of blocks, positions, counts or slots that are left. What is the
statistician's alone does not exist for anybody else: `NotFound`, the same as an address that was never there.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from functools import cache, partial
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Integer, Select, String, Table, bindparam, case, exists, func, or_, select
from sqlmodel import Session

from app.audit.newest import LEAF_THERE, Newest, asked, differs
from app.audit.tree import FullTree
from app.capture.models import Entry, EntryStatus
from app.capture.reads import SCREENING as SCREENED_AT
from app.capture.reads import answers_of
from app.consent.reads import why_no_consent
from app.foundation.clock import today
from app.foundation.database import joined_texts, keys_of, streamed, table_of
from app.foundation.errors import NotFound, Refused
from app.participants.corrections.rules import Allotted
from app.participants.models import Participant, Screening
from app.people.access import Actor, may
from app.people.models import Site
from app.people.permissions import Permission
from app.randomisation import commitment
from app.randomisation.commitment import opened_plan, salt_of
from app.randomisation.downtime.status import SlotState
from app.randomisation.methods import DECIDING, DRAWN, TOGETHER
from app.randomisation.methods.permuted_blocks import NAME as BLOCKS
from app.randomisation.models import (
    Allocation,
    AllocationSequence,
    DowntimePack,
    DowntimeSlot,
    SequenceStatus,
    Slot,
    StageAllocation,
    Stratum,
)
from app.randomisation.opening import open_envelopes, open_groups
from app.randomisation.predictability import MOST_EXACT, Predictability, exactly, permuted_blocks
from app.randomisation.rules import (
    SEPARATOR,
    Facts,
    Gate,
    Recorded,
    SiteDrawn,
    StratumFound,
    first_stage_gates,
    gates,
    is_of_plan,
    moved_levels,
    needs_answers,
    people_expected,
    stratum_code,
)
from app.randomisation.sealing import unseal_secrets
from app.studies.in_use import StudyInUse

PARTICIPANT = table_of(Participant)
SCREENING = table_of(Screening)
ENTRY = table_of(Entry)
SITE = table_of(Site)
SEQUENCE = table_of(AllocationSequence)
STRATUM = table_of(Stratum)
SLOT = table_of(Slot)
ALLOCATION = table_of(Allocation)
STAGED = table_of(StageAllocation)
PACK = table_of(DowntimePack)
RESERVED = table_of(DowntimeSlot)

BATCH = 500
# Built once: putting a statement together takes longer than running it.
_ID = bindparam("participant_id", type_=Integer)
_ALLOCATION = select(
    ALLOCATION.c.participant_id, ALLOCATION.c.number, ALLOCATION.c.allocated_at, ALLOCATION.c.allocated_by
).where(ALLOCATION.c.participant_id == _ID)
# A form that repeats is complete once each that was begun is. As one text: no code has a character of these.
OF_VISIT, AND = "/", " "
EACH_COMPLETE = (
    select(ENTRY.c.visit, ENTRY.c.instrument)
    .where(ENTRY.c.participant_id == _ID, ENTRY.c.in_error_at.is_(None))
    .group_by(ENTRY.c.visit, ENTRY.c.instrument)
    .having(func.count() == func.sum(case((ENTRY.c.status == EntryStatus.COMPLETE, 1), else_=0)))
    .subquery()
)
_COMPLETE = select(joined_texts(EACH_COMPLETE.c.visit + OF_VISIT + EACH_COMPLETE.c.instrument, AND)).scalar_subquery()
_WAITING = (
    select(STRATUM.c.id)
    .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
    .where(
        SEQUENCE.c.study_id == bindparam("study_id", type_=Integer),
        SEQUENCE.c.status == SequenceStatus.SEALED,
        STRATUM.c.used < STRATUM.c.slots,
    )
    .limit(1)
)
OF_ARMS, OF_GROUPS = SEQUENCE.c.stage.is_(None), SEQUENCE.c.stage.is_not(None)
"""Lists of the one and of the other stage."""


def of_stratum(code: ColumnElement[str]) -> ColumnElement[bool]:
    """The stratum of a participant: that of their levels, or the one of a method that weighs all levels together."""
    return or_(STRATUM.c.code == code, *[SEQUENCE.c.method == each for each in DECIDING])


_WAITING_IN = _WAITING.where(of_stratum(bindparam("stratum", type_=String)))
# By whether a stratum is known, and whether it is of the first stage.
_WAITS = {
    (known, first): (_WAITING_IN if known else _WAITING).where(OF_GROUPS if first else OF_ARMS)
    for known in (True, False)
    for first in (True, False)
}
_HELD_OF_ALL = (
    select(
        STRATUM.c.id,
        STRATUM.c.code,
        STRATUM.c.slots,
        STRATUM.c.used,
        STRATUM.c.state,
        STRATUM.c.sequence_id,
        SEQUENCE.c.version,
        SEQUENCE.c.method,
        SEQUENCE.c.secrets,
    )
    .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
    .where(
        SEQUENCE.c.study_id == bindparam("study_id", type_=Integer),
        SEQUENCE.c.status == SequenceStatus.SEALED,
        of_stratum(bindparam("stratum", type_=String)),
    )
    # The first that has a slot left is theirs; further slots stand behind those drawn before.
    .order_by(SEQUENCE.c.version)
    .with_for_update(of=STRATUM)
)
_HELD = {True: _HELD_OF_ALL.where(OF_GROUPS), False: _HELD_OF_ALL.where(OF_ARMS)}
# Each slot that is taken is a new version of its stratum's row, and PostgreSQL lets whoever asks for that version in
# front of those who waited for the one before: of eight at once some waited four times as long as most. So they stand
# in line before they ask. The row's lock is what makes it one after the other; this only says who is next.
_IN_LINE = select(func.pg_advisory_xact_lock(bindparam("line", type_=Integer), bindparam("study_id", type_=Integer)))
STAYS_ANALYSED = "The first stage is done, and whoever was given a group is analysed. Record a withdrawal instead."
THOSE_WHO_RANDOMISE = 0x52414E44
"""Which line it is: that of a study's strata."""

FEWEST_COUNTED = 20  # slots of a list whose counts by arm depend on its order, below which they are not shown
GUESSED = 24  # allocations over which predictability is averaged; by then the averages have settled


@dataclass(frozen=True)
class Allocated:
    """What anybody may know of an allocation: its number in the study, when, and by whom. Never slot or arm."""

    participant_id: int
    number: int
    allocated_at: datetime
    allocated_by: str


def allocation_of(session: Session, participant_id: int) -> Allocated | None:
    """The allocation of a participant, or None."""
    row = session.execute(_ALLOCATION, {"participant_id": participant_id}).first()
    return None if row is None else Allocated(row.participant_id, row.number, row.allocated_at, row.allocated_by)


@dataclass(frozen=True)
class AtTheGates:
    """A participant's site and stratum as they stand at this moment, and what gates are judged from."""

    site_code: str
    site_name: str
    timezone: str
    stratum: str | None
    """The level of each factor, as a stratum's code; None while one is not known."""
    held: Any
    """The stratum's row, when it was asked for and is in use: held until the transaction ends."""
    facts: Facts


def gates_of(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    by: Actor,
    now: datetime,
    newest: Newest | None = None,
) -> tuple[Gate, ...]:
    """Every condition for randomising this participant, open or with the reason; empty in a study that does not.

    `newest` is what is remembered of the log outside the database (app.audit.newest).
    """
    if participant.study_id != study.id or not may(by, Permission.PARTICIPANT_READ, site_id=participant.site_id):
        raise NotFound
    if not study.definition.is_allocated:
        return ()
    return gates(study.definition, standing(session, study, participant, now=now, newest=newest).facts)


def first_stage_of(study: StudyInUse) -> StudyInUse:
    """The study as its first stage sees it: groups for arms, that stage's method and strata. NotFound without one."""
    if study.definition.allocation.first_stage is None:
        raise NotFound
    return replace(study, definition=study.definition.as_first_stage())


@dataclass(frozen=True)
class Staged:
    """What anybody may know of a first stage that is done: when, and by whom. Never the group."""

    participant_id: int
    allocated_at: datetime
    allocated_by: str


def stage_of(session: Session, participant_id: int) -> Staged | None:
    """The first stage of a participant, or None while it is not done."""
    query = select(STAGED.c.participant_id, STAGED.c.allocated_at, STAGED.c.allocated_by)
    row = session.execute(query.where(STAGED.c.participant_id == participant_id)).first()
    return None if row is None else Staged(row.participant_id, row.allocated_at, row.allocated_by)


def why_not_left_out(session: Session, participant: Participant) -> str | None:
    """Why somebody is no screen failure who was given a group of the first stage; None while they have none."""
    staged = participant.id is not None and stage_of(session, participant.id) is not None
    return STAYS_ANALYSED if staged else None


def refuse_staged(session: Session, participant: Participant, *, action: str) -> None:
    """The same as a refusal, while the participant is held."""
    if why := why_not_left_out(session, participant):
        raise Refused(why, action=action, subject=participant.code)


def first_stage_gates_of(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    by: Actor,
    now: datetime,
    newest: Newest | None = None,
) -> tuple[Gate, ...]:
    """Every condition for the first stage, open or with the reason; empty in a study without one."""
    if participant.study_id != study.id or not may(by, Permission.PARTICIPANT_READ, site_id=participant.site_id):
        raise NotFound
    if study.definition.allocation.first_stage is None:
        return ()
    stood = standing(session, first_stage_of(study), participant, now=now, newest=newest, first=True)
    return first_stage_gates(study.definition, stood.facts)


def secrets_of(session: Session, study: StudyInUse, listed_in: Any) -> dict[str, Any]:
    """What a list was drawn from, by its row or that of a stratum in it; nothing without one. For this room alone."""
    if listed_in is None:
        return {}
    return unseal_secrets(keys_of(session), study.id, listed_in.version, bytes(listed_in.secrets))


def standing(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    now: datetime,
    lock: bool = False,
    hold: bool = False,
    newest: Newest | None = None,
    first: bool = False,
) -> AtTheGates:
    """The participant as stored now, not as loaded before; `lock` keeps the row until the transaction ends.

    `hold` keeps their stratum as well, and comes last: others wait for a stratum and for nothing that is only looked
    at. `first` looks at the first stage, of which `study` is the view (`first_stage_of`).
    """
    wanted = {"participant_id": participant.id, **(asked(newest) if newest else {})}
    row = session.execute(_participant_and_site(lock, newest is not None), wanted).one()
    found = stratum_of(session, study, participant, site_code=row.site_code, timezone=row.timezone, now=now)
    why_no = why_no_consent(session, study, participant, before="randomisation", now=now)
    held = _held_stratum(session, study.id, found.code, first=first) if hold else None
    facts = Facts(
        participant=row.code,
        status=row.status,
        eligible=row.eligible,
        why_no_consent=why_no,
        complete=frozenset(tuple(form.split(OF_VISIT)) for form in (row.complete or "").split(AND) if form),
        why_no_stratum=found.reason,
        site_name=row.site_name,
        site_open=row.is_open,
        allocated=row.allocated,
        slot_waiting=held.used < held.slots if held else _is_slot_waiting(session, study.id, found.code, first=first),
        behind=newest is not None and differs(session, newest, row.leaf),
        staged=row.staged,
        fatal_event=row.fatal_event,
    )
    return AtTheGates(row.site_code, row.site_name, row.timezone, found.code, held, facts)


def allotted_of(
    session: Session, study: StudyInUse, participant: Participant, screening: Mapping[str, Any]
) -> Allotted:
    """Whether a participant was given a place by chance, and which levels of their stratum are others by these answers.

    `screening` are the answers of the pre-screen as they are to be corrected. What they were randomised by is what
    their slot says; it stays so. Nothing is opened, and neither slot nor arm is told.
    """
    assert participant.id is not None
    definition, moved, has_place = study.definition, dict[str, tuple[str, str | None]](), False
    stages = [(ALLOCATION, definition)]
    if definition.allocation.first_stage is not None:
        stages.insert(0, (STAGED, definition.as_first_stage()))
    for taken, own in stages:
        row = session.execute(_levels_of(taken), {"participant_id": participant.id}).first()
        if row is None:
            continue
        has_place = True
        known = answers_of(session, study, participant.id) if needs_answers(own) else {}
        answers = {place: value for place, value in known.items() if place[0] != SCREENED_AT}
        answers |= {(SCREENED_AT, item): value for item, value in screening.items()}
        at = row.allocated_at
        recorded = Recorded(answers, today(row.timezone, at), at.astimezone(ZoneInfo(row.timezone)))
        moved |= moved_levels(own, row.levels, recorded, event=SCREENED_AT)
    return Allotted(has_place, moved)


@cache
def _levels_of(taken: Table) -> Select[Any]:
    """By which levels somebody was given a place, when, and the clock of their site."""
    return (
        select(taken.c.allocated_at, SITE.c.timezone, func.coalesce(SLOT.c.levels, STRATUM.c.code).label("levels"))
        .join(STRATUM, STRATUM.c.id == taken.c.stratum_id)
        .join(SLOT, SLOT.c.id == taken.c.slot_id)
        .join(PARTICIPANT, PARTICIPANT.c.id == taken.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(taken.c.participant_id == _ID)
    )


def stratum_of(
    session: Session, study: StudyInUse, participant: Participant, *, site_code: str, timezone: str, now: datetime
) -> StratumFound:
    """The stratum as the answers stand now; answers are only read when a factor needs them."""
    recorded = None
    if needs_answers(study.definition):
        assert participant.id is not None
        answers = answers_of(session, study, participant.id)
        recorded = Recorded(answers, today(timezone, now), now.astimezone(ZoneInfo(timezone)))
    return stratum_code(study.definition, site_code, recorded)


@cache
def _participant_and_site(lock: bool, remembered: bool) -> Select[Any]:
    """One statement for all that is only looked at: each would take as long to send as to run."""
    latest = (
        select(SCREENING.c.eligible)
        .where(SCREENING.c.participant_id == PARTICIPANT.c.id)
        .order_by(SCREENING.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(
            PARTICIPANT.c.code,
            PARTICIPANT.c.status,
            PARTICIPANT.c.fatal_event,
            SITE.c.code.label("site_code"),
            SITE.c.name.label("site_name"),
            SITE.c.timezone,
            SITE.c.is_open,
            latest.label("eligible"),
            exists().where(ALLOCATION.c.participant_id == PARTICIPANT.c.id).label("allocated"),
            exists().where(STAGED.c.participant_id == PARTICIPANT.c.id).label("staged"),
            _COMPLETE.label("complete"),
            *([LEAF_THERE.label("leaf")] if remembered else []),
        )
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(PARTICIPANT.c.id == _ID)
    )
    # FOR NO KEY UPDATE: whoever changes this participant waits, whoever only refers to them does not.
    return query.with_for_update(of=PARTICIPANT, key_share=True) if lock else query


def _is_slot_waiting(session: Session, study_id: int, stratum: str | None, *, first: bool) -> bool:
    wanted: dict[str, object] = {"study_id": study_id}
    if stratum is not None:
        wanted["stratum"] = stratum
    return session.execute(_WAITS[stratum is not None, first], wanted).first() is not None


def _held_stratum(session: Session, study_id: int, stratum: str | None, *, first: bool) -> Any:
    """The stratum's row, held until the transaction ends; None when there is none in use.

    FOR UPDATE and never SKIP LOCKED: whoever comes second waits and takes the slot after (E9-3, REL-13). On SQLite the
    whole writing transaction is the lock (BEGIN IMMEDIATE). Where further slots stand behind a list, the row is that of
    the first list that is not used up.
    """
    if stratum is None:
        return None
    stand_in_line(session, study_id)
    rows = session.execute(_HELD[first], {"study_id": study_id, "stratum": stratum}).all()
    return next((row for row in rows if row.used < row.slots), rows[0] if rows else None)


def stand_in_line(session: Session, study_id: int) -> None:
    """Wait until everybody who came before has randomised; behind the participant and before any stratum of a study.

    First come, first served, until the transaction ends. On SQLite whoever begins to write stands in line already.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_IN_LINE, {"line": THOSE_WHO_RANDOMISE, "study_id": study_id})


@dataclass(frozen=True)
class StratumCounts:
    """How long one stratum's list is and how much of it is used; all of it where each allocation is decided alone."""

    code: str
    slots: int
    used: int


@dataclass(frozen=True)
class SequenceCounts:
    """One list in counts only; nothing of its order, block sizes or seed."""

    id: int
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
    strata: tuple[StratumCounts, ...]


@dataclass(frozen=True)
class Balance:
    """What a statistician reviews before sealing: slots per arm and stratum, and how well the next arm is guessed.

    Where sites are drawn together there are no slots per arm: with few sites they would say who has which. Nor are
    there for a short list of a method that does not balance exactly: of a list of one slot they would be its order.

    `correct` and `certain` are probabilities per allocation for a guesser who knows all earlier arms (fractions from
    0 to 1), averaged over the first `guessed` allocations of a stratum. They are None for an uploaded list, whose rule
    we do not know, and where there is no exact answer.
    """

    version: int
    status: str
    slots: int
    slots_per_arm: Mapping[str, int]
    slots_per_stratum: Mapping[str, int]
    correct: Fraction | None
    certain: Fraction | None
    guessed: int = GUESSED
    further: bool = False
    """Whether its slots stand behind those of an earlier list."""


@dataclass(frozen=True)
class ArmOfParticipant:
    """One line of the statistician's unblinded list."""

    number: int
    participant: str
    stratum: str
    allocated_at: datetime
    allocated_by: str
    arm: str


def require_statistician(study: StudyInUse, by: Actor, permission: Permission) -> None:
    """`NotFound` unless this person is the statistician of this study: for all others it does not exist."""
    if by.study_id not in (None, study.id) or not may(by, permission):
        raise NotFound


def sequences(session: Session, study: StudyInUse, *, by: Actor) -> tuple[SequenceCounts, ...]:
    """Every list of the study, newest first, in counts only; `NotFound` for all but the statistician."""
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    lists = session.execute(
        select(*[column for column in SEQUENCE.c if column.name != "secrets"])
        .where(SEQUENCE.c.study_id == study.id)
        .order_by(SEQUENCE.c.version.desc())
    ).all()
    strata: dict[int, list[StratumCounts]] = {row.id: [] for row in lists}
    deciding = {row.id for row in lists if row.method in DECIDING}
    for row in session.execute(
        select(STRATUM.c.sequence_id, STRATUM.c.code, STRATUM.c.slots, STRATUM.c.used)
        .where(STRATUM.c.sequence_id.in_(strata))
        .order_by(STRATUM.c.sequence_id, STRATUM.c.code)
    ):
        decided = row.sequence_id in deciding
        strata[row.sequence_id].append(StratumCounts(row.code, row.used if decided else row.slots, row.used))
    return tuple(
        SequenceCounts(
            id=row.id,
            version=row.version,
            method=row.method,
            status=row.status,
            stage=row.stage,
            slots=sum(stratum.slots for stratum in strata[row.id]),
            used=sum(stratum.used for stratum in strata[row.id]),
            digest=row.digest,
            drawn_at=row.drawn_at,
            drawn_by=row.drawn_by,
            sealed_at=row.sealed_at,
            sealed_by=row.sealed_by,
            strata=tuple(strata[row.id]),
        )
        for row in lists
    )


def of_another_plan(session: Session, study: StudyInUse, *, by: Actor) -> tuple[int, ...]:
    """The numbers of the lists in use that were drawn for another plan than the study has now, and give nobody a slot.

    `NotFound` for all but the statistician.
    """
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    first = study.definition.as_first_stage() if study.definition.allocation.first_stage else None
    rows = session.execute(
        select(SEQUENCE.c.version, SEQUENCE.c.method, SEQUENCE.c.stage, SEQUENCE.c.secrets)
        .where(SEQUENCE.c.study_id == study.id, SEQUENCE.c.status == SequenceStatus.SEALED)
        .order_by(SEQUENCE.c.version)
    ).all()
    found = []
    for row in rows:
        plan = first if row.stage else study.definition
        drawn_from = secrets_of(session, study, row)
        if plan is None or not is_of_plan(plan, row.method, drawn_from):
            found.append(row.version)
    return tuple(found)


def sequence_of_version(session: Session, study: StudyInUse, version: int, *, by: Actor) -> SequenceCounts:
    """One list by its number; `NotFound` when there is none, and for all but the statistician."""
    for each in sequences(session, study, by=by):
        if each.version == version:
            return each
    raise NotFound


def sites_drawn(session: Session, study: StudyInUse, *, by: Actor) -> tuple[SiteDrawn, ...]:
    """Every site with the list that gives it an arm, where sites are randomised; `NotFound` for all others.

    The arm of a site stands once somebody was randomised from its list, or the list is closed and may be opened.
    """
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    others = STRATUM.alias()
    used = exists().where(others.c.sequence_id == SEQUENCE.c.id, others.c.used > 0)
    given = (
        select(STRATUM.c.code, SEQUENCE.c.version, or_(SEQUENCE.c.status == SequenceStatus.CLOSED, used).label("final"))
        .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
        .where(SEQUENCE.c.study_id == study.id, SEQUENCE.c.status.in_((SequenceStatus.SEALED, SequenceStatus.CLOSED)))
        .subquery()
    )
    rows = session.execute(
        select(SITE.c.code, SITE.c.name, given.c.version, given.c.final)
        .outerjoin(given, given.c.code == SITE.c.code)
        .where(SITE.c.study_id == study.id)
        .order_by(SITE.c.code, given.c.version)
    ).all()
    found: dict[str, SiteDrawn] = {}
    for row in rows:
        earlier = found.get(row.code)
        if earlier is None or not earlier.is_final:  # further slots come after it, and are of the same arm
            found[row.code] = SiteDrawn(row.code, row.name, row.version, bool(row.final))
    return tuple(found.values())


def balance(session: Session, study: StudyInUse, sequence_id: int, *, by: Actor) -> Balance:
    """One list's counts and predictability; no envelope is opened for it. `NotFound` for all but the statistician."""
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    row = session.execute(
        select(SEQUENCE.c.version, SEQUENCE.c.status, SEQUENCE.c.slots, SEQUENCE.c.secrets).where(
            SEQUENCE.c.id == sequence_id, SEQUENCE.c.study_id == study.id
        )
    ).first()
    if row is None:
        raise NotFound
    drawn_from = secrets_of(session, study, row)
    lengths = session.execute(
        select(STRATUM.c.code, STRATUM.c.slots).where(STRATUM.c.sequence_id == sequence_id).order_by(STRATUM.c.code)
    ).all()
    guess = None
    guessed, length = GUESSED, drawn_from["slots_per_stratum"]
    shares = [share for _, share in drawn_from["arms"]]
    if drawn_from["block_sizes"]:
        guessed = min(GUESSED, length)
        guess = permuted_blocks(shares, drawn_from["block_sizes"], guessed)
    elif drawn_from["method"] in TOGETHER and drawn_from.get("further"):
        guess = Predictability(Fraction(1), Fraction(1))  # whoever knows all earlier arms knows that of the site
    elif drawn_from["method"] in TOGETHER:
        guessed = min(people_expected(study.definition), length)
        guess = exactly(drawn_from["method"], shares, {}, length, guessed, strata=len(lengths))
    elif drawn_from["method"] in DRAWN:
        # These change along their list, so that its beginning would not speak for it.
        guessed = min(MOST_EXACT, length)
        guess = exactly(drawn_from["method"], shares, drawn_from["options"], length, guessed)
    return Balance(
        version=row.version,
        status=row.status,
        slots=row.slots,
        slots_per_arm={} if _counts_would_tell(drawn_from["method"], row.slots) else drawn_from["slots_per_arm"],
        slots_per_stratum={}
        if drawn_from["method"] in DECIDING
        else {stratum.code: stratum.slots for stratum in lengths},
        correct=guess.correct if guess else None,
        certain=guess.certain if guess else None,
        guessed=guessed,
        further=bool(drawn_from.get("further")),
    )


def _counts_would_tell(method: str, slots: int) -> bool:
    """Whether counts of slots by arm would come close to the order of a list that nobody has seen (CONC-1)."""
    # How many sites of a small batch have which arm comes close to which site has it. Blocks are balanced whatever
    # their order; whoever hands a list in has seen it.
    return method in TOGETHER or (method in DRAWN and method != BLOCKS and slots < FEWEST_COUNTED)


def allocated_from(session: Session, study: StudyInUse, sequence_id: int, *, by: Actor) -> int:
    """How many have a slot of one list; what is reserved for downtime or void is none. For the statistician alone."""
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    of_arms, of_groups = (
        select(func.count())
        .select_from(taken.join(STRATUM, STRATUM.c.id == taken.c.stratum_id))
        .where(STRATUM.c.sequence_id == sequence_id, taken.c.study_id == study.id)
        .scalar_subquery()
        for taken in (ALLOCATION, STAGED)
    )
    return int(session.execute(select(of_arms + of_groups)).scalar_one())


@dataclass(frozen=True)
class StoredSlot:
    """One slot as it is kept, unopened; `leaf` is empty in lists from before there were commitments."""

    stratum: str
    position: int
    envelope: bytes
    leaf: bytes


def stored_slots(session: Session, sequence_id: int | None) -> Iterator[StoredSlot]:
    """Every slot of a list in the order of its commitment: strata by code, positions ascending."""
    strata = session.execute(select(STRATUM.c.id, STRATUM.c.code).where(STRATUM.c.sequence_id == sequence_id)).all()
    for stratum in sorted(strata, key=lambda row: str(row.code)):
        kept = (
            select(SLOT.c.position, SLOT.c.envelope, SLOT.c.leaf)
            .where(SLOT.c.stratum_id == stratum.id)
            .order_by(SLOT.c.position)
        )
        for row in streamed(session, kept, batch=10 * BATCH):
            yield StoredSlot(stratum.code, row.position, bytes(row.envelope), bytes(row.leaf or b""))


def plan_options(secrets: Mapping[str, Any]) -> dict[str, object]:
    """The method's options among a list's secrets."""
    return dict(secrets["options"])


def certificate(session: Session, study: StudyInUse, sequence_id: int, *, by: Actor) -> dict[str, Any]:
    """The sealing certificate as it was when the list was sealed. `NotFound` for all but the statistician."""
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    text = session.execute(
        select(SEQUENCE.c.certificate).where(SEQUENCE.c.id == sequence_id, SEQUENCE.c.study_id == study.id)
    ).scalar()
    if text is None:
        raise NotFound("This list has no certificate: it is not sealed, or was sealed before there were any.")
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def proofs(
    session: Session, study: StudyInUse, sequence_id: int, *, by: Actor, why: str, now: datetime
) -> Iterator[dict[str, object]]:
    """For every allocation of one list, by number: its arm, its salt, and the path from its leaf to the root.

    Then the slots that were reserved for downtime and not used: `voided` with the reason, or still `reserved`.
    Unblinded: each envelope opened is an audit entry, and the session must be a writing one. `NotFound`, at once, for
    all but the statistician, and for a list without a commitment.
    """
    require_statistician(study, by, Permission.ALLOCATIONS_EXPORT)
    row = session.execute(
        select(
            SEQUENCE.c.id, SEQUENCE.c.version, SEQUENCE.c.plan_commitment, SEQUENCE.c.secrets, SEQUENCE.c.stage
        ).where(SEQUENCE.c.id == sequence_id, SEQUENCE.c.study_id == study.id)
    ).first()
    if row is None or row.plan_commitment is None:
        raise NotFound("There is nothing to prove: this list was drawn before there were commitments.")
    secrets = secrets_of(session, study, row)
    places: dict[tuple[str, int], int] = {}
    leaves = []
    for index, slot in enumerate(stored_slots(session, sequence_id)):
        places[slot.stratum, slot.position] = index
        leaves.append(slot.leaf)
    tree = FullTree(leaves)
    of_arms = partial(open_envelopes, session, study, by=by, why=why, now=now)
    of_groups = partial(open_groups, session, study, by=by, why=why, now=now)
    return _proofs(
        session,
        sequence_id,
        tree,
        places,
        bytes.fromhex(secrets["salt_key"]),
        taken=STAGED if row.stage else ALLOCATION,
        opened=of_groups if row.stage else of_arms,
        groups=of_groups if secrets.get("groups") else None,
    )


def proofs_file(
    session: Session, study: StudyInUse, sequence_id: int, *, by: Actor, why: str, now: datetime
) -> list[bytes]:
    """`proofs` as lines of JSON, with the line that closes them; the log says the certificate's hash, too."""
    lines = [commitment.canonical(each) for each in proofs(session, study, sequence_id, by=by, why=why, now=now)]
    certificate = session.execute(select(SEQUENCE.c.certificate).where(SEQUENCE.c.id == sequence_id)).scalar()
    return commitment.closed(lines, certificate)


Opening = Callable[[list[int]], dict[int, str]]
"""Opens the envelopes of these participants, each of which is written down."""


def _proofs(
    session: Session,
    sequence_id: int,
    tree: FullTree,
    places: Mapping[tuple[str, int], int],
    salt_key: bytes,
    *,
    taken: Table,
    opened: Opening,
    groups: Opening | None,
) -> Iterator[dict[str, object]]:
    query = (
        select(
            taken.c.number,
            taken.c.participant_id,
            taken.c.allocated_at,
            PARTICIPANT.c.code,
            STRATUM.c.code.label("stratum"),
            SLOT.c.position,
            SLOT.c.levels,
            PACK.c.number.label("pack"),
        )
        .join(PARTICIPANT, PARTICIPANT.c.id == taken.c.participant_id)
        .join(STRATUM, STRATUM.c.id == taken.c.stratum_id)
        .join(SLOT, SLOT.c.id == taken.c.slot_id)
        .outerjoin(RESERVED, RESERVED.c.slot_id == taken.c.slot_id)
        .outerjoin(PACK, PACK.c.id == RESERVED.c.pack_id)
        .where(STRATUM.c.sequence_id == sequence_id)
        .order_by(taken.c.number)
        .limit(BATCH)
    )
    last = 0
    while rows := session.execute(query.where(taken.c.number > last)).all():
        ids = [row.participant_id for row in rows]
        arms, group_of = opened(ids), groups(ids) if groups else {}
        for row in rows:
            path = tree.inclusion_proof(places[row.stratum, row.position])
            yield {
                "number": row.number,
                "participant": row.code,
                "allocated_at": row.allocated_at.isoformat(),
                "stratum": row.stratum,
                "position": row.position,
                **({} if row.levels is None else {"levels": row.levels.split(SEPARATOR)}),
                **({"group": group_of[row.participant_id]} if groups else {}),
                "arm": arms[row.participant_id],
                "salt": salt_of(salt_key, row.stratum, row.position).hex(),
                "path": [each.hex() for each in path],
                **({} if row.pack is None else {"pack": row.pack}),
            }
        last = rows[-1].number
    yield from _not_allocated(session, sequence_id)


def _not_allocated(session: Session, sequence_id: int) -> Iterator[dict[str, object]]:
    query = (
        select(STRATUM.c.code, SLOT.c.position, PACK.c.number, RESERVED.c.state, RESERVED.c.reason)
        .join(SLOT, SLOT.c.id == RESERVED.c.slot_id)
        .join(STRATUM, STRATUM.c.id == SLOT.c.stratum_id)
        .join(PACK, PACK.c.id == RESERVED.c.pack_id)
        .where(STRATUM.c.sequence_id == sequence_id, RESERVED.c.state != SlotState.USED)
        .order_by(PACK.c.number, RESERVED.c.number)
    )
    for row in session.execute(query):
        place = {"stratum": row.code, "position": row.position, "pack": row.number}
        is_void = row.state == SlotState.VOID
        yield {**place, **({"voided": row.reason} if is_void else {"reserved": True})}


def opened_plan_of(session: Session, study: StudyInUse, sequence_id: int, *, by: Actor) -> dict[str, object]:
    """The plan, seed and salt key of a list, for publication when the trial is closed: it opens every slot there is.

    For `actions.open_plan`, which asks whether it may be opened and writes it down.
    """
    require_statistician(study, by, Permission.ALLOCATIONS_EXPORT)
    return _opened_plan(session, study, sequence_id)


def plan_to_escrow(session: Session, study: StudyInUse, sequence_id: int, *, by: Actor) -> dict[str, object]:
    """The same plan, for `actions.seal` alone, which hands it over encrypted: whoever seals does not see it."""
    require_statistician(study, by, Permission.SEQUENCE_SEAL)
    return _opened_plan(session, study, sequence_id)


def _opened_plan(session: Session, study: StudyInUse, sequence_id: int) -> dict[str, object]:
    row = session.execute(
        select(SEQUENCE.c.version, SEQUENCE.c.method, SEQUENCE.c.plan_commitment, SEQUENCE.c.secrets).where(
            SEQUENCE.c.id == sequence_id, SEQUENCE.c.study_id == study.id
        )
    ).first()
    if row is None or row.plan_commitment is None:
        raise NotFound("There is nothing to open: this list was drawn before there were commitments.")
    secrets = secrets_of(session, study, row)
    strata: Sequence[Any] = ()
    if row.method not in DECIDING:
        ahead = select(STRATUM.c.code, STRATUM.c.slots).where(STRATUM.c.sequence_id == sequence_id)
        strata = session.execute(ahead).all()
    return opened_plan(
        study=study.code,
        version=row.version,
        method=row.method,
        arms=[(code, share) for code, share in secrets["arms"]],
        strata={stratum.code: stratum.slots for stratum in strata},
        slots_per_stratum=secrets["slots_per_stratum"],
        options=plan_options(secrets),
        seed=bytes.fromhex(secrets["seed"]) if secrets["seed"] else None,
        salt_key=bytes.fromhex(secrets["salt_key"]),
        factors=secrets.get("factors", ()),
        groups=secrets.get("groups", {}),
        further=secrets.get("further", False),
    )


def allocations(
    session: Session, study: StudyInUse, *, by: Actor, why: str, now: datetime
) -> Iterator[ArmOfParticipant]:
    """Every allocation with its arm, by number, in batches; each envelope opened is an audit entry.

    The session must be a writing one that is committed before anything of the list is shown. `NotFound`, at once, for
    all but the statistician.
    """
    require_statistician(study, by, Permission.ALLOCATIONS_EXPORT)
    return _allocations(session, study, by=by, why=why, now=now)


def _allocations(
    session: Session, study: StudyInUse, *, by: Actor, why: str, now: datetime
) -> Iterator[ArmOfParticipant]:
    last = 0
    while True:
        rows = session.execute(
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
            .where(ALLOCATION.c.study_id == study.id, ALLOCATION.c.number > last)
            .order_by(ALLOCATION.c.number)
            .limit(BATCH)
        ).all()
        if not rows:
            return
        arms = open_envelopes(session, study, [row.participant_id for row in rows], by=by, why=why, now=now)
        for row in rows:
            yield ArmOfParticipant(
                row.number, row.code, row.stratum, row.allocated_at, row.allocated_by, arms[row.participant_id]
            )
        last = rows[-1].number
