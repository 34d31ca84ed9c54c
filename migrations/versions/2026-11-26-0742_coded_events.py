"""terms of adverse events are coded as the texts of entries are"""

import sqlalchemy as sa
from alembic import op

revision = "coded_events"
down_revision = "super_tokens"
branch_labels = None
depends_on = None

STANDING = sa.text("outdated_at IS NULL")


def upgrade() -> None:
    op.add_column("coded_text", sa.Column("participant_id", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE coded_text SET participant_id = (SELECT participant_id FROM entry WHERE entry.id = coded_text.entry_id)"
    )
    # SQLite makes the table anew to change a column, and would forget the checks it is not told of.
    checks = [
        sa.CheckConstraint(
            "(state = 'outdated') = (outdated_at IS NOT NULL)", name=op.f("ck_coded_text_outdated_state")
        ),
        sa.CheckConstraint(
            "(reconciled_at IS NULL) = (reconciled_by IS NULL)", name=op.f("ck_coded_text_reconciled_pair")
        ),
        sa.CheckConstraint("(code IS NULL) = (label IS NULL)", name=op.f("ck_coded_text_coded_pair")),
    ]
    with op.batch_alter_table("coded_text", table_args=checks) as text:
        text.alter_column("participant_id", existing_type=sa.Integer(), nullable=False)
        text.alter_column("entry_id", existing_type=sa.Integer(), nullable=True)
        text.add_column(sa.Column("event_id", sa.Integer(), nullable=True))
        text.create_foreign_key(op.f("fk_coded_text_participant_id"), "participant", ["participant_id"], ["id"])
        text.create_foreign_key(op.f("fk_coded_text_event_id"), "adverse_event", ["event_id"], ["id"])
        text.create_check_constraint(op.f("ck_coded_text_of_one_thing"), "(entry_id IS NULL) = (event_id IS NOT NULL)")
    op.create_index(
        "ux_coded_text_event",
        "coded_text",
        ["event_id"],
        unique=True,
        sqlite_where=STANDING,
        postgresql_where=STANDING,
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
