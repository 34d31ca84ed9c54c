"""methods that decide at each allocation"""

import sqlalchemy as sa
from alembic import op

revision = "0009_deciding_methods"
down_revision = "0008_screened_index"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Lists from before were drawn ahead: they have neither.
    op.add_column("stratum", sa.Column("state", sa.LargeBinary(), nullable=True))
    op.add_column("slot", sa.Column("levels", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
