"""Was this allocation the one that was committed to before the trial began? Salted leaves, one root, and proofs.

Before the first participant the root of a Merkle tree (RFC 6962, `app.audit.tree`) over every slot is written to the
log and printed on the sealing certificate. The leaf of a slot is, with each part preceded by its length in bytes as 4
bytes big-endian and text in UTF-8:

    SHA-256(0x00 ‖ "equipoise.slot.1" | study | list version (decimal) | stratum | position (decimal) | arm | salt)

and its salt, 32 bytes, follows from one secret salt key of the list:

    HMAC-SHA256(salt key, "equipoise.salt.1" | stratum | position (decimal))

Without the salt nobody can try the arms on a leaf (CONC-3, LOG-13); the salt of one slot says nothing of another's.
Leaves stand in the order of stratum codes (by Unicode code point) and positions. The plan of the list, its seed and its
salt key are committed to as one text, which is published when the trial is closed:

    SHA-256(0x00 ‖ the plan as JSON, keys sorted, no white space, UTF-8 as it is)

A method that decides at each allocation has no slots to commit to. Its plan is committed to in the same way, and the
leaf of each allocation is written to the log when it is made:

    SHA-256(0x00 ‖ "equipoise.draw.1" | study | list version | stratum | position | levels | arm | salt)

where levels are those of the factors, each preceded by its length again; within a group of a first stage the group is
one more of them, hidden by the salt as the arm is. The root over them all, in the order of their
positions, is written to the log when the list is closed.

`scripts/verify_allocation.py` and, for draws, `scripts/verify_draws.py` say all of this again without importing
anything of ours. A change to any of it is a new number, never an edit.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence

from app.audit.tree import leaf_hash
from app.randomisation.sequence import encoded

SLOT_FORMAT = "equipoise.slot.1"
DRAW_FORMAT = "equipoise.draw.1"
SALT_FORMAT = "equipoise.salt.1"
SALT_BYTES = 32
WHY = "Proofs of allocations"
"""Why envelopes are opened for proofs, as the log says it whichever door was used."""


def salt_of(salt_key: bytes, stratum: str, position: int) -> bytes:
    """The 32-byte salt of one slot; positions count from 1."""
    return hmac.digest(salt_key, encoded(SALT_FORMAT, stratum, str(position)), "sha256")


def slot_leaf(study: str, version: int, stratum: str, position: int, arm: str, salt: bytes) -> bytes:
    """The 32-byte leaf of one slot. `ValueError` unless the salt has 32 bytes."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"A salt has {SALT_BYTES} bytes.")
    return leaf_hash(encoded(SLOT_FORMAT, study, str(version), stratum, str(position), arm, salt))


def draw_leaf(
    study: str, version: int, stratum: str, position: int, levels: Sequence[str], arm: str, salt: bytes
) -> bytes:
    """The 32-byte leaf of an allocation that was decided when it was made: what it was decided from is in it, too."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"A salt has {SALT_BYTES} bytes.")
    return leaf_hash(encoded(DRAW_FORMAT, study, str(version), stratum, str(position), encoded(*levels), arm, salt))


def canonical(content: Mapping[str, object]) -> bytes:
    """The one text a certificate or an opened plan is hashed as: JSON, keys sorted, no white space, UTF-8 as it is."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, sort_keys=True, allow_nan=False).encode()


def plan_commitment(plan: Mapping[str, object]) -> str:
    """The commitment to a list's plan, seed and salt key, as hex. The salt key in it hides the rest."""
    return leaf_hash(canonical(plan)).hex()


def opened_plan(
    *,
    study: str,
    version: int,
    method: str,
    arms: Sequence[tuple[str, int]],
    strata: Mapping[str, int],
    slots_per_stratum: int,
    options: Mapping[str, object],
    seed: bytes | None,
    salt_key: bytes,
    factors: Sequence[str] = (),
    groups: Mapping[str, Sequence[Sequence[object]]] | None = None,
    further: bool = False,
) -> dict[str, object]:
    """Everything that draws the same list, and its salts, again after the trial (RND-14).

    `strata` gives the number of slots of each stratum, `slots_per_stratum` what was asked for; `options` are the
    method's, without a list that was handed in. `factors` are named where a method decides at each allocation, and
    `groups` where it does so within a group of a first stage: the arms and shares of each. `further` slots stand behind
    those of an earlier list.
    """
    return {
        "format": "equipoise-opened-plan-1",
        "study": study,
        "version": version,
        "method": method,
        "arms": [[code, share] for code, share in sorted(arms)],
        "strata": dict(sorted(strata.items())),
        "slots_per_stratum": slots_per_stratum,
        "options": dict(options),
        "seed": None if seed is None else seed.hex(),
        "salt_key": salt_key.hex(),
        **({"factors": list(factors)} if factors else {}),
        **({"groups": {code: [list(arm) for arm in arms] for code, arms in sorted(groups.items())}} if groups else {}),
        **({"further": True} if further else {}),
    }


def fingerprint(content: Mapping[str, object]) -> str:
    """SHA-256 of a document in its one form, as hex: what the log says of a certificate."""
    return hashlib.sha256(canonical(content)).hexdigest()


def closed(lines: Sequence[bytes], certificate: str | None) -> list[bytes]:
    """Lines of proofs, each with its end, and a last one, by which a file that is bent or cut is found.

    `proofs` in it is the SHA-256 of everything above it, without the end of the line before, and `certificate` that of
    the certificate in its one form; null for a list sealed before there were certificates.
    """
    of_certificate = certificate and hashlib.sha256(certificate.encode()).hexdigest()
    last = {"proofs": hashlib.sha256(b"\n".join(lines)).hexdigest(), "certificate": of_certificate}
    return [line + b"\n" for line in (*lines, canonical(last))]
