"""What does a folder say once its instruments, its visits or their forms are others? Texts of files in, texts out.

For whoever exchanges whole parts, as programs do: comments in study.yaml are lost. Whether the folder is a study still
is asked of `folder.checked`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from app.studies.drafts.folder import said_in_yaml
from app.studies.importing.codes import Codes
from app.studies.importing.draft import planned_visit

Files = Mapping[str, str]
STUDY = "study.yaml"
FOLDER = "instruments/"


@dataclass(frozen=True)
class Planned:
    """A visit as it is to be: `code` is that of one that is there, None a new one."""

    code: str | None
    label: str
    day: int | None = None
    before: int | None = None
    after: int | None = None


def said(files: Files, path: str = STUDY) -> dict[str, Any]:
    """What a file says, as data."""
    found = yaml.safe_load(files[path])
    return found if isinstance(found, dict) else {}


def with_said(files: Files, **parts: Any) -> dict[str, str]:
    """The folder with these parts of study.yaml."""
    return {**files, STUDY: said_in_yaml({**said(files), **parts})}


def code_of(path: str) -> str | None:
    """The code of the instrument that a file belongs to, None when it is no instrument's."""
    return path.removeprefix(FOLDER).partition(".")[0] if path.startswith(FOLDER) else None


def with_instruments(files: Files, new: Files, *, record_id: str | None = None) -> dict[str, str]:
    """The folder with these files of instruments, and no others; the pre-screen stays unless it is among them.

    An instrument that was there keeps everything but its questions. One that is asked nowhere yet is asked at the first
    visit, in the order given, and what is gone is asked nowhere. Where the pre-screen stays and calls a question as a
    new one is called, the question of the pre-screen gets another name, and what refers to it with it.
    """
    study = said(files)
    screening = study.get("eligibility", {}).get("instrument")
    codes = dict.fromkeys(code for path in new if (code := code_of(path)) is not None)
    made = {path: text for path, text in files.items() if code_of(path) is None}
    if screening not in codes:
        kept = {path: text for path, text in files.items() if code_of(path) == screening}
        made |= _out_of_the_way(study, kept, new)
    for path, text in new.items():
        made[path] = _with_questions(files[path], text) if path in files and _is_form(path) else text
    known = {*codes, screening}
    places = [*study.get("visits", ()), *([study["unscheduled"]] if study.get("unscheduled") else [])]
    for place in places:
        place["instruments"] = [code for code in place.get("instruments", ()) if code in known]
    asked = {screening, *(code for place in places for code in place["instruments"])}
    if study.get("visits"):
        study["visits"][0]["instruments"] += [code for code in codes if code not in asked]
    if study.get("unscheduled") and not study["unscheduled"]["instruments"]:
        study.pop("unscheduled")
    study["placeholders"] = [
        each for each in study.get("placeholders", ()) if not str(each.get("part", "")).startswith("instruments.")
    ]
    if record_id is not None:
        study["record_id"] = record_id
    return {**made, STUDY: said_in_yaml(study)}


def _out_of_the_way(study: dict[str, Any], kept: Files, new: Files) -> dict[str, str]:
    """The files of the pre-screen, in which no question is called as one in the new files; what study.yaml says of it
    is changed with them.
    """
    forms = {path: said(kept, path) for path in kept}
    taken = {item["code"] for path in new for item in _items(said(new, path))}
    own = dict.fromkeys(item["code"] for form in forms.values() for item in _items(form))
    codes = Codes(*taken, *own)
    names = {code: codes.take(f"{study['eligibility']['instrument']}_{code}") for code in own if code in taken}
    if not names:
        return dict(kept)
    listed = "|".join(map(re.escape, names))
    here = re.compile(rf"(\[)({listed})(?=[\](:])")
    elsewhere = re.compile(rf"(\[screening\]\[)({listed})(?=[\](:])")
    rules = study["eligibility"].pop("criteria", [])
    study |= _renamed(study, elsewhere, names)
    study["eligibility"]["criteria"] = _renamed(rules, here, names)
    for path, form in forms.items():
        forms[path] = _renamed(form, here, names)
        for item in _items(forms[path]):
            item["code"] = names.get(item["code"], item["code"])
    return {path: said_in_yaml(form) for path, form in forms.items()}


def _items(form: dict[str, Any]) -> list[dict[str, Any]]:
    """The questions of an instrument, or their words in another language."""
    return [*form.get("items", ()), *(item for section in form.get("sections", ()) for item in section["items"])]


def _renamed(value: Any, pattern: re.Pattern[str], names: Mapping[str, str]) -> Any:
    """Data in which every text names these questions by their new names."""
    if isinstance(value, dict):
        return {key: _renamed(each, pattern, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, pattern, names) for each in value]
    if isinstance(value, str):
        return pattern.sub(lambda found: found[1] + names[found[2]], value)
    return value


def without_items(text: str, codes: Collection[str]) -> str:
    """An instrument without these questions, and without the sections that held nothing else."""
    form = yaml.safe_load(text)
    if not any(item["code"] in codes for item in _items(form)):
        return text
    parts = [
        {**section, "items": [item for item in section["items"] if item["code"] not in codes]}
        for section in form["sections"]
    ]
    return said_in_yaml({**form, "sections": [section for section in parts if section["items"]]})


def _is_form(path: str) -> bool:
    return path.count(".") == 1


def _with_questions(before: str, after: str) -> str:
    old, new = yaml.safe_load(before), yaml.safe_load(after)
    return said_in_yaml({**old, "sections": new["sections"]})


def with_visits(files: Files, planned: Sequence[Planned], *, replace: bool) -> dict[str, str]:
    """The folder with these visits, each where its day puts it; with `replace` those that are not named go.

    A new one is counted from what the last visit is counted from, and is due with it unless its day is said.
    """
    visits: list[dict[str, Any]] = list(said(files).get("visits", ()))
    codes, kept = Codes("screening", *(visit["code"] for visit in visits)), set()
    for each in planned:
        code = each.code or codes.take(each.label, "visit")
        kept.add(code)
        visit = next((visit for visit in visits if visit["code"] == code), None)
        if visit is None:
            visit = planned_visit(code, each.label, [])
            visit |= {"anchor": _anchor(visits[-1]), "day": visits[-1]["day"]} if visits else {}
            visits.append(visit)
        visit["label"] = each.label
        window = visit["window"]
        visit["window"] = {
            "before": window["before"] if each.before is None else each.before,
            "after": window["after"] if each.after is None else each.after,
        }
        if each.day not in (None, visit["day"]):
            visit["day"] = each.day
            _put(visits, visit)
    return with_said(files, visits=[visit for visit in visits if visit["code"] in kept or not replace])


def _put(visits: list[dict[str, Any]], moved: dict[str, Any]) -> None:
    """Where its day puts it, among those that are counted from the same."""
    where = visits.index(moved)
    visits.remove(moved)
    along = [place for place, visit in enumerate(visits) if _anchor(visit) == _anchor(moved)]
    before = [place for place in along if visits[place]["day"] <= moved["day"]]
    visits.insert(before[-1] + 1 if before else along[0] if along else where, moved)


def _anchor(visit: dict[str, Any]) -> str:
    return str(visit.get("anchor", "randomisation"))  # as the definition has it where nothing is said


def without_visits(files: Files, codes: Sequence[str]) -> dict[str, str]:
    """The folder without these visits."""
    return with_said(files, visits=[visit for visit in said(files).get("visits", ()) if visit["code"] not in codes])


def with_forms(files: Files, forms: Mapping[str, Sequence[str]], outside: Sequence[str]) -> dict[str, str]:
    """The folder with these instruments at its visits, by code, and at those outside the plan; elsewhere none."""
    study = said(files)
    for visit in study.get("visits", ()):
        visit["instruments"] = list(forms.get(visit["code"], ()))
    if study.get("unscheduled"):
        study["unscheduled"]["instruments"] = list(outside)
    return {**files, STUDY: said_in_yaml(study)}


def with_repeats(files: Files, repeating: Sequence[str]) -> dict[str, str]:
    """The folder in which these instruments repeat, and no others."""
    made = dict(files)
    for path in files:
        if code_of(path) is None or not _is_form(path):
            continue
        form = said(files, path)
        if bool(form.get("repeats")) != (code_of(path) in repeating):
            made[path] = said_in_yaml({**form, "repeats": code_of(path) in repeating})
    return made
