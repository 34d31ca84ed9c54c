"""What does one question of a form show? What was typed, and what is wrong with it."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from app.capture.checks import Judgement
from app.capture.typed import MISSING, WHY, Unreadable, date_parts, read_stored, shortened
from app.expressions import ExpressionError, parse
from app.foundation.errors import FieldProblem
from app.foundation.languages import Gettext, day_in, sentence, translations
from app.foundation.partial_dates import days_of, month_names
from app.participants.rules.files import MEDIA_TYPES, NAMES
from app.studies.definition import Instrument, Item, ItemType, MissingCode, Section, cell_name, cell_parts
from app.studies.rules.items import SEALED
from app.wording import said

WIDEST_BESIDE = 6  # points of a scale that fit beside the question
MOST_POINTS = 21  # a scale with more points is typed as a number
MOST_RADIOS = 12  # a choice among more is a list to open
# What stands behind an item's code in the fields of a file and of a signature.
FILE, REMOVE, STROKES, NAME = "__file", "__remove", "__strokes", "__name"

_EXAMPLE = date(2026, 3, 14)

_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")


@dataclass(frozen=True)
class ItemView:
    """One question as `ui.item` draws it. `control` names the drawing, `texts` is what stands in it as typed.

    `options` are (value, words); `asked_if` says in words when the question is asked; `codes` are the reasons why
    there may be no answer; `kept` says what is kept sealed; `findings` are soft checks, answered in the box `why`;
    `saved` is what a colleague saved. `parts` are year, month and day of a date of which less may be known, for a page
    that asks for each; None where it is none, or something else was typed. `months` are (number, name).
    """

    name: str
    control: str
    texts: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    wide: bool = False
    hint: str | None = None
    missing: str = ""
    codes: tuple[tuple[str, str], ...] = ()
    error: str | None = None
    findings: tuple[str, ...] = ()
    explains: bool = False
    why: str = ""
    why_error: str | None = None
    hidden: bool = False
    asked_if: str | None = None
    computed: str = ""
    history_url: str | None = None
    saved: str | None = None
    kept: str = ""
    kept_url: str | None = None
    strokes: str = ""
    typed_name: str = ""
    accepts: str = ""
    parts: tuple[str, str, str] | None = None
    months: tuple[tuple[str, str], ...] = ()

    @property
    def days(self) -> list[str]:
        """The days of a month, as a page offers them."""
        return [f"{day:02}" for day in range(1, 32)]

    @property
    def id(self) -> str:
        """The id of the first control: item codes are the study's words, ids of the page are ours."""
        return f"item-{self.name}"

    @property
    def text(self) -> str:
        return self.texts[-1] if self.texts else ""

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer that can be kept: a refused one still waits for its question."""
        return not self.error and bool(self.missing or any(text.strip() for text in self.texts))


def item_views(
    items: Iterable[Item],
    form: Mapping[str, Sequence[str]],
    *,
    problems: Iterable[FieldProblem] = (),
    judgement: Judgement | None = None,
    missing_codes: Iterable[MissingCode] = (),
    history: Callable[[str], str] | None = None,
    saved: Mapping[str, str] | None = None,
    prefix: str = "",
    files: Mapping[str, str] | None = None,
    stored: Mapping[str, object] | None = None,
    language: str = "en",
) -> dict[str, ItemView]:
    """What each item shows, by its code.

    `form` holds what was typed, or stored values through `capture.typed.typed_form`. `problems` are of the fields CODE
    and CODE__why. `judgement` says what is hidden, which soft checks fire, and the scores. `history` gives the address
    of an item's history; `saved` what stands saved, in words, where it differs. `files` are the addresses of what is
    kept sealed with the entry, as `stored` has it. `prefix` stands before every field
    name, where two parts of a page ask for the same code.
    """
    items = tuple(items)
    errors: dict[str, str] = {}
    for problem in problems:
        errors.setdefault(problem.field, sentence(problem.message, language))
    labels = {item.code: item for item in items}
    labels |= {parts[2]: item for item in items if (parts := cell_parts(item.code)) is not None}
    codes = tuple((missing.code, missing.label) for missing in missing_codes)
    gettext = translations(language).gettext
    views = {}
    for item in items:
        name = prefix + item.code
        texts = _texts(item, form.get(name, ()))
        control = _control(item, texts)
        findings = tuple(
            sentence(finding.message, language)
            for finding in (judgement.soft if judgement else ())
            if finding.item == item.code
        )
        why = " ".join(form.get(name + WHY, ()))
        views[item.code] = ItemView(
            name=name,
            control=control,
            texts=texts,
            options=_options(item, texts, gettext) if control not in ("number", "text") else (),
            wide=_is_wide(item, control),
            hint=_how_to_write(item, gettext, language),
            missing=(list(form.get(name + MISSING, ())) or [""])[-1],
            codes=() if item.type is ItemType.CALCULATED else codes,
            error=errors.get(item.code),
            findings=findings,
            explains=_may_ask_why(item) or bool(findings or why or item.code + WHY in errors),
            why=why,
            why_error=errors.get(item.code + WHY),
            hidden=judgement is not None and item.code in judgement.hidden,
            asked_if=asked_if(item, labels, gettext) if item.shown_if else None,
            computed=said(item, judgement.values.get(item.code), missing_codes, language) if judgement else "",
            history_url=history(item.code) if history else None,
            saved=(saved or {}).get(item.code),
            **(_parts(texts, form.get(name, ()), language) if _is_partial(item) else {}),
            **(_kept(item, form, name, files or {}, stored or {}, language) if item.type in SEALED else {}),
        )
    return views


ROWS = "rows-"  # before the code of a group: the field that says which rows of it are on the page
ADD_ROW, DROP_ROW = "add-row:", "drop-row:"


def rows_shown(instrument: Instrument, form: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Group -> the rows a page shows: those the form says or has answers in, and one to begin with."""
    answered = instrument.rows(name for name, texts in form.items() if any(text.strip() for text in texts))
    shown = {}
    for code, section in instrument.groups.items():
        said = {int(text) for text in form.get(ROWS + code, ()) if text.isdecimal() and len(text) <= 3}
        rows = {row for row in said if 1 <= row <= section.most_rows} | set(answered.get(code, ()))
        shown[code] = sorted(rows) or ([] if ROWS + code in form else [1])
    return shown


def names_of_rows(instrument: Instrument, form: Mapping[str, Sequence[str]]) -> list[str]:
    """A name in each row that a page shows, for `Instrument.asked`."""
    return [
        cell_name(code, row, instrument.groups[code].items[0].code)
        for code, rows in rows_shown(instrument, form).items()
        for row in rows
    ]


def with_other_rows(instrument: Instrument, form: Mapping[str, Sequence[str]], act: str) -> dict[str, list[str]] | None:
    """The form with one more row of a group, or without one, when that is what its button says; else None."""
    typed = {name: list(texts) for name, texts in form.items()}
    verb, _, about = act.partition(":")
    code, _, number = about.partition(":")
    if verb + ":" not in (ADD_ROW, DROP_ROW) or code not in instrument.groups:
        return None
    rows = rows_shown(instrument, form)[code]
    if verb + ":" == ADD_ROW:
        following = max(rows, default=0) + 1
        if following <= instrument.groups[code].most_rows:
            rows = [*rows, following]
    elif number.isdecimal() and len(number) <= 3:
        rows = [row for row in rows if row != int(number)]
        typed = {name: texts for name, texts in typed.items() if not name.startswith(f"{code}[{int(number)}].")}
    return {**typed, ROWS + code: [str(row) for row in rows]}


def sections_of(
    instrument: Instrument, views: Mapping[str, ItemView], shown: Mapping[str, Sequence[int]] | None = None
) -> list[dict[str, Any]]:
    """The sections as a page shows them: heading, items with their views, and how many are answered of those asked.

    A group has `rows` instead, each with its number and items, and says how another is added.
    """
    sections = []
    for section in instrument.sections:
        if section.repeats:
            sections.append(_group(instrument, section, views, (shown or {}).get(section.code or "", ())))
            continue
        asked = [views[item.code] for item in section.items if views[item.code].control != "calculated"]
        open_now = [view for view in asked if not view.hidden]
        sections.append(
            {
                "label": section.label,
                "matrix": matrix_of(section, views),
                "items": [(item, views[item.code]) for item in section.items],
                "done": sum(view.is_answered for view in open_now),
                "total": len(open_now),
            }
        )
    return sections


def _group(
    instrument: Instrument, section: Section, views: Mapping[str, ItemView], shown: Sequence[int]
) -> dict[str, Any]:
    code = section.code or ""
    rows: list[dict[str, Any]] = []
    for row in shown:
        cells = [instrument.item(cell_name(code, row, item.code)) for item in section.items]
        found = [(cell, views[cell.code]) for cell in cells if cell is not None and cell.code in views]
        rows.append({"number": row, "items": found, "drop": f"{DROP_ROW}{code}:{row}"})
    asked = [view for row in rows for _, view in row["items"] if view.control != "calculated" and not view.hidden]
    last = max(shown, default=0)
    return {
        "label": section.label,
        "code": code,
        "field": ROWS + code,
        "matrix": (),
        "rows": rows,
        "items": [],
        "add": f"{ADD_ROW}{code}" if last < section.most_rows else "",
        "next": last + 1,
        "most": section.most_rows,
        "done": sum(view.is_answered for view in asked),
        "total": len(asked),
    }


def matrix_of(section: Section, views: Mapping[str, ItemView]) -> tuple[str, ...]:
    """The heads of the columns of a section that is shown as a table; nothing for a list."""
    if section.layout != "matrix":
        return ()
    first = section.items[0]
    return tuple(words for _, words in views[first.code].options[: len(first.choices) or 2])


def asked_if(item: Item, items: Mapping[str, Item], gettext: Gettext) -> str | None:
    """When an item is asked, in words, for those who see every question at once: “Days absent” is more than 0."""
    try:
        tree = parse(item.shown_if or "").tree
    except ExpressionError:
        return None
    return _condition(tree, items, gettext) or item.shown_if


def _condition(tree: list[Any], items: Mapping[str, Item], gettext: Gettext) -> str | None:
    """A condition in words, or None when it is not made of plain comparisons."""
    kind, *parts = tree
    if kind in ("and", "or"):
        words = [_condition(part, items, gettext) for part in parts]
        joint = gettext(" and ") if kind == "and" else gettext(" or ")
        return joint.join(word for word in words if word) if all(words) else None
    if kind == "reference":
        item = items.get(parts[1])
        if item is None or parts[0] is not None:
            return None
        chosen = next((choice.label for choice in item.choices if choice.code == parts[2]), None)
        if chosen:
            return gettext("“{one}” has “{other}”").format(one=item.label, other=chosen)
        return gettext("“{one}” is yes").format(one=item.label) if item.type is ItemType.YES_NO else None
    if kind != "compare" or parts[1][0] != "reference":
        return None
    sign, (_, event, code, *_rest), value = parts
    item = items.get(code)
    said_as = {
        "=": gettext("“{one}” is {other}"),
        "<>": gettext("“{one}” is not {other}"),
        "!=": gettext("“{one}” is not {other}"),
        "<": gettext("“{one}” is less than {other}"),
        "<=": gettext("“{one}” is at most {other}"),
        ">": gettext("“{one}” is more than {other}"),
        ">=": gettext("“{one}” is at least {other}"),
    }
    if item is None or event is not None or value[0] not in ("number", "text", "boolean"):
        return None
    other = str(value[1])
    if value[0] == "boolean":
        other = gettext("yes") if value[1] else gettext("no")
    other = next((f"“{choice.label}”" for choice in item.choices if choice.code == other), other)
    return said_as[sign].format(one=item.label, other=other) if sign in said_as else None


def _texts(item: Item, texts: Sequence[str]) -> tuple[str, ...]:
    kept = tuple(text for text in texts if text.strip())
    if item.type is ItemType.YES_NO:
        return tuple(
            "yes" if text.strip().lower() in _YES else "no" if text.strip().lower() in _NO else text for text in kept
        )
    return kept


def _control(item: Item, texts: Sequence[str]) -> str:
    """Which drawing asks for it. A text that a date field would swallow is shown as text, so that it is not lost."""
    match item.type:
        case ItemType.SCALE:
            low, high = _ends(item)
            return "scale" if high - low < MOST_POINTS else "number"
        case ItemType.CHOICE:
            return "choice" if len(item.choices) <= MOST_RADIOS else "select"
        case ItemType.DATE:
            return "date" if item.precision == "day" and (not texts or _is_date(texts[-1])) else "text"
        case ItemType.DATE_TIME:
            return "datetime-local" if not texts or _is_moment(texts[-1]) else "text"
        case ItemType.TIME:
            return "time" if not texts or _is_time(texts[-1]) else "text"
        case ItemType.INTEGER | ItemType.NUMBER:
            return "number"
        case ItemType.TEXT:
            return "textarea" if item.multiline else "text"
        case _:
            return item.type.value


def _is_partial(item: Item) -> bool:
    return item.type is ItemType.DATE and item.precision != "day"


def _parts(texts: Sequence[str], posted: Sequence[str], language: str) -> dict[str, Any]:
    """Year, month and day, each as a page asks for it; what was typed in one field and is no date stays in one."""
    text = "".join(texts)
    parts: tuple[str, str, str] | None = date_parts(tuple(texts))
    if not text or days_of(text):
        year, month, day = (*text.split("-"), "", "", "")[:3]
        parts = (year, month, day)
    elif parts is None and len(posted) == len(("year", "month", "day")):
        parts = (posted[0], posted[1][1:], posted[2][1:])
    elif text.isdecimal():
        parts = (text, "", "")
    names = month_names(language)
    return {
        "parts": parts,
        "months": tuple((f"{number:02}", name) for number, name in enumerate(names, start=1)),
    }


def _kept(
    item: Item,
    form: Mapping[str, Sequence[str]],
    name: str,
    files: Mapping[str, str],
    stored: Mapping[str, object],
    language: str,
) -> dict[str, Any]:
    """What a page shows of something that is kept sealed, and of a signature that is not kept yet."""
    texts = [text for text in form.get(name, ()) if text.strip()]
    value: object = None
    try:
        value = read_stored(item, json.loads(texts[-1])) if texts else None
    except (Unreadable, ValueError, RecursionError):
        value = None
    return {
        "kept": said(item, value, (), language) if value is not None else "",
        "kept_url": files.get(item.code) if value is not None and value == stored.get(item.code) else None,
        "strokes": "".join(form.get(name + STROKES, ())),
        "typed_name": "".join(form.get(name + NAME, ())),
        "accepts": ",".join(MEDIA_TYPES[kind] for kind in item.file_kinds),
    }


def _how_to_write(item: Item, gettext: Gettext, language: str) -> str | None:
    """How little of a date may be known, or what may be sent, in words."""
    if item.type is ItemType.FILE:
        kinds = ", ".join(NAMES[kind] for kind in item.file_kinds)
        words = gettext(
            "%(kinds)s, at most %(most)s MB. It is kept sealed; its name is in the log, so let it name nobody."
        )
        return words % {"kinds": kinds, "most": item.max_mb}
    known = {
        "month": gettext("Such as %(day)s; or the month and the year while the day is not known"),
        "year": gettext("Such as %(day)s; or as much as is known: the month and the year, or the year"),
    }
    said = known.get(item.precision)
    return said % {"day": day_in(_EXAMPLE, language)} if said is not None else None


def _is_wide(item: Item, control: str) -> bool:
    """Whether the answer stands below the question, because it needs the width."""
    low, high = _ends(item)
    if control == "scale":
        return high - low >= WIDEST_BESIDE
    return control in ("textarea", "slider", "file", "signature") or len(item.choices) > 8


def _options(item: Item, texts: Sequence[str], gettext: Gettext) -> tuple[tuple[str, str], ...]:
    if item.type is ItemType.YES_NO:
        known = [("yes", gettext("Yes")), ("no", gettext("No"))]
    elif item.type is ItemType.SCALE:
        low, high = _ends(item)
        known = [(str(number), str(number)) for number in range(low, high + 1)]
    elif item.choices:
        known = [(choice.code, choice.label) for choice in item.choices]
    else:
        return ()
    # What was typed and is no answer (any more) stays on the page until somebody takes it out.
    values = {value for value, _ in known}
    return (*known, *((text, shortened(text)) for text in texts if text not in values))


def _ends(item: Item) -> tuple[int, int]:
    return int(item.min if item.min is not None else 0), int(item.max if item.max is not None else 10)


def _may_ask_why(item: Item) -> bool:
    return item.expected_min is not None or item.expected_max is not None or bool(item.checks)


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _is_moment(text: str) -> bool:
    return text[10:11] == "T" and _is_date(text[:10]) and _is_time(text[11:])


def _is_time(text: str) -> bool:
    hours, _, minutes = text.partition(":")
    digits = text.isascii() and hours.isdecimal() and minutes.isdecimal()
    return digits and len(text) == 5 and int(hours) < 24 and int(minutes) < 60
