"""study folders that are written in the browser"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "study_drafts"
down_revision = "language_of_a_person"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "study_draft",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("name", AutoString(), nullable=False),
        sa.Column("origin", AutoString(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("made_by", AutoString(), nullable=False),
        sa.Column("removed_at", Instant(), nullable=True),
        sa.Column("removed_by", AutoString(), nullable=True),
        sa.Column("loaded_at", Instant(), nullable=True),
        sa.Column("loaded_version_id", sa.Integer(), nullable=True),
        sa.CheckConstraint("(removed_at IS NULL) = (removed_by IS NULL)", name=op.f("ck_study_draft_removed_pair")),
        sa.CheckConstraint(
            "(loaded_at IS NULL) = (loaded_version_id IS NULL)", name=op.f("ck_study_draft_loaded_pair")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_study_draft_study_id")),
        sa.ForeignKeyConstraint(
            ["loaded_version_id"], ["study_version.id"], name=op.f("fk_study_draft_loaded_version_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_draft")),
    )
    op.create_index("ix_study_draft_study", "study_draft", ["study_id", "id"])
    op.create_table(
        "study_draft_file",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("draft_id", sa.Integer(), nullable=False),
        sa.Column("path", AutoString(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("changed_by", AutoString(), nullable=False),
        sa.Column("removed_at", Instant(), nullable=True),
        sa.Column("removed_by", AutoString(), nullable=True),
        sa.CheckConstraint(
            "(removed_at IS NULL) = (removed_by IS NULL)", name=op.f("ck_study_draft_file_removed_pair")
        ),
        sa.ForeignKeyConstraint(["draft_id"], ["study_draft.id"], name=op.f("fk_study_draft_file_draft_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_draft_file")),
    )
    op.create_index("ux_study_draft_file", "study_draft_file", ["draft_id", "path"], unique=True)


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
