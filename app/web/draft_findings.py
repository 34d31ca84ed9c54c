"""On which page of fields, and at which field, is what was found in a file of a draft?"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.studies.loading import Tree, read_yaml
from app.studies.rules import Finding
from app.web.draft_fields import NAME, Sheet, lists_of, names_of

_key = re.compile(r"`([a-z_]+):`")

LIST = "list-"
"""What stands before the way to a list in its id on a page."""


def split(path: str, text: str) -> tuple[str, str, str]:
    """What stands before, in and behind the part of a file that is YAML; of a consent document that is its head."""
    if not path.endswith(".md"):
        return "", text, ""
    lines = text.splitlines(keepends=True)
    end = next((place for place, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None or lines[0].rstrip() != "---":
        return "", "", text
    # The end of the first line is left to the YAML, so that its lines are counted as in the file.
    return "---", "".join(lines[:end])[3:], "".join(lines[end:])


def field_of(tree: Tree, finding: Finding, names: Iterable[str]) -> str | None:
    """Which of these names of fields a finding in a file is about; None where it is about none of them."""
    place = (finding.line, finding.column)
    way = next((way for way, at in tree.places.items() if (at.line, at.column) == place), None)
    if way is None:
        return None
    known = set(names)
    around = f"{NAME}{'.'.join(map(str, way))}"
    # What is missing has no place of its own: the finding stands at what is around it.
    _, key, rest = (*finding.message.split("`", 2), "", "")[:3]
    if rest.split()[:2] == ["is", "missing."]:
        lacking = f"{around}.{key}" if way else f"{NAME}{key}"
        found = next((name for name in sorted(known) if f"{name}.".startswith(f"{lacking}.")), None)
        if found is not None:
            return found
    ways = (f"{NAME}{'.'.join(map(str, way[:length]))}" for length in range(len(way), 0, -1))
    return next((each for each in ways if each in known), None)


@dataclass(frozen=True)
class At:
    """Where a finding is mended: the page, the field or the list on it, and what the page is called."""

    part: str
    name: str
    title: str

    @property
    def way(self) -> str:
        """The way to the field or the list in its file."""
        return self.name.removeprefix(LIST).removeprefix(NAME)

    @property
    def of(self) -> str:
        """Of several pages with one title, which: a language, a file, an instrument."""
        return self.part.partition(".")[2]


def pages_of(
    sheets: Sequence[tuple[str, str, Sheet]], files: Mapping[str, str], findings: Sequence[Finding]
) -> dict[Finding, At]:
    """The place of each finding that one of the sheets (part, file, fields) has a field or a list for."""
    found: dict[Finding, At] = {}
    for file in {each.file for each in findings} & set(files):
        tree, _ = read_yaml(split(file, files[file])[1], file)
        if tree is None:
            continue
        of_file = [(part, sheet) for part, path, sheet in sheets if path == file]
        fields: dict[str, At] = {}
        lists: dict[str, At] = {}
        for part, sheet in of_file:
            fields |= {name: At(part, name, sheet.title) for name in names_of(sheet, tree.value)}
            lists |= {f"{NAME}{way}": At(part, f"{LIST}{way}", sheet.title) for way in lists_of(sheet, tree.value)}
        for each in findings:
            if each.file == file:
                name = field_of(tree, each, fields)
                around = field_of(tree, each, lists) if name is None else None
                if name is not None:
                    found[each] = fields[name]
                elif around is not None:
                    found[each] = lists[around]
                elif (within := _first_within(tree, each, {**lists, **fields})) is not None:
                    found[each] = within
    return found


def _first_within(tree: Tree, finding: Finding, places: Mapping[str, At]) -> At | None:
    """The first field or list of what a finding is about as a whole, or of the key that it says to write."""
    way = next((way for way, at in tree.places.items() if (at.line, at.column) == (finding.line, finding.column)), ())
    said = _key.search(finding.message)
    about = ".".join(map(str, way)) or (said[1] if said else "")
    return next((at for name, at in places.items() if about and f"{name}.".startswith(f"{NAME}{about}.")), None)
