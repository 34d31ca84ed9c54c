"""Thousands of participants, quickly: rows inserted in bulk, as their screening, visits and entries would be."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.models import Entry
from app.consent.models import Consent
from app.foundation import clock
from app.foundation.crypto.secrets import hash_password, new_token, token_hash
from app.foundation.database import Database, table_of
from app.participants.identity import new_identity
from app.participants.models import Participant, Screening
from app.participants.rules import PersonalData
from app.people import actions as people
from app.people.access import Actor, Grant
from app.people.models import Person, SignInSession
from app.people.permissions import Role
from app.people.reads import sites_of
from app.randomisation.actions import draw, seal
from app.schedule.models import ParticipantVisit
from app.studies.actions import load_study
from app.studies.definition import Study
from app.studies.in_use import StudyInUse, study_in_use
from app.studies.models import StudyRecord
from benchmarks.study import ANSWERS, definition

PARTICIPANTS = 10_000
WAITING = 1_000
"""Of them, the last ones are ready to be randomised; all others are, and have an entry at each of these visits."""
ANSWERED = ("baseline", "week6")
BEGUN_WITHIN = 300
"""Participants were screened, evenly, in so many days, the last of them three weeks ago."""
PASSWORD = "correct horse battery staple"
BATCH = 1_000


@dataclass(frozen=True)
class Filled:
    """What a client needs: the cookie of a signed-in coordinator, and a token of theirs."""

    cookie: str
    token: str


def fill(
    database: Database,
    *,
    study: Study | None = None,
    participants: int = PARTICIPANTS,
    waiting: int = WAITING,
    slots: int = 2_000,
    answered: Sequence[str] = ANSWERED,
    begun_within: int = BEGUN_WITHIN,
) -> Filled:
    """Load the trial, add a coordinator of every site, seal a list of so many slots, and bring the participants."""
    now = clock.now()
    operator = Actor(0, "operator", "Operator", "Benchmark", (Grant(Role.ADMINISTRATOR),), via="cli")
    with database.writing() as session:
        load_study(session, study or definition(), by=operator, now=now - timedelta(days=400))
        loaded = study_in_use(session, "bench")
        sites = [site.id for site in sites_of(session, loaded.id)]
        coordinator = person_with(session, loaded, Role.COORDINATOR, sites, operator, now)
        statistician = person_with(session, loaded, Role.STATISTICIAN, [None], operator, now)
        drawn = draw(
            session,
            loaded,
            method="permuted_blocks",
            block_sizes=[4],
            slots_per_stratum=slots,
            by=statistician,
            now=now,
        )
        assert drawn.id is not None
        seal(session, loaded, drawn.id, by=statistician, now=now)
        _participants(
            session,
            loaded,
            sites,
            coordinator,
            now,
            participants=participants,
            waiting=waiting,
            answered=answered,
            begun_within=begun_within,
        )
        cookie = _session_of(session, coordinator, clock.now())  # bringing many takes longer than a session idles
        scopes = ["participant.read", "participant.randomise", "entry.read", "entry.save"]
        _, token = people.create_token(
            session,
            person_id=coordinator.person_id,
            study_id=loaded.id,
            log=loaded.code,
            name="benchmark",
            scopes=scopes,
            expires_at=now + timedelta(days=1),
            by=coordinator,
            now=now,
        )
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    return Filled(cookie, token)


def person_with(
    session: Session, study: StudyInUse, role: Role, sites: Sequence[int | None], operator: Actor, now: datetime
) -> Actor:
    person = people.add_person(
        session,
        username=role.value,
        name=role.value.title(),
        email=f"{role.value}@example.org",
        organisation="Benchmark",
        password=PASSWORD,
        by=operator,
        now=now,
    )
    for site in sites:
        people.grant(
            session,
            person_id=person.id,
            role=role,
            study_id=study.id,
            site_id=site,
            log=study.code,
            by=operator,
            now=now,
        )
    grants = tuple(Grant(role, site) for site in sites)
    return Actor(person.id, person.username, person.name, person.organisation, grants, study.id)


def _session_of(session: Session, actor: Actor, now: datetime) -> str:
    cookie = new_token()
    session.execute(
        insert(table_of(SignInSession)).values(
            token_hash=token_hash(cookie),
            person_id=actor.person_id,
            csrf_token=new_token(),
            second_factor=False,
            created_at=now,
            seen_at=now,
            expires_at=now + timedelta(hours=12),
            address="",
            browser="",
        )
    )
    person = table_of(Person)
    session.execute(update(person).where(person.c.id == actor.person_id).values(password_hash=hash_password(PASSWORD)))
    return cookie


def _participants(
    session: Session,
    study: StudyInUse,
    sites: list[int],
    by: Actor,
    now: datetime,
    *,
    participants: int,
    waiting: int,
    answered: Sequence[str],
    begun_within: int,
) -> None:
    visits = study.definition.visits
    digits = study.definition.participant_digits
    today = now.astimezone(UTC).date()
    somebody = PersonalData("Kiri", "Walker", "1980-05-17", "02 5550 0000", "kiri@example.org")
    values, screening = json.dumps({**ANSWERS, "score": 30}), '{"age":44}'
    for first in range(1, participants + 1, BATCH):
        numbers = range(first, min(first + BATCH, participants + 1))
        rows: dict[Any, list[dict[str, Any]]] = {
            model: [] for model in (Participant, Screening, Consent, ParticipantVisit, Entry)
        }
        changes = []
        for number in numbers:
            waits = number > participants - waiting
            on = today - timedelta(days=20 + (number * 7) % begun_within)
            code = f"B-{number:0{digits}}"
            rows[Participant].append(
                {
                    "id": number,
                    "study_id": study.id,
                    "site_id": sites[number % len(sites)],
                    "code": code,
                    "status": "consented" if waits else "randomised",
                    "screened_on": on,
                    "consented_on": on,
                    "randomised_on": None if waits else on + timedelta(days=3),
                    "randomised_at": None if waits else now,
                    "randomised_by": None if waits else by.username,
                    "created_at": now,
                    "created_by": by.username,
                }
            )
            rows[Screening].append(
                {
                    "participant_id": number,
                    "study_version_id": study.version_id,
                    "answers": screening,
                    "verdicts": "[]",
                    "eligible": True,
                    "screened_at": now,
                    "screened_by": by.username,
                }
            )
            rows[Consent].append(
                {
                    "participant_id": number,
                    "study_version_id": study.version_id,
                    "document_version": "1",
                    "language": "en",
                    "document_sha256": "0" * 64,
                    "method": "on_screen",
                    "signed_on": on,
                    "participant_signature": b"sealed",
                    "options": "{}",
                    "binding": "0" * 64,
                    "recorded_at": now,
                    "recorded_by": by.username,
                    "countersigned_at": now,
                    "countersigned_by": by.username,
                    "countersigned_name": by.name,
                    "countersigned_meaning": "approval",
                }
            )
            for order, visit in enumerate(visits):
                if waits and visit.kind != "baseline":
                    continue
                target = on + timedelta(days=visit.day)
                held = visit.kind == "baseline" or target < today
                rows[ParticipantVisit].append(
                    {
                        "study_id": study.id,
                        "participant_id": number,
                        "code": visit.code,
                        "kind": visit.kind,
                        "order": order,
                        "target_on": target,
                        "opens_on": target - timedelta(days=6),
                        "closes_on": target + timedelta(days=14),
                        "status": "held" if held else "planned",
                        "held_on": target if held else None,
                        "version": 1,
                        "created_at": now,
                    }
                )
            for answered_at in answered[:1] if waits else answered:
                rows[Entry].append(
                    {
                        "study_id": study.id,
                        "participant_id": number,
                        "visit": answered_at,
                        "instrument": "wellbeing",
                        "study_version_id": study.version_id,
                        "status": "complete",
                        "version": 1,
                        "values": values,
                        "site_id": sites[number % len(sites)],
                        "verification": "unverified",
                        "reasons": "{}",
                        "created_at": now,
                        "created_by": by.username,
                        "saved_at": now,
                        "saved_by": by.username,
                    }
                )
            changes += [Change("participant.screened", code, "screening", new={"status": "screened"})]
            changes += [
                Change("entry.saved", code, "entry/baseline/wellbeing", item, new=value)
                for item, value in list(ANSWERS.items())[:10]
            ]
        for model, batch in rows.items():
            session.execute(insert(table_of(model)), batch)
        for number in numbers:
            new_identity(session, study.id, number, somebody)
        record(session, study.code, changes, by=by, now=now)
    record_row = table_of(StudyRecord)
    session.execute(update(record_row).where(record_row.c.id == study.id).values(last_participant=participants))
    if session.get_bind().dialect.name == "postgresql":
        session.connection().exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('participant', 'id'), {participants})"
        )


__all__ = ["PASSWORD", "Filled", "fill"]
