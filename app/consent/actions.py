"""What may I do with consent? Record, countersign or refuse it, withdraw it or a part, show or mail what was signed."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record, recorded_together
from app.consent import rules
from app.consent.models import Consent, OptionTakenBack
from app.consent.reads import (
    CONSENT,
    SCAN_PURPOSE,
    TAKEN_BACK,
    MailedCopy,
    consents_of,
    copy_of,
    has_scan,
    is_intact,
    options_now,
    site_code,
    taken_back_of,
    was_used,
    why_not_mail_copy,
)
from app.foundation.drawing import read_strokes
from app.foundation.errors import FieldProblem, Invalid, NotAllowed, NotFound, Refused
from app.foundation.words import day_in_words
from app.mail.actions import MAIL, About, queue
from app.participants import files
from app.participants.actions import back_to_screened, day_problems, mark, reason_problems
from app.participants.identity import open_for, seal_for
from app.participants.models import Participant
from app.participants.reads import SITE, held, hold, today_at_site
from app.participants.rules.files import MEDIA_TYPES, SCANS, kind_of
from app.participants.status import Status
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse
from app.studies.texts import consent_in

COPY_RULE = "consent copy"
"""Why a message with a copy was written, beside the rules of the study's reminders; no code of theirs has a space."""
PURPOSE = "consent signature"
SIGNATURE_SIZE = 1024
DRAWN_SIZE = 52_000  # the longest drawing and the longest name


def record_consent(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    version: str,
    language: str,
    method: str,
    signed_on: date,
    signature: str,
    paper_sha256: str | None,
    options: Mapping[str, bool],
    answers: Mapping[str, str] | None = None,
    strokes: str = "",
    copy_asked: bool = False,
    by: Actor,
    now: datetime,
    countersign: bool,
    meaning: str = rules.MEANING,
) -> Consent:
    """Record that a participant agreed to one version of the document; with `countersign`, sign for the study too.

    `signature` is the typed full name, or where the signed paper is kept; it is sealed under the participant's key,
    and with it (`strokes`) what they drew, so that the binding holds for both. The name alone signs as well.
    `answers` are those to the study's questions about the document: all of them right, or nothing is signed. Who asks
    for their copy by mail (`copy_asked`) gets it once every signature is there.
    """
    where = {"action": "consent.record", "subject": f"{participant.code}/consent/{version}"}
    require(by, Permission.CONSENT_RECORD, site_id=participant.site_id, **where)
    if participant.study_id != study.id:
        raise NotFound
    assert participant.id is not None
    study = study.at(participant.site_id)
    documents, asked = study.definition.consent_documents, consent_in(study.definition, language)
    problems = rules.consent_problems(
        documents,
        asked.optional,
        version=version,
        language=language,
        method=method,
        signed_on=signed_on,
        signature=signature,
        paper_sha256=paper_sha256,
        options=options,
        today=today_at_site(session, participant, now),
        site=site_code(session, participant),
        questions=asked.questions,
        answers=answers,
        strokes=strokes,
    )
    document = rules.document_with(documents, version, language)
    if problems or document is None:
        raise Invalid(problems)
    status = held(session, participant.id).status
    kept = consents_of(session, participant.id)
    more = rules.gives_more(options, options_now(session, kept))
    if reason := rules.why_not_sign(status, kept, version, gives_more=more):
        raise Refused(reason, **where)
    drawn = f"\n{read_strokes(strokes)}" if strokes else ""
    size = DRAWN_SIZE if drawn else SIGNATURE_SIZE
    sealed = seal_for(session, participant.id, f"{signature.strip()}{drawn}".encode(), PURPOSE, size)
    words = rules.words_digest(asked)
    consent = Consent(
        participant_id=participant.id,
        study_version_id=study.version_id,
        document_version=version,
        language=language,
        document_sha256=document.sha256,
        method=method,
        signed_on=signed_on,
        participant_signature=sealed,
        paper_sha256=paper_sha256,
        options=json.dumps(dict(sorted(options.items())), separators=(",", ":")),
        answers=json.dumps(dict(sorted((answers or {}).items())), separators=(",", ":")),
        binding=rules.binding_digest(
            document,
            method=method,
            options=options,
            signature=sealed,
            paper_sha256=paper_sha256,
            signed_on=signed_on,
            participant_code=participant.code,
            answers=answers,
            words=words,
        ),
        recorded_at=now,
        recorded_by=by.username,
        copy_asked=copy_asked,
    )
    values = {name: getattr(consent, name) for name in CONSENT.c.keys() if name != "id"}  # noqa: SIM118 a collection
    consent.id = session.execute(insert(CONSENT).values(**values).returning(CONSENT.c.id)).scalar_one()
    change = Change(
        "consent.recorded",
        participant.code,
        f"consent/{version}",
        new={
            "version": version,
            "language": language,
            "document_sha256": document.sha256,
            "method": method,
            "signed_on": signed_on,
            "options": dict(options),
            **({"words_sha256": words} if words else {}),
            **({"answers": dict(answers)} if answers else {}),
            "paper_sha256": paper_sha256,
            **({"drawn": True} if strokes else {}),
            **({"copy_asked": True} if copy_asked else {}),
            "binding": consent.binding,
        },
    )
    record(session, study.code, [change], by=by, now=now)
    if countersign:
        _countersign(session, study, participant, consent, meaning=meaning, by=by, now=now)
    else:
        _mail_copy_asked(session, study, participant, consent, by=by, now=now)
    return consent


def countersign(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    consent_id: int,
    *,
    meaning: str = rules.MEANING,
    by: Actor,
    now: datetime,
) -> Consent:
    """Sign a consent for the study, which makes it complete. The door has asked for the password again."""
    consent = _one_of(session, participant, consent_id)
    _countersign(session, study, participant, consent, meaning=meaning, by=by, now=now)
    return consent


def refuse_consent(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    consent_id: int,
    *,
    why: str,
    by: Actor,
    now: datetime,
) -> Consent:
    """Refuse a consent that was recorded wrongly: it is kept with its signature, counts nowhere, and is recorded again.

    One that is countersigned can be taken back so while an earlier one stands, or nothing was recorded under it; the
    participant then stands where they stood before it. Whoever calls this also calls
    `schedule.actions.follow_refusal`. The door has asked for the password again.
    """
    consent = _one_of(session, participant, consent_id)
    subject = f"consent/{consent.document_version}"
    where = {"action": "consent.refuse", "subject": f"{participant.code}/{subject}"}
    require(by, Permission.CONSENT_COUNTERSIGN, site_id=participant.site_id, **where)
    status = held(session, consent.participant_id).status
    consents = consents_of(session, consent.participant_id)  # as they are now that nobody else changes them
    consent = next(one for one in consents if one.id == consent_id)
    if consent.countersigned_at is not None:
        _require_countersigner(study.at(participant.site_id), participant, by=by, where=where)
    if problems := reason_problems("why", why, "Say what is wrong with it."):
        raise Invalid(problems)
    is_used = status is Status.CONSENTED and was_used(session, study, participant, consent)
    if reason := rules.why_not_refuse(consent, consents, status, is_used=is_used):
        raise Refused(reason, **where)
    refused = {"refused_at": now, "refused_by": by.username, "refused_why": why.strip()}
    session.execute(update(CONSENT).where(CONSENT.c.id == consent.id).values(**refused))
    for name, value in refused.items():
        setattr(consent, name, value)
    new = {
        "signed_on": consent.signed_on,
        "was_countersigned": consent.countersigned_at is not None,
        "binding": consent.binding,
    }
    with recorded_together(session):
        change = Change("consent.refused", participant.code, subject, new=new)
        record(session, study.code, [change], by=by, now=now, why=why.strip())
        if status is Status.CONSENTED and not any(rules.is_active(one) for one in consents):
            back_to_screened(
                session, study, participant, permission=Permission.CONSENT_COUNTERSIGN, why=why, by=by, now=now
            )
    return consent


def take_back_options(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    codes: Sequence[str],
    *,
    on: date,
    told_by: str,
    how: str,
    note: str = "",
    by: Actor,
    now: datetime,
) -> list[OptionTakenBack]:
    """Record that a participant takes back optional consents from a day on, and stays in the study.

    What they signed stays as signed. What they do not give already is left as it is, so that saying it twice is fine;
    gives what was recorded now.
    """
    where = {"action": "consent.take_back_options", "subject": f"{participant.code}/consent"}
    require(by, Permission.CONSENT_RECORD, site_id=participant.site_id, **where)
    if participant.study_id != study.id:
        raise NotFound
    assert participant.id is not None
    hold(session, participant.id, "alone")
    options = options_now(session, consents_of(session, participant.id))
    if not options:
        raise Refused(rules.NO_OPTIONS, **where)
    today = today_at_site(session, participant, now)
    problems = rules.taking_back_problems(codes, options, on=on, told_by=told_by, how=how, today=today)
    if note.strip():
        problems += reason_problems("note", note, "Write it in words.")
    if problems:
        raise Invalid(problems)
    found, changes = [], []
    for code in dict.fromkeys(codes):
        option = options[code]
        if not option.agreed:
            continue
        values: dict[str, Any] = {
            "participant_id": participant.id,
            "code": code,
            "taken_back_on": on,
            "told_by": told_by,
            "how": how,
            "note": note.strip() or None,
            "recorded_at": now,
            "recorded_by": by.username,
        }
        number = session.execute(insert(TAKEN_BACK).values(**values).returning(TAKEN_BACK.c.id)).scalar_one()
        found.append(OptionTakenBack(id=number, **values))
        old = {"agreed": True, "since": option.since}
        new = {"agreed": False, "since": on, "told_by": told_by, "how": how}
        subject = f"consent/{option.version}"
        changes.append(Change("consent.option_taken_back", participant.code, subject, item=code, old=old, new=new))
    record(session, study.code, changes, by=by, now=now, why=note.strip() or None)
    return found


def restore_option(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    taken_back_id: int,
    *,
    why: str,
    by: Actor,
    now: datetime,
) -> None:
    """Say that an optional consent was recorded as taken back by mistake: what was signed stands again."""
    where = {"action": "consent.restore_option", "subject": f"{participant.code}/consent"}
    require(by, Permission.CONSENT_RECORD, site_id=participant.site_id, **where)
    assert participant.id is not None
    hold(session, participant.id, "alone")
    kept = next((one for one in taken_back_of(session, participant.id) if one.id == taken_back_id), None)
    if kept is None:
        raise NotFound
    if problems := reason_problems("why", why, "Say how the mistake came about."):
        raise Invalid(problems)
    if kept.struck_at is not None:
        raise Refused("This is marked as a mistake already. Nothing is left to do.", **where)
    struck = {"struck_at": now, "struck_by": by.username, "struck_why": why.strip()}
    session.execute(update(TAKEN_BACK).where(TAKEN_BACK.c.id == kept.id).values(**struck))
    change = Change(
        "consent.option_restored",
        participant.code,
        "consent",
        item=kept.code,
        old={"agreed": False, "since": kept.taken_back_on, "told_by": kept.told_by, "how": kept.how},
    )
    record(session, study.code, [change], by=by, now=now, why=why.strip())


def withdraw_consent(
    session: Session, study: StudyInUse, participant: Participant, *, on: date, why: str, by: Actor, now: datetime
) -> list[Consent]:
    """Withdraw every consent that holds. What was collected before stays (CTR Art. 28(3)); nothing new is added."""
    where = {"action": "consent.withdraw", "subject": f"{participant.code}/consent"}
    require(by, Permission.PARTICIPANT_WITHDRAW, site_id=participant.site_id, **where)
    assert participant.id is not None
    hold(session, participant.id, "alone")
    holding = [consent for consent in consents_of(session, participant.id) if rules.stands(consent)]
    if not holding:
        raise Refused("There is no consent to withdraw. Nothing is left to do.", **where)
    earliest = max(consent.signed_on for consent in holding)
    problems = day_problems("on", on, earliest=earliest, today=today_at_site(session, participant, now))
    problems += reason_problems("why", why, "Write the reason, or that none was given.")
    if problems:
        raise Invalid(problems)
    session.execute(
        update(CONSENT).where(CONSENT.c.id.in_([consent.id for consent in holding])).values(withdrawn_on=on)
    )
    changes = []
    for consent in holding:
        consent.withdrawn_on = on
        subject = f"consent/{consent.document_version}"
        changes.append(Change("consent.withdrawn", participant.code, subject, new={"withdrawn_on": on}))
    record(session, study.code, changes, by=by, now=now, why=why.strip())
    return holding


def keep_scan(
    session: Session, study: StudyInUse, participant: Participant, data: bytes, *, by: Actor, now: datetime
) -> str:
    """Keep the scan of a signed paper, sealed under the participant's key; its SHA-256. The same one is kept once."""
    where = {"action": "consent.keep_scan", "subject": f"{participant.code}/consent"}
    require(by, Permission.CONSENT_RECORD, site_id=participant.site_id, **where)
    kind = kind_of(data)
    if kind not in SCANS:
        words = "This file is no scan. Send a PDF, a JPEG or a PNG."
        raise Invalid([FieldProblem("paper_sha256", "media_type", words)])
    assert participant.id is not None
    media_type = MEDIA_TYPES[kind]
    kept = files.keep(session, participant.id, data, purpose=SCAN_PURPOSE, media_type=media_type, by=by, now=now)
    if kept.is_new:
        new = {"sha256": kept.sha256, "media_type": kept.media_type, "size": kept.size}
        record(session, study.code, [Change("consent.scan_kept", participant.code, "consent", new=new)], by=by, now=now)
    return kept.sha256


def reveal_scan(
    session: Session, study: StudyInUse, participant: Participant, consent_id: int, *, by: Actor, now: datetime
) -> tuple[bytes, str]:
    """Show the scan of a consent: bytes and media type. It is written down; NotFound without one, or once erased."""
    consent = _one_of(session, participant, consent_id)
    subject = f"consent/{consent.document_version}"
    where = {"action": "identity.show", "subject": f"{participant.code}/{subject}"}
    require(by, Permission.IDENTITY_READ, site_id=participant.site_id, **where)
    opened = files.opened(session, consent.participant_id, SCAN_PURPOSE, consent.paper_sha256)
    if opened is None:
        raise NotFound
    change = Change("identity.shown", participant.code, subject, new={"scan": consent.paper_sha256})
    record(session, study.code, [change], by=by, now=now)
    return opened


def verify_scan(
    session: Session, study: StudyInUse, participant: Participant, consent_id: int, *, by: Actor, now: datetime
) -> None:
    """Say that the scan is the signed paper: another person than who recorded the consent."""
    consent = _one_of(session, participant, consent_id)
    subject = f"consent/{consent.document_version}"
    where = {"action": "consent.verify_scan", "subject": f"{participant.code}/{subject}"}
    require(by, Permission.CONSENT_COUNTERSIGN, site_id=participant.site_id, **where)
    kept = has_scan(session, consent.participant_id, consent.paper_sha256)
    if reason := rules.why_not_verify_scan(
        consent, kept=kept, recorded_by=consent.recorded_by, verified_by=consent.scan_verified_by, who=by.username
    ):
        raise Refused(reason, **where)
    done = session.execute(
        update(CONSENT)
        .where(CONSENT.c.id == consent.id, CONSENT.c.scan_verified_at.is_(None))
        .values(scan_verified_at=now, scan_verified_by=by.username)
        .returning(CONSENT.c.id)
    ).scalar()
    if done is None:
        raise Refused("This scan was verified a moment ago. Nothing is left to do.", **where)
    change = Change("consent.scan_verified", participant.code, subject, new={"sha256": consent.paper_sha256})
    record(session, study.code, [change], by=by, now=now)


def mail_copy(
    session: Session, study: StudyInUse, participant: Participant, consent_id: int, *, by: Actor, now: datetime
) -> MailedCopy:
    """Send the participant their copy of a consent by mail, in the language in which they signed; how it stands.

    While one waits to be sent it stays that one, so that asking twice sends one. The copy is made when it is sent, to
    the address that is on file then: neither stands in the outbox, and who is erased before that gets none.
    """
    consent = _one_of(session, participant, consent_id)
    where = {
        "action": "consent.mail_copy",
        "subject": f"{participant.code}/consent/{consent.document_version}",
    }
    require(by, Permission.IDENTITY_READ, site_id=participant.site_id, **where)
    if participant.study_id != study.id:
        raise NotFound
    study = study.at(participant.site_id)
    standing = held(session, consent.participant_id)
    consent = _one_of(session, participant, consent_id)  # as it is now that nobody else changes it
    waiting = copy_of(session, consent_id)
    if waiting is not None and waiting.state == "waiting":
        return waiting
    reason = why_not_mail_copy(session, study, consent, status=standing.status, level=standing.withdrawal_level)
    if reason:
        raise Refused(reason, **where)
    _queue_copy(session, study, participant, consent, by=by, now=now)
    queued = copy_of(session, consent_id)
    assert queued is not None
    return queued


def hand_out_copy(
    session: Session, study: StudyInUse, participant: Participant, consent_id: int, *, by: Actor, now: datetime
) -> Consent:
    """Record that the participant was given their copy of a consent on paper: then none that could not go waits.

    Handed out once; the same again changes nothing.
    """
    consent = _one_of(session, participant, consent_id)
    subject = f"consent/{consent.document_version}"
    where = {"action": "consent.hand_out_copy", "subject": f"{participant.code}/{subject}"}
    require(by, Permission.IDENTITY_READ, site_id=participant.site_id, **where)
    if participant.study_id != study.id:
        raise NotFound
    hold(session, consent.participant_id, "alone")
    consent = _one_of(session, participant, consent_id)  # as it is now that nobody else changes it
    if consent.copy_given_at is not None:
        return consent
    countersigners = study.at(participant.site_id).definition.consent.countersigned_by
    if reason := rules.why_not_hand_out_copy(consent, countersigners=countersigners):
        raise Refused(reason, **where)
    given = {"copy_given_at": now, "copy_given_by": by.username}
    session.execute(update(CONSENT).where(CONSENT.c.id == consent.id).values(**given))
    _drop_failed(session, consent_id, "The copy was handed out on paper since.")
    record(session, study.code, [Change("consent.copy_handed_out", participant.code, subject)], by=by, now=now)
    return _one_of(session, participant, consent_id)


def reveal_signature(
    session: Session, study: StudyInUse, participant: Participant, consent_id: int, *, by: Actor, now: datetime
) -> str | None:
    """Show the name (or the paper's place) that stands under a consent; None once erased. It is written down."""
    return reveal_signed(session, study, participant, consent_id, by=by, now=now)[0]


def reveal_signed(
    session: Session, study: StudyInUse, participant: Participant, consent_id: int, *, by: Actor, now: datetime
) -> tuple[str | None, str | None]:
    """As `reveal_signature`, and the strokes that were drawn beside the name, None where none were."""
    consent = _one_of(session, participant, consent_id)
    subject = f"consent/{consent.document_version}"
    where = {"action": "identity.show", "subject": f"{participant.code}/{subject}"}
    require(by, Permission.IDENTITY_READ, site_id=participant.site_id, **where)
    record(session, study.code, [Change("identity.shown", participant.code, subject)], by=by, now=now)
    return signed_under(session, consent)


def show_own_copy(
    session: Session, study: StudyInUse, participant: Participant, consent: Consent, *, by: Actor, now: datetime
) -> tuple[str | None, str | None]:
    """What stands under a consent, for the copy that the participant takes by the link they signed it by: the name and
    the strokes, None once erased. It is written down; whoever calls this has asked who they are.
    """
    subject = f"consent/{consent.document_version}"
    where = {"action": "consent.take_copy", "subject": f"{participant.code}/{subject}"}
    require(by, Permission.CONSENT_RECORD, site_id=participant.site_id, **where)
    if consent.participant_id != participant.id or by.via != "link":
        raise NotFound
    record(session, study.code, [Change("consent.copy_taken", participant.code, subject)], by=by, now=now)
    return signed_under(session, consent)


def signed_under(session: Session, consent: Consent) -> tuple[str | None, str | None]:
    """The name and the strokes under a consent, shown to nobody: for the copy that goes to who signed it."""
    opened = open_for(session, consent.participant_id, consent.participant_signature, PURPOSE)
    if opened is None:
        return None, None
    name, _, drawn = opened.decode().partition("\n")
    return name, drawn or None


def _mail_copy_asked(
    session: Session, study: StudyInUse, participant: Participant, consent: Consent, *, by: Actor, now: datetime
) -> None:
    """Queue the copy that whoever signed asked for, once every signature is there.

    Where it cannot go, and somebody can do something about it, it stands among what could not be sent.
    """
    if not consent.copy_asked or not rules.is_signed_by_all(consent, study.definition.consent.countersigned_by):
        return
    standing = held(session, consent.participant_id)
    level = standing.withdrawal_level
    reason = why_not_mail_copy(session, study, consent, status=standing.status, level=level)
    if reason is None:
        _queue_copy(session, study, participant, consent, by=by, now=now)
    elif reason in rules.COPY_LACKS:
        key = _copy_in_outbox(session, study, participant, consent, now=now)
        failed = {"ended_at": now, "ended_as": "failed", "last_error": reason}
        session.execute(update(MAIL).where(MAIL.c.key == key).values(**failed))


def _queue_copy(
    session: Session, study: StudyInUse, participant: Participant, consent: Consent, *, by: Actor, now: datetime
) -> None:
    """Put one copy into the outbox. Of two who do so at once one waits for the other, who holds the participant."""
    _drop_failed(session, consent.id, "Another copy was asked for since.")
    _copy_in_outbox(session, study, participant, consent, now=now)
    change = Change("consent.copy_mailed", participant.code, f"consent/{consent.document_version}")
    record(session, study.code, [change], by=by, now=now)


def _drop_failed(session: Session, consent_id: int | None, why: str) -> None:
    """Nobody has to send those copies any more that were given up."""
    given_up = update(MAIL).where(MAIL.c.consent_id == consent_id, MAIL.c.ended_as == "failed")
    session.execute(given_up.values(ended_as="dropped", last_error=why))


def _copy_in_outbox(
    session: Session, study: StudyInUse, participant: Participant, consent: Consent, *, now: datetime
) -> str:
    """The message with a copy, as it stands in the outbox; its key."""
    earlier = select(MAIL.c.id).where(MAIL.c.consent_id == consent.id)
    count = session.execute(select(func.count()).select_from(earlier.subquery())).scalar_one()
    key = f"copy|{study.id}|{consent.id}|{count + 1}"  # stands in the mail itself: no study, and no code
    site = session.execute(select(SITE.c.name).where(SITE.c.id == participant.site_id)).scalar_one()
    about = About(
        study.id,
        participant.site_id,
        consent.participant_id,
        rule=COPY_RULE,
        kind=COPY_RULE,
        to_participant=True,
        consent_id=consent.id,
    )
    queue(
        session,
        key=key,
        to_address="",
        subject="Your copy of what you signed",
        body=f"Here is your copy of what you signed on {day_in_words(consent.signed_on)}. Please keep it.\n\n"
        f"If you have a question, or did not expect this, call {site}.\n",
        now=now,
        about=about,
        language=consent.language,
    )
    return key


def _one_of(session: Session, participant: Participant, consent_id: int) -> Consent:
    assert participant.id is not None
    found = [consent for consent in consents_of(session, participant.id) if consent.id == consent_id]
    if not found:
        raise NotFound
    return found[0]


def _require_countersigner(study: StudyInUse, participant: Participant, *, by: Actor, where: Mapping[str, str]) -> None:
    roles = [grant.role for grant in by.grants if grant.site_id in (None, participant.site_id)]
    if reason := rules.why_not_countersigner(roles, study.definition.consent.countersigned_by):
        raise NotAllowed(reason, **where)


def _countersign(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    consent: Consent,
    *,
    meaning: str,
    by: Actor,
    now: datetime,
) -> None:
    subject = f"consent/{consent.document_version}"
    where = {"action": "consent.countersign", "subject": f"{participant.code}/{subject}"}
    require(by, Permission.CONSENT_COUNTERSIGN, site_id=participant.site_id, **where)
    _require_countersigner(study, participant, by=by, where=where)
    if problems := reason_problems("meaning", meaning, "Say what your signature means."):
        raise Invalid(problems)
    if reason := rules.why_not_countersign(consent):
        raise Refused(reason, **where)
    if not is_intact(session, study, consent, participant):
        raise Refused(
            "This consent is not what the participant signed: something was changed since. "
            "Do not sign it; tell the data manager to verify the log.",
            **where,
        )
    status = held(session, consent.participant_id).status  # the participant first, as everybody who takes both
    signed = {
        "countersigned_at": now,
        "countersigned_by": by.username,
        "countersigned_name": by.name,
        "countersigned_meaning": meaning.strip(),
    }
    done = session.execute(
        update(CONSENT)
        .where(
            CONSENT.c.id == consent.id,
            CONSENT.c.countersigned_at.is_(None),
            CONSENT.c.withdrawn_on.is_(None),
            CONSENT.c.refused_at.is_(None),
        )
        .values(**signed)
        .returning(CONSENT.c.id)
    ).scalar()
    if done is None:
        words = "This consent was countersigned, refused or withdrawn a moment ago. Show it again."
        raise Refused(words, **where)
    for name, value in signed.items():
        setattr(consent, name, value)
    new = {"name": by.name, "meaning": meaning.strip(), "binding": consent.binding}
    record(session, study.code, [Change("consent.countersigned", participant.code, subject, new=new)], by=by, now=now)
    _mail_copy_asked(session, study, participant, consent, by=by, now=now)
    if status not in (Status.CONSENTED, Status.RANDOMISED):  # else a re-consent
        mark(
            session,
            study,
            participant,
            Status.CONSENTED,
            on=consent.signed_on,
            permission=Permission.CONSENT_COUNTERSIGN,
            by=by,
            now=now,
            details={"consent": consent.document_version},
        )
