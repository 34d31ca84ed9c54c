"""A small definition to randomise with: two arms 2:1 or 1:1, two sites, a stratum from the baseline entry."""

from typing import Any

from app.studies.definition import Study

SESSION_ITEMS = [
    {"code": "minutes", "label": "Minutes", "type": "integer", "min": 1, "max": 90},
    {
        "code": "device",
        "label": "Device",
        "type": "choice",
        "choices": [{"code": "a", "label": "A"}, {"code": "b", "label": "B"}],
    },
    {"code": "note", "label": "Note", "type": "text", "required": False, "max_length": 4000, "multiline": True},
]
ARMS = [
    {"code": "graded_sensorimotor", "label": "Graded sensorimotor retraining"},
    {"code": "sham", "label": "Sham devices"},
]


def definition(**changes: Any) -> Study:
    """The definition, with some of its keys replaced."""
    whole: dict[str, Any] = {
        "code": "small",
        "version": "1",
        "title": "A small trial",
        "short_title": "SMALL",
        "target": 40,
        "sites": [{"code": "SYD", "name": "Sydney", "timezone": "Australia/Sydney"}, {"code": "PER", "name": "Perth"}],
        "arms": ARMS,
        "allocation": {"method": "permuted_blocks", "strata": [{"code": "site", "label": "Site"}]},
        "eligibility": {
            "instrument": "prescreen",
            "criteria": [{"code": "adult", "label": "Adult", "kind": "inclusion", "rule": "[age] >= 18"}],
        },
        "visits": [
            {
                "code": "baseline",
                "label": "Baseline",
                "kind": "baseline",
                "anchor": "consent",
                "day": 0,
                "window": {"before": 0, "after": 14},
                "instruments": ["pain"],
            },
            *(
                {
                    "code": f"session{number}",
                    "label": f"Session {number}",
                    "kind": "treatment",
                    "day": 7 * number,
                    "window": {"before": 3, "after": 3},
                }
                for number in (1, 2)
            ),
        ],
        "missing_codes": [{"code": "UNK", "label": "Not known"}],
        "withdrawal_levels": [{"code": "visits", "label": "Stops visits", "stops_visits": True}],
        "treatment": [
            {
                "arm": "graded_sensorimotor",
                "modules": [{"code": "loading", "label": "Loading", "items": SESSION_ITEMS}],
            },
            {
                "arm": "sham",
                "modules": [
                    {"code": "laser", "label": "Laser, off", "items": SESSION_ITEMS},
                    {"code": "talk", "label": "Talk"},
                ],
            },
        ],
        "instruments": [
            {
                "code": "prescreen",
                "label": "Pre-screen",
                "source": "ours",
                "sections": [{"items": [{"code": "age", "label": "Age", "type": "integer"}]}],
            },
            {
                "code": "pain",
                "label": "Pain today",
                "source": "ours",
                "sections": [{"items": [{"code": "nrs", "label": "Pain", "type": "scale", "min": 0, "max": 10}]}],
            },
        ],
        "consent_documents": [
            {
                "version": "1",
                "language": "en",
                "title": "Consent",
                "valid_from": "2026-01-01",
                "text": "I agree.",
                "sha256": "0" * 64,
            }
        ],
    }
    return Study.model_validate(whole | changes)


BY_PAIN = {
    "code": "severity",
    "label": "Severity",
    "by": "expression",
    "expression": "if([baseline][nrs] >= 7, 'high', if([baseline][nrs] >= 4, 'low', 'none'))",
    "levels": [{"code": "low", "label": "Low"}, {"code": "high", "label": "High"}],
}
