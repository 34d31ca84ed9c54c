"""What may I do with entries? Save and correct them, sign them, and keep drafts of what is not saved yet."""

from app.capture.actions.drafts import LARGEST_DRAFT, Seen, drop_draft, is_unseen, keep_draft
from app.capture.actions.in_error import mark_in_error
from app.capture.actions.place import how_held
from app.capture.actions.saving import COMPUTED_AGAIN, NO_LONGER_ASKED, SavedEntry, save_entry
from app.capture.actions.sealed import MOST_BY_LINK, Shown, keep_file, keep_signature, show_sealed
from app.capture.actions.second import SecondEntry, judge_second
from app.capture.actions.signatures import as_signed, sign_entry, signature_said, signed_so
from app.capture.actions.visits import (
    add_visit,
    correct_visit,
    mark_visit_in_error,
    miss_visit,
    record_visit,
    record_with_entry,
    reopen_visit,
)

__all__ = [
    "COMPUTED_AGAIN",
    "LARGEST_DRAFT",
    "MOST_BY_LINK",
    "NO_LONGER_ASKED",
    "SavedEntry",
    "SecondEntry",
    "Seen",
    "Shown",
    "add_visit",
    "as_signed",
    "correct_visit",
    "drop_draft",
    "how_held",
    "is_unseen",
    "judge_second",
    "keep_draft",
    "keep_file",
    "keep_signature",
    "mark_in_error",
    "mark_visit_in_error",
    "miss_visit",
    "record_visit",
    "record_with_entry",
    "reopen_visit",
    "save_entry",
    "show_sealed",
    "sign_entry",
    "signature_said",
    "signed_so",
]
