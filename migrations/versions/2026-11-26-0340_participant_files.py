"""files of participants in one place: scans of consents, files and signatures among the answers"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "participant_files"
down_revision = "0017_amendments"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "participant_file",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("purpose", AutoString(), nullable=False),
        sa.Column("sha256", AutoString(), nullable=False),
        sa.Column("media_type", AutoString(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("kept_at", Instant(), nullable=False),
        sa.Column("kept_by", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participant.id"], name=op.f("fk_participant_file_participant_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_participant_file")),
        sa.UniqueConstraint(
            "participant_id", "purpose", "sha256", name=op.f("uq_participant_file_participant_id_purpose_sha256")
        ),
    )
    # What scans are sealed for is bound into their envelopes, and stays what it was.
    op.execute(
        "INSERT INTO participant_file (participant_id, purpose, sha256, media_type, size, sealed, kept_at, kept_by) "
        "SELECT participant_id, 'consent scan', sha256, media_type, size, sealed, kept_at, kept_by FROM consent_scan "
        "ORDER BY id"
    )
    op.drop_table("consent_scan")


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
