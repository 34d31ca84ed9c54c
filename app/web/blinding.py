"""Door of the statistician: how well the arm was guessed, once the trial is over. Unknown to all others."""

from dataclasses import dataclass

from fastapi.responses import Response

from app.dependencies import Here, LoggedPageInStudy
from app.foundation.errors import NotFound
from app.foundation.languages import Gettext, translations
from app.people.access import may
from app.people.permissions import Permission
from app.printing import Record, Row, record_pdf
from app.randomisation.blinding import actions, reads
from app.randomisation.blinding.rules import ArmGuessed, Assessed, Estimate
from app.studies.definition import Study
from app.web.pages import pages
from app.web.shell import show
from app.web.tables import kept_as

router = pages(hidden_without=Permission.ALLOCATIONS_EXPORT)


@dataclass(frozen=True)
class Index:
    """One line of indices: which, of whom, and its estimate; None when it is not defined."""

    name: str
    about: str
    estimate: Estimate | None


@dataclass(frozen=True)
class Shown:
    """One guess as the page shows it."""

    label: str
    answers: list[str]
    arms: list[tuple[str, ArmGuessed]]
    indices: list[Index]
    randomised: int
    answered: int
    two_answers: bool

    @property
    def few(self) -> bool:
        return any(index.estimate is not None and index.estimate.is_of_few for index in self.indices)


@router.get("/{study}/sequence/blinding", name="blinding.report")
def report(here: LoggedPageInStudy) -> Response:
    """The closed report on the blind, or why it is not there yet; every envelope it opens is in the log."""
    _require(here)
    reason = reads.why_no_report(here.session, here.the_study, by=here.actor, now=here.now)
    return show(
        here,
        "blinding/report.html",
        url=f"/{here.the_study.code}/sequence",
        reason=reason,
        guesses=[] if reason else _shown(here),
    )


@router.get("/{study}/sequence/blinding.pdf", name="blinding.report_pdf")
def report_pdf(here: LoggedPageInStudy) -> Response:
    """The same to file with the closed documents."""
    _require(here)
    study = here.the_study
    gettext = translations(here.language).gettext
    rows: list[Row] = []
    for shown in _shown(here):
        of = gettext("{answered} of {randomised} answered").format(answered=shown.answered, randomised=shown.randomised)
        rows.append((shown.label, of, "text"))
        for label, arm in shown.arms:
            counts = [*zip(shown.answers, arm.answers, strict=True), (gettext("do not know"), arm.unknown)]
            counts.append((gettext("no answer"), arm.randomised - arm.answered))
            rows.append((label, "; ".join(f"{words}: {count}" for words, count in counts), "text"))
        rows += [(f"{index.name}, {index.about}", _said(index.estimate, gettext), "text") for index in shown.indices]
    record = Record(
        title=gettext("Closed report on the blind"),
        subtitle=study.definition.title,
        intro=[
            gettext("Unblinded: for the closed session and the statistician's file, and for nobody who is blinded.")
        ],
        rows=rows,
        notes=_notes(gettext),
        footer=f"{study.code} · {here.now:%Y-%m-%d} · {here.actor.username}",
    )
    body = record_pdf(record, at=here.now, language=here.language)
    name = f"{study.code}-blinding-{here.now:%Y-%m-%d}.pdf"
    return Response(body, media_type="application/pdf", headers=kept_as(name))


def _require(here: Here) -> None:
    if not may(here.actor, Permission.ALLOCATIONS_EXPORT) or not here.the_study.definition.is_allocated:
        raise NotFound


def _shown(here: Here) -> list[Shown]:
    definition = here.the_study.definition
    gettext = translations(here.language).gettext
    found = actions.open_report(here.session, here.the_study, by=here.actor, now=here.now)
    return [_guess(definition, each, gettext) for each in found]


def _guess(definition: Study, found: Assessed, gettext: Gettext) -> Shown:
    asked = definition.asked_at(found.guess.visit, found.guess.item)
    labels = {choice.code: choice.label for choice in asked[1].choices} if asked else {}
    arms = [(arm.label if (arm := definition.arm(each.arm)) else each.arm, each) for each in found.arms]
    indices = [Index(gettext("James' index"), gettext("everybody"), found.james)]
    two = len(found.guess.answers) == 2
    if two:
        indices += [Index(gettext("Bang's index"), label, each.bang) for label, each in arms]
    if two and found.guess.confidence is not None:
        name = gettext("Bang's index by certainty")
        indices += [Index(name, label, each.bang_by_certainty) for label, each in arms]
    return Shown(
        label=found.guess.label,
        answers=[labels.get(answer.choice, answer.choice) for answer in found.guess.answers],
        arms=arms,
        indices=indices,
        randomised=found.randomised,
        answered=found.answered,
        two_answers=two,
    )


def _said(estimate: Estimate | None, gettext: Gettext) -> str:
    if estimate is None:
        return gettext("cannot be computed from these answers")
    words = gettext("{value}, no interval as all answered alike, n = {n}")
    if estimate.has_interval:
        words = gettext("{value}, 95 per cent interval {low} to {high}, n = {n}")
    figures = {name: f"{getattr(estimate, name):.2f}" for name in ("value", "low", "high")}
    return words.format(**figures, n=estimate.n)


def _notes(gettext: Gettext) -> list[str]:
    return [
        gettext(
            "James' index: 1 when nobody knows, 0.5 as by chance, 0 when all are right. Weights: 0 for a right guess, "
            "1/2 for a wrong one, 1 for do not know (James and others 1996)."
        ),
        gettext(
            "Bang's index of an arm: 1 when all are right, 0 as by chance, -1 when all are wrong; do not know is 0. "
            "By certainty, a guess that is less sure counts half (Bang, Ni and Davis 2004)."
        ),
        gettext(
            "Intervals are two-sided, from the normal distribution: of fewer than 30 people they are too narrow. Who "
            "gave no answer is not counted."
        ),
    ]
