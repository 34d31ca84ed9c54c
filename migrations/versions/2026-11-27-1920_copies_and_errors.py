"""copies of a consent that were handed out on paper or could not go by mail, and entries in error by themselves"""

import sqlalchemy as sa
from alembic import op

from app.foundation.database import Instant

revision = "copies_and_errors"
down_revision = "draft_before"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("consent", sa.Column("copy_given_at", Instant(), nullable=True))
    op.add_column("consent", sa.Column("copy_given_by", sa.String(), nullable=True))
    failed = sa.text("consent_id IS NOT NULL AND ended_as = 'failed'")
    op.create_index(
        "ix_outbox_mail_copy_failed",
        "outbox_mail",
        ["study_id", "consent_id"],
        sqlite_where=failed,
        postgresql_where=failed,
    )
    in_error = sa.text("in_error_at IS NOT NULL")
    op.create_index("ix_entry_in_error", "entry", ["study_id", "id"], sqlite_where=in_error, postgresql_where=in_error)
    # Whoever asked for their copy where no address was known has no message so far that says so.
    op.execute(
        "INSERT INTO outbox_mail (key, to_address, subject, body, queued_at, not_before, attempts, channel, study_id, "
        "site_id, participant_id, to_participant, rule, kind, consent_id, ended_at, ended_as, last_error) "
        "SELECT 'copy|' || p.study_id || '|' || c.id || '|1', '', 'Your copy of what you signed', "
        "'Here is your copy of what you signed. Please keep it.', c.countersigned_at, c.countersigned_at, 0, 'mail', "
        "p.study_id, p.site_id, p.id, true, 'consent copy', 'consent copy', c.id, c.countersigned_at, 'failed', "
        "'No mail address of this participant is known. Add it to the personal data first.' "
        "FROM consent c JOIN participant p ON p.id = c.participant_id "
        "WHERE c.copy_asked AND c.countersigned_at IS NOT NULL AND c.refused_at IS NULL AND c.withdrawn_on IS NULL "
        "AND p.status IN ('screened', 'consented', 'randomised') "
        "AND NOT EXISTS (SELECT 1 FROM outbox_mail m WHERE m.consent_id = c.id)"
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
