"""What does an XLSForm say? Questions, groups and repeats of its sheets survey, choices and settings.

Read as what a REDCap project would say of the same form, so that types, names, logic and the report are those of one
place. Names and meanings follow xlsform.org: XPath is said in our language where it has the words, else reported.
"""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence

from app.studies.importing import items, redcap_dictionary
from app.studies.importing.codes import plain, short
from app.studies.importing.draft import Draft
from app.studies.importing.redcap import Event, Project, Row, Words
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
_TEXTS_HERE = {
    "geopoint": ("It notes where one is", "Take it out, unless the protocol needs it: where somebody lives says who."),
    "geotrace": ("It notes where one goes", "Take it out, unless the protocol needs it: where somebody goes says who."),
    "geoshape": ("It notes an area", "Take it out, unless the protocol needs it."),
    "barcode": ("It reads a barcode", "Nothing, unless it has to be read by a camera."),
    "rank": ("It asks for an order of choices", "Write a question for each place in the order, with a check."),
}
"""Types that are a text here: what they are, and what to do."""
_MADE_BY_THE_DEVICE = frozenset(
    {"start", "end", "today", "deviceid", "phonenumber", "username", "email", "audit", "subscriberid", "simserial",
     "start-geopoint", "background-audio", "hidden", "csv-external", "xml-external"}
)  # fmt: skip
_SELECT = {"select_one": "radio", "select_multiple": "checkbox", "select one": "radio", "select multiple": "checkbox"}
_NEXT = {"begin": 1, "end": -1}
_YES = frozenset({"yes", "true", "true()", "1"})
_WORDS = ("label", "hint", "constraint_message")
_KNOWN = frozenset(
    {"type", "name", "required", "relevant", "constraint", "calculation", "appearance", "read_only", "readonly",
     "parameters", "repeat_count", "disabled"}
)  # fmt: skip
_KNOWN_OF_CHOICES = frozenset({"list_name", "list name", "name", "value"})
_KNOWN_SETTINGS = frozenset({"form_title", "form_id", "version", "default_language"})
_SHEETS = frozenset({"survey", "choices", "settings"})
_TO_DO = {"default": "Nothing: an answer nobody gave is none.", "choice_filter": "Ask two questions, each shown if."}
_HEADING = re.compile(r"([^:]+?)\s*::?\s*(.+)").fullmatch
_CODE = re.compile(r".*\(([a-z]{2})(?:[-_]([a-z]{2}))?\)\s*|([a-z]{2})(?:[-_]([a-z]{2}))?").fullmatch
_NAMES = {
    "english": "en", "deutsch": "de", "german": "de", "español": "es", "espanol": "es", "spanish": "es",
    "français": "fr", "francais": "fr", "french": "fr", "português": "pt", "portuguese": "pt", "italiano": "it",
    "italian": "it", "nederlands": "nl", "dutch": "nl",
}  # fmt: skip
_token = re.compile(
    r"""(?P<text>'[^']*'|"[^"]*")|(?P<name>\$\{[^{}]*\})|(?P<call>[A-Za-z][A-Za-z0-9:-]*)\s*\(|(?P<number>[0-9]+(?:\.[0-9]+)?)"""
    r"""|(?P<word>[A-Za-z][A-Za-z0-9_:-]*)|(?P<above>\.\.)|(?P<self>\.(?![0-9.]))|(?P<space>\s+)|(?P<rest>.)""",
    re.DOTALL,
)
_selected = re.compile(r"selected\s*\(\s*(\$\{[^{}]*\}|\.)\s*,\s*('[^']*'|\"[^\"]*\")\s*\)")
_CALLS = {
    "count-selected": "selected_count", "int": "rounddown", "string-length": "length", "starts-with": "starts_with",
    "ends-with": "ends_with", "floor": "rounddown", "ceiling": "roundup", "exp": "exponential",
    "normalize-space": "trim",
}  # fmt: skip
_REWRITTEN = {
    ("pow", 2): "(({0})^({1}))",
    ("coalesce", 2): "if({0} <> '', {0}, {1})",
    ("number", 1): "({0})",
    ("string", 1): "({0})",
    ("date", 1): "{0}",
    ("log10", 1): "log({0}, 10)",
    ("substr", 3): "mid({0}, ({1}) + 1, ({2}) - ({1}))",
    ("today", 0): "'today'",
    ("now", 0): "'now'",
    ("true", 0): "true",
    ("false", 0): "false",
}
_OPERATORS = {"and": "and", "or": "or", "div": "/", "mod": "mod"}
DEEPEST = 60  # brackets within brackets; deeper ones are left as they are, and reported


def read(data: bytes, name: str, events: Sequence[Event] = ()) -> Draft:
    """The draft of a form, or of a REDCap data dictionary that was saved as a spreadsheet; `Failed` when it is none."""
    sheets = sheets_of(data)
    if "survey" not in sheets:
        if (rows := next(filter(_is_dictionary, sheets.values()), None)) is not None:
            text = io.StringIO()
            csv.writer(text).writerows(rows)
            return redcap_dictionary.read(text.getvalue(), name, events)
        raise Failed(NO_FORM)
    settings = next(iter(_table(sheets.get("settings", []))[1]), ({}, ""))[0]
    project = Project(f"the XLSForm {name}", title=settings.get("form_title", ""), has_record_id=False)
    reading = _Reading(project, sheets, settings)
    reading.run()
    if not project.rows:
        raise Failed("The sheet “survey” has no question. Fill it in, or choose another file.")
    draft = read_project(project)
    draft.language = reading.language or draft.language
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


def _is_dictionary(rows: Sequence[Sequence[str]]) -> bool:
    return redcap_dictionary.is_first_line(next((row for row in rows if any(row)), []))


def _language_of(name: str) -> str | None:
    """The code of a language as it stands behind a heading: `Deutsch (de)`, `de`, `German`."""
    found = _CODE(name)
    if found is None:
        return _NAMES.get(name)
    country = found[2] or found[4]
    return f"{found[1] or found[3]}{f'-{country.upper()}' if country else ''}"


class _Reading:
    """One reading of the sheets of a form."""

    def __init__(self, project: Project, sheets: dict[str, list[list[str]]], settings: dict[str, str]) -> None:
        self.project, self.notes = project, project.notes
        headings, self.survey = _table(sheets["survey"])
        default = settings.get("default_language", "").lower()
        self.label = self._worded("label", default, headings)
        own = _HEADING(self.label)
        self.language = _language_of(own[2] if own else default)
        self.columns = {base: self._worded(base, own[2] if own else default, headings) for base in _WORDS}
        self.label, self.hint, self.message = (self.columns[base] for base in _WORDS)
        self.others = self._in_other_languages(headings, "survey", self.columns.values())
        self.choices, self.choice_words = self._choices(
            "choices" if "choices" in sheets else "external_choices", sheets, own[2] if own else default
        )
        self.form = settings.get("form_id", "") or "form"
        self.kinds = {cells.get("name", ""): _kind(cells) for cells, _ in self.survey}
        self.not_known = [
            heading
            for heading in dict.fromkeys(headings)
            if heading and heading not in _KNOWN and heading.partition(":")[0].strip() not in _WORDS
        ]
        for name, value in settings.items():
            if value and name not in _KNOWN_SETTINGS:
                self.notes.append(("settings", f"{name}: {short(value, 200)}.", "Nothing, unless the study needs it."))
        read = _SHEETS if "choices" in sheets else _SHEETS | {"external_choices"}
        for name, rows in sheets.items():
            if name not in read and any(any(row) for row in rows):
                self.notes.append(
                    (f"Sheet {short(name, 60)}", "A sheet of its own.", "Nothing, unless the form needs it.")
                )

    def _worded(self, base: str, language: str, headings: Sequence[str]) -> str:
        """The column of words in the language the form begins with; of labels the first where nothing says which."""
        found = [one for one in headings if one.partition(":")[0].strip() == base]
        own = [one for one in found if one == base or (language and _HEADING(one) and language in one)]
        return (own or (found if base == "label" else []) or [base])[0]

    def _in_other_languages(
        self, headings: Sequence[str], sheet: str, own: Collection[str]
    ) -> dict[str, tuple[str, str]]:
        """The columns of words in other languages, which are not its `own`: which words, and the language.

        Of no known language they are told.
        """
        found: dict[str, tuple[str, str]] = {}
        for heading in dict.fromkeys(headings):
            parts = _HEADING(heading)
            base = parts[1] if parts else heading
            if base not in _WORDS or heading in own:
                continue
            language = _language_of(parts[2]) if parts else None
            if language is None or language == self.language or (base, language) in found.values():
                to_do = "Write the words in that language as instruments/CODE.LANGUAGE.yaml."
                self.notes.append((sheet, f"The words of “{short(heading, 60)}”.", to_do))
            else:
                found[heading] = (base, language)
        return found

    def _choices(
        self, sheet: str, sheets: dict[str, list[list[str]]], default: str
    ) -> tuple[dict[str, list[tuple[str, str]]], dict[str, dict[str, dict[str, str]]]]:
        """The choices of each list, and by list and language what they are called in it."""
        headings, lines = _table(sheets.get(sheet, []))
        label = self._worded("label", default, headings)
        others = self._in_other_languages(headings, sheet, {label, self.hint, self.message})
        found: dict[str, list[tuple[str, str]]] = {}
        words: dict[str, dict[str, dict[str, str]]] = {}
        for cells, where in lines:
            of = cells.get("list_name") or cells.get("list name", "")
            code = cells.get("name") or cells.get("value", "")
            if not (of and code):
                self.notes.append((f"{sheet}, {where}", "A choice without a list or a name.", "Fill it in."))
                continue
            found.setdefault(of, []).append((code, cells.get(label, "") or code))
            for heading, (_, language) in others.items():
                if cells.get(heading):
                    words.setdefault(of, {}).setdefault(language, {}).setdefault(code, cells[heading])
            for heading, cell in cells.items():
                if cell and heading != label and heading not in others and heading not in _KNOWN_OF_CHOICES:
                    what = f"{short(heading, 60)}: {short(cell, 200)}."
                    self.notes.append((f"{sheet}, {where}, {code}", what, "Nothing, unless the form needs it."))
        return found, words

    def run(self) -> None:
        """Each row of the survey as a row of a data dictionary."""
        groups: list[tuple[str, str, str, bool]] = []  # kind, name, condition, whether it is a table
        heading, left_out = "", 0  # how many groups that are left out one is in
        for cells, line in self.survey:
            where = f"{line}, {cells.get('name') or cells.get('type', '')}"
            kind = _kind(cells)
            turn, _, what = kind.replace("_", " ", 1).partition(" ")
            is_group = turn in _NEXT and what in ("group", "repeat")
            if left_out or (cells.get("disabled", "").lower() in _YES and not (is_group and _NEXT[turn] < 0)):
                left_out += _NEXT[turn] if is_group else 0
                self.notes.append((where, "It is disabled.", "Nothing."))
                continue
            if is_group and _NEXT[turn] < 0:
                if not groups:
                    raise Failed(f"{line} of the sheet “survey” ends what was never begun. Mend it first.")
                groups.pop()
                heading = ""
                continue
            self._columns_not_known(cells, where)
            if is_group:
                is_table = "table-list" in cells.get("appearance", "")
                groups.append((what, cells.get("name", ""), cells.get("relevant", ""), is_table))
                heading = plain(cells.get(self.label, ""))
                self._words_alone(cells, where)
                if cells.get("appearance") and not is_table:
                    said = f"The appearance {short(cells['appearance'], 60)} of a {what}."
                    self.notes.append((where, said, "Nothing, unless the look matters."))
                if what == "repeat":
                    self._repeat(cells, where, nested=sum(each[0] == "repeat" for each in groups) > 1)
                continue
            made = self._row(cells, kind, where)
            if made is None:
                continue
            repeats = [name for each, name, *_ in groups if each == "repeat"]
            made.form = repeats[0] if repeats else self.form
            made.section, heading = heading, ""
            made.matrix = groups[-1][1] if groups and groups[-1][3] and made.type == "radio" else ""
            conditions = [text for _, _, text, _ in groups if text] + (
                [cells["relevant"]] if cells.get("relevant") else []
            )
            said_of_it = [self._said(text, made.name) for text in conditions]
            made.branching = said_of_it[0] if len(said_of_it) == 1 else " and ".join(f"({text})" for text in said_of_it)
            self.project.rows.append(made)
        if groups:
            raise Failed(f"The {groups[-1][0]} “{groups[-1][1][:60]}” is never ended in the sheet “survey”.")

    def _columns_not_known(self, cells: dict[str, str], where: str) -> None:
        """What stands in columns that mean nothing here, cell by cell."""
        for heading in self.not_known:
            if cells.get(heading):
                to_do = _TO_DO.get(heading, "Nothing, unless the form needs it.")
                self.notes.append((where, f"{short(heading, 60)}: {short(cells[heading], 200)}.", to_do))
        if cells.get("read_only", cells.get("readonly", "")).lower() in _YES:
            self.notes.append((where, "Nobody can type it (read_only).", "Calculate it, or take it out."))

    def _words_alone(self, cells: dict[str, str], where: str) -> None:
        """Headings and notes in other languages: where they come to stand is not known yet."""
        for heading, (base, language) in self.others.items():
            if base == "label" and cells.get(heading):
                said = f"In {language}: “{short(plain(cells[heading]), 300)}”."
                to_do = f"Write it under *Other languages* of its form, or into instruments/CODE.{language}.yaml."
                self.notes.append((where, said, to_do))

    def _words(self, cells: dict[str, str], choices: str) -> dict[str, Words]:
        """A question in other languages."""
        found: dict[str, Words] = {}
        for heading, (base, language) in self.others.items():
            if cells.get(heading):
                setattr(found.setdefault(language, Words()), base, cells[heading])
        for language, said in self.choice_words.get(choices, {}).items():
            found.setdefault(language, Words()).choices = said
        return found

    def _repeat(self, cells: dict[str, str], where: str, *, nested: bool) -> None:
        name = cells.get("name", "")
        if nested:
            instead = "Its questions stand once in the form around it."
            self.project.changes.append((where, "A repeat within a repeat.", instead, "Make it a form of its own."))
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
        listed, of = _listed(kind), ""
        if listed is not None:
            of, _, other = kind.removeprefix(listed).strip().partition(" ")
            row.type, row.options = _SELECT[listed], list(self.choices.get(of, []))
            if other in ("or_other", "or other"):
                self.notes.append((where, "Another answer may be typed (or_other).", "Add a choice and a text for it."))
        elif type_ in _TYPES:
            row.type, row.validation = _TYPES[type_]
        elif type_ in _TEXTS_HERE:
            what, to_do = _TEXTS_HERE[type_]
            row.type = "text"
            self.project.changes.append((where, f"{what} ({kind}).", "It is a text.", to_do))
        else:
            row.type = type_ or "text"
            if rest:
                self.notes.append((where, f"“{short(rest, 80)}” behind the type.", "Write the choices."))
        self._parameters(cells, row)
        if row.type == "descriptive":
            self._words_alone(cells, where)
        else:
            row.words = self._words(cells, of)
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

    def _parameters(self, cells: dict[str, str], row: Row) -> None:
        """From where to where a range goes, and in which steps; other parameters are told."""
        given = dict(re.findall(r"\b([\w-]+)\s*=\s*([^\s;,]+)", cells.get("parameters", "")))
        if row.type == "slider":
            row.low, row.high = given.pop("start", "0"), given.pop("end", "10")
            step = given.pop("step", "1")
            if not all(re.fullmatch(r"-?[0-9]+(?:\.0*)?", each) for each in (row.low, row.high, step)):
                row.type, row.validation, row.annotation = "text", "number", "@FORCE-MINMAX"
                what = f"A range from {row.low} to {row.high} in steps of {step}."
                to_do = "Write `decimals:`, and whole numbers where a line is to be marked."
                self.project.changes.append((row.where, what, "It is a number that is typed.", to_do))
            elif items.number(step) != 1:
                to_do = "Write choices where no number between the steps may be given."
                self.project.changes.append((row.where, f"Steps of {step}.", "Each whole number can be given.", to_do))
        for name, value in given.items():
            to_do = "Nothing, unless the form needs it."
            self.notes.append((row.where, f"The parameter {short(name, 40)}={short(value, 80)}.", to_do))

    def _said(self, text: str, own: str) -> str:
        """An XPath expression in our words, as far as it has them: whatever is left is refused where it is read."""

        def chosen(found: re.Match[str]) -> str:
            name, code = (own if found[1] == "." else found[1][2:-1].strip()), found[2][1:-1]
            several = _SELECT.get(_listed(self.kinds.get(name, "")) or "") == "checkbox"
            return f"${{{name}({code})}} = '1'" if several else f"${{{name}}} = '{code}'"

        tokens = []
        for found in _token.finditer(_selected.sub(chosen, text)):
            kind, word = str(found.lastgroup), found[0]
            if kind == "call" and (operator := _OPERATORS.get(found["call"])):
                tokens += [("word", operator), ("space", " "), ("rest", "(")]
            elif kind == "name":
                tokens.append((kind, f"[{word[2:-1].strip()}]"))
            elif kind == "self":
                tokens.append(("name", f"[{own}]"))
            elif kind == "word":
                tokens.append((kind, _OPERATORS.get(word, word)))
            else:
                tokens.append((kind, found["call"] if kind == "call" else word))
        said = []
        waiting = iter(tokens)
        while True:
            parts, ended = _arguments(waiting, 0)
            said.append(",".join(parts))
            if not ended:
                return "".join(said)
            said.append(")")  # of one that was never opened: what it is in is refused where it is read


def _arguments(tokens: Iterator[tuple[str, str]], depth: int) -> tuple[list[str], bool]:
    """What stands between commas up to the bracket that closes, in our words, and whether it was closed."""
    found: list[str] = []
    pieces: list[tuple[bool, str]] = []  # whether it can be counted with, and how it is said
    for kind, word in tokens:
        if word == ")" and kind == "rest":
            return [*found, _counted(pieces)], True
        if word == "," and kind == "rest":
            found.append(_counted(pieces))
            pieces = []
        elif (kind == "call" or (kind, word) == ("rest", "(")) and depth < DEEPEST:
            within, closed = _arguments(tokens, depth + 1)
            name = word if kind == "call" else ""
            pieces.append((True, _called(name, within) if closed else f"{name}({','.join(within)}"))
        else:
            pieces.append((kind in ("name", "number", "text"), f"{word}(" if kind == "call" else word))
    return [*found, _counted(pieces)], False


def _called(name: str, within: list[str]) -> str:
    """A function of theirs as ours; brackets alone as they are."""
    if not name:
        return f"({','.join(within)})"
    arguments = [each.strip() for each in within if len(within) > 1 or each.strip()]
    if (ours := _REWRITTEN.get((name, len(arguments)))) is not None:
        return ours.format(*arguments)
    return f"{_CALLS.get(name, name)}({', '.join(arguments)})"


def _counted(pieces: list[tuple[bool, str]]) -> str:
    """`a mod b` as `mod(a, b)`, where it binds nothing else: between two values, with no sign of its rank before it."""
    said = list(pieces)
    at = 0
    while at < len(said):
        places = [place for place in range(max(0, at - 4), min(len(said), at + 3)) if said[place][1].strip()]
        if said[at][1] == "mod" and at in places:
            before = [place for place in places if place < at]
            after = [place for place in places if place > at]
            if before and after and said[before[-1]][0] and said[after[0]][0]:
                earlier = said[before[-2]][1] if len(before) > 1 else ""
                if earlier not in ("*", "/", "mod"):
                    one = f"mod({said[before[-1]][1]}, {said[after[0]][1]})"
                    said[before[-1] : after[0] + 1] = [(True, one)]
                    at = before[-1]
        at += 1
    return "".join(word for _, word in said)


def _listed(kind: str) -> str | None:
    """What begins a type that answers from a list; None for others."""
    return next((each for each in _SELECT if kind.startswith(f"{each} ")), None)


def _kind(cells: dict[str, str]) -> str:
    """What a row is, in small letters but for the name of a list."""
    first, _, rest = " ".join(cells.get("type", "").split()).partition(" ")
    return f"{first.lower()} {rest}".strip() if first.lower() not in _NEXT else f"{first} {rest}".lower().strip()
