"""Is every expression total, the same each time, and three-valued as Kleene says, whatever it is?"""

import json
from decimal import Decimal

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.expressions import Expression, ExpressionError, Missing, Reference, from_stored, parse
from app.expressions.functions import FUNCTIONS
from tests.expressions.records import Record

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FIELDS = ("a", "b", "c")

stored = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(max_size=12),
    st.sampled_from(["", "0", "1", "2026-03-02", "2026-03-02T14:30", "2024-02-29", "today", "now", "x", "-1.5"]),
    st.dates(),
    st.datetimes(),
    st.lists(st.sampled_from(["1", "2", "other"]), max_size=3),
    st.just({"missing": "UNK"}),
)
records = st.dictionaries(st.sampled_from(FIELDS), stored).map(Record)

leaves = st.one_of(
    st.sampled_from(["[a]", "[b]", "[c]", "[a(1)]", "''", "'today'", "'now'", "'d'", "'y'", "true", "false", "'ymd'"]),
    st.sampled_from(
        ["'2026-03-02'", "'2024-02-29'", "'abc'", "0", "1", "2.5", "9999999999999999999999999999", "0.001"]
    ),
    st.integers(0, 10**6).map(str),
)


@st.composite
def calls(draw, inner):
    name = draw(st.sampled_from(sorted(FUNCTIONS)))
    function = FUNCTIONS[name]
    most = function.least + 2 if function.most is None else function.most
    arguments = [draw(inner) for _ in range(draw(st.integers(function.least, most)))]
    if name == "datediff":
        arguments[2] = draw(st.sampled_from(["'y'", "'M'", "'d'", "[a]"]))
    return f"{name}({', '.join(arguments)})"


operators = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "^", "and", "or"])
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, operators, inner).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
        inner.map(lambda part: f"(-{part})"),
        inner.map(lambda part: f"(not {part})"),
        calls(inner),
    ),
    max_leaves=12,
)


@patient
@given(expressions, records)
def test_no_evaluation_raises_and_every_answer_is_a_value(text, record):
    expression = parse(text)
    value = expression.evaluate(record)
    assert value is None or from_stored(value) == value
    assert value != ""
    assert value != ()
    assert expression.holds(record) in (True, False, None)
    if isinstance(value, Decimal):
        assert value.is_finite()


@patient
@given(expressions, records)
def test_the_same_text_always_means_the_same(text, record):
    first, second = Expression(text), Expression(f" {text}\n# remark")
    assert first.tree == second.tree
    assert first.evaluate(record) == second.evaluate(record) == first.evaluate(record)
    assert json.loads(json.dumps(first.tree)) == first.tree


@patient
@given(expressions)
def test_the_references_are_the_fields_in_the_text(text):
    expected = {Reference(None, field, None, None) for field in FIELDS if f"[{field}]" in text}
    if "[a(1)]" in text:
        expected.add(Reference(None, "a", "1", None))
    assert parse(text).references == expected


@patient
@given(st.text(max_size=60) | st.text("[]()'\"+-*/^<>=!,. #ab1\n", max_size=60))
@example("[a](")
@example("'" * 3)
def test_any_text_is_parsed_or_refused(text):
    refused = None
    try:
        parse(text).evaluate(Record())
    except ExpressionError as error:
        refused = error
    if refused:
        assert refused.message.endswith(".")
        assert 1 <= refused.line <= text.count("\n") + 1
        assert 1 <= refused.column <= len(text) + 1


three = st.sampled_from([True, False, None])


@patient
@given(three, three)
def test_and_or_not_are_kleene(a, b):
    record = Record({"a": a, "b": b})

    def held(text):
        return parse(text).holds(record)

    assert held("[a] and [b]") is (False if False in (a, b) else None if None in (a, b) else True)
    assert held("[a] or [b]") is (True if True in (a, b) else None if None in (a, b) else False)
    assert held("not ([a] and [b])") is held("not [a] or not [b]")


@patient
@given(records)
def test_order_is_consistent(record):
    def held(text):
        return parse(text).holds(record)

    assert held("[a] < [b]") is held("[b] > [a]")
    assert held("[a] <= [b]") is held("not ([a] > [b])")
    assert held("[a] = [b]") is not held("[a] <> [b]")
    assert held("[a] = [b]") is held("[b] = [a]")


@patient
@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_decimal_arithmetic_is_exact(left, right, places):
    a, b = Decimal(left).scaleb(-places), Decimal(right).scaleb(-places)
    record = Record({"a": a, "b": b})
    assert parse("[a] + [b]").evaluate(record) == a + b
    assert parse("[a] * [b]").evaluate(record) == a * b
    assert parse("[a] - [b] = -([b] - [a])").evaluate(record) is True


@patient
@given(st.lists(st.one_of(st.none(), st.integers(0, 10), st.just(Missing("UNK"))), min_size=3, max_size=3))
def test_a_prorated_sum_is_the_sum_when_all_is_answered(answers):
    record = Record(dict(zip(FIELDS, answers, strict=True)))
    numbers = [answer for answer in answers if isinstance(answer, int)]
    assert parse("answered([a], [b], [c])").evaluate(record) == len(numbers)
    found = parse("prorated_sum(2, [a], [b], [c])").evaluate(record)
    if len(numbers) < 2:
        assert found is None
    else:
        assert found == Decimal(sum(numbers) * 3) / len(numbers)
