"""Every address of the application, and who may use it. A route that is not in WHO fails the tests: write it down here.

The second half is what it takes to ask every address: known values for the parts of a path, bodies for the JSON doors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from app.people import permissions
from app.people.permissions import Role, holders
from app.signposts import Signposts

P = permissions.Permission

UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class Door:
    """One method at one address."""

    name: str
    path: str
    method: str

    @property
    def is_api(self) -> bool:
        return self.name.startswith("api.")

    @property
    def is_unsafe(self) -> bool:
        return self.method in UNSAFE

    @property
    def in_study(self) -> bool:
        return "{study}" in self.path

    def addresses(self, **values: Any) -> Iterator[str]:
        """The address with known values in its place; several values of one part give several addresses."""
        values = {**values, **OTHERWISE.get(self.name, {})}
        names = [part[1:-1].partition(":")[0] for part in _parts(self.path)]
        lacking = set(names) - set(values)
        assert not lacking, f"{self.name}: give tests/house/routes.py a value for {lacking}"
        each = [values[name] if isinstance(values[name], list | tuple) else [values[name]] for name in names]
        for chosen in product(*each):
            path = self.path
            for part, value in zip(_parts(self.path), chosen, strict=True):
                path = path.replace(part, str(value))
            yield path

    def address(self, **values: Any) -> str:
        """The first of its addresses."""
        return next(self.addresses(**values))


def _parts(path: str) -> list[str]:
    return [f"{{{piece.partition('}')[0]}}}" for piece in path.split("{")[1:]]


def doors(application: FastAPI) -> list[Door]:
    """Every method at every address, with its name; mounted files by their mount."""
    found = []
    for context in iter_route_contexts(application.routes):
        route: Any = context
        original = getattr(context, "original_route", context)
        if isinstance(original, Signposts):
            continue  # leads to the others
        if isinstance(original, Mount):
            found.append(Door(str(original.name), original.path + "/{file}", "GET"))
            continue
        for method in sorted(set(route.methods or ()) - {"HEAD"}):
            found.append(Door(str(route.name), str(route.path), method))
    return found


# Who may

ANYONE = "anyone"  # also without a session
SIGNED_IN = "anyone who is signed in"
IN_STUDY = "anyone with a role in the study"

Who = str | P | tuple[P, ...]

WHO: dict[str, Who] = {
    # the application itself
    "openapi": ANYONE,
    "static": ANYONE,
    "healthz": ANYONE,
    # getting in and out
    "sign_in.sign_in": ANYONE,
    "sign_in.check": ANYONE,
    "sign_in.check_passkey": ANYONE,
    "sign_in.welcome": ANYONE,
    "sign_in.choose_password": ANYONE,
    "sign_in.theme": ANYONE,
    "sign_in.language": ANYONE,
    # links that participants open, and those who give them
    "links.open_link": ANYONE,
    "links.send": ANYONE,
    "links.look": ANYONE,
    "links.links": P.PARTICIPANT_LINK,
    "links.give": P.PARTICIPANT_LINK,
    "links.end": P.PARTICIPANT_LINK,
    "sign_in.sign_out": SIGNED_IN,
    "sign_in.start": SIGNED_IN,
    # one's own access
    "account.show": SIGNED_IN,
    "account.language": SIGNED_IN,
    "account.password": SIGNED_IN,
    "account.start_second_factor": SIGNED_IN,
    "account.confirm_second_factor": SIGNED_IN,
    "account.remove_second_factor": SIGNED_IN,
    "account.make_recovery_codes": SIGNED_IN,
    "account.begin_passkey": SIGNED_IN,
    "account.add_passkey": SIGNED_IN,
    "account.remove_passkey": SIGNED_IN,  # one's own: of somebody else's nothing is said
    "account.ask_for_passkey": SIGNED_IN,
    "account.end_session": SIGNED_IN,  # one's own: an id of somebody else's is not found
    "account.end_other_sessions": SIGNED_IN,
    "account.choose_scopes": SIGNED_IN,  # the form of a new token, with more of it ticked: nothing is kept
    "account.create_token": P.TOKEN_CREATE,
    "account.revoke_token": SIGNED_IN,  # likewise
    # what waits on a device
    "kept.kept": SIGNED_IN,
    "kept.key": SIGNED_IN,
    # people
    "people.people": P.PEOPLE_MANAGE,
    "people.add": P.PEOPLE_MANAGE,
    "people.person": P.PEOPLE_MANAGE,
    "people.invite": P.PEOPLE_MANAGE,
    "people.grant": P.PEOPLE_MANAGE,
    "people.installation": P.PEOPLE_MANAGE,
    "people.revoke": P.PEOPLE_MANAGE,
    "people.deactivate": P.PEOPLE_MANAGE,
    "people.reset_second_factor": P.PEOPLE_MANAGE,
    "people.end_sessions": P.PEOPLE_MANAGE,
    "people.activate": P.PEOPLE_MANAGE,
    # today
    "today.start": IN_STUDY,
    "today.site": IN_STUDY,
    "today.today": P.PARTICIPANT_READ,
    # participants
    "participants.participants": P.PARTICIPANT_READ,
    "participants.find_form": P.IDENTITY_READ,
    "participants.find": P.IDENTITY_READ,
    "participants.screen_form": P.PARTICIPANT_SCREEN,
    "participants.screen": P.PARTICIPANT_SCREEN,
    "participants.show": P.PARTICIPANT_READ,
    "participants.show_identity": P.IDENTITY_READ,
    "participants.identity_form": P.IDENTITY_CHANGE,
    "participants.identity": P.IDENTITY_CHANGE,
    "participants.not_taking_part_form": P.PARTICIPANT_WITHDRAW,
    "participants.not_taking_part": P.PARTICIPANT_WITHDRAW,
    "participants.withdraw_form": P.PARTICIPANT_WITHDRAW,
    "participants.withdraw": P.PARTICIPANT_WITHDRAW,
    "participants.take_back_form": P.PARTICIPANT_WITHDRAW,
    "participants.take_back": P.PARTICIPANT_WITHDRAW,
    "participants.erase_form": P.PARTICIPANT_WITHDRAW,
    "participants.erase": P.PARTICIPANT_WITHDRAW,
    # consent
    "consent.record_form": P.CONSENT_RECORD,
    "consent.record": P.CONSENT_RECORD,
    "consent.countersign_form": P.CONSENT_COUNTERSIGN,
    "consent.countersign": P.CONSENT_COUNTERSIGN,
    "consent.show": P.PARTICIPANT_READ,
    "consent.owed": P.PARTICIPANT_READ,
    "consent.show_signature": P.IDENTITY_READ,
    "consent.signed_pdf": P.IDENTITY_READ,
    "consent.scan": P.IDENTITY_READ,
    "consent.verify_scan": P.CONSENT_COUNTERSIGN,
    # visits
    "visits.show": P.PARTICIPANT_READ,
    "visits.hold": P.VISIT_RECORD,
    "visits.miss": P.VISIT_RECORD,
    "visits.correct": P.VISIT_RECORD,
    "visits.reopen": P.VISIT_RECORD,
    "visits.held_form": IN_STUDY,  # these lead to the visit's own page, which asks again
    "visits.missed_form": IN_STUDY,
    "visits.corrected_form": IN_STUDY,
    "visits.reopened_form": IN_STUDY,
    "visits.add_form": P.PARTICIPANT_READ,
    "visits.add": P.VISIT_RECORD,
    # appointments
    "appointments.book_form": P.APPOINTMENT_BOOK,
    "appointments.book": P.APPOINTMENT_BOOK,
    "appointments.show": P.PARTICIPANT_READ,
    "appointments.move": P.APPOINTMENT_BOOK,
    "appointments.cancel": P.APPOINTMENT_BOOK,
    "appointments.no_show": P.APPOINTMENT_BOOK,
    "appointments.hold": P.APPOINTMENT_BOOK,
    "appointments.moved_form": IN_STUDY,  # these lead to the appointment's own page, which asks again
    "appointments.cancelled_form": IN_STUDY,
    "appointments.no_show_form": IN_STUDY,
    "appointments.held_form": IN_STUDY,
    # calendar
    "calendar.calendar": P.PARTICIPANT_READ,
    "calendar.feeds": P.PARTICIPANT_READ,
    "calendar.make_feed": P.PARTICIPANT_READ,
    "calendar.revoke_feed": P.PARTICIPANT_READ,
    "calendar.feed": ANYONE,  # who has its secret address
    # messages
    "reminders.reminders": P.MESSAGE_READ,
    "reminders.resend": P.MESSAGE_RESEND,
    "reminders.resent_form": IN_STUDY,  # leads to the list, which asks again
    "reminders.choice_form": P.APPOINTMENT_BOOK,
    "reminders.choice": P.APPOINTMENT_BOOK,
    # entries
    "entries.form": P.ENTRY_READ,
    "entries.save": P.ENTRY_SAVE,
    "entries.look": P.ENTRY_SAVE,
    "entries.keep_draft": P.ENTRY_SAVE,
    "entries.drop_draft": P.ENTRY_READ,  # a draft is of the person's own, and nobody else's is touched
    "entries.draft": P.ENTRY_READ,
    "entries.record": P.ENTRY_READ,
    "entries.history": P.ENTRY_READ,
    "entries.file": P.ENTRY_READ,
    "entries.sign_form": P.ENTRY_READ,
    "entries.sign": P.ENTRY_SIGN,
    "signing.visit_form": P.ENTRY_SIGN,
    "signing.visit": P.ENTRY_SIGN,
    "signing.casebook_form": P.ENTRY_SIGN,
    "signing.casebook": P.ENTRY_SIGN,
    "entries.verify_form": P.ENTRY_READ,  # leads to what is saved
    "entries.verify": P.ENTRY_VERIFY,
    "entries.in_error_form": P.ENTRY_READ,  # leads to what is saved
    "entries.mark_in_error": P.ENTRY_SAVE,
    # casebook and locks
    "casebook.casebook": P.ENTRY_READ,
    "casebook.file": P.ENTRY_READ,
    "casebook.own_copy": P.IDENTITY_READ,
    "casebook.sign_form": P.ENTRY_READ,
    "casebook.sign": P.CASEBOOK_SIGN,
    "locks.locks": P.ENTRY_READ,
    "locks.close": P.DATA_LOCK,
    "locks.lift_form": IN_STUDY,  # these lead to the page of all locks, which asks again
    "locks.ask_form": IN_STUDY,
    "locks.approve_form": IN_STUDY,
    "locks.decline_form": IN_STUDY,
    "locks.lift": P.DATA_LOCK,
    "locks.ask": P.DATA_UNLOCK,
    "locks.approve": P.DATA_UNLOCK,
    "locks.decline": P.DATA_UNLOCK,
    # double entry and coding
    "double.forms": P.ENTRY_READ,
    "double.agreement": P.AGREEMENT_READ,
    "double.pair": P.ENTRY_READ,
    "double.reconcile_form": P.ENTRY_READ,  # leads to the pair
    "double.reconcile": P.ENTRY_RECONCILE,
    "double.second_form": P.ENTRY_SAVE,
    "double.second": P.ENTRY_SAVE,
    "double.look": P.ENTRY_SAVE,
    "double.keep_draft": P.ENTRY_SAVE,
    "double.drop_draft": P.ENTRY_SAVE,
    "double.draft": P.ENTRY_SAVE,  # leads to the second entry
    "coding.texts": P.TEXT_CODE,
    "coding.agreement": P.AGREEMENT_READ,
    "coding.text": P.TEXT_CODE,
    "coding.code_form": P.TEXT_CODE,  # these lead to the text
    "coding.reconcile_form": P.TEXT_CODE,
    "coding.code": P.TEXT_CODE,
    "coding.reconcile": P.TEXT_RECONCILE,
    # queries
    "queries.queries": P.ENTRY_READ,
    "queries.file": P.ENTRY_READ,
    "queries.item": P.ENTRY_READ,
    "queries.raise": P.QUERY_RAISE,
    "queries.show": P.ENTRY_READ,
    "queries.answer_form": P.ENTRY_READ,  # these lead to the answer's own page, which asks again
    "queries.requery_form": P.ENTRY_READ,
    "queries.close_form": P.ENTRY_READ,
    "queries.answer": P.QUERY_ANSWER,
    "queries.requery": P.QUERY_CLOSE,
    "queries.close": P.QUERY_CLOSE,
    # randomisation
    "randomisation.randomise_form": P.PARTICIPANT_READ,
    "randomisation.randomise": P.PARTICIPANT_RANDOMISE,
    "randomisation.randomised": P.PARTICIPANT_READ,
    # escrow of the seed
    "escrow.key_form": P.SEQUENCE_DRAW,
    "escrow.key": P.SEQUENCE_SEAL,
    "escrow.file": P.SEQUENCE_DRAW,
    # downtime: packs are the statistician's, one slip is entered by whoever randomises
    "downtime.packs": P.SEQUENCE_DRAW,
    "downtime.make": P.SEQUENCE_SEAL,
    "downtime.pack": P.SEQUENCE_DRAW,
    "downtime.void_form": P.SEQUENCE_DRAW,
    "downtime.close_form": P.SEQUENCE_DRAW,
    "downtime.void": P.SEQUENCE_SEAL,
    "downtime.close": P.SEQUENCE_SEAL,
    "downtime.enter_form": P.PARTICIPANT_RANDOMISE,
    "downtime.enter": P.PARTICIPANT_RANDOMISE,
    # randomised in error
    "in_error.record_form": P.PARTICIPANT_RECORD_ERROR,
    "in_error.record": P.PARTICIPANT_RECORD_ERROR,
    # safety: who treats sees what they reported themselves
    "safety.events": (P.SAFETY_READ, P.EVENT_REPORT),
    "safety.report_form": P.EVENT_REPORT,
    "safety.report": P.EVENT_REPORT,
    "safety.event": (P.SAFETY_READ, P.EVENT_REPORT),
    "safety.follow_up_form": P.EVENT_REPORT,
    "safety.follow_up": P.EVENT_REPORT,
    "safety.void": P.EVENT_REPORT,
    "safety.judge": P.EVENT_JUDGE,
    "safety.review": P.EVENT_REVIEW,
    "safety.stop_clock": P.EVENT_REPORT,
    "safety.void_form": IN_STUDY,  # these lead to the event's own page, which asks again
    "safety.judge_form": IN_STUDY,
    "safety.review_form": IN_STUDY,
    "safety.clock_form": IN_STUDY,
    # conduct: deviations, contacts, care, ends, screening
    "conduct.deviations": P.SAFETY_READ,
    "conduct.look": P.SAFETY_READ,  # it writes down what follows from other records, and nothing a person decides
    "conduct.look_form": IN_STUDY,  # this leads to the list, which asks again
    "conduct.act_on_chosen_form": P.DEVIATION_REPORT,
    "conduct.act_on_chosen": P.DEVIATION_REPORT,
    "conduct.sign_chosen_form": P.DEVIATION_SIGN,
    "conduct.sign_chosen": P.DEVIATION_SIGN,
    "conduct.report_deviation_form": P.DEVIATION_REPORT,
    "conduct.report_deviation": P.DEVIATION_REPORT,
    "conduct.deviation": P.SAFETY_READ,
    "conduct.act": P.DEVIATION_REPORT,
    "conduct.sign": P.DEVIATION_SIGN,
    "conduct.take_back": P.DEVIATION_REPORT,
    "conduct.act_form": IN_STUDY,  # these lead to the deviation's own page, which asks again
    "conduct.sign_form": IN_STUDY,
    "conduct.take_back_form": IN_STUDY,
    "conduct.contacts": P.SAFETY_READ,
    "conduct.contact": P.CONTACT_RECORD,
    "conduct.care": P.SAFETY_READ,
    "conduct.keep_care": P.CARE_RECORD,
    "conduct.lost_form": P.PARTICIPANT_WITHDRAW,
    "conduct.lost": P.PARTICIPANT_WITHDRAW,
    "conduct.completion_form": P.PARTICIPANT_WITHDRAW,
    "conduct.completion": P.PARTICIPANT_WITHDRAW,
    "conduct.death_form": P.PARTICIPANT_WITHDRAW,
    "conduct.death": P.PARTICIPANT_WITHDRAW,
    "conduct.screening_log": P.SAFETY_READ,
    # unblinding
    "unblinding.emergency_form": P.ALLOCATION_UNBLIND,
    "unblinding.emergency": P.ALLOCATION_UNBLIND,
    "unblinding.report": P.UNBLINDING_READ,
    "unblinding.report_file": P.UNBLINDING_READ,
    "unblinding.accidental_form": P.UNBLINDING_RECORD,
    "unblinding.accidental": P.UNBLINDING_RECORD,
    "unblinding.request_form": P.UNBLINDING_REQUEST,
    "unblinding.request": P.UNBLINDING_REQUEST,
    "unblinding.show": P.UNBLINDING_READ,
    "unblinding.impact_form": IN_STUDY,  # these lead to the case's own page, which asks again
    "unblinding.approve_form": IN_STUDY,
    "unblinding.refuse_form": IN_STUDY,
    "unblinding.impact": P.UNBLINDING_ASSESS,
    "unblinding.approve": P.UNBLINDING_APPROVE,
    "unblinding.refuse": P.UNBLINDING_APPROVE,
    "unblinding.arms": P.UNBLINDING_REQUEST,
    "unblinding.arms_file": P.UNBLINDING_REQUEST,
    # the statistician's and the clinicians' own
    "sequence.sequence": P.SEQUENCE_DRAW,
    "design.design": P.SEQUENCE_DRAW,
    "design.compare": P.SEQUENCE_DRAW,
    "sequence.draw_form": P.SEQUENCE_DRAW,
    "sequence.draw": P.SEQUENCE_DRAW,
    "sequence.upload_form": P.SEQUENCE_DRAW,
    "sequence.upload": P.SEQUENCE_DRAW,
    "sequence.review": P.SEQUENCE_DRAW,
    "sequence.script_python": P.SEQUENCE_DRAW,
    "sequence.script_r": P.SEQUENCE_DRAW,
    "sequence.set_aside_form": P.SEQUENCE_DRAW,
    "sequence.set_aside": P.SEQUENCE_DRAW,
    "sequence.seal_form": P.SEQUENCE_SEAL,
    "sequence.seal": P.SEQUENCE_SEAL,
    "sequence.allocations": P.ALLOCATIONS_EXPORT,
    "sequence.allocations_file": P.ALLOCATIONS_EXPORT,
    "blinding.report": P.ALLOCATIONS_EXPORT,
    "blinding.report_pdf": P.ALLOCATIONS_EXPORT,
    "by_arm.flow": P.ALLOCATIONS_EXPORT,
    "by_arm.flow_file": P.ALLOCATIONS_EXPORT,
    "by_arm.flow_pdf": P.ALLOCATIONS_EXPORT,
    "commitment.certificate": P.SEQUENCE_DRAW,
    "commitment.certificate_file": P.SEQUENCE_DRAW,
    "commitment.certificate_pdf": P.SEQUENCE_DRAW,
    "commitment.proofs_file": P.ALLOCATIONS_EXPORT,
    "commitment.close_form": P.SEQUENCE_DRAW,
    "commitment.close": P.SEQUENCE_SEAL,
    "commitment.plan_file": P.ALLOCATIONS_EXPORT,
    "treatment.treatment": P.ARM_READ,
    "treatment.participant": P.ARM_READ,
    "treatment.stop_form": P.TREATMENT_RECORD,
    "treatment.stop": P.TREATMENT_RECORD,
    "treatment.resume_form": P.TREATMENT_RECORD,
    "treatment.resume": P.TREATMENT_RECORD,
    "treatment.session_form": P.TREATMENT_RECORD,
    "treatment.session": P.TREATMENT_RECORD,
    "treatment.history": P.ARM_READ,
    "treatment.missed_form": P.TREATMENT_RECORD,
    "treatment.missed": P.TREATMENT_RECORD,
    # exports, study, audit
    "reports.reports": P.REPORT_READ,
    "exports.exports": P.EXPORT_RUN,
    "exports.file": P.EXPORT_RUN,
    "exports.dummy_file": P.EXPORT_RUN,
    "imports.imports": P.DATA_IMPORT,
    "imports.upload": P.DATA_IMPORT,
    "imports.file": P.DATA_IMPORT,
    "imports.carry_out": P.DATA_IMPORT,
    "exports.bundle_file": P.EXPORT_RUN,
    "exports.make": P.EXPORT_RUN,
    "exports.history": P.EXPORT_RUN,
    "exports.made": P.EXPORT_RUN,
    "exports.made_file": P.EXPORT_RUN,
    "exports.manifest_file": P.EXPORT_RUN,
    "webhooks.webhooks": P.WEBHOOK_MANAGE,
    "webhooks.make": P.WEBHOOK_MANAGE,
    "webhooks.show": P.WEBHOOK_MANAGE,
    "webhooks.change": P.WEBHOOK_MANAGE,
    "study.study": P.STUDY_READ,
    "study.roles": P.STUDY_READ,
    "study.usdm": P.STUDY_READ,
    # a file from elsewhere becomes a folder to download: nothing is loaded or kept
    "importing.start": P.STUDY_LOAD,
    "importing.convert": P.STUDY_LOAD,
    # drafts: administrators' alone
    "drafts.drafts": P.STUDY_LOAD,
    "drafts.make": P.STUDY_LOAD,
    "drafts.draft": P.STUDY_LOAD,
    "drafts.folder_file": P.STUDY_LOAD,
    "drafts.open_file": P.STUDY_LOAD,
    "drafts.file": P.STUDY_LOAD,
    "drafts.save_file": P.STUDY_LOAD,
    "drafts.edit": P.STUDY_LOAD,
    "drafts.change": P.STUDY_LOAD,
    "drafts.load_form": P.STUDY_LOAD,
    "drafts.load": P.STUDY_LOAD,
    "drafts.remove_form": P.STUDY_LOAD,
    "drafts.remove": P.STUDY_LOAD,
    "drafts.preview": P.STUDY_LOAD,
    "drafts.look": P.STUDY_LOAD,
    "drafts.look_at_fields": P.STUDY_LOAD,
    "drafts.look_at_consent": P.STUDY_LOAD,
    "drafts.plan": P.STUDY_LOAD,
    "drafts.consent": P.STUDY_LOAD,
    # amendments: who reads no participants learns how many, and nothing of anybody
    "amendments.versions": P.STUDY_READ,
    "amendments.differences": P.STUDY_READ,
    "amendments.effect": P.STUDY_READ,
    "amendments.plan": P.STUDY_AMEND,
    "amendments.cancel": P.STUDY_AMEND,
    "amendments.carry_on": P.STUDY_AMEND,
    "amendments.plan_form": IN_STUDY,  # these lead to pages that ask again
    "amendments.cancel_form": IN_STUDY,
    "amendments.carry_on_form": IN_STUDY,
    "audit.audit": (P.AUDIT_READ, P.AUDIT_VERIFY),
    "audit.file": P.AUDIT_READ,
    "audit.verify": P.AUDIT_VERIFY,
    "concealment.statement": (P.SEQUENCE_DRAW, P.LOG_REVIEW),
    "concealment.statement_file": (P.SEQUENCE_DRAW, P.LOG_REVIEW),
    "concealment.statement_pdf": (P.SEQUENCE_DRAW, P.LOG_REVIEW),
    "oversight.review": P.LOG_REVIEW,
    "oversight.record": P.LOG_REVIEW,
    "oversight.reviews": P.LOG_REVIEW,
    "oversight.past": P.LOG_REVIEW,
    "oversight.period": P.LOG_REVIEW,
    "oversight.period_pdf": P.LOG_REVIEW,
    "oversight.access": P.PEOPLE_MANAGE,
    "oversight.record_access": P.PEOPLE_MANAGE,
    "oversight.past_access": P.PEOPLE_MANAGE,
    # the REDCap-compatible door: one address, with the token in the form; tests/api/redcap has its own table
    "redcap.door": ANYONE,
    "redcap.elsewise": ANYONE,
    "redcap.slash": ANYONE,
    "redcap.survey": ANYONE,  # leads to a participant's link, which asks who they are
    # JSON
    "api.token": IN_STUDY,  # of itself
    "api.studies": IN_STUDY,  # the one it is for
    "api.study": P.STUDY_READ,
    "api.instruments": P.STUDY_READ,
    "api.usdm": P.STUDY_READ,
    "api.drafts": P.STUDY_LOAD,
    "api.make_draft": P.STUDY_LOAD,
    "api.import_study": P.STUDY_LOAD,
    "api.draft": P.STUDY_LOAD,
    "api.draft_folder": P.STUDY_LOAD,
    "api.send_folder": P.STUDY_LOAD,
    "api.save_draft_file": P.STUDY_LOAD,
    "api.load_draft": P.STUDY_LOAD,
    "api.remove_draft": P.STUDY_LOAD,
    "api.versions": P.STUDY_READ,
    "api.differences": P.STUDY_READ,
    "api.effect": P.PARTICIPANT_READ,
    "api.amendments": P.STUDY_READ,
    "api.plan_amendment": P.STUDY_AMEND,
    "api.cancel_amendment": P.STUDY_AMEND,
    "api.carry_on_amendment": P.STUDY_AMEND,
    "api.participants": P.PARTICIPANT_READ,
    "api.screen": P.PARTICIPANT_SCREEN,
    "api.find_people": P.IDENTITY_READ,
    "api.participant": P.PARTICIPANT_READ,
    "api.personal_data": P.IDENTITY_READ,
    "api.change_personal_data": P.IDENTITY_CHANGE,
    "api.fail_screening": P.PARTICIPANT_WITHDRAW,
    "api.withdraw": P.PARTICIPANT_WITHDRAW,
    "api.take_back_withdrawal": P.PARTICIPANT_WITHDRAW,
    "api.erase": P.PARTICIPANT_WITHDRAW,
    "api.consent_documents": P.STUDY_READ,
    "api.consents": P.PARTICIPANT_READ,
    "api.reconsents": P.PARTICIPANT_READ,
    "api.record_consent": P.CONSENT_RECORD,
    "api.countersign": P.CONSENT_COUNTERSIGN,
    "api.consent_signature": P.IDENTITY_READ,
    "api.visits": P.PARTICIPANT_READ,
    "api.visits_due": P.PARTICIPANT_READ,
    "api.record_visit": P.VISIT_RECORD,
    "api.correct_visit": P.VISIT_RECORD,
    "api.reopen_visit": P.VISIT_RECORD,
    "api.add_visit": P.VISIT_RECORD,
    "api.appointments": P.PARTICIPANT_READ,
    "api.book": P.APPOINTMENT_BOOK,
    "api.move_appointment": P.APPOINTMENT_BOOK,
    "api.cancel_appointment": P.APPOINTMENT_BOOK,
    "api.record_appointment": P.APPOINTMENT_BOOK,
    "api.calendar": P.PARTICIPANT_READ,
    "api.messages": P.MESSAGE_READ,
    "api.resend_message": P.MESSAGE_RESEND,
    "api.reminders": P.APPOINTMENT_BOOK,
    "api.choose_reminders": P.APPOINTMENT_BOOK,
    "api.entries": P.ENTRY_READ,
    "api.entry": P.ENTRY_READ,
    "api.repeats": P.ENTRY_READ,
    "api.mark_in_error": P.ENTRY_SAVE,
    "api.save_entry": P.ENTRY_SAVE,
    "api.keep_file": P.ENTRY_SAVE,
    "api.entry_file": P.ENTRY_READ,
    "api.sign_entry": P.ENTRY_SIGN,
    "api.to_sign": P.ENTRY_SIGN,
    "api.sign_visit": P.ENTRY_SIGN,
    "api.casebook_to_sign": P.ENTRY_SIGN,
    "api.sign_casebook_entries": P.ENTRY_SIGN,
    "api.casebooks_due": P.CASEBOOK_SIGN,
    "api.entry_history": P.ENTRY_READ,
    "api.verify_entry": P.ENTRY_VERIFY,
    "api.casebook": P.ENTRY_READ,
    "api.casebook_file": P.ENTRY_READ,
    "api.own_copy": P.IDENTITY_READ,
    "api.sign_casebook": P.CASEBOOK_SIGN,
    "api.locks": P.ENTRY_READ,
    "api.close_data": P.DATA_LOCK,
    "api.lift_freezing": P.DATA_LOCK,
    "api.ask_to_unlock": P.DATA_UNLOCK,
    "api.decide_unlock": P.DATA_UNLOCK,
    "api.enter_second": P.ENTRY_SAVE,
    "api.double_entries": P.ENTRY_READ,
    "api.double_entry": P.ENTRY_READ,
    "api.reconcile": P.ENTRY_RECONCILE,
    "api.entry_agreement": P.AGREEMENT_READ,
    "api.coded_texts": P.TEXT_CODE,
    "api.coded_text": P.TEXT_CODE,
    "api.code_text": P.TEXT_CODE,
    "api.reconcile_text": P.TEXT_RECONCILE,
    "api.terms": P.TEXT_CODE,
    "api.coding_agreement": P.AGREEMENT_READ,
    "api.queries": P.ENTRY_READ,
    "api.query": P.ENTRY_READ,
    "api.raise_query": P.QUERY_RAISE,
    "api.answer_query": P.QUERY_ANSWER,
    "api.requery": P.QUERY_CLOSE,
    "api.close_query": P.QUERY_CLOSE,
    "api.reports": P.REPORT_READ,
    "api.exports": P.EXPORT_RUN,
    "api.datasets": P.EXPORT_RUN,
    "api.dataset": P.EXPORT_RUN,
    "api.export": P.EXPORT_RUN,
    "api.dummy_export": P.EXPORT_RUN,
    "api.import_entries": P.DATA_IMPORT,
    "api.import_csv": P.DATA_IMPORT,
    "api.import_mappings": P.DATA_IMPORT,
    "api.save_import_mapping": P.DATA_IMPORT,
    "api.export_bundle": P.EXPORT_RUN,
    "api.export_runs": P.EXPORT_RUN,
    "api.make_export": P.EXPORT_RUN,
    "api.export_run": P.EXPORT_RUN,
    "api.export_run_file": P.EXPORT_RUN,
    "api.export_manifest": P.EXPORT_RUN,
    "api.export_definitions": P.EXPORT_RUN,
    "api.define_export": P.EXPORT_RUN,
    "api.webhooks": P.WEBHOOK_MANAGE,
    "api.make_webhook": P.WEBHOOK_MANAGE,
    "api.change_webhook": P.WEBHOOK_MANAGE,
    "api.test_webhook": P.WEBHOOK_MANAGE,
    "api.webhook_deliveries": P.WEBHOOK_MANAGE,
    "api.audit": P.AUDIT_READ,
    "api.verify_log": P.AUDIT_VERIFY,
    "api.concealment": (P.SEQUENCE_DRAW, P.LOG_REVIEW),
    "api.log_review": P.LOG_REVIEW,
    "api.log_reviews": P.LOG_REVIEW,
    "api.one_log_review": P.LOG_REVIEW,
    "api.review_log": P.LOG_REVIEW,
    "api.gates": P.PARTICIPANT_READ,
    "api.randomise": P.PARTICIPANT_RANDOMISE,
    "api.links": P.PARTICIPANT_LINK,
    "api.give_link": P.PARTICIPANT_LINK,
    "api.end_link": P.PARTICIPANT_LINK,
    "api.randomise_first": P.PARTICIPANT_RANDOMISE,
    "api.randomised_in_error": P.PARTICIPANT_READ,
    "api.record_randomised_in_error": P.PARTICIPANT_RECORD_ERROR,
    "api.adverse_events": (P.SAFETY_READ, P.EVENT_REPORT),
    "api.adverse_event": (P.SAFETY_READ, P.EVENT_REPORT),
    "api.report_adverse_event": P.EVENT_REPORT,
    "api.follow_up_adverse_event": P.EVENT_REPORT,
    "api.void_adverse_event": P.EVENT_REPORT,
    "api.judge_adverse_event": P.EVENT_JUDGE,
    "api.review_adverse_event": P.EVENT_REVIEW,
    "api.stop_clock": P.EVENT_REPORT,
    "api.deviations": P.SAFETY_READ,
    "api.deviation": P.SAFETY_READ,
    "api.report_deviation": P.DEVIATION_REPORT,
    "api.act_on_deviation": P.DEVIATION_REPORT,
    "api.sign_deviation": P.DEVIATION_SIGN,
    "api.act_on_deviations": P.DEVIATION_REPORT,
    "api.sign_deviations": P.DEVIATION_SIGN,
    "api.take_deviation_back": P.DEVIATION_REPORT,
    "api.look_for_deviations": P.SAFETY_READ,
    "api.contacts": P.SAFETY_READ,
    "api.record_contact": P.CONTACT_RECORD,
    "api.care": P.SAFETY_READ,
    "api.record_care": P.CARE_RECORD,
    "api.ends": P.SAFETY_READ,
    "api.record_end": P.PARTICIPANT_WITHDRAW,
    "api.screening_log": P.SAFETY_READ,
    "api.unblind": P.ALLOCATION_UNBLIND,
    "api.unblindings": P.UNBLINDING_READ,
    "api.openings": P.UNBLINDING_READ,
    "api.unblinding": P.UNBLINDING_READ,
    "api.record_accidental": P.UNBLINDING_RECORD,
    "api.request_unblinding": P.UNBLINDING_REQUEST,
    "api.assess_unblinding": P.UNBLINDING_ASSESS,
    "api.decide_unblinding": P.UNBLINDING_APPROVE,
    "api.unblinded_arms": P.UNBLINDING_REQUEST,
    "api.sequences": P.SEQUENCE_DRAW,
    "api.sequence": P.SEQUENCE_DRAW,
    "api.draw": P.SEQUENCE_DRAW,
    "api.review_sequence": P.SEQUENCE_DRAW,
    "api.set_aside": P.SEQUENCE_DRAW,
    "api.script_python": P.SEQUENCE_DRAW,
    "api.script_r": P.SEQUENCE_DRAW,
    "api.seal": P.SEQUENCE_SEAL,
    "api.blinding": P.ALLOCATIONS_EXPORT,
    "api.flow_by_arm": P.ALLOCATIONS_EXPORT,
    "api.certificate": P.SEQUENCE_DRAW,
    "api.proofs": P.ALLOCATIONS_EXPORT,
    "api.close_sequence": P.SEQUENCE_SEAL,
    "api.plan": P.ALLOCATIONS_EXPORT,
    "api.escrow_key": P.SEQUENCE_DRAW,
    "api.store_escrow_key": P.SEQUENCE_SEAL,
    "api.escrow": P.SEQUENCE_DRAW,
    "api.downtime_packs": P.SEQUENCE_DRAW,
    "api.make_downtime_pack": P.SEQUENCE_SEAL,
    "api.downtime_slips": P.SEQUENCE_DRAW,
    "api.void_downtime_slip": P.SEQUENCE_SEAL,
    "api.close_downtime_pack": P.SEQUENCE_SEAL,
    "api.enter_slip": P.PARTICIPANT_RANDOMISE,
    "api.allocations": P.ALLOCATIONS_EXPORT,
    "api.unblinded_export": P.ALLOCATIONS_EXPORT,
    "api.treated": P.ARM_READ,
    "api.treatment": P.ARM_READ,
    "api.stop_treatment": P.TREATMENT_RECORD,
    "api.resume_treatment": P.TREATMENT_RECORD,
    "api.record_session": P.TREATMENT_RECORD,
    "api.session_history": P.ARM_READ,
    "api.exposure": P.ALLOCATIONS_EXPORT,
    "api.miss_session": P.TREATMENT_RECORD,
    "api.reopen_session": P.TREATMENT_RECORD,
}


def expected_roles(name: str) -> frozenset[Role]:
    """The roles that may use this door."""
    who = WHO[name]
    if isinstance(who, P):
        return holders(who)
    if isinstance(who, tuple):
        return frozenset().union(*map(holders, who))
    return frozenset(Role)


# What it takes to ask

VALUES: dict[str, Any] = {
    "study": "mini",
    "code": "M-900",  # beyond the numbers that screening gives
    "visit": "week18",
    "instrument": "pain",
    "item": "pain_nrs",
    "dictionary": "complaints",
    "table": "participants",
    "name": "diaries",
    "extension": "csv",
    "notation": "json",
    "dataset": "IG.DM",
    "file": "equipoise.css",
    "token": "not-a-token",
    "session_id": "none-of-mine",
    "consent_id": 1,
    "link_id": 0,
    "person_id": 1,
    "membership_id": 1,
    "token_id": 1,
    "feed_id": 1,
    "version": 1,
    "sequence_id": 1,
    "number": 1,
    "slip": 1,
    "path": "study.yaml",
    "part": "visits",
    "later": "1",
    "earlier": "1",
}

SESSION = {"visit": "tx01"}
FIRST = {"number": 1}  # of what only leads to a page that is asked for itself
OTHERWISE: dict[str, dict[str, Any]] = {
    "safety.follow_up_form": FIRST,
    "safety.void_form": FIRST,
    "safety.judge_form": FIRST,
    "safety.review_form": FIRST,
    "safety.clock_form": FIRST,
    "conduct.act_form": FIRST,
    "conduct.sign_form": FIRST,
    "conduct.take_back_form": FIRST,
    "amendments.cancel_form": FIRST,
    "amendments.carry_on_form": FIRST,
    "treatment.session_form": SESSION,
    "treatment.session": SESSION,
    "treatment.history": SESSION,
    "treatment.missed_form": SESSION,
    "treatment.missed": SESSION,
    "api.record_session": SESSION,
    "api.session_history": SESSION,
    "api.miss_session": SESSION,
    "api.reopen_session": SESSION,
}

FALL = {"term": "A fall", "onset": "2026-03-02", "severity": "mild"}

# What a JSON door needs to get as far as asking who may: sound in form, and refused further on where it can be.
BODIES: dict[str, dict[str, Any]] = {
    "api.review_log": {"since": 0, "upto": 1, "follows": "Nothing."},
    "api.make_webhook": {"url": "https://example.org/", "events": ["entry.changed"]},
    "api.change_webhook": {"state": "paused"},
    "api.import_entries": {"rows": [{"participant": "M-900", "visit": "week18", "pain_nrs": 4}], "dry_run": True},
    "api.save_import_mapping": {"participant": "id"},
    "api.screen": {"site": "north", "answers": {"age": 40, "pain_screen": 5, "surgery": False}},
    "api.find_people": {"text": "Ada"},
    "api.change_personal_data": {"personal": {"given_name": "Anna"}, "version": 7, "why": "Married"},
    "api.plan_amendment": {"version": "1", "sites": ["north"], "why": "Ethics, 1 March 2026"},
    "api.make_draft": {"name": "A draft", "files": {"study.yaml": "code: mini"}},
    "api.save_draft_file": {"path": "study.yaml", "text": "code: mini", "version": 0},
    "api.load_draft": {"password": "not this one"},
    "api.cancel_amendment": {"why": "Not approved"},
    "api.fail_screening": {"reason": "declined"},
    "api.withdraw": {"level": "treatment", "on": "2026-03-02", "reason": "Moved away"},
    "api.take_back_withdrawal": {"why": "Recorded for another one"},
    "api.erase": {"why": "Asked for it", "password": "not this one"},
    "api.stop_treatment": {"on": "2026-03-02", "reason": "No time"},
    "api.resume_treatment": {"why": "Recorded for another one"},
    "api.record_consent": {"version": "1", "signed_on": "2026-03-02", "signature": "Anna", "countersign": False},
    "api.countersign": {},
    "api.record_visit": {"status": "missed", "reason": "Ill", "version": 1},
    "api.correct_visit": {"held_on": "2026-03-02", "version": 1, "why": "Misread"},
    "api.reopen_visit": {"version": 1, "why": "Misread"},
    "api.add_visit": {"held_on": "2026-03-02", "reason": "Pain came back"},
    "api.book": {"visit": "week18", "day": "2026-07-06", "time": "10:00"},
    "api.move_appointment": {"day": "2026-07-07", "time": "10:00", "version": 1},
    "api.cancel_appointment": {"version": 1, "why": "Ill"},
    "api.record_appointment": {"status": "no_show", "version": 1},
    "api.resend_message": {"why": "Mended"},
    "api.choose_reminders": {"mail": False, "sms": True, "version": 0},
    "api.save_entry": {"values": {"pain_nrs": 4}, "accept_partial": True},
    "api.sign_entry": {"version": 1},
    "api.sign_casebook_entries": {
        "entries": [{"visit": "week18", "instrument": "pain", "version": 1, "digest": "0" * 64}]
    },
    "api.sign_visit": {"entries": [{"instrument": "pain", "version": 1, "digest": "0" * 64}]},
    "api.verify_entry": {"version": 1},
    "api.mark_in_error": {"in_error": True, "version": 1, "why": "Another participant's"},
    "api.sign_casebook": {"digest": "0" * 64},
    "api.close_data": {"kind": "frozen", "participants": ["M-900"], "why": "Clean"},
    "api.lift_freezing": {"why": "A page was found"},
    "api.ask_to_unlock": {"why": "A page was found"},
    "api.decide_unlock": {"approve": False, "why": "Not needed"},
    "api.enter_second": {"values": {"pain_nrs": 4}},
    "api.reconcile": {"decisions": {"pain_nrs": {"chosen": "first", "why": "The paper says so"}}, "version": 2},
    "api.code_text": {"code": "LBP"},
    "api.reconcile_text": {"code": "LBP", "why": "The guide says so", "version": 3},
    "api.raise_query": {"item": "pain_nrs", "text": "Which is right?"},
    "api.answer_query": {"text": "The source says 4.", "version": 1},
    "api.requery": {"text": "Which source?", "version": 1},
    "api.close_query": {"version": 1},
    "api.randomise": {},
    "api.give_link": {"purpose": "questions", "about": "week18"},
    "api.randomise_first": {},
    "api.record_randomised_in_error": {"reason": "ineligible", "why": "Too old", "found_on": "2026-03-02"},
    "api.report_adverse_event": {"details": FALL, "aware_at": "2026-03-02T09:00:00+00:00"},
    "api.follow_up_adverse_event": {
        "kind": "follow_up",
        "details": FALL,
        "aware_at": "2026-03-02T09:00:00+00:00",
        "version": 1,
    },
    "api.void_adverse_event": {"why": "Another's", "version": 1},
    "api.judge_adverse_event": {"relatedness": "possible", "expected": True, "words": "So", "version": 1},
    "api.review_adverse_event": {"agree": True, "judgement": 1},
    "api.stop_clock": {"clock": "sponsor", "sent_at": "2026-03-02T09:00:00+00:00", "reference": "By mail"},
    "api.report_deviation": {"category": "other", "grade": "minor", "occurred_on": "2026-03-02", "what": "At home"},
    "api.act_on_deviation": {"grade": "minor", "action": "None", "version": 1},
    "api.sign_deviation": {"version": 1, "password": "not this one"},
    "api.act_on_deviations": {"deviations": [{"number": 1, "version": 1}], "action": "None"},
    "api.sign_deviations": {"deviations": [{"number": 1, "version": 1}], "password": "not this one"},
    "api.take_deviation_back": {"why": "Another's", "version": 1},
    "api.record_contact": {"at": "2026-03-02T09:00:00+00:00", "how": "call", "result": "reached"},
    "api.record_care": {"treatment": "Ibuprofen", "began": "2026", "indication": "Headache"},
    "api.record_end": {"kind": "lost", "on": "2026-03-02", "words": "Five calls", "password": "not this one"},
    "api.unblind": {"reason": "overdose", "why": "Found at home", "asked_by": "The ward", "password": "not this one"},
    "api.record_accidental": {
        "participant": "M-900",
        "learnt_by": "The assessor",
        "on": "2026-03-02",
        "how": "A letter",
    },
    "api.request_unblinding": {"why": "The analysis"},
    "api.assess_unblinding": {"impact": "None"},
    "api.decide_unblinding": {"approve": False, "why": "Too early"},
    "api.draw": {"method": "permuted_blocks", "block_sizes": [4], "slots_per_stratum": 8},
    "api.set_aside": {"why": "Wrong blocks"},
    "api.seal": {"password": "not this one"},
    "api.close_sequence": {"password": "not this one", "why": "Over"},
    "api.store_escrow_key": {"pem": "not a key", "password": "not this one"},
    "api.make_downtime_pack": {"site": "north", "slots": 2, "why": "Power", "password": "not this one"},
    "api.void_downtime_slip": {"why": "Spoilt"},
    "api.close_downtime_pack": {"password": "not this one", "why": "Over"},
    "api.enter_slip": {
        "slip": "1-01",
        "at": "2026-03-02T09:00:00+00:00",
        "used_by": "Nora",
        "password": "not this one",
    },
    "api.record_session": {"held_on": "2026-03-02", "delivered": {}, "version": 0},
    "api.miss_session": {"version": 1, "why": "Ill"},
    "api.reopen_session": {"version": 1, "why": "Ill"},
    "api.make_export": {"asked": {"tables": ["participants"]}},
    "api.define_export": {"name": "Everything", "asked": {}},
}
