"""since when somebody has left the study, and since when treatment is stopped"""

import sqlalchemy as sa
from alembic import op

revision = "leaving"
down_revision = "recovery_codes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("participant", sa.Column("left_on", sa.Date(), nullable=True))
    op.add_column("participant", sa.Column("treatment_stopped_on", sa.Date(), nullable=True))
    op.add_column("participant", sa.Column("treatment_stopped_reason", sa.Text(), nullable=True))
    op.execute("UPDATE participant SET left_on = withdrawn_on WHERE status = 'withdrawn'")
    # Of those who died: the day of their withdrawal from visits, if that came first; of the newest record otherwise.
    op.execute(
        'UPDATE participant SET left_on = (SELECT e."on" FROM participant_end e WHERE e.participant_id = '
        "participant.id AND e.kind = 'died' ORDER BY e.id DESC LIMIT 1) WHERE status = 'died'"
    )
    op.execute(
        "UPDATE participant SET left_on = withdrawn_on WHERE status = 'died' AND withdrawn_on < left_on AND EXISTS "
        "(SELECT 1 FROM participant_end e WHERE e.participant_id = participant.id AND e.kind = 'died' "
        "AND e.status_before = 'withdrawn')"
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
