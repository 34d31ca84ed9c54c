"""the participant's copy of their signed consent goes to them by mail"""

import sqlalchemy as sa
from alembic import op

revision = "copies_by_mail"
down_revision = "to_verify"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("consent", sa.Column("copy_asked", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("outbox_mail", sa.Column("consent_id", sa.Integer(), nullable=True))
    of_a_consent = sa.text("consent_id IS NOT NULL")
    op.create_index(
        "ix_outbox_mail_consent",
        "outbox_mail",
        ["consent_id", "id"],
        sqlite_where=of_a_consent,
        postgresql_where=of_a_consent,
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
