"""why somebody who passed the pre-screen does not take part after all: written once, beside what never changes"""

from alembic import op

revision = "not_taking_part"
down_revision = "dated_heads"
branch_labels = None
depends_on = None

KEPT = ("id", "participant_id", "study_version_id", "answers", "verdicts", "eligible", "screened_at", "screened_by")
MESSAGE = "A screening is never changed."


def upgrade() -> None:
    same = "IS NOT DISTINCT FROM" if op.get_bind().dialect.name == "postgresql" else "IS"
    kept = " AND ".join(f"NEW.{name} {same} OLD.{name}" for name in KEPT)
    changed = f"NOT (OLD.failure_reason IS NULL AND NEW.failure_reason IS NOT NULL AND {kept})"
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER screening_no_update")
        op.execute(
            f"CREATE TRIGGER screening_no_update BEFORE UPDATE ON screening WHEN {changed} "
            f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
        )
        return
    op.execute("DROP TRIGGER screening_append_only ON screening")
    op.execute(
        "CREATE TRIGGER screening_append_only BEFORE DELETE ON screening "
        "FOR EACH ROW EXECUTE FUNCTION screening_append_only()"
    )
    op.execute(
        "CREATE TRIGGER screening_no_update BEFORE UPDATE ON screening "
        f"FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION screening_append_only()"
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
