"""What does the signature of a casebook stand for, and may it be signed?"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.capture.rules import EntryState, digest_of

MEANINGS = {
    "approval": "I have reviewed every entry of this casebook. They are complete and, as far as I know, true.",
    "review": "I have reviewed every entry of this casebook.",
}
"""What a signature of a casebook can mean (21 CFR 11.50(a)(3)), and how a page says it."""

Line = tuple[str, str, int, str]
"""Visit, instrument, version and SHA-256 of one entry."""


@dataclass(frozen=True)
class Signature:
    """The signature of a casebook, and of exactly which entries; superseded by a later change, or None."""

    number: int
    manifest: tuple[Line, ...]
    digest: str
    meaning: str
    signed_at: datetime
    signed_by: str
    signed_name: str
    superseded_at: datetime | None
    superseded_by: str | None
    superseded_why: str | None


SCREENING = "screening"
"""What stands for visit and instrument in the line of a pre-screen that was corrected; no form of a visit is there."""


def screening_line(version: int, answers: str, eligible: bool) -> Line:
    """The line of a pre-screen as it was corrected: its version, and SHA-256 over the JSON array
    ["equipoise-screening-1", answers, eligible], the answers as the JSON text that is kept.
    """
    said = json.dumps(["equipoise-screening-1", answers, eligible], separators=(",", ":"), ensure_ascii=False)
    return SCREENING, SCREENING, version, hashlib.sha256(said.encode()).hexdigest()


def manifest_of(entries: Iterable[EntryState], corrected: Line | None) -> tuple[Line, ...]:
    """Every entry by visit and name (falls, falls/2), with its version and the digest of its bytes, as its own
    signature has it. What was entered in error is not part of it.

    `corrected` is the line of the pre-screen where it was corrected (`screening_line`), None where it stands as it was
    answered: so what was signed before anything was corrected is what was signed, and a correction is a change.
    """
    lines = [(each.visit, each.name, each.version, digest_of(each)) for each in entries if not each.is_in_error]
    return tuple(sorted([*lines, *([corrected] if corrected is not None else [])]))


def manifest_text(manifest: Sequence[Line]) -> str:
    """A manifest as the one text it is stored and signed as: JSON, no white space."""
    return json.dumps([list(line) for line in manifest], separators=(",", ":"), ensure_ascii=False)


def casebook_digest(participant: str, manifest: Sequence[Line], meaning: str) -> str:
    """SHA-256 (64 hexadecimal digits) over what a casebook's signature stands for, so that it fits no other (11.70).

    Over the UTF-8 text of the JSON array ["equipoise-casebook-1", participant's code, meaning, manifest], without white
    space; the manifest is an array of [visit, instrument, version, SHA-256 of the entry], sorted.
    """
    record = ["equipoise-casebook-1", participant, meaning, [list(line) for line in manifest]]
    return hashlib.sha256(json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def holds(signature: Signature, participant: str, manifest: Sequence[Line]) -> bool:
    """Whether a signature was not superseded, and every entry is still byte for byte what was signed."""
    return (
        signature.superseded_at is None
        and signature.manifest == tuple(manifest)
        and signature.digest == casebook_digest(participant, signature.manifest, signature.meaning)
    )


def why_not_sign(
    manifest: Sequence[Line], signature: Signature | None, participant: str, *, partial: int, queries: int
) -> str | None:
    """Why this casebook cannot be signed, or None; `signature` is the one that stands."""
    if all(line[0] == SCREENING for line in manifest):
        return "Nothing is entered yet, so there is nothing to sign."
    if signature is not None and holds(signature, participant, manifest):
        return f"{signature.signed_name} has signed it as it stands. A new signature is needed only after a change."
    if queries:
        few = "One query stands" if queries == 1 else f"{queries} queries stand"
        return f"{few}. Sign once every question is settled."
    if partial:
        few = "One entry is" if partial == 1 else f"{partial} entries are"
        return f"{few} partial. Sign once every entry is complete."
    return None
