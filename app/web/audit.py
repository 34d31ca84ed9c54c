"""Audit: who did what, when and why; whether the log is still what was written; the log as a file."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from fastapi.responses import Response

from app.audit import checkpoints
from app.audit.reads import AuditFilter, entries
from app.audit.rules import SEALED, instant_text, is_sealed
from app.audit.signing import log_keys
from app.audit.verify import Verification, verify
from app.casebook.log import CODES, CODES_OF, NAMES_OF, OF_VISITS
from app.dependencies import ChangeInStudy, Here, PageInStudy, database_of
from app.foundation import paging
from app.foundation.errors import FieldProblem, Invalid
from app.foundation.languages import Gettext, Names, sentence, translations
from app.foundation.paging import LARGEST_PAGE, Page, every_page
from app.participants.reads import visible_codes
from app.participants.rules.personal import LABELS as PERSONAL
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.rendering import day
from app.studies.definition import Item, ItemType, Study
from app.web.acts import KINDS, act_in_words, in_words, is_own_reason
from app.web.pages import pages
from app.web.places import DAY_WANTED, Places, places_of, show_at
from app.web.tables import address, csv_file, typed_text

router = pages()

QUERY = ("who", "participant", "kind", "since", "until", "after")
FILE = (
    "position",
    "at",
    "username",
    "role",
    "organisation",
    "via",
    "participant",
    "subject",
    "action",
    "item",
    "old",
    "new",
    "why",
    "request_id",
)
NAMED_AT_MOST = 6  # participants in one line of the log
FOUND, IN_OUR_WORDS = "deviation.found", "what"
"""What the system found it says itself, in the language of whoever reads; everything else stands as it was typed."""
MEANING = "meaning"  # of a signature: a sentence of ours
NUMBERED = ("adverse_event", "care", "contact", "deviation", "lock", "randomised_in_error", "review", "unblinding")
OF_FORMS = ("entry", "query", "double")
"""What is about one form of one visit: the subject names both."""
FURTHEST = 2**31

_iso_instant = re.compile(r"[0-9-]{10}[T ][0-9:.]{8,15}(Z|[+-][0-9]{2}:[0-9]{2})").fullmatch
_iso_day = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch


@router.get("/{study}/audit", name="audit.audit")
def audit(here: PageInStudy) -> Response:
    """One page of the log, newest first, as far as this person may read it."""
    if not may(here.actor, Permission.AUDIT_VERIFY):
        require(here.actor, Permission.AUDIT_READ)
    return _audit_page(here)


@router.post("/{study}/audit/verify", name="audit.verify")
def verify_log(here: ChangeInStudy) -> Response:
    """Check every entry of the log, and say what was checked against what."""
    require(here.actor, Permission.AUDIT_VERIFY, action="audit.verify")
    here.release_key()
    here.session.commit()  # nobody waits for a lock of ours while a long log is read
    log = here.the_study.code
    database = database_of(here.request)
    points, faults = checkpoints.kept(here.settings.checkpoints, database.keys)
    with database.reading() as session:
        found = verify(session, log, points)
    found.faults.extend(faults)
    newest = max((point.size for point in points if point.log == log), default=0)
    here.shows()
    return _audit_page(here, verified=found, newest=newest)


@router.get("/{study}/audit.csv", name="audit.file")
def file(here: PageInStudy) -> Response:
    """The filtered log as a file, read and sent a page at a time."""
    require(here.actor, Permission.AUDIT_READ)
    wanted, errors = _wanted(_query(here), places_of(here))
    rows = iter(()) if errors else _file_rows(here, wanted)
    return csv_file(f"{here.the_study.code}-audit-{here.now:%Y-%m-%d}", FILE, rows)


def _file_rows(here: Here, wanted: AuditFilter) -> Iterator[Sequence[object]]:
    study, actor = here.the_study, here.actor
    mine = visible_codes(study, actor)
    with database_of(here.request).reading() as session:
        for found in every_page(
            lambda cursor: entries(session, study.code, wanted, participants=mine, cursor=cursor, limit=LARGEST_PAGE)
        ):
            for entry in found.rows:
                shown = {**entry, "at": instant_text(entry["at"])}
                for side in ("old", "new"):
                    shown[side] = SEALED if is_sealed(entry["action"], entry[side]) else entry[side]
                yield [shown[name] for name in FILE]


def _audit_page(here: Here, *, verified: Verification | None = None, newest: int = 0) -> Response:
    places = places_of(here)
    path = f"/{here.the_study.code}/audit"
    query = _query(here) if verified is None else {}
    wanted, errors = _wanted(query, places)
    found: Page[Any] | None = None
    if not errors and may(here.actor, Permission.AUDIT_READ):
        _refuse_bad_cursor(query.get("after"))
        found = entries(
            here.session,
            here.the_study.code,
            wanted,
            participants=visible_codes(here.the_study, here.actor),
            cursor=query.get("after"),
        )
    gettext = translations(here.language).gettext
    return show_at(
        here,
        places,
        "audit/audit.html",
        status_code=422 if errors else 200,
        path=path,
        query=query,
        errors=errors,
        kinds=_kinds(gettext),
        active=sum(1 for name, value in query.items() if value and name != "after"),
        may_read=may(here.actor, Permission.AUDIT_READ),
        entries=told(
            found.rows,
            here.the_study.definition,
            places.timezone(),
            here.language,
            place=f"/{here.the_study.code}",
            names=here.names,
        )
        if found
        else [],
        count=len(found.rows) if found else 0,
        older=address(path, query, after=found.next) if found and found.next else None,
        newer=address(path, query, after=found.previous) if found and found.previous else None,
        csv_url=address(f"{path}.csv", query, after=None),
        why_not_verify=why_not(here.actor, Permission.AUDIT_VERIFY),
        review_url=f"{path}/review" if may(here.actor, Permission.LOG_REVIEW) else None,
        verified=verified,
        newest=newest,
        keys=[*reversed(log_keys(here.session, here.the_study.code))],
        timezone=places.timezone(),
    )


def _kinds(gettext: Gettext) -> list[tuple[str, str]]:
    """What the log can be narrowed to, in the order of the reader's words for it."""
    return sorted(((f"{kind}.", gettext(words)) for kind, words in KINDS.items()), key=lambda one: one[1].casefold())


def _refuse_bad_cursor(cursor: str | None) -> None:
    """A page link that was tampered with is said to be one, also when it names a position no column can hold."""
    if not cursor:
        return
    (position,), _ = paging.decode(cursor, 1)
    if not isinstance(position, int) or not 0 <= position < FURTHEST:
        message = "This page link is not valid any more. Start again from the first page."
        raise Invalid([FieldProblem("cursor", "cursor", message)])


def _query(here: Here) -> dict[str, str | None]:
    return {name: typed_text(here.request.query_params.get(name), 400) or None for name in QUERY}


def _wanted(query: Mapping[str, str | None], places: Places) -> tuple[AuditFilter, dict[str, str]]:
    """What is looked for, and what is wrong with how it was typed."""
    errors: dict[str, str] = {}
    zone = ZoneInfo(places.timezone())

    def instant(name: str, later: int) -> datetime | None:
        text = query.get(name)
        try:
            if not text:
                return None
            midnight = datetime.combine(date.fromisoformat(text) + timedelta(days=later), time.min, zone)
            return midnight.astimezone(UTC)
        except (ValueError, OverflowError):
            errors[name] = DAY_WANTED
            return None

    wanted = AuditFilter(
        participant=(query.get("participant") or "").upper() or None,
        username=query.get("who"),
        action=query.get("kind"),
        since=instant("since", 0),
        until=instant("until", 1),
    )
    return wanted, errors


# What an entry of the log says, in words.


@dataclass(frozen=True)
class _Reader:
    """Who reads: the study in their words, the time zone of moments, their language, and what of the study stands in
    sentences of ours.
    """

    study: Study
    zone: ZoneInfo
    language: str
    names: Names | None

    @cached_property
    def gettext(self) -> Gettext:
        return translations(self.language).gettext

    def name(self, name: str) -> str:
        """What a part of a value is called."""
        return self.gettext(NAMES_OF[name]) if name in NAMES_OF else in_words(name)

    def day(self, value: date) -> str:
        return day(value, self.language)


def told(
    rows: Iterable[Mapping[str, Any]],
    study: Study,
    timezone: str,
    language: str,
    *,
    place: str = "",
    named: bool = True,
    names: Names | None = None,
) -> list[dict[str, Any]]:
    """Entries as `ui.audit_rows` shows them; what one person did to one thing in one go is one line.

    So is what they did to many participants in one go and changed nothing: a list with arms opens every envelope of it.
    Moments among the values are told in this time zone, with its name. `place` is the study's address when participants
    are linked. `names`: what of the study stands in sentences of ours, in the words of whoever reads.
    """
    reader = _Reader(study, ZoneInfo(timezone), language, names)
    gettext = reader.gettext
    lines: list[dict[str, Any]] = []
    last: tuple[object, ...] = ()
    of_many: list[str] = []
    for entry in rows:
        key = tuple(entry[name] for name in ("request_id", "at", "username", "action", "subject", "why"))
        if lines and key == last and entry["participant"] == of_many[-1]:
            lines[-1]["changes"] = [
                *_changes(entry, reader),
                *lines[-1]["changes"],
            ]  # newest first, items in order
            continue
        if lines and key == last and not lines[-1]["changes"] and not _changes(entry, reader):
            of_many.append(entry["participant"])
            about = (
                _several(of_many, gettext) if named else "",
                act_in_words(entry["action"], gettext),
                subject_in_words(entry["subject"], study, gettext),
            )
            lines[-1].update(action=" · ".join(filter(None, about)), url="")
            continue
        last, of_many = key, [entry["participant"]]
        lines.append(_line(entry, reader, place, named=named))
    return lines


def _several(codes: Sequence[str], gettext: Gettext) -> str:
    """Codes of participants, the oldest entry first: all of a few, else the first and how many more."""
    first = ", ".join(list(reversed(codes))[:NAMED_AT_MOST])
    if len(codes) <= NAMED_AT_MOST:
        return first
    return gettext("{codes} and {number} more").format(codes=first, number=len(codes) - NAMED_AT_MOST)


def _line(entry: Mapping[str, Any], reader: _Reader, place: str, *, named: bool) -> dict[str, Any]:
    gettext = reader.gettext
    about = [act_in_words(entry["action"], gettext)]
    if subject := subject_in_words(entry["subject"], reader.study, gettext):
        about.append(subject)
    if entry["action"] == FOUND and isinstance(found := _parsed(entry, "new"), dict) and found.get(IN_OUR_WORDS):
        about.append(sentence(str(found[IN_OUR_WORDS]), reader.language, reader.names))
    participant = entry["participant"] if named else ""
    if participant:
        about.insert(0, participant)
    role = entry["role"].replace("_", " ")
    roles = ", ".join(map(gettext, role.split(", "))) if role and role != entry["username"] else ""
    return {
        "at": entry["at"],
        "who": ", ".join(filter(None, (entry["username"], roles))),
        "action": " · ".join(about),
        "changes": _changes(entry, reader),
        "why": entry["why"],
        "is_own": is_own_reason(entry["action"], entry["why"]),
        "url": f"{place}/participants/{participant}" if place and participant else "",
    }


def subject_in_words(subject: str, study: Study, gettext: Gettext) -> str:
    """What an entry is about, in the words of the study."""
    kind, _, rest = subject.partition("/")
    parts = rest.split("/") if rest else []
    if kind in ("visit", *OF_FORMS) and parts:
        visit = study.visit(parts[0])
        said = [visit.label if visit else parts[0]]
        if len(parts) > 1:
            form = study.instrument(parts[1])
            number = f" {parts[2]}" if len(parts) > 2 else ""
            said.append(f"{form.label if form else parts[1]}{number}")
        return ", ".join(said)
    if kind in ("consent", "version", "sequence") and parts:
        return gettext("version {number}").format(number=rest)
    return gettext("number {number}").format(number=rest) if kind in NUMBERED else rest


def _changes(entry: Mapping[str, Any], reader: _Reader) -> list[tuple[str, str | None, str | None]]:
    old, new = (_parsed(entry, side) for side in ("old", "new"))
    if old is None and new is None:
        return []
    if entry["item"]:
        item = _item(entry, reader.study)
        ours = entry["subject"].partition("/")[0] in NUMBERED
        if item is not None:
            label = item.label
        elif entry["item"] in PERSONAL:
            label = reader.gettext(PERSONAL[entry["item"]])
        else:
            label = reader.name(entry["item"]) if ours else entry["item"]
        if isinstance(new, dict) and "query" in new:
            return [(label, None, _said(new.get("text"), None, reader))]
        return [(label, _said(old, item, reader), _said(new, item, reader))]
    if not isinstance(old, dict | None) or not isinstance(new, dict | None):
        return [("", _said(old, None, reader), _said(new, None, reader))]
    before, after = old or {}, new or {}
    kind = entry["subject"].partition("/")[0]
    if entry["action"] == FOUND:
        after.pop(IN_OUR_WORDS, None)
    for said in (before, after):
        if isinstance(said.get("verdicts"), dict):
            said["verdicts"] = _verdicts(said["verdicts"], reader)
    return [
        (
            reader.name(name),
            _said(before.get(name), None, reader, kind, name),
            _said(after.get(name), None, reader, kind, name),
        )
        for name in dict.fromkeys([*after, *before])
        if before.get(name) != after.get(name)
    ]


def _verdicts(verdicts: Mapping[str, object], reader: _Reader) -> str:
    """What screening decided: which criteria spoke against taking part."""
    gettext = reader.gettext
    labels = {criterion.code: criterion.label for criterion in reader.study.eligibility.criteria}
    against = [labels.get(code, code) for code, met in verdicts.items() if met is False]
    unknown = [labels.get(code, code) for code, met in verdicts.items() if met is None]
    said = [gettext("against: {criteria}").format(criteria=", ".join(against))] if against else []
    said += [gettext("not known: {criteria}").format(criteria=", ".join(unknown))] if unknown else []
    return "; ".join(said) or gettext("all {number} in favour").format(number=len(verdicts))


def _parsed(entry: Mapping[str, Any], side: str) -> object:
    text = entry[side]
    if text is None:
        return None
    return SEALED if is_sealed(entry["action"], text) else json.loads(text)


def _item(entry: Mapping[str, Any], study: Study) -> Item | None:
    kind, *rest = entry["subject"].split("/")
    code = (
        study.eligibility.instrument if kind == "screening" else rest[1] if kind in OF_FORMS and len(rest) > 1 else ""
    )
    form = study.instrument(code)
    return form.item(entry["item"]) if form else None


def _said(value: object, item: Item | None, reader: _Reader, kind: str = "", name: str = "") -> str | None:
    """A stored value in words: choices by their labels, a reason for no answer by its meaning.

    Codes of ours are told by `kind`, which is what the entry is about, sentences of ours by the `name` of the value.
    """
    study, gettext = reader.study, reader.gettext
    if value is None:
        return None
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, dict):
        if set(value) == {"missing"}:
            return next((code.label for code in study.missing_codes if code.code == value["missing"]), value["missing"])
        of_item = item if set(value) == {"first", "second"} else None  # the same question, answered by two people
        return ", ".join(
            f"{reader.name(each)}: {_said(part, of_item, reader, kind, each) or '–'}" for each, part in value.items()
        )
    if isinstance(value, list):
        return ", ".join(str(_said(part, item, reader, kind)) for part in value) or gettext("none")
    text = str(value)
    if item is not None:
        label = next((choice.label for choice in item.choices if choice.code == text), None)
        unit = f" {item.unit}" if item.unit and item.type is not ItemType.TEXT else ""
        return label or f"{text}{unit}"
    try:
        if _iso_day(text):
            return reader.day(date.fromisoformat(text))
        if _iso_instant(text):
            at = datetime.fromisoformat(text).astimezone(reader.zone)
            return f"{reader.day(at.date())} {at:%H:%M %Z}"
    except (ValueError, OverflowError):  # a moment that no calendar has, here or elsewhere
        return text
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return f"{text[:12]}…"
    if name == MEANING:
        return sentence(text, reader.language, reader.names)
    if text in (codes := CODES_OF.get(name, CODES.get(kind, {}))):
        return gettext(codes[text])
    if name in OF_VISITS and (visit := study.visit(text)):
        return visit.label
    labelled = study.safety.deviations if kind == "deviation" else study.withdrawal_levels
    label = next((each.label for each in labelled if each.code == text), None)
    if label is not None:
        return sentence(label, reader.language, reader.names)
    return text.replace("_", " ") if re.fullmatch(r"[a-z]+(_[a-z]+)+", text) else text
