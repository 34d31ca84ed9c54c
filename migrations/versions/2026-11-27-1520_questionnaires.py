"""links that may be answered before the window or reminded of, messages that carry one, and links that wait"""

import sqlalchemy as sa
from alembic import op

revision = "questionnaires"
down_revision = "visit_in_error"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Whoever gave a link before was not asked: it opens its questions with the window.
    op.add_column(
        "participant_link", sa.Column("before_window", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("participant_link", sa.Column("seed", sa.LargeBinary(), nullable=True))
    op.add_column("outbox_mail", sa.Column("link_id", sa.Integer(), nullable=True))
    carries = sa.text("link_id IS NOT NULL")
    op.create_index("ix_outbox_mail_link", "outbox_mail", ["link_id"], sqlite_where=carries, postgresql_where=carries)
    waits = sa.text("purpose = 'questions' AND done_at IS NULL AND ended_at IS NULL")
    op.create_index(
        "ix_participant_link_waiting",
        "participant_link",
        ["expires_at", "id"],
        sqlite_where=waits,
        postgresql_where=waits,
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
