"""What does an XML file hold? A small tree of names, attributes and texts; no entity, no DTD, no network, no depth.

Of a file that may be large, what is not wanted is forgotten as it is read: what is kept is what has to be small.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from app.studies.importing.report import Failed

MOST_ELEMENTS = 400_000
MOST_KEPT = 20_000_000  # characters of names, attributes and texts
DEEPEST = 100
REDCAP = "https://projectredcap.org"
_OWN_SPACES = ("http://www.cdisc.org/ns/odm/", "")
_XML_SPACE = "http://www.w3.org/XML/1998/namespace"

_declaration = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")
_attribute = re.compile(r"=\s*\"[^\"<]*\"|=\s*'[^'<]*'")
_LONGEST_DECLARATION = 1_000
_TOO_MANY = f"The file has more than {MOST_ELEMENTS:,} elements. Export the definition without data."
_CDATA, _END_OF_CDATA = "<![CDATA[", "]]>"


@dataclass
class Node:
    """One element. Names of ODM stand alone, those of REDCap as `redcap:Name`, others as `other:Name`."""

    tag: str
    line: int
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Node"] = field(default_factory=list)
    text: str = ""

    def get(self, name: str) -> str:
        """An attribute without surrounding space; '' when there is none."""
        return self.attributes.get(name, "").strip()

    def all(self, *tags: str) -> list["Node"]:
        """The children of these names, in order."""
        return [child for child in self.children if child.tag in tags]

    def first(self, *path: str) -> "Node | None":
        """The first child at the end of a path of names."""
        found: Node | None = self
        for tag in path:
            found = next((child for child in found.children if child.tag == tag), None) if found else None
        return found

    def within(self, tag: str) -> Iterator["Node"]:
        """Every element of this name, however deep, in order."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if node.tag == tag:
                yield node
            waiting.extend(reversed(node.children))


def root_of(text: str, *, keep_lines: bool) -> Node:
    """The tree of a text; `Failed` when it is no XML, or holds what no study needs.

    `keep_lines`: REDCap writes line ends inside attributes as they are, where XML asks for `&#10;`.
    """
    _refuse_types(text)
    text = _declaration.sub("", text)
    if keep_lines:
        text = _with_lines_but_in_cdata(text)
    return _tree(_parsed(lambda etree, options: etree.fromstring(text.encode(), etree.XMLParser(**options))))


def root_without(pieces: Iterator[str], *tags: str) -> Node:
    """The tree of a text that comes in pieces, without what stands in elements of these names; `Failed` likewise.

    Such elements are there, empty. The text may be of any length, as long as what is kept of it is not.
    """
    return _tree(_parsed(lambda etree, options: _kept(etree, options, _Pieces(pieces), frozenset(tags))))


def _refuse_types(text: str) -> None:
    if re.search(r"<!(?:DOCTYPE|ENTITY)", text):
        raise Failed(
            "The file declares a document type or entities, which no study definition needs and which can be misused. "
            "Take the <!DOCTYPE ...> out and try again."
        )


class _Pieces:
    """A text in pieces as a file of bytes, without its declaration; what declares types is refused before it is read.

    What is refused may begin in one piece and end in the next.
    """

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._last: str | None = None
        self._waiting = b""

    def read(self, size: int) -> bytes:
        while len(self._waiting) < size and (piece := next(self._pieces, None)) is not None:
            if self._last is None:
                while len(piece) < _LONGEST_DECLARATION and (more := next(self._pieces, None)) is not None:
                    piece += more
                _refuse_types(piece)
                piece = _declaration.sub("", piece)
            else:
                _refuse_types(self._last + piece)
            self._last = piece[-10:]
            self._waiting += piece.encode()
        given, self._waiting = self._waiting[:size], self._waiting[size:]
        return given


def _kept(etree: Any, options: dict[str, Any], source: _Pieces, tags: frozenset[str]) -> Any:
    """The root of what is read, once everything within elements of these names is forgotten."""
    depth, within, kept, size = 0, 0, 0, 0
    reading = etree.iterparse(source, events=("start", "end"), **options)
    for event, element in reading:
        if event == "start":
            depth += 1
            if depth > DEEPEST:
                raise Failed(_too_deep(element.sourceline or 0))
            if within:
                continue
            kept += 1
            size += sum(len(name) + len(value) for name, value in element.attrib.items())
            _refuse_more(kept, size)
            if etree.QName(element).localname in tags:
                within = depth
            continue
        depth -= 1
        if within:
            # Those before it, not itself: what follows is still to be read into its parent.
            element.clear()
            if depth >= within:
                while element.getprevious() is not None:
                    del element.getparent()[0]
            else:
                within = 0
            continue
        size += len(element.text or "")
        _refuse_more(kept, size)
    return reading.root


def _refuse_more(elements: int, size: int) -> None:
    if elements > MOST_ELEMENTS:
        raise Failed(_TOO_MANY)
    if size > MOST_KEPT:
        raise Failed(
            f"The definition itself is larger than {MOST_KEPT // 1_000_000} MB. Leave out what belongs to no form."
        )


def _parsed(parse: Callable[[Any, dict[str, Any]], Any]) -> Any:
    from lxml import etree

    options: dict[str, Any] = {
        "encoding": "utf-8",  # whatever it says of itself: in another one a document type could hide from us
        "resolve_entities": False,
        "no_network": True,
        "load_dtd": False,
        "dtd_validation": False,
        "huge_tree": False,
        "remove_comments": True,
        "remove_pis": True,
    }
    try:
        return parse(etree, options)
    except etree.XMLSyntaxError as error:
        line = error.lineno or 1
        raise Failed(f"The file is not well-formed XML at line {line}: {_reason(error)}. Export it again.") from None


def _reason(error: Exception) -> str:
    words = str(error).split(", line ")[0].strip()
    if "excessive depth" in words.lower() or "depth" in words.lower():
        return "elements are nested too deep"
    if "huge" in words.lower() or "too long" in words.lower():
        return "one value is longer than 10 MB"
    return words


def _too_deep(line: int) -> str:
    return f"Elements are nested more than {DEEPEST} deep (line {line}). This is no study definition."


def _with_lines(text: str) -> str:
    return _attribute.sub(lambda found: found[0].replace("\r\n", "&#10;").replace("\n", "&#10;"), text)


def _with_lines_but_in_cdata(text: str) -> str:
    """As `_with_lines`, section by section; each is looked for once, however many are begun and never ended."""
    said, at = [], 0
    while (begins := text.find(_CDATA, at)) >= 0 and (ends := text.find(_END_OF_CDATA, begins)) >= 0:
        said += [_with_lines(text[at:begins]), text[begins:ends]]
        at = ends
    return "".join([*said, _with_lines(text[at:])])


def _name(name: str) -> str:
    if not name.startswith("{"):
        return name
    space, _, local = name[1:].partition("}")
    if space == _XML_SPACE:
        return f"xml:{local}"
    if space.rstrip("/") == REDCAP:
        return f"redcap:{local}"
    return local if space.startswith(_OWN_SPACES[0]) else f"other:{local}"


def _tree(element: object) -> Node:
    from lxml import etree

    assert isinstance(element, etree._Element)
    root = _node(element)
    waiting = [(element, root, 1)]
    count = 0
    while waiting:
        here, node, depth = waiting.pop()
        if depth > DEEPEST:
            raise Failed(_too_deep(node.line))
        for child in here:
            if not isinstance(child.tag, str):
                continue
            count += 1
            if count > MOST_ELEMENTS:
                raise Failed(_TOO_MANY)
            made = _node(child)
            node.children.append(made)
            waiting.append((child, made, depth + 1))
    return root


def _node(element: object) -> Node:
    from lxml import etree

    assert isinstance(element, etree._Element)
    attributes = {_name(str(name)): str(value) for name, value in element.attrib.items()}
    return Node(
        _name(str(element.tag)),
        line if isinstance(line := element.sourceline, int) else 0,
        attributes,
        text="".join(_texts(element)),
    )


def _texts(element: object) -> Iterator[str]:
    """The text of an element itself, and what stands between its children (XHTML in a text is read elsewhere)."""
    from lxml import etree

    assert isinstance(element, etree._Element)
    if element.text:
        yield str(element.text)
    for child in element:
        if child.tail:
            yield str(child.tail)


def all_text(node: Node | None) -> str:
    """The text of an element and of everything in it."""
    if node is None:
        return ""
    return " ".join(part for part in (node.text.strip(), *(all_text(child) for child in node.children)) if part)
