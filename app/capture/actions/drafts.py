"""What somebody has typed and not saved yet: kept for them alone, and thrown away."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.capture.actions.place import About, planned_form, refuse_if
from app.capture.reads import DRAFT, NOTHING_TYPED, DraftState
from app.consent.reads import why_no_consent
from app.foundation.errors import Conflict, FieldProblem, Invalid
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

LARGEST_DRAFT = 200_000  # bytes of JSON
ELSEWHERE = "This form is also open elsewhere, and something else was typed there. Look at both, and take one."


@dataclass(frozen=True)
class Seen:
    """Which page of a person's keeps a draft, and when the draft was kept that this page knows of (None: of none)."""

    page: str
    saved_at: datetime | None


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
    seen: Seen | None = None,
) -> None:
    """Keep what somebody has typed so far, for them alone. It is no entry: it is not logged, judged or exported.

    So it is kept as well where it may not be saved just now: under a lock, at a missed visit, until a newer document is
    signed. Refused where the participant has no such form, or nobody may collect anything from them.
    Conflict when another page of theirs kept something else that this one has not `seen`: nothing is overwritten then.
    Without `seen` the last one counts.
    """
    study = study.at(participant.site_id)
    about = About(study, participant, visit, instrument, repeat)
    require(by, Permission.ENTRY_SAVE, site_id=participant.site_id, action="entry.draft", subject=about.refusal_subject)
    text = json.dumps({name: list(texts) for name, texts in typed.items()}, separators=(",", ":"))
    if len(text) > LARGEST_DRAFT:
        raise Invalid(
            [FieldProblem("draft", "max_length", "This is too much to keep as a draft. Shorten the longest answer.")]
        )
    _, place = planned_form(session, about, by=by, action="entry.draft")
    refuse_if(about, why_no_consent(session, about.study, participant, consented=place.consented), action="entry.draft")
    key = {
        "person_id": by.person_id,
        "participant_id": about.participant_id,
        "visit": visit,
        "instrument": instrument,
        "repeat": repeat,
    }
    kept = {"base_version": base_version, "typed": text, "saved_at": now, "page": seen.page if seen else ""}
    fits = None
    if seen is not None:
        fits = DRAFT.c.typed.in_((text, NOTHING_TYPED)) | (DRAFT.c.page == seen.page)
        if seen.saved_at is not None:
            fits = fits | (DRAFT.c.saved_at == seen.saved_at)
    made = _insert(session)(DRAFT).values(**key, **kept)
    made = made.on_conflict_do_update(index_elements=list(key), set_=kept, where=fits).returning(DRAFT.c.id)
    if session.execute(made).first() is None:
        raise Conflict(ELSEWHERE, action="entry.draft", subject=about.refusal_subject)


def is_unseen(draft: DraftState, typed: Mapping[str, list[str]], seen: Seen) -> bool:
    """Whether a draft is from another page, which this one does not know of, and says something else than it."""
    if draft.page == seen.page or draft.saved_at == seen.saved_at:
        return False
    return bool(draft.typed) and draft.typed != dict(typed)


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
