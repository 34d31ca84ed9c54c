"""Oversight over REST: what in the log is worth a look since the last review, reviews, and the report of a period."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi.responses import Response
from pydantic import ConfigDict, Field
from sqlmodel import Session

from app.api.filters import Since, Until
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Reply, Text
from app.dependencies import ApiChange, ApiPage, Here, database_of
from app.exports.history import failed_between as exports_failed
from app.foundation.errors import FieldProblem, Invalid
from app.reports.review import actions, reads
from app.reports.review.period import COUNTED
from app.reports.review.period import period as read_period
from app.reports.review.reads import ReviewRow
from app.reports.review.rules import SAID, Finding, Kind
from app.schedule.reminders.reads import not_sent_between as messages_failed
from app.webhooks.reads import failed_between as webhooks_failed

router = operations("audit")

QUARTER = timedelta(days=91)


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(from_attributes=True, json_schema_extra={"example": example})


LINE = {
    "site": "neura",
    "who": "ada",
    "participant": "R-0042",
    "subject": "entry/week18/pain",
    "item": "pain_intensity",
    "action": "participant.randomise_refused",
    "number": 4,
    "of": 31,
}
FINDING = {
    "kind": "corrected_item",
    "label": SAID[Kind.CORRECTED_ITEM].label,
    "what": SAID[Kind.CORRECTED_ITEM].what,
    "next": SAID[Kind.CORRECTED_ITEM].next,
    "number": 1,
    "all_lines": 1,
    "lines": [LINE],
}
LOOK = {"since": 417, "upto": 530, "at": "2026-07-16T10:02:11.000000Z", "behind": 0, "findings": [FINDING]}
WORD: dict[str, Any] = {"kind": "corrected_item", "number": 1, "word": "Typed from three diaries; the source agrees."}
REVIEW = {
    "number": 3,
    "log_from": 417,
    "log_to": 530,
    "head_size": 530,
    "head_root": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "findings": [WORD],
    "follows": "Nothing.",
    "reviewed_at": "2026-07-16T10:09:54.000000Z",
    "reviewed_by": "grace",
}


class LineReply(Reply):
    """One line of a finding; what says nothing is empty or 0. `number` is in days for `late` and `delays`."""

    model_config = _shown(LINE)

    site: str
    who: str
    participant: str
    subject: str
    item: str
    action: str
    number: int
    of: int


class FindingReply(Reply):
    """What was found of one kind: what it is called, what it says, what to do next. `lines` are those with most."""

    model_config = _shown(FINDING)

    kind: str = Field(description=f"Among {', '.join(Kind)}.")
    label: str
    what: str
    next: str
    number: int
    all_lines: int
    lines: list[LineReply]


class LookReply(Reply):
    """What is worth a look in the entries from `since` to before `upto`; `behind` wait for the next review."""

    model_config = _shown(LOOK)

    since: int
    upto: int
    at: datetime
    behind: int
    findings: list[FindingReply]


class WordReply(Reply):
    """A finding of a review, and the word on it."""

    model_config = _shown(WORD)

    kind: str
    number: int
    word: str


class ReviewReply(Reply):
    """One review. The head of the study's tree at that moment is `head_size` and `head_root` (hex)."""

    model_config = _shown(REVIEW)

    number: int
    log_from: int
    log_to: int
    head_size: int
    head_root: str
    findings: list[WordReply]
    follows: str
    reviewed_at: datetime
    reviewed_by: str


class ReviewBody(Body):
    """A review of what was found between `since` and `upto`: a word on each finding, by its kind, and what follows.

    `confirmed` are words that may tell an arm, and mean something else here.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"since": 417, "upto": 530, "words": {WORD["kind"]: WORD["word"]}, "follows": "Nothing."}
        },
    )

    since: Annotated[int, Field(ge=0, lt=2**31)]
    upto: Annotated[int, Field(ge=0, lt=2**31)]
    words: dict[Code, Text] = Field(default={}, max_length=len(Kind))
    follows: Text
    confirmed: list[Code] = Field(default=[], max_length=50)


@router.get("/log-review", name="api.log_review")
def log_review(here: ApiPage) -> LookReply:
    """What is worth a look in the log since the last review, at the sites where this person reviews it."""
    stretch, found = _look(here)
    assert found is not None  # a program waits
    return LookReply(
        since=found.since,
        upto=found.upto,
        at=found.at,
        behind=stretch.head_size - found.upto,
        findings=[_finding(each) for each in found.findings],
    )


@router.get("/log-reviews", name="api.log_reviews")
def log_reviews(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[ReviewReply]:
    """The reviews of the log, the newest first."""
    page = reads.reviews_page(here.session, here.the_study, by=here.actor, cursor=cursor, limit=limit)
    return PageOf(items=[_review(each) for each in page.rows], next=page.next)


@router.get("/log-reviews/{number}", name="api.one_log_review")
def one_log_review(here: ApiPage, number: Number) -> ReviewReply:
    """One review of the log."""
    return _review(reads.review_of(here.session, here.the_study, number, by=here.actor))


@router.post("/log-reviews", name="api.review_log", status_code=201, response_model=ReviewReply)
def review_log(here: ApiChange, body: ReviewBody) -> Response:
    """Record a review of the log, of what `GET /log-review` has shown."""
    if unknown := set(body.words) - set(Kind):
        words = f"There is no finding {min(unknown)}. Say a word on those that GET /log-review names."
        raise Invalid([FieldProblem("words", "choices", words)])
    with here.nobody_waits(), database_of(here.request).reading() as session:
        stretch, found = _look(here, session, since=body.since, upto=body.upto)
    assert found is not None  # a program waits
    number = actions.record_review(
        here.session,
        here.the_study,
        stretch,
        found,
        words=body.words,
        follows=body.follows,
        confirmed=body.confirmed,
        by=here.actor,
        now=here.now,
    )
    said = _review(reads.review_of(here.session, here.the_study, number, by=here.actor))
    return here.answer(said.model_dump(mode="json"), status=201, location=f"{here.request.url.path}/{number}")


A_PERIOD: dict[str, Any] = {
    "since": "2026-04-01T00:00:00Z",
    "until": "2026-07-01T00:00:00Z",
    "versions": ["1.1"],
    "log_reviews": [3],
    "access_reviews": [1],
    "refused": 4,
    "counts": [{"name": "role.granted", "label": COUNTED["role.granted"], "number": 2}],
    "failed": [{"name": "webhooks", "label": "Events that no webhook took", "number": 1}],
}


class CountReply(Reply):
    """How often something happened; of `counts` the name is that of its action in the log."""

    model_config = _shown(A_PERIOD["counts"][0])

    name: str
    label: str
    number: int


class PeriodReply(Reply):
    """What happened around the data from `since` up to, and without, `until`: no entry of the data is read.

    `versions` are those loaded then, reviews are told by their numbers, `refused` are the attempts that these tell of,
    and `failed` is what did not leave.
    """

    model_config = _shown(A_PERIOD)

    since: datetime
    until: datetime
    versions: list[str]
    log_reviews: list[int]
    access_reviews: list[int]
    refused: int
    counts: list[CountReply]
    failed: list[CountReply]


@router.get("/period-report", name="api.period")
def period_report(here: ApiPage, since: Since = None, until: Until = None) -> PeriodReply:
    """The periodic report, for who reviews the log of the whole study; without instants, of the last 91 days."""
    ends = until or here.now
    begins = since or ends - QUARTER
    if begins >= ends:
        raise Invalid([FieldProblem("until", "order", "until is not after since. Send a later one.")])
    study, session = here.the_study, here.session
    found = read_period(session, study, since=begins, until=ends, by=here.actor)
    failed = (
        ("exports", "Exports that failed", exports_failed),
        ("messages", "Messages that did not leave", messages_failed),
        ("webhooks", "Events that no webhook took", webhooks_failed),
    )
    return PeriodReply(
        since=begins,
        until=ends,
        versions=[each.version for each in found.versions],
        log_reviews=[each.number for each in found.log_reviews],
        access_reviews=[each.id for each in found.access_reviews],
        refused=found.refused,
        counts=[CountReply(name=name, label=COUNTED[name], number=number) for name, number in found.counts.items()],
        failed=[
            CountReply(name=name, label=label, number=count(session, study.id, begins, ends))
            for name, label, count in failed
        ],
    )


def _look(here: Here, session: Session | None = None, *, since: int | None = None, upto: int | None = None) -> Any:
    return reads.worth_a_look(
        session or here.session,
        here.the_study,
        here.request.app.state.counts,
        by=here.actor,
        now=here.now,
        since=since,
        upto=upto,
        waits=True,
        skew=timedelta(seconds=here.settings.clock_seconds),
    )


def _finding(found: Finding) -> FindingReply:
    said = SAID[found.kind]
    lines = [LineReply.model_validate(line) for line in found.lines]
    return FindingReply(
        kind=found.kind.value,
        label=said.label,
        what=said.what,
        next=said.next,
        number=found.number,
        all_lines=found.all_lines,
        lines=lines,
    )


def _words(findings: Iterable[tuple[Finding, str]]) -> list[WordReply]:
    return [WordReply(kind=each.kind.value, number=each.number, word=word) for each, word in findings]


def _review(row: ReviewRow) -> ReviewReply:
    return ReviewReply(
        number=row.number,
        log_from=row.log_from,
        log_to=row.log_to,
        head_size=row.head_size,
        head_root=row.head_root,
        findings=_words(row.findings),
        follows=row.follows,
        reviewed_at=row.reviewed_at,
        reviewed_by=row.reviewed_by,
    )
