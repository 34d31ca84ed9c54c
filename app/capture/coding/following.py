"""What does a change mean for coded texts? A new text is to be coded; a changed one is coded again.

The texts of entries, and the terms of adverse events where the study codes them.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, String, bindparam, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change
from app.capture.coding.models import CodedText
from app.capture.coding.rules import State, Step, after, key_of
from app.capture.rules import ItemChange
from app.foundation.database import table_of
from app.studies.definition import Coding, Instrument
from app.studies.in_use import StudyInUse

TEXT = table_of(CodedText)
TERM_OF_EVENT = "adverse_event.term"
"""What stands for the item where a text is the term of an adverse event; no item has a dot in its code."""

_STANDING = (
    select(TEXT)
    .where(
        TEXT.c.entry_id == bindparam("of_entry", type_=Integer),
        TEXT.c.item == bindparam("of_item", type_=String),
        TEXT.c.outdated_at.is_(None),
    )
    .with_for_update()
)
_STANDING_EVENT = (
    select(TEXT)
    .where(TEXT.c.event_id == bindparam("of_event", type_=Integer), TEXT.c.outdated_at.is_(None))
    .with_for_update()
)
_OUTDATE = update(TEXT).where(TEXT.c.id == bindparam("number", type_=Integer))
_NEW = insert(TEXT)


def follow_texts(
    session: Session,
    study: StudyInUse,
    form: Instrument,
    participant_id: int,
    entry_id: int,
    different: Iterable[ItemChange],
    *,
    now: datetime,
) -> list[Change]:
    """Mark what a changed text was coded as outdated, and ask for it to be coded; what the log is to say of it."""
    log: list[Change] = []
    for change in different:
        item = form.item(change.item)
        if item is None or item.coding is None:
            continue
        standing = session.execute(_STANDING, {"of_entry": entry_id, "of_item": change.item}).mappings().first()
        if standing is not None:
            log.append(_outdate(session, standing, now=now))
        if isinstance(change.new, str):
            where = {"participant_id": participant_id, "entry_id": entry_id, "item": change.item}
            _ask(session, study, item.coding, where, change.new, now=now)
    return log


def follow_term(
    session: Session, study: StudyInUse, participant_id: int, event: int, term: str | None, *, now: datetime
) -> list[Change]:
    """The same of the term of an adverse event; None once the event is void. What the log is to say of it."""
    log: list[Change] = []
    if not study.definition.has_coding:
        return log
    standing = session.execute(_STANDING_EVENT, {"of_event": event}).mappings().first()
    if standing is not None and standing["text"] != term:
        log.append(_outdate(session, standing, now=now))
        standing = None
    coding = study.definition.safety.coding
    if standing is None and term is not None and coding is not None:
        where = {"participant_id": participant_id, "event_id": event, "item": TERM_OF_EVENT}
        _ask(session, study, coding, where, term, now=now)
    return log


def _outdate(session: Session, standing: Mapping[Any, Any], *, now: datetime) -> Change:
    state = after(State(standing["state"]), Step.CHANGE)
    assert state is not None
    row = {"state": state, "outdated_at": now, "version": standing["version"] + 1}
    session.execute(_OUTDATE, {"number": standing["id"], **row})
    return Change("coding.outdated", item=standing["item"], old=_said(standing))


def _ask(
    session: Session, study: StudyInUse, coding: Coding, where: Mapping[str, Any], text: str, *, now: datetime
) -> None:
    """A text that is to be coded, with what the study says of how."""
    dictionary = study.definition.dictionary(coding.dictionary)
    if dictionary is None:
        return
    made = {
        "study_id": study.id,
        "entry_id": None,
        "event_id": None,
        **where,
        "dictionary": dictionary.code,
        "dictionary_version": dictionary.version,
        "text": text,
        "key": key_of(text),
        "coders": coding.coders,
        "state": State.TO_CODE,
        "version": 1,
        "created_at": now,
    }
    session.execute(_NEW, made)


def _said(row: Mapping[Any, Any]) -> dict[str, object]:
    return {"text": row["id"], "state": row["state"], "code": row["code"]}
