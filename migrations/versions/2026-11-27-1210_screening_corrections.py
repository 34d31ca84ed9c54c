"""the answers of a pre-screen are corrected, one version after another; nothing of it is taken away"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "screening_corrections"
down_revision = "consent_refused"
branch_labels = None
depends_on = None

FIXED = ("id", "participant_id", "study_version_id", "screened_at", "screened_by")
MESSAGE = "A screening is never changed but by its next version, and never removed."


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    if sqlite:  # it makes the table anew, and the triggers with it
        op.execute("DROP TRIGGER screening_no_update")
        op.execute("DROP TRIGGER screening_no_delete")
    with op.batch_alter_table("screening") as screening:
        screening.add_column(sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
        screening.add_column(sa.Column("corrected_at", Instant(), nullable=True))
        screening.add_column(sa.Column("corrected_by", AutoString(), nullable=True))
        screening.add_column(sa.Column("moved_levels", sa.Text(), nullable=True))
        screening.create_check_constraint(
            op.f("ck_screening_corrected_pair"), "(corrected_at IS NULL) = (corrected_by IS NULL)"
        )
    corrected = sa.text("corrected_at IS NOT NULL")
    op.create_index(
        "ix_screening_corrected",
        "screening",
        ["participant_id"],
        sqlite_where=corrected,
        postgresql_where=corrected,
    )

    same = "IS" if sqlite else "IS NOT DISTINCT FROM"
    fixed = " AND ".join(f"NEW.{name} {same} OLD.{name}" for name in FIXED)
    changed = f"NOT (NEW.version = OLD.version + 1 AND {fixed})"
    if sqlite:
        for verb, when in (("UPDATE", f"WHEN {changed} "), ("DELETE", "")):
            op.execute(
                f"CREATE TRIGGER screening_no_{verb.lower()} BEFORE {verb} ON screening {when}"
                f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
            )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION screening_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{MESSAGE}'; END $$"
    )
    op.execute("DROP TRIGGER screening_no_update ON screening")
    op.execute(
        "CREATE TRIGGER screening_no_update BEFORE UPDATE ON screening "
        f"FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION screening_append_only()"
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
