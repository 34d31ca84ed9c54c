"""A study behind the REDCap-compatible door: people with tokens of 32 digits, and participants with entries."""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, update
from sqlmodel import Session
from starlette.testclient import TestClient

from app.capture.groups import document_of
from app.capture.models import Entry
from app.foundation import clock
from app.foundation.crypto.secrets import new_hexadecimal_token, token_hash
from app.foundation.database import Database, table_of
from app.people.access import Actor
from app.people.models import ApiToken
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord
from tests.api.client import application_on
from tests.capture.records import consented
from tests.factories import MINI, mini_study, person, site

# A form that repeats, one that participants fill in, and a visit whose name is longer than 18 letters.
FALLS: dict[str, Any] = {
    "code": "falls",
    "label": "Falls",
    "source": "test",
    "repeats": True,
    "sections": [
        {
            "label": "What happened",
            "items": [
                {"code": "fall_where", "label": "Where", "type": "text", "multiline": True},
                {
                    "code": "fall_hurt",
                    "label": "How bad",
                    "type": "choice",
                    "required": False,
                    "choices": [{"code": "1", "label": "Not at all"}, {"code": "2", "label": "Badly, twice"}],
                },
            ],
        }
    ],
}
DIARY: dict[str, Any] = {
    "code": "diary",
    "label": "Diary",
    "source": "test",
    "respondent": "participant",
    "sections": [
        {
            "items": [
                {"code": "diary_slept", "label": "Slept well", "type": "yes_no", "required": False},
                {"code": "diary_time", "label": "Got up", "type": "time", "required": False},
            ]
        }
    ],
}


def changes(*, repeats: bool = True) -> dict[str, Any]:
    """What makes the small trial one with everything that the door can show."""
    visits, instruments = MINI["visits"], MINI["instruments"]
    assert isinstance(visits, list)
    assert isinstance(instruments, list)
    forms = ["pain", "disability", "diary", *(["falls"] if repeats else [])]
    last = {**visits[-1], "label": "Week 18, the last one of all", "instruments": forms}
    return {"visits": [*visits[:-1], last], "instruments": [*instruments, DIARY, *([FALLS] if repeats else [])]}


@dataclass
class Caller:
    """One person's program at the door."""

    http: TestClient
    token: str
    actor: Actor

    def send(self, content: str, *, headers: Any = None, files: Any = None, **form: Any) -> Any:
        """The reply to one call."""
        data = {"token": self.token, "content": content, **form}
        return self.http.post("/api/", data=data, files=files, headers=headers or {}, follow_redirects=False)

    def json(self, content: str, **form: Any) -> Any:
        """What a call that must go well is answered, as JSON."""
        reply = self.send(content, format="json", **form)
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
        return reply.json()

    def csv(self, content: str, **form: Any) -> str:
        """The same as CSV."""
        reply = self.send(content, format="csv", **form)
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"] == "text/csv; charset=utf-8"
        return str(reply.text)

    def refused(self, content: str, status: Any = 400, **form: Any) -> str:
        """The message with which a call must be refused."""
        reply = self.send(content, **{"returnFormat": "json", **form})
        assert reply.status_code == status, reply.text
        return str(reply.json()["error"])

    def imports(self, rows: Any, **form: Any) -> Any:
        """The reply to an import of these rows."""
        return self.send("record", **{"format": "json", "data": json.dumps(rows), **form})


@dataclass
class World:
    """The study, and who calls."""

    database: Database
    study: StudyInUse
    http: TestClient
    callers: dict[str, Caller] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Caller:
        return self.callers[name]


def add_token(session: Session, actor: Actor, scopes: Any = None) -> str:
    """A token in the form that these clients accept, of this person in their study; None is every scope."""
    token, now = new_hexadecimal_token(), clock.now()
    session.execute(
        insert(table_of(ApiToken)).values(
            token_hash=token_hash(token),
            person_id=actor.person_id,
            study_id=actor.study_id,
            name="test",
            scopes=" ".join(sorted(Permission) if scopes is None else scopes),
            created_at=now,
            expires_at=now + timedelta(days=9),
        )
    )
    return token


def add_entry(
    session: Session, study: StudyInUse, participant: Any, visit: str, instrument: str, **values: Any
) -> None:
    """An entry as a row."""
    now = clock.now()
    repeat, status = values.pop("repeat", 1), values.pop("status", "complete")
    session.execute(
        insert(table_of(Entry)).values(
            study_id=study.id,
            participant_id=participant.id,
            visit=visit,
            instrument=instrument,
            repeat=repeat,
            study_version_id=study.version_id,
            status=status,
            version=1,
            values=json.dumps(document_of(values)),
            reasons="{}",
            created_at=now,
            created_by="test",
            saved_at=now,
            saved_by="test",
        )
    )


ROLES = {
    "coordinator": ("coordinator", "north"),
    "southern": ("coordinator", "south"),
    "assessor": ("assessor", "north"),
    "clinician": ("clinician", "north"),
    "investigator": ("investigator", "north"),
    "manager": ("data_manager", None),
    "monitor": ("monitor", None),
    "statistician": ("statistician", None),
    "administrator": ("administrator", None),
}


def build(database: Database, *, repeats: bool = True, **more: Any) -> World:
    """Three participants: one with entries at two visits, one with nothing but the pre-screen, one at another site."""
    with database.writing() as session:
        study = mini_study(session, **{**changes(repeats=repeats), **more})
        one = consented(session, study, "M-001")
        consented(session, study, "M-002")
        three = consented(session, study, "M-003", site_code="south")
        add_entry(session, study, one, "baseline", "pain", pain_nrs=5, pain_days=3, pain_where=["back"])
        add_entry(session, study, one, "week18", "pain", pain_nrs=2, pain_days={"missing": "UNK"}, status="partial")
        weight = {"dis_items": ["1", "24"], "dis_weight": 71.5, "dis_on": "2026-03-02", "dis_score": 2}
        add_entry(session, study, one, "week18", "disability", **weight)
        if repeats:
            add_entry(session, study, one, "week18", "falls", fall_where="At home", fall_hurt="2")
            add_entry(session, study, one, "week18", "falls", fall_where="In the street,\nat night", repeat=2)
        add_entry(session, study, three, "baseline", "pain", pain_nrs=9, pain_days=7, pain_note='Said "no", twice')
        numbered = update(table_of(StudyRecord)).where(table_of(StudyRecord).c.id == study.id)
        session.execute(numbered.values(last_participant=3))
        http = TestClient(application_on(database), base_url="http://trial.test")
        world = World(database, study, http)
        for name, (role, at) in ROLES.items():
            actor = person(session, study, role, site_code=at, username=name)
            world.callers[name] = Caller(http, add_token(session, actor), actor)
        # One person who enters at every site and exports: the tokens of most scripts are such.
        for at in ("north", "south"):
            actor = person(session, study, "coordinator", site_code=at, username="both")
        actor = person(session, study, "data_manager", site_code=None, username="both")
        world.callers["both"] = Caller(http, add_token(session, actor), actor)
        site(session, study)
    return world
