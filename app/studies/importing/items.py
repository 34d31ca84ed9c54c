"""How are choices, ranges and checks written, whatever the format they come from?"""

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from app.studies.importing.codes import Codes, Labels, plain, short
from app.studies.importing.draft import Data, Draft
from app.studies.rules.items import LARGEST_POWER, WIDEST_SCALE


def choices(draft: Draft, options: Iterable[tuple[str, str]], where: str) -> tuple[list[Data], dict[str, str]]:
    """Choices, and the code here for each code there."""
    codes, labels = Codes(), Labels()
    made: list[Data] = []
    renamed: dict[str, str] = {}
    for there, text in options:
        if there in renamed:
            draft.report.lost(where, f"A second choice with the code {there}: “{short(text, 80)}”.", "Give it a code.")
            continue
        here = codes.take_any(there)
        said = plain(text) or there or here
        label = labels.take(short(said))
        if here != there:
            draft.report.changed(
                where,
                f"The choice {there or '(no code)'} “{short(said, 60)}”.",
                f"Its code is {here}: codes begin with a letter or a digit.",
                "Map the code when you bring data in; conditions were changed along.",
            )
        if label != said:
            draft.report.changed(
                where, f"The choice {there} “{short(said, 200)}”.", f"Its label is “{short(label, 60)}”."
            )
        renamed[there] = here
        made.append({"code": here, "label": label})
    return made, renamed


def number(text: str) -> Decimal | None:
    """A finite number that can be counted here, with a point or a comma; None when it is none."""
    try:
        found = Decimal(text.strip().replace(",", ".", 1) if text.count(",") == 1 and "." not in text else text.strip())
    except InvalidOperation:
        return None
    if not found.is_finite() or abs(found.adjusted()) > LARGEST_POWER:
        return None
    return found


def digits(value: Decimal) -> str:
    """A number in plain digits, as a study file says it."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def set_range(draft: Draft, item: Data, low: Decimal | None, high: Decimal | None, *, hard: bool, where: str) -> None:
    """Give an item a range: hard is `min` and `max`, soft is what is expected."""
    if low is not None and high is not None and low > high:
        draft.report.lost(where, f"A range from {digits(low)} to {digits(high)}.", "Say which number is the lowest.")
        return
    keys = ("min", "max") if hard else ("expected_min", "expected_max")
    for key, value in zip(keys, (low, high), strict=True):
        if value is None:
            continue
        if item["type"] in ("integer", "scale", "slider") and value != value.to_integral_value():
            draft.report.lost(where, f"The bound {digits(value)} of a whole number.", "Write a whole number.")
            continue
        item[key] = digits(value)


def as_line(draft: Draft, item: Data, low: Decimal, high: Decimal, where: str) -> None:
    """A line between two numbers: a row of buttons where that has room, else a line to mark."""
    if low != low.to_integral_value() or high != high.to_integral_value() or low >= high:
        draft.report.changed(where, f"A slider from {digits(low)} to {digits(high)}.", "It goes from 0 to 100.")
        low, high = Decimal(0), Decimal(100)
    item["type"] = "scale" if high - low <= WIDEST_SCALE else "slider"
    item["min"], item["max"] = digits(low), digits(high)


def literal(text: str) -> str | None:
    """A text as an expression says it; None when it holds both kinds of quotes."""
    if "'" not in text:
        return f"'{text}'"
    return f'"{text}"' if '"' not in text else None


def check(item: Data, rule: str, message: str, *, hard: bool) -> None:
    """Add an edit check."""
    item.setdefault("checks", []).append({"rule": rule, "message": short(message), "kind": "hard" if hard else "soft"})
