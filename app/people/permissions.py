"""Who may do what? The whole table on one page; the app shows this same table (Study, Roles).

A permission is noun.verb. A person may do a thing when one of their roles in the study, at the participant's site,
stands in its row. Blinded and unblinded roles exclude each other in one study (ICH E6(R3) 4.1.2).
"""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """The eight kinds of person who sign in (house.md section 4)."""

    COORDINATOR = "coordinator"
    ASSESSOR = "assessor"
    CLINICIAN = "clinician"
    INVESTIGATOR = "investigator"
    DATA_MANAGER = "data_manager"
    MONITOR = "monitor"
    STATISTICIAN = "statistician"
    ADMINISTRATOR = "administrator"


C, A, T, I, D, M, S, X = Role  # noqa: E741 - T treats (clinician), X is the administrator

UNBLINDED = frozenset({T, S})
WHOLE_STUDY = frozenset({D, M, S, X})  # roles that may be held for all sites at once
NO_SITE = frozenset({S})  # "unblinded, no site access"
NOT_AT_A_SITE = NO_SITE | {X}


class Permission(StrEnum):
    """What can be allowed. The value is what the table, the tokens and the log call it."""

    PARTICIPANT_READ = "participant.read"
    PARTICIPANT_SCREEN = "participant.screen"
    PARTICIPANT_WITHDRAW = "participant.withdraw"
    IDENTITY_READ = "identity.read"
    IDENTITY_CHANGE = "identity.change"
    CONSENT_RECORD = "consent.record"
    CONSENT_COUNTERSIGN = "consent.countersign"
    PARTICIPANT_RANDOMISE = "participant.randomise"
    PARTICIPANT_RECORD_ERROR = "participant.record_error"
    PARTICIPANT_LINK = "participant.link"
    VISIT_RECORD = "visit.record"
    APPOINTMENT_BOOK = "appointment.book"
    MESSAGE_READ = "message.read"
    MESSAGE_RESEND = "message.resend"
    ENTRY_READ = "entry.read"
    ENTRY_SAVE = "entry.save"
    ENTRY_SIGN = "entry.sign"
    ENTRY_VERIFY = "entry.verify"
    ENTRY_RECONCILE = "entry.reconcile"
    DATA_IMPORT = "data.import"
    TEXT_CODE = "text.code"
    TEXT_RECONCILE = "text.reconcile"
    AGREEMENT_READ = "agreement.read"
    QUERY_RAISE = "query.raise"
    QUERY_ANSWER = "query.answer"
    QUERY_CLOSE = "query.close"
    CASEBOOK_SIGN = "casebook.sign"
    DATA_LOCK = "data.lock"
    DATA_UNLOCK = "data.unlock"
    ARM_READ = "arm.read"
    TREATMENT_RECORD = "treatment.record"
    SEQUENCE_DRAW = "sequence.draw"
    SEQUENCE_SEAL = "sequence.seal"
    ALLOCATIONS_EXPORT = "allocations.export"
    ALLOCATION_UNBLIND = "allocation.unblind"
    UNBLINDING_READ = "unblinding.read"
    UNBLINDING_RECORD = "unblinding.record"
    UNBLINDING_ASSESS = "unblinding.assess"
    UNBLINDING_REQUEST = "unblinding.request"
    UNBLINDING_APPROVE = "unblinding.approve"
    SAFETY_READ = "safety.read"
    EVENT_REPORT = "event.report"
    EVENT_JUDGE = "event.judge"
    EVENT_REVIEW = "event.review"
    DEVIATION_REPORT = "deviation.report"
    DEVIATION_SIGN = "deviation.sign"
    CONTACT_RECORD = "contact.record"
    CARE_RECORD = "care.record"
    DOCUMENT_READ = "document.read"
    DOCUMENT_KEEP = "document.keep"
    REPORT_READ = "report.read"
    EXPORT_RUN = "export.run"
    AUDIT_READ = "audit.read"
    AUDIT_VERIFY = "audit.verify"
    LOG_REVIEW = "log.review"
    STUDY_READ = "study.read"
    STUDY_LOAD = "study.load"
    STUDY_AMEND = "study.amend"
    PEOPLE_MANAGE = "people.manage"
    WEBHOOK_MANAGE = "webhook.manage"
    TOKEN_CREATE = "token.create"  # noqa: S105 a permission's name


P = Permission
TABLE: dict[Permission, frozenset[Role]] = {
    P.PARTICIPANT_READ: frozenset({C, A, T, I, D, M}),
    P.PARTICIPANT_SCREEN: frozenset({C, I}),
    P.PARTICIPANT_WITHDRAW: frozenset({C, I}),
    P.IDENTITY_READ: frozenset({C, I}),
    P.IDENTITY_CHANGE: frozenset({C}),
    P.CONSENT_RECORD: frozenset({C, I}),
    P.CONSENT_COUNTERSIGN: frozenset({C, I}),
    P.PARTICIPANT_RANDOMISE: frozenset({C, I}),
    P.PARTICIPANT_RECORD_ERROR: frozenset({C, I}),
    P.PARTICIPANT_LINK: frozenset({C, A, I}),
    P.VISIT_RECORD: frozenset({C, A}),
    P.APPOINTMENT_BOOK: frozenset({C, A, T}),  # visits by those who record them, sessions by those who treat
    P.MESSAGE_READ: frozenset({C, A, I, D, M}),
    P.MESSAGE_RESEND: frozenset({C, D}),
    P.ENTRY_READ: frozenset({C, A, I, D, M}),
    P.ENTRY_SAVE: frozenset({C, A}),
    P.ENTRY_SIGN: frozenset({A, I}),
    P.ENTRY_VERIFY: frozenset({M}),
    P.ENTRY_RECONCILE: frozenset({C, A, D}),  # of two entries of one form: whom of them, the study says
    P.DATA_IMPORT: frozenset({C, D}),  # of files; whoever is new in one is screened by those who screen
    P.TEXT_CODE: frozenset({I, D}),
    P.TEXT_RECONCILE: frozenset({I, D}),  # never of a text one has coded
    P.AGREEMENT_READ: frozenset({I, D, M}),
    P.QUERY_RAISE: frozenset({D, M}),
    P.QUERY_ANSWER: frozenset({C, A, I}),
    P.QUERY_CLOSE: frozenset({D, M}),  # and to ask again
    P.CASEBOOK_SIGN: frozenset({I}),
    P.DATA_LOCK: frozenset({D}),
    P.DATA_UNLOCK: frozenset({I, D}),  # one asks, another approves
    P.ARM_READ: frozenset({T}),
    P.TREATMENT_RECORD: frozenset({T}),
    P.SEQUENCE_DRAW: frozenset({S}),
    P.SEQUENCE_SEAL: frozenset({S}),
    P.ALLOCATIONS_EXPORT: frozenset({S}),
    P.ALLOCATION_UNBLIND: frozenset({I}),
    P.UNBLINDING_READ: frozenset({I, D, M, S}),
    P.UNBLINDING_RECORD: frozenset({C, A, T, I, D, M, S, X}),
    P.UNBLINDING_ASSESS: frozenset({I, D}),
    P.UNBLINDING_REQUEST: frozenset({D, S}),
    P.UNBLINDING_APPROVE: frozenset({D, S}),  # never of one's own request
    P.SAFETY_READ: frozenset({C, A, I, D, M}),
    P.EVENT_REPORT: frozenset({C, A, T, I}),  # who treats sees of events what they reported themselves
    P.EVENT_JUDGE: frozenset({I}),
    P.EVENT_REVIEW: frozenset({I, D}),  # never of one's own judgement
    P.DEVIATION_REPORT: frozenset({C, A, T, I, D, M}),
    P.DEVIATION_SIGN: frozenset({I}),
    P.CONTACT_RECORD: frozenset({C, A, I}),
    P.CARE_RECORD: frozenset({C, A, I}),
    P.DOCUMENT_READ: frozenset({C, A, T, I, D, M, S}),  # files of the study; those of who knows arms among them alone
    P.DOCUMENT_KEEP: frozenset({C, T, I, D, S}),
    P.REPORT_READ: frozenset({C, A, I, D, M}),  # numbers alone, never by arm
    P.EXPORT_RUN: frozenset({D, S}),
    P.AUDIT_READ: frozenset({I, D, M}),
    P.AUDIT_VERIFY: frozenset({D, M, S, X}),
    P.LOG_REVIEW: frozenset({D, M}),  # what is worth a look in it, and that somebody looked
    P.STUDY_READ: frozenset({C, A, T, I, D, M, S, X}),
    P.STUDY_LOAD: frozenset({X}),
    P.STUDY_AMEND: frozenset({X}),
    P.PEOPLE_MANAGE: frozenset({X}),
    P.WEBHOOK_MANAGE: frozenset({C, I, D}),  # of one's own; told what one may read anyway
    P.TOKEN_CREATE: frozenset({C, A, T, I, D, M, S, X}),  # of what their roles allow: an administrator's reads no data
}


# What a participant may do by a link of their own, of themself alone; nobody signs in as one.
BY_LINK: dict[str, frozenset[Permission]] = {
    "consent": frozenset({P.CONSENT_RECORD}),
    "questions": frozenset({P.ENTRY_READ, P.ENTRY_SAVE, P.VISIT_RECORD}),
}


def holders(permission: Permission) -> frozenset[Role]:
    """The roles that hold a permission; nobody when it is not in the table."""
    return TABLE.get(permission, frozenset())


def is_blinded(roles: frozenset[Role]) -> bool:
    """Whether somebody with these roles must never learn an arm."""
    return not roles & UNBLINDED


@dataclass(frozen=True)
class Apart:
    """Roles that should not be with one person in one study: one of these beside one of those, and why not.

    `refused`: never given together. Otherwise somebody has to say why one person holds both, and it is kept.
    """

    these: frozenset[Role]
    those: frozenset[Role]
    why: str
    refused: bool = False

    def touches(self, role: Role, held: frozenset[Role]) -> bool:
        """Whether this role is kept apart from one of those that are held."""
        return bool((role in self.these and held & self.those) or (role in self.those and held & self.these))


APART: tuple[Apart, ...] = (
    Apart(frozenset({S}), frozenset({C, I}), "Whoever draws the list must not enrol.", refused=True),
    Apart(frozenset({S}), frozenset({T}), "Nobody both draws the list and treats by it.", refused=True),
    Apart(UNBLINDED, frozenset({A}), "Whoever knows arms must not assess outcomes.", refused=True),
    Apart(UNBLINDED, frozenset({C, I, D, M, X}), "Nobody is blinded and unblinded in one study.", refused=True),
    Apart(frozenset({I}), frozenset({A}), "Whoever may break the blind assesses outcomes."),
    Apart(frozenset({M}), frozenset({C, A, I}), "Whoever verifies the data enters or signs them."),
    Apart(frozenset({D}), frozenset({C, A}), "Whoever closes queries and locks data enters them."),
)
"""The table of duties that are kept apart (ICH E6(R3) 4.1.2, CONSORT 2025 items 18 and 19, SPIRIT 2025 item 23)."""


def conflicts(held: frozenset[Role], once: frozenset[Role] = frozenset()) -> tuple[Apart, ...]:
    """What should not be with one person who holds these roles, or (what may be known stays known) held unblinded ones
    once; each pair of duties told once, by the first row of the table that says it."""
    found: list[Apart] = []
    told: set[frozenset[Role]] = set()
    every = held | (once & UNBLINDED)
    for row in APART:
        pairs = {
            frozenset({one, other}) for one in row.these & every for other in row.those & every if {one, other} & held
        }
        if pairs - told:
            found.append(row)
        told |= pairs
    return tuple(found)


def why_documented(held: frozenset[Role], role: Role) -> str | None:
    """Why somebody has to say why a person with these roles is given this one too, or None.

    A reason that was given for one pair of duties is none for another pair, even of the same row.
    """
    if role in held:
        return None
    beside = [each for each in conflicts(held | {role}) if not each.refused and each.touches(role, held)]
    return " ".join(each.why for each in beside) or None


def why_not_together(roles: frozenset[Role]) -> str | None:
    """Why one person cannot hold these roles in one study, or None."""
    unblinded = roles & UNBLINDED
    if unblinded and roles - UNBLINDED:
        names = ", ".join(sorted(role.replace("_", " ") for role in roles))
        return (
            f"One person cannot be blinded and unblinded in the same study ({names}). "
            "Give the unblinded role to somebody else."
        )
    if len(unblinded) > 1:
        return "Nobody can both draw the sequence and treat participants. Give one of the roles to somebody else."
    return None
