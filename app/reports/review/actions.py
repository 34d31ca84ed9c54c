"""What may I do? Write down that I reviewed the log: up to where, what I say of each finding, and what follows."""

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import exists, insert, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.errors import Conflict, FieldProblem, Invalid, Refused
from app.people.access import Actor, require, sites_for
from app.people.permissions import Permission
from app.reports.review.reads import ACTION, MEANWHILE, REVIEW, Stretch
from app.reports.review.rules import Found, as_kept, scope_of
from app.safety.words import arm_problems
from app.studies.in_use import StudyInUse

LONGEST = 2000
FOLLOWS = "follows"


def record_review(
    session: Session,
    study: StudyInUse,
    stretch: Stretch,
    found: Found,
    *,
    words: Mapping[str, str],
    follows: str,
    confirmed: Collection[str] = (),
    by: Actor,
    now: datetime,
) -> int:
    """Keep a review of what was `found`, with a word on each finding (by its kind), and what follows; its number.

    Invalid where a word is lacking, Refused when nothing was written since the last review, Conflict when somebody else
    has reviewed the same entries meanwhile.
    """
    about: dict[str, Any] = {"action": ACTION, "subject": "/review"}
    require(by, Permission.LOG_REVIEW, **about)
    sites = sites_for(by, Permission.LOG_REVIEW)
    scope = scope_of(sites)
    if found.upto <= found.since:
        raise Refused("Nothing was written since the last review. There is nothing to review yet.", **about)
    words = {each.kind.value: words.get(each.kind, "").strip() for each in found.findings}
    follows = follows.strip()
    problems = _problems(study, {**words, FOLLOWS: follows}, confirmed, by)
    if problems:
        raise Invalid(problems)
    overtaken = exists().where(REVIEW.c.study_id == study.id, REVIEW.c.sites == scope, REVIEW.c.log_to > found.since)
    if found.sites != sites or stretch.since != found.since or session.execute(select(overtaken)).scalar():
        raise Conflict(MEANWHILE, **about)
    kept = json.dumps(as_kept(found.findings, words), ensure_ascii=False, sort_keys=True)
    values = {
        "study_id": study.id,
        "sites": scope,
        "log_from": found.since,
        "log_to": found.upto,
        "system_from": found.system_since,
        "system_to": found.system_upto,
        "head_size": stretch.head_size,
        "head_root": stretch.head_root.hex(),
        "findings": kept,
        "follows": follows,
        "reviewed_at": now,
        "reviewed_by": by.username,
    }
    try:
        number = session.execute(insert(REVIEW).values(values).returning(REVIEW.c.id)).scalar_one()
    except IntegrityError as problem:  # of two at the same moment the other was first
        raise Conflict(MEANWHILE, **about) from problem
    said = {
        "from": found.since,
        "to": found.upto,
        "size": stretch.head_size,
        "root": stretch.head_root.hex(),
        "findings": {each.kind.value: each.number for each in found.findings},
        "sha256": sha256(f"{kept}\n{follows}".encode()).hexdigest(),
    }
    record(session, study.code, [Change("log.reviewed", subject=f"review/{number}", new=said)], by=by, now=now)
    return int(number)


def _problems(study: StudyInUse, texts: Mapping[str, str], confirmed: Collection[str], by: Actor) -> list[FieldProblem]:
    problems = []
    for name, text in texts.items():
        if not text:
            words = "Say what follows; that nothing does is an answer." if name == FOLLOWS else "Say a word on this."
            problems.append(FieldProblem(name, "required", words))
        elif len(text) > LONGEST or "\x00" in text:
            problems.append(FieldProblem(name, "length", f"Use at most {LONGEST} characters, and text alone."))
    return problems or arm_problems(study.definition, by, texts, confirmed)
