"""the language a person chose for their pages and mails"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "language_of_a_person"
down_revision = "exports"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # None: as the browser wishes.
    op.add_column("person", sa.Column("language", AutoString(), nullable=True))


def downgrade() -> None:
    op.drop_column("person", "language")
