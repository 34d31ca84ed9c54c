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


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
