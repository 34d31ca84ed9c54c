"""What do we keep of a sequence? Strata, sealed slots, allocations, unblindings, and what is reserved for downtime."""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Index, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant
from app.randomisation.downtime.status import SlotState


class SequenceStatus(StrEnum):
    """Drawn: reviewed by counts only. Sealed: in use. Retired: replaced before anybody was allocated from it.
    Closed: nobody is randomised from it any more, and its plan may be opened.
    """

    DRAWN = "drawn"
    SEALED = "sealed"
    RETIRED = "retired"
    CLOSED = "closed"


class AllocationSequence(SQLModel, table=True):
    """One drawn list. `secrets` is the method's options (block sizes), the seed and the key of the salts, sealed.

    `root` commits to every slot and `plan_commitment` to `secrets`; lists from before there were commitments have
    neither. `certificate` is the text of the sealing certificate, as it was when the list was sealed. `stage` names the
    first stage when this list gives groups and not arms.
    """

    __tablename__ = "sequence"
    __table_args__ = (
        UniqueConstraint("study_id", "version"),
        CheckConstraint("(sealed_at IS NULL) = (sealed_by IS NULL)", name="sealed_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    version: int
    method: str
    status: str
    secrets: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    key_fingerprint: str
    slots: int
    digest: str
    root: str | None = None
    plan_commitment: str | None = None
    stage: str | None = None
    certificate: str | None = None
    drawn_at: datetime = Field(sa_type=Instant)
    drawn_by: str
    sealed_at: datetime | None = Field(default=None, sa_type=Instant)
    sealed_by: str | None = None


class Stratum(SQLModel, table=True):
    """One list within a sequence. `used` slots, allocated or reserved for downtime, are a gap-free prefix of it.

    The row is locked to take the next. `state` is, for a method that decides at each allocation, what it counts of the
    people so far, sealed; `slots` is then the most there may ever be.
    """

    __tablename__ = "stratum"
    __table_args__ = (
        UniqueConstraint("sequence_id", "code"),
        CheckConstraint("used >= 0 AND used <= slots", name="used_within"),
    )

    id: int | None = Field(default=None, primary_key=True)
    sequence_id: int = Field(foreign_key="sequence.id")
    code: str
    slots: int
    used: int = 0
    state: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))


class Slot(SQLModel, table=True):
    """One position of a stratum: an envelope of one size, whatever is in it, and the salted leaf that commits to it.

    `levels` is what an allocation was decided from, where that is done one by one: the level of each factor.
    """

    __tablename__ = "slot"
    __table_args__ = (UniqueConstraint("stratum_id", "position"),)

    id: int | None = Field(default=None, primary_key=True)
    stratum_id: int = Field(foreign_key="stratum.id")
    position: int
    envelope: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    leaf: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    levels: str | None = None


class Allocation(SQLModel, table=True):
    """A participant took a slot. Never edited, never undone: triggers on both databases refuse it."""

    __tablename__ = "allocation"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        UniqueConstraint("participant_id"),
        UniqueConstraint("slot_id"),
        Index("ix_allocation_slot_participant", "slot_id", "participant_id", unique=True),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    number: int
    participant_id: int = Field(foreign_key="participant.id")
    slot_id: int = Field(foreign_key="slot.id")
    stratum_id: int = Field(foreign_key="stratum.id")
    allocated_at: datetime = Field(sa_type=Instant)
    allocated_by: str


class StageAllocation(SQLModel, table=True):
    """A participant took a slot of the first stage, and so a group. Never edited, never undone, as an allocation is."""

    __tablename__ = "stage_allocation"
    __table_args__ = (
        UniqueConstraint("study_id", "stage", "number"),
        UniqueConstraint("participant_id"),
        UniqueConstraint("slot_id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    stage: str
    number: int
    participant_id: int = Field(foreign_key="participant.id")
    slot_id: int = Field(foreign_key="slot.id")
    stratum_id: int = Field(foreign_key="stratum.id")
    allocated_at: datetime = Field(sa_type=Instant)
    allocated_by: str


class Unblinding(SQLModel, table=True):
    """One breaking of the blind, or one request for it: who, when, why, who was told. Never the arm.

    `kind` is emergency, planned or accidental. No participant: the whole study. `opens_until` is the last moment at
    which it opens envelopes for the person in `recorded_by`: of an emergency the moment of its making. Rows are never
    removed, and those of emergencies never changed: triggers on both databases refuse it.
    """

    __tablename__ = "unblinding"
    __table_args__ = (
        Index("ix_unblinding_study_id", "study_id", "id"),
        Index("ix_unblinding_participant_id", "participant_id"),
        Index("ix_unblinding_site_id", "site_id", "kind", "recorded_at"),
        CheckConstraint("(participant_id IS NULL) = (site_id IS NULL)", name="participant_and_site"),
        CheckConstraint(
            "(decided_at IS NULL) = (decided_by IS NULL) AND (decided_at IS NULL) = (approved IS NULL)", name="decided"
        ),
        CheckConstraint(
            "(assessed_at IS NULL) = (assessed_by IS NULL) AND (assessed_at IS NULL) = (impact IS NULL)",
            name="assessed",
        ),
        CheckConstraint("decided_by <> recorded_by", name="two_people"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int | None = Field(default=None, foreign_key="participant.id")
    site_id: int | None = Field(default=None, foreign_key="site.id")
    kind: str
    recorded_at: datetime = Field(sa_type=Instant)
    recorded_by: str
    reason: str | None = None
    why: str = Field(sa_type=Text)
    asked_by: str | None = None
    learnt_by: str | None = None
    learnt_on: date | None = None
    told: str = Field(default="", sa_type=Text)
    opens_until: datetime | None = Field(default=None, sa_type=Instant)
    expires_at: datetime | None = Field(default=None, sa_type=Instant)
    approved: bool | None = None
    decided_at: datetime | None = Field(default=None, sa_type=Instant)
    decided_by: str | None = None
    decision: str | None = Field(default=None, sa_type=Text)
    impact: str | None = Field(default=None, sa_type=Text)
    assessed_at: datetime | None = Field(default=None, sa_type=Instant)
    assessed_by: str | None = None


class DowntimePack(SQLModel, table=True):
    """Slots of one site that are reserved for the time when the server cannot be reached. What opens them is not here.

    `salt` is that of its file, by which one tells whose file it is. Closed once, when every slot is used or void.
    """

    __tablename__ = "downtime_pack"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        CheckConstraint("(closed_at IS NULL) = (closed_by IS NULL)", name="closed_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    sequence_id: int = Field(foreign_key="sequence.id")
    site_id: int = Field(foreign_key="site.id")
    number: int
    salt: str
    made_at: datetime = Field(sa_type=Instant)
    made_by: str
    closed_at: datetime | None = Field(default=None, sa_type=Instant)
    closed_by: str | None = None


class DowntimeSlot(SQLModel, table=True):
    """One reserved slot and the number of its slip. Settled once: used by a participant, or void for good.

    The deferred key ties a used slot to the allocation made from it; triggers on both databases let no allocation be
    made from one that is reserved or void, and let none become void that is allocated.
    """

    __tablename__ = "downtime_slot"
    __table_args__ = (
        UniqueConstraint("pack_id", "number"),
        UniqueConstraint("slot_id"),
        ForeignKeyConstraint(
            ["slot_id", "participant_id"],
            ["allocation.slot_id", "allocation.participant_id"],
            deferrable=True,
            initially="DEFERRED",
        ),
        CheckConstraint("state IN ('reserved', 'used', 'void')", name="state"),
        CheckConstraint("(state = 'reserved') = (settled_at IS NULL)", name="settled"),
        CheckConstraint("(settled_at IS NULL) = (settled_by IS NULL)", name="settled_pair"),
        CheckConstraint("(state = 'used') = (participant_id IS NOT NULL)", name="used_by_participant"),
        CheckConstraint("(state = 'used') = (used_at IS NOT NULL)", name="used_when"),
        CheckConstraint("(used_at IS NULL) = (used_by IS NULL)", name="used_pair"),
        CheckConstraint("state <> 'void' OR reason IS NOT NULL", name="void_why"),
    )

    id: int | None = Field(default=None, primary_key=True)
    pack_id: int = Field(foreign_key="downtime_pack.id")
    stratum_id: int = Field(foreign_key="stratum.id")
    slot_id: int = Field(foreign_key="slot.id")
    number: int
    state: str = SlotState.RESERVED
    participant_id: int | None = None
    used_at: datetime | None = Field(default=None, sa_type=Instant)
    used_by: str | None = None
    settled_at: datetime | None = Field(default=None, sa_type=Instant)
    settled_by: str | None = None
    reason: str | None = Field(default=None, sa_type=Text)


class EscrowKey(SQLModel, table=True):
    """A public key of the statistician's, as it was stored; the newest is in use. Never changed, never removed."""

    __tablename__ = "escrow_key"
    __table_args__ = (Index("ix_escrow_key_study_id", "study_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    pem: str = Field(sa_type=Text)
    bits: int
    fingerprint: str
    stored_at: datetime = Field(sa_type=Instant)
    stored_by: str


class SeedEscrow(SQLModel, table=True):
    """The opened plan of one list, encrypted when it was sealed; only whoever holds the private key reads it."""

    __tablename__ = "seed_escrow"
    __table_args__ = (UniqueConstraint("sequence_id"),)

    id: int | None = Field(default=None, primary_key=True)
    sequence_id: int = Field(foreign_key="sequence.id")
    key_id: int = Field(foreign_key="escrow_key.id")
    encrypted: str = Field(sa_type=Text)
    made_at: datetime = Field(sa_type=Instant)
