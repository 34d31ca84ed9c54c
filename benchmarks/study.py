"""The trial that is measured: four sites, six visits, a form of thirty items with skip logic, checks and a score."""

from collections.abc import Sequence
from typing import Any

from app.studies.definition import Study

SITES = ("north", "south", "east", "west")
VISITS = (("baseline", 0, "baseline"), ("tx01", 7, "treatment"), ("tx02", 14, "treatment"),
          ("week6", 42, "assessment"), ("week12", 84, "assessment"), ("week26", 182, "assessment"))  # fmt: skip
RATINGS = tuple(f"rating{number:02}" for number in range(1, 16))
NUMBERS = tuple(f"number{number:02}" for number in range(1, 6))
ANSWERS: dict[str, object] = {
    "pain": 6,
    "pain_days": 4,
    "worked": True,
    "where": ["back", "leg"],
    **dict.fromkeys(RATINGS, 2),
    **dict.fromkeys(NUMBERS, 12.5),
    "asked_on": "2026-03-02",
    "change": "better",
    "medicine": False,
    "note": "Came on foot.",
}


def _items() -> list[dict[str, Any]]:
    ratings = [{"code": code, "label": f"Rating {code[-2:]}", "type": "scale", "min": 0, "max": 4} for code in RATINGS]
    numbers: list[dict[str, Any]] = [
        {"code": code, "label": f"Measure {code[-2:]}", "type": "number", "decimals": 1, "unit": "cm",
         "min": 0, "max": 100, "expected_min": 5, "expected_max": 60}
        for code in NUMBERS
    ]  # fmt: skip
    numbers[1]["checks"] = [
        {"rule": "[number02] <= [number01] * 3", "message": "Much more than measure 01: check both.", "kind": "soft"}
    ]
    numbers[2]["checks"] = [
        {"rule": "[number03] <= [number04] + 50", "message": "More than measure 04 allows.", "kind": "hard"}
    ]
    return [
        {"code": "pain", "label": "Pain, past week", "type": "scale", "min": 0, "max": 10},
        {"code": "pain_days", "label": "Days with pain", "type": "integer", "min": 0, "max": 7, "checks": [
            {"rule": "not ([pain] = 0 and [pain_days] > 0)", "message": "No pain, but days with pain.", "kind": "soft"}
        ]},
        {"code": "worked", "label": "Worked", "type": "yes_no"},
        {"code": "where", "label": "Where it hurts", "type": "choices", "required": False, "shown_if": "[pain] > 0",
         "choices": [{"code": "back", "label": "Back"}, {"code": "leg", "label": "Leg"}]},
        *ratings,
        *numbers,
        {"code": "asked_on", "label": "Asked on", "type": "date", "required": False},
        {"code": "change", "label": "Change", "type": "choice",
         "choices": [{"code": "better", "label": "Better"}, {"code": "worse", "label": "Worse"}]},
        {"code": "medicine", "label": "Took medicine", "type": "yes_no"},
        {"code": "medicine_name", "label": "Which", "type": "text", "required": False, "shown_if": "[medicine] = true"},
        {"code": "note", "label": "Note", "type": "text", "required": False},
        {"code": "score", "label": "Score", "type": "calculated",
         "calculation": "sum(" + ", ".join(f"[{code}]" for code in RATINGS) + ")"},
    ]  # fmt: skip


def definition(visits: Sequence[tuple[str, int, str]] = VISITS, **changes: object) -> Study:
    """The definition as it is loaded, with some of its top-level parts replaced. A visit is a code, a day, a kind."""
    return Study.model_validate(
        {
            "code": "bench",
            "version": "1",
            "title": "A trial to measure with",
            "short_title": "BENCH",
            "target": 10_000,
            "participant_prefix": "B-",
            "participant_digits": 5,
            "sites": [
                {"code": code, "name": f"{code.title()} clinic", "timezone": "Australia/Sydney"} for code in SITES
            ],
            "arms": [{"code": "active", "label": "Training"}, {"code": "sham", "label": "Device, off"}],
            "allocation": {"method": "permuted_blocks", "strata": [{"code": "site", "label": "Site", "by": "site"}]},
            "eligibility": {
                "instrument": "prescreen",
                "criteria": [{"code": "adult", "label": "Adult", "kind": "inclusion", "rule": "[age] >= 18"}],
            },
            "visits": [
                {
                    "code": code,
                    "label": code.title(),
                    "kind": kind,
                    "anchor": "consent" if kind == "baseline" else "randomisation",
                    "day": day,
                    "window": {"before": 0 if kind == "baseline" else 6, "after": 14},
                    "instruments": [] if kind == "treatment" else ["wellbeing"],
                }
                for code, day, kind in visits
            ],
            "missing_codes": [{"code": "UNK", "label": "Unknown"}],
            "withdrawal_levels": [{"code": "visits", "label": "Stops visits", "stops_visits": True}],
            "treatment": [{"arm": arm, "modules": [{"code": arm, "label": arm.title()}]} for arm in ("active", "sham")],
            "consent_documents": [
                {
                    "version": "1",
                    "language": "en",
                    "title": "Taking part",
                    "valid_from": "2025-01-01",
                    "text": "You may stop at any time.",
                    "sha256": "0" * 64,
                }
            ],
            "instruments": [
                {
                    "code": "prescreen",
                    "label": "Pre-screen",
                    "source": "ours",
                    "respondent": "coordinator",
                    "sections": [{"items": [{"code": "age", "label": "Age", "type": "integer"}]}],
                },
                {"code": "wellbeing", "label": "Wellbeing", "source": "ours", "sections": [{"items": _items()}]},
            ],
            **changes,
        }
    )
