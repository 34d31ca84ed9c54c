"""Any study: valid definitions with every type of item, skip logic, checks, calculations and visits; and any answers.

Everything is drawn for hypothesis, so that what fails is made as small as it can be.
"""

from typing import Any

from hypothesis import strategies as st

from app.studies.definition import Item, ItemType, Study
from app.studies.rules import Severity, problems
from tests.factories import MINI

KINDS = ("choice", "choices", "yes_no", "integer", "number", "scale", "date", "time", "text", "calculated")
TEXTS = ("Sore", "Sore back", "sore  BACK", "Ünïcode", "0", "'quoted'", "a\nb", "=1+1", " ")
CHOICES = ("a", "b", "c9")
TERMS = [{"code": f"T{n}", "label": f"Term {n} of sore backs"} for n in range(3)]


def _condition(draw: Any, earlier: list[dict[str, Any]], event: str = "") -> str:
    """A condition on items that come before."""
    of = draw(st.sampled_from(earlier))
    name = f"{event}[{of['code']}"
    match of["type"]:
        case "choice":
            said = f"{name}] {draw(st.sampled_from(['=', '<>']))} '{draw(st.sampled_from(CHOICES))}'"
        case "choices":
            said = f"{name}({draw(st.sampled_from(CHOICES))})]"
        case "yes_no":
            said = f"{name}] = {draw(st.sampled_from(['true', 'false']))}"
        case "integer" | "number" | "scale" | "calculated":
            said = f"{name}] {draw(st.sampled_from(['<', '<=', '>', '>=', '=', '<>']))} {draw(st.integers(0, 6))}"
        case "date":
            said = f"datediff({name}], '2026-02-01', 'd') > {draw(st.integers(-5, 40))}"
        case _:
            said = f"{name}] <> ''"
    if draw(st.integers(0, 3)) == 3:
        other = _condition(draw, earlier, event)
        said = f"({said} {draw(st.sampled_from(['and', 'or']))} not ({other}))"
    return said


def _calculation(draw: Any, earlier: list[dict[str, Any]]) -> str:
    numbers = [f"[{each['code']}]" for each in earlier if each["type"] in ("integer", "number", "scale", "calculated")]
    lists = [f"[{each['code']}]" for each in earlier if each["type"] == "choices"]
    ways = ["if"] if earlier else []
    ways += ["sum", "plus"] if numbers else []
    ways += ["count"] if lists else []
    match draw(st.sampled_from(ways or ["fixed"])):
        case "if":
            return f"if({_condition(draw, earlier)}, {draw(st.integers(0, 5))}, 2.5)"
        case "sum":
            return f"sum({', '.join(numbers)})"
        case "plus":
            return f"{numbers[0]} * 2 / 3 + {numbers[-1]}"
        case "count":
            return f"selected_count({lists[0]})"
        case _:
            return "1 + 1"


@st.composite
def items(draw: Any, prefix: str, referred: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    """The items of one instrument; checks may also look at `referred`, items of an earlier visit."""
    made: list[dict[str, Any]] = []
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    for number, kind in enumerate(kinds):
        item: dict[str, Any] = {"code": f"{prefix}_{number}", "label": f"{kind} {number}", "type": kind}
        match kind:
            case "choice" | "choices":
                item["choices"] = [{"code": code, "label": f"Choice {code}"} for code in CHOICES]
            case "scale":
                item |= {"min": 0, "max": draw(st.sampled_from([4, 10]))}
            case "integer" | "number":
                item |= {"min": -3, "max": draw(st.sampled_from([5, 99]))}
                if draw(st.booleans()):
                    item["expected_max"] = 4
                if kind == "number":
                    item["decimals"] = draw(st.sampled_from([0, 2, None]))
            case "text":
                item["multiline"] = True
                item["max_length"] = draw(st.sampled_from([9, 2000]))
                if draw(st.integers(0, 4)) < 4:
                    item["coding"] = {"dictionary": "words", "coders": draw(st.sampled_from([1, 2]))}
            case "calculated":
                item["calculation"] = _calculation(draw, made)
                item["decimals"] = draw(st.sampled_from([0, 1, None]))
        if kind != "calculated":
            item["required"] = draw(st.booleans())
            if draw(st.integers(0, 2)) == 0:
                item["checks"] = [
                    {
                        "rule": _condition(draw, referred, event)
                        if referred and draw(st.booleans())
                        else _condition(draw, [*made, item]),
                        "message": f"Look again at {number}.",
                        "kind": draw(st.sampled_from(["hard", "soft"])),
                    }
                ]
        if made and draw(st.integers(0, 2)) == 0:
            item["shown_if"] = _condition(draw, made)
        made.append(item)
    return made


@st.composite
def studies(draw: Any) -> Study:
    """A valid study: a pre-screen as the small trial has it, one to three visits, one to three forms at each."""
    instruments: Any = MINI["instruments"]
    forms: list[dict[str, Any]] = [instruments[0]]
    first = draw(items("one", [], ""))
    visits: list[dict[str, Any]] = []
    names = ["one"]
    forms.append(_form("one", first, draw))
    for number in range(draw(st.integers(0, 2))):
        code = ("two", "three")[number]
        forms.append(_form(code, draw(items(code, first, "[v0]")), draw))
        names.append(code)
    from_screening = draw(st.integers(0, 2))
    for number in range(draw(st.integers(1, 3))):
        # The first form stands at the first visit; the others, whose checks look back at it, only later.
        here = ["one"] if number == 0 else draw(st.lists(st.sampled_from(names), unique=True, max_size=3))
        visits.append(
            {
                "code": f"v{number}",
                "label": f"Visit {number}",
                "kind": "assessment",
                "anchor": "screening" if number < from_screening else "consent",
                "day": 7 * number,
                "window": {"before": 0, "after": draw(st.integers(0, 30))},
                "instruments": here,
                "double_entry": [each for each in here if draw(st.integers(0, 3)) == 3],
            }
        )
    study = Study.model_validate(
        {
            **MINI,
            "instruments": forms,
            "visits": visits,
            "outcomes": [],
            "dictionaries": [{"code": "words", "label": "Words", "version": "1", "terms": TERMS}],
            "double_entry": {
                "reconciled_by": draw(st.sampled_from(["data_manager", "second"])),
                "before": draw(st.sampled_from([[], ["signature"], ["completion"], ["completion", "signature"]])),
            },
            "missing_codes": draw(st.sampled_from([[], MINI["missing_codes"]])),
        }
    )
    wrong = [each for each in problems(study) if each.severity is Severity.ERROR]
    assert not wrong, wrong
    return study


def _form(code: str, made: list[dict[str, Any]], draw: Any) -> dict[str, Any]:
    cut = draw(st.integers(1, len(made)))
    sections = [{"label": "A", "items": made[:cut]}, {"label": "B", "items": made[cut:]}]
    return {
        "code": code,
        "label": code.title(),
        "source": "drawn",
        "signable": draw(st.integers(0, 4)) < 4,
        "double_entry": draw(st.integers(0, 5)) == 5,
        "sections": [each for each in sections if each["items"]],
    }


def answer(item: Item, number: int, missing: bool) -> object:
    """An answer to an item: nearly always one that it takes, None for none. `number` says which."""
    if missing and number % 11 == 0:
        return {"missing": "UNK"}
    if number % 13 == 0:
        return None
    match item.type:
        case ItemType.CHOICE:
            return CHOICES[number % 3]
        case ItemType.CHOICES:
            return [code for place, code in enumerate(CHOICES) if number >> place & 1] or None
        case ItemType.YES_NO:
            return number % 2 == 0
        case ItemType.INTEGER:
            return number % 10 - 3  # some beyond the smaller of the two ranges
        case ItemType.NUMBER:
            return number % 10 - 3 + (0.25 if number % 3 == 0 else 0)
        case ItemType.SCALE:
            return number % 6
        case ItemType.DATE:
            return f"2026-0{number % 3 + 1}-1{number % 10}"
        case ItemType.TIME:
            return f"1{number % 10}:30"
        case ItemType.TEXT:
            return TEXTS[number % len(TEXTS)]
        case _:
            return None
