"""sites that a token is limited to"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "token_sites"
down_revision = "webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_token", sa.Column("sites", AutoString(), nullable=False, server_default=""))


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
