"""What in a stretch of the log is worth a look? Pure: entries go by once, in order, and are added up.

What is looked for is what reviewers of audit trails are asked to look for (EMA Guideline on computerised systems in
clinical trials, 2023, 6.2.2; ICH E6(R3) 4.2.2): corrections, odd hours, missing data, attempts that were refused,
access by people who should have none. That something stands here is a reason to ask, and no finding against anybody.
Values are not looked at, and nothing here knows an arm.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from json import loads
from statistics import median
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.capture.rules import CLOCK_SET
from app.reports.quality import LATE_AFTER, UNLIKELY, homogeneity

MOST = 1_000_000
"""Entries of one stretch: they take about a quarter of a minute. What is behind them is the next review's."""
LARGE = 50_000
"""Entries: so many take a second, and nobody waits for them."""
MOST_LINES = 25
"""Of one finding so many lines are told, those with most first; all of them are counted."""

NIGHT_FROM, NIGHT_TO = 22, 6
CORRECTED_TIMES = 3
"""Of one answer: so many corrections in one stretch are worth a look."""
CORRECTIONS, CORRECTED_SHARE = 10, 0.2
"""Of one person: so many corrections, when they are so large a share of all that they entered."""
FORMS_AT_ONCE, AT_ONCE = 4, timedelta(seconds=30)
"""So many forms that one person saved within so short a time were hardly filled in one after another."""
MISSING_LEAST, MISSING_TIMES = 10, 2.0
SIGN_INS = 3
"""Of one person: fewer wrong passwords are everybody's."""
DELAY_LEAST, DELAY_TIMES, DELAY_ALONE, DELAY_PEOPLE = 7, 3, 28, 5
"""Days: longer than this and than three times the median of at least five people; of fewer, longer than 28."""


class Kind(StrEnum):
    """What was looked for, in the order in which it is told."""

    CLOCK = "clock"
    AFTER_SIGNATURE = "after_signature"
    CORRECTED_ITEM = "corrected_item"
    CORRECTED_BY = "corrected_by"
    NIGHT = "night"
    AT_ONCE = "at_once"
    MISSING = "missing"
    LATE = "late"
    GAPS = "gaps"
    DELAYS = "delays"
    REFUSED = "refused"
    SIGN_INS = "sign_ins"
    SHOWN = "shown"
    EXPORTS = "exports"


@dataclass(frozen=True)
class Said:
    """What a finding is called, what it says, and what to do next."""

    label: str
    what: str
    next: str


SAID: dict[Kind, Said] = {
    Kind.CLOCK: Said(
        "Entries dated earlier than the one before",
        "The clock of a server was set back, or two servers do not agree. The log keeps its order, by position.",
        "Ask whoever runs the installation to set its clocks by the network, and to write down when they were wrong.",
    ),
    Kind.AFTER_SIGNATURE: Said(
        "Answers changed after they were signed or verified",
        "Each of these changes ended a signature or a verification, which is asked for again.",
        "Read why each was changed, and look whether it was signed and verified again.",
    ),
    Kind.CORRECTED_ITEM: Said(
        "Answers corrected time and again",
        "One answer of one participant was corrected three times or more.",
        "Read the reasons beside the answer; raise a query where they do not explain it.",
    ),
    Kind.CORRECTED_BY: Said(
        "People who correct much",
        "At least ten answers were corrected by one person, and a fifth or more of all that this person entered.",
        "Ask what was wrong with the first entries: a form that misleads, or a source that came late.",
    ),
    Kind.NIGHT: Said(
        "Changes at night",
        "Something was entered, signed or recorded between 22:00 and 6:00 by the clock of the site. What was typed "
        "without a connection counts if it was typed or came then.",
        "Ask whether this person worked then. If not, somebody else used the account: end its sessions.",
    ),
    Kind.AT_ONCE: Said(
        "Many forms within seconds",
        "One person saved four different forms or more within half a minute. Files that were imported, and what was "
        "typed without a connection, are not counted.",
        "Compare these forms with their source.",
    ),
    Kind.MISSING: Said(
        "Many answers marked as missing",
        "One person marked at least ten answers as missing, and twice as often as the others did.",
        "Ask how the missing answers come about, and look at them by form in the reports.",
    ),
    Kind.LATE: Said(
        "Answers entered late",
        "They were entered more than a week after the visit was held.",
        "Ask where they stood meanwhile, and compare them with the source.",
    ),
    Kind.GAPS: Said(
        "Gaps in the numbers of those screened",
        "Numbers are given one after another, and these are nobody's.",
        "Verify the log, and ask whoever runs the installation: no screening can be taken away by anybody else.",
    ),
    Kind.DELAYS: Said(
        "Long between consent and randomisation",
        "It took much longer than it did for the others. Who waits may be waiting for a particular arm.",
        "Ask what was waited for, and compare it with the screening log of the site.",
    ),
    Kind.REFUSED: Said(
        "Attempts that were refused",
        "Somebody asked for what the state of the trial, or their role, did not allow.",
        "Ask those with many of them what they tried: they may need other training, or another role.",
    ),
    Kind.SIGN_INS: Said(
        "Sign-ins that failed",
        "Three wrong passwords or codes or more for one person of this study, or so many that they had to wait.",
        "Ask whether it was they themselves. If not, have their password changed and their sessions ended.",
    ),
    Kind.SHOWN: Said(
        "Personal data that were shown",
        "Names, contact or signed documents of participants were opened.",
        "Look whether this person needs them for so many participants.",
    ),
    Kind.EXPORTS: Said(
        "Exports that were taken",
        "Files of the study left the system. No name and no arm is in them; answers are.",
        "Look whether each was wanted, and where its file is kept now.",
    ),
}

_SAVED, _CORRECTED = "entry.saved", "entry.corrected"
_ENTERED = frozenset({_SAVED, _CORRECTED, "entry.second_saved"})
_ENDED = frozenset({"entry.signature_superseded", "entry.verification_ended"})
_SHOWN = frozenset({"identity.shown", "entry.file_shown"})
_TAKEN = frozenset({"export.run", "export.taken"})
_BY_HAND = ("entry.", "consent.", "participant.", "visit.", "adverse_event.", "casebook.", "identity.changed")
"""What people do with their own hands, and at their own hours."""


class Line(NamedTuple):
    """One line of a finding: whose it is or whom it is about, how often, out of how many, and where in the log."""

    site: str = ""
    who: str = ""
    participant: str = ""
    subject: str = ""
    item: str = ""
    action: str = ""
    number: int = 0
    of: int = 0
    first: int = 0
    last: int = 0


class Finding(NamedTuple):
    """What was found of one kind: how many in all, in how many lines, and those of them that are told."""

    kind: Kind
    number: int
    all_lines: int
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Found:
    """What is worth a look in the entries from `since` up to, and without, `upto`; of these sites, None for all."""

    at: datetime
    sites: frozenset[int] | None
    since: int
    upto: int
    system_since: int
    system_upto: int
    entries: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def is_large(self) -> bool:
        """Whether it takes so long that nobody should wait for it."""
        return self.entries >= LARGE


def scope_of(sites: Iterable[int] | None) -> str:
    """Sites as a review keeps them: ids with spaces, empty for the whole study."""
    return "" if sites is None else " ".join(map(str, sorted(sites)))


class Tally:
    """How often something was seen, by what it is counted by, and where it first and last stood in the log."""

    def __init__(self) -> None:
        self.seen: dict[tuple[Any, ...], list[int]] = {}

    def add(self, key: tuple[Any, ...], position: int, number: int = 1) -> None:
        held = self.seen.get(key)
        if held is None:
            self.seen[key] = [number, position, position]
        else:
            held[0] += number
            held[2] = position

    def items(self, least: int = 1) -> Iterable[tuple[tuple[Any, ...], int, int, int]]:
        return ((key, number, first, last) for key, (number, first, last) in self.seen.items() if number >= least)


@dataclass
class _Request:
    """What one request wrote down: its entries stand beside each other in the log."""

    key: tuple[str, str] = ("", "")
    at: str = ""
    site: int | None = None
    by_hand: bool = False
    offline: bool = False
    typed: str = ""  # when, by the clock of a device that had no connection
    forms: set[Hashable] = field(default_factory=set)
    first: int = 0
    last: int = 0


class Looking:
    """Goes through a stretch of the log. `skew` is how much earlier than the one before an entry may be dated: two
    servers do not agree to the second."""

    def __init__(self, zones: Mapping[int, str], *, everywhere: bool, skew: timedelta) -> None:
        self._zones = {site: ZoneInfo(name) for site, name in zones.items()}
        self._everywhere, self._skew = everywhere, skew
        self.entries = 0
        self._at = ""
        self._request = _Request()
        self._tallies: dict[Kind, Tally] = {kind: Tally() for kind in Kind}
        self._values: Counter[tuple[str, int | None]] = Counter()
        self._missing: Counter[tuple[str, int | None]] = Counter()
        self._numbers: set[int] = set()
        self._form_of_codes = ("", 0)
        self._waited: list[tuple[int, str, int | None, int]] = []
        self._lately: dict[str, deque[tuple[datetime, Hashable, int]]] = defaultdict(deque)
        self.entered: dict[tuple[int, str], tuple[str, str, int | None, str, int]] = {}
        """Participant's id and form -> code, when it was first entered, site, by whom, and where that stands."""

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Entries in order: position, at, username, role, via, action, participant, subject, item, request, said,
        computed, participant's id, site, day from which somebody waited, day of randomisation."""
        for row in rows:
            position, at, who, role, via, action, code, subject, item, request, said, computed, person, site = row[:14]
            self.entries += 1
            if at < self._at:
                self._set_back(at, position)
            else:
                self._at = at
            if self._request.key != (request, who):
                self._end_request()
                self._request = _Request((request, who), at, first=position)
            now = self._request
            now.last, now.site = position, site if site is not None else now.site
            if action.endswith("_refused"):
                self._tallies[Kind.REFUSED].add((who, site, action), position)
            elif action in _ENTERED:
                self._enter(position, at, who, role, action, code, subject, item, said, computed, person, site)
            elif action in _ENDED:
                self._tallies[Kind.AFTER_SIGNATURE].add((who, site, code, subject), position)
            elif action in _SHOWN:
                self._tallies[Kind.SHOWN].add((who, site), position)
            elif action in _TAKEN:
                self._tallies[Kind.EXPORTS].add((who,), position)
            elif action == "entry.typed_offline":
                now.offline = True
                self._typed(person, subject, said)
            elif action == "participant.screened":
                self._screened(code)
            elif action == "participant.randomised" and row[14] and row[15]:
                days = (date.fromisoformat(row[15]) - date.fromisoformat(row[14])).days
                self._waited.append((days, code, site, position))
            if via == "web" and site is not None and not action.endswith("_refused") and action.startswith(_BY_HAND):
                now.by_hand = True

    def _enter(
        self,
        position: int,
        at: str,
        who: str,
        role: str,
        action: str,
        code: str,
        subject: str,
        item: str,
        said: str | None,
        computed: int,
        person: int | None,
        site: int | None,
    ) -> None:
        self._request.forms.add((code, subject))
        if action == _SAVED and person is not None:
            self.entered.setdefault((person, subject), (code, at, site, who, position))
        if computed:
            return
        if role and role != "participant":
            self._values[who, site] += 1
            if said:
                self._missing[who, site] += 1
        if action == _CORRECTED:
            self._tallies[Kind.CORRECTED_ITEM].add((code, site, subject, item), position)
            self._tallies[Kind.CORRECTED_BY].add((who, site), position)

    def _typed(self, person: int | None, subject: str, said: str | None) -> None:
        """What this very request entered was typed earlier than it came."""
        held = self.entered.get((person or 0, subject))
        when = str(loads(said).get("typed_at", "")) if said else ""
        if when >= CLOCK_SET.isoformat() and datetime.fromisoformat(when) <= datetime.fromisoformat(self._request.at):
            self._request.typed = when
        if said and person is not None and held is not None and held[4] >= self._request.first:
            typed = str(loads(said).get("typed_at", ""))
            # Older entries may name any year, and in the first one no other time zone can say when that was.
            if typed >= CLOCK_SET.isoformat():
                self.entered[person, subject] = (held[0], typed, *held[2:])

    def _set_back(self, at: str, position: int) -> None:
        if datetime.fromisoformat(self._at) - datetime.fromisoformat(at) > self._skew:
            self._tallies[Kind.CLOCK].add((), position)
            self._at = at  # from here on it is this clock that goes on

    def _screened(self, code: str) -> None:
        digits = len(code) - len(code.rstrip("0123456789"))
        if digits:
            self._form_of_codes = (code[: len(code) - digits], digits)
            self._numbers.add(int(code[-digits:]))

    def _end_request(self) -> None:
        """Who changed something at which hour, and how soon after the one before."""
        one = self._request
        if not one.by_hand or one.site is None:
            return
        at, who = datetime.fromisoformat(one.at), one.key[1]
        # What comes later says itself when it was typed: a time that somebody wrote must not hide when it came.
        times = [at, datetime.fromisoformat(one.typed)] if one.typed else [at]
        zone = self._zones[one.site]
        if any(not NIGHT_TO <= each.astimezone(zone).hour < NIGHT_FROM for each in times):
            self._tallies[Kind.NIGHT].add((who, one.site), one.last)
        if len(one.forms) != 1 or one.offline:
            return
        lately, form = self._lately[who], next(iter(one.forms))
        while lately and at - lately[0][0] > AT_ONCE:
            lately.popleft()
        if any(earlier == form for _, earlier, _ in lately):
            return
        lately.append((at, form, one.first))
        if len(lately) == FORMS_AT_ONCE:
            self._tallies[Kind.AT_ONCE].add((who, one.site), lately[0][2], FORMS_AT_ONCE)
        elif len(lately) > FORMS_AT_ONCE:
            self._tallies[Kind.AT_ONCE].add((who, one.site), one.last)

    def findings(
        self, codes: Mapping[int, str], *, held: Mapping[tuple[int, str], date], sign_ins: Iterable[Line]
    ) -> tuple[Finding, ...]:
        """Everything that is worth a look; `codes` are of sites, `held` when visits were, by participant and code."""
        self._end_request()
        self._request = _Request()

        def site(of: int | None) -> str:
            return codes.get(of or 0, "")

        def told(kind: Kind, line: Callable[..., Line], least: int = 1) -> Iterable[Line]:
            for key, number, first, last in self._tallies[kind].items(least):
                yield line(*key)._replace(number=number, first=first, last=last)

        by_person: Callable[..., Line] = lambda who, of: Line(site(of), who)  # noqa: E731
        lines: dict[Kind, Iterable[Line]] = {
            Kind.CLOCK: told(Kind.CLOCK, Line),
            Kind.AFTER_SIGNATURE: told(
                Kind.AFTER_SIGNATURE, lambda who, of, code, subject: Line(site(of), who, code, subject)
            ),
            Kind.CORRECTED_ITEM: told(
                Kind.CORRECTED_ITEM,
                lambda code, of, subject, item: Line(site(of), "", code, subject, item),
                CORRECTED_TIMES,
            ),
            Kind.CORRECTED_BY: self._much_corrected(told(Kind.CORRECTED_BY, by_person, CORRECTIONS), codes),
            Kind.NIGHT: told(Kind.NIGHT, by_person),
            Kind.AT_ONCE: told(Kind.AT_ONCE, by_person),
            Kind.MISSING: self._often_missing(site),
            Kind.LATE: self._late(held, site),
            Kind.GAPS: self._gaps(),
            Kind.DELAYS: self._delays(site),
            Kind.REFUSED: told(Kind.REFUSED, lambda who, of, action: Line(site(of), who, action=action)),
            Kind.SIGN_INS: sign_ins,
            Kind.SHOWN: told(Kind.SHOWN, by_person),
            Kind.EXPORTS: told(Kind.EXPORTS, lambda who: Line("", who)),
        }
        return tuple(finding for kind in Kind if (finding := _finding(kind, lines[kind])) is not None)

    def _much_corrected(self, lines: Iterable[Line], codes: Mapping[int, str]) -> Iterable[Line]:
        entered = Counter({(who, codes.get(of or 0, "")): number for (who, of), number in self._values.items()})
        for line in lines:
            of = entered[line.who, line.site]
            if line.number >= CORRECTED_SHARE * of:
                yield line._replace(of=of)

    def _often_missing(self, site: Callable[[int | None], str]) -> Iterable[Line]:
        values, missing = sum(self._values.values()), sum(self._missing.values())
        for key, number in self._missing.items():
            mine = self._values[key]
            others, of_others = missing - number, values - mine
            if number < MISSING_LEAST or number * of_others < MISSING_TIMES * others * mine:
                continue
            p = homogeneity((number, mine - number), (others, of_others - others))
            if p is not None and p <= UNLIKELY:
                yield Line(site(key[1]), key[0], number=number, of=mine)

    def _late(self, held: Mapping[tuple[int, str], date], site: Callable[[int | None], str]) -> Iterable[Line]:
        """Forms of visits; `number` is in days, of each by the clock of its site."""
        for (person, subject), (code, at, of, who, position) in self.entered.items():
            parts = subject.split("/")
            on = held.get((person, parts[1])) if len(parts) > 1 else None
            if on is None or of is None:
                continue
            days = (datetime.fromisoformat(at).astimezone(self._zones[of]).date() - on).days
            if days > LATE_AFTER:
                yield Line(site(of), who, code, subject, number=days, first=position, last=position)

    def _gaps(self) -> Iterable[Line]:
        """Only where every site is seen: numbers are given to all of them together."""
        if not self._everywhere or not self._numbers:
            return
        prefix, digits = self._form_of_codes
        ordered = sorted(self._numbers)
        for before, after in pairwise(ordered):
            if after - before > 1:
                first, last = (f"{prefix}{number:0{digits}d}" for number in (before + 1, after - 1))
                yield Line(subject=first if first == last else f"{first} – {last}", number=after - before - 1)

    def _delays(self, site: Callable[[int | None], str]) -> Iterable[Line]:
        """`number` is in days, `of` the median."""
        if not self._waited:
            return
        usual = median(days for days, *_ in self._waited)
        alone = len(self._waited) < DELAY_PEOPLE
        longest = DELAY_ALONE if alone else max(DELAY_LEAST, DELAY_TIMES * usual)
        for days, code, of, position in self._waited:
            if days > longest:
                yield Line(site(of), "", code, number=days, of=int(usual), first=position, last=position)


COUNTED_BY_LINE = frozenset({Kind.LATE, Kind.DELAYS, Kind.CORRECTED_ITEM})
"""Each line is one of these; elsewhere its number says how many it stands for."""


def _finding(kind: Kind, lines: Iterable[Line]) -> Finding | None:
    found = sorted(lines, key=lambda each: (-each.number, each))
    if not found:
        return None
    number = len(found) if kind in COUNTED_BY_LINE else sum(each.number for each in found)
    return Finding(kind, number, len(found), tuple(found[:MOST_LINES]))


def as_kept(findings: Iterable[Finding], words: Mapping[str, str]) -> list[dict[str, Any]]:
    """Findings as a review keeps them, each with the word on it; what is empty is left out."""
    return [
        {
            "kind": each.kind.value,
            "number": each.number,
            "all_lines": each.all_lines,
            "lines": [{name: value for name, value in line._asdict().items() if value} for line in each.lines],
            "word": words.get(each.kind, ""),
        }
        for each in findings
    ]


def from_kept(kept: Iterable[Mapping[str, Any]]) -> list[tuple[Finding, str]]:
    """What a review kept, as it was found then."""
    return [
        (
            Finding(
                Kind(each["kind"]), each["number"], each["all_lines"], tuple(Line(**line) for line in each["lines"])
            ),
            str(each["word"]),
        )
        for each in kept
    ]
