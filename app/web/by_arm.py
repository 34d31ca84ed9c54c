"""Door of the statistician: the flow of participants by arm, and who is analysed. Unknown to all others."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fastapi.responses import Response

from app.dependencies import Here, LoggedPageInStudy
from app.foundation.errors import NotFound
from app.foundation.languages import Gettext, translations
from app.people.access import may
from app.people.permissions import Permission
from app.printing import Record, Row, record_pdf
from app.rendering import decimal
from app.studies.definition import Study
from app.treatment.flow.actions import FlowByArm, open_flow
from app.treatment.flow.rules import Analysis, ArmFlow, Reason, Seen, Why
from app.web.pages import pages
from app.web.shell import show
from app.web.tables import csv_file, kept_as

router = pages(hidden_without=Permission.ALLOCATIONS_EXPORT)
HEADING = ("arm", "step", "of", "reason", "number")


@dataclass(frozen=True)
class Box:
    """A box of the diagram: how many go on, and in lines who does not; a line below another is set in."""

    title: str
    number: int
    lines: tuple[tuple[str, int, bool], ...] = ()


@dataclass(frozen=True)
class Column:
    """One arm of the diagram, from its allocation down to its analysis."""

    label: str
    boxes: tuple[Box, ...]


@router.get("/{study}/sequence/flow", name="by_arm.flow")
def flow(here: LoggedPageInStudy) -> Response:
    """The flow of participants by arm; every envelope it opens is in the log."""
    found = _opened(here)
    say = _Said(here)
    definition = here.the_study.definition
    columns = [_column(definition, arm, say) for arm in found.arms]
    return show(
        here,
        "by_arm/flow.html",
        url=f"/{here.the_study.code}/sequence",
        found=found,
        columns=columns,
        everybody=sum(arm.allocated for arm in found.arms),
        is_allocated=definition.is_allocated,
        is_clustered=definition.is_clustered,
        first_stage=definition.allocation.first_stage,
        say=say,
        visits=[
            (arm, visit)
            for visits in zip(*(arm.visits for arm in found.arms), strict=True)
            for arm, visit in zip(found.arms, visits, strict=True)
        ],
        analyses=list(zip(*(arm.analyses for arm in found.arms), strict=True)),
    )


@router.get("/{study}/sequence/flow.csv", name="by_arm.flow_file")
def flow_file(here: LoggedPageInStudy) -> Response:
    """Every number of it as a file; reasons by their codes."""
    found = _opened(here)
    return csv_file(_name(here), HEADING, _lines(found))


@router.get("/{study}/sequence/flow.pdf", name="by_arm.flow_pdf")
def flow_pdf(here: LoggedPageInStudy) -> Response:
    """The same to file with the closed documents."""
    found, say, study = _opened(here), _Said(here), here.the_study
    gettext = say.gettext
    rows: list[Row] = []
    columns = [_column(study.definition, arm, say) for arm in found.arms]
    for boxes in zip(*(column.boxes for column in columns), strict=True):
        told = [f"{column.label}: {_told(box, say)}" for column, box in zip(columns, boxes, strict=True)]
        rows.append((boxes[0].title, "\n".join(told), "text"))
    for analyses in zip(*(arm.analyses for arm in found.arms), strict=True):
        if analyses[0].outcome.kind != "primary":
            told = [f"{say.arm(arm)}: {_analysed(each, say)}" for arm, each in zip(found.arms, analyses, strict=True)]
            rows.append((analyses[0].outcome.label, "\n".join(told), "text"))
    for group in found.groups:
        words = gettext("{number} in the group, of whom {on} have an arm")
        rows.append((group.label, words.format(number=say.n(group.allocated), on=say.n(group.went_on)), "text"))
    record = Record(
        title=gettext("Flow by arm"),
        subtitle=study.definition.title,
        intro=[
            gettext("Unblinded: for the closed session and the statistician's file, and for nobody who is blinded."),
            *([] if found.is_locked is None else [say.stands(found.is_locked)]),
        ],
        rows=rows,
        notes=say.notes(),
        footer=f"{study.code} · {here.now:%Y-%m-%d} · {here.actor.username}",
    )
    body = record_pdf(record, at=here.now, language=here.language)
    return Response(body, media_type="application/pdf", headers=kept_as(f"{_name(here)}.pdf"))


def _opened(here: Here) -> FlowByArm:
    if not may(here.actor, Permission.ALLOCATIONS_EXPORT):
        raise NotFound
    return open_flow(here.session, here.the_study, by=here.actor, now=here.now)


def _name(here: Here) -> str:
    return f"{here.the_study.code}-flow-by-arm-{here.now:%Y-%m-%d}"


# The diagram


def _column(definition: Study, arm: ArmFlow, say: "_Said") -> Column:
    gettext = say.gettext
    of_all = [(gettext("randomised in error, and counted"), arm.in_error, False)]
    if definition.is_clustered:
        of_all.append((gettext("sites they are at"), arm.sites, False))
    first = gettext("Allocated") if definition.is_allocated else gettext("Enrolled")
    boxes = [_box(first, arm.allocated, of_all)]
    lines = [
        (gettext("did not receive it"), arm.not_received, False),
        *_set_in(arm.not_received_reasons, say),
        (gettext("nothing recorded yet"), arm.pending, False),
        (gettext("not known: no sessions are recorded for it"), arm.not_known, False),
        (gettext("received it, and stopped before its end"), arm.stopped, False),
        *_set_in(arm.stopped_reasons, say),
    ]
    boxes.append(_box(gettext("Received the treatment"), arm.received, lines))
    for visit in arm.visits:
        others = [(say.seen[seen], number, False) for seen, number in visit.numbers.items() if seen in say.seen]
        boxes.append(_box(f"{visit.label}: {gettext('followed up')}", visit.numbers[Seen.FOLLOWED], others))
    for each in arm.primary:
        left = [(gettext("excluded"), each.excluded, False), *_set_in(each.reasons, say)]
        boxes.append(_box(f"{gettext('Analysed')}: {each.outcome.label}", each.analysed, left))
    return Column(say.arm(arm), tuple(boxes))


def _box(title: str, number: int, lines: Iterable[tuple[str, int, bool]]) -> Box:
    return Box(title, number, tuple(line for line in lines if line[1]))


def _set_in(reasons: Iterable[Reason], say: "_Said") -> list[tuple[str, int, bool]]:
    return [(say.why(reason), reason.number, True) for reason in reasons]


def _told(box: Box, say: "_Said") -> str:
    """A box in one line: what is set in stands in brackets behind what it belongs to."""
    parts: list[list[str]] = []
    for words, number, set_in in box.lines:
        if set_in:
            parts[-1].append(f"{words} {say.n(number)}")
        else:
            parts.append([f"{words} {say.n(number)}"])
    lines = [f"{first} ({'; '.join(more)})" if more else first for first, *more in parts]
    return f"{say.n(box.number)}. {'; '.join(lines)}" if lines else say.n(box.number)


def _analysed(each: Analysis, say: "_Said") -> str:
    words = say.gettext("{analysed} analysed of {available} available; {excluded} excluded")
    told = words.format(analysed=say.n(each.analysed), available=say.n(each.available), excluded=say.n(each.excluded))
    return f"{told} ({say.briefly(each.reasons)})" if each.reasons else told


class _Said:
    """What the numbers are called, in the language of who reads them."""

    def __init__(self, here: Here) -> None:
        gettext: Gettext = translations(here.language).gettext
        self.gettext, self.language = gettext, here.language
        self.levels = {
            level.code: level.label for each in here.the_study.definitions for level in each.withdrawal_levels
        }
        self.missing = {code.code: code.label for code in here.the_study.definition.missing_codes}
        self.seen: Mapping[Seen, str] = {
            Seen.MISSED: gettext("missed"),
            Seen.WITHDRAWN: gettext("withdrew"),
            Seen.LOST: gettext("lost to follow-up"),
            Seen.DIED: gettext("died"),
            Seen.LATE: gettext("window over, nothing recorded"),
            Seen.TO_COME: gettext("to come"),
            Seen.NOT_PLANNED: gettext("not in their plan"),
        }
        self._why: Mapping[Why, str] = {
            Why.WITHDRAWN: self.seen[Seen.WITHDRAWN],
            Why.LOST: self.seen[Seen.LOST],
            Why.DIED: self.seen[Seen.DIED],
            Why.TREATMENT_STOPPED: gettext("treatment stopped"),
            Why.RANDOMISED_IN_ERROR: gettext("randomised in error"),
            Why.SESSIONS_MISSED: gettext("sessions missed"),
            Why.MISSED: gettext("visit missed"),
            Why.LATE: self.seen[Seen.LATE],
            Why.TO_COME: gettext("visit to come"),
            Why.NOT_PLANNED: self.seen[Seen.NOT_PLANNED],
            Why.NO_FORM: gettext("form not entered"),
            Why.NO_VALUE: gettext("no value in the form"),
            Why.MISSING_CODE: gettext("recorded as missing"),
            Why.ENTERED_IN_ERROR: gettext("entered in error"),
            Why.USE_WITHDRAWN: gettext("use of the data withdrawn"),
        }

    def arm(self, arm: ArmFlow) -> str:
        """The arm by its label; who has no group is called so."""
        if arm.arm:
            return arm.label
        return self.gettext("Group not recorded")

    def n(self, number: int) -> str:
        """A number as this language writes it."""
        return decimal(number, 0, self.language)

    def why(self, reason: Reason) -> str:
        """A reason in words, with what the study calls its level or its missing code."""
        of = (self.levels if reason.why is Why.WITHDRAWN else self.missing).get(reason.of, reason.of)
        return f"{self._why[reason.why]}: {of}" if of else self._why[reason.why]

    def briefly(self, reasons: Sequence[Reason]) -> str:
        """Several reasons with their numbers in one line, without how far anybody withdrew."""
        numbers: Counter[str] = Counter()
        for each in reasons:
            numbers[self.why(replace(each, of="") if each.why is Why.WITHDRAWN else each)] += each.number
        return "; ".join(f"{words} {self.n(number)}" for words, number in numbers.items())

    def stands(self, is_locked: bool) -> str:
        """Whether these numbers can still change."""
        if is_locked:
            return self.gettext("Every visit is recorded and all data are locked: these numbers are final.")
        return self.gettext("Not every visit is recorded and locked yet: these numbers can still change.")

    def notes(self) -> list[str]:
        """How to read it."""
        gettext = self.gettext
        return [
            gettext(
                "Everybody is counted in the arm they were allocated to, whatever they received (intention to treat); "
                "who was randomised in error as well."
            ),
            gettext(
                "Received: at least one session of treatment was held. A visit with questionnaires of its own counts "
                "once it is recorded what was delivered at it."
            ),
            gettext(
                "Available: a value stands in the form. Analysed: and it may be used. No value is put in for one that "
                "is missing; of each arm, those analysed and those excluded are those allocated."
            ),
        ]


# The file


def _lines(found: FlowByArm) -> Iterator[Sequence[object]]:
    for arm in found.arms:
        for name in ("sites", "allocated", "in_error", "received", "not_received", "pending", "not_known", "stopped"):
            yield arm.arm, name, "", "", getattr(arm, name)
        for name, reasons in (("not_received", arm.not_received_reasons), ("stopped", arm.stopped_reasons)):
            for reason in reasons:
                yield arm.arm, name, "", _code(reason), reason.number
        for visit in arm.visits:
            for seen, number in visit.numbers.items():
                yield arm.arm, "visit", visit.visit, seen.value, number
        for each in arm.analyses:
            of = f"{each.outcome.visit}/{each.outcome.instrument}/{each.outcome.item}"
            for name in ("available", "analysed", "excluded"):
                yield arm.arm, name, of, "", getattr(each, name)
            for reason in each.reasons:
                yield arm.arm, "excluded", of, _code(reason), reason.number
    for group in found.groups:
        yield group.group, "first_stage", "", "", group.allocated
        yield group.group, "first_stage", "has_arm", "", group.went_on


def _code(reason: Reason) -> str:
    return f"{reason.why.value}:{reason.of}" if reason.of else reason.why.value
