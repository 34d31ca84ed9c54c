"""What happened beside the plan? Adverse events with every report, deviations, care beside the trial, contacts."""

from collections.abc import Collection, Mapping, Sequence

from sqlmodel import Session

from app.capture.coding.reads import codes_of_events
from app.casebook.telling import NOTHING, Labelled, Telling
from app.foundation.paging import LARGEST_PAGE, every_page
from app.participants.models import Participant
from app.people.access import Actor
from app.printing import Block, Listed, Part, Told
from app.safety.deviations import reads as deviations
from app.safety.deviations.reads import DeviationRow
from app.safety.events import reads as events
from app.safety.events.reads import ClockRow, EventRow, History, Judgement
from app.safety.events.rules import NAMES, Report, changed
from app.safety.logs.reads import care_of, contacts_of
from app.studies.in_use import StudyInUse

STATES: Mapping[str, str] = {
    "reported": "To be judged",
    "judged": "Judged",
    "returned": "Returned, to be judged again",
    "reviewed": "Reviewed",
    "void": "Void",
}
KINDS: Mapping[str, str] = {
    "initial": "First report",
    "follow_up": "Follow-up",
    "correction": "Correction",
    "void": "Reported by mistake",
    "judgement": "Judged",
    "agreed": "Agreed",
    "returned": "Returned",
}
SAID_OF: Mapping[str, str] = {
    "term": "What happened",
    "code": "Term of the list",
    "onset": "Began",
    "ended": "Ended",
    "severity": "Severity",
    "criteria": "Why it is serious",
    "action": "Study treatment",
    "outcome": "Outcome",
    "narrative": "Narrative",
    "aware_at": "Known at the site",
}
CRITERIA: Mapping[str, str] = {
    "death": "Death",
    "life_threatening": "Life-threatening",
    "hospitalisation": "Hospital admission, or a longer stay",
    "disability": "Lasting or major disability",
    "congenital_anomaly": "Congenital anomaly",
    "other_important": "Other important medical event",
}
OUTCOMES: Mapping[str, str] = {
    "recovered": "Recovered",
    "recovering": "Recovering",
    "not_recovered": "Not recovered",
    "sequelae": "Recovered with lasting effects",
    "fatal": "Fatal",
    "unknown": "Unknown",
}
TREATMENT: Mapping[str, str] = {
    "none": "Nothing changed",
    "changed": "Changed",
    "interrupted": "Interrupted",
    "stopped": "Stopped for good",
    "not_applicable": "Not applicable",
    "unknown": "Unknown",
}
GRADES: Mapping[str, str] = {"minor": "Minor", "major": "Major"}
STANDING: Mapping[str, str] = {
    "open": "Open",
    "acted": "Acted on, to be signed",
    "signed": "Signed",
    "gone": "Does not stand",
}
WAYS: Mapping[str, str] = {
    "call": "Call",
    "text_message": "Text message",
    "mail": "E-mail",
    "letter": "Letter",
    "in_person": "In person",
}
RESULTS: Mapping[str, str] = {
    "reached": "Reached",
    "message_left": "Message left",
    "no_answer": "No answer",
    "not_valid": "Number or address not valid",
    "they_called": "They got in touch",
}


def detail(telling: Telling, name: str, value: object) -> str:
    """What is said of an event, in words: our own codes, those of the study, days as far as they are known."""
    ours: dict[str, Mapping[str, str]] = {"criteria": CRITERIA, "outcome": OUTCOMES, "action": TREATMENT}
    safety = telling.definition.safety
    parts = value if isinstance(value, list | tuple) else [value] if value else []
    if name in ours:
        return ", ".join(telling.word(ours[name], str(part)) for part in parts)
    if name in ("onset", "ended"):
        return ", ".join(telling.known_day(str(part)) for part in parts)
    listed: dict[str, Sequence[Labelled]] = {"code": safety.terms, "severity": safety.severity}
    listed |= {"relatedness": safety.relatedness}
    return ", ".join(telling.label(listed.get(name, ()), str(part)) for part in parts)


# Adverse events


def events_part(
    session: Session, study: StudyInUse, participant: Participant, telling: Telling, *, by: Actor, judged: bool
) -> Part:
    """Every event that this person may know, as it stands, with what every report changed; and, with `judged`, every
    judgement and the clocks.
    """
    wanted = events.Wanted(participant=participant.code)
    blocks: list[Block] = []
    coded = study.definition.safety.coding is not None
    codes = codes_of_events(session, study, participant_id=participant.id) if coded else {}
    for page in every_page(
        lambda cursor: events.events_page(
            session, study, by=by, wanted=wanted, descending=False, cursor=cursor, limit=LARGEST_PAGE
        )
    ):
        histories = events.histories_of(session, [row.number for row in page.rows])
        for row in page.rows:
            known = codes.get(row.number) or (("", telling.gettext("Not coded")) if coded else None)
            blocks.append(_event(telling, row, histories[row.number], known, judged=judged))
    return Part(
        telling.gettext("Adverse events"), nothing=telling.gettext("No adverse event is reported."), blocks=blocks
    )


def _event(telling: Telling, row: EventRow, history: History, coded: tuple[str, str] | None, *, judged: bool) -> Block:
    gettext = telling.gettext
    details = history.reports[-1].details
    altered = {
        name
        for before, after in zip(history.reports, history.reports[1:], strict=False)
        for name, _, _ in changed(before.details, after.details)
    }
    rows = []
    for name in NAMES:
        words = detail(telling, name, getattr(details, name))
        if not words and name == "criteria":
            words = gettext("Not serious")
        elif not words and name == "ended":
            words = gettext("Goes on, or not known")
        if words or name in altered:
            rows.append(Told(gettext(SAID_OF[name]), words or NOTHING, changed=name in altered))
        if name == "term" and coded is not None:
            rows.append(Told(gettext("Coded as"), " ".join(filter(None, reversed(coded)))))
    if row.serious_since is not None:
        rows.append(Told(gettext("Known to be serious since"), telling.moment(row.serious_since)))
    for before, report in zip((None, *history.reports), history.reports, strict=False):
        rows.append(_report(telling, report, before))
    if judged:
        rows += [_judgement(telling, each) for each in history.judgements]
        rows += [_clock(telling, each) for each in history.clocks]
    title = gettext("Adverse event %(number)s") % {"number": row.number}
    state = telling.word(STATES, row.state.value) if judged or row.state.value == "void" else gettext("Reported")
    return Block(f"{title}: {row.term}", " · ".join([state, *([gettext("serious")] if row.serious else [])]), rows)


def _report(telling: Telling, report: Report, before: Report | None) -> Told:
    gettext = telling.gettext
    said = []
    for name, old, new in changed(before.details, report.details) if before is not None else ():
        was, now = (detail(telling, name, each) or NOTHING for each in (old, new))
        said.append(f"{gettext(SAID_OF[name])}: {was} → {now}")
    aware = f"{gettext('Known at the site')} {telling.moment(report.aware_at)}"
    if report.corrects is not None:
        aware += f" ({gettext('of version %(version)s') % {'version': report.corrects}})"
    notes = [f"{report.by}, {telling.moment(report.at)}"]
    if report.why:
        notes.insert(0, report.why)
    if report.confirmed:
        notes.append(gettext("words confirmed to tell no arm"))
    label = f"{gettext('Version %(version)s') % {'version': report.version}}, {telling.word(KINDS, report.kind)}"
    return Told(label, "; ".join([*said, aware]), notes=notes)


def _judgement(telling: Telling, each: Judgement) -> Told:
    gettext = telling.gettext
    said = [detail(telling, "relatedness", each.relatedness)]
    if each.expected is not None:
        said.append(gettext("Expected") if each.expected else gettext("Unexpected"))
    notes = [f"{each.name} ({each.by}), {telling.moment(each.at)}"]
    if each.knew_arm:
        notes.append(gettext("had broken the blind before"))
    of = gettext("of version %(version)s") % {"version": each.version}
    words = "; ".join(filter(None, [*said, each.words]))
    return Told(f"{telling.word(KINDS, each.kind)}, {of}", words or NOTHING, notes=notes)


def _clock(telling: Telling, clock: ClockRow) -> Told:
    gettext = telling.gettext
    label = next((each.label for each in telling.definition.safety.clocks if each.code == clock.code), clock.code)
    if clock.follows:
        label = f"{label}: {gettext('News of version %(version)s') % {'version': clock.follows}}"
    due = f"{gettext('Due by')} {telling.moment(clock.due_at)}"
    if clock.sent_at is not None:
        in_time = clock.sent_at <= clock.due_at
        state = gettext("Reported in time") if in_time else gettext("Reported late")
        sent = f"{telling.moment(clock.sent_at)}, {clock.reference}"
        return Told(
            label, f"{due}; {state}: {sent}", notes=[f"{clock.reported_by}, {telling.moment(clock.reported_at)}"]
        )
    return Told(
        label, f"{due}; {gettext('Runs') if clock.state.value == 'running' else gettext('Not needed any more')}"
    )


# Deviations


def deviations_part(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    telling: Telling,
    altered: Collection[tuple[str, str]],
    *,
    by: Actor,
) -> Part:
    """Every deviation, of those too that do not stand any more; the oldest first."""
    wanted = deviations.Wanted(participant=participant.code)
    found: list[DeviationRow] = []
    for page in every_page(
        lambda cursor: deviations.deviations_page(
            session, study, by=by, wanted=wanted, cursor=cursor, limit=LARGEST_PAGE
        )
    ):
        found += page.rows
    return Part(
        telling.gettext("Deviations"),
        nothing=telling.gettext("No deviation is recorded."),
        blocks=[_deviation(telling, each, altered) for each in reversed(found)],
    )


def _deviation(telling: Telling, row: DeviationRow, altered: Collection[tuple[str, str]]) -> Block:
    gettext = telling.gettext
    signed = f"{row.signed_name} ({row.signed_by}), {telling.moment(row.signed_at)}" if row.signed_at else None
    by = gettext("found by the system") if row.rule else row.reported_by
    lines: Sequence[tuple[str, str, str | None]] = (
        ("occurred_on", gettext("When"), telling.day(row.occurred_on)),
        ("grade", gettext("Grade"), telling.word(GRADES, row.grade)),
        ("what", gettext("What happened"), telling.sentence(row.what) if row.rule else row.what),
        ("action", gettext("What was done about it"), row.action),
        ("", gettext("Reported"), f"{telling.moment(row.reported_at)}, {by}"),
        ("signed_by", gettext("Signed"), signed),
    )
    subject = f"deviation/{row.number}"
    category = telling.label(telling.definition.safety.deviations, row.category)
    title = gettext("Deviation %(number)s") % {"number": row.number}
    return Block(
        f"{title}: {category}",
        telling.word(STANDING, row.state.value),
        [Told(label, value, changed=(subject, name) in altered) for name, label, value in lines if value],
    )


# Care and contacts


def care_part(session: Session, participant: Participant, telling: Telling) -> Part:
    """Every line of care beside the trial, what began first first."""
    assert participant.id is not None
    gettext = telling.gettext
    return Part(
        gettext("Care beside the trial"),
        nothing=gettext("No care beside the trial is written down."),
        columns=[gettext("Treatment"), gettext("From"), gettext("To"), gettext("What it is for"), gettext("Recorded")],
        widths=[1.8, 1, 1, 1.8, 1.6],
        lines=[
            Listed(
                [
                    each.treatment,
                    telling.known_day(each.began),
                    telling.known_day(each.ended) if each.ended else gettext("goes on"),
                    each.indication,
                    f"{each.recorded_by}, {telling.moment(each.recorded_at)}",
                ],
                changed=each.version > 1,
            )
            for each in reversed(care_of(session, participant.id))
        ],
    )


def contacts_part(session: Session, participant: Participant, telling: Telling) -> Part:
    """Every attempt to be in touch, those in vain too, the oldest first."""
    assert participant.id is not None
    gettext = telling.gettext
    return Part(
        gettext("Contacts"),
        nothing=gettext("No contact is written down."),
        columns=[gettext("When"), gettext("How"), gettext("Result"), gettext("Note"), gettext("Recorded")],
        widths=[1.2, 1, 1.3, 2.2, 1.6],
        lines=[
            Listed(
                [
                    telling.moment(each.at),
                    telling.word(WAYS, each.how),
                    telling.word(RESULTS, each.result),
                    each.note,
                    f"{each.recorded_by}, {telling.moment(each.recorded_at)}",
                ],
                changed=each.version > 1,
            )
            for each in reversed(contacts_of(session, participant.id))
        ],
    )
