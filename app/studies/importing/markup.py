"""What does an XML file hold? A small tree of names, attributes and texts; no entity, no DTD, no network, no depth."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.studies.importing.report import Failed

MOST_ELEMENTS = 400_000
DEEPEST = 100
REDCAP = "https://projectredcap.org"
_OWN_SPACES = ("http://www.cdisc.org/ns/odm/", "")
_XML_SPACE = "http://www.w3.org/XML/1998/namespace"

_declaration = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")
_attribute = re.compile(r"=\s*\"[^\"<]*\"|=\s*'[^'<]*'")
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
    from lxml import etree

    if re.search(r"<!(?:DOCTYPE|ENTITY)", text):
        raise Failed(
            "The file declares a document type or entities, which no study definition needs and which can be misused. "
            "Take the <!DOCTYPE ...> out and try again."
        )
    text = _declaration.sub("", text)
    if keep_lines:
        text = _with_lines_but_in_cdata(text)
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever it says of itself: in another one a document type could hide from us
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        element = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        line = error.lineno or 1
        raise Failed(f"The file is not well-formed XML at line {line}: {_reason(error)}. Export it again.") from None
    return _tree(element)


def _reason(error: Exception) -> str:
    words = str(error).split(", line ")[0].strip()
    if "excessive depth" in words.lower() or "depth" in words.lower():
        return "elements are nested too deep"
    if "huge" in words.lower() or "too long" in words.lower():
        return "one value is longer than 10 MB"
    return words


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
            raise Failed(
                f"Elements are nested more than {DEEPEST} deep (line {node.line}). This is no study definition."
            )
        for child in here:
            if not isinstance(child.tag, str):
                continue
            count += 1
            if count > MOST_ELEMENTS:
                raise Failed(f"The file has more than {MOST_ELEMENTS:,} elements. Export the definition without data.")
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
