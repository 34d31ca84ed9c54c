"""a report says whose moment it corrects, news after a report has a clock, a participant knows of a fatal event"""

import sqlalchemy as sa
from alembic import op

revision = "follow_up_clocks"
down_revision = "leaving"
branch_labels = None
depends_on = None

KEPT = "A row of event_clock is never taken away."


def upgrade() -> None:
    op.add_column("adverse_event_report", sa.Column("corrects", sa.Integer(), nullable=True))
    # SQLite makes the table anew for another uniqueness, and would forget checks it is not told of, and the trigger.
    pair = sa.CheckConstraint(
        "(reported_at IS NULL) = (reported_by IS NULL)", name=op.f("ck_event_clock_reported_pair")
    )
    with op.batch_alter_table("event_clock", table_args=[pair]) as clock:
        clock.add_column(sa.Column("follows", sa.Integer(), nullable=False, server_default="0"))
        clock.drop_constraint(op.f("uq_event_clock_event_id_code"), type_="unique")
        clock.create_unique_constraint(op.f("uq_event_clock_event_id_code_follows"), ["event_id", "code", "follows"])
    with op.batch_alter_table("event_clock", table_args=[pair]) as clock:
        clock.alter_column("follows", existing_type=sa.Integer(), server_default=None)
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER event_clock_no_delete BEFORE DELETE ON event_clock "
            f"BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
        )

    op.add_column("participant", sa.Column("fatal_event", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE participant SET fatal_event = (SELECT min(id) FROM adverse_event WHERE participant_id = participant.id "
        "AND outcome = 'fatal' AND state <> 'void') WHERE id IN (SELECT participant_id FROM adverse_event WHERE "
        "outcome = 'fatal' AND state <> 'void')"
    )
    there = sa.text("fatal_event IS NOT NULL")
    op.create_index(
        "ix_participant_fatal", "participant", ["study_id", "code"], sqlite_where=there, postgresql_where=there
    )
    asked = sa.text("asked_at IS NOT NULL AND lifted_at IS NULL")
    op.create_index("ix_data_lock_asked", "data_lock", ["study_id"], sqlite_where=asked, postgresql_where=asked)


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
