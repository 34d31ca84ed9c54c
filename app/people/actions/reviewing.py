"""Going through who may do what, now and then: every role in a study is confirmed or ended (21 CFR 11.300(b))."""

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.errors import Conflict, FieldProblem, Invalid
from app.people.access import Actor
from app.people.actions.rights import memberships_held, require_manager, revoked
from app.people.permissions import Role, conflicts
from app.people.reads import ACCESS_REVIEW

ACTION = "access.review"
LONGEST = 2000
CONFIRMED, ENDED = "confirmed", "ended"


def record_access_review(
    session: Session,
    study_id: int,
    *,
    log: str,
    decisions: Mapping[int, str],
    word: str,
    by: Actor,
    now: datetime,
) -> int:
    """Keep a review of every role in a study, by the number of its membership `confirmed` or `ended`; its number.

    What is ended does not hold from the next request on. Invalid where a decision or the word is lacking, Conflict when
    roles were given or taken back since they were looked at. Nobody ends their own: somebody has to be left.
    """
    subject = "/review"
    require_manager(session, by, study_id, action=ACTION, subject=subject)
    held = memberships_held(session, study_id)
    if set(decisions) != {each.id for each in held}:
        raise Conflict(
            "Roles were given or taken back meanwhile. Look at who holds which now.", action=ACTION, subject=subject
        )
    word = word.strip()
    problems = [
        FieldProblem(f"role_{number}", "required", "Confirm this role or end it.")
        for number, decision in decisions.items()
        if decision not in (CONFIRMED, ENDED)
    ]
    problems += [
        FieldProblem(f"role_{each.id}", "own", "This role is your own. Ask another administrator to end it.")
        for each in held
        if decisions[each.id] == ENDED and each.username == by.username
    ]
    if not word or len(word) > LONGEST or "\x00" in word:
        words = f"Say what you based this on, in at most {LONGEST} characters."
        problems.append(FieldProblem("word", "required", words))
    if problems:
        raise Invalid(problems)
    roles: dict[str, set[Role]] = {}
    for each in held:
        roles.setdefault(each.username, set()).add(Role(each.role))
    kept: list[dict[str, Any]] = [
        {
            "membership": each.id,
            "username": each.username,
            "role": each.role,
            "site": each.site_code or "",
            "decision": decisions[each.id],
            "conflicts": [apart.why for apart in conflicts(frozenset(roles[each.username]))],
        }
        for each in held
    ]
    lines = json.dumps(kept, ensure_ascii=False, sort_keys=True)
    number = session.execute(
        insert(ACCESS_REVIEW)
        .values(study_id=study_id, lines=lines, word=word, reviewed_at=now, reviewed_by=by.username)
        .returning(ACCESS_REVIEW.c.id)
    ).scalar_one()
    ended = [each for each in held if decisions[each.id] == ENDED]
    changes = revoked(session, ended, by=by, now=now, action=ACTION) if ended else []
    said = {
        "confirmed": len(held) - len(ended),
        "ended": len(ended),
        "sha256": sha256(f"{lines}\n{word}".encode()).hexdigest(),
    }
    changes.append(Change("access.reviewed", subject=f"review/{number}", new=said))
    record(session, log, changes, by=by, now=now)
    return int(number)
