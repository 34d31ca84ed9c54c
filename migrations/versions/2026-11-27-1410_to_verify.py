"""where an entry stands in source verification, and at which site"""

import json

import sqlalchemy as sa
from alembic import op

revision = "to_verify"
down_revision = "draft_pages"
branch_labels = None
depends_on = None

BATCH = 1000


def upgrade() -> None:
    # Without a reference, which SQLite adds to no column that is never NULL: it is the site of the participant.
    op.add_column("entry", sa.Column("site_id", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("entry", sa.Column("verification", sa.String(), nullable=True))
    op.execute(
        "UPDATE entry SET site_id = (SELECT p.site_id FROM participant p WHERE p.id = entry.participant_id), "
        "verification = CASE WHEN verified_at IS NOT NULL THEN 'verified' "
        "WHEN \"values\" = '{}' AND verified = '{}' THEN NULL ELSE 'unverified' END"
    )
    _mark_changed()
    behind = ["verification", "participant_id", "id", "visit", "instrument"]
    op.create_index("ix_entry_verification_site", "entry", ["site_id", *behind])
    op.create_index("ix_entry_verification", "entry", ["study_id", *behind])


def _mark_changed() -> None:
    """Those with an answer that was verified once and has changed since: what the document says of each item tells."""
    connection = op.get_bind()
    found = sa.text(
        "SELECT id, verified FROM entry WHERE id > :after AND verified <> '{}' AND verified_at IS NULL "
        f"ORDER BY id LIMIT {BATCH}"
    )
    mark = sa.text("UPDATE entry SET verification = 'changed' WHERE id = :number")
    after = 0
    while rows := connection.execute(found, {"after": after}).all():
        after = rows[-1].id
        changed = [row.id for row in rows if any("changed" in said for said in json.loads(row.verified).values())]
        if changed:
            connection.execute(mark, [{"number": number} for number in changed])


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
