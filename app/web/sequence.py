"""Door of the statistician: draw, judge, seal, read. For everybody else none of these addresses exist."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import func, select
from starlette.datastructures import UploadFile

from app.dependencies import (
    ChangeInStudy,
    Here,
    LoggedPageInStudy,
    PageInStudy,
    require_password,
)
from app.foundation import paging
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.people.access import may
from app.people.permissions import Permission
from app.people.reads import sites_of
from app.randomisation import actions, reads
from app.randomisation.methods import DECIDING, METHODS, SEEDED, TOGETHER
from app.randomisation.methods.cluster import in_lowest_terms, whole_and_rest
from app.randomisation.opening import ALLOCATION, PARTICIPANT, SLOT, STRATUM, open_envelopes
from app.randomisation.predictability import MOST_EXACT, Predictability, exactly, is_high, permuted_blocks
from app.randomisation.reads import GUESSED, ArmOfParticipant, SequenceCounts
from app.randomisation.rules import SiteDrawn, all_strata, batch_by_default, people_expected
from app.studies.definition import Study
from app.web.pages import pages
from app.web.shell import errors_of, show, status_of
from app.web.tables import address, csv_file, kept_as

MOST_SIZES = 6  # with more, every exact probability would take seconds
OPTIONS = tuple(dict.fromkeys(option.name for method in SEEDED for option in METHODS[method].options))
"""The fields of the options of all methods."""
WHY = "List of allocations"


router = pages(hidden_without=Permission.SEQUENCE_DRAW)


async def uploaded(request: Request) -> str | None:
    """The text of the uploaded file, None when none was chosen; Invalid when it is not text."""
    file = (await request.form(max_fields=5000)).get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        return None
    try:
        return (await file.read()).decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""


Uploaded = Annotated[str | None, Depends(uploaded)]


# The sequences of a study


@router.get("/{study}/sequence", name="sequence.sequence")
def sequence(here: PageInStudy) -> Response:
    """Every sequence of the study, in counts."""
    _require(here)
    study = here.the_study
    found = reads.sequences(here.session, study, by=here.actor)
    return show(
        here,
        "sequence/sequence.html",
        url=_url(here),
        sequences=found,
        sealed=[each for each in reversed(found) if each.status == "sealed"],
        behind=_stand_behind(found),
        of_another_plan=reads.of_another_plan(here.session, study, by=here.actor),
        is_allocated=study.definition.is_allocated,
        first_stage=study.definition.allocation.first_stage,
        has_guesses=bool(study.definition.blinding_assessment),
        why_not_draw=_why_not_draw(study.definition),
        deciding=DECIDING,
    )


def _stand_behind(found: Sequence[SequenceCounts]) -> bool:
    """Whether a stratum has slots in several sequences that are in use, one behind the other."""
    codes = [
        (each.stage, stratum.code)
        for each in found
        if each.status == "sealed" and each.method not in DECIDING
        for stratum in each.strata
    ]
    return len({*codes}) < len(codes)


def _require(here: Here, permission: Permission = Permission.SEQUENCE_DRAW) -> None:
    if not may(here.actor, permission):
        raise NotFound


def _require_drawing(here: Here) -> None:
    """Who may draw, and in a study that allocates: one that only observes has no page to draw on."""
    _require(here)
    if not here.the_study.definition.is_allocated:
        raise NotFound


def _url(here: Here) -> str:
    return f"/{here.the_study.code}/sequence"


def _why_not_draw(definition: Study) -> str | None:
    """Why no sequence can be drawn here, or None: a plan that needs another method brings its finished list."""
    method = definition.allocation.method
    if not definition.is_allocated:
        return None
    if method == "list":
        return "The protocol of this study says that its list is made elsewhere. Upload the finished list."
    if method in DECIDING and not definition.allocation.strata:
        return "The protocol of this study names no factors to balance. Load an amended version, or upload a list."
    return METHODS[method].why_not_arms([(arm.code, arm.ratio) for arm in definition.arms])


# Drawing one


@dataclass(frozen=True)
class Scheme:
    """One choice of a method's options, and what follows from it for a guesser and for balance."""

    label: str
    correct: float
    certain: float
    ahead: int | None
    """People by which one arm of a stratum may be ahead of what its share asks for; None when there is no limit."""
    chosen: bool
    high: bool
    """Whether the next arm is guessed so often that a statistician is to be warned (RND-15)."""


def listed(sizes: Sequence[object]) -> str:
    """`4`, `4 and 6`, `4, 6 and 8`; nothing of nothing."""
    words = [str(size) for size in sizes]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


@router.get("/{study}/sequence/draw", name="sequence.draw_form")
def draw_form(here: PageInStudy) -> Response:
    """The options of the study's method beside their alternatives, before anything is drawn."""
    _require_drawing(here)
    return _draw_page(here, {"slots_per_stratum": "" if _is_first(here) else usual_slots(here)})


@router.post("/{study}/sequence/draw", name="sequence.draw")
def draw(here: ChangeInStudy) -> Response:
    """Compare the chosen options, or draw a sequence with them."""
    _require_drawing(here)
    definition = _definition(here)
    method = definition.allocation.method
    typed = {name: here.value(name) for name in (*OPTIONS, "slots_per_stratum")}
    comparing = here.value("step") == "compare"
    try:
        options = typed_options(definition, method, typed)
        if comparing:
            here.release_key()
            here.shows()
            return _draw_page(here, typed, chosen=options)
        made = actions.draw(
            here.session,
            here.the_study,
            method=method,
            options=options,
            slots_per_stratum=None
            if method in DECIDING
            else typed_number("slots_per_stratum", typed["slots_per_stratum"]),
            sites=_ticked(here),
            first_stage=_is_first(here),
            further=_is_further(here),
            by=here.actor,
            now=here.now,
        )
    except Invalid as problem:
        here.refuse(problem)
        return _draw_page(here, typed, problem=problem)
    return here.redirect(f"{_url(here)}/{made.version}", done="drawn")


@router.get("/{study}/sequence/upload", name="sequence.upload_form")
def upload_form(here: PageInStudy) -> Response:
    """A list that was made elsewhere."""
    _require_drawing(here)
    return _upload_page(here, "")


@router.post("/{study}/sequence/upload", name="sequence.upload")
def upload(here: ChangeInStudy, file: Uploaded) -> Response:
    """Take a finished list, whole or not at all."""
    _require_drawing(here)
    pasted = here.form.get("listing", [""])[-1]
    try:
        if file is not None and pasted.strip():
            raise Invalid([FieldProblem("listing", "both", "There is a file and a pasted list. Take one of them out.")])
        if file is None and not pasted.strip():
            raise Invalid([FieldProblem("listing", "required", "Choose a file, or paste the list.")])
        if file == "":
            raise Invalid(
                [FieldProblem("file", "text", "This file is not text in UTF-8. Save it as CSV and try again.")]
            )
        made = actions.draw(
            here.session,
            here.the_study,
            method="list",
            listing=pasted if file is None else file,
            sites=_ticked(here),
            first_stage=_is_first(here),
            further=_is_further(here),
            by=here.actor,
            now=here.now,
        )
    except Invalid as problem:
        here.refuse(problem)
        return _upload_page(here, pasted, problem=problem)
    return here.redirect(f"{_url(here)}/{made.version}", done="drawn")


def _is_first(here: Here) -> bool:
    """Whether the page is of the first stage: its address, or its form, says so."""
    asked = here.value("stage") if here.request.method == "POST" else here.request.query_params.get("stage", "")
    stage = here.the_study.definition.allocation.first_stage
    if asked and (stage is None or asked != stage.code):
        raise NotFound
    return bool(asked)


def _is_further(here: Here) -> bool:
    """Whether the page is of slots that stand behind those in use: its address, or its form, says so."""
    said = here.value("further") if here.request.method == "POST" else here.request.query_params.get("further")
    return said == "yes"


def _definition(here: Here) -> Study:
    """The study, or what its first stage sees of it."""
    definition = here.the_study.definition
    return definition.as_first_stage() if _is_first(here) else definition


@dataclass(frozen=True)
class Batch:
    """Where sites are randomised: which can be drawn now, which of them are ticked, and which have their arm.

    Of further slots: those that have their arm, and get some of the same.
    """

    open: list[tuple[str, str]]
    ticked: tuple[str, ...]
    had: list[SiteDrawn]


def _ticked(here: Here) -> list[str] | None:
    """The sites that somebody ticked; None in a study whose people are randomised."""
    return list(here.form.get("sites", [])) if here.the_study.definition.is_clustered else None


def _batch(here: Here) -> Batch | None:
    """The sites that are drawn together: as ticked, or all that have no arm; None in a study of other methods."""
    if not here.the_study.definition.is_clustered:
        return None
    sites = reads.sites_drawn(here.session, here.the_study, by=here.actor)
    further = _is_further(here)
    free = [(site.code, f"{site.name} ({site.code})") for site in sites if site.is_final is further]
    usual = tuple(code for code, _ in free) if further else batch_by_default(sites)
    ticked = tuple(here.form.get("sites", [])) if here.request.method == "POST" else usual
    return Batch(free, ticked, [] if further else [site for site in sites if site.is_final])


def _in_use(here: Here) -> SequenceCounts | None:
    """The sealed sequence from which somebody was randomised already: no other takes its place any more.

    None where sites are randomised: there another is sealed beside it, of other sites.
    """
    if here.the_study.definition.is_clustered:
        return None
    stage = here.the_study.definition.allocation.first_stage
    asked = stage.code if stage and _is_first(here) else None
    found = reads.sequences(here.session, here.the_study, by=here.actor)
    return next((each for each in found if each.status == "sealed" and each.used and each.stage == asked), None)


def strata_of(here: Here, definition: Study | None = None) -> tuple[str, ...]:
    sites = [site.code for site in sites_of(here.session, here.the_study.id)]
    return all_strata(definition or here.the_study.definition, sites)


def usual_slots(here: Here) -> str:
    """As many slots as participants are planned, where there is one stratum; otherwise the statistician says.

    Where sites are randomised every site gets as many: all of a site's slots are of one arm.
    """
    if here.the_study.definition.is_clustered:
        return str(here.the_study.definition.target)
    return str(here.the_study.definition.target) if len(strata_of(here)) == 1 else ""


def typed_options(definition: Study, method: str, typed: Mapping[str, str]) -> dict[str, object]:
    """What was typed for the options of a method; Invalid says which of them cannot be read, or are none of its own."""
    found: dict[str, object] = {}
    for option in METHODS[method].options if method in SEEDED else ():
        text = typed.get(option.name, "").strip()
        if not text and option.default is not None:
            found[option.name] = list(option.default) if isinstance(option.default, tuple) else option.default
        elif option.name == "block_sizes":
            found[option.name] = list(_typed_sizes(definition, text))
        elif option.kind == "wholes":
            found[option.name] = [typed_number(option.name, part) for part in re.split(r"[\s,;]+", text)]
        elif option.kind == "whole":
            found[option.name] = typed_number(option.name, text)
        else:
            found[option.name] = "".join(text.split())
    return found


def _typed_sizes(definition: Study, text: str) -> tuple[int, ...]:
    parts = [part for part in re.split(r"[\s,;]+|\band\b", text) if part]
    total = sum(arm.ratio for arm in definition.arms)
    if not parts or not all(part.isascii() and part.isdecimal() and len(part) < 5 for part in parts):
        example = f"{2 * total}, {3 * total}"  # with commas, as it is asked for
        words = f"Write block sizes as whole numbers with commas between them, such as {example}."
        raise Invalid([FieldProblem("block_sizes", "sizes", words)])
    sizes = tuple(sorted({int(part) for part in parts}))
    if any(size < 1 or size % total for size in sizes):
        words = f"Every block size must be a multiple of {total}, so that a block holds the ratio."
        raise Invalid([FieldProblem("block_sizes", "multiple", words)])
    return sizes


DIGITS = {
    "slots": "Write the number of slots in digits, such as 4.",
    "slip": "Choose one of the slips.",
    "slots_per_stratum": "Write the number of slots in digits, such as 40.",
    "people": "Write the number of people in digits, such as 276.",
    "strata": "Write the number of strata in digits, such as 1.",
    "tolerance": "Write the imbalance that is tolerated in digits, such as 3.",
    "alpha": "Write the number of balls at first in digits, such as 0.",
    "beta": "Write the number of balls added in digits, such as 1.",
    "weights": "Write one whole number for each factor, with commas between them, such as 2, 1, 1.",
    "size_weight": "Write the weight in digits, such as 1.",
    "most_apart": "Write the number of people in digits, such as 3.",
}


def typed_number(name: str, text: str) -> int:
    """The whole number in a field; Invalid says how to write it."""
    if not (text.isascii() and text.isdecimal() and len(text) < 9):
        raise Invalid([FieldProblem(name, "integer", DIGITS[name])])
    return int(text)


def described(options: Mapping[str, object]) -> str:
    """The options of a method in few words: `4 and 6`, `3`, `0 and 1`, `2/3`; nothing for a method that has none."""
    if "measure" in options:  # the others of minimisation stand in its form
        return f"{options['measure']}, {options['probability']}".replace("_", " ")
    values = [value if isinstance(value, list | tuple) else [value] for value in options.values()]
    return listed([each for value in values for each in value])


@lru_cache(maxsize=256)
def _guess(shares: tuple[int, ...], sizes: tuple[int, ...]) -> Predictability:
    return permuted_blocks(shares, sizes, GUESSED)


@lru_cache(maxsize=256)
def _guess_exactly(
    method: str,
    shares: tuple[int, ...],
    options: tuple[tuple[str, Any], ...],
    length: int,
    allocations: int,
    strata: int,
) -> Predictability | None:
    return exactly(method, shares, dict(options), length, allocations, strata=strata)


def usual_options(definition: Study, method: str) -> list[dict[str, object]]:
    """What a method is usually told, for this ratio; the third of several is a middling one."""
    total = sum(arm.ratio for arm in definition.arms)
    match method:
        case "permuted_blocks":
            times = ((2,), (3,), (4,), (2, 3), (2, 3, 4))
            return [{"block_sizes": [total * each for each in some]} for some in times]
        case "big_stick" | "maximal_procedure":
            return [{"tolerance": tolerance} for tolerance in (2, 3, 4, 5)]
        case "wei_urn":
            return [{"alpha": alpha, "beta": beta} for alpha, beta in ((0, 1), (1, 1), (1, 3))]
        case "biased_coin":
            return [{"probability": probability} for probability in ("3/5", "2/3", "3/4")]
        case "minimisation":
            rest = {option.name: option.default for option in METHODS[method].options if option.default is not None}
            usual = {**rest, "weights": [], "measure": "range"}
            return [{**usual, "probability": probability} for probability in ("7/10", "4/5", "9/10")]
    return [{}]


def _scheme(
    definition: Study, options: Mapping[str, object], length: int, strata: int, *, chosen: bool
) -> Scheme | None:
    method = definition.allocation.method
    if method in DECIDING:
        return None  # how well it is guessed depends on who comes: it is simulated
    shares = tuple(arm.ratio for arm in definition.arms)
    sizes = options.get("block_sizes")
    ahead: int | None = None
    guess: Predictability | None
    if isinstance(sizes, list):
        guess = _guess(shares, tuple(sizes))
        ahead = max(shares) * max(sizes) // sum(shares)
    else:
        key = tuple((name, value) for name, value in options.items())
        guess = _guess_exactly(method, shares, key, length, _averaged_over(definition, length), strata)
        tolerance = options.get("tolerance")
        ahead = tolerance if isinstance(tolerance, int) else None
    if guess is None:
        return None
    high = is_high(guess, shares, blinded=definition.blinded)
    return Scheme(described(options), float(100 * guess.correct), float(100 * guess.certain), ahead, chosen, high)


def _averaged_over(definition: Study, length: int) -> int:
    """Allocations over which guesses are averaged: a few, or the whole list where its end differs from its start.

    Where sites are randomised, as many as each is planned to have: a longer list is more of the same arm.
    """
    method = definition.allocation.method
    if method in TOGETHER:
        return min(people_expected(definition), length)
    ends = method in ("maximal_procedure", "truncated_binomial")
    return min(MOST_EXACT, length) if ends else min(GUESSED, length)


def _schemes(definition: Study, chosen: dict[str, object] | None, length: int, strata: int) -> list[Scheme]:
    """The usual choices for this ratio, and the one that was typed, the best guessed first."""
    usual = usual_options(definition, definition.allocation.method)
    wanted = usual if chosen is None or chosen in usual else [*usual, chosen]
    found = [_scheme(definition, each, length, strata, chosen=each == chosen) for each in wanted]
    schemes = [scheme for scheme in found if scheme is not None]
    return sorted(schemes, key=lambda scheme: (-scheme.certain, -scheme.correct, scheme.label))


def _draw_page(
    here: Here, typed: dict[str, str], *, chosen: dict[str, object] | None = None, problem: Invalid | None = None
) -> Response:
    definition = _definition(here)
    method = definition.allocation.method
    shares = [arm.ratio for arm in definition.arms]
    batch = _batch(here)
    strata = batch.ticked if batch else strata_of(here, definition)
    why_not = _why_not_draw(definition)
    sizes = (chosen or {}).get("block_sizes")
    too_many = isinstance(sizes, list) and len(sizes) > MOST_SIZES
    length = _length(definition, typed.get("slots_per_stratum", ""), max(1, len(strata)))
    if chosen is not None and problem is None and why_not is None:
        wrong = problems_of(definition, method, chosen, length)
        problem = Invalid(wrong) if wrong else None
    problems = [(each.field, each.message) for each in problem.problems] if problem else []
    nothing = why_not or not strata
    schemes = [] if nothing else _schemes(definition, None if too_many or problems else chosen, length, len(strata))
    return show(
        here,
        "sequence/draw.html",
        status_code=422 if problem else 200,
        url=_url(here),
        in_use=_in_use(here),
        stage=here.the_study.definition.allocation.first_stage if _is_first(here) else None,
        further=_is_further(here),
        batch=batch,
        typed=typed,
        problems=problems,
        errors=dict(problems),
        method=method,
        deciding=method in DECIDING,
        options=[option.name for option in METHODS[method].options] if method in METHODS else [],
        arms=definition.arms,
        ratio=":".join(map(str, shares)),
        total=sum(shares),
        strata=strata,
        factors=[factor.label for factor in definition.allocation.strata],
        target=definition.target,
        schemes=schemes,
        too_many=too_many,
        by_chance=100 * max(shares) / sum(shares),
        why_not=why_not,
        blinded=definition.blinded,
        allocations=GUESSED if method == "permuted_blocks" else _averaged_over(definition, length),
    )


def problems_of(definition: Study, method: str, options: Mapping[str, object], length: int) -> list[FieldProblem]:
    """What is wrong with options that could be read, each at its field."""
    arms = [(arm.code, arm.ratio) for arm in definition.arms]
    factors = [factor.code for factor in definition.allocation.strata] if method in DECIDING else []
    return actions.wrong_with_plan(method, arms, ("all",), length, options, factors)


def _length(definition: Study, text: str, strata: int) -> int:
    """Slots of a stratum's list to reckon with: as typed, or as many as a stratum expects."""
    if text.isascii() and text.isdecimal() and 0 < len(text) < 6 and int(text):
        return int(text)
    return -(-definition.target // strata)


def _upload_page(here: Here, pasted: str, *, problem: Invalid | None = None) -> Response:
    definition = _definition(here)
    problems = [(each.field, each.message) for each in problem.problems] if problem else []
    batch = _batch(here)
    strata = tuple(code for code, _ in batch.open) if batch else strata_of(here, definition)
    arms = [arm.code for arm in definition.arms]
    example = [(strata[0], place, arm) for place, arm in enumerate((arms * 2)[:3], start=1)] if strata else []
    if batch:  # everybody of a site is in one arm
        example = [(site, place, arm) for site, arm in zip(strata[:2], arms, strict=False) for place in (1, 2)]
    return show(
        here,
        "sequence/upload.html",
        status_code=422 if problem else 200,
        url=_url(here),
        in_use=_in_use(here),
        stage=here.the_study.definition.allocation.first_stage if _is_first(here) else None,
        further=_is_further(here),
        batch=batch,
        pasted=pasted,
        problems=problems,
        errors={field: " ".join(words for name, words in problems if name == field) for field, _ in problems},
        arms=definition.arms,
        strata=strata,
        example=example,
    )


# The arms of those who are randomised


@router.get("/{study}/sequence/allocations", name="sequence.allocations")
def allocations(here: LoggedPageInStudy) -> Response:
    """One page of allocations with their arms; each envelope that is opened for it is in the log."""
    _require(here, Permission.ALLOCATIONS_EXPORT)
    path, found = f"{_url(here)}/allocations", _allocations_page(here, here.request.query_params.get("after"))
    definition = here.the_study.definition
    return show(
        here,
        "sequence/allocations.html",
        url=_url(here),
        rows=found.rows,
        labels={arm.code: arm.label for arm in definition.arms},
        newer=address(path, {}, after=found.previous) if found.previous else None,
        older=address(path, {}, after=found.next) if found.next else None,
        csv_url=f"{path}.csv" if found.rows else None,
    )


@router.get("/{study}/sequence/allocations.csv", name="sequence.allocations_file")
def allocations_file(here: LoggedPageInStudy) -> Response:
    """Every allocation with its arm as a file; the openings are in the log before its first line leaves."""
    _require(here, Permission.ALLOCATIONS_EXPORT)
    rows = list(reads.allocations(here.session, here.the_study, by=here.actor, why="File of allocations", now=here.now))
    heading = ("allocation", "participant", "stratum", "arm", "allocated_at", "allocated_by")
    name = f"{here.the_study.code}-allocations-{here.now:%Y-%m-%d}"
    return csv_file(
        name,
        heading,
        (
            (row.number, row.participant, row.stratum, row.arm, row.allocated_at.isoformat(), row.allocated_by)
            for row in rows
        ),
    )


def _allocations_page(here: Here, cursor: str | None) -> paging.Page[ArmOfParticipant]:
    """Allocations by number; only the envelopes of this page are opened."""
    query = (
        select(
            ALLOCATION.c.number,
            ALLOCATION.c.participant_id,
            ALLOCATION.c.allocated_at,
            ALLOCATION.c.allocated_by,
            PARTICIPANT.c.code,
            func.coalesce(SLOT.c.levels, STRATUM.c.code).label("stratum"),
        )
        .join(PARTICIPANT, PARTICIPANT.c.id == ALLOCATION.c.participant_id)
        .join(STRATUM, STRATUM.c.id == ALLOCATION.c.stratum_id)
        .join(SLOT, SLOT.c.id == ALLOCATION.c.slot_id)
        .where(ALLOCATION.c.study_id == here.the_study.id)
    )
    backwards = False
    if cursor:
        (number,), backwards = paging.decode(cursor, 1)
        if not isinstance(number, int) or abs(number) >= 2**31:
            raise NotFound
        query = query.where(ALLOCATION.c.number < number if backwards else ALLOCATION.c.number > number)
    order = ALLOCATION.c.number.desc() if backwards else ALLOCATION.c.number.asc()
    found = here.session.execute(query.order_by(order).limit(paging.PAGE + 1)).all()
    page = paging.page_of(found, paging.PAGE, lambda row: (row.number,), cursor=cursor, backwards=backwards)
    if not page.rows:
        return paging.Page([])
    ids = [row.participant_id for row in page.rows]
    arms = open_envelopes(here.session, here.the_study, ids, by=here.actor, why=WHY, now=here.now)
    return page.made(
        lambda row: ArmOfParticipant(
            row.number, row.code, row.stratum, row.allocated_at, row.allocated_by, arms[row.participant_id]
        )
    )


# One sequence: its counts, sealing it, setting it aside


@router.get("/{study}/sequence/{version}", name="sequence.review")
def review(here: PageInStudy, version: int) -> Response:
    """One sequence in counts only; nobody sees its order."""
    _require(here)
    return _review_page(here, version)


@router.get("/{study}/sequence/{version}/script.py", name="sequence.script_python")
def script_python(here: LoggedPageInStudy, version: int) -> Response:
    """A program in Python that draws a permuted-block sequence again from its seed; taking it is in the log."""
    return _script(here, version, "python")


@router.get("/{study}/sequence/{version}/script.R", name="sequence.script_r")
def script_r(here: LoggedPageInStudy, version: int) -> Response:
    """The same program in R."""
    return _script(here, version, "r")


def _script(here: Here, version: int, language: Literal["python", "r"]) -> Response:
    _require(here)
    found = _sequence(here, version)
    text = actions.take_script(here.session, here.the_study, found.id, language=language, by=here.actor, now=here.now)
    name = f"{here.the_study.code}-sequence-{version}.{'py' if language == 'python' else 'R'}"
    return Response(text, media_type="text/plain; charset=utf-8", headers=kept_as(name))


@router.get("/{study}/sequence/{version}/seal", name="sequence.seal_form")
@router.get("/{study}/sequence/{version}/set-aside", name="sequence.set_aside_form")
def back_to_the_review(here: PageInStudy, version: int) -> Response:
    """Where somebody lands who goes on without sending a form again: its page."""
    _require(here)
    return RedirectResponse(f"{_url(here)}/{version}", status_code=303)


@router.post("/{study}/sequence/{version}/seal", name="sequence.seal")
def seal(here: ChangeInStudy, version: int) -> Response:
    """Put a drawn sequence in use: from now on participants are randomised from it."""
    _require(here, Permission.SEQUENCE_SEAL)
    found = _sequence(here, version)
    try:
        require_password(here, here.form.get("password", [""])[-1])
        further = reads.balance(here.session, here.the_study, found.id, by=here.actor).further
        actions.seal(here.session, here.the_study, found.id, by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _review_page(here, version, problem=problem)
    return here.redirect(f"{_url(here)}/{version}", done="sealed_behind" if further else "sealed")


@router.post("/{study}/sequence/{version}/set-aside", name="sequence.set_aside")
def set_aside(here: ChangeInStudy, version: int) -> Response:
    """Set a drawn sequence aside; it is kept and never used."""
    _require(here)
    found = _sequence(here, version)
    try:
        actions.discard_draw(here.session, here.the_study, found.id, why=here.value("why"), by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _review_page(here, version, problem=problem)
    return here.redirect(_url(here), done="discarded")


def _sequence(here: Here, version: int) -> SequenceCounts:
    return reads.sequence_of_version(here.session, here.the_study, version, by=here.actor)


def _review_page(here: Here, version: int, *, problem: Invalid | Refused | None = None) -> Response:
    found = _sequence(here, version)
    definition = here.the_study.definition.as_first_stage() if found.stage else here.the_study.definition
    balance = reads.balance(here.session, here.the_study, found.id, by=here.actor)
    planned = {arm.code: arm for arm in definition.arms}
    arms: list[dict[str, Any]] = [
        {"label": planned[code].label if code in planned else code, "slots": slots}
        for code, slots in balance.slots_per_arm.items()
    ]
    shares = [arm.ratio for arm in definition.arms]
    others = [
        each
        for each in reads.sequences(here.session, here.the_study, by=here.actor)
        if each.status == "sealed" and each.id != found.id and each.stage == found.stage
    ]
    clustered, sites = definition.is_clustered, {stratum.code for stratum in found.strata}
    whole, rest = whole_and_rest(shares, len(sites)) if sites else (0, 0)
    promised = zip(definition.arms, in_lowest_terms(shares), strict=True)
    return show(
        here,
        "sequence/review.html",
        status_code=status_of(problem),
        url=_url(here),
        found=found,
        deciding=found.method in DECIDING,
        arms=arms,
        correct=float(100 * balance.correct) if balance.correct is not None else None,
        certain=float(100 * balance.certain) if balance.certain is not None else None,
        by_chance=100 * max(shares) / sum(shares),
        allocations=balance.guessed,
        further=balance.further,
        # A list of other sites stays in use beside it, and one that it stands behind in front of it.
        replaces=None
        if balance.further
        else next(
            (each for each in others if not clustered or sites & {stratum.code for stratum in each.strata}), None
        ),
        clustered=clustered,
        sites_per_arm=[(arm.label, whole * share) for arm, share in promised]
        if found.method in TOGETHER and not balance.further
        else [],
        sites_left_over=rest,
        refused=problem.reason if isinstance(problem, Refused) else None,
        errors=errors_of(problem),
        why=here.value("why"),
    )
