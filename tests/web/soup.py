"""A soup of a page that closes what it opens: the tree that Beautiful Soup makes of it, in a quarter of the time.

Thousands of pages are looked at as soups, and most of a look went into making one. Whatever is not as plain as our
pages are is left to Beautiful Soup itself; `test_soup.py` holds trees of both against each other.
"""

import re
from functools import cache, lru_cache
from html import unescape
from typing import Any
from unittest import mock

from bs4 import BeautifulSoup, Tag
from bs4.builder._htmlparser import HTMLParserTreeBuilder
from bs4.element import AttributeValueList, Comment, Doctype, NavigableString

TOKEN = re.compile(
    r"""([^<]*)<(?:
        (?P<open>[a-zA-Z][a-zA-Z0-9-]*) (?P<attributes>(?:\s+[^\s"'<>/=]+(?:=(?:"[^"]*"|'[^']*'))?)*) \s*(?P<closed>/?)>
        | /(?P<close>[a-zA-Z][a-zA-Z0-9-]*)>
        | !--(?P<comment>(?:(?!--).)*)-->
        | !DOCTYPE\ (?P<doctype>[a-z]+)>
    )""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)(?:=(?:"([^"]*)"|'([^']*)'))?""")
UNKNOWN = re.compile(r"&(?!(?:amp|lt|gt|quot|#(?:3[2-9]|[4-9]\d|1[01]\d|12[0-6]));)")
SPACES = re.compile(r"[ \n\t\f\r]*")
BUILDER = HTMLParserTreeBuilder()
RAW, KEPT = frozenset({"script", "style"}), BUILDER.preserve_whitespace_tags
STRINGS = BUILDER.string_containers


class _Otherwise(Exception):
    """Something that is left to Beautiful Soup."""


@cache
def _kind(name: str) -> dict[str, Any]:
    """What every tag of a name has."""
    made = dict(vars(Tag(BeautifulSoup("", "html.parser"), BUILDER, name)))
    for own in ("attrs", "contents", "parent", "previous_element", "previous_sibling"):
        del made[own]
    return made


@lru_cache(maxsize=100_000)
def _attributes(name: str, said: str) -> tuple[tuple[str, str | list[str]], ...]:
    found = {key.lower(): unescape(one or other) for key, one, other in ATTRIBUTE.findall(said)}
    return tuple(BUILDER._replace_cdata_list_attribute_values(name, found).items())


def _fill(root: BeautifulSoup, markup: str) -> None:
    """Put what a page says into the root of a tree."""
    into: Tag = root
    at, last, opened = 0, root._most_recent_element, list[Tag]()
    names: list[str] = [""]
    kept = strings = 0

    def add(node: Any, made: dict[str, Any]) -> None:
        nonlocal last
        siblings = into.contents
        made["parent"], made["previous_element"] = into, last
        made["previous_sibling"] = siblings[-1] if siblings else None
        node.__dict__ = made
        if last is not None:
            last.next_element = node
        if siblings:
            siblings[-1].next_sibling = node
        siblings.append(node)
        last = node

    def say(text: str) -> None:
        if UNKNOWN.search(text) and names[-1] not in RAW:
            raise _Otherwise
        text = text if names[-1] in RAW else unescape(text)
        if not kept and SPACES.fullmatch(text):
            text = "\n" if "\n" in text else " "
        kind: type[NavigableString] = NavigableString
        if strings:
            kind = STRINGS[next(name for name in reversed(names) if name in STRINGS)]
        add(str.__new__(kind, text), {"hidden": False, "next_element": None, "next_sibling": None})

    while found := TOKEN.match(markup, at):
        at = found.end()
        text, name, attributes, closed, close, comment, doctype = found.groups()
        if text:
            say(text)
        if close is not None:
            close = close.lower()
            if close != names[-1]:
                raise _Otherwise
            names.pop()
            into = opened.pop()
            kept -= close in KEPT
            strings -= close in STRINGS
        elif name is not None:
            name = name.lower()
            tag = Tag.__new__(Tag)
            made = {**_kind(name), "contents": [], "attrs": (attrs := BUILDER.attribute_dict_class())}
            for key, value in _attributes(name, attributes):
                dict.__setitem__(attrs, key, AttributeValueList(value) if isinstance(value, list) else value)
            add(tag, made)
            if name == "meta":
                BUILDER.set_up_substitutions(tag)
            if not closed and not made["can_be_empty_element"]:
                opened.append(into)
                into = tag
                names.append(name)
                kept += name in KEPT
                strings += name in STRINGS
        else:
            kind: Any = Comment if comment is not None else Doctype
            add(
                str.__new__(kind, comment if comment is not None else doctype),
                {"hidden": False, "next_element": None, "next_sibling": None},
            )
    if opened or "<" in markup[at:]:
        raise _Otherwise
    if at < len(markup):
        say(markup[at:])
    root._most_recent_element = last


SLOWLY = HTMLParserTreeBuilder.feed


def _feed(builder: HTMLParserTreeBuilder, markup: Any, *more: Any) -> None:
    root = builder.soup
    assert root is not None
    try:
        _fill(root, markup)
    except _Otherwise:
        root.reset()
        SLOWLY(builder, markup, *more)


def made_quickly() -> Any:
    """Soups are made so within."""
    return mock.patch.object(HTMLParserTreeBuilder, "feed", _feed)


def made_slowly() -> Any:
    """And so, by Beautiful Soup alone."""
    return mock.patch.object(HTMLParserTreeBuilder, "feed", SLOWLY)
