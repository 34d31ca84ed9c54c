"""The small trial with a form that is entered twice, and a note that is coded."""

from typing import Any

from tests.factories import MINI

TERMS = [
    {"code": "BACK", "label": "Back disorders"},
    {"code": "LBP", "label": "Low back pain", "parent": "BACK"},
    {"code": "SCI", "label": "Sciatica", "parent": "BACK"},
    {"code": "SLEEP", "label": "Sleep disturbed by pain"},
]


def twice(*, coders: int = 2, suggestions: str = "after", per_visit: bool = False, **settings: Any) -> dict[str, Any]:
    """What to change in the small trial: pain is entered twice at week 18 (or everywhere), its note is coded."""
    coding = {"dictionary": "complaints", "coders": coders, "suggestions": suggestions}
    instruments: Any = MINI["instruments"]
    made = []
    for form in instruments:
        if form["code"] == "pain":
            items = [
                {**item, "coding": coding} if item["code"] == "pain_note" else item
                for item in form["sections"][0]["items"]
            ]
            made.append({**form, "sections": [{"items": items}], "double_entry": not per_visit})
        else:
            made.append(form)
    visits: Any = MINI["visits"]
    if per_visit:
        visits = [{**visit, "double_entry": ["pain"]} if visit["code"] == "week18" else visit for visit in visits]
    return {
        "instruments": made,
        "visits": visits,
        "double_entry": settings,
        "dictionaries": [{"code": "complaints", "label": "Complaints", "version": "1", "terms": TERMS}],
    }
