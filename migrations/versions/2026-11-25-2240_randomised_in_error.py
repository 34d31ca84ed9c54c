"""who was randomised in error"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0010_randomised_in_error"
down_revision = "0009_deciding_methods"
branch_labels = None
depends_on = None

TABLE = "randomised_in_error"
KEPT = "That somebody was randomised in error is never changed or removed: a later record corrects it."


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("corrects", sa.Integer(), nullable=True),
        sa.Column("reason", AutoString(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("found_on", sa.Date(), nullable=False),
        sa.Column("should_have_been", sa.Text(), nullable=True),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.Column("recorded_by", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(["corrects"], ["randomised_in_error.id"], name=op.f("fk_randomised_in_error_corrects")),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participant.id"], name=op.f("fk_randomised_in_error_participant_id")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_randomised_in_error_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_randomised_in_error")),
        sa.UniqueConstraint("corrects", name=op.f("uq_randomised_in_error_corrects")),
    )
    op.create_index(
        "ux_randomised_in_error_first",
        TABLE,
        ["participant_id"],
        unique=True,
        sqlite_where=sa.text("corrects IS NULL"),
        postgresql_where=sa.text("corrects IS NULL"),
    )
    op.create_index("ix_randomised_in_error_participant_id", TABLE, ["participant_id", "id"])
    _kept()


def _kept() -> None:
    """Such a record is only ever added to (21 CFR 11.10(e), ICH E9 5.2)."""
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {TABLE}_no_{event.lower()} BEFORE {event} ON {TABLE} "
                f"BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {TABLE}_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{KEPT}'; END $$"
    )
    for event, each in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER {TABLE}_no_{event.lower()} BEFORE {event} ON {TABLE} FOR EACH {each} "
            f"EXECUTE FUNCTION {TABLE}_kept()"
        )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
