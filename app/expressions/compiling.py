"""What does a tree mean? Each node becomes one closure that reads a context and answers a value."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from app.expressions.functions import FUNCTIONS, OF_MANY
from app.expressions.grammar import Tree
from app.expressions.values import (
    ONE,
    WIDE,
    ZERO,
    Column,
    Missing,
    Value,
    blank,
    clean,
    moment_of,
    number_of,
    order,
    result,
    same,
    text_of,
    truth,
)


class Context(Protocol):
    """What an expression may know: the recorded values, and the wall clock where the participant is."""

    @property
    def today(self) -> date: ...

    @property
    def now(self) -> datetime: ...

    def value(self, event: str | None, field: str, instance: str | None = None) -> Value:
        """The recorded value; event None is the current event, instance None the current one."""


Run = Callable[[Context], Value]

_CLOCKS = ("today", "now")


def compiled(tree: Tree) -> Run:
    return _COMPILERS[tree[0]](tree)


def _constant(value: Value) -> Run:
    return lambda context: value  # noqa: ARG005


def _number(tree: Tree) -> Run:
    return _constant(Decimal(tree[1]))


def _literal(tree: Tree) -> Run:
    return _constant(tree[1])


def _reference(tree: Tree) -> Run:
    _, event, field, code, instance = tree

    def read(context: Context) -> Value:
        value = context.value(event, field, instance)
        return None if isinstance(value, Column) else clean(value)

    def ticked(context: Context) -> Value:
        value = read(context)
        if isinstance(value, Missing):
            return value
        if isinstance(value, tuple):
            return ONE if code in value else ZERO
        return ONE if text_of(value) == code else ZERO

    return read if code is None else ticked


def _or(tree: Tree) -> Run:
    return _kleene(tree, True)


def _and(tree: Tree) -> Run:
    return _kleene(tree, False)


def _kleene(tree: Tree, deciding: bool) -> Run:
    """One operand that is `deciding` decides; else an unknown one leaves the whole unknown (Kleene)."""
    operands = [compiled(part) for part in tree[1:]]

    def decide(context: Context) -> Value:
        answer: bool | None = not deciding
        for operand in operands:
            known = truth(operand(context))
            if known is deciding:
                return deciding
            if known is None:
                answer = None
        return answer

    return decide


def _not(tree: Tree) -> Run:
    operand = compiled(tree[1])

    def negate(context: Context) -> Value:
        known = truth(operand(context))
        return None if known is None else not known

    return negate


def _compare(tree: Tree) -> Run:
    _, operator, first, second = tree
    left, right, test = compiled(first), compiled(second), _TESTS[operator]
    if _is_clock(second):
        return lambda context: test(value := left(context), _clock_beside(value, second[1], context))
    if _is_clock(first):
        return lambda context: test(_clock_beside(value := right(context), first[1], context), value)
    return lambda context: test(left(context), right(context))


def _is_clock(tree: Tree) -> bool:
    return tree[0] == "text" and tree[1] in _CLOCKS


def _clock_beside(value: Value, word: str, context: Context) -> Value:
    """The literal 'today' or 'now' is a date when it is compared with one, and a plain word otherwise."""
    return word if moment_of(value) is None else _clock(word, context)


def _clock(value: Value, context: Context) -> Value:
    if value == "today":
        return clean(context.today)
    return clean(context.now) if value == "now" else value


def _unequal(left: Value, right: Value) -> Value:
    return not same(left, right)


def _less(left: Value, right: Value) -> Value:
    found = order(left, right)
    return None if found is None else found < 0


def _at_most(left: Value, right: Value) -> Value:
    found = order(left, right)
    return None if found is None else found <= 0


def _greater(left: Value, right: Value) -> Value:
    return _less(right, left)


def _at_least(left: Value, right: Value) -> Value:
    return _at_most(right, left)


_TESTS: dict[str, Callable[[Value, Value], Value]] = {
    "=": same,
    "<>": _unequal,
    "<": _less,
    "<=": _at_most,
    ">": _greater,
    ">=": _at_least,
}
_ARITHMETIC = {"+": WIDE.add, "-": WIDE.subtract, "*": WIDE.multiply, "/": WIDE.divide}


def _chain(tree: Tree) -> Run:
    """Left to right; a blank or a text that is no number makes the whole blank, as does a result out of bounds."""
    first = compiled(tree[1])
    rest = [(_ARITHMETIC[sign], compiled(part)) for sign, part in tree[2:]]

    def compute(context: Context) -> Value:
        total = number_of(first(context))
        if total is None:
            return None
        for combine, part in rest:
            number = number_of(part(context))
            if number is None:
                return None
            total = combine(total, number)
        return result(total)

    return compute


def _power(tree: Tree) -> Run:
    """Right to left, as in mathematics."""
    parts = [compiled(part) for part in reversed(tree[1:])]

    def compute(context: Context) -> Value:
        total = number_of(parts[0](context))
        for part in parts[1:]:
            number = number_of(part(context))
            if number is None or total is None:
                return None
            total = number_of(result(WIDE.power(number, total)))
        return total

    return compute


def _minus(tree: Tree) -> Run:
    operand = compiled(tree[1])

    def compute(context: Context) -> Value:
        number = number_of(operand(context))
        return None if number is None else result(number.copy_negate())

    return compute


def _call(tree: Tree) -> Run:
    name = tree[1]
    function, arguments = FUNCTIONS[name], [compiled(part) for part in tree[2:]]
    if name == "if":
        return _if(*arguments)
    call, dates = function.call, function.dates
    if name in OF_MANY and any(part[0] == "reference" for part in tree[2:]):
        columns = [_of_rows(part) for part in tree[2:]]
        return lambda context: call(*[value for column in columns for value in column(context)])

    def compute(context: Context) -> Value:
        return call(*[argument(context) for argument in arguments])

    def compute_with_clock(context: Context) -> Value:
        values = [argument(context) for argument in arguments]
        for position in dates:
            values[position] = _clock(values[position], context)
        return call(*values)

    return compute_with_clock if dates else compute


def _of_rows(tree: Tree) -> Callable[[Context], Sequence[Value]]:
    """An argument of a function that takes many: of an item that is asked row by row the answers of all rows."""
    single = compiled(tree)
    if tree[0] != "reference" or tree[3] is not None:
        return lambda context: (single(context),)
    _, event, field, _, instance = tree

    def read(context: Context) -> Sequence[Value]:
        value = context.value(event, field, instance)
        return [clean(each) for each in value] if isinstance(value, Column) else (clean(value),)

    return read


def _if(condition: Run, when_true: Run, when_false: Run) -> Run:
    def choose(context: Context) -> Value:
        known = truth(condition(context))
        return None if known is None else when_true(context) if known else when_false(context)

    return choose


_COMPILERS: dict[str, Callable[[Tree], Run]] = {
    "number": _number,
    "text": _literal,
    "boolean": _literal,
    "reference": _reference,
    "or": _or,
    "and": _and,
    "not": _not,
    "compare": _compare,
    "sum": _chain,
    "product": _chain,
    "power": _power,
    "minus": _minus,
    "call": _call,
}


def answer(run: Run, context: Context) -> Value:
    """The value of a whole expression, where an empty text or an empty choice is None like any other blank."""
    value = run(context)
    return None if blank(value) and not isinstance(value, Missing) else value
