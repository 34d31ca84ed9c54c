"""How is a session sealed? In one envelope of one size, because what was delivered tells the arm."""

import json
from collections.abc import Mapping
from typing import Any

from app.foundation.crypto.envelopes import open_sealed, seal
from app.foundation.crypto.keys import Keyring
from app.treatment.rules import CONTENT_SIZE, canonical


def seal_session(
    keys: Keyring,
    study_id: int,
    participant_id: int,
    visit: str,
    version: int,
    *,
    delivered: Mapping[str, object],
    why: str | None,
) -> bytes:
    """The envelope of one version of a session's record, bound to participant, visit and version."""
    return seal(
        _key(keys, study_id, participant_id),
        canonical(delivered, why),
        bound_to=_place(study_id, participant_id, visit, version),
        size=CONTENT_SIZE,
    )


def unseal_session(
    keys: Keyring, study_id: int, participant_id: int, visit: str, version: int, envelope: bytes
) -> tuple[dict[str, Any], str | None]:
    """What was delivered, and why it was corrected; `CannotOpen` when it is not intact or not in its place."""
    content = json.loads(
        open_sealed(
            _key(keys, study_id, participant_id), envelope, bound_to=_place(study_id, participant_id, visit, version)
        )
    )
    return content["delivered"], content["why"]


def _key(keys: Keyring, study_id: int, participant_id: int) -> bytes:
    return keys.derive(f"treatment|{study_id}|{participant_id}")


def _place(study_id: int, participant_id: int, visit: str, version: int) -> tuple[str | int, ...]:
    return ("treatment", study_id, participant_id, visit, version)
