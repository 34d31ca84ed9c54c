"""What is the casebook of a participant as a file? Every entry, what changed in it, and the log of it all, as PDF."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlmodel import Session

from app.capture.casebook.reads import log_of, signatures_of
from app.capture.casebook.rules import MEANINGS, Signature, holds, manifest_of
from app.capture.double.reads import withheld_subjects, without_withheld
from app.capture.queries.reads import Query, Wanted, queries_page
from app.capture.reads import entries_with_values
from app.capture.rules import MEANINGS as ENTRY_MEANINGS
from app.capture.rules import EntryState, signature_holds
from app.capture.typed import missing_code
from app.consent.reads import consents_of, options_now
from app.foundation.clock import today
from app.foundation.languages import Gettext, translations
from app.foundation.paging import LARGEST_PAGE, every_page
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.printing import Casebook, casebook_pdf
from app.rendering import day
from app.schedule.models import ParticipantVisit
from app.schedule.reads import visits_of
from app.studies.definition import Instrument, Item, ItemType, Study
from app.studies.in_use import StudyInUse
from app.studies.rules.items import SEALED
from app.wording import said, title_of

MOST_LINES = 5000
"""Lines of the log that are printed: what is older is left out, and it is said so."""

ACTS: Mapping[str, str] = {
    "entry.saved": "Entered",
    "entry.corrected": "Corrected",
    "entry.check_accepted": "Unexpected, and explained",
    "entry.check_fired": "Unexpected",
    "entry.check_ceased": "No longer unexpected",
    "entry.file_kept": "File kept",
    "entry.file_shown": "File shown",
    "entry.signature_kept": "Signature kept",
    "entry.completed": "Complete",
    "entry.reopened": "Not complete any more",
    "entry.awaits_second": "Waits for its second entry",
    "entry.second_saved": "Entered the second time",
    "entry.entered_twice": "Entered twice, and compared",
    "entry.reconciled": "Difference settled",
    "entry.signed": "Signed",
    "entry.signature_superseded": "Signature superseded",
    "entry.marked_in_error": "Marked as entered in error",
    "entry.restored": "Not in error after all",
    "entry.verified": "Verified against the source",
    "entry.verification_ended": "Not verified any more",
    "entry.verification_withdrawn": "Verification withdrawn",
    "query.raised": "Query raised",
    "query.answered": "Query answered",
    "query.requeried": "Query asked again",
    "query.closed": "Query closed",
    "query.corrected": "Query closed by a correction",
    "casebook.signed": "Casebook signed",
    "casebook.signature_superseded": "Signature of the casebook superseded",
    "data.frozen": "Frozen",
    "data.unfrozen": "Freezing lifted",
    "data.locked": "Locked",
    "data.unlock_requested": "Unlocking asked for",
    "data.unlock_declined": "Unlocking declined",
    "data.unlocked": "Unlocked",
}


def casebook_of(
    session: Session, study: StudyInUse, participant: Participant, *, site: str, timezone: str, by: Actor, now: datetime
) -> bytes:
    """The casebook as PDF/A, blinded: entries, queries and what the log says of them, never an arm or a session.

    At most `MOST_LINES` lines of the log, so that it is bounded; one participant at a time.
    """
    require(by, Permission.ENTRY_READ, site_id=participant.site_id, action="casebook.print", subject=participant.code)
    assert participant.id is not None
    return _Printer(session, study, participant, site, timezone, by, now).pdf()


class _Printer:
    """Reads one casebook and says it in the language of the study."""

    def __init__(
        self,
        session: Session,
        study: StudyInUse,
        participant: Participant,
        site: str,
        timezone: str,
        by: Actor,
        now: datetime,
    ) -> None:
        self.session, self.study, self.participant, self.site = session, study, participant, site
        self.zone, self.timezone, self.by, self.now = ZoneInfo(timezone), timezone, by, now
        self.definition: Study = study.definition
        self.language = study.definition.language
        self.gettext: Gettext = translations(self.language).gettext

    def pdf(self) -> bytes:
        """The file."""
        assert self.participant.id is not None
        number, code, gettext = self.participant.id, self.participant.code, self.gettext
        every = entries_with_values(self.session, number)
        entries = without_withheld(self.session, self.definition, self.participant, every, by=self.by)
        hidden = withheld_subjects(self.session, self.definition, self.participant, by=self.by)
        visits = {visit.code: visit for visit in visits_of(self.session, number)}
        log, more = log_of(self.session, self.study, code, limit=MOST_LINES)
        log = [line for line in log if line["subject"] not in hidden]
        corrected = {(line["subject"], line["item"]) for line in log if line["action"] == "entry.corrected"}
        queries = self._queries()
        signatures = signatures_of(self.session, number)
        standing = next((each for each in signatures if each.superseded_at is None), None)
        manifest = manifest_of(entries)
        book = Casebook(
            title=gettext("Casebook %s") % code,
            subtitle=f"{self.definition.title} · {self.site}",
            facts=self._facts(),
            signature=self._signed(standing, holds(standing, code, manifest) if standing else False),
            legend=gettext(
                "A bar and “changed” mark an answer that is not what was entered first; every value it had is in the "
                "appendix. Answers in brackets are reasons for having none."
            ),
            contents=gettext("Entries"),
            entries=[self._entry(each, visits, corrected, queries) for each in self._in_order(entries)],
            nothing=gettext("Nothing is entered yet."),
            changed=gettext("changed"),
            appendix=gettext("Appendix: what the log says of these entries"),
            appendix_note=self._note(more, len(log)),
            columns=[gettext(word) for word in ("When", "Who", "What", "Where", "Was", "Is", "Why")],
            log=[self._line(line) for line in log],
            footer=f"{self.definition.short_title} · {code} · {self._moment(self.now)}",
        )
        return casebook_pdf(book, at=self.now, language=self.language)

    def _queries(self) -> list[Query]:
        """Every query of the participant, however many there are."""
        asked: dict[str, Any] = {"by": self.by, "now": self.now, "wanted": Wanted(participant=self.participant.code)}
        pages = every_page(
            lambda cursor: queries_page(self.session, self.study, **asked, cursor=cursor, limit=LARGEST_PAGE)
        )
        return [query for page in pages for query in page.rows]

    def _note(self, more: bool, count: int) -> str:
        zone = self.gettext("Times are those at the site (%s), the oldest first.") % self.timezone
        if not more:
            return zone
        return f"{zone} {self.gettext('Only the newest %s lines are printed; the whole log is in Equipoise.') % count}"

    def _moment(self, at: datetime) -> str:
        return f"{day(today(self.timezone, at), self.language)} {at.astimezone(self.zone):%H:%M}"

    def _facts(self) -> list[tuple[str, str]]:
        one, gettext = self.participant, self.gettext
        dates = [
            (gettext("Screened"), one.screened_on),
            (gettext("Consent"), one.consented_on),
            (gettext("Randomised"), one.randomised_on),
            (gettext("Withdrew"), one.withdrawn_on),
        ]
        said_so = [(label, day(on, self.language)) for label, on in dates if on is not None]
        return [
            (gettext("Participant"), one.code),
            (gettext("Site"), self.site),
            *said_so,
            *self._options(),
            (gettext("Protocol version"), self.definition.version),
            (gettext("Printed"), f"{self._moment(self.now)} ({self.timezone}), {self.by.name}"),
        ]

    def _options(self) -> list[tuple[str, str]]:
        """How each optional consent stands."""
        assert self.participant.id is not None
        labels = {choice.code: choice.label for choice in self.definition.consent.optional}
        gettext = self.gettext
        words = {True: gettext("yes, since %s"), False: gettext("no, since %s")}
        now = options_now(self.session, consents_of(self.session, self.participant.id))
        return [
            (labels.get(code, code), words[each.agreed] % day(each.since, self.language)) for code, each in now.items()
        ]

    def _signed(self, signature: Signature | None, stands: bool) -> list[str]:
        gettext = self.gettext
        if signature is None:
            return [gettext("This casebook is not signed as it stands.")]
        words = [
            f"{signature.signed_name}, {self._moment(signature.signed_at)} ({self.timezone})",
            gettext(MEANINGS.get(signature.meaning, signature.meaning)),
            f"SHA-256 {signature.digest}",
        ]
        if not stands:
            words.append(gettext("What is stored is not what was signed. Tell your data manager."))
        return words

    def _in_order(self, entries: Sequence[EntryState]) -> list[EntryState]:
        places = {
            (visit.code, code): (place, inner)
            for place, visit in enumerate(self.definition.visits)
            for inner, code in enumerate(visit.instruments)
        }
        last = (len(places), 0)
        return sorted(entries, key=lambda each: (places.get((each.visit, each.instrument), last), each.repeat, each.id))

    def _entry(
        self,
        entry: EntryState,
        visits: Mapping[str, ParticipantVisit],
        corrected: set[tuple[str, str]],
        queries: Sequence[Query],
    ) -> dict[str, Any]:
        gettext = self.gettext
        form = self.definition.instrument(entry.instrument)
        visit, planned = visits.get(entry.visit), self.definition.visit(entry.visit)
        facts = []
        if visit is not None and visit.held_on is not None:
            facts.append(gettext("Visit held on %s") % day(visit.held_on, self.language))
            late = (today(self.timezone, entry.created_at) - visit.held_on).days
            if late > 0:
                facts.append(gettext("entered late, %s days after the visit") % late)
        facts.append(
            gettext("version %(version)s, saved %(at)s by %(who)s")
            % {"version": entry.version, "at": self._moment(entry.saved_at), "who": entry.saved_by}
        )
        if entry.is_in_error:
            words = gettext("entered in error, marked by %(who)s: %(why)s")
            facts.append(words % {"who": entry.in_error_by, "why": entry.in_error_why})
        elif not entry.is_complete:
            facts.append(gettext("partial"))
        if entry.signed_at is not None:
            meaning = ENTRY_MEANINGS.get(entry.signed_meaning or "", "")
            word = (
                gettext("signed by %(who)s, %(at)s: %(meaning)s")
                if signature_holds(entry)
                else gettext("signature of %(who)s, %(at)s, does not fit what is stored")
            )
            facts.append(
                word % {"who": entry.signed_name, "at": self._moment(entry.signed_at), "meaning": gettext(meaning)}
            )
        subject = f"entry/{entry.visit}/{entry.name}"
        mine = [each for each in queries if (each.visit, each.name) == (entry.visit, entry.name)]
        items = form.asked(entry.values) if form else ()
        rows = [self._row(entry, item, (subject, item.code) in corrected, mine) for item in items]
        retired = [code for code in entry.values if form is None or form.item(code) is None]
        rows += [self._plain_row(code, entry.values[code], (subject, code) in corrected) for code in retired]
        return {
            "title": f"{planned.label if planned else entry.visit}: "
            + (title_of(form, entry.repeat) if form else entry.name),
            "facts": " · ".join(facts),
            "rows": rows,
        }

    def _row(self, entry: EntryState, item: Item, changed: bool, queries: Sequence[Query]) -> dict[str, Any]:
        value = entry.values.get(item.code)
        words = self._said(item, value)
        notes = []
        if item.code in entry.reasons:
            notes.append(f"{self.gettext('Why it is right:')} {entry.reasons[item.code]}")
        for each in queries:
            if each.item == item.code:
                state = {"open": "Query, open", "answered": "Query, answered", "closed": "Query, closed"}[each.state]
                answer = f" → {each.answer}" if each.answer else ""
                notes.append(f"{self.gettext(state)}: {each.text}{answer}")
        unit = f" {item.unit}" if item.unit and value is not None and not isinstance(value, dict) else ""
        return {
            "label": item.label,
            "value": f"{words}{unit}",
            "changed": changed and item.type is not ItemType.CALCULATED,
            "notes": notes,
        }

    def _plain_row(self, code: str, value: object, changed: bool) -> dict[str, Any]:
        note = self.gettext("asked by an earlier version of the protocol")
        return {"label": code, "value": str(value), "changed": changed, "notes": [note]}

    def _said(self, item: Item, value: object) -> str:
        words = said(item, value, self.definition.missing_codes, self.language)
        if missing_code(value) is not None:
            return f"[{words}]"
        return words or "–"

    def _line(self, line: Mapping[str, Any]) -> list[str]:
        kind, *parts = line["subject"].split("/")
        form = self.definition.instrument(parts[1]) if len(parts) > 1 else None
        visit = self.definition.visit(parts[0]) if kind in ("entry", "query", "double") else None
        item = form.item(line["item"]) if form else None
        numbered = f" {parts[2]}" if form and len(parts) > 2 else ""
        where = [visit.label if visit else "", f"{form.short or form.label}{numbered}" if form else ""]
        where.append(item.label if item else line["item"])
        old, new = (self._value(line[side], item, form) for side in ("old", "new"))
        return [
            self._moment(line["at"]),
            f"{line['username']}, {line['role'].replace('_', ' ')}",
            self.gettext(ACTS.get(line["action"], line["action"])),
            ", ".join(each for each in where if each),
            old,
            new,
            line["why"] or "",
        ]

    def _value(self, text: str | None, item: Item | None, form: Instrument | None) -> str:
        if text is None:
            return ""
        value = json.loads(text)
        sealed = item is not None and item.type in SEALED
        if isinstance(value, dict) and set(value) != {"missing"} and not sealed:
            told = value.get("text") or value.get("name") or value.get("visit") or ""
            return str(told)
        return self._said(item, value) if item is not None and form is not None else str(value)
