"""What may be shared, and with whom? Names, kinds and sizes; and who sees a folder. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.participants.rules.files import kind_of, why_not_kept
from app.studies.definition import LARGEST_FILE_MB, FileKind, Study
from app.studies.rules import names_an_arm

LONGEST_NAME = 150
MOST_FOLDERS = 1000
MOST_FILES = 1000
"""As many files stand in one folder at most, so that a list of them stays a list."""
KINDS = tuple(FileKind)
NOTHING = b"\n"
"""What an empty file is taken for: programs begin a file so, and nobody is asked for what it does not say."""


@dataclass(frozen=True)
class Folder:
    """A folder as far as it matters who sees it. `is_unblinded`: made by somebody who may know an arm."""

    id: int
    parent_id: int | None
    name: str
    site_id: int | None
    role: str | None
    is_unblinded: bool


@dataclass(frozen=True)
class Seeing:
    """Who looks: their sites (None: every site), their roles, and whether they must not learn an arm."""

    sites: frozenset[int] | None
    roles: frozenset[str]
    is_blinded: bool


def is_seen(folder: Folder, by: Seeing) -> bool:
    """Whether this person sees a folder, were it at the top.

    What somebody puts there who may know an arm is never shown to a blinded person: nobody can tell what it says.
    """
    at_site = folder.site_id is None or by.sites is None or folder.site_id in by.sites
    in_role = folder.role is None or folder.role in by.roles
    return at_site and in_role and not (folder.is_unblinded and by.is_blinded)


def seen(folders: Mapping[int, Folder], by: Seeing) -> dict[int, Folder]:
    """The folders that this person sees: each with every folder that it stands in."""
    found: dict[int, Folder] = {}
    for number in sorted(folders):  # a folder is made after the one it stands in
        folder = folders[number]
        if (folder.parent_id is None or folder.parent_id in found) and is_seen(folder, by):
            found[number] = folder
    return found


def why_not_name(study: Study, name: str, *, is_unblinded: bool) -> str | None:
    """Why a folder or a file cannot be called this, or None."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        return f"Give it a name of at most {LONGEST_NAME} characters, on one line."
    if not is_unblinded and study.is_allocated and study.blinded and names_an_arm(study, name):
        return "Blinded people read this name, and it may tell an arm. Call it something else."
    return None


def kind(data: bytes, name: str) -> FileKind | None:
    """What a file is by its content, or None when it is nothing that is shared; with nothing in it, it is text."""
    return kind_of(data or NOTHING, name)


def why_not_file(data: bytes, name: str) -> str | None:
    """Why this file cannot be shared, or None: told by its content."""
    reason = why_not_kept(data or NOTHING, name, KINDS, LARGEST_FILE_MB)
    return None if reason is None else reason[0].upper() + reason[1:]
