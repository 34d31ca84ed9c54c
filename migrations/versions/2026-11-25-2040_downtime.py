"""downtime"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0006_downtime"
down_revision = "0005_sealed_words"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What a used slot refers to. An index, not a constraint: SQLite would build the table anew, without its triggers.
    op.create_index("ix_allocation_slot_participant", "allocation", ["slot_id", "participant_id"], unique=True)
    op.create_table(
        "downtime_pack",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("sequence_id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("salt", AutoString(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("made_by", AutoString(), nullable=False),
        sa.Column("closed_at", Instant(), nullable=True),
        sa.Column("closed_by", AutoString(), nullable=True),
        sa.CheckConstraint("(closed_at IS NULL) = (closed_by IS NULL)", name=op.f("ck_downtime_pack_closed_pair")),
        sa.ForeignKeyConstraint(["sequence_id"], ["sequence.id"], name=op.f("fk_downtime_pack_sequence_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_downtime_pack_site_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_downtime_pack_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_downtime_pack")),
        sa.UniqueConstraint("study_id", "number", name=op.f("uq_downtime_pack_study_id_number")),
    )
    op.create_table(
        "downtime_slot",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pack_id", sa.Integer(), nullable=False),
        sa.Column("stratum_id", sa.Integer(), nullable=False),
        sa.Column("slot_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", AutoString(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=True),
        sa.Column("used_at", Instant(), nullable=True),
        sa.Column("used_by", AutoString(), nullable=True),
        sa.Column("settled_at", Instant(), nullable=True),
        sa.Column("settled_by", AutoString(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('reserved', 'used', 'void')", name=op.f("ck_downtime_slot_state")),
        sa.CheckConstraint("(state = 'reserved') = (settled_at IS NULL)", name=op.f("ck_downtime_slot_settled")),
        sa.CheckConstraint("(settled_at IS NULL) = (settled_by IS NULL)", name=op.f("ck_downtime_slot_settled_pair")),
        sa.CheckConstraint(
            "(state = 'used') = (participant_id IS NOT NULL)", name=op.f("ck_downtime_slot_used_by_participant")
        ),
        sa.CheckConstraint("(state = 'used') = (used_at IS NOT NULL)", name=op.f("ck_downtime_slot_used_when")),
        sa.CheckConstraint("(used_at IS NULL) = (used_by IS NULL)", name=op.f("ck_downtime_slot_used_pair")),
        sa.CheckConstraint("state <> 'void' OR reason IS NOT NULL", name=op.f("ck_downtime_slot_void_why")),
        sa.ForeignKeyConstraint(["pack_id"], ["downtime_pack.id"], name=op.f("fk_downtime_slot_pack_id")),
        sa.ForeignKeyConstraint(["slot_id"], ["slot.id"], name=op.f("fk_downtime_slot_slot_id")),
        sa.ForeignKeyConstraint(["stratum_id"], ["stratum.id"], name=op.f("fk_downtime_slot_stratum_id")),
        sa.ForeignKeyConstraint(
            ["slot_id", "participant_id"],
            ["allocation.slot_id", "allocation.participant_id"],
            name=op.f("fk_downtime_slot_slot_id_participant_id"),
            deferrable=True,
            initially="DEFERRED",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_downtime_slot")),
        sa.UniqueConstraint("pack_id", "number", name=op.f("uq_downtime_slot_pack_id_number")),
        sa.UniqueConstraint("slot_id", name=op.f("uq_downtime_slot_slot_id")),
    )
    _kept("downtime_pack", PACK_FOR_GOOD, "OLD.closed_at IS NOT NULL", PACK_KEPT, PACK_STAYS)
    _kept("downtime_slot", SLOT_FOR_GOOD, "OLD.state <> 'reserved'", SLOT_KEPT, SLOT_STAYS)
    _never_both()


PACK_STAYS = "A downtime pack is never removed."
PACK_KEPT = "What a downtime pack says is never changed; it is closed once."
PACK_FOR_GOOD = ("study_id", "sequence_id", "site_id", "number", "salt", "made_at", "made_by")
SLOT_STAYS = "A reserved slot is never given back."
SLOT_KEPT = "A reserved slot is settled once, for good."
SLOT_FOR_GOOD = ("pack_id", "stratum_id", "slot_id", "number")
NOT_TAKEN = "A slot that is reserved or void is not allocated."
ALLOCATED = "A slot that is allocated is neither reserved nor void."


def _kept(table: str, for_good: tuple[str, ...], settled: str, changed: str, removed: str) -> None:
    """Rows are never removed, and change once: when they are settled (21 CFR 11.10(e))."""
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    differs = "IS NOT" if on_sqlite else "IS DISTINCT FROM"
    when = " OR ".join([settled, *(f"NEW.{column} {differs} OLD.{column}" for column in for_good)])
    if on_sqlite:
        op.execute(
            f"CREATE TRIGGER {table}_kept BEFORE UPDATE ON {table} WHEN {when} "
            f"BEGIN SELECT RAISE(ABORT, '{changed}'); END"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, '{removed}'); END"
        )
        return
    for name, message in (("kept", changed), ("no_delete", removed)):
        op.execute(
            f"CREATE FUNCTION {table}_{name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{message}'; END $$"
        )
    op.execute(
        f"CREATE TRIGGER {table}_kept BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({when}) "
        f"EXECUTE FUNCTION {table}_kept()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_no_delete()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT "
        f"EXECUTE FUNCTION {table}_no_delete()"
    )


def _never_both() -> None:
    """No slot is allocated and reserved, or allocated and void, whoever writes in whatever order (SEC-9, RND-13).

    On PostgreSQL both sides lock the slot's row before they look, so that of two who write at once the second sees the
    first; on SQLite there is one writer at a time.
    """
    taken = (
        "EXISTS (SELECT 1 FROM downtime_slot WHERE slot_id = NEW.slot_id "
        "AND NOT (state = 'used' AND participant_id = NEW.participant_id))"
    )
    allocated = "EXISTS (SELECT 1 FROM allocation WHERE slot_id = NEW.slot_id)"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER allocation_not_reserved BEFORE INSERT ON allocation WHEN {taken} "
            f"BEGIN SELECT RAISE(ABORT, '{NOT_TAKEN}'); END"
        )
        for verb in ("INSERT", "UPDATE"):
            op.execute(
                f"CREATE TRIGGER downtime_slot_not_allocated_{verb.lower()} BEFORE {verb} ON downtime_slot "
                f"WHEN NEW.state <> 'used' AND {allocated} BEGIN SELECT RAISE(ABORT, '{ALLOCATED}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION allocation_not_reserved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM 1 FROM slot WHERE id = NEW.slot_id FOR KEY SHARE; "
        f"IF {taken} THEN RAISE EXCEPTION '{NOT_TAKEN}'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER allocation_not_reserved BEFORE INSERT ON allocation FOR EACH ROW "
        "EXECUTE FUNCTION allocation_not_reserved()"
    )
    op.execute(
        "CREATE FUNCTION downtime_slot_not_allocated() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM 1 FROM slot WHERE id = NEW.slot_id FOR UPDATE; "
        f"IF NEW.state <> 'used' AND {allocated} THEN RAISE EXCEPTION '{ALLOCATED}'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER downtime_slot_not_allocated BEFORE INSERT OR UPDATE ON downtime_slot FOR EACH ROW "
        "EXECUTE FUNCTION downtime_slot_not_allocated()"
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
