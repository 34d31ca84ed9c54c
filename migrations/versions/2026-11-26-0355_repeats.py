"""forms that are filled in several times at a visit, and entries begun by mistake"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0020_repeats"
down_revision = "0020_double"
branch_labels = None
depends_on = None

PLACE = ["participant_id", "visit", "instrument"]
OPEN = "closed_at IS NULL AND rule IS NOT NULL"


def upgrade() -> None:
    # What was entered before was entered once: its number is 1. SQLite makes the tables anew to change what is unique,
    # and would forget the checks it is not told of.
    with op.batch_alter_table(
        "entry", table_args=[sa.CheckConstraint("(signed_at IS NULL) = (signed_by IS NULL)", name="signed_pair")]
    ) as entry:
        entry.add_column(sa.Column("repeat", sa.Integer(), server_default="1", nullable=False))
        entry.add_column(sa.Column("in_error_at", Instant(), nullable=True))
        entry.add_column(sa.Column("in_error_by", AutoString(), nullable=True))
        entry.add_column(sa.Column("in_error_why", sa.Text(), nullable=True))
        entry.drop_constraint("uq_entry_participant_id_visit_instrument", type_="unique")
        entry.create_unique_constraint("uq_entry_participant_id_visit_instrument_repeat", [*PLACE, "repeat"])
        entry.create_check_constraint(op.f("ck_entry_in_error_pair"), "(in_error_at IS NULL) = (in_error_by IS NULL)")
        entry.create_check_constraint(op.f("ck_entry_repeat_from_one"), "repeat >= 1")
    with op.batch_alter_table("draft") as draft:
        draft.add_column(sa.Column("repeat", sa.Integer(), server_default="1", nullable=False))
        draft.drop_constraint("uq_draft_person_id_participant_id_visit_instrument", type_="unique")
        draft.create_unique_constraint(
            "uq_draft_person_id_participant_id_visit_instrument_repeat", ["person_id", *PLACE, "repeat"]
        )
    op.add_column("query", sa.Column("repeat", sa.Integer(), server_default="1", nullable=False))
    op.drop_index("ux_query_standing", table_name="query")
    op.create_index(
        "ux_query_standing",
        "query",
        [*PLACE, "repeat", "item", "rule"],
        unique=True,
        sqlite_where=sa.text(OPEN),
        postgresql_where=sa.text(OPEN),
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
