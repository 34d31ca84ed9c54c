"""Study folders in the making: every finding, every file, previews as people will see it, and loading a draft.

In the place of a study the address may say NEW_STUDY: a draft of a study that is not here yet, outside any study.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from fastapi.responses import JSONResponse, RedirectResponse, Response

from app.capture.checks import Judgement, judge
from app.capture.typed import parse_typed, shortened
from app.dependencies import (
    LARGEST_UPLOAD,
    NEW_STUDY,
    ChangeOfDraft,
    Form,
    Here,
    PageOfDraft,
    SentFiles,
    TypedForm,
    require_password,
)
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.participants.models import Participant
from app.people.access import require
from app.people.permissions import Permission
from app.schedule.rules import planned
from app.studies.definition import ConsentDocument, Study, Visit, VisitKind, Window
from app.studies.drafts import actions, reads, rules
from app.studies.drafts.copying import (
    belongs_to,
    can_be_copied,
    code_of,
    item_codes,
    label_of,
    why_not_language,
    without_instrument,
)
from app.studies.drafts.editing import CannotEdit, data_of
from app.studies.drafts.folder import checked
from app.studies.drafts.reads import Draft, DraftFile
from app.studies.in_use import StudyInUse
from app.studies.loading import Tree, read_yaml
from app.studies.reads import all_studies, study_by_code, versions
from app.studies.rules import Finding
from app.web.consent import html_of
from app.web.draft_fields import (
    NAME,
    NeedsRewriting,
    Sheet,
    Together,
    changed,
    changed_text,
    drawn_fields,
    drawn_rows,
    marks,
    names_of,
    together,
)
from app.web.draft_findings import At, field_of, pages_of, split
from app.web.draft_forms import instrument as instrument_sheet
from app.web.draft_sheets import Known, parts_of, sheet_of
from app.web.draft_words import with_words, worded
from app.web.entries import SAVE_AS, Spot, form_sections, judged_look, lists, progress_of
from app.web.items import rows_shown, with_other_rows
from app.web.new_study import admitted_in, begin, begin_page, folder_sent, to_admit, with_more_rows
from app.web.pages import pages
from app.web.places import Places, places_of, show_at
from app.web.shell import errors_of, status_of
from app.web.tables import kept_as

router = pages()

DRAFTS = "/{study}/study/drafts"
DRAFT = DRAFTS + "/{number:int}"
MOST_FINDINGS = 300
# What the script of a form of answers is told beside errors: of fields of a study there is nothing of the kind.
NOTHING_ELSE: dict[str, Any] = {
    "hidden": [],
    "blank": [],
    "findings": {},
    "computed": {},
    "corrects": False,
    "progress": [],
}
SPOT = "screening"
SAVED = "study_draft_saved"
FORM = "form."
"""What stands before the code of an instrument in the name of its page of fields."""


@router.get(DRAFTS, name="drafts.drafts")
def drafts(here: PageOfDraft) -> Response:
    """Every draft of the study, and a new one; outside any study: how a new study is begun."""
    require(here.actor, Permission.STUDY_LOAD)
    return begin_page(here) if here.study is None else _drafts_page(here)


@router.post(DRAFTS, name="drafts.make", max_body_size=LARGEST_UPLOAD)
def make(here: ChangeOfDraft, files: SentFiles) -> Response:
    """A new draft: the smallest study, what a version says, or an uploaded folder."""
    require(here.actor, Permission.STUDY_LOAD, action="draft.make", subject="/draft")
    if here.study is None:
        return begin(here, files.get("file"))
    start, sent = here.value("start", "smallest"), files.get("folder")
    who: dict[str, Any] = {"name": here.value("name"), "by": here.actor, "now": here.now}
    try:
        if start == "folder":
            found = folder_sent(sent, "folder")
            number = actions.draft_from_files(here.session, here.the_study, found, origin="upload", **who)
        else:
            version = None if start == "smallest" else start.removeprefix("version:")
            number = actions.make_draft(here.session, here.the_study, version=version, **who)
    except Invalid as problem:
        here.refuse(problem)
        return _drafts_page(here, problem=problem)
    return here.redirect(f"{_url(here)}/{number}", done="study_draft_made")


@router.get(DRAFT, name="drafts.draft")
def draft(here: PageOfDraft, number: int) -> Response:
    """One draft: its findings, its files, and what can be looked at."""
    return _draft_page(here, _draft(here, number))


@router.get(DRAFT + "/folder.zip", name="drafts.folder_file")
def folder_file(here: PageOfDraft, number: int) -> Response:
    """The folder as a ZIP, byte for byte."""
    found = _draft(here, number)
    code = here.study.code if here.study is not None else "study"
    headers = kept_as(f"{code}-draft-{number}.zip")
    return Response(rules.zipped(found.texts), media_type="application/zip", headers=headers)


@router.get(DRAFT + "/open", name="drafts.open_file")
def open_file(here: PageOfDraft, number: int, path: str = "") -> Response:
    """Leads to the file of this name, or to a new one."""
    found = _draft(here, number)
    path = path.strip()
    if (reason := rules.why_not_path(path)) is not None:
        return _draft_page(here, found, problem=Invalid([FieldProblem("path", "path", reason)]), path=path)
    return RedirectResponse(f"{_url(here)}/{number}/files/{path}", status_code=303)


@router.get(DRAFT + "/files/{path:path}", name="drafts.file")
def file(here: PageOfDraft, number: int, path: str) -> Response:
    """The text of one file, with its findings at their lines."""
    return _file_page(here, _draft(here, number), path)


@router.post(DRAFT + "/files/{path:path}", name="drafts.save_file")
def save_file(here: ChangeOfDraft, number: int, path: str) -> Response:
    """Save the text of a file, or take the file out."""
    found = _draft(here, number, action="draft.change")
    if here.value("act") == "remove":
        try:
            actions.remove_file(here.session, here.study, number, path=path, by=here.actor, now=here.now)
        except Refused as problem:
            here.refuse(problem)
            return _file_page(here, found, path, problem=problem)
        return here.redirect(f"{_url(here)}/{number}", done="study_draft_file_removed")
    before = found.files.get(path)
    text = rules.as_typed((here.form.get("text") or [""])[-1], before.text if before else "")
    try:
        actions.save_file(
            here.session,
            here.study,
            number,
            path=path,
            text=text,
            version=_count(here.value("version", "0")),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _file_page(here, found, path, problem=problem, typed=text)
    return here.redirect(f"{_url(here)}/{number}/files/{path}", done="study_draft_saved")


@router.post(DRAFT + "/undo", name="drafts.undo")
def undo(here: ChangeOfDraft, number: int) -> Response:
    """Take the last change of the draft back, whoever made it."""
    found = _draft(here, number, action="draft.change")
    state = _count(here.value("state", "0"))
    try:
        actions.undo_change(here.session, here.study, number, state=state, by=here.actor, now=here.now)
    except (Refused, Conflict) as problem:
        here.refuse(problem)
        return _draft_page(here, found, refused=problem)
    return here.redirect(f"{_url(here)}/{number}", done="study_draft_undone")


@router.get(DRAFT + "/load", name="drafts.load_form")
def load_form(here: PageOfDraft, number: int) -> Response:
    """What loading means, and the password."""
    return _load_page(here, _draft(here, number))


@router.post(DRAFT + "/load", name="drafts.load")
def load(here: ChangeOfDraft, number: int) -> Response:
    """Load the draft as a version; where there are participants, what that means comes next."""
    found = _draft(here, number, action="draft.load")
    admitted = admitted_in(here) if here.study is None else ()
    if here.value("act") == "more":
        here.release_key()
        return _load_page(here, found, admitted=with_more_rows(here, admitted))
    try:
        require_password(here, here.value("password"))
        version = actions.load_draft(here.session, here.study, number, admitted=admitted, by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _load_page(here, found, problem=problem, admitted=admitted)
    if here.study is not None and version.study_id == here.study.id:
        root = f"/{here.study.code}/study/versions"
        waits = (version.id or 0) > here.study.version_id and here.study.version_id == _in_force(here)
        return here.redirect(f"{root}/{version.version}/effect" if waits else root, done="study_draft_loaded")
    # The draft was of a study of its own, which is there now: that is where it goes on.
    code = next(each.code for each in all_studies(here.session) if each.id == version.study_id)
    return here.redirect(f"/{code}/study", done="study_draft_loaded" if here.study else "study_begun")


@router.get(DRAFT + "/remove", name="drafts.remove_form")
def remove_form(here: PageOfDraft, number: int) -> Response:
    """What deleting means."""
    return _remove_page(here, _draft(here, number))


@router.post(DRAFT + "/remove", name="drafts.remove")
def remove(here: ChangeOfDraft, number: int) -> Response:
    """Delete the draft."""
    found = _draft(here, number, action="draft.remove")
    try:
        actions.remove_draft(here.session, here.study, number, by=here.actor, now=here.now)
    except Refused as problem:
        here.refuse(problem)
        return _remove_page(here, found, problem=problem)
    return here.redirect(_url(here), done="study_draft_removed")


# Edited as fields


@router.get(DRAFT + "/edit/{part}", name="drafts.edit")
def edit(here: PageOfDraft, number: int, part: str) -> Response:
    """A part of the study as fields: form.CODE of an instrument, or one of `draft_sheets.parts_of`."""
    return _edit_page(here, _draft(here, number), part)


@router.post(DRAFT + "/edit/{part}", name="drafts.change")
def change(here: ChangeOfDraft, number: int, part: str) -> Response:
    """Save what was typed, and add, move or take out a row."""
    found = _draft(here, number, action="draft.change")
    path, sheet = _sheet(here, found, part)
    kept = found.file(path)
    others = {each: text for each, text in found.texts.items() if each != path}
    version, form = _count(here.value("version", "0")), here.form
    try:
        before, head, behind = split(path, kept.text)
        if version != kept.version and found.version is None:
            mine = together(sheet, head, form, here.value("opened"))
            if mine.both or not mine.fits:
                here.refuse(meanwhile := _meanwhile(kept, number, mine))
                return _edit_page(here, found, part, problem=meanwhile, mine=mine)
            version, form = kept.version, mine.form  # each changed something else: both hold
        made = changed(
            sheet,
            head,
            form,
            here.value("act"),
            taken=item_codes(others) if part.startswith(FORM) else (),
            elsewhere="\n".join(others.values()),
            rewrite=here.value("rewrite") == "yes",
        )
        actions.save_file(
            here.session,
            here.study,
            number,
            path=path,
            text=before + made.text + behind,
            version=version,
            by=here.actor,
            now=here.now,
        )
    except NeedsRewriting:
        return _edit_page(here, found, part, needs_rewriting=True)
    except CannotEdit:
        raise Refused("This file cannot be read as YAML. Mend its text first.") from None
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _edit_page(here, found, part, problem=problem)
    if here.value("act") == "look" and checked({**others, path: made.text})[0] is not None:
        return here.redirect(f"{_url(here)}/{number}/preview/{part.removeprefix(FORM)}")
    at = {"at": made.at or here.value("at")[:200], "new": "yes" if made.is_new else ""}
    at = {name: each for name, each in at.items() if each}
    return here.redirect(f"{_url(here)}/{number}/edit/{part}", done="study_draft_saved", **at)


def _meanwhile(kept: DraftFile, number: int, mine: Together) -> Conflict:
    """Who saved the file since a page of it was opened, what of it is the same, and that nothing was overwritten."""
    who, path = kept.changed_by, kept.path
    words = f"{who} saved {path} after you had opened it, and changed the same fields. Nothing was overwritten."
    if not mine.fits:
        words = (
            f"{who} saved {path} after you had opened it, with other rows. Nothing was overwritten: type yours again."
        )
    return Conflict(words, current_version=kept.version, action="draft.change", subject=f"/draft/{number}")


@router.post(DRAFT + "/edit/{part}/look", name="drafts.look_at_fields")
def look_at_fields(here: PageOfDraft, form: TypedForm, number: int, part: str) -> Response:
    """What saving would say of expressions as they are typed, at each field. Nothing is kept."""
    found = _draft(here, number)
    path, sheet = _sheet(here, found, part)
    errors: dict[str, str] = {}
    try:
        before, head, behind = split(path, found.file(path).text)
        text = before + changed_text(sheet, head, form, rewrite=True) + behind
        _, findings = checked({**found.texts, path: text})
        errors = _errors_at(sheet, path, text, findings)
    except CannotEdit:  # which saving says, with what to do
        pass
    except Invalid as problem:
        errors = errors_of(problem)
    said = {name: here.tell(message) for name, message in errors.items()}
    return JSONResponse({"errors": said, **NOTHING_ELSE})


def _errors_at(sheet: Sheet, path: str, text: str, findings: Sequence[Finding]) -> dict[str, str]:
    """What is found in a file by the names of the fields it is about; of an expression in a list, at that list."""
    tree, _ = read_yaml(split(path, text)[1], path)
    if tree is None:
        return {}
    names = list(names_of(sheet, tree.value))
    at = {field_of(tree, each, names): each.message for each in reversed(findings) if each.file == path}
    return {name: message for name, message in at.items() if name is not None}


def _sheet(here: Here, found: Draft, part: str) -> tuple[str, Sheet]:
    """The file of a part, and its fields."""
    if part.startswith(FORM) and part[5:] in _form_files(found):
        return f"instruments/{part[5:]}.yaml", instrument_sheet(Known(found.texts).dictionaries)
    path = parts_of(found.files).get(part)
    if path is None:
        raise NotFound
    return path, sheet_of(part, Known(found.texts, is_new=here.study is None))


def _sheets(here: Here, found: Draft) -> list[tuple[str, str, Sheet]]:
    """Every page of fields of a draft, but those of its instruments: its address, its file, its fields."""
    if found.version is not None:
        return []
    known = Known(found.texts, is_new=here.study is None)
    return [(part, path, sheet_of(part, known)) for part, path in parts_of(found.files).items()]


def _fields_at(
    found: Draft, sheets: Sequence[tuple[str, str, Sheet]], findings: Sequence[Finding]
) -> dict[Finding, At]:
    """Of each finding that some page has a field for: where it is mended."""
    if found.version is not None or not findings:
        return {}
    forms = [(f"form.{code}", f"instruments/{code}.yaml", instrument_sheet()) for code in _form_files(found)]
    return pages_of([*sheets, *forms], found.texts, findings)


def _form_files(found: Draft) -> list[str]:
    """The codes of the files of instruments; words in other languages are none."""
    return [code for path in found.files if (code := code_of(path))]


def _edit_page(
    here: Here,
    found: Draft,
    part: str,
    *,
    problem: Invalid | Refused | Conflict | None = None,
    needs_rewriting: bool = False,
    mine: Together | None = None,
) -> Response:
    path, sheet = _sheet(here, found, part)
    kept = found.file(path)
    tree, _ = read_yaml(split(path, kept.text)[1], path)
    if tree is None:
        raise Refused("This file cannot be read as YAML. Mend its text first.")
    form: Mapping[str, Sequence[str]] = here.form
    findings = [each for each in found.findings if each.file == path]
    errors = _errors_at(sheet, path, kept.text, findings)
    typed_then: list[tuple[str, str]] = []
    if mine is not None:
        form = mine.form if mine.fits else {}
        who = kept.changed_by
        errors |= {name: f"{who} wrote “{shortened(text)}” here meanwhile." for name, text in mine.both.items()}
        if not mine.fits:
            typed_then = [
                (name.removeprefix(NAME), "\n".join(texts))
                for name, texts in mine.form.items()
                if name.startswith(NAME) and not name.startswith(f"{NAME}there.") and any(texts)
            ]
    return _show(
        here,
        found,
        "drafts/edit.html",
        status=409 if needs_rewriting else status_of(problem),
        part=part,
        path=path,
        sheet=sheet,
        of=part.partition(".")[2],
        version=kept.version,
        opened=marks(sheet, tree.value),
        typed_then=typed_then,
        fields=drawn_fields(sheet.fields, tree.value, "", form),
        lists=[drawn_rows(rows, tree.value, "", form) for rows in sheet.lists],
        findings=findings,
        fields_at=_fields_at(found, _sheets(here, found), findings),
        errors={**errors, **errors_of(problem)},
        problems=[(each.field, each.message) for each in problem.problems] if isinstance(problem, Invalid) else [],
        problem=problem.reason if isinstance(problem, Refused | Conflict) else None,
        needs_rewriting=needs_rewriting,
        act=here.value("act") if needs_rewriting else "",
        at=here.request.query_params.get("at", "") or _row_at(tree, _count(here.request.query_params.get("line", ""))),
        at_new=here.request.query_params.get("new") == "yes",
    )


def _row_at(tree: Tree, line: int) -> str:
    """The way to the question that a line of an instrument is about; empty where it is about none."""
    rows = [(place.line, way) for way, place in tree.places.items() if len(way) == 4 and way[2] == "items"]
    _, way = max((each for each in rows if each[0] <= line), key=lambda each: each[0], default=(0, ()))
    return ".".join(map(str, way))


# Instruments and consent documents: new ones, and those taken out


@router.get(DRAFT + "/add-instrument", name="drafts.add_instrument_form")
def add_instrument_form(here: PageOfDraft, number: int) -> Response:
    """What a new instrument is called, what it begins with, and when it is asked."""
    return _add_instrument_page(here, _draft(here, number))


@router.post(DRAFT + "/add-instrument", name="drafts.add_instrument")
def add_instrument(here: ChangeOfDraft, number: int) -> Response:
    """A new instrument, whose page of fields comes next."""
    found = _draft(here, number, action="draft.change")
    try:
        code = actions.add_instrument(
            here.session,
            here.study,
            number,
            label=here.value("label"),
            code=here.value("code"),
            copy_of=here.value("copy_of"),
            visits=here.form.get("visits", ()),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _add_instrument_page(here, found, problem=problem)
    return here.redirect(f"{_url(here)}/{number}/edit/{FORM}{code}", done="study_draft_form_added")


@router.get(DRAFT + "/instrument/{instrument}/remove", name="drafts.remove_instrument_form")
def remove_instrument_form(here: PageOfDraft, number: int, instrument: str) -> Response:
    """Where an instrument is still used, before it is taken out."""
    return _remove_instrument_page(here, _draft(here, number), instrument)


@router.post(DRAFT + "/instrument/{instrument}/remove", name="drafts.remove_instrument")
def remove_instrument(here: ChangeOfDraft, number: int, instrument: str) -> Response:
    """Take an instrument out of the draft."""
    found = _draft(here, number, action="draft.change")
    try:
        actions.remove_instrument(here.session, here.study, number, code=instrument, by=here.actor, now=here.now)
    except (Refused, Conflict) as problem:
        here.refuse(problem)
        return _remove_instrument_page(here, found, instrument, problem=problem)
    return here.redirect(f"{_url(here)}/{number}", done="study_draft_form_removed")


@router.get(DRAFT + "/instrument/{instrument}/words", name="drafts.words_form")
def words_form(here: PageOfDraft, number: int, instrument: str) -> Response:
    """An instrument beside its words in one other language; `language` of the address, or the first there is."""
    return _words_page(here, _draft(here, number), instrument, here.request.query_params.get("language", "").strip())


@router.post(DRAFT + "/instrument/{instrument}/words", name="drafts.words")
def words(here: ChangeOfDraft, number: int, instrument: str) -> Response:
    """Save the words of an instrument in another language."""
    found = _draft(here, number, action="draft.change")
    language = here.value("language")
    path = f"instruments/{instrument}.{language}.yaml"
    form = data_of(found.file(f"instruments/{instrument}.yaml").text)
    before = found.files[path].text if path in found.files else ""
    try:
        if (reason := why_not_language(language)) is not None:
            raise Invalid([FieldProblem("language", "language", reason)])
        text = with_words(form, before, here.form)
        if before and not text:
            actions.remove_file(here.session, here.study, number, path=path, by=here.actor, now=here.now)
        elif text:
            version = _count(here.value("version", "0"))
            actions.save_file(
                here.session, here.study, number, path=path, text=text, version=version, by=here.actor, now=here.now
            )
    except CannotEdit:
        raise Refused("These words cannot be changed one by one as they are written. Edit the text itself.") from None
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _words_page(here, found, instrument, language, problem=problem)
    return here.redirect(f"{_url(here)}/{number}/instrument/{instrument}/words", language=language, done=SAVED)


@router.get(DRAFT + "/add-consent", name="drafts.add_consent_form")
def add_consent_form(here: PageOfDraft, number: int) -> Response:
    """Version, language and title of a new consent document, and what its text begins with."""
    return _add_consent_page(here, _draft(here, number))


@router.post(DRAFT + "/add-consent", name="drafts.add_consent")
def add_consent(here: ChangeOfDraft, number: int) -> Response:
    """A new consent document, whose text comes next."""
    found = _draft(here, number, action="draft.change")
    said = {name: here.value(name) for name in ("version", "language", "title", "valid_from", "copy_of")}
    try:
        path = actions.add_consent(here.session, here.study, number, **said, by=here.actor, now=here.now)
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _add_consent_page(here, found, problem=problem)
    return here.redirect(f"{_url(here)}/{number}/files/{path}", done="study_draft_saved")


def _add_instrument_page(here: Here, found: Draft, *, problem: Invalid | Refused | Conflict | None = None) -> Response:
    said = data_of(found.texts.get("study.yaml", ""))
    listed = said.get("visits") if isinstance(said, dict) else None
    visits = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return _show(
        here,
        found,
        "drafts/add_instrument.html",
        **_told_of(problem),
        copies=can_be_copied(found.texts),
        visits=[(str(each.get("code")), str(each.get("label") or each.get("code"))) for each in visits],
        typed={name: here.value(name) for name in ("label", "code", "copy_of")},
        chosen=here.form.get("visits", ()),
    )


def _remove_instrument_page(
    here: Here, found: Draft, instrument: str, *, problem: Refused | Conflict | None = None
) -> Response:
    kept = found.file(f"instruments/{instrument}.yaml")
    _, findings = checked(without_instrument(found.texts, instrument))
    before = {each.message for each in found.findings}
    said = data_of(found.texts.get("study.yaml", ""))
    visits = [visit for visit in said.get("visits", ()) if isinstance(visit, dict)] if isinstance(said, dict) else []
    return _show(
        here,
        found,
        "drafts/remove_instrument.html",
        **_told_of(problem),
        label=label_of(kept.text, instrument),
        instrument=instrument,
        visits=[str(each.get("label")) for each in visits if instrument in (each.get("instruments") or ())],
        uses=[each for each in findings if each.is_error and each.message not in before][:MOST_FINDINGS],
    )


def _words_page(
    here: Here, found: Draft, instrument: str, language: str, *, problem: Invalid | Refused | Conflict | None = None
) -> Response:
    base = data_of(found.file(f"instruments/{instrument}.yaml").text)
    paths = [path for path in found.files if belongs_to(path, instrument) and path.count(".") > 1]
    spoken = [path.removeprefix(f"instruments/{instrument}.").removesuffix(".yaml") for path in paths]
    if language and problem is None and (reason := why_not_language(language)) is not None:
        problem = Invalid([FieldProblem("language", "language", reason)])
    chosen = "" if isinstance(problem, Invalid) else language or next(iter(spoken), "")
    path = f"instruments/{instrument}.{chosen}.yaml"
    kept = found.files.get(path) if chosen else None
    groups = worded(base, data_of(kept.text) if kept else {}) if chosen else []
    lines = [line for group in groups for line in group.lines]
    missing = [line.name for line in lines if line.is_missing]
    return _show(
        here,
        found,
        "drafts/words.html",
        **_told_of(problem),
        instrument=instrument,
        label=label_of(found.file(f"instruments/{instrument}.yaml").text, instrument),
        spoken=spoken,
        chosen=chosen,
        typed=language if isinstance(problem, Invalid) else "",
        path=path,
        kept=kept,
        version=kept.version if kept else 0,
        findings=[each for each in found.findings if each.file == path],
        groups=groups,
        form=here.form,
        missing=len(missing),
        first_missing=next(iter(missing), ""),
        total=len(lines),
    )


def _add_consent_page(here: Here, found: Draft, *, problem: Invalid | Refused | Conflict | None = None) -> Response:
    study, _ = checked(found.texts)
    names = {"language": study.language if study else "en", "valid_from": here.now.date().isoformat()}
    return _show(
        here,
        found,
        "drafts/add_consent.html",
        **_told_of(problem),
        documents=[one for one in found.files if _is_consent(one)],
        typed={
            name: here.value(name, names.get(name, ""))
            for name in ("version", "language", "title", "valid_from", "copy_of")
        },
    )


def _told_of(problem: Invalid | Refused | Conflict | None) -> dict[str, Any]:
    """What a page is told of why nothing was changed."""
    return {
        "status": status_of(problem),
        "errors": errors_of(problem),
        "problems": [(each.field, each.message) for each in problem.problems] if isinstance(problem, Invalid) else [],
        "problem": problem.reason if isinstance(problem, Refused | Conflict) else None,
    }


# As people will see it


@dataclass(frozen=True)
class Imagined(Spot):
    """A form of a draft, filled in by nobody: nothing is read and nothing is kept."""

    @property
    def url(self) -> str:
        return f"{self.here.request.url.path}"

    @cached_property
    def entry(self) -> None:
        return None

    def judge(self, values: Any, reasons: Any, form: Form | None = None) -> Judgement:
        return judge(
            self.here.the_study.definition,
            self.instrument,
            self.planned.code,
            values,
            reasons,
            answers={},
            today=self.here.now.date(),
            now=self.here.now,
            blank=rows_shown(self.instrument, form) if form is not None else {},
        )


@router.get(DRAFT + "/preview/{instrument}", name="drafts.preview")
def preview(here: PageOfDraft, number: int, instrument: str) -> Response:
    """An instrument as the entry form shows it; answers stand in the address, and nowhere else."""
    found = _draft(here, number)
    spot = _imagined(here, found, instrument)
    asked = here.request.query_params
    form: dict[str, list[str]] = {name: asked.getlist(name) for name in asked if name != SAVE_AS}
    form = with_other_rows(spot.instrument, form, asked.get(SAVE_AS, "")) or form
    typed = parse_typed(spot.instrument, lists(form), language=spot.reader)
    judgement = spot.judge(typed.values, typed.reasons, form)
    problems = [*typed.problems, *(FieldProblem(each.item, "check", each.message) for each in judgement.hard)]
    sections = form_sections(spot, form, problems=problems if form else [], judgement=judgement)
    done, total = progress_of(sections)
    return _show(
        here,
        found,
        "drafts/preview.html",
        spot=spot,
        sections=sections,
        done=done,
        asked=total,
        visits=[visit.label for visit in spot.here.the_study.definition.visits if instrument in visit.instruments],
    )


@router.post(DRAFT + "/preview/{instrument}/look", name="drafts.look")
def look(here: PageOfDraft, form: TypedForm, number: int, instrument: str) -> Response:
    """What is hidden, what does not hold, and the scores, of imagined answers. Nothing is kept."""
    return JSONResponse(judged_look(_imagined(here, _draft(here, number), instrument), form))


@router.get(DRAFT + "/plan", name="drafts.plan")
def plan(here: PageOfDraft, number: int) -> Response:
    """The visits of an imaginary participant, who is screened, consents and is randomised on one day."""
    found = _draft(here, number)
    study = _study(found)
    begins = here.now.date()
    shown = []
    for visit in study.visits:
        dates = planned(visit, begins)
        shown.append(
            SimpleNamespace(
                label=visit.label,
                target=dates.target_on,
                opens=dates.opens_on,
                closes=dates.closes_on,
                held_on=None,
                status="planned",
                unnamed=False,
                forms=_forms(study, visit),
                day=visit.day,
                anchor=visit.anchor,
            )
        )
    return _show(here, found, "drafts/plan.html", visits=shown, begins=begins)


@router.get(DRAFT + "/consent/{path:path}", name="drafts.consent")
def consent(here: PageOfDraft, number: int, path: str) -> Response:
    """A consent document as the participant sees it."""
    found = _draft(here, number)
    kept = found.file(path)
    document = _document(kept.text)
    return _show(here, found, "drafts/consent.html", path=path, document=document, text=html_of(document))


@router.post(DRAFT + "/consent/{path:path}", name="drafts.look_at_consent")
def look_at_consent(here: PageOfDraft, form: TypedForm, number: int, path: str) -> Response:
    """A consent document as it is typed, beside what the participant would see. Nothing is kept."""
    found = _draft(here, number)
    if not _is_consent(path):
        raise NotFound
    before = found.files.get(path)
    typed = rules.as_typed((form.get("text") or [""])[-1], before.text if before else "")
    return _file_page(here, found, path, typed=typed)


def _is_consent(path: str) -> bool:
    return path.startswith("consent/") and path.endswith(".md")


def _document(text: str) -> ConsentDocument:
    """The document as far as it can be read; its text is all that is wanted of it."""
    head, body = {}, text
    lines = text.replace("\r\n", "\n").lstrip("\ufeff").split("\n")
    if lines and lines[0].rstrip() == "---" and "---" in [line.rstrip() for line in lines[1:]]:
        end = [line.rstrip() for line in lines[1:]].index("---") + 1
        head = {
            key.strip(): value.strip().strip("\"'") for line in lines[1:end] for key, _, value in [line.partition(":")]
        }
        body = "\n".join(lines[end + 1 :])
    return ConsentDocument.model_construct(
        version=head.get("version", ""),
        language=head.get("language", "en"),
        title=head.get("title", ""),
        valid_from=date.min,
        sites=(),
        text=body.strip(),
        sha256="",
    )


def _forms(study: Study, visit: Visit) -> list[tuple[str, str]]:
    found = [study.instrument(code) for code in visit.instruments]
    return [(form.code, form.label) for form in found if form is not None]


def _imagined(here: Here, found: Draft, instrument: str) -> Imagined:
    study = _study(found)
    form = study.instrument(instrument)
    if form is None:
        raise NotFound
    at = next((visit for visit in study.visits if instrument in visit.instruments), None)
    if at is None:  # at screening, or not asked anywhere yet
        at = Visit(code=SPOT, label=form.label, kind=VisitKind.BASELINE, day=0, window=Window(before=0, after=0))
    around = here.study
    imagined = (
        replace(around, definition=study, others={}) if around is not None else StudyInUse(0, study.code, 0, study)
    )
    nobody = Participant(
        id=0,
        study_id=imagined.id,
        site_id=0,
        code="",
        status="",
        screened_on=here.now.date(),
        created_at=here.now,
        created_by="",
    )
    return Imagined(replace(here, study=imagined), nobody, at, form)


def _study(found: Draft) -> Study:
    """The study of a draft; Refused while it has errors."""
    study, _ = checked(found.texts)
    if study is None:
        raise Refused("There are errors in this draft. Mend them first; the page of the draft lists them.")
    return study


# What every page of a draft shows


def _url(here: Here) -> str:
    return f"{_root(here)}/study/drafts"


def _root(here: Here) -> str:
    return f"/{here.study.code if here.study is not None else NEW_STUDY}"


def _count(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else -1


def _in_force(here: Here) -> int | None:
    """The version in force now, after a load in this very transaction."""
    row = study_by_code(here.session, here.the_study.code)
    return row.version_id if row else None


def _draft(here: Here, number: int, *, action: str = "draft.read") -> Draft:
    require(here.actor, Permission.STUDY_LOAD, action=action, subject="/draft")
    return reads.draft(here.session, here.study, number, by=here.actor)


def _show(here: Here, found: Draft, template: str, *, status: int = 200, **values: Any) -> Response:
    places = places_of(here) if here.study is not None else Places(())
    url = _url(here)
    return show_at(
        here,
        places,
        template,
        status_code=status,
        root=_root(here),
        is_new=here.study is None,
        drafts_url=url,
        url=f"{url}/{found.number}",
        draft=found,
        timezone=places.timezone(),
        **values,
    )


def _drafts_page(here: Here, *, problem: Invalid | None = None) -> Response:
    places = places_of(here)
    return show_at(
        here,
        places,
        "drafts/drafts.html",
        status_code=status_of(problem),
        root=_root(here),
        url=_url(here),
        drafts=reads.drafts(here.session, here.the_study, by=here.actor),
        versions=[one.version for one in reversed(versions(here.session, here.the_study.id))],
        errors=errors_of(problem),
        problems=[(each.field, each.message) for each in problem.problems] if problem else [],
        name=here.value("name"),
        start=here.value("start", "smallest"),
        timezone=places.timezone(),
    )


def _draft_page(
    here: Here,
    found: Draft,
    *,
    problem: Invalid | None = None,
    refused: Refused | Conflict | None = None,
    path: str = "",
) -> Response:
    study, findings = checked(found.texts)
    sheets = _sheets(here, found)
    return _show(
        here,
        found,
        "drafts/draft.html",
        status=status_of(refused or problem),
        refused=refused.reason if refused else None,
        last=reads.last_change(here.session, found),
        findings=findings[:MOST_FINDINGS],
        fields_at=_fields_at(found, sheets, findings[:MOST_FINDINGS]),
        pages=[At(part, "", sheet.title) for part, _, sheet in sheets],
        more=len(findings) - MOST_FINDINGS,
        count=found.errors,
        study=study,
        instruments=[(form.code, form.label) for form in study.instruments] if study else [],
        forms=_form_files(found),
        documents=[one for one in found.files if _is_consent(one)],
        errors=errors_of(problem),
        path=path,
    )


def _file_page(
    here: Here,
    found: Draft,
    path: str,
    *,
    problem: Invalid | Refused | Conflict | None = None,
    typed: str | None = None,
) -> Response:
    kept = found.files.get(path)
    if kept is None and rules.why_not_path(path) is not None:
        raise NotFound
    text = typed if typed is not None else kept.text if kept else rules.begun(path)
    findings = [each for each in found.findings if each.file == path]
    at: dict[int, list[Finding]] = {}
    for each in findings:
        at.setdefault(each.line, []).append(each)
    version = kept.version if kept else 0
    document = _document(text) if _is_consent(path) else None
    return _show(
        here,
        found,
        "drafts/file.html",
        status=status_of(problem),
        path=path,
        text=text,
        version=version,
        kept=kept,
        findings=findings,
        lines=[
            (line, words, at.get(line, [])) for line, words in enumerate((kept.text if kept else "").split("\n"), 1)
        ],
        problem=problem.reason if problem else None,
        conflict=isinstance(problem, Conflict),
        is_consent=_is_consent(path),
        seen=document,
        seen_text=html_of(document) if document else "",
    )


def _load_page(
    here: Here,
    found: Draft,
    *,
    problem: Invalid | Refused | None = None,
    admitted: Sequence[actions.Admitted] = (),
) -> Response:
    study, _ = checked(found.texts)
    who: dict[str, Any] = {}
    if here.study is None:
        who = to_admit(here, study, admitted)
    return _show(
        here,
        found,
        "drafts/load.html",
        status=status_of(problem),
        study=study,
        count=found.errors,
        reason=found.why_not_change,
        refusal=problem.reason if isinstance(problem, Refused) else None,
        errors=errors_of(problem),
        **who,
    )


def _remove_page(here: Here, found: Draft, *, problem: Refused | None = None) -> Response:
    return _show(
        here,
        found,
        "drafts/remove.html",
        status=status_of(problem),
        reason=found.why_not_change,
        refusal=problem.reason if problem else None,
    )
