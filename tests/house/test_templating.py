"""A template that is made quick shows the same as one that is not."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import FileSystemLoader, nodes
from jinja2.filters import do_xmlattr
from jinja2.nodes import EvalContext
from markupsafe import Markup, escape

from app.rendering import TEMPLATES, templates
from app.templating import Quick, attributes, shown

SLOW = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, extensions=["jinja2.ext.i18n"])
VALUES = st.one_of(
    st.text(),
    st.text().map(Markup),
    st.integers(),
    st.booleans(),
    st.floats(),
    st.none(),
    st.dates(),
    st.text("&<>'\""),
)


@given(VALUES)
def test_a_value_is_shown_as_the_library_would_escape_it(value: object) -> None:
    assert str(shown(value)) == str(escape(value))


@given(st.dictionaries(st.text(), VALUES))
def test_attributes_are_those_of_the_filter_of_the_library(wanted: dict[str, object]) -> None:
    context = EvalContext(SLOW)
    try:
        right = do_xmlattr(context, wanted)
    except ValueError:
        with pytest.raises(ValueError, match="is not the name"):
            attributes(wanted)
    else:
        assert attributes(wanted) == right


def test_what_is_not_defined_is_no_attribute() -> None:
    assert attributes({"a": jinja2.Undefined(name="a"), "b": None, "c": "<"}) == Markup(' c="&lt;"')


def test_a_name_behind_a_dot_is_looked_up_as_the_template_engine_does() -> None:
    quick, slow = templates("en"), jinja2.Environment(undefined=jinja2.StrictUndefined)
    things: list[Any] = [{"kind": 1, "items": 2, "none": None}, {}, defaultdict(int), Path("a/b"), "text", None, [1]]
    for thing in things:
        for name in ("kind", "items", "get", "none", "name", "upper", "nothing"):
            found, wanted = quick.getattr(thing, name), slow.getattr(thing, name)
            assert type(found) is type(wanted), (thing, name)
            assert isinstance(found, jinja2.StrictUndefined) or found == wanted, (thing, name)


@jinja2.pass_context
def _where(context: jinja2.runtime.Context, name: str) -> object:
    return context.resolve(name)


@jinja2.pass_environment
def _which(environment: jinja2.Environment) -> bool:
    return environment.autoescape is True


@jinja2.pass_eval_context
def _escapes(context: EvalContext) -> bool:
    return context.autoescape


class Called:
    """Something that is called, and wants to know where."""

    @jinja2.pass_context
    def __call__(self, context: jinja2.runtime.Context) -> object:
        """What `x` is there."""
        return context.resolve("x")


def _ends() -> None:
    raise StopIteration


GIVEN: dict[str, Any] = {
    "x": "<b>",
    "safe": Markup("<i>"),
    "rows": [{"a": 1, "items": 2}, {"a": None}],
    "where": _where,
    "which": _which,
    "escapes": _escapes,
    "called": Called(),
    "ends": _ends,
    "join": ", ".join,
    "make": dict,
}


@pytest.mark.parametrize(
    "source",
    [
        "{{ x }} {{ safe }} {{ 1 }} {{ none }} {{ true }} {{ x ~ safe }} {{ x|upper }} {{ [x, safe] }}",
        "{% autoescape false %}{{ x }}{{ escapes() }}{% endautoescape %}{{ escapes() }}",
        "{% autoescape x == 1 %}{{ x }}{{ escapes() }}{% endautoescape %}",
        "{% for row in rows %}{{ row.a }}{{ row.b|default('-') }}{{ loop.index }}{% endfor %}",
        "{% for row in rows %}{% set n = row.a %}{{ where('n') }}{{ where('x') }}{% endfor %}",
        "{% set y = 5 %}{{ where('y') }}{{ where('x') }}{{ which() }}{{ called() }}{{ ends() is defined }}",
        "{% block one %}{% set z = 3 %}{{ where('z') }}{{ make(a=1, b=x) }}{{ join(['a', x]) }}{% endblock %}",
        "{% macro m(a, b='<') %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{{ escapes() }}{% endmacro %}"
        "{{ m(1) }}{{ m(x, safe, 3, c=4) }}{% autoescape false %}{{ m(x) }}{% endautoescape %}",
        "{% macro m(a) %}{{ caller(a) }}{% endmacro %}"
        "{% for r in rows %}{% call(v) m(r.a) %}{{ v }}{{ x }}{% endcall %}{% endfor %}",
        "{{ _('Not <here>') }}{{ _('%(n)s of 100%%', n=x) }}{{ _('50%% done') }}{% set _ = join %}{{ _(['a']) }}",
        "{{ {'class': x, 'hidden': none, 'n': 3}|xmlattr }}",
    ],
)
def test_a_template_shows_the_same(source: str) -> None:
    says = templates("de").globals["_"]
    quick, slow = _quick({"_": says}), SLOW.overlay()
    quick.filters["xmlattr"] = attributes
    slow.globals = {**SLOW.globals, "_": says}
    assert quick.from_string(source).render(GIVEN) == slow.from_string(source).render(GIVEN)


def _quick(known: dict[str, Any]) -> Quick:
    made = Quick(autoescape=True, undefined=jinja2.StrictUndefined, extensions=["jinja2.ext.i18n"])
    made.globals.update({name: answer for name, answer in known.items() if "." not in name}, language="of a test")
    made.known.update(known)
    return made


def test_what_is_known_is_asked_once_and_what_is_not_as_often_as_it_is_shown() -> None:
    asked: list[tuple[object, ...]] = []

    def says(*words: object, **named: object) -> Markup:
        asked.append((*words, *named.values()))
        return Markup("said")

    class Drawn:
        icon = staticmethod(says)

    environment = _quick({"_": says, "ui.icon": says})
    environment.globals["ui"] = environment.globals["other"] = Drawn()
    source = "{{ _('a') }}{{ ui.icon('b') }}{{ other.icon('c') }}{{ _(x) }}{{ ui.icon(*rows) }}{{ _('d', n=1) }}"
    template = environment.from_string(source)
    assert asked == [("a",), ("b",)]
    for _ in range(2):
        asked.clear()
        assert template.render(x="x", rows=["y"]) == "said" * 6
        assert asked == [("c",), ("x",), ("y",), ("d", 1)]


def test_the_pages_of_a_language_know_their_sentences_and_icons() -> None:
    known, asked = templates("de").known, templates("de").from_string("{{ _(text) }}")
    assert known["_"]("Visits") == asked.render(text="Visits") == "Visiten"
    assert "<svg" in known["ui.icon"]("check")
    assert {"_", "ui.icon"} == known.keys()


@pytest.mark.parametrize("name", templates().list_templates(extensions=["html", "txt"]))
def test_no_template_gives_another_meaning_to_what_is_known(name: str) -> None:
    source, _, _ = FileSystemLoader(TEMPLATES).get_source(SLOW, name)
    named = templates("en").parse(source).find_all(nodes.Name)
    assert not [each for each in named if each.ctx != "load" and each.name in {"_", "ui"}]
