"""What somebody has typed and not saved yet: kept for them alone, and thrown away."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.capture.actions.place import About, open_form
from app.capture.reads import DRAFT
from app.foundation.errors import FieldProblem, Invalid
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

LARGEST_DRAFT = 200_000  # bytes of JSON


def keep_draft(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    typed: Mapping[str, list[str]],
    base_version: int,
    by: Actor,
    now: datetime,
    repeat: int = 1,
) -> None:
    """Keep what somebody has typed so far, for them alone. It is no entry: it is not logged, judged or exported."""
    study = study.at(participant.site_id)
    about = About(study, participant, visit, instrument, repeat)
    require(by, Permission.ENTRY_SAVE, site_id=participant.site_id, action="entry.draft", subject=about.refusal_subject)
    text = json.dumps({name: list(texts) for name, texts in typed.items()}, separators=(",", ":"))
    if len(text) > LARGEST_DRAFT:
        raise Invalid(
            [FieldProblem("draft", "max_length", "This is too much to keep as a draft. Shorten the longest answer.")]
        )
    open_form(session, about, by=by, hold=False, action="entry.draft", now=now)
    key = {
        "person_id": by.person_id,
        "participant_id": about.participant_id,
        "visit": visit,
        "instrument": instrument,
        "repeat": repeat,
    }
    kept = {"base_version": base_version, "typed": text, "saved_at": now}
    session.execute(
        _insert(session)(DRAFT).values(**key, **kept).on_conflict_do_update(index_elements=list(key), set_=kept)
    )


def drop_draft(
    session: Session, participant_id: int, *, visit: str, instrument: str, by: Actor, repeat: int = 1
) -> None:
    """Throw away this person's draft of this form; nothing happens when there is none."""
    session.execute(
        delete(DRAFT).where(
            DRAFT.c.person_id == by.person_id,
            DRAFT.c.participant_id == participant_id,
            DRAFT.c.visit == visit,
            DRAFT.c.instrument == instrument,
            DRAFT.c.repeat == repeat,
        )
    )


def _insert(session: Session) -> Any:
    return postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
