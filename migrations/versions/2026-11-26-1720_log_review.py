"""reviews of the log"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "log_review"
down_revision = "first_study"
branch_labels = None
depends_on = None

KEPT = "a review of the log is never changed or removed"


def upgrade() -> None:
    op.create_table(
        "log_review",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("sites", AutoString(), nullable=False),
        sa.Column("log_from", sa.Integer(), nullable=False),
        sa.Column("log_to", sa.Integer(), nullable=False),
        sa.Column("system_from", sa.Integer(), nullable=False),
        sa.Column("system_to", sa.Integer(), nullable=False),
        sa.Column("head_size", sa.Integer(), nullable=False),
        sa.Column("head_root", AutoString(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("follows", sa.Text(), nullable=False),
        sa.Column("reviewed_at", Instant(), nullable=False),
        sa.Column("reviewed_by", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_log_review_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_review")),
        sa.UniqueConstraint("study_id", "sites", "log_from", name=op.f("uq_log_review_study_id_sites_log_from")),
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER log_review_no_{verb.lower()} BEFORE {verb} ON log_review "
                f"BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION log_review_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{KEPT}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER log_review_append_only BEFORE UPDATE OR DELETE ON log_review "
        "FOR EACH ROW EXECUTE FUNCTION log_review_append_only()"
    )
    op.execute(
        "CREATE TRIGGER log_review_no_truncate BEFORE TRUNCATE ON log_review "
        "FOR EACH STATEMENT EXECUTE FUNCTION log_review_append_only()"
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
