"""exports: what was asked for and what its file was; named definitions"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "exports"
down_revision = "0020_repeats"
branch_labels = None
depends_on = None

KEPT = "A definition of an export is never changed; a change of it is a new version."


def upgrade() -> None:
    op.create_table(
        "export_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("requested_by", AutoString(), nullable=False),
        sa.Column("requested_at", Instant(), nullable=False),
        sa.Column("via", AutoString(), nullable=False),
        sa.Column("request_id", AutoString(), nullable=False),
        sa.Column("definition", AutoString(), nullable=True),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("since", sa.Integer(), nullable=True),
        sa.Column("scope", AutoString(), nullable=False),
        sa.Column("file_name", AutoString(), nullable=False),
        sa.Column("state", AutoString(), nullable=False),
        sa.Column("study_version", AutoString(), nullable=False),
        sa.Column("software", AutoString(), nullable=False),
        sa.Column("change", sa.Integer(), nullable=True),
        sa.Column("tree_head", AutoString(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", AutoString(), nullable=True),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.Column("claimed_until", Instant(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.CheckConstraint("(sha256 IS NULL) = (finished_at IS NULL)", name=op.f("ck_export_run_finished_pair")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_export_run_person_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_export_run_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export_run")),
    )
    op.create_index("ix_export_run_study_id", "export_run", ["study_id", "id"])
    op.create_index("ix_export_run_state", "export_run", ["state", "id"])
    op.create_table(
        "export_definition",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("name", AutoString(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("defined_at", Instant(), nullable=False),
        sa.Column("defined_by", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_export_definition_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export_definition")),
        sa.UniqueConstraint("study_id", "name", "version", name=op.f("uq_export_definition_study_id_name_version")),
    )
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER export_definition_no_{event.lower()} BEFORE {event} ON export_definition "
                f"BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION export_definition_kept() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{KEPT}'; END $$"
    )
    for event, each in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER export_definition_no_{event.lower()} BEFORE {event} ON export_definition "
            f"FOR EACH {each} EXECUTE FUNCTION export_definition_kept()"
        )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
