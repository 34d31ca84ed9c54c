"""questions about the consent document, and links for participants"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0014_consent"
down_revision = "0010_randomised_in_error"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("consent", sa.Column("answers", sa.Text(), nullable=False, server_default="{}"))
    _scans()
    op.create_table(
        "participant_link",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("purpose", AutoString(), nullable=False),
        sa.Column("about", AutoString(), nullable=False),
        sa.Column("language", AutoString(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("made_by", AutoString(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("opened_at", Instant(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("done_at", Instant(), nullable=True),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.Column("ended_by", AutoString(), nullable=True),
        sa.CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name=op.f("ck_participant_link_ended_pair")),
        sa.CheckConstraint("purpose IN ('consent', 'questions')", name=op.f("ck_participant_link_purpose")),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participant.id"], name=op.f("fk_participant_link_participant_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_participant_link")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_participant_link_token_hash")),
    )
    op.create_index("ix_participant_link_participant_id", "participant_link", ["participant_id", "id"])


def _scans() -> None:
    with op.batch_alter_table("consent") as table:
        table.add_column(sa.Column("scan_verified_at", Instant(), nullable=True))
        table.add_column(sa.Column("scan_verified_by", AutoString(), nullable=True))
        table.create_check_constraint(
            op.f("ck_consent_scan_verified_pair"), "(scan_verified_at IS NULL) = (scan_verified_by IS NULL)"
        )
        table.create_check_constraint(op.f("ck_consent_scan_verified_by_another"), "scan_verified_by <> recorded_by")
    op.create_table(
        "consent_scan",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("sha256", AutoString(), nullable=False),
        sa.Column("media_type", AutoString(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("kept_at", Instant(), nullable=False),
        sa.Column("kept_by", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"], name=op.f("fk_consent_scan_participant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consent_scan")),
        sa.UniqueConstraint("participant_id", "sha256", name=op.f("uq_consent_scan_participant_id_sha256")),
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
