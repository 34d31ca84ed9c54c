"""Can every table of any study be written in every format, however odd its forms are?"""

from itertools import count
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlmodel import Session

from app.exports import casebooks, reads
from app.exports.choice import Choice
from app.exports.delivery import Tally, pieces
from app.exports.formats import Format, encoded
from app.exports.formats.standards import Standard, whole_file
from app.people.access import Actor
from app.studies.definition import Study
from app.studies.in_use import StudyInUse
from app.studies.rules import Severity, problems
from tests.exports.world import as_json, entry, participant
from tests.factories import MINI, mini_study, person

SEALED = {"sha256": "ab" * 32}
ASKED: dict[str, tuple[dict[str, Any], Any]] = {
    "text": ({}, "said"),
    "number": ({"decimals": 2, "unit": "mg"}, "2.5"),
    "choice": ({"choices": [{"code": "1", "label": "One"}, {"code": "x", "label": "Other"}]}, "x"),
    "choices": ({"choices": [{"code": "a", "label": "A"}]}, ["a"]),
    "yes_no": ({}, True),
    "date": ({"precision": "year"}, "2019"),
    "file": ({}, {**SEALED, "file": "f1", "name": "a.pdf", "size": 3, "kind": "pdf"}),
    "signature": ({}, {**SEALED, "signature": "s1", "way": "drawn", "name": "X", "at": "2026-03-02T09:30:00+00:00"}),
    "calculated": ({"calculation": "1 + 1", "decimals": 0}, 2),
}
"""A type of item -> what it takes besides, and an answer as it is kept."""
IN_GROUPS = tuple(kind for kind in ASKED if kind not in ("file", "signature"))
"""A file or a signature is asked for once."""
NUMBERS = count()

Part = tuple[bool, tuple[str, ...]]


def _parts(*kinds: str) -> st.SearchStrategy[list[Part]]:
    once = st.lists(st.sampled_from(kinds), min_size=1, max_size=3).map(tuple)
    rows = st.lists(st.sampled_from(IN_GROUPS), min_size=1, max_size=2).map(tuple)
    either = st.one_of(st.tuples(st.just(False), once), st.tuples(st.just(True), rows))
    return st.lists(either, min_size=1, max_size=3)


FORM = st.one_of(st.tuples(st.just(False), _parts(*ASKED)), st.tuples(st.just(True), _parts(*IN_GROUPS)))
"""Whether a form repeats, and its sections: whether one is a group of rows, and the types of its items."""


def _form(repeats: bool, parts: list[Part]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A form, and the values of an entry of it."""
    sections: list[dict[str, Any]] = []
    values: dict[str, Any] = {}
    for at, (is_group, kinds) in enumerate(parts):
        codes = [f"odd_{at}_{place}" for place in range(len(kinds))]
        items = [
            {"code": code, "label": f"{kind} {code}", "type": kind, "required": False, **ASKED[kind][0]}
            for code, kind in zip(codes, kinds, strict=True)
        ]
        sections.append({"items": items, **({"code": f"rows_{at}", "repeats": True} if is_group else {})})
        answers = {code: ASKED[kind][1] for code, kind in zip(codes, kinds, strict=True)}
        values |= {f"rows_{at}[]": [answers, None, answers]} if is_group else answers
    return {"code": "odd", "label": "Odd", "source": "test", "repeats": repeats, "sections": sections}, values


def _study(session: Session, form: dict[str, Any], *, missing: bool, alone: bool) -> StudyInUse:
    """The small trial with such a form, at its last visit alone or beside others."""
    visits: Any = MINI["visits"]
    changes: dict[str, Any] = {
        "code": f"odd{next(NUMBERS)}",
        "visits": [*visits[:-1], {**visits[-1], "instruments": ["odd"] if alone else ["pain", "odd", "disability"]}],
        "instruments": [*MINI["instruments"], form],  # type: ignore[misc]
        **({} if missing else {"missing_codes": []}),
        **({"outcomes": []} if alone else {}),
    }
    definition = Study.model_validate({**MINI, **changes})
    assert not [each for each in problems(definition) if each.severity is Severity.ERROR]
    return mini_study(session, **changes)


def _is_taken(session: Session, study: StudyInUse, by: Actor) -> None:
    """Every table that such a form stands in can be made in every format, and the whole study in every standard."""
    names = [table.name for table in reads.catalogue(session, study, by=by)]
    for name in [name for name in names if name.startswith(("instrument_odd", "entries"))]:
        for format_ in Format:
            opened = reads.open_export(session, study, name, by=by)
            assert b"".join(encoded(opened, format_)) or format_ is Format.NDJSON, name
    assert as_json(session, study, "codebook", by)
    for standard in Standard:
        whole = casebooks.open_whole(session, study, Choice(format=standard), by=by)
        assert b"".join(whole_file(whole, standard)), standard


def _is_shaped(session: Session, study: StudyInUse, by: Actor) -> None:
    """A ZIP of all tables can be made as it is asked for, with shifted dates and other codes, and with dummy arms."""
    shifted = Choice(format=Format.PARQUET, dates="shifted", values="labels", ids="mapped")
    for choice in (Choice(), shifted, Choice(arms="dummy")):
        assert b"".join(pieces(session, study, choice, Tally(), by=by))


GROUPS_ALONE = (False, [(True, ("text", "number"))])


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FORM, st.booleans(), st.booleans())
@example(GROUPS_ALONE, True, False)
@example(GROUPS_ALONE, False, True)
@example((True, [(True, ("calculated",))]), True, True)
@example((False, [(False, ("file",))]), True, False)
@example((False, [(False, ("signature",))]), False, True)
@example((False, [(False, ("calculated",))]), True, True)
def test_any_form_is_taken_in_every_format(session: Session, form: tuple[bool, list[Part]], missing: bool, alone: bool):
    with session.begin_nested() as undone:
        defined, values = _form(*form)
        study = _study(session, defined, missing=missing, alone=alone)
        by = person(session, study, "data_manager", site_code=None)
        _is_taken(session, study, by)  # before anybody has filled it in
        for number in (1, 2, 3):
            row = participant(session, study, number)
            if number > 1:
                for repeat in (1, 2) if form[0] else (1,):
                    entry(session, study, row, "week18", "odd", values if number == 2 else {}, repeat=repeat)
        _is_taken(session, study, by)
        _is_shaped(session, study, by)
        wanted = 4 if form[0] else 2
        assert len(as_json(session, study, "instrument_odd", by)) == wanted
        for at, (is_group, _) in enumerate(form[1]):
            if is_group:
                assert len(as_json(session, study, f"instrument_odd__rows_{at}", by)) == wanted
        undone.rollback()
