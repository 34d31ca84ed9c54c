"""Which attributes and elements of an XML file did nobody ask for? They are reported by name, never passed over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.studies.importing.markup import Node
from app.studies.importing.report import Report


@dataclass
class Leftover:
    """One attribute or element of one kind of element: how often it stands there, first where, and saying what."""

    parent: str
    name: str
    line: int
    example: str
    count: int = 0


def leftovers(root: Node, known: Mapping[str, str]) -> Iterator[Leftover]:
    """What elements of these names hold beyond the words known of them, in the order in which it first comes up."""
    words = {tag: frozenset(listed.split()) for tag, listed in known.items()}
    found: dict[tuple[str, str], Leftover] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        waiting.extend(reversed(node.children))
        if node.tag not in words:
            continue
        held = [(name, value) for name, value in node.attributes.items() if value.strip()]
        held += [(f"<{child.tag}>", child.text.strip()) for child in node.children]
        for name, value in held:
            if name.strip("<>") not in words[node.tag]:
                new = Leftover(node.tag, name, node.line, value[:120])
                found.setdefault((node.tag, name), new).count += 1
    yield from found.values()


def report_leftovers(report: Report, root: Node, known: Mapping[str, str]) -> None:
    """A note for each kind of attribute or element that nobody asked for."""
    for each in leftovers(root, known):
        often = f", {each.count} times" if each.count > 1 else ""
        said = f" “{each.example}”" if each.example else ""
        report.lost(
            f"Line {each.line}, {each.parent}",
            f"{each.name.removeprefix('other:')}{said}{often}.",
            "Nothing, unless the study needs it.",
        )
