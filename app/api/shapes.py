"""What do answers and questions look like over REST? The base of every body, and a page of anything."""

import json
import re
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

from fastapi import Path, Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from app.studies.definition import MOST_REPEATS

Item = TypeVar("Item")


class Body(BaseModel):
    """What a client sends: unknown keys are refused, so that nothing is lost by a misspelling (SEC-23)."""

    model_config = ConfigDict(extra="forbid")


class Reply(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(from_attributes=True, defer_build=True)  # built when somebody is first answered so


def example_of(shape: Any) -> Any:
    """An answer of this shape, from the examples its models give; None when one of them gives none.

    Nothing in an example of an answer is null: nulls are left out of the document, and the field would be lacking.
    """
    if get_origin(shape) is list:
        (item,) = get_args(shape)
        one = example_of(item)
        return None if one is None else [one]
    if not (isinstance(shape, type) and issubclass(shape, BaseModel)):
        return None
    extra: Any = shape.model_config.get("json_schema_extra")
    if isinstance(extra, dict):
        return extra["examples"][0] if "examples" in extra else extra.get("example")
    if issubclass(shape, PageOf):
        return {"items": example_of(shape.model_fields["items"].annotation), "next": A_CURSOR}
    return None


def _with_example(schema: dict[str, Any], shape: type[BaseModel]) -> None:
    """A page shows one of its rows."""
    schema["example"] = example_of(shape)


def file_contents(row: dict[str, str]) -> dict[str, Any]:
    """What the file of a table is, in each of its formats; `row` is one of its rows, cut short."""
    line = json.dumps(row, separators=(",", ":"))
    return {
        "text/csv": {
            "schema": {"type": "string"},
            "example": f"{','.join(row)}\r\n{','.join(row.values())}\r\n",
        },
        "application/json": {"schema": {"type": "array", "items": {"type": "object"}}, "example": [row]},
        "application/x-ndjson": {"schema": {"type": "string"}, "example": f"{line}\n"},
    }


A_CURSOR = "WzAsImNvZGUiLCJSLTAwNDIiLCJSLTAwNDIiXQ"


class PageOf(Reply, Generic[Item]):
    """One page. Follow `next` (a cursor for ?cursor=) until it is null."""

    model_config = ConfigDict(json_schema_extra=_with_example)

    items: list[Item]
    next: str | None = Field(default=None, examples=[A_CURSOR])


class ProblemReply(Reply):
    """What went wrong (RFC 9457). `current_version` stands there when somebody saved first.

    `errors` stands with 422, for each field: which `field`, which `rule`, and a `message` with what to do next.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Refused",
                "status": 409,
                "detail": "R-0042 is already randomised. Open the participant to see the allocation number.",
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str | None = None
    errors: list[dict[str, str]] | None = None
    current_version: int | None = None


def problem_of(description: str, **lists: type[BaseModel]) -> dict[str, Any]:
    """A problem as the OpenAPI document says it; `lists`: what it names beside the others, each a list of a shape."""
    schema = ProblemReply.model_json_schema()
    for name, shape in lists.items():
        schema["properties"][name] = {"type": "array", "items": shape.model_json_schema()}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: problem_of("The body cannot be read."),
    401: problem_of("No valid bearer token for this study."),
    403: problem_of("This person, or this token, may not do this."),
    404: problem_of("There is no such thing, or it is not this person's to know."),
    409: problem_of("The state of the trial forbids it, or somebody saved first; `detail` says what to do."),
    412: problem_of("`If-Match` names something that has changed meanwhile."),
    429: problem_of("This token asks more often than it may; `Retry-After` says in how many seconds it may again."),
    413: {"description": "The body is larger than can be sent at once."},
    422: problem_of("What was sent is not valid; `errors` names each field and rule."),
}

KEPT = r"^[^\x00]*$"
"""What every text that is sent keeps to: no NUL, which not every database takes; nor half of a character, which JSON
may say and no encoding has: a pattern is looked for in whole text alone."""


def _written_out(said: object) -> object:
    """A number would be understood as seconds since 1970, or as a thousand times as many."""
    if isinstance(said, int | float) or (isinstance(said, str) and re.fullmatch(r"\s*[+-]?[\d.]+\s*", said)):
        raise ValueError("send an instant with its time zone, such as 2026-03-15T09:30:00Z, and no count of seconds")
    return said


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out)]
"""An instant as it is sent: written out, with its offset from UTC."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000, pattern=KEPT)]
Code = Annotated[str, StringConstraints(strip_whitespace=True, max_length=80, pattern=KEPT)]
Version = Annotated[int, Field(ge=0, lt=2**31 - 1)]  # the next one still has to fit its column
Number = Annotated[int, Path(ge=0, lt=2**31)]
Cursor = Annotated[str | None, Query(max_length=500, description="The `next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=500, description="Rows of a page.")]
Repeat = Annotated[int, Query(ge=1, le=MOST_REPEATS, description="The how-manieth time the form is filled in.")]
# Never trimmed: a password may begin or end with a space.
Password = Annotated[
    str | None,
    Field(
        max_length=1024,
        pattern=KEPT,
        description="The acting person's own password: a signature needs it beside the token.",
    ),
]
OneTimeCode = Annotated[
    str | None,
    Field(
        max_length=40,
        pattern=KEPT,
        description="Of the authenticator app: needed from whoever has a second factor. Passkeys work on pages alone.",
    ),
]
Values = dict[Code, Any]
