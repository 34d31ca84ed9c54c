"""what a file of a draft said before its last change, so that the change can be taken back"""

import sqlalchemy as sa
from alembic import op

revision = "draft_before"
down_revision = "webhook_secrets"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Of a file that was changed before, nobody knows what it said: that change cannot be taken back.
    op.add_column("study_draft_file", sa.Column("before", sa.Text(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
