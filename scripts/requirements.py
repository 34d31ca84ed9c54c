"""Which test proves what is asked of the system? Writes docs/requirements.md of the list and of the tests' markers.

    python scripts/requirements.py

What is asked is listed in docs/requirements.yaml; a test says what it proves with `@pytest.mark.requirement("P11-a")`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "requirements.md"
LIST = ROOT / "docs" / "requirements.yaml"
_MARK = re.compile(r"\bmark\.requirement\(([^)]*)\)")
_TEST = re.compile(r"^def (test_\w+)", re.M)
_ID = re.compile(r'"([^"]+)"')


HEAD = (
    "# What is asked, and where it is proven",
    "",
    "Made by `python scripts/requirements.py` of [requirements.yaml](requirements.yaml) and the markers of the tests.",
    "The tests fail when this page is not up to date, when something is neither proven nor accounted for, and when one",
    "of them names what is not asked. The words are ours and short: read the sources themselves. The software supports",
    "these rules; whether an installation complies is for those who run and validate it.",
    "",
    "A test is named as `file::name` below `tests/`: `sh scripts/test tests/FILE -k NAME` runs it.",
)
COUNTS = (
    "{all} requirements: {proven} proven by tests, {organisation} for whoever runs the trial, {not_done} not done, "
    "{coming} to come."
)


@dataclass(frozen=True)
class Asked:
    """One requirement; see the head of the list for what is said of it."""

    id: str
    asks: str
    organisation: str = ""
    not_done: str = ""
    until_proven: str = ""
    note: str = ""


def families() -> list[tuple[str, list[Asked]]]:
    """What is asked, by where it comes from."""
    return [
        (
            each["title"],
            [Asked(id, **({"asks": said} if isinstance(said, str) else said)) for id, said in each["ids"].items()],
        )
        for each in yaml.safe_load(LIST.read_text(encoding="utf-8"))
    ]


def marked(text: str) -> Iterator[tuple[str, str]]:
    """(id, test) of each marker in a file of tests; one of the whole file is of all its tests."""
    tests = [(each.start(), each[1]) for each in _TEST.finditer(text)]
    for mark in _MARK.finditer(text):
        line = text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()]
        following = [name for start, name in tests if start > mark.start()]
        theirs = [name for _, name in tests] if line.startswith("pytestmark") else following[:1]
        for id in _ID.findall(mark[1]):
            yield from ((id, name) for name in theirs)


def proofs() -> dict[str, list[str]]:
    """Id -> the tests that prove it, as file::name below tests/."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for id, name in marked(path.read_text(encoding="utf-8")):
            found[id].add(f"{path.relative_to(ROOT / 'tests').as_posix()}::{name}")
    return {id: sorted(tests) for id, tests in found.items()}


def page(proven: Mapping[str, list[str]]) -> str:
    """The page as it should stand."""
    asked = families()
    every = [each for _, those in asked for each in those]
    without = [each for each in every if each.id not in proven]
    counts = {
        "all": len(every),
        "proven": len(every) - len(without),
        "organisation": sum(bool(each.organisation) for each in without),
        "not_done": sum(bool(each.not_done) for each in without),
        "coming": sum(bool(each.until_proven) for each in without),
    }
    lines = [*HEAD, "", COUNTS.format(**counts), ""]
    for title, those in asked:
        lines += [
            f"## {title}",
            "",
            "| id | what is asked | where it is proven, or what else there is to say |",
            "|---|---|---|",
        ]
        for each in those:
            said = [f"For whoever runs the trial: {each.organisation}"] if each.organisation else []
            said += [f"Not done: {each.not_done}"] if each.not_done else []
            said += [each.until_proven] if each.until_proven and each.id not in proven else []
            said += [each.note] if each.note else []
            cells = [" ".join(one.split()) for one in said] + [f"`{test}`" for test in proven.get(each.id, ())]
            lines.append(f"| {each.id} | {each.asks} | {'<br>'.join(cells)} |".replace("\n", " "))
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(proofs()), encoding="utf-8")
