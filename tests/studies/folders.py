"""A small whole study folder, and ways to break it."""

from collections.abc import Mapping
from pathlib import Path

STUDY = """\
code: small
version: "1"
title: A small study
short_title: SMALL
target: 40
sites:
  - {code: north, name: North, timezone: Europe/Zurich}
  - {code: south, name: South, timezone: UTC}
arms:
  - {code: active, label: Real stimulation, planned: 20}
  - {code: dummy, label: Pretended stimulation, planned: 20}
allocation:
  method: permuted_blocks
  strata:
    - {code: place, label: Place, by: site}
    - code: severity
      label: Severity
      by: expression
      expression: "if([baseline][nrs] >= 7, 'high', 'low')"
      levels:
        - {code: low, label: Low}
        - {code: high, label: High}
eligibility:
  instrument: screening_form
  criteria:
    - {code: age, label: Adult, kind: inclusion, rule: "[age] >= 18"}
    - {code: ill, label: Serious illness, kind: exclusion, rule: "[ill]"}
visits:
  - code: baseline
    label: Baseline
    kind: baseline
    anchor: consent
    day: 0
    window: {before: 0, after: 14}
    instruments: [form]
  - code: tx1
    label: Session 1
    kind: treatment
    day: 7
    window: {before: 2, after: 2}
  - code: week6
    label: Week 6
    kind: assessment
    day: 42
    window: {before: 7, after: 7}
    instruments: [form]
outcomes:
  - {label: Pain, instrument: form, item: nrs, visit: week6, kind: primary}
missing_codes:
  - {code: ND, label: Not done}
withdrawal_levels:
  - {code: stop, label: No more visits, stops_visits: true}
treatment:
  - arm: active
    modules:
      - code: stim
        label: Stimulation
        items:
          - {code: minutes, label: Minutes, type: integer, min: 0, max: 60}
  - arm: dummy
    modules: []
"""

SCREENING = """\
code: screening_form
label: Screening
source: Ours.
sections:
  - items:
      - {code: age, label: Age, type: integer, min: 0, max: 120}
      - {code: ill, label: Serious illness, type: yes_no}
"""

FORM = """\
code: form
label: Pain form
source: Ours.
sections:
  - label: Answers
    items:
      - {code: nrs, label: Pain, type: scale, min: 0, max: 10}
      - code: side
        label: Side
        type: choice
        choices:
          - {code: left, label: Left}
          - {code: right, label: Right}
      - code: places
        label: Places
        type: choices
        choices:
          - {code: "1", label: Low}
          - {code: "2", label: High}
      - {code: why, label: Why, type: text, shown_if: "[nrs] > 8"}
  - items:
      - {code: change, label: Change, type: calculated, calculation: "[nrs] - [baseline][nrs]"}
"""

CONSENT = """\
---
version: "1"
language: en
title: Consent
valid_from: 2026-01-01
---

Taking part is voluntary.
"""

WHOLE = {
    "study.yaml": STUDY,
    "instruments/screening_form.yaml": SCREENING,
    "instruments/form.yaml": FORM,
    "consent/v1.en.md": CONSENT,
}


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write a study folder."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def broken(*edits: tuple[str, str, str]) -> dict[str, str]:
    """The whole folder with (file, old, new) replaced; the old text must be there exactly once."""
    files = dict(WHOLE)
    for file, old, new in edits:
        assert files[file].count(old) == 1, (file, old)
        files[file] = files[file].replace(old, new)
    return files
