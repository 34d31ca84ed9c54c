"""When an entry was typed on a device without a connection, beside when it was received."""

import sqlalchemy as sa
from alembic import op

from app.foundation.database import Instant

revision = "0021_typed_at"
down_revision = "study_drafts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("entry", sa.Column("typed_at", Instant(), nullable=True))


def downgrade() -> None:
    op.drop_column("entry", "typed_at")
