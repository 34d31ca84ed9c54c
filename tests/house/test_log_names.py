"""Has every value in the log a name in words? What stands in `old` and `new` is read off the calls that write it."""

import ast
from collections.abc import Iterator

from app.casebook.log import NAMES_OF
from tests.house.test_sources import sources

DEEPEST = 4  # from a variable to what was put into it, and on


def names_of(node: ast.expr, within: ast.AST, module: ast.Module, deep: int = 0) -> Iterator[str]:
    """The names in a value as far as they can be read: of a dict, of a variable, of what a function here returns."""
    if deep > DEEPEST:
        return
    also: list[tuple[ast.expr, ast.AST]] = []
    match node:
        case ast.Dict(keys=keys, values=values):
            yield from (str(key.value) for key in keys if isinstance(key, ast.Constant))
            also = [(value, within) for key, value in zip(keys, values, strict=True) if key is None]
        case ast.DictComp(key=ast.Name(), generators=[ast.comprehension(iter=ast.Tuple(elts=listed))]):
            yield from (str(each.value) for each in listed if isinstance(each, ast.Constant))
        case ast.BinOp(left=left, right=right) | ast.IfExp(body=left, orelse=right):
            also = [(left, within), (right, within)]
        case ast.Name(id=name):
            for each in ast.walk(within):
                match each:
                    case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                        also.append((value, within))
                    case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if found == name:
                        also.append((value, within))
                    case ast.AugAssign(target=ast.Name(id=found), value=value) if found == name:
                        also.append((value, within))
                    case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=found), slice=ast.Constant(value=key))]):
                        yield from [str(key)] if found == name else []
        case ast.Call(func=ast.Name(id=name)):
            called = [each for each in module.body if isinstance(each, ast.FunctionDef) and each.name == name]
            also = [
                (each.value, function)
                for function in called
                for each in ast.walk(function)
                if isinstance(each, ast.Return) and each.value is not None
            ]
    for value, place in also:
        yield from names_of(value, place, module, deep + 1)


def test_every_name_in_the_log_has_words() -> None:
    found: dict[str, str] = {}
    for path, text in sources().items():
        module = ast.parse(text)
        for function in ast.walk(module):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Change":
                    sides = [*call.args[4:6], *(each.value for each in call.keywords if each.arg in ("old", "new"))]
                    for side in sides:
                        found |= dict.fromkeys(names_of(side, function, module), path)
    assert len(found) > 100, "the calls are read"
    assert {"compared", "opens_on", "starts_at", "rows"} <= set(found), "each way of putting a value together"
    lacking = {name: path for name, path in found.items() if name not in NAMES_OF}
    assert not lacking, f"give each a name in app/casebook/log.py: {lacking}"
