"""What does an expression come to depend on, over any number of steps? On what only the treatment room knows, or later.

A step is a reference of a calculation or of a skip rule, since being shown tells as much as a value does. Item codes
are unique in a study, so a chain crosses instruments and visits by the codes alone.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from app.expressions import Expression, Reference
from app.studies.definition import Instrument, Item, Study
from app.studies.rules.findings import Path, Severity
from app.studies.rules.items import Problem
from app.studies.rules.references import SCREENING, Asked, asked_in, found, means_an_arm, means_treatment, parsed, texts

ARROW = " -> "


@dataclass(frozen=True)
class Stood:
    """An expression where it stands: whose it is, what may stand in it without a visit, and whether it decides it."""

    path: Path
    owner: str
    expression: Expression
    here: Mapping[str, Item]
    item: str | None = None
    """The item whose value or being shown it decides; None for checks, criteria and strata."""


@dataclass
class _Reach:
    """For each item, the next step of a shortest way to the end; the end itself stands in `ends`."""

    next: dict[str, str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    def chain(self, item: str) -> list[str]:
        """The items on the way, and what stands at its end."""
        way = [item]
        while way[-1] not in self.ends:
            way.append(self.next[way[-1]])
        return [*way, self.ends[way[-1]]]


def reaches_treatment(study: Study) -> Iterator[Problem]:
    """Every expression of a blinded part that comes to depend on the arm, with the chain from it to there."""
    asked = asked_in(study)
    stood = list(expressions_of(study, asked))
    reach = _reach(stood, asked)
    for each in stood:
        end = _end(each, asked)
        steps = [code for code in _items(each, asked) if code in reach.steps]
        if end is not None:
            if not end[1]:
                continue  # the arm itself: said where references are judged
            chain = [each.owner, end[0]]
        elif steps:
            chain = [each.owner, *reach.chain(min(steps, key=lambda code: (reach.steps[code], code)))]
        else:
            continue
        yield (
            each.path,
            f"This comes to depend on the arm: {ARROW.join(chain)}. Nothing that is entered, shown or judged for "
            f"blinded people may: take {chain[1]} out.",
            Severity.ERROR,
        )


def known_too_late(study: Study) -> Iterator[Problem]:
    """Criteria and strata that come to depend on what is asked only after they are judged, over a step or more."""
    asked = asked_in(study)
    needs = _needs(study, asked)
    for each in expressions_of(study, asked):
        if each.path[0] == "instruments":
            continue
        early = each.path[0] == "eligibility" or each.path[1] == "first_stage"
        known = frozenset({SCREENING}) if early else asked.before_allocation
        event = SCREENING if each.path[0] == "eligibility" else None
        chain = _late(each, event, known, needs, asked)
        if chain:
            yield (
                each.path,
                f"This comes to depend on what is not known when it is judged: {ARROW.join([each.owner, *chain])}. "
                f"Take {chain[0]} out.",
                Severity.ERROR,
            )


def expressions_of(study: Study, asked: Asked) -> Iterator[Stood]:
    """Every expression that can be read in what blinded people fill in or what decides before allocation."""
    screening = asked.at.get(SCREENING, {})
    for position, criterion in enumerate(study.eligibility.criteria):
        path: Path = ("eligibility", "criteria", position, "rule")
        yield from _stood(path, criterion.code, criterion.rule, screening)
    for position, factor in enumerate(study.allocation.strata):
        yield from _stood(("allocation", "strata", position, "expression"), factor.code, factor.expression, {})
    stage = study.allocation.first_stage
    for position, factor in enumerate(stage.strata if stage else ()):
        path = ("allocation", "first_stage", "strata", position, "expression")
        yield from _stood(path, factor.code, factor.expression, {})
    for number, instrument in enumerate(study.instruments):
        here = {item.code: item for item in instrument.every_item}
        for where, item in _items_of(number, instrument):
            for key in ("calculation", "shown_if"):
                yield from _stood((*where, key), item.code, getattr(item, key), here, item=item.code)
            for position, check in enumerate(item.checks):
                yield from _stood((*where, "checks", position, "rule"), item.code, check.rule, here)


def _stood(
    path: Path, owner: str, text: str | None, here: Mapping[str, Item], *, item: str | None = None
) -> Iterator[Stood]:
    expression = parsed(text) if text is not None else ""
    if not isinstance(expression, str):
        yield Stood(path, owner, expression, here, item)


def _items_of(number: int, instrument: Instrument) -> Iterator[tuple[Path, Item]]:
    for place, section in enumerate(instrument.sections):
        for position, item in enumerate(section.items):
            yield ("instruments", number, "sections", place, "items", position), item


def _items(stood: Stood, asked: Asked) -> list[str]:
    """The items that an expression refers to."""
    return sorted({each.field for each in stood.expression.references if found(each, asked, stood.here) is not None})


def _end(stood: Stood, asked: Asked) -> tuple[str, bool] | None:
    """What an expression names itself that tells the arm, and whether that is something of the treatment room."""
    for reference in sorted(stood.expression.references, key=str):
        if found(reference, asked, stood.here) is None and (treatment := means_treatment(reference, asked)):
            return treatment, True
    for reference in sorted(stood.expression.references, key=str):
        if means_an_arm(reference, asked):
            return reference.field, False
    for literal in sorted(texts(stood.expression.tree)):
        if literal in asked.arms:
            return f"“{literal}”", False
    return None


def _reach(stood: list[Stood], asked: Asked) -> _Reach:
    """A breadth-first search backwards, from the items that name something telling to all that depend on them."""
    reach = _Reach()
    users: dict[str, set[str]] = {}
    for each in stood:
        if each.item is None:
            continue
        end = _end(each, asked)
        if end is not None:
            reach.ends.setdefault(each.item, end[0])
            reach.steps[each.item] = 0
        for code in _items(each, asked):
            users.setdefault(code, set()).add(each.item)
    waiting = deque(sorted(reach.ends))
    while waiting:
        code = waiting.popleft()
        for user in sorted(users.get(code, ())):
            if user not in reach.steps:
                reach.steps[user] = reach.steps[code] + 1
                reach.next[user] = code
                waiting.append(user)
    return reach


Node = tuple[str, str]  # (event, item)


def _needs(study: Study, asked: Asked) -> dict[str, list[tuple[frozenset[Reference], Mapping[str, Item]]]]:
    needs: dict[str, list[tuple[frozenset[Reference], Mapping[str, Item]]]] = {}
    for each in expressions_of(study, asked):
        if each.item is not None:
            needs.setdefault(each.item, []).append((each.expression.references, each.here))
    return needs


def _late(
    stood: Stood,
    event: str | None,
    known: frozenset[str],
    needs: Mapping[str, list[tuple[frozenset[Reference], Mapping[str, Item]]]],
    asked: Asked,
) -> list[str]:
    """A shortest chain of two steps or more to an event outside `known`; empty when there is none."""
    first = sorted(_nodes(stood.expression.references, event, stood.here, asked))
    before: dict[Node, Node | None] = {node: None for node in first if node[0] in known}
    waiting = deque(before)
    while waiting:
        node = waiting.popleft()
        for references, here in needs.get(node[1], ()):
            for after in sorted(_nodes(references, node[0], here, asked)):
                if after in before:
                    continue
                before[after] = node
                if after[0] not in known:
                    return _way(after, before)
                waiting.append(after)
    return []


def _nodes(
    references: frozenset[Reference], event: str | None, here: Mapping[str, Item], asked: Asked
) -> Iterator[Node]:
    for reference in references:
        at = reference.event or event
        if at is not None and found(reference, asked, here) is not None:
            yield at, reference.field


def _way(node: Node, before: Mapping[Node, Node | None]) -> list[str]:
    way: list[str] = []
    at: Node | None = node
    while at is not None:
        way.append(f"[{at[0]}][{at[1]}]")
        at = before[at]
    return way[::-1]
