"""Which few things can go wrong, in the words of the trial? Doors turn each into a status."""

from collections.abc import Callable
from dataclasses import dataclass, replace


class Problem(Exception):
    """A refusal a person can act on. `subject` names what it is about, for the audit entry (never personal data)."""

    def __init__(self, reason: str, *, action: str = "", subject: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.action = action
        self.subject = subject
        self.recorded = False

    def told(self, tell: Callable[[str], str]) -> None:
        """From now on it says the same in the words of whoever reads; what is written down of it stands already."""
        self.reason = tell(self.reason)


class NotFound(Problem):
    """There is no such thing, or it is not this person's to know. 404."""

    def __init__(self, reason: str = "There is no such page.") -> None:
        super().__init__(reason)


class NotAllowed(Problem):
    """This person may not do this. 403."""


class Refused(Problem):
    """The state of the trial forbids it; the reason says what to do next. 409."""

    @property
    def said(self) -> tuple[str, ...]:
        """The reason in parts, where some are told in the reader's language and others stand so in a study."""
        return (self.reason,)


class RefusedInParts(Refused):
    """A refusal that is made of words of ours and of words of a study: each part is told by itself."""

    def __init__(self, said: tuple[str, ...], *, action: str = "", subject: str = "") -> None:
        super().__init__("".join(said), action=action, subject=subject)
        self._said = said

    @property
    def said(self) -> tuple[str, ...]:
        return self._said


class Conflict(Problem):
    """Somebody saved first; nothing was overwritten. 409, or 412 over REST."""

    def __init__(self, reason: str, *, current_version: int | None = None, action: str = "", subject: str = "") -> None:
        super().__init__(reason, action=action, subject=subject)
        self.current_version = current_version


@dataclass(frozen=True)
class FieldProblem:
    """One field that cannot be stored as typed: which, which rule, and what to do next."""

    field: str
    rule: str
    message: str


class Invalid(Problem):
    """What was typed cannot be stored as it is. 422, with one problem per field."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__(" ".join(problem.message for problem in problems))
        self.problems = problems

    def told(self, tell: Callable[[str], str]) -> None:
        super().told(tell)
        self.problems = [replace(each, message=tell(each.message)) for each in self.problems]
