"""What is wrong with a request over REST? One problem for each field, in our words: which, which rule, what to do."""

from collections.abc import Mapping
from typing import Any

from app.foundation.errors import FieldProblem

WHOLE = "{field} is a whole number, such as 3. Send one."
NUMBER = "{field} is a number, such as 2.5. Send one."
TRUTH = "{field} is true or false. Send one of them."
DAY = "{field} is a day, as YYYY-MM-DD. Send one."
INSTANT = "{field} is an instant with its time zone, such as 2026-03-15T09:30:00Z. Send one."
TEXT = "{field} is a text. Send one."
MANY = "{field} is a list. Send one."
OBJECT = "{field} is an object. Send one."
WORDS: Mapping[str, str] = {
    "missing": "{field} is missing. Send it.",
    "extra_forbidden": "There is no {field} here. Leave it out, or look up what this address takes.",
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), WHOLE),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number", "decimal_parsing", "decimal_type"), NUMBER),
    **dict.fromkeys(("bool_parsing", "bool_type"), TRUTH),
    **dict.fromkeys(("date_parsing", "date_type", "date_from_datetime_parsing"), DAY),
    **dict.fromkeys(
        (
            "datetime_parsing",
            "datetime_type",
            "datetime_from_date_parsing",
            "timezone_aware",
            "datetime_object_invalid",
        ),
        INSTANT,
    ),
    **dict.fromkeys(("string_type", "string_sub_type", "string_unicode"), TEXT),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), MANY),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "mapping_type"), OBJECT),
    "greater_than_equal": "{field} is at least {ge}. Send no less.",
    "greater_than": "{field} is more than {gt}. Send more.",
    "less_than_equal": "{field} is at most {le}. Send no more.",
    "less_than": "{field} is less than {lt}. Send less.",
    "string_too_short": "{field} has at least this many characters: {min_length}. Send a longer text.",
    "string_too_long": "{field} has at most this many characters: {max_length}. Send a shorter text.",
    "too_short": "{field} has at least this many parts: {min_length}. Send more.",
    "too_long": "{field} has at most this many parts: {max_length}. Send fewer.",
    "literal_error": "{field} is one of these: {expected}. Send one of them.",
    "enum": "{field} is one of these: {expected}. Send one of them.",
    "string_pattern_mismatch": "{field} is written as {pattern} says. Send it so.",
}
"""A rule of the library that reads requests -> what we say of it; places are the field, and what the rule knows."""
OURS = ("value_error", "assertion_error")
"""Rules of our own, with words of our own."""


def field_problem(error: Mapping[str, Any]) -> FieldProblem:
    """What is wrong with one field (`error` as pydantic tells it); of a body that is none at all, how to send one."""
    where, kind, words = error["loc"], error["type"], error["msg"]
    known = error.get("ctx", {})
    if kind == "json_invalid":
        why = known.get("error", words)
        words = f"The body is no JSON ({why}). Mend it at character {where[-1]}, and send it again in UTF-8."
        return FieldProblem("body", kind, words)
    if kind == "model_attributes_type" and tuple(where) == ("body",):
        return FieldProblem("body", kind, "Send the body as a JSON object, with Content-Type: application/json.")
    field = ".".join(map(str, where[1:])) or str(where[0])
    if kind in WORDS:
        said = {name: str(value).replace("'", "") for name, value in known.items()}
        return FieldProblem(field, kind, WORDS[kind].format(**{**said, "field": field}))
    words = str(known["error"]) if kind in OURS and "error" in known else words
    return FieldProblem(field, kind, f"{field}: {words.rstrip('.')}. Send it otherwise.")
