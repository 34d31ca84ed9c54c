"""How does an instrument or a consent document get into a draft: begun anew, or copied? And an instrument out again?

Texts of files in, texts out. A code of a question is there once in the whole study: a copy gets codes of its own, and
its own rules name them.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from app.foundation.errors import FieldProblem, Invalid
from app.studies.definition import CODE
from app.studies.drafts.editing import CannotEdit, data_of, edited, inline
from app.studies.drafts.folder import said_in_yaml
from app.studies.drafts.new_study import in_library, library_files
from app.studies.importing.codes import Codes

Files = Mapping[str, str]
FOLDER = "instruments/"
STUDY = "study.yaml"
LONGEST_LABEL = 400
_FORM = """\
code: {code}
label: {label}
source: This study
sections:
  - items:
      - {{code: {first}, label: New question, type: integer}}
"""
_HEAD = """\
---
version: "{version}"
language: {language}
title: {title}
valid_from: {valid_from}
---
"""
_TO_BE_REPLACED = "\nReplace this text by the document that your ethics committee approved.\n"


def in_short(label: str, most: int = 24) -> str:
    """The first words of a label, for a code."""
    words = label.split()
    while len(words) > 1 and len(" ".join(words)) > most:
        words.pop()
    return " ".join(words)


def item_codes(files: Files) -> set[str]:
    """The codes of every question of these files, and of their groups of rows; a file that cannot be read has none."""
    return {code for path, text in files.items() if code_of(path) for code in _codes(data_of(text))}


def code_of(path: str) -> str | None:
    """The code of the instrument whose file this is; None for its words in another language and for other files."""
    is_form = path.startswith(FOLDER) and path.endswith(".yaml") and path.count(".") == 1
    return path.removeprefix(FOLDER).removesuffix(".yaml") if is_form else None


def label_of(text: str, otherwise: str) -> str:
    """What an instrument is called, as far as its file can be read."""
    said = data_of(text)
    label = said.get("label") if isinstance(said, dict) else None
    return label if isinstance(label, str) and label else otherwise


def can_be_copied(files: Files) -> list[tuple[str, str, str]]:
    """What an instrument can be a copy of, as (how it is named to `with_instrument`, label, study of the library)."""
    here = [(f"here:{code}", label_of(text, code), "") for path, text in files.items() if (code := code_of(path))]
    return [*sorted(here, key=lambda one: one[1].casefold()), *_in_library()]


@cache
def _in_library() -> tuple[tuple[str, str, str], ...]:
    found = []
    for name, title in in_library():
        for path, text in library_files(name).items():
            if code := code_of(path):
                found.append((f"{name}:{code}", label_of(text, code), title.partition(":")[0]))
    return tuple(found)


def with_instrument(
    files: Files, *, label: str, code: str = "", copy_of: str = "", visits: Collection[str] = ()
) -> tuple[str, dict[str, str]]:
    """The code of a new instrument, and the files that change: its own, its words in other languages, and study.yaml
    where it is asked at `visits`.

    Without a code one is made from the label. `copy_of` is one of `can_be_copied`; empty: one question to begin with.
    Invalid, by field, when it cannot be so.
    """
    label, code = label.strip(), code.strip()
    sources, old = _source(files, copy_of)
    here = {each.casefold() for path in files if (each := code_of(path))}
    problems = []
    if not label or len(label) > LONGEST_LABEL or not label.isprintable():
        words = f"Write what the form is called, on one line, in at most {LONGEST_LABEL} characters."
        problems.append(FieldProblem("label", "label", words))
    if code and CODE.fullmatch(code) is None:
        words = "Write a code of small letters, digits and _, a letter first, at most 40; or leave it empty."
        problems.append(FieldProblem("code", "code", words))
    if code in here:
        problems.append(FieldProblem("code", "code", f"There is an instrument {code} already. Choose another code."))
    if sources is None:
        problems.append(FieldProblem("copy_of", "choices", "Choose one of the list."))
    if problems or sources is None:
        raise Invalid(problems)
    code = code or Codes(*here).take(in_short(label), "form")
    taken = item_codes(files)
    made = (
        {f"{FOLDER}{code}.yaml": _begun(code, label, taken)}
        if not sources
        else _copied(sources, old=old, code=code, label=label, taken=taken)
    )
    if visits:
        made[STUDY] = asked_at(files.get(STUDY, ""), code, visits)
    return code, made


def _source(files: Files, copy_of: str) -> tuple[dict[str, str] | None, str]:
    """The files of what is copied, and its code; None where there is no such instrument."""
    if not copy_of:
        return {}, ""
    where, _, code = copy_of.partition(":")
    if where != "here" and where not in {name for name, _ in in_library()}:
        return None, code
    around = files if where == "here" else library_files(where)
    own = {path: text for path, text in around.items() if belongs_to(path, code)}
    return (own if f"{FOLDER}{code}.yaml" in own else None), code


def belongs_to(path: str, code: str) -> bool:
    """Whether a file is an instrument's, or its words in another language."""
    return path.startswith(f"{FOLDER}{code}.") and path.endswith(".yaml")


def _begun(code: str, label: str, taken: Collection[str]) -> str:
    numbers = (f"item{number}" for number in range(1, 100_000))
    first = next(each for each in numbers if each not in taken)
    return _FORM.format(code=code, label=inline(label), first=first)


def _copied(sources: Files, *, old: str, code: str, label: str, taken: Collection[str]) -> dict[str, str]:
    text = sources[f"{FOLDER}{old}.yaml"]
    form = data_of(text)
    if not isinstance(form, dict):
        raise Invalid([FieldProblem("copy_of", "yaml", "Its file cannot be read as YAML. Mend its text first.")])
    free = Codes(*taken)
    names = {each: new for each in dict.fromkeys(_codes(form)) if (new := free.take(each)) != each}
    made = {f"{FOLDER}{code}.yaml": _as_named(text, form, names, {"code": code, "label": label})}
    for path, words in sources.items():
        if path != f"{FOLDER}{old}.yaml":
            said = data_of(words)
            own = {"label": label} if isinstance(said, dict) and "label" in said and label != form.get("label") else {}
            made[path.replace(f"{FOLDER}{old}.", f"{FOLDER}{code}.", 1)] = _as_named(words, said, names, own)
    return made


def _as_named(text: str, form: Any, names: Mapping[str, str], own: Mapping[str, str]) -> str:
    """A text in which these codes have other names. Comments stay where none has."""
    if not isinstance(form, dict):
        return text
    if not names:
        try:
            for key, value in own.items():
                text = edited(text, (key,), value)
        except CannotEdit:
            return said_in_yaml({**form, **own})
        return text
    listed = "|".join(map(re.escape, names))
    # [visit][item] stays: it is what was answered in the form that was copied.
    pattern = re.compile(rf"(?<!\])(\[)({listed})(?=[\](:])")
    made = _renamed({**form, **own}, pattern, names)
    for part in (*_sections(made), *_items(made), *_parts(made, "items")):
        if part.get("code") in names:
            part["code"] = names[part["code"]]
    if made.get("repeat_label") in names:
        made["repeat_label"] = names[made["repeat_label"]]
    return said_in_yaml(made)


def _renamed(value: Any, pattern: re.Pattern[str], names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(each, pattern, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, pattern, names) for each in value]
    return pattern.sub(lambda found: found[1] + names[found[2]], value) if isinstance(value, str) else value


def asked_at(text: str, code: str, visits: Collection[str]) -> str:
    """study.yaml in which an instrument is asked at these visits, by code, and at no others."""
    for place, visit in enumerate(_parts(data_of(text), "visits")):
        listed = visit.get("instruments") or []
        if not isinstance(listed, list) or (code in listed) == (visit.get("code") in visits):
            continue
        new = [*listed, code] if code not in listed else [each for each in listed if each != code]
        text = _set(text, ("visits", place, "instruments"), new)
    return text


def _set(text: str, way: tuple[str | int, ...], value: Any) -> str:
    try:
        return edited(text, way, value)
    except CannotEdit as problem:
        words = "study.yaml is written in a way that cannot be changed in one place. Leave the visits as they are here."
        raise Invalid([FieldProblem("visits", "yaml", words)]) from problem


def without_instrument(files: Files, code: str) -> dict[str, str]:
    """The folder without an instrument and its words, and without it at the visits that ask it.

    What else names it, or its questions, stays, and is found by `checked`.
    """
    made = {path: text for path, text in files.items() if not belongs_to(path, code)}
    if STUDY in made:
        try:
            made[STUDY] = asked_at(made[STUDY], code, ())
        except Invalid:  # then the visits are among what is found
            return made
    return made


def why_not_language(code: str) -> str | None:
    """Why this is no code of a language, or None."""
    right = re.fullmatch(r"[a-z]{2}(-[A-Z]{2})?", code) is not None
    return None if right else "Write the code of the language, such as en, de or de-CH."


def with_consent(
    files: Files, *, version: str, language: str, title: str, valid_from: str, copy_of: str = ""
) -> tuple[str, str]:
    """Path and text of a new consent document; its text that of another document, or a line to replace.

    Invalid, by field, when there is one of that version and language, or it cannot be called so. What else is wrong
    with it the check of the draft says.
    """
    version, language, title = version.strip(), language.strip(), title.strip()
    path = f"consent/v{version}.{language}.md"
    problems = []
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", version) is None:
        words = "Write the version as the document has it, in letters, digits, . _ and -, such as 2 or 1.1."
        problems.append(FieldProblem("version", "version", words))
    if (reason := why_not_language(language)) is not None:
        problems.append(FieldProblem("language", "language", reason))
    if not title or len(title) > LONGEST_LABEL or not title.isprintable():
        words = f"Write the title of the document, on one line, in at most {LONGEST_LABEL} characters."
        problems.append(FieldProblem("title", "title", words))
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", valid_from) is None:
        problems.append(FieldProblem("valid_from", "date", "Give the day from which on it is signed."))
    if path in files and not problems:
        words = f"There is a document {path} already. Give this one another version or language."
        problems.append(FieldProblem("version", "taken", words))
    if copy_of and copy_of not in files:
        problems.append(FieldProblem("copy_of", "choices", "Choose one of the list."))
    if problems:
        raise Invalid(problems)
    head = _HEAD.format(version=version, language=language, title=inline(title), valid_from=valid_from)
    return path, head + (_body(files[copy_of]) if copy_of else _TO_BE_REPLACED)


def _body(text: str) -> str:
    """What stands below the second line of ---."""
    lines = text.replace("\r\n", "\n").splitlines(keepends=True)
    ends = [place for place, line in enumerate(lines) if line.rstrip() == "---"]
    return "".join(lines[ends[1] + 1 :]) if len(ends) > 1 else "".join(lines)


def _codes(form: Any) -> Iterator[str]:
    for part in (*_sections(form), *_items(form)):
        if isinstance(part.get("code"), str):
            yield part["code"]


def _parts(said: Any, key: str) -> Sequence[dict[str, Any]]:
    listed = said.get(key) if isinstance(said, dict) else None
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _sections(form: Any) -> Sequence[dict[str, Any]]:
    return _parts(form, "sections")


def _items(form: Any) -> list[dict[str, Any]]:
    return [item for section in _sections(form) for item in _parts(section, "items")]
