"""What did somebody draw? Strokes, never a picture: read within limits, written in one way, shown as SVG.

A drawing is a JSON list of strokes; a stroke is a flat list of whole numbers x, y, x, y, ... on a sheet of 600 by 200.
"""

import json
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 600, 200
MOST_STROKES = 200
MOST_POINTS = 5000
LONGEST_TEXT = 50_000
LEAST_INK = 40
"""How long its strokes are together, at least: a slip of the finger is no signature."""


class NotDrawn(ValueError):
    """This text is no drawing that can be kept; its message says what to do next."""


def read_strokes(text: str) -> str:
    """The drawing in its one written form; NotDrawn when it is none, is too long, or leaves the sheet."""
    again = "This drawing cannot be kept. Clear it and draw it again."
    if len(text) > LONGEST_TEXT:
        raise NotDrawn(again)
    try:
        strokes = json.loads(text)
    except (ValueError, RecursionError):
        raise NotDrawn(again) from None
    if not isinstance(strokes, list) or not strokes or len(strokes) > MOST_STROKES:
        raise NotDrawn(again)
    points = 0
    ink = 0.0
    for stroke in strokes:
        if not isinstance(stroke, list) or not stroke or len(stroke) % 2:
            raise NotDrawn(again)
        if not all(type(number) is int for number in stroke):
            raise NotDrawn(again)
        path = list(zip(stroke[::2], stroke[1::2], strict=True))
        if not all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in path):
            raise NotDrawn(again)
        points += len(path)
        ink += sum(((c - a) ** 2 + (d - b) ** 2) ** 0.5 for (a, b), (c, d) in pairwise(path))
    if points > MOST_POINTS:
        raise NotDrawn(again)
    if ink < LEAST_INK:
        raise NotDrawn("This is too short for a signature. Draw it again, a little larger.")
    return json.dumps(strokes, separators=(",", ":"))


def drawing_svg(strokes: str, label: str, colour: str = "currentColor") -> str:
    """A drawing that `read_strokes` gave, as SVG."""
    paths = []
    for stroke in json.loads(strokes):
        x, y, *rest = stroke
        to = "".join(f"L{a} {b}" for a, b in zip(rest[::2], rest[1::2], strict=True)) or "h.1"
        paths.append(f"M{x} {y}{to}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="300" height="100" role="img" '
        f'aria-label="{escape(label)}"><path d="{"".join(paths)}" fill="none" stroke="{colour}" stroke-width="3" '
        'stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )


def name_svg(name: str, label: str, colour: str = "currentColor") -> str:
    """A name that was typed in place of a signature, as SVG."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="300" height="100" role="img" '
        f'aria-label="{escape(label)}"><text x="12" y="120" font-size="48" font-style="italic" font-family="serif" '
        f'fill="{colour}" textLength="{min(len(name) * 26, WIDTH - 24)}" lengthAdjust="spacingAndGlyphs">'
        f"{escape(name)}</text></svg>"
    )
