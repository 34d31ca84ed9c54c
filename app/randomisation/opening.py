"""Which arm is this participant in? The one place that opens an envelope; who asked is written down each time."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, Select, String, Table, bindparam, or_, select
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.database import Instant, keys_of, table_of
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.participants.models import Participant
from app.people.access import Actor, may, require, sites_for
from app.people.permissions import Permission
from app.randomisation.downtime.status import SlotState
from app.randomisation.models import (
    Allocation,
    AllocationSequence,
    DowntimePack,
    DowntimeSlot,
    SequenceStatus,
    Slot,
    StageAllocation,
    Stratum,
    Unblinding,
)
from app.randomisation.sealing import Place, unseal_arm
from app.studies.in_use import StudyInUse

PARTICIPANT = table_of(Participant)
SEQUENCE = table_of(AllocationSequence)
STRATUM = table_of(Stratum)
SLOT = table_of(Slot)
ALLOCATION = table_of(Allocation)
STAGED = table_of(StageAllocation)
UNBLINDING = table_of(Unblinding)
PACK = table_of(DowntimePack)
RESERVED = table_of(DowntimeSlot)

# Built once: putting a SELECT together takes longer than running it.
_STUDY = bindparam("study_id", type_=Integer)


def _envelopes(taken: Table) -> Select[Any]:
    """The envelopes of these participants, where `taken` says who took which slot: for the arm, or an earlier stage."""
    return (
        select(
            PARTICIPANT.c.id,
            PARTICIPANT.c.code,
            SEQUENCE.c.id.label("sequence_id"),
            SEQUENCE.c.version,
            STRATUM.c.code.label("stratum"),
            SLOT.c.position,
            SLOT.c.envelope,
        )
        .join(taken, taken.c.participant_id == PARTICIPANT.c.id)
        .join(SLOT, SLOT.c.id == taken.c.slot_id)
        .join(STRATUM, STRATUM.c.id == SLOT.c.stratum_id)
        .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
        .where(
            PARTICIPANT.c.study_id == _STUDY,
            SEQUENCE.c.study_id == _STUDY,
            PARTICIPANT.c.id.in_(bindparam("ids", type_=Integer, expanding=True)),
        )
        .order_by(taken.c.number)
    )


_ENVELOPES = _envelopes(ALLOCATION)
_GROUPS = _envelopes(STAGED)
_ENVELOPES_THERE = _ENVELOPES.where(PARTICIPANT.c.site_id.in_(bindparam("sites", type_=Integer, expanding=True)))
# For somebody who is blinded: only what a written-down unblinding of theirs covers, and only while it does (WHO-1).
_UNBLINDED = _ENVELOPES.join(
    UNBLINDING, or_(UNBLINDING.c.participant_id == PARTICIPANT.c.id, UNBLINDING.c.participant_id.is_(None))
).where(
    UNBLINDING.c.id == bindparam("unblinding_id", type_=Integer),
    UNBLINDING.c.study_id == _STUDY,
    UNBLINDING.c.recorded_by == bindparam("username", type_=String),
    UNBLINDING.c.opens_until >= bindparam("now", type_=Instant),
    # A decision opens what there was when it was made, and nobody who is randomised after it.
    or_(UNBLINDING.c.decided_at.is_(None), ALLOCATION.c.allocated_at <= UNBLINDING.c.decided_at),
)

# Of a pack that is being made: every slot is still reserved, and nobody has one.
_OF_PACK = (
    select(
        SLOT.c.id,
        RESERVED.c.number,
        SEQUENCE.c.id.label("sequence_id"),
        SEQUENCE.c.version,
        STRATUM.c.code.label("stratum"),
        SLOT.c.position,
        SLOT.c.envelope,
    )
    .join(RESERVED, RESERVED.c.slot_id == SLOT.c.id)
    .join(PACK, PACK.c.id == RESERVED.c.pack_id)
    .join(STRATUM, STRATUM.c.id == SLOT.c.stratum_id)
    .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
    .where(
        PACK.c.id == bindparam("pack_id", type_=Integer),
        PACK.c.study_id == _STUDY,
        SEQUENCE.c.study_id == _STUDY,
        PACK.c.made_at == bindparam("now", type_=Instant),
        PACK.c.closed_at.is_(None),
        RESERVED.c.state == SlotState.RESERVED,
    )
    .order_by(RESERVED.c.number)
)

ACTION = "envelope.open"
BATCH = 500


def open_envelope(
    session: Session, study: StudyInUse, participant: Participant, *, by: Actor, why: str, now: datetime
) -> str:
    """The arm code of one randomised participant, for those who may know it; written down as `envelope.opened`."""
    if participant.study_id != study.id or participant.id is None or by.study_id not in (None, study.id):
        raise NotFound
    if not may(by, Permission.ALLOCATIONS_EXPORT):
        require(by, Permission.ARM_READ, site_id=participant.site_id, subject=participant.code, action=ACTION)
    arms = open_envelopes(session, study, [participant.id], by=by, why=why, now=now)
    if participant.id not in arms:
        raise Refused(
            f"{participant.code} is not randomised yet, so there is no arm. Randomise the participant first.",
            action=ACTION,
            subject=participant.code,
        )
    return arms[participant.id]


def open_envelopes(
    session: Session,
    study: StudyInUse,
    participant_ids: Iterable[int],
    *,
    by: Actor,
    why: str,
    also: Sequence[Change] = (),
    now: datetime,
) -> dict[int, str]:
    """The arm code by participant id; those not randomised, of another study or another site are left out.

    One audit entry per envelope, all in one go, and behind them `also`, where anybody was asked for. The session must
    be a writing one: what is not written down is not opened.
    """
    if by.study_id not in (None, study.id):
        raise NotFound  # roles count in the study they were given for
    wanted = list(participant_ids)
    scope = None if may(by, Permission.ALLOCATIONS_EXPORT) else sites_for(by, Permission.ARM_READ)
    if scope is not None and not scope:
        require(by, Permission.ARM_READ, action=ACTION)
    arms: dict[int, str] = {}
    for start in range(0, len(wanted), BATCH):
        these: dict[str, object] = {"study_id": study.id, "ids": wanted[start : start + BATCH]}
        if scope is not None:
            these["sites"] = sorted(scope)
        rows = session.execute(_ENVELOPES if scope is None else _ENVELOPES_THERE, these).all()
        last = start + BATCH >= len(wanted)
        arms |= _open(session, study, rows, by=by, why=why, also=also if last else (), now=now)
    return arms


def open_unblinded(
    session: Session,
    study: StudyInUse,
    unblinding_id: int,
    participant_ids: Sequence[int],
    *,
    by: Actor,
    why: str,
    also: Sequence[Change] = (),
    now: datetime,
) -> dict[int, str]:
    """The arm code by participant id, as far as this unblinding of theirs covers them; all others are left out.

    At most BATCH at once. `also` is written into the log with the openings, in one go.
    """
    if by.study_id not in (None, study.id):
        raise NotFound
    if not may(by, Permission.ALLOCATION_UNBLIND):
        require(by, Permission.UNBLINDING_REQUEST, action=ACTION)
    wanted = {
        "study_id": study.id,
        "ids": list(participant_ids[:BATCH]),
        "unblinding_id": unblinding_id,
        "username": by.username,
        "now": now,
    }
    return _open(session, study, session.execute(_UNBLINDED, wanted).all(), by=by, why=why, also=also, now=now)


def open_reserved(
    session: Session,
    study: StudyInUse,
    pack_id: int,
    names: Mapping[int, str],
    *,
    by: Actor,
    why: str,
    now: datetime,
) -> dict[int, str]:
    """The arm code by slot id of the pack that is made at this moment, for sealing them again; never of another.

    `names` is how the log calls each slip, by its number. Nobody is shown what is opened here: it goes into the file.
    """
    if by.study_id not in (None, study.id) or not may(by, Permission.ALLOCATIONS_EXPORT):
        raise NotFound
    rows = session.execute(_OF_PACK, {"pack_id": pack_id, "study_id": study.id, "now": now}).all()
    subjects = {row.id: f"downtime/{names[row.number]}" for row in rows}
    return _open(session, study, rows, by=by, why=why, subjects=subjects, now=now)


def open_groups(
    session: Session, study: StudyInUse, participant_ids: Iterable[int], *, by: Actor, why: str, now: datetime
) -> dict[int, str]:
    """The group of the first stage by participant id, for the statistician alone; one audit entry per envelope."""
    if by.study_id not in (None, study.id) or not may(by, Permission.ALLOCATIONS_EXPORT):
        raise NotFound
    wanted, groups = list(participant_ids), dict[int, str]()
    for start in range(0, len(wanted), BATCH):
        rows = session.execute(_GROUPS, {"study_id": study.id, "ids": wanted[start : start + BATCH]}).all()
        groups |= _open(session, study, rows, by=by, why=why, stage=True, now=now)
    return groups


def group_to_decide_in(session: Session, study: StudyInUse, participant_id: int) -> str | None:
    """The group within which this person's arm is decided at this moment; None while they have none.

    For `actions` alone, which decides and seals the arm with it: nobody is shown it, so nobody's opening is written
    down, as it is not when what was counted so far is read to decide.
    """
    row = session.execute(_GROUPS, {"study_id": study.id, "ids": [participant_id]}).first()
    if row is None:
        return None
    place = Place(study.id, row.sequence_id, row.version, row.stratum, row.position)
    return unseal_arm(keys_of(session), place, bytes(row.envelope))


def arms_to_go_on_with(session: Session, study: StudyInUse, sites: Sequence[str]) -> dict[str, str]:
    """Where sites are randomised: the arm of each that is in use, by code, to draw further slots of the same.

    For `actions.draw` alone, which seals it again: nobody is shown it, as when an arm is decided.
    """
    rows = session.execute(
        select(STRATUM.c.code.label("stratum"), SEQUENCE.c.id, SEQUENCE.c.version, SLOT.c.position, SLOT.c.envelope)
        .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
        .join(SLOT, SLOT.c.stratum_id == STRATUM.c.id)
        .where(
            SEQUENCE.c.study_id == study.id,
            SEQUENCE.c.status == SequenceStatus.SEALED,
            SEQUENCE.c.stage.is_(None),
            STRATUM.c.code.in_(sites),
            SLOT.c.position == 1,
        )
        .order_by(SEQUENCE.c.version.desc())
    ).all()
    keys = keys_of(session)
    return {
        row.stratum: unseal_arm(
            keys, Place(study.id, row.id, row.version, row.stratum, row.position), bytes(row.envelope)
        )
        for row in rows
    }


def _open(
    session: Session,
    study: StudyInUse,
    rows: Sequence[Any],
    *,
    by: Actor,
    why: str,
    also: Sequence[Change] = (),
    subjects: Mapping[int, str] | None = None,
    stage: bool = False,
    now: datetime,
) -> dict[int, str]:
    # Every opening comes through here, and the entry is made before anything is opened.
    if session.get_bind().get_execution_options().get("reading"):
        raise RuntimeError("An envelope is opened in a writing session only, because each opening is written down.")
    if not why.strip():
        raise Invalid([FieldProblem("why", "required", "Say why the envelope is opened.")])
    opened = [
        Change("envelope.opened", participant=row.code, subject="stage" if stage else "")
        if subjects is None
        else Change("envelope.opened", subject=subjects[row.id])
        for row in rows
    ]
    record(session, study.code, [*opened, *also], by=by, now=now, why=why)
    keys = keys_of(session)
    return {
        row.id: unseal_arm(
            keys, Place(study.id, row.sequence_id, row.version, row.stratum, row.position), bytes(row.envelope)
        )
        for row in rows
    }
