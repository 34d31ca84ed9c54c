"""What did the study send, and to whom? Messages that wait, left or failed; and what a participant wants of them."""

from fastapi.responses import RedirectResponse, Response

from app.consent.actions import COPY_RULE
from app.dependencies import ChangeInStudy, Here, PageInStudy
from app.foundation.errors import Conflict, Invalid, Problem, Refused
from app.participants.links.actions import LINK_RULE
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import may, require
from app.people.permissions import Permission
from app.schedule.reminders import actions, reads
from app.schedule.reminders.reads import MessageRow
from app.web.appointments import Number
from app.web.pages import pages
from app.web.places import narrowed, places_of, show_at
from app.web.shell import errors_of, status_of
from app.web.tables import address

router = pages()

CHOICE = "/{study}/participants/{code}/reminders"
LANGUAGES = {"de": "Deutsch", "en": "English", "es": "Español", "fr": "Français", "it": "Italiano"}


@router.get("/{study}/messages", name="reminders.reminders")
def reminders(here: PageInStudy) -> Response:
    """The messages about participants at my sites: reminders and appointments; never an address."""
    require(here.actor, Permission.MESSAGE_READ)
    return _messages_page(here)


@router.post("/{study}/messages/{number}/resent", name="reminders.resend")
def resend(here: ChangeInStudy, number: Number) -> Response:
    """Send one again that was given up."""
    require(here.actor, Permission.MESSAGE_RESEND, action="message.resend", subject=f"/message/{number}")
    try:
        actions.resend(here.session, here.the_study, number, why=here.value("why"), by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _messages_page(here, problem=problem, failed=number)
    return here.redirect(f"/{here.the_study.code}/messages", done="resent")


@router.get("/{study}/messages/{number}/resent", name="reminders.resent_form")
def back_to_the_messages(here: PageInStudy, number: Number) -> Response:  # noqa: ARG001
    """Where somebody lands who goes on without sending a form again: the list."""
    return RedirectResponse(f"/{here.the_study.code}/messages?state=failed", status_code=303)


def _messages_page(here: Here, *, problem: Problem | None = None, failed: int = 0) -> Response:
    asked, places = here.request.query_params, places_of(here)
    state = next((each for each in reads.STATES if each == asked.get("state")), "failed" if failed else "")
    path = f"/{here.the_study.code}/messages"
    query: dict[str, str | None] = {"state": state or None}
    found = reads.messages_page(
        here.session,
        here.the_study,
        by=narrowed(here.actor, places.chosen),
        state=state or None,
        cursor=asked.get("after") or None,
    )
    return show_at(
        here,
        places,
        "reminders/reminders.html",
        status_code=status_of(problem),
        path=path,
        rows=[{"row": row, "rule": _rule_words(here, row), "visit": _visit_words(here, row)} for row in found.rows],
        state=state,
        states=[(each, address(path, query, state=each or None)) for each in ("", *reads.STATES)],
        may_resend=may(here.actor, Permission.MESSAGE_RESEND),
        problem=problem.reason if problem else None,
        failed=failed,
        root=f"/{here.the_study.code}",
        several=len(places.sites) > 1 and places.chosen is None,
        newer=address(path, query, after=found.previous) if found.previous else None,
        older=address(path, query, after=found.next) if found.next else None,
        has_rules=bool(here.the_study.definition.schedule.reminders),
    )


RULE_WORDS = {
    "booked": "Appointment booked, moved or cancelled",
    "before_appointment": "Before the appointment",
    "window_opens": "Window open, nothing booked",
    "overdue": "Overdue",
    "link_due": "A link to questions, by rule",
    "link_unanswered": "Questions not answered",
}


def _rule_words(here: Here, row: MessageRow) -> str:
    if row.rule == LINK_RULE:
        return "A link to sign or to answer"
    if row.rule == COPY_RULE:
        return "Copy of the consent"
    rules = here.the_study.at(row.site_id).definition.schedule.reminders
    when = next((rule.when for rule in rules if rule.code == row.rule), "booked")
    return RULE_WORDS[when]


def _visit_words(here: Here, row: MessageRow) -> str:
    planned = here.the_study.at(row.site_id).definition.visit(row.visit or "")
    return planned.label if planned else row.visit or ""


# What a participant wants


@router.get(CHOICE, name="reminders.choice_form")
def choice_form(here: PageInStudy, code: str) -> Response:
    """By which ways a participant is reminded, and in which language."""
    return _choice_page(here, _participant(here, code))


@router.post(CHOICE, name="reminders.choice")
def choice(here: ChangeInStudy, code: str) -> Response:
    """Record what they said."""
    participant = _participant(here, code)
    text = here.value("version")
    try:
        actions.choose(
            here.session,
            here.the_study,
            participant,
            mail=bool(here.value("mail")),
            sms=bool(here.value("sms")),
            language=here.value("language") or None,
            timezone=here.value("timezone") or None,
            version=int(text) if text.isdecimal() and len(text) < 10 else 0,
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict) as problem:
        here.refuse(problem)
        return _choice_page(here, participant, problem=problem)
    return here.redirect(f"/{here.the_study.code}/participants/{participant.code}", done="reminders_chosen")


def _participant(here: Here, code: str) -> Participant:
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    subject = f"{participant.code}/reminders"
    require(
        here.actor,
        Permission.APPOINTMENT_BOOK,
        site_id=participant.site_id,
        action="reminder.choose",
        subject=subject,
    )
    return participant


def _choice_page(here: Here, participant: Participant, *, problem: Problem | None = None) -> Response:
    assert participant.id is not None
    places = places_of(here)
    kept = reads.choice_of(here.session, participant.id)
    errors = errors_of(problem)
    typed = here.form if problem else None
    languages = [(code, LANGUAGES.get(code, code)) for code in actions.languages(here.the_study)]
    return show_at(
        here,
        places,
        "reminders/choice.html",
        status_code=status_of(problem),
        participant=participant,
        url=f"/{here.the_study.code}/participants/{participant.code}",
        mail=bool(here.value("mail")) if typed is not None else kept.mail,
        sms=bool(here.value("sms")) if typed is not None else kept.sms,
        chosen_language=here.value("language") if typed is not None else kept.language or "",
        zone=here.value("timezone") if typed is not None else kept.timezone or "",
        version=kept.version,
        languages=languages,
        default=LANGUAGES.get(here.the_study.definition.language, here.the_study.definition.language),
        site_zone=places.timezone(participant.site_id),
        errors=errors,
        problems=list(errors.items()),
        refused=problem.reason if problem and not errors else None,
        rules=[
            (RULE_WORDS[rule.when], rule.by)
            for rule in here.the_study.definition.schedule.reminders
            if rule.to == "participant"
        ],
    )
