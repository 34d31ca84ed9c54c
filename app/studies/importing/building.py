"""How does a draft become a study folder that can be loaded? What is missing gets a marked default, and what of rules
cannot stand is taken out and reported, until nothing is wrong with it any more.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from pydantic import ValidationError

from app.studies.definition import RESERVED_CODES, ConsentDocument, Instrument, Study, StudyFile, StudyText
from app.studies.importing.codes import Codes, short
from app.studies.importing.draft import Data, Draft, Form, Section, planned_visit
from app.studies.importing.report import Failed, Kind, Note, as_markdown
from app.studies.rules import problems
from app.studies.rules.findings import Finding, Path, Place
from app.studies.texts import NAMES

MOST_FORMS = 400
MOST_ITEMS = 20_000
REPORT_FILE = "README-import.md"
_ROUNDS = 60
_NEEDED = ("short_title", "target", "eligibility")
EVERY_CRITERION = "meets_all_criteria"
"""The question that stands in for criteria where the source has none."""

CONSENT = """NOT A CONSENT DOCUMENT

This text was written because a study folder needs a consent document and {source} has none. Nobody may be asked to
sign it. Replace this file with the text that the ethics committee approved, word for word.
"""


@dataclass(frozen=True)
class Converted:
    """A study folder in memory: its study, its files by their names, and the report."""

    study: Study
    files: dict[str, bytes]
    notes: tuple[Note, ...]
    source: str

    @property
    def texts(self) -> dict[str, str]:
        """The files as a draft keeps them."""
        return {path: data.decode() for path, data in self.files.items()}

    def count(self, kind: Kind) -> int:
        return sum(note.kind is kind for note in self.notes)


def built(draft: Draft, *, on: date) -> Converted:
    """The folder of a draft; `on` is the day from which the stand-in for a consent document is dated."""
    if not (draft.forms or draft.visits or draft.arms):
        raise Failed("The file defines no form with a question in it. Export the whole definition and try again.")
    if len(draft.forms) > MOST_FORMS or sum(len(form.items) for form in draft.forms) > MOST_ITEMS:
        raise Failed(f"A study has at most {MOST_FORMS} forms and {MOST_ITEMS:,} items. Split the file by its forms.")
    placeholders: list[Data] = []
    has_criteria = bool(draft.criteria)
    screening = _eligibility(draft)
    data = _study(draft, screening, placeholders, has_criteria=has_criteria)
    instruments = [screening, *(_instrument(form, draft) for form in draft.forms)]
    for instrument, item in draft.personal:
        placeholders.append(
            {
                "part": f"instruments.{instrument}.{item}",
                "say": "this may say who somebody is; see the import's report.",
            }
        )
    instruments.sort(key=lambda instrument: str(instrument["code"]))  # as their files are read
    document, consent = _consent(draft, on)
    study = _settled(draft, data, instruments, document)
    files = {"study.yaml": _yaml(data), "consent/v1.en.md": consent}
    for text in draft.texts:
        files[f"study.{text['language']}.yaml"] = _yaml({key: text[key] for key in text if key != "language"})
    for each in instruments:
        for text in each.pop("texts", ()):
            language = text.pop("language")
            files[f"instruments/{each['code']}.{language}.yaml"] = _yaml(text)
        files[f"instruments/{each['code']}.yaml"] = _yaml(each)
    notes = tuple(draft.report.notes)
    files[REPORT_FILE] = as_markdown(study.title, draft.source, notes).encode()
    return Converted(study, files, notes, draft.source)


# What the source says, and what stands in for what it does not say


def _study(draft: Draft, screening: Data, placeholders: list[Data], *, has_criteria: bool) -> Data:
    def default(part: str, say: str, instead: str, to_do: str) -> None:
        if part in draft.said:
            return
        placeholders.append({"part": part, "say": say})
        draft.report.default(f"study.yaml, {part}", say[0].upper() + say[1:], instead, to_do)

    code = draft.code or Codes(*RESERVED_CODES).take(draft.title or "imported", "imported")
    title = short(draft.title) or "Imported study"
    data: Data = {
        "code": code,
        "version": draft.version,
        "title": title,
        "short_title": short(draft.short_title or title, 60),
    }
    if not draft.title:
        default("title", "the source has no title.", "It is called “Imported study”.", "Write the title of the trial.")
    default(
        "target", "the source does not say how many take part.", "The target is 1.", "Write the planned sample size."
    )
    data["target"] = 1
    data["language"] = draft.language
    if draft.record_id is not None:
        data["record_id"] = draft.record_id
    if draft.sites:
        data["sites"] = draft.sites
        if not draft.zones_known:
            default("sites", "the source says no time zones.", "They are UTC.", "Write the time zone of each site.")
    else:
        data["sites"] = [{"code": "site1", "name": "Site to be named", "timezone": "UTC"}]
        default(
            "sites", "the source names no site.", "There is one to be named.", "Name the sites and their time zones."
        )
    data["arms"] = draft.arms or [{"code": "everybody", "label": "Everybody"}]
    method = "list" if draft.is_randomised else "observed"
    data["allocation"] = {"method": method, "source": "Not in the source of this import: to be decided."}
    if draft.arms:
        default(
            "arms",
            "they were taken from the source, which does not say how they are allocated, and in which ratio.",
            "They are equal in size." if draft.is_randomised else "Groups are observed.",
            "Check the arms, and write their ratio.",
        )
    else:
        default(
            "arms", "the source names no arms.", "There is one group, Everybody.", "Write the arms and their ratio."
        )
    default(
        "allocation",
        "the source does not say how participants get an arm.",
        "A list that is made elsewhere (`list`)." if draft.is_randomised else "Nobody is allocated (`observed`).",
        "Write the method and the strata; then count visits from randomisation, and write `kind: baseline` at those "
        "before it.",
    )
    data["eligibility"] = {
        "instrument": screening["code"],
        "criteria": [
            {"code": code, "label": label, "kind": kind, "rule": f"[{code}] = '1'"}
            for code, label, kind in draft.criteria
        ],
    }
    if has_criteria:
        default(
            "eligibility",
            "each criterion of the source is asked as a yes or no question.",
            "The pre-screen asks one question for each criterion.",
            "Ask for what they are judged from instead (age, scores), and write the rules.",
        )
    else:
        default(
            "eligibility",
            "the source has no eligibility criteria.",
            "The pre-screen asks one question: whether all of the protocol's are met.",
            "Write the criteria and the questions they are judged from.",
        )
    if draft.visits:
        data["visits"] = draft.visits
        if draft.times_known and not draft.anchors_known:
            default(
                "visits",
                "days and windows were taken from the source; from what they are counted, and which visits come before "
                "randomisation, it does not say.",
                "They are counted from consent.",
                "Write `anchor` and `kind` of each visit.",
            )
    else:
        data["visits"] = [planned_visit("visit1", "Visit 1", [form.code for form in draft.forms])]
    if not draft.times_known:
        default(
            "visits",
            "the source does not say when visits are due.",
            "All are due on the day of consent, without days before or after.",
            "Write day, window, anchor and kind of each visit.",
        )
    if draft.unscheduled:
        data["unscheduled"] = {"instruments": draft.unscheduled}
    missing = _missing_codes(draft)
    if missing:
        data["missing_codes"] = missing
    placeholders.append({"part": "consent_documents", "say": "the source has none: this is not a consent document."})
    draft.report.default(
        "consent/v1.en.md",
        "A study needs a consent document, and the source has none.",
        "A text that says so stands in for it.",
        "Replace it with the approved text before anybody is asked to sign.",
    )
    for key, what in (
        ("outcomes", "Outcomes"),
        ("withdrawal_levels", "How far somebody can withdraw"),
        ("unblinding", "Who may break the blind, and how"),
        ("safety", "Clocks, terms and expectedness of adverse events"),
    ):
        if not draft.is_ours:
            instead = "Nothing was written."
            draft.report.default(f"study.yaml, {key}", f"{what}: not in the source.", instead, f"Write `{key}:`.")
    data |= draft.said
    data["sources"] = [f"Converted from {draft.source}."]
    data["placeholders"] = placeholders
    return data


def _eligibility(draft: Draft) -> Data:
    """The pre-screen: the criteria of the source as questions, or one question that stands in for them.

    Where the source says which form is the pre-screen, it is that one, and such a question stands behind its own.
    """
    said = draft.said.get("eligibility")
    screening = said["instrument"] if said else draft.screening
    form = next((each for each in draft.forms if each.code == screening), None)
    if form is not None:
        draft.forms.remove(form)
        if said:
            return _instrument(form, draft)
        asked = {item["code"]: item for item in form.items}
        if asked.get(EVERY_CRITERION, {}).get("type") == "yes_no":
            draft.criteria = [(EVERY_CRITERION, asked[EVERY_CRITERION]["label"], "inclusion")]
            return _instrument(form, draft)
    code = form.code if form is not None else draft.instruments.take("prescreen")
    if draft.criteria:
        draft.criteria = [(draft.items.take(code, "criterion"), label, kind) for code, label, kind in draft.criteria]
    else:
        draft.criteria = [(draft.items.take(EVERY_CRITERION), "Meets every criterion of the protocol", "inclusion")]
    items = [{"code": code, "label": label, "type": "yes_no"} for code, label, _ in draft.criteria]
    if form is not None:
        form.sections.append(Section(items=items))
        return _instrument(form, draft)
    return {
        "code": code,
        "label": "Pre-screen",
        "respondent": "coordinator",
        "source": f"Written by the import of {draft.source}.",
        "sections": [{"items": items}],
    }


def _instrument(form: Form, draft: Draft) -> Data:
    data: Data = {"code": form.code, "label": form.label, "source": f"Converted from {draft.source}."}
    if form.respondent:
        data["respondent"] = form.respondent
    if form.repeats:
        data["repeats"] = True
    sections = []
    for section in form.sections:
        if not section.items:
            continue
        said: Data = {"label": section.label} if section.label else {}
        if section.layout != "list":
            said["layout"] = section.layout
        if section.code is not None:
            said |= {"code": section.code, "repeats": True}
        sections.append({**said, **section.said, "items": section.items})
    return {**data, "texts": list(_texts(form)), **form.said, "sections": sections}


def _texts(form: Form) -> Iterator[Data]:
    """The words of a form in other languages, without what no longer stands in it."""
    items = {item["code"]: item for section in form.sections if section.code is None for item in section.items}
    for language, said in sorted(form.texts.items()):
        worded = []
        for each in said:
            if each["code"] in items:
                codes = {choice["code"] for choice in items[each["code"]].get("choices", ())}
                choices = [choice for choice in each.get("choices", ()) if choice["code"] in codes]
                worded.append({**each, "choices": choices} if choices else {k: each[k] for k in each if k != "choices"})
        if worded:
            yield {"language": language, "items": worded}


def _missing_codes(draft: Draft) -> list[Data]:
    """Reasons for no answer: with letters, so that none can be an answer, and none the code of a choice."""
    used = [choice["code"] for form in draft.forms for item in form.items for choice in item.get("choices", ())]
    codes = Codes(*used)
    made = []
    for there, label in draft.missing_codes:
        wanted = f"M{there.lstrip('-')}" if _is_number(there) else there
        here = codes.take_any(wanted, "M")
        if here != there:
            draft.report.changed(
                "Missing data codes",
                f"{there}, {label}.",
                f"Its code is {here}: with letters, and unlike any choice.",
                "Map the code when you bring data in.",
            )
        made.append({"code": here, "label": short(label) or here})
    return made


def _is_number(text: str) -> bool:
    try:
        return Decimal(text.strip()).is_finite()
    except InvalidOperation:
        return False


def _consent(draft: Draft, on: date) -> tuple[ConsentDocument, bytes]:
    """What stands in for a consent document, and its file."""
    text = CONSENT.format(source=draft.source)
    head = f'---\nversion: "0"\nlanguage: {draft.language}\ntitle: Not a consent document\nvalid_from: {on}\n---\n\n'
    data = (head + text).encode()
    document = ConsentDocument(
        version="0",
        language=draft.language,
        title="Not a consent document",
        valid_from=on,
        text=text.strip(),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return document, data


# Whole, and without an error


def _settled(draft: Draft, data: Data, instruments: list[Data], document: ConsentDocument) -> Study:
    """The study, once whatever rules cannot stand is taken out of the data; each is reported."""
    for _ in range(_ROUNDS):
        study = _read(data, instruments, document, draft.texts)
        errors = [finding for finding in problems(study, _told) if finding.is_error]
        if not errors:
            return study
        done: set[int] = set()
        _take_out_words(draft, errors, done)
        for finding in errors:
            _take_out(draft, data, instruments, _path(finding.file), finding.message, done)
        if not done:
            raise Failed(f"The file cannot become a study: {errors[0].message}")
    raise Failed("The file's rules contradict each other too often to be taken apart. Simplify them and try again.")


def _read(data: Data, instruments: list[Data], document: ConsentDocument, texts: list[Data]) -> Study:
    try:
        file = StudyFile.model_validate(data)
        words = tuple(StudyText.model_validate(each) for each in texts)
        forms = tuple(Instrument.model_validate(each) for each in instruments)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Failed(f"The file cannot become a study: {place}: {first['msg']}") from None
    fields: dict[str, Any] = {name: getattr(file, name) for name in StudyFile.model_fields}
    return Study.model_construct(**fields, instruments=forms, consent_documents=(document,), texts=words)


def _told(path: Path) -> Place:
    return Place("\x1f".join(str(part) for part in path))


def _path(file: str) -> list[str]:
    return file.split("\x1f")


def _take_out(draft: Draft, data: Data, instruments: list[Data], path: list[str], message: str, done: set[int]) -> None:
    """Take one rule, the layout of one section, the words in one language, or a part of study.yaml, out of the data.

    Only such a part is taken out that the source says in our own words, and that a study can be without.
    """
    if path[0] in draft.said and path[0] not in _NEEDED:
        if data.pop(path[0], None) is not None:
            done.add(id(data))
            draft.report.lost(f"study.yaml, {path[0]}", message, f"Write `{path[0]}:` anew.")
        return
    if path[:1] == ["instruments"] and path[2:3] == ["texts"]:
        texts = instruments[int(path[1])]["texts"]
        if id(texts) not in done and int(path[3]) < len(texts):
            done.add(id(texts))
            text = texts.pop(int(path[3]))
            what = f"The words in {text['language']}: {message}"
            draft.report.lost(instruments[int(path[1])]["label"], what, "Write them anew where they are needed.")
        return
    if path[:1] != ["instruments"] or len(path) < 4 or path[2] != "sections":
        return
    instrument = instruments[int(path[1])]
    section = instrument["sections"][int(path[3])]
    of_layout = path[4:5] == ["layout"] or path[6:7] == ["type"] or len(path) == 6
    if of_layout and section.pop("layout", None) is not None:
        done.add(id(section))
        draft.report.looks(instrument["label"], f"A matrix: {message}", "Its questions stand one by one.")
        return
    if path[4:5] != ["items"] or len(path) < 7:
        return
    item, key = section["items"][int(path[5])], path[6]
    where = draft.where.get(item["code"], item["code"])
    if key == "checks" and len(path) > 7:
        checks = item.get("checks", [])
        # By identity: places move while several are taken out of one item.
        if id(item) in done or int(path[7]) >= len(checks):
            return
        rule = checks.pop(int(path[7]))["rule"]
        for text in instrument.get("texts", ()):
            for each in text["items"]:
                if each["code"] == item["code"]:
                    each.pop("checks", None)  # they are told by their order
        if not checks:
            del item["checks"]
        what = f"The check {rule}"
    elif key in ("shown_if", "calculation") and key in item:
        what = f"The {'condition' if key == 'shown_if' else 'calculation'} {item.pop(key)}"
    else:
        return
    done.add(id(item))
    if key == "calculation":
        typed_instead(item)
    draft.report.lost(
        where,
        f"{what}: {message}",
        "Write it anew where it is needed.",
        "The item is always shown."
        if key == "shown_if"
        else "A number is typed."
        if key == "calculation"
        else "Left out.",
    )


def _take_out_words(draft: Draft, errors: Sequence[Finding], done: set[int]) -> None:
    """Take out what is said in other languages of parts of study.yaml that are not there."""
    wrong: dict[tuple[Any, ...], str] = {}
    for finding in errors:
        path = tuple(int(part) if part.isdigit() else part for part in _path(finding.file))
        if path[0] == "texts":
            # Of one of a list, and of a whole language, it leads to what that one is called by.
            wrong[path[1:-1] if path[-1] in ("language", *NAMES) else path[1:]] = finding.message
    # From the end: what stands before one of a list stays in its place.
    for (*way, last), message in sorted(wrong.items(), reverse=True):
        where = f"study.{draft.texts[(*way, last)[0]]['language']}.yaml"
        part: Any = draft.texts
        for step in way:
            part = part[step]
        part.pop(last)
        done.add(id(part))
        draft.report.lost(where, message, "Write the words anew where they are needed.")


def typed_instead(item: Data) -> None:
    """Make an item one that is typed: its calculation could not be taken over."""
    item["type"] = "number"
    item["required"] = False
    item.pop("calculation", None)


@cache
def _dumper() -> Any:
    """Writes every list out where it stands, without anchors. Loaded when it is needed: a server seldom does."""
    import yaml

    base = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return type("Dumper", (base,), {"ignore_aliases": lambda self, data: True})  # noqa: ARG005


def _yaml(data: Data) -> bytes:
    import yaml

    text = yaml.dump(data, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=110)
    return str(text).encode()
