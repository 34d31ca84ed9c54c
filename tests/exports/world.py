"""Rows for exports, made without the rooms that make them: participants, visits, entries, consents, screenings."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session

from app.capture.models import DataQuery, Entry
from app.consent.models import Consent
from app.exports import reads
from app.exports.formats import Format, encoded
from app.foundation.database import table_of
from app.participants.models import Participant, Screening
from app.people.access import Actor
from app.safety.events.rules import Details
from app.safety.models import AdverseEvent, AdverseEventReport, ConcomitantCare, Contact, Deviation
from app.schedule.models import ParticipantVisit
from app.studies.in_use import StudyInUse
from tests.factories import NOW, TODAY, site

PRESCREEN = {"age": 44, "pain_screen": 6, "surgery": False}


def participant(
    session: Session, study: StudyInUse, number: int, *, site_code: str = "north", **changes: Any
) -> Participant:
    """A randomised participant."""
    values: dict[str, Any] = {
        "study_id": study.id,
        "site_id": site(session, study, site_code).id,
        "code": f"M-{number:03d}",
        "status": "randomised",
        "screened_on": TODAY,
        "consented_on": TODAY + timedelta(days=1),
        "randomised_on": TODAY + timedelta(days=2),
        "randomised_at": NOW,
        "randomised_by": "coordinator_north",
        "created_at": NOW,
        "created_by": "coordinator_north",
        **changes,
    }
    row = Participant(**values)
    session.add(row)
    session.flush()
    return row


def query(session: Session, study: StudyInUse, row: Entry, item: str, **changes: Any) -> DataQuery:
    """A query at one item of an entry."""
    values: dict[str, Any] = {
        "study_id": study.id,
        "participant_id": row.participant_id,
        "visit": row.visit,
        "instrument": row.instrument,
        "item": item,
        "origin": "monitor",
        "state": "open",
        "text": "Which is right?",
        "raised_at": NOW,
        "raised_by": "monitor",
        "changed_at": NOW,
        "changed_by": "monitor",
        **changes,
    }
    made = DataQuery(**values)
    session.add(made)
    session.flush()
    return made


def entry(
    session: Session,
    study: StudyInUse,
    row: Participant,
    visit: str,
    instrument: str,
    values: dict[str, Any],
    **changes: Any,
) -> Entry:
    """An entry with these stored values."""
    made = Entry(
        **{
            "study_id": study.id,
            "participant_id": row.id,
            "site_id": row.site_id,
            "visit": visit,
            "instrument": instrument,
            "study_version_id": study.version_id,
            "status": "complete",
            "values": json.dumps(values),
            "created_at": NOW,
            "created_by": "assessor_north",
            "saved_at": NOW,
            "saved_by": "assessor_north",
            **changes,
        }
    )
    session.add(made)
    session.flush()
    return made


def visit(session: Session, study: StudyInUse, row: Participant, code: str, order: int, **changes: Any) -> None:
    """A visit with its dates."""
    session.add(
        ParticipantVisit(
            **{
                "study_id": study.id,
                "participant_id": row.id,
                "code": code,
                "kind": "assessment",
                "order": order,
                "target_on": TODAY,
                "opens_on": TODAY,
                "closes_on": TODAY + timedelta(days=14),
                "created_at": NOW,
                **changes,
            }
        )
    )
    session.flush()


def consent(session: Session, study: StudyInUse, row: Participant, **changes: Any) -> None:
    """A complete consent, with a signature that must stay in the house."""
    session.add(
        Consent(
            **{
                "participant_id": row.id,
                "study_version_id": study.version_id,
                "document_version": "1",
                "language": "en",
                "document_sha256": "ab" * 32,
                "method": "on_screen",
                "signed_on": TODAY,
                "participant_signature": b"Wilhelmina Signature",
                "options": "{}",
                "binding": "cd" * 32,
                "recorded_at": NOW,
                "recorded_by": "coordinator_north",
                "countersigned_at": NOW,
                "countersigned_by": "coordinator_north",
                "countersigned_name": "Countersigning Name",
                "countersigned_meaning": "I explained the study.",
                **changes,
            }
        )
    )
    session.flush()


def screening(session: Session, study: StudyInUse, row: Participant, **changes: Any) -> None:
    """A pre-screen with its verdicts."""
    verdicts: list[dict[str, Any]] = [
        {"code": code, "label": code, "kind": "inclusion", "met": True, "reason": "", "lacking": []}
        for code in ("adult", "pain", "surgery")
    ]
    session.add(
        Screening(
            **{
                "participant_id": row.id,
                "study_version_id": study.version_id,
                "answers": json.dumps(PRESCREEN),
                "verdicts": json.dumps(verdicts),
                "eligible": True,
                "screened_at": NOW,
                "screened_by": "coordinator_north",
                **changes,
            }
        )
    )
    session.flush()


def of_safety(session: Session, study: StudyInUse, row: Participant) -> None:
    """A serious event with its report, a deviation, a contact, and a line of care, of one participant."""
    event = AdverseEvent(
        study_id=study.id,
        participant_id=row.id or 0,
        state="judged",
        term="Fall; with “bruises”",
        onset="2026-03",
        onset_on=TODAY,
        severity="mild",
        outcome="recovered",
        serious_since=NOW,
        relatedness="unlikely",
        expected=False,
        reported_at=NOW,
        reported_by="assessor_north",
    )
    session.add(event)
    session.flush()
    said = Details(term=event.term, onset=event.onset, severity="mild", criteria=("disability",), outcome="recovered")
    whose: dict[str, Any] = {"study_id": study.id, "participant_id": row.id or 0}
    recorded: dict[str, Any] = {"recorded_at": NOW, "recorded_by": "assessor_north"}
    session.add(
        AdverseEventReport(
            event_id=event.id or 0,
            version=1,
            kind="initial",
            details=json.dumps(asdict(said)),
            aware_at=NOW,
            reported_at=NOW,
            reported_by="assessor_north",
        )
    )
    session.add(
        Deviation(
            **whose,
            state="open",
            category="procedure",
            grade="minor",
            occurred_on=TODAY,
            what="At home, not at the clinic",
            reported_at=NOW,
            reported_by="assessor_north",
        )
    )
    session.add(Contact(**whose, at=NOW, how="call", result="reached", note="", **recorded))
    session.add(ConcomitantCare(**whose, treatment="Ibuprofen", began="2026", ended="", indication="Pain", **recorded))
    session.flush()


def many(session: Session, study: StudyInUse, participants: int, entries: int) -> None:
    """A large study, quickly: `entries` entries over `participants` participants, at visits v0, v1, ..."""
    north = site(session, study).id
    ids = range(1_000_000, 1_000_000 + participants)
    common = {
        "study_id": study.id,
        "status": "randomised",
        "screened_on": date(2026, 1, 1),
        "created_at": NOW,
        "created_by": "x",
        "site_id": north,
    }
    session.execute(insert(table_of(Participant)), [{**common, "id": id, "code": f"M-{id}"} for id in ids])
    values = json.dumps({"pain_nrs": 5, "pain_days": 3, "pain_where": ["back"], "pain_note": "x" * 400})
    made = (
        {
            "study_id": study.id,
            "participant_id": ids[number % participants],
            "visit": f"v{number // participants:04d}",
            "instrument": "pain",
            "study_version_id": study.version_id,
            "status": "complete",
            "version": 1,
            "values": values,
            "reasons": "{}",
            "created_at": NOW,
            "created_by": "x",
            "saved_at": NOW,
            "saved_by": "x",
        }
        for number in range(entries)
    )
    rows = list(made)
    for start in range(0, len(rows), 1000):
        session.execute(insert(table_of(Entry)), rows[start : start + 1000])


def names(session: Session, study: StudyInUse, by: Actor) -> list[str]:
    """The names of all tables."""
    return [table.name for table in reads.catalogue(session, study, by=by)]


def as_bytes(
    session: Session, study: StudyInUse, table: str, by: Actor, kind: Format = Format.CSV, **options: Any
) -> bytes:
    """A whole export."""
    return b"".join(encoded(reads.open_export(session, study, table, by=by, **options), kind))


def as_csv(session: Session, study: StudyInUse, table: str, by: Actor, **options: Any) -> list[dict[str, str]]:
    """An export as CSV, read back by the csv module."""
    text = as_bytes(session, study, table, by, **options).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def as_json(session: Session, study: StudyInUse, table: str, by: Actor, **options: Any) -> list[dict[str, Any]]:
    """An export as JSON, read back by the json module; the same rows as NDJSON."""
    found: list[dict[str, Any]] = json.loads(as_bytes(session, study, table, by, Format.JSON, **options))
    lines: Iterator[bytes] = iter(as_bytes(session, study, table, by, Format.NDJSON, **options).splitlines())
    assert [json.loads(line) for line in lines] == found
    return found
