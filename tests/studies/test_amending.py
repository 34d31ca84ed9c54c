"""Two versions are compared in words of the trial, every difference once, and what may not change says so."""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.foundation.languages import in_language
from app.studies.definition import Study
from app.studies.loading import LIBRARY, read_folder
from app.studies.rules import Concern, Risk, Topic, differences
from app.studies.rules.amending import forbidden, forms_judged_anew, risks
from app.studies.rules.changes import Ours
from tests.factories import MINI, definition

NUMBER: dict[str, Any] = {"code": "extra", "label": "Extra", "type": "number"}


def changed(path: str, value: Any) -> Study:
    """The small trial as version 2 with one part replaced, `a/0/b`; `+` at the end adds to a list, None takes out."""
    whole: dict[str, Any] = deepcopy(MINI)
    whole["version"] = "2"
    *way, last = path.split("/")
    part: Any = whole
    for step in way:
        part = part[int(step)] if isinstance(part, list) else part[step]
    if last == "+":
        part.append(value)
    elif value is None:
        del part[int(last) if isinstance(part, list) else last]
    else:
        part[int(last) if isinstance(part, list) else last] = value
    return Study.model_validate(whole)


PAIN = "instruments/1/sections/0/items"
ONE_EACH: list[tuple[str, Any, Topic, Concern, str]] = [
    ("title", "Another", Topic.STUDY, Concern.TEXT, "Title: was “A small trial for tests”, is now “Another”."),
    ("target", 60, Topic.STUDY, Concern.CONDUCT, "was “40”, is now “60”"),
    ("code", "other", Topic.STUDY, Concern.FIXED, "Code"),
    ("blinded", False, Topic.ARMS, Concern.FIXED, "Blinding"),
    ("participant_prefix", "N-", Topic.STUDY, Concern.FIXED, "How participants' codes begin"),
    ("arms/0/label", "Ember", Topic.ARMS, Concern.TEXT, "Arm active, label: was “Zephyrine training”"),
    ("arms/0/ratio", 2, Topic.ARMS, Concern.FIXED, "were active 1, sham 1, and are active 2, sham 1"),
    ("allocation/method", "simple", Topic.ARMS, Concern.FIXED, "Allocation, method"),
    (
        "allocation/group",
        {"visit": "week18", "item": "pain_nrs", "answers": [{"choice": "yes", "arm": "active"}]},
        Topic.ARMS,
        Concern.CONDUCT,
        "Where the group is recorded",
    ),
    ("sites/+", {"code": "west", "name": "West"}, Topic.SITES, Concern.CONDUCT, "Site west (West): added."),
    ("sites/1", None, Topic.SITES, Concern.CONDUCT, "Site south (South clinic): removed."),
    ("sites/0/target", 12, Topic.SITES, Concern.CONDUCT, "Site north: the target: was"),
    ("sites/0/name", "Far north", Topic.SITES, Concern.TEXT, "A site that is there keeps what it has."),
    ("eligibility/criteria/0/rule", "[age] >= 16", Topic.ELIGIBILITY, Concern.CONDUCT, "its rule: was"),
    ("eligibility/criteria/0/label", "Adult", Topic.ELIGIBILITY, Concern.TEXT, "its wording: was"),
    ("eligibility/criteria/2", None, Topic.ELIGIBILITY, Concern.CONDUCT, "Exclusion “Recent surgery”: removed."),
    (
        "visits/2/day",
        119,
        Topic.VISITS,
        Concern.SCHEDULE,
        "was due on day 126 from randomisation, is now due on day 119",
    ),
    (
        "visits/2/window",
        {"before": 7, "after": 21},
        Topic.VISITS,
        Concern.SCHEDULE,
        "is now window 7 days before to 21",
    ),
    ("visits/2/kind", "baseline", Topic.VISITS, Concern.FIXED, "is now of kind baseline"),
    ("visits/2/label", "18 weeks", Topic.VISITS, Concern.TEXT, "its name was “Week 18”"),
    ("visits/1", None, Topic.VISITS, Concern.SCHEDULE, "Session 1: removed."),
    ("visits/0/instruments/+", "disability", Topic.VISITS, Concern.CAPTURE, "Disability is asked there now"),
    ("visits/2/instruments/1", None, Topic.VISITS, Concern.CAPTURE, "Disability is no longer asked there"),
    ("missing_codes/+", {"code": "REF", "label": "Refused"}, Topic.FORMS, Concern.CAPTURE, "REF (Refused): added"),
    ("missing_codes/0", None, Topic.FORMS, Concern.CAPTURE, "UNK (Unknown): removed"),
    (f"{PAIN}/+", NUMBER, Topic.FORMS, Concern.CAPTURE, "Pain, extra (Extra): added; number, required."),
    (f"{PAIN}/3", None, Topic.FORMS, Concern.CAPTURE, "pain_note (Note): no longer asked"),
    (f"{PAIN}/0/max", 9, Topic.FORMS, Concern.CAPTURE, "the highest value: was “10”, is now “9”"),
    (f"{PAIN}/0/label", "Pain now", Topic.FORMS, Concern.TEXT, "the question: was “Pain, past week”"),
    (f"{PAIN}/0/type", "integer", Topic.FORMS, Concern.CAPTURE, "was of type scale, is now of type integer"),
    (f"{PAIN}/3/required", True, Topic.FORMS, Concern.CAPTURE, "whether it is required: was no, is now yes."),
    (f"{PAIN}/1/checks/0", None, Topic.FORMS, Concern.CAPTURE, "check “No pain, but days with pain: check both.”"),
    (f"{PAIN}/2/choices/1", None, Topic.FORMS, Concern.CAPTURE, "choice leg (Leg): removed"),
    (f"{PAIN}/2/choices/1/label", "Thigh", Topic.FORMS, Concern.TEXT, "choice leg: was “Leg”, is now “Thigh”"),
    (f"{PAIN}/2/shown_if", "[pain_nrs] > 1", Topic.FORMS, Concern.CAPTURE, "when it is asked"),
    ("instruments/2/sections/0/items/3/calculation", "1", Topic.FORMS, Concern.CAPTURE, "how it is computed"),
    ("instruments/1/sections/0/label", "Pain", Topic.FORMS, Concern.TEXT, "headings"),
    ("withdrawal_levels/1", None, Topic.WITHDRAWAL, Concern.CONDUCT, "Withdrawal level visits: removed."),
    ("outcomes/0/kind", "secondary", Topic.OUTCOMES, Concern.TEXT, "was “primary”, is now “secondary”"),
    ("consent_documents/0/title", "Taking part", Topic.CONSENT, Concern.CONDUCT, "Consent document 1 (en), title"),
    ("consent_documents/0/text", "Other", Topic.CONSENT, Concern.FIXED, "its text changed"),
    ("schedule", {"minutes": 45}, Topic.SCHEDULE, Concern.SCHEDULE, "minutes: was “60”, is now “45”"),
    ("safety", {"review": "all"}, Topic.SAFETY, Concern.CONDUCT, "review: was “serious”, is now “all”"),
    ("oversight", {"log_review_days": 30}, Topic.STUDY, Concern.TEXT, "log_review_days: was empty, is now “30”"),
    ("oversight", {"verification": "none"}, Topic.STUDY, Concern.CONDUCT, "were all answers, and are no answers"),
    (
        "oversight",
        {"verification": "named", "to_verify": [{"instrument": "pain", "items": ["pain_nrs"], "visits": ["week18"]}]},
        Topic.STUDY,
        Concern.CONDUCT,
        "were all answers, and are Pain (pain_nrs) (Week 18). What was verified stays so.",
    ),
    ("treatment/0/modules/0/label", "Lessons", Topic.TREATMENT, Concern.CAPTURE, "Treatment active"),
]


@pytest.mark.requirement("CON-10")
@pytest.mark.parametrize(("path", "value", "topic", "concern", "words"), ONE_EACH)
def test_one_change_is_one_difference_with_what_it_concerns(
    path: str, value: Any, topic: Topic, concern: Concern, words: str
) -> None:
    found = differences(definition(), changed(path, value))
    assert [(each.topic, each.concern) for each in found] == [(topic, concern)], [each.text for each in found]
    assert words in found[0].text
    assert (found[0].why_not is not None) == (concern is Concern.FIXED)
    assert forbidden(found) == [each for each in found if concern is Concern.FIXED]


@pytest.mark.parametrize(
    ("path", "value", "risk"),
    [
        (f"{PAIN}/0/type", "integer", Risk.ITEM_TYPE),
        (f"{PAIN}/2/choices/1", None, Risk.CHOICES),
        (f"{PAIN}/3", None, Risk.ITEM),
        ("visits/1", None, Risk.VISIT),
        ("visits/2/instruments/1", None, Risk.VISIT),
        ("missing_codes/0", None, Risk.MISSING),
        (f"{PAIN}/0/max", 9, None),
    ],
)
def test_what_answers_stand_against_is_named(path: str, value: Any, risk: Risk | None) -> None:
    found = risks(differences(definition(), changed(path, value)))
    assert [each.at_risk.risk for each in found if each.at_risk] == ([] if risk is None else [risk])


@pytest.mark.parametrize("path", ["arms/0/label", "treatment/0/modules/0/label", "arms/1/code"])
def test_what_an_arm_is_stays_with_unblinded_people(path: str) -> None:
    new = changed(path, "quillwort")
    found = differences(definition(), new)
    assert any("quillwort" in each.text for each in found)
    blinded = " ".join(each.for_blinded().text for each in found)
    assert not [word for word in ("quillwort", "Zephyrine", "sham", "active", "Education") if word in blinded]


def test_moved_parts_are_said_once() -> None:
    whole: dict[str, Any] = deepcopy(MINI)
    for parts in (whole["visits"], whole["instruments"], whole["missing_codes"], whole["sites"]):
        parts.reverse()
    whole["instruments"][1]["sections"][0]["items"].reverse()
    found = differences(definition(), Study.model_validate(whole))
    assert {each.concern for each in found} == {Concern.TEXT}
    assert len([each for each in found if "another order" in each.text]) == len(found) == 5


@pytest.mark.parametrize(
    ("path", "value", "forms"),
    [
        (f"{PAIN}/0/max", 9, {"pain"}),
        (f"{PAIN}/0/label", "Pain now", set()),
        ("visits/2/day", 119, set()),
        ("missing_codes/0", None, {"prescreen", "pain", "disability"}),
    ],
)
def test_which_forms_are_judged_anew(path: str, value: Any, forms: set[str]) -> None:
    assert forms_judged_anew(definition(), changed(path, value)) == forms


def _leaves(part: Any, way: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    if isinstance(part, dict):
        return [leaf for key, value in part.items() for leaf in _leaves(value, (*way, str(key)))]
    if isinstance(part, list):
        return [leaf for place, value in enumerate(part) for leaf in _leaves(value, (*way, str(place)))]
    return [("/".join(way), part)]


LEAVES = [leaf for leaf in _leaves(MINI) if leaf[0] != "version"]


@given(st.sampled_from(LEAVES), st.data())
def test_whatever_changes_is_said_and_nothing_else(leaf: tuple[str, Any], data: st.DataObject) -> None:
    path, was = leaf
    if isinstance(was, bool):
        value: Any = not was
    elif isinstance(was, int):
        value = data.draw(st.integers(1, 20))
    else:
        value = data.draw(st.sampled_from([f"{was}x", f"{was}_2"]))
    old = definition()
    try:
        new = changed(path, value)
    except ValueError:  # a type or a day that there is not
        return
    said = differences(old, new)
    assert bool(said) == (old.model_dump(exclude={"version"}) != new.model_dump(exclude={"version"}))
    assert len({each.text for each in said}) == len(said)
    assert all(each.text.endswith((".", "”.")) for each in said)
    assert differences(new, new) == () == differences(old, old)


def _pairs() -> Iterator[tuple[Study, Study]]:
    """Versions that differ in everything the rules know, between them, each way round."""
    one = definition()
    others = [changed(path, value) for path, value, *_ in ONE_EACH]
    whole: dict[str, Any] = deepcopy(MINI)
    for part in ("visits", "instruments", "missing_codes", "sites", "consent_documents"):
        whole[part].reverse()
    for form in whole["instruments"]:
        form["sections"][0]["items"].reverse()
    whole["eligibility"]["criteria"].reverse()
    others.append(Study.model_validate(whole))
    computed = {**NUMBER, "type": "calculated", "calculation": "1"}
    one_form = {"code": "new", "label": "Neu", "source": "Own", "sections": [{"items": [computed]}]}
    others += [
        changed("instruments/+", one_form),
        changed("instruments/1/sections/0/items/+", {**NUMBER, "required": False, "unit": "kg", "min": 1}),
        changed("consent_documents/0/sites", ["north"]),
        changed(
            "consent_documents/+",
            {
                "version": "2",
                "language": "en",
                "title": "T",
                "text": "Text",
                "valid_from": "2026-04-01",
                "sha256": "0" * 64,
            },
        ),
        changed("visits/2/casebook_signature", True),
        changed("visits/2/double_entry", ["pain"]),
        changed("visits/2/anchor", "consent"),
        changed("visits/2/short", "W18"),
        changed("dictionaries", [{"code": "d", "label": "D", "version": "1", "terms": [{"code": "a", "label": "A"}]}]),
        changed("instruments/1/licence", "Free"),
        changed("instruments/1/repeats", True),
        changed("arms/1/code", "control"),
    ]
    for each in others:
        yield from ((one, each), (each, one))


SAME = {"de": {"Arm", "Code", "Sponsor"}, "es": set[str]()}
ENGLISH = {
    "de": {"is", "are", "the", "added", "removed", "day", "days", "from", "with", "yes", "no", "valid", "empty"},
    "es": {"was", "is", "are", "the", "added", "removed", "day", "days", "from", "with", "yes", "valid", "empty"},
}


@pytest.mark.parametrize("language", ["de", "es"])
def test_every_line_is_said_in_the_language_of_its_reader(language: str) -> None:
    """Each of our words is known to the catalogue, and whatever is not ours stands so in one of the definitions."""
    kinds = set()
    for old, new in _pairs():
        theirs = set(re.findall(r"\w+", f"{old.model_dump()} {new.model_dump()} {old.model_dump_json()}"))
        for each in differences(old, new):
            parts = [*each.said, *([each.why_not] if each.why_not else []), *each.for_blinded().said]
            for part in parts:
                kinds.add(part)
                if isinstance(part, Ours) or part == each.why_not:
                    said = in_language(str(part), language)
                    assert said != part or part in SAME[language], part
                    left = set(re.findall(r"\w+", said)) & ENGLISH[language]
                    assert left <= theirs, said
                else:
                    assert set(re.findall(r"\w+", part)) <= theirs, part
            assert each.told(str) == each.text
    assert len(kinds) > 120


def test_a_line_in_german() -> None:
    (found,) = differences(definition(), changed("visits/2/day", 119))
    assert found.told(lambda text: in_language(text, "de")) == (
        "Week 18: war fällig an Tag 126 nach der Randomisierung, ist jetzt fällig an Tag 119 nach der Randomisierung."
    )
    (found,) = differences(definition(), changed(f"{PAIN}/3/required", True))
    assert found.told(lambda text: in_language(text, "es")).endswith("si es obligatorio: era no, ahora es sí.")


@pytest.mark.parametrize("study", ["resolve", "prt", "etmi"])
def test_a_study_does_not_differ_from_itself(study: str) -> None:
    one, _ = read_folder(LIBRARY / study)
    again, _ = read_folder(LIBRARY / study)
    assert one is not None
    assert again is not None
    assert differences(one, again) == ()


@pytest.mark.requirement("CON-10")
def test_the_amendment_of_resolve_is_said_as_it_was() -> None:
    """June 2016: disability from a primary to a secondary outcome (JAMA 2022, Supplement 1). The number of participants
    it was before is not published, so that here it is as it is now."""
    after, _ = read_folder(LIBRARY / "resolve")
    assert after is not None
    rank = {"kind": "primary"}
    before = after.model_copy(
        update={
            "version": "1.0",
            "amendments": (),
            "outcomes": tuple(
                each.model_copy(update=rank) if each.instrument == "rmdq" and each.visit == "week18" else each
                for each in after.outcomes
            ),
        }
    )
    found = differences(before, after)
    assert {each.topic for each in found} == {Topic.STUDY, Topic.OUTCOMES}
    assert not forbidden(found)
    said = " ".join(each.text for each in found)
    assert "was “primary”, is now “secondary”" in said
    assert "Sample size and rank of the disability outcome" in said
