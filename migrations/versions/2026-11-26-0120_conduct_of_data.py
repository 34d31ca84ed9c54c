"""queries, source verification, freezing and locking, signatures of casebooks"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0013_conduct_of_data"
down_revision = "0012_safety"
branch_labels = None
depends_on = None

KEPT = "What was said to a query is never changed or removed."
OPEN = "closed_at IS NULL AND rule IS NOT NULL"


def upgrade() -> None:
    op.add_column("entry", sa.Column("verified", sa.Text(), server_default="{}", nullable=False))
    op.add_column("entry", sa.Column("verified_at", Instant(), nullable=True))
    op.create_table(
        "query",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("visit", AutoString(), nullable=False),
        sa.Column("instrument", AutoString(), nullable=False),
        sa.Column("item", AutoString(), nullable=False),
        sa.Column("origin", AutoString(), nullable=False),
        sa.Column("rule", AutoString(), nullable=True),
        sa.Column("state", AutoString(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("raised_at", Instant(), nullable=False),
        sa.Column("raised_by", AutoString(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("changed_by", AutoString(), nullable=False),
        sa.Column("closed_at", Instant(), nullable=True),
        sa.Column("closing", AutoString(), nullable=True),
        sa.CheckConstraint("(closed_at IS NULL) = (closing IS NULL)", name=op.f("ck_query_closed_pair")),
        sa.CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name=op.f("ck_query_closed_state")),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"], name=op.f("fk_query_participant_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_query_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_query")),
    )
    op.create_index("ix_query_entry", "query", ["participant_id", "visit", "instrument", "closed_at"])
    op.create_index("ix_query_state", "query", ["study_id", "state", "raised_at"])
    op.create_index(
        "ux_query_standing",
        "query",
        ["participant_id", "visit", "instrument", "item", "rule"],
        unique=True,
        sqlite_where=sa.text(OPEN),
        postgresql_where=sa.text(OPEN),
    )
    op.create_table(
        "query_message",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("query_id", sa.Integer(), nullable=False),
        sa.Column("step", AutoString(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("by", AutoString(), nullable=False),
        sa.Column("role", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(["query_id"], ["query.id"], name=op.f("fk_query_message_query_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_query_message")),
    )
    op.create_index("ix_query_message_query_id", "query_message", ["query_id", "id"])
    op.create_table(
        "data_lock",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=True),
        sa.Column("participant_key", sa.Integer(), nullable=False),
        sa.Column("visit", AutoString(), nullable=True),
        sa.Column("visit_key", AutoString(), nullable=False),
        sa.Column("kind", AutoString(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("despite", sa.Boolean(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("by", AutoString(), nullable=False),
        sa.Column("asked_at", Instant(), nullable=True),
        sa.Column("asked_by", AutoString(), nullable=True),
        sa.Column("asked_why", sa.Text(), nullable=True),
        sa.Column("lifted_at", Instant(), nullable=True),
        sa.Column("lifted_by", AutoString(), nullable=True),
        sa.CheckConstraint("(lifted_at IS NULL) = (lifted_by IS NULL)", name=op.f("ck_data_lock_lifted_pair")),
        sa.CheckConstraint("(asked_at IS NULL) = (asked_by IS NULL)", name=op.f("ck_data_lock_asked_pair")),
        sa.CheckConstraint(
            "kind <> 'locked' OR lifted_at IS NULL OR (asked_by IS NOT NULL AND asked_by <> lifted_by)",
            name=op.f("ck_data_lock_lifted_by_two"),
        ),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"], name=op.f("fk_data_lock_participant_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_data_lock_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_lock")),
    )
    op.create_index(
        "ux_data_lock_standing",
        "data_lock",
        ["study_id", "participant_key", "visit_key", "kind"],
        unique=True,
        sqlite_where=sa.text("lifted_at IS NULL"),
        postgresql_where=sa.text("lifted_at IS NULL"),
    )
    op.create_table(
        "casebook_signature",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("digest", AutoString(), nullable=False),
        sa.Column("meaning", AutoString(), nullable=False),
        sa.Column("signed_at", Instant(), nullable=False),
        sa.Column("signed_by", AutoString(), nullable=False),
        sa.Column("signed_name", AutoString(), nullable=False),
        sa.Column("superseded_at", Instant(), nullable=True),
        sa.Column("superseded_by", AutoString(), nullable=True),
        sa.Column("superseded_why", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participant.id"], name=op.f("fk_casebook_signature_participant_id")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_casebook_signature_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_casebook_signature")),
    )
    op.create_index(
        "ux_casebook_signature_standing",
        "casebook_signature",
        ["participant_id"],
        unique=True,
        sqlite_where=sa.text("superseded_at IS NULL"),
        postgresql_where=sa.text("superseded_at IS NULL"),
    )
    _kept("query_message")


def _kept(table: str) -> None:
    """What was said stays as it was said (21 CFR 11.10(e))."""
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{KEPT}'; END $$"
    )
    for event, each in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} FOR EACH {each} "
            f"EXECUTE FUNCTION {table}_kept()"
        )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
