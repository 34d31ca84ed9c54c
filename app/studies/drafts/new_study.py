"""What can a new study begin with? A study of the library, or any folder, under a code and a title of its own."""

from collections.abc import Mapping
from functools import cache

from app.foundation.errors import FieldProblem, Invalid
from app.studies.drafts.editing import CannotEdit, data_of, edited
from app.studies.loading import library


@cache
def in_library() -> tuple[tuple[str, str], ...]:
    """The studies that ship with Equipoise, as (name of the folder, title)."""
    said = ((folder.name, data_of((folder / "study.yaml").read_text(encoding="utf-8"))) for folder in library())
    return tuple((name, f"{study['short_title']}: {study['title']}") for name, study in said)


def library_files(name: str) -> dict[str, str]:
    """The files of a study of the library, by path; Invalid when there is none of this name."""
    folder = next((each for each in library() if each.name == name), None)
    if folder is None:
        raise Invalid([FieldProblem("start", "choices", "Choose one of the studies of the list.")])
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def title_of(files: Mapping[str, str]) -> str:
    """The title that a folder says, empty when it says none."""
    says = data_of(files.get("study.yaml", ""))
    title = says.get("title") if isinstance(says, dict) else None
    return title if isinstance(title, str) and title.isprintable() else ""


def named(files: Mapping[str, str], *, code: str, title: str) -> dict[str, str]:
    """The folder with this code and this title, where one is given; everything else of its text stays.

    Invalid where the file cannot be read, or is written in a way that cannot be changed in one place.
    """
    wanted = {"code": code, "title": title, "short_title": title[:40].strip()}
    text = files.get("study.yaml", "")
    for key, value in wanted.items():
        if not value:
            continue
        try:
            if not isinstance(data_of(text), dict):
                raise CannotEdit
            text = edited(text, (key,), value)
        except CannotEdit as problem:
            words = "The folder has no study.yaml in which this could be written. Leave it empty, and write it there."
            raise Invalid([FieldProblem("code" if key == "code" else "title", "folder", words)]) from problem
    return {**files, "study.yaml": text} if "study.yaml" in files else dict(files)
