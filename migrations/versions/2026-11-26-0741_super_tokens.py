"""tokens of drafts, and the super tokens that made them"""

import sqlalchemy as sa
from alembic import op

revision = "super_tokens"
down_revision = "repository"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_token", sa.Column("draft_id", sa.Integer(), nullable=True))
    op.add_column("api_token", sa.Column("parent_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("api_token", "parent_id")
    op.drop_column("api_token", "draft_id")
