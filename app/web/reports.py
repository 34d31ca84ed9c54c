"""Reports: how the trial goes at my sites, each part as a picture, a table and a file; never by arm."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import log
from typing import Any

from babel.dates import format_date
from fastapi.responses import Response

from app.capture.queries.rules import AGES
from app.dependencies import Here, PageInStudy
from app.foundation.languages import translations
from app.people.access import may, require
from app.people.permissions import Permission
from app.rendering import decimal
from app.reports import reads
from app.reports.rules import Forms, Report, plan_of
from app.studies.definition import Study
from app.web.flow import NARROW, WIDE, Part, Step, drawn
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.tables import address, csv_file
from app.wording import why_not_taking_part

router = pages()

MOST_LINES = 20
"""So many answers that stand out are on the page, the furthest first; all that were compared are in the file."""
MOST_REASONS = 6
"""So many reasons stand in the picture; all of them in the table and the file."""


@router.get("/{study}/reports", name="reports.reports")
def reports(here: PageInStudy) -> Response:
    """Everything on one page, as it was counted when it says; `?format=csv&part=...` is one part as a file."""
    require(here.actor, Permission.REPORT_READ)
    study, asked, places = here.the_study, here.request.query_params, places_of(here)
    site = (
        places.chosen if places.chosen and may(here.actor, Permission.REPORT_READ, site_id=places.chosen.id) else None
    )
    found = reads.report(
        here.session,
        study,
        here.request.app.state.counts,
        by=here.actor,
        now=here.now,
        site=site.code if site else None,
        again=asked.get("again") == "yes",
        waits_for_quality=asked.get("format") == "csv" and asked.get("part") == "quality",
    )
    if asked.get("format") == "csv" and (file := FILES.get(asked.get("part", ""))) is not None:
        heading, rows = file
        return csv_file(f"{study.code}-{asked['part']}-{found.at:%Y-%m-%d}", heading, rows(found))
    path, steps = f"/{study.code}/reports", _steps(here, found)
    return show_at(
        here,
        places,
        "reports/reports.html",
        report=found,
        site=site,
        finding=_findings(here, found),
        several=len(found.sites) > 1,
        site_bars=_site_bars(found),
        allocated=study.definition.is_allocated,
        flow=drawn(steps, WIDE),
        flow_narrow=drawn(steps, NARROW),
        reasons=_reasons(study.definition, found),
        sites_forms=_of_all(found.forms_by("site"), found.forms_by()),
        form_visits=_columns(study.definitions, found),
        matrix=_matrix(study.definitions, found),
        ages=[*(f"{low}–{high - 1}" for low, high in zip((0, *AGES), AGES, strict=False)), f"≥\u00a0{AGES[-1]}"],
        odd=_standing_out(study.definitions, found),
        clustered=any(each.is_clustered for each in study.definitions),
        files={part: address(path, {"format": "csv", "part": part}) for part in FILES},
        again_url=address(path, {"again": "yes"}),
        page_url=path,
        now=here.now,
        timezone=places.timezone(),
    )


# What was found, in a sentence each


def _findings(here: Here, found: Report) -> dict[str, str]:
    catalogue = translations(here.language)
    gettext, ngettext = catalogue.gettext, catalogue.ngettext

    def say(words: str, **numbers: int | str) -> str:
        """With numbers as this language writes them."""
        put_in = {
            name: decimal(each, 0, here.language) if isinstance(each, int) else each for name, each in numbers.items()
        }
        return words.format(**put_in)

    flow, going, events, queries = found.flow, found.recruitment, found.events[-1], found.queries[-1]
    if going.target is None:
        recruitment = say(gettext("{total} people are enrolled at the sites shown"), total=going.total)
    else:
        words = gettext("{total} of {target} people are enrolled")
        if going.total >= going.target:
            words = gettext("The target is reached: {total} of {target} people are enrolled")
        elif going.reached_on is not None:
            words = gettext(
                "{total} of {target} people are enrolled; "
                "at the pace of the last three months that will be all in {month}"
            )
        on = going.reached_on
        month = format_date(on, "LLLL y", locale=here.language.replace("-", "_")) if on else ""
        recruitment = say(words, total=going.total, target=going.target, month=month)
    targeted = [each for each in found.by_site if each.site and each.target]
    sites = gettext("No site has a target of its own")
    if len(found.sites) == 1:
        sites = gettext("This is the only site shown")
    elif targeted:
        words = ngettext(
            "The site with a target has not reached it yet",
            "Of {number} sites with a target {reached} have reached it",
            len(targeted),
        )
        reached = sum(each.entered >= (each.target or 0) for each in targeted)
        if len(targeted) == reached == 1:
            words = gettext("The site with a target has reached it")
        sites = say(words, number=len(targeted), reached=reached)

    visits = gettext("No visit is expected yet")
    if expected := [each for each in found.visits if each.expected]:
        visits = gettext("Every visit that was expected was held")
        least = min(expected, key=lambda each: each.held / each.expected)
        if least.held < least.expected:
            words = gettext("{visit} is held least often: {held} of {expected} that were expected")
            visits = say(words, visit=least.label, held=least.held, expected=least.expected)

    forms = gettext("No form is expected yet")
    total = next(iter(found.forms_by()), None)
    if total is not None and total.expected:
        words = gettext(
            "Of {expected} forms that are expected by now, {lacking} are not begun and {partial} are partial"
        )
        if total.complete == total.expected:
            words = gettext("Every form that is expected by now is complete")
        forms = say(words, expected=total.expected, lacking=total.lacking, partial=total.partial)

    standing = gettext("No query stands")
    if queries.standing:
        words = ngettext(
            "One query stands; {old} have stood for {days} days or longer",
            "{number} queries stand; {old} have stood for {days} days or longer",
            queries.standing,
        )
        standing = say(words, number=queries.standing, old=queries.ages[-1], days=AGES[-1])

    serious = gettext("No serious event waits for a judgement or its review")
    if events.to_judge or events.to_review:
        words = gettext("Serious events: {judge} wait for a judgement, {review} for its review")
        serious = say(words, judge=events.to_judge, review=events.to_review)
    quality = gettext("What the data look like is being worked out for the first time")
    if found.quality is not None:
        odd = found.quality.standing_out
        quality = gettext("No site stands out")
        if len(found.sites) == 1:
            quality = gettext("One site alone is compared with nothing")
        elif odd:
            words = ngettext("{sites} stands out", "{number} sites stand out: {sites}", len(odd))
            named = ", ".join(odd[:MOST_REASONS]) + (", …" if len(odd) > MOST_REASONS else "")
            quality = say(words, number=len(odd), sites=named)
    screened = gettext("{entered} of {screened} people who were screened were enrolled, and {active} still take part")
    flowing = gettext("From {assessed} people assessed to {entered} enrolled, of whom {active} still take part")
    return {
        "recruitment": recruitment,
        "sites": sites,
        "people": say(screened, entered=flow.entered, screened=flow.assessed, active=flow.active),
        "flow": say(flowing, assessed=flow.assessed, entered=flow.entered, active=flow.active),
        "visits": visits,
        "forms": forms,
        "queries": standing,
        "events": serious,
        "quality": quality,
    }


# The flow


def _steps(here: Here, found: Report) -> list[Step]:
    gettext, flow = translations(here.language).gettext, found.flow
    definition = here.the_study.definition

    def counted(words: str, number: int) -> str:
        return f"{words} (n\u00a0=\u00a0{decimal(number, 0, here.language)})"

    def part(words: str, number: int, lines: Iterable[tuple[str, int]] = ()) -> Part:
        return Part(counted(words, number), tuple(counted(*line) for line in lines if line[1]))

    reasons = _reasons(definition, found)
    more = sum(number for _, number in reasons[MOST_REASONS:])
    way_in = gettext("randomisation is lacking") if definition.is_allocated else gettext("the beginning is lacking")
    before = [part(gettext("Excluded"), flow.excluded, [*reasons[:MOST_REASONS], (gettext("other reasons"), more)])]
    if flow.left:
        before.append(part(gettext("Left before they were enrolled"), flow.left))
    if coming := flow.to_consent + flow.to_enter:
        lines = [(gettext("consent is lacking"), flow.to_consent), (way_in, flow.to_enter)]
        before.append(part(gettext("On the way"), coming, lines))
    gone = [
        (gettext("withdrew"), flow.withdrawn),
        (gettext("lost to follow-up"), flow.lost),
        (gettext("died"), flow.died),
    ]
    left = sum(number for _, number in gone)
    steps = [
        Step(part(gettext("Assessed for eligibility"), flow.assessed), tuple(before)),
        Step(
            part(
                gettext("Randomised") if definition.is_allocated else gettext("Enrolled"),
                flow.entered,
                [
                    (gettext("in error"), flow.in_error),
                    (gettext("withdrew in part, still followed"), flow.in_part),
                ],
            ),
            (part(gettext("Left the study"), left, gone),) if left else (),
        ),
    ]
    for visit in found.visits:
        if visit.follows:
            lines = [
                (gettext("missed"), visit.missed),
                (gettext("late"), visit.overdue),
                (gettext("to come"), visit.due + visit.later),
                (gettext("not due any more"), visit.stopped),
            ]
            steps.append(Step(part(f"{visit.label}: {gettext('held')}", visit.held, lines)))
    still = [(gettext("still take part"), flow.active)]
    steps.append(Step(part(gettext("Completed the study"), flow.completed, still)))
    return steps


# Tables


def _site_bars(found: Report) -> tuple[list[tuple[str, float]], bool]:
    """What is drawn of the sites: per cent of their targets where any has one, else how many they enrolled."""
    sites = [each for each in found.by_site if each.site]
    if any(each.target for each in sites):
        return [(each.site, 100 * each.entered / each.target) for each in sites if each.target], True
    return [(each.site, each.entered) for each in sites], False


def _reasons(definition: Study, found: Report) -> list[tuple[str, int]]:
    return [(why_not_taking_part(definition, each.code), each.number) for each in found.flow.reasons]


def _of_all(rows: Sequence[Forms], total: Sequence[Forms]) -> list[Forms]:
    """The lines of several sites, and below them the line of all."""
    return [*rows, *total] if len(rows) > 1 else [*rows]


def _columns(definitions: Iterable[Study], found: Report) -> list[tuple[str, str]]:
    """The visits at which forms are filled in: code and label."""
    with_forms = {each.visit for each in found.forms}
    return [(visit.code, visit.short or visit.label) for visit in plan_of(definitions) if visit.code in with_forms]


def _matrix(definitions: Sequence[Study], found: Report) -> list[tuple[str, list[Forms | None]]]:
    """A line for each form, with what is expected of it at each visit."""
    cells = {(each.instrument, each.visit): each for each in found.forms_by("instrument", "visit")}
    codes = list(dict.fromkeys(each.instrument for each in found.forms))
    columns = _columns(definitions, found)
    labels = {form.code: form.label for study in reversed(definitions) for form in study.instruments}
    return [(labels.get(code, code), [cells.get((code, visit)) for visit, _ in columns]) for code in codes]


def _standing_out(definitions: Sequence[Study], found: Report) -> dict[str, Any]:
    """What stands out, the furthest first: answers by the words of their form and item, and how often by site."""
    if found.quality is None:
        return {}
    words = {
        (form.code, item.code): f"{form.label}: {item.label}"
        for study in reversed(definitions)
        for form in study.instruments
        for item in form.items
    }

    def named(lines: Iterable[Any]) -> list[tuple[Any, str]]:
        return [(each, words.get((each.instrument, each.item), each.item)) for each in lines]

    digits = [each for each in found.quality.digits if each.stands_out]
    levels = [each for each in found.quality.levels if each.stands_out]
    times = dict.fromkeys(found.quality.standing_out, 0)
    for site in (*(each.site for each in digits), *(each.site for each in levels)):
        times[site] += 1
    for each in found.quality.sites:
        for share in (each.late, each.corrected, each.alike):
            if share.stands_out:
                times[each.site] += 1
    digits.sort(key=lambda each: -each.difference)
    levels.sort(key=lambda each: -max(abs(each.distance), abs(log(max(each.spread, 0.05)))))
    return {
        "times": [*times.items()],
        "digits": named(digits[:MOST_LINES]),
        "levels": named(levels[:MOST_LINES]),
        "all_digits": len(digits),
        "all_levels": len(levels),
    }


# Files

Rows = Iterator[Sequence[object]]


def _recruitment_rows(found: Report) -> Rows:
    for month in found.recruitment.months:
        yield f"{month.first:%Y-%m}", month.entered, month.total, found.recruitment.target


def _site_rows(found: Report) -> Rows:
    for each in found.by_site:
        yield tuple(getattr(each, name) for name in SITES)


def _people_rows(found: Report) -> Rows:
    for each in found.standing:
        yield tuple(getattr(each, name) for name in PEOPLE)


def _flow_rows(found: Report) -> Rows:
    flow = found.flow
    for name in ("assessed", "excluded"):
        yield name, "", getattr(flow, name)
    for reason in flow.reasons:
        yield "excluded", reason.code, reason.number
    for name in ("left", "to_consent", "to_enter", "entered", "in_error", "in_part", "withdrawn", "lost", "died"):
        yield name, "", getattr(flow, name)
    for visit in found.visits:
        if visit.follows:
            yield "held", visit.code, visit.held
    yield "completed", "", flow.completed
    yield "active", "", flow.active


def _visit_rows(found: Report) -> Rows:
    for each in found.visits:
        yield tuple(getattr(each, name) for name in VISITS)


def _form_rows(found: Report) -> Rows:
    for each in found.forms:
        yield tuple(getattr(each, name) for name in FORMS)


def _query_rows(found: Report) -> Rows:
    for each in found.queries:
        yield each.site, each.open, each.answered, *each.ages


def _event_rows(found: Report) -> Rows:
    for each in found.events:
        yield each.site, each.to_judge, each.to_review


def _quality_rows(found: Report) -> Rows:
    assert found.quality is not None  # whoever asks for this file waits for it
    for each in found.quality.sites:
        for name in ("late", "corrected", "alike"):
            share = getattr(each, name)
            yield each.site, name, "", "", share.number, share.of, None, share.p, YES_NO[share.stands_out]
    for digit in found.quality.digits:
        place = digit.site, "last_digits", digit.instrument, digit.item
        yield *place, digit.number, None, digit.difference, digit.p, YES_NO[digit.stands_out]
    for level in found.quality.levels:
        item = level.instrument, level.item, level.number, None
        yield level.site, "level", *item, level.distance, None, YES_NO[level.is_far]
        yield level.site, "spread", *item, level.spread, None, YES_NO[level.is_odd]


YES_NO = ("no", "yes")
SITES = ("site", "entered", "target", "pace", "reached_on")
PEOPLE = (
    *("site", "screened", "failed", "consented", "entered", "completed", "withdrawn", "lost", "died"),
    *("left", "active", "in_part"),
)
VISITS = (
    *("code", "expected", "held", "in_window", "out_of_window", "missed", "overdue", "due", "later", "stopped"),
    "reached",
)
FORMS = ("site", "visit", "instrument", "expected", "complete", "partial", "lacking")
QUALITY = ("site", "measure", "instrument", "item", "number", "of", "value", "p", "stands_out")
QUERIES = ("site", "open", "answered", *(f"from_{days}_days" for days in (0, *AGES)))
FILES: dict[str, tuple[Sequence[str], Callable[[Report], Any]]] = {
    "recruitment": (("month", "entered", "total", "target"), _recruitment_rows),
    "sites": (SITES, _site_rows),
    "people": (PEOPLE, _people_rows),
    "flow": (("step", "of", "number"), _flow_rows),
    "visits": (VISITS, _visit_rows),
    "forms": (FORMS, _form_rows),
    "queries": (QUERIES, _query_rows),
    "quality": (QUALITY, _quality_rows),
    "events": (("site", "to_judge", "to_review"), _event_rows),
}
"""The parts of the page that can be had as a file, each with its columns. A line without a site is of all of them."""
