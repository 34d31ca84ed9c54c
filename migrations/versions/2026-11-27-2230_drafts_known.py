"""of which file of a draft nobody knows what it said before; one that says nothing of before was not there then"""

from alembic import op

revision = "drafts_known"
down_revision = "copies_and_errors"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Whoever saves a file changes it, so that one which says the same before and after is nobody's.
    op.execute("UPDATE study_draft_file SET before = text WHERE before IS NULL AND version > 1 AND removed_at IS NULL")


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
