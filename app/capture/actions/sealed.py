"""Files and signatures that answer a question: kept sealed, shown and written down."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath

from sqlalchemy import func, select
from sqlmodel import Session

from app.audit.actions import ENTRY as LOG
from app.audit.actions import Change, record
from app.capture.actions.place import About, open_form, short_label
from app.capture.reads import entry_of, history
from app.foundation.drawing import NotDrawn, drawing_svg, name_svg, read_strokes
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.participants import files
from app.participants.models import Participant
from app.participants.reads import hold
from app.participants.rules.files import MEDIA_TYPES, file_name, kind_of, why_not_kept
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.definition import FileKind, Instrument, Item, ItemType
from app.studies.in_use import StudyInUse

FILE_PURPOSE, SIGNATURE_PURPOSE = "entry file", "entry signature"
SEALED_AS = {ItemType.FILE: ("file", FILE_PURPOSE), ItemType.SIGNATURE: ("signature", SIGNATURE_PURPOSE)}
SIGNATURE_TYPE = "application/json"
SIGNATURE_STEPS = 4096
LONGEST_NAME = 160
MOST_BY_LINK = 5  # files or signatures that are ever kept for one question by links
INK = "#1b1b1f"  # it is shown as a picture of its own, on whatever paper


@dataclass(frozen=True)
class Shown:
    """Something that is kept sealed among the answers, in the clear; `name` is as it was sent."""

    data: bytes = field(repr=False)
    media_type: str
    name: str
    sha256: str


def keep_file(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    item: str,
    data: bytes,
    name: str,
    by: Actor,
    now: datetime,
    worded: Instrument | None = None,
) -> dict[str, object]:
    """Keep a file that answers a question, sealed under the participant's key; what stands for it among the answers.

    It answers nothing until the form is saved with it. The same file is kept once, so that it can be sent again. What
    came by a link is named by its question: people name files after themselves. What stands against it is said in the
    words of the form as it was read (`worded`).
    """
    about = About(study, participant, visit, instrument)
    asked = _asked_sealed(session, about, item, ItemType.FILE, by=by, now=now, worded=worded)
    reason = why_not_kept(data, name, asked.file_kinds, asked.max_mb)
    kind = kind_of(data, name)
    if reason is not None or kind is None:
        raise Invalid([FieldProblem(item, "file", f"{short_label(asked)}: {reason}")])
    if by.by_link is not None:
        _refuse_many(session, about, asked, hashlib.sha256(data).hexdigest())
        name = f"{item}{PurePath(name).suffix.lower()}"
    media_type = MEDIA_TYPES[kind]
    if kind is FileKind.CSV and kind not in asked.file_kinds:
        media_type = MEDIA_TYPES[FileKind.TEXT]
    kept = files.keep(session, about.participant_id, data, purpose=FILE_PURPOSE, media_type=media_type, by=by, now=now)
    value = {"file": kept.sha256, "name": file_name(name), "size": kept.size, "media_type": kept.media_type}
    if kept.is_new:
        record(session, study.code, about.changes([Change("entry.file_kept", item=item, new=value)]), by=by, now=now)
    return value


def keep_signature(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    item: str,
    strokes: str = "",
    name: str = "",
    by: Actor,
    now: datetime,
    worded: Instrument | None = None,
) -> dict[str, object]:
    """Keep a signature that answers a question, drawn or a name typed instead; what stands for it among the answers.

    What is kept is salted, so that its SHA-256 among the answers cannot be held against names.
    """
    about = About(study, participant, visit, instrument)
    asked = _asked_sealed(session, about, item, ItemType.SIGNATURE, by=by, now=now, worded=worded)
    try:
        drawn = read_strokes(strokes) if strokes else ""
    except NotDrawn as problem:
        raise Invalid([FieldProblem(item, "signature", f"{short_label(asked)}: {problem}")]) from None
    name = name.strip()
    if not drawn and (not name or not name.isprintable() or len(name) > LONGEST_NAME):
        message = f"{short_label(asked)}: draw a signature, or type the full name on one line."
        raise Invalid([FieldProblem(item, "signature", message)])
    if by.by_link is not None:
        _refuse_many(session, about, asked)
    signed = {"strokes": json.loads(drawn)} if drawn else {"name": name}
    data = json.dumps({**signed, "salt": secrets.token_hex(16)}, ensure_ascii=False, separators=(",", ":")).encode()
    kept = files.keep(
        session,
        about.participant_id,
        data,
        purpose=SIGNATURE_PURPOSE,
        media_type=SIGNATURE_TYPE,
        by=by,
        now=now,
        steps=SIGNATURE_STEPS,
    )
    value: dict[str, object] = {"signature": kept.sha256, "how": "drawn" if drawn else "typed"}
    record(session, study.code, about.changes([Change("entry.signature_kept", item=item, new=value)]), by=by, now=now)
    return value


def show_sealed(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    item: str,
    sha256: str | None = None,
    seen: str | None = None,
    by: Actor,
    now: datetime,
) -> Shown | None:
    """Show a file or a signature of an entry, the one that stands or (`sha256`) one that was replaced; in the log.

    NotFound when there is none, or once it was erased. A signature says who somebody is, and is for those who may know.
    None when whoever asks has it already (`seen`).
    """
    about = About(study, participant, visit, instrument)
    refused = {"action": "entry.show_file", "subject": about.refusal_subject}
    require(by, Permission.ENTRY_READ, site_id=participant.site_id, **refused)
    form = study.definition.instrument(instrument)
    asked = form.item(item) if form is not None else None
    if asked is None or asked.type not in SEALED_AS:
        raise NotFound
    is_file, (key, purpose) = asked.type is ItemType.FILE, SEALED_AS[asked.type]
    if not is_file:
        require(by, Permission.IDENTITY_READ, site_id=participant.site_id, **refused)
    entry = entry_of(session, about.participant_id, visit, instrument)
    values: list[object] = [entry.values.get(item)] if entry is not None else []
    if sha256 is not None and values and not (isinstance(values[0], dict) and values[0].get(key) == sha256):
        values = [line.old for line in history(session, study, participant.code, visit, instrument, item)]
    value = next(
        (one for one in values if isinstance(one, dict) and key in one and sha256 in (None, one[key])),
        None,
    )
    if value is None:
        raise NotFound
    if seen is not None and seen == value[key]:
        return None
    opened = files.opened(session, about.participant_id, purpose, value[key])
    if opened is None:
        raise NotFound
    shown = Change("entry.file_shown", item=item, new={key: value[key]})
    record(session, study.code, about.changes([shown]), by=by, now=now)
    data, media_type = opened
    if is_file:
        return Shown(data, media_type, value["name"], value[key])
    signed = json.loads(data)
    label = short_label(asked)
    drawn = json.dumps(signed["strokes"]) if "strokes" in signed else ""
    svg = drawing_svg(drawn, label, INK) if drawn else name_svg(signed["name"], label, INK)
    return Shown(svg.encode(), "image/svg+xml", f"{item}.svg", value[key])


def _asked_sealed(
    session: Session, about: About, item: str, kind: ItemType, *, by: Actor, now: datetime, worded: Instrument | None
) -> Item:
    """The question that is to be answered with something sealed, as worded; refused where nothing may be entered."""
    action = "entry.keep_file"
    require(by, Permission.ENTRY_SAVE, site_id=about.participant.site_id, action=action, subject=about.refusal_subject)
    form, _ = open_form(session, about, by=by, action=action, now=now)
    asked = form.item(item)
    if asked is None or asked.type is not kind:
        raise NotFound
    return (worded.item(item) if worded is not None else None) or asked


def _refuse_many(session: Session, about: About, asked: Item, sha256: str | None = None) -> None:
    """By a link so much is kept for a question and no more: who holds one is known to nobody but by the link.

    What stands cannot be taken away again, so the limit is on what was ever kept; the very same file is no other.
    """
    hold(session, about.participant_id, "alone")  # many at once are counted one after the other
    if sha256 and files.kept(session, about.participant_id, FILE_PURPOSE, [sha256]):
        return
    kept = select(func.count()).where(
        LOG.c.log == about.study.code,
        LOG.c.participant == about.participant.code,
        LOG.c.subject == about.subject,
        LOG.c.item == asked.code,
        LOG.c.action.in_(("entry.file_kept", "entry.signature_kept")),
        LOG.c.via == "link",
    )
    if session.execute(kept).scalar_one() >= MOST_BY_LINK:
        words = (
            f"{short_label(asked)}: {MOST_BY_LINK} were sent for this question already, and no more are kept by a "
            "link. Send the form with the last one, or ask your study site."
        )
        raise Invalid([FieldProblem(asked.code, "many", words)])


def not_kept(
    session: Session, about: About, form: Instrument, values: Mapping[str, object], before: Mapping[str, object]
) -> list[FieldProblem]:
    """What is said to be kept sealed, and is not: only what `keep_file` and `keep_signature` gave is an answer."""
    problems = []
    for item in form.items:
        value = values.get(item.code)
        if item.type not in SEALED_AS or not isinstance(value, dict) or value == before.get(item.code):
            continue
        key, purpose = SEALED_AS[item.type]
        sha256 = value.get(key)
        if not isinstance(sha256, str):
            continue  # a reason why there is none; or nothing that could be read, which is said elsewhere
        kept = files.kept(session, about.participant_id, purpose, [sha256]).get(sha256)
        if kept is None or (key == "file" and (kept.size, kept.media_type) != (value["size"], value["media_type"])):
            problems.append(FieldProblem(item.code, key, f"{short_label(item)}: this is not kept here. Send it again."))
    return problems
