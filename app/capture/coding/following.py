"""What does saving an entry mean for its coded texts? A new text is to be coded; a changed one is coded again."""

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
from app.studies.definition import Instrument
from app.studies.in_use import StudyInUse

TEXT = table_of(CodedText)

_STANDING = (
    select(TEXT)
    .where(
        TEXT.c.entry_id == bindparam("of_entry", type_=Integer),
        TEXT.c.item == bindparam("of_item", type_=String),
        TEXT.c.outdated_at.is_(None),
    )
    .with_for_update()
)
_OUTDATE = update(TEXT).where(TEXT.c.id == bindparam("number", type_=Integer))
_NEW = insert(TEXT)


def follow_texts(
    session: Session,
    study: StudyInUse,
    form: Instrument,
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
            state = after(State(standing["state"]), Step.CHANGE)
            assert state is not None
            row = {"state": state, "outdated_at": now, "version": standing["version"] + 1}
            session.execute(_OUTDATE, {"number": standing["id"], **row})
            log.append(Change("coding.outdated", item=change.item, old=_said(standing)))
        dictionary = study.definition.dictionary(item.coding.dictionary)
        if not isinstance(change.new, str) or dictionary is None:
            continue
        made = {
            "study_id": study.id,
            "entry_id": entry_id,
            "item": change.item,
            "dictionary": dictionary.code,
            "dictionary_version": dictionary.version,
            "text": change.new,
            "key": key_of(change.new),
            "coders": item.coding.coders,
            "state": State.TO_CODE,
            "version": 1,
            "created_at": now,
        }
        session.execute(_NEW, made)
    return log


def _said(row: Mapping[Any, Any]) -> dict[str, object]:
    return {"text": row["id"], "state": row["state"], "code": row["code"]}
