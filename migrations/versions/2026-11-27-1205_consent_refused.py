"""a consent can be refused, and an optional consent taken back alone"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "consent_refused"
down_revision = "follow_up_clocks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite makes the table anew for another check, and would forget those that it is not told of.
    checks = [
        sa.CheckConstraint(rule, name=op.f(f"ck_consent_{name}"))
        for name, rule in (
            ("countersigned_pair", "(countersigned_at IS NULL) = (countersigned_by IS NULL)"),
            ("scan_verified_pair", "(scan_verified_at IS NULL) = (scan_verified_by IS NULL)"),
            ("scan_verified_by_another", "scan_verified_by <> recorded_by"),
        )
    ]
    with op.batch_alter_table("consent", table_args=checks) as table:
        table.add_column(sa.Column("refused_at", Instant(), nullable=True))
        table.add_column(sa.Column("refused_by", AutoString(), nullable=True))
        table.add_column(sa.Column("refused_why", sa.Text(), nullable=True))
        table.create_check_constraint(op.f("ck_consent_refused_pair"), "(refused_at IS NULL) = (refused_by IS NULL)")
    unsettled = sa.text("countersigned_at IS NULL OR refused_at IS NOT NULL")
    op.create_index(
        "ix_consent_unsettled", "consent", ["participant_id"], sqlite_where=unsettled, postgresql_where=unsettled
    )
    scans = sa.text("paper_sha256 IS NOT NULL AND scan_verified_at IS NULL")
    op.create_index(
        "ix_consent_scan_unverified", "consent", ["participant_id"], sqlite_where=scans, postgresql_where=scans
    )
    op.create_table(
        "option_taken_back",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("code", AutoString(), nullable=False),
        sa.Column("taken_back_on", sa.Date(), nullable=False),
        sa.Column("told_by", AutoString(), nullable=False),
        sa.Column("how", AutoString(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.Column("recorded_by", AutoString(), nullable=False),
        sa.Column("struck_at", Instant(), nullable=True),
        sa.Column("struck_by", AutoString(), nullable=True),
        sa.Column("struck_why", sa.Text(), nullable=True),
        sa.CheckConstraint("(struck_at IS NULL) = (struck_by IS NULL)", name=op.f("ck_option_taken_back_struck_pair")),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participant.id"], name=op.f("fk_option_taken_back_participant_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_option_taken_back")),
    )
    op.create_index("ix_option_taken_back_participant_id", "option_taken_back", ["participant_id", "id"])


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
