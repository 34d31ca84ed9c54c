"""What may be done with links? Give one, end one; and what its participant does by it."""

from datetime import datetime, timedelta

from sqlalchemy import insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.crypto.secrets import new_seed, same, token_from, token_hash
from app.foundation.database import keys_of
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.mail.actions import About, queue
from app.participants.identity import open_identity
from app.participants.links import rules
from app.participants.links.reads import LINK, Opened, born
from app.participants.links.rules import Purpose
from app.participants.models import Participant
from app.participants.reads import held
from app.participants.rules.status import withdrawal_level
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

SEED = "participant link"
LINK_RULE = "link"
"""Why a message with a link was written, beside the rules of the study's reminders."""


def give_link(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    purpose: Purpose,
    about: str,
    language: str,
    days: int = rules.DAYS,
    before_window: bool = False,
    opens_at: datetime | None = None,
    by: Actor,
    now: datetime,
) -> str:
    """The secret of a new link; it is kept nowhere. An earlier one for the same thing stops working.

    `about` is the visit whose questions are asked, or the version of the consent document. `opens_at` is when the
    questions can be answered, if that is later: the days count from then on. Of a link to questions
    `capture.questionnaires` knows it, and says whether they may be answered before their window.
    """
    where = {"action": "link.give", "subject": f"{participant.code}/link/{about}"}
    require(by, Permission.PARTICIPANT_LINK, site_id=participant.site_id, **where)
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    definition = study.definition
    problems = []
    if purpose is Purpose.QUESTIONS and not rules.asked_of_participants(definition, about):
        words = "Participants answer nothing themselves at this visit. Choose another visit."
        problems.append(FieldProblem("about", "choice", words))
    known = {(one.version, one.language) for one in definition.consent_documents}
    if purpose is Purpose.CONSENT and (about, language) not in known:
        problems.append(FieldProblem("about", "choice", "There is no such consent document. Choose one from the list."))
    if not 1 <= days <= rules.MOST_DAYS:
        words = f"A link works for 1 to {rules.MOST_DAYS} days. Type a number between them."
        problems.append(FieldProblem("days", "range", words))
    if purpose is Purpose.CONSENT and before_window:
        words = "Only the questions of a visit have a window. Leave this out of a link to the consent document."
        problems.append(FieldProblem("before_window", "choice", words))
    if problems:
        raise Invalid(problems)
    standing = held(session, participant.id)
    level = withdrawal_level(definition, standing.withdrawal_level or "")
    born_known = purpose is not Purpose.CONSENT or bool(born(session, participant.id))
    if reason := rules.why_not_give(purpose, standing.status, level, born_known=born_known):
        raise Refused(reason, **where)
    expires_at = max(now, opens_at or now) + timedelta(days=days)
    _, token = make_link(
        session,
        study,
        participant,
        purpose=purpose,
        about=about,
        language=language,
        expires_at=expires_at,
        before_window=before_window,
        by=by,
        now=now,
    )
    return token


def make_link(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    purpose: Purpose,
    about: str,
    language: str,
    expires_at: datetime,
    before_window: bool = False,
    by: Actor,
    now: datetime,
) -> tuple[int, str]:
    """The number and the secret of a new link, whoever may give it; a caller holds the participant and asked."""
    # Of two links for one thing only the newer works: it is the one that the participant looks for.
    replaced = (
        update(LINK)
        .where(
            LINK.c.participant_id == participant.id,
            LINK.c.purpose == purpose,
            LINK.c.about == about,
            LINK.c.done_at.is_(None),
            LINK.c.ended_at.is_(None),
        )
        .values(ended_at=now, ended_by=by.username)
    )
    session.execute(replaced)
    seed = new_seed()
    token = secret_of(session, seed)
    number = session.execute(
        insert(LINK)
        .values(
            participant_id=participant.id,
            purpose=purpose.value,
            about=about,
            language=language,
            token_hash=token_hash(token),
            seed=seed,
            made_at=now,
            made_by=by.username,
            expires_at=expires_at,
            tries=0,
            before_window=before_window,
        )
        .returning(LINK.c.id)
    ).scalar_one()
    told = {"purpose": purpose, "about": about, "language": language, "expires_at": expires_at}
    if before_window:
        told["before_window"] = True
    record(session, study.code, [Change("link.given", participant.code, f"link/{about}", new=told)], by=by, now=now)
    return number, token


def secret_of(session: Session, seed: bytes) -> str:
    """The secret of the link that was made from a seed: 43 URL-safe characters, known to who has the key as well."""
    return token_from(keys_of(session).tag(SEED, seed))


def mail_link(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    token: str,
    *,
    subject: str,
    body: str,
    not_before: datetime,
    by: Actor,
    now: datetime,
) -> None:
    """Mail a link that was just given to its participant; `body` holds SECRET where the secret of the link goes.

    It leaves at `not_before`, which lies outside the quiet hours where they live.

    Neither address nor secret stand in the outbox in the clear. Whoever withdraws before it leaves gets none.
    """
    link = session.execute(select(LINK).where(LINK.c.token_hash == token_hash(token))).one()
    where = {"action": "link.mail", "subject": f"{participant.code}/link/{link.about}"}
    require(by, Permission.PARTICIPANT_LINK, site_id=participant.site_id, **where)
    opened = open_identity(session, link.participant_id)
    if opened is None or not opened[1].personal.email:
        words = "No mail address of this participant is known. Add it to the personal data, or show the link instead."
        raise Invalid([FieldProblem("how", "unknown", words)])
    about = About(
        study.id,
        participant.site_id,
        link.participant_id,
        rule=LINK_RULE,
        kind=LINK_RULE,
        to_participant=True,
        link_id=link.id,
        expires_at=link.expires_at,
    )
    key = f"{LINK_RULE}|{study.id}|{link.id}"
    queue(
        session,
        key=key,
        to_address="",
        subject=subject,
        body=body,
        secret=token,
        about=about,
        now=now,
        not_before=not_before,
    )
    record(session, study.code, [Change("link.mailed", participant.code, f"link/{link.about}")], by=by, now=now)


def end_link(
    session: Session, study: StudyInUse, participant: Participant, link_id: int, *, by: Actor, now: datetime
) -> None:
    """Take a link back: from now on it opens nothing."""
    where = {"action": "link.end", "subject": f"{participant.code}/link"}
    require(by, Permission.PARTICIPANT_LINK, site_id=participant.site_id, **where)
    about = session.execute(
        update(LINK)
        .where(LINK.c.id == link_id, LINK.c.participant_id == participant.id)
        .where(LINK.c.done_at.is_(None), LINK.c.ended_at.is_(None))
        .values(ended_at=now, ended_by=by.username)
        .returning(LINK.c.about)
    ).scalar()
    if about is None:
        raise Refused("This link was used or taken back before. Nothing is left to do.", **where)
    record(session, study.code, [Change("link.ended", participant.code, f"link/{about}")], by=by, now=now)


def open_link(session: Session, opened: Opened, *, by: Actor, now: datetime) -> None:
    """Write down that a link was opened for the first time."""
    first = session.execute(
        update(LINK)
        .where(LINK.c.id == opened.link.id, LINK.c.opened_at.is_(None))
        .values(opened_at=now)
        .returning(LINK.c.id)
    ).scalar()
    if first is not None:
        _written(session, opened, "link.opened", by=by, now=now)


def is_born_on(session: Session, opened: Opened, typed: str, *, by: Actor, now: datetime) -> bool:
    """Whether somebody knows the participant's date of birth, typed as the language of the link writes one.

    After five wrong ones the link is locked. Invalid, and no try, where it is no date.
    """
    typed = rules.birthday_typed(typed, opened.link.language)
    # A try is taken first, and given back where it was right: many at once are no more tries than one by one.
    taken = update(LINK).where(LINK.c.id == opened.link.id, LINK.c.tries < rules.MOST_TRIES)
    if session.execute(taken.values(tries=LINK.c.tries + 1).returning(LINK.c.id)).scalar() is None:
        return False
    on_file = born(session, opened.link.participant_id)
    if on_file is not None and same(on_file, typed):
        session.execute(update(LINK).where(LINK.c.id == opened.link.id).values(tries=LINK.c.tries - 1))
        return True
    _written(session, opened, "link.identity_not_proven", by=by, now=now)
    return False


def finish_link(session: Session, opened: Opened, *, by: Actor, now: datetime) -> None:
    """What a link was for is done: it opens nothing any more."""
    done = session.execute(
        update(LINK)
        .where(LINK.c.id == opened.link.id, LINK.c.done_at.is_(None))
        .values(done_at=now)
        .returning(LINK.c.id)
    ).scalar()
    if done is not None:
        _written(session, opened, "link.done", by=by, now=now)


def _written(session: Session, opened: Opened, action: str, *, by: Actor, now: datetime) -> None:
    change = Change(action, opened.participant.code, f"link/{opened.link.about}")
    record(session, opened.study.code, [change], by=by, now=now)
