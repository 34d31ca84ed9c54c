"""Which fields have an instrument, its sections and its questions in the study editor? Each type has its own."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.studies.definition import LARGEST_FILE_MB, MOST_REPEATS, MOST_ROWS, ItemType
from app.studies.rules.items import NUMERIC, WITH_CHOICES
from app.web.draft_fields import AREA, CHECKS, CHOICES, CODES, SELECT, Also, Asked, Rows, Sheet, flag

TYPES = (
    ("choice", "One of several choices"),
    ("choices", "Any number of choices"),
    ("yes_no", "Yes or no"),
    ("integer", "Whole number"),
    ("number", "Number with decimals"),
    ("scale", "Scale of numbers, as buttons"),
    ("slider", "Line to mark between two ends"),
    ("date", "Date"),
    ("time", "Time of day"),
    ("date_time", "Date and time of day"),
    ("text", "Words"),
    ("file", "File or picture"),
    ("signature", "Signature"),
    ("calculated", "Calculated from other answers"),
)
RESPONDENTS = (
    ("participant", "The participant, at the site or by link"),
    ("assessor", "An assessor, who asks or examines"),
    ("coordinator", "A coordinator"),
)
PRESENTATIONS = (("page", "All questions on one page"), ("screen", "One question a screen"))
LAYOUTS = (("list", "One below the other"), ("matrix", "As a table: they share their choices"))
PRECISIONS = (
    ("day", "The whole date"),
    ("month", "Month and year may be enough"),
    ("year", "The year may be enough"),
)
KINDS = (
    ("pdf", "PDF"),
    ("png", "PNG picture"),
    ("jpeg", "JPEG picture"),
    ("webp", "WebP picture"),
    ("tiff", "TIFF picture"),
    ("dicom", "DICOM, from imaging"),
    ("text", "Plain text"),
    ("csv", "CSV table"),
)
CODERS = (("2", "Two people, each without seeing the other"), ("1", "One person"))
SUGGESTIONS = (
    ("after", "After one's own choice"),
    ("before", "Before one's own choice"),
    ("never", "Never"),
)


def _only(types: Iterable[ItemType]) -> tuple[str, ...]:
    return tuple(each.value for each in ItemType if each in set(types))


_TYPED = _only(set(ItemType) - {ItemType.CALCULATED})
_NUMBERS = _only(NUMERIC)
_WHOLE = _only({ItemType.SCALE, ItemType.SLIDER})
_TEXT = _only({ItemType.TEXT})
_FILE = _only({ItemType.FILE})


def _item_fields(dictionaries: Sequence[tuple[str, str]]) -> tuple[Asked, ...]:
    coded = tuple(code for code, _ in dictionaries)
    not_coded = ("", "Not coded" if dictionaries else "Not coded: the study names no dictionary yet")
    return (
        Asked("label", "Question", hint="As it is read, such as: Pain now"),
        Asked("type", "Kind of answer", SELECT, TYPES),
        Asked(
            "choices", "Choices", CHOICES, hint="One a line: code = label, such as 1 = Never", only=_only(WITH_CHOICES)
        ),
        Asked(
            "calculation",
            "Calculation",
            AREA,
            hint="Such as prorated_sum(4, [a], [b], [c], [d], [e]): a sum of five that stays empty below 4 answers",
            only=_only({ItemType.CALCULATED}),
        ),
        Asked("min", "Lowest", hint="Nothing below it is taken. A scale begins with it", only=_NUMBERS),
        Asked("max", "Highest", hint="Nothing above it is taken. A scale ends with it", only=_NUMBERS),
        Asked("expected_min", "Expected from", hint="Below it a reason is asked for", only=_NUMBERS),
        Asked("expected_max", "Expected up to", hint="Above it a reason is asked for", only=_NUMBERS),
        Asked(
            "decimals",
            "Decimals",
            hint="How many at most, 0 to 6",
            only=_only({ItemType.NUMBER, ItemType.CALCULATED}),
        ),
        Asked("unit", "Unit", hint="Stands behind the answer, such as kg", only=_only(NUMERIC - {ItemType.SCALE})),
        Asked("low_label", "Words of the low end", hint="Such as No pain", only=_WHOLE),
        Asked("high_label", "Words of the high end", hint="Such as Worst pain", only=_WHOLE),
        flag(
            "show_value",
            "Show its number",
            "Whether the number is seen beside the line that is marked",
            only=_only({ItemType.SLIDER}),
        ),
        Asked(
            "precision",
            "How much must be known",
            SELECT,
            PRECISIONS,
            hint="Of a date long ago the day is often not known: 03.2019, or 2019",
            otherwise="day",
            only=_only({ItemType.DATE}),
        ),
        flag("multiline", "Several lines", only=_TEXT),
        Asked("max_length", "Longest", hint="Characters; 2000 where nothing is said, at most 20000", only=_TEXT),
        Asked("kinds", "Kinds of files", CODES, KINDS, hint="None ticked: PDF and pictures", needed=False, only=_FILE),
        Asked(
            "max_mb",
            "Largest file",
            hint=f"Megabytes; 10 where nothing is said, at most {LARGEST_FILE_MB}",
            only=_FILE,
        ),
        Asked("hint", "Hint", hint="What helps to answer, below the question"),
        flag(
            "required",
            "Required",
            "Without an answer, or a reason why there is none, the form is not complete",
            otherwise="true",
            only=_TYPED,
        ),
        Asked("shown_if", "Asked if", AREA, hint="Empty: always. Such as [pain_now] > 0, or [sex] = 'female'"),
        Asked(
            "checks",
            "Checks",
            CHECKS,
            hint="One a line: soft | [pain_worst] >= [pain_now] | The worst pain is less than the pain now. Look "
            "again. | is between the parts; a soft one asks for a reason, a hard one has to be mended",
            only=_only(set(ItemType) - {ItemType.CALCULATED, ItemType.SIGNATURE}),
        ),
        Asked(
            "coding.dictionary",
            "Coded with",
            SELECT,
            (not_coded, *dictionaries),
            hint="A dictionary of study.yaml that people look its words up in",
            only=_TEXT,
            needed=False,
        ),
        Asked("coding.coders", "Coded by", SELECT, CODERS, otherwise="2", only=coded or ("-",), by="coding.dictionary"),
        Asked(
            "coding.suggestions",
            "Earlier codings are shown",
            SELECT,
            SUGGESTIONS,
            otherwise="after",
            only=coded or ("-",),
            by="coding.dictionary",
        ),
        Asked(
            "code",
            "Code",
            hint="Its name in rules and exports, once in the whole study. Made from the question unless you write one",
        ),
    )


def score(section: Any) -> Mapping[str, Any]:
    """A sum of what is asked in a section as numbers, blank as soon as one of them is."""
    items = section.get("items", ()) if isinstance(section, dict) else ()
    codes = [each.get("code") for each in items if isinstance(each, dict) and _counts(each)]
    summed = ", ".join([str(len(codes)), *(f"[{code}]" for code in codes)])
    return {"code": "score", "label": "Sum", "type": "calculated", "calculation": f"prorated_sum({summed})"}


def _counts(item: Mapping[str, Any]) -> bool:
    if item.get("type") in _only(NUMERIC - {ItemType.CALCULATED}):
        return True
    choices = item.get("choices") if item.get("type") == ItemType.CHOICE.value else None
    codes = [str(each.get("code", "")) for each in choices if isinstance(each, dict)] if choices else []
    return bool(codes) and all(code.isdecimal() for code in codes)


def instrument(dictionaries: Sequence[tuple[str, str]] = ()) -> Sheet:
    """An instrument: its sections, and the questions of each. `dictionaries` of the study, as (code, label)."""
    new = {"code": "item", "label": "New question", "type": "integer"}
    items = Rows(
        "items",
        "Questions",
        "Add a question",
        _item_fields(dictionaries),
        new,
        beside="type",
        names=True,
        copies=True,
        also=(Also("score", "Add the sum of these questions", score),),
    )
    sections = Rows(
        "sections",
        "Sections",
        "Add a section",
        (
            Asked("label", "Heading", needed=False, hint="Such as: This week"),
            Asked("layout", "Its questions stand", SELECT, LAYOUTS, otherwise="list"),
            flag("repeats", "Asked row by row", "As often as needed, such as one row for each medicine"),
            Asked(
                "max_rows",
                "Most rows",
                hint=f"{MOST_ROWS} where nothing is said",
                only=("true",),
                by="repeats",
            ),
            Asked(
                "code",
                "Code",
                hint="What the rows are called in exports. Made from the heading unless you write one",
                only=("true",),
                by="repeats",
            ),
        ),
        {"items": [new]},
        inner=(items,),
        names=True,
        copies=True,
    )
    fields = (
        Asked("label", "Label", hint="What the form is called in lists and above it"),
        Asked("short", "Short label", hint="Above a narrow column, at most 16 characters, such as NRS"),
        Asked("respondent", "Answered by", SELECT, RESPONDENTS, otherwise="assessor"),
        Asked("recall", "Looks back over", hint="The time the questions are about, such as: the past week"),
        Asked("source", "Source", hint="Where questions, ranges and scoring come from: a paper, or This study"),
        Asked("licence", "Licence", AREA, hint="Whose wording it is, and what a site must do to use it"),
        Asked("scoring", "What its scores mean", AREA, hint="Such as: 0 to 10, higher is worse"),
        Asked("presentation", "Shown to participants", SELECT, PRESENTATIONS, hint="By link", otherwise="page"),
        flag("signable", "Signed", "Whether whoever fills it in signs it", otherwise="true"),
        flag("double_entry", "Entered twice", "By two people, each without seeing what the other entered"),
        flag("repeats", "Filled in several times", "As often as needed at a visit, such as one for each fall"),
        Asked(
            "max_repeats",
            "At most",
            hint=f"How often at a visit; {MOST_REPEATS} where nothing is said",
            only=("true",),
            by="repeats",
        ),
        Asked(
            "repeat_label",
            "Each is called",
            hint="A word, such as Fall; or the code of a question, whose answer then tells them apart",
            only=("true",),
            by="repeats",
        ),
    )
    return Sheet("Instrument", fields, (sections,))
