"""index of screening dates"""

from alembic import op

revision = "0008_screened_index"
down_revision = "0007_escrow"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The list of participants sorted by date ends after one page instead of sorting everybody.
    op.create_index("ix_participant_study_screened", "participant", ["study_id", "screened_on", "code"])


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
