"""visits that are due stand in the index in the order in which they are listed"""

from alembic import op

revision = "visits_due"
down_revision = "coded_events"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_visit_due", "visit")
    op.create_index("ix_visit_due", "visit", ["study_id", "status", "target_on", "id"])


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
