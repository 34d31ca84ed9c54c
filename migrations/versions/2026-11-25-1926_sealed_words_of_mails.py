"""sealed words of mails"""

import sqlalchemy as sa
from alembic import op

revision = "0005_sealed_words"
down_revision = "0004_unblinding"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Mails from before keep what they say.
    op.add_column("outbox_mail", sa.Column("sealed", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
