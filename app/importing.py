"""What comes of a file of rows? Tried and taken back, all or nothing, or row by row; and the report of it.

The report is written to a file of its own while the rows go by, so that a large import holds neither its rows nor its
report in memory. A transaction ends after every batch when each row may stand by itself, so that nobody waits for the
whole file, and after every row where people come or are randomised: with what one holds it does not wait for the next.
All or nothing is one transaction, and everybody who saves in this study waits until it ends.

Nobody is randomised to see whether it works: a slot that is taken is never given back, and whoever could take slots and
have them back would learn how many are left. All or nothing is therefore tried first, without; then nothing is undone.
"""

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from sqlmodel import Session

from app.audit.newest import Newest
from app.imports.actions import OUTCOMES, REFUSED, Origin, Outcome, begin_whole, import_rows, write_down
from app.imports.rules import Cells, FileMapping
from app.participants.finding import write_shown
from app.people.access import Actor
from app.studies.in_use import StudyInUse

BATCH = 50  # rows of one transaction
IN_MEMORY = 1_000_000  # bytes of a report; beyond, it is a file
REFUSALS_SHOWN = 200


class Report:
    """What came of each row, in the order of the file, and how many of each there are."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(("rows", *OUTCOMES), 0))
        self.refusals: list[Outcome] = []
        self.imported = False
        self.shown: dict[str, None] = {}
        """Participants who are named, in this order: somebody looks like them."""
        self._lines: IO[str] = SpooledTemporaryFile(max_size=IN_MEMORY, mode="w+", encoding="utf-8")  # noqa: SIM115

    def add(self, outcomes: list[Outcome]) -> None:
        """What came of one row."""
        self.counts["rows"] += 1
        for outcome in outcomes:
            self.counts[outcome.outcome] += 1
            self.shown |= dict.fromkeys(each.code for each in outcome.candidates if each.code is not None)
            if outcome.outcome == REFUSED and len(self.refusals) < REFUSALS_SHOWN:
                self.refusals.append(outcome)
            self._lines.write(json.dumps(asdict(outcome), ensure_ascii=False, default=str) + "\n")

    @property
    def is_refused(self) -> bool:
        return self.counts[REFUSED] > 0

    def lines(self) -> Iterator[str]:
        """Each outcome as a line of JSON."""
        self._lines.seek(0)
        for line in self._lines:
            yield line.rstrip("\n")

    def outcomes(self) -> Iterator[dict[str, Any]]:
        """Each outcome."""
        return map(json.loads, self.lines())


def carry_out(
    session: Session,
    study: StudyInUse,
    rows: Iterable[Cells],
    mapping: FileMapping,
    *,
    origin: Origin,
    dry_run: bool,
    all_or_nothing: bool,
    signs: bool = False,
    newest: Newest | None = None,
    by: Actor,
    now: datetime,
) -> Report:
    """Try the rows and take all of it back, or import them; the session is committed or rolled back to where it began.

    `rows` can be gone through more than once: a file that randomises is read to its end before anybody is, because what
    is no file only further down takes back what stood above it.
    All or nothing: when a row is refused nothing of the file stays, and `imported` is false. Of a file that randomises
    that holds for the trial before; what is only refused once somebody is randomised is refused by itself.
    Who is named in the report is in the log as shown, whatever is taken back, before the report is handed over.
    """
    report = Report()
    randomises = mapping.randomise_after is not None
    # People who are new in one batch are met again in the next: only without them a trial run can let go between.
    whole = all_or_nothing if not dry_run else mapping.new is not None
    options: dict[str, Any] = {"origin": origin, "signs": signs, "newest": newest, "by": by, "now": now}
    if whole:
        begin_whole(session, study)
    if randomises and not all_or_nothing and not dry_run:
        deque(rows, maxlen=0)
    if randomises and all_or_nothing and not dry_run:
        tried = Report()
        trial = session.begin_nested()
        for outcomes in import_rows(session, study, rows, mapping, randomises=False, **options):
            tried.add(outcomes)
        trial.rollback()
        if tried.is_refused:
            session.rollback()
            _keep_shown(session, study, tried, by=by, now=now)
            return tried
    options["randomises"], batch = not dry_run, 1 if (randomises or mapping.new) and not dry_run else BATCH
    for number, outcomes in enumerate(import_rows(session, study, rows, mapping, **options), start=1):
        report.add(outcomes)
        if not whole and number % batch == 0:
            session.rollback() if dry_run else session.commit()
    if dry_run or (all_or_nothing and report.is_refused and not randomises):
        session.rollback()
        _keep_shown(session, study, report, by=by, now=now)
        return report
    report.imported = True
    write_shown(session, study, report.shown, by=by, now=now)
    write_down(session, study, origin, report.counts, by=by, now=now)
    return report


def _keep_shown(session: Session, study: StudyInUse, report: Report, *, by: Actor, now: datetime) -> None:
    """Of what was taken back, only whom it named stays: a transaction of its own, which no refusal undoes."""
    write_shown(session, study, report.shown, by=by, now=now)
    session.commit()
