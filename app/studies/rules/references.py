"""Can this expression be answered? It must parse, and everything it refers to must be asked, somewhere it may look."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any

from app.expressions import Expression, ExpressionError, Reference, parse
from app.studies.definition import Item, ItemType, Study, VisitKind

SCREENING = "screening"

# Names that would mean the arm. Nothing of them is ever given to an expression; naming one is a leak in the making.
ARM_WORDS = frozenset(
    {
        "allocated_arm",
        "allocation",
        "allocn",
        "arm",
        "arm_code",
        "randomisation_arm",
        "randomised_arm",
        "study_arm",
        "treatment_arm",
        "treatment_group",
    }
)


@dataclass(frozen=True)
class Asked:
    """What is asked where: the items of screening and of every visit, and what could not be read."""

    at: Mapping[str, Mapping[str, Item]] = field(default_factory=dict)
    order: tuple[str, ...] = (SCREENING,)
    before_allocation: frozenset[str] = frozenset({SCREENING})
    incomplete: frozenset[str] = frozenset()  # events of which an instrument is missing or has errors
    arms: frozenset[str] = frozenset()
    missing_codes: frozenset[str] = frozenset()
    # What the treatment room records, by item or module code, as a chain names it: empty where nobody is blinded to it.
    treatment: Mapping[str, str] = field(default_factory=dict)
    repeating: frozenset[str] = frozenset()  # items of instruments that are filled in several times at a visit
    known: bool = True  # False: study.yaml itself could not be read, so nothing is known of any visit

    def wherever(self, code: str) -> list[str]:
        """The events at which an item is asked."""
        return [event for event in self.order if code in self.at.get(event, {})]


def asked_in(study: Study, unreadable: Collection[str] = ()) -> Asked:
    """What this study asks where; `unreadable` names instruments whose file has errors of its own."""
    plan = [(SCREENING, (study.eligibility.instrument,)), *((v.code, v.instruments) for v in study.visits)]
    at: dict[str, dict[str, Item]] = {}
    for event, codes in plan:
        items = at.setdefault(event, {})
        for code in codes:
            instrument = study.instrument(code)
            if instrument is not None:
                items.update({item.code: item for item in instrument.items})
    before = {visit.code for visit in study.visits if visit.kind is VisitKind.BASELINE}
    return Asked(
        at=at,
        order=tuple(event for event, _ in plan),
        before_allocation=frozenset({SCREENING, *before}),
        incomplete=frozenset(
            event
            for event, codes in plan
            if any(code in unreadable or study.instrument(code) is None for code in codes)
        ),
        arms=frozenset(arm.code for arm in study.arms) if study.is_allocated else frozenset(),
        missing_codes=frozenset(missing.code for missing in study.missing_codes),
        repeating=frozenset(
            item.code for instrument in study.instruments if instrument.repeats for item in instrument.every_item
        ),
        treatment=_recorded_of_treatment(study) if study.is_allocated and study.blinded else {},
    )


def _recorded_of_treatment(study: Study) -> dict[str, str]:
    """Items and modules of the treatment room; an item that several modules have is known by the first."""
    known: dict[str, str] = {}
    for treatment in study.treatment:
        for module in treatment.modules:
            known.setdefault(module.code, f"treatment/{module.code}")
            for item in module.items:
                known.setdefault(item.code, f"treatment/{module.code}.{item.code}")
                known[f"{module.code}.{item.code}"] = f"treatment/{module.code}.{item.code}"
    return known


def means_treatment(reference: Reference, asked: Asked) -> str | None:
    """What of the treatment room a reference that no blinded item answers means, e.g. treatment/laser.minutes."""
    event, code = reference.event or "", reference.field
    for name in (f"{event}.{code}", code, event):
        if name in asked.treatment:
            return asked.treatment[name]
    return None


def means_an_arm(reference: Reference, asked: Asked) -> bool:
    """Whether a reference names the arm: by a word for it, or by the code of one."""
    named = {reference.field.casefold(), (reference.event or "").casefold()}
    return bool(asked.arms and named & (ARM_WORDS | {arm.casefold() for arm in asked.arms}))


def parsed(text: str) -> Expression | str:
    """The expression, or why it cannot be read."""
    try:
        return parse(text)
    except ExpressionError as error:
        where = f"line {error.line}, character {error.column}" if error.line > 1 else f"character {error.column}"
        return f"The expression cannot be read at {where}: {error.message}"


def wrong_with(
    text: str, asked: Asked, *, here: Mapping[str, Item] | None, only: Collection[str] | None = None, own: str = ""
) -> Iterator[str]:
    """What is wrong with one expression, in sentences.

    `here` are the items that may stand without a visit (None: none may), `only` the events that may be named
    (None: any), `own` the item the expression belongs to.
    """
    expression = parsed(text)
    if isinstance(expression, str):
        yield expression
        return
    for reference in sorted(expression.references, key=_name):
        yield from _wrong_reference(reference, asked, here, only, own)
    for literal in texts(expression.tree):
        if literal in asked.arms:
            yield (
                f"The expression names the arm “{literal}”. Nothing that is entered or judged may depend on the arm: "
                "take it out."
            )
    yield from _wrong_choices(expression, asked, here)


def found(reference: Reference, asked: Asked, here: Mapping[str, Item] | None) -> Item | None:
    """The item a reference means, or None."""
    items = here if reference.event is None else asked.at.get(reference.event)
    return items.get(reference.field) if items else None


def _wrong_reference(
    reference: Reference,
    asked: Asked,
    here: Mapping[str, Item] | None,
    only: Collection[str] | None,
    own: str,
) -> Iterator[str]:
    name, event, code = _name(reference), reference.event, reference.field
    if means_an_arm(reference, asked):
        yield f"{name} means the arm. Nothing that is entered or judged may depend on the arm: take it out."
        return
    if found(reference, asked, here) is None and means_treatment(reference, asked):
        return  # said with its chain by app.studies.rules.reaching
    if reference.instance == "new-instance":
        yield f"{name}: one that is not begun yet has no answers. Use [{code}][last-instance]."
        return
    if reference.instance is not None and asked.known and code not in asked.repeating:
        instead = f"[{event or 'baseline'}][{code}]"
        yield f"{name}: visits do not repeat, nor does the form of {code}. Write {instead} instead."
        return
    if event is not None and asked.known and event not in asked.at:
        yield f"There is no visit “{event}” ({name}).{_did_you_mean(event, asked.at)}"
        return
    if event is not None and only is not None and event not in only:
        usable = f"Only {_listed(only)} can be used" if only else "Only items beside it can be used"
        yield f"{name} is not known when this is judged. {usable} here."
        return
    if event is None and here is None:
        places = asked.wherever(code)
        say = f" Write e.g. [{places[0]}][{code}]." if places else ""
        yield f"{name}: say at which visit it was asked.{say}"
        return
    item = found(reference, asked, here)
    if item is None:
        if (event is None) or (asked.known and event not in asked.incomplete):
            yield _no_such_item(reference, asked, here)
        return
    if event is None and code == own and reference.instance in (None, "current-instance"):
        yield f"{name} is the item itself. An item cannot decide about itself here: use another item."
    if reference.code is None:
        return
    if item.type is not ItemType.CHOICES:
        yield f"{name} asks for one of several ticked choices, but {code} is of type {item.type}. Write [{code}]."
    elif reference.code not in {choice.code for choice in item.choices}:
        codes = [choice.code for choice in item.choices]
        yield f"{code} has no choice “{reference.code}” ({name}). Its choices are {_listed(codes)}."


def _no_such_item(reference: Reference, asked: Asked, here: Mapping[str, Item] | None) -> str:
    name, code = _name(reference), reference.field
    items = here if reference.event is None else asked.at.get(reference.event)
    place = "this instrument" if reference.event is None else f"the instruments at {reference.event}"
    places = asked.wherever(code)
    if places:
        return (
            f"{name}: {code} is not an item of {place}. It is asked at {_listed(places)}: write [{places[0]}][{code}]."
        )
    return f"{name}: there is no item {code} in {place}.{_did_you_mean(code, items or {})}"


def _wrong_choices(expression: Expression, asked: Asked, here: Mapping[str, Item] | None) -> Iterator[str]:
    """A choice compared with a code it cannot have is never true, and nobody would notice."""
    for reference, literal in _comparisons(expression.tree):
        item = found(reference, asked, here)
        if item is None or item.type is not ItemType.CHOICE or literal == "" or literal in asked.missing_codes:
            continue
        codes = [choice.code for choice in item.choices]
        if not any(_same(code, literal) for code in codes):
            yield f"{_name(reference)} can never be “{literal}”. Its choices are {_listed(codes)}."


def _comparisons(tree: list[Any]) -> Iterator[tuple[Reference, str]]:
    if tree[0] == "compare" and tree[1] in ("=", "<>"):
        for side, other in ((tree[2], tree[3]), (tree[3], tree[2])):
            if side[0] == "reference" and side[3] is None and other[0] in ("text", "number"):
                yield Reference(*side[1:]), str(other[1])
    for part in tree:
        if isinstance(part, list):
            yield from _comparisons(part)


def texts(tree: list[Any]) -> Iterator[str]:
    """The texts that stand in an expression, as it is given by `Expression.tree`."""
    if tree[0] == "text":
        yield str(tree[1])
    for part in tree:
        if isinstance(part, list):
            yield from texts(part)


def _same(code: str, literal: str) -> bool:
    try:
        return code == literal or Decimal(code) == Decimal(literal)
    except InvalidOperation:
        return False


def _name(reference: Reference) -> str:
    code = f"({reference.code})" if reference.code is not None else ""
    event = f"[{reference.event}]" if reference.event is not None else ""
    instance = f"[{reference.instance}]" if reference.instance is not None else ""
    return f"{event}[{reference.field}{code}]{instance}"


def _did_you_mean(word: str, known: Collection[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _listed(words: Collection[str]) -> str:
    shown = sorted(words) if isinstance(words, set | frozenset) else list(words)
    return ", ".join(shown[:12]) + (", …" if len(shown) > 12 else "")
