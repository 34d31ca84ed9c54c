"""How is one value of a YAML file changed so that everything around it stays: comments, order, how it is written?

The text is cut at the marks of its nodes. Whatever was cut is read again, and must say exactly what was wanted: where
an anchor, an alias or a way of writing makes that impossible, `CannotEdit` says so and the text stays.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import yaml

from app.studies.loading import read_yaml

REMOVED = object()
"""The value of a key that is to be taken out."""
Way = tuple[str | int, ...]
# A hundred times as fast as the one in Python: a page may change many values of a long file.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class CannotEdit(ValueError):
    """The change cannot be made in the text as it is written; the whole file could be written anew."""


def data_of(text: str) -> Any:
    """What a YAML text says, every plain value as its text; None when it cannot be read."""
    return _own(_kept(text)[0])


def _read(text: str) -> tuple[Any, bool]:
    """What a YAML text says, and whether all is well with it."""
    tree, findings = read_yaml(text, "")
    return None if tree is None else tree.value, tree is not None and not findings


# A page asks for what the same few files say once for each of its fields; a copy takes a thirtieth of reading them.
_kept = lru_cache(maxsize=32)(_read)


def with_value(data: Any, way: Way, value: Any) -> Any:
    """The data with a value at this place, or without what stands there."""
    new = _own(data)
    around = _at(new, way[:-1])
    key: Any = way[-1]
    if isinstance(around, dict):
        if value is REMOVED:
            around.pop(key, None)
        else:
            around[key] = value
    elif isinstance(around, list):
        if value is REMOVED:
            del around[key]
        elif key == len(around):
            around.append(value)
        else:
            around[key] = value
    else:
        raise CannotEdit
    return new


def with_inserted(data: Any, way: Way, value: Any) -> Any:
    """The data with one more entry of a list, at this place; what stands there and below moves on."""
    new = _own(data)
    around, place = _at(new, way[:-1]), way[-1]
    if not isinstance(around, list) or not isinstance(place, int) or not 0 <= place <= len(around):
        raise CannotEdit
    around.insert(place, value)
    return new


def moved(data: Any, way: Way, by: int) -> Any:
    """The data with one entry of a list exchanged for its neighbour."""
    new = _own(data)
    around, place = _at(new, way[:-1]), way[-1]
    if not isinstance(around, list) or not isinstance(place, int) or not 0 <= place + by < len(around):
        raise CannotEdit
    around[place], around[place + by] = around[place + by], around[place]
    return new


def _own(data: Any) -> Any:
    """A copy in which what an alias repeats stands for itself: a change of one is no change of the other."""
    if isinstance(data, dict):
        return {key: _own(each) for key, each in data.items()}
    return [_own(each) for each in data] if isinstance(data, list) else data


def _at(data: Any, way: Way) -> Any:
    for part in way:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError) as problem:
            raise CannotEdit from problem
    return data


def edited(text: str, way: Way, value: Any) -> str:
    """The text with a value at this place, or without what stands there; CannotEdit when it must be written anew."""
    wanted = with_value(_kept(text)[0], way, value)
    return _sure(wanted, lambda: _edited(text, way, value))


def inserted(text: str, way: Way, value: Any) -> str:
    """The text with one more entry of a list, at this place; CannotEdit when it must be written anew."""
    wanted = with_inserted(_kept(text)[0], way, value)
    return _sure(wanted, lambda: _inserted(text, way, value))


def exchanged(text: str, way: Way, by: int) -> str:
    """The text with one entry of a list exchanged for its neighbour, each with the comments above it."""
    wanted = moved(_kept(text)[0], way, by)
    return _sure(wanted, lambda: _exchanged(text, way, by))


def _sure(wanted: Any, make: Callable[[], str]) -> str:
    try:
        new = make()
    except (yaml.YAMLError, IndexError, KeyError) as problem:
        raise CannotEdit from problem
    said, is_well = _kept(new)
    if not is_well or said != wanted:
        raise CannotEdit
    return new


def inline(value: Any) -> str:
    """A value on one line, plain where plain says the same."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(each) for each in value) + "]"
    said = str(value)
    if said in _NULLS:
        return json.dumps(said)
    if (
        said == said.strip()
        and said.isprintable()
        and _read(f"[{said}]")[0] == [said]
        and _read(f"k: {said}")[0] == {"k": said}
    ):
        return said
    return json.dumps(said, ensure_ascii=False)


# Cutting


def _root(text: str) -> yaml.Node:
    root: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    if root is None or text.startswith("\ufeff"):
        raise CannotEdit
    return root


def _node(root: yaml.Node, way: Way) -> yaml.Node:
    for part in way:
        if isinstance(root, yaml.MappingNode):
            root = next(each for key, each in root.value if key.value == part)
        elif isinstance(root, yaml.SequenceNode) and isinstance(part, int):
            root = root.value[part]
        else:
            raise CannotEdit
    return root


def _end(node: yaml.Node) -> int:
    """Where what a node says ends, without the comments and blank lines that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    end: int = node.end_mark.index
    return end


def _edited(text: str, way: Way, value: Any) -> str:
    root = _root(text)
    around, key = _node(root, way[:-1]), way[-1]
    if isinstance(around, yaml.MappingNode):
        place = next((n for n, (name, _) in enumerate(around.value) if name.value == key), None)
        if value is REMOVED:
            return text if place is None else _without_key(text, around, place)
        if place is None:
            return _with_key(text, around, str(key), value)
        name, node = around.value[place]
        return _replaced(text, name, node, value)
    if not isinstance(around, yaml.SequenceNode) or not isinstance(key, int):
        raise CannotEdit
    if around.flow_style or not around.value:
        said = with_value(data_of(text), way, value)
        return _cut(text, around.start_mark.index, around.end_mark.index, inline(_at(said, way[:-1])))
    if key == len(around.value):
        indent = " " * around.start_mark.column
        return _after_line(text, _end(around.value[-1]), f"{indent}- {inline(value)}")
    begins, ends = _lines(text, around, key)
    if value is REMOVED:
        return text[:begins] + text[ends:]
    node = around.value[key]
    return _cut(text, node.start_mark.index, _end(node), inline(value))


def _inserted(text: str, way: Way, value: Any) -> str:
    around, place = _node(_root(text), way[:-1]), way[-1]
    if not isinstance(around, yaml.SequenceNode) or not isinstance(place, int):
        raise CannotEdit
    if around.flow_style or not around.value:
        said = with_inserted(data_of(text), way, value)
        return _cut(text, around.start_mark.index, around.end_mark.index, inline(_at(said, way[:-1])))
    line = f"{' ' * around.start_mark.column}- {inline(value)}"
    if place:
        return _after_line(text, _end(around.value[place - 1]), line)
    begins, _ = _lines(text, around, 0)
    return f"{text[:begins]}{line}\n{text[begins:]}"


def _cut(text: str, begins: int, ends: int, new: str) -> str:
    kept = text[begins:ends]
    return text[:begins] + new + kept[len(kept.rstrip()) :] + text[ends:]


def _replaced(text: str, name: yaml.Node, node: yaml.Node, value: Any) -> str:
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        begins = text.index(":", name.end_mark.index) + 1
        return _cut(text, begins, _end(node), f" {inline(value)}")
    if node.start_mark.line > name.end_mark.line or node.start_mark.index == node.end_mark.index:
        begins = text.index(":", name.end_mark.index) + 1
        return _cut(text, begins, max(begins, _end(node)), f" {inline(value)}")
    return _cut(text, node.start_mark.index, _end(node), inline(value))


def _with_key(text: str, around: yaml.MappingNode, key: str, value: Any) -> str:
    said = f"{key}: {inline(value)}"
    if not around.value:
        return _cut(text, around.start_mark.index, around.end_mark.index, f"{{{said}}}")
    last = _end(around.value[-1][1])
    if around.flow_style:
        return f"{text[:last]}, {said}{text[last:]}"
    return _after_line(text, last, " " * around.start_mark.column + said)


def _without_key(text: str, around: yaml.MappingNode, place: int) -> str:
    name, node = around.value[place]
    if around.flow_style:
        if place:
            return text[: _end(around.value[place - 1][1])] + text[_end(node) :]
        following = around.value[1][0].start_mark.index if len(around.value) > 1 else _end(node)
        return text[: name.start_mark.index] + text[following:]
    begins = text.rfind("\n", 0, name.start_mark.index) + 1
    if text[begins : name.start_mark.index].strip():  # behind the dash of a list
        if len(around.value) == 1:
            raise CannotEdit
        return text[: name.start_mark.index] + text[around.value[1][0].start_mark.index :]
    return text[:begins] + text[_line_end(text, _end(node)) :]


def _line_end(text: str, index: int) -> int:
    """Where the next line begins; a literal text ends there already."""
    if index and text[index - 1] == "\n":
        return index
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def _after_line(text: str, index: int, line: str) -> str:
    at = _line_end(text, index)
    before = text[:at] if text[:at].endswith("\n") else f"{text[:at]}\n"
    return f"{before}{line}\n{text[at:]}"


def _lines(text: str, around: yaml.SequenceNode, place: int) -> tuple[int, int]:
    """From where to where an entry of a list reaches: whole lines, with the comments straight above its dash."""
    node = around.value[place]
    begins = text.rfind("\n", 0, node.start_mark.index) + 1
    if text[begins : node.start_mark.index].strip() != "-":
        raise CannotEdit
    while begins:
        above = text.rfind("\n", 0, begins - 1) + 1
        line = text[above:begins]
        indent = len(line) - len(line.lstrip(" "))
        if not line.lstrip(" ").startswith("#") or indent != around.start_mark.column:
            break
        begins = above
    return begins, _line_end(text, _end(node))


def _exchanged(text: str, way: Way, by: int) -> str:
    around, place = _node(_root(text), way[:-1]), way[-1]
    if not isinstance(around, yaml.SequenceNode) or not isinstance(place, int):
        raise CannotEdit
    if around.flow_style:
        said = moved(data_of(text), way, by)
        return _cut(text, around.start_mark.index, around.end_mark.index, inline(_at(said, way[:-1])))
    first, second = sorted((place, place + by))
    (a, b), (c, d) = _lines(text, around, first), _lines(text, around, second)
    ended = text if text.endswith("\n") else f"{text}\n"
    d = min(d, len(ended)) if text.endswith("\n") else len(ended) if d == len(text) else d
    return ended[:a] + ended[c:d] + ended[b:c] + ended[a:b] + ended[d:]
