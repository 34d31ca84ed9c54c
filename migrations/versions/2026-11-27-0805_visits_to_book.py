"""visits that are still to be booked, by when their window closes"""

import sqlalchemy as sa
from alembic import op

revision = "visits_to_book"
down_revision = "passkeys"
branch_labels = None
depends_on = None

PLANNED = sa.text("status = 'planned'")


def upgrade() -> None:
    op.create_index(
        "ix_visit_to_book",
        "visit",
        ["study_id", "closes_on", "id"],
        sqlite_where=PLANNED,
        postgresql_where=PLANNED,
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
