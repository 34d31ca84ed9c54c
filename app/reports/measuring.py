"""What do the data of each site look like? Every entry that is in use, read once in bounded memory; values are added up
as they come, and none is kept."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Date, Select, and_, case, cast, func, literal, not_, select, union_all
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.capture.double.reads import has_withheld, is_awaited
from app.capture.in_use import in_use
from app.capture.reads import ENTRY
from app.foundation.database import batches, document
from app.participants.identity import PARTICIPANT
from app.reports.quality import (
    HANDFUL,
    LATE_AFTER,
    LEAST_AT_VISIT,
    NUMERIC,
    Digits,
    Level,
    Measured,
    Moments,
    Typing,
    has_last_digit,
    last_digit,
    moments,
)
from app.schedule.reads import VISIT
from app.studies.definition import Item, ItemType
from app.studies.in_use import StudyInUse

BATCH = 5_000
SEALED = frozenset({ItemType.FILE, ItemType.SIGNATURE})
HELD = VISIT.alias("visit_held")  # of its own: what is in use asks for visits as well
NUMBERS = frozenset({int, float})  # and not bool, which is an int as well
Place = tuple[int, str, str]
"""Site, visit and instrument."""


@dataclass(frozen=True)
class Form:
    """What is asked in a form: the items that somebody answers, and the numeric ones among them."""

    typed: tuple[str, ...]
    numeric: tuple[tuple[str, int | None, bool], ...]
    """Code, decimals, and whether its last digit says anything."""


def forms_of(study: StudyInUse) -> dict[str, Form]:
    """The forms of a study in all versions that are in force, by code; without groups of rows, and what is computed."""
    asked: dict[str, dict[str, Item]] = {}
    for each in study.definitions:
        for instrument in each.instruments:
            items = asked.setdefault(instrument.code, {})
            for item in instrument.items:
                items.setdefault(item.code, item)
    return {
        code: Form(
            tuple(item.code for item in items.values() if item.type not in SEALED | {ItemType.CALCULATED}),
            tuple((item.code, item.decimals, has_last_digit(item)) for item in items.values() if item.type in NUMERIC),
        )
        for code, items in asked.items()
    }


def measure(session: Session, study: StudyInUse, *, now: datetime) -> Measured:
    """What the data of all sites look like, in two statements: for nobody before it is narrowed to their sites.

    Nothing of what was entered in error, withdrawn from use, or waits for its second entry. Where whole sites are in
    one arm, the levels of sites are levels of arms: there are none.
    """
    typing: dict[int, Typing] = {}
    for kind, site, number, of in session.execute(_typed(study, session.get_bind().dialect.name)):
        before = typing.get(site, Typing(site))
        if kind == "late":
            typing[site] = before._replace(late=int(number or 0), entries=of)
        else:
            typing[site] = before._replace(corrected=number)
    sums = _Sums(forms_of(study))
    for batch in batches(session, _entries(study), size=BATCH):
        sums.add(batch)
    for site, answers in sums.answers.items():
        typing[site] = typing.get(site, Typing(site))._replace(answers=answers)
    for site, (compared, alike) in sums.alike().items():
        typing[site] = typing[site]._replace(compared=compared, alike=alike)
    clustered = any(each.is_clustered for each in study.definitions)
    return Measured(
        at=now,
        entries=sums.entries,
        typing=tuple(typing.values()),
        digits=tuple(sums.last_digits()),
        levels=() if clustered else tuple(sums.levels()),
    )


class _Sums:
    """What entries add up to; of each form only the digest of its answers stays, eight bytes, till all are read."""

    def __init__(self, forms: Mapping[str, Form]) -> None:
        self.forms = forms
        self.entries = 0
        self.answers: Counter[int] = Counter()
        self._prints: dict[Place, array[int]] = {}
        self._moments: dict[tuple[Place, str], Moments] = {}
        self._digits: dict[tuple[int, str, str], Counter[int]] = {}

    def add(self, batch: Any) -> None:
        """Entries as the driver gives them: site, visit, instrument, repeat, and the stored document."""
        together: dict[Place, list[dict[str, Any]]] = {}
        for site, visit, instrument, repeat, text in batch:
            form = self.forms.get(instrument)
            if form is None:  # of a version that is in force nowhere
                continue
            found = document(text)
            self.entries += 1
            place = (site, visit, instrument)
            together.setdefault(place, []).append(found)
            answers = [found.get(code) for code in form.typed]
            said = [each for each in answers if each is not None and type(each) is not dict]
            self.answers[site] += len(said)
            # Nothing but noughts, say, is what many answer on a day without pain.
            if repeat == 1 and len(said) >= HANDFUL and any(each != said[0] for each in said):
                prints = self._prints.setdefault(place, array("q"))
                prints.append(hash(orjson.dumps(answers)))
        for place, documents in together.items():
            self._add_numbers(place, documents)

    def _add_numbers(self, place: Place, documents: list[dict[str, Any]]) -> None:
        site, _, instrument = place
        for code, decimals, has_digit in self.forms[instrument].numeric:
            values: list[float] = [value for each in documents if type(value := each.get(code)) in NUMBERS]  # type: ignore[misc]
            if not values:
                continue
            key = (place, code)
            these, before = moments(values), self._moments.get(key)
            self._moments[key] = these if before is None else before.and_(these)
            if has_digit:
                digits = self._digits.setdefault((site, instrument, code), Counter())
                digits.update(found for each in values if (found := last_digit(each, decimals)) is not None)

    def alike(self) -> dict[int, tuple[int, int]]:
        """Of each site: how many forms were compared, and how many of them are like another of the same visit."""
        compared: Counter[int] = Counter()
        alike: Counter[int] = Counter()
        for (site, _, _), prints in self._prints.items():
            compared[site] += len(prints)
            alike[site] += sum(number for number in Counter(prints).values() if number > 1)
        return {site: (number, alike[site]) for site, number in compared.items()}

    def last_digits(self) -> Iterator[Digits]:
        for (site, instrument, item), counts in sorted(self._digits.items()):
            for digit, number in sorted(counts.items()):
                yield Digits(site, instrument, item, digit, number)

    def levels(self) -> Iterator[Level]:
        for ((site, visit, instrument), item), found in sorted(self._moments.items()):
            if found.number >= LEAST_AT_VISIT:
                yield Level(site, visit, instrument, item, *found)


def _entries(study: StudyInUse) -> Select[Any]:
    columns = ENTRY.c.visit, ENTRY.c.instrument, ENTRY.c.repeat, ENTRY.c["values"]
    return _in_use(study, select(PARTICIPANT.c.site_id, *columns).select_from(ENTRY))


def _in_use(study: StudyInUse, query: Select[Any]) -> Select[Any]:
    found = query.join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id).where(
        ENTRY.c.study_id == study.id, *in_use(study)
    )
    return found.where(not_(is_awaited(ENTRY.c.id))) if has_withheld(study) else found


def _typed(study: StudyInUse, kind: str) -> Any:
    """Of each site: entries that came late, of those at visits that were held; and answers that were ever changed.

    What was typed without a connection was begun when it was typed. Days are those of UTC, so that a visit abroad can
    be a day off.
    """
    begun = case((ENTRY.c.typed_at < ENTRY.c.created_at, ENTRY.c.typed_at), else_=ENTRY.c.created_at)
    days: Any
    if kind == "postgresql":
        days = cast(func.timezone("UTC", begun), Date) - HELD.c.held_on
    else:
        days = func.julianday(func.date(begun)) - func.julianday(HELD.c.held_on)
    rows = _in_use(study, select(PARTICIPANT.c.site_id, (days > LATE_AFTER).label("is_late")).select_from(ENTRY))
    held = rows.join(HELD, and_(HELD.c.participant_id == ENTRY.c.participant_id, HELD.c.code == ENTRY.c.visit)).where(
        HELD.c.held_on.is_not(None)
    )
    entries = held.subquery()
    late = select(
        literal("late").label("kind"),
        entries.c.site_id,
        func.sum(case((entries.c.is_late, 1), else_=0)).label("number"),
        func.count().label("of"),
    ).group_by(entries.c.site_id)
    computed = sorted(
        {
            item.code
            for each in study.definitions
            for form in each.instruments
            for item in form.items
            if item.type is ItemType.CALCULATED
        }
    )
    changed = (
        select(PARTICIPANT.c.site_id, AUDIT_ENTRY.c.participant, AUDIT_ENTRY.c.subject, AUDIT_ENTRY.c.item)
        .distinct()
        .join(
            PARTICIPANT,
            and_(PARTICIPANT.c.code == AUDIT_ENTRY.c.participant, PARTICIPANT.c.study_id == study.id),
        )
        .where(
            AUDIT_ENTRY.c.log == study.code,
            AUDIT_ENTRY.c.action == "entry.corrected",
            AUDIT_ENTRY.c.item.not_in(computed),
        )
        .subquery()
    )
    corrected = select(
        literal("corrected").label("kind"), changed.c.site_id, func.count().label("number"), literal(0).label("of")
    ).group_by(changed.c.site_id)
    return union_all(late, corrected)
