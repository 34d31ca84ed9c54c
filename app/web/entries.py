"""How is a form filled in? Questions judged as they are left, drafts, corrections, conflicts, history, signatures.

Nothing typed is lost: a refused save shows the form as it was typed, a draft waits on every device, and who saves upon
an older version sees both side by side.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any
from zoneinfo import ZoneInfo

from fastapi.responses import JSONResponse, RedirectResponse, Response

from app.audit.reads import HistoryLine
from app.capture import actions, reads
from app.capture.actions import Seen
from app.capture.checks import Judgement, events_needed, judge
from app.capture.double.held import Pair
from app.capture.double.reads import pair_at, states_of
from app.capture.double.rules import PENDING, why_not_change, why_withheld
from app.capture.double.rules import why_not_sign as why_not_sign_yet
from app.capture.locks.reads import covering
from app.capture.locks.rules import Kind, Lock, why_closed
from app.capture.queries.rules import Step
from app.capture.reads import Answers, DraftState, Place
from app.capture.rules import (
    IN_ERROR,
    MEANINGS,
    EntryState,
    changes,
    entry_mark,
    form_name,
    named_form,
    same_value,
    signature_holds,
    why_not_enter,
    why_not_repeat,
    why_not_sign,
)
from app.capture.status import EntryStatus
from app.capture.typed import MISSING, WHY, Typed, missing_code, parse_typed, typed_form
from app.capture.verification.actions import verify_items
from app.capture.verification.rules import everything, is_verified, is_wanted, ticked
from app.consent.reads import why_no_consent
from app.dependencies import (
    LARGEST_UPLOAD,
    ChangeInStudy,
    ChangeInTurn,
    Form,
    Here,
    LoggedPageInStudy,
    PageInStudy,
    SameAgainInStudy,
    Sent,
    SentFiles,
    TypedForm,
    kept_file,
    require_signature,
)
from app.foundation import clock
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.foundation.languages import sentence, translations
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.schedule.models import ParticipantVisit
from app.schedule.rules import in_window
from app.schedule.status import VisitStatus
from app.studies.definition import Instrument, Item, ItemType, MissingCode, Visit, cell_parts, unscheduled_number
from app.studies.reads import as_read
from app.studies.reads import definition as definition_of
from app.studies.rules.items import SEALED
from app.web.forms import ENTRY
from app.web.items import (
    FILE,
    NAME,
    REMOVE,
    ROWS,
    STROKES,
    item_views,
    names_of_rows,
    rows_shown,
    sections_of,
    with_other_rows,
)
from app.web.pages import pages
from app.web.queries import STEPS, reply, reply_field, reply_typed, threads_of
from app.web.shell import errors_of, show, status_of, told_all
from app.web.verification import fields_of, onwards
from app.web.visits import planned_visit, typed_day, visit_url
from app.wording import said, title_of

router = pages()

# The form's own fields. No item code has a hyphen, so that none of them can be taken for an answer.
BASE, REASON, SAVE_AS = "base-version", "form-why", "save-as"
TYPED_AT = "typed-at"  # by the clock of a device that had no connection
DRAFT_VERSION, OVER = "draft-version", "over"  # the draft that a page knows of; the one it is saved over
DRAFT_AT = "X-Draft-At"
KEPT = "X-Draft-Kept"  # on a conflict: what was typed is kept all the same, to be compared
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HELD_ON, HELD_WHY = "visit-held-on", "visit-reason"


@dataclass(frozen=True)
class Spot:
    """Where somebody is: which form, at which visit, of whom; in the words of the language in which they read it."""

    here: Here
    participant: Participant
    planned: Visit
    instrument: Instrument
    repeat: int = 1
    language: str = ""

    @property
    def name(self) -> str:
        """How the form is named at its visit."""
        return form_name(self.instrument.code, self.repeat)

    @property
    def reader(self) -> str:
        """The language of whoever reads and types."""
        return self.language or self.here.language

    @property
    def title(self) -> str:
        return title_of(self.instrument, self.repeat)

    @property
    def place_asked(self) -> dict[str, Any]:
        """Which entry of the participant an action is about."""
        return {"visit": self.planned.code, "instrument": self.instrument.code, "repeat": self.repeat}

    @property
    def next_url(self) -> str | None:
        """Where the form is filled in for the next time at this visit, or None."""
        following = max(self.place.begun, self.repeat) + 1
        if following > self.instrument.most_repeats:
            return None
        return f"{self.visit_url}/entries/{form_name(self.instrument.code, following)}"

    @property
    def participant_id(self) -> int:
        assert self.participant.id is not None
        return self.participant.id

    @property
    def url(self) -> str:
        return f"{self.visit_url}/entries/{self.name}"

    @property
    def is_second(self) -> bool:
        """Whether this is the second entry of a form that is entered twice."""
        return False

    @cached_property
    def withheld(self) -> str | None:
        """Why this person is not shown what is saved here, because they could make the second entry; or None."""
        pair = self.pair
        return why_withheld(pair.state, pair.first_by, self.participant.site_id, by=self.here.actor) if pair else None

    @cached_property
    def pair(self) -> Pair | None:
        """Where a form stands that is entered twice."""
        if not self.here.the_study.definition.is_entered_twice(self.planned.code, self.instrument.code):
            return None
        return pair_at(self.here.session, self.participant_id, self.planned.code, self.instrument.code)

    @property
    def visit_url(self) -> str:
        return visit_url(self.here, self.participant.code, self.planned.code)

    @property
    def to_verify(self) -> Collection[str] | None:
        """The items of this form that the study has compared with their source at this visit; None: all of them."""
        return self.here.the_study.definition.items_to_verify(self.planned.code, self.instrument.code)

    @property
    def may_save(self) -> bool:
        return may(self.here.actor, Permission.ENTRY_SAVE, site_id=self.participant.site_id)

    @property
    def may_sign(self) -> bool:
        return may(self.here.actor, Permission.ENTRY_SIGN, site_id=self.participant.site_id)

    @cached_property
    def next_form(self) -> tuple[Instrument, int] | None:
        """The next form of this visit that is not complete and that this person can go on with, and for which time.

        In the order of the plan from this one on, then from its beginning; None when there is none.
        """
        definition, codes = self.here.the_study.definition, self.planned.instruments
        begun = self.begun_soon()
        pairs = states_of(self.here.session, definition, self.participant_id)
        at = codes.index(self.instrument.code)
        for code in [*codes[at + 1 :], *codes[:at]]:
            state, first = pairs.get((self.planned.code, code), (None, ""))
            waits = state in PENDING and not why_withheld(state, first, self.participant.site_id, by=self.here.actor)
            repeat, form = begun.get(code, 1), definition.instrument(code)
            if form is not None and repeat is not None and not waits:
                return form, repeat
        return None

    def begin(self) -> None:
        """Begin what the form wants to know of this place: none of it waits for the other."""
        _ = self.stored_soon, self.begun_soon, self.threads_soon

    @cached_property
    def stored_soon(self) -> Callable[[], reads.Stored]:
        """What is kept of this place, in one statement."""
        read, asked = reads.stored_at, self.place_asked
        return self.here.soon(read, self.here.session, self.participant_id, by=self.here.actor, **asked)

    @cached_property
    def begun_soon(self) -> Callable[[], dict[str, int | None]]:
        """Which forms of the visit are begun."""
        return self.here.soon(reads.forms_begun, self.here.session, self.participant_id, self.planned.code)

    @cached_property
    def threads_soon(self) -> Callable[[], dict[str, list[dict[str, Any]]]]:
        """The queries that stand here."""
        return self.here.soon(threads_of, self.here, self.participant_id, **self.place_asked)

    @cached_property
    def stored(self) -> reads.Stored:
        return self.stored_soon()

    @property
    def visit(self) -> ParticipantVisit:
        if self.stored.visit is None:
            raise NotFound
        return self.stored.visit

    @property
    def place(self) -> Place:
        return self.stored.place

    @property
    def entry(self) -> EntryState | None:
        return self.stored.entry

    @cached_property
    def made_under(self) -> tuple[str, str] | None:
        """The version this was saved under and the one it is judged by now, where they have another form; or None."""
        study = self.here.the_study.own.at(self.participant.site_id)
        if self.entry is None or self.entry.study_version_id == study.version_id:
            return None
        made, code = definition_of(self.here.session, self.entry.study_version_id), self.instrument.code
        if made.instrument(code) == study.definition.instrument(code):
            return None
        return made.version, study.definition.version

    @cached_property
    def draft(self) -> DraftState | None:
        """This person's draft, unless it says what is saved anyway."""
        if self.place.draft_at is None:
            return None
        draft = reads.draft_of(self.here.session, self.participant_id, by=self.here.actor, **self.place_asked)
        if draft is None:
            return None
        return draft if self.says_more(draft.typed) else None

    def says_more(self, form: Mapping[str, list[str]]) -> bool:
        """Whether something is typed in this form that is not saved."""
        typed = parse_typed(self.instrument, form, language=self.reader)
        beside = [REASON, *map(reply_field, self.asked_about)]
        if typed.problems or any((form.get(name) or [""])[-1].strip() for name in beside) or _says_day(self, form):
            return True
        return typed != parse_typed(self.instrument, self.stored_form(), language=self.reader)

    @cached_property
    def answers(self) -> Answers:
        """The participant's other answers, as far as this form refers to any."""
        events = events_needed(self.instrument, self.planned.code)
        if events - {reads.SCREENING}:
            return reads.answers_of(self.here.session, self.here.the_study, self.participant_id)
        return reads.answers_from(self.place.screening, ()) if events else {}

    @cached_property
    def broken_signature(self) -> HistoryLine | None:
        """The latest signature that a change has ended, when no other one stands in its place."""
        if self.entry is None or self.entry.is_signed or self.entry.version < 2:
            return None
        lines = reads.history(
            self.here.session,
            self.here.the_study,
            self.participant.code,
            self.planned.code,
            self.instrument.code,
            item="",
            repeat=self.repeat,
        )
        return next((line for line in reversed(lines) if line.action == "entry.signature_superseded"), None)

    @cached_property
    def lock(self) -> Lock | None:
        """What freezes or locks this visit, or None."""
        if self.place.lock is None:
            return None
        return covering(self.here.session, self.here.the_study, self.participant_id, self.planned.code)

    @property
    def is_locked(self) -> bool:
        return self.lock is not None and self.lock.kind is Kind.LOCKED

    @cached_property
    def threads(self) -> dict[str, list[dict[str, Any]]]:
        """Item code -> its queries, as a page draws them."""
        if self.entry is None:
            return {}
        return self.threads_soon()

    @property
    def asked_about(self) -> dict[int, str]:
        """The queries that were raised here: number -> item code."""
        return {each["query"].number: item for item, some in self.threads.items() for each in some}

    @cached_property
    def why_not_enter(self) -> str | None:
        """Why nothing can be entered here, or None."""
        pair = self.pair
        return self.closed_to() or (why_not_change(pair.state, pair.first_by, by=self.here.actor) if pair else None)

    def closed_to(self) -> str | None:
        """Why nobody can enter anything here, whoever made which entry, or None."""
        place = self.place
        reason = why_not_enter(
            self.here.the_study.definition,
            self.planned.code,
            self.instrument.code,
            screen_failed=place.screen_failed,
            is_scheduled=place.is_scheduled,
            stopped=place.stopped,
            is_missed=place.is_missed,
        ) or why_not_repeat(self.instrument, self.repeat, place.begun)
        if reason is None and self.entry is not None and self.entry.is_in_error:
            reason = IN_ERROR
        definition = self.here.the_study.at(self.participant.site_id).definition
        if reason is None:
            reason = why_no_consent(
                self.here.session,
                self.here.the_study,
                self.participant,
                before="entries",
                now=self.here.now,
                consented=place.consented,
            )
        return reason or why_closed(definition, self.lock)

    def judge(self, values: Mapping[str, object], reasons: Mapping[str, str], form: Form | None = None) -> Judgement:
        """The judgement on these values here and now; of the rows a form shows, also those still blank."""
        local = self.here.now.astimezone(ZoneInfo(self.place.timezone))
        return judge(
            self.here.the_study.definition,
            self.instrument,
            self.planned.code,
            values,
            reasons,
            answers=self.answers,
            today=local.date(),
            now=local,
            repeat=self.repeat,
            blank=rows_shown(self.instrument, form) if form is not None else {},
        )

    def stored_form(self) -> dict[str, list[str]]:
        """What is saved, as form fields."""
        if self.entry is None:
            return {}
        return typed_form(self.instrument, self.entry.values, self.entry.reasons, language=self.reader)

    def said(self, item: Item, value: object) -> str:
        """A stored value in the words of whoever reads."""
        return said(item, value, self.missing_codes, self.reader)

    @property
    def missing_codes(self) -> tuple[MissingCode, ...]:
        """The reasons why there is no answer, as the form is worded."""
        return self.here.read_study.definition.missing_codes


def _spot(here: Here, code: str, visit: str, instrument: str) -> Spot:
    """Where somebody is; Refused where they must not see what is saved, because they could make the second entry."""
    spot = spot_of(here, code, visit, instrument)
    if spot.withheld is not None:
        subject = f"{spot.participant.code}/entry/{visit}/{instrument}"
        raise Refused(spot.withheld, action="entry.read", subject=subject)
    return spot


def spot_of(here: Here, code: str, visit: str, instrument: str) -> Spot:
    """NotFound unless this person may read entries of this participant, and the plan has this form at this visit."""
    study, own = here.read_study, here.the_study.own.definition
    planned = planned_visit(here, visit)
    code_of_form, repeat = named_form(instrument)
    form = study.definition.instrument(code_of_form)
    if form is None or code_of_form not in planned.instruments:
        raise NotFound
    language = own.language if here.in_study_words else here.language
    who = here.soon(
        participant_by_code, here.session, here.the_study, code, by=here.actor, permission=Permission.ENTRY_READ
    )
    worded = here.soon(as_read, here.session, study.id, form, language, own=own.language)
    spot = Spot(here, who(), planned, worded(), repeat)
    if repeat != 1 and spot.entry is None and why_not_repeat(form, repeat, spot.place.begun) is not None:
        raise NotFound
    return spot


@router.get(ENTRY, name="entries.form")
def form(here: PageInStudy, code: str, visit: str, instrument: str) -> Response:
    """The form to fill in or correct; who may only read sees what is saved."""
    spot = spot_of(here, code, visit, instrument)
    spot.begin()
    if not spot.place.is_scheduled:
        raise NotFound
    if spot.withheld is not None:
        return RedirectResponse(f"{spot.url}/second", status_code=303)
    if not spot.may_save or spot.why_not_enter is not None:
        return _record_page(spot)
    return form_page(spot)


@router.post(ENTRY, name="entries.save", max_body_size=LARGEST_UPLOAD)
def save(here: ChangeInTurn, code: str, visit: str, instrument: str, sent: SentFiles) -> Response:
    """Save the answers; what stands against it is said at the questions, with everything typed and sent still there."""
    spot = spot_of(here, code, visit, instrument)
    if spot.withheld is not None and spot.may_save:
        # Somebody made the first entry meanwhile. What was typed is kept, and goes on as the second.
        if (other := unseen_draft(spot)) is not None:
            here.release_key()
            here.shows()
            return form_page(spot, typed=lists(here.form), elsewhere=other)
        _keep(spot)
        return here.redirect(f"{spot.url}/second", done="second_instead")
    if (changed := with_other_rows(spot.instrument, here.form, here.value(SAVE_AS))) is not None:
        require(here.actor, Permission.ENTRY_SAVE, site_id=spot.participant.site_id, action="entry.save")
        here.release_key()  # nothing is saved: the same form goes on
        here.shows()
        return form_page(spot, typed=changed)
    if spot.may_save and (other := unseen_draft(spot)) is not None:
        here.release_key()
        typed_again = attached_again(spot, sent)
        here.shows()
        return form_page(spot, typed=typed_again, elsewhere=other)
    step, _, asked = here.value(SAVE_AS).partition("-")
    if step in STEPS and number(asked) in spot.asked_about:
        return _reply(spot, sent, number(asked), Step(step))
    try:
        form, unkept = attached(spot, sent)
        typed = parse_typed(spot.instrument, form, language=spot.reader)
        unheld = _hold_with_it(spot)
        saved = actions.save_entry(
            here.session,
            here.the_study,
            spot.participant,
            **spot.place_asked,
            values=typed.values,
            reasons=typed.reasons,
            base_version=number(here.value(BASE)),
            why=here.value(REASON) or None,
            by=here.actor,
            now=here.now,
            accept_partial=here.value(SAVE_AS) == "partial",
            typed_at=_typed_at(here),
            problems=[*unheld, *unkept, *asked_here(spot, typed)],
            worded=spot.instrument,
            replies={one: said for one in _replied(spot, here.form) if (said := reply_typed(here, one))[0].strip()},
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return form_page(spot, typed=attached_again(spot, sent), problem=problem)
    if here.value(SAVE_AS) == "next":
        following = spot.next_form
        if following is None:
            return here.redirect(spot.visit_url, done="saved_last")
        form_after, repeat = following
        return here.redirect(f"{spot.visit_url}/entries/{form_name(form_after.code, repeat)}", done="saved_next")
    if here.value(SAVE_AS) == "sign":
        return here.redirect(f"{spot.visit_url}/sign", done="saved_last")
    if here.value(SAVE_AS) == "another" and spot.next_url is not None:
        return here.redirect(spot.next_url, done="saved")
    return here.redirect(spot.visit_url, done="saved" if saved.status is EntryStatus.COMPLETE else "saved_partial")


def _replied(spot: Spot, form: Form) -> list[int]:
    """The queries of this entry that have a box in this form."""
    if not any(name.startswith("query-") for name in form):
        return []
    return [number for number in spot.asked_about if reply_field(number) in form]


def _reply(spot: Spot, sent: Mapping[str, Sent], number: int, step: Step) -> Response:
    """Say something to one query and save nothing else: what is typed in the form goes on as a draft."""
    here = spot.here
    try:
        done = reply(here, number, step)
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        field, told = reply_field(number), problem.problems if isinstance(problem, Invalid) else []
        problems = [replace(each, field=field) for each in told] or [FieldProblem(field, "state", str(problem))]
        return form_page(spot, typed=attached_again(spot, sent), problem=Invalid(problems))
    here.form = {**attached_again(spot, sent), reply_field(number): []}
    if spot.says_more(lists(here.form)):
        _keep(spot)
    else:
        actions.drop_draft(here.session, spot.participant_id, by=here.actor, **spot.place_asked)
    return here.redirect(f"{spot.url}?done={done}#query-{spot.asked_about[number]}")


def _typed_at(here: Here) -> datetime | None:
    """When a device without a connection says that it was typed; None when it was sent at once."""
    try:
        at = datetime.fromisoformat(here.value(TYPED_AT))
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def attached(spot: Spot, sent: Mapping[str, Sent]) -> tuple[dict[str, list[str]], list[FieldProblem]]:
    """The form with what stands for the files and signatures that came with it, which are kept; what cannot be."""
    form, problems = lists(spot.here.form), []
    for item in spot.instrument.items:
        if item.type not in SEALED:
            continue
        if spot.here.value(item.code + REMOVE):
            form[item.code] = []
        about: dict[str, Any] = {
            "visit": spot.planned.code,
            "instrument": spot.instrument.code,
            "item": item.code,
            "by": spot.here.actor,
            "now": spot.here.now,
            "worded": spot.instrument,
        }
        given = (spot.here.session, spot.here.the_study, spot.participant)
        file = sent.get(item.code + FILE)
        strokes, name = spot.here.value(item.code + STROKES), spot.here.value(item.code + NAME)
        try:
            if item.type is ItemType.FILE and file is not None:
                value = actions.keep_file(*given, data=file.data, name=file.name, **about)
            elif item.type is ItemType.SIGNATURE and (strokes or name):
                value = actions.keep_signature(*given, strokes=strokes, name=name, **about)
            else:
                continue
        except Invalid as problem:
            problems += problem.problems
        else:
            form[item.code] = [json.dumps(value, sort_keys=True, ensure_ascii=False)]
            form.pop(item.code + STROKES, None)
            form.pop(item.code + NAME, None)
            form.pop(item.code + MISSING, None)
    return form, problems


def attached_again(spot: Spot, sent: Mapping[str, Sent]) -> dict[str, list[str]]:
    """The form as it was sent, after saving it was refused: what came with it is kept all the same, where it may be."""
    try:
        return attached(spot, sent)[0]
    except (Conflict, Refused):
        return lists(spot.here.form)


def _hold_with_it(spot: Spot) -> list[FieldProblem]:
    """Record the day of the visit with its first form, where the form asked for it; what stands against that."""
    here = spot.here
    if HELD_ON not in here.form or spot.visit.status != VisitStatus.PLANNED:
        return []
    try:
        held_on = typed_day(here, HELD_ON)
    except Invalid as problem:
        return list(problem.problems)
    return actions.record_with_entry(
        here.session,
        here.the_study,
        spot.participant,
        spot.visit,
        held_on=held_on,
        reason=here.value(HELD_WHY) or None,
        named={"held_on": HELD_ON, "reason": HELD_WHY},
        by=here.actor,
        now=here.now,
    )


@router.post(ENTRY + "/look", name="entries.look")
def look(here: PageInStudy, form: TypedForm, code: str, visit: str, instrument: str) -> Response:
    """What is hidden, what does not hold, and the scores, of answers that are not saved yet. Nothing is kept."""
    spot = _spot(here, code, visit, instrument)
    require(here.actor, Permission.ENTRY_SAVE, site_id=spot.participant.site_id, action="entry.look")
    return JSONResponse(judged_look(spot, form))


def judged_look(spot: Spot, form: Form) -> dict[str, Any]:
    """What the page is told of answers that are not saved: hidden questions, errors, doubts, scores, progress."""
    typed = parse_typed(spot.instrument, lists(form), language=spot.reader)
    judgement = spot.judge(typed.values, typed.reasons, form)
    errors = {problem.field: problem.message for problem in reversed(typed.problems)}
    errors = {**{finding.item: finding.message for finding in reversed(judgement.hard)}, **errors}
    findings: dict[str, str] = {}
    for finding in judgement.soft:
        findings[finding.item] = f"{findings.get(finding.item, '')} {finding.message}".strip()
    items = spot.instrument.asked([*form, *names_of_rows(spot.instrument, form)])
    blank = [item.code for item in items if item.code not in typed.values and item.code not in errors]
    problems = [FieldProblem(code, "look", message) for code, message in errors.items()]
    sections = form_sections(spot, form, problems=problems, judgement=judgement)
    done, total = progress_of(sections)
    counts = [(section["done"], section["total"]) for section in sections] + [(done, total)]
    language = spot.reader
    say = partial(sentence, language=language)
    of = translations(language).gettext("%(done)s of %(total)s")
    return {
        "corrects": _corrects(spot, judgement),
        "hidden": sorted(judgement.hidden),
        "errors": {code: say(message) for code, message in errors.items() if code not in judgement.hidden},
        "findings": {code: say(message) for code, message in findings.items()},
        "blank": blank,
        "computed": {
            item.code: spot.said(item, judgement.values[item.code])
            for item in items
            if item.type is ItemType.CALCULATED and item.code in judgement.values
        },
        "progress": [[done, total, of % {"done": done, "total": total}] for done, total in counts],
    }


@router.put(ENTRY + "/draft", name="entries.keep_draft")
def keep_draft(here: SameAgainInStudy, code: str, visit: str, instrument: str) -> Response:
    """Keep what is typed so far, for this person alone, on every device of theirs."""
    return keep_draft_at(spot_of(here, code, visit, instrument))


def keep_draft_at(spot: Spot) -> Response:
    """Keep what is typed in this form; the answer says whether it was typed upon what is saved now."""
    here = spot.here
    base, entry = number(here.value(BASE)), spot.entry
    is_current = base == (entry.version if entry else 0)
    # What arrives after one's own save was typed before it; after a colleague's save it is kept, to be compared. So is
    # what a device held back without a connection.
    other, place, held_back = None, None, _typed_at(here) is not None
    is_kept = is_current or held_back or entry is None or entry.saved_by != here.actor.username
    if is_kept:
        try:
            place = _keep(spot)
        except Conflict:
            other = reads.draft_of(here.session, spot.participant_id, by=here.actor, **spot.place_asked)
        except Refused as problem:  # not a conflict: the page says that it is not kept, and a save says why
            here.refuse(problem)
            return Response(status_code=422)
    if other is not None:
        return _elsewhere(spot, other)
    if not is_current or place is None:
        return Response(status_code=409, headers={KEPT: "yes"} if is_kept else {})
    at = f"{here.now.astimezone(ZoneInfo(place.timezone)):%H:%M}"
    known = {"X-Draft-Version": str(base), "X-Draft-Time": at, DRAFT_AT: draft_token(here.now)}
    return Response(status_code=204, headers=known)


def _elsewhere(spot: Spot, other: DraftState) -> Response:
    """Both drafts of somebody who has the form open twice, for the page whose typing was not kept: a part of a page."""
    part = show(
        spot.here,
        "entries/_elsewhere.html",
        status_code=409,
        spot=spot,
        elsewhere=other,
        twice=_typed_twice(spot, other.typed, typed_in(spot)),
        timezone=spot.place.timezone,
        in_page=False,
    )
    part.headers[DRAFT_AT] = draft_token(other.saved_at)
    return part


def _typed_twice(spot: Spot, there: dict[str, list[str]], here: dict[str, list[str]]) -> list[dict[str, str]]:
    """Where what was typed elsewhere is not what was typed here, item by item; as typed where it cannot be read."""
    read = [parse_typed(spot.instrument, each, language=spot.reader) for each in (there, here)]
    rows = []
    for item in spot.instrument.asked([*there, *here]):
        said = []
        for typed, texts in zip(read, (there, here), strict=True):
            unread = any(each.field == item.code for each in typed.problems)
            value = typed.values.get(item.code)
            said.append(", ".join(texts.get(item.code, ())) if unread else spot.said(item, value))
        if said[0] != said[1]:
            rows.append({"label": item.label, "there": said[0], "here": said[1]})
    why = [(each.get(REASON) or [""])[-1].strip() for each in (there, here)]
    if why[0] != why[1]:
        rows.append({"label": spot.here.tell("Why a saved answer changes"), "there": why[0], "here": why[1]})
    return rows


def draft_token(saved_at: datetime) -> str:
    """When a draft was kept, as a page knows it: microseconds since 1970."""
    return str((saved_at - EPOCH) // timedelta(microseconds=1))


def _seen(here: Here) -> Seen | None:
    """What the page that sent this knows of the draft; None of a page without scripts, and of one that is older.

    A page is told by the CSRF token that was made for it alone.
    """
    if DRAFT_VERSION not in here.form:
        return None
    token, known = here.value("csrf_token") or here.request.headers.get("X-CSRF-Token", ""), here.value(DRAFT_VERSION)
    fine = known.isdecimal() and known.isascii() and len(known) <= 16
    return Seen(token.partition(".")[0][:16], EPOCH + timedelta(microseconds=int(known)) if fine else None)


def typed_in(spot: Spot) -> dict[str, list[str]]:
    """What a person typed into the form, without what is the form's own."""
    # A day that was taken out comes back as taken out, not as today.
    typed = {
        name: texts
        for name, texts in lists(spot.here.form).items()
        if _is_typed(name) and (any(texts) or name == HELD_ON)
    }
    own = all(name.startswith(ROWS) or name in (HELD_ON, HELD_WHY) for name in typed)
    return {} if own and not _says_day(spot, typed) else typed


def unseen_draft(spot: Spot) -> DraftState | None:
    """What the same person typed into this form elsewhere, and this page does not know of; None when there is nothing.

    What the person has seen and saves over (`OVER`) is known.
    """
    seen = _seen(spot.here)
    if seen is None:
        return None
    draft = reads.draft_of(spot.here.session, spot.participant_id, by=spot.here.actor, **spot.place_asked)
    if draft is None or draft_token(draft.saved_at) == spot.here.value(OVER):
        return None
    return draft if actions.is_unseen(draft, typed_in(spot), seen) else None


def _keep(spot: Spot) -> Place:
    here = spot.here
    typed = typed_in(spot)
    return actions.keep_draft(
        here.session,
        here.the_study,
        spot.participant,
        **spot.place_asked,
        typed=typed,
        base_version=0 if spot.withheld is not None else number(here.value(BASE)),
        by=here.actor,
        now=here.now,
        seen=_seen(here),
    )


@router.post(ENTRY + "/draft", name="entries.drop_draft")
def drop_draft(here: ChangeInStudy, code: str, visit: str, instrument: str) -> Response:
    """Throw the draft away and show what is saved."""
    spot = spot_of(here, code, visit, instrument)
    actions.drop_draft(here.session, spot.participant_id, by=here.actor, **spot.place_asked)
    return here.redirect(spot.url, done="draft_dropped")


@router.get(ENTRY + "/draft", name="entries.draft")
def draft(here: PageInStudy, code: str, visit: str, instrument: str) -> Response:
    """The form shows the draft; there is no other page of it."""
    return RedirectResponse(spot_of(here, code, visit, instrument).url, status_code=303)


@router.get(ENTRY + "/record", name="entries.record")
def record(here: PageInStudy, code: str, visit: str, instrument: str) -> Response:
    """What is saved, with its signature: to read and to print."""
    spot = _spot(here, code, visit, instrument)
    if not spot.place.is_scheduled:
        raise NotFound
    return _record_page(spot)


@router.get(ENTRY + "/history/{item}", name="entries.history")
def history(here: PageInStudy, code: str, visit: str, instrument: str, item: str) -> Response:
    """Every value of one question: who, when, what it was, what it became, and why."""
    spot = _spot(here, code, visit, instrument)
    asked = spot.instrument.item(item)
    if asked is None:
        raise NotFound
    lines = reads.history(here.session, here.the_study, code, item=item, **spot.place_asked)
    return show(
        here,
        "entries/history.html",
        spot=spot,
        item=asked,
        lines=[
            {
                "at": line.at,
                "who": line.username,
                "role": line.role,
                "action": line.action,
                "old": spot.said(asked, line.old),
                "new": spot.said(asked, line.new),
                "old_url": _file_url(spot, asked, line.old, earlier=True),
                "why": line.why,
            }
            for line in reversed(lines)
        ],
    )


@router.get(ENTRY + "/files/{item}", name="entries.file")
def file(here: LoggedPageInStudy, code: str, visit: str, instrument: str, item: str) -> Response:
    """A file or a signature that is kept with an entry; that it was shown is in the log."""
    spot = _spot(here, code, visit, instrument)
    shown = actions.show_sealed(
        here.session,
        here.the_study,
        spot.participant,
        visit=visit,
        instrument=instrument,
        item=item,
        sha256=here.request.query_params.get("sha256"),
        by=here.actor,
        now=here.now,
    )
    if shown is None:
        raise NotFound
    return kept_file(shown.data, shown.media_type, shown.name, shown.sha256)


@router.get(ENTRY + "/sign", name="entries.sign_form")
def sign_form(here: PageInStudy, code: str, visit: str, instrument: str) -> Response:
    """What would be signed, and what the signature would mean."""
    return _sign_page(_spot(here, code, visit, instrument))


@router.post(ENTRY + "/sign", name="entries.sign")
def sign(here: ChangeInStudy, code: str, visit: str, instrument: str) -> Response:
    """Sign the entry as it was shown, after proving again who signs (21 CFR 11.50, 11.200)."""
    spot = _spot(here, code, visit, instrument)
    subject = f"{spot.participant.code}/entry/{visit}/{instrument}"
    require(here.actor, Permission.ENTRY_SIGN, site_id=spot.participant.site_id, action="entry.sign", subject=subject)
    try:
        actions.sign_entry(
            here.session,
            here.the_study,
            spot.participant,
            **spot.place_asked,
            version=number(here.value("version")),
            meaning=require_signature(here, MEANINGS),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _sign_page(spot, problem)
    return here.redirect(f"{spot.url}/record", done="signed")


@router.post(ENTRY + "/verified", name="entries.verify")
def verify(here: ChangeInStudy, code: str, visit: str, instrument: str) -> Response:
    """Say of the ticked answers that they agree with their source; of the others not (any more)."""
    spot = _spot(here, code, visit, instrument)
    subject = f"{spot.participant.code}/entry/{visit}/{instrument}"
    require(
        here.actor, Permission.ENTRY_VERIFY, site_id=spot.participant.site_id, action="entry.verify", subject=subject
    )
    items, left_out = list(here.form.get("item", ())), False
    wanted = spot.to_verify
    if (entry := spot.entry) is not None:
        every = everything(entry, wanted)
        if here.value("which") == "everything":
            # What somebody has just put in question is not verified with the rest; what was verified before stays so.
            asked = {item for item, some in spot.threads.items() if any(not each["query"].is_closed for each in some)}
            items = [item for item in every if item not in asked or is_verified(entry, item)]
            left_out = len(items) < len(every)
        else:
            items = ticked(entry, items, {row["code"] for section in _rows(spot) for row in section["items"]}, wanted)
    try:
        verify_items(
            here.session,
            here.the_study,
            spot.participant,
            **spot.place_asked,
            items=items,
            version=number(here.value("version")),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _record_page(spot, problem)
    way_on = fields_of(here)
    return here.redirect(f"{spot.url}/record", **way_on, done="verified_but_asked" if left_out else "verified")


@router.post(ENTRY + "/in-error", name="entries.mark_in_error")
def mark_in_error(here: ChangeInStudy, code: str, visit: str, instrument: str) -> Response:
    """Mark one that was added by mistake as entered in error, or take that back; nothing is deleted."""
    spot = _spot(here, code, visit, instrument)
    undo = here.value("which") == "counts"
    action = "entry.restore" if undo else "entry.mark_in_error"
    subject = f"{spot.participant.code}/entry/{visit}/{instrument}"
    require(here.actor, Permission.ENTRY_SAVE, site_id=spot.participant.site_id, action=action, subject=subject)
    try:
        actions.mark_in_error(
            here.session,
            here.the_study,
            spot.participant,
            **spot.place_asked,
            version=number(here.value("version")),
            why=here.value("why"),
            by=here.actor,
            now=here.now,
            undo=undo,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _record_page(spot, problem)
    return here.redirect(f"{spot.url}/record", done="restored" if undo else "in_error")


@router.get(ENTRY + "/in-error", name="entries.in_error_form")
@router.get(ENTRY + "/verified", name="entries.verify_form")
def verify_form(here: PageInStudy, code: str, visit: str, instrument: str) -> Response:
    """Where somebody lands who goes on without sending the form again: what is saved."""
    return RedirectResponse(f"{_spot(here, code, visit, instrument).url}/record", status_code=303)


# Pages


def form_page(
    spot: Spot,
    *,
    typed: dict[str, list[str]] | None = None,
    problem: Invalid | Conflict | Refused | None = None,
    elsewhere: DraftState | None = None,
) -> Response:
    """The form: as it was just typed, else as this person's draft has it, else as it is saved.

    `elsewhere`: what they typed in another window meanwhile, for which nothing was saved: both are shown.
    """
    here, entry = spot.here, spot.entry
    kept = spot.draft if typed is None else None
    shown = typed if typed is not None else kept.typed if kept is not None else spot.stored_form()
    read = parse_typed(spot.instrument, shown, language=spot.reader)
    judgement = spot.judge(read.values, read.reasons, shown)
    problems = list(problem.problems) if isinstance(problem, Invalid) else []
    known = {each.field for each in problems}
    problems += [each for each in read.problems if each.field not in known and each.field not in judgement.hidden]
    known |= {each.field for each in problems}
    problems += [
        FieldProblem(finding.item, finding.rule, finding.message)
        for finding in judgement.hard
        if finding.item not in known and finding.item not in judgement.hidden
    ]
    items = spot.instrument.asked([*shown, *names_of_rows(spot.instrument, shown), *judgement.missing_required])
    places = {item.code: place for place, item in enumerate(items)}
    problems.sort(key=lambda each: places.get(each.field.removesuffix(WHY), len(places)))
    version = entry.version if entry else 0
    is_stale = isinstance(problem, Conflict) or (kept is not None and kept.base_version != version)
    differences = _differences(spot, read, shown) if is_stale else []
    sections = form_sections(
        spot,
        shown,
        problems=problems,
        judgement=judgement,
        saved={row["code"]: row["saved"] for row in differences} if entry else {},
        has_history=entry is not None,
    )
    done, total = progress_of(sections)
    ids = {item.code for item in items}
    following = None if spot.is_second or is_stale else spot.next_form
    return show(
        here,
        "entries/form.html",
        status_code=409
        if elsewhere is not None or not isinstance(problem, Invalid | None)
        else 422
        if problem
        else 200,
        spot=spot,
        entry=entry,
        version=version,
        elsewhere=elsewhere,
        twice=_typed_twice(spot, elsewhere.typed, shown) if elsewhere is not None else [],
        over=draft_token(elsewhere.saved_at) if elsewhere is not None else "",
        draft_known=spot.here.value(DRAFT_VERSION)
        if elsewhere is not None
        else draft_token(spot.place.draft_at)
        if spot.place.draft_at is not None
        else "",
        in_page=True,
        sections=sections,
        done=done,
        total=total,
        problems=[(_anchor(each.field, ids), each.message) for each in problems]
        if isinstance(problem, Invalid)
        else [],
        refusal=problem.reason if isinstance(problem, Refused) else None,
        is_stale=is_stale,
        is_own=entry is not None and entry.saved_by == spot.here.actor.username,
        differences=differences,
        draft=kept,
        corrects=is_stale or _corrects(spot, judgement),
        has_scale=any(item.type is ItemType.SCALE for item in spot.instrument.items),
        is_typed=typed is not None,
        draft_time=f"{kept.saved_at.astimezone(ZoneInfo(spot.place.timezone)):%H:%M}" if kept else None,
        why=(shown.get(REASON) or [""])[-1] if typed is not None or kept is not None else "",
        why_error=next((each.message for each in problems if each.field == "why"), None),
        replying=_replying(spot, shown, problems),
        held=_to_hold(spot, shown, problems),
        has_sealed=any(item.type in SEALED for item in spot.instrument.items),
        following=title_of(*following, short=True) if following else None,
        may_sign_visit=spot.may_sign and not spot.is_second and not is_stale,
        **_facts(spot),
    )


def _replying(spot: Spot, typed: Mapping[str, list[str]], problems: Sequence[FieldProblem]) -> dict[int, Any]:
    """Query number -> what is typed in its box and not sent, and what is wrong with that."""
    errors = {each.field: each.message for each in problems}
    return {
        number: {"text": (typed[field] or [""])[-1], "error": errors.get(field)}
        for number in _replied(spot, typed)
        if any(typed[field := reply_field(number)]) or field in errors
    }


def _to_hold(
    spot: Spot, typed: Mapping[str, list[str]], problems: Sequence[FieldProblem] = ()
) -> dict[str, Any] | None:
    """The question on which day the visit was held, while nobody has recorded it, with what was typed; None otherwise.

    Today is filled in only where it lies in the window: a visit that is months away is more likely the wrong one.
    """
    visit = spot.visit
    if (
        spot.is_second
        or visit.status != VisitStatus.PLANNED
        or not may(spot.here.actor, Permission.VISIT_RECORD, site_id=spot.participant.site_id)
    ):
        return None
    today = clock.today(spot.place.timezone, spot.here.now)
    inside = in_window(visit, today)
    asked = {name: (typed[name] or [""])[-1] for name in (HELD_ON, HELD_WHY) if name in typed}
    return {
        "visit": visit,
        "today": today,
        "inside": inside,
        "days": abs((visit.opens_on - today).days if today < visit.opens_on else (today - visit.closes_on).days),
        "early": today < visit.opens_on,
        "on": asked.get(HELD_ON, today.isoformat() if inside else ""),
        "reason": asked.get(HELD_WHY, ""),
        "errors": {each.field: each.message for each in problems if each.field in (HELD_ON, HELD_WHY)},
    }


def _says_day(spot: Spot, typed: Mapping[str, list[str]]) -> bool:
    """Whether the day of the visit, or why it is outside its window, was typed: not what is filled in anyway."""
    given, said = _to_hold(spot, {}), _to_hold(spot, typed)
    return given is not None and said is not None and (given["on"], given["reason"]) != (said["on"], said["reason"])


def _record_page(spot: Spot, problem: Invalid | Conflict | Refused | None = None) -> Response:
    may_verify = may(spot.here.actor, Permission.ENTRY_VERIFY, site_id=spot.participant.site_id)
    return show(
        spot.here,
        "entries/record.html",
        status_code=status_of(problem),
        spot=spot,
        entry=spot.entry,
        rows=_rows(spot),
        may_verify=may_verify and spot.entry is not None and not spot.entry.is_in_error and not spot.is_locked,
        to_verify=spot.to_verify,
        onwards=onwards(spot.here),
        # Taking it back is what a mark in error waits for; everything else waits for that.
        may_mark=spot.may_save and spot.entry is not None and spot.lock is None and not spot.is_second,
        refusal=problem.reason if problem is not None and not isinstance(problem, Invalid) else None,
        errors=errors_of(problem),
        why=spot.here.value("why") if problem is not None else "",
        # Where nothing can be entered just now, what was typed before is read here: there is no form that shows it.
        unsaved=_typed_twice(spot, spot.stored_form(), spot.draft.typed) if spot.why_not_enter and spot.draft else [],
        **_facts(spot),
    )


def _sign_page(spot: Spot, problem: Invalid | Conflict | Refused | None = None) -> Response:
    entry = spot.entry
    judgement = None
    if entry is not None:
        values = {code: value for code, value in entry.values.items() if spot.instrument.item(code) is not None}
        judgement = spot.judge(values, entry.reasons)
    return show(
        spot.here,
        "entries/sign.html",
        status_code=200 if problem is None else 422 if isinstance(problem, Invalid) else 409,
        spot=spot,
        entry=entry,
        rows=_rows(spot),
        meanings=told_all(spot.here, MEANINGS),
        meaning=spot.here.value("meaning"),
        reason=why_not(spot.here.actor, Permission.ENTRY_SIGN, site_id=spot.participant.site_id)
        or why_not_sign_yet(spot.here.the_study.definition, spot.pair.state if spot.pair else None)
        or why_not_sign(entry, spot.instrument, judgement),
        refusal=problem.reason if problem is not None and not isinstance(problem, Invalid) else None,
        errors=errors_of(problem),
        **_facts(spot),
    )


def _facts(spot: Spot) -> dict[str, Any]:
    """What every page of an entry says of it: how far it is, when it was entered, and who signed it."""
    entry, visit = spot.entry, spot.visit
    today = clock.today(spot.place.timezone, spot.here.now)
    late_by = None
    if entry is not None and visit.held_on is not None:
        late_by = (clock.today(spot.place.timezone, entry.created_at) - visit.held_on).days
    status = "empty"
    if entry is not None:
        status = entry_mark(
            entry.status,
            has_query=any(not each["query"].is_closed for some in spot.threads.values() for each in some),
            is_signed=entry.is_signed,
            is_verified=entry.verified_at is not None,
            is_locked=spot.is_locked,
            pair=spot.pair.state if spot.pair else None,
        )
        if entry.is_in_error:
            status = "none"
    elif spot.draft is not None:
        status = "draft"
    elif today > visit.closes_on and unscheduled_number(visit.code) is None:
        status = "late"
    return {
        "threads": spot.threads,
        "pair": spot.pair if not spot.is_second else None,
        "closed": why_closed(spot.here.the_study.definition, spot.lock),
        "may_query": may(spot.here.actor, Permission.QUERY_RAISE, site_id=spot.participant.site_id),
        "visit": visit,
        "status": status,
        "late_by": late_by,
        "timezone": spot.place.timezone,
        "meanings_said": told_all(spot.here, MEANINGS),
        "holds": entry is not None and entry.is_signed and signature_holds(entry),
        "broken": spot.broken_signature,
        "why_not_enter": spot.why_not_enter if spot.may_save else None,
    }


def form_sections(
    spot: Spot,
    form: Form,
    *,
    problems: list[FieldProblem] | None = None,
    judgement: Judgement,
    saved: dict[str, str] | None = None,
    has_history: bool = False,
) -> list[dict[str, object]]:
    views = item_views(
        spot.instrument.asked([*form, *names_of_rows(spot.instrument, form)]),
        form,
        problems=problems or [],
        judgement=judgement,
        missing_codes=spot.missing_codes,
        history=(lambda item: f"{spot.url}/history/{item}") if has_history else None,
        saved=saved,
        files={
            item.code: url
            for item in spot.instrument.items
            if item.type in SEALED
            and spot.entry is not None
            and (url := _file_url(spot, item, spot.entry.values.get(item.code)))
        },
        stored=spot.entry.values if spot.entry else {},
        language=spot.reader,
    )
    return sections_of(spot.instrument, views, rows_shown(spot.instrument, form))


def _corrects(spot: Spot, judgement: Judgement) -> bool:
    """Whether saving these answers would change a saved one, which asks for a reason."""
    return spot.entry is not None and any(
        change.is_correction for change in changes(spot.entry.values, judgement.values)
    )


def asked_here(spot: Spot, typed: Typed) -> list[FieldProblem]:
    """What could not be read, without the questions that are not asked: their answers are not kept anyway."""
    if not typed.problems:
        return []
    hidden = spot.judge(typed.values, typed.reasons).hidden
    return [each for each in typed.problems if each.field.removesuffix(WHY) not in hidden]


def progress_of(sections: list[dict[str, object]]) -> tuple[int, int]:
    return sum(int(str(each["done"])) for each in sections), sum(int(str(each["total"])) for each in sections)


def _differences(spot: Spot, read: Typed, shown: Form) -> list[dict[str, str]]:
    """Both versions side by side, item by item, where they are not the same."""
    saved = spot.entry.values if spot.entry else {}
    rows = []
    for item in spot.instrument.asked([*saved, *shown]):
        if item.type is ItemType.CALCULATED:
            continue
        mine = read.values.get(item.code)
        unread = next((each for each in read.problems if each.field == item.code), None)
        if unread is None and same_value(saved.get(item.code), mine):
            continue
        typed = ", ".join(text for text in shown.get(item.code, ())) if unread else spot.said(item, mine)
        rows.append(
            {"code": item.code, "label": item.label, "saved": spot.said(item, saved.get(item.code)), "typed": typed}
        )
    return rows


def _rows(spot: Spot) -> list[dict[str, Any]]:
    """What is saved, section by section: label, value in words, unit, why an unexpected value is right."""
    values = spot.entry.values if spot.entry else {}
    reasons = spot.entry.reasons if spot.entry else {}
    named = spot.to_verify
    read = {code: value for code, value in values.items() if spot.instrument.item(code)}
    rows: dict[str, list[Item]] = {}
    for item in spot.instrument.asked(values):
        if (parts := cell_parts(item.code)) is not None:
            rows.setdefault(parts[0], []).append(item)
    hidden = (
        spot.judge(read, reasons).hidden if any(item.shown_if for item in spot.instrument.every_item) else frozenset()
    )
    return [
        {
            "label": section.label,
            "items": [
                {
                    "code": item.code,
                    "label": item.label,
                    "value": spot.said(item, values.get(item.code)),
                    "is_missing": missing_code(values.get(item.code)) is not None,
                    "file_url": _file_url(spot, item, values.get(item.code)),
                    "unit": item.unit,
                    "why": reasons.get(item.code),
                    "is_hidden": item.code in hidden,
                    "is_score": item.type is ItemType.CALCULATED,
                    "verified": spot.entry.verified.get(item.code) if spot.entry else None,
                    "is_verified": spot.entry is not None and is_verified(spot.entry, item.code),
                    "is_named": named is not None and is_wanted(item.code, named),
                }
                for item in (section.items if not section.repeats else rows.get(section.code or "", ()))
            ],
        }
        for section in spot.instrument.sections
    ]


def _file_url(spot: Spot, item: Item, value: object, *, earlier: bool = False) -> str | None:
    """Where a file or a signature that is kept can be shown, for those who may; None otherwise.

    `earlier`: one that was replaced.
    """
    if (
        spot.here.signed_in is None
        or item.type not in SEALED
        or not isinstance(value, dict)
        or missing_code(value) is not None
    ):
        return None
    may_know = may(spot.here.actor, Permission.IDENTITY_READ, site_id=spot.participant.site_id)
    if item.type is ItemType.SIGNATURE and not may_know:
        return None
    which = f"?sha256={value.get('file') or value.get('signature')}" if earlier else ""
    return f"{spot.url}/files/{item.code}{which}"


def _anchor(field: str, items: set[str]) -> str | None:
    if field in items:
        return f"item-{field}"
    if field.endswith(WHY) and field.removesuffix(WHY) in items:
        return f"item-{field}"
    return REASON if field == "why" else field if field in (HELD_ON, HELD_WHY) or field.startswith("query-") else None


def _is_typed(name: str) -> bool:
    """Whether a field of the form is something a person typed, rather than the form's own."""
    own = name in ("csrf_token", BASE, SAVE_AS, TYPED_AT, DRAFT_VERSION, OVER) or (
        name.startswith("query-") and name.endswith("-version")
    )
    return not own and not name.endswith(FILE)


def lists(form: Form) -> dict[str, list[str]]:
    return {name: list(texts) for name, texts in form.items()}


def number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else -1
