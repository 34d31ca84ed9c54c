"""Where do the boxes of a flow diagram stand? Who goes on downwards, who leaves to the right; in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

LINE, PAD, BETWEEN = 18, 9, 14
LETTER, BOLD = 6.3, 7.2
"""The width of a letter on average, generously: the words of a picture are page type."""


@dataclass(frozen=True)
class Columns:
    """How wide the boxes are of those who go on and of those who leave, and the gap between them."""

    main: int
    gap: int
    side: int


WIDE, NARROW = Columns(264, 40, 276), Columns(168, 14, 180)
"""For a page, and for a telephone of 390 pixels."""


@dataclass(frozen=True)
class Part:
    """A box before it has a place: a heading, and lines below it."""

    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """Where people stand, and the boxes of those who leave on the way to the next step."""

    part: Part
    leaving: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Box:
    """A box with its place; `words` are (distance from its top, text, whether it is the heading)."""

    x: int
    y: int
    width: int
    height: int
    words: tuple[tuple[int, str, bool], ...]

    @property
    def middle(self) -> int:
        return self.y + self.height // 2


@dataclass(frozen=True)
class Drawn:
    """The whole diagram. `down` are arrows (from, to) along the middle of the left column, `out` the height of each
    arrow to a box at the right."""

    boxes: tuple[Box, ...]
    down: tuple[tuple[int, int], ...]
    out: tuple[int, ...]
    columns: Columns
    height: int

    @property
    def width(self) -> int:
        return self.side + self.columns.side

    @property
    def middle(self) -> int:
        """Where the arrows lead down."""
        return self.columns.main // 2

    @property
    def side(self) -> int:
        """Where the boxes at the right begin."""
        return self.columns.main + self.columns.gap


def drawn(steps: Sequence[Step], columns: Columns = WIDE) -> Drawn:
    """The steps below each other; between two of them whoever leaves, one below the other."""
    boxes: list[Box] = []
    down: list[tuple[int, int]] = []
    out: list[int] = []
    y, end = 1, 0  # where the next box begins, and the last one of the left column ended
    for number, step in enumerate(steps):
        if number:
            down.append((end, y))
        main = _box(step.part, 1, y, columns.main - 2)
        boxes.append(main)
        end = y = main.y + main.height
        for part in step.leaving:
            box = _box(part, columns.main + columns.gap, y + BETWEEN, columns.side - 1)
            boxes.append(box)
            out.append(box.middle)
            y = box.y + box.height
        y += BETWEEN if step.leaving else 2 * BETWEEN
    return Drawn(tuple(boxes), tuple(down), tuple(out), columns, y)


def _box(part: Part, x: int, y: int, width: int) -> Box:
    room = width - 2 * PAD
    letters = int(room / LETTER)
    words = [(line, True) for line in wrap(part.title, int(room / BOLD))]
    for text in part.lines:
        first, *rest = wrap(text, letters - 2) or [""]
        words += [(first, False), *((f"\u00a0\u00a0{line}", False) for line in rest)]
    placed = tuple((PAD + LINE * number + 13, text, bold) for number, (text, bold) in enumerate(words))
    return Box(x, y, width, 2 * PAD + LINE * len(words), placed)
