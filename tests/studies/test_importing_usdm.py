"""A protocol as USDM from elsewhere becomes a study: chains of timings, words for anchors, and what has no place."""

import json
from copy import deepcopy
from datetime import date
from typing import Any

import pytest

from app.studies.definition import VisitKind
from app.studies.importing import Converted, Failed, Kind, convert
from app.studies.importing.usdm import TO_WRITE, days_of

pytestmark = pytest.mark.requirement("USDM-1")
START = {"code": "C201355", "decode": "Start to Start"}
AFTER, BEFORE, FIXED = "C201356", "C201357", "C201358"


def instance(
    name: str, encounter: str | None, *activities: str, then: str | None = None, **more: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"id": name, "name": name.upper(), "activityIds": list(activities), **more}
    made |= {"encounterId": encounter, "defaultConditionId": then, "instanceType": "ScheduledActivityInstance"}
    return made


def timing(of: str, kind: str, value: str, seen_from: str, **window: str) -> dict[str, Any]:
    return {
        "id": f"t_{of}",
        "type": {"code": kind},
        "value": value,
        "relativeToFrom": START,
        "relativeFromScheduledInstanceId": of,
        "relativeToScheduledInstanceId": seen_from,
        **window,
    }


DESIGN: dict[str, Any] = {
    "id": "design",
    "characteristics": [{"code": "C46079"}],
    "arms": [{"name": "A", "label": "Laser"}, {"name": "B", "description": "Sham laser"}],
    "epochs": [{"id": "e1", "type": {"code": "C48262"}}, {"id": "e2", "type": {"code": "C101526"}}],
    "eligibilityCriteria": [
        {"id": "c1", "name": "IN01", "identifier": "1", "category": {"code": "C25532"}, "criterionItemId": "i1"},
        {"id": "c2", "name": "EX01", "identifier": "2", "category": {"code": "C25370"}, "criterionItemId": "gone"},
    ],
    "activities": [
        {"id": "a1", "name": "Informed consent"},
        {"id": "a2", "name": "Vital signs", "label": "Vital signs and symptoms"},
        {"id": "a3", "name": "Randomise"},
    ],
    "encounters": [
        {"id": "v1", "name": "V1", "label": "Screening visit"},
        {"id": "v2", "name": "V2", "label": "Day 0"},
        {"id": "v3", "name": "V3", "label": "Week 2"},
        {"id": "v4", "name": "V4", "label": "Week 6"},
        {"id": "v5", "name": "V5", "label": "Telephone call"},
    ],
    "objectives": [{"id": "o"}],
    "scheduleTimelines": [
        {"id": "other", "name": "Adverse events", "mainTimeline": False, "instances": [], "timings": []},
        {
            "id": "main",
            "mainTimeline": True,
            "entryId": "s1",
            "instances": [
                instance("s4", "v4", "a2"),
                instance("s3", "v3", "a2", then="s4"),
                instance("s2", "v2", "a3", "a2", then="s3", epochId="e2"),
                instance("s1", "v1", "a1", then="s2", epochId="e1"),
                instance("s2b", "v2", "a1"),
                {"id": "d", "name": "D", "instanceType": "ScheduledDecisionInstance"},
                instance("alone", None, "a1"),
            ],
            "timings": [
                timing("s2", FIXED, "P0D", "s2"),
                timing("s1", BEFORE, "P2W", "s2", windowLower="P1W", windowUpper="P3D"),
                timing("s3", AFTER, "P14D", "s2", windowLower="P2D", windowUpper="P2D"),
                timing("s4", AFTER, "P1M", "s3", windowUpper="PT12H"),
            ],
        },
    ],
}
MAIN: dict[str, Any] = DESIGN["scheduleTimelines"][1]
DOCUMENT: dict[str, Any] = {
    "study": {
        "name": "Light",
        "versions": [
            {
                "versionIdentifier": "2.1 (final)",
                "titles": [
                    {"text": "LIGHT", "type": {"code": "C94108"}},
                    {"text": "Light for <b>backs</b>", "type": {"code": "C207616"}},
                ],
                "studyDesigns": [DESIGN],
                "eligibilityCriterionItems": [{"id": "i1", "text": "Aged 18 or older"}],
            }
        ],
    },
    "usdmVersion": "4.0.0",
}


def converted(document: object) -> Converted:
    return convert(json.dumps(document).encode(), name="light.json", on=date(2026, 1, 5))


def changed(**design: Any) -> dict[str, Any]:
    document = deepcopy(DOCUMENT)
    document["study"]["versions"][0]["studyDesigns"][0] |= design
    return document


def with_timings(*timings: dict[str, Any]) -> dict[str, Any]:
    return changed(scheduleTimelines=[{**MAIN, "timings": list(timings)}])


def test_days_are_added_up_along_the_timeline_and_words_say_what_they_are_counted_from():
    made = converted(DOCUMENT)
    study = made.study
    assert (study.code, study.version, study.title, study.short_title) == (
        "light",
        "2.1__final",
        "Light for backs",
        "LIGHT",
    )
    assert [(each.code, each.anchor, each.day, each.window.before, each.window.after) for each in study.visits] == [
        ("v1", "randomisation", -14, 7, 3),
        ("v2", "randomisation", 0, 0, 0),
        ("v3", "randomisation", 14, 2, 2),
        ("v4", "randomisation", 44, 0, 0),
    ]
    assert study.visits[0].kind is VisitKind.BASELINE
    assert study.visits[1].instruments == ("randomise", "vital_signs", "informed_consent")
    assert [item.label for item in study.instrument("vital_signs").items] == [TO_WRITE]  # type: ignore[union-attr]
    assert [(arm.code, arm.label) for arm in study.arms] == [("A", "Laser"), ("B", "Sham laser")]
    assert study.allocation.method == "list"
    assert [(each.label, each.kind) for each in study.eligibility.criteria] == [
        ("Aged 18 or older", "inclusion"),
        ("2", "exclusion"),
    ]
    lost = {(note.where, note.what.partition(" ")[0]) for note in made.notes if note.kind is Kind.LOST}
    assert {("Adverse events", "A"), ("D", "A"), ("ALONE", "Something"), ("objectives", "1")} <= lost
    assert ("encounters", "Telephone") in lost


@pytest.mark.parametrize(
    ("document", "visits", "said"),
    [
        # Nobody is randomised to one arm.
        (changed(arms=DESIGN["arms"][:1]), [("v1", "consent", -14), ("v2", "consent", 0)], "there are not two arms"),
        # Nothing says what is the fixed reference.
        (with_timings(), [("v3", "consent", 0), ("v4", "consent", 0)], "counted from"),
        (
            with_timings(timing("s3", AFTER, "P1D", "s4"), timing("s4", AFTER, "P1D", "s3")),
            [("v3", "consent", 0), ("v4", "consent", 0)],
            "goes round in a circle",
        ),
        (
            with_timings(timing("s2", FIXED, "P0D", "s2"), timing("s3", AFTER, "soon", "s2")),
            [("v3", "randomisation", 0)],
            "The duration “soon”",
        ),
        # What is no list has nothing in it.
        (
            changed(
                scheduleTimelines=[{**MAIN, "instances": [{**each, "activityIds": 7} for each in MAIN["instances"]]}]
            ),
            [("v3", "consent", 14)],
            "It is counted from S2",
        ),
        (
            with_timings(timing("s2", FIXED, "P0D", "s2"), timing("s3", AFTER, "P900Y", "s2")),
            [("v3", "randomisation", 4000)],
            "Day 4000",
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_reported(document, visits, said):
    made = converted(document)
    found = {(each.code, each.anchor, each.day) for each in made.study.visits}
    assert found >= set(visits)
    assert [note for note in made.notes if said in note.what + note.instead]


def test_a_long_chain_of_timings_is_followed_to_its_end():
    number = 20_000
    chain = [timing(f"n{each}", AFTER, "P1D", f"n{each - 1}" if each else "s2") for each in range(number)]
    instances = [instance(f"n{each}", f"w{each}") for each in reversed(range(number))]
    main = {
        **MAIN,
        "entryId": "s2",
        "instances": [*MAIN["instances"], *instances],
        "timings": [timing("s2", FIXED, "P0D", "s2"), *chain],
    }
    visits = [*DESIGN["encounters"], {"id": "w90", "name": "Ninety"}, {"id": f"w{number - 1}", "name": "Last"}]
    study = converted(changed(scheduleTimelines=[main], encounters=visits)).study
    assert {(each.code, each.day) for each in study.visits} >= {("ninety", 91), ("last", 4000)}


@pytest.mark.parametrize(
    "document",
    [{}, {"study": []}, {"study": {"versions": [{"studyDesigns": []}]}}, {"study": {"versions": [None, 7]}}],
)
def test_other_json_is_refused(document):
    with pytest.raises(Failed, match="no study of USDM"):
        converted(document)


@pytest.mark.parametrize("text", ["{", "{]}", '{"study": ' + "[" * 100_000])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(Failed, match="cannot be read"):
        convert(text.encode(), name="x", on=date(2026, 1, 5))


@pytest.mark.parametrize(
    ("duration", "days"),
    [
        ("P" + 5000 * "9" + "D", None),
        ("P0D", 0),
        ("P2W", 14),
        ("P1Y2M3D", 428),
        ("PT12H", 0),
        ("-P3D", -3),
        ("P", None),
        ("3 days", None),
        ("", None),
    ],
)
def test_durations_are_days(duration, days):
    assert days_of(duration) == days
