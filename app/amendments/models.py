"""What do we keep of amendments? That a site goes over to a version of the study, from which day, and how far it is."""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Index, Text, text
from sqlmodel import Field, SQLModel

from app.amendments.status import State
from app.foundation.database import Instant


class SiteVersion(SQLModel, table=True):
    """One site going over from one version to another. What the site works under now stands in `site.version_id`.

    `moved_to` is the id of the last participant who was looked at: participants are taken in the order of their ids,
    and the number moves on in the same transaction as their visits, so that nobody is taken twice and nobody is lost.
    `looked_at` counts them, `changed` those with a visit that moved, `visits` these visits, `kept` those under a lock.
    """

    __tablename__ = "site_version"
    __table_args__ = (
        Index("ix_site_version_study_id", "study_id", "id"),
        Index(
            "ux_site_version_open",
            "site_id",
            unique=True,
            sqlite_where=text("state IN ('planned', 'moving')"),
            postgresql_where=text("state IN ('planned', 'moving')"),
        ),
        CheckConstraint("state IN ('planned', 'moving', 'done', 'cancelled')", name="state"),
        CheckConstraint("(ended_at IS NOT NULL) = (state IN ('done', 'cancelled'))", name="ended"),
        CheckConstraint("(begun_at IS NOT NULL) = (state IN ('moving', 'done'))", name="begun"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    site_id: int = Field(foreign_key="site.id")
    from_version_id: int = Field(foreign_key="study_version.id")
    version_id: int = Field(foreign_key="study_version.id")
    from_on: date
    why: str = Field(sa_type=Text)
    state: str = State.PLANNED
    planned_at: datetime = Field(sa_type=Instant)
    planned_by: str
    begun_at: datetime | None = Field(default=None, sa_type=Instant)
    moved_to: int = 0
    looked_at: int = 0
    changed: int = 0
    visits: int = 0
    kept: int = 0
    ended_at: datetime | None = Field(default=None, sa_type=Instant)
