"""appointments, feeds of them, reminders"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.database import Instant

revision = "0011_schedule"
down_revision = "0014_consent"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "appointment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("visit_id", sa.Integer(), nullable=True),
        sa.Column("kind", AutoString(), nullable=False),
        sa.Column("purpose", AutoString(), nullable=True),
        sa.Column("starts_at", Instant(), nullable=False),
        sa.Column("ends_at", Instant(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=True),
        sa.Column("room", AutoString(), nullable=True),
        sa.Column("status", AutoString(), nullable=False),
        sa.Column("reason", AutoString(), nullable=True),
        sa.Column("uid", AutoString(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("created_by", AutoString(), nullable=False),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_appointment_lasts")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_appointment_study_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_appointment_site_id")),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"], name=op.f("fk_appointment_participant_id")),
        sa.ForeignKeyConstraint(["visit_id"], ["visit.id"], name=op.f("fk_appointment_visit_id")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_appointment_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_appointment")),
        sa.UniqueConstraint("participant_id", "number", name=op.f("uq_appointment_participant_id_number")),
        sa.UniqueConstraint("uid", name=op.f("uq_appointment_uid")),
    )
    op.create_index("ix_appointment_study_time", "appointment", ["study_id", "starts_at"])
    op.create_index("ix_appointment_person_time", "appointment", ["person_id", "starts_at"])
    op.create_index(
        "ux_appointment_booked",
        "appointment",
        ["visit_id"],
        unique=True,
        sqlite_where=sa.text("status = 'booked'"),
        postgresql_where=sa.text("status = 'booked'"),
    )
    op.create_table(
        "calendar_feed",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("whose", AutoString(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("revoked_at", Instant(), nullable=True),
        sa.Column("last_read_at", Instant(), nullable=True),
        sa.Column("counted_from", Instant(), nullable=True),
        sa.Column("reads", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_calendar_feed_person_id")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_calendar_feed_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calendar_feed")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_calendar_feed_token_hash")),
    )
    op.create_index("ix_calendar_feed_person_id", "calendar_feed", ["person_id"])
    op.create_table(
        "reminder_choice",
        sa.Column("participant_id", sa.Integer(), nullable=False),
        sa.Column("mail", sa.Boolean(), nullable=False),
        sa.Column("sms", sa.Boolean(), nullable=False),
        sa.Column("language", AutoString(), nullable=True),
        sa.Column("timezone", AutoString(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("changed_by", AutoString(), nullable=False),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"], name=op.f("fk_reminder_choice_participant_id")),
        sa.PrimaryKeyConstraint("participant_id", name=op.f("pk_reminder_choice")),
    )
    outbox = (
        sa.Column("channel", AutoString(), nullable=False, server_default="mail"),
        sa.Column("calendar", sa.Text(), nullable=True),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("site_id", sa.Integer(), nullable=True),
        sa.Column("participant_id", sa.Integer(), nullable=True),
        sa.Column("to_participant", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("rule", AutoString(), nullable=True),
        sa.Column("kind", AutoString(), nullable=True),
        sa.Column("visit_id", sa.Integer(), nullable=True),
        sa.Column("appointment_id", sa.Integer(), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.Column("ended_as", AutoString(), nullable=True),
    )
    for column in outbox:
        op.add_column("outbox_mail", column)
    op.create_index("ix_outbox_mail_study", "outbox_mail", ["study_id", "id"])


def downgrade() -> None:
    raise NotImplementedError("Data are never taken away: restore a backup instead.")
