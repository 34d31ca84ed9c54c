"""What does the demo show beyond what is public of RESOLVE? A layer over its study, and a few acts of the team.

The folder of the library says nothing that no public source says: whether RESOLVE entered forms twice or coded texts is
not known, and it has no form that repeats. So the demo works with the study of the library under a version of its own,
with this layer over it; the study page says which parts are the demo's.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from app.amendments.actions import plan
from app.capture import actions as capture
from app.capture.coding import actions as coding
from app.capture.coding.reads import Queue, queue
from app.capture.double.actions import Decision, enter_second, reconcile
from app.capture.double.rules import Chosen, State
from app.capture.reads import PARTICIPANT
from app.foundation.database import table_of
from app.participants.links.actions import finish_link, give_link, open_link
from app.participants.links.reads import link_of
from app.participants.links.rules import Purpose, asked_of_participants
from app.participants.models import Participant
from app.people.access import Actor
from app.people.reads import sites_of
from app.schedule.models import ParticipantVisit
from app.schedule.reads import visit_of
from app.studies.actions import load_study
from app.studies.definition import Instrument, Study
from app.studies.drafts.actions import begin_study
from app.studies.in_use import StudyInUse
from app.studies.rules import canonical

VISIT = table_of(ParticipantVisit)
VERSION, NEXT_VERSION = "1.1-demo", "1.2-demo"
TWICE = ("week52", "rmdq")  # the visit at which this form is entered by two people
BY_SCREEN = ("pain", "rmdq", "qol_vas")
ASKED = ("week26", "baseline")  # visits that are answered by link, the short one first
EARLY = 140  # days that the last follow-up may be early, once the amendment is in force

OURS = "Ours, for this demo."
CARE: dict[str, Any] = {
    "code": "care_use",
    "label": "Care outside the trial",
    "short": "Care",
    "respondent": "coordinator",
    "source": f"{OURS} What RESOLVE asked of care outside the trial is not public.",
    "repeats": True,
    "max_repeats": 20,
    "repeat_label": "care_by",
    "sections": [
        {
            "items": [
                {
                    "code": "care_by",
                    "label": "Who was seen",
                    "type": "choice",
                    "choices": [
                        {"code": "gp", "label": "General practitioner"},
                        {"code": "physio", "label": "Physiotherapist"},
                        {"code": "pharmacist", "label": "Pharmacist"},
                        {"code": "other", "label": "Somebody else"},
                    ],
                },
                {"code": "care_on", "label": "When", "type": "date"},
                {"code": "care_reason", "label": "What for", "type": "text", "max_length": 200},
            ]
        },
        {
            "label": "Medicines that were advised",
            "code": "medicines",
            "repeats": True,
            "max_rows": 8,
            "items": [
                {"code": "medicine", "label": "Medicine", "type": "text", "max_length": 100},
                {"code": "medicine_days", "label": "For how long", "type": "integer", "unit": "days", "min": 1},
            ],
        },
    ],
}
TERMS = (
    ("MSK", "Muscles and bones", None),
    ("BACKPAIN", "Back pain", "MSK"),
    ("BACKFLARE", "Flare of back pain", "MSK"),
    ("LEGPAIN", "Pain in the leg", "MSK"),
    ("SCIATICA", "Sciatica", "MSK"),
    ("SORENESS", "Muscle soreness", "MSK"),
    ("FRACTURE", "Fracture of the wrist", "MSK"),
    ("NERVES", "Nervous system", None),
    ("HEADACHE", "Headache", "NERVES"),
    ("DIZZINESS", "Dizziness", "NERVES"),
    ("NUMBNESS", "Numbness", "NERVES"),
    ("SKIN", "Skin", None),
    ("REDNESS", "Redness of the skin", "SKIN"),
    ("RASH", "Rash", "SKIN"),
    ("INFECTIONS", "Infections", None),
    ("INFLUENZA", "Influenza", "INFECTIONS"),
    ("COLD", "Common cold", "INFECTIONS"),
    ("INJURIES", "Injuries", None),
    ("FALL", "Fall", "INJURIES"),
    ("BOWEL", "Stomach and bowel", None),
    ("APPENDICITIS", "Appendicitis", "BOWEL"),
    ("NAUSEA", "Nausea", "BOWEL"),
)
# What the two coders choose for each event of the demo, each alone; where they differ, a third settles it as the first.
CHOICES = {
    "More back pain for two days": ("BACKPAIN", "BACKFLARE"),
    "Headache": ("HEADACHE", "HEADACHE"),
    "Redness of the skin at the back": ("REDNESS", "REDNESS"),
    "Influenza": ("INFLUENZA", "INFLUENZA"),
    "Broken wrist, fell off": ("FRACTURE", "FALL"),
    "Flare of pain with leg pain": ("BACKFLARE", "BACKFLARE"),
    "Appendicitis": ("APPENDICITIS", "APPENDICITIS"),
    "Dizziness": ("DIZZINESS", "DIZZINESS"),
}
SEEN: tuple[tuple[str, str, tuple[tuple[str, int], ...]], ...] = (
    ("gp", "More pain after gardening", (("Paracetamol", 7), ("Ibuprofen", 5))),
    ("physio", "Advice on sitting at work", ()),
    ("pharmacist", "Something for the night", (("Ibuprofen", 3),)),
)


def widened(study: Study) -> Study:
    """The study of the library with what the demo shows besides."""
    said = json.loads(canonical(study))
    said["version"] = VERSION
    said["instruments"].append(CARE)
    said["unscheduled"] = {"label": "Unscheduled visit", "instruments": [CARE["code"]]}
    for form in said["instruments"]:
        if form["code"] in BY_SCREEN:
            form["presentation"] = "screen"
    for visit in said["visits"]:
        if visit["code"] == TWICE[0]:
            visit["double_entry"] = [TWICE[1]]
            visit["casebook_signature"] = True
    terms = [{"code": code, "label": label, "parent": parent} for code, label, parent in TERMS]
    said["dictionaries"] = [
        {"code": "demo_terms", "label": "Terms of this demo", "version": "1", "source": OURS, "terms": terms}
    ]
    said.setdefault("safety", {})["coding"] = {"dictionary": "demo_terms"}
    said["sources"].append(
        "Ours, for this demo and not of RESOLVE: visits outside the plan with the form “Care outside the trial”, "
        "the disability questionnaire of week 52 entered by two people, a signature of the casebook once that visit is "
        "held, the coding of adverse events, and one question a screen by link"
    )
    return Study.model_validate_json(json.dumps(said))


def amended(study: Study, on: date) -> Study:
    """The next version: the last follow-up may be held earlier, as when RESOLVE's funding ended."""
    said = json.loads(canonical(study))
    said["version"] = NEXT_VERSION
    for visit in said["visits"]:
        if visit["code"] == "week52":
            visit["window"]["before"] = EARLY
    text = (
        "RESOLVE's analysis plan describes early last follow-ups that funding forced. How early is not public: the "
        f"{EARLY} days of this demo are ours."
    )
    said["amendments"].append({"on": f"{on:%Y-%m}", "title": "The last follow-up may be early", "text": text})
    return Study.model_validate_json(json.dumps(said))


def plan_amendment(session: Session, study: StudyInUse, *, on: date, by: Actor, now: datetime) -> None:
    """Load the next version, and have it wait at every site until its day."""
    load_study(session, amended(study.definition, now.date()), by=by, now=now)
    sites = [site.code for site in sites_of(session, study.id)]
    why = "Approved by the ethics committee; the site works under it once it is trained."
    plan(session, study, version=NEXT_VERSION, sites=sites, from_on=on, why=why, by=by, now=now)


def begin_pilot(session: Session, *, by: Actor, now: datetime) -> None:
    """Begin another study, as a draft that nobody has loaded yet."""
    begin_study(session, None, code="pilot", title="A pilot of what comes next", origin="smallest", by=by, now=now)


def enter_again(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    values: Mapping[str, object],
    *,
    differs: bool,
    by: Actor,
    now: datetime,
) -> int | None:
    """Enter the form a second time, from the paper; `differs`: one statement was overlooked. What is to be settled."""
    visit, form = TWICE
    ticked = values.get("rmdq_ticked")
    if differs and isinstance(ticked, list) and len(ticked) > 1:
        values = {**values, "rmdq_ticked": ticked[:-1]}
    entered = enter_second(
        session, study, participant, visit=visit, instrument=form, values=values, reasons={}, by=by, now=now
    )
    return entered.number if entered.state is State.TO_RECONCILE else None


def settle(session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime) -> None:
    """What the two entries differ in: the first agrees with the paper."""
    decision = Decision(Chosen.FIRST, "The paper shows it ticked")
    reconcile(session, study, number, decisions={"rmdq_ticked": decision}, version=2, by=by, now=now)


def code_event(session: Session, study: StudyInUse, event: int, code: str, *, by: Actor, now: datetime) -> None:
    """Code the term of an event, alone."""
    for text in queue(session, study, Queue.TO_CODE, by=by, limit=500).rows:
        if text.event == event:
            coding.code_text(session, study, text.number, code=code, by=by, now=now)


def settle_event(session: Session, study: StudyInUse, event: int, code: str, *, by: Actor, now: datetime) -> None:
    """Settle the term of an event where the two coders differ."""
    for text in queue(session, study, Queue.TO_RECONCILE, by=by, limit=500).rows:
        if text.event == event:
            why = "What was reported first is coded, not how it came about."
            coding.reconcile_text(session, study, text.number, code=code, why=why, version=text.version, by=by, now=now)


def record_care(
    session: Session, study: StudyInUse, participant: Participant, *, times: int, on: date, by: Actor, now: datetime
) -> None:
    """A visit outside the plan, and the care that somebody had outside the trial: the form as often as needed."""
    visit = capture.add_visit(
        session, study, participant, held_on=on, reason="Called about a flare, and came in", by=by, now=now
    )
    for repeat, (who, reason, medicines) in enumerate(SEEN[:times], 1):
        values: dict[str, object] = {
            "care_by": who,
            "care_on": (on - timedelta(days=2 * (times - repeat) + 1)).isoformat(),
            "care_reason": reason,
        }
        for row, (medicine, days) in enumerate(medicines, 1):
            values |= {f"medicines[{row}].medicine": medicine, f"medicines[{row}].medicine_days": days}
        capture.save_entry(
            session,
            study,
            participant,
            visit=visit.code,
            instrument=CARE["code"],
            repeat=repeat,
            values=values,
            reasons={},
            base_version=0,
            by=by,
            now=now,
        )


def due_by_link(session: Session, study: StudyInUse, today: date, limit: int) -> Sequence[tuple[str, str]]:
    """Participants with a visit whose questions can be answered today: (code, visit), the shortest visits first."""
    query = (
        select(PARTICIPANT.c.code, VISIT.c.code)
        .join(PARTICIPANT, PARTICIPANT.c.id == VISIT.c.participant_id)
        .where(
            PARTICIPANT.c.study_id == study.id,
            PARTICIPANT.c.status.in_(("consented", "randomised")),
            VISIT.c.status == "planned",
            VISIT.c.code.in_(ASKED),
            VISIT.c.opens_on <= today,
            VISIT.c.closes_on >= today,
        )
        .order_by(PARTICIPANT.c.code)
    )
    found = [(row[0], row[1]) for row in session.execute(query)]
    return sorted(found, key=lambda each: ASKED.index(each[1]))[:limit]


def give(session: Session, study: StudyInUse, participant: Participant, visit: str, *, by: Actor, now: datetime) -> str:
    """The secret of a link to the questions of a visit."""
    return give_link(session, study, participant, purpose=Purpose.QUESTIONS, about=visit, language="en", by=by, now=now)


def answer_by_link(
    session: Session,
    token: str,
    answers: Mapping[str, Mapping[str, object]],
    reasons: Mapping[str, str],
    *,
    today: date,
    now: datetime,
) -> None:
    """What a participant does by a link: opens it, answers these forms, and is done once they are all."""
    opened = link_of(session, token, now=now)
    if opened is None:
        raise LookupError("The demo gave a link that does not work.")
    by = opened.actor("demo")
    open_link(session, opened, by=by, now=now)
    visit = opened.link.about
    row = visit_of(session, opened.link.participant_id, visit)
    capture.record_visit(
        session,
        opened.study,
        opened.participant,
        visit,
        held_on=today,
        version=row.version,
        reason=None,
        by=by,
        now=now,
    )
    asked: Sequence[Instrument] = asked_of_participants(opened.study.definition, visit)
    for form in asked:
        if form.code in answers:
            capture.save_entry(
                session,
                opened.study,
                opened.participant,
                visit=visit,
                instrument=form.code,
                values=answers[form.code],
                reasons=reasons,
                base_version=0,
                by=by,
                now=now,
            )
    if all(form.code in answers for form in asked):
        finish_link(session, opened, by=by, now=now)
