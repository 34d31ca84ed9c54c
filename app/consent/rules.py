"""What is true of a consent? Which document was valid, what was signed byte for byte, and whether it holds."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Protocol

from app.foundation.drawing import NotDrawn, read_strokes
from app.foundation.errors import FieldProblem
from app.foundation.words import day_in_words, one_of
from app.participants.rules.status import why_not_contact
from app.participants.status import Status
from app.studies.definition import Choice, ConsentDocument, ConsentQuestion, ConsentRules, WithdrawalLevel

FORMAT = "equipoise-consent-1"
METHODS = ("on_screen", "paper", "by_link")
LONGEST_SIGNATURE = 160
MEANING = "I explained the study, answered the questions, and the participant agreed of their own free will."
"""What a countersignature means unless the person who signs says otherwise."""

TELLERS = {"participant": "The participant", "representative": "Their representative", "other": "Somebody else"}
"""Who may have told the site that an optional consent is taken back."""
WAYS = {"in_person": "In person", "by_phone": "By telephone", "in_writing": "In writing"}
"""How they told it."""

NO_OPTIONS = "No consent holds in which they were asked for anything beside taking part. Nothing is left to take back."
KEPT = "What was collected before is kept; nothing new is added."


class Given(Protocol):
    """A consent as far as its rules go; `app.consent.models.Consent` is one."""

    @property
    def document_version(self) -> str: ...
    @property
    def document_sha256(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def signed_on(self) -> date: ...
    @property
    def participant_signature(self) -> bytes: ...
    @property
    def paper_sha256(self) -> str | None: ...
    @property
    def options(self) -> str: ...
    @property
    def answers(self) -> str: ...
    @property
    def binding(self) -> str: ...
    @property
    def countersigned_at(self) -> datetime | None: ...
    @property
    def recorded_at(self) -> datetime: ...
    @property
    def withdrawn_on(self) -> date | None: ...
    @property
    def refused_at(self) -> datetime | None: ...


class TakenBack(Protocol):
    """That an optional consent was taken back, as far as rules go; `app.consent.models.OptionTakenBack` is one."""

    @property
    def id(self) -> int | None: ...
    @property
    def code(self) -> str: ...
    @property
    def taken_back_on(self) -> date: ...
    @property
    def recorded_at(self) -> datetime: ...
    @property
    def struck_at(self) -> datetime | None: ...


def is_used_at(document: ConsentDocument, site: str | None) -> bool:
    """Whether a document is signed at this site; None: whichever site it is."""
    return not document.sites or site is None or site in document.sites


def valid_document(
    documents: Iterable[ConsentDocument], language: str, on: date, site: str | None = None
) -> ConsentDocument | None:
    """The document in this language that holds on a day at a site: the latest; a site's own goes before one for all."""
    valid = [one for one in documents if one.language == language and one.valid_from <= on and is_used_at(one, site)]
    return max(valid, key=lambda one: _rank(one, site), default=None)


def _rank(document: ConsentDocument, site: str | None) -> tuple[bool, date]:
    return site is not None and bool(document.sites), document.valid_from


def document_with(documents: Iterable[ConsentDocument], version: str, language: str) -> ConsentDocument | None:
    """The document of this version in this language."""
    return next((one for one in documents if one.version == version and one.language == language), None)


def words_digest(asked: ConsentRules) -> str | None:
    """SHA-256 (hex) over the words of what is asked beside the document, as they are shown; None where nothing is."""
    if not asked.questions and not asked.optional:
        return None
    said = [
        [[each.code, each.label, [[one.code, one.label] for one in each.choices]] for each in asked.questions],
        [[each.code, each.label] for each in asked.optional],
    ]
    return hashlib.sha256(json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def binding_digest(
    document: ConsentDocument,
    *,
    method: str,
    options: Mapping[str, bool],
    signature: bytes,
    paper_sha256: str | None,
    signed_on: date,
    participant_code: str,
    answers: Mapping[str, str] | None = None,
    words: str | None = None,
) -> str:
    """SHA-256 (hex) over everything that was agreed to: the document's bytes and text, choices, signature, day, person.

    `answers` are those to the questions about the document, where there are any; `words` is the `words_digest` of what
    was asked, None of a consent from before words were bound.
    One changed byte anywhere and it is another number (EMA guideline on computerised systems, A5.3.2).
    """
    bound = [
        FORMAT,
        participant_code,
        document.version,
        document.language,
        document.sha256,
        hashlib.sha256(f"{document.title}\n{document.text}".encode()).hexdigest(),
        method,
        sorted(options.items()),
        signature.hex(),
        paper_sha256,
        signed_on.isoformat(),
        *([sorted(answers.items())] if answers else []),
        *([{"words": words}] if words else []),
    ]
    return hashlib.sha256(json.dumps(bound, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def is_intact(
    consent: Given, document: ConsentDocument | None, *, participant_code: str, asked: ConsentRules = ConsentRules()
) -> bool:
    """Whether a stored consent is still exactly what was signed, to exactly this document, `asked` in these words.

    A consent from before words were bound has a binding without them, which nothing new gets.
    """
    if document is None or document.sha256 != consent.document_sha256:
        return False
    if (document.version, document.language) != (consent.document_version, consent.language):
        return False
    try:
        options, answers = dict(json.loads(consent.options)), dict(json.loads(consent.answers))
    except (ValueError, TypeError):
        return False
    return consent.binding in [
        binding_digest(
            document,
            method=consent.method,
            options=options,
            signature=consent.participant_signature,
            paper_sha256=consent.paper_sha256,
            signed_on=consent.signed_on,
            participant_code=participant_code,
            answers=answers,
            words=words,
        )
        for words in {words_digest(asked), None}
    ]


def stands(consent: Given) -> bool:
    """Whether a consent, complete or not, is neither withdrawn nor refused."""
    return consent.withdrawn_on is None and consent.refused_at is None


def is_waiting(consent: Given) -> bool:
    """Whether a consent lacks its countersignature, and may still get it."""
    return stands(consent) and consent.countersigned_at is None


def is_active(consent: Given, *, on: date | None = None) -> bool:
    """Whether a consent holds: signed by both, not refused, and not withdrawn (by a day, when one is given)."""
    if (
        consent.countersigned_at is None
        or consent.refused_at is not None
        or (on is not None and consent.signed_on > on)
    ):
        return False
    return consent.withdrawn_on is None or (on is not None and on < consent.withdrawn_on)


def why_no_consent(consents: Sequence[Given], *, on: date | None = None) -> str | None:
    """Why nothing may be collected (on a day, when one is given), or None when a complete consent holds."""
    if any(is_active(consent, on=on) for consent in consents):
        return None
    open_ = [consent for consent in consents if stands(consent)]
    for consent in open_:
        if consent.countersigned_at is None:
            return f"The consent of {day_in_words(consent.signed_on)} is not countersigned. Countersign it first."
    if open_:
        first = min(consent.signed_on for consent in open_)
        return f"Consent was given on {day_in_words(first)}. Choose that day or a later one."
    if withdrawn := [consent.withdrawn_on for consent in consents if consent.withdrawn_on is not None]:
        return f"Consent was withdrawn on {day_in_words(max(withdrawn))}. {KEPT}"
    if consents:
        last = max(consent.signed_on for consent in consents)
        return f"The consent of {day_in_words(last)} was refused, so it counts as none. Record it again."
    return "There is no consent yet. Record the participant's consent first."


def why_blocked(owed: ConsentDocument | None, *, waits: bool = False) -> str | None:
    """Why something waits for a newer document to be signed, or None when none is owed.

    `waits`: the participant signed it, and the countersignature is all that lacks.
    """
    if owed is None:
        return None
    if waits:
        return f"The consent to version {owed.version} is signed and not countersigned. Countersign it first."
    since = day_in_words(owed.valid_from)
    return f"Version {owed.version} of the consent document is valid since {since}. Ask them to sign it first."


def why_not_sign(status: Status, consents: Iterable[Given], version: str, *, gives_more: bool = False) -> str | None:
    """Why a participant with this status cannot consent to this version now, or None.

    Only the eligible are asked; those who take part already may be asked again about a newer version. With `gives_more`
    they give an optional consent that they do not give at present, and sign the same version again for it.
    """
    if status is Status.SCREEN_FAILED:
        return "This participant did not pass screening, so there is nothing to consent to."
    if status is Status.WITHDRAWN:
        return f"This participant has withdrawn. {KEPT}"
    if status is Status.COMPLETED:
        return "This participant has completed the study. Nothing new is collected, so no consent is needed."
    if status is Status.LOST:
        return "This participant is lost to follow-up. Record that they were found, then ask them."
    if status is Status.DIED:
        return f"This participant has died. {KEPT}"
    for consent in consents:
        if consent.document_version == version and stands(consent):
            when = day_in_words(consent.signed_on)
            if consent.countersigned_at is None:
                return (
                    f"Consent to version {version} is recorded already (signed {when}). Countersign it; "
                    "or, if it is wrong, refuse it."
                )
            if gives_more:
                continue
            return f"Consent to version {version} is complete already (signed {when}). Nothing is left to do."
    return None


def why_not_countersign(consent: Given) -> str | None:
    """Why a consent cannot be countersigned, or None."""
    if consent.refused_at is not None:
        return "This consent was refused. Record a new one first."
    if consent.withdrawn_on is not None:
        return f"This consent was withdrawn on {day_in_words(consent.withdrawn_on)}. Record a new one first."
    if consent.countersigned_at is not None:
        return "This consent is countersigned already. Nothing is left to do."
    return None


NOT_USED_BY = ("consent.", "identity.", "link.")
"""What begins like this in the log collects nothing under a consent."""
FOLLOWS = frozenset({"participant.consented", "visit.opened"})
"""What follows from a countersignature by itself."""


def collects(action: str) -> bool:
    """Whether an act of the log, later than a consent's countersignature, is something recorded under that consent."""
    return not (action in FOLLOWS or action.startswith(NOT_USED_BY) or action.endswith("_refused"))


def why_not_refuse(consent: Given, consents: Iterable[Given], status: Status, *, is_used: bool) -> str | None:
    """Why a consent cannot be refused (once countersigned: taken back) for having been recorded wrongly, or None.

    Until it is countersigned it always can. Then it can while an earlier one stands, under which everything was
    collected; or, if it is their only one, while nothing is: `is_used` says that something was recorded since.
    """
    if consent.refused_at is not None:
        return "This consent is refused already. Nothing is left to do but to record it again."
    if consent.withdrawn_on is not None:
        return f"This consent was withdrawn on {day_in_words(consent.withdrawn_on)}. Nothing is left to refuse."
    if consent.countersigned_at is None:
        return None
    others = [one for one in consents if one is not consent and is_active(one)]
    if any(one.signed_on <= consent.signed_on and one.recorded_at <= consent.recorded_at for one in others):
        return None
    if others:
        return (
            "A later consent was signed after this one, which therefore stays. Record a deviation that says what is "
            "wrong with it."
        )
    if status is not Status.CONSENTED or is_used:
        return (
            "Something was recorded under this consent since it was countersigned, so it stays. Record a deviation "
            "that says what is wrong with it; if they did not consent, record a withdrawal and mark what was entered "
            "as in error."
        )
    return None


NO_ADDRESS = "No mail address of this participant is known. Add it to the personal data first."
LARGEST_COPY = 7_000_000
"""Bytes of files that go with one mail: a third more on the way, and many servers take no mail over ten megabytes."""
TOO_LARGE = "The copy is too large to go by mail. Print it instead, or hand over the file."
COPY_LACKS = (NO_ADDRESS, TOO_LARGE)
"""What hinders a copy by mail that somebody at the site can mend, or hand it out on paper instead."""


def is_signed_by_all(consent: Given, countersigners: Sequence[str]) -> bool:
    """Whether nobody's signature lacks: that for the study is there, or the study has nobody who gives one."""
    return consent.countersigned_at is not None or not countersigners


def why_not_mail_copy(
    consent: Given, status: Status, level: WithdrawalLevel | None, *, countersigners: Sequence[str], scan: int = 0
) -> str | None:
    """Why no copy of a consent goes to the participant by mail, or None; `level` is how far they withdrew.

    It is theirs to keep, so it goes to everybody who may be written to at all, also once they have left the study. A
    `scan` of so many bytes goes with the copy of what was signed on paper.
    """
    if consent.refused_at is not None:
        return "This consent was refused and counts as none, so no copy of it is sent."
    if not is_signed_by_all(consent, countersigners):
        if consent.withdrawn_on is not None:
            return "This consent was withdrawn before it was countersigned, so there is no complete copy to send."
        return "This consent is not countersigned. Countersign it first, so that the copy has both signatures."
    if status is Status.DIED:
        return "This participant has died. Nothing is sent to them."
    return why_not_contact(level) or (TOO_LARGE if scan > LARGEST_COPY else None)


def why_not_hand_out_copy(consent: Given, *, countersigners: Sequence[str]) -> str | None:
    """Why nobody can say that a copy of this consent was handed out on paper, or None."""
    if consent.refused_at is not None:
        return "This consent was refused and counts as none, so no copy of it is handed out."
    if not is_signed_by_all(consent, countersigners):
        return "This consent is not countersigned. Countersign it first, so that the copy has both signatures."
    return None


def why_not_verify_scan(
    consent: Given, *, kept: bool, recorded_by: str, verified_by: str | None, who: str
) -> str | None:
    """Why this person cannot say that the scan is what was signed, or None. It takes another than who recorded it."""
    if consent.refused_at is not None:
        return "This consent was refused. Look at the one that is recorded instead."
    if consent.method != "paper" or not kept:
        return "No scan is kept with this consent. Look at the paper itself."
    if verified_by is not None:
        return "This scan is verified already. Nothing is left to do."
    if recorded_by == who:
        return "You recorded this consent. Ask somebody else to look at the scan."
    return None


def why_not_countersigner(roles: Iterable[str], allowed: Sequence[str]) -> str | None:
    """Why a person with these roles at the site cannot sign for the study, or None."""
    if set(roles) & set(allowed):
        return None
    names = one_of([role.replace("_", " ") for role in allowed]) or "nobody"
    return f"In this study consent is countersigned by: {names}. Ask them to sign."


@dataclass(frozen=True)
class Option:
    """How one optional consent stands: since a day, by the signature under a version or because it was taken back.

    `taken_back` is the number of the record that says so.
    """

    code: str
    agreed: bool
    since: date
    version: str
    taken_back: int | None = None


def options_signed(consent: Given) -> dict[str, bool]:
    """What was signed to each optional consent; nothing of one that cannot even be read."""
    try:
        return dict(json.loads(consent.options))
    except (ValueError, TypeError):
        return {}


def options_now(consents: Iterable[Given], taken_back: Iterable[TakenBack]) -> dict[str, Option]:
    """How each optional consent stands: as signed last under a consent that holds, unless it was taken back since.

    By the days on which they said so; of the same day, what was recorded later.
    """
    found: dict[str, Option] = {}
    signed: dict[str, tuple[date, datetime]] = {}
    for consent in sorted(consents, key=lambda one: (one.signed_on, one.recorded_at)):
        if is_active(consent):
            for code, agreed in options_signed(consent).items():
                found[code] = Option(code, agreed, consent.signed_on, consent.document_version)
                signed[code] = consent.signed_on, consent.recorded_at
    for each in sorted(taken_back, key=lambda one: (one.taken_back_on, one.id or 0)):
        option = found.get(each.code)
        if option is None or not option.agreed or each.struck_at is not None:
            continue
        if (each.taken_back_on, each.recorded_at) >= signed[each.code]:
            found[each.code] = replace(option, agreed=False, since=each.taken_back_on, taken_back=each.id)
    return found


def lacks_option(asked: Iterable[Choice], now: Mapping[str, Option]) -> bool:
    """Whether some optional consent that the study asks for is not given at present."""
    return not all(choice.code in now and now[choice.code].agreed for choice in asked)


def gives_more(options: Mapping[str, bool], now: Mapping[str, Option]) -> bool:
    """Whether these answers give an optional consent that is not given at present."""
    return any(agreed and not (code in now and now[code].agreed) for code, agreed in options.items())


def taking_back_problems(
    codes: Sequence[str], now: Mapping[str, Option], *, on: date, told_by: str, how: str, today: date
) -> list[FieldProblem]:
    """What keeps these optional consents from being taken back as typed, one problem per field."""
    problems = []
    if not codes:
        problems.append(FieldProblem("options", "required", "Choose what they take back."))
    problems += [
        FieldProblem("options", "choice", f"They were never asked about “{code}”. Take it out.")
        for code in codes
        if code not in now
    ]
    given = [now[code] for code in codes if code in now and now[code].agreed]
    if on > today:
        message = f"This day has not come yet: choose {day_in_words(today)} or earlier."
        problems.append(FieldProblem("on", "future", message))
    elif given and on < (earliest := max(option.since for option in given)):
        message = f"They gave it on {day_in_words(earliest)}: choose that day or a later one."
        problems.append(FieldProblem("on", "too_early", message))
    if told_by not in TELLERS:
        problems.append(FieldProblem("told_by", "choice", "Choose who told you."))
    if how not in WAYS:
        problems.append(FieldProblem("how", "choice", "Choose how they told you."))
    return problems


def consent_problems(
    documents: Sequence[ConsentDocument],
    optional: Sequence[Choice],
    *,
    version: str,
    language: str,
    method: str,
    signed_on: date,
    signature: str,
    paper_sha256: str | None,
    options: Mapping[str, bool],
    today: date,
    site: str | None = None,
    questions: Sequence[ConsentQuestion] = (),
    answers: Mapping[str, str] | None = None,
    strokes: str = "",
) -> list[FieldProblem]:
    """What keeps this consent from being kept as typed, one problem per field.

    Whoever signs on screen has answered every question about the document rightly, however often they tried; on paper
    the answers stand on the paper.
    """
    problems = _document_problems(documents, version, language, signed_on, today, site)
    problems += _question_problems(questions if method != "paper" else (), answers or {})
    if method not in METHODS:
        problems.append(FieldProblem("method", "choice", "Choose how consent was given: on screen or on paper."))
    problems += _signature_problems(method, signature, strokes)
    if method == "paper" and not _is_sha256(paper_sha256):
        problems.append(FieldProblem("paper_sha256", "sha256", "Add the scan of the signed paper."))
    if method != "paper" and paper_sha256 is not None:
        problems.append(FieldProblem("paper_sha256", "unexpected", "A scan belongs to consent on paper. Take it out."))
    asked = {choice.code: choice.label for choice in optional}
    problems += [
        FieldProblem(f"options.{code}", "required", f"{label}: choose yes or no.")
        for code, label in asked.items()
        if not isinstance(options.get(code), bool)
    ]
    problems += [
        FieldProblem(f"options.{code}", "unknown", f"This consent does not ask about “{code}”. Take it out.")
        for code in options
        if code not in asked
    ]
    return problems


def _question_problems(questions: Sequence[ConsentQuestion], answers: Mapping[str, str]) -> list[FieldProblem]:
    problems = []
    asked = {question.code: question for question in questions}
    for code, question in asked.items():
        if code not in answers or answers[code] not in {choice.code for choice in question.choices}:
            problems.append(FieldProblem(f"questions.{code}", "required", f"{question.label} Choose an answer."))
        elif answers[code] != question.right:
            again = question.hint or "Read that part of the document together once more."
            message = f"This is not what the document says. {again} Then answer again."
            problems.append(FieldProblem(f"questions.{code}", "wrong", message))
    return problems + [
        FieldProblem(f"questions.{code}", "unknown", f"Nothing is asked under “{code}”. Take it out.")
        for code in answers
        if code not in asked
    ]


def _document_problems(
    documents: Sequence[ConsentDocument], version: str, language: str, signed_on: date, today: date, site: str | None
) -> list[FieldProblem]:
    if signed_on > today:
        message = f"This day has not come yet: choose {day_in_words(today)} or earlier."
        return [FieldProblem("signed_on", "future", message)]
    document = document_with(documents, version, language)
    if document is None or not is_used_at(document, site):
        return [FieldProblem("version", "choice", "There is no such consent document. Choose one from the list.")]
    if signed_on < document.valid_from:
        since = day_in_words(document.valid_from)
        message = f"Version {version} is valid from {since}. Correct the day, or choose another version."
        return [FieldProblem("signed_on", "too_early", message)]
    current = valid_document(documents, language, signed_on, site)
    if current is not None and _rank(current, site) > _rank(document, site):
        message = (
            f"Version {version} was replaced by version {current.version} on {day_in_words(current.valid_from)}. "
            f"Ask the participant to sign version {current.version}."
        )
        return [FieldProblem("version", "replaced", message)]
    return []


def _signature_problems(method: str, signature: str, strokes: str) -> list[FieldProblem]:
    if strokes and method == "paper":
        return [FieldProblem("strokes", "unexpected", "They signed on paper: take the drawing out.")]
    try:
        if strokes:
            read_strokes(strokes)
    except NotDrawn as problem:
        return [FieldProblem("strokes", "drawing", str(problem))]
    what = "where the signed paper is kept" if method == "paper" else "the full name"
    if not signature.strip() or not signature.isprintable():
        return [FieldProblem("signature", "required", f"Type {what}, on one line.")]
    if len(signature.strip()) > LONGEST_SIGNATURE:
        return [FieldProblem("signature", "max_length", f"Shorten it to {LONGEST_SIGNATURE} characters.")]
    return []


def _is_sha256(text: str | None) -> bool:
    return text is not None and len(text) == 64 and set(text) <= set("0123456789abcdef")
