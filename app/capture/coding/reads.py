"""What may I see of coded texts? The queues, one text with what I may know of its coding, a dictionary, agreement."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Integer, bindparam, exists, func, literal, literal_column, or_, select, tuple_
from sqlmodel import Session

from app.capture.agreement import kappa
from app.capture.coding.following import TEXT
from app.capture.coding.models import CodingChoice, DictionaryTerm
from app.capture.coding.rules import (
    MOST_FOUND,
    MOST_WORDS,
    WAITING,
    State,
    found_in,
    key_of,
    long_words,
    nearest,
    rank,
    shows_choices,
)
from app.capture.double.reads import Agreement, items_page
from app.capture.models import Entry
from app.foundation import paging
from app.foundation.database import streamed, table_of
from app.foundation.errors import NotFound
from app.participants.models import Participant
from app.participants.reads import at_their_sites
from app.people.access import Actor, require
from app.people.models import Site
from app.people.permissions import Permission
from app.studies.definition import Term
from app.studies.in_use import StudyInUse

CHOICE = table_of(CodingChoice)
ENTRY = table_of(Entry)
PARTICIPANT = table_of(Participant)
SITE = table_of(Site)
TERM = table_of(DictionaryTerm)

BATCH = 500
MOST_SEARCHED = 500  # terms of an own dictionary that are weighed for one search


class Queue(StrEnum):
    """What somebody looks for among the texts."""

    TO_CODE = "to_code"  # that I can still code
    TO_RECONCILE = "to_reconcile"  # that I can settle
    CODED = "coded"
    OUTDATED = "outdated"


@dataclass(frozen=True)
class Choice:
    """What one coder chose."""

    coder: str
    code: str
    label: str
    at: datetime


@dataclass(frozen=True)
class Text:
    """One text to be coded, as this person may see it. `choices` are those they may know.

    Of an entry (`entry_id`, `visit`, `instrument`), or the term of an adverse event (`event_id`); what it is not of is
    None, and the visit and instrument empty.
    """

    number: int
    participant: str
    site: str
    site_id: int
    participant_id: int
    entry_id: int | None
    event_id: int | None
    visit: str
    instrument: str
    item: str
    dictionary: str
    dictionary_version: str
    text: str
    key: str
    coders: int
    state: State
    code: str | None
    label: str | None
    version: int
    created_at: datetime
    outdated_at: datetime | None
    reconciled_by: str | None
    reconciled_at: datetime | None
    why: str | None
    choices: tuple[Choice, ...] = ()
    coded_by: frozenset[str] = frozenset()

    @property
    def event(self) -> int | None:
        """The number of the adverse event whose term it is."""
        return self.event_id

    @property
    def subject(self) -> str:
        """What the log calls it."""
        return f"coding/{self.visit}/{self.instrument}" if self.entry_id else f"coding/adverse_event/{self.event_id}"


@dataclass(frozen=True)
class Suggestion:
    """What the very same text was coded as elsewhere in the study, and how often."""

    code: str
    label: str
    number: int


# Words of SQL, and not values: PostgreSQL must see that what is grouped by is what is selected.
_NOWHERE: ColumnElement[str] = literal_column("''")
_VISIT, _INSTRUMENT = func.coalesce(ENTRY.c.visit, _NOWHERE), func.coalesce(ENTRY.c.instrument, _NOWHERE)

# Built once: putting a SELECT together takes longer than running it.
_TEXTS = (
    select(
        TEXT.c.id.label("number"),
        PARTICIPANT.c.code.label("participant"),
        SITE.c.code.label("site"),
        SITE.c.id.label("site_id"),
        _VISIT.label("visit"),
        _INSTRUMENT.label("instrument"),
        *(column for column in TEXT.c if column.name not in ("id", "study_id")),
    )
    .select_from(TEXT)
    .join(PARTICIPANT, PARTICIPANT.c.id == TEXT.c.participant_id)
    .outerjoin(ENTRY, ENTRY.c.id == TEXT.c.entry_id)
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .where(TEXT.c.study_id == bindparam("study_id", type_=Integer))
)


def text_of(session: Session, study: StudyInUse, number: int, *, by: Actor) -> Text:
    """One text; of what others chose only what does not cost this person's own choice its independence."""
    require(by, Permission.TEXT_CODE)
    query = _TEXTS.where(TEXT.c.id == number, at_their_sites(by, Permission.TEXT_CODE))
    row = session.execute(query, {"study_id": study.id}).mappings().first()
    if row is None:
        raise NotFound
    made = choices_of(session, [number]).get(number, ())
    found = _text(row)
    shown = made if shows_choices(found.state, found.coders, len(made)) else _own(made, by)
    return replace(found, choices=shown, coded_by=frozenset(each.coder for each in made))


def _own(made: Sequence[Choice], by: Actor) -> tuple[Choice, ...]:
    return tuple(each for each in made if each.coder == by.username)


def choices_of(session: Session, numbers: Collection[int]) -> dict[int, tuple[Choice, ...]]:
    """What everybody chose for these texts, in the order in which they did."""
    rows = session.execute(select(CHOICE).where(CHOICE.c.text_id.in_(numbers)).order_by(CHOICE.c.id))
    found: dict[int, tuple[Choice, ...]] = {}
    for row in rows:
        found[row.text_id] = (*found.get(row.text_id, ()), Choice(row.coder, row.code, row.label, row.at))
    return found


def queue(
    session: Session,
    study: StudyInUse,
    which: Queue,
    *,
    by: Actor,
    participant: str | None = None,
    instrument: str | None = None,
    dictionary: str | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Text]:
    """One page of the texts of a queue, the oldest first: of those to code and to settle, what is this person's."""
    require(by, Permission.TEXT_CODE)
    query = _TEXTS.where(at_their_sites(by, Permission.TEXT_CODE), *_in(which, by))
    wanted = (PARTICIPANT.c.code, participant), (ENTRY.c.instrument, instrument), (TEXT.c.dictionary, dictionary)
    query = query.where(*(column == value for column, value in wanted if value is not None))
    values = {"study_id": study.id}
    page = paging.page_by_number(
        session, query, TEXT.c.id, cursor=cursor, limit=limit, values=values, falling=False, named="number"
    )
    return page.made(lambda row: _text(row._mapping))


def counts(session: Session, study: StudyInUse, *, by: Actor) -> dict[Queue, int]:
    """How many texts stand in each queue of this person, in one statement."""
    require(by, Permission.TEXT_CODE)
    counted = [
        select(func.count())
        .select_from(TEXT)
        .join(PARTICIPANT, PARTICIPANT.c.id == TEXT.c.participant_id)
        .where(TEXT.c.study_id == study.id, at_their_sites(by, Permission.TEXT_CODE), *_in(which, by))
        .scalar_subquery()
        for which in Queue
    ]
    return dict(zip(Queue, (int(each) for each in session.execute(select(*counted)).one()), strict=True))


def next_of(session: Session, study: StudyInUse, which: Queue, number: int, *, by: Actor) -> tuple[int, int] | None:
    """The text of a queue that comes after this one, else its first, and how many are left in it; None when none is."""
    require(by, Permission.TEXT_CODE)
    later = func.min(TEXT.c.id).filter(TEXT.c.id > number)
    found = session.execute(
        select(func.coalesce(later, func.min(TEXT.c.id)), func.count())
        .select_from(TEXT)
        .join(PARTICIPANT, PARTICIPANT.c.id == TEXT.c.participant_id)
        .where(TEXT.c.study_id == study.id, TEXT.c.id != number, at_their_sites(by, Permission.TEXT_CODE))
        .where(*_in(which, by))
    ).one()
    return None if found[0] is None else (int(found[0]), int(found[1]))


def _in(which: Queue, by: Actor) -> Sequence[Any]:
    mine = exists().where(CHOICE.c.text_id == TEXT.c.id, CHOICE.c.coder == by.username)
    if which is Queue.TO_CODE:
        return (TEXT.c.state.in_(sorted(WAITING)), ~mine)
    if which is Queue.TO_RECONCILE:
        return (TEXT.c.state == State.TO_RECONCILE, ~mine)
    return (TEXT.c.state == which.value,)


def suggestions(session: Session, study: StudyInUse, text: Text) -> tuple[Suggestion, ...]:
    """What the very same text is coded as where that is settled, the most frequent first."""
    number = func.count().label("number")
    query = (
        select(TEXT.c.code, func.min(TEXT.c.label), number)
        .where(
            TEXT.c.study_id == study.id,
            TEXT.c.dictionary == text.dictionary,
            TEXT.c.key == text.key,
            TEXT.c.state == State.CODED,
            TEXT.c.id != text.number,
        )
        .group_by(TEXT.c.code)
        .order_by(number.desc(), TEXT.c.code)
        .limit(5)
    )
    return tuple(Suggestion(*row) for row in session.execute(query))


# Dictionaries


def terms_found(session: Session, study: StudyInUse, dictionary: str, text: str) -> list[Term]:
    """The terms that hold every word of a text: of the dictionary this installation loaded, else of the study's own."""
    wanted = key_of(text).split()[:MOST_WORDS]
    if not wanted:
        return []
    if not _has_own(session, study, dictionary):
        defined = study.definition.dictionary(dictionary)
        return found_in(defined.terms if defined else (), text)
    query = (
        select(TERM.c.code, TERM.c.label, TERM.c.parent)
        .where(
            TERM.c.study_id == study.id,
            TERM.c.dictionary == dictionary,
            *(TERM.c.words.contains(word, autoescape=True) for word in wanted),
        )
        .order_by(func.length(TERM.c.label), TERM.c.label, TERM.c.code)
        .limit(MOST_SEARCHED)
    )
    found = [_term(row) for row in session.execute(query)]
    return sorted(found, key=lambda term: rank(term, text))[:MOST_FOUND]


def terms_near(session: Session, study: StudyInUse, dictionary: str, text: str) -> list[Term]:
    """Where no term holds every word of a text: those that hold some of them, most words first."""
    wanted = long_words(text)
    if not wanted:
        return []
    if not _has_own(session, study, dictionary):
        defined = study.definition.dictionary(dictionary)
        return nearest(defined.terms if defined else (), text)
    some = or_(*(TERM.c.words.contains(word, autoescape=True) for word in wanted))
    query = (
        select(TERM.c.code, TERM.c.label, TERM.c.parent)
        .where(TERM.c.study_id == study.id, TERM.c.dictionary == dictionary, some)
        .order_by(func.length(TERM.c.label), TERM.c.label, TERM.c.code)
        .limit(MOST_SEARCHED)
    )
    return nearest([_term(row) for row in session.execute(query)], text)


def term_of(session: Session, study: StudyInUse, dictionary: str, code: str) -> Term | None:
    """One term by its code, or None."""
    if not _has_own(session, study, dictionary):
        defined = study.definition.dictionary(dictionary)
        return next((term for term in (defined.terms if defined else ()) if term.code == code), None)
    query = select(TERM.c.code, TERM.c.label, TERM.c.parent).where(
        TERM.c.study_id == study.id, TERM.c.dictionary == dictionary, TERM.c.code == code
    )
    row = session.execute(query).first()
    return None if row is None else _term(row)


def _has_own(session: Session, study: StudyInUse, dictionary: str) -> bool:
    query = select(TERM.c.id).where(TERM.c.study_id == study.id, TERM.c.dictionary == dictionary).limit(1)
    return session.execute(query).first() is not None


def _term(row: Any) -> Term:
    return Term.model_construct(code=row.code, label=row.label, parent=row.parent)


# Beside the text in exports, and agreement


def codes_in(session: Session, entries: Sequence[int]) -> dict[int, dict[str, tuple[str, str]]]:
    """Entry id -> item -> (code, label), where that is settled and the text still reads so."""
    query = select(TEXT.c.entry_id, TEXT.c.item, TEXT.c.code, TEXT.c.label).where(
        TEXT.c.entry_id.in_(entries), TEXT.c.state == State.CODED
    )
    found: dict[int, dict[str, tuple[str, str]]] = {}
    for row in session.execute(query):
        found.setdefault(row.entry_id, {})[row.item] = (row.code, row.label)
    return found


def codes_of_events(
    session: Session, study: StudyInUse, event: int | None = None, *, participant_id: int | None = None
) -> dict[int, tuple[str, str]]:
    """Adverse event -> (code, label) of its term, where that is settled and the term still reads so.

    Of one event, of those of one participant, or of every one of the study: there are few. A caller shows those it may
    know already.
    """
    query = select(TEXT.c.event_id, TEXT.c.code, TEXT.c.label).where(
        TEXT.c.study_id == study.id, TEXT.c.event_id.is_not(None), TEXT.c.state == State.CODED
    )
    if event is not None:
        query = query.where(TEXT.c.event_id == event)
    if participant_id is not None:
        query = query.where(TEXT.c.participant_id == participant_id)
    return {row.event_id: (row.code, row.label) for row in session.execute(query)}


def every_text(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    permission: Permission,
    only: Sequence[ColumnElement[bool]] = (),
) -> Iterator[Text]:
    """Every text, also as it read before, by participant, in bounded memory; choices only once all have chosen.

    `only` says of which entries.
    """
    query = _TEXTS.where(at_their_sites(by, permission), *only).order_by(PARTICIPANT.c.code, TEXT.c.id)
    batch: list[Text] = []
    for row in streamed(session, query.params(study_id=study.id), batch=BATCH):
        batch.append(_text(row._mapping))
        if len(batch) == BATCH:
            yield from _with_choices(session, batch)
            batch = []
    yield from _with_choices(session, batch)


def _with_choices(session: Session, texts: list[Text]) -> Iterator[Text]:
    if not texts:
        return
    made = choices_of(session, [each.number for each in texts])
    for each in texts:
        chosen = made.get(each.number, ())
        yield replace(each, choices=chosen if shows_choices(each.state, each.coders, len(chosen)) else ())


def agreement_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    by_site: bool = False,
    cursor: str | None = None,
    limit: int | None = None,
    permission: Permission = Permission.AGREEMENT_READ,
    only: Sequence[ColumnElement[bool]] = (),
) -> paging.Page[Agreement]:
    """One page of how far two coders agree, by instrument and item, and by site when it is asked.

    Over every text that two people coded, also those that were changed since: what they chose, they chose. Who came
    first and who second is chance, so that kappa is that of two interchangeable coders. `only` says of which entries.
    """
    require(by, permission)
    size = paging.page_size(limit)
    first, second = CHOICE.alias("first_choice"), CHOICE.alias("second_choice")
    site = SITE.c.code if by_site else literal("")
    keys: tuple[Any, ...] = (_INSTRUMENT, TEXT.c.item, site)
    grouped = keys if by_site else keys[:2]
    twice = (
        select()
        .select_from(TEXT)
        .join(first, first.c.text_id == TEXT.c.id)
        .join(second, (second.c.text_id == TEXT.c.id) & (second.c.id > first.c.id))
        .join(PARTICIPANT, PARTICIPANT.c.id == TEXT.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .outerjoin(ENTRY, ENTRY.c.id == TEXT.c.entry_id)
        .where(TEXT.c.study_id == study.id, at_their_sites(by, permission), *only)
    )
    page = items_page(session, twice.add_columns(*keys), keys, grouped, cursor=cursor, size=size)
    if not page.rows:
        return page.with_rows([])
    counted: dict[tuple[str, str, str], dict[tuple[str, str], int]] = {}
    pairs = (
        twice.add_columns(*keys, first.c.code, second.c.code, func.count())
        .where(tuple_(_INSTRUMENT, TEXT.c.item).in_({(row[0], row[1]) for row in page.rows}))
        .group_by(*grouped, first.c.code, second.c.code)
    )
    for form, item, at, one, other, number in session.execute(pairs):
        counted.setdefault((form, item, at), {})[one, other] = int(number)

    def made(row: Any) -> Agreement:
        of = counted[row[0], row[1], row[2]]
        agreeing = sum(number for (one, other), number in of.items() if one == other)
        return Agreement(row[0], row[1], row[2], sum(of.values()), agreeing, kappa(of))

    return page.made(made)


def _text(row: Any) -> Text:
    return Text(**{**row, "state": State(row["state"])})
