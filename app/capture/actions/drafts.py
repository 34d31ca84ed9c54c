"""What somebody has typed and not saved yet: kept for them alone, and thrown away."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import bindparam, delete, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.capture.actions.place import About, planned_form, refuse_if
from app.capture.reads import DRAFT, NOTHING_TYPED, DraftState, Place
from app.consent.reads import why_no_consent
from app.foundation.errors import Conflict, FieldProblem, Invalid
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

LARGEST_DRAFT = 200_000  # bytes of JSON
_KEY = ("person_id", "participant_id", "visit", "instrument", "repeat")
_KEPT = ("base_version", "typed", "saved_at", "page")
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
) -> Place:
    """Keep what somebody has typed so far, for them alone; where. It is no entry: not logged, judged or exported.

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
    known = {"known_at": seen.saved_at} if seen is not None else {}
    made = _kept(session.get_bind().dialect.name, seen is not None)
    if session.execute(made, {**key, **kept, **known}).first() is None:
        raise Conflict(ELSEWHERE, action="entry.draft", subject=about.refusal_subject)
    return place


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


@cache
def _kept(dialect: str, is_seen: bool) -> Any:
    """The statement that keeps a draft, built once: it runs at every pause of whoever types.

    Of a page that says what it has seen it keeps nothing over something else than that, its own or the same.
    """
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    made = insert(DRAFT).values({name: bindparam(name, type_=DRAFT.c[name].type) for name in (*_KEY, *_KEPT)})
    said, known = made.excluded, bindparam("known_at", type_=DRAFT.c.saved_at.type)
    fits = or_(
        DRAFT.c.typed == said.typed,
        DRAFT.c.typed == NOTHING_TYPED,
        DRAFT.c.page == said.page,
        DRAFT.c.saved_at == known,
    )
    return made.on_conflict_do_update(
        index_elements=_KEY, set_={name: said[name] for name in _KEPT}, where=fits if is_seen else None
    ).returning(DRAFT.c.id)
