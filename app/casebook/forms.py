"""What was entered, and what was asked about it? Every entry in the order of the plan, every query in full."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlmodel import Session

from app.capture.queries.reads import Query, Wanted, queries_page, with_threads
from app.capture.rules import MEANINGS, EntryState, signature_holds
from app.casebook.telling import Telling
from app.foundation.paging import LARGEST_PAGE, every_page
from app.participants.models import Participant
from app.people.access import Actor
from app.printing import Block, Part, Told
from app.schedule.models import ParticipantVisit
from app.studies.definition import Item, ItemType
from app.studies.in_use import StudyInUse
from app.wording import title_of

STEPS: Mapping[str, str] = {
    "raise": "Asked",
    "answer": "Answered",
    "requery": "Asked again",
    "close": "Closed",
    "correct": "Closed by a correction",
}
IN_STATE: Mapping[str, str] = {"open": "Query, open", "answered": "Query, answered", "closed": "Query, closed"}


def queries_of_all(
    session: Session, study: StudyInUse, participant: Participant, *, by: Actor, now: datetime
) -> list[Query]:
    """Every query of the participant that this person may know, with all that was said, the oldest first."""
    found: list[Query] = []
    wanted = Wanted(participant=participant.code)
    for page in every_page(
        lambda cursor: queries_page(session, study, by=by, now=now, wanted=wanted, cursor=cursor, limit=LARGEST_PAGE)
    ):
        found += with_threads(session, page.rows)
    return found


def entries_part(
    telling: Telling,
    entries: Sequence[EntryState],
    visits: Mapping[str, ParticipantVisit],
    changed: Collection[tuple[str, str]],
    queries: Sequence[Query],
) -> Part:
    """Every entry, in the order of the plan."""
    about: dict[tuple[str, str], list[Query]] = {}
    for query in queries:
        about.setdefault((query.visit, query.name), []).append(query)
    return Part(
        telling.gettext("Entries"),
        nothing=telling.gettext("Nothing is entered yet."),
        blocks=[
            _entry(telling, each, visits.get(each.visit), changed, about.get((each.visit, each.name), []))
            for each in _in_order(telling, entries)
        ],
    )


def _in_order(telling: Telling, entries: Sequence[EntryState]) -> list[EntryState]:
    places = {
        (visit.code, code): (place, inner)
        for place, visit in enumerate(telling.definition.visits)
        for inner, code in enumerate(visit.instruments)
    }
    last = (len(places), 0)
    return sorted(entries, key=lambda each: (places.get((each.visit, each.instrument), last), each.repeat, each.id))


def _entry(
    telling: Telling,
    entry: EntryState,
    visit: ParticipantVisit | None,
    changed: Collection[tuple[str, str]],
    queries: Sequence[Query],
) -> Block:
    gettext, moment = telling.gettext, telling.moment
    form = telling.definition.instrument(entry.instrument)
    facts = []
    if visit is not None and visit.held_on is not None:
        facts.append(gettext("Visit held on %s") % telling.day(visit.held_on))
        late = (telling.on(entry.created_at) - visit.held_on).days
        if late > 0:
            facts.append(gettext("entered late, %s days after the visit") % late)
    facts.append(
        gettext("version %(version)s, saved %(at)s by %(who)s")
        % {"version": entry.version, "at": moment(entry.saved_at), "who": entry.saved_by}
    )
    if entry.is_in_error:
        words = gettext("entered in error, marked by %(who)s: %(why)s")
        facts.append(words % {"who": entry.in_error_by, "why": entry.in_error_why})
    elif not entry.is_complete:
        facts.append(gettext("partial"))
    if entry.signed_at is not None:
        word = (
            gettext("signed by %(who)s, %(at)s: %(meaning)s")
            if signature_holds(entry)
            else gettext("signature of %(who)s, %(at)s, does not fit what is stored")
        )
        meaning = gettext(MEANINGS.get(entry.signed_meaning or "", ""))
        facts.append(word % {"who": entry.signed_name, "at": moment(entry.signed_at), "meaning": meaning})
    subject = f"entry/{entry.visit}/{entry.name}"
    items = form.asked(entry.values) if form else ()
    rows = [_answer(telling, entry, item, (subject, item.code) in changed, queries) for item in items]
    earlier = [gettext("asked by an earlier version of the protocol")]
    rows += [
        Told(code, str(value), changed=(subject, code) in changed, notes=earlier)
        for code, value in entry.values.items()
        if form is None or form.item(code) is None
    ]
    title = title_of(form, entry.repeat) if form else entry.name
    return Block(f"{telling.visit(entry.visit)}: {title}", " · ".join(facts), rows)


def _answer(telling: Telling, entry: EntryState, item: Item, changed: bool, queries: Sequence[Query]) -> Told:
    notes = []
    if item.code in entry.reasons:
        notes.append(f"{telling.gettext('Why it is right:')} {entry.reasons[item.code]}")
    for each in queries:
        if each.item == item.code:
            answer = f" → {each.answer}" if each.answer else ""
            notes.append(f"{telling.word(IN_STATE, each.state.value)}: {each.text}{answer}")
    words = telling.with_unit(item, entry.values.get(item.code))
    return Told(item.label, words, changed=changed and item.type is not ItemType.CALCULATED, notes=notes)


def queries_part(telling: Telling, queries: Sequence[Query]) -> Part:
    """Every query with all that was said, by whom and when."""
    return Part(
        telling.gettext("Queries"),
        nothing=telling.gettext("Nothing was asked."),
        blocks=[_query(telling, each) for each in queries],
    )


def _query(telling: Telling, query: Query) -> Block:
    gettext = telling.gettext
    form = telling.definition.instrument(query.instrument)
    item = form.item(query.item) if form else None
    place = [telling.visit(query.visit), title_of(form, query.repeat) if form else query.name]
    place.append(item.label if item else query.item)
    rows = [
        Told(
            telling.word(STEPS, said.step.value),
            said.text or query.text,
            notes=[f"{said.by}, {telling.moment(said.at)}"],
        )
        for said in query.thread
    ]
    title = gettext("Query %(number)s") % {"number": query.number}
    facts = [telling.word(IN_STATE, query.state.value)]
    if query.rule is not None:
        facts.append(gettext("asked by an edit check"))
    return Block(f"{title}: {', '.join(place)}", " · ".join(facts), rows)
