"""What may a log say of an error? Its kind and where it happened, never its words: they could hold what was typed."""

import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST = 60
"""So many places of one error are told, from where it happened outwards."""


def told(error: BaseException) -> str:
    """The kind of an error, and each place from where it happened outwards, in one line; then what led to it.

    A place is file, line and function, as they stand in the programme: no value of a request is among them, as the
    error's own words and the lines of a traceback may have (SEC-47).
    """
    parts: list[str] = []
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        places = [
            f"{_file(frame.f_code.co_filename)}:{line} in {frame.f_code.co_name}"
            for frame, line in traceback.walk_tb(one.__traceback__)
        ]
        places = places[::-1][:MOST]
        parts.append(f"{type(one).__name__} at {' < '.join(places)}" if places else type(one).__name__)
        if isinstance(one, BaseExceptionGroup):
            waiting += reversed(one.exceptions)
        if one.__cause__ is not None:
            waiting.append(one.__cause__)
        elif one.__context__ is not None and not one.__suppress_context__:
            waiting.append(one.__context__)
    return "; from ".join(parts)


def _file(name: str) -> str:
    """A file of ours from the root of the programme on, one of a library from its package on."""
    path = Path(name)
    if "site-packages" in path.parts:
        return "/".join(path.parts[path.parts.index("site-packages") + 1 :])
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
