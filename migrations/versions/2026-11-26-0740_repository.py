"""folders and files that the people of a study share"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "repository"
down_revision = "token_sites"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "repository_folder",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("sealed_name", sa.LargeBinary(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=True),
        sa.Column("role", AutoString(), nullable=True),
        sa.Column("is_unblinded", sa.Boolean(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("made_by", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_repository_folder_study_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["repository_folder.id"], name=op.f("fk_repository_folder_parent_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_repository_folder_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repository_folder")),
    )
    op.create_index("ix_repository_folder_study", "repository_folder", ["study_id", "id"])
    op.create_table(
        "repository_file",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("folder_id", sa.Integer(), nullable=True),
        sa.Column("sealed_about", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("is_unblinded", sa.Boolean(), nullable=False),
        sa.Column("kept_at", Instant(), nullable=False),
        sa.Column("kept_by", AutoString(), nullable=False),
        sa.Column("removed_at", Instant(), nullable=True),
        sa.Column("removed_by", AutoString(), nullable=True),
        sa.CheckConstraint("(removed_at IS NULL) = (removed_by IS NULL)", name=op.f("ck_repository_file_removed_pair")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_repository_file_study_id")),
        sa.ForeignKeyConstraint(["folder_id"], ["repository_folder.id"], name=op.f("fk_repository_file_folder_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repository_file")),
    )
    op.create_index("ix_repository_file_study", "repository_file", ["study_id", "folder_id", "id"])


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
