"""Which question comes next, where a form is asked one question a screen? Skip logic decides, on the server."""

from app.capture.checks import Judgement
from app.studies.definition import Instrument, ItemType


def asked(instrument: Instrument, judgement: Judgement) -> tuple[str, ...]:
    """The questions that are asked, in order: neither hidden by skip logic, nor calculated."""
    return tuple(
        item.code
        for item in instrument.items
        if item.type is not ItemType.CALCULATED and item.code not in judgement.hidden
    )


def waiting(instrument: Instrument, judgement: Judgement) -> tuple[str, ...]:
    """The questions that keep the form from being complete, in order."""
    wrong = {finding.item for finding in judgement.hard}
    open_ = {*wrong, *judgement.missing_required, *judgement.unexplained}
    return tuple(code for code in asked(instrument, judgement) if code in open_)


def following(instrument: Instrument, judgement: Judgement, code: str) -> str | None:
    """The question after this one, whether it is still asked itself or not; None after the last."""
    return _beside(instrument, judgement, code, 1)


def preceding(instrument: Instrument, judgement: Judgement, code: str) -> str | None:
    """The question before this one; None before the first."""
    return _beside(instrument, judgement, code, -1)


def _beside(instrument: Instrument, judgement: Judgement, code: str, step: int) -> str | None:
    codes = [item.code for item in instrument.items]
    if code not in codes:
        return None
    there = set(asked(instrument, judgement))
    place = codes.index(code)
    others = codes[place + 1 :] if step > 0 else reversed(codes[:place])
    return next((other for other in others if other in there), None)
