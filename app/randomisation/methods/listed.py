"""Is this uploaded list a randomisation list for this study, and which arms does it give?

The statistician's list is CSV text with a comma between columns. Its first line names the columns `stratum`,
`position` and `arm`, in any order; `stratum` may be left out, or its cells empty, when the study has one stratum. Each
further line is one slot. Lines may come in any order and blank lines do not count, but the positions of a stratum must
be 1, 2, 3 ... without a gap, at least as many as the study asks for; a longer list is used whole.

A list is taken whole or not at all. Messages name lines and positions and never repeat the text of a cell, which may be
an arm even where a stratum should stand: a message travels further than the list may.

Option `csv`: the text.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from app.randomisation.drbg import Stream
from app.randomisation.methods.plan import Option, Plan, unknown_options

NAME = "list"
OPTIONS = (Option("csv", "text"),)

_POSITION = re.compile(r"0*[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, order=True)
class LineProblem:
    """What is wrong, and on which line of the text, counted from 1."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.message}"


@dataclass(frozen=True)
class Reading:
    """A list as read: its slots by stratum, which mean nothing while there are problems."""

    problems: tuple[LineProblem, ...]
    slots: dict[str, tuple[str, ...]]

    def __repr__(self) -> str:
        # Arms in order must not reach a log or a traceback.
        return f"Reading(problems={len(self.problems)}, slots withheld)"


def why_not_arms(_arms: Sequence[tuple[str, int]]) -> str | None:
    """None: a finished list may hold any arms in any ratio."""
    return None


def problems(plan: Plan) -> tuple[str, ...]:
    """Everything wrong with the list, one sentence each with its line; the plan has passed `common_problems`."""
    found = unknown_options(plan, "csv")
    text = plan.options.get("csv")
    if not isinstance(text, str):
        return (*found, "A list needs `csv`, the text of the uploaded file.")
    return (*found, *map(str, read(text, plan).problems))


def slots(plan: Plan, _streams: Callable[[str], Stream]) -> dict[str, tuple[str, ...]]:
    """For every stratum its arm codes in the order of their positions, as many as the list has."""
    text = plan.options["csv"]
    assert isinstance(text, str)
    return read(text, plan).slots


def read(text: str, plan: Plan) -> Reading:
    """The list, with every problem in it in the order of its lines."""
    found: list[LineProblem] = []
    places: dict[str, dict[int, tuple[int, str]]] = {stratum: {} for stratum in plan.strata}
    arms = {code for code, _ in plan.arms}
    records = _records(text, found)
    header_line, header = next(records, (1, []))
    columns = [name.strip().lower() for name in header]
    why_not = _why_not_columns(columns, plan.strata)
    if why_not:
        return Reading((*found, LineProblem(header_line, why_not)), {})
    last_line = header_line
    for line, cells in records:
        last_line = line
        if len(cells) != len(columns):
            found.append(LineProblem(line, f"there are {len(cells)} cells where the first line names {len(columns)}."))
            continue
        cell = {name: value.strip() for name, value in zip(columns, cells, strict=True)}
        stratum = cell.get("stratum", "")
        if stratum == "" and len(plan.strata) == 1:
            stratum = plan.strata[0]
        fine = True
        if stratum not in places:
            found.append(LineProblem(line, "the stratum is not one of the study's."))
            fine = False
        if cell["arm"] not in arms:
            found.append(LineProblem(line, f"the arm is not one of the study's ({', '.join(sorted(arms))})."))
            fine = False
        if not _POSITION.fullmatch(cell["position"]):
            found.append(LineProblem(line, "the position is not a whole number of 1 or more."))
            continue
        if stratum not in places:
            continue
        position = int(cell["position"])
        if position in places[stratum]:
            earlier, _ = places[stratum][position]
            found.append(LineProblem(line, f"position {position} of {_named(stratum)} is already on line {earlier}."))
            continue
        # A line with a wrong arm still holds its position, or it would be reported a second time as a gap.
        places[stratum][position] = (line, cell["arm"] if fine else "")
    for stratum, held in places.items():
        found += _gaps(stratum, held)
        if len(held) < plan.length_per_stratum:
            found.append(
                LineProblem(
                    max((line for line, _ in held.values()), default=last_line),
                    f"{_named(stratum)} has {len(held)} slots; the study asks for {plan.length_per_stratum} or more.",
                )
            )
    return Reading(
        tuple(sorted(found)),
        {stratum: tuple(arm for _, (_, arm) in sorted(held.items())) for stratum, held in places.items()},
    )


def _records(text: str, found: list[LineProblem]) -> Iterator[tuple[int, list[str]]]:
    # Each record with the line it starts on; blank ones left out. Spreadsheets put a byte order mark in front.
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            found.append(
                LineProblem(line, "this is not CSV from here on: a quotation mark is not closed or misplaced.")
            )
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def _why_not_columns(columns: Sequence[str], strata: Sequence[str]) -> str | None:
    needed = {"position", "arm"} if len(strata) == 1 else {"stratum", "position", "arm"}
    if len(set(columns)) == len(columns) and needed <= set(columns) <= {"stratum", "position", "arm"}:
        return None
    if len(strata) == 1:
        return "the first line must name the columns position,arm or stratum,position,arm."
    return "the first line must name the columns stratum,position,arm."


def _gaps(stratum: str, held: dict[int, tuple[int, str]]) -> Iterator[LineProblem]:
    expected = 1
    for position, (line, _) in sorted(held.items()):
        if position > expected:
            missing = f"position {expected} is" if position == expected + 1 else f"{expected} to {position - 1} are"
            yield LineProblem(line, f"{missing} missing before position {position} of {_named(stratum)}.")
        expected = position + 1


def _named(stratum: str) -> str:
    return f"stratum “{stratum}”" if stratum else "the stratum"
