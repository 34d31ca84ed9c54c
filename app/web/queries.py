"""Queries: what is in question at an answer, answered, asked again, closed; and the list of them all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from fastapi.responses import RedirectResponse, Response

from app.capture.double.reads import refuse_withheld
from app.capture.queries import actions, reads
from app.capture.queries.reads import Query, Sort, Wanted
from app.capture.queries.rules import AGES, NEEDED, NOTHING_ENTERED, Origin, State, Step, after, days_old
from app.capture.reads import entry_of
from app.capture.rules import named_form
from app.dependencies import ChangeInStudy, Here, PageInStudy, database_of
from app.foundation.errors import Conflict, Invalid, NotFound, Refused
from app.foundation.paging import LARGEST_PAGE, every_page
from app.participants.reads import participant_by_code
from app.people.access import may, require
from app.people.permissions import Permission
from app.studies.definition import Study, Visit, unscheduled_number
from app.web.forms import ENTRY
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import errors_of, status_of
from app.web.sign_in import safe_path
from app.web.tables import address, column, csv_file, typed_text
from app.web.visits import planned_visit, visit_url
from app.wording import said, title_of

router = pages()

FILE = (
    "number",
    "participant",
    "site",
    "visit",
    "instrument",
    "repeat",
    "item",
    "origin",
    "rule",
    "state",
    "text",
    "answer",
    "raised_at",
    "raised_by",
    "changed_at",
    "changed_by",
    "closed_at",
    "closing",
)
QUERY = ("site", "state", "age", "instrument", "participant", "sort", "after")
FILTERS = ("site", "state", "age", "instrument", "participant")
STANDING = "standing"
ITEM = ENTRY + "/queries/{item}"
DONE = {
    Step.RAISE: "query_raised",
    Step.ANSWER: "query_answered",
    Step.REQUERY: "query_requeried",
    Step.CLOSE: "query_closed",
}


# All of them


@router.get("/{study}/queries", name="queries.queries")
def queries(here: PageInStudy) -> Response:
    """The queries at my sites, the oldest first: those that stand, unless somebody looks for others."""
    require(here.actor, Permission.ENTRY_READ)
    query, places = _query(here), places_of(here)
    path, definition = f"/{here.the_study.code}/queries", here.the_study.definition
    if query["site"] is None and places.chosen is not None:
        query["site"] = places.chosen.code
    wanted, sort, descending = _wanted(query), *_sort(query["sort"])
    found = reads.queries_page(
        here.session,
        here.the_study,
        by=here.actor,
        now=here.now,
        wanted=wanted,
        sort=sort,
        descending=descending,
        cursor=query["after"],
    )

    def heading(label: str, key: str) -> dict[str, str]:
        return column(label, key, path, query, default=Sort.RAISED)

    return show_at(
        here,
        places,
        "queries/queries.html",
        url=path,
        query=query,
        active=sum(1 for name in FILTERS if query[name]),
        sites=[(each.code, f"{each.code} {each.name}") for each in places.sites],
        site=query["site"] or "all",
        rows=[_line(here, each) for each in found.rows],
        waiting=reads.waiting(here.session, here.the_study, by=here.actor) if query["after"] is None else None,
        heading=heading,
        instruments=[(form.code, form.label) for form in definition.instruments if _is_entered(definition, form.code)],
        ages=AGES,
        newer=address(path, query, after=found.previous) if found.previous else None,
        older=address(path, query, after=found.next) if found.next else None,
        csv_url=address(f"{path}.csv", query, after=None) if found.rows else None,
        timezone=places.timezone(),
    )


@router.get("/{study}/queries.csv", name="queries.file")
def file(here: PageInStudy) -> Response:
    """The filtered list as a file, read and sent a page at a time."""
    require(here.actor, Permission.ENTRY_READ)
    query = _query(here)
    name = f"{here.the_study.code}-queries-{here.now:%Y-%m-%d}"
    return csv_file(name, (*FILE, "days"), _file_rows(here, query))


def _file_rows(here: Here, query: dict[str, str | None]) -> Iterator[Sequence[object]]:
    wanted, (sort, descending) = _wanted(query), _sort(query["sort"])
    asked: dict[str, Any] = {
        "by": here.actor,
        "now": here.now,
        "wanted": wanted,
        "sort": sort,
        "descending": descending,
    }
    with database_of(here.request).reading() as session:
        for found in every_page(
            lambda cursor: reads.queries_page(session, here.the_study, **asked, cursor=cursor, limit=LARGEST_PAGE)
        ):
            for each in found.rows:
                yield [*(_cell(getattr(each, name)) for name in FILE), _days(here, each)]


def _cell(value: Any) -> object:
    return value.isoformat() if hasattr(value, "isoformat") else value


def shortly(visit: Visit) -> str:
    """A visit in a narrow column; one outside the plan has only a number for a short name, and is named in full."""
    return visit.label if unscheduled_number(visit.code) is not None else visit.short or visit.label


def _days(here: Here, query: Query) -> int:
    return days_old(query.raised_at, query.closed_at or here.now)


def _query(here: Here) -> dict[str, str | None]:
    return {name: typed_text(here.request.query_params.get(name), 400) or None for name in QUERY}


def _wanted(query: dict[str, str | None]) -> Wanted:
    """Those that stand, when nothing is said of the state: a closed one waits for nobody."""
    state, age = query["state"], query["age"]
    return Wanted(
        site=query["site"] if query["site"] != "all" else None,
        state=State(state) if state in set(State) else None,
        standing=state is None or state == STANDING,
        age=int(age) if age is not None and age.isdecimal() and len(age) < 5 else None,
        instrument=query["instrument"],
        participant=query["participant"],
    )


def _sort(text: str | None) -> tuple[Sort, bool]:
    name = (text or Sort.RAISED).lstrip("-")
    return (Sort(name), (text or "").startswith("-")) if name in set(Sort) else (Sort.RAISED, False)


def _is_entered(definition: Study, instrument: str) -> bool:
    return any(instrument in visit.instruments for visit in definition.visits)


def _line(here: Here, query: Query) -> dict[str, Any]:
    """One query as a list says it: where it is, in words, and the page where it is worked on."""
    definition = here.the_study.at(query.site_id).definition
    visit, form = definition.visit(query.visit), definition.instrument(query.instrument)
    item = form.item(query.item) if form else None
    return {
        "query": as_read(here, query),
        "visit": shortly(visit) if visit else query.visit,
        "form": title_of(form, query.repeat, short=True) if form else query.name,
        "item": item.label if item else query.item,
        "days": _days(here, query),
        "url": f"{visit_url(here, query.participant, query.visit)}/entries/{query.name}/queries/{query.item}",
    }


# Those at one answer


@router.get(ITEM, name="queries.item")
def item(here: PageInStudy, code: str, visit: str, instrument: str, item: str) -> Response:
    """Everything that was asked of one answer, and what can be said to it."""
    return _item_page(here, code, visit, instrument, item)


@router.post(ITEM, name="queries.raise")
def raise_query(here: ChangeInStudy, code: str, visit: str, instrument: str, item: str) -> Response:
    """Ask the site about this answer."""
    participant = participant_by_code(
        here.session, here.the_study, code, by=here.actor, permission=Permission.ENTRY_READ
    )
    code_of_form, repeat = named_form(instrument)
    subject = f"{participant.code}/query/{visit}/{instrument}"
    require(here.actor, Permission.QUERY_RAISE, site_id=participant.site_id, action="query.raise", subject=subject)
    try:
        actions.raise_query(
            here.session,
            here.the_study,
            participant,
            visit=visit,
            instrument=code_of_form,
            repeat=repeat,
            item=item,
            text=here.value("text"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _item_page(here, code, visit, instrument, item, problem=problem, sent=Step.RAISE)
    return _back(here, _entry_url(here, code, visit, instrument), item, DONE[Step.RAISE])


@router.post("/{study}/queries/{number}/answer", name="queries.answer")
def answer(here: ChangeInStudy, number: int) -> Response:
    """Answer a query."""
    return _change(here, number, Step.ANSWER, actions.answer_query)


@router.post("/{study}/queries/{number}/requery", name="queries.requery")
def requery(here: ChangeInStudy, number: int) -> Response:
    """Ask again."""
    return _change(here, number, Step.REQUERY, actions.requery)


@router.post("/{study}/queries/{number}/close", name="queries.close")
def close(here: ChangeInStudy, number: int) -> Response:
    """Close a query."""
    return _change(here, number, Step.CLOSE, actions.close_query)


@router.get("/{study}/queries/{number}/answer", name="queries.answer_form")
@router.get("/{study}/queries/{number}/requery", name="queries.requery_form")
@router.get("/{study}/queries/{number}/close", name="queries.close_form")
@router.get("/{study}/queries/{number}", name="queries.show")
def to_its_answer(here: PageInStudy, number: int) -> Response:
    """Where a query is worked on: the page of its answer."""
    found = _known(here, number)
    return RedirectResponse(_line(here, found)["url"], status_code=303)


def _known(here: Here, number: int) -> Query:
    require(here.actor, Permission.ENTRY_READ)
    if not 0 <= number < 2**31:
        raise NotFound
    return reads.query_of(here.session, here.the_study, number, by=here.actor)


def _change(here: Here, number: int, step: Step, act: Callable[..., Query]) -> Response:
    query = _known(here, number)
    subject = f"{query.participant}/query/{query.visit}/{query.name}"
    require(here.actor, NEEDED[step], site_id=query.site_id, action=f"query.{step}", subject=subject)
    place = (query.participant, query.visit, query.name, query.item)
    try:
        act(
            here.session,
            here.the_study,
            number,
            text=here.value("text"),
            version=here.number("version"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _item_page(here, *place, problem=problem, sent=step, number=number)
    return _back(here, _entry_url(here, *place[:3]), query.item, DONE[step])


def _entry_url(here: Here, code: str, visit: str, instrument: str) -> str:
    return f"{visit_url(here, code, visit)}/entries/{instrument}"


def _back(here: Here, entry_url: str, item: str, done: str) -> Response:
    """To where somebody came from: the entry, its record, the list; else the answer itself."""
    back = safe_path(here.value("back", f"{entry_url}/queries/{item}"))
    path, _, query = back.partition("?")
    if not path.startswith(f"/{here.the_study.code}/"):
        path, query = f"{entry_url}/queries/{item}", ""
    anchor = f"#query-{item}" if path.startswith(entry_url) and not path.endswith(f"/queries/{item}") else ""
    mark = f"{query}&" if query else ""
    return here.redirect(f"{path}?{mark}done={done}{anchor}")


def _item_page(
    here: Here,
    code: str,
    visit: str,
    instrument: str,
    item: str,
    *,
    problem: Invalid | Conflict | Refused | None = None,
    sent: Step | None = None,
    number: int | None = None,
) -> Response:
    planned = planned_visit(here, visit)
    code_of_form, repeat = named_form(instrument)
    form = here.the_study.definition.instrument(code_of_form)
    asked = form.item(item) if form is not None and code_of_form in planned.instruments else None
    if form is None or asked is None:
        raise NotFound
    participant = participant_by_code(
        here.session, here.the_study, code, by=here.actor, permission=Permission.ENTRY_READ
    )
    assert participant.id is not None
    refuse_withheld(
        here.session, here.the_study.definition, participant, visit, instrument, by=here.actor, action="entry.read"
    )
    places = places_of(here)
    found = reads.queries_of(here.session, here.the_study, participant.id, visit, code_of_form, repeat)
    entry = entry_of(here.session, participant.id, visit, code_of_form, repeat)
    root = f"/{here.the_study.code}"
    return show_at(
        here,
        places,
        "queries/item.html",
        status_code=status_of(problem),
        participant=participant,
        planned=planned,
        form=title_of(form, repeat),
        item=asked,
        stands=said(asked, entry.values.get(item), here.the_study.definition.missing_codes, here.language)
        if entry
        else "",
        root=root,
        visit_url=visit_url(here, code, visit),
        url=_entry_url(here, code, visit, instrument),
        threads=[thread_of(here, each) for each in reversed(found) if each.item == item],
        may_raise=may(here.actor, Permission.QUERY_RAISE, site_id=participant.site_id),
        why_not_ask=NOTHING_ENTERED if entry is None else None,
        timezone=places.timezone(participant.site_id),
        refusal=problem.reason if problem is not None and not isinstance(problem, Invalid) else None,
        errors=errors_of(problem),
        sent=sent,
        sent_number=number,
        text=here.value("text") if problem is not None else "",
    )


# Beside the answer, on the pages of an entry

STEPS: dict[str, Callable[..., Query]] = {
    Step.ANSWER: actions.answer_query,
    Step.REQUERY: actions.requery,
    Step.CLOSE: actions.close_query,
}


def reply_field(number: int) -> str:
    """The field of an entry's form in which an answer to this query is typed."""
    return f"query-{number}-text"


def reply_typed(here: Here, number: int) -> tuple[str, int]:
    """What was typed to this query in an entry's form, and the version of the query that it was typed upon."""
    return here.value(reply_field(number)), here.number(f"query-{number}-version")


def reply(here: Here, number: int, step: Step) -> str:
    """Take this step with what was typed to it in an entry's form; what to say of it."""
    text, version = reply_typed(here, number)
    STEPS[step](here.session, here.the_study, number, text=text, version=version, by=here.actor, now=here.now)
    return DONE[step]


def threads_of(
    here: Here, participant_id: int, visit: str, instrument: str, repeat: int = 1
) -> dict[str, list[dict[str, Any]]]:
    """Item code -> its queries as `queries/_thread.html` draws them, those that stand last."""
    found = reads.queries_of(here.session, here.the_study, participant_id, visit, instrument, repeat)
    threads: dict[str, list[dict[str, Any]]] = {}
    for each in sorted(found, key=lambda query: (not query.is_closed, query.number)):
        threads.setdefault(each.item, []).append(thread_of(here, each))
    return threads


def as_read(here: Here, query: Query) -> Query:
    """A query in the words of whoever reads: of one that a check raised, they are the study's own and ours."""
    if query.origin is not Origin.CHECK:
        return query
    thread = tuple(
        replace(each, text=here.tell(each.text)) if each.step is Step.RAISE and each.text else each
        for each in query.thread
    )
    return replace(query, text=here.tell(query.text), thread=thread)


def thread_of(here: Here, query: Query) -> dict[str, Any]:
    """One query with what this person may do to it now."""
    allowed = {
        step.value: after(query.state, step) is not None and may(here.actor, needed, site_id=query.site_id)
        for step, needed in NEEDED.items()
        if step is not Step.RAISE
    }
    query = as_read(here, query)
    return {
        "query": query,
        "days": _days(here, query),
        "by_check": query.origin is Origin.CHECK,
        "url": f"/{here.the_study.code}/queries/{query.number}",
        "may": allowed,
    }
