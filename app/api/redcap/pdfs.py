"""What is a form on paper? Blank ones to write on, or those of a record as they are filled in, as PDF."""

from collections.abc import Iterator, Mapping
from typing import Literal

from fastapi.responses import Response

from app.api.redcap.answers import download
from app.api.redcap.asked import Asked
from app.api.redcap.dictionary import Form
from app.api.redcap.errors import Wrong, no_record, not_valid_values
from app.api.redcap.records import answers_in
from app.exports.actions import record_export
from app.exports.records import recorded
from app.wording import said

Line = tuple[str, str, Literal["text", "code"]]
MOST_RECORDS = 100
TABLE = "redcap_pdf"


def pdf(asked: Asked) -> Response:
    """Blank forms without a record; otherwise what is filled in, of one record or (allRecords) of everybody."""
    from app.printing import Record, record_pdf  # heavy, and only this call needs it

    here, call, project = asked.here, asked.call, asked.project
    study = here.the_study.definition
    names = call.names("instrument")
    if unknown := [name for name in names if name not in project.form]:
        raise not_valid_values("instrument", unknown)
    record, everybody = asked.record, bool(call.text("allRecords")) and asked.draft is None  # nobody is in a draft
    forms = [form for form in project.forms if not names or form.name in names]
    if record or everybody:
        rows = list(_filled(asked, forms, None if everybody else record))
        title = study.short_title if everybody else record
    else:
        asked.require_study()
        compact = call.flag("compactDisplay")
        rows = [line for form in forms for line in _blank(form, compact=compact)]
        title = forms[0].label if len(names) == 1 else study.short_title
    made = record_pdf(
        Record(title, study.title, [], rows, [], f"{study.short_title} · {study.version}"),
        at=here.now,
        language=study.language,
    )
    which = f"_{names[0]}" if len(names) == 1 else ""
    return download(made, "application/pdf", f"{study.code}{which}.pdf")


def _blank(form: Form, *, compact: bool) -> Iterator[Line]:
    """The questions, and where to answer them; `compact` leaves out the choices, of which none is made."""
    yield form.label, "", "text"
    for field in form.fields:
        item = field.item
        choices = " / ".join(choice.label for choice in item.choices)
        if not field.is_calculated:
            yield item.label, "" if compact else choices or "……………………", "text"


def _filled(asked: Asked, forms: list[Form], record: str | None) -> Iterator[Line]:
    here, call, project = asked.here, asked.call, asked.project
    permission = asked.exporting
    events, number, compact = call.names("event"), call.instance, call.flag("compactDisplay")
    whole = not call.text("repeat_instance")
    if unknown := [name for name in events if name not in project.event]:
        raise not_valid_values("event", unknown)
    study = here.the_study
    found = recorded(
        here.session, study, by=here.actor, permission=permission, codes=None if record is None else {record}
    )
    count = 0
    lines: list[Line] = []
    for one in found:
        count += 1
        if count > MOST_RECORDS:
            raise Wrong(
                f"There are more than {MOST_RECORDS} records, too many for one file. Ask for one record at a time, or "
                "take "
                "the casebooks from the pages of the participants."
            )
        answers, _, _ = answers_in(project, one)
        for at in project.events:
            for form in forms:
                repeats = form.repeats or at.repeats
                for (visit, code, again), values in answers.items():
                    if (visit, code) != (at.visit, form.name) or (events and at.name not in events):
                        continue
                    if repeats and not whole and again != number:
                        continue
                    which = f" ({again})" if repeats else ""
                    lines.append((f"{one.code} · {at.label} · {form.label}{which}", "", "text"))
                    lines += _answers(asked, form, values, compact=compact)
    if record is not None and not count:
        raise no_record(record)
    record_export(here.session, study, table=TABLE, format="pdf", permission=permission, by=here.actor, now=here.now)
    yield from lines


def _answers(asked: Asked, form: Form, values: Mapping[str, object], *, compact: bool) -> Iterator[Line]:
    """Each question and its answer; `compact` leaves out those without one."""
    study = asked.here.the_study.definition
    for field in form.fields:
        value = values.get(field.item.code)
        words = said(field.item, value, study.missing_codes, study.language)
        if words or not compact:
            yield field.item.label, words or "–", "text"
