"""commitment"""

import sqlalchemy as sa
from alembic import op

revision = "0003_commitment"
down_revision = "0002_invitations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Columns only, and none of them needed: lists from before have no commitment, and stay as they were sealed. No
    # batch: SQLite would build the tables anew, and lose the triggers that keep slots as they are.
    op.add_column("sequence", sa.Column("root", sa.String(), nullable=True))
    op.add_column("sequence", sa.Column("plan_commitment", sa.String(), nullable=True))
    op.add_column("sequence", sa.Column("certificate", sa.String(), nullable=True))
    op.add_column("slot", sa.Column("leaf", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
