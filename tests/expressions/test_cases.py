"""Does every expression of the table have the value it says? (A browser's interpreter can read the same table.)"""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.expressions import from_stored, parse
from app.expressions.functions import FUNCTIONS
from tests.expressions.records import Record

TABLE = json.loads(Path(__file__).with_name("cases.json").read_text("utf-8"), parse_float=Decimal, parse_int=Decimal)


def named(case: dict[str, Any]) -> str:
    return f"{case['about']}: {case['expression']}".encode("ascii", "replace").decode()


@pytest.mark.parametrize("case", TABLE["cases"], ids=named)
def test_the_value_is_the_one_in_the_table(case):
    record = Record(case["values"], TABLE["today"], TABLE["now"])
    expected = from_stored(case["expected"])
    found = parse(case["expression"]).evaluate(record)
    assert found == expected
    assert type(found) is type(expected)


def test_the_table_has_every_function_and_no_case_twice():
    seen = {(case["expression"], repr(case["values"])) for case in TABLE["cases"]}
    assert len(seen) == len(TABLE["cases"]) >= 150
    trees = " ".join(json.dumps(parse(case["expression"]).tree) for case in TABLE["cases"])
    assert [name for name in FUNCTIONS if f'["call", "{name}",' not in trees] == []
