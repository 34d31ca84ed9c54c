"""the latest date in each log"""

import sqlalchemy as sa
from alembic import op

from app.foundation.database import Instant

revision = "dated_heads"
down_revision = "access_review"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audit_head", sa.Column("at", Instant(), nullable=True))
    op.execute(
        "UPDATE audit_head SET at = (SELECT audit_entry.at FROM audit_entry "
        "WHERE audit_entry.log = audit_head.log AND audit_entry.position = audit_head.size - 1)"
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
