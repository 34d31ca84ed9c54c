"""Does an item make sense by itself? Choices, ranges and calculations, and what each type may and may not say."""

from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation

from app.studies.definition import Item, ItemType, MissingCode
from app.studies.rules.findings import Path, Severity

# (where inside the item, what is wrong, how bad)
Problem = tuple[Path, str, Severity]

NUMERIC = frozenset({ItemType.INTEGER, ItemType.NUMBER, ItemType.SCALE, ItemType.CALCULATED})
WITH_CHOICES = frozenset({ItemType.CHOICE, ItemType.CHOICES})
WIDEST_SCALE = 20
LARGEST_POWER = 20  # of ten

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def wrong_item(item: Item, missing_codes: Iterable[MissingCode] = ()) -> Iterator[Problem]:
    """What is wrong with one item by itself."""
    yield from _calculation(item)
    yield from _choices(item)
    yield from _ranges(item)
    yield from _settings(item)
    yield from _missing(item, missing_codes)


def _calculation(item: Item) -> Iterator[Problem]:
    if item.type is ItemType.CALCULATED and item.calculation is None:
        yield (), f"{item.code} is calculated, but has no calculation. Add `calculation:`.", ERROR
    if item.type is not ItemType.CALCULATED and item.calculation is not None:
        yield (
            ("calculation",),
            f"{item.code} is of type {item.type} and is typed by a person. Write `type: calculated` or take the "
            "calculation out.",
            ERROR,
        )


def _choices(item: Item) -> Iterator[Problem]:
    if item.type in WITH_CHOICES:
        if not item.choices:
            yield (), f"{item.code} is of type {item.type}, but has no choices. Add `choices:`.", ERROR
        yield from _repeated(item, [choice.code for choice in item.choices], "code")
        yield from _repeated(item, [choice.label for choice in item.choices], "label")
    elif item.choices:
        yield ("choices",), f"{item.code} is of type {item.type}, which has no choices. Take `choices:` out.", ERROR


def _repeated(item: Item, values: list[str], key: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for position, value in enumerate(values):
        if value.casefold() in seen:
            yield ("choices", position, key), f"Two choices of {item.code} have the {key} “{value}”.", ERROR
        seen.add(value.casefold())


def _ranges(item: Item) -> Iterator[Problem]:
    for key in ("min", "max", "expected_min", "expected_max"):
        value: Decimal | None = getattr(item, key)
        if value is None:
            continue
        if item.type not in NUMERIC:
            yield (key,), f"{item.code} is of type {item.type}, which has no range. Take `{key}:` out.", ERROR
        elif value.adjusted() > LARGEST_POWER or value.adjusted() < -LARGEST_POWER:
            yield (key,), f"{item.code}: {key} {value} is beyond what can be counted here. Write the number out.", ERROR
            return
        elif item.type in (ItemType.INTEGER, ItemType.SCALE) and value != value.to_integral_value():
            yield (key,), f"{item.code} takes whole numbers, so {key} cannot be {value}.", ERROR
    if item.type not in NUMERIC:
        return
    for low, high in (("min", "max"), ("expected_min", "expected_max")):
        if _above(getattr(item, low), getattr(item, high)):
            yield (low,), f"{item.code}: {low} {getattr(item, low)} is above {high} {getattr(item, high)}.", ERROR
    for key in ("expected_min", "expected_max"):
        value = getattr(item, key)
        if _above(item.min, value) or _above(value, item.max):
            yield (key,), f"{item.code}: {key} {value} lies outside {item.min} to {item.max}.", ERROR
    if item.type is not ItemType.SCALE:
        return
    if item.min is None or item.max is None:
        yield (), f"{item.code} is a scale: say its `min:` and its `max:`.", ERROR
    elif item.max - item.min > WIDEST_SCALE:
        yield (
            ("max",),
            f"{item.code} would be a row of {item.max - item.min + 1} buttons. Use `type: integer`.",
            WARNING,
        )


def _settings(item: Item) -> Iterator[Problem]:
    if item.decimals is not None and item.type not in (ItemType.NUMBER, ItemType.CALCULATED):
        yield ("decimals",), f"{item.code} is of type {item.type}: only numbers have decimals.", ERROR
    for key in ("low_label", "high_label"):
        if getattr(item, key) is not None and item.type is not ItemType.SCALE:
            yield (key,), f"{item.code} is of type {item.type}: only a scale has ends to label.", ERROR
    if item.multiline and item.type is not ItemType.TEXT:
        yield ("multiline",), f"{item.code} is of type {item.type}: only text can have several lines.", ERROR


def _missing(item: Item, missing_codes: Iterable[MissingCode]) -> Iterator[Problem]:
    for missing in missing_codes:
        for position, choice in enumerate(item.choices):
            if choice.code.casefold() == missing.code.casefold():
                yield (
                    ("choices", position, "code"),
                    f"“{choice.code}” is also the missing code for “{missing.label}”. Give one of them another code.",
                    ERROR,
                )
        if item.type in (ItemType.INTEGER, ItemType.NUMBER, ItemType.SCALE) and _could_be(item, missing.code):
            yield (), f"The missing code “{missing.code}” could be an answer to {item.code}. Use letters.", ERROR


def _could_be(item: Item, code: str) -> bool:
    try:
        number = Decimal(code)
    except InvalidOperation:
        return False
    return number.is_finite() and not (_above(item.min, number) or _above(number, item.max))


def _above(first: Decimal | None, second: Decimal | None) -> bool:
    return first is not None and second is not None and first > second
