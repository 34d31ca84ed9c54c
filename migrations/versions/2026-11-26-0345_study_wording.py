"""wordings that an installation has a licence for"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "study_wording"
down_revision = "participant_files"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "study_wording",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("instrument", AutoString(), nullable=False),
        sa.Column("language", AutoString(), nullable=False),
        sa.Column("sha256", AutoString(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("loaded_at", Instant(), nullable=False),
        sa.Column("loaded_by", AutoString(), nullable=False),
        sa.Column("replaced_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_study_wording_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_wording")),
    )
    standing = sa.text("replaced_at IS NULL")
    op.create_index(
        "ux_study_wording_standing",
        "study_wording",
        ["study_id", "instrument", "language"],
        unique=True,
        sqlite_where=standing,
        postgresql_where=standing,
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
