"""Is a file that is made a thousand entries at a time the same, byte for byte, as one that is made cell by cell?"""

import gc
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session

from app.exports import batches, reads, tables
from app.exports.batches import Batched, Long, Wide
from app.exports.formats import Format, encoded, parquet, text
from app.exports.tables import Table
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.exports.test_formats import HOSTILE
from tests.exports.world import entry, participant
from tests.factories import MINI, NOW, definition, mini_study, person

QUICK = ("entries", "instrument_pain", "instrument_disability", "instrument_fall")
AWKWARD: list[dict[str, Any]] = [
    {},
    {"pain_nrs": 7, "pain_days": 3, "pain_where": ["back", "leg"], "pain_note": "plain"},
    {"pain_note": "in front", "pain_nrs": 1},
    {"pain_nrs": {"missing": "UNK"}, "pain_days": {"missing": "ND"}, "pain_note": "two reasons, and a comma"},
    {"pain_where": {"missing": "ND"}, "pain_nrs": 2},
    {"pain_where": [], "pain_nrs": 2},
    {"pain_where": "back"},
    {"pain_where": ["leg", "elsewhere"]},
    {"pain_nrs": None, "pain_note": None},
    {"pain_nrs": True, "pain_note": False},
    {"pain_nrs": "seven, or so", "pain_note": 'said "so"'},
    {"pain_nrs": ["1", "2"], "pain_note": ["a,b", "c"]},
    {"pain_nrs": 12.5, "pain_days": 1e22, "pain_note": 0.1 + 0.2},
    {"pain_nrs": 2**70, "pain_days": -(2**70), "pain_note": "e+"},
    {"pain_nrs": 1e-7, "pain_days": -0.0, "pain_note": "None, True, [x] and {y}"},
    {"pain_note": {"file": "ab", "name": "a,b.pdf", "size": 3}},
    {"pain_nrs": {"missing": "UNK", "besides": 1}},
    {"unheard_of": "an item of no version", "pain_nrs": 3},
    {"pain_note": "100 % of %s", "pain_nrs": 5},
    *({"pain_nrs": 5, "pain_note": said} for said in HOSTILE),
]


@pytest.fixture
def study(session: Session) -> StudyInUse:
    instruments = json.loads(json.dumps(MINI["instruments"]))
    fall = json.loads(json.dumps(instruments[1]))
    fall |= {"code": "fall", "label": "Falls", "repeats": True}
    fall["sections"][0]["items"] += [{"code": "hurt", "label": "Hurt", "type": "yes_no"}]
    visits = json.loads(json.dumps(definition().model_dump(mode="json")["visits"]))
    visits[0]["instruments"] = [*visits[0]["instruments"], "fall"]
    return mini_study(session, instruments=[*instruments, fall], visits=visits)


@pytest.fixture
def manager(session: Session, study: StudyInUse) -> Actor:
    return person(session, study, "data_manager")


def one_by_one(table: Table) -> Table:
    """The same table, whose rows come one by one alone."""
    again = table.reopened
    assert again is not None
    return replace(table, rows=(row for row in table.rows), reopened=lambda: one_by_one(again()))


def both(session: Session, study: StudyInUse, name: str, by: Actor, as_: Format) -> tuple[bytes, bytes]:
    opened = reads.open_export(session, study, name, by=by)
    assert isinstance(opened.rows, Batched), name
    found = []
    for table in (opened, one_by_one(opened.again())):
        try:
            found.append(b"".join(encoded(table, as_)))
        except UnicodeEncodeError:  # half a surrogate pair has no bytes
            found.append(b"")
    return found[0], found[1]


def filled(session: Session, study: StudyInUse, values: list[dict[str, Any]]) -> None:
    for number, found in enumerate(values, start=1):
        row = participant(session, study, number, site_code="north" if number % 3 else "south")
        for place, visit in enumerate(("week18", "baseline", "unplanned")):
            signed = {"signed_at": NOW, "signed_by": "x", "signed_name": "X", "version": 2} if place else {}
            entry(session, study, row, visit, "pain", found, saved_at=NOW + timedelta(microseconds=number), **signed)
        for repeat in (1, 2):
            hurt = {**found, "hurt": bool(number % 2)}
            entry(session, study, row, "baseline", "fall", hurt, repeat=repeat, reasons='{"hurt": "Asked, twice"}')
        entry(session, study, row, "week18", "disability", {"dis_items": ["3"], "dis_weight": number / 7})


@pytest.mark.parametrize(
    ("as_", "entries"),
    [
        (Format.CSV, 1),
        (Format.CSV, 7),
        (Format.PARQUET, 1),
        (Format.PARQUET, 7),
        (Format.SPREADSHEET, 7),
        (Format.NDJSON, 1),
        (Format.NDJSON, 7),
        (Format.JSON, 7),
    ],
)
def test_a_file_made_in_batches_is_the_same_bytes(
    session: Session,
    study: StudyInUse,
    manager: Actor,
    as_: Format,
    entries: int,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(text, "ENTRIES", entries)
    monkeypatch.setattr(parquet, "PIECE", entries)
    filled(session, study, AWKWARD)
    for name in QUICK:
        quick, slow = both(session, study, name, manager, as_)
        assert quick == slow, (name, quick[150:900], slow[150:900])
        assert len(slow) > 2_000


def test_a_file_that_is_begun_again_leaves_nothing_open_behind_it(
    session: Session, study: StudyInUse, manager: Actor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(parquet, "PIECE", 7)
    filled(session, study, AWKWARD)  # the numbers are found out not to be numbers while there is more to read
    usual = sys.getswitchinterval()
    gc.disable()  # what is in a circle would stay until somebody comes by
    try:
        table = one_by_one(reads.open_export(session, study, "instrument_pain", by=manager))
        assert b"".join(encoded(table, Format.PARQUET))
        del table
        assert sys.getswitchinterval() == usual
    finally:
        gc.enable()


def test_half_a_pair_is_met_as_before(session: Session, study: StudyInUse, manager: Actor):
    filled(session, study, [{"pain_nrs": 4, "pain_note": "half a pair \ud800"}])
    for as_ in (Format.CSV, Format.NDJSON):
        quick, slow = both(session, study, "instrument_pain", manager, as_)
        assert quick == slow == b""


def test_most_entries_take_the_quick_way(
    session: Session, study: StudyInUse, manager: Actor, monkeypatch: pytest.MonkeyPatch
):
    filled(session, study, [*AWKWARD[:6], {"pain_nrs": 3, "pain_note": 'with a comma, "quotes" and\na line'}])

    def never(self: object, raw: object) -> Any:
        raise AssertionError(raw)

    monkeypatch.setattr(Wide, "_row", never)
    monkeypatch.setattr(Long, "_rows", never)
    b"".join(encoded(reads.open_export(session, study, "instrument_pain", by=manager), Format.CSV))
    b"".join(encoded(reads.open_export(session, study, "instrument_fall", by=manager), Format.CSV))
    monkeypatch.setattr(Batched, "__next__", never)
    b"".join(encoded(reads.open_export(session, study, "instrument_pain", by=manager), Format.NDJSON))
    monkeypatch.setattr(Wide, "columns", never)
    b"".join(encoded(reads.open_export(session, study, "instrument_pain", by=manager), Format.PARQUET))


ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(["1", "back", "None", "a,b", '"', "\r\n", "e+", "\0"]),
    st.lists(st.sampled_from(["back", "leg", "a,b", '"']), max_size=3),
    st.sampled_from([{"missing": "UNK"}, {"missing": "a,b"}, {"missing": 3}, {"how": "typed"}, {}]),
)


@pytest.fixture(scope="module")
def plan() -> tables.Plan:
    instruments = json.loads(json.dumps(MINI["instruments"]))
    fall = instruments[1] | {"code": "fall", "label": "Falls", "repeats": True}
    choices = [{"code": code, "label": code.title()} for code in ("1", "two")]
    fall["sections"][0]["items"] += [
        {"code": "hurt", "label": "Hurt", "type": "yes_no"},
        {"code": "height", "label": "Height", "type": "number"},
        {"code": "seen", "label": "Seen on", "type": "date"},
        {"code": "how", "label": "How", "type": "choice", "choices": choices},
    ]
    return tables.plan_of([definition(instruments=[*json.loads(json.dumps(MINI["instruments"])), fall])])


ITEMS = ("pain_nrs", "pain_days", "pain_where", "pain_note", "hurt", "other")
SAME = (  # what most columns hold: values of one kind
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 12.5]),
    st.sampled_from([1e-4, 1e-5, 1.25e-5, 1e15, 1e16, 1.5, 2]),  # where an exponent begins
    st.sampled_from(["2026-03-02", "1e5", "null", "],[", "a\\b", "ß"]),
    st.integers(-2, 1_001),
    st.booleans(),
    st.sampled_from(["x", "a,b", "two\nlines", 'say "x"']),
    st.sampled_from([True, 1]),
    st.lists(st.sampled_from(["back", "leg"]), max_size=2),
)


def _documents(items: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Documents that hold these items, in this order."""
    one = st.fixed_dictionaries(dict.fromkeys(items, values)).map(lambda found: {item: found[item] for item in items})
    return st.lists(one, max_size=6)


ORDERS = st.lists(st.sampled_from(ITEMS), unique=True)
DOCUMENTS = st.lists(
    st.tuples(ORDERS, st.sampled_from([ANY, *SAME])).flatmap(lambda given: _documents(*given)), max_size=3
).map(lambda some: [one for each in some for one in each])


def _exact(row: tables.Row) -> str:
    columns = tuple(tables.Column(str(place), "", tables.ColumnType.YES_NO) for place in range(len(row)))
    whole = b"".join(text.written_csv(Table("t", "T", "", columns, iter([row])))).decode()
    return whole.partition("\r\n")[2].removesuffix("\r\n")


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS)
def test_any_document_gives_the_lines_of_its_cells(plan: tables.Plan, documents: list[Mapping[str, Any]]):
    form = tables.form_of(plan, "fall")
    head = ("M-1", "north", "baseline", "1", "complete", "2", "2026-03-02T09:30:00.000000Z", "")
    raws = [(",".join(head), 5, json.dumps(each)) for each in documents]
    _, made = Wide(form, 9, {5: "v1"}, wholes=(3, 5)).lines(raws, _exact)
    cells = [(*head, "v1", *form.cells(batches.stored(raw[-1]))) for raw in raws]
    assert made == "".join(f"{_exact(row)}\r\n" for row in cells)
    long = Long(plan, 5, {5: "v1"})
    entries = [("M-1", "north", "baseline", "fall", *head[3:], 5, json.dumps(each), "{}") for each in documents]
    count, made = long.lines(entries, _exact)
    expected = [_exact(row) for raw in entries for row in long._rows(raw)]
    assert made == "".join(f"{line}\r\n" for line in expected)
    assert count == len(expected)


NUMBERS = (7, -0.0, 12.5, 1e-4, 1e-5, 1.25e-5, 1e-7, 1e15, 1e16, 1e300, 2**70, True)
TEXTS = ("back", "1", "1e5", "null", "true", "a,b", "],[", "],,[", 'say "x"', "a\\b", "two\nlines", "", "ß", "[", "{")
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    *TEXTS,
    None,
    {},
    [],
    ["a"],
    [True],
    {"missing": "UNK"},
    {"missing": "UNK", "how": "typed"},
    {"missing": "a,b"},
)


def test_cells_written_together_are_those_written_one_by_one(plan: tables.Plan):
    """Two that stand beside each other and are mostly written as JSON writes them: whatever they are in truth."""
    form = tables.form_of(plan, "fall")
    wide = Wide(form, 9, {5: "v1"}, wholes=(3, 5))
    head = "M-1,north,baseline,1,complete,2,2026-03-02T09:30:00.000000Z,"
    for one, other in product(VALUES, repeat=2):
        # Of three entries the second is the odd one: those around it are as they were.
        pairs = [(7, 3), (one, other), (2, 1.5)]
        raws = [(head, 5, json.dumps(dict(zip(("pain_nrs", "pain_days"), pair, strict=True)))) for pair in pairs]
        expected = [f"{_exact((*head.split(','), 'v1', *form.cells(batches.stored(raw[-1]))))}\r\n" for raw in raws]
        assert wide.lines(raws, _exact) == (3, "".join(expected)), (one, other)
        alone = wide.lines(raws[1:2], _exact)
        assert alone == (1, expected[1]), (one, other)


DATES = (
    "2026-03-02",
    "2026-3-2",
    "2026-W10-1",
    "2026-02-30",
    "02026-3-2",
    "2026-03-02T09:30",
    "0000-01-01",
    "0001-01-01",
    "2026- 3-02",
)
EDGES = (
    -(2**63),
    2**53,
    -(2**53),
    2**53 + 1,
    2**63,
    float(2**53),
    float(2**64),
    0.1 + 0.2,
    "7",
    "true",
    " 7",
    "12.5",
    "NaN",
    "inf",
)


def test_columns_read_from_text_are_those_of_the_values(plan: tables.Plan, monkeypatch: pytest.MonkeyPatch):
    """Parquet is read from text by a reader of types: whatever an item holds, it has to be what the values give.

    NDJSON is made of the columns themselves.
    """
    monkeypatch.setattr(parquet, "PIECE", 2)
    monkeypatch.setattr(text, "ENTRIES", 1)
    form = tables.form_of(plan, "fall")
    kinds = {"4": "integer", "6": "integer", "7": "instant", "8": "instant"}
    head = [tables.Column(f"c{at}", "", tables.ColumnType(kinds.get(str(at), "text"))) for at in range(1, 10)]
    columns = (*head, *form.columns())
    cells = ("M-1", "north", "baseline", 1, "complete", 2, NOW, None, "v1")
    before = f"M-1,north,baseline,1,complete,2,{text.text_of(NOW)},"
    usual = {
        "pain_nrs": 7, "pain_days": 3, "pain_where": ["leg"], "pain_note": "a, b", "hurt": True, "height": 1.5,
        "seen": "2026-03-02", "how": "two",
    }  # fmt: skip
    read, quickly = 0, parquet._Reader.read

    def told(*given: Any) -> Any:
        nonlocal read
        found = quickly(*given)
        read += found is not None
        return found

    monkeypatch.setattr(parquet._Reader, "read", told)
    for item, value in product(usual, (*VALUES, *DATES, *EDGES)):
        entries = [usual, {**usual, item: value}, usual, {}, {**usual, item: None}]
        raws = [(before, 5, json.dumps(each)) for each in entries]

        def table(raws: Any = raws) -> Table:
            wide = Wide(form, 9, {5: "v1"}, wholes=(3, 5))
            rows = ((*cells, *form.cells(batches.stored(raw[-1]))) for raw in raws)

            def some(size: int) -> Any:
                return (raws[start : start + size] for start in range(0, len(raws), size))

            made = Batched(rows, some, wide.lines, wide.columns, wide.written, form.fields)
            return Table("t", "T", "", columns, made, reopened=lambda: table(raws))

        for as_ in (Format.PARQUET, Format.NDJSON):
            quick, slow = (b"".join(encoded(each, as_)) for each in (table(), one_by_one(table())))
            assert quick == slow, (item, value)
    assert read > 400


def test_a_document_that_can_be_read_in_two_ways_is_not_read_from_text(plan: tables.Plan):
    form = tables.form_of(plan, "fall")
    wide = Wide(form, 9, {5: "v1"}, wholes=(3, 5))
    import polars as pl

    names = [f"c{at}" for at in range(1, 10)] + [column.name for column in form.columns()]
    kinds = {"c4": pl.Int64(), "c6": pl.Int64(), "pain_nrs": pl.Int64(), "pain_days": pl.Int64(), "hurt": pl.Boolean()}
    kinds |= {f"pain_where__{code}": pl.Int64() for code in ("back", "leg")}
    reader = parquet._Reader({name: kinds.get(name, pl.String()) for name in names}, form.fields)

    def read(document: str) -> Any:
        return reader.read(wide.written([("M-1,north,baseline,1,complete,2,,", 5, document)] * 2))

    for said in ("plain", "at 9:30: [sic], {so}", '":', 'a "quoted", b\\\\c', "two\nlines", "", "é"):
        document = json.dumps({"pain_nrs": 7, "pain_where": ["leg"], "pain_note": said}, ensure_ascii=False)
        assert read(document)["pain_note"].to_list() == [said] * 2, document
    for document in (
        '{"pain_nrs":1,"pain_nrs":2}',
        '{"pain_nrs":1,"unheard_of":2}',
        '{"pain_nrs":null}',
        '{"pain_note":"half a pair: \\ud800x"}',
        '{"pain_note":{}}',
        '{"pain_note":12.50}',
        '{"pain_note":[":["]}',
        '{"pain_where":[["leg"]]}',
        '{"pain_where":["back",["leg"]],"pain_note":":["}',
        '{"pain_note":["a","b"],"how":7}',
        '{"pain_nrs":null,"how":7}',
        '{"pain_where":[1]}',
        "[]",
        "",
    ):
        assert read(document) is None, document
