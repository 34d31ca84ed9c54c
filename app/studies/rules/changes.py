"""What does an amendment change? The old and the new version compared, part by part, in words."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from app.studies.definition import Study

# What a part is recognised by when it was moved, most telling first.
_NAMES = ("code", "arm", "number", "label", "title")
_LONGEST = 80


class Ours(str):
    """Words of ours in what is said of a definition: told in the reader's language, while all beside them stays.

    `scripts/sentences.py` finds them by this name.
    """

    __slots__ = ()


def told(parts: Iterable[str], tell: Callable[[str], str]) -> str:
    """Parts of a sentence in another language, which `tell` knows for those that are ours."""
    return "".join(tell(str(part)) if isinstance(part, Ours) else part for part in parts)


def diff(old: Study, new: Study) -> list[str]:
    """Every difference as one sentence, in the order of the definition; nothing when both say the same."""
    found = compared("", old.model_dump(mode="json"), new.model_dump(mode="json"))
    return [f"{where.removeprefix(', ')}: {what}" for where, what in found]


def compared(where: str, old: Any, new: Any) -> Iterator[tuple[str, Ours]]:
    """Every difference of plain data: where it is, as the end of a line that names what is compared; and what it is.

    >>> list(compared(" north", {"name": "North"}, {"name": "Far north"}))
    [(' north, name', 'was “North”, is now “Far north”.')]
    """
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from compared(f"{where}, {key}", old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and _parts(old) and _parts(new):
        yield from _compared_parts(where, old, new)
    else:
        yield where, became(old, new)


def became(old: Any, new: Any) -> Ours:
    """What a value was, and what it is now."""
    if _is_empty(old):
        return Ours(f"was empty, is now {shown(new)}.")
    if _is_empty(new):
        return Ours(f"was {shown(old)}, is now empty.")
    return Ours(f"was {shown(old)}, is now {shown(new)}.")


def _compared_parts(where: str, old: list[Any], new: list[Any]) -> Iterator[tuple[str, Ours]]:
    before, after = _named(old), _named(new)
    for name, part in before.items():
        if name not in after:
            yield f"{where} {name}", Ours("removed.")
        else:
            yield from compared(f"{where} {name}", part, after[name])
    yield from ((f"{where} {name}", Ours("added.")) for name in after if name not in before)
    kept_before = [name for name in before if name in after]
    kept_after = [name for name in after if name in before]
    if kept_before != kept_after:
        yield where, Ours(f"the order was {', '.join(kept_before)}, is now {', '.join(kept_after)}.")


def _parts(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _named(parts: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each part under the name it is recognised by; its position when it has none or shares it."""
    named: dict[str, dict[str, Any]] = {}
    for position, part in enumerate(parts, 1):
        if "version" in part and "language" in part:
            name = f"{part['version']} ({part['language']})"
        else:
            name = next((str(part[key]) for key in _NAMES if part.get(key)), str(position))
        named[name if name not in named else f"{name} (no. {position})"] = part
    return named


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [])


def shown(value: Any) -> str:
    """A value as it stands in a sentence: in quotes, but for yes and no, which are words of ours."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = " ".join(str(value).split())
    return f"“{text[: _LONGEST - 1]}…”" if len(text) > _LONGEST else f"“{text}”"
