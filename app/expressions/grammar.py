"""How does the text of an expression become a tree, and what is said when it cannot?

A tree is nested tuples, each opening with the name of what it is:

    ("number", "1.5")  ("text", "abc")  ("boolean", True)  ("reference", event, field, code, instance)
    ("or", a, b, ...)  ("and", a, b, ...)  ("not", a)  ("compare", "<=", a, b)
    ("sum", a, ("+", b), ("-", c), ...)  ("product", a, ("*", b), ("/", c), ...)
    ("power", a, b, ...)  ("minus", a)  ("call", "round", a, ...)

Operators of one kind stand side by side, so that a sum of a hundred items is one level deep.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from app.expressions.functions import FUNCTIONS, UNITS

LONGEST = 4_000
DEEPEST = 50

Tree = tuple[Any, ...]

GRAMMAR = r"""
?start: any_of
?any_of: all_of (_OR all_of)*
?all_of: condition (_AND condition)*
?condition: comparison | _NOT condition -> negated
?comparison: sum (COMPARE sum)?
?sum: product ((PLUS | MINUS) product)*
?product: power ((TIMES | OVER) power)*
?power: signed (_POWER signed)*
?signed: atom | MINUS signed -> minus
?atom: NUMBER -> number
     | TEXT -> text
     | REFERENCE -> reference
     | TRUE -> boolean
     | FALSE -> boolean
     | call
     | "(" any_of ")" -> brackets
call: NAME "(" (any_of ("," any_of)*)? ")"

_OR.2: /or\b/i
_AND.2: /and\b/i
_NOT.2: /not\b/i
TRUE.2: /true\b/i
FALSE.2: /false\b/i
COMPARE: "<>" | "!=" | "<=" | ">=" | "=" | "<" | ">"
PLUS: "+"
MINUS: "-"
TIMES: "*"
OVER: "/"
_POWER: "^"
NUMBER: /[0-9]+(\.[0-9]+)?|\.[0-9]+/
TEXT: /'[^']*'|"[^"]*"/
REFERENCE: /\[[^\[\]]*\](\[[^\[\]]*\]){0,2}/
NAME: /[A-Za-z_][A-Za-z0-9_]*/
COMMENT.3: /(#|\/\/)[^\n]*/
SPACE: /[ \t\r\n\u00a0\ufeff]+/
%ignore COMMENT
%ignore SPACE
"""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_COMMENT = re.compile(r"(?:#|//)[^\n]*")
_PART = re.compile(r"\[([^\[\]]*)\]")
_EVENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*", re.ASCII).fullmatch
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)\s*(?:\(([^()\[\]]+)\))?((?::[A-Za-z0-9_-]+)*)", re.ASCII).fullmatch
_INSTANCE = re.compile(r"[0-9]{1,9}|(?:current|first|last|previous|next|new)-instance").fullmatch

_INSTEAD = {
    "&": "Write and instead of &.",
    "|": "Write or instead of |.",
    "!": "Write not (...) or <> instead of !.",
    "≤": "Write <= instead of ≤.",
    "≥": "Write >= instead of ≥.",
    "≠": "Write <> instead of ≠.",
    "×": "Write * instead of ×.",
    "÷": "Write / instead of ÷.",
    "−": "Write a plain minus sign (-) instead of −.",
    "‘": "Write straight quotes (') instead of ‘.",
    "’": "Write straight quotes (') instead of ’.",
    "“": 'Write straight quotes (") instead of “.',
    "”": 'Write straight quotes (") instead of ”.',
    "'": "Close the text with a second quote (').",
    '"': 'Close the text with a second quote (").',
    "[": "Close the field with a square bracket, as in [age].",
    "]": "Remove this ] or open the field with [.",
    ";": "Separate arguments with a comma instead of ;.",
}


class ExpressionError(ValueError):
    """What is wrong with the text of an expression, in one sentence that says what to do, and where."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message, line, column)
        self.message = message
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return f"{self.message} (line {self.line}, column {self.column})"


class _Part(NamedTuple):
    tree: Tree
    depth: int
    brackets: int
    line: int
    column: int


class _Builder(Transformer[Token, _Part]):
    """Called by the parser from the inside out, so that nothing here recurses."""

    def number(self, found: list[Token]) -> _Part:
        whole, _, rest = found[0].partition(".")
        if len(whole) > 28 or len(rest) > 27:
            raise _at(found[0], "Shorten this number to at most 28 digits before the point and 27 after it.")
        return _leaf(found[0], ("number", str(found[0])))

    def text(self, found: list[Token]) -> _Part:
        return _leaf(found[0], ("text", str(found[0][1:-1])))

    def boolean(self, found: list[Token]) -> _Part:
        return _leaf(found[0], ("boolean", found[0].lower() == "true"))

    def reference(self, found: list[Token]) -> _Part:
        return _leaf(found[0], _reference(found[0]))

    def any_of(self, parts: list[_Part]) -> _Part:
        return _branch(parts, ("or", *(part.tree for part in parts)))

    def all_of(self, parts: list[_Part]) -> _Part:
        return _branch(parts, ("and", *(part.tree for part in parts)))

    def negated(self, parts: list[_Part]) -> _Part:
        return _branch(parts, ("not", parts[0].tree))

    def comparison(self, found: list[Any]) -> _Part:
        left, operator, right = found
        name = "<>" if operator == "!=" else str(operator)
        return _branch([left, right], ("compare", name, left.tree, right.tree))

    def sum(self, found: list[Any]) -> _Part:
        return _chain("sum", found)

    def product(self, found: list[Any]) -> _Part:
        return _chain("product", found)

    def power(self, parts: list[_Part]) -> _Part:
        return _branch(parts, ("power", *(part.tree for part in parts)))

    def minus(self, found: list[Any]) -> _Part:
        return _branch(found[1:], ("minus", found[1].tree))

    def brackets(self, parts: list[_Part]) -> _Part:
        inner = parts[0]
        return _shallow(inner._replace(brackets=inner.brackets + 1))

    def call(self, found: list[Any]) -> _Part:
        token, parts = found[0], found[1:]
        name = token.lower()
        arguments = [part.tree for part in parts]
        _check_call(token, name, arguments)
        return _branch(parts or [_leaf(token, ())], ("call", name, *arguments))


def _at(token: Token, message: str) -> ExpressionError:
    return ExpressionError(message, token.line or 1, token.column or 1)


def _leaf(token: Token, tree: Tree) -> _Part:
    return _Part(tree, 1, 0, token.line or 1, token.column or 1)


def _branch(parts: list[_Part], tree: Tree) -> _Part:
    depth, brackets = max(part.depth for part in parts), max(part.brackets for part in parts)
    return _shallow(_Part(tree, depth + 1, brackets, parts[0].line, parts[0].column))


def _chain(name: str, found: list[Any]) -> _Part:
    pairs = [(str(sign), part.tree) for sign, part in zip(found[1::2], found[2::2], strict=True)]
    return _branch(found[::2], (name, found[0].tree, *pairs))


def _shallow(part: _Part) -> _Part:
    if part.depth > DEEPEST or part.brackets > DEEPEST:
        message = f"Split this expression: it is nested more than {DEEPEST} levels deep."
        raise ExpressionError(message, part.line, part.column)
    return part


def _check_call(token: Token, name: str, arguments: list[Tree]) -> None:
    function = FUNCTIONS.get(name)
    if function is None:
        close = get_close_matches(name, FUNCTIONS, n=1)
        hint = f"write {close[0]} if you meant that." if close else "choose one from the list of functions."
        raise _at(token, f"There is no function {_short(token)}; {hint}")
    count, least, most = len(arguments), function.least, function.most
    if count < least or (most is not None and count > most):
        wanted = f"{least} or more" if most is None else str(least) if most == least else f"{least} to {most}"
        raise _at(token, f"Give {name} {wanted} argument{'' if wanted == '1' else 's'}: it has {count}.")
    if name == "datediff" and arguments[2][0] == "text" and arguments[2][1] not in UNITS:
        raise _at(token, f"Give datediff one of these units as its third argument: {', '.join(UNITS)}.")


def _reference(token: Token) -> Tree:
    parts = [part.strip() for part in _PART.findall(token)]
    instance = parts.pop() if len(parts) > 1 and _INSTANCE(parts[-1]) else None
    event = parts.pop(0) if len(parts) == 2 else None
    found = _FIELD(parts[0]) if len(parts) == 1 else None
    blank_code = found is not None and found[2] is not None and not found[2].strip()
    if found is None or blank_code or (event is not None and not _EVENT(event)):
        raise _at(token, f"Write {_short(token)} as [field], [field(code)], [event][field] or [field][instance].")
    field, code, modifiers = found.groups()
    # :value asks for the stored value, which is what we read anyway; any other modifier stays part of the name.
    kept = "".join(f":{modifier}" for modifier in modifiers.split(":")[1:] if modifier != "value")
    return ("reference", event, field + kept, code and code.strip(), instance)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


@cache
def _parser() -> Callable[[str], _Part]:
    return Lark(GRAMMAR, parser="lalr", transformer=_Builder(), maybe_placeholders=False).parse  # type: ignore[return-value]


def tree_of(text: str) -> Tree:
    """The tree of an expression, or ExpressionError."""
    if len(text) > LONGEST:
        raise ExpressionError(f"Shorten this expression to {LONGEST:,} characters: it has {len(text):,}.")
    if found := _UNPRINTABLE.search(text):
        raise _position(text, found.start(), "Remove the control character here.")
    try:
        return _parser()(text).tree
    except UnexpectedCharacters as error:
        position = error.pos_in_stream or 0
        sign = text[position]
        raise _position(
            text, position, _INSTEAD.get(sign, f"Remove or replace {sign}: it means nothing here.")
        ) from None
    except UnexpectedToken as error:
        raise _unexpected(text, error) from None


def _unexpected(text: str, error: UnexpectedToken) -> ExpressionError:
    found, expected = error.token, error.expected
    if found.type == "$END":
        if not _COMMENT.sub("", text).strip():
            message = "Write a condition or a calculation: there is none."
        elif "RPAR" in expected:
            message = "Close the bracket that is still open with )."
        elif expected == {"LPAR"}:
            message = "Write a field in square brackets, as in [age]; a word alone means nothing."
        else:
            message = "Finish the expression: something is missing at its end."
        return _position(text, len(text), message)
    shown = _short(found)
    if expected == {"LPAR"}:
        message = f"Write a field in square brackets, as in [age], before {shown}; a word alone means nothing."
    elif found.type == "COMPARE" and text[found.start_pos - 1 : found.start_pos] in ("=", "<", ">"):
        message = "Write one comparison sign: =, <>, <, <=, > or >=."
    elif found.type == "COMPARE" and "NUMBER" not in expected:
        message = "Join two comparisons with and, or put the first in round brackets."
    elif found.type == "RPAR" and "NUMBER" not in expected:
        message = "Remove this ) or open a bracket before it."
    elif found.type == "COMMA" and "NUMBER" not in expected:
        message = "Remove this comma: commas stand between the arguments of a function only."
    elif "NUMBER" not in expected:
        message = f"Write an operator such as =, + or and before {shown}."
    else:
        message = f"Put a field, a number or a text before {shown}."
    return _at(found, message)


def _position(text: str, position: int, message: str) -> ExpressionError:
    before = text[:position]
    return ExpressionError(message, before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)
