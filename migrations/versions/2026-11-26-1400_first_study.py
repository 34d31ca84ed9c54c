"""drafts of studies that are not here yet"""

import sqlalchemy as sa
from alembic import op

revision = "first_study"
down_revision = "visits_due"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite makes the table anew to change a column: files of drafts, which refer to it, wait elsewhere meanwhile.
    anew = op.get_bind().dialect.name == "sqlite"
    if anew:
        op.execute("CREATE TABLE study_draft_file_waits AS SELECT * FROM study_draft_file")
        op.execute("DELETE FROM study_draft_file")
    with op.batch_alter_table("study_draft") as draft:
        draft.alter_column("study_id", existing_type=sa.Integer(), nullable=True)
    if anew:
        op.execute("INSERT INTO study_draft_file SELECT * FROM study_draft_file_waits")
        op.execute("DROP TABLE study_draft_file_waits")


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
