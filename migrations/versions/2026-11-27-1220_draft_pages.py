"""which page of a person's wrote their draft last"""

import sqlalchemy as sa
from alembic import op

revision = "draft_pages"
down_revision = "screening_corrections"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Of drafts that are there already no page is known: whoever opens one goes on from when it was kept.
    op.add_column("draft", sa.Column("page", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
