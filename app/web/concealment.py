"""Statement of concealment: who had to do with the list, who enrolled, and whether anybody did both."""

from datetime import datetime
from typing import Any

from fastapi.responses import Response

from app.dependencies import Here, PageInStudy, kept_here
from app.foundation.languages import Gettext, translations
from app.printing import Record, Row, record_pdf
from app.randomisation import commitment
from app.randomisation.concealment.reads import KeptActs, concealment
from app.web.acts import act_in_words
from app.web.pages import pages
from app.web.shell import show
from app.web.tables import kept_as

router = pages()

MOST_LINES = 20
"""So many early openings stand on paper; all that are named stand in the JSON."""


@router.get("/{study}/concealment", name="concealment.statement")
def statement(here: PageInStudy) -> Response:
    """The statement as it is now."""
    said = _said(here)
    gettext = translations(here.language).gettext
    root = f"/{here.the_study.own.code}/concealment"
    return show(
        here,
        "concealment/statement.html",
        holds=said["holds"],
        sentence=sentence_of(said, gettext),
        rows=rows_of(said, gettext),
        against=against(said, gettext),
        pdf_url=f"{root}.pdf",
        json_url=f"{root}.json",
    )


@router.get("/{study}/concealment.json", name="concealment.statement_file")
def statement_file(here: PageInStudy) -> Response:
    """The statement as data, with the positions of the log it was computed from."""
    return _file(commitment.canonical(_said(here)), "application/json", f"{_name(here)}.json")


@router.get("/{study}/concealment.pdf", name="concealment.statement_pdf")
def statement_pdf(here: PageInStudy) -> Response:
    """The statement to print, sign and file."""
    said, gettext = _said(here), translations(here.language).gettext
    record = Record(
        title=gettext("Statement of concealment"),
        subtitle=said["title"],
        intro=[sentence_of(said, gettext), here.tell(said["mechanism"])],
        rows=[*rows_of(said, gettext), *against(said, gettext)],
        notes=[
            gettext(
                "Computed from the log up to the entry above. The same as JSON names the positions of the log behind "
                "every fact; whoever holds an export of the log can check each of them without this installation."
            ),
            gettext("For items 17a, 18 and 19 of CONSORT 2025. It names no arm and no number of slots."),
        ],
        footer=f"{said['study']} · {commitment.fingerprint(said)[:16]}",
        lines=[gettext("Statistician, date"), gettext("Witness, date")],
    )
    return _file(record_pdf(record, at=here.now, language=here.language), "application/pdf", f"{_name(here)}.pdf")


def _said(here: Here) -> dict[str, Any]:
    kept = kept_here(here.request, KeptActs)
    return concealment(here.session, here.the_study.own, by=here.actor, now=here.now, kept=kept)


def _name(here: Here) -> str:
    return f"{here.the_study.own.code}-concealment-{here.now:%Y-%m-%d}"


def _file(body: bytes, media_type: str, name: str) -> Response:
    return Response(body, media_type=media_type, headers=kept_as(name))


# In words


def sentence_of(said: dict[str, Any], gettext: Gettext) -> str:
    """The statement in one sentence."""
    if not said["lists"]:
        return gettext("No list has been drawn yet, so there is nothing to conceal.")
    if said["holds"]:
        return gettext(
            "Nobody who enrolled or randomised had to do with the sequence, and no envelope was opened before its "
            "participant was allocated."
        )
    return gettext("The statement does not hold: what speaks against it stands below, with the entries of the log.")


def rows_of(said: dict[str, Any], gettext: Gettext) -> list[Row]:
    """What stands behind the statement: label, value and kind of value."""
    log = said["log"]
    rows: list[Row] = [
        (gettext("Study"), f"{said['study']}, {gettext('protocol version')} {said['protocol_version']}", "text"),
        (gettext("Log, entries"), str(log["size"]), "text"),
        (gettext("Root of its tree"), log["root"], "code"),
        (gettext("Key of the envelopes"), said["sealing_key"], "code"),
    ]
    for each in said["lists"]:
        name = gettext("List {number}").format(number=each["version"])
        made = f"{_at(each['drawn_at'])}, {each['drawn_by']}"
        sealed = f"{_at(each['sealed_at'])}, {each['sealed_by']}" if each["sealed_at"] else gettext("not sealed")
        rows.append((f"{name}: {gettext('drawn')}", made, "text"))
        rows.append((f"{name}: {gettext('sealed')}", sealed, "text"))
        if each["certificate"]:
            rows.append((f"{name}: {gettext('made with')}", _made_with(each, gettext), "text"))
            rows.append((f"{name}: {gettext('certificate')}", each["certificate"], "code"))
    rows += [(gettext("Access to lists"), _act(each, gettext), "text") for each in said["access"]]
    rows += [(gettext("Enrolled"), _act(each, gettext), "text") for each in said["enrolling"]]
    known = said["opened_after_allocation_by_people_who_enrol"]
    rows += [(gettext("Enrols, and opened arms after allocation"), _act(each, gettext), "text") for each in known]
    return rows


def against(said: dict[str, Any], gettext: Gettext) -> list[Row]:
    """What speaks against it, in words."""
    rows: list[Row] = []
    for each in said["overlaps"]:
        if each["by"] == "acts":
            did = "; ".join(_act(act, gettext) for act in (*each["access"], *each["enrolling"]))
            words = gettext("before the last enrolment") if each["access_first"] else gettext("after every enrolment")
            rows.append((gettext("Had to do with a list, and enrolled"), f"{did} ({words})", "text"))
        else:
            roles = ", ".join(
                f"{right['role'].replace('_', ' ')} {_at(right['since'])} – {_at(right['until'])}"
                for right in each["roles"]
            )
            words = gettext("at the same time") if each["at_once"] else gettext("one after the other")
            rows.append((gettext("Held both kinds of role"), f"{each['who']}: {roles} ({words})", "text"))
    for each in said["opened_before_allocation"][:MOST_LINES]:
        words = gettext("{participant}, by {who}, {at}, entry {position} of the log")
        where = {name: each[name] for name in ("participant", "who", "position")}
        opened = words.format(at=_at(each["at"]), **where)
        rows.append((gettext("Opened before allocation"), opened, "text"))
    for version in said["certificates_not_in_log"]:
        words = gettext("that of list {number} is not the one whose hash is in the log").format(number=version)
        rows.append((gettext("Certificate"), words, "text"))
    return rows


def _made_with(found: dict[str, Any], gettext: Gettext) -> str:
    software = ", ".join(f"{name} {version}" for name, version in (found["software"] or {}).items())
    if not found["generator"]:
        return gettext("A list that was handed in")
    custody = gettext("seed escrowed") if found["escrowed_to"] else gettext("seed sealed here alone")
    said = (str(found["method"]).replace("_", " "), found["generator"], custody, software)
    return "; ".join(each for each in said if each)


def _act(act: dict[str, Any], gettext: Gettext) -> str:
    words = gettext("{who}: {what}, {number} times, entries {first} to {last}")
    if act["number"] == 1:
        words = gettext("{who}: {what}, {at}, entry {first}")
    what = act_in_words(act["action"], gettext)
    return words.format(
        who=act["who"],
        what=what,
        number=act["number"],
        first=act["first"],
        last=act["last"],
        at=_at(act["first_at"]),
    )


def _at(instant: str | None) -> str:
    return f"{datetime.fromisoformat(instant):%Y-%m-%d %H:%M:%S} UTC" if instant else "…"
