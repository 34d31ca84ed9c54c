"""groups that are allocated before arms"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0011_first_stage"
down_revision = "0013_conduct_of_data"
branch_labels = None
depends_on = None

TABLE = "stage_allocation"
KEPT = "An allocation is never edited, undone or re-used."


def upgrade() -> None:
    # Lists from before give arms: they are of no earlier stage.
    op.add_column("sequence", sa.Column("stage", AutoString(), nullable=True))
    op.create_table(
        TABLE,
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("stage", AutoString(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("slot_id", sa.Integer(), nullable=False),
        sa.Column("stratum_id", sa.Integer(), nullable=False),
        sa.Column("allocated_at", Instant(), nullable=False),
        sa.Column("allocated_by", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participant.id"], name=op.f("fk_stage_allocation_participant_id")
        ),
        sa.ForeignKeyConstraint(["slot_id"], ["slot.id"], name=op.f("fk_stage_allocation_slot_id")),
        sa.ForeignKeyConstraint(["stratum_id"], ["stratum.id"], name=op.f("fk_stage_allocation_stratum_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_stage_allocation_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stage_allocation")),
        sa.UniqueConstraint("participant_id", name=op.f("uq_stage_allocation_participant_id")),
        sa.UniqueConstraint("slot_id", name=op.f("uq_stage_allocation_slot_id")),
        sa.UniqueConstraint("study_id", "stage", "number", name=op.f("uq_stage_allocation_study_id_stage_number")),
    )
    _kept()


def _kept() -> None:
    """It is only ever added to (21 CFR 11.10(e), REL-14)."""
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {TABLE}_no_{event.lower()} BEFORE {event} ON {TABLE} "
                f"BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {TABLE}_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{KEPT}'; END $$"
    )
    for event, each in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER {TABLE}_no_{event.lower()} BEFORE {event} ON {TABLE} FOR EACH {each} "
            f"EXECUTE FUNCTION {TABLE}_kept()"
        )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
