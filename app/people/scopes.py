"""What does a token's scope allow, in words? The permissions by what they are for, and choices of several at once."""

from collections.abc import Collection
from dataclasses import dataclass

from app.people.permissions import Permission

P = Permission

SAID: dict[Permission, str] = {
    P.PARTICIPANT_READ: "See participants, visits and appointments",
    P.ENTRY_READ: "Read entries and queries",
    P.IDENTITY_READ: "Read personal data: names, contact, signatures",
    P.MESSAGE_READ: "See which messages went out",
    P.REPORT_READ: "Read reports",
    P.AGREEMENT_READ: "Read how well two people agree",
    P.DOCUMENT_READ: "Read the files of the study",
    P.PARTICIPANT_SCREEN: "Screen participants",
    P.IDENTITY_CHANGE: "Change personal data",
    P.CONSENT_RECORD: "Record consent",
    P.CONSENT_COUNTERSIGN: "Countersign consent",
    P.PARTICIPANT_RANDOMISE: "Randomise participants",
    P.PARTICIPANT_WITHDRAW: "Record withdrawal, loss, death and completion",
    P.PARTICIPANT_RECORD_ERROR: "Record who was randomised in error",
    P.PARTICIPANT_LINK: "Give participants links",
    P.VISIT_RECORD: "Record visits",
    P.APPOINTMENT_BOOK: "Book appointments",
    P.MESSAGE_RESEND: "Send messages again",
    P.ENTRY_SAVE: "Save and correct entries",
    P.ENTRY_SIGN: "Sign entries, with your password each time",
    P.DATA_IMPORT: "Import entries from files",
    P.DOCUMENT_KEEP: "Keep files of the study",
    P.ENTRY_VERIFY: "Verify entries against the source",
    P.ENTRY_RECONCILE: "Settle what two entries say differently",
    P.TEXT_CODE: "Code texts",
    P.TEXT_RECONCILE: "Settle what two coders say differently",
    P.QUERY_RAISE: "Raise queries",
    P.QUERY_ANSWER: "Answer queries",
    P.QUERY_CLOSE: "Close queries",
    P.CASEBOOK_SIGN: "Sign casebooks, with your password each time",
    P.DATA_LOCK: "Freeze and lock data",
    P.DATA_UNLOCK: "Ask for data to be unlocked, and approve it",
    P.EXPORT_RUN: "Run exports",
    P.WEBHOOK_MANAGE: "Set up webhooks",
    P.SAFETY_READ: "Read adverse events and deviations",
    P.EVENT_REPORT: "Report adverse events",
    P.EVENT_JUDGE: "Judge adverse events",
    P.EVENT_REVIEW: "Review judgements of adverse events",
    P.DEVIATION_REPORT: "Report deviations",
    P.DEVIATION_SIGN: "Sign deviations off",
    P.CONTACT_RECORD: "Record attempts to reach participants",
    P.CARE_RECORD: "Record concomitant care",
    P.ARM_READ: "Read arms and treatment sessions",
    P.TREATMENT_RECORD: "Record treatment sessions",
    P.SEQUENCE_DRAW: "Draw sequences",
    P.SEQUENCE_SEAL: "Seal and close sequences",
    P.ALLOCATIONS_EXPORT: "Export allocations with their arms",
    P.ALLOCATION_UNBLIND: "Break the blind in an emergency",
    P.UNBLINDING_READ: "Read who was unblinded",
    P.UNBLINDING_RECORD: "Record that somebody learnt an arm",
    P.UNBLINDING_ASSESS: "Assess what an unblinding means",
    P.UNBLINDING_REQUEST: "Ask for arms to be opened",
    P.UNBLINDING_APPROVE: "Approve that arms are opened",
    P.STUDY_READ: "Read what the study says",
    P.STUDY_LOAD: "Write drafts of the study and load them",
    P.STUDY_AMEND: "Plan when sites go over to a version",
    P.AUDIT_READ: "Read the audit log",
    P.AUDIT_VERIFY: "Verify the audit log",
    P.LOG_REVIEW: "Review the audit log",
    P.PEOPLE_MANAGE: "Manage people and their roles",
    P.TOKEN_CREATE: "Make tokens",
}
"""What each permission allows, as the account page and the table of roles say it."""

_READS = (
    P.PARTICIPANT_READ,
    P.ENTRY_READ,
    P.REPORT_READ,
    P.DOCUMENT_READ,
    P.MESSAGE_READ,
    P.AGREEMENT_READ,
)
GROUPS: tuple[tuple[str, tuple[Permission, ...]], ...] = (
    (
        "Read data",
        (
            *_READS,
            P.IDENTITY_READ,
        ),
    ),
    (
        "Enter data",
        (
            P.PARTICIPANT_SCREEN,
            P.CONSENT_RECORD,
            P.CONSENT_COUNTERSIGN,
            P.PARTICIPANT_RANDOMISE,
            P.VISIT_RECORD,
            P.APPOINTMENT_BOOK,
            P.ENTRY_SAVE,
            P.ENTRY_SIGN,
            P.DATA_IMPORT,
            P.IDENTITY_CHANGE,
            P.PARTICIPANT_LINK,
            P.MESSAGE_RESEND,
            P.PARTICIPANT_WITHDRAW,
            P.PARTICIPANT_RECORD_ERROR,
            P.DOCUMENT_KEEP,
        ),
    ),
    (
        "Check and clean data",
        (
            P.QUERY_RAISE,
            P.QUERY_ANSWER,
            P.QUERY_CLOSE,
            P.ENTRY_VERIFY,
            P.ENTRY_RECONCILE,
            P.TEXT_CODE,
            P.TEXT_RECONCILE,
            P.CASEBOOK_SIGN,
            P.DATA_LOCK,
            P.DATA_UNLOCK,
        ),
    ),
    ("Exports and webhooks", (P.EXPORT_RUN, P.WEBHOOK_MANAGE)),
    (
        "Safety and conduct",
        (
            P.SAFETY_READ,
            P.EVENT_REPORT,
            P.EVENT_JUDGE,
            P.EVENT_REVIEW,
            P.DEVIATION_REPORT,
            P.DEVIATION_SIGN,
            P.CONTACT_RECORD,
            P.CARE_RECORD,
        ),
    ),
    (
        "Arms and blinding",
        (
            P.ARM_READ,
            P.TREATMENT_RECORD,
            P.SEQUENCE_DRAW,
            P.SEQUENCE_SEAL,
            P.ALLOCATIONS_EXPORT,
            P.ALLOCATION_UNBLIND,
            P.UNBLINDING_READ,
            P.UNBLINDING_RECORD,
            P.UNBLINDING_ASSESS,
            P.UNBLINDING_REQUEST,
            P.UNBLINDING_APPROVE,
        ),
    ),
    (
        "Study and administration",
        (
            P.STUDY_READ,
            P.STUDY_LOAD,
            P.STUDY_AMEND,
            P.AUDIT_READ,
            P.AUDIT_VERIFY,
            P.LOG_REVIEW,
            P.PEOPLE_MANAGE,
            P.TOKEN_CREATE,
        ),
    ),
)
"""Every permission once, by what it is for."""


@dataclass(frozen=True)
class Preset:
    """Several scopes chosen at once: its code, its words, and what it chooses (None: all there are).

    It is offered to whoever holds the first of them.
    """

    code: str
    words: str
    scopes: tuple[Permission, ...] | None

    def chosen(self, held: Collection[str]) -> list[str]:
        """What it chooses of the scopes that somebody could give; nothing when it is not for them."""
        if self.scopes is None:
            return list(held)
        if self.scopes[0] not in held:
            return []
        return [each for each in held if each in self.scopes]


CALLED: dict[str, str] = {
    "read": "Read only",
    "export": "Export",
    "import": "Import entries",
    "all": "Everything I may",
}
PRESETS = (
    # Who somebody is, and an arm, are read by a token only when somebody ticks that.
    Preset(
        "read",
        CALLED["read"],
        (
            P.STUDY_READ,
            *_READS,
            P.SAFETY_READ,
            P.UNBLINDING_READ,
            P.AUDIT_READ,
        ),
    ),
    Preset("export", CALLED["export"], (P.EXPORT_RUN, P.STUDY_READ)),
    Preset("import", CALLED["import"], (P.DATA_IMPORT, P.STUDY_READ, P.PARTICIPANT_READ, P.ENTRY_READ, P.ENTRY_SAVE)),
    Preset("all", CALLED["all"], None),
)


def grouped(scopes: Collection[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """These scopes by what they are for, each as (code, words); groups without any are left out.

    A code that is not known any more stands for itself, in the last group.
    """
    found = [(label, [(each.value, SAID[each]) for each in members if each in scopes]) for label, members in GROUPS]
    known = set(Permission)
    found[-1][1].extend((code, code) for code in scopes if code not in known)
    return [(label, members) for label, members in found if members]


def named(scopes: Collection[str], held: Collection[str]) -> str:
    """The words of the preset that chooses exactly these of what somebody holds, else nothing."""
    return next((each.words for each in PRESETS if set(each.chosen(held)) == set(scopes) != set()), "")
