"""visits outside the plan that were entered in error, and why"""

import sqlalchemy as sa
from alembic import op

revision = "visit_in_error"
down_revision = "copies_by_mail"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("visit", sa.Column("in_error_why", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
