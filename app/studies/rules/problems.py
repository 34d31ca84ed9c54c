"""Do the parts of a study fit together? Every contradiction, each at its line, so that a study loads whole or not."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.expressions import Reference
from app.studies.definition import (
    Instrument,
    InstrumentText,
    Item,
    ItemText,
    ItemType,
    Reminder,
    StratumFactor,
    Study,
    Visit,
    VisitKind,
    unscheduled_number,
)
from app.studies.rules.blinding import leaks, names_an_arm
from app.studies.rules.coding import wrong_coding, wrong_double_entry
from app.studies.rules.findings import Finding, Locate, Path, Severity, nowhere
from app.studies.rules.guesses import wrong_guesses
from app.studies.rules.items import SEALED, Problem, wrong_item, wrong_matrix
from app.studies.rules.reaching import known_too_late
from app.studies.rules.references import SCREENING, Asked, asked_in, found, parsed, wrong_with
from app.studies.rules.texts import study_text_problems, text_problems
from app.studies.rules.verifying import wrong_verification

ERROR, WARNING = Severity.ERROR, Severity.WARNING
ANCHORS = ("screening", "consent", "randomisation")
# What the sealed room can draw for arms that differ in number or share is its own to say; this is said at load time, so
# that no study learns it on the day of its first participant.
TWO_EQUAL_ARMS = frozenset({"big_stick", "maximal_procedure", "truncated_binomial", "biased_coin"})
EQUAL_ARMS = TWO_EQUAL_ARMS | {"wei_urn"}


def problems(study: Study, locate: Locate = nowhere, *, unreadable: Collection[str] = ()) -> list[Finding]:
    """Everything that is wrong with a study, sorted by file and line.

    `locate` answers where a part of the study was written; `unreadable` are codes of instruments whose own files have
    errors, so that what refers to them is not reported a second time.
    """
    asked = asked_in(study, unreadable)
    parts = (
        _unique_codes(study),
        _sites(study),
        _arms(study),
        _strata(study, asked),
        _clusters(study),
        _first_stage(study, asked),
        _eligibility(study, asked, unreadable),
        _visits(study, unreadable),
        _unscheduled(study, unreadable),
        _windows(study),
        _outcomes(study, unreadable),
        _consent(study),
        _words(study),
        _withdrawal(study),
        _treatment(study),
        _schedule(study),
        _safety(study),
        wrong_double_entry(study, unreadable),
        wrong_verification(study, unreadable),
        wrong_coding(study),
        wrong_guesses(study, unreadable),
        _instruments(study, asked),
        _cycles(study, asked),
        leaks(study),
        known_too_late(study),
        _placeholders(study),
    )
    return _findings((problem for part in parts for problem in part), locate)


def instrument_problems(instruments: Iterable[tuple[int, Instrument]], locate: Locate = nowhere) -> list[Finding]:
    """What is wrong with instruments by themselves, while their study.yaml cannot be read."""
    unknown = Asked(known=False)
    return _findings(
        (
            problem
            for position, instrument in instruments
            for problem in _instrument(("instruments", position), instrument, unknown, ())
        ),
        locate,
    )


def _findings(found_problems: Iterable[Problem], locate: Locate) -> list[Finding]:
    findings = set()
    for path, message, severity in found_problems:
        place = locate(path)
        findings.add(Finding(place.file, place.line, place.column, message, severity))
    return sorted(findings)


def _repeated(path: Path, parts: Iterable[Any], what: str, key: str = "code") -> Iterator[Problem]:
    seen: set[str] = set()
    for position, part in enumerate(parts):
        value = getattr(part, key)
        if value.casefold() in seen:
            yield (*path, position, key), f"There are two {what} “{value}”. Give one of them another {key}.", ERROR
        seen.add(value.casefold())


def _unique_codes(study: Study) -> Iterator[Problem]:
    yield from _repeated(("sites",), study.sites, "sites")
    yield from _repeated(("arms",), study.arms, "arms")
    yield from _repeated(("arms",), study.arms, "arms", "label")
    yield from _repeated(("visits",), study.visits, "visits")
    yield from _repeated(("visits",), study.visits, "visits", "label")
    yield from _repeated(("eligibility", "criteria"), study.eligibility.criteria, "criteria")
    yield from _repeated(("missing_codes",), study.missing_codes, "missing codes")
    yield from _repeated(("withdrawal_levels",), study.withdrawal_levels, "withdrawal levels")
    yield from _repeated(("screen_failure_reasons",), study.screen_failure_reasons, "screen failure reasons")
    yield from _repeated(("unblinding", "reasons"), study.unblinding.reasons, "unblinding reasons")
    yield from _repeated(("blinding_assessment",), study.blinding_assessment, "guesses")
    yield from _repeated(("schedule", "reminders"), study.schedule.reminders, "reminders")
    yield from _repeated(("consent", "optional"), study.consent.optional, "optional consents")
    yield from _repeated(("consent", "questions"), study.consent.questions, "questions about the consent document")
    for position, question in enumerate(study.consent.questions):
        yield from _repeated(("consent", "questions", position, "choices"), question.choices, "answers")
    yield from _repeated(("instruments",), study.instruments, "instruments")
    homes: dict[str, str] = {}
    if any(item.code == study.record_id for instrument in study.instruments for item in instrument.items):
        message = f"“{study.record_id}” is an item too. Give the field of a participant's code another name."
        yield ("record_id",), message, ERROR
    for position, instrument in enumerate(study.instruments):
        for path, item in _items_of(("instruments", position), instrument):
            home = homes.setdefault(item.code, instrument.code)
            if home != instrument.code:
                yield (
                    (*path, "code"),
                    f"The instrument {home} has an item “{item.code}” too. Item codes are unique in the whole study: "
                    f"put the instrument's code before it, e.g. {instrument.code}_{item.code}.",
                    ERROR,
                )


def _sites(study: Study) -> Iterator[Problem]:
    for position, site in enumerate(study.sites):
        try:
            ZoneInfo(site.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield (
                ("sites", position, "timezone"),
                f"There is no time zone “{site.timezone}”. Write one such as Australia/Sydney.",
                ERROR,
            )
        if site.target is not None and site.target > study.target:
            yield (
                ("sites", position, "target"),
                f"{site.code} is to enrol {site.target}, the whole study {study.target}. Correct one of them.",
                WARNING,
            )
    targets = [site.target for site in study.sites if site.target is not None]
    if len(targets) == len(study.sites) and sum(targets) < study.target:
        yield (
            ("sites",),
            f"The targets of the sites add up to {sum(targets)}, the target of the study is {study.target}. "
            "Raise some, or add a site.",
            WARNING,
        )


def _arms(study: Study) -> Iterator[Problem]:
    if not study.is_allocated:
        yield from _group(study)
        if study.allocation.strata:
            yield ("allocation", "strata"), "Groups are observed, not allocated: take the strata out.", ERROR
        for position, visit in enumerate(study.visits):
            if visit.anchor == "randomisation":
                yield (
                    ("visits", position, "anchor"),
                    f"Nobody is randomised in this study: count {visit.code} from screening or consent.",
                    ERROR,
                )
        return
    if study.allocation.group is not None:
        words = "Arms are allocated in this study, so no group is observed. Take this out."
        yield ("allocation", "group"), words, ERROR
    if len(study.arms) < 2:
        yield ("arms",), "Allocation needs two arms or more. Add one, or write `method: observed`.", ERROR
    yield from _method(study)
    planned = [arm.planned for arm in study.arms]
    if any(number is not None for number in planned):
        if any(number is None for number in planned):
            yield ("arms",), "Say `planned:` for every arm or for none.", ERROR
            return
        numbers = [number for number in planned if number is not None]
        if sum(numbers) != study.target:
            yield (
                ("arms",),
                f"The arms plan {sum(numbers)} participants, the target is {study.target}. Make them agree.",
                ERROR,
            )
        ratios = sum(arm.ratio for arm in study.arms)
        for position, arm in enumerate(study.arms):
            if abs(numbers[position] * ratios - sum(numbers) * arm.ratio) >= ratios:
                yield (
                    ("arms", position, "planned"),
                    f"{arm.code} plans {arm.planned} of {sum(numbers)}, but its ratio is {arm.ratio} of {ratios}.",
                    WARNING,
                )


def _group(study: Study) -> Iterator[Problem]:
    """The group is asked for where the study says, and every answer that means one is an answer and means an arm."""
    group, where = study.allocation.group, ("allocation", "group")
    if group is None:
        return
    visit = study.visit(group.visit)
    if visit is None:
        yield (*where, "visit"), f"There is no visit “{group.visit}”. Name one of the plan.", ERROR
        return
    forms = [study.instrument(code) for code in visit.instruments]
    if None in forms:
        return  # said where the visit names it
    item = next((found for form in forms if form and (found := form.item(group.item))), None)
    if item is None:
        words = f"No instrument of {visit.code} has an item “{group.item}”. Name one that is asked there."
        yield (*where, "item"), words, ERROR
        return
    if item.type not in (ItemType.CHOICE, ItemType.YES_NO):
        yield (*where, "item"), f"{item.code} is of type {item.type}. Name an item of type choice or yes_no.", ERROR
        return
    choices = ["yes", "no"] if item.type is ItemType.YES_NO else [choice.code for choice in item.choices]
    arms, seen = [arm.code for arm in study.arms], set[str]()
    for position, answer in enumerate(group.answers):
        path: Path = (*where, "answers", position)
        if answer.choice not in choices:
            words = f"{item.code} has no choice “{answer.choice}”. It has: {', '.join(choices)}."
            yield (*path, "choice"), words, ERROR
        if answer.choice in seen:
            yield (*path, "choice"), f"“{answer.choice}” stands here twice. An answer means one group.", ERROR
        if answer.arm not in arms:
            yield (*path, "arm"), f"There is no arm “{answer.arm}”. There are: {', '.join(arms)}.", ERROR
        seen.add(answer.choice)
    for arm in arms:
        if arm not in {answer.arm for answer in group.answers}:
            yield (*where, "answers"), f"No answer means {arm}, so nobody is counted in it. Add one.", WARNING


def _method(study: Study) -> Iterator[Problem]:
    method = study.allocation.method
    equal = len({arm.ratio for arm in study.arms}) <= 1
    if method in TWO_EQUAL_ARMS and (len(study.arms) > 2 or not equal):
        wanted = "two arms with the ratio 1:1"
    elif method in EQUAL_ARMS and not equal:
        wanted = "arms with equal shares"
    else:
        return
    yield (
        ("allocation", "method"),
        f"`{method}` is defined for {wanted}. Write `permuted_blocks` or `simple`, or change the arms.",
        ERROR,
    )


def _clusters(study: Study) -> Iterator[Problem]:
    """A cluster is a site: that is all such a study is stratified by, and every arm needs one."""
    if not study.is_clustered:
        return
    if [factor.by for factor in study.allocation.strata] != ["site"]:
        words = "With `cluster` the sites are drawn. Write one stratum, by site: `strata: [{code: site, label: Site}]`."
        yield ("allocation", "strata" if study.allocation.strata else "method"), words, ERROR
    wanted = sum(arm.ratio for arm in study.arms)
    if study.arms and len(study.sites) < wanted:
        yield (
            ("sites",),
            f"There are {len(study.sites)} sites to draw. With fewer than {wanted}, the sum of the ratio, an arm can "
            "be left without a site.",
            WARNING,
        )


def _first_stage(study: Study, asked: Asked) -> Iterator[Problem]:
    """Groups come before arms: each arm is in a group, and the chances of both stages are those of the arms."""
    stage = study.allocation.first_stage
    if stage is None:
        return
    where: Path = ("allocation", "first_stage")
    if study.allocation.method != "minimisation":
        words = "After a first stage the arm is decided within a group that nobody may see: write `minimisation`."
        yield ("allocation", "method"), words, ERROR
    yield from _repeated((*where, "groups"), stage.groups, "groups")
    yield from _factors((*where, "strata"), stage.strata, asked, frozenset({SCREENING}))
    shares = {arm.code: Fraction(0) for arm in study.arms}
    for position, group in enumerate(stage.groups):
        path: Path = (*where, "groups", position, "arms")
        yield from _repeated(path, group.arms, "arms", "arm")
        for number, each in enumerate(group.arms):
            if each.arm not in shares:
                known = f"Choose among {', '.join(shares)}."
                yield (*path, number, "arm"), f"There is no arm “{each.arm}”. {known}", ERROR
                return
            of_group = Fraction(each.ratio, sum(arm.ratio for arm in group.arms))
            shares[each.arm] += Fraction(group.ratio, sum(group.ratio for group in stage.groups)) * of_group
    total = sum(arm.ratio for arm in study.arms)
    for position, arm in enumerate(study.arms):
        if shares[arm.code] != Fraction(arm.ratio, total):
            words = (
                f"Both stages give {arm.code} with the chance {shares[arm.code]}, its ratio says {arm.ratio}/{total}."
            )
            yield ("arms", position), f"{words} Make them agree.", ERROR
    equal = len({group.ratio for group in stage.groups}) == 1
    if stage.method in EQUAL_ARMS and not (equal and (stage.method == "wei_urn" or len(stage.groups) == 2)):
        words = f"`{stage.method}` does not fit these groups. Write `permuted_blocks` or `simple`."
        yield (*where, "method"), words, ERROR


def _strata(study: Study, asked: Asked) -> Iterator[Problem]:
    where: Path = ("allocation", "strata")
    yield from _factors(where, study.allocation.strata, asked, asked.before_allocation)
    combinations = 1
    for factor in study.allocation.strata:
        combinations *= len(study.sites) if factor.by == "site" else max(1, len(factor.levels))
    needed = combinations * sum(arm.ratio for arm in study.arms) * 2
    each_has_a_list = study.allocation.method not in ("minimisation", "cluster")
    if study.allocation.strata and each_has_a_list and needed > study.target:
        yield (
            where,
            f"There are {combinations} strata for {study.target} participants. Many would stay nearly empty, and the "
            "arms could differ in size.",
            WARNING,
        )


def _factors(where: Path, factors: Sequence[StratumFactor], asked: Asked, known: Collection[str]) -> Iterator[Problem]:
    """What is wrong with the factors of one stage; `known` are the events that are entered before it."""
    yield from _repeated(where, factors, "strata")
    if sum(factor.by == "site" for factor in factors) > 1:
        yield where, "Allocation is stratified by site twice. Take one of them out.", ERROR
    for position, factor in enumerate(factors):
        path = (*where, position)
        yield from _repeated((*path, "levels"), factor.levels, "levels")
        if factor.by == "site":
            for key in ("expression", "levels"):
                if getattr(factor, key):
                    yield (*path, key), f"{factor.code} is stratified by site: take `{key}:` out.", ERROR
            continue
        if factor.expression is None:
            yield path, f"{factor.code} is stratified by an expression: add `expression:`.", ERROR
        else:
            for message in wrong_with(factor.expression, asked, here=None, only=known):
                yield (*path, "expression"), message, ERROR
        if len(factor.levels) < 2:
            yield path, f"{factor.code} needs two `levels:` or more: the values its expression can have.", ERROR


def _eligibility(study: Study, asked: Asked, unreadable: Collection[str]) -> Iterator[Problem]:
    eligibility = study.eligibility
    instrument = study.instrument(eligibility.instrument)
    if instrument is None:
        yield from _no_instrument(("eligibility", "instrument"), eligibility.instrument, study, unreadable)
    for number, each in enumerate(study.instruments):
        for path, item in _items_of(("instruments", number), each) if each is instrument else ():
            if item.type in SEALED:
                yield (
                    (*path, "type"),
                    f"{item.code} is asked at screening, where no {item.type} can be kept. Ask for it at a visit.",
                    ERROR,
                )
    here = asked.at.get(SCREENING, {})
    for position, criterion in enumerate(eligibility.criteria):
        if instrument is None:
            expression = parsed(criterion.rule)
            messages: Iterable[str] = [expression] if isinstance(expression, str) else []
        else:
            messages = wrong_with(criterion.rule, asked, here=here, only={SCREENING})
        for message in messages:
            yield ("eligibility", "criteria", position, "rule"), message, ERROR


def _no_instrument(path: Path, code: str, study: Study, unreadable: Collection[str]) -> Iterator[Problem]:
    if code in unreadable:
        return
    known = [instrument.code for instrument in study.instruments]
    close = get_close_matches(code, known, n=1)
    instead = f"Did you mean {close[0]}?" if close else f"Add instruments/{code}.yaml or take it out."
    yield path, f"There is no instrument “{code}”. {instead}", ERROR


def _visits(study: Study, unreadable: Collection[str]) -> Iterator[Problem]:
    last: Visit | None = None
    for position, visit in enumerate(study.visits):
        path: Path = ("visits", position)
        if visit.code == SCREENING:
            yield (*path, "code"), "“screening” means the eligibility questions. Give the visit another code.", ERROR
        seen: set[str] = set()
        for number, code in enumerate(visit.instruments):
            if study.instrument(code) is None:
                yield from _no_instrument((*path, "instruments", number), code, study, unreadable)
            if code in seen:
                yield (*path, "instruments", number), f"{code} is named twice at {visit.code}. Take one out.", ERROR
            seen.add(code)
        if last is not None and _order(visit) < _order(last):
            yield (
                (*path, "day"),
                f"{visit.code} (day {visit.day} from {visit.anchor}) comes before {last.code} (day {last.day} from "
                f"{last.anchor}). List the visits in the order in which they are due.",
                ERROR,
            )
        last = visit
        yield from _kind(path, visit)


def _unscheduled(study: Study, unreadable: Collection[str]) -> Iterator[Problem]:
    if study.unscheduled is None:
        return
    for position, code in enumerate(study.unscheduled.instruments):
        path: Path = ("unscheduled", "instruments", position)
        if code == study.eligibility.instrument:
            yield path, f"{code} is the pre-screen, which is filled in before any visit. Take it out.", ERROR
        elif study.instrument(code) is None:
            yield from _no_instrument(path, code, study, unreadable)
    for position, visit in enumerate(study.visits):
        if unscheduled_number(visit.code) is not None:
            yield (
                ("visits", position, "code"),
                f"{visit.code} is the code of an unscheduled visit. Give the visit another code.",
                ERROR,
            )


def _order(visit: Visit) -> tuple[int, int]:
    return ANCHORS.index(visit.anchor), visit.day


def _kind(path: Path, visit: Visit) -> Iterator[Problem]:
    if visit.kind is VisitKind.BASELINE:
        if visit.anchor == "randomisation" and visit.day > 0:
            yield (*path, "day"), f"{visit.code} is a baseline visit, but is due after randomisation.", ERROR
        elif visit.anchor == "randomisation":
            yield (
                (*path, "day"),
                f"When {visit.code} is due cannot be known before randomisation. Count it from screening or consent.",
                WARNING,
            )
    elif visit.anchor == "randomisation" and visit.day < 0:
        yield (*path, "day"), f"{visit.code} is due before randomisation, so it is `kind: baseline`.", ERROR


def _windows(study: Study) -> Iterator[Problem]:
    """Two visits for the same thing, both on time on one day: nobody could say which of them took place."""
    for position, visit in enumerate(study.visits):
        for other in study.visits[:position]:
            if (other.kind, other.anchor) != (visit.kind, visit.anchor):
                continue
            if visit.kind is not VisitKind.TREATMENT and not set(visit.instruments) & set(other.instruments):
                continue
            if visit.day - visit.window.before <= other.day + other.window.after:
                yield (
                    ("visits", position, "window"),
                    f"The window of {visit.code} overlaps that of {other.code}. Make them narrower.",
                    WARNING,
                )


def _outcomes(study: Study, unreadable: Collection[str]) -> Iterator[Problem]:
    for position, outcome in enumerate(study.outcomes):
        path: Path = ("outcomes", position)
        visit, instrument = study.visit(outcome.visit), study.instrument(outcome.instrument)
        if visit is None:
            close = get_close_matches(outcome.visit, [known.code for known in study.visits], n=1)
            instead = f" Did you mean {close[0]}?" if close else ""
            yield (*path, "visit"), f"There is no visit “{outcome.visit}”.{instead}", ERROR
        if instrument is None:
            yield from _no_instrument((*path, "instrument"), outcome.instrument, study, unreadable)
            continue
        if instrument.item(outcome.item) is None:
            close = get_close_matches(outcome.item, [item.code for item in instrument.items], n=1)
            instead = f" Did you mean {close[0]}?" if close else ""
            yield (*path, "item"), f"{instrument.code} has no item “{outcome.item}”.{instead}", ERROR
        if visit is not None and instrument.code not in visit.instruments:
            yield (
                (*path, "instrument"),
                f"{instrument.code} is not filled in at {visit.code}. Add it to that visit, or name another visit.",
                ERROR,
            )
    if study.is_allocated and study.outcomes and not any(outcome.kind == "primary" for outcome in study.outcomes):
        yield ("outcomes",), "No outcome is the primary one. Write `kind: primary` at it.", WARNING


def _schedule(study: Study) -> Iterator[Problem]:
    """Visits that are named are there, and no reminder names an arm or asks for what nobody fills in."""
    where: Path = ("schedule", "reminders")
    codes = {visit.code for visit in study.visits}
    for position, length in enumerate(study.schedule.lengths):
        if length.visit not in codes:
            yield (
                ("schedule", "lengths", position, "visit"),
                f"There is no visit “{length.visit}”. Name one of this study.",
                ERROR,
            )
    arms = {word for arm in study.arms for word in (arm.code, arm.label)}
    for position, rule in enumerate(study.schedule.reminders):
        for number, code in enumerate(rule.visits):
            if code not in codes:
                yield (
                    (*where, position, "visits", number),
                    f"There is no visit “{code}”. Name one of this study.",
                    ERROR,
                )
        if rule.when == "booked" and rule.to == "staff":
            yield (
                (*where, position, "to"),
                "Whom an appointment is with is told of it without a rule. Write `to: participant`.",
                ERROR,
            )
        by_link = rule.when in LINK_RULES
        if by_link:
            yield from _of_links(study, rule, (*where, position))
        known: tuple[str, ...] = STAFF_PLACES if rule.to == "staff" else PARTICIPANT_PLACES
        if by_link and rule.to == "participant":
            known = LINK_PLACES
        for number, text in enumerate(rule.texts):
            said = f"{text.subject} {text.body}"
            here: Path = (*where, position, "texts", number, "body")
            if known is LINK_PLACES and "{link}" not in text.body:
                yield here, "Nobody can answer without the link. Write {link} where it goes.", ERROR
            if "{link}" in text.subject:
                yield (*where, position, "texts", number, "subject"), "Write {link} in the body alone.", ERROR
            if named := sorted(arm for arm in arms if arm.casefold() in said.casefold()):
                yield here, f"This names an arm ({named[0]}), and blinded people read it. Say it without.", ERROR
            for name in re.findall(r"\{([^{}]*)\}", said):
                if name not in known:
                    yield (
                        here,
                        f"Nobody fills in {{{name}}}. Write one of {', '.join(f'{{{each}}}' for each in known)}.",
                        ERROR,
                    )


def _of_links(study: Study, rule: Reminder, where: Path) -> Iterator[Problem]:
    """A link leads to questions that participants answer themselves, and goes to them."""
    if rule.when == "link_due" and rule.to == "staff":
        yield (*where, "to"), "A link is for the participant alone. Write `to: participant`.", ERROR
    asked = {visit.code for visit in study.visits if study.asked_of_participants(visit.code)}
    if not asked:
        words = "No visit has a form that participants answer. Write `respondent: participant` at one."
        yield (*where, "when"), words, ERROR
    for number, code in enumerate(rule.visits):
        if asked and code not in asked and study.visit(code) is not None:
            words = f"Participants answer nothing themselves at {code}. Name a visit where they do."
            yield (*where, "visits", number), words, ERROR


LINK_RULES = ("link_due", "link_unanswered")
LINK_PLACES = ("link", "site", "opens", "closes")
PARTICIPANT_PLACES = ("day", "time", "site", "opens", "closes")
STAFF_PLACES = (*PARTICIPANT_PLACES, "participant", "visit")


def _words(study: Study) -> Iterator[Problem]:
    """Whether what a participant reads of study.yaml in other languages fits it."""
    seen = {study.language}
    for number, text in enumerate(study.texts):
        if text.language in seen:
            words = f"The study has words in {text.language} already. Take this file out, or mend the other."
            yield ("texts", number, "language"), words, ERROR
        seen.add(text.language)
        for inside, message, severity in study_text_problems(study, text):
            yield ("texts", number, *inside), message, severity


def _consent(study: Study) -> Iterator[Problem]:
    if not study.consent_documents:
        yield (
            ("consent_documents",),
            "There is no consent document, so nobody could take part. Add consent/v1.en.md.",
            ERROR,
        )
        return
    seen: set[tuple[str, str]] = set()
    for position, document in enumerate(study.consent_documents):
        key = (document.version, document.language)
        if key in seen:
            yield (
                ("consent_documents", position, "version"),
                f"There are two consent documents of version {document.version} in {document.language}.",
                ERROR,
            )
        seen.add(key)
        for site in document.sites:
            if site not in {each.code for each in study.sites}:
                yield (
                    ("consent_documents", position, "sites"),
                    f"The study does not start with a site “{site}”. Until there is one, nobody signs this document.",
                    WARNING,
                )
    languages = {document.language for document in study.consent_documents}
    if study.language not in {tag for language in languages for tag in (language, language.split("-")[0])}:
        yield ("language",), f"No consent document is in the study's language, {study.language}.", WARNING


def _withdrawal(study: Study) -> Iterator[Problem]:
    if not study.withdrawal_levels:
        yield (), "Say in `withdrawal_levels:` how far a participant can withdraw.", WARNING
    elif not any(level.stops_visits for level in study.withdrawal_levels):
        yield (
            ("withdrawal_levels",),
            "No withdrawal level stops the visits. Write `stops_visits: true` at one of them.",
            WARNING,
        )


def _safety(study: Study) -> Iterator[Problem]:
    safety, where = study.safety, ("safety",)
    for key, what in (
        ("terms", "terms"),
        ("severity", "grades of severity"),
        ("relatedness", "answers about relatedness"),
        ("clocks", "clocks"),
        ("deviations", "categories of deviations"),
    ):
        yield from _repeated((*where, key), getattr(safety, key), what)
    terms = [term.code for term in safety.terms]
    for position, code in enumerate(safety.expected):
        if code not in terms:
            close = get_close_matches(code, terms, n=1)
            instead = f"Did you mean {close[0]}?" if close else "Add it to `terms:`."
            yield (*where, "expected", position), f"There is no term “{code}”. {instead}", ERROR
    counts = [each.related for each in safety.relatedness]
    if all(counts) or not any(counts):
        yield (
            (*where, "relatedness"),
            "Write `related: true` at the answers that mean a reasonable possibility, and leave it out at the others.",
            ERROR,
        )
    for position, clock in enumerate(safety.clocks):
        for number, step in enumerate(clock.steps):
            path = (*where, "clocks", position, "steps", number)
            if number and step.after_hours < clock.steps[number - 1].after_hours:
                yield (*path, "after_hours"), "List the steps in the order in which they are taken.", ERROR
            # Administrators see no participants, and the statistician none at a site.
            if {"administrator", "statistician"} & set(step.tell):
                words = "They see no adverse events, so a mail would lead them nowhere. Name somebody who does."
                yield (*path, "tell"), words, WARNING
        if not clock.steps:
            yield (*where, "clocks", position), f"Nobody is told while {clock.code} runs. Add `steps:`.", WARNING


def _placeholders(study: Study) -> Iterator[Problem]:
    """What was written so that the study is whole: a warning where it stands, until somebody decides."""
    for position, placeholder in enumerate(study.placeholders):
        path = _part_named(study, placeholder.part)
        if path is None:
            where: Path = ("placeholders", position, "part")
            yield where, f"There is no part “{placeholder.part}”. Take this placeholder out.", ERROR
            continue
        words = f"To be decided: {placeholder.say} Then take `{placeholder.part}` out of `placeholders:`."
        yield path, words, WARNING


def _part_named(study: Study, name: str) -> Path | None:
    """Where a key of study.yaml, an instrument or an item stands."""
    key, *codes = name.split(".")
    if key != "instruments":
        return (key,) if key in type(study).model_fields and not codes else None
    for position, instrument in enumerate(study.instruments):
        if codes and instrument.code == codes[0]:
            if len(codes) == 1:
                return (key, position)
            items = _items_of((key, position), instrument)
            return next((where for where, item in items if item.code == codes[1]), None)
    return None


def _treatment(study: Study) -> Iterator[Problem]:
    if not study.treatment:
        return
    yield from _repeated(("treatment",), study.treatment, "treatments of the arm", "arm")
    for position, treatment in enumerate(study.treatment):
        path: Path = ("treatment", position)
        if study.arm(treatment.arm) is None:
            close = get_close_matches(treatment.arm, [arm.code for arm in study.arms], n=1)
            instead = f" Did you mean {close[0]}?" if close else ""
            yield (*path, "arm"), f"There is no arm “{treatment.arm}”.{instead}", ERROR
        yield from _repeated((*path, "modules"), treatment.modules, "modules")
        for number, module in enumerate(treatment.modules):
            within = (*path, "modules", number)
            yield from _repeated((*within, "items"), module.items, "items")
            here = {item.code: item for item in module.items}
            for place, item in enumerate(module.items):
                unblinded = Asked(known=False, missing_codes=frozenset(missing.code for missing in study.missing_codes))
                yield from _item((*within, "items", place), item, unblinded, here, study, only=())
                if item.type in SEALED:
                    words = f"{item.code}: no {item.type} is kept of a session. Ask for it at a visit."
                    yield (*within, "items", place, "type"), words, ERROR
    treated = {treatment.arm for treatment in study.treatment}
    untreated = [arm.code for arm in study.arms if arm.code not in treated]
    if untreated:
        yield (
            ("treatment",),
            f"Other arms have a treatment, {', '.join(untreated)} has none. Add `- arm: {untreated[0]}`, if need be "
            "without modules.",
            ERROR,
        )


def _instruments(study: Study, asked: Asked) -> Iterator[Problem]:
    used = {study.eligibility.instrument} | {code for visit in study.visits for code in visit.instruments}
    used |= set(study.unscheduled.instruments) if study.unscheduled is not None else set()
    for position, instrument in enumerate(study.instruments):
        path: Path = ("instruments", position)
        events = [event for event in asked.order if _stands_at(study, instrument.code, event)]
        yield from _instrument(path, instrument, asked, events, study)
        yield from _repeats(path, instrument, study)
        if instrument.code not in used:
            yield (
                (*path, "code"),
                f"{instrument.code} is not filled in at any visit. Add it to one, or remove its file.",
                WARNING,
            )


def _repeats(path: Path, instrument: Instrument, study: Study) -> Iterator[Problem]:
    """Whether an instrument can be filled in several times where it stands."""
    for key in ("max_repeats", "repeat_label"):
        if getattr(instrument, key) is not None and not instrument.repeats:
            yield (*path, key), f"{instrument.code} is filled in once. Write `repeats: true`, or take this out.", ERROR
    once = {item.code for item in instrument.items} if not instrument.repeats else set()
    for where, item in _items_of(path, instrument):
        if item.type in SEALED and item.code not in once:
            words = f"{item.code} is asked more than once. Ask for a file or a signature in a form of its own."
            yield (*where, "type"), words, ERROR
    if instrument.groups and study.eligibility.instrument == instrument.code:
        yield (*path, "sections"), "The pre-screen asks each question once. Take the rows out.", ERROR
    if instrument.repeats and study.eligibility.instrument == instrument.code:
        yield (*path, "repeats"), "A participant is screened once. Take `repeats:` out.", ERROR


def _stands_at(study: Study, code: str, event: str) -> bool:
    if event == SCREENING:
        return study.eligibility.instrument == code
    visit = study.visit(event)
    return visit is not None and code in visit.instruments


def _instrument(
    path: Path, instrument: Instrument, asked: Asked, events: Collection[str], study: Study | None = None
) -> Iterator[Problem]:
    here = {item.code: item for item in instrument.every_item}
    homes = {item.code: section.code for section in instrument.groups.values() for item in section.items}
    seen: set[str] = set()
    yield from _groups(path, instrument)
    for where, item in _items_of(path, instrument):
        if item.code in seen:
            yield (*where, "code"), f"There are two items “{item.code}” in {instrument.code}. Rename one.", ERROR
        seen.add(item.code)
        yield from _item(where, item, asked, here, study)
        yield from _too_early(where, item, asked, events)
        if homes:
            yield from _other_rows(where, item, homes)
    languages: set[str] = {study.language} if study is not None else set()
    for number, text in enumerate(instrument.texts):
        if text.language in languages:
            words = f"{instrument.code} has words in {text.language} already. Take this file out, or mend the other."
            yield (*path, "texts", number, "language"), words, ERROR
        languages.add(text.language)
        for inside, message, severity in text_problems(instrument, text):
            yield (*path, "texts", number, *inside), message, severity
    for number, section in enumerate(instrument.sections):
        for inside, message, severity in wrong_matrix(section):
            yield (*path, "sections", number, *inside), message, severity


def _groups(path: Path, instrument: Instrument) -> Iterator[Problem]:
    """Whether a section that repeats can: it has a code that nothing else has."""
    codes = {item.code for item in instrument.every_item}
    seen: set[str] = set()
    for position, section in enumerate(instrument.sections):
        where: Path = (*path, "sections", position)
        if not section.repeats:
            for key in ("code", "max_rows"):
                if getattr(section, key) is not None:
                    yield (*where, key), "This section does not repeat. Write `repeats: true`, or take this out.", ERROR
        elif section.code is None:
            yield (*where, "repeats"), "Rows need a name in exports. Give the section a `code:`.", ERROR
        elif section.code in codes | seen:
            yield (*where, "code"), f"There is a “{section.code}” already. Give the section another code.", ERROR
        seen.add(section.code or "")


def _other_rows(path: Path, item: Item, homes: Mapping[str, str | None]) -> Iterator[Problem]:
    """An answer that there may be many of is only counted or summed up."""
    for where, text, _ in _expressions(path, item):
        expression = parsed(text)
        if isinstance(expression, str):
            continue
        for code in sorted(expression.alone):
            if code in homes and homes[code] != homes.get(item.code):
                yield (
                    where,
                    f"[{code}] is asked in each row of {homes[code]}. Write what you mean of all rows, such as "
                    f"sum([{code}]), max([{code}]) or count([{code}]).",
                    ERROR,
                )


def wording_problems(study: Study, code: str, text: InstrumentText) -> Iterator[Problem]:
    """What is wrong with a wording that an installation has for one of the study's instruments."""
    instrument = study.instrument(code)
    if instrument is None:
        yield from _no_instrument((), code, study, ())
        return
    yield from text_problems(instrument, text)
    if not (study.is_allocated and study.blinded):
        return
    guesses = {guess.item for guess in study.blinding_assessment}
    for place, item in enumerate(text.items):
        if item.code not in guesses and names_an_arm(study, " ".join(_words_of(item))):
            yield ("items", place), f"The words of {item.code} name an arm. Take its name out.", ERROR


def _words_of(item: ItemText) -> Iterator[str]:
    yield from filter(None, (item.label, item.hint, item.unit, item.low_label, item.high_label))
    yield from (choice.label for choice in item.choices)
    yield from (check.message for check in item.checks)


def _items_of(path: Path, instrument: Instrument) -> Iterator[tuple[Path, Item]]:
    for section_number, section in enumerate(instrument.sections):
        for item_number, item in enumerate(section.items):
            yield (*path, "sections", section_number, "items", item_number), item


def _expressions(path: Path, item: Item) -> Iterator[tuple[Path, str, str]]:
    """Each expression of an item, with the item's own code when the expression may not name it."""
    if item.calculation is not None:
        yield (*path, "calculation"), item.calculation, item.code
    if item.shown_if is not None:
        yield (*path, "shown_if"), item.shown_if, item.code
    for position, check in enumerate(item.checks):
        yield (*path, "checks", position, "rule"), check.rule, ""


def _item(
    path: Path,
    item: Item,
    asked: Asked,
    here: Mapping[str, Item],
    study: Study | None,
    *,
    only: Collection[str] | None = None,
) -> Iterator[Problem]:
    for inside, message, severity in wrong_item(item, study.missing_codes if study is not None else ()):
        yield (*path, *inside), message, severity
    for where, text, own in _expressions(path, item):
        for message in wrong_with(text, asked, here=here, only=only, own=own):
            yield where, message, ERROR
    if item.type is ItemType.CALCULATED and item.checks:
        yield (
            (*path, "checks"),
            f"{item.code} is calculated and cannot be corrected itself. Put the check at an item that is typed.",
            WARNING,
        )


def _too_early(path: Path, item: Item, asked: Asked, events: Collection[str]) -> Iterator[Problem]:
    """An expression that looks ahead: at every visit of its instrument, the visit it names has not taken place."""
    if not events:
        return
    order = {event: position for position, event in enumerate(asked.order)}
    latest = max(order[event] for event in events)
    for where, text, _ in _expressions(path, item):
        expression = parsed(text)
        if isinstance(expression, str):
            continue
        known = {reference.event for reference in expression.references if found(reference, asked, None) is not None}
        for event in sorted(event for event in known if event is not None and order[event] > latest):
            yield where, f"The visit {event} comes later, so its answers are not known yet here.", WARNING


def _cycles(study: Study, asked: Asked) -> Iterator[Problem]:
    """Items whose value, or being shown, depends on themselves, over however many steps."""
    needs: dict[tuple[str, str], set[tuple[str, str]]] = {}
    paths: dict[str, Path] = {}
    for position, instrument in enumerate(study.instruments):
        here = {item.code: item for item in instrument.every_item}
        events = [event for event in asked.order if _stands_at(study, instrument.code, event)] or [""]
        for path, item in _items_of(("instruments", position), instrument):
            references: set[Reference] = set()
            for where, text, own in _expressions(path, item):
                expression = parsed(text)
                if own and not isinstance(expression, str):
                    paths.setdefault(item.code, where)
                    references |= expression.references
            for event in events:
                needs[(event, item.code)] = set(_needed(references, event, item.code, asked, here))
    while True:
        try:
            tuple(TopologicalSorter(needs).static_order())
            return
        except CycleError as error:
            ring: list[tuple[str, str]] = error.args[1]
        codes = list(dict.fromkeys(code for _, code in reversed(ring)))
        first = min(codes, key=lambda code: str(paths[code]))
        yield (
            paths[first],
            f"{', '.join(sorted(codes))} depend on each other in a circle. Take one of the references out.",
            ERROR,
        )
        for code in codes:
            for node in needs:
                if node[1] == code:
                    needs[node] = set()


def _needed(
    references: Iterable[Reference], event: str, own: str, asked: Asked, here: Mapping[str, Item]
) -> Iterator[tuple[str, str]]:
    for reference in references:
        if reference.instance not in (None, "current-instance"):
            continue  # of another entry, as it stands there

        node = (reference.event or event, reference.field)
        if node != (event, own) and found(reference, asked, here) is not None:
            yield node
