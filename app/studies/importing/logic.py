"""How is a condition or calculation of a source said here? With our names in their places; the grammar is the same."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from app.expressions import ExpressionError, parse

_token = re.compile(
    r"""(?P<text>'[^']*'|"[^"]*")|(?P<comment>(?:\#|//)[^\n]*)|(?P<ref>\[[^\[\]]*\](?:\[[^\[\]]*\]){0,2})"""
    r"""|(?P<op><>|!=|<=|>=|=|<|>)|(?P<number>-?[0-9]+(?:\.[0-9]+)?)|(?P<space>\s+)|(?P<rest>.)""",
    re.DOTALL,
)
_part = re.compile(r"\[([^\[\]]*)\]")
_instance = re.compile(r"[0-9]{1,9}|(?:current|first|last|previous|next|new)-instance").fullmatch
# Nothing is given back once it is taken: blanks that could belong to any of three places take the cube of their number.
_field = re.compile(r"([A-Za-z0-9_.-]++)\s*+(?:\(([^()\[\]]++)\)\s*+)?((?::[A-Za-z0-9_-]++)*)").fullmatch
_EQUAL = ("=", "<>", "!=")
_RELATIVE = frozenset({f"{which}-event-name" for which in ("first", "last", "previous", "next")} | {"event-name"})
# No field has a hyphen in its name.
_smart = re.compile(r"[a-z]+(?:-[a-z0-9]+)+").fullmatch


class Untranslatable(ValueError):
    """Why a condition or calculation cannot be said here."""


@dataclass(frozen=True)
class Target:
    """What a field of the source is here; `choices` are its codes there and here."""

    instrument: str
    item: str
    choices: Mapping[str, str] = field(default_factory=dict)

    @property
    def renamed(self) -> dict[str, str]:
        """The codes that are others here."""
        return {there: here for there, here in self.choices.items() if there != here}


@dataclass
class Names:
    """Fields and events of a source by the names they have there, and the visits of each instrument here."""

    fields: dict[str, Target] = field(default_factory=dict)
    events: dict[str, str] = field(default_factory=dict)
    visits: dict[str, list[str]] = field(default_factory=dict)


def translated(text: str, names: Names, instrument: str, *, placed: dict[str, str] | None = None) -> str:
    """The expression with the names of this study; `Untranslatable`, with the reason, when it cannot be read here.

    `placed` is told of each field of another form that names no event: what it is here, with the visit that is meant.
    """
    text = text.strip()
    tokens = [(str(found.lastgroup), found[0]) for found in _token.finditer(text)]
    said: list[str] = []
    for position, (kind, word) in enumerate(tokens):
        if kind == "ref":
            said.append(_reference(word, position, tokens, names, instrument, {} if placed is None else placed))
        elif kind in ("text", "number"):
            said.append(_literal(word, position, tokens, names))
        else:
            said.append(word)
    answer = "".join(said)
    try:
        parse(answer)
    except ExpressionError as error:
        raise Untranslatable(str(error)) from None
    return answer


@dataclass(frozen=True)
class _Parts:
    event: str | None
    name: str
    code: str | None
    modifiers: str
    instance: str | None


def _parts(word: str) -> _Parts | None:
    parts = [part.strip() for part in _part.findall(word)]
    instance = parts.pop() if len(parts) > 1 and _instance(parts[-1]) else None
    event = parts.pop(0) if len(parts) == 2 else None
    found = _field(parts[0]) if len(parts) == 1 else None
    if found is None:
        return None
    return _Parts(event, found[1], found[2] and found[2].strip(), found[3], instance)


def _target(parts: _Parts, names: Names) -> tuple[Target | None, str | None]:
    """The field that is meant, and its choice; `field___code`, as columns are called, is one too."""
    target = names.fields.get(parts.name) or names.fields.get(parts.name.lower())
    if target is not None:
        return target, parts.code
    name, separator, code = parts.name.partition("___")
    if separator and parts.code is None and name in names.fields:
        target = names.fields[name]
        known = {each.lower().replace("-", "_").replace(".", "_"): each for each in target.choices}
        return target, known.get(code.lower(), code)
    return None, parts.code


def _reference(
    word: str, position: int, tokens: list[tuple[str, str]], names: Names, instrument: str, placed: dict[str, str]
) -> str:
    parts = _parts(word)
    if parts is None:
        return word
    target, code = _target(parts, names)
    if target is None:
        if _smart(parts.name):
            raise Untranslatable(
                f"{word} is no field but a smart variable, which is known of no answer here; write what is meant"
            )
        if parts.name.endswith("_complete"):
            raise Untranslatable(f"{word} is whether a form is complete, which no rule knows here")
        return word
    if parts.modifiers not in ("", ":value"):
        raise Untranslatable(
            f"{word} asks for {parts.modifiers[1:]} of the field; only its value is known here: compare with a code"
        )
    if parts.event in _RELATIVE and parts.event not in names.events:
        raise Untranslatable(f"{word} is another visit wherever it is asked; write which is meant, by its code")
    event = None if parts.event is None else names.events.get(parts.event, parts.event)
    is_placed = event is None and target.instrument != instrument
    if is_placed:
        event = _visit_of(target, names, instrument, word)
    code = code if code is None else target.choices.get(code, code)
    choice = f"({code})" if code is not None else ""
    instance = f"[{parts.instance}]" if parts.instance is not None else ""
    said = f"{f'[{event}]' if event else ''}[{target.item}{choice}{parts.modifiers}]{instance}"
    if is_placed:
        placed[word] = said
    if code is None and target.renamed and _compared_with(position, tokens) is None:
        return _as_number(said, target)
    return said


def _visit_of(target: Target, names: Names, instrument: str, word: str) -> str:
    """The visit that is meant by a field of another form without one: the same visit, where there is only one."""
    there, here = names.visits.get(target.instrument, []), names.visits.get(instrument, [])
    if len(there) == 1:
        return there[0]
    if len(here) == 1 and here[0] in there:
        return here[0]
    raise Untranslatable(
        f"{word} is a field of another form, {target.instrument}, asked at several visits; write which is meant, "
        f"such as [{there[0] if there else 'visit'}][{target.item}]"
    )


def _beside(position: int, tokens: list[tuple[str, str]], step: int) -> int | None:
    at = position + step
    while 0 <= at < len(tokens) and tokens[at][0] in ("space", "comment"):
        at += step
    return at if 0 <= at < len(tokens) else None


def _compared_with(position: int, tokens: list[tuple[str, str]]) -> int | None:
    """Where the literal stands that this reference is set equal to, if any."""
    for step in (1, -1):
        sign = _beside(position, tokens, step)
        if sign is None or tokens[sign][1] not in _EQUAL:
            continue
        other = _beside(sign, tokens, step)
        if other is not None and tokens[other][0] in ("text", "number"):
            return other
    return None


def _literal(word: str, position: int, tokens: list[tuple[str, str]], names: Names) -> str:
    """A choice's code that is another here, where it is compared with that choice."""
    for step in (1, -1):
        sign = _beside(position, tokens, step)
        if sign is None or tokens[sign][1] not in _EQUAL:
            continue
        other = _beside(sign, tokens, step)
        if other is None or tokens[other][0] != "ref" or (parts := _parts(tokens[other][1])) is None:
            continue
        target, code = _target(parts, names)
        if target is None or code is not None or not target.renamed:
            continue
        plain = word[1:-1] if word[:1] in "'\"" else word
        for there, here in target.renamed.items():
            if there == plain or _same_number(there, plain):
                return f"'{here}'"
    return word


def _as_number(said: str, target: Target) -> str:
    """A choice whose code is a number that cannot be a code here, such as -1, counts as that number."""
    answer = said
    for there, here in target.renamed.items():
        if _number(there) is not None:
            answer = f"if({said} = '{here}', {there}, {answer})"
    return answer


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _same_number(one: str, other: str) -> bool:
    return _number(one) is not None and _number(one) == _number(other)
