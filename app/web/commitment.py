"""Door of the statistician: the sealing certificate, proofs, closing a list, its opened plan. Unknown to all others."""

from datetime import datetime
from typing import Any, Literal

from fastapi.responses import RedirectResponse, Response, StreamingResponse

from app.dependencies import ChangeInStudy, Here, LoggedPageInStudy, PageInStudy, require_password
from app.foundation.errors import Invalid, NotFound, Refused
from app.foundation.languages import Gettext, translations
from app.people.access import may
from app.people.permissions import Permission
from app.printing import Record, Row, record_pdf
from app.randomisation import actions, commitment, reads
from app.randomisation.escrow.reads import escrows
from app.randomisation.reads import SequenceCounts
from app.web.pages import pages
from app.web.shell import errors_of, show, status_of
from app.web.study import METHODS
from app.web.tables import kept_as

router = pages(hidden_without=Permission.SEQUENCE_DRAW)


@router.get("/{study}/sequence/{version}/certificate", name="commitment.certificate")
def certificate(here: PageInStudy, version: int) -> Response:
    """What was committed to before the first participant, and how anybody checks allocations against it."""
    return _page(here, version)


@router.get("/{study}/sequence/{version}/certificate.json", name="commitment.certificate_file")
def certificate_file(here: PageInStudy, version: int) -> Response:
    """The certificate as data, in the form whose hash is in the log."""
    _, said = _certificate(here, version)
    return _file(commitment.canonical(said), "application/json", f"{_name(here, version)}-certificate.json")


@router.get("/{study}/sequence/{version}/certificate.pdf", name="commitment.certificate_pdf")
def certificate_pdf(here: PageInStudy, version: int) -> Response:
    """The certificate to print, sign and file."""
    found, said = _certificate(here, version)
    language = here.language
    gettext = translations(language).gettext
    assert found.sealed_at is not None
    record = Record(
        title=gettext("Sealing certificate"),
        subtitle=said["title"],
        intro=[
            gettext(
                "Every slot of this list was sealed and committed to before any of them was used. They stand behind "
                "those of an earlier list. The root below stands for all of them; it says nothing of their order."
            )
            if said.get("further")
            else gettext(
                "Every slot of this list was sealed and committed to before the first participant was randomised. The "
                "root below stands for all of them; it says nothing of their order."
            )
            if not here.the_study.own.definition.is_clustered
            else gettext(
                "Every slot of this list was sealed and committed to before the first participant of its sites was "
                "randomised. The root below stands for all of them; it does not say which site has which arm."
            )
        ],
        rows=rows_of(said, gettext),
        notes=[
            gettext(
                "Keep this page. Whoever holds it can check later, with scripts/verify_allocation.py and without this "
                "installation, that every allocation was the committed next one."
            ),
            gettext("It is for the statistician's file: people who enrol must not see how long a list is."),
        ],
        footer=f"{said['study']} · {commitment.fingerprint(said)[:16]}",
        lines=[gettext("Statistician, date"), gettext("Witness, date")],
    )
    body = record_pdf(record, at=found.sealed_at, language=language)
    return _file(body, "application/pdf", f"{_name(here, version)}-certificate.pdf")


@router.get("/{study}/sequence/{version}/proofs.ndjson", name="commitment.proofs_file")
def proofs_file(here: LoggedPageInStudy, version: int) -> Response:
    """For every allocation its arm, salt and path to the root; each opening is in the log before a line leaves."""
    _require(here, Permission.ALLOCATIONS_EXPORT)
    found = _sequence(here, version)
    lines = reads.proofs_file(
        here.session, here.the_study.own, found.id, by=here.actor, why=commitment.WHY, now=here.now
    )
    name = f"{_name(here, version)}-proofs.ndjson"
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=kept_as(name))


@router.get("/{study}/sequence/{version}/close", name="commitment.close_form")
def back_to_the_certificate(here: PageInStudy, version: int) -> Response:
    """Where somebody lands who goes on without sending the form again: the certificate."""
    _require(here)
    return RedirectResponse(_url(here, version), status_code=303)


@router.post("/{study}/sequence/{version}/close", name="commitment.close")
def close(here: ChangeInStudy, version: int) -> Response:
    """End randomisation from this list, for good."""
    _require(here, Permission.SEQUENCE_SEAL)
    found = _sequence(here, version)
    try:
        require_password(here, here.form.get("password", [""])[-1])
        actions.close(here.session, here.the_study.own, found.id, why=here.value("why"), by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _page(here, version, problem=problem)
    return here.redirect(_url(here, version), done="closed")


@router.get("/{study}/sequence/{version}/plan.json", name="commitment.plan_file")
def plan_file(here: LoggedPageInStudy, version: int) -> Response:
    """Plan, seed and salt key of a closed list, from which anybody draws it again."""
    _require(here, Permission.ALLOCATIONS_EXPORT)
    plan = actions.open_plan(here.session, here.the_study.own, _sequence(here, version).id, by=here.actor, now=here.now)
    return _file(commitment.canonical(plan), "application/json", f"{_name(here, version)}-plan.json")


def rows_of(said: dict[str, Any], gettext: Gettext) -> list[Row]:
    """A certificate as label, value and kind of value, in the order a reader asks."""

    def at(instant: str) -> str:
        return f"{datetime.fromisoformat(instant):%Y-%m-%d %H:%M:%S} UTC"

    strata = ", ".join(f"{code} {slots}" for code, slots in said["strata"].items())
    slots: list[Row] = [
        (gettext("Slots"), str(said["slots"]), "text"),
        (gettext("Slots by stratum"), strata, "text"),
        (gettext("Root of all slots"), said["root"], "code"),
    ]
    software = ", ".join(f"{name} {version}" for name, version in said["software"].items())
    return [
        (gettext("Study"), f"{said['study']}, {gettext('protocol version')} {said['protocol_version']}", "text"),
        (gettext("List"), str(said["list_version"]), "text"),
        (gettext("Method"), gettext(METHODS[said["method"]]), "text"),
        (gettext("Ratio, arms by code"), ":".join(map(str, said["ratio"])), "text"),
        *(
            slots
            if said["root"]
            else [(gettext("Slots"), gettext("None ahead: each arm is decided when it is given."), "text")]
        ),
        (gettext("Commitment to the plan and its seed"), said["plan_commitment"], "code"),
        (gettext("Digest of the envelopes"), said["envelopes"], "code"),
        (gettext("SHA-256 of this certificate as JSON"), commitment.fingerprint(said), "code"),
        (gettext("Drawn"), f"{at(said['drawn_at'])}, {said['drawn_by']}", "text"),
        (gettext("Sealed"), f"{at(said['sealed_at'])}, {said['signed_by']} ({said['sealed_by']})", "text"),
        (gettext("Seed escrowed to the key"), *_key_of(said, gettext)),
        (gettext("Generator"), said["generator"] or gettext("None: the list was handed in."), "text"),
        (gettext("Software"), software, "text"),
    ]


def _key_of(said: dict[str, Any], gettext: Gettext) -> tuple[str, Literal["text", "code"]]:
    fingerprint = said.get("escrowed_to")  # certificates from before there was escrow say nothing of it
    return (fingerprint, "code") if fingerprint else (gettext("None: there was no key."), "text")


def _page(here: Here, version: int, *, problem: Invalid | Refused | None = None) -> Response:
    found, said = _certificate(here, version)
    gettext = translations(here.language).gettext
    escrowed = any(each.version == version for each in escrows(here.session, here.the_study.own, by=here.actor))
    others = [each for each in reads.sequences(here.session, here.the_study.own, by=here.actor) if each.id != found.id]
    return show(
        here,
        "commitment/certificate.html",
        clustered=here.the_study.own.definition.is_clustered,
        further=said.get("further", False),
        several=any(each.sealed_at and each.stage == found.stage and each.status != "retired" for each in others),
        status_code=status_of(problem),
        url=f"/{here.the_study.own.code}/sequence",
        found=found,
        lines=rows_of(said, gettext),
        escrowed=escrowed,
        allocations=reads.allocated_from(here.session, here.the_study.own, found.id, by=here.actor),
        refused=problem.reason if isinstance(problem, Refused) else None,
        errors=errors_of(problem),
        why=here.value("why"),
    )


def _require(here: Here, permission: Permission = Permission.SEQUENCE_DRAW) -> None:
    if not may(here.actor, permission):
        raise NotFound


def _sequence(here: Here, version: int) -> SequenceCounts:
    return reads.sequence_of_version(here.session, here.the_study.own, version, by=here.actor)


def _certificate(here: Here, version: int) -> tuple[SequenceCounts, dict[str, Any]]:
    _require(here)
    found = _sequence(here, version)
    return found, reads.certificate(here.session, here.the_study.own, found.id, by=here.actor)


def _url(here: Here, version: int) -> str:
    return f"/{here.the_study.own.code}/sequence/{version}/certificate"


def _name(here: Here, version: int) -> str:
    return f"{here.the_study.own.code}-list-{version}"


def _file(body: bytes, media_type: str, name: str) -> Response:
    return Response(body, media_type=media_type, headers=kept_as(name))
