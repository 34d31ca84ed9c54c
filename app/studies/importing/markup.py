"""What does an XML file hold? A small tree of names, attributes and texts; no entity, no DTD, no network, no depth.

Of a file that may be large, what is not wanted is forgotten as it is read: what is kept is what has to be small.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from app.studies.importing.report import Failed

MOST_ELEMENTS = 400_000
MOST_KEPT = 20_000_000  # characters of names, attributes and texts
DEEPEST = 100
LONGEST_CDATA = 100_000  # characters
REDCAP = "https://projectredcap.org"
_OWN_SPACES = ("http://www.cdisc.org/ns/odm/", "")
_XML_SPACE = "http://www.w3.org/XML/1998/namespace"

_declaration = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")
_end_or_quote = re.compile(r"[>\"']")
# Tags of which no attribute goes over a line end, and the texts before them. What is taken is given back attribute by
# attribute at most: groups that give nothing back match wrongly in Python 3.11.2, which Debian 12 has.
_tags_without_lines = re.compile(r"""(?:[^<]*+<(?!!)[^<>"']*+(?:"[^"\r\n]*+"[^<>"']*+|'[^'\r\n]*+'[^<>"']*+)*>)+""")
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


def root_of(text: str) -> Node:
    """The tree of a text; `Failed` when it is no XML, or holds what no study needs."""
    _refuse_types(text)
    text = _declaration.sub("", text)
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


def with_lines(pieces: Iterable[str]) -> Iterator[str]:
    """A text that comes in pieces, with `&#10;` for line ends inside attributes, where REDCap writes them as they are.

    What stands in a CDATA section beyond `LONGEST_CDATA` characters is an attached file, and is left out.
    """
    lines = _Lines()
    for piece in pieces:
        yield lines.mended(piece)
    yield lines.rest


class _Lines:
    """Where in an XML file one is, from piece to piece: in a text, a tag, an attribute, a comment or CDATA."""

    def __init__(self) -> None:
        self.within = ""  # "": a text; "<": a tag; a quote: an attribute; else what ends a section that is no markup
        self.rest = ""  # what may be the beginning of something that ends in the next piece
        self.left = 0

    def mended(self, piece: str) -> str:
        text, self.rest = self.rest + piece, ""
        said: list[str] = []
        at = 0
        while at < len(text):
            at = self.step(text, at, said)
        return "".join(said)

    def step(self, text: str, at: int, said: list[str]) -> int:
        """Say what stands from here on, as far as it is of one kind; gives where the next begins."""
        if self.within == "":
            if run := _tags_without_lines.match(text, at):
                said.append(run[0])
                return run.end()
            return self.begun(text, at, said)
        if self.within == "<":
            found = _end_or_quote.search(text, at)
            if found is None:
                said.append(text[at:])
                return len(text)
            said.append(text[at : found.end()])
            self.within = "" if found[0] == ">" else found[0]
            return found.end()
        end = text.find(self.within, at)
        if len(self.within) == 1:
            last = len(text) if end < 0 else end
            if end < 0 and text.endswith("\r"):
                last, self.rest = last - 1, "\r"
            said.append(text[at:last].replace("\r\n", "&#10;").replace("\n", "&#10;"))
            if end < 0:
                return len(text)
            said.append(self.within)
            self.within = "<"
            return end + 1
        last = max(at, len(text) - len(self.within) + 1) if end < 0 else end
        if self.within == _END_OF_CDATA:
            said.append(text[at : min(last, at + self.left)])
            self.left = max(0, self.left - (last - at))
        if end < 0:
            self.rest = text[last:]
            return len(text)
        said.append(self.within if self.within == _END_OF_CDATA else "")
        self.within = ""
        return end + 3

    def begun(self, text: str, at: int, said: list[str]) -> int:
        """What begins with the next < in a text: it may be a section in which nothing is markup."""
        opens = text.find("<", at)
        if opens < 0 or len(text) - opens < len(_CDATA):
            said.append(text[at:] if opens < 0 else text[at:opens])
            self.rest = "" if opens < 0 else text[opens:]
            return len(text)
        said.append(text[at:opens])
        if text.startswith(_CDATA, opens):
            said.append(_CDATA)
            self.within, self.left = _END_OF_CDATA, LONGEST_CDATA
            return opens + len(_CDATA)
        if text.startswith("<!--", opens):
            self.within = "-->"
            return opens + 4
        said.append("<")
        self.within = "<"
        return opens + 1


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
