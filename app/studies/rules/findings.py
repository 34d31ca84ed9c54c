"""What is wrong with a study folder, and at which line?"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error keeps the study from being loaded; a warning is for a person to judge."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, order=True)
class Finding:
    """One thing to put right. Lines and columns count from 1; 0 means the file as a whole."""

    file: str
    line: int
    column: int
    message: str
    severity: Severity = Severity.ERROR

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        """The line a terminal shows, in the form editors can jump to."""
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message}"


@dataclass(frozen=True)
class Place:
    """Where something stands in the folder."""

    file: str
    line: int = 0
    column: int = 0


# The way from the study to one of its parts, e.g. ("instruments", 2, "sections", 0, "items", 4, "label").
Path = tuple[str | int, ...]
Locate = Callable[[Path], Place]


def nowhere(path: Path) -> Place:
    """The place of a part of a study that was not read from a folder: its path."""
    return Place(".".join(map(str, path)) or "study")
