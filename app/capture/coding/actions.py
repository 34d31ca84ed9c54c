"""What may I do with texts? Code one, alone; settle what two coders chose; load a dictionary that is one's own."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, bindparam, delete, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.coding.following import TEXT
from app.capture.coding.reads import CHOICE, TERM, Text, choices_of, term_of, text_of
from app.capture.coding.rules import State, Step, after, step_of, why_not_code, why_not_reconcile, words_of
from app.capture.locks.reads import refuse_locked
from app.capture.typed import shortened
from app.foundation.database import store_many
from app.foundation.errors import Conflict, FieldProblem, Invalid, Refused
from app.foundation.words import text_problems
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.definition import Term
from app.studies.in_use import StudyInUse

LONGEST_WHY = 500
MOST_TERMS = 500_000
CHOOSE = "Choose a term of the dictionary."
SAY_WHY = "Say why this is the right term."

_MOVE = update(TEXT).where(TEXT.c.id == bindparam("number", type_=Integer))
_CHOOSE = insert(CHOICE)


def code_text(session: Session, study: StudyInUse, number: int, *, code: str, by: Actor, now: datetime) -> Text:
    """Code a text, without having seen what anybody else chose. A choice is never changed."""
    found, about = _held(session, study, number, Permission.TEXT_CODE, "text.code", by=by)
    made = choices_of(session, [number]).get(number, ())
    if any(each.coder == by.username and each.code == code for each in made):
        return found
    if reason := why_not_code(found.state, [each.coder for each in made], by.username):
        raise Refused(reason, **about)
    term = _term(session, study, found, code)
    _refuse_locked(session, study, found, about)
    step = step_of(found.state, found.coders, [each.code for each in made], term.code)
    state = after(found.state, step)
    assert state is not None
    row: dict[str, Any] = {"state": state, "version": found.version + 1}
    if state is State.CODED:
        row |= {"code": term.code, "label": term.label}
    session.execute(_MOVE, {"number": number, **row})
    chosen = {"text_id": number, "coder": by.username, "code": term.code, "label": term.label, "at": now}
    session.execute(_CHOOSE, chosen)
    # Whoever codes next may read the log: what the first chose stands in it only once the second has chosen, too.
    log = [_change(found, "coding.chosen", new={"text": number})]
    if step is not Step.CODE_FIRST:
        said = {each.coder: each.code for each in made} | {by.username: term.code}
        action = "coding.differed" if state is State.TO_RECONCILE else "coding.coded"
        log.append(_change(found, action, new={"text": number, "choices": said, "code": row.get("code")}))
    record(session, study.code, log, by=by, now=now)
    return text_of(session, study, number, by=by)


def reconcile_text(
    session: Session, study: StudyInUse, number: int, *, code: str, why: str, version: int, by: Actor, now: datetime
) -> Text:
    """Settle what a text is coded as: one of the two choices, or a third term, with a reason. A third person does."""
    found, about = _held(session, study, number, Permission.TEXT_RECONCILE, "text.reconcile", by=by)
    made = choices_of(session, [number]).get(number, ())
    if found.version != version:
        words = "Somebody worked on this text while you had it open. Read it again, then go on."
        raise Conflict(words, current_version=found.version, **about)
    if reason := why_not_reconcile(found.state, [each.coder for each in made], by.username):
        raise Refused(reason, **about)
    problems = text_problems("why", why, SAY_WHY, LONGEST_WHY)
    if not code:
        problems.append(FieldProblem("code", "required", CHOOSE))
    if problems:
        raise Invalid(problems)
    term = _term(session, study, found, code)
    _refuse_locked(session, study, found, about)
    state = after(found.state, Step.RECONCILE)
    assert state is not None
    row = {
        "state": state,
        "version": version + 1,
        "code": term.code,
        "label": term.label,
        "reconciled_by": by.username,
        "reconciled_at": now,
        "why": why.strip(),
    }
    session.execute(_MOVE, {"number": number, **row})
    old = {"text": number, "choices": {each.coder: each.code for each in made}}
    new = {"text": number, "code": term.code}
    record(session, study.code, [_change(found, "coding.reconciled", old, new, why.strip())], by=by, now=now)
    return text_of(session, study, number, by=by)


def load_terms(
    session: Session, study: StudyInUse, dictionary: str, terms: Sequence[Term], *, by: Actor, now: datetime
) -> int:
    """Load this installation's own copy of a dictionary; it stands in place of the study's terms, and of an older copy.

    What was coded before keeps the code and the label it got.
    """
    about: dict[str, Any] = {"action": "dictionary.load", "subject": f"/dictionary/{shortened(dictionary)}"}
    require(by, Permission.STUDY_LOAD, **about)
    defined = study.definition.dictionary(dictionary)
    if defined is None:
        known = ", ".join(each.code for each in study.definition.dictionaries) or "none"
        raise Refused(
            f"The study has no dictionary {shortened(dictionary)}. It has: {known}. Name it in study.yaml first.",
            **about,
        )
    codes = {term.code for term in terms}
    if not terms or len(codes) != len(terms) or len(terms) > MOST_TERMS:
        raise Invalid(
            [FieldProblem("terms", "terms", f"Load between 1 and {MOST_TERMS} terms, each with a code of its own.")]
        )
    session.execute(delete(TERM).where(TERM.c.study_id == study.id, TERM.c.dictionary == dictionary))
    columns = ("study_id", "dictionary", "code", "label", "parent", "words")
    rows = [
        (study.id, dictionary, each.code, each.label, each.parent, words_of(each.code, each.label)) for each in terms
    ]
    store_many(session, TERM, columns, rows)
    said = "\n".join(f"{each.code}\t{each.label}\t{each.parent or ''}" for each in sorted(terms, key=_code))
    digest = hashlib.sha256(said.encode()).hexdigest()
    new = {"dictionary": dictionary, "version": defined.version, "terms": len(terms), "sha256": digest}
    change = Change("dictionary.loaded", subject=f"dictionary/{dictionary}", new=new)
    record(session, study.code, [change], by=by, now=now)
    return len(terms)


def _code(term: Term) -> str:
    return term.code


def _held(
    session: Session, study: StudyInUse, number: int, permission: Permission, action: str, *, by: Actor
) -> tuple[Text, dict[str, Any]]:
    """The text as it stands, held until the transaction ends: two who code at once do so one after the other."""
    require(by, permission, action=action)
    session.execute(select(TEXT.c.id).where(TEXT.c.id == number).with_for_update()).all()
    found = text_of(session, study, number, by=by)
    about: dict[str, Any] = {"action": action, "subject": f"{found.participant}/{found.subject}"}
    require(by, permission, site_id=found.site_id, **about)
    return found, about


def _term(session: Session, study: StudyInUse, found: Text, code: str) -> Term:
    term = term_of(session, study, found.dictionary, code) if code else None
    if term is None:
        words = CHOOSE if not code else f"The dictionary has no term {shortened(code)}. {CHOOSE}"
        raise Invalid([FieldProblem("code", "choices", words)])
    return term


def _refuse_locked(session: Session, study: StudyInUse, found: Text, about: dict[str, Any]) -> None:
    if found.entry_id is None:
        return  # what is reported of safety goes on after data are locked, and so does how it is coded
    refuse_locked(session, study, found.participant_id, visit=found.visit, **about)


def _change(found: Text, action: str, old: Any = None, new: Any = None, why: str | None = None) -> Change:
    return Change(action, found.participant, found.subject, found.item, old, new, why)
