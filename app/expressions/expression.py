"""What does this expression refer to, what is its value for a participant, and does it hold?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from app.expressions.compiling import Context, Run, answer, compiled
from app.expressions.functions import OF_MANY
from app.expressions.grammar import Tree, tree_of
from app.expressions.values import Value, truth


@dataclass(frozen=True, slots=True)
class Reference:
    """A field that an expression reads; event and instance None are the current ones, code is one choice of many."""

    event: str | None
    field: str
    code: str | None
    instance: str | None


class Expression:
    """A parsed expression: immutable, equal to another of the same text, safe to share between threads."""

    __slots__ = ("_run", "_tree", "references", "text")

    text: str
    references: frozenset[Reference]

    def __init__(self, text: str) -> None:
        self._tree: Tree = tree_of(text)
        self._run: Run = compiled(self._tree)
        self.text = text
        self.references = frozenset(_references(self._tree))

    @property
    def tree(self) -> list[Any]:
        """The tree as nested lists of JSON values (a fresh copy)."""
        return _listed(self._tree)

    @property
    def alone(self) -> frozenset[str]:
        """The fields it refers to as one value: elsewhere than as an argument of a function that takes many."""
        return frozenset(_alone(self._tree))

    def evaluate(self, context: Context) -> Value:
        """The value, None when blank; raises only what the context itself raises."""
        return answer(self._run, context)

    def holds(self, context: Context) -> bool | None:
        """Whether the condition is true; None when blanks leave it unknown."""
        return truth(self._run(context))

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Expression) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[Callable[[str], "Expression"], tuple[str]]:
        return parse, (self.text,)


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """The expression a text means; ExpressionError, with line and column, when it means none."""
    return Expression(text)


def _listed(tree: Tree) -> list[Any]:
    return [_listed(part) if isinstance(part, tuple) else part for part in tree]


def _alone(tree: Tree) -> Iterator[str]:
    many = tree[0] == "call" and tree[1] in OF_MANY
    if tree[0] == "reference":
        yield tree[2]
        return
    for part in tree:
        if isinstance(part, tuple) and not (many and part[0] == "reference"):
            yield from _alone(part)


def _references(tree: Tree) -> Iterator[Reference]:
    if tree[0] == "reference":
        yield Reference(*tree[1:])
        return
    for part in tree:
        if isinstance(part, tuple):
            yield from _references(part)
