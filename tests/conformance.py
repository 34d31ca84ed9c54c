"""Where are the published schemas and test vectors? They are read where they lie and never copied into the project."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def conformance_folder() -> Path:
    """The folder `EQUIPOISE_CONFORMANCE` names, else `../shared/conformance` beside the repository.

    Where there is none the calling test is skipped with that reason; on CI (`CI=true`) it fails, so that a pipeline
    cannot pass by looking away.
    """
    named = os.environ.get("EQUIPOISE_CONFORMANCE")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "conformance"
    if folder.is_dir():
        return folder
    reason = f"There is no conformance folder at {folder}; set EQUIPOISE_CONFORMANCE to it."
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
