"""questions about the consent document"""

import sqlalchemy as sa
from alembic import op

revision = "0014_consent"
down_revision = "0010_randomised_in_error"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("consent", sa.Column("answers", sa.Text(), nullable=False, server_default="{}"))


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
