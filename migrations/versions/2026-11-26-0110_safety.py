"""adverse events and their clocks, deviations, contacts, concomitant care, and ends"""

import sqlalchemy as sa
from alembic import op

from app.foundation.database import Instant

revision = "0012_safety"
down_revision = "0011_schedule"
branch_labels = None
depends_on = None


ADDED_TO = ("adverse_event_report", "event_judgement", "participant_end")
KEPT = ("adverse_event", "event_clock", "deviation", "contact", "concomitant_care")


def upgrade() -> None:
    op.create_table(
        "adverse_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("term", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=True),
        sa.Column("onset", sa.String(), nullable=False),
        sa.Column("onset_on", sa.Date(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("serious_since", Instant(), nullable=True),
        sa.Column("relatedness", sa.String(), nullable=True),
        sa.Column("expected", sa.Boolean(), nullable=True),
        sa.Column("reported_at", Instant(), nullable=False),
        sa.Column("reported_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"], name=op.f("fk_adverse_event_participant_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_adverse_event_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adverse_event")),
    )
    with op.batch_alter_table("adverse_event", schema=None) as batch_op:
        batch_op.create_index("ix_adverse_event_onset", ["study_id", "onset_on", "id"], unique=False)
        batch_op.create_index("ix_adverse_event_participant_id", ["participant_id", "id"], unique=False)
        batch_op.create_index("ix_adverse_event_state", ["study_id", "state", "id"], unique=False)
        batch_op.create_index("ix_adverse_event_study_id", ["study_id", "id"], unique=False)

    op.create_table(
        "concomitant_care",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("treatment", sa.String(), nullable=False),
        sa.Column("began", sa.String(), nullable=False),
        sa.Column("ended", sa.String(), nullable=False),
        sa.Column("indication", sa.String(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participant.id"], name=op.f("fk_concomitant_care_participant_id")
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_concomitant_care_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_concomitant_care")),
    )
    with op.batch_alter_table("concomitant_care", schema=None) as batch_op:
        batch_op.create_index("ix_concomitant_care_participant_id", ["participant_id", "id"], unique=False)

    op.create_table(
        "contact",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("how", sa.String(), nullable=False),
        sa.Column("result", sa.String(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"], name=op.f("fk_contact_participant_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_contact_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact")),
    )
    with op.batch_alter_table("contact", schema=None) as batch_op:
        batch_op.create_index("ix_contact_participant_id", ["participant_id", "at"], unique=False)

    op.create_table(
        "deviation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=True),
        sa.Column("about", sa.String(), nullable=True),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("grade", sa.String(), nullable=False),
        sa.Column("occurred_on", sa.Date(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("reported_at", Instant(), nullable=False),
        sa.Column("reported_by", sa.String(), nullable=False),
        sa.Column("signed_at", Instant(), nullable=True),
        sa.Column("signed_by", sa.String(), nullable=True),
        sa.Column("signed_name", sa.String(), nullable=True),
        sa.CheckConstraint("(signed_at IS NULL) = (signed_by IS NULL)", name=op.f("ck_deviation_signed_pair")),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"], name=op.f("fk_deviation_participant_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_deviation_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deviation")),
        sa.UniqueConstraint("participant_id", "rule", "about", name=op.f("uq_deviation_participant_id_rule_about")),
    )
    with op.batch_alter_table("deviation", schema=None) as batch_op:
        batch_op.create_index("ix_deviation_state", ["study_id", "state", "id"], unique=False)
        batch_op.create_index("ix_deviation_study_id", ["study_id", "id"], unique=False)

    op.create_table(
        "participant_end",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("corrects", sa.Integer(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("on", sa.Date(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("status_before", sa.String(), nullable=False),
        sa.Column("stopped", sa.Text(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["corrects"], ["participant_end.id"], name=op.f("fk_participant_end_corrects")),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"], name=op.f("fk_participant_end_participant_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_participant_end_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_participant_end")),
        sa.UniqueConstraint("corrects", name=op.f("uq_participant_end_corrects")),
    )
    with op.batch_alter_table("participant_end", schema=None) as batch_op:
        batch_op.create_index("ix_participant_end_participant_id", ["participant_id", "id"], unique=False)

    op.create_table(
        "adverse_event_report",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("aware_at", Instant(), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("reported_at", Instant(), nullable=False),
        sa.Column("reported_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["adverse_event.id"], name=op.f("fk_adverse_event_report_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adverse_event_report")),
        sa.UniqueConstraint("event_id", "version", name=op.f("uq_adverse_event_report_event_id_version")),
    )
    op.create_table(
        "event_clock",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.Column("steps_taken", sa.Integer(), nullable=False),
        sa.Column("sent_at", Instant(), nullable=True),
        sa.Column("reference", sa.String(), nullable=True),
        sa.Column("reported_at", Instant(), nullable=True),
        sa.Column("reported_by", sa.String(), nullable=True),
        sa.CheckConstraint("(reported_at IS NULL) = (reported_by IS NULL)", name=op.f("ck_event_clock_reported_pair")),
        sa.ForeignKeyConstraint(["event_id"], ["adverse_event.id"], name=op.f("fk_event_clock_event_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_event_clock_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_clock")),
        sa.UniqueConstraint("event_id", "code", name=op.f("uq_event_clock_event_id_code")),
    )
    with op.batch_alter_table("event_clock", schema=None) as batch_op:
        batch_op.create_index("ix_event_clock_running", ["study_id", "state", "due_at"], unique=False)

    op.create_table(
        "event_judgement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("relatedness", sa.String(), nullable=True),
        sa.Column("expected", sa.Boolean(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("knew_arm", sa.Boolean(), nullable=False),
        sa.Column("judged_at", Instant(), nullable=False),
        sa.Column("judged_by", sa.String(), nullable=False),
        sa.Column("judged_name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["adverse_event.id"], name=op.f("fk_event_judgement_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_judgement")),
    )
    with op.batch_alter_table("event_judgement", schema=None) as batch_op:
        batch_op.create_index("ix_event_judgement_event_id", ["event_id", "id"], unique=False)

    op.create_table(
        "deviation_look",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("looked_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_deviation_look_study_id")),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_deviation_look")),
    )
    for table in ADDED_TO:
        _never(table, ("UPDATE", "DELETE"), "is only ever added to: report again, and say what was wrong")
    for table in KEPT:
        _never(table, ("DELETE",), "is never taken away")


def _never(table: str, events: tuple[str, ...], words: str) -> None:
    """What was reported stays as it was reported (21 CFR 11.10(e), ICH E6(R3) 4.2.2)."""
    said = f"A row of {table} {words}."
    if op.get_bind().dialect.name == "sqlite":
        for event in events:
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{said}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{said}'; END $$"
    )
    for event in (*events, "TRUNCATE"):
        each = "STATEMENT" if event == "TRUNCATE" else "ROW"
        op.execute(
            f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} FOR EACH {each} "
            f"EXECUTE FUNCTION {table}_kept()"
        )


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
