"""forms that are entered twice, texts that are coded, and dictionaries of an installation's own"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0020_double"
down_revision = "study_wording"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "entry_pair",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("state", AutoString(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("first_by", AutoString(), nullable=False),
        sa.Column("first_at", Instant(), nullable=False),
        sa.Column("second_by", AutoString(), nullable=True),
        sa.Column("second_at", Instant(), nullable=True),
        sa.Column("second_values", sa.Text(), nullable=True),
        sa.Column("second_reasons", sa.Text(), nullable=False),
        sa.Column("differing", sa.Integer(), nullable=False),
        sa.Column("reconciled_by", AutoString(), nullable=True),
        sa.Column("reconciled_at", Instant(), nullable=True),
        sa.CheckConstraint("(second_at IS NULL) = (second_by IS NULL)", name=op.f("ck_entry_pair_second_pair")),
        sa.CheckConstraint(
            "(reconciled_at IS NULL) = (reconciled_by IS NULL)", name=op.f("ck_entry_pair_reconciled_pair")
        ),
        sa.CheckConstraint("second_by IS NULL OR second_by <> first_by", name=op.f("ck_entry_pair_two_people")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_entry_pair_study_id")),
        sa.ForeignKeyConstraint(["entry_id"], ["entry.id"], name=op.f("fk_entry_pair_entry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entry_pair")),
        sa.UniqueConstraint("entry_id", name=op.f("uq_entry_pair_entry_id")),
    )
    op.create_index("ix_entry_pair_queue", "entry_pair", ["study_id", "state", "id"])
    op.create_table(
        "compared_answer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("item", AutoString(), nullable=False),
        sa.Column("first", sa.Text(), nullable=True),
        sa.Column("second", sa.Text(), nullable=True),
        sa.Column("agrees", sa.Boolean(), nullable=False),
        sa.Column("chosen", AutoString(), nullable=True),
        sa.Column("settled", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["pair_id"], ["entry_pair.id"], name=op.f("fk_compared_answer_pair_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compared_answer")),
    )
    op.create_index("ux_compared_answer", "compared_answer", ["pair_id", "item"], unique=True)
    op.create_table(
        "coded_text",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("item", AutoString(), nullable=False),
        sa.Column("dictionary", AutoString(), nullable=False),
        sa.Column("dictionary_version", AutoString(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("coders", sa.Integer(), nullable=False),
        sa.Column("state", AutoString(), nullable=False),
        sa.Column("code", AutoString(), nullable=True),
        sa.Column("label", AutoString(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("outdated_at", Instant(), nullable=True),
        sa.Column("reconciled_by", AutoString(), nullable=True),
        sa.Column("reconciled_at", Instant(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state = 'outdated') = (outdated_at IS NOT NULL)", name=op.f("ck_coded_text_outdated_state")
        ),
        sa.CheckConstraint(
            "(reconciled_at IS NULL) = (reconciled_by IS NULL)", name=op.f("ck_coded_text_reconciled_pair")
        ),
        sa.CheckConstraint("(code IS NULL) = (label IS NULL)", name=op.f("ck_coded_text_coded_pair")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_coded_text_study_id")),
        sa.ForeignKeyConstraint(["entry_id"], ["entry.id"], name=op.f("fk_coded_text_entry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_coded_text")),
    )
    op.create_index("ix_coded_text_queue", "coded_text", ["study_id", "state", "id"])
    op.create_index("ix_coded_text_same", "coded_text", ["study_id", "dictionary", "key"])
    standing = sa.text("outdated_at IS NULL")
    op.create_index(
        "ux_coded_text_standing",
        "coded_text",
        ["entry_id", "item"],
        unique=True,
        sqlite_where=standing,
        postgresql_where=standing,
    )
    op.create_table(
        "coding_choice",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("text_id", sa.Integer(), nullable=False),
        sa.Column("coder", AutoString(), nullable=False),
        sa.Column("code", AutoString(), nullable=False),
        sa.Column("label", AutoString(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["text_id"], ["coded_text.id"], name=op.f("fk_coding_choice_text_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_coding_choice")),
        sa.UniqueConstraint("text_id", "coder", name=op.f("uq_coding_choice_text_id_coder")),
    )
    op.create_table(
        "dictionary_term",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("dictionary", AutoString(), nullable=False),
        sa.Column("code", AutoString(), nullable=False),
        sa.Column("label", AutoString(), nullable=False),
        sa.Column("parent", AutoString(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_dictionary_term_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dictionary_term")),
        sa.UniqueConstraint("study_id", "dictionary", "code", name=op.f("uq_dictionary_term_study_id_dictionary_code")),
    )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
