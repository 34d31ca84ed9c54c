"""Is it well described what is compared with its source? Forms, items and visits that there are, each named once."""

from collections.abc import Collection, Iterator

from app.studies.definition import Study
from app.studies.rules.findings import Path, Severity
from app.studies.rules.items import Problem

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def wrong_verification(study: Study, unreadable: Collection[str] = ()) -> Iterator[Problem]:
    """What is wrong with what a study has verified against its source."""
    oversight = study.oversight
    if oversight.verification == "named" and not oversight.to_verify:
        words = (
            "Nothing is named that is to be verified. List its forms in `to_verify:`, or write `verification: none`."
        )
        yield ("oversight", "verification"), words, ERROR
    if oversight.verification != "named" and oversight.to_verify:
        words = f"`verification:` is {oversight.verification}, so nobody looks here. Write named, or take the list out."
        yield ("oversight", "to_verify"), words, ERROR
    plan = {visit.code: visit.instruments for visit in study.visits}
    asked = {code for codes in plan.values() for code in codes}
    if study.unscheduled is not None:
        asked |= {*study.unscheduled.instruments}
    for position, one in enumerate(oversight.to_verify):
        path: Path = ("oversight", "to_verify", position)
        if one.instrument in unreadable:
            continue
        form = study.instrument(one.instrument)
        if form is None or one.instrument not in asked:
            words = f"“{one.instrument}” is filled in at no visit. Name an instrument of the visit plan."
            yield (*path, "instrument"), words, ERROR
            continue
        known = {item.code for item in form.every_item}
        for place, code in enumerate(one.items):
            if code not in known:
                words = f"{form.label} has no item “{code}”. Name one of its items."
                yield (*path, "items", place), words, ERROR
        for place, code in enumerate(one.visits):
            if one.instrument not in plan.get(code, ()):
                words = f"{form.label} is not filled in at “{code}”. Name a visit at which it is."
                yield (*path, "visits", place), words, ERROR
