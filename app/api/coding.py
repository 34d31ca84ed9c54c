"""What are texts coded as, over REST? The queues, one text, the terms of a dictionary, settling, agreement."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict

from app.api.double import AgreementReply, BySite, agreement_reply
from app.api.filters import AtSite, OfForm, Whose, at
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Reply, Text, Version
from app.capture.coding import actions, reads
from app.capture.coding.reads import Queue
from app.dependencies import ApiChange, ApiPage
from app.foundation import paging
from app.foundation.errors import NotFound
from app.people.access import require
from app.people.permissions import Permission

router = operations("coding")

CHOICE: dict[str, Any] = {
    "coder": "manager",
    "code": "LBP",
    "label": "Low back pain",
    "at": "2026-07-17T08:02:11.000000Z",
}
TEXT: dict[str, Any] = {
    "number": 7,
    "participant": "R-0042",
    "site": "neura",
    "visit": "",
    "instrument": "",
    "item": "adverse_event.term",
    "event": 12,
    "dictionary": "complaints",
    "dictionary_version": "1",
    "text": "Sore lower back",
    "state": "coded",
    "code": "LBP",
    "label": "Low back pain",
    "version": 3,
    "created_at": "2026-07-16T09:26:53.589793Z",
    "outdated_at": "2026-08-16T09:26:53.589793Z",
    "reconciled_by": "investigator",
    "reconciled_at": "2026-07-18T08:02:11.000000Z",
    "why": "As the coding guide says.",
}


class ChoiceReply(Reply):
    """What one coder chose."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": CHOICE})

    coder: str
    code: str
    label: str
    at: datetime


class TextReply(Reply):
    """One text to be coded: of an entry, or the term of an adverse event, whose number is `event`.

    Of an event, `visit` and `instrument` are empty, and `item` is `adverse_event.term`.
    """

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": TEXT})

    number: int
    participant: str
    site: str
    visit: str
    instrument: str
    item: str
    event: int | None
    dictionary: str
    dictionary_version: str
    text: str
    state: str
    code: str | None
    label: str | None
    version: int
    created_at: datetime
    outdated_at: datetime | None
    reconciled_by: str | None
    reconciled_at: datetime | None
    why: str | None


class CodedReply(TextReply):
    """One text with what you may know of its coding: your own choice, and others' once nobody is still to choose."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": {**TEXT, "choices": [CHOICE]}})

    choices: list[ChoiceReply]


class TermReply(Reply):
    """One term of a dictionary."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={"example": {"code": "LBP", "label": "Low back pain", "parent": "BACK"}},
    )

    code: str
    label: str
    parent: str | None


class CodeBody(Body):
    """The term a text is coded as."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"code": "LBP"}})

    code: Code


class SettleBody(Body):
    """What a text is coded as in the end, and why; `version` is the version of the text that was read."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"code": "LBP", "why": "As the coding guide says.", "version": 3}},
    )

    code: Code
    why: Text
    version: Version


@router.get("/coded-texts", name="api.coded_texts")
def coded_texts(
    here: ApiPage,
    queue: Literal["to_code", "to_reconcile", "coded", "outdated"] = "to_code",
    site: AtSite = None,
    participant: Whose = None,
    instrument: OfForm = None,
    dictionary: Annotated[
        str | None, Query(max_length=80, description="Only with this dictionary.", examples=["complaints"])
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[TextReply]:
    """The texts of a queue, the oldest first: of those to code and to settle, yours."""
    require(here.actor, Permission.TEXT_CODE)
    page = reads.queue(
        here.session,
        here.the_study,
        Queue(queue),
        by=at(here, site),
        participant=participant,
        instrument=instrument,
        dictionary=dictionary,
        cursor=cursor,
        limit=limit,
    )
    return PageOf[TextReply](items=[TextReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/coded-texts/{number}", name="api.coded_text")
def coded_text(here: ApiPage, number: Number) -> CodedReply:
    """One text, and what you may know of its coding."""
    return CodedReply.model_validate(reads.text_of(here.session, here.the_study, number, by=here.actor))


@router.post("/coded-texts/{number}/choice", name="api.code_text", response_model=CodedReply)
def code_text(here: ApiChange, number: Number, asked: CodeBody) -> Response:
    """Code a text, without having seen what anybody else chose. The same again changes nothing."""
    made = actions.code_text(here.session, here.the_study, number, code=asked.code, by=here.actor, now=here.now)
    return here.answer(CodedReply.model_validate(made).model_dump(mode="json"))


@router.post("/coded-texts/{number}/reconciliation", name="api.reconcile_text", response_model=CodedReply)
def reconcile_text(here: ApiChange, number: Number, asked: SettleBody) -> Response:
    """Settle what a text is coded as; somebody does who has not coded it."""
    made = actions.reconcile_text(
        here.session,
        here.the_study,
        number,
        code=asked.code,
        why=asked.why,
        version=asked.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer(CodedReply.model_validate(made).model_dump(mode="json"))


@router.get("/dictionaries/{dictionary}/terms", name="api.terms")
def terms(
    here: ApiPage,
    dictionary: str,
    q: Annotated[str, Query(max_length=200, description="Words of the term.")] = "",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[TermReply]:
    """The terms that hold every word that is looked for, the nearest first; at most thirty."""
    require(here.actor, Permission.TEXT_CODE)
    if here.the_study.definition.dictionary(dictionary) is None or "\x00" in q:
        raise NotFound
    found = reads.terms_found(here.session, here.the_study, dictionary, q)
    page = paging.page_in_place(found, limit, cursor=cursor)
    return PageOf(items=[TermReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/agreement/coding", name="api.coding_agreement")
def coding_agreement(
    here: ApiPage, by_site: BySite = False, cursor: Cursor = None, limit: Limit = 50
) -> PageOf[AgreementReply]:
    """How far two coders agree, by instrument and item."""
    page = reads.agreement_page(
        here.session, here.the_study, by=here.actor, by_site=by_site, cursor=cursor, limit=limit
    )
    return PageOf[AgreementReply](items=[agreement_reply(each) for each in page.rows], next=page.next)
