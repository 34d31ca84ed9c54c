"""What may I do with drafts? Make one, change its files, delete it, load it as a version.

`study` is None for the draft of a study that is not here yet; the log of the system says then what was done.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record, recorded_together
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.people.access import Actor, require
from app.people.actions import grant, lead_on
from app.people.permissions import NOT_AT_A_SITE, WHOLE_STUDY, Permission, Role
from app.people.reads import person_by_username, sites_of
from app.studies.actions import load_study
from app.studies.drafts import copying, new_study, rules
from app.studies.drafts.folder import checked, files_of, smallest
from app.studies.drafts.reads import (
    DRAFT,
    FILE,
    Draft,
    LastChange,
    draft,
    files_loaded_as,
    last_change,
    log_of,
    of_study,
)
from app.studies.in_use import StudyInUse
from app.studies.models import StudyVersion
from app.studies.reads import all_studies, definition, versions


@dataclass(frozen=True)
class Admitted:
    """Somebody who gets into a new study: their username, the role, and the site's code.

    Without a site: for the whole study, or, of a role that is held at a site, at each of them.
    """

    username: str
    role: str
    site: str = ""


def draft_from_files(
    session: Session,
    study: StudyInUse | None,
    files: Mapping[str, str],
    *,
    name: str,
    origin: str = "files",
    by: Actor,
    now: datetime,
) -> int:
    """Keep these files as a new draft of a study, by path; its number. Invalid when they are no folder."""
    require(by, Permission.STUDY_LOAD, action="draft.make", subject="/draft")
    name = name.strip()
    problems = []
    if not name or len(name) > rules.LONGEST_NAME or "\x00" in name:
        words = f"Give the draft a name of at most {rules.LONGEST_NAME} characters."
        problems.append(FieldProblem("name", "required", words))
    if (reason := rules.why_not_files(files)) is not None:
        problems.append(FieldProblem("folder", "folder", reason))
    if problems:
        raise Invalid(problems)
    study_id = study.id if study is not None else None
    values = {"study_id": study_id, "name": name, "origin": origin, "made_at": now, "made_by": by.username}
    number: int = session.execute(insert(DRAFT).values(values).returning(DRAFT.c.id)).scalar_one()
    common = {"draft_id": number, "version": 1, "changed_at": now, "changed_by": by.username}
    if files:
        session.execute(insert(FILE), [{**common, "path": path, "text": files[path]} for path in sorted(files)])
    subject = f"draft/{number}"
    made = Change("draft.made", subject=subject, new={"name": name, "origin": origin})
    each = [
        Change("draft.changed", subject=subject, item=path, new={"sha256": _sha256(files[path])})
        for path in sorted(files)
    ]
    record(session, log_of(study), [made, *each], by=by, now=now)
    return number


def begin_study(
    session: Session,
    files: Mapping[str, str] | None,
    *,
    code: str,
    title: str,
    origin: str,
    name: str = "",
    by: Actor,
    now: datetime,
) -> int:
    """A draft of a study that is not here yet; its number.

    `files` is the folder to begin with, under its own code and title where none is given; None: the smallest study.
    Invalid, by field, when it cannot be called so. `name` is what the draft is called where no title says it.
    """
    require(by, Permission.STUDY_LOAD, action="draft.make", subject="/draft")
    code, title = code.strip(), title.strip()
    taken = frozenset(each.code for each in all_studies(session))
    reasons = {
        "code": rules.why_not_code(code, taken=taken) if code or files is None else None,
        "title": rules.why_not_title(title) if title or files is None else None,
    }
    if problems := [FieldProblem(field, field, reason) for field, reason in reasons.items() if reason]:
        raise Invalid(problems)
    begun = smallest(code, title) if files is None else new_study.named(files, code=code, title=title)
    called = (title or new_study.title_of(begun) or name or code)[: rules.LONGEST_NAME]
    return draft_from_files(session, None, begun, name=called, origin=origin, by=by, now=now)


def make_draft(session: Session, study: StudyInUse, *, name: str, version: str | None, by: Actor, now: datetime) -> int:
    """A draft to begin with: the smallest folder without an error, or what a loaded version says; its number."""
    require(by, Permission.STUDY_LOAD, action="draft.make", subject="/draft")
    origin = "smallest" if version is None else f"version {version}"
    if version is None:
        files = smallest(study.code, name.strip()[: rules.LONGEST_NAME] or study.code)
    else:
        row = next((one for one in versions(session, study.id) if one.version == version), None)
        if row is None or row.id is None:
            raise Invalid([FieldProblem("version", "choices", "There is no such version. Choose one of those loaded.")])
        files = files_loaded_as(session, row.id) or files_of(definition(session, row.id, row.sha256))
    return draft_from_files(session, study, files, name=name, origin=origin, by=by, now=now)


def save_file(
    session: Session,
    study: StudyInUse | None,
    number: int,
    *,
    path: str,
    text: str,
    version: int,
    by: Actor,
    now: datetime,
) -> int:
    """Save one file of a draft as a whole; its version then. `version` is the one it was typed upon, 0 a new file.

    Conflict when somebody saved it meanwhile: nothing is overwritten. The same text again changes nothing.
    """
    where = {"action": "draft.change", "subject": f"/draft/{number}"}
    require(by, Permission.STUDY_LOAD, action=where["action"], subject=where["subject"])
    _hold(session, study, number, where)
    if (reason := rules.why_not_path(path)) is not None:
        raise Invalid([FieldProblem("path", "path", reason)])
    if (reason := rules.why_not_text(path, text)) is not None:
        raise Invalid([FieldProblem("text", "text", reason)])
    kept = draft(session, study, number, by=by)
    before = kept.files.get(path)
    if (before.version if before else 0) != version:
        who = f"{before.changed_by} saved {path}" if before else f"Somebody deleted {path}"
        words = f"{who} after you had opened it. Nothing was overwritten: compare, then save on top of it."
        raise Conflict(words, current_version=before.version if before else 0, **where)
    if before is not None and before.text == text:
        return version
    if before is None and (reason := rules.why_not_files({**kept.texts, path: text})) is not None:
        raise Invalid([FieldProblem("path", "path", reason)])
    new: dict[str, Any] = {"text": text, "changed_at": now, "changed_by": by.username}
    new["before"] = before.text if before is not None else None
    again = update(FILE).where(FILE.c.draft_id == number, FILE.c.path == path)
    result: int | None = session.execute(
        again.values(**new, version=FILE.c.version + 1, removed_at=None, removed_by=None).returning(FILE.c.version)
    ).scalar()
    if result is None:
        session.execute(insert(FILE).values(draft_id=number, path=path, version=1, **new))
        result = 1
    change = Change(
        "draft.changed",
        subject=f"draft/{number}",
        item=path,
        old={"sha256": _sha256(before.text)} if before else None,
        new={"sha256": _sha256(text)},
    )
    record(session, log_of(study), [change], by=by, now=now)
    return result


def add_instrument(
    session: Session,
    study: StudyInUse | None,
    number: int,
    *,
    label: str,
    code: str = "",
    copy_of: str = "",
    visits: Collection[str] = (),
    by: Actor,
    now: datetime,
) -> str:
    """Put a new instrument into a draft, and ask it at these visits; its code. See `copying.with_instrument`."""
    kept = draft(session, study, number, by=by)
    code, made = copying.with_instrument(kept.texts, label=label, code=code, copy_of=copy_of, visits=visits)
    _save_each(session, study, kept, made, by=by, now=now)
    return code


def add_consent(
    session: Session,
    study: StudyInUse | None,
    number: int,
    *,
    version: str,
    language: str,
    title: str,
    valid_from: str,
    copy_of: str = "",
    by: Actor,
    now: datetime,
) -> str:
    """Put a new consent document into a draft; its path. See `copying.with_consent`."""
    kept = draft(session, study, number, by=by)
    said = {"version": version, "language": language, "title": title, "valid_from": valid_from}
    path, text = copying.with_consent(kept.texts, **said, copy_of=copy_of)
    _save_each(session, study, kept, {path: text}, by=by, now=now)
    return path


def remove_instrument(
    session: Session, study: StudyInUse | None, number: int, *, code: str, by: Actor, now: datetime
) -> None:
    """Take an instrument out of a draft, with its words in other languages, and out of the visits that ask it."""
    kept = draft(session, study, number, by=by)
    kept.file(f"{copying.FOLDER}{code}.yaml")
    made = copying.without_instrument(kept.texts, code)
    _save_each(session, study, kept, made, by=by, now=now)
    for path in sorted(kept.files.keys() - made.keys()):
        remove_file(session, study, number, path=path, by=by, now=now)


def _save_each(
    session: Session, study: StudyInUse | None, kept: Draft, made: Mapping[str, str], *, by: Actor, now: datetime
) -> None:
    """Save those of these files that differ from what was read; Conflict when somebody changed one since."""
    for path in sorted(made):
        before = kept.files.get(path)
        if before is None or before.text != made[path]:
            version = before.version if before else 0
            save_file(session, study, kept.number, path=path, text=made[path], version=version, by=by, now=now)


def save_files(
    session: Session, study: StudyInUse, read: Draft, *, files: Mapping[str, str], by: Actor, now: datetime
) -> None:
    """Save a draft's files as a whole: those that differ are saved, and those that are not among them taken out.

    `read` is the draft they were made of: Conflict when somebody changed it since. Refused, with what is wrong, where
    the folder would not be a study any more.
    """
    number = read.number
    where: dict[str, Any] = {"action": "draft.change", "subject": f"/draft/{number}"}
    require(by, Permission.STUDY_LOAD, action=where["action"], subject=where["subject"])
    # Before the first statement: whoever saves elsewhere does not wait while a folder is read.
    errors = [finding.message for finding in checked(files)[1] if finding.is_error]
    if errors:
        more = f" There are {len(errors) - 3} more errors." if len(errors) > 3 else ""
        words = f"The draft would be no study any more, so nothing was changed. {' '.join(errors[:3])}{more}"
        raise Refused(words, **where)
    _hold(session, study, number, where)
    kept = draft(session, study, number, by=by).files
    if {path: each.version for path, each in kept.items()} != {path: each.version for path, each in read.files.items()}:
        raise Conflict("Somebody changed this draft meanwhile. Nothing was overwritten: send it again.", **where)
    who: dict[str, Any] = {"by": by, "now": now}
    for path in sorted(files):
        if path not in kept or kept[path].text != files[path]:
            version = kept[path].version if path in kept else 0
            save_file(session, study, number, path=path, text=files[path], version=version, **who)
    for path in sorted(kept.keys() - files.keys()):
        remove_file(session, study, number, path=path, **who)


def remove_file(
    session: Session, study: StudyInUse | None, number: int, *, path: str, by: Actor, now: datetime
) -> None:
    """Take a file out of a draft. Its text stays marked as deleted."""
    where = {"action": "draft.change", "subject": f"/draft/{number}"}
    require(by, Permission.STUDY_LOAD, action=where["action"], subject=where["subject"])
    _hold(session, study, number, where)
    before = draft(session, study, number, by=by).file(path)
    session.execute(
        update(FILE)
        .where(FILE.c.draft_id == number, FILE.c.path == path)
        .values(removed_at=now, removed_by=by.username, version=FILE.c.version + 1)
    )
    old = {"sha256": _sha256(before.text)}
    change = Change("draft.file_removed", subject=f"draft/{number}", item=path, old=old)
    record(session, log_of(study), [change], by=by, now=now)


def undo_change(
    session: Session, study: StudyInUse | None, number: int, *, state: int, by: Actor, now: datetime
) -> LastChange:
    """Take the last change of a draft back; it is a change itself, and can be taken back as well.

    `state` is that of the change which is meant: Conflict when there was another one since.
    """
    where: dict[str, Any] = {"action": "draft.change", "subject": f"/draft/{number}"}
    require(by, Permission.STUDY_LOAD, action=where["action"], subject=where["subject"])
    _hold(session, study, number, where)
    kept = draft(session, study, number, by=by)
    last = last_change(session, kept)
    if last is None or last.state != state:
        raise Conflict("This draft was changed meanwhile. Nothing was taken back: look at it again.", **where)
    for path, text in last.files.items():
        if text is None:
            remove_file(session, study, number, path=path, by=by, now=now)
        else:
            version = kept.files[path].version if path in kept.files else 0
            save_file(session, study, number, path=path, text=text, version=version, by=by, now=now)
    return last


def remove_draft(session: Session, study: StudyInUse | None, number: int, *, by: Actor, now: datetime) -> None:
    """Delete a draft: it is marked, and no page shows it any more. A loaded one stays."""
    where = {"action": "draft.remove", "subject": f"/draft/{number}"}
    require(by, Permission.STUDY_LOAD, action=where["action"], subject=where["subject"])
    _hold(session, study, number, where)
    session.execute(update(DRAFT).where(DRAFT.c.id == number).values(removed_at=now, removed_by=by.username))
    record(session, log_of(study), [Change("draft.removed", subject=f"draft/{number}")], by=by, now=now)


def load_draft(
    session: Session,
    study: StudyInUse | None,
    number: int,
    *,
    admitted: Sequence[Admitted] = (),
    by: Actor,
    now: datetime,
) -> StudyVersion:
    """Load a draft as a version, exactly as `equipoise study load` does with its folder. Doors ask for the password.

    `admitted` are those who get into a study that this makes; all of it holds, or nothing.
    """
    where = {"action": "draft.load", "subject": f"/draft/{number}"}
    require(by, Permission.STUDY_LOAD, action=where["action"], subject=where["subject"])
    _hold(session, study, number, where)
    found, findings = checked(draft(session, study, number, by=by).texts)
    others = frozenset(each.code for each in all_studies(session))
    errors = sum(finding.is_error for finding in findings)
    here = study.code if study is not None else None
    reason = rules.why_not_load(errors=errors, code=found.code if found else None, study=here, others=others)
    if reason is not None or found is None:
        raise Refused(reason or "The draft is no study yet. Give it a study.yaml.", **where)
    if admitted and found.code in others:
        raise Refused("This study is here already. Give roles in it under People.", **where)
    with recorded_together(session):
        version = load_study(session, found, is_new=found.code not in others, by=by, now=now)
        session.execute(update(DRAFT).where(DRAFT.c.id == number).values(loaded_at=now, loaded_version_id=version.id))
        told = {"study": found.code, "version": version.version, "sha256": version.sha256}
        loaded = Change("draft.loaded", subject=f"draft/{number}", new=told)
        record(session, log_of(study), [loaded, *lead_on(session, number, study_id=version.study_id)], by=by, now=now)
        _admit(session, version.study_id, found.code, admitted, by=by, now=now)
    return version


def _admit(
    session: Session, study_id: int, log: str, admitted: Sequence[Admitted], *, by: Actor, now: datetime
) -> None:
    """Give each their role in a study that has just been made; Invalid, by row, where there is no such thing."""
    sites = {site.code: site.id for site in sites_of(session, study_id)}
    problems = []
    for row, each in enumerate(admitted):
        person = person_by_username(session, each.username)
        if person is None:
            problems.append(FieldProblem(f"person.{row}", "choices", "Choose somebody, or leave the row empty."))
        elif each.role not in set(Role):
            problems.append(FieldProblem(f"role.{row}", "choices", "Choose a role, or leave the row empty."))
        elif each.site and each.site not in sites:
            problems.append(FieldProblem(f"site.{row}", "choices", "Choose one of the sites of this draft."))
        elif each.site and Role(each.role) in NOT_AT_A_SITE:
            words = "This role is held for the whole study. Choose all sites."
            problems.append(FieldProblem(f"site.{row}", "choices", words))
        elif not problems:
            chosen: dict[str, Any] = {"role": Role(each.role), "study_id": study_id, "log": log}
            everywhere: list[int | None] = [None] if Role(each.role) in WHOLE_STUDY else [*sites.values()]
            try:
                for site_id in [sites[each.site]] if each.site else everywhere:
                    grant(session, person_id=person.id, **chosen, site_id=site_id, by=by, now=now)
            except Refused as problem:
                words = f"{person.name}: {problem.reason}"
                raise Refused(words, action=problem.action, subject=problem.subject) from problem
    if problems:
        raise Invalid(problems)


def _hold(session: Session, study: StudyInUse | None, number: int, where: dict[str, str]) -> None:
    """The draft, held until the transaction ends, so that of two who change it the second sees what the first did."""
    if not 0 <= number < 2**31:
        raise NotFound
    row = session.execute(
        select(DRAFT.c.loaded_at, DRAFT.c.removed_at).where(DRAFT.c.id == number, of_study(study)).with_for_update()
    ).first()
    if row is None:
        raise NotFound
    reason = rules.why_not_change(loaded=row.loaded_at is not None, removed=row.removed_at is not None)
    if reason is not None:
        raise Refused(reason, **where)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
