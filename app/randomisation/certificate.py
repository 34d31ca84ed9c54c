"""What does a sealing certificate say? What was committed to, when, by whom, with which software; nothing of the order.

It is for the statistician's file: the number of slots in a stratum is not for people who enrol (CONC-4).
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from platform import python_version
from typing import Any

from app.randomisation import dynamic
from app.randomisation.methods import DECIDING, METHODS
from app.randomisation.models import AllocationSequence
from app.randomisation.sealing import new_salt_key
from app.randomisation.sequence import RECIPE
from app.studies.in_use import StudyInUse

FORMAT = "equipoise-sealing-certificate-1"
GENERATOR = "HMAC_DRBG with SHA-256, NIST SP 800-90A Rev. 1"
LIBRARIES = ("equipoise", "cryptography", "sqlalchemy", "fastapi")


def certificate_of(
    found: AllocationSequence,
    study: StudyInUse,
    slots_per_stratum: Mapping[str, int],
    *,
    signed_by: str,
    escrowed_to: str | None = None,
    further: bool = False,
) -> dict[str, Any]:
    """The certificate of a list that is being sealed, as JSON values; instants in UTC, hashes as hex.

    `escrowed_to` is the SHA-256 fingerprint of the public key its plan is encrypted to; certificates from before there
    was escrow do not have it. `further` slots stand behind those of an earlier list. The `salt` hides what the document
    says behind its hash, which everybody who reads the log may know: the length of a list could be found by trying.
    """
    assert found.sealed_at is not None
    definition = study.definition
    return {
        "format": FORMAT,
        "study": study.code,
        "title": definition.title,
        "protocol_version": definition.version,
        "key": found.key_fingerprint,
        "list_version": found.version,
        # A list of the first stage: what it gives are groups, within which arms are given later.
        **({"stage": found.stage} if found.stage else {}),
        **({"further": True} if further else {}),
        "method": found.method,
        "generator": GENERATOR if METHODS[found.method].uses_seed else None,
        # Of a method that decides at each allocation the rule and the seed are committed to, and no slots.
        "recipe": dynamic.RECIPE if found.method in DECIDING else RECIPE,
        # Shares alone, in the order of the arms' codes: no table of the sealed room names an arm in clear.
        "ratio": [arm.ratio for arm in sorted(definition.arms, key=lambda arm: arm.code)],
        "slots": found.slots,
        "strata": dict(sorted(slots_per_stratum.items())),
        "root": found.root,
        "plan_commitment": found.plan_commitment,
        "envelopes": found.digest,
        "drawn_at": found.drawn_at.isoformat(),
        "drawn_by": found.drawn_by,
        "sealed_at": found.sealed_at.isoformat(),
        "sealed_by": found.sealed_by,
        "signed_by": signed_by,
        "escrowed_to": escrowed_to,
        "salt": new_salt_key().hex(),
        "software": dict(_software()),
    }


@cache
def _software() -> dict[str, str]:
    """The versions in use; a process keeps to what it began with, and looking them up reads many folders."""
    return {"python": python_version(), **{name: version(name) for name in LIBRARIES}}
