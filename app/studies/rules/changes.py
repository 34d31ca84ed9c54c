"""What does an amendment change? The old and the new version compared, part by part, in words."""

from typing import Any

from app.studies.definition import Study

# What a part is recognised by when it was moved, most telling first.
_NAMES = ("code", "arm", "number", "label", "title")
_LONGEST = 80


def diff(old: Study, new: Study) -> list[str]:
    """Every difference as one sentence, in the order of the definition; nothing when both say the same."""
    return list(compared("", old.model_dump(mode="json"), new.model_dump(mode="json")))


def compared(where: str, old: Any, new: Any) -> list[str]:
    """Every difference of plain data as one sentence, which begins with where it is."""
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [line for key in keys for line in compared(_inside(where, key), old.get(key), new.get(key))]
    if isinstance(old, list) and isinstance(new, list) and _parts(old) and _parts(new):
        return _compared_parts(where, old, new)
    return [f"{where}: was {shown(old)}, is now {shown(new)}."]


def _compared_parts(where: str, old: list[Any], new: list[Any]) -> list[str]:
    before, after = _named(old), _named(new)
    lines = []
    for name, part in before.items():
        if name not in after:
            lines.append(f"{where} {name}: removed.")
        else:
            lines += compared(f"{where} {name}", part, after[name])
    lines += [f"{where} {name}: added." for name in after if name not in before]
    kept_before = [name for name in before if name in after]
    kept_after = [name for name in after if name in before]
    if kept_before != kept_after:
        lines.append(f"{where}: the order was {', '.join(kept_before)}, is now {', '.join(kept_after)}.")
    return lines


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


def _inside(where: str, key: str) -> str:
    return f"{where}, {key}" if where else key


def shown(value: Any) -> str:
    """A value as it stands in a sentence."""
    if value is None or value in ("", []):
        return "empty"
    text = value if isinstance(value, str) else str(value)
    text = " ".join(text.split())
    return f"“{text[: _LONGEST - 1]}…”" if len(text) > _LONGEST else f"“{text}”"
