"""The small trial with a safety section: terms, an expected one, two clocks; and people who report and judge."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.foundation.database import table_of
from app.mail.models import OutboxMail
from app.participants.models import Participant
from app.people.access import Actor
from app.safety.events import actions
from app.safety.events.rules import Act, Details
from app.studies.in_use import StudyInUse
from tests.capture.records import consented
from tests.factories import NOW, mini_study, person

MAIL = table_of(OutboxMail)
AWARE = NOW - timedelta(hours=2)
SAFETY: dict[str, Any] = {
    "terms": [{"code": "fall", "label": "Fall"}, {"code": "flare", "label": "Flare of pain"}],
    "expected": ["flare"],
    "expected_source": "Protocol 1.0, section 9",
    "clocks": [
        {
            "code": "sponsor",
            "label": "Report to the sponsor",
            "when": "serious",
            "hours": 24,
            "steps": [
                {"after_hours": 0, "tell": ["investigator"]},
                {"after_hours": 12, "tell": ["investigator", "coordinator"]},
                {"after_hours": 24, "tell": ["data_manager"]},
            ],
        },
        {
            "code": "authority",
            "label": "Report to the authority",
            "when": "unexpected_fatal",
            "hours": 168,
            "steps": [{"after_hours": 100, "tell": ["investigator"]}],
        },
    ],
    "late_entry_days": 3,
}
FALL = Details(term="Fall with bruises", code="fall", onset="2026-03-01", severity="moderate")
HOSPITAL = replace(FALL, criteria=("hospitalisation",))
FATAL = replace(FALL, criteria=("death", "hospitalisation"), outcome="fatal", ended="2026-03-02")


def fine() -> None:
    """A password that is right."""


@dataclass
class Safe:
    """The trial with one participant who takes part, and everybody by role."""

    session: Session
    study: StudyInUse
    someone: Participant
    people: dict[str, Actor] = field(default_factory=dict)

    def by(self, role: str) -> Actor:
        if role not in self.people:
            self.people[role] = person(self.session, self.study, role.rstrip("2"), username=f"the_{role}")
        return self.people[role]

    def report(self, said: Details = FALL, *, role: str = "coordinator", **more: Any) -> int:
        asked: dict[str, Any] = {"aware_at": AWARE, "by": self.by(role), "now": NOW, **more}
        return actions.report(self.session, self.study, self.someone, said, **asked)

    def again(self, number: int, said: Details, *, role: str = "coordinator", **more: Any) -> int:
        asked: dict[str, Any] = {
            "kind": Act.FOLLOW_UP,
            "aware_at": AWARE,
            "why": None,
            "base_version": 1,
            "by": self.by(role),
            "now": NOW,
            **more,
        }
        return actions.report_again(self.session, self.study, number, said, **asked)

    def judge(self, number: int, *, role: str = "investigator", prove: Callable[[], None] = fine, **more: Any) -> None:
        asked: dict[str, Any] = {
            "relatedness": "possible",
            "expected": False,
            "words": "An hour after the visit.",
            "base_version": 1,
            "by": self.by(role),
            "now": NOW,
            **more,
        }
        actions.judge(self.session, self.study, number, prove=prove, **asked)

    def log(self, action: str = "") -> list[Any]:
        query = select(ENTRY).where(ENTRY.c.log == self.study.code).order_by(ENTRY.c.position)
        return list(self.session.execute(query.where(ENTRY.c.action == action) if action else query))

    def mails(self) -> list[Any]:
        return list(self.session.execute(select(MAIL).order_by(MAIL.c.id)))


def safe(session: Session, **changes: Any) -> Safe:
    """The trial, with its people."""
    study = mini_study(session, **{"safety": SAFETY, **changes})
    made = Safe(session, study, consented(session, study, "M-001"))
    for role in ("coordinator", "investigator", "data_manager", "clinician"):
        made.by(role)
    return made


def later(hours: float) -> datetime:
    return NOW + timedelta(hours=hours)
