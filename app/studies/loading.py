"""What does this study folder say, and what is wrong with it? Every error with its file, line and column.

YAML is read as data only: no tag, no type of Python, nothing is ever constructed or run. A plain value is kept as its
text and the model decides what it is, so `no`, `010` and `1.0` stay what was typed. Names with an anchor (&) can be
used again with an alias (*).
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from app.studies.definition import (
    ConsentDocument,
    Dictionary,
    Instrument,
    InstrumentText,
    Study,
    StudyFile,
    StudyText,
    Term,
)
from app.studies.rules import Finding, Path, Place, Severity, problems, study_schema
from app.studies.rules.problems import instrument_problems, wording_problems

LARGEST_FILE = 1_000_000  # bytes; the largest file of the library has about 30,000
LARGEST_CONSENT = 1_000_000
MOST_FILES = 400  # instruments, and as many consent documents
MOST_VALUES = 100_000  # values in one file, counting what aliases repeat
DEEPEST = 40

LIBRARY = FilePath(__file__).parent / "library"
SCHEMA_FILE = FilePath(__file__).parents[2] / "docs" / "study.schema.json"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass
class Tree:
    """The data of one YAML file and the place of every value and key in it."""

    file: str
    value: Any = None
    places: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path) -> Place:
        """Where the value at this path stands, or the nearest part around it."""
        for length in range(len(path), -1, -1):
            found = self.places.get(path[:length])
            if found is not None:
                return found
        return Place(self.file, 1, 1)

    def key_place(self, path: Path) -> Place:
        """Where the key of this value stands."""
        return self.keys.get(path) or self.place(path)


def read_folder(path: FilePath) -> tuple[Study | None, list[Finding]]:
    """The study in a folder and everything that is wrong with it; None when there is an error."""
    folder = _Folder(FilePath(path))
    study = folder.read()
    findings = sorted(set(folder.findings))
    return (None if any(finding.is_error for finding in findings) else study), findings


def read_wording(path: FilePath, study: Study) -> tuple[list[tuple[str, InstrumentText, str]], list[Finding]]:
    """The wordings in a folder, as (instrument, words, SHA-256 of the file), and everything that is wrong with them."""
    folder = _Folder(FilePath(path))
    if not folder.path.is_dir():
        folder.add(str(path), 0, 0, "There is no such folder.")
        return [], folder.findings
    found = folder.wording()
    for place, (code, words, _) in enumerate(found):
        for inside, message, severity in wording_problems(study, code, words):
            where = folder.trees[("wording", place)].place(inside)
            folder.add(where.file, where.line, where.column, message, severity)
    findings = sorted(set(folder.findings))
    return ([] if any(finding.is_error for finding in findings) else found), findings


def library() -> list[FilePath]:
    """The study folders that ship with Equipoise."""
    return sorted(entry.parent for entry in LIBRARY.glob("*/study.yaml"))


def write_schema(path: FilePath = SCHEMA_FILE) -> None:
    """Write the published JSON Schema of study files."""
    path.write_text(json.dumps(study_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class _Folder:
    """One reading of one folder; collects findings as it goes."""

    def __init__(self, path: FilePath) -> None:
        self.path = path
        self.findings: list[Finding] = []
        self.trees: dict[Path, Tree] = {}  # the tree that holds a part of the study
        self.unreadable: set[str] = set()

    def read(self) -> Study | None:
        if not self.path.is_dir():
            self.add(str(self.path), 0, 0, "There is no such folder.")
            return None
        self.unread_files()
        study_file = self.study_file()
        instruments = self.instruments()
        documents = self.consent_documents()
        if study_file is None:
            self.findings += instrument_problems(enumerate(instruments), self.locate)
            return None
        study = Study.model_construct(
            **{
                **{name: getattr(study_file, name) for name in StudyFile.model_fields},
                "dictionaries": self.dictionaries(study_file),
            },
            instruments=tuple(instruments),
            consent_documents=tuple(documents),
            texts=tuple(self.study_texts()),
        )
        found = problems(study, self.locate, unreadable=self.unreadable)
        if any(finding.file.startswith("consent/") for finding in self.findings):
            found = [finding for finding in found if finding.file != "consent"]
        self.findings += found
        return study

    def locate(self, path: Path) -> Place:
        """Where a part of the study was written."""
        if path[:1] == ("consent_documents",) and path[:2] not in self.trees:
            return Place("consent")
        for length in (4, 2, 0):
            tree = self.trees.get(path[:length])
            if tree is not None:
                return tree.place(path[length:])
        return Place("study.yaml", 1, 1)

    def add(self, file: str, line: int, column: int, message: str, severity: Severity = Severity.ERROR) -> None:
        self.findings.append(Finding(file, line, column, message, severity))

    def add_at(self, place: Place, message: str) -> None:
        self.add(place.file, place.line, place.column, message)

    def unread_files(self) -> None:
        """Warn of files that look as if they belonged to the study, and are not read."""
        for entry in sorted(self.path.rglob("*")):
            name = entry.relative_to(self.path).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/"))
            if entry.is_dir() or hidden or entry.name.startswith(("README", "LICENCE", "LICENSE")):
                continue
            parent, _, file = name.rpartition("/")
            reads = (
                (parent == "" and file.startswith("study.") and file.endswith(".yaml"))
                or (parent == "instruments" and file.endswith(".yaml"))
                or (parent == "consent" and file.endswith(".md"))
                or (parent == "dictionaries" and file.endswith((".csv", ".yaml")))
            )
            if not reads:
                self.add(
                    name,
                    0,
                    0,
                    "This file is not read. A study is study.yaml, study.LANGUAGE.yaml, instruments/*.yaml, "
                    "consent/*.md, dictionaries/*.",
                    Severity.WARNING,
                )

    def study_file(self) -> StudyFile | None:
        file = self.path / "study.yaml"
        if not file.exists():
            self.add("study.yaml", 0, 0, "The folder has no study.yaml. Every study begins with one.")
            return None
        tree = self.yaml_of(file)
        if tree is None:
            return None
        self.trees[()] = tree
        return self.valid(StudyFile, tree)

    def study_texts(self) -> list[StudyText]:
        """What a participant reads of study.yaml in other languages."""
        texts: list[StudyText] = []
        for file in self.files("", "study.*.yaml"):
            tree = self.yaml_of(file)
            text = self.text_in(file, tree, StudyText) if tree is not None else None
            if tree is not None and text is not None:
                self.trees[("texts", len(texts))] = tree
                texts.append(text)
        return texts

    def instruments(self) -> list[Instrument]:
        instruments: list[Instrument] = []
        for file in self.files("instruments", "*.yaml"):
            if "." in file.stem:
                continue  # words in another language
            tree = self.yaml_of(file)
            instrument = self.valid(Instrument, tree) if tree is not None else None
            if tree is None or instrument is None:
                named = tree.value.get("code") if tree is not None and isinstance(tree.value, dict) else None
                self.unreadable |= {file.stem, str(named)}
                continue
            if instrument.code != file.stem:
                place = tree.place(("code",))
                self.add(
                    place.file,
                    place.line,
                    place.column,
                    f"The file of the instrument {instrument.code} should be named {instrument.code}.yaml.",
                    Severity.WARNING,
                )
            for given in {"texts"} & set(tree.value):
                words = "Words in another language stand in a file of their own: CODE.LANGUAGE.yaml. Take this out."
                self.add_at(tree.key_place((given,)), words)
            self.trees[("instruments", len(instruments))] = tree
            instruments.append(instrument)
        known = {instrument.code for instrument in instruments} | self.unreadable
        for file in self.files("instruments", "*.*.yaml"):
            code = file.stem.partition(".")[0]
            if code not in known:
                self.add(self.name(file), 1, 1, f"There is no instrument {code}. Name the file by one that there is.")
        return [self.with_texts(place, instrument) for place, instrument in enumerate(instruments)]

    def with_texts(self, place: int, instrument: Instrument) -> Instrument:
        """The instrument with its words in other languages."""
        texts: list[InstrumentText] = []
        for file in self.files("instruments", f"{instrument.code}.*.yaml"):
            tree = self.yaml_of(file)
            text = self.text_in(file, tree, InstrumentText) if tree is not None else None
            if tree is not None and text is not None:
                self.trees[("instruments", place, "texts", len(texts))] = tree
                texts.append(text)
        return instrument.model_copy(update={"texts": tuple(texts)}) if texts else instrument

    def text_in(self, file: FilePath, tree: Tree, kind: type[_Model]) -> _Model | None:
        """The words in a file CODE.LANGUAGE.yaml; its language is said by its name."""
        language = file.stem.partition(".")[2]
        if isinstance(tree.value, dict):
            if "language" in tree.value:
                self.add_at(tree.key_place(("language",)), "The name of the file says the language. Take this out.")
            tree.value |= {"language": language}
        return self.valid(kind, tree)

    def wording(self) -> list[tuple[str, InstrumentText, str]]:
        """Every file CODE.LANGUAGE.yaml of a folder of wordings: instrument, words, SHA-256 of the file."""
        found: list[tuple[str, InstrumentText, str]] = []
        for file in self.files("", "*.yaml"):
            name = self.name(file)
            code, _, language = file.stem.partition(".")
            if not language:
                self.add(name, 0, 0, "Name the file by instrument and language: CODE.LANGUAGE.yaml.")
                continue
            data = self.bytes_of(file, LARGEST_FILE)
            text = self.text_of(data, name) if data is not None else None
            tree = self.tree_of(text, name) if text is not None else None
            words = self.text_in(file, tree, InstrumentText) if tree is not None else None
            if data is not None and tree is not None and words is not None:
                self.trees[("wording", len(found))] = tree
                found.append((code, words, hashlib.sha256(data).hexdigest()))
        return found

    def consent_documents(self) -> list[ConsentDocument]:
        documents: list[ConsentDocument] = []
        for file in self.files("consent", "*.md"):
            data = self.bytes_of(file, LARGEST_CONSENT)
            if data is None:
                continue
            name = self.name(file)
            text = self.text_of(data, name)
            if text is None:
                continue
            lines = text.splitlines(keepends=True)
            end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
            if not lines or lines[0].rstrip() != "---" or end is None:
                self.add(
                    name,
                    1,
                    1,
                    "A consent document begins with version, language, title and valid_from between two lines of ---.",
                )
                continue
            tree = self.tree_of("".join(["\n", *lines[1:end]]), name)
            if tree is None:
                continue
            body = "".join(lines[end + 1 :]).strip()
            if not body:
                self.add(name, end + 1, 1, "The consent document has no text. Write it below the second line of ---.")
            if isinstance(tree.value, dict):
                given = [key for key in ("text", "sha256") if key in tree.value]
                for key in given:
                    self.add_at(tree.key_place((key,)), f"`{key}` is taken from the file itself. Take it out.")
                tree.value |= {"text": body, "sha256": hashlib.sha256(data).hexdigest()}
            document = self.valid(ConsentDocument, tree)
            if document is not None:
                self.trees[("consent_documents", len(documents))] = tree
                documents.append(document)
        return documents

    def dictionaries(self, study_file: StudyFile) -> tuple[Dictionary, ...]:
        """The dictionaries that study.yaml names, with the terms of their files."""
        files = {file.stem: file for pattern in ("*.csv", "*.yaml") for file in self.files("dictionaries", pattern)}
        for code in sorted(files.keys() - {each.code for each in study_file.dictionaries}):
            words = f"study.yaml names no dictionary {code}. Add it under `dictionaries:`, with its label and version."
            self.add(self.name(files[code]), 1, 1, words)
        return tuple(
            each.model_copy(update={"terms": (*each.terms, *self.terms(files[each.code]))})
            if each.code in files
            else each
            for each in study_file.dictionaries
        )

    def terms(self, file: FilePath) -> list[Term]:
        """The terms of a file: rows of a CSV with the heading code,label,parent, or the list `terms:` of a YAML."""
        name = self.name(file)
        if file.suffix == ".csv":
            data = self.bytes_of(file, LARGEST_FILE)
            text = self.text_of(data, name) if data is not None else None
            terms, findings = read_terms(text or "", name) if text is not None else ([], [])
            self.findings += findings
            return terms
        tree = self.yaml_of(file)
        if tree is None:
            return []
        found = self.valid(_Terms, tree)
        return list(found.terms) if found is not None else []

    def files(self, folder: str, pattern: str) -> list[FilePath]:
        files = sorted((self.path / folder).glob(pattern))
        if len(files) > MOST_FILES:
            self.add(folder, 0, 0, f"There are {len(files)} files here; at most {MOST_FILES} are read.")
        return files[:MOST_FILES]

    def name(self, file: FilePath) -> str:
        return file.relative_to(self.path).as_posix()

    def bytes_of(self, file: FilePath, most: int) -> bytes | None:
        name = self.name(file)
        try:
            if not file.resolve().is_relative_to(self.path.resolve()):
                self.add(name, 0, 0, "This is a link to a file outside the study folder. Put the file itself here.")
                return None
            if not file.is_file():
                self.add(name, 0, 0, "This is not a file.")
                return None
            with file.open("rb") as stream:
                data = stream.read(most + 1)
        except OSError as error:
            self.add(name, 0, 0, f"The file cannot be read: {error.strerror or 'input/output error'}.")
            return None
        if len(data) > most:
            self.add(name, 0, 0, f"The file is larger than {most // 1000} kB. Split it.")
            return None
        return data

    def text_of(self, data: bytes, name: str) -> str | None:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            self.add(name, line, 1, "The file is not in UTF-8. Save it as UTF-8.")
            return None

    def yaml_of(self, file: FilePath) -> Tree | None:
        data = self.bytes_of(file, LARGEST_FILE)
        text = self.text_of(data, self.name(file)) if data is not None else None
        return self.tree_of(text, self.name(file)) if text is not None else None

    def tree_of(self, text: str, name: str) -> Tree | None:
        tree, findings = read_yaml(text, name)
        self.findings += findings
        return tree

    def valid(self, model: type[_Model], tree: Tree) -> _Model | None:
        try:
            return model.model_validate(tree.value)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                path, message = tuple(detail["loc"]), _said(dict(detail), model)
                at_key = detail["type"] == "extra_forbidden"
                self.add_at(tree.key_place(path) if at_key else tree.place(path), message)
            return None


class _Terms(BaseModel):
    """A YAML file of terms."""

    model_config = {"extra": "forbid"}

    terms: tuple[Term, ...]


def read_terms(text: str, file: str) -> tuple[list[Term], list[Finding]]:
    """The terms of a CSV file with the heading code,label and, if there is any, parent; and what is wrong with it."""
    rows = csv.reader(io.StringIO(text))
    try:
        heading = [cell.strip().casefold() for cell in next(rows, [])]
    except csv.Error:
        heading = []
    if sorted(heading) not in (["code", "label"], ["code", "label", "parent"]):
        return [], [
            Finding(file, 1, 1, "The first line of a dictionary is: code,label,parent (parent may be left out).")
        ]
    terms, findings = [], []
    while True:
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            words = f"The table cannot be read here ({error}). Check the quotes above this line."
            findings.append(Finding(file, rows.line_num, 1, words))
            break
        if not any(cell.strip() for cell in row):
            continue
        said = {name: cell.strip() or None for name, cell in zip(heading, row, strict=False)}
        try:
            if len(row) > len(heading):
                raise ValueError
            terms.append(Term.model_validate(said))
        except ValueError:
            words = "This is no term. Write its code (letters, digits, _ . -, at most 40), its label, and its parent."
            findings.append(Finding(file, rows.line_num, 1, words))
    return terms, findings


def read_yaml(text: str, file: str) -> tuple[Tree | None, list[Finding]]:
    """The data of one YAML text with its places; None when it is no YAML or holds what is not allowed."""
    builder = _Builder(file)
    try:
        builder.build(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        said = ": ".join(part for part in (error.context, error.problem) if part)
        builder.add(Place(file, line, column), f"This is not YAML ({said}). Check indentation, colons and quotes.")
    except yaml.YAMLError as error:
        builder.add(Place(file, 1, 1), f"This is not YAML ({' '.join(str(error).split())}).")
    except _TooMuch as error:
        builder.add(error.place, str(error))
    broken = any(finding.is_error for finding in builder.findings)
    return (None if broken and not builder.usable else builder.tree), builder.findings


class _TooMuch(Exception):
    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


@dataclass
class _Open:
    """A list or a mapping whose end has not come yet."""

    path: Path
    value: list[Any] | dict[str, Any]
    anchor: str | None
    key: str | None = None
    key_place: Place | None = None
    repeated: bool = False


class _Builder:
    """Builds data from YAML events, one by one, so that neither depth nor size can hurt."""

    def __init__(self, file: str) -> None:
        self.tree = Tree(file)
        self.findings: list[Finding] = []
        self.usable = False
        self.open: list[_Open] = []
        self.anchors: dict[str, Any] = {}
        self.values = 0

    def add(self, place: Place, message: str) -> None:
        self.findings.append(Finding(place.file, place.line, place.column, message))

    def build(self, events: Iterable[Any]) -> None:
        documents = 0
        for event in events:
            place = Place(self.tree.file, event.start_mark.line + 1, event.start_mark.column + 1)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _TooMuch(place, "Only one document per file: take the line --- out.")
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self.begin(event, place)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self.end()
            elif isinstance(event, yaml.ScalarEvent):
                self.scalar(event, place)
            elif isinstance(event, yaml.AliasEvent):
                self.alias(event, place)
        if documents == 0:
            self.add(Place(self.tree.file, 1, 1), "The file is empty.")
            return
        self.usable = True

    def begin(self, event: Any, place: Place) -> None:
        self.refuse_tag(event, place)
        if len(self.open) >= DEEPEST:
            raise _TooMuch(place, f"Lists and keys are nested more than {DEEPEST} deep.")
        if self.open and isinstance(self.open[-1].value, dict) and self.open[-1].key is None:
            raise _TooMuch(place, "A key is one word, not a list and not a group of keys. Check brackets and braces.")
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        path = self.put(value, place)
        self.open.append(_Open(path, value, event.anchor))

    def end(self) -> None:
        closed = self.open.pop()
        if closed.anchor:
            self.anchors[closed.anchor] = closed.value

    def scalar(self, event: Any, place: Place) -> None:
        self.refuse_tag(event, place)
        around = self.open[-1] if self.open else None
        if around is not None and isinstance(around.value, dict) and around.key is None:
            self.begin_key(around, event.value, place)
            return
        value = None if event.implicit[0] and event.style is None and event.value in _NULLS else event.value
        if event.anchor:
            self.anchors[event.anchor] = value
        self.put(value, place)

    def begin_key(self, around: _Open, key: str, place: Place) -> None:
        assert isinstance(around.value, dict)
        path = (*around.path, key)
        if key in around.value:
            first = self.tree.keys[path]
            self.add(place, f"`{key}` stands here twice; the first is in line {first.line}. Take one of them out.")
            around.repeated = True
        around.key, around.key_place = key, place

    def alias(self, event: Any, place: Place) -> None:
        if event.anchor not in self.anchors:
            raise _TooMuch(place, f"There is nothing named &{event.anchor} above this line.")
        around = self.open[-1] if self.open else None
        value = self.anchors[event.anchor]
        if around is not None and isinstance(around.value, dict) and around.key is None:
            if not isinstance(value, str):
                raise _TooMuch(place, "A key is one word, not a list and not a group of keys.")
            self.begin_key(around, value, place)
            return
        path = self.put(value, place)
        self.repeat(path, value, place)

    def repeat(self, path: Path, value: Any, place: Place) -> None:
        """What an alias stands for has its place where the alias stands."""
        for inner in _inner(value):
            self.count(place)
            self.tree.places[(*path, *inner)] = place
            if len(inner) + len(self.open) > DEEPEST:
                raise _TooMuch(place, f"Lists and keys are nested more than {DEEPEST} deep.")

    def put(self, value: Any, place: Place) -> Path:
        """Put a value where it belongs and remember its place; the path to it."""
        self.count(place)
        if not self.open:
            self.tree.value = value
            self.tree.places[()] = place
            return ()
        around = self.open[-1]
        if isinstance(around.value, list):
            path: Path = (*around.path, len(around.value))
            around.value.append(value)
            self.tree.places[path] = place
            return path
        assert around.key is not None
        assert around.key_place is not None
        path = (*around.path, around.key)
        if around.repeated:
            # The first stays; the second is built beside it, so that it can be read to its end, and forgotten.
            path = (*around.path, f"{around.key} (again)")
        else:
            around.value[around.key] = value
            self.tree.keys[path] = around.key_place
            self.tree.places[path] = place
        around.key, around.repeated = None, False
        return path

    def count(self, place: Place) -> None:
        self.values += 1
        if self.values > MOST_VALUES:
            raise _TooMuch(place, f"The file holds more than {MOST_VALUES} values.")

    def refuse_tag(self, event: Any, place: Place) -> None:
        if event.tag is not None and event.tag != "!":
            self.add(place, f"Tags such as {event.tag} are not allowed. Take it out.")


def _inner(value: Any) -> Iterator[Path]:
    """The path of every part inside a value, without recursion."""
    waiting: list[tuple[Path, Any]] = [((), value)]
    while waiting:
        path, part = waiting.pop()
        entries: Iterable[tuple[str | int, Any]] = ()
        if isinstance(part, dict):
            entries = part.items()
        elif isinstance(part, list):
            entries = enumerate(part)
        for key, inner in entries:
            yield (*path, key)
            waiting.append(((*path, key), inner))


def _said(detail: dict[str, Any], model: type[BaseModel]) -> str:
    """A validation error in plain words that say what to do."""
    kind, given, context = detail["type"], detail.get("input"), detail.get("ctx", {})
    key = next((str(part) for part in reversed(detail["loc"]) if isinstance(part, str)), "")
    name = f"`{key}`" if key else "This"
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return f"{name} is missing. Add `{key}:` here."
    if kind == "extra_forbidden":
        known = _keys_at(model, detail["loc"][:-1])
        close = get_close_matches(key, known, n=1)
        instead = f"Did you mean `{close[0]}`?" if close else f"Possible here: {', '.join(known)}."
        return f"{name} is not a key here. {instead}"
    if given is None:
        return f"{name} is empty. Give it a value, or take the key out to leave it unset."
    shown = f"“{given}”" if isinstance(given, str) else "a list" if isinstance(given, list) else "a group of keys"
    if kind in ("enum", "literal_error"):
        choices = str(context.get("expected", "")).replace("'", "")
        return f"{name} cannot be {shown}. Possible: {choices}."
    if kind == "string_pattern_mismatch":
        return f"{name} cannot be {shown}. {_pattern(str(context.get('pattern', '')))}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{name} is a group of keys (`key: value`), not {shown}."
    if kind in ("tuple_type", "list_type"):
        return f"{name} is a list: begin each entry with a dash. It cannot be {shown}."
    if kind == "string_type":
        return f"{name} is a text, not {shown}."
    if kind == "string_too_short":
        return f"{name} is empty. Give it a text."
    if kind == "string_too_long":
        return f"{name} is longer than {context.get('max_length')} characters. Shorten it."
    if kind == "too_short":
        return f"{name} needs at least {context.get('min_length')} entry. Add one."
    if kind == "greater_than_equal":
        return f"{name} is {given}, but must be at least {context.get('ge')}."
    if kind == "less_than_equal":
        return f"{name} is {given}, but must be at most {context.get('le')}."
    if kind.startswith("int_"):
        return f"{name} must be a whole number, not {shown}."
    if kind.startswith(("decimal_", "finite_", "float_")):
        return f"{name} must be a number, not {shown}."
    if kind.startswith("bool_"):
        return f"{name} must be true or false, not {shown}."
    if kind.startswith("date_"):
        return f"{name} must be a date such as 2026-03-02, not {shown}."
    return f"{name}: {detail['msg']}."


def _pattern(pattern: str) -> str:
    if pattern.startswith("^[a-z][a-z0-9_]"):
        return "Use small letters, digits and _, beginning with a letter, at most 40."
    if pattern.startswith("^[A-Za-z0-9][A-Za-z0-9_.-]"):
        return "Use letters, digits, _ . and -, beginning with a letter or digit, at most 40."
    if pattern.startswith("^[a-z]{2}"):
        return "Write a language such as en or en-GB."
    if pattern.startswith("^([01][0-9]"):
        return "Write a time of day such as 09:00."
    if pattern.startswith("^[A-Z]{0,4}"):
        return "Use at most four capital letters, and a - at the end if you like."
    return f"It must match {pattern}."


def _keys_at(model: type[BaseModel], path: Iterable[Any]) -> list[str]:
    """The keys that may stand at a path of a model."""
    current: type[BaseModel] = model
    for part in path:
        if not isinstance(part, str) or part not in current.model_fields:
            continue
        current = _model_in(current.model_fields[part].annotation) or current
    hidden = {"text", "sha256"} if current is ConsentDocument else set()
    return [name for name in current.model_fields if name not in hidden]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in getattr(annotation, "__args__", ()) if (found := _model_in(part))), None)
