"""the secret of a webhook before its present one, which signs beside it for a day"""

import sqlalchemy as sa
from alembic import op

from app.foundation.database import Instant

revision = "webhook_secrets"
down_revision = "questionnaires"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhook", sa.Column("sealed_before", sa.LargeBinary(), nullable=True))
    op.add_column("webhook", sa.Column("before_until", Instant(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
