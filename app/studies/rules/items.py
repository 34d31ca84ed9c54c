"""Does an item make sense by itself? Choices, ranges and calculations, and what each type may and may not say."""

from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation

from app.studies.definition import Item, ItemType, MissingCode, Section
from app.studies.rules.findings import Path, Severity

# (where inside the item, what is wrong, how bad)
Problem = tuple[Path, str, Severity]

NUMERIC = frozenset({ItemType.INTEGER, ItemType.NUMBER, ItemType.SCALE, ItemType.SLIDER, ItemType.CALCULATED})
SEALED = frozenset({ItemType.FILE, ItemType.SIGNATURE})  # kept apart, under the key of the participant
WITH_CHOICES = frozenset({ItemType.CHOICE, ItemType.CHOICES})
IN_A_MATRIX = frozenset({ItemType.CHOICE, ItemType.YES_NO})
WIDEST_SCALE = 20
WIDEST_MATRIX = 11
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
        elif item.type in (ItemType.INTEGER, ItemType.SCALE, ItemType.SLIDER) and value != value.to_integral_value():
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
    if item.type is ItemType.SLIDER and item.min == item.max:
        yield ("max",), f"{item.code} is a line between {item.min} and {item.max}. Give it two ends.", ERROR
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
        if getattr(item, key) is not None and item.type not in (ItemType.SCALE, ItemType.SLIDER):
            yield (key,), f"{item.code} is of type {item.type}: only a scale or a slider has ends to label.", ERROR
    if item.multiline and item.type is not ItemType.TEXT:
        yield ("multiline",), f"{item.code} is of type {item.type}: only text can have several lines.", ERROR
    for key, type_, what in (
        ("precision", ItemType.DATE, "only a date can be known in part"),
        ("show_value", ItemType.SLIDER, "only a slider shows or hides its number"),
        ("kinds", ItemType.FILE, "only a file is of a kind"),
        ("max_mb", ItemType.FILE, "only a file has a size"),
    ):
        if getattr(item, key) != type(item).model_fields[key].default and item.type is not type_:
            yield (key,), f"{item.code} is of type {item.type}: {what}. Take `{key}:` out.", ERROR
    if item.type is ItemType.SIGNATURE and item.checks:
        yield ("checks",), f"{item.code} is a signature: a rule can only ask whether it is there.", WARNING


def _missing(item: Item, missing_codes: Iterable[MissingCode]) -> Iterator[Problem]:
    for missing in missing_codes:
        for position, choice in enumerate(item.choices):
            if choice.code.casefold() == missing.code.casefold():
                yield (
                    ("choices", position, "code"),
                    f"“{choice.code}” is also the missing code for “{missing.label}”. Give one of them another code.",
                    ERROR,
                )
        if item.type in NUMERIC - {ItemType.CALCULATED} and _could_be(item, missing.code):
            yield (), f"The missing code “{missing.code}” could be an answer to {item.code}. Use letters.", ERROR


def _could_be(item: Item, code: str) -> bool:
    try:
        number = Decimal(code)
    except InvalidOperation:
        return False
    return number.is_finite() and not (_above(item.min, number) or _above(number, item.max))


def wrong_matrix(section: Section) -> Iterator[Problem]:
    """What keeps a section from being a table: every item is a choice among the same."""
    if section.layout != "matrix":
        return
    first = section.items[0]
    if len(first.choices) > WIDEST_MATRIX:
        words = f"A matrix has at most {WIDEST_MATRIX} answers to a row. Take `layout:` out, or shorten the choices."
        yield ("layout",), words, ERROR
    for position, item in enumerate(section.items):
        if item.type not in IN_A_MATRIX:
            yield (
                ("items", position, "type"),
                f"{item.code} is of type {item.type}: a matrix holds choices and yes or no alone. Move it to a section "
                "of its own.",
                ERROR,
            )
        elif item.type is not first.type or item.choices != first.choices:
            yield (
                ("items", position),
                f"{item.code} has other answers than {first.code}, and both stand in one matrix. Give them the same "
                "choices, or move one to another section.",
                ERROR,
            )


def _above(first: Decimal | None, second: Decimal | None) -> bool:
    return first is not None and second is not None and first > second
