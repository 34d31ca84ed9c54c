"""Every error of a study folder is reported, at its line, and nothing in a folder can crash or run anything."""

import hashlib
import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.studies.loading import LARGEST_FILE, LIBRARY, SCHEMA_FILE, library, read_folder, read_yaml, write_schema
from app.studies.rules import Finding, Severity, fingerprint
from tests.studies.folders import CONSENT, FORM, SCREENING, STUDY, WHOLE, broken, write

STRATA_BESIDE_THE_SITE = STUDY[STUDY.index("    - code: severity") : STUDY.index("eligibility:")]
S, F, SCR, C = "study.yaml", "instruments/form.yaml", "instruments/screening_form.yaml", "consent/v1.en.md"
NRS = "- {code: nrs, label: Pain, type: scale, min: 0, max: 10}"
AGE = '"[age] >= 18"'

# (what is wrong, edits, [(file, words on the line reported, words of the message)]), one per expected finding
TABLE = [
    (
        "a key is misspelt",
        [(S, "target:", "targt:")],
        [(S, "targt", "Did you mean `target`"), (S, "", "`target` is missing")],
    ),
    (
        "a key is unknown",
        [(S, "short_title: SMALL", "short_title: SMALL\ncolour: red")],
        [(S, "colour", "Possible here: code")],
    ),
    (
        "a key stands twice",
        [(S, "target: 40", "target: 40\ntarget: 50")],
        [(S, "target: 50", "twice; the first is in line 5")],
    ),
    ("a number is no number", [(S, "target: 40", "target: many")], [(S, "target", "whole number, not “many”")]),
    ("a number is too small", [(S, "target: 40", "target: 0")], [(S, "target", "at least 1")]),
    ("a code has a space", [(S, "code: small", "code: s mall")], [(S, "s mall", "small letters, digits and _")]),
    ("a method does not exist", [(S, "permuted_blocks", "coin")], [(S, "coin", "Possible: permuted_blocks, list")]),
    ("a value is empty", [(S, "title: A small study", "title:")], [(S, "title:", "is empty")]),
    (
        "a list is a text",
        [(S, "instruments: [form]\n  - code: tx1", "instruments: form\n  - code: tx1")],
        [(S, "instruments: form", "is a list")],
    ),
    ("a group is a text", [(S, "{before: 2, after: 2}", "two days")], [(S, "two days", "group of keys")]),
    ("yes is no boolean", [(S, "stops_visits: true", "stops_visits: perhaps")], [(S, "perhaps", "true or false")]),
    ("the YAML is broken", [(F, "label: Pain form", 'label: "Pain form')], [(F, None, "This is not YAML")]),
    ("a tab indents", [(SCR, "  - items:", "\t- items:")], [(SCR, None, "This is not YAML")]),
    (
        "a tag would build an object",
        [(SCR, "source: Ours.", "source: !!python/object/apply:os.system [ls]")],
        [(SCR, "python", "Tags such as"), (SCR, "python", "is a text, not a list")],
    ),
    (
        "an alias has no anchor",
        [(SCR, "source: Ours.", "source: *nowhere")],
        [(SCR, "nowhere", "nothing named &nowhere")],
    ),
    (
        "a date is a number known in part",
        [(F, "type: scale, min: 0, max: 10", "type: scale, min: 0, max: 10, precision: month")],
        [(F, "month", "only a date can be known in part")],
    ),
    (
        "a text is a file of a kind",
        [(F, 'type: text, shown_if: "[nrs] > 8"', "type: text, kinds: [pdf], max_mb: 3")],
        [(F, "pdf", "only a file is of a kind"), (F, "pdf", "only a file has a size")],
    ),
    (
        "a file is larger than any",
        [(F, 'type: text, shown_if: "[nrs] > 8"', "type: file, max_mb: 300")],
        [(F, "max_mb", "at most 25")],
    ),
    (
        "a line has no length",
        [(F, "type: scale, min: 0, max: 10", "type: slider, min: 5, max: 5")],
        [(F, "slider", "Give it two ends")],
    ),
    (
        "a matrix holds what is no choice",
        [(F, "  - label: Answers", "  - label: Answers\n    layout: matrix")],
        [
            (F, "type: scale", "a matrix holds choices and yes or no alone"),
            (F, "code: side", "side has other answers than nrs"),
            (F, "type: choices", "a matrix holds choices and yes or no alone"),
            (F, "type: text", "a matrix holds choices and yes or no alone"),
        ],
    ),
    (
        "words in another language stand in the instrument",
        [(F, "source: Ours.", "source: Ours.\ntexts: [{language: de}]")],
        [(F, "texts", "a file of their own")],
    ),
    ("a list is a key", [(SCR, "source: Ours.", "? [a, b]\n: c")], [(SCR, "? [a", "A key is one word")]),
    ("there are two documents", [(SCR, "source: Ours.", "source: Ours.\n---\n")], [(SCR, "---", "Only one document")]),
    (
        "an instrument is missing",
        [
            (S, "instruments: [form]\n  - code: tx1", "instruments: [from]\n  - code: tx1"),
            (S, "after: 7}\n    instruments: [form]", "after: 7}\n    instruments: [form, other]"),
        ],
        [(S, "[from]", "Did you mean form?"), (S, "other", "Add instruments/other.yaml")],
    ),
    (
        "the eligibility instrument is missing",
        [(S, "instrument: screening_form", "instrument: scr")],
        [
            (S, "instrument: scr", "There is no instrument “scr”"),
            (SCR, "code: screening_form", "not filled in at any visit"),
        ],
    ),
    ("an expression cannot be read", [(S, AGE, '"[age] >="')], [(S, "[age] >=", "cannot be read at character")]),
    ("an item does not exist", [(S, AGE, '"[agee] >= 18"')], [(S, "agee", "Did you mean age?")]),
    (
        "a criterion looks at a visit",
        [(S, AGE, '"[baseline][nrs] >= 3"')],
        [(S, "[baseline][nrs] >= 3", "Only screening")],
    ),
    ("a visit does not exist", [(F, "[baseline][nrs]", "[basline][nrs]")], [(F, "basline", "Did you mean baseline?")]),
    (
        "another instrument's item has no visit",
        [(F, '"[nrs] > 8"', '"[age] > 8"')],
        [(F, "[age]", "write [screening][age]")],
    ),
    (
        "a ticked choice does not exist",
        [(F, '"[nrs] > 8"', '"[places(3)]"')],
        [(F, "places(3)", "Its choices are 1, 2")],
    ),
    ("a single choice is asked like many", [(F, '"[nrs] > 8"', '"[side(left)]"')], [(F, "side(left)", "Write [side]")]),
    (
        "a choice is compared with what it cannot be",
        [(F, '"[nrs] > 8"', "\"[side] = 'middle'\"")],
        [(F, "middle", "can never be “middle”")],
    ),
    ("an instance is named", [(F, '"[nrs] > 8"', '"[week6][nrs][1] > 8"')], [(F, "[1]", "visits do not repeat")]),
    (
        "an item decides about itself",
        [(F, '"[nrs] > 8"', "\"[why] = 'x'\"")],
        [(F, "[why]", "cannot decide about itself")],
    ),
    (
        "calculations go in a circle",
        [
            (
                F,
                '"[nrs] - [baseline][nrs]"}',
                '"[again] + 1"}\n      - {code: again, label: Again, type: calculated, calculation: "[change] * 2"}',
            )
        ],
        [(F, "[again] + 1", "again, change depend on each other")],
    ),
    (
        "strata look ahead",
        [(S, "[baseline][nrs] >= 7", "[week6][nrs] >= 7")],
        [(S, "expression:", "Only baseline, screening")],
    ),
    (
        "strata name no visit",
        [(S, "[baseline][nrs] >= 7", "[nrs] >= 7")],
        [(S, "expression:", "Write e.g. [baseline][nrs]")],
    ),
    (
        "a stratum has one level",
        [(S, "        - {code: high, label: High}\n", "")],
        [(S, "code: severity", "two `levels:` or more")],
    ),
    (
        "a site stratum has levels",
        [
            (
                S,
                "{code: place, label: Place, by: site}",
                "{code: place, label: Place, by: site, levels: [{code: a, label: A}]}",
            )
        ],
        [(S, "levels: [{", "take `levels:` out")],
    ),
    (
        "there are too many strata",
        [
            (S, "target: 40", "target: 14"),
            (S, "Real stimulation, planned: 20", "Real stimulation"),
            (S, "Pretended stimulation, planned: 20", "Pretended stimulation"),
        ],
        [(S, "{code: place", "4 strata for 14")],
    ),
    (
        "a range is upside down",
        [(F, NRS, "- {code: nrs, label: Pain, type: scale, min: 10, max: 0}")],
        [(F, "min: 10", "min 10 is above max 0")],
    ),
    (
        "the expected lies outside",
        [(SCR, "max: 120", "max: 120, expected_max: 130")],
        [(SCR, "expected_max", "outside 0 to 120")],
    ),
    ("a text has a range", [(F, "type: text,", "type: text, max: 3,")], [(F, "type: text", "has no range")]),
    (
        "a scale has no end",
        [(F, NRS, "- {code: nrs, label: Pain, type: scale, min: 0}")],
        [(F, "code: nrs", "its `max:`")],
    ),
    (
        "a scale is too wide",
        [(F, NRS, "- {code: nrs, label: Pain, type: scale, min: 0, max: 100}")],
        [(F, "code: nrs", "row of 101 buttons")],
    ),
    ("a whole number has a fraction", [(SCR, "max: 120", "max: 120.5")], [(SCR, "120.5", "whole numbers")]),
    (
        "a range is astronomical",
        [(SCR, "max: 120", "max: 1e999999999")],
        [(SCR, "1e999999999", "beyond what can be counted")],
    ),
    (
        "an integer has decimals",
        [(SCR, "max: 120", "max: 120, decimals: 2")],
        [(SCR, "decimals", "only numbers have decimals")],
    ),
    ("an integer has a low label", [(SCR, "max: 120", "max: 120, low_label: Young")], [(SCR, "Young", "only a scale")]),
    ("a number has several lines", [(SCR, "max: 120", "max: 120, multiline: true")], [(SCR, "multiline", "only text")]),
    ("a choice has no choices", [(SCR, "type: yes_no", "type: choice")], [(SCR, "type: choice", "Add `choices:`")]),
    (
        "choices are where none belong",
        [(SCR, "type: yes_no", "type: yes_no, choices: [{code: a, label: A}]")],
        [(SCR, "choices: [", "Take `choices:` out")],
    ),
    (
        "a choice stands twice",
        [(F, "{code: right, label: Right}", "{code: left, label: left}")],
        [(F, "label: left}", "have the code “left”"), (F, "label: left}", "have the label “left”")],
    ),
    (
        "a calculated item has no calculation",
        [(F, ', calculation: "[nrs] - [baseline][nrs]"', "")],
        [(F, "code: change", "has no calculation")],
    ),
    (
        "a typed item has a calculation",
        [(SCR, "max: 120", 'max: 120, calculation: "1 + 1"')],
        [(SCR, "1 + 1", "typed by a person")],
    ),
    (
        "a calculated item has a check",
        [(F, 'calculation: "[nrs]', 'checks: [{rule: "[nrs] > 0", message: Higher}], calculation: "[nrs]')],
        [(F, "checks:", "cannot be corrected itself")],
    ),
    (
        "a missing code is a choice",
        [(F, "{code: right, label: Right}", "{code: nd, label: Right}")],
        [(F, "code: nd", "also the missing code")],
    ),
    (
        "a missing code could be an answer",
        [(S, "{code: ND, label: Not done}", '{code: "7", label: Not done}')],
        [
            (F, "code: nrs", "could be an answer to nrs"),
            (SCR, "code: age", "could be an answer to age"),
            (S, "code: minutes", "could be an answer to minutes"),
        ],
    ),
    (
        "an item stands twice",
        [(SCR, "code: ill", "code: age"), (S, '"[ill]"', '"[age] > 99"')],
        [(SCR, "yes_no", "two items “age”")],
    ),
    (
        "an item's code is in two instruments",
        [(F, "code: why", "code: ill")],
        [(SCR, "code: ill", "form has an item “ill” too")],
    ),
    (
        "two arms have one code",
        [(S, "code: dummy, label", "code: active, label")],
        [(S, "Pretended", "two arms “active”"), (S, "- arm: dummy", "no arm “dummy”")],
    ),
    (
        "arms do not add up",
        [(S, "Real stimulation, planned: 20", "Real stimulation, planned: 21")],
        [(S, "code: active", "plan 41 participants, the target is 40")],
    ),
    (
        "a site is to enrol more than the study",
        [(S, "timezone: UTC}", "timezone: UTC, target: 41}")],
        [(S, "target: 41", "the whole study 40")],
    ),
    (
        "the sites together enrol too few",
        [(S, "timezone: UTC}", "timezone: UTC, target: 15}"), (S, "Europe/Zurich}", "Europe/Zurich, target: 20}")],
        [(S, "code: north", "add up to 35")],
    ),
    ("a site has no room", [(S, "timezone: UTC}", "timezone: UTC, target: 0}")], [(S, "target: 0", "at least 1")]),
    (
        "arms do not follow the ratio",
        [
            (S, "Real stimulation, planned: 20", "Real stimulation, planned: 30"),
            (S, "Pretended stimulation, planned: 20", "Pretended stimulation, planned: 10"),
        ],
        [(S, "planned: 30", "ratio is 1 of 2"), (S, "planned: 10", "ratio is 1 of 2")],
    ),
    (
        "an arm has no plan",
        [(S, "Real stimulation, planned: 20", "Real stimulation")],
        [(S, "code: active", "for every arm or for none")],
    ),
    (
        "there is one arm",
        [
            (S, "  - {code: dummy, label: Pretended stimulation, planned: 20}\n", ""),
            (S, "target: 40", "target: 20"),
            (S, "  - arm: dummy\n    modules: []\n", ""),
        ],
        [(S, "code: active", "two arms or more")],
    ),
    (
        "an observed study allocates",
        [(S, "permuted_blocks", "observed")],
        [
            (S, "{code: place", "take the strata out"),
            (S, "code: tx1", "Nobody is randomised"),
            (S, "code: week6", "Nobody is randomised"),
        ],
    ),
    (
        "an arm has no treatment",
        [(S, "  - arm: dummy\n    modules: []\n", "")],
        [(S, "- arm: active", "dummy has none")],
    ),
    (
        "a treatment item is wrong",
        [(S, "max: 60}", 'max: -1, shown_if: "[nrs] > 1"}')],
        [(S, "max: -1", "min 0 is above max -1"), (S, "max: -1", "no item nrs")],
    ),
    ("visits are out of order", [(S, "day: 7\n", "day: 70\n")], [(S, "day: 42", "in which they are due")]),
    (
        "windows overlap",
        [
            (
                S,
                "kind: treatment\n    day: 7\n    window: {before: 2, after: 2}",
                "kind: assessment\n    day: 35\n    window: {before: 2, after: 2}\n    instruments: [form]",
            )
        ],
        [(S, "{before: 7, after: 7}", "overlaps that of tx1")],
    ),
    ("a visit is called screening", [(S, "code: tx1", "code: screening")], [(S, "code: screening\n", "another code")]),
    (
        "an instrument stands twice at a visit",
        [(S, "after: 7}\n    instruments: [form]", "after: 7}\n    instruments: [form, form]")],
        [(S, "[form, form]", "named twice")],
    ),
    (
        "baseline comes after randomisation",
        [(S, "anchor: consent\n    day: 0", "day: 1")],
        [(S, "day: 1\n", "due after randomisation")],
    ),
    (
        "baseline counts from randomisation",
        [(S, "anchor: consent\n    day: 0", "day: 0")],
        [(S, "day: 0\n", "cannot be known before randomisation")],
    ),
    (
        "an assessment comes before randomisation",
        [(S, "kind: treatment\n    day: 7", "kind: treatment\n    day: -7")],
        [(S, "day: -7", "`kind: baseline`")],
    ),
    ("an outcome has no item", [(S, "item: nrs,", "item: nsr,")], [(S, "nsr", "Did you mean nrs?")]),
    ("an outcome has no visit", [(S, "visit: week6", "visit: week7")], [(S, "week7", "Did you mean week6?")]),
    (
        "an outcome is not measured then",
        [(S, "visit: week6", "visit: tx1")],
        [(S, "visit: tx1", "not filled in at tx1")],
    ),
    (
        "no outcome is primary",
        [(S, "kind: primary", "kind: secondary")],
        [(S, "kind: secondary", "No outcome is the primary")],
    ),
    ("a time zone does not exist", [(S, "Europe/Zurich", "Europe/Zurrich")], [(S, "Zurrich", "no time zone")]),
    (
        "nobody can withdraw",
        [(S, "withdrawal_levels:\n  - {code: stop, label: No more visits, stops_visits: true}\n", "")],
        [(S, "code: small", "withdrawal_levels")],
    ),
    ("withdrawal stops nothing", [(S, ", stops_visits: true", "")], [(S, "code: stop", "No withdrawal level stops")]),
    ("an expression asks for the arm", [(F, '"[nrs] > 8"', "\"[arm] = 'x'\"")], [(F, "[arm]", "means the arm")]),
    (
        "an expression names an arm",
        [(F, '"[nrs] > 8"', "\"[side] = 'dummy'\"")],
        [(F, "dummy", "names the arm “dummy”"), (F, "dummy", "can never be “dummy”")],
    ),
    (
        "a label names an arm",
        [(F, "label: Places", "label: Places (Dummy device)")],
        [(F, "Dummy", "names the arm “dummy”")],
    ),
    (
        "a label speaks of the allocation",
        [(F, "label: Places", "label: Believed allocation")],
        [(F, "Believed", "speaks of the allocation")],
    ),
    ("a code contains an arm", [(F, "code: why", "code: why_dummy")], [(F, "why_dummy", "contains the arm code")]),
    (
        "a label contains an arm's label",
        [(F, "label: Places", "label: Places of real stimulation")],
        [(F, "real stim", "contains an arm's label")],
    ),
    (
        "a criterion's label names an arm",
        [(S, "label: Adult", "label: Adult who wants active")],
        [(S, "wants active", "names the arm")],
    ),
    (
        "the future is asked at screening",
        [(SCR, "type: yes_no", 'type: yes_no, shown_if: "[week6][nrs] > 1"')],
        [(SCR, "week6", "comes later"), (S, '"[ill]"', "ill -> [screening][ill] -> [week6][nrs]")],
    ),
    ("a code is an arm's with a number", [(F, "code: why", "code: dummy2")], [(F, "dummy2", "contains the arm code")]),
    (
        "a code is an arm's label",
        [(F, "code: why", "code: real_stimulation")],
        [(F, "real_stimulation", "contains an arm's label"), (F, "real_stimulation", "“real” here")],
    ),
    (
        "a label has a word of one arm's label",
        [(F, "label: Side", "label: Pretended side")],
        [(F, "Pretended", "“pretended” here, which only the label of one arm has")],
    ),
    (
        "a visit is labelled for an arm",
        [(S, "label: Week 6", "label: Week 6 (dummy only)")],
        [(S, "dummy only", "names the arm “dummy”")],
    ),
    (
        "a visit is of what one arm gets",
        [(S, "label: Session 1", "label: Stimulation 1"), (S, "label: Stimulation\n", "label: Current\n")],
        [],
    ),
    (
        "a visit names what one arm gets",
        [(S, "label: Session 1", "label: Stim 1")],
        [(S, "Stim 1", "“stim”, which is delivered in some arms only")],
    ),
    (
        "a site is named for an arm",
        [(S, "name: South", "name: Dummy clinic")],
        [(S, "Dummy clinic", "names the arm “dummy”")],
    ),
    (
        "an optional consent is for one arm",
        [(S, "outcomes:\n", "consent:\n  optional:\n    - {code: more, label: More dummy visits}\noutcomes:\n")],
        [(S, "More dummy", "names the arm “dummy”")],
    ),
    (
        "the procedure of unblinding names an arm",
        [(S, "outcomes:\n", "unblinding: {procedure: The allocation of dummy is never urgent}\noutcomes:\n")],
        [(S, "procedure", "names the arm “dummy”")],
    ),
    (
        "a consent document has no front matter",
        [(C, '---\nversion: "1"', 'version: "1"')],
        [(C, "version", "between two lines of ---")],
    ),
    ("a consent document says no title", [(C, "title: Consent\n", "")], [(C, "version", "`title` is missing")]),
    ("a consent date is no date", [(C, "2026-01-01", "soon")], [(C, "soon", "a date such as")]),
    ("a consent document has no text", [(C, "Taking part is voluntary.\n", "")], [(C, None, "has no text")]),
    (
        "a method of two equal arms has unequal ones",
        [
            (S, "permuted_blocks", "big_stick"),
            (S, "label: Real stimulation, planned: 20", "label: Real stimulation, ratio: 2"),
            (S, "label: Pretended stimulation, planned: 20", "label: Pretended stimulation"),
        ],
        [(S, "big_stick", "defined for two arms with the ratio 1:1")],
    ),
    (
        "a method of equal arms has unequal ones",
        [
            (S, "permuted_blocks", "wei_urn"),
            (S, "label: Real stimulation, planned: 20", "label: Real stimulation, ratio: 2"),
            (S, "label: Pretended stimulation, planned: 20", "label: Pretended stimulation"),
        ],
        [(S, "wei_urn", "defined for arms with equal shares")],
    ),
    (
        "sites are drawn, and something else stands among the strata",
        [(S, "permuted_blocks", "cluster")],
        [(S, "{code: place", "Write one stratum, by site")],
    ),
    (
        "sites are drawn, and there are fewer than arms",
        [
            (S, "permuted_blocks", "cluster"),
            (S, STRATA_BESIDE_THE_SITE, ""),
            (S, "  - {code: south, name: South, timezone: UTC}\n", ""),
        ],
        [(S, "code: north", "an arm can be left without a site")],
    ),
    (
        "a consent document states its own hash",
        [(C, "language: en", "language: en\nsha256: abc")],
        [(C, "sha256", "taken from the file itself")],
    ),
    ("consent is in another language", [(C, "language: en", "language: de")], [(S, None, "study's language")]),
    (
        "many things at once",
        [
            (S, "target:", "targt:"),
            (S, "permuted_blocks", "coin"),
            (F, "type: text,", "type: txt,"),
            (SCR, "max: 120", "max: -1"),
            (C, "language: en", "language: english"),
        ],
        [
            (S, "targt", "not a key"),
            (S, None, "`target` is missing"),
            (S, "coin", "cannot be “coin”"),
            (F, "txt", "Possible: choice"),
            (SCR, "max: -1", "above max -1"),
            (C, "english", "such as en or en-GB"),
        ],
    ),
]


def line_of(files: dict[str, str], file: str, words: str | None) -> int | None:
    """The only line that holds these words; None: any."""
    if words is None:
        return None
    if words == "":
        return 1
    text = files[file]
    position = text.find(words)
    assert position >= 0, (file, words)
    return text.count("\n", 0, position) + 1


@pytest.mark.parametrize(("edits", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_broken_folder_gives_exactly_these_findings(tmp_path, edits, expected):
    files = broken(*edits)
    _, findings = read_folder(write(tmp_path, files))
    shown = "\n".join(map(str, findings))
    assert len(findings) == len(expected), shown
    left = list(findings)
    for file, words, message in expected:
        line = line_of(files, file, words)
        match = [f for f in left if f.file == file and message in f.message and line in (None, f.line)]
        assert match, f"{file}:{line}: {message}\n\n{shown}"
        assert match[0].line >= 1
        assert match[0].column >= 1
        left.remove(match[0])


def test_a_whole_folder_has_no_finding(tmp_path):
    study, findings = read_folder(write(tmp_path, WHOLE))
    assert findings == []
    assert study is not None
    assert [instrument.code for instrument in study.instruments] == ["form", "screening_form"]


def test_a_study_with_an_error_is_not_given_out_and_one_with_warnings_is(tmp_path):
    study, findings = read_folder(write(tmp_path / "a", broken((S, "item: nrs,", "item: nope,"))))
    assert study is None
    assert findings[0].severity is Severity.ERROR
    study, findings = read_folder(write(tmp_path / "b", broken((S, "kind: primary", "kind: secondary"))))
    assert study is not None
    assert [finding.severity for finding in findings] == [Severity.WARNING]


def test_a_broken_instrument_is_not_reported_again_by_what_names_it(tmp_path):
    _, findings = read_folder(write(tmp_path, broken((F, "label: Pain form", "label:"))))
    assert [(finding.file, finding.line) for finding in findings] == [(F, 2)]


def test_columns_point_at_the_value(tmp_path):
    files = broken((S, "timezone: Europe/Zurich", "timezone: Nowhere"))
    _, findings = read_folder(write(tmp_path, files))
    line = files[S].splitlines()[findings[0].line - 1]
    assert line[findings[0].column - 1 :].startswith("Nowhere")


def test_what_is_missing_altogether_is_said(tmp_path):
    assert "no such folder" in read_folder(tmp_path / "none")[1][0].message
    assert [finding.message for finding in read_folder(tmp_path)[1]] == [
        "The folder has no study.yaml. Every study begins with one."
    ]
    _, findings = read_folder(write(tmp_path, {**WHOLE, "study.yaml": ""}))
    assert [finding.message for finding in findings] == ["The file is empty."]
    files = {name: text for name, text in WHOLE.items() if not name.startswith("consent")}
    assert "no consent document" in read_folder(write(tmp_path / "x", files))[1][0].message


def test_files_that_would_be_ignored_are_named(tmp_path):
    files = {**WHOLE, "instruments/other.yml": FORM, "README.md": "x", ".git/x": "x"}
    _, findings = read_folder(write(tmp_path, files))
    assert [(finding.file, finding.severity) for finding in findings] == [("instruments/other.yml", Severity.WARNING)]


def test_a_file_named_unlike_its_instrument_is_warned_of(tmp_path):
    files = {name.replace("form.yaml", "questions.yaml") if name == F else name: text for name, text in WHOLE.items()}
    _, findings = read_folder(write(tmp_path, files))
    assert "should be named form.yaml" in findings[0].message


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    secret = tmp_path / "secret.yaml"
    secret.write_text("code: secret")
    folder = write(tmp_path / "study", WHOLE)
    os.symlink(secret, folder / "instruments" / "secret.yaml")
    _, findings = read_folder(folder)
    assert [finding.message for finding in findings] == [
        "This is a link to a file outside the study folder. Put the file itself here."
    ]


def test_a_file_that_is_too_large_or_not_utf_8_is_refused(tmp_path):
    _, findings = read_folder(write(tmp_path / "a", {**WHOLE, F: b"#" * (LARGEST_FILE + 1)}))
    assert findings[0].message == "The file is larger than 1000 kB. Split it."
    _, findings = read_folder(write(tmp_path / "b", {**WHOLE, F: FORM.encode() + b"\n# \xff\n"}))
    assert (findings[0].line, findings[0].message) == (
        FORM.count("\n") + 2,
        "The file is not in UTF-8. Save it as UTF-8.",
    )


def test_aliases_that_grow_without_end_are_stopped():
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    _, findings = read_yaml(text, "x.yaml")
    assert "more than 100000 values" in findings[0].message


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000, "&a [*a]"])
def test_nesting_without_end_is_stopped(text):
    _, findings = read_yaml(text, "x.yaml")
    assert findings


def test_an_alias_stands_for_what_its_anchor_named(tmp_path):
    files = broken(
        (F, "choices:\n          - {code: left", "choices: &sides\n          - {code: left"),
        (F, 'choices:\n          - {code: "1", label: Low}\n          - {code: "2", label: High}', "choices: *sides"),
    )
    study, findings = read_folder(write(tmp_path, files))
    assert findings == []
    assert study is not None
    form = study.instrument("form")
    assert form is not None
    side, places = form.item("side"), form.item("places")
    assert side is not None
    assert places is not None
    assert side.choices == places.choices


def test_plain_words_stay_what_was_typed(tmp_path):
    files = broken((F, "{code: left, label: Left}", "{code: 010, label: no}"), (S, 'version: "1"', "version: 1.10"))
    study, _ = read_folder(write(tmp_path, files))
    assert study is not None
    form = study.instrument("form")
    assert form is not None
    item = form.item("side")
    assert item is not None
    assert (item.choices[0].code, item.choices[0].label, study.version) == ("010", "no", "1.10")


def test_the_hash_of_a_consent_document_is_over_its_bytes(tmp_path):
    study, _ = read_folder(write(tmp_path, WHOLE))
    assert study is not None
    document = study.consent_documents[0]
    assert document.sha256 == hashlib.sha256(CONSENT.encode()).hexdigest()
    assert document.text == "Taking part is voluntary."


ORIGINALS = {"study.yaml": STUDY, F: FORM, SCR: SCREENING, C: CONSENT}
PIECES = st.one_of(
    st.sampled_from(
        ["\n", " ", ":", "-", "{", "}", "[", "]", "'", '"', "&a", "*a", "!!x", "---", "\t", "#", "|", "\x00"]
    ),
    st.sampled_from(["0", "-1", "1e99", "null", "yes", "é", "\u2028", "🙂", "[arm]", "[x][y](z)", "if(", "%"]),
    st.text(max_size=6),
)


@given(
    file=st.sampled_from(sorted(ORIGINALS)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), PIECES), min_size=1, max_size=6),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(file="study.yaml", edits=[(0.0, 0, "\ufeff")])
def test_no_mutation_of_a_folder_crashes_the_reader(tmp_path, file, edits):
    text = ORIGINALS[file]
    for where, length, piece in edits:
        start = int(where * len(text))
        text = text[:start] + piece + text[start + length :]
    write(tmp_path, {**ORIGINALS, file: text.encode("utf-8", "surrogatepass")})
    study, findings = read_folder(tmp_path)
    assert all(isinstance(finding, Finding) and finding.message for finding in findings)
    assert (study is None) == any(finding.is_error for finding in findings)
    if study is not None:
        fingerprint(study)


@given(data=st.binary(max_size=300))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_crash_the_reader(tmp_path, data):
    for file in ORIGINALS:
        write(tmp_path, {**ORIGINALS, file: data})
        study, findings = read_folder(tmp_path)
        assert (study is None) == any(finding.is_error for finding in findings)


def test_the_library_has_three_studies():
    assert [folder.name for folder in library()] == ["etmi", "prt", "resolve"]
    assert all(folder.parent == LIBRARY for folder in library())


def test_the_published_schema_is_in_step(tmp_path):
    written = tmp_path / "schema.json"
    write_schema(written)
    assert SCHEMA_FILE.read_text() == written.read_text(), "Call app.studies.loading.write_schema()."
