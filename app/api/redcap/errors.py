"""What is said when a call cannot be answered? A message and a status, in the shape that the client asked for.

Clients compare many of these texts as they stand, so they are written here once.
"""

from collections.abc import Iterable

from fastapi.responses import Response

from app.api.redcap.answers import CONTENT_TYPES, Shape, json_text, xml_text
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Problem, Refused

NO_PERMISSION = "You do not have permissions to use the API"
NO_IMPORT = "You do not have API Import/Update privileges"
NO_EXPORT = "You do not have API Export privileges"
NO_DELETE = "You do not have Delete Record privileges"
NO_LOGGING = "You do not have Logging privileges"
NOT_IN_FORMAT = "The data is not in the specified format."
NO_FORMAT = (
    "The value you provided could not be validated because it does not follow the expected format. Please try again."
)
NO_REPEATING = (
    "You cannot export repeating instruments and events because the project does not contain any repeating "
    "instruments and events"
)


class Wrong(Exception):
    """A call that cannot be answered; `bare` texts go out without any wrapping."""

    def __init__(self, message: str, status: int = 400, *, bare: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.bare = bare


def not_valid(parameter: str) -> Wrong:
    """A parameter with a value that it cannot have."""
    return Wrong(f'The value of the parameter "{parameter}" is not valid')


def not_valid_values(parameter: str, values: Iterable[str]) -> Wrong:
    """Values of a list that are no names of anything here."""
    listed = ", ".join(f"'{shown(value)}'" for value in values)
    return Wrong(f'The following values in the parameter "{parameter}" are not valid: {listed}')


def no_record(record: str) -> Wrong:
    """A record that is not there, or not this person's to know."""
    return Wrong(f'The record "{shown(record)}" does not exist')


def wrong_of(problem: Problem) -> Wrong:
    """What a room said, as this door says it: everything is 400 but what this person may not do."""
    if isinstance(problem, NotAllowed):
        return Wrong(problem.reason, 403)
    if isinstance(problem, Invalid | Refused | Conflict):
        return Wrong(problem.reason)
    assert isinstance(problem, NotFound)
    return Wrong("There is no such record, event or file. Check the names that you sent.")


def shown(text: str, longest: int = 200) -> str:
    """What was sent, fit to stand in a message: on one line, and not too long."""
    kept = "".join(character if character.isprintable() else " " for character in text[: longest + 1])
    return kept if len(kept) <= longest else f"{kept[: longest - 1]}…"


def unreadable(message: str, status: int) -> Response:
    """The error of a body that was not read to its end, so that nobody knows what shape was asked for.

    JSON, since the clients that look at the status need no shape, and the one that does not asks for JSON mostly.
    """
    return error_response(Wrong(message, status), "json")


def error_response(wrong: Wrong, shape: Shape) -> Response:
    """The error in CSV, JSON or XML."""
    if wrong.bare:
        body = wrong.message
    elif shape == "csv":
        body = f"ERROR: {wrong.message}"
    elif shape == "json":
        body = json_text({"error": wrong.message})
    else:
        body = f'<?xml version="1.0" encoding="UTF-8" ?><hash><error>{xml_text(wrong.message)}</error></hash>'
    return Response(body.encode(), wrong.status, headers={"Content-Type": CONTENT_TYPES[shape]})
