"""unblinding"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0004_unblinding"
down_revision = "0003_commitment"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "unblinding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=True),
        sa.Column("site_id", sa.Integer(), nullable=True),
        sa.Column("kind", AutoString(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.Column("recorded_by", AutoString(), nullable=False),
        sa.Column("reason", AutoString(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("asked_by", AutoString(), nullable=True),
        sa.Column("learnt_by", AutoString(), nullable=True),
        sa.Column("learnt_on", sa.Date(), nullable=True),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("opens_until", Instant(), nullable=True),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.Column("approved", sa.Boolean(), nullable=True),
        sa.Column("decided_at", Instant(), nullable=True),
        sa.Column("decided_by", AutoString(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("impact", sa.Text(), nullable=True),
        sa.Column("assessed_at", Instant(), nullable=True),
        sa.Column("assessed_by", AutoString(), nullable=True),
        sa.CheckConstraint(
            "(participant_id IS NULL) = (site_id IS NULL)", name=op.f("ck_unblinding_participant_and_site")
        ),
        sa.CheckConstraint(
            "(decided_at IS NULL) = (decided_by IS NULL) AND (decided_at IS NULL) = (approved IS NULL)",
            name=op.f("ck_unblinding_decided"),
        ),
        sa.CheckConstraint(
            "(assessed_at IS NULL) = (assessed_by IS NULL) AND (assessed_at IS NULL) = (impact IS NULL)",
            name=op.f("ck_unblinding_assessed"),
        ),
        sa.CheckConstraint("decided_by <> recorded_by", name=op.f("ck_unblinding_two_people")),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"], name=op.f("fk_unblinding_participant_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_unblinding_site_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_unblinding_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unblinding")),
    )
    with op.batch_alter_table("unblinding", schema=None) as batch_op:
        batch_op.create_index("ix_unblinding_study_id", ["study_id", "id"], unique=False)
        batch_op.create_index("ix_unblinding_participant_id", ["participant_id"], unique=False)
        batch_op.create_index("ix_unblinding_site_id", ["site_id", "kind", "recorded_at"], unique=False)
    _kept()


REMOVED = "An unblinding is never removed."
CHANGED = "What an unblinding says of who, when and why is never changed."
# Who, when, why and about whom stand for good; a decision and an impact assessment are added once.
FOR_GOOD = (
    "study_id",
    "participant_id",
    "site_id",
    "kind",
    "recorded_at",
    "recorded_by",
    "reason",
    "why",
    "asked_by",
    "learnt_by",
    "learnt_on",
    "told",
    "expires_at",
)
ONCE = ("opens_until", "decided_at", "assessed_at")


def _kept() -> None:
    """The record of an unblinding only ever grows (21 CFR 11.10(e), ICH E6(R3) 4.1.4)."""
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    differs = "IS NOT" if on_sqlite else "IS DISTINCT FROM"
    changed = " OR ".join(
        [f"NEW.{column} {differs} OLD.{column}" for column in FOR_GOOD]
        + [f"(OLD.{column} IS NOT NULL AND NEW.{column} {differs} OLD.{column})" for column in ONCE]
        + ["OLD.kind = 'emergency'"]
    )
    if on_sqlite:
        op.execute(
            f"CREATE TRIGGER unblinding_kept BEFORE UPDATE ON unblinding WHEN {changed} "
            f"BEGIN SELECT RAISE(ABORT, '{CHANGED}'); END"
        )
        op.execute(
            f"CREATE TRIGGER unblinding_no_delete BEFORE DELETE ON unblinding "
            f"BEGIN SELECT RAISE(ABORT, '{REMOVED}'); END"
        )
        return
    for name, message in (("kept", CHANGED), ("no_delete", REMOVED)):
        op.execute(
            f"CREATE FUNCTION unblinding_{name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{message}'; END $$"
        )
    op.execute(
        f"CREATE TRIGGER unblinding_kept BEFORE UPDATE ON unblinding FOR EACH ROW WHEN ({changed}) "
        "EXECUTE FUNCTION unblinding_kept()"
    )
    op.execute(
        "CREATE TRIGGER unblinding_no_delete BEFORE DELETE ON unblinding FOR EACH ROW "
        "EXECUTE FUNCTION unblinding_no_delete()"
    )
    op.execute(
        "CREATE TRIGGER unblinding_no_truncate BEFORE TRUNCATE ON unblinding FOR EACH STATEMENT "
        "EXECUTE FUNCTION unblinding_no_delete()"
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
