"""escrow"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0007_escrow"
down_revision = "0006_downtime"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "escrow_key",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.Column("bits", sa.Integer(), nullable=False),
        sa.Column("fingerprint", AutoString(), nullable=False),
        sa.Column("stored_at", Instant(), nullable=False),
        sa.Column("stored_by", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_escrow_key_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_escrow_key")),
    )
    op.create_index("ix_escrow_key_study_id", "escrow_key", ["study_id", "id"])
    op.create_table(
        "seed_escrow",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sequence_id", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=False),
        sa.Column("encrypted", sa.Text(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["escrow_key.id"], name=op.f("fk_seed_escrow_key_id")),
        sa.ForeignKeyConstraint(["sequence_id"], ["sequence.id"], name=op.f("fk_seed_escrow_sequence_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_seed_escrow")),
        sa.UniqueConstraint("sequence_id", name=op.f("uq_seed_escrow_sequence_id")),
    )
    for table, message in APPEND_ONLY.items():
        _append_only(table, message)


APPEND_ONLY = {
    "escrow_key": "An escrow key is never changed or removed: store a new one.",
    "seed_escrow": "An escrow is never changed or removed.",
}


def _append_only(table: str, message: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_append_only()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()"
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
