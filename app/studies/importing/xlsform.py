"""What does an XLSForm say? Questions, groups and repeats of its sheets survey, choices and settings.

Read as what a REDCap project would say of the same form, so that types, names, logic and the report are those of one
place. Names and meanings follow xlsform.org: XPath is said in our language where it has the words, else reported.
"""

import re
from collections.abc import Sequence

from app.studies.importing.codes import plain, short
from app.studies.importing.draft import Draft
from app.studies.importing.redcap import Project, Row
from app.studies.importing.redcap import read as read_project
from app.studies.importing.report import Failed
from app.studies.importing.spreadsheet import sheets_of

NO_FORM = (
    "This spreadsheet (XLSX) has no sheet “survey”, so it is no XLSForm. Save the sheet as CSV in UTF-8 if it is a "
    "REDCap data dictionary."
)

# Type there -> field type and validation, as a data dictionary says them.
_TYPES = {
    "text": ("text", ""),
    "string": ("text", ""),
    "integer": ("text", "integer"),
    "int": ("text", "integer"),
    "decimal": ("text", "number"),
    "date": ("text", "date_ymd"),
    "datetime": ("text", "datetime_ymd"),
    "time": ("text", "time"),
    "acknowledge": ("yesno", ""),
    "trigger": ("yesno", ""),
    "calculate": ("calc", ""),
    "note": ("descriptive", ""),
    "range": ("slider", ""),
    "image": ("file", ""),
    "photo": ("file", ""),
    "audio": ("file", ""),
    "video": ("file", ""),
    "file": ("file", ""),
}
_MADE_BY_THE_DEVICE = frozenset(
    {"start", "end", "today", "deviceid", "phonenumber", "username", "email", "audit", "subscriberid", "simserial",
     "start-geopoint", "background-audio", "hidden", "csv-external", "xml-external"}
)  # fmt: skip
_SELECT = {"select_one": "radio", "select_multiple": "checkbox", "select one": "radio", "select multiple": "checkbox"}
_NEXT = {"begin": 1, "end": -1}
_YES = frozenset({"yes", "true", "true()", "1"})
_KNOWN = frozenset(
    {"type", "name", "label", "hint", "required", "relevant", "constraint", "constraint_message", "calculation",
     "appearance", "read_only", "readonly", "parameters"}
)  # fmt: skip
_HEADING = re.compile(r"(.+?)\s*::?\s*(.+)").fullmatch
_token = re.compile(
    r"""(?P<text>'[^']*'|"[^"]*")|(?P<name>\$\{[^{}]*\})|(?P<call>[A-Za-z][A-Za-z0-9:-]*)\s*\(|(?P<number>[0-9]+(?:\.[0-9]+)?)"""
    r"""|(?P<word>[A-Za-z][A-Za-z0-9_:-]*)|(?P<self>\.(?![0-9.]))|(?P<rest>.)""",
    re.DOTALL,
)
_selected = re.compile(r"selected\s*\(\s*(\$\{[^{}]*\}|\.)\s*,\s*('[^']*'|\"[^\"]*\")\s*\)")
_CALLS = {"count-selected": "selected_count", "int": "rounddown", "string-length": "length", "div": "/"}
_OPERATORS = frozenset({"and", "or", "div", "mod"})


def read(data: bytes, name: str) -> Draft:
    """The draft of a form; `Failed` when it is none."""
    sheets = sheets_of(data)
    if "survey" not in sheets:
        raise Failed(NO_FORM)
    settings = next(iter(_table(sheets.get("settings", []))[1]), ({}, ""))[0]
    project = Project(f"the XLSForm {name}", title=settings.get("form_title", ""), has_record_id=False)
    _Reading(project, sheets, settings).run()
    if not project.rows:
        raise Failed("The sheet “survey” has no question. Fill it in, or choose another file.")
    draft = read_project(project)
    draft.version = re.sub(r"[^A-Za-z0-9._-]", "_", settings.get("version", ""))[:40] or "1"
    return draft


def _table(rows: Sequence[Sequence[str]]) -> tuple[list[str], list[tuple[dict[str, str], str]]]:
    """The headings of a sheet, and its rows by heading, each with where it stands."""
    at = next((place for place, row in enumerate(rows) if any(cell.strip() for cell in row)), None)
    if at is None:
        return [], []
    headings = [" ".join(cell.strip().lower().split()) for cell in rows[at]]
    lines = []
    for number, row in enumerate(rows[at + 1 :], start=at + 2):
        cells = {heading: cell.strip() for heading, cell in zip(headings, row, strict=False) if heading}
        if any(cells.values()):
            lines.append((cells, f"Row {number}"))
    return headings, lines


class _Reading:
    """One reading of the sheets of a form."""

    def __init__(self, project: Project, sheets: dict[str, list[list[str]]], settings: dict[str, str]) -> None:
        self.project, self.notes = project, project.notes
        self.headings, self.survey = _table(sheets["survey"])
        language = settings.get("default_language", "").lower()
        self.label, self.hint = self._worded("label", language), self._worded("hint", language)
        self.message = self._worded("constraint_message", language)
        self.choices = self._choices(sheets.get("choices", sheets.get("external_choices", [])), language)
        self.form = settings.get("form_id", "") or "form"
        self.kinds = {cells.get("name", ""): _kind(cells) for cells, _ in self.survey}
        for heading in dict.fromkeys(self.headings):
            base = heading.partition("::")[0].strip()
            if not heading or heading in (self.label, self.hint, self.message):
                continue
            where, what = "survey", f"“{short(heading, 60)}”"
            if base in ("label", "hint", "constraint_message"):
                to_do = "Write the words in that language as instruments/CODE.LANGUAGE.yaml."
                self.notes.append((where, f"The words of {what}.", to_do))
            elif base not in _KNOWN:
                self.notes.append((where, f"The column {what}.", "Nothing, unless the form needs it."))

    def _worded(self, base: str, language: str, headings: Sequence[str] | None = None) -> str:
        """The column of words in the language the form begins with."""
        found = [one for one in (self.headings if headings is None else headings) if one.partition(":")[0] == base]
        own = [one for one in found if one == base or (language and _HEADING(one) and language in one)]
        return (own or found or [base])[0]

    def _choices(self, rows: list[list[str]], language: str) -> dict[str, list[tuple[str, str]]]:
        headings, lines = _table(rows)
        label = self._worded("label", language, headings)
        found: dict[str, list[tuple[str, str]]] = {}
        for cells, _ in lines:
            of = cells.get("list_name") or cells.get("list name", "")
            code = cells.get("name") or cells.get("value", "")
            if of and code:
                found.setdefault(of, []).append((code, cells.get(label, "") or code))
        return found

    def run(self) -> None:
        """Each row of the survey as a row of a data dictionary."""
        groups: list[tuple[str, str, str]] = []  # kind, name, condition
        heading = ""
        for cells, line in self.survey:
            where = f"{line}, {cells.get('name') or cells.get('type', '')}"
            kind = _kind(cells)
            turn, _, what = kind.replace("_", " ", 1).partition(" ")
            if turn in _NEXT and what in ("group", "repeat"):
                if _NEXT[turn] < 0:
                    if not groups:
                        raise Failed(f"{line} of the sheet “survey” ends what was never begun. Mend it first.")
                    groups.pop()
                    heading = ""
                    continue
                groups.append((what, cells.get("name", ""), cells.get("relevant", "")))
                heading = plain(cells.get(self.label, ""))
                if what == "repeat":
                    self._repeat(cells, where, nested=sum(each[0] == "repeat" for each in groups) > 1)
                continue
            made = self._row(cells, kind, where)
            if made is None:
                continue
            repeats = [name for each, name, _ in groups if each == "repeat"]
            made.form = repeats[0] if repeats else self.form
            made.section, heading = heading, ""
            conditions = [text for *_, text in groups if text] + ([cells["relevant"]] if cells.get("relevant") else [])
            said = [self._said(text, made.name) for text in conditions]
            made.branching = said[0] if len(said) == 1 else " and ".join(f"({text})" for text in said)
            self.project.rows.append(made)
        if groups:
            raise Failed(f"The {groups[-1][0]} “{groups[-1][1][:60]}” is never ended in the sheet “survey”.")

    def _repeat(self, cells: dict[str, str], where: str, *, nested: bool) -> None:
        name = cells.get("name", "")
        if nested:
            self.notes.append((where, "A repeat within a repeat.", "Its questions stand once in the form around it."))
            return
        self.project.repeating.append(("", name))
        self.project.form_labels[name] = plain(cells.get(self.label, "")) or name.replace("_", " ").capitalize()
        if cells.get("repeat_count"):
            self.notes.append((where, f"It repeats {cells['repeat_count']} times.", "Write `max_repeats:`."))

    def _row(self, cells: dict[str, str], kind: str, where: str) -> Row | None:
        name, (type_, _, rest) = cells.get("name", ""), kind.partition(" ")
        if kind in _MADE_BY_THE_DEVICE:
            self.notes.append(
                (where, f"What the device notes by itself ({kind}).", "Nothing: the log says who and when.")
            )
            return None
        if not name:
            raise Failed(f"{where.partition(',')[0]} of the sheet “survey” has no name. Fill it in.")
        row = Row(name=name, label=cells.get(self.label, ""), note=cells.get(self.hint, ""), where=where)
        listed = _listed(kind)
        if listed is not None:
            of, _, other = kind.removeprefix(listed).strip().partition(" ")
            row.type, row.options = _SELECT[listed], list(self.choices.get(of, []))
            if other in ("or_other", "or other"):
                self.notes.append((where, "Another answer may be typed (or_other).", "Add a choice and a text for it."))
        elif type_ in _TYPES:
            row.type, row.validation = _TYPES[type_]
        else:
            row.type = type_ or "text"
            if rest:
                self.notes.append((where, f"“{short(rest, 80)}” behind the type.", "Write the choices."))
        if row.type == "slider":
            given = dict(re.findall(r"\b(\w+)\s*=\s*(\S+)", cells.get("parameters", "")))
            row.low, row.high = given.get("start", "0"), given.get("end", "10")
        if row.type == "calc":
            row.choices = self._said(cells.get("calculation", ""), name)
            row.label = row.label or name
        elif cells.get("calculation"):
            words = f"A value that is filled in: {short(cells['calculation'], 120)}."
            self.notes.append((where, words, "Make it a calculated item where nobody types it."))
        row.required = "y" if cells.get("required", "").lower() in _YES else ""
        if cells.get("required") and not row.required and cells["required"].lower() not in ("no", "false", "false()"):
            self.notes.append((where, f"Required if {short(cells['required'], 120)}.", "Write a hard check."))
        if cells.get("constraint"):
            row.rule = self._said(cells["constraint"], name)
            row.rule_message = cells.get(self.message, "")
        if cells.get("appearance"):
            row.appearance = short(cells["appearance"], 60)
        return row

    def _said(self, text: str, own: str) -> str:
        """An XPath expression in our words, as far as it has them: whatever is left is refused where it is read."""

        def chosen(found: re.Match[str]) -> str:
            name, code = (own if found[1] == "." else found[1][2:-1].strip()), found[2][1:-1]
            several = _SELECT.get(_listed(self.kinds.get(name, "")) or "") == "checkbox"
            return f"${{{name}({code})}} = '1'" if several else f"${{{name}}} = '{code}'"

        words = []
        for found in _token.finditer(_selected.sub(chosen, text)):
            kind, word = found.lastgroup, found[0]
            if kind == "name":
                word = f"[{word[2:-1].strip()}]"
            elif kind == "self":
                word = f"[{own}]"
            elif kind == "call":
                between = " " if found["call"] in _OPERATORS else ""
                word = f"{_CALLS.get(found['call'], found['call'])}{between}("
            elif kind == "word":
                word = _CALLS.get(word, word)
            words.append(word)
        said = "".join(words)
        for there, here in (("today()", "'today'"), ("now()", "'now'"), ("true()", "true"), ("false()", "false")):
            said = said.replace(there, here)
        return said


def _listed(kind: str) -> str | None:
    """What begins a type that answers from a list; None for others."""
    return next((each for each in _SELECT if kind.startswith(f"{each} ")), None)


def _kind(cells: dict[str, str]) -> str:
    """What a row is, in small letters but for the name of a list."""
    first, _, rest = " ".join(cells.get("type", "").split()).partition(" ")
    return f"{first.lower()} {rest}".strip() if first.lower() not in _NEXT else f"{first} {rest}".lower().strip()
