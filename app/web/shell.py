"""What stands around every page? The rail, the header, the sentence about what just happened; and the error page."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response

from app.dependencies import NEW_STUDY, Here, language_of, masked
from app.foundation.errors import Invalid, Problem
from app.foundation.languages import translations
from app.people.access import may
from app.people.permissions import Permission
from app.rendering import Flash, NavItem, Viewer, page
from app.studies.definition import Study

# What may be said after a redirect: ?done=CODE. The texts are here, so that an address cannot put words on a page.
DONE = {
    "screened": "Screened. The participant has a code now; record consent next.",
    "screening_corrected": "Corrected. What stood there before is in the log, with the reason.",
    "screen_failed": "Kept as a screen failure, with the reason.",
    "consented": "Consent recorded.",
    "consent_refused": "Refused. It is kept and counts as no consent; record it again as it should be.",
    "option_taken_back": "Recorded. From that day on it is not given any more.",
    "option_restored": "Marked as a mistake. What was signed stands again.",
    "countersigned": "Consent is complete. Fill in the baseline visit next.",
    "staged": "The first step is done. The next one is below.",
    "saved": "Saved.",
    "in_error": "Marked as entered in error. It stays, and counts nowhere.",
    "restored": "It counts again. That it was marked stays in the log.",
    "saved_partial": "Saved. Some answers are still missing.",
    "signed": "Signed.",
    "visit_signed": "Signed, each form by itself.",
    "casebook_entries_signed": "Signed, each form by itself. What is left of this casebook stands below.",
    "saved_next": "Saved. This is the next form of the visit.",
    "saved_last": "Saved. Every form of this visit is complete.",
    "defined": "Saved. It stands below, to be run again.",
    "visit_held": "Visit recorded.",
    "visit_in_error": "Marked as entered in error. It stays here and in the log, and counts nowhere.",
    "visit_restored": "It counts again. That it was marked stays in the log.",
    "visit_reopened": "Planned again. That it was recorded otherwise stays in the log.",
    "visit_missed": "Recorded as missed, with the reason.",
    "reminders_chosen": "Recorded. It holds from the next message on, also for those that wait.",
    "resent": "It goes out again with the next round.",
    "feed_revoked": "Revoked. Its address leads nowhere any more.",
    "booked": "Booked.",
    "moved": "Moved.",
    "cancelled": "Cancelled. The visit stays due, and can be booked again.",
    "no_show": "Recorded that nobody came. The visit stays due, and can be booked again.",
    "scan_verified": "The scan is verified.",
    "copy_handed_out": "It is recorded that the participant has their copy on paper.",
    "copy_mailed": "The copy is on its way to the participant.",
    "link_mailed": "The link is on its way to the participant.",
    "link_ended": "The link was taken back. It opens nothing any more.",
    "withdrawn": "Withdrawal recorded. Everything entered before is kept.",
    "withdrawal_taken_back": "The withdrawal is taken back. What it had stopped is due again; book what was cancelled.",
    "erased": "The personal data were erased. What was collected for the study is kept under the code.",
    "treatment_stopped": "Treatment is stopped. No session is due any more; visits and questionnaires go on.",
    "treatment_resumed": "Treatment goes on. Its sessions are due again; book what was cancelled.",
    "identity_changed": "Personal data changed.",
    "session_recorded": "Session recorded.",
    "drawn": "Drawn. Review the counts, then seal it.",
    "sealed": "Sealed. Randomisation is open.",
    "sealed_behind": "Sealed. It stands behind what is in use, and is used once the slots before it are used up.",
    "closed": "Closed. Nobody is randomised from this sequence any more; its plan can be opened now.",
    "discarded": "The drawn sequence was set aside. It can never be used.",
    "password": "Your password is changed. Every other session of yours has ended.",
    "language": "Your language is changed, on your pages and in your mails.",
    "second_factor": "The second factor is on. You will be asked for a code at every sign-in.",
    "second_factor_off": "The second factor is off.",
    "passkey_added": "The passkey is added. You will be asked for a passkey or a code at every sign-in.",
    "passkey_removed": "The passkey is removed. Delete it on the device as well: it opens nothing any more.",
    "other_sessions_ended": "Every other session of yours has ended.",
    "invitation_mailed": "A link to choose a new password goes to their own mail address, and works once.",
    "second_factor_reset": "The second factor is gone. A link to choose a password goes to their own mail address.",
    "sessions_ended": "This person is signed out everywhere.",
    "activated": "This person may come in again. Send them a link to choose a password, and give them their roles.",
    "session_ended": "That session has ended.",
    "person_added": "Added. Give them the link below, by a way that reaches only them.",
    "role_granted": "Role given. It holds from the next page they open.",
    "role_revoked": "Role taken back. It is gone from the next page they open.",
    "deactivated": "This person cannot sign in any more.",
    "token_revoked": "The token does not work any more.",
    "in_error_recorded": "Recorded. The allocation stays as it is; investigators and the statistician are told.",
    "event_reported": "Reported. An investigator judges it next; those the study names are told.",
    "event_followed": "Added. What was reported before stays as it was; an investigator judges it anew.",
    "event_voided": "Void, with the reason. Its clocks have stopped.",
    "event_judged": "Judgement signed.",
    "event_reviewed": "Review signed.",
    "deviation_reported": "Reported. Write down what is done about it; an investigator signs it off.",
    "deviation_acted": "Written down. An investigator signs it off.",
    "deviations_acted": "Written down for each of them. An investigator signs them off.",
    "deviations_signed": "Signed, each by itself. What is left to be signed stands below.",
    "deviation_taken_back": "Taken back, with the reason.",
    "deviations_looked": "The system has looked: whatever it found stands below.",
    "lost": "Recorded as lost to follow-up. What is due stays due; nobody is reminded.",
    "found": "Recorded. They stand where they stood before.",
    "died": "The death is recorded, and no visit is due any more. Report it as an adverse event as well.",
    "lost_cancelled": "Recorded as lost to follow-up. The appointments that were to come are cancelled, and nobody is "
    "reminded. What is due stays due.",
    "lost_booked": "Recorded as lost to follow-up. What is due stays due, and what is booked stays booked: see "
    "Appointments. Nobody is reminded.",
    "completed_cancelled": "Recorded: this participant completed the study. The appointments that were to come are "
    "cancelled.",
    "completed_booked": "Recorded: this participant completed the study. What is booked stays booked: see "
    "Appointments.",
    "completed": "Recorded: this participant completed the study.",
    "reopened": "Recorded. They stand where they stood before they completed the study.",
    "not_dead": "Recorded. They stand where they stood before, and their visits are due again.",
    "clock_stopped": "Written down. The clock has stopped, and nobody is reminded again.",
    "unblinding_recorded": "Recorded. Data managers and investigators are told, and assess what it means.",
    "unblinding_assessed": "Assessment recorded.",
    "unblinding_requested": "Requested. Those who may approve it are told.",
    "unblinding_approved": "Approved. Whoever asked may read the arms now, and is told.",
    "unblinding_refused": "Refused, with the reason. Whoever asked is told.",
    "escrow_key_stored": "Stored. Every list that is sealed from now on is escrowed to this key.",
    "slip_entered": "Entered. The clinicians of the site are told that there is a new participant.",
    "slip_voided": "Void. Its slot is never used by anybody.",
    "pack_closed": "Closed. Every slip that was left is void; have them destroyed, with the file and the letter.",
    "verified": "Kept. A later change ends it, and says so.",
    "verified_but_asked": "Kept, without the answers that are under a query. Verify them once their query is closed.",
    "data_closed": "Done. It stands in the list above, and in the log.",
    "data_lifted": "Lifted. Data can be entered there again.",
    "unlock_asked": "Asked. Somebody else approves or declines it on this page.",
    "data_unlocked": "Unlocked. Data can be changed there again.",
    "unlock_declined": "Declined, with the reason. It stays locked.",
    "casebook_signed": "Signed. A later change of any entry supersedes the signature, and asks again.",
    "query_raised": "Raised. The site sees it beside the answer, and among its queries.",
    "query_answered": "Answered. It waits for whoever closes it, or asks again.",
    "query_requeried": "Asked again.",
    "query_closed": "Closed.",
    "amendment_planned": "Set. Sites whose day has come work under the version now; their visits follow.",
    "amendment_cancelled": "Cancelled. The site goes on as before.",
    "amendment_carried_on": "Carried on. How far it is stands below.",
    "entered_twice": "Entered twice. Both entries say the same.",
    "entered_twice_differs": "Entered twice. Where the two differ is settled under Double entry.",
    "second_instead": "Somebody made the first entry meanwhile. What you typed is kept here, as the second.",
    "differences_settled": "Settled. The form holds what was decided, and the log says why.",
    "text_coded": "Coded.",
    "text_settled": "Settled.",
    "study_draft_made": "Made. What is still to be mended stands below.",
    "study_draft_saved": "Saved in the draft.",
    "study_draft_form_added": "Added. Write its questions below.",
    "study_draft_form_removed": "The instrument is out of the draft.",
    "study_draft_undone": "The last change is taken back.",
    "study_draft_file_removed": "The file is out of the draft.",
    "study_draft_removed": "The draft is deleted.",
    "study_draft_loaded": "Loaded as a version. The draft stays as it is.",
    "study_begun": (
        "The study is here now, for whoever got a role in it. Others get theirs under People. "
        "If it randomises, a statistician draws and seals a sequence before anybody is."
    ),
    "access_reviewed": "Recorded. What was ended is gone from the next page they open.",
    "log_reviewed": "Recorded. The next review begins where this one ended.",
    "draft_dropped": "The draft is gone. You see what was saved.",
}

DAILY = (Permission.PARTICIPANT_SCREEN, Permission.ENTRY_SAVE, Permission.ENTRY_VERIFY)
"""Whoever does one of these has something to do every day, and Today says what."""

# Label, path below the study, icon, and the permissions of which any one shows it. The first that somebody has is their
# home: where they land after they signed in.
NAVIGATION: tuple[tuple[str, str, str, tuple[Permission, ...]], ...] = (
    ("Today", "/today", "calendar-check", DAILY),
    ("Treatment", "/treatment", "stethoscope", (Permission.ARM_READ,)),
    ("Participants", "/participants", "users", (Permission.PARTICIPANT_READ,)),
    ("Calendar", "/calendar", "calendar", (Permission.PARTICIPANT_READ,)),
    ("Messages", "/messages", "mail", (Permission.MESSAGE_READ,)),
    ("Safety", "/safety", "heart-pulse", (Permission.SAFETY_READ, Permission.EVENT_REPORT)),
    ("Queries", "/queries", "message-circle-question-mark", (Permission.ENTRY_READ,)),
    ("Source verification", "/verification", "list-checks", (Permission.ENTRY_VERIFY,)),
    ("Double entry", "/double", "copy", (Permission.ENTRY_READ,)),
    ("Coding", "/coding", "list-checks", (Permission.TEXT_CODE,)),
    ("Sequence", "/sequence", "lock", (Permission.SEQUENCE_DRAW,)),
    ("Reports", "/reports", "chart-column", (Permission.REPORT_READ,)),
    ("Exports", "/exports", "download", (Permission.EXPORT_RUN,)),
    ("Import", "/import", "upload", (Permission.DATA_IMPORT,)),
    ("Webhooks", "/webhooks", "send", (Permission.WEBHOOK_MANAGE,)),
    ("Study", "/study", "book-open", (Permission.STUDY_READ,)),
    ("Audit", "/audit", "scroll-text", (Permission.AUDIT_READ, Permission.AUDIT_VERIFY)),
)


def viewer_of(here: Here, *, sites: Sequence[tuple[str, str, str]] | None = None) -> Viewer:
    """The shell for this person here. `sites` are (code, name, timezone) when the page has them already."""
    request, actor, study = here.request, here.actor, here.study
    language = here.language
    gettext = translations(language).gettext
    path = request.url.path
    nav: list[NavItem] = []
    if study is not None:
        root = f"/{study.code}"
        nav = [
            NavItem(gettext(label), root + below, icon, path.startswith(root + below))
            for label, below, icon, any_of in NAVIGATION
            if any(may(actor, permission) for permission in any_of) and has_page(study.definition, below)
        ]
        if may(actor, Permission.PEOPLE_MANAGE):
            nav.append(NavItem(gettext("People"), "/people", "users"))
    else:  # a page of one's own: the way back to a study stands where its pages stood
        nav = [NavItem(gettext("Studies"), "/", "book-open", path == "/")]
        if may(actor, Permission.PEOPLE_MANAGE):
            nav.append(NavItem(gettext("People"), "/people", "users", path.startswith("/people")))
        if may(actor, Permission.STUDY_LOAD):
            begins = f"/{NEW_STUDY}"
            nav.append(NavItem(gettext("New study"), f"{begins}/study/drafts", "plus", path.startswith(begins)))
    places = sites if sites is not None else (study_sites(here) if study else ())
    return Viewer(
        person_name=actor.name,
        role_names=tuple(gettext(role.replace("_", " ").capitalize()) for role in sorted(actor.roles)),
        study_code=study.definition.short_title if study else None,
        study_title=study.definition.title if study else None,
        blinded=actor.blinded if study is not None and study.definition.blinded else None,
        nav=tuple(nav),
        sites=tuple((code, name) for code, name, _ in places),
        site_code=request.cookies.get("site"),
        csrf_token=masked(here.signed_in.csrf_token) if here.signed_in else "",
        theme=request.cookies.get("theme", ""),
        timezone=places[0][2] if places else "UTC",
        language=language,
        flashes=_flashes(request, gettext),
        home_url=f"/{study.code}" if study else "/",
        search_url=f"/{study.code}/participants" if study and may(actor, Permission.PARTICIPANT_READ) else "",
        site_url=f"/{study.code}/site" if study else "",
        account_url="/account",
        other_words=here.other_words if study else None,
        in_study_words=here.in_study_words,
    )


def has_page(definition: Study, below: str) -> bool:
    """Whether the study has anything there: few enter forms twice, or code texts, and not all treat by arms
    or have answers verified."""
    sometimes = {
        "/double": definition.has_double_entry,
        "/coding": definition.has_coding,
        "/treatment": definition.is_allocated,
        "/verification": definition.oversight.verification != "none",
    }
    return sometimes.get(below, True)


def study_sites(here: Here) -> tuple[tuple[str, str, str], ...]:
    """The sites this person works at in the study: (code, name, timezone)."""
    return tuple((row.code, row.name, row.timezone) for row in here.my_sites())


def _flashes(request: Request, gettext: object) -> tuple[Flash, ...]:
    assert callable(gettext)
    done = request.query_params.get("done", "")
    return (Flash("done", gettext(DONE[done])),) if done in DONE else ()


def told_all(here: Here, words: Mapping[str, str]) -> dict[str, str]:
    """Words of ours by their codes, each in the language of whoever reads."""
    return {code: here.tell(said) for code, said in words.items()}


def show(here: Here, template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
    """A page with its shell."""
    given, viewer = {"here_": here, **values}, viewer_of(here)
    here.has_read()
    return page(here.request, template, viewer=viewer, status_code=status_code, names=here.names, **given)


def status_of(problem: Problem | None) -> int:
    """The status of a page that shows a form again: 422 for what was typed, 409 for what is refused, else 200."""
    return 422 if isinstance(problem, Invalid) else 409 if problem else 200


def errors_of(problem: Problem | None) -> dict[str, str]:
    """What is wrong with each field of a form; nothing when it is not the fields that are wrong."""
    return {each.field: each.message for each in problem.problems} if isinstance(problem, Invalid) else {}


SECRETS = frozenset({"password", "code", "recovery_code", "passkey", "new_password", "new_password_again"})
"""Fields of forms that are never handed back to a browser."""


def too_large_page(request: Request) -> Response:
    """That a form was too large to be read, with the way back to it."""
    words = "Nothing of it was read, because it is larger than can be sent at once. Go back, and choose a smaller file."
    return problem_page(request, 413, "Too large", words, back=True)


def problem_page(
    request: Request,
    status: int,
    title: str,
    reason: str,
    *,
    typed: Mapping[str, Sequence[str]] | None = None,
    back: bool = False,
) -> Response:
    """What went wrong and what to do next, without the shell: it needs no database.

    `typed` is a form that was sent in vain: it stands on the page, to be sent again. `back`: a link leads to the page
    it was sent from, as it stands now.
    """
    language = getattr(request.state, "language", None) or language_of(request)
    viewer = Viewer(theme=request.cookies.get("theme", ""), language=language)
    fields = [(name, value) for name, values in (typed or {}).items() if name not in SECRETS for value in values]
    return page(
        request,
        "problem.html",
        viewer=viewer,
        status_code=status,
        heading=title,
        reason=reason,
        path=request.url.path,
        fields=fields,
        back=back,
    )
