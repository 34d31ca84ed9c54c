"""versions of the study by site, from a day"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0017_amendments"
down_revision = "0011_first_stage"
branch_labels = None
depends_on = None

OTHER = "version_id IS NOT NULL"
OPEN = "state IN ('planned', 'moving')"


def upgrade() -> None:
    # Whoever was here before works under the version of the study: nobody's site has another one.
    op.add_column("site", sa.Column("version_id", sa.Integer(), nullable=True))
    op.create_index(
        "ix_site_other_version", "site", ["study_id"], sqlite_where=sa.text(OTHER), postgresql_where=sa.text(OTHER)
    )
    op.create_table(
        "site_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("from_version_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("from_on", sa.Date(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("state", AutoString(), nullable=False),
        sa.Column("planned_at", Instant(), nullable=False),
        sa.Column("planned_by", AutoString(), nullable=False),
        sa.Column("begun_at", Instant(), nullable=True),
        sa.Column("moved_to", sa.Integer(), nullable=False),
        sa.Column("looked_at", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column("visits", sa.Integer(), nullable=False),
        sa.Column("kept", sa.Integer(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.CheckConstraint("state IN ('planned', 'moving', 'done', 'cancelled')", name=op.f("ck_site_version_state")),
        sa.CheckConstraint(
            "(ended_at IS NOT NULL) = (state IN ('done', 'cancelled'))", name=op.f("ck_site_version_ended")
        ),
        sa.CheckConstraint(
            "(begun_at IS NOT NULL) = (state IN ('moving', 'done'))", name=op.f("ck_site_version_begun")
        ),
        sa.ForeignKeyConstraint(
            ["from_version_id"], ["study_version.id"], name=op.f("fk_site_version_from_version_id")
        ),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_site_version_site_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_site_version_study_id")),
        sa.ForeignKeyConstraint(["version_id"], ["study_version.id"], name=op.f("fk_site_version_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site_version")),
    )
    op.create_index("ix_site_version_study_id", "site_version", ["study_id", "id"])
    op.create_index(
        "ux_site_version_open",
        "site_version",
        ["site_id"],
        unique=True,
        sqlite_where=sa.text(OPEN),
        postgresql_where=sa.text(OPEN),
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
