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
    "sign_in.welcome": ANYONE,
    "sign_in.choose_password": ANYONE,
    "sign_in.theme": ANYONE,
    "sign_in.sign_out": SIGNED_IN,
    "sign_in.start": SIGNED_IN,
    # one's own access
    "account.show": SIGNED_IN,
    "account.password": SIGNED_IN,
    "account.start_second_factor": SIGNED_IN,
    "account.confirm_second_factor": SIGNED_IN,
    "account.remove_second_factor": SIGNED_IN,
    "account.end_session": SIGNED_IN,  # one's own: an id of somebody else's is not found
    "account.end_other_sessions": SIGNED_IN,
    "account.create_token": P.TOKEN_CREATE,
    "account.revoke_token": SIGNED_IN,  # likewise
    # people
    "people.people": P.PEOPLE_MANAGE,
    "people.add": P.PEOPLE_MANAGE,
    "people.person": P.PEOPLE_MANAGE,
    "people.invite": P.PEOPLE_MANAGE,
    "people.grant": P.PEOPLE_MANAGE,
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
    "participants.screen_form": P.PARTICIPANT_SCREEN,
    "participants.screen": P.PARTICIPANT_SCREEN,
    "participants.show": P.PARTICIPANT_READ,
    "participants.show_identity": P.IDENTITY_READ,
    "participants.identity_form": P.IDENTITY_CHANGE,
    "participants.identity": P.IDENTITY_CHANGE,
    "participants.withdraw_form": P.PARTICIPANT_WITHDRAW,
    "participants.withdraw": P.PARTICIPANT_WITHDRAW,
    # consent
    "consent.record_form": P.CONSENT_RECORD,
    "consent.record": P.CONSENT_RECORD,
    "consent.countersign_form": P.CONSENT_COUNTERSIGN,
    "consent.countersign": P.CONSENT_COUNTERSIGN,
    "consent.show": P.PARTICIPANT_READ,
    "consent.show_signature": P.IDENTITY_READ,
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
    # entries
    "entries.form": P.ENTRY_READ,
    "entries.save": P.ENTRY_SAVE,
    "entries.look": P.ENTRY_SAVE,
    "entries.keep_draft": P.ENTRY_SAVE,
    "entries.drop_draft": P.ENTRY_READ,  # a draft is of the person's own, and nobody else's is touched
    "entries.draft": P.ENTRY_READ,
    "entries.record": P.ENTRY_READ,
    "entries.history": P.ENTRY_READ,
    "entries.sign_form": P.ENTRY_READ,
    "entries.sign": P.ENTRY_SIGN,
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
    "commitment.certificate": P.SEQUENCE_DRAW,
    "commitment.certificate_file": P.SEQUENCE_DRAW,
    "commitment.certificate_pdf": P.SEQUENCE_DRAW,
    "commitment.proofs_file": P.ALLOCATIONS_EXPORT,
    "commitment.close_form": P.SEQUENCE_DRAW,
    "commitment.close": P.SEQUENCE_SEAL,
    "commitment.plan_file": P.ALLOCATIONS_EXPORT,
    "treatment.treatment": P.ARM_READ,
    "treatment.participant": P.ARM_READ,
    "treatment.session_form": P.TREATMENT_RECORD,
    "treatment.session": P.TREATMENT_RECORD,
    "treatment.history": P.ARM_READ,
    "treatment.missed_form": P.TREATMENT_RECORD,
    "treatment.missed": P.TREATMENT_RECORD,
    # exports, study, audit
    "exports.exports": P.EXPORT_RUN,
    "exports.file": P.EXPORT_RUN,
    "exports.dummy_file": P.EXPORT_RUN,
    "study.study": P.STUDY_READ,
    "study.roles": P.STUDY_READ,
    "audit.audit": (P.AUDIT_READ, P.AUDIT_VERIFY),
    "audit.file": P.AUDIT_READ,
    "audit.verify": P.AUDIT_VERIFY,
    # JSON
    "api.study": P.STUDY_READ,
    "api.instruments": P.STUDY_READ,
    "api.participants": P.PARTICIPANT_READ,
    "api.screen": P.PARTICIPANT_SCREEN,
    "api.participant": P.PARTICIPANT_READ,
    "api.personal_data": P.IDENTITY_READ,
    "api.change_personal_data": P.IDENTITY_CHANGE,
    "api.withdraw": P.PARTICIPANT_WITHDRAW,
    "api.consent_documents": P.STUDY_READ,
    "api.consents": P.PARTICIPANT_READ,
    "api.record_consent": P.CONSENT_RECORD,
    "api.countersign": P.CONSENT_COUNTERSIGN,
    "api.consent_signature": P.IDENTITY_READ,
    "api.visits": P.PARTICIPANT_READ,
    "api.record_visit": P.VISIT_RECORD,
    "api.correct_visit": P.VISIT_RECORD,
    "api.reopen_visit": P.VISIT_RECORD,
    "api.entries": P.ENTRY_READ,
    "api.entry": P.ENTRY_READ,
    "api.save_entry": P.ENTRY_SAVE,
    "api.sign_entry": P.ENTRY_SIGN,
    "api.entry_history": P.ENTRY_READ,
    "api.exports": P.EXPORT_RUN,
    "api.export": P.EXPORT_RUN,
    "api.dummy_export": P.EXPORT_RUN,
    "api.audit": P.AUDIT_READ,
    "api.verify_log": P.AUDIT_VERIFY,
    "api.gates": P.PARTICIPANT_READ,
    "api.randomise": P.PARTICIPANT_RANDOMISE,
    "api.randomise_first": P.PARTICIPANT_RANDOMISE,
    "api.randomised_in_error": P.PARTICIPANT_READ,
    "api.record_randomised_in_error": P.PARTICIPANT_RECORD_ERROR,
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
    "api.record_session": P.TREATMENT_RECORD,
    "api.session_history": P.ARM_READ,
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
    "table": "participants",
    "extension": "csv",
    "file": "equipoise.css",
    "token": "not-a-token",
    "session_id": "none-of-mine",
    "consent_id": 1,
    "person_id": 1,
    "membership_id": 1,
    "token_id": 1,
    "version": 1,
    "sequence_id": 1,
    "number": 1,
    "slip": 1,
}

SESSION = {"visit": "tx01"}
OTHERWISE: dict[str, dict[str, Any]] = {
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

# What a JSON door needs to get as far as asking who may: sound in form, and refused further on where it can be.
BODIES: dict[str, dict[str, Any]] = {
    "api.screen": {"site": "north", "answers": {"age": 40, "pain_screen": 5, "surgery": False}},
    "api.change_personal_data": {"personal": {"given_name": "Anna"}, "version": 7, "why": "Married"},
    "api.withdraw": {"level": "treatment", "on": "2026-03-02", "reason": "Moved away"},
    "api.record_consent": {"version": "1", "signed_on": "2026-03-02", "signature": "Anna", "countersign": False},
    "api.countersign": {},
    "api.record_visit": {"status": "missed", "reason": "Ill", "version": 1},
    "api.correct_visit": {"held_on": "2026-03-02", "version": 1, "why": "Misread"},
    "api.reopen_visit": {"version": 1, "why": "Misread"},
    "api.save_entry": {"values": {"pain_nrs": 4}, "accept_partial": True},
    "api.sign_entry": {"version": 1},
    "api.randomise": {},
    "api.randomise_first": {},
    "api.record_randomised_in_error": {"reason": "ineligible", "why": "Too old", "found_on": "2026-03-02"},
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
}
