"""reviews of who may do what"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "access_review"
down_revision = "log_review"
branch_labels = None
depends_on = None

KEPT = "a review of access is never changed or removed"


def upgrade() -> None:
    op.create_table(
        "access_review",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("lines", sa.Text(), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("reviewed_at", Instant(), nullable=False),
        sa.Column("reviewed_by", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_access_review_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_review")),
    )
    op.create_index("ix_access_review_study_id", "access_review", ["study_id", "id"])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER access_review_no_{verb.lower()} BEFORE {verb} ON access_review "
                f"BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION access_review_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{KEPT}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER access_review_append_only BEFORE UPDATE OR DELETE ON access_review "
        "FOR EACH ROW EXECUTE FUNCTION access_review_append_only()"
    )
    op.execute(
        "CREATE TRIGGER access_review_no_truncate BEFORE TRUNCATE ON access_review "
        "FOR EACH STATEMENT EXECUTE FUNCTION access_review_append_only()"
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
