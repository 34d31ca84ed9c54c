"""What may I see of consents? Those of one participant, the documents, and whether consent holds.

A caller holds the participant already, and so was allowed to see them (`participants.reads.participant_by_code`).
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    String,
    and_,
    bindparam,
    cast,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.consent import rules
from app.consent.models import Consent, OptionTakenBack
from app.foundation import clock, paging
from app.foundation.database import Instant, as_text, instance_of, joined_texts, table_of, written_out
from app.foundation.errors import NotFound
from app.mail.actions import MAIL
from app.participants import files
from app.participants.identity import ERASED, PARTICIPANT, open_identity
from app.participants.models import Participant
from app.participants.reads import SITE, at_sites
from app.participants.rules.status import withdrawal_level
from app.participants.status import Status
from app.people.access import Actor, require, sites_for
from app.people.permissions import Permission
from app.studies.definition import ConsentDocument, ConsentRules, Study
from app.studies.in_use import StudyInUse
from app.studies.reads import definition
from app.studies.texts import consent_in

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

CONSENT = table_of(Consent)
TAKEN_BACK = table_of(OptionTakenBack)
SCAN_PURPOSE = "consent scan"

_CONSENTS = (
    select(*CONSENT.c)
    .where(CONSENT.c.participant_id == bindparam("participant_id", type_=Integer))
    .order_by(CONSENT.c.id)
)

_SITE = select(SITE.c.code, SITE.c.timezone).where(SITE.c.id == bindparam("site_id", type_=Integer))
_SITES = select(SITE.c.id, SITE.c.code).where(SITE.c.study_id == bindparam("study_id", type_=Integer))


def holds(consent: FromClause) -> ColumnElement[bool]:
    """Whether a row of consents holds today, as `rules.is_active` says it."""
    return and_(
        consent.c.countersigned_at.is_not(None), consent.c.withdrawn_on.is_(None), consent.c.refused_at.is_(None)
    )


CONSENTED = exists().where(CONSENT.c.participant_id == bindparam("participant_id", type_=Integer), holds(CONSENT))
"""Whether a consent of the parameter `participant_id` holds: to be read with what is read anyway."""
_LATER = CONSENT.alias("later")
_PENDING = CONSENT.alias("pending")
_OF_THEM = (
    _PENDING.c.participant_id == PARTICIPANT.c.id,
    _PENDING.c.countersigned_at.is_(None),
    _PENDING.c.withdrawn_on.is_(None),
    _PENDING.c.refused_at.is_(None),
)
_OWING = (
    select(
        select(func.max(_PENDING.c.id)).where(*_OF_THEM).scalar_subquery().label("waits"),
        PARTICIPANT.c.code,
        PARTICIPANT.c.site_id,
        CONSENT.c.language,
        CONSENT.c.document_version,
        CONSENT.c.signed_on,
    )
    .join(CONSENT, CONSENT.c.participant_id == PARTICIPANT.c.id)
    .where(
        PARTICIPANT.c.status.in_((Status.CONSENTED, Status.RANDOMISED)),
        holds(CONSENT),
        # Only the latest of those that hold.
        ~exists().where(_LATER.c.participant_id == CONSENT.c.participant_id, _LATER.c.id > CONSENT.c.id, holds(_LATER)),
    )
)
_TAKEN_BACK = (
    select(*TAKEN_BACK.c)
    .where(TAKEN_BACK.c.participant_id == bindparam("participant_id", type_=Integer))
    .order_by(TAKEN_BACK.c.id)
)
_THEIRS = (
    ENTRY.c.log == bindparam("log", type_=String),
    ENTRY.c.participant == bindparam("code", type_=String),
)
_COUNTERSIGNED = (
    select(func.coalesce(func.max(ENTRY.c.position), -1))
    .where(*_THEIRS, ENTRY.c.action == "consent.countersigned", ENTRY.c.subject == bindparam("subject", type_=String))
    .scalar_subquery()
)
_SINCE_COUNTERSIGNED = select(ENTRY.c.action).where(*_THEIRS, ENTRY.c.position > _COUNTERSIGNED).distinct()
_COPY = (
    select(MAIL.c.id, MAIL.c.queued_at, MAIL.c.sent_at, MAIL.c.ended_as, MAIL.c.last_error)
    .where(MAIL.c.consent_id == bindparam("of", type_=Integer))
    .order_by(MAIL.c.id.desc())
    .limit(1)
)
_NOTHING = cast(null(), String).label("undelivered")
_STANDS = CONSENT.alias("stands")
# Condition by condition as the index says it.
_OF_THE_STUDY = (
    select(
        PARTICIPANT.c.id.label("participant_id"),
        PARTICIPANT.c.code,
        CONSENT.c.id,
        CONSENT.c.document_version,
        CONSENT.c.language,
        CONSENT.c.signed_on,
        CONSENT.c.recorded_by,
        CONSENT.c.refused_at,
        CONSENT.c.refused_by,
    )
    .join(PARTICIPANT, PARTICIPANT.c.id == CONSENT.c.participant_id)
    .where(PARTICIPANT.c.study_id == bindparam("study_id", type_=Integer), CONSENT.c.withdrawn_on.is_(None))
    .order_by(CONSENT.c.id)
    .limit(bindparam("most", type_=Integer))
)
_UNSETTLED = _OF_THE_STUDY.where(or_(CONSENT.c.countersigned_at.is_(None), CONSENT.c.refused_at.is_not(None)))
_SCANS = _OF_THE_STUDY.where(
    CONSENT.c.paper_sha256.is_not(None),
    CONSENT.c.scan_verified_at.is_(None),
    CONSENT.c.countersigned_at.is_not(None),
    CONSENT.c.refused_at.is_(None),
    exists().where(
        files.FILE.c.participant_id == CONSENT.c.participant_id,
        files.FILE.c.purpose == SCAN_PURPOSE,
        files.FILE.c.sha256 == CONSENT.c.paper_sha256,
    ),
)
# From the few that failed, by their own index; of whoever is not in the study any more nobody goes after them.
_COPIES = (
    _OF_THE_STUDY.add_columns(MAIL.c.last_error.label("undelivered"))
    .join(MAIL, MAIL.c.consent_id == CONSENT.c.id)
    .where(
        MAIL.c.study_id == bindparam("study_id", type_=Integer),
        MAIL.c.consent_id.is_not(None),
        MAIL.c.ended_as == written_out("failed"),
        CONSENT.c.refused_at.is_(None),
        PARTICIPANT.c.status.in_((Status.SCREENED, Status.CONSENTED, Status.RANDOMISED)),
    )
)
_FIRST_WAITING = _UNSETTLED.where(PARTICIPANT.c.status == written_out(Status.SCREENED), CONSENT.c.refused_at.is_(None))
_SET_RIGHT = _UNSETTLED.where(
    PARTICIPANT.c.status.in_((Status.SCREENED, Status.CONSENTED, Status.RANDOMISED)),
    or_(
        and_(
            CONSENT.c.refused_at >= bindparam("since", type_=Instant),
            ~exists().where(_LATER.c.participant_id == CONSENT.c.participant_id, _LATER.c.id > CONSENT.c.id),
        ),
        and_(
            CONSENT.c.refused_at.is_(None),
            exists().where(
                _STANDS.c.participant_id == CONSENT.c.participant_id,
                _STANDS.c.document_version == CONSENT.c.document_version,
                holds(_STANDS),
            ),
        ),
    ),
)


@cache
def _markdown() -> "MarkdownIt":
    from markdown_it import MarkdownIt  # serving begins sooner without it

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def consents_of(session: Session, participant_id: int) -> list[Consent]:
    """The consents of one participant, oldest first, withdrawn and refused ones too."""
    rows = session.execute(_CONSENTS, {"participant_id": participant_id}).mappings()
    return [instance_of(Consent, row) for row in rows]


def taken_back_of(session: Session, participant_id: int) -> list[OptionTakenBack]:
    """What one participant took back of their optional consents, as recorded, what was a mistake too."""
    rows = session.execute(_TAKEN_BACK, {"participant_id": participant_id}).mappings()
    return [instance_of(OptionTakenBack, row) for row in rows]


def options_now(session: Session, consents: Sequence[Consent]) -> dict[str, rules.Option]:
    """How each optional consent of a participant, whose consents these are, stands today."""
    if not any(rules.is_active(one) and one.options != "{}" for one in consents):
        return {}
    return rules.options_now(consents, taken_back_of(session, consents[0].participant_id))


def was_used(session: Session, study: StudyInUse, participant: Participant, consent: Consent) -> bool:
    """Whether the log has anything of the participant that was recorded under a consent since its countersignature."""
    asked = {"log": study.code, "code": participant.code, "subject": f"consent/{consent.document_version}"}
    return any(rules.collects(action) for action in session.execute(_SINCE_COUNTERSIGNED, asked).scalars())


@dataclass(frozen=True)
class Back:
    """That an optional consent was taken back, as much of it as decides how the consent stands."""

    id: int
    code: str
    taken_back_on: date
    recorded_at: datetime
    struck_at: datetime | None = None


def taken_back_text(kind: str) -> ScalarSelect[str]:
    """Whatever a participant took back, as one text beside their row in a SELECT; for `taken_back_in`."""
    back = TAKEN_BACK.c
    told = cast(back.id, String) + " " + back.code + " " + cast(back.taken_back_on, String)
    return (
        select(joined_texts(told + " " + as_text(back.recorded_at, kind), ","))
        .where(back.participant_id == PARTICIPANT.c.id, back.struck_at.is_(None))
        .correlate(PARTICIPANT)
        .scalar_subquery()
    )


def taken_back_in(told: str | None) -> list[Back]:
    """What `taken_back_text` says."""
    rows = (each.split(" ") for each in told.split(",")) if told else ()
    return [
        Back(int(number), code, date.fromisoformat(on), datetime.fromisoformat(at)) for number, code, on, at in rows
    ]


@dataclass(frozen=True)
class MailedCopy:
    """The latest copy of a consent that was queued for its participant, and how it went; `number` is the message's."""

    number: int
    queued_at: datetime
    sent_at: datetime | None
    ended_as: str | None
    last_error: str | None

    @property
    def state(self) -> Literal["sent", "waiting", "failed", "dropped"]:
        """Whether it left, waits, was given up, or is not to be sent any more."""
        if self.sent_at is None and self.ended_as is not None:
            return "failed" if self.ended_as == "failed" else "dropped"
        return "waiting" if self.sent_at is None else "sent"


def copy_of(session: Session, consent_id: int) -> MailedCopy | None:
    """The copy of a consent that was queued last; None where none was."""
    row = session.execute(_COPY, {"of": consent_id}).first()
    return MailedCopy(*row) if row else None


def scan_kept(session: Session, participant_id: int, sha256: str) -> files.Kept:
    """What is kept of a scan: its kind and size; NotFound where none of this SHA-256 is."""
    kept = files.kept(session, participant_id, SCAN_PURPOSE, [sha256])
    if sha256 not in kept:
        raise NotFound
    return kept[sha256]


def scan_size(session: Session, consent: Consent) -> int:
    """The bytes of the scan that is kept with a consent; 0 where none is."""
    if consent.paper_sha256 is None:
        return 0
    kept = files.kept(session, consent.participant_id, SCAN_PURPOSE, [consent.paper_sha256])
    return sum(each.size for each in kept.values())


def why_not_mail_copy(
    session: Session, study: StudyInUse, consent: Consent, *, status: Status, level: str | None
) -> str | None:
    """Why no copy of this consent goes to its participant, who stands so and withdrew so far, by mail; or None.

    Asked when it is queued, and again when it is sent. Where nothing else hinders, it may be that no address is known.
    """
    reason = rules.why_not_mail_copy(
        consent,
        status,
        withdrawal_level(study.definition, level or ""),
        countersigners=study.definition.consent.countersigned_by,
        scan=scan_size(session, consent),
    )
    if reason is not None:
        return reason
    opened = open_identity(session, consent.participant_id)
    return ERASED if opened is None else None if opened[1].personal.email else rules.NO_ADDRESS


def consent_with(session: Session, number: int) -> Consent:
    """The consent of this number; for whoever was given it by a row that may be seen."""
    return instance_of(Consent, session.execute(select(*CONSENT.c).where(CONSENT.c.id == number)).mappings().one())


@dataclass(frozen=True)
class Unsettled:
    """A consent with which something is to be done.

    Refused: it is to be recorded again. Otherwise it waits for its countersignature: as the `first` of somebody who is
    screened; or signed once more for an optional consent, beside the one that stands. Or its scan waits (`scan`) for
    the second person, who holds it against what was signed. Or the participant's copy could not go by mail: that is
    why (`undelivered`).
    """

    participant_id: int
    participant: str
    id: int
    version: str
    language: str
    signed_on: date
    recorded_by: str
    refused_at: datetime | None
    refused_by: str | None
    undelivered: str | None = None
    first: bool = False
    scan: bool = False


def unsettled(session: Session, study: StudyInUse, *, by: Actor, since: datetime, most: int) -> list[Unsettled]:
    """Consents at the person's sites that wait for something: as many of the `first`, of the scans, of the copies that
    could not go, and of the others, the longest first. Of the refused, those refused since then, of people in the
    study, after which nothing was recorded.
    """
    query = _unsettled_at(sites_for(by, Permission.PARTICIPANT_READ))
    rows = session.execute(query, {"study_id": study.id, "since": since, "most": most})
    return sorted((Unsettled(*row) for row in rows), key=lambda each: each.id)


@lru_cache(maxsize=64)  # putting it together takes longer than running it
def _unsettled_at(sites: frozenset[int] | None) -> CompoundSelect[Any]:
    parts = [
        select(*each.where(at_sites(sites)).subquery().c, first.label("first"), scan.label("scan"))
        for each, first, scan in (
            (_FIRST_WAITING.add_columns(_NOTHING), true(), false()),
            (_SET_RIGHT.add_columns(_NOTHING), false(), false()),
            (_SCANS.add_columns(_NOTHING), false(), true()),
            (_COPIES, false(), false()),
        )
    ]
    return union_all(*parts)


def site_code(session: Session, participant: Participant) -> str:
    """The code of the participant's site: some documents are signed at some sites only."""
    return str(session.execute(_SITE, {"site_id": participant.site_id}).one().code)


def valid_document(study: StudyInUse, language: str, on: date, site: str | None = None) -> ConsentDocument | None:
    """The document to sign in this language on a day at a site; None when the study has none."""
    return rules.valid_document(study.definition.consent_documents, language, on, site)


def has_scan(session: Session, participant_id: int, sha256: str | None) -> bool:
    """Whether the scan itself is kept, and not only its fingerprint."""
    return sha256 is not None and bool(files.kept(session, participant_id, SCAN_PURPOSE, [sha256]))


def scans_unverified(session: Session, consents: Sequence[Consent]) -> frozenset[int]:
    """Those of a participant's consents that stand, and whose scan is kept and waits for its second person."""
    waiting = {one.paper_sha256: one.id for one in consents if rules.stands(one) and one.scan_verified_at is None}
    hashes = [each for each in waiting if each is not None]
    if not hashes:
        return frozenset()
    kept = files.kept(session, consents[0].participant_id, SCAN_PURPOSE, hashes)
    return frozenset(number for sha256 in kept if (number := waiting[sha256]) is not None)


def document_of(session: Session, study: StudyInUse, consent: Consent) -> ConsentDocument | None:
    """The document that was signed, from the version of the study it was signed under."""
    signed_under = _signed_under(session, study, consent)
    return rules.document_with(signed_under.consent_documents, consent.document_version, consent.language)


def asked_with(session: Session, study: StudyInUse, consent: Consent) -> ConsentRules:
    """What was asked beside the document that was signed, in the words that were shown."""
    return consent_in(_signed_under(session, study, consent), consent.language)


@dataclass(frozen=True)
class Said:
    """What was said beside taking part: to each consent that may be refused, and to the questions that were asked."""

    options: Sequence[tuple[str, bool]]
    answers: Sequence[tuple[str, str]]


def said_with(session: Session, study: StudyInUse, consent: Consent) -> Said:
    """What was said with a consent, in the words that were shown; what they do not know any more by its code.

    Nothing of a consent that is not what was signed, where it cannot even be read.
    """
    said = rules.options_signed(consent)
    try:
        answers: dict[str, str] = dict(json.loads(consent.answers))
    except (ValueError, TypeError):
        return Said((), ())
    asked = asked_with(session, study, consent)
    labels = {choice.code: choice.label for choice in asked.optional}
    questions = {each.code: (each.label, {one.code: one.label for one in each.choices}) for each in asked.questions}
    return Said(
        [(labels.get(code, code), agreed) for code, agreed in said.items()],
        [
            (questions[code][0], questions[code][1].get(answer, answer)) if code in questions else (code, answer)
            for code, answer in answers.items()
        ],
    )


def _signed_under(session: Session, study: StudyInUse, consent: Consent) -> Study:
    version = consent.study_version_id
    return study.definition if version == study.version_id else definition(session, version)


def is_intact(session: Session, study: StudyInUse, consent: Consent, participant: Participant) -> bool:
    """Whether consent and document are byte for byte what was signed."""
    return rules.is_intact(
        consent,
        document_of(session, study, consent),
        participant_code=participant.code,
        asked=asked_with(session, study, consent),
    )


def why_no_consent(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    on: date | None = None,
    before: Literal["randomisation", "visits", "entries"] | None = None,
    now: datetime | None = None,
    consented: bool = False,
) -> str | None:
    """Why nothing may be collected from this participant (on a day, when one is given), or None.

    `before` says what is about to be done at `now`: the study may let it wait for a newer document to be signed.
    `consented`: a consent is known to hold (`CONSENTED`), so that none is read unless a newer one may be owed.
    """
    assert participant.id is not None
    study = study.at(participant.site_id)
    if participant.study_id != study.id:
        return "There is no consent yet. Record the participant's consent first."
    may_owe = now is not None and before in study.definition.consent.blocked_until_reconsent
    if consented and on is None and not may_owe:
        return None
    consents = consents_of(session, participant.id)
    reason = rules.why_no_consent(consents, on=on)
    if reason is None and now is not None and may_owe:
        site = session.execute(_SITE, {"site_id": participant.site_id}).one()
        owed = reconsent_owed(study, consents, clock.today(site.timezone, now), site.code)
        reason = rules.why_blocked(owed, waits=reconsent_waiting(owed, consents) is not None)
    return reason


def reconsent_owed(
    study: StudyInUse, consents: Sequence[Consent], on: date, site: str | None = None
) -> ConsentDocument | None:
    """The newer document, in the language signed last, that somebody who consented has not signed; or None."""
    active = [consent for consent in consents if rules.is_active(consent)]
    document = valid_document(study, active[-1].language, on, site) if active else None
    if document is None or any(one.document_version == document.version for one in active):
        return None
    return document


def reconsent_waiting(owed: ConsentDocument | None, consents: Sequence[Consent]) -> Consent | None:
    """The consent to the newer document that was signed already, and waits for its countersignature; or None."""
    if owed is None:
        return None
    return next((one for one in consents if rules.is_waiting(one) and one.document_version == owed.version), None)


@dataclass(frozen=True)
class Owed:
    """A participant who takes part and has no complete consent to the document that is valid now.

    `waits` is the consent they signed, where the countersignature is all that lacks.
    """

    participant: str
    site_id: int
    site_code: str
    language: str
    signed_version: str
    signed_on: date
    version: str
    since: date
    waits: int | None = None


def reconsents_owed(
    session: Session,
    study: StudyInUse,
    today_at: Callable[[int], date],
    *,
    by: Actor,
    waiting: bool = False,
    site: str | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Owed]:
    """One page, by code, of those at the person's sites who owe a newer consent; `today_at` gives a site's date.

    With `waiting`, those who signed it already, and whose consent waits for its countersignature.
    """
    require(by, Permission.PARTICIPANT_READ)
    size = paging.page_size(limit)
    key, backwards = paging.decode(cursor, 1, str) if cursor else ([], False)
    languages = _languages(study)
    if not languages:
        return paging.Page([])
    sites = sites_for(by, Permission.PARTICIPANT_READ)
    places = {
        row.id: row.code
        for row in session.execute(_SITES, {"study_id": study.id})
        if (sites is None or row.id in sites) and site in (None, row.code)
    }
    valid = _valid(study, places, languages, today_at)
    if not valid:
        return paging.Page([])
    query = _owing(study, valid, waiting=waiting)
    if key:
        query = query.where(PARTICIPANT.c.code < key[0] if backwards else PARTICIPANT.c.code > key[0])
    order = PARTICIPANT.c.code.desc() if backwards else PARTICIPANT.c.code
    found = session.execute(query.order_by(order).limit(size + 1)).all()
    page = paging.page_of(found, size, lambda row: (row.code,), cursor=cursor, backwards=backwards)
    return page.made(lambda row: _owed(row, places, valid, waiting=waiting))


def first_owed(
    session: Session,
    study: StudyInUse,
    today_at: Callable[[int], date],
    *,
    sites: Mapping[int, str],
    by: Actor,
    limit: int,
) -> tuple[list[Owed], list[Owed]]:
    """The first of those who owe a newer consent, and of those whose consent to it waits, both in one statement.

    `sites`: the codes of the sites that the person works at, by id; the first page of `reconsents_owed` of either.
    """
    require(by, Permission.PARTICIPANT_READ)
    theirs = sites_for(by, Permission.PARTICIPANT_READ)
    places = {number: code for number, code in sites.items() if theirs is None or number in theirs}
    languages = _languages(study)
    valid = _valid(study, places, languages, today_at) if languages else {}
    if not valid:
        return [], []
    parts = [
        _owing(study, valid, waiting=waiting)
        .add_columns(literal(waiting).label("is_waiting"))
        .order_by(PARTICIPANT.c.code)
        .limit(limit)
        .subquery()
        for waiting in (False, True)
    ]
    rows = sorted(session.execute(union_all(*map(select, parts))), key=lambda row: row.code)
    owing, waits = (
        [_owed(row, places, valid, waiting=waiting) for row in rows if bool(row.is_waiting) is waiting]
        for waiting in (False, True)
    )
    return owing, waits


def _languages(study: StudyInUse) -> list[str]:
    """Where a language has one document only, nobody can have signed another."""
    documents = [one for each in study.definitions for one in each.consent_documents]
    counts = Counter(language for language, _ in {(one.language, one.version) for one in documents})
    return [language for language, count in counts.items() if count > 1]


Valid = Mapping[tuple[int, str], ConsentDocument]
"""The document that is valid today, by site and language."""


def _valid(
    study: StudyInUse, places: Mapping[int, str], languages: Sequence[str], today_at: Callable[[int], date]
) -> Valid:
    return {
        (place, language): document
        for place, code in places.items()
        for language in languages
        if (document := valid_document(study.at(place), language, today_at(place), code)) is not None
    }


def _owing(study: StudyInUse, valid: Valid, *, waiting: bool) -> Select[Any]:
    def signed(version: str) -> ColumnElement[bool]:
        found = exists().where(*_OF_THEM, _PENDING.c.document_version == version)
        return found if waiting else ~found

    owing = or_(
        *(
            and_(
                signed(document.version),
                PARTICIPANT.c.site_id == place,
                CONSENT.c.language == language,
                CONSENT.c.document_version != document.version,
            )
            for (place, language), document in valid.items()
        )
    )
    return _OWING.where(PARTICIPANT.c.study_id == study.id, owing)


def _owed(row: Any, places: Mapping[int, str], valid: Valid, *, waiting: bool) -> Owed:
    document = valid[row.site_id, row.language]
    return Owed(
        row.code,
        row.site_id,
        places[row.site_id],
        row.language,
        row.document_version,
        row.signed_on,
        document.version,
        document.valid_from,
        row.waits if waiting else None,
    )


def document_blocks(document: ConsentDocument) -> list[dict[str, Any]]:
    """The document's paragraphs as `printing.signed_pdf` takes them; pictures and HTML are left out, as on the page."""
    blocks: list[dict[str, Any]] = []
    nesting: list[tuple[str, int]] = []  # lists that are open, each with the number of its next item
    quoted = 0
    tokens = _markdown().parse(document.text)
    for at, token in enumerate(tokens):
        if token.type in ("bullet_list_open", "ordered_list_open"):
            first = int(token.attrs.get("start", 1) or 1) if token.type.startswith("ordered") else 0
            nesting.append(("numbered" if token.type.startswith("ordered") else "item", first))
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            nesting.pop()
        elif token.type in ("blockquote_open", "blockquote_close"):
            quoted += 1 if token.nesting == 1 else -1
        elif token.type in ("fence", "code_block"):
            blocks.append({"kind": "paragraph", "level": 0, "number": 0, "runs": [(token.content, False, False)]})
        elif token.type == "inline":
            kind, level, number = "quote" if quoted else "paragraph", 0, 0
            if tokens[at - 1].type == "heading_open":
                kind, level = "heading", int(tokens[at - 1].tag[1:])
            elif nesting:
                kind, number = nesting[-1]
                level = len(nesting) - 1
                nesting[-1] = (kind, number + 1)
            blocks.append({"kind": kind, "level": level, "number": number, "runs": _runs(token.children or [])})
    return blocks


def _runs(children: Sequence["Token"]) -> list[tuple[str, bool, bool]]:
    runs: list[tuple[str, bool, bool]] = []
    strong = emphasised = 0
    for child in children:
        strong += {"strong_open": 1, "strong_close": -1}.get(child.type, 0)
        emphasised += {"em_open": 1, "em_close": -1}.get(child.type, 0)
        words = " " if child.type in ("softbreak", "hardbreak") else child.content
        if words:
            runs.append((words, strong > 0, emphasised > 0))
    return runs


def document_html(document: ConsentDocument) -> str:
    """The document as HTML: Markdown only; HTML inside it is shown as text, pictures are left out."""
    return str(_markdown().render(document.text))
