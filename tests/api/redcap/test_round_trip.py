"""What the door gives as metadata comes back as the same instruments, as far as these formats can say them."""

import csv
import io
import itertools
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from lxml import etree

from app.api.redcap.dictionary import project_of
from app.api.redcap.metadata import COLUMNS, rows_of
from app.expressions import parse
from app.foundation.database import Database
from app.studies.definition import Item, ItemType, Study
from app.studies.importing import Converted, Kind, convert
from app.studies.importing.building import EVERY_CRITERION
from app.studies.loading import library, read_folder
from tests.api.redcap.world import World, build, changes

ON = date(2026, 3, 2)


def dictionary_of(study: Study) -> bytes:
    """What `content=metadata` answers, as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows_of(project_of([study])))
    return text.getvalue().encode()


def as_said(item: Item, visits: dict[str, str]) -> dict[str, Any]:
    """An item without what neither a dictionary nor a project XML can say: decimals, units, checks, lengths."""
    hard = item.min is not None or item.max is not None
    bounds = (item.min, item.max) if hard else (item.expected_min, item.expected_max)
    kind = item.type
    if kind is ItemType.SLIDER and item.min is not None and item.max is not None and item.max - item.min <= 20:
        kind = ItemType.SCALE
    hint = " ".join(part for part in (item.hint, f"({item.unit})" if item.unit else None) if part)
    return {
        "label": item.label,
        "type": "text" if kind is ItemType.DATE and item.precision != "day" else kind.value,
        "required": item.required or kind is ItemType.CALCULATED,
        "hint": " ".join(hint.split()),
        "bounds": bounds if kind is not ItemType.CALCULATED else None,
        "hard": hard and kind is not ItemType.CALCULATED,
        "choices": [(choice.code, choice.label) for choice in item.choices],
        "ends": (item.low_label, item.high_label),
        "multiline": item.multiline,
        "shown_if": meant(item.shown_if, visits),
        "calculation": meant(item.calculation, visits),
    }


def meant(text: str | None, visits: dict[str, str]) -> Any:
    """What an expression says, with visits by the names they got."""

    def renamed(tree: Any) -> Any:
        if isinstance(tree, list) and tree[:1] == ["reference"]:
            return ["reference", visits.get(tree[1], tree[1]), *tree[2:]]
        return [renamed(part) for part in tree] if isinstance(tree, list) else tree

    return renamed(parse(text).tree) if text else None


def items_of(study: Study) -> dict[str, dict[str, Item]]:
    return {form.code: {item.code: item for item in form.items} for form in study.instruments}


def compare(before: Study, after: Converted, visits: dict[str, str], left_out: set[str]) -> int:
    """How many items are the same; `left_out` are those whose rules the format could not carry."""
    same, read = 0, items_of(after.study)
    for form, items in items_of(before).items():
        # What stands in for criteria, which no format carries, is no question of theirs.
        assert [code for code in read[form] if code in items or code != EVERY_CRITERION] == list(items), form
        for code, item in items.items():
            if code not in left_out:
                assert as_said(read[form][code], {}) == as_said(item, visits), code
                same += 1
    return same


@pytest.mark.requirement("ODM-8")
@pytest.mark.parametrize("name", [folder.name for folder in library()])
def test_dictionaries_of_the_library_come_back_as_they_were(name: str):
    study, _ = read_folder(next(folder for folder in library() if folder.name == name))
    assert study is not None
    after = convert(dictionary_of(study), name=f"{name}.csv", on=ON)
    # A dictionary names no events, so what refers to another visit is reported and left out.
    left_out = {
        item.code
        for form in study.instruments
        for item in form.items
        if any(
            reference.event
            for text in (item.shown_if, item.calculation)
            if text
            for reference in parse(text).references
        )
    }
    told = {note.where.split("[")[-1].rstrip("]") for note in after.notes if note.kind is Kind.LOST}
    assert left_out <= told
    assert compare(study, after, {}, left_out) > 6
    assert after.study.record_id == study.record_id


@pytest.mark.requirement("ODM-8")
def test_a_project_comes_back_with_its_visits_and_repeats(world: World):
    before = world.study.definition
    xml = world["both"].send("project_xml", returnMetadataOnly="true")
    after = convert(xml.content, name="project.xml", on=ON)
    events = {event.visit: event.name for event in project_of([before]).events}
    visits = {visit: name.removesuffix("_arm_1") for visit, name in events.items()}
    assert compare(before, after, visits, set()) > 10
    for visit in before.visits:
        read = after.study.visit(visits[visit.code])
        assert read is not None
        assert (read.label, set(read.instruments)) == (visit.label, set(visit.instruments))
        assert (read.day, read.window) == (visit.day, visit.window)
    assert [site.name for site in after.study.sites] == [site.name for site in before.sites]
    assert [(code.code, code.label) for code in after.study.missing_codes] == [("UNK", "Unknown"), ("ND", "Not done")]
    falls = after.study.instrument("falls")
    assert falls is not None
    assert (falls.label, falls.repeats) == ("Falls", True)


SOFT: dict[str, Any] = {
    "code": "weight",
    "label": "Weight",
    "source": "test",
    "sections": [
        {
            "items": [
                {"code": "kg", "label": "Weight", "type": "number", "expected_min": 40, "expected_max": 140.5},
                {"code": "hard", "label": "Height", "type": "integer", "min": 50, "expected_min": 120, "max": 250},
            ]
        }
    ],
}


@pytest.mark.parametrize("kind", ["sqlite"])
def test_bounds_that_only_ask_come_back_from_a_project_as_they_do_from_a_dictionary(shared_database: Database):
    more = changes()
    last = more["visits"][-1]
    more["visits"] = [*more["visits"][:-1], {**last, "instruments": [*last["instruments"], "weight"]}]
    world = build(shared_database, **{**more, "instruments": [*more["instruments"], SOFT]})
    xml = world["both"].send("project_xml", returnMetadataOnly="true")
    form = convert(xml.content, name="project.xml", on=ON).study.instrument("weight")
    assert form is not None
    kg, hard = form.items
    assert [kg.min, kg.max, kg.expected_min, kg.expected_max] == [None, None, 40, Decimal("140.5")]
    assert [hard.min, hard.max] == [50, 250]


FLAGS = ("exportSurveyFields", "exportDataAccessGroups", "exportCheckboxLabel", "combineCheckboxOptions")


@pytest.mark.parametrize("kind", ["flat", "eav"])
@pytest.mark.parametrize("labels", ["raw", "label"])
@pytest.mark.parametrize("flags", [*itertools.combinations(FLAGS, 1), (), FLAGS], ids=str)
def test_every_format_says_the_same(world: World, kind: str, labels: str, flags: tuple[str, ...]):
    """Whatever is asked for: the same columns in the same order, and the same texts, in JSON, CSV and XML."""
    ask = {"type": kind, "rawOrLabel": labels, "decimalCharacter": ",", **dict.fromkeys(flags, "true")}
    rows = world["both"].json("record", **ask)
    assert rows
    said = [{name: str(value) for name, value in row.items()} for row in rows]
    for delimiter, sign in ((",", ","), ("tab", "\t"), (";", ";"), ("|", "|"), ("^", "^")):
        text = world["both"].csv("record", csvDelimiter=delimiter, **ask)
        read = csv.DictReader(io.StringIO(text, newline=""), delimiter=sign)
        assert [dict(row) for row in read] == said
        assert list(read.fieldnames or ()) == list(rows[0])
    named = world["both"].csv("record", rawOrLabelHeaders="label", **ask)
    header, *lines = csv.reader(io.StringIO(named, newline=""))
    assert {len(line) for line in lines} == {len(header)} == {len(rows[0])}
    root = etree.fromstring(world["both"].send("record", format="xml", **ask).content)
    assert [{cell.tag: cell.text or "" for cell in item} for item in root] == said


@pytest.mark.parametrize("shape", ["json", "csv", "xml", "odm"])
@pytest.mark.parametrize("kind", ["flat", "eav"])
def test_what_is_exported_in_any_format_comes_back_in_it(world: World, shape: str, kind: str):
    """An import of an export changes nothing: no entry is another one, whatever it was written as."""
    before = world["both"].json("record", type=kind)
    sent = world["both"].send("record", format=shape, type=kind).text
    reply = world["both"].send("record", format=shape, type=kind, data=sent, returnFormat="json")
    assert (reply.status_code, reply.text) == (200, '{"count":3}')
    assert world["both"].json("record", type=kind) == before
    assert not [row for row in world["both"].json("log", logtype="record_edit") if row["username"] == "both"]
