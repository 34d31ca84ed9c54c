"""How is a template made quick? What is the same on every page is made up when the template is read.

By itself Jinja asks for a translation as often as it is shown, which a page does two hundred times; asks of every call
whether it wants to know where it is called; and makes an object of each text that it escapes (decision 0036).
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

from jinja2 import Environment, Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context, Macro
from jinja2.visitor import NodeTransformer
from markupsafe import Markup, escape

OF_EVERY_DICT = frozenset(dir(dict))
_NOTHING: Final = object()
_FUNCTIONS = frozenset({FunctionType, BuiltinFunctionType, MethodType})
_SAYS_WHAT_IT_WANTS = "jinja_pass_arg"


def shown(value: object) -> str:
    """The text of a value as it stands on a page: escaped, unless it is markup or cannot hold anything to escape."""
    if type(value) is str:
        if "&" in value or "<" in value or ">" in value or '"' in value or "'" in value:
            return escape(value)
        return value
    if type(value) is Markup:
        return value
    return str(value) if type(value) is int else escape(value)


def attributes(given: Mapping[str, Any]) -> Markup:
    """` name="value"` for each that has a value; what the filter `xmlattr` gives. ValueError for what is no name."""
    said = [
        f' {_name(name)}="{shown(value)}"'
        for name, value in given.items()
        if value is not None and not isinstance(value, Undefined)
    ]
    return Markup("".join(said))  # noqa: S704


@lru_cache(maxsize=1024)
def _name(name: str) -> str:
    if _NO_NAME.search(name):
        raise ValueError(f"{name!r} is not the name of an attribute.")
    return str(escape(name))


_NO_NAME = re.compile(r"[\s/>=]", re.ASCII)


class Called(Context):
    """Calls plain functions and macros at once; they ask nothing of the context, or only whether to escape."""

    def call(__self, __called: Any, *arguments: Any, **named: Any) -> Any:  # noqa: N805
        """What a call in a template gives, as Jinja has it."""
        kind = type(__called)
        if kind is Macro:
            arguments = (__self.eval_ctx, *arguments)
        elif kind not in _FUNCTIONS or hasattr(__called, _SAYS_WHAT_IT_WANTS):
            return super().call(__called, *arguments, **named)
        named.pop("_block_vars", None)
        named.pop("_loop_vars", None)
        try:
            return __called(*arguments, **named)
        except StopIteration:
            return __self.environment.undefined("what was called has nothing more to give")


class Generator(CodeGenerator):
    """Writes what a template becomes in Python: what is shown goes through `shown`."""

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if frame.eval_ctx.volatile or not frame.eval_ctx.autoescape or finalize.src is not None:
            super()._output_child_pre(node, frame, finalize)
        else:
            self.write("environment.shown(")


class Known(NodeTransformer):
    """Puts the answer in the place of a call that has the same one on every page."""

    def __init__(self, answers: "Answers") -> None:
        self._answers = answers

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        """A call of these, by name and with plain values alone, as its answer."""
        self.generic_visit(node)
        answer = self._answers.get(_named(node.node))
        values = [each.value for each in node.args if isinstance(each, nodes.Const)]
        is_plain = len(values) == len(node.args) and not node.kwargs and node.dyn_args is None
        if answer is None or not is_plain or node.dyn_kwargs is not None:
            return node
        return nodes.Const(answer(*values), lineno=node.lineno)


Answers = dict[str, Callable[..., Markup]]


def _named(called: nodes.Expr) -> str:
    """`icon` or `ui.icon` of what is called by such a name; else empty."""
    if isinstance(called, nodes.Getattr) and isinstance(called.node, nodes.Name):
        return f"{called.node.name}.{called.attr}"
    return called.name if isinstance(called, nodes.Name) else ""


class Quick(Environment):
    """An environment whose `known` calls are answered when a template is read."""

    code_generator_class = Generator
    context_class = Called
    shown = staticmethod(shown)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.known: Answers = {}
        """What is called, and who answers: functions of nothing but what stands in the template."""

    def _generate(self, source: nodes.Template, *names: Any, **options: Any) -> str:
        return super()._generate(Known(self.known).visit(source), *names, **options)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """What stands behind a dot, as Jinja finds it; of a dict, which four of ten are, without a detour."""
        if type(obj) is dict and attribute not in OF_EVERY_DICT:
            found = obj.get(attribute, _NOTHING)
            return self.undefined(obj=obj, name=attribute) if found is _NOTHING else found
        try:
            return getattr(obj, attribute)
        except AttributeError:
            return super().getattr(obj, attribute)
